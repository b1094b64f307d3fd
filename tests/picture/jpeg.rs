//! JPEGs that are cut, damaged or odd.

use image::{DynamicImage, ImageFormat};
use mozjpeg::{ColorSpace, Compress, Marker};
use rankle::picture;

use crate::common::{encoded, jpeg, line, picture};

/// 24 x 24 grey pixels in six scans, as cjpeg writes them.
const PROGRESSIVE: &str = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpRUk//wgALCAAYABgBAREA/8QAFwAAAwEAAAAAAAAAAAAAAAAAAwQFAv/aAAgBAQAAAAFqczNtImHr/8QAGxAAAQUBAQAAAAAAAAAAAAAAAQACAxITBCH/2gAIAQEAAQUCbIA2VlzCc1ITfnALerw42RkzQGq//8QAFxAAAwEAAAAAAAAAAAAAAAAAABEhEP/aAAgBAQAGPwJDLlIMWf/EABkQAAMAAwAAAAAAAAAAAAAAAAABERAhMf/aAAgBAQABPyG7DJiUJysBMVQ1KR3n/9oACAEBAAAAEB7/AP/EABoQAQEBAQADAAAAAAAAAAAAABEBACFBgbH/2gAIAQEAAT8QdUQx1Y6UJxu5B0VSnnWp8afutcNMVd3/2Q==";

#[test]
fn a_jpeg_cut_short_is_seen_although_an_end_marker_closes_it() {
    use base64::Engine;
    let progressive = base64::engine::general_purpose::STANDARD.decode(PROGRESSIVE).unwrap();
    let grey = DynamicImage::from(picture(40, 24)).into_luma8();
    let odd = blocks([(1, 1), (2, 2), (2, 2)], false, &[1, 2, 3], &[]);
    for whole in [jpeg(64, 128), jpeg(1, 1), encoded(&grey.into(), ImageFormat::Jpeg), odd, progressive] {
        let (at, end) = (whole.windows(2).position(|two| two == b"\xff\xda").unwrap() + 14, whole.len() - 2);
        for fill in [&b""[..], b"\xff", b"\xff\xff"] {
            picture::decode(&[&whole[..end], fill, b"\xff\xd9"].concat(), "whole").unwrap();
        }
        for cut in [at, at + (end - at) / 4, at + (end - at) / 2, at + (end - at) * 7 / 8] {
            let text = line(picture::decode(&[&whole[..cut], b"\xff\xd9"].concat(), "cut.jpg"));
            let said = text.starts_with("cut.jpg: a broken JPEG") || text.starts_with("cut.jpg: a truncated JPEG");
            assert!(said && text.ends_with("fetch it again or remove it"), "{cut} of {end}: {text}");
        }
    }
}

/// Factors of a JPEG's three channels.
type Factors = [(usize, usize); 3];

/// What the level of the 8 x 8 block (x, y) of a channel is.
fn level(channel: usize, x: usize, y: usize) -> i32 {
    [90, 100, 150][channel] + 9 * ((3 * x + 5 * y + channel) % 7) as i32
}

