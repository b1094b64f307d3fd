//! JPEG through libjpeg-turbo (by way of mozjpeg), which Pillow, OpenCV and torchvision read with too: the same pixels,
//! but none of its guesses. It fills what is missing or broken with grey or zeros and warns; here that is an error.

use std::ffi::c_int;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use image::error::{DecodingError, ImageError};
use image::{ColorType, ImageDecoder, ImageFormat, ImageResult};
use mozjpeg::decompress::{DecompressBuilder, DecompressStarted};
use mozjpeg::{ColorSpace, Decompress, Marker};
use mozjpeg_sys::*;

use super::{AGAIN, UNREAD};

/// Bytes that may stand between the data of the last unit and the next marker: cameras and editors leave a few. More
/// are rows that the header denies.
const SPARE: c_int = 64;
/// Each scan is a pass over all pixels, and encoders make about ten; a file of very many is made to take hours.
const MOST_SCANS: usize = 500;

/// What is wrong with a JPEG, in words that go on after its name.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Fault(String);

impl Fault {
    fn truncated() -> Fault {
        Fault(format!("a truncated JPEG: {AGAIN}"))
    }

    /// What libjpeg stopped at, by its code.
    fn of(code: J_MESSAGE_CODE, text: &str) -> Fault {
        match code {
            JWRN_JPEG_EOF | JWRN_HIT_MARKER => Fault::truncated(),
            JERR_ARITH_NOTIMPL
            | JERR_BAD_MCU_SIZE
            | JERR_BAD_PRECISION
            | JERR_CCIR601_NOTIMPL
            | JERR_COMPONENT_COUNT
            | JERR_CONVERSION_NOTIMPL
            | JERR_FRACT_SAMPLE_NOTIMPL
            | JERR_NOT_COMPILED
            | JERR_SOF_UNSUPPORTED
            | JWRN_ADOBE_XFORM => Fault(format!("a kind of JPEG ({text}), {UNREAD}")),
            _ => Fault(format!("a broken JPEG ({text}): {AGAIN}")),
        }
    }
}

/// Unwinds to [`caught`], past libjpeg's frames, which are compiled for it.
extern "C-unwind" fn stop(info: &mut jpeg_common_struct) {
    let mut text = [0_u8; 200]; // libjpeg's JMSG_LENGTH_MAX
    // SAFETY: libjpeg calls with its own structure, whose error manager lives as long as it; `format_message` takes
    // a pointer to JMSG_LENGTH_MAX bytes and ends the text with a zero (the binding states a shorter array).
    let code = unsafe {
        let error = &*info.err;
        if let Some(format) = error.format_message {
            type Format = unsafe extern "C-unwind" fn(&mut jpeg_common_struct, *mut u8);
            let format: Format = std::mem::transmute(format);
            format(info, text.as_mut_ptr());
        }
        (*info.err).msg_code as J_MESSAGE_CODE
    };
    let text = String::from_utf8_lossy(text.split(|&byte| byte == 0).next().unwrap_or_default());
    resume_unwind(Box::new(Fault::of(code, &text)));
}

/// libjpeg's warnings, which have a level below 0, and its chatter.
extern "C-unwind" fn warned(info: &mut jpeg_common_struct, level: c_int) {
    // SAFETY: as above; messages of numbers have up to eight.
    let (code, [bytes, marker, ..]) = unsafe { ((*info.err).msg_code, *(*info.err).msg_parm.i()) };
    let harmless = match code as J_MESSAGE_CODE {
        JWRN_JFIF_MAJOR | JWRN_NOT_SEQUENTIAL => true,
        JWRN_EXTRANEOUS_DATA => bytes <= SPARE && !(0xd0..=0xd7).contains(&marker), // not before a restart
        _ => false,
    };
    if level < 0 && !harmless {
        stop(info);
    }
}

fn caught<T>(work: impl FnOnce() -> io::Result<T>) -> ImageResult<T> {
    let fault = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => Fault(format!("a broken JPEG ({error}): {AGAIN}")),
        Err(panic) => *panic.downcast::<Fault>().unwrap_or_else(|other| resume_unwind(other)),
    };
    Err(broken(fault))
}

fn broken(fault: Fault) -> ImageError {
    ImageError::Decoding(DecodingError::new(ImageFormat::Jpeg.into(), fault))
}

/// A JPEG whose header is read.
pub(super) struct Jpeg<'a> {
    decoder: Decompress<&'a [u8]>,
    scans: usize,
    /// Which part of the sides is decoded: 1 or 2.
    part: u32,
}

