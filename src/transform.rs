//! From an image file to the network's input: bounded decoding, Pillow's bilinear resize, crops, flips, normalisation.
//!
//! The recipe is section 4 of Hermans et al. (arXiv 1703.07737): resize to 9/8 of the input size, a random crop of the
//! input size and a random flip to train; ten crops of the same enlarged image to test (Table 5). Pixels go from bytes
//! to normalised `f32` through one table a channel, straight into the caller's batch.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};
use clap::ValueEnum;
use fast_image_resize as fir;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// The longest side, in pixels, of an image that is decoded; longer ones are refused from their header.
pub const MAX_SIDE: u32 = 16_384;
/// The most bytes a file, or its decoded pixels, may take; more is refused before anything is allocated.
pub const MAX_BYTES: u64 = 512 << 20;

const AGAIN: &str = "fetch it again or remove it";

/// Decodes an image by its content, whatever its name says: JPEG, PNG, BMP, GIF (first frame), TIFF, WebP or PNM.
/// Grey, alpha (dropped), 16-bit and CMYK become 8-bit RGB; an EXIF rotation is not applied (as in Pillow).
///
/// # Errors
/// One line that begins with `name`: an empty file, no image, a truncated or broken one, or one above [`MAX_SIDE`] or
/// [`MAX_BYTES`], which is refused before its pixels are decoded.
pub fn decode(bytes: &[u8], name: &str) -> Result<RgbImage> {
    let (format, decoder) = open(bytes, name)?;
    let image =
        DynamicImage::from_decoder(decoder).map_err(|e| anyhow!("{name}: {}: {AGAIN}", complaint(format, &e)))?;
    Ok(image.into_rgb8())
}

/// Width and height from the header alone, after every test of [`decode`] that needs no decoded pixel: the limits, and
/// that a JPEG or a PNG is there to its last byte.
///
/// # Errors
/// As [`decode`].
pub fn probe(bytes: &[u8], name: &str) -> Result<(u32, u32)> {
    open(bytes, name).map(|(_, decoder)| decoder.dimensions())
}

/// Reads and decodes one file; see [`decode`].
///
/// # Errors
/// One line that names the file.
pub fn load(path: &Path) -> Result<RgbImage> {
    decode(&read(path)?, &path.display().to_string())
}

/// The bytes of a regular file of at most [`MAX_BYTES`].
///
/// # Errors
/// One line that names the file: missing, unreadable, not a file, or too big.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    // The kind is asked before opening, since opening a pipe waits for its writer.
    let meta = std::fs::metadata(path).map_err(|e| unreadable(path, &e))?;
    ensure!(meta.is_file(), "{}: not a regular file: remove it", path.display());
    ensure!(
        meta.len() <= MAX_BYTES,
        "{}: {} MiB, above the limit of {} MiB a file: shrink it or remove it",
        path.display(),
        meta.len() >> 20,
        MAX_BYTES >> 20
    );
    let mut bytes = Vec::with_capacity(meta.len() as usize + 1);
    let done = File::open(path).and_then(|f| f.take(MAX_BYTES).read_to_end(&mut bytes));
    done.map_err(|e| unreadable(path, &e))?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => anyhow!("{}: no such file: {AGAIN}", path.display()),
        _ => anyhow!("{}: cannot be read ({error}): {AGAIN}", path.display()),
    }
}

fn open<'a>(bytes: &'a [u8], name: &str) -> Result<(ImageFormat, impl ImageDecoder + 'a)> {
    const READS: &str = "JPEG, PNG, BMP, GIF, TIFF, WebP and PNM are read";
    ensure!(!bytes.is_empty(), "{name}: an empty file: {AGAIN}");
    let format =
        image::guess_format(bytes).map_err(|_| anyhow!("{name}: not an image ({READS}): convert it or remove it"))?;
    ensure!(format.reading_enabled(), "{name}: a {format:?} image ({READS}): convert it or remove it");
    let whole = match format {
        ImageFormat::Jpeg => jpeg_is_whole(bytes),
        ImageFormat::Png => png_is_whole(bytes),
        ImageFormat::Bmp => bmp_is_whole(bytes),
        _ => true,
    };
    ensure!(whole, "{name}: a truncated {}: {AGAIN}", title(format));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| anyhow!("{name}: {}: {AGAIN}", complaint(format, &e)))?;
    let (width, height) = decoder.dimensions();
    ensure!(width > 0 && height > 0, "{name}: a broken {} of {width} x {height} pixels: {AGAIN}", title(format));
    let within = width <= MAX_SIDE && height <= MAX_SIDE && decoder.total_bytes() <= MAX_BYTES;
    ensure!(
        within,
        "{name}: {width} x {height} pixels, above the limit of {MAX_SIDE} a side and {} MiB an image: shrink it or \
         remove it",
        MAX_BYTES >> 20
    );
    Ok((format, decoder))
}

