//! FaceNet: A Unified Embedding for Face Recognition and Clustering.
//! F. Schroff, D. Kalenichenko, J. Philbin. CVPR 2015, arXiv 1503.03832.
//!
//! ```text
//! cargo run --release --bin facenet -- train --data data/casia-webface --test data/lfw
//! cargo run --release --bin facenet -- evaluate --run data/runs/facenet/casia-webface-nn2-nearest-128-1
//! ```
//!
//! The paper's LFW accuracy (98.87 % with a centre crop, 99.63 % with extra alignment, NN1) comes from 100 to 200
//! million private faces of 8 million people; no public set repeats it. Triplets alone on public sets have reached
//! 92.9 % (openface) to 98.5 % (glint360k). What this did reach, on which data, stands in papers/README.md.
//! Where it departs from the paper, or fills a gap in it, is [`DEPARTURES`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use rankle::collectives::Gradients;
use rankle::datasets::faces::{FaceSet, check, folder_names, names, open as open_faces};
use rankle::datasets::{self, Photo, card};
use rankle::distance::{Metric, normalize};
use rankle::loader::Loader;
use rankle::losses::{Tally, embedded};
use rankle::metrics::recognition::through_bytes;
use rankle::mining::{Negative, Pick};
use rankle::models::{FaceSmall, Network, channels_last, eigenfaces::Eigenfaces, inception, layers::Scope};
use rankle::optim::{Optimizer, Rule};
use rankle::paper::{Claim, Results, print};
use rankle::run::{
    self, cached,
    embed::{self, Embedding},
    faces::{self, Judged, Variant},
    machine::Machine,
    progress::say,
    reid,
    report::Report,
    session::{self, Done, Plan, Session, Trained},
    stats,
    watch::Reading,
};
use rankle::sampler::FaceSampler;
use rankle::transfer::{stage, upload};
use rankle::transform::{Augment, Recipe};
use rankle::{export, files, seed, weights};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor, nn::VarStore};

#[path = "facenet/baselines.rs"]
mod baselines;
#[path = "facenet/flags.rs"]
mod flags;
#[path = "facenet/lfw.rs"]
mod lfw;
#[path = "facenet/published.rs"]
mod published;
#[path = "facenet/tables.rs"]
mod tables;

use flags::{Hyper, Net};

/// What holds for every run; what a run's flags change is added to its results.
const DEPARTURES: [&str; 6] = [
    "the training data are not the paper's 100 to 200 million private faces",
    "the loss is the mean over the selected triplets; Eq. 3 writes their sum",
    "convolutions start He-normal and linear layers Glorot-uniform; the paper says random, as in its reference [16]",
    "AUC and equal error rate are exact over all held-out pairs, not over a fold-averaged grid",
    "VAL over all pairs takes the pairs within one set of test faces; the paper's hold-out compares 100 000 faces with 100 000 others",
    "128 bytes a face are int8 with one scale for all; the paper gives no scheme",
];

// ---- Section 3.3: the networks ----------------------------------------------------------------------------------

/// f(x): an image to a point of the unit sphere.
fn network(h: &Hyper, store: &VarStore) -> Result<Box<dyn Network>> {
    let at = Scope::root(store, h.seed);
    let (size, width, shrink) = (i64::from(h.size), h.width, h.shrink);
    let built: Result<Box<dyn Network>> = match h.net {
        Net::Nn1 => inception::Nn1::new(&at, size, width, shrink, h.batch_norm).map(|net| Box::new(net) as _),
        Net::Nn2 | Net::Nn3 => {
            inception::Nn2::new(&at, size, width, shrink, h.batch_norm).map(|net| Box::new(net) as _)
        }
        Net::Nn4 => inception::Nn4::new(&at, size, width, shrink, h.batch_norm).map(|net| Box::new(net) as _),
        Net::Nn4Small2 => inception::Nn4Small2::new(&at, size, width, shrink, false).map(|net| Box::new(net) as _),
        Net::Nn4Small2Released => {
            inception::Nn4Small2::new(&at, size, width, shrink, true).map(|net| Box::new(net) as _)
        }
        Net::InceptionResnetV1 => {
            inception::InceptionResnetV1::new(&at, size, width, shrink).map(|net| Box::new(net) as _)
        }
        Net::Googlenet => inception::GoogLeNet::new(&at, size, width, shrink).map(|net| Box::new(net) as _),
        Net::Small => FaceSmall::new(&at, size, width, shrink).map(|net| Box::new(net) as _),
    };
    built.with_context(|| format!("--net {} --size {} --shrink {}", h.net.name(), h.size, h.shrink))
}

