//! Beyond triplet loss: a deep quadruplet network for person re-identification.
//! W. Chen, X. Chen, J. Zhang, K. Huang. CVPR 2017, arXiv 1704.01719.
//!
//! ```text
//! cargo run --release --bin quadruplet -- train --data data/cuhk03/labeled --weights data/weights/alexnet-owt-7be5be79.pth
//! cargo run --release --bin quadruplet -- evaluate --run data/runs/quadruplet/cuhk03-labeled-alexnet-quadruplet-margohnm-1
//! ```
//!
//! What it should reach: on CUHK03's training set pairs of one person at a mean distance of 0.000374, of two people at
//! 0.99746 (Figure 5). The paper's result tables could not be found and no remembered number is shown in their place.
//! What it did reach, on which data, stands in papers/README.md.
//! Where it departs from the paper, or fills a gap in it, is [`DEPARTURES`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use rand::Rng;
use rankle::collectives::{Gradients, Shares, World};
use rankle::datasets::{self, Photo, ReidSet, Split};
use rankle::distance::Metric;
use rankle::loader::Loader;
use rankle::losses::{
    Margin, Tally,
    quadruplet::{self, MarginGradient, Margins},
    triplet,
};
use rankle::metrics::retrieval::{self, Ap, Exclude, Identity};
use rankle::models::quadruplet::{Form, Input, Regroup};
use rankle::models::{Network, QuadrupletNet, channels_last, layers::Scope};
use rankle::optim::{Optimizer, Rule};
use rankle::paper::{self, Claim, Departure, Results, print};
use rankle::run::{
    self,
    compare::Comparison,
    embed::{self, Embedding},
    machine::Machine,
    progress::say,
    reid,
    report::{Report, Series},
    session::{self, Done, Plan, Session, Trained},
    stats,
    watch::{Collapse, Reading},
};
use rankle::sampler::QuadrupletSampler;
use rankle::transfer::{stage, upload};
use rankle::transform::{Augment, Recipe, TestViews};
use rankle::{export, files, seed, weights};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor, nn::VarStore};

#[path = "quadruplet/figure5.rs"]
mod figure5;
#[path = "quadruplet/flags.rs"]
mod flags;
#[path = "quadruplet/hyper.rs"]
mod hyper;
#[path = "quadruplet/published.rs"]
mod published;

use flags::{Gradient, Model, Net, Order, Pairing};
use hyper::Hyper;

/// What departs from the paper, or fills a gap in it, and for which runs; what flags change is added to a run's results.
const DEPARTURES: [Departure<Hyper>; 14] = [
    (
        "conv1 and conv2 are torchvision's AlexNet (one tower, no response normalisation, RGB, its mean and deviation); --net caffe has the other's layers",
        |h| h.net == Net::Alexnet,
    ),
    ("the loss is the mean over the quadruplets of a batch; Eq. 3 writes their sum", |_| true),
    (
        "the adaptive margins are numbers to the gradient; Eq. 5 adds what a quadruplet's own pairs contribute (--margin-gradient eq5)",
        |h| h.model == Model::QuadrupletMargohnm && h.margin_gradient == Gradient::Detach,
    ),
    (
        "a batch's number counts quadruplets (Eq. 4 has N_p = M); the three identities of one differ pairwise, as under Eq. 3",
        |_| true,
    ),
    ("\"regroup\" is taken for a concatenation of channels", |h| {
        h.model != Model::TripletEmbedding && h.pairing == Pairing::Channels
    }),
    (
        "the order of a pair is random in training, and both orders are averaged in tests unless --order says otherwise",
        |h| h.model != Model::TripletEmbedding,
    ),
    (
        "pairs are always seen by two cameras in training, as in tests; the digest of the paper doesn't say how they are drawn",
        |h| !h.any_camera,
    ),
    ("\"fourfold by mirroring\" is an independent mirroring of every image with probability one half", |_| true),
    (
        "momentum 0.9, weight decay 5e-4, dropout 0.5 and widths of 4096 are Caffe AlexNet's; the paper gives none that was found",
        |h| h.net != Net::Small,
    ),
    (
        "the rate is divided by ten after 3/5 of each stage's steps, and the second stage starts lower than the first; the paper's schedule and number of steps were not found",
        |_| true,
    ),
    ("layers that don't come from ImageNet start He-normal", |_| true),
    ("the triplet models' margin is 1, and 0.3 of triplet-embedding, by default; the paper's was not found", |h| {
        !h.model.takes_quadruplets()
    }),
    (
        "single-shot CMC ranks by the logit of g, which orders as g does but doesn't tie where g has rounded to 0 or 1",
        |h| h.model.has_softmax(),
    ),
    ("whether the paper's CUHK03 is of labelled or of detected boxes was not found", |h| {
        h.data.ends_with("labeled") || h.data.ends_with("detected")
    }),
];

