//! Who's Better? Who's Best? Pairwise Deep Ranking for Skill Determination.
//! H. Doughty, D. Damen, W. Mayol-Cuevas. CVPR 2018, arXiv 1703.09913.
//!
//! ```text
//! cargo run --release --bin skill-determination -- train --data data/epic-skills --task drawing --weights data/weights/alexnet-owt-7be5be79.pth
//! cargo run --release --bin skill-determination -- evaluate --run data/runs/skill-determination/drawing-alexnet-rank3-1
//! ```
//!
//! should reach, with both streams fused (Table 2): surgery 70.2, dough 79.4, drawing 83.2, chopsticks 71.5 % of pairs
//! in the right order. What it did reach, on which data, stands in papers/README.md.
//! Where it departs from the paper, or fills a gap in it, is [`DEPARTURES`].

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use rankle::collectives::Gradients;
use rankle::datasets::drawn::Hands;
use rankle::datasets::epic_skills;
use rankle::datasets::skills::SkillSet;
use rankle::losses::{Tally, skill};
use rankle::metrics::pairwise;
use rankle::models::layers::Scope;
use rankle::models::{AlexNet, BnInception, FeatureHead, Input, Network, Prepared, SnippetSmall, channels_last};
use rankle::optim::{Optimizer, Rule};
use rankle::paper::{self, Claim, Departure, Results, print};
use rankle::run::machine::Machine;
use rankle::run::progress::{Bar, say};
use rankle::run::session::{self, Done, Plan, Session, Trained};
use rankle::run::skill::{Batches, Material, Rows, Sample, Taken, by_split, consensus, mean_of, samples, score};
use rankle::run::{self, checkpoint, config::Config, embed, stats};
use rankle::schedule::Stairs;
use rankle::transfer::upload;
use rankle::video::snippet::{Crops, Stream};
use rankle::video::{self, Cache, Clip, tvl1};
use rankle::{export, files, seed, weights};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor, nn::VarStore};

#[path = "skill-determination/flags.rs"]
mod flags;
#[path = "skill-determination/flow.rs"]
mod flow;
#[path = "skill-determination/published.rs"]
mod published;
#[path = "skill-determination/report.rs"]
mod report;
#[path = "skill-determination/sweeps.rs"]
mod sweeps;

use flags::{Hyper, Loss, Net, Part};

const PAPER: &str = "skill-determination";

/// What departs from the paper, or fills a gap in it, and for which runs; what flags change is added to a run's results.
const DEPARTURES: [Departure<Hyper>; 12] = [
    ("AlexNet is torchvision's (one tower, no local response normalisation), not Caffe's", |h| h.net == Net::Alexnet),
    (
        "a batch's number counts (pair, split) samples, and the loss is the mean over them; the paper writes sums",
        |_| true,
    ),
    ("strict and similar samples are shuffled together, weighted beta and 1 - beta", |h| h.loss == Loss::Rank3),
    ("similar pairs to train on are those whose two videos are both training videos of the fold", |h| {
        h.loss == Loss::Rank3
    }),
    (
        "the temporal stream starts from ImageNet weights with its first layer averaged over the colours (temporal segment networks'; the paper does not say)",
        |h| h.weights.is_some() && h.streams.contains(&Stream::Temporal),
    ),
    (
        "weight decay 5e-4, crop scales 1, 0.875, 0.75, 0.66 (there of the RGB stream; the flow stream lacks the last) and flow cut off at 20 pixels are temporal segment networks' defaults; the paper names none; their windows have 13 places and here 5 (corners and centre), their multipliers of rates and decays by layer are not used, gradients are not clipped",
        |h| matches!(h.net, Net::Alexnet | Net::BnInception),
    ),
    ("a test snippet is its centre crop: the paper does not say whether it took ten", |h| h.net != Net::Features),
    ("dropout stands before fc6 and fc7, as in torchvision's AlexNet; Caffe's has it behind them", |h| {
        h.net == Net::Alexnet
    }),
    ("frames are taken at the video's own rate; the paper names none", |h| h.data != "drawn" && h.net != Net::Features),
    ("all snippets of a clip share one random window", |h| h.net != Net::Features && !h.no_augment),
    ("BN-Inception trains with the running statistics of all its batch normalisations but the first", |h| {
        h.net == Net::BnInception
    }),
    ("flow is this library's TV-L1, or whatever flow lies beside the frames", |h| {
        h.data != "drawn" && h.net != Net::Features && h.streams.contains(&Stream::Temporal)
    }),
];

/// Bytes of frames that are kept in memory.
const CACHE: usize = 512 << 20;

// ---- The network ------------------------------------------------------------------------------------------------

