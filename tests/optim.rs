//! Optimisers against their textbook definitions.

use rankle::optim::{Optimizer, Rule};
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

use crate::common::{close, numbers, value};

/// The rules by their textbook definition on plain numbers; β₁ changes halfway.
fn slow(rule: Rule, x: &mut [f64], gradients: &[Vec<f64>], rate: f64, decay: f64, beta1: impl Fn(usize) -> f64) {
    let n = x.len();
    let (mut m, mut v) = (vec![0.; n], vec![0.; n]);
    if let Rule::AdaGrad { initial, .. } = rule {
        v.fill(initial);
    }
    let (mut product1, mut product2) = (1., 1.);
    for (t, gradient) in gradients.iter().enumerate() {
        if let Rule::Adam { beta2, .. } = rule {
            product1 *= beta1(t);
            product2 *= beta2;
        }
        for i in 0..n {
            let g = gradient[i] + decay * x[i];
            match rule {
                Rule::Sgd { momentum } => {
                    m[i] = momentum * m[i] + g;
                    x[i] -= rate * m[i];
                }
                Rule::Adam { beta2, eps } => {
                    m[i] = beta1(t) * m[i] + (1. - beta1(t)) * g;
                    v[i] = beta2 * v[i] + (1. - beta2) * g * g;
                    x[i] -= rate * (m[i] / (1. - product1)) / ((v[i] / (1. - product2)).sqrt() + eps);
                }
                Rule::AdaGrad { eps, .. } => {
                    v[i] += g * g;
                    x[i] -= rate * g / (v[i].sqrt() + eps);
                }
            }
        }
    }
}

const RULES: [Rule; 5] = [
    Rule::Sgd { momentum: 0. },
    Rule::Sgd { momentum: 0.9 },
    Rule::ADAM,
    Rule::Adam { beta2: 0.99, eps: 1e-3 },
    Rule::AdaGrad { initial: 0.1, eps: 1e-10 },
];

fn store(start: &[f64]) -> (VarStore, Tensor) {
    let store = VarStore::new(Device::Cpu);
    let x = store.root().var("x", &[start.len() as i64], Init::Const(0.));
    tch::no_grad(|| x.shallow_clone().copy_(&Tensor::from_slice(start)));
    let _untouched = store.root().var("untouched", &[2], Init::Const(3.));
    (store, x)
}

fn give(x: &Tensor, gradient: &[f64]) {
    let gradient = Tensor::from_slice(gradient).to_kind(Kind::Float);
    (x * gradient).sum(Kind::Float).backward();
}

#[test]
fn optimisers_equal_their_definition_and_resume_to_the_bit() {
    let start = numbers(31, 7);
    let gradients: Vec<Vec<f64>> = (0..20).map(|t| numbers(100 + t, 7)).collect();
    let beta1 = |t: usize| if t < 12 { 0.9 } else { 0.5 };
    for rule in RULES {
        for decay in [0., 0.01] {
            let mut expected = start.clone();
            slow(rule, &mut expected, &gradients, 0.05, decay, beta1);
            let (unbroken, x) = store(&start);
            let mut optimizer = Optimizer::new(rule, decay, &unbroken);
            let mut half = None;
            for (t, gradient) in gradients.iter().enumerate() {
                if t == 10 {
                    half = Some((
                        x.copy(),
                        optimizer.state().into_iter().map(|(name, x)| (name, x.copy())).collect::<Vec<_>>(),
                    ));
                }
                optimizer.zero_grad();
                give(&x, gradient);
                optimizer.step(0.05, beta1(t));
            }
            for (i, expected) in expected.iter().enumerate() {
                close(x.double_value(&[i as i64]), *expected, 5e-6);
            }
            assert_eq!(value(&unbroken.variables()["untouched"].sum(Kind::Float)), 6.);

            let (half_x, state) = half.expect("saved");
            let (again, y) = store(&start);
            tch::no_grad(|| y.shallow_clone().copy_(&half_x));
            let mut optimizer = Optimizer::new(rule, decay, &again);
            optimizer.load_state(state).expect("fits");
            for (t, gradient) in gradients.iter().enumerate().skip(10) {
                optimizer.zero_grad();
                give(&y, gradient);
                optimizer.step(0.05, beta1(t));
            }
            assert!(x.equal(&y), "{rule:?}");
        }
    }
}

