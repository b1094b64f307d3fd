//! In Defense of the Triplet Loss for Person Re-Identification.
//! A. Hermans*, L. Beyer*, B. Leibe. arXiv 1703.07737 (v4, 2017).
//!
//! ```text
//! cargo run --release --bin triplet-reid -- train --weights data/weights/resnet50-0676ba61.pth
//! cargo run --release --bin triplet-reid -- evaluate --run data/runs/triplet-reid/Market-1501-v15.09.15-trinet-batch-hard-soft-1
//! ```
//!
//! should reach, on Market-1501 single query (Table 2): TriNet mAP 69.14, rank-1 84.92; LuNet (`--net lunet`, no
//! weights) mAP 60.71, rank-1 81.38. What it did reach, on which data, stands in papers/README.md.
//! Where it departs from the paper, or fills a gap in it, is [`DEPARTURES`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rankle::datasets::{self, Photo, ReidSet};
use rankle::distance::Metric;
use rankle::loader::Loader;
use rankle::losses::{Margin, Tally, triplet};
use rankle::metrics::retrieval::Ap;
use rankle::models::{LuNet, Network, TriNet, channels_last, layers::Scope};
use rankle::optim::{Optimizer, Rule};
use rankle::paper::{Claim, Results, print};
use rankle::run::{
    self, checkpoint,
    config::Config,
    embed::Embedding,
    folder,
    progress::{Bar, say},
    reid,
    report::Report,
    watch,
};
use rankle::sampler::{PkSampler, TripletSampler};
use rankle::schedule::Decay;
use rankle::transform::{Augment, Recipe, TestViews};
use rankle::{export, files, seed, weights};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, nn::VarStore};

#[path = "triplet-reid/flags.rs"]
mod flags;
#[path = "triplet-reid/published.rs"]
mod published;
#[path = "triplet-reid/table1.rs"]
mod table1;

use flags::{Hyper, Loss, Net};

/// What holds for every run; what a run's flags change is added to its results.
const DEPARTURES: [&str; 8] = [
    "TriNet's backbone is torchvision's ResNet-50 (stride on the 3x3, RGB, its mean and deviation), not the Caffe one",
    "TriNet's last linear layer starts Glorot-uniform, as a maintainer says the paper's did",
    "LuNet's undetermined details: convolutions without bias; batch norm and leaky ReLU before each convolution; 1x1 projections wherever the channels change",
    "Adam's epsilon is 1e-8, the default of the paper's framework; the paper names none",
    "a pass over the people drops its remainder; a person's images are walked through without replacement across passes",
    "resizing is bilinear with antialiasing, as PIL's; the authors' code has none",
    "offline hard mining (--loss triplet-ohm) is unpublished in detail: every --ohm-every steps all training images are embedded and each gets the hardest of --ohm-pool random negatives; its positive is random",
    "Table 1's validation people are drawn from the seed; queries are one random image (MARS: tracklet) a person and camera, the gallery is everything",
];

// ---- Section 3: the networks ------------------------------------------------------------------------------------

/// f_θ: TriNet (Section 3.2, from ImageNet weights) or LuNet (Table 9, from scratch).
fn network(h: &Hyper, store: &VarStore) -> Result<Box<dyn Network>> {
    let at = Scope::root(store, h.seed);
    Ok(match h.net {
        Net::Trinet => Box::new(TriNet::new(&at)),
        Net::Lunet => Box::new(
            LuNet::new(&at, h.height.into(), h.width.into(), h.shrink)
                .with_context(|| format!("--size {}x{} --shrink {}", h.height, h.width, h.shrink))?,
        ),
    })
}

// ---- Section 2: the losses --------------------------------------------------------------------------------------

/// The loss terms of a batch with embeddings `x` `[B, 128]`; D is the distance of every two of them.
fn terms(h: &Hyper, x: &Tensor, d: &Tensor, labels: &Tensor) -> Tally {
    let m = h.hard_margin();
    match h.loss {
        Loss::Triplet | Loss::TripletOhm => {
            let [a, p, n] = [0, 1, 2].map(|i| x.chunk(3, 0).swap_remove(i));
            triplet::hinge(&h.metric.paired(&a, &p), &h.metric.paired(&a, &n), h.margin()) // Eq. 4
        }
        Loss::BatchHard | Loss::BatchHardNonzero => triplet::batch_hard(d, labels, h.margin()), // Eq. 5
        Loss::BatchAll | Loss::BatchAllNonzero => triplet::batch_all(d, labels, h.margin()),    // Eq. 6
        Loss::Lifted => triplet::lifted(d, labels, m),                                          // Eq. 7
        Loss::LiftedPairs => {
            let rows = Tensor::arange(x.size()[0], (Kind::Int64, d.device())).chunk(3, 0);
            triplet::lifted_pairs(d, &rows[0], &rows[1], m)
        }
    }
}

