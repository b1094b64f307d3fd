//! Every hyperparameter with its place in the paper, and the verbs' flags.

use super::*;
use clap::{Args, Parser, Subcommand, ValueEnum};
use rankle::run::machine::{MachineFlags, TrainingFlags};

#[derive(Parser)]
#[command(
    name = "skill-determination",
    version,
    about = "Who's Better? Who's Best? Pairwise Deep Ranking for Skill Determination\nDoughty, Damen, Mayol-Cuevas, CVPR 2018, arXiv 1703.09913",
    after_help = "Quick start: skill-determination reproduce --data drawn\nThe paper:   skill-determination train --data data/epic-skills --task drawing --weights data/weights/alexnet-owt-7be5be79.pth, then evaluate --run DIR\nTable 1:     skill-determination data --data data/epic-skills\nTable 2:     skill-determination reproduce --data drawn --table 2\nFigures 4-6: skill-determination sweep --run DIR\nYour videos: skill-determination rank --run DIR --videos FOLDER\n\nVideos of a data set lie in DIR/videos/TASK/ (films, or folders of pictures as scripts/convert frames makes them), with a video's name as a part of theirs;\nTASK is a folder of DIR/annotations. flow writes DIR/flow/TASK/VIDEO/. Ready-made features: DIR/features/STREAM/TASK/VIDEO.safetensors. See data/README.md."
)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Train both streams on all folds, evaluate, export; ends with the paper's table beside ours
    Reproduce(Reproduce),
    /// Train, or go on training where the same command was interrupted, fold after fold
    Train(Train),
    /// Score a trained run: results.json, report.html, the table
    Evaluate(Evaluate),
    /// The figures' sweeps: alpha (Fig. 4), number of snippets (Fig. 5), separation (Fig. 6)
    Sweep(Evaluate),
    /// Who's best: the ranking of a folder of videos with a score for each split
    Rank(Rank),
    /// Write the scores of all snippets of all videos of a folder into a .safetensors
    Embed(Embed),
    /// Write model-spatial.pt and model-temporal.pt (TorchScript), loaded again and compared before they count
    Export(Export),
    /// Table 1, fold sizes and separations of a data set
    Data(Data),
    /// Compute TV-L1 optical flow once, for the temporal stream
    Flow(FlowArgs),
}

#[derive(Args)]
pub struct Reproduce {
    /// Run folder [default: data/runs/skill-determination/ and a name made from the flags]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Reproduce a table instead of one run: 2 trains all three losses
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=2))]
    pub table: Option<u8>,
    #[command(flatten)]
    pub hyper: Flags,
    #[command(flatten)]
    pub machine: TrainingFlags,
    #[command(flatten)]
    pub scoring: ScoringFlags,
}

#[derive(Args)]
pub struct Train {
    /// Run folder [default: data/runs/skill-determination/ and a name made from the flags]
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
    #[command(flatten)]
    pub machine: MachineFlags,
    #[command(flatten)]
    pub scoring: ScoringFlags,
}

#[derive(Args)]
pub struct Rank {
    /// Run folder that train made
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Folder of videos (films, or folders of pictures; flow in flow/NAME), or drawn for hands that no run has seen
    #[arg(long, value_name = "DIR|drawn")]
    pub videos: String,
    /// The networks of this fold alone [default: the mean over all folds]
    #[arg(long, value_name = "K")]
    pub fold: Option<usize>,
    /// Also write the ranking as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub machine: MachineFlags,
    #[command(flatten)]
    pub scoring: ScoringFlags,
}

#[derive(Args)]
pub struct Embed {
    /// Run folder that train made
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Folder of videos, as for rank, or drawn
    #[arg(long, value_name = "DIR|drawn")]
    pub videos: String,
    /// File to write: a tensor [videos, snippets] a stream, the names in its metadata
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
    /// The networks of this fold
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub fold: usize,
    /// Snippets, spread uniformly over a video
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub sigma: u16,
    #[command(flatten)]
    pub machine: MachineFlags,
}

