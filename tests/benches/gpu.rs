//! Our side of `scripts/bench --gpu`: losses with mining and whole training steps on a GPU.
//!
//! `gpu loss KIND BATCH`, `gpu step NET PRECISION BATCH` and `gpu loader FOLDER` run one job and print one line of JSON:
//! the median milliseconds of a step by the host's clock around whole series that end with the device's, the host's own
//! share of them, the peak of the memory that tensors took, what came out, and, of a step, the part outside the network.
//! `gpu step NET PRECISION BATCH graph` measures a step that is captured once and launched as a whole.
//! `gpu serve` reads such jobs, a line each, and answers each with a line: a process that starts once. Inputs are drawn
//! by libtorch's own generator from a seed, so that PyTorch draws the same. `--device cpu` runs the same jobs there, to
//! try the program.

use std::io::BufRead;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use rankle::datasets::{self, Split};
use rankle::device::machine::cuda_modes;
use rankle::device::{Captured, autocast};
use rankle::distance::{Metric, normalize};
use rankle::loader::Loader;
use rankle::losses::{self, Margin, embedded, multilabel};
use rankle::mining::{Negative, Pick};
use rankle::models::label::LabelNet;
use rankle::models::layers::Scope;
use rankle::models::{
    LuNet, Network, TriNet, Vgg16,
    bn_inception::BnInception,
    channels_last,
    inception::{InceptionResnetV1, Nn2},
    quadruplet::{self, Backbone, QuadrupletNet, Regroup, Start},
};
use rankle::optim::{Optimizer, Rule};
use rankle::sampler::PkSampler;
use rankle::transfer::{peak_memory, stage, upload};
use rankle::transform::{Augment, Recipe};
use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

mod kinds;

/// Waits until the device has done what it was given.
fn settle(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// What a call took.
struct Timed {
    /// Median milliseconds, over series long enough for the clock.
    ms: f64,
    /// Those until the host had handed all work to the device: near `ms`, the device waits for the host.
    host_ms: f64,
    /// Most bytes that tensors took.
    peak: Option<u64>,
}

fn timed(device: Device, mut work: impl FnMut()) -> Timed {
    for _ in 0..3 {
        work();
    }
    settle(device);
    peak_memory(device, true);
    let start = Instant::now();
    work();
    settle(device);
    let calls = (0.1 / start.elapsed().as_secs_f64()).clamp(1., 200.) as usize;
    let series: Vec<(f64, f64)> = (0..7)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| work());
            let handed = start.elapsed().as_secs_f64();
            settle(device);
            (1e3 * start.elapsed().as_secs_f64() / calls as f64, 1e3 * handed / calls as f64)
        })
        .collect();
    let median = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = series.iter().map(of).collect();
        all.sort_unstable_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Timed { ms: median(&|at| at.0), host_ms: median(&|at| at.1), peak: peak_memory(device, false) }
}

/// Rows about people, 4 images each (40 for FaceNet's), as the peers draw them: `[B, 128]`, or scores of 80 classes.
fn inputs(kind: &str, batch: i64) -> (Tensor, Tensor) {
    tch::manual_seed(batch);
    let here = (Kind::Float, Device::Cpu);
    if kind == "lsep" {
        return (Tensor::randn([batch, 80], here) * 2., Tensor::rand([batch, 80], here).lt(0.04).to_kind(Kind::Int64));
    }
    let each = if kind == "semi-hard" { 40 } else { 4 };
    let people = (batch + each - 1) / each;
    let centres = Tensor::randn([people, 128], here).repeat_interleave_self_int(each, 0, None).narrow(0, 0, batch);
    let x = centres + Tensor::randn([batch, 128], here) * 1.5;
    let x = if kind == "semi-hard" { normalize(&x) } else { x / 8. };
    (x, Tensor::arange(batch, (Kind::Int64, Device::Cpu)).divide_scalar_mode(each, "floor"))
}

fn loss(kind: &str, batch: i64, device: Device) -> Result<Value> {
    let (x, y) = inputs(kind, batch);
    let (x, labels) = (x.to_device(device), y.to_device(device));
    // Where a count of people is read from labels on the host, nothing waits.
    let labels = if kind == "batch-all-soft" { y } else { labels };
    let step = || -> Result<(Tensor, Tensor)> {
        let leaf = x.detach().set_requires_grad(true);
        let value = kinds::loss(kind, &leaf, &labels)?;
        value.backward();
        Ok((value.detach(), leaf.grad()))
    };
    let (value, gradient) = step()?;
    let Timed { ms, host_ms, peak } = timed(device, || drop(step()));
    Ok(json!({"ms": ms, "host_ms": host_ms, "peak_bytes": peak, "loss": value.double_value(&[]),
        "gradient_norm": gradient.norm().double_value(&[])}))
}

