//! BN-Inception (Ioffe and Szegedy 2015) with Cadene's names, scoring snippets of video: the network of 1703.09913's
//! first version (2017) and of temporal segment networks.

use tch::Tensor;

use super::Network;
use super::branches::{Branch, Module, Pool, stacked};
use super::dropout;
use super::layers::{Init, Linear, Scope, Unit, Window};

/// Convolution with bias, batch normalisation, ReLU: `name` and `name_bn`.
fn unit(at: &Scope, name: &str, inputs: i64, outputs: i64, window: Window) -> Unit {
    Unit::new(at, name, Some(&format!("{name}_bn")), inputs, outputs, window)
}

/// Caffe's average counts the padding.
const MEAN: Pool = Pool::Mean;
const MAX: Pool = Pool::Max { stride: 1, padding: 1, ceil: true };
const DOWN: Pool = Pool::Max { stride: 2, padding: 0, ceil: true };

/// Name; outputs of 1x1 (0 for none: such a module halves the picture), 3x3 and its reduction, double 3x3 and its
/// reduction, the pooling's projection (0 for none).
type Row = (&'static str, i64, (i64, i64), (i64, i64), i64, Pool);

const ROWS: [Row; 10] = [
    ("3a", 64, (64, 64), (64, 96), 32, MEAN),
    ("3b", 64, (64, 96), (64, 96), 64, MEAN),
    ("3c", 0, (128, 160), (64, 96), 0, DOWN),
    ("4a", 224, (64, 96), (96, 128), 128, MEAN),
    ("4b", 192, (96, 128), (96, 128), 128, MEAN),
    ("4c", 160, (128, 160), (128, 160), 128, MEAN),
    ("4d", 96, (128, 192), (160, 192), 128, MEAN),
    ("4e", 0, (128, 192), (192, 256), 0, DOWN),
    ("5a", 352, (192, 320), (160, 224), 128, MEAN),
    ("5b", 352, (192, 320), (192, 224), 128, MAX),
];

/// A module's branches: 1x1, 3x3, double 3x3, pooling.
fn module(at: &Scope, row: Row, inputs: i64) -> Module {
    let (name, one, (reduce, three), (reduce2, double), projection, pool) = row;
    let unit =
        |part: &str, inputs, outputs, window| unit(at, &format!("inception_{name}_{part}"), inputs, outputs, window);
    let stride = if one == 0 { 2 } else { 1 };
    let mut branches: Vec<Branch> = Vec::new();
    if one > 0 {
        branches.push(vec![unit("1x1", inputs, one, (1, 1, 0))].into());
    }
    let three = vec![unit("3x3_reduce", inputs, reduce, (1, 1, 0)), unit("3x3", reduce, three, (3, stride, 1))];
    let double = vec![
        unit("double_3x3_reduce", inputs, reduce2, (1, 1, 0)),
        unit("double_3x3_1", reduce2, double, (3, 1, 1)),
        unit("double_3x3_2", double, double, (3, stride, 1)),
    ];
    let projection = (projection > 0).then(|| unit("pool_proj", inputs, projection, (1, 1, 0)));
    branches.extend([Branch::from(three), Branch::from(double), Branch::pooled(pool, projection)]);
    Module(branches)
}

/// BN-Inception with one score in place of its 1000 classes: Cadene's names without `last_linear`, and `score`.
/// 10 271 265 trainable parameters with 3 channels. Inputs are multiples of 32 pixels a side (the paper's 224): elsewhere
/// its strided convolutions and poolings round differently.
///
/// Training keeps the running statistics of all batch normalisations but the first (temporal segment networks'
/// "partial BN"): a batch here is 128 clips of few videos.
#[derive(Debug)]
pub struct BnInception {
    stem: [Unit; 3],
    modules: Vec<Module>,
    score: Linear,
    dropout: f64,
}

impl BnInception {
    /// The first convolution, whose channels depend on the stream.
    pub const FIRST: &'static str = "conv1_7x7_s2.weight";

    /// For inputs of `channels` channels: 3 of a frame, 10 of five flow fields. `dropout` stands before the score (0.8
    /// for the spatial stream, 0.7 for the temporal one in the paper's first version).
    pub fn new(at: &Scope, channels: i64, dropout: f64) -> BnInception {
        let stem = [
            unit(at, "conv1_7x7_s2", channels, 64, (7, 2, 3)),
            unit(at, "conv2_3x3_reduce", 64, 64, (1, 1, 0)),
            unit(at, "conv2_3x3", 64, 192, (3, 1, 1)),
        ];
        let (modules, outputs) = stacked(ROWS, 192, |row, inputs| module(at, row, inputs));
        let score = at.linear("score", outputs, 1, Init::GlorotUniform { gain: 1. }, true);
        BnInception { stem, modules, score, dropout }
    }
}

impl Network for BnInception {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let pool = |x: Tensor| x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], true);
        let [first, reduce, second] = &self.stem;
        let x = pool(first.forward(images, train));
        let x = pool(second.forward(&reduce.forward(&x, false), false));
        let x = self.modules.iter().fold(x, |x, module| module.forward(&x, false));
        let x = x.adaptive_avg_pool2d([1, 1]).flatten(1, -1);
        self.score.forward(&dropout(&x, self.dropout, train))
    }

    fn width(&self) -> i64 {
        1
    }
}
