//! From an image file to its pixels: bounded reading and decoding, Pillow's bilinear resize, PyTorch's area resize, warps.

mod jpeg;

use std::borrow::Cow;
use std::cell::RefCell;
use std::error::Error;
use std::io::{self, Cursor};
use std::ops::Range;
use std::path::Path;
use std::sync::Once;

use anyhow::{Context, Result, anyhow, ensure};
use fast_image_resize as fir;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use serde::{Deserialize, Serialize};

use crate::say::note;

use crate::files;
use crate::folders::is_unread;
use jpeg::Jpeg;

/// The longest side, in pixels, of an image that is decoded; longer ones are refused from their header.
pub const MAX_SIDE: u32 = 16_384;
/// The most bytes a file, or its decoded pixels, may take; more is refused before anything is allocated.
pub const MAX_BYTES: u64 = 512 << 20;

const AGAIN: &str = "fetch it again or remove it";
const UNREAD: &str = "which is not read: convert it or remove it";

/// Decodes an image by its content, whatever its name says: JPEG, PNG, BMP, GIF (first frame), TIFF, WebP or PNM.
/// Grey, alpha (dropped), 16-bit and CMYK become 8-bit RGB, and the image stands as its EXIF orientation says: as
/// viewers show it and OpenCV's `imread` reads it (Pillow and MATLAB leave it as it lies), so that boxes and sizes are
/// those of the upright image. The first one that is turned is named in a note. Pixels are Pillow's to the last bit, but
/// for WebP of the lossy kind, within three levels.
///
/// # Errors
/// One line that begins with `name`: an empty file, no image, a truncated or broken one, or one above [`MAX_SIDE`] or
/// [`MAX_BYTES`], which is refused before its pixels are decoded.
pub fn decode(bytes: &[u8], name: &str) -> Result<RgbImage> {
    decode_to(bytes, name, None)
}

/// As [`decode`], of an image that will be resized to `size` (height, width): a JPEG of even sides, each [`SPARE`] times as
/// long at least, is decoded at half of them, which takes half of the time. Resized, it is within two grey levels of the whole
/// one on average, and within eight but for a few pixels (up to twelve) on edges of saturated colours.
pub fn decode_for(bytes: &[u8], name: &str, size: (u32, u32)) -> Result<RgbImage> {
    decode_to(bytes, name, Some(size))
}

/// How many times longer than those it is resized to the sides of an image must be that is decoded at half of them. At 4,
/// edges in photographs are up to 13 grey levels off.
pub const SPARE: f64 = 4.8;

fn decode_to(bytes: &[u8], name: &str, size: Option<(u32, u32)>) -> Result<RgbImage> {
    let (format, orientation, mut opened) = open(bytes, name)?;
    if let (Opened::Jpeg(decoder), Some((height, width))) = (&mut opened, size) {
        let (wide, high) = decoder.dimensions();
        // As the file has it, the image may lie on its side.
        let (height, width) = if lies(orientation) { (width, height) } else { (height, width) };
        let fits = |all: u32, kept: u32| all.is_multiple_of(2) && all >= 8 && f64::from(all) >= SPARE * f64::from(kept);
        if fits(wide, width) && fits(high, height) {
            decoder.halve();
        }
    }
    let image = match opened {
        Opened::Jpeg(decoder) => DynamicImage::from_decoder(*decoder),
        Opened::Other(decoder) => DynamicImage::from_decoder(decoder),
    };
    let image = image.map_err(|e| anyhow!("{name}: {}", complaint(format, &e)))?;
    if orientation == Orientation::NoTransforms {
        return Ok(image.into_rgb8());
    }
    static SAID: Once = Once::new();
    SAID.call_once(|| note(format!("{name} is turned by its EXIF orientation, as all such photos are")));
    let mut image = DynamicImage::from(image.into_rgb8());
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// Width and height, as [`decode`] turns the image, from the header alone, after every test of [`decode`] that needs no
/// decoded pixel: the limits, and that a JPEG or a PNG is there to its last byte.
pub fn probe(bytes: &[u8], name: &str) -> Result<(u32, u32)> {
    let (format, orientation, mut opened) = open(bytes, name)?;
    let (width, height) = opened.header().dimensions();
    if let Opened::Jpeg(decoder) = opened {
        decoder.check().map_err(|e| anyhow!("{name}: {}", complaint(format, &e)))?;
    }
    Ok(if lies(orientation) { (height, width) } else { (width, height) })
}

/// Whether the upright image is as wide as the file's is high.
fn lies(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH)
}

