//! Our side of the longer jobs of `scripts/bench`: evaluation, images, training steps, and how costs grow.
//!
//! `RANKLE_BENCH=FOLDER work JOB [ROUNDS]` runs one job on the inputs that `scripts/bench` wrote there and prints one line
//! of JSON: the median seconds of a round, how far memory rose above what was there before the first, and what came out,
//! so that both sides can be compared. These take seconds a round: a clock around each says enough.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rankle::datasets::{self, Split};
use rankle::distance::Metric;
use rankle::loader::Loader;
use rankle::losses::{Margin, embedded, multilabel};
use rankle::metrics::retrieval::{Answer, Ap, Identity, QueryGallery, Retrieval, evaluate, rerank};
use rankle::metrics::verification;
use rankle::mining::{Negative, Pick};
use rankle::models::inception::{InceptionResnetV1, Nn2};
use rankle::models::layers::Scope;
use rankle::models::{LuNet, Network, TriNet, Vgg16, channels_last, hold_weights};
use rankle::optim::{Optimizer, Rule};

use rankle::device::autocast;
use rankle::device::memory;
use rankle::picture::{decode, decode_for};
use rankle::sampler::PkSampler;
use rankle::tasks::embed::at_once;
use rankle::transform::{Augment, Recipe};
use rankle::weights;
use rayon::prelude::*;
use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

mod shared;

/// A line of /proc/self/status in KiB; 0 where there is none.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Seconds of each round, memory above what was there before the first, and what the last gave.
fn measured(rounds: usize, mut work: impl FnMut() -> Result<Value>) -> Result<Value> {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = status("VmRSS");
    let (mut seconds, mut memory, mut found) = (Vec::new(), 0, Value::Null);
    for round in 0..rounds.max(1) {
        let start = Instant::now();
        found = work()?;
        seconds.push(start.elapsed().as_secs_f64());
        if round == 0 {
            memory = status("VmHWM").saturating_sub(before);
        }
    }
    seconds.sort_unstable_by(f64::total_cmp);
    Ok(json!({"seconds": seconds[seconds.len() / 2], "memory_kib": memory, "found": found}))
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
    // Every tenth query's, which is what the slow peer evaluates.
    let tenth: Vec<_> = found.answers.iter().step_by(10).flatten().collect();
    let mean = |of: &dyn Fn(&Answer) -> f64| tenth.iter().map(|answer| of(answer)).sum::<f64>() / tenth.len() as f64;
    let tenth =
        json!({"mAP": mean(&|answer| answer.step), "rank1": mean(&|answer| f64::from(u8::from(answer.first == 1)))});
    let (step, trapezoid) = (found.map_of(Ap::Step), found.map_of(Ap::Trapezoid));
    json!({"mAP": step, "mAP_trapezoid": trapezoid, "rank1": found.rank(1), "tenth": tenth})
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
    let run = || evaluate(QueryGallery::new(&q, &g, &who, &shelf), Metric::Euclidean, Ap::Step);
    // The library's first matrix product sets its threads and buffers up.
    let warm = || {
        Tensor::ones([64, 64], (Kind::Float, Device::Cpu)).matmul(&Tensor::ones([64, 64], (Kind::Float, Device::Cpu)))
    };
    let (all, _) = (tch::get_num_threads(), warm());
    rayon::broadcast(|_| {
        tch::set_num_threads(1);
        drop(warm());
    });
    tch::set_num_threads(all);
    measured(rounds, || Ok(scores(&run())))
}

fn reranked(folder: &Path) -> Result<Value> {
    let get = tensors(folder, "retrieval")?;
    let (q, g) = (get("q")?, get("g")?);
    let mut out = None;
    let found = measured(1, || {
        out = Some(rerank(&q, &g, 20, 6, 0.3));
        Ok(Value::Null)
    })?;
    weights::save(&folder.join("rerank.ours.safetensors"), &[("d".into(), out.context("no distances")?)], None)?;
    Ok(found)
}

fn lfw(folder: &Path, rounds: usize) -> Result<Value> {
    let get = tensors(folder, "lfw")?;
    let dist = Vec::<f64>::try_from(get("dist")?)?;
    let same: Vec<bool> = Vec::<i64>::try_from(get("same")?)?.into_iter().map(|x| x == 1).collect();
    measured(rounds, || {
        let folds = verification::folds(&dist, &same, 10);
        let val = verification::val_at_far(&dist, &same, 10, 1e-3)?;
        Ok(json!({"accuracy": folds.mean, "std": folds.std, "val": val.val}))
    })
}

