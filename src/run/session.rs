//! What surrounds every training loop: the run folder and its lock, resuming, the log, the watch over collapse and
//! non-finite numbers, checkpoints. The loop itself is the paper's and stays in its file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tch::{Tensor, nn::VarStore};

use super::checkpoint;
use super::config::Config;
use super::folder::{Log, RunFolder};
use super::machine::Machine;
use super::progress::{Bar, say};
use super::watch::{Finite, Reading, Watch};
use crate::collectives::World;
use crate::optim::Optimizer;
use crate::transfer::peak_memory;

/// Which run, where, how long, and how often it speaks.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The binary, e.g. `triplet-reid`.
    pub paper: &'a str,
    /// The run folder.
    pub at: &'a Path,
    /// Where it computes.
    pub machine: &'a Machine,
    /// Steps in all.
    pub steps: u64,
    /// Steps between two log lines; the last step has one always.
    pub log_every: u64,
}

/// A training run at work in its folder.
#[derive(Debug)]
pub struct Session {
    /// Tensors that the checkpoint carried beside weights and optimiser, by name.
    pub extra: BTreeMap<String, Tensor>,
    at: PathBuf,
    world: World,
    config: Config,
    /// None in processes beside the one that writes.
    writes: Option<Writes>,
    steps: u64,
    log_every: u64,
    checkpoint_every: u64,
    start: u64,
    watch: Watch,
    finite: Finite,
    bar: Option<Bar>,
    /// The step of the newest checkpoint, 0 for none, and when it was written.
    kept: (u64, Instant),
    /// Since the last log line: when it was, images since.
    since: (Instant, i64),
}

/// What one process writes for all.
#[derive(Debug)]
struct Writes {
    folder: RunFolder,
    log: Log,
    timing: Log,
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

impl Session {
    /// Opens the plan's folder with `flags` (what config.json holds), or goes on from its checkpoint: weights into
    /// `store`, state into `optimizer`. `begin` prepares the weights of a run that has no checkpoint yet (ImageNet's,
    /// say); where it errors, the folder is not claimed. Other flags than the folder's own are an error.
    ///
    /// With several processes the first one alone touches the folder and prepares weights; the others are told.
    pub fn open(
        plan: Plan<'_>,
        flags: &impl Serialize,
        store: &mut VarStore,
        optimizer: &mut Optimizer,
        begin: impl FnOnce(&VarStore) -> Result<()>,
    ) -> Result<Session> {
        let Plan { paper, at, machine, steps, log_every } = plan;
        let world = machine.world.clone();
        let mut config = Config::new(paper, flags, &machine.name)?;
        config.machine.insert("processes".into(), world.size().into());
        config.machine.insert("sync-batch-norm".into(), machine.sync_batch_norm.into());
        config.machine.insert("tf32".into(), machine.tf32.into());
        world.agree("flags: give every process the same ones", &config.flags)?;
        let (mut writes, mut start, mut watch, mut extra) = (None, 0, Watch::default(), BTreeMap::new());
        if world.leads() {
            if !checkpoint::exists(at) {
                begin(store)?;
            }
            // Only now: a start that was refused leaves no claim on the folder.
            let folder = RunFolder::open(at)?;
            config.write_or_match(at)?;
            let mut log_length = 0;
            if let Some(loaded) = checkpoint::load(at, &config, store, Some(optimizer))? {
                loaded.note.iter().for_each(say);
                watch = serde_json::from_str(&loaded.progress.carried)
                    .context("the checkpoint's watch does not fit: train into another --run")?;
                (start, log_length, extra) = (loaded.progress.step, loaded.progress.log, loaded.extra);
            }
            let log = Log::open(&folder.file("log.jsonl"), log_length)?;
            // Never cut back: a clock is no function of the run.
            let timing = folder.file("timing.jsonl");
            let timing = Log::open(&timing, timing.metadata().map_or(0, |data| data.len()))?;
            writes = Some(Writes { folder, log, timing });
        }
        if world.size() > 1 {
            let normalises = store.variables().keys().any(|name| name.ends_with("running_var"));
            if normalises && !machine.sync_batch_norm {
                say(
                    "note: batch normalisation sees each process's share of a batch alone; --sync-batch-norm makes it see all rows",
                );
            }
            start = world.told(&start)?;
            world.share_variables(store)?;
            let state = world.told_tensors(optimizer.state())?;
            let fits = optimizer.load_state(state);
            fits.map_err(|name| anyhow!("the optimiser's {name} does not fit: give every process the same flags"))?;
            extra = world.told_tensors(extra.into_iter().collect())?.into_iter().collect();
        }
        Ok(Session {
            extra,
            at: at.to_path_buf(),
            world,
            config,
            writes,
            steps,
            log_every: log_every.max(1),
            checkpoint_every: machine.checkpoint_every,
            start,
            watch,
            finite: Finite::new(machine.device),
            bar: None,
            kept: (start, Instant::now()),
            since: (Instant::now(), 0),
        })
    }

    /// The step to go on from; as many steps are done.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Says what is about to be trained (`what`: network, data, batch) or that nothing is left to do, which it
    /// returns as false.
    pub fn announce(&mut self, what: &str) -> bool {
        let steps = self.steps;
        if self.start >= steps {
            say(format!("{} is trained already ({} steps)", self.at.display(), self.start));
            return false;
        }
        let verb = if self.start > 0 { "resuming" } else { "training" };
        say(format!("{verb} {what}: step {} of {steps}", self.start));
        self.bar = Some(Bar::new("train", steps, self.start));
        self.since = (Instant::now(), 0);
        true
    }

