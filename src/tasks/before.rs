//! Runs that start from the weights of other runs: whom all of these were trained on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::Data;
use super::reid::ReidData;
use crate::datasets::{Layout, Photo, ReidSet};
use crate::files;
use crate::run::config::{Config, START, typed_as};
use crate::run::folder::{BEFORE, NEWEST};
use crate::run::photos::hashed;
use crate::say::one_line;

/// A run's folder, data and seed.
type Run = (PathBuf, ReidData, u64);

/// The runs that a run goes back to: the one that it starts from, the one that this started from, and so on.
#[derive(Debug, Default)]
pub struct Before {
    runs: Vec<Run>,
    /// Why there may be more.
    lost: Option<Error>,
}

/// What is said where a run that another one goes back to is not what that began from, or not there; why follows.
pub(crate) const UNKNOWN: &str = "whether somebody tested was trained on is not known";

/// An error of `--start`: not of what is tested, but of the runs that a run goes back to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OfStart(String);

/// Why the run in the folder `at` is not known to be what another one began `from`, checkpoints with these hashes, if it has
/// others now: it may have been trained on other data since. Without hashes an older version began that.
pub(crate) fn replaced(at: &Path, from: &[impl AsRef<str>]) -> Option<Error> {
    let there: Vec<PathBuf> =
        [NEWEST, BEFORE].map(|name| at.join(name)).into_iter().filter(|file| file.exists()).collect();
    let is_from = |file: &PathBuf| files::hash(file).is_ok_and(|hash| from.iter().any(|then| then.as_ref() == hash));
    let other = !from.is_empty() && !there.is_empty() && !there.iter().any(is_from);
    other
        .then(|| anyhow!("--start {}: it has other checkpoints now, and not the one that was begun from", at.display()))
}

/// Where the run is that another one starts from, by which value of a flag in a table's folder, and the hashes of what that
/// began from.
type Next = (PathBuf, String, Vec<String>);

/// The run in the folder `at`, and what it started from.
fn read(at: &Path, axis: &str, value: &str) -> Result<(Run, Option<Next>)> {
    let (run, config) = Config::read_with(at, axis, value)?;
    let mut flags = config.flags.clone();
    flags.extend(config.placed());
    let seed = flags.get("seed").and_then(Value::as_u64);
    let fields = flags.iter().map(|(name, value)| (name.replace('-', "_"), value.clone())).collect();
    let (Ok(data), Some(seed)) = (serde_json::from_value(Value::Object(fields)), seed) else {
        bail!("{} is no run on photos of people", run.display())
    };
    let start = flags.get(START).and_then(Value::as_str);
    let from: Vec<String> = config.begun_from().into_iter().map(String::from).collect();
    let next = start.map(|start| (start.into(), flags.get(axis).map_or(String::new(), typed_as), from));
    Ok(((run, data, seed), next))
}

impl Before {
    /// Those of a run with `--start START` whose flag `axis` is `value`; of a table's folder its run of that value is meant.
    pub fn of(start: Option<&Path>, axis: &str, value: &str) -> Before {
        let mut before = Before::default();
        let mut next = start.map(|start| (start.to_path_buf(), value.to_string(), Vec::new()));
        while let Some((at, value, from)) = next.take() {
            let words = || format!("--start (a run folder that train made, or a table's with --{axis} {value})");
            match read(&at, axis, &value).with_context(words) {
                // Copied folders may name each other in a circle.
                Ok((run, _)) if before.runs.iter().any(|known| known.0 == run.0) => {}
                Ok((run, further)) => match replaced(&run.0, &from) {
                    None => {
                        before.runs.push(run);
                        next = further;
                    }
                    other => before.lost = other,
                },
                Err(error) => before.lost = Some(error),
            }
        }
        before
    }

    /// The checkpoint to start from, if the run starts from one.
    pub fn checkpoint(self) -> Result<Option<PathBuf>> {
        let Some((at, ..)) = self.runs.first() else { return self.lost.map_or(Ok(None), Err) };
        let file = at.join(NEWEST);
        ensure!(file.exists(), "--start: {} has no checkpoint yet: train it first", at.display());
        Ok(Some(file))
    }

    /// The `set` that `data` opened, where none of these runs was trained on its test photos.
    pub fn apart(&self, mut set: ReidSet, data: &ReidData) -> Result<ReidSet> {
        for (at, own, seed) in &self.runs {
            let (mut seen, mut all) = own.trained_on(*seed, data, &mut set);
            // Its list knows copies, and what was moved since. Distractors are nobody.
            if seen == 0 {
                let people = |photos: &[Photo]| -> Vec<Photo> {
                    photos.iter().filter(|photo| photo.person > 0).cloned().collect()
                };
                let (train, query, gallery) = (Arc::clone(&set.train), people(&set.query), people(&set.gallery));
                let people = ReidSet { train, query, gallery, ..ReidSet::default() };
                let tested = hashed(people.tested(), "test data", &|| ());
                let found = super::trained_on(at, &people, &tested, false);
                (seen, all) = (found.seen, found.all);
                let at = at.display();
                set.notes.extend(found.notes.into_iter().map(|text| format!("--start {at}: {text}")));
            }
            ensure!(
                seen == 0,
                OfStart(format!(
                    "--start: the run {} was trained on {seen} of the {all} test photos of {}: start from a run of another split, or test on another split or set",
                    at.display(),
                    set.name
                ))
            );
        }
        set.notes.extend(self.lost.iter().map(|why| format!("{UNKNOWN}: {}", one_line(why))));
        Ok(set)
    }

    /// Whether it is one run alone, of data in this layout.
    pub fn is_one_of(&self, layout: Layout) -> bool {
        let fits = |(_, data, seed): &Run| data.open(*seed).is_ok_and(|set| set.layout == layout);
        self.lost.is_none() && self.runs.len() == 1 && self.runs.iter().all(fits)
    }
}
