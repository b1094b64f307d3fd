//! Market-1501 (Zheng et al., ICCV 2015) and every set in its layout: `bounding_box_train`, `query`,
//! `bounding_box_test`, and `gt_bbox` for multi-query; names are `PPPP_cCsS_FFFFFF_BB.jpg`.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{Layout, Photo, ReidSet, agrees, by_names, compare_listed, need_folder, persons};
use crate::catalog::lacks;
use crate::folders::Passed;
use crate::say;

const TRAIN: &str = "bounding_box_train";
const TEST: &str = "bounding_box_test";
/// Its folders.
pub(super) const PARTS: &[&str] = &[TRAIN, TEST, "query", "gt_bbox"];

/// Whether it is this layout: a person may be called query.
pub(super) fn is_one(dir: &Path) -> bool {
    let query = dir.join("query");
    [TRAIN, TEST].iter().any(|name| dir.join(name).is_dir())
        || query.is_dir() && agrees(&query, |name| parse(name).is_some())
}

pub(super) fn open(dir: &Path) -> Result<ReidSet> {
    let mut notes = Vec::new();
    let mut passed = Passed::default();
    for folder in ["query", TEST] {
        need_folder(dir, folder, Layout::Market1501)?;
    }
    // A test set alone can be scored.
    let alone = !dir.join(TRAIN).is_dir();
    let mut train = if alone { Vec::new() } else { read(dir, TRAIN, &mut passed)? };
    let mut query = read(dir, "query", &mut passed)?;
    let gallery = read(dir, TEST, &mut passed)?;
    let multi_query = if dir.join("gt_bbox").is_dir() { read(dir, "gt_bbox", &mut passed)? } else { Vec::new() };
    for (photos, folder) in [(&mut train, TRAIN), (&mut query, "query")] {
        ensure!(
            alone && folder == TRAIN || !photos.is_empty(),
            "no images in {}: unpack the set again",
            dir.join(folder).display()
        );
        let all = photos.len();
        photos.retain(|photo| photo.person > 0);
        let left = all - photos.len();
        if left > 0 {
            notes.push(format!("left out {} of person -1 or 0 in {folder}", say::count(left, "image")));
        }
    }
    ensure!(!gallery.is_empty(), "no images in {}: unpack the set again", dir.join(TEST).display());
    notes.extend(passed.note());
    if alone {
        notes.push(format!("no {TRAIN} in it: a test set alone, nothing to train on"));
    }
    let mut set = ReidSet {
        layout: Layout::Market1501,
        train: train.into(),
        query,
        gallery,
        multi_query,
        notes,
        ..ReidSet::default()
    };
    set.notes.extend(differs(&set));
    Ok(set)
}

/// What differs from the published counts; nothing for the published set.
pub(super) fn differs(set: &ReidSet) -> Option<String> {
    let junk = set.gallery.iter().filter(|photo| photo.person == -1).count();
    let distractors = set.gallery.iter().filter(|photo| photo.person == 0).count();
    let counts = [
        ("training images", "train_images", set.train.len()),
        ("training persons", "train_people", persons(&*set.train).len()),
        ("queries", "queries", set.query.len()),
        ("query persons", "query_people", persons(&set.query).len()),
        ("gallery images", "gallery_files", set.gallery.len()),
        ("of them junk", "junk", junk),
        ("distractors", "distractors", distractors),
    ];
    compare_listed("Market-1501", "market1501", &counts)
        .or_else(|| lacks("market1501", "Market-1501", "", |name| set.photos().any(|photo| &*photo.name == name)))
}

fn read(dir: &Path, folder: &str, passed: &mut Passed) -> Result<Vec<Photo>> {
    let kind = "a Market-1501 name (PPPP_cCsS_FFFFFF_BB.jpg, as 0002_c1s1_000451_03.jpg)";
    by_names(&dir.join(folder), &format!("{folder}/"), kind, parse, passed)
}

/// Person and camera of `PPPP_cCsS_...`, and of `PPPP_cC_...`, which later sets in this layout use.
fn parse(name: &str) -> Option<(i64, i64)> {
    let (person, rest) = name.split_once("_c")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if !rest[digits..].starts_with(['s', '_']) {
        return None;
    }
    let camera: i64 = rest[..digits].parse().ok().filter(|&camera| camera > 0)?;
    let plain = !person.is_empty() && person.bytes().all(|b| b.is_ascii_digit());
    let person: i64 = if plain || person == "-1" { person.parse().ok()? } else { return None };
    Some((person, camera))
}