    /// Whether the log takes a line at `step`: only then may a loop compute what makes it wait for a GPU.
    pub fn logs(&self, step: u64) -> bool {
        step.is_multiple_of(self.log_every) || step + 1 == self.steps
    }

    /// Takes note of a finished step: the bar, the log line that `line` gives where one is due (an object; its
    /// "mean" and "active" go beside the bar, and the reading, where there is one, to the watch), a checkpoint with
    /// the tensors that `extra` gives where one is due. Errors on a loss or weight that is not finite.
    pub fn after(
        &mut self,
        done: Done<'_>,
        line: impl FnOnce() -> (Value, Option<Reading>),
        store: &VarStore,
        optimizer: &Optimizer,
        extra: impl FnOnce() -> Vec<(String, Tensor)>,
    ) -> Result<()> {
        let Done { step, loss, images, waited } = done;
        // Every process has the same loss; the first one speaks and writes for all.
        let due = self.logs(step);
        let Some(writes) = &mut self.writes else { return Ok(()) };
        self.finite.note(loss);
        self.since.1 += images;
        if let Some(bar) = &mut self.bar {
            bar.step(1);
        }
        if due {
            self.finite.check(step, &kept(self.kept.0, &self.at))?;
            let (line, reading) = line();
            writes.log.line(&line)?;
            if let Some(warning) = reading.and_then(|reading| self.watch.read(reading)) {
                writes.log.line(&json!({"step": step, "warning": warning}))?;
                if let Some(bar) = &mut self.bar {
                    bar.line(&format!("step {step}: {warning}"));
                }
            }
            let speed = self.since.1 as f64 / self.since.0.elapsed().as_secs_f64();
            let waited = waited.as_secs_f64();
            let mut timing = json!({"step": step, "images_per_second": speed, "loader_wait_seconds": waited});
            if let Some(bytes) = peak_memory(store.device(), false) {
                timing["gpu_peak_bytes"] = json!(bytes);
            }
            writes.timing.line(&timing)?;
            if let Some(bar) = &self.bar {
                let number = |key: &str| line.get(key).and_then(Value::as_f64);
                let loss = number("mean").or(number("loss")).unwrap_or(f64::NAN);
                let active =
                    number("active").map_or_else(String::new, |share| format!("active {:.0}%  ", 100. * share));
                bar.message(format!("loss {loss:.4}  {active}{speed:.0} images/s"));
            }
            self.since = (Instant::now(), 0);
        }
        let count = step + 1;
        let due = count.is_multiple_of(self.checkpoint_every) || self.kept.1.elapsed().as_secs() >= 120;
        if due || count == self.steps {
            self.checkpoint(count, store, optimizer, &extra())?;
        }
        Ok(())
    }

    /// Writes a checkpoint of `count` finished steps now; for a change of stage, say.
    pub fn checkpoint(
        &mut self,
        count: u64,
        store: &VarStore,
        optimizer: &Optimizer,
        extra: &[(String, Tensor)],
    ) -> Result<()> {
        let Some(writes) = &mut self.writes else { return Ok(()) };
        let (last, safe) = (count.saturating_sub(1), kept(self.kept.0, &self.at));
        self.finite.check(last, &safe)?;
        self.finite.check_weights(store, last, &safe)?;
        let carried = serde_json::to_string(&self.watch)?;
        let progress = checkpoint::Progress::new(count, writes.log.sync()?, carried, &self.config);
        checkpoint::save(&writes.folder, store, optimizer, extra, &progress)?;
        self.kept = (count, Instant::now());
        Ok(())
    }

    /// The processes at this run.
    pub fn world(&self) -> &World {
        &self.world
    }
}

/// What is safe, for an error's text.
fn kept(step: u64, at: &Path) -> String {
    match step {
        0 => "no checkpoint had been written yet".to_string(),
        step => format!("the checkpoint of step {step} in {} is kept", at.display()),
    }
}

/// A trained run: its flags, network and steps done.
#[derive(Debug)]
pub struct Trained<H, N> {
    /// The flags of its config.json.
    pub flags: H,
    /// Holds the weights.
    pub store: VarStore,
    /// What `network` built.
    pub network: N,
    /// Steps done.
    pub step: u64,
    /// The tensors that the checkpoint carried beside the weights.
    pub extra: BTreeMap<String, Tensor>,
}

/// Loads the run of `paper` at `at`: `network` builds the network from the flags, in inference use. Errors where
/// there is no run, no checkpoint, or the run is another paper's.
pub fn load<H: DeserializeOwned, N>(
    paper: &str,
    at: &Path,
    machine: &Machine,
    network: impl FnOnce(&H, &VarStore) -> Result<N>,
) -> Result<Trained<H, N>> {
    let world = &machine.world;
    let own = if world.leads() { Some(Config::read(at)?) } else { None };
    let config = world.told(&own)?.context("process 0 found no run")?;
    anyhow::ensure!(
        config.paper == paper,
        "{} is a run of {}: say {} instead",
        at.display(),
        config.paper,
        config.paper
    );
    let flags: H = config.flags()?;
    let mut store = VarStore::new(machine.device);
    let network = network(&flags, &store)?;
    let (mut step, mut extra) = (0, BTreeMap::new());
    if world.leads() {
        let loaded = checkpoint::load(at, &config, &mut store, None)?
            .with_context(|| format!("{} has no checkpoint yet: train it first", at.display()))?;
        loaded.note.iter().for_each(say);
        (step, extra) = (loaded.progress.step, loaded.extra);
    }
    if world.size() > 1 {
        step = world.told(&step)?;
        world.share_variables(&store)?;
        extra = world.told_tensors(extra.into_iter().collect())?.into_iter().collect();
    }
    Ok(Trained { flags, store, network, step, extra })
}
