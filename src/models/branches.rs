//! What inception networks are made of: branches of convolutions side by side.

use tch::Tensor;

use super::inception::l2_pool;
use super::layers::Unit;

/// What is taken of each 3x3 window where a branch begins with a pooling.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pool {
    /// The maximum; with `ceil`, of windows too that reach beyond the edge.
    Max { stride: i64, padding: i64, ceil: bool },
    /// The root of the sum of squares.
    L2 { stride: i64, padding: i64 },
    /// The mean, the padding counted, a window a pixel.
    Mean,
}

impl Pool {
    fn of(self, x: &Tensor) -> Tensor {
        match self {
            Pool::Max { stride, padding, ceil } => x.max_pool2d([3, 3], [stride; 2], [padding; 2], [1, 1], ceil),
            Pool::L2 { stride, padding } => l2_pool(x, stride, padding),
            Pool::Mean => x.avg_pool2d([3, 3], [1, 1], [1, 1], true, true, None::<i64>),
        }
    }
}

/// A pooling, if there is one, and convolutions one after another.
#[derive(Debug, Default)]
pub(super) struct Branch {
    pub pool: Option<Pool>,
    pub units: Vec<Unit>,
    /// Zeros before and behind the rows and columns that come out.
    pub pad: (i64, i64),
}

impl From<Vec<Unit>> for Branch {
    fn from(units: Vec<Unit>) -> Branch {
        Branch { units, ..Branch::default() }
    }
}

impl Branch {
    /// A pooling, and what projects its channels, where something does.
    pub fn pooled(pool: Pool, projection: Option<Unit>) -> Branch {
        Branch { pool: Some(pool), units: projection.into_iter().collect(), pad: (0, 0) }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let x = self.pool.map_or_else(|| x.shallow_clone(), |pool| pool.of(x));
        let x = self.units.iter().fold(x, |x, unit| unit.forward(&x, train));
        match self.pad {
            (0, 0) => x,
            (before, behind) => x.zero_pad2d(before, behind, before, behind),
        }
    }
}

/// Branches side by side, their channels joined in this order.
#[derive(Debug)]
pub(super) struct Module(pub Vec<Branch>);

impl Module {
    /// The channels that it makes of so many.
    pub fn outputs(&self, inputs: i64) -> i64 {
        self.0.iter().map(|branch| branch.units.last().map_or(inputs, |unit| unit.conv.outputs())).sum()
    }

    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let parts: Vec<Tensor> = self.0.iter().map(|branch| branch.forward(x, train)).collect();
        Tensor::cat(&parts, 1)
    }
}

/// A module for each of `rows`, one after another, made from how many channels reach it; and how many leave the last.
pub(super) fn stacked<R>(
    rows: impl IntoIterator<Item = R>,
    mut inputs: i64,
    mut module: impl FnMut(R, i64) -> Module,
) -> (Vec<Module>, i64) {
    let mut all = Vec::new();
    for row in rows {
        all.push(module(row, inputs));
        inputs = all[all.len() - 1].outputs(inputs);
    }
    (all, inputs)
}
