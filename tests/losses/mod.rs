//! Losses beside nested loops in f64, hand-computed values and edges.

mod embedded;
mod multilabel;
mod quadruplet;
mod skill;
mod triplet;
