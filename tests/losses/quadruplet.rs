//! 1704.01719: losses against the sheet's numbers and against loops.

use rankle::losses::quadruplet::{self, Dissimilarity, MarginGradient, adaptive, adaptive_pairs, fixed};
use rankle::mining::Quadruplets;
use tch::{Device, Kind, Tensor};

use crate::common::{all_close, close, matrix, rows, value};

/// The sheet's three columns of g, as leaves.
fn golden() -> [Tensor; 3] {
    [[0.2, 0.6, 0.1, 0.45], [0.7, 0.5, 0.9, 0.65], [0.4, 0.8, 0.95, 0.5_f64]]
        .map(|g| Tensor::from_slice(&g).set_requires_grad(true))
}

fn gradients_are(g: &[Tensor; 3], wanted: [[f64; 4]; 3]) {
    for (g, wanted) in g.iter().zip(wanted) {
        all_close(&g.grad(), &Tensor::from_slice(&wanted), 1e-12);
    }
}

#[test]
fn fixed_margins_give_the_sheets_numbers() {
    let g = golden();
    let tally = quadruplet::pairs(&g[0], &g[1], &g[2], (1., 0.5));
    close(value(&tally.sum), 3.6925, 1e-12);
    close(value(&tally.mean()), 0.923125, 1e-12);
    assert_eq!((tally.terms.int64_value(&[]), tally.active.int64_value(&[])), (4, 4));
    tally.sum.backward();
    gradients_are(&g, [[0.8, 2.4, 0.2, 1.8], [-1.4, -1., -1.8, -1.3], [-0.8, -1.6, 0., -1.]]);
}

#[test]
fn adaptive_margins_give_the_sheets_numbers_with_each_gradient() {
    let wanted = [
        (MarginGradient::Detach, [[0.4, 1.2, 0., 1.8], [0., -1., 0., -1.3], [-0.8, 0., 0., -1.]]),
        (MarginGradient::Eq5, [[0.35, 0.9, 0., 1.4625], [0., -0.8125, 0., -1.05625], [-0.65, 0., 0., -0.8125]]),
        (
            MarginGradient::Full,
            [[0.1, 0.3, -0.15, 1.125], [0.525, -0.625, 0.675, -0.8125], [-0.5, 0.6, 0.7125, -0.625]],
        ),
    ];
    for (gradient, wanted) in wanted {
        let g = golden();
        let (tally, margins) = adaptive_pairs(&g[0], &g[1], &g[2], (1., 0.5), gradient);
        close(value(&tally.sum), 0.735, 1e-12);
        close(value(&tally.mean()), 0.18375, 1e-12);
        close(value(&margins.strong), 0.3375, 1e-12);
        close(value(&margins.weak), 0.16875, 1e-12);
        close(value(&margins.negative), 0.490625, 1e-12);
        close(value(&margins.positive), 0.153125, 1e-12);
        assert!(!margins.strong.requires_grad() && !margins.positive.requires_grad());
        assert_eq!((tally.terms.int64_value(&[]), tally.active.int64_value(&[])), (4, 3));
        tally.sum.backward();
        gradients_are(&g, wanted);
    }
}

#[test]
fn adaptive_margins_never_fall_below_zero() {
    // Negatives nearer than positives: the margins are 0 and the hinges pull all the same.
    let far = Tensor::from_slice(&[0.9_f64, 0.8]).set_requires_grad(true);
    let near = Tensor::from_slice(&[0.1_f64, 0.2]);
    for gradient in [MarginGradient::Detach, MarginGradient::Full] {
        let (tally, margins) = adaptive_pairs(&far, &near, &near, (1., 0.5), gradient);
        assert_eq!((value(&margins.strong), value(&margins.weak)), (0., 0.));
        close(value(&tally.sum), 2. * (0.81 - 0.01 + 0.64 - 0.04), 1e-12);
    }
}

