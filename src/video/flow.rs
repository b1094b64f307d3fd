//! TV-L1 flow of whole videos, computed once and stored as temporal segment networks store theirs.

use std::ffi::OsStr;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::snippet::Stream;
use super::{Clip, FLOW_BOUND, Flow, Frames, SIZE, VideoFiles, grey, quantised, tvl1};
use crate::say::{Bar, count, plural, say};
use crate::{files, folders};

/// Frames in memory at a time.
const BLOCK: usize = 32;

/// What says in a folder of fields how they were made, of which video, and that we made them.
const TOLD: &str = "flow.json";
const METHOD: &str = "TV-L1 (Zach, Pock, Bischof 2007), rankle's own";

/// Computes the flow of those of `clips` that lack it into `dir/flow/NAME`; a video's folder appears whole or not at all.
/// Returns how many it were.
///
/// # Errors
/// One line: a video that cannot be read or, before any work, that has one frame alone; a folder that cannot be written, or
/// that holds what we did not write.
pub fn compute(dir: &Path, mut clips: Vec<Clip>) -> Result<usize> {
    let all = clips.len();
    clips.retain(|clip| clip.check_flow().is_err());
    let alone: Vec<&str> = clips.iter().filter(|clip| frames(clip) < 2).map(|clip| &*clip.name).collect();
    ensure!(
        alone.is_empty(),
        "{} of {}: {} one frame, and flow leads from one to the next: take {} away, or do without flow (--streams spatial)",
        alone.join(", "),
        dir.display(),
        plural(alone.len(), "it has", "each has"),
        plural(alone.len(), "it", "them")
    );
    clips.iter().try_for_each(|clip| check_ours(&dir.join("flow").join(&clip.name)))?;
    say(format!("{} of {} with flow already", all - clips.len(), count(all, "video")));
    let mut bar = Bar::new("flow", clips.len() as u64, 0);
    for clip in &clips {
        let folder = dir.join("flow").join(&clip.name);
        if let Flow::Missing(why) = &clip.flow
            && folder.exists()
        {
            bar.line(&format!("{why}: it is computed anew"));
        }
        one(clip, &folder)?;
        bar.step(1);
        bar.line(&format!("{}: {}", clip.name, folder.display()));
    }
    Ok(clips.len())
}

/// Frames of a video, those outside the part that counts too.
fn frames(clip: &Clip) -> usize {
    match &clip.source {
        Frames::Files(files) => files.len(),
        Frames::Film(film) => film.frames(),
        Frames::Drawn(film) => film.frames(),
    }
}

/// What we wrote down of the fields in `folder`; None where we did not make them.
fn told(folder: &Path) -> Option<Value> {
    let told = serde_json::from_str::<Value>(&files::text(&folder.join(TOLD)).ok()?).ok()?;
    (told["method"] == METHOD).then_some(told)
}

/// Why the fields of `folder` are not the whole flow of the video `found` at `path`, as far as was written down when they
/// were made.
pub(super) fn fault(folder: &Path, path: &Path, found: &VideoFiles) -> Option<String> {
    let (told, at, fields) = (told(folder)?, folder.display(), found.flow.len());
    if let Some(made) = told["fields"].as_u64().filter(|&made| made != fields as u64) {
        return Some(format!("{at}: {fields} flow fields of {made} are there"));
    }
    let video = told["video"].as_str()?;
    let now = match known(found.film.iter().chain(&found.frames).map(PathBuf::as_path)) {
        Ok(now) => now,
        Err(error) => return Some(format!("{error:#}")),
    };
    let kind = |known: &str| known.split_once(' ').map(|(kind, _)| kind.to_string());
    // A film may have become pictures of its own, which are told from another's by their number alone.
    if kind(&now) != kind(video) {
        let other = found.film.is_none() && fields + 1 != found.frames.len();
        return other.then(|| format!("{at}: {fields} flow fields of {} pictures", found.frames.len()));
    }
    (now != video).then(|| format!("{at} is the flow of another video than {}", path.display()))
}

