//! 3x3 convolutions by Winograd's minimal filters beside nested loops.

use rankle::models::inception::Nn2;
use rankle::models::layers::{Conv, Init, Scope};
use rankle::models::{Network, channels_last, hold_weights};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::store;
use crate::common::by_threads;
use crate::export::drawn;

/// Images, inputs, outputs, height and width.
type Shape = [usize; 5];

fn numbers(t: &Tensor) -> Vec<f32> {
    Vec::<f32>::try_from(t.detach().contiguous().flatten(0, -1)).expect("f32")
}

/// `[B, C, H, W]` as scores get in one of the images, `large`.
fn pictures(seed: u64, [batch, height, width]: [usize; 3], channels: usize, large: usize) -> Tensor {
    let x = drawn(seed, &[batch, channels, height, width].map(|n| n as i64));
    let _ = x.narrow(0, large as i64, 1).g_mul_scalar_(500.);
    x
}

/// Of a 3x3 convolution with padding 1 whose outputs y have the gradient dy: y and the gradients of x and of the weight, in
/// f64. Beside each number is the sum of what was added up, without signs.
fn by_loops([x, weight, dy]: [&[f32]; 3], [batch, inputs, outputs, height, width]: Shape) -> [Vec<[f64; 2]>; 3] {
    let mut found = [dy.len(), x.len(), weight.len()].map(|count| vec![[0.; 2]; count]);
    for (b, k, c) in (0..batch * outputs * inputs).map(|n| (n / inputs / outputs, n / inputs % outputs, n % inputs)) {
        for (i, j, u, v) in (0..height * width * 9).map(|n| (n / 9 / width, n / 9 % width, n / 3 % 3, n % 3)) {
            if (1..=height).contains(&(i + u)) && (1..=width).contains(&(j + v)) {
                let output = ((b * outputs + k) * height + i) * width + j;
                let pixel = ((b * inputs + c) * height + i + u - 1) * width + j + v - 1;
                let place = (k * inputs + c) * 9 + 3 * u + v;
                let (x, weight, dy) = (f64::from(x[pixel]), f64::from(weight[place]), f64::from(dy[output]));
                for (sums, at, term) in [(0, output, x * weight), (1, pixel, dy * weight), (2, place, dy * x)] {
                    let [sum, without_signs] = &mut found[sums][at];
                    *sum += term;
                    *without_signs += term.abs();
                }
            }
        }
    }
    found
}

fn near(found: &[f32], exact: &[[f64; 2]], relative: f64, what: &str) {
    assert_eq!(found.len(), exact.len(), "{what}");
    for (found, [exact, sum]) in found.iter().zip(exact) {
        assert!((f64::from(*found) - exact).abs() <= relative * sum, "{what}: {found}, {exact}");
    }
}

#[test]
fn held_3x3_convolutions_are_what_loops_give() {
    let _no_grad = tch::no_grad_guard();
    let shapes: [Shape; 5] = [
        [1, 64, 64, 8, 8],
        [3, 64, 80, 5, 7],
        [2, 80, 64, 13, 6],
        [1, 64, 64, 4, 131],
        // Blocks of several rows of tiles, with borders of images within.
        [5, 64, 96, 20, 10],
    ];
    for shape @ [batch, inputs, outputs, height, width] in shapes {
        let vs = store();
        let conv = Scope::root(&vs, 3).conv("conv", inputs as i64, outputs as i64, 3, 1, 1);
        let x = pictures(4, [batch, height, width], inputs, 0);
        let y = {
            let _held = hold_weights();
            numbers(&conv.forward(&channels_last(&x), false))
        };
        let weight = numbers(&vs.variables()["conv.weight"]);
        let [exact, ..] = by_loops([&numbers(&x), &weight, &vec![0.; y.len()]], shape);
        near(&y, &exact, 1e-6, &format!("{shape:?}"));
        assert!(y != numbers(&conv.forward(&x, false)), "{shape:?}: computed as it is without held weights");
        // What one image holds stays with it.
        let _ = x.narrow(0, 0, 1).fill_(f64::NAN);
        let _held = hold_weights();
        let spoilt = numbers(&conv.forward(&x, false));
        let (first, rest) = spoilt.split_at(outputs * height * width);
        assert!(first.iter().all(|y| y.is_nan()) && rest == &y[first.len()..], "{shape:?}");
    }
}

