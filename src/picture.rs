//! From an image file to its pixels: bounded reading and decoding, and Pillow's bilinear resize.

use std::cell::RefCell;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use fast_image_resize as fir;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::files;

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
    let length = files::open(path).and_then(|file| file.metadata()).map_err(|e| unreadable(path, &e))?.len();
    ensure!(
        length <= MAX_BYTES,
        "{}: {} MiB, above the limit of {} MiB a file: shrink it or remove it",
        path.display(),
        length >> 20,
        MAX_BYTES >> 20
    );
    files::read(path).map_err(|e| unreadable(path, &e))
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
pub(crate) fn window(image: &RgbImage, scaled: (u32, u32), (top, left): (u32, u32), size: (u32, u32)) -> RgbImage {
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
