//! Which photos of a test a run was trained on, by its list: the same bytes, wherever they lie and whatever they are called.

use std::collections::{HashMap, HashSet};

use super::{Hashed, Of, Reads, Row, hashed};
use crate::say::count;

/// So many photos in common are no chance: public sets of faces share some.
const MANY: usize = 8;

/// What a run was trained on of what is to be tested.
#[derive(Debug, Default, PartialEq)]
pub struct Tested {
    /// How many, which its data do not train on by now: what held them out is another than it was, or the data are.
    pub seen: usize,
    /// How many are to be tested.
    pub all: usize,
    /// What they are called, many of them: test photos, say.
    pub what: &'static str,
    /// What a reader of scores must know: photos in both parts of the data, and so few seen that it may be chance, which
    /// do not count.
    pub notes: Vec<String>,
}

/// The folder of a name.
fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The first by name, and what it was in the training.
fn example<'a>(photos: &[(&'a Hashed, &'a str)]) -> Option<(&'a str, &'a str)> {
    photos.iter().map(|((read, _), is)| (&*read.name, *is)).min()
}

/// See [`super::Photos::seen`]. Of its `own` data a name is enough: a photo may have been edited since.
pub(super) fn among(trained: &[Row], tested: &[&Hashed], trains: Reads<'_>, own: bool) -> Tested {
    let tested: Vec<&Hashed> = tested.iter().copied().filter(|(read, _)| read.of != Of::List).collect();
    let rows = tested.first().is_some_and(|(read, _)| matches!(read.of, Of::Row(_)));
    let (one, what) = if rows { ("test row", "test rows") } else { ("test photo", "test photos") };
    let mut found = Tested { all: tested.len(), what, ..Tested::default() };
    let by_hash: HashMap<u64, &str> = trained.iter().filter_map(|row| Some((row.hash()?, &*row.name))).collect();
    let names: HashSet<&str> = trained.iter().filter(|_| own).map(|row| &*row.name).collect();
    // Tests, and what they were in the training.
    let same = |(read, hash): &&Hashed| {
        let known = hash.and_then(|hash| by_hash.get(&hash).copied());
        known.or_else(|| names.get(&*read.name).copied())
    };
    let are: Vec<(&Hashed, &str)> = tested.iter().filter_map(|photo| Some((*photo, same(photo)?))).collect();
    if are.is_empty() {
        return found;
    }
    let now: HashSet<u64> = hashed(trains, "training data").into_iter().filter_map(|(_, hash)| hash).collect();
    let (twins, seen): (Vec<_>, Vec<_>) =
        are.into_iter().partition(|((_, hash), _)| hash.is_some_and(|hash| now.contains(&hash)));
    let many = |photos: &[(&Hashed, &str)]| format!("{} of {}", photos.len(), count(found.all, one));
    if let Some((first, is)) = example(&twins) {
        found.notes.push(format!(
            "{} are in the training too, byte for byte (the first {first}, which is {is}): a score measures memory",
            many(&twins)
        ));
    }
    // Half of a training folder, which often is a person's.
    let half = || {
        let are: HashSet<&str> = seen.iter().map(|(_, name)| *name).collect();
        let mut folders: HashMap<&str, [usize; 2]> = HashMap::new();
        for Row { name, .. } in trained {
            let [all, some] = folders.entry(folder(name)).or_default();
            *all += 1;
            *some += usize::from(are.contains(&**name));
        }
        folders.into_values().any(|[all, some]| some > 1 && 2 * some >= all)
    };
    if own || seen.len() >= MANY || half() {
        found.seen = seen.len();
    } else if let Some((first, _)) = example(&seen) {
        let few = many(&seen);
        found.notes.push(format!("the run was trained on {few} ({first} is one): their scores measure memory"));
    }
    found
}
