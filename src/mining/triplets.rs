//! Triplet miners: batch hard, semi-hard.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::{Negative, Pick, Triplets};
use crate::distance::widen;
use crate::transfer::upload;

/// Who is a positive and who a negative for some anchors `[A]` of a batch, `[A, B]` bool on the device of the distances.
pub(crate) struct Masks {
    /// Same identity, another row.
    pub positive: Tensor,
    /// Another identity.
    pub negative: Tensor,
    /// The row of the first anchor; the others follow it.
    pub first: i64,
}

impl Masks {
    /// Masks for all of int64 `labels` `[B]`, made on `device`.
    pub fn of(labels: &Tensor, device: tch::Device) -> Masks {
        Masks::of_anchors(labels, device, 0..labels.size()[0])
    }

    /// Masks for some rows of int64 `labels` `[B]`, made on `device`.
    pub fn of_anchors(labels: &Tensor, device: tch::Device, anchors: Range<i64>) -> Masks {
        let labels = upload(labels, device);
        let (first, count) = (anchors.start, anchors.end - anchors.start);
        let same = labels.narrow(0, first, count).unsqueeze(1).eq_tensor(&labels.unsqueeze(0));
        let negative = same.logical_not();
        let _ = same.narrow(1, first, count).fill_diagonal_(0, false);
        Masks { positive: same, negative, first }
    }

    /// `[A]` bool: anchors with at least one positive and one negative.
    pub fn valid(&self) -> Tensor {
        self.positive.any_dim(1, false).logical_and(&self.negative.any_dim(1, false))
    }
}

/// Batch hard (1703.07737, Eq. 5): for every anchor that has a positive and a negative, its farthest positive and its
/// nearest negative. `dist` `[B, B]`, `labels` int64 `[B]`; at most B triplets, in anchor order. Panics when the
/// shapes do not fit.
pub fn batch_hard(dist: &Tensor, labels: &Tensor) -> Triplets {
    tch::no_grad(|| {
        let dist = widen(dist);
        let masks = Masks::of(labels, dist.device());
        let anchor = masks.valid().nonzero().squeeze_dim(1);
        let rows = |values: &Tensor| values.index_select(0, &anchor);
        if anchor.size()[0] == 0 {
            return Triplets { positive: anchor.shallow_clone(), negative: anchor.shallow_clone(), anchor };
        }
        // argmax and argmin do not promise which of several equals they give; the stable sort inside `first` does.
        let farthest = first(&rows(&dist.masked_fill(&masks.positive.logical_not(), f64::NEG_INFINITY)), true);
        let nearest = first(&rows(&dist.masked_fill(&masks.negative.logical_not(), f64::INFINITY)), false);
        Triplets { positive: farthest, negative: nearest, anchor }
    })
}

/// The lowest index of each row's extreme value.
pub(super) fn first(rows: &Tensor, largest: bool) -> Tensor {
    let extreme = if largest { rows.amax(1, true) } else { rows.amin(1, true) };
    let width = rows.size()[1];
    let index = Tensor::arange(width, (Kind::Int64, rows.device())).unsqueeze(0).expand_as(rows);
    // A NaN row has a NaN extreme, which equals nothing: it answers with index 0, and its distance is NaN wherever read.
    let found = index.where_self(&rows.eq_tensor(&extreme), &Tensor::full_like(&index, width)).amin(1, false);
    let none = found.eq(width);
    found.masked_fill(&none, 0)
}

/// Semi-hard (1503.03832, Eq. 4): for every ordered pair (a, p) of one identity, one negative n with
/// `d_ap < d_an < d_ap + margin`, chosen by `pick`; pairs without such a negative give no triplet.
///
/// `dist` `[B, B]`: pass squared distances of unit rows for FaceNet. `labels` int64 `[B]`. At most B(K-1) triplets,
/// ordered by anchor, then positive. Memory O(B²).
pub fn semi_hard(dist: &Tensor, labels: &Tensor, margin: f64, pick: Pick) -> Triplets {
    every_pair(dist, labels, margin, Negative::SemiHard(pick))
}

/// All ordered pairs (a, p) of one identity, each with one negative by the rule `negative` (1503.03832, Section 3.2);
/// otherwise as [`semi_hard`].
pub fn every_pair(dist: &Tensor, labels: &Tensor, margin: f64, negative: Negative) -> Triplets {
    tch::no_grad(|| {
        let Choice { negative, kept } = choose(dist, &Masks::of(labels, dist.device()), margin, negative);
        let pairs = kept.nonzero();
        let (anchor, positive) = (pairs.select(1, 0), pairs.select(1, 1));
        let negative = negative.index(&[Some(&anchor), Some(&positive)]);
        Triplets { anchor, positive, negative }
    })
}

