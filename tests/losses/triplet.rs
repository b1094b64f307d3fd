//! Triplet losses: the paper sheet's golden numbers, nested loops in f64, and the edges.

// The twins are written as the equations are, with indices; a golden 0.707107 is no constant of ours.
#![allow(clippy::needless_range_loop, clippy::approx_constant)]

use rankle::distance::{Metric, normalize};
use rankle::losses::{Margin, Tally, triplet};
use rankle::mining::{Negative, Pick};
use tch::{Kind, Tensor};

use super::label_sets;
use crate::common::{all_close, close, gradient, matrix, rows, value};

const MARGINS: [Margin; 4] = [Margin::Hard(0.1), Margin::Hard(0.5), Margin::Hard(1.0), Margin::Soft];

/// The terms of a loss one by one, from a distance matrix and labels.
type Terms = Box<dyn Fn(&[Vec<f64>], &[i64]) -> Vec<f64>>;
/// The fast loss.
type Fast = Box<dyn Fn(&Tensor, &Tensor) -> Tally>;

fn charge(margin: Margin, z: f64) -> f64 {
    match margin {
        Margin::Hard(m) => (m + z).max(0.),
        Margin::Soft => z.max(0.) + (-z.abs()).exp().ln_1p(),
    }
}

fn of<'a>(labels: &'a [i64], a: usize, same: bool) -> impl Iterator<Item = usize> + 'a {
    (0..labels.len()).filter(move |&j| j != a && (labels[j] == labels[a]) == same)
}

/// `terms` of every anchor and positive: of their distance, and of the anchor's to its negatives.
fn of_pairs(terms: impl Fn(f64, &[f64]) -> Vec<f64> + 'static) -> Terms {
    Box::new(move |d, l| {
        let mut all = Vec::new();
        for a in 0..l.len() {
            let negatives: Vec<f64> = of(l, a, false).map(|n| d[a][n]).collect();
            of(l, a, true).for_each(|p| all.extend(terms(d[a][p], &negatives)));
        }
        all
    })
}

/// `term` of every anchor that has both: of its distances to its positives and to its negatives.
fn of_anchors(term: impl Fn(&[f64], &[f64]) -> f64 + 'static) -> Terms {
    Box::new(move |d, l| {
        let sides = (0..l.len()).map(|a| [true, false].map(|same| of(l, a, same).map(|j| d[a][j]).collect::<Vec<_>>()));
        sides.filter(|sides| sides.iter().all(|side| !side.is_empty())).map(|[p, n]| term(&p, &n)).collect()
    })
}

fn least(of: impl Iterator<Item = f64>) -> Option<f64> {
    of.min_by(f64::total_cmp)
}

fn most(of: &[f64]) -> Option<f64> {
    of.iter().copied().max_by(f64::total_cmp)
}

fn all(margin: Margin) -> Terms {
    of_pairs(move |p, negatives| negatives.iter().map(|n| charge(margin, p - n)).collect())
}

fn hard(margin: Margin) -> Terms {
    of_anchors(move |p, n| charge(margin, most(p).unwrap() - least(n.iter().copied()).unwrap()))
}

fn lifted(m: f64) -> Terms {
    of_anchors(move |p, n| {
        let pull: f64 = p.iter().map(|p| p.exp()).sum();
        let push: f64 = n.iter().map(|n| (m - n).exp()).sum();
        (pull.ln() + push.ln()).max(0.)
    })
}

fn semi(m: f64) -> Terms {
    of_pairs(move |p, negatives| {
        let near = least(negatives.iter().copied().filter(|&n| n > p && n < p + m));
        near.map(|n| m + p - n).into_iter().collect()
    })
}

fn addons(m: f64) -> Terms {
    of_pairs(move |p, negatives| {
        let farther = least(negatives.iter().copied().filter(|&n| n > p));
        farther.or(most(negatives)).map(|n| (m + p - n).max(0.)).into_iter().collect()
    })
}

fn hardest(m: f64) -> Terms {
    of_pairs(move |p, negatives| least(negatives.iter().copied()).map(|n| (m + p - n).max(0.)).into_iter().collect())
}

