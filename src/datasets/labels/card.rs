//! The data card of a multi-label set.

use std::fmt;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::super::thousands;
use super::{Item, LabelSet, problems};

/// Unreadable images that a card names; the rest are counted.
const NAMED: usize = 20;

/// What a multi-label set holds; printed by `Display`.
#[derive(Clone, Debug, Serialize)]
pub struct LabelCard {
    /// The set's name.
    pub name: String,
    /// How it lies on disk, in words.
    pub layout: String,
    /// Whether every count is the published set's.
    pub published: bool,
    /// Numbers a row, where the set has features for images.
    pub features: Option<usize>,
    /// Train and test.
    pub splits: Vec<LabelSplit>,
    /// By class: name, training items, test items.
    pub classes: Vec<(String, usize, usize)>,
    /// Images that cannot be used.
    pub unreadable: usize,
    /// The first of them, each in one line with what to do.
    pub problems: Vec<String>,
    /// The set's notes.
    pub notes: Vec<String>,
}

/// One part of a set.
#[derive(Clone, Debug, Serialize)]
pub struct LabelSplit {
    /// train or test.
    pub name: &'static str,
    /// Images or rows.
    pub items: usize,
    /// Labels an item.
    pub mean_labels: f64,
    /// Items with 0, 1, 2, ... labels.
    pub by_count: Vec<usize>,
}

impl LabelCard {
    /// Counts the set and looks at every image's header, on all cores.
    pub fn new(set: &LabelSet) -> LabelCard {
        let split = |name, items: &[Item]| {
            let most = items.iter().map(|item| item.labels.len()).max().unwrap_or(0);
            let mut by_count = vec![0; most + 1];
            items.iter().for_each(|item| by_count[item.labels.len()] += 1);
            let labels: usize = items.iter().map(|item| item.labels.len()).sum();
            LabelSplit { name, items: items.len(), mean_labels: labels as f64 / items.len().max(1) as f64, by_count }
        };
        let positive = |items: &[Item]| {
            let mut counts = vec![0; set.classes.len()];
            items.iter().flat_map(|item| &item.labels).for_each(|&class| counts[class as usize] += 1);
            counts
        };
        let (train, test) = (positive(&set.train), positive(&set.test));
        let items: Vec<&Item> = set.train.iter().chain(&set.test).collect();
        let mut problems = problems(&items);
        let unreadable = problems.len();
        problems.truncate(NAMED);
        LabelCard {
            name: set.name.clone(),
            layout: set.layout.to_string(),
            published: set.published,
            features: set.feature_width(),
            splits: vec![split("train", &set.train), split("test", &set.test)],
            classes: set.classes.iter().zip(train.into_iter().zip(test)).map(|(c, (a, b))| (c.clone(), a, b)).collect(),
            unreadable,
            problems,
            notes: set.notes.clone(),
        }
    }
}

impl fmt::Display for LabelCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let published = if self.published { ", all counts as published" } else { "" };
        writeln!(f, "{}: {}{published}", self.name, self.layout)?;
        if let Some(width) = self.features {
            writeln!(f, "{width} features a row")?;
        }
        for split in &self.splits {
            let counts: Vec<String> = split
                .by_count
                .iter()
                .enumerate()
                .filter(|(_, n)| **n > 0)
                .map(|(k, n)| format!("{k}: {}", thousands(*n)))
                .collect();
            writeln!(
                f,
                "{}: {} items, {:.2} labels each (items by number of labels: {})",
                split.name,
                thousands(split.items),
                split.mean_labels,
                counts.join(", ")
            )?;
        }
        let mut table = Table::new();
        table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(["class", "train", "test"]);
        for (class, train, test) in &self.classes {
            table.add_row([class.clone(), thousands(*train), thousands(*test)]);
        }
        for column in 1..3 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(f, "{table}")?;
        match (self.features, self.unreadable) {
            (Some(_), _) => (),
            (None, 0) => writeln!(f, "every image can be read")?,
            (None, count) => {
                writeln!(f, "{} images cannot be used:", thousands(count))?;
                self.problems.iter().try_for_each(|problem| writeln!(f, "  {problem}"))?;
            }
        }
        let mut notes = self.notes.iter();
        let Some(first) = notes.next() else { return Ok(()) };
        write!(f, "note: {first}")?;
        notes.try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}
