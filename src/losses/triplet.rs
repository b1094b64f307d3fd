//! Triplet losses: the equations of 1703.07737, and FaceNet's (1503.03832, Eq. 3).
//!
//! `dist` is `[B, B]`, rows are anchors, any float kind; `labels` is int64 `[B]`. Labels may stay on the CPU while
//! the distances are on a GPU: they are sent there without a wait.

use tch::{Kind, Tensor};

use super::{Margin, Tally};
use crate::distance::widen;
use crate::mining::{Choice, Groups, Masks, Negative, Pick, choose};
use crate::transfer::upload;

/// L_tri (1703.07737, Eq. 4; 1503.03832, Eq. 3) on ready-made triplets: `d_ap` and `d_an` of equal shape, a term an
/// entry.
pub fn hinge(d_ap: &Tensor, d_an: &Tensor, margin: Margin) -> Tally {
    Tally::over(&margin.charge(&(widen(d_ap) - widen(d_an))), None)
}

/// Batch hard (1703.07737, Eq. 5): a term an anchor, its farthest positive against its nearest negative. Anchors
/// without a positive or without a negative give no term. Of equally far positives each gets its share of the
/// gradient.
pub fn batch_hard(dist: &Tensor, labels: &Tensor, margin: Margin) -> Tally {
    let dist = widen(dist);
    if dist.numel() == 0 {
        return Tally::over(&dist, None); // no extreme of nothing
    }
    let masks = Masks::of(labels, dist.device());
    let valid = masks.valid();
    let d_ap = dist.masked_fill(&masks.positive.logical_not(), f64::NEG_INFINITY).amax(1, false);
    let d_an = dist.masked_fill(&masks.negative.logical_not(), f64::INFINITY).amin(1, false);
    // Not computed and then dropped: infinity times a zero gradient would be NaN.
    let none = valid.logical_not();
    let z = d_ap.masked_fill(&none, 0.) - d_an.masked_fill(&none, 0.);
    Tally::over(&margin.charge(&z), Some(&valid)).poisoned_by(&dist)
}

/// Batch all (1703.07737, Eq. 6), exact: a term a triplet, PK(PK-K)(K-1) of them.
///
/// The hinge takes O(B² log B) time and O(B²) memory: for every entry of `dist` it counts in how many active triplets
/// it is added or subtracted (sort and bisect), and the sum over triplets is the sum over entries times that count.
/// The soft margin goes over blocks of anchors, one of which takes O(BK) memory at least, in O(B²K) time when `labels` are on
/// the CPU; on a GPU K cannot be read without a wait, and it takes O(B³) time and O(B²) memory: leave labels on the host.
pub fn batch_all(dist: &Tensor, labels: &Tensor, margin: Margin) -> Tally {
    batch_all_weighted(dist, labels, &Masks::of(labels, dist.device()), margin).1
}

/// [`batch_all`] of some anchors, `dist` `[A, B]`, and before it its derivative with respect to each distance, `[A, B]` in
/// the kind of the sum.
pub(super) fn batch_all_weighted(dist: &Tensor, labels: &Tensor, masks: &Masks, margin: Margin) -> (Tensor, Tally) {
    let dist = widen(dist);
    let count = |mask: &Tensor| mask.sum_dim_intlist(1, false, Kind::Int64);
    let terms = (count(&masks.positive) * count(&masks.negative)).sum(Kind::Int64);
    match margin {
        Margin::Hard(m) => {
            let (weight, active) = tch::no_grad(|| hinge_weights(&dist, masks, m));
            let sum = weighted(&dist, &weight) + active.to_kind(Kind::Double) * m;
            (weight, Tally { sum: sum.to_kind(dist.kind()), terms, active })
        }
        Margin::Soft => {
            let SoftWeights { weight, value, active } = tch::no_grad(|| soft_weights(&dist, labels, masks));
            let gradient = weighted(&dist, &weight);
            let sum = &gradient - gradient.detach() + value;
            (weight, Tally { sum: sum.to_kind(dist.kind()), terms, active })
        }
    }
}

/// Semi-hard triplets (1503.03832, Eq. 3 and 4): for every ordered pair (a, p) one negative with
/// `d_ap < d_an < d_ap + margin`, chosen by `pick`; a term a triplet found, pairs without one give none.
///
/// Takes the matrix that it is given: pass squared distances of unit rows for FaceNet. O(B²) memory.
pub fn semi_hard(dist: &Tensor, labels: &Tensor, margin: f64, pick: Pick) -> Tally {
    every_pair(dist, labels, margin, Negative::SemiHard(pick))
}

