//! Triplet losses on the CPU, from embeddings to their gradient in one go, row by row of the distance matrix.
//!
//! The tensor forms in `triplet` serve every device; these give the same numbers where the rows are in this machine's
//! memory: two matrix products (distances, gradient) and between them one pass over B² numbers, in place. An anchor's
//! positives are few, so that comparing each with all entries of the row (which the compiler turns into vector
//! instructions) is several times faster than sorting the row.

use std::collections::HashMap;
use std::ops::{Add, Div, Mul, Neg, Sub};

use rayon::prelude::*;
use tch::{Device, Kind, Tensor, kind::Element};

use crate::distance::Metric;
use crate::mining::{Negative, Pick};

mod hardest;

pub(super) use hardest::hardest;

/// f32 and f64.
pub(super) trait Real:
    Element
    + Copy
    + PartialOrd
    + Send
    + Sync
    + Into<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    const INFINITY: Self;
    /// What the matrix product's rounding can leave of a squared distance of 0, over the two squared lengths; the
    /// same as in `distance`.
    const ROUNDING: Self;
    fn of(x: f64) -> Self;
    fn root(self) -> Self;
    fn finite(self) -> bool;
}

impl Real for f32 {
    const INFINITY: f32 = f32::INFINITY;
    const ROUNDING: f32 = 1e-6;
    #[inline(always)]
    fn of(x: f64) -> f32 {
        x as f32
    }
    #[inline(always)]
    fn root(self) -> f32 {
        self.sqrt()
    }
    #[inline(always)]
    fn finite(self) -> bool {
        self.is_finite()
    }
}

impl Real for f64 {
    const INFINITY: f64 = f64::INFINITY;
    const ROUNDING: f64 = 1e-14;
    #[inline(always)]
    fn of(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn root(self) -> f64 {
        self.sqrt()
    }
    #[inline(always)]
    fn finite(self) -> bool {
        self.is_finite()
    }
}

/// What a loss came to.
#[derive(Debug)]
pub(super) struct Found {
    /// `[B, D]`, the kind of the rows: the derivative of the sum with respect to each number.
    pub gradient: Tensor,
    /// The sum of all terms.
    pub value: f64,
    /// How many terms there are.
    pub terms: i64,
    /// How many of them are above 0.
    pub active: i64,
}

/// What is summed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    All(f64),
    EveryPair(f64, Negative),
}

/// `form` on the distances by `metric` between the rows of `x` `[B, D]` (CPU, f32 or f64, unit rows for the cosine) with
/// int64 `labels` `[B]`; None where this routine doesn't serve: another device or kind, no rows, or a random pick.
pub(super) fn weighed(x: &Tensor, labels: &Tensor, metric: Metric, form: Form) -> Option<Found> {
    let served = !matches!(form, Form::EveryPair(_, Negative::SemiHard(Pick::Random(_)) | Negative::Violating(_)));
    if !served || !here(x, labels) {
        return None;
    }
    match x.kind() {
        Kind::Float => Some(over_rows::<f32>(x, labels, metric, form)),
        Kind::Double => Some(over_rows::<f64>(x, labels, metric, form)),
        _ => None,
    }
}

/// Whether there are rows, in this machine's memory.
fn here(x: &Tensor, labels: &Tensor) -> bool {
    x.device() == Device::Cpu && labels.device() == Device::Cpu && x.size()[0] > 0
}

/// The numbers of a tensor that nothing else reads or writes, where they lie.
fn in_place<T: Real>(t: &mut Tensor) -> &mut [T] {
    assert!(t.device() == Device::Cpu && t.kind() == T::KIND && t.is_contiguous(), "a dense tensor on the CPU");
    // SAFETY: a contiguous tensor of this kind in this machine's memory is `numel` such numbers from `data_ptr` on, and
    // the callers made it themselves, so that it shares its memory with no other.
    unsafe { std::slice::from_raw_parts_mut(t.data_ptr().cast::<T>(), t.numel()) }
}

/// Numbers for which the thread pool is asked: waking it takes longer than fewer do.
const MANY: usize = 1 << 16;

/// Whether `count` numbers are worth the thread pool.
fn pooled(count: usize) -> bool {
    count >= MANY && rayon::current_num_threads() > 1
}

/// Who is who in a batch.
struct Groups {
    /// The identity of each row, numbered from 0: as wide as an f32, so that a row of distances and its identities go
    /// through vector registers together.
    group: Vec<i32>,
    /// The rows of each identity, ascending.
    members: Vec<Vec<usize>>,
}

