//! The data card: what a set holds, how it differs from the published one, and which images cannot be read.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, Write};

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::Serialize;

use super::faces::FaceSet;
use super::{Photo, ReidSet, persons, thousands};

/// Unreadable images that a card names; the rest are counted.
const NAMED: usize = 20;
/// Image sizes that a card names.
const SIZES: usize = 5;

/// What a set holds; made by [`Card::new`], printed by `Display`.
#[derive(Clone, Debug, Serialize)]
pub struct Card {
    /// The set's name.
    pub name: String,
    /// How it lies on disk, in words.
    pub layout: String,
    /// Whether every count is the published set's.
    pub published: bool,
    /// Train, query, gallery, multi-query: those that hold images.
    pub splits: Vec<Split>,
    /// The most frequent image sizes, most frequent first.
    pub sizes: Vec<Size>,
    /// How many different sizes there are.
    pub different_sizes: usize,
    /// Images that cannot be decoded.
    pub unreadable: usize,
    /// The first of them, each in one line with what to do.
    pub problems: Vec<String>,
    /// The set's notes.
    pub notes: Vec<String>,
}

/// One part of a set.
#[derive(Clone, Debug, Serialize)]
pub struct Split {
    /// Its name.
    pub name: &'static str,
    /// Images, with junk and distractors.
    pub images: usize,
    /// Persons above 0.
    pub identities: usize,
    /// Images of person 0.
    pub distractors: usize,
    /// Images of person -1.
    pub junk: usize,
    /// Tracklets; 0 in a set without them.
    pub tracklets: usize,
    /// Images a person above 0.
    pub images_an_identity: Spread,
    /// Persons above 0 by their number of images, in ranges that double.
    pub distribution: Vec<Range>,
    /// Images by camera.
    pub cameras: Vec<Camera>,
}

/// The smallest, the mean and the largest of some counts; zeros where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: usize,
    /// The mean.
    pub mean: f64,
    /// The largest.
    pub max: usize,
}

/// How many persons have from `from` to `to` images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The fewest images.
    pub from: usize,
    /// The most images.
    pub to: usize,
    /// Persons with as many.
    pub identities: usize,
}

/// The images of one camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Camera {
    /// Its number.
    pub camera: i64,
    /// Its images.
    pub images: usize,
}

/// An image size and how many images have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Height in pixels.
    pub height: u32,
    /// Width in pixels.
    pub width: u32,
    /// Images of this size.
    pub images: usize,
}

impl Card {
    /// Counts the set and decodes every image on all cores, behind a progress bar on a terminal.
    pub fn new(set: &ReidSet) -> Card {
        let parts = [
            ("train", &set.train),
            ("query", &set.query),
            ("gallery", &set.gallery),
            ("multi-query", &set.multi_query),
        ];
        Card::over(&set.name, set.layout.to_string(), set.is_published(), &parts, &set.notes)
    }

    /// As [`Card::new`] for faces.
    pub fn of_faces(set: &FaceSet) -> Card {
        let parts = [("train", &set.train), ("test", &set.test)];
        let mut notes = set.notes.clone();
        if set.folds > 0 {
            let same = set.pairs.iter().filter(|pair| pair.same).count();
            notes.push(format!(
                "{} pairs in {} folds: {} of one person, {} of two",
                thousands(set.pairs.len()),
                set.folds,
                thousands(same),
                thousands(set.pairs.len() - same)
            ));
        }
        Card::over(&set.name, set.layout.to_string(), set.is_published(), &parts, &notes)
    }

