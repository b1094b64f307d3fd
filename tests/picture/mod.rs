//! From files to pixels: what is read, as what, what is refused, and how it is resized.

mod jpeg;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use rand::Rng;
use rankle::picture::{self, Similarity, area};

use crate::common::{close, encoded, jpeg, line, picture};

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

/// To fetch it again would not do.
#[test]
fn a_picture_that_may_not_be_read_is_said() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().expect("a folder");
    let closed = place.path().join("closed.jpg");
    std::fs::write(&closed, jpeg(8, 8)).expect("written");
    set_permissions(place.path(), Permissions::from_mode(0o755)).expect("open to all");
    set_permissions(&closed, Permissions::from_mode(0o000)).expect("closed");
    // SAFETY: of this thread alone. Root reads what is closed, and nobody does not.
    let reads_as = |user| unsafe { libc::setfsuid(user) };
    let own = reads_as(65534);
    let error = line(picture::load(&closed));
    reads_as(own as u32);
    assert!(error.contains("closed.jpg: cannot be read (") && error.ends_with(": make it readable, or remove it"));
}

const CMYK: &str = "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwADAgIDAgIDAwMDBAMDBAUIBQUEBAUKBwcGCAwKDAwLCgsLDQ4SEA0OEQ4LCxAWEBETFBUVFQwPFxgWFBgSFBUU/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAgHCf/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAOBEMATQBZAEsAAD8A0DDxSDof/9k=";

const CMYK_PIXEL: [u8; 3] = [190, 46, 131];

