//! Where a picture's pixels are, and what of them is looked at.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use anyhow::{Result, ensure};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::folders::Entry;
use crate::picture::{self, Similarity, decode, resize};
use crate::say::note;

/// Where an image's pixels are.
#[derive(Clone, Debug)]
pub enum Source {
    /// In a file, read and decoded when asked for.
    File {
        /// The folder of its set, or itself.
        root: Arc<PathBuf>,
        /// Its name there, empty of the file itself.
        name: Arc<str>,
    },
    /// In memory: drawn by code.
    Memory(Arc<RgbImage>),
    /// Another source's image, cropped or degraded when asked for.
    Through(Box<(Source, Arc<View>)>),
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Source {
        Source::File { root: Arc::new(path), name: Arc::default() }
    }
}

impl From<&Entry> for Source {
    fn from(entry: &Entry) -> Source {
        Source::File { root: entry.root.clone(), name: entry.name.clone() }
    }
}

impl Source {
    /// The image; a file is read and decoded at each call.
    ///
    /// # Errors
    /// As [`picture::load`]: one line that names the file.
    pub fn image(&self) -> Result<Arc<RgbImage>> {
        self.image_of(&|_| Ok(()))
    }

    /// As [`Source::image`], of an image that will be resized to `size` (height, width): a large JPEG may come smaller, see
    /// [`picture::decode_for`].
    pub fn image_for(&self, size: (u32, u32)) -> Result<Arc<RgbImage>> {
        let Source::File { .. } = self else { return self.image() };
        let path = &self.place();
        let image = picture::load_for(path, size)?;
        some(path, image.dimensions())?;
        Ok(Arc::new(image))
    }

    /// As [`Source::image`], where `takes` has no complaint about width and height before any [`Source::Through`].
    pub fn image_of(&self, takes: &dyn Fn((u32, u32)) -> Result<()>) -> Result<Arc<RgbImage>> {
        let image = match self {
            Source::File { .. } => {
                let path = &self.place();
                let image = picture::load(path)?;
                some(path, image.dimensions())?;
                Arc::new(image)
            }
            Source::Memory(image) => image.clone(),
            Source::Through(seen) => {
                let image = seen.0.image_of(takes)?;
                self.has(image.dimensions())?;
                return seen.1.of(&image).map(Arc::new);
            }
        };
        takes(image.dimensions())?;
        Ok(image)
    }

    /// Itself before any [`Source::Through`].
    pub fn origin(&self) -> &Source {
        match self {
            Source::Through(seen) => seen.0.origin(),
            whole => whole,
        }
    }

    /// The file that it comes from, if it does.
    pub fn path(&self) -> Option<PathBuf> {
        match self.origin() {
            Source::File { root, name } if name.is_empty() => Some(root.to_path_buf()),
            Source::File { root, name } => Some(root.join(&**name)),
            _ => None,
        }
    }

    /// As [`Source::path`], to be named.
    fn place(&self) -> PathBuf {
        self.path().unwrap_or_else(|| "an image".into())
    }

    /// Width and height of the image before any [`Source::Through`], without decoding its pixels.
    pub fn dimensions(&self) -> Result<(u32, u32)> {
        match self {
            Source::File { .. } => {
                let path = self.place();
                let size = picture::probe(&picture::read(&path)?, &path.display().to_string())?;
                some(&path, size).map(|()| size)
            }
            Source::Memory(image) => Ok(image.dimensions()),
            Source::Through(seen) => {
                let size = seen.0.dimensions()?;
                self.has(size).map(|()| size)
            }
        }
    }

    /// Whether the image is there, without decoding its pixels: a regular file that is not empty, a header within
    /// [`picture::MAX_SIDE`], and a JPEG, PNG or BMP to its last byte.
    pub fn check(&self) -> Result<()> {
        match self {
            Source::Memory(_) => Ok(()),
            Source::File { .. } | Source::Through(_) => self.dimensions().map(drop),
        }
    }

