//! Every hyperparameter with its place in the paper, and the verbs' flags.

use super::*;
use clap::{Args, Parser, Subcommand, ValueEnum};
use rankle::run::machine::{MachineFlags, TrainingFlags};
use rankle::transform::{TestViews, View};

#[derive(Parser)]
#[command(
    name = "facenet",
    version,
    about = "FaceNet: A Unified Embedding for Face Recognition and Clustering\nSchroff, Kalenichenko, Philbin, arXiv 1503.03832",
    after_help = "Quick start: facenet reproduce --data drawn\nThe paper:   facenet train --data data/casia-webface --test data/lfw, then evaluate --run DIR\nLFW alone:   facenet reproduce --data data/lfw --protocol lfw-no-outside-data\nTables:      facenet reproduce --data drawn --table 3 (networks), 4 (image quality), 5 (embedding width)"
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
    /// Score a trained run (or a baseline): results.json, report.html, the table
    Evaluate(Evaluate),
    /// Embed all images under a folder into a .safetensors
    Embed(Embed),
    /// Write model.pt (TorchScript), loaded again and compared before it counts as written
    Export(Export),
    /// The data card: counts, people, pairs, sizes, problems
    Data(Data),
}

/// A protocol that trains more than one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// LFW, unrestricted, no outside data: a network for each fold, trained on the people of other folds only
    LfwNoOutsideData,
}

#[derive(Args)]
pub struct Reproduce {
    /// Run folder [default: data/runs/facenet/ and a name made from the flags]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Reproduce a table instead of one run: 3 networks, 4 JPEG quality and image size, 5 embedding width
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(3..=5), conflicts_with = "protocol")]
    pub table: Option<u8>,
    /// Reproduce a protocol that trains a network a fold
    #[arg(long, value_enum)]
    pub protocol: Option<Protocol>,
    /// Folds to train for, of that protocol, e.g. 1,2,3 [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "protocol")]
    pub folds: Vec<usize>,
    #[command(flatten)]
    pub hyper: Flags,
    #[command(flatten)]
    pub machine: TrainingFlags,
    #[command(flatten)]
    pub scoring: Scoring,
}

#[derive(Args)]
pub struct Train {
    /// Run folder [default: data/runs/facenet/ and a name made from the flags]
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
    #[arg(long, value_name = "DIR", required_unless_present = "baselines")]
    pub run: Option<PathBuf>,
    /// Score raw pixels (48x48, grey) and eigenfaces (128 components) on --data instead of a run: what a network has to beat
    #[arg(long, conflicts_with_all = ["run", "untrained"], requires = "data")]
    pub baselines: bool,
    /// Score the network as training found it instead, into DIR/untrained: what training was worth
    #[arg(long)]
    pub untrained: bool,
    /// Score on this data instead of the run's own, into DIR/on-NAME; of a plain tree all people are tested
    #[arg(long, value_name = "DIR|drawn")]
    pub data: Option<String>,
    /// Side of the centre square that is cut from images of --data, as a share of the shorter side [default: the run's, 1 with --baselines]
    #[arg(long, value_name = "SHARE")]
    pub crop: Option<f64>,
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
    /// File to write: tensor "embeddings" [N, D] of unit rows, file names in its metadata
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
    /// Average with the mirror image's embedding
    #[arg(long)]
    pub flip: bool,
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
    /// Data set folder (LFW, YouTube Faces, train and test, or one folder a person), or drawn
    #[arg(long, value_name = "DIR|drawn")]
    pub data: String,
    /// Also write the card as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Args, Clone)]
pub struct Scoring {
    /// How embeddings are compared (Section 4; the variants are those of open implementations)
    #[arg(long, value_enum, default_value_t = Variant::Plain)]
    pub variant: Variant,
    /// False accept rate at which VAL is taken (Section 5.1: 0.001)
    #[arg(long, value_name = "RATE", default_value_t = 1e-3)]
    pub far: f64,
    /// Images enrolled a person for recognition
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [1, 5])]
    pub enrolled: Vec<usize>,
    /// Neighbours that vote for recognition
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [1, 5])]
    pub neighbours: Vec<usize>,
    /// Squared distance up to which clusters are joined [default: the folds' mean threshold; 1.1 (Figure 1) without pairs]
    #[arg(long, value_name = "D")]
    pub cluster_cut: Option<f64>,
    /// Most images that are clustered (memory grows with their square)
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub cluster_images: usize,
}

