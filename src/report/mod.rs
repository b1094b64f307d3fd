//! Results for people: tables in the terminal, and one self-contained HTML page with pictures.

mod curves;
pub mod graph;
mod page;
mod plot;
mod sparks;

use std::fmt;
use std::path::Path;

use anyhow::{Result, ensure};
use image::RgbImage;

pub use curves::curves;
pub(crate) use page::within;

use crate::files::UNKNOWN;
use crate::metrics::Score;
use crate::say::plural;

/// A table of text.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// What stands above each column.
    pub head: Vec<String>,
    /// Rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// `rows` below the names of their columns.
    pub fn new(head: impl IntoIterator<Item: Into<String>>, rows: impl IntoIterator<Item = Vec<String>>) -> Table {
        Table { head: head.into_iter().map(Into::into).collect(), rows: rows.into_iter().collect() }
    }

    /// A table of two columns: scores by name.
    pub fn scores(of: &[Score]) -> Table {
        let row = |score: &Score| vec![score.name.clone(), format!("{:.4}", score.value)];
        Table::new(["score", "ours"], of.iter().map(row))
    }

    /// Every row as an object: a cell by its column's head, a number where it reads as one.
    pub fn named(&self) -> Vec<serde_json::Map<String, serde_json::Value>> {
        let value = |cell: &String| cell.parse::<f64>().map_or_else(|_| cell.clone().into(), serde_json::Value::from);
        let row = |row: &Vec<String>| self.head.iter().cloned().zip(row.iter().map(value)).collect();
        self.rows.iter().map(row).collect()
    }
}

/// Before a cell that is the best of its row.
pub const BEST: &str = "* ";

/// Whether a cell reads as a number, and so stands to the right.
fn is_number(cell: &str) -> bool {
    cell.trim_start_matches(BEST).trim_end_matches('%').parse::<f64>().is_ok()
}

impl fmt::Display for Table {
    /// For a terminal: ruled, numbers to the right, no colours.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use comfy_table::{Cell, CellAlignment, ContentArrangement, Table as Ruled, presets::UTF8_FULL_CONDENSED};
        let mut table = Ruled::new();
        table
            .load_preset(UTF8_FULL_CONDENSED)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(self.head.iter().map(|cell| crate::say::foreign(cell)));
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| {
                let alignment = if is_number(cell) { CellAlignment::Right } else { CellAlignment::Left };
                Cell::new(crate::say::foreign(cell)).set_alignment(alignment)
            }));
        }
        table.fmt(f)
    }
}

/// A named line of a plot.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// x and y, in order of x.
    pub points: Vec<(f64, f64)>,
}

/// A kind of bar, one in every group.
#[derive(Debug, Clone, Default)]
pub struct Bars {
    /// For the legend.
    pub name: String,
    /// For each group the length of its bar, and the spread to either side where there is one.
    pub values: Vec<(f64, Option<f64>)>,
}

/// How an answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Neither right nor wrong: a query.
    None,
    /// Neither, and no query.
    Plain,
    /// Green, with a tick.
    Right,
    /// Red, with a cross.
    Wrong,
}

/// A picture of a gallery row.
#[derive(Debug, Clone)]
pub struct Tile {
    /// Shown at most 96 pixels high.
    pub image: RgbImage,
    /// Under the picture.
    pub caption: String,
    /// Around it.
    pub frame: Frame,
}

/// A query and its answers.
#[derive(Debug, Clone)]
pub struct GalleryRow {
    /// Before the pictures.
    pub title: String,
    /// The query first.
    pub tiles: Vec<Tile>,
}

/// A section's heading and its body as HTML.
#[derive(Debug, Clone)]
struct Section {
    heading: String,
    body: maud::Markup,
}

/// A page in the making: sections in the order in which they are added. Whatever text comes in is escaped.
#[derive(Debug, Clone, Default)]
pub struct Report {
    title: String,
    subtitle: String,
    answer: String,
    lead: (Vec<(String, String, String)>, String),
    facts: Vec<(String, String)>,
    sections: Vec<Section>,
}

impl Report {
    /// An empty page.
    pub fn new(title: &str, subtitle: &str) -> Report {
        Report { title: title.into(), subtitle: subtitle.into(), ..Report::default() }
    }

    fn add(&mut self, heading: &str, body: maud::Markup) {
        self.sections.push(Section { heading: heading.into(), body });
    }

    /// Names and values at the top of the page.
    pub fn facts(&mut self, facts: &[(String, String)]) {
        self.facts.extend_from_slice(facts);
    }

    /// The sentence that answers the reader's question, above all else.
    pub fn answers(&mut self, sentence: &str) {
        self.answer = sentence.into();
    }

    /// That sentence; empty where there is none.
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// What a reader wants first, in large letters: a name, a number, and what stands beside it; and a sentence on them.
    pub fn lead(&mut self, numbers: &[(String, String, String)], sentence: &str) {
        self.lead = (numbers.to_vec(), sentence.into());
    }

