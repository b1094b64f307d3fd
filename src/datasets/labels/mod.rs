//! Multi-label sets: PASCAL VOC 2007, MS-COCO 2014, NUS-WIDE, Mulan's ARFF files of ready-made features, a folder with
//! `labels.csv`, and drawn images.
//!
//! [`open`] reads names and labels but no pixels, and compares counts with the published ones.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::card::decode_all;
use super::{Card, Look, Source, count, thousands};
use crate::catalog::{cure, lacks};
use crate::folders::{near, spelt};
use crate::lists::composed;
use crate::seed;

mod arff;
mod coco;
mod csv;
mod nus_wide;
mod voc;

/// What a network sees of an item.
#[derive(Clone, Debug)]
pub enum Content {
    /// A photo, which is decoded when it is asked for.
    Image(Source),
    /// Ready-made numbers, as many for every item of a set.
    Features(Arc<[f32]>),
}

/// One image (or row of features) with its labels.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its path within the set, or its row.
    pub name: String,
    /// What a network sees of it.
    pub content: Content,
    /// Its classes as places in [`LabelSet::classes`], ascending, without repetition.
    pub labels: Vec<u32>,
    /// Of those, the ones that only difficult objects show (VOC): VOC's own class-mAP leaves such an image out of the
    /// class.
    pub difficult: Vec<u32>,
}

/// How a set lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelLayout {
    /// `JPEGImages`, `Annotations`, `ImageSets`.
    Voc2007,
    /// `train2014`, `val2014`, `annotations/instances_*.json`.
    Coco2014,
    /// `ConceptsList`, `ImageList`, `Groundtruth`, `images`.
    NusWide,
    /// `NAME.xml`, `NAME-train.arff`, `NAME-test.arff`.
    Mulan,
    /// `labels.csv` and `images`.
    Csv,
    /// Drawn by code.
    Drawn,
}

impl fmt::Display for LabelLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LabelLayout::Voc2007 => "PASCAL VOC 2007",
            LabelLayout::Coco2014 => "MS-COCO 2014",
            LabelLayout::NusWide => "NUS-WIDE",
            LabelLayout::Mulan => "Mulan's ARFF and XML",
            LabelLayout::Csv => "images and labels.csv",
            LabelLayout::Drawn => "drawn",
        })
    }
}

/// A multi-label set. Items without a label stand in it: what to do with them is the protocol's to say.
#[derive(Clone, Debug)]
pub struct LabelSet {
    /// The folder's name, or what drew it.
    pub name: String,
    /// How it lies on disk.
    pub layout: LabelLayout,
    /// Names of the K classes.
    pub classes: Vec<String>,
    /// What ready-made numbers are called, in their order; none of images.
    pub attributes: Vec<String>,
    /// The items to train on.
    pub train: Vec<Item>,
    /// The items to test on.
    pub test: Vec<Item>,
    /// What the reader of a score must know.
    pub notes: Vec<String>,
    /// Whether every count is the published set's.
    pub published: bool,
}

impl LabelSet {
    /// A set that is called by its folder later, of items to train on and to test on.
    fn new(
        layout: LabelLayout,
        classes: Vec<String>,
        (train, test): (Vec<Item>, Vec<Item>),
        notes: Vec<String>,
        published: bool,
    ) -> LabelSet {
        let (name, attributes) = (String::new(), Vec::new());
        LabelSet { name, layout, classes, attributes, train, test, notes, published }
    }

