//! Every hyperparameter with its place in the paper, and the verbs' flags.

use super::*;
use clap::{Args, Parser, Subcommand, ValueEnum};
use rankle::run::machine::MachineFlags;

#[derive(Parser)]
#[command(
    name = "quadruplet",
    version,
    about = "Beyond triplet loss: a deep quadruplet network for person re-identification\nChen, Chen, Zhang, Huang, CVPR 2017, arXiv 1704.01719",
    after_help = "Quick start: quadruplet reproduce --data drawn\nThe paper:   quadruplet train --data data/cuhk03/labeled --weights data/weights/alexnet-owt-7be5be79.pth, then evaluate --run DIR\nFigure 5:    quadruplet reproduce --data data/cuhk03/labeled --weights FILE (all six models, the figure's numbers beside ours)"
)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Train and score the six models of Figure 5 on the same data and seeds, beside the figure's numbers
    Reproduce(Reproduce),
    /// Train one model, or go on training where the same command was interrupted
    Train(Train),
    /// Score a trained run: results.json, report.html, the table
    Evaluate(Evaluate),
    /// Embeddings of all images under a folder (triplet-embedding), or the dissimilarity of every two of them
    Embed(Embed),
    /// Write model.pt (TorchScript; of a learned metric a module of two images), compared before it counts as written
    Export(Export),
    /// The data card: counts, identities, cameras, sizes, problems
    Data(Data),
}

#[derive(Args)]
pub struct Reproduce {
    /// Folder of the runs, a folder a model and seed [default: data/runs/quadruplet/ and a name made from the flags]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Seeds to train every model with, e.g. 1,2,3 [default: --seed]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub seeds: Vec<u64>,
    /// Models to train [default: all six]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub models: Vec<Model>,
    #[command(flatten)]
    pub hyper: Flags,
    #[command(flatten)]
    pub machine: MachineFlags,
    #[command(flatten)]
    pub scoring: Scoring,
}

#[derive(Args)]
pub struct Train {
    /// Run folder [default: data/runs/quadruplet/ and a name made from the flags]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    #[command(flatten)]
    pub hyper: Flags,
    #[command(flatten)]
    pub machine: MachineFlags,
}

#[derive(Args)]
pub struct Evaluate {
    /// Run folder that train made
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Score the network as training found it instead, into DIR/untrained: what training was worth
    #[arg(long)]
    pub untrained: bool,
    /// Score on this data instead of the run's own
    #[arg(long, value_name = "DIR|drawn")]
    pub data: Option<String>,
    #[command(flatten)]
    pub machine: MachineFlags,
    #[command(flatten)]
    pub scoring: Scoring,
}

#[derive(Args)]
pub struct Embed {
    /// Run folder that train made
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Folder of images, searched with its subfolders
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// File to write, file names in its metadata: tensor "embeddings" [N, 512] of triplet-embedding, else "dissimilarity" [N, N]
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
    /// Which orders of a pair are compared
    #[arg(long, value_enum, default_value_t = Order::Both)]
    pub order: Order,
    #[command(flatten)]
    pub machine: MachineFlags,
}

#[derive(Args)]
pub struct Export {
    /// Run folder that train made
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Which orders of a pair are compared
    #[arg(long, value_enum, default_value_t = Order::Both)]
    pub order: Order,
    #[command(flatten)]
    pub machine: MachineFlags,
}

#[derive(Args)]
pub struct Data {
    /// Data set folder (CUHK03, CUHK01, VIPeR, Market-1501, MARS, or one folder an identity), or drawn
    #[arg(long, value_name = "DIR|drawn")]
    pub data: String,
    /// Split of CUHK03, CUHK01 or VIPeR
    #[arg(long, value_name = "N|np", default_value_t = Split::default())]
    pub split: Split,
    /// People to test in CUHK01 or VIPeR [default: 486, 316]
    #[arg(long, value_name = "N")]
    pub test_people: Option<usize>,
    /// Also write the card as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// g is not symmetric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Outputs of (a, b) and (b, a) averaged
    Both,
    /// (query, gallery) alone
    One,
}

