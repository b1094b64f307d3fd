//! openface's nn4.small2: NN4 without 4b to 4d and with smaller last modules, in two forms. The published weights were
//! trained with other pooling branches than the published definition has (openface issues 349 and 351).

use anyhow::{Result, ensure};
use tch::Tensor;

use super::{Shrink, Unit, l2_pool, local_response_norm, max_pool};
use crate::distance::normalize;
use crate::models::Network;
use crate::models::layers::{Init, Linear, Scope};

/// How a module pools: kind, then stride and padding as defined, then as trained.
#[derive(Debug, Clone, Copy)]
struct Pool {
    l2: bool,
    defined: (i64, i64),
    trained: (i64, i64),
}

/// A module: reductions and outputs; 0 where there is no such branch.
struct Row {
    name: &'static str,
    three: (i64, i64),
    five: (i64, i64),
    projection: i64,
    one: i64,
    stride: i64,
    pool: Pool,
}

const MAX: Pool = Pool { l2: false, defined: (1, 1), trained: (2, 0) };
const MAX_HALF: Pool = Pool { l2: false, defined: (2, 1), trained: (2, 0) };
const L2: Pool = Pool { l2: true, defined: (1, 1), trained: (3, 0) };

const MODULES: [Row; 7] = [
    Row { name: "incept3a", three: (96, 128), five: (16, 32), projection: 32, one: 64, stride: 1, pool: MAX },
    Row { name: "incept3b", three: (96, 128), five: (32, 64), projection: 64, one: 64, stride: 1, pool: L2 },
    Row { name: "incept3c", three: (128, 256), five: (32, 64), projection: 0, one: 0, stride: 2, pool: MAX_HALF },
    Row { name: "incept4a", three: (96, 192), five: (32, 64), projection: 128, one: 256, stride: 1, pool: L2 },
    Row { name: "incept4e", three: (160, 256), five: (64, 128), projection: 0, one: 0, stride: 2, pool: MAX_HALF },
    Row { name: "incept5a", three: (96, 384), five: (0, 0), projection: 96, one: 256, stride: 1, pool: L2 },
    Row { name: "incept5b", three: (96, 384), five: (0, 0), projection: 96, one: 256, stride: 1, pool: MAX },
];

/// Branches 3x3, 5x5, pooling, 1x1, joined in this order (`branches.0`, `.1`, ...), the smaller ones padded with zeros.
#[derive(Debug)]
struct Module {
    /// 3x3 and 5x5: a reduction and a convolution each.
    convolutions: Vec<[Unit; 2]>,
    projection: Option<Unit>,
    one: Option<Unit>,
    l2: bool,
    window: (i64, i64),
    /// Zeros before and after the pooling branch's rows and columns.
    pad: (i64, i64),
}

impl Module {
    /// From `inputs` channels of `side` x `side`; returns the outputs and their side too.
    fn new(at: &Scope, row: &Row, inputs: i64, side: i64, shrink: Shrink, trained: bool) -> Result<(Module, i64, i64)> {
        let at = at.sub(row.name).sub("branches");
        let (mut convolutions, mut outputs, mut place) = (Vec::new(), 0, 0);
        let branch = |place: i64| at.sub(place);
        for ((reduce, out), kernel) in [(row.three, 3), (row.five, 5)] {
            if out > 0 {
                let here = branch(place);
                convolutions.push([
                    Unit::new(&here, "0", Some("1"), inputs, shrink.of(reduce), (1, 1, 0)),
                    Unit::new(
                        &here,
                        "3",
                        Some("4"),
                        shrink.of(reduce),
                        shrink.of(out),
                        (kernel, row.stride, kernel / 2),
                    ),
                ]);
                outputs += shrink.of(out);
                place += 1;
            }
        }
        let projection = (row.projection > 0)
            .then(|| Unit::new(&branch(place), "1", Some("2"), inputs, shrink.of(row.projection), (1, 1, 0)));
        outputs += if row.projection > 0 { shrink.of(row.projection) } else { inputs };
        place += 1;
        let one =
            (row.one > 0).then(|| Unit::new(&branch(place), "0", Some("1"), inputs, shrink.of(row.one), (1, 1, 0)));
        outputs += if row.one > 0 { shrink.of(row.one) } else { 0 };
        let window = if trained { row.pool.trained } else { row.pool.defined };
        let full = (side + row.stride - 1) / row.stride;
        let pooled = (side + 2 * window.1 - 3) / window.0 + 1;
        ensure!(side + 2 * window.1 >= 3 && pooled <= full, "nn4.small2 does not fit images of this size: say 96");
        let pad = ((full - pooled) / 2, full - pooled - (full - pooled) / 2);
        Ok((Module { convolutions, projection, one, l2: row.pool.l2, window, pad }, outputs, full))
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let mut parts: Vec<Tensor> =
            self.convolutions.iter().map(|[reduce, conv]| conv.forward(&reduce.forward(x, train), train)).collect();
        let (stride, padding) = self.window;
        let pooled = if self.l2 { l2_pool(x, stride, padding) } else { max_pool(x, stride, padding) };
        let pooled = match &self.projection {
            Some(projection) => projection.forward(&pooled, train),
            None => pooled,
        };
        let (before, after) = self.pad;
        parts.push(match before + after {
            0 => pooled,
            _ => pooled.zero_pad2d(before, after, before, after),
        });
        parts.extend(self.one.iter().map(|one| one.forward(x, train)));
        Tensor::cat(&parts, 1)
    }
}

/// 3,733,968 parameters at width 128, by openface's names (`conv1`, `bn1`, `incept3a.branches.0.0`, ..., `ln`). Input is
/// RGB in 0..1.
#[derive(Debug)]
pub struct Nn4Small2 {
    stem: [Unit; 3],
    modules: Vec<Module>,
    embedding: Linear,
    width: i64,
}

impl Nn4Small2 {
    /// For `size` x `size` images (96), `width` numbers, all channels divided by `shrink`. `trained` takes the pooling of
    /// the network that was trained, which the published weights need; otherwise that of the definition.
    ///
    /// # Errors
    /// Where the size does not fit, or `shrink` is out of range.
    pub fn new(at: &Scope, size: i64, width: i64, shrink: i64, trained: bool) -> Result<Nn4Small2> {
        ensure!(size >= 32, "five halvings need images of 32 pixels a side or more, not {size}");
        let shrink = Shrink::new(shrink)?;
        let (first, second) = (shrink.of(64), shrink.of(192));
        let stem = [
            Unit::new(at, "conv1", Some("bn1"), 3, first, (7, 2, 3)),
            Unit::new(at, "conv2", Some("bn2"), first, first, (1, 1, 0)),
            Unit::new(at, "conv3", Some("bn3"), first, second, (3, 1, 1)),
        ];
        // Three halvings, each rounded up.
        let (mut inputs, mut side) = (second, (0..3).fold(size, |side, _| (side + 1) / 2));
        let mut modules = Vec::new();
        for row in &MODULES {
            let (module, outputs, smaller) = Module::new(at, row, inputs, side, shrink, trained)?;
            modules.push(module);
            (inputs, side) = (outputs, smaller);
        }
        let embedding = at.linear("ln", inputs, width, Init::GlorotUniform { gain: 1. }, true);
        Ok(Nn4Small2 { stem, modules, embedding, width })
    }
}

impl Network for Nn4Small2 {
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
