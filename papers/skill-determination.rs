//! Who's Better? Who's Best? Pairwise Deep Ranking for Skill Determination.
//! H. Doughty, D. Damen, W. Mayol-Cuevas. CVPR 2018, arXiv 1703.09913.
//!
//! ```text
//! cargo run --release --bin skill-determination -- train --data data/epic-skills --task drawing --weights data/weights/alexnet-owt-7be5be79.pth
//! cargo run --release --bin skill-determination -- evaluate --run data/runs/skill-determination/drawing-alexnet-rank3-1
//! ```
//!
//! should reach, with both streams fused (Table 2): surgery 70.2, dough 79.4, drawing 83.2, chopsticks 71.5 % of pairs
//! in the right order. What it did reach, on which data, stands in papers/skill-determination.md.

use std::ops::Range;

use rankle::datasets::skills::SkillSet;
use rankle::losses::skill;
use rankle::models::{AlexNet, Prepared};
use rankle::paper::{self, prelude::*};
use rankle::run::cached;
use rankle::tasks::skill::{
    self as task, Inputs, Material, PairBatches, Part, RankFlags, Sample, Scorer, SkillData, VideoScores, samples,
};
use rankle::video::snippet::{Crops, Stream};
use rankle::{say, schedule::Stairs, seed, tasks::bare, transfer::upload};

// ---- Hyperparameters: the default and the place are the paper's ------------------------------------

/// The rows of Table 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Loss {
    /// L_rank1: whole videos (Eq. 3)
    Rank1,
    /// L_rank2: split against split (Eq. 5)
    Rank2,
    /// L_rank3: splits, and similar pairs (Eq. 8)
    Rank3,
}
use Loss::{Rank1, Rank2, Rank3};
use Scorer::{Alexnet, BnInception, Features, Small};
use Stream::{Spatial, Temporal};

