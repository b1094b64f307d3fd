//! How good an embedding or a score is: retrieval, verification, ordered pairs, label sets, clusters.
//!
//! Metrics take tensors or slices and give numbers; they read no files and choose no device. A mean over nothing is
//! NaN, never 0, unless the function says otherwise.

pub mod all_pairs;
pub mod clustering;
pub mod multilabel;
mod nearest;
pub mod pairwise;
pub mod recognition;
pub mod retrieval;
pub(crate) mod shared;
pub mod verification;

pub use shared::{Alone, Others};

/// The score of that name among names and scores.
pub fn score(of: &[(String, f64)], name: &str) -> Option<f64> {
    of.iter().find(|(known, _)| known == name).map(|(_, score)| *score)
}

/// How the names of scores end of which less is better,
pub const LESS: [&str; 3] = ["EER", "violated pairs", "gap of similar pairs"];
/// and of those of which neither more nor less is: spreads, and what has no scale. Of all others more is better.
pub const NEITHER: [&str; 5] =
    ["std over folds", "SEM", "FAR on held-out folds", ": mean distance", ": standard deviation"];

/// What the score of that name is multiplied by so that more of it is better: 1 or -1; 0 where neither is.
pub fn sign(name: &str) -> f64 {
    let ends = |with: &[&str]| with.iter().any(|end| name.ends_with(end));
    if ends(&NEITHER) {
        0.
    } else if ends(&LESS) {
        -1.
    } else {
        1.
    }
}

/// The mean of `values`. NaN without values.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The mean of `values` and their population standard deviation, as tables over seeds print them. NaN without values.
pub fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let mean = mean(values);
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
}
