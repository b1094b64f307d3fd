//! How good an embedding or a score is: retrieval, verification, ordered pairs, label sets, clusters.
//!
//! Metrics take tensors or slices and give numbers; they read no files and choose no device. A mean over nothing is
//! NaN, never 0, unless the function says otherwise.

pub mod all_pairs;
mod blocks;
pub mod clustering;
pub mod multilabel;
pub mod pairwise;
mod protocols;
pub mod recognition;
mod rerank;
pub mod retrieval;
mod shared;
pub mod verification;
