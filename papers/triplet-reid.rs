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

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rankle::collectives::{Gradients, Shares};
use rankle::datasets::{self, Photo, ReidSet, Split};
use rankle::distance::Metric;
use rankle::loader::Loader;
use rankle::losses::{Margin, Tally, triplet};
use rankle::metrics::retrieval::Ap;
use rankle::models::{LuNet, Network, TriNet, channels_last, layers::Scope};
use rankle::optim::{Optimizer, Rule};
use rankle::paper::{Claim, Results, print};
use rankle::run::{
    self,
    embed::{self, Embedding},
    machine::Machine,
    progress::say,
    reid,
    report::Report,
    session::{self, Done, Plan, Session, Trained},
    stats,
    watch::Reading,
};
use rankle::sampler::{PkSampler, TripletSampler};
use rankle::schedule::Decay;
use rankle::transfer::{stage, upload};
use rankle::transform::{Augment, Recipe, TestViews};
use rankle::{export, files, seed, weights};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor, nn::VarStore};

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
    /// This process's share of the rows; all of them where there is one process.
    images: Tensor,
    shares: Shares,
    /// Of all rows.
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

    /// Rows that one process must have together: a person's images.
    fn unit(&self, h: &Hyper) -> usize {
        match self {
            Sampler::Pk(_) => h.k,
            Sampler::Triplets(_) => 1,
        }
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
    machine: &Machine,
) -> Result<Loader<Batch>> {
    let (photos, sampler, recipe, augment) = (photos.clone(), sampler.clone(), h.recipe(), h.augment);
    let (seed, unit) = (seed::named(h.seed, "augment"), sampler.unit(h));
    let (world, workers, device) = (machine.world.clone(), machine.workers, machine.device);
    Loader::new(steps, workers, workers + 1, move |step| {
        let rows = sampler.batch(step, mined.as_deref());
        let shares = world.shares(rows.len(), unit)?;
        let own = shares.own();
        let mut pixels = vec![0_f32; own.len() * recipe.len()];
        for (i, out) in own.clone().zip(pixels.chunks_exact_mut(recipe.len())) {
            recipe.train(&*photos[rows[i]].source.image()?, augment, &mut seed::at(seed, step, i as u64), out);
        }
        let labels: Vec<i64> = rows.iter().map(|&row| photos[row].person).collect();
        let shape = [own.len() as i64, 3, recipe.height.into(), recipe.width.into()];
        let images = stage(Tensor::from_slice(&pixels).view(shape), device);
        Ok(Batch { step, images, shares, labels: Tensor::from_slice(&labels) })
    })
}

/// TriNet's backbone from ImageNet weights.
fn start_from(h: &Hyper, store: &VarStore) -> Result<()> {
    if let Some(file) = &h.weights {
        let loaded = weights::load_backbone(store, Path::new(file));
        say(loaded.context("--weights (scripts/fetch resnet50 gets torchvision's ResNet-50)")?);
    }
    Ok(())
}

/// Trains, or goes on training, in `folder`; returns the trained network.
fn train(h: &Hyper, set: &ReidSet, at: &Path, machine: &Machine) -> Result<(VarStore, Box<dyn Network>)> {
    let photos: Arc<[Photo]> = set.train.clone().into();
    let people: Vec<i64> = photos.iter().map(|photo| photo.person).collect();
    machine.world.agree("--data (its training photos): give every process the same", &people)?;
    let sampler = Arc::new(Sampler::new(h, &people)?);
    let mut store = VarStore::new(machine.device);
    let net = network(h, &store)?;
    let mut optimizer = Optimizer::new(Rule::ADAM, 0., &store);
    let plan = Plan { paper: "triplet-reid", at, machine, steps: h.t1, log_every: h.log_every };
    let begin = |store: &VarStore| start_from(h, store);
    let mut session = Session::open(plan, h, &mut store, &mut optimizer, begin)?;
    let mut mined = (session.extra.get("mined").map(Vec::<i64>::try_from).transpose())
        .context("the checkpoint's mined negatives do not fit: train into another --run")?;
    let what =
        format!("{} on {}, {}, batches of {}", h.net.name(), set.name, machine.for_images(h.amp), h.batch_size());
    if !session.announce(&what) {
        return Ok((store, net));
    }
    if h.t0 >= h.t1 {
        say(format!("note: --t0 {} is not before --t1 {}: the learning rate never decays", h.t0, h.t1));
    }
    let gradients = Gradients::new(&machine.world, &store)?;
    let decay = Decay { base: h.lr, t0: h.t0, t1: h.t1 };
    let mut from = session.start();
    while from < h.t1 {
        // Offline hard mining cuts training into stretches; every other loss has one.
        let to = if h.loss == Loss::TripletOhm { ((from / h.ohm_every + 1) * h.ohm_every).min(h.t1) } else { h.t1 };
        if h.loss == Loss::TripletOhm && (mined.is_none() || from % h.ohm_every == 0) {
            // Batch normalisation counted each process's own images: one network mines.
            machine.world.share_variables(&store)?;
            mined = Some(mine_offline(h, &*net, &photos, from, machine)?);
        }
        let mut loader = batches(h, &photos, &sampler, mined.clone(), from..to, machine)?;
        while let Some(batch) = loader.next() {
            let Batch { step: t, images, shares, labels } = batch?;
            let images = channels_last(&upload(&images, machine.device));
            let x = run::autocast(h.amp, machine.device, || net.forward(&images, true)); // f_θ(x)
            let x = machine.world.gather(&x, &shares)?; // of all processes
            let d = h.metric.matrix(&x, &x); // D
            let tally = terms(h, &x, &d, &labels);
            let loss = mean(h, &tally);
            optimizer.zero_grad();
            gradients.backward(&loss)?;
            optimizer.step(decay.rate(t), decay.beta1(t)); // Eq. 8; β₁ drops to 0.5 at t0

            let done = Done { step: t, loss: &loss, images: labels.size()[0], waited: loader.waited() };
            let line = || log_line(h, t, &loss, &tally, &x, &d, &decay);
            let extra = || mined.iter().map(|mined| ("mined".to_string(), Tensor::from_slice(mined))).collect();
            session.after(done, line, &store, &optimizer, extra)?;
        }
        from = to;
    }
    Ok((store, net))
}

