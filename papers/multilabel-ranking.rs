//! Improving Pairwise Ranking for Multi-label Image Classification.
//! Y. Li, Y. Song, J. Luo. CVPR 2017, arXiv 1704.03135.
//!
//! ```text
//! cargo run --release --bin multilabel-ranking -- train --data data/VOC2007 --weights data/weights/vgg16-397923af.pth
//! cargo run --release --bin multilabel-ranking -- evaluate --run data/runs/multilabel-ranking/VOC2007-vgg16-lsep-1
//! ```
//!
//! The paper's text was not at hand, its result tables least of all, and no remembered number is shown in their place.
//! Losses, heads, decisions and metrics are those of the authors' published program; VGG16 from ImageNet weights, SGD
//! with momentum 0.9, rate 0.001 and weight decay 5e-5 are from two readers' notes on the paper; what neither tells is
//! ours, and every flag's help says which it is. What this did reach, on which data, stands in
//! papers/multilabel-ranking.md.

use std::time::Duration;

use rankle::losses::multilabel as losses;
use rankle::models::Vgg16;
use rankle::models::dropping;
use rankle::models::label::{DecisionHead, FeatureMlp, HeadInput, LabelNet, LabelSmall, LabelSystem};
use rankle::paper::prelude::*;
use rankle::seed;
use rankle::tasks::bare;
use rankle::tasks::labels::{
    self, Decision, Drawing, Encoding, LabelBatch, LabelBatches, LabelData, LabelShape, Outputs, Passes,
};

// ---- Hyperparameters: the place is what is known of the paper's ------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Net {
    /// VGG16 (readers' notes)
    Vgg16,
    /// Four small convolutions, for drawn images; not the paper's
    Small,
    /// Two hidden layers on ready-made features; not the paper's
    Mlp,
}

/// The losses that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Loss {
    /// Softmax on one random label
    Softmax,
    /// Sigmoid cross-entropy
    Sigmoid,
    /// BP-MLL
    BpMll,
    /// Pairwise hinge
    Hinge,
    /// WARP
    Warp,
    /// Log-sum-exp pairwise
    Lsep,
}

use Loss::{BpMll, Hinge, Lsep, Sigmoid, Softmax, Warp};
use Net::{Mlp, Small, Vgg16 as Vgg};