fn title(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::WebP => "WebP",
        _ => "PNM",
    }
}

/// What a decoder's error means to a reader, in one line.
fn complaint(format: ImageFormat, error: &image::ImageError) -> String {
    let text: String = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let lower = text.to_lowercase();
    if lower.contains("unexpected eof") || lower.contains("end of file") || lower.contains("failed to fill whole") {
        return format!("a truncated {}", title(format));
    }
    match error {
        image::ImageError::Limits(_) => {
            format!("a {} above the limit of {} MiB an image", title(format), MAX_BYTES >> 20)
        }
        _ => format!("a broken {} ({text})", title(format)),
    }
}

/// Whether the JPEG's segments lead to its end-of-image marker. The decoder fills missing rows with grey and says
/// nothing, so this is asked first. Walking the segments steps over thumbnails, which have markers of their own.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2; // after the start-of-image marker, which guess_format saw
    let mut scans = 0;
    loop {
        // The next marker: 0xFF, any number of 0xFF as filler, then a byte that is neither stuffing nor a restart.
        let Some(skip) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xff)) else { return false };
        at += skip + 1;
        match bytes.get(at) {
            None => return false,
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(0xff) => {}
            Some(0xd9) => return scans > 0,
            Some(&marker) => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3) else { return false };
                scans += usize::from(marker == 0xda);
                at += 1 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
}

/// Whether the PNG's chunks lead to its IEND chunk.
fn png_is_whole(bytes: &[u8]) -> bool {
    let mut at = 8; // after the signature
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        at += 12 + length; // length, type, data, checksum
        if &head[4..] == b"IEND" {
            return at <= bytes.len();
        }
    }
    false
}

/// Whether an uncompressed BMP has all its rows; of others the decoder speaks.
fn bmp_is_whole(bytes: &[u8]) -> bool {
    let number = |at: usize, length: usize| {
        let bytes = bytes.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0_u64, |number, &byte| number << 8 | u64::from(byte)))
    };
    let rows = || {
        let (start, header) = (number(10, 4)?, number(14, 4)?);
        // Older headers count sides in 16 bits, and packed pixels end where they end.
        if header < 40 || ![0, 3].contains(&number(30, 4)?) {
            return Some(true);
        }
        let (width, height) = (number(18, 4)?, u64::from((number(22, 4)? as u32).cast_signed().unsigned_abs()));
        let row = (width * number(28, 2)?).div_ceil(32) * 4;
        Some(row.saturating_mul(height).saturating_add(start) <= bytes.len() as u64)
    };
    rows().unwrap_or(false)
}

thread_local! {
    /// Keeps the resizer's buffers between images of one thread.
    static RESIZER: RefCell<fir::Resizer> = RefCell::new(fir::Resizer::new());
}

/// Resizes as Pillow's `BILINEAR` does: a triangle filter, widened by the scale on shrinking. Equal to it within one
/// grey level.
///
/// # Panics
/// Where a side of the image or of the result is 0.
pub fn resize(image: &RgbImage, height: u32, width: u32) -> RgbImage {
    window(image, (height, width), (0, 0), (height, width))
}

/// The `size` window at `(top, left)` of `image` resized to `scaled`, all (height, width). Only the window is
/// computed: the filter reads beyond the window's edge, so the pixels are those of the whole resized image.
fn window(image: &RgbImage, scaled: (u32, u32), (top, left): (u32, u32), size: (u32, u32)) -> RgbImage {
    let (width, height) = image.dimensions();
    assert!(width > 0 && height > 0 && size.0 > 0 && size.1 > 0, "resizing to or from an image without pixels");
    let (y, x) = (f64::from(height) / f64::from(scaled.0), f64::from(width) / f64::from(scaled.1));
    let mut options =
        fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear)).use_alpha(false);
    if size != scaled {
        let (from_left, from_top) = (f64::from(left) * x, f64::from(top) * y);
        let (wide, tall) = (f64::from(size.1) * x, f64::from(size.0) * y);
        let (wide, tall) = (within(from_left, wide, width), within(from_top, tall, height));
        options = options.crop(from_left, from_top, wide, tall);
    }
    let source = fir::images::ImageRef::new(width, height, image.as_raw(), fir::PixelType::U8x3)
        .expect("an RgbImage holds three bytes a pixel");
    let mut target = fir::images::Image::new(size.1, size.0, fir::PixelType::U8x3);
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))
        .expect("both are U8x3 and the box lies within the image");
    RgbImage::from_raw(size.1, size.0, target.into_vec()).expect("three bytes a pixel")
}

