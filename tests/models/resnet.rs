//! TriNet.

use std::collections::BTreeMap;

use rankle::models::layers::Scope;
use rankle::models::{Network, TriNet};
use tch::{Kind, Tensor};

use super::{Naive, close, image, stir, store};
use crate::common::trainable_parameters;
use crate::export::drawn;

#[test]
fn trinet_is_what_nested_loops_compute() {
    let vs = store();
    let net = TriNet::new(&Scope::root(&vs, 1));
    stir(&vs);
    let images = drawn(2, &[2, 3, 40, 33]);
    let out = tch::no_grad(|| net.forward(&images, false)).to_kind(Kind::Double);
    let naive = Naive::of(&vs);
    for i in 0..2 {
        close(&out.get(i), &Tensor::from_slice(&naive.trinet(image(&images, i))), 1e-4);
    }
}

#[test]
fn trinet_has_the_papers_size_and_torchvisions_names() {
    let vs = store();
    let net = TriNet::new(&Scope::root(&vs, 0));
    assert_eq!(net.width(), 128);
    assert_eq!(trainable_parameters(&vs), 25_738_432);
    let (head, backbone): (BTreeMap<_, _>, BTreeMap<_, _>) =
        vs.variables().into_iter().partition(|(name, _)| name.starts_with("head."));
    let of_head: Vec<&str> = head.keys().map(String::as_str).collect();
    assert_eq!(
        of_head,
        [
            "head.bn.bias",
            "head.bn.running_mean",
            "head.bn.running_var",
            "head.bn.weight",
            "head.embedding.bias",
            "head.embedding.weight",
            "head.hidden.weight"
        ]
    );
    // torchvision's 320 tensors less fc's 2 and 53 num_batches_tracked.
    assert_eq!(backbone.len(), 320 - 2 - 53);
    for (name, shape) in [
        ("conv1.weight", vec![64, 3, 7, 7]),
        ("bn1.running_var", vec![64]),
        ("layer1.0.conv1.weight", vec![64, 64, 1, 1]),
        ("layer1.0.downsample.0.weight", vec![256, 64, 1, 1]),
        ("layer1.0.downsample.1.running_mean", vec![256]),
        ("layer2.0.conv2.weight", vec![128, 128, 3, 3]),
        ("layer3.5.conv3.weight", vec![1024, 256, 1, 1]),
        ("layer4.0.downsample.0.weight", vec![2048, 1024, 1, 1]),
        ("layer4.2.bn3.bias", vec![2048]),
    ] {
        assert_eq!(backbone[name].size(), shape, "{name}");
    }
    assert!(!backbone.contains_key("layer1.1.downsample.0.weight"));
}
