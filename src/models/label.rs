//! Label prediction and label decision (1704.03135; layers as in the authors' program): scores on a feature, and two heads
//! that choose how many labels, or which.

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Network;
use super::dropout;
use super::layers::{BatchNorm, Init, Linear, Scope, Stages};
use super::normal::Then;

/// f: a feature network and one linear layer to the K scores, `scores.{weight,bias}`.
#[derive(Debug)]
pub struct LabelNet {
    backbone: Box<dyn Network>,
    scores: Linear,
    dropout: f64,
}

impl LabelNet {
    /// Scores for `classes` on `backbone`, whose variables lie in `at` too; `dropout` on the feature in training (0.5
    /// in the authors' program).
    pub fn new(at: &Scope, backbone: Box<dyn Network>, classes: i64, dropout: f64) -> LabelNet {
        let scores = at.linear("scores", backbone.width(), classes, Init::GlorotUniform { gain: 1. }, true);
        LabelNet { backbone, scores, dropout }
    }

    /// The feature `[B, F]` (fc7) of inputs, without dropout.
    pub fn feature(&self, inputs: &Tensor, train: bool) -> Tensor {
        self.backbone.forward(inputs, train)
    }

    /// Scores `[B, K]` of features `[B, F]`, with dropout in training.
    pub fn scores(&self, feature: &Tensor, train: bool) -> Tensor {
        self.scores.forward(&dropout(feature, self.dropout, train))
    }

    /// F, the width of the feature.
    pub fn feature_width(&self) -> i64 {
        self.backbone.width()
    }
}

/// Two hidden layers with ReLU and one linear layer without: both heads.
#[derive(Debug)]
pub struct DecisionHead {
    layers: [Linear; 3],
}

impl DecisionHead {
    /// The label count head: `inputs` to 100, 10 and `most` numbers, the last meaning "that many or more" (`most`
    /// is 4 in the authors' program). Variables `{0,1,2}.{weight,bias}`.
    pub fn count(at: &Scope, inputs: i64, most: i64) -> DecisionHead {
        DecisionHead::new(at, inputs, [100, 10, most])
    }

    /// The label threshold head: `inputs` to 4K, 2K and K thresholds.
    pub fn threshold(at: &Scope, inputs: i64, classes: i64) -> DecisionHead {
        DecisionHead::new(at, inputs, [4 * classes, 2 * classes, classes])
    }

    fn new(at: &Scope, inputs: i64, [a, b, c]: [i64; 3]) -> DecisionHead {
        let last = Init::GlorotUniform { gain: 1. };
        DecisionHead {
            layers: [
                at.linear("0", inputs, a, Init::HeNormal, true),
                at.linear("1", a, b, Init::HeNormal, true),
                at.linear("2", b, c, last, true),
            ],
        }
    }

    /// `[B, inputs]` to `[B, outputs]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.layers[0].forward(x).relu_();
        self.layers[2].forward(&self.layers[1].forward(&x).relu_())
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
    /// How many numbers that is, of features of `feature` numbers and `classes` scores.
    pub fn width(self, feature: i64, classes: i64) -> i64 {
        match self {
            HeadInput::Fc7 => feature,
            HeadInput::Logits => classes,
            HeadInput::Concat => feature + classes,
        }
    }
}

/// f, and the two alternative heads g, whose variables begin with `count.` and `threshold.`.
#[derive(Debug)]
pub struct LabelSystem {
    /// f.
    pub net: LabelNet,
    /// How many labels.
    pub count: DecisionHead,
    /// θ, a threshold a class.
    pub threshold: DecisionHead,
    /// What both of them read.
    pub reads: HeadInput,
    /// Of ready-made features the mean and the deviation, `input.{mean,deviation}`.
    pub normal: Option<[Tensor; 2]>,
}

/// f, the scores.
impl Network for LabelSystem {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        self.net.scores(&self.feature(images, train), train)
    }

    fn width(&self) -> i64 {
        self.net.scores.outputs()
    }
}

impl LabelSystem {
    /// Mean and deviation of `features` ready-made features, 0 and 1 until they are known.
    pub fn normal(at: &Scope, features: i64) -> [Tensor; 2] {
        let at = at.sub("input");
        [("mean", 0.), ("deviation", 1.)].map(|(name, x)| at.variable(name, &[features], Init::Constant(x), false))
    }

    /// The feature `[B, F]` (fc7) of inputs, ready-made ones normalised, without dropout.
    pub fn feature(&self, x: &Tensor, train: bool) -> Tensor {
        match &self.normal {
            Some([mean, deviation]) => self.net.feature(&((x - mean) / deviation), train),
            None => self.net.feature(x, train),
        }
    }

    /// What the heads read of features `[B, F]` and scores `[B, K]`.
    pub fn head_input(&self, feature: &Tensor, scores: &Tensor) -> Tensor {
        match self.reads {
            HeadInput::Fc7 => feature.shallow_clone(),
            HeadInput::Logits => scores.shallow_clone(),
            HeadInput::Concat => Tensor::cat(&[feature, scores], 1),
        }
    }

    /// Whether a variable is a head's.
    pub fn of_heads(name: &str) -> bool {
        name.starts_with("count.") || name.starts_with("threshold.")
    }
}

/// Two hidden layers with ReLU on ready-made feature vectors, in place of a convolutional network: not the paper's.
#[derive(Debug)]
pub struct FeatureMlp {
    first: Linear,
    second: Linear,
    width: i64,
}

impl FeatureMlp {
    /// `inputs` numbers to `width`, twice.
    pub fn new(at: &Scope, inputs: i64, width: i64) -> FeatureMlp {
        FeatureMlp {
            first: at.linear("hidden1", inputs, width, Init::HeNormal, true),
            second: at.linear("hidden2", width, width, Init::HeNormal, true),
            width,
        }
    }
}

/// `[B, inputs]` to `[B, width]`.
impl Network for FeatureMlp {
    fn forward(&self, x: &Tensor, _train: bool) -> Tensor {
        self.second.forward(&self.first.forward(x).relu_()).relu_()
    }

    fn width(&self) -> i64 {
        self.width
    }
}

/// Four stages of 3x3 convolution, batch normalisation, ReLU and 2x2 max pooling, the maximum over places, and a linear
/// layer with batch normalisation and ReLU: for drawn images and small machines, not the paper's.
#[derive(Debug)]
pub struct LabelSmall {
    stages: Stages,
    last: Linear,
    bn: BatchNorm,
}

impl LabelSmall {
    /// Width of its feature.
    pub const WIDTH: i64 = 128;

    /// For images of `side` pixels or more each way.
    ///
    /// # Errors
    /// Where the side is below 16.
    pub fn new(at: &Scope, side: i64) -> Result<LabelSmall> {
        ensure!(side >= 16, "four halvings need images of 16 pixels a side or more, not {side}");
        let stages = Stages::new(at, 3, &[16, 32, 64, 128], true);
        let last = at.linear("fc", 128, LabelSmall::WIDTH, Init::HeNormal, false);
        Ok(LabelSmall { stages, last, bn: at.batch_norm("fc_bn", LabelSmall::WIDTH) })
    }
}

impl Network for LabelSmall {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let x = self.stages.forward(images, train);
        let x = self.last.forward(&x.adaptive_max_pool2d([1, 1]).0.flatten(1, -1));
        self.bn.followed(&x, train, &Then::act(0.))
    }

    fn width(&self) -> i64 {
        LabelSmall::WIDTH
    }
}
