//! Face sets on disk: LFW, YouTube Faces, or any tree of one folder a person, with or without a list of pairs.
//!
//! [`open`] finds the layout by what is in the folder, reads names and lists but no pixels, and compares counts with
//! the published ones.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use image::RgbImage;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::{Card, Look, Photo, SIDES, Source, beside, count, no_part, nothing, sides, thousands, turned};
use crate::catalog;
use crate::folders::{Identities, Passed, identities, is_tree, list, near, spelt};
use crate::seed;
use crate::source::View;

pub use pairs::Pair;
pub use people::{folder_names, names};
pub(crate) use youtube::{ALIGNED, WHOLE};

mod pairs;
mod people;
mod youtube;

/// How a face set lies on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaceLayout {
    /// `lfw/NAME/NAME_0001.jpg` (or `NAME/...`) and `pairs.txt`: everything is for testing.
    Lfw,
    /// `aligned_images_DB/NAME/VIDEO/*.jpg` (or `frame_images_DB`) and `splits.txt`: everything is for testing.
    YoutubeFaces,
    /// `train/NAME/*` and `test/NAME/*`, with or without `pairs.txt` over the test people.
    Split,
    /// `NAME/*`: a quarter of the people is held out to test.
    #[default]
    Tree,
    /// Drawn by code.
    Drawn,
}

impl fmt::Display for FaceLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaceLayout::Lfw => "LFW",
            FaceLayout::YoutubeFaces => "YouTube Faces",
            FaceLayout::Split => "one folder a person, train and test",
            FaceLayout::Tree => "one folder a person",
            FaceLayout::Drawn => "drawn",
        })
    }
}

/// Faces to train on, faces of other people to test on, and the pairs that are judged.
#[derive(Clone, Debug, Default)]
pub struct FaceSet {
    /// The folder's name, or what drew it.
    pub name: String,
    /// How it lies on disk.
    pub layout: FaceLayout,
    /// Names of the people: that of `person` is `people[person - 1]`.
    pub people: Vec<String>,
    /// To train on; empty in LFW and YouTube Faces.
    pub train: Arc<Vec<Photo>>,
    /// To test on. In YouTube Faces a frame has its video as tracklet.
    pub test: Vec<Photo>,
    /// Pairs of test photos (of videos, by tracklet, in YouTube Faces), fold after fold; empty where there is no list.
    pub pairs: Vec<Pair>,
    /// Folds that the pairs are cut into; 0 where there is no list.
    pub folds: usize,
    /// What the reader of a score must know.
    pub notes: Vec<String>,
    /// The one among them on who is held out of a plain tree: it goes where nobody is.
    pub parted: Option<String>,
    /// Training people who left, being in the test or excluded: see [`FaceSet::disjoint`].
    pub left: usize,
    /// In how many test photos a detector found a face, in words, where one looked for them.
    pub detected: Option<String>,
}

impl FaceSet {
    /// Train, then test photos.
    pub fn photos(&self) -> impl Iterator<Item = &Photo> {
        self.train.iter().chain(&self.test)
    }

    /// The data card; decodes every image on all cores.
    pub fn card(&self) -> Card {
        let mut card = Card::new(&self.name, &self.layout.to_string(), self.is_published(), &self.notes);
        card.photos(&[("train", &self.train), ("test", &self.test)], image);
        if self.folds > 0 {
            let (pairs, same) = (self.pairs.len(), self.pairs.iter().filter(|pair| pair.same).count());
            card.notes.push(format!(
                "{} in {}: {} of one person, {} of two",
                count(pairs, "pair"),
                count(self.folds, "fold"),
                thousands(same),
                thousands(pairs - same)
            ));
        }
        card
    }

