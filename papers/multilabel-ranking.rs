//! Improving Pairwise Ranking for Multi-label Image Classification.
//! Y. Li, Y. Song, J. Luo. CVPR 2017, arXiv 1704.03135.
//!
//! ```text
//! cargo run --release --bin multilabel-ranking -- train --data data/VOC2007 --weights data/weights/vgg16-397923af.pth
//! cargo run --release --bin multilabel-ranking -- evaluate --run data/runs/multilabel-ranking/VOC2007-vgg16-lsep-1
//! ```
//!
//! The paper's result tables could not be read, and no remembered number is shown in their place. What this did reach, on
//! which data, stands in papers/README.md.
//! Where it departs from the paper, or fills a gap in it, is [`DEPARTURES`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use rand::seq::SliceRandom;
use rankle::datasets::labels::{self, Content, Item, LabelCard, LabelLayout, LabelSet};
use rankle::datasets::{self, drawn};
use rankle::loader::Loader;
use rankle::losses::{Tally, multilabel as losses};
use rankle::models::label::{FeatureMlp, Head, LabelNet, LabelSmall};
use rankle::models::{Network, Vgg16, channels_last, layers::Scope};
use rankle::optim::{Optimizer, Rule};
use rankle::paper::{self, Departure, Results, print};
use rankle::run::{
    self, embed,
    machine::Machine,
    progress::{Bar, say},
    report::{Report, Series, Table, Tile},
    session::{self, Done, Plan, Session, Trained},
    stats,
    watch::Reading,
};
use rankle::transform::{Augment, Recipe, TestViews};
use rankle::{export, files, seed, weights};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, nn::VarStore};

#[path = "multilabel-ranking/flags.rs"]
mod flags;
#[path = "multilabel-ranking/judge.rs"]
mod judge;
#[path = "multilabel-ranking/report.rs"]
mod report;
#[path = "multilabel-ranking/study.rs"]
mod study;

use flags::{HeadInput, HeadKind, Hyper, Loss, Net};
use judge::{Judged, Outputs};

const CITATION: &str =
    "Li, Song, Luo: Improving Pairwise Ranking for Multi-label Image Classification, CVPR 2017, arXiv 1704.03135";
const NOT_COMPARABLE: &str =
    "Nothing stands beside the paper: its tables could not be read, and remembered numbers are not shown.";

/// What departs from the paper, or fills a gap in it, and for which runs; what flags change is added to a run's results.
const DEPARTURES: [Departure<Hyper>; 10] = [
    (
        "what is known of the recipe comes from the authors' program and readers' notes; batch size, schedule and image size are not among it",
        |_| true,
    ),
    ("VGG16 and its input are torchvision's (RGB, its mean and deviation)", |h| h.net == Net::Vgg16),
    ("dropout stands on fc7 alone, as in the authors' program; torchvision's VGG16 has it on fc6 too", |h| {
        h.net == Net::Vgg16
    }),
    (
        "notes on the paper disagree whether the ranking has 10 passes and the decision 50, or the other way round; the former is the default",
        |_| true,
    ),
    ("the rate is divided by ten for the last quarter of each stage", |_| true),
    ("both heads are trained at once: they share nothing, so each learns what it would alone", |_| true),
    (
        "the second stage reads the features of plain views of the training images, computed once, without augmentation",
        |h| h.net != Net::Mlp,
    ),
    ("the last state of each stage is kept; the authors keep the best one on dev images", |_| true),
    ("f - theta instead of f + theta': the same function", |_| true),
    ("images without a label are left out of training and test, as the authors' reader cannot pass them", |_| true),
];

// ---- Section 3: the networks ------------------------------------------------------------------------------------

/// f, and the two alternative heads g.
#[derive(Debug)]
struct System {
    net: LabelNet,
    count: Head,
    threshold: Head,
    /// Mean and deviation of ready-made features.
    normal: Option<(Tensor, Tensor)>,
}

