//! One folder an identity: `DIR/train/ID/*` and `DIR/test/ID/*`, or `DIR/ID/*`, of which a quarter of the identities
//! is held out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rand::seq::SliceRandom;

use super::{
    Layout, Photo, ReidSet, SIDES, Source, beside, count, has_layout, namesakes, no_part, nothing, plural, sides,
    thousands, turned,
};
use crate::folders::{Identities, Passed, identities};
use crate::lists::composed;
use crate::seed;

pub(super) fn open(dir: &Path) -> Result<ReidSet> {
    let (mut notes, mut division) = (Vec::new(), Vec::new());
    let mut passed = Passed::default();
    let (train, test, prefix) = if SIDES.iter().all(|side| dir.join(side).is_dir()) {
        let (train, test) = sides(dir, "ID", &mut passed)?;
        notes.extend(beside(dir, &SIDES)?);
        division.extend(turned(train.len(), test.len()));
        let tested: BTreeSet<String> = test.keys().map(|name| composed(name)).collect();
        let both = train.keys().filter(|name| tested.contains(&composed(name))).count();
        if both > 0 {
            division.push(format!("{} in train and in test too: a score measures memory", count(both, "identity")));
        }
        (train, test, ["train/", "test/"])
    } else {
        let all = identities(dir, &[], &mut passed)?;
        no_part(dir, &all)?;
        if all.is_empty() {
            return Err(nothing(dir, has_layout, "Market-1501 (bounding_box_train/...), MARS (bbox_train/...) or "));
        }
        let (train, test) = hold_out(all, &mut division);
        (train, test, ["", ""])
    };
    notes.extend(passed.note());
    // Sorted names of both parts, so that a person keeps one number.
    let names: BTreeSet<String> = train.keys().chain(test.keys()).map(|name| composed(name)).collect();
    notes.extend(namesakes(names.iter().map(|name| (&**name, &**name))));
    let number: BTreeMap<String, i64> = names.into_iter().zip(1..).collect();
    // Names go as photos come, for there may be millions.
    let root = Arc::new(dir.to_path_buf());
    let photos = |images: Vec<Arc<str>>, prefix: &'static str, person: i64| {
        let root = root.clone();
        images.into_iter().map(move |name| {
            let name: Arc<str> = if prefix.is_empty() { name } else { [prefix, &name].concat().into() };
            let source = Source::File { root: root.clone(), name: name.clone() };
            Photo::new(source, name, person, 1)
        })
    };
    let mut trained = Vec::with_capacity(train.values().map(Vec::len).sum());
    for (id, images) in train {
        trained.extend(photos(images, prefix[0], number[&composed(&id)]));
    }
    let (mut query, mut gallery, mut single) = (Vec::new(), Vec::new(), 0);
    for (id, images) in test {
        let mut one = photos(images, prefix[1], number[&composed(&id)]);
        if one.len() > 1 {
            query.extend(one.next());
        } else {
            single += 1;
        }
        gallery.extend(one.map(|photo| Photo { camera: 2, ..photo }));
    }
    division.push(cameras("the first image of each test identity"));
    division.extend(without_query(single));
    Ok(ReidSet { layout: Layout::Tree, train: trained.into(), query, gallery, notes, division, ..ReidSet::default() })
}

/// Says which image is the query.
pub(super) fn cameras(query: &str) -> String {
    format!("no cameras: {query} is the query (camera 1), the rest the gallery (camera 2)")
}

/// Says of how many of the test there is a `single` image.
pub(super) fn without_query(single: usize) -> Option<String> {
    let word = plural(single, "identity has", "identities have");
    (single > 0).then(|| format!("{} test {word} one image: in the gallery, without a query", thousands(single)))
}

/// A quarter of the identities, at least two, drawn by a fixed seed, so that every run on the folder has the same test.
fn hold_out(all: Identities, notes: &mut Vec<String>) -> (Identities, Identities) {
    let total = all.len();
    if total < 4 {
        let word = plural(total, "identity: it trains and tests", "identities: all of them train and test");
        notes.push(format!("only {total} {word}, so a score measures memory"));
        return (all.clone(), all);
    }
    let mut order: Vec<(String, Vec<Arc<str>>)> = all.into_iter().collect();
    order.shuffle(&mut seed::at(0, 0, 0));
    let train = order.split_off((total / 4).max(2));
    let held = thousands(order.len());
    notes.push(format!("no train and test folders: {held} of {} identities are held out to test", thousands(total)));
    (train.into_iter().collect(), order.into_iter().collect())
}