/// "Divided by the number of summands", or by those above 0 alone ("≠ 0").
fn mean(h: &Hyper, tally: &Tally) -> Tensor {
    match h.loss {
        Loss::BatchHardNonzero | Loss::BatchAllNonzero => tally.mean_active(),
        _ => tally.mean(),
    }
}

// ---- Section 4.2 to 4.4: batches and training -------------------------------------------------------------------

/// A batch on the host.
struct Batch {
    step: u64,
    images: Tensor,
    labels: Tensor,
}

/// Which images make batch `step`.
enum Sampler {
    Pk(PkSampler),
    Triplets(TripletSampler),
}

impl Sampler {
    fn new(h: &Hyper, labels: &[i64]) -> Result<Sampler> {
        let people = labels.iter().collect::<std::collections::BTreeSet<_>>().len();
        let seed = seed::named(h.seed, "sampler");
        if h.loss.takes_triplets() {
            let sampler = TripletSampler::new(labels, h.triplets, seed);
            return Ok(Sampler::Triplets(sampler.ok_or_else(|| {
                anyhow!("{} has no two images of one person to train on, or only one person: give other --data", h.data)
            })?));
        }
        let sampler = PkSampler::new(labels, h.p, h.k, seed);
        Ok(Sampler::Pk(sampler.ok_or_else(|| {
            anyhow!("{} has {people} people to train on and a batch takes {}: say --p {people} or fewer", h.data, h.p)
        })?))
    }

    fn batch(&self, step: u64, mined: Option<&[i64]>) -> Vec<usize> {
        match self {
            Sampler::Pk(sampler) => sampler.batch(step),
            Sampler::Triplets(sampler) => {
                let mut rows = sampler.batch(step);
                if let Some(mined) = mined {
                    let third = rows.len() / 3;
                    (0..third).for_each(|i| rows[2 * third + i] = mined[rows[i]] as usize);
                }
                rows
            }
        }
    }
}

/// Prefetched batches `steps`, each a function of the seed and its step.
fn batches(
    h: &Hyper,
    photos: &Arc<[Photo]>,
    sampler: &Arc<Sampler>,
    mined: Option<Vec<i64>>,
    steps: std::ops::Range<u64>,
    workers: usize,
) -> Result<Loader<Batch>> {
    let (photos, sampler, recipe, augment) = (photos.clone(), sampler.clone(), h.recipe(), h.augment);
    let seed = seed::named(h.seed, "augment");
    Loader::new(steps, workers, workers + 1, move |step| {
        let rows = sampler.batch(step, mined.as_deref());
        let mut pixels = vec![0_f32; rows.len() * recipe.len()];
        for (i, (&row, out)) in rows.iter().zip(pixels.chunks_exact_mut(recipe.len())).enumerate() {
            recipe.train(&*photos[row].source.image()?, augment, &mut seed::at(seed, step, i as u64), out);
        }
        let labels: Vec<i64> = rows.iter().map(|&row| photos[row].person).collect();
        let images =
            Tensor::from_slice(&pixels).view([rows.len() as i64, 3, recipe.height.into(), recipe.width.into()]);
        Ok(Batch { step, images, labels: Tensor::from_slice(&labels) })
    })
}

/// Where and how a run computes; none of it changes what it computes (on one kind of device).
struct Machine {
    device: Device,
    name: String,
    workers: usize,
    checkpoint_every: u64,
}

/// TriNet's backbone from ImageNet weights.
fn start_from(h: &Hyper, store: &VarStore) -> Result<()> {
    if let Some(file) = &h.weights {
        let loaded = weights::load_backbone(store, Path::new(file));
        say(loaded.context("--weights (data/README.md says where torchvision's ResNet-50 is)")?);
    }
    Ok(())
}

