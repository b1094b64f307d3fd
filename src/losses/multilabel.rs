//! Multi-label losses (1704.03135): rankings of each image's labels against its other classes, and label decisions.
//!
//! `scores` are f, `[B, C]`, any float kind; `labels` are 0/1 `[B, C]` of any kind, on any device. u is a label of an
//! image, v a class that is none, `z_uv = f_v - f_u`. A term an image; the mean over images is what the authors' program
//! minimises. Images with no label or every label give no term in the pair losses. The paper's text was not at hand: the
//! forms are those of the authors' program (its loss.py; the heads' its cnt.py).
//!
//! [`lsep_sampled`] and [`softmax`] draw from labels on the host. Where the scores are on a GPU, draw beforehand
//! ([`Pairs::draw`], [`draw_label`]) and send what was drawn with the images: then no step waits.

use rand::Rng;
use rand::seq::index::sample;
use tch::{Device, Kind, Tensor};

use super::{Tally, cpu};
use crate::distance::widen;
use crate::real::numbers;
use crate::seed::at;
use crate::transfer::upload;

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
        let positive = upload(labels, device).ne(0);
        let negative = positive.logical_not();
        let valid = positive.any_dim(1, false).logical_and(&negative.any_dim(1, false));
        Sides { positive, negative, valid }
    }
}

/// log Σ exp of the entries of `mask`, `[B]`; rows that are not `valid` are finite with a zero gradient.
fn lse(x: &Tensor, mask: &Tensor, valid: &Tensor) -> Tensor {
    let none = valid.logical_not().unsqueeze(1);
    x.masked_fill(&mask.logical_not(), f64::NEG_INFINITY).masked_fill(&none, 0.).logsumexp(1, false)
}

/// LSEP: `log(1 + Σ_uv exp z_uv)`, over all pairs in O(C):
/// `softplus(log Σ_v exp f_v + log Σ_u exp(-f_u))`. Finite with a finite gradient at any finite scores.
pub fn lsep(scores: &Tensor, labels: &Tensor) -> Tally {
    let f = widen(scores);
    cpu::lsep(&f, labels).map_or_else(|| lsep_tensors(&f, labels), |outcome| outcome.of(&f))
}

/// [`lsep`] in tensor operations, as it is computed where the scores are not on the CPU: without a graph, its gradient
/// being `σ(x) (softmax of f over the v - softmax of -f over the u)` for x the argument of the softplus.
pub fn lsep_tensors(scores: &Tensor, labels: &Tensor) -> Tally {
    let f = widen(scores);
    if f.numel() == 0 {
        return Tally::over(&f.new_zeros([0], (f.kind(), f.device())), None).poisoned_by(&f);
    }
    tch::no_grad(|| {
        let f = f.detach();
        let positive = upload(labels, f.device()).ne(0);
        // Both sides at once, `[2, B, C]`: f of the classes that are none, -f of the labels.
        let both = Tensor::stack(&[&f, &f.neg()], 0);
        let masked = both.masked_fill(&Tensor::stack(&[&positive, &positive.logical_not()], 0), f64::NEG_INFINITY);
        let (most, part) = (masked.amax(2, true), masked.log_softmax(2, f.kind()));
        // log Σ exp is the largest entry less the largest of log softmax; both NaN where a side is empty.
        let sides = &most - part.amax(2, true);
        let x = sides.sum_dim_intlist(0, false, None::<Kind>);
        let valid = most.amin(0, false).not_equal(f64::NEG_INFINITY);
        let z = x.masked_fill(&valid.logical_not(), 0.);
        let part = part.exp();
        let gradient = (part.select(0, 0) - part.select(0, 1)) * z.sigmoid();
        let gradient = gradient.masked_fill(&valid.logical_not(), 0.);
        let tally = Tally::over(&z.logaddexp(&z.zeros_like()), Some(&valid)).poisoned_by(&f);
        cpu::Outcome { gradient, value: tally.sum, terms: tally.terms, active: tally.active }
    })
    .of(&f)
}