#[derive(Args)]
pub struct Export {
    /// Run folder that train made
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// The networks of this fold
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub fold: usize,
    #[command(flatten)]
    pub machine: MachineFlags,
}

#[derive(Args)]
pub struct Data {
    /// EPIC-Skills' folder (it holds annotations/), or drawn
    #[arg(long, value_name = "DIR|drawn")]
    pub data: String,
    /// One of its sets alone: surgery, dough, drawing or chopsticks
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// Also write the cards as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
pub struct FlowArgs {
    /// EPIC-Skills' folder: reads videos/, writes flow/
    #[arg(long, value_name = "DIR", conflicts_with = "videos")]
    pub data: Option<PathBuf>,
    /// Which of its sets
    #[arg(long, value_name = "NAME", requires = "data")]
    pub task: Option<String>,
    /// Any folder of videos: writes flow/ in it
    #[arg(long, value_name = "DIR", required_unless_present = "data")]
    pub videos: Option<PathBuf>,
}

#[derive(Args, Clone)]
pub struct ScoringFlags {
    /// Snippets, spread uniformly over a video, that its score is the mean of (Eq. 9)
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub sigma: u16,
    /// Weight of the spatial stream in the fusion of both (Eq. 9) [default: 0.4]
    #[arg(long)]
    pub alpha: Option<f64>,
}

/// How videos are scored.
#[derive(Debug, Clone, Copy)]
pub struct Scoring {
    /// σ.
    pub sigma: usize,
    /// α; looked at where there are two streams.
    pub alpha: f64,
}

impl ScoringFlags {
    /// For a run of these streams.
    pub fn resolve(&self, streams: &[Stream]) -> Result<Scoring> {
        let alpha = self.alpha.unwrap_or(0.4);
        if !(0. ..=1.).contains(&alpha) {
            bail!("--alpha {alpha}: say a number from 0 to 1; the paper's is 0.4");
        }
        if let (Some(alpha), [only]) = (self.alpha, streams) {
            bail!(
                "--alpha {alpha}: it fuses two streams, and this run has the {} one alone: leave it out",
                only.name()
            );
        }
        Ok(Scoring { sigma: self.sigma.into(), alpha })
    }
}

/// The backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Net {
    /// AlexNet (CVPR version)
    Alexnet,
    /// BN-Inception (the first version, 2017)
    BnInception,
    /// Four small convolutions, for drawn videos (not the paper's)
    Small,
    /// A linear head on ready-made features of snippets (not the paper's)
    Features,
}

impl Net {
    /// The command that gets its ImageNet weights.
    pub fn fetch(self) -> String {
        rankle::datasets::catalog::fetch(if self == Net::BnInception { "bn-inception" } else { "alexnet" })
    }

    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }
}

/// The rows of Table 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// L_rank1: whole videos (Eq. 3)
    Rank1,
    /// L_rank2: split against split (Eq. 5)
    Rank2,
    /// L_rank3: splits, and similar pairs (Eq. 8)
    Rank3,
}

impl Loss {
    pub const ALL: [Loss; 3] = [Loss::Rank1, Loss::Rank2, Loss::Rank3];

    pub fn name(self) -> &'static str {
        ["rank1", "rank2", "rank3"][self as usize]
    }
}