/// f: a snippet to a score. Siamese: both videos of a pair go through it.
fn network(h: &Hyper, stream: Stream, inputs: i64, store: &VarStore) -> Prepared {
    let at = Scope::root(store, seed::named(h.seed, stream.name()));
    let (p, flow) = (h.dropout(stream), stream == Stream::Temporal);
    let (network, input): (Box<dyn Network>, Input) = match h.net {
        Net::Alexnet => (Box::new(AlexNet::new(&at, inputs, p)), if flow { Input::Flow } else { Input::Frame }),
        Net::BnInception => {
            let input = if flow { Input::FlowCentred } else { Input::FrameBgr };
            (Box::new(BnInception::new(&at, inputs, p)), input)
        }
        Net::Small => (Box::new(SnippetSmall::new(&at, inputs, p)), if flow { Input::Flow } else { Input::Frame }),
        Net::Features => (Box::new(FeatureHead::new(&at, inputs, p)), Input::Features),
    };
    Prepared { network, input }
}

/// The backbone from ImageNet weights.
fn start_from(h: &Hyper, store: &VarStore) -> Result<()> {
    let first = if h.net == Net::BnInception { BnInception::FIRST } else { AlexNet::FIRST };
    if let Some(file) = &h.weights {
        let loaded = weights::load_scorer(store, Path::new(file), first);
        say(loaded.with_context(|| format!("--weights ({} gets this network's)", h.net.fetch()))?);
    }
    Ok(())
}

// ---- The losses -------------------------------------------------------------------------------------------------

/// The terms of clips with scores `a` and `b` `[B]`; where `similar` is false, `a` is the better.
fn terms(h: &Hyper, a: &Tensor, b: &Tensor, similar: &Tensor) -> Tally {
    match h.loss {
        Loss::Rank1 => skill::rank(a, b, h.margin),        // Eq. 3, on whole videos
        Loss::Rank2 => skill::rank_splits(a, b, h.margin), // Eq. 5, on splits
        Loss::Rank3 => skill::rank_and_similarity(a, b, similar, h.margin, h.beta), // Eq. 8
    }
}

/// What a fold's batches are drawn from: Ψ, or Ψ × N splits, or both Ψ and Φ × N splits.
fn fold_samples(h: &Hyper, set: &SkillSet, fold: usize) -> Arc<[Sample]> {
    let fold = &set.folds[fold];
    match h.loss {
        Loss::Rank1 => samples(&fold.train, &[], 1),
        Loss::Rank2 => samples(&fold.train, &[], h.splits),
        Loss::Rank3 => samples(&fold.train, &fold.similar, h.splits),
    }
    .into()
}

// ---- The data ---------------------------------------------------------------------------------------------------

/// A data set with what its videos' snippets are made of.
struct World {
    set: SkillSet,
    /// The videos, where there are any (ready-made features have none).
    clips: Option<Arc<[Clip]>>,
    /// By stream.
    materials: Vec<(Stream, Material)>,
}

impl World {
    fn open(h: &Hyper) -> Result<World> {
        let cache = Cache::new(CACHE);
        if h.data == "drawn" {
            let (set, clips) = Hands::default().clips(&cache);
            return World::of(h, set, clips);
        }
        let dir = Path::new(&h.data);
        let set = match &h.task {
            Some(task) => epic_skills::open_one(dir, task)?,
            None => {
                let mut sets = epic_skills::open(dir)?;
                let names = sets.iter().map(|set| set.name.clone()).collect::<Vec<_>>().join(", ");
                ensure!(sets.len() == 1, "{} has several sets: say --task with one of {names}", dir.display());
                sets.swap_remove(0)
            }
        };
        if h.net == Net::Features {
            let materials =
                h.streams.iter().map(|&stream| Ok((stream, features(dir, &set, stream)?))).collect::<Result<_>>()?;
            return Ok(World { set, clips: None, materials });
        }
        let clips = epic_skills::clips(dir, &set, &cache)?;
        World::of(h, set, clips)
    }

    fn of(h: &Hyper, set: SkillSet, clips: Vec<Clip>) -> Result<World> {
        let clips: Arc<[Clip]> = clips.into();
        let materials = materials(h, &clips).map_err(|error| anyhow!("{error}; or leave it out: --streams spatial"))?;
        Ok(World { set, clips: Some(clips), materials })
    }

    /// What several processes must have alike: names, pairs, and how long the videos are.
    fn fingerprint(&self) -> impl Serialize {
        let frames = |(stream, material): &(Stream, Material)| {
            (stream.name(), (0..material.videos()).map(|video| material.frames(video)).collect::<Vec<_>>())
        };
        let folds = self.set.folds.iter().map(|fold| (&fold.train, &fold.similar, &fold.test));
        (&self.set.videos, folds.collect::<Vec<_>>(), self.materials.iter().map(frames).collect::<Vec<_>>())
    }

    fn material(&self, stream: Stream) -> Result<&Material> {
        let found = self.materials.iter().find(|(known, _)| *known == stream);
        Ok(&found.with_context(|| format!("no {} stream in this run", stream.name()))?.1)
    }
}

/// What each of the run's streams sees of `clips`.
fn materials(h: &Hyper, clips: &Arc<[Clip]>) -> Result<Vec<(Stream, Material)>> {
    if h.streams.contains(&Stream::Temporal) {
        clips.iter().try_for_each(Clip::check_flow)?;
    }
    let of = |&stream: &Stream| {
        (stream, Material::Clips { clips: clips.clone(), crops: h.crops(), augment: !h.no_augment, stream })
    };
    Ok(h.streams.iter().map(of).collect())
}

