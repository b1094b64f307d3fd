//! TV-L1 flow of whole data sets, computed once and stored as temporal segment networks store theirs.

use super::*;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;

/// Frames in memory at a time.
const BLOCK: usize = 32;

/// Computes what is not there yet; a video's folder appears whole or not at all.
pub fn compute(args: &flags::FlowArgs) -> Result<()> {
    // Flow is read and written once: no cache.
    let cache = Cache::new(0);
    let mut work = Vec::new();
    if let Some(dir) = &args.data {
        let sets = match &args.task {
            Some(task) => vec![epic_skills::open_one(dir, task)?],
            None => epic_skills::open(dir)?,
        };
        for set in &sets {
            for clip in epic_skills::clips(dir, set, &cache)? {
                let folder = dir.join("flow").join(&clip.name);
                work.push((clip, folder));
            }
        }
    } else if let Some(dir) = &args.videos {
        for (i, (name, found)) in video::folder(dir)?.iter().enumerate() {
            work.push((Clip::open(name.clone(), i as u32, found, cache.clone())?, dir.join("flow").join(name)));
        }
    }
    let all = work.len();
    work.retain(|(clip, _)| clip.check_flow().is_err());
    say(format!("{} of {all} videos have flow already", all - work.len()));
    let mut bar = Bar::new("flow", work.len() as u64, 0);
    for (clip, folder) in &work {
        one(clip, folder)?;
        bar.step(1);
        bar.line(&format!("{}: {}", clip.name, folder.display()));
    }
    print(format!("flow of {} videos computed", work.len()))
}

/// All fields of one video into `folder`: `flow_x_00001.jpg`, `flow_y_00001.jpg`, ... and `flow.json`, which names the
/// method.
fn one(clip: &Clip, folder: &Path) -> Result<()> {
    let cannot = || format!("cannot write {}: free space, or make it writable", folder.display());
    let parent = folder.parent().context("a folder of flow lies in another")?;
    std::fs::create_dir_all(parent).with_context(cannot)?;
    let draft = tempfile::Builder::new().prefix(".flow-").tempdir_in(parent).with_context(cannot)?;
    let mut block: Vec<tvl1::Plane> = Vec::new();
    let mut count = 0;
    let mut flush = |block: &mut Vec<tvl1::Plane>| -> Result<()> {
        let jobs: Vec<(usize, &[tvl1::Plane])> = (count + 1..).zip(block.windows(2)).collect();
        jobs.par_iter().try_for_each(|(number, pair)| {
            let (u, v) = tvl1::flow(&pair[0], &pair[1], tvl1::Constants::default());
            [("x", u), ("y", v)].iter().try_for_each(|(axis, plane)| {
                save(&draft.path().join(format!("flow_{axis}_{number:05}.jpg")), plane).with_context(cannot)
            })
        })?;
        count += jobs.len();
        // The last frame is the first of the next block.
        block.drain(..block.len().saturating_sub(1));
        Ok(())
    };
    clip.stream(|frame: RgbImage| {
        block.push(video::grey(&frame));
        if block.len() > BLOCK { flush(&mut block) } else { Ok(()) }
    })?;
    flush(&mut block)?;
    ensure!(count > 0, "{} has only one frame: no flow", clip.name);
    let constants = format!("{:?}", tvl1::Constants::default());
    let named = json!({"method": "TV-L1 (Zach, Pock, Bischof 2007), rankle's own", "constants": constants, "bound": video::FLOW_BOUND, "size": [video::SIZE.0, video::SIZE.1], "fields": count, "promised": clip.promised()});
    files::write_atomic(&draft.path().join("flow.json"), serde_json::to_string_pretty(&named)?.as_bytes())?;
    let draft = draft.keep();
    if folder.exists() {
        // Too few fields, or none: nothing that a stream could use.
        std::fs::remove_dir_all(folder).with_context(cannot)?;
    }
    std::fs::rename(&draft, folder).with_context(cannot)
}

fn save(path: &Path, plane: &tvl1::Plane) -> Result<()> {
    let bytes: Vec<u8> = plane.values().iter().map(|&pixels| video::quantised(pixels, video::FLOW_BOUND)).collect();
    let mut jpeg = Vec::new();
    let (width, height) = (plane.width() as u32, plane.height() as u32);
    JpegEncoder::new_with_quality(&mut jpeg, 95).encode(&bytes, width, height, image::ExtendedColorType::L8)?;
    Ok(std::fs::write(path, jpeg)?)
}
