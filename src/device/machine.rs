//! Where and how a run computes: the flags that every binary has, and what they come to.

use std::error::Error;
use std::io;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tch::Device;

use crate::collectives::{PATIENCE, World};
use crate::headings::Heading;
use crate::models::layers;
use crate::say::{self, say};

/// Flags that change where a run computes, never what.
#[derive(Debug, Clone, clap::Args)]
pub struct MachineFlags {
    /// auto, cpu, cuda or cuda:N
    #[arg(long, help_heading = Heading::Machine, default_value = "auto")]
    pub device: String,
    /// Image loader threads [default: one a core]
    #[arg(long, help_heading = Heading::Machine, value_name = "N", value_parser = crate::bounds::within(1..=256_usize))]
    pub workers: Option<usize>,
    /// On a GPU: products and convolutions of f32 in TF32, with 10 bits of fraction (faster; other digits)
    #[arg(long, help_heading = Heading::Machine)]
    pub tf32: bool,
    /// On a GPU: the same bits in every run, where libtorch has such kernels (slower: no search for the fastest ones)
    #[arg(long, help_heading = Heading::Machine)]
    pub deterministic: bool,
}

/// Those of work that several processes can share.
#[derive(Debug, Clone, clap::Args)]
pub struct SharedFlags {
    /// Where and how each computes.
    #[command(flatten)]
    pub place: MachineFlags,
    /// With several processes: one that was not heard of for so long is gone, and all end.
    #[arg(long, help = format!("With several processes: one that was not heard of for so long is gone, and all end [default: {}]", PATIENCE.as_secs()), help_heading = Heading::Machine, value_name = "SECONDS", value_parser = crate::bounds::within(3..=86_400_u64))]
    pub patience: Option<u64>,
}

/// Those of a training.
#[derive(Debug, Clone, clap::Args)]
pub struct TrainingFlags {
    /// Where and how it computes, and with whom.
    #[command(flatten)]
    pub shared: SharedFlags,
    /// How it is kept, scored and computed.
    #[command(flatten)]
    pub training: TrainingOptions,
}

/// Those of a training alone; all off where nothing is trained.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TrainingOptions {
    /// Save a checkpoint every N steps (and every two minutes, and at the end)
    #[arg(long, help_heading = Heading::Machine, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_every: u64,
    /// Score the network every STEPS steps on what is held out for that, and keep the best as best.safetensors: evaluate --run DIR --best then takes it
    #[arg(long, help_heading = Heading::Machine, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub score_every: Option<u64>,
    /// Train without the photos that cannot be used, with others in their places; the log counts them
    #[arg(long, help_heading = Heading::Machine)]
    pub skip_unreadable: bool,
    /// Go on though the training photos, or their labels, are not those that the run was begun with; its scores say so
    #[arg(long, help_heading = Heading::Machine)]
    pub data_changed: bool,
    /// On a GPU: launch each operation by itself, not a whole step as one CUDA graph, as triplet-reid does
    #[arg(long, help_heading = Heading::Machine)]
    pub no_graph: bool,
    /// Also write TensorBoard's event file into the run folder: tensorboard --logdir data/runs then shows the run
    #[arg(long, help_heading = Heading::Machine)]
    pub tensorboard: bool,
    /// With several processes: batch normalisation over the rows of all of them, not over each one's share
    #[arg(long, help_heading = Heading::Machine)]
    pub sync_batch_norm: bool,
}

impl TrainingFlags {
    /// As [`MachineFlags::resolve`].
    pub fn resolve(&self) -> Result<Machine> {
        let machine = self.shared.place.resolve()?;
        self.shared.with_others(false)?;
        self.completed(machine)
    }

    /// As [`SharedFlags::resolve_world`].
    pub fn resolve_world(&self) -> Result<Machine> {
        self.completed(self.shared.resolve_world()?)
    }