/// Images, forward, loss, backward, update. `outside` is the share of what is not the network's forward and backward.
fn step(network: &str, precision: &str, batch: i64, graph: bool, device: Device) -> Result<Value> {
    let amp = match precision {
        "f32" | "tf32" => false,
        "bf16" => true,
        other => bail!("no precision {other}"),
    };
    let store = VarStore::new(device);
    let at = Scope::root(&store, 1);
    enum Net {
        Embeds(Box<dyn Network>),
        Scores(LabelNet),
        Pairs(QuadrupletNet),
    }
    let (net, size, each) = match network {
        "trinet" => (Net::Embeds(Box::new(TriNet::new(&at))), [256, 128], 4),
        "lunet" => (Net::Embeds(Box::new(LuNet::new(&at, 128, 64, 1)?)), [128, 64], 4),
        "inception-resnet-v1" => (Net::Embeds(Box::new(InceptionResnetV1::new(&at, 160, 512, 1)?)), [160, 160], 40),
        "nn2" => (Net::Embeds(Box::new(Nn2::new(&at, 224, 128, 1, true)?)), [224, 224], 40),
        "bn-inception" => (Net::Embeds(Box::new(BnInception::new(&at, 3, 0.5))), [224, 224], 1),
        "quadruplet" => {
            let pair = quadruplet::Compares::Pair(Regroup::Channels);
            let net = QuadrupletNet::new(&at, Backbone::Caffe, pair, (227, 227), 2, 0.5, Start::Gaussian)?;
            (Net::Pairs(net), [227, 227], 1)
        }
        "vgg16" => (Net::Scores(LabelNet::new(&at, Box::new(Vgg16::new(&at)), 80, 0.5)), [224, 224], 4),
        other => bail!("no network {other}"),
    };
    let mut optimizer = Optimizer::new(Rule::ADAM, 0., &store);
    tch::manual_seed(3);
    let host = stage(Tensor::randn([batch, 3, size[0], size[1]], (Kind::Float, Device::Cpu)), device);
    let people = Tensor::arange(batch, (Kind::Int64, Device::Cpu)).divide_scalar_mode(each, "floor");
    let classes = Tensor::rand([batch, 80], (Kind::Float, Device::Cpu)).lt(0.04).to_kind(Kind::Int64);
    // What a graph reads is on the GPU already.
    let (people, classes) =
        if graph { (people.to_device(device), classes.to_device(device)) } else { (people, classes) };
    let forward = |images: &Tensor| {
        autocast(amp, device, || match &net {
            Net::Embeds(net) => net.forward(images, true),
            Net::Scores(net) => net.scores(&net.feature(images, true), true),
            Net::Pairs(net) => {
                let maps = net.maps(images, true).chunk(4, 0);
                let side = |of: [usize; 3]| Tensor::cat(&of.map(|part| &maps[part]), 0);
                net.pair(&side([0, 0, 3]), &side([1, 2, 2]), true)
            }
        })
    };
    let charge = |x: &Tensor| match (&net, network) {
        (Net::Pairs(_), _) => {
            let g = losses::quadruplet::Dissimilarity::Softmax.g(x).chunk(3, 0);
            losses::quadruplet::pairs(&g[0], &g[1], &g[2], (1., 0.5)).mean()
        }
        (_, "bn-inception") => {
            let f = x.to_kind(Kind::Float).chunk(2, 0);
            losses::skill::rank(&f[0], &f[1], 1.).mean()
        }
        (Net::Scores(_), _) => multilabel::lsep(x, &classes).mean(),
        (_, "nn2" | "inception-resnet-v1") => {
            let rule = Negative::SemiHard(Pick::Nearest);
            embedded::every_pair(x, &people, Metric::SquaredEuclidean, 0.2, rule).mean()
        }
        _ => embedded::batch_hard(x, &people, Metric::Euclidean, Margin::Soft).mean(),
    };
    if graph {
        let mut captured = Captured::new(device)?;
        let mut whole = || -> Result<()> {
            optimizer.prepare(3e-4, 0.9);
            let work = |x: &[Tensor]| {
                let loss = charge(&forward(&channels_last(&x[0])));
                optimizer.zero_grad();
                loss.backward();
                optimizer.apply();
                vec![loss]
            };
            captured.run(std::slice::from_ref(&host), work).map(drop)
        };
        // Warm-up, capture and a first replay.
        (0..5).try_for_each(|_| whole())?;
        let Timed { ms, host_ms, peak } = timed(device, || whole().expect("captured"));
        let rate = 1e3 * batch as f64 / ms;
        let x = forward(&channels_last(&upload(&host, device))).detach().to_kind(Kind::Float);
        let mut captured = Captured::new(device)?;
        let mut alone = || {
            let work = |x: &[Tensor]| {
                let leaf = x[0].detach().set_requires_grad(true);
                charge(&leaf).backward();
                vec![leaf.grad()]
            };
            captured.run(std::slice::from_ref(&x), work).map(drop)
        };
        (0..5).try_for_each(|_| alone())?;
        let loss_ms = timed(device, || alone().expect("captured")).ms;
        return Ok(
            json!({"ms": ms, "host_ms": host_ms, "images_per_second": rate, "peak_bytes": peak, "loss_ms": loss_ms, "loss_share": loss_ms / ms}),
        );
    }
    let images = || channels_last(&upload(&host, device));
    let mut whole = || {
        let loss = charge(&forward(&images()));
        optimizer.zero_grad();
        loss.backward();
        optimizer.step(3e-4, 0.9);
    };
    let Timed { ms, host_ms, peak } = timed(device, &mut whole);
    // The network alone: a fixed gradient comes back into it.
    let ready = images();
    let network_ms = timed(device, || {
        optimizer.zero_grad();
        forward(&ready).sum(Kind::Float).backward();
    })
    .ms;
    let x = forward(&ready).detach().to_kind(Kind::Float);
    let loss_ms = timed(device, || {
        let leaf = x.detach().set_requires_grad(true);
        charge(&leaf).backward();
    })
    .ms;
    Ok(
        json!({"ms": ms, "host_ms": host_ms, "images_per_second": 1e3 * batch as f64 / ms, "network_ms": network_ms, "loss_ms": loss_ms,
        "loss_share": loss_ms / ms, "peak_bytes": peak}),
    )
}

