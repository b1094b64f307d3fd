//! MS-COCO 2014: `annotations/instances_{train,val}2014.json`; an image's labels are the categories of its instances.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use super::super::compare_listed;
use super::{Item, LabelLayout, LabelSet, image, needed, once, placed, unique};
use crate::lists::{composed, inside, json};

#[derive(Deserialize)]
struct Instances {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: Id,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: Id,
    category_id: Id,
}

#[derive(Deserialize)]
struct Category {
    id: Id,
    name: String,
}

/// A whole number, which some programs write as a text of digits or with a point and zeros, or a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "serde_json::Value")]
enum Id {
    Number(i64),
    Text(String),
}

impl TryFrom<Value> for Id {
    type Error = String;

    fn try_from(written: Value) -> Result<Id, String> {
        let whole = |number: f64| (number.fract() == 0. && number.abs() < 2_f64.powi(53)).then_some(number as i64);
        let read = |text: &str| {
            let (digits, zeros) = text.split_once('.').unwrap_or((text, ""));
            let all = digits.bytes().all(|byte| byte.is_ascii_digit()) && zeros.bytes().all(|byte| byte == b'0');
            if all { digits.parse().ok() } else { None }
        };
        match &written {
            Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)).map(Id::Number),
            Value::String(text) => Some(read(text.trim()).map_or_else(|| Id::Text(text.clone()), Id::Number)),
            _ => None,
        }
        .ok_or_else(|| format!("the id {written} is neither a whole number nor a text"))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(number) => write!(f, "{number}"),
            Id::Text(text) => write!(f, "{}", text.escape_debug()),
        }
    }
}

pub(super) fn open(dir: &Path) -> Result<LabelSet> {
    let (categories, train) = part(dir, "train2014", None)?;
    let (_, test) = part(dir, "val2014", Some(&categories))?;
    let mut notes = vec!["trained on train2014, tested on val2014".to_string()];
    let names = names(&categories);
    if names.len() < categories.len() {
        let (all, one) = (categories.len(), names.len());
        notes.push(format!("{all} categories have {one} names: those of one name are one class"));
    }
    let train = once("instances_train2014.json", train, &mut notes);
    let test = once("instances_val2014.json", test, &mut notes);
    // The small set that scripts/fetch makes has its own counts.
    let small = dir.canonicalize().is_ok_and(|dir| dir.file_name().is_some_and(|name| name == "coco-256"));
    let (name, title) = if small { ("coco-256", "coco-256") } else { ("coco2014", "COCO 2014") };
    let counts = [
        ("training images", "train_images", train.len()),
        ("validation images", "val_images", test.len()),
        ("categories", "categories", categories.len()),
    ];
    let difference = compare_listed(title, name, &counts);
    if small {
        notes.push("a small part of COCO 2017, shrunk: no set of the paper's".to_string());
    }
    notes.extend(difference.clone());
    let classes = names.into_iter().cloned().collect();
    Ok(LabelSet::new(LabelLayout::Coco2014, classes, (train, test), notes, difference.is_none()))
}

/// Their names, each once, in order of their numbers.
fn names(categories: &BTreeMap<Id, String>) -> Vec<&String> {
    let mut seen = BTreeSet::new();
    categories.values().filter(|name| seen.insert(*name)).collect()
}

/// Categories by their number, and the images of a part; the categories must be those of `known`.
fn part(dir: &Path, part: &str, known: Option<&BTreeMap<Id, String>>) -> Result<(BTreeMap<Id, String>, Vec<Item>)> {
    let path = dir.join(format!("annotations/instances_{part}.json"));
    let other = path.with_file_name(format!("instances_{}.json", part.replace("2014", "2017")));
    ensure!(
        path.exists() || !other.exists(),
        "{}: COCO 2017 divides the photos otherwise: give COCO 2014, with {} and the folder {part}",
        other.display(),
        path.display()
    );
    let read: Instances = json(needed(&path)?)
        .map_err(|error| anyhow!("{}: not COCO's instances ({error:#}): fetch it again", path.display()))?;
    let mut categories: BTreeMap<Id, String> = BTreeMap::new();
    for Category { id, name } in read.categories {
        let name = composed(&name);
        if let Some(other) = categories.insert(id.clone(), name.clone()) {
            bail!("{}: category {id} is both {other} and {name}: give one another id", path.display());
        }
    }
    if let Some(known) = known {
        ensure!(categories == *known, "{}: other categories than in instances_train2014.json", path.display());
    }
    let place: BTreeMap<&String, u32> = names(&categories).into_iter().zip(0..).collect();
    let place: BTreeMap<&Id, u32> = categories.iter().map(|(id, name)| (id, place[name])).collect();
    let mut labels: BTreeMap<Id, Vec<u32>> = read.images.iter().map(|image| (image.id.clone(), Vec::new())).collect();
    for one in &read.annotations {
        let class = place.get(&one.category_id).ok_or_else(|| {
            anyhow!("{}: an annotation of the unknown category {}: fetch it again", path.display(), one.category_id)
        })?;
        let of = labels.get_mut(&one.image_id).ok_or_else(|| {
            anyhow!("{}: an annotation of image {}, which is not listed: fetch it again", path.display(), one.image_id)
        })?;
        of.push(*class);
    }
    ensure!(
        dir.join(part).is_dir(),
        "{} is missing: the photos of {} belong there",
        dir.join(part).display(),
        path.display()
    );
    let other = format!("COCO_{}_", if part == "train2014" { "val2014" } else { "train2014" });
    let of_other =
        |image: &Image| image.file_name.rsplit(['/', '\\']).next().is_some_and(|name| name.starts_with(&other));
    ensure!(
        read.images.is_empty() || !read.images.iter().all(of_other),
        "{}: its images are {other}*, those of the other part: put each list and its photos in their own place",
        path.display()
    );
    let mut items = Vec::with_capacity(read.images.len());
    for one in read.images {
        let name = inside(&one.file_name)
            .map_err(|why| anyhow!("{}: the file_name {:?} {why}", path.display(), one.file_name))?;
        let of = labels.remove(&one.id).ok_or_else(|| anyhow!("{}: image {} stands twice", path.display(), one.id))?;
        items.push((placed(dir, part, &name), unique(of)));
    }
    let items = items.into_par_iter().map(|(name, labels)| image(dir, name, labels)).collect();
    Ok((categories, items))
}