/// Score names of Figure 5's two means.
const INTRA: &str = "training pairs, same person: mean distance";
const INTER: &str = "training pairs, different people: mean distance";

// ---- Section 3.2: the networks ------------------------------------------------------------------------------------

/// Figure 2: per image (a), or two convolutions per image and the rest per pair (b, c).
fn network(h: &Hyper, store: &VarStore) -> Result<QuadrupletNet> {
    let form = match h.net {
        Net::Alexnet => Form::Torchvision,
        Net::Caffe => Form::Caffe,
        Net::Small => Form::Small,
    };
    let input = match (h.model, h.pairing) {
        (Model::TripletEmbedding, _) => Input::Image,
        (_, Pairing::Channels) => Input::Pair(Regroup::Channels),
        (_, Pairing::Width) => Input::Pair(Regroup::Width),
    };
    let size = (i64::from(h.height), i64::from(h.width));
    let at = Scope::root(store, h.seed);
    QuadrupletNet::new(&at, form, input, size, h.model.outputs(), h.dropout)
        .with_context(|| format!("--size {}x{}", h.height, h.width))
}

/// The kernels of the first two convolution layers alone come from ImageNet (Section 5.1).
fn start_from(h: &Hyper, store: &VarStore) -> Result<()> {
    if let Some(run) = &h.start {
        let path = run.join("checkpoint.safetensors");
        let tensors = weights::read(&path).context("--start (a run folder that train made)")?;
        let tensors: Vec<(String, Tensor)> = tensors
            .into_iter()
            .filter_map(|(name, x)| name.strip_prefix("model.").map(|name| (name.to_string(), x)))
            .collect();
        let loaded = weights::load_into(store, &path, tensors, |name| Some(name.to_string()), |_| true);
        say(format!("weights: {} ({})", path.display(), loaded.context("--start")?));
    }
    if let Some(file) = &h.weights {
        let path = Path::new(file);
        let first =
            |name: &str| QuadrupletNet::FROM_IMAGENET.iter().any(|layer| name.starts_with(&format!("{layer}.")));
        let read = weights::read(path).context("--weights (scripts/fetch alexnet gets torchvision's AlexNet)")?;
        let rename = |name: &str| first(name).then(|| name.to_string());
        let loaded = weights::load_into(store, path, read, rename, first).context("--weights")?;
        say(format!("weights: conv1 and conv2 from {file} ({loaded})"));
    }
    Ok(())
}

/// g of a pair from the outputs of fc8 `[N, units]`, as the losses take it (Section 3.2).
fn metric(model: Model, outputs: &Tensor) -> Tensor {
    match model {
        Model::TripletLearnedMetric | Model::TripletNoSoftmax => outputs.select(1, 0), // unbounded
        _ => quadruplet::dissimilarity(outputs),
    }
}

/// What pairs are ranked by: it orders as g² does, whatever sign an unbounded g has; both orders of a pair can be averaged.
fn ranked(model: Model, outputs: &Tensor) -> Tensor {
    match model {
        Model::TripletLearnedMetric | Model::TripletNoSoftmax => outputs.select(1, 0).abs(),
        _ => quadruplet::logit_gap(outputs),
    }
}

/// The distance that is shown and averaged for what [`ranked`] gave: g, or the squared distance of embeddings.
fn shown(model: Model) -> fn(f64) -> f64 {
    if model.has_softmax() { |gap| 1. / (1. + (-gap).exp()) } else { |distance| distance }
}

// ---- Section 5.1: batches and training ----------------------------------------------------------------------------

/// Prefetched images of the batches `steps`, `[4M, 3, H, W]` (`[3M, ...]` for triplets): references, positives,
/// negatives, last images; of several processes, each has those of its share of the M quadruplets.
fn batches(
    h: &Hyper,
    photos: &Arc<[Photo]>,
    sampler: &Arc<QuadrupletSampler>,
    steps: std::ops::Range<u64>,
    machine: &Machine,
) -> Result<Loader<Tensor>> {
    let (photos, sampler, recipe) = (photos.clone(), sampler.clone(), h.recipe());
    let (workers, device) = (machine.workers, machine.device);
    let (m, images, own) = (h.quadruplets, h.images_each(), machine.world.shares(h.quadruplets, 1)?.own());
    let seed = seed::named(h.seed, "augment");
    Loader::new(steps, workers, workers + 1, move |step| {
        let rows = sampler.batch(step);
        let items = (0..images).flat_map(|part| own.clone().map(move |row| part * m + row));
        let count = images * own.len();
        let mut pixels = vec![0_f32; count * recipe.len()];
        for (i, out) in items.zip(pixels.chunks_exact_mut(recipe.len())) {
            recipe.train(&*photos[rows[i]].source.image()?, Augment::Flip, &mut seed::at(seed, step, i as u64), out);
        }
        let shape = [count as i64, 3, recipe.height.into(), recipe.width.into()];
        Ok(stage(Tensor::from_slice(&pixels).view(shape), device))
    })
}

