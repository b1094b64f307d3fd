//! All images under a folder, without labels: what `embed` takes.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{Photo, Source, list, named_as_image};

/// Every file under `dir` and its subfolders that is named as an image, in order of its name relative to `dir`, which
/// becomes the photo's name; no identities (person -1). Errors where the folder is missing or has no image.
pub fn folder(dir: &Path) -> Result<Vec<Photo>> {
    ensure!(dir.is_dir(), "no folder {}: give the folder that holds the images", dir.display());
    let mut photos = Vec::new();
    walk(dir, "", 0, &mut photos)?;
    ensure!(!photos.is_empty(), "no images under {}: expected .jpg, .png or the like", dir.display());
    photos.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(photos)
}

/// Deeper than any photo collection: a link that leads back up ends here.
const DEEPEST: usize = 32;

fn walk(dir: &Path, prefix: &str, depth: usize, photos: &mut Vec<Photo>) -> Result<()> {
    let mut passed = 0;
    for entry in list(dir, &mut passed)? {
        let name = format!("{prefix}{}", entry.name);
        if entry.folder && depth < DEEPEST {
            walk(&entry.path, &format!("{name}/"), depth + 1, photos)?;
        } else if !entry.folder && named_as_image(&name) {
            photos.push(Photo { source: Source::File(entry.path), name, person: -1, camera: 1, tracklet: -1 });
        }
    }
    Ok(())
}
