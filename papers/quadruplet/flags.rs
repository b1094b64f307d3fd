//! Every hyperparameter with its place in the paper, and the verbs' flags.

use super::*;
use clap::{Args, Parser, Subcommand, ValueEnum};
use rankle::run::machine::{MachineFlags, TrainingFlags};

#[derive(Parser)]
#[command(
    name = "quadruplet",
    version,
    about = "Beyond triplet loss: a deep quadruplet network for person re-identification\nChen, Chen, Zhang, Huang, CVPR 2017, arXiv 1704.01719",
    after_help = "Quick start: quadruplet reproduce --data drawn\nThe paper:   quadruplet train --data data/cuhk03/labeled --weights data/weights/alexnet-owt-7be5be79.pth, then evaluate --run DIR\nFigure 5:    quadruplet reproduce --data data/cuhk03/labeled --weights FILE (all six models, the figure's numbers beside ours)\nCUHK03's 20 test sets: add --splits 1-20"
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
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "seed")]
    pub seeds: Vec<u64>,
    /// Splits to train and test every model on, averaged, e.g. 1-20 of CUHK03 or 1-10 of VIPeR [default: --split]
    #[arg(long, value_name = "LIST", conflicts_with = "split")]
    pub splits: Option<Splits>,
    /// Models to train [default: all six]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub models: Vec<Model>,
    #[command(flatten)]
    pub hyper: Flags,
    #[command(flatten)]
    pub machine: TrainingFlags,
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
    pub machine: TrainingFlags,
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
    /// Split of that data, where it has several [default: 1]
    #[arg(long, value_name = "N|np", requires = "data")]
    pub split: Option<Split>,
    /// People to test in that data, where it is CUHK01 or VIPeR [default: 486, 316]
    #[arg(long, value_name = "N", requires = "data")]
    pub test_people: Option<usize>,
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
    /// Which orders of a pair are compared; triplet-embedding has none [default: both]
    #[arg(long, value_enum)]
    pub order: Option<Order>,
    #[command(flatten)]
    pub machine: MachineFlags,
}

#[derive(Args)]
pub struct Export {
    /// Run folder that train made
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Which orders of a pair are compared; triplet-embedding has none [default: both]
    #[arg(long, value_enum)]
    pub order: Option<Order>,
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
    /// Which orders of a pair are compared; triplet-embedding has none [default: both]
    #[arg(long, value_enum)]
    pub order: Option<Order>,
}

/// The order that was asked for, or both.
///
/// # Errors
/// Where the model does not compare pairs.
pub fn order_of(model: Model, given: Option<Order>) -> Result<Order> {
    ensure!(
        given.is_none() || model != Model::TripletEmbedding,
        "--order: {} embeds single images, so a pair of them has one order: leave it out",
        model.name()
    );
    Ok(given.unwrap_or(Order::Both))
}

/// A list of splits: numbers, ranges and np, e.g. `1-10` or `1,3,np`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splits {
    pub list: Vec<Split>,
    text: String,
}

impl std::str::FromStr for Splits {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Splits, String> {
        const MOST: usize = 1000;
        let mut list = Vec::new();
        for part in text.split(',') {
            match part.split_once('-').map(|(from, to)| (from.parse::<usize>(), to.parse::<usize>())) {
                Some((Ok(from), Ok(to))) if from > 0 && from <= to && to - from < MOST => {
                    list.extend((from..=to).map(Split::Number));
                }
                Some(_) => return Err(format!("{part}: say a range as 1-10")),
                None => list.push(part.parse()?),
            }
        }
        match (1..list.len()).find(|&i| list[..i].contains(&list[i])) {
            Some(i) => Err(format!("split {} comes twice", list[i])),
            None => Ok(Splits { list, text: text.into() }),
        }
    }
}