    /// Whether the list and the images are those of LFW's View 2 or of YouTube Faces, so that a score may stand beside
    /// the paper's. Images that no pair names may be missing.
    pub fn is_published(&self) -> bool {
        match self.layout {
            FaceLayout::Lfw => pairs::lfw_differs(self).is_none(),
            FaceLayout::YoutubeFaces => youtube::differs(self).is_none(),
            _ => false,
        }
    }

    /// Whether there is a list of pairs of images, and not of videos.
    pub fn pairs_images(&self) -> bool {
        !self.pairs.is_empty() && self.layout != FaceLayout::YoutubeFaces
    }

    /// Every photo seen through `view` (a crop, a degradation); nothing is decoded yet.
    pub fn through(mut self, view: View) -> FaceSet {
        if view != View::WHOLE {
            // One for all: there may be millions.
            let view = Arc::new(view);
            let wrap = |photo: &mut Photo| {
                photo.source = Source::Through(Box::new((photo.source.clone(), view.clone())));
            };
            Arc::make_mut(&mut self.train).iter_mut().for_each(wrap);
            self.test.iter_mut().for_each(wrap);
        }
        self
    }

    /// Everybody is tested where nothing is trained: a plain tree's people all become test people. Other layouts say
    /// themselves who is tested.
    pub fn all_tested(mut self) -> FaceSet {
        if self.layout == FaceLayout::Tree {
            self.test.splice(0..0, Arc::unwrap_or_clone(std::mem::take(&mut self.train)));
            self.undivided();
        }
        self
    }

    /// No note says any more who is held out.
    fn undivided(&mut self) {
        let parted = self.parted.take();
        self.notes.retain(|note| Some(note) != parted.as_ref());
    }

    /// Everybody trains where another set tests: a plain tree's test people become training people.
    pub fn all_trained(mut self) -> FaceSet {
        if self.layout == FaceLayout::Tree {
            Arc::make_mut(&mut self.train).append(&mut self.test);
            self.undivided();
        }
        self
    }

    /// Takes test photos, pairs and protocol from `other`; its people are numbered after this set's.
    pub fn tested_on(mut self, other: FaceSet) -> FaceSet {
        let shift = self.people.len() as i64;
        self.people.extend(other.people);
        self.notes.extend(other.notes);
        let moved = |photo: Photo| Photo { person: photo.person + shift, ..photo };
        FaceSet {
            name: format!("{}, tested on {}", self.name, other.name),
            layout: other.layout,
            test: other.test.into_iter().map(moved).collect(),
            pairs: other.pairs,
            folds: other.folds,
            ..self
        }
    }
}

/// Whether a folder is a set of a layout other than one folder a person, or has both sides.
fn has_layout(dir: &Path) -> bool {
    youtube::frames(dir).is_some()
        || dir.join("pairs.txt").is_file()
        || SIDES.iter().all(|side| dir.join(side).is_dir())
}

/// Opens the face set in `dir`: `aligned_images_DB` (or `frame_images_DB`) makes it YouTube Faces, `train` and `test`
/// a split, `pairs.txt` LFW's layout, anything else one folder a person, of which a quarter is held out.
///
/// # Errors
/// One line: a missing or empty folder, a list that names a missing image, a malformed list.
pub fn open(dir: &Path) -> Result<FaceSet> {
    ensure!(dir.exists(), "no folder {}: {}", dir.display(), catalog::cure(dir));
    ensure!(dir.is_dir(), "{} is not a folder: give the folder that holds the images", dir.display());
    spelt(dir, &["pairs.txt", "splits.txt", ALIGNED, WHOLE, "train", "test"])?;
    // Also a link that leads nowhere, and what cannot be read: then reading it says so.
    let there = |path: &Path| path.symlink_metadata().is_ok();
    let list = dir.join("pairs.txt");
    let mut set = if let Some(frames) = youtube::frames(dir) {
        youtube::open(dir, &frames)?
    } else if SIDES.iter().all(|side| dir.join(side).is_dir()) {
        split(dir, there(&list).then_some(list.as_path()))?
    } else if ["splits.txt", "splits_corrected.txt"].iter().any(|name| there(&dir.join(name))) {
        bail!("{} is missing: YouTube Faces has it beside splits.txt: unpack the frames", dir.join(ALIGNED).display())
    } else if there(&list) {
        lfw(dir, &list)?
    } else {
        tree(dir)?
    };
    set.name = super::called(dir);
    let copies = super::copies(set.photos());
    set.notes.extend(copies);
    Ok(set)
}