#[derive(Args, Clone)]
pub struct Scoring {
    /// Random galleries of one image a person, averaged (single-shot CMC)
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub draws: u64,
    /// Training pairs of each kind whose mean distance is taken (Figure 5)
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    pub pairs: u64,
    /// Which orders of a pair are compared
    #[arg(long, value_enum, default_value_t = Order::Both)]
    pub order: Order,
}

/// The six models of Figure 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// Triplet(Embedding): squared distance of unit embeddings (Eq. 1)
    TripletEmbedding,
    /// Triplet(Learned Metric): one unbounded unit (Eq. 2)
    TripletLearnedMetric,
    /// Triplet(Improved w/o sfx): two units without softmax
    TripletNoSoftmax,
    /// Triplet(Improved): two units with softmax
    TripletImproved,
    /// Quadruplet, fixed margins (Eq. 3)
    Quadruplet,
    /// Quadruplet+MargOHNM: then adaptive margins (Eq. 4)
    QuadrupletMargohnm,
}

impl Model {
    pub const ALL: [Model; 6] = [
        Model::TripletEmbedding,
        Model::TripletLearnedMetric,
        Model::TripletNoSoftmax,
        Model::TripletImproved,
        Model::Quadruplet,
        Model::QuadrupletMargohnm,
    ];

    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// The paper's name.
    pub fn title(self) -> &'static str {
        match self {
            Model::TripletEmbedding => "Triplet(Embedding)",
            Model::TripletLearnedMetric => "Triplet(Learned Metric)",
            Model::TripletNoSoftmax => "Triplet(Improved w/o sfx)",
            Model::TripletImproved => "Triplet(Improved)",
            Model::Quadruplet => "Quadruplet",
            Model::QuadrupletMargohnm => "Quadruplet+MargOHNM",
        }
    }

    /// Whether g is a probability.
    pub fn has_softmax(self) -> bool {
        matches!(self, Model::TripletImproved | Model::Quadruplet | Model::QuadrupletMargohnm)
    }

    /// Whether a fourth image takes part.
    pub fn takes_quadruplets(self) -> bool {
        matches!(self, Model::Quadruplet | Model::QuadrupletMargohnm)
    }

    /// Units of fc8 (Figure 2).
    pub fn outputs(self) -> i64 {
        match self {
            Model::TripletEmbedding => 512,
            Model::TripletLearnedMetric => 1,
            _ => 2,
        }
    }
}

/// The layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Net {
    /// AlexNet as torchvision has it (57.7 M parameters)
    Alexnet,
    /// AlexNet as Caffe has it: two towers, local response normalisation
    Caffe,
    /// A small network of ours with batch normalisation, for small machines; not the paper's
    Small,
}

/// How a pair's conv2 maps enter conv3 (Figure 3, "regroup").
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairing {
    /// One behind the other along the channels
    Channels,
    /// Side by side
    Width,
}

/// What the adaptive margins do to the gradient (Eq. 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gradient {
    /// Nothing: they are numbers
    Detach,
    /// As Eq. 5 prints it
    Eq5,
    /// As automatic differentiation gives it
    Full,
}

