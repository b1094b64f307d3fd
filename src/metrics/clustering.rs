//! Clusters of faces: agglomerative clustering (FaceNet, section 5.8) and how well clusters match the people.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

use rand::Rng;
use tch::{Device, Kind, Tensor};

use super::nearest::{BLOCK, Centres};
use super::others::{Alone, Dealt, Others};
use crate::distance::Metric;
use crate::real::numbers;

/// Distances from rows to centres that are computed at once, about.
const CELLS: usize = 1 << 21;
/// Numbers in all rows from which on average linkage computes in f32.
pub const MANY: usize = 1 << 24;
/// Numbers in all rows from which on several processes gain by sharing what they meet for at every step: of fewer, each finds
/// the clusters about as soon by itself (two processes on one machine took 1.06 of one's time for 17 million).
pub const SHARED: usize = 1 << 26;

/// Average-linkage clusters of the rows of `x` `[n, D]` (any float kind): starting from single rows, the two clusters with
/// the smallest mean squared distance between their members are joined while that is below `threshold`. A cluster number for
/// each row, numbered in order of first members. A row with a number that is not finite is a cluster of its own. `done` is
/// called for each row once, when its cluster is joined to another or can be no more.
///
/// By the nearest-neighbour chain, which finds the same clusters as joining the nearest pair each time (where distances tie, as
/// one of the orders of joining gives): O(n D) memory, O(n² D) time at most.
/// In f64 among the few rows that f32 finds near, and in f32 alone from [`MANY`] numbers in `x` on. The mean squared distance
/// of two clusters follows from their means a and b and mean squared lengths p and q, p + q - 2 ab; and what has nobody within
/// `threshold` never will have (average linkage is reducible).
pub fn average_linkage(x: &Tensor, threshold: f64, done: impl FnMut()) -> Vec<usize> {
    let Ok(of) = average_linkage_shared(x, threshold, &Alone, done);
    of
}

/// [`average_linkage`] where each of `others`, all of whom have `x`, computes distances to a part of the rows. They meet for
/// each nearest cluster that is looked for, up to 3 n times: worth it from [`SHARED`] numbers in `x` on. The threshold is that
/// of process 0.
///
/// # Errors
/// Where another process is gone.
///
/// # Panics
/// Where another process computes something else.
pub fn average_linkage_shared<O: Others>(
    x: &Tensor,
    threshold: f64,
    others: &O,
    mut done: impl FnMut(),
) -> Result<Vec<usize>, O::Error> {
    // Whatever is decided follows from gathered numbers, which are alike everywhere: processes whose rounding differs would
    // else meet unequally often.
    let threshold = gathered::<1, O>([threshold], others)?[0][0];
    let is_precise = x.numel() < MANY;
    let tie = if is_precise { 1e-12 } else { 1e-5 };
    let (mut centres, n) = (Centres::new(x, is_precise), x.size()[0] as usize);
    // Of the clusters that may still be joined: a first member, how many they are, and whether they still are.
    let (mut first, mut size): (Vec<usize>, Vec<f64>) = ((0..n).collect(), vec![1.; n]);
    let mut root: Vec<usize> = (0..n).collect();
    let (mut left, mut start) = (n, 0);
    let mut chain: Vec<usize> = Vec::new();
    let mut dealt = Dealt::new(n, BLOCK, others);
    while left > 1 {
        if chain.is_empty() {
            if 2 * left < first.len() {
                let kept: Vec<usize> = (0..first.len()).filter(|&row| size[row] > 0.).collect();
                centres = centres.keep(&kept);
                first = kept.iter().map(|&row| first[row]).collect();
                (size, start) = (kept.iter().map(|&row| size[row]).collect(), 0);
                dealt = Dealt::new(first.len(), BLOCK, others);
            }
            while size[start] == 0. {
                start += 1;
            }
            chain.push(start);
        }
        let tip = chain[chain.len() - 1];
        let before = chain.len().checked_sub(2).map(|place| chain[place]);
        let Nearest { row, distance, before: last, length } = nearest(&mut centres, tip, before, &dealt, others)?;
        let is_below = |distance: f64| distance + length < threshold && distance.is_finite();
        // On a tie the one before wins, also where rounding makes one.
        let tied = before.filter(|_| is_below(last) && last - distance <= tie * (1. + length));
        let near = tied.unwrap_or(row);
        if !is_below(distance) {
            chain.pop();
        } else {
            // The one before, or by rounding an earlier one: else the chain would not end.
            let Some(place) = chain.iter().rposition(|&other| other == near) else {
                chain.push(near);
                continue;
            };
            chain.truncate(place);
            centres.join(near, tip, (size[near], size[tip]));
            root[first[tip].max(first[near])] = first[tip].min(first[near]);
            first[near] = first[tip].min(first[near]);
            size[near] += size[tip];
        }
        size[tip] = 0.;
        centres.remove(tip);
        left -= 1;
        done();
    }
    (0..left).for_each(|_| done());
    for row in 0..n {
        root[row] = root[root[row]]; // which comes before it
    }
    Ok(numbered(root.into_iter()))
}