/// Lists of two numbers are of the spatial and the temporal stream.
#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flags {
    /// EPIC-Skills' folder, any folder of its layout, or drawn for the built-in set
    #[arg(long, value_name = "DIR|drawn", default_value = "data/epic-skills", value_parser = bare, add = Ours, help_heading = Heading::Data)]
    data: String,
    /// Which of its sets: surgery, dough, drawing or chopsticks, the columns of Table 2
    #[arg(long, value_name = "NAME", add = Ours)]
    task: Option<String>,
    /// Backbone
    #[arg(long, value_enum, default_value_t = Alexnet, add = At("the paper"), help_heading = Heading::Network)]
    net: Scorer,
    /// ImageNet weights for both streams, torchvision's alexnet or Cadene's bn_inception as .pth or .safetensors, or none
    #[arg(long, value_name = "FILE|none", add = Says("the paper", "ImageNet"))]
    weights: Option<String>,
    /// Dropout, spatial then temporal
    #[arg(long, value_name = "S,T", value_delimiter = ',', default_value = "0.5,0.5", value_parser = within(0. ..=0.99), add = At("the paper"))]
    dropout: Vec<f64>,
    /// Streams to train, fused where they are both
    #[arg(long, value_enum, value_delimiter = ',', default_value = "spatial,temporal", add = Ours)]
    streams: Vec<Stream>,
    /// Side of the input in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = within(16..=1024_u32), add = At("the paper"))]
    side: u32,
    /// Loss
    #[arg(long, value_enum, default_value_t = Rank3, add = At("Table 2"), help_heading = Heading::Loss)]
    loss: Loss,
    /// Margin m
    #[arg(long, default_value_t = 1., value_parser = within(0. ..=1e6), add = At("Eq. 3, 5 and 7"))]
    margin: f64,
    /// Weight of L_rank2 against L_sim in rank3
    #[arg(long, default_value_t = 0.5, value_parser = within(0. ..=1.), add = At("Eq. 8"))]
    beta: f64,
    /// N, uniform splits of a video; rank1 trains on whole videos, and only its reports have splits
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = within(1..=1000_usize), add = At("Eq. 5"))]
    splits: usize,
    /// Segments of a clip, a snippet each
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = within(1..=100_usize), add = At("the paper"))]
    segments: usize,
    /// Folds to train and test, all where it is not given
    #[arg(long, add = Ours, help_heading = Heading::Batches, value_name = "K,K", value_delimiter = ',')]
    folds: Option<Vec<usize>>,
    /// Pairs of clips a batch
    #[arg(long, default_value_t = 128, value_parser = within(1..=65_536_usize), add = At("the paper"))]
    batch: usize,
    /// Pairs of clips in one pass through the network (of each process), by itself the batch: fewer take less memory; the gradient is the same but for batch normalisation, which sees a pass
    #[arg(long, value_name = "PAIRS", value_parser = within(1..=65_536_usize), add = Ours)]
    chunk: Option<usize>,
    /// Scales of the random crops, as shares of a frame's shorter side
    #[arg(long, value_name = "X,X", value_delimiter = ',', default_value = "1,0.875,0.75,0.66", value_parser = within(0.1..=1.), add = At("temporal segment networks"))]
    scales: Vec<f64>,
    /// Train on central crops, without mirroring
    #[arg(long, add = Says("the paper", "corner crops, scale jitter and mirroring"))]
    no_augment: bool,
    /// Learning rate of the spatial stream
    #[arg(long, add = At("the paper"), help_heading = Heading::Optimisation, value_name = "RATE", default_value_t = 1e-3, value_parser = positive)]
    lr_spatial: f64,
    /// Learning rate of the temporal stream
    #[arg(long, value_name = "RATE", default_value_t = 5e-3, value_parser = positive, add = At("the paper"))]
    lr_temporal: f64,
    /// Steps of the spatial stream
    #[arg(long, value_name = "STEPS", default_value_t = STEPS[0], value_parser = count, add = At("the paper"))]
    steps_spatial: u64,
    /// Steps of the temporal stream
    #[arg(long, value_name = "STEPS", default_value_t = STEPS[1], value_parser = count, add = At("the paper"))]
    steps_temporal: u64,
    /// Where the spatial rate falls to a tenth; moved with --steps-spatial
    #[arg(long, value_name = "STEP,STEP", value_delimiter = ',', add = At("the paper"))]
    decay_spatial: Vec<u64>,
    /// Where the temporal rate falls to a tenth; moved with --steps-temporal
    #[arg(long, value_name = "STEP,STEP", value_delimiter = ',', add = At("the paper"))]
    decay_temporal: Vec<u64>,
    /// L2 weight decay
    #[arg(long, default_value_t = 5e-4, value_parser = within(0. ..=0.999), add = At("temporal segment networks"))]
    weight_decay: f64,
}