/// Each loss under a name, the slow way and the fast way.
fn losses() -> Vec<(String, Terms, Fast)> {
    let mut list: Vec<(String, Terms, Fast)> = Vec::new();
    for margin in MARGINS {
        list.push((
            format!("batch all {margin:?}"),
            all(margin),
            Box::new(move |d, l| triplet::batch_all(d, l, margin)),
        ));
        list.push((
            format!("batch hard {margin:?}"),
            hard(margin),
            Box::new(move |d, l| triplet::batch_hard(d, l, margin)),
        ));
    }
    for m in [0.1, 1.0] {
        list.push((format!("lifted {m}"), lifted(m), Box::new(move |d, l| triplet::lifted(d, l, m))));
        list.push((
            format!("semi-hard {m}"),
            semi(m),
            Box::new(move |d, l| triplet::semi_hard(d, l, m, Pick::Nearest)),
        ));
        let rule = move |rule| -> Fast { Box::new(move |d, l| triplet::every_pair(d, l, m, rule)) };
        list.push((format!("Addons' rule {m}"), addons(m), rule(Negative::Addons)));
        list.push((format!("hardest {m}"), hardest(m), rule(Negative::Hardest)));
    }
    list
}

#[test]
fn golden_vectors_of_the_paper_sheet() {
    let x = Tensor::from_slice(&[0., 0., 1., 0.5, 0.5, 1.5, 2., 0., 1.5, 1., 2.5, 1.5_f32]).view([6, 2]);
    let labels = Tensor::from_slice(&[0_i64, 0, 0, 1, 1, 1]);
    let d = Metric::Euclidean.matrix(&x, &x);
    let hard = rankle::mining::batch_hard(&d, &labels);
    let take = |columns: &Tensor| {
        Vec::<f64>::try_from(d.gather(1, &columns.unsqueeze(1), false).squeeze_dim(1).to_kind(Kind::Double)).unwrap()
    };
    let expect = |ours: Vec<f64>, theirs: [f64; 6]| ours.iter().zip(theirs).for_each(|(&a, b)| close(a, b, 1e-6));
    expect(take(&hard.positive), [1.581139, 1.118034, 1.581139, 1.581139, 1.118034, 1.581139]);
    expect(take(&hard.negative), [1.802776, 0.707107, 1.118034, 1.118034, 0.707107, 1.802776]);

    // margin: BH mean, BH≠0 (count), BA mean of 36, BA≠0 (count), LG mean.
    let table = [
        (0.1, 0.358011, 0.537016, 4, 0.104720, 0.314160, 12, 1.551996),
        (0.2, 0.424677, 0.637016, 4, 0.138053, 0.414160, 12, 1.651996),
        (0.5, 0.717465, 0.717465, 6, 0.262533, 0.525067, 18, 1.951996),
        (1.0, 1.217465, 1.217465, 6, 0.603737, 0.724484, 30, 2.451996),
    ];
    for (m, bh, bh_active, bh_count, ba, ba_active, ba_count, lg) in table {
        let hard = triplet::batch_hard(&d, &labels, Margin::Hard(m));
        close(value(&hard.mean()), bh, 1e-6);
        close(value(&hard.mean_active()), bh_active, 1e-6);
        assert_eq!((hard.terms.int64_value(&[]), hard.active.int64_value(&[])), (6, bh_count));
        let all = triplet::batch_all(&d, &labels, Margin::Hard(m));
        close(value(&all.mean()), ba, 1e-6);
        close(value(&all.mean_active()), ba_active, 1e-6);
        assert_eq!((all.terms.int64_value(&[]), all.active.int64_value(&[])), (36, ba_count));
        close(value(&triplet::lifted(&d, &labels, m).mean()), lg, 1e-6);
    }
    close(value(&triplet::batch_hard(&d, &labels, Margin::Soft).mean()), 0.819767, 1e-6);
    close(value(&triplet::batch_all(&d, &labels, Margin::Soft).mean()), 0.530305, 1e-6);
}

#[test]
fn facenets_golden_vector() {
    let raw = [1., 0.2, 0.1, 0.9, 0.4, -0.1, 0.6, 0.7, 0.3, 0.2, 1., 0.1, 0.1, 0.9, 0.5, 0.8, 0.5, 0.6_f64];
    let x = normalize(&Tensor::from_slice(&raw).view([6, 3]));
    let d = Metric::SquaredEuclidean.matrix(&x, &x);
    let labels = Tensor::from_slice(&[0_i64, 0, 0, 1, 1, 1]);
    close(d.double_value(&[0, 4]), 1.377331, 1e-6);
    let tally = triplet::semi_hard(&d, &labels, 0.2, Pick::Nearest);
    close(value(&tally.sum()), 0.300497, 1e-6);
    close(value(&tally.mean()), 0.075124, 1e-6);
    let addons = triplet::every_pair(&d, &labels, 0.2, Negative::Addons);
    close(value(&addons.mean()), 0.139189, 1e-6);
    assert_eq!(addons.terms.int64_value(&[]), 12);
    let chosen = rankle::mining::semi_hard(&d, &labels, 0.2, Pick::Nearest);
    assert_eq!(crate::common::ints(&chosen.anchor), [1, 3, 3, 4]);
    assert_eq!(crate::common::ints(&chosen.positive), [2, 4, 5, 3]);
    assert_eq!(crate::common::ints(&chosen.negative), [5, 2, 1, 2]);
}

