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
//! 92.9 % (openface) to 98.5 % (glint360k). What this did reach, on which data, stands in papers/facenet.md.

use rankle::datasets::{Photo, drawn, faces::FaceSet};
use rankle::losses::embedded::Loss;
use rankle::mining::NegativeRule;
use rankle::models::faces::FaceNet;
use rankle::paper::prelude::*;
use rankle::report::Table;
use rankle::run::cached;
use rankle::say;
use rankle::tasks::faces::{self, FaceData, Scoring, Variant};
use rankle::transfer::upload;

// ---- Hyperparameters: the place and the default are the paper's ----------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Protocol {
    /// LFW, unrestricted, no outside data: a network for each fold, trained on the people of other folds only
    LfwNoOutsideData,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Optimiser {
    /// AdaGrad (Section 3.3), accumulators from 0.1
    Adagrad,
    /// Adam, betas 0.9 and 0.999 (openface)
    Adam,
    /// SGD with momentum 0.9
    Sgd,
}

use FaceNet::{Googlenet, InceptionResnetV1, Nn1, Nn2, Nn3, Nn4, Nn4Small2, Nn4Small2Released, Small};
use NegativeRule::{Nearest, RandomInMargin};
use Optimiser::{Adagrad, Adam, Sgd};

#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flags {
    #[command(flatten)]
    #[serde(flatten)]
    data: FaceData,
    /// Train a network a fold
    #[arg(long, value_enum, add = Ours, help_heading = Heading::Protocol)]
    protocol: Option<Protocol>,
    /// Folds to train for, of that protocol, e.g. 1,2,3; left out, all
    #[arg(long, value_name = "LIST", value_delimiter = ',', add = Ours)]
    folds: Vec<usize>,
    /// Network
    #[arg(long, value_enum, default_value_t = Nn2, add = At("Section 3.3"), help_heading = Heading::Network)]
    net: FaceNet,
    /// Published weights to start from (.safetensors, .pt, .pth), or none
    #[arg(long, value_name = "FILE|none", add = At("the paper trains from scratch"))]
    weights: Option<String>,
    /// Embedding width d
    #[arg(long, value_name = "D", default_value_t = 128, value_parser = within(2..=4096_i64), add = At("Section 5.4, Table 5"))]
    width: i64,
    /// Input pixels a side
    #[arg(long, value_name = "PIXELS", default_value_t = Nn2.size(), value_parser = within(16..=1024_u32), add = At("Tables 1 and 3"))]
    size: u32,
    /// Batch normalisation in NN1 to NN4, as openface has it
    #[arg(long, add = At("the paper mentions none"))]
    batch_norm: bool,
    /// Divide all channel counts by this, for small machines
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(1..=Small.narrowest()), add = Says("the paper", "1, the published network"))]
    shrink: i64,
    /// The negative of a pair
    #[arg(long, value_enum, default_value_t = Nearest, add = At("Section 3.2, Eq. 4"), help_heading = Heading::Loss)]
    mining: NegativeRule,
    /// Margin alpha in squared distance, 0 to 4 between unit rows
    #[arg(long, value_name = "ALPHA", default_value_t = 0.2, value_parser = within(1e-6..=4.), add = At("Section 3.1"))]
    margin: f64,
    /// People a batch
    #[arg(long, add = Says("Section 3.2", "about 1800 faces"), help_heading = Heading::Batches, value_name = "P", default_value_t = 45, value_parser = within(1..=100_000_usize))]
    people: usize,
    /// Faces a person and batch, fewer where there are fewer
    #[arg(long, value_name = "K", default_value_t = 40, value_parser = within(2..=100_000_usize), add = Says("Section 3.2", "around 40"))]
    faces: usize,
    /// Further random faces a batch, never anchor or positive
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0..=65_536_usize), add = At("Section 3.2"))]
    negatives: usize,
    /// Faces computed at once; a batch of more goes through twice (gradient caching); left out, 90 on a CPU and what
    /// fits a GPU's memory
    #[arg(long, value_name = "N", value_parser = within(4..=65_536_usize), add = Ours)]
    chunk: Option<usize>,
    /// Training augmentation
    #[arg(long, value_enum, default_value_t = Augment::CropFlip, add = At("the paper states none"))]
    augment: Augment,
    /// Optimiser
    #[arg(long, value_enum, default_value_t = Adagrad, add = At("Section 3.3"), help_heading = Heading::Optimisation)]
    optimiser: Optimiser,
    /// Learning rate
    #[arg(long, default_value_t = 0.05, value_parser = positive, add = At("Section 3.3"))]
    lr: f64,
    /// Steps after which the rate is divided by ten: 4/5 and 9/10 of --steps
    #[arg(long, value_name = "LIST", value_delimiter = ',', add = OursAs("the paper's are unknown"))]
    drops: Vec<u64>,
    /// Steps in all
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = count, add = OursAs("the paper trains 1000 to 2000 hours"))]
    steps: u64,
}