/// Trains, or goes on training, in `folder`; returns the trained network.
fn train(h: &Hyper, set: &ReidSet, at: &Path, machine: &Machine) -> Result<(VarStore, Box<dyn Network>)> {
    let photos: Arc<[Photo]> = set.train.clone().into();
    let sampler = Arc::new(Sampler::new(h, &photos.iter().map(|photo| photo.person).collect::<Vec<_>>())?);
    let mut store = VarStore::new(machine.device);
    let net = network(h, &store)?;
    if !checkpoint::exists(at) {
        start_from(h, &store)?;
    }
    // Only now: a start that was refused leaves no claim on the folder.
    let folder = folder::RunFolder::open(at)?;
    let config = Config::new("triplet-reid", h, &machine.name)?;
    config.write_or_match(at)?;
    let mut optimizer = Optimizer::new(Rule::ADAM, 0., &store);
    let resumed = checkpoint::load(at, &config, &mut store, Some(&mut optimizer))?;
    let (start, log_length, mut watch, mut mined) = match resumed {
        None => (0, 0, watch::Watch::default(), None),
        Some(loaded) => {
            loaded.note.iter().for_each(say);
            let carried = serde_json::from_str(&loaded.progress.carried)
                .context("the checkpoint's watch does not fit: train into another --run")?;
            let mined = loaded
                .extra
                .get("mined")
                .map(Vec::<i64>::try_from)
                .transpose()
                .context("the checkpoint's mined negatives do not fit")?;
            (loaded.progress.step, loaded.progress.log, carried, mined)
        }
    };
    let mut log = folder::Log::open(&folder.file("log.jsonl"), log_length)?;
    let timing = folder.file("timing.jsonl");
    let mut timing = folder::Log::open(&timing, timing.metadata().map_or(0, |data| data.len()))?;
    if start >= h.t1 {
        say(format!("{} is trained already ({start} steps)", at.display()));
        return Ok((store, net));
    }
    say(format!(
        "{} {} on {}, {}: step {start} of {}, batches of {}",
        if start > 0 { "resuming" } else { "training" },
        h.net.name(),
        set.name,
        machine.name,
        h.t1,
        h.batch_size()
    ));

    if h.t0 >= h.t1 {
        say(format!("note: --t0 {} is not before --t1 {}: the learning rate never decays", h.t0, h.t1));
    }
    let decay = Decay { base: h.lr, t0: h.t0, t1: h.t1 };
    let mut finite = watch::Finite::new(machine.device);
    let mut bar = Bar::new("train", h.t1, start);
    let (mut kept, mut saved, mut since, mut images_since) = (start, Instant::now(), Instant::now(), 0);
    let mut from = start;
    while from < h.t1 {
        // Offline hard mining cuts training into stretches; every other loss has one.
        let to = if h.loss == Loss::TripletOhm { ((from / h.ohm_every + 1) * h.ohm_every).min(h.t1) } else { h.t1 };
        if h.loss == Loss::TripletOhm && (mined.is_none() || from % h.ohm_every == 0) {
            mined = Some(mine_offline(h, &*net, &photos, from, machine)?);
        }
        let mut loader = batches(h, &photos, &sampler, mined.clone(), from..to, machine.workers)?;
        while let Some(batch) = loader.next() {
            let Batch { step: t, images, labels } = batch?;
            let images = channels_last(&images.to_device(machine.device));
            let x = run::autocast(h.amp, machine.device, || net.forward(&images, true)); // f_θ(x)
            let d = h.metric.matrix(&x, &x); // D
            let tally = terms(h, &x, &d, &labels);
            let loss = mean(h, &tally);
            optimizer.zero_grad();
            loss.backward();
            optimizer.step(decay.rate(t), decay.beta1(t)); // Eq. 8; β₁ drops to 0.5 at t0
            finite.note(&loss);
            bar.step(1);
            images_since += labels.size()[0];

            let kept_text = match kept {
                0 => "no checkpoint had been written yet".to_string(),
                _ => format!("the checkpoint of step {kept} in {} is kept", at.display()),
            };
            if t % h.log_every == 0 || t + 1 == h.t1 {
                finite.check(t, &kept_text)?;
                let line = log_line(t, &loss, &tally, &x, &d, decay.rate(t), decay.beta1(t));
                let number = |path: &str| line.pointer(path).and_then(Value::as_f64).unwrap_or(0.);
                let reading = watch::Reading {
                    loss: number("/mean"),
                    collapsed_loss: h.collapsed_loss(),
                    median_distance: number("/distance/p50"),
                    mean_norm: number("/norm/mean"),
                };
                log.line(&line)?;
                if let Some(warning) = watch.read(reading) {
                    log.line(&json!({"step": t, "warning": warning}))?;
                    bar.line(&format!("step {t}: {warning}"));
                }
                let seconds = since.elapsed().as_secs_f64();
                timing.line(&json!({"step": t, "images_per_second": images_since as f64 / seconds, "loader_wait_seconds": loader.waited().as_secs_f64()}))?;
                bar.message(format!(
                    "loss {:.4}  active {:.0}%  {:.0} images/s",
                    number("/loss"),
                    100. * number("/active"),
                    images_since as f64 / seconds
                ));
                (since, images_since) = (Instant::now(), 0);
            }
            let done = t + 1;
            if done == h.t1 || done % machine.checkpoint_every == 0 || saved.elapsed().as_secs() >= 120 {
                finite.check(t, &kept_text)?;
                finite.check_weights(&store, t, &kept_text)?;
                let progress = checkpoint::Progress::new(done, log.sync()?, serde_json::to_string(&watch)?, &config);
                let extra: Vec<_> =
                    mined.iter().map(|mined| ("mined".to_string(), Tensor::from_slice(mined))).collect();
                checkpoint::save(&folder, &store, &optimizer, &extra, &progress)?;
                (kept, saved) = (done, Instant::now());
            }
        }
        from = to;
    }
    Ok((store, net))
}