#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flags {
    /// Data set folder (VOC2007, COCO, NUS-WIDE, a folder with labels.csv), a Mulan set as DIR/NAME, or drawn for the
    /// built-in set
    #[arg(long, value_name = "DIR|drawn", default_value = "data/VOC2007", value_parser = bare, add = Ours, help_heading = Heading::Data)]
    data: String,
    /// Network
    #[arg(long, value_enum, default_value_t = Vgg, add = Says("readers' notes", "VGG16"), help_heading = Heading::Network)]
    net: Net,
    /// VGG16's weights to start from (.pth or .safetensors by torchvision's names), or none
    #[arg(long, value_name = "FILE|none", add = Says("readers' notes", "ImageNet's"))]
    weights: Option<String>,
    /// Width of the mlp's two hidden layers
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = within(1..=65_536_i64), add = Ours)]
    hidden: i64,
    /// Dropout on the feature in the first stage
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = within(0. ..=0.99), add = Says("authors' program", "0.5 on fc7"))]
    dropout: f64,
    /// Input pixels a side
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = within(16..=1024_u32), add = Ours)]
    size: u32,
    /// What the heads read; the authors' program has all three
    #[arg(long, value_enum, default_value_t = HeadInput::Fc7, add = Says("authors' program", "the feature"))]
    head_input: HeadInput,
    /// n: the count head tells 1 to n labels, the last meaning n or more; with fewer classes n is their number
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = within(2..=1_000_000_i64), add = Says("authors' program and readers' notes", "4"))]
    most: i64,
    /// Loss of the first stage
    #[arg(long, value_enum, default_value_t = Lsep, add = Says("the paper's abstract", "lsep"), help_heading = Heading::Loss)]
    loss: Loss,
    /// Pairs an image that lsep takes at most, t
    #[arg(long, value_name = "T", default_value_t = 1000, value_parser = within(1..=1_000_000_i64), add = Says("authors' program", "1000"))]
    pairs: i64,
    /// Margin of hinge and warp
    #[arg(long, value_name = "ALPHA", default_value_t = 1., value_parser = within(0. ..=1e6), add = Says("authors' program", "1"))]
    margin: f64,
    /// Images a batch at most; 2 may be 3 once a pass, so that none is alone
    #[arg(long, default_value_t = 32, value_parser = within(2..=65_536_usize), add = Ours, help_heading = Heading::Batches)]
    batch: usize,
    /// Training augmentation
    #[arg(long, value_enum, default_value_t = Augment::CropFlip, add = Ours)]
    augment: Augment,
    /// Share of the training items that is set aside to choose k and the threshold of the rivals; with 0 they are
    /// chosen on the training items themselves; the authors' program has such a part, of unknown size
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = within(0. ..=0.5), add = Ours)]
    dev: f64,
    /// Passes over the training data of the first stage; readers' notes have 10 and 50 and disagree on which is which
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = within(1..=1_000_000_u64), add = Ours, help_heading = Heading::Optimisation)]
    epochs: u64,
    /// Passes of the second stage, which trains the heads on the frozen network; see --epochs
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = within(1..=1_000_000_u64), add = Ours)]
    epochs2: u64,
    /// Learning rate of the first stage; a tenth of it in its last quarter, which is ours
    #[arg(long, default_value_t = 1e-3, value_parser = positive, add = Says("readers' notes", "0.001"))]
    lr: f64,
    /// Learning rate of the second stage, a tenth of it in its last quarter
    #[arg(long, default_value_t = 1e-3, value_parser = positive, add = Ours)]
    lr2: f64,
    /// L2 weight decay
    #[arg(long, default_value_t = 5e-5, value_parser = within(0. ..=1e6), add = Says("readers' notes", "5e-5"))]
    weight_decay: f64,
    /// Largest norm of the first stage's gradient, larger ones are scaled down; 0 is none; BP-MLL's sums of
    /// exponentials want it
    #[arg(long, value_name = "NORM", default_value_t = 0., value_parser = within(0. ..=1e6), add = Ours)]
    clip: f64,
}

impl Hyper for Flags {
    const AXES: &'static [&'static str] = &["net"];
    const LENGTH: &'static [&'static str] = &["epochs", "epochs2"];
    const NAMED: &'static [&'static str] = &["data", "net", "loss", "seed"];
    const PRESETS: &'static [fn(&mut Flags)] = &[
        |h| when(h.data == "drawn", || h.net = Small),
        |h| match h.net {
            Vgg => (),
            Small => {
                (h.epochs, h.lr, h.lr2, h.clip, h.dropout) = (40, 0.05, 0.01, 5., 0.2);
                (h.size, h.augment) = (48, Augment::Flip);
            }
            Mlp => (h.epochs, h.lr, h.lr2, h.clip) = (30, 0.01, 0.01, 5.),
        },
    ];
    const IDLE: &'static [Idle<Flags>] = &[
        (&["pairs"], |h| h.loss == Lsep),
        (&["margin"], |h| matches!(h.loss, Hinge | Warp)),
        (&["hidden"], |h| h.net == Mlp),
        (&["size", "augment"], |h| h.net != Mlp),
    ];

    fn weights(&self) -> Weights {
        if self.net == Vgg { Weights::Must(Published::VGG16) } else { Weights::None }
    }

    fn check(&self) -> Result<()> {
        let (size, least) = (i64::from(self.size), Vgg16::LEAST);
        ensure!(self.net != Vgg || size >= least, "--size {size}: vgg16 takes {least} to 1024 pixels");
        Ok(())
    }
}

/// Whose labels are shown and written.
#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scoring {
    /// The head whose decision the report's pictures show, whose labels tag and embed write, and whose numbers an
    /// exported model gives after the scores
    #[arg(long, value_enum, default_value_t = Decision::Threshold, add = Ours, help_heading = Heading::Export)]
    decision: Decision,
}