impl Scoring {
    pub fn check(&self) -> Result<()> {
        if !(self.far > 0. && self.far < 1.) {
            bail!("--far {}: say a rate between 0 and 1, e.g. 0.001", self.far);
        }
        if self.enrolled.contains(&0) || self.neighbours.contains(&0) {
            bail!("--enrolled and --neighbours: say numbers from 1 on, e.g. 1,5");
        }
        if self.cluster_cut.is_some_and(|cut| !(cut > 0. && cut <= 4.)) {
            bail!("--cluster-cut: say a squared distance above 0 and up to 4, e.g. 1.1");
        }
        if !(2..=20_000).contains(&self.cluster_images) {
            bail!("--cluster-images {}: say 2 to 20000", self.cluster_images);
        }
        Ok(())
    }

    /// Where the evaluation leaves the paper's, in words.
    pub fn departures(&self) -> Vec<String> {
        let mut list = Vec::new();
        if self.variant.flips() {
            list.push(format!(
                "--variant {}: the mean of a face's and its mirror image's embeddings, unit again (facenet concatenates the two; the paper has no mirror images)",
                self.variant.name()
            ));
        }
        if self.variant.centres() {
            list.push(format!(
                "--variant {}: the mean embedding is subtracted and distances are squared Euclidean (facenet's published numbers use the angle; the paper subtracts none)",
                self.variant.name()
            ));
        }
        if self.far != 1e-3 {
            list.push(format!("--far {} (the paper: 0.001)", self.far));
        }
        list
    }

    pub fn uses(&self, seed: u64) -> faces::Uses {
        faces::Uses {
            far: self.far,
            enrolled: self.enrolled.clone(),
            neighbours: self.neighbours.clone(),
            cut: self.cluster_cut,
            clustered: self.cluster_images,
            seed,
        }
    }
}

/// The network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Net {
    /// Zeiler and Fergus with 1x1 convolutions, 220x220, 140 M parameters (Table 1)
    Nn1,
    /// Inception, 224x224, 7.5 M parameters (Table 2)
    Nn2,
    /// NN2 at 160x160
    Nn3,
    /// NN2 at 96x96 without 5x5 convolutions in the last modules
    Nn4,
    /// openface's nn4.small2 as its definition says, 96x96, 3.7 M parameters
    Nn4Small2,
    /// openface's nn4.small2 as its released weights need it
    Nn4Small2Released,
    /// Inception-ResNet-v1, 160x160, 23.5 M parameters (facenet, facenet-pytorch)
    InceptionResnetV1,
    /// torchvision's GoogLeNet with a new last layer, 224x224, 5.7 M parameters
    Googlenet,
    /// Ours, for small machines
    Small,
}

impl Net {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// Pixels a side.
    pub fn size(self) -> u32 {
        match self {
            Net::Nn1 => 220,
            Net::Nn2 | Net::Googlenet => 224,
            Net::Nn3 | Net::InceptionResnetV1 => 160,
            Net::Nn4 | Net::Nn4Small2 | Net::Nn4Small2Released => 96,
            Net::Small => 64,
        }
    }

    /// One of the paper's own.
    pub fn is_the_papers(self) -> bool {
        matches!(self, Net::Nn1 | Net::Nn2 | Net::Nn3 | Net::Nn4)
    }
}

/// Which negative a pair gets; see `rankle::mining::Negative`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mining {
    /// The nearest with d_ap < d_an < d_ap + margin (Eq. 4)
    Nearest,
    /// A random one with d_ap < d_an < d_ap + margin
    RandomInMargin,
    /// A random one with d_an < d_ap + margin
    Violating,
    /// The nearest with d_an > d_ap, else the farthest (TensorFlow Addons)
    Addons,
    /// The nearest of all (collapses early, Section 3.2)
    Hardest,
}

impl Mining {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// The rule, random ones by this seed.
    pub fn negative(self, seed: u64) -> Negative {
        match self {
            Mining::Nearest => Negative::SemiHard(Pick::Nearest),
            Mining::RandomInMargin => Negative::SemiHard(Pick::Random(seed)),
            Mining::Violating => Negative::Violating(seed),
            Mining::Addons => Negative::Addons,
            Mining::Hardest => Negative::Hardest,
        }
    }
}

/// The optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimiser {
    /// AdaGrad (Section 3.3), accumulators from 0.1
    Adagrad,
    /// Adam, betas 0.9 and 0.999 (openface)
    Adam,
    /// SGD with momentum 0.9
    Sgd,
}

