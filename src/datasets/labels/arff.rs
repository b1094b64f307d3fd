//! Mulan's files: `NAME.xml` names the labels, `NAME-train.arff` and `NAME-test.arff` hold attributes and rows, dense
//! (`1,0.5,...`) or sparse (`{0 1, 7 0.5}`).
//!
//! As Weka reads them: what a sparse row leaves out has the internal value 0, which of an attribute of numbers is 0 and of
//! one of words the first that is declared. As Mulan reads them: a label is an attribute of the words 0 and 1 in either
//! order (or of numbers), and an image has it where the word is 1; so one declared `{1,0}` is there where it is left out.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rayon::prelude::*;

use super::super::{Count, compare, plural, thousands};
use super::{Content, Item, LabelLayout, LabelSet, unlike};
use crate::catalog::{fetch_for, known_count};
use crate::files;
use crate::lists::{composed, text};

fn file(dir: &Path, end: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_os_string();
    name.push(end);
    PathBuf::from(name)
}

/// Whether `dir` is a set's name, its files lying beside.
pub(super) fn is_one(dir: &Path) -> bool {
    file(dir, "-train.arff").is_file() || file(dir, ".xml").is_file()
}

/// The set that a file is part of, as it should be named.
pub(super) fn named_by_file(file: &Path) -> Option<PathBuf> {
    let name = file.file_name()?.to_str()?;
    let set = ["-train.arff", "-test.arff", ".xml"].iter().find_map(|end| name.strip_suffix(end))?;
    Some(file.with_file_name(set)).filter(|set| is_one(set))
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
    for end in [".xml", "-train.arff", "-test.arff"] {
        let path = file(dir, end);
        ensure!(
            path.is_file(),
            "{} is missing: a set is NAME.xml, NAME-train.arff and NAME-test.arff in one folder{}",
            path.display(),
            path.parent().and_then(fetch_for).map_or_else(String::new, |command| format!("; {command} gets them"))
        );
    }
    let classes = labels(&file(dir, ".xml"))?;
    let (train, first) = part(&file(dir, "-train.arff"), &classes)?;
    let (test, second) = part(&file(dir, "-test.arff"), &classes)?;
    if let Some(why) = unlike(&first, &second) {
        let test = file(dir, "-test.arff");
        bail!("{}: other attributes than in the -train file ({why}): take both from one source", test.display());
    }
    let mut notes = vec![format!("{} ready-made features a row", first.len())];
    notes.extend(both(&train, &test));
    // The sets that scripts/fetch gets are known by name.
    let name = files::name(dir);
    let known = |what: &str| known_count("mulan", &format!("{name}/{what}"));
    let published = match (known("train"), known("test"), known("features"), known("labels")) {
        (Some(rows), Some(test_rows), Some(features), Some(labels)) => {
            let counts = [
                Count { what: "training rows", published: rows, here: train.len() },
                Count { what: "test rows", published: test_rows, here: test.len() },
                Count { what: "features", published: features, here: first.len() },
                Count { what: "labels", published: labels, here: classes.len() },
            ];
            let difference = compare(&format!("{name} of Mulan"), &counts);
            notes.extend(difference.clone());
            difference.is_none()
        }
        _ => false,
    };
    let set = LabelSet::new(LabelLayout::Mulan, classes, (train, test), notes, published);
    Ok(LabelSet { attributes: first, ..set })
}

/// How many rows are in both files.
fn both(train: &[Item], test: &[Item]) -> Option<String> {
    let row = |item: &Item| match &item.content {
        Content::Features(row) => (row.iter().map(|x| x.to_bits()).collect::<Vec<u32>>(), item.labels.clone()),
        Content::Image(_) => Default::default(),
    };
    let known: HashSet<_> = train.iter().map(row).collect();
    let again = test.iter().filter(|item| known.contains(&row(item))).count();
    let word = plural(again, "row of the -test file is", "rows of the -test file are");
    let (count, all) = (thousands(again), thousands(test.len()));
    (again > 0).then(|| format!("{count} {word} in the -train file too, of {all}: on these a score measures memory"))
}

/// The labels of the XML, nested ones too, in its order.
fn labels(path: &Path) -> Result<Vec<String>> {
    let text = text(path)?;
    let document = roxmltree::Document::parse(&text)
        .map_err(|error| anyhow!("{}: no whole XML ({error}): fetch it again", path.display()))?;
    let found: Vec<String> = document
        .descendants()
        .filter(|node| node.tag_name().name() == "label")
        .filter_map(|node| node.attribute("name").map(composed))
        .collect();
    ensure!(!found.is_empty(), "{}: no <label name=...> in it", path.display());
    Ok(found)
}

/// An attribute: numbers, or one of some words.
enum Kind {
    Number,
    Words(Vec<String>),
}

/// The first word of `text` and what follows it. A word in quotes ends with them and may hold anything, a backslash
/// before what is meant as it stands; any other ends before white space or one of `ends`. None where quotes stay open.
fn word<'a>(text: &'a str, ends: &[char]) -> Option<(Cow<'a, str>, &'a str)> {
    let text = text.trim_start();
    let Some(quote) = text.chars().next().filter(|first| ['\'', '"'].contains(first)) else {
        let end = text.find(|c: char| c.is_whitespace() || ends.contains(&c)).unwrap_or(text.len());
        return Some((Cow::Borrowed(&text[..end]), &text[end..]));
    };
    let (mut inside, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => {
                inside.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            _ if c == quote => return Some((Cow::Owned(inside), &text[at + c.len_utf8()..])),
            _ => inside.push(c),
        }
    }
    None
}

