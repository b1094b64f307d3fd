//! 1704.03135: the losses: the sheet's golden values and gradients, nested loops on drawn scores, and the edges.

use rand::Rng;
use rankle::losses::Tally;
use rankle::losses::multilabel::{
    Pairs, bp_mll, draw_label, hinge, label_count, label_threshold, lsep, lsep_of, lsep_sampled, lsep_tensors, sigmoid,
    softmax, softmax_on, warp,
};
use tch::{Device, Kind, Tensor};

use crate::common::{all_close, close, matrix, rows, value};

fn golden() -> (Tensor, Tensor) {
    let f = [2., -1., 0.5, 0., 1.5, 0.2, 0.1, -0.3, 1., -2.];
    let y = [1_i64, 0, 1, 0, 0, 0, 1, 0, 0, 1];
    (Tensor::from_slice(&f).view([2, 5]).set_requires_grad(true), Tensor::from_slice(&y).view([2, 5]))
}

/// Each of two images alone, to see its term.
fn each(loss: impl Fn(&Tensor, &Tensor) -> Tally) -> [f64; 2] {
    let (f, y) = golden();
    [0, 1].map(|row| value(&loss(&f.narrow(0, row, 1), &y.narrow(0, row, 1)).sum))
}

#[test]
fn the_sheets_numbers_come_out() {
    for (found, wanted) in [
        (each(lsep), [1.675150, 3.684359]),
        (each(lsep_tensors), [1.675150, 3.684359]),
        (each(|f, y| lsep_sampled(f, y, 1000, 1)), [1.675150, 3.684359]),
        (each(|f, y| hinge(f, y, 1.)), [3., 13.5]),
        (each(bp_mll), [4.339596, 38.819592]),
        (each(|f, y| warp(f, y, 1.)), [5.083333, 29.205]),
        (each(sigmoid), [3.308827, 5.437080]),
    ] {
        close(found[0], wanted[0], 1e-6);
        close(found[1], wanted[1], 1e-6);
    }
    let (f, y) = golden();
    let tally = lsep(&f, &y);
    close(value(&tally.mean()), 2.679755, 1e-6);
    assert_eq!((tally.terms.int64_value(&[]), tally.active.int64_value(&[])), (2, 2));
    tally.mean().backward();
    let wanted = [-0.07413, 0.025556, -0.33223, 0.069468, 0.311336, 0.127201, -0.053179, 0.077151, 0.283091, -0.434265];
    all_close(&f.grad().view([-1]), &Tensor::from_slice(&wanted), 1e-6);
    // Softmax on a random label: its expectation over many draws.
    let (f, y) = golden();
    let mean = |row: i64| {
        let (f, y) = (f.narrow(0, row, 1).repeat([4000, 1]), y.narrow(0, row, 1).repeat([4000, 1]));
        value(&softmax(&f, &y, 7).mean())
    };
    close(mean(0), 1.450512, 0.04);
    close(mean(1), 2.728507, 0.06);
    let theta = [0.5, 0.5, 0.5, 0.5, 0.5, 0., 0.5, -0.5, 1.5, -2.5];
    let theta = Tensor::from_slice(&theta).view([2, 5]);
    let of = |row: i64| {
        let part = |x: &Tensor| x.narrow(0, row, 1);
        value(&label_threshold(&part(&f), &part(&theta), &part(&y)).sum)
    };
    close(of(0), 2.883312, 1e-6);
    close(of(1), 3.457447, 1e-6);
    // Decided where f is above its threshold: 10001 and 10101.
    let decided: Vec<bool> = f.gt_tensor(&theta).flatten(0, -1).try_into().expect("bools");
    assert_eq!(decided.iter().map(|&d| u8::from(d)).collect::<Vec<_>>(), [1, 0, 0, 0, 1, 1, 0, 1, 0, 1]);
}

/// The pairs (u, v) of an image.
fn pairs(y: &[f64]) -> Vec<(usize, usize)> {
    let (u, v): (Vec<usize>, Vec<usize>) = (0..y.len()).partition(|&c| y[c] != 0.);
    u.iter().flat_map(|&u| v.iter().map(move |&v| (u, v))).collect()
}

