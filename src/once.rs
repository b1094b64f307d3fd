//! Folders and lists that several processes want, read by one: what it saw of them is kept ([`kept`]), and the others see the
//! same in their places ([`told`]). What it did not look at they read themselves.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use crate::files;

/// What stands in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Its name there.
    pub name: OsString,
    /// Whether it is a folder, or a link to one.
    pub folder: bool,
    /// Whether it is a link.
    pub link: bool,
}

/// What is kept while somebody keeps: records one after another, as they travel, and of what.
#[derive(Debug, Default)]
struct Kept {
    records: Vec<u8>,
    of: HashSet<PathBuf>,
}

/// What was told, and where in it which file's bytes are.
#[derive(Debug, Default)]
struct Told {
    records: Vec<u8>,
    files: HashMap<PathBuf, Range<usize>>,
    /// Of each folder what stands in it, by name.
    folders: HashMap<PathBuf, Vec<Name>>,
}

static KEPT: Mutex<Option<Kept>> = Mutex::new(None);
static TOLD: RwLock<Option<Told>> = RwLock::new(None);

/// What `work` gives, and what it read of folders and lists through this module: for [`told`]. One at a time.
pub fn kept<T>(work: impl FnOnce() -> T) -> (T, Vec<u8>) {
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Kept::default());
    let given = work();
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).take();
    (given, kept.unwrap_or_default().records)
}

/// What `work` gives where folders and lists are as [`kept`] kept them, by the paths that they had there. One at a time.
pub fn told<T>(records: Vec<u8>, work: impl FnOnce() -> T) -> T {
    *TOLD.write().unwrap_or_else(PoisonError::into_inner) = Some(Told::of(records));
    let given = work();
    *TOLD.write().unwrap_or_else(PoisonError::into_inner) = None;
    given
}

/// What stands in a folder, by name.
///
/// # Errors
/// Where it cannot be read.
pub fn folder(dir: &Path) -> io::Result<Vec<Name>> {
    if let Some(names) = of_told(|told| told.folders.get(dir).cloned()) {
        return Ok(names);
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        // Only a link costs a look at what it points to: folders of this kind hold hundreds of thousands of files.
        let folder = if kind.is_symlink() { entry.path().is_dir() } else { kind.is_dir() };
        names.push(Name { name: entry.file_name(), folder, link: kind.is_symlink() });
    }
    names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    keep(dir, FOLDER, |records| {
        for Name { name, folder, link } in &names {
            records.push(u8::from(*folder) | u8::from(*link) << 1);
            records.extend((name.len() as u32).to_le_bytes());
            records.extend(name.as_bytes());
        }
    });
    Ok(names)
}

/// The bytes of a list: [`files::read`].
///
/// # Errors
/// As there.
pub fn list(path: &Path) -> io::Result<Vec<u8>> {
    let known = of_told(|told| told.files.get(path).map(|at| told.records[at.clone()].to_vec()));
    if let Some(bytes) = known {
        return Ok(bytes);
    }
    let bytes = files::read(path)?;
    keep(path, LIST, |records| records.extend(&bytes));
    Ok(bytes)
}

/// Whether there is something at `path`, or a link to something; of a folder that was told, whether it was there.
pub fn exists(path: &Path) -> bool {
    standing(path).map_or_else(|| path.exists(), |name| name.is_some())
}

/// As [`exists`], of a file.
pub fn is_file(path: &Path) -> bool {
    standing(path).map_or_else(|| path.is_file(), |name| name.is_some_and(|name| !name.folder))
}

/// What stands at `path` in a folder that was told; None where its folder was not, or where it is a link, which may lead
/// nowhere.
fn standing(path: &Path) -> Option<Option<Name>> {
    let (dir, name) = (path.parent()?, path.file_name()?);
    let found = of_told(|told| {
        let names = told.folders.get(dir)?;
        let at = names.binary_search_by(|other| other.name.as_os_str().cmp(name));
        Some(at.ok().map(|at| names[at].clone()))
    })?;
    found.as_ref().is_none_or(|name| !name.link).then_some(found)
}

fn of_told<T>(find: impl FnOnce(&Told) -> Option<T>) -> Option<T> {
    TOLD.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(find)
}

/// Records of folders and of lists: the kind, the length of the path, the path, the length of what follows, and that.
const FOLDER: u8 = 0;
const LIST: u8 = 1;

fn keep(path: &Path, kind: u8, content: impl FnOnce(&mut Vec<u8>)) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(kept) = kept.as_mut() else { return };
    if !kept.of.insert(path.to_path_buf()) {
        return;
    }
    let (records, path) = (&mut kept.records, path.as_os_str().as_bytes());
    records.push(kind);
    records.extend((path.len() as u64).to_le_bytes());
    records.extend(path);
    let at = records.len();
    records.extend([0; 8]);
    content(records);
    let length = (records.len() - at - 8) as u64;
    records[at..at + 8].copy_from_slice(&length.to_le_bytes());
}

impl Told {
    fn of(records: Vec<u8>) -> Told {
        let (mut at, mut told) = (0, Told::default());
        while at < records.len() {
            let kind = records[at];
            at += 1;
            let mut part = || {
                let length = u64::from_le_bytes(std::array::from_fn(|i| records[at + i])) as usize;
                at += 8 + length;
                at - length..at
            };
            let (path, bytes) = (part(), part());
            let path = PathBuf::from(OsStr::from_bytes(&records[path]));
            if kind == LIST {
                told.files.insert(path, bytes);
            } else {
                told.folders.insert(path, names(&records[bytes]));
            }
        }
        Told { records, ..told }
    }
}

/// The names of a folder's record.
fn names(mut bytes: &[u8]) -> Vec<Name> {
    let mut names = Vec::new();
    while let [kind, a, b, c, d, rest @ ..] = bytes {
        let (name, rest) = rest.split_at(u32::from_le_bytes([*a, *b, *c, *d]) as usize);
        names.push(Name { name: OsString::from_vec(name.to_vec()), folder: kind & 1 > 0, link: kind & 2 > 0 });
        bytes = rest;
    }
    names
}
