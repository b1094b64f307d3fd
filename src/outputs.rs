//! What a verb may write where its flags say so: a new name, a file that holds nothing, or one that the same verb made,
//! which says so inside. What a run keeps for itself is no verb's.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Serialize, Serializer, de::IgnoredAny, ser::SerializeMap};
use serde_json::{Map, Value, value::RawValue};
use zip::ZipArchive;

use crate::report::Report;
use crate::run::folder::is_own;
use crate::{
    files::{self, Held, UNKNOWN},
    weights,
};

mod links;

pub use links::{PERSON, links_made, links_of, remove_links};

/// The key, of JSON and of a table of texts, under which a file says what it is.
pub const MADE_BY: &str = "made_by";

/// What a TorchScript file of ours holds.
pub const MODULE: &str = "module";

/// What a file of ours that holds `what` says of itself.
pub fn mark(what: &str) -> String {
    format!("rankle {what}")
}

/// A PNG's chunk of text.
fn chunk(text: &str) -> Vec<u8> {
    let body = [b"tEXtSoftware\0", text.as_bytes()].concat();
    let length = (body.len() - 4) as u32;
    [&length.to_be_bytes()[..], &body, &crc32fast::hash(&body).to_be_bytes()].concat()
}

/// Signature and first chunk of a PNG, behind which ours stands.
const HEAD: usize = 33;

/// The PNG `bytes`, which say that they are ours of `what`, with the hash of all but that: programs that edit a picture keep
/// its texts.
pub fn marked(mut bytes: Vec<u8>, what: &str) -> Vec<u8> {
    let hash = blake3::hash(&bytes).to_hex();
    bytes.splice(HEAD..HEAD, chunk(&format!("{} {hash}", mark(what))));
    bytes
}

/// Whether the PNG at `path` is as [`marked`] made it; an older version's has no hash.
fn is_marked(path: &Path, what: &str) -> bool {
    const MOST: u64 = 1 << 28;
    let Ok(mut bytes) = files::read_up_to(path, MOST, "a picture") else { return false };
    let (older, own) = (chunk(&mark(what)), chunk(&format!("{} {UNKNOWN}", mark(what))).len());
    if bytes.get(HEAD..).is_some_and(|rest| rest.starts_with(&older)) {
        return true;
    }
    let Some(said) = bytes.get(HEAD..HEAD + own).map(<[u8]>::to_vec) else { return false };
    bytes.drain(HEAD..HEAD + own);
    marked(bytes, what).get(HEAD..HEAD + own) == Some(&*said)
}

/// The key of the BLAKE3 hash of a text of JSON, in which the hash itself counts as zeros.
const HASH: &str = "blake3";

/// What a text of JSON holds, and whether it carries its hash: of an older version it has none. None where it is no JSON, or
/// not as it was written.
fn parsed(text: &str) -> Option<(Value, bool)> {
    let said = about(text)?;
    Some((serde_json::from_str(text).ok()?, said.contains_key(HASH)))
}

/// What the object that a text of JSON is, or the first of its list, holds, each as it stands: to read all that may be long
/// takes ten times its length. None where it is no JSON, or not as it was written.
fn about(text: &str) -> Option<HashMap<String, &RawValue>> {
    let list = serde_json::from_str::<Vec<&RawValue>>(text);
    let first = list.as_ref().map_or(text, |list| list.first().map_or("", |first| first.get()));
    let Ok(said) = serde_json::from_str::<HashMap<String, &RawValue>>(first) else {
        return serde_json::from_str::<IgnoredAny>(text).is_ok().then(HashMap::new);
    };
    let Some(hash) = said.get(HASH) else { return Some(said) };
    let hash: String = serde_json::from_str(hash.get()).ok()?;
    let (before, behind) = text.split_once(&hash)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(before.as_bytes()).update(UNKNOWN.as_bytes()).update(behind.as_bytes());
    (*hasher.finalize().to_hex() == *hash).then_some(said)
}