/// Value and gradient of one image's pair loss, by loops: `charge` gives a pair's charge and its slope in z, `finish` what
/// the sum becomes and its slope.
fn slow(
    f: &[f64],
    y: &[f64],
    weight: impl Fn(usize) -> f64,
    charge: impl Fn(f64) -> (f64, f64),
    finish: impl Fn(f64) -> (f64, f64),
) -> (f64, Vec<f64>) {
    let (mut sum, mut slope) = (0., vec![0.; f.len()]);
    for (u, v) in pairs(y) {
        let (value, rise) = charge(f[v] - f[u]);
        sum += weight(u) * value;
        slope[v] += weight(u) * rise;
        slope[u] -= weight(u) * rise;
    }
    let (value, rise) = finish(sum);
    (value, slope.into_iter().map(|x| x * rise).collect())
}

fn drawn_labels(seed: u64, images: usize, classes: usize) -> Tensor {
    let mut rng = rankle::seed::at(seed, 9, 9);
    // The first images have no label, every label, one label.
    let all: Vec<i64> = (0..images * classes)
        .map(|i| match i / classes {
            0 => 0,
            1 => 1,
            2 => i64::from(i % classes == 3 % classes),
            _ => i64::from(rng.random_bool(0.3)),
        })
        .collect();
    Tensor::from_slice(&all).view([images as i64, classes as i64])
}