/// Ready-made features: `features/<stream>/<Task>/<video>.safetensors`, tensor "features" `[snippets, width]`.
fn features(dir: &Path, set: &SkillSet, stream: Stream) -> Result<Material> {
    let mut all: Vec<Rows> = Vec::new();
    for (i, name) in set.videos.iter().enumerate() {
        let folder = dir.join("features").join(stream.name()).join(&set.task(i).name);
        let path = folder.join(format!("{name}.safetensors"));
        let (tensors, _) = weights::read_safetensors(&path)?;
        let found = tensors.into_iter().find(|(name, _)| name == "features").map(|(_, x)| x.to_kind(Kind::Float));
        let found = found.filter(|x| x.dim() == 2 && x.numel() > 0 && x.isfinite().all().int64_value(&[]) == 1);
        let x = found.with_context(|| {
            format!("{}: it should hold a tensor \"features\" [snippets, width] of finite numbers", path.display())
        })?;
        let width = x.size()[1] as usize;
        if all.first().is_some_and(|first| first.width != width) {
            bail!("{}: rows of {width} numbers, and the videos before it have others", path.display());
        }
        all.push(Rows { width, values: Vec::<f32>::try_from(x.contiguous().view([-1]))? });
    }
    Ok(Material::Features(all.into()))
}

/// Channels of a snippet, or numbers in a row of features.
fn inputs(material: &Material) -> i64 {
    match material {
        Material::Clips { stream, .. } => stream.channels(),
        Material::Features(rows) => rows.first().map_or(1, |rows| rows.width as i64),
    }
}

// ---- Training ---------------------------------------------------------------------------------------------------

/// Snippets for the network: on its device, images in the layout it likes.
fn to_device(raw: &Tensor, machine: &Machine) -> Tensor {
    let raw = upload(raw, machine.device).to_kind(Kind::Float);
    if raw.dim() == 4 { channels_last(&raw) } else { raw }
}

fn part_folder(at: &Path, fold: usize, stream: Stream) -> PathBuf {
    at.join(format!("fold-{}-{}", fold + 1, stream.name()))
}

/// Trains, or goes on training, one stream on one fold.
fn train(h: &Hyper, world: &World, stream: Stream, fold: usize, at: &Path, machine: &Machine) -> Result<()> {
    let (material, steps) = (world.material(stream)?, h.steps(stream));
    let part = Part { hyper: h.clone(), stream, fold: fold + 1 };
    let mut store = VarStore::new(machine.device);
    let net = network(h, stream, inputs(material), &store);
    let mut optimizer = Optimizer::new(Rule::Sgd { momentum: 0.9 }, h.weight_decay, &store);
    let at = part_folder(at, fold, stream);
    let plan = Plan { paper: PAPER, at: &at, machine, steps, log_every: h.log_every };
    let mut session = Session::open(plan, &part, &mut store, &mut optimizer, |store| start_from(h, store))?;
    let samples = fold_samples(h, &world.set, fold);
    ensure!(!samples.is_empty(), "fold {} of {} has no pairs to train on", fold + 1, world.set.name);
    let what = format!(
        "{} on {}, fold {} of {}, {} stream, {}, {} samples, batches of {}",
        h.net.name(),
        world.set.name,
        fold + 1,
        world.set.folds.len(),
        stream.name(),
        if h.net == Net::Features { machine.name.clone() } else { machine.for_images(h.amp) },
        samples.len(),
        h.batch
    );
    if !session.announce(&what) {
        return Ok(());
    }
    let key = seed::named(seed::named(h.seed, stream.name()), &format!("fold {fold}"));
    let (segments, stairs) = (h.segments as i64, h.stairs(stream));
    // Of several processes each scores a share of a batch's pairs, all in as many passes.
    let gradients = Gradients::new(&machine.world, &store)?;
    let shares = machine.world.shares(h.batch, 1)?;
    let own = shares.own();
    let passes = shares.of().map(|share| share.len()).max().unwrap_or(1).div_ceil(h.chunk);
    ensure!(
        shares.of().all(|share| share.len() >= passes),
        "--chunk {}: {} processes have unequal shares of --batch {}: say a larger one",
        h.chunk,
        machine.world.size(),
        h.batch
    );
    let cuts: Vec<Range<usize>> =
        (0..passes).map(|i| own.start + i * own.len() / passes..own.start + (i + 1) * own.len() / passes).collect();
    let batches = Batches { batch: h.batch, segments: h.segments, seed: key, workers: machine.workers };
    let mut loader = batches.load(material, samples, session.start()..steps, own.clone())?;
    while let Some(batch) = loader.next() {
        let batch = batch?;
        let t = batch.step;
        let similar = batch.similar.to_device(machine.device);
        // f(p_i) and f(p_j) of the pairs `rows`, `[rows, 2]`.
        let scores = |rows: &Range<usize>| {
            let (from, count) = ((rows.start - own.start) as i64, rows.len() as i64);
            let of = |x: &Tensor| x.narrow(0, from * segments, count * segments);
            let raw = to_device(&Tensor::cat(&[of(&batch.first), of(&batch.second)], 0), machine);
            // Dropout draws the same after a resume, and other numbers for other pairs.
            tch::manual_seed((seed::mix(seed::mix(key ^ t).wrapping_add(rows.start as u64)) >> 1) as i64);
            let f = run::autocast(h.amp, machine.device, || consensus(&net, &raw, segments, true));
            f.view([2, -1]).transpose(0, 1)
        };
        let loss_of = |f: &Tensor, similar: &Tensor| {
            let [a, b] = [0, 1].map(|side| f.select(1, side).contiguous());
            terms(h, &a, &b, similar)
        };
        optimizer.zero_grad();
        let (f, tally) = if let [all] = &cuts[..] {
            let f = machine.world.gather(&scores(all), &shares)?; // of all processes
            let tally = loss_of(&f, &similar);
            gradients.backward(&tally.mean())?;
            (f.detach(), tally)
        } else {
            // A pair's terms are its own: the gradients of the passes add up to the batch's.
            let mut parts = Vec::with_capacity(cuts.len());
            for rows in &cuts {
                let f = scores(rows);
                let tally = loss_of(&f, &similar.narrow(0, rows.start as i64, rows.len() as i64));
                gradients.backward_alone(&(tally.sum() / h.batch as f64))?;
                parts.push(f.detach());
            }
            gradients.sum()?;
            let f = machine.world.gather(&Tensor::cat(&parts, 0), &shares)?;
            let tally = loss_of(&f, &similar);
            (f, tally)
        };
        optimizer.step(stairs.rate(t), 0.);

        let loss = tally.mean();
        let line = || {
            let z = (f.select(1, 0) - f.select(1, 1)).to_kind(Kind::Float);
            let strict = similar.logical_not();
            let right = z.gt(0.).logical_and(&strict).sum(Kind::Int64).int64_value(&[]);
            let all = strict.sum(Kind::Int64).int64_value(&[]).max(1);
            let more = json!({"lr": stairs.rate(t), "right": right as f64 / all as f64, "gap": z.abs().mean(Kind::Float).double_value(&[])});
            (stats::joined(stats::tally(t, &loss, &tally), more), None)
        };
        let done = Done { step: t, loss: &loss, images: 2 * h.batch as i64 * segments, waited: loader.waited() };
        session.after(done, line, &store, &optimizer, Vec::new)?;
    }
    Ok(())
}

