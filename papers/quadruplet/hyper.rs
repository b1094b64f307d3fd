//! A run's hyperparameters: the defaults, what is refused, what follows from them.

use super::*;
use clap::ValueEnum;
use flags::Order;

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

    /// Refuses what cannot train.
    pub fn check(&self) -> Result<()> {
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
        if self.steps2 == 0 && self.model == Model::QuadrupletMargohnm {
            bail!("--steps2 0: without adaptive margins it is --model quadruplet; say 1 or more");
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
            world: machine.world.clone(),
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
            .filter(|part| part != "/" && part != ".." && part != ".")
            .collect();
        parts.reverse();
        let net = self.net.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string());
        let split = if self.split == Split::default() { String::new() } else { format!("-split{}", self.split) };
        let people = self.test_people.map_or_else(String::new, |people| format!("-p{people}"));
        format!("{}{people}{split}-{net}", if parts.is_empty() { "here".into() } else { parts.join("-") })
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
        match &self.start {
            Some(run) => list.push(format!("--start {}: all layers start from that run's", run.display())),
            None if self.net != Net::Small && self.weights.is_none() => {
                list.push("--weights none: conv1 and conv2 do not start from ImageNet weights".into());
            }
            None => (),
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
