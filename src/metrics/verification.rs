//! Verification: do two images show the same person? Accuracy over folds (LFW), VAL at a FAR (FaceNet), ROC.
//!
//! `dist` holds one distance a pair and `same` whether its two images show one person. A pair is called the same when its
//! distance is strictly below a threshold. A distance that is NaN is taken as infinite: never called the same.

use anyhow::{Result, ensure};

use super::{mean_and_deviation, mean_and_spread};

/// Accuracy of verification over folds, each by the threshold of the others; from [`folds`].
#[derive(Debug, Clone, PartialEq)]
pub struct Folds {
    /// Mean accuracy over the folds, a fraction.
    pub mean: f64,
    /// Population standard deviation over the folds (facenet's code prints this one).
    pub std: f64,
    /// [`standard_error`] of the mean (LFW's report, which the FaceNet paper follows); NaN of one fold.
    pub sem: f64,
    /// Accuracy on each fold, at the threshold from the others.
    pub accuracy: Vec<f64>,
    /// The threshold used on each fold.
    pub threshold: Vec<f64>,
}

impl Folds {
    /// From each fold's accuracy and the threshold that gave it.
    pub fn of(accuracy: Vec<f64>, threshold: Vec<f64>) -> Folds {
        let (mean, std) = mean_and_spread(&accuracy);
        Folds { mean, std, sem: standard_error(&accuracy), accuracy, threshold }
    }
}

/// Thresholds that [`folds`] tries: 0, 0.01, ..., 3.99, for the squared distance of unit vectors, which lies in 0..4.
const GRID: usize = 400;

fn threshold(i: usize) -> f64 {
    i as f64 * 0.01
}

/// Accuracy by `k`-fold cross-validation, the LFW protocol: the pairs are cut into `k` consecutive equal folds (the first
/// n mod k one pair longer where k does not divide n), and each fold is judged at the threshold that is best on the
/// others. Thresholds are 0, 0.01, ..., 3.99, made for squared distances of unit vectors; the lowest of equally good
/// ones is taken.
///
/// # Panics
/// When `dist` and `same` differ in length, or `k` is not in 2..=n.
pub fn folds(dist: &[f64], same: &[bool], k: usize) -> Folds {
    assert_eq!(dist.len(), same.len(), "one distance and one label a pair");
    assert!((2..=dist.len()).contains(&k), "cannot cut {} pairs into {k} folds: take 2 folds at least", dist.len());
    let spans = spans(dist.len(), k);
    // right[f][t]: pairs of fold f called rightly at threshold t.
    let right: Vec<Vec<usize>> = spans.iter().map(|s| rightly(&dist[s.clone()], &same[s.clone()])).collect();
    let total: Vec<usize> = (0..GRID).map(|t| right.iter().map(|r| r[t]).sum()).collect();
    let (mut accuracy, mut at) = (Vec::with_capacity(k), Vec::with_capacity(k));
    for (r, span) in right.iter().zip(&spans) {
        let best = (0..GRID).rev().max_by_key(|&t| total[t] - r[t]).expect("the grid is not empty");
        accuracy.push(r[best] as f64 / span.len() as f64);
        at.push(threshold(best));
    }
    Folds::of(accuracy, at)
}

/// [`folds`] where the distances depend on which fold is held out (a mean that is subtracted, or a network that is
/// trained, on the other folds): `dist(f)` gives all of them while fold f is.
///
/// # Panics
/// As [`folds`].
pub fn folds_by(same: &[bool], k: usize, dist: impl Fn(usize) -> Vec<f64>) -> Folds {
    let (accuracy, at) = (0..k)
        .map(|f| {
            let all = folds(&dist(f), same, k);
            (all.accuracy[f], all.threshold[f])
        })
        .unzip();
    Folds::of(accuracy, at)
}

/// The first of the grid's thresholds (0, 0.01, ..., 3.99) at which most pairs are called rightly.
///
/// # Panics
/// When `dist` and `same` differ in length.
pub fn best_threshold(dist: &[f64], same: &[bool]) -> f64 {
    assert_eq!(dist.len(), same.len(), "one distance and one label a pair");
    let right = rightly(dist, same);
    threshold((0..GRID).rev().max_by_key(|&t| right[t]).expect("the grid is not empty"))
}

/// The share of pairs called rightly where those nearer than `threshold` are called the same. NaN without pairs.
pub fn accuracy(dist: &[f64], same: &[bool], threshold: f64) -> f64 {
    let right = dist.iter().zip(same).filter(|&(&d, &same)| (d < threshold) == same).count();
    right as f64 / dist.len() as f64
}

