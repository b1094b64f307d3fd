//! Batch all, every pair and the lifted structure, row by row of the distance matrix.
//!
//! Two matrix products (distances, gradient) and between them some passes over each row, in place. An anchor's positives
//! are few, so that comparing each with all entries of the row is several times faster than sorting the row. Of some
//! anchors alone, and of batches whose matrix is large, it goes by blocks of anchors, with a third product.

use std::ops::Range;

use multiversion::multiversion;
use tch::{Kind, Tensor};

use super::{LANES, Outcome, Pull, blocks, each_row, first, here, least, total, whole};
use crate::distance::Metric;
use crate::mining::{Groups, Negative, Pick};
use crate::real::{Real, in_place};

/// What is summed.
#[derive(Debug, Clone, Copy)]
pub(in crate::losses) enum Sum {
    All(f64),
    EveryPair(f64, Negative),
    Lifted(f64),
}

/// `sum` on the distances by `metric` between the rows `anchors` and all rows of `x` `[B, D]` (CPU, f32 or f64, unit rows
/// for the cosine) with int64 `labels` `[B]`; None where this routine doesn't serve: another device or kind, no rows, or a random pick.
pub(in crate::losses) fn weighted(
    x: &Tensor,
    labels: &Tensor,
    metric: Metric,
    sum: Sum,
    anchors: &Range<i64>,
) -> Option<Outcome> {
    let served = !matches!(sum, Sum::EveryPair(_, Negative::SemiHard(Pick::Random(_)) | Negative::Violating(_)));
    if !served || !here(x, labels) {
        return None;
    }
    match x.kind() {
        Kind::Float => Some(over_rows::<f32>(x, labels, metric, sum, anchors)),
        Kind::Double => Some(over_rows::<f64>(x, labels, metric, sum, anchors)),
        _ => None,
    }
}

/// A row's share of the result.
#[derive(Default, Clone, Copy)]
struct Share {
    value: f64,
    terms: i64,
    active: i64,
}

/// What all rows of a batch share.
struct Batch<'a, T> {
    groups: &'a Groups,
    /// The squared length of each row.
    squares: &'a [T],
    metric: Metric,
    sum: Sum,
}

/// What one row needs beside the matrix.
struct Scratch<T: Real> {
    /// The anchor's positives and their distances.
    positives: Vec<(usize, T)>,
    /// The derivative of the sum with respect to each distance.
    weight: Vec<T>,
    /// Where each distance stands in the order of numbers.
    order: Vec<T::Order>,
    nearest: Vec<Nearest<T::Order>>,
}

/// The nearest negative beyond a distance.
struct Nearest<O> {
    /// Where that distance stands in the order of numbers.
    floor: O,
    /// How many numbers lie between the two.
    between: O,
    /// The first part of the row that has such a negative.
    part: usize,
}

impl<T: Real> Scratch<T> {
    fn new(batch: usize) -> Scratch<T> {
        let (weight, order) = (vec![T::ZERO; batch], vec![T::ZERO.order(); batch]);
        Scratch { positives: Vec::new(), weight, order, nearest: Vec::new() }
    }
}

fn over_rows<T: Real>(x: &Tensor, labels: &Tensor, metric: Metric, sum: Sum, anchors: &Range<i64>) -> Outcome {
    let batch = x.size()[0] as usize;
    let groups = Groups::of(labels, batch);
    // About the mean: a common offset costs no digits.
    let rows = if metric == Metric::Cosine { x.shallow_clone() } else { x - x.mean_dim(0, true, None::<Kind>) };
    let differences = metric != Metric::Cosine;
    // In order of rows, so that the last bit does not depend on the threads.
    let pass = |table: &mut [T], first: i64, squares: &[T]| {
        let shared = Batch { groups: &groups, squares, metric, sum };
        let each = |scratch: &mut _, i, row: &mut [T]| share(&shared, first as usize + i, row, scratch);
        each_row(table, batch, || Scratch::new(batch), each)
    };
    // Scalar products, then distances, then what the gradient takes of each pair of rows.
    let (gradient, shares) = if whole(anchors, batch) {
        let mut pairs = rows.matmul(&rows.tr());
        let table = in_place::<T>(&mut pairs);
        let squares: Vec<T> = table.iter().step_by(batch + 1).copied().collect();
        let shares = pass(table, 0, &squares);
        both_ways(table, batch, differences);
        (pairs.matmul(&rows), shares)
    } else {
        let mut squares = squares(&rows);
        let squares = in_place::<T>(&mut squares);
        let (mut shares, mut pull) = (Vec::new(), Pull::new(&rows));
        for block in blocks(anchors, batch) {
            let mut pairs = rows.narrow(0, block.start, block.end - block.start).matmul(&rows.tr());
            shares.extend(pass(in_place(&mut pairs), block.start, squares));
            pull.add(&pairs, &block);
        }
        (pull.gradient(differences), shares)
    };
    let count = |of: fn(&Share) -> i64| shares.iter().map(of).sum();
    let value = shares.iter().map(|share| share.value).sum();
    Outcome::new(gradient, value, count(|share| share.terms), count(|share| share.active))
}