// ---- The losses ---------------------------------------------------------------------------------------------------

/// The loss terms of scores `f` `[B, K]` of a batch.
fn terms(h: &Flags, f: &Tensor, batch: &LabelBatch) -> Tally {
    match (h.loss, &batch.pairs) {
        (Lsep, Some(pairs)) => losses::lsep_of(f, pairs), // Φ(Y; t)
        (Lsep, None) => losses::lsep(f, &batch.labels),
        (Hinge, _) => losses::hinge(f, &batch.labels, h.margin),
        (Warp, _) => losses::warp(f, &batch.labels, h.margin),
        (BpMll, _) => losses::bp_mll(f, &batch.labels),
        (Softmax, _) => losses::softmax_on(f, &batch.drawn),
        (Sigmoid, _) => losses::sigmoid(f, &batch.labels),
    }
}

/// Learning rate of step `t` of `of` in a stage.
fn rate(base: f64, t: u64, of: u64) -> f64 {
    if t * 4 < of * 3 { base } else { base / 10. }
}

// ---- Batches ------------------------------------------------------------------------------------------------------

/// Ready-made features, or images as torchvision's VGG16 wants them.
fn encoding(h: &Flags, shape: &LabelShape) -> Encoding {
    shape.features.map_or(Encoding::Images(Recipe::imagenet(h.size, h.size)), Encoding::Features)
}

fn passes(h: &Flags, data: &LabelData, run: &Run, order: &str) -> Passes {
    Passes { items: data.train.len(), batch: h.batch, seed: run.seed(order) }
}

fn batches(h: &Flags, data: &LabelData, run: &Run) -> LabelBatches {
    let drawing = match h.loss {
        Lsep => Drawing::Pairs(h.pairs),
        Softmax => Drawing::Label,
        _ => Drawing::None,
    };
    LabelBatches {
        items: data.train.clone(),
        classes: data.set.classes.len(),
        passes: passes(h, data, run, "order"),
        encoding: encoding(h, &LabelShape::of(&data.set)),
        augment: (h.augment, run.seed),
        drawing: (drawing, run.seed("pairs")),
    }
}

struct MultilabelRanking;