fn network(h: &Hyper, store: &VarStore) -> Result<System> {
    let at = Scope::root(store, h.seed);
    let backbone: Box<dyn Network> = match h.net {
        Net::Vgg16 => Box::new(Vgg16::new(&at)),
        Net::Small => Box::new(LabelSmall::new(&at, h.size.into()).with_context(|| format!("--size {}", h.size))?),
        Net::Mlp => Box::new(FeatureMlp::new(&at, h.features.unwrap_or(1), h.hidden)),
    };
    let width = h.head_width(backbone.width());
    let normal = h.features.filter(|_| h.net == Net::Mlp).map(|features| {
        use rankle::models::layers::Init::Constant;
        let at = at.sub("input");
        (
            at.variable("mean", &[features], Constant(0.), false),
            at.variable("deviation", &[features], Constant(1.), false),
        )
    });
    Ok(System {
        net: LabelNet::new(&at, backbone, h.classes, h.dropout),
        count: Head::count(&at.sub("count"), width, h.most),
        threshold: Head::threshold(&at.sub("threshold"), width, h.classes),
        normal,
    })
}

impl System {
    /// fc7 of inputs.
    fn feature(&self, x: &Tensor, train: bool) -> Tensor {
        match &self.normal {
            Some((mean, deviation)) => self.net.feature(&((x - mean) / deviation), train),
            None => self.net.feature(x, train),
        }
    }

    /// What the heads read.
    fn head_input(&self, h: &Hyper, feature: &Tensor, scores: &Tensor) -> Tensor {
        match h.head_input {
            HeadInput::Fc7 => feature.shallow_clone(),
            HeadInput::Logits => scores.shallow_clone(),
            HeadInput::Concat => Tensor::cat(&[feature, scores], 1),
        }
    }
}

/// Whether a variable is a head's.
fn of_heads(name: &str) -> bool {
    name.starts_with("count.") || name.starts_with("threshold.")
}

/// ImageNet weights below the scores; the mean and deviation of ready-made features.
fn start_from(h: &Hyper, store: &VarStore, train: &[Item]) -> Result<()> {
    if let Some(file) = &h.weights {
        let path = Path::new(file);
        let read = weights::read(path).context("--weights (scripts/fetch vgg16 gets torchvision's VGG16)")?;
        let rename = |name: &str| (!name.starts_with("classifier.6.")).then(|| name.to_string());
        let backbone = |name: &str| name.starts_with("features.") || name.starts_with("classifier.");
        let loaded = weights::load_into(store, path, read, rename, backbone).context("--weights")?;
        say(format!("weights: VGG16 from {file} ({loaded})"));
    }
    if h.net == Net::Mlp {
        let x = inputs(h, train, None)?.to_kind(Kind::Double);
        let deviation = x.std_dim([0].as_slice(), false, false);
        let deviation = deviation.where_self(&deviation.gt(1e-12), &deviation.ones_like());
        tch::no_grad(|| {
            for (name, value) in
                [("input.mean", x.mean_dim([0].as_slice(), false, Kind::Double)), ("input.deviation", deviation)]
            {
                if let Some(variable) = store.variables().get_mut(name) {
                    variable.copy_(&value.to_kind(Kind::Float));
                }
            }
        });
    }
    Ok(())
}

// ---- Section 3.1: the losses ------------------------------------------------------------------------------------

/// The loss terms of scores `f` `[B, K]` at step `t`.
fn terms(h: &Hyper, f: &Tensor, labels: &Tensor, t: u64) -> Tally {
    let drawn = seed::mix(seed::named(h.seed, "pairs") ^ t);
    match h.loss {
        Loss::Lsep => losses::lsep_sampled(f, labels, h.pairs, drawn),
        Loss::Hinge => losses::hinge(f, labels, h.margin),
        Loss::Warp => losses::warp(f, labels, h.margin),
        Loss::BpMll => losses::bp_mll(f, labels),
        Loss::Softmax => losses::softmax(f, labels, drawn),
        Loss::Sigmoid => losses::sigmoid(f, labels),
    }
}

