//! How good an embedding or a score is: retrieval, verification, ordered pairs, label sets, clusters.
//!
//! Metrics take tensors or slices and give numbers; they read no files and choose no device. A mean over nothing is
//! NaN, never 0, unless the function says otherwise.

mod blocks;
pub mod clustering;
pub mod multilabel;
pub mod pairwise;
mod protocols;
mod rerank;
pub mod retrieval;
pub mod verification;