/// The run's folder with its configuration, new or the same.
fn claim(h: &Hyper, folds: &[usize], at: &Path, machine: &Machine) -> Result<()> {
    // A part that was trained with other flags refuses before the run's own configuration is written.
    for &fold in folds {
        for &stream in &h.streams {
            let part = part_folder(at, fold, stream);
            if checkpoint::exists(&part) {
                Config::new(PAPER, &Part { hyper: h.clone(), stream, fold: fold + 1 }, &machine.name)?
                    .write_or_match(&part)?;
            }
        }
    }
    std::fs::create_dir_all(at)
        .with_context(|| format!("cannot write the run folder {}: choose another --run", at.display()))?;
    let config = Config::new(PAPER, h, &machine.name)?;
    if let Ok(old) = Config::read(at) {
        ensure!(
            old.paper == PAPER && old.flags::<Hyper>().is_ok_and(|old| old == *h),
            "{} was started with other flags: give the same to go on, or another --run",
            at.display()
        );
    } else {
        config.write_or_match(at)?;
    }
    Ok(())
}

/// All streams of all folds, one after another; what is trained already is passed over.
fn train_all(h: &Hyper, world: &World, at: &Path, machine: &Machine) -> Result<()> {
    let folds = h.chosen(&world.set)?;
    machine.world.agree("--data (its videos and pairs): give every process the same", &world.fingerprint())?;
    if let Some(file) = &h.weights {
        // Before anything is written.
        ensure!(
            Path::new(file).is_file(),
            "--weights {file}: there is no such file: {} gets this network's",
            h.net.fetch()
        );
    }
    if machine.world.leads() {
        claim(h, &folds, at, machine)?;
    }
    for fold in folds {
        for &stream in &h.streams {
            train(h, world, stream, fold, at, machine)?;
        }
    }
    Ok(())
}

// ---- Evaluation -------------------------------------------------------------------------------------------------

/// One trained stream of one fold.
fn load_part(
    h: &Hyper,
    at: &Path,
    stream: Stream,
    fold: usize,
    inputs: i64,
    machine: &Machine,
) -> Result<Trained<Part, Prepared>> {
    let at = part_folder(at, fold, stream);
    let trained = session::load(PAPER, &at, machine, |part: &Part, store| {
        ensure!(part.hyper == *h, "{} is of another run than the folder it lies in", at.display());
        Ok(network(h, stream, inputs, store))
    })
    .with_context(|| format!("fold {}, {} stream", fold + 1, stream.name()))?;
    let steps = h.steps(stream);
    if trained.step < steps {
        say(format!("note: {} stopped at step {} of {steps}", at.display(), trained.step));
    }
    Ok(trained)
}

