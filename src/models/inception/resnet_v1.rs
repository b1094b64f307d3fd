//! Inception-ResNet-v1 (Szegedy et al. 2016, Figure 3 onwards) as facenet and facenet-pytorch have it.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::{Shrink, max_pool};
use crate::distance::normalize;
use crate::models::fold::Step;
use crate::models::layers::{Init, Linear, Scope, normalise};
use crate::models::{Network, dropout};

/// Convolution without bias, batch normalisation with epsilon 1e-3, ReLU: `conv.weight`, `bn.*`.
#[derive(Debug)]
pub(super) struct Basic {
    weight: Tensor,
    bn: Norm,
    stride: i64,
    padding: (i64, i64),
}

/// Batch normalisation with epsilon 1e-3 and momentum 0.1.
#[derive(Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

impl Norm {
    fn new(at: &Scope, channels: i64) -> Norm {
        let of = |name: &str, value, trainable| at.variable(name, &[channels], Init::Constant(value), trainable);
        Norm {
            weight: of("weight", 1., true),
            bias: of("bias", 0., true),
            running_mean: of("running_mean", 0., false),
            running_var: of("running_var", 1., false),
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        normalise(x, [&self.weight, &self.bias, &self.running_mean, &self.running_var], train, 1e-3)
    }
}

/// Height and width of a kernel, stride, and whether the picture keeps its size ("S") or not ("V").
pub(super) type Window = ((i64, i64), i64, bool);

pub(super) const ONE: Window = ((1, 1), 1, true);
pub(super) const THREE: Window = ((3, 3), 1, true);
const HALF: Window = ((3, 3), 2, false);

impl Basic {
    pub(super) fn new(at: &Scope, inputs: i64, outputs: i64, ((height, width), stride, same): Window) -> Basic {
        let shape = [outputs, inputs, height, width];
        Basic {
            weight: at.sub("conv").variable("weight", &shape, Init::HeNormal, true),
            bn: Norm::new(&at.sub("bn"), outputs),
            stride,
            padding: if same { (height / 2, width / 2) } else { (0, 0) },
        }
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let (down, across) = self.padding;
        let Norm { weight, bias, running_mean, running_var } = &self.bn;
        let norm = Some(([weight, bias, running_mean, running_var], 1e-3));
        let conv = Step::new(&self.weight, None, [self.stride; 2], [down, across]);
        Step { norm, slope: Some(0.), ..conv }.run(x, train)
    }
}

/// Convolutions one after another.
#[derive(Debug)]
struct Branch(Vec<Basic>);

impl Branch {
    /// `name` for one layer, `name.0`, `name.1`, ... for more.
    fn new(at: &Scope, name: &str, inputs: i64, layers: &[(i64, Window)], shrink: Shrink) -> Branch {
        let mut inputs = inputs;
        let one = |(place, &(outputs, window)): (usize, &(i64, Window))| {
            let here = if layers.len() == 1 { at.sub(name) } else { at.sub(name).sub(place) };
            let layer = Basic::new(&here, inputs, shrink.of(outputs), window);
            inputs = shrink.of(outputs);
            layer
        };
        Branch(layers.iter().enumerate().map(one).collect())
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, layer| layer.forward(&x, train))
    }
}

/// `x + scale · conv2d(branches)`, then ReLU unless it is the last: Block35, Block17, Block8.
#[derive(Debug)]
struct Residual {
    branches: Vec<Branch>,
    weight: Tensor,
    bias: Tensor,
    scale: f64,
    relu: bool,
}

