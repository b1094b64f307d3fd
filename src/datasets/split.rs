//! Sets that come without one fixed test set: CUHK03, CUHK01 and VIPeR. Two cameras; a split says who is tested.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::{Count, Layout, Photo, ReidSet, agrees, by_names, compare, compare_listed, need_folder, persons};
use crate::catalog::{count, counts, cure, lacks};
use crate::folders::{Entry, Passed, list};
use crate::{files, say, seed};

/// Which people of a set are tested. Sets with one fixed test set know only the first split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Split {
    /// CUHK03: one of its 20 published test sets, from 1. CUHK01 and VIPeR, whose authors published none: drawn from
    /// the number.
    Number(usize),
    /// CUHK03's new protocol (Zhong et al. 2017): 767 people to train on, 700 to test.
    NewProtocol,
}

impl Default for Split {
    fn default() -> Split {
        Split::Number(1)
    }
}

impl FromStr for Split {
    type Err = String;

    /// A number from 1, or `np`.
    fn from_str(text: &str) -> std::result::Result<Split, String> {
        match text {
            "np" => Ok(Split::NewProtocol),
            _ => match text.parse() {
                Ok(number) if number > 0 => Ok(Split::Number(number)),
                _ => Err("say the number of a split, from 1, or np for CUHK03's new protocol".into()),
            },
        }
    }
}

crate::bounds::as_typed!(Split);

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Split::Number(number) => write!(f, "{number}"),
            Split::NewProtocol => f.write_str("np"),
        }
    }
}

/// The seed of the splits that are drawn: the same people everywhere.
const SEED: u64 = 1704_01719;
/// People whom CUHK03's old protocol sets aside to validate (1160 / 100 / 100).
const VALIDATION: usize = 100;
/// What a converted CUHK03 has beside its folders of photos.
const TEST_SETS: &str = "testsets.json";

/// The layout of `dir`, if it is one of this module's.
pub(super) fn layout(dir: &Path) -> Option<Layout> {
    let beside = |name: &str| dir.parent().is_some_and(|up| up.join(name).is_file());
    let has = |name: &str, fits: fn(&str) -> bool| dir.join(name).is_dir() && agrees(&dir.join(name), fits);
    let cuhk01 = |name: &str| cuhk01_name(name).is_some();
    if ["cam_a", "cam_b"].iter().any(|name| has(name, |name| viper_name(name).is_some())) {
        Some(Layout::Viper)
    } else if has("campus", cuhk01)
        || dir.file_name().is_some_and(|name| name == "campus") && agrees(dir, cuhk01) && !tree(dir)
    {
        Some(Layout::Cuhk01)
    } else if beside(TEST_SETS) && !tree(dir) || dir.join(TEST_SETS).is_file() || dir.join("cuhk-03.mat").is_file() {
        Some(Layout::Cuhk03)
    } else {
        None
    }
}

/// Whether there are folders in it, of which these layouts have none, and no files that are theirs.
fn tree(dir: &Path) -> bool {
    let all = list(dir, &mut Passed::default()).unwrap_or_default();
    all.iter().any(|entry| entry.folder) && !all.iter().any(Entry::is_image)
}

/// People of VIPeR, and of CUHK01, who are tested where nothing else is said.
const VIPER_TESTED: usize = 316;
const CUHK01_TESTED: usize = 486;

/// Opens a set of this module. `people` is how many are tested where splits are drawn.
pub(super) fn open(dir: &Path, layout: Layout, split: Split, people: Option<usize>) -> Result<ReidSet> {
    let mut set = match layout {
        Layout::Viper => drawn(dir, layout, viper(dir)?, split, people.unwrap_or(VIPER_TESTED))?,
        Layout::Cuhk01 => drawn(dir, layout, cuhk01(dir)?, split, people.unwrap_or(CUHK01_TESTED))?,
        _ => {
            ensure!(people.is_none(), "--test-people: the test sets of CUHK03 are published: leave it out");
            cuhk03(dir, split)?
        }
    };
    let differs = differs(&set).filter(|text| !set.notes.contains(text));
    set.notes.extend(differs);
    Ok(set)
}