impl Optimiser {
    pub fn rule(self) -> Rule {
        match self {
            Optimiser::Adagrad => Rule::AdaGrad { initial: 0.1, eps: 1e-10 },
            Optimiser::Adam => Rule::ADAM,
            Optimiser::Sgd => Rule::Sgd { momentum: 0.9 },
        }
    }
}

/// Flags of train and reproduce. What is not given is the paper's.
#[derive(Args, Clone)]
pub struct Flags {
    /// Faces to train on: one folder a person, or train and test folders, or drawn for the built-in set
    #[arg(long, value_name = "DIR|drawn", default_value = "data/casia-webface")]
    pub data: String,
    /// Faces to test on, e.g. data/lfw; people of that name leave the training [default: the test part of --data]
    #[arg(long, value_name = "DIR")]
    pub test: Option<String>,
    /// Names of training people to leave out, a line each (beside those of the test set)
    #[arg(long, value_name = "FILE")]
    pub exclude: Option<PathBuf>,
    /// FOLDER,NAME lines where training folders are not named after people (VGGFace2's identity_meta.csv)
    #[arg(long, value_name = "FILE")]
    pub names: Option<PathBuf>,
    /// Leave out training people with fewer images; those with one image come as further negatives only [default: 1]
    #[arg(long, value_name = "N")]
    pub min_images: Option<usize>,
    /// Network (Section 3.3) [default: nn2; small on drawn data]
    #[arg(long, value_enum)]
    pub net: Option<Net>,
    /// Published weights to start from (.safetensors, .pt, .pth), or none
    #[arg(long, value_name = "FILE|none")]
    pub weights: Option<String>,
    /// Embedding width d (Section 5.4, Table 5) [default: 128; 512 for inception-resnet-v1]
    #[arg(long, value_name = "D")]
    pub width: Option<i64>,
    /// Input pixels a side [default: the network's: 220, 224, 160, 96; 64 for small]
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<u32>,
    /// Side of the centre square cut from the images of --test (of all, without --test), as a share of the shorter side (LFW's 250x250 thumbnails: 0.55) [default: 1]
    #[arg(long, value_name = "SHARE")]
    pub crop: Option<f64>,
    /// Batch normalisation in NN1 to NN4, which the paper does not mention (openface has it)
    #[arg(long)]
    pub batch_norm: bool,
    /// Divide all channel counts by this, for small machines; 1 is the published network [default: 1]
    #[arg(long, value_name = "N")]
    pub shrink: Option<i64>,
    /// The negative of a pair (Section 3.2, Eq. 4) [default: nearest]
    #[arg(long, value_enum)]
    pub mining: Option<Mining>,
    /// Margin alpha in squared distance (Section 3.1) [default: 0.2]
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true)]
    pub margin: Option<f64>,
    /// People a batch (Section 3.2: about 1800 faces) [default: 45]
    #[arg(long, value_name = "P")]
    pub people: Option<usize>,
    /// Faces a person and batch, fewer where there are fewer (Section 3.2: around 40) [default: 40]
    #[arg(long, value_name = "K")]
    pub faces: Option<usize>,
    /// Further random faces a batch, never anchor or positive (Section 3.2) [default: 0]
    #[arg(long, value_name = "N")]
    pub negatives: Option<usize>,
    /// Faces computed at once; a batch of more goes through twice (gradient caching) [default: 90 on a CPU, the batch on CUDA]
    #[arg(long, value_name = "N")]
    pub chunk: Option<usize>,
    /// Optimiser (Section 3.3) [default: adagrad]
    #[arg(long, value_enum)]
    pub optimiser: Option<Optimiser>,
    /// Learning rate (Section 3.3) [default: 0.05]
    #[arg(long)]
    pub lr: Option<f64>,
    /// Steps after which the rate is divided by ten [default: 4/5 and 9/10 of --steps; the paper's are unknown]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub drops: Option<Vec<u64>>,
    /// Steps in all [default: 500000; the paper trains 1000 to 2000 hours]
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Training augmentation [default: crop-flip; the paper states none]
    #[arg(long, value_enum)]
    pub augment: Option<Augment>,
    /// Everything random follows from this
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Compute the network in bfloat16; loss and mining stay in f32
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
    pub test: Option<String>,
    pub exclude: Option<PathBuf>,
    pub names: Option<PathBuf>,
    pub min_images: usize,
    pub net: Net,
    pub weights: Option<String>,
    pub width: i64,
    pub size: u32,
    pub crop: f64,
    pub batch_norm: bool,
    pub shrink: i64,
    pub mining: Mining,
    pub margin: f64,
    pub people: usize,
    pub faces: usize,
    pub negatives: usize,
    pub chunk: usize,
    pub optimiser: Optimiser,
    pub lr: f64,
    pub drops: Vec<u64>,
    pub steps: u64,
    pub augment: Augment,
    pub seed: u64,
    pub amp: bool,
    pub log_every: u64,
    /// LFW, no outside data: the fold that is held out, from 1.
    pub fold: Option<usize>,
}