/// The pairs (i, j), (i, k) and, of quadruplets, (l, k) as rows of this process's images, each in a random order.
fn pair_rows(h: &Hyper, step: u64, shares: &Shares) -> (Tensor, Tensor) {
    let (own, m) = (shares.own(), shares.own().len() as i64);
    let ends = [(0, 1), (0, 2), (3, 2)];
    let mut rng = seed::at(seed::named(h.seed, "order"), step, 0);
    let pairs = ends[..h.pairs_each()].iter().flat_map(|&ends| (0..h.quadruplets).map(move |row| (ends, row)));
    // Drawn for all quadruplets, so that the order does not depend on how many processes there are.
    let pairs = pairs.map(|((a, b), row)| (if rng.random() { (a, b) } else { (b, a) }, row));
    let mine = pairs.filter(|(_, row)| own.contains(row)).map(|((a, b), row)| {
        let row = (row - own.start) as i64;
        (a * m + row, b * m + row)
    });
    let (left, right): (Vec<i64>, Vec<i64>) = mine.unzip();
    (Tensor::from_slice(&left), Tensor::from_slice(&right))
}

/// The outputs of all processes, `[parts · M, ...]`, from this one's, which are as many parts of its quadruplets.
fn gathered(world: &World, own: &Tensor, parts: i64, shares: &Shares) -> Result<Tensor> {
    if world.size() == 1 {
        return Ok(own.shallow_clone());
    }
    let by_quadruplet = own.unflatten(0, [parts, -1]).transpose(0, 1).contiguous();
    Ok(world.gather(&by_quadruplet, shares)?.transpose(0, 1).flatten(0, 1))
}

/// What a step of training came to.
struct Step {
    tally: Tally,
    loss: Tensor,
    /// The distances of the three (two) kinds of pairs, `[M]` each.
    g: Vec<Tensor>,
    adaptive: Option<Margins>,
}

/// The loss of a batch at step `t` (Eq. 1 to 4), of which `images` are this process's share.
fn step(h: &Hyper, net: &QuadrupletNet, images: &Tensor, t: u64, machine: &Machine) -> Result<Step> {
    let (device, world) = (machine.device, &machine.world);
    if h.dropout > 0. {
        // The same after a resume; every process drops its own.
        let drops = seed::mix(seed::named(h.seed, "dropout") ^ t).wrapping_add(world.rank() as u64);
        tch::manual_seed((seed::mix(drops) >> 1) as i64);
    }
    let shares = world.shares(h.quadruplets, 1)?;
    let parts = h.pairs_each() as i64;
    if h.model == Model::TripletEmbedding {
        let x = run::autocast(h.amp, device, || net.forward(images, true)); // f(x), unit rows
        let x = gathered(world, &x, 3, &shares)?;
        let [i, j, k] = [0, 1, 2].map(|part| x.chunk(3, 0).swap_remove(part));
        let d = Metric::SquaredEuclidean;
        let (ij, ik) = (d.paired(&i, &j), d.paired(&i, &k));
        let tally = triplet::hinge(&ij, &ik, Margin::Hard(h.margin)); // Eq. 1
        return Ok(Step { loss: tally.mean(), tally, g: vec![ij, ik], adaptive: None });
    }
    let (left, right) = pair_rows(h, t, &shares);
    let (left, right) = (upload(&left, device), upload(&right, device));
    let outputs = run::autocast(h.amp, device, || {
        let maps = net.maps(images, true); // conv1-2, an image once
        net.pair(&maps.index_select(0, &left), &maps.index_select(0, &right), true)
    });
    let outputs = gathered(world, &outputs, parts, &shares)?;
    let g: Vec<Tensor> = metric(h.model, &outputs).chunk(parts, 0); // g_ij, g_ik, g_lk
    let mut adaptive = None;
    let tally = match h.model {
        Model::Quadruplet => quadruplet::pairs(&g[0], &g[1], &g[2], h.margins.into()), // Eq. 3
        Model::QuadrupletMargohnm if t < h.steps => quadruplet::pairs(&g[0], &g[1], &g[2], h.margins.into()),
        Model::QuadrupletMargohnm => {
            let gradient = match h.margin_gradient {
                Gradient::Detach => MarginGradient::Detach,
                Gradient::Eq5 => MarginGradient::Eq5,
                Gradient::Full => MarginGradient::Full,
            };
            let (tally, margins) = quadruplet::adaptive_pairs(&g[0], &g[1], &g[2], h.adaptive.into(), gradient); // Eq. 4
            adaptive = Some(margins);
            tally
        }
        _ => quadruplet::triplet(&g[0], &g[1], h.margin), // Eq. 2
    };
    let mut loss = tally.mean();
    if h.classification > 0. {
        // Unit 0 is "different": all pairs but the first kind.
        let m = h.quadruplets as i64;
        let kind = Tensor::cat(
            &[Tensor::ones([m], (Kind::Int64, device)), Tensor::zeros([(parts - 1) * m], (Kind::Int64, device))],
            0,
        );
        loss = &loss + outputs.to_kind(Kind::Float).cross_entropy_for_logits(&kind) * h.classification;
    }
    Ok(Step { tally, loss, g, adaptive })
}

