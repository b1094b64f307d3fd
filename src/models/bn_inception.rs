//! BN-Inception (Ioffe and Szegedy 2015) with Cadene's names, scoring snippets of video: the network of 1703.09913's
//! first version (2017) and of temporal segment networks.

use tch::Tensor;

use super::Network;
use super::dropout;
use super::fold::Step;
use super::layers::{BatchNorm, Conv, Init, Linear, Scope, Window};

/// Convolution with bias, batch normalisation, ReLU: `name` and `name_bn`.
#[derive(Debug)]
struct Unit {
    conv: Conv,
    bn: BatchNorm,
}

impl Unit {
    fn new(at: &Scope, name: &str, inputs: i64, outputs: i64, window: Window) -> Unit {
        let bn = at.batch_norm(&format!("{name}_bn"), outputs);
        Unit { conv: at.biased_conv(name, inputs, outputs, window), bn }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        Step { norm: self.bn.norm(), slope: Some(0.), ..self.conv.step() }.run(x, train)
    }
}

/// What stands in a module's pooling branch.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pool {
    /// Average, then 1x1.
    Average,
    /// Maximum, then 1x1.
    Max,
    /// Maximum with stride 2, as it is; the other branches have stride 2 too.
    Down,
}

/// Name; outputs of 1x1 (0 for none), 3x3 and its reduction, double 3x3 and its reduction, the pooling's projection.
type Row = (&'static str, i64, (i64, i64), (i64, i64), i64, Pool);

const ROWS: [Row; 10] = [
    ("3a", 64, (64, 64), (64, 96), 32, Pool::Average),
    ("3b", 64, (64, 96), (64, 96), 64, Pool::Average),
    ("3c", 0, (128, 160), (64, 96), 0, Pool::Down),
    ("4a", 224, (64, 96), (96, 128), 128, Pool::Average),
    ("4b", 192, (96, 128), (96, 128), 128, Pool::Average),
    ("4c", 160, (128, 160), (128, 160), 128, Pool::Average),
    ("4d", 96, (128, 192), (160, 192), 128, Pool::Average),
    ("4e", 0, (128, 192), (192, 256), 0, Pool::Down),
    ("5a", 352, (192, 320), (160, 224), 128, Pool::Average),
    ("5b", 352, (192, 320), (192, 224), 128, Pool::Max),
];

/// An inception module; its branches' outputs are joined in the order 1x1, 3x3, double 3x3, pooling.
#[derive(Debug)]
struct Module {
    branches: Vec<Vec<Unit>>,
    pool: Pool,
    projection: Option<Unit>,
}

impl Module {
    /// The module and how many channels it puts out.
    fn new(at: &Scope, inputs: i64, row: Row) -> (Module, i64) {
        let (name, one, (reduce, three), (reduce2, double), proj, pool) = row;
        let unit = |part: &str, inputs, outputs, window| {
            Unit::new(at, &format!("inception_{name}_{part}"), inputs, outputs, window)
        };
        let stride = if pool == Pool::Down { 2 } else { 1 };
        let mut branches = Vec::new();
        if one > 0 {
            branches.push(vec![unit("1x1", inputs, one, (1, 1, 0))]);
        }
        branches.push(vec![unit("3x3_reduce", inputs, reduce, (1, 1, 0)), unit("3x3", reduce, three, (3, stride, 1))]);
        branches.push(vec![
            unit("double_3x3_reduce", inputs, reduce2, (1, 1, 0)),
            unit("double_3x3_1", reduce2, double, (3, 1, 1)),
            unit("double_3x3_2", double, double, (3, stride, 1)),
        ]);
        let projection = (proj > 0).then(|| unit("pool_proj", inputs, proj, (1, 1, 0)));
        let pooled = if proj > 0 { proj } else { inputs };
        (Module { branches, pool, projection }, one + three + double + pooled)
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let through = |units: &Vec<Unit>| units.iter().fold(x.shallow_clone(), |x, unit| unit.forward(&x, train));
        let mut parts: Vec<Tensor> = self.branches.iter().map(through).collect();
        let pooled = match self.pool {
            // Caffe's average counts the padding.
            Pool::Average => x.avg_pool2d([3, 3], [1, 1], [1, 1], true, true, None::<i64>),
            Pool::Max => x.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], true),
            Pool::Down => x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], true),
        };
        parts.push(match &self.projection {
            Some(unit) => unit.forward(&pooled, train),
            None => pooled,
        });
        Tensor::cat(&parts, 1)
    }
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
            Unit::new(at, "conv1_7x7_s2", channels, 64, (7, 2, 3)),
            Unit::new(at, "conv2_3x3_reduce", 64, 64, (1, 1, 0)),
            Unit::new(at, "conv2_3x3", 64, 192, (3, 1, 1)),
        ];
        let (mut modules, mut inputs) = (Vec::new(), 192);
        for row in ROWS {
            let (module, outputs) = Module::new(at, inputs, row);
            modules.push(module);
            inputs = outputs;
        }
        let score = at.linear("score", inputs, 1, Init::GlorotUniform { gain: 1. }, true);
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
