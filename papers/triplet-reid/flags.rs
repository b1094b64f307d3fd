//! Every hyperparameter with its place in the paper, and the verbs' flags.

use std::path::PathBuf;

use super::*;
use rankle::run::machine::{MachineFlags, TrainingFlags};

#[derive(Parser)]
#[command(
    name = "triplet-reid",
    version,
    about = "In Defense of the Triplet Loss for Person Re-Identification\nHermans*, Beyer*, Leibe, arXiv 1703.07737",
    after_help = "Quick start: triplet-reid reproduce --data drawn\nThe paper:   triplet-reid train --weights data/weights/resnet50-0676ba61.pth, then evaluate --run DIR\nTable 1:     triplet-reid reproduce --data drawn --table 1"
)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Train, evaluate, export; ends with the paper's table beside ours
    Reproduce(Reproduce),
    /// Train, or go on training where the same command was interrupted
    Train(Train),
    /// Score a trained run: results.json, report.html, the table
    Evaluate(Evaluate),
    /// Embed all images under a folder into a .safetensors
    Embed(Embed),
    /// Write model.pt (TorchScript), loaded again and compared before it counts as written
    Export(Export),
    /// The data card: counts, identities, cameras, sizes, problems
    Data(Data),
}

#[derive(Args)]
pub struct Reproduce {
    /// Run folder [default: data/runs/triplet-reid/ and a name made from the flags]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Reproduce a table instead of one run: 1 is the loss study (every loss with every margin)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=1))]
    pub table: Option<u8>,
    #[command(flatten)]
    pub hyper: Flags,
    #[command(flatten)]
    pub machine: TrainingFlags,
    #[command(flatten)]
    pub scoring: Scoring,
}

#[derive(Args)]
pub struct Train {
    /// Run folder [default: data/runs/triplet-reid/ and a name made from the flags]
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
    /// File to write: tensor "embeddings" [N, 128], file names in its metadata
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
    /// Test-time augmentation (Table 5)
    #[arg(long, value_enum, default_value_t = TestViews::TenCrops)]
    pub views: TestViews,
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
    /// Data set folder (Market-1501, MARS, CUHK03, CUHK01, VIPeR, or one folder an identity), or drawn
    #[arg(long, value_name = "DIR|drawn")]
    pub data: String,
    /// Split of CUHK03, CUHK01 or VIPeR
    #[arg(long, value_name = "N|np", default_value_t = Split::default())]
    pub split: Split,
    /// Also write the card as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Args, Clone)]
pub struct Scoring {
    /// Test-time augmentation (Table 5; the paper's tables use ten crops)
    #[arg(long, value_enum, default_value_t = TestViews::TenCrops)]
    pub views: TestViews,
    /// Also score after k-reciprocal re-ranking (Table 2; k1 20, k2 6, lambda 0.3)
    #[arg(long)]
    pub rerank: bool,
}

/// The network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Net {
    /// ResNet-50 with a new head, 25.74 M parameters (Section 3.2)
    Trinet,
    /// From scratch, 5.00 M parameters (Table 9)
    Lunet,
}

impl Net {
    pub fn name(self) -> &'static str {
        match self {
            Net::Trinet => "trinet",
            Net::Lunet => "lunet",
        }
    }
}

/// The rows of Table 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
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

impl Loss {
    /// Batches of separate triplets instead of P x K.
    pub fn takes_triplets(self) -> bool {
        matches!(self, Loss::Triplet | Loss::TripletOhm | Loss::LiftedPairs)
    }

    /// The lifted losses are hinges only; so are the means over active terms, since a softplus is always active.
    pub fn takes_soft(self) -> bool {
        matches!(self, Loss::Triplet | Loss::TripletOhm | Loss::BatchHard | Loss::BatchAll)
    }

    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }
}

