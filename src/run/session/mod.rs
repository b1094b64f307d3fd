//! What surrounds every training loop: the run folder and its lock, resuming, the log, the watch over collapse and
//! non-finite numbers, checkpoints. The loop itself is the paper's and stays in its file.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use tch::Tensor;
use tch::nn::VarStore;

use super::board::Board;
use super::config::Config;
use super::folder::{Log, RunFolder};
use super::scores::Scores;
use super::stop::Signals;
use super::watch::{Finite, Watch};
use crate::collectives::{Gradients, World};
use crate::device::Captured;
use crate::optim::{Optimizer, Rule};
use crate::say::{Bar, count, say};

mod after;
mod open;
mod step;
mod trial;

pub use open::load;
pub(crate) use open::{EVERY, lost};
pub use trial::{Tried, median};

/// Which run, where, how long, and how often it speaks.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// What `config.json` is to hold.
    pub config: Config,
    /// The folder that the run is kept in.
    pub at: &'a Path,
    /// How many steps there are in all.
    pub steps: u64,
    /// Steps between two log lines; the last step has one always.
    pub log_every: u64,
    /// The rule of descent.
    pub rule: Rule,
    /// By what each weight is multiplied and added to its gradient (L2).
    pub weight_decay: f64,
    /// Whether it ends in [`Tried`] after a few steps, and keeps nothing.
    pub trial: bool,
}

/// A training run at work in its folder. It holds the weights and the optimiser, logs, and saves.
#[derive(Debug)]
pub struct Session<'a> {
    /// Tensors that checkpoints carry beside weights and optimiser, by name.
    pub extra: BTreeMap<String, Tensor>,
    at: PathBuf,
    world: World,
    config: Config,
    store: VarStore,
    /// What any stage trains.
    trainable: Vec<(String, Tensor)>,
    rule: (Rule, f64),
    optimizer: Optimizer,
    /// Of the parameters that are trained now; made when first asked for.
    gradients: OnceCell<Gradients>,
    /// Whether a step of this run may become a CUDA graph, the β₁ of the one that is, and it.
    graph: (bool, Option<f64>, Option<Captured>),
    /// None in processes beside the one that writes.
    writes: Option<Writes>,
    steps: u64,
    log_every: u64,
    checkpoint_every: u64,
    start: u64,
    watch: Watch,
    finite: Finite,
    bar: Option<Bar>,
    /// Rows of the training photos that were left out, where that is allowed.
    left_out: Option<BTreeSet<i64>>,
    /// Heard while the loop runs.
    signals: Option<Signals>,
    /// When processes asked each other for signals last, how many steps were done then, and at how many they ask again.
    listen: (Instant, u64, u64),
    /// The step of the newest checkpoint, 0 for none, and when it was written.
    kept: (u64, Instant),
    /// Since the last log line: when it was, images and steps since.
    since: (Instant, i64, u32),
    /// What is to be said of its data once the first step is done: what went wrong by then is said alone.
    pub notes: Vec<String>,
    /// How it is scored while it trains, if it is.
    pub scores: Option<Scores<'a>>,
    /// When each step of a trial ended.
    trial: Option<Vec<Instant>>,
}

/// What one process writes for all.
#[derive(Debug)]
struct Writes {
    folder: RunFolder,
    log: Log,
    timing: Log,
    board: Option<Board>,
}

/// A step that was just done.
#[derive(Debug)]
pub struct Done<'a> {
    /// Its number, from 0.
    pub step: u64,
    /// Its loss, a scalar on any device.
    pub loss: &'a Tensor,
    /// Images (clips, rows) in its batch.
    pub images: i64,
    /// How long the loop has waited for its loader so far.
    pub waited: Duration,
}

impl<'a> Session<'a> {
    /// The folder that it trains in.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// The steps that are left to do.
    pub fn steps(&self) -> Range<u64> {
        self.start.min(self.steps)..self.steps
    }

    /// The steps that are left, cut where a multiple of `every` begins.
    pub fn stretches(&self, every: u64) -> impl Iterator<Item = Range<u64>> + use<> {
        let Range { mut start, end } = self.steps();
        std::iter::from_fn(move || {
            let from = start;
            start = ((from / every.max(1) + 1) * every.max(1)).min(end);
            (from < end).then_some(from..start)
        })
    }

    /// Says what is about to be trained (`what`: network, data, batch) or that nothing is left to do, which it
    /// returns as false. From here on signals wait for the end of a step (see [`super::stop`]).
    ///
    /// # Errors
    /// Where the system refuses to hand signals over.
    pub fn announce(&mut self, what: &str) -> Result<bool> {
        let steps = self.steps;
        if self.start >= steps {
            say(format!("{} is trained already ({})", self.at.display(), count(self.start as usize, "step")));
            return Ok(false);
        }
        let verb = if self.start > 0 { "resuming" } else { "training" };
        say(format!("{verb} {what}: step {} of {steps}", self.start));
        self.bar = Some(Bar::new("train", steps, self.start));
        self.since = (Instant::now(), 0, 0);
        self.signals = Some(Signals::listen()?);
        Ok(true)
    }

    /// The variables that hold the weights.
    pub fn store(&self) -> &VarStore {
        &self.store
    }

    /// The end of a training that went well: a signal that came after its last step ends the process here.
    pub fn close(mut self) {
        self.bar = None;
        if let Some(signals) = self.signals.take() {
            signals.close();
        }
    }
}
