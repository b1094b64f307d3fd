//! Checkpoints: everything that the next step depends on, in one `.safetensors`, written atomically, the one before
//! kept beside it. It carries a hash of itself and of the log up to it: what either became afterwards is noticed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Tensor, nn::VarStore};

use super::config::Config;
pub use super::folder::{BEFORE, NEWEST, trained as exists};
use super::folder::{Mark, RunFolder, written};
use super::history;
use super::scores::{BEST, better, logged, lost};
use super::stop::{as_argument, typed};

use crate::files;
use crate::optim::Optimizer;
use crate::say::{foreign, note, one_line, say};
use crate::weights::Named;

/// Where a newest checkpoint that could not be used is kept by a run that goes on without it.
const DAMAGED: &str = "checkpoint.damaged.safetensors";

/// What is known beside the tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How many steps were done.
    pub step: u64,
    /// `log.jsonl` then.
    pub log: Mark,
    /// Anything small that the paper's loop carries along (e.g. the state of the watch), as JSON.
    pub carried: String,
    /// Paper, flags and data of the run, as JSON: weights and configuration must belong together.
    pub run: String,
}

impl Progress {
    /// After `step` steps of the run that `config` describes.
    pub fn new(step: u64, log: Mark, carried: String, config: &Config) -> Progress {
        Progress { step, log, carried, run: config.identity() }
    }
}

/// A checkpoint as what was made from it remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// [`NEWEST`], also where it has become the one before, or [`BEST`].
    pub which: String,
    /// How many steps were done.
    pub step: u64,
    /// The hash of its content.
    pub hash: String,
}

/// The checkpoints of `run` and of its parts, by what their heads say, with their files: whether these are whole is not asked.
pub fn fingerprints(run: &Path) -> Vec<(Fingerprint, PathBuf)> {
    let parts = std::fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.path());
    let files =
        std::iter::once(run.to_path_buf()).chain(parts).flat_map(|at| [NEWEST, BEFORE, BEST].map(|name| at.join(name)));
    files.filter_map(|path| Some((head(&path)?.1, path))).collect()
}

/// What the head of a checkpoint says.
fn head(path: &Path) -> Option<(Progress, Fingerprint)> {
    let metadata = crate::weights::metadata(path)?;
    let text = |key: &str| metadata.get(key)?.as_str();
    let progress = serde_json::from_str::<Progress>(text("progress")?).ok()?;
    let (which, hash) = (text("which")?.into(), text(crate::weights::HASH)?.into());
    let known = Fingerprint { which, step: progress.step, hash };
    Some((progress, known))
}

/// What is wrong with a whole checkpoint: no damage that an older one would mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

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
    let (newest, before) = (folder.file(NEWEST), folder.file(BEFORE));
    let fresh = folder.file(".checkpoint.fresh.safetensors");
    // Of a killed process, or what is no file of ours.
    let _ = std::fs::remove_file(&fresh);
    crate::weights::save(&fresh, &tensors, Some(about(progress, NEWEST)?))?;
    let shift = || -> std::io::Result<()> {
        if newest.exists() {
            std::fs::rename(&newest, &before)?;
        }
        std::fs::rename(&fresh, &newest)
    };
    shift().map_err(|error| files::cannot(&newest, error))
}

/// Saves the weights alone, as the best so far.
pub fn save_best(folder: &RunFolder, store: &VarStore, progress: &Progress) -> Result<()> {
    let named = store.variables().into_iter().map(|(name, x)| (format!("model.{name}"), x)).collect::<BTreeMap<_, _>>();
    crate::weights::save(&folder.file(BEST), &named.into_iter().collect::<Vec<_>>(), Some(about(progress, BEST)?))
}

/// The metadata of a checkpoint: [`BEST`], or [`NEWEST`] also where it has become the one before.
fn about(progress: &Progress, which: &str) -> Result<HashMap<String, String>> {
    Ok([("progress", serde_json::to_string(progress)?), ("which", which.into())]
        .map(|(key, of)| (key.into(), of))
        .into())
}