    /// The data card; decodes every image, on all cores.
    pub fn card(&self) -> Card {
        let mut card = Card::new(&self.name, &self.layout.to_string(), self.published, &self.notes);
        let features = self.feature_width();
        card.count("features", features);
        if let Some(width) = features {
            card.line(format!("{width} features a row"));
        }
        let mut splits = Vec::new();
        let mut classes: Vec<(&str, [usize; 2])> = self.classes.iter().map(|class| (class.as_str(), [0; 2])).collect();
        for (part, (name, items)) in [("train", &self.train), ("test", &self.test)].into_iter().enumerate() {
            let most = items.iter().map(|item| item.labels.len()).max().unwrap_or(0);
            let mut by_count = vec![0_usize; most + 1];
            for item in items {
                by_count[item.labels.len()] += 1;
                item.labels.iter().for_each(|&class| classes[class as usize].1[part] += 1);
            }
            let labels: usize = items.iter().map(|item| item.labels.len()).sum();
            let mean = labels as f64 / items.len().max(1) as f64;
            let counts = by_count.iter().enumerate().filter(|(_, n)| **n > 0);
            let counts: Vec<String> = counts.map(|(k, n)| format!("{k}: {}", thousands(*n))).collect();
            card.line(format!(
                "{name}: {}, {mean:.2} labels each (items by number of labels: {})",
                count(items.len(), "item"),
                counts.join(", ")
            ));
            splits.push(json!({"name": name, "items": items.len(), "mean_labels": mean, "by_count": by_count}));
        }
        let rows = classes.iter().map(|(class, n)| vec![class.to_string(), thousands(n[0]), thousands(n[1])]);
        card.table(&["class", "train", "test"], rows);
        card.count("splits", splits);
        card.count("classes", classes.iter().map(|(class, [train, test])| (class, train, test)).collect::<Vec<_>>());
        if features.is_none() {
            let of = |item: &'_ Item| match &item.content {
                Content::Image(source) => Some(source.clone()),
                Content::Features(_) => None,
            };
            let sources: Vec<Source> = self.train.iter().chain(&self.test).filter_map(of).collect();
            card.read(decode_all(&sources, Source::image).into_iter().filter_map(Result::err).collect());
        }
        card
    }

    /// How many numbers a row of features has; None for images.
    pub fn feature_width(&self) -> Option<usize> {
        match &self.train.first().or(self.test.first())?.content {
            Content::Features(row) => Some(row.len()),
            Content::Image(_) => None,
        }
    }

    /// Leaves out items without a label, as the authors' reader does, with a note that counts them.
    pub fn without_unlabelled(mut self) -> LabelSet {
        for (items, part) in [(&mut self.train, "training"), (&mut self.test, "test")] {
            let before = items.len();
            items.retain(|item| !item.labels.is_empty());
            if items.len() < before {
                let gone = count(before - items.len(), &format!("{part} item"));
                self.notes.push(format!("left out {gone} without a label"));
            }
        }
        self
    }

    /// With the classes `known` to a run: of a list, which has no classes but those on its images, where it has no others.
    pub fn among(mut self, known: &[String]) -> LabelSet {
        let place = |class: &String| Some(known.iter().position(|own| own == class)? as u32);
        let places: Option<Vec<u32>> = self.classes.iter().map(place).collect();
        if let Some(places) = places.filter(|_| self.layout == LabelLayout::Csv) {
            self.classes = known.to_vec();
            for item in self.train.iter_mut().chain(&mut self.test) {
                item.labels = unique(item.labels.iter().map(|&class| places[class as usize]).collect());
            }
        }
        self
    }

    /// Moves a share of the training items, drawn by `seed`, aside: what is left, and they (1704.03135's "dev").
    pub fn dev(&self, share: f64, seed: u64) -> (Vec<Item>, Vec<Item>) {
        let mut order: Vec<usize> = (0..self.train.len()).collect();
        order.shuffle(&mut seed::at(seed, 0, 0));
        let count = (share * order.len() as f64).round() as usize;
        let mut aside = vec![false; order.len()];
        order.iter().take(count).for_each(|&i| aside[i] = true);
        let (dev, train): (Vec<_>, Vec<_>) = self.train.iter().cloned().zip(aside).partition(|(_, aside)| *aside);
        let items = |list: Vec<(Item, bool)>| list.into_iter().map(|(item, _)| item).collect();
        (items(train), items(dev))
    }

    /// Checks the test images, and those of `training` too (see [`Source::check`]), so `far`.
    ///
    /// # Errors
    /// One line: how many cannot be used, and the first of them.
    pub fn check(&self, training: bool, far: Look) -> Result<()> {
        let train = if training { &self.train[..] } else { &[] };
        super::look(self.test.iter().chain(train), far, Item::check)
    }
}

