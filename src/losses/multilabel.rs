//! Multi-label losses (1704.03135): rankings of each image's labels against its other classes, and label decisions.
//!
//! `scores` are f, `[B, C]`, any float kind; `labels` are 0/1 `[B, C]` of any kind, on any device. u is a label of an
//! image, v a class that is none, `z_uv = f_v - f_u`. A term an image: the mean over images is the paper's loss. Images
//! with no label or every label give no term in the pair losses.

use rand::Rng;
use rand::seq::index::sample;
use tch::{Device, Kind, Tensor};

use super::Tally;
use super::known::known;
use crate::distance::widen;
use crate::seed::at;

mod rows;

/// The classes of each image, and which images have a pair.
struct Sides {
    /// bool `[B, C]`.
    positive: Tensor,
    /// bool `[B, C]`.
    negative: Tensor,
    /// bool `[B]`: has a label, and a class that is none.
    valid: Tensor,
}

impl Sides {
    fn of(labels: &Tensor, device: Device) -> Sides {
        let positive = labels.to_device(device).ne(0);
        let negative = positive.logical_not();
        let valid = positive.any_dim(1, false).logical_and(&negative.any_dim(1, false));
        Sides { positive, negative, valid }
    }
}

/// A NaN of `x` (a score) that no term would show still makes the sum NaN.
fn poisoned(tally: Tally, scores: &Tensor) -> Tally {
    tally.poisoned_by(scores)
}

/// log Σ exp of the entries of `mask`, `[B]`; rows that are not `valid` are finite with a zero gradient.
fn lse(x: &Tensor, mask: &Tensor, valid: &Tensor) -> Tensor {
    let none = valid.logical_not().unsqueeze(1);
    x.masked_fill(&mask.logical_not(), f64::NEG_INFINITY).masked_fill(&none, 0.).logsumexp(1, false)
}

/// LSEP (Section 3.1): `log(1 + Σ_uv exp z_uv)`, over all pairs in O(C):
/// `softplus(log Σ_v exp f_v + log Σ_u exp(-f_u))`. Finite with a finite gradient at any finite scores.
pub fn lsep(scores: &Tensor, labels: &Tensor) -> Tally {
    let f = widen(scores);
    if let Some(rows::Rows { gradient, value, terms, active }) = rows::lsep(&f, labels) {
        let sum = known(&f, &gradient, &Tensor::from(value));
        return Tally { sum, terms: Tensor::from(terms), active: Tensor::from(active) };
    }
    lsep_tensors(&f, labels)
}

/// [`lsep`] in tensor operations, as it is computed where the scores are not on the CPU.
pub fn lsep_tensors(scores: &Tensor, labels: &Tensor) -> Tally {
    let f = widen(scores);
    let Sides { positive, negative, valid } = Sides::of(labels, f.device());
    let x = lse(&f, &negative, &valid) + lse(&f.neg(), &positive, &valid);
    poisoned(Tally::over(&x.logaddexp(&x.zeros_like()), Some(&valid)), &f)
}

/// LSEP over at most `pairs` of each image's pairs (Section 3.1, t = 1000), drawn uniformly without replacement, a
/// function of the seed and the row; the loss is not scaled up for what is left out. Where no image can have more
/// pairs than that it is [`lsep`]. The drawing needs labels on the CPU: others are fetched, which waits.
pub fn lsep_sampled(scores: &Tensor, labels: &Tensor, pairs: i64, seed: u64) -> Tally {
    let f = widen(scores);
    let classes = f.size()[1];
    if (classes / 2) * (classes - classes / 2) <= pairs {
        return lsep(&f, labels);
    }
    let (rows, most) = (f.size()[0], pairs.max(0) as usize);
    let sides = host(labels);
    let (mut u, mut v, mut there) = (Vec::new(), Vec::new(), Vec::new());
    for (row, (positive, negative)) in sides.iter().enumerate() {
        let all = positive.len() * negative.len();
        let taken = sample(&mut at(seed, row as u64, 0), all, most.min(all)).into_vec();
        there.extend((0..most).map(|i| i < taken.len()));
        u.extend((0..most).map(|i| taken.get(i).map_or(0, |&pair| positive[pair / negative.len()])));
        v.extend((0..most).map(|i| taken.get(i).map_or(0, |&pair| negative[pair % negative.len()])));
    }
    let table = |x: &[i64]| Tensor::from_slice(x).view([rows, most as i64]).to_device(f.device());
    let there = Tensor::from_slice(&there).view([rows, most as i64]).to_device(f.device());
    let z = f.gather(1, &table(&v), false) - f.gather(1, &table(&u), false);
    let valid = there.any_dim(1, false);
    let x = lse(&z, &there, &valid);
    poisoned(Tally::over(&x.logaddexp(&x.zeros_like()), Some(&valid)), &f)
}