/// Flags of train and reproduce. What is not given is the paper's.
#[derive(Args, Clone)]
pub struct Flags {
    /// Data set folder (Market-1501, MARS, CUHK03, CUHK01, VIPeR, or one folder an identity), or drawn for the built-in set
    #[arg(long, value_name = "DIR|drawn", default_value = "data/Market-1501-v15.09.15")]
    pub data: String,
    /// Split: a test set of CUHK03 (1 to 20), a drawn one of CUHK01 or VIPeR, or np for CUHK03's new protocol
    #[arg(long, value_name = "N|np", default_value_t = Split::default())]
    pub split: Split,
    /// Network (Section 3.2, Table 9) [default: trinet; lunet on drawn data]
    #[arg(long, value_enum)]
    pub net: Option<Net>,
    /// TriNet's ImageNet weights: torchvision's resnet50 as .pth or .safetensors, or none to start from scratch (Section 3.2)
    #[arg(long, value_name = "FILE|none")]
    pub weights: Option<String>,
    /// Loss (Table 1) [default: batch-hard]
    #[arg(long, value_enum)]
    pub loss: Option<Loss>,
    /// Margin m in units of the distance, or soft (Section 2) [default: soft]
    #[arg(long, value_name = "M|soft")]
    pub margin: Option<String>,
    /// Distance D (Section 2: "non-squared Euclidean") [default: euclidean]
    #[arg(long, value_enum)]
    pub metric: Option<Metric>,
    /// People a batch (Section 4.4) [default: 18 for TriNet, 32 for LuNet]
    #[arg(long)]
    pub p: Option<usize>,
    /// Images a person and batch (Section 4.4) [default: 4]
    #[arg(long)]
    pub k: Option<usize>,
    /// Triplets a batch, for the losses that take separate triplets (Section 4.2) [default: 42]
    #[arg(long)]
    pub triplets: Option<usize>,
    /// Learning rate before the decay (Section 4.4) [default: 3e-4 for TriNet, 1e-3 for LuNet]
    #[arg(long)]
    pub lr: Option<f64>,
    /// Step at which the decay starts and beta1 drops to 0.5 (Section 4.4) [default: 15000]
    #[arg(long, value_name = "STEP")]
    pub t0: Option<u64>,
    /// Step at which training stops, the rate at a thousandth (Section 4.4) [default: 25000]
    #[arg(long, value_name = "STEP")]
    pub t1: Option<u64>,
    /// Input height x width in pixels (Section 4.4, Table 4) [default: 256x128 for TriNet, 128x64 for LuNet]
    #[arg(long, value_name = "HxW")]
    pub size: Option<String>,
    /// Training augmentation (Section 4.4; Table 1 has none) [default: crop-flip]
    #[arg(long, value_enum)]
    pub augment: Option<Augment>,
    /// Divide all of LuNet's channel counts by this, for small machines; 1 is the paper's network [default: 1]
    #[arg(long, value_name = "N")]
    pub shrink: Option<i64>,
    /// Hold this many training people out and score on them (Table 1: 150 of MARS) [default: 0, the test set]
    #[arg(long, value_name = "N")]
    pub validation: Option<usize>,
    /// Steps between two offline minings (triplet-ohm) [default: 5000]
    #[arg(long, value_name = "STEPS")]
    pub ohm_every: Option<u64>,
    /// Random images among which a hardest negative is sought (triplet-ohm) [default: 1000]
    #[arg(long, value_name = "IMAGES")]
    pub ohm_pool: Option<usize>,
    /// Everything random follows from this
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Compute the network in bfloat16; losses and mining stay in f32
    #[arg(long)]
    pub amp: bool,
    /// Steps between two log lines [default: 10]
    #[arg(long, value_name = "STEPS")]
    pub log_every: Option<u64>,
}

/// Which defaults.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// The paper's.
    Paper,
    /// A few minutes on two cores, for `reproduce --data drawn`.
    Drawn,
}

