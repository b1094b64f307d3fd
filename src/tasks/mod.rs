//! Tasks: what papers of one field share, from a set and a network to scores and pictures.

pub mod before;
pub mod brought;
pub mod embed;
pub mod faces;
pub mod kept;
pub mod labels;
pub mod pairs;
pub mod people;
pub mod reid;
mod search;
pub mod skill;

pub use brought::{Brought, Use};

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use tch::Tensor;

use crate::datasets::{Card, Look, Photo};
use crate::metrics::Score;
use crate::report::{Report, Table};
use crate::run::photos::{Files, Photos, Read, Reads};
use crate::say::count;

/// A verb of a paper's own: its name, what it does, its flags, and the work.
pub type Own = (&'static str, &'static str, fn(Command) -> Command, fn(&ArgMatches) -> Result<()>);

/// A data set, as the verbs of every paper meet it.
pub trait Data {
    /// Its name, for results and folders.
    fn name(&self) -> &str;
    /// What the reader of a score must know of it.
    fn notes(&self) -> &[String];
    /// The name under which papers know it, where every count is the published set's; else why ours may not stand beside
    /// a paper's number.
    fn published_set(&self) -> std::result::Result<String, String>;
    /// Errors where it cannot be trained on, whatever is in its files: nobody there, or test photos by one camera.
    fn trainable(&self) -> Result<()> {
        Ok(())
    }
    /// Looks at the files that testing needs, and those that `training` needs too, so `far`.
    fn check(&self, training: bool, far: Look) -> Result<()>;
    /// What it trains on, and what its lists say of that, as far as it comes from files: a run that goes on must find the
    /// same. None of drawn data.
    fn trained(&self) -> Reads<'_>;
    /// What it tests on, as [`Data::trained`] has it.
    fn tested(&self) -> Reads<'_> {
        self.trained()
    }
    /// What several processes at one training must have alike.
    fn alike(&self) -> Value;
    /// What it holds, how it differs from the published set, and which of its files cannot be read; of several sets one
    /// each.
    fn cards(&self) -> Vec<Card>;
}

/// Photos of files, with their persons and cameras.
fn files<'a>(photos: impl IntoIterator<Item = &'a Photo, IntoIter: 'a>) -> Reads<'a> {
    // Numbers of people may change with those who are tested: who is who does not.
    let (mut people, mut said) = (BTreeMap::new(), BTreeMap::new());
    let read = move |photo: &Photo| {
        let count = people.len();
        let person = *people.entry(photo.person).or_insert(count);
        let path = Some(photo.source.path()?);
        let known = said.entry((person, photo.camera)).or_insert_with(|| format!("{person} {}", photo.camera).into());
        Some(Read { name: photo.name.clone(), path, known: Arc::clone(known) })
    };
    Box::new(photos.into_iter().filter_map(read))
}

/// Whether two folders of data have files in common: they are one, or one lies in the other.
fn share_files(one: &str, other: &str) -> bool {
    let folder = |data: &str| Path::new(data).canonicalize().ok();
    folder(one).zip(folder(other)).is_some_and(|(one, other)| one.starts_with(&other) || other.starts_with(&one))
}

/// Errors where a run that was `trained` on these files is to be tested on some of them, which are of the data called `name`.
fn apart(trained: Reads<'_>, tested: Reads<'_>, name: &str) -> Result<()> {
    let file = |read: Read| read.path?.canonicalize().ok();
    let (trained, tested): (HashSet<PathBuf>, Vec<PathBuf>) =
        (trained.filter_map(file).collect(), tested.filter_map(file).collect());
    let (seen, all) = (tested.iter().filter(|file| trained.contains(*file)).count(), tested.len());
    ensure!(
        seen == 0,
        "the run was trained on {seen} of the {all} test photos of {name}: score it on its own data, or on others"
    );
    Ok(())
}

/// Opens a run's own data, where they can be opened.
pub(crate) type Opens<'a, D> = &'a dyn Fn() -> Option<D>;

