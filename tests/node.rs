//! Functions with a gradient of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rankle::node::node;
use tch::{Kind, Tensor};

fn leaf(numbers: &[f64]) -> Tensor {
    Tensor::from_slice(numbers).set_requires_grad(true)
}

/// x · c, whose closure holds `token` and counts its calls there.
fn times(x: &Tensor, c: &Tensor, token: &Arc<AtomicUsize>) -> Tensor {
    let ([a, b], token) = ([x.detach(), c.detach()], Arc::clone(token));
    node(&a * &b, &[x, c], move |slope, needed| {
        token.fetch_add(1, Ordering::SeqCst);
        [&b, &a].iter().zip(needed).map(|(other, needed)| needed.then(|| &slope * *other)).collect()
    })
}

#[test]
fn slopes_reach_the_inputs_that_need_them() {
    let token = Arc::new(AtomicUsize::new(0));
    let (x, c) = (leaf(&[1., -2.]), Tensor::from_slice(&[3., 5.]));
    // Behind and before other functions, used twice.
    let y = times(&(&x * 2.), &c, &token);
    (&y * &y).sum(Kind::Double).backward();
    assert_eq!(Vec::<f64>::try_from(x.grad()).expect("f64"), [72., -400.]);
    assert!(!c.grad().defined());
    assert_eq!(token.load(Ordering::SeqCst), 1, "slopes of two uses come as one");
    // A graph that is kept may be gone through again; one input alone may be asked for.
    let c = leaf(&[3., 5.]);
    let y = times(&x, &c, &token).sum(Kind::Double);
    for _ in 0..2 {
        let slopes = Tensor::run_backward(&[&y], &[&c], true, false);
        assert_eq!(Vec::<f64>::try_from(&slopes[0]).expect("f64"), [1., -2.]);
    }
    let again = {
        let y = times(&x, &c, &token).sum(Kind::Double);
        y.backward();
        y.f_backward()
    };
    assert!(again.is_err(), "the closure is gone");
}

#[test]
fn a_closure_goes_with_its_graph() {
    let token = Arc::new(AtomicUsize::new(0));
    let held = || Arc::strong_count(&token) - 1;
    let (x, c) = (leaf(&[1.]), leaf(&[2.]));
    let y = times(&x, &c, &token);
    assert_eq!(held(), 1);
    drop(y);
    assert_eq!(held(), 0, "never called");
    let y = times(&x, &c, &token);
    y.backward();
    assert_eq!(held(), 0, "called, though the result is still there");
    drop(y);
    // Its own result, too, may be kept: it has no history there.
    let own = Arc::clone(&token);
    let y = x.detach() * 2.;
    let kept = y.shallow_clone();
    let y = node(y, &[&x], move |slope, _| {
        own.fetch_add(1, Ordering::SeqCst);
        vec![Some(slope * &kept)]
    });
    assert_eq!(held(), 1);
    drop(y);
    assert_eq!(held(), 0);
    // Nothing is kept where no gradient is.
    let y = tch::no_grad(|| times(&x, &c, &token));
    let z = times(&x.detach(), &c.detach(), &token);
    assert!(held() == 0 && !y.requires_grad() && !z.requires_grad());
}

#[test]
fn what_goes_wrong_in_a_gradient_is_an_error_of_the_backward_pass() {
    let x = leaf(&[1., 2.]);
    let failed = |backward: fn() -> Vec<Option<Tensor>>| {
        let y = node(x.detach() * 2., &[&x], move |_, _| backward()).sum(Kind::Double);
        let error = y.f_backward().expect_err("no gradient").to_string();
        rankle::say::first_line(&error).to_string()
    };
    assert!(failed(|| panic!("no such row\nas this")).ends_with("no such row"));
    assert!(failed(Vec::new).contains("a slope, or none, of each input"));
    assert!(failed(|| vec![Some(Tensor::from_slice(&[1.; 3]))]).contains("shape"));
    let y = node(x.detach() * 2., &[&x], |slope, _| vec![Some(slope * 2.)]);
    let second = Tensor::f_run_backward(&[&y.sum(Kind::Double)], &[&x], true, true).expect_err("a second derivative");
    assert!(second.to_string().contains("no second derivative"), "{second}");
}