/// Reads and decodes one file; see [`decode`].
pub fn load(path: &Path) -> Result<RgbImage> {
    decode(&read(path)?, &path.display().to_string())
}

/// Reads one file and decodes it to be resized; see [`decode_for`].
pub fn load_for(path: &Path, size: (u32, u32)) -> Result<RgbImage> {
    decode_for(&read(path)?, &path.display().to_string(), size)
}

/// The bytes of a regular file of at most [`MAX_BYTES`].
///
/// # Errors
/// One line that names the file: missing, unreadable, not a file, too big, or a kind that is not decoded by its name (see
/// [`is_unread`]), as in folders.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = files::read_up_to(path, MAX_BYTES, "the limit").map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => anyhow!("{}: {error} a file: shrink it or remove it", path.display()),
        _ => unreadable(path, &error),
    })?;
    let shown = path.display();
    ensure!(
        !is_unread(path),
        "{shown}: a photo that is not decoded here, by its name: convert it to JPEG, or rename it if it is one"
    );
    Ok(bytes)
}

/// Why a file cannot be read now: the machine's fault (a disk's, say), and none of the picture's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unread(pub String);

fn unreadable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    use std::io::ErrorKind::{InvalidInput, NotFound, PermissionDenied};
    let limit = error.raw_os_error().is_some_and(|code| [libc::EMFILE, libc::ENFILE].contains(&code));
    let cure = match error.kind() {
        PermissionDenied => "make it readable, or remove it",
        _ if limit => "raise the limit (ulimit -n) and start the same command again",
        _ => AGAIN,
    };
    match error.kind() {
        NotFound => anyhow!("{}: no such file: {AGAIN}", path.display()),
        InvalidInput => anyhow!("{}: cannot be read ({error}): {AGAIN}", path.display()),
        _ => Unread(format!("{}: cannot be read ({error}): {cure}", path.display())).into(),
    }
}