impl Flags {
    pub fn is_drawn(&self) -> bool {
        self.data == "drawn"
    }

    pub fn scale(&self) -> Scale {
        if self.is_drawn() { Scale::Drawn } else { Scale::Paper }
    }

    /// Fills in the defaults and refuses what cannot train.
    pub fn resolve(&self, scale: Scale, machine: &Machine) -> Result<Hyper> {
        let drawn = scale == Scale::Drawn;
        let net = self.net.unwrap_or(if drawn { Net::Small } else { Net::Nn2 });
        let base = Hyper::base(net, scale);
        let steps = self.steps.unwrap_or(base.steps);
        let (people, faces) = (self.people.unwrap_or(base.people), self.faces.unwrap_or(base.faces));
        let negatives = self.negatives.unwrap_or(base.negatives);
        let h = Hyper {
            data: self.data.trim_end_matches('/').to_string(),
            test: self.test.as_ref().map(|test| test.trim_end_matches('/').to_string()),
            exclude: self.exclude.clone(),
            names: self.names.clone(),
            min_images: self.min_images.unwrap_or(base.min_images),
            net,
            weights: self.weights.clone().filter(|file| file != "none"),
            width: self.width.unwrap_or(base.width),
            size: self.size.unwrap_or(base.size),
            crop: self.crop.unwrap_or(base.crop),
            batch_norm: self.batch_norm,
            shrink: self.shrink.unwrap_or(base.shrink),
            mining: self.mining.unwrap_or(base.mining),
            margin: self.margin.unwrap_or(base.margin),
            people,
            faces,
            negatives,
            chunk: self.chunk.unwrap_or(match machine.device.is_cuda() {
                true => people * faces + negatives,
                false => base.chunk,
            }),
            optimiser: self.optimiser.unwrap_or(base.optimiser),
            lr: self.lr.unwrap_or(base.lr),
            drops: self.drops.clone().unwrap_or_else(|| vec![steps * 4 / 5, steps * 9 / 10]),
            steps,
            augment: self.augment.unwrap_or(base.augment),
            seed: self.seed,
            amp: self.amp,
            log_every: self.log_every.unwrap_or(base.log_every),
            fold: None,
        };
        h.check()?;
        Ok(h)
    }
}

impl Hyper {
    /// The defaults: the paper's, or the small ones of the drawn set.
    pub fn base(net: Net, scale: Scale) -> Hyper {
        let paper = Hyper {
            data: String::new(),
            test: None,
            exclude: None,
            names: None,
            min_images: 1,
            net,
            weights: None,
            width: if net == Net::InceptionResnetV1 { 512 } else { 128 },
            size: net.size(),
            crop: 1.,
            batch_norm: false,
            shrink: 1,
            mining: Mining::Nearest,
            margin: 0.2,
            people: 45,
            faces: 40,
            negatives: 0,
            chunk: 90,
            optimiser: Optimiser::Adagrad,
            lr: 0.05,
            drops: Vec::new(),
            steps: 500_000,
            augment: Augment::CropFlip,
            seed: 1,
            amp: false,
            log_every: 10,
            fold: None,
        };
        match scale {
            Scale::Paper => paper,
            Scale::Drawn => Hyper { people: 24, faces: 8, chunk: 192, steps: 120, size: paper.size.min(64), ..paper },
        }
    }

