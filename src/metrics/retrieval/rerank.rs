//! Re-ranking with k-reciprocal encoding (Zhong et al., CVPR 2017, arXiv 1701.08398), on sparse neighbour lists. Several
//! processes take whole blocks of rows each: of all points to find neighbours, of the queries to give distances.

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::distances::{Distances, for_blocks, for_distances, for_rows, height};
use super::{Answer, Ap, Gallery, Judged, QueryGallery, Retrieval, rows_of_one_width};
use crate::distance::Metric;
use crate::metrics::others::{Alone, Dealt, Others, Row};
use crate::real::{Real, in_place, numbers, wide};

/// The numbers of the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reciprocal {
    /// Neighbours that must be mutual.
    pub k1: usize,
    /// Neighbours whose encodings are averaged, at least 1.
    pub k2: usize,
    /// The share of the distance itself.
    pub lambda: f64,
}

impl Reciprocal {
    /// The values that the authors of re-ranking chose for Market-1501.
    pub const AUTHORS: Reciprocal = Reciprocal { k1: 20, k2: 6, lambda: 0.3 };
}

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
    let (x, queries) = (joint(query, gallery), query.size()[0] as usize);
    let how = Reciprocal { k1, k2, lambda };
    let out = match x.kind() {
        Kind::Double => whole::<f64>(x, queries, how),
        _ => whole::<f32>(x, queries, how),
    };
    out.to_device(query.device())
}

/// [`super::evaluate`] by the distances of [`rerank`], a block of queries at a time: they are never held `[Q, G]`. Every one
/// of `others` has all embeddings and gets the whole result, which is that of one process.
///
/// # Errors
/// Where another process is gone.
///
/// # Panics
/// As [`rerank`].
pub fn evaluate_reranked<O: Others>(
    of: QueryGallery<'_>,
    how: Reciprocal,
    ap: Ap,
    others: &O,
) -> Result<Retrieval, O::Error> {
    let (x, shelf) = (joint(of.query, of.gallery), of.shelf());
    let found = match x.kind() {
        Kind::Double => judged::<f64, O>(x, &shelf, how, others)?,
        _ => judged::<f32, O>(x, &shelf, how, others)?,
    };
    Ok(shelf.sum(found, ap))
}

/// Queries, then gallery.
fn joint(query: &Tensor, gallery: &Tensor) -> Tensor {
    rows_of_one_width(query, gallery);
    let kind = wide(&[query, gallery]);
    Tensor::cat(&[query.detach().to_kind(kind), gallery.detach().to_device(query.device()).to_kind(kind)], 0)
}

fn whole<T: Real>(x: Tensor, queries: usize, how: Reciprocal) -> Tensor {
    let g = x.size()[0] as usize - queries;
    let Ok(reranked) = Reranked::new::<T, _>(x, queries, how, &Alone);
    let out = Tensor::zeros([queries as i64, g as i64], (T::KIND, Device::Cpu));
    for_blocks(
        queries,
        g,
        |from, n| reranked.distances.rows(from, n),
        |i, row: &mut [T]| reranked.rerank(i, row),
        |from, block: &[T]| {
            let n = (block.len() / g) as i64;
            out.narrow(0, from as i64, n).copy_(&Tensor::from_slice(block).reshape([n, g as i64]));
        },
    );
    out
}

fn judged<T: Real, O: Others>(
    x: Tensor,
    shelf: &Gallery<'_>,
    how: Reciprocal,
    others: &O,
) -> Result<Vec<Judged>, O::Error> {
    let reranked = Reranked::new::<T, O>(x, shelf.q.len(), how, others)?;
    let own = reranked.asked.own();
    let found = for_rows(
        own.len(),
        shelf.whole,
        |from, n| reranked.distances.rows(from, n),
        |i, row: &mut [T]| {
            reranked.rerank(i, row);
            shelf.judge(own.start + i, shelf.less_junk(row))
        },
    );
    reranked.asked.gather(found, others)
}

impl Row for Judged {
    fn put(&self, numbers: &mut Vec<f64>) {
        let answer = self.0.map(|of| [of.matches as f64, of.first as f64, of.trapezoid, of.step]);
        numbers.push(self.1 as f64);
        numbers.extend(answer.unwrap_or_default());
    }