/// Flags of train and reproduce. What is not given is the paper's; drawn data has small defaults of its own.
#[derive(Args, Clone)]
pub struct Flags {
    /// EPIC-Skills' folder, any folder of its layout, or drawn for the built-in set
    #[arg(long, value_name = "DIR|drawn", default_value = "data/epic-skills")]
    pub data: String,
    /// Which of its sets: surgery, dough, drawing or chopsticks (the columns of Table 2)
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// Backbone [default: alexnet; drawn: small]
    #[arg(long, value_enum)]
    pub net: Option<Net>,
    /// ImageNet weights for both streams (torchvision's alexnet or Cadene's bn_inception as .pth or .safetensors), or none
    #[arg(long, value_name = "FILE|none")]
    pub weights: Option<String>,
    /// Loss (Table 2) [default: rank3]
    #[arg(long, value_enum)]
    pub loss: Option<Loss>,
    /// Margin m (Eq. 3, 5 and 7) [default: 1]
    #[arg(long)]
    pub margin: Option<f64>,
    /// Weight of L_rank2 against L_sim in rank3 (Eq. 8) [default: 0.5]
    #[arg(long)]
    pub beta: Option<f64>,
    /// N, uniform splits of a video (Eq. 5); rank1 trains on whole videos, and only its reports have splits [default: 7]
    #[arg(long, value_name = "N")]
    pub splits: Option<usize>,
    /// Segments of a clip, a snippet each [default: 3]
    #[arg(long, value_name = "N")]
    pub segments: Option<usize>,
    /// Streams to train [default: spatial,temporal]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub streams: Option<Vec<Stream>>,
    /// Folds to train and test [default: all; the paper has four]
    #[arg(long, value_name = "K,K", value_delimiter = ',')]
    pub folds: Option<Vec<usize>>,
    /// Pairs of clips a batch [default: 128; drawn: 32]
    #[arg(long)]
    pub batch: Option<usize>,
    /// Pairs of clips in one pass through the network (of each process): fewer take less memory; the gradient is the same but for batch normalisation, which sees a pass, and dropout, which draws anew for each [default: the batch]
    #[arg(long, value_name = "PAIRS")]
    pub chunk: Option<usize>,
    /// Learning rate of the spatial stream [default: 1e-3; drawn: 0.02]
    #[arg(long, value_name = "RATE")]
    pub lr_spatial: Option<f64>,
    /// Learning rate of the temporal stream [default: 5e-3; drawn: 0.02]
    #[arg(long, value_name = "RATE")]
    pub lr_temporal: Option<f64>,
    /// Steps of the spatial stream [default: 3500; drawn: 120]
    #[arg(long, value_name = "STEPS")]
    pub steps_spatial: Option<u64>,
    /// Steps of the temporal stream [default: 18000; drawn: 120]
    #[arg(long, value_name = "STEPS")]
    pub steps_temporal: Option<u64>,
    /// Where the spatial rate falls to a tenth [default: 1500,3000 of 3500; drawn: 90 of 120; moved with --steps-spatial]
    #[arg(long, value_name = "STEP,STEP", value_delimiter = ',')]
    pub decay_spatial: Option<Vec<u64>>,
    /// Where the temporal rate falls to a tenth [default: 10000,16000 of 18000; drawn: 90 of 120; moved with --steps-temporal]
    #[arg(long, value_name = "STEP,STEP", value_delimiter = ',')]
    pub decay_temporal: Option<Vec<u64>>,
    /// Dropout, spatial then temporal [default: 0.5,0.5; bn-inception: 0.8,0.7, the first version's]
    #[arg(long, value_name = "S,T", value_delimiter = ',')]
    pub dropout: Option<Vec<f64>>,
    /// L2 weight decay (not in the paper; temporal segment networks') [default: 5e-4]
    #[arg(long)]
    pub weight_decay: Option<f64>,
    /// Side of the input in pixels [default: 224; drawn: 32 of small, 64 of other networks]
    #[arg(long, value_name = "PIXELS")]
    pub side: Option<u32>,
    /// Scales of the random crops, as shares of a frame's shorter side (not in the paper; temporal segment networks') [default: 1,0.875,0.75,0.66; drawn: 1,0.8]
    #[arg(long, value_name = "X,X", value_delimiter = ',')]
    pub scales: Option<Vec<f64>>,
    /// Train on central crops, without mirroring (the paper has corner crops, scale jitter and mirroring)
    #[arg(long)]
    pub no_augment: bool,
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

/// Which defaults.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// The paper's.
    Paper,
    /// A few minutes on two cores, for `--data drawn`.
    Drawn,
}

