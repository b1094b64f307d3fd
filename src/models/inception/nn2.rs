//! NN2 and its kin NN3 (160x160) and NN4 (96x96, no 5x5 in the last modules): Inception (1503.03832, Table 2).

use anyhow::{Result, ensure};
use tch::Tensor;

use super::{Shrink, Unit, l2_pool, local_response_norm, max_pool};
use crate::distance::normalize;
use crate::models::Network;
use crate::models::layers::{Init, Linear, Scope};

/// What pools beside a module's convolutions.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pool {
    /// 3x3 maximum.
    Max,
    /// 3x3 L2.
    L2,
}

/// A row of Table 2; 0 where there is no such branch.
struct Row {
    name: &'static str,
    one: i64,
    three: (i64, i64),
    five: (i64, i64),
    pool: Pool,
    projection: i64,
    stride: i64,
}

const fn row(name: &'static str, one: i64, three: (i64, i64), five: (i64, i64), pool: Pool, projection: i64) -> Row {
    // What has no 1x1 branch halves the picture.
    Row { name, one, three, five, pool, projection, stride: if one == 0 { 2 } else { 1 } }
}

const MODULES: [Row; 10] = [
    row("inception3a", 64, (96, 128), (16, 32), Pool::Max, 32),
    row("inception3b", 64, (96, 128), (32, 64), Pool::L2, 64),
    row("inception3c", 0, (128, 256), (32, 64), Pool::Max, 0),
    row("inception4a", 256, (96, 192), (32, 64), Pool::L2, 128),
    row("inception4b", 224, (112, 224), (32, 64), Pool::L2, 128),
    row("inception4c", 192, (128, 256), (32, 64), Pool::L2, 128),
    row("inception4d", 160, (144, 288), (32, 64), Pool::L2, 128),
    row("inception4e", 0, (160, 256), (64, 128), Pool::Max, 0),
    row("inception5a", 384, (192, 384), (48, 128), Pool::L2, 128),
    row("inception5b", 384, (192, 384), (48, 128), Pool::Max, 128),
];

/// One module: branches 1x1, 3x3, 5x5 and pooling, joined in this order.
#[derive(Debug)]
struct Module {
    branches: Vec<Vec<Unit>>,
    pool: Pool,
    projection: Option<Unit>,
    stride: i64,
}

impl Module {
    /// From `inputs` channels; returns the outputs too.
    fn new(at: &Scope, row: &Row, inputs: i64, five: bool, shrink: Shrink, batch_norm: bool) -> (Module, i64) {
        let at = at.sub(row.name);
        let unit = |branch: &str, number: usize, inputs, outputs, window| {
            let (conv, bn) = (format!("conv{number}"), format!("bn{number}"));
            Unit::new(&at.sub(branch), &conv, batch_norm.then_some(&bn[..]), inputs, outputs, window)
        };
        let (mut branches, mut outputs) = (Vec::new(), 0);
        if row.one > 0 {
            branches.push(vec![unit("b1x1", 1, inputs, shrink.of(row.one), (1, 1, 0))]);
            outputs += shrink.of(row.one);
        }
        for (name, (reduce, out), kernel) in [("b3x3", row.three, 3), ("b5x5", row.five, 5)] {
            if kernel == 5 && !five {
                continue;
            }
            branches.push(vec![
                unit(name, 1, inputs, shrink.of(reduce), (1, 1, 0)),
                unit(name, 2, shrink.of(reduce), shrink.of(out), (kernel, row.stride, kernel / 2)),
            ]);
            outputs += shrink.of(out);
        }
        let projection = (row.projection > 0).then(|| unit("pool", 1, inputs, shrink.of(row.projection), (1, 1, 0)));
        outputs += if row.projection > 0 { shrink.of(row.projection) } else { inputs };
        (Module { branches, pool: row.pool, projection, stride: row.stride }, outputs)
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let through = |layers: &Vec<Unit>| layers.iter().fold(x.shallow_clone(), |x, layer| layer.forward(&x, train));
        let mut parts: Vec<Tensor> = self.branches.iter().map(through).collect();
        let pooled = match self.pool {
            Pool::Max => max_pool(x, self.stride, 1),
            Pool::L2 => l2_pool(x, self.stride, 1),
        };
        parts.push(match &self.projection {
            Some(projection) => projection.forward(&pooled, train),
            None => pooled,
        });
        Tensor::cat(&parts, 1)
    }
}

/// NN2 at 224x224 pixels, NN3 at 160x160: 7,448,256 weights (and a bias each output) at width 128. With batch
/// normalisation, openface's reading: 7,472,144 parameters.
#[derive(Debug)]
pub struct Nn2 {
    stem: [Unit; 3],
    modules: Vec<Module>,
    embedding: Linear,
    width: i64,
}

impl Nn2 {
    /// For `size` x `size` images, `width` numbers, all channels divided by `shrink`.
    ///
    /// # Errors
    /// Where the size is below 32 pixels (five halvings), or `shrink` is out of range.
    pub fn new(at: &Scope, size: i64, width: i64, shrink: i64, batch_norm: bool) -> Result<Nn2> {
        Nn2::build(at, size, width, shrink, batch_norm, true)
    }

    fn build(at: &Scope, size: i64, width: i64, shrink: i64, batch_norm: bool, five: bool) -> Result<Nn2> {
        ensure!(size >= 32, "five halvings need images of 32 pixels a side or more, not {size}");
        let shrink = Shrink::new(shrink)?;
        let unit = |number: usize, inputs, outputs, window| {
            let (conv, bn) = (format!("conv{number}"), format!("bn{number}"));
            Unit::new(at, &conv, batch_norm.then_some(&bn[..]), inputs, outputs, window)
        };
        let (first, second) = (shrink.of(64), shrink.of(192));
        let stem = [unit(1, 3, first, (7, 2, 3)), unit(2, first, first, (1, 1, 0)), unit(3, first, second, (3, 1, 1))];
        let (mut inputs, mut modules) = (second, Vec::new());
        for row in &MODULES {
            // openface's reading of "the higher layers": the two modules at the last resolution.
            let five = five || !row.name.starts_with("inception5");
            let (module, outputs) = Module::new(at, row, inputs, five, shrink, batch_norm);
            modules.push(module);
            inputs = outputs;
        }
        let embedding = at.linear("embedding", inputs, width, Init::GlorotUniform { gain: 1. }, true);
        Ok(Nn2 { stem, modules, embedding, width })
    }
}

impl Network for Nn2 {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let [conv1, conv2, conv3] = &self.stem;
        let x = local_response_norm(&max_pool(&conv1.forward(images, train), 2, 1));
        let x = local_response_norm(&conv3.forward(&conv2.forward(&x, train), train));
        let x = self.modules.iter().fold(max_pool(&x, 2, 1), |x, module| module.forward(&x, train));
        normalize(&self.embedding.forward(&x.adaptive_avg_pool2d([1, 1]).flatten(1, -1)))
    }

    fn width(&self) -> i64 {
        self.width
    }
}

/// NN4 at 96x96 pixels: NN2 without 5x5 convolutions in 5a and 5b. With batch normalisation 6,959,088 parameters.
#[derive(Debug)]
pub struct Nn4(Nn2);

impl Nn4 {
    /// As [`Nn2::new`].
    pub fn new(at: &Scope, size: i64, width: i64, shrink: i64, batch_norm: bool) -> Result<Nn4> {
        Nn2::build(at, size, width, shrink, batch_norm, false).map(Nn4)
    }
}

impl Network for Nn4 {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        self.0.forward(images, train)
    }

    fn width(&self) -> i64 {
        self.0.width
    }
}
