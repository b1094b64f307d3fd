//! PASCAL VOC 2007: `ImageSets/Main/{trainval,test}.txt`, `Annotations/*.xml`, `JPEGImages/*.jpg`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use rayon::prelude::*;

use super::super::compare_listed;
use super::{Item, LabelLayout, LabelSet, both, image, needed, once, unique};
use crate::catalog::cure;
use crate::lists::{found, lines, text};

/// The classes in the development kit's order.
const CLASSES: [&str; 20] = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

pub(super) fn open(dir: &Path) -> Result<LabelSet> {
    let mut notes = vec!["an image has every class that an object shows, difficult ones too".to_string()];
    let train = once("trainval.txt", part(dir, "trainval")?, &mut notes);
    let test = once("test.txt", part(dir, "test")?, &mut notes);
    both(&train, &test, &mut notes);
    let counts = [("trainval images", "trainval_images", train.len()), ("test images", "test_images", test.len())];
    let difference = compare_listed("VOC2007", "voc2007", &counts);
    notes.extend(difference.clone());
    let classes = CLASSES.map(String::from).to_vec();
    Ok(LabelSet::new(LabelLayout::Voc2007, classes, (train, test), notes, difference.is_none()))
}

fn part(dir: &Path, name: &str) -> Result<Vec<Item>> {
    let list = dir.join("ImageSets/Main").join(format!("{name}.txt"));
    ensure!(
        list.exists(),
        "{} is missing: VOC2007 comes in two archives, trainval and test, that unpack into one folder (VOC2012's test has no labels): {}",
        list.display(),
        cure(dir)
    );
    lines(&list)?
        .par_iter()
        .map(|(line, id)| {
            // A list of one class has a second column; and a name must stay inside the folder.
            if id.contains(|c: char| c.is_whitespace() || c == '/' || c == '\\') || id.starts_with('.') {
                return Err(anyhow!("{}:{line}: {id:?} is no image's name: it should be as 000005", list.display()));
            }
            let (labels, difficult) = objects(&found(dir.join("Annotations").join(format!("{id}.xml"))))?;
            let mut item = image(dir, format!("JPEGImages/{id}.jpg"), labels);
            item.difficult = difficult;
            Ok(item)
        })
        .collect()
}

/// The classes of an annotation's objects, and those that only difficult objects show.
fn objects(path: &Path) -> Result<(Vec<u32>, Vec<u32>)> {
    let text = text(needed(path)?)?;
    let document = roxmltree::Document::parse(&text)
        .map_err(|error| anyhow!("{}: no whole XML ({error}): unpack the set again", path.display()))?;
    let mut seen: BTreeMap<u32, bool> = BTreeMap::new();
    for object in document.root_element().children().filter(|node| node.has_tag_name("object")) {
        let child = |name: &str| {
            object.children().find(|node| node.has_tag_name(name)).and_then(|node| node.text()).map(str::trim)
        };
        let name = child("name").unwrap_or("");
        let class = CLASSES.iter().position(|known| *known == name);
        let class = class.ok_or_else(|| {
            anyhow!("{}: an object of the unknown class {name:?}: unpack the set again", path.display())
        })?;
        let easy = child("difficult") != Some("1");
        *seen.entry(class as u32).or_insert(false) |= easy;
    }
    let difficult = seen.iter().filter(|(_, easy)| !**easy).map(|(&class, _)| class).collect();
    Ok((unique(seen.into_keys().collect()), difficult))
}