// ---- Section 4: batches and training ----------------------------------------------------------------------------

/// 0/1 `[N, K]` of items.
fn targets(h: &Hyper, items: &[Item]) -> Tensor {
    let mut flat = vec![0_u8; items.len() * h.classes as usize];
    for (row, item) in flat.chunks_exact_mut(h.classes as usize).zip(items) {
        item.labels.iter().for_each(|&class| row[class as usize] = 1);
    }
    Tensor::from_slice(&flat).view([items.len() as i64, h.classes])
}

/// Inputs of items: rows of features, or images; `augment` holds the seed and step of a training batch.
fn inputs(h: &Hyper, items: &[Item], augment: Option<(u64, u64)>) -> Result<Tensor> {
    let width = match h.features {
        Some(features) => features as usize,
        None => h.recipe().len(),
    };
    let mut flat = vec![0_f32; items.len() * width];
    for (i, (item, out)) in items.iter().zip(flat.chunks_exact_mut(width)).enumerate() {
        match (&item.content, augment) {
            (Content::Features(row), _) => out.copy_from_slice(row),
            (Content::Image(source), Some((seed, step))) => {
                h.recipe().train(&*source.image()?, h.augment, &mut seed::at(seed, step, i as u64), out);
            }
            (Content::Image(source), None) => h.recipe().test(&*source.image()?, TestViews::Original, out),
        }
    }
    let rows = items.len() as i64;
    Ok(match h.features {
        Some(features) => Tensor::from_slice(&flat).view([rows, features]),
        None => Tensor::from_slice(&flat).view([rows, 3, h.size.into(), h.size.into()]),
    })
}

/// Which items make batch `step`: passes are shuffles of all, cut evenly into batches of at most `h.batch`.
fn rows(h: &Hyper, items: usize, name: &str, step: u64) -> Vec<usize> {
    let batches = items.div_ceil(h.batch);
    let (pass, place) = (step / batches as u64, (step % batches as u64) as usize);
    let mut order: Vec<usize> = (0..items).collect();
    order.shuffle(&mut seed::at(seed::named(h.seed, name), pass, 0));
    // Evenly: batch normalisation has no variance of one row.
    let start = |place: usize| place * (items / batches) + place.min(items % batches);
    order[start(place)..start(place + 1)].to_vec()
}

fn to_device(x: &Tensor, machine: &Machine) -> Tensor {
    let x = x.to_device(machine.device);
    if x.dim() == 4 { channels_last(&x) } else { x }
}

/// What training left: the store, the network in it, and the steps done.
struct Ready {
    store: VarStore,
    system: System,
    steps: u64,
}

/// Trains both stages, or goes on, in `at`.
fn train(h: &Hyper, set: &LabelSet, at: &Path, machine: &Machine) -> Result<Ready> {
    let (items, _) = set.dev(h.dev, seed::named(h.seed, "dev"));
    let items: Arc<[Item]> = items.into();
    let batches = items.len().div_ceil(h.batch) as u64;
    let (first, second) = (h.epochs * batches, h.epochs2 * batches);
    let mut store = VarStore::new(machine.device);
    let system = network(h, &store)?;
    let rule = Rule::Sgd { momentum: 0.9 };
    let mut optimizer = Optimizer::new(rule, h.weight_decay, &store);
    let steps = first + second;
    let plan = Plan { paper: "multilabel-ranking", at, machine, steps, log_every: h.log_every };
    let begin = |store: &VarStore| start_from(h, store, &items);
    let mut session = Session::open(plan, h, &mut store, &mut optimizer, begin)?;
    let what =
        format!("{} with {} on {}, {}, batches of {}", h.net_name(), h.loss.name(), set.name, machine.name, h.batch);
    if !session.announce(&what) {
        return Ok(Ready { store, system, steps });
    }
    stage_one(h, &items, &system, machine, &mut session, (&store, &mut optimizer), first)?;

    // The network stands still from here on; the heads have fresh momenta where the stage begins.
    for (_, variable) in store.variables().into_iter().filter(|(name, x)| x.requires_grad() && !of_heads(name)) {
        let _ = variable.set_requires_grad(false);
    }
    if session.start() <= first {
        optimizer = Optimizer::new(rule, h.weight_decay, &store);
    }
    stage_two(h, &items, &system, machine, &mut session, (&store, &mut optimizer), first..steps)?;
    Ok(Ready { store, system, steps })
}