    fn take(numbers: &mut impl Iterator<Item = f64>) -> Judged {
        let mut next = || f64::take(numbers);
        let (non_finite, matches, first) = (next() as usize, next() as usize, next() as usize);
        let answer = Answer { first, matches, trapezoid: next(), step: next() };
        ((matches > 0).then_some(answer), non_finite)
    }
}

/// A sparse row: (column, value), columns ascending.
type Sparse = Vec<(u32, f64)>;

impl Row for Sparse {
    fn put(&self, numbers: &mut Vec<f64>) {
        numbers.push(self.len() as f64);
        numbers.extend(self.iter().flat_map(|&(column, value)| [f64::from(column), value]));
    }

    fn take(numbers: &mut impl Iterator<Item = f64>) -> Sparse {
        let mut next = || f64::take(numbers);
        (0..next() as usize).map(|_| (next() as u32, next())).collect()
    }
}

/// The first neighbours of a point, itself first, and its largest distance.
struct Near {
    list: Vec<u32>,
    far: f64,
}

impl Row for Near {
    fn put(&self, numbers: &mut Vec<f64>) {
        numbers.extend([self.far, self.list.len() as f64]);
        numbers.extend(self.list.iter().map(|&other| f64::from(other)));
    }

    fn take(numbers: &mut impl Iterator<Item = f64>) -> Near {
        let mut next = || f64::take(numbers);
        let (far, length) = (next(), next() as usize);
        Near { far, list: (0..length).map(|_| next() as u32).collect() }
    }
}

/// What makes re-ranked distances of the distances between this process's queries and the gallery.
struct Reranked {
    /// Of this process's queries.
    distances: Distances,
    asked: Dealt,
    /// Their encodings, and their largest distances.
    v: Vec<Sparse>,
    far: Vec<f64>,
    /// The gallery's encodings.
    columns: Columns,
    lambda: f64,
}

impl Reranked {
    /// `x` as [`joint`] gives it.
    fn new<T: Real, O: Others>(x: Tensor, queries: usize, how: Reciprocal, others: &O) -> Result<Self, O::Error> {
        let Reciprocal { k1, k2, lambda } = how;
        assert!(k2 > 0, "re-ranking needs k2 of at least 1");
        let n = x.size()[0] as usize;
        let all = Distances::among(&x, Metric::SquaredEuclidean);
        // Nobody else has its memory.
        let mut x = x.to_device(Device::Cpu);
        let width = x.size()[1] as usize;
        let points = Points::<T> { rows: if x.numel() == 0 { &[] } else { in_place(&mut x) }, width };
        let (rows, keep) = (Dealt::new(n, height(n), others), (k1 + 1).max(k2));
        let mut near = Vec::with_capacity(rows.own().len());
        for pass in rows.passes() {
            let distances = all.of(&pass);
            let norms = numbers::<T>(&distances.norms());
            let neighbours = |i: usize, row: &mut [T]| neighbours(pass.start + i, row, keep, &points, norms[i].into());
            near.extend(for_distances(0..pass.len(), n, &distances, neighbours));
        }
        let near = rows.gather(near, others)?;
        let lists: Vec<&[u32]> = near.iter().map(|near| near.list.as_slice()).collect();

        let half = (k1 as f64 / 2.0).round_ties_even() as usize;
        let narrow: Vec<Vec<u32>> = (0..n).into_par_iter().map(|i| mutual(&lists, i, half + 1)).collect();
        let weights = |i| weights(i, expanded(mutual(&lists, i, k1 + 1), &narrow), &points, near[i].far);
        let weights: Vec<Sparse> = rows.gather(rows.own().into_par_iter().map(weights).collect(), others)?;
        let v = |i: usize| mean(&weights, &lists[i][..k2.min(lists[i].len())]);

        let asked = Dealt::new(queries, height(n - queries), others);
        Ok(Reranked {
            distances: all.of(&asked.own()).columns(queries, n - queries),
            v: asked.own().into_par_iter().map(v).collect(),
            far: near[asked.own()].iter().map(|near| near.far).collect(),
            columns: Columns::new(n - queries, n, |j| v(queries + j)),
            asked,
            lambda,
        })
    }