/// Mean and deviation that each network's input is normalised by (of RGB/255).
fn network_input(net: Net) -> ([f32; 3], [f32; 3]) {
    match net {
        // openface: plain [0, 1].
        Net::Nn4Small2 | Net::Nn4Small2Released => ([0.; 3], [1.; 3]),
        // torchvision's transform_input.
        Net::Googlenet => ([0.5; 3], [0.5; 3]),
        // facenet's fixed standardisation, (x - 127.5) / 128.
        _ => ([0.5; 3], [128. / 255.; 3]),
    }
}

// ---- Section 3.2: batches and training --------------------------------------------------------------------------

/// The faces of a batch that are computed at once, on the host; None where the batch has fewer chunks.
type Chunk = Option<Tensor>;

/// Prefetched chunks of the batches `steps`: all of a batch's chunks, and, where there is more than one, all again.
fn chunks(
    h: &Hyper,
    photos: &Arc<[Photo]>,
    sampler: &Arc<FaceSampler>,
    steps: std::ops::Range<u64>,
    machine: &Machine,
) -> Result<Loader<Chunk>> {
    let (world, workers, device) = (machine.world.clone(), machine.workers, machine.device);
    let (photos, sampler, recipe, augment, size) = (photos.clone(), sampler.clone(), h.recipe(), h.augment, h.chunk);
    let seed = seed::named(h.seed, "augment");
    let count = parts(&sampler, h, machine) as u64;
    let each = if count > 1 { 2 * count } else { 1 };
    Loader::new(steps.start * each..steps.end * each, workers, workers + 1, move |place| {
        let (step, chunk) = (place / each, (place % each % count) as usize);
        let rows = sampler.batch(step);
        let own = world.shares(rows.len(), 1)?.own();
        let Some((first, mine)) = part(&rows[own.clone()], size, chunk) else { return Ok(None) };
        let mut pixels = vec![0_f32; mine.len() * recipe.len()];
        for (i, (&row, out)) in mine.iter().zip(pixels.chunks_exact_mut(recipe.len())).enumerate() {
            let item = (own.start + first + i) as u64;
            recipe.train(&*photos[row].source.image()?, augment, &mut seed::at(seed, step, item), out);
        }
        let side = i64::from(recipe.height);
        Ok(Some(stage(Tensor::from_slice(&pixels).view([mine.len() as i64, 3, side, side]), device)))
    })
}

/// How many chunks the largest share of a batch has.
fn parts(sampler: &FaceSampler, h: &Hyper, machine: &Machine) -> usize {
    sampler.most().div_ceil(machine.world.size()).div_ceil(h.chunk)
}

/// Part number `chunk` of a batch that is cut evenly into parts of at most `size`, with the place of its first row:
/// evenly, because batch normalisation has no variance of one row.
fn part(rows: &[usize], size: usize, chunk: usize) -> Option<(usize, &[usize])> {
    let parts = rows.len().div_ceil(size);
    let start = |part: usize| part * (rows.len() / parts) + part.min(rows.len() % parts);
    (chunk < parts).then(|| (start(chunk), &rows[start(chunk)..start(chunk + 1)]))
}

/// Published weights, all of them or an error; what a network for classification has beyond ours is passed over.
fn start_from(h: &Hyper, store: &VarStore) -> Result<()> {
    if let Some(file) = &h.weights {
        let path = Path::new(file);
        if h.net == Net::Googlenet {
            say(weights::load_googlenet(store, path)
                .context("--weights (scripts/fetch googlenet gets torchvision's)")?);
            return Ok(());
        }
        // A classifier's last layer has no part in an embedding.
        let rename = |name: &str| (!name.starts_with("logits.")).then(|| name.to_string());
        let read = weights::read(path).context("--weights (data/README.md says where published files are)")?;
        say(format!(
            "weights: {file} ({})",
            weights::load_into(store, path, read, rename, |_| true).context("--weights")?
        ));
    }
    Ok(())
}