    fn completed(&self, machine: Machine) -> Result<Machine> {
        let (place, of) = (&self.shared.place, &self.training);
        let alike = (of.sync_batch_norm, place.tf32, place.deterministic, of.skip_unreadable, of.score_every);
        let asked = "--sync-batch-norm, --tf32, --deterministic, --skip-unreadable and --score-every: give every process the same";
        machine.world.agree(asked, &alike)?;
        if of.sync_batch_norm {
            if machine.world.is_alone() {
                bail!("--sync-batch-norm: there is one process only: leave it out, or start several (torchrun)");
            }
            let world = machine.world.clone();
            // A forward pass has no way to say that another process is gone.
            layers::synchronise_batch_norm(move |x| {
                world.sum_with_grad(x).unwrap_or_else(|error| crate::collectives::fall(&crate::say::one_line(&error)))
            });
        }
        let gpu = machine.device.is_cuda();
        if of.no_graph && (!gpu || place.deterministic || !machine.world.is_alone()) {
            bail!(
                "--no-graph: without a GPU, with --deterministic and with several processes there are no graphs: leave it out"
            );
        }
        // A resumed run begins without a graph, whose kernels cuBLAS may choose otherwise.
        let graphs = gpu && !of.no_graph && !place.deterministic;
        Ok(Machine { skip_unreadable: of.skip_unreadable, graphs, training: of.clone(), ..machine })
    }
}

unsafe extern "C" {
    fn rankle_cuda_modes(index: i32, tf32: i32, deterministic: i32) -> i32;
    fn rankle_cuda_memory(index: i32) -> i64;
}

/// Makes GPU `index` the one that is meant where none is named, and sets how the process's GPUs compute: products and
/// convolutions of f32 in TF32 or whole; the same bits in every run or the fastest kernels.
///
/// # Errors
/// Where there is no such GPU.
pub fn cuda_modes(index: usize, tf32: bool, deterministic: bool) -> Result<()> {
    // SAFETY: sets switches of libtorch's; no pointers.
    if unsafe { rankle_cuda_modes(index as i32, tf32.into(), deterministic.into()) } != 0 {
        bail!("libtorch refuses to set how its GPU computes: leave --tf32 and --deterministic out");
    }
    Ok(())
}

/// What [`MachineFlags`] come to on this machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Where tensors live.
    pub device: Device,
    /// Its name, e.g. `cuda:0`.
    pub name: String,
    /// How many threads load photos.
    pub workers: usize,
    /// The processes at this run.
    pub world: World,
    /// What is asked of a training.
    pub training: TrainingOptions,
    /// Whether photos that cannot be used are left out, of a training or of what its network is used for.
    pub skip_unreadable: bool,
    /// Whether a GPU's f32 products are in TF32.
    pub tf32: bool,
    /// Whether a training step may be one CUDA graph.
    pub graphs: bool,
}

/// How many rows of a batch, each of `row` bytes, fit two fifths of `memory` bytes: the rest is for weights, the gradients
/// of a layer, workspaces and what lies in pieces. A multiple of 64; 32 at least.
pub fn rows_that_fit(memory: u64, row: u64) -> usize {
    ((memory / 5 * 2 / row.max(1) / 64 * 64) as usize).max(32)
}

/// Errors where the system does not give so many threads more, all at once; they end again.
fn try_threads(count: usize) -> io::Result<()> {
    let mut held = Vec::new();
    let tried: io::Result<()> = (0..count).try_for_each(|_| {
        let (end, wait) = channel::<()>();
        held.push((
            end,
            thread::Builder::new().spawn(move || {
                let _ = wait.recv();
            })?,
        ));
        Ok(())
    });
    for (end, thread) in held {
        drop(end);
        let _ = thread.join();
    }
    tried
}

impl Machine {
    /// As [`rows_that_fit`] the memory of the GPU that this machine computes on; None on a CPU.
    pub fn rows(&self, row: u64) -> Option<usize> {
        let Device::Cuda(index) = self.device else { return None };
        // SAFETY: takes and returns numbers.
        let memory = u64::try_from(unsafe { rankle_cuda_memory(index as i32) }).ok()?;
        Some(rows_that_fit(memory, row))
    }