    /// `row` holds the distances of this process's query `i` to the gallery, and then the re-ranked ones.
    fn rerank<T: Real>(&self, i: usize, row: &mut [T]) {
        let mut shared = vec![0.0f64; row.len()];
        for &(c, vi) in &self.v[i] {
            for &(j, vj) in self.columns.get(c) {
                shared[j as usize] += vi.min(vj);
            }
        }
        let share = self.lambda * scaled(1.0, self.far[i]);
        for (d, s) in row.iter_mut().zip(shared) {
            let jaccard = if s == 0.0 { 1.0 } else { 1.0 - s / (2.0 - s) };
            // A share of zero must neither turn an infinite distance into NaN nor hide it.
            let near: f64 = (*d).into();
            *d = T::of(if near.is_finite() { (1.0 - self.lambda) * jaccard + share * near } else { f64::INFINITY });
        }
    }
}

/// Distance over the largest of its row; 0 where all points are one.
fn scaled(d: f64, far: f64) -> f64 {
    if far > 0.0 { d / far } else { 0.0 }
}

struct Points<'a, T> {
    rows: &'a [T],
    width: usize,
}

impl<T: Real> Points<'_, T> {
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

/// The first `keep` neighbours of `i`, itself among them.
///
/// `row` holds rounded distances. With x, y from the centre their error is below (D + 4) eps (|x|^2 + |y|^2), and a y
/// within distance r of x has |y| <= |x| + r; so all that can be among the first are measured again, exactly.
fn neighbours<T: Real>(i: usize, row: &mut [T], keep: usize, points: &Points<'_, T>, norm: f64) -> Near {
    let others = (keep - 1).min(row.len() - 1);
    row[i] = T::ZERO;
    let mut far = T::ZERO;
    for d in row.iter_mut() {
        *d = if d.finite() { *d } else { T::INFINITY };
        far = if d.finite() && *d > far { *d } else { far };
    }
    row[i] = T::INFINITY; // itself comes first whatever the distances are
    let mut nearest = vec![T::INFINITY; others]; // ascending
    let Some(mut last) = nearest.last().copied() else {
        return Near { list: vec![i as u32], far: far.into() };
    };
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
    let list = std::iter::once(i as u32).chain(exact.into_iter().map(|(_, j)| j)).collect();
    Near { list, far: far.into() }
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

fn weights<T: Real>(i: usize, set: Vec<u32>, points: &Points<'_, T>, far: f64) -> Sparse {
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

/// Sparse rows that are made at once.
const AT_ONCE: usize = 1 << 12;

/// Sparse rows by column: (row, value) of each entry.
struct Columns {
    start: Vec<usize>,
    entries: Vec<(u32, f64)>,
}

impl Columns {
    /// Of `rows` rows of width `width`, each of which is asked for twice.
    fn new(rows: usize, width: usize, row: impl Fn(usize) -> Sparse + Sync) -> Self {
        let each = |f: &mut dyn FnMut(usize, Sparse)| {
            for from in (0..rows).step_by(AT_ONCE) {
                let some: Vec<Sparse> = (from..rows.min(from + AT_ONCE)).into_par_iter().map(&row).collect();
                some.into_iter().enumerate().for_each(|(i, row)| f(from + i, row));
            }
        };
        let mut start = vec![0usize; width + 1];
        each(&mut |_, row| row.iter().for_each(|&(c, _)| start[c as usize + 1] += 1));
        for c in 0..width {
            start[c + 1] += start[c];
        }
        let mut at = start.clone();
        let mut entries = vec![(0, 0.0); start[width]];
        each(&mut |j, row| {
            for (c, w) in row {
                entries[at[c as usize]] = (j as u32, w);
                at[c as usize] += 1;
            }
        });
        Columns { start, entries }
    }

    fn get(&self, c: u32) -> &[(u32, f64)] {
        &self.entries[self.start[c as usize]..self.start[c as usize + 1]]
    }
}