impl<'a> Jpeg<'a> {
    /// Reads the header, and sees that the file is there to its last byte and scan.
    pub(super) fn new(bytes: &'a [u8]) -> ImageResult<Jpeg<'a>> {
        let scans = scans(bytes).ok_or_else(|| broken(Fault::truncated()))?;
        if scans > MOST_SCANS {
            return Err(broken(Fault(format!("a JPEG of {scans} scans, {UNREAD}"))));
        }
        // SAFETY: all zeros are an error manager, and the call fills it.
        let mut errors: jpeg_error_mgr = unsafe { std::mem::zeroed() };
        unsafe { jpeg_std_error(&mut errors) };
        errors.error_exit = Some(stop);
        errors.emit_message = Some(warned);
        let decoder =
            caught(|| DecompressBuilder::new().with_err(errors).with_markers(&[Marker::APP(1)]).from_mem(bytes))?;
        Ok(Jpeg { decoder, scans, part: 1 })
    }

    /// Decodes to half the width and height, from the lower half of each block's frequencies.
    pub(super) fn halve(&mut self) {
        self.decoder.scale(4); // of 8
        self.part = 2;
    }

    fn start(self) -> ImageResult<DecompressStarted<&'a [u8]>> {
        let four = matches!(self.decoder.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK);
        let colours = if four { ColorSpace::JCS_CMYK } else { ColorSpace::JCS_RGB };
        caught(|| self.decoder.to_colorspace(colours))
    }

    /// What [`Jpeg::new`] cannot see yet and costs no pixels: whether its colours and sampling are decoded.
    pub(super) fn check(self) -> ImageResult<()> {
        // With more scans than one the start reads them all.
        if self.scans == 1 { self.start().map(drop) } else { Ok(()) }
    }
}

impl ImageDecoder for Jpeg<'_> {
    fn dimensions(&self) -> (u32, u32) {
        let (width, height) = self.decoder.size();
        ((width as u32).div_ceil(self.part), (height as u32).div_ceil(self.part))
    }

    fn color_type(&self) -> ColorType {
        ColorType::Rgb8
    }

    fn exif_metadata(&mut self) -> ImageResult<Option<Vec<u8>>> {
        Ok(self.decoder.markers().find_map(|marker| marker.data.strip_prefix(b"Exif\0\0").map(<[u8]>::to_vec)))
    }

    fn read_image(self, out: &mut [u8]) -> ImageResult<()> {
        let mut started = self.start()?;
        caught(|| {
            if started.color_space() == ColorSpace::JCS_CMYK {
                let mut inks = vec![0; 4 * started.width()];
                for row in out.chunks_exact_mut(3 * started.width()) {
                    started.read_scanlines_into(&mut inks)?;
                    row.chunks_exact_mut(3)
                        .zip(inks.chunks_exact(4))
                        .for_each(|(rgb, inks)| rgb.copy_from_slice(&light(inks)));
                }
            } else {
                started.read_scanlines_into(out)?;
            }
            started.finish() // reads to the end marker
        })
    }

    fn read_image_boxed(self: Box<Self>, out: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(out)
    }
}

/// RGB of four inks as Adobe stores them, inverted, in Pillow's arithmetic: (1 - ink)(1 - black), rounded.
fn light(inks: &[u8]) -> [u8; 3] {
    let black = u32::from(inks[3]);
    [0, 1, 2].map(|channel| {
        let product = (255 - u32::from(inks[channel])) * black + 128;
        (black - (((product >> 8) + product) >> 8)) as u8
    })
}

/// The number of scans before the end-of-image marker; none where the segments don't lead to one, or where a
/// progressive picture was not refined to its end, of which libjpeg says nothing. Walking the segments steps over
/// thumbnails, which have markers of their own.
fn scans(bytes: &[u8]) -> Option<usize> {
    let (mut scans, mut frame) = (0, None::<(u8, &[u8])>);
    // Channels and their coefficients, a bit each, of which a scan gave the last bit.
    let mut given: Vec<(u8, u64)> = Vec::new();
    let mut at = 2; // after the start-of-image marker, which guess_format saw
    loop {
        // The next marker: 0xFF, any number of 0xFF as filler, then a byte that is neither stuffing nor a restart.
        at += bytes.get(at..)?.iter().position(|&b| b == 0xff)? + 1;
        match *bytes.get(at)? {
            0x00 | 0x01 | 0xd0..=0xd8 => at += 1,
            0xff => {}
            0xd9 => {
                let Some((0xc2, [_, _, _, _, _, _, channels @ ..])) = frame else {
                    return (scans > 0).then_some(scans);
                };
                let all = |id| given.iter().filter(|of| of.0 == id).fold(0, |all, of| all | of.1) == u64::MAX;
                return channels.chunks(3).all(|channel| all(channel[0])).then_some(scans);
            }
            marker => {
                let length = usize::from(u16::from_be_bytes([*bytes.get(at + 1)?, *bytes.get(at + 2)?])).max(2);
                let body = bytes.get(at + 3..at + 1 + length).unwrap_or_default();
                match marker {
                    0xda => {
                        scans += 1;
                        if let [_, channels @ .., first @ 0..64, last @ 0..64, bits] = body
                            && bits & 15 == 0
                        {
                            let coefficients = u64::MAX << first & u64::MAX >> (63 - last);
                            given.extend(channels.chunks(2).map(|channel| (channel[0], coefficients)));
                        }
                    }
                    0xc4 | 0xc8 | 0xcc => {} // tables
                    0xc0..=0xcf => frame = frame.or(Some((marker, body))),
                    _ => {}
                }
                at += 1 + length;
            }
        }
    }
}