    /// Where a network of images works, in which layout and, with `--amp`, in which type: for a run's first line.
    pub fn for_images(&self, amp: bool) -> String {
        format!("{}, channels_last{}", self.name, if amp { ", bfloat16" } else { "" })
    }
}

impl SharedFlags {
    /// As [`MachineFlags::resolve`], for work that several processes can share: meets the others where the environment
    /// speaks of them.
    pub fn resolve_world(&self) -> Result<Machine> {
        self.with_others(World::is_wanted()?)?;
        let (rank, count) = World::local()?;
        let (device, name) = super::resolve_local(&self.place.device, rank)?;
        let modes = self.place.modes(device)?;
        let patience = self.patience.map_or(PATIENCE, Duration::from_secs);
        self.place.found(World::join(device, patience)?, (device, name), modes, count)
    }

    /// Refuses what one process has no use for.
    fn with_others(&self, others: bool) -> Result<()> {
        if let (Some(seconds), false) = (self.patience, others) {
            bail!("--patience {seconds}: there is one process only: leave it out, or start several (torchrun)");
        }
        Ok(())
    }
}

impl MachineFlags {
    /// The device there is, said in the first line, for the work of one process. Errors where the wished one is not
    /// there, and where the environment speaks of several processes.
    pub fn resolve(&self) -> Result<Machine> {
        if World::is_wanted()? {
            bail!("this verb takes one process: start it without torchrun, or unset WORLD_SIZE");
        }
        let (device, name) = super::resolve(&self.device)?;
        let modes = self.modes(device)?;
        self.found(World::alone(), (device, name), modes, 1)
    }

    /// Sets how a GPU computes, and how to say it.
    fn modes(&self, device: Device) -> Result<&'static str> {
        let Device::Cuda(index) = device else {
            for (flag, on) in [("--tf32", self.tf32), ("--deterministic", self.deterministic)] {
                if on {
                    bail!("{flag}: this run computes on a CPU, where it changes nothing: leave it out");
                }
            }
            return Ok("");
        };
        cuda_modes(index, self.tf32, self.deterministic)?;
        Ok(match (self.tf32, self.deterministic) {
            (false, false) => " (f32; --tf32 is faster)",
            (true, false) => " (TF32)",
            (false, true) => " (f32, deterministic; --tf32 is faster)",
            (true, true) => " (TF32, deterministic)",
        })
    }

    fn found(&self, world: World, place: (Device, String), modes: &str, count: usize) -> Result<Machine> {
        let (device, name) = place;
        let refused = |what: &str, cause: &dyn Error| {
            anyhow!(
                "cannot start {what}: {cause}: raise the limit on processes (ulimit -u), or say RAYON_NUM_THREADS=1 OMP_NUM_THREADS=1 before the command and --workers 1 behind it"
            )
        };
        // Where threads cannot be had, what first asks for one would be a panic, or wait forever within OpenMP.
        if let Err(error) = rayon::ThreadPoolBuilder::new().build_global()
            && let Some(cause) = error.source()
        {
            return Err(refused("as many threads as there are cores", cause));
        }
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        // What libtorch's products were told once they keep: from the first one on, so that a resumed run rounds alike.
        tch::set_num_threads(tch::get_num_threads());
        let workers = self.workers.unwrap_or((cores / count).max(1));
        let own = tch::get_num_threads() as usize;
        try_threads(own + workers).map_err(|cause| {
            let all = own + workers;
            refused(&format!("{all} threads ({own} of OMP_NUM_THREADS, {workers} of --workers)"), &cause)
        })?;
        let several = match world.size() {
            1 => String::new(),
            size => format!(", one of {size} processes"),
        };
        let threads = say::count(own, "thread");
        say(format!("device: {name}{modes}, {threads}{several}"));
        Ok(Machine {
            device,
            name,
            workers,
            world,
            training: TrainingOptions::default(),
            skip_unreadable: false,
            tf32: self.tf32,
            graphs: false,
        })
    }
}