/// Label prediction: the ranking loss on f.
fn stage_one(
    h: &Hyper,
    items: &Arc<[Item]>,
    system: &System,
    machine: &Machine,
    session: &mut Session,
    (store, optimizer): (&VarStore, &mut Optimizer),
    steps: u64,
) -> Result<()> {
    let start = session.start().min(steps);
    let (shared, flags, key) = (items.clone(), h.clone(), seed::named(h.seed, "augment"));
    let mut loader = Loader::new(start..steps, machine.workers, machine.workers + 1, move |t| {
        let batch: Vec<Item> =
            rows(&flags, shared.len(), "order", t).into_iter().map(|row| shared[row].clone()).collect();
        Ok((inputs(&flags, &batch, Some((key, t)))?, targets(&flags, &batch)))
    })?;
    for t in start..steps {
        let (x, labels) = loader.next().ok_or_else(|| anyhow!("the loader ended early"))??;
        let x = to_device(&x, machine);
        // Dropout draws the same after a resume.
        tch::manual_seed((seed::mix(seed::named(h.seed, "dropout") ^ t) >> 1) as i64);
        let f = run::autocast(h.amp, machine.device, || system.net.scores(&system.feature(&x, true), true));
        let tally = terms(h, &f, &labels, t);
        let loss = tally.mean();
        optimizer.zero_grad();
        loss.backward();
        optimizer.clip(h.clip);
        let rate = Hyper::rate(h.lr, t, steps);
        optimizer.step(rate, 0.9);

        let done = Done { step: t, loss: &loss, images: labels.size()[0], waited: loader.waited() };
        let line = || (stats::joined(stats::tally(t, &loss, &tally), json!({"stage": 1, "lr": rate})), None::<Reading>);
        session.after(done, line, store, optimizer, Vec::new)?;
    }
    Ok(())
}

/// Label decision: both heads on the features of the frozen network.
fn stage_two(
    h: &Hyper,
    items: &Arc<[Item]>,
    system: &System,
    machine: &Machine,
    session: &mut Session,
    (store, optimizer): (&VarStore, &mut Optimizer),
    steps: std::ops::Range<u64>,
) -> Result<()> {
    let (features, scores) = features(h, system, items, machine, "features for the second stage")?;
    let (features, scores) = (features.to_device(machine.device), scores.to_device(machine.device));
    let labels = targets(h, items).to_device(machine.device);
    let begun = std::time::Duration::ZERO;
    for t in session.start().max(steps.start)..steps.end {
        let into = t - steps.start;
        let picked: Vec<i64> = rows(h, items.len(), "order 2", into).into_iter().map(|row| row as i64).collect();
        let picked = Tensor::from_slice(&picked).to_device(machine.device);
        let of = |x: &Tensor| x.index_select(0, &picked);
        let (feature, f, labels) = (of(&features), of(&scores), of(&labels));
        let x = system.head_input(h, &feature, &f);
        let count = losses::label_count(&system.count.forward(&x), &labels); // softmax over 1..n
        let threshold = losses::label_threshold(&f, &system.threshold.forward(&x), &labels); // sigmoid of f - θ
        let loss = count.mean() + threshold.mean();
        optimizer.zero_grad();
        loss.backward();
        let rate = Hyper::rate(h.lr2, into, steps.end - steps.start);
        optimizer.step(rate, 0.9);

        let done = Done { step: t, loss: &loss, images: labels.size()[0], waited: begun };
        let line = || {
            let more = json!({
                "step": t, "stage": 2, "lr": rate, "loss": loss.double_value(&[]),
                "count": count.mean().double_value(&[]), "threshold": threshold.mean().double_value(&[]),
            });
            (more, None::<Reading>)
        };
        session.after(done, line, store, optimizer, Vec::new)?;
    }
    Ok(())
}