/// What [`every_pair`] chose, for every cell (a, p) of some anchors.
pub(crate) struct Choice {
    /// int64 `[A, B]`: the negative's row; meaningless where not `kept`.
    pub negative: Tensor,
    /// bool `[A, B]`: the pair has a negative by the rule.
    pub kept: Tensor,
}

/// The choice behind [`every_pair`], without a wait for the device: the negatives of each anchor are sorted once, and
/// where each pair's window begins and ends among them is found by bisection.
pub(crate) fn choose(dist: &Tensor, masks: &Masks, margin: f64, rule: Negative) -> Choice {
    let dist = widen(dist);
    // The sort is stable, so that equal distances keep the lower index first. Positives go last, as infinity.
    let (sorted, order) = dist.masked_fill(&masks.negative.logical_not(), f64::INFINITY).sort_stable(true, 1, false);
    let bisect = |values: &Tensor, right: bool| {
        values.searchsorted(&sorted, false, right, if right { "right" } else { "left" }, None::<Tensor>)
    };
    // Negatives at d_ap or nearer; negatives nearer than d_ap + m; all of them that are numbers.
    let reached = || bisect(&dist, true);
    let within = || bisect(&(&dist + margin), false);
    let all = || masks.negative.logical_and(&dist.isnan().logical_not()).sum_dim_intlist(1, true, Kind::Int64);
    let (chosen, count) = match rule {
        Negative::SemiHard(Pick::Nearest) => {
            let low = reached();
            let count = within() - &low;
            (low, count)
        }
        Negative::SemiHard(Pick::Random(seed)) => {
            let low = reached();
            let count = (within() - &low).clamp_min(0);
            (low + below(&count, masks.first, seed), count)
        }
        Negative::Violating(seed) => {
            let count = within().minimum(&all());
            (below(&count, masks.first, seed), count)
        }
        Negative::Addons => {
            let finite = masks.negative.logical_and(&dist.isfinite()).sum_dim_intlist(1, true, Kind::Int64);
            let farthest = sorted.gather(1, &(&finite - 1).clamp_min(0), false);
            // Where the farthest begin, the lower index first.
            (reached().minimum(&bisect(&farthest, false)), finite.expand_as(&dist))
        }
        Negative::Hardest => (dist.zeros_like().to_kind(Kind::Int64), all().expand_as(&dist)),
    };
    let last = sorted.size()[1] - 1;
    let negative = if last < 0 { order } else { order.gather(1, &chosen.clamp(0, last), false) };
    // A NaN pair compares with nothing; without this its window would start at the end and be empty anyway.
    let kept = masks.positive.logical_and(&count.gt(0)).logical_and(&dist.isfinite());
    Choice { negative, kept }
}

/// For each cell of int64 `count` `[A, B]`, rows from `first` on of `[B, B]`, a number in `0..count` (0 where count is 0),
/// from the seed and the cell's place in the whole alone: integer hashing (SplitMix64's steps on wrapping int64), so equal
/// on every device and in every share.
fn below(count: &Tensor, first: i64, seed: u64) -> Tensor {
    let shift_right =
        |x: &Tensor, by: i64| x.bitwise_right_shift_tensor_scalar(by).bitwise_and((1_i64 << (64 - by)) - 1);
    let cell = Tensor::arange(count.numel() as i64, (Kind::Int64, count.device())).view_as(count);
    let cell = cell + first * count.size()[1];
    let x = cell * 0x9e37_79b9_7f4a_7c15_u64 as i64 + crate::seed::mix(seed) as i64;
    let x = x.bitwise_xor_tensor(&shift_right(&x, 30)) * 0xbf58_476d_1ce4_e5b9_u64 as i64;
    let x = x.bitwise_xor_tensor(&shift_right(&x, 27)) * 0x94d0_49bb_1331_11eb_u64 as i64;
    let x = x.bitwise_xor_tensor(&shift_right(&x, 31));
    // 31 random bits times count, shifted back: a fair draw to one part in 2³¹ / B.
    (shift_right(&x, 33) * count).bitwise_right_shift_tensor_scalar(31)
}