impl Hyper for Flags {
    const AXES: &'static [&'static str] = &["net", "loss"];
    const LENGTH: &'static [&'static str] = &["steps-spatial", "steps-temporal"];
    const NAMED: &'static [&'static str] = &["task|data", "net", "loss", "seed"];
    const PRESETS: &'static [fn(&mut Flags)] = &[
        |h| {
            if h.data == "drawn" {
                (h.net, h.batch, h.scales) = (Small, 32, vec![1., 0.8]);
                (h.lr_spatial, h.lr_temporal, h.steps_spatial, h.steps_temporal) = (0.02, 0.02, 120, 120);
            }
        },
        |h| when(h.net == BnInception, || h.dropout = vec![0.8, 0.7]), // the first version's
        |h| when(h.data == "drawn", || h.side = if h.net == Small { 32 } else { 64 }),
        |h| {
            let drawn = h.data == "drawn";
            let moved = |at: &[u64], of: u64, steps: u64| match drawn {
                true => vec![steps * 3 / 4],
                false => at.iter().map(|at| at * steps / of).collect(),
            };
            h.decay_spatial = moved(&[1_500, 3_000], STEPS[0], h.steps_spatial);
            h.decay_temporal = moved(&[10_000, 16_000], STEPS[1], h.steps_temporal);
            h.chunk = Some(h.batch);
        },
    ];
    const IDLE: &'static [Idle<Flags>] = &[
        (&["beta"], |h| h.loss == Rank3),
        (&["lr-spatial", "steps-spatial", "decay-spatial"], |h| h.streams.contains(&Spatial)),
        (&["lr-temporal", "steps-temporal", "decay-temporal"], |h| h.streams.contains(&Temporal)),
        (&["side", "scales", "no-augment"], |h| h.net != Features),
        (&["scales"], |h| !h.no_augment),
        (&["alpha"], |h| h.streams.len() == 2),
    ];

    fn weights(&self) -> Weights {
        match self.net {
            Alexnet => Weights::Must(Published::ALEXNET),
            BnInception => Weights::Must(Published::BN_INCEPTION),
            Small | Features => Weights::None,
        }
    }

    fn check(&self) -> Result<()> {
        let (own, drawn) = (self.net, self.data == "drawn");
        let known = [&[Spatial][..], &[Temporal], &[Spatial, Temporal]].contains(&&self.streams[..]);
        ensure!(known, "--streams: say spatial, temporal or spatial,temporal");
        ensure!(self.dropout.len() == 2, "--dropout: say two numbers, spatial and temporal, e.g. 0.5,0.5");
        let chunk = self.chunk.unwrap_or(self.batch);
        ensure!(chunk <= self.batch, "--chunk {chunk}: it is larger than the batch: leave it out");
        let (side, least) = (i64::from(self.side), AlexNet::LEAST);
        let fits = (own != Alexnet || side >= least) && (own != BnInception || side % 32 == 0);
        ensure!(fits, "--side {side}: alexnet takes {least} pixels or more, bn-inception a multiple of 32");
        ensure!(!drawn || self.task.is_none(), "--task: drawn hands are one task: leave it out");
        ensure!(!drawn || own != Features, "--net features: drawn videos have no ready-made features: say --net small");
        Ok(())
    }
}

impl Flags {
    fn inputs(&self) -> Inputs {
        let crops = (self.net != Features).then(|| Crops { side: self.side, scales: self.scales.clone() });
        Inputs { streams: self.streams.clone(), crops, augment: !self.no_augment }
    }
}

/// How videos are scored.
#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scoring {
    /// Snippets, spread uniformly over a video, that its score is the mean of
    #[arg(long, default_value_t = 25, value_parser = within(1..=1000_usize), add = At("Eq. 9"), help_heading = Heading::Embedding)]
    sigma: usize,
    /// Weight of the spatial stream in the fusion of both
    #[arg(long, default_value_t = 0.4, value_parser = within(0. ..=1.), add = At("Eq. 9"), help_heading = Heading::Scoring)]
    alpha: f64,
    /// The networks of this fold alone; 0 is all of them, of which embed and export take the first
    #[arg(long, value_name = "K", default_value_t = 0, add = At("the paper"), help_heading = Heading::Export)]
    fold: usize,
}

// ---- Section 3: the losses ----------------------------------------------------------------------------------------

/// The terms of clips with scores `a` and `b` `[B]`; where `similar` is false, `a` is the better.
fn terms(h: &Flags, a: &Tensor, b: &Tensor, similar: &Tensor) -> Tally {
    match h.loss {
        Rank1 => skill::rank(a, b, h.margin),        // Eq. 3, on whole videos
        Rank2 => skill::rank_splits(a, b, h.margin), // Eq. 5, on splits
        Rank3 => skill::rank_and_similarity(a, b, similar, h.margin, h.beta), // Eq. 8
    }
}

/// What a fold's batches are drawn from: Ψ, or Ψ × N splits, or both Ψ and Φ × N splits.
fn fold_samples(h: &Flags, set: &SkillSet, fold: usize) -> Vec<Sample> {
    let (strict, similar) = (&set.folds[fold].train, &set.folds[fold].similar);
    let similar = if h.loss == Rank3 { &similar[..] } else { &[] };
    samples(strict, similar, if h.loss == Rank1 { 1 } else { h.splits })
}

struct SkillDetermination;