/// Trains, or goes on training, in `at` on the set's training photos; returns the trained network.
fn train(h: &Hyper, set: &FaceSet, at: &Path, machine: &Machine) -> Result<(VarStore, Box<dyn Network>)> {
    let photos: Arc<[Photo]> = set.train.clone().into();
    let labels: Vec<i64> = photos.iter().map(|photo| photo.person).collect();
    machine.world.agree("--data (its training photos): give every process the same", &labels)?;
    let sampler = FaceSampler::new(&labels, h.people, h.faces, h.negatives, seed::named(h.seed, "sampler"));
    let sampler = Arc::new(sampler.with_context(|| too_few(h, &labels))?);
    let mut store = VarStore::new(machine.device);
    let net = network(h, &store)?;
    let mut optimizer = Optimizer::new(h.optimiser.rule(), 0., &store);
    let plan = Plan { paper: "facenet", at, machine, steps: h.steps, log_every: h.log_every };
    let begin = |store: &VarStore| start_from(h, store);
    let mut session = Session::open(plan, h, &mut store, &mut optimizer, begin)?;
    let most = sampler.most();
    let parts = parts(&sampler, h, machine);
    ensure!(
        parts == 1 || !machine.sync_batch_norm,
        "--sync-batch-norm: shares of {} faces come in {parts} chunks, which are not the same number everywhere: say --chunk {} or more, or more processes",
        most.div_ceil(machine.world.size()),
        most.div_ceil(machine.world.size())
    );
    let what = format!(
        "{} on {} ({} faces of {} people), {}, batches of up to {most}{}",
        h.net.name(),
        set.name,
        photos.len(),
        labels.iter().collect::<std::collections::BTreeSet<_>>().len(),
        machine.for_images(h.amp),
        if parts > 1 { format!(" in {parts} chunks") } else { String::new() }
    );
    if !session.announce(&what) {
        return Ok((store, net));
    }
    // Running statistics.
    let buffers: Vec<Tensor> = store.variables().into_values().filter(|x| !x.requires_grad()).collect();
    let mut loader = chunks(h, &photos, &sampler, session.start()..h.steps, machine)?;
    let gradients = Gradients::new(&machine.world, &store)?;
    if machine.device.is_cuda() {
        // Batches differ in their number of faces, and cuDNN would search for the fastest kernels at each.
        tch::Cuda::cudnn_set_benchmark(false);
    }
    for t in session.start()..h.steps {
        let labels = Tensor::from_slice(&sampler.identities(t));
        // Other rows drop out otherwise.
        let draw = (seed::named(h.seed, "dropout") ^ t).wrapping_add((machine.world.rank() as u64) << 32);
        let cut = cached::Chunks { count: parts, seed: draw, buffers: &buffers };
        let next = || -> Result<Option<Tensor>> {
            let chunk = loader.next().ok_or_else(|| anyhow!("the loader ended early"))??;
            Ok(chunk.map(|images| channels_last(&upload(&images, machine.device))))
        };
        let embed = |images: &Tensor| run::autocast(h.amp, machine.device, || net.forward(images, true)); // f(x)
        let rule = h.mining.negative(seed::named(h.seed, "mining") ^ t);
        optimizer.zero_grad();
        let (loss, tally, x) = cached::backward(&cut, next, embed, &gradients, |x| {
            let x = machine.world.gather(x, &machine.world.shares(labels.size()[0] as usize, 1)?)?; // of all processes
            // ‖f(a) - f(p)‖² - ‖f(a) - f(n)‖² + α over all pairs (Eq. 3), n by Eq. 4
            let tally = embedded::every_pair(&x, &labels, Metric::SquaredEuclidean, h.margin, rule);
            Ok((tally.mean(), (tally.mean().detach(), tally, x.detach())))
        })?;
        optimizer.step(h.rate(t), 0.9);

        let done = Done { step: t, loss: &loss, images: labels.size()[0], waited: loader.waited() };
        let line = || log_line(h, t, &loss, &tally, &x);
        session.after(done, line, &store, &optimizer, Vec::new)?;
    }
    Ok((store, net))
}

fn too_few(h: &Hyper, labels: &[i64]) -> String {
    let mut each = std::collections::BTreeMap::new();
    labels.iter().for_each(|label| *each.entry(label).or_insert(0) += 1);
    let enough = each.values().filter(|&&count| count > 1).count();
    format!(
        "{} has {enough} people with two or more training images and a batch takes {}: say --people {enough} or fewer",
        h.data, h.people
    )
}

