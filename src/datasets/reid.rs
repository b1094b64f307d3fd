//! Person re-identification: Market-1501, MARS, CUHK03, CUHK01, VIPeR, or one folder an identity.
//!
//! [`open`] finds the layout by what is in the folder, reads names and lists but no pixels, and compares the counts
//! with the published ones. What is unusual is said in [`ReidSet::notes`]; what is wrong is an
//! error that names the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::split::{self, Split};
use super::{Card, Photo, SIDES, beside, called, market1501, mars, persons, tree};
use crate::folders::spelt;
use crate::lists::spellings;
use crate::say::{count, plural, thousands};
use crate::{catalog, files, seed};

/// How a set lies on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `bounding_box_train`, `query`, `bounding_box_test`; `PPPP_cCsS_FFFFFF_BB.jpg`.
    Market1501,
    /// `bbox_train`, `bbox_test`, `info`; tracklets.
    Mars,
    /// CUHK03, converted: `PAIR_NNN_VIEW_II.png` and test sets.
    Cuhk03,
    /// CUHK01: `campus/PPPPNNN.png`.
    Cuhk01,
    /// VIPeR: `cam_a`, `cam_b`.
    Viper,
    /// One folder an identity.
    #[default]
    Tree,
    /// Drawn by code.
    Drawn,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Market1501 => "Market-1501",
            Layout::Mars => "MARS",
            Layout::Cuhk03 => "CUHK03",
            Layout::Cuhk01 => "CUHK01",
            Layout::Viper => "VIPeR",
            Layout::Tree => "one folder an identity",
            Layout::Drawn => "drawn",
        })
    }
}

/// A person re-identification set. Where tracklets are not -1, an identity of the protocol is a tracklet: average the
/// embeddings of its photos. MARS's queries stand in the gallery too (the same-camera rule drops them).
#[derive(Clone, Debug, Default)]
pub struct ReidSet {
    /// The folder's name, or what drew it.
    pub name: String,
    /// How it lies on disk.
    pub layout: Layout,
    /// To train on: only persons above 0.
    pub train: Arc<Vec<Photo>>,
    /// What is looked for.
    pub query: Vec<Photo>,
    /// Where it is looked for, with distractors (0) and junk (-1).
    pub gallery: Vec<Photo>,
    /// More photos of a query's person by the query's camera, to be averaged with it (Market-1501's `gt_bbox`).
    pub multi_query: Vec<Photo>,
    /// Whether it is divided by CUHK03's new protocol.
    pub new_protocol: bool,
    /// What the folder lacks of the published set, where its divided parts don't tell.
    pub unlike: Option<String>,
    /// What the reader of a score must know: counts that differ from the published set, files passed over.
    pub notes: Vec<String>,
    /// The same of how the test is divided off, which holds no more where others are held out.
    pub division: Vec<String>,
}

impl ReidSet {
    /// Every photo: train, query, gallery, multi-query.
    pub fn photos(&self) -> impl Iterator<Item = &Photo> {
        self.train.iter().chain(&self.query).chain(&self.gallery).chain(&self.multi_query)
    }

    /// The person of every training photo.
    pub fn people(&self) -> Vec<i64> {
        self.train.iter().map(|photo| photo.person).collect()
    }

    /// Whether every count is the published set's, so that a score may stand beside the paper's.
    pub fn is_published(&self) -> bool {
        match self.layout {
            Layout::Market1501 => market1501::differs(self).is_none(),
            Layout::Mars => mars::differs(self).is_none(),
            Layout::Cuhk03 | Layout::Cuhk01 | Layout::Viper => split::differs(self).is_none(),
            Layout::Tree | Layout::Drawn => false,
        }
    }

    /// The data card; decodes every image on all cores.
    pub fn card(&self) -> Card {
        let strays = if self.layout == Layout::Mars { mars::strays(self) } else { Vec::new() };
        let notes = [&self.notes[..], &self.division, &strays].concat();
        let mut card = Card::new(&self.name, &self.layout.to_string(), self.is_published(), &notes);
        card.photos(
            &[
                ("train", &self.train),
                ("query", &self.query),
                ("gallery", &self.gallery),
                ("multi-query", &self.multi_query),
            ],
            |photo| photo.source.image(),
        );
        card
    }