/// fc7 and f of items by plain views, f32 on the CPU.
fn features(
    h: &Hyper,
    system: &System,
    items: &Arc<[Item]>,
    machine: &Machine,
    what: &str,
) -> Result<(Tensor, Tensor)> {
    const CHUNK: usize = 64;
    let (shared, flags) = (items.clone(), h.clone());
    let count = items.len().div_ceil(CHUNK) as u64;
    let loader = Loader::new(0..count, machine.workers, machine.workers + 1, move |chunk| {
        let from = chunk as usize * CHUNK;
        inputs(&flags, &shared[from..shared.len().min(from + CHUNK)], None)
    })?;
    let mut bar = Bar::new(what, items.len() as u64, 0);
    let (mut all_features, mut all_scores) = (Vec::new(), Vec::new());
    for x in loader {
        let x = to_device(&x?, machine);
        let (feature, f) = tch::no_grad(|| {
            run::autocast(h.amp, machine.device, || {
                let feature = system.feature(&x, false);
                let f = system.net.scores(&feature, false);
                (feature, f)
            })
        });
        bar.step(x.size()[0] as u64);
        all_features.push(feature.to_kind(Kind::Float).to_device(Device::Cpu));
        all_scores.push(f.to_kind(Kind::Float).to_device(Device::Cpu));
    }
    ensure!(!all_scores.is_empty(), "{what}: no items");
    Ok((Tensor::cat(&all_features, 0), Tensor::cat(&all_scores, 0)))
}

// ---- Section 4: evaluation --------------------------------------------------------------------------------------

/// Everything the network says of items.
fn outputs(h: &Hyper, system: &System, items: &[Item], machine: &Machine, what: &str) -> Result<Outputs> {
    let shared: Arc<[Item]> = items.to_vec().into();
    let (features, scores) = features(h, system, &shared, machine, what)?;
    let (thresholds, logits) = tch::no_grad(|| {
        let x = system.head_input(h, &features, &scores).to_device(machine.device);
        (system.threshold.forward(&x).to_device(Device::Cpu), system.count.forward(&x).to_device(Device::Cpu))
    });
    let counts = Vec::<i64>::try_from(logits.argmax(1, false))?.into_iter().map(|count| count as usize + 1).collect();
    Ok(Outputs { scores, thresholds, counts, labels: targets(h, items).ne(0), features })
}

/// Opens a set by name, without the items that have no label.
fn open(data: &str) -> Result<LabelSet> {
    let set = if data == "drawn" { drawn::shapes() } else { labels::open(Path::new(data))? };
    let set = set.without_unlabelled();
    ensure!(!set.train.is_empty() && !set.test.is_empty(), "{} has no labelled items to train on or to test", set.name);
    Ok(set)
}