/// The line of a logged step, all of it a function of flags, data and step, and what the watch reads.
fn log_line(h: &Hyper, t: u64, loss: &Tensor, tally: &Tally, x: &Tensor) -> (Value, Option<Reading>) {
    let line = stats::joined(stats::tally(t, loss, tally), json!({"lr": h.rate(t)}));
    let line = stats::joined(line, stats::batch(x, &Metric::SquaredEuclidean.matrix(x, x)));
    let reading = Reading::of(&line, h.margin);
    (line, Some(reading))
}

// ---- Sections 4 and 5: evaluation -------------------------------------------------------------------------------

/// Opens a set by name: `drawn`, or a folder.
fn open_named(data: &str) -> Result<FaceSet> {
    if data == "drawn" { Ok(datasets::drawn::faces()) } else { open_faces(Path::new(data)) }
}

/// Opens the set of a run: training faces of `--data`, test faces of `--test` or of `--data` itself.
fn open(h: &Hyper, for_training: bool) -> Result<FaceSet> {
    let mut set = open_named(&h.data)?;
    let exclude = h.exclude.as_deref().map(names).transpose().context("--exclude")?.unwrap_or_default();
    let known = h.names.as_deref().map(folder_names).transpose().context("--names")?.unwrap_or_default();
    if let Some(test) = &h.test {
        // All faces of --data train where another set tests.
        if set.layout == datasets::faces::FaceLayout::Tree {
            set.train.append(&mut set.test);
            set.notes.retain(|note| !note.contains("held out to test"));
        }
        set = set.tested_on(open_named(test)?.all_tested());
    }
    if !set.train.is_empty() {
        set = set.disjoint(&known, &exclude);
    }
    if for_training {
        ensure!(
            !set.train.is_empty(),
            "{} has no training faces ({}): train on other --data with --test {}, or reproduce --protocol lfw-no-outside-data",
            h.data,
            set.layout,
            h.data
        );
        set = set.pruned(h.min_images)?;
        check(set.photos())?;
        set.notes.iter().for_each(|note| say(format!("note: {note}")));
    } else {
        check(set.test.iter())?;
    }
    Ok(h.seen(set))
}

/// Everything the test faces show of a network: pairs, all pairs, recognition, clusters, the 128 bytes.
struct Found {
    scores: Vec<(String, f64)>,
    protocol: Vec<String>,
    judged: Option<Judged>,
    used: faces::Used,
}

fn score(set: &FaceSet, x: &Tensor, flags: &flags::Scoring, seed: u64) -> Result<Found> {
    let (mut scores, mut protocol, mut judged) = (Vec::new(), Vec::new(), None);
    if set.pairs.is_empty() && flags.variant.centres() {
        bail!(
            "--variant {}: {} has no list of pairs with folds: take plain or flip-averaged",
            flags.variant.name(),
            set.name
        );
    }
    if !set.pairs.is_empty() {
        let found = faces::judge(set, x, flags.variant, flags.far)?;
        scores.extend(found.scores("", flags.far));
        let thresholds: Vec<String> = found.folds.threshold.iter().map(|t| format!("{t:.2}")).collect();
        protocol.push(format!(
            "{} pairs in {} folds; the threshold of a fold is the best of 0, 0.01, ..., 3.99 on the others: {}",
            set.pairs.len(),
            set.folds,
            thresholds.join(" ")
        ));
        protocol.push(format!(
            "variant {}: a pair is the same where its squared distance is below the threshold",
            flags.variant.name()
        ));
        if flags.variant.centres() {
            protocol.push(
                "all pairs, recognition and clusters have no folds: there the mean of all test faces is subtracted"
                    .into(),
            );
        }
        match &found.val {
            Ok(_) => protocol.push(format!(
                "VAL: a fold's threshold is the largest at which the other folds' false accept rate is at most {}",
                flags.far
            )),
            Err(why) => protocol.push(format!("VAL at FAR {}: not computed: {why}", flags.far)),
        }
        // Section 5.4: "quantized to 128-bytes without loss of accuracy".
        let bytes = faces::judge(set, &through_bytes(x), flags.variant, flags.far)?;
        scores.push((format!("{} bytes a face: accuracy", x.size()[1]), bytes.folds.mean));
        if let Ok(val) = &bytes.val {
            scores.push((format!("{} bytes a face: VAL at FAR {}", x.size()[1], flags.far), val.val));
        }
        judged = Some(found);
    }
    let threshold = judged
        .as_ref()
        .map(|judged: &Judged| judged.folds.threshold.iter().sum::<f64>() / judged.folds.threshold.len().max(1) as f64);
    let used = faces::uses(set, &faces::centred(x, flags.variant), threshold, &flags.uses(seed));
    scores.extend(used.scores.iter().cloned());
    protocol.extend(used.protocol.iter().cloned());
    Ok(Found { scores, protocol, judged, used })
}