/// The words of a row or a declaration: commas or white space part them, a remark ends them.
fn words(mut text: &str) -> Result<Vec<Cow<'_, str>>> {
    let mut found = Vec::new();
    loop {
        text = text.trim_start();
        if text.is_empty() || text.starts_with('%') {
            return Ok(found);
        }
        let (one, rest) = word(text, &[',']).context("a quote that is never closed")?;
        found.push(one);
        let rest = rest.trim_start();
        text = match rest.strip_prefix(',') {
            // A comma at the very end parts a last word that is missing.
            Some(after) if after.trim_start().is_empty() => {
                found.push(Cow::Borrowed(""));
                return Ok(found);
            }
            Some(after) => after,
            None => rest,
        };
    }
}

/// Rows, and the names of the attributes that are no labels, with their words where the order of these is what they mean.
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
            let parsed =
                word(&line[10..], &['{']).and_then(|(name, rest)| Some((name.into_owned(), kind(rest.trim())?)));
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
    let mut seen = BTreeSet::new();
    if let Some((twice, _)) = attributes.iter().find(|(name, _)| !seen.insert(name)) {
        bail!("{}: the attribute {twice} stands twice: take the file from its source again", path.display());
    }
    for ((name, kind), _) in attributes.iter().zip(&target).filter(|(_, target)| target.is_some()) {
        if let Kind::Words(words) = kind {
            let mut sorted: Vec<&str> = words.iter().map(String::as_str).collect();
            sorted.sort_unstable();
            ensure!(
                sorted == ["0", "1"],
                "{}: the label {name} has the words {{{}}}: Mulan's labels have {{0,1}}",
                path.display(),
                words.join(",")
            );
        }
    }
    let said = |(name, kind): &(String, Kind)| match kind {
        Kind::Words(words) if numbers(words).is_none() => format!("{name} {{{}}}", words.join(",")),
        _ => name.clone(),
    };
    let features = attributes.iter().zip(&target).filter(|(_, target)| target.is_none());
    let features: Vec<String> = features.map(|(attribute, _)| said(attribute)).collect();
    ensure!(!features.is_empty(), "{}: labels but no features", path.display());
    let rows: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('%')).collect();
    let short = files::name(path);
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
    if let Some(inside) = rest.strip_prefix('{') {
        // The last brace: a word in quotes may hold one.
        let list = words(&inside[..inside.rfind('}')?]).ok()?;
        return (!list.is_empty()).then(|| Kind::Words(list.into_iter().map(Cow::into_owned).collect()));
    }
    let word = rest.split_whitespace().next()?.to_ascii_lowercase();
    ["numeric", "real", "integer"].contains(&word.as_str()).then_some(Kind::Number)
}

/// What a sparse row means by leaving the attribute out: 0, or the first word that is declared.
fn omitted((_, kind): &(String, Kind)) -> f32 {
    match kind {
        Kind::Number => 0.,
        Kind::Words(words) => value_of(0, words),
    }
}

fn row(
    line: &str,
    attributes: &[(String, Kind)],
    target: &[Option<usize>],
    width: usize,
) -> Result<(Vec<f32>, Vec<u32>)> {
    let mut values: Vec<f32>;
    if let Some(inside) = line.strip_prefix('{') {
        values = attributes.iter().map(omitted).collect();
        let inside = inside.rfind('}').map(|end| &inside[..end]).context("a sparse row without its closing brace")?;
        let list = words(inside)?;
        let mut last = None;
        for entry in list.chunks(2) {
            let [at, word] = entry else { bail!("{}: no value", cut(&entry[0])) };
            let place: usize =
                at.parse().ok().filter(|&at| at < attributes.len()).with_context(|| {
                    format!("{}: no attribute of that number, there are {}", cut(at), attributes.len())
                })?;
            ensure!(last < Some(place), "the attribute {place} stands twice, or after a higher one");
            last = Some(place);
            values[place] = value(word, &attributes[place])?;
        }
    } else {
        let list = words(line)?;
        ensure!(list.len() <= attributes.len(), "more than the {} values that the attributes want", attributes.len());
        values = list.iter().zip(attributes).map(|(word, attribute)| value(word, attribute)).collect::<Result<_>>()?;
        ensure!(list.len() == attributes.len(), "{} values where the attributes want {}", list.len(), attributes.len());
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

/// A number, or what a word stands for.
fn value(word: &str, (name, kind): &(String, Kind)) -> Result<f32> {
    let found = match kind {
        Kind::Number => word.parse::<f32>().ok(),
        Kind::Words(words) => words.iter().position(|known| known == word).map(|at| value_of(at, words)),
    };
    found.filter(|value| value.is_finite()).with_context(|| {
        format!("{name} is {}: it should be a finite number or one of its words; fill in or remove the row", cut(word))
    })
}

/// The number that a word is, where all of an attribute's are numbers (so are 0 and 1 in either order), else its place.
fn value_of(at: usize, words: &[String]) -> f32 {
    numbers(words).map_or(at as f32, |numbers| numbers[at])
}

/// The numbers that words are, where all are.
fn numbers(words: &[String]) -> Option<Vec<f32>> {
    words.iter().map(|word| word.parse().ok().filter(|number: &f32| number.is_finite())).collect()
}

/// At most 60 characters.
fn cut(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}