    /// The set of the loss study (Table 1): `people` of the training persons, drawn by `seed`, become the test. One
    /// random tracklet (or photo, where there are none) for each person and camera is the query, everything of theirs
    /// the gallery; the rest trains. On MARS the paper holds out 150 of 625.
    ///
    /// # Errors
    /// Where fewer than two persons would be left on either side.
    pub fn hold_out(&self, people: usize, seed: u64) -> Result<ReidSet> {
        let mut persons: Vec<i64> = persons(&*self.train).into_iter().collect();
        let total = persons.len();
        ensure!(
            people >= 2 && people + 2 <= total,
            "cannot hold out {people} of {}: give a number from 2 to {}",
            count(total, "training person"),
            total.saturating_sub(2)
        );
        persons.shuffle(&mut seed::at(seed, 0, 0));
        let held: BTreeSet<i64> = persons.into_iter().take(people).collect();
        let (mut gallery, train): (Vec<Photo>, Vec<Photo>) =
            self.train.iter().cloned().partition(|photo| held.contains(&photo.person));
        let train = train.into();
        // Runs of photos that the protocol counts as one.
        let mut units: BTreeMap<(i64, i64), Vec<&[Photo]>> = BTreeMap::new();
        for run in gallery.chunk_by(|a, b| a.tracklet != -1 && a.tracklet == b.tracklet) {
            units.entry((run[0].person, run[0].camera)).or_default().push(run);
        }
        let tree = self.layout == Layout::Tree;
        let asked = units.iter().filter(|(_, runs)| !tree || runs.len() > 1);
        let single = units.len() - asked.clone().count();
        let query = asked.flat_map(|(&(person, camera), runs)| {
            let mut rng = seed::at(seed, person as u64, camera as u64);
            runs[rng.random_range(0..runs.len())].iter().cloned()
        });
        let query: Vec<Photo> = query.collect();
        let mut division =
            vec![format!("{people} of the {total} training people are held out to validate (seed {seed})")];
        if tree {
            // No cameras: as in its test set.
            division.push(tree::cameras("an image of each, drawn by the seed,"));
            division.extend(tree::without_query(single));
            let asked: BTreeSet<&str> = query.iter().map(|photo| &*photo.name).collect();
            gallery.retain(|photo| !asked.contains(&*photo.name));
            gallery.iter_mut().for_each(|photo| photo.camera = 2);
        }
        let name = format!("{} (validation)", self.name);
        let of_all = self.clone();
        Ok(ReidSet { name, train, query, gallery, multi_query: Vec::new(), division, ..of_all })
    }
}

/// Opens the set in `dir`: any of `bounding_box_train`, `bounding_box_test` and `query` makes it Market-1501 (without the
/// first it is a test set alone), `bbox_train` or `bbox_test` MARS, `cam_a` or `cam_b` VIPeR, `campus` CUHK01,
/// `testsets.json` beside it CUHK03; where a person might be called so, the files' names must be the layout's too. Anything
/// else is read as one folder an identity. Order is by name, whatever the file system gives. Of a set with several splits
/// this is the first: see [`open_split`].
///
/// # Errors
/// One line: a missing or empty folder, a name that does not follow the layout, a missing list.
pub fn open(dir: &Path) -> Result<ReidSet> {
    open_split(dir, Split::default(), None)
}

/// As [`open`], with a split of CUHK03, CUHK01 or VIPeR. Of the latter two `test_people` are tested (486 and 316, where
/// it says nothing).
///
/// # Errors
/// As [`open`]; a split that the set doesn't have.
pub fn open_split(dir: &Path, split: Split, test_people: Option<usize>) -> Result<ReidSet> {
    ensure!(dir.exists(), "no folder {}: {}", dir.display(), catalog::cure(dir));
    ensure!(dir.is_dir(), "{} is not a folder: give the folder that holds the images", dir.display());
    spelt(dir, &[market1501::PARTS, &["bbox_train", "bbox_test", "cam_a", "cam_b", "campus"], &SIDES].concat())?;
    let parts = split::layout(dir);
    let mut set = if let Some(layout) = parts {
        split::open(dir, layout, split, test_people)?
    } else if market1501::is_one(dir) {
        market1501::open(dir)?
    } else if mars::is_one(dir) {
        mars::open(dir)?
    } else {
        tree::open(dir)?
    };
    ensure!(
        parts.is_some() || split == Split::default() && test_people.is_none(),
        "{} has one fixed test set: leave out --split and --test-people",
        dir.display()
    );
    set.name = called(dir);
    if set.layout == Layout::Cuhk03 {
        let full = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
        set.name = format!("{}-{}", full.parent().map_or_else(String::new, files::name), set.name);
    }
    let both = persons(&*set.train).intersection(&persons(&set.query)).count();
    if both > 0 && set.layout != Layout::Tree {
        let (word, both) = (plural(both, "is", "are"), count(both, "person"));
        set.division.push(format!("{both} {word} both in the training and in the queries: a score measures memory"));
    }
    let own: &[&str] = match set.layout {
        Layout::Market1501 => &[market1501::PARTS, &["gt_query"]].concat(),
        Layout::Mars => &["bbox_train", "bbox_test", "info"],
        Layout::Viper => &["cam_a", "cam_b"],
        Layout::Cuhk01 if dir.join("campus").is_dir() => &["campus"],
        _ => &[],
    };
    let beside = if own.is_empty() { Vec::new() } else { beside(dir, own)? };
    let copies = copies(set.photos());
    set.notes.extend(beside.into_iter().chain(copies));
    Ok(set)
}