/// A run's hyperparameters, all decided; what config.json holds. Pairs of numbers are spatial, temporal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hyper {
    pub data: String,
    pub task: Option<String>,
    pub net: Net,
    pub weights: Option<String>,
    pub loss: Loss,
    pub margin: f64,
    pub beta: f64,
    pub splits: usize,
    pub segments: usize,
    pub streams: Vec<Stream>,
    pub folds: Option<Vec<usize>>,
    pub batch: usize,
    pub chunk: usize,
    pub lr_spatial: f64,
    pub lr_temporal: f64,
    pub steps_spatial: u64,
    pub steps_temporal: u64,
    pub decay_spatial: Vec<u64>,
    pub decay_temporal: Vec<u64>,
    pub dropout: Vec<f64>,
    pub weight_decay: f64,
    pub side: u32,
    pub scales: Vec<f64>,
    pub no_augment: bool,
    pub seed: u64,
    pub amp: bool,
    pub log_every: u64,
}

/// One training: a stream on a fold of a run; what its folder's config.json holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    #[serde(flatten)]
    pub hyper: Hyper,
    pub stream: Stream,
    pub fold: usize,
}

impl Flags {
    pub fn scale(&self) -> Scale {
        if self.data == "drawn" { Scale::Drawn } else { Scale::Paper }
    }

    /// Fills in the defaults and refuses what cannot train.
    pub fn resolve(&self, scale: Scale) -> Result<Hyper> {
        let net = self.net.unwrap_or(if scale == Scale::Drawn { Net::Small } else { Net::Alexnet });
        let base = Hyper::base(net, scale);
        let weights = match (&self.weights, net) {
            (Some(text), _) if text == "none" => None,
            (Some(_), Net::Small | Net::Features) => {
                bail!("--weights: {} has no published weights: leave it out", net.name())
            }
            (Some(file), _) => Some(file.clone()),
            (None, Net::Small | Net::Features) => None,
            (None, Net::Alexnet | Net::BnInception) => bail!(
                "{} starts from ImageNet weights: say --weights FILE ({} gets them), or --weights none to train it from scratch",
                net.name(),
                net.fetch()
            ),
        };
        let steps =
            [self.steps_spatial.unwrap_or(base.steps_spatial), self.steps_temporal.unwrap_or(base.steps_temporal)];
        let scaled = |given: &Option<Vec<u64>>, base: &[u64], full: u64, steps: u64| {
            let at = |&at: &u64| (u128::from(at) * u128::from(steps) / u128::from(full.max(1))) as u64;
            given.clone().unwrap_or_else(|| base.iter().map(at).collect())
        };
        let batch = self.batch.unwrap_or(base.batch);
        let h = Hyper {
            data: self.data.trim_end_matches('/').to_string(),
            task: self.task.clone(),
            net,
            weights,
            loss: self.loss.unwrap_or(base.loss),
            margin: self.margin.unwrap_or(base.margin),
            beta: self.beta.unwrap_or(base.beta),
            splits: self.splits.unwrap_or(base.splits),
            segments: self.segments.unwrap_or(base.segments),
            streams: self.streams.clone().unwrap_or(base.streams),
            folds: self.folds.clone(),
            batch,
            chunk: self.chunk.unwrap_or(batch).min(batch),
            lr_spatial: self.lr_spatial.unwrap_or(base.lr_spatial),
            lr_temporal: self.lr_temporal.unwrap_or(base.lr_temporal),
            steps_spatial: steps[0],
            steps_temporal: steps[1],
            decay_spatial: scaled(&self.decay_spatial, &base.decay_spatial, base.steps_spatial, steps[0]),
            decay_temporal: scaled(&self.decay_temporal, &base.decay_temporal, base.steps_temporal, steps[1]),
            dropout: self.dropout.clone().unwrap_or(base.dropout),
            weight_decay: self.weight_decay.unwrap_or(base.weight_decay),
            side: self.side.unwrap_or(base.side),
            scales: self.scales.clone().unwrap_or(base.scales),
            no_augment: self.no_augment,
            seed: self.seed,
            amp: self.amp,
            log_every: self.log_every.unwrap_or(base.log_every),
        };
        h.check()?;
        if let Some((flag, why)) = self.idle(&h) {
            bail!("{flag} has no effect here ({why}): leave it out");
        }
        Ok(h)
    }