    fn over(
        name: &str,
        layout: String,
        published: bool,
        parts: &[(&'static str, &Vec<Photo>)],
        notes: &[String],
    ) -> Card {
        let splits = parts.iter().filter(|(_, photos)| !photos.is_empty()).map(|(name, photos)| split(name, photos));
        let photos: Vec<&Photo> = parts.iter().flat_map(|(_, photos)| photos.iter()).collect();
        let seen = decode_all(&photos);
        let mut sizes: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        for &size in seen.iter().flatten() {
            *sizes.entry(size).or_default() += 1;
        }
        let different_sizes = sizes.len();
        let mut sizes: Vec<Size> =
            sizes.into_iter().map(|((height, width), images)| Size { height, width, images }).collect();
        sizes.sort_by_key(|size| std::cmp::Reverse(size.images)); // stable: equal counts stay by size
        sizes.truncate(SIZES);
        let problems = seen.iter().filter_map(|one| one.as_ref().err());
        Card {
            name: name.into(),
            layout,
            published,
            splits: splits.collect(),
            sizes,
            different_sizes,
            unreadable: problems.clone().count(),
            problems: problems.take(NAMED).cloned().collect(),
            notes: notes.to_vec(),
        }
    }
}

/// (height, width) of each image, or what is wrong with it.
fn decode_all(photos: &[&Photo]) -> Vec<Result<(u32, u32), String>> {
    let total = photos.len() as u64;
    let bar = if std::io::stderr().is_terminal() {
        let style = ProgressStyle::with_template("reading images {wide_bar} {pos}/{len} {eta}");
        ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    } else {
        // Not eprintln: a reader that closed the pipe is no reason to stop.
        let _ = writeln!(std::io::stderr(), "reading {} images", thousands(photos.len()));
        ProgressBar::hidden()
    };
    let one = |photo: &&Photo| {
        let size = photo.source.image().map(|image| (image.height(), image.width())).map_err(|e| format!("{e:#}"));
        bar.inc(1);
        size
    };
    let seen = photos.par_iter().map(one).collect();
    bar.finish_and_clear();
    seen
}

fn split(name: &'static str, photos: &[Photo]) -> Split {
    let mut each: BTreeMap<i64, usize> = BTreeMap::new();
    let mut cameras: BTreeMap<i64, usize> = BTreeMap::new();
    for photo in photos {
        *each.entry(photo.person).or_default() += 1;
        *cameras.entry(photo.camera).or_default() += 1;
    }
    let junk = each.remove(&-1).unwrap_or(0);
    let distractors = each.remove(&0).unwrap_or(0);
    let (min, max) = (each.values().min().copied().unwrap_or(0), each.values().max().copied().unwrap_or(0));
    let sum: usize = each.values().sum();
    let mean = if each.is_empty() { 0.0 } else { sum as f64 / each.len() as f64 };
    let mut ranges: BTreeMap<u32, usize> = BTreeMap::new();
    for count in each.values() {
        *ranges.entry(count.ilog2()).or_default() += 1;
    }
    let range = |(log, identities): (u32, usize)| Range { from: 1 << log, to: (2 << log) - 1, identities };
    let tracked = photos.iter().filter(|photo| photo.tracklet != -1);
    let tracklets: std::collections::BTreeSet<i64> = tracked.map(|photo| photo.tracklet).collect();
    Split {
        name,
        images: photos.len(),
        identities: persons(photos).len(),
        distractors,
        junk,
        tracklets: tracklets.len(),
        images_an_identity: Spread { min, mean, max },
        distribution: ranges.into_iter().map(range).collect(),
        cameras: cameras.into_iter().map(|(camera, images)| Camera { camera, images }).collect(),
    }
}

/// A table whose numbers stand to the right.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = if self.published { ", the published counts" } else { "" };
        writeln!(f, "{} ({}{known})", self.name, self.layout)?;
        let header =
            ["split", "images", "identities", "images an identity", "distractors", "junk", "tracklets", "cameras"];
        let rows = self.splits.iter().map(|split| {
            let spread = split.images_an_identity;
            vec![
                split.name.to_string(),
                thousands(split.images),
                thousands(split.identities),
                format!("{} / {:.1} / {}", spread.min, spread.mean, spread.max),
                thousands(split.distractors),
                thousands(split.junk),
                if split.tracklets == 0 { "-".to_string() } else { thousands(split.tracklets) },
                split.cameras.len().to_string(),
            ]
        });
        writeln!(f, "{}", table(&header, rows))?;
        writeln!(f, "images an identity: smallest / mean / largest")?;
        for split in &self.splits {
            let ranges = split.distribution.iter().map(|range| {
                let of = if range.from == range.to {
                    range.from.to_string()
                } else {
                    format!("{}-{}", range.from, range.to)
                };
                format!("{of}: {}", thousands(range.identities))
            });
            writeln!(f, "{}: identities by images  {}", split.name, ranges.collect::<Vec<_>>().join("  "))?;
            let cameras = split.cameras.iter().map(|camera| format!("{}: {}", camera.camera, thousands(camera.images)));
            writeln!(f, "{}: images by camera  {}", split.name, cameras.collect::<Vec<_>>().join("  "))?;
        }
        let sizes =
            self.sizes.iter().map(|size| vec![format!("{} x {}", size.height, size.width), thousands(size.images)]);
        writeln!(f, "{}", table(&["height x width", "images"], sizes))?;
        if self.different_sizes > self.sizes.len() {
            writeln!(f, "and {} other sizes", thousands(self.different_sizes - self.sizes.len()))?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if self.unreadable == 0 {
            return writeln!(f, "every image can be read");
        }
        writeln!(f, "cannot read {} images:", thousands(self.unreadable))?;
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        let more = self.unreadable - self.problems.len();
        if more > 0 { writeln!(f, "  and {} more", thousands(more)) } else { Ok(()) }
    }
}
