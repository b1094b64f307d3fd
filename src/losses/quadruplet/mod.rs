//! Quadruplet losses (1704.01719, Eq. 3 to 5): the triplet term, and a weaker one between pairs that share no probe.
//!
//! A quadruplet is (i, j, k, l): i and j show one identity, k a second, l a third. g is the dissimilarity of a pair;
//! all terms use its square. The losses on pairs that stand beside them (Section 3.2, Eq. 7) are here too.

mod batch;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

pub use batch::adaptive;

use super::Tally;
use crate::distance::widen;
use crate::mining::Quadruplets;
use crate::transfer::upload;

/// What the adaptive margins do to the gradient (1704.01719, Eq. 4 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarginGradient {
    /// The margins are numbers: none flows through them
    #[default]
    Detach,
    /// Eq. 5 as the paper prints it: besides, what each quadruplet's own pairs add to the means, O(1/M)
    Eq5,
    /// Through the means of the whole batch, as automatic differentiation gives it; with all hinges active it takes
    /// away three quarters of the push and moves pairs whose hinge is inactive the wrong way
    Full,
}

/// The margins that [`adaptive_pairs`] took, and what they came from; scalars without gradient, f32 or wider.
#[derive(Debug)]
pub struct Margins {
    /// α₁, of the hinge within a probe.
    pub strong: Tensor,
    /// α₂, of the hinge between probes.
    pub weak: Tensor,
    /// μ_p, the mean g² of the positive pairs.
    pub positive: Tensor,
    /// μ_n, the mean g² of the negative pairs.
    pub negative: Tensor,
}

/// The quadruplet loss with fixed margins (Eq. 3; the paper's are 1 and 0.5) on a matrix of g, `dist` `[B, B]`, any
/// float kind: `[g_ij² - g_ik² + α₁]₊ + [g_ij² - g_lk² + α₂]₊`, a term a quadruplet. i is `quads.anchor`, j
/// `positive`, k `negative`, l `other`. The indices may stay on the CPU while `dist` is on a GPU.
///
/// Panics, as tch does, where an index is not a row of `dist`.
pub fn fixed(dist: &Tensor, quads: &Quadruplets, margins: (f64, f64)) -> Tally {
    let rows = dist.size()[1];
    let flat = dist.flatten(0, -1);
    let entry = |row: &Tensor, column: &Tensor| flat.index_select(0, &upload(&(row * rows + column), dist.device()));
    let Quadruplets { anchor, positive, negative, other } = quads;
    pairs(&entry(anchor, positive), &entry(anchor, negative), &entry(other, negative), margins)
}

/// The quadruplet loss with fixed margins on ready-made pairs: `g_ij`, `g_ik`, `g_lk` `[M]`, any float kind; a term a
/// quadruplet.
pub fn pairs(g_ij: &Tensor, g_ik: &Tensor, g_lk: &Tensor, margins: (f64, f64)) -> Tally {
    let [ij, ik, lk] = [g_ij, g_ik, g_lk].map(|g| widen(g).square());
    Tally::over(&((&ij - &ik + margins.0).relu() + (&ij - &lk + margins.1).relu()), None)
}

/// The quadruplet loss with adaptive margins (Eq. 4) on ready-made pairs `[M]`: `α = w max(μ_n - μ_p, 0)`, μ_p the
/// mean of the M values g_ij² and μ_n that of the 2M values g_ik² and g_lk²; `weights` are the two w (the paper's are 1
/// and 0.5). A term a quadruplet; never waits for a GPU.
pub fn adaptive_pairs(
    g_ij: &Tensor,
    g_ik: &Tensor,
    g_lk: &Tensor,
    weights: (f64, f64),
    gradient: MarginGradient,
) -> (Tally, Margins) {
    let [ij, ik, lk] = [g_ij, g_ik, g_lk].map(|g| widen(g).square());
    let count = ij.numel().max(1) as f64;
    let kind = ij.kind();
    let positive = ij.sum(kind) / count;
    let negative = (ik.sum(kind) + lk.sum(kind)) / (2. * count);
    let gap = (&negative - &positive).clamp_min(0.);
    let gap = if gradient == MarginGradient::Full { gap } else { gap.detach() };
    let (strong, weak) = (&gap * weights.0, &gap * weights.1);
    let terms = [(&ij - &ik + &strong).relu(), (&ij - &lk + &weak).relu()];
    let mut tally = Tally::over(&(&terms[0] + &terms[1]), None);
    if gradient == MarginGradient::Eq5 {
        // In units of g², d(g²) = 2g dg: Eq. 5's (2 - 2/M), (2 - 1/M) and (-2 + 3/2M) for w = 1 and 0.5.
        let [a, b] = terms.map(|term| term.detach().gt(0.).to_kind(kind));
        let own = (weights.0 + weights.1) / (2. * count) - 1.;
        let linear = &ij * (&a * (1. - weights.0 / count) + &b * (1. - weights.1 / count)) + (&ik * a + &lk * b) * own;
        let linear = linear.sum(kind);
        tally.sum = tally.sum.detach() + &linear - linear.detach();
    }
    let [strong, weak, positive, negative] = [strong, weak, positive, negative].map(|x| x.detach());
    (tally, Margins { strong, weak, positive, negative })
}