/// What differs from the published counts; nothing for the published set.
pub(super) fn differs(set: &ReidSet) -> Option<String> {
    let all = || set.train.iter().chain(&set.query).chain(&set.gallery);
    let (images, people) = (all().count(), persons(all()).len());
    let known = |name: &str, title: &str| {
        let counts = [("images", "images", images), ("persons", "people", people)];
        let has = |name: &str| all().any(|photo| &*photo.name == name);
        compare_listed(title, name, &counts).or_else(|| lacks(name, title, "", has))
    };
    match set.layout {
        Layout::Viper => known("viper", "VIPeR"),
        Layout::Cuhk01 => known("cuhk01", "CUHK01"),
        Layout::Cuhk03 => {
            let test = persons(&set.query).union(&persons(&set.gallery)).count();
            let (train, tested) = if set.new_protocol { (767, 700) } else { (1160, 100) };
            let counts = [
                Count { what: "training persons", published: train, here: persons(&*set.train).len() },
                Count { what: "test persons", published: tested, here: test },
            ];
            compare("CUHK03", &counts).or_else(|| set.unlike.clone())
        }
        _ => None,
    }
}

/// A published set by its layout and, of those that are divided here, by how many of its people are tested, where that is not
/// as usual; else why no number is of such a test.
///
/// # Errors
/// Where so many are tested in no paper.
pub fn tested(set: &ReidSet) -> std::result::Result<String, String> {
    let (layout, people) = (set.layout, persons(&set.query).len());
    match (layout, people) {
        (Layout::Cuhk01, 100) => Ok(format!("{layout}, 100 test people")),
        (Layout::Cuhk01, CUHK01_TESTED) | (Layout::Viper, VIPER_TESTED) => Ok(layout.to_string()),
        (Layout::Cuhk01 | Layout::Viper, _) => {
            Err(format!("{people} people of {layout} are tested, which no paper here does"))
        }
        _ => Ok(layout.to_string()),
    }
}

/// The people of a set's two sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitPeople {
    /// Those who are trained on.
    pub train: BTreeSet<String>,
    /// Those who are looked for.
    pub test: BTreeSet<String>,
}

/// Who is on which side of a set with several splits, by what photos' names begin with (`000` of VIPeR, `0001` of CUHK01,
/// `1_001` of CUHK03); None for other sets.
pub fn split_people(set: &ReidSet) -> Option<SplitPeople> {
    let length = match set.layout {
        Layout::Cuhk01 => 4,
        Layout::Viper | Layout::Cuhk03 => usize::MAX,
        _ => return None,
    };
    let underlined = if set.layout == Layout::Cuhk03 { 2 } else { 1 };
    let name = |photo: &Photo| {
        let name = photo.name.rsplit('/').next().unwrap_or_default();
        name.split('_').take(underlined).collect::<Vec<_>>().join("_").chars().take(length).collect()
    };
    let people = |photos: &[Photo]| photos.iter().map(name).collect();
    Some(SplitPeople { train: people(&set.train), test: people(&set.query) })
}

/// Photos by person and camera (1 is A, 2 is B).
type Seen = Vec<Photo>;

/// Test people in camera A look for themselves in camera B.
fn divided(all: Seen, layout: Layout, tested: &BTreeSet<i64>, unused: &BTreeSet<i64>, notes: Vec<String>) -> ReidSet {
    let mut set = ReidSet { layout, notes, ..ReidSet::default() };
    for photo in all {
        if unused.contains(&photo.person) {
            continue;
        }
        let part = match (tested.contains(&photo.person), photo.camera) {
            (false, _) => Arc::make_mut(&mut set.train),
            (true, 1) => &mut set.query,
            (true, _) => &mut set.gallery,
        };
        part.push(photo);
    }
    set
}

fn drawn(
    dir: &Path,
    layout: Layout,
    (all, mut notes): (Seen, Vec<String>),
    split: Split,
    test: usize,
) -> Result<ReidSet> {
    let Split::Number(number) = split else {
        bail!("--split np is CUHK03's new protocol, and {} is {layout}: say the number of a split", dir.display())
    };
    let people: BTreeSet<i64> = persons(&all);
    let total = people.len();
    ensure!(
        test >= 2 && test + 3 <= total,
        "--test-people {test}: {} has {total} people: say 2 to {}",
        dir.display(),
        total.saturating_sub(3)
    );
    let mut order: Vec<i64> = people.into_iter().collect();
    order.shuffle(&mut seed::at(SEED, number as u64, test as u64));
    let tested: BTreeSet<i64> = order.into_iter().take(test).collect();
    notes.push(format!(
        "split {number}: {test} of {total} people drawn to test, as its authors published no split; the same ones on every machine"
    ));
    Ok(divided(all, layout, &tested, &BTreeSet::new(), notes))
}

fn viper_name(name: &str) -> Option<i64> {
    name.split_once('_').and_then(|(person, _)| person.parse::<i64>().ok()).filter(|&person| person >= 0)
}

