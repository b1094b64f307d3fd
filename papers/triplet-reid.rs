//! In Defense of the Triplet Loss for Person Re-Identification.
//! A. Hermans*, L. Beyer*, B. Leibe. arXiv 1703.07737 (v4, 2017).
//!
//! ```text
//! cargo run --release --bin triplet-reid -- train --weights data/weights/resnet50-0676ba61.pth
//! cargo run --release --bin triplet-reid -- evaluate --run data/runs/triplet-reid/Market-1501-v15.09.15-trinet-batch-hard-soft-1
//! ```
//!
//! should reach, on Market-1501 single query (Table 2): TriNet mAP 69.14, rank-1 84.92; LuNet (`--net lunet`, no
//! weights) mAP 60.71, rank-1 81.38. What it did reach, on which data, stands in papers/triplet-reid.md.

use rankle::losses::{Margin, embedded, triplet};
use rankle::models::{LuNet, TriNet};
use rankle::paper::prelude::*;
use rankle::tasks::{people, reid, reid::ReidData};
use rankle::{collectives::World, datasets::ReidSet, schedule::Decay};

// ---- Hyperparameters: the default and the place are the paper's ------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Net {
    /// ResNet-50 with a new head, 25.74 M parameters (Section 3.2)
    Trinet,
    /// TriNet by He et al.'s own ResNet-50, as the paper's was: stride on the first 1x1, colours in 0..255
    TrinetCaffe,
    /// From scratch, 5.00 M parameters (Table 9)
    Lunet,
}

/// The rows of Table 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Loss {
    /// Random triplets (Eq. 4)
    Triplet,
    /// Triplets with offline hard mining
    TripletOhm,
    /// Batch hard (Eq. 5)
    BatchHard,
    /// Batch hard, mean over active terms
    BatchHardNonzero,
    /// Batch all (Eq. 6)
    BatchAll,
    /// Batch all, mean over active terms
    BatchAllNonzero,
    /// Generalised lifted structure, "3-pos." (Eq. 7)
    Lifted,
    /// Lifted structure as first published, "1-pos."
    LiftedPairs,
}
use Loss::{BatchAll, BatchAllNonzero, BatchHard, BatchHardNonzero, Lifted, LiftedPairs, Triplet, TripletOhm};
use Net::{Lunet, Trinet, TrinetCaffe};
use TestViews::{Centre, CentreFlip, FiveCrops, Original};

impl Loss {
    /// Batches of separate triplets instead of P people with K images each.
    fn takes_triplets(self) -> bool {
        matches!(self, Triplet | TripletOhm | LiftedPairs)
    }
}

#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flags {
    #[command(flatten)]
    #[serde(flatten)]
    data: ReidData,
    /// Network
    #[arg(long, value_enum, default_value_t = Trinet, add = At("Section 3.2, Table 9"), help_heading = Heading::Network)]
    net: Net,
    /// TriNet's ImageNet weights, a resnet50 by torchvision's names as .pth or .safetensors, or none
    #[arg(long, value_name = "FILE|none", add = At("Section 3.2"))]
    weights: Option<String>,
    /// Input height x width in pixels
    #[arg(long, value_name = "HxW", default_value_t = Size(256, 128), add = At("Section 4.4, Table 4"))]
    size: Size,
    /// Divide all of LuNet's channel counts by this, for small machines
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(1..=LuNet::NARROWEST), add = At("Table 9"))]
    shrink: i64,
    /// Loss
    #[arg(long, value_enum, default_value_t = BatchHard, add = At("Table 1"), help_heading = Heading::Loss)]
    loss: Loss,
    /// Margin m in units of the distance, or soft
    #[arg(long, value_name = "M|soft", default_value_t = Margin::Soft, add = At("Section 2"))]
    margin: Margin,
    /// Distance D, not squared
    #[arg(long, value_enum, default_value_t = Metric::Euclidean, add = At("Section 2"))]
    metric: Metric,
    /// Steps between two offline minings
    #[arg(long, value_name = "STEPS", default_value_t = 5_000, value_parser = count, add = Ours)]
    ohm_every: u64,
    /// Random images among which a hardest negative is sought offline
    #[arg(long, value_name = "IMAGES", default_value_t = 1_000, value_parser = within(2..=10_000_000_usize), add = Ours)]
    ohm_pool: usize,
    /// People a batch, P
    #[arg(long, default_value_t = 18, value_parser = within(2..=32_768_usize), add = At("Section 4.4"), help_heading = Heading::Batches)]
    p: usize,
    /// Images a person and batch, K
    #[arg(long, default_value_t = 4, value_parser = within(2..=32_768_usize), add = At("Section 4.4"))]
    k: usize,
    /// Triplets a batch, for the losses that take separate triplets
    #[arg(long, default_value_t = 42, value_parser = within(1..=65_536_usize), add = At("Section 4.2"))]
    triplets: usize,
    /// Training augmentation; Table 1 has none
    #[arg(long, value_enum, default_value_t = Augment::CropFlip, add = At("Section 4.4"))]
    augment: Augment,
    /// Learning rate before the decay
    #[arg(long, default_value_t = 3e-4, value_parser = positive, add = At("Section 4.4"), help_heading = Heading::Optimisation)]
    lr: f64,
    /// Step at which the decay starts and beta1 drops to 0.5, at most 3/5 of the steps where it is not given
    #[arg(long, value_name = "STEP", default_value_t = 15_000, add = At("Section 4.4"))]
    t0: u64,
    /// Step at which training stops, the rate at a thousandth
    #[arg(long, value_name = "STEP", default_value_t = 25_000, value_parser = count, add = At("Section 4.4"))]
    t1: u64,
}