/// Our single pass takes f32 on a CPU, libtorch's fused kernels f64, and its operations on lists what has gaps or is bf16.
#[test]
fn steps_in_one_pass_fused_and_by_lists_are_their_definition() {
    // More than one task's share, a scalar, nothing, dimensions in another order of memory, a 1x1 convolution's kernel.
    let shapes = [("one", vec![]), ("none", vec![0]), ("turned", vec![3, 5, 2, 3]), ("pointwise", vec![7, 3, 1, 1])];
    let beta1 = |t: usize| if t < 3 { 0.9 } else { 0.5 };
    let slope = |t: usize, x: &Tensor, name: &str| {
        let at = Tensor::arange(x.numel() as i64, (Kind::Double, Device::Cpu)) + (t + name.len()) as i64;
        at.sin().view(x.size().as_slice())
    };
    for (kind, gaps, tolerance) in [
        (Kind::Float, false, 1e-5),
        (Kind::Double, false, 1e-6),
        (Kind::Double, true, 1e-6),
        (Kind::BFloat16, false, 0.05),
    ] {
        for (rule, decay) in RULES.into_iter().flat_map(|rule| [(rule, 0.), (rule, 0.01)]) {
            let mut store = VarStore::new(Device::Cpu);
            let long = [("long", vec![if kind == Kind::Float { 70_001 } else { 1003 }])];
            for (name, size) in shapes.iter().chain(&long) {
                let mut x = store.root().var(name, size, Init::Const(0.5));
                if size.len() == 4 {
                    x.set_data(&rankle::models::channels_last(&x.detach()));
                }
            }
            store.set_kind(kind);
            for mut x in store.variables().into_values().filter(|x| gaps && x.dim() == 1) {
                let wide = Tensor::full([2 * x.numel() as i64], 0.5, (kind, Device::Cpu));
                x.set_data(&wide.slice(0, 0, None, 2));
            }
            let mut optimizer = Optimizer::new(rule, decay, &store);
            for t in 0..6 {
                optimizer.zero_grad();
                for (name, x) in store.variables() {
                    (&x * slope(t, &x, &name).to_kind(kind)).sum(None::<Kind>).backward();
                }
                let replays = optimizer.prepare(0.05, beta1(t));
                assert_eq!(replays, kind == Kind::Double && !gaps && t > 0 && beta1(t) == beta1(t - 1), "{rule:?} {t}");
                optimizer.apply();
            }
            for (name, x) in store.variables() {
                let given = (0..6).map(|t| Vec::try_from(slope(t, &x, &name).flatten(0, -1)).expect("numbers"));
                let mut expected = vec![0.5; x.numel()];
                slow(rule, &mut expected, &given.collect::<Vec<_>>(), 0.05, decay, beta1);
                let found = x.detach().to_kind(Kind::Double).flatten(0, -1);
                crate::common::all_close(&found, &Tensor::from_slice(&expected), tolerance);
            }
        }
    }
}

#[test]
fn clipping_scales_the_common_norm_down_and_never_up() {
    for (most, wanted) in [(2.5, [1.5, -2.]), (5., [3., -4.]), (100., [3., -4.]), (0., [3., -4.])] {
        let (store, x) = store(&[0., 0.]);
        give(&x, &[3., -4.]);
        let mut optimizer = Optimizer::new(Rule::Sgd { momentum: 0. }, 0., &store);
        optimizer.clip(most);
        crate::common::all_close(&x.grad(), &tch::Tensor::from_slice(&wanted), 1e-6);
    }
    // Of two parameters, the common norm; a norm that f32 cannot hold; and one that is not finite.
    for (given, wanted) in
        [([3., -4.], [1.5, -2.]), ([2.4e38, -3.2e38], [1.5, -2.]), ([f64::INFINITY, 1.], [f64::NAN; 2])]
    {
        let store = VarStore::new(Device::Cpu);
        let both = ["a", "b"].map(|name| store.root().var(name, &[1], Init::Const(0.)));
        both.iter().zip(given).for_each(|(x, given)| give(x, &[given]));
        Optimizer::new(Rule::ADAM, 0., &store).clip(2.5);
        let found = Tensor::cat(&both.each_ref().map(Tensor::grad), 0);
        assert!(
            found.allclose(&Tensor::from_slice(&wanted).to_kind(Kind::Float), 1e-6, 0., true),
            "{found:?} {wanted:?}"
        );
    }
    // Without gradients there is nothing to do.
    let (store, _x) = store(&[1.]);
    Optimizer::new(Rule::ADAM, 0., &store).clip(1.);
}

#[test]
fn state_that_does_not_fit_is_named() {
    let (one, _) = store(&[1., 2.]);
    let mut optimizer = Optimizer::new(Rule::ADAM, 0., &one);
    assert_eq!(optimizer.load_state(vec![]), Err("steps".into()));
    let mut state = optimizer.state();
    state.push(("first.y".into(), Tensor::zeros([2], (Kind::Float, Device::Cpu))));
    assert_eq!(optimizer.load_state(state), Err("first.y".into()));
    let mut state = optimizer.state();
    state.push(("first.x".into(), Tensor::zeros([3], (Kind::Float, Device::Cpu))));
    assert_eq!(optimizer.load_state(state), Err("first.x".into()));
}
