//! What a run is trained on, so that a run which goes on finds the same, and none is tested on it: names of photos (of films,
//! say), hashes of their bytes and what lists say of them, a line each, in `photos.csv.gz` of the run's folder (some twenty
//! bytes a photo). `config.json` has the list's hash: that of another run is none of this one's.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use rayon::prelude::*;
use serde::Deserialize;

use super::config::Config;
use crate::files;
use crate::say::{Bar, one_line};

pub use seen::Tested;
pub use twice::{twice, two_people};

mod seen;
mod twice;

const FILE: &str = "photos.csv.gz";
/// Older lists end before the last two, or three.
const HEAD: [&str; 6] = ["name", "bytes", "changed", "known", "hash", "former"];
/// So many columns has a list that knows hashes.
const HASHED: usize = 5;

/// What a task's data say that they were read from, and what is known of it beside its pixels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Read {
    /// Its name within the data.
    pub name: Arc<str>,
    /// What it is.
    pub of: Of,
    /// Its person, its labels, its numbers: as text, or a hash of them.
    pub known: Arc<str>,
}

/// What a [`Read`] is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Of {
    /// A photo, or another file.
    File(PathBuf),
    /// Numbers in the place of a photo, by the hash of their bytes.
    Row(u64),
    /// Something of a list.
    List,
}

/// One after the other, for there may be millions.
pub type Reads<'a> = Box<dyn Iterator<Item = Read> + 'a>;

impl Read {
    /// A thing of a list that is no file, of which only a BLAKE3 hash of its `content` is kept.
    pub fn hashed(name: impl Into<Arc<str>>, content: &[u8]) -> Read {
        Read { name: name.into(), of: Of::List, known: blake3::hash(content).to_hex()[..16].into() }
    }

    /// Numbers in the place of a photo: their `bytes`.
    pub fn row(name: impl Into<Arc<str>>, bytes: &[u8], known: impl Into<Arc<str>>) -> Read {
        Read { name: name.into(), of: Of::Row(first(&blake3::hash(bytes))), known: known.into() }
    }

    /// The file, where it is one.
    pub fn path(&self) -> Option<&Path> {
        if let Of::File(path) = &self.of { Some(path) } else { None }
    }

    /// What tells it from all others whatever it is called: a hash of its bytes and how many they are (of a film or another
    /// large file the first 64 MiB). None of a list, or of what cannot be read. A file is read once, as long as it is the same.
    fn hash(&self) -> Option<u64> {
        const MOST: u64 = 64 << 20;
        static READ: LazyLock<Mutex<HashMap<u64, u64>>> = LazyLock::new(Mutex::default);
        let read = || READ.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.of {
            Of::File(path) => {
                let file = files::open(path).ok()?;
                let state = file.metadata().ok()?;
                let place = digest(&(path, files::version(&state)));
                if let Some(known) = read().get(&place) {
                    return Some(*known);
                }
                let mut hasher = blake3::Hasher::new();
                hasher.update(&state.len().to_le_bytes());
                hasher.update_reader(file.take(MOST)).ok()?;
                let hash = first(&hasher.finalize());
                read().insert(place, hash);
                Some(hash)
            }
            Of::Row(hash) => Some(*hash),
            Of::List => None,
        }
    }
}

/// What photos, or rows of numbers, are called, one and many.
fn called(of: &Read) -> [&'static str; 2] {
    if matches!(of.of, Of::Row(_)) { ["row", "rows"] } else { ["photo", "photos"] }
}

