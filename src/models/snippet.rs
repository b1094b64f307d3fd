//! Small scorers of snippets: a network for drawn videos, and a head on ready-made features.

use tch::Tensor;

use super::dropout;
use super::layers::{Init, Linear, Scope, Stages};
use super::{IMAGENET, Network};

/// Four 3x3 convolutions with stride 2, batch normalisation and ReLU, the mean over places, dropout, one score. Not
/// the paper's: for small pictures on small machines.
#[derive(Debug)]
pub struct SnippetSmall {
    stages: Stages,
    score: Linear,
    dropout: f64,
}

impl SnippetSmall {
    /// For inputs of `channels` channels and any size.
    pub fn new(at: &Scope, channels: i64, dropout: f64) -> SnippetSmall {
        SnippetSmall {
            stages: Stages::new(at, channels, &[16, 32, 64, 64], false),
            score: at.linear("score", 64, 1, Init::GlorotUniform { gain: 1. }, true),
            dropout,
        }
    }
}

impl Network for SnippetSmall {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let x = self.stages.forward(images, train);
        self.score.forward(&dropout(&x.adaptive_avg_pool2d([1, 1]).flatten(1, -1), self.dropout, train))
    }

    fn width(&self) -> i64 {
        1
    }
}

/// Dropout and one linear layer on features that another network made, a row a snippet.
#[derive(Debug)]
pub struct FeatureHead {
    score: Linear,
    dropout: f64,
}

impl FeatureHead {
    /// For rows of `inputs` numbers.
    pub fn new(at: &Scope, inputs: i64, dropout: f64) -> FeatureHead {
        FeatureHead { score: at.linear("score", inputs, 1, Init::GlorotUniform { gain: 1. }, true), dropout }
    }
}

impl Network for FeatureHead {
    /// `[B, inputs]` to `[B, 1]`.
    fn forward(&self, rows: &Tensor, train: bool) -> Tensor {
        self.score.forward(&dropout(rows, self.dropout, train))
    }

    fn width(&self) -> i64 {
        1
    }
}

/// What is done to raw bytes (as float32, 0..255) before a scorer sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preprocessing {
    /// Ready-made features: nothing.
    Features,
    /// RGB over 255, less ImageNet's mean, over its deviation: torchvision's networks.
    Frame,
    /// BGR less (104, 117, 128): Cadene's BN-Inception.
    FrameBgr,
    /// Flow bytes over 255, less 0.5, over 0.226: temporal segment networks' for torchvision's networks.
    Flow,
    /// Flow bytes less 128: theirs for BN-Inception.
    FlowCentred,
}

/// A scorer with its normalisation before it: raw snippets `[B, C, H, W]`, float32 in 0..255, to scores `[B, 1]`.
#[derive(Debug)]
pub struct Prepared {
    /// What scores the normalised snippets.
    pub network: Box<dyn Network>,
    /// What comes before it.
    pub input: Preprocessing,
}

impl Network for Prepared {
    fn forward(&self, raw: &Tensor, train: bool) -> Tensor {
        // Numbers and not tensors: they move with an export to any device.
        let plane = |from: i64, mean: f64, scale: f64| (raw.narrow(1, from, 1) - mean) * scale;
        let x = match self.input {
            Preprocessing::Features => raw.shallow_clone(),
            Preprocessing::Frame => {
                let (mean, std) = IMAGENET;
                Tensor::cat(&[0, 1, 2].map(|c| plane(c as i64, 255. * mean[c], 1. / (255. * std[c]))), 1)
            }
            Preprocessing::FrameBgr => Tensor::cat(&[plane(2, 104., 1.), plane(1, 117., 1.), plane(0, 128., 1.)], 1),
            Preprocessing::Flow => (raw - 127.5) * (1. / (255. * 0.226)),
            Preprocessing::FlowCentred => raw - 128.,
        };
        self.network.forward(&x, train)
    }

    fn width(&self) -> i64 {
        self.network.width()
    }
}
