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

/// A parameter, its gradient, and the rule's slots in the order of its equation.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) x: Tensor,
    pub(super) gradient: Tensor,
    pub(super) slots: Vec<Tensor>,
}
