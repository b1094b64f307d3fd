//! Every hyperparameter with where its default is from, and the verbs' flags.
//!
//! The paper's text was not at hand. "The authors' program" is the source that they published; "readers' notes" are
//! notes on the paper by two readers; what neither tells is "chosen here".

use super::*;
use clap::{Args, Parser, Subcommand, ValueEnum};
use rankle::run::machine::{MachineFlags, TrainingFlags};

#[derive(Parser)]
#[command(
    name = "multilabel-ranking",
    version,
    about = "Improving Pairwise Ranking for Multi-label Image Classification\nLi, Song, Luo, CVPR 2017, arXiv 1704.03135",
    after_help = "Quick start: multilabel-ranking reproduce --data drawn\nThe paper:   multilabel-ranking train --data data/VOC2007 --weights data/weights/vgg16-397923af.pth, then evaluate --run DIR\nThe study:   multilabel-ranking study --data data/mulan/scene --net mlp --seeds 1,2,3,4,5\n\nThe paper's text was not at hand: help says which defaults are from the authors' program or from readers' notes on the paper, and which were chosen here."
)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Train, evaluate, export; ends with all decisions in one table
    Reproduce(Reproduce),
    /// Train both stages, or go on training where the same command was interrupted
    Train(Train),
    /// Score a trained run: results.json, report.html, the table
    Evaluate(Evaluate),
    /// Every loss with every decision, over seeds, in one table
    Study(Study),
    /// Features, scores and decided labels of all images under a folder into a .safetensors
    Embed(Embed),
    /// Write model.pt (TorchScript), loaded again and compared before it counts as written
    Export(Export),
    /// The data card: counts, labels, what differs from the published set, problems
    Data(Data),
}

#[derive(Args)]
pub struct Reproduce {
    /// Run folder [default: data/runs/multilabel-ranking/ and a name made from the flags]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    #[command(flatten)]
    pub hyper: Flags,
    #[command(flatten)]
    pub machine: TrainingFlags,
}

#[derive(Args)]
pub struct Train {
    /// Run folder [default: data/runs/multilabel-ranking/ and a name made from the flags]
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
    /// Score on the test part of this data instead, into DIR/on-NAME; its classes must be the run's
    #[arg(long, value_name = "DIR|drawn")]
    pub data: Option<String>,
    #[command(flatten)]
    pub machine: MachineFlags,
}

#[derive(Args)]
pub struct Study {
    /// Folder of the runs, a folder a loss and seed [default: data/runs/multilabel-ranking/ and a name made from the flags]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Seeds to train every loss with, e.g. 1,2,3 [default: --seed]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub seeds: Vec<u64>,
    /// Losses to train [default: all six]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub losses: Vec<Loss>,
    #[command(flatten)]
    pub hyper: Flags,
    #[command(flatten)]
    pub machine: TrainingFlags,
}

#[derive(Args)]
pub struct Embed {
    /// Run folder that train made
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Folder of images, searched with its subfolders
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// File to write: tensors "features", "scores", "thresholds" and "labels" (by --decision), names in its metadata
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
    /// Which head decides the labels
    #[arg(long, value_enum, default_value_t = HeadKind::Threshold)]
    pub decision: HeadKind,
    #[command(flatten)]
    pub machine: MachineFlags,
}

#[derive(Args)]
pub struct Export {
    /// Run folder that train made
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    #[command(flatten)]
    pub machine: MachineFlags,
}

#[derive(Args)]
pub struct Data {
    /// Data set folder (VOC2007, COCO, NUS-WIDE, a folder with labels.csv), a Mulan set as DIR/NAME, or drawn
    #[arg(long, value_name = "DIR|drawn")]
    pub data: String,
    /// Also write the card as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// The two label decisions that are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HeadKind {
    /// How many labels
    Count,
    /// A threshold a class and image
    Threshold,
}

/// What computes the feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Net {
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
pub enum Loss {
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

impl Loss {
    pub const ALL: [Loss; 6] = [Loss::Softmax, Loss::Sigmoid, Loss::BpMll, Loss::Hinge, Loss::Warp, Loss::Lsep];

    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }

    fn takes_margin(self) -> bool {
        matches!(self, Loss::Hinge | Loss::Warp)
    }

    fn takes_pairs(self) -> bool {
        self == Loss::Lsep
    }
}

