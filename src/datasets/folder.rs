//! All images under a folder, without labels: what `embed` takes.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{Photo, Source};
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