/// The photos of people in `dir`, and the people's names; names of images go as photos come, for there may be millions.
fn photos(dir: &Path, people: Identities, first: usize) -> (Vec<Photo>, Vec<String>) {
    let root = Arc::new(dir.to_path_buf());
    let (mut photos, mut names) = (Vec::with_capacity(people.values().map(Vec::len).sum()), Vec::new());
    for (number, (name, images)) in people.into_iter().enumerate() {
        let source = |name: &Arc<str>| Source::File { root: root.clone(), name: name.clone() };
        photos.extend(images.into_iter().map(|name| Photo::new(source(&name), name, (first + number) as i64, 1)));
        names.push(name);
    }
    (photos, names)
}

/// [`photos`] of two sides, with the names of both one after the other.
fn parted(train: (&Path, Identities), test: (&Path, Identities)) -> (Arc<Vec<Photo>>, Vec<Photo>, Vec<String>) {
    let first = 1 + train.1.len();
    let ((train, mut people), (test, tested)) = (photos(train.0, train.1, 1), photos(test.0, test.1, first));
    people.extend(tested);
    (train.into(), test, people)
}

fn lfw(dir: &Path, list_of_pairs: &Path) -> Result<FaceSet> {
    let mut passed = Passed::default();
    // The folder of people is named by the archive it came from; the only one there is taken.
    let all = list(dir, &mut Passed::default())?.into_iter().filter(|entry| entry.folder).map(|entry| entry.path());
    let roots: Vec<PathBuf> = all.filter(|root| is_tree(root)).collect();
    let root = match &roots[..] {
        [root] => root.clone(),
        _ if is_tree(dir) => dir.to_path_buf(),
        [a, b, ..] => {
            let [a, b] = [a, b].map(|root| root.display());
            bail!("{a} and {b} both hold people, and {} may be of either: move one away", list_of_pairs.display())
        }
        [] => return Err(nothing(dir, has_layout, "NAME/NAME_0001.jpg: ")),
    };
    let people = identities(&root, &["pairs.txt"], &mut passed)?;
    let (test, people) = photos(&root, people, 1);
    let mut notes = Vec::from_iter(passed.note());
    let (pairs, folds) = pairs::read(list_of_pairs, &test, &root, &mut notes)?;
    let mut set = FaceSet { layout: FaceLayout::Lfw, people, test, pairs, folds, notes, ..FaceSet::default() };
    set.notes.extend(pairs::lfw_differs(&set).or_else(|| pairs::lfw_lacks(&set)));
    Ok(set)
}

fn split(dir: &Path, list: Option<&Path>) -> Result<FaceSet> {
    let mut passed = Passed::default();
    let (train, test) = sides(dir, "NAME", &mut passed)?;
    let mut notes: Vec<String> = beside(dir, &SIDES)?.into_iter().chain(passed.note()).collect();
    // Who VGGFace2's first two are, its identity_meta.csv says.
    let [tested, trained] = ["n000001", "n000002"];
    let alone =
        |name: &str, here: &Identities, there: &Identities| here.contains_key(name) && !there.contains_key(name);
    if alone(tested, &train, &test) && alone(trained, &test, &train) {
        notes.push(format!(
            "train has {tested}, whom VGGFace2 tests, and test has {trained}, whom it trains on: if that is not meant, the two are in each other's place"
        ));
    } else {
        notes.extend(turned(train.len(), test.len()));
    }
    let (train, test, people) = parted((&dir.join("train"), train), (&dir.join("test"), test));
    let (pairs, folds) = match list {
        Some(list) => pairs::read(list, &test, &dir.join("test"), &mut notes)?,
        None => (Vec::new(), 0),
    };
    Ok(FaceSet { layout: FaceLayout::Split, people, train, test, pairs, folds, notes, ..FaceSet::default() })
}