/// The row that is nearest to another, its distance less the other's own squared length, and that of the one before; and
/// that squared length.
struct Nearest {
    row: usize,
    distance: f64,
    before: f64,
    length: f64,
}

/// The lists of all processes, of `N` numbers each.
fn gathered<const N: usize, O: Others>(own: [f64; N], others: &O) -> Result<Vec<[f64; N]>, O::Error> {
    let list = |list: Vec<f64>| list.try_into().expect("every process looks for the same clusters");
    Ok(others.gather(&own)?.into_iter().map(list).collect())
}

/// The row of `centres` that is nearest to the row `tip`.
fn nearest<O: Others>(
    centres: &mut Centres,
    tip: usize,
    before: Option<usize>,
    dealt: &Dealt,
    others: &O,
) -> Result<Nearest, O::Error> {
    let [distance, row, before] = centres.nearest(tip, before, dealt.own());
    let length = centres.square(tip);
    let all = gathered([distance, row, before, length], others)?;
    // Of equally near ones the first.
    let [distance, row, ..] = all.iter().fold(all[0], |a, &b| if b[0] < a[0] { b } else { a });
    let before = all.iter().map(|of| of[2]).fold(f64::INFINITY, f64::min);
    Ok(Nearest { row: row as usize, distance, before, length: all[0][3] })
}

/// Clusters numbered from 0 in order of first members.
fn numbered<K: Eq + Hash>(of: impl Iterator<Item = K>) -> Vec<usize> {
    let mut number = HashMap::new();
    of.map(|cluster| {
        let next = number.len();
        *number.entry(cluster).or_insert(next)
    })
    .collect()
}

/// k-means clusters of the rows of `x` `[n, D]` (any float kind): k-means++ (Arthur and Vassilvitskii 2007) drawn by
/// `seed`, then Lloyd's steps until no row moves, at most `steps`. A cluster number for each row, numbered in order of
/// first members; a cluster that loses all its rows keeps its centre. O(n + k) memory beside the rows. Each of `others`, all
/// of whom have `x`, computes distances of a part of the rows.
///
/// # Errors
/// Where another process is gone.
///
/// # Panics
/// When `k` is not in 1..=n.
pub fn k_means<O: Others>(x: &Tensor, k: usize, seed: u64, steps: usize, others: &O) -> Result<Vec<usize>, O::Error> {
    let x = x.detach().to_device(Device::Cpu).to_kind(Kind::Double);
    let n = x.size()[0] as usize;
    assert!((1..=n).contains(&k), "cannot make {k} clusters of {n} points");
    let x = &x - x.mean_dim(0, true, None::<Kind>); // which no distance sees, but rounding does
    let block = (CELLS / k).clamp(16, BLOCK);
    let dealt = Dealt::new(n, block, others);
    // Of fewer numbers each process finds the distances to one centre sooner than they travel.
    let apart = if x.numel() < SHARED { Dealt::new(n, block, &Alone) } else { Dealt::new(n, block, others) };
    let row = |i: usize| x.narrow(0, i as i64, 1);
    let part = |rows: Range<usize>| x.narrow(0, rows.start as i64, rows.len() as i64);
    // From differences: 0 between equal rows.
    let from = |i: usize| -> Result<Vec<f64>, O::Error> {
        let own = |rows| numbers::<f64>(&Metric::SquaredEuclidean.paired(&part(rows), &row(i)));
        apart.gather(apart.blocks().flat_map(own).collect(), others)
    };
    let to_nearest = |centres: &Tensor| -> Result<Vec<i64>, O::Error> {
        let square = centres.square().sum_dim_intlist(1, false, None::<Kind>);
        let nearest = |rows: Tensor| numbers::<i64>(&(&square - rows.matmul(&centres.tr()) * 2.).argmin(1, false));
        dealt.gather(dealt.blocks().map(part).flat_map(nearest).collect(), others)
    };
    let mut rng = crate::seed::at(seed, k as u64, 0);
    let first = rng.random_range(0..n);
    let (mut centres, mut near) = (vec![first], from(first)?);
    while centres.len() < k {
        let total: f64 = near.iter().sum();
        let mut left = rng.random::<f64>() * total;
        // Where all rows are centres already (duplicates), any row serves.
        let next = near.iter().position(|d| (left -= d, left < 0.).1).unwrap_or(centres.len() % n);
        centres.push(next);
        near.iter_mut().zip(from(next)?).for_each(|(near, d)| *near = near.min(d));
    }
    // Process 0's: on machines that round otherwise others were drawn.
    let centres: Vec<f64> = centres.into_iter().map(|row| row as f64).collect();
    let centres: Vec<i64> = others.gather(&centres)?.swap_remove(0).into_iter().map(|row| row as i64).collect();
    let mut centres = x.index_select(0, &Tensor::from_slice(&centres));
    let mut of = to_nearest(&centres)?;
    for _ in 0..steps {
        let at = Tensor::from_slice(&of);
        let sums = centres.zeros_like().index_add(0, &at, &x);
        let counts = at.bincount(None::<&Tensor>, k as i64).to_kind(Kind::Double).unsqueeze(1);
        centres = (sums / counts.clamp_min(1.)).where_self(&counts.gt(0.), &centres);
        let next = to_nearest(&centres)?;
        let still = next == of;
        of = next;
        if still {
            break;
        }
    }
    Ok(numbered(of.into_iter()))
}

