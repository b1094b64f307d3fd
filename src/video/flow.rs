//! TV-L1 flow of whole videos, computed once and stored as temporal segment networks store theirs.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{Clip, FLOW_BOUND, SIZE, grey, quantised, tvl1};
use crate::say::{Bar, count, say};
use crate::{files, folders};

/// Frames in memory at a time.
const BLOCK: usize = 32;

/// What says in a folder of fields how they were made, and that we made them.
const TOLD: &str = "flow.json";
const METHOD: &str = "TV-L1 (Zach, Pock, Bischof 2007), rankle's own";

/// Computes the flow of those of `clips` that lack it into `dir/flow/NAME`; a video's folder appears whole or not at all.
/// Returns how many it were.
///
/// # Errors
/// One line: a video that cannot be read or has one frame alone, a folder that cannot be written, or that holds what we did
/// not write.
pub fn compute(dir: &Path, mut clips: Vec<Clip>) -> Result<usize> {
    let all = clips.len();
    clips.retain(|clip| clip.check_flow().is_err());
    clips.iter().try_for_each(|clip| check_ours(&dir.join("flow").join(&clip.name)))?;
    say(format!("{} of {} with flow already", all - clips.len(), count(all, "video")));
    let mut bar = Bar::new("flow", clips.len() as u64, 0);
    for clip in &clips {
        let folder = dir.join("flow").join(&clip.name);
        one(clip, &folder)?;
        bar.step(1);
        bar.line(&format!("{}: {}", clip.name, folder.display()));
    }
    Ok(clips.len())
}

/// Errors where there is something in the place of `folder` that is not flow of ours, which may be of another length of its
/// video.
fn check_ours(folder: &Path) -> Result<()> {
    let told = files::text(&folder.join(TOLD)).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let ours = told.is_some_and(|told| told["method"] == METHOD);
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
/// method.
fn one(clip: &Clip, folder: &Path) -> Result<()> {
    files::folder_atomically(folder, |draft| {
        fields(clip, draft)?;
        // Too few fields, or none: nothing that a stream could use.
        check_ours(folder)?;
        if folder.exists() { Ok(std::fs::remove_dir_all(folder)?) } else { Ok(()) }
    })
}

fn fields(clip: &Clip, draft: &Path) -> Result<()> {
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
    ensure!(count > 0, "{} has only one frame: no flow", clip.name);
    let constants = format!("{:?}", tvl1::Constants::default());
    let named = json!({"method": METHOD, "constants": constants, "bound": FLOW_BOUND, "size": [SIZE.0, SIZE.1], "fields": count});
    files::write_atomic(&draft.join(TOLD), serde_json::to_string_pretty(&named)?.as_bytes())
}

fn save(path: &Path, plane: &tvl1::Plane) -> Result<()> {
    let bytes: Vec<u8> = plane.values().iter().map(|&pixels| quantised(pixels, FLOW_BOUND)).collect();
    let mut jpeg = Vec::new();
    let (width, height) = (plane.width() as u32, plane.height() as u32);
    JpegEncoder::new_with_quality(&mut jpeg, 95).encode(&bytes, width, height, image::ExtendedColorType::L8)?;
    Ok(files::own(path)?.write_all(&jpeg)?)
}
