//! Layers: their arithmetic, their statistics, where their parameters start.

use rankle::models::Then;
use rankle::models::layers::{Init, Scope};
use tch::{Device, Kind, Tensor};

use super::store;
use crate::common::{all_close, value};
use crate::export::drawn;

#[test]
fn leaky_relu_is_leaky_by_its_slope() {
    for slope in [0.0, 0.3] {
        let x = Tensor::from_slice(&[-2.0_f64, -0.5, 0.0, 3.0]).set_requires_grad(true);
        let y = rankle::models::layers::leaky_relu_(&x * 1.0, slope);
        assert_eq!(Vec::<f64>::try_from(&y).unwrap(), [-2.0 * slope, -0.5 * slope, 0.0, 3.0]);
        y.sum(None::<Kind>).backward();
        assert_eq!(Vec::<f64>::try_from(x.grad()).unwrap(), [slope, slope, slope, 1.0]);
    }
}

#[test]
fn a_bias_before_batch_normalisation_is_left_out_and_known() {
    let bias = || Tensor::from_slice(&[0.5_f32, -2.]).set_requires_grad(true);
    let x = drawn(3, &[4, 2, 3, 3]);
    let through = |left_out: bool| {
        let (vs, bias) = (store(), bias());
        let bn = Scope::root(&vs, 0).batch_norm("bn", 2);
        let with = &x + bias.view([1, 2, 1, 1]);
        let pass = || if left_out { bn.of_biased(&x, &bias, &Then::act(1.)) } else { bn.forward(&with, true) };
        let y = pass() + pass(); // as a siamese network does, before any backward pass
        (&y * drawn(4, &[4, 2, 3, 3])).sum(Kind::Float).backward();
        let all = vs.variables();
        let stands = ["bn.running_mean", "bn.running_var"].map(|name| all[name].copy());
        let slopes = ["bn.weight", "bn.bias"].map(|name| all[name].grad());
        (y, stands, slopes, bias.grad())
    };
    for synchronised in [false, true] {
        if synchronised {
            rankle::models::layers::synchronise_batch_norm(Tensor::shallow_clone); // a world of one
        }
        let ((y, stands, slopes, none), plain) = (through(true), through(false));
        all_close(&y, &plain.0, 1e-5);
        stands.iter().chain(&slopes).zip(plain.1.iter().chain(&plain.2)).for_each(|(a, b)| all_close(a, b, 1e-5));
        assert_eq!(value(&none.abs().max()), 0.);
        assert!(value(&plain.3.abs().max()) < 1e-5);
    }
}

#[test]
fn batch_normalisation_learns_its_statistics() {
    let vs = store();
    let bn = Scope::root(&vs, 0).batch_norm("bn", 2);
    let x = drawn(9, &[3, 2, 4, 5]);
    let y = bn.forward(&x, true);
    for c in 0..2 {
        let v = Vec::<f32>::try_from(x.select(1, c).contiguous().flatten(0, -1)).unwrap();
        let n = v.len() as f64;
        let mean = v.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let square = v.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
        let running = |what: &str| vs.variables()[what].double_value(&[c]);
        assert!((running("bn.running_mean") - 0.1 * mean).abs() < 1e-6);
        assert!((running("bn.running_var") - (0.9 + 0.1 * square / (n - 1.0))).abs() < 1e-6);
        let expected = (f64::from(v[0]) - mean) / (square / n + 1e-5).sqrt();
        assert!((y.double_value(&[0, c, 0, 0]) - expected).abs() < 1e-5);
    }
    // Evaluation uses them and leaves them.
    let before = vs.variables()["bn.running_mean"].copy();
    let z = bn.forward(&x, false);
    assert_eq!(vs.variables()["bn.running_mean"], before);
    let var = vs.variables()["bn.running_var"].double_value(&[1]);
    let expected = (x.double_value(&[2, 1, 3, 4]) - before.double_value(&[1])) / (var + 1e-5).sqrt();
    assert!((z.double_value(&[2, 1, 3, 4]) - expected).abs() < 1e-5);
}