/// Flags of train and reproduce. What is not given is the paper's.
#[derive(Args, Clone)]
pub struct Flags {
    /// Data set folder (CUHK03, CUHK01, VIPeR, Market-1501, MARS, or one folder an identity), or drawn for the built-in set
    #[arg(long, value_name = "DIR|drawn", default_value = "data/cuhk03/labeled")]
    pub data: String,
    /// Split: a test set of CUHK03 (1 to 20), a drawn one of CUHK01 or VIPeR, or np for CUHK03's new protocol
    #[arg(long, value_name = "N|np", default_value_t = Split::default())]
    pub split: Split,
    /// People to test in CUHK01 (486 or 100) or VIPeR [default: 486, 316]
    #[arg(long, value_name = "N")]
    pub test_people: Option<usize>,
    /// Hold this many training people out and score on them [default: 0, the test set]
    #[arg(long, value_name = "N")]
    pub validation: Option<usize>,
    /// Model (Figure 5) [default: quadruplet-margohnm]
    #[arg(long, value_enum)]
    pub model: Option<Model>,
    /// Layers [default: alexnet; small on drawn data]
    #[arg(long, value_enum)]
    pub net: Option<Net>,
    /// ImageNet weights for conv1 and conv2 (.pth or .safetensors by torchvision's names), or none (Section 4)
    #[arg(long, value_name = "FILE|none")]
    pub weights: Option<String>,
    /// Start from the weights of this run instead, as small sets may from CUHK03's
    #[arg(long, value_name = "DIR", conflicts_with = "weights")]
    pub start: Option<PathBuf>,
    /// How a pair's maps enter conv3 (Figure 3) [default: channels]
    #[arg(long, value_enum)]
    pub pairing: Option<Pairing>,
    /// Input height x width in pixels (Section 4) [default: 227x227]
    #[arg(long, value_name = "HxW")]
    pub size: Option<String>,
    /// Quadruplets (or triplets) a batch (Section 4) [default: 128]
    #[arg(long, value_name = "M")]
    pub quadruplets: Option<usize>,
    /// Draw pairs without a look at cameras; the default is that every pair is seen by two (Section 3.3)
    #[arg(long)]
    pub any_camera: bool,
    /// Learning rate of the first stage, a tenth of it after 3/5 of the stage (Section 4) [default: 0.001; the small network's 0.005, of triplet-embedding 0.02]
    #[arg(long)]
    pub lr: Option<f64>,
    /// Learning rate of the second stage [default: a tenth of --lr; the small network's 0.002]
    #[arg(long)]
    pub lr2: Option<f64>,
    /// Steps with fixed margins [default: 25000]
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Then steps with adaptive margins, of quadruplet-margohnm [default: 25000]
    #[arg(long, value_name = "N")]
    pub steps2: Option<u64>,
    /// Margin of the triplet models [default: 1; 0.3 of triplet-embedding]
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true)]
    pub margin: Option<f64>,
    /// Fixed margins alpha1,alpha2 (Section 3.2: 1 and 0.5) [default: 1,0.5]
    #[arg(long, value_name = "A1,A2", value_delimiter = ',', num_args = 1, allow_negative_numbers = true)]
    pub margins: Option<Vec<f64>>,
    /// Adaptive margins are these times the difference of the means (Eq. 4: 1 and 0.5) [default: 1,0.5]
    #[arg(long, value_name = "W1,W2", value_delimiter = ',', num_args = 1, allow_negative_numbers = true)]
    pub adaptive: Option<Vec<f64>>,
    /// What the adaptive margins do to the gradient (Eq. 5) [default: detach]
    #[arg(long, value_enum)]
    pub margin_gradient: Option<Gradient>,
    /// Weight of a cross-entropy on the two units ("same", "different") beside the ranking loss; the paper has none [default: 0]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    pub classification: Option<f64>,
    /// Dropout before fc6 and fc7 [default: 0.5; 0 of the small network]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub dropout: Option<f64>,
    /// Everything random follows from this
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Compute the network in bfloat16; losses stay in f32
    #[arg(long)]
    pub amp: bool,
    /// Steps between two log lines [default: 10]
    #[arg(long, value_name = "STEPS")]
    pub log_every: Option<u64>,
}

/// A run's hyperparameters, all decided; what config.json holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hyper {
    pub data: String,
    pub split: Split,
    pub test_people: Option<usize>,
    pub validation: usize,
    pub model: Model,
    pub net: Net,
    pub weights: Option<String>,
    pub start: Option<PathBuf>,
    pub pairing: Pairing,
    pub height: u32,
    pub width: u32,
    pub quadruplets: usize,
    pub any_camera: bool,
    pub lr: f64,
    pub lr2: f64,
    pub steps: u64,
    pub steps2: u64,
    pub margin: f64,
    pub margins: [f64; 2],
    pub adaptive: [f64; 2],
    pub margin_gradient: Gradient,
    pub classification: f64,
    pub dropout: f64,
    pub seed: u64,
    pub amp: bool,
    pub log_every: u64,
}

