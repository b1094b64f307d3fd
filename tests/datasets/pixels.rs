//! From files to pixels: what is read, as what, and what is refused.

use image::{DynamicImage, ImageFormat, RgbImage};
use rankle::picture;

use super::{encoded, jpeg, line, picture};

#[test]
fn decode_reads_content_and_refuses_in_one_line() {
    let image = picture(20, 30);
    let grey = DynamicImage::from(image.clone()).into_luma8();
    let deep = DynamicImage::from(image.clone()).into_rgb16();
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Pnm] {
        let bytes = encoded(&image.clone().into(), format);
        assert_eq!(picture::decode(&bytes, "wrong.jpg").unwrap(), image, "{format:?}");
        assert_eq!(picture::probe(&bytes, "wrong.jpg").unwrap(), (20, 30));
    }
    assert_eq!(picture::decode(&encoded(&deep.into(), ImageFormat::Png), "16 bit").unwrap(), image);
    let alpha = DynamicImage::from(image.clone()).into_rgba8();
    assert_eq!(picture::decode(&encoded(&alpha.into(), ImageFormat::Png), "alpha").unwrap(), image);
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let one = picture::decode(&encoded(&grey.clone().into(), format), "grey").unwrap();
        assert!(one.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]));
    }
    // Flat CMYK (30, 200, 100, 40) as Pillow writes it, and what Pillow reads back.
    use base64::Engine;
    let cmyk = base64::engine::general_purpose::STANDARD.decode(CMYK).unwrap();
    let pixel = picture::decode(&cmyk, "cmyk").unwrap().get_pixel(3, 3).0;
    assert_eq!(pixel, CMYK_PIXEL);

    let whole = jpeg(64, 128);
    assert_eq!(picture::decode(&whole, "a.jpg").unwrap().dimensions(), (64, 128));
    // A file is what its name says, whether it is named or lies in a folder: raw photos look like a TIFF.
    let dir = tempfile::tempdir().unwrap();
    for (name, read) in [("a.png", true), ("a.HEIC", false), ("a.nef", false)] {
        std::fs::write(dir.path().join(name), &whole).unwrap();
        let loaded = picture::load(&dir.path().join(name));
        assert_eq!(loaded.is_ok(), read, "{name}");
        assert!(read || line(loaded).contains("not decoded here, by its name: convert it to JPEG"), "{name}");
    }
    for cut in [3, 20, whole.len() / 2, whole.len() - 1] {
        assert_eq!(
            line(picture::decode(&whole[..cut], "a.jpg")),
            "a.jpg: a truncated JPEG: fetch it again or remove it"
        );
        assert!(line(picture::probe(&whole[..cut], "a.jpg")).contains("truncated"));
    }
    // A whole thumbnail in front (as in EXIF) does not make a cut picture whole.
    let mut thumb = vec![0xff, 0xd8, 0xff, 0xe1];
    let small = jpeg(8, 8);
    thumb.extend((small.len() as u16 + 2).to_be_bytes());
    thumb.extend(&small);
    thumb.extend(&whole[2..]);
    assert_eq!(picture::decode(&thumb, "t").unwrap().dimensions(), (64, 128));
    assert!(line(picture::decode(&thumb[..thumb.len() - 40], "t")).contains("truncated JPEG"));
    // Bytes after the end, as cameras and web servers leave them, harm nothing.
    assert!(picture::decode(&[&whole[..], &[0xff, 0xda, 1, 2]].concat(), "t").is_ok());

    let png = encoded(&image.clone().into(), ImageFormat::Png);
    for cut in [9, 40, png.len() / 2, png.len() - 1] {
        assert!(line(picture::decode(&png[..cut], "a.png")).starts_with("a.png: a truncated PNG: fetch"));
    }
    let bmp = encoded(&image.into(), ImageFormat::Bmp);
    assert!(picture::probe(&bmp, "b").is_ok());
    for cut in [9, 40, bmp.len() / 2, bmp.len() - 1] {
        // Seen without decoding its pixels, as a training is checked before it starts.
        assert!(line(picture::probe(&bmp[..cut], "b")).starts_with("b: a truncated BMP"), "{cut}");
        assert!(line(picture::decode(&bmp[..cut], "b")).starts_with("b: a truncated BMP"), "{cut}");
    }
    assert_eq!(line(picture::decode(b"", "e.jpg")), "e.jpg: an empty file: fetch it again or remove it");
    assert!(line(picture::decode(b"<html>not found</html>", "h.jpg")).starts_with("h.jpg: not an image"));
    assert!(line(picture::decode(b"\0\0\0\x18ftypheic\0\0\0\0", "h.jpg")).starts_with("h.jpg: a HEIC image"));
    for (width, height) in [(30_000u32, 30_000u32), (16_385, 1), (16_384, 16_384)] {
        let error = line(picture::decode(&png_header(width, height), "huge.png"));
        assert!(error.starts_with(&format!("huge.png: {width} x {height} pixels, above the limit")), "{error}");
    }
    assert!(line(picture::decode(b"P6 30000 30000 255\n", "huge.ppm")).contains("above the limit"));
}

