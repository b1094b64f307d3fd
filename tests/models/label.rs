//! VGG16 and the heads.

use rankle::models::label::{DecisionHead, FeatureMlp, LabelNet, LabelSmall};
use rankle::models::layers::Scope;
use rankle::models::{Network, Vgg16, dropping};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::common::{all_close, trainable_parameters};
use crate::export::drawn;

#[test]
fn vgg16_has_torchvisions_parameters_without_its_classes() {
    let vs = VarStore::new(Device::Cpu);
    let net = Vgg16::new(&Scope::root(&vs, 1));
    assert_eq!(trainable_parameters(&vs), 138_357_544 - 4096 * 1000 - 1000);
    assert_eq!(vs.variables().len(), 30);
    assert_eq!(net.width(), 4096);
}

#[test]
fn heads_have_the_papers_widths() {
    let vs = VarStore::new(Device::Cpu);
    let at = Scope::root(&vs, 1);
    let (count, threshold) =
        (DecisionHead::count(&at.sub("count"), 4096, 4), DecisionHead::threshold(&at.sub("threshold"), 4096, 20));
    let shape = |name: &str| vs.variables()[name].size();
    assert_eq!(
        [shape("count.0.weight"), shape("count.1.weight"), shape("count.2.weight")],
        [[100, 4096], [10, 100], [4, 10]]
    );
    assert_eq!(
        [shape("threshold.0.weight"), shape("threshold.1.weight"), shape("threshold.2.weight")],
        [[80, 4096], [40, 80], [20, 40]]
    );
    let x = drawn(1, &[3, 4096]);
    assert_eq!((count.forward(&x).size(), threshold.forward(&x).size()), (vec![3, 4], vec![3, 20]));
}

#[test]
fn dropout_is_on_the_feature_in_training_alone() {
    let vs = VarStore::new(Device::Cpu);
    let at = Scope::root(&vs, 1);
    let mlp = FeatureMlp::new(&at, 10, 64);
    let net = LabelNet::new(&at, Box::new(mlp), 5, 0.5);
    let x = drawn(2, &[4, 10]);
    let feature = net.feature(&x, true);
    assert_eq!((feature.size(), net.feature_width()), (vec![4, 64], 64));
    assert_eq!(net.feature(&x, false), feature);
    assert_eq!(net.scores(&feature, false), net.scores(&feature, false));
    assert_ne!(net.scores(&feature, true), net.scores(&feature, true));
    // Drawn for the whole batch, whoever has which rows of it.
    let of = |rows: &[std::ops::Range<i64>], x: &Tensor| dropping(5, 4, rows, || net.scores(x, true));
    let whole = of(&[0..2, 2..4], &feature);
    for own in [[0..1, 1..1], [1..3, 3..4], [0..1, 2..4]] {
        let own = own.as_slice();
        let rows = |x: &Tensor| {
            let parts: Vec<Tensor> = own.iter().map(|rows| x.narrow(0, rows.start, rows.end - rows.start)).collect();
            Tensor::cat(&parts, 0)
        };
        all_close(&of(own, &rows(&feature)), &rows(&whole), 1e-6);
    }
    assert!(LabelSmall::new(&at.sub("small"), 15).is_err());
    let small = LabelSmall::new(&at.sub("other"), 16).expect("fits");
    let images = drawn(3, &[2, 3, 24, 32]);
    assert_eq!(small.forward(&images, true).size(), [2, LabelSmall::WIDTH]);
}
