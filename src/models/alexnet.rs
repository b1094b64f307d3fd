//! AlexNet with torchvision's names ("One weird trick", Krizhevsky 2014: one tower, no local response normalisation),
//! scoring snippets of video: the published network of 1703.09913 (CVPR 2018).

use tch::Tensor;

use super::Network;
use super::dropout;
use super::layers::{Conv, Init, Linear, Scope, Window};

/// Name, outputs, (kernel, stride, padding), and whether a 3x3 max-pooling with stride 2 follows.
type Layer = (&'static str, i64, Window, bool);

pub(super) const LAYERS: [Layer; 5] = [
    ("0", 64, (11, 4, 2), true),
    ("3", 192, (5, 1, 2), true),
    ("6", 384, (3, 1, 1), false),
    ("8", 256, (3, 1, 1), false),
    ("10", 256, (3, 1, 1), true),
];

/// AlexNet with one score in place of its 1000 classes: `features.{0,3,6,8,10}` and `classifier.{1,4}` as torchvision's,
/// `score` is new. 57 007 937 trainable parameters with 3 channels.
#[derive(Debug)]
pub struct AlexNet {
    features: Vec<Conv>,
    hidden: [Linear; 2],
    score: Linear,
    dropout: f64,
}

impl AlexNet {
    /// The first convolution, whose channels depend on the stream.
    pub const FIRST: &'static str = "features.0.weight";
    /// The smallest side of an input in pixels.
    pub const LEAST: i64 = 63;

    /// For inputs of `channels` channels: 3 of a frame, 10 of five flow fields. `dropout` stands before both hidden
    /// layers (the paper's 0.5).
    pub fn new(at: &Scope, channels: i64, dropout: f64) -> AlexNet {
        let (place, mut inputs) = (at.sub("features"), channels);
        let mut features = Vec::new();
        for (name, outputs, window, _) in LAYERS {
            features.push(place.biased_conv(name, inputs, outputs, window));
            inputs = outputs;
        }
        let place = at.sub("classifier");
        let hidden = [("1", 256 * 6 * 6), ("4", 4096)];
        AlexNet {
            features,
            hidden: hidden.map(|(name, inputs)| place.linear(name, inputs, 4096, Init::HeNormal, true)),
            score: at.linear("score", 4096, 1, Init::GlorotUniform { gain: 1. }, true),
            dropout,
        }
    }
}

impl Network for AlexNet {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let mut x = images.shallow_clone();
        for (conv, (_, _, _, pooled)) in self.features.iter().zip(LAYERS) {
            x = conv.forward_relu(&x, train);
            if pooled {
                x = x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false);
            }
        }
        x = x.adaptive_avg_pool2d([6, 6]).flatten(1, -1);
        for hidden in &self.hidden {
            x = hidden.forward(&dropout(&x, self.dropout, train)).relu_();
        }
        self.score.forward(&x)
    }

    fn width(&self) -> i64 {
        1
    }
}