const CMYK: &str = "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwADAgIDAgIDAwMDBAMDBAUIBQUEBAUKBwcGCAwKDAwLCgsLDQ4SEA0OEQ4LCxAWEBETFBUVFQwPFxgWFBgSFBUU/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAgHCf/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAOBEMATQBZAEsAAD8A0DDxSDof/9k=";
const CMYK_PIXEL: [u8; 3] = [190, 46, 131];

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

/// A PNG of this size whose pixels are missing.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    for (kind, data) in [(b"IHDR", &head[..]), (b"IDAT", &[]), (b"IEND", &[])] {
        bytes.extend((data.len() as u32).to_be_bytes());
        let body = [&kind[..], data].concat();
        let crc = !body.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        });
        bytes.extend(body);
        bytes.extend(crc.to_be_bytes());
    }
    bytes
}

#[test]
fn photos_stand_upright_by_their_exif() {
    use image::ImageEncoder;
    use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
    let upright = picture(20, 30);
    let (w, h) = upright.dimensions();
    // Where the upright pixel (x, y) lies in the file, for orientations 1 to 8.
    type Lies = fn(u32, u32, u32, u32) -> (u32, u32);
    let lies: [Lies; 8] = [
        |x, y, _, _| (x, y),
        |x, y, w, _| (w - 1 - x, y),
        |x, y, w, h| (w - 1 - x, h - 1 - y),
        |x, y, _, h| (x, h - 1 - y),
        |x, y, _, _| (y, x),
        |x, y, w, _| (y, w - 1 - x),
        |x, y, w, h| (h - 1 - y, w - 1 - x),
        |x, y, _, h| (h - 1 - y, x),
    ];
    for (lies, orientation) in lies.into_iter().zip(1..) {
        let mut file = if orientation < 5 { RgbImage::new(w, h) } else { RgbImage::new(h, w) };
        for (x, y, pixel) in upright.enumerate_pixels() {
            let (x, y) = lies(x, y, w, h);
            file.put_pixel(x, y, *pixel);
        }
        let exif = [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[orientation, 0, 0, 0, 0, 0, 0, 0][..]].concat();
        let (mut png, mut jpeg) = (Vec::new(), Vec::new());
        let mut encoder = PngEncoder::new(&mut png);
        encoder.set_exif_metadata(exif.clone()).unwrap();
        encoder.write_image(&file, file.width(), file.height(), image::ExtendedColorType::Rgb8).unwrap();
        let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, 100);
        encoder.set_exif_metadata(exif).unwrap();
        encoder.encode_image(&file).unwrap();
        for (bytes, slack) in [(png, 0), (jpeg, 12)] {
            assert_eq!(picture::probe(&bytes, "p").unwrap(), (w, h), "{orientation}");
            let read = picture::decode(&bytes, "p").unwrap();
            assert_eq!(read.dimensions(), (w, h));
            let close = read.iter().zip(upright.iter()).all(|(a, b)| a.abs_diff(*b) <= slack);
            assert!(close, "orientation {orientation}, within {slack}");
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

/// Writes a zoo of odd files with Pillow, and beside each what Pillow reads: width and height as numbers of four bytes,
/// then RGB.
const ZOO: &str = r#"
try:
    from PIL import Image, ImageOps
except Exception as error:
    print("no Pillow:", error)
    sys.exit(3)
import itertools, os
def picture(w, h, mode):
    at = [(x * 5 + y * 3 + (x * y) // 16 + c * 60) % 256 for y in range(h) for x in range(w) for c in range(len(mode))]
    return Image.frombytes(mode, (w, h), bytes(at))
def keep(name, image, **options):
    path = os.path.join(folder, name)
    image.save(path, **options)
    read = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    with open(path + ".rgb", "wb") as out:
        out.write(read.width.to_bytes(4, "little") + read.height.to_bytes(4, "little") + read.tobytes())
for i, (mode, size, sub, progressive) in enumerate(itertools.product(["L", "RGB", "CMYK"], [(1, 1), (17, 33), (64, 48)], [0, 1, 2], [False, True])):
    if mode == "RGB" or sub == 0:
        keep(f"{mode}-{size[0]}-{sub}-{progressive}.jpg", picture(*size, mode), quality=60 + i % 40, subsampling=sub, progressive=progressive)
for blocks in [1, 3]:
    keep(f"restart-{blocks}.jpg", picture(65, 31, "RGB"), restart_marker_blocks=blocks, quality=90)
keep("411.jpg", picture(65, 31, "RGB"), subsampling="4:1:1")
keep("rgb.jpg", picture(65, 31, "RGB"), keep_rgb=True)
keep("optimised.jpg", picture(65, 31, "RGB"), optimize=True, quality=20)
for turn in range(1, 9):
    exif = Image.Exif()
    exif[0x112] = turn
    keep(f"turned-{turn}.jpg", picture(40, 24, "RGB"), exif=exif)
one = picture(37, 21, "RGB")
for mode in ["1", "L", "LA", "P", "RGB", "RGBA"]:
    keep(f"{mode}.png", one.convert("L").convert(mode) if mode == "LA" else one.convert(mode))
keep("transparent.png", one.convert("P"), transparency=3)
for mode in ["1", "L", "P"]:
    keep(f"{mode}.gif", one.convert(mode))
for mode in ["1", "L", "P", "RGB"]:
    keep(f"{mode}.bmp", one.convert(mode))
for mode, packed in itertools.product(["L", "RGB"], ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]):
    keep(f"{mode}-{packed}.tif", one.convert(mode), compression=packed)
for mode, name in [("1", "pbm"), ("L", "pgm"), ("RGB", "ppm")]:
    keep(f"{mode}.{name}", one.convert(mode))
keep("lossless.webp", one, lossless=True)
keep("lossy.webp", one, quality=80)
keep("lossless-alpha.webp", one.convert("RGBA"), lossless=True)
save_file({}, folder + "/answer.safetensors")
"#;

#[test]
fn a_zoo_of_files_has_pillows_pixels() {
    let Some((folder, _)) = crate::export::ask(ZOO, "", &[]) else { return };
    let mut passed = rankle::folders::Passed::default();
    let files = rankle::folders::images(folder.path(), &mut passed).unwrap();
    assert!(files.len() >= 60, "{}", files.len());
    for file in files {
        let ours = picture::load(&file.path()).unwrap();
        let (name, theirs) =
            (file.path().display().to_string(), std::fs::read(format!("{}.rgb", file.path().display())).unwrap());
        let size = [ours.width().to_le_bytes(), ours.height().to_le_bytes()].concat();
        assert_eq!(size, theirs[..8], "{name}");
        let off = ours.as_raw().iter().zip(&theirs[8..]).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(off <= if name.ends_with("lossy.webp") { 3 } else { 0 }, "{name}: {off} levels");
    }
}