/// Large enough to be worth it though the weight is transformed for them alone.
const TRAINED: [Shape; 5] = [
    [3, 64, 80, 14, 14],
    [3, 80, 64, 19, 17],
    [1, 64, 64, 24, 26],
    [1, 64, 64, 6, 131],
    // Blocks of many images.
    [40, 64, 64, 4, 4],
];

struct Case {
    conv: Conv,
    weight: Tensor,
    x: Tensor,
    dy: Tensor,
}

impl Case {
    fn new([batch, inputs, outputs, height, width]: Shape) -> Case {
        let vs = store();
        let conv = Scope::root(&vs, 3).conv("conv", inputs as i64, outputs as i64, 3, 1, 1);
        let weight = vs.variables()["conv.weight"].shallow_clone();
        let map = [batch, height, width];
        Case { conv, weight, x: pictures(4, map, inputs, 0), dy: pictures(5, map, outputs, batch - 1) }
    }

    /// y and the gradients of x and of the weight.
    fn trained(&self) -> [Vec<f32>; 3] {
        let x = self.x.detach().set_requires_grad(true);
        let y = self.conv.forward(&x, true);
        let gradients = Tensor::run_backward(&[&(&y * &self.dy).sum(Kind::Float)], &[&x, &self.weight], false, false);
        [&y, &gradients[0], &gradients[1]].map(numbers)
    }
}

#[test]
fn trained_3x3_convolutions_and_their_gradients_are_what_loops_give() {
    for shape in TRAINED {
        let mut case = Case::new(shape);
        let found = case.trained();
        let exact = by_loops([&numbers(&case.x), &numbers(&case.weight), &numbers(&case.dy)], shape);
        for ((found, exact), what) in found.iter().zip(&exact).zip(["y", "of x", "of the weight"]) {
            near(found, exact, 2e-6, &format!("{shape:?}, {what}"));
        }
        assert!(found[0] != numbers(&case.conv.forward(&case.x, false)), "{shape:?}: computed as without training");
        (case.x, case.dy) = (channels_last(&case.x), channels_last(&case.dy));
        assert!(case.trained() == found, "{shape:?}: another order in memory");
        // What one image holds stays with it, but in the weight's gradient.
        let _ = case.x.narrow(0, 0, 1).fill_(f64::NAN);
        let _ = case.dy.narrow(0, 0, 1).fill_(f64::NAN);
        let spoilt = case.trained();
        for (spoilt, found) in spoilt.iter().zip(&found).take(2) {
            let (first, rest) = spoilt.split_at(spoilt.len() / shape[0]);
            assert!(first.iter().all(|y| y.is_nan()) && rest == &found[first.len()..], "{shape:?}");
        }
        assert!(spoilt[2].iter().all(|y| y.is_nan()), "{shape:?}");
    }
}

#[test]
fn how_many_threads_train_changes_no_bit() {
    let by = |threads| by_threads(threads, || TRAINED.map(|shape| Case::new(shape).trained()));
    assert!(by(1) == by(2));
}

#[test]
fn a_convolution_of_no_images_is_libtorchs() {
    let mut case = Case::new([1, 64, 64, 8, 8]);
    (case.x, case.dy) = (case.x.narrow(0, 0, 0), case.dy.narrow(0, 0, 0));
    let [y, of_x, of_weight] = case.trained();
    assert!(y.is_empty() && of_x.is_empty() && of_weight.len() == 64 * 64 * 9 && of_weight.iter().all(|x| *x == 0.));
    // Ours has no second derivative.
    let differentiated = |case: &Case| {
        let x = case.x.detach().set_requires_grad(true);
        Tensor::f_run_backward(&[&case.conv.forward(&x, true).sum(Kind::Float)], &[&x], true, true).is_ok()
    };
    assert!(differentiated(&case) && !differentiated(&Case::new(TRAINED[0])));
    let (_no_grad, _held) = (tch::no_grad_guard(), hold_weights());
    assert_eq!(case.conv.forward(&case.x, false).size(), [0, 64, 8, 8]);
}

#[test]
fn a_frozen_weight_and_an_input_without_a_gradient_leave_the_other_gradient_as_it_is() {
    let case = Case::new(TRAINED[0]);
    let found = case.trained();
    for which in 0..2 {
        let x = case.x.detach().set_requires_grad(which == 0);
        let _ = case.weight.set_requires_grad(which == 1);
        let y = case.conv.forward(&x, true);
        let loss = (&y * &case.dy).sum(Kind::Float);
        let gradients = Tensor::run_backward(&[&loss], &[[&x, &case.weight][which]], false, false);
        assert!(numbers(&y) == found[0] && numbers(&gradients[0]) == found[1 + which], "{which}");
    }
}