/// The scores of all snippets: by fold, stream, video.
struct Scored {
    streams: Vec<Stream>,
    folds: Vec<(usize, Vec<Vec<Vec<f64>>>)>,
    /// Whether every part was trained to its last step.
    whole: bool,
}

impl Scored {
    fn new(h: &Hyper, world: &World, at: &Path, machine: &Machine, sigma: usize) -> Result<Scored> {
        let videos: Vec<usize> = (0..world.set.videos.len()).collect();
        let (mut folds, mut whole) = (Vec::new(), true);
        for fold in h.chosen(&world.set)? {
            let mut streams = Vec::new();
            for &stream in &h.streams {
                let material = world.material(stream)?;
                let part = load_part(h, at, stream, fold, inputs(material), machine)?;
                whole &= part.step >= h.steps(stream);
                let what = format!("fold {} {}", fold + 1, stream.name());
                streams.push(score(&part.network, material, &videos, sigma, machine, h.amp, &what)?);
            }
            folds.push((fold, streams));
        }
        Ok(Scored { streams: h.streams.clone(), folds, whole })
    }

    /// f(p) of every video for the `place`-th fold (Eq. 9), from `count` of the snippets.
    fn f(&self, place: usize, alpha: f64, count: usize, taken: Taken) -> Vec<f64> {
        self.fused(place, alpha, |scores, video| mean_of(scores, count, taken, video))
    }

    /// Eq. 9 with another mean of a stream's snippets: `mean(scores, video)`.
    fn fused(&self, place: usize, alpha: f64, mean: impl Fn(&[f64], usize) -> f64) -> Vec<f64> {
        let by_stream = &self.folds[place].1;
        (0..by_stream[0].len())
            .map(|video| {
                let weight = |stream: &Stream| match (self.streams.len(), stream) {
                    (1, _) => 1.,
                    (_, Stream::Spatial) => alpha,
                    (_, Stream::Temporal) => 1. - alpha,
                };
                let parts = self.streams.iter().zip(by_stream);
                parts.map(|(stream, scores)| weight(stream) * mean(&scores[video], video)).sum()
            })
            .collect()
    }

    /// Pairwise accuracy, pooled over the folds' test pairs.
    fn accuracy(&self, set: &SkillSet, alpha: f64, count: usize, taken: Taken) -> f64 {
        let (mut right, mut all) = (0., 0.);
        for (place, (fold, _)) in self.folds.iter().enumerate() {
            let test = &set.folds[*fold].test;
            if !test.is_empty() {
                right += pairwise::accuracy(&self.f(place, alpha, count, taken), test) * test.len() as f64;
                all += test.len() as f64;
            }
        }
        right / all
    }

    /// Pairwise accuracy of single splits: the k-th of N of one video against the k-th of the other, pooled over splits
    /// and the folds' test pairs. What a pair is trained to in Eq. 5.
    fn split_accuracy(&self, set: &SkillSet, alpha: f64, splits: usize) -> f64 {
        let (mut right, mut all) = (0., 0.);
        for (place, (fold, by_stream)) in self.folds.iter().enumerate() {
            let test = &set.folds[*fold].test;
            let splits = splits.min(by_stream[0].iter().map(Vec::len).min().unwrap_or(1)).max(1);
            for k in (0..splits).filter(|_| !test.is_empty()) {
                let scores = self.fused(place, alpha, |scores, _| by_split(scores, splits)[k]);
                right += pairwise::accuracy(&scores, test) * test.len() as f64;
                all += test.len() as f64;
            }
        }
        right / all
    }

    /// How held-out similar pairs fare: how near they lie (see [`pairwise::similar_gap`]), and how many lie within the
    /// margin; means over the folds that have some.
    fn similar(&self, set: &SkillSet, alpha: f64, margin: f64) -> [f64; 2] {
        let folds = self.folds.iter().enumerate().map(|(place, (fold, _))| {
            let f = self.f(place, alpha, usize::MAX, Taken::Start);
            let similar = set.similar_held(*fold);
            [pairwise::similar_gap(&f, &similar, &set.folds[*fold].test), pairwise::within(&f, &similar, margin)]
        });
        let folds: Vec<[f64; 2]> = folds.collect();
        [0, 1].map(|i| {
            let known: Vec<f64> = folds.iter().map(|fold| fold[i]).filter(|number| number.is_finite()).collect();
            known.iter().sum::<f64>() / known.len() as f64
        })
    }

    /// How many pooled test pairs of separation 1, 2, ... are right, and how many there are.
    fn by_separation(&self, set: &SkillSet, alpha: f64) -> Vec<(usize, usize)> {
        let mut bins: Vec<(usize, usize)> = Vec::new();
        for (place, (fold, _)) in self.folds.iter().enumerate() {
            let f = self.f(place, alpha, usize::MAX, Taken::Start);
            let test = &set.folds[*fold].test;
            for (&(a, b), separation) in test.iter().zip(set.separation(test)) {
                let Some(n) = separation.filter(|&n| n > 0) else { continue };
                bins.resize(bins.len().max(n), (0, 0));
                bins[n - 1].0 += usize::from(f[a] > f[b]);
                bins[n - 1].1 += 1;
            }
        }
        bins
    }
}