impl Hyper for Flags {
    const AXES: &'static [&'static str] = &["net"];
    const LENGTH: &'static [&'static str] = &["t1"];
    const NAMED: &'static [&'static str] = &["data", "?split", "net", "loss", "margin", "seed"];
    const PRESETS: &'static [fn(&mut Flags)] = &[
        |h| h.data.data = "data/Market-1501-v15.09.15".into(),
        |h| when(h.data.data == "drawn", || h.net = Lunet),
        |h| when(h.net == Lunet, || (h.p, h.lr, h.size) = (32, 1e-3, Size(128, 64))),
        // The losses without a soft form take the best margin of their row in Table 1.
        |h| when(matches!(h.loss, BatchHardNonzero | LiftedPairs), || h.margin = Margin::Hard(0.2)),
        |h| when(h.loss == BatchAllNonzero, || h.margin = Margin::Hard(0.5)),
        |h| when(h.loss == Lifted, || h.margin = Margin::Hard(1.)),
        |h| when(h.data.data == "drawn", || (h.p, h.triplets, h.t0, h.t1, h.size) = (12, 16, 150, 250, Size(64, 32))),
        |h| when(h.data.data == "drawn", || (h.ohm_every, h.ohm_pool) = (50, 200)),
        |h| when(h.data.data == "drawn" && h.net == Lunet, || h.shrink = 4),
        |h| h.t0 = h.t0.min(h.t1 / 5 * 3),
    ];
    const IDLE: &'static [Idle<Flags>] = &[
        (&["p", "k"], |h| !h.loss.takes_triplets()),
        (&["triplets"], |h| h.loss.takes_triplets()),
        (&["ohm-every", "ohm-pool"], |h| h.loss == TripletOhm),
        (&["shrink"], |h| h.net == Lunet),
    ];

    fn weights(&self) -> Weights {
        match self.net {
            Trinet => Weights::Must(Published::RESNET50),
            TrinetCaffe => Weights::Must(Published::TRINET),
            Lunet => Weights::None,
        }
    }

    fn claimed(self) -> Flags {
        Flags { net: if self.net == TrinetCaffe { Trinet } else { self.net }, ..self }
    }

    fn check(&self) -> Result<()> {
        let soft = matches!(self.loss, Triplet | TripletOhm | BatchHard | BatchAll);
        ensure!(soft || self.margin != Margin::Soft, "--margin soft: this loss has no soft form: say --margin 0.2");
        ensure!(LuNet::NARROWEST % self.shrink == 0, "--shrink {}: say 1, 2, 4, 8, 16 or 32", self.shrink);
        ensure!(self.p * self.k <= 65_536, "--p {} --k {}: a batch takes at most 65536 images", self.p, self.k);
        Ok(())
    }
}

/// How test images are seen.
#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scoring {
    /// Test-time augmentation
    #[arg(long, value_enum, default_value_t = TestViews::TenCrops, add = At("Table 5"), help_heading = Heading::Export)]
    views: TestViews,
    /// Also score after k-reciprocal re-ranking as in Table 2, k1 20, k2 6, lambda 0.3
    #[arg(long, add = Ours, help_heading = Heading::Scoring)]
    rerank: bool,
}

// ---- Section 2: the losses ----------------------------------------------------------------------------------------