/// What the heads read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadInput {
    /// The feature
    Fc7,
    /// The scores
    Logits,
    /// Both
    Concat,
}

impl HeadInput {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }
}

/// Flags of train, reproduce and study.
#[derive(Args, Clone)]
pub struct Flags {
    /// Data set folder (VOC2007, COCO, NUS-WIDE, a folder with labels.csv), a Mulan set as DIR/NAME, or drawn for the built-in set
    #[arg(long, value_name = "DIR|drawn", default_value = "data/VOC2007")]
    pub data: String,
    /// Network (readers' notes: VGG16) [default: vgg16; small on drawn data]
    #[arg(long, value_enum)]
    pub net: Option<Net>,
    /// VGG16's weights to start from (.pth or .safetensors by torchvision's names), or none (readers' notes: ImageNet's)
    #[arg(long, value_name = "FILE|none")]
    pub weights: Option<String>,
    /// Loss of the first stage (the paper's abstract: lsep) [default: lsep]
    #[arg(long, value_enum)]
    pub loss: Option<Loss>,
    /// Pairs an image that lsep takes at most, t (authors' program: 1000) [default: 1000]
    #[arg(long, value_name = "T")]
    pub pairs: Option<i64>,
    /// Margin of hinge and warp (authors' program: 1) [default: 1]
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true)]
    pub margin: Option<f64>,
    /// n: the count head tells 1 to n labels, the last meaning n or more (authors' program and readers' notes: 4) [default: 4]
    #[arg(long, value_name = "N")]
    pub most: Option<i64>,
    /// What the heads read (authors' program: the feature; it has the other two as well) [default: fc7]
    #[arg(long, value_enum)]
    pub head_input: Option<HeadInput>,
    /// Passes over the training data of the first stage (chosen here: readers' notes have 10 and 50 and disagree on which is which) [default: 10; 30 of mlp, 40 of small]
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// Passes of the second stage, which trains the heads on the frozen network (chosen here, see --epochs) [default: 50]
    #[arg(long, value_name = "N")]
    pub epochs2: Option<u64>,
    /// Images a batch at most; 2 may be 3 once a pass, so that none is alone (chosen here) [default: 32]
    #[arg(long)]
    pub batch: Option<usize>,
    /// Learning rate of the first stage (readers' notes: 0.001), a tenth of it in its last quarter (chosen here) [default: 0.001; 0.01 of mlp, 0.05 of small]
    #[arg(long)]
    pub lr: Option<f64>,
    /// Learning rate of the second stage, a tenth of it in its last quarter (chosen here) [default: 0.001; 0.01 of small and mlp]
    #[arg(long)]
    pub lr2: Option<f64>,
    /// L2 weight decay (readers' notes: 5e-5) [default: 5e-5]
    #[arg(long)]
    pub weight_decay: Option<f64>,
    /// Largest norm of the first stage's gradient, larger ones are scaled down; 0 is none (chosen here; BP-MLL's sums of exponentials want it) [default: 0; 5 of small and mlp]
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    pub clip: Option<f64>,
    /// Dropout on the feature in the first stage (authors' program: 0.5 on fc7) [default: 0.5; 0.2 of small]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub dropout: Option<f64>,
    /// Width of the mlp's two hidden layers (chosen here) [default: 256]
    #[arg(long, value_name = "N")]
    pub hidden: Option<i64>,
    /// Share of the training items that is set aside to choose k and the threshold of the rivals (chosen here; the authors' program has such a part, of unknown size); with 0 they are chosen on the training items themselves [default: 0.1]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub dev: Option<f64>,
    /// Input pixels a side (chosen here) [default: 224; 48 of small]
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<u32>,
    /// Training augmentation (chosen here) [default: crop-flip; flip of small]
    #[arg(long, value_enum)]
    pub augment: Option<Augment>,
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
    pub net: Net,
    pub weights: Option<String>,
    pub loss: Loss,
    pub pairs: i64,
    pub margin: f64,
    pub most: i64,
    pub head_input: HeadInput,
    pub epochs: u64,
    pub epochs2: u64,
    pub batch: usize,
    pub lr: f64,
    pub lr2: f64,
    pub weight_decay: f64,
    pub clip: f64,
    pub dropout: f64,
    pub hidden: i64,
    pub dev: f64,
    pub size: u32,
    pub augment: Augment,
    pub seed: u64,
    pub amp: bool,
    pub log_every: u64,
    /// The K classes by name and, of ready-made features, how many numbers a row has: what the network is built for.
    pub classes: Vec<String>,
    pub features: Option<i64>,
}