/// `cam_a` and `cam_b` with `PPP_ANGLE.bmp`, a photo a person and camera.
fn viper(dir: &Path) -> Result<(Seen, Vec<String>)> {
    let (mut all, mut notes, mut passed) = (Vec::new(), Vec::new(), Passed::default());
    for (folder, camera) in [("cam_a", 1), ("cam_b", 2)] {
        let kind = "a VIPeR name (PPP_ANGLE.bmp, as 000_45.bmp)";
        // Numbered from 0 there, and 0 is nobody here.
        let parse = |name: &str| viper_name(name).map(|person| (person + 1, camera));
        let folder = (need_folder(dir, folder, Layout::Viper)?, format!("{folder}/"));
        all.extend(by_names(&folder.0, &folder.1, kind, parse, &mut passed)?);
    }
    ensure!(!all.is_empty(), "no photos under {}/cam_a: {}", dir.display(), cure(dir));
    notes.extend(passed.note());
    Ok((all, notes))
}

/// Person and camera.
fn cuhk01_name(name: &str) -> Option<(i64, i64)> {
    let digits = name.split('.').next().filter(|digits| digits.len() == 7 && digits.is_ascii())?;
    let (person, photo) = (digits[..4].parse::<i64>().ok()?, digits[4..].parse::<i64>().ok()?);
    (person > 0 && (1..=4).contains(&photo)).then_some((person, (photo + 1) / 2))
}

/// `PPPPNNN.png`: photos 1 and 2 of a person by camera A, 3 and 4 by camera B.
fn cuhk01(dir: &Path) -> Result<(Seen, Vec<String>)> {
    let (mut notes, mut passed) = (Vec::new(), Passed::default());
    let folder = if dir.join("campus").is_dir() { dir.join("campus") } else { dir.to_path_buf() };
    let kind = "a CUHK01 name (PPPPNNN.png, as 0001001.png)";
    let all = by_names(&folder, "campus/", kind, cuhk01_name, &mut passed)?;
    ensure!(!all.is_empty(), "no photos in {}: {}", folder.display(), cure(dir));
    notes.extend(passed.note());
    Ok((all, notes))
}

/// `labeled` or `detected` of a converted CUHK03: `PAIR_NNN_VIEW_II.png`, with the 20 test sets beside the folder.
fn cuhk03(dir: &Path, split: Split) -> Result<ReidSet> {
    let Some(up) = dir.parent().filter(|up| up.join(TEST_SETS).is_file()) else {
        if dir.join("cuhk-03.mat").is_file() {
            bail!(
                "{} holds cuhk-03.mat as published: scripts/convert cuhk03 {} NEW-FOLDER makes photos of it",
                dir.display(),
                dir.display()
            );
        }
        bail!("{} holds two sets: say {}/labeled or {}/detected", dir.display(), dir.display(), dir.display());
    };
    let kind = files::name(dir);
    let (mut notes, mut passed) = (Vec::new(), Passed::default());
    let named = "a CUHK03 name (PAIR_NNN_VIEW_II.png, as 1_001_1_01.png)";
    let all = by_names(dir, "", named, cuhk03_name, &mut passed)?;
    ensure!(!all.is_empty(), "no photos in {}: {}", dir.display(), cure(up));
    notes.extend(passed.note());
    let unlike = census(&all, &kind);
    notes.extend(unlike.clone());
    let set = match split {
        Split::Number(number) => old_protocol(all, up, number, notes)?,
        Split::NewProtocol => new_protocol(all, up, &kind, notes)?,
    };
    Ok(ReidSet { new_protocol: split == Split::NewProtocol, unlike, ..set })
}

/// What differs between a folder of CUHK03 and the published one, before a split takes its part: people by camera pair,
/// photos, a sample of names.
fn census(all: &[Photo], kind: &str) -> Option<String> {
    const PAIRS: [&str; 5] =
        ["persons of camera pair 1", "of camera pair 2", "of camera pair 3", "of camera pair 4", "of camera pair 5"];
    let people = persons(all);
    let by_pair = PAIRS.iter().zip(1..).zip(counts("cuhk03", "people"));
    let mut list: Vec<Count> = by_pair
        .map(|((&what, pair), published)| {
            let here = people.iter().filter(|&&person| person / 10_000 == pair).count();
            Count { what, published, here }
        })
        .collect();
    let known = ["labeled", "detected"].contains(&kind);
    if known {
        let published = count("cuhk03", &format!("{kind}_images"));
        list.push(Count { what: "photos", published, here: all.len() });
    }
    let under = format!("{kind}/");
    let has = |name: &str| all.iter().any(|photo| name.strip_prefix(&under) == Some(&*photo.name));
    let title = "CUHK03's photos";
    compare(title, &list).or_else(|| if known { lacks("cuhk03", title, &under, has) } else { None })
}

