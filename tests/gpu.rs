//! On a GPU, where there is one: losses and mining give the CPU's numbers and never make the host wait; every binary
//! trains, scores and exports there. Elsewhere these tests say that they were passed over. They read no file of the source
//! tree: the test program runs alone where `RANKLE_BINARIES` names the folder of the binaries. And CUDA's libraries are
//! loaded where there is a driver.

use std::ffi::{OsString, c_int, c_void};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rankle::collectives::{self, World};
use rankle::device::machine::cuda_modes;
use rankle::device::{Captured, autocast, site_packages};
use rankle::distance::{Metric, normalize};
use rankle::losses::{Margin, Tally, embedded, multilabel, quadruplet, skill, triplet};
use rankle::mining::{Negative, Pick};
use rankle::models::layers::Scope;
use rankle::models::{LuNet, Network, channels_last};
use rankle::optim::{Optimizer, Rule};
use rankle::say::caught;
use rankle::transfer::{stage, upload};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use crate::common::{Ended, has, matrix, value};
use crate::papers::papers;

/// The switch that makes waits errors belongs to the whole process: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// The GPU, for this test alone; without one, says so.
fn gpu() -> Option<(Device, MutexGuard<'static, ()>)> {
    if tch::Cuda::is_available() && tch::Cuda::device_count() > 0 {
        return Some((Device::Cuda(0), ONE.lock().unwrap_or_else(PoisonError::into_inner)));
    }
    println!("skipped: no CUDA device here");
    None
}

/// While it lives, libtorch throws where a call would make the host wait for the GPU.
struct NoWaits(*mut c_int);

impl NoWaits {
    fn begin() -> NoWaits {
        // torch.cuda.set_sync_debug_mode's own variable, whose first member is the mode: 0 nothing, 1 warn, 2 throw.
        let name = c"_ZZN3c104cuda13warning_stateEvE14warning_state_";
        // SAFETY: looks a symbol up by its name.
        let place: *mut c_void = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        assert!(!place.is_null(), "this libtorch has no switch for waits");
        let place = place.cast::<c_int>();
        // SAFETY: a variable of libtorch's that lives as long as the process; tests that touch it hold a lock.
        unsafe { *place = 2 };
        NoWaits(place)
    }
}

impl Drop for NoWaits {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { *self.0 = 0 };
    }
}

#[test]
fn the_switch_finds_a_wait() {
    let Some((device, _one)) = gpu() else { return };
    let x = Tensor::ones([3], (Kind::Float, device));
    let found = {
        let _switch = NoWaits::begin();
        x.f_double_value(&[0]).is_err()
    };
    assert!(found, "reading a number waits, and nobody noticed");
    assert_eq!(x.double_value(&[0]), 1.);
}

type Of = fn(&Tensor, &Tensor) -> Tally;

/// Losses of embeddings `[B, D]` and identities `[B]` without a choice in them.
const SMOOTH: [(&str, Of); 4] = [
    ("batch all, soft", |x, y| triplet::batch_all(&Metric::Euclidean.matrix(x, x), y, Margin::Soft)),
    ("lifted", |x, y| triplet::lifted(&Metric::Euclidean.matrix(x, x), y, 1.)),
    ("lifted of rows", |x, y| embedded::Loss::Lifted(1.).of(x, y, Metric::Euclidean)),
    ("batch all, soft, in blocks", |x, y| {
        embedded::in_blocks(1000, || embedded::batch_all(x, y, Metric::Euclidean, Margin::Soft))
    }),
];

