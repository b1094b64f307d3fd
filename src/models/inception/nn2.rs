//! NN2 and its kin: NN3 (160x160), NN4 (96x96, no 5x5 in the last modules; Inception, 1503.03832, Table 2), and openface's
//! nn4.small2.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::{Shrink, local_response_norm, max_pool};
use crate::distance::normalize;
use crate::models::Network;
use crate::models::branches::{Branch, Module, Pool, stacked};
use crate::models::layers::{Init, Linear, Scope, Unit, Window};

/// A row of Table 2: outputs of 1x1, 3x3 and 5x5 with those of their reductions, whether the pooling is by the maximum or
/// by L2, and the outputs of its projection; 0 where there is no such branch. What has no 1x1 branch halves the picture.
struct Row {
    name: &'static str,
    one: i64,
    three: (i64, i64),
    five: (i64, i64),
    max: bool,
    projection: i64,
}

const fn row(name: &'static str, one: i64, three: (i64, i64), five: (i64, i64), max: bool, projection: i64) -> Row {
    Row { name, one, three, five, max, projection }
}

const MAX: bool = true;
const L2: bool = false;

static TABLE_2: [Row; 10] = [
    row("inception3a", 64, (96, 128), (16, 32), MAX, 32),
    row("inception3b", 64, (96, 128), (32, 64), L2, 64),
    row("inception3c", 0, (128, 256), (32, 64), MAX, 0),
    row("inception4a", 256, (96, 192), (32, 64), L2, 128),
    row("inception4b", 224, (112, 224), (32, 64), L2, 128),
    row("inception4c", 192, (128, 256), (32, 64), L2, 128),
    row("inception4d", 160, (144, 288), (32, 64), L2, 128),
    row("inception4e", 0, (160, 256), (64, 128), MAX, 0),
    row("inception5a", 384, (192, 384), (48, 128), L2, 128),
    row("inception5b", 384, (192, 384), (48, 128), MAX, 128),
];

/// NN4 without 4b to 4d and with smaller last modules.
const SMALL2: [Row; 7] = [
    row("incept3a", 64, (96, 128), (16, 32), MAX, 32),
    row("incept3b", 64, (96, 128), (32, 64), L2, 64),
    row("incept3c", 0, (128, 256), (32, 64), MAX, 0),
    row("incept4a", 256, (96, 192), (32, 64), L2, 128),
    row("incept4e", 0, (160, 256), (64, 128), MAX, 0),
    row("incept5a", 256, (96, 384), (0, 0), L2, 96),
    row("incept5b", 256, (96, 384), (0, 0), MAX, 96),
];

impl Row {
    fn stride(&self) -> i64 {
        if self.one == 0 { 2 } else { 1 }
    }

    fn pool(&self, stride: i64, padding: i64) -> Pool {
        if self.max { Pool::Max { stride, padding, ceil: false } } else { Pool::L2 { stride, padding } }
    }
}

/// `conv1`, with `bn1` where it is normalised, and so on.
fn unit(at: &Scope, number: usize, batch_norm: bool, inputs: i64, outputs: i64, window: Window) -> Unit {
    let norm = batch_norm.then(|| format!("bn{number}"));
    Unit::new(at, &format!("conv{number}"), norm.as_deref(), inputs, outputs, window)
}

/// Branches 1x1, 3x3, 5x5 and pooling.
fn module(at: &Scope, row: &Row, inputs: i64, five: bool, shrink: Shrink, batch_norm: bool) -> Module {
    let (at, of) = (at.sub(row.name), |channels| shrink.of(channels));
    let unit = |branch: &str, number, inputs, outputs, window| {
        unit(&at.sub(branch), number, batch_norm, inputs, outputs, window)
    };
    let mut branches: Vec<Branch> = Vec::new();
    if row.one > 0 {
        branches.push(vec![unit("b1x1", 1, inputs, of(row.one), (1, 1, 0))].into());
    }
    for (name, (reduce, out), kernel) in [("b3x3", row.three, 3), ("b5x5", row.five, 5)] {
        if kernel == 3 || five {
            let second = unit(name, 2, of(reduce), of(out), (kernel, row.stride(), kernel / 2));
            branches.push(vec![unit(name, 1, inputs, of(reduce), (1, 1, 0)), second].into());
        }
    }
    let projection = (row.projection > 0).then(|| unit("pool", 1, inputs, of(row.projection), (1, 1, 0)));
    branches.push(Branch::pooled(row.pool(row.stride(), 1), projection));
    Module(branches)
}