impl std::fmt::Display for Splits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
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
    /// ImageNet weights for conv1 and conv2 (.pth or .safetensors by torchvision's names), or none (Section 5.1)
    #[arg(long, value_name = "FILE|none")]
    pub weights: Option<String>,
    /// Start from the weights of this run instead, as small sets may from CUHK03's
    #[arg(long, value_name = "DIR", conflicts_with = "weights")]
    pub start: Option<PathBuf>,
    /// How a pair's maps enter conv3 ("regroup" in Figure 3; not of triplet-embedding) [default: channels]
    #[arg(long, value_enum)]
    pub pairing: Option<Pairing>,
    /// Input height x width in pixels (Section 5.1) [default: 227x227; 64x32 of the small network]
    #[arg(long, value_name = "HxW")]
    pub size: Option<String>,
    /// Quadruplets (or triplets) a batch (Section 5.1) [default: 128; 32 of the small network]
    #[arg(long, value_name = "M")]
    pub quadruplets: Option<usize>,
    /// Draw pairs without a look at cameras; the default is that every pair is seen by two (ours: how the paper draws was not found)
    #[arg(long)]
    pub any_camera: bool,
    /// Learning rate of the first stage (Section 5.1), a tenth of it after 3/5 of the stage (ours) [default: 0.001; 0.005 of the small network, 0.02 of it as triplet-embedding]
    #[arg(long)]
    pub lr: Option<f64>,
    /// Learning rate of the second stage (ours: the paper's was not found) [default: a tenth of --lr; 0.002 of the small network]
    #[arg(long)]
    pub lr2: Option<f64>,
    /// Steps with fixed margins (ours: the paper's number was not found) [default: 25000; 300 of the small network]
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Then steps with adaptive margins, of quadruplet-margohnm (ours, too) [default: --steps where it is given; else 25000, 150 of the small network]
    #[arg(long, value_name = "N")]
    pub steps2: Option<u64>,
    /// Margin of the triplet models (ours: the paper's was not found) [default: 1; 0.3 of triplet-embedding]
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true)]
    pub margin: Option<f64>,
    /// Fixed margins alpha1,alpha2 of the quadruplet models (Eq. 3; Section 5.1) [default: 1,0.5]
    #[arg(long, value_name = "A1,A2", value_delimiter = ',', num_args = 1, allow_negative_numbers = true)]
    pub margins: Option<Vec<f64>>,
    /// Adaptive margins are these times the difference of the means, of quadruplet-margohnm (Eq. 4, Section 3.3) [default: 1,0.5]
    #[arg(long, value_name = "W1,W2", value_delimiter = ',', num_args = 1, allow_negative_numbers = true)]
    pub adaptive: Option<Vec<f64>>,
    /// What the adaptive margins do to the gradient, of quadruplet-margohnm (Eq. 5) [default: detach]
    #[arg(long, value_enum)]
    pub margin_gradient: Option<Gradient>,
    /// Weight of a cross-entropy on the two units ("same", "different") beside the ranking loss; the paper has none [default: 0]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    pub classification: Option<f64>,
    /// Dropout before fc6 and fc7 (Caffe AlexNet's: the paper's was not found) [default: 0.5; 0 of the small network]
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

/// A flag that only some models take: its name, whether it is given, and who takes it.
type Choosy = (&'static str, bool, fn(Model) -> bool);

impl Flags {
    pub fn is_drawn(&self) -> bool {
        self.data == "drawn"
    }

    /// The flags that only some models take.
    fn choosy(&self) -> [Choosy; 8] {
        let adaptive: fn(Model) -> bool = |model| model == Model::QuadrupletMargohnm;
        [
            ("pairing", self.pairing.is_some(), |model| model != Model::TripletEmbedding),
            ("margin", self.margin.is_some(), |model| !model.takes_quadruplets()),
            ("margins", self.margins.is_some(), Model::takes_quadruplets),
            ("adaptive", self.adaptive.is_some(), adaptive),
            ("margin-gradient", self.margin_gradient.is_some(), adaptive),
            ("lr2", self.lr2.is_some(), adaptive),
            ("steps2", self.steps2.is_some(), adaptive),
            ("classification", self.classification.is_some(), Model::has_softmax),
        ]
    }

    /// Refuses a flag that none of `models` takes.
    pub fn refuse_idle(&self, models: &[Model]) -> Result<()> {
        for (flag, given, takes) in self.choosy() {
            if given && !models.iter().any(|&model| takes(model)) {
                let names = |models: &[Model]| models.iter().map(|model| model.name()).collect::<Vec<_>>().join(", ");
                let able: Vec<Model> = Model::ALL.into_iter().filter(|&model| takes(model)).collect();
                bail!("--{flag} has no effect on {}: leave it out, or take {}", names(models), names(&able));
            }
        }
        Ok(())
    }

    /// These flags for one of several models, without those that it does not take.
    pub fn of_model(&self, model: Model) -> Flags {
        let mut flags = Flags { model: Some(model), ..self.clone() };
        for (flag, _, takes) in self.choosy() {
            if !takes(model) {
                match flag {
                    "pairing" => flags.pairing = None,
                    "margin" => flags.margin = None,
                    "margins" => flags.margins = None,
                    "adaptive" => flags.adaptive = None,
                    "margin-gradient" => flags.margin_gradient = None,
                    "lr2" => flags.lr2 = None,
                    "steps2" => flags.steps2 = None,
                    _ => flags.classification = None,
                }
            }
        }
        flags
    }

    /// Fills in the defaults and refuses what cannot train.
    pub fn resolve(&self) -> Result<Hyper> {
        let model = self.model.unwrap_or(Model::QuadrupletMargohnm);
        self.refuse_idle(&[model])?;
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
