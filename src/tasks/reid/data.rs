//! Who is trained on and who is tested: the flags that open a set, and whether it can be scored.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::datasets::{self, Layout, Photo, ReidSet, Split};
use crate::headings::{Heading, Place::Ours};
use crate::metrics::retrieval::Identity;
use crate::say::{count, plural};
use crate::tasks::{bare, before::UNKNOWN, kept::full};
use crate::{files, lists, seed};

/// Which people are trained on and which are tested, as flags.
#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReidData {
    /// Data set folder (Market-1501, MARS, CUHK03, CUHK01, VIPeR, or one folder an identity), or drawn for the built-in set
    // The default is the paper's own set, which its presets fill in.
    #[arg(long, value_name = "DIR|drawn", default_value = "", value_parser = bare, add = Ours, help_heading = Heading::Data)]
    pub data: String,
    /// Split: a test set of CUHK03 (1 to 20), a drawn one of CUHK01 or VIPeR, or np for CUHK03's new protocol
    #[arg(long, value_name = "N|np", default_value_t = Split::default(), add = Ours, help_heading = Heading::Data)]
    pub split: Split,
    /// People to test in CUHK01 (486 or 100) or VIPeR; 486 and 316 where it is not given
    #[arg(long, value_name = "N", add = Ours, help_heading = Heading::Data)]
    pub test_people: Option<usize>,
    /// Hold this many training people out and score on them; 0 scores on the test set
    #[arg(long, value_name = "N", default_value_t = 0, add = Ours, help_heading = Heading::Data)]
    pub validation: usize,
}

impl ReidData {
    /// The set of a run with this `seed`, lists without pixels: `validation` training people, drawn from it, take the place
    /// of the test people (1703.07737, Table 1). That a test set cannot be scored is a note, said before hours of training.
    ///
    /// # Errors
    /// As [`datasets::open_split`]; a split of the drawn set, which has none; people held out who are too few, or cannot be scored.
    pub fn open(&self, seed: u64) -> Result<ReidSet> {
        let set = if self.data != "drawn" {
            datasets::open_split(Path::new(&self.data), self.split, self.test_people)?
        } else {
            ensure!(
                self.split == Split::default() && self.test_people.is_none(),
                "the drawn set has one test set: leave out --split and --test-people"
            );
            datasets::drawn::set()
        };
        let mut set = match self.validation {
            0 => set,
            people => set.hold_out(people, seed::named(seed, "validation")).context("--validation")?,
        };
        let division = std::mem::take(&mut set.division);
        set.notes.extend(division.into_iter().chain(single(&set)).chain(alone(&set)));
        match can_be_scored(&set) {
            Err(why) if self.validation > 0 => return Err(why.context("--validation")),
            scored => set.notes.extend(scored.err().map(|why| why.to_string())),
        }
        Ok(set)
    }

    /// Other data to score a run on that was trained on these, or another split of them, on which nobody may be tested who
    /// was trained on.
    ///
    /// # Errors
    /// As [`ReidData::open`]; photos of the training among those to score on.
    pub fn elsewhere(&self, other: &ReidData, seed: u64) -> Result<ReidSet> {
        let mut set = other.open(seed)?;
        // Published weights have no data of their own.
        if !self.data.is_empty() {
            let (seen, all) = self.trained_on(seed, other, &mut set);
            ensure!(
                seen == 0,
                "the run was trained on {seen} of the {all} test photos of {}: score it on its own split, or train on this one",
                set.name
            );
        }
        Ok(set)
    }

    /// On how many test photos of `set`, which `other` opened, a run of these data with this `seed` was trained, and how many
    /// there are; (0, 0) with a note in `set` where these data cannot be opened, and without one where they are of other photos.
    pub(in crate::tasks) fn trained_on(&self, seed: u64, other: &ReidData, set: &mut ReidSet) -> (usize, usize) {
        let Ok(own) = self.open(seed) else {
            set.notes.push(format!("{UNKNOWN}: {} cannot be opened", self.data));
            return (0, 0);
        };
        // A copy of a known layout is known by its photos' names.
        let copies = own.layout == set.layout && own.layout != Layout::Tree;
        if self.data != other.data && !copies && !share_files(&self.data, &other.data) {
            return (0, 0);
        }
        let file = |photo: &Photo| full(photo).filter(|_| !copies).unwrap_or_else(|| PathBuf::from(&*photo.name));
        let trained: HashSet<PathBuf> = own.train.iter().map(file).collect();
        let tested = set.query.iter().chain(&set.gallery).filter(|photo| photo.person > 0);
        tested.fold((0, 0), |(seen, all), photo| (seen + usize::from(trained.contains(&file(photo))), all + 1))
    }
}

/// Whether two folders of data have files in common: they are one, or one lies in the other.
fn share_files(one: &str, other: &str) -> bool {
    let folder = |data: &str| Path::new(data).canonicalize().ok();
    folder(one).zip(folder(other)).is_some_and(|(one, other)| one.starts_with(&other) || other.starts_with(&one))
}