/// The loss of a batch with embeddings `x` `[B, 128]`, and its terms; those of anchors are shared out in the `world`.
fn loss(h: &Flags, x: &Tensor, labels: &Tensor, world: &World) -> Result<(Tensor, Tally)> {
    let of_anchors = |loss| world.tally(loss, x, labels, h.metric);
    let tally = match h.loss {
        Triplet | TripletOhm => {
            let d = |i: usize| h.metric.paired(&x.chunk(3, 0)[0], &x.chunk(3, 0)[i]);
            triplet::hinge(&d(1), &d(2), h.margin) // Eq. 4
        }
        BatchHard | BatchHardNonzero => of_anchors(embedded::Loss::BatchHard(h.margin))?, // Eq. 5
        BatchAll | BatchAllNonzero => of_anchors(embedded::Loss::BatchAll(h.margin))?,    // Eq. 6
        Lifted => of_anchors(embedded::Loss::Lifted(h.margin.number()))?,                 // Eq. 7
        LiftedPairs => {
            let rows = Tensor::arange(x.size()[0], (Kind::Int64, x.device())).chunk(3, 0);
            triplet::lifted_pairs(&h.metric.matrix(x, x), &rows[0], &rows[1], h.margin.number())
        }
    };
    // "Divided by the number of summands", or by those above 0 alone ("≠ 0").
    let active = matches!(h.loss, BatchHardNonzero | BatchAllNonzero);
    Ok((if active { tally.mean_active() } else { tally.mean() }, tally))
}

/// What equal embeddings give, all of D being 0: a training that stays there has collapsed.
fn collapsed(h: &Flags) -> f64 {
    let (p, k, batch) = (h.p as f64, h.k as f64, 3. * h.triplets as f64);
    match h.loss {
        Lifted => h.margin.number() + ((k - 1.) * (p - 1.) * k).ln(),
        LiftedPairs => h.margin.number() + (2. * (batch - 2.)).ln(),
        _ => h.margin.charge(&Tensor::from(0.)).double_value(&[]),
    }
}

// ---- Section 4.2: batches -----------------------------------------------------------------------------------------

/// P people with K images each, or triplets, whose negatives are the `mined` ones where there are such.
fn rows(h: &Flags, set: &ReidSet, mined: Option<&Tensor>, seed: u64) -> Result<(usize, people::Sampler)> {
    if h.loss.takes_triplets() {
        people::triplets(set, h.triplets, mined, seed)
    } else {
        people::pk(set, h.p, h.k, seed)
    }
}

fn recipe(h: &Flags) -> Recipe {
    let recipe = Recipe::imagenet(h.size.0, h.size.1);
    if h.net == TrinetCaffe { recipe.less(TriNet::CAFFE_MEAN) } else { recipe }
}

struct TripletReid;

