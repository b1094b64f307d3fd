//! Mulan's files: `NAME.xml` names the labels, `NAME-train.arff` and `NAME-test.arff` hold attributes and rows, dense
//! (`1,0.5,...`) or sparse (`{0 1, 7 0.5}`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rayon::prelude::*;

use super::{Content, Item, LabelLayout, LabelSet, text};

fn file(dir: &Path, end: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_os_string();
    name.push(end);
    PathBuf::from(name)
}

/// Whether `dir` is a set's name, its files lying beside.
pub(super) fn is_one(dir: &Path) -> bool {
    file(dir, "-train.arff").is_file() || file(dir, ".xml").is_file()
}

/// The sets in a folder, as they should be named.
pub(super) fn names(dir: &Path) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = entries
        .filter_map(|name| name.strip_suffix("-train.arff").map(|name| dir.join(name).display().to_string()))
        .collect();
    names.sort();
    (!names.is_empty()).then_some(names)
}

pub(super) fn open(dir: &Path) -> Result<LabelSet> {
    let classes = labels(&file(dir, ".xml"))?;
    let (train, first) = part(&file(dir, "-train.arff"), &classes)?;
    let (test, second) = part(&file(dir, "-test.arff"), &classes)?;
    ensure!(
        first == second,
        "{}: other attributes than in the -train file: take both from one source",
        file(dir, "-test.arff").display()
    );
    let notes = vec![format!("{} ready-made features a row", first.len())];
    Ok(LabelSet { name: String::new(), layout: LabelLayout::Mulan, classes, train, test, notes, published: false })
}

/// The labels of the XML, nested ones too, in its order.
fn labels(path: &Path) -> Result<Vec<String>> {
    let text = text(path)?;
    let document = roxmltree::Document::parse(&text)
        .map_err(|error| anyhow!("{}: no whole XML ({error}): fetch it again", path.display()))?;
    let found: Vec<String> = document
        .descendants()
        .filter(|node| node.tag_name().name() == "label")
        .filter_map(|node| node.attribute("name").map(String::from))
        .collect();
    ensure!(!found.is_empty(), "{}: no <label name=...> in it", path.display());
    Ok(found)
}

/// An attribute: numbers, or one of some words.
enum Kind {
    Number,
    Words(Vec<String>),
}

/// A name and the rest of a line; the name may be quoted.
fn name_and_rest(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    for quote in ['\'', '"'] {
        if let Some(inside) = text.strip_prefix(quote) {
            let end = inside.find(quote)?;
            return Some((inside[..end].to_string(), inside[end + 1..].trim()));
        }
    }
    let end = text.find(char::is_whitespace)?;
    Some((text[..end].to_string(), text[end..].trim()))
}

/// Rows, and the names of the attributes that are no labels.
fn part(path: &Path, classes: &[String]) -> Result<(Vec<Item>, Vec<String>)> {
    let text = text(path)?;
    let mut attributes: Vec<(String, Kind)> = Vec::new();
    let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    let lines = lines.by_ref();
    let mut data = false;
    for (number, line) in lines.by_ref() {
        let lower = line.get(..10).unwrap_or(line).to_ascii_lowercase();
        if lower.starts_with("@data") {
            data = true;
            break;
        }
        if lower.starts_with("@attribute") {
            let parsed = name_and_rest(&line[10..]).and_then(|(name, rest)| Some((name, kind(rest)?)));
            attributes.push(parsed.with_context(|| {
                format!("{}:{number}: not an attribute of numbers or {{words}}: {}", path.display(), cut(line))
            })?);
        }
    }
    ensure!(data, "{}: no @data line: fetch it again", path.display());
    let place: BTreeMap<&str, usize> = classes.iter().map(String::as_str).zip(0..).collect();
    let target: Vec<Option<usize>> = attributes.iter().map(|(name, _)| place.get(name.as_str()).copied()).collect();
    if let Some(missing) = classes.iter().enumerate().find(|(i, _)| !target.contains(&Some(*i))) {
        bail!("{}: no attribute for the label {} of the XML: take both from one source", path.display(), missing.1);
    }
    let features: Vec<String> =
        attributes.iter().zip(&target).filter(|(_, t)| t.is_none()).map(|((name, _), _)| name.clone()).collect();
    ensure!(!features.is_empty(), "{}: labels but no features", path.display());
    let rows: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('%')).collect();
    let short = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let items = rows
        .par_iter()
        .map(|&(number, line)| {
            row(line, &attributes, &target, features.len())
                .map(|(features, labels)| Item {
                    name: format!("{short}:{number}"),
                    content: Content::Features(features.into()),
                    labels,
                    difficult: Vec::new(),
                })
                .with_context(|| format!("{}:{number}", path.display()))
        })
        .collect::<Result<_>>()?;
    Ok((items, features))
}

fn kind(rest: &str) -> Option<Kind> {
    if let Some(words) = rest.strip_prefix('{') {
        let words = words.split('}').next()?.split(',');
        return Some(Kind::Words(words.map(|word| word.trim().trim_matches(['\'', '"']).to_string()).collect()));
    }
    let word = rest.split_whitespace().next()?.to_ascii_lowercase();
    ["numeric", "real", "integer"].contains(&word.as_str()).then_some(Kind::Number)
}

fn row(
    line: &str,
    attributes: &[(String, Kind)],
    target: &[Option<usize>],
    width: usize,
) -> Result<(Vec<f32>, Vec<u32>)> {
    let mut values = vec![0_f32; attributes.len()];
    if let Some(inside) = line.strip_prefix('{') {
        let inside = inside.strip_suffix('}').context("a sparse row without its closing brace")?;
        for entry in inside.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (at, word) = entry.split_once(char::is_whitespace).with_context(|| format!("{entry:?}: no value"))?;
            let at: usize = at
                .parse()
                .ok()
                .filter(|&at| at < attributes.len())
                .with_context(|| format!("{at:?}: no attribute of that number, there are {}", attributes.len()))?;
            values[at] = value(word.trim(), &attributes[at])?;
        }
    } else {
        let mut count = 0;
        for word in line.split(',') {
            ensure!(count < attributes.len(), "more than the {} values that the attributes want", attributes.len());
            values[count] = value(word.trim(), &attributes[count])?;
            count += 1;
        }
        ensure!(count == attributes.len(), "{count} values where the attributes want {}", attributes.len());
    }
    let (mut features, mut labels) = (Vec::with_capacity(width), Vec::new());
    for (i, (&value, target)) in values.iter().zip(target).enumerate() {
        match target {
            None => features.push(value),
            Some(_) if value == 0. => (),
            Some(class) if value == 1. => labels.push(*class as u32),
            Some(_) => bail!("the label {} is {value}: it should be 0 or 1", attributes[i].0),
        }
    }
    labels.sort_unstable();
    Ok((features, labels))
}

/// A number, or the place of a word among an attribute's (0 and 1 where those are its words).
fn value(word: &str, (name, kind): &(String, Kind)) -> Result<f32> {
    let word = word.trim_matches(['\'', '"']);
    let number = word.parse::<f32>().ok();
    let found = match kind {
        Kind::Number => number,
        Kind::Words(words) => {
            let place = words.iter().position(|known| known == word);
            if words.iter().all(|word| word.parse::<f32>().is_ok()) {
                place.and(number)
            } else {
                place.map(|at| at as f32)
            }
        }
    };
    found.filter(|value| value.is_finite()).with_context(|| {
        format!("{name} is {}: it should be a finite number or one of its words; fill in or remove the row", cut(word))
    })
}

/// At most 60 characters.
fn cut(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}