/// The length, at most `length`, with which `start + length` stays within `end`: rounding may push the box an ulp past
/// the image's edge, which the resizer would refuse.
fn within(start: f64, mut length: f64, end: u32) -> f64 {
    while start + length > f64::from(end) {
        length = length.next_down();
    }
    length
}

/// What is done to a whole image before a [`Recipe`] sees it: a centre crop, then the degradations of 1503.03832's
/// Table 4.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The part that is kept first, cut to the image's edges; None keeps all.
    pub region: Option<Region>,
    /// Side of the centre square that is kept, as a share of the shorter side; 1 keeps the whole image, unsquared.
    pub crop: f64,
    /// Encode as JPEG of this quality (1 to 100) and decode again.
    pub jpeg: Option<u8>,
    /// Resize to this many pixels a side.
    pub side: Option<u32>,
}

/// A rectangle of an image by its centre, in pixels from the upper left corner: how face detectors' lists say it.
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
    pub const WHOLE: View = View { region: None, crop: 1.0, jpeg: None, side: None };

    /// The image through this view.
    ///
    /// # Errors
    /// Where JPEG encoding fails (an image above 65,535 pixels a side).
    pub fn of(&self, image: &RgbImage) -> Result<RgbImage> {
        let mut image = match self.region {
            Some(region) => region.of(image),
            None => image.clone(),
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

/// What is random in a training image. The networks of Table 1 (the loss study) are trained without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augment {
    /// A plain resize to the input size.
    None,
    /// A plain resize, mirrored with probability one half.
    Flip,
    /// A resize to 9/8 of the input size, a uniform crop of the input size, mirrored with probability one half.
    CropFlip,
}

/// The views of a test image whose embeddings are averaged: the rows of Table 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestViews {
    /// A plain resize to the input size.
    Original,
    /// A plain resize and its mirror image.
    Flip,
    /// The centre crop of the image resized to 9/8.
    Centre,
    /// The centre crop and its mirror image.
    CentreFlip,
    /// The centre and the four corners of the image resized to 9/8.
    FiveCrops,
    /// The five crops, then their mirror images.
    TenCrops,
}

impl TestViews {
    /// The name that a flag takes.
    pub fn name(self) -> &'static str {
        match self {
            TestViews::Original => "original",
            TestViews::Flip => "flip",
            TestViews::Centre => "centre",
            TestViews::CentreFlip => "centre-flip",
            TestViews::FiveCrops => "five-crops",
            TestViews::TenCrops => "ten-crops",
        }
    }

    /// How many views an image gives.
    pub fn count(self) -> usize {
        match self {
            TestViews::Original | TestViews::Centre => 1,
            TestViews::Flip | TestViews::CentreFlip => 2,
            TestViews::FiveCrops => 5,
            TestViews::TenCrops => 10,
        }
    }
}

/// How an image becomes a network's input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Height of the input in pixels.
    pub height: u32,
    /// Width of the input in pixels.
    pub width: u32,
    /// Subtracted from each channel of RGB/255.
    pub mean: [f32; 3],
    /// Divides each channel after that.
    pub std: [f32; 3],
}

impl Recipe {
    /// Mean of ImageNet's RGB/255, as torchvision's pretrained networks expect it.
    pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    /// Standard deviation of ImageNet's RGB/255.
    pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

    /// An input of `height` x `width` pixels with ImageNet's mean and deviation.
    pub fn imagenet(height: u32, width: u32) -> Recipe {
        Recipe { height, width, mean: Recipe::IMAGENET_MEAN, std: Recipe::IMAGENET_STD }
    }

    /// Numbers in one view: 3 x height x width.
    pub fn len(&self) -> usize {
        3 * self.height as usize * self.width as usize
    }

    /// Whether a view has no pixels (a recipe that no image can follow).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// (height, width) of the image that crops are cut from: 9/8 of the input, rounded to nearest (288x144 for
    /// 256x128, 144x72 for 128x64).
    pub fn enlarged(&self) -> (u32, u32) {
        ((self.height * 9 + 4) / 8, (self.width * 9 + 4) / 8)
    }