impl Hyper for Flags {
    const AXES: &'static [&'static str] = &["net"];
    const NAMED: &'static [&'static str] = &["?protocol", "data", "net", "mining", "width", "seed"];
    const PRESETS: &'static [fn(&mut Flags)] = &[
        |h| h.data.data = if h.protocol.is_some() { "data/lfw" } else { "data/casia-webface" }.into(),
        |h| when(h.data.data == "drawn", || h.net = Small),
        |h| h.size = h.net.size(),
        |h| when(h.net == InceptionResnetV1, || h.width = 512),
        |h| when(h.data.data == "drawn", || (h.people, h.faces, h.chunk, h.steps) = (24, 8, Some(192), 120)),
        |h| when(h.data.data == "drawn", || h.size = h.size.min(64)),
        |h| h.drops = vec![h.steps * 4 / 5, h.steps * 9 / 10],
    ];
    const IDLE: &'static [Idle<Flags>] = &[
        (&["folds"], |h| h.protocol.is_some()),
        (faces::NOT_BY_FOLD, |h| h.protocol.is_none()),
        (&["batch-norm"], |h| h.net.is_of_facenet()),
    ];

    /// All of them or an error; what a classifier has beyond the network is passed over.
    fn weights(&self) -> Weights {
        Weights::May(match self.net {
            Googlenet => Published::GOOGLENET,
            InceptionResnetV1 => Published::INCEPTION_RESNET_V1,
            Nn4Small2 | Nn4Small2Released => Published::NN4_SMALL2,
            _ => Published::FACES,
        })
    }

    fn check(&self) -> Result<()> {
        let Flags { people, faces, negatives, .. } = *self;
        ensure!(people > 1 || negatives > 0, "--people 1 has nobody to tell from: say 2 or more, or --negatives");
        ensure!(self.most() <= 65_536, "--people {people} --faces {faces}: more than 65536 faces a batch: say fewer");
        ensure!(self.drops.is_sorted(), "--drops: say ascending steps, e.g. 400000,450000");
        let most = self.net.narrowest();
        ensure!(
            self.shrink <= most,
            "--shrink {}: the narrowest layer has {most} channels: say 1 to {most}",
            self.shrink
        );
        let published = self.published().is_none() || (self.shrink == 1 && self.net != Small);
        ensure!(published, "--weights: published weights fit published networks: no --shrink, another --net");
        Ok(())
    }
}

impl Flags {
    /// The most faces a batch has.
    fn most(&self) -> usize {
        self.people * self.faces + self.negatives
    }

    /// The most faces of a process's share of a batch, the parts that it is computed in, and the most faces of a part.
    fn chunks(&self, run: &Run) -> (usize, usize, usize) {
        let (share, size) = (self.most().div_ceil(run.world().size()), self.chunk.unwrap_or(faces::CHUNK));
        (share, faces::parts(share, size), size)
    }

    fn published(&self) -> Option<&str> {
        hyper::file(self.weights.as_deref())
    }

    fn recipe(&self) -> Recipe {
        let (mean, std) = self.net.input();
        Recipe { height: self.size, width: self.size, mean, std }
    }

    /// The rate at step `t`: divided by ten at each drop that is reached.
    fn rate(&self, t: u64) -> f64 {
        self.lr / 10_f64.powi(self.drops.iter().filter(|&&drop| t >= drop).count() as i32)
    }
}

struct Facenet;

const FACENET: &str =
    "facenet's README: by the angle of concatenated embeddings, of faces that its MTCNN cuts, 160 pixels, margin 32";
const OPENFACE: &str = "OpenFace's page of its models: faces aligned by landmarks, 96 pixels";

