//! YouTube Faces: videos as folders of frames, and the pairs of `splits.txt`.
//!
//! `aligned_images_DB` holds faces. `frame_images_DB` holds whole frames; there the boxes of `NAME.labeled_faces.txt`
//! are cut out, and frames without a box are passed over (1503.03832 takes the first hundred that its detector finds).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::pairs::repeated;
use super::{FaceLayout, FaceSet, Pair};
use crate::catalog;
use crate::datasets::{Photo, Source, compare_listed, thousands};
use crate::files;
use crate::folders::{Entry, Passed, list};
use crate::lists::{self, Record, composed, records};
use crate::source::{Region, View};

/// Frames of a video that are compared (1503.03832, Section 5.7: "the first one hundred frames").
const FRAMES: usize = 100;

/// Its folder of aligned faces.
pub(crate) const ALIGNED: &str = "aligned_images_DB";
/// Its folder of whole frames.
pub(crate) const WHOLE: &str = "frame_images_DB";

/// How the lists of boxes beside whole frames end.
const BOXES: &str = ".labeled_faces.txt";

/// The folder of frames, where this is the layout: aligned faces before whole frames.
pub(super) fn frames(dir: &Path) -> Option<PathBuf> {
    [ALIGNED, WHOLE].iter().map(|name| dir.join(name)).find(|path| path.is_dir())
}

/// Reads the videos that the list names, each with its first 100 frames.
pub(super) fn open(dir: &Path, frames: &Path) -> Result<FaceSet> {
    let found = ["splits_corrected.txt", "splits.txt"]
        .iter()
        .map(|name| dir.join(name))
        .find(|path| path.symlink_metadata().is_ok());
    let path = found.with_context(|| {
        format!("{} is missing: {} says how it comes", dir.join("splits.txt").display(), catalog::fetch("ytf"))
    })?;
    let found_both = path.ends_with("splits_corrected.txt") && dir.join("splits.txt").is_file();
    let mut videos: BTreeMap<String, usize> = BTreeMap::new();
    let mut splits: BTreeMap<u32, Vec<(String, String, bool)>> = BTreeMap::new();
    for (number, Record { line, fields: columns }) in records(&path)?.into_iter().enumerate() {
        let at = format!("{}:{line}", path.display());
        // split, pair, first video, second video, is same, is the name the same; a header names the columns.
        if columns[0].parse::<u32>().is_err() && number == 0 {
            continue;
        }
        ensure!(columns.len() >= 5, "{at}: {} columns: expected split, pair, video, video, 0 or 1", columns.len());
        let split = columns[0].parse().ok().with_context(|| format!("{at}: {:?} is no split", columns[0]))?;
        let same = match columns[4].as_str() {
            "1" => true,
            "0" => false,
            other => bail!("{at}: {other:?} where 0 or 1 says whether the two are one person"),
        };
        ensure!(
            columns[2] != columns[3],
            "{at}: a video is paired with itself, which is always right: correct the list"
        );
        for video in &columns[2..4] {
            ensure!(
                video.split('/').count() == 2 && !video.split('/').any(|part| part.is_empty() || part.starts_with('.')),
                "{at}: {video:?} is no video: expected NAME/NUMBER"
            );
            videos.entry(video.to_string()).or_default();
        }
        splits.entry(split).or_default().push((columns[2].to_string(), columns[3].to_string(), same));
    }
    ensure!(splits.len() >= 2, "{}: {} splits: expected 2 or more", path.display(), splits.len());
    let each = splits.values().map(Vec::len).next().unwrap_or(0);
    if let Some((split, pairs)) = splits.iter().find(|(_, pairs)| pairs.len() != each) {
        bail!("{}: split {split} has {} pairs and the first {each}: fetch the list again", path.display(), pairs.len());
    }
    let mut people: Vec<String> =
        videos.keys().filter_map(|video| video.split_once('/')).map(|(p, _)| p.into()).collect();
    people.dedup();
    let whole = !frames.ends_with(ALIGNED);
    let boxed = list(frames, &mut Passed::default())?.into_iter().find(|entry| entry.name.ends_with(BOXES));
    if let Some(boxed) = boxed.filter(|_| !whole) {
        bail!("{}: {} is beside whole frames: call their folder {WHOLE}", frames.display(), boxed.name);
    }
    let mut boxes: BTreeMap<String, BTreeMap<String, Region>> = BTreeMap::new();
    let (mut test, mut passed) = (Vec::new(), Passed::default());
    for (number, (video, place)) in videos.iter_mut().enumerate() {
        *place = number;
        let folder = lists::found(frames.join(video));
        ensure!(folder.is_dir(), "{}: {} is missing: unpack the frames again", path.display(), folder.display());
        let mut images = list(&folder, &mut passed)?;
        images.retain(Entry::is_image);
        ensure!(!images.is_empty(), "{} has no frames: unpack them again", folder.display());
        images.sort_by_key(|entry| (frame(&entry.name), entry.name.clone()));
        let name = video.split_once('/').map_or("", |(person, _)| person);
        if whole {
            if !boxes.contains_key(name) {
                boxes.insert(name.into(), faces(&lists::found(frames.join(format!("{name}{BOXES}"))))?);
            }
            images.retain(|entry| boxes[name].contains_key(&composed(&format!("{video}/{}", entry.name))));
            ensure!(
                !images.is_empty(),
                "{}: none of its frames has a box in {name}{BOXES}: unpack frame_images_DB again, or take {ALIGNED}",
                folder.display()
            );
        }
        let person = people.iter().position(|known| known == name).map_or(-1, |at| at as i64 + 1);
        test.extend(images.into_iter().take(FRAMES).map(|entry| {
            let file = format!("{video}/{}", entry.name);
            let region = boxes.get(name).and_then(|boxes| boxes.get(&composed(&file))).copied();
            let mut source = Source::from(&entry);
            if region.is_some() {
                source = Source::Through(Box::new((source, Arc::new(View { region, ..View::WHOLE }))));
            }
            Photo { name: file.into(), source, person, camera: 1, tracklet: number as i64 + 1 }
        }));
    }
    let pair =
        |(left, right, same): &(String, String, bool)| Pair { left: videos[left], right: videos[right], same: *same };
    let pairs: Vec<Pair> = splits.values().flatten().map(pair).collect();
    let mut set =
        FaceSet { layout: FaceLayout::YoutubeFaces, people, test, pairs, folds: splits.len(), ..FaceSet::default() };
    let list_name = files::name(&path);
    set.notes.push(format!(
        "{} pairs of {} videos by {list_name}, the first {FRAMES} {} of each",
        thousands(set.pairs.len()),
        thousands(videos.len()),
        if whole { "frames with a box, cut to it," } else { "frames" }
    ));
    let named = |(left, right, same): &&(String, String, bool)| {
        let [left, right] = [left, right].map(|video| video.split_once('/').map(|(person, _)| person));
        (left == right) != *same
    };
    let mut odd = splits.values().flatten().filter(named);
    if let Some((left, right, same)) = odd.next() {
        let (count, word) = (1 + odd.count(), if *same { "one person" } else { "two people" });
        set.notes.push(format!(
            "{list_name} says otherwise than the names of {count} pairs, as that {left} and {right} are {word}"
        ));
    }
    let names: Vec<&String> = videos.keys().collect();
    set.notes.extend(repeated(&path, &set.pairs, set.folds, |video| names[video].clone())?);
    if found_both {
        set.notes.push("splits.txt, which has known errors, is also there and was not read".into());
    }
    set.notes.extend(passed.note());
    set.notes.extend(differs(&set));
    Ok(set)
}

