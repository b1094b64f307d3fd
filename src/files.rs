//! The one place that opens files: regular ones alone are read, and outputs appear whole or not at all.

use std::fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::bounds::memory;
use crate::say::Unprinted;

/// What the names of temporary files start with. A killed process leaves one behind, and whoever writes beside it next
/// removes it.
const TEMPORARY: &str = ".rankle-writing-";

/// Whether a file of this name is what somebody is writing, or was writing when they died.
pub fn is_draft(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// Opens a regular file, or a link to one, for reading.
///
/// # Errors
/// Where there is none; a folder, pipe, socket or device is refused, and nothing waits for a pipe's other end.
pub fn open(path: &Path) -> io::Result<File> {
    regular(fs::metadata(path)?)?;
    opened(path, OpenOptions::new().read(true), 0)
}

/// Opens a file of rankle's own for writing where it is, not cut, or makes it: a regular one and no link, since what it
/// leads to is somebody else's.
///
/// # Errors
/// As [`open`], and where it cannot be written.
pub fn own(path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        found => regular(found?)?,
    }
    opened(path, OpenOptions::new().create(true).truncate(false).write(true), libc::O_NOFOLLOW)
}

/// Opens a file of rankle's own that is there, for reading and writing where it is.
///
/// # Errors
/// As [`own`], and where there is none.
pub fn own_there(path: &Path) -> io::Result<File> {
    regular(fs::symlink_metadata(path)?)?;
    opened(path, OpenOptions::new().read(true).write(true), libc::O_NOFOLLOW)
}

fn opened(path: &Path, options: &mut OpenOptions, flags: i32) -> io::Result<File> {
    // The kind was asked for before, since opening a device may do something; it may have changed since.
    let file = options.custom_flags(libc::O_NONBLOCK | flags).open(path)?;
    regular(file.metadata()?)?;
    Ok(file)
}

fn regular(found: Metadata) -> io::Result<()> {
    let what = kind(&found);
    if found.is_file() {
        Ok(())
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, format!("it is {what}, no file")))
    }
}

/// What is in the place of a file or folder, in words.
pub(crate) fn kind(of: &Metadata) -> &'static str {
    match of.file_type() {
        kind if kind.is_file() => "a file",
        kind if kind.is_dir() => "a folder",
        kind if kind.is_symlink() => "a link",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

/// The bytes of a regular file; see [`open`].
///
/// # Errors
/// As [`open`], and where it is longer than the machine's memory.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_up_to(path, memory(), "this machine's memory")
}

/// The bytes of a regular file of at most `most`, which is a limit called `of`; see [`open`].
///
/// # Errors
/// As [`open`], and [`ErrorKind::FileTooLarge`].
pub fn read_up_to(path: &Path, most: u64, of: &str) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        let text = format!("{} MiB, above {of} of {} MiB", length >> 20, most >> 20);
        return Err(io::Error::new(ErrorKind::FileTooLarge, text));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length as usize)?;
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What stands in a file for the hash of its bytes, before that is known: as many zeros.
pub const UNKNOWN: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The BLAKE3 hash of a regular file's bytes, in hexadecimal; see [`open`].
///
/// # Errors
/// As [`open`], and where it cannot be read.
pub fn hash(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// What a file is known again by without its being read: its length, when its content and anything of it changed, in
/// nanoseconds since 1970, and its inode.
pub(crate) type Version = (u64, i64, i64, u64);

/// The [`Version`] of a file. Photos that were swapped may have one length and one time of content, which can be set; those of
/// folders that were swapped, after all were touched at once, differ by their inodes alone.
pub(crate) fn version(of: &Metadata) -> Version {
    let nanoseconds = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
    (of.len(), nanoseconds(of.mtime(), of.mtime_nsec()), nanoseconds(of.ctime(), of.ctime_nsec()), of.ino())
}

/// What `work` makes of the file at `path`, with the [`hash`] of what it read.
///
/// # Errors
/// Those of `work`; one line where the file cannot be read, or changed meanwhile.
pub fn hashed<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<(T, String)> {
    let now = || fs::metadata(path).map(|now| (now.dev(), now.ino(), now.len(), now.mtime(), now.mtime_nsec())).ok();
    let (before, made) = (now(), work()?);
    let hash = hash(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(before.is_some() && before == now(), "{} changed while it was read: say the same again", path.display());
    Ok((made, hash))
}

/// The text of a regular file; see [`read`].
///
/// # Errors
/// As [`read`], and where it is not UTF-8.
pub fn text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is no text in UTF-8"))
}

/// Lets `write` fill a new file in the folder of `path` and then renames it to `path`, replacing the file that was there;
/// where `write` fails or the process dies, `path` is as it was. After it returns, a power cut loses nothing. Into what is
/// open already (`/dev/stdout`), and `/dev/null`, the whole is written in the end.
///
/// # Errors
/// One line that names the path and says what to do: no folder to write into, or `path` is a folder, another device, a
/// pipe, a socket, a link (see [`followed`]), one to `/dev/null` too, or what is open for reading; and those of `write`.
pub fn atomically<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    whole(path, write).map_err(|error| cannot(path, error))
}

