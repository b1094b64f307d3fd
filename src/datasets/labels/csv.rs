//! The plainest set: `labels.csv` with the columns `image`, `labels` (separated by `;`) and, where the author chose,
//! `split` (`train` or `test`); images lie under `images/`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand::seq::SliceRandom;

use super::super::thousands;
use super::{Item, LabelLayout, LabelSet, image, text, unique};
use crate::seed;

pub(super) fn open(dir: &Path) -> Result<LabelSet> {
    let path = dir.join("labels.csv");
    let text = text(&path)?;
    let mut reader = ::csv::ReaderBuilder::new().trim(::csv::Trim::All).from_reader(text.as_bytes());
    let bad = |error: ::csv::Error| anyhow!("{}: {error}", path.display());
    let head = reader.headers().map_err(bad)?.clone();
    let column = |name: &str| head.iter().position(|known| known.eq_ignore_ascii_case(name));
    let need = |name: &str| {
        column(name).with_context(|| {
            format!("{}: no column {name}: the first line should be image,labels or image,labels,split", path.display())
        })
    };
    let (images, labels, split) = (need("image")?, need("labels")?, column("split"));
    let mut rows: Vec<(String, Vec<String>, Option<bool>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for record in reader.records() {
        let record = record.map_err(bad)?;
        let line = record.position().map_or(0, |position| position.line());
        let name = record.get(images).unwrap_or("").to_string();
        ensure!(
            !name.is_empty() && !name.starts_with('/') && !name.split(['/', '\\']).any(|part| part == ".."),
            "{}:{line}: {name:?} is no image under images/",
            path.display()
        );
        ensure!(seen.insert(name.clone()), "{}:{line}: {name} stands twice", path.display());
        let words = record.get(labels).unwrap_or("").split(';').map(str::trim).filter(|word| !word.is_empty());
        let test = match split.map(|column| record.get(column).unwrap_or("")) {
            None => None,
            Some("train") => Some(false),
            Some("test") => Some(true),
            Some(word) => bail!("{}:{line}: the split is {word:?}: say train or test", path.display()),
        };
        rows.push((name, words.map(String::from).collect(), test));
    }
    let classes: Vec<String> =
        rows.iter().flat_map(|row| row.1.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect();
    let place = |word: &String| classes.binary_search(word).map_or(0, |place| place as u32);
    let items: Vec<(Item, Option<bool>)> = rows
        .iter()
        .map(|(name, words, test)| {
            (image(dir, format!("images/{name}"), unique(words.iter().map(place).collect())), *test)
        })
        .collect();
    let mut notes = Vec::new();
    let (test, train) = if split.is_some() {
        items.into_iter().partition::<Vec<_>, _>(|(_, test)| *test == Some(true))
    } else {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.shuffle(&mut seed::at(0, 0, 0));
        let held: BTreeSet<usize> = order.into_iter().take(items.len() / 4).collect();
        notes.push(format!(
            "{} of {} images held out to test: labels.csv has no column split",
            thousands(held.len()),
            thousands(items.len())
        ));
        let (test, train): (Vec<_>, Vec<_>) = items.into_iter().enumerate().partition(|(i, _)| held.contains(i));
        let plain =
            |list: Vec<(usize, (Item, Option<bool>))>| list.into_iter().map(|(_, item)| item).collect::<Vec<_>>();
        (plain(test), plain(train))
    };
    let items = |list: Vec<(Item, Option<bool>)>| list.into_iter().map(|(item, _)| item).collect();
    notes.push("a set of your own: there are no published counts to compare it with".to_string());
    Ok(LabelSet {
        name: String::new(),
        layout: LabelLayout::Csv,
        classes,
        train: items(train),
        test: items(test),
        notes,
        published: false,
    })
}
