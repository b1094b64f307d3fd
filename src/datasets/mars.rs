//! MARS (Zheng et al., ECCV 2016): tracklets of frames, in `bbox_train` and `bbox_test`, listed by the files of
//! `info`, which come from the authors' evaluation code (github liangzheng06/MARS-evaluation), not with the images.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use matfile::{MatFile, NumericData};

use super::{Layout, Photo, ReidSet, Source, compare_listed, need_folder, persons, thousands, unlisted};
use crate::lists::lines;
use crate::{files, say};

/// Whether it is this layout.
pub(super) fn is_one(dir: &Path) -> bool {
    ["bbox_train", "bbox_test"].iter().any(|name| dir.join(name).is_dir())
}

pub(super) fn open(dir: &Path) -> Result<ReidSet> {
    need_folder(dir, "bbox_train", Layout::Mars)?;
    need_folder(dir, "bbox_test", Layout::Mars)?;
    let [train, test] = splits(dir)?;
    let mut notes = Vec::new();
    let all: usize = train.iter().map(Vec::len).sum();
    // "Exact same setup": every frame is an image of its person.
    let train: Vec<Photo> = train.into_iter().flatten().filter(|photo| photo.person > 0).collect();
    if train.len() < all {
        notes.push(format!("left out {} of person -1 or 0", say::count(all - train.len(), "training frame")));
    }
    let mut query = Vec::new();
    let (path, rows) = table(dir, "query_IDX.mat")?;
    for &row in rows.iter().flatten() {
        // Frames of one tracklet are together in both lists, since several queries may share a person and camera.
        let track = usize::try_from(row - 1).ok().and_then(|row| test.get(row));
        let track =
            track.ok_or_else(|| anyhow!("{}: query {row} is not one of {} tracklets", path, thousands(test.len())))?;
        query.extend(track.iter().filter(|photo| photo.person > 0).cloned());
    }
    ensure!(!query.is_empty(), "{path}: no query of a person above 0: take the file from {FROM}");
    let gallery = test.into_iter().flatten().collect();
    let mut set = ReidSet { layout: Layout::Mars, train: train.into(), query, gallery, notes, ..ReidSet::default() };
    set.notes.push("query tracklets stay in the gallery, as in the official protocol".to_string());
    set.notes.extend(differs(&set));
    Ok(set)
}

/// Notes of the frames that no list names: for the card alone, since a million are looked through.
pub(super) fn strays(set: &ReidSet) -> Vec<String> {
    let Some(Source::File { root, .. }) = set.photos().next().map(|photo| &photo.source) else { return Vec::new() };
    let Ok(all) = splits(root) else { return Vec::new() };
    let listed: HashSet<&str> = all.iter().flatten().flatten().map(|photo| &*photo.name).collect();
    unlisted(root, &["bbox_train", "bbox_test"], |name| listed.contains(name))
}

/// What differs from the published counts; nothing for the published set.
pub(super) fn differs(set: &ReidSet) -> Option<String> {
    let tracklets = |photos: &[Photo]| photos.chunk_by(|a, b| a.tracklet == b.tracklet).count();
    let counts = [
        ("training frames", "train_frames", set.train.len()),
        ("training tracklets", "train_tracklets", tracklets(&set.train)),
        ("training persons", "train_people", persons(&*set.train).len()),
        ("query tracklets", "query_tracklets", tracklets(&set.query)),
        ("query persons", "query_people", persons(&set.query).len()),
        ("gallery frames", "test_frames", set.gallery.len()),
        ("gallery tracklets", "test_tracklets", tracklets(&set.gallery)),
    ];
    compare_listed("MARS", "mars", &counts)
}

const FROM: &str = "the info folder of github.com/liangzheng06/MARS-evaluation";

/// The photos of each tracklet, to train on and to test on.
fn splits(dir: &Path) -> Result<[Vec<Vec<Photo>>; 2]> {
    Ok([
        split(dir, "bbox_train", "train_name.txt", "tracks_train_info.mat")?,
        split(dir, "bbox_test", "test_name.txt", "tracks_test_info.mat")?,
    ])
}

