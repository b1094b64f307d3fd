//! The run folder: made once, locked while a run writes to it, its log cut back on resume.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::files;

/// The newest checkpoint.
pub const NEWEST: &str = "checkpoint.safetensors";
/// The one before it.
pub const BEFORE: &str = "checkpoint.before.safetensors";

/// Whether a run folder has a checkpoint, whole or not.
pub fn trained(run: &Path) -> bool {
    [NEWEST, BEFORE].iter().any(|name| run.join(name).exists())
}

/// An open run folder, locked against a second writer until it is dropped.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl RunFolder {
    /// Opens or makes the folder and locks it. Errors where it cannot be written or another process holds it.
    pub fn open(path: &Path) -> Result<RunFolder> {
        let advice =
            || format!("cannot write the run folder {}: choose another --run, or make it writable", path.display());
        std::fs::create_dir_all(path).with_context(advice)?;
        let lock = files::own(&path.join(".lock")).with_context(advice)?;
        if let Err(std::fs::TryLockError::WouldBlock) = lock.try_lock() {
            bail!("another process is writing {}: wait for it, or choose another --run", path.display());
        }
        files::sweep(path);
        Ok(RunFolder { path: path.to_path_buf(), _lock: lock })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A file of JSON lines that grows by whole lines and can be cut back to where a checkpoint saw it.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Log {
    /// Opens `path`, keeping its first `length` bytes: what an interrupted run wrote after its last checkpoint goes,
    /// and is written again. A file shorter than `length` is an error.
    pub fn open(path: &Path, length: u64) -> Result<Log> {
        let open = || -> std::io::Result<(File, u64)> {
            let mut file = files::own(path)?;
            let found = file.metadata()?.len();
            if found >= length {
                file.set_len(length)?;
            }
            file.seek(SeekFrom::Start(length))?;
            Ok((file, found))
        };
        let (file, found) = open()
            .with_context(|| format!("cannot write {}: make it writable, or choose another --run", path.display()))?;
        if found < length {
            bail!(
                "{} is shorter than its checkpoint knew it: it was changed by hand; choose another --run",
                path.display()
            );
        }
        Ok(Log { path: path.to_path_buf(), file, length })
    }

    /// Appends one line.
    pub fn line(&mut self, value: &Value) -> Result<()> {
        let line = format!("{value}\n");
        self.file.write_all(line.as_bytes()).with_context(|| {
            format!("cannot write {}: free space and start the same command again", self.path.display())
        })?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Makes what was written durable and gives its length, for a checkpoint to remember.
    pub fn sync(&mut self) -> Result<u64> {
        self.file.sync_data().with_context(|| {
            format!("cannot write {}: free space and start the same command again", self.path.display())
        })?;
        Ok(self.length)
    }
}
