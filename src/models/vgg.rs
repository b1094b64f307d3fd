//! VGG16 (Simonyan and Zisserman 2014) up to fc7, by torchvision's names: the network of 1704.03135.

use tch::Tensor;

use super::Network;
use super::layers::{Conv, Init, Linear, Scope};

/// torchvision's places of the 13 convolutions with their outputs, and whether a 2x2 max-pooling follows.
const LAYERS: [(u8, i64, bool); 13] = [
    (0, 64, false),
    (2, 64, true),
    (5, 128, false),
    (7, 128, true),
    (10, 256, false),
    (12, 256, false),
    (14, 256, true),
    (17, 512, false),
    (19, 512, false),
    (21, 512, true),
    (24, 512, false),
    (26, 512, false),
    (28, 512, true),
];

/// VGG16 to the ReLU after fc7: `features.*` and `classifier.{0,3}` of torchvision's; its `classifier.6`, the 1000
/// classes, has no place here. 134 260 544 trainable parameters.
#[derive(Debug)]
pub struct Vgg16 {
    features: Vec<Conv>,
    fc6: Linear,
    fc7: Linear,
}

impl Vgg16 {
    /// The smallest side of an input in pixels; the paper's is 224.
    pub const LEAST: i64 = 32;

    /// He-normal everywhere, as its training from scratch wants; published weights load by name.
    pub fn new(at: &Scope) -> Vgg16 {
        let (place, mut inputs) = (at.sub("features"), 3);
        let mut features = Vec::new();
        for (name, outputs, _) in LAYERS {
            features.push(place.biased_conv(&name.to_string(), inputs, outputs, (3, 1, 1)));
            inputs = outputs;
        }
        let place = at.sub("classifier");
        Vgg16 {
            features,
            fc6: place.linear("0", 512 * 7 * 7, 4096, Init::HeNormal, true),
            fc7: place.linear("3", 4096, 4096, Init::HeNormal, true),
        }
    }
}

/// `[B, 3, H, W]` to fc7 `[B, 4096]` after its ReLU; no dropout (see [`super::label::LabelNet`]).
impl Network for Vgg16 {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let mut x = images.shallow_clone();
        for (conv, (_, _, pooled)) in self.features.iter().zip(LAYERS) {
            x = conv.forward_relu(&x, train);
            if pooled {
                x = x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
            }
        }
        let x = x.adaptive_avg_pool2d([7, 7]).flatten(1, -1);
        self.fc7.forward(&self.fc6.forward(&x).relu_()).relu_()
    }

    fn width(&self) -> i64 {
        4096
    }
}