impl Flags {
    /// The same flags for one loss of several: what it does not read is left out.
    pub fn with_loss(&self, loss: Loss, seed: u64) -> Flags {
        Flags {
            loss: Some(loss),
            pairs: self.pairs.filter(|_| loss.takes_pairs()),
            margin: self.margin.filter(|_| loss.takes_margin()),
            seed,
            ..self.clone()
        }
    }

    /// Refuses what none of `losses` reads.
    pub fn refuse_idle(&self, losses: &[Loss]) -> Result<()> {
        if self.margin.is_some() && !losses.iter().any(|loss| loss.takes_margin()) {
            bail!("--margin: only hinge and warp have one: leave it out, or say --loss hinge");
        }
        if self.pairs.is_some() && !losses.iter().any(|loss| loss.takes_pairs()) {
            bail!("--pairs: only lsep samples pairs: leave it out, or say --loss lsep");
        }
        Ok(())
    }

    /// Fills in the defaults and refuses what cannot train on `set`, or has no effect.
    pub fn resolve(&self, set: &LabelSet) -> Result<Hyper> {
        let drawn = set.layout == LabelLayout::Drawn;
        let features = set.feature_width().map(|width| width as i64);
        let net = self.net.unwrap_or(if drawn { Net::Small } else { Net::Vgg16 });
        self.refuse_idle(&[self.loss.unwrap_or(Loss::Lsep)])?;
        match net {
            Net::Mlp if self.size.is_some() => bail!("--size: mlp reads ready-made features, no pixels: leave it out"),
            Net::Mlp if self.augment.is_some() => {
                bail!("--augment: mlp reads ready-made features, no pixels: leave it out")
            }
            Net::Vgg16 | Net::Small if self.hidden.is_some() => {
                bail!("--hidden: only mlp has such layers: leave it out, or say --net mlp")
            }
            _ => (),
        }
        match (net, features) {
            (Net::Mlp, None) => {
                bail!("--net mlp reads ready-made features, and {} has images: say --net vgg16", set.name)
            }
            (Net::Vgg16 | Net::Small, Some(_)) => {
                bail!("{} has ready-made features, no images: say --net mlp", set.name)
            }
            _ => (),
        }
        let base = Hyper::base(net);
        let weights = match (&self.weights, net) {
            (Some(text), _) if text == "none" => None,
            (Some(file), Net::Vgg16) => Some(file.clone()),
            (Some(_), _) => bail!("--weights: only vgg16 has published weights: leave it out"),
            (None, Net::Vgg16) => bail!(
                "VGG16 starts from ImageNet weights: say --weights FILE ({} gets data/weights/vgg16-397923af.pth), or --weights none to train it from scratch",
                datasets::catalog::fetch("vgg16")
            ),
            (None, _) => None,
        };
        let h = Hyper {
            data: self.data.trim_end_matches('/').to_string(),
            weights,
            loss: self.loss.unwrap_or(base.loss),
            pairs: self.pairs.unwrap_or(base.pairs),
            margin: self.margin.unwrap_or(base.margin),
            most: self.most.unwrap_or(base.most),
            head_input: self.head_input.unwrap_or(base.head_input),
            epochs: self.epochs.unwrap_or(base.epochs),
            epochs2: self.epochs2.unwrap_or(base.epochs2),
            batch: self.batch.unwrap_or(base.batch),
            lr: self.lr.unwrap_or(base.lr),
            lr2: self.lr2.unwrap_or(base.lr2),
            weight_decay: self.weight_decay.unwrap_or(base.weight_decay),
            clip: self.clip.unwrap_or(base.clip),
            dropout: self.dropout.unwrap_or(base.dropout),
            hidden: self.hidden.unwrap_or(base.hidden),
            dev: self.dev.unwrap_or(base.dev),
            size: self.size.unwrap_or(base.size),
            augment: self.augment.unwrap_or(base.augment),
            seed: self.seed,
            amp: self.amp,
            log_every: self.log_every.unwrap_or(base.log_every),
            classes: set.classes.clone(),
            features,
            ..base
        };
        h.check(set)?;
        Ok(h)
    }
}

