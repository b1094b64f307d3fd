//! What a run has written so far, read without its lock: it may be writing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::config::Config;
use crate::say::note;

/// A part's name, for people, by that of its folder.
pub fn shown(folder: &OsStr) -> String {
    folder.to_string_lossy().replace('-', " ")
}

/// The folders of a run that have a log: its own, without a name, or, where it is made of parts, theirs by their names. Users
/// put folders there too: of a run that lists its parts no other counts.
///
/// # Errors
/// Where the folder cannot be listed.
pub fn parts(run: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut parts = vec![(String::new(), run.to_path_buf())];
    if !run.join("log.jsonl").exists() && run.is_dir() {
        parts.clear();
        for entry in std::fs::read_dir(run).with_context(|| format!("cannot read {}", run.display()))? {
            let entry = entry?;
            parts.push((shown(&entry.file_name()), entry.path()));
        }
    }
    let config = Config::read(run).ok();
    let listed = config.as_ref().and_then(Config::parts);
    let is_ours = |folder: &Path| folder == run || listed.iter().flatten().any(|part| run.join(part) == folder);
    parts.retain(|(_, folder)| folder.join("log.jsonl").exists() && (listed.is_none() || is_ours(folder)));
    parts.sort();
    Ok(parts)
}

/// The whole lines of a file of JSON lines; none where there is no file. A damaged one is left out, and it is said.
pub fn lines(path: &Path) -> Result<Vec<Value>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = crate::files::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // The last one may be there in part alone.
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(&[][..], |end| &bytes[..end]);
    let (mut all, mut damaged) = (Vec::new(), Vec::new());
    for (i, line) in whole.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_slice(line).ok().filter(Value::is_object) {
            Some(line) => all.push(line),
            None => damaged.push(i + 1),
        }
    }
    if let Some(first) = damaged.first() {
        let lines = if damaged.len() > 1 {
            format!("{} lines, the first line {first},", damaged.len())
        } else {
            format!("line {first}")
        };
        note(format!("{}: {lines} damaged, and left out of what is shown", path.display()));
    }
    Ok(all)
}
