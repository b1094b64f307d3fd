//! Metrics beside nested loops in f64, hand-computed values and edges.

mod clustering;
mod multilabel;
mod pairwise;
mod retrieval;
mod verification;