/// The squared length of each row by the product that distances come from: another sum rounds otherwise, and of nearly equal
/// negatives a share would choose another than the whole.
fn squares(rows: &Tensor) -> Tensor {
    let (n, most) = (rows.size()[0], 64);
    let tile = |from: i64| {
        // The last tile is as high as the others: few rows are multiplied, and rounded, in another way.
        let own = rows.narrow(0, from.min((n - most).max(0)), most.min(n));
        own.matmul(&own.tr()).diagonal(0, 0, 1).narrow(0, (from - (n - most).max(0)).max(0), most.min(n - from))
    };
    Tensor::cat(&(0..n).step_by(most as usize).map(tile).collect::<Vec<_>>(), 0)
}

/// From p_ij, half of what row i takes from row j, the matrix whose product with the rows is the gradient: -(p_ij +
/// p_ji), and, where distances are of differences, on the diagonal what makes a row's sum 0: Σ_j (p_ij + p_ji)(x_i - x_j).
fn both_ways<T: Real>(table: &mut [T], n: usize, differences: bool) {
    // In squares, so that both halves stay in the cache.
    const SIDE: usize = 32;
    for top in (0..n).step_by(SIDE) {
        for left in (top..n).step_by(SIDE) {
            let (right, bottom) = ((left + SIDE).min(n), (top + SIDE).min(n));
            for i in top..bottom {
                for j in left.max(i + 1)..right {
                    let both = -(table[i * n + j] + table[j * n + i]);
                    table[i * n + j] = both;
                    table[j * n + i] = both;
                }
            }
        }
    }
    for (i, row) in table.chunks_mut(n).enumerate() {
        row[i] = T::ZERO;
        if differences {
            row[i] = -total(row);
        }
    }
}

/// `row` holds anchor `a`'s scalar products with all rows, and then half of what its gradient takes from each.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn share<T: Real>(batch: &Batch<'_, T>, a: usize, row: &mut [T], scratch: &mut Scratch<T>) -> Share {
    let mut share = Share::default();
    if !batch.distances(a, row) {
        // Whatever reads it: an optimiser must not take what is broken for a step of nothing.
        row.fill(T::of(f64::NAN));
        return Share { value: f64::NAN, ..share };
    }
    let same = &batch.groups.members[batch.groups.group[a] as usize];
    if same.len() == 1 || same.len() == row.len() {
        row.fill(T::ZERO);
        return share;
    }
    scratch.positives.clear();
    scratch.positives.extend(same.iter().filter(|&&p| p != a).map(|&p| (p, row[p])));
    // Farther than every negative: what looks for near ones needs no mask.
    for &p in same {
        row[p] = T::INFINITY;
    }
    scratch.weight.fill(T::ZERO);
    match batch.sum {
        Sum::All(m) => {
            share.terms = ((same.len() - 1) * (row.len() - same.len())) as i64;
            share.active = all(row, T::of(m), &scratch.positives, &mut scratch.weight);
        }
        Sum::EveryPair(m, rule) => every_pair(row, T::of(m), rule, scratch, &mut share),
        Sum::Lifted(m) => lifted(row, m, &scratch.positives, &mut scratch.weight, &mut share),
    }
    for &(p, d) in &scratch.positives {
        row[p] = d;
    }
    row[a] = T::ZERO;
    let weight = &scratch.weight;
    if let Sum::All(m) | Sum::EveryPair(m, _) = batch.sum {
        // The active terms are linear in the distances.
        share.value = share.active as f64 * m + sum_of(row, weight, |d, w| d.into() * w.into());
    }
    match batch.metric {
        // ∂d/∂x = (x - y) / d, and 0 at d = 0.
        Metric::Euclidean => put(row, weight, |d, w| {
            let slope = w / d;
            if d == T::ZERO { T::ZERO } else { slope }
        }),
        // ∂d/∂x = 2 (x - y)
        Metric::SquaredEuclidean => put(row, weight, |_, w| w + w),
        // d = 1 - x·y
        Metric::Cosine => put(row, weight, |_, w| w),
    };
    share
}