/// A score of both streams fused and of each.
macro_rules! of_streams {
    ($what:literal) => {
        &[concat!("fused, ", $what), concat!("spatial, ", $what), concat!("temporal, ", $what)]
    };
}

impl Paper for SkillDetermination {
    const NAME: &'static str = "skill-determination";
    const CITATION: &'static str = "Doughty, Damen, Mayol-Cuevas: Who's Better? Who's Best? Pairwise Deep Ranking for Skill Determination, CVPR 2018, arXiv 1703.09913";
    const TRAIN: &'static str = " --task drawing";
    const START: &'static [(&'static str, &'static str)] =
        &[("Table 1", "data --data data/epic-skills"), ("Your videos", "rank --run DIR --videos FOLDER")];
    const NOTE: &'static str = "Videos of a data set lie in DIR/videos/TASK/ (films, or folders of pictures as scripts/convert \
        frames makes them), with a video's name as a part of theirs; TASK is a folder of DIR/annotations. flow writes \
        DIR/flow/TASK/VIDEO/. Ready-made features: DIR/features/STREAM/TASK/VIDEO.safetensors. See data/README.md.";
    const BRINGS: Brings = Brings::Videos;
    const OWN: &'static [Own] = &[
        (
            "rank",
            "Who's best: the ranking of a folder of videos with a score for each split",
            RankFlags::<Scoring>::augment_args,
            |of| rank(&RankFlags::from_arg_matches(of)?, &hyper::typed::<Scoring>(of)?),
        ),
        task::FLOW,
    ];
    const DEPARTURES: &'static [&'static str] =
        &["a batch's number counts (pair, split) samples, and the loss is the mean over them; the paper writes sums"];
    #[rustfmt::skip] // a line a sentence
    const DEPARTURES_WHERE: &'static [Departure<Flags>] = &[
        (|h| h.net == Alexnet, "AlexNet is torchvision's (one tower, no local response normalisation), not Caffe's"),
        (|h| h.net == Alexnet, "dropout stands before fc6 and fc7, as in torchvision's AlexNet; Caffe's has it behind them"),
        (|h| h.net == BnInception, "BN-Inception trains with the running statistics of all its batch normalisations but the first"),
        (|h| h.net == Small, "--net small (the paper: alexnet)"),
        (|h| h.net == Features, "--net features (the paper: alexnet)"),
        (|h| h.loss == Rank3, "strict and similar samples are shuffled together, weighted beta and 1 - beta"),
        (|h| h.loss == Rank3, "similar pairs to train on are those whose two videos are both training videos of the fold"),
        (|h| hyper::file(h.weights.as_deref()).is_some() && h.streams.contains(&Temporal), "the temporal stream starts from ImageNet weights with its first layer averaged over the colours (temporal segment networks'; the paper does not say)"),
        (|h| h.weights() != Weights::None, "weight decay 5e-4, crop scales 1, 0.875, 0.75, 0.66 (there of the RGB stream; the flow stream lacks the last) and flow cut off at 20 pixels are temporal segment networks' defaults; the paper names none; their windows have 13 places and here 5 (corners and centre), their multipliers of rates and decays by layer are not used, gradients are not clipped"),
        (|h| h.net != Features, "a test snippet is its centre crop: the paper does not say whether it took ten"),
        (|h| h.net != Features && !h.no_augment, "all snippets of a clip share one random window"),
        (|h| h.net != Features && h.data != "drawn", "frames are taken at the video's own rate; the paper names none"),
        (|h| h.net != Features && h.data != "drawn" && h.streams.contains(&Temporal), "flow is this library's TV-L1, or whatever flow lies beside the frames"),
    ];
    const UNLIKE: &'static [Unlike<Self>] = &[
        (|h, _| h.net == BnInception && h.loss == Rank3, "the first version, which has BN-Inception, has no L_rank3"),
        (|h, _| h.folds.is_some(), "the paper pools all four folds: train without --folds"),
    ];
    type Hyper = Flags;
    type Scoring = Scoring;
    type Data = SkillData;
    /// A network's inputs, by stream.
    type Shape = Vec<(Stream, i64)>;
    type Net = Prepared;

    fn open(h: &Flags, _: u64) -> Result<SkillData> {
        SkillData::open(&h.data, h.task.as_deref(), h.inputs())
    }

    fn shape(h: &Flags, data: &SkillData) -> Result<Vec<(Stream, i64)>> {
        h.streams.iter().map(|&stream| Ok((stream, data.material(stream)?.inputs()))).collect()
    }

    /// Each stream of each fold is a training of its own.
    fn parts(h: &Flags, data: &SkillData) -> Result<Vec<String>> {
        let folds = data.set()?.chosen(h.folds.as_deref()).map_err(hyper::usage)?.into_iter();
        Ok(folds.flat_map(|fold| h.streams.iter().map(move |&stream| Part { fold, stream }.to_string())).collect())
    }

    // ---- The network: f, a snippet to a score; siamese, both videos of a pair go through it -----------------------

    fn network(h: &Flags, shape: &Self::Shape, part: &str, store: &VarStore, run: &Run) -> Result<Prepared> {
        let Part { stream, .. } = part.parse()?;
        let &(_, inputs) = shape.iter().find(|(known, _)| *known == stream).context("a stream of this run")?;
        let at = Scope::root(store, run.seed(stream.name()));
        Ok(h.net.build(&at, inputs, stream, h.dropout[stream as usize]))
    }

    // ---- Training -------------------------------------------------------------------------------------------------

    fn plan(h: &Flags, data: &SkillData, part: &str, _: &Run) -> Result<Plan> {
        let (Part { fold, stream }, set) = (part.parse()?, data.set()?);
        let samples = fold_samples(h, set, fold).len();
        ensure!(samples > 0, "fold {} of {} has no pairs to train on", fold + 1, set.name);
        let steps = if stream == Spatial { h.steps_spatial } else { h.steps_temporal };
        Ok(Plan { steps, rule: Rule::Sgd { momentum: 0.9 }, weight_decay: h.weight_decay })
    }

    fn train(h: &Flags, data: &SkillData, part: &str, net: &Prepared, session: &mut Session, run: &Run) -> Result<()> {
        let Part { fold, stream } = part.parse()?;
        let rate = match stream {
            Spatial => Stairs { base: h.lr_spatial, at: h.decay_spatial.clone() },
            Temporal => Stairs { base: h.lr_temporal, at: h.decay_temporal.clone() },
        };
        // Of several processes each scores a share of a batch's pairs, all in as many passes.
        let shares = run.world().shares(h.batch, 1)?;
        let chunk = h.chunk.unwrap_or(h.batch);
        let unequal = || format!("--chunk {chunk}: processes have unequal shares of --batch {}: say more", h.batch);
        let passes = shares.passes(chunk).with_context(unequal)?;
        let key = seed::named(run.seed(stream.name()), &format!("fold {fold}"));
        let (workers, device) = (run.machine.workers, run.machine.device);
        let batches = PairBatches { batch: h.batch, segments: h.segments, seed: key, workers, device };
        let samples = fold_samples(h, data.set()?, fold).into();
        let mut loader = batches.load(data.material(stream)?, samples, session.steps(), shares.own())?;
        while let Some(batch) = loader.next() {
            let batch = batch?;
            let t = batch.step;
            let similar = upload(&batch.similar, device);
            let terms_of = |f: &Tensor, rows: &Range<usize>| {
                let [a, b] = [0, 1].map(|side| f.select(1, side).contiguous()); // f(p_i), f(p_j)
                terms(h, &a, &b, &similar.narrow(0, rows.start as i64, rows.len() as i64))
            };
            let scores = |rows: &Range<usize>| batch.scores(net, rows, seed::mix(key ^ t), run);
            let loss = |f: &Tensor, rows: &Range<usize>| terms_of(f, rows).sum() / h.batch as f64;
            session.zero_grad();
            let f = cached::backward_apart(&passes, scores, session.gradients(), loss)?;
            session.step(rate.rate(t));
            let f = run.world().gather(&f, &shares)?; // of all processes
            let tally = terms_of(&f, &(0..h.batch));
            let (loss, images) = (tally.mean(), (2 * h.batch * h.segments) as i64);
            session.after(Done { step: t, loss: &loss, images, waited: loader.waited() }, || {
                let line = stats::tally(t, &loss, &tally, json!({"lr": rate.rate(t)}));
                (stats::joined(line, task::order(&f, &similar)), None)
            })?;
        }
        Ok(())
    }

    // ---- Evaluation -----------------------------------------------------------------------------------------------

    fn evaluate(h: &Flags, data: &SkillData, nets: &Nets<'_, Self>, how: &Scoring, run: &Run) -> Result<Evaluation> {
        data.fits(nets.shape)?;
        let set = data.set()?;
        let only = (how.fold > 0).then(|| vec![how.fold]).or_else(|| h.folds.clone());
        let folds = set.chosen(only.as_deref()).map_err(hyper::usage)?;
        ensure!(folds.iter().any(|&fold| !set.folds[fold].test.is_empty()), "{} has no test pairs", set.name);
        let scored = VideoScores::new(&folds, &h.streams, |part| score(nets, part, data.material(part.stream)?, how))?;
        scored.evaluation(data, how.sigma, how.alpha, h.splits, h.margin, run)
    }

    fn embed(h: &Flags, nets: &Nets<'_, Self>, of: &Brought, how: &Scoring, _: &Run) -> Result<Rows> {
        let (names, materials) = task::brought(&of.paths[0].to_string_lossy(), &h.inputs())?;
        let of = |(stream, material): &(Stream, Material)| {
            let rows = score(nets, first(h, how, *stream), material, how)?;
            Ok((stream.name().to_string(), Tensor::from_slice2(&rows).to_kind(Kind::Float)))
        };
        let what = format!("{} of {}", say::count(how.sigma, "snippet score"), say::count(names.len(), "video"));
        Ok(Rows { tensors: materials.iter().map(of).collect::<Result<_>>()?, names, what, ..Rows::default() })
    }

    fn modules(h: &Flags, how: &Scoring) -> Result<Vec<(String, String)>> {
        let of = |&stream: &Stream| (first(h, how, stream).to_string(), format!("model-{}.pt", stream.name()));
        Ok(h.streams.iter().map(of).collect())
    }

    fn about(h: &Flags, shape: &Self::Shape, part: &str, _: &Scoring) -> About {
        let of =
            |&(stream, inputs): &_| About::snippets(stream, h.inputs().crops.as_ref(), inputs, "a snippet's score");
        let own = part.parse::<Part>().ok().map(|part| part.stream);
        shape.iter().find(|(stream, _)| Some(*stream) == own).map_or_else(|| About::features(1, ""), of)
    }

    // ---- The paper's numbers --------------------------------------------------------------------------------------

    #[rustfmt::skip]
    const CLAIMS: &'static [Claims<Flags, Scoring>] = &[
        Claims {
            unit: 100., columns: SETS, metrics: &["spatial", "temporal", "fused"],
            rows: &[
                ("Table 2", "", |h, _| h.loss = Rank1, &[&[64.7, 72.8, 69.1], &[77.6, 79.4, 78.5], &[75.6, 77.4, 78.0], &[67.2, 67.9, 68.8]]),
                ("Table 2", "", |h, _| h.loss = Rank2, &[&[64.4, 73.3, 69.0], &[79.1, 80.4, 78.5], &[74.9, 81.8, 79.1], &[67.2, 69.9, 68.8]]),
                ("Table 2", "", as_usual, &[&[66.4, 72.5, 70.2], &[79.5, 79.5, 79.4], &[77.6, 82.7, 83.2], &[70.8, 70.6, 71.5]]),
                (V1, "", |h, _| (h.net, h.loss) = (BnInception, Rank1), &[&[66.5, 74.4], &[73.9, 76.7], &[75.6, 76.5], &[67.7, 67.4]]),
                (V1, "", |h, _| (h.net, h.loss) = (BnInception, Rank2), &[&[66.5, 75.3], &[77.0, 76.1], &[76.7, 79.0], &[66.8, 69.8]]),
            ],
        },
        Claims {
            unit: 100., columns: SETS,
            metrics: &["0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1"],
            rows: &[
                ("Fig. 4 (its curve)", "fused, alpha", as_usual, &[
                    &[72.5, 72.3, 71.4, 70.6, 70.2, 69.4, 68.6, 68.6, 68.0, 67.6, 66.4],
                    &[79.4, 78.2, 78.2, 77.8, 79.4, 79.7, 79.4, 80.0, 79.7, 80.0, 79.1],
                    &[82.7, 82.7, 82.7, 82.5, 83.2, 82.5, 82.5, 82.1, 80.7, 78.9, 77.6],
                    &[70.7, 71.2, 71.5, 71.3, 71.5, 71.2, 71.3, 71.6, 71.3, 71.2, 70.9],
                ]),
            ],
        },
        Claims {
            unit: 100., columns: SETS, metrics: &["1", "3", "5", "10", "15", "20", "25"],
            rows: &[
                ("Fig. 5 (its curve)", "fused, snippets from the start:", as_usual, &[
                    &[59.1, 66.4, 68.6, 70.0, f64::NAN, 70.4, 70.2],
                    &[68.9, 73.9, 75.7, 80.3, 79.3, 80.3, 79.4],
                    &[77.1, 80.3, 82.7, 83.9, 83.5, 83.6, 83.2],
                    &[60.7, 64.2, 66.0, 66.5, 69.2, 70.7, 71.5],
                ]),
                ("Fig. 5 (its curve)", "fused, snippets from the end:", as_usual, &[
                    &[62.2, 63.5, 65.0, 68.1, 69.5, 69.6, 70.2],
                    &[67.6, 73.6, 76.9, 78.8, 79.4, 79.7, 79.4],
                    &[73.1, 78.5, 81.2, 82.1, 82.7, 82.5, 83.2],
                    &[72.8, 68.3, 74.0, 74.6, 73.9, 72.8, 71.5],
                ]),
                ("Fig. 5 (its curve)", "fused, snippets at random:", as_usual, &[
                    &[63.0, 67.8, 67.4, 69.7, 70.7, 70.5, 70.2],
                    &[72.7, 73.9, 76.0, 80.3, 79.1, 80.3, 79.4],
                    &[78.0, 81.4, 82.3, 83.2, 83.2, 83.0, 83.2],
                    &[68.7, 71.3, 69.5, 71.0, 71.9, 71.6, 71.5],
                ]),
            ],
        },
        Claims {
            unit: 100., columns: SETS,
            metrics: &["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18"],
            rows: &[
                ("Fig. 6 (its bars)", "fused, separation", as_usual, &[
                    &[52.8, 57.6, 60.1, 59.5, 69.2, 71.3, 78.6, 82.3, 85.4, 91.6, 92.9, 91.9, 94.2, 96.6, 93.8, 100.],
                    &[64.5, 80.0, 79.5, 83.8, 91.7, 91.7, 95.0, 100., 93.3, 100.],
                    &[73.7, 81.7, 93.3, 100., 100., 100.],
                    &[53.0, 52.8, 59.0, 68.2, 66.2, 75.0, 76.6, 84.6, 83.3, 80.0, 81.4, 87.5, 92.6, 96.2, 100., 100., 100., 100.],
                ]),
            ],
        },
    ];

    #[rustfmt::skip]
    const STUDIES: &'static [Study<Flags, Scoring>] = &[Study {
        name: "2",
        title: "Table 2: the losses, test pairs pooled over the folds",
        rows: &[
            ("L_rank1", |h, _| h.loss = Rank1, &[]),
            ("L_rank2", |h, _| h.loss = Rank2, &[]),
            ("L_rank3", |h, _| h.loss = Rank3, &[]),
        ],
        sheets: &[
            Sheet { digits: 1, ..Sheet::of(
                "Pairs in the right order, % (single splits one by one, Eq. 5), and held-out similar pairs within the margin, % (Eq. 6)",
                &[
                    ("spatial", &["spatial"]), ("temporal", &["temporal"]), ("fused", &["fused"]),
                    ("single splits", of_streams!("single splits")),
                    ("similar within m", of_streams!("similar pairs within the margin")),
                ],
            ) },
            Sheet { unit: 1., digits: 3, ..Sheet::of(
                "Mean distance of held-out similar pairs in units of the strict pairs' (less is better)",
                &[("gap of similar pairs", of_streams!("gap of similar pairs"))],
            ) },
        ],
        ..Study::PLAIN
    }];
}