/// How many of the photos that `data` has for tests alone the run in the folder `at` was trained on, and how many these are;
/// see [`Photos::seen`]. They are its own data where nothing else `opens` those.
pub(crate) fn trained_on<D: Data>(at: &Path, data: &D, opens: Option<Opens<'_, D>>) -> (usize, usize) {
    // What is trained on and tested here, as a fold, is parted elsewhere.
    let both: HashSet<Arc<str>> = data.trained().map(|read| read.name).collect();
    let tested: Vec<Read> = data.tested().filter(|read| read.path.is_some() && !both.contains(&read.name)).collect();
    let all = tested.len();
    let files = |data: &D| -> Files { data.trained().filter_map(|read| Some((read.name, read.path?))).collect() };
    let now = || match opens {
        None => files(data),
        Some(open) => open().map_or_else(Files::new, |own| files(&own)),
    };
    (Photos::seen(at, tested, opens.is_none(), now), all)
}

/// Errors where the run in the folder `at` is to be tested on photos that it was trained on: of its own data, whose parts may
/// follow from what is in their folder, or of a copy; see [`trained_on`].
pub(crate) fn not_trained_on<D: Data>(at: &Path, data: &D, opens: Option<Opens<'_, D>>) -> Result<()> {
    let ((seen, all), name) = (trained_on(at, data, opens), data.name());
    let why = if opens.is_none() {
        "who is held out changed with what is in the folder: restore it, or score the run on other data"
    } else {
        "by their names and sizes, bytes or times: score it on others; if these are its own, moved, put a link to them where they lay"
    };
    ensure!(seen == 0, "the run was trained on {seen} of the {all} test photos of {name}, {why}");
    Ok(())
}

/// A hash of who is on the photos by which camera: of each row a value would take more than the photos themselves.
fn people_of<'a>(photos: impl IntoIterator<Item = &'a Photo>) -> Value {
    let mut hash = blake3::Hasher::new();
    for photo in photos {
        hash.update(&[photo.person.to_le_bytes(), photo.camera.to_le_bytes()].concat());
    }
    json!(hash.finalize().to_hex().as_str())
}

/// What an evaluation found.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// What was measured.
    pub scores: Vec<Score>,
    /// How they were computed, in words and counts.
    pub protocol: Vec<String>,
    /// What is printed in place of the list of scores, with titles; empty prints that list.
    pub tables: Vec<(String, Table)>,
    /// Pictures, behind scores and protocol.
    pub report: Report,
}

impl Default for Evaluation {
    fn default() -> Evaluation {
        Evaluation { scores: Vec::new(), protocol: Vec::new(), tables: Vec::new(), report: Report::new("", "") }
    }
}

/// What a network says of what a user brings.
#[derive(Debug, Default)]
pub struct Rows {
    /// Tensors by name, a row a name.
    pub tensors: Vec<(String, Tensor)>,
    /// The images' (videos') names.
    pub names: Vec<String>,
    /// The photos as they were seen; empty of videos.
    pub photos: Vec<Photo>,
    /// Their places among those that were brought and can be read.
    pub places: Vec<usize>,
    /// More of the file's metadata.
    pub metadata: Vec<(String, String)>,
    /// What it is, before the file's name is printed.
    pub what: String,
}

impl Rows {
    /// A list of texts in the metadata.
    pub fn texts(&self, wanted: &str) -> Option<Vec<String>> {
        let (_, list) = self.metadata.iter().find(|(name, _)| name == wanted)?;
        serde_json::from_str(list).ok()
    }

    /// A sentence, behind another, of what was brought and has no row; nothing where all has one.
    pub fn left_out(&self) -> String {
        let why = [(kept::NOT_READ, "cannot be read"), (kept::NO_FACE, "without a face")];
        let each = why.map(|(what, why)| (self.texts(what).map_or(0, |names| names.len()), why));
        let each: Vec<String> = each
            .iter()
            .filter(|(gone, _)| *gone > 0)
            .map(|(gone, why)| format!("{} {why}", count(*gone, "photo")))
            .collect();
        if each.is_empty() { String::new() } else { format!(" Left out: {}.", each.join(", ")) }
    }

    /// Rows of photos, without what is said of them.
    pub fn of(photos: Vec<Photo>) -> Rows {
        let names = photos.iter().map(|photo| photo.name.to_string()).collect();
        Rows { names, places: (0..photos.len()).collect(), photos, ..Rows::default() }
    }
}

/// A folder's name without the `/` behind it, so that a run has one name.
pub fn bare(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.trim_end_matches('/').to_string())
}
