//! From an image file to its pixels: bounded reading and decoding, Pillow's bilinear resize, PyTorch's area resize, warps.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::io::{self, Cursor};
use std::ops::Range;
use std::path::Path;
use std::sync::Once;

use anyhow::{Result, anyhow, ensure};
use fast_image_resize as fir;
use image::error::DecodingError;
use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult, Limits, RgbImage,
};
use serde::{Deserialize, Serialize};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

use crate::say::note;

use crate::files;

/// The longest side, in pixels, of an image that is decoded; longer ones are refused from their header.
pub const MAX_SIDE: u32 = 16_384;
/// The most bytes a file, or its decoded pixels, may take; more is refused before anything is allocated.
pub const MAX_BYTES: u64 = 512 << 20;

const AGAIN: &str = "fetch it again or remove it";
const UNREAD: &str = "which is not read: convert it or remove it";

/// Decodes an image by its content, whatever its name says: JPEG, PNG, BMP, GIF (first frame), TIFF, WebP or PNM.
/// Grey, alpha (dropped), 16-bit and CMYK become 8-bit RGB, and the image stands as its EXIF orientation says: as
/// viewers show it and OpenCV's `imread` reads it (Pillow and MATLAB leave it as it lies), so that boxes and sizes are
/// those of the upright image. The first one that is turned is named in a note.
///
/// # Errors
/// One line that begins with `name`: an empty file, no image, a truncated or broken one, or one above [`MAX_SIDE`] or
/// [`MAX_BYTES`], which is refused before its pixels are decoded.
pub fn decode(bytes: &[u8], name: &str) -> Result<RgbImage> {
    let (format, orientation, decoder) = open(bytes, name)?;
    let image = DynamicImage::from_decoder(decoder).map_err(|e| anyhow!("{name}: {}", complaint(format, &e)))?;
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
///
/// # Errors
/// As [`decode`].
pub fn probe(bytes: &[u8], name: &str) -> Result<(u32, u32)> {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let (_, orientation, decoder) = open(bytes, name)?;
    let (width, height) = decoder.dimensions();
    let lies = matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH);
    Ok(if lies { (height, width) } else { (width, height) })
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
    files::read_up_to(path, MAX_BYTES, "the limit").map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => anyhow!("{}: {error} a file: shrink it or remove it", path.display()),
        _ => unreadable(path, &error),
    })
}

/// Why a file cannot be read now: the machine's fault (a disk's, say), and none of the picture's.
#[derive(Debug)]
pub struct Unread(pub String);

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unread {}

fn unreadable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    use std::io::ErrorKind::{InvalidInput, NotFound};
    match error.kind() {
        NotFound => anyhow!("{}: no such file: {AGAIN}", path.display()),
        InvalidInput => anyhow!("{}: cannot be read ({error}): {AGAIN}", path.display()),
        _ => Unread(format!("{}: cannot be read ({error}): {AGAIN}", path.display())).into(),
    }
}