/// How many photos have names that file managers give to copies, `a (1).jpg` or `a - Copy.jpg`, or nothing.
pub(super) fn copies<'a>(photos: impl Iterator<Item = &'a Photo>) -> Option<String> {
    let copied = |photo: &&Photo| {
        let stem = photo.name.rsplit_once('.').map_or(&*photo.name, |(stem, _)| stem);
        let number = stem.strip_suffix(')').and_then(|stem| stem.rsplit_once(" ("));
        number.is_some_and(|(_, number)| number.parse::<u32>().is_ok())
            || stem.ends_with(" - Copy")
            || stem.ends_with(" copy")
    };
    let mut all = photos.filter(copied);
    let first = all.next()?;
    let copies = 1 + all.count();
    let word = plural(copies, "is a copy, by its name", "are copies, by their names");
    Some(format!(
        "{} {word} (the first {}), and counted as others are: remove them",
        count(copies, "photo"),
        first.name
    ))
}

/// A note of folders whose names are one name as people write it, in other letters or by a list: `named` are folders, each
/// with its name.
pub(super) fn namesakes<'a>(named: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let mut first: BTreeMap<String, &str> = BTreeMap::new();
    let mut twins = named.filter_map(|(folder, name)| {
        let all = spellings(name);
        let other = all.iter().find_map(|name| first.get(name)).copied().filter(|other| *other != folder);
        for name in all {
            first.entry(name).or_insert(folder);
        }
        Some((other?, folder))
    });
    let (one, other) = twins.next()?;
    let count = 1 + twins.count();
    let word = plural(
        count,
        "folder has another's name and is a person of its own",
        "folders have others' names and are people of their own",
    );
    Some(format!(
        "{} {word}, as {one} and {other}: where it is one person, move the photos into one folder",
        thousands(count)
    ))
}

/// Why a set has nobody to train on, or only one person.
pub(crate) fn too_few(set: &ReidSet) -> String {
    let trained = persons(&*set.train).len();
    format!("{} has training images of {}: at least 2 needed", set.name, count(trained, "identity"))
}

/// A note where more are tested than trained on: perhaps the folders were swapped.
pub(super) fn turned(train: usize, test: usize) -> Option<String> {
    let (less, more) = (count(train, "identity"), thousands(test));
    (0 < train && train < test)
        .then(|| format!("train has {less} and test {more}: if that is not meant, the two are in each other's place"))
}

/// Whether a folder is a set of a layout other than one folder an identity, or has both sides.
pub(super) fn has_layout(dir: &Path) -> bool {
    split::layout(dir).is_some()
        || market1501::is_one(dir)
        || mars::is_one(dir)
        || SIDES.iter().all(|side| dir.join(side).is_dir())
}

/// An error for a folder of a layout that is not there.
pub(super) fn need_folder(dir: &Path, folder: &str, layout: Layout) -> Result<PathBuf> {
    let path = dir.join(folder);
    if !path.is_dir() {
        let cure = catalog::fetch_for(dir).map_or("unpack the set again".into(), |command| {
            format!("move {} away, and {command} gets it whole", dir.display())
        });
        bail!("{} is missing: {layout} has it beside the other folders; {cure}", path.display());
    }
    Ok(path)
}