    fn check(&self) -> Result<()> {
        if !(1..=100_000).contains(&self.people) || !(2..=100_000).contains(&self.faces) {
            bail!("--people {} --faces {}: say 1 person or more, and 2 faces of each or more", self.people, self.faces);
        }
        if self.negatives == 0 && self.people < 2 {
            bail!("--people 1 without --negatives has nobody to tell from: say --people 2 or more");
        }
        if self.people * self.faces + self.negatives > 65_536 {
            bail!(
                "--people {} --faces {} --negatives {}: more than 65536 faces a batch: say fewer",
                self.people,
                self.faces,
                self.negatives
            );
        }
        if !(4..=65_536).contains(&self.chunk) {
            bail!("--chunk {}: say 4 to 65536 faces", self.chunk);
        }
        if !(self.lr > 0. && self.lr <= 10.) {
            bail!("--lr {}: say a rate above 0 and up to 10, e.g. 0.05", self.lr);
        }
        if !(self.margin > 0. && self.margin <= 4.) {
            bail!("--margin {}: squared distances of unit rows lie in 0 to 4: say e.g. 0.2", self.margin);
        }
        if self.steps == 0 {
            bail!("--steps 0 trains nothing: say 1 or more");
        }
        if !self.drops.is_sorted() {
            bail!("--drops: say ascending steps, e.g. 400000,450000");
        }
        if !(0.1..=1.).contains(&self.crop) {
            bail!("--crop {}: say a share from 0.1 to 1", self.crop);
        }
        if !(2..=4096).contains(&self.width) {
            bail!("--width {}: say 2 to 4096", self.width);
        }
        if !(16..=1024).contains(&self.size) {
            bail!("--size {}: say 16 to 1024 pixels", self.size);
        }
        if !(1..=64).contains(&self.shrink) {
            bail!("--shrink {}: say 1 to 64", self.shrink);
        }
        if self.batch_norm && !self.net.is_the_papers() {
            bail!("--batch-norm: {} has it always: leave it out", self.net.name());
        }
        if self.weights.is_some() && (self.shrink != 1 || self.net == Net::Small) {
            bail!("--weights: published weights fit published networks: leave --shrink out and choose another --net");
        }
        Ok(())
    }

    pub fn recipe(&self) -> Recipe {
        let (mean, std) = network_input(self.net);
        Recipe { height: self.size, width: self.size, mean, std }
    }

    /// The set as it is seen: --crop cuts the images of --test, or all where one set trains and tests.
    pub fn seen(&self, set: FaceSet) -> FaceSet {
        let view = View { crop: self.crop, ..View::WHOLE };
        if self.test.is_none() {
            return set.through(view);
        }
        let FaceSet { train, .. } = set.clone();
        FaceSet { train, ..set.through(view) }
    }

    pub fn embedding(&self, flip: bool, machine: &Machine) -> Embedding {
        Embedding {
            recipe: self.recipe(),
            views: if flip { TestViews::Flip } else { TestViews::Original },
            device: machine.device,
            batch: 128,
            workers: machine.workers,
            amp: self.amp,
            world: machine.world.clone(),
        }
    }

    /// The rate at step `t`: divided by ten at each drop that is reached.
    pub fn rate(&self, t: u64) -> f64 {
        self.lr / 10_f64.powi(self.drops.iter().filter(|&&drop| t >= drop).count() as i32)
    }