/// The photos of each tracklet of one split, in the table's order.
fn split(dir: &Path, folder: &str, names: &str, tracks: &str) -> Result<Vec<Vec<Photo>>> {
    let path = dir.join("info").join(names);
    let frames = lines(&path).with_context(|| format!("MARS needs its lists; take them from {FROM}"))?;
    let (table_path, rows) = table(dir, tracks)?;
    let (root, mut all) = (Arc::new(dir.to_path_buf()), Vec::with_capacity(rows.len()));
    for (i, row) in rows.iter().enumerate() {
        let (own, person, camera) = track(row, frames.len()).ok_or_else(|| {
            anyhow!(
                "{table_path}: row {} is {row:?}, not [start, end, person, camera] within the {} names of {names}: \
                 take both from {FROM}",
                i + 1,
                thousands(frames.len())
            )
        })?;
        let mut photos = Vec::with_capacity(own.len());
        for (_, frame) in &frames[own] {
            let named = frame.get(..4).and_then(|person| if person == "00-1" { Some(-1) } else { person.parse().ok() });
            if named != Some(person) || frame.contains(['/', '\\']) {
                bail!(
                    "{}: {frame} is not a frame of person {person}, as row {} of {tracks} says: take both from {FROM}",
                    path.display(),
                    i + 1
                );
            }
            let name: Arc<str> = format!("{folder}/{}/{frame}", &frame[..4]).into();
            let source = Source::File { root: root.clone(), name: name.clone() };
            photos.push(Photo { source, name, person, camera, tracklet: i as i64 + 1 });
        }
        all.push(photos);
    }
    Ok(all)
}

/// Which frames a row of a tracklet table names, of which person by which camera.
fn track(row: &[i64], frames: usize) -> Option<(Range<usize>, i64, i64)> {
    let &[start, end, person, camera] = row else { return None };
    let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
    let sound = start >= 1 && start <= end && end <= frames && person >= -1 && camera >= 1;
    sound.then(|| (start - 1..end, person, camera))
}

/// The rows of the one numeric matrix in a MATLAB 5 file, and the file's path for errors.
fn table(dir: &Path, name: &str) -> Result<(String, Vec<Vec<i64>>)> {
    let path = dir.join("info").join(name);
    let file = files::open(&path)
        .map_err(|error| anyhow!("cannot read {} ({error}): MARS needs it; take it from {FROM}", path.display()))?;
    let bad =
        || anyhow!("{}: not a MATLAB 5 file with one matrix of whole numbers: take it from {FROM}", path.display());
    // On damaged sizes the parser's own arithmetic may panic; the user gets the same line.
    let parse = || MatFile::parse(std::io::BufReader::new(file));
    let mat = say::caught(parse).map_err(|_| bad())?.map_err(|_| bad())?;
    let [array] = mat.arrays().as_slice() else { return Err(bad()) };
    let &[height, width] = array.size().as_slice() else { return Err(bad()) };
    let values = whole(array.data()).ok_or_else(bad)?;
    if values.is_empty() || height.checked_mul(width) != Some(values.len()) {
        return Err(bad());
    }
    // MATLAB stores columns one after another.
    let rows = (0..height).map(|y| (0..width).map(|x| values[x * height + y]).collect());
    Ok((path.display().to_string(), rows.collect()))
}

/// The matrix's numbers where all are whole.
fn whole(data: &NumericData) -> Option<Vec<i64>> {
    let from_real = |v: f64| (v.fract() == 0.0 && v.abs() < 1e15).then_some(v as i64);
    match data {
        NumericData::Int8 { real, .. } => Some(real.iter().map(|&v| v.into()).collect()),
        NumericData::UInt8 { real, .. } => Some(real.iter().map(|&v| v.into()).collect()),
        NumericData::Int16 { real, .. } => Some(real.iter().map(|&v| v.into()).collect()),
        NumericData::UInt16 { real, .. } => Some(real.iter().map(|&v| v.into()).collect()),
        NumericData::Int32 { real, .. } => Some(real.iter().map(|&v| v.into()).collect()),
        NumericData::UInt32 { real, .. } => Some(real.iter().map(|&v| v.into()).collect()),
        NumericData::Int64 { real, .. } => Some(real.clone()),
        NumericData::UInt64 { real, .. } => real.iter().map(|&v| i64::try_from(v).ok()).collect(),
        NumericData::Single { real, .. } => real.iter().map(|&v| from_real(v.into())).collect(),
        NumericData::Double { real, .. } => real.iter().map(|&v| from_real(v)).collect(),
    }
}
