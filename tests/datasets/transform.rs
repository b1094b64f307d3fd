//! Decoding, resizing and views.

use std::sync::Arc;

use image::{DynamicImage, ImageFormat, RgbImage};
use rankle::picture;
use rankle::seed;
use rankle::source::Source;
use rankle::transform::{Augment, Recipe, TestViews};

use super::{encoded, jpeg, line, picture};

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
    assert!(pixel.iter().zip(CMYK_PIXEL).all(|(a, b)| a.abs_diff(b) <= 3), "{pixel:?}");

    let whole = jpeg(64, 128);
    assert_eq!(picture::decode(&whole, "a.jpg").unwrap().dimensions(), (64, 128));
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

/// Normalised planes of a window by nested loops.
fn planes(recipe: &Recipe, image: &RgbImage, top: u32, left: u32, flip: bool) -> Vec<f32> {
    let mut out = Vec::new();
    for c in 0..3 {
        for y in 0..recipe.height {
            for x in 0..recipe.width {
                let x = if flip { recipe.width - 1 - x } else { x };
                let value = f64::from(image.get_pixel(left + x, top + y).0[c]) / 255.0;
                out.push(((value - f64::from(recipe.mean[c])) / f64::from(recipe.std[c])) as f32);
            }
        }
    }
    out
}

/// Equal but for `levels` grey levels, which the crop's own rounding may cost.
fn same(recipe: &Recipe, a: &[f32], b: &[f32], levels: f32) -> bool {
    let slack = levels / 255.0 / recipe.std.iter().copied().fold(f32::MAX, f32::min) + 1e-5;
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= slack)
}

#[test]
fn training_views_are_crops_of_nine_eighths() {
    assert_eq!(Recipe::imagenet(256, 128).enlarged(), (288, 144));
    assert_eq!(Recipe::imagenet(128, 64).enlarged(), (144, 72));
    assert_eq!(Recipe::imagenet(1, 3).enlarged(), (1, 3));
    for (width, height, recipe) in [(48, 96, Recipe::imagenet(64, 32)), (61, 130, Recipe::imagenet(61, 33))] {
        let image = picture(width, height);
        let scaled = recipe.enlarged();
        let whole = picture::resize(&image, scaled.0, scaled.1);
        let mut out = vec![0.0; recipe.len()];
        let mut seen = std::collections::BTreeSet::new();
        for item in 0..60 {
            recipe.train(&image, Augment::CropFlip, &mut seed::at(1, 2, item), &mut out);
            let found = (0..=scaled.0 - recipe.height)
                .flat_map(|top| {
                    (0..=scaled.1 - recipe.width).flat_map(move |left| [(top, left, false), (top, left, true)])
                })
                .find(|&(top, left, flip)| same(&recipe, &out, &planes(&recipe, &whole, top, left, flip), 1.0));
            seen.insert(found.expect("the view is one of the crops"));
            let first = out.clone();
            recipe.train(&image, Augment::CropFlip, &mut seed::at(1, 2, item), &mut out);
            assert_eq!(first, out);
        }
        assert!(seen.len() > 25, "{}", seen.len());
        assert!(seen.iter().any(|s| s.0 == 0) && seen.iter().any(|s| s.0 == scaled.0 - recipe.height));
        let plain = picture::resize(&image, recipe.height, recipe.width);
        recipe.train(&image, Augment::None, &mut seed::at(0, 0, 0), &mut out);
        assert!(same(&recipe, &out, &planes(&recipe, &plain, 0, 0, false), 0.0));
        let mut flips = [0, 0];
        for item in 0..40 {
            recipe.train(&image, Augment::Flip, &mut seed::at(3, 0, item), &mut out);
            let side = [false, true].map(|flip| same(&recipe, &out, &planes(&recipe, &plain, 0, 0, flip), 0.0));
            assert!(side[0] != side[1]);
            flips[usize::from(side[1])] += 1;
        }
        assert!(flips[0] > 5 && flips[1] > 5, "{flips:?}");
    }
    assert!(Recipe::imagenet(256, 128).check().is_ok());
    assert!(line(Recipe::imagenet(0, 128).check()).contains("height of 0"));
    assert!(line(Recipe { std: [0.0; 3], ..Recipe::imagenet(8, 8) }.check()).contains("std"));
}

