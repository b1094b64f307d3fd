//! `data/datasets.json`, the one list of data sets and weights, as it was when this was built: the command that gets a
//! missing one, and the counts that a published one has.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;

static LIST: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../data/datasets.json")).expect("the list is JSON: it was when this was built")
});

/// Every entry: data sets, then weights.
fn entries() -> impl Iterator<Item = &'static Value> {
    ["sets", "weights"].into_iter().filter_map(|kind| LIST[kind].as_array()).flatten()
}

fn entry(name: &str) -> Option<&'static Value> {
    entries().find(|entry| entry["name"] == name)
}

/// The command that gets a data set or weights by their name in the list: `scripts/fetch NAME`.
///
/// # Panics
/// For a name that is not in the list: a mistake in the code that says it.
pub fn fetch(name: &str) -> String {
    assert!(entry(name).is_some(), "{name} is not in data/datasets.json");
    format!("scripts/fetch {name}")
}

/// What an entry of the list is, in words.
///
/// # Panics
/// For a name that is not in the list: a mistake in the code that says it.
pub fn title(name: &str) -> &'static str {
    let title = entry(name).and_then(|entry| entry["title"].as_str());
    title.unwrap_or_else(|| panic!("{name} is not in data/datasets.json"))
}

/// Where weights lie by their name in the list: `data/weights/...`.
///
/// # Panics
/// For a name that is not in the list: a mistake in the code that says it.
pub fn file(name: &str) -> &'static str {
    let file = entry(name).and_then(|entry| entry["file"].as_str());
    file.unwrap_or_else(|| panic!("{name} is no weights of data/datasets.json"))
}

/// The command that gets what belongs at `path`, where the list knows a folder or file of that name: `data/MARS`,
/// `MARS/info` and `weights/resnet50-0676ba61.pth` are known wherever they lie.
pub fn fetch_for(path: &Path) -> Option<String> {
    name_for(path).map(fetch)
}

/// The name in the list of a file by its own name, in whatever folder it lies; as [`name_for`].
pub fn name_of(file: &Path) -> Option<&'static str> {
    name_for(Path::new(file.file_name()?))
}

/// The name in the list of what belongs at `path`, as [`fetch_for`] knows it.
pub fn name_for(path: &Path) -> Option<&'static str> {
    let names: Vec<&str> = path.iter().rev().take(2).filter_map(|name| name.to_str()).collect();
    let known = |wanted: &str| {
        entries().find(|entry| {
            let place = entry["folder"].as_str().or(entry["file"].as_str());
            place.and_then(|place| place.rsplit('/').next()) == Some(wanted) && wanted != "weights"
        })
    };
    names.into_iter().find_map(known).and_then(|entry| entry["name"].as_str())
}

/// The BLAKE3 hash of a file of weights, by its name in the list; None where the list has none.
pub fn blake3(name: &str) -> Option<&'static str> {
    entry(name)?["becomes"]["blake3"].as_str()
}

/// What to do about a folder of images that is not there or not whole, to end an error with.
pub fn cure(path: &Path) -> String {
    match fetch_for(path) {
        Some(command) => format!("{command} gets it"),
        None => "give the folder that holds the images, or see scripts/fetch --list for the sets it can get".into(),
    }
}

/// A published count of a data set: `count("market1501", "train_images")`, or, where it has several sets,
/// `count("mulan", "scene/train")`; of a list of counts, as CUHK03's people, use the list.
///
/// # Panics
/// For a set or count that is not in the list: a mistake in the code that says it.
pub fn count(name: &str, what: &str) -> usize {
    known_count(name, what).unwrap_or_else(|| panic!("{name} has no count {what} in data/datasets.json"))
}

/// As [`count`], for what the list may not have.
pub fn known_count(name: &str, what: &str) -> Option<usize> {
    Some(entry(name)?["counts"].pointer(&format!("/{what}"))?.as_u64()? as usize)
}

/// A list of published counts: `counts("cuhk03", "people")`, by pair of cameras.
///
/// # Panics
/// As [`count`].
pub fn counts(name: &str, what: &str) -> Vec<usize> {
    let found = entry(name).and_then(|entry| entry["counts"][what].as_array());
    let found = found.unwrap_or_else(|| panic!("{name} has no counts {what} in data/datasets.json"));
    found.iter().filter_map(Value::as_u64).map(|count| count as usize).collect()
}

/// What is wrong where a name of the list's [`sample`] that starts with `under` is none of a set's: "not the published
/// TITLE: NAME is missing"; nothing where all are there.
///
/// # Panics
/// As [`count`].
pub fn lacks(name: &str, title: &str, under: &str, has: impl Fn(&str) -> bool) -> Option<String> {
    let missing = sample(name).into_iter().filter(|wanted| wanted.starts_with(under)).find(|wanted| !has(wanted))?;
    Some(format!("not the published {title}: {missing} is missing"))
}

/// Names that the published data set must have, a sample, relative to its folder.
///
/// # Panics
/// As [`count`].
pub fn sample(name: &str) -> Vec<&'static str> {
    let names = entry(name).and_then(|entry| entry["check"]["names"].as_array());
    let names = names.unwrap_or_else(|| panic!("{name} has no sample of names in data/datasets.json"));
    names.iter().filter_map(Value::as_str).collect()
}
