//! Rows that are kept piece by piece.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use image::{Rgb, RgbImage};
use rankle::datasets::Photo;
use rankle::datasets::drawn::photo;
use rankle::say::Bar;
use rankle::tasks::kept::{Kept, NO_FACE, NOT_READ, next_piece};
use rankle::tasks::{Brought, Rows};
use tch::{Kind, Tensor};

use crate::common::made;

/// A work that fails loses the piece in hand alone; photos that changed or came are the only ones that are asked for again;
/// and rows stand in the order of the photos, whatever pieces they are in.
#[test]
fn pieces_are_kept_and_taken_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = Kept { folder: folder.path().join("kept"), ..Kept::default() };
    let at = |i: usize| folder.path().join(format!("photos/{i:03}.png"));
    fs::create_dir(folder.path().join("photos")).expect("made");
    let draw = |i: usize, shot: u64| photo(5, i as u64, 1, shot, 8, 8 + i as u32 % 50).save(at(i)).expect("saved");
    (0..600).for_each(|i| draw(i, 0));
    // Rows of the numbers in names beside the widths of images, and how many photos were asked for.
    let rows = |most: usize, skip: bool| {
        let asked = Cell::new(0);
        let work = |photos: Vec<Photo>, _: &mut Bar| {
            asked.set(asked.get() + photos.len());
            anyhow::ensure!(asked.get() <= most, "killed");
            // Number 7 has no row.
            let places: Vec<usize> = (0..photos.len()).filter(|&i| &*photos[i].name != "007.png").collect();
            let photos: Vec<Photo> = places.iter().map(|&i| photos[i].clone()).collect();
            let number = |photo: &Photo| {
                let width = photo.source.dimensions().expect("an image").0;
                [photo.name[..3].parse::<f64>().expect("a number"), width.into()]
            };
            let x = Tensor::from_slice2(&photos.iter().map(number).collect::<Vec<_>>()).to_kind(Kind::Float);
            Ok(Rows { tensors: vec![("x".into(), x)], places, ..Rows::of(photos) })
        };
        let photos = Brought::photos(&[folder.path().join("photos")]).expect("photos");
        let brought = Brought { photos, kept: Some(kept.clone()), ..Brought::default() };
        (brought.rows(skip, &|photo| photo.source.image(), 1, &work), asked.get())
    };
    assert!(rows(599, false).0.is_err_and(|error| error.to_string() == "killed"));
    let (whole, asked) = rows(1000, false);
    assert_eq!(asked, 600 - 16 - 2 * 256);
    let check = |rows: Rows, count: usize| {
        let x = Vec::<Vec<f32>>::try_from(&rows.tensors[0].1).expect("rows");
        assert_eq!((x.len(), rows.names.len(), rows.places.len()), (count, count, count));
        for (x, name) in x.iter().zip(&rows.names) {
            let i: usize = name[..3].parse().expect("a number");
            assert_eq!(x, &[i as f32, 8. + (i % 50) as f32], "{name}");
        }
        assert_eq!(rows.texts(NO_FACE), Some(vec!["007.png".to_string()]));
        rows
    };
    check(whole.expect("rows"), 599);
    // One was replaced by another of its size, under its time.
    let (bytes, time) = (fs::read(at(5)).expect("read"), at(5).metadata().and_then(|found| found.modified()));
    fs::write(at(5), bytes).expect("written");
    fs::File::options().write(true).open(at(5)).and_then(|file| file.set_modified(time?)).expect("set");
    assert_eq!(rows(1000, false).1, 1);
    draw(300, 1);
    fs::remove_file(at(100)).expect("removed");
    draw(700, 0);
    let (again, asked) = rows(1000, false);
    assert_eq!(asked, 2);
    check(again.expect("rows"), 599);
    // What has the very name of a piece and is not ours stays as it is.
    let pieces = || -> Vec<_> {
        let mut all: Vec<_> = fs::read_dir(kept.at()).expect("a folder").flatten().map(|entry| entry.path()).collect();
        all.sort();
        all
    };
    // In the head, in the name of its hash and at the end, a piece of ours that was damaged is made again, once.
    for (piece, place) in pieces().iter().zip([8, 38, usize::MAX]) {
        let mut bytes = fs::read(piece).expect("a piece");
        let place = place.min(bytes.len() - 1);
        bytes[place] ^= 0x55;
        fs::write(piece, bytes).expect("damaged");
    }
    assert!(rows(1000, false).1 > 0);
    assert_eq!(rows(1000, false).1, 0);
    assert!(pieces().iter().all(|piece| rankle::weights::read_sealed(piece).is_ok()));
    let before = pieces();
    before.iter().for_each(|piece| fs::write(piece, "mine").expect("written"));
    for asked in [600, 0] {
        let (again, count) = rows(1000, false);
        assert_eq!(count, asked);
        check(again.expect("rows"), 599);
    }
    assert!(before.iter().all(|piece| fs::read(piece).expect("kept") == b"mine") && pieces().len() > before.len());
    // What cannot be read is an error, or has no row; once more, too.
    fs::write(at(200), "no image").expect("written");
    assert!(rows(1000, false).0.is_err());
    for _ in 0..2 {
        let (some, asked) = rows(1000, true);
        let unread = check(some.expect("rows"), 598).texts(NOT_READ);
        assert_eq!((unread, asked), (Some(vec!["200.png".to_string()]), 0));
    }
}