/// Unit rows of the test faces.
fn embed_test(h: &Hyper, set: &FaceSet, net: &dyn Network, variant: Variant, machine: &Machine) -> Result<Tensor> {
    Ok(normalize(&h.embedding(variant.flips(), machine).photos(net, &set.test, "embed")?))
}

/// Scores a run's network and writes `results.json` and `report.html`.
fn evaluate(
    at: &Path,
    h: &Hyper,
    set: &FaceSet,
    net: &dyn Network,
    step: u64,
    machine: &Machine,
    flags: &flags::Scoring,
) -> Result<Results> {
    ensure!(!set.test.is_empty(), "{} has no test faces: give other --data", set.name);
    let x = embed_test(h, set, net, flags.variant, machine)?; // by all processes, each a share
    let found = score(set, &x, flags, h.seed)?;
    let departures = h.departures().into_iter().chain(flags.departures()).collect();
    let results = Results {
        paper: "facenet".into(),
        citation: published::CITATION.into(),
        data: set.name.clone(),
        protocol: found.protocol.clone(),
        claims: published::claims(h, set, &found.scores),
        comparable: published::comparable(h, set, flags),
        scores: found.scores.clone(),
        departures,
        step,
    };
    if !machine.world.leads() {
        return Ok(results);
    }
    results.write(at)?;
    let mut report = Report::new("facenet", published::CITATION);
    report.facts(&h.facts(set, step, machine));
    report.table("Scores", "", &results.score_table());
    report.table(
        "Beside the paper",
        results.comparable.as_ref().err().map_or("", String::as_str),
        &results.claim_table(""),
    );
    report.list("Protocol", &results.protocol);
    report.list("Data", &set.notes);
    if at.join("log.jsonl").exists() {
        reid::curves(&mut report, at)?;
    }
    sections(&mut report, set, &found, flags)?;
    report.list("Departures from the paper", &results.departures);
    report.write(&at.join("report.html"))?;
    Ok(results)
}

/// The pictures of what was found.
fn sections(report: &mut Report, set: &FaceSet, found: &Found, flags: &flags::Scoring) -> Result<()> {
    if let Some(judged) = &found.judged {
        faces::verification_sections(report, judged, flags.far);
        faces::wrong_pairs(report, set, judged, 12)?;
    } else if let Some(pairs) = &found.used.pairs {
        let points = pairs.roc().iter().map(|point| (point.far, point.val)).collect();
        let series = run::report::Series { name: "ROC".into(), points };
        report.lines("ROC over all pairs of the test faces", "", "FAR", "VAL", &[series]);
    }
    if let Some(clusters) = &found.used.clusters {
        faces::cluster_strips(report, set, clusters)?;
    }
    Ok(())
}

// ---- The verbs --------------------------------------------------------------------------------------------------

/// A run from its folder.
fn load(at: &Path, machine: &Machine) -> Result<Trained<Hyper, Box<dyn Network>>> {
    session::load("facenet", at, machine, network)
}

/// TorchScript with named parameters, compared with this network before it counts as written.
fn export_run(at: &Path, h: &Hyper, store: &VarStore, net: &dyn Network) -> Result<PathBuf> {
    let path = at.join("model.pt");
    let side = i64::from(h.size);
    // Not zeros: a zero image has no direction before its normalisation.
    let example = Tensor::ones([2, 3, side, side], (Kind::Float, store.device())) * 0.5;
    let exported = export::torchscript(store, &|inputs: &[Tensor]| net.forward(&inputs[0], false), &[example], &path)?;
    print(exported)?;
    Ok(path)
}

