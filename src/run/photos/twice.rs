//! Photos that a data set has twice, byte for byte: in its training and its test, or under two people.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;

use super::seen::MOST;
use super::{Read, Reads, person, state};
use crate::files;
use crate::say::count;

/// So many training photos at most are looked at before scores: each costs a look at its file.
const LOOKS: usize = 50_000;

/// Photos of files, with their sizes.
fn sized(reads: Vec<Read>) -> Vec<(u64, Read)> {
    let size = |read: Read| (state(read.path.as_deref()).0, read);
    reads.into_par_iter().map(size).filter(|(size, _)| *size > 0).collect()
}

/// Those of the `sizes`, with hashes of their bytes.
fn hashed<'a>(photos: &'a [(u64, Read)], sizes: &HashMap<u64, [usize; 2]>) -> Vec<(String, &'a Read)> {
    let hash = |(_, read): &'a (u64, Read)| Some((files::hash(read.path.as_deref()?).ok()?, read));
    photos.par_iter().filter(|(size, _)| sizes.contains_key(size)).filter_map(hash).collect()
}

/// The first photo of each hash.
fn firsts<'a>(all: &'a [(String, &'a Read)]) -> HashMap<&'a str, &'a Read> {
    all.iter().rev().map(|(hash, read)| (&**hash, *read)).collect()
}

/// Whether two photos are of two people, or have other labels.
fn differ(a: &Read, b: &Read) -> bool {
    match (person(&a.known), person(&b.known)) {
        (Some((a, _)), Some((b, _))) => a != b,
        _ => a.known != b.known,
    }
}

/// Which of `tested` are photos of `trained` under other names; with `within` also which photos of either side are on two people,
/// or have two lists of labels. A line each. Only files of one size are read: without `within` none, where they are very many.
pub fn twice(trained: Reads<'_>, tested: Reads<'_>, within: bool) -> Vec<String> {
    let trained: Vec<Read> = trained.take(if within { usize::MAX } else { LOOKS + 1 }).collect();
    if !within && trained.len() > LOOKS {
        return Vec::new();
    }
    let mut names: HashSet<Arc<str>> = trained.iter().map(|read| read.name.clone()).collect();
    let (trained, tested) = (sized(trained), sized(tested.filter(|read| names.insert(read.name.clone())).collect()));
    let mut sizes: HashMap<u64, [usize; 2]> = HashMap::new();
    trained.iter().for_each(|(size, _)| sizes.entry(*size).or_default()[0] += 1);
    tested.iter().for_each(|(size, _)| sizes.entry(*size).or_default()[1] += 1);
    sizes.retain(|_, [train, test]| (*train > 0 && *test > 0) || (within && *train + *test > 1));
    let bytes = sizes.iter().map(|(size, [train, test])| size * (train + test) as u64);
    if !within && bytes.sum::<u64>() > MOST {
        return Vec::new();
    }
    let sides = [hashed(&trained, &sizes), hashed(&tested, &sizes)];
    let mut notes = Vec::new();
    let known = firsts(&sides[0]);
    let mut copies = sides[1].iter().filter_map(|(hash, copy)| Some((copy, known.get(&**hash)?)));
    if let Some((copy, read)) = copies.next() {
        notes.push(format!(
            "{} of {} are photos of the training under other names, byte for byte (the first {}, which is {}): a score measures memory",
            1 + copies.count(),
            count(tested.len(), "test photo"),
            copy.name,
            read.name
        ));
    }
    for side in sides.iter().filter(|_| within) {
        let known = firsts(side);
        let pairs = side.iter().filter_map(|(hash, read)| Some((read, known.get(&**hash)?)));
        let mut twins = pairs.filter(|(read, first)| differ(read, first));
        if let Some((read, first)) = twins.next() {
            notes.push(format!(
                "{} another's byte for byte, of another person or with other labels (the first {}, which is {})",
                match 1 + twins.count() {
                    1 => "1 photo is".to_string(),
                    many => format!("{} are", count(many, "photo")),
                },
                read.name,
                first.name
            ));
        }
    }
    notes
}
