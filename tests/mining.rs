//! Miners against nested loops.

use rankle::distance::Metric;
use rankle::mining::{Negative, Pick, Triplets, batch_hard, every_pair, hardest_in_pool, semi_hard};
use tch::{Kind, Tensor};

use crate::common::{ints, matrix, rows};
use crate::losses::label_sets;

fn listed(t: &Triplets) -> Vec<[i64; 3]> {
    let (a, p, n) = (ints(&t.anchor), ints(&t.positive), ints(&t.negative));
    assert!(a.len() == p.len() && p.len() == n.len() && t.anchor.kind() == Kind::Int64);
    (0..a.len()).map(|i| [a[i], p[i], n[i]]).collect()
}

fn slow_hard(d: &[Vec<f64>], labels: &[i64]) -> Vec<[i64; 3]> {
    let mut hard = Vec::new();
    for a in 0..labels.len() {
        let (mut far, mut near) = (None::<usize>, None::<usize>);
        for j in 0..labels.len() {
            if labels[j] == labels[a] && j != a && far.is_none_or(|f| d[a][j] > d[a][f]) {
                far = Some(j);
            }
            if labels[j] != labels[a] && near.is_none_or(|n| d[a][j] < d[a][n]) {
                near = Some(j);
            }
        }
        if let (Some(p), Some(n)) = (far, near) {
            hard.push([a as i64, p as i64, n as i64]);
        }
    }
    hard
}

fn candidates(d: &[Vec<f64>], labels: &[i64], a: usize, p: usize, margin: f64) -> Vec<usize> {
    (0..labels.len()).filter(|&n| labels[n] != labels[a] && d[a][n] > d[a][p] && d[a][n] < d[a][p] + margin).collect()
}

/// Distances on a coarse grid, so that ties are frequent.
fn tied(seed: u64, size: usize) -> Tensor {
    let x = (matrix(seed, size, 3) * 2.).round();
    Metric::SquaredEuclidean.matrix(&x, &x).round()
}

#[test]
fn batch_hard_equals_nested_loops_also_with_ties() {
    for (name, labels) in label_sets() {
        for seed in 0..8 {
            let d = tied(seed, labels.len());
            let ours = listed(&batch_hard(&d, &Tensor::from_slice(&labels)));
            assert_eq!(ours, slow_hard(&rows(&d), &labels), "{name}, seed {seed}");
        }
    }
}

#[test]
fn semi_hard_nearest_equals_nested_loops_also_with_ties() {
    for (name, labels) in label_sets() {
        for seed in 0..8 {
            for margin in [1., 2.5, 100.] {
                let d = tied(seed, labels.len());
                let r = rows(&d);
                let mut slow = Vec::new();
                for a in 0..labels.len() {
                    for p in (0..labels.len()).filter(|&p| p != a && labels[p] == labels[a]) {
                        let found = candidates(&r, &labels, a, p, margin);
                        if let Some(&n) = found.iter().min_by(|&&x, &&y| r[a][x].total_cmp(&r[a][y]).then(x.cmp(&y))) {
                            slow.push([a as i64, p as i64, n as i64]);
                        }
                    }
                }
                let ours = listed(&semi_hard(&d, &Tensor::from_slice(&labels), margin, Pick::Nearest));
                assert_eq!(ours, slow, "{name}, seed {seed}, margin {margin}");
            }
        }
    }
}