#[test]
fn softmax_of_two_units_is_the_sheets_and_the_logit_gap_never_ties() {
    let logits = Tensor::from_slice(&[0.3_f64, -1.2]).view([1, 2]).set_requires_grad(true);
    let g = quadruplet::dissimilarity(&logits);
    close(value(&g.get(0)), 0.817574, 1e-6);
    close(value(&(g.get(0) - logits.softmax(-1, Kind::Double).get(0).get(0))), 0., 1e-15);
    g.sum(Kind::Double).backward();
    close(value(&logits.grad().get(0).get(0)), 0.149146, 1e-6);
    // Saturated: g is 1 in f32 for both, their gaps are not equal.
    let far = Tensor::from_slice(&[500_f32, -500., 400., -400.]).view([2, 2]);
    let (g, gap) = (quadruplet::dissimilarity(&far), quadruplet::logit_gap(&far));
    assert_eq!(value(&g.get(0)), value(&g.get(1)));
    assert!(value(&gap.get(0)) > value(&gap.get(1)));
}

/// All quadruplets of a batch, by four loops.
fn every(labels: &[i64]) -> Vec<[usize; 4]> {
    let rows = 0..labels.len();
    let mut all = Vec::new();
    for i in rows.clone() {
        for j in rows.clone().filter(|&j| j != i && labels[j] == labels[i]) {
            for k in rows.clone().filter(|&k| labels[k] != labels[i]) {
                for l in rows.clone().filter(|&l| labels[l] != labels[i] && labels[l] != labels[k]) {
                    all.push([i, j, k, l]);
                }
            }
        }
    }
    all
}

/// Sum, active terms, gradient and margins of the adaptive loss, by loops over all quadruplets in f64.
fn slow(g: &[Vec<f64>], labels: &[i64], weights: (f64, f64)) -> (f64, i64, Vec<f64>, (f64, f64)) {
    let n = labels.len();
    let mean = |wanted: fn(bool, bool) -> bool| {
        let (mut sum, mut count) = (0., 0.);
        for i in 0..n {
            for j in 0..n {
                if wanted(i == j, labels[i] == labels[j]) {
                    sum += g[i][j] * g[i][j];
                    count += 1.;
                }
            }
        }
        if count > 0. { sum / count } else { 0. }
    };
    let gap = (mean(|_, same| !same) - mean(|itself, same| same && !itself)).max(0.);
    let margins = (weights.0 * gap, weights.1 * gap);
    let (mut sum, mut active, mut gradient) = (0., 0, vec![0.; n * n]);
    for [i, j, k, l] in every(labels) {
        let mut term = 0.;
        for (a, b, margin) in [(i, k, margins.0), (l, k, margins.1)] {
            let hinge = g[i][j] * g[i][j] - g[a][b] * g[a][b] + margin;
            if hinge > 0. {
                term += hinge;
                gradient[i * n + j] += 2. * g[i][j];
                gradient[a * n + b] -= 2. * g[a][b];
            }
        }
        sum += term;
        active += i64::from(term > 0.);
    }
    (sum, active, gradient, if every(labels).is_empty() { (0., 0.) } else { margins })
}

#[test]
fn all_quadruplets_of_a_batch_equal_four_loops() {
    let batches: [&[i64]; 7] = [
        &[0, 0, 1, 1, 2, 2],
        &[3, 1, 2, 3, 3, 1, 9, 2, 2, 2, 3, 7],
        &[5, 5, 5, 5],
        &[0, 1, 2, 3],
        &[0, 0, 1, 1],
        &[1, 1, 2, 3],
        &[],
    ];
    for (seed, labels) in batches.into_iter().enumerate() {
        let n = labels.len();
        for (scale, weights) in [(1., (1., 0.5)), (500., (1., 0.5)), (1., (0.3, 2.))] {
            let g = (matrix(seed as u64, n, n) * scale).set_requires_grad(true);
            let (tally, margins) = adaptive(&g, &Tensor::from_slice(labels), weights);
            let (sum, active, gradient, wanted) = slow(&rows(&g), labels, weights);
            let tolerance = 1e-10 * scale * scale * (1 + every(labels).len()) as f64;
            close(value(&tally.sum), sum, tolerance);
            assert_eq!(tally.terms.int64_value(&[]), every(labels).len() as i64);
            assert_eq!(tally.active.int64_value(&[]), active);
            close(margins.0, wanted.0, 1e-9 * scale * scale);
            close(margins.1, wanted.1, 1e-9 * scale * scale);
            tally.sum.backward();
            all_close(&g.grad().view([-1]), &Tensor::from_slice(&gradient), tolerance);
        }
    }
}