/// `[d_ap - d_an + margin]₊` (1503.03832, Eq. 3) over all ordered pairs (a, p), each against one negative by the rule
/// `negative`; a term a pair that has one. Otherwise as [`semi_hard`].
pub fn every_pair(dist: &Tensor, labels: &Tensor, margin: f64, negative: Negative) -> Tally {
    every_pair_weighted(dist, &Masks::of(labels, dist.device()), margin, negative).1
}

/// [`every_pair`] of some anchors, `dist` `[A, B]`, and before it its derivative with respect to each distance, `[A, B]` in
/// the kind of the sum.
pub(super) fn every_pair_weighted(dist: &Tensor, masks: &Masks, margin: f64, negative: Negative) -> (Tensor, Tally) {
    let dist = widen(dist);
    let (weight, terms, active) = tch::no_grad(|| {
        let Choice { negative, kept } = choose(&dist, masks, margin, negative);
        let gap = &dist + margin - dist.gather(1, &negative, false);
        let active = kept.logical_and(&gap.gt(0.));
        let share = active.to_kind(dist.kind());
        // Added at (a, p), subtracted at (a, n).
        (share.scatter_add(1, &negative, &share.neg()), kept.sum(Kind::Int64), active.sum(Kind::Int64))
    });
    let sum = weighted(&dist, &weight) + active.to_kind(Kind::Double) * margin;
    (weight, Tally { sum: sum.to_kind(dist.kind()), active, terms })
}

/// Generalised lifted structure, L_LG (1703.07737, Eq. 7): a term an anchor,
/// `[log Σ_p e^{D_ap} + log Σ_n e^{m - D_an}]₊` over all its positives and negatives.
pub fn lifted(dist: &Tensor, labels: &Tensor, margin: f64) -> Tally {
    let dist = widen(dist);
    let masks = Masks::of(labels, dist.device());
    let valid = masks.valid();
    let [pull, push] = lifted_sides(&dist, &masks, &valid, margin).map(|side| side.logsumexp(1, false));
    Tally::over(&(pull + push).relu(), Some(&valid)).poisoned_by(&dist)
}

/// What the two sums of [`lifted`] are over, `[A, B]`: -∞ where a row is in none. Rows without a term are zeros instead,
/// whose log-sum-exp has a gradient.
fn lifted_sides(dist: &Tensor, masks: &Masks, valid: &Tensor, margin: f64) -> [Tensor; 2] {
    let none = valid.logical_not().unsqueeze(1);
    let side = |x: Tensor, mask: &Tensor| x.masked_fill(&mask.logical_not(), f64::NEG_INFINITY).masked_fill(&none, 0.);
    [side(dist.shallow_clone(), &masks.positive), side(margin - dist, &masks.negative)]
}

/// [`lifted`] of some anchors, `dist` `[A, B]`, and before it its derivative with respect to each distance, `[A, B]` in the
/// kind of the sum.
pub(super) fn lifted_weighted(dist: &Tensor, masks: &Masks, margin: f64) -> (Tensor, Tally) {
    let valid = masks.valid();
    let sides = lifted_sides(dist, masks, &valid, margin);
    let [pull, push] = sides.each_ref().map(|side| side.logsumexp(1, false));
    let z = pull + push;
    let active = z.gt(0.).logical_and(&valid).unsqueeze(1);
    let [pull, push] = sides.map(|side| side.softmax(1, None::<Kind>));
    let weight = (pull - push) * active;
    (weight, Tally::over(&z.relu(), Some(&valid)).poisoned_by(dist))
}

/// The original lifted structure loss, L_L (1703.07737, Section 2, after Song et al. 2016): a term a given pair
/// (anchor\[i\], positive\[i\]), both int64 `[T]`:
/// `[D_ap + log Σ_n (e^{m - D_an} + e^{m - D_pn})]₊`, where every other row of the batch is a negative, whatever its
/// identity. Meant for batches of separate triplets. Needs at least 3 rows; fewer give no terms.
pub fn lifted_pairs(dist: &Tensor, anchor: &Tensor, positive: &Tensor, margin: f64) -> Tally {
    let dist = widen(dist);
    let (anchor, positive) = (upload(anchor, dist.device()), upload(positive, dist.device()));
    let batch = dist.size()[1];
    if batch < 3 {
        return Tally::over(
            &(dist.sum(dist.kind()) * 0.).view([1]),
            Some(&anchor.new_zeros([1], (Kind::Bool, dist.device()))),
        );
    }
    let column = Tensor::arange(batch, (Kind::Int64, dist.device())).unsqueeze(0);
    let pair = column.eq_tensor(&anchor.unsqueeze(1)).logical_or(&column.eq_tensor(&positive.unsqueeze(1)));
    let row = |index: &Tensor| (margin - dist.index_select(0, index)).masked_fill(&pair, f64::NEG_INFINITY);
    let push = Tensor::cat(&[row(&anchor), row(&positive)], 1).logsumexp(1, false);
    let pull = dist.index_select(0, &anchor).gather(1, &positive.unsqueeze(1), false).squeeze_dim(1);
    Tally::over(&(pull + push).relu(), None)
}

