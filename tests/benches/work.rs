//! Our side of the longer jobs of `scripts/bench`: evaluation, images, training steps, and how costs grow.
//!
//! `RANKLE_BENCH=FOLDER work JOB [ROUNDS]` runs one job on the inputs that `scripts/bench` wrote there and prints one line
//! of JSON: the median seconds of a round, how far memory rose above what was there before the first, and what came out,
//! so that both sides can be compared. These take seconds a round: a clock around each says enough.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rand::{Rng, SeedableRng};
use rankle::distance::Metric;
use rankle::losses::{Margin, embedded, multilabel};
use rankle::metrics::retrieval::{Ap, Exclude, Identity, Retrieval, evaluate, rerank};
use rankle::metrics::verification;
use rankle::mining::{Negative, Pick};
use rankle::models::layers::Scope;
use rankle::models::{LuNet, Network, TriNet, channels_last};
use rankle::optim::{Optimizer, Rule};
use rankle::run::autocast;
use rankle::transform::{Augment, Recipe, decode};
use rankle::weights;
use rayon::prelude::*;
use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// A line of /proc/self/status in KiB; 0 where there is none.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Seconds of each round, memory above what was there before the first, and what the last gave.
fn measured(rounds: usize, mut work: impl FnMut() -> Value) -> Value {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = status("VmRSS");
    let (mut seconds, mut memory, mut found) = (Vec::new(), 0, Value::Null);
    for round in 0..rounds.max(1) {
        let start = Instant::now();
        found = work();
        seconds.push(start.elapsed().as_secs_f64());
        if round == 0 {
            memory = status("VmHWM").saturating_sub(before);
        }
    }
    seconds.sort_unstable_by(f64::total_cmp);
    json!({"seconds": seconds[seconds.len() / 2], "memory_kib": memory, "found": found})
}

fn tensors(folder: &Path, name: &str) -> Result<impl Fn(&str) -> Result<Tensor>> {
    let all = weights::read(&folder.join(format!("{name}.safetensors")))?;
    let owner = name.to_string();
    Ok(move |wanted: &str| {
        let found = all.iter().find(|(known, _)| known == wanted).map(|(_, x)| x.shallow_clone());
        found.with_context(|| format!("{owner} has no {wanted}"))
    })
}

fn identities(person: &Tensor, camera: &Tensor) -> Result<Vec<Identity>> {
    let (person, camera) = (Vec::<i64>::try_from(person)?, Vec::<i64>::try_from(camera)?);
    Ok(person.into_iter().zip(camera).map(|(person, camera)| Identity { person, camera }).collect())
}

fn scores(found: &Retrieval) -> Value {
    json!({"mAP": found.map_of(Ap::Step), "mAP_trapezoid": found.map_of(Ap::Trapezoid), "rank1": found.rank(1)})
}

/// Features to both average precisions and CMC; with `more` further distractors in the gallery.
fn retrieval(folder: &Path, more: i64, rounds: usize) -> Result<Value> {
    let get = tensors(folder, "retrieval")?;
    let (q, mut g) = (get("q")?, get("g")?);
    let who = identities(&get("q_person")?, &get("q_camera")?)?;
    let mut shelf = identities(&get("g_person")?, &get("g_camera")?)?;
    if more > 0 {
        tch::manual_seed(7);
        g = Tensor::cat(&[g, Tensor::randn([more, q.size()[1]], (Kind::Float, Device::Cpu))], 0);
        shelf.extend((0..more).map(|i| Identity { person: 0, camera: i % 6 + 1 }));
    }
    let run = || evaluate(&q, &g, &who, &shelf, Metric::Euclidean, Exclude::SameCamera, Ap::Step);
    // The library's first matrix product sets its threads and buffers up.
    let _ = q.narrow(0, 0, 64).matmul(&g.narrow(0, 0, 64).tr());
    Ok(measured(rounds, || scores(&run())))
}

fn reranked(folder: &Path) -> Result<Value> {
    let get = tensors(folder, "retrieval")?;
    let (q, g) = (get("q")?, get("g")?);
    let mut out = None;
    let found = measured(1, || {
        out = Some(rerank(&q, &g, 20, 6, 0.3));
        Value::Null
    });
    weights::save(&folder.join("rerank.ours.safetensors"), &[("d".into(), out.context("no distances")?)], None)?;
    Ok(found)
}

fn lfw(folder: &Path, rounds: usize) -> Result<Value> {
    let get = tensors(folder, "lfw")?;
    let dist = Vec::<f64>::try_from(get("dist")?)?;
    let same: Vec<bool> = Vec::<i64>::try_from(get("same")?)?.into_iter().map(|x| x == 1).collect();
    let mut failed = None;
    let found = measured(rounds, || {
        let folds = verification::folds(&dist, &same, 10);
        match verification::val_at_far(&dist, &same, 10, 1e-3) {
            Ok(val) => json!({"accuracy": folds.mean, "std": folds.std, "val": val.val}),
            Err(error) => {
                failed = Some(error);
                Value::Null
            }
        }
    });
    failed.map_or(Ok(found), Err)
}

