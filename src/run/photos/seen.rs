//! Which photos of a test a run was trained on, by its list: the same bytes, wherever they lie and whatever they are called.

use std::collections::{HashMap, HashSet};

use super::{Hashed, Of, Row, called};
use crate::say::count;

/// So many photos in common are no chance: public sets of faces share some.
const MANY: usize = 8;

/// What a run was trained on of what is to be tested.
#[derive(Debug, Default, PartialEq)]
pub struct Tested {
    /// How many, which its data do not train on by now: what held them out is another than it was, or the data are.
    pub seen: usize,
    /// How many it was trained on, whatever its data are by now.
    pub known: usize,
    /// How many are to be tested.
    pub all: usize,
    /// What they are called, many of them: photos, or rows.
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

/// That so many of all are in the training too, with an example.
pub(super) fn in_both(many: &str, (test, training): (&str, &str)) -> String {
    format!(
        "{many} are in the training too, byte for byte (the first {test}, which is {training}): a score measures memory"
    )
}

/// See [`super::Photos::seen`]; the hashes that its data train on `now`. Of its `own` data a name is enough: a photo may have
/// been edited since.
pub(super) fn among(trained: &[Row], tested: &[&Hashed], now: impl FnOnce() -> HashSet<u64>, own: bool) -> Tested {
    let tested: Vec<&Hashed> = tested.iter().copied().filter(|(read, _)| read.of != Of::List).collect();
    let Some((any, _)) = tested.first() else { return Tested::default() };
    let [one, what] = called(any);
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
    found.known = are.len();
    let now = now();
    let (twins, seen): (Vec<_>, Vec<_>) =
        are.into_iter().partition(|((_, hash), _)| hash.is_some_and(|hash| now.contains(&hash)));
    let many = |photos: &[(&Hashed, &str)]| format!("{} of {}", photos.len(), count(found.all, &format!("test {one}")));
    found.notes.extend(example(&twins).map(|first| in_both(&many(&twins), first)));
    // A picture that stands for many which are gone, say, is one.
    let hashes: HashSet<u64> = seen.iter().filter_map(|((_, hash), _)| *hash).collect();
    // Half of a training folder, which often is a person's.
    let half = || {
        let mut folders: HashMap<&str, [usize; 2]> = HashMap::new();
        for row in trained {
            let [all, some] = folders.entry(folder(&row.name)).or_default();
            *all += 1;
            *some += usize::from(row.hash().is_some_and(|hash| hashes.contains(&hash)));
        }
        folders.into_values().any(|[all, some]| some > 1 && 2 * some >= all)
    };
    // Rows of few different numbers are alike by chance.
    let no_chance = || match &any.of {
        Of::Row(_) => 2 * seen.len() >= found.all,
        _ => hashes.len() >= MANY || half(),
    };
    // What the data train on no longer, though they do on others, was moved.
    let named = || seen.iter().any(|((read, _), is)| *read.name == **is);
    if (own && (!now.is_empty() || named())) || no_chance() {
        found.seen = seen.len();
    } else if let Some((first, _)) = example(&seen) {
        let few = many(&seen);
        found.notes.push(format!("the run was trained on {few} ({first} is one): their scores measure memory"));
    }
    found
}
