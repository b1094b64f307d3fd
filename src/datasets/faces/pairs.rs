//! Lists of pairs in LFW's grammar.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::FaceSet;
use crate::catalog;
use crate::datasets::{Photo, plural, thousands};
use crate::lists::{Record, composed, records};

/// Two test photos (or videos) and whether they show one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Row of the first in the set's test photos; in YouTube Faces its video.
    pub left: usize,
    /// Row, or video, of the second.
    pub right: usize,
    /// Whether they show one person.
    pub same: bool,
}

/// Reads `pairs.txt`: a header `folds pairs`, then for each fold as many lines `name i j` of one person and as many
/// `name i name j` of two. Returns the pairs fold after fold, and the number of folds;
/// notes how many stand again.
///
/// # Errors
/// One line that names the list, its line and what is wrong: a malformed or missing line, an image that is not there; as
/// [`repeated`].
pub fn read(list: &Path, photos: &[Photo], root: &Path, notes: &mut Vec<String>) -> Result<(Vec<Pair>, usize)> {
    let mut rows = records(list)?.into_iter().map(|row| match &row.fields[..] {
        // Nothing but blanks between the columns.
        [line] => Record { fields: line.split_whitespace().map(String::from).collect(), ..row },
        _ => row,
    });
    let header = rows.next().with_context(|| format!("{}: an empty list: fetch it again", list.display()))?.fields;
    let numbers: Vec<Option<usize>> = header.iter().map(|word| word.parse().ok()).collect();
    let &[Some(folds), Some(each)] = &numbers[..] else {
        bail!(
            "{}:1: {:?} is no header: expected the number of folds and of pairs a fold, e.g. \"10 300\"",
            list.display(),
            header.join(" ")
        )
    };
    ensure!(
        (2..=1000).contains(&folds) && (1..=10_000_000).contains(&each),
        "{}:1: {folds} folds of {each} pairs: expected 2 folds or more and 1 pair or more",
        list.display()
    );
    let index = index(photos);
    let mut pairs = Vec::new();
    for Record { line, mut fields } in rows {
        let at = format!("{}:{line}", list.display());
        fields.truncate(fields.iter().rposition(|field| !field.is_empty()).map_or(0, |last| last + 1));
        let words: Vec<&str> = fields.iter().map(String::as_str).collect();
        let find = |name: &str, number: &str| -> Result<usize> {
            let value: u32 = number.parse().ok().with_context(|| format!("{at}: {number:?} is no image number"))?;
            // NAME_0012 goes before another name that ends in the number.
            let plain = composed(name);
            let named = format!("{plain}/{plain}_{value:04}.");
            let all = index.get(&(plain, value)).map_or(&[][..], Vec::as_slice);
            let as_named = |row: &&usize| composed(&photos[**row].name).starts_with(&named);
            let exact: Vec<usize> = all.iter().filter(as_named).copied().collect();
            match if exact.is_empty() { all } else { &exact[..] } {
                [] => bail!(
                    "{at}: {}/{name}/{name}_{value:04} (.jpg, .png, ...) is missing: fetch the images again",
                    root.display()
                ),
                &[row] => Ok(row),
                &[a, b, ..] => {
                    bail!("{at}: {} and {} are both image {value}: remove one", photos[a].name, photos[b].name)
                }
            }
        };
        let pair = match &words[..] {
            [name, i, j] => Pair { left: find(name, i)?, right: find(name, j)?, same: true },
            [a, i, b, j] if a != b => Pair { left: find(a, i)?, right: find(b, j)?, same: false },
            [_, _, _, _] => bail!("{at}: a pair of different people with one name: fetch the list again"),
            other => bail!("{at}: {} columns: expected \"name i j\" or \"name i name j\"", other.len()),
        };
        ensure!(
            pair.left != pair.right,
            "{at}: a photo is paired with itself, which is always right: correct the list"
        );
        ensure!(pairs.len() < 2 * folds * each, "{at}: more than {folds} x 2 x {each} pairs: correct the header");
        let same = (pairs.len() / each).is_multiple_of(2);
        ensure!(
            pair.same == same,
            "{at}: a pair of {} where the header's {folds} folds of {each} + {each} want {}: correct the header or the order",
            if pair.same { "one person" } else { "different people" },
            if same { "one person" } else { "different people" }
        );
        pairs.push(pair);
    }
    ensure!(
        pairs.len() == 2 * folds * each,
        "{}: {} pairs where the header says {folds} x 2 x {each}: fetch the list again",
        list.display(),
        pairs.len()
    );
    notes.extend(repeated(list, &pairs, folds, |row| photos[row].name.to_string())?);
    Ok((pairs, folds))
}