/// The first of the attributes `theirs` that is not as in `own`, in words.
pub(crate) fn unlike(own: &[String], theirs: &[String]) -> Option<String> {
    let place = (0..own.len().max(theirs.len())).find(|&i| own.get(i) != theirs.get(i))?;
    let name = |of: &[String]| of.get(place).map_or("missing".into(), |name| format!("{name:?}"));
    Some(format!("attribute {} is {}, not {}", place + 1, name(theirs), name(own)))
}

/// Counts that are right aside, a published set has the names of the list's sample; NUS-WIDE, whose images go missing,
/// has none.
fn sampled(set: &mut LabelSet) {
    let (name, title, under) = match set.layout {
        LabelLayout::Voc2007 => ("voc2007", "VOC2007", "JPEGImages/"),
        LabelLayout::Coco2014 => ("coco2014", "COCO 2014", "train2014/"),
        _ => return,
    };
    let has = |name: &str| set.train.iter().chain(&set.test).any(|item| item.name == name);
    if set.published
        && let Some(difference) = lacks(name, title, under, has)
    {
        set.published = false;
        set.notes.push(difference);
    }
}

impl Item {
    /// As [`Source::check`]; features are always there.
    fn check(&self) -> Result<()> {
        match &self.content {
            Content::Image(source) => source.check(),
            Content::Features(_) => Ok(()),
        }
    }
}

/// Reads a set in a folder.
type Open = fn(&Path) -> Result<LabelSet>;

/// How the set in a folder is opened, and from where, but for Mulan's.
fn layout(dir: &Path) -> Option<(PathBuf, Open)> {
    let at = |name: &str| dir.join(name);
    if at("JPEGImages").is_dir() {
        return Some((dir.into(), voc::open));
    }
    let inner = ["VOCdevkit/VOC2007", "VOC2007"].map(at).into_iter().find(|inner| inner.join("JPEGImages").is_dir());
    let open = match inner {
        Some(inner) => return Some((inner, voc::open)),
        None if at("annotations").is_dir() => coco::open,
        None if at("ConceptsList").is_dir() => nus_wide::open,
        None if at("labels.csv").exists() => csv::open,
        None => return None,
    };
    Some((dir.into(), open))
}

/// Opens the set in `dir`: `JPEGImages` makes it VOC, `annotations` COCO, `ConceptsList` NUS-WIDE, `labels.csv` a plain
/// list; `DIR/NAME` where `DIR/NAME-train.arff` lies is Mulan's.
///
/// # Errors
/// One line: nothing of the kind, a malformed file by name and line, lists that don't match.
pub fn open(dir: &Path) -> Result<LabelSet> {
    // A slash or a dot at the end is no part of a name.
    let plain: PathBuf = dir.components().collect();
    let dir = plain.as_path();
    let mut set = if arff::is_one(dir) {
        arff::open(dir)?
    } else {
        ensure!(dir.exists(), "no folder {}: {}", dir.display(), cure(dir));
        if let Some(name) = arff::named_by_file(dir) {
            anyhow::bail!("{} is one file of a Mulan set: say {}", dir.display(), name.display());
        }
        ensure!(dir.is_dir(), "{} is not a folder: give the folder that holds the set", dir.display());
        if let Some((at, open)) = layout(dir) {
            let mut set = open(&at)?;
            unlisted(&at, &mut set);
            set
        } else if let Some(names) = arff::names(dir) {
            let many = if names.len() == 1 { "a set" } else { "several sets" };
            anyhow::bail!("{} holds {many}: say {}", dir.display(), names.join(" or "))
        } else {
            spelt(dir, &["JPEGImages", "ConceptsList", "labels.csv"])?;
            let set = |at: &Path| layout(at).is_some() || arff::names(at).is_some();
            anyhow::bail!(
                "{}: no JPEGImages (VOC), annotations (COCO), ConceptsList (NUS-WIDE), labels.csv or NAME-train.arff in it: {}",
                dir.display(),
                near(dir, set, set).unwrap_or_else(|| cure(dir))
            )
        }
    };
    // In their order by name what is drawn of them, to be set aside say, does not depend on that of a list. Rows have none.
    if set.layout != LabelLayout::Mulan {
        set.train.sort_by(|a, b| a.name.cmp(&b.name));
    }
    sampled(&mut set);
    set.name = super::called(dir);
    // A test by photos of one class may be of a run's that has more.
    let least = if set.train.is_empty() && set.layout == LabelLayout::Csv { 1 } else { 2 };
    ensure!(
        set.classes.len() >= least,
        "{} has {}: at least {least} needed{}",
        dir.display(),
        if set.classes.len() == 1 { format!("one class, {:?}", set.classes[0]) } else { "no classes".into() },
        if set.layout == LabelLayout::Csv { " (labels.csv separates an image's labels by ;)" } else { "" }
    );
    // Only a training needs items to train on.
    ensure!(!set.test.is_empty(), "{} has nothing to test", dir.display());
    Ok(set)
}

