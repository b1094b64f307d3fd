//! Inception-ResNet-v1 (Szegedy et al. 2016, Figure 3 onwards) as facenet and facenet-pytorch have it.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::{Shrink, max_pool};
use crate::distance::normalize;
use crate::models::branches::{Branch, Module, Pool};
use crate::models::fold::Step;
use crate::models::layers::{BatchNorm, Conv, Init, Linear, Scope, Unit};
use crate::models::{Network, dropout};

/// Height and width of a kernel, stride, and whether the picture keeps its size ("S") or not ("V").
pub(super) type Window = ([i64; 2], i64, bool);

pub(super) const ONE: Window = ([1, 1], 1, true);
pub(super) const THREE: Window = ([3, 3], 1, true);
const HALF: Window = ([3, 3], 2, false);

/// The epsilon of every batch normalisation.
const EPS: f64 = 1e-3;

/// Convolution without bias, batch normalisation, ReLU: `conv.weight`, `bn.*`.
pub(super) fn basic(at: &Scope, inputs: i64, outputs: i64, (kernel, stride, same): Window) -> Unit {
    let padding = if same { kernel.map(|side| side / 2) } else { [0, 0] };
    let norm = Some(at.batch_norm("bn", outputs).with_eps(EPS));
    Unit { conv: Conv::rectangular(&at.sub("conv"), [inputs, outputs], kernel, stride, padding, Init::HeNormal), norm }
}

/// Layers one after another, each with its undivided outputs.
type Layers<'a> = &'a [(i64, Window)];

/// `branch0`, `branch1`, ...; one of several layers has `.0`, `.1`, ... below its name.
fn branches(at: &Scope, inputs: i64, of: &[Layers], shrink: Shrink) -> Vec<Branch> {
    let branch = |(number, layers): (usize, &Layers)| {
        let (at, mut inputs) = (at.sub(format!("branch{number}")), inputs);
        let layer = |(place, &(outputs, window)): (usize, &(i64, Window))| {
            let here = if layers.len() == 1 { at.clone() } else { at.sub(place) };
            let layer = basic(&here, inputs, shrink.of(outputs), window);
            inputs = shrink.of(outputs);
            layer
        };
        Branch::from(layers.iter().enumerate().map(layer).collect::<Vec<_>>())
    };
    of.iter().enumerate().map(branch).collect()
}

/// `x + scale · conv2d(branches)`, then ReLU unless it is the last: Block35, Block17, Block8.
#[derive(Debug)]
struct Residual {
    joined: Module,
    up: Conv,
    scale: f64,
    relu: bool,
}

impl Residual {
    /// On `channels`, as they are.
    fn new(at: &Scope, channels: i64, of: &[Layers], scale: f64, relu: bool, shrink: Shrink) -> Residual {
        let joined = Module(branches(at, channels, of, shrink));
        let up = at.biased_conv("conv2d", joined.outputs(channels), channels, (1, 1, 0));
        Residual { joined, up, scale, relu }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let slope = self.relu.then_some(0.);
        let step = Step { scale: self.scale, added: Some(x), slope, ..self.up.step() };
        step.run(&self.joined.forward(x, train), train)
    }
}

/// 23,482,624 parameters at width 512, by facenet-pytorch's names. Its file's `logits.*` are for classification and no
/// part of this. Input is (RGB - 127.5) / 128.
#[derive(Debug)]
pub struct InceptionResnetV1 {
    /// conv2d_1a, 2a, 2b, 3b, 4a, 4b; the pooling follows 2b.
    stem: Vec<Unit>,
    repeat_1: Vec<Residual>,
    mixed_6a: Module,
    repeat_2: Vec<Residual>,
    mixed_7a: Module,
    repeat_3: Vec<Residual>,
    last_linear: Linear,
    last_bn: BatchNorm,
    width: i64,
}

impl InceptionResnetV1 {
    /// Share of the pooled features that training drops (facenet-pytorch; facenet keeps 0.4 on VGGFace2).
    const DROPOUT: f64 = 0.6;

