//! Where and how a run computes: the flags that every binary has, and what they come to.

use anyhow::{Result, bail};
use tch::Device;

use super::progress::say;

/// Flags that change where a run computes, never what.
#[derive(Debug, Clone, clap::Args)]
pub struct MachineFlags {
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Image loader threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Save a checkpoint every N steps (and every two minutes, and at the end)
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_every: u64,
}

/// What [`MachineFlags`] come to on this machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Where tensors live.
    pub device: Device,
    /// Its name, e.g. `cuda:0`.
    pub name: String,
    /// Loader threads.
    pub workers: usize,
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
}

impl MachineFlags {
    /// The device there is, said in the first line. Errors where the wished one is not there.
    pub fn resolve(&self) -> Result<Machine> {
        let (device, name) = super::device::resolve(&self.device)?;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        if let Some(workers) = self.workers.filter(|workers| !(1..=256).contains(workers)) {
            bail!("--workers {workers}: say 1 to 256");
        }
        say(format!("device: {name}, {} threads", tch::get_num_threads()));
        Ok(Machine { device, name, workers: self.workers.unwrap_or(cores), checkpoint_every: self.checkpoint_every })
    }
}