/// The step up to which all best weights of `run` were written: of the newest checkpoint that knew its log, which is saved
/// after the weights that scored best by then. 0 where there is none.
fn settled(run: &Path) -> u64 {
    let of = |name| head(&run.join(name)).filter(|(own, _)| own.log.check(&run.join("log.jsonl")).is_ok());
    [NEWEST, BEFORE].into_iter().find_map(of).map_or(0, |(progress, _)| progress.step)
}

/// Loads the best weights of `run` into the store; errors where the log has a better score after theirs whose weights were
/// written. Where a training was killed before it could, and of weights of an older version, which knew no log, it is said.
pub fn load_best(run: &Path, config: &Config, store: &mut VarStore) -> Result<Resumed> {
    let path = run.join(BEST);
    ensure!(path.exists(), "{} has no {BEST}: train with --score-every STEPS", run.display());
    // Before the weights: a process that trains may write better ones at any time.
    let (settled, logged) = (settled(run), logged(run)?);
    let loaded = load_one(&path, config, store, None)?;
    let (file, own) = (path.display(), loaded.known.step);
    let kept = &logged[..logged.partition_point(|(step, _)| *step <= settled)];
    if loaded.progress.log == Mark::default() {
        note(format!("{file} knows no log (an older version wrote it): whether it is of this training is not checked"));
    } else if let Some(step) = better(kept, own) {
        bail!(
            "{file} is of step {own}, and the one of step {step} was better by the log: restore that, or leave out --best"
        );
    } else if let Some(step) = lost(kept, own) {
        note(format!(
            "{file} is of step {own}: the one of step {step} was better by the log, and its weights are gone"
        ));
    } else if let Some(step) = better(&logged, own) {
        note(format!(
            "{file} is of step {own}: better weights, of step {step}, are not kept yet, or training was cut off before"
        ));
    }
    Ok(loaded)
}

/// The steps that the best checkpoint of `run` had; None where there is none that is whole.
pub fn best_step(run: &Path) -> Option<u64> {
    let (_, progress, known) = sealed(&run.join(BEST)).ok()?;
    // Of a killed start, whose log was cut back to the newest checkpoint.
    progress.log.check(&run.join("log.jsonl")).ok()?;
    Some(known.step)
}

/// The step of the best checkpoint of `run` where its log is none that it knew: training went on from before it was kept.
pub fn best_cut_off(run: &Path) -> Option<u64> {
    let (progress, known) = head(&run.join(BEST))?;
    progress.log.check(&run.join("log.jsonl")).is_err().then_some(known.step)
}

/// Errors where the log of `run`, or of a part of it, or its configuration is not what its checkpoints knew, as [`load`] does.
/// What was logged after the newest one is known to none; where that is damaged it says so, and goes by the one before. Gives the
/// steps of those that it went by, by their folders.
pub fn check_logs(run: &Path) -> Result<BTreeMap<PathBuf, u64>> {
    let mut steps = BTreeMap::new();
    let whole = Config::read(run)?;
    let listed = whole.machine.get("parts").and_then(Value::as_array);
    let parts = std::fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.path());
    for at in std::iter::once(run.to_path_buf()).chain(parts).filter(|at| exists(at)) {
        let part = listed.into_iter().flatten().filter_map(Value::as_str).find(|part| at == run.join(part));
        let configs: Vec<Config> = Config::read(&at).into_iter().chain(part.map(|part| whole.part(part))).collect();
        let mut damaged = None;
        for path in [NEWEST, BEFORE].map(|name| at.join(name)).into_iter().filter(|path| path.exists()) {
            match sealed(&path) {
                Err(error) => damaged = damaged.or(Some(one_line(&error))),
                Ok((_, progress, _)) => {
                    knows(&progress, &at).map_err(|error| anyhow!("{}: {RESTORE}", one_line(&error)))?;
                    let own = configs.iter().all(|config| config.identity() == progress.run);
                    ensure!(own, "{} {OTHER}: {RESTORE}", path.display());
                    let before =
                        |wrong| format!("note: {wrong}: the checkpoint before it, of step {}, is whole", progress.step);
                    damaged.iter().for_each(|wrong| say(before(wrong)));
                    damaged = None;
                    steps.insert(at.clone(), progress.step);
                    break;
                }
            }
        }
        damaged.map_or(Ok(()), |wrong| Err(anyhow!("{wrong}: {RESTORE}")))?;
    }
    Ok(steps)
}