/// Branches 3x3, 5x5, pooling and 1x1 (`branches.0`, `.1`, ...), `pad` the zeros around what is pooled.
fn small_module(at: &Scope, row: &Row, inputs: i64, pool: Pool, pad: (i64, i64), shrink: Shrink) -> Module {
    let (at, of) = (at.sub(row.name).sub("branches"), |channels| shrink.of(channels));
    let unit = |place: usize, conv: &str, norm: &str, inputs, outputs, window| {
        Unit::new(&at.sub(place), conv, Some(norm), inputs, outputs, window)
    };
    let mut branches: Vec<Branch> = Vec::new();
    for ((reduce, out), kernel) in [(row.three, 3), (row.five, 5)] {
        if out > 0 {
            let place = branches.len();
            let second = unit(place, "3", "4", of(reduce), of(out), (kernel, row.stride(), kernel / 2));
            branches.push(vec![unit(place, "0", "1", inputs, of(reduce), (1, 1, 0)), second].into());
        }
    }
    let place = branches.len();
    let projection = (row.projection > 0).then(|| unit(place, "1", "2", inputs, of(row.projection), (1, 1, 0)));
    branches.push(Branch { pad, ..Branch::pooled(pool, projection) });
    if row.one > 0 {
        branches.push(vec![unit(place + 1, "0", "1", inputs, of(row.one), (1, 1, 0))].into());
    }
    Module(branches)
}

/// Three convolutions, inception modules, and a linear layer to the unit sphere.
///
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
        let shrink = Nn2::fitting(size, shrink)?;
        let modules = |row, inputs| module(at, row, inputs, true, shrink, batch_norm);
        Ok(Nn2::build(at, width, shrink, batch_norm, "embedding", &TABLE_2, modules))
    }

    /// NN4 at 96x96 pixels: without 5x5 convolutions in 5a and 5b. With batch normalisation 6,959,088 parameters.
    ///
    /// # Errors
    /// As [`Nn2::new`].
    pub fn nn4(at: &Scope, size: i64, width: i64, shrink: i64, batch_norm: bool) -> Result<Nn2> {
        let shrink = Nn2::fitting(size, shrink)?;
        // openface's reading of "the higher layers": the two modules at the last resolution.
        let higher = TABLE_2.iter().rposition(|row| row.stride() > 1).map_or(&TABLE_2[..], |last| &TABLE_2[last + 1..]);
        let five = |row: &Row| !higher.iter().any(|other| std::ptr::eq(other, row));
        let modules = |row: &Row, inputs| module(at, row, inputs, five(row), shrink, batch_norm);
        Ok(Nn2::build(at, width, shrink, batch_norm, "embedding", &TABLE_2, modules))
    }

    /// openface's nn4.small2 for `size` x `size` images (96): 3,733,968 parameters at width 128, by openface's names (`conv1`,
    /// `bn1`, `incept3a.branches.0.0`, ..., `ln`). Input is RGB in 0..1. The published weights were trained with other pooling
    /// branches than the published definition has (openface issues 349 and 351): `trained` takes theirs.
    ///
    /// # Errors
    /// Where the size does not fit, or `shrink` is out of range.
    pub fn small2(at: &Scope, size: i64, width: i64, shrink: i64, trained: bool) -> Result<Nn2> {
        let shrink = Nn2::fitting(size, shrink)?;
        // Three halvings, each rounded up.
        let (mut side, mut fits) = ((0..3).fold(size, |side, _| (side + 1) / 2), true);
        let modules = |row: &Row, inputs| {
            let (stride, padding) = match trained {
                true => (if row.max { 2 } else { 3 }, 0),
                false => (row.stride(), 1),
            };
            let full = (side + row.stride() - 1) / row.stride();
            let pooled = (side + 2 * padding - 3) / stride + 1;
            fits &= side + 2 * padding >= 3 && pooled <= full;
            side = full;
            let pad = ((full - pooled) / 2, full - pooled - (full - pooled) / 2);
            small_module(at, row, inputs, row.pool(stride, padding), pad, shrink)
        };
        let net = Nn2::build(at, width, shrink, true, "ln", &SMALL2, modules);
        ensure!(fits, "nn4.small2 does not fit images of this size: say 96");
        Ok(net)
    }

    fn fitting(size: i64, shrink: i64) -> Result<Shrink> {
        ensure!(size >= 32, "five halvings need images of 32 pixels a side or more, not {size}");
        Shrink::new(shrink)
    }

    fn build<'a>(
        at: &Scope,
        width: i64,
        shrink: Shrink,
        batch_norm: bool,
        last: &str,
        rows: &'a [Row],
        module: impl FnMut(&'a Row, i64) -> Module,
    ) -> Nn2 {
        let unit = |number, inputs, outputs, window| unit(at, number, batch_norm, inputs, outputs, window);
        let (first, second) = (shrink.of(64), shrink.of(192));
        let stem = [unit(1, 3, first, (7, 2, 3)), unit(2, first, first, (1, 1, 0)), unit(3, first, second, (3, 1, 1))];
        let (modules, outputs) = stacked(rows, second, module);
        let embedding = at.linear(last, outputs, width, Init::GlorotUniform { gain: 1. }, true);
        Nn2 { stem, modules, embedding, width }
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