/// Trains, or goes on training, in `at`; returns the trained network.
fn train(h: &Hyper, set: &ReidSet, at: &Path, machine: &Machine) -> Result<(VarStore, QuadrupletNet)> {
    let photos: Arc<[Photo]> = set.train.clone().into();
    let (people, cameras): (Vec<i64>, Vec<i64>) = photos.iter().map(|photo| (photo.person, photo.camera)).unzip();
    let sampler =
        QuadrupletSampler::new(&people, &cameras, h.quadruplets, !h.any_camera, seed::named(h.seed, "sampler"));
    let sampler = Arc::new(sampler.with_context(|| too_few(h, &people))?);
    machine.world.agree("--data (its training photos): give every process the same", &(&people, &cameras))?;
    let mut store = VarStore::new(machine.device);
    let net = network(h, &store)?;
    let mut optimizer = Optimizer::new(Rule::Sgd { momentum: 0.9 }, 5e-4, &store);
    let steps = h.steps + h.steps2;
    let plan = Plan { paper: "quadruplet", at, machine, steps, log_every: h.log_every };
    let begin = |store: &VarStore| start_from(h, store);
    let mut session = Session::open(plan, h, &mut store, &mut optimizer, begin)?;
    if machine.world.leads() {
        write_split(at, h, set, session.start() > 0)?;
    }
    let what = format!(
        "{} on {}, {}, {} quadruplets a batch",
        h.model.title(),
        set.name,
        machine.for_images(h.amp),
        h.quadruplets
    );
    if !session.announce(&what) {
        return Ok((store, net));
    }
    let mut loader = batches(h, &photos, &sampler, session.start()..steps, machine)?;
    let gradients = Gradients::new(&machine.world, &store)?;
    for t in session.start()..steps {
        let images = loader.next().ok_or_else(|| anyhow!("the loader ended early"))??;
        let count = (h.images_each() * h.quadruplets) as i64;
        let images = channels_last(&upload(&images, machine.device));
        let now = step(h, &net, &images, t, machine)?;
        optimizer.zero_grad();
        gradients.backward(&now.loss)?;
        optimizer.step(h.rate(t), 0.9);

        let done = Done { step: t, loss: &now.loss, images: count, waited: loader.waited() };
        let line = || {
            let line = log_line(h, t, &now);
            let reading = reading(h, &line);
            (line, reading)
        };
        session.after(done, line, &store, &optimizer, Vec::new)?;
    }
    Ok((store, net))
}

fn too_few(h: &Hyper, people: &[i64]) -> String {
    let count = people.iter().collect::<std::collections::BTreeSet<_>>().len();
    let cure = if h.any_camera { "give other --data" } else { "give other --data, or say --any-camera" };
    format!(
        "{} has {count} people to train on; quadruplets need three, one of them seen by two cameras: {cure}",
        h.data
    )
}

/// Who is trained on and who is tested, by the names in the files' names, into `split.json`: for sets of several splits.
/// A run that goes on must find the same people.
fn write_split(at: &Path, h: &Hyper, set: &ReidSet, resumed: bool) -> Result<()> {
    let Some(people) = datasets::split_people(set) else { return Ok(()) };
    let path = at.join("split.json");
    let value = json!({"data": set.name, "split": h.split, "train": people.train, "test": people.test});
    let before = if resumed { std::fs::read_to_string(&path).ok() } else { None };
    let before: Option<Value> = before.and_then(|text| serde_json::from_str(&text).ok());
    ensure!(
        before.is_none_or(|before| before == value),
        "{}: the people of {} are not those that this run was started with: restore the data, or choose another --run",
        path.display(),
        h.data
    );
    files::write_atomic(&path, serde_json::to_string(&value)?.as_bytes())
}