impl Flags {
    pub fn is_drawn(&self) -> bool {
        self.data == "drawn"
    }

    /// Fills in the defaults and refuses what cannot train.
    pub fn resolve(&self) -> Result<Hyper> {
        let model = self.model.unwrap_or(Model::QuadrupletMargohnm);
        let net = self.net.unwrap_or(if self.is_drawn() { Net::Small } else { Net::Alexnet });
        let base = Hyper::base(model, net);
        let (height, width) = match &self.size {
            None => (base.height, base.width),
            Some(text) => text
                .split_once('x')
                .and_then(|(h, w)| Some((h.parse().ok()?, w.parse().ok()?)))
                .with_context(|| format!("--size {text}: say height x width in pixels, e.g. 227x227"))?,
        };
        let weights = match (&self.weights, net) {
            (None, Net::Small) => None,
            (Some(text), _) if text == "none" => None,
            (Some(_), Net::Small) => bail!("--weights: the small network has none: leave it out, or say --net alexnet"),
            (Some(file), _) => Some(file.clone()),
            (None, _) if self.start.is_some() => None,
            (None, _) => bail!(
                "conv1 and conv2 start from ImageNet weights: say --weights FILE ({} gets data/weights/alexnet-owt-7be5be79.pth), --weights none to train from scratch, --start RUN, or --net small",
                datasets::catalog::fetch("alexnet")
            ),
        };
        let two = |flag: &str, given: &Option<Vec<f64>>, default: [f64; 2]| -> Result<[f64; 2]> {
            match given.as_deref() {
                None => Ok(default),
                Some(&[a, b]) => Ok([a, b]),
                Some(_) => bail!("--{flag}: say two numbers with a comma between them, e.g. 1,0.5"),
            }
        };
        let lr = self.lr.unwrap_or(base.lr);
        let h = Hyper {
            data: self.data.trim_end_matches('/').to_string(),
            split: self.split,
            test_people: self.test_people,
            validation: self.validation.unwrap_or(0),
            weights,
            start: self.start.clone(),
            pairing: self.pairing.unwrap_or(base.pairing),
            height,
            width,
            quadruplets: self.quadruplets.unwrap_or(base.quadruplets),
            any_camera: self.any_camera,
            lr,
            lr2: self.lr2.unwrap_or(if self.lr.is_some() { lr / 10. } else { base.lr2 }),
            steps: self.steps.unwrap_or(base.steps),
            steps2: if model == Model::QuadrupletMargohnm {
                self.steps2.unwrap_or(self.steps.unwrap_or(base.steps2))
            } else {
                0
            },
            margin: self.margin.unwrap_or(base.margin),
            margins: two("margins", &self.margins, base.margins)?,
            adaptive: two("adaptive", &self.adaptive, base.adaptive)?,
            margin_gradient: self.margin_gradient.unwrap_or(base.margin_gradient),
            classification: self.classification.unwrap_or(0.),
            dropout: self.dropout.unwrap_or(base.dropout),
            seed: self.seed,
            amp: self.amp,
            log_every: self.log_every.unwrap_or(base.log_every),
            ..base
        };
        h.check()?;
        Ok(h)
    }
}