impl Hyper {
    /// The defaults: those for the paper's network, or those of the small ones.
    pub fn base(net: Net) -> Hyper {
        let large = Hyper {
            data: String::new(),
            net,
            weights: None,
            loss: Loss::Lsep,
            pairs: 1000,
            margin: 1.,
            most: 4,
            head_input: HeadInput::Fc7,
            epochs: 10,
            epochs2: 50,
            batch: 32,
            lr: 1e-3,
            lr2: 1e-3,
            weight_decay: 5e-5,
            clip: 0.,
            dropout: 0.5,
            hidden: 256,
            dev: 0.1,
            size: 224,
            augment: Augment::CropFlip,
            seed: 1,
            amp: false,
            log_every: 10,
            classes: Vec::new(),
            features: None,
        };
        match net {
            Net::Vgg16 => large,
            Net::Mlp => Hyper { epochs: 30, lr: 0.01, lr2: 0.01, clip: 5., ..large },
            Net::Small => Hyper {
                epochs: 40,
                lr: 0.05,
                lr2: 0.01,
                clip: 5.,
                dropout: 0.2,
                size: 48,
                augment: Augment::Flip,
                ..large
            },
        }
    }

    fn check(&self, set: &LabelSet) -> Result<()> {
        for (flag, rate) in [("lr", self.lr), ("lr2", self.lr2)] {
            if !(rate > 0. && rate.is_finite()) {
                bail!("--{flag} {rate}: say a number above 0, e.g. 0.001");
            }
        }
        for (flag, value) in [("margin", self.margin), ("weight-decay", self.weight_decay), ("clip", self.clip)] {
            if !(0. ..=1e6).contains(&value) {
                bail!("--{flag} {value}: say a number from 0 to 1e6");
            }
        }
        if !(0. ..1.).contains(&self.dropout) {
            bail!("--dropout {}: say a share from 0 to below 1, e.g. 0.5", self.dropout);
        }
        if !(0. ..=0.5).contains(&self.dev) {
            bail!("--dev {}: say a share from 0 to 0.5, e.g. 0.1", self.dev);
        }
        if !(1..=1_000_000).contains(&self.pairs) {
            bail!("--pairs {}: say 1 to 1000000, e.g. 1000", self.pairs);
        }
        if !(2..=self.k().max(2)).contains(&self.most) {
            bail!("--most {}: say 2 to {}, the number of classes", self.most, self.k());
        }
        if self.epochs == 0 || self.epochs > 1_000_000 || self.epochs2 == 0 || self.epochs2 > 1_000_000 {
            bail!("--epochs {} --epochs2 {}: say 1 to 1000000, e.g. 10 and 50", self.epochs, self.epochs2);
        }
        if !(2..=65_536).contains(&self.batch) {
            bail!("--batch {}: say 2 to 65536", self.batch);
        }
        if !(1..=65_536).contains(&self.hidden) {
            bail!("--hidden {}: say 1 to 65536", self.hidden);
        }
        if self.log_every == 0 {
            bail!("--log-every 0: say 1 or more");
        }
        let least = if self.net == Net::Vgg16 { 32 } else { 16 };
        if self.net != Net::Mlp && !(least..=1024).contains(&self.size) {
            bail!("--size {}: say {least} to 1024 pixels, e.g. 224", self.size);
        }
        let left = set.train.len() - (set.train.len() as f64 * self.dev).round() as usize;
        if left < 2 {
            bail!(
                "{} has {} training items, and --dev {} leaves {left}: at least 2 needed",
                set.name,
                set.train.len(),
                self.dev
            );
        }
        Ok(())
    }

    /// K, how many classes there are.
    pub fn k(&self) -> i64 {
        self.classes.len() as i64
    }

    /// Errors where `set` has other classes (or in another order) or features than those that this run's network was
    /// built for; `of` begins the line.
    pub fn fits(&self, set: &LabelSet, of: &str) -> Result<()> {
        let kind = |width: Option<i64>| width.map_or("images".into(), |width| format!("rows of {width} features"));
        let width = set.feature_width().map(|width| width as i64);
        ensure!(
            width == self.features,
            "{of}: {} where the run was trained on {}: give data of that kind",
            kind(width),
            kind(self.features)
        );
        ensure!(
            set.classes.len() == self.classes.len(),
            "{of}: {} classes where the run was trained on {}: give data with the same classes",
            set.classes.len(),
            self.classes.len()
        );
        let mut both = set.classes.iter().zip(&self.classes).enumerate();
        match both.find(|(_, (theirs, own))| theirs != own) {
            None => Ok(()),
            Some((i, (theirs, own))) => bail!(
                "{of}: class {} is {theirs:?} where the run was trained on {own:?}: give data with the same classes in the same order",
                i + 1
            ),
        }
    }

