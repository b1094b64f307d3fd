//! What a run has written so far, read without its lock: it may be writing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// The folders of a run that have a log: its own, without a name, or, where it is made of parts, theirs by their names.
///
/// # Errors
/// Where the folder cannot be listed.
pub fn parts(run: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut parts = vec![(String::new(), run.to_path_buf())];
    if !run.join("log.jsonl").exists() && run.is_dir() {
        parts.clear();
        for entry in std::fs::read_dir(run).with_context(|| format!("cannot read {}", run.display()))? {
            let entry = entry?;
            parts.push((entry.file_name().to_string_lossy().replace('-', " "), entry.path()));
        }
    }
    parts.retain(|(_, folder)| folder.join("log.jsonl").exists());
    parts.sort();
    Ok(parts)
}

/// The whole lines of a file of JSON lines; none where there is no file.
///
/// # Errors
/// Where it cannot be read.
pub fn lines(path: &Path) -> Result<Vec<Value>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = crate::files::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // The last one may be there in part alone: then it is no JSON yet.
    Ok(bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}