impl Residual {
    /// On `channels` (as they are); `branches` are lists of layers with undivided outputs.
    fn new(
        at: &Scope,
        channels: i64,
        branches: &[&[(i64, Window)]],
        scale: f64,
        relu: bool,
        shrink: Shrink,
    ) -> Residual {
        let make = |(number, layers): (usize, &&[(i64, Window)])| {
            Branch::new(at, &format!("branch{number}"), channels, layers, shrink)
        };
        let joined: i64 = branches.iter().filter_map(|layers| layers.last()).map(|layer| shrink.of(layer.0)).sum();
        let up = at.sub("conv2d");
        Residual {
            branches: branches.iter().enumerate().map(make).collect(),
            weight: up.variable("weight", &[channels, joined, 1, 1], Init::HeNormal, true),
            bias: up.variable("bias", &[channels], Init::Constant(0.), true),
            scale,
            relu,
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let parts: Vec<Tensor> = self.branches.iter().map(|branch| branch.forward(x, train)).collect();
        let up = Step::new(&self.weight, Some(&self.bias), [1, 1], [0, 0]);
        let slope = self.relu.then_some(0.);
        Step { scale: self.scale, added: Some(x), slope, ..up }.run(&Tensor::cat(&parts, 1), train)
    }
}

/// 23,482,624 parameters at width 512, by facenet-pytorch's names. Its file's `logits.*` are for classification and no
/// part of this. Input is (RGB - 127.5) / 128.
#[derive(Debug)]
pub struct InceptionResnetV1 {
    /// conv2d_1a, 2a, 2b, 3b, 4a, 4b; the pooling follows 2b.
    stem: Vec<Basic>,
    repeat_1: Vec<Residual>,
    mixed_6a: Vec<Branch>,
    repeat_2: Vec<Residual>,
    mixed_7a: Vec<Branch>,
    repeat_3: Vec<Residual>,
    last_linear: Linear,
    last_bn: Norm,
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
            ("conv2d_2a", 32, 32, ((3, 3), 1, false)),
            ("conv2d_2b", 32, 64, THREE),
            ("conv2d_3b", 64, 80, ONE),
            ("conv2d_4a", 80, 192, ((3, 3), 1, false)),
            ("conv2d_4b", 192, 256, HALF),
        ];
        let stem = stem.into_iter().map(|(name, inputs, outputs, window)| {
            Basic::new(&at.sub(name), if inputs == 3 { 3 } else { of(inputs) }, of(outputs), window)
        });
        let stem = stem.collect();
        // A mixed module's outputs: its branches and, pooled, its inputs.
        let first = of(256);
        let second = of(384) + of(256) + first;
        let third = of(384) + of(256) + of(256) + second;
        let repeat = |name: &str, count: i64, channels, branches: &[&[(i64, Window)]], scale| {
            (0..count).map(|i| Residual::new(&at.sub(name).sub(i), channels, branches, scale, true, shrink)).collect()
        };
        let (wide, tall) = (((1, 7), 1, true), ((7, 1), 1, true));
        let block_8: [&[(i64, Window)]; 2] =
            [&[(192, ONE)], &[(192, ONE), (192, ((1, 3), 1, true)), (192, ((3, 1), 1, true))]];
        let mixed = |name: &str, inputs, branches: &[&[(i64, Window)]]| {
            let make = |(number, layers): (usize, &&[(i64, Window)])| {
                Branch::new(&at.sub(name), &format!("branch{number}"), inputs, layers, shrink)
            };
            branches.iter().enumerate().map(make).collect()
        };
        Ok(InceptionResnetV1 {
            stem,
            repeat_1: repeat(
                "repeat_1",
                5,
                first,
                &[&[(32, ONE)], &[(32, ONE), (32, THREE)], &[(32, ONE), (32, THREE), (32, THREE)]],
                0.17,
            ),
            mixed_6a: mixed("mixed_6a", first, &[&[(384, HALF)], &[(192, ONE), (192, THREE), (256, HALF)]]),
            repeat_2: repeat("repeat_2", 10, second, &[&[(128, ONE)], &[(128, ONE), (128, wide), (128, tall)]], 0.10),
            mixed_7a: mixed(
                "mixed_7a",
                second,
                &[&[(256, ONE), (384, HALF)], &[(256, ONE), (256, HALF)], &[(256, ONE), (256, THREE), (256, HALF)]],
            ),
            repeat_3: {
                let mut blocks: Vec<Residual> = repeat("repeat_3", 5, third, &block_8, 0.20);
                blocks.push(Residual::new(&at.sub("block8"), third, &block_8, 1., false, shrink));
                blocks
            },
            last_linear: at.linear("last_linear", third, width, Init::GlorotUniform { gain: 1. }, false),
            last_bn: Norm::new(&at.sub("last_bn"), width),
            width,
        })
    }
}

/// The branches and the pooled input, joined.
fn reduce(branches: &[Branch], x: &Tensor, train: bool) -> Tensor {
    let mut parts: Vec<Tensor> = branches.iter().map(|branch| branch.forward(x, train)).collect();
    parts.push(max_pool(x, 2, 0));
    Tensor::cat(&parts, 1)
}

impl Network for InceptionResnetV1 {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let through = |x: Tensor, layers: &[Basic]| layers.iter().fold(x, |x, layer| layer.forward(&x, train));
        let repeat = |x: Tensor, blocks: &[Residual]| blocks.iter().fold(x, |x, block| block.forward(&x, train));
        let x = max_pool(&through(images.shallow_clone(), &self.stem[..3]), 2, 0);
        let x = repeat(through(x, &self.stem[3..]), &self.repeat_1);
        let x = repeat(reduce(&self.mixed_6a, &x, train), &self.repeat_2);
        let x = repeat(reduce(&self.mixed_7a, &x, train), &self.repeat_3);
        let x = dropout(&x.adaptive_avg_pool2d([1, 1]).flatten(1, -1), Self::DROPOUT, train);
        normalize(&self.last_bn.forward(&self.last_linear.forward(&x), train))
    }

    fn width(&self) -> i64 {
        self.width
    }
}