/// Errors where the newest checkpoint of a run, `file`, from which another one is to start, is damaged, and where the log or the
/// configuration beside it is not what it knew; says where the log goes on behind it.
pub fn check_start(file: &Path) -> Result<()> {
    let checked = || -> Result<()> {
        let at = file.parent().unwrap_or(Path::new(""));
        let ((_, progress, _), config) = (sealed(file)?, Config::read(at)?);
        knows(&progress, at)?;
        ensure!(config.identity() == progress.run, "{} {OTHER}", file.display());
        behind(file, &progress, &config).iter().for_each(note);
        Ok(())
    };
    checked()
        .map_err(|error| anyhow!("--start: {}: restore what was there, or start from another run", one_line(&error)))
}

const RESTORE: &str = "restore what was there, or train again into another --run";
/// What a checkpoint of another configuration is.
const OTHER: &str = "was trained with other flags or data than config.json says";

/// Errors where the log at `run` is not the one of `progress`, of a training that has ended to its end.
fn knows(progress: &Progress, run: &Path) -> Result<()> {
    let log = run.join("log.jsonl");
    progress.log.check(&log)?;
    let steps = Config::read(run).ok().and_then(|config| config.machine.get("steps")?.as_u64());
    let more = log.metadata().is_ok_and(|found| found.len() > progress.log.length);
    ensure!(!more || steps != Some(progress.step), "{} has more than the training wrote", log.display());
    Ok(())
}

fn sealed(path: &Path) -> Result<(Named, Progress, Fingerprint)> {
    let (tensors, mut metadata) = crate::weights::read_sealed(path)?;
    let wanted = if path.ends_with(BEST) { BEST } else { NEWEST };
    // Of an older version it says nothing.
    let which = metadata.get("which").map_or(wanted, String::as_str);
    ensure!(which == wanted, "{} is a copy of {}", path.display(), foreign(which));
    let progress = metadata.get("progress").and_then(|text| serde_json::from_str::<Progress>(text).ok());
    let progress = progress.with_context(|| format!("{} is no checkpoint", path.display()))?;
    let hash = metadata.remove(crate::weights::HASH).unwrap_or_default();
    let known = Fingerprint { which: wanted.into(), step: progress.step, hash };
    Ok((tensors, progress, known))
}

/// What [`load`] found.
#[derive(Debug)]
pub struct Resumed {
    /// Steps, log length, what was carried.
    pub progress: Progress,
    /// The checkpoint itself.
    pub known: Fingerprint,
    /// The file that it was read from.
    pub file: PathBuf,
    /// The `extra` tensors by name.
    pub extra: BTreeMap<String, Tensor>,
    /// Said where the newest checkpoint could not be read and the one before it was taken.
    pub note: Option<String>,
}

/// Of a newest checkpoint, `file`, behind which the log goes on, though no process trains the run: its training was cut off, or it
/// is an older one that was put there.
pub fn behind(file: &Path, progress: &Progress, config: &Config) -> Option<String> {
    let at = file.parent()?;
    let log = at.join("log.jsonl");
    let more = log.metadata().is_ok_and(|found| found.len() > progress.log.length);
    if !more || progress.log == Mark::default() || written(at).is_some() {
        return None;
    }
    let to = history::lines(&log).ok()?.last()?["step"].as_u64()?.saturating_add(1);
    let run = if config.flags.contains_key("part") { at.parent()? } else { at };
    let command = typed([config.paper.clone(), "report".into(), "--run".into(), as_argument(run)]);
    let (file, step) = (file.display(), progress.step);
    (to > step)
        .then(|| format!("{file} is of step {step}, and the log goes on to step {to}: {command} says how to go on"))
}