/// The JSON line of a logged step: all of it a function of flags, data and step.
fn log_line(t: u64, loss: &Tensor, tally: &Tally, x: &Tensor, d: &Tensor, rate: f64, beta1: f64) -> Value {
    let (terms, active) = (tally.terms.int64_value(&[]), tally.active.int64_value(&[]));
    let mut line = json!({
        "step": t,
        "loss": loss.double_value(&[]),
        "mean": tally.mean().double_value(&[]),
        "mean_active": tally.mean_active().double_value(&[]),
        "terms": terms,
        "active": active as f64 / terms.max(1) as f64,
        "lr": rate,
        "beta1": beta1,
    });
    if let (Value::Object(line), Value::Object(stats)) = (&mut line, run::stats::batch(x, d)) {
        line.extend(stats);
    }
    line
}

/// Offline hard mining: for every training image the hardest negative of a random pool under the network of `step`.
fn mine_offline(h: &Hyper, net: &dyn Network, photos: &[Photo], step: u64, machine: &Machine) -> Result<Vec<i64>> {
    use rand::seq::index::sample;
    let x = h.embedding(TestViews::Original, machine).photos(net, photos, "mine offline")?;
    let people = Tensor::from_slice(&photos.iter().map(|photo| photo.person).collect::<Vec<_>>());
    let pool = sample(
        &mut seed::at(seed::named(h.seed, "offline mining"), step, 0),
        photos.len(),
        h.ohm_pool.min(photos.len()),
    );
    let pool = Tensor::from_slice(&pool.into_iter().map(|row| row as i64).collect::<Vec<_>>());
    let (pool_x, pool_people) = (x.index_select(0, &pool), people.index_select(0, &pool));
    let mut mined = Vec::with_capacity(photos.len());
    for from in (0..photos.len() as i64).step_by(1024) {
        let count = 1024.min(photos.len() as i64 - from);
        let d = h.metric.matrix(&x.narrow(0, from, count), &pool_x);
        let same = people.narrow(0, from, count).unsqueeze(1).eq_tensor(&pool_people.unsqueeze(0));
        if same.all_dim(1, false).any().int64_value(&[]) != 0 {
            bail!("--ohm-pool {}: someone has no negative among so few random images: say more", h.ohm_pool);
        }
        let nearest = d.masked_fill(&same, f64::INFINITY).argmin(1, false);
        mined.extend(Vec::<i64>::try_from(pool.index_select(0, &nearest))?);
    }
    Ok(mined)
}

// ---- Section 4.3 and 6: evaluation ------------------------------------------------------------------------------

/// Opens the set of a run; with `--validation N`, N training people take the place of the test people (Table 1).
fn open(h: &Hyper) -> Result<ReidSet> {
    let set = if h.data == "drawn" { datasets::drawn::set() } else { datasets::open(Path::new(&h.data))? };
    let set = if h.validation > 0 {
        set.hold_out(h.validation, seed::named(h.seed, "validation")).context("--validation")?
    } else {
        set
    };
    // Test photos too: a long training must not end in what cannot be scored.
    datasets::check(set.photos())?;
    Ok(set)
}