/// A note of how many pairs stand again in their fold, in either order, and so count twice.
///
/// # Errors
/// Where one stands in two folds: it is judged by a threshold that was chosen on it, too.
pub(super) fn repeated(
    list: &Path,
    pairs: &[Pair],
    folds: usize,
    name: impl Fn(usize) -> String,
) -> Result<Option<String>> {
    let each = (pairs.len() / folds.max(1)).max(1);
    let words = |pair: &Pair| format!("{} and {}", name(pair.left), name(pair.right));
    let (mut first, mut again) = (BTreeMap::new(), Vec::new());
    for (place, pair) in pairs.iter().enumerate() {
        let (left, right) = (pair.left.min(pair.right), pair.left.max(pair.right));
        let (fold, known) = (place / each + 1, *first.entry((left, right)).or_insert(place / each + 1));
        ensure!(
            fold == known,
            "{}: the pair {} is in fold {known} and in fold {fold}, whose thresholds are chosen on each other: put another in the place of one",
            list.display(),
            words(pair)
        );
        if first.len() + again.len() <= place {
            again.push(pair);
        }
    }
    let word = plural(
        again.len(),
        "pair stands again in the same fold and counts",
        "pairs stand again in the same fold and count",
    );
    Ok(again.first().map(|pair| format!("{} {word} again, as {}", thousands(again.len()), words(pair))))
}

/// Photos by person's name and the number at the end of the file's name (`NAME/NAME_0012.jpg` is 12).
fn index(photos: &[Photo]) -> BTreeMap<(String, u32), Vec<usize>> {
    let mut index = BTreeMap::<_, Vec<usize>>::new();
    for (row, photo) in photos.iter().enumerate() {
        let Some((folder, file)) = photo.name.split_once('/') else { continue };
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let number = stem.rsplit_once('_').map_or(stem, |(_, number)| number);
        if let Ok(number) = number.parse() {
            index.entry((composed(folder), number)).or_default().push(row);
        }
    }
    index
}

/// How the list or the images differ from LFW's View 2, or nothing. The images that no pair names may be missing.
pub(super) fn lfw_differs(set: &FaceSet) -> Option<String> {
    let named: BTreeSet<usize> = set.pairs.iter().flat_map(|pair| [pair.left, pair.right]).collect();
    let people: BTreeSet<i64> = named.iter().map(|&row| set.test[row].person).collect();
    let (folds, pairs) = (set.folds, set.pairs.len());
    if (folds, pairs, named.len(), people.len()) == (10, 6000, 7701, 4281) {
        return None;
    }
    Some(format!(
        "not LFW's View 2: {folds} folds, {} pairs of {} images of {} people (published 10, 6,000, 7,701 and 4,281)",
        thousands(pairs),
        thousands(named.len()),
        thousands(people.len())
    ))
}

/// What a folder whose pairs are all there has not of the whole of LFW: the protocol needs no more, a reader may.
pub(super) fn lfw_lacks(set: &FaceSet) -> Option<String> {
    let all = (catalog::count("lfw", "images"), catalog::count("lfw", "people"));
    let here = (set.test.len(), set.people.len());
    if here == all {
        let has = |name: &str| set.test.iter().any(|photo| name.strip_prefix("lfw/") == Some(&*photo.name));
        return catalog::lacks("lfw", "LFW", "lfw/", has);
    }
    let [images, people, all_images, all_people] = [here.0, here.1, all.0, all.1].map(thousands);
    Some(format!(
        "{images} images of {people} people are here, all of LFW has {all_images} of {all_people}: the pairs need no others"
    ))
}
