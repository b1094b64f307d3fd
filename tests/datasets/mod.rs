//! Data sets: layouts on disk, what is drawn, the check and the card.

mod drawn;
pub mod epic_skills;
pub mod faces;
mod labels;
mod market1501;
mod mars;
mod pair_graph;
mod reader;
mod reid;
mod split;
mod tree;

use std::path::Path;

use rankle::datasets;

use crate::common::{jpeg, put};

/// Writes files of a set: each name below `dir` with a small JPEG.
fn fill(dir: &Path, names: &[impl AsRef<str>]) {
    let bytes = jpeg(8, 16);
    names.iter().for_each(|name| put(dir.join(name.as_ref()), &bytes));
}

fn rows(photos: &[datasets::Photo]) -> Vec<(&str, i64, i64, i64)> {
    photos.iter().map(|p| (&*p.name, p.person, p.camera, p.tracklet)).collect()
}