/// The line of a logged step: loss, margins, mean squared distances and how many g are saturated. A function of flags,
/// data and step. Waits for the device.
fn log_line(h: &Hyper, t: u64, now: &Step) -> Value {
    tch::no_grad(|| {
        let g: Vec<Tensor> = now.g.iter().map(|g| g.to_kind(Kind::Double)).collect();
        let mean = |x: &Tensor| x.mean(Kind::Double).double_value(&[]);
        let negative = Tensor::cat(&g[1..], 0);
        let mut line = json!({
            "lr": h.rate(t),
            "distance": {"same": mean(&g[0]), "different": mean(&negative)},
            "square": {"same": mean(&g[0].square()), "different": mean(&negative.square())},
        });
        if h.model.takes_quadruplets() {
            let margins = match &now.adaptive {
                Some(margins) => [margins.strong.double_value(&[]), margins.weak.double_value(&[])],
                None => h.margins,
            };
            line = stats::joined(line, json!({"stage": 1 + u64::from(t >= h.steps), "margins": margins}));
        }
        if h.model.has_softmax() {
            // Where g(1 - g) is nothing, the softmax passes nothing on (Section 3.2).
            let all = Tensor::cat(&g, 0);
            let flat = (&all - all.square()).lt(1e-3).to_kind(Kind::Double);
            line = stats::joined(line, json!({"saturated": mean(&flat)}));
        }
        stats::joined(stats::tally(t, &now.loss, &now.tally), line)
    })
}

/// What the watch over collapse reads: the gap of the two means of a learned metric, whose margins stand still.
fn reading(h: &Hyper, line: &Value) -> Option<Reading> {
    let number = |pointer: &str| line.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.);
    let fixed = line["stage"] != 2 && h.model != Model::TripletEmbedding;
    fixed.then(|| Reading {
        what: Collapse::Metric,
        loss: number("/mean"),
        collapsed_loss: if h.model.takes_quadruplets() { h.margins[0] + h.margins[1] } else { h.margin },
        median_distance: (number("/square/different") - number("/square/same")).abs(),
        mean_norm: 1.,
    })
}

// ---- Section 5: evaluation --------------------------------------------------------------------------------------

/// Opens the set of a run; of tracklets the middle photo stands for all in the test.
fn open(h: &Hyper) -> Result<ReidSet> {
    let set = open_named(&h.data, h.split, h.test_people)?;
    let mut set = if h.validation > 0 {
        set.hold_out(h.validation, seed::named(h.seed, "validation")).context("--validation")?
    } else {
        set
    };
    if set.photos().any(|photo| photo.tracklet >= 0) {
        for photos in [&mut set.query, &mut set.gallery] {
            *photos = photos.chunk_by(|a, b| a.tracklet == b.tracklet).map(|run| run[run.len() / 2].clone()).collect();
        }
        set.notes.push("a pair is of two photos: in the test the middle one of a tracklet stands for it".into());
    }
    ensure!(!set.query.is_empty() && !set.gallery.is_empty(), "{} has nobody to test: give other --data", h.data);
    datasets::check(set.photos())?;
    Ok(set)
}

/// Why a set can't be scored, if it can't; said before hours of training.
fn unscorable(h: &Hyper, set: &ReidSet) -> Option<String> {
    let cameras =
        |person: i64| set.gallery.iter().filter(move |photo| photo.person == person).map(|photo| photo.camera);
    let found = |photo: &Photo| photo.person > 0 && cameras(photo.person).any(|camera| camera != photo.camera);
    let none = !set.query.iter().any(found);
    none.then(|| format!("{}: no query has a match by another camera in the gallery: give other --data", h.data))
}

fn open_named(data: &str, split: Split, test_people: Option<usize>) -> Result<ReidSet> {
    if data != "drawn" {
        return datasets::open_split(Path::new(data), split, test_people);
    }
    ensure!(
        split == Split::default() && test_people.is_none(),
        "the drawn set has one test set: leave out --split and --test-people"
    );
    Ok(datasets::drawn::set())
}

fn identities(photos: &[Photo]) -> Vec<Identity> {
    photos.iter().map(|photo| Identity { person: photo.person, camera: photo.camera }).collect()
}

/// What every query and gallery photo are ranked by, `[Q, G]`.
fn distances(h: &Hyper, net: &QuadrupletNet, set: &ReidSet, order: Order, machine: &Machine) -> Result<Tensor> {
    if h.model == Model::TripletEmbedding {
        let embedding = h.embedding(machine);
        let query = embedding.photos(net, &set.query, "embed queries")?;
        return Ok(Metric::SquaredEuclidean.matrix(&query, &embedding.photos(net, &set.gallery, "embed gallery")?));
    }
    let score = |outputs: &Tensor| ranked(h.model, outputs);
    h.comparison(order, machine).matrix(net, &set.query, &set.gallery, &score, "compare")
}

