//! What moves between the CPU and a GPU, as far as it shows without one.

use std::process::Command;

use rankle::device;
use rankle::transfer::{Fetch, stage, upload};
use tch::{Device, Kind, Tensor};

use crate::common::{Ended, all_close};

#[test]
fn fetched_batches_come_whole_and_in_their_order() {
    assert!(Fetch::default().all().expect("finite").is_none());
    let gpu = tch::Cuda::is_available().then_some(Device::Cuda(0));
    for device in [Device::Cpu].into_iter().chain(gpu) {
        let mut rows = Fetch::default();
        for i in 0..5 {
            // Who does not wait for the product reads what was there before it.
            let ones = Tensor::ones([i, 1024], (Kind::Float, device));
            let square = Tensor::full([1024, 1024], i as f64 / 1024., (Kind::Float, device));
            rows.push(&ones.matmul(&square).narrow(1, 0, 2).set_requires_grad(true));
        }
        let all = rows.all().expect("finite").expect("rows");
        assert!(all.device() == Device::Cpu && !all.requires_grad());
        let expected: Vec<f32> = [1, 2, 3, 4].iter().flat_map(|&i| vec![i as f32; 2 * i]).collect();
        all_close(&all.view([-1]), &Tensor::from_slice(&expected), 1e-4);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut rows = Fetch::default();
            [1., bad].iter().for_each(|&x| rows.push(&Tensor::from_slice(&[x]).to_device(device)));
            assert!(rows.all().expect_err("refused").to_string().contains("aren't finite"));
        }
    }
}

/// What [`staging_warns_of_nothing`] looks at.
#[test]
fn a_staging() {
    let x = Tensor::from_slice(&[1_f32, 2., 3.]);
    // With a GPU that lies in page-locked memory; without, it is the tensor itself and a note says so.
    for _ in 0..3 {
        all_close(&stage(x.shallow_clone(), Device::Cuda(0)), &x, 0.);
    }
    assert_eq!(stage(x.shallow_clone(), Device::Cpu).data_ptr(), x.data_ptr());
    assert_eq!(upload(&x, Device::Cpu).data_ptr(), x.data_ptr());
}

#[test]
fn staging_warns_of_nothing() {
    let mut this = Command::new(std::env::current_exe().expect("this test binary"));
    let said = Ended::of(this.args(["--exact", "transfer::a_staging", "--nocapture"])).well().err;
    assert!(!said.contains("Warning"), "{said}");
    assert!(said.lines().count() <= 1, "{said}");
}

#[test]
fn the_run_time_compiler_beside_libtorch_is_loaded() {
    let site = device::site_packages().expect("this process has libtorch");
    let builtins = std::fs::read_dir(site.join("nvidia/cu13/lib")).into_iter().flatten().flatten();
    let builtins: Vec<_> =
        builtins.map(|entry| entry.path()).filter(|path| path.ends_with("libnvrtc-builtins.so.13.0")).collect();
    device::load_compilers();
    for path in builtins {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("what is mapped");
        assert!(maps.contains(&*path.to_string_lossy()), "{} is not loaded", path.display());
    }
}