    /// A flag that was given and that this run would not look at, and why not.
    fn idle(&self, h: &Hyper) -> Option<(&'static str, &'static str)> {
        let missing = |stream: Stream| !h.streams.contains(&stream);
        let (spatial, temporal) = (missing(Stream::Spatial), missing(Stream::Temporal));
        let (no_spatial, no_temporal) = ("the spatial stream is not trained", "the temporal stream is not trained");
        let (features, no_pixels) = (h.net == Net::Features, "features are ready-made, without pixels");
        [
            ("--beta", self.beta.is_some() && h.loss != Loss::Rank3, "only rank3 has L_sim"),
            ("--lr-spatial", self.lr_spatial.is_some() && spatial, no_spatial),
            ("--steps-spatial", self.steps_spatial.is_some() && spatial, no_spatial),
            ("--decay-spatial", self.decay_spatial.is_some() && spatial, no_spatial),
            ("--lr-temporal", self.lr_temporal.is_some() && temporal, no_temporal),
            ("--steps-temporal", self.steps_temporal.is_some() && temporal, no_temporal),
            ("--decay-temporal", self.decay_temporal.is_some() && temporal, no_temporal),
            ("--side", self.side.is_some() && features, no_pixels),
            ("--scales", self.scales.is_some() && features, no_pixels),
            ("--no-augment", self.no_augment && features, no_pixels),
            ("--scales", self.scales.is_some() && self.no_augment, "--no-augment takes central crops"),
            ("--chunk", self.chunk.is_some_and(|chunk| chunk > h.batch), "it is larger than the batch"),
        ]
        .into_iter()
        .find_map(|(flag, idle, why)| idle.then_some((flag, why)))
    }
}

impl Hyper {
    /// The defaults: the paper's, or the small ones of the drawn set.
    pub fn base(net: Net, scale: Scale) -> Hyper {
        let paper = Hyper {
            data: String::new(),
            task: None,
            net,
            weights: None,
            loss: Loss::Rank3,
            margin: 1.,
            beta: 0.5,
            splits: 7,
            segments: 3,
            streams: vec![Stream::Spatial, Stream::Temporal],
            folds: None,
            batch: 128,
            chunk: 128,
            lr_spatial: 1e-3,
            lr_temporal: 5e-3,
            steps_spatial: 3_500,
            steps_temporal: 18_000,
            decay_spatial: vec![1_500, 3_000],
            decay_temporal: vec![10_000, 16_000],
            dropout: if net == Net::BnInception { vec![0.8, 0.7] } else { vec![0.5, 0.5] },
            weight_decay: 5e-4,
            side: Crops::paper().side,
            scales: Crops::paper().scales,
            no_augment: false,
            seed: 1,
            amp: false,
            log_every: 10,
        };
        match scale {
            Scale::Paper => paper,
            Scale::Drawn => Hyper {
                batch: 32,
                chunk: 32,
                lr_spatial: 0.02,
                lr_temporal: 0.02,
                steps_spatial: 120,
                steps_temporal: 120,
                decay_spatial: vec![90],
                decay_temporal: vec![90],
                side: if net == Net::Small { 32 } else { 64 },
                scales: vec![1., 0.8],
                ..paper
            },
        }
    }

