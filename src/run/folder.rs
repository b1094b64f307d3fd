//! The run folder: made once, locked while a run writes to it, its log cut back on resume.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use blake3::Hasher;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::Config;
use crate::files;
use crate::say::foreign;

/// The file of the newest checkpoint in a run's folder.
pub const NEWEST: &str = "checkpoint.safetensors";
/// The one before it.
pub const BEFORE: &str = "checkpoint.before.safetensors";
/// The scores of a run, for machines.
pub const RESULTS: &str = "results.json";
/// The page for people, of a run and of whatever else a verb found.
pub const REPORT: &str = "report.html";
/// The folder, in a run's, of what its best checkpoint gives.
pub const BEST: &str = "best";
/// The folder, in a run's, of what its network was before training.
pub const UNTRAINED: &str = "untrained";
/// Held by who writes, and says who.
const LOCK: &str = ".lock";
/// What it says begins with this.
const HOLDER: &str = "process ";

/// Whether a run folder has a checkpoint, whole or not.
pub fn trained(run: &Path) -> bool {
    [NEWEST, BEFORE].iter().any(|name| run.join(name).exists())
}

/// What a run keeps for itself, beside its checkpoints.
const OWN: [&str; 8] =
    ["config.json", "best.safetensors", "log.jsonl", "timing.jsonl", "photos.csv.gz", RESULTS, REPORT, LOCK];

/// Errors where something else than a folder is in the place of `run`.
pub fn check_folder(run: &Path) -> Result<()> {
    match std::fs::metadata(run) {
        Ok(found) if !found.is_dir() => bail!("--run {}: it is {}: name a folder", run.display(), files::kind(&found)),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            bail!("--run {}: a part of this path is no folder: name another", run.display())
        }
        _ => Ok(()),
    }
}

/// Errors where a training could not begin to write into `run`, before the work: as [`check_ours`], and where another
/// process writes there, or into the folder of a part.
pub fn check_free(run: &Path) -> Result<()> {
    check_ours(run)?;
    written(run).map_or(Ok(()), |at| bail!(held(&at)))
}

/// Which of the folders of a run, its own and those of its parts, another process writes into, if it does.
pub fn written(run: &Path) -> Option<PathBuf> {
    let parts = std::fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.path());
    let locked = |at: &PathBuf| {
        let lock = files::open(&at.join(LOCK)).map(|lock| lock.try_lock_shared());
        matches!(lock, Ok(Err(TryLockError::WouldBlock)))
    };
    std::iter::once(run.to_path_buf()).chain(parts).find(locked)
}

/// Says that another process holds `run`, and which.
fn held(run: &Path) -> String {
    let holder = files::text(&run.join(LOCK)).unwrap_or_default();
    let holder = if holder.is_empty() { String::new() } else { format!(" ({})", foreign(holder.trim_end())) };
    format!("another process{holder} is writing {}: wait for its end, or choose another --run", run.display())
}

/// Errors where a training may not write into `run`: it has a configuration that rankle did not write, or none and yet
/// other things, or a folder in a file's place. Names that begin with a dot are not looked at.
pub fn check_ours(run: &Path) -> Result<()> {
    check_folder(run)?;
    // Who held it last stands in it.
    let lock = run.join(LOCK);
    let ours = || files::read_up_to(&lock, 1 << 10, "a line").is_ok_and(|text| text.starts_with(HOLDER.as_bytes()));
    ensure!(
        lock.metadata().map_or(0, |found| found.len()) == 0 || ours(),
        "{} is none of a run: move it away, or choose another --run",
        lock.display()
    );
    if let Some(name) = OWN.into_iter().chain([NEWEST, BEFORE]).find(|name| run.join(name).is_dir()) {
        bail!("{} is a folder where a run keeps a file: move it away", run.join(name).display());
    }
    if run.join("config.json").exists() {
        return Config::read(run).map(drop);
    }
    let entries = std::fs::read_dir(run).into_iter().flatten().flatten();
    match entries.map(|entry| entry.file_name()).find(|name| !name.as_encoded_bytes().starts_with(b".")) {
        None => Ok(()),
        Some(name) => bail!(
            "{} holds {name:?} and no config.json of a run: restore that, or choose another --run (a new or empty folder)",
            run.display()
        ),
    }
}

/// Whether `path` lies in a run's folder, or below it, and has a name that a run keeps for itself, there or not.
pub fn is_own(path: &Path) -> bool {
    const STEMS: &str = " best checkpoint config events log model photos report results split table timing";
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let run = |at: &Path| at.join("config.json").exists() && Config::read(at).is_ok();
    let held = || [LOCK, NEWEST, BEFORE].iter().any(|name| folder.join(name).exists());
    STEMS.split(' ').any(|stem| name.split(['.', '-']).next() == Some(stem)) && (held() || folder.ancestors().any(run))
}

/// An open run folder, locked against a second writer until it is dropped.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held for its lock.
    lock: File,
}