/// Scores a run and writes `results.json` and `report.html`.
fn evaluate(at: &Path, h: &Hyper, world: &World, machine: &Machine, scoring: &flags::Scoring) -> Result<Results> {
    let set = &world.set;
    let scored = Scored::new(h, world, at, machine, scoring.sigma)?;
    let pooled: usize = scored.folds.iter().map(|(fold, _)| set.folds[*fold].test.len()).sum();
    ensure!(pooled > 0, "{} has no test pairs", set.name);
    let mut scores = Vec::new();
    let all = |alpha: f64| scored.accuracy(set, alpha, usize::MAX, Taken::Start);
    for stream in &h.streams {
        scores.push((stream.name().to_string(), all(if *stream == Stream::Spatial { 1. } else { 0. })));
    }
    if h.streams.len() == 2 {
        scores.push(("fused".into(), all(scoring.alpha)));
    }
    let last = if h.streams.len() == 2 { "fused" } else { h.streams[0].name() };
    scores.push((format!("{last}, single splits"), scored.split_accuracy(set, scoring.alpha, h.splits)));
    let [gap, near] = scored.similar(set, scoring.alpha, h.margin);
    if gap.is_finite() {
        scores.push((format!("{last}, gap of similar pairs"), gap));
    }
    if near.is_finite() {
        scores.push((format!("{last}, similar pairs within the margin"), near));
    }
    for (place, (fold, _)) in scored.folds.iter().enumerate() {
        let f = scored.f(place, scoring.alpha, usize::MAX, Taken::Start);
        if !set.folds[*fold].test.is_empty() {
            scores.push((format!("{last}, fold {}", fold + 1), pairwise::accuracy(&f, &set.folds[*fold].test)));
        }
    }
    for (n, (right, all)) in scored.by_separation(set, scoring.alpha).into_iter().enumerate() {
        if all > 0 {
            scores.push((format!("{last}, separation {}", n + 1), right as f64 / all as f64));
        }
    }
    let comparable = published::comparable(h, set, scoring).and_then(|()| match scored.whole {
        true => Ok(()),
        false => Err("training stopped before its last step".into()),
    });
    let mut claims = published::claims(h, set, scoring, &scores);
    if comparable.is_err() {
        claims.iter_mut().for_each(|claim| claim.ours = None);
    }
    let results = Results {
        paper: PAPER.into(),
        citation: "Doughty, Damen, Mayol-Cuevas: Who's Better? Who's Best? Pairwise Deep Ranking for Skill Determination, CVPR 2018, arXiv 1703.09913".into(),
        data: set.name.clone(),
        protocol: vec![
            format!("share of {pooled} test pairs, pooled over {} fold(s), whose better video scores strictly higher", scored.folds.len()),
            format!("a video's score: the mean of {} snippets, spread uniformly, centre crops", scoring.sigma),
            format!("single splits: the {} splits of one video against those of the other, one by one", h.splits),
            "gap of similar pairs: mean distance of the scores of held-out similar pairs, in units of the strict pairs' (less is better)".into(),
            format!("similar pairs within the margin: share of held-out similar pairs whose scores differ by at most {} (Eq. 6), mean over folds", h.margin),
        ]
        .into_iter()
        .chain((h.streams.len() == 2).then(|| format!("fusion: {} spatial + {} temporal", scoring.alpha, 1. - scoring.alpha)))
        .collect(),
        claims,
        scores,
        comparable,
        departures: paper::departures(&DEPARTURES, h).into_iter().chain(h.departures()).collect(),
        step: h.streams.iter().map(|&stream| h.steps(stream)).max().unwrap_or(0),
    };
    if machine.world.leads() {
        results.write(at)?;
        report::write(at, h, world, machine, &scored, scoring, &results)?;
    }
    Ok(results)
}

// ---- The verbs --------------------------------------------------------------------------------------------------

/// The flags of a run; of several processes the first one alone looks into its folder.
fn flags_of(at: &Path, machine: &Machine) -> Result<Hyper> {
    let own = if machine.world.leads() { Some(Config::read(at)?) } else { None };
    let config = machine.world.told(&own)?.context("process 0 found no run")?;
    ensure!(config.paper == PAPER, "{} is a run of {}: say {} instead", at.display(), config.paper, config.paper);
    config.flags()
}

