//! Losses beside nested loops in f64, hand-computed values and edges.

mod embedded;
mod multilabel;
mod quadruplet;
mod skill;
mod triplet;

use rankle::losses::Tally;
use rankle::losses::embedded::Loss;
use tch::Tensor;

/// A loss by its definition, of the matrix `d` of distances.
pub fn of_matrix(loss: Loss, d: &Tensor, labels: &Tensor) -> Tally {
    use rankle::losses::triplet::{batch_all, batch_hard, every_pair, lifted};
    match loss {
        Loss::BatchHard(margin) => batch_hard(d, labels, margin),
        Loss::BatchAll(margin) => batch_all(d, labels, margin),
        Loss::EveryPair(margin, rule) => every_pair(d, labels, margin, rule),
        Loss::Lifted(margin) => lifted(d, labels, margin),
    }
}

/// Label sets that cover the edges: a PK batch, uneven identities, one identity, all singletons, one singleton, empty.
pub fn label_sets() -> Vec<(&'static str, Vec<i64>)> {
    vec![
        ("PK 4x3", (0..12).map(|i| i / 3).collect()),
        ("PK 3x4 interleaved", (0..12).map(|i| i % 3).collect()),
        ("uneven", vec![5, 5, 9, 9, 9, 9, 1, 5, 2, 2, -3]),
        ("one identity", vec![7; 6]),
        ("all singletons", (0..6).collect()),
        ("one singleton", vec![1, 1, 1, 2]),
        ("two rows", vec![1, 2]),
        ("one row", vec![1]),
        ("empty", vec![]),
    ]
}