impl Tally {
    /// Makes the sum NaN where any distance is, also one that no term reads: adds `Σ 0 · dist`, without a gradient.
    pub(crate) fn poisoned_by(self, dist: &Tensor) -> Tally {
        let poison = tch::no_grad(|| (dist.detach() * 0.).sum(dist.kind()));
        Tally { sum: &self.sum + poison, ..self }
    }
}

/// `Σ dist · weight` as f64, differentiable in `dist`. Weights are whole numbers of up to B, and their products
/// cancel: a sum in f32 would keep three digits over 10⁸ triplets. The products themselves may round.
fn weighted(dist: &Tensor, weight: &Tensor) -> Tensor {
    (dist * weight).sum(Kind::Double)
}

/// How often each entry of `dist` is added (as d_ap) less how often it is subtracted (as d_an) in the active triplets
/// `m + d_ap - d_an > 0`, `[A, B]`, and how many of those there are. Both sides compare the same sums `d_ap + m`, so
/// that rounding cannot count a triplet on one side only.
fn hinge_weights(dist: &Tensor, masks: &Masks, m: f64) -> (Tensor, Tensor) {
    let reach = dist + m;
    let batch = dist.size()[1];
    let bisect = |sorted: &Tensor, values: &Tensor, right: bool| {
        values.searchsorted(sorted, true, right, if right { "right" } else { "left" }, None::<Tensor>)
    };
    let (negatives, _) = dist.masked_fill(&masks.negative.logical_not(), f64::INFINITY).sort(1, false);
    let added = bisect(&negatives, &reach, false) * &masks.positive;
    drop(negatives);
    let (reaches, _) = reach.masked_fill(&masks.positive.logical_not(), f64::NEG_INFINITY).sort(1, false);
    let subtracted = (batch - bisect(&reaches, dist, true)) * &masks.negative;
    let active = added.sum(Kind::Int64);
    ((added - subtracted).to_kind(dist.kind()), active)
}

struct SoftWeights {
    /// `[A, B]`: the derivative of the sum with respect to each distance.
    weight: Tensor,
    /// f64 scalar: the sum itself.
    value: Tensor,
    /// int64 scalar: terms above 0 (a softplus can underflow).
    active: Tensor,
}

/// Most numbers that a block of anchors may hold at once in [`soft_weights`].
const BLOCK: i64 = 1 << 22;

/// Value and derivative of Σ softplus(d_ap - d_an) over all triplets, block of anchors by block of anchors.
fn soft_weights(dist: &Tensor, labels: &Tensor, masks: &Masks) -> SoftWeights {
    let (anchors, batch) = (dist.size()[0], dist.size()[1]);
    let most = most_positives(labels, batch);
    let weight = dist.zeros_like();
    let mut value = Tensor::zeros([], (Kind::Double, dist.device()));
    let mut active = Tensor::zeros([], (Kind::Int64, dist.device()));
    let rows = (BLOCK / (most * batch).max(1)).clamp(1, anchors.max(1));
    let mut start = 0;
    while start < anchors && most > 0 {
        let count = rows.min(anchors - start);
        let d = dist.narrow(0, start, count);
        // The columns of each anchor's positives, padded to `most` with columns that are none.
        let (is_positive, column) =
            masks.positive.narrow(0, start, count).to_kind(Kind::Int8).topk(most, 1, true, false);
        let is_positive = is_positive.to_kind(Kind::Bool);
        let z = d.gather(1, &column, false).unsqueeze(2) - d.unsqueeze(1);
        let term = is_positive.unsqueeze(2).logical_and(&masks.negative.narrow(0, start, count).unsqueeze(1));
        let charge = Margin::Soft.charge(&z) * &term;
        value += charge.sum(Kind::Double);
        active += charge.gt(0.).sum(Kind::Int64);
        let slope = z.sigmoid() * &term;
        let mut block = weight.narrow(0, start, count);
        let _ = block.scatter_add_(1, &column, &slope.sum_dim_intlist(2, false, None::<Kind>));
        block -= slope.sum_dim_intlist(1, false, None::<Kind>);
        start += count;
    }
    // A NaN that no triplet reads still makes the batch's loss NaN.
    value += (dist * 0.).sum(Kind::Double);
    SoftWeights { weight, value, active }
}

/// The most positives that any row has, or B - 1 where reading the labels would make the host wait for a GPU.
fn most_positives(labels: &Tensor, batch: i64) -> i64 {
    if labels.device() != tch::Device::Cpu {
        return (batch - 1).max(0);
    }
    (Groups::of(labels, batch as usize).largest() as i64 - 1).max(0)
}
