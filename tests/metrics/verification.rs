//! Pairs told apart: folds, VAL, ROC, against sweeps over every threshold.

use rand::Rng;
use rankle::metrics::verification::{
    accuracy, auc, best_threshold, equal_error_rate, folds, folds_by, roc, val_at_far, val_at_far_by,
};
use rankle::seed;

use crate::common::close;

/// Pairs whose distances tie, sit on the thresholds, and are sometimes broken.
fn drawn(s: u64, n: usize, broken: bool) -> (Vec<f64>, Vec<bool>) {
    let mut rng = seed::at(s, 0, 0);
    (0..n)
        .map(|i| {
            let same = rng.random::<bool>();
            let base = if same { 0.0 } else { 1.2 };
            let d = match rng.random_range(0..3) {
                0 => (base * 100.0 + rng.random_range(0..250) as f64) * 0.01,
                1 => base + rng.random_range(0..250) as f64 / 100.0,
                _ => base + rng.random::<f64>() * 2.9,
            };
            let odd = [f64::NAN, f64::INFINITY, -0.3][i % 3];
            (if broken && i % 17 == 0 { odd } else { d }, same)
        })
        .unzip()
}

/// The twin: sweep every threshold over every pair.
fn swept(dist: &[f64], same: &[bool], k: usize) -> (Vec<f64>, Vec<f64>) {
    let n = dist.len();
    let mut fold = Vec::new();
    for f in 0..k {
        fold.extend(vec![f; n / k + usize::from(f < n % k)]);
    }
    let score = |t: f64, of: &dyn Fn(usize) -> bool| {
        let (right, all) =
            (0..n).filter(|&i| of(i)).fold((0, 0), |(r, a), i| (r + usize::from((dist[i] < t) == same[i]), a + 1));
        right as f64 / all as f64
    };
    (0..k)
        .map(|f| {
            let (mut best, mut at) = (-1.0, 0.0);
            for t in (0..400).map(|t| f64::from(t) * 0.01) {
                let now = score(t, &|i| fold[i] != f);
                if now > best {
                    (best, at) = (now, t);
                }
            }
            (score(at, &|i| fold[i] == f), at)
        })
        .unzip()
}

#[test]
fn folds_equal_the_sweep() {
    for (s, n, k, broken) in [(1, 300, 10, false), (2, 301, 7, true), (3, 5, 5, false), (4, 64, 2, true)] {
        let (dist, same) = drawn(s, n, broken);
        let ours = folds(&dist, &same, k);
        let (accuracy, threshold) = swept(&dist, &same, k);
        assert_eq!((&ours.accuracy, &ours.threshold), (&accuracy, &threshold), "seed {s}");
        let mean = accuracy.iter().sum::<f64>() / k as f64;
        let var = accuracy.iter().map(|a| (a - mean) * (a - mean)).sum::<f64>() / k as f64;
        assert!((ours.mean - mean).abs() < 1e-12 && (ours.std - var.sqrt()).abs() < 1e-12);
        assert!((ours.sem - (var / (k - 1) as f64).sqrt()).abs() < 1e-12);
    }
}

#[test]
fn a_distance_on_the_threshold_is_not_the_same() {
    // Best on the other fold is the first threshold above 1: 1.01. The distance there is 1.01 itself.
    let f = folds(&[1.0, 1.5, 1.01, 1.0], &[true, false, true, false], 2);
    assert_eq!(f.threshold[1], 1.01);
    assert_eq!(f.accuracy[1], 0.0);
}

/// The twin: of all candidate thresholds, the largest whose false accepts on the other folds stay within `far`.
fn val_twin(dist: &[f64], same: &[bool], k: usize, far: f64) -> Vec<(f64, f64)> {
    let n = dist.len();
    let d: Vec<f64> = dist.iter().map(|d| if d.is_nan() { f64::INFINITY } else { *d }).collect();
    (0..k)
        .map(|f| {
            let mine = |i: usize| i * k / n == f;
            let rate = |t: f64, in_fold: bool, kind: bool| {
                let of: Vec<usize> = (0..n).filter(|&i| mine(i) == in_fold && same[i] == kind).collect();
                of.iter().filter(|&&i| d[i] < t).count() as f64 / of.len() as f64
            };
            let mut candidates = d.clone();
            candidates.push(f64::INFINITY);
            let t = candidates.into_iter().filter(|&t| rate(t, false, false) <= far).fold(f64::NEG_INFINITY, f64::max);
            (rate(t, true, true), rate(t, true, false))
        })
        .collect()
}

