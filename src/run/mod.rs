//! A run on disk: its folder, configuration, log, checkpoints and watch.
//!
//! `config.json` (every flag, versions, device), `log.jsonl` (a line a logged step: a function of the flags and the
//! data alone), `timing.jsonl` (what the clock said at the same steps), `checkpoint.safetensors` and the one before
//! it, `best.safetensors` (the best by the scores of `--score-every`), `photos.csv.gz` (the training data), `results.json`, `report.html`, `model.pt`.

pub mod board;
pub mod cached;
pub mod checkpoint;
pub mod config;
pub mod folder;
pub mod history;
pub mod photos;
pub mod scores;
pub mod session;
pub mod stats;
pub mod stop;
pub mod watch;

use tch::{Tensor, nn::VarStore};

use crate::collectives::World;
use crate::device::{autocast, machine::Machine};

/// How a run computes, and the seed that everything random of it follows from.
#[derive(Debug, Clone)]
pub struct Run {
    /// Where it computes, and the processes at it.
    pub machine: Machine,
    /// From what all that is random in it follows (`--seed`).
    pub seed: u64,
    /// Whether networks compute in bfloat16 (`--amp`).
    pub amp: bool,
}

impl Run {
    /// The seed of what is called `name`.
    pub fn seed(&self, name: &str) -> u64 {
        crate::seed::named(self.seed, name)
    }

    /// The processes at this run.
    pub fn world(&self) -> &World {
        &self.machine.world
    }

    /// Whether this process writes and speaks for all.
    pub fn leads(&self) -> bool {
        self.machine.world.leads()
    }

    /// An empty store on the run's device.
    pub fn store(&self) -> VarStore {
        VarStore::new(self.machine.device)
    }

    /// `pass` in bfloat16 where the run asks for it: meant around the network alone.
    pub fn autocast(&self, pass: impl FnOnce() -> Tensor) -> Tensor {
        autocast(self.amp, self.machine.device, pass)
    }
}
