//! The plainest set: `labels.csv` with the columns `image`, `labels` (separated by `;`, or by `,` where `;` separates the
//! columns) and, where the author chose,
//! `split` (`train` or `test`); images lie under `images/`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::super::{count, thousands};
use super::{Item, LabelLayout, LabelSet, image, placed, unique};
use crate::folders::spelt;
use crate::lists::{Record, inside, parted};
use crate::seed;

pub(super) fn open(dir: &Path) -> Result<LabelSet> {
    let path = dir.join("labels.csv");
    spelt(dir, &["images"])?;
    let (mark, mut all) = parted(&path)?;
    ensure!(!all.is_empty(), "{}: an empty file", path.display());
    let head = all.remove(0).fields;
    let twice = ["image", "labels", "split"]
        .into_iter()
        .find(|name| head.iter().filter(|known| known.eq_ignore_ascii_case(name)).count() > 1);
    ensure!(twice.is_none(), "{}:1: two columns are called {}: leave one", path.display(), twice.unwrap_or_default());
    let column = |name: &str| head.iter().position(|known| known.eq_ignore_ascii_case(name));
    let need = |name: &str| {
        column(name).with_context(|| {
            format!("{}: no column {name}: the first line should be image,labels or image,labels,split", path.display())
        })
    };
    let (images, labels, split) = (need("image")?, need("labels")?, column("split"));
    // With whether it is tested.
    let mut listed: Vec<(String, Vec<String>, bool)> = Vec::new();
    let (mut seen, mut spelt) = (BTreeSet::new(), BTreeMap::new());
    let (mut apart, mut joined) = (false, None);
    for Record { line, fields } in all {
        ensure!(
            fields.iter().skip(head.len()).all(String::is_empty) && fields.len() > images.max(labels),
            "{}:{line}: {} columns where the first line has {}: put quotes around a name with a separator in it",
            path.display(),
            fields.len(),
            head.len()
        );
        let field = |column: usize| fields.get(column).map_or("", String::as_str);
        let name = inside(field(images))
            .map_err(|why| anyhow!("{}:{line}: the image {:?} {why}", path.display(), field(images)))?;
        let name = placed(dir, "images", &name);
        ensure!(seen.insert(name.clone()), "{}:{line}: {name} stands twice: leave one row of it", path.display());
        let between = if mark == ';' && !field(labels).contains(';') { ',' } else { ';' };
        apart |= field(labels).contains(between);
        let words: Vec<&str> = field(labels).split(between).map(str::trim).filter(|word| !word.is_empty()).collect();
        for &word in &words {
            joined = joined.or_else(|| word.contains([',', '|']).then(|| (line, word.to_string())));
            let (first, known) = spelt.entry(word.to_lowercase()).or_insert_with(|| (line, word.to_string()));
            ensure!(
                known == word,
                "{}:{line}: {word} is {known} in line {first}: write a class in the same letters everywhere",
                path.display()
            );
        }
        let test = match split.map(field) {
            None | Some("train") => false,
            Some("test") => true,
            Some(word) => bail!("{}:{line}: the split is {word:?}: say train or test", path.display()),
        };
        listed.push((name, words.into_iter().map(String::from).collect(), test));
    }
    let mut notes = Vec::new();
    if let Some((line, word)) = joined {
        ensure!(apart, "{}:{line}: the class {word:?}: write ; between an image's labels", path.display());
        notes.push(format!("labels.csv:{line}: {word:?} is one class, since ; separates labels"));
    }
    if split.is_none() {
        let mut order: Vec<usize> = (0..listed.len()).collect();
        // Whatever order the rows have.
        order.sort_by(|&a, &b| listed[a].0.cmp(&listed[b].0));
        order.shuffle(&mut seed::at(0, 0, 0));
        order.truncate(listed.len() / 4);
        notes.push(format!(
            "{} of {} held out to test: labels.csv has no column split",
            thousands(order.len()),
            count(listed.len(), "image")
        ));
        order.into_iter().for_each(|row| listed[row].2 = true);
    }
    let classes: Vec<String> =
        listed.iter().flat_map(|row| row.1.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect();
    let place = |word: &String| classes.binary_search(word).map_or(0, |place| place as u32);
    let items: Vec<(Item, bool)> = listed
        .par_iter()
        .map(|(name, words, test)| (image(dir, name.clone(), unique(words.iter().map(place).collect())), *test))
        .collect();
    let mut files = HashSet::with_capacity(items.len());
    if let Some((twice, _)) = items.iter().find(|(item, _)| !files.insert(&*item.name)) {
        bail!("{}: {} stands twice, in other letters: leave one row of it", path.display(), twice.name);
    }
    drop(files);
    let (test, train): (Vec<_>, Vec<_>) = items.into_iter().partition(|(_, test)| *test);
    let items = |list: Vec<(Item, bool)>| list.into_iter().map(|(item, _)| item).collect();
    notes.push("a set of your own: there are no published counts to compare it with".to_string());
    Ok(LabelSet::new(LabelLayout::Csv, classes, (items(train), items(test)), notes, false))
}