/// Why `path` cannot be written, and what to do where the system says so; what could not be printed meanwhile is said alone.
pub fn cannot(path: &Path, error: impl Into<anyhow::Error>) -> anyhow::Error {
    use ErrorKind::{
        FileTooLarge, NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let error = error.into();
    if error.is::<Unprinted>() {
        return error;
    }
    let cause = error.root_cause();
    // Inside a list's error, where no chain leads.
    let kind = match cause.downcast_ref().map(csv::Error::kind) {
        Some(csv::ErrorKind::Io(inside)) => Some(inside.kind()),
        _ => cause.downcast_ref().map(io::Error::kind),
    };
    let advice = match kind {
        Some(StorageFull | QuotaExceeded) => ": free space and start the same command again",
        Some(FileTooLarge) => ": raise the limit on a file's size (ulimit -f) and start the same command again",
        Some(NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem) => {
            ": choose a folder that is there and can be written"
        }
        _ => "",
    };
    error.context(format!("cannot write {}{advice}", path.display()))
}

/// Whether [`atomically`] could write `path`, as far as can be known before the work is done. The folder need not be there yet.
pub fn check(path: &Path) -> Result<()> {
    let tried = whole_or_into(path).and_then(|into| if into { Ok(()) } else { check_folder(folder(path)) });
    tried.map_err(|error| cannot(path, error))
}

/// Whether a file could be made in `folder`, or it in what is there above it.
fn check_folder(folder: &Path) -> Result<()> {
    let there = folder.ancestors().find(|at| at.symlink_metadata().is_ok()).unwrap_or(Path::new("."));
    match fs::metadata(there) {
        Err(_) if there.is_symlink() => bail!("{} is a link that leads nowhere: name another", there.display()),
        Ok(found) if !found.is_dir() => bail!("{} is {}: name a folder", there.display(), kind(&found)),
        _ => Ok(tempfile::tempfile_in(there).map(drop)?),
    }
}

/// As [`check`]; whether a file that holds something would be replaced.
pub fn replaces(path: &Path) -> Result<bool> {
    check(path)?;
    Ok(fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0) && !whole_or_into(path)?)
}

/// Whether what is at `path` is written into; errors where it may not be replaced either.
pub(crate) fn whole_or_into(path: &Path) -> Result<bool> {
    let null = |meta: &Metadata| fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == meta.rdev());
    let found = fs::metadata(path);
    match &found {
        Ok(meta) if meta.file_type().is_char_device() && null(meta) => {
            let open = ["/dev", "/proc"].iter().any(|at| path.starts_with(at));
            ensure!(!path.is_symlink() || open, "it is a link to /dev/null: name a file");
            return Ok(true);
        }
        Ok(meta) if !meta.is_dir() && !meta.is_file() && is_shared(path, meta) => return Ok(true),
        Ok(meta) if meta.is_file() && is_handle(meta, 0) => bail!("standard input reads it: name another file"),
        Ok(meta) if meta.is_file() && is_shared(path, meta) => return Ok(true),
        Ok(meta) if meta.is_file() && path.is_symlink() => bail!("it is a link: remove it, or name another file"),
        Ok(meta) if meta.is_file() => {}
        Ok(meta) => bail!("it is {}: name a file", kind(meta)),
        Err(error) if error.kind() != ErrorKind::NotFound => bail!("{error}: name another file"),
        Err(_) if path.is_symlink() => bail!("it is a link that leads nowhere: name another file"),
        Err(_) => {}
    }
    Ok(false)
}