/// A run's hyperparameters, all decided; what config.json holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hyper {
    pub data: String,
    #[serde(default)]
    pub split: Split,
    pub net: Net,
    pub weights: Option<String>,
    pub loss: Loss,
    pub margin: String,
    pub metric: Metric,
    pub p: usize,
    pub k: usize,
    pub triplets: usize,
    pub lr: f64,
    pub t0: u64,
    pub t1: u64,
    pub height: u32,
    pub width: u32,
    pub augment: Augment,
    pub shrink: i64,
    pub validation: usize,
    pub ohm_every: u64,
    pub ohm_pool: usize,
    pub seed: u64,
    pub amp: bool,
    pub log_every: u64,
}

impl Flags {
    pub fn is_drawn(&self) -> bool {
        self.data == "drawn"
    }

    /// Fills in the defaults and refuses what cannot train.
    pub fn resolve(&self, scale: Scale) -> Result<Hyper> {
        let drawn = scale == Scale::Drawn;
        let net = self.net.unwrap_or(if drawn { Net::Lunet } else { Net::Trinet });
        let base = Hyper::base(net, scale);
        let (height, width) = match &self.size {
            None => (base.height, base.width),
            Some(text) => text
                .split_once('x')
                .and_then(|(h, w)| Some((h.parse().ok()?, w.parse().ok()?)))
                .with_context(|| format!("--size {text}: say height x width in pixels, e.g. 256x128"))?,
        };
        let weights = match (&self.weights, net) {
            (None, Net::Lunet) => None,
            (Some(text), _) if text == "none" => None,
            (Some(file), Net::Trinet) => Some(file.clone()),
            (Some(_), Net::Lunet) => {
                bail!("--weights: LuNet is trained from scratch; leave it out, or say --net trinet")
            }
            (None, Net::Trinet) => bail!(
                "TriNet starts from ImageNet weights: say --weights FILE (scripts/fetch resnet50 gets data/weights/resnet50-0676ba61.pth), --weights none to train it from scratch, or --net lunet"
            ),
        };
        let h = Hyper {
            data: self.data.trim_end_matches('/').to_string(),
            split: self.split,
            net,
            weights,
            loss: self.loss.unwrap_or(base.loss),
            margin: self.margin.clone().unwrap_or_else(|| match self.loss {
                // The losses without a soft form take the best margin of their row in Table 1.
                Some(Loss::BatchHardNonzero) => "0.2".into(),
                Some(Loss::BatchAllNonzero) => "0.5".into(),
                Some(Loss::Lifted) => "1".into(),
                Some(Loss::LiftedPairs) => "0.2".into(),
                _ => base.margin.clone(),
            }),
            metric: self.metric.unwrap_or(base.metric),
            p: self.p.unwrap_or(base.p),
            k: self.k.unwrap_or(base.k),
            triplets: self.triplets.unwrap_or(base.triplets),
            lr: self.lr.unwrap_or(base.lr),
            t0: self.t0.unwrap_or(self.t1.map_or(base.t0, |t1| base.t0.min(t1 / 5 * 3))),
            t1: self.t1.unwrap_or(base.t1),
            height,
            width,
            augment: self.augment.unwrap_or(base.augment),
            shrink: self.shrink.unwrap_or(base.shrink),
            validation: self.validation.unwrap_or(base.validation),
            ohm_every: self.ohm_every.unwrap_or(base.ohm_every),
            ohm_pool: self.ohm_pool.unwrap_or(base.ohm_pool),
            seed: self.seed,
            amp: self.amp,
            log_every: self.log_every.unwrap_or(base.log_every),
        };
        h.check()?;
        Ok(h)
    }
}

