//! Small scorers of snippets: a network for drawn videos, and a head on ready-made features.

use tch::Tensor;

use super::Network;
use super::layers::{BatchNorm, Conv, Init, Linear, Scope};

/// Four 3x3 convolutions with stride 2, batch normalisation and ReLU, the mean over places, dropout, one score. Not
/// the paper's: for small pictures on small machines.
#[derive(Debug)]
pub struct SnippetSmall {
    layers: Vec<(Conv, BatchNorm)>,
    score: Linear,
    dropout: f64,
}

impl SnippetSmall {
    /// For inputs of `channels` channels and any size.
    pub fn new(at: &Scope, channels: i64, dropout: f64) -> SnippetSmall {
        let mut inputs = channels;
        let layers = [16, 32, 64, 64].into_iter().enumerate().map(|(i, outputs)| {
            let conv = at.conv(&format!("conv{}", i + 1), inputs, outputs, 3, 2, 1);
            inputs = outputs;
            (conv, at.batch_norm(&format!("bn{}", i + 1), outputs))
        });
        SnippetSmall {
            layers: layers.collect(),
            score: at.linear("score", 64, 1, Init::GlorotUniform { gain: 1. }, true),
            dropout,
        }
    }
}

impl Network for SnippetSmall {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let x = self
            .layers
            .iter()
            .fold(images.shallow_clone(), |x, (conv, bn)| bn.forward(&conv.forward(&x), train).relu_());
        self.score.forward(&x.adaptive_avg_pool2d([1, 1]).flatten(1, -1).dropout(self.dropout, train))
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
        self.score.forward(&rows.dropout(self.dropout, train))
    }

    fn width(&self) -> i64 {
        1
    }
}
