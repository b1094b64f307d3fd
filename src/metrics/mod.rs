//! How good an embedding or a score is: retrieval, verification, ordered pairs, label sets, clusters.
//!
//! Metrics take tensors or slices and give numbers; they read no files and choose no device. A mean over nothing is
//! NaN, never 0, unless the function says otherwise.

pub mod all_pairs;
pub mod clustering;
pub mod multilabel;
pub mod pairwise;
pub mod recognition;
pub mod retrieval;
mod shared;
pub mod verification;

pub use shared::{Alone, Others};

/// The score of that name among names and scores.
pub fn score(of: &[(String, f64)], name: &str) -> Option<f64> {
    of.iter().find(|(known, _)| known == name).map(|(_, score)| *score)
}

/// The mean of `values` and their population standard deviation, as tables over seeds print them. NaN without values.
pub fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt())
}
