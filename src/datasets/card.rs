//! The data card: what a set holds, how it differs from the published one, and which images cannot be read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use image::RgbImage;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Photo, count, persons, thousands};
use crate::say::{Bar, line};

/// Images that cannot be used which a card names on a terminal; the rest are counted.
const NAMED: usize = 20;
/// Image sizes that a card names.
const SIZES: usize = 5;

/// What a set holds: printed by `Display` for a terminal, serialised for machines. Each set builds its own.
#[derive(Clone, Debug, Serialize)]
pub struct Card {
    /// What the set is called in results and folders.
    pub name: String,
    /// How it lies on disk, in words.
    pub layout: String,
    /// Whether every count is the published set's.
    pub published: bool,
    /// The set's own counts by name: those of its kind.
    #[serde(flatten)]
    pub counts: Map<String, Value>,
    /// The same for a terminal, in its order.
    #[serde(skip)]
    shown: Vec<String>,
    /// Images that cannot be used.
    pub unreadable: usize,
    /// They, each in one line with what to do.
    pub problems: Vec<String>,
    /// Why nothing can be trained on it with the usual flags, where that is so.
    pub refused: Option<String>,
    /// What the reader of a score must know of the set.
    pub notes: Vec<String>,
    /// Whether there are images at all.
    #[serde(skip)]
    images: bool,
}

impl Card {
    /// A card without counts, of a set without images.
    pub(super) fn new(name: &str, layout: &str, published: bool, notes: &[String]) -> Card {
        Card {
            name: name.into(),
            layout: layout.into(),
            published,
            counts: Map::new(),
            shown: Vec::new(),
            unreadable: 0,
            problems: Vec::new(),
            refused: None,
            notes: notes.to_vec(),
            images: false,
        }
    }

    /// A count for machines.
    pub(super) fn count(&mut self, name: &str, value: impl Serialize) {
        self.counts.insert(name.into(), json!(value));
    }

    /// A line for people.
    pub(super) fn line(&mut self, text: String) {
        self.shown.push(line(&text));
    }

    /// A table for people, numbers to the right.
    pub(super) fn table(&mut self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let rows = rows.into_iter().map(|row| row.iter().map(|cell| line(cell)).collect::<Vec<_>>());
        let mut table = Table::new();
        table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(head).add_rows(rows);
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        self.shown.push(table.to_string());
    }

    /// What is wrong with the set's images, one line an image.
    pub(super) fn read(&mut self, problems: Vec<String>) {
        (self.unreadable, self.problems, self.images) = (problems.len(), problems, true);
    }

    /// What cannot be trained on for these reasons, where there are any: one line each for machines, the first for people.
    pub fn lacks(&mut self, problems: Vec<String>) {
        let more = if problems.len() > 1 { format!(" (the first of {})", problems.len()) } else { String::new() };
        self.refused = problems.first().map(|first| format!("{first}{more}"));
        (self.unreadable, self.problems) = (problems.len(), problems);
    }