#[test]
fn values_counts_and_gradients_equal_nested_loops() {
    for (set, labels) in label_sets() {
        let x = matrix(11, labels.len(), 4);
        let t = Tensor::from_slice(&labels);
        let d = Metric::Euclidean.matrix(&x, &x);
        for (name, slow, fast) in losses() {
            let terms = slow(&rows(&d), &labels);
            let tally = fast(&d, &t);
            let what = format!("{name} on {set}");
            assert_eq!(tally.terms.int64_value(&[]), terms.len() as i64, "{what}");
            assert_eq!(tally.active.int64_value(&[]), terms.iter().filter(|&&x| x > 0.).count() as i64, "{what}");
            close(value(&tally.sum), terms.iter().sum(), 1e-10);
            if labels.is_empty() {
                continue;
            }
            let ours = gradient(&d, |d| fast(d, &t).sum());
            for a in 0..labels.len() as i64 {
                for j in 0..labels.len() as i64 {
                    let moved = |by: f64| {
                        let d = d.copy();
                        let mut cell = d.get(a).get(j);
                        cell += by;
                        slow(&rows(&d), &labels).iter().sum::<f64>()
                    };
                    close(ours.double_value(&[a, j]), (moved(1e-6) - moved(-1e-6)) / 2e-6, 1e-5);
                }
            }
        }
    }
}

#[test]
fn one_singleton_identity_and_no_terms_give_zero_with_a_zero_gradient() {
    for labels in [vec![3_i64; 5], (0..5).collect(), vec![1], vec![]] {
        let x = matrix(12, labels.len(), 8).to_kind(Kind::Float);
        let t = Tensor::from_slice(&labels);
        for (name, _, fast) in losses() {
            let leaf = x.copy().set_requires_grad(true);
            let tally = fast(&Metric::Euclidean.matrix(&leaf, &leaf), &t);
            let total = tally.sum() + tally.mean() + tally.mean_active();
            assert_eq!(value(&total), 0., "{name}");
            total.backward();
            assert!(leaf.grad().numel() == 0 || value(&leaf.grad().abs().max()) == 0., "{name}");
        }
    }
}

#[test]
fn duplicate_rows_keep_gradients_finite_and_values_right() {
    let labels: Vec<i64> = (0..12).map(|i| i / 4).collect();
    let t = Tensor::from_slice(&labels);
    let x = matrix(13, 4, 16).to_kind(Kind::Float);
    // Rows 0..4 three times: positives that coincide with negatives.
    for x in [Tensor::cat(&[&x, &x, &x], 0), x.narrow(0, 0, 1).repeat([12, 1])] {
        let d = Metric::Euclidean.matrix(&x, &x);
        for (name, slow, fast) in losses() {
            close(value(&fast(&d, &t).sum()), slow(&rows(&d), &labels).iter().sum(), 1e-5);
            let grad = gradient(&x, |x| fast(&Metric::Euclidean.matrix(x, x), &t).mean());
            assert!(value(&grad.isfinite().all().to_kind(Kind::Float)) == 1., "{name}");
        }
    }
}

#[test]
fn collapsed_embeddings_lose_the_margin_or_ln_2() {
    let x = Tensor::ones([8, 4], (Kind::Float, tch::Device::Cpu));
    let t = Tensor::from_slice(&[0_i64, 0, 1, 1, 2, 2, 3, 3]);
    let d = Metric::Euclidean.matrix(&x, &x);
    close(value(&triplet::batch_hard(&d, &t, Margin::Soft).mean()), std::f64::consts::LN_2, 1e-6);
    close(value(&triplet::batch_all(&d, &t, Margin::Soft).mean()), std::f64::consts::LN_2, 1e-6);
    close(value(&triplet::batch_all(&d, &t, Margin::Hard(0.2)).mean()), 0.2, 1e-6);
}