/// Scores a run's network and writes `results.json` and `report.html`.
fn evaluate(
    at: &Path,
    h: &Hyper,
    set: &ReidSet,
    net: &dyn Network,
    step: u64,
    machine: &Machine,
    flags: &flags::Scoring,
) -> Result<Results> {
    let embedding = h.embedding(flags.views, machine);
    let embedded = reid::embed(net, set, &embedding)?;
    let single = embedded.score(h.metric, Ap::Trapezoid);
    if single.skipped == embedded.q.len() {
        bail!("{}: no query has a match in the gallery under the Market-1501 rule: give other --data", h.data);
    }
    let mut scores = Vec::new();
    let mut add = |name: &str, scored: &rankle::metrics::retrieval::Retrieval| {
        scores.push((format!("{name} mAP"), scored.map_of(Ap::Trapezoid)));
        scores.push((format!("{name} mAP (step)"), scored.map_of(Ap::Step)));
        scores.extend([1, 5, 10].map(|k| (format!("{name} rank-{k}"), scored.rank(k))));
    };
    add("single query", &single);
    if flags.rerank {
        add("single query re-ranked", &embedded.score_reranked(Ap::Trapezoid));
    }
    if let Some(many) = reid::multi_query(net, set, &embedding, &embedded)? {
        add("multi query", &many.score(h.metric, Ap::Trapezoid));
        if flags.rerank {
            add("multi query re-ranked", &many.score_reranked(Ap::Trapezoid));
        }
    }
    let departures: Vec<String> = DEPARTURES.iter().map(|text| text.to_string()).chain(h.departures()).collect();
    let comparable = published::comparable(h, set, step, flags);
    let mut protocol = embedded.protocol(&single);
    protocol.push(format!(
        "{} by embeddings of {} view(s) a photo ({}), averaged",
        h.metric_name(),
        flags.views.count(),
        flags.views.name()
    ));
    protocol.push("mAP by the trapezoid rule of the official script; \"(step)\" is the mean precision at hits".into());
    let claims = published::claims(h, set, flags, &scores);
    let results = Results {
        paper: "triplet-reid".into(),
        citation:
            "Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification, arXiv 1703.07737"
                .into(),
        data: set.name.clone(),
        protocol,
        scores,
        claims,
        comparable,
        departures,
        step,
    };
    files::write_atomic(&at.join("results.json"), serde_json::to_string_pretty(&results.json())?.as_bytes())?;
    let mut report = Report::new("triplet-reid", &results.citation);
    report.facts(&h.facts(set, step, machine));
    report.table("Scores", "", &results.score_table());
    report.table(
        "Beside the paper",
        results.comparable.as_ref().err().map_or("", String::as_str),
        &results.claim_table(""),
    );
    report.list("Protocol", &results.protocol);
    if at.join("log.jsonl").exists() {
        reid::curves(&mut report, at)?;
    }
    reid::retrieval_sections(&mut report, set, &embedded, &single, h.metric, h.seed)?;
    report.list("Departures from the paper", &results.departures);
    report.write(&at.join("report.html"))?;
    Ok(results)
}

/// The tables that a verb ends with.
fn show(results: &Results, at: &Path) -> Result<()> {
    print(format!("{}\n", results.citation))?;
    print(format!("{} after {} steps", results.data, results.step))?;
    for line in &results.protocol {
        print(format!("  {line}"))?;
    }
    print(results.score_table())?;
    if let Err(reason) = &results.comparable {
        print(format!("Not comparable with the paper: {reason}."))?;
    }
    print(results.claim_table("Table 2"))?;
    print(format!("departures from the paper: {} (in results.json and the report)", results.departures.len()))?;
    print(format!("results: {}", at.join("results.json").display()))?;
    print(format!("report:  {}", at.join("report.html").display()))
}

// ---- The verbs --------------------------------------------------------------------------------------------------

/// A run's flags, network and step, from its folder.
fn load(at: &Path, machine: &Machine) -> Result<(Hyper, VarStore, Box<dyn Network>, u64)> {
    let config = Config::read(at)?;
    let h: Hyper = config.flags()?;
    let mut store = VarStore::new(machine.device);
    let net = network(&h, &store)?;
    let loaded = checkpoint::load(at, &config, &mut store, None)?;
    let loaded = loaded.ok_or_else(|| anyhow!("{} has no checkpoint yet: train it first", at.display()))?;
    loaded.note.iter().for_each(say);
    Ok((h, store, net, loaded.progress.step))
}

