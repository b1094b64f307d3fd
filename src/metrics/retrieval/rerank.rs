//! Re-ranking with k-reciprocal encoding (Zhong et al., CVPR 2017, arXiv 1701.08398), on sparse neighbour lists.

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::distances::{Distances, for_blocks, for_distances};
use crate::distance::Metric;
use crate::real::{Real, numbers, wide};

/// k-reciprocal re-ranked distances `[Q, G]` of `query` `[Q, D]` to `gallery` `[G, D]`; the authors' values are
/// k1 = 20, k2 = 6, lambda = 0.3.
///
/// As the authors' program computes it: squared Euclidean distance over the joint set of Q + G, each row divided by its
/// largest entry; R(i) = mutual neighbours among the first k1 + 1 (a point is the first neighbour of itself), joined with
/// the mutual neighbours among the first round(k1 / 2) + 1 of each member when more than 2/3 of these are in R(i); V_i =
/// exp(-d) over that set, divided by its sum; V_i replaced by the mean over the first k2 neighbours; Jaccard distance
/// 1 - s / (2 - s) with s = sum min(V_i, V_j); result (1 - lambda) Jaccard + lambda d. `round` takes a half to the even
/// number, as numpy does. Equal distances rank by index.
///
/// Where the authors hold several dense (Q + G)^2 matrices, this holds the neighbour lists: memory is O((Q + G)(D + k1 k2))
/// and the result. Neighbours are found in f32 (f64 for f64 input) and then ordered by distances computed in f64, so
/// the lists are exact. A row that isn't finite is nobody's neighbour, and its distances are infinite. The result has the
/// kind of the computation and the device of `query`.
///
/// # Panics
/// When the widths differ, or k2 is 0.
pub fn rerank(query: &Tensor, gallery: &Tensor, k1: usize, k2: usize, lambda: f64) -> Tensor {
    let (a, b) = (query.size(), gallery.size());
    assert!(a.len() == 2 && b.len() == 2 && a[1] == b[1], "embeddings must be [Q, D] and [G, D], not {a:?} and {b:?}");
    assert!(k2 > 0, "re-ranking needs k2 of at least 1");
    let kind = wide(&[query, gallery]);
    let both = [query.detach().to_kind(kind), gallery.detach().to_device(query.device()).to_kind(kind)];
    let x = Tensor::cat(&both, 0);
    let out = match kind {
        Kind::Double => run::<f64>(&x, a[0] as usize, k1, k2, lambda),
        _ => run::<f32>(&x, a[0] as usize, k1, k2, lambda),
    };
    out.to_device(query.device())
}

/// A sparse row: (column, value), columns ascending.
type Sparse = Vec<(u32, f64)>;

fn run<T: Real>(x: &Tensor, queries: usize, k1: usize, k2: usize, lambda: f64) -> Tensor {
    let n = x.size()[0] as usize;
    let distances = Distances::new(x, x, Metric::SquaredEuclidean);
    let points = Points { rows: numbers::<T>(x), width: x.size()[1] as usize };
    let norms = numbers::<T>(&distances.norms());
    let keep = (k1 + 1).max(k2);
    let near = for_distances(n, n, &distances, |i, row: &mut [T]| neighbours(i, row, keep, &points, norms[i].into()));
    let far: Vec<f64> = near.iter().map(|(_, far)| *far).collect();
    let lists: Vec<&[u32]> = near.iter().map(|(list, _)| list.as_slice()).collect();

    let half = (k1 as f64 / 2.0).round_ties_even() as usize;
    let narrow: Vec<Vec<u32>> = (0..n).into_par_iter().map(|i| mutual(&lists, i, half + 1)).collect();
    let weights: Vec<Sparse> = (0..n)
        .into_par_iter()
        .map(|i| weights(i, expanded(mutual(&lists, i, k1 + 1), &narrow), &points, far[i]))
        .collect();
    let v: Vec<Sparse> = if k2 == 1 {
        weights
    } else {
        (0..n).into_par_iter().map(|i| mean(&weights, &lists[i][..k2.min(lists[i].len())])).collect()
    };

    let columns = Columns::new(&v[queries..], n);
    let g = n - queries;
    let out = Tensor::zeros([queries as i64, g as i64], (distances.kind(), Device::Cpu));
    let answer = |i: usize, row: &mut [T]| {
        let mut shared = vec![0.0f64; g];
        for &(c, vi) in &v[i] {
            for &(j, vj) in columns.get(c) {
                shared[j as usize] += vi.min(vj);
            }
        }
        let share = lambda * scaled(1.0, far[i]);
        for (d, s) in row.iter_mut().zip(shared) {
            let jaccard = if s == 0.0 { 1.0 } else { 1.0 - s / (2.0 - s) };
            // A share of zero must neither turn an infinite distance into NaN nor hide it.
            let near: f64 = (*d).into();
            *d = T::of(if near.is_finite() { (1.0 - lambda) * jaccard + share * near } else { f64::INFINITY });
        }
    };
    let gallery = distances.columns(queries, g);
    for_blocks(
        queries,
        g,
        |from, h| gallery.rows(from, h),
        answer,
        |from, block: &[T]| {
            let h = (block.len() / g) as i64;
            out.narrow(0, from as i64, h).copy_(&Tensor::from_slice(block).reshape([h, g as i64]));
        },
    );
    out
}

/// Distance over the largest of its row; 0 where all points are one.
fn scaled(d: f64, far: f64) -> f64 {
    if far > 0.0 { d / far } else { 0.0 }
}