/// JPEGs in memory to normalised training views; `found` is images a second.
fn images(folder: &Path, name: &str, rounds: usize) -> Result<Value> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder.join("jpegs").join(name))
        .with_context(|| format!("no images of {name}"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(std::fs::read).collect::<std::io::Result<_>>()?;
    let recipe = Recipe::imagenet(256, 128);
    let mut batch = vec![0_f32; files.len() * recipe.len()];
    let mut seed = 0;
    let mut broken = None;
    let found = measured(rounds, || {
        seed += 1;
        let done: Result<()> = files.par_iter().zip(batch.par_chunks_exact_mut(recipe.len())).enumerate().try_for_each(
            |(i, (bytes, out))| {
                let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed << 32 | i as u64);
                recipe.train(&decode(bytes, "a benchmark's image")?, Augment::CropFlip, &mut rng, out);
                Ok(())
            },
        );
        broken = done.err();
        json!({"images": files.len()})
    });
    broken.map_or(Ok(found), Err)
}

/// Forward, batch hard, backward, Adam: 4 people with 4 images each.
fn training(network: &str, amp: bool, rounds: usize) -> Result<Value> {
    let store = VarStore::new(Device::Cpu);
    let at = Scope::root(&store, 1);
    let (net, size): (Box<dyn Network>, [i64; 4]) = match network {
        "trinet" => (Box::new(TriNet::new(&at)), [16, 3, 256, 128]),
        "lunet" => (Box::new(LuNet::new(&at, 128, 64, 1)?), [16, 3, 128, 64]),
        other => bail!("no network {other}"),
    };
    let mut optimizer = Optimizer::new(Rule::ADAM, 0., &store);
    tch::manual_seed(3);
    let images = channels_last(&Tensor::randn(size, (Kind::Float, Device::Cpu)));
    let labels = Tensor::arange(16, (Kind::Int64, Device::Cpu)).divide_scalar_mode(4, "floor");
    let mut step = || {
        optimizer.zero_grad();
        let x = autocast(amp, Device::Cpu, || net.forward(&images, true));
        let loss = embedded::batch_hard(&x, &labels, Metric::Euclidean, Margin::Soft).mean();
        loss.backward();
        optimizer.step(3e-4, 0.9);
        json!({"loss": loss.double_value(&[])})
    };
    step();
    Ok(measured(rounds, step))
}

/// Adam alone, over TriNet's parameters.
fn adam(rounds: usize) -> Result<Value> {
    let store = VarStore::new(Device::Cpu);
    let _net = TriNet::new(&Scope::root(&store, 1));
    let mut optimizer = Optimizer::new(Rule::ADAM, 0., &store);
    let sum = store.trainable_variables().iter().map(|x| x.square().sum(Kind::Float)).reduce(|a, b| a + b);
    sum.context("no parameters")?.backward();
    optimizer.step(3e-4, 0.9);
    Ok(measured(rounds, || {
        optimizer.step(3e-4, 0.9);
        Value::Null
    }))
}

/// Time and memory of a work at growing sizes, each in a fresh round.
fn grown(sizes: &[i64], work: impl Fn(i64) -> Result<Box<dyn FnMut()>>) -> Result<Value> {
    let mut rows = Vec::new();
    for &size in sizes {
        let mut run = work(size)?;
        run();
        let found = measured(3, || {
            run();
            Value::Null
        });
        rows.push(json!({"size": size, "seconds": found["seconds"], "mib": found["memory_kib"].as_f64().unwrap_or(0.) / 1024.}));
    }
    Ok(json!(rows))
}