/// The probability that a pair shows two identities (Section 3.2): `logits` `[N, 2]`, unit 0 "dissimilar", to g
/// `[N]` in 0..1, the softmax of unit 0. Computed as the logistic function of [`logit_gap`], which is the same.
pub fn dissimilarity(logits: &Tensor) -> Tensor {
    logit_gap(logits).sigmoid()
}

/// What to rank by: the logit of g, `z₀ - z₁`, `[N]` f32 or wider. It orders pairs as g does, and still tells them apart
/// where g has rounded to 0 or 1.
pub fn logit_gap(logits: &Tensor) -> Tensor {
    let logits = widen(logits);
    logits.select(-1, 0) - logits.select(-1, 1)
}

/// What a network's outputs say of a pair (Section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dissimilarity {
    /// Embeddings of the two images, unit rows: their squared distance (Figure 2a). There are no outputs of a pair.
    Embedding,
    /// The first unit as it is, without bound (Figure 2b).
    Unbounded,
    /// The softmax of two units, a g in 0..1 (Figure 2c).
    Softmax,
}

impl std::fmt::Display for Dissimilarity {
    /// What is measured, and what it is ranked by.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Embedding => "squared distance of unit embeddings",
            Self::Unbounded => "learned metric g, ranked by its square",
            Self::Softmax => "learned metric g in 0..1, ranked by its logit",
        })
    }
}

impl Dissimilarity {
    /// Outputs of fc8, a pair's or an image's (Figure 2).
    pub fn units(self) -> i64 {
        match self {
            Self::Embedding => 512,
            Self::Unbounded => 1,
            Self::Softmax => 2,
        }
    }

    /// g as the losses take it: `outputs` `[N, units]` to `[N]`.
    pub fn g(self, outputs: &Tensor) -> Tensor {
        if self == Self::Softmax { dissimilarity(outputs) } else { outputs.select(1, 0) }
    }

    /// What pairs are ranked by, `outputs` `[N, units]` to `[N]`: it orders as g² does, whatever sign an unbounded g has,
    /// and both orders of a pair can be averaged.
    pub fn ranked(self, outputs: &Tensor) -> Tensor {
        if self == Self::Softmax { logit_gap(outputs) } else { outputs.select(1, 0).abs() }
    }

    /// The distance that is shown and averaged for what [`Dissimilarity::ranked`] gave: |g|, or the squared distance.
    pub fn shown(self, ranked: f64) -> f64 {
        if self == Self::Softmax { 1. / (1. + (-ranked).exp()) } else { ranked }
    }
}

/// The softmax loss (Section 3.2): the two-way cross-entropy on the units ("different", "same") of pairs, a term a pair.
/// `outputs` is `[kinds · M, 2]`, of which the first M are pairs of one person and the others of two.
pub fn same_or_different(outputs: &Tensor, kinds: i64) -> Tally {
    let (pairs, device) = (outputs.size()[0], outputs.device());
    let same = Tensor::arange(pairs, (Kind::Int64, device)).lt(pairs / kinds.max(1)).to_kind(Kind::Int64);
    let terms = widen(outputs).cross_entropy_loss(&same, None::<&Tensor>, tch::Reduction::None, -100, 0.);
    Tally::over(&terms, None)
}

/// The contrastive loss on a learned metric (Eq. 7), a term a pair: `g²` of the pairs `same` of one person, `[α - g²]₊` of
/// the pairs `different` of two; `[N]` each, any float kind.
pub fn contrastive(same: &Tensor, different: &Tensor, margin: f64) -> Tally {
    let [same, different] = [same, different].map(|g| widen(g).square());
    Tally::over(&Tensor::cat(&[same, (margin - different).relu()], 0), None)
}

/// `[g_ij² - g_ik² + α]₊` (Eq. 1 and 2) on ready-made pairs `[M]`, a term a triplet.
pub fn triplet(g_ij: &Tensor, g_ik: &Tensor, margin: f64) -> Tally {
    let [ij, ik] = [g_ij, g_ik].map(|g| widen(g).square());
    Tally::over(&(ij - ik + margin).relu(), None)
}

/// A scalar of zeros in int64 on the device of `x`.
fn none(x: &Tensor) -> Tensor {
    Tensor::zeros([], (Kind::Int64, x.device()))
}