/// Person (camera pair and index in one number) and camera of a name.
fn cuhk03_name(name: &str) -> Option<(i64, i64)> {
    let mut parts = name.strip_suffix(".png")?.split('_').map(|part| part.parse::<i64>().ok());
    let (pair, index, view) = (parts.next()??, parts.next()??, parts.next()??);
    parts.next()??;
    let fits = (1..=5).contains(&pair) && (1..=9999).contains(&index) && (1..=2).contains(&view);
    (fits && parts.next().is_none()).then_some((cuhk03_person(pair, index), view))
}

fn cuhk03_person(pair: i64, index: i64) -> i64 {
    pair * 10_000 + index
}

/// A JSON list beside the photos.
fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = files::text(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            anyhow!(
                "{} is missing: scripts/convert cuhk03 makes it where the .mat of that protocol is there",
                path.display()
            )
        }
        _ => anyhow!("cannot read {}: {error}", path.display()),
    })?;
    serde_json::from_str(&text)
        .with_context(|| format!("{}: not as scripts/convert cuhk03 writes it: convert again", path.display()))
}

/// Li et al. 2014: camera pairs 1 to 3, 1160 people to train on, 100 to validate, the 100 of a test set to test.
fn old_protocol(mut all: Seen, up: &Path, number: usize, mut notes: Vec<String>) -> Result<ReidSet> {
    let path = up.join(TEST_SETS);
    let sets: Vec<Vec<[i64; 2]>> = json(&path)?;
    let tested = sets.get(number - 1).with_context(|| {
        format!("--split {number}: {} has {} test sets: say 1 to {}", path.display(), sets.len(), sets.len())
    })?;
    let tested: BTreeSet<i64> = tested.iter().map(|&[pair, index]| cuhk03_person(pair, index)).collect();
    let here: BTreeSet<i64> = persons(&all);
    let absent = tested.difference(&here).count();
    ensure!(
        absent < tested.len(),
        "{}: nobody of test set {number} is among the photos: convert again",
        path.display()
    );
    let before = all.len();
    all.retain(|photo| photo.person < 40_000);
    if all.len() < before {
        notes.push(format!(
            "left out {} of camera pairs 4 and 5, as the protocol does",
            say::count(before - all.len(), "photo")
        ));
    }
    let rest: Vec<i64> = persons(&all).difference(&tested).copied().collect();
    // Where the set is only part of the published one, nobody can be spared.
    let spared = if rest.len() > 2 * VALIDATION { VALIDATION } else { 0 };
    let mut order = rest;
    order.shuffle(&mut seed::at(SEED, number as u64, 0));
    let unused: BTreeSet<i64> = order.into_iter().take(spared).collect();
    notes.push(format!(
        "old protocol, test set {number}: {} tested, {spared} drawn to validate are left out",
        say::count(tested.len() - absent, "person")
    ));
    Ok(divided(all, Layout::Cuhk03, &tested, &unused, notes))
}

/// The name lists of the new protocol.
#[derive(Deserialize)]
struct NewProtocol {
    train: Vec<String>,
    query: Vec<String>,
    gallery: Vec<String>,
}

fn new_protocol(all: Seen, up: &Path, kind: &str, mut notes: Vec<String>) -> Result<ReidSet> {
    let path = up.join(format!("new_protocol_{kind}.json"));
    let lists: NewProtocol = json(&path)?;
    let known: BTreeMap<String, Photo> = all.into_iter().map(|photo| (photo.name.to_string(), photo)).collect();
    let part = |names: &[String]| -> Result<Vec<Photo>> {
        let found = |name: &String| {
            known
                .get(name)
                .cloned()
                .with_context(|| format!("{}: {name} is not among the photos: convert again", path.display()))
        };
        names.iter().map(found).collect()
    };
    let (train, query, gallery) = (part(&lists.train)?, part(&lists.query)?, part(&lists.gallery)?);
    notes.push("new protocol (767 people to train on, 700 to test): not the one of 1704.01719".into());
    Ok(ReidSet { layout: Layout::Cuhk03, train: train.into(), query, gallery, notes, ..ReidSet::default() })
}