#[test]
fn what_a_gradient_needs_may_not_change_before_it() {
    for which in 0..3 {
        let case = Case::new(TRAINED[0]);
        let x = case.x.set_requires_grad(true);
        let y = case.conv.forward_relu(&x, true);
        let loss = y.sum(Kind::Float);
        let _ = [&x, &case.weight, &y][which].detach().zero_();
        let refused = loss.f_backward().expect_err("a gradient of what is there no more").to_string();
        assert!(refused.contains("changed in place"), "{which}: {refused}");
    }
}

#[test]
fn relu_makes_0_of_minus_infinity() {
    let _no_grad = tch::no_grad_guard();
    let (vs, images) = (store(), drawn(4, &[1, 3, 96, 96]));
    let net = Nn2::nn4(&Scope::root(&vs, 3), 96, 128, 1, false).expect("fits");
    let of = |bias: f64, train: bool| {
        let _held = hold_weights();
        let _ = vs.variables()["conv3.bias"].narrow(0, 0, 1).fill_(bias);
        numbers(&net.forward(&images, train))
    };
    for train in [false, true] {
        assert!(of(f64::NEG_INFINITY, train) == of(-1e30, train), "training: {train}");
    }
}

/// The losses of some steps of gradient descent.
fn descent(vs: &VarStore, images: &Tensor, net: impl Fn(&Tensor) -> Tensor) -> Vec<f64> {
    let step = |_| {
        let loss = net(images).square().mean(images.kind());
        let mut variables = vs.trainable_variables();
        for (x, gradient) in
            variables.iter_mut().zip(Tensor::run_backward(&[&loss], &vs.trainable_variables(), false, false))
        {
            let _ = tch::no_grad(|| x.g_sub_(&(gradient * 1e-3)));
        }
        loss.double_value(&[])
    };
    (0..6).map(step).collect()
}

#[test]
fn networks_learn_as_they_do_in_f64() {
    // Convolutions, ReLUs and poolings as VGG has them.
    let vgg = |vs: &VarStore| {
        let at = Scope::root(vs, 3);
        let convs = [(3, 64), (64, 64), (64, 128)];
        let convs = [0, 1, 2].map(|i| at.conv(&format!("conv{i}"), convs[i].0, convs[i].1, 3, 1, 1));
        let last = at.linear("last", 128, 8, Init::GlorotUniform { gain: 1. }, true);
        move |x: &Tensor| {
            let convolved = |x: Tensor, conv: &Conv| {
                conv.forward(&x, true).relu().max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)
            };
            let x = convs.iter().fold(x.shallow_clone(), convolved);
            last.forward(&x.adaptive_avg_pool2d([1, 1]).flatten(1, -1)) - 1.
        }
    };
    let images = drawn(4, &[10, 3, 32, 32]);
    let [ours, exact] = [Kind::Float, Kind::Double].map(|kind| {
        let mut vs = store();
        let net = vgg(&vs);
        if kind == Kind::Double {
            vs.double();
        }
        descent(&vs, &images.to_kind(kind), net)
    });
    assert!(exact[5] < 0.7 * exact[0], "{exact:?}");
    for (ours, exact) in ours.iter().zip(&exact) {
        assert!((ours - exact).abs() < 1e-4 * exact, "{ours:?}, {exact:?}");
    }
}

#[test]
fn bias_and_relu_have_the_gradients_that_they_have_in_f64() {
    let images = drawn(4, &[3, 3, 96, 96]);
    let factors = drawn(5, &[3, 128]);
    let [ours, exact] = [Kind::Float, Kind::Double].map(|kind| {
        let mut vs = store();
        let net = Nn2::nn4(&Scope::root(&vs, 3), 96, 128, 1, false).expect("fits");
        let trained = tch::no_grad(|| net.forward(&images, true));
        assert!(trained != tch::no_grad(|| net.forward(&images, false)), "computed as without training");
        if kind == Kind::Double {
            vs.double();
        }
        (net.forward(&images.to_kind(kind), true) * factors.to_kind(kind)).sum(kind).backward();
        vs.variables()
    });
    for (name, x) in &ours {
        let [ours, exact] = [x, &exact[name]].map(|x| x.grad().to_kind(Kind::Double));
        let off = (ours - &exact).norm().double_value(&[]) / exact.norm().double_value(&[]);
        assert!(off < 1e-3, "{name}: off by {off} of its length");
    }
}