#[test]
fn val_at_far_equals_the_search() {
    for (s, broken) in [(5, false), (6, true)] {
        let (dist, same) = drawn(s, 600, broken);
        let ties: Vec<f64> = dist.iter().map(|d| (d * 5.0).round() / 5.0).collect();
        for dist in [&dist, &ties] {
            for far in [0.0, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.999] {
                let ours = val_at_far(dist, &same, 10, far).expect("defined");
                let twin = val_twin(dist, &same, 10, far);
                for (f, (val, accepted)) in twin.iter().enumerate() {
                    assert_eq!((ours.vals[f], ours.fars[f]), (*val, *accepted), "far {far}, fold {f}");
                }
                assert!((ours.val - twin.iter().map(|t| t.0).sum::<f64>() / 10.0).abs() < 1e-12);
                assert!((ours.far - twin.iter().map(|t| t.1).sum::<f64>() / 10.0).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn val_at_far_allows_exactly_the_target_and_names_what_is_wrong() {
    // Fold 2 has the different distances 1..=10: at FAR 0.3 three are accepted, so fold 1 is judged below 4.
    let mut dist = vec![3.9, 4.0, 3.9, 9.0];
    dist.extend((1..=10).map(f64::from));
    dist.extend([0.5, 0.6]);
    let mut same = vec![true, true, false, false];
    same.extend([false; 10]);
    same.extend([true; 2]);
    let padded = 8; // folds of equal size
    let mut d = dist[..4].to_vec();
    let mut w = same[..4].to_vec();
    for _ in 0..padded {
        d.push(100.0);
        w.push(true);
    }
    d.extend(&dist[4..]);
    w.extend(&same[4..]);
    let v = val_at_far(&d, &w, 2, 0.3).expect("defined");
    assert_eq!((v.thresholds[0], v.vals[0], v.fars[0]), (4.0, 0.1, 0.5));
    assert_eq!(val_at_far(&d, &w, 2, 1.0).expect("defined").val, 1.0);
    let message = |d: &[f64], w: &[bool], k, far| val_at_far(d, w, k, far).expect_err("must fail").to_string();
    assert!(message(&[1.0; 4], &[true, false, true, true], 2, 0.1).contains("fold 2"));
    assert!(message(&d, &w, 1, 0.1).contains("folds"));
    assert!(message(&d, &w, 99, 0.1).contains("99"));
    assert!(message(&d, &w, 2, f64::NAN).contains("NaN"));
    assert!(message(&d, &w[1..], 2, 0.1).contains("labels"));
}

#[test]
fn auc_is_the_share_of_ordered_pairs_and_eer_meets_both_errors() {
    let (dist, same) = drawn(7, 400, true);
    let d = |i: usize| if dist[i].is_nan() { f64::INFINITY } else { dist[i] };
    let (mut won, mut all) = (0.0, 0.0);
    for i in (0..400).filter(|&i| same[i]) {
        for j in (0..400).filter(|&j| !same[j]) {
            won += if d(i) < d(j) {
                1.0
            } else if d(i) == d(j) {
                0.5
            } else {
                0.0
            };
            all += 1.0;
        }
    }
    assert!((auc(&dist, &same) - won / all).abs() < 1e-12);
    let curve = roc(&dist, &same);
    assert_eq!((curve[0].far, curve[0].val), (0.0, 0.0));
    assert_eq!(curve.last().map(|p| (p.far, p.val)), Some((1.0, 1.0)));
    for p in &curve[..curve.len() - 1] {
        let below = |kind: bool| (0..400).filter(|&i| same[i] == kind && dist[i] < p.threshold).count() as f64;
        let of = |kind: bool| same.iter().filter(|s| **s == kind).count() as f64;
        assert_eq!((p.far, p.val), (below(false) / of(false), below(true) / of(true)));
    }
    let e = equal_error_rate(&dist, &same);
    // On the curve, (e, 1 - e) lies on the line between two points.
    let on = |w: &[rankle::metrics::verification::RocPoint]| {
        let (dx, dy) = (w[1].far - w[0].far, w[1].val - w[0].val);
        let inside = w[0].far - 1e-12 <= e && e <= w[1].far + 1e-12;
        inside && ((e - w[0].far) * dy - (1.0 - e - w[0].val) * dx).abs() < 1e-12
    };
    assert!(curve.windows(2).any(on) && e > 0.0 && e < 0.5, "{e}");
    assert_eq!(equal_error_rate(&[0.1, 0.2, 0.3, 0.4], &[true, true, false, false]), 0.0);
    assert_eq!(equal_error_rate(&[0.3, 0.4, 0.1, 0.2], &[true, true, false, false]), 1.0);
    assert_eq!(equal_error_rate(&[0.5; 4], &[true, true, false, false]), 0.5);
    assert_eq!(auc(&[0.5; 4], &[true, true, false, false]), 0.5);
    assert!(auc(&[0.5], &[true]).is_nan() && auc(&[], &[]).is_nan() && equal_error_rate(&[0.1], &[false]).is_nan());
}

#[test]
fn folds_by_equal_folds_where_distances_do_not_depend_on_the_fold() {
    let mut rng = rankle::seed::at(9, 0, 0);
    let same: Vec<bool> = (0..200).map(|i| i % 3 == 0).collect();
    let dist: Vec<f64> = same.iter().map(|&s| rng.random_range(0.0..if s { 1.5 } else { 3.0 })).collect();
    assert_eq!(folds_by(&same, 5, |_| dist.clone()), folds(&dist, &same, 5));
    let (ours, theirs) = (val_at_far_by(&same, 5, 0.05, |_| dist.clone()), val_at_far(&dist, &same, 5, 0.05));
    assert_eq!(ours.expect("both kinds"), theirs.expect("both kinds"));
    let best = (0..400).map(|t| t as f64 * 0.01).map(|t| accuracy(&dist, &same, t)).fold(0., f64::max);
    close(accuracy(&dist, &same, best_threshold(&dist, &same)), best, 1e-12);
}
