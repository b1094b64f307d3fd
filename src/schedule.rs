//! Learning rates and other numbers that are functions of the step alone.

/// The schedule of 1703.07737, Eq. 8: constant until `t0`, then exponential decay to a thousandth at `t1`, where
/// training stops; Adam's beta1 drops at `t0`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decay {
    /// Learning rate before the decay, ε₀.
    pub base: f64,
    /// Step (from 0) at which the decay starts.
    pub t0: u64,
    /// Step at which the rate has fallen to a thousandth of `base`.
    pub t1: u64,
}

impl Decay {
    /// ε(t) = ε₀ for t ≤ t0, else ε₀ · 0.001^((t - t0) / (t1 - t0)). A `t1` at or before `t0` never decays.
    pub fn rate(&self, t: u64) -> f64 {
        if t <= self.t0 || self.t1 <= self.t0 {
            return self.base;
        }
        self.base * 0.001_f64.powf((t - self.t0) as f64 / (self.t1 - self.t0) as f64)
    }

    /// Adam's β₁ at step t: 0.9 until t0, 0.5 from t0 on (1703.07737, Section 4.4).
    pub fn beta1(&self, t: u64) -> f64 {
        if t < self.t0 { 0.9 } else { 0.5 }
    }
}

/// Stairs: the rate falls to a tenth at each of some steps (1703.09913).
#[derive(Debug, Clone, PartialEq)]
pub struct Stairs {
    /// Learning rate before the first stair.
    pub base: f64,
    /// Steps (from 0) at which it falls.
    pub at: Vec<u64>,
}

impl Stairs {
    /// The rate of step `t`.
    pub fn rate(&self, t: u64) -> f64 {
        self.base * 0.1_f64.powi(self.at.iter().filter(|&&at| t >= at).count() as i32)
    }
}
