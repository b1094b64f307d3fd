//! What was scored and exported of a run that goes on: set aside under names that say of which step it is, so that nobody
//! takes it for the newest checkpoint's.

use std::fs::{read_dir, rename};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use crate::files;
use crate::say::say;

/// Renames `results.json`, `report.html` and models in the run folder `run`, and in folders of scores below it, to
/// `results.step-100.json` and the like, and says so; `step` is where training goes on. What is of the untrained network
/// stays.
///
/// # Errors
/// Where one cannot be renamed.
pub fn set_aside(run: &Path, step: u64) -> Result<()> {
    let text = files::text(&run.join("results.json")).ok();
    let scores = text.and_then(|text| serde_json::from_str::<Value>(&text).ok()?["step"].as_u64());
    let mut aside = Vec::new();
    for entry in read_dir(run).into_iter().flatten().flatten() {
        // What a link leads to is somebody else's.
        let (path, is) = (entry.path(), entry.file_type()?);
        let part = |of: Option<&std::ffi::OsStr>| of.unwrap_or_default().to_string_lossy().into_owned();
        let (stem, kind) = (part(path.file_stem()), part(path.extension()));
        let made = match (stem.as_str(), kind.as_str()) {
            ("results", "json") | ("report", "html") => true,
            (stem, "pt" | "json") => stem.starts_with("model") && !stem.contains(".step-"),
            _ => false,
        };
        if made && is.is_file() {
            let name = format!("{stem}.step-{}.{kind}", scores.unwrap_or(step));
            let to: PathBuf = run.join(&name);
            rename(&path, &to).map_err(|error| files::cannot(&to, error))?;
            aside.push(name);
        } else if is.is_dir() && stem != "untrained" && !path.join("config.json").exists() {
            set_aside(&path, step)?;
        }
    }
    aside.sort();
    if !aside.is_empty() {
        say(format!("{}: older than what is trained now, and set aside: {}", run.display(), aside.join(", ")));
    }
    Ok(())
}