    /// Writes one training view as normalised RGB planes `[3, height, width]`. `rng` gives the crop's top, then its
    /// left, then the flip.
    ///
    /// # Panics
    /// Where `out` is not [`Recipe::len`] long or a side is 0.
    pub fn train(&self, image: &RgbImage, augment: Augment, rng: &mut impl Rng, out: &mut [f32]) {
        let size = (self.height, self.width);
        let (view, flip) = match augment {
            Augment::None => (resize(image, size.0, size.1), false),
            Augment::Flip => (resize(image, size.0, size.1), rng.random()),
            Augment::CropFlip => {
                let scaled = self.enlarged();
                let top = rng.random_range(0..=scaled.0 - size.0);
                let left = rng.random_range(0..=scaled.1 - size.1);
                (window(image, scaled, (top, left), size), rng.random())
            }
        };
        self.write(&view, (0, 0), flip, out);
    }

    /// Writes the test views one after another, each normalised RGB planes `[3, height, width]`.
    ///
    /// # Panics
    /// Where `out` is not `views.count() * self.len()` long or a side is 0.
    pub fn test(&self, image: &RgbImage, views: TestViews, out: &mut [f32]) {
        assert_eq!(out.len(), views.count() * self.len(), "a slot for each view");
        let size = (self.height, self.width);
        let scaled = self.enlarged();
        let (down, right) = (scaled.0 - size.0, scaled.1 - size.1);
        let centre = (down / 2, right / 2);
        let corners = [centre, (0, 0), (0, right), (down, 0), (down, right)];
        let (image, crops, mirrored) = match views {
            TestViews::Original => (resize(image, size.0, size.1), &[(0, 0)][..], false),
            TestViews::Flip => (resize(image, size.0, size.1), &[(0, 0)][..], true),
            TestViews::Centre => (resize(image, scaled.0, scaled.1), &corners[..1], false),
            TestViews::CentreFlip => (resize(image, scaled.0, scaled.1), &corners[..1], true),
            TestViews::FiveCrops => (resize(image, scaled.0, scaled.1), &corners[..], false),
            TestViews::TenCrops => (resize(image, scaled.0, scaled.1), &corners[..], true),
        };
        let flips: &[bool] = if mirrored { &[false, true] } else { &[false] };
        let order = flips.iter().flat_map(|&flip| crops.iter().map(move |&corner| (corner, flip)));
        for ((corner, flip), slot) in order.zip(out.chunks_exact_mut(self.len())) {
            self.write(&image, corner, flip, slot);
        }
    }

    /// Normalised planes of the window at `(top, left)`, mirrored where `flip`.
    fn write(&self, image: &RgbImage, (top, left): (u32, u32), flip: bool, out: &mut [f32]) {
        assert_eq!(out.len(), self.len(), "a view is 3 x height x width");
        let (height, width, stride) = (self.height as usize, self.width as usize, image.width() as usize);
        let table: [[f32; 256]; 3] = std::array::from_fn(|c| {
            std::array::from_fn(|v| (v as f32 / 255.0 - self.mean[c]) / self.std[c]) // v < 256 is exact in f32
        });
        let (red, rest) = out.split_at_mut(height * width);
        let (green, blue) = rest.split_at_mut(height * width);
        let planes = red.chunks_exact_mut(width).zip(green.chunks_exact_mut(width)).zip(blue.chunks_exact_mut(width));
        for (y, ((red, green), blue)) in planes.enumerate() {
            let start = 3 * ((top as usize + y) * stride + left as usize);
            let row = image.as_raw()[start..start + 3 * width].chunks_exact(3);
            let cells = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
            let put = |(((r, g), b), pixel): (((&mut f32, &mut f32), &mut f32), &[u8])| {
                *r = table[0][usize::from(pixel[0])];
                *g = table[1][usize::from(pixel[1])];
                *b = table[2][usize::from(pixel[2])];
            };
            if flip {
                cells.zip(row.rev()).for_each(put);
            } else {
                cells.zip(row).for_each(put);
            }
        }
    }

    /// Refuses a recipe that no image can follow.
    ///
    /// # Errors
    /// One line: a side of 0 or above [`MAX_SIDE`] less the ninth that crops need, or a deviation that is not above 0.
    pub fn check(&self) -> Result<()> {
        let most = MAX_SIDE / 9 * 8;
        let sides = [("height", self.height), ("width", self.width)];
        for (side, value) in sides {
            ensure!(value > 0 && value <= most, "an input {side} of {value} pixels: give one from 1 to {most}");
        }
        if self.std.iter().any(|&s| !(s.is_finite() && s > 0.0)) || self.mean.iter().any(|m| !m.is_finite()) {
            bail!("mean {:?} and std {:?} cannot normalise an image: std must be above 0", self.mean, self.std);
        }
        Ok(())
    }
}