/// Distances of `count` pairs of one person and as many of two, drawn as in training but for the mirroring (Figure 5).
fn training_distances(
    h: &Hyper,
    net: &QuadrupletNet,
    set: &ReidSet,
    flags: &flags::Scoring,
    machine: &Machine,
) -> Result<Option<[Vec<f64>; 2]>> {
    let (people, cameras): (Vec<i64>, Vec<i64>) = set.train.iter().map(|photo| (photo.person, photo.camera)).unzip();
    let count = flags.pairs as usize;
    // One seed for every model and run, so that they are measured on the same pairs.
    let Some(sampler) = QuadrupletSampler::new(&people, &cameras, count, !h.any_camera, 5) else { return Ok(None) };
    let rows = sampler.batch(0);
    let end = |part: usize| rows[part * count..(part + 1) * count].iter().copied();
    let pairs: Vec<(usize, usize)> = end(0).zip(end(1)).chain(end(0).zip(end(2))).collect();
    let ranked = if h.model == Model::TripletEmbedding {
        let x = h.embedding(machine).photos(net, &set.train, "embed training photos")?;
        let rows = |pick: fn(&(usize, usize)) -> usize| {
            x.index_select(0, &Tensor::from_slice(&pairs.iter().map(|pair| pick(pair) as i64).collect::<Vec<_>>()))
        };
        Metric::SquaredEuclidean.paired(&rows(|pair| pair.0), &rows(|pair| pair.1))
    } else {
        let score = |outputs: &Tensor| ranked(h.model, outputs);
        h.comparison(flags.order.unwrap_or(Order::Both), machine).pairs(
            net,
            &set.train,
            &pairs,
            &score,
            "compare training pairs",
        )?
    };
    let shown = shown(h.model);
    let all: Vec<f64> = Vec::<f32>::try_from(ranked)?.into_iter().map(|x| shown(f64::from(x))).collect();
    let (same, different) = all.split_at(count);
    Ok(Some([same.to_vec(), different.to_vec()]))
}

/// Mean and population standard deviation.
fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt())
}

/// Scores a run's network and writes `results.json` and `report.html`.
fn evaluate(
    at: &Path,
    h: &Hyper,
    set: &ReidSet,
    net: &QuadrupletNet,
    step: u64,
    machine: &Machine,
    flags: &flags::Scoring,
) -> Result<Results> {
    if let Some(why) = unscorable(h, set) {
        bail!("{why}");
    }
    let order = flags.order.unwrap_or(Order::Both);
    let dist = distances(h, net, set, order, machine)?;
    let (q, g) = (identities(&set.query), identities(&set.gallery));
    let shots = retrieval::single_shot_distances(&dist, &q, &g, flags.draws as usize, seed::named(h.seed, "draws"));
    let all = retrieval::evaluate_distances(&dist, &q, &g, Exclude::SameCamera, Ap::Trapezoid);
    let mut scores: Vec<(String, f64)> =
        [1, 5, 10, 20].map(|k| (format!("single shot rank-{k}"), shots.rank(k))).into();
    scores.push(("whole gallery mAP".into(), all.map()));
    scores.push(("whole gallery rank-1".into(), all.rank(1)));
    let training = training_distances(h, net, set, flags, machine)?;
    if let Some([same, different]) = &training {
        for (name, values) in [(INTRA, same), (INTER, different)] {
            let (mean, spread) = mean_and_spread(values);
            scores.push((name.into(), mean));
            scores.push((name.replace("mean distance", "standard deviation"), spread));
        }
    }
    let comparable = published::comparable(h, set, step);
    let distance = match h.model {
        Model::TripletEmbedding => "squared distance of unit embeddings",
        Model::TripletLearnedMetric | Model::TripletNoSoftmax => "learned metric g, ranked by its square",
        _ => "learned metric g in 0..1, ranked by its logit",
    };
    let protocol = vec![
        format!(
            "single shot: {} queries ({} without a match by another camera left out), each against one random image of every person by another camera, {} draws averaged; rank-1 varies by {:.4} (standard deviation) between draws",
            q.len(),
            shots.skipped,
            flags.draws,
            shots.rank1_std
        ),
        format!("whole gallery: {} photos, Market-1501's rule, mAP by the trapezoid rule", g.len()),
        format!(
            "{distance}{}",
            match (h.model, order) {
                (Model::TripletEmbedding, _) => "",
                (_, Order::Both) => "; both orders of a pair averaged",
                (_, Order::One) => "; (query, gallery) alone",
            }
        ),
        match &training {
            Some(_) => format!(
                "training distances: {} pairs of each kind{}, not mirrored",
                flags.pairs,
                if h.any_camera { "" } else { ", each seen by two cameras" }
            ),
            None => "training distances: none, for the training photos give no quadruplet".into(),
        },
    ];
    let departures: Vec<String> = paper::departures(&DEPARTURES, h).into_iter().chain(h.departures()).collect();
    let results = Results {
        paper: "quadruplet".into(),
        citation: published::CITATION.into(),
        data: set.name.clone(),
        protocol,
        claims: published::claims(h, &scores),
        scores,
        comparable,
        departures,
        step,
    };
    if !machine.world.leads() {
        return Ok(results);
    }
    results.write(at)?;
    let mut report = Report::new("quadruplet", published::CITATION);
    report.facts(&h.facts(set, step, machine));
    report.table("Scores", "", &results.score_table());
    report.table(
        "Beside the paper",
        results.comparable.as_ref().err().map_or("", String::as_str),
        &results.claim_table(""),
    );
    report.list("Protocol", &results.protocol);
    report.list("Data", &set.notes);
    if let Some([same, different]) = training {
        let name = |what: &str, values: &[f64]| {
            let (mean, spread) = mean_and_spread(values);
            format!("{what}: {mean:.4} ± {spread:.4}")
        };
        let groups = [(name("same person", &same), same), (name("different people", &different), different)];
        report.histogram(
            "Distances of training pairs",
            "Means and standard deviations as Figure 5 gives them.",
            "distance",
            &groups,
            40,
        );
    }
    if at.join("log.jsonl").exists() {
        curves(&mut report, at)?;
    }
    reid::distance_sections(&mut report, set, &dist, shown(h.model), &all, h.seed)?;
    report.list("Departures from the paper", &results.departures);
    report.write(&at.join("report.html"))?;
    Ok(results)
}