/// Precision, recall and their harmonic mean, fractions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Precision: of what is put together, how much belongs together.
    pub precision: f64,
    /// Recall: of what belongs together, how much is put together.
    pub recall: f64,
    /// Their harmonic mean.
    pub f: f64,
}

impl Agreement {
    fn new(precision: f64, recall: f64) -> Self {
        let f = if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
        Agreement { precision, recall, f }
    }
}

/// Where rising `distances` leave a plain gap below `cut`: how many lie before it, and a cut within it, in hundredths. It is the
/// gap whose ends differ by the largest factor, where that is 2 or more; an end below a quarter of `cut`, as of a copy, counts as
/// that quarter. None where there is no such gap.
pub fn gap(distances: &[f64], cut: f64) -> Option<(usize, f64)> {
    let factor = |pair: &[f64]| pair[1] / pair[0].max(cut / 4.);
    let below = distances.windows(2).enumerate().filter(|(_, pair)| pair[1] < cut);
    let (before, pair) = below.max_by(|(_, a), (_, b)| factor(a).total_cmp(&factor(b)))?;
    let within = ((pair[0] + pair[1]) * 50.).round() / 100.;
    (factor(pair) >= 2. && pair[0] < within && within < pair[1]).then_some((before + 1, within))
}

/// Agreement on pairs of points: precision is the fraction of pairs in one cluster that show one person, recall the
/// fraction of pairs of one person that are in one cluster, NaN where there is no such pair. F is of both kinds of pairs
/// together: 0 where there are some of one kind alone.
///
/// # Panics
/// When the lengths differ.
pub fn pairwise_f(clusters: &[usize], people: &[i64]) -> Agreement {
    let (cells, rows, columns) = table(clusters, people);
    let pairs = |counts: &mut dyn Iterator<Item = &u64>| counts.map(|&n| n * (n - 1) / 2).sum::<u64>();
    let [both, together, alike] =
        [pairs(&mut cells.values()), pairs(&mut rows.values()), pairs(&mut columns.values())].map(|n| n as f64);
    Agreement { precision: both / together, recall: both / alike, f: 2.0 * both / (together + alike) }
}

/// B-cubed agreement (Bagga and Baldwin 1998): the mean over points of the fraction of its cluster that shows its person
/// (precision), and of the fraction of its person that is in its cluster (recall). NaN without points.
///
/// # Panics
/// When the lengths differ.
pub fn b_cubed(clusters: &[usize], people: &[i64]) -> Agreement {
    let (cells, rows, columns) = table(clusters, people);
    let n = clusters.len() as f64;
    // Summed in a fixed order, so that the last bit does not depend on a hash.
    let mut cells: Vec<_> = cells.into_iter().collect();
    cells.sort_unstable();
    let mean = |of: &dyn Fn(&(usize, i64)) -> u64| {
        cells.iter().map(|(at, both)| (both * both) as f64 / of(at) as f64).sum::<f64>() / n
    };
    let (precision, recall) = (mean(&|at| rows[&at.0]), mean(&|at| columns[&at.1]));
    if n == 0.0 { Agreement { precision, recall, f: f64::NAN } } else { Agreement::new(precision, recall) }
}

type Table = (HashMap<(usize, i64), u64>, HashMap<usize, u64>, HashMap<i64, u64>);

/// How many points each (cluster, person), each cluster and each person has.
fn table(clusters: &[usize], people: &[i64]) -> Table {
    assert_eq!(clusters.len(), people.len(), "one cluster and one person a point");
    fn count<K: Eq + Hash>(keys: impl Iterator<Item = K>) -> HashMap<K, u64> {
        let mut counts = HashMap::new();
        keys.for_each(|k| *counts.entry(k).or_insert(0) += 1);
        counts
    }
    let both = clusters.iter().copied().zip(people.iter().copied());
    (count(both), count(clusters.iter().copied()), count(people.iter().copied()))
}