fn whole<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    if whole_or_into(path)? {
        return into(path, write);
    }
    let folder = folder(path);
    ensure!(folder.is_dir(), "{} is no folder: make it, or name another", folder.display());
    sweep(folder);
    let file = loop {
        // Permissions as for any new file; the umask takes its part.
        let mut new = tempfile::Builder::new();
        let file = new.prefix(TEMPORARY).permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
        let _ = file.as_file().try_lock();
        // Where another's sweep came between, there is none any more.
        if file.as_file().metadata()?.nlink() > 0 {
            break file;
        }
    };
    let value = write(file.path())?;
    if let Ok(before) = fs::metadata(path) {
        file.as_file().set_permissions(before.permissions())?;
    }
    // By its name: `write` may have opened another file under it.
    File::open(file.path())?.sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()?;
    Ok(value)
}

/// Writes `bytes` whole to `path`, whose folder is made, in the place of a file that was there. Far quicker than
/// [`write_atomic`] for many small files that can be made again: a power cut may leave one empty.
///
/// # Errors
/// One line that names the path and says what to do.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder(path))?;
        let mut new = tempfile::Builder::new();
        let mut file = new.prefix(TEMPORARY).permissions(Permissions::from_mode(0o666)).tempfile_in(folder(path))?;
        let _ = file.as_file().try_lock();
        io::Write::write_all(&mut file, bytes)?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|error| cannot(path, error))
}

/// As [`atomically`], for a folder that is new or empty.
pub fn folder_atomically(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let whole = || -> Result<()> {
        fs::create_dir_all(folder(path))?;
        sweep(folder(path));
        let draft = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(folder(path))?;
        let lock = File::open(draft.path())?;
        let _ = lock.try_lock();
        write(draft.path())?;
        // As a new folder has them.
        fs::create_dir_all(path)?;
        fs::set_permissions(draft.path(), fs::metadata(path)?.permissions())?;
        fs::rename(draft.path(), path)?;
        let _ = draft.keep();
        Ok(())
    };
    whole().map_err(|error| cannot(path, error))
}

