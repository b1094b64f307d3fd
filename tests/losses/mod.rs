//! Losses of embeddings beside nested loops in f64, hand-computed values and edges.

mod embedded;
mod quadruplet;
mod triplet;