impl Paper for MultilabelRanking {
    const NAME: &'static str = "multilabel-ranking";
    const CITATION: &'static str =
        "Li, Song, Luo: Improving Pairwise Ranking for Multi-label Image Classification, CVPR 2017, arXiv 1704.03135";
    const START: &'static [(&'static str, &'static str)] =
        &[("The losses", "reproduce --table losses --data data/mulan/scene --net mlp --seeds 1,2,3,4,5")];
    const NOTE: &'static str = "The paper's text was not at hand: help says which defaults are from the authors' \
        program or from readers' notes on the paper, and which are ours.";
    const USES: &'static [Use] = &[labels::TAG];
    const DEPARTURES: &'static [&'static str] = &[
        "the paper's text was not at hand: what is known comes from the authors' program and from readers' notes on the paper",
        "batch size, image size, augmentation and the second stage's rate are not known: chosen here",
        "readers' notes disagree whether the ranking has 10 passes and the decision 50, or the other way round: the former was chosen here",
        "the rate is divided by ten for the last quarter of each stage: chosen here, the paper's schedule is not known",
        "sigmoid cross-entropy is summed over classes, as a rival loss and in the threshold head: the authors' reduction is not known",
        "both heads are trained at once: they share nothing, so each learns what it would alone",
        "the last state of each stage is kept; the authors' program keeps the best one on dev images",
        "f - theta instead of f + theta': the same function",
        "images without a label are left out of training and test, as the authors' reader cannot pass them",
    ];
    #[rustfmt::skip] // a line a sentence
    const DEPARTURES_WHERE: &'static [Departure<Flags>] = &[
        (|h| h.net == Vgg, "VGG16 and its input are torchvision's (RGB, its mean and deviation)"),
        (|h| h.net == Vgg, "dropout stands on fc7 alone, as in the authors' program; torchvision's VGG16 has it on fc6 too"),
        (|h| h.net != Vgg, "small and mlp, their rates, passes, dropout and clipping are not the paper's but ours"),
        (|h| h.net != Mlp, "the second stage reads plain views of the training images, without augmentation"),
        (|h| h.dev == 0., "k and the one threshold of the rivals are chosen on what was trained on"),
    ];
    const UNLIKE: &'static [Unlike<Self>] =
        &[(|_, _| true, "none of the paper's numbers are known here, its tables were not at hand")];
    type Hyper = Flags;
    type Scoring = Scoring;
    type Data = LabelData;
    type Shape = LabelShape;
    type Net = LabelSystem;

    fn open(h: &Flags, seed: u64) -> Result<LabelData> {
        LabelData::open(&h.data, h.dev, seed::named(seed, "dev"))
    }

    /// Dev items stay the run's own.
    fn elsewhere(own: &Flags, other: &Flags, seed: u64) -> Result<LabelData> {
        Self::open(own, seed)?.tested_on(Self::open(other, seed)?)
    }

    fn shape(h: &Flags, data: &LabelData) -> Result<LabelShape> {
        let (shape, name, left) = (LabelShape::of(&data.set), &data.set.name, data.train.len());
        let k = shape.k();
        Err(hyper::usage(anyhow!(match (h.net, shape.features) {
            (Mlp, None) => format!("--net mlp reads ready-made features, and {name} has images: say --net vgg16"),
            (Vgg | Small, Some(_)) => format!("{name} has ready-made features, no images: say --net mlp"),
            _ if h.most > k.max(4) => format!("--most {}: say 2 to {k}, the number of classes", h.most),
            _ if left < 2 => format!("--dev {}: {name} has too few training items, it leaves {left}", h.dev),
            _ => return Ok(shape),
        })))
    }

    // ---- The networks ---------------------------------------------------------------------------------------------

    fn network(h: &Flags, shape: &LabelShape, _: &str, store: &VarStore, run: &Run) -> Result<LabelSystem> {
        let at = Scope::root(store, run.seed);
        let backbone: Box<dyn Network> = match h.net {
            Vgg => Box::new(Vgg16::new(&at)),
            Small => Box::new(LabelSmall::new(&at, h.size.into())?),
            Mlp => Box::new(FeatureMlp::new(&at, shape.features.context("no features")?, h.hidden)),
        };
        let width = h.head_input.width(backbone.width(), shape.k());
        Ok(LabelSystem {
            net: LabelNet::new(&at, backbone, shape.k(), h.dropout),
            count: DecisionHead::count(&at.sub("count"), width, shape.most(h.most)),
            threshold: DecisionHead::threshold(&at.sub("threshold"), width, shape.k()),
            reads: h.head_input,
            normal: shape.features.map(|features| LabelSystem::normal(&at, features)),
        })
    }

    /// The mean and deviation of ready-made features.
    fn start_on(h: &Flags, data: &LabelData, store: &VarStore) -> Result<()> {
        match encoding(h, &LabelShape::of(&data.set)) {
            Encoding::Images(_) => Ok(()),
            features => labels::normalise(store, &data.train, features),
        }
    }

    // ---- Training -------------------------------------------------------------------------------------------------

    fn plan(h: &Flags, data: &LabelData, _: &str, run: &Run) -> Result<Plan> {
        let steps = (h.epochs + h.epochs2) * passes(h, data, run, "order").batches();
        Ok(Plan { steps, rule: Rule::Sgd { momentum: 0.9 }, weight_decay: h.weight_decay })
    }

    fn train(h: &Flags, data: &LabelData, _: &str, net: &LabelSystem, session: &mut Session, run: &Run) -> Result<()> {
        let (world, device, all) = (run.world(), run.machine.device, session.steps());
        let (order, order2) = (passes(h, data, run, "order"), passes(h, data, run, "order 2"));
        order.check(world, h.net == Small && !run.machine.training.sync_batch_norm)?;
        let first = h.epochs * order.batches();

        // Label prediction: the ranking loss on f.
        session.train_only(|name| !LabelSystem::of_heads(name));
        let steps = all.start.min(first)..first;
        let mut loader = batches(h, data, run).load(steps.clone(), &run.machine)?;
        for t in steps {
            // Labels and what was drawn go with the images: nothing waits for the device later.
            let batch = loader.next().context("the loader ended early")??.on(device);
            let (rows, own) = (batch.labels.size()[0], batch.shares.own());
            let scores = || run.autocast(|| net.net.scores(&net.feature(&batch.inputs, true), true));
            let own = own.start as i64..own.end as i64;
            let f = dropping(run.seed("dropout") ^ t, rows, std::slice::from_ref(&own), scores);
            let f = world.gather(&f.to_kind(Kind::Float), &batch.shares)?; // of all processes
            let tally = terms(h, &f, &batch);
            let (loss, rate) = (tally.mean(), rate(h.lr, t, first));
            session.zero_grad();
            session.gradients().backward(&loss)?;
            session.clip(h.clip);
            session.step(rate);
            session.left_out(|| batch.left_out)?;
            let done = Done { step: t, loss: &loss, images: rows, waited: loader.waited() };
            let line = || stats::tally(t, &loss, &tally, json!({"stage": 1, "lr": rate}));
            session.after(done, || (line(), None))?;
        }

        // Label decision: both heads, with fresh momenta, on the features of the frozen network. Its batch normalisation
        // counted each process's own images: one network's statistics from here on.
        session.train_only(LabelSystem::of_heads);
        if all.start <= first {
            session.fresh_optimizer();
        }
        world.share_variables(session.store())?;
        let (shape, n) = (LabelShape::of(&data.set), LabelShape::of(&data.set).most(h.most));
        let train = labels::usable(&data.train, encoding(h, &shape), &run.machine)?;
        let [feature, f] = labels::features(net, &train, encoding(h, &shape), run, "features for the second stage")?
            .map(|x| x.to_device(device));
        let labels = labels::targets(&train.iter().collect::<Vec<_>>(), shape.classes.len()).to_device(device);
        let (start, mut shuffled) = (all.start.max(first), order2.shuffled(device));
        for t in start..all.end {
            let (into, place) = (t - first, order2.place(t - first));
            let rows = shuffled.rows(into);
            let shares = world.shares(place.len(), 1)?;
            let own = rows.narrow(0, shares.own().start as i64, shares.own().len() as i64);
            let x = net.head_input(&feature.index_select(0, &own), &f.index_select(0, &own));
            let both = Tensor::cat(&[net.count.forward(&x), net.threshold.forward(&x)], 1);
            let both = world.gather(&both, &shares)?; // of all processes
            let (f, labels) = (f.index_select(0, &rows), labels.index_select(0, &rows));
            let count = losses::label_count(&both.narrow(1, 0, n), &labels).mean(); // softmax over 1..n
            let theta = both.narrow(1, n, shape.k());
            let threshold = losses::label_threshold(&f, &theta, &labels).mean(); // sigmoid of f - θ
            let (loss, rate) = (&count + &threshold, rate(h.lr2, into, all.end - first));
            session.descend(&loss, rate)?;
            let done = Done { step: t, loss: &loss, images: place.len() as i64, waited: Duration::ZERO };
            session.after(done, || {
                let [loss, count, threshold] = [&loss, &count, &threshold].map(|x| x.double_value(&[]));
                let line =
                    json!({"step": t, "stage": 2, "lr": rate, "loss": loss, "count": count, "threshold": threshold});
                (line, None)
            })?;
        }
        Ok(())
    }

    // ---- Evaluation -----------------------------------------------------------------------------------------------

    fn evaluate(h: &Flags, data: &LabelData, nets: &Nets<'_, Self>, how: &Scoring, run: &Run) -> Result<Evaluation> {
        let (set, shape) = (&data.set, nets.shape);
        shape.fits(set, &format!("{} has changed since the run was trained", h.data), &[])?;
        let Loaded { store, net, step } = nets.part("")?;
        if step == 0 {
            Self::start_on(h, data, &store)?;
        }
        let (items, (dev, chosen_on)) = (set.test.clone().into(), data.chosen_on()?);
        let outputs = |items, what| Outputs::of(&net, items, encoding(h, shape), set.classes.len(), run, what);
        let test = outputs(&items, "test")?;
        let judged = labels::judge(&test, &outputs(dev, "dev")?, set);
        let mut found = Evaluation { scores: judged.scores(), tables: judged.tables(), ..Evaluation::default() };
        found.protocol = judged.protocol(set, &chosen_on, shape.most(h.most));
        found.report.answers(&judged.says(how.decision, set.test.len()));
        labels::show(&mut found.report, set, &test, shape.most(h.most), how.decision)?;
        Ok(found)
    }

    fn embed(h: &Flags, nets: &Nets<'_, Self>, of: &Brought, how: &Scoring, run: &Run) -> Result<Rows> {
        ensure!(h.net != Mlp, "this run reads ready-made features: it has nothing to say of images");
        labels::say(&nets.only()?, of, encoding(h, nets.shape), &nets.shape.classes, how.decision, run)
    }

    fn about(h: &Flags, shape: &LabelShape, _: &str, how: &Scoring) -> About {
        let (k, n) = (shape.k(), shape.most(h.most));
        let then = match how.decision {
            Decision::Threshold => "their thresholds: labels are those with f above theirs".to_string(),
            Decision::Count => format!("logits of 1 to {n} labels: labels are so many of the highest f"),
        };
        let what = format!("{k} scores f, then {then}");
        encoding(h, shape).about(what).labelled(shape.classes.clone())
    }

    fn export(_: &Flags, net: &LabelSystem, how: &Scoring, inputs: &[Tensor]) -> Tensor {
        let feature = net.feature(&inputs[0], false);
        let f = net.net.scores(&feature, false);
        let head = if how.decision == Decision::Count { &net.count } else { &net.threshold };
        Tensor::cat(&[&f, &head.forward(&net.head_input(&feature, &f))], 1)
    }

    // ---- The paper's numbers: none, and its comparison of the losses ---------------------------------------------

    const STUDIES: &'static [Study<Flags, Scoring>] = &[Study {
        name: "losses",
        title: "Every loss with every decision, in per cent",
        rows: &[
            ("softmax", |h, _| h.loss = Softmax, &[]),
            ("sigmoid", |h, _| h.loss = Sigmoid, &[]),
            ("bp-mll", |h, _| h.loss = BpMll, &[]),
            ("hinge", |h, _| h.loss = Hinge, &[]),
            ("warp", |h, _| h.loss = Warp, &[]),
            ("lsep", |h, _| h.loss = Lsep, &[]),
        ],
        sheets: &[
            Sheet::of("PC-F1", labels::PC_F1),
            Sheet::of("OV-F1", labels::OV_F1),
            Sheet::of("0-1 exact", labels::EXACT),
            Sheet::of("Ranking, before any decision", labels::RANKING),
        ],
        says: who_wins,
        ..Study::PLAIN
    }];
}

/// Of the ranking and the learned decisions: the losses, the best one first.
fn who_wins(grid: &Grid) -> Vec<String> {
    let order = |score: &str| {
        let of = |(row, name)| Some((100. * grid.mean(row, score)?, name));
        let mut order: Vec<(f64, &String)> = grid.rows.iter().enumerate().filter_map(of).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let order: Vec<String> = order.iter().map(|(mean, name)| format!("{name} with {mean:.2}")).collect();
        (order.len() > 1).then(|| format!("{score}: best is {}", order.join(", then ")))
    };
    let scores = [
        "AP an image",
        "label threshold: PC-F1",
        "label count: PC-F1",
        "label threshold: 0-1 exact",
        "label count: 0-1 exact",
    ];
    scores.into_iter().filter_map(order).collect()
}

rankle::program!(MultilabelRanking);
