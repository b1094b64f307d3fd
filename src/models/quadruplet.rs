//! The networks of 1704.01719 (Section 3.2, Figures 2 and 3): two convolutions an image, and all else a pair of images.

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Network;
use super::alexnet::LAYERS;
use super::dropout;
use super::fold::Step;
use super::inception::local_response_norm;
use super::layers::{BatchNorm, Conv, Init, Linear, Scope, Window};
use crate::distance::normalize;

/// Which convolutions, and how wide fc6 and fc7 are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backbone {
    /// AlexNet as torchvision has it: 64, 192, 384, 256, 256 channels, one tower, no normalisation (57.7 M parameters)
    Alexnet,
    /// CaffeNet, on BGR from 0 to 255: 96, 256, 384, 384, 256 channels, towers in conv2, conv4, conv5, local response normalisation behind pooling
    Caffe,
    /// The same with the normalisation before pooling, as AlexNet has it
    CaffeAlexnet,
    /// A small network of ours with batch normalisation, for small machines; not the paper's
    Small,
}

/// How the conv2 maps of a pair become one input of conv3; the paper says "regroup".
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Regroup {
    /// Channels of one behind those of the other
    Channels,
    /// Side by side
    Width,
}

/// The first values of layers that no published weights fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Normal with a deviation of 0.01, 0.005 in fc6 and fc7
    Gaussian,
    /// He-normal, and fc8 by Glorot and Bengio
    He,
}

/// What the network compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compares {
    /// A pair of images (Figure 2b, 2c and 3).
    Pair(Regroup),
    /// One image (Figure 2a).
    Image,
}

/// A convolution with what surrounds it.
#[derive(Debug)]
struct Stage {
    conv: Conv,
    norm: Option<BatchNorm>,
    /// Local response normalisation, and whether it stands before pooling.
    response: Option<bool>,
    pool: Option<(i64, i64)>,
}

/// Outputs, (kernel, stride, padding), groups, and the pooling that follows: kernel and padding, stride 2.
type Layer = (i64, Window, i64, Option<(i64, i64)>);

impl Backbone {
    fn layers(self) -> [Layer; 5] {
        let pool = Some((3, 0));
        match self {
            Backbone::Alexnet => {
                LAYERS.map(|(_, outputs, window, pooled)| (outputs, window, 1, pool.filter(|_| pooled)))
            }
            Backbone::Caffe | Backbone::CaffeAlexnet => [
                (96, (11, 4, 0), 1, pool),
                (256, (5, 1, 2), 2, pool),
                (384, (3, 1, 1), 1, None),
                (384, (3, 1, 1), 2, None),
                (256, (3, 1, 1), 2, pool),
            ],
            Backbone::Small => [
                (24, (5, 2, 2), 1, Some((3, 1))),
                (48, (3, 1, 1), 1, None),
                (64, (3, 1, 1), 1, Some((3, 1))),
                (96, (3, 1, 1), 1, Some((3, 1))),
                (96, (3, 1, 1), 1, None),
            ],
        }
    }

    /// Width of fc6 and fc7.
    fn hidden(self) -> i64 {
        if self == Backbone::Small { 128 } else { 4096 }
    }

    /// Whether it takes pixels as Caffe's models do, from 0 to 255; it makes BGR of RGB itself.
    pub fn is_caffe(self) -> bool {
        matches!(self, Backbone::Caffe | Backbone::CaffeAlexnet)
    }
}

impl Stage {
    fn new(at: &Scope, name: &str, backbone: Backbone, inputs: i64, layer: Layer, init: Init) -> Stage {
        let (outputs, window, groups, pool) = layer;
        let small = backbone == Backbone::Small;
        let mut conv = Conv::new(at, name, [inputs / groups, outputs], window, init, !small);
        conv.groups = groups;
        let norm = small.then(|| at.batch_norm(&format!("{name}_bn"), outputs));
        Stage { conv, norm, response: None, pool }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let norm = self.norm.as_ref().and_then(BatchNorm::norm);
        let mut x = Step { norm, slope: Some(0.), ..self.conv.step() }.run(x, train);
        // Krizhevsky et al. 2012, Section 3.3, as Caffe's models have it: size 5, alpha 1e-4, beta 0.75, k 1.
        if self.response == Some(true) {
            x = local_response_norm(&x);
        }
        if let Some((kernel, padding)) = self.pool {
            x = x.max_pool2d([kernel; 2], [2, 2], [padding; 2], [1, 1], false);
        }
        if self.response == Some(false) { local_response_norm(&x) } else { x }
    }

    /// Pixels a side after this stage, of `side` before it; below 1 where it doesn't fit.
    fn side(&self, side: i64) -> i64 {
        let side = self.conv.side(side);
        match self.pool {
            Some((kernel, padding)) => (side + 2 * padding - kernel).div_euclid(2) + 1,
            None => side,
        }
    }
}