/// Those that choose by distances: of two nearly equal ones another is chosen where a product rounds otherwise, and the
/// gradient is another one.
const CHOOSING: [(&str, Of); 13] = [
    ("batch hard", |x, y| triplet::batch_hard(&Metric::Euclidean.matrix(x, x), y, Margin::Soft)),
    ("batch hard, hinge", |x, y| triplet::batch_hard(&Metric::Cosine.matrix(x, x), y, Margin::Hard(0.2))),
    ("batch all", |x, y| triplet::batch_all(&Metric::Euclidean.matrix(x, x), y, Margin::Hard(0.2))),
    ("semi-hard", |x, y| {
        let x = normalize(x);
        triplet::semi_hard(&Metric::SquaredEuclidean.matrix(&x, &x), y, 0.2, Pick::Nearest)
    }),
    ("batch hard of rows", |x, y| embedded::batch_hard(x, y, Metric::Euclidean, Margin::Soft)),
    ("batch hard of rows, hinge", |x, y| embedded::batch_hard(x, y, Metric::Cosine, Margin::Hard(0.2))),
    ("batch all of rows", |x, y| embedded::batch_all(x, y, Metric::Euclidean, Margin::Hard(0.2))),
    ("batch all of rows, soft", |x, y| embedded::batch_all(x, y, Metric::SquaredEuclidean, Margin::Soft)),
    ("semi-hard of rows", |x, y| {
        let rule = Negative::SemiHard(Pick::Nearest);
        embedded::every_pair(&normalize(x), y, Metric::SquaredEuclidean, 0.2, rule)
    }),
    ("random in margin of rows", |x, y| {
        let rule = Negative::SemiHard(Pick::Random(3));
        embedded::every_pair(&normalize(x), y, Metric::SquaredEuclidean, 0.2, rule)
    }),
    ("violating, random", |x, y| {
        embedded::every_pair(&normalize(x), y, Metric::SquaredEuclidean, 0.2, Negative::Violating(3))
    }),
    ("every pair, addons", |x, y| {
        embedded::every_pair(&normalize(x), y, Metric::SquaredEuclidean, 0.2, Negative::Addons)
    }),
    ("every pair, hardest", |x, y| {
        embedded::every_pair(&normalize(x), y, Metric::SquaredEuclidean, 0.2, Negative::Hardest)
    }),
];

/// Losses of scores `[B, C]` and labels `[B, C]`.
const OF_SCORES: [(&str, Of); 7] = [
    ("LSEP", multilabel::lsep),
    ("hinge", |f, y| multilabel::hinge(f, y, 1.)),
    ("WARP", |f, y| multilabel::warp(f, y, 1.)),
    ("BP-MLL", multilabel::bp_mll),
    ("sigmoid", multilabel::sigmoid),
    ("label count", multilabel::label_count),
    ("label threshold", |f, y| multilabel::label_threshold(f, &(f * 0.5), y)),
];

/// Losses of three columns of pairs.
const OF_PAIRS: [(&str, Of); 5] = [
    ("quadruplet", |g, _| quadruplet::pairs(&g.select(1, 0), &g.select(1, 1), &g.select(1, 2), (1., 0.5))),
    ("quadruplet, adaptive", |g, _| {
        let full = quadruplet::MarginGradient::Full;
        quadruplet::adaptive_pairs(&g.select(1, 0), &g.select(1, 1), &g.select(1, 2), (1., 0.5), full).0
    }),
    ("rank", |s, _| skill::rank(&s.select(1, 0), &s.select(1, 1), 1.)),
    ("rank by splits", |s, _| skill::rank_splits(s, &(s * 0.3), 1.)),
    ("similarity", |s, _| skill::similarity(s, &(s * 0.3), 0.1)),
];

fn gradient_of(x: &Tensor, y: &Tensor, of: Of) -> (Tensor, Tensor) {
    let leaf = x.detach().copy().set_requires_grad(true);
    let loss = of(&leaf, y).mean();
    loss.backward();
    (loss.detach(), leaf.grad())
}

/// How far a loss on `device` is from the CPU's: its value, relative where above 1, and its gradient as a share of the
/// largest one; or why there is no number.
fn apart(device: Device, x: &Tensor, y: &Tensor, of: Of, labels_there: bool) -> Result<(f64, f64), String> {
    let (loss, gradient) = gradient_of(x, y, of);
    let (x, y) = (x.to_device(device), if labels_there { y.to_device(device) } else { y.shallow_clone() });
    let (found, slope) = caught(|| {
        let _ = gradient_of(&x, &y, of); // the first call loads kernels
        let _switch = device.is_cuda().then(NoWaits::begin);
        gradient_of(&x, &y, of)
    })?;
    let worst = (slope.to_device(Device::Cpu) - &gradient).abs().max();
    let share = value(&worst) / value(&gradient.abs().max()).max(f64::MIN_POSITIVE);
    Ok(((value(&found) - value(&loss)).abs() / value(&loss).abs().max(1.), share))
}