/// The labels and the other classes of every image, on the host.
fn host(labels: &Tensor) -> Vec<(Vec<i64>, Vec<i64>)> {
    let classes = labels.size()[1].max(1) as usize;
    let flat = labels.ne(0).to_kind(Kind::Uint8).to_device(Device::Cpu).contiguous().view([-1]);
    let flat = Vec::<u8>::try_from(flat).unwrap_or_default();
    flat.chunks(classes).map(|row| (0..row.len() as i64).partition(|&class| row[class as usize] != 0)).collect()
}

/// Pairwise hinge (Section 3.1): `Σ_uv [α + z_uv]₊`, the paper's α is 1. O(C log C) time and O(C) memory an image.
pub fn hinge(scores: &Tensor, labels: &Tensor, margin: f64) -> Tally {
    weighted_hinge(scores, labels, margin, false)
}

/// WARP (Section 3.1): `Σ_uv w(r_u) [α + z_uv]₊`, `w(r) = Σ_{j=1..r} 1/j`, r_u the exact rank of u among all C scores
/// (1 + how many are higher), no gradient through it. Time and memory as [`hinge`].
pub fn warp(scores: &Tensor, labels: &Tensor, margin: f64) -> Tally {
    weighted_hinge(scores, labels, margin, true)
}

fn weighted_hinge(scores: &Tensor, labels: &Tensor, margin: f64, by_rank: bool) -> Tally {
    let f = widen(scores);
    let Sides { positive, negative, valid } = Sides::of(labels, f.device());
    // In how many active hinges a score stands, with which weight: then the sum is linear, and exact in its gradient.
    let (up, down, offset) = tch::no_grad(|| {
        let f = f.detach();
        let kind = f.kind();
        let weight = if by_rank {
            let harmonic = Tensor::arange_start(1, f.size()[1] + 1, (kind, f.device())).reciprocal().cumsum(0, kind);
            let higher = f.size()[1] - found(&f.sort(1, false).0, &f, true);
            harmonic.index_select(0, &higher.flatten(0, -1)).view_as(&f)
        } else {
            f.ones_like()
        };
        // Half-open at the kink, in one rounding: active where f_v + α > f_u.
        let reach = &f + margin;
        let u = f.masked_fill(&negative, f64::INFINITY);
        let v = reach.masked_fill(&positive, f64::NEG_INFINITY);
        // For u: #{v: reach_v > f_u}.
        let beyond = (f.size()[1] - found(&v.sort(1, false).0, &f, true)).to_kind(kind) * &positive;
        // For v: Σ w(r_u) over {u: f_u < reach_v}.
        let (sorted, order) = u.sort(1, false);
        let weights = (&weight * &positive).gather(1, &order, false).cumsum(1, Kind::Double);
        let weights = Tensor::cat(&[weights.narrow(1, 0, 1).zeros_like(), weights], 1);
        let below = found(&sorted, &reach, false);
        let down = weights.gather(1, &below, false).to_kind(kind) * &negative;
        let up = &weight * &beyond;
        let offset = up.sum_dim_intlist(1, false, Kind::Double) * margin;
        (up, down, offset)
    });
    let f64s = |x: &Tensor| x.to_kind(Kind::Double);
    // What stands in no hinge must not matter, whatever it holds.
    let part = |weight: &Tensor| f64s(&f.where_self(&weight.ne(0), &f.zeros_like())) * f64s(weight);
    let terms = (part(&down) - part(&up)).sum_dim_intlist(1, false, Kind::Double) + offset;
    poisoned(Tally::over(&terms.to_kind(f.kind()), Some(&valid)), &f)
}