/// What [`write_json`] wrote, and whether it carries its hash: of an older version it has none. None where there is no file.
///
/// # Errors
/// One line: it cannot be read, or is not as it was written.
pub fn read_sealed(path: &Path) -> Result<Option<(Value, bool)>> {
    let text = match files::text(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let found = parsed(&text);
    found
        .map(Some)
        .with_context(|| format!("{} is not as it was written: move it away, and evaluate again", path.display()))
}

/// Writes [`json_text`].
///
/// # Errors
/// As [`write_said`].
pub fn write_json(path: &Path, what: &str, value: &Value) -> Result<()> {
    write_said(path, what, Said::new(value, None))
}

/// [`write_json`] of what may have a list that is made while it is written.
///
/// # Errors
/// As [`check`], again: its user may have changed it since; as [`files::atomically`].
pub fn write_said(path: &Path, what: &str, said: Said<'_>) -> Result<()> {
    check(path, what)?;
    replace(path, what, said)
}

/// [`write_said`] of who has looked by a rule of its own.
pub(crate) fn replace(path: &Path, what: &str, said: Said<'_>) -> Result<()> {
    files::atomically(path, |draft| seal(files::own(draft)?, what, said))
}

/// A list that is made while it is written: that of 100,000 photos would fill a gigabyte.
#[derive(Clone, Copy)]
pub struct Listed<'a> {
    /// The key of an object under which it is written, in place of what stands there.
    pub key: &'a str,
    /// How many there are.
    pub count: usize,
    /// Each of them, the same every time.
    pub each: &'a dyn Fn(usize) -> Value,
}

impl Serialize for Listed<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq((0..self.count).map(self.each))
    }
}

/// A value as it is written, which is no copy of it.
#[derive(Clone, Copy)]
pub struct Said<'a> {
    value: &'a Value,
    list: Option<Listed<'a>>,
    /// What an object says of itself, and its hash.
    mark: Option<&'a str>,
    hash: Option<&'a str>,
}

impl<'a> Said<'a> {
    /// `value`, where it is an object with this list.
    pub fn new(value: &'a Value, list: Option<Listed<'a>>) -> Said<'a> {
        Said { value, list, mark: None, hash: None }
    }
}

impl Serialize for Said<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Value::Object(of) = self.value else { return self.value.serialize(to) };
        let mut all = to.serialize_map(None)?;
        for (key, own) in [(MADE_BY, self.mark), (HASH, self.hash)] {
            own.map_or(Ok(()), |own| all.serialize_entry(key, own))?;
        }
        for (key, value) in of {
            match self.list.filter(|list| list.key == key) {
                Some(list) => all.serialize_entry(key, &list)?,
                None if self.mark.is_some() && [MADE_BY, HASH].contains(&key.as_str()) => {}
                None => all.serialize_entry(key, value)?,
            }
        }
        all.end()
    }
}

/// Writes what [`json_text`] says, once to know its hash and once with it.
fn seal(to: impl Write, what: &str, said: Said<'_>) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    put(&mut hasher, &mark(what), said, UNKNOWN)?;
    put(to, &mark(what), said, &hasher.finalize().to_hex())
}

fn put(to: impl Write, mark: &str, said: Said<'_>, hash: &str) -> Result<()> {
    let mut to = BufWriter::new(to);
    let first = Said { mark: Some(mark), hash: Some(hash), ..said };
    let written = match said.value {
        Value::Array(list) => {
            let each =
                list.iter().enumerate().map(|(i, value)| Said { value, hash: first.hash.filter(|_| i == 0), ..first });
            serde_json::to_writer_pretty(&mut to, &each.collect::<Vec<_>>())
        }
        _ => serde_json::to_writer_pretty(&mut to, &first),
    };
    Ok(written.map_err(io::Error::from).and_then(|()| to.flush())?)
}

/// JSON that says, in each object of a list or in the one that it is, that it is ours of `what`, and that carries a hash of its
/// text.
///
/// # Errors
/// Where the value cannot be text.
pub fn json_text(what: &str, value: &Value) -> Result<String> {
    let mut text = Vec::new();
    seal(&mut text, what, Said::new(value, None))?;
    Ok(String::from_utf8(text)?)
}

