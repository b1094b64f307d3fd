//! Ranking losses on distances and scores.
//!
//! A loss does not know where its distances come from. All compute in f32 or wider whatever comes in, never wait for
//! a GPU, never hold B³ numbers, and give 0 with a zero gradient where there is nothing to rank. A NaN among the
//! inputs gives a NaN sum: it is never filtered out.

pub mod embedded;
mod known;
pub mod multilabel;
pub mod quadruplet;
mod rows;
pub mod skill;
pub mod triplet;

use tch::{Kind, Tensor};

/// How a violated order is charged, `z = d_ap - d_an`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Margin {
    /// `[m + z]₊`, the hinge with margin m.
    Hard(f64),
    /// `softplus(z) = ln(1 + e^z)`, the soft margin (1703.07737, Section 2): no margin to choose, never quite 0.
    Soft,
}

impl Margin {
    /// The charge for each entry of `z`, elementwise and differentiable; the hinge's gradient at the kink is 0.
    pub fn charge(self, z: &Tensor) -> Tensor {
        match self {
            Margin::Hard(m) => (z + m).relu(),
            // log(e^z + e^0), exact at both ends; torch's softplus is linear beyond 20.
            Margin::Soft => z.logaddexp(&z.zeros_like()),
        }
    }
}

/// A sum of loss terms and how many there were; which mean to take is the caller's choice.
#[derive(Debug)]
pub struct Tally {
    /// Scalar, f32 or wider: the sum over all terms; carries the gradient.
    pub sum: Tensor,
    /// Scalar int64: how many terms there are.
    pub terms: Tensor,
    /// Scalar int64: how many of them are above 0.
    pub active: Tensor,
}

impl Tally {
    /// Sums `losses` (any shape) where `valid` (bool, same shape; `None` is everywhere).
    pub(crate) fn over(losses: &Tensor, valid: Option<&Tensor>) -> Tally {
        let (losses, terms) = match valid {
            Some(valid) => (losses.where_self(valid, &losses.zeros_like()), valid.sum(Kind::Int64)),
            None => (losses.shallow_clone(), Tensor::full([], losses.numel() as i64, (Kind::Int64, losses.device()))),
        };
        let active = losses.detach().gt(0.).sum(Kind::Int64);
        // f64 for the sum alone: a hundred million f32 terms lose digits otherwise.
        Tally { sum: losses.sum(Kind::Double).to_kind(losses.kind()), terms, active }
    }

    /// The sum of all terms.
    pub fn sum(&self) -> Tensor {
        self.sum.shallow_clone()
    }

    /// The mean over all terms ("divided by the number of summands"); 0 with a zero gradient where there are none.
    pub fn mean(&self) -> Tensor {
        &self.sum / self.terms.clamp_min(1).to_kind(self.sum.kind())
    }

    /// The mean over the terms above 0 (the "≠ 0" variants of 1703.07737); 0 with a zero gradient where there are
    /// none.
    pub fn mean_active(&self) -> Tensor {
        &self.sum / self.active.clamp_min(1).to_kind(self.sum.kind())
    }
}