impl Paper for Facenet {
    const NAME: &'static str = "facenet";
    const CITATION: &'static str = "Schroff, Kalenichenko, Philbin: FaceNet: A Unified Embedding for Face Recognition and Clustering, arXiv 1503.03832";
    const TRAIN: &'static str = " --test data/lfw";
    const START: &'static [(&'static str, &'static str)] = &[
        ("LFW alone", "reproduce --data data/lfw --protocol lfw-no-outside-data"),
        ("Your photos", "crop --images FOLDER --out FOLDER, then embed --images (or embed --detect --images)"),
    ];
    const SEEN: &'static [&'static str] = &["crop"];
    const USES: &'static [Use] = &[faces::CLUSTER, faces::FIND];
    #[rustfmt::skip]
    const THEIRS: &'static [Theirs<Scoring>] = &[
        Theirs { name: "facenet-vggface2", set: "LFW", score: Some(("accuracy", 99.65, FACENET)), how: |s| s.variant = Variant::FlipMeanSubtracted },
        Theirs { name: "facenet-casia", set: "LFW", score: Some(("accuracy", 99.05, FACENET)), how: |s| s.variant = Variant::FlipMeanSubtracted },
        Theirs { name: "facenet-casia-20180408", set: "LFW", score: Some(("accuracy", 99.05, FACENET)), how: |s| s.variant = Variant::FlipMeanSubtracted },
        Theirs { name: "openface-nn4-small2", set: "LFW", score: Some(("accuracy", 92.92, OPENFACE)), how: |_| () },
    ];
    const OWN: &'static [Own] = &[faces::CROP];
    const BASELINES: Option<(&'static str, &'static [&'static str])> = Some(faces::BASELINES);
    const DEPARTURES: &'static [&'static str] = &[
        "AUC and equal error rate are exact over all held-out pairs, not over a fold-averaged grid",
        "VAL over all pairs takes those within one set of faces; the paper compares 100 000 faces with 100 000 others",
        "128 bytes a face are int8 with one scale for all; the paper gives no scheme",
        "pixels enter as each network's authors or openers have them ((x - 127.5) / 128 in NN1 to NN4); the paper gives no scale",
    ];
    #[rustfmt::skip] // a line a sentence
    const DEPARTURES_WHERE: &'static [Departure<Flags>] = &[
        (|h| h.net.is_of_facenet(), "local response normalisation has size 5, alpha 1e-4, beta 0.75, k 1; the paper gives none"),
        (|h| h.net == Nn4, "NN4's \"higher layers\" without 5x5 convolutions are 5a and 5b, as openface reads it"),
        (|h| !h.net.is_of_facenet(), "--net: not a network of the paper"),
        (|h| h.published().is_some(), "--weights: the paper trains from scratch"),
        (|h| h.data.crop.is_some(), "--crop: the paper crops LFW's thumbnails by a size it does not give"),
    ];
    #[rustfmt::skip]
    const DEPARTURES_TRAINING: &'static [Departure<Flags>] = &[
        (|_| true, "the training data are not the paper's 100 to 200 million private faces"),
        (|_| true, "the loss is the mean over the selected triplets; Eq. 3 writes their sum"),
        (|_| true, "convolutions start He-normal and linear layers Glorot-uniform; the paper says random, as in its reference [16]"),
        (|_| true, "batches are --people with up to --faces each and --negatives; the paper says about 1800, about 40 an identity and random negatives"),
        (|_| true, "the rate is divided by ten at --drops of --steps; the paper trains 1000 to 2000 hours and lowers it at times unknown"),
        (|h| matches!(h.mining, Nearest | RandomInMargin), "each (a, p) has one negative within the margin (Eq. 4) or none; the paper leaves open which"),
        (|h| h.optimiser == Adagrad, "AdaGrad starts at 0.1 with epsilon 1e-10, as TensorFlow's; the paper gives neither"),
    ];
    #[rustfmt::skip]
    const UNLIKE: &'static [Unlike<Self>] = &[
        (|h, _| h.protocol.is_some(), "the paper trains on outside data and has no number for this protocol"),
        (|_, set| set.is_published(), "the paper trained on 100 to 200 million private faces; the test protocol is the same"),
    ];
    const PUBLISHED: bool = true;
    type Hyper = Flags;
    type Scoring = Scoring;
    type Data = FaceSet;
    type Shape = ();
    type Net = Box<dyn Network>;

    fn settle(h: &mut Flags, begun: Option<Flags>, run: &Run) {
        h.chunk = h.chunk.or_else(|| begun.map_or_else(|| faces::chunk(h.size, h.shrink, run), |begun| begun.chunk));
    }

    fn open(h: &Flags, _: u64) -> Result<FaceSet> {
        h.data.open()
    }

    fn elsewhere(own: &Flags, other: &Flags, _: u64) -> Result<FaceSet> {
        ensure!(own.protocol.is_none(), "a run of --protocol has a network a fold, and none for other data");
        own.data.elsewhere(&other.data)
    }

    /// As many people and faces as a batch takes.
    fn drawn(h: &Flags, _: u64) -> Result<FaceSet> {
        Ok(drawn::Faces { train: h.people.max(80) as u64, shots: h.faces.max(12) as u64, ..drawn::Faces::default() }
            .set())
    }

    /// One training; with `--protocol` one a fold. What cannot train is refused here, before a folder is claimed.
    fn parts(h: &Flags, set: &FaceSet) -> Result<Vec<String>> {
        let parts = match h.protocol {
            Some(Protocol::LfwNoOutsideData) => faces::fold_names(set, &h.folds)?,
            None => vec![String::new()],
        };
        for part in &parts {
            faces::sampler(&faces::named_fold(set, part, h.data.min_images)?, h.people, h.faces, h.negatives, 0)?;
        }
        Ok(parts)
    }

    // ---- Section 3.3: the networks --------------------------------------------------------------------------------

    /// f(x): an image to a point of the unit sphere.
    fn network(h: &Flags, _: &(), _: &str, store: &VarStore, run: &Run) -> Result<Box<dyn Network>> {
        let net = h.net.build(&Scope::root(store, run.seed), h.size, h.width, h.shrink, h.batch_norm);
        net.with_context(|| format!("--net {} --size {} --shrink {}", shown(h, "net"), h.size, h.shrink))
    }

    // ---- Sections 3.1 and 3.2: training ---------------------------------------------------------------------------

    fn plan(h: &Flags, _: &FaceSet, _: &str, run: &Run) -> Result<Plan> {
        let (share, chunks, _) = h.chunks(run);
        ensure!(
            chunks == 1 || !run.machine.training.sync_batch_norm,
            "--sync-batch-norm: shares of {share} faces come in {chunks} chunks, which are not the same number everywhere: say --chunk {share} or more, or more processes"
        );
        let rule = match h.optimiser {
            Adagrad => Rule::AdaGrad { initial: 0.1, eps: 1e-10 },
            Adam => Rule::ADAM,
            Sgd => Rule::Sgd { momentum: 0.9 },
        };
        Ok(Plan { steps: h.steps, rule, weight_decay: 0. })
    }

    fn train(h: &Flags, set: &FaceSet, part: &str, net: &Self::Net, session: &mut Session, run: &Run) -> Result<()> {
        let set = faces::named_fold(set, part, h.data.min_images)?;
        let sampler = faces::sampler(&set, h.people, h.faces, h.negatives, run.seed("sampler"))?;
        let (_, chunks, size) = h.chunks(run);
        let batches = faces::FaceBatches::new(set.train, sampler, run);
        let mut loader = faces::chunks(&batches, h.recipe(), h.augment, size, session.steps(), run)?;
        // Running statistics.
        let buffers: Vec<Tensor> = session.store().variables().into_values().filter(|x| !x.requires_grad()).collect();
        if run.machine.device.is_cuda() {
            // Batches differ in their number of faces, and cuDNN would search for the fastest kernels at each.
            tch::Cuda::cudnn_set_benchmark(false);
        }
        for t in session.steps() {
            let (_, who, left_out) = batches.of(t)?;
            let labels = Tensor::from_slice(&who);
            let images = labels.size()[0];
            let shares = run.world().shares(images as usize, 1)?;
            let batch = (images, shares.own().start as i64..shares.own().end as i64);
            let cut = cached::Chunks { count: chunks, seed: run.seed("dropout") ^ t, batch, buffers: &buffers };
            let next = || -> Result<Option<Tensor>> {
                let chunk = loader.next().ok_or_else(|| anyhow!("the loader ended early"))??;
                Ok(chunk.map(|images| channels_last(&upload(&images, run.machine.device))))
            };
            let embed = |images: &Tensor| run.autocast(|| net.forward(images, true)); // f(x)
            session.zero_grad();
            let (loss, tally, x) = cached::backward(&cut, next, embed, session.gradients(), |x| {
                let x = run.world().gather(x, &shares)?; // of all processes
                // ‖f(a) - f(p)‖² - ‖f(a) - f(n)‖² + α over all pairs (Eq. 3), n by Eq. 4
                let n = h.mining.by(run.seed("mining") ^ t);
                let tally = run.world().tally(Loss::EveryPair(h.margin, n), &x, &labels, Metric::SquaredEuclidean)?;
                Ok((tally.mean(), (tally.mean().detach(), tally, x.detach())))
            })?;
            session.step(h.rate(t));
            session.left_out(|| left_out)?;
            let done = Done { step: t, loss: &loss, images, waited: loader.waited() };
            session.after(done, || {
                stats::line(t, &loss, &tally, json!({"lr": h.rate(t)}), &x, Metric::SquaredEuclidean, h.margin)
            })?;
        }
        Ok(())
    }

    // ---- Sections 4 and 5: evaluation -----------------------------------------------------------------------------

    fn check_scoring(h: &Flags, how: &Scoring) -> Result<()> {
        ensure!(h.protocol.is_none() || !how.variant().centres(), "--variant: --protocol takes plain or flip-averaged");
        Ok(())
    }

    fn evaluate(h: &Flags, set: &FaceSet, nets: &Nets<'_, Self>, how: &Scoring, run: &Run) -> Result<Evaluation> {
        let set = how.seen(set, Some(&run.machine))?;
        ensure!(!set.test.is_empty(), "{} has no test faces: give other --data, or train with --test DIR", set.name);
        let rows = |part: &str, of: &[Photo]| faces::embed(&*nets.part(part)?.net, of, h.recipe(), how, run);
        let mut found = Evaluation::default();
        if h.protocol.is_some() {
            let folds = faces::judge_folds(&set, &h.folds, h.data.min_images, how.far, rows)?;
            let title = format!("{}, no outside data: {} of {}", set.name, folds.len(), say::count(set.folds, "fold"));
            found.tables = vec![(title, faces::fold_table(&folds))];
            (found.scores, found.protocol) = (faces::mean_unseen(&folds, how.far), faces::fold_protocol(how.far));
            found.report.answers(&faces::says_of_folds(&folds));
            return Ok(found);
        }
        let scored = faces::score(&set, &rows("", &set.test)?, how, run.seed, run.world())?;
        found.report.answers(&scored.says.join(" "));
        if run.leads() {
            faces::show(&mut found.report, &set, &scored, how.far)?;
        }
        Ok(Evaluation { scores: scored.scores, protocol: scored.protocol, ..found })
    }

    fn rivals(
        h: &Flags,
        set: &FaceSet,
        nets: &Nets<'_, Self>,
        found: &Evaluation,
        how: &Scoring,
        run: &Run,
    ) -> Result<Vec<(String, Table)>> {
        if !set.pairs_images() {
            return Ok(Vec::new());
        }
        let some = if h.folds.is_empty() { String::new() } else { format!(" (folds {})", shown(h, "folds")) };
        let name = |what: &str| format!("{}, {what}{some}", shown(h, "net"));
        let before = Self::evaluate(h, set, &nets.untrained(), how, run)?.scores;
        let ours = vec![(name("untrained"), before), (name("trained"), found.scores.clone())];
        Ok(vec![faces::beside(&how.seen(set, Some(&run.machine))?, how.far, ours)?])
    }

    fn baselines(set: &FaceSet, how: &Scoring) -> Result<Vec<(String, Table)>> {
        Ok(vec![faces::beside(&how.seen(set, None)?, how.far, Vec::new())?])
    }

    fn detector(how: &Scoring) -> Option<std::path::PathBuf> {
        how.detector().map(Into::into)
    }

    fn embed(h: &Flags, nets: &Nets<'_, Self>, of: &Brought, how: &Scoring, run: &Run) -> Result<Rows> {
        faces::embed_photos(&*nets.only()?, of, h.data.view(), h.recipe(), how, run)
    }

    fn modules(h: &Flags, _: &Scoring) -> Result<Vec<(String, String)>> {
        // A network a fold is for judging alone.
        Ok(if h.protocol.is_some() { Vec::new() } else { vec![(String::new(), "model.pt".into())] })
    }

    fn chooses(h: &Flags) -> Result<(), &'static str> {
        h.data
            .test
            .is_some()
            .then_some(())
            .ok_or("say --test DIR, faces to choose by; the best is scored on others then")
    }

    fn about(h: &Flags, _: &(), _: &str, how: &Scoring) -> About {
        About::photos(h.recipe(), how.views(), "embeddings").through(h.data.view()).unit()
    }

    // ---- The paper's numbers --------------------------------------------------------------------------------------

    const CLAIMS: &'static [Claims<Flags, Scoring>] = &[Claims {
        unit: 100.,
        metrics: &["accuracy"],
        columns: &[
            ("LFW", "", as_usual),
            ("YouTube Faces", "", as_usual),
            ("YouTube Faces, 1000 frames", "", as_usual),
        ],
        rows: &[
            ("Section 5.6", "", |h, _| (h.net, h.data.crop) = (Nn1, Some(0.55)), &[&[98.87]]),
            ("Section 5.6, extra face alignment", "", |h, _| h.net = Nn1, &[&[99.63]]),
            ("Section 5.7, first 100 frames", "", |h, _| h.net = Nn1, &[&[], &[95.12]]),
            ("Section 5.7, first 1000 frames", "", |h, _| h.net = Nn1, &[&[], &[], &[95.18]]),
        ],
    }];

    const STUDIES: &'static [Study<Flags, Scoring>] = &[
        Study {
            name: "3",
            title: "Table 3: networks (NNS1 165x165, 82.4 ± 2.4, and NNS2 140x116, 51.9 ± 2.9, have unpublished layers)",
            rows: &[
                ("NN1 220x220", |h, _| table_3(h, Nn1, 56), &["87.9", "1.9"]),
                ("NN2 224x224", |h, _| table_3(h, Nn2, 56), &["89.4", "1.6"]),
                ("NN3 160x160", |h, _| table_3(h, Nn3, 40), &["88.3", "1.7"]),
                ("NN4 96x96", |h, _| table_3(h, Nn4, 32), &["82.0", "2.3"]),
            ],
            ..TABLES
        },
        Study {
            name: "4",
            title: "Table 4: JPEG quality and pixels of the test images",
            rows: &[
                ("JPEG quality 10", |_, s| s.jpeg = Some(10), &["67.3"]),
                ("JPEG quality 20", |_, s| s.jpeg = Some(20), &["81.4"]),
                ("JPEG quality 30", |_, s| s.jpeg = Some(30), &["83.9"]),
                ("JPEG quality 50", |_, s| s.jpeg = Some(50), &["85.5"]),
                ("JPEG quality 70", |_, s| s.jpeg = Some(70), &["86.1"]),
                ("JPEG quality 90", |_, s| s.jpeg = Some(90), &["86.5"]),
                ("1600 pixels (40x40)", |_, s| s.pixels = Some(40), &["37.8"]),
                ("6400 pixels (80x80)", |_, s| s.pixels = Some(80), &["79.5"]),
                ("14400 pixels (120x120)", |_, s| s.pixels = Some(120), &["84.5"]),
                ("25600 pixels (160x160)", |_, s| s.pixels = Some(160), &["85.7"]),
                ("65536 pixels (256x256)", |_, s| s.pixels = Some(256), &["86.4"]),
            ],
            ..TABLES
        },
        Study {
            name: "5",
            title: "Table 5: embedding width",
            rows: &[
                ("64", |h, _| h.width = 64, &["86.8", "1.7"]),
                ("128", |h, _| h.width = 128, &["87.9", "1.9"]),
                ("256", |h, _| h.width = 256, &["87.7", "1.9"]),
                ("512", |h, _| h.width = 512, &["85.6", "2.0"]),
            ],
            ..TABLES
        },
    ];
}

