//! Improving Pairwise Ranking for Multi-label Image Classification.
//! Y. Li, Y. Song, J. Luo. CVPR 2017, arXiv 1704.03135.
//!
//! ```text
//! cargo run --release --bin multilabel-ranking -- train --data data/VOC2007 --weights data/weights/vgg16-397923af.pth
//! cargo run --release --bin multilabel-ranking -- evaluate --run data/runs/multilabel-ranking/VOC2007-vgg16-lsep-1
//! ```
//!
//! The paper's text was not at hand, its result tables least of all, and no remembered number is shown in their place.
//! Losses, heads, decisions and metrics are those of the authors' published program; VGG16 from ImageNet weights, SGD with
//! momentum 0.9, rate 0.001 and weight decay 5e-5 are from two readers' notes on the paper; what neither tells was chosen
//! here, and every flag's help says which it is. What this did reach, on which data, stands in papers/README.md.
//! Where it departs from the paper, or fills a gap in what is known of it, is [`DEPARTURES`].

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use rand::seq::SliceRandom;
use rankle::collectives::{Gradients, Shares};
use rankle::datasets::labels::{self, Content, Item, LabelCard, LabelLayout, LabelSet};
use rankle::datasets::{self, drawn};
use rankle::loader::Loader;
use rankle::losses::{Tally, multilabel as losses};
use rankle::models::label::{FeatureMlp, Head, LabelNet, LabelSmall};
use rankle::models::{Network, Vgg16, channels_last, layers::Scope};
use rankle::optim::{Optimizer, Rule};
use rankle::paper::{self, Departure, Results, print};
use rankle::run::{
    self, checkpoint,
    config::Config,
    embed,
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

#[path = "multilabel-ranking/batches.rs"]
mod batches;
#[path = "multilabel-ranking/flags.rs"]
mod flags;
#[path = "multilabel-ranking/judge.rs"]
mod judge;
#[path = "multilabel-ranking/report.rs"]
mod report;
#[path = "multilabel-ranking/study.rs"]
mod study;

use batches::{Batch, laid_out, pinned, send, targets};
use flags::{HeadInput, HeadKind, Hyper, Loss, Net};
use judge::{Judged, Outputs};

const CITATION: &str =
    "Li, Song, Luo: Improving Pairwise Ranking for Multi-label Image Classification, CVPR 2017, arXiv 1704.03135";
const NOT_COMPARABLE: &str =
    "Nothing stands beside the paper: its tables could not be read, and remembered numbers are not shown.";

/// What departs from the paper, or fills a gap in what is known of it, and for which runs; what flags change is added to
/// a run's results.
const DEPARTURES: [Departure<Hyper>; 13] = [
    (
        "the paper's text was not at hand: what is known comes from the authors' program and from readers' notes on the paper",
        |_| true,
    ),
    ("batch size, image size, augmentation and the second stage's rate are not known: chosen here", |_| true),
    ("VGG16 and its input are torchvision's (RGB, its mean and deviation)", |h| h.net == Net::Vgg16),
    ("dropout stands on fc7 alone, as in the authors' program; torchvision's VGG16 has it on fc6 too", |h| {
        h.net == Net::Vgg16
    }),
    (
        "readers' notes disagree whether the ranking has 10 passes and the decision 50, or the other way round: the former was chosen here",
        |_| true,
    ),
    (
        "the rate is divided by ten for the last quarter of each stage: chosen here, the paper's schedule is not known",
        |_| true,
    ),
    (
        "sigmoid cross-entropy is summed over classes, as a rival loss and in the threshold head: the authors' reduction is not known",
        |_| true,
    ),
    ("both heads are trained at once: they share nothing, so each learns what it would alone", |_| true),
    (
        "the second stage reads the features of plain views of the training images, computed once, without augmentation",
        |h| h.net != Net::Mlp,
    ),
    ("the last state of each stage is kept; the authors' program keeps the best one on dev images", |_| true),
    (
        "k and the one threshold of the rivals are chosen on what was trained on, since no dev items are set aside",
        |h| h.dev == 0.,
    ),
    ("f - theta instead of f + theta': the same function", |_| true),
    ("images without a label are left out of training and test, as the authors' reader cannot pass them", |_| true),
];

// ---- The networks -----------------------------------------------------------------------------------------------

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
        net: LabelNet::new(&at, backbone, h.k(), h.dropout),
        count: Head::count(&at.sub("count"), width, h.most),
        threshold: Head::threshold(&at.sub("threshold"), width, h.k()),
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
        let x = batches::inputs(h, train.iter(), None)?.to_kind(Kind::Double);
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

// ---- The losses -------------------------------------------------------------------------------------------------

/// The loss terms of scores `f` `[B, K]` of a batch.
fn terms(h: &Hyper, f: &Tensor, batch: &Batch) -> Tally {
    match (h.loss, &batch.pairs) {
        (Loss::Lsep, Some(pairs)) => losses::lsep_of(f, pairs), // Φ(Y; t)
        (Loss::Lsep, None) => losses::lsep(f, &batch.labels),
        (Loss::Hinge, _) => losses::hinge(f, &batch.labels, h.margin),
        (Loss::Warp, _) => losses::warp(f, &batch.labels, h.margin),
        (Loss::BpMll, _) => losses::bp_mll(f, &batch.labels),
        (Loss::Softmax, _) => losses::softmax_on(f, &batch.drawn),
        (Loss::Sigmoid, _) => losses::sigmoid(f, &batch.labels),
    }
}

// ---- Training ---------------------------------------------------------------------------------------------------

/// What training left: the store, the network in it, and the steps done.
struct Ready {
    store: VarStore,
    system: System,
    steps: u64,
}

/// The set of a run that is to go on must be the set that it began with.
fn same_set(h: &Hyper, set: &LabelSet, at: &Path, machine: &Machine) -> Result<()> {
    if machine.world.leads() && checkpoint::exists(at) {
        let begun = Config::read(at).and_then(|config| config.flags::<Hyper>());
        if let Some(begun) = begun.ok().filter(|begun| begun.data == h.data) {
            begun.fits(set, &format!("{} has changed since {} was begun", h.data, at.display()))?;
        }
    }
    let items: Vec<(&str, &[u32])> = set.train.iter().map(|item| (item.name.as_str(), &item.labels[..])).collect();
    machine.world.agree("--data (its training items): give every process the same", &(&set.classes, items))
}

/// Trains both stages, or goes on, in `at`.
fn train(h: &Hyper, set: &LabelSet, at: &Path, machine: &Machine) -> Result<Ready> {
    same_set(h, set, at, machine)?;
    let (items, _) = set.dev(h.dev, seed::named(h.seed, "dev"));
    let items: Arc<[Item]> = items.into();
    let a_pass = batches::count(h, items.len()) as u64;
    let (first, second) = (h.epochs * a_pass, h.epochs2 * a_pass);
    let mut store = VarStore::new(machine.device);
    let system = network(h, &store)?;
    let rule = Rule::Sgd { momentum: 0.9 };
    let mut optimizer = Optimizer::new(rule, h.weight_decay, &store);
    let steps = first + second;
    let plan = Plan { paper: "multilabel-ranking", at, machine, steps, log_every: h.log_every };
    let begin = |store: &VarStore| start_from(h, store, &items);
    let mut session = Session::open(plan, h, &mut store, &mut optimizer, begin)?;
    let place = if h.net == flags::Net::Mlp { machine.name.clone() } else { machine.for_images(h.amp) };
    let what = format!("{} with {} on {}, {place}, batches of {}", h.net_name(), h.loss.name(), set.name, h.batch);
    if !session.announce(&what) {
        return Ok(Ready { store, system, steps });
    }
    let variables: Vec<(String, Tensor)> = store.variables().into_iter().filter(|(_, x)| x.requires_grad()).collect();
    let only = |wanted: &dyn Fn(&str) -> bool| {
        variables.iter().for_each(|(name, x)| drop(x.set_requires_grad(wanted(name))));
    };
    only(&|name| !of_heads(name));
    stage_one(h, &items, &system, machine, &mut session, (&store, &mut optimizer), first)?;

    // The network stands still from here on; the heads have fresh momenta where the stage begins.
    only(&of_heads);
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
    if start == steps {
        return Ok(());
    }
    let mut loader = batches::load(h, items, start..steps, machine)?;
    let gradients = Gradients::new(&machine.world, store)?;
    for t in start..steps {
        // Labels and what was drawn go with the images: nothing waits for the device later.
        let batch = loader.next().ok_or_else(|| anyhow!("the loader ended early"))??.on(machine.device);
        let (rows, own) = (batch.labels.size()[0], batch.shares.own());
        // Dropout draws the same after a resume, and in every process.
        tch::manual_seed((seed::mix(seed::named(h.seed, "dropout") ^ t) >> 1) as i64);
        let f = run::autocast(h.amp, machine.device, || {
            let feature = system.feature(&batch.inputs, true);
            system.net.scores_in(&feature, rows, own.start as i64..own.end as i64)
        });
        let f = machine.world.gather(&f.to_kind(Kind::Float), &batch.shares)?; // of all processes
        let tally = terms(h, &f, &batch);
        let loss = tally.mean();
        optimizer.zero_grad();
        gradients.backward(&loss)?;
        optimizer.clip(h.clip);
        let rate = Hyper::rate(h.lr, t, steps);
        optimizer.step(rate, 0.9);

        let done = Done { step: t, loss: &loss, images: rows, waited: loader.waited() };
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
    steps: Range<u64>,
) -> Result<()> {
    // Batch normalisation counted each process's own images: one network's statistics from here on.
    machine.world.share_variables(store)?;
    let (features, scores) = features(h, system, items, machine, "features for the second stage")?;
    let (features, scores) = (features.to_device(machine.device), scores.to_device(machine.device));
    let labels = targets(h, items.iter()).to_device(machine.device);
    let gradients = Gradients::new(&machine.world, store)?;
    let (world, a_pass) = (&machine.world, batches::count(h, items.len()) as u64);
    let begun = std::time::Duration::ZERO;
    let mut order = (u64::MAX, Tensor::new());
    for t in session.start().max(steps.start)..steps.end {
        let into = t - steps.start;
        let pass = into / a_pass;
        if order.0 != pass {
            let rows = batches::order(h, items.len(), "order 2", pass).into_iter().map(|row| row as i64);
            let rows = Tensor::from_slice(&rows.collect::<Vec<_>>());
            order = (pass, send(&pinned(&rows, machine.device), machine.device));
        }
        let place = batches::place(h, items.len(), (into % a_pass) as usize);
        let shares = world.shares(place.len(), 1)?;
        let rows = order.1.narrow(0, place.start as i64, place.len() as i64);
        let own = rows.narrow(0, shares.own().start as i64, shares.own().len() as i64);
        let x = system.head_input(h, &features.index_select(0, &own), &scores.index_select(0, &own));
        let both = Tensor::cat(&[system.count.forward(&x), system.threshold.forward(&x)], 1);
        let both = world.gather(&both, &shares)?; // of all processes
        let (f, labels) = (scores.index_select(0, &rows), labels.index_select(0, &rows));
        let count = losses::label_count(&both.narrow(1, 0, h.most), &labels); // softmax over 1..n
        let threshold = losses::label_threshold(&f, &both.narrow(1, h.most, h.k()), &labels); // sigmoid of f - θ
        let loss = count.mean() + threshold.mean();
        optimizer.zero_grad();
        gradients.backward(&loss)?;
        let rate = Hyper::rate(h.lr2, into, steps.end - steps.start);
        optimizer.step(rate, 0.9);

        let done = Done { step: t, loss: &loss, images: place.len() as i64, waited: begun };
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

/// fc7 and f of items by plain views, f32 on the CPU; each process computes a share, and all have all in the end.
fn features(
    h: &Hyper,
    system: &System,
    items: &Arc<[Item]>,
    machine: &Machine,
    what: &str,
) -> Result<(Tensor, Tensor)> {
    ensure!(!items.is_empty(), "{what}: no items");
    // Fewer items than processes: each computes them all.
    let Ok(shares) = machine.world.shares(items.len(), 1) else {
        return own_features(h, system, items, 0..items.len(), machine, what);
    };
    let (features, f) = own_features(h, system, items, shares.own(), machine, what)?;
    Ok((machine.world.gather(&features, &shares)?, machine.world.gather(&f, &shares)?))
}

/// [`features`] of the items `own`, on this process alone.
fn own_features(
    h: &Hyper,
    system: &System,
    items: &Arc<[Item]>,
    own: Range<usize>,
    machine: &Machine,
    what: &str,
) -> Result<(Tensor, Tensor)> {
    const CHUNK: usize = 64;
    let (shared, flags, range, device) = (items.clone(), h.clone(), own.clone(), machine.device);
    let count = own.len().div_ceil(CHUNK) as u64;
    let loader = Loader::new(0..count, machine.workers, machine.workers + 1, move |chunk| {
        let from = range.start + chunk as usize * CHUNK;
        let x = batches::inputs(&flags, shared[from..range.end.min(from + CHUNK)].iter(), None)?;
        Ok(pinned(&x, device))
    })?;
    let mut bar = Bar::new(what, own.len() as u64, 0);
    let (mut all_features, mut all_scores) = (Vec::new(), Vec::new());
    for x in loader {
        let x = laid_out(&send(&x?, device));
        let (feature, f) = tch::no_grad(|| {
            run::autocast(h.amp, device, || {
                let feature = system.feature(&x, false);
                let f = system.net.scores(&feature, false);
                (feature, f)
            })
        });
        bar.step(x.size()[0] as u64);
        all_features.push(feature.to_kind(Kind::Float).to_device(Device::Cpu));
        all_scores.push(f.to_kind(Kind::Float).to_device(Device::Cpu));
    }
    Ok((Tensor::cat(&all_features, 0), Tensor::cat(&all_scores, 0)))
}

// ---- Evaluation -------------------------------------------------------------------------------------------------

/// Everything the network says of items.
fn outputs(h: &Hyper, system: &System, items: &[Item], machine: &Machine, what: &str) -> Result<Outputs> {
    let shared: Arc<[Item]> = items.to_vec().into();
    let (features, scores) = features(h, system, &shared, machine, what)?;
    let (thresholds, logits) = tch::no_grad(|| {
        let x = system.head_input(h, &features, &scores).to_device(machine.device);
        (system.threshold.forward(&x).to_device(Device::Cpu), system.count.forward(&x).to_device(Device::Cpu))
    });
    // The count that the head holds most likely, and how likely.
    let (sure, places) = logits.softmax(1, Kind::Double).max_dim(1, false);
    let counts = Vec::<i64>::try_from(places)?.into_iter().map(|place| place as usize + 1).collect();
    let labels = targets(h, items.iter()).ne(0);
    Ok(Outputs { scores, thresholds, counts, sure: Vec::<f64>::try_from(sure)?, labels, features })
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
    machine.world.agree("--data (its test items): give every process the same", &names(&set.test))?;
    // Where no share was set aside, the rivals are chosen on what was trained on.
    let (chosen_on, dev) = if dev.is_empty() {
        (format!("the {} training items themselves (none are set aside: optimistic)", rest.len()), rest)
    } else {
        (format!("{} dev items, set aside from the training items of {}", dev.len(), h.data), dev)
    };
    let test = outputs(h, &done.system, &set.test, machine, "test")?;
    let dev = outputs(h, &done.system, &dev, machine, "dev")?;
    let judged = judge::judge(&test, &dev, set, &chosen_on);
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
        "AP an image: the mean precision at an image's labels, averaged over images; class mAP (step): the mean precision at a class's images, averaged over classes".into(),
        format!("label count: as many of the highest scores as the head says, 1 to {}", h.most),
    ];
    if set.layout == LabelLayout::Voc2007 {
        protocol.push("class mAP (VOC2007): the mean of the highest precisions at recall 0, 0.1, ..., 1 or beyond, averaged over classes; an image that shows a class in difficult objects alone counts neither way".into());
    }
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
    // Every process has the same scores; the first one writes.
    if machine.world.leads() {
        results.write(at)?;
        report::write(at, h, set, machine, &test, &judged, &results)?;
    }
    Ok((results, judged))
}

fn names(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.name.as_str()).collect()
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
        2 * h.k(),
        h.k()
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
    let metadata = [
        ("names".to_string(), serde_json::to_string(&names(&items))?),
        ("classes".to_string(), serde_json::to_string(&h.classes)?),
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
            let machine = args.machine.resolve_world()?;
            let set = open(&args.hyper.data)?;
            let h = args.hyper.resolve(&set)?;
            let left = set.dev(h.dev, seed::named(h.seed, "dev")).0.len();
            batches::shareable(&h, left, &machine, args.machine.sync_batch_norm)?;
            set.check()?;
            set.notes.iter().for_each(|note| say(format!("note: {note}")));
            let at = args.run.unwrap_or_else(|| h.folder());
            train(&h, &set, &at, &machine)?;
            print(format!("trained: {}\nnext: multilabel-ranking evaluate --run {}", at.display(), at.display()))
        }
        Verb::Evaluate(args) => {
            let machine = args.machine.resolve_world()?;
            let (h, done) = load(&args.run, &machine)?;
            let (mut set, mut at) = (open(&h.data)?, args.run.clone());
            h.fits(&set, &format!("{} has changed since {} was trained", h.data, at.display()))?;
            if let Some(data) = &args.data {
                // Dev items stay the run's own.
                let other = open(data)?;
                h.fits(&other, &format!("--data {data}"))?;
                at = at.join(format!("on-{}", other.name));
                set = LabelSet { train: set.train, ..other };
            }
            set.check()?;
            if machine.world.leads() {
                std::fs::create_dir_all(&at).with_context(|| format!("cannot write {}", at.display()))?;
            }
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