const STEPS: [u64; 2] = [3_500, 18_000]; // the paper's, of the spatial and of the temporal stream
const V1: &str = "Table 2 of the first version"; // whose fusion has another alpha a set
/// The tasks of EPIC-Skills, the columns of Table 2 and the panels of Figures 4 to 6.
const SETS: &[Column<Flags, Scoring>] =
    &[("surgery", "", as_usual), ("dough", "", as_usual), ("drawing", "", as_usual), ("chopsticks", "", as_usual)];

// ---- Videos that a user brings ------------------------------------------------------------------------------------

/// Of several folds the one that is embedded with and exported.
fn first(h: &Flags, how: &Scoring, stream: Stream) -> Part {
    let first = h.folds.as_ref().and_then(|folds| folds.first().copied()).unwrap_or(1);
    Part { fold: if how.fold > 0 { how.fold } else { first } - 1, stream }
}

/// The scores of the snippets of all videos by one part's network.
fn score(nets: &Nets<'_, SkillDetermination>, part: Part, of: &Material, how: &Scoring) -> Result<Vec<Vec<f64>>> {
    let part = part.to_string();
    task::score(&nets.part(&part)?.net, of, how.sigma, nets.run, &part.replace('-', " "))
}

/// Who's best: all videos by descending f(p), each with its splits' scores.
fn rank(args: &RankFlags<Scoring>, typed: &hyper::FlagValues) -> Result<()> {
    paper::with_run(&args.run, args.machine.resolve()?, |nets| ranking(nets, args, typed))
}