/// TorchScript with named parameters, compared with this network before it counts as written.
fn export_run(at: &Path, h: &Hyper, store: &VarStore, net: &dyn Network) -> Result<PathBuf> {
    let path = at.join("model.pt");
    let example = Tensor::zeros([2, 3, h.height.into(), h.width.into()], (Kind::Float, store.device()));
    let exported = export::torchscript(store, &|inputs: &[Tensor]| net.forward(&inputs[0], false), &[example], &path)?;
    print(exported)?;
    Ok(path)
}

fn run_verb(verb: flags::Verb) -> Result<()> {
    use flags::Verb;
    match verb {
        Verb::Train(args) => {
            let machine = args.machine.resolve()?;
            let h = args.hyper.resolve(flags::Scale::Paper)?;
            let set = open(&h)?;
            let at = args.run.unwrap_or_else(|| h.folder());
            train(&h, &set, &at, &machine)?;
            print(format!("trained: {}\nnext: triplet-reid evaluate --run {}", at.display(), at.display()))?;
        }
        Verb::Evaluate(args) => {
            let machine = args.machine.resolve()?;
            let (mut h, mut store, mut net, mut step) = load(&args.run, &machine)?;
            h.data = args.data.unwrap_or(h.data);
            let set = open(&h)?;
            let mut at = args.run;
            if args.untrained {
                // The run's network as training found it: same seed, same weights from outside.
                store = VarStore::new(machine.device);
                net = network(&h, &store)?;
                step = 0;
                start_from(&h, &store)?;
                at = at.join("untrained");
                std::fs::create_dir_all(&at).with_context(|| format!("cannot write {}", at.display()))?;
            }
            show(&evaluate(&at, &h, &set, &*net, step, &machine, &args.scoring)?, &at)?;
            drop(store);
        }
        Verb::Embed(args) => {
            let machine = args.machine.resolve()?;
            let (h, _store, net, _) = load(&args.run, &machine)?;
            if args.out.extension().is_none_or(|extension| extension != "safetensors") || args.out.is_dir() {
                bail!("--out {}: give the name of a .safetensors file", args.out.display());
            }
            if args.out.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
                bail!("--out {}: there is no such folder: make it, or name another", args.out.display());
            }
            let photos = datasets::folder(&args.images)?;
            datasets::check(photos.iter())?;
            let x = h.embedding(args.views, &machine).photos(&*net, &photos, "embed")?;
            let names: Vec<&str> = photos.iter().map(|photo| photo.name.as_str()).collect();
            let metadata = [("names".to_string(), serde_json::to_string(&names)?)].into();
            weights::save(&args.out, &[("embeddings".into(), x)], Some(metadata))?;
            print(format!("{} embeddings of width {}: {}", photos.len(), net.width(), args.out.display()))?;
        }
        Verb::Export(args) => {
            let machine = args.machine.resolve()?;
            let (h, store, net, _) = load(&args.run, &machine)?;
            print(format!("model:   {}", export_run(&args.run, &h, &store, &*net)?.display()))?;
        }
        Verb::Data(args) => {
            let set =
                if args.data == "drawn" { datasets::drawn::set() } else { datasets::open(Path::new(&args.data))? };
            let card = datasets::card::Card::new(&set);
            print(&card)?;
            if let Some(out) = args.out {
                files::write_atomic(&out, serde_json::to_string_pretty(&card)?.as_bytes())?;
            }
        }
        Verb::Reproduce(args) => {
            let machine = args.machine.resolve()?;
            let scale = if args.hyper.is_drawn() { flags::Scale::Drawn } else { flags::Scale::Paper };
            if args.table == Some(1) {
                return table1::reproduce(&args, scale, &machine);
            }
            let h = args.hyper.resolve(scale)?;
            let set = open(&h)?;
            let at = args.run.clone().unwrap_or_else(|| h.folder());
            let (store, net) = train(&h, &set, &at, &machine)?;
            let results = evaluate(&at, &h, &set, &*net, h.t1, &machine, &args.scoring)?;
            let model = export_run(&at, &h, &store, &*net)?;
            show(&results, &at)?;
            print(format!("model:   {}", model.display()))?;
        }
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let cli = flags::Cli::parse();
    rankle::paper::main(|| run_verb(cli.verb))
}
