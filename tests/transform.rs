//! Views of photos: crops, flips, batches.

use std::sync::Arc;

use image::RgbImage;
use rand::Rng;
use rankle::source::Source;
use rankle::transform::{Augment, Recipe, TestViews};
use rankle::{picture, seed};

use crate::common::{line, picture};

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
    let missing = Source::from(std::path::PathBuf::from("nowhere/x.jpg"));
    assert!(line(recipe.test_batch([&missing], TestViews::Original)).contains("nowhere/x.jpg"));
}

/// Slopes, edges and grain, about as a photograph has them, of any size.
fn scene(width: u32, height: u32) -> RgbImage {
    let mut rng = seed::at(7, 0, 0);
    RgbImage::from_fn(width, height, |x, y| {
        let (u, v) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
        let shape = if (u - 0.4).hypot(v - 0.5) < 0.25 { 70. } else { 0. } + if u + 0.3 * v > 0.9 { 40. } else { 0. };
        image::Rgb([0.2, 1.3, 2.9].map(|c: f64| {
            let wave = 35. * (9. * u + 5. * v * c).sin();
            (90. + shape + wave + 10. * (rng.random::<f64>() - 0.5)) as u8
        }))
    })
}

#[test]
fn a_large_jpeg_is_decoded_small_for_a_small_input() {
    let bytes = |width, height, quality| {
        let mut bytes = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality);
        scene(width, height).write_with_encoder(encoder).unwrap();
        bytes
    };
    for (width, height, size) in [(1920, 1080, (224, 224)), (1440, 1080, (72, 96)), (1000, 600, (125, 200))] {
        let bytes = bytes(width, height, 90);
        let (whole, small) = (picture::decode(&bytes, "x").unwrap(), picture::decode_for(&bytes, "x", size).unwrap());
        assert_eq!(small.dimensions(), (width / 2, height / 2));
        let [whole, small] = [whole, small].map(|of| picture::resize(&of, size.0, size.1));
        let gaps: Vec<u8> = whole.iter().zip(small.iter()).map(|(a, b)| a.abs_diff(*b)).collect();
        let mean = gaps.iter().map(|&gap| f64::from(gap)).sum::<f64>() / gaps.len() as f64;
        assert!(mean <= 2. && gaps.iter().all(|&gap| gap <= 8), "{width}: {mean}, {:?}", gaps.iter().max());
        assert!(mean > 0., "decoded whole");
    }
    // Not far larger, or of odd sides: as decode has it.
    for (width, height, size) in [(500, 375, (224, 224)), (640, 480, (101, 130)), (1001, 600, (60, 100))] {
        let bytes = bytes(width, height, 90);
        assert_eq!(picture::decode_for(&bytes, "x", size).unwrap(), picture::decode(&bytes, "x").unwrap());
    }
    // A file whose image lies on its side: height and width are the upright image's.
    let exif = [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[6, 0, 0, 0, 0, 0, 0, 0][..]].concat();
    let mut turned = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new(&mut turned);
    image::ImageEncoder::set_exif_metadata(&mut encoder, exif).unwrap();
    scene(800, 400).write_with_encoder(encoder).unwrap();
    assert_eq!(picture::decode_for(&turned, "x", (160, 80)).unwrap().dimensions(), (200, 400));
    assert_eq!(picture::decode_for(&turned, "x", (80, 160)).unwrap().dimensions(), (400, 800));
}
