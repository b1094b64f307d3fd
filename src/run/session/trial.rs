//! A trial: a few steps of a training, for what one takes.

use std::time::Duration;

/// The end of a training that was a trial: what a step takes.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a trial: {seconds} s a step")]
pub struct Tried {
    /// Seconds from step to step, the median of some.
    pub seconds: f64,
    /// The most bytes that the process has taken, or its tensors on a GPU; None where the system does not say.
    pub bytes: Option<u64>,
}

/// Steps of a trial, the first half of which warm up (a GPU captures its graph at the fourth); fewer where they are slow.
pub(super) const TRIAL: (usize, Duration) = (14, Duration::from_secs(20));

/// The middle of some numbers, of two the mean; None of none.
pub fn median(mut of: Vec<f64>) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    let middle = of.len() / 2;
    let below = if of.len().is_multiple_of(2) { middle.checked_sub(1)? } else { middle };
    Some((of[below] + of[middle]) / 2.)
}