impl Groups {
    fn of(labels: &Tensor, batch: usize) -> Groups {
        let labels: Vec<i64> = Vec::try_from(labels.to_kind(Kind::Int64)).unwrap_or_default();
        assert_eq!(labels.len(), batch, "one label a row");
        let mut places = HashMap::new();
        let mut groups = Groups { group: Vec::with_capacity(batch), members: Vec::new() };
        for (row, label) in labels.into_iter().enumerate() {
            let place = *places.entry(label).or_insert(groups.members.len());
            if place == groups.members.len() {
                groups.members.push(Vec::new());
            }
            groups.members[place].push(row);
            groups.group.push(place as i32);
        }
        groups
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
    form: Form,
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

fn over_rows<T: Real>(x: &Tensor, labels: &Tensor, metric: Metric, form: Form) -> Found {
    let batch = x.size()[0] as usize;
    let groups = Groups::of(labels, batch);
    // About the mean: a common offset costs no digits.
    let rows = if metric == Metric::Cosine { x.shallow_clone() } else { x - x.mean_dim(0, true, None::<Kind>) };
    // Scalar products, then distances, then what the gradient takes of each pair of rows.
    let mut pairs = rows.matmul(&rows.tr());
    let table = in_place::<T>(&mut pairs);
    let squares: Vec<T> = table.iter().step_by(batch + 1).copied().collect();
    let shared = Batch { groups: &groups, squares: &squares, metric, form };
    // In order of rows, so that the last bit does not depend on the threads.
    let shares: Vec<Share> = if pooled(batch * batch) {
        let each = |scratch: &mut Scratch<T>, (a, row): (usize, &mut [T])| shared.row(a, row, scratch);
        table.par_chunks_mut(batch).enumerate().map_init(|| Scratch::new(batch), each).collect()
    } else {
        let mut scratch = Scratch::new(batch);
        table.chunks_mut(batch).enumerate().map(|(a, row)| shared.row(a, row, &mut scratch)).collect()
    };
    both_ways(table, batch, metric != Metric::Cosine);
    let sum = |of: fn(&Share) -> i64| shares.iter().map(of).sum();
    Found {
        gradient: pairs.matmul(&rows),
        value: shares.iter().map(|share| share.value).sum(),
        terms: sum(|share| share.terms),
        active: sum(|share| share.active),
    }
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

/// Entries side by side: a compiler may not reorder one running minimum or sum, but keeps sixteen in registers.
const LANES: usize = 16;

/// The least of `of(x[i], also[i])`, infinity for an empty `x`. Chunks of one length, so that no bound is checked within.
#[inline(always)]
fn least<T: Real, A: Copy>(x: &[T], also: &[A], of: impl Fn(T, A) -> T) -> T {
    let mut lanes = [T::INFINITY; LANES];
    let ((x, x_rest), (also, also_rest)) = (x.as_chunks::<LANES>(), also.as_chunks::<LANES>());
    for (x, also) in x.iter().zip(also) {
        for lane in 0..LANES {
            let value = of(x[lane], also[lane]);
            lanes[lane] = if value < lanes[lane] { value } else { lanes[lane] };
        }
    }
    let smaller = |near: T, value: T| if value < near { value } else { near };
    let rest = x_rest.iter().zip(also_rest).map(|(&x, &also)| of(x, also)).fold(T::INFINITY, smaller);
    lanes.into_iter().fold(rest, smaller)
}

/// The sum of a row.
#[inline(always)]
fn total<T: Real>(x: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (x, rest) = x.as_chunks::<LANES>();
    for x in x {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane] + x[lane];
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(T::ZERO, |sum, x| sum + x)
}

/// The first place where `of(x[i], also[i])` holds.
#[inline(always)]
fn first<T: Copy, A: Copy>(x: &[T], also: &[A], of: impl Fn(T, A) -> bool) -> Option<usize> {
    let (chunks, _) = x.as_chunks::<LANES>();
    let (also_chunks, _) = also.as_chunks::<LANES>();
    let any = |(x, also): (&[T; LANES], &[A; LANES])| (0..LANES).fold(false, |any, lane| any | of(x[lane], also[lane]));
    let from = chunks.iter().zip(also_chunks).position(any).unwrap_or(chunks.len()) * LANES;
    let at = x[from..].iter().zip(&also[from..]).position(|(&x, &also)| of(x, also));
    at.map(|at| from + at)
}

impl<T: Real> Batch<'_, T> {
    fn row(&self, a: usize, row: &mut [T], scratch: &mut Scratch<T>) -> Share {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: this processor has AVX2.
            return unsafe { self.row_wide(a, row, scratch) };
        }
        self.row_of(a, row, scratch)
    }

    /// [`Batch::row_of`] in registers of eight, without fused multiply-add: the same numbers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn row_wide(&self, a: usize, row: &mut [T], scratch: &mut Scratch<T>) -> Share {
        self.row_of(a, row, scratch)
    }

    /// `row` holds anchor `a`'s scalar products with all rows, and then half of what its gradient takes from each.
    #[inline(always)]
    fn row_of(&self, a: usize, row: &mut [T], scratch: &mut Scratch<T>) -> Share {
        let Scratch { negative, count, weight } = scratch;
        self.distances(a, row);
        // A NaN anywhere makes the sum NaN, whatever reads it.
        let finite = row.iter().fold(true, |all, d| all & d.finite());
        let mut share = Share { value: if finite { 0. } else { f64::NAN }, ..Share::default() };
        let own = self.groups.group[a];
        let same = &self.groups.members[own as usize];
        weight.fill(T::ZERO);
        if same.len() > 1 && same.len() < row.len() {
            negative.iter_mut().zip(&self.groups.group).for_each(|(n, &group)| *n = i32::from(group != own));
            let anchor = Anchor { a, row, same, negative };
            match self.form {
                Form::All(m) => anchor.all(T::of(m), count, weight, &mut share),
                Form::EveryPair(m, rule) => anchor.every_pair(T::of(m), rule, weight, &mut share),
            }
        }
        match self.metric {
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

/// Takes a negative's count from its weight; what the sum loses by it. A function and no closure, which might stay one,
/// outside of the wide registers.
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
