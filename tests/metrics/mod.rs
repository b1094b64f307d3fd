//! Metrics beside nested loops in f64, hand-computed values and edges.

mod all_pairs;
mod clustering;
mod multilabel;
mod pairwise;
mod recognition;
mod retrieval;
mod verification;

use rankle::distance::normalize;
use tch::Tensor;

use crate::common::matrix;

/// Unit rows, `per` of each of `people` people, near a direction of theirs.
fn blobs(seed: u64, people: i64, per: i64, spread: f64) -> (Tensor, Vec<i64>) {
    let centres = matrix(seed, people as usize, 6).repeat_interleave_self_int(per, 0, None);
    let x = normalize(&(centres + matrix(seed + 100, (people * per) as usize, 6) * spread));
    (x, (0..people * per).map(|i| i / per + 1).collect())
}
