//! A session begun, or gone on with from its checkpoint; and a run's weights alone.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tch::nn::VarStore;

use super::super::board::Board;
use super::super::checkpoint::{self, Fingerprint};
use super::super::config::{self, BEGUN_FROM, Config};
use super::super::folder::{Log, Mark, NEWEST, RESULTS, RunFolder};
use super::super::history;
use super::super::watch::{Finite, Watch};
use super::after::LEFT_OUT;
use super::{Session, Setup, Writes};
use crate::collectives::World;
use crate::device::machine::Machine;
use crate::optim::Optimizer;
use crate::say::{note, say};

impl<'a> Session<'a> {
    /// Opens the plan's folder, or goes on from its checkpoint: weights into `store`, state into the optimiser. `begin`
    /// prepares the weights of a run that has no checkpoint yet (ImageNet's, say) and gives the hashes of the files that they are of,
    /// which the configuration keeps; where it errors, the folder is not claimed. Other flags than the folder's own are an error.
    ///
    /// With several processes the first one alone touches the folder and prepares weights; the others are told.
    pub fn open(
        setup: Setup<'_>,
        machine: &Machine,
        mut store: VarStore,
        begin: impl FnOnce(&VarStore) -> Result<Vec<String>>,
    ) -> Result<Session<'a>> {
        let Setup { mut config, at, steps, log_every, rule, weight_decay, trial } = setup;
        let world = machine.world.clone();
        let mut optimizer = Optimizer::new(rule, weight_decay, &store);
        config.machine.insert("steps".into(), steps.into());
        config.machine.insert("processes".into(), world.size().into());
        config.machine.insert("sync-batch-norm".into(), machine.training.sync_batch_norm.into());
        config.machine.insert("tf32".into(), machine.tf32.into());
        config.machine.insert("skip-unreadable".into(), machine.skip_unreadable.into());
        config.machine.insert("score-every".into(), machine.training.score_every.into());
        config.machine.insert(EVERY.into(), machine.training.checkpoint_every.into());
        config::agree(&world, &config.flags)?;
        let normalises = store.variables().keys().any(|name| name.ends_with("running_var"));
        ensure!(
            normalises || !machine.training.sync_batch_norm,
            "--sync-batch-norm: this network has no batch normalisation: leave it out"
        );
        let (mut writes, mut start, mut watch, mut extra) = (None, 0, Watch::default(), BTreeMap::new());
        if world.leads() {
            if !checkpoint::exists(at) {
                let from = begin(&store)?;
                if !from.is_empty() {
                    config.machine.insert(BEGUN_FROM.into(), from.into());
                }
            }
            // Only now: a start that was refused leaves no claim on the folder.
            let folder = RunFolder::open(at)?;
            if config.write_or_match(at)? {
                let begun = Config::read(at)?;
                if !checkpoint::exists(at) {
                    let lost = lost(at, &begun, machine.training.checkpoint_every)?;
                    lost.map_or(Ok(()), |lost| Err(anyhow!("{} has {lost}", at.display())))?;
                    say(format!("note: {} has no checkpoint: it starts again from step 0", at.display()));
                }
                // Its checkpoints know the flags as they were typed first, and of the data what was known then.
                (config.flags, config.data) = (begun.flags, begun.data);
            }
            let mut mark = Mark::default();
            if let Some(loaded) = checkpoint::load(at, &config, &mut store, Some(&mut optimizer))? {
                loaded.note.iter().for_each(say);
                watch = serde_json::from_str(&loaded.progress.carried)
                    .context("the checkpoint's watch does not fit: train into another --run")?;
                (start, mark, extra) = (loaded.progress.step, loaded.progress.log, loaded.extra);
            }
            let log = Log::open(&folder.file("log.jsonl"), Some(&mark))?;
            // Never cut back: a clock is no function of the run.
            let timing = Log::open(&folder.file("timing.jsonl"), None)?;
            let board = machine.training.tensorboard.then(|| Board::open(at)).transpose()?;
            writes = Some(Writes { folder, log, timing, board });
        }
        if !world.is_alone() {
            if normalises && !machine.training.sync_batch_norm {
                note(
                    "batch normalisation sees each process's share of a batch alone; --sync-batch-norm makes it see all rows",
                );
            }
            start = world.told(&start)?;
            world.share_variables(&store)?;
            let state = world.told_tensors(optimizer.state())?;
            let fits = optimizer.load_state(state);
            fits.map_err(|name| anyhow!("the optimiser's {name} does not fit: give every process the same flags"))?;
            extra = world.told_tensors(extra.into_iter().collect())?.into_iter().collect();
        }
        let before = extra.remove(LEFT_OUT).map(Vec::<i64>::try_from).transpose()?;
        let left_out = machine.skip_unreadable.then(|| before.into_iter().flatten().collect());
        Ok(Session {
            extra,
            left_out,
            at: at.to_path_buf(),
            graph: (machine.graphs && world.is_alone(), None, None),
            world,
            config,
            rule: (rule, weight_decay),
            optimizer,
            gradients: OnceCell::new(),
            writes,
            steps,
            log_every: log_every.max(1),
            checkpoint_every: machine.training.checkpoint_every,
            start,
            watch,
            finite: Finite::new(machine.device),
            bar: None,
            signals: None,
            listen: (Instant::now(), start, start),
            kept: (start, Instant::now()),
            since: (Instant::now(), 0, 0),
            notes: Vec::new(),
            scores: None,
            trial: trial.then(Vec::new),
            trainable: store.variables().into_iter().filter(|(_, x)| x.requires_grad()).collect(),
            store,
        })
    }
}