/// Batches as triplet-reid's training takes them from a set in Market-1501's layout, 72 photos to 256x128 each, on all
/// cores, into page-locked memory where there is a GPU: photos a second, with the first batches left out.
fn loader(folder: &Path, device: Device) -> Result<Value> {
    let photos = datasets::open_split(folder, Split::default(), None)?.train;
    let people: Vec<i64> = photos.iter().map(|photo| photo.person).collect();
    let sampler = Arc::new(PkSampler::new(&people, 18, 4, 1).context("too few people")?);
    let recipe = Recipe::imagenet(256, 128);
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let (first, all) = (2 * workers as u64, 2 * workers as u64 + 40);
    let mut batches = Loader::new(0..all, workers, workers + 1, move |step| {
        let chosen = sampler.batch(step).into_iter().enumerate();
        let batch = recipe.train_batch(chosen, |row| photos[row].source.image(), Augment::CropFlip, 1, step)?;
        Ok(stage(batch, device))
    })?;
    for batch in batches.by_ref().take(first as usize) {
        drop(batch?);
    }
    let start = Instant::now();
    let images = batches.map(|batch| Ok(batch?.size()[0])).sum::<Result<i64>>()?;
    Ok(json!({"images_per_second": images as f64 / start.elapsed().as_secs_f64(), "workers": workers}))
}

fn main() -> Result<()> {
    // Cargo adds a flag of its own.
    let mut words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.is_empty() {
        println!("nothing to measure: scripts/bench --gpu says what");
        return Ok(());
    }
    let place = words.iter().position(|word| word == "--device");
    let device = match place {
        Some(at) => {
            let rest: Vec<String> = words.drain(at..(at + 2).min(words.len())).collect();
            rankle::device::resolve(rest.get(1).map_or("auto", String::as_str))?.0
        }
        None => rankle::device::resolve("cuda")?.0,
    };
    if words == ["serve"] {
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let found = catch_unwind(AssertUnwindSafe(|| job(&words, device)))
                .unwrap_or_else(|panic| Err(anyhow!("{}", rankle::loader::message(&*panic))));
            println!("{}", found.unwrap_or_else(|error| json!({"error": rankle::say::one_line(&error)})));
            if device.is_cuda() {
                // SAFETY: takes nothing and gives nothing.
                unsafe { rankle_cuda_release() }
            }
        }
        return Ok(());
    }
    println!("{}", job(&words.iter().map(String::as_str).collect::<Vec<_>>(), device)?);
    Ok(())
}

unsafe extern "C" {
    /// `src/native/transfer.cpp`: gives the memory of a GPU that libtorch keeps for its next tensors back to others.
    fn rankle_cuda_release();
}

fn job(words: &[&str], device: Device) -> Result<Value> {
    let number = |text: &str| text.parse::<i64>().with_context(|| format!("{text} is no batch"));
    if device.is_cuda() {
        let deterministic = std::env::var_os("RANKLE_DETERMINISTIC").is_some();
        cuda_modes(0, words.contains(&"tf32"), deterministic)?;
    }
    match *words {
        ["loss", kind, batch] => loss(kind, number(batch)?, device),
        ["step", network, precision, batch] => step(network, precision, number(batch)?, false, device),
        ["step", network, precision, batch, "graph"] => step(network, precision, number(batch)?, true, device),
        ["loader", folder] => loader(Path::new(folder), device),
        _ => bail!("say loss KIND BATCH, step NET PRECISION BATCH [graph] or loader FOLDER"),
    }
}
