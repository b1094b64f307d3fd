//! All images under a folder, without labels: what `embed` takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use image::RgbImage;
use rayon::prelude::*;

use super::{Look, Photo, Source, count, looked_at, thousands};
use crate::folders::{Passed, images};
use crate::{files, say};

/// Every file under `dir` and its subfolders that is named as an image, in order of its name relative to `dir`, which
/// becomes the photo's name; no identities (person -1). Says what is passed over.
///
/// # Errors
/// Where the folder is missing or has no image.
pub fn folder(dir: &Path) -> Result<Vec<Photo>> {
    let what =
        dir.metadata().map_or("there is no such folder".into(), |found| format!("it is {}", files::kind(&found)));
    ensure!(dir.is_dir(), "{}: {what}: give the folder that holds the images", dir.display());
    let mut passed = Passed::default();
    let found = images(dir, &mut passed)?;
    let rest = passed.note().map_or_else(String::new, |note| format!(" ({note})"));
    ensure!(!found.is_empty(), "no images under {}: expected .jpg, .png or the like{rest}", dir.display());
    passed.note().iter().for_each(say::note);
    Ok(found.into_iter().map(|image| Photo::new(Source::from(&image), image.name, -1, 1)).collect())
}

/// Those of a user's photos that can be used, and the names of the others, which may be there where `skip` says so.
///
/// # Errors
/// Where one cannot be read and may not be left out, or all are.
pub fn brought(photos: Vec<Photo>, skip: bool) -> Result<(Vec<Photo>, Vec<String>)> {
    if !skip {
        readable(&photos)?;
        return Ok((photos, Vec::new()));
    }
    let gone = unusable(&photos.iter().collect::<Vec<_>>(), &|photo| photo.source.image());
    left_out(&gone, photos.len(), &count(photos.len(), "photo"))?;
    let (gone, good): (Vec<_>, Vec<_>) = photos.into_iter().enumerate().partition(|(i, _)| gone.contains_key(i));
    let names = gone.into_iter().map(|(_, photo)| photo.name.to_string());
    Ok((good.into_iter().map(|(_, photo)| photo).collect(), names.collect()))
}

/// Checks every file of a user's photos (see [`Source::check`]), on all cores.
///
/// # Errors
/// One line: how many cannot be used, the first of them in the given order, and what to do.
pub fn readable<'a>(photos: impl IntoIterator<Item = &'a Photo>) -> Result<()> {
    looked_at(photos, Look::ALL, |photo| photo.source.check(), "--skip-unreadable leaves them out")
}

/// What gives the image of a photo.
pub type Decode<'a> = dyn Fn(&Photo) -> Result<Arc<RgbImage>> + Sync + 'a;

/// The places of those `photos` that `image` does not give, decoded on all cores, and why.
pub fn unusable(photos: &[&Photo], image: &Decode<'_>) -> BTreeMap<usize, String> {
    let (mut bar, mut gone) = (say::Bar::new("read", photos.len() as u64, 0), BTreeMap::new());
    for (number, part) in photos.chunks(256).enumerate() {
        let errors: Vec<_> = part.par_iter().map(|photo| image(photo).err()).collect();
        let errors = errors.into_iter().enumerate().filter_map(|(i, error)| Some((256 * number + i, error?)));
        gone.extend(errors.map(|(i, error)| (i, say::one_line(&error))));
        bar.step(part.len() as u64);
    }
    gone
}

/// Says how many of `all` photos, which are called `words`, are `gone`.
pub fn left_out(gone: &BTreeMap<usize, String>, all: usize, words: &str) -> Result<()> {
    let Some(first) = gone.values().next() else { return Ok(()) };
    let some = format!("{} of {words} cannot be used", thousands(gone.len()));
    ensure!(gone.len() < all, "{some}, the first: {first}");
    say::note(format!("{some} and left out, the first: {first}"));
    Ok(())
}