#[test]
fn a_parameter_starts_by_its_seed_and_name_alone() {
    let (a, b, c) = (store(), store(), store());
    let (at, other) = (Scope::root(&a, 3), Scope::root(&b, 3));
    at.conv("x", 3, 8, 3, 1, 1);
    at.linear("y", 5, 6, Init::GlorotUniform { gain: 1.0 }, true);
    other.linear("y", 5, 6, Init::GlorotUniform { gain: 1.0 }, true);
    other.batch_norm("z", 4);
    other.conv("x", 3, 8, 3, 1, 1);
    Scope::root(&c, 4).conv("x", 3, 8, 3, 1, 1);
    for name in ["x.weight", "y.weight"] {
        assert_eq!(a.variables()[name], b.variables()[name], "{name}");
    }
    assert_ne!(a.variables()["x.weight"], c.variables()["x.weight"]);
    // Two parameters of one shape differ.
    let (x, y) = (Init::HeNormal.values(3, "x", &[4, 4]), Init::HeNormal.values(3, "y", &[4, 4]));
    assert_ne!(x, y);
    // Batch normalisation starts as the identity (tch's own draws its weights).
    assert_eq!(b.variables()["z.weight"], Tensor::ones([4], (Kind::Float, Device::Cpu)));
    assert_eq!(b.variables()["z.running_var"], Tensor::ones([4], (Kind::Float, Device::Cpu)));
    assert_eq!(b.variables()["z.bias"], Tensor::zeros([4], (Kind::Float, Device::Cpu)));
    assert_eq!(a.variables()["y.bias"], Tensor::zeros([6], (Kind::Float, Device::Cpu)));
}

#[test]
fn initial_values_have_the_distributions_they_name() {
    let moments = |values: &[f32]| {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        let fourth = values.iter().map(|&v| (f64::from(v) - mean).powi(4)).sum::<f64>() / n;
        (mean, var, fourth / (var * var))
    };
    // 3 blocks and a rest; fan_in 9 * 64 = 576.
    let he = Init::HeNormal.values(1, "w", &[341, 64, 3, 3]);
    assert_eq!(he.len(), 341 * 576);
    let (mean, var, kurtosis) = moments(&he);
    let std = (2.0_f64 / 576.0).sqrt();
    assert!(mean.abs() < 0.01 * std, "{mean}");
    assert!((var.sqrt() / std - 1.0).abs() < 0.01, "{var}");
    assert!((kurtosis - 3.0).abs() < 0.06, "{kurtosis}");
    let blocks: Vec<&[f32]> = he.chunks(1 << 16).collect();
    assert_ne!(blocks[0][..64], blocks[1][..64]);

    let bound = 2.0 * (6.0_f64 / (300.0 + 200.0)).sqrt();
    let glorot = Init::GlorotUniform { gain: 2.0 }.values(1, "w", &[300, 200]);
    let (mean, var, kurtosis) = moments(&glorot);
    let largest = glorot.iter().fold(0.0_f64, |a, &v| a.max(f64::from(v).abs()));
    assert!(largest <= bound * (1.0 + 1e-6) && largest > 0.999 * bound, "{largest}");
    assert!(mean.abs() < 0.01 * bound, "{mean}");
    assert!((var / (bound * bound / 3.0) - 1.0).abs() < 0.02, "{var}");
    assert!((kurtosis - 1.8).abs() < 0.03, "{kurtosis}");
    assert_eq!(Init::Constant(2.5).values(1, "w", &[3]), [2.5; 3]);
    assert_eq!(Init::HeNormal.values(1, "w", &[1, 3]).len(), 3);
}

#[test]
#[should_panic(expected = "declared twice")]
fn two_variables_of_one_name_are_refused() {
    let vs = store();
    let at = Scope::root(&vs, 0);
    at.batch_norm("bn", 2);
    at.batch_norm("bn", 2);
}