#[test]
fn semi_hard_random_draws_every_candidate_and_nothing_else() {
    let labels: Vec<i64> = (0..24).map(|i| i / 4).collect();
    let d = Metric::SquaredEuclidean.matrix(&matrix(3, 24, 5), &matrix(3, 24, 5));
    let r = rows(&d);
    let mut seen = std::collections::BTreeSet::new();
    let mut possible = std::collections::BTreeSet::new();
    for a in 0..24 {
        for p in (0..24).filter(|&p| p != a && labels[p] == labels[a]) {
            for n in candidates(&r, &labels, a, p, 0.8) {
                possible.insert([a as i64, p as i64, n as i64]);
            }
        }
    }
    for seed in 0..200 {
        let drawn = listed(&semi_hard(&d, &Tensor::from_slice(&labels), 0.8, Pick::Random(seed)));
        assert_eq!(drawn, listed(&semi_hard(&d, &Tensor::from_slice(&labels), 0.8, Pick::Random(seed))));
        let pairs: std::collections::BTreeSet<_> = possible.iter().map(|t| (t[0], t[1])).collect();
        assert_eq!(drawn.iter().map(|t| (t[0], t[1])).collect::<std::collections::BTreeSet<_>>(), pairs);
        seen.extend(drawn);
    }
    assert!(seen.is_subset(&possible));
    assert!(possible.len() > 100);
    // 200 draws leave a candidate of a pair with 16 of them unseen with probability 2.5e-6.
    assert!(seen.len() as f64 >= 0.99 * possible.len() as f64, "{} of {}", seen.len(), possible.len());
}

/// The nearest of some rows to `a`, the lower index of equally near ones.
fn nearest(d: &[Vec<f64>], a: usize, of: impl Iterator<Item = usize>) -> Option<usize> {
    of.min_by(|&x, &y| d[a][x].total_cmp(&d[a][y]).then(x.cmp(&y)))
}

#[test]
fn the_addons_rule_and_the_hardest_equal_nested_loops_also_with_ties() {
    for (name, labels) in label_sets() {
        for seed in 0..8 {
            let d = tied(seed, labels.len());
            let r = rows(&d);
            let (mut addons, mut hardest) = (Vec::new(), Vec::new());
            for a in 0..labels.len() {
                for p in (0..labels.len()).filter(|&p| p != a && labels[p] == labels[a]) {
                    let negatives = || (0..labels.len()).filter(|&n| labels[n] != labels[a]);
                    let farther = nearest(&r, a, negatives().filter(|&n| r[a][n] > r[a][p]));
                    let farthest = negatives().max_by(|&x, &y| r[a][x].total_cmp(&r[a][y]).then(y.cmp(&x)));
                    addons.extend(farther.or(farthest).map(|n| [a as i64, p as i64, n as i64]));
                    hardest.extend(nearest(&r, a, negatives()).map(|n| [a as i64, p as i64, n as i64]));
                }
            }
            let t = Tensor::from_slice(&labels);
            assert_eq!(listed(&every_pair(&d, &t, 0.2, Negative::Addons)), addons, "{name}, seed {seed}");
            assert_eq!(listed(&every_pair(&d, &t, 0.2, Negative::Hardest)), hardest, "{name}, seed {seed}");
        }
    }
}

#[test]
fn violating_negatives_are_those_nearer_than_the_margin_allows() {
    for (name, labels) in label_sets() {
        let d = tied(5, labels.len());
        let r = rows(&d);
        let allowed = |a: usize, p: usize| -> Vec<usize> {
            (0..labels.len()).filter(|&n| labels[n] != labels[a] && r[a][n] < r[a][p] + 1.5).collect()
        };
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let drawn = listed(&every_pair(&d, &Tensor::from_slice(&labels), 1.5, Negative::Violating(seed)));
            let mut expected = Vec::new();
            for a in 0..labels.len() {
                for p in (0..labels.len()).filter(|&p| p != a && labels[p] == labels[a] && !allowed(a, p).is_empty()) {
                    expected.push((a as i64, p as i64));
                }
            }
            assert_eq!(drawn.iter().map(|t| (t[0], t[1])).collect::<Vec<_>>(), expected, "{name}, seed {seed}");
            for [a, p, n] in drawn {
                assert!(allowed(a as usize, p as usize).contains(&(n as usize)), "{name}: {a} {p} {n}");
                seen.insert([a, p, n]);
            }
        }
        let possible: usize = (0..labels.len())
            .flat_map(|a| (0..labels.len()).map(move |p| (a, p)))
            .filter(|&(a, p)| a != p && labels[a] == labels[p])
            .map(|(a, p)| allowed(a, p).len())
            .sum();
        assert!(seen.len() * 20 >= possible * 19, "{name}: drew {} of {possible}", seen.len());
    }
}

