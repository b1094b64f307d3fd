//! LuNet.

use rankle::models::layers::Scope;
use rankle::models::{LuNet, Network, channels_last};
use tch::{Kind, Tensor};

use super::{Naive, close, image, stir, store};
use crate::common::trainable_parameters;
use crate::export::drawn;

#[test]
fn lunet_is_what_nested_loops_compute() {
    let vs = store();
    let net = LuNet::new(&Scope::root(&vs, 1), 64, 32, 16).unwrap();
    stir(&vs);
    let images = drawn(3, &[2, 3, 64, 32]);
    let out = tch::no_grad(|| net.forward(&images, false)).to_kind(Kind::Double);
    let naive = Naive::of(&vs);
    for i in 0..2 {
        close(&out.get(i), &Tensor::from_slice(&naive.lunet(image(&images, i))), 1e-4);
    }
}

#[test]
fn lunet_has_the_papers_size() {
    let vs = store();
    LuNet::new(&Scope::root(&vs, 0), 128, 64, 1).unwrap();
    // "5.00 M"; which convolutions have a bias isn't published, and without any it is this.
    assert_eq!(trainable_parameters(&vs), 4_994_432);
}

#[test]
fn lunets_maps_are_those_of_table_9() {
    let chain = |h: i64, w: i64, shrink: i64| {
        let vs = store();
        let net = LuNet::new(&Scope::root(&vs, 0), h, w, shrink).unwrap();
        let maps = tch::no_grad(|| net.maps(&drawn(1, &[1, 3, h, w]), false));
        let shapes: Vec<Vec<i64>> = maps.iter().map(|m| m.size()[1..].to_vec()).collect();
        (shapes, vs.variables()["head.hidden.weight"].size())
    };
    let table = |h: i64, w: i64| -> Vec<Vec<i64>> {
        [
            (1, 128), // 1 convolution
            (1, 128),
            (2, 128), // 3 pool
            (2, 128),
            (2, 128),
            (2, 256),
            (4, 256), // 7 pool
            (4, 256),
            (4, 256),
            (8, 256), // 10 pool
            (8, 256),
            (8, 256),
            (8, 512),
            (16, 512), // 14 pool
            (16, 512),
            (16, 512),
            (32, 512), // 17 pool
            (32, 128),
        ]
        .map(|(d, c)| vec![c, h / d, w / d])
        .to_vec()
    };
    assert_eq!(chain(128, 64, 1), (table(128, 64), vec![512, 1024]));
    assert_eq!(chain(64, 32, 1), (table(64, 32), vec![512, 256]));
    assert_eq!(chain(32, 96, 32).1, [16, 4 * 3]);
}

#[test]
fn lunet_refuses_what_it_cannot_be() {
    for (h, w, shrink, says) in [
        (100, 64, 1, "100x64"),
        (128, 0, 1, "128x0"),
        (-32, 32, 1, "-32x32"),
        (128, 64, 0, "not by 0"),
        (128, 64, 3, "not by 3"),
        (128, 64, -2, "not by -2"),
        (128, 64, 64, "not by 64"),
    ] {
        let vs = store();
        let error = LuNet::new(&Scope::root(&vs, 0), h, w, shrink).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(vs.is_empty());
    }
}

#[test]
fn gradients_reach_every_parameter_and_match_in_both_layouts() {
    let vs = store();
    let net = LuNet::new(&Scope::root(&vs, 7), 64, 32, 8).unwrap();
    let x = drawn(4, &[4, 3, 64, 32]);
    let gradients = |x: &Tensor| {
        let loss = net.forward(x, true).square().mean(None::<Kind>);
        Tensor::run_backward(&[loss], &vs.trainable_variables(), false, false)
    };
    for (one, two) in gradients(&x).iter().zip(&gradients(&channels_last(&x))) {
        assert!(one.abs().max().double_value(&[]) > 0.0);
        close(two, one, 1e-3);
    }
}