/// Tables 3 to 5 neither recognise nor cluster; their network is NN1 where they say nothing else.
const TABLES: Study<Flags, Scoring> = Study {
    fixed: |h, s| {
        (s.enrolled, s.cluster_images) = (Vec::new(), 0);
        when(h.data.data != "drawn", || h.net = Nn1);
    },
    // VAL over five splits of the people, and over all pairs where there are too few people for five.
    sheets: &[Sheet {
        title: "VAL at FAR 0.001 over five splits of the test people, accuracy on pairs (the paper: VAL)",
        cells: &[
            ("VAL", &["five splits VAL at FAR 0.001"]),
            ("± SEM", &["five splits VAL SEM"]),
            ("VAL, all pairs", &["all pairs VAL at FAR 0.001"]),
            ("accuracy", &["accuracy"]),
        ],
        digits: 1,
        ..Sheet::PLAIN
    }],
    ..Study::PLAIN
};

/// A row of Table 3; of drawn faces a fraction of channels and pixels, the sizes still in the paper's order.
fn table_3(h: &mut Flags, net: FaceNet, drawn: u32) {
    (h.net, h.size) = (net, net.size());
    when(h.data.data == "drawn", || (h.size, h.shrink, h.batch_norm, h.steps) = (drawn, 8, true, 40));
}

rankle::program!(Facenet);
