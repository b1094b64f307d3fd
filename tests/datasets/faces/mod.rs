//! Sets of faces on disk.

mod pairs;
mod people;
mod youtube;

use std::path::Path;

use image::{Rgb, RgbImage};
use rankle::datasets::faces::{check, open};
use rankle::source::View;
use tempfile::TempDir;

use crate::common::{line, made};

/// A picture whose grey says who and which.
fn picture(at: &Path, width: u32, height: u32, grey: u8) {
    let image = RgbImage::from_fn(width, height, |x, y| Rgb([grey, (x * 7) as u8, (y * 5) as u8]));
    image.save(made(at.into())).expect("saved");
}

/// `people` people `P00`, `P01`, ... of `shots` images each under `at`.
pub fn tree(at: &Path, people: std::ops::Range<u8>, shots: u8) {
    for person in people {
        for shot in 1..=shots {
            let name = format!("P{person:02}");
            picture(&at.join(&name).join(format!("{name}_{shot:04}.png")), 24, 24, person * 20 + shot);
        }
    }
}

#[test]
fn what_is_no_face_crop_is_named() {
    let dir = TempDir::new().expect("a folder");
    tree(dir.path(), 0..4, 2);
    let wide = dir.path().join("P01/P01_0009.png");
    picture(&wide, 70, 30, 9);
    let error = line(check(open(dir.path()).expect("a set").photos()));
    assert!(error.contains("P01_0009.png") && error.contains("70 x 30") && error.contains("no face crop"), "{error}");
    picture(&wide, 12, 12, 9);
    assert!(line(check(open(dir.path()).expect("a set").photos())).contains("12 x 12"));
    for i in 10..40 {
        picture(&dir.path().join(format!("P00/P00_{i:04}.png")), 12, 12, 9);
    }
    let set = open(dir.path()).expect("a set");
    assert!(line(check(set.photos())).contains("31 of 39 images cannot be used"));
    // The card names all to machines, and the first on a terminal.
    let card = set.card();
    assert_eq!((card.unreadable, card.problems.len()), (31, 31));
    let text = card.to_string();
    assert_eq!(text.matches("is no face crop").count(), 20);
    assert!(text.contains("cannot use 31 images:") && text.contains("and 11 more"), "{text}");
    (10..40).for_each(|i| std::fs::remove_file(dir.path().join(format!("P00/P00_{i:04}.png"))).expect("removed"));
    picture(&wide, 60, 30, 9);
    check(open(dir.path()).expect("a set").through(View { crop: 0.5, ..View::WHOLE }).photos()).expect("fits");
}