impl Paper for TripletReid {
    const NAME: &'static str = "triplet-reid";
    const CITATION: &'static str =
        "Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification, arXiv 1703.07737";
    const USES: &'static [Use] = &[reid::SEARCH];
    const SEES: Option<Sees<Self>> = Some(|h, how| (recipe(h), how.views));
    const METRIC: fn(&Flags) -> Metric = |h| h.metric;
    const DEPARTURES: &'static [&'static str] = &["resizing has antialiasing, as PIL's; the authors' code has none"];
    const DEPARTURES_WHERE: &'static [Departure<Flags>] = &[
        (|h| h.net == Trinet, "ResNet-50 is torchvision's: stride on the 3x3, RGB, its mean and deviation"),
        (|h| h.net == Lunet, "LuNet's convolutions have no bias; batch norm and leaky ReLU stand before each"),
        (|h| h.net == Lunet, "LuNet has 1x1 projections wherever the channels change; the paper does not say"),
    ];
    const DEPARTURES_TRAINING: &'static [Departure<Flags>] = &[
        (|_| true, "Adam's epsilon is 1e-8, its framework's default; the paper names none"),
        (|h| h.net != Lunet, "the last linear layer starts Glorot-uniform, as a maintainer says the paper's did"),
        (|h| !h.loss.takes_triplets(), "a pass over the people drops its remainder"),
        (|h| !h.loss.takes_triplets(), "a person's images are walked through without replacement across passes"),
        (|h| h.loss == TripletOhm, "offline mining is ours: see --ohm-every and --ohm-pool; positives are random"),
        (|h| h.data.validation > 0, "who is held out follows from the seed; a person and camera has one random query"),
    ];
    const PUBLISHED: bool = true;
    const THEIRS: &'static [Theirs<Scoring>] = &[
        Theirs { name: "trinet-market1501", set: "Market-1501", score: None, how: |_| () },
        Theirs { name: "trinet-mars", set: "MARS", score: None, how: |_| () },
    ];
    type Hyper = Flags;
    type Scoring = Scoring;
    type Data = ReidSet;
    type Shape = ();
    type Net = Box<dyn Network>;

    fn open(h: &Flags, seed: u64) -> Result<ReidSet> {
        h.data.open(seed)
    }

    fn elsewhere(own: &Flags, other: &Flags, seed: u64) -> Result<ReidSet> {
        own.data.elsewhere(&other.data, seed)
    }

    // ---- Section 3: the networks ----------------------------------------------------------------------------------

    /// f_θ: TriNet (Section 3.2) or LuNet (Table 9).
    fn network(h: &Flags, _: &(), _: &str, store: &VarStore, run: &Run) -> Result<Box<dyn Network>> {
        let at = Scope::root(store, run.seed);
        let lunet = || LuNet::new(&at, h.size.0.into(), h.size.1.into(), h.shrink);
        Ok(match h.net {
            Trinet => Box::new(TriNet::new(&at)),
            TrinetCaffe => Box::new(TriNet::caffe(&at)),
            Lunet => Box::new(lunet().with_context(|| format!("--size {} --shrink {}", h.size, h.shrink))?),
        })
    }

    /// Refuses too few people before the run's folder is claimed.
    fn parts(h: &Flags, set: &ReidSet) -> Result<Vec<String>> {
        rows(h, set, None, 0).map(|_| vec![String::new()])
    }

    // ---- Sections 4.2 to 4.4: training ----------------------------------------------------------------------------

    fn plan(h: &Flags, _: &ReidSet, _: &str, _: &Run) -> Result<Plan> {
        Ok(Plan { steps: h.t1, rule: Rule::ADAM, weight_decay: 0. })
    }

    fn train(h: &Flags, set: &ReidSet, _: &str, net: &Self::Net, session: &mut Session, run: &Run) -> Result<()> {
        let decay = Decay { base: h.lr, t0: h.t0, t1: h.t1 };
        // Offline mining cuts training into stretches; every other loss has one.
        for steps in session.stretches(if h.loss == TripletOhm { h.ohm_every } else { h.t1 }) {
            if h.loss == TripletOhm && (steps.start % h.ohm_every == 0 || !session.extra.contains_key("mined")) {
                run.world().share_variables(session.store())?; // batch normalisation counted each process's own images
                let mined = people::mine_offline(net, &set.train, recipe(h), h.metric, h.ohm_pool, steps.start, run)?;
                session.extra.insert("mined".into(), mined);
            }
            let rows = rows(h, set, session.extra.get("mined"), run.seed("sampler"))?;
            let mut loader = people::batches(&set.train, recipe(h), h.augment, rows, steps, run)?;
            while let Some(batch) = loader.next() {
                let batch = batch?;
                let t = batch.step;
                let rates = (decay.rate(t), decay.beta1(t)); // β₁ drops to 0.5 at t0
                // A step of fixed shape runs as one CUDA graph; the soft batch all counts a person's images on the host.
                let fixed = !matches!((h.loss, h.margin), (BatchAll | BatchAllNonzero, Margin::Soft));
                let step = |inputs: &[Tensor]| {
                    let x = run.autocast(|| net.forward(&channels_last(&inputs[0]), true)); // f_θ(x)
                    let x = run.world().gather(&x, &batch.shares)?; // of all processes
                    loss(h, &x, &inputs[1], run.world()).map(|(loss, tally)| (loss, tally, x))
                };
                let (mean, tally, x) = session.descend_from(&batch.inputs(), fixed, rates, step)?; // Eq. 8
                session.left_out(|| batch.left_out)?;
                let done = Done { step: t, loss: &mean, images: batch.labels.size()[0], waited: loader.waited() };
                let said = |rates: (f64, f64)| json!({"lr": rates.0, "beta1": rates.1});
                session.after(done, || stats::line(t, &mean, &tally, said(rates), &x, h.metric, collapsed(h)))?;
            }
        }
        Ok(())
    }

    // ---- Sections 4.3 and 6: evaluation ---------------------------------------------------------------------------

    fn evaluate(h: &Flags, set: &ReidSet, nets: &Nets<'_, Self>, how: &Scoring, run: &Run) -> Result<Evaluation> {
        reid::retrieval(&nets.only()?, set, &people::embedding(recipe(h), how.views, run), h.metric, how.rerank, run)
    }

    // ---- The paper's numbers --------------------------------------------------------------------------------------

    #[rustfmt::skip]
    const CLAIMS: &'static [Claims<Flags, Scoring>] = &[Claims {
        unit: 100., metrics: &["mAP", "rank-1", "rank-5"],
        columns: &[
            ("Market-1501", "single query", as_usual), ("Market-1501", "single query", |h, _| h.net = Lunet),
            ("Market-1501", "multi query", as_usual), ("MARS", "single query", as_usual),
        ],
        rows: &[
            ("Table 2", "", as_usual, &[&[69.14, 84.92, 94.21], &[], &[76.42, 90.53, 96.29], &[67.70, 79.80, 91.36]]),
            ("Table 2", "", |h, _| h.net = Lunet, &[&[60.71, 81.38, 92.34], &[], &[69.07, 87.11, 95.16], &[60.48, 75.56, 89.70]]),
            ("Table 2", "re-ranked", as_usual, &[&[81.07, 86.67, 93.38], &[], &[87.18, 91.75, 95.78], &[77.43, 81.21, 90.76]]),
            ("Table 2", "re-ranked", |h, _| h.net = Lunet, &[&[75.62, 84.59, 91.89], &[], &[82.61, 89.31, 94.48], &[73.68, 78.48, 88.74]]),
            ("Table 4", "", |h, _| h.size = Size(128, 64), &[&[62.52, 79.45, 91.06]]),
            ("Table 4", "", |h, _| h.size = Size(64, 32), &[&[47.42, 68.08, 85.84], &[57.18, 78.21, 90.94]]),
            ("Table 5", "", |_, s| s.views = Original, &[&[65.48, 82.51], &[55.61, 76.72]]),
            ("Table 5", "", |_, s| s.views = Centre, &[&[66.29, 84.06], &[57.08, 77.94]]),
            ("Table 5", "", |_, s| s.views = CentreFlip, &[&[68.32, 84.47], &[59.31, 79.78]]),
            ("Table 5", "", |_, s| s.views = FiveCrops, &[&[67.86, 84.83], &[59.00, 79.42]]),
        ],
    }];

    #[rustfmt::skip]
    const STUDIES: &'static [Study<Flags, Scoring>] = &[Study {
        name: "1",
        title: "Table 1: LuNet by loss and margin, held-out people of MARS (* trapped in a bad optimum)",
        // No augmentation, "TTA off": these networks see no crops.
        fixed: |h, s| {
            (h.net, h.augment, h.data.validation, s.views) = (Lunet, Augment::None, 150, Original);
            when(h.data.data == "drawn", || (h.data.validation, h.t1, h.shrink) = (16, 80, 8));
        },
        rows: &[
            ("Triplet", |h, _| h.loss = Triplet, &["40.80/59.23", "41.71/60.78", "43.51/60.87", "43.61/61.63", "48.40/66.37"]),
            ("Triplet + OHM", |h, _| h.loss = TripletOhm, &["16.6*/36.6*", "61.40/82.95", "32.0*/57.1*", "41.45/59.42", "46.63/65.43"]),
            ("Batch hard", |h, _| h.loss = BatchHard, &["65.09/83.51", "65.27/84.55", "65.12/83.39", "63.78/82.48", "65.77/84.69"]),
            ("Batch hard ≠ 0", |h, _| h.loss = BatchHardNonzero, &["63.10/83.04", "64.19/83.42", "63.71/82.29", "64.06/84.50", "–"]),
            ("Batch all", |h, _| h.loss = BatchAll, &["59.43/79.24", "60.48/79.99", "60.30/79.52", "62.08/80.55", "61.04/80.65"]),
            ("Batch all ≠ 0", |h, _| h.loss = BatchAllNonzero, &["63.29/83.65", "64.31/83.37", "64.41/83.98", "64.06/82.90", "–"]),
            ("Lifted 3-pos.", |h, _| h.loss = Lifted, &["64.00/82.71", "63.87/82.86", "63.61/84.55", "64.02/84.17", "–"]),
            ("Lifted 1-pos.", |h, _| h.loss = LiftedPairs, &["61.95/81.35", "63.68/81.73", "63.01/82.48", "62.28/82.34", "–"]),
        ],
        columns: &[
            ("m = 0.1", |h, _| h.margin = Margin::Hard(0.1)), ("m = 0.2", |h, _| h.margin = Margin::Hard(0.2)),
            ("m = 0.5", |h, _| h.margin = Margin::Hard(0.5)), ("m = 1.0", |h, _| h.margin = Margin::Hard(1.)),
            ("soft", |h, _| h.margin = Margin::Soft),
        ],
        sheets: &[Sheet::of("mAP/rank-1", &[("", &["single query mAP", "single query rank-1"])])],
        ..Study::PLAIN
    }];
}

rankle::program!(TripletReid);