    /// Learning rate of step `t` of `of` in a stage.
    pub fn rate(base: f64, t: u64, of: u64) -> f64 {
        if t * 4 < of * 3 { base } else { base / 10. }
    }

    /// As torchvision's VGG16 wants it: its mean and deviation.
    pub fn recipe(&self) -> Recipe {
        Recipe::imagenet(self.size, self.size)
    }

    /// Width of what the heads read, for a feature of `width` numbers.
    pub fn head_width(&self, width: i64) -> i64 {
        match self.head_input {
            HeadInput::Fc7 => width,
            HeadInput::Logits => self.k(),
            HeadInput::Concat => width + self.k(),
        }
    }

    /// data/runs/multilabel-ranking/<data>-<net>-<loss>-<seed>
    pub fn folder(&self) -> PathBuf {
        let name = format!("{}-{}-{}-{}", self.data_name(), self.net_name(), self.loss.name(), self.seed);
        Path::new("data/runs/multilabel-ranking").join(name)
    }

    pub fn data_name(&self) -> String {
        Path::new(&self.data).file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().to_string())
    }

    pub fn net_name(&self) -> String {
        self.net.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// Where this run's flags leave what is known of the paper, or what was chosen in its place, in words.
    pub fn departures(&self) -> Vec<String> {
        const PROGRAM: &str = "the authors' program";
        const NOTES: &str = "readers' notes on the paper";
        const HERE: &str = "the default, chosen here";
        let usual = Hyper::base(Net::Vgg16);
        let mut list = Vec::new();
        let mut compare = |flag: &str, from: &str, ours: String, theirs: String| {
            if ours != theirs {
                list.push(format!("--{flag} {ours} ({from}: {theirs})"));
            }
        };
        compare("net", NOTES, self.net_name(), usual.net_name());
        compare("loss", "the paper's abstract", self.loss.name(), usual.loss.name());
        compare("pairs", PROGRAM, self.pairs.to_string(), usual.pairs.to_string());
        compare("margin", PROGRAM, self.margin.to_string(), usual.margin.to_string());
        compare("most", PROGRAM, self.most.to_string(), usual.most.to_string());
        compare("head-input", PROGRAM, self.head_input.name(), usual.head_input.name());
        compare("epochs", HERE, self.epochs.to_string(), usual.epochs.to_string());
        compare("epochs2", HERE, self.epochs2.to_string(), usual.epochs2.to_string());
        compare("batch", HERE, self.batch.to_string(), usual.batch.to_string());
        compare("lr", NOTES, self.lr.to_string(), usual.lr.to_string());
        compare("lr2", HERE, self.lr2.to_string(), usual.lr2.to_string());
        compare("weight-decay", NOTES, self.weight_decay.to_string(), usual.weight_decay.to_string());
        compare("clip", HERE, self.clip.to_string(), usual.clip.to_string());
        compare("dropout", PROGRAM, self.dropout.to_string(), usual.dropout.to_string());
        compare("dev", HERE, self.dev.to_string(), usual.dev.to_string());
        if self.net != Net::Mlp {
            compare("size", HERE, self.size.to_string(), usual.size.to_string());
            compare("augment", HERE, format!("{:?}", self.augment), format!("{:?}", usual.augment));
        }
        if self.net == Net::Vgg16 && self.weights.is_none() {
            list.push(format!("--weights none ({NOTES}: ImageNet's)"));
        }
        if self.amp {
            list.push("--amp: the network in bfloat16 instead of f32".into());
        }
        list
    }

    /// What the report states at its top.
    pub fn facts(&self, set: &LabelSet, step: u64, machine: &Machine) -> Vec<(String, String)> {
        let fact = |key: &str, value: String| (key.to_string(), value);
        vec![
            fact("data", set.name.clone()),
            fact("network", self.net_name()),
            fact("loss", self.loss.name()),
            fact("batch", self.batch.to_string()),
            fact("epochs", format!("{} + {}", self.epochs, self.epochs2)),
            fact("steps", step.to_string()),
            fact("seed", self.seed.to_string()),
            fact("device", machine.name.clone()),
        ]
    }
}