fn run_verb(verb: flags::Verb) -> Result<()> {
    use flags::Verb;
    match verb {
        Verb::Train(args) => {
            let machine = args.machine.resolve_world()?;
            let h = args.hyper.resolve(args.hyper.scale(), &machine)?;
            let set = open(&h, true)?;
            let at = args.run.unwrap_or_else(|| h.folder());
            train(&h, &set, &at, &machine)?;
            print(format!("trained: {}\nnext: facenet evaluate --run {}", at.display(), at.display()))?;
        }
        Verb::Evaluate(args) => evaluate_verb(args)?,
        Verb::Embed(args) => {
            let machine = args.machine.resolve()?;
            let Trained { flags: h, network: net, store: _store, .. } = load(&args.run, &machine)?;
            embed::check_out(&args.out)?;
            let photos = datasets::folder(&args.images)?;
            check(photos.iter())?;
            let set = h.seen(FaceSet { test: photos, ..FaceSet::default() });
            let variant = if args.flip { Variant::FlipAveraged } else { Variant::Plain };
            let x = embed_test(&h, &set, &*net, variant, &machine)?;
            let names: Vec<&str> = set.test.iter().map(|photo| photo.name.as_str()).collect();
            embed::write(&args.out, &names, x)?;
            print(format!("{} embeddings of width {}: {}", names.len(), net.width(), args.out.display()))?;
        }
        Verb::Export(args) => {
            let machine = args.machine.resolve()?;
            let Trained { flags: h, network: net, store, .. } = load(&args.run, &machine)?;
            print(format!("model:   {}", export_run(&args.run, &h, &store, &*net)?.display()))?;
        }
        Verb::Data(args) => {
            let card = card::Card::of_faces(&open_named(&args.data)?);
            print(&card)?;
            if let Some(out) = args.out {
                files::write_atomic(&out, serde_json::to_string_pretty(&card)?.as_bytes())?;
            }
        }
        Verb::Reproduce(args) => {
            let machine = args.machine.resolve()?;
            args.scoring.check()?;
            if args.protocol.is_some() {
                return lfw::reproduce(&args, &machine);
            }
            if let Some(table) = args.table {
                return tables::reproduce(table, &args, &machine);
            }
            let h = args.hyper.resolve(args.hyper.scale(), &machine)?;
            let set = open(&h, true)?;
            ensure!(!set.test.is_empty(), "{} has no test faces: say --test DIR", h.data);
            let at = args.run.clone().unwrap_or_else(|| h.folder());
            let (store, net) = train(&h, &set, &at, &machine)?;
            let results = evaluate(&at, &h, &set, &*net, h.steps, &machine, &args.scoring)?;
            let model = export_run(&at, &h, &store, &*net)?;
            results.show(&at, "")?;
            baselines::beside(&h, &set, &results, &args.scoring, &machine)?;
            print(format!("model:   {}", model.display()))?;
        }
    }
    Ok(())
}

fn evaluate_verb(args: flags::Evaluate) -> Result<()> {
    args.scoring.check()?;
    let machine = args.machine.resolve_world()?;
    if args.crop.is_some_and(|crop| !(0.1..=1.).contains(&crop)) {
        bail!("--crop: say a share from 0.1 to 1");
    }
    let Some(mut at) = args.run else {
        let view = rankle::transform::View { crop: args.crop.unwrap_or(1.), ..rankle::transform::View::WHOLE };
        let set = open_named(&args.data.unwrap_or_default())?;
        check(set.test.iter())?;
        let (set, far) = (set.through(view), args.scoring.far);
        return baselines::table(&set, &baselines::judge(&set, far)?, far, Vec::new());
    };
    let Trained { flags: mut h, mut store, network: mut net, mut step, .. } = load(&at, &machine)?;
    h.crop = args.crop.unwrap_or(h.crop);
    let other = args.data.is_some();
    if let Some(data) = args.data {
        // The run keeps the scores of its own data.
        let name =
            Path::new(&data).file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().to_string());
        at = at.join(format!("on-{name}"));
        (h.data, h.test, h.exclude, h.names) = (data, None, None, None);
    }
    let set = match h.fold {
        Some(_) => {
            bail!("{} is one fold of lfw-no-outside-data: score all with facenet reproduce --protocol", at.display())
        }
        None if other => {
            let set = open_named(&h.data)?.all_tested();
            check(set.test.iter())?;
            h.seen(set)
        }
        None => open(&h, false)?,
    };
    if args.untrained {
        // The run's network as training found it: same seed, same weights from outside.
        store = VarStore::new(machine.device);
        net = network(&h, &store)?;
        step = 0;
        start_from(&h, &store)?;
        at = at.join("untrained");
    }
    std::fs::create_dir_all(&at).with_context(|| format!("cannot write {}", at.display()))?;
    evaluate(&at, &h, &set, &*net, step, &machine, &args.scoring)?.show(&at, "")?;
    drop(store);
    Ok(())
}

fn main() -> std::process::ExitCode {
    let cli = flags::Cli::parse();
    rankle::paper::main(|| run_verb(cli.verb))
}
