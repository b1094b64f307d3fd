//! Collapses and losses that are not finite.

use rankle::optim::{Optimizer, Rule};
use rankle::run::watch::{Collapse, Finite, Reading, Watch};
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

fn reading(loss: f64, median_distance: f64) -> Reading {
    Reading { what: Collapse::Embeddings, loss, collapsed_loss: 0.2, median_distance, mean_norm: 1. }
}

#[test]
fn a_lasting_collapse_is_named_once_and_a_passing_one_is_not() {
    let mut watch = Watch::default();
    assert_eq!(watch.read(reading(0.5, 1.)), None);
    // Shrinks and recovers, as trainings do at first.
    for _ in 0..Watch::PATIENCE - 1 {
        assert_eq!(watch.read(reading(0.2, 0.01)), None);
    }
    assert_eq!(watch.read(reading(0.1, 0.5)), None);
    // At the margin with living distances: no collapse. Small distances away from the margin: none either.
    for _ in 0..20 {
        assert_eq!(watch.read(reading(0.2, 0.8)), None);
        assert_eq!(watch.read(reading(0.05, 0.01)), None);
    }
    let said: Vec<_> = (0..20).filter_map(|_| watch.read(reading(0.2, 0.001))).collect();
    assert_eq!(said.len(), 1);
    for word in ["collapsed", "--lr", "--margin", "same embedding"] {
        assert!(said[0].contains(word), "{}", said[0]);
    }
    // Its state goes through a checkpoint.
    let text = serde_json::to_string(&watch).expect("JSON");
    assert_eq!(serde_json::from_str::<Watch>(&text).expect("back"), watch);
}

#[test]
fn a_learned_metric_that_stays_equal_is_named_after_longer_patience() {
    let mut watch = Watch::default();
    let stuck =
        Reading { what: Collapse::Metric, loss: 1.5, collapsed_loss: 1.5, median_distance: 0.001, mean_norm: 1. };
    for _ in 0..Watch::PATIENCE_METRIC - 1 {
        assert!(watch.read(stuck).is_none());
    }
    let text = watch.read(stuck).expect("named");
    assert!(text.contains("one g for all pairs") && text.contains("--lr"), "{text}");
    assert!(watch.read(stuck).is_none(), "once");
    assert!(watch.read(Reading { median_distance: 0.3, loss: 1.2, ..stuck }).is_none());
}

#[test]
fn a_loss_that_was_ever_not_finite_is_found() {
    let mut finite = Finite::new(Device::Cpu);
    finite.note(&Tensor::from(1.));
    finite.check(3, "kept").expect("finite");
    for bad in [f64::NAN, f64::INFINITY] {
        let mut finite = Finite::new(Device::Cpu);
        finite.note(&Tensor::from(bad));
        finite.note(&Tensor::from(1.));
        let error = finite.check(4, "the checkpoint of step 2 is kept").expect_err("found").to_string();
        assert!(error.contains("step 4") && error.contains("step 2 is kept") && error.contains("--lr"), "{error}");
    }
    let store = VarStore::new(Device::Cpu);
    let check = |optimizer: &Optimizer| {
        let state = store.variables().into_iter().chain(optimizer.state());
        finite.check_state(state.map(|(_, x)| x), 1, "")
    };
    let mut x = store.root().var("x", &[3], Init::Const(1.));
    let mut optimizer = Optimizer::new(Rule::ADAM, 0., &store);
    x.square().sum(Kind::Float).backward();
    optimizer.step(0.1, 0.9);
    check(&optimizer).expect("finite");
    // The square of its gradient is infinite, and the weight stays as it is.
    optimizer.zero_grad();
    (&x * 1e20).sum(Kind::Float).backward();
    optimizer.step(0.1, 0.9);
    assert!(rankle::weights::is_finite(&x) && check(&optimizer).is_err());
    let fresh = Optimizer::new(Rule::ADAM, 0., &store);
    check(&fresh).expect("finite");
    tch::no_grad(|| drop(x.fill_(f64::NAN)));
    assert!(check(&fresh).is_err());
}