/// conv1 and conv2 on every image, conv3 to conv5 and fc6 to fc8 on what they give: of a pair, or of one image.
///
/// Variables are torchvision's: `features.{0,3,6,8,10}` and `classifier.{1,4,6}`; only the first two fit published
/// weights (with channels of a pair, conv3 has twice the inputs), as in the paper. Trainable parameters of a pair network
/// with two outputs at 227x227: 57 675 586 as torchvision's, 57 761 154 as Caffe's.
#[derive(Debug)]
pub struct QuadrupletNet {
    stages: Vec<Stage>,
    fc6: Linear,
    fc7: Linear,
    fc8: Linear,
    input: Compares,
    dropout: f64,
    outputs: i64,
    /// Whether it takes BGR, and drops what leaves a layer.
    caffe: bool,
}

impl QuadrupletNet {
    /// The names of the two layers that ImageNet weights fill.
    pub const FROM_IMAGENET: [&'static str; 2] = ["features.0", "features.3"];

    /// For images of `size` (height, width); `outputs` units in fc8 (2 with softmax, 1 for a plain learned metric, 512
    /// for an embedding); `dropout` of what enters fc6 and fc7, with Caffe's of what leaves them; biases start at 0, weights as `start` says.
    ///
    /// # Errors
    /// Where the images are too small for the layers.
    pub fn new(
        at: &Scope,
        backbone: Backbone,
        input: Compares,
        size: (i64, i64),
        outputs: i64,
        dropout: f64,
        start: Start,
    ) -> Result<Self> {
        let [convolution, hidden, last] = match start {
            Start::Gaussian => [0.01, 0.005, 0.01].map(Init::Normal),
            Start::He => [Init::HeNormal, Init::HeNormal, Init::GlorotUniform { gain: 1. }],
        };
        let features = at.sub("features");
        let (mut inputs, mut height, mut width) = (3, size.0, size.1);
        let mut stages = Vec::new();
        let names = LAYERS.map(|(name, ..)| name).into_iter();
        for (number, (name, layer)) in names.zip(backbone.layers()).enumerate() {
            match input {
                Compares::Pair(Regroup::Channels) if number == 2 => inputs *= 2,
                Compares::Pair(Regroup::Width) if number == 2 => width *= 2,
                _ => (),
            }
            let mut stage = Stage::new(&features, name, backbone, inputs, layer, convolution);
            stage.response = (backbone.is_caffe() && number < 2).then_some(backbone == Backbone::CaffeAlexnet);
            (inputs, height, width) = (layer.0, stage.side(height), stage.side(width));
            ensure!(
                height > 0 && width > 0,
                "images of {}x{} pixels are too small for its five convolutions: the paper's are 227x227",
                size.0,
                size.1
            );
            stages.push(stage);
        }
        let (classifier, units) = (at.sub("classifier"), backbone.hidden());
        Ok(QuadrupletNet {
            stages,
            fc6: classifier.linear("1", inputs * height * width, units, hidden, true),
            fc7: classifier.linear("4", units, units, hidden, true),
            fc8: classifier.linear("6", units, outputs, last, true),
            input,
            dropout,
            outputs,
            caffe: backbone.is_caffe(),
        })
    }

    /// conv1 and conv2: images, f32 `[B, 3, H, W]`, to maps `[B, C, H', W']`.
    pub fn maps(&self, images: &Tensor, train: bool) -> Tensor {
        let images = if self.caffe { images.flip([1]) } else { images.shallow_clone() };
        self.stages[..2].iter().fold(images, |x, stage| stage.forward(&x, train))
    }

    /// conv3 to fc8 on the maps of `a` and `b`, `[N, C, H', W']` each: `[N, outputs]`. Not symmetric.
    ///
    /// # Panics
    /// On a network of single images.
    pub fn pair(&self, a: &Tensor, b: &Tensor, train: bool) -> Tensor {
        let axis = match self.input {
            Compares::Pair(Regroup::Channels) => 1,
            Compares::Pair(Regroup::Width) => 3,
            Compares::Image => panic!("a network of single images was given a pair"),
        };
        self.rest(&Tensor::cat(&[a, b], axis), train)
    }

    fn rest(&self, maps: &Tensor, train: bool) -> Tensor {
        let x = self.stages[2..].iter().fold(maps.shallow_clone(), |x, stage| stage.forward(&x, train));
        let dropped = |x: Tensor| dropout(&x, self.dropout, train);
        // Caffe's models drop what leaves fc6 and fc7, torchvision's what enters them.
        let [before, behind] = [!self.caffe, self.caffe].map(|here| move |x| if here { dropped(x) } else { x });
        let x = dropped(self.fc6.forward(&before(x.flatten(1, -1))).relu_());
        self.fc8.forward(&behind(self.fc7.forward(&x).relu_()))
    }

    /// Whether it takes pairs.
    pub fn takes_pairs(&self) -> bool {
        self.input != Compares::Image
    }
}

/// The network of single images (Figure 2a): unit rows.
impl Network for QuadrupletNet {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        normalize(&self.rest(&self.maps(images, train), train))
    }

    fn width(&self) -> i64 {
        self.outputs
    }
}
