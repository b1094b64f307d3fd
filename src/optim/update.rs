//! What a step does to every number of a parameter.

use tch::Tensor;

/// A rule with the constants of one step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Update {
    /// `v ← μ v + g; x ← x - rate v`, without a slot where μ is 0
    Sgd { momentum: f64, rate: f64 },
    /// `m ← β₁ m + (1 - β₁) g; v ← β₂ v + (1 - β₂) g²; x ← x - rate m / (√v / root + eps)`: both bias corrections
    /// are in `rate` and `root`
    Adam { beta1: f64, beta2: f64, eps: f64, root: f64, rate: f64 },
    /// `s ← s + g²; x ← x - rate g / (√s + eps)`
    AdaGrad { eps: f64, rate: f64 },
}

impl Update {
    /// What libtorch's fused kernels are told at step `steps`, rate first: Adam's divides it by `1 - β₁^steps` and takes
    /// `1 - β₂^steps` for the square of `root`.
    pub(super) fn dials(self, steps: u64) -> [f64; 2] {
        let steps = steps as f64;
        match self {
            Update::Adam { beta1, rate, .. } => [rate * (1. - beta1.powf(steps)), steps],
            Update::Sgd { rate, .. } | Update::AdaGrad { rate, .. } => [rate, steps],
        }
    }
}

/// A parameter, its gradient, and the rule's slots in the order of its equation.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) x: Tensor,
    pub(super) gradient: Tensor,
    pub(super) slots: Vec<Tensor>,
}