/// Loads the newest checkpoint of `run` into the store and, where given, the optimiser. None where there is none. A
/// checkpoint of other flags than `config`, or with numbers that are not finite in what is taken of it, is an error; a damaged or missing newest
/// one, or one that knew another log, falls back to the one before, and says so; two such are an error.
pub fn load(
    run: &Path,
    config: &Config,
    store: &mut VarStore,
    mut optimizer: Option<&mut Optimizer>,
) -> Result<Option<Resumed>> {
    let mut damaged: Option<anyhow::Error> = None;
    for name in [NEWEST, BEFORE] {
        let path = run.join(name);
        let other =
            optimizer.is_some().then(|| path.symlink_metadata().ok()).flatten().filter(|found| !found.is_file());
        other.map_or(Ok(()), |found| {
            bail!("{} is {}: put the file itself there, or choose another --run", path.display(), files::kind(&found))
        })?;
        if !path.exists() {
            if name == NEWEST && exists(run) {
                damaged = Some(anyhow!("{} is missing", path.display()));
            }
            continue;
        }
        match load_one(&path, config, store, optimizer.as_deref_mut()) {
            Err(error) if error.is::<Refused>() => return Err(error),
            Ok(mut loaded) => {
                if let Some(error) = damaged {
                    let from = format!("going on from {}, step {}", path.display(), loaded.progress.step);
                    loaded.note = Some(format!("{}; {from}", one_line(&error)));
                    // The next one must not push out the one that is whole.
                    if optimizer.is_some() && run.join(NEWEST).exists() {
                        let aside = run.join(DAMAGED);
                        std::fs::rename(run.join(NEWEST), &aside).map_err(|error| files::cannot(&aside, error))?;
                    }
                }
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
    let best = path.ends_with(BEST);
    // There is no best one before it.
    let no_other = |error: anyhow::Error| if best { anyhow!("{}: {RESTORE}", one_line(&error)) } else { error };
    let (tensors, progress, known) = sealed(path).map_err(no_other)?;
    let refused = |why: &str| Refused(format!("{} {why}", path.display()));
    ensure!(
        progress.run == config.identity(),
        refused(&format!("{OTHER}: restore config.json, or choose another --run"))
    );
    let log = path.with_file_name("log.jsonl");
    ensure!(
        progress.log == Mark::default() || log.exists(),
        refused("cannot be trusted without the log.jsonl beside it: restore that, or train into another --run")
    );
    let other = progress.log.check(&log).err();
    let advice = match best {
        true => ": go on with the training where it was killed after that step, else restore what was there",
        false => "",
    };
    other.map_or(Ok(()), |error| Err(anyhow!("{}{advice}", one_line(&error))))?;
    let (mut model, mut state, mut extra) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    let resumes = optimizer.is_some();
    for (name, tensor) in tensors {
        // What a training carries along may have gone bad by itself: the checkpoint before may be whole.
        let weight = name.starts_with("model.");
        if (resumes || weight) && !crate::weights::is_finite(&tensor) {
            let why = format!("has numbers that aren't finite in {name}");
            ensure!(!weight, refused(&format!("{why}: train again into another --run")));
            bail!("{} {why}", path.display());
        }
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
            Some(saved) if (saved.size(), saved.kind()) == (x.size(), x.kind()) => {}
            Some(saved) => {
                let [there, here] = [saved, x].map(|x| format!("{:?} of {:?}", x.size(), x.kind()));
                bail!("{}: {name} is {there} there and {here} in this network", path.display())
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
    Ok(Resumed { progress, known, file: path.into(), extra, note: None })
}
