//! Batch all and every pair, row by row of the distance matrix.
//!
//! Two matrix products (distances, gradient) and between them one pass over B² numbers, in place. An anchor's positives
//! are few, so that comparing each with all entries of the row is several times faster than sorting the row. Of some
//! anchors alone, and of batches whose matrix is large, it goes by blocks of anchors, with a third product.

use std::ops::Range;

use multiversion::multiversion;
use tch::{Kind, Tensor};

use super::{LANES, Outcome, Pull, blocks, each_row, finite, first, here, least, total, whole};
use crate::distance::Metric;
use crate::mining::{Groups, Negative, Pick};
use crate::real::{Real, in_place};

/// What is summed.
#[derive(Debug, Clone, Copy)]
pub(in crate::losses) enum Sum {
    All(f64),
    EveryPair(f64, Negative),
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
struct Scratch<T> {
    negative: Vec<i32>,
    count: Vec<i32>,
    weight: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new(batch: usize) -> Scratch<T> {
        Scratch { negative: vec![0; batch], count: vec![0; batch], weight: vec![T::ZERO; batch] }
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
#[multiversion(targets("x86_64+avx2"))]
fn share<T: Real>(batch: &Batch<'_, T>, a: usize, row: &mut [T], scratch: &mut Scratch<T>) -> Share {
    let Scratch { negative, count, weight } = scratch;
    batch.distances(a, row);
    // A NaN anywhere makes the sum NaN, whatever reads it.
    let mut share = Share { value: if finite(row) { 0. } else { f64::NAN }, ..Share::default() };
    let own = batch.groups.group[a];
    let same = &batch.groups.members[own as usize];
    weight.fill(T::ZERO);
    if same.len() > 1 && same.len() < row.len() {
        negative.iter_mut().zip(&batch.groups.group).for_each(|(n, &group)| *n = i32::from(group != own));
        let anchor = Anchor { a, row, same, negative };
        match batch.sum {
            Sum::All(m) => anchor.all(T::of(m), count, weight, &mut share),
            Sum::EveryPair(m, rule) => anchor.every_pair(T::of(m), rule, weight, &mut share),
        }
    }
    match batch.metric {
        // ∂d/∂x = (x - y) / d, and 0 at d = 0.
        Metric::Euclidean => row.iter_mut().zip(&*weight).for_each(|(d, &w)| {
            let slope = w / *d;
            *d = if *d == T::ZERO { T::ZERO } else { slope };
        }),
        // ∂d/∂x = 2 (x - y)
        Metric::SquaredEuclidean => row.iter_mut().zip(&*weight).for_each(|(d, &w)| *d = w + w),
        // d = 1 - x·y
        Metric::Cosine => row.copy_from_slice(weight),
    }
    share
}

impl<T: Real> Batch<'_, T> {
    /// Scalar products with row `a` to distances, by the rules of `distance`.
    #[inline(always)]
    fn distances(&self, a: usize, row: &mut [T]) {
        if self.metric == Metric::Cosine {
            return row.iter_mut().for_each(|d| *d = T::of(1.) - *d);
        }
        let own = self.squares[a];
        for (d, &other) in row.iter_mut().zip(self.squares) {
            let lengths = own + other;
            let squared = lengths - (*d + *d);
            *d = if squared <= lengths * T::ROUNDING { T::ZERO } else { squared };
        }
        if self.metric == Metric::Euclidean {
            row.iter_mut().for_each(|d| *d = d.root());
        }
    }
}

/// Takes a negative's count from its weight; what the sum loses by it.
#[inline(always)]
fn subtract<T: Real>(d: T, count: i32, weight: &mut T) -> f64 {
    *weight = *weight - T::of(f64::from(count));
    f64::from(count) * d.into()
}

/// One row of the matrix.
struct Anchor<'a, T> {
    a: usize,
    row: &'a [T],
    /// Rows of the anchor's identity, itself among them.
    same: &'a [usize],
    /// 1 for rows of other identities.
    negative: &'a [i32],
}

impl<T: Real> Anchor<'_, T> {
    fn positives(&self) -> impl Iterator<Item = usize> + '_ {
        self.same.iter().copied().filter(|&p| p != self.a)
    }

    /// The smallest entry of a negative that is above `floor` (of all negatives where it is None), infinity where there
    /// is none.
    #[inline(always)]
    fn nearest_above(&self, floor: Option<T>) -> T {
        match floor {
            None => least(self.row, self.negative, |d, other| if other != 0 { d } else { T::INFINITY }),
            Some(floor) => {
                least(self.row, self.negative, |d, other| if (other != 0) & (d > floor) { d } else { T::INFINITY })
            }
        }
    }

    #[inline(always)]
    fn all(&self, m: T, count: &mut [i32], weight: &mut [T], share: &mut Share) {
        count.fill(0);
        let negatives = (self.row.len() - self.same.len()) as i64;
        for p in self.positives() {
            let reach = self.row[p] + m;
            let mut added = 0;
            for ((&d, &n), count) in self.row.iter().zip(self.negative).zip(count.iter_mut()) {
                // Wrapping: an overflow check (B is below 2³¹) would keep this from being vectorised.
                let violated = i32::from(reach > d) & n;
                *count = count.wrapping_add(violated);
                added = i32::wrapping_add(added, violated);
            }
            weight[p] = T::of(f64::from(added));
            share.value += f64::from(added) * (self.row[p].into() + m.into());
            share.active += i64::from(added);
            share.terms += negatives;
        }
        // Positives have no count, and a distance that is not finite has made the sum NaN already.
        let mut lanes = [0_f64; LANES];
        let ((d, d_rest), (count, count_rest)) = (self.row.as_chunks::<LANES>(), count.as_chunks::<LANES>());
        let (weight, weight_rest) = weight.as_chunks_mut::<LANES>();
        for ((d, count), weight) in d.iter().zip(count).zip(weight) {
            for lane in 0..LANES {
                lanes[lane] += subtract(d[lane], count[lane], &mut weight[lane]);
            }
        }
        for (lane, ((&d, &count), weight)) in d_rest.iter().zip(count_rest).zip(weight_rest).enumerate() {
            lanes[lane] += subtract(d, count, weight);
        }
        share.value -= lanes.iter().sum::<f64>();
    }

    #[inline(always)]
    fn every_pair(&self, m: T, rule: Negative, weight: &mut [T], share: &mut Share) {
        // The rows of the negatives, ascending, for many positives: sorted once. NaN, which has no order, stays out: the
        // loss is NaN then anyway.
        let sorted = (self.same.len() > 256).then(|| {
            let mut entries: Vec<(T, usize)> = (0..self.row.len())
                .map(|n| (self.row[n], n))
                .filter(|&(d, n)| self.negative[n] != 0 && d.partial_cmp(&d).is_some())
                .collect();
            entries.sort_by(|x, y| x.0.partial_cmp(&y.0).unwrap_or(std::cmp::Ordering::Equal).then(x.1.cmp(&y.1)));
            entries
        });
        let nearest = match rule {
            Negative::Hardest => Some(self.nearest_above(None)),
            _ => None,
        };
        for p in self.positives() {
            let d_ap = self.row[p];
            if d_ap.partial_cmp(&d_ap).is_none() {
                continue;
            }
            let mut d_an = nearest.unwrap_or_else(|| match &sorted {
                Some(sorted) => {
                    let at = sorted.partition_point(|(d, _)| *d <= d_ap);
                    sorted.get(at).map_or(T::INFINITY, |(d, _)| *d)
                }
                None => self.nearest_above(Some(d_ap)),
            });
            let found = d_an < T::INFINITY;
            match rule {
                Negative::SemiHard(_) if !found || d_an >= d_ap + m => continue,
                Negative::Addons if !found => {
                    let farthest = (0..self.row.len()).filter(|&n| self.negative[n] != 0).map(|n| self.row[n]);
                    let farthest = farthest.fold(None, |far: Option<T>, d| match far {
                        Some(far) if far > d => Some(far),
                        _ => Some(d),
                    });
                    let Some(farthest) = farthest else { continue };
                    d_an = farthest;
                }
                _ if !found => continue,
                _ => {}
            }
            share.terms += 1;
            let gap: f64 = (d_ap + m).into() - d_an.into();
            if gap > 0. {
                let Some(n) = first(self.row, self.negative, |d, other| (other != 0) & (d == d_an)) else { continue };
                share.active += 1;
                share.value += d_ap.into() + m.into() - d_an.into();
                weight[p] = weight[p] + T::of(1.);
                weight[n] = weight[n] + T::of(-1.);
            }
        }
    }
}
