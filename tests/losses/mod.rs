//! Losses beside nested loops in f64, hand-computed values and edges.

mod embedded;
mod multilabel;
mod quadruplet;
mod skill;
mod triplet;

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