/// JPEGs in memory to normalised training views; `found` is images a second.
fn images(folder: &Path, name: &str, rounds: usize) -> Result<Value> {
    let (name, goes) = name.split_once('-').unwrap_or((name, ""));
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder.join("jpegs").join(name))
        .with_context(|| format!("no images of {name}"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(std::fs::read).collect::<std::io::Result<_>>()?;
    // TriNet's training view; with a side, the square that the other papers' networks see.
    let (recipe, augment) = match goes.parse() {
        Ok(side) => (Recipe::imagenet(side, side), Augment::Flip),
        Err(_) => (Recipe::imagenet(256, 128), Augment::CropFlip),
    };
    let size = if augment == Augment::Flip { (recipe.height, recipe.width) } else { recipe.enlarged() };
    let mut batch = vec![0_f32; files.len() * recipe.len()];
    let mut seed = 0;
    measured(rounds, || {
        seed += 1;
        files.par_iter().zip(batch.par_chunks_exact_mut(recipe.len())).enumerate().try_for_each(
            |(i, (bytes, out))| {
                let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed << 32 | i as u64);
                let image = decode_for(bytes, "a benchmark's image", size)?;
                recipe.train(&image, augment, &mut rng, out);
                anyhow::Ok(())
            },
        )?;
        Ok(json!({"images": files.len()}))
    })
}

/// How many numbers a training moves.
fn parameters(store: &VarStore) -> usize {
    store.trainable_variables().iter().map(Tensor::numel).sum()
}

/// A network by its name, and the height and width of its images.
fn network(name: &str, at: &Scope) -> Result<(Box<dyn Network>, [u32; 2])> {
    Ok(match name {
        "trinet" => (Box::new(TriNet::new(at)), [256, 128]),
        "lunet" => (Box::new(LuNet::new(at, 128, 64, 1)?), [128, 64]),
        "inception-resnet-v1" => (Box::new(InceptionResnetV1::new(at, 160, 512, 1)?), [160, 160]),
        "nn2" => (Box::new(Nn2::new(at, 224, 128, 1, true)?), [224, 224]),
        "vgg16" => (Box::new(Vgg16::new(at)), [224, 224]),
        other => bail!("no network {other}"),
    })
}

/// Forward, batch hard, backward, Adam: 4 people with 4 images each.
fn training(name: &str, rounds: usize) -> Result<Value> {
    let (name, amp) = name.strip_suffix("-bf16").map_or((name, false), |name| (name, true));
    let store = VarStore::new(Device::Cpu);
    let (net, [height, width]) = network(name, &Scope::root(&store, 1))?;
    let mut optimizer = Optimizer::new(Rule::ADAM, 0., &store);
    tch::manual_seed(3);
    let images = channels_last(&Tensor::randn([16, 3, height.into(), width.into()], (Kind::Float, Device::Cpu)));
    let labels = Tensor::arange(16, (Kind::Int64, Device::Cpu)).divide_scalar_mode(4, "floor");
    let parameters = parameters(&store);
    let mut step = || {
        optimizer.zero_grad();
        let x = autocast(amp, Device::Cpu, || net.forward(&images, true));
        // As triplet-reid trains.
        let loss = embedded::batch_hard(&x, &labels, Metric::Euclidean, Margin::Soft).mean();
        loss.backward();
        optimizer.step(3e-4, 0.9);
        Ok(json!({"loss": loss.double_value(&[]), "parameters": parameters}))
    };
    // Memory of the first step, which makes Adam's moments; a later one finds what that left.
    let memory = measured(1, &mut step)?["memory_kib"].clone();
    let mut found = measured(rounds, step)?;
    found["memory_kib"] = memory;
    Ok(found)
}

/// Embeddings of 64 photos' worth of numbers, as `embed` makes them.
fn embedding(name: &str, rounds: usize) -> Result<Value> {
    let (name, amp) = name.strip_suffix("-bf16").map_or((name, false), |name| (name, true));
    let store = VarStore::new(Device::Cpu);
    let (net, [height, width]) = network(name, &Scope::root(&store, 1))?;
    tch::manual_seed(3);
    let images = Tensor::randn([64, 3, height.into(), width.into()], (Kind::Float, Device::Cpu));
    let batch = at_once(height, width, Device::Cpu) as i64;
    let _held = hold_weights();
    let all = || {
        let parts = (0..64).step_by(batch as usize).map(|from| images.narrow(0, from, batch.min(64 - from)));
        let forward =
            |x: Tensor| tch::no_grad(|| autocast(amp, Device::Cpu, || net.forward(&channels_last(&x), false)));
        let rows: Vec<Tensor> = parts.map(forward).collect();
        anyhow::Ok(json!({"parameters": parameters(&store), "rows": rows.iter().map(|x| x.size()[0]).sum::<i64>()}))
    };
    all()?; // folds and packs
    measured(rounds, all)
}