    /// data/runs/facenet/<data>-<net>-<mining>-<width>-<seed>
    pub fn folder(&self) -> PathBuf {
        let data =
            Path::new(&self.data).file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().to_string());
        let name = format!("{data}-{}-{}-{}-{}", self.net.name(), self.mining.name(), self.width, self.seed);
        Path::new("data/runs/facenet").join(name)
    }

    /// Where this run leaves the paper, in words: what holds for every run, then what follows from its flags. What
    /// the paper leaves open is listed too, with what was taken.
    pub fn departures(&self) -> Vec<String> {
        let mut list: Vec<String> = DEPARTURES.map(String::from).to_vec();
        list.push(match self.mining {
            Mining::Nearest => "each ordered pair (a, p) gets the nearest negative within the margin (Eq. 4), or is skipped; the paper leaves the choice among them open".into(),
            Mining::RandomInMargin => "each ordered pair (a, p) gets a random negative within the margin (Eq. 4), or is skipped; the paper leaves the choice among them open".into(),
            Mining::Violating => "--mining violating: a random negative with d_an < d_ap + margin, hard ones too (the paper: semi-hard ones, Eq. 4)".into(),
            Mining::Addons => "--mining addons: the nearest negative with d_an > d_ap, within the margin or not, else the farthest (the paper: within the margin, Eq. 4)".into(),
            Mining::Hardest => "--mining hardest: the nearest negative of all, which the paper rejects (Section 3.2)".into(),
        });
        list.push(format!(
            "batches are {} people with up to {} faces each and {} further random faces; the paper says about 1800 exemplars, about 40 faces an identity and random negatives, without their number",
            self.people, self.faces, self.negatives
        ));
        list.push(format!(
            "the rate starts at {} and is divided by ten at steps {}; the paper starts at 0.05 and lowers it at times it does not give",
            self.lr,
            self.drops.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
        ));
        list.push(match self.optimiser {
            Optimiser::Adagrad => {
                "AdaGrad's accumulators start at 0.1 with epsilon 1e-10, as in TensorFlow; the paper gives neither"
                    .into()
            }
            Optimiser::Adam => "--optimiser adam (the paper: AdaGrad)".into(),
            Optimiser::Sgd => "--optimiser sgd (the paper: AdaGrad)".into(),
        });
        match self.augment {
            Augment::None => {}
            Augment::Flip => list.push("training faces are mirrored at random; the paper states no augmentation".into()),
            Augment::CropFlip => list.push("training faces are cropped at random from 9/8 of the input size and mirrored; the paper states no augmentation".into()),
        }
        list.push(match self.net {
            Net::Nn4Small2 | Net::Nn4Small2Released => {
                "pixels enter as x / 255, as in openface; the paper gives no scale".into()
            }
            Net::Googlenet => "pixels enter as (x - 127.5) / 127.5, as in torchvision; the paper gives no scale".into(),
            _ => "pixels enter as (x - 127.5) / 128, as in facenet; the paper gives no scale".into(),
        });
        match self.net {
            Net::Nn1 | Net::Nn2 | Net::Nn3 | Net::Nn4 => {
                list.push(
                    "local response normalisation has size 5, alpha 1e-4, beta 0.75, k 1; the paper gives no constants"
                        .into(),
                );
            }
            _ => list.push(format!("--net {}: not a network of the paper", self.net.name())),
        }
        if self.net == Net::Nn4 {
            list.push("NN4's \"higher layers\" without 5x5 convolutions are 5a and 5b, as openface reads it".into());
        }
        if self.crop < 1. {
            let whose = if self.test.is_some() { "test" } else { "training and test" };
            list.push(format!(
                "--crop {}: of {whose} images the centre square of that share is seen; the paper crops LFW's thumbnails by a size it does not give, and its training faces by a detector",
                self.crop
            ));
        }
        let mut compare = |flag: &str, ours: String, theirs: String| {
            if ours != theirs {
                list.push(format!("--{flag} {ours} (the paper: {theirs})"));
            }
        };
        compare("width", self.width.to_string(), "128".into());
        if self.net.is_the_papers() {
            compare("size", self.size.to_string(), self.net.size().to_string());
        }
        compare("margin", self.margin.to_string(), "0.2".into());
        if self.shrink > 1 {
            list.push(format!("--shrink {}: all channel counts divided by it", self.shrink));
        }
        if self.min_images > 1 {
            list.push(format!(
                "--min-images {}: training people with fewer left out (the paper names no such rule)",
                self.min_images
            ));
        }
        if self.batch_norm {
            list.push("--batch-norm: the paper mentions none".into());
        }
        if self.weights.is_some() {
            list.push("--weights: the paper trains from scratch".into());
        }
        list.push(format!("{} steps; the paper trains 1000 to 2000 hours on a CPU cluster", self.steps));
        if self.amp {
            list.push("--amp: the network in bfloat16".into());
        }
        list
    }

    /// What the report states at its top.
    pub fn facts(&self, set: &FaceSet, step: u64, machine: &Machine) -> Vec<(String, String)> {
        let fact = |key: &str, value: String| (key.to_string(), value);
        let mut network = format!("{}, {}-D, {} pixels", self.net.name(), self.width, self.size);
        if self.batch_norm {
            network.push_str(", batch-normalised");
        }
        if self.shrink > 1 {
            network.push_str(&format!(", channels divided by {}", self.shrink));
        }
        vec![
            fact("data", set.name.clone()),
            fact("network", network),
            fact("mining", format!("{}, margin {}", self.mining.name(), self.margin)),
            fact("batch", format!("{} people, up to {} faces, {} more", self.people, self.faces, self.negatives)),
            fact("steps", step.to_string()),
            fact("seed", self.seed.to_string()),
            fact("device", machine.name.clone()),
        ]
    }
}