fn growth(folder: &Path) -> Result<Value> {
    let get = tensors(folder, "retrieval")?;
    let (q, g) = (get("q")?.narrow(0, 0, 500), get("g")?);
    let who = identities(&get("q_person")?, &get("q_camera")?)?[..500].to_vec();
    let shelf = identities(&get("g_person")?, &get("g_camera")?)?;
    let rows = |n: i64| {
        tch::manual_seed(n);
        Tensor::randn([n, 128], (Kind::Float, Device::Cpu))
    };
    type Loss = fn(&Tensor, &Tensor) -> Tensor;
    let losses: [(&str, Loss); 4] = [
        ("batch hard, by B (8 images a person)", |x, y| {
            embedded::batch_hard(x, y, Metric::Euclidean, Margin::Hard(0.2)).mean()
        }),
        ("batch all, by B (8 images a person)", |x, y| {
            embedded::batch_all(x, y, Metric::Euclidean, Margin::Hard(0.2)).mean_active()
        }),
        ("batch all with soft margin, by B (8 images a person)", |x, y| {
            embedded::batch_all(x, y, Metric::Euclidean, Margin::Soft).mean()
        }),
        ("semi-hard, every pair, by B (40 images a person)", |x, y| {
            embedded::every_pair(x, y, Metric::SquaredEuclidean, 0.2, Negative::SemiHard(Pick::Nearest)).mean()
        }),
    ];
    let mut all = serde_json::Map::new();
    for (name, loss) in losses {
        let images = if name.contains("40") { 40 } else { 8 };
        let soft = name.contains("soft");
        let sizes: &[i64] = if soft { &[320, 640, 1280] } else { &[640, 1280, 2560, 5120] };
        let found = grown(sizes, |n| {
            let x = rows(n);
            let x = if images == 40 { rankle::distance::normalize(&x) } else { x / 8. };
            let labels = Tensor::arange(n, (Kind::Int64, Device::Cpu)).divide_scalar_mode(images, "floor");
            Ok(Box::new(move || {
                let x = x.detach().set_requires_grad(true);
                loss(&x, &labels).backward();
            }))
        })?;
        all.insert(name.into(), found);
    }
    let lsep = grown(&[1_000, 4_000, 16_000, 64_000], |c| {
        tch::manual_seed(c);
        let scores = Tensor::randn([64, c], (Kind::Float, Device::Cpu));
        let labels = Tensor::rand([64, c], (Kind::Float, Device::Cpu)).lt(0.04);
        Ok(Box::new(move || {
            let scores = scores.detach().set_requires_grad(true);
            multilabel::lsep(&scores, &labels).mean().backward();
        }))
    })?;
    all.insert("LSEP, by C (64 images)".into(), lsep);
    let by_gallery = grown(&[16_000, 64_000, 256_000], |n| {
        let (q, who) = (q.shallow_clone(), who.clone());
        let more = n - g.size()[0];
        let (gallery, mut seen) = match more > 0 {
            true => (Tensor::cat(&[&g, &rows(more)], 0), shelf.clone()),
            false => (g.narrow(0, 0, n), shelf[..n as usize].to_vec()),
        };
        seen.extend((0..more.max(0)).map(|i| Identity { person: 0, camera: i % 6 + 1 }));
        Ok(Box::new(move || {
            drop(evaluate(&q, &gallery, &who, &seen, Metric::Euclidean, Exclude::SameCamera, Ap::Step))
        }))
    })?;
    all.insert("retrieval, by gallery (500 queries)".into(), by_gallery);
    let by_points = grown(&[2_000, 4_000, 8_000, 16_000], |n| {
        let x = rows(n);
        let (a, b) = (x.narrow(0, 0, n / 5), x.narrow(0, n / 5, n - n / 5));
        Ok(Box::new(move || drop(rerank(&a, &b, 20, 6, 0.3))))
    })?;
    all.insert("re-ranking, by queries and gallery".into(), by_points);
    let bytes = std::fs::read_dir(folder.join("jpegs/128x64"))?.next().context("no image")??.path();
    let bytes = std::fs::read(bytes)?;
    let by_images = grown(&[250, 500, 1_000, 2_000], |n| {
        let bytes = bytes.clone();
        let recipe = Recipe::imagenet(256, 128);
        let mut out = vec![0_f32; recipe.len()];
        Ok(Box::new(move || {
            for i in 0..n as u64 {
                let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(i);
                let _skip: u32 = rng.random();
                if let Ok(image) = decode(&bytes, "a benchmark's image") {
                    recipe.train(&image, Augment::CropFlip, &mut rng, &mut out);
                }
            }
        }))
    })?;
    all.insert("images, by their number".into(), by_images);
    Ok(Value::Object(all))
}

fn run() -> Result<()> {
    let Some(folder) = std::env::var_os("RANKLE_BENCH").map(PathBuf::from) else {
        println!("nothing to measure: scripts/bench writes the inputs and says where (RANKLE_BENCH)");
        return Ok(());
    };
    let threads = std::env::var("OMP_NUM_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    tch::set_num_threads(threads);
    // Cargo adds a flag of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let job = words.first().context("say a job")?;
    let rounds = words.get(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let found = match job.as_str() {
        "retrieval" => retrieval(&folder, 0, rounds)?,
        "retrieval-500k" => retrieval(&folder, 503_819, rounds)?,
        "rerank" => reranked(&folder)?,
        "lfw" => lfw(&folder, rounds)?,
        "step-trinet" => training("trinet", false, rounds)?,
        "step-trinet-bf16" => training("trinet", true, rounds)?,
        "step-lunet" => training("lunet", false, rounds)?,
        "step-lunet-bf16" => training("lunet", true, rounds)?,
        "adam" => adam(rounds)?,
        "growth" => growth(&folder)?,
        other => match other.strip_prefix("images-") {
            Some(name) => images(&folder, name, rounds)?,
            None => bail!("no job {other}"),
        },
    };
    println!("{found}");
    Ok(())
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