/// Adam alone, over TriNet's parameters.
fn adam(rounds: usize) -> Result<Value> {
    let store = VarStore::new(Device::Cpu);
    let _net = TriNet::new(&Scope::root(&store, 1));
    let mut optimizer = Optimizer::new(Rule::ADAM, 0., &store);
    let sum = store.trainable_variables().iter().map(|x| x.square().sum(Kind::Float)).reduce(|a, b| a + b);
    sum.context("no parameters")?.backward();
    optimizer.step(3e-4, 0.9);
    measured(rounds, || {
        optimizer.step(3e-4, 0.9);
        Ok(Value::Null)
    })
}

/// Batches as a training takes them: people's photos decoded, augmented and put together on all cores. `found` is images.
fn loader(folder: &Path, rounds: usize) -> Result<Value> {
    let photos = datasets::open_split(&folder.join("market"), Split::default(), None)?.train;
    let people: Vec<i64> = photos.iter().map(|photo| photo.person).collect();
    let sampler = Arc::new(PkSampler::new(&people, 18, 4, 1).context("too few people")?);
    let recipe = Recipe::imagenet(128, 64);
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    measured(rounds, || {
        let (photos, sampler) = (photos.clone(), sampler.clone());
        let batches = Loader::new(0..30, workers, workers + 1, move |step| {
            let chosen = sampler.batch(step).into_iter().enumerate();
            recipe.train_batch(chosen, |row| photos[row].source.image(), Augment::CropFlip, 1, step)
        })?;
        let images = batches.map(|batch| batch.map(|batch| batch.size()[0])).sum::<Result<i64>>()?;
        Ok(json!({"images": images, "workers": workers}))
    })
}

/// Work at one size, its inputs made beforehand.
type Sized = Box<dyn FnMut()>;

/// What is measured at growing sizes, the sizes, and one small enough to set the libraries up.
struct Growth {
    name: &'static str,
    sizes: &'static [i64],
    few: i64,
    work: fn(&Path, i64) -> Result<Sized>,
}

const GROWTH: [Growth; 8] = [
    Growth {
        name: "batch hard, by B (8 images a person)",
        sizes: &[640, 1280, 2560, 5120],
        few: 64,
        work: |_, n| loss(n, 8, |x, y| embedded::batch_hard(x, y, Metric::Euclidean, Margin::Hard(0.2)).mean()),
    },
    Growth {
        name: "batch all, by B (8 images a person)",
        sizes: &[640, 1280, 2560, 5120],
        few: 64,
        work: |_, n| loss(n, 8, |x, y| embedded::batch_all(x, y, Metric::Euclidean, Margin::Hard(0.2)).mean_active()),
    },
    Growth {
        name: "batch all with soft margin, by B (8 images a person)",
        sizes: &[320, 640, 1280],
        few: 64,
        work: |_, n| loss(n, 8, |x, y| embedded::batch_all(x, y, Metric::Euclidean, Margin::Soft).mean()),
    },
    Growth {
        name: "semi-hard, every pair, by B (40 images a person)",
        sizes: &[640, 1280, 2560, 5120],
        few: 80,
        work: |_, n| {
            let rule = Negative::SemiHard(Pick::Nearest);
            loss(n, 40, move |x, y| embedded::every_pair(x, y, Metric::SquaredEuclidean, 0.2, rule).mean())
        },
    },
    Growth {
        name: "LSEP, by C (64 images)",
        sizes: &[1_000, 4_000, 16_000, 64_000],
        few: 50,
        work: |_, c| {
            tch::manual_seed(c);
            let scores = Tensor::randn([64, c], (Kind::Float, Device::Cpu));
            let labels = Tensor::rand([64, c], (Kind::Float, Device::Cpu)).lt(0.04);
            Ok(Box::new(move || {
                let scores = scores.detach().set_requires_grad(true);
                multilabel::lsep(&scores, &labels).mean().backward();
            }))
        },
    },
    Growth {
        name: "retrieval, by gallery (500 queries)",
        sizes: &[16_000, 64_000, 256_000],
        few: 500,
        work: by_gallery,
    },
    Growth {
        name: "re-ranking, by queries and gallery",
        sizes: &[2_000, 4_000, 8_000, 16_000],
        few: 200,
        work: |_, n| {
            let x = rows(n);
            let (a, b) = (x.narrow(0, 0, n / 5), x.narrow(0, n / 5, n - n / 5));
            Ok(Box::new(move || drop(rerank(&a, &b, 20, 6, 0.3))))
        },
    },
    Growth {
        name: "images, by their number",
        sizes: &[250, 500, 1_000, 2_000],
        few: 5,
        work: |folder, n| {
            let bytes = std::fs::read_dir(folder.join("jpegs/128x64"))?.next().context("no image")??.path();
            let bytes = std::fs::read(bytes)?;
            let recipe = Recipe::imagenet(256, 128);
            let mut out = vec![0_f32; recipe.len()];
            Ok(Box::new(move || {
                for i in 0..n as u64 {
                    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(i);
                    if let Ok(image) = decode(&bytes, "a benchmark's image") {
                        recipe.train(&image, Augment::CropFlip, &mut rng, &mut out);
                    }
                }
            }))
        },
    },
];