impl Drop for RunFolder {
    /// To close it would not do: a child that another thread just forked holds what is locked until it becomes its program.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl RunFolder {
    /// Opens or makes the folder and locks it. Errors where it cannot be written, is not a run's, or another process
    /// holds it.
    pub fn open(path: &Path) -> Result<RunFolder> {
        let advice =
            || format!("cannot write the run folder {}: choose another --run, or make it writable", path.display());
        check_ours(path)?;
        std::fs::create_dir_all(path).with_context(advice)?;
        let mut lock = files::own(&path.join(LOCK)).with_context(advice)?;
        // Who looks whether it is held, as `report` does, holds it for an instant.
        ensure!(files::lock(&lock, Duration::from_secs(1)), held(path));
        // For the message of a second one alone.
        let host = files::text(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{HOLDER}{} on {}", std::process::id(), host.trim_end()));
        files::sweep(path);
        Ok(RunFolder { path: path.to_path_buf(), lock })
    }

    /// Errors where the folder no longer lies where it was opened, or without its configuration.
    pub fn check_place(&self) -> Result<()> {
        let place = |data: std::fs::Metadata| (data.dev(), data.ino());
        let here = std::fs::metadata(self.file(LOCK)).map(place).ok();
        ensure!(
            here.is_some() && here == self.lock.metadata().map(place).ok(),
            "{} was moved or removed while a run wrote to it: move it back, where it still is, and start the same command again",
            self.path.display()
        );
        let config = self.file("config.json");
        ensure!(
            config.is_file(),
            "{} was removed while a run wrote beside it: restore it and start the same command again",
            config.display()
        );
        Ok(())
    }

    /// Where it lies on disk.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// What a checkpoint knows of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its length then, in bytes.
    pub length: u64,
    /// The BLAKE3 hash of so many, in hexadecimal.
    pub hash: String,
}

impl Mark {
    fn of(hasher: &Hasher, length: u64) -> Mark {
        Mark { length, hash: hasher.finalize().to_hex().to_string() }
    }

    /// Errors where the log at `path` does not begin as it did then; the hasher of what it begins with.
    pub fn check(&self, path: &Path) -> Result<Hasher> {
        let hasher = hashed(path, self.length).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            Mark::of(&hasher, self.length) == *self,
            "{} is not what its checkpoint knew: it was cut or changed",
            path.display()
        );
        Ok(hasher)
    }
}

impl Default for Mark {
    /// Of an empty log.
    fn default() -> Mark {
        Mark::of(&Hasher::new(), 0)
    }
}

/// The hasher of the first `length` bytes of a file, or of as many as there are.
fn hashed(path: &Path, length: u64) -> std::io::Result<Hasher> {
    let mut hasher = Hasher::new();
    if length > 0 {
        std::io::copy(&mut files::open(path)?.take(length), &mut hasher)?;
    }
    Ok(hasher)
}

/// A file of JSON lines that grows by whole lines and can be cut back to where a checkpoint saw it.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    hasher: Hasher,
}

impl Log {
    /// Opens `path`, keeping what `mark` knows: what an interrupted run wrote after its last checkpoint goes, and is
    /// written again. Without a mark all whole lines stay. Errors, and leaves the file as it is, where it does not begin as the
    /// mark says, and where it is no file of the run's alone: what a link leads to is not cut.
    pub fn open(path: &Path, mark: Option<&Mark>) -> Result<Log> {
        let hasher = mark.map_or_else(|| Ok(Hasher::new()), |mark| mark.check(path))?;
        let open = || -> std::io::Result<(File, u64)> {
            let mut file = files::own(path)?;
            let found = file.metadata()?;
            if found.nlink() > 1 {
                return Err(std::io::Error::other("it has another name too (a hard link), put a copy in its place"));
            }
            let whole = || -> std::io::Result<u64> {
                let text = files::read(path)?;
                Ok(text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end as u64 + 1))
            };
            let length = mark.map_or_else(whole, |mark| Ok(mark.length))?;
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
            Ok((file, length))
        };
        let (file, length) = open()
            .with_context(|| format!("cannot write {}: make it writable, or choose another --run", path.display()))?;
        Ok(Log { path: path.to_path_buf(), file, length, hasher })
    }

    /// Appends `value` as a line of JSON.
    pub fn line(&mut self, value: &Value) -> Result<()> {
        let line = format!("{value}\n");
        self.file.write_all(line.as_bytes()).map_err(|error| files::cannot(&self.path, error))?;
        self.length += line.len() as u64;
        self.hasher.update(line.as_bytes());
        Ok(())
    }

    /// Makes what was written durable; what a checkpoint is to remember of it. Errors where the file is no longer what was
    /// written: a checkpoint that knew another log could not be gone on from.
    pub fn sync(&mut self) -> Result<Mark> {
        self.file.sync_data().map_err(|error| files::cannot(&self.path, error))?;
        let mark = Mark::of(&self.hasher, self.length);
        let place = |data: std::fs::Metadata| (data.dev(), data.ino());
        let same = std::fs::metadata(&self.path).map(place).ok() == self.file.metadata().map(place).ok();
        ensure!(
            same && mark.check(&self.path).is_ok(),
            "{} was changed or removed while a run wrote to it: restore it and start the same command again",
            self.path.display()
        );
        Ok(mark)
    }
}
