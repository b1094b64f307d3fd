//! NN1: Zeiler and Fergus's network with 1x1 convolutions (1503.03832, Table 1).

use anyhow::{Result, ensure};
use tch::Tensor;

use super::{Shrink, local_response_norm, max_pool, maxout};
use crate::distance::normalize;
use crate::models::Network;
use crate::models::layers::{Init, Linear, Scope, Unit};

/// 140.0 M weights at 220x220 pixels and width 128.
#[derive(Debug)]
pub struct Nn1 {
    /// conv1, conv2a, conv2, conv3a, conv3, conv4a, conv4, conv5a, conv5, conv6a, conv6.
    convolutions: Vec<Unit>,
    /// fc1 and fc2: two pieces of 4096 units each; fc7128.
    linear: [Linear; 3],
    width: i64,
}

/// Outputs of the convolutions, and whether they are 3x3 (the first is 7x7 with stride 2).
const LAYERS: [(&str, i64, i64); 11] = [
    ("conv1", 64, 7),
    ("conv2a", 64, 1),
    ("conv2", 192, 3),
    ("conv3a", 192, 1),
    ("conv3", 384, 3),
    ("conv4a", 384, 1),
    ("conv4", 256, 3),
    ("conv5a", 256, 1),
    ("conv5", 256, 3),
    ("conv6a", 256, 1),
    ("conv6", 256, 3),
];

impl Nn1 {
    /// For `size` x `size` images (the paper's 220; fc1 depends on it), `width` numbers, all channels and fc units
    /// divided by `shrink`. `batch_norm` follows each convolution with a normalisation that the paper does not mention.
    ///
    /// # Errors
    /// Where the size is below 16 pixels or above what fc1 can be, or `shrink` is out of range.
    pub fn new(at: &Scope, size: i64, width: i64, shrink: i64, batch_norm: bool) -> Result<Nn1> {
        ensure!((16..=512).contains(&size), "NN1 takes images of 16 to 512 pixels a side, not {size}");
        let shrink = Shrink::new(shrink)?;
        let (mut inputs, mut convolutions) = (3, Vec::new());
        for (name, outputs, kernel) in LAYERS {
            let bn = batch_norm.then(|| name.replace("conv", "bn"));
            let window = (kernel, if kernel == 7 { 2 } else { 1 }, kernel / 2);
            convolutions.push(Unit::new(at, name, bn.as_deref(), inputs, shrink.of(outputs), window));
            inputs = shrink.of(outputs);
        }
        // Four halvings after the first, each rounded up: 220, 110, 55, 28, 14, 7.
        let side = (0..5).fold(size, |side, _| (side + 1) / 2);
        let units = shrink.of(4096);
        // A piece of maxout is linear: no ReLU's gain.
        let linear =
            |name: &str, inputs, outputs| at.linear(name, inputs, outputs, Init::GlorotUniform { gain: 1. }, true);
        Ok(Nn1 {
            convolutions,
            linear: [
                linear("fc1", inputs * side * side, 2 * units),
                linear("fc2", units, 2 * units),
                linear("fc7128", units, width),
            ],
            width,
        })
    }
}

impl Network for Nn1 {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let through = |x: Tensor, layers: &[Unit]| layers.iter().fold(x, |x, layer| layer.forward(&x, train));
        let x = max_pool(&through(images.shallow_clone(), &self.convolutions[..1]), 2, 1);
        let x = local_response_norm(&x); // rnorm1
        let x = local_response_norm(&through(x, &self.convolutions[1..3])); // rnorm2
        let x = through(max_pool(&x, 2, 1), &self.convolutions[3..5]);
        let x = through(max_pool(&x, 2, 1), &self.convolutions[5..]);
        let x = max_pool(&x, 2, 1).flatten(1, -1);
        let x = maxout(&self.linear[0].forward(&x));
        let x = maxout(&self.linear[1].forward(&x));
        normalize(&self.linear[2].forward(&x))
    }

    fn width(&self) -> i64 {
        self.width
    }
}