/// How many of the ascending `sorted` `[B, C]` are below (`right`: not above) each of `values` `[B, C]`.
fn found(sorted: &Tensor, values: &Tensor, right: bool) -> Tensor {
    values.contiguous().searchsorted(
        &sorted.contiguous(),
        false,
        right,
        if right { "right" } else { "left" },
        None::<Tensor>,
    )
}

/// BP-MLL (Section 3.1): `Σ_uv exp z_uv`, without Zhang and Zhou's division by the number of pairs, as the authors' program has
/// it. O(C). Scores that are 88 apart overflow f32: the loss is then infinite, which is its definition's fault.
pub fn bp_mll(scores: &Tensor, labels: &Tensor) -> Tally {
    let f = widen(scores);
    let Sides { positive, negative, valid } = Sides::of(labels, f.device());
    let x = lse(&f, &negative, &valid) + lse(&f.neg(), &positive, &valid);
    // An image without pairs must not contribute exp(0).
    let x = x.masked_fill(&valid.logical_not(), 0.);
    poisoned(Tally::over(&x.exp(), Some(&valid)), &f)
}

/// Softmax on one label (Section 3.1): `-log softmax(f)_y`, y drawn uniformly from each image's labels, a function of the
/// seed and the row; images without a label give no term. The drawing needs labels on the CPU: others are fetched,
/// which waits.
pub fn softmax(scores: &Tensor, labels: &Tensor, seed: u64) -> Tally {
    let f = widen(scores);
    let drawn: Vec<i64> = host(labels)
        .iter()
        .enumerate()
        .map(|(row, (positive, _))| match positive.len() {
            0 => -1,
            count => positive[at(seed, row as u64, 0).random_range(0..count)],
        })
        .collect();
    let y = Tensor::from_slice(&drawn).to_device(f.device());
    let valid = y.ge(0);
    let picked = f.log_softmax(1, f.kind()).gather(1, &y.clamp_min(0).unsqueeze(1), false).squeeze_dim(1);
    poisoned(Tally::over(&picked.neg(), Some(&valid)), &f)
}

/// Sigmoid cross-entropy: `-Σ_c [Y log σ(f) + (1 - Y) log(1 - σ(f))]`, a term every image.
pub fn sigmoid(scores: &Tensor, labels: &Tensor) -> Tally {
    let f = widen(scores);
    let y = labels.to_device(f.device()).ne(0).to_kind(f.kind());
    // -log σ(f) = softplus(-f), -log(1 - σ(f)) = softplus(f): together softplus(f) - Y f, exact at both ends.
    let terms = f.logaddexp(&f.zeros_like()) - &f * y;
    Tally::over(&terms.sum_dim_intlist(1, false, f.kind()), None)
}

/// Label count (Section 3.2): cross-entropy of `logits` `[B, n]` against `min(|Y|, n) - 1`; the last of n classes is "n or
/// more" (the paper's n is 4). Images without a label give no term.
pub fn label_count(logits: &Tensor, labels: &Tensor) -> Tally {
    let x = widen(logits);
    let count = labels.to_device(x.device()).ne(0).sum_dim_intlist(1, false, Kind::Int64);
    let valid = count.gt(0);
    let target = count.clamp(1, x.size()[1]) - 1;
    let picked = x.log_softmax(1, x.kind()).gather(1, &target.unsqueeze(1), false).squeeze_dim(1);
    poisoned(Tally::over(&picked.neg(), Some(&valid)), &x)
}

/// Label thresholds (Section 3.2): sigmoid cross-entropy of `f - θ` against the labels, summed over classes, a term every
/// image. `thresholds` are θ `[B, C]`; a label is decided where `f - θ > 0`.
pub fn label_threshold(scores: &Tensor, thresholds: &Tensor, labels: &Tensor) -> Tally {
    sigmoid(&(widen(scores) - widen(thresholds)), labels)
}