fn tree(dir: &Path) -> Result<FaceSet> {
    let mut passed = Passed::default();
    let all = identities(dir, &[], &mut passed)?;
    no_part(dir, &all)?;
    let total = all.len();
    if total == 0 {
        return Err(nothing(dir, has_layout, "train and test folders, a pairs.txt, or "));
    }
    if total < 4
        && let Some(give) = near(dir, has_layout, |_| false)
    {
        bail!("{} has {} of its own: {give}", dir.display(), count(total, "person"));
    }
    // By a fixed seed, so that every run on the folder has the same test.
    let mut order: Vec<&String> = all.keys().collect();
    order.shuffle(&mut seed::at(0, 0, 0));
    let held: BTreeSet<String> = order.into_iter().take((total / 4).max(2)).cloned().collect();
    let mut notes = Vec::from_iter(passed.note());
    let above = dir.canonicalize().ok().and_then(|full| Some(full.parent()?.join("pairs.txt")));
    if let Some(above) = above.filter(|above| above.is_file()) {
        notes.push(format!(
            "{} is above this folder and is not read: give its folder to judge its pairs",
            above.display()
        ));
    }
    let said = (total >= 4).then(|| {
        let (held, total) = (thousands(held.len()), thousands(total));
        format!("no train and test folders: {held} of {total} people are held out to test")
    });
    notes.extend(said.clone());
    // Fewer cannot be trained on, but looked at and tested.
    let (test, train): (Identities, Identities) =
        all.into_iter().partition(|(name, _)| total < 4 || held.contains(name));
    let (train, test, people) = parted((dir, train), (dir, test));
    Ok(FaceSet { layout: FaceLayout::Tree, people, train, test, notes, parted: said, ..FaceSet::default() })
}

/// The smallest side of a face crop, in pixels.
const LEAST: u32 = 16;

/// Checks every file: that it is there and whole, and that it may be a face crop: sides of 16 pixels at least and none
/// more than twice the other.
///
/// # Errors
/// One line: how many cannot be used, the first image in the given order, and what to do.
pub fn check<'a>(photos: impl IntoIterator<Item = &'a Photo>) -> Result<()> {
    super::look(photos, Look::ALL, usable)
}

/// As [`check`], of one photo.
pub(crate) fn usable(photo: &Photo) -> Result<()> {
    crop(photo, photo.source.dimensions()?)
}

/// The image of a photo that may be a face crop.
pub(crate) fn image(photo: &Photo) -> Result<Arc<RgbImage>> {
    photo.source.image_of(&|size| crop(photo, size))
}

/// Refuses what is no face crop by the width and height of the image; of a detector's box in a whole frame, by the box, and
/// nothing that a detector of ours made a square.
fn crop(photo: &Photo, size: (u32, u32)) -> Result<()> {
    let (mut source, mut region) = (&photo.source, None);
    while let Source::Through(seen) = source {
        if seen.1.warp.is_some() || (seen.1.region.is_some() && seen.1.side.is_some()) {
            return Ok(());
        }
        (source, region) = (&seen.0, seen.1.region);
    }
    let (width, height) = region.map_or(size, |region| (region.width, region.height));
    let (least, most) = (width.min(height), width.max(height));
    let place = source.path().map_or_else(|| photo.name.to_string(), |path| path.display().to_string());
    ensure!(
        least >= LEAST && most <= 2 * least,
        "{place}: {width} x {height} pixels is no face crop (sides of {LEAST} pixels at least, none more than twice the other): crop it to the face, or remove it"
    );
    Ok(())
}