impl Hyper {
    /// The defaults: the paper's, or the small ones of the small network.
    pub fn base(model: Model, net: Net) -> Hyper {
        let paper = Hyper {
            data: String::new(),
            split: Split::default(),
            test_people: None,
            validation: 0,
            model,
            net,
            weights: None,
            start: None,
            pairing: Pairing::Channels,
            height: 227,
            width: 227,
            quadruplets: 128,
            any_camera: false,
            lr: 1e-3,
            lr2: 1e-4,
            steps: 25_000,
            steps2: if model == Model::QuadrupletMargohnm { 25_000 } else { 0 },
            margin: if model == Model::TripletEmbedding { 0.3 } else { 1. },
            margins: [1., 0.5],
            adaptive: [1., 0.5],
            margin_gradient: Gradient::Detach,
            classification: 0.,
            dropout: 0.5,
            seed: 1,
            amp: false,
            log_every: 10,
        };
        match net {
            Net::Alexnet | Net::Caffe => paper,
            Net::Small => Hyper {
                height: 64,
                width: 32,
                quadruplets: 32,
                // At 0.02 some seeds of a learned metric saturate at once, or run away where g has no bound.
                lr: if model == Model::TripletEmbedding { 0.02 } else { 0.005 },
                lr2: 0.002,
                steps: 300,
                steps2: if model == Model::QuadrupletMargohnm { 150 } else { 0 },
                dropout: 0.,
                ..paper
            },
        }
    }

    fn check(&self) -> Result<()> {
        if !(1..=16_384).contains(&self.quadruplets) {
            bail!("--quadruplets {}: say 1 to 16384; the paper's are 128", self.quadruplets);
        }
        if self.quadruplets * self.pairs_each() < 2 {
            bail!("--quadruplets {}: a batch needs two", self.quadruplets);
        }
        for (flag, rate) in [("lr", self.lr), ("lr2", self.lr2)] {
            if !(rate > 0. && rate.is_finite()) {
                bail!("--{flag} {rate}: say a number above 0, e.g. 0.001");
            }
        }
        if self.steps == 0 || self.steps > 1_000_000_000 || self.steps2 > 1_000_000_000 {
            bail!("--steps {} --steps2 {}: say how many steps to train, 1 to 1000000000", self.steps, self.steps2);
        }
        if self.log_every == 0 {
            bail!("--log-every 0: say 1 or more");
        }
        let numbers = [
            ("margin", &[self.margin][..]),
            ("margins", &self.margins),
            ("adaptive", &self.adaptive),
            ("classification", &[self.classification]),
        ];
        for (flag, values) in numbers {
            if let Some(bad) = values.iter().find(|value| !(0. ..=1e6).contains(*value)) {
                bail!("--{flag} {bad}: say a number from 0 to 1e6");
            }
        }
        if !(0. ..1.).contains(&self.dropout) {
            bail!("--dropout {}: say a share from 0 to below 1, e.g. 0.5", self.dropout);
        }
        if self.classification > 0. && !self.model.has_softmax() {
            bail!("--classification needs the softmax over two units, which {} has not", self.model.name());
        }
        if [self.height, self.width].iter().any(|side| !(16..=1024).contains(side)) {
            bail!("--size {}x{}: say 16 to 1024 pixels a side", self.height, self.width);
        }
        Ok(())
    }

    /// Pairs of a quadruplet that are compared.
    pub fn pairs_each(&self) -> usize {
        if self.model.takes_quadruplets() { 3 } else { 2 }
    }

    /// Images of a quadruplet that are looked at.
    pub fn images_each(&self) -> usize {
        if self.model.takes_quadruplets() { 4 } else { 3 }
    }

    /// Learning rate at step `t`: `lr`, then `lr2` in the second stage, each a tenth after 3/5 of its stage.
    pub fn rate(&self, t: u64) -> f64 {
        let (base, into, of) =
            if t < self.steps { (self.lr, t, self.steps) } else { (self.lr2, t - self.steps, self.steps2) };
        if into * 5 < of * 3 { base } else { base / 10. }
    }

    pub fn recipe(&self) -> Recipe {
        Recipe::imagenet(self.height, self.width)
    }

    pub fn embedding(&self, machine: &Machine) -> Embedding {
        Embedding {
            recipe: self.recipe(),
            views: TestViews::Original,
            device: machine.device,
            batch: 128,
            workers: machine.workers,
            amp: self.amp,
            world: machine.world.clone(),
        }
    }