    fn check(&self) -> Result<()> {
        let shares = |values: &[f64], low: f64, high: f64| values.iter().all(|x| (low..=high).contains(x));
        if !(0. ..=1e6).contains(&self.margin) {
            bail!("--margin {}: say a number from 0 to 1e6; the paper's is 1", self.margin);
        }
        if !(0. ..=1.).contains(&self.beta) {
            bail!("--beta {}: say a number from 0 to 1; the paper's is 0.5", self.beta);
        }
        if !(1..=1000).contains(&self.splits) || !(1..=100).contains(&self.segments) {
            bail!(
                "--splits {} --segments {}: say 1 to 1000 and 1 to 100; the paper's are 7 and 3",
                self.splits,
                self.segments
            );
        }
        if self.streams.is_empty()
            || (self.streams.len() > 1 && self.streams != Hyper::base(self.net, Scale::Paper).streams)
        {
            bail!("--streams: say spatial, temporal or spatial,temporal");
        }
        if !(1..=65_536).contains(&self.batch) || self.chunk == 0 {
            bail!("--batch {} --chunk {}: say 1 to 65536; the paper's batch is 128", self.batch, self.chunk);
        }
        for (flag, rate) in [("lr-spatial", self.lr_spatial), ("lr-temporal", self.lr_temporal)] {
            if !(rate > 0. && rate.is_finite()) {
                bail!("--{flag} {rate}: say a number above 0, e.g. 1e-3");
            }
        }
        for (flag, steps) in [("steps-spatial", self.steps_spatial), ("steps-temporal", self.steps_temporal)] {
            if !(1..=1_000_000_000).contains(&steps) {
                bail!("--{flag} {steps}: say 1 to 1000000000 steps");
            }
        }
        if self.dropout.len() != 2 || !shares(&self.dropout, 0., 0.99) {
            bail!("--dropout: say two numbers from 0 to 0.99, spatial and temporal, e.g. 0.5,0.5");
        }
        if !(0. ..1.).contains(&self.weight_decay) {
            bail!("--weight-decay {}: say a number from 0 to 1, e.g. 5e-4", self.weight_decay);
        }
        if self.scales.is_empty() || !shares(&self.scales, 0.1, 1.) {
            bail!("--scales: say numbers from 0.1 to 1, e.g. 1,0.875,0.75,0.66");
        }
        let least = if self.net == Net::Alexnet { 64 } else { 16 };
        if !(least..=1024).contains(&self.side) || (self.net == Net::BnInception && !self.side.is_multiple_of(32)) {
            bail!(
                "--side {}: {} takes {least} to 1024 pixels{}",
                self.side,
                self.net.name(),
                if self.net == Net::BnInception { ", a multiple of 32" } else { "" }
            );
        }
        if self.log_every == 0 {
            bail!("--log-every counts from 1");
        }
        if self.data == "drawn" && self.task.is_some() {
            bail!("--task: drawn hands are one task: leave it out");
        }
        if self.net == Net::Features && self.data == "drawn" {
            bail!("--net features: drawn videos have no ready-made features: say --net small");
        }
        Ok(())
    }

    pub fn crops(&self) -> Crops {
        Crops { side: self.side, scales: self.scales.clone() }
    }

    pub fn dropout(&self, stream: Stream) -> f64 {
        self.dropout[stream as usize]
    }

    pub fn steps(&self, stream: Stream) -> u64 {
        if stream == Stream::Spatial { self.steps_spatial } else { self.steps_temporal }
    }

    pub fn stairs(&self, stream: Stream) -> Stairs {
        match stream {
            Stream::Spatial => Stairs { base: self.lr_spatial, at: self.decay_spatial.clone() },
            Stream::Temporal => Stairs { base: self.lr_temporal, at: self.decay_temporal.clone() },
        }
    }

    /// The folds to train, from 0. Errors where the set has no such fold.
    pub fn chosen(&self, set: &SkillSet) -> Result<Vec<usize>> {
        let all = set.folds.len();
        let chosen = self.folds.clone().unwrap_or_else(|| (1..=all).collect());
        if chosen.is_empty()
            || chosen.iter().any(|fold| !(1..=all).contains(fold))
            || !chosen.is_sorted_by(|a, b| a < b)
        {
            bail!("--folds: {} has folds 1 to {all}: say some of them in order, e.g. 1,2", set.name);
        }
        Ok(chosen.into_iter().map(|fold| fold - 1).collect())
    }