    /// [`Report::lead`] of counts, each with what it is of: of one, and of several.
    pub fn counts(&mut self, counts: &[(&str, &str, usize)]) {
        let of =
            |&(one, many, count): &(_, _, usize)| (plural(count, one, many).into(), count.to_string(), String::new());
        self.lead(&counts.iter().map(of).collect::<Vec<_>>(), "");
    }

    /// A paragraph under a heading.
    pub fn text(&mut self, heading: &str, paragraph: &str) {
        self.add(heading, maud::html! { p { (paragraph) } });
    }

    /// A list of sentences, folded away where it is long.
    pub fn list(&mut self, heading: &str, items: &[String]) {
        let body = maud::html! { ul { @for item in items { li { (item) } } } };
        self.add(
            heading,
            if items.len() > 4 { page::folded(&crate::say::count(items.len(), "point"), body) } else { body },
        );
    }

    /// A table under a note.
    pub fn table(&mut self, heading: &str, note: &str, table: &Table) {
        self.add(heading, page::table(note, table));
    }

    /// A table folded away under its note, or under its heading where there is none.
    pub fn folded_table(&mut self, heading: &str, note: &str, table: &Table) {
        let summary = if note.is_empty() { heading } else { note };
        self.add(heading, page::folded(summary, page::table("", table)));
    }

    /// Adds the sections of `other` after these; its title, subtitle and facts are left out.
    pub fn append(&mut self, other: Report) {
        self.sections.extend(other.sections);
    }

    /// Lines over a common x. Numbers that are not finite are left out, and their count is said.
    pub fn lines(&mut self, heading: &str, note: &str, x_label: &str, y_label: &str, series: &[Series]) {
        self.add(heading, page::figure(heading, note, plot::lines(x_label, y_label, series)));
    }

    /// Many small lines beside one another on common scales, each under its name.
    pub fn small_lines(&mut self, heading: &str, note: &str, series: &[Series]) {
        self.add(heading, maud::html! { @if !note.is_empty() { p.note { (note) } } (sparks::sparks(series)) });
    }

    /// Histograms of groups over common bins, each as shares of its group.
    pub fn histogram(&mut self, heading: &str, note: &str, x_label: &str, groups: &[(String, Vec<f64>)], bins: usize) {
        self.add(heading, page::figure(heading, note, plot::histogram(x_label, groups, bins)));
    }

    /// Groups of bars from left to right, one of each of `bars` in every group; lengths that are not finite are left out.
    pub fn bars(&mut self, heading: &str, note: &str, x_label: &str, groups: &[String], bars: &[Bars]) {
        self.add(heading, page::figure(heading, note, plot::bars(x_label, groups, bars)));
    }

    /// Rows of pictures, right and wrong answers framed.
    pub fn gallery(&mut self, heading: &str, note: &str, rows: &[GalleryRow]) {
        self.add(heading, page::gallery(note, rows));
    }

    /// Rows of pictures, folded away under a summary.
    pub fn folded_gallery(&mut self, heading: &str, summary: &str, rows: &[GalleryRow]) {
        self.add(heading, page::folded(summary, page::gallery("", rows)));
    }

    /// A graph in columns under a note.
    pub fn graph(&mut self, heading: &str, note: &str, nodes: &[graph::Node], edges: &[graph::Edge]) {
        self.add(
            heading,
            maud::html! { @if !note.is_empty() { p.note { (note) } } (graph::graph(heading, nodes, edges)) },
        );
    }

    /// The page: no scripts, nothing from elsewhere. It carries a hash of itself, in which that counts as zeros.
    pub fn html(&self) -> String {
        let page = page::page(self).into_string();
        let hash = blake3::hash(page.as_bytes()).to_hex();
        page.replacen(UNKNOWN, &hash, 1)
    }

    /// Whether a page of this title stands at `path`, as it was written where it carries a hash: of an older version it has none.
    pub fn stands_at(&self, path: &Path) -> bool {
        let page = self.html();
        let head = page.split("<style>").next().unwrap_or(&page);
        let Ok(old) = crate::files::text(path) else { return false };
        let hash = old.split_once(page::SEAL).and_then(|(_, rest)| rest.get(..UNKNOWN.len()));
        let whole = |hash: &str| *blake3::hash(old.replacen(hash, UNKNOWN, 1).as_bytes()).to_hex() == *hash;
        old.starts_with(head) && hash.is_none_or(whole)
    }

    /// Writes the page, atomically. The error names the path.
    ///
    /// # Errors
    /// Where something else stands there, which its user may have put there since it was asked for.
    pub fn write(&self, path: &Path) -> Result<()> {
        ensure!(
            !crate::files::replaces(path)? || self.stands_at(path),
            "{}: a file was put there meanwhile, or this command's was changed: move it away and start again",
            path.display()
        );
        crate::files::write_atomic(path, self.html().as_bytes())
    }
}
