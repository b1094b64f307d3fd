//! Distances against nested loops, and the edges that break the usual formulas.

use rankle::distance::{Metric, normalize};
use tch::{Kind, Tensor};

use crate::common::{all_close, close, gradient, matrix, numbers, rows, value};

const METRICS: [Metric; 3] = [Metric::Euclidean, Metric::SquaredEuclidean, Metric::Cosine];

fn slow(metric: Metric, a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let squared: f64 = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum();
    match metric {
        Metric::Euclidean => squared.sqrt(),
        Metric::SquaredEuclidean => squared,
        Metric::Cosine => {
            let lengths = dot(a, a).sqrt() * dot(b, b).sqrt();
            if lengths == 0. { 1. } else { 1. - dot(a, b) / lengths }
        }
    }
}

#[test]
fn equal_nested_loops_in_every_kind() {
    let (a, b) = (matrix(1, 9, 17), matrix(2, 5, 17));
    for metric in METRICS {
        for (kind, tolerance) in
            [(Kind::Double, 1e-12), (Kind::Float, 2e-6), (Kind::Half, 2e-6), (Kind::BFloat16, 2e-6)]
        {
            let (a, b) = (a.to_kind(kind), b.to_kind(kind));
            let (ra, rb) = (rows(&a), rows(&b));
            let wide = if kind == Kind::Double { Kind::Double } else { Kind::Float };
            let whole = metric.matrix(&a, &b);
            assert_eq!((whole.kind(), whole.size()), (wide, vec![9, 5]));
            for (i, x) in ra.iter().enumerate() {
                for (j, y) in rb.iter().enumerate() {
                    close(whole.double_value(&[i as i64, j as i64]), slow(metric, x, y), tolerance);
                }
            }
            let paired = metric.paired(&a.narrow(0, 0, 5), &b);
            assert_eq!((paired.kind(), paired.size()), (wide, vec![5]));
            for i in 0..5 {
                close(paired.double_value(&[i as i64]), slow(metric, &ra[i], &rb[i]), tolerance);
            }
        }
    }
}

/// Central differences of a weighted sum of all distances.
#[test]
fn gradients_equal_differences() {
    let (x, y) = (matrix(3, 6, 4), matrix(4, 5, 4));
    let weight = matrix(5, 6, 5);
    for metric in METRICS {
        let f = |x: &Tensor| (metric.matrix(x, &y) * &weight).sum(Kind::Double);
        let ours = gradient(&x, f);
        for i in 0..6 {
            for j in 0..4 {
                let moved = |by: f64| {
                    let x = x.copy();
                    let mut cell = x.get(i).get(j);
                    cell += by;
                    value(&f(&x))
                };
                close(ours.double_value(&[i, j]), (moved(1e-6) - moved(-1e-6)) / 2e-6, 1e-6);
            }
        }
    }
}

#[test]
fn equal_rows_are_at_zero_with_a_zero_gradient() {
    for kind in [Kind::Float, Kind::Double, Kind::Half] {
        let x = matrix(6, 4, 128).to_kind(kind);
        let twice = Tensor::cat(&[&x, &x], 0);
        for metric in [Metric::Euclidean, Metric::SquaredEuclidean] {
            let d = metric.matrix(&twice, &twice);
            for i in 0..4 {
                assert_eq!(d.double_value(&[i, i + 4]), 0.);
                assert_eq!(d.double_value(&[i, i]), 0.);
            }
            let grad =
                gradient(&twice.to_kind(Kind::Float), |x| metric.matrix(x, x).diagonal(4, 0, 1).sum(Kind::Float));
            assert_eq!(value(&grad.abs().max()), 0.);
            let paired = gradient(&x.to_kind(Kind::Float), |x| metric.paired(x, &x.detach()).sum(Kind::Float));
            assert_eq!(value(&paired.abs().max()), 0.);
        }
    }
    let same = Tensor::ones([7, 16], (Kind::Float, tch::Device::Cpu)) * 3.3;
    for metric in METRICS {
        let grad = gradient(&same, |x| metric.matrix(x, x).sum(Kind::Float));
        assert!(value(&grad.isfinite().all().to_kind(Kind::Float)) == 1. && value(&grad.abs().max()) < 1e-5);
    }
}

#[test]
fn a_common_offset_of_1000_changes_nothing() {
    // Shifted by a number that f32 adds exactly to these rows, so that only the formula can lose digits.
    let x = (matrix(7, 24, 32) * 64.).round() / 64.;
    let x = x.to_kind(Kind::Float);
    for metric in [Metric::Euclidean, Metric::SquaredEuclidean] {
        let (near, far) = (metric.matrix(&x, &x), metric.matrix(&(&x + 1000.), &(&x + 1000.)));
        all_close(&far, &near, 2e-4);
    }
}

#[test]
fn zero_rows_huge_rows_and_nan() {
    let x = Tensor::from_slice(&[0_f32, 0., 3., 4., 1e-25, 0., 1e25, 1e25]).view([4, 2]);
    let unit = rows(&normalize(&x));
    assert_eq!(unit[0], [0., 0.]);
    close(unit[1][1], 0.8, 1e-7);
    close(unit[2][0], 1., 1e-6);
    close(unit[3][0], 0.5_f64.sqrt(), 1e-6);
    let grad = gradient(&x, |x| normalize(x).sum(Kind::Float));
    assert!(value(&grad.get(0).abs().max()) == 0. && value(&grad.get(1).isfinite().all().to_kind(Kind::Float)) == 1.);
    let mut broken = numbers(8, 12);
    broken[5] = f64::NAN;
    let broken = Tensor::from_slice(&broken).view([4, 3]);
    for metric in METRICS {
        assert!(value(&metric.matrix(&broken, &broken).sum(Kind::Double)).is_nan());
        assert!(value(&metric.paired(&broken, &broken.flip([0])).sum(Kind::Double)).is_nan());
    }
    let none = Tensor::zeros([0, 3], (Kind::Float, tch::Device::Cpu));
    assert_eq!(Metric::Euclidean.matrix(&none, &none).size(), [0, 0]);
}