/// A baseline JPEG of 32 x 32 pixels whose blocks are flat, its channels in one scan or each in its own.
fn blocks(factors: Factors, apart: bool, ids: &[u8; 3], extra: &[u8]) -> Vec<u8> {
    let mut out = [b"\xff\xd8", extra, b"\xff\xdb\0\x43\0", &[8; 64], b"\xff\xc0\0\x11\x08\0\x20\0\x20\x03"].concat();
    ids.iter().zip(factors).for_each(|(&id, (x, y))| out.extend([id, (x << 4 | y) as u8, 0]));
    // DC: a code of four bits for each of 12 sizes. AC: a code of one bit, the end of the block.
    out.extend(b"\xff\xc4\0\x1f\0\0\0\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b");
    out.extend(b"\xff\xc4\0\x14\x10\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let most = (factors.iter().map(|f| f.0).max().unwrap(), factors.iter().map(|f| f.1).max().unwrap());
    let scans: &[&[usize]] = if apart { &[&[0], &[1], &[2]] } else { &[&[0, 1, 2]] };
    for scan in scans {
        out.extend([0xff, 0xda, 0, 6 + 2 * scan.len() as u8, scan.len() as u8]);
        scan.iter().for_each(|&channel| out.extend([ids[channel], 0]));
        out.extend([0, 63, 0]);
        let mut order = Vec::new();
        // A unit holds its channels' blocks; a scan of one channel has them row by row.
        let (across, down) = if apart { (1, 1) } else { (4 / most.0, 4 / most.1) };
        for (v, u) in (0..down).flat_map(|v| (0..across).map(move |u| (v, u))) {
            for &channel in *scan {
                let (x, y) = factors[channel];
                let (x, y) = if apart { (4 * x / most.0, 4 * y / most.1) } else { (x, y) };
                order.extend((0..y).flat_map(|j| (0..x).map(move |i| (channel, u * x + i, v * y + j))));
            }
        }
        let (mut bits, mut last) = (String::new(), [128; 3]);
        for (channel, x, y) in order {
            let step = level(channel, x, y) - std::mem::replace(&mut last[channel], level(channel, x, y));
            let size = (32 - step.unsigned_abs().leading_zeros()) as usize;
            bits += &format!("{size:04b}");
            let value = if step < 0 { step + (1 << size) - 1 } else { step };
            bits += &if size > 0 { format!("{value:0size$b}0") } else { "0".into() };
        }
        bits += &"1".repeat((8 - bits.len() % 8) % 8);
        for byte in bits.as_bytes().chunks(8) {
            let byte = byte.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0'));
            out.extend([byte, 0].iter().take(if byte == 0xff { 2 } else { 1 }));
        }
    }
    [&out[..], b"\xff\xd9"].concat()
}

#[test]
fn jpegs_of_odd_sampling_are_read_right_or_refused_by_name() {
    let plain: Factors = [(1, 1); 3];
    let cases: [Factors; 12] = [
        plain,
        [(2, 2), (1, 1), (1, 1)],
        [(2, 1), (1, 1), (1, 1)],
        [(1, 2), (1, 1), (1, 1)],
        [(1, 1), (2, 2), (2, 2)],
        [(1, 1), (2, 1), (2, 1)],
        [(1, 1), (1, 2), (1, 2)],
        [(1, 1), (2, 2), (1, 1)],
        [(2, 1), (1, 1), (2, 1)],
        [(2, 1), (1, 2), (1, 2)],
        [(2, 2), (2, 1), (1, 2)],
        [(4, 1), (1, 1), (2, 1)],
    ];
    for (factors, apart) in cases.into_iter().flat_map(|factors| [(factors, false), (factors, true)]) {
        let bytes = blocks(factors, apart, &[1, 2, 3], &[]);
        assert_eq!(picture::probe(&bytes, "odd").unwrap(), (32, 32));
        let image = picture::decode(&bytes, "odd").unwrap();
        let most = (factors.iter().map(|f| f.0).max().unwrap(), factors.iter().map(|f| f.1).max().unwrap());
        for (x, y) in (0..4).flat_map(|y| (0..4).map(move |x| (x, y))) {
            let [luma, cb, cr] = [0, 1, 2].map(|channel| {
                let (across, down) = factors[channel];
                f64::from(level(channel, x * across / most.0, y * down / most.1))
            });
            let (cb, cr) = (cb - 128., cr - 128.);
            let rgb = [luma + 1.402 * cr, luma - 0.344_136 * cb - 0.714_136 * cr, luma + 1.772 * cb];
            let pixel = image.get_pixel(8 * x as u32 + 4, 8 * y as u32 + 4).0;
            let off = pixel.iter().zip(rgb).map(|(&a, b)| (f64::from(a) - b.clamp(0., 255.)).abs()).fold(0., f64::max);
            assert!(off <= 3., "{factors:?}, scans apart: {apart}, block {x} {y}: {pixel:?} for {rgb:?}");
        }
    }
    let patched = |at: usize, byte: u8| {
        let mut bytes = blocks(plain, false, &[1, 2, 3], &[]);
        let frame = bytes.windows(2).position(|two| two == b"\xff\xc0").unwrap();
        bytes[frame + at] = byte;
        bytes
    };
    for (bytes, why) in [
        (patched(1, 0xc3), "SOF type 0xc3"), // lossless
        (patched(1, 0xc5), "SOF type 0xc5"), // hierarchical
        (patched(1, 0xc9), "arithmetic coding"),
        (patched(4, 12), "precision 12"),
        (blocks([(2, 2); 3], false, &[1, 2, 3], &[]), "Sampling factors too large"),
        (blocks([(3, 1), (2, 1), (1, 1)], false, &[1, 2, 3], &[]), "Fractional sampling"),
    ] {
        for text in [line(picture::decode(&bytes, "odd.jpg")), line(picture::probe(&bytes, "odd.jpg"))] {
            assert!(text.starts_with("odd.jpg: a kind of JPEG (") && text.contains(why), "{text}");
            assert!(text.ends_with("which is not read: convert it or remove it"), "{text}");
        }
    }
}

#[test]
fn a_jpeg_with_damage_inside_is_refused() {
    let whole = jpeg(96, 96);
    let start = whole.windows(2).position(|two| two == b"\xff\xda").unwrap() + 14;
    let refused = |bytes: &[u8], what: &str| {
        let text = line(picture::decode(bytes, "hole.jpg"));
        assert!(text.starts_with("hole.jpg: a broken JPEG") || text.contains("truncated JPEG"), "{what}: {text}");
    };
    let middle = start + (whole.len() - start) / 2;
    refused(&[&whole[..middle], &whole[middle + 300..]].concat(), "bytes taken out");
    refused(&[&whole[..middle], &[0; 400], &whole[middle + 400..]].concat(), "zeros");
    let frame = whole.windows(2).position(|two| two == b"\xff\xc0").unwrap();
    for height in [48_u8, 200] {
        let mut bytes = whole.clone();
        bytes[frame + 6] = height;
        refused(&bytes, &format!("a height of {height} for 96"));
    }
    // A few bytes of nobody before the end marker, as some cameras leave them, harm nothing.
    let end = whole.len() - 2;
    picture::decode(&[&whole[..end], b"\x12\x34", b"\xff\xd9"].concat(), "spare").unwrap();
}

/// A progressive JPEG of 800 x 400 pixels, smooth and different in every corner, that is to be turned as EXIF says.
fn smooth(colours: ColorSpace, channels: usize, turn: u8) -> Vec<u8> {
    let level = |i: usize| {
        let [x, y, c] = [i / channels % 800, i / channels / 800, i % channels].map(|at| at as f64);
        (110. + 0.06 * x + 0.1 * y + 40. * (x / 70. + c).sin() * (y / 50. - c).cos()) as u8
    };
    let mut coder = Compress::new(colours);
    coder.set_fastest_defaults();
    coder.set_size(800, 400);
    coder.set_quality(90.);
    coder.set_progressive_mode();
    let exif = [&b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[turn, 0, 0, 0, 0, 0, 0, 0]].concat();
    let mut started = coder.start_compress(Vec::new()).unwrap();
    started.write_marker(Marker::APP(1), &exif);
    started.write_scanlines(&(0..800 * 400 * channels).map(level).collect::<Vec<_>>()).unwrap();
    started.finish().unwrap()
}

#[test]
fn a_jpeg_is_decoded_at_half_whatever_its_colours_scans_and_turn() {
    use ColorSpace::{JCS_CMYK, JCS_GRAYSCALE, JCS_RGB};
    let turned = (1..=8).map(|turn| (JCS_RGB, 3, turn));
    for (colours, channels, turn) in turned.chain([(JCS_GRAYSCALE, 1, 1), (JCS_CMYK, 4, 1), (JCS_CMYK, 4, 6)]) {
        let bytes = smooth(colours, channels, turn);
        assert!(bytes.windows(2).any(|two| two == b"\xff\xc2"), "progressive");
        let size = if turn < 5 { (80, 160) } else { (160, 80) };
        let (whole, half) = (picture::decode(&bytes, "x").unwrap(), picture::decode_for(&bytes, "x", size).unwrap());
        assert_eq!(whole.dimensions(), (5 * size.1, 5 * size.0));
        assert_eq!((2 * half.width(), 2 * half.height()), whole.dimensions());
        let [whole, half] = [whole, half].map(|of| picture::resize(&of, size.0, size.1));
        let off = whole.iter().zip(half.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(off <= 8, "{colours:?}, turned by {turn}: {off} levels");
    }
}