#[test]
fn halves_compute_in_f32_and_offsets_do_not_matter() {
    let labels: Vec<i64> = (0..24).map(|i| i / 4).collect();
    let t = Tensor::from_slice(&labels);
    let x = (matrix(14, 24, 32) * 32.).round() / 32.;
    for (name, slow, fast) in losses() {
        let exact: f64 = slow(&rows(&Metric::Euclidean.matrix(&x, &x)), &labels).iter().sum();
        for kind in [Kind::Half, Kind::BFloat16, Kind::Float] {
            let leaf = x.to_kind(kind).set_requires_grad(true);
            let tally = fast(&Metric::Euclidean.matrix(&leaf, &leaf), &t);
            assert_eq!(tally.sum.kind(), Kind::Float, "{name}");
            close(value(&tally.sum), exact, 2e-6);
            tally.sum().backward();
            assert!(value(&leaf.grad().isfinite().all().to_kind(Kind::Float)) == 1., "{name} {kind:?}");
        }
        let shifted = (&x + 1000.).to_kind(Kind::Float);
        close(value(&fast(&Metric::Euclidean.matrix(&shifted, &shifted), &t).sum), exact, 1e-4);
        // Norms of 300 overflow the square in f16.
        let big = (&x * 300.).to_kind(Kind::Half);
        assert!(value(&fast(&Metric::Euclidean.matrix(&big, &big), &t).sum).is_finite(), "{name}");
    }
}

#[test]
fn a_nan_anywhere_is_never_hidden() {
    let labels: Vec<i64> = vec![0, 0, 1, 1, 2];
    let t = Tensor::from_slice(&labels);
    for (name, _, fast) in losses() {
        for row in 0..5 {
            let mut x = matrix(15, 5, 4);
            let _ = x.get(row).fill_(f64::NAN);
            assert!(value(&fast(&Metric::Euclidean.matrix(&x, &x), &t).sum).is_nan(), "{name}, row {row}");
            x = matrix(15, 5, 4);
            let d = Metric::Euclidean.matrix(&x, &x);
            let _ = d.get(row).get((row + 1) % 5).fill_(f64::NAN);
            assert!(value(&fast(&d, &t).sum).is_nan(), "{name}, cell in row {row}");
        }
    }
    let nan = Tensor::from_slice(&[0.5, f64::NAN]);
    assert!(value(&triplet::hinge(&nan, &Tensor::from_slice(&[0.1, 0.2]), Margin::Soft).sum).is_nan());
}

#[test]
fn distances_of_500_neither_overflow_nor_lose_the_gradient() {
    let d_ap = Tensor::from_slice(&[500., 0., -500., 1000.]);
    let d_an = Tensor::from_slice(&[0., 500., 500., 0.]);
    for margin in MARGINS {
        let ours = triplet::hinge(&d_ap, &d_an, margin);
        let slow: f64 = [500., -500., -1000., 1000.].iter().map(|&z| charge(margin, z)).sum();
        close(value(&ours.sum), slow, 1e-12);
        let grad = gradient(&d_ap, |d| triplet::hinge(d, &d_an, margin).sum());
        all_close(&grad, &Tensor::from_slice(&[1., 0., 0., 1.]), 1e-12);
    }
    let x = Tensor::from_slice(&[0_f32, 500., 1000., 1500.]).view([4, 1]);
    let t = Tensor::from_slice(&[0_i64, 1, 0, 1]);
    let d = Metric::Euclidean.matrix(&x, &x);
    for (name, slow, fast) in losses() {
        let exact: f64 = slow(&rows(&d), &[0, 1, 0, 1]).iter().sum();
        // The naive twin of the lifted loss overflows at e^1000, so that its own sum says nothing. Of its four anchors the
        // middle ones have two negatives equally near.
        if exact.is_finite() {
            close(value(&fast(&d, &t).sum), exact, 1e-6);
        } else {
            close(value(&triplet::lifted(&d, &t, 0.).sum), 2_000. + 2. * std::f64::consts::LN_2, 1e-6);
        }
        assert!(value(&fast(&d, &t).sum).is_finite(), "{name}");
    }
}

