//! Watches a training run for the two ways in which ranking losses die: collapse and non-finite numbers.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Kind, Tensor};

/// What can collapse, which decides the cure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collapse {
    /// All embeddings become one.
    Embeddings,
    /// A learned metric gives every pair the same number; the distance read is the gap between the two kinds of pairs.
    Metric,
}

/// What the watch reads at a logged step.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The sign of collapse that is watched.
    pub what: Collapse,
    /// Mean loss over all terms.
    pub loss: f64,
    /// What that mean is when all embeddings are equal: the margin, ln 2, ...
    pub collapsed_loss: f64,
    /// Median distance of two rows of the batch.
    pub median_distance: f64,
    /// Mean length of an embedding.
    pub mean_norm: f64,
}

impl Reading {
    /// From a log line with "mean", "distance" and "norm" (see `stats`); `collapsed_loss` is the paper's to know.
    pub fn of(line: &Value, collapsed_loss: f64) -> Reading {
        let number = |path: &str| line.pointer(path).and_then(Value::as_f64).unwrap_or(0.);
        Reading {
            what: Collapse::Embeddings,
            loss: number("/mean"),
            collapsed_loss,
            median_distance: number("/distance/p50"),
            mean_norm: number("/norm/mean"),
        }
    }

    /// From a log line of a learned metric (see `tasks::pairs::batch_line`), whose margins stand still.
    pub fn of_metric(line: &Value, collapsed_loss: f64) -> Reading {
        let number = |path: &str| line.pointer(path).and_then(Value::as_f64).unwrap_or(0.);
        let gap = (number("/square/different") - number("/square/same")).abs();
        let (what, loss) = (Collapse::Metric, number("/mean"));
        Reading { what, loss, collapsed_loss, median_distance: gap, mean_norm: 1. }
    }
}

/// Names a collapse that lasts. Early on, distances shrink before they grow (1703.07737, Section 4.5), so one reading
/// says nothing; [`Watch::PATIENCE`] readings in a row do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    first_distance: Option<f64>,
    stuck: u32,
    said: bool,
}

impl Watch {
    /// Readings in a row that make a collapse.
    pub const PATIENCE: u32 = 5;
    /// The same of a learned metric, which starts with equal numbers for all pairs.
    pub const PATIENCE_METRIC: u32 = 12;

    /// Takes a reading; returns cause and cure when a collapse has just become plain, once for each collapse.
    pub fn read(&mut self, reading: Reading) -> Option<String> {
        let first = *self.first_distance.get_or_insert(reading.median_distance);
        let at_floor = (reading.loss - reading.collapsed_loss).abs() <= 0.05 * reading.collapsed_loss;
        let shrunken = reading.median_distance < 0.1 * first || reading.median_distance < 0.02 * reading.mean_norm;
        if !(at_floor && shrunken) {
            *self = Watch { first_distance: Some(first), ..Watch::default() };
            return None;
        }
        self.stuck += 1;
        let patience = if reading.what == Collapse::Metric { Self::PATIENCE_METRIC } else { Self::PATIENCE };
        if self.stuck < patience || self.said {
            return None;
        }
        self.said = true;
        if reading.what == Collapse::Metric {
            return Some(format!(
                "collapsed: for {} readings the loss has been {:.4}, which is what one g for all pairs gives ({:.4}), and pairs of one person and of two differ by {:.2e} in g²: nothing is learned. \
                 Cure: lower --lr to a third, start from trained weights (--weights, --start), or take another --seed",
                self.stuck, reading.loss, reading.collapsed_loss, reading.median_distance
            ));
        }
        Some(format!(
            "collapsed: for {} readings the loss has been {:.4}, which is what equal embeddings give ({:.4}), and the median distance is {:.2e} (it was {:.2e} at first, embeddings are {:.2e} long): \
             all images get nearly the same embedding. Cure: lower --lr to a tenth, take --margin soft or a smaller margin, start from trained weights (--weights), or use a gentler loss first (batch-all)",
            self.stuck, reading.loss, reading.collapsed_loss, reading.median_distance, first, reading.mean_norm
        ))
    }
}

/// Whether anything went non-finite since it was last asked, kept on the device so that a step does not wait.
#[derive(Debug)]
pub struct Finite {
    good: Tensor,
}

impl Finite {
    /// Nothing bad seen yet.
    pub fn new(device: tch::Device) -> Finite {
        Finite { good: Tensor::ones([], (Kind::Bool, device)) }
    }

    /// Notes a scalar loss; does not wait for the device.
    pub fn note(&mut self, loss: &Tensor) {
        self.good = self.good.logical_and(&loss.detach().isfinite());
    }

    /// Errors, with cause and cure, if any noted loss was NaN or infinite. Waits for the device.
    pub fn check(&self, step: u64, kept: &str) -> Result<()> {
        if self.good.int64_value(&[]) == 0 {
            bail!(
                "the loss went NaN or infinite by step {step}: the learning rate is too high for this network, or the initial weights are not what they should be; {kept}; lower --lr (the paper's own 0.001 made TriNet diverge) and train into another --run"
            );
        }
        Ok(())
    }

    /// Errors if a number of a checkpoint's `state` (weights, running statistics, what the optimiser and the paper carry along) is
    /// not finite: nothing could go on from it.
    pub fn check_state(&self, state: impl Iterator<Item = Tensor>, step: u64, kept: &str) -> Result<()> {
        let sum = tch::no_grad(|| {
            let zero = Tensor::zeros([], (Kind::Double, self.good.device()));
            state.fold(zero, |sum, x| sum + (x * 0.).sum(Kind::Double).to_device(self.good.device()))
        });
        if !sum.double_value(&[]).is_finite() {
            bail!(
                "a weight or what the optimiser carries along went NaN or infinite by step {step}: lower --lr and train into another --run; {kept}"
            );
        }
        Ok(())
    }
}