fn ranking(nets: &Nets<'_, SkillDetermination>, args: &RankFlags<Scoring>, typed: &hyper::FlagValues) -> Result<()> {
    let (h, how) = (&nets.h.own, &args.how);
    hyper::refuse_idle(h, typed, hyper::Typed::Before).map_err(hyper::usage)?;
    let out = task::held(args.out.as_deref())?;
    let (names, materials) = task::brought(&args.videos, &h.inputs())?;
    if args.videos != "drawn" {
        nets.say_drawn();
    }
    // A fold that lacks a trained stream is said and left out.
    let has = |&fold: &usize| h.streams.iter().filter(|&&stream| nets.has(&Part { fold, stream }.to_string())).count();
    let folds: Vec<usize> = match (how.fold, &h.folds) {
        (0, Some(folds)) => folds.iter().map(|fold| fold - 1).collect(),
        (0, None) => task::folds(&nets.parts()),
        (fold, _) => vec![fold - 1],
    };
    let (whole, part): (Vec<_>, Vec<_>) = folds.into_iter().partition(|fold| has(fold) == h.streams.len());
    ensure!(!whole.is_empty(), task::no_fold(&args.run, &nets.parts(), |fold| has(fold) == h.streams.len()));
    part.iter().for_each(|fold| say::say(format!("note: fold {} lacks a trained stream and is left out", fold + 1)));
    let scored = VideoScores::new(&whole, &h.streams, |part| {
        let (_, of) = materials.iter().find(|(stream, _)| *stream == part.stream).context("a stream")?;
        score(nets, part, of, how)
    })?;
    task::announce(&names, &scored.ranking(how.alpha), h.splits, out.as_ref().map(|(out, _)| &**out))
}

rankle::program!(SkillDetermination);