/// Who the photos show.
pub fn identities(photos: &[Photo]) -> Vec<Identity> {
    photos.iter().map(|photo| Identity { person: photo.person, camera: photo.camera }).collect()
}

/// Persons and cameras of photos.
pub fn people_and_cameras(photos: &[Photo]) -> (Vec<i64>, Vec<i64>) {
    photos.iter().map(|photo| (photo.person, photo.camera)).unzip()
}

/// Query and gallery of a set for a network that compares photo with photo: the middle photo of a tracklet stands for all of
/// it, which a note then says. A set without tracklets gives its photos.
pub fn middle_photos(set: &ReidSet) -> ReidSet {
    let middles = |photos: &[Photo]| -> Vec<Photo> {
        let runs = photos.chunk_by(|a, b| a.tracklet >= 0 && a.tracklet == b.tracklet);
        runs.map(|run| run[run.len() / 2].clone()).collect()
    };
    let (query, gallery) = (middles(&set.query), middles(&set.gallery));
    let fewer = query.len() + gallery.len() < set.query.len() + set.gallery.len();
    let note = fewer.then(|| "a pair is of two photos: in the test the middle one of a tracklet stands for it".into());
    ReidSet {
        name: set.name.clone(),
        layout: set.layout,
        query,
        gallery,
        notes: note.into_iter().collect(),
        ..ReidSet::default()
    }
}

/// How many training people have one photo, where there are any.
fn single(set: &ReidSet) -> Option<String> {
    let mut each: BTreeMap<i64, usize> = BTreeMap::new();
    set.train.iter().for_each(|photo| *each.entry(photo.person).or_default() += 1);
    let single = each.values().filter(|&&count| count == 1).count();
    let has = plural(single, "has one photo: it brings", "have one photo each: they bring");
    let total = count(each.len(), "training person");
    (single > 0).then(|| format!("{single} of {total} {has} negatives and no positive pair of two photos"))
}

/// That nobody else could be found than who is searched for, where it is so.
fn alone(set: &ReidSet) -> Option<String> {
    let mut people = set.query.iter().chain(&set.gallery).map(|photo| photo.person).filter(|&person| person >= 0);
    let first = people.next().filter(|&person| person > 0)?;
    let none = "the test photos show one person and nobody else: any network finds them, and a score says nothing";
    people.all(|person| person == first).then(|| none.into())
}

/// Refuses a set with cameras whose test photos are all by one.
///
/// # Errors
/// Where they are.
pub fn has_cameras(set: &ReidSet) -> Result<()> {
    let seen: std::collections::BTreeSet<i64> =
        set.query.iter().chain(&set.gallery).map(|photo| photo.camera).collect();
    ensure!(
        set.layout == Layout::Tree || set.gallery.is_empty() || seen.len() > 1,
        "{}: all its test photos are by one camera, and a match by the query's own camera does not count: give photos by two cameras, or one folder an identity (DIR/ID/*.jpg), which needs no cameras",
        set.name
    );
    Ok(())
}

/// Refuses a set that cannot be scored.
///
/// # Errors
/// As [`has_cameras`], and where no query has a match in the gallery by another.
pub fn can_be_scored(set: &ReidSet) -> Result<()> {
    has_cameras(set)?;
    // Of each person the first and the last camera: one of them is another than a query's, or none is.
    let mut cameras: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for photo in &set.gallery {
        let (least, most) = cameras.entry(photo.person).or_insert((photo.camera, photo.camera));
        (*least, *most) = ((*least).min(photo.camera), (*most).max(photo.camera));
    }
    let another = |photo: &Photo| cameras.get(&photo.person).is_some_and(|&ends| ends != (photo.camera, photo.camera));
    let found = |photo: &Photo| photo.person > 0 && another(photo);
    let cause = if set.layout == Layout::Tree { "of another photo" } else { "by another camera" };
    ensure!(
        set.query.iter().any(found),
        "{}: no query has a match {cause} in the gallery: give other --data",
        set.name
    );
    Ok(())
}

/// Who is trained on and who is tested, by the names in the files' names, into `split.json` of the run at `at`: for sets
/// of several splits. A run that goes on (`resumed`) must find the same people.
///
/// # Errors
/// Where it finds others, or the file cannot be written.
pub fn write_split(at: &Path, set: &ReidSet, split: Split, resumed: bool) -> Result<()> {
    let Some(people) = datasets::split_people(set) else { return Ok(()) };
    let path = at.join("split.json");
    let value = json!({"data": set.name, "split": split, "train": people.train, "test": people.test});
    let damaged = || format!("{}: restore it, or choose another --run", path.display());
    let before = (resumed && path.exists()).then(|| lists::json::<Value>(&path)).transpose().with_context(damaged)?;
    ensure!(
        before.is_none_or(|before| before == value),
        "{}: the people of {} are not those that this run was started with: restore the data, or choose another --run",
        path.display(),
        set.name
    );
    files::write_atomic(&path, serde_json::to_string(&value)?.as_bytes())
}