    /// Counts photos of persons in `parts` (those that hold any) and decodes every `image` on all cores.
    pub(super) fn photos(
        &mut self,
        parts: &[(&'static str, &Vec<Photo>)],
        image: impl Fn(&Photo) -> anyhow::Result<Arc<RgbImage>> + Sync,
    ) {
        let splits: Vec<Part> =
            (parts.iter().filter(|(_, photos)| !photos.is_empty())).map(|(name, photos)| part(name, photos)).collect();
        let photos: Vec<&Photo> = parts.iter().flat_map(|(_, photos)| photos.iter()).collect();
        let seen = decode_all(&photos, |photo| image(photo));
        let mut sizes: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        for &size in seen.iter().flatten() {
            *sizes.entry(size).or_default() += 1;
        }
        let different = sizes.len();
        let mut sizes: Vec<Size> =
            sizes.into_iter().map(|((height, width), images)| Size { height, width, images }).collect();
        sizes.sort_by_key(|size| std::cmp::Reverse(size.images)); // stable: equal counts stay by size
        sizes.truncate(SIZES);
        self.table(
            &["split", "images", "identities", "images an identity", "distractors", "junk", "tracklets", "cameras"],
            splits.iter().map(Part::row),
        );
        self.line("images an identity: smallest / mean / largest".into());
        for split in &splits {
            let ranges = split.distribution.iter().map(|range| {
                let of = if range.from == range.to {
                    range.from.to_string()
                } else {
                    format!("{}-{}", range.from, range.to)
                };
                format!("{of}: {}", thousands(range.identities))
            });
            self.line(format!("{}: identities by images  {}", split.name, ranges.collect::<Vec<_>>().join("  ")));
            let cameras = split.cameras.iter().map(|camera| format!("{}: {}", camera.camera, thousands(camera.images)));
            self.line(format!("{}: images by camera  {}", split.name, cameras.collect::<Vec<_>>().join("  ")));
        }
        let rows = sizes.iter().map(|size| vec![format!("{} x {}", size.height, size.width), thousands(size.images)]);
        self.table(&["height x width", "images"], rows);
        if different > sizes.len() {
            self.line(format!("and {}", count(different - sizes.len(), "other size")));
        }
        self.count("splits", splits);
        self.count("sizes", sizes);
        self.count("different_sizes", different);
        self.read(seen.into_iter().filter_map(Result::err).collect());
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let published = if self.published { ", the published counts" } else { "" };
        write!(f, "{} ({}{published})", line(&self.name), self.layout)?;
        self.shown.iter().try_for_each(|text| write!(f, "\n{text}"))?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {}", line(note)))?;
        match self.unreadable {
            _ if !self.images => Ok(()),
            0 => write!(f, "\nevery image can be read"),
            bad => {
                write!(f, "\ncannot use {}:", count(bad, "image"))?;
                self.problems.iter().take(NAMED).try_for_each(|problem| write!(f, "\n  {}", line(problem)))?;
                let more = bad.saturating_sub(NAMED);
                if more > 0 { write!(f, "\n  and {} more (--out FILE names all)", thousands(more)) } else { Ok(()) }
            }
        }?;
        self.refused.iter().try_for_each(|why| write!(f, "\ntrain refuses it: {}", line(why)))
    }
}

impl Part {
    fn row(&self) -> Vec<String> {
        let spread = self.images_an_identity;
        vec![
            self.name.to_string(),
            thousands(self.images),
            thousands(self.identities),
            format!("{} / {:.1} / {}", spread.min, spread.mean, spread.max),
            thousands(self.distractors),
            thousands(self.junk),
            if self.tracklets == 0 { "-".to_string() } else { thousands(self.tracklets) },
            self.cameras.len().to_string(),
        ]
    }
}

/// One part of a set.
#[derive(Clone, Debug, Serialize)]
struct Part {
    name: &'static str,
    images: usize,
    /// Persons above 0.
    identities: usize,
    /// Images of person 0.
    distractors: usize,
    /// Images of person -1.
    junk: usize,
    /// Tracklets; 0 in a set without them.
    tracklets: usize,
    /// Images a person above 0.
    images_an_identity: Spread,
    /// Persons above 0 by their number of images, in ranges that double.
    distribution: Vec<Range>,
    cameras: Vec<Camera>,
}

/// The smallest, the mean and the largest of some counts; zeros where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Spread {
    min: usize,
    mean: f64,
    max: usize,
}

/// How many persons have from `from` to `to` images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Range {
    from: usize,
    to: usize,
    identities: usize,
}

/// The images of one camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Camera {
    camera: i64,
    images: usize,
}

/// An image size in pixels and how many images have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Size {
    height: u32,
    width: u32,
    images: usize,
}

/// (height, width) of each image, or in one line why it cannot be used.
pub(super) fn decode_all<T: Sync>(
    all: &[T],
    image: impl Fn(&T) -> anyhow::Result<Arc<RgbImage>> + Sync,
) -> Vec<Result<(u32, u32), String>> {
    let bar = Mutex::new(Bar::new("reading images", all.len() as u64, 0));
    let one = |item: &T| {
        let size = image(item).map(|image| (image.height(), image.width())).map_err(|e| format!("{e:#}"));
        bar.lock().unwrap_or_else(PoisonError::into_inner).step(1);
        size
    };
    all.par_iter().map(one).collect()
}

fn part(name: &'static str, photos: &[Photo]) -> Part {
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
    Part {
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