fn rows(n: i64) -> Tensor {
    tch::manual_seed(n);
    Tensor::randn([n, 128], (Kind::Float, Device::Cpu))
}

/// A loss on `n` random embeddings, so many `images` a person, forward and backward.
fn loss(n: i64, images: i64, of: impl Fn(&Tensor, &Tensor) -> Tensor + 'static) -> Result<Sized> {
    let x = if images == 40 { rankle::distance::normalize(&rows(n)) } else { rows(n) / 8. };
    let labels = Tensor::arange(n, (Kind::Int64, Device::Cpu)).divide_scalar_mode(images, "floor");
    Ok(Box::new(move || of(&x.detach().set_requires_grad(true), &labels).backward()))
}

fn by_gallery(folder: &Path, n: i64) -> Result<Sized> {
    let get = tensors(folder, "retrieval")?;
    let (q, g) = (get("q")?.narrow(0, 0, 500), get("g")?);
    let who = identities(&get("q_person")?, &get("q_camera")?)?[..500].to_vec();
    let mut shelf = identities(&get("g_person")?, &get("g_camera")?)?;
    let more = n - g.size()[0];
    let gallery = match more > 0 {
        true => Tensor::cat(&[&g, &rows(more)], 0),
        false => g.narrow(0, 0, n),
    };
    shelf.truncate(n as usize);
    shelf.extend((0..more.max(0)).map(|i| Identity { person: 0, camera: i % 6 + 1 }));
    Ok(Box::new(move || drop(evaluate(QueryGallery::new(&q, &gallery, &who, &shelf), Metric::Euclidean, Ap::Step))))
}

/// Without a name what there is to measure; else one work at one size, in a process of its own: an allocator keeps what
/// it freed, so that the memory of a second size could not be seen.
fn growth(folder: &Path, words: &[String]) -> Result<Value> {
    let [name, size] = words else {
        return Ok(GROWTH.iter().map(|growth| (growth.name.to_string(), json!(growth.sizes))).collect());
    };
    let growth = GROWTH.iter().find(|growth| growth.name == name).context("no such growth")?;
    (growth.work)(folder, growth.few)?();
    let mut run = (growth.work)(folder, size.parse()?)?;
    let mut once = || {
        run();
        Ok(Value::Null)
    };
    let first = measured(1, &mut once)?;
    let memory = first["memory_kib"].as_f64().unwrap_or(0.) / 1024.;
    // What takes long is measured well enough by once.
    let seconds = match first["seconds"].as_f64() {
        Some(seconds) if seconds > 1. => seconds,
        _ => measured(3, &mut once)?["seconds"].as_f64().unwrap_or(f64::NAN),
    };
    Ok(json!({"seconds": seconds, "mib": memory}))
}

fn main() -> Result<()> {
    let Some(folder) = std::env::var_os("RANKLE_BENCH").map(PathBuf::from) else {
        println!("nothing to measure: scripts/bench writes the inputs and says where (RANKLE_BENCH)");
        return Ok(());
    };
    memory::keep(); // as the binaries do
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
        "adam" => adam(rounds)?,
        other if other.starts_with("step-") => training(&other[5..], rounds)?,
        other if other.starts_with("embed-") => embedding(&other[6..], rounds)?,
        other if other.starts_with("blocks-") => shared::blocks(&other[7..], rounds)?,
        other if other.starts_with("judge-") => shared::judging(&other[6..], rounds)?,
        "growth" => growth(&folder, &words[1..])?,
        "loader" => loader(&folder, rounds)?,
        other => match other.strip_prefix("images-") {
            Some(name) => images(&folder, name, rounds)?,
            None => bail!("no job {other}"),
        },
    };
    println!("{found}");
    Ok(())
}