/// Whether the file at `path` says that it is ours of `what`, of a page its title, and is, where it carries a hash, as it was
/// written; of a list what stands beside it says so ([`write_list`]).
pub fn made(path: &Path, what: &str) -> bool {
    let says = |found: Option<&Value>| found.and_then(Value::as_str) == Some(&mark(what));
    let mut start = Vec::new();
    let read = files::open(path).and_then(|file| file.take(128).read_to_end(&mut start));
    match (read.is_ok(), &start[..]) {
        (false, _) => false,
        (_, [b'{' | b'[', ..]) => {
            files::text(path).is_ok_and(|text| about(&text).is_some_and(|said| is_text(&said, MADE_BY, &mark(what))))
        }
        (_, [b'<', ..]) => Report::new(what, "").stands_at(path),
        (_, [0x89, b'P', ..]) => is_marked(path, what),
        (_, [b'P', b'K', ..]) => weights::is_whole_zip(path, &mark(what)),
        _ => match weights::metadata(path) {
            Some(metadata) => says(metadata.get(MADE_BY)) && weights::is_whole(path),
            None => is_list(path, what),
        },
    }
}

/// The file beside a list that says what it is: CSV has no place for that.
pub fn beside(list: &Path) -> PathBuf {
    list.with_extension("json")
}

/// The keys of that under which hashes of a list stand: of the one written with it, and of the one that was there before, which
/// stays where a kill comes between both.
fn keys(list: &Path) -> [String; 2] {
    let name = list.file_name().unwrap_or_default().to_string_lossy();
    ["", "_before"].map(|which| format!("{name}{which}_blake3"))
}

/// Whether `said` has this text under `key`.
fn is_text(said: &HashMap<String, &RawValue>, key: &str, text: &str) -> bool {
    said.get(key).is_some_and(|value| serde_json::from_str::<String>(value.get()).is_ok_and(|value| value == text))
}

fn is_list(path: &Path, what: &str) -> bool {
    let Ok(text) = files::text(&beside(path)) else { return false };
    let Some(said) = about(&text).filter(|said| said.contains_key(HASH)) else { return false };
    let known = |now: String| keys(path).iter().any(|key| is_text(&said, key, &now));
    is_text(&said, MADE_BY, &mark(what)) && files::hash(path).is_ok_and(known)
}

/// Writes a list of `what` that `fill` fills. Between its being whole on the disk and in its place, `say` writes the file
/// [`beside`] it, as [`write_json`] does, with the hashes that it is given.
///
/// # Errors
/// As [`check`], again: its user may have changed it since; as [`files::atomically`]; those of `fill` and `say`.
pub fn write_list(
    path: &Path,
    what: &str,
    fill: impl FnOnce(fs::File) -> Result<()>,
    say: impl FnOnce(Map<String, Value>) -> Result<()>,
) -> Result<()> {
    check(path, what)?;
    let before = files::hash(path).ok();
    files::atomically(path, |draft| {
        fill(files::own(draft)?)?;
        let hashes = [Some(files::hash(draft)?), before].map(Value::from);
        say(keys(path).into_iter().zip(hashes).collect())
    })
}

/// Errors where `path` cannot be written, or a file is there that holds something and is not ours of `what`.
pub fn check(path: &Path, what: &str) -> Result<()> {
    ensure!(
        !files::replaces(path)? || made(path, what),
        "{}: a file is there that this command did not write, or that was changed since: remove it, or name another",
        path.display()
    );
    Ok(())
}

/// [`check`] of a TorchScript module, and of the file beside it. An older version's has no hash: it is ours where what it says of
/// itself stands beside it.
pub fn check_module(path: &Path) -> Result<()> {
    ensure!(path.to_str().is_some(), "{}: libtorch writes no name that is not UTF-8: rename it", path.display());
    let beside = path.with_extension("json");
    if let Some(own) = unsealed(path)
        && files::text(&beside).ok() == Some(own)
    {
        return files::check(&beside).and_then(|()| files::check(path));
    }
    check(&beside, MODULE).and_then(|()| check(path, MODULE))
}

