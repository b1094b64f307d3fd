//! What a run is trained on, so that a run which goes on finds the same: names, sizes and times of change of photos (of
//! films, say) and what lists say of them, a line each, in `photos.csv.gz` of the run's folder (some ten bytes a photo).
//!
//! Names and sizes decide, and times of change where some are as they were. Where all differ it is a copy that does not
//! keep them, which is only said. `config.json` has the list's hash: that of another run is none of this one's.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use rayon::prelude::*;
use serde::Deserialize;

use super::config::Config;
use crate::files;
use crate::say::{note as say_note, one_line};

pub use seen::Files;
pub use twice::twice;

mod seen;
mod twice;

const FILE: &str = "photos.csv.gz";
const HEAD: [&str; 4] = ["name", "bytes", "changed", "known"];

/// What a task's data say that they were read from: a photo or another file, or something of a list, and what is known of
/// it beside its pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Its name within the data.
    pub name: Arc<str>,
    /// The file, where it is one.
    pub path: Option<PathBuf>,
    /// Its person, its labels, its numbers: as text, or a hash of them.
    pub known: Arc<str>,
}

/// One after the other, for there may be millions.
pub type Reads<'a> = Box<dyn Iterator<Item = Read> + 'a>;

impl Read {
    /// A thing of a list that is no file, of which only a BLAKE3 hash of its `content` is kept.
    pub fn hashed(name: impl Into<Arc<str>>, content: &[u8]) -> Read {
        Read { name: name.into(), path: None, known: blake3::hash(content).to_hex()[..16].into() }
    }
}

/// What is known of a photo, and a row of the list. What is no file, or is not there, has size and time 0.
#[derive(Debug)]
struct Seen {
    name: Arc<str>,
    bytes: u64,
    /// Nanoseconds since 1970.
    changed: u64,
    known: Arc<str>,
}

/// A file's size, and its time of change in nanoseconds since 1970; zeros where there is none.
fn state(path: Option<&Path>) -> (u64, u64) {
    let found = path.and_then(|path| path.metadata().ok());
    let changed = found.as_ref().and_then(|found| found.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    (found.map_or(0, |found| found.len()), changed.map_or(0, |time| time.as_nanos() as u64))
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
}

/// The rows of the list in the run's folder `at`, and whether they say what is known beside sizes and times: older ones do not.
/// `or` is what else to do in an error's words, where there is something.
fn listed(at: &Path, or: &'static str) -> Result<(bool, impl Iterator<Item = Result<Row>>)> {
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
    let knows = head == HEAD;
    ensure!(knows || head == HEAD[..3], cannot());
    Ok((knows, reader.into_deserialize::<Row>().map(move |row| row.with_context(&cannot))))
}

/// A hash of the names and contents of `all` (of films and other large files their sizes), whatever their order, and of what
/// lists say of them: 16 digits, none of nothing. What cannot be read counts as empty.
pub fn content(mut all: Vec<Read>) -> Option<String> {
    const WHOLE: u64 = 64 << 20;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let of = |Read { name, path, known }: &Read| {
        let length = path.as_ref().and_then(|path| path.metadata().ok()).map_or(0, |found| found.len());
        let whole =
            path.as_ref().filter(|_| length <= WHOLE).and_then(|path| files::read(path).ok()).unwrap_or_default();
        format!("{:?}", (name, known, length, blake3::hash(&whole)))
    };
    let all: Vec<String> = all.par_iter().map(of).collect();
    (!all.is_empty()).then(|| blake3::hash(all.concat().as_bytes()).to_hex()[..16].to_string())
}

/// The training photos of a run, or what it has in their place, by name.
#[derive(Debug)]
pub struct Photos(Vec<Seen>);

impl Photos {
    /// Looks at the files of `all`, on all cores.
    pub fn of(all: impl IntoIterator<Item = Read>) -> Photos {
        let row = |Read { name, path, known }: Read| {
            let (bytes, changed) = state(path.as_deref());
            Seen { name, bytes, changed, known }
        };
        let all = all.into_iter();
        let mut rows = Vec::with_capacity(all.size_hint().1.unwrap_or(0));
        let mut all = all.peekable();
        while all.peek().is_some() {
            let some: Vec<Read> = all.by_ref().take(1 << 12).collect();
            rows.par_extend(some.into_par_iter().map(row));
        }
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
        let (knows, mut before) = listed(at, ", or say --data-changed to train without it")?;
        let mut old = before.next().transpose()?;
        let mut new = self.0.iter().peekable();
        let mut found = [const { (0_usize, String::new()) }; 5];
        let mut alike = 0_usize;
        let [added, removed, resized, relabelled, touched] = &mut found;
        let note = |of: &mut (usize, String), name: &str| {
            if of.0 == 0 {
                of.1 = name.to_string();
            }
            of.0 += 1;
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
                (Some(was), Some(is)) if was.bytes != is.bytes => note(resized, &is.name),
                (Some(was), Some(is)) if knows && renamed(&was.known, &is.known, &is.name) => {
                    note(relabelled, &is.name)
                }
                (Some(was), Some(is)) if was.changed != is.changed => note(touched, &is.name),
                (Some(was), None) => note(removed, &was.name),
                (None, Some(is)) => note(added, &is.name),
                (_, Some(is)) if is.changed == 0 => {}
                _ => alike += 1,
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
        let what = ["added", "removed", "of another size", "of other labels or content", "of another time of change"];
        if may_lack {
            found[1].0 = 0;
        }
        let decide = if alike > 0 { 5 } else { 4 };
        let all: Vec<String> = found.iter().zip(what).take(decide).filter_map(|(of, what)| said(of, what)).collect();
        if !all.is_empty() {
            return Ok(Some(all.join(", ")));
        }
        if let Some(times) =
            said(&found[4], "training photos, all of the same name and size, have another time of change")
        {
            say_note(times);
        }
        Ok(None)
    }

    /// How many of `tested`, of its `own` data or of others, the run in the folder `at` was trained on, wherever they lie: its data
    /// have the files `now` to train on. None where nothing is known, which is said where it once was, or where they are so few
    /// that it may be chance, which is said too.
    pub fn seen(at: &Path, tested: Vec<Read>, own: bool, now: impl FnOnce() -> Files) -> usize {
        match listed(at, "").and_then(|(_, rows)| rows.collect::<Result<Vec<Row>>>()) {
            Ok(trained) => {
                let (seen, few) = seen::among(&trained, tested, own, now);
                few.iter().for_each(|few| {
                    say_note(format!("{} was trained on {few}: their scores measure memory", at.display()));
                });
                seen
            }
            Err(error) => {
                if at.join(FILE).exists() || Config::read(at).is_ok_and(|config| !config.photos().is_empty()) {
                    let error = one_line(&error);
                    say_note(format!("whether it was trained on what is tested is not known: {error}"));
                }
                0
            }
        }
    }

    /// Writes them into the folder `at` of a run, whose configuration then knows the list.
    pub fn write(&self, at: &Path) -> Result<()> {
        let mut writer = csv::Writer::from_writer(GzEncoder::new(Vec::new(), Compression::fast()));
        writer.write_record(HEAD)?;
        let row = |Seen { name, bytes, changed, known }: &Seen| writer.serialize((&**name, bytes, changed, &**known));
        self.0.iter().try_for_each(row)?;
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
