//! Batch normalisation in training with what follows it, in one function, beside nested loops and libtorch's operators in f64.

use rankle::models::layers::Scope;
use rankle::models::{Then, channels_last};
use rankle::say::caught;
use tch::{Kind, Tensor};

use super::{stir, store};
use crate::common::{all_close, by_threads};
use crate::export::drawn;

type Case = (&'static [i64], f64, f64, f64, bool, f64);

/// Shape, mean (of every second channel its negative), spread, scale, whether something is added, slope.
const CASES: [Case; 7] = [
    (&[2, 1, 1, 1], 0., 1., 1., false, 1.),
    (&[3, 16, 4, 5], 0., 1., 1., false, 0.),
    (&[5, 19, 3, 7], 500., 0.01, 0.17, true, 0.3),
    (&[2, 64, 9, 11], 500., 0.01, 1., false, 0.3),
    (&[7, 33, 5], 3., 1., 1., true, 0.),
    (&[130, 5], 0., 1., 2., true, 1.),
    // More than a thread takes at once.
    (&[2, 40, 33, 40], 0., 1., 1., true, 0.),
];

/// x, what is added and the slope of the output.
fn inputs(shape: &[i64], mean: f64, spread: f64, added: bool) -> (Tensor, Option<Tensor>, Tensor) {
    let x = drawn(1, shape) * spread;
    let channels = shape[1];
    for c in 0..channels {
        let _ = x.narrow(1, c, 1).g_add_scalar_(if c % 2 == 0 { mean } else { -mean });
    }
    (x, added.then(|| drawn(2, shape)), drawn(3, shape))
}

/// y, the slopes of x, weight and bias, the running mean and variance, and the slope of what is added.
fn found(x: &Tensor, added: Option<&Tensor>, dy: &Tensor, scale: f64, slope: f64) -> Vec<Tensor> {
    let mut vs = store();
    let bn = Scope::root(&vs, 0).batch_norm("bn", x.size()[1]);
    stir(&vs);
    if x.kind() == Kind::Double {
        vs.double();
    }
    let leaf = |x: &Tensor| x.detach().set_requires_grad(true);
    let (x, added) = (leaf(x), added.map(leaf));
    let y = bn.followed(&x, true, &Then { scale, added: added.as_ref(), slope });
    (&y * dy).sum(x.kind()).backward();
    let all = vs.variables();
    let mut found = vec![y.detach(), x.grad(), all["bn.weight"].grad(), all["bn.bias"].grad()];
    found.extend(["bn.running_mean", "bn.running_var"].map(|name| all[name].copy()));
    found.extend(added.map(|added| added.grad()));
    found
}

fn numbers(x: &Tensor) -> Vec<f64> {
    Vec::try_from(x.detach().to_kind(Kind::Double).contiguous().flatten(0, -1)).expect("f64")
}

/// The same by loops, each number with the sum of what was added up, without signs. On which side of 0 an output was is
/// taken from `y`.
fn by_loops(x: &Tensor, added: Option<&Tensor>, dy: &Tensor, y: &Tensor, scale: f64, slope: f64) -> Vec<Vec<[f64; 2]>> {
    let vs = store();
    Scope::root(&vs, 0).batch_norm("bn", x.size()[1]);
    stir(&vs);
    let [weight, bias, running_mean, running_variance] =
        ["weight", "bias", "running_mean", "running_var"].map(|name| numbers(&vs.variables()[&format!("bn.{name}")]));
    let (channels, places) = (x.size()[1] as usize, x.size()[2..].iter().product::<i64>() as usize);
    let added = added.map(numbers);
    let [x, dy, y] = [x, dy, y].map(numbers);
    let mut all: Vec<Vec<[f64; 2]>> =
        [x.len(), x.len(), channels, channels, channels, channels, x.len()].map(|n| vec![[0.; 2]; n]).into();
    for c in 0..channels {
        let own: Vec<usize> = (0..x.len()).filter(|i| i / places % channels == c).collect();
        let n = own.len() as f64;
        let mean = own.iter().map(|&i| x[i]).sum::<f64>() / n;
        let variance = own.iter().map(|&i| (x[i] - mean).powi(2)).sum::<f64>() / n;
        let deviation = (variance + 1e-5).sqrt();
        let unbiased = variance * n / (n - 1.);
        all[4][c] = [0.9 * running_mean[c] + 0.1 * mean, running_mean[c].abs() + mean.abs()];
        all[5][c] = [0.9 * running_variance[c] + 0.1 * unbiased, running_variance[c] + unbiased];
        // The chain rule step by step (Ioffe and Szegedy 2015, section 3).
        let (mut of_variance, mut of_mean, mut sizes) = (0., 0., [0.; 2]);
        for &i in &own {
            let hat = (x[i] - mean) / deviation;
            let more = added.as_ref().map_or(0., |added| added[i]);
            let z = scale * (weight[c] * hat + bias[c]) + more;
            all[0][i] =
                [if z < 0. { slope * z } else { z }, scale * ((weight[c] * hat).abs() + bias[c].abs()) + more.abs()];
            let g = if y[i] <= 0. { slope * dy[i] } else { dy[i] };
            all[6][i] = [g, g.abs()];
            for (at, term) in [(2, g * hat * scale), (3, g * scale)] {
                all[at][c] = [all[at][c][0] + term, all[at][c][1] + term.abs()];
            }
            let of_hat = g * scale * weight[c];
            of_variance += of_hat * (x[i] - mean) * -0.5 * deviation.powi(-3);
            of_mean -= of_hat / deviation;
            sizes = [sizes[0] + of_hat.abs() / n, sizes[1] + (of_hat * hat).abs() / n];
            all[1][i] = [of_hat / deviation, of_hat.abs()];
        }
        for &i in &own {
            let hat = (x[i] - mean) / deviation;
            let [direct, size] = all[1][i];
            all[1][i] = [
                direct + of_variance * 2. * (x[i] - mean) / n + of_mean / n,
                (size + sizes[0] + sizes[1] * hat.abs()) / deviation,
            ];
        }
    }
    all.truncate(if added.is_some() { 7 } else { 6 });
    all
}

#[test]
fn a_normalisation_and_what_follows_are_what_loops_and_libtorch_give() {
    for case @ (shape, mean, spread, scale, adds, slope) in CASES {
        let (x, added, dy) = inputs(shape, mean, spread, adds);
        let ours = found(&x, added.as_ref(), &dy, scale, slope);
        let wide = |x: &Tensor| x.to_kind(Kind::Double);
        let theirs = found(&wide(&x), added.as_ref().map(wide).as_ref(), &wide(&dy), scale, slope);
        let loops = by_loops(&x, added.as_ref(), &dy, &ours[0], scale, slope);
        assert_eq!((ours.len(), theirs.len()), (loops.len(), loops.len()), "{case:?}");
        for (what, ((ours, theirs), loops)) in ours.iter().zip(&theirs).zip(&loops).enumerate() {
            assert_eq!((ours.kind(), ours.size()), (Kind::Float, theirs.size()));
            for ((ours, theirs), [exact, size]) in numbers(ours).iter().zip(numbers(theirs)).zip(loops) {
                assert!((ours - exact).abs() <= 1e-5 * size, "{case:?}, {what}: {ours}, {exact} by loops");
                assert!((ours - theirs).abs() <= 1e-5 * size, "{case:?}, {what}: {ours}, {theirs} by libtorch");
            }
        }
        if shape.len() == 4 {
            // An input as images lie in memory is not turned around; that changes nothing.
            assert!(found(&channels_last(&x), added.as_ref(), &channels_last(&dy), scale, slope) == ours, "{case:?}");
        }
    }
}

#[test]
fn a_gradient_may_be_part_of_a_joined_one() {
    let (x, others, weights) = (drawn(1, &[3, 20, 4, 5]), drawn(2, &[3, 7, 4, 5]), drawn(3, &[3, 34, 4, 5]));
    let (x, others, weights) = (channels_last(&x), channels_last(&others), channels_last(&weights));
    let slopes = |joined: bool, kind: Kind| {
        let mut vs = store();
        let bn = Scope::root(&vs, 0).batch_norm("bn", 20);
        if kind == Kind::Double {
            vs.double();
        }
        let wide = |x: &Tensor| x.to_kind(kind);
        let x = wide(&x).detach().set_requires_grad(true);
        let y = bn.followed(&x, true, &Then::act(0.));
        let (all, weights) = if joined {
            (Tensor::cat(&[&wide(&others), &y, &wide(&others)], 1), wide(&weights))
        } else {
            (y, wide(&weights).narrow(1, 7, 20).contiguous())
        };
        (all * weights).sum(kind).backward();
        x.grad()
    };
    assert_eq!(slopes(true, Kind::Float), slopes(false, Kind::Float));
    all_close(&slopes(true, Kind::Float), &slopes(true, Kind::Double), 1e-5);
}

#[test]
fn a_normalisation_gives_the_same_with_any_number_of_threads() {
    let by = |threads| {
        by_threads(threads, || {
            let (shape, mean, spread, scale, adds, slope) = CASES[6];
            let (x, added, dy) = inputs(shape, mean, spread, adds);
            [added.as_ref(), None].map(|added| found(&x, added, &dy, scale, slope))
        })
    };
    assert!(by(1) == by(2));
}

#[test]
fn a_nan_and_a_number_without_a_square_spoil_their_own_channel() {
    for (adds, slope) in [(false, 0.), (true, 0.), (false, 0.3), (true, 1.)] {
        let (x, added, dy) = inputs(&[3, 18, 4, 5], 0., 1., adds);
        let whole = found(&x, added.as_ref(), &dy, 1., slope);
        for wrong in [f64::NAN, 4e19] {
            let _ = x.narrow(0, 1, 1).narrow(1, 17, 1).narrow(2, 2, 1).fill_(wrong);
            let spoilt = found(&x, added.as_ref(), &dy, 1., slope);
            // y and the slope of x.
            for (whole, spoilt) in whole.iter().zip(&spoilt).take(2) {
                assert_eq!(spoilt.narrow(1, 0, 17), whole.narrow(1, 0, 17));
                assert!(numbers(&spoilt.narrow(1, 17, 1)).iter().all(|x| x.is_nan()), "{wrong}");
            }
        }
    }
}

#[test]
fn a_channel_of_one_number_gives_its_bias() {
    let y = found(&drawn(1, &[1, 7, 1, 1]), None, &drawn(2, &[1, 7, 1, 1]), 1., 1.).swap_remove(0);
    let vs = store();
    Scope::root(&vs, 0).batch_norm("bn", 7);
    stir(&vs);
    all_close(&y.flatten(0, -1), &vs.variables()["bn.bias"].detach(), 1e-3);
}

#[test]
fn frozen_factors_and_an_input_without_a_gradient_leave_the_other_gradients_as_they_are() {
    let (x, _, dy) = inputs(&[3, 18, 4, 5], 0., 1., false);
    let slopes = |of_x: bool, of_factors: bool| {
        let vs = store();
        let bn = Scope::root(&vs, 0).batch_norm("bn", 18);
        stir(&vs);
        let all = vs.variables();
        let [weight, bias] = ["bn.weight", "bn.bias"].map(|name| all[name].set_requires_grad(of_factors));
        let x = x.detach().set_requires_grad(of_x);
        (bn.followed(&x, true, &Then::act(0.3)) * &dy).sum(Kind::Float).backward();
        [x, weight, bias].map(|leaf| leaf.grad())
    };
    let whole = slopes(true, true);
    let [x, weight, bias] = slopes(true, false);
    assert!(x == whole[0] && !weight.defined() && !bias.defined());
    let [x, weight, bias] = slopes(false, true);
    assert!(!x.defined() && weight == whole[1] && bias == whole[2]);
}

#[test]
fn a_slope_outside_of_0_to_1_is_refused() {
    let vs = store();
    let bn = Scope::root(&vs, 0).batch_norm("bn", 3);
    for (slope, train) in [(-0.1, true), (-0.1, false), (1.1, true), (f64::NAN, true)] {
        let refused = caught(|| bn.followed(&drawn(1, &[4, 3, 2, 2]), train, &Then::act(slope)));
        assert!(refused.expect_err("no activation").contains("slope"), "{slope}");
    }
}

#[test]
fn what_a_gradient_needs_may_not_be_changed() {
    let vs = store();
    let bn = Scope::root(&vs, 0).batch_norm("bn", 3);
    let x = drawn(1, &[4, 3, 2, 2]);
    let (x, added) = (channels_last(&x).set_requires_grad(true) * 2., drawn(2, &[4, 3, 2, 2]));
    for which in 0..2 {
        let y = bn.followed(&x, true, &Then { scale: 1., added: Some(&added), slope: 0. });
        let loss = y.sum(Kind::Float);
        let _ = [&x, &y][which].detach().g_add_scalar_(1.);
        let refused = loss.f_backward().expect_err("a gradient of what is there no more").to_string();
        assert!(refused.contains("was changed in place"), "{refused}");
    }
}