#[test]
fn the_listed_quadruplets_with_the_same_margins_give_the_same_sum() {
    let labels = [4_i64, 4, 1, 1, 1, 2, 0, 0];
    let g = matrix(11, 8, 8);
    let (tally, margins) = adaptive(&g, &Tensor::from_slice(&labels), (1., 0.5));
    let all = every(&labels);
    let column = |at: usize| Tensor::from_slice(&all.iter().map(|quad| quad[at] as i64).collect::<Vec<_>>());
    let quads = Quadruplets { anchor: column(0), positive: column(1), negative: column(2), other: column(3) };
    let listed = fixed(&g, &quads, margins);
    close(value(&tally.sum), value(&listed.sum), 1e-9);
    assert_eq!(tally.active.int64_value(&[]), listed.active.int64_value(&[]));
    assert_eq!(tally.terms.int64_value(&[]), listed.terms.int64_value(&[]));
}

#[test]
fn equal_rows_ties_half_kinds_and_nan_are_handled() {
    let labels = Tensor::from_slice(&[0_i64, 0, 1, 1, 2, 2]);
    // All entries equal: every hinge is at its kink with a gap of 0.
    let same = Tensor::full([6, 6], 0.5, (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let (tally, margins) = adaptive(&same, &labels, (1., 0.5));
    assert_eq!((value(&tally.sum), margins, tally.active.int64_value(&[])), (0., (0., 0.), 0));
    tally.mean().backward();
    assert_eq!(value(&same.grad().abs().max()), 0.);
    // f16 and bf16 come out as f32, equal to the f32 of the same numbers.
    for kind in [Kind::Half, Kind::BFloat16] {
        let g = matrix(3, 6, 6).to_kind(kind);
        let (low, _) = adaptive(&g, &labels, (1., 0.5));
        let (high, _) = adaptive(&g.to_kind(Kind::Float), &labels, (1., 0.5));
        assert_eq!((low.sum.kind(), value(&low.sum)), (Kind::Float, value(&high.sum)));
        let [a, b, c] = [0, 1, 2].map(|row| g.get(row));
        assert_eq!(quadruplet::pairs(&a, &b, &c, (1., 0.5)).sum.kind(), Kind::Float);
    }
    // A NaN that comes in comes out; on the diagonal it is no pair.
    let nan = |row: i64, column: i64| {
        let g = matrix(3, 6, 6);
        let _ = g.get(row).get(column).fill_(f64::NAN);
        value(&adaptive(&g, &labels, (1., 0.5)).0.sum)
    };
    assert!(nan(0, 1).is_nan() && nan(0, 3).is_nan() && !nan(2, 2).is_nan());
    // No quadruplets.
    let none = Tensor::zeros([0], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let (tally, margins) = adaptive_pairs(&none, &none, &none, (1., 0.5), MarginGradient::Full);
    assert_eq!((value(&tally.mean()), value(&margins.strong)), (0., 0.));
    tally.mean().backward();
    assert_eq!(value(&quadruplet::pairs(&none, &none, &none, (1., 0.5)).mean()), 0.);
    let two = Tensor::from_slice(&[1_i64, 1, 2]);
    let g = matrix(1, 3, 3).set_requires_grad(true);
    let (tally, _) = adaptive(&g, &two, (1., 0.5));
    tally.mean().backward();
    assert_eq!((value(&tally.sum), value(&g.grad().abs().max())), (0., 0.));
}

#[test]
fn triplets_on_the_learned_metric_use_squares() {
    let g = golden();
    let tally = quadruplet::triplet(&g[0], &g[1], 1.);
    close(value(&tally.sum), 0.55 + 1.11 + 0.2 + 0.7800, 1e-12);
}

#[test]
fn what_outputs_say_of_a_pair_is_ranked_shown_and_learned_alike() {
    let outputs = matrix(4, 9, 2) * 3.;
    let softmax = outputs.softmax(-1, Kind::Double).select(1, 0);
    all_close(&Dissimilarity::Softmax.g(&outputs), &softmax, 1e-12);
    all_close(&Dissimilarity::Unbounded.g(&outputs), &outputs.select(1, 0), 0.);
    for by in [Dissimilarity::Softmax, Dissimilarity::Unbounded] {
        let (g, ranked) = (by.g(&outputs), by.ranked(&outputs));
        for row in 0..9 {
            close(by.shown(value(&ranked.get(row))), value(&g.get(row)).abs(), 1e-12);
        }
    }
    assert_eq!(Dissimilarity::Embedding.shown(1.5), 1.5);
    // The cross-entropy beside the ranking loss: of M pairs of one person (unit 1) and 2M of two (unit 0).
    let probability = outputs.softmax(-1, Kind::Double);
    let slow = (0..9).map(|row| -value(&probability.get(row).get(i64::from(row < 3))).ln()).sum::<f64>() / 9.;
    close(value(&quadruplet::same_or_different(&outputs, 3).mean()), slow, 1e-6);
}

#[test]
fn losses_on_pairs_equal_loops() {
    // Values and gradients of the cross-entropy and of Eq. 7, the slope of each by hand; a tie at the kink has none.
    let outputs = Tensor::cat(&[matrix(4, 9, 2) * 3., Tensor::from_slice(&[500., -500., -500., 500.]).view([2, 2])], 0);
    let outputs = outputs.narrow(0, 2, 9).detach().set_requires_grad(true);
    let softmax = quadruplet::same_or_different(&outputs, 3);
    softmax.sum().backward();
    let mut sum = 0.;
    for row in 0..9 {
        let (z, same) = ([0, 1].map(|unit| outputs.double_value(&[row, unit])), usize::from(row < 3));
        let top = z[0].max(z[1]);
        let whole = (z[0] - top).exp() + (z[1] - top).exp();
        sum += whole.ln() + top - z[same];
        for (unit, z) in z.into_iter().enumerate() {
            let slope = (z - top).exp() / whole - f64::from(u8::from(unit == same));
            close(outputs.grad().double_value(&[row, unit as i64]), slope, 1e-12);
        }
    }
    close(value(&softmax.sum()), sum, 1e-9);
    let (same, different) = ([0.2, 0.6, -0.1, 0.], [0.7, 1., 1.3, -0.5, 0.]);
    let [g, h] = [Tensor::from_slice(&same), Tensor::from_slice(&different)].map(|g| g.set_requires_grad(true));
    let tally = quadruplet::contrastive(&g, &h, 1.);
    tally.sum().backward();
    let slow =
        same.iter().map(|g| g * g).sum::<f64>() + different.iter().map(|g| f64::max(1. - g * g, 0.)).sum::<f64>();
    close(value(&tally.sum), slow, 1e-12);
    assert_eq!((value(&tally.terms), value(&tally.active)), (9., 6.));
    all_close(&g.grad(), &Tensor::from_slice(&same.map(|g| 2. * g)), 1e-12);
    all_close(&h.grad(), &Tensor::from_slice(&different.map(|g| if g * g < 1. { -2. * g } else { 0. })), 1e-12);
    // No pairs; half precision is widened.
    let none = Tensor::zeros([0], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let nothing =
        quadruplet::contrastive(&none, &none, 1.).mean() + quadruplet::same_or_different(&none.view([0, 2]), 3).mean();
    nothing.backward();
    assert_eq!(value(&nothing), 0.);
    let half = g.detach().to_kind(Kind::BFloat16);
    assert_eq!(quadruplet::contrastive(&half, &half, 1.).sum().kind(), Kind::Float);
    assert!(value(&quadruplet::contrastive(&(&half * f64::NAN), &half, 1.).sum()).is_nan());
}