/// Scores a run's network and writes `results.json` and `report.html`.
fn evaluate(at: &Path, h: &Hyper, set: &LabelSet, done: &Ready, machine: &Machine) -> Result<(Results, Judged)> {
    let (rest, dev) = set.dev(h.dev, seed::named(h.seed, "dev"));
    // Where no share was set aside, the rivals are chosen on what was trained on.
    let dev = if dev.is_empty() { rest } else { dev };
    let test = outputs(h, &done.system, &set.test, machine, "test")?;
    let dev = outputs(h, &done.system, &dev, machine, "dev")?;
    let judged = judge::judge(&test, &dev, &set.test);
    let mut scores = judged.ranking.clone();
    for (name, decided) in &judged.decided {
        scores.extend(
            judge::Decided::NAMES
                .iter()
                .zip(decided.values())
                .map(|(metric, value)| (format!("{name}: {metric}"), value)),
        );
    }
    let mut protocol = vec![
        format!("{} test items with {} classes", set.test.len(), set.classes.len()),
        "PC-P and PC-R are means over all classes, 0/0 taken as 0; PC-F1 is the mean of the classes' F1 (macro-F1); OV is over all labels together (micro)".into(),
        "AP an image: the mean precision at an image's labels, averaged over images; class mAP is the classes' mean".into(),
        format!("label count: as many of the highest scores as the head says, 1 to {}", h.most),
    ];
    protocol.extend(judged.chosen.iter().cloned());
    let results = Results {
        paper: "multilabel-ranking".into(),
        citation: CITATION.into(),
        data: set.name.clone(),
        protocol,
        scores,
        claims: Vec::new(),
        comparable: Err("its tables could not be read".into()),
        departures: paper::departures(&DEPARTURES, h).into_iter().chain(h.departures()).collect(),
        step: done.steps,
    };
    results.write(at)?;
    report::write(at, h, set, machine, &test, &judged, &results)?;
    Ok((results, judged))
}

/// What a verb ends with on standard output.
fn show(at: &Path, results: &Results, judged: &Judged) -> Result<()> {
    print(format!("{CITATION}\n"))?;
    print(format!("{} after {} steps", results.data, results.step))?;
    for line in &results.protocol {
        print(format!("  {line}"))?;
    }
    print(judge::table(judged))?;
    for (name, value) in &judged.ranking {
        print(format!("{name}: {:.2} %", 100. * value))?;
    }
    print(NOT_COMPARABLE)?;
    print(format!("departures from the paper: {} (in results.json and the report)", results.departures.len()))?;
    print(format!("results: {}", at.join("results.json").display()))?;
    print(format!("report:  {}", at.join("report.html").display()))
}

// ---- The verbs --------------------------------------------------------------------------------------------------

/// A run from its folder.
fn load(at: &Path, machine: &Machine) -> Result<(Hyper, Ready)> {
    let Trained { flags, store, network, step, .. } = session::load("multilabel-ranking", at, machine, network)?;
    Ok((flags, Ready { store, system: network, steps: step }))
}

/// TorchScript of scores and thresholds, compared with this network before it counts as written.
fn export_run(at: &Path, h: &Hyper, done: &Ready) -> Result<PathBuf> {
    let path = at.join("model.pt");
    let shape = match h.features {
        Some(features) => vec![2, features],
        None => vec![2, 3, h.size.into(), h.size.into()],
    };
    let example = Tensor::ones(&shape[..], (Kind::Float, done.store.device())) * 0.5;
    let forward = |x: &[Tensor]| {
        let feature = done.system.feature(&x[0], false);
        let f = done.system.net.scores(&feature, false);
        let thresholds = done.system.threshold.forward(&done.system.head_input(h, &feature, &f));
        Tensor::cat(&[f, thresholds], 1)
    };
    print(export::torchscript(&done.store, &forward, &[example], &path)?)?;
    print(format!(
        "model(x) is [B, {}]: {} scores f, then as many thresholds; the labels are those with f above its threshold",
        2 * h.classes,
        h.classes
    ))?;
    Ok(path)
}