    /// Errors where an image of this width and height has nothing of the region.
    fn has(&self, (wide, high): (u32, u32)) -> Result<()> {
        let Source::Through(seen) = self else { return Ok(()) };
        let Some(Region { x, y, width, height }) = seen.1.region else { return Ok(()) };
        let within = |centre: u32, length: u32, all: u32| length > 0 && centre.saturating_sub(length / 2) < all;
        ensure!(
            within(x, width, wide) && within(y, height, high),
            "{}: its box, {width} x {height} pixels around ({x}, {y}), lies outside the image of {wide} x {high}: correct \
             the list of boxes",
            self.place().display()
        );
        let whole = |centre: u32, length: u32, all: u32| centre >= length / 2 && centre + length.div_ceil(2) <= all;
        if !(whole(x, width, wide) && whole(y, height, high)) {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                let name = self.place();
                let name = name.display();
                note(format!("{name}: its box lies partly outside the image and is cut to it, as all such boxes are"));
            });
        }
        Ok(())
    }
}

/// Refuses an image file of less than a few pixels.
fn some(path: &Path, (width, height): (u32, u32)) -> Result<()> {
    const LEAST: u32 = 4;
    ensure!(
        width.min(height) >= LEAST,
        "{}: {width} x {height} pixels show nothing (sides of {LEAST} at least): fetch it again or remove it",
        path.display()
    );
    Ok(())
}

/// What is done to a whole image before a [`crate::transform::Recipe`] sees it: a centre crop, then the degradations of 1503.03832's
/// Table 4.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The part that is kept first, cut to the image's edges; None keeps all.
    pub region: Option<Region>,
    /// What turns and scales the whole image first, and the side in pixels of the square that is kept; None for neither.
    pub warp: Option<(Similarity, u32)>,
    /// Side of the centre square that is kept, as a share of the shorter side; 1 keeps the whole image, unsquared.
    pub crop: f64,
    /// Encode as JPEG of this quality (1 to 100) and decode again.
    pub jpeg: Option<u8>,
    /// Resize to this many pixels a side.
    pub side: Option<u32>,
}

/// A rectangle of an image by its centre, in pixels from the upper left corner of the image as it is decoded (upright,
/// see [`decode`]): how face detectors' lists say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Centre, from the left.
    pub x: u32,
    /// Centre, from above.
    pub y: u32,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

impl Region {
    /// What of the rectangle lies within the image, at least one pixel.
    fn of(self, image: &RgbImage) -> RgbImage {
        let span = |centre: u32, length: u32, all: u32| {
            let first = centre.saturating_sub(length / 2).min(all - 1);
            let last = centre.saturating_add(length.div_ceil(2)).clamp(first + 1, all);
            (first, last - first)
        };
        let ((x, width), (y, height)) =
            (span(self.x, self.width, image.width()), span(self.y, self.height, image.height()));
        image::imageops::crop_imm(image, x, y, width, height).to_image()
    }
}

impl View {
    /// The image as it is.
    pub const WHOLE: View = View { region: None, warp: None, crop: 1.0, jpeg: None, side: None };

    /// The image through this view.
    ///
    /// # Errors
    /// Where JPEG encoding fails (an image above 65,535 pixels a side).
    pub fn of(&self, image: &RgbImage) -> Result<RgbImage> {
        let mut image = match (self.warp, self.region) {
            (Some((warp, side)), _) => warp.warp(image, side),
            (_, Some(region)) => region.of(image),
            _ => image.clone(),
        };
        if self.crop < 1.0 {
            let (width, height) = image.dimensions();
            let side = ((f64::from(width.min(height)) * self.crop).round() as u32).max(1);
            image = image::imageops::crop_imm(&image, (width - side) / 2, (height - side) / 2, side, side).to_image();
        }
        if let Some(side) = self.side {
            image = resize(&image, side, side);
        }
        if let Some(quality) = self.jpeg {
            let mut bytes = Vec::new();
            image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(&image)?;
            image = decode(&bytes, "an image encoded as JPEG")?;
        }
        Ok(image)
    }
}
