//! All images under a folder, without labels: what `embed` takes.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use image::RgbImage;
use rayon::prelude::*;
use serde_json::json;

use super::{Photo, Source, check, thousands};
use crate::folders::{Passed, images};
use crate::say;

/// Every file under `dir` and its subfolders that is named as an image, in order of its name relative to `dir`, which
/// becomes the photo's name; no identities (person -1). Says what is passed over.
///
/// # Errors
/// Where the folder is missing or has no image.
pub fn folder(dir: &Path) -> Result<Vec<Photo>> {
    ensure!(dir.is_dir(), "no folder {}: give the folder that holds the images", dir.display());
    let mut passed = Passed::default();
    let found = images(dir, &mut passed)?;
    let rest = passed.note().map_or_else(String::new, |note| format!(" ({note})"));
    ensure!(!found.is_empty(), "no images under {}: expected .jpg, .png or the like{rest}", dir.display());
    passed.note().iter().for_each(say::note);
    let photo = |image: crate::folders::Entry| Photo {
        source: Source::from(&image),
        name: image.name,
        person: -1,
        camera: 1,
        tracklet: -1,
    };
    Ok(found.into_iter().map(photo).collect())
}

/// Photos, and metadata of those that were left out.
pub type Kept = (Vec<Photo>, Vec<(String, String)>);

/// A user's photos, and metadata of what comes of them: which were left out because they cannot be read, where
/// they may be.
///
/// # Errors
/// Where one cannot be read.
pub fn brought(photos: Vec<Photo>, skip: bool) -> Result<Kept> {
    if skip {
        return usable(photos, |photo| photo.source.image());
    }
    check(&photos)?;
    Ok((photos, Vec::new()))
}

/// Those of `photos` of which `image` gives one, decoded on all cores, and metadata as [`brought`] has it. How many are left
/// out is said.
///
/// # Errors
/// Where there are none.
pub fn usable(photos: Vec<Photo>, image: impl Fn(&Photo) -> Result<Arc<RgbImage>> + Sync) -> Result<Kept> {
    let mut bar = say::Bar::new("read", photos.len() as u64, 0);
    let (mut good, mut gone, mut first) = (Vec::new(), Vec::new(), None);
    for part in photos.chunks(256) {
        let errors: Vec<_> = part.par_iter().map(|photo| image(photo).err()).collect();
        for (photo, error) in part.iter().zip(errors) {
            match error {
                None => good.push(photo.clone()),
                Some(error) => {
                    first.get_or_insert_with(|| say::one_line(&error));
                    gone.push(&*photo.name);
                }
            }
        }
        bar.step(part.len() as u64);
    }
    drop(bar);
    let Some(first) = first else { return Ok((good, Vec::new())) };
    let count = format!("{} of {} photos cannot be used", thousands(gone.len()), thousands(photos.len()));
    if good.is_empty() {
        bail!("{count}, the first: {first}");
    }
    say::note(format!("{count} and have no row, the first: {first}"));
    Ok((good, vec![("not read".into(), json!(gone).to_string())]))
}