/// The line of a logged step, all of it a function of flags, data and step, and what the watch reads.
fn log_line(
    h: &Hyper,
    t: u64,
    loss: &Tensor,
    tally: &Tally,
    x: &Tensor,
    d: &Tensor,
    decay: &Decay,
) -> (Value, Option<Reading>) {
    let rates = json!({"lr": decay.rate(t), "beta1": decay.beta1(t)});
    let line = stats::joined(stats::joined(stats::tally(t, loss, tally), rates), stats::batch(x, d));
    let reading = Reading::of(&line, h.collapsed_loss());
    (line, Some(reading))
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

fn open_named(data: &str, split: Split) -> Result<ReidSet> {
    if data != "drawn" {
        return datasets::open_split(Path::new(data), split, None);
    }
    anyhow::ensure!(split == Split::default(), "--split: the drawn set has one test set: leave it out");
    Ok(datasets::drawn::set())
}

/// Opens the set of a run; with `--validation N`, N training people take the place of the test people (Table 1).
fn open(h: &Hyper) -> Result<ReidSet> {
    let set = open_named(&h.data, h.split)?;
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
    let leads = machine.world.leads(); // what follows without it, every process does
    let single = embedded.score(h.metric, Ap::Trapezoid, &machine.world)?;
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
    if flags.rerank && leads {
        add("single query re-ranked", &embedded.score_reranked(Ap::Trapezoid));
    }
    if let Some(many) = reid::multi_query(net, set, &embedding, &embedded)? {
        add("multi query", &many.score(h.metric, Ap::Trapezoid, &machine.world)?);
        if flags.rerank && leads {
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
    if !leads {
        return Ok(results);
    }
    results.write(at)?;
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

// ---- The verbs --------------------------------------------------------------------------------------------------

/// A run from its folder.
fn load(at: &Path, machine: &Machine) -> Result<Trained<Hyper, Box<dyn Network>>> {
    session::load("triplet-reid", at, machine, network)
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
            let machine = args.machine.resolve_world()?;
            let h = args.hyper.resolve(flags::Scale::Paper)?;
            let set = open(&h)?;
            let at = args.run.unwrap_or_else(|| h.folder());
            train(&h, &set, &at, &machine)?;
            print(format!("trained: {}\nnext: triplet-reid evaluate --run {}", at.display(), at.display()))?;
        }
        Verb::Evaluate(args) => {
            let machine = args.machine.resolve_world()?;
            let Trained { flags: mut h, mut store, network: mut net, mut step, .. } = load(&args.run, &machine)?;
            if let Some(data) = args.data {
                (h.data, h.split) = (data, Split::default());
            }
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
            evaluate(&at, &h, &set, &*net, step, &machine, &args.scoring)?.show(&at, "Table 2")?;
            drop(store);
        }
        Verb::Embed(args) => {
            let machine = args.machine.resolve()?;
            let Trained { flags: h, network: net, store: _store, .. } = load(&args.run, &machine)?;
            embed::check_out(&args.out)?;
            let photos = datasets::folder(&args.images)?;
            datasets::check(photos.iter())?;
            let x = h.embedding(args.views, &machine).photos(&*net, &photos, "embed")?;
            let names: Vec<&str> = photos.iter().map(|photo| photo.name.as_str()).collect();
            embed::write(&args.out, &names, x)?;
            print(format!("{} embeddings of width {}: {}", photos.len(), net.width(), args.out.display()))?;
        }
        Verb::Export(args) => {
            let machine = args.machine.resolve()?;
            let Trained { flags: h, network: net, store, .. } = load(&args.run, &machine)?;
            print(format!("model:   {}", export_run(&args.run, &h, &store, &*net)?.display()))?;
        }
        Verb::Data(args) => {
            let set = open_named(&args.data, args.split)?;
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
            results.show(&at, "Table 2")?;
            print(format!("model:   {}", model.display()))?;
        }
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let cli = flags::Cli::parse();
    rankle::paper::main(|| run_verb(cli.verb))
}