/// A PNG of this size whose pixels are missing.
pub fn png_header(width: u32, height: u32) -> Vec<u8> {
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

/// The triangle filter by its definition, in f64 and without rounding between the passes.
fn triangle(image: &RgbImage, height: u32, width: u32) -> Vec<[f64; 3]> {
    let weights = |from: u32, to: u32, at: u32| -> Vec<(u32, f64)> {
        let scale = f64::from(from) / f64::from(to);
        let (centre, wide) = ((f64::from(at) + 0.5) * scale, scale.max(1.0));
        let raw = (0..from).map(|i| (i, (1.0 - ((f64::from(i) + 0.5 - centre) / wide).abs()).max(0.0)));
        let raw: Vec<(u32, f64)> = raw.collect();
        let sum: f64 = raw.iter().map(|w| w.1).sum();
        raw.into_iter().filter(|w| w.1 > 0.0).map(|(i, w)| (i, w / sum)).collect()
    };
    let mut out = Vec::new();
    for y in 0..height {
        let rows = weights(image.height(), height, y);
        for x in 0..width {
            let mut sum = [0.0; 3];
            for (i, v) in weights(image.width(), width, x) {
                for &(j, w) in &rows {
                    (0..3).for_each(|c| sum[c] += v * w * f64::from(image.get_pixel(i, j).0[c]));
                }
            }
            out.push(sum);
        }
    }
    out
}

/// Resized by Pillow (`Image.resize(size, BILINEAR)`) from `picture`.
#[test]
fn resize_equals_pillow() {
    let shrunk: [u8; 60] = [
        120, 136, 119, 132, 124, 118, 121, 131, 130, 126, 123, 133, 140, 134, 125, 131, 116, 120, 143, 137, 143, 130,
        138, 130, 139, 121, 126, 140, 123, 130, 140, 119, 132, 144, 141, 136, 125, 139, 123, 123, 152, 121, 159, 130,
        113, 132, 115, 134, 132, 122, 137, 143, 127, 130, 150, 138, 115, 122, 154, 108,
    ];
    let mixed: [u8; 72] = [
        19, 102, 185, 77, 160, 171, 145, 177, 55, 203, 42, 113, 35, 118, 170, 96, 161, 144, 154, 147, 77, 166, 63, 137,
        66, 149, 141, 133, 162, 89, 171, 88, 120, 93, 106, 186, 98, 178, 108, 151, 147, 79, 151, 80, 150, 77, 151, 173,
        129, 203, 73, 152, 117, 116, 92, 123, 168, 120, 200, 100, 145, 216, 55, 152, 102, 134, 62, 145, 177, 141, 224,
        63,
    ];
    let close = |ours: RgbImage, theirs: &[u8]| {
        assert_eq!(ours.as_raw().len(), theirs.len());
        assert!(ours.as_raw().iter().zip(theirs).all(|(a, b)| a.abs_diff(*b) <= 1), "{:?}\n{theirs:?}", ours.as_raw());
    };
    close(picture::resize(&picture(13, 17), 4, 5), &shrunk);
    close(picture::resize(&picture(7, 3), 6, 4), &mixed);
}

#[test]
fn resize_equals_the_triangle_filter() {
    for (width, height, to_height, to_width) in
        [(64, 128, 288, 144), (250, 250, 72, 36), (48, 128, 128, 64), (1, 1, 5, 3), (31, 7, 1, 1), (9, 8, 8, 9)]
    {
        let image = picture(width, height);
        let ours = picture::resize(&image, to_height, to_width);
        for (ours, exact) in ours.pixels().zip(triangle(&image, to_height, to_width)) {
            for (ours, exact) in ours.0.into_iter().zip(exact) {
                let off = (f64::from(ours) - exact).abs();
                assert!(off <= 1.0, "{width}x{height} to {to_width}x{to_height}: {off}");
            }
        }
    }
}

pub fn noise(seed: u64, width: u32, height: u32) -> RgbImage {
    let mut rng = rankle::seed::at(seed, 0, 0);
    RgbImage::from_fn(width, height, |_, _| Rgb(rng.random()))
}

#[test]
fn area_is_the_mean_of_what_a_pixel_covers() {
    let image = noise(1, 37, 23);
    for (part, (high, wide)) in
        [((0, 0, 37, 23), (23, 37)), ((0, 0, 37, 23), (7, 12)), ((5, 3, 36, 20), (24, 24)), ((36, 22, 37, 23), (4, 2))]
    {
        let (left, top, right, bottom) = part;
        let ours = area(&image, part, (high, wide), 1..high);
        let mut at = ours.iter();
        for (y, x, c) in (1..high).flat_map(|y| (0..wide).flat_map(move |x| (0..3).map(move |c| (y, x, c)))) {
            let covers =
                |i: u32, pixel: u32, from: u32, to: u32| pixel * to < (i + 1) * from && (pixel + 1) * to > i * from;
            let (mut sum, mut count) = (0., 0.);
            for (v, u) in (0..bottom - top).flat_map(|v| (0..right - left).map(move |u| (v, u))) {
                if covers(y, v, bottom - top, high) && covers(x, u, right - left, wide) {
                    sum += f64::from(image.get_pixel(left + u, top + v).0[c]);
                    count += 1.;
                }
            }
            close((*at.next().expect("as many")).into(), sum / count, 1e-6);
        }
        assert!(at.next().is_none());
    }
}

#[test]
fn a_similarity_is_found_again_and_warps() {
    let from = [[1., 2.], [5., 1.], [3., 7.], [4., 4.], [0., 6.]];
    let (a, b, dx, dy) = (0.3, -1.2, 4., 9.);
    let to = from.map(|[x, y]| [a * x - b * y + dx, b * x + a * y + dy]);
    let found = Similarity::fit(&from, &to);
    for (ours, theirs) in [(found.a, a), (found.b, b), (found.dx, dx), (found.dy, dy)] {
        close(ours, theirs, 1e-12);
    }
    // A shift by (2, 1), and one by half a pixel.
    let image = noise(2, 6, 5);
    let shifted = Similarity { a: 1., b: 0., dx: 2., dy: 1. }.warp(&image, 7);
    for (x, y, pixel) in shifted.enumerate_pixels() {
        let there = (2..8).contains(&x) && (1..6).contains(&y);
        assert_eq!(*pixel, if there { *image.get_pixel(x - 2, y - 1) } else { Rgb([0; 3]) }, "({x}, {y})");
    }
    let half = Similarity { a: 1., b: 0., dx: -0.5, dy: 0. }.warp(&image, 5);
    let mean = (f64::from(image.get_pixel(1, 3).0[0]) + f64::from(image.get_pixel(2, 3).0[0])) / 2.;
    assert_eq!(half.get_pixel(1, 3).0[0], mean.round() as u8);
}
