//! Files written whole or not at all.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What the names of temporary files start with; a killed process leaves one behind.
pub(crate) const TEMPORARY: &str = ".writing-";

/// Lets `write` fill a new file in the folder of `path` and then renames it to `path`, replacing what was there; where
/// `write` fails or the process dies, `path` is as it was. After it returns, a power cut loses nothing.
pub fn atomically<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let place = || format!("cannot write {}: free space, or choose a folder that can be written", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    ensure!(
        folder.is_dir(),
        "cannot write {}: {} is no folder: make it, or name another",
        path.display(),
        folder.display()
    );
    ensure!(!path.is_dir(), "{} is a folder: name a file", path.display());
    // Permissions as for any new file; the umask takes its part.
    let file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(place)?;
    let value = write(file.path())?;
    // By its name: `write` may have opened another file under it.
    File::open(file.path()).and_then(|file| file.sync_all()).with_context(place)?;
    file.persist(path).map_err(|error| error.error).with_context(place)?;
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(place)?;
    Ok(value)
}

/// Writes `bytes` to `path` so that a reader, or a crash, sees the old file or the whole new one. The error names the
/// path and says what to do.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    atomically(path, |draft| {
        let write = || File::create(draft)?.write_all(bytes);
        write().with_context(|| {
            format!("cannot write {}: free space, or choose a folder that can be written", path.display())
        })
    })
}