/// Under which name the machine's table has how many steps lie between two checkpoints, at most.
pub(crate) const EVERY: &str = "checkpoint-every";

/// Why the run at `at`, which was begun as `config` says and has no checkpoint, is not begun anew with one every so many steps:
/// where there was one, log and best weights may be all that its user kept. None where it may be.
///
/// # Errors
/// Where its log cannot be read.
pub(crate) fn lost(at: &Path, config: &Config, every: u64) -> Result<Option<String>> {
    let log = history::lines(&at.join("log.jsonl"))?;
    let to = log.iter().filter_map(|line| line["step"].as_u64()).max().map_or(0, |last| last.saturating_add(1));
    let run = if config.flags.contains_key("part") { at.parent().unwrap_or(at) } else { at };
    // An older version did not say how often it saved one.
    let tells = match config.machine.get(EVERY).and_then(Value::as_u64) {
        Some(then) if to > then.max(every) => format!("its log goes on to step {to}"),
        _ if run.join(RESULTS).exists() => format!("{RESULTS} is of one"),
        _ => return Ok(None),
    };
    Ok(Some(format!("no checkpoint, though {tells}: restore {NEWEST}, or train into another --run")))
}

/// Loads the weights of the run at `at` into `store`, the `best` or the newest, and says which they are, and of which file. Errors
/// where there is no checkpoint. Of several processes the first one reads.
pub fn load(
    at: &Path,
    config: &Config,
    store: &mut VarStore,
    best: bool,
    world: &World,
) -> Result<(Fingerprint, PathBuf)> {
    let mut known = None;
    if world.leads() && best {
        let loaded = checkpoint::load_best(at, config, store)?;
        known = Some((loaded.known, loaded.file));
    } else if world.leads() {
        // Of a part too, which no one has read yet.
        checkpoint::exists(at).then(|| Config::read(at)).transpose()?;
        let loaded = checkpoint::load(at, config, store, None)?
            .with_context(|| format!("{} has no checkpoint yet: train it first", at.display()))?;
        loaded.note.iter().for_each(say);
        let behind = checkpoint::behind(&loaded.file, &loaded.progress, config);
        behind.filter(|_| loaded.note.is_none()).iter().for_each(note);
        known = Some((loaded.known, loaded.file));
    }
    if !world.is_alone() {
        known = world.told(&known)?;
        world.share_variables(store)?;
    }
    known.context("process 0 found no checkpoint")
}