/// Pairs called rightly at each threshold of the grid.
fn rightly(dist: &[f64], same: &[bool]) -> Vec<usize> {
    // A pair is called the same from the first threshold above its distance on.
    let mut change = vec![0i64; GRID + 1];
    for (&d, &same) in dist.iter().zip(same) {
        let mut t = if d < 0.0 { 0 } else { ((d * 100.0) as usize).min(GRID) };
        // The product is rounded; the comparison with the threshold decides.
        while t > 0 && d < threshold(t - 1) {
            t -= 1;
        }
        while t < GRID && (d.is_nan() || d >= threshold(t)) {
            t += 1;
        }
        change[t] += if same { 1 } else { -1 };
    }
    let mut right = same.iter().filter(|s| !**s).count() as i64;
    change[..GRID].iter().map(|c| (right += c, right as usize).1).collect()
}

fn spans(n: usize, k: usize) -> Vec<std::ops::Range<usize>> {
    let start = |f: usize| f * (n / k) + f.min(n % k);
    (0..k).map(|f| start(f)..start(f + 1)).collect()
}

/// Standard error of the mean, `σ̂ / √k`, where σ̂ is the sample standard deviation, which divides by `k - 1` (Huang et al.
/// 2007, Labeled Faces in the Wild: `S_E = σ̂ / √10` over ten folds). NaN of fewer than two values.
pub fn standard_error(x: &[f64]) -> f64 {
    mean_and_deviation(x).1 / (x.len() as f64).sqrt()
}

/// Validation rate at a false accept rate, over folds; from [`val_at_far`].
#[derive(Debug, Clone, PartialEq)]
pub struct ValAtFar {
    /// Mean validation rate over the folds: the fraction of same pairs called the same.
    pub val: f64,
    /// Its population standard deviation over the folds.
    pub std: f64,
    /// Mean false accept rate that the thresholds gave on the held-out folds.
    pub far: f64,
    /// Validation rate of each fold.
    pub vals: Vec<f64>,
    /// False accept rate of each fold.
    pub fars: Vec<f64>,
    /// Threshold of each fold; infinite where every pair may be accepted.
    pub thresholds: Vec<f64>,
}

impl ValAtFar {
    /// From each fold's validation rate, false accept rate and threshold.
    fn of(folds: Vec<(f64, f64, f64)>) -> ValAtFar {
        let (vals, fars, thresholds): (Vec<f64>, Vec<f64>, Vec<f64>) = folds.into_iter().collect();
        let ((val, std), (far, _)) = (mean_and_spread(&vals), mean_and_spread(&fars));
        ValAtFar { val, std, far, vals, fars, thresholds }
    }
}

/// Validation rate at a false accept rate (FaceNet, section 4: VAL at FAR 1e-3), over folds cut as in [`folds`].
///
/// The threshold of a fold is the largest at which the different pairs of the other folds have a false accept rate of at
/// most `far`: with n such pairs, the distance that has floor(far n) others before it, which itself is not accepted. It
/// needs no grid and no interpolation (facenet's spline fails where rates tie), accepts none of a group of tied distances
/// that would exceed `far`, and below 1/n is the smallest distance between different people: no false accept.
///
/// # Errors
/// When lengths differ, `k` is not in 2..=n, `far` is not in 0..=1, or a fold lacks same or different pairs.
pub fn val_at_far(dist: &[f64], same: &[bool], k: usize, far: f64) -> Result<ValAtFar> {
    let n = dist.len();
    ensure!(n == same.len(), "{n} distances but {} labels: pass one of each a pair", same.len());
    ensure!((2..=n).contains(&k), "cannot cut {n} pairs into {k} folds: take 2 folds at least and one pair a fold");
    ensure!((0.0..=1.0).contains(&far), "the false accept rate is a fraction in 0..=1, not {far}");
    let spans = spans(n, k);
    let mut different: Vec<(f64, usize)> = Vec::new();
    for (f, span) in spans.iter().enumerate() {
        different.extend(span.clone().filter(|&i| !same[i]).map(|i| (at_most_infinite(dist[i]), f)));
    }
    different.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut out = Vec::with_capacity(k);
    for (f, span) in spans.iter().enumerate() {
        let (mut accepted, mut pairs) = ([0usize; 2], [0usize; 2]);
        for i in span.clone() {
            pairs[usize::from(same[i])] += 1;
        }
        ensure!(
            pairs[0] > 0 && pairs[1] > 0,
            "fold {} has {} same and {} different pairs: VAL and FAR need both; use fewer folds or another order",
            f + 1,
            pairs[1],
            pairs[0]
        );
        let others = different.len() - pairs[0];
        let allowed = allowed(far, others);
        let threshold = different.iter().filter(|(_, g)| *g != f).nth(allowed).map_or(f64::INFINITY, |(d, _)| *d);
        for i in span.clone().filter(|&i| dist[i] < threshold || (allowed >= others && !dist[i].is_nan())) {
            accepted[usize::from(same[i])] += 1;
        }
        let [fa, va] = [0, 1].map(|kind| accepted[kind] as f64 / pairs[kind] as f64);
        out.push((va, fa, threshold));
    }
    Ok(ValAtFar::of(out))
}

