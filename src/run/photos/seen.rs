//! Which photos of a test a run was trained on, by its list: also where they were moved or copied, and renamed folders hold them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::{Read, Row, state};
use crate::files;
use crate::say::count;

/// A file for each of the photos that a data set has now, by name.
pub type Files = HashMap<Arc<str>, PathBuf>;

/// So many photos, or sizes, in common are no chance.
const MANY: usize = 8;

/// So many bytes are read at most.
pub(super) const MOST: u64 = 2 << 30;

/// A photo to be tested.
struct Test<'a> {
    name: &'a str,
    path: &'a Path,
    bytes: u64,
    changed: u64,
}

/// Training photos, with their names, and photos to be tested.
type Both<'a> = (Vec<(&'a str, &'a Path)>, Vec<&'a Test<'a>>);

/// Where the last part of a name begins, and the last two: the file's name, and that with its folder's.
fn ends(name: &str) -> (usize, usize) {
    let mut all = name.rmatch_indices('/').map(|(at, _)| at + 1);
    (all.next().unwrap_or(0), all.next().unwrap_or(0))
}

/// The name of a photo's file.
fn file(name: &str) -> &str {
    &name[ends(name).0..]
}

/// What tells a photo from others whatever part of a set it is in: its file's name where one photo has it on either side (as
/// `named` counts them), else that behind its folder's, for people often have a `0001.jpg` each.
fn place<'a>(name: &'a str, named: &HashMap<&str, [usize; 2]>) -> &'a str {
    let (file, folder) = ends(name);
    if named.get(&name[file..]) == Some(&[1, 1]) { &name[file..] } else { &name[folder..] }
}