fn open<'a>(bytes: &'a [u8], name: &str) -> Result<(ImageFormat, Orientation, Box<dyn ImageDecoder + 'a>)> {
    const READS: &str = "JPEG, PNG, BMP, GIF, TIFF, WebP and PNM are read";
    ensure!(!bytes.is_empty(), "{name}: an empty file: {AGAIN}");
    let format =
        image::guess_format(bytes).map_err(|_| anyhow!("{name}: not an image ({READS}): convert it or remove it"))?;
    ensure!(format.reading_enabled(), "{name}: a {format:?} image ({READS}): convert it or remove it");
    let jpeg = if format == ImageFormat::Jpeg { Jpeg::of(bytes) } else { None };
    let whole = match format {
        ImageFormat::Jpeg => jpeg.is_some(),
        ImageFormat::Png => png_is_whole(bytes),
        ImageFormat::Bmp => bmp_is_whole(bytes),
        _ => true,
    };
    ensure!(whole, "{name}: a truncated {}: {AGAIN}", title(format));
    let wrong = |e: ImageError| anyhow!("{name}: {}", complaint(format, &e));
    let mut decoder: Box<dyn ImageDecoder> = if let Some(jpeg) = jpeg {
        let odd = jpeg.odd().map_err(|what| anyhow!("{name}: {what}, {UNREAD}"))?;
        // Decoders take zeros or grey for what is missing before the end marker, and say nothing. No picture has a code
        // of sixteen ones: where the data end early, such a code is an error; where they don't, it is never reached.
        let end = bytes[..jpeg.end].iter().rposition(|&byte| byte != 0xff).map_or(0, |last| last + 1); // of fill
        let bytes = [&bytes[..end], &[0xff, 0].repeat(16), b"\xff\xd9"].concat();
        if odd { Box::new(Odd::new(bytes).map_err(wrong)?) } else { Box::new(Common::new(bytes).map_err(wrong)?) }
    } else {
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(MAX_BYTES);
        reader.limits(limits);
        Box::new(reader.into_decoder().map_err(wrong)?)
    };
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
    Ok((format, orientation, decoder))
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

/// What the segments of a JPEG say.
#[derive(Default)]
struct Jpeg<'a> {
    /// The marker and the content of its frame header.
    frame: Option<(u8, &'a [u8])>,
    scans: usize,
    /// Where its end-of-image marker stands.
    end: usize,
    /// Channels and their coefficients, a bit each, of which a scan gave the last bit.
    given: Vec<(u8, u64)>,
    jfif: bool,
    /// The colour transform that an Adobe segment names.
    adobe: Option<u8>,
}

impl<'a> Jpeg<'a> {
    /// None where the segments don't lead to an end-of-image marker. The decoder fills missing rows with grey and says
    /// nothing, so this is asked first. Walking the segments steps over thumbnails, which have markers of their own.
    fn of(bytes: &'a [u8]) -> Option<Jpeg<'a>> {
        let mut jpeg = Jpeg::default();
        let mut at = 2; // after the start-of-image marker, which guess_format saw
        loop {
            // The next marker: 0xFF, any number of 0xFF as filler, then a byte that is neither stuffing nor a restart.
            at += bytes.get(at..)?.iter().position(|&b| b == 0xff)? + 1;
            match *bytes.get(at)? {
                0x00 | 0x01 | 0xd0..=0xd8 => at += 1,
                0xff => {}
                0xd9 => return (jpeg.scans > 0 && jpeg.is_fine()).then_some(Jpeg { end: at - 1, ..jpeg }),
                marker => {
                    let length = usize::from(u16::from_be_bytes([*bytes.get(at + 1)?, *bytes.get(at + 2)?])).max(2);
                    let body = bytes.get(at + 3..at + 1 + length).unwrap_or_default();
                    match marker {
                        0xda => {
                            jpeg.scans += 1;
                            if let [_, channels @ .., first @ 0..64, last @ 0..64, bits] = body
                                && bits & 15 == 0
                            {
                                let coefficients = u64::MAX << first & u64::MAX >> (63 - last);
                                jpeg.given.extend(channels.chunks(2).map(|channel| (channel[0], coefficients)));
                            }
                        }
                        0xc4 | 0xc8 | 0xcc => {} // tables
                        0xc0..=0xcf => jpeg.frame = jpeg.frame.or(Some((marker, body))),
                        0xe0 => jpeg.jfif |= body.starts_with(b"JFIF\0"),
                        0xee if body.starts_with(b"Adobe") => jpeg.adobe = body.get(11).copied(),
                        _ => {}
                    }
                    at += 1 + length;
                }
            }
        }
    }

    /// Whether a progressive one was refined to its end.
    fn is_fine(&self) -> bool {
        let Some((0xc2, &[_, _, _, _, _, _, ref parts @ ..])) = self.frame else { return true };
        let given = |id| self.given.iter().filter(|of| of.0 == id).fold(0, |all, of| all | of.1);
        parts.chunks(3).all(|part| given(part[0]) == u64::MAX)
    }

    /// Whether it is a job for [`Odd`]; or what it is, where no decoder here gets it right.
    fn odd(&self) -> Result<bool, &'static str> {
        let Some((marker, &[precision, _, _, _, _, channels, ref parts @ ..])) = self.frame else { return Ok(false) };
        match marker {
            0xc0..=0xc2 => {}
            0xc3 => return Err("a lossless JPEG"),
            0xc9..=0xcb => return Err("an arithmetic-coded JPEG"),
            _ => return Err("a hierarchical JPEG"),
        }
        let parts: Vec<(u8, u8, u8)> =
            parts.chunks_exact(3).map(|part| (part[0], part[1] >> 4, part[1] & 15)).collect();
        let (luma, letters) = (parts.first(), parts.iter().map(|part| part.0).eq(*b"RGB"));
        let rgb = self.adobe == Some(0) || letters;
        match channels {
            _ if precision != 8 => return Err("a JPEG of more than 8 bits a channel"),
            1 => return Ok(false), // its factors mean nothing
            3 if rgb && self.jfif => return Err("a JPEG that names both RGB and YCbCr as its colours"),
            4 if self.adobe == Some(1) => return Err("a JPEG of four channels that names the colours of three"),
            3 | 4 => {}
            _ => return Err("a JPEG of neither one, three nor four channels"),
        }
        if parts.iter().map(|&(_, x, y)| u32::from(x * y)).sum::<u32>() > 10 {
            return Err("a JPEG of more than ten blocks a unit");
        }
        // zune-jpeg, behind `image`, takes the first channel for the finest, divides by 1, 2 and 4, and takes the blocks
        // of a scan of one channel in the order of interleaved ones.
        let finer = |&(_, x, y): &(u8, u8, u8)| luma.is_some_and(|luma| x > luma.1 || y > luma.2) || x == 3 || y == 3;
        let apart = marker != 0xc2 && self.scans > 1 && parts.iter().any(|&(_, x, y)| x > 1 || y > 1);
        let odd = apart || parts.iter().any(finer);
        if odd && (channels == 4 || rgb) { Err("a JPEG of odd sampling in colours other than YCbCr") } else { Ok(odd) }
    }
}

/// JPEGs of common sampling.
struct Common(zune_jpeg::JpegDecoder<ZCursor<Vec<u8>>>);

impl Common {
    fn new(bytes: Vec<u8>) -> ImageResult<Common> {
        let lax = DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX).set_max_height(usize::MAX);
        let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), lax);
        decoder.decode_headers().map_err(broken)?;
        let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
        let colours = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
        decoder.set_options(lax.set_strict_mode(true).jpeg_set_out_colorspace(colours));
        Ok(Common(decoder))
    }
}