/// A person's boxes by frame: lines of `NAME\VIDEO\FRAME.jpg,_,x,y,width,height,_,_` with the centre at x, y.
fn faces(list: &Path) -> Result<BTreeMap<String, Region>> {
    let cure = "whole frames need their boxes: unpack frame_images_DB again, or take aligned_images_DB";
    ensure!(list.is_file(), "{} is missing: {cure}", list.display());
    let mut boxes = BTreeMap::new();
    for Record { line, fields: columns } in records(list)? {
        let value = |at: usize| columns.get(at).and_then(|text| text.parse::<u32>().ok());
        let (Some(x), Some(y), Some(width), Some(height)) = (value(2), value(3), value(4), value(5)) else {
            bail!("{}:{}: expected frame, _, x, y, width, height: {cure}", list.display(), line)
        };
        let region = Region { x, y, width, height };
        let other = boxes.insert(composed(&columns[0].replace('\\', "/")), region).is_some_and(|other| other != region);
        ensure!(!other, "{}:{line}: a second box of {}: leave one", list.display(), columns[0]);
    }
    Ok(boxes)
}

/// The last number in a frame's name: `0.12.jpg` is 12, so that frame 2 comes before frame 12.
fn frame(name: &str) -> u64 {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let digits = stem.rfind(|c: char| !c.is_ascii_digit()).map_or(stem, |at| &stem[at + 1..]);
    digits.parse().unwrap_or(u64::MAX)
}

/// How the list differs from the published one, or nothing.
pub(super) fn differs(set: &FaceSet) -> Option<String> {
    // Fold after fold, so that a fold's pairs lie together.
    let each = (set.pairs.len() / set.folds.max(1)).max(1);
    let halves = |fold: &[Pair]| 2 * fold.iter().filter(|pair| pair.same).count() == fold.len();
    if let Some(fold) = set.pairs.chunks(each).position(|fold| !halves(fold)) {
        return Some(format!("YouTube Faces list: the pairs of fold {} are not half of one person", fold + 1));
    }
    let counts = [("pairs", "pairs", set.pairs.len()), ("folds", "folds", set.folds)];
    compare_listed("YouTube Faces list", "ytf", &counts)
}
