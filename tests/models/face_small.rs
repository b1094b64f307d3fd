//! The small network of faces.

use rankle::models::layers::Scope;
use rankle::models::{FaceSmall, Network};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::common::{all_close, matrix, trainable_parameters};

#[test]
fn the_small_network_gives_unit_rows() {
    let store = VarStore::new(Device::Cpu);
    let net = FaceSmall::new(&Scope::root(&store, 1), 64, 128, 1).expect("it fits");
    assert_eq!(trainable_parameters(&store), 913_824);
    let images = matrix(2, 3, 3 * 64 * 64).view([3, 3, 64, 64]).to_kind(Kind::Float);
    let x = net.forward(&images, false);
    assert_eq!(x.size(), [3, 128]);
    all_close(
        &x.square().sum_dim_intlist(1, false, Kind::Double),
        &Tensor::ones([3], (Kind::Double, Device::Cpu)),
        1e-5,
    );
    let store = VarStore::new(Device::Cpu);
    assert!(FaceSmall::new(&Scope::root(&store, 1), 15, 8, 1).is_err());
    assert!(FaceSmall::new(&Scope::root(&store, 1), 32, 8, 33).is_err());
}