impl ImageDecoder for Common {
    fn dimensions(&self) -> (u32, u32) {
        self.0.dimensions().map_or((0, 0), |(width, height)| (width as u32, height as u32))
    }
    fn color_type(&self) -> ColorType {
        if self.0.options().jpeg_get_out_colorspace() == ColorSpace::Luma { ColorType::L8 } else { ColorType::Rgb8 }
    }
    fn exif_metadata(&mut self) -> ImageResult<Option<Vec<u8>>> {
        Ok(self.0.exif().cloned())
    }
    fn read_image(mut self, out: &mut [u8]) -> ImageResult<()> {
        self.0.decode_into(out).map_err(broken)
    }
    fn read_image_boxed(self: Box<Self>, out: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(out)
    }
}

/// JPEGs in YCbCr of rare sampling, by a slower decoder.
struct Odd {
    decoder: jpeg_decoder::Decoder<Cursor<Vec<u8>>>,
    size: (u16, u16),
}

impl Odd {
    fn new(bytes: Vec<u8>) -> ImageResult<Odd> {
        let mut decoder = jpeg_decoder::Decoder::new(Cursor::new(bytes));
        decoder.read_info().map_err(broken)?;
        let size = decoder.info().map_or((0, 0), |info| (info.width, info.height));
        Ok(Odd { decoder, size })
    }
}

fn broken(error: impl Error + Send + Sync + 'static) -> ImageError {
    ImageError::Decoding(DecodingError::new(ImageFormat::Jpeg.into(), error))
}

impl ImageDecoder for Odd {
    fn dimensions(&self) -> (u32, u32) {
        (self.size.0.into(), self.size.1.into())
    }
    fn color_type(&self) -> ColorType {
        ColorType::Rgb8
    }
    fn exif_metadata(&mut self) -> ImageResult<Option<Vec<u8>>> {
        Ok(self.decoder.exif_data().map(<[u8]>::to_vec))
    }
    fn read_image(mut self, out: &mut [u8]) -> ImageResult<()> {
        out.copy_from_slice(&self.decoder.decode().map_err(broken)?);
        Ok(())
    }
    fn read_image_boxed(self: Box<Self>, out: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(out)
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
