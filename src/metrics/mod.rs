//! How good an embedding or a score is: retrieval, verification, ordered pairs, label sets, clusters.
//!
//! Metrics take tensors or slices and give numbers; they read no files and choose no device. A mean over nothing is
//! NaN, never 0, unless the function says otherwise.

pub mod all_pairs;
pub mod clustering;
pub mod multilabel;
mod nearest;
pub(crate) mod others;
pub mod pairwise;
pub mod recognition;
pub mod retrieval;
pub mod verification;

use serde::{Deserialize, Serialize};

pub use others::{Alone, Others};

/// Which of two values of a score is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// The greater one.
    More,
    /// The smaller one.
    Less,
    /// Neither: of spreads, and of what has no scale.
    Neither,
}

impl Better {
    /// What a score is multiplied by so that more of it is better: 1 or -1; 0 where neither is.
    pub fn sign(self) -> f64 {
        match self {
            Better::More => 1.,
            Better::Less => -1.,
            Better::Neither => 0.,
        }
    }
}

/// A score by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// What was measured.
    pub name: String,
    /// A fraction unless the name says otherwise.
    pub value: f64,
    /// Which of two values is the better one.
    pub better: Better,
    /// Its place among the scores that count, which stand first on a page; by the first of them the best checkpoint is known.
    pub counts: Option<u8>,
}

impl Score {
    /// One of which more is better.
    pub fn new(name: impl Into<String>, value: f64) -> Score {
        Score { name: name.into(), value, better: Better::More, counts: None }
    }

    /// The same of which less is better.
    pub fn less(self) -> Score {
        Score { better: Better::Less, ..self }
    }

    /// The same of which neither more nor less is better.
    pub fn neither(self) -> Score {
        Score { better: Better::Neither, ..self }
    }

    /// The same that counts, at this place among those that do.
    pub fn counts(self, place: u8) -> Score {
        Score { counts: Some(place), ..self }
    }
}

/// The value of that name among scores.
pub fn score(of: &[Score], name: &str) -> Option<f64> {
    of.iter().find(|score| score.name == name).map(|score| score.value)
}

/// Those of the scores that count, the first first.
pub fn counted(of: &[Score]) -> Vec<&Score> {
    let mut all: Vec<&Score> = of.iter().filter(|score| score.counts.is_some()).collect();
    all.sort_by_key(|score| score.counts);
    all
}

/// The mean of `values`. NaN without values.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The mean of `values`, which are all that there are, and their population standard deviation (divided by n). NaN without
/// values. Of draws, seeds, splits see [`mean_and_deviation`].
pub fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let mean = mean(values);
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
}

/// The mean of some `values` of many (of seeds, splits, draws, folds) and their sample standard deviation (divided by n - 1):
/// what stands behind ±. NaN without values, and the deviation of one.
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let ((mean, spread), n) = (mean_and_spread(values), values.len() as f64);
    (mean, spread * (n / (n - 1.).max(0.)).sqrt())
}