/// Of folders that were exchanged by their names, whose photos have one length and were touched at once, each photo has its own
/// row, and so its own crop: see the test of crops.
#[test]
fn photos_of_folders_that_were_exchanged_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = Kept { folder: folder.path().join("kept"), ..Kept::default() };
    let at = |name: &str| folder.path().join("photos").join(name);
    let photos = ["a/x.bmp", "b/x.bmp"].map(at);
    if !alike(&photos, |person| RgbImage::from_pixel(8, 8, Rgb([person as u8; 3]))) {
        return println!("skipped: this disk tells two changes apart");
    }
    let greys = || -> Vec<f32> {
        let work = |photos: Vec<Photo>, _: &mut Bar| {
            let grey = |photo: &Photo| f32::from(photo.source.image().expect("an image").get_pixel(0, 0)[0]);
            let x = Tensor::from_slice(&photos.iter().map(grey).collect::<Vec<_>>()).view([-1, 1]);
            anyhow::Ok(Rows { tensors: vec![("x".into(), x)], ..Rows::of(photos) })
        };
        let photos = Brought::photos(&[folder.path().join("photos")]).expect("photos");
        let brought = Brought { photos, kept: Some(kept.clone()), ..Brought::default() };
        let rows = brought.rows(false, &|photo| photo.source.image(), 1, &work).expect("rows");
        Vec::<f32>::try_from(rows.tensors[0].1.view([-1])).expect("numbers")
    };
    assert_eq!(greys(), [1., 2.]);
    for (from, to) in [("a", "c"), ("b", "a"), ("c", "b")] {
        fs::rename(at(from), at(to)).expect("renamed");
    }
    assert_eq!(greys(), [2., 1.]);
}

/// Photos of persons 1, 2, ... as `draw` has them, whose files are touched at once: whether they have one length and all times
/// alike, as files have by a clock that stands still for milliseconds.
pub fn alike(photos: &[PathBuf], draw: impl Fn(u64) -> RgbImage) -> bool {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let version = |file: &fs::File| {
        let found = file.metadata().expect("there");
        (found.len(), found.modified().expect("a time"), found.ctime(), found.ctime_nsec())
    };
    (0..100).any(|_| {
        for (photo, person) in photos.iter().zip(1..) {
            draw(person).save(made(photo.clone())).expect("saved");
        }
        let open = |photo: &PathBuf| fs::File::options().write(true).open(photo).expect("opened");
        let files: Vec<fs::File> = photos.iter().map(open).collect();
        files.iter().for_each(|file| file.set_modified(time).expect("set"));
        files.iter().all(|file| version(file) == version(&files[0]))
    })
}

/// A kill loses about twenty seconds of work, or a least piece; there are few sizes, of whole batches.
#[test]
fn pieces_follow_the_machines_speed() {
    for (photos, milliseconds, batch, next) in [
        (16, 0, 16, 256),
        (16, 100, 1, 256),
        (16, 4_000, 16, 64),
        (64, 80_000, 16, 16),
        (1, 3_600_000, 1, 16),
        (20, 100, 20, 260),
        (20, 10_000, 20, 20),
        (128, 100, 128, 256),
    ] {
        assert_eq!(next_piece(photos, Duration::from_millis(milliseconds), batch), next);
    }
}
