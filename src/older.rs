//! What was scored and exported of a run that goes on, or that went on meanwhile: set aside under names that say of which
//! step it is, so that nobody takes it for the newest checkpoint's.

use std::fs::{read_dir, rename};
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use crate::results::{Results, passed};
use crate::run::checkpoint::{NEWEST, best_cut_off, fingerprints};
use crate::run::folder::{BEST, REPORT, RESULTS, UNTRAINED};
use crate::run::scores;
use crate::say::{note, say};
use crate::{files, outputs};

/// Renames what a run has of scores and `models` (the files of its modules) to `results.step-100.json` and the like, or to
/// `results.step-100-2.json` where that is there, and says so: in the run folder `run`, and in the folders of scores below
/// it. Where a model does not say of which step it is, that is `step`, with which training goes on. What is of the untrained
/// network stays.
pub fn set_aside(run: &Path, step: u64, models: &[String]) -> Result<()> {
    aside(run, models, &|at, models| {
        let models = models.iter().map(|model| module(at, model, step));
        scored(at, step).into_iter().chain(models).collect()
    })
}

/// The same at the end of a training, of what was scored and exported while it went on: scores of a checkpoint in whose place
/// a later one has come, and `models`, of the part of the run whose folder is `part`, that say that they are of an earlier
/// step than its newest checkpoint, or its best.
pub fn set_aside_passed(run: &Path, part: &Path, models: &[String]) -> Result<()> {
    let known = fingerprints(run);
    aside(run, models, &|at, models| {
        let kept = part.join(if at != run && at.ends_with(BEST) { scores::BEST } else { NEWEST });
        let step = known.iter().find(|(_, file)| *file == kept).map_or(0, |(own, _)| own.step);
        let models = models.iter().map(|model| module(at, model, step)).filter(|(_, of)| *of < step);
        let old = found(at).filter(|found| passed(&found.checkpoints, &known).is_some());
        let old = old.map(|old| names_of_scores(old.step)).into_iter().flatten();
        old.chain(models).collect()
    })
}

/// Renames what `older` finds of scores and `models` in `run` and in the folders of scores below it.
fn aside(run: &Path, models: &[String], older: &dyn Fn(&Path, &[String]) -> Vec<Of>) -> Result<()> {
    let aside = renamed(run, older(run, models))?;
    if !aside.is_empty() {
        say(format!("{}: older than what is trained now, and set aside: {}", run.display(), aside.join(", ")));
    }
    for entry in read_dir(run).into_iter().flatten().flatten() {
        // What a link leads to is somebody else's, and a folder with a configuration is a run of its own.
        let path = entry.path();
        let own = entry.file_type()?.is_dir() && entry.file_name() != UNTRAINED && !path.join("config.json").exists();
        // The best checkpoint has modules too.
        let best = own && entry.file_name() == BEST;
        if best || own && found(&path).is_some() {
            self::aside(&path, if best { models } else { &[] }, older)?;
        }
    }
    Ok(())
}

/// Renames scores, or a `model`, of a later step than `step`, in whose place what is of that step is to come: a checkpoint was
/// damaged, and they could not be made again.
pub fn set_aside_later(run: &Path, step: u64, model: Option<&str>) -> Result<()> {
    let mut later = model.map_or_else(|| scored(run, step).into(), |model| vec![module(run, model, step)]);
    later.retain(|(_, of)| *of > step);
    let aside = renamed(run, later)?;
    if !aside.is_empty() {
        say(format!("{}: of a later step than {step}, and set aside: {}", run.display(), aside.join(", ")));
    }
    Ok(())
}

/// Renames the best weights in the folder `part` of a run's part to `best.step-100.safetensors`, and says so, where they were
/// kept after the step from which training went on: its log, which was cut back to that, does not know them.
pub fn set_aside_best(part: &Path) -> Result<()> {
    let best = |step| vec![(vec![scores::BEST.to_string()], step)];
    let aside = renamed(part, best_cut_off(part).map_or_else(Vec::new, best))?;
    if !aside.is_empty() {
        say(format!(
            "{}: of a step that training does not go on from, and set aside: {}",
            part.display(),
            aside.join(", ")
        ));
    }
    Ok(())
}

/// Files that belong together, and of which step they are.
type Of = (Vec<String>, u64);

/// Those of scores; where they do not say of which step they are, that is `step`.
fn scored(run: &Path, step: u64) -> [Of; 2] {
    let found = Results::read(run).unwrap_or_else(|error| {
        note(format!("{error:#}"));
        None
    });
    names_of_scores(found.map_or(step, |results| results.step))
}

/// The page first: who is killed in between finds both again by the scores.
fn names_of_scores(step: u64) -> [Of; 2] {
    [REPORT, RESULTS].map(|name| (vec![name.to_string()], step))
}

/// The scores in a folder, of which nothing is said.
fn found(at: &Path) -> Option<Results> {
    serde_json::from_value(outputs::read_sealed(&at.join(RESULTS)).ok()??.0).ok()
}

/// Those of a module.
fn module(run: &Path, model: &str, step: u64) -> Of {
    let about = Path::new(model).with_extension("json");
    let text = files::text(&run.join(&about)).ok();
    let of = text.and_then(|text| serde_json::from_str::<Value>(&text).ok()?["step"].as_u64());
    (vec![model.to_string(), about.to_string_lossy().into_owned()], of.unwrap_or(step))
}

/// Renames those that are there: the new names.
fn renamed(run: &Path, all: Vec<Of>) -> Result<Vec<String>> {
    let mut aside = Vec::new();
    for (mut names, step) in all {
        let there = |name: &str| run.join(name).symlink_metadata().ok();
        names.retain(|name| there(name).is_some_and(|found| found.is_file()));
        let renamed = |name: &str, count: u64| {
            let (stem, kind) = name.rsplit_once('.').unwrap_or((name, ""));
            let count = if count > 1 { format!("-{count}") } else { String::new() };
            format!("{stem}.step-{step}{count}.{kind}")
        };
        let free = |count: &u64| names.iter().all(|name| there(&renamed(name, *count)).is_none());
        let count = (1..).find(free).unwrap_or(1);
        for name in &names {
            let to = run.join(renamed(name, count));
            rename(run.join(name), &to).map_err(|error| files::cannot(&to, error))?;
            aside.push(renamed(name, count));
        }
    }
    Ok(aside)
}
