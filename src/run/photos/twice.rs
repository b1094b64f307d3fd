//! Photos that a data set has twice, byte for byte: in its training and its test, or under two people.

use std::collections::{HashMap, HashSet};

use super::seen::in_both;
use super::{Hashed, Of, Read, Reads, called, hashed, person};
use crate::say::{count, plural};

/// The first of each hash.
fn firsts(all: &[Hashed]) -> HashMap<u64, &Read> {
    all.iter().rev().filter_map(|(read, hash)| Some(((*hash)?, read))).collect()
}

/// Whether two photos are of two people, or have other labels.
fn differ(a: &Read, b: &Read) -> bool {
    match (person(&a.known), person(&b.known)) {
        (Some((a, _)), Some((b, _))) => a != b,
        _ => a.known != b.known,
    }
}

/// That photos are on two people, or have two lists of labels, where some do.
pub fn two_people(all: &[Hashed]) -> Option<String> {
    let known = firsts(all);
    let pairs = all.iter().filter_map(|(read, hash)| Some((read, *known.get(&(*hash)?)?)));
    let mut twins = pairs.filter(|(read, first)| differ(read, first));
    let (read, first) = twins.next()?;
    let many = 1 + twins.count();
    Some(format!(
        "{} {} byte for byte, of another person or with other labels (the first {}, which is {})",
        count(many, called(read)[0]),
        plural(many, "is another's", "are others'"),
        read.name,
        first.name
    ))
}

/// Which of `tested` are photos of `trained` under other names, and which photos of either are on two people: a line each.
pub fn twice(trained: Reads<'_>, tested: Reads<'_>) -> Vec<String> {
    let (trained, mut tested) = (hashed(trained, "training data", &|| ()), hashed(tested, "test data", &|| ()));
    let both: HashSet<(&str, &Of)> = trained.iter().map(|(read, _)| (&*read.name, &read.of)).collect();
    tested.retain(|(read, _)| !both.contains(&(&*read.name, &read.of)));
    let known = firsts(&trained);
    let mut copies = tested.iter().filter_map(|(copy, hash)| Some((copy, *known.get(&(*hash)?)?)));
    let copied = copies.next().map(|(copy, read)| {
        let all = tested.iter().filter(|(_, hash)| hash.is_some()).count();
        let many = format!("{} of {}", 1 + copies.count(), count(all, &format!("test {}", called(copy)[0])));
        in_both(&many, (&copy.name, &read.name))
    });
    copied.into_iter().chain(two_people(&trained)).chain(two_people(&tested)).collect()
}