/// What tells a video (a film, or its pictures in order) from another of its name: how long its files are, and the first and
/// last megabyte of the first and the last of them; behind what it is. Names and times may change.
fn known<'a>(of: impl Iterator<Item = &'a Path>) -> Result<String> {
    const EDGE: u64 = 1 << 20;
    let all: Vec<&Path> = of.collect();
    let mut hasher = blake3::Hasher::new();
    let mut length = |path: &Path| {
        path.metadata().map(|meta| {
            hasher.update(&meta.len().to_le_bytes());
        })
    };
    let cannot = |path: &Path| format!("cannot read {}", path.display());
    all.iter().try_for_each(|path| length(path).with_context(|| cannot(path)))?;
    let mut edges = |path: &Path| -> io::Result<()> {
        let mut file = files::open(path)?;
        io::copy(&mut Read::by_ref(&mut file).take(EDGE), &mut hasher)?;
        let last = file.metadata()?.len().saturating_sub(EDGE);
        file.seek(SeekFrom::Start(last))?;
        io::copy(&mut file.take(EDGE), &mut hasher).map(drop)
    };
    all.first().into_iter().chain(all.last()).try_for_each(|path| edges(path).with_context(|| cannot(path)))?;
    let kind = if all.len() == 1 { "film" } else { "pictures" };
    Ok(format!("{kind} {}", hasher.finalize().to_hex()))
}

/// Errors where there is something in the place of `folder` that is not flow of ours.
fn check_ours(folder: &Path) -> Result<()> {
    let ours = told(folder).is_some();
    let is_field = |name: &str| {
        let field = name == TOLD || name.starts_with("flow_") && name.ends_with(".jpg");
        ours && (field || folders::is_leftover(name))
    };
    let mut inside = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let kept = |at: &PathBuf| !at.is_file() || !at.file_name().and_then(OsStr::to_str).is_some_and(is_field);
    let other = inside.find(kept);
    let other = other.or(Some(folder.to_path_buf()).filter(|at| at.is_symlink() || at.is_file()));
    other.map_or(Ok(()), |at| bail!("{}: it is no flow of this command's: move it away", at.display()))
}

/// All fields of one video into `folder`: `flow_x_00001.jpg`, `flow_y_00001.jpg`, ... and `flow.json`, which names the
/// method and the video.
fn one(clip: &Clip, folder: &Path) -> Result<()> {
    files::folder_atomically(folder, |draft| {
        fields(clip, draft)?;
        // Nothing that a stream could use.
        check_ours(folder)?;
        if folder.exists() { Ok(std::fs::remove_dir_all(folder)?) } else { Ok(()) }
    })
}

fn fields(clip: &Clip, draft: &Path) -> Result<()> {
    let video = known(clip.files(Stream::Spatial).into_iter())?;
    let mut block: Vec<tvl1::Plane> = Vec::new();
    let mut count = 0;
    let mut flush = |block: &mut Vec<tvl1::Plane>| -> Result<()> {
        let jobs: Vec<(usize, &[tvl1::Plane])> = (count + 1..).zip(block.windows(2)).collect();
        jobs.par_iter().try_for_each(|(number, pair)| {
            let (u, v) = tvl1::flow(&pair[0], &pair[1], tvl1::Constants::default());
            [("x", u), ("y", v)]
                .iter()
                .try_for_each(|(axis, plane)| save(&draft.join(format!("flow_{axis}_{number:05}.jpg")), plane))
        })?;
        count += jobs.len();
        // The last frame is the first of the next block.
        block.drain(..block.len().saturating_sub(1));
        Ok(())
    };
    clip.stream(|frame: RgbImage| {
        block.push(grey(&frame));
        if block.len() > BLOCK { flush(&mut block) } else { Ok(()) }
    })?;
    flush(&mut block)?;
    let constants = format!("{:?}", tvl1::Constants::default());
    let size = [SIZE.0, SIZE.1];
    let named = json!({
        "method": METHOD, "constants": constants, "bound": FLOW_BOUND, "size": size, "fields": count, "video": video
    });
    files::write_atomic(&draft.join(TOLD), serde_json::to_string_pretty(&named)?.as_bytes())
}

fn save(path: &Path, plane: &tvl1::Plane) -> Result<()> {
    let bytes: Vec<u8> = plane.values().iter().map(|&pixels| quantised(pixels, FLOW_BOUND)).collect();
    let mut jpeg = Vec::new();
    let (width, height) = (plane.width() as u32, plane.height() as u32);
    JpegEncoder::new_with_quality(&mut jpeg, 95).encode(&bytes, width, height, image::ExtendedColorType::L8)?;
    Ok(files::own(path)?.write_all(&jpeg)?)
}