struct Points<T> {
    rows: Vec<T>,
    width: usize,
}

impl<T: Real> Points<T> {
    fn row(&self, i: usize) -> &[T] {
        &self.rows[i * self.width..(i + 1) * self.width]
    }

    /// Squared Euclidean distance, from differences, in f64.
    fn squared(&self, i: usize, j: usize) -> f64 {
        let (a, b) = (self.row(i), self.row(j));
        let square = |a: T, b: T| {
            let d: f64 = a.into() - b.into();
            d * d
        };
        // Four sums: a single one would wait for each addition.
        let (fours_a, rest_a) = a.as_chunks::<4>();
        let (fours_b, rest_b) = b.as_chunks::<4>();
        let mut sum = [0.0; 4];
        for (a, b) in fours_a.iter().zip(fours_b) {
            for k in 0..4 {
                sum[k] += square(a[k], b[k]);
            }
        }
        let rest: f64 = rest_a.iter().zip(rest_b).map(|(&a, &b)| square(a, b)).sum();
        sum.iter().sum::<f64>() + rest
    }
}

/// The first `keep` neighbours of `i`, itself first, and its largest distance.
///
/// `row` holds rounded distances. With x, y from the centre their error is below (D + 4) eps (|x|^2 + |y|^2), and a y
/// within distance r of x has |y| <= |x| + r; so all that can be among the first are measured again, exactly.
fn neighbours<T: Real>(i: usize, row: &mut [T], keep: usize, points: &Points<T>, norm: f64) -> (Vec<u32>, f64) {
    let others = (keep - 1).min(row.len() - 1);
    row[i] = T::ZERO;
    let mut far = T::ZERO;
    for d in row.iter_mut() {
        *d = if d.finite() { *d } else { T::INFINITY };
        far = if d.finite() && *d > far { *d } else { far };
    }
    row[i] = T::INFINITY; // itself comes first whatever the distances are
    let mut nearest = vec![T::INFINITY; others]; // ascending
    let Some(mut last) = nearest.last().copied() else { return (vec![i as u32], far.into()) };
    for &d in row.iter() {
        if d < last {
            let at = nearest.partition_point(|&e| e <= d);
            nearest.copy_within(at..others - 1, at + 1);
            nearest[at] = d;
            last = nearest[others - 1];
        }
    }
    let last: f64 = last.into();
    let slack = (points.width + 4) as f64 * T::EPSILON * (norm + (norm.sqrt() + last.sqrt()).powi(2));
    let reach = T::of((last + 2.0 * slack) * (1.0 + T::EPSILON));
    let mut exact: Vec<(f64, u32)> = row
        .iter()
        .enumerate()
        .filter(|&(_, &d)| d <= reach && d.finite())
        .map(|(j, _)| (points.squared(i, j), j as u32))
        .collect();
    exact.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    exact.truncate(others);
    (std::iter::once(i as u32).chain(exact.into_iter().map(|(_, j)| j)).collect(), far.into())
}

/// Those of the first `k` neighbours of `i` that have `i` among their first `k`.
fn mutual(lists: &[&[u32]], i: usize, k: usize) -> Vec<u32> {
    let first = |i: usize| &lists[i][..k.min(lists[i].len())];
    first(i).iter().copied().filter(|&j| first(j as usize).contains(&(i as u32))).collect()
}

/// R(i) joined with the sets of its members that mostly lie in it.
fn expanded(near: Vec<u32>, narrow: &[Vec<u32>]) -> Vec<u32> {
    let mut all = near.clone();
    for &j in &near {
        let set = &narrow[j as usize];
        let common = set.iter().filter(|&c| near.contains(c)).count();
        if 3 * common > 2 * set.len() {
            all.extend(set);
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn weights<T: Real>(i: usize, set: Vec<u32>, points: &Points<T>, far: f64) -> Sparse {
    // Its distance to itself is 0 even where the row isn't finite.
    let d = |j: u32| if j as usize == i { 0.0 } else { scaled(points.squared(i, j as usize), far) };
    let mut row: Sparse = set.into_iter().map(|j| (j, (-d(j)).exp())).collect();
    let sum: f64 = row.iter().map(|(_, w)| w).sum();
    row.iter_mut().for_each(|(_, w)| *w /= sum);
    row
}

/// Mean of sparse rows.
fn mean(rows: &[Sparse], of: &[u32]) -> Sparse {
    let mut all: Sparse = of.iter().flat_map(|&j| &rows[j as usize]).copied().collect();
    all.sort_by_key(|&(c, _)| c);
    all.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    all.iter_mut().for_each(|(_, w)| *w /= of.len() as f64);
    all
}

/// Sparse rows by column: (row, value) of each entry.
struct Columns {
    start: Vec<usize>,
    entries: Vec<(u32, f64)>,
}

impl Columns {
    fn new(rows: &[Sparse], width: usize) -> Self {
        let mut start = vec![0usize; width + 1];
        for &(c, _) in rows.iter().flatten() {
            start[c as usize + 1] += 1;
        }
        for c in 0..width {
            start[c + 1] += start[c];
        }
        let mut at = start.clone();
        let mut entries = vec![(0, 0.0); start[width]];
        for (j, row) in rows.iter().enumerate() {
            for &(c, w) in row {
                entries[at[c as usize]] = (j as u32, w);
                at[c as usize] += 1;
            }
        }
        Columns { start, entries }
    }

    fn get(&self, c: u32) -> &[(u32, f64)] {
        &self.entries[self.start[c as usize]..self.start[c as usize + 1]]
    }
}
