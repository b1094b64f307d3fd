//! Ranking losses on distances and scores.
//!
//! A loss does not know where its distances come from. All compute in f32 or wider whatever comes in, never wait for
//! a GPU, never hold B³ numbers, and give 0 with a zero gradient where there is nothing to rank. A NaN among the
//! inputs gives a NaN sum: it is never filtered out.

mod cpu;
pub mod embedded;
pub mod multilabel;
pub mod quadruplet;
pub mod skill;
pub mod triplet;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How a violated order is charged, `z = d_ap - d_an`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Margin {
    /// `[m + z]₊`, the hinge with margin m.
    Hard(f64),
    /// `softplus(z) = ln(1 + e^z)`, the soft margin (1703.07737, Section 2): no margin to choose, never quite 0.
    Soft,
}

impl Margin {
    /// m; 0 of the soft margin, which has none.
    pub fn number(self) -> f64 {
        if let Margin::Hard(m) = self { m } else { 0. }
    }

    /// The charge for each entry of `z`, elementwise and differentiable; the hinge's gradient at the kink is 0.
    pub fn charge(self, z: &Tensor) -> Tensor {
        match self {
            Margin::Hard(m) => (z + m).relu(),
            // log(e^z + e^0), exact at both ends; torch's softplus is linear beyond 20.
            Margin::Soft => z.logaddexp(&z.zeros_like()),
        }
    }
}

impl std::fmt::Display for Margin {
    /// As a flag has it: the number, or `soft`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Margin::Hard(m) => write!(f, "{m}"),
            Margin::Soft => f.write_str("soft"),
        }
    }
}

impl std::str::FromStr for Margin {
    type Err = String;

    fn from_str(text: &str) -> Result<Margin, String> {
        if text == "soft" {
            return Ok(Margin::Soft);
        }
        let number = text.parse().ok().filter(|m: &f64| (0. ..=1e6).contains(m));
        number.map(Margin::Hard).ok_or_else(|| "say a number from 0 to 1e6, e.g. 0.2, or soft".into())
    }
}

crate::bounds::as_typed!(Margin);

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
    pub fn over(losses: &Tensor, valid: Option<&Tensor>) -> Tally {
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