/// The path of a file that must be there.
///
/// # Errors
/// What is missing, and what gets it.
fn needed(path: &Path) -> Result<&Path> {
    let set = path.parent().and_then(Path::parent).unwrap_or(path);
    ensure!(path.exists(), "{} is missing: {}", path.display(), cure(set));
    Ok(path)
}

/// Notes what lies in the set's folders and in no list.
fn unlisted(dir: &Path, set: &mut LabelSet) {
    let folders: &[&str] = match set.layout {
        LabelLayout::Voc2007 => &["JPEGImages"],
        LabelLayout::Coco2014 => &["train2014", "val2014"],
        _ => &["images"],
    };
    let known: HashSet<String> = set.train.iter().chain(&set.test).map(|item| composed(&item.name)).collect();
    let notes = super::unlisted(dir, folders, |name| known.contains(&composed(name)));
    set.notes.extend(notes);
}

/// Where the image `name` of a list lies in the set: under `folder`, which some write before the name.
fn placed(dir: &Path, folder: &str, name: &str) -> String {
    let below = name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    if below && crate::once::is_file(&crate::lists::found(dir.join(name))) {
        name.to_string()
    } else {
        format!("{folder}/{name}")
    }
}

/// An image file of a set, by the name that it has there: a list may write its ending in other letters.
fn image(dir: &Path, name: String, labels: Vec<u32>) -> Item {
    let path = crate::lists::found(dir.join(&name));
    let name = path.strip_prefix(dir).map_or(name, |there| there.to_string_lossy().into_owned());
    Item { name, content: Content::Image(path.into()), labels, difficult: Vec::new() }
}

/// Leaves out what a list names again: the authors' program too counts an image once, by its path. The first stays; a
/// note says how many went, and whether labels differed. `list` names the list.
fn once(list: &str, items: Vec<Item>, notes: &mut Vec<String>) -> Vec<Item> {
    let mut first: HashMap<&str, &[u32]> = HashMap::with_capacity(items.len());
    let (mut again, mut other, mut example) = (0, 0, None);
    let mut kept = vec![true; items.len()];
    for (item, kept) in items.iter().zip(&mut kept) {
        match first.get(item.name.as_str()) {
            None => {
                first.insert(&item.name, &item.labels);
            }
            Some(labels) => {
                *kept = false;
                again += 1;
                other += usize::from(*labels != item.labels.as_slice());
                example = example.or(Some(item.name.clone()));
            }
        }
    }
    let Some(example) = example else { return items };
    let differing = if other > 0 { format!(", {} with other labels", thousands(other)) } else { String::new() };
    notes.push(format!("{list}: left out {} named a second time{differing}: {example}", count(again, "image")));
    items.into_iter().zip(kept).filter_map(|(item, kept)| kept.then_some(item)).collect()
}

/// A note where images stand in both lists: they are tested on after training on them.
fn both(train: &[Item], test: &[Item], notes: &mut Vec<String>) {
    let known: HashSet<&str> = train.iter().map(|item| item.name.as_str()).collect();
    let mut shared = test.iter().filter(|item| known.contains(item.name.as_str()));
    if let Some(first) = shared.next() {
        let images = count(1 + shared.count(), "image");
        notes.push(format!("{images} in the training list and in the test list: {}", first.name));
    }
}

/// Sorted, without repetition.
fn unique(mut labels: Vec<u32>) -> Vec<u32> {
    labels.sort_unstable();
    labels.dedup();
    labels
}
