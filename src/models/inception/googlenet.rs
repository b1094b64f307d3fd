//! GoogLeNet (Szegedy et al. 2015, Table 1) as torchvision has it: batch normalisation after every convolution, and 3x3
//! where the paper's third branch has 5x5 (torchvision issue 906). The paper's NN2 (1503.03832) is of this family.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::Shrink;
use super::resnet_v1::{ONE, THREE, basic};
use crate::distance::normalize;
use crate::models::branches::{Branch, Module, Pool, stacked};
use crate::models::layers::{Init, Linear, Scope, Unit};
use crate::models::{Network, dropout};

/// A module: name, and the outputs of 1x1, 3x3's reduction and 3x3, "5x5"'s reduction and "5x5", projected pooling.
type Row = (&'static str, i64, (i64, i64), (i64, i64), i64);

const ROWS: [Row; 9] = [
    ("inception3a", 64, (96, 128), (16, 32), 32),
    ("inception3b", 128, (128, 192), (32, 96), 64),
    ("inception4a", 192, (96, 208), (16, 48), 64),
    ("inception4b", 160, (112, 224), (24, 64), 64),
    ("inception4c", 128, (128, 256), (24, 64), 64),
    ("inception4d", 112, (144, 288), (32, 64), 64),
    ("inception4e", 256, (160, 320), (32, 128), 128),
    ("inception5a", 256, (160, 320), (32, 128), 128),
    ("inception5b", 384, (192, 384), (48, 128), 128),
];

/// `branch1`, `branch2.{0,1}`, `branch3.{0,1}`, `branch4.1`.
fn module(at: &Scope, row: Row, inputs: i64, shrink: Shrink) -> Module {
    let (name, one, three, five, projection) = row;
    let (at, of) = (at.sub(name), |channels| shrink.of(channels));
    let pair = |name: &str, (reduce, out): (i64, i64)| {
        let at = at.sub(name);
        Branch::from(vec![basic(&at.sub(0), inputs, of(reduce), ONE), basic(&at.sub(1), of(reduce), of(out), THREE)])
    };
    let pool = Pool::Max { stride: 1, padding: 1, ceil: true };
    Module(vec![
        vec![basic(&at.sub("branch1"), inputs, of(one), ONE)].into(),
        pair("branch2", three),
        pair("branch3", five),
        Branch::pooled(pool, Some(basic(&at.sub("branch4").sub(1), inputs, of(projection), ONE))),
    ])
}

/// torchvision's GoogLeNet with an embedding in place of its classes: its names without `fc`, `aux1` and `aux2`, and
/// `embedding.weight`, which is new. 5 730 976 trainable parameters at width 128.
///
/// Input is (RGB - 127.5) / 127.5: what torchvision's `transform_input`, which goes with its published weights, makes of
/// images normalised by ImageNet's mean and deviation.
#[derive(Debug)]
pub struct GoogLeNet {
    stem: [Unit; 3],
    modules: Vec<Module>,
    embedding: Linear,
    width: i64,
}

impl GoogLeNet {
    /// Share of the pooled features that training drops, torchvision's.
    const DROPOUT: f64 = 0.2;

    /// For images of `size` pixels a side (224), `width` numbers, all channels divided by `shrink`.
    ///
    /// # Errors
    /// Where the size is below 32 pixels, or `shrink` is out of range.
    pub fn new(at: &Scope, size: i64, width: i64, shrink: i64) -> Result<GoogLeNet> {
        ensure!(size >= 32, "five halvings need images of 32 pixels a side or more, not {size}");
        let shrink = Shrink::new(shrink)?;
        let (first, second) = (shrink.of(64), shrink.of(192));
        let stem = [
            basic(&at.sub("conv1"), 3, first, ([7, 7], 2, true)),
            basic(&at.sub("conv2"), first, first, ONE),
            basic(&at.sub("conv3"), first, second, THREE),
        ];
        let (modules, outputs) = stacked(ROWS, second, |row, inputs| module(at, row, inputs, shrink));
        let embedding = at.linear("embedding", outputs, width, Init::GlorotUniform { gain: 1. }, false);
        Ok(GoogLeNet { stem, modules, embedding, width })
    }

    /// `[B, 3, H, W]` to the pooled features `[B, 1024]` that torchvision's `fc` reads (before its dropout).
    pub fn features(&self, images: &Tensor, train: bool) -> Tensor {
        let pool = |x: Tensor, side: i64| x.max_pool2d([side, side], [2, 2], [0, 0], [1, 1], true);
        let through = |x: Tensor, modules: &[Module]| modules.iter().fold(x, |x, module| module.forward(&x, train));
        let [conv1, conv2, conv3] = &self.stem;
        let x = pool(conv1.forward(images, train), 3);
        let x = pool(conv3.forward(&conv2.forward(&x, train), train), 3);
        let x = pool(through(x, &self.modules[..2]), 3);
        let x = pool(through(x, &self.modules[2..7]), 2);
        through(x, &self.modules[7..]).adaptive_avg_pool2d([1, 1]).flatten(1, -1)
    }
}

impl Network for GoogLeNet {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let x = dropout(&self.features(images, train), Self::DROPOUT, train);
        normalize(&self.embedding.forward(&x))
    }

    fn width(&self) -> i64 {
        self.width
    }
}