fn embed_images(args: &flags::Embed, machine: &Machine) -> Result<()> {
    let (h, done) = load(&args.run, machine)?;
    ensure!(h.net != Net::Mlp, "{} reads ready-made features: it has nothing to say of images", args.run.display());
    embed::check_out(&args.out)?;
    let photos = datasets::folder(&args.images)?;
    datasets::check(photos.iter())?;
    let items: Vec<Item> = photos
        .into_iter()
        .map(|photo| Item {
            name: photo.name,
            content: Content::Image(photo.source),
            labels: vec![],
            difficult: vec![],
        })
        .collect();
    let out = outputs(&h, &done.system, &items, machine, "embed")?;
    let labels = match args.decision {
        HeadKind::Count => out.by_count(),
        HeadKind::Threshold => out.by_threshold(),
    };
    let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
    let classes = open(&h.data).map(|set| set.classes).unwrap_or_default();
    let metadata = [
        ("names".to_string(), serde_json::to_string(&names)?),
        ("classes".to_string(), serde_json::to_string(&classes)?),
    ];
    let tensors = [
        ("features".to_string(), out.features),
        ("scores".into(), out.scores),
        ("thresholds".into(), out.thresholds),
        ("labels".into(), labels.to_kind(Kind::Uint8)),
    ];
    weights::save(&args.out, &tensors, Some(metadata.into()))?;
    print(format!("features, scores and labels of {} images: {}", items.len(), args.out.display()))
}

fn run_verb(verb: flags::Verb) -> Result<()> {
    use flags::Verb;
    match verb {
        Verb::Train(args) => {
            let machine = args.machine.resolve()?;
            let set = open(&args.hyper.data)?;
            let h = args.hyper.resolve(&set)?;
            set.check()?;
            set.notes.iter().for_each(|note| say(format!("note: {note}")));
            let at = args.run.unwrap_or_else(|| h.folder());
            train(&h, &set, &at, &machine)?;
            print(format!("trained: {}\nnext: multilabel-ranking evaluate --run {}", at.display(), at.display()))
        }
        Verb::Evaluate(args) => {
            let machine = args.machine.resolve()?;
            let (h, done) = load(&args.run, &machine)?;
            let own = open(&h.data);
            let (set, at) = match &args.data {
                None => (own?, args.run.clone()),
                Some(data) => {
                    // Dev images stay the run's own.
                    let (mut own, other) = (own?, open(data)?);
                    ensure!(
                        own.classes == other.classes && own.feature_width() == other.feature_width(),
                        "--data {data}: its classes are not those of {}, on which the run was trained",
                        h.data
                    );
                    let at = args.run.join(format!("on-{}", other.name));
                    (own.name, own.test, own.notes) = (other.name, other.test, other.notes);
                    (own, at)
                }
            };
            set.check()?;
            std::fs::create_dir_all(&at).with_context(|| format!("cannot write {}", at.display()))?;
            let (results, judged) = evaluate(&at, &h, &set, &done, &machine)?;
            show(&at, &results, &judged)
        }
        Verb::Study(args) => study::run(&args, &args.machine.resolve()?),
        Verb::Embed(args) => embed_images(&args, &args.machine.resolve()?),
        Verb::Export(args) => {
            let machine = args.machine.resolve()?;
            let (h, done) = load(&args.run, &machine)?;
            print(format!("model:   {}", export_run(&args.run, &h, &done)?.display()))
        }
        Verb::Data(args) => {
            let set = if args.data == "drawn" { drawn::shapes() } else { labels::open(Path::new(&args.data))? };
            let card = LabelCard::new(&set);
            print(&card)?;
            match args.out {
                Some(out) => files::write_atomic(&out, serde_json::to_string_pretty(&card)?.as_bytes()),
                None => Ok(()),
            }
        }
        Verb::Reproduce(args) => {
            let machine = args.machine.resolve()?;
            let set = open(&args.hyper.data)?;
            let h = args.hyper.resolve(&set)?;
            set.check()?;
            set.notes.iter().for_each(|note| say(format!("note: {note}")));
            let at = args.run.clone().unwrap_or_else(|| h.folder());
            let done = train(&h, &set, &at, &machine)?;
            let (results, judged) = evaluate(&at, &h, &set, &done, &machine)?;
            let model = export_run(&at, &h, &done)?;
            show(&at, &results, &judged)?;
            print(format!("model:   {}", model.display()))
        }
    }
}

fn main() -> std::process::ExitCode {
    let cli = flags::Cli::parse();
    rankle::paper::main(|| run_verb(cli.verb))
}