/// A decoder that has read the header.
enum Opened<'a> {
    Jpeg(Box<Jpeg<'a>>),
    Other(Box<dyn ImageDecoder + 'a>),
}

impl<'a> Opened<'a> {
    fn header(&mut self) -> &mut (dyn ImageDecoder + 'a) {
        match self {
            Opened::Jpeg(decoder) => decoder.as_mut(),
            Opened::Other(decoder) => decoder.as_mut(),
        }
    }
}

/// How the kind of a HEIC file begins.
const HEIF: [&[u8]; 6] = [b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1"];

fn open<'a>(bytes: &'a [u8], name: &str) -> Result<(ImageFormat, Orientation, Opened<'a>)> {
    const READS: &str = "JPEG, PNG, BMP, GIF, TIFF, WebP and PNM are read";
    ensure!(!bytes.is_empty(), "{name}: an empty file: {AGAIN}");
    // What phones make, also where its name says JPEG.
    let heif = bytes.get(4..8) == Some(b"ftyp") && bytes.get(8..12).is_some_and(|brand| HEIF.contains(&brand));
    let format = image::guess_format(bytes).map_err(|_| {
        anyhow!("{name}: {} ({READS}): convert it or remove it", if heif { "a HEIC image" } else { "not an image" })
    })?;
    ensure!(format.reading_enabled(), "{name}: a {format:?} image ({READS}): convert it or remove it");
    let whole = match format {
        ImageFormat::Png => bare_png(bytes),
        ImageFormat::Bmp => bmp_is_whole(bytes).then_some(bytes.into()),
        ImageFormat::WebP => webp_is_whole(bytes).then_some(bytes.into()),
        _ => Some(bytes.into()),
    };
    let whole = whole.with_context(|| format!("{name}: a truncated {}: {AGAIN}", title(format)))?;
    let wrong = |e: ImageError| anyhow!("{name}: {}", complaint(format, &e));
    let mut opened = if format == ImageFormat::Jpeg {
        Opened::Jpeg(Box::new(Jpeg::new(bytes).map_err(wrong)?))
    } else {
        let mut reader = ImageReader::with_format(Cursor::new(whole), format);
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(MAX_BYTES);
        reader.limits(limits);
        Opened::Other(Box::new(reader.into_decoder().map_err(wrong)?))
    };
    let decoder = opened.header();
    let orientation = decoder.orientation().map_err(wrong)?;
    let (width, height) = decoder.dimensions();
    ensure!(width > 0 && height > 0, "{name}: a broken {} of {width} x {height} pixels: {AGAIN}", title(format));
    let within = width <= MAX_SIDE && height <= MAX_SIDE && decoder.total_bytes() <= MAX_BYTES;
    ensure!(
        within,
        "{name}: {width} x {height} pixels, above the limit of {MAX_SIDE} a side and {} MiB an image: shrink it or \
         remove it",
        MAX_BYTES >> 20
    );
    Ok((format, orientation, opened))
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

/// What a decoder's error means to a reader and what to do, in one line.
fn complaint(format: ImageFormat, error: &ImageError) -> String {
    let text: String = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let mut cause: Option<&(dyn Error + 'static)> =
        if let ImageError::IoError(of) = error { Some(of) } else { error.source() };
    while let Some(of) = cause {
        if let Some(fault) = of.downcast_ref::<jpeg::Fault>() {
            return fault.to_string();
        }
        if of.downcast_ref::<io::Error>().is_some_and(|of| of.kind() == io::ErrorKind::UnexpectedEof) {
            return format!("a truncated {}: {AGAIN}", title(format));
        }
        cause = of.source();
    }
    match error {
        ImageError::Limits(_) => {
            format!("a {} above the limit of {} MiB an image: {AGAIN}", title(format), MAX_BYTES >> 20)
        }
        ImageError::Unsupported(_) => format!("a kind of {} ({text}), {UNREAD}", title(format)),
        _ => format!("a broken {} ({text}): {AGAIN}", title(format)),
    }
}

/// The PNG without texts and colour profiles, which a decoder would unpack unasked: of a small file, to gigabytes. None where
/// its chunks don't lead to its IEND chunk.
fn bare_png(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (mut kept, mut from, mut at) = (Vec::new(), 0, 8); // after the signature
    loop {
        let head = bytes.get(at..at + 8)?;
        // Length, type, data, checksum.
        let next = at + 12 + u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        match &head[4..] {
            b"iCCP" | b"iTXt" | b"zTXt" => {
                kept.extend(&bytes[from..at]);
                from = next;
            }
            b"IEND" if next > bytes.len() => return None,
            b"IEND" if from == 0 => return Some(bytes.into()),
            b"IEND" => return Some([kept, bytes[from..].to_vec()].concat().into()),
            _ => {}
        }
        at = next;
    }
}

/// Whether the WebP's chunks end within it: a decoder takes the memory that one says it has.
fn webp_is_whole(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((&[_, _, _, _, a, b, c, d], data)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > data.len() {
            return false;
        }
        rest = data.get(length.next_multiple_of(2)..).unwrap_or_default();
    }
    true
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
    // Of one kind of pixel alone: a choice at run time would build the resizer for thirteen kinds.
    let source = fir::images::TypedImageRef::<fir::pixels::U8x3>::from_buffer(width, height, image.as_raw())
        .expect("an RgbImage holds three bytes a pixel");
    let mut resized = RgbImage::new(size.1, size.0);
    let mut target = fir::images::TypedImage::<fir::pixels::U8x3>::from_buffer(size.1, size.0, &mut resized)
        .expect("three bytes a pixel");
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize_typed(&source, &mut target, &options))
        .expect("the box lies within the image");
    resized
}

/// The length, at most `length`, with which `start + length` stays within `end`: rounding may push the box an ulp past
/// the image's edge, which the resizer would refuse.
fn within(start: f64, mut length: f64, end: u32) -> f64 {
    while start + length > f64::from(end) {
        length = length.next_down();
    }
    length
}

/// Rows `rows` of the part (left, top, right, bottom) of `image` at `size` (height, width): each pixel the mean of those that
/// it covers at least in part, as PyTorch's `interpolate(mode="area")`. RGB by RGB, 0 to 255.
///
/// # Panics
/// Where the part has no pixels or does not lie within the image.
pub fn area(image: &RgbImage, part: (u32, u32, u32, u32), size: (u32, u32), rows: Range<u32>) -> Vec<f32> {
    let (left, top, right, bottom) = part;
    assert!(left < right && top < bottom && right <= image.width() && bottom <= image.height(), "a part of the image");
    let span = |i: u32, from: u32, to: u32| {
        let edge = |i: u32| u64::from(i) * u64::from(from);
        ((edge(i) / u64::from(to)) as usize, edge(i + 1).div_ceil(u64::from(to)) as usize)
    };
    let columns: Vec<_> = (0..size.1).map(|x| span(x, right - left, size.1)).collect();
    let (wide, start) = (3 * (right - left) as usize, 3 * left as usize);
    let mut means = Vec::with_capacity(3 * columns.len() * rows.len());
    let mut sums = vec![0_u32; wide];
    for y in rows {
        let (first, last) = span(y, bottom - top, size.0);
        sums.fill(0);
        for y in first..last {
            let row = 3 * image.width() as usize * (top as usize + y) + start;
            sums.iter_mut().zip(&image.as_raw()[row..row + wide]).for_each(|(sum, &v)| *sum += u32::from(v));
        }
        for &(from, to) in &columns {
            let mut rgb = [0_u64; 3];
            for pixel in sums[3 * from..3 * to].chunks_exact(3) {
                rgb.iter_mut().zip(pixel).for_each(|(sum, &v)| *sum += u64::from(v));
            }
            means.extend(rgb.map(|sum| sum as f32 / (last - first) as f32 / (to - from) as f32));
        }
    }
    means
}

/// A similarity of the plane: `(x, y)` to `(a x - b y + dx, b x + a y + dy)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// The cosine of its angle, times its scale.
    pub a: f64,
    /// The sine, times its scale.
    pub b: f64,
    /// Its shift along x.
    pub dx: f64,
    /// Its shift along y.
    pub dy: f64,
}

impl Similarity {
    /// The one that brings `from` nearest to `to`, by squared distances.
    pub fn fit(from: &[[f64; 2]], to: &[[f64; 2]]) -> Similarity {
        let mean = |of: &[[f64; 2]]| [0, 1].map(|i| of.iter().map(|point| point[i]).sum::<f64>() / of.len() as f64);
        let (p, q) = (mean(from), mean(to));
        let (mut a, mut b, mut spread) = (0., 0., 0.);
        for (from, to) in from.iter().zip(to) {
            let ([x, y], [u, v]) = ([from[0] - p[0], from[1] - p[1]], [to[0] - q[0], to[1] - q[1]]);
            (a, b, spread) = (a + x * u + y * v, b + x * v - y * u, spread + x * x + y * y);
        }
        let (a, b) = (a / spread, b / spread);
        Similarity { a, b, dx: q[0] - a * p[0] + b * p[1], dy: q[1] - b * p[0] - a * p[1] }
    }

    /// `image` under it, `side` x `side` pixels, bilinear between the four nearest; black where there is none: as OpenCV's
    /// `warpAffine`.
    pub fn warp(&self, image: &RgbImage, side: u32) -> RgbImage {
        let Similarity { a, b, dx, dy } = *self;
        let scale = a * a + b * b;
        let at = |x: i64, y: i64| {
            let within = x >= 0 && y >= 0 && x < image.width().into() && y < image.height().into();
            if within { image.get_pixel(x as u32, y as u32).0.map(f64::from) } else { [0.; 3] }
        };
        RgbImage::from_fn(side, side, |u, v| {
            let (u, v) = (f64::from(u) - dx, f64::from(v) - dy);
            let (x, y) = ((a * u + b * v) / scale, (a * v - b * u) / scale);
            let (left, top) = (x.floor() as i64, y.floor() as i64);
            let (x, y) = (x - x.floor(), y - y.floor());
            let (next, below) = (left.saturating_add(1), top.saturating_add(1));
            let four = [at(left, top), at(next, top), at(left, below), at(next, below)];
            let weights = [(1. - x) * (1. - y), x * (1. - y), (1. - x) * y, x * y];
            let mix = |c: usize| four.iter().zip(weights).map(|(pixel, weight)| pixel[c] * weight).sum::<f64>();
            image::Rgb([0, 1, 2].map(|c| mix(c).round() as u8))
        })
    }
}