#[test]
fn original_lifted_structure_equals_nested_loops() {
    let x = matrix(16, 9, 5);
    let d = Metric::Euclidean.matrix(&x, &x);
    let (anchor, positive) = ([0_usize, 3, 6], [1_usize, 4, 7]);
    let to = |v: [usize; 3]| Tensor::from_slice(&v.map(|x| x as i64));
    for m in [0.1, 1.0] {
        let slow = |d: &Tensor| -> f64 {
            let d = rows(d);
            let mut sum = 0.;
            for (&a, &p) in anchor.iter().zip(&positive) {
                let push: f64 =
                    (0..9).filter(|&n| n != a && n != p).map(|n| (m - d[a][n]).exp() + (m - d[p][n]).exp()).sum();
                sum += (d[a][p] + push.ln()).max(0.);
            }
            sum
        };
        let ours = triplet::lifted_pairs(&d, &to(anchor), &to(positive), m);
        close(value(&ours.sum), slow(&d), 1e-10);
        assert_eq!(ours.terms.int64_value(&[]), 3);
        let grad = gradient(&d, |d| triplet::lifted_pairs(d, &to(anchor), &to(positive), m).sum());
        for a in 0..9 {
            for j in 0..9 {
                let moved = |by: f64| {
                    let d = d.copy();
                    let mut cell = d.get(a).get(j);
                    cell += by;
                    slow(&d)
                };
                close(grad.double_value(&[a, j]), (moved(1e-6) - moved(-1e-6)) / 2e-6, 1e-6);
            }
        }
    }
    let two = Metric::Euclidean.matrix(&matrix(17, 2, 3), &matrix(17, 2, 3));
    let none = triplet::lifted_pairs(&two, &Tensor::from_slice(&[0_i64]), &Tensor::from_slice(&[1_i64]), 1.);
    assert_eq!((value(&none.sum), none.terms.int64_value(&[])), (0., 0));
}

#[test]
fn batch_all_at_facenets_1800_rows_counts_all_123_million_triplets() {
    // Points on a line, so that a twin in O(B² log B) of another kind exists: per anchor, over sorted negatives.
    let labels: Vec<i64> = (0..1800).map(|i| i / 40).collect();
    let x = matrix(19, 1800, 1).to_kind(Kind::Float);
    let d = Metric::Euclidean.matrix(&x, &x);
    let tally = triplet::batch_all(&d, &Tensor::from_slice(&labels), Margin::Hard(0.2));
    assert_eq!(tally.terms.int64_value(&[]), 123_552_000);
    let (mut sum, mut active) = (0., 0);
    for (a, row) in rows(&d).iter().enumerate() {
        let mut negatives: Vec<f64> = of(&labels, a, false).map(|n| row[n]).collect();
        negatives.sort_by(f64::total_cmp);
        let mut prefix = vec![0.];
        negatives.iter().for_each(|n| prefix.push(prefix[prefix.len() - 1] + n));
        for p in of(&labels, a, true) {
            // f32 sums, as the fast form compares them.
            let reach = f64::from(row[p] as f32 + 0.2_f32);
            let count = negatives.partition_point(|&n| n < reach);
            active += count as i64;
            sum += count as f64 * (0.2 + row[p]) - prefix[count];
        }
    }
    assert_eq!(tally.active.int64_value(&[]), active);
    close(value(&tally.sum), sum, 1e-6);
}

#[test]
fn semi_hard_at_facenets_1800_rows_equals_a_search_a_pair() {
    let labels: Vec<i64> = (0..1800).map(|i| i / 40).collect();
    let x = normalize(&matrix(23, 1800, 6).to_kind(Kind::Float));
    let d = Metric::SquaredEuclidean.matrix(&x, &x);
    let t = Tensor::from_slice(&labels);
    let tally = triplet::semi_hard(&d, &t, 0.2, Pick::Nearest);
    let (mut sum, mut terms) = (0., 0);
    for (a, row) in rows(&d).iter().enumerate() {
        let mut negatives: Vec<f64> = of(&labels, a, false).map(|n| row[n]).collect();
        negatives.sort_by(f64::total_cmp);
        for p in of(&labels, a, true) {
            let next = negatives.partition_point(|&n| n <= row[p]);
            if let Some(&n) = negatives.get(next).filter(|&&n| n < f64::from(row[p] as f32 + 0.2_f32)) {
                sum += 0.2 + row[p] - n;
                terms += 1;
            }
        }
    }
    assert_eq!(tally.terms.int64_value(&[]), terms);
    assert!(terms > 60_000, "{terms} of 70,200 pairs");
    close(value(&tally.sum), sum, 1e-5);
    let slope =
        gradient(&x, |x| triplet::semi_hard(&Metric::SquaredEuclidean.matrix(x, x), &t, 0.2, Pick::Nearest).mean());
    assert!(slope.isfinite().all().int64_value(&[]) == 1 && value(&slope.abs().max()) > 0.);
}