/// LSEP over at most `pairs` of each image's pairs (t = 1000 in the authors' program), drawn uniformly without
/// replacement, a function of the seed and the row; the loss is not scaled up for what is left out. Where no image has
/// more pairs than that it is [`lsep`]. The drawing needs labels on the CPU: others are fetched, which waits.
pub fn lsep_sampled(scores: &Tensor, labels: &Tensor, pairs: i64, seed: u64) -> Tally {
    match Pairs::draw(labels, pairs, seed) {
        None => lsep(scores, labels),
        Some(pairs) => lsep_of(scores, &pairs.map(|x| upload(x, scores.device()))),
    }
}

/// Some pairs (u, v) of each image.
#[derive(Debug)]
pub struct Pairs {
    /// int64 `[B, T]`, T the most that an image has.
    u: Tensor,
    /// int64 `[B, T]`.
    v: Tensor,
    /// bool `[B, T]`: the rest is padding.
    there: Tensor,
}

impl Pairs {
    /// At most `pairs` of every image's, uniformly without replacement, a function of the seed and the row; None where no
    /// image has more than that, since [`lsep`] takes all of them at once. Labels that are not on the CPU are fetched.
    pub fn draw(labels: &Tensor, pairs: i64, seed: u64) -> Option<Pairs> {
        let classes = labels.size()[1];
        if (classes / 2) * (classes - classes / 2) <= pairs {
            return None;
        }
        let (most, sides) = (pairs.max(0) as usize, host(labels));
        let all = |(positive, negative): &(Vec<i64>, Vec<i64>)| positive.len() * negative.len();
        if sides.iter().all(|side| all(side) <= most) {
            return None;
        }
        let width = sides.iter().map(|side| all(side).min(most)).max().unwrap_or(0);
        let (mut u, mut v, mut there) = (Vec::new(), Vec::new(), Vec::new());
        for (row, side) in sides.iter().enumerate() {
            let (positive, negative) = side;
            let taken = sample(&mut at(seed, row as u64, 0), all(side), most.min(all(side))).into_vec();
            there.extend((0..width).map(|i| i < taken.len()));
            u.extend((0..width).map(|i| taken.get(i).map_or(0, |&pair| positive[pair / negative.len()])));
            v.extend((0..width).map(|i| taken.get(i).map_or(0, |&pair| negative[pair % negative.len()])));
        }
        let shape = [sides.len() as i64, width as i64];
        let table = |x: &[i64]| Tensor::from_slice(x).view(shape);
        Some(Pairs { u: table(&u), v: table(&v), there: Tensor::from_slice(&there).view(shape) })
    }

    /// Its tensors one by one through `f`: to a device, say.
    pub fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Pairs {
        Pairs { u: f(&self.u), v: f(&self.v), there: f(&self.there) }
    }
}

/// LSEP over given pairs on the device of the scores: `log(1 + Σ exp z_uv)`; images without a pair give no term.
pub fn lsep_of(scores: &Tensor, pairs: &Pairs) -> Tally {
    let (f, Pairs { u, v, there }) = (widen(scores), pairs);
    let z = f.gather(1, v, false) - f.gather(1, u, false);
    let valid = there.any_dim(1, false);
    let x = lse(&z, there, &valid);
    Tally::over(&x.logaddexp(&x.zeros_like()), Some(&valid)).poisoned_by(&f)
}

/// The labels and the other classes of every image, on the host.
fn host(labels: &Tensor) -> Vec<(Vec<i64>, Vec<i64>)> {
    let classes = labels.size()[1].max(1) as usize;
    let flat = numbers::<u8>(&labels.ne(0).to_kind(Kind::Uint8));
    flat.chunks(classes).map(|row| (0..row.len() as i64).partition(|&class| row[class as usize] != 0)).collect()
}

/// Pairwise hinge: `Σ_uv [α + z_uv]₊`, α = 1 in the authors' program. O(C log C) time and O(C) memory an image.
pub fn hinge(scores: &Tensor, labels: &Tensor, margin: f64) -> Tally {
    weighted_hinge(scores, labels, margin, false)
}

/// WARP: `Σ_uv w(r_u) [α + z_uv]₊`, `w(r) = Σ_{j=1..r} 1/j`, r_u the exact rank of u among all C scores (1 + how many
/// are higher), as the authors' program has it, no gradient through it. Time and memory as [`hinge`].
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
    Tally::over(&terms.to_kind(f.kind()), Some(&valid)).poisoned_by(&f)
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