/// What a TorchScript module of ours that has no hash says of itself.
fn unsealed(path: &Path) -> Option<String> {
    const MOST: u64 = 1 << 24;
    let mut zip = ZipArchive::new(files::open(path).ok()?).ok().filter(|zip| zip.comment().is_empty())?;
    let name = zip.file_names().find(|name| name.ends_with("/extra/model.json"))?.to_string();
    let mut text = String::new();
    zip.by_name(&name).ok()?.take(MOST).read_to_string(&mut text).ok()?;
    let older = |about: Value| about["paper"].is_string() && about.get(HASH).is_none();
    serde_json::from_str(&text).is_ok_and(older).then_some(text)
}

/// The file to write `what` to where `--out` names `out`: what a link leads to. Said before the work.
///
/// # Errors
/// As [`check`]; where its folder is missing, or a run keeps a file of this name there.
pub fn check_out(out: &Path, what: &str) -> Result<PathBuf> {
    let (named, out) = (out, files::followed(out));
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let missing = folder.filter(|folder| !folder.is_dir());
    ensure!(missing.is_none(), "--out {}: there is no such folder: make it, or name another", named.display());
    check_spared(&out)?;
    check(&out, what).context("--out")?;
    Ok(out)
}

/// Holds the folder `--out`, which may be new, before the work.
///
/// # Errors
/// Where one of the files `(name, what)` cannot be written into it, it lies in a folder that is `read`, or another process writes
/// there.
pub fn hold_folder(out: &Path, files: &[(&str, &str)], read: &[&[PathBuf]]) -> Result<Held> {
    let found = fs::metadata(out).ok().filter(|found| !found.is_dir());
    found.map_or(Ok(()), |found| bail!("--out {}: it is {}: name a folder", out.display(), files::kind(&found)))?;
    for (name, what) in files {
        check_spared(&out.join(name))?;
        check(&out.join(name), what).context("--out")?;
    }
    read.iter().try_for_each(|read| apart("out", out, read))?;
    hold("out", out)
}

/// Holds the folder `at` of a flag, or says that another process writes there.
///
/// # Errors
/// As [`files::hold`].
pub fn hold(flag: &str, at: &Path) -> Result<Held> {
    files::hold(at, Duration::from_secs(1)).with_context(|| format!("--{flag}"))
}

/// Holds the file `out`, which [`check_out`] gave, before the work: by the folder FILE.kept beside it. What is open already, as
/// `/dev/stdout` is, is written into, and nobody's alone.
///
/// # Errors
/// As [`hold`].
pub fn hold_file(out: &Path) -> Result<Option<Held>> {
    let beside: OsString = [out.as_os_str(), ".kept".as_ref()].into_iter().collect();
    if files::whole_or_into(out)? {
        return Ok(None);
    }
    let held = files::hold(Path::new(&beside), Duration::from_secs(1));
    let mut held = held.with_context(|| format!("--out {}", out.display()))?;
    held.made_by_us(beside.into());
    Ok(Some(held))
}

/// Refuses a folder to write inside one that is read again next time.
///
/// # Errors
/// One line with the flag.
pub fn apart(flag: &str, out: &Path, read: &[PathBuf]) -> Result<()> {
    let at = std::path::absolute(out)?.ancestors().find_map(|at| at.canonicalize().ok());
    let inside = read.iter().find(|read| {
        read.is_dir() && read.canonicalize().ok().is_some_and(|read| at.as_ref().is_some_and(|at| at.starts_with(read)))
    });
    ensure!(
        inside.is_none(),
        "--{flag} {}: it lies in a folder of photos, which is read again next time: name a folder beside it",
        out.display()
    );
    Ok(())
}

fn check_spared(out: &Path) -> Result<()> {
    ensure!(!is_own(out), "--out {}: the run there keeps a file of this name: name another", out.display());
    Ok(())
}