    pub fn comparison(&self, order: Order, machine: &Machine) -> Comparison {
        Comparison {
            recipe: self.recipe(),
            device: machine.device,
            batch: if self.net == Net::Small { 1024 } else { 256 },
            workers: machine.workers,
            amp: self.amp,
            both_orders: order == Order::Both,
        }
    }

    /// data/runs/quadruplet/<data>-<split>-<net>-<model>-<seed>
    pub fn folder(&self) -> PathBuf {
        Path::new("data/runs/quadruplet").join(format!("{}-{}-{}", self.data_name(), self.model.name(), self.seed))
    }

    /// Data, split and network in a folder's name.
    pub fn data_name(&self) -> String {
        let mut parts: Vec<String> = Path::new(&self.data)
            .components()
            .rev()
            .take(if self.data.ends_with("labeled") || self.data.ends_with("detected") { 2 } else { 1 })
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .filter(|part| part != "/" && part != "..")
            .collect();
        parts.reverse();
        let net = self.net.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string());
        let split = if self.split == Split::default() { String::new() } else { format!("-split{}", self.split) };
        format!("{}{split}-{net}", parts.join("-"))
    }

    /// Where this run's flags leave the paper's, in words.
    pub fn departures(&self) -> Vec<String> {
        let paper = Hyper::base(self.model, Net::Alexnet);
        let mut list = Vec::new();
        let mut compare = |flag: &str, ours: String, theirs: String| {
            if ours != theirs {
                list.push(format!("--{flag} {ours} (the paper, or what is taken for it: {theirs})"));
            }
        };
        if self.net == Net::Small {
            compare("net", "small".into(), "AlexNet".into());
        }
        compare("size", format!("{}x{}", self.height, self.width), format!("{}x{}", paper.height, paper.width));
        compare("quadruplets", self.quadruplets.to_string(), paper.quadruplets.to_string());
        compare("lr", self.lr.to_string(), paper.lr.to_string());
        compare("steps", self.steps.to_string(), paper.steps.to_string());
        if self.model == Model::QuadrupletMargohnm {
            compare("lr2", self.lr2.to_string(), paper.lr2.to_string());
            compare("steps2", self.steps2.to_string(), paper.steps2.to_string());
            compare("adaptive", format!("{:?}", self.adaptive), format!("{:?}", paper.adaptive));
            compare("margin-gradient", format!("{:?}", self.margin_gradient), format!("{:?}", paper.margin_gradient));
        }
        if self.model.takes_quadruplets() {
            compare("margins", format!("{:?}", self.margins), format!("{:?}", paper.margins));
        } else {
            compare("margin", self.margin.to_string(), paper.margin.to_string());
        }
        compare("classification", self.classification.to_string(), "0".into());
        compare("dropout", self.dropout.to_string(), paper.dropout.to_string());
        compare("pairing", format!("{:?}", self.pairing), format!("{:?}", paper.pairing));
        if self.any_camera {
            list.push("--any-camera: pairs within a camera too".into());
        }
        if self.net != Net::Small && self.weights.is_none() {
            list.push("conv1 and conv2 do not start from ImageNet weights".into());
        }
        if self.amp {
            list.push("--amp: the network in bfloat16 (the paper: f32)".into());
        }
        list
    }

    /// What the report states at its top.
    pub fn facts(&self, set: &ReidSet, step: u64, machine: &Machine) -> Vec<(String, String)> {
        let fact = |key: &str, value: String| (key.to_string(), value);
        vec![
            fact("data", set.name.clone()),
            fact("model", self.model.title().into()),
            fact("network", self.net.to_possible_value().map_or_else(String::new, |v| v.get_name().to_string())),
            fact("batch", format!("{} quadruplets", self.quadruplets)),
            fact("input", format!("{}x{}", self.height, self.width)),
            fact("steps", step.to_string()),
            fact("seed", self.seed.to_string()),
            fact("device", machine.name.clone()),
        ]
    }
}