    /// data/runs/skill-determination/<data>-<net>-<loss>-<seed>
    pub fn folder(&self) -> PathBuf {
        let data = self
            .task
            .clone()
            .or_else(|| Path::new(&self.data).file_name().map(|name| name.to_string_lossy().to_string()));
        let name = format!("{}-{}-{}-{}", data.unwrap_or("data".into()), self.net.name(), self.loss.name(), self.seed);
        Path::new("data/runs/skill-determination").join(name)
    }

    /// Where this run's flags leave the paper's, in words; a value that the run doesn't look at is none.
    pub fn departures(&self) -> Vec<String> {
        let paper = Hyper::base(self.net, Scale::Paper);
        let mut list = Vec::new();
        let mut compare = |flag: &str, ours: String, theirs: String| {
            if ours != theirs {
                list.push(format!("--{flag} {ours} (the paper: {theirs})"));
            }
        };
        let (a, b, pictures) = (self, &paper, self.net != Net::Features);
        if matches!(self.net, Net::Small | Net::Features) {
            compare("net", self.net.name(), Net::Alexnet.name());
        }
        compare("margin", a.margin.to_string(), b.margin.to_string());
        if self.loss == Loss::Rank3 {
            compare("beta", a.beta.to_string(), b.beta.to_string());
        }
        if self.loss != Loss::Rank1 {
            compare("splits", a.splits.to_string(), b.splits.to_string());
        }
        compare("segments", a.segments.to_string(), b.segments.to_string());
        compare("batch", a.batch.to_string(), b.batch.to_string());
        for &stream in &self.streams {
            let (name, ours, theirs) = (stream.name(), a.stairs(stream), b.stairs(stream));
            compare(&format!("lr-{name}"), ours.base.to_string(), theirs.base.to_string());
            compare(&format!("steps-{name}"), a.steps(stream).to_string(), b.steps(stream).to_string());
            compare(&format!("decay-{name}"), format!("{:?}", ours.at), format!("{:?}", theirs.at));
        }
        let dropout = |h: &Hyper| format!("{:?}", self.streams.iter().map(|&s| h.dropout(s)).collect::<Vec<_>>());
        compare("dropout", dropout(a), dropout(b));
        if pictures {
            compare("side", a.side.to_string(), b.side.to_string());
            compare("no-augment", a.no_augment.to_string(), b.no_augment.to_string());
        }
        // Not the paper's, which names neither, but what its framework takes.
        if a.weight_decay != b.weight_decay {
            list.push(format!("--weight-decay {} (temporal segment networks: {})", a.weight_decay, b.weight_decay));
        }
        if pictures && !a.no_augment && a.scales != b.scales {
            list.push(format!("--scales {:?} (temporal segment networks: {:?})", a.scales, b.scales));
        }
        if matches!(self.net, Net::Alexnet | Net::BnInception) && self.weights.is_none() {
            list.push("--weights none (the paper: ImageNet)".into());
        }
        if self.amp {
            list.push("--amp: the network in bfloat16".into());
        }
        list
    }

    /// What the report states at its top.
    pub fn facts(&self, set: &SkillSet, machine: &Machine) -> Vec<(String, String)> {
        let fact = |key: &str, value: String| (key.to_string(), value);
        let streams: Vec<&str> = self.streams.iter().map(|stream| stream.name()).collect();
        let steps: Vec<String> = self.streams.iter().map(|&s| format!("{} {}", self.steps(s), s.name())).collect();
        let beta = if self.loss == Loss::Rank3 { format!(", beta {}", self.beta) } else { String::new() };
        let splits = if self.loss == Loss::Rank1 { 1 } else { self.splits };
        vec![
            fact("data", set.name.clone()),
            fact("network", format!("{}, {}", self.net.name(), streams.join(" and "))),
            fact("loss", format!("{}, margin {}{beta}", self.loss.name(), self.margin)),
            fact("splits", format!("{splits} of {} segments", self.segments)),
            fact("batch", format!("{} pairs of clips", self.batch)),
            fact("steps", steps.join(", ")),
            fact("seed", self.seed.to_string()),
            fact("device", machine.name.clone()),
        ]
    }
}
