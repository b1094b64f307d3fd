//! Which device, and in which precision.

use rankle::device::{self, autocast};
use tch::{Device, Kind, Tensor};

#[test]
fn devices_that_are_not_there_are_errors() {
    assert_eq!(device::resolve("cpu").expect("cpu").0, Device::Cpu);
    for wish in ["cuda:99", "gpu", "", "cuda:x"] {
        let error = device::resolve(wish).expect_err(wish).to_string();
        assert!(error.contains("--device"), "{error}");
    }
    if !tch::Cuda::is_available() {
        assert!(device::resolve("cuda").is_err());
        println!("skipped: no CUDA device here to resolve");
    } else {
        assert_eq!(device::resolve("cuda").expect("cuda").0, Device::Cuda(0));
    }
}

#[test]
fn autocast_is_bfloat16_within_and_gone_after() {
    let x = Tensor::ones([4, 4], (Kind::Float, Device::Cpu));
    assert_eq!(autocast(true, Device::Cpu, || x.matmul(&x)).kind(), Kind::BFloat16);
    assert_eq!(autocast(false, Device::Cpu, || x.matmul(&x)).kind(), Kind::Float);
    let panicked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| autocast(true, Device::Cpu, || panic!("inside"))));
    assert!(panicked.is_err());
    assert_eq!(x.matmul(&x).kind(), Kind::Float, "left also by a panic");
}
