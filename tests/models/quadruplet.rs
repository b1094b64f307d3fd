//! 1704.01719: the networks of pairs.

use rankle::models::Network;
use rankle::models::layers::Scope;
use rankle::models::quadruplet::{Backbone, Compares, QuadrupletNet, Regroup, Start};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::common::{all_close, close, trainable_parameters, value};

fn built(backbone: Backbone, input: Compares, size: i64, outputs: i64) -> (VarStore, QuadrupletNet) {
    let vs = VarStore::new(Device::Cpu);
    let net = QuadrupletNet::new(&Scope::root(&vs, 1), backbone, input, (size, size), outputs, 0.5, Start::He);
    (vs, net.expect("fits"))
}

#[test]
fn pair_networks_have_the_sheets_parameters() {
    let pair = Compares::Pair(Regroup::Channels);
    assert_eq!(trainable_parameters(&built(Backbone::Alexnet, pair, 227, 2).0), 57_675_586);
    let (vs, _) = built(Backbone::Caffe, pair, 227, 2);
    assert_eq!(trainable_parameters(&vs), 57_761_154);
    let count = |name: &str| {
        vs.variables().iter().filter(|(known, _)| known.starts_with(name)).map(|(_, x)| x.numel()).sum::<usize>()
    };
    assert_eq!(
        [
            "features.0",
            "features.3",
            "features.6",
            "features.8",
            "features.10",
            "classifier.1",
            "classifier.4",
            "classifier.6"
        ]
        .map(|name| count(&format!("{name}."))),
        [34_944, 307_456, 1_769_856, 663_936, 442_624, 37_752_832, 16_781_312, 8_194]
    );
}

#[test]
fn a_pair_is_two_images_regrouped_and_order_matters() {
    for (backbone, regroup) in [
        (Backbone::Alexnet, Regroup::Channels),
        (Backbone::Caffe, Regroup::Channels),
        (Backbone::Small, Regroup::Channels),
        (Backbone::Small, Regroup::Width),
    ] {
        let (vs, net) = built(backbone, Compares::Pair(regroup), 67, 2);
        let images = crate::export::drawn(5, &[4, 3, 67, 67]);
        let maps = net.maps(&images, false);
        let (a, b) = (maps.narrow(0, 0, 2), maps.narrow(0, 2, 2));
        let there = net.pair(&a, &b, false);
        assert_eq!(there.size(), [2, 2]);
        // Rows don't mix; the order of a pair matters.
        all_close(&net.pair(&a.narrow(0, 1, 1), &b.narrow(0, 1, 1), false), &there.narrow(0, 1, 1), 1e-4);
        assert!(value(&(net.pair(&b, &a, false) - &there).abs().max()) > 1e-6);
        // Every parameter has a part in it.
        let maps = net.maps(&images, true);
        let scores = net.pair(&maps.narrow(0, 0, 2), &maps.narrow(0, 2, 2), true);
        let weighing = Tensor::from_slice(&[1_f32, -2., 0.5, 3.]).view([2, 2]);
        (scores * weighing).sum(Kind::Float).backward();
        for (name, x) in vs.variables().into_iter().filter(|(_, x)| x.requires_grad()) {
            assert!(x.grad().defined(), "{backbone:?}: {name} has no gradient");
        }
    }
}

#[test]
fn caffes_forms_differ_in_where_they_normalise_and_take_bgr() {
    let images = crate::export::drawn(5, &[2, 3, 67, 67]) * 255.;
    let layer = |vs: &VarStore, x: &Tensor, name: &str, (stride, padding, groups): (i64, i64, i64), after: bool| {
        let of = |what: &str| vs.variables()[&format!("features.{name}.{what}")].shallow_clone();
        let x = x.conv2d(&of("weight"), Some(of("bias")), [stride; 2], [padding; 2], [1, 1], groups).relu();
        // x / (1 + 1e-4 / 5 · the sum of squares of five channels)^0.75.
        let response = |x: &Tensor| {
            let squares = x.square().constant_pad_nd([0, 0, 0, 0, 2, 2]);
            let five = (0..5).map(|shift| squares.narrow(1, shift, x.size()[1])).reduce(|sum, next| sum + next);
            x / (five.expect("five") * (1e-4 / 5.) + 1.).pow_tensor_scalar(0.75)
        };
        let pool = |x: &Tensor| x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false);
        if after { response(&pool(&x)) } else { pool(&response(&x)) }
    };
    for (backbone, after) in [(Backbone::Caffe, true), (Backbone::CaffeAlexnet, false)] {
        let (vs, net) = built(backbone, Compares::Pair(Regroup::Channels), 67, 2);
        let slow = layer(&vs, &images.flip([1]), "0", (4, 0, 1), after);
        let slow = layer(&vs, &slow, "3", (1, 2, 2), after);
        let fast = net.maps(&images, false);
        all_close(&(&fast / fast.abs().max()), &(slow / fast.abs().max()), 1e-5);
    }
}

#[test]
fn first_values_are_gaussian_or_he_normal() {
    for (start, wanted) in [
        (Start::Gaussian, [0.01, 0.005, 0.01]),
        (Start::He, [(2_f64 / 1728.).sqrt(), (2_f64 / 4096.).sqrt(), (6_f64 / 4098. / 3.).sqrt()]),
    ] {
        let vs = VarStore::new(Device::Cpu);
        let pair = Compares::Pair(Regroup::Width);
        QuadrupletNet::new(&Scope::root(&vs, 1), Backbone::Alexnet, pair, (67, 67), 2, 0.5, start).expect("fits");
        for (name, wanted) in ["features.6", "classifier.4", "classifier.6"].into_iter().zip(wanted) {
            let of = |what: &str| vs.variables()[&format!("{name}.{what}")].detach();
            close(value(&of("weight").std(true)) / wanted, 1., 0.03);
            assert_eq!(value(&of("bias").abs().max()), 0.);
        }
    }
}

#[test]
fn the_embedding_form_gives_unit_rows_and_small_images_are_an_error() {
    let (_, net) = built(Backbone::Alexnet, Compares::Image, 67, 512);
    let x = net.forward(&crate::export::drawn(5, &[2, 3, 67, 67]), false);
    assert_eq!(x.size(), [2, 512]);
    all_close(&x.square().sum_dim_intlist(1, false, Kind::Float), &Tensor::ones([2], (Kind::Float, Device::Cpu)), 1e-5);
    let vs = VarStore::new(Device::Cpu);
    let pair = Compares::Pair(Regroup::Channels);
    let error = QuadrupletNet::new(&Scope::root(&vs, 1), Backbone::Alexnet, pair, (30, 227), 2, 0.5, Start::He);
    assert!(error.expect_err("too small").to_string().contains("30x227"));
}