fn first(hash: &blake3::Hash) -> u64 {
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

/// What is read, with the hash of its bytes.
pub type Hashed = (Read, Option<u64>);

/// Reads `all`, on all cores; `what` they are is said where it takes long. `lives` is called now and then.
pub fn hashed(all: Reads<'_>, what: &str, lives: &dyn Fn()) -> Vec<Hashed> {
    in_chunks(all, what, lives, |read| {
        let hash = read.hash();
        (read, hash)
    })
}

/// `row` of each, on all cores, some thousand at a time, after each of which comes `lives`.
fn in_chunks<T: Send>(
    all: impl IntoIterator<Item = Read>,
    what: &str,
    lives: &dyn Fn(),
    row: impl Fn(Read) -> T + Send + Sync,
) -> Vec<T> {
    let all = all.into_iter();
    let most = all.size_hint().1.unwrap_or(0);
    let (mut bar, mut rows) = (Bar::new(&format!("look at {what}"), most as u64, 0), Vec::with_capacity(most));
    let mut all = all.peekable();
    while all.peek().is_some() {
        let some: Vec<Read> = all.by_ref().take(1 << 12).collect();
        let count = some.len() as u64;
        rows.par_extend(some.into_par_iter().map(&row));
        bar.step(count);
        lives();
    }
    rows
}

/// What is known of a photo, and a row of the list. What is no file, or is not there, has size and time 0.
#[derive(Debug)]
struct Seen {
    name: Arc<str>,
    bytes: u64,
    /// See [`state`].
    changed: u64,
    known: Arc<str>,
    hash: Option<u64>,
}

/// A file's size, and a number that is another one when anything of it changed, or another file is there; zeros where there is none.
fn state(path: Option<&Path>) -> (u64, u64) {
    let found = path.and_then(|path| path.metadata().ok());
    found.map_or((0, 0), |found| (found.len(), digest(&files::version(&found))))
}

/// For tables and comparisons of one machine.
fn digest(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The person that a photo of a set of people is known by, a number that those before may shift, and the rest.
fn person(known: &str) -> Option<(u64, &str)> {
    let (person, camera) = known.split_once(' ')?;
    camera.parse::<i64>().ok()?;
    Some((person.parse().ok()?, camera))
}

/// The same, of a list that is read.
#[derive(Deserialize)]
struct Row {
    name: String,
    bytes: u64,
    changed: u64,
    #[serde(default)]
    known: String,
    /// In hexadecimal.
    #[serde(default)]
    hash: String,
    /// Not empty of what was trained on once, before the data changed.
    #[serde(default)]
    former: String,
}

impl Row {
    fn hash(&self) -> Option<u64> {
        u64::from_str_radix(&self.hash, 16).ok()
    }
}

/// The rows of the list in the run's folder `at`, and how many columns it has.
/// `or` is what else to do in an error's words, where there is something.
fn listed(at: &Path, or: &'static str) -> Result<(usize, impl Iterator<Item = Result<Row>>)> {
    let path = at.join(FILE);
    let named = path.display().to_string();
    let cannot = move || format!("cannot read {named}: restore it{or}");
    let own = || -> Result<bool> {
        let (hash, config) = (files::hash(&path).with_context(&cannot)?, Config::read(at).ok());
        let known = config.as_ref().map_or(Vec::new(), Config::photos);
        Ok(known.is_empty() || known.contains(&&*hash))
    };
    let other = "it is not as this run wrote it, or an older version, which keeps no hash of it, went on with the run";
    // Again: a training that goes on may have replaced list and hash in between.
    ensure!(own()? || own()?, anyhow!(other).context(cannot()));
    let file = files::open(&path).with_context(&cannot)?;
    // A list hardly packs so well; what does may be one row that no memory holds.
    let most = file.metadata().with_context(&cannot)?.len().saturating_mul(200).saturating_add(1 << 20);
    let unpacked = GzDecoder::new(BufReader::new(file)).take(most);
    let mut reader = csv::Reader::from_reader(BufReader::new(unpacked));
    // A damaged list may look like an empty one.
    let head: Vec<&str> = reader.headers().with_context(&cannot)?.iter().collect();
    let columns = head.len();
    ensure!(columns >= 3 && HEAD.starts_with(&head), cannot());
    Ok((columns, reader.into_deserialize::<Row>().map(move |row| row.with_context(&cannot))))
}

/// A hash of the names and contents of `all`, whatever their order, and of what lists say of them: 40 digits (older results have
/// another one of fewer), none of nothing. What cannot be read counts as empty.
pub fn content(all: &[Hashed]) -> Option<String> {
    let mut all: Vec<_> = all.iter().map(|(read, hash)| (&read.name, &read.known, hash.unwrap_or(0))).collect();
    all.sort();
    let mut hasher = blake3::Hasher::new();
    for (name, known, hash) in &all {
        // Names may hold anything, so that their lengths say where they end.
        for text in [name, known] {
            hasher.update(&text.len().to_le_bytes()).update(text.as_bytes());
        }
        hasher.update(&hash.to_le_bytes());
    }
    (!all.is_empty()).then(|| hasher.finalize().to_hex()[..40].to_string())
}

/// The training photos of a run, or what it has in their place, by name.
#[derive(Debug)]
pub struct Photos(Vec<Seen>);

impl Photos {
    /// Looks at the files of `all`. Of those that did not change since the list in the run's folder `at` was written, the hash is
    /// taken from there. `lives` is called now and then.
    pub fn of(all: impl IntoIterator<Item = Read>, at: &Path, lives: &dyn Fn()) -> Photos {
        let place = |name: &str, bytes: u64, changed: u64| digest(&(name, bytes, changed));
        // Of names their hashes: there may be millions.
        let before = listed(at, "").into_iter().flat_map(|(_, rows)| rows.filter_map(Result::ok));
        let before: HashMap<u64, u64> =
            before.filter_map(|row| Some((place(&row.name, row.bytes, row.changed), row.hash()?))).collect();
        let mut rows = in_chunks(all, "training data", lives, |read| {
            let (bytes, changed) = state(read.path());
            let known = before.get(&place(&read.name, bytes, changed)).copied().filter(|_| read.path().is_some());
            let hash = known.or_else(|| read.hash());
            Seen { name: read.name, bytes, changed, known: read.known, hash }
        });
        rows.par_sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Photos(rows)
    }

    /// Whether there are none: data are drawn, say.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares with what the run in the folder `at` was begun with. What differs, by example, where they `may`.
    ///
    /// # Errors
    /// Where they may not: one line that says what differs, and what to type.
    pub fn compare(&self, at: &Path, may: bool) -> Result<Option<String>> {
        match self.differences(at, false) {
            Err(_) if may => Ok(Some(format!("{FILE}, which listed them, was lost or changed"))),
            Ok(Some(all)) if !may => bail!(
                "the training data are not those that the run {} was begun with: {all}: restore them, say --data-changed to go on with these, or choose another --run",
                at.display()
            ),
            found => found,
        }
    }

    /// What was replaced since the list in the run's folder `at` was written, by example. What is gone was not, and none is known
    /// where the list is lost.
    pub fn replaced(&self, at: &Path) -> Option<String> {
        self.differences(at, true).ok().flatten()
    }

    /// What differs, by example; of files that are not there any more nothing where these `may_lack`.
    fn differences(&self, at: &Path, may_lack: bool) -> Result<Option<String>> {
        if self.is_empty() && !at.join(FILE).exists() {
            return Ok(None);
        }
        let (columns, before) = listed(at, ", or say --data-changed to train without it")?;
        let mut before = before.filter(|row| row.as_ref().map_or(true, |row| row.former.is_empty()));
        let mut old = before.next().transpose()?;
        let mut new = self.0.iter().peekable();
        let mut found = [const { (0_usize, String::new()) }; 4];
        let [added, removed, replaced, relabelled] = &mut found;
        let note = |of: &mut (usize, String), name: &str| {
            if of.0 == 0 {
                of.1 = name.to_string();
            }
            of.0 += 1;
        };
        // Older lists know nothing of labels, or of a row of numbers in another way.
        let knows = |was: &Row, is: &Seen| {
            let alike = is.bytes > 0 || was.hash().is_some() == is.hash.is_some();
            columns == HEAD.len() || (columns > 3 && alike)
        };
        // Who somebody is now, and on how many photos.
        let mut people: BTreeMap<(u64, u64), (usize, String)> = BTreeMap::new();
        let mut renamed = |was: &str, is: &str, name: &str| match (person(was), person(is)) {
            (Some((was, by)), Some((is, camera))) if by == camera => {
                people.entry((was, is)).or_insert_with(|| (0, name.to_string())).0 += 1;
                false
            }
            _ => was != is,
        };
        loop {
            let order = match (&old, new.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => (*old.name).cmp(&new.name),
            };
            let (was, is) = (old.as_ref().filter(|_| order.is_le()), new.next_if(|_| order.is_ge()));
            match (was, is) {
                (Some(was), Some(is)) if was.bytes > 0 && (is.bytes, is.changed) == (0, 0) => note(removed, &is.name),
                (Some(was), Some(is))
                    if was.bytes != is.bytes || was.hash().is_some_and(|was| is.hash != Some(was)) =>
                {
                    note(replaced, &is.name)
                }
                (Some(was), Some(is)) if knows(was, is) && renamed(&was.known, &is.known, &is.name) => {
                    note(relabelled, &is.name)
                }
                (Some(was), None) => note(removed, &was.name),
                // Older ones have fewer lists.
                (None, Some(is)) if columns < HEAD.len() && is.bytes == 0 && is.hash.is_none() => {}
                (None, Some(is)) => note(added, &is.name),
                _ => {}
            }
            if order.is_le() {
                old = before.next().transpose()?;
            }
        }
        // Numbers of people shift with who is before them: most photos of somebody say who it is.
        let mut people: Vec<((u64, u64), (usize, String))> = people.into_iter().collect();
        people.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        let (mut before, mut after) = (HashSet::new(), HashSet::new());
        for ((was, is), (count, example)) in people {
            if before.contains(&was) || after.contains(&is) {
                if relabelled.0 == 0 || example < relabelled.1 {
                    relabelled.1 = example;
                }
                relabelled.0 += count;
            } else {
                before.insert(was);
                after.insert(is);
            }
        }
        let said = |(count, example): &(usize, String), what: &str| {
            (*count > 0).then(|| format!("{count} {what} ({}{example})", if *count > 1 { "the first " } else { "" }))
        };
        if may_lack {
            removed.0 = 0;
        }
        let what = ["added", "removed", "of other bytes", "of other labels or content"];
        let all: Vec<String> = found.iter().zip(what).filter_map(|(of, what)| said(of, what)).collect();
        Ok((!all.is_empty()).then(|| all.join(", ")))
    }

    /// What the run in the folder `at` was trained on of `tested`, of its `own` data or of others, which train on what `trains`
    /// says, wherever that lay then and whatever it was called. Where nothing is known, and once was, a note says so.
    pub fn seen(at: &Path, tested: &[&Hashed], trains: Reads<'_>, own: bool) -> Tested {
        if tested.iter().all(|(read, _)| read.of == Of::List) {
            return Tested::default();
        }
        let listed = listed(at, "").and_then(|(columns, rows)| Ok((columns, rows.collect::<Result<Vec<Row>>>()?)));
        let (found, unknown) = match listed {
            Ok((columns, trained)) => {
                let older = columns < HASHED && trained.iter().any(|row| row.bytes > 0);
                let why = || format!("{FILE} there is an older version's, which has no hashes of bytes");
                let now = || Photos::of(trains, at, &|| ()).0.into_iter().filter_map(|photo| photo.hash).collect();
                (seen::among(&trained, tested, now, own), older.then(why))
            }
            Err(error) => {
                let once = at.join(FILE).exists() || Config::read(at).is_ok_and(|config| !config.photos().is_empty());
                (Tested::default(), once.then(|| one_line(&error)))
            }
        };
        let note = |why| format!("whether {} was trained on what is tested is not known: {why}", at.display());
        Tested { notes: found.notes.iter().cloned().chain(unknown.map(note)).collect(), ..found }
    }

    /// What the run in the folder `at` is said to train on by now, as `trains` says it, otherwise than it did: a list that is
    /// another one, and how many photos are left out, both by example.
    pub fn otherwise(at: &Path, trains: Reads<'_>) -> [Option<String>; 2] {
        let Ok((columns, rows)) = listed(at, "") else { return [None, None] };
        let now: HashMap<Arc<str>, (bool, Arc<str>)> =
            trains.map(|read| (read.name, (read.of == Of::List, read.known))).collect();
        let (mut other, mut left, mut example) = (None, 0, None);
        for row in rows.filter_map(Result::ok).filter(|row| row.former.is_empty()) {
            match now.get(&*row.name) {
                None => {
                    left += 1;
                    example.get_or_insert(row.name);
                }
                Some((true, known)) if columns > 3 && **known != *row.known => other = other.or(Some(row.name)),
                _ => {}
            }
        }
        [other, example.map(|first| format!("{left} (the first {first})"))]
    }

    /// Writes them into the folder `at` of a run, whose configuration then knows the list. Of one that was `begun` before, what
    /// was trained on by then stays known.
    pub fn write(&self, at: &Path, begun: bool) -> Result<()> {
        let same = |row: &Row| {
            let place = self.0.binary_search_by(|own| (*own.name).cmp(&row.name));
            place.is_ok_and(|place| self.0[place].hash == row.hash())
        };
        let before = listed(at, "").into_iter().filter(|_| begun).flat_map(|(_, rows)| rows.filter_map(Result::ok));
        let former: Vec<Row> = before.filter(|row| row.hash().is_some() && !same(row)).collect();
        let mut writer = csv::Writer::from_writer(GzEncoder::new(Vec::new(), Compression::fast()));
        writer.write_record(HEAD)?;
        let row = |Seen { name, bytes, changed, known, hash }: &Seen| {
            let hash = hash.map_or(String::new(), |hash| format!("{hash:x}"));
            writer.serialize((&**name, bytes, changed, &**known, hash, ""))
        };
        self.0.iter().try_for_each(row)?;
        for Row { name, bytes, changed, known, hash, .. } in former {
            writer.serialize((name, bytes, changed, known, hash, "former"))?;
        }
        let list = writer.into_inner().map_err(|error| error.into_error())?.finish()?;
        let (now, config) = (blake3::hash(&list).to_hex().to_string(), Config::read(at)?);
        let before: Vec<String> =
            config.photos().into_iter().filter(|known| **known != now).map(String::from).collect();
        // A kill in between leaves the one or the other.
        if !before.is_empty() {
            Config::set_photos(at, &[before, vec![now.clone()]].concat())?;
        }
        files::write_atomic(&at.join(FILE), &list)?;
        Config::set_photos(at, &[now])
    }
}