/// How many of `tested` are among the `trained`; and in words those that are so few that it may be chance, which do not count. Of
/// its `own` data only what is gone from those `now` to be trained on counts, and a name is enough. One is the other that
///
/// * has its file's name, its size and its time of change, which no other on either side has, as what was moved;
/// * elsewhere, has its file's name, its size and its bytes, where the training photo is there still;
/// * has its [`place`] and its size, as half of its folder have of whom it could be, where bytes do not tell; elsewhere so many of
///   them that it is no chance.
pub(super) fn among(
    trained: &[Row],
    mut tested: Vec<Read>,
    own: bool,
    now: impl FnOnce() -> Files,
) -> (usize, Option<String>) {
    tested.retain(|read| read.path.is_some());
    tested.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    tested.dedup_by(|a, b| a.name == b.name);
    let mut named: HashMap<&str, [usize; 2]> = HashMap::new();
    trained.iter().for_each(|row| named.entry(file(&row.name)).or_default()[0] += 1);
    tested.iter().for_each(|read| named.entry(file(&read.name)).or_default()[1] += 1);
    let near = |row: &&Row| row.bytes > 0 && named.get(file(&row.name)).is_some_and(|sides| sides[1] > 0);
    let mut rows: Vec<&Row> = trained.iter().filter(near).collect();
    let there = if rows.is_empty() { Files::new() } else { now() };
    if own {
        rows.retain(|row| !there.contains_key(&*row.name));
    }
    if rows.is_empty() {
        return (0, None);
    }
    let tested: Vec<Test<'_>> = tested
        .par_iter()
        .filter_map(|read| {
            let path = read.path.as_deref()?;
            let (bytes, changed) = state(Some(path));
            Some(Test { name: &read.name, path, bytes, changed })
        })
        .collect();
    let mut times: HashMap<u64, [usize; 2]> = HashMap::new();
    trained.iter().for_each(|row| times.entry(row.changed).or_default()[0] += 1);
    tested.iter().for_each(|photo| times.entry(photo.changed).or_default()[1] += 1);
    let alone = rows.iter().filter(|row| times.get(&row.changed) == Some(&[1, 1]));
    let moved: HashMap<(&str, u64, u64), &str> =
        alone.map(|row| ((file(&row.name), row.bytes, row.changed), &*row.name)).collect();
    // Of one name and size: what training photos there are, and tests.
    let mut alike: HashMap<(&str, u64), Both<'_>> = HashMap::new();
    if !own {
        tested.iter().for_each(|photo| alike.entry((file(photo.name), photo.bytes)).or_default().1.push(photo));
        for &row in &rows {
            if let (Some(both), Some(path)) = (alike.get_mut(&(file(&row.name), row.bytes)), there.get(&*row.name)) {
                both.0.push((&*row.name, &**path));
            }
        }
        alike.retain(|_, both| !both.0.is_empty());
    }
    let mut bytes: HashMap<&Path, String> = HashMap::new();
    let each = alike.iter().map(|((_, size), (paths, photos))| size * (paths.len() + photos.len()) as u64);
    if each.sum::<u64>() <= MOST {
        let all: Vec<&Path> = alike
            .values()
            .flat_map(|(paths, photos)| paths.iter().map(|of| of.1).chain(photos.iter().map(|photo| photo.path)))
            .collect();
        bytes.par_extend(all.into_par_iter().filter_map(|path| Some((path, files::hash(path).ok()?))));
    }
    // Of tests, and the training photos that they are.
    let (mut seen, mut are): (HashSet<&str>, HashSet<&str>) = Default::default();
    for (paths, photos) in alike.values() {
        let known: HashMap<&String, &str> =
            paths.iter().filter_map(|(name, path)| Some((bytes.get(*path)?, *name))).collect();
        for photo in photos {
            if let Some(name) = bytes.get(photo.path).and_then(|hash| known.get(hash).copied()) {
                seen.insert(photo.name);
                are.insert(name);
            }
        }
    }
    for photo in &tested {
        if let Some(name) = moved.get(&(file(photo.name), photo.bytes, photo.changed)).copied() {
            seen.insert(photo.name);
            are.insert(name);
        }
    }
    // Whether bytes tell that it is another, for they are still those that the list knows.
    let another = |row: &Row, photo: &Test<'_>| {
        let path = there.get(&*row.name).filter(|path| state(Some(path)) == (row.bytes, row.changed));
        path.is_some_and(|path| bytes.get(&**path).zip(bytes.get(photo.path)).is_some_and(|(a, b)| a != b))
    };
    let mut places: HashMap<&str, Vec<&Row>> = HashMap::new();
    rows.iter().for_each(|row| places.entry(place(&row.name, &named)).or_default().push(row));
    let mut folders: HashMap<&str, (usize, Vec<&Test<'_>>)> = HashMap::new();
    for photo in &tested {
        for &row in places.get(place(photo.name, &named)).into_iter().flatten() {
            if seen.contains(photo.name) {
                break;
            }
            if own && row.name == photo.name {
                seen.insert(photo.name);
                break;
            }
            let (all, fit) = folders.entry(&row.name[..ends(&row.name).0]).or_default();
            *all += 1;
            if photo.bytes == row.bytes && !another(row, photo) {
                fit.push(photo);
            }
        }
    }
    let placed = folders.into_values().filter(|(all, fit)| 2 * fit.len() >= *all).flat_map(|(_, fit)| fit);
    let placed: Vec<&Test<'_>> = placed.collect();
    let sizes = placed.iter().map(|photo| photo.bytes).collect::<HashSet<u64>>().len();
    if own || seen.len() + sizes >= MANY {
        seen.extend(placed.iter().map(|photo| photo.name));
    }
    // Half of a training folder, which often is a person's.
    let half = || {
        let mut folders: HashMap<&str, [usize; 2]> = HashMap::new();
        for Row { name, .. } in trained {
            let [all, some] = folders.entry(&name[..ends(name).0]).or_default();
            *all += 1;
            *some += usize::from(are.contains(&**name));
        }
        folders.into_values().any(|[all, some]| some > 1 && 2 * some >= all)
    };
    if own || seen.len() >= MANY || half() {
        return (seen.len(), None);
    }
    let words = |name: &&str| format!("{} of {} ({name} is one)", seen.len(), count(tested.len(), "test photo"));
    (0, seen.iter().min().map(words))
}