#[test]
fn loops_agree_on_drawn_scores_and_so_do_gradients() {
    for (seed, images, classes, scale) in [(1, 8, 6, 1.), (2, 5, 2, 1.), (3, 6, 15, 3.), (4, 7, 9, 0.)] {
        let y = drawn_labels(seed, images, classes);
        let labels = rows(&y);
        // Rounded, so that there are ties; a scale of 0 makes all equal.
        let f = (matrix(seed, images, classes) * scale * 4.).round() / 4.;
        let scores = rows(&f);
        let hinge_of = |z: f64| if 1. + z > 0. { (1. + z, 1.) } else { (0., 0.) };
        let exp = |z: f64| (z.exp(), z.exp());
        let same = |sum: f64| (sum, 1.);
        type Loss = Box<dyn Fn(&Tensor, &Tensor) -> Tally>;
        type Twin<'a> = Box<dyn Fn(usize) -> (f64, Vec<f64>) + 'a>;
        let rank = |row: usize, u: usize| 1 + scores[row].iter().filter(|&&x| x > scores[row][u]).count();
        let harmonic = |n: usize| (1..=n).map(|j| 1. / j as f64).sum::<f64>();
        let cases: [(Loss, Twin<'_>); 5] = [
            (
                Box::new(lsep_tensors),
                Box::new(|row| slow(&scores[row], &labels[row], |_| 1., exp, |sum| ((1. + sum).ln(), 1. / (1. + sum)))),
            ),
            (
                Box::new(lsep),
                Box::new(|row| slow(&scores[row], &labels[row], |_| 1., exp, |sum| ((1. + sum).ln(), 1. / (1. + sum)))),
            ),
            (
                Box::new(|f, y| hinge(f, y, 1.)),
                Box::new(|row| slow(&scores[row], &labels[row], |_| 1., hinge_of, same)),
            ),
            (
                Box::new(|f, y| warp(f, y, 1.)),
                Box::new(|row| slow(&scores[row], &labels[row], |u| harmonic(rank(row, u)), hinge_of, same)),
            ),
            (Box::new(bp_mll), Box::new(|row| slow(&scores[row], &labels[row], |_| 1., exp, same))),
        ];
        for (loss, twin) in cases {
            let f = f.copy().set_requires_grad(true);
            let tally = loss(&f, &y);
            let twins: Vec<(f64, Vec<f64>)> = (0..images).map(twin).collect();
            let valid: Vec<usize> = (0..images).filter(|&row| !pairs(&labels[row]).is_empty()).collect();
            let sum: f64 = valid.iter().map(|&row| twins[row].0).sum();
            close(value(&tally.sum), sum, 1e-9 * (1. + sum.abs()));
            assert_eq!(tally.terms.int64_value(&[]) as usize, valid.len());
            assert_eq!(tally.active.int64_value(&[]) as usize, valid.iter().filter(|&&row| twins[row].0 > 0.).count());
            tally.sum.backward();
            let gradient: Vec<f64> = twins.into_iter().flat_map(|twin| twin.1).collect();
            all_close(&f.grad().view([-1]), &Tensor::from_slice(&gradient), 1e-8 * (1. + sum.abs()));
        }
    }
}

#[test]
fn sampled_pairs_are_pairs_without_repetition_and_a_function_of_the_seed() {
    let (images, classes) = (4, 40);
    let y = drawn_labels(5, images, classes);
    let f = matrix(5, images, classes);
    // More pairs than there are: all of them.
    close(value(&lsep_sampled(&f, &y, 500, 1).sum), value(&lsep(&f, &y).sum), 1e-9);
    // Fewer: below the loss over all, above 0, the same for the same seed.
    let some = |seed: u64| value(&lsep_sampled(&f, &y, 20, seed).sum);
    assert_eq!(some(1), some(1));
    assert_ne!(some(1), some(2));
    assert!(some(1) < value(&lsep(&f, &y).sum) && some(1) > 0.);
    // With all scores equal the loss is log(1 + pairs): none is drawn twice, none is no pair.
    let flat = f.zeros_like().set_requires_grad(true);
    let tally = lsep_sampled(&flat, &y, 20, 3);
    close(value(&tally.sum), 2. * 21_f64.ln(), 1e-9);
    tally.sum.backward();
    let gradient = rows(&flat.grad());
    for (row, labels) in gradient.iter().zip(rows(&y)) {
        close(row.iter().sum::<f64>(), 0., 1e-12);
        // Labels are pushed up, others down.
        assert!(row.iter().zip(labels).all(|(&slope, label)| if label != 0. { slope <= 0. } else { slope >= 0. }));
    }
    // Every pair is drawn in the long run.
    let hit: Tensor = (0..200).fold(Tensor::zeros([1, 40], (Kind::Bool, Device::Cpu)), |hit, seed| {
        let flat = Tensor::zeros([1, 40], (Kind::Double, Device::Cpu)).set_requires_grad(true);
        lsep_sampled(&flat, &y.narrow(0, 3, 1), 20, seed).sum.backward();
        hit.logical_or(&flat.grad().ne(0.))
    });
    assert_eq!(hit.all().int64_value(&[]), 1);
}

#[test]
fn scores_of_five_hundred_stay_finite_with_exact_gradients() {
    let f = Tensor::from_slice(&[500_f32, -500., 0., 500., -500., 500., 500., -500.]).view([2, 4]);
    let y = Tensor::from_slice(&[0_i64, 1, 0, 1, 1, 0, 0, 1]).view([2, 4]);
    for loss in [
        lsep as fn(&Tensor, &Tensor) -> Tally,
        lsep_tensors,
        |f, y| lsep_sampled(f, y, 3, 1),
        |f, y| hinge(f, y, 1.),
        |f, y| warp(f, y, 1.),
        sigmoid,
    ] {
        let f = f.copy().set_requires_grad(true);
        let tally = loss(&f, &y);
        tally.sum.backward();
        assert!(value(&tally.sum).is_finite() && f.grad().isfinite().all().int64_value(&[]) == 1);
    }
    // The largest pair alone counts: 1000 each, with slopes of 1 where there is one such pair.
    let leaf = f.copy().set_requires_grad(true);
    let tally = lsep(&leaf, &y);
    close(value(&tally.sum), 2000. + 4_f64.ln(), 1e-3);
    tally.sum.backward();
    all_close(&leaf.grad().view([-1]), &Tensor::from_slice(&[1_f32, -1., 0., 0., -0.5, 0.5, 0.5, -0.5]), 1e-6);
}

#[test]
fn cross_entropy_keeps_its_digits_at_both_ends() {
    let ends = [0.5, 17., 18., 30., 80., 500., -0.5, -17., -18., -30., -80., -500.];
    let threshold: fn(&Tensor, &Tensor) -> Tally = |f, y| label_threshold(f, &f.zeros_like(), y);
    for (kind, tolerance, least) in [(Kind::Float, 4e-6, 1e-37), (Kind::Double, 1e-14, 0.)] {
        for loss in [sigmoid as fn(&Tensor, &Tensor) -> Tally, threshold] {
            for (label, end) in [0, 1].into_iter().flat_map(|label| ends.map(|end| (label, end))) {
                // As far on the right side as `margin`: log(1 + e^-margin), and its slope.
                let margin: f64 = if label == 1 { end } else { -end };
                let y = Tensor::from_slice(&[label]).view([1, 1]);
                let f = Tensor::from_slice(&[end]).view([1, 1]).to_kind(kind).set_requires_grad(true);
                let tally = loss(&f, &y);
                tally.sum.backward();
                let (found, slope) = (value(&tally.sum), value(&f.grad().view([])));
                let wanted = (-margin.abs()).exp().ln_1p() + (-margin).max(0.);
                let wanted_slope = if label == 1 { -1. } else { 1. } / (1. + margin.exp());
                // Below the least number that f32 has, 0 is exact.
                let near = |a: f64, b: f64| (a - b).abs() <= tolerance * b.abs() + least;
                assert!(near(found, wanted), "{kind:?}, {label} at {end}: {found} is not {wanted}");
                assert!(near(slope, wanted_slope), "{kind:?}, {label} at {end}: {slope} is not {wanted_slope}");
            }
        }
    }
}

#[test]
fn what_is_drawn_beforehand_gives_the_same_loss() {
    let y = drawn_labels(5, 6, 40);
    let f = matrix(5, 6, 40);
    let pairs = Pairs::draw(&y, 20, 3).expect("more pairs than 20");
    assert_eq!(value(&lsep_of(&f, &pairs).sum), value(&lsep_sampled(&f, &y, 20, 3).sum));
    assert_eq!(value(&softmax_on(&f, &draw_label(&y, 3)).sum), value(&softmax(&f, &y, 3).sum));
    // Where no image has more pairs, all are taken, and nothing is drawn: an image with one label of 40 has 39.
    let one = y.narrow(0, 2, 1);
    assert!(Pairs::draw(&one, 38, 1).is_some() && Pairs::draw(&one, 39, 1).is_none());
    close(value(&lsep_sampled(&f.narrow(0, 2, 1), &one, 39, 1).sum), value(&lsep(&f.narrow(0, 2, 1), &one).sum), 1e-12);
    let none = Pairs::draw(&y.narrow(0, 0, 3), 20, 1).expect("the third has more");
    assert_eq!(lsep_of(&f.narrow(0, 0, 3), &none).terms.int64_value(&[]), 1);
}

#[test]
fn no_labels_all_labels_half_kinds_and_nan() {
    let none = Tensor::zeros([3, 4], (Kind::Int64, Device::Cpu));
    for labels in [none.shallow_clone(), none.ones_like()] {
        for loss in [
            lsep as fn(&Tensor, &Tensor) -> Tally,
            lsep_tensors,
            |f, y| lsep_sampled(f, y, 2, 1),
            |f, y| hinge(f, y, 1.),
            |f, y| warp(f, y, 1.),
            bp_mll,
        ] {
            let f = matrix(1, 3, 4).set_requires_grad(true);
            let tally = loss(&f, &labels);
            assert_eq!((value(&tally.mean()), tally.terms.int64_value(&[])), (0., 0));
            tally.mean().backward();
            assert_eq!(value(&f.grad().abs().max()), 0.);
        }
    }
    let f = matrix(1, 3, 4).set_requires_grad(true);
    let tally = softmax(&f, &none, 1);
    assert_eq!(tally.terms.int64_value(&[]), 0);
    assert_eq!(label_count(&f, &none).terms.int64_value(&[]), 0);
    assert_eq!(sigmoid(&f, &none).terms.int64_value(&[]), 3, "cross-entropy has a term an image");
    let y = drawn_labels(1, 5, 6);
    for kind in [Kind::Half, Kind::BFloat16] {
        let low = matrix(2, 5, 6).to_kind(kind);
        for loss in [
            lsep as fn(&Tensor, &Tensor) -> Tally,
            lsep_tensors,
            |f, y| hinge(f, y, 1.),
            bp_mll,
            sigmoid,
            |f, y| softmax(f, y, 1),
        ] {
            let (low, high) = (loss(&low, &y).sum, loss(&low.to_kind(Kind::Float), &y).sum);
            assert_eq!((low.kind(), value(&low)), (Kind::Float, value(&high)));
        }
    }
    let f = matrix(2, 5, 6);
    let _ = f.get(4).get(2).fill_(f64::NAN);
    for loss in [
        lsep as fn(&Tensor, &Tensor) -> Tally,
        lsep_tensors,
        |f, y| hinge(f, y, 1.),
        |f, y| warp(f, y, 1.),
        bp_mll,
        sigmoid,
    ] {
        assert!(value(&loss(&f, &y).sum).is_nan());
    }
    let empty = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
    assert_eq!(value(&lsep(&empty, &empty).mean()), 0.);
    assert_eq!(value(&hinge(&empty, &empty, 1.).mean()), 0.);
}

#[test]
fn counts_are_clipped_and_start_at_one() {
    // 2 labels, 5 labels, none, with four classes of count.
    let y = Tensor::from_slice(&[1_i64, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]).view([3, 6]);
    let logits = Tensor::from_slice(&[0.1_f64, 0.7, -0.2, 0.4, 1., 0., 0.5, -1., 3., 0., 0., 0.]).view([3, 4]);
    let tally = label_count(&logits, &y);
    let log_softmax = rows(&logits.log_softmax(1, Kind::Double));
    close(value(&tally.sum), -log_softmax[0][1] - log_softmax[1][3], 1e-12);
    assert_eq!(tally.terms.int64_value(&[]), 2);
}