    /// For `size` x `size` images (160), `width` numbers (512), all channels divided by `shrink`.
    ///
    /// # Errors
    /// Where the size is below 75 pixels, or `shrink` is out of range.
    pub fn new(at: &Scope, size: i64, width: i64, shrink: i64) -> Result<InceptionResnetV1> {
        ensure!(size >= 75, "Inception-ResNet-v1 needs images of 75 pixels a side or more, not {size}");
        let shrink = Shrink::new(shrink)?;
        let of = |channels| shrink.of(channels);
        let stem = [
            ("conv2d_1a", 3, 32, HALF),
            ("conv2d_2a", 32, 32, ([3, 3], 1, false)),
            ("conv2d_2b", 32, 64, THREE),
            ("conv2d_3b", 64, 80, ONE),
            ("conv2d_4a", 80, 192, ([3, 3], 1, false)),
            ("conv2d_4b", 192, 256, HALF),
        ];
        let stem = stem.into_iter().map(|(name, inputs, outputs, window)| {
            basic(&at.sub(name), if inputs == 3 { 3 } else { of(inputs) }, of(outputs), window)
        });
        let stem = stem.collect();
        let first = of(256);
        // Branches, and the pooled input.
        let mixed = |name: &str, inputs, of: &[Layers]| {
            let mut all = branches(&at.sub(name), inputs, of, shrink);
            all.push(Branch::pooled(Pool::Max { stride: 2, padding: 0, ceil: false }, None));
            let module = Module(all);
            let outputs = module.outputs(inputs);
            (module, outputs)
        };
        let (mixed_6a, second) = mixed("mixed_6a", first, &[&[(384, HALF)], &[(192, ONE), (192, THREE), (256, HALF)]]);
        let (mixed_7a, third) = mixed(
            "mixed_7a",
            second,
            &[&[(256, ONE), (384, HALF)], &[(256, ONE), (256, HALF)], &[(256, ONE), (256, THREE), (256, HALF)]],
        );
        let repeat = |name: &str, count: i64, channels, of: &[Layers], scale| -> Vec<Residual> {
            (0..count).map(|i| Residual::new(&at.sub(name).sub(i), channels, of, scale, true, shrink)).collect()
        };
        let flat = |height, width| ([height, width], 1, true);
        let block_35: [Layers; 3] = [&[(32, ONE)], &[(32, ONE), (32, THREE)], &[(32, ONE), (32, THREE), (32, THREE)]];
        let block_17: [Layers; 2] = [&[(128, ONE)], &[(128, ONE), (128, flat(1, 7)), (128, flat(7, 1))]];
        let block_8: [Layers; 2] = [&[(192, ONE)], &[(192, ONE), (192, flat(1, 3)), (192, flat(3, 1))]];
        let mut repeat_3 = repeat("repeat_3", 5, third, &block_8, 0.20);
        repeat_3.push(Residual::new(&at.sub("block8"), third, &block_8, 1., false, shrink));
        Ok(InceptionResnetV1 {
            stem,
            repeat_1: repeat("repeat_1", 5, first, &block_35, 0.17),
            mixed_6a,
            repeat_2: repeat("repeat_2", 10, second, &block_17, 0.10),
            mixed_7a,
            repeat_3,
            last_linear: at.linear("last_linear", third, width, Init::GlorotUniform { gain: 1. }, false),
            last_bn: at.batch_norm("last_bn", width).with_eps(EPS),
            width,
        })
    }
}

impl Network for InceptionResnetV1 {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let through = |x: Tensor, layers: &[Unit]| layers.iter().fold(x, |x, layer| layer.forward(&x, train));
        let repeat = |x: Tensor, blocks: &[Residual]| blocks.iter().fold(x, |x, block| block.forward(&x, train));
        let x = max_pool(&through(images.shallow_clone(), &self.stem[..3]), 2, 0);
        let x = repeat(through(x, &self.stem[3..]), &self.repeat_1);
        let x = repeat(self.mixed_6a.forward(&x, train), &self.repeat_2);
        let x = repeat(self.mixed_7a.forward(&x, train), &self.repeat_3);
        let x = dropout(&x.adaptive_avg_pool2d([1, 1]).flatten(1, -1), Self::DROPOUT, train);
        normalize(&self.last_bn.forward(&self.last_linear.forward(&x), train))
    }

    fn width(&self) -> i64 {
        self.width
    }
}
