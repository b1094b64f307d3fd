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
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use tch::Tensor;

use crate::datasets::{Card, Look, Photo};
use crate::metrics::Score;
use crate::report::{Report, Table};
use crate::run::photos::{Hashed, Of, Photos, Read, Reads, Tested};
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
        let path = photo.source.path()?;
        let known = said.entry((person, photo.camera)).or_insert_with(|| format!("{person} {}", photo.camera).into());
        Some(Read { name: photo.name.clone(), of: Of::File(path), known: Arc::clone(known) })
    };
    Box::new(photos.into_iter().filter_map(read))
}

/// What the run in the folder `at` was trained on of what is `tested` of `data`, its `own` or others; see [`Photos::seen`].
pub(crate) fn trained_on<D: Data>(at: &Path, data: &D, tested: &[Hashed], own: bool) -> Tested {
    fn key(read: &Read) -> (&str, &Of) {
        (&read.name, &read.of)
    }
    // What trains and is tested, as in folds, is parted otherwise in its own training; others do not train on it.
    let keys: HashSet<_> = tested.iter().map(|(read, _)| key(read)).collect();
    let both: HashSet<Read> = data.trained().filter(|read| own && keys.contains(&key(read))).collect();
    let both: HashSet<_> = both.iter().map(key).collect();
    let tested: Vec<&Hashed> = tested.iter().filter(|(read, _)| !both.contains(&key(read))).collect();
    Photos::seen(at, &tested, Box::new(data.trained().filter(|read| !keys.contains(&key(read)))), own)
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