#[test]
fn losses_give_the_cpus_numbers_and_never_wait() {
    let Some((device, _one)) = gpu() else { return };
    cuda_modes(0, false, false).expect("modes");
    let labels = Tensor::from_slice(&(0..192_i64).map(|row| row / 4).collect::<Vec<_>>());
    let classes = matrix(7, 192, 20).gt(0.6).to_kind(Kind::Int64);
    let all = SMOOTH
        .iter()
        .map(|of| (of, false, matrix(5, 192, 32), &labels))
        .chain(CHOOSING.iter().map(|of| (of, true, matrix(5, 192, 32), &labels)))
        .chain(OF_SCORES.iter().map(|of| (of, false, matrix(5, 192, 20) * 5., &classes)))
        .chain(OF_PAIRS.iter().map(|of| (of, false, matrix(5, 192, 3) * 2., &labels)));
    let mut failed = Vec::new();
    for ((name, of), chooses, x, y) in all {
        // Labels may lie on the host or on the GPU.
        for (kind, most, there) in [Kind::Double, Kind::Float]
            .into_iter()
            .zip([1e-9, 1e-4])
            .flat_map(|(kind, most)| [false, true].map(|there| (kind, most, there)))
        {
            let found = apart(device, &x.to_kind(kind), y, *of, there);
            let line = format!("{name}, {kind:?}, labels {}: {found:?}", if there { "there" } else { "here" });
            println!("{line}");
            // In f32 what chooses may choose another one of two.
            let (most, slope) = if chooses && kind == Kind::Float { (1e-3, f64::INFINITY) } else { (most, most) };
            if !found.is_ok_and(|(loss, gradient)| loss <= most && gradient <= slope) {
                failed.push(line);
            }
        }
    }
    assert!(failed.is_empty(), "{} rows of losses:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn what_is_uploaded_arrives_without_a_wait() {
    let Some((device, _one)) = gpu() else { return };
    let here: Vec<Tensor> = (0..20).map(|i| matrix(i, 500, 300).to_kind(Kind::Float)).collect();
    let staged: Vec<Tensor> = here.iter().map(|x| stage(x.shallow_clone(), device)).collect();
    let _ = upload(&staged[0], device);
    let sums: Vec<Tensor> = {
        let _switch = NoWaits::begin();
        // Each is freed while the next is under way: memory of the side stream is not given away too early.
        staged.iter().map(|x| (upload(x, device) * 2.).sum(Kind::Double)).collect()
    };
    for (sum, x) in sums.iter().zip(&here) {
        assert!((value(sum) - 2. * value(&x.sum(Kind::Double))).abs() < 1e-6 * x.numel() as f64);
    }
}

#[test]
fn a_training_step_waits_for_nothing_and_follows_the_cpus() {
    let Some((device, _one)) = gpu() else { return };
    cuda_modes(0, false, false).expect("modes"); // libtorch's default is TF32 in convolutions
    let labels = Tensor::from_slice(&[0_i64, 0, 1, 1, 2, 2, 3, 3]);
    let images = matrix(3, 8, 3 * 128 * 64).view([8, 3, 128, 64]).to_kind(Kind::Float);
    let run = |device: Device, amp: bool, waits: bool| -> Vec<f64> {
        let store = VarStore::new(device);
        let net = LuNet::new(&Scope::root(&store, 4), 128, 64, 8).expect("fits");
        let mut optimizer = Optimizer::new(Rule::ADAM, 0., &store);
        let mut step = || {
            let images = channels_last(&upload(&stage(images.shallow_clone(), device), device));
            let x = autocast(amp, device, || net.forward(&images, true));
            let loss = triplet::batch_hard(&Metric::Euclidean.matrix(&x, &x), &labels, Margin::Soft).mean();
            optimizer.zero_grad();
            loss.backward();
            optimizer.step(1e-4, 0.9);
            loss.detach()
        };
        let first = step();
        let switch = (!waits).then(NoWaits::begin);
        let rest: Vec<Tensor> = (0..3).map(|_| step()).collect();
        drop(switch);
        std::iter::once(first).chain(rest).map(|loss| value(&loss)).collect()
    };
    let (cpu, cuda, half) = (run(Device::Cpu, false, true), run(device, false, false), run(device, true, false));
    println!("CPU {cpu:?}\nGPU {cuda:?}\nbfloat16 {half:?}");
    assert!(cpu.iter().zip(&cuda).all(|(cpu, cuda)| (cpu - cuda).abs() < 2e-3), "{cpu:?} {cuda:?}");
    assert!(half.iter().all(|loss| loss.is_finite()) && half[3] < half[0], "{half:?}");
}

#[test]
fn every_binary_trains_scores_and_exports_on_a_gpu() {
    let Some((_device, _one)) = gpu() else { return };
    let failed: Vec<String> = papers().iter().flat_map(|case| case.everything("cuda")).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A capture to be; without CUDA's headers there is none, and this says so.
fn captured(device: Device) -> Option<Captured> {
    Captured::new(device).inspect_err(|error| println!("skipped: {error}")).ok()
}

#[test]
fn without_a_gpu_nothing_is_captured() {
    assert!(Captured::new(Device::Cpu).is_err());
    assert!(gpu().is_some() || Captured::new(Device::Cuda(0)).is_err());
}

#[test]
fn a_captured_step_is_the_same_step() {
    let Some((device, _one)) = gpu() else { return };
    let Some(graph) = captured(device) else { return };
    cuda_modes(0, false, false).expect("modes");
    let labels = Tensor::from_slice(&[0_i64, 0, 1, 1, 2, 2, 3, 3]);
    let run = |mut graph: Option<Captured>| -> Vec<f64> {
        let store = VarStore::new(device);
        let net = LuNet::new(&Scope::root(&store, 4), 128, 64, 8).expect("fits");
        let mut optimizer = Optimizer::new(Rule::ADAM, 1e-4, &store);
        let mut step = |t: u64| {
            let images = matrix(t, 8, 3 * 128 * 64).view([8, 3, 128, 64]).to_kind(Kind::Float);
            let inputs = [images, labels.shallow_clone()].map(|x| stage(x, device));
            let replays = optimizer.prepare(1e-4 * (t + 1) as f64, 0.9);
            assert_eq!(replays, t > 0, "step {t}");
            let mut work = |x: &[Tensor]| {
                let rows = net.forward(&channels_last(&x[0]), true);
                let loss = triplet::batch_hard(&Metric::Euclidean.matrix(&rows, &rows), &x[1], Margin::Soft).mean();
                optimizer.zero_grad();
                loss.backward();
                optimizer.clip(1.);
                optimizer.apply();
                vec![loss]
            };
            match &mut graph {
                // What it leaves is overwritten by the next step.
                Some(graph) => graph.run(&inputs, work).expect("captured").swap_remove(0).copy(),
                None => work(&inputs.map(|x| upload(&x, device))).swap_remove(0).detach(),
            }
        };
        let mut losses: Vec<Tensor> = (0..4).map(&mut step).collect();
        let switch = NoWaits::begin();
        losses.extend((4..8).map(&mut step));
        drop(switch);
        losses.iter().map(value).collect()
    };
    let (whole, plain) = (run(Some(graph)), run(None));
    println!("captured {whole:?}\nplain    {plain:?}");
    // Both add a GPU's sums in no fixed order, and eight steps at growing rates grow what that rounds: 1e-3 was seen.
    assert!(whole.iter().zip(&plain).all(|(a, b)| (a - b).abs() <= 1e-2 * b.abs()), "{whole:?} {plain:?}");
}

#[test]
fn what_waits_is_not_captured_and_the_gpu_goes_on() {
    let Some((device, _one)) = gpu() else { return };
    let Some(mut graph) = captured(device) else { return };
    let x = Tensor::ones([3], (Kind::Float, device));
    let mut once = || graph.run(&[x.shallow_clone()], |x| vec![&x[0] * value(&x[0].sum(Kind::Float))]);
    let done: Vec<_> = (0..5).map(|_| once().map_err(|error| error.to_string())).collect();
    println!("{done:?}");
    assert_eq!(done.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, true, false, false]);
    assert_eq!(value(&(&x * 2. + Tensor::rand([3], (Kind::Float, device)) * 0.).sum(Kind::Float)), 6.);
    // And another one is captured.
    let Some(mut graph) = captured(device) else { return };
    let last = (0..6).map(|t| graph.run(&[&x * t], |x| vec![x[0].sum(Kind::Float)]).expect("captured")).last();
    assert_eq!(value(&last.expect("six")[0]), 15.);
}

/// What this test program says with `args` where there is a driver, though one that can do nothing: it lies in `place`,
/// beside what else is there. The environment speaks of one process that meets itself.
fn with_a_driver(place: &Path, args: &[&str]) -> Ended {
    let site = site_packages().expect("this process has libtorch");
    symlink(site.join("torch/lib/libc10.so"), place.join("libcuda.so.1")).expect("a link");
    let mut path = OsString::from(place);
    for folder in ["torch/lib", "nvidia/cu13/lib"] {
        path.extend([":".as_ref(), site.join(folder).as_os_str()]);
    }
    let mut command = Command::new(std::env::current_exe().expect("this test program"));
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port().to_string();
    let world = [("RANKLE_JOIN_ALONE", "1"), ("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "127.0.0.1")];
    Ended::of(command.args(args).env("LD_LIBRARY_PATH", path).envs(world).env("MASTER_PORT", port))
}

#[test]
fn cuda_is_loaded_where_there_is_a_driver() {
    let has = |part: &str| site_packages().is_some_and(|site| site.join("torch/lib").join(part).exists());
    // SAFETY: as this program did before it began.
    let driver = unsafe { !libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY).is_null() };
    let maps = std::fs::read_to_string("/proc/self/maps").expect("what is mapped");
    let loaded = maps.contains("/libtorch_cuda.so");
    assert_eq!(loaded, driver && has("libtorch_cuda.so"));
    assert!(!loaded || tch::utils::version_cudart() >= 12_000);
    if gpu().is_some() {
        return;
    }
    // Where it is loaded, all that is looked up by its name is there, and CUDA itself says that it has no GPU.
    let says = |error: &str, unbuilt: &str| {
        println!("{error}");
        assert!(error.contains(unbuilt) || loaded != error.contains("no part of libtorch"), "{error}");
    };
    says(&Captured::new(Device::Cuda(0)).expect_err("no GPU").to_string(), "without CUDA's headers");
    // In a process that with_a_driver starts. It met others, with whose threads it doesn't wait for its end.
    if World::is_wanted().expect("a whole environment") {
        let joined = World::join(Device::Cuda(0), Duration::from_secs(3));
        says(&joined.expect_err("no GPU").to_string(), "this build has no NCCL");
        println!("both were asked");
        let _ = collectives::exit(0);
    }
}

#[test]
fn cuda_is_loaded_where_a_driver_appears() {
    let place = TempDir::new().expect("a temporary folder");
    let args = ["--exact", "gpu::cuda_is_loaded_where_there_is_a_driver", "--nocapture"];
    has(&with_a_driver(place.path(), &args).well().all(), "both were asked");
}

#[test]
fn a_part_for_cuda_that_does_not_load_is_said() {
    let place = TempDir::new().expect("a temporary folder");
    let libtorch = site_packages().expect("this process has libtorch").join("torch/lib/libtorch_cpu.so");
    symlink(libtorch, place.path().join("libtorch_cpu.so")).expect("a link");
    std::fs::write(place.path().join("libtorch_cuda.so"), "no library").expect("a file");
    let said = with_a_driver(place.path(), &["--list"]).well().err;
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("note: there is an NVIDIA driver") && said.contains("/libtorch_cuda.so"), "{said}");
}
