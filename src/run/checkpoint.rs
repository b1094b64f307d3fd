//! Checkpoints: everything that the next step depends on, in one `.safetensors`, written atomically, the one before
//! kept beside it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use tch::{Tensor, nn::VarStore};

use serde_json::Value;

use super::config::Config;
use super::folder::RunFolder;
pub use super::folder::{BEFORE, NEWEST, trained as exists};
use crate::optim::Optimizer;

/// What is known beside the tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Length of `log.jsonl` then, in bytes.
    pub log: u64,
    /// Anything small that the paper's loop carries along (e.g. the state of the watch), as JSON.
    pub carried: String,
    /// The flags of the run, as JSON: weights and configuration must belong together.
    pub flags: String,
}

impl Progress {
    /// After `step` steps of the run that `config` describes.
    pub fn new(step: u64, log: u64, carried: String, config: &Config) -> Progress {
        Progress { step, log, carried, flags: flags_of(config) }
    }
}

fn flags_of(config: &Config) -> String {
    Value::Object(config.flags.clone()).to_string()
}

/// Whole, but of other flags than its run's configuration: no damage that an older checkpoint would mend.
#[derive(Debug)]
struct Disagree(String);

impl std::fmt::Display for Disagree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} was trained with other flags than the config.json beside it says: restore config.json, or choose another --run",
            self.0
        )
    }
}

impl std::error::Error for Disagree {}

/// Saves weights, optimiser state, `extra` tensors and `progress`. The checkpoint that was newest becomes the one
/// before; at every moment at least one whole checkpoint is on disk.
pub fn save(
    folder: &RunFolder,
    store: &VarStore,
    optimizer: &Optimizer,
    extra: &[(String, Tensor)],
    progress: &Progress,
) -> Result<()> {
    let mut tensors: Vec<(String, Tensor)> =
        store.variables().into_iter().map(|(name, x)| (format!("model.{name}"), x)).collect();
    tensors.extend(optimizer.state().into_iter().map(|(name, x)| (format!("optimizer.{name}"), x)));
    tensors.extend(extra.iter().map(|(name, x)| (format!("extra.{name}"), x.shallow_clone())));
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    // One entry: the format orders several at random, and a checkpoint's bytes are a function of the run.
    let metadata = HashMap::from([("progress".to_string(), serde_json::to_string(progress)?)]);
    let (newest, before) = (folder.file(NEWEST), folder.file(BEFORE));
    let fresh = folder.file(".checkpoint.fresh.safetensors");
    crate::weights::save(&fresh, &tensors, Some(metadata))?;
    let shift = || -> std::io::Result<()> {
        if newest.exists() {
            std::fs::rename(&newest, &before)?;
        }
        std::fs::rename(&fresh, &newest)
    };
    shift().with_context(|| {
        format!(
            "cannot write {}: free space or make the folder writable, and start the same command again",
            newest.display()
        )
    })
}

/// What [`load`] found.
#[derive(Debug)]
pub struct Resumed {
    /// Steps, log length, what was carried.
    pub progress: Progress,
    /// The `extra` tensors by name.
    pub extra: BTreeMap<String, Tensor>,
    /// Said where the newest checkpoint could not be read and the one before it was taken.
    pub note: Option<String>,
}

/// Loads the newest checkpoint of `run` into the store and, where given, the optimiser. None where there is none. A
/// checkpoint of other flags than `config` is an error; a
/// damaged newest one falls back to the one before, and says so; two damaged ones are an error.
pub fn load(
    run: &Path,
    config: &Config,
    store: &mut VarStore,
    mut optimizer: Option<&mut Optimizer>,
) -> Result<Option<Resumed>> {
    let mut damaged: Option<anyhow::Error> = None;
    for name in [NEWEST, BEFORE] {
        let path = run.join(name);
        if !path.exists() {
            continue;
        }
        match load_one(&path, config, store, optimizer.as_deref_mut()) {
            Err(error) if error.is::<Disagree>() => return Err(error),
            Ok(mut loaded) => {
                loaded.note = damaged
                    .map(|error| format!("{error:#}; going on from {}, step {}", path.display(), loaded.progress.step));
                return Ok(Some(loaded));
            }
            Err(error) => damaged = damaged.or(Some(error)),
        }
    }
    match damaged {
        None => Ok(None),
        Some(error) => {
            Err(error.context(format!("no whole checkpoint in {}: train again into another --run", run.display())))
        }
    }
}

fn load_one(path: &Path, config: &Config, store: &mut VarStore, optimizer: Option<&mut Optimizer>) -> Result<Resumed> {
    let (tensors, metadata) = crate::weights::read_safetensors(path)?;
    let progress = metadata.get("progress").and_then(|text| serde_json::from_str(text).ok());
    let progress: Progress = progress.with_context(|| format!("{} is no checkpoint", path.display()))?;
    if progress.flags != flags_of(config) {
        return Err(Disagree(path.display().to_string()).into());
    }
    let (mut model, mut state, mut extra) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    for (name, tensor) in tensors {
        match name.split_once('.') {
            Some(("model", rest)) => drop(model.insert(rest.to_string(), tensor)),
            Some(("optimizer", rest)) => state.push((rest.to_string(), tensor)),
            Some(("extra", rest)) => drop(extra.insert(rest.to_string(), tensor)),
            _ => bail!("{} is no checkpoint (it has {name:?})", path.display()),
        }
    }
    // Checked whole before anything is changed.
    let variables = store.variables();
    for (name, x) in &variables {
        match model.get(name) {
            Some(saved) if saved.size() == x.size() => {}
            Some(saved) => {
                bail!("{}: {name} is {:?} there and {:?} in this network", path.display(), saved.size(), x.size())
            }
            None => bail!("{}: {name} is missing", path.display()),
        }
    }
    if let Some(name) = model.keys().find(|name| !variables.contains_key(*name)) {
        bail!("{}: {name} is not in this network", path.display());
    }
    tch::no_grad(|| variables.into_iter().for_each(|(name, mut x)| x.copy_(&model[&name])));
    if let Some(optimizer) = optimizer {
        optimizer
            .load_state(state)
            .map_err(|name| anyhow!("{}: the optimiser's {name} does not fit", path.display()))?;
    }
    Ok(Resumed { progress, extra, note: None })
}