/// Training curves from the log: loss, the means that the margins come from, the margins, saturation.
fn curves(report: &mut Report, at: &Path) -> Result<()> {
    let path = at.join("log.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let series = |name: &str, pointer: &str| {
        let point = |line: &Value| Some((line.get("step")?.as_f64()?, line.pointer(pointer)?.as_f64()?));
        Series { name: name.into(), points: lines.iter().filter_map(point).collect() }
    };
    report.lines("Loss", "", "step", "loss", &[series("mean over quadruplets", "/mean")]);
    report.lines("Active terms", "", "step", "fraction", &[series("active", "/active")]);
    report.lines(
        "Mean squared distances in a batch",
        "The two means whose difference makes the adaptive margins (Eq. 4).",
        "step",
        "mean of g²",
        &[series("same person", "/square/same"), series("different people", "/square/different")],
    );
    let margins = [series("alpha 1", "/margins/0"), series("alpha 2", "/margins/1")];
    if !margins[0].points.is_empty() {
        report.lines("Margins", "Fixed in the first stage, adaptive in the second.", "step", "margin", &margins);
    }
    let saturated = series("saturated", "/saturated");
    if !saturated.points.is_empty() {
        report.lines(
            "Saturation",
            "The share of pairs with g(1 - g) below 0.001, which learn nothing.",
            "step",
            "fraction",
            &[saturated],
        );
    }
    Ok(())
}

// ---- The verbs --------------------------------------------------------------------------------------------------

/// A run from its folder.
fn load(at: &Path, machine: &Machine) -> Result<Trained<Hyper, QuadrupletNet>> {
    session::load("quadruplet", at, machine, network)
}

/// What the exported module computes: of a pair of images what [`ranked`] ranks by.
fn compared(h: &Hyper, net: &QuadrupletNet, order: Order, a: &Tensor, b: &Tensor) -> Tensor {
    let (a, b) = (net.maps(a, false), net.maps(b, false));
    let there = ranked(h.model, &net.pair(&a, &b, false));
    if order == Order::Both { (there + ranked(h.model, &net.pair(&b, &a, false))) / 2. } else { there }
}

/// TorchScript with named parameters, compared with this network before it counts as written.
fn export_run(at: &Path, h: &Hyper, store: &VarStore, net: &QuadrupletNet, order: Order) -> Result<PathBuf> {
    let path = at.join("model.pt");
    let example = || Tensor::ones([2, 3, h.height.into(), h.width.into()], (Kind::Float, store.device())) * 0.5;
    let exported = if h.model == Model::TripletEmbedding {
        export::torchscript(store, &|inputs: &[Tensor]| net.forward(&inputs[0], false), &[example()], &path)?
    } else {
        let forward = |inputs: &[Tensor]| compared(h, net, order, &inputs[0], &inputs[1]);
        export::torchscript(store, &forward, &[example(), example()], &path)?
    };
    print(exported)?;
    print(match h.model {
        Model::TripletEmbedding => "model(images) is f, unit rows: rank by their squared distance",
        Model::TripletLearnedMetric | Model::TripletNoSoftmax => "model(a, b) is |g| for pairs of images: rank by it",
        _ => "model(a, b) is the logit of g for pairs of images: rank by it, sigmoid(model(a, b)) is g",
    })?;
    Ok(path)
}