impl Hyper {
    /// The defaults: the paper's, or the small ones of the drawn set.
    pub fn base(net: Net, scale: Scale) -> Hyper {
        let trinet = net == Net::Trinet;
        let paper = Hyper {
            data: String::new(),
            split: Split::default(),
            net,
            weights: None,
            loss: Loss::BatchHard,
            margin: "soft".into(),
            metric: Metric::Euclidean,
            p: if trinet { 18 } else { 32 },
            k: 4,
            triplets: 42,
            lr: if trinet { 3e-4 } else { 1e-3 },
            t0: 15_000,
            t1: 25_000,
            height: if trinet { 256 } else { 128 },
            width: if trinet { 128 } else { 64 },
            augment: Augment::CropFlip,
            shrink: 1,
            validation: 0,
            ohm_every: 5_000,
            ohm_pool: 1_000,
            seed: 1,
            amp: false,
            log_every: 10,
        };
        match scale {
            Scale::Paper => paper,
            Scale::Drawn => Hyper {
                p: 12,
                triplets: 16,
                t0: 150,
                t1: 250,
                height: 64,
                width: 32,
                shrink: 4,
                ohm_every: 50,
                ohm_pool: 200,
                ..paper
            },
        }
    }

    fn check(&self) -> Result<()> {
        if self.k < 2 && !self.loss.takes_triplets() {
            bail!("--k {}: a positive needs two images of a person: say --k 4", self.k);
        }
        if self.p < 2 && !self.loss.takes_triplets() {
            bail!("--p {}: a negative needs two people: say --p 18", self.p);
        }
        if !(1..=65_536).contains(&self.triplets) {
            bail!("--triplets {}: say 1 to 65536; the paper's is 42", self.triplets);
        }
        if self.p > 65_536 || self.k > 65_536 || self.p * self.k > 65_536 {
            bail!("--p {} --k {}: a batch takes at most 65536 images; the paper's are 72 and 128", self.p, self.k);
        }
        if self.t1 > 1_000_000_000 || self.t0 > 1_000_000_000 {
            bail!("--t0 {} --t1 {}: say at most 1000000000 steps", self.t0, self.t1);
        }
        if !(self.lr > 0. && self.lr.is_finite()) {
            bail!("--lr {}: say a number above 0, e.g. 3e-4", self.lr);
        }
        if self.t1 == 0 {
            bail!("--t1 0: say how many steps to train, e.g. 25000");
        }
        if self.log_every == 0 || self.ohm_every == 0 || self.ohm_pool == 0 {
            bail!("--log-every, --ohm-every and --ohm-pool count from 1");
        }
        if self.shrink != 1 && self.net == Net::Trinet {
            bail!("--shrink divides LuNet's channels: leave it out, or say --net lunet");
        }
        let margin = self.margin.parse::<f64>();
        match (&*self.margin, margin) {
            ("soft", _) if self.loss.takes_soft() => {}
            ("soft", _) => {
                bail!("--margin soft: {} has no soft form (Table 1): say a number, e.g. --margin 0.2", self.loss.name())
            }
            (_, Ok(m)) if (0. ..=1e6).contains(&m) => {}
            _ => bail!("--margin {}: say soft, or a number from 0 to 1e6, e.g. 0.2", self.margin),
        }
        if self.metric == Metric::Cosine {
            bail!("--metric cosine: the paper's network does not normalise: say euclidean or squared-euclidean");
        }
        if self.height < 32 || self.width < 16 || self.height > 1024 || self.width > 1024 {
            bail!("--size {}x{}: say a height of 32 to 1024 and a width of 16 to 1024 pixels", self.height, self.width);
        }
        Ok(())
    }

    pub fn margin(&self) -> Margin {
        self.margin.parse().map_or(Margin::Soft, Margin::Hard)
    }

    /// m; 0 for the soft margin, which the losses that ask for a number refuse.
    pub fn hard_margin(&self) -> f64 {
        self.margin.parse().unwrap_or(0.)
    }

    pub fn recipe(&self) -> Recipe {
        Recipe::imagenet(self.height, self.width)
    }

    pub fn batch_size(&self) -> usize {
        if self.loss.takes_triplets() { 3 * self.triplets } else { self.p * self.k }
    }

