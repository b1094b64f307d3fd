//! Losses on pairs of videos ("Who's Better? Who's Best?", arXiv 1703.09913, CVPR 2018): rank, rank by splits, and
//! similarity, on raw scores f. A score is one number a clip; nothing is squashed.
//!
//! At a hinge's kink the gradient is 0. Half precision is widened to f32.

use tch::Tensor;

use super::Tally;
use crate::distance::widen;

/// L_rank1 (Eq. 3): `[m - f(pᵢ) + f(pⱼ)]₊` for each pair whose first video was judged better. `better` and `worse`
/// `[P]`; a term a pair. Panics where the shapes differ.
pub fn rank(better: &Tensor, worse: &Tensor, margin: f64) -> Tally {
    same_shape(better, worse);
    Tally::over(&hinge(&(widen(better) - widen(worse)), margin), None)
}

/// L_rank2 (Eq. 5): [`rank`] of the k-th uniform split of the better video against the k-th split of the worse one,
/// the video's label inherited by its splits (Eq. 4). `better` and `worse` `[P, N]`; a term a (pair, split). Panics
/// where the shapes differ.
pub fn rank_splits(better: &Tensor, worse: &Tensor, margin: f64) -> Tally {
    rank(better, worse, margin)
}

/// L_sim (Eq. 7): `[|f_k(pᵢ) - f_k(pⱼ)| - m]₊` for pairs judged similar. `a` and `b` of one shape, `[P, N]` for N
/// splits; a term a (pair, split). Symmetric in `a` and `b`. Panics where the shapes differ.
///
/// The printed equation drops the split's index on f; Eq. 5's stands here.
pub fn similarity(a: &Tensor, b: &Tensor, margin: f64) -> Tally {
    same_shape(a, b);
    Tally::over(&excess(&(widen(a) - widen(b)), margin), None)
}

/// L_rank3 (Eq. 8) over a mixed batch: `β L_rank2 + (1 - β) L_sim`. `a` and `b` are scores of one shape, `similar`
/// (bool, the same shape) marks the pairs without an order; where it is false, `a` is the better one. A term an
/// element, β and 1 - β inside it, so that the mean divides by the whole batch. Panics where the shapes differ.
pub fn rank_and_similarity(a: &Tensor, b: &Tensor, similar: &Tensor, margin: f64, beta: f64) -> Tally {
    same_shape(a, b);
    same_shape(a, similar);
    let z = widen(a) - widen(b);
    Tally::over(&(excess(&z, margin) * (1. - beta)).where_self(similar, &(hinge(&z, margin) * beta)), None)
}

/// `[m - z]₊`; relu has the gradient 0 at 0, clamp_min has not.
fn hinge(z: &Tensor, margin: f64) -> Tensor {
    (margin - z).relu()
}

/// `[|z| - m]₊`
fn excess(z: &Tensor, margin: f64) -> Tensor {
    (z.abs() - margin).relu()
}

/// Broadcasting would pair every score with every other and say nothing.
fn same_shape(a: &Tensor, b: &Tensor) {
    assert_eq!(a.size(), b.size(), "scores of pairs come in two tensors of one shape");
}