#[test]
fn test_views_are_the_rows_of_table_5() {
    let recipe = Recipe { mean: [0.1, 0.2, 0.3], std: [0.5, 0.6, 0.7], ..Recipe::imagenet(32, 16) };
    let image = picture(40, 50);
    let (plain, large) = (picture::resize(&image, 32, 16), picture::resize(&image, 36, 18));
    let five = [(2, 1), (0, 0), (0, 2), (4, 0), (4, 2)];
    let crops = |n: usize, flip| -> Vec<f32> {
        five[..n].iter().flat_map(|&(top, left)| planes(&recipe, &large, top, left, flip)).collect()
    };
    for (views, count, expected) in [
        (TestViews::Original, 1, planes(&recipe, &plain, 0, 0, false)),
        (TestViews::Centre, 1, crops(1, false)),
        (TestViews::CentreFlip, 2, [crops(1, false), crops(1, true)].concat()),
        (TestViews::FiveCrops, 5, crops(5, false)),
        (TestViews::TenCrops, 10, [crops(5, false), crops(5, true)].concat()),
    ] {
        assert_eq!(views.count(), count);
        let mut out = vec![0.0; count * recipe.len()];
        recipe.test(&image, views, &mut out);
        assert!(same(&recipe, &out, &expected, 0.0), "{views:?}");
    }
    assert_eq!(serde_json::to_string(&TestViews::TenCrops).unwrap(), "\"ten-crops\"");
}

#[test]
fn a_batch_holds_each_picture_at_its_own_address() {
    let recipe = Recipe::imagenet(16, 8);
    let sources: Vec<Source> = (0..3).map(|i| Source::Memory(Arc::new(picture(20 + i, 30)))).collect();
    let (run, step) = (5, 9);
    // A share of a batch: places 4, 1 and 6.
    let places = [4, 1, 6];
    let images = places.into_iter().zip(&sources);
    let batch = recipe.train_batch(images, Source::image, Augment::CropFlip, run, step).unwrap();
    assert_eq!((batch.size(), batch.kind()), (vec![3, 3, 16, 8], tch::Kind::Float));
    for ((row, place), source) in places.into_iter().enumerate().zip(&sources) {
        let mut out = vec![0.; recipe.len()];
        let mut rng = seed::at(seed::named(run, "augment"), step, place as u64);
        recipe.train(&source.image().unwrap(), Augment::CropFlip, &mut rng, &mut out);
        assert_eq!(Vec::<f32>::try_from(batch.get(row as i64).flatten(0, -1)).unwrap(), out);
    }
    let views = recipe.test_batch(&sources, TestViews::FiveCrops).unwrap();
    assert_eq!(views.size(), [15, 3, 16, 8]);
    let mut out = vec![0.; 5 * recipe.len()];
    recipe.test(&sources[2].image().unwrap(), TestViews::FiveCrops, &mut out);
    assert_eq!(Vec::<f32>::try_from(views.narrow(0, 10, 5).flatten(0, -1)).unwrap(), out);
    let missing = Source::File("nowhere/x.jpg".into());
    assert!(line(recipe.test_batch([&missing], TestViews::Original)).contains("nowhere/x.jpg"));
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
    let jfif = b"\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0";
    let rgb = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0";
    for (bytes, why) in [
        (patched(1, 0xc3), "a lossless JPEG, which is not read"),
        (patched(1, 0xc5), "a hierarchical JPEG, which is not read"),
        (patched(1, 0xc9), "an arithmetic-coded JPEG, which is not read"),
        (patched(4, 12), "more than 8 bits a channel"),
        (patched(9, 2), "neither one, three nor four channels"),
        (blocks([(2, 2); 3], false, &[1, 2, 3], &[]), "more than ten blocks"),
        (blocks(plain, false, b"RGB", jfif), "both RGB and YCbCr"),
        (blocks([(1, 1), (2, 2), (2, 2)], false, b"RGB", &[]), "odd sampling in colours other than YCbCr"),
        (blocks([(1, 1), (2, 2), (2, 2)], false, &[1, 2, 3], rgb), "odd sampling in colours other than YCbCr"),
    ] {
        for text in [line(picture::decode(&bytes, "odd.jpg")), line(picture::probe(&bytes, "odd.jpg"))] {
            assert!(text.starts_with("odd.jpg: a") && text.contains(why), "{text}");
            assert!(text.ends_with("which is not read: convert it or remove it"), "{text}");
        }
    }
}