    pub fn embedding(&self, views: TestViews, machine: &Machine) -> Embedding {
        Embedding {
            recipe: self.recipe(),
            views,
            device: machine.device,
            batch: 128,
            workers: machine.workers,
            amp: self.amp,
            world: machine.world.clone(),
        }
    }

    pub fn metric_name(&self) -> &'static str {
        match self.metric {
            Metric::Euclidean => "Euclidean distance",
            Metric::SquaredEuclidean => "squared Euclidean distance",
            Metric::Cosine => "cosine distance",
        }
    }

    /// The mean loss when all embeddings are equal.
    pub fn collapsed_loss(&self) -> f64 {
        let (p, k, b) = (self.p as f64, self.k as f64, self.triplets as f64);
        match (self.loss, self.margin()) {
            (Loss::Lifted, _) => ((k - 1.).ln() + (p * k - k).ln() + self.hard_margin()).max(0.),
            (Loss::LiftedPairs, _) => ((2. * (3. * b - 2.)).ln() + self.hard_margin()).max(0.),
            (_, Margin::Hard(m)) => m,
            (_, Margin::Soft) => std::f64::consts::LN_2,
        }
    }

    /// data/runs/triplet-reid/<data>-<net>-<loss>-<margin>-<seed>
    pub fn folder(&self) -> PathBuf {
        let data =
            Path::new(&self.data).file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().to_string());
        let split = if self.split == Split::default() { String::new() } else { format!("-split{}", self.split) };
        let name = format!("{data}{split}-{}-{}-{}-{}", self.net.name(), self.loss.name(), self.margin, self.seed);
        Path::new("data/runs/triplet-reid").join(name)
    }

    /// Where this run's flags leave the paper's, in words.
    pub fn departures(&self) -> Vec<String> {
        let paper = Hyper::base(self.net, Scale::Paper);
        let mut list = Vec::new();
        let mut compare = |flag: &str, ours: String, theirs: String| {
            if ours != theirs {
                list.push(format!("--{flag} {ours} (the paper: {theirs})"));
            }
        };
        compare("loss", self.loss.name(), paper.loss.name());
        compare("margin", self.margin.clone(), paper.margin.clone());
        compare("metric", format!("{:?}", self.metric), format!("{:?}", paper.metric));
        if self.loss.takes_triplets() {
            compare("triplets", self.triplets.to_string(), paper.triplets.to_string());
        } else {
            compare("p", self.p.to_string(), paper.p.to_string());
            compare("k", self.k.to_string(), paper.k.to_string());
        }
        compare("lr", self.lr.to_string(), paper.lr.to_string());
        compare("t0", self.t0.to_string(), paper.t0.to_string());
        compare("t1", self.t1.to_string(), paper.t1.to_string());
        compare("size", format!("{}x{}", self.height, self.width), format!("{}x{}", paper.height, paper.width));
        compare("augment", format!("{:?}", self.augment), format!("{:?}", paper.augment));
        compare("shrink", self.shrink.to_string(), paper.shrink.to_string());
        if self.net == Net::Trinet && self.weights.is_none() {
            list.push("--weights none (the paper: ImageNet)".into());
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
            fact(
                "network",
                format!(
                    "{}{}",
                    self.net.name(),
                    if self.shrink > 1 { format!(", channels divided by {}", self.shrink) } else { String::new() }
                ),
            ),
            fact("loss", format!("{}, margin {}", self.loss.name(), self.margin)),
            fact(
                "batch",
                if self.loss.takes_triplets() {
                    format!("{} triplets", self.triplets)
                } else {
                    format!("{} people x {} images", self.p, self.k)
                },
            ),
            fact("input", format!("{}x{}", self.height, self.width)),
            fact("steps", step.to_string()),
            fact("seed", self.seed.to_string()),
            fact("device", machine.name.clone()),
        ]
    }
}