/// Locks an open file or folder against other processes, as soon as it is free and within `patience`; whether it did. Where
/// the system knows no locks it is free.
pub fn lock(file: &File, patience: Duration) -> bool {
    let begun = Instant::now();
    while matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        if begun.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A folder that this process alone writes into, as all do that [`hold`] what they write into.
#[derive(Debug)]
pub struct Held {
    lock: File,
    /// It, and those above it, where they were made for this.
    made: Vec<PathBuf>,
}

impl Held {
    /// Takes a folder for one that was made for this, though it stood there: whoever was killed left it.
    pub(crate) fn made_by_us(&mut self, folder: PathBuf) {
        if self.made.is_empty() {
            self.made.push(folder);
        }
    }
}

impl Drop for Held {
    /// What was made and holds nothing goes. To close the lock would not do: see [`crate::run::folder::RunFolder`].
    fn drop(&mut self) {
        self.made.iter().for_each(|folder| drop(fs::remove_dir(folder)));
        let _ = self.lock.unlock();
    }
}

/// What to say where something that is no folder stands in the place of the folder `at`, or of one above it.
pub(crate) fn in_place(at: &Path) -> Option<anyhow::Error> {
    let there = at.ancestors().find(|at| at.symlink_metadata().is_ok())?;
    let found = fs::metadata(there).or_else(|_| there.symlink_metadata()).ok()?;
    let (place, what) = (there.display(), kind(&found));
    (!found.is_dir()).then(|| anyhow!("{place} is {what}, where a folder is to be: move it away, or name another"))
}

/// Holds a folder, which is made where there is none, till what is given is dropped. Whoever holds it already is waited for
/// within `patience`.
///
/// # Errors
/// One line: it cannot be made, or somebody else holds it.
pub fn hold(at: &Path, patience: Duration) -> Result<Held> {
    let begun = Instant::now();
    let mut held = true;
    loop {
        ensure!(
            held && begun.elapsed() <= patience,
            "another process is writing into {}: wait for its end, or name another",
            at.display()
        );
        let new = |at: &&Path| !at.as_os_str().is_empty() && at.symlink_metadata().is_err();
        let made: Vec<PathBuf> = at.ancestors().take_while(new).map(Path::to_path_buf).collect();
        // Who holds it may have made it, and takes it away again.
        let file = match fs::create_dir_all(at).and_then(|()| File::open(at)) {
            Err(error) if error.kind() == ErrorKind::NotFound && begun.elapsed() < patience => continue,
            opened => opened.map_err(|error| in_place(at).unwrap_or_else(|| cannot(at, error)))?,
        };
        let place = |found: Metadata| (found.dev(), found.ino());
        held = lock(&file, patience.saturating_sub(begun.elapsed()));
        if held && fs::metadata(at).map(place).ok() == file.metadata().map(place).ok() {
            return Ok(Held { lock: file, made });
        }
    }
}

/// Whether a file is what this process has open under a number: 0 for standard input.
fn is_handle(found: &Metadata, number: u32) -> bool {
    let same = |open: Metadata| (open.dev(), open.ino()) == (found.dev(), found.ino());
    fs::metadata(format!("/dev/fd/{number}")).is_ok_and(same)
}

/// Whether the file `path` is open already, and others write there too.
fn is_shared(path: &Path, found: &Metadata) -> bool {
    ["/dev/fd", "/proc"].iter().any(|at| path.starts_with(at)) || [1, 2].iter().any(|&n| is_handle(found, n))
}

/// The file that `path`, which a user names, leads to, for [`atomically`] to replace; anything but a link to a file of its
/// own stays as it is named.
pub fn followed(path: &Path) -> PathBuf {
    let own = fs::metadata(path).is_ok_and(|found| found.is_file() && !is_shared(path, &found));
    path.canonicalize().ok().filter(|_| own).unwrap_or_else(|| path.to_path_buf())
}

/// A path's last part as text; none of `/` and `..`.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The folder that a file lies in.
fn folder(of: &Path) -> &Path {
    of.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Why there is no temporary file or folder, and what to do.
pub(crate) fn no_temporary(error: io::Error) -> anyhow::Error {
    let folder = std::env::temp_dir();
    anyhow!(
        "nothing can be made in {}, for temporary files ({error}): set TMPDIR to a folder that is there and can be written",
        folder.display()
    )
}

/// Writes what `write` makes into what is there.
fn into<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let draft = tempfile::NamedTempFile::new().map_err(no_temporary)?;
    let value = write(draft.path())?;
    let mut way = OpenOptions::new();
    way.append(true);
    // Not to wait for a pipe's reader; then again, and not to be told to come back later.
    let _reader_stays = way.clone().custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut out = way.open(path)?;
    io::copy(&mut File::open(draft.path())?, &mut out)?;
    Ok(value)
}

/// Removes what killed processes were writing in `folder` when they died; what is being written is locked.
pub fn sweep(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes())) {
        let path: PathBuf = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok()) {
                let _ = fs::remove_dir_all(path);
            }
        } else if own(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes `bytes` to `path` so that a reader, or a crash, sees the old file or the whole new one; see [`atomically`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    atomically(path, |draft| Ok(io::Write::write_all(&mut own(draft)?, bytes)?))
}