#[test]
fn halves_and_nan_do_not_panic() {
    let labels: Vec<i64> = (0..8).map(|i| i / 2).collect();
    let t = Tensor::from_slice(&labels);
    let d = Metric::Euclidean.matrix(&matrix(4, 8, 3), &matrix(4, 8, 3)).to_kind(Kind::Half);
    assert_eq!(listed(&batch_hard(&d, &t)), slow_hard(&rows(&d), &labels));
    let mut broken = Metric::Euclidean.matrix(&matrix(4, 8, 3), &matrix(4, 8, 3));
    let _ = broken.get(2).fill_(f64::NAN);
    for triplet in listed(&batch_hard(&broken, &t)) {
        assert!(triplet.iter().all(|&row| (0..8).contains(&row)));
    }
    for triplet in listed(&semi_hard(&broken, &t, 0.5, Pick::Nearest)) {
        assert!(triplet[0] != 2);
    }
    for rule in [Negative::Addons, Negative::Hardest, Negative::Violating(3)] {
        for [a, p, n] in listed(&every_pair(&broken, &t, 0.5, rule)) {
            let [a, p, n] = [a, p, n].map(|row| labels[row as usize]);
            assert!(a == p && a != n, "{rule:?}");
        }
    }
    let _ = broken.fill_(f64::NAN);
    assert_eq!(semi_hard(&broken, &t, 0.5, Pick::Random(1)).anchor.size(), [0]);
}

#[test]
fn offline_mining_finds_each_rows_nearest_negative_in_the_pool() {
    let metrics = [Metric::Euclidean, Metric::SquaredEuclidean, Metric::Cosine];
    // More rows than are looked at together, on a coarse grid so that ties are frequent.
    for (seed, size, kind) in [(1, 7, Kind::Double), (2, 60, Kind::Half), (3, 1500, Kind::Float)] {
        let x = ((matrix(seed, size, 3) * 2.).round() + 3.).to_kind(kind);
        let labels: Vec<i64> = (0..size as i64).map(|row| row * row % 5).collect();
        let pool: Vec<i64> = (0..size as i64).map(|row| row * 11 % size as i64).take(size / 2 + 1).collect();
        for metric in metrics {
            let mined = hardest_in_pool(&x, &Tensor::from_slice(&labels), metric, &Tensor::from_slice(&pool));
            let mined = ints(&mined.expect("all have negatives"));
            let d = metric.matrix(&x, &x).to_kind(Kind::Double);
            for (row, &found) in mined.iter().enumerate() {
                let of = |other: i64| d.double_value(&[row as i64, other]);
                let others = pool.iter().filter(|&&other| labels[other as usize] != labels[row]);
                let nearest = others.clone().fold(f64::INFINITY, |nearest, &other| nearest.min(of(other)));
                assert!(pool.contains(&found) && labels[found as usize] != labels[row]);
                assert!((of(found) - nearest).abs() < 1e-5, "row {row}: {} is not the nearest", of(found));
            }
        }
    }
    // Equally near ones: the first in the pool. No negative in the pool: nothing. No rows: no answers.
    let (x, labels) = (Tensor::ones([4, 2], (Kind::Float, tch::Device::Cpu)), Tensor::from_slice(&[1_i64, 1, 2, 2]));
    let of = |pool: &[i64]| {
        let mined = hardest_in_pool(&x, &labels, Metric::Euclidean, &Tensor::from_slice(pool));
        mined.map(|mined| ints(&mined))
    };
    assert_eq!(of(&[3, 1, 0, 2]), Some(vec![3, 3, 1, 1]));
    assert_eq!(of(&[3, 2]), None);
    let none = hardest_in_pool(&x.narrow(0, 0, 0), &labels.narrow(0, 0, 0), Metric::Euclidean, &labels.narrow(0, 0, 0));
    assert_eq!(none.map(|mined| mined.size()), Some(vec![0]));
}