/// BP-MLL: `Σ_uv exp z_uv`, without Zhang and Zhou's division by the number of pairs, as the authors' program has it.
/// O(C). Scores that are 88 apart overflow f32: the loss is then infinite, which is its definition's fault.
pub fn bp_mll(scores: &Tensor, labels: &Tensor) -> Tally {
    let f = widen(scores);
    let Sides { positive, negative, valid } = Sides::of(labels, f.device());
    let x = lse(&f, &negative, &valid) + lse(&f.neg(), &positive, &valid);
    // An image without pairs must not contribute exp(0).
    let x = x.masked_fill(&valid.logical_not(), 0.);
    Tally::over(&x.exp(), Some(&valid)).poisoned_by(&f)
}

/// Softmax on one label: `-log softmax(f)_y`, y drawn uniformly from each image's labels, a function of the seed and the
/// row; images without a label give no term. The drawing needs labels on the CPU: others are fetched, which waits.
pub fn softmax(scores: &Tensor, labels: &Tensor, seed: u64) -> Tally {
    softmax_on(scores, &upload(&draw_label(labels, seed), scores.device()))
}

/// One of each image's labels, uniformly, a function of the seed and the row: int64 `[B]` on the CPU, -1 where an image
/// has none.
pub fn draw_label(labels: &Tensor, seed: u64) -> Tensor {
    let drawn: Vec<i64> = host(labels)
        .iter()
        .enumerate()
        .map(|(row, (positive, _))| match positive.len() {
            0 => -1,
            count => positive[at(seed, row as u64, 0).random_range(0..count)],
        })
        .collect();
    Tensor::from_slice(&drawn)
}

/// Softmax on given labels `y`, int64 `[B]` on the device of the scores: `-log softmax(f)_y`; -1 gives no term.
pub fn softmax_on(scores: &Tensor, y: &Tensor) -> Tally {
    let f = widen(scores);
    let valid = y.ge(0);
    let picked = f.log_softmax(1, f.kind()).gather(1, &y.clamp_min(0).unsqueeze(1), false).squeeze_dim(1);
    Tally::over(&picked.neg(), Some(&valid)).poisoned_by(&f)
}

/// Sigmoid cross-entropy, summed over classes: `-Σ_c [Y log σ(f) + (1 - Y) log(1 - σ(f))]`, a term every image.
pub fn sigmoid(scores: &Tensor, labels: &Tensor) -> Tally {
    let f = widen(scores);
    // -log σ(f) = softplus(-f), -log(1 - σ(f)) = softplus(f): nothing is subtracted, so that no digit is lost at either
    // end, of the value or of the slope.
    let sign = upload(labels, f.device()).ne(0).to_kind(f.kind()) * -2. + 1.;
    let z = &f * sign;
    let terms = z.logaddexp(&z.zeros_like());
    Tally::over(&terms.sum_dim_intlist(1, false, f.kind()), None)
}

/// Label count: cross-entropy of `logits` `[B, n]` against `min(|Y|, n) - 1`; the last of n classes is "n or more" (n is 4
/// in the authors' program). Images without a label give no term.
pub fn label_count(logits: &Tensor, labels: &Tensor) -> Tally {
    let x = widen(logits);
    let count = upload(labels, x.device()).ne(0).sum_dim_intlist(1, false, Kind::Int64);
    let valid = count.gt(0);
    let target = count.clamp(1, x.size()[1]) - 1;
    let picked = x.log_softmax(1, x.kind()).gather(1, &target.unsqueeze(1), false).squeeze_dim(1);
    Tally::over(&picked.neg(), Some(&valid)).poisoned_by(&x)
}

/// Label thresholds: sigmoid cross-entropy of `f - θ` against the labels, summed over classes, a term every image.
/// `thresholds` are θ `[B, C]`; a label is decided where `f - θ > 0`.
pub fn label_threshold(scores: &Tensor, thresholds: &Tensor, labels: &Tensor) -> Tally {
    sigmoid(&(widen(scores) - widen(thresholds)), labels)
}