/// How many of `different` pairs may be called the same at a false accept rate of `far`.
pub(super) fn allowed(far: f64, different: usize) -> usize {
    // 1e-9: 0.001 * 3000 must be 3 whatever the product rounds to.
    (far * different as f64 + 1e-9).floor() as usize
}

/// [`val_at_far`] where the distances depend on which fold is held out, as in [`folds_by`].
pub fn val_at_far_by(same: &[bool], k: usize, far: f64, dist: impl Fn(usize) -> Vec<f64>) -> Result<ValAtFar> {
    let fold = |f| -> Result<(f64, f64, f64)> {
        let all = val_at_far(&dist(f), same, k, far)?;
        Ok((all.vals[f], all.fars[f], all.thresholds[f]))
    };
    Ok(ValAtFar::of((0..k).map(fold).collect::<Result<_>>()?))
}

fn at_most_infinite(d: f64) -> f64 {
    if d.is_nan() { f64::INFINITY } else { d }
}

/// A point of the ROC curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RocPoint {
    /// Pairs with a distance strictly below it are called the same. The last point calls all pairs the same and has an
    /// infinite threshold.
    pub threshold: f64,
    /// False accept rate: the fraction of different pairs called the same.
    pub far: f64,
    /// Validation (true accept) rate: the fraction of same pairs called the same.
    pub val: f64,
}

/// The ROC curve from (0, 0) to (1, 1), a point for each distinct distance. Rates are NaN where there are no pairs of a
/// kind.
///
/// # Panics
/// When `dist` and `same` differ in length.
pub fn roc(dist: &[f64], same: &[bool]) -> Vec<RocPoint> {
    assert_eq!(dist.len(), same.len(), "one distance and one label a pair");
    let mut pairs: Vec<(f64, bool)> = dist.iter().map(|&d| at_most_infinite(d)).zip(same.iter().copied()).collect();
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let all = same.iter().filter(|s| **s).count();
    let total = [(same.len() - all) as f64, all as f64];
    let mut seen = [0usize; 2];
    let mut curve = Vec::new();
    let mut point = |threshold, seen: [usize; 2]| {
        curve.push(RocPoint { threshold, far: seen[0] as f64 / total[0], val: seen[1] as f64 / total[1] });
    };
    for group in pairs.chunk_by(|a, b| a.0 == b.0) {
        point(group[0].0, seen);
        for (_, same) in group {
            seen[usize::from(*same)] += 1;
        }
    }
    point(f64::INFINITY, seen);
    curve
}

/// Area under the ROC curve by trapezoids: the probability that a same pair is nearer than a different one, a tie counting
/// one half. NaN where there are no pairs of a kind.
///
/// # Panics
/// When `dist` and `same` differ in length.
pub fn auc(dist: &[f64], same: &[bool]) -> f64 {
    let curve = roc(dist, same);
    if curve.len() < 2 { f64::NAN } else { area(&curve) }
}

/// The area under a curve by trapezoids.
pub(super) fn area(curve: &[RocPoint]) -> f64 {
    curve.windows(2).map(|w| (w[1].far - w[0].far) * (w[0].val + w[1].val) / 2.0).sum()
}

/// The rate at which false accepts equal false rejects (1 - VAL), on the ROC curve with straight lines between its
/// points. NaN where there are no pairs of a kind.
///
/// # Panics
/// When `dist` and `same` differ in length.
pub fn equal_error_rate(dist: &[f64], same: &[bool]) -> f64 {
    // far - (1 - val) climbs from -1 to 1.
    let gap = |p: &RocPoint| p.far + p.val - 1.0;
    for w in roc(dist, same).windows(2) {
        let (a, b) = (gap(&w[0]), gap(&w[1]));
        if a <= 0.0 && b >= 0.0 {
            let at = if b > a { -a / (b - a) } else { 0.0 };
            return w[0].far + at * (w[1].far - w[0].far);
        }
    }
    f64::NAN
}