/// Embeddings of the photos, or g of every two of them.
fn embed_images(args: &flags::Embed, machine: &Machine) -> Result<()> {
    let Trained { flags: h, network: net, store: _store, .. } = load(&args.run, machine)?;
    let order = flags::order_of(h.model, args.order)?;
    embed::check_out(&args.out)?;
    let photos = datasets::folder(&args.images)?;
    datasets::check(photos.iter())?;
    let names: Vec<&str> = photos.iter().map(|photo| photo.name.as_str()).collect();
    if h.model == Model::TripletEmbedding {
        let x = h.embedding(machine).photos(&net, &photos, "embed")?;
        embed::write(&args.out, &names, x)?;
        return print(format!("{} embeddings of width {}: {}", photos.len(), net.width(), args.out.display()));
    }
    const MOST: usize = 10_000;
    ensure!(
        photos.len() <= MOST,
        "--images {}: {} photos make {} pairs: give at most {MOST} photos",
        args.images.display(),
        photos.len(),
        photos.len() * photos.len()
    );
    let score = |outputs: &Tensor| ranked(h.model, outputs);
    let g = h.comparison(order, machine).matrix(&net, &photos, &photos, &score, "compare")?;
    let g = if h.model.has_softmax() { g.sigmoid() } else { g };
    let metadata = [("names".to_string(), serde_json::to_string(&names)?)].into();
    weights::save(&args.out, &[("dissimilarity".into(), g)], Some(metadata))?;
    print(format!("{0} x {0} dissimilarities: {1}", photos.len(), args.out.display()))
}

fn run_verb(verb: flags::Verb) -> Result<()> {
    use flags::Verb;
    match verb {
        Verb::Train(args) => {
            let h = args.hyper.resolve()?;
            ensure!(
                !args.machine.sync_batch_norm || h.net == Net::Small,
                "--sync-batch-norm: the paper's networks have no batch normalisation: leave it out"
            );
            let machine = args.machine.resolve_world()?;
            let set = open(&h)?;
            set.notes.iter().chain(&unscorable(&h, &set)).for_each(|note| say(format!("note: {note}")));
            let at = args.run.unwrap_or_else(|| h.folder());
            train(&h, &set, &at, &machine)?;
            print(format!("trained: {}\nnext: quadruplet evaluate --run {}", at.display(), at.display()))
        }
        Verb::Evaluate(args) => {
            let machine = args.machine.resolve_world()?;
            let Trained { flags: mut h, mut store, network: mut net, mut step, .. } = load(&args.run, &machine)?;
            flags::order_of(h.model, args.scoring.order)?;
            let elsewhere = args.data.is_some();
            if let Some(data) = args.data {
                let split = args.split.unwrap_or_default();
                (h.data, h.split, h.test_people, h.validation) = (data, split, args.test_people, 0);
            }
            let set = open(&h)?;
            let mut at = args.run;
            if elsewhere {
                // The run keeps the scores of its own data.
                let split = args.split.map_or_else(String::new, |split| format!("-split{split}"));
                at = at.join(format!("on-{}{split}", set.name));
            }
            if args.untrained {
                // The run's network as training found it: same seed, same weights from outside.
                store = VarStore::new(machine.device);
                net = network(&h, &store)?;
                step = 0;
                start_from(&h, &store)?;
                at = at.join("untrained");
            }
            std::fs::create_dir_all(&at).with_context(|| format!("cannot write {}", at.display()))?;
            evaluate(&at, &h, &set, &net, step, &machine, &args.scoring)?.show(&at, "Figure 5")?;
            drop(store);
            Ok(())
        }
        Verb::Embed(args) => embed_images(&args, &args.machine.resolve()?),
        Verb::Export(args) => {
            let machine = args.machine.resolve()?;
            let Trained { flags: h, network: net, store, .. } = load(&args.run, &machine)?;
            let order = flags::order_of(h.model, args.order)?;
            print(format!("model:   {}", export_run(&args.run, &h, &store, &net, order)?.display()))
        }
        Verb::Data(args) => {
            let card = datasets::card::Card::new(&open_named(&args.data, args.split, args.test_people)?);
            print(&card)?;
            match args.out {
                Some(out) => files::write_atomic(&out, serde_json::to_string_pretty(&card)?.as_bytes()),
                None => Ok(()),
            }
        }
        Verb::Reproduce(args) => figure5::reproduce(&args, &args.machine.resolve()?),
    }
}

fn main() -> std::process::ExitCode {
    let cli = flags::Cli::parse();
    rankle::paper::main(|| run_verb(cli.verb))
}
