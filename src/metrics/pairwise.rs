//! Ordered pairs: how often the better of two scores higher ("Who's Better? Who's Best?", skill determination).

/// The fraction of `pairs` (better, worse), indices into `score`, whose better one has the strictly higher score. A tie is
/// wrong, and so is a score that is NaN. NaN when there are no pairs.
///
/// # Panics
/// When a pair names an index beyond `score`.
pub fn accuracy(score: &[f64], pairs: &[(usize, usize)]) -> f64 {
    let right = pairs.iter().filter(|&&(better, worse)| score[better] > score[worse]).count();
    right as f64 / pairs.len() as f64
}