impl<T: Real> Batch<'_, T> {
    /// Scalar products with row `a` to distances, by the rules of `distance`; whether all of them are finite.
    #[inline(always)]
    fn distances(&self, a: usize, row: &mut [T]) -> bool {
        let own = self.squares[a];
        match self.metric {
            Metric::Euclidean => put(row, self.squares, |product, other| squared(product, own + other).root()),
            Metric::SquaredEuclidean => put(row, self.squares, |product, other| squared(product, own + other)),
            Metric::Cosine => put(row, self.squares, |product, _| T::of(1.) - product),
        }
    }
}

/// The squared distance of two rows, the sum of whose squared lengths is `lengths`.
#[inline(always)]
fn squared<T: Real>(product: T, lengths: T) -> T {
    let squared = lengths - (product + product);
    if squared <= lengths * T::ROUNDING { T::ZERO } else { squared }
}

/// `of(row[i], also[i])` in place of each entry; whether all of them are finite.
#[inline(always)]
fn put<T: Real>(row: &mut [T], also: &[T], of: impl Fn(T, T) -> T) -> bool {
    // Counted in numbers as wide as an f32: truths would be packed at each step.
    let mut broken = 0_i32;
    for (x, &other) in row.iter_mut().zip(also) {
        *x = of(*x, other);
        broken = broken.wrapping_add(i32::from(!x.finite()));
    }
    broken == 0
}

/// The sum of `of(x[i], also[i])`.
#[inline(always)]
fn sum_of<T: Copy>(x: &[T], also: &[T], of: impl Fn(T, T) -> f64) -> f64 {
    let mut lanes = [0.; LANES];
    let ((x, x_rest), (also, also_rest)) = (x.as_chunks::<LANES>(), also.as_chunks::<LANES>());
    for (x, also) in x.iter().zip(also) {
        for lane in 0..LANES {
            lanes[lane] += of(x[lane], also[lane]);
        }
    }
    let rest: f64 = x_rest.iter().zip(also_rest).map(|(&x, &also)| of(x, also)).sum();
    lanes.iter().sum::<f64>() + rest
}

/// Entries of a part of a row, which stays in the nearest cache while all positives go over it.
const PART: usize = 2048;
/// Positives that go over it at once, each with a vector register for its count or minimum.
const TOGETHER: usize = 4;

/// The weights of batch all on the distances `row`, infinite but to negatives; how many triplets are active.
#[inline(always)]
fn all<T: Real>(row: &[T], m: T, positives: &[(usize, T)], weight: &mut [T]) -> i64 {
    let mut active = 0;
    for start in (0..row.len()).step_by(PART) {
        let end = row.len().min(start + PART);
        for group in positives.chunks(TOGETHER) {
            let reach = std::array::from_fn(|k| group.get(k).map_or(-T::INFINITY, |&(_, d)| d + m));
            let added = violated(&row[start..end], reach, &mut weight[start..end]);
            for (&(p, _), added) in group.iter().zip(added) {
                weight[p] = weight[p] + T::of(f64::from(added));
                active += i64::from(added);
            }
        }
    }
    active
}

/// How many distances each of `reach` is beyond; how many of these are beyond a distance is taken from its weight.
#[inline(always)]
fn violated<T: Real>(row: &[T], reach: [T; TOGETHER], weight: &mut [T]) -> [i32; TOGETHER] {
    let mut added = [0_i32; TOGETHER];
    for (&d, weight) in row.iter().zip(weight) {
        let mut count = 0_i32;
        for k in 0..TOGETHER {
            // Wrapping: an overflow check (B is below 2³¹) would keep this from being vectorised.
            let violated = i32::from(reach[k] > d);
            added[k] = added[k].wrapping_add(violated);
            count = count.wrapping_add(violated);
        }
        *weight = *weight - T::of(f64::from(count));
    }
    added
}