/// Videos that a user brings, with their names.
fn brought(h: &Hyper, videos: &str) -> Result<(Vec<String>, Arc<[Clip]>)> {
    if h.net == Net::Features {
        bail!("this run scores ready-made features, and {videos} has videos: train one with --net alexnet");
    }
    let cache = Cache::new(CACHE);
    if videos == "drawn" {
        // Other hands than those of --data drawn.
        let (set, clips) = Hands { seed: 2, ..Hands::default() }.clips(&cache);
        return Ok((set.videos, clips.into()));
    }
    let found = video::folder(Path::new(videos))?;
    let clip =
        |(i, (name, found)): (usize, &(String, video::Found))| Clip::open(name.clone(), i as u32, found, cache.clone());
    let clips = found.iter().enumerate().map(clip).collect::<Result<Vec<_>>>()?;
    Ok((found.into_iter().map(|(name, _)| name).collect(), clips.into()))
}

/// Who's best: all videos by descending f(p), each with its splits' scores.
fn rank(args: flags::Rank) -> Result<()> {
    let machine = args.machine.resolve()?;
    let mut h = flags_of(&args.run, &machine)?;
    let scoring = args.scoring.resolve(&h.streams)?;
    if let Some(fold) = args.fold {
        h.folds = Some(vec![fold]);
    }
    let (names, clips) = brought(&h, &args.videos)?;
    let trained = flags_of(&args.run, &machine)?;
    let folds: Vec<usize> = match h.folds.clone() {
        Some(folds) => {
            folds.into_iter().map(|fold| fold.checked_sub(1).context("--fold counts from 1")).collect::<Result<_>>()?
        }
        None => {
            let begun = |&fold: &usize| h.streams.iter().any(|&stream| part_folder(&args.run, fold, stream).is_dir());
            let (whole, part): (Vec<usize>, Vec<usize>) = (0..).take_while(begun).partition(|&fold| {
                h.streams.iter().all(|&stream| checkpoint::exists(&part_folder(&args.run, fold, stream)))
            });
            for fold in part {
                say(format!("note: fold {} lacks a trained stream and is left out", fold + 1));
            }
            whole
        }
    };
    ensure!(!folds.is_empty(), "{} has no trained fold yet: train it first", args.run.display());
    let all: Vec<usize> = (0..names.len()).collect();
    // The fused scores of all snippets, averaged over the folds.
    let mut scores = vec![vec![0.; scoring.sigma]; names.len()];
    for (stream, material) in materials(&h, &clips)? {
        let weight = match (h.streams.len(), stream) {
            (1, _) => 1.,
            (_, Stream::Spatial) => scoring.alpha,
            (_, Stream::Temporal) => 1. - scoring.alpha,
        };
        for &fold in &folds {
            let part = load_part(&trained, &args.run, stream, fold, inputs(&material), &machine)?;
            let what = format!("fold {} {}", fold + 1, stream.name());
            let rows = score(&part.network, &material, &all, scoring.sigma, &machine, h.amp, &what)?;
            for (sum, row) in scores.iter_mut().zip(rows) {
                sum.iter_mut().zip(row).for_each(|(sum, score)| *sum += weight * score / folds.len() as f64);
            }
        }
    }
    let mut order: Vec<(f64, usize)> =
        all.iter().map(|&i| (mean_of(&scores[i], usize::MAX, Taken::Start, i), i)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    // Fewer snippets have fewer splits.
    let splits = h.splits.min(scoring.sigma);
    let head =
        ["place", "video", "score"].map(String::from).into_iter().chain((1..=splits).map(|k| format!("split {k}")));
    let row = |(place, &(f, i)): (usize, &(f64, usize))| {
        let splits = by_split(&scores[i], splits).into_iter().map(|score| format!("{score:+.2}"));
        [(place + 1).to_string(), names[i].clone(), format!("{f:+.3}")].into_iter().chain(splits).collect()
    };
    print(run::report::Table { head: head.collect(), rows: order.iter().enumerate().map(row).collect() })?;
    print("Scores rank videos of the task that was trained on; across tasks they mean nothing.")?;
    if let Some(out) = args.out {
        let row = |&(f, i): &(f64, usize)| json!({"video": names[i], "score": f, "splits": by_split(&scores[i], splits), "snippets": scores[i]});
        let value = Value::Array(order.iter().map(row).collect());
        files::write_atomic(&out, serde_json::to_string_pretty(&value)?.as_bytes())?;
        print(format!("ranking: {}", out.display()))?;
    }
    Ok(())
}

/// TorchScript of the streams' snippet scorers, each compared with its network before it counts as written.
fn export_run(
    at: &Path,
    h: &Hyper,
    fold: usize,
    inputs_of: impl Fn(Stream) -> Result<i64>,
    machine: &Machine,
) -> Result<()> {
    let fold = fold.checked_sub(1).context("--fold counts from 1")?;
    for &stream in &h.streams {
        let inputs = inputs_of(stream)?;
        let part = load_part(h, at, stream, fold, inputs, machine)?;
        let side = i64::from(h.side);
        let shape = if h.net == Net::Features { vec![2, inputs] } else { vec![2, inputs, side, side] };
        let example = Tensor::zeros(&shape[..], (Kind::Float, part.store.device()));
        let path = at.join(format!("model-{}.pt", stream.name()));
        let forward = |x: &[Tensor]| part.network.forward(&x[0], false);
        print(export::torchscript(&part.store, &forward, &[example], &path)?)?;
        print(format!("model:   {} (snippets of raw bytes as float32, 0 to 255, to scores [B, 1])", path.display()))?;
    }
    Ok(())
}

fn run_verb(verb: flags::Verb) -> Result<()> {
    use flags::Verb;
    match verb {
        Verb::Train(args) => {
            let machine = args.machine.resolve_world()?;
            let h = args.hyper.resolve(args.hyper.scale())?;
            if args.machine.sync_batch_norm && matches!(h.net, Net::Alexnet | Net::Features) {
                bail!("--sync-batch-norm: {} has no batch normalisation: leave it out", h.net.name());
            }
            let world = World::open(&h)?;
            let at = args.run.unwrap_or_else(|| h.folder());
            train_all(&h, &world, &at, &machine)?;
            print(format!("trained: {}\nnext: skill-determination evaluate --run {}", at.display(), at.display()))?;
        }
        Verb::Evaluate(args) => {
            let machine = args.machine.resolve_world()?;
            let h = flags_of(&args.run, &machine)?;
            let scoring = args.scoring.resolve(&h.streams)?;
            let world = World::open(&h)?;
            let asked = "the videos, or --sigma and the like: give every process the same data and flags";
            machine.world.agree(asked, &(world.fingerprint(), format!("{scoring:?}")))?;
            evaluate(&args.run, &h, &world, &machine, &scoring)?.show(&args.run, "")?;
        }
        Verb::Sweep(args) => {
            let machine = args.machine.resolve()?;
            let h = flags_of(&args.run, &machine)?;
            let scoring = args.scoring.resolve(&h.streams)?;
            let world = World::open(&h)?;
            let scored = Scored::new(&h, &world, &args.run, &machine, scoring.sigma)?;
            sweeps::print_all(&args.run, &h, &world, &scored, &scoring)?;
        }
        Verb::Rank(args) => rank(args)?,
        Verb::Embed(args) => {
            let machine = args.machine.resolve()?;
            let h = flags_of(&args.run, &machine)?;
            embed::check_out(&args.out)?;
            let (names, clips) = brought(&h, &args.videos)?;
            let fold = args.fold.checked_sub(1).context("--fold counts from 1")?;
            let all: Vec<usize> = (0..names.len()).collect();
            let mut tensors = Vec::new();
            for (stream, material) in materials(&h, &clips)? {
                let part = load_part(&h, &args.run, stream, fold, inputs(&material), &machine)?;
                let rows = score(&part.network, &material, &all, args.sigma.into(), &machine, h.amp, stream.name())?;
                let x = Tensor::from_slice(&rows.concat()).view([names.len() as i64, -1]).to_kind(Kind::Float);
                tensors.push((stream.name().to_string(), x));
            }
            let metadata = [("names".to_string(), serde_json::to_string(&names)?)].into();
            weights::save(&args.out, &tensors, Some(metadata))?;
            print(format!("{} snippet scores of {} videos: {}", args.sigma, names.len(), args.out.display()))?;
        }
        Verb::Export(args) => {
            let machine = args.machine.resolve()?;
            let h = flags_of(&args.run, &machine)?;
            let needs = h.net == Net::Features;
            let world = if needs { Some(World::open(&h)?) } else { None };
            let inputs_of = |stream: Stream| match &world {
                Some(world) => Ok(inputs(world.material(stream)?)),
                None => Ok(stream.channels()),
            };
            export_run(&args.run, &h, args.fold, inputs_of, &machine)?;
        }
        Verb::Data(args) => {
            let sets = match (args.data.as_str(), &args.task) {
                ("drawn", Some(_)) => bail!("--task: drawn hands are one task: leave it out"),
                ("drawn", None) => vec![Hands::default().set().0],
                (dir, Some(task)) => vec![epic_skills::open_one(Path::new(dir), task)?],
                (dir, None) => epic_skills::open(Path::new(dir))?,
            };
            let cards: Vec<_> = sets.iter().map(SkillSet::card).collect();
            for card in &cards {
                print(card)?;
            }
            if let Some(out) = args.out {
                files::write_atomic(&out, serde_json::to_string_pretty(&cards)?.as_bytes())?;
            }
        }
        Verb::Flow(args) => flow::compute(&args)?,
        Verb::Reproduce(args) => {
            let machine = args.machine.resolve()?;
            let scale = args.hyper.scale();
            if args.table == Some(2) {
                return sweeps::table2(&args, scale, &machine);
            }
            let h = args.hyper.resolve(scale)?;
            let scoring = args.scoring.resolve(&h.streams)?;
            let world = World::open(&h)?;
            let at = args.run.clone().unwrap_or_else(|| h.folder());
            train_all(&h, &world, &at, &machine)?;
            let results = evaluate(&at, &h, &world, &machine, &scoring)?;
            let first = h.chosen(&world.set)?[0] + 1;
            export_run(&at, &h, first, |stream| Ok(inputs(world.material(stream)?)), &machine)?;
            results.show(&at, "Table 2")?;
        }
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let cli = flags::Cli::parse();
    rankle::paper::main(|| run_verb(cli.verb))
}
