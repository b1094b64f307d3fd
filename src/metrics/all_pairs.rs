//! Verification over every pair of a set (FaceNet, Sections 4.1 and 5: VAL and FAR over all pairs of a hold-out), in
//! memory that does not grow with the pairs.

use std::collections::BTreeSet;

use tch::{Kind, Tensor};

use super::mean;
use super::others::{Alone, Others};
use super::verification::{RocPoint, allowed, area, standard_error};
use crate::distance::{Metric, widen};
use crate::real::numbers;

/// Bins over 0..4, the range of squared distances between unit rows: 6e-5 wide each, a power of two so that a
/// distance times their number is exact.
const BINS: i64 = 1 << 16;
/// Distances computed at once.
const BLOCK: i64 = 1 << 22;

/// How many same and different pairs lie at each distance.
#[derive(Debug, Clone)]
pub struct AllPairs {
    different: Vec<u64>,
    same: Vec<u64>,
}

/// A point of the curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Operating {
    /// Pairs nearer than it are called the same.
    pub threshold: f64,
    /// The share of same pairs called the same.
    pub val: f64,
    /// The share of different pairs called the same.
    pub far: f64,
}

impl AllPairs {
    /// Counts all n(n-1)/2 pairs of the unit rows `x` `[n, D]` (any float kind and device) with identities `people`,
    /// by squared distance. A distance that is NaN counts as the largest.
    ///
    /// # Panics
    /// When `people` is not n long.
    pub fn new(x: &Tensor, people: &[i64]) -> AllPairs {
        let Ok(pairs) = AllPairs::shared(x, people, &Alone);
        pairs
    }

    /// [`AllPairs::new`] where each of `others`, all of whom have `x`, counts a part of the pairs.
    ///
    /// # Panics
    /// When `people` is not n long.
    pub fn shared<O: Others>(x: &Tensor, people: &[i64], others: &O) -> Result<AllPairs, O::Error> {
        let x = widen(&x.detach());
        let n = x.size()[0];
        assert_eq!(n as usize, people.len(), "one identity a row");
        let labels = Tensor::from_slice(people).to_device(x.device());
        let column = Tensor::arange(n, (Kind::Int64, x.device()));
        let mut counts = Tensor::zeros([2 * BINS], (Kind::Int64, x.device()));
        let rows = (BLOCK / n.max(1)).clamp(1, n.max(1));
        // By turns: later blocks have fewer columns.
        for start in (0..n).step_by(rows as usize).skip(others.rank()).step_by(others.size().max(1)) {
            let count = rows.min(n - start);
            // Only columns right of the block's first row: the others were counted from the other side.
            let (right, labels_right) = (x.narrow(0, start, n - start), labels.narrow(0, start, n - start));
            let d = Metric::SquaredEuclidean.matrix(&x.narrow(0, start, count), &right);
            let bin = (d.nan_to_num(4., 4., 0.) * (BINS as f64 / 4.)).floor().clamp(0., (BINS - 1) as f64);
            let same = labels.narrow(0, start, count).unsqueeze(1).eq_tensor(&labels_right.unsqueeze(0));
            let cell = bin.to_kind(Kind::Int64) + same.to_kind(Kind::Int64) * BINS;
            let above = column.narrow(0, start, count).unsqueeze(1).lt_tensor(&column.narrow(0, start, n - start));
            counts += cell.masked_select(&above).bincount(None::<&Tensor>, 2 * BINS);
        }
        let own: Vec<f64> = numbers::<i64>(&counts).into_iter().map(|count| count as f64).collect();
        let mut counts = vec![0; own.len()];
        for list in others.gather(&own)? {
            counts.iter_mut().zip(list).for_each(|(sum, count)| *sum += count as u64);
        }
        let same = counts.split_off(BINS as usize);
        Ok(AllPairs { different: counts, same })
    }

    /// Different pairs and same pairs.
    pub fn pairs(&self) -> (u64, u64) {
        (self.different.iter().sum(), self.same.iter().sum())
    }

    /// VAL at the largest threshold on the bins' edges whose false accept rate is at most `far`. NaN rates where there
    /// are no pairs of a kind.
    pub fn val_at_far(&self, far: f64) -> Operating {
        let (all_different, all_same) = self.pairs();
        let allowed = allowed(far, all_different as usize) as u64;
        let (mut accepted, mut right, mut edge) = (0, 0, 0);
        for (bin, (&wrong, &same)) in self.different.iter().zip(&self.same).enumerate() {
            if accepted + wrong > allowed {
                break;
            }
            (accepted, right, edge) = (accepted + wrong, right + same, bin + 1);
        }
        Operating {
            threshold: edge as f64 * 4. / BINS as f64,
            val: right as f64 / all_same as f64,
            far: accepted as f64 / all_different as f64,
        }
    }

    /// The ROC curve at the edges of occupied bins, from (0, 0) to (1, 1).
    pub fn roc(&self) -> Vec<RocPoint> {
        let (all_different, all_same) = self.pairs();
        let (mut accepted, mut right) = (0, 0);
        let mut curve = vec![RocPoint { threshold: 0., far: 0., val: 0. }];
        for (bin, (&wrong, &same)) in
            self.different.iter().zip(&self.same).enumerate().filter(|(_, (a, b))| **a + **b > 0)
        {
            (accepted, right) = (accepted + wrong, right + same);
            curve.push(RocPoint {
                threshold: (bin + 1) as f64 * 4. / BINS as f64,
                far: accepted as f64 / all_different as f64,
                val: right as f64 / all_same as f64,
            });
        }
        curve
    }

    /// Area under [`AllPairs::roc`] by trapezoids: pairs in one bin count one half.
    pub fn auc(&self) -> f64 {
        area(&self.roc())
    }
}

/// VAL at `far` on all pairs of each of `splits` parts of the set with different people (FaceNet's hold-out has five):
/// mean and its [`standard_error`]. People are dealt to the parts in order of their numbers. None where a part
/// would have no same or no different pairs, which all of `others` count.
///
/// # Errors
/// Where another process is gone.
pub fn val_over_splits<O: Others>(
    x: &Tensor,
    people: &[i64],
    splits: usize,
    far: f64,
    others: &O,
) -> Result<Option<(f64, f64)>, O::Error> {
    let known: Vec<i64> = people.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let part = |person: i64| known.binary_search(&person).unwrap_or(0) * splits / known.len().max(1);
    let mut vals = Vec::with_capacity(splits);
    for split in 0..splits {
        let rows: Vec<i64> =
            (0..people.len()).filter(|&row| part(people[row]) == split).map(|row| row as i64).collect();
        let who: Vec<i64> = rows.iter().map(|&row| people[row as usize]).collect();
        let index = Tensor::from_slice(&rows).to_device(x.device());
        let pairs = AllPairs::shared(&x.index_select(0, &index), &who, others)?;
        let (different, same) = pairs.pairs();
        if different == 0 || same == 0 {
            return Ok(None);
        }
        vals.push(pairs.val_at_far(far).val);
    }
    Ok((splits > 1).then(|| (mean(&vals), standard_error(&vals))))
}