/// The weights of every pair on the distances `row`, infinite but to negatives.
#[inline(always)]
fn every_pair<T: Real>(row: &[T], m: T, rule: Negative, scratch: &mut Scratch<T>, share: &mut Share) {
    let Scratch { positives, weight, order, nearest } = scratch;
    for (order, &d) in order.iter_mut().zip(row) {
        *order = d.order();
    }
    nearest.clear();
    let beyond = |d: T| Nearest { floor: d.order(), between: d.order(), part: 0 };
    match rule {
        // One for all positives.
        Negative::Hardest => nearest.push(beyond(-T::INFINITY)),
        _ => nearest.extend(positives.iter().map(|&(_, d)| beyond(d))),
    }
    for (part, order) in order.chunks(PART).enumerate() {
        for group in nearest.chunks_mut(TOGETHER) {
            let floors = std::array::from_fn(|k| group.get(k).unwrap_or(&group[0]).floor);
            for (near, between) in group.iter_mut().zip(least_beyond::<T>(order, floors)) {
                if part == 0 || between < near.between {
                    (near.between, near.part) = (between, part);
                }
            }
        }
    }
    let mut far = None;
    for (i, &(p, d_ap)) in positives.iter().enumerate() {
        let reach = d_ap + m;
        // At infinity where no negative is beyond d_ap.
        let mut n = place::<T>(order, &nearest[i.min(nearest.len() - 1)]);
        match rule {
            Negative::SemiHard(_) if row[n] >= reach => continue,
            Negative::Addons if row[n] == T::INFINITY => {
                n = *far.get_or_insert_with(|| farthest(row));
            }
            _ => {}
        }
        share.terms += 1;
        if reach > row[n] {
            share.active += 1;
            weight[p] = weight[p] + T::of(1.);
            weight[n] = weight[n] - T::of(1.);
        }
    }
}

/// The farthest negative of the distances `row`, the lowest of equals.
fn farthest<T: Real>(row: &[T]) -> usize {
    let negatives = (0..row.len()).filter(|&n| row[n] < T::INFINITY);
    negatives.reduce(|far, n| if row[n] > row[far] { n } else { far }).expect("an anchor with a negative")
}

/// Of each of `floors` how many numbers lie between it and the least of `order` beyond it; more where none is.
#[inline(always)]
fn least_beyond<T: Real>(order: &[T::Order], floors: [T::Order; TOGETHER]) -> [T::Order; TOGETHER] {
    let mut least = floors;
    for k in 0..TOGETHER {
        least[k] = T::between(floors[k], order[0]);
    }
    for &at in order {
        for k in 0..TOGETHER {
            least[k] = least[k].min(T::between(floors[k], at));
        }
    }
    least
}

/// The row that `near` stands for, the lowest of equals.
#[inline(always)]
fn place<T: Real>(order: &[T::Order], near: &Nearest<T::Order>) -> usize {
    let start = near.part * PART;
    let order = &order[start..];
    let at = first(order, order, |at, _| T::between(near.floor, at) == near.between);
    start + at.expect("the part has its least")
}

/// The lifted structure's term and weights on the distances `row`, infinite but to negatives.
#[inline(always)]
fn lifted<T: Real>(row: &[T], m: f64, positives: &[(usize, T)], weight: &mut [T], share: &mut Share) {
    // What is largest is taken out of either sum, so that neither overflows.
    let near = least(row, row, |d, _| d);
    let far = positives.iter().fold(-T::INFINITY, |far, &(_, d)| if d > far { d } else { far });
    for (weight, &d) in weight.iter_mut().zip(row) {
        *weight = (near - d).exponential();
    }
    let push = sum_of(weight, weight, |w, _| w.into());
    let pulled = |d: T| -> f64 { (d - far).exponential().into() };
    let pull: f64 = positives.iter().map(|&(_, d)| pulled(d)).sum();
    let z = far.into() + pull.ln() + (m - near.into() + push.ln());
    share.terms = 1;
    if z > 0. {
        (share.value, share.active) = (z, 1);
        let scale = T::of(-1. / push);
        for weight in weight.iter_mut() {
            *weight = *weight * scale;
        }
        for &(p, d) in positives {
            weight[p] = T::of(pulled(d) / pull);
        }
    } else {
        weight.fill(T::ZERO);
    }
}
