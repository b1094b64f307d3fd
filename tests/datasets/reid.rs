//! Sets of people: which layout a folder has, the check and the card, who is held out.

use std::fs;
use std::sync::Arc;

use rankle::datasets::{self, Layout, ReidSet, Source};
use serde_json::json;

use super::{fill, rows};
use crate::common::{line, picture, shared};

/// One folder of a layout that is missing makes no other layout of the rest.
#[test]
fn a_missing_folder_is_named() {
    for (names, says) in [
        (&["query/0001_c1s1_000001_00.jpg"][..], "bounding_box_test is missing"),
        (&["bbox_test/0001/1.jpg", "info/a.txt"], "bbox_train is missing"),
        (&["bbox_train/0001/1.jpg"], "bbox_test is missing"),
        (&["cam_b/000_45.jpg", "x/1.jpg"], "cam_a is missing"),
        (&["train/1.jpg", "val/2.jpg", "val/3.jpg"], "train: a part of a set"),
        (&["a/1.jpg", "b/1.jpg", "Gallery/2.jpg", "c/1.jpg"], "Gallery: a part of a set"),
        (&["cam_A/000_45.bmp", "cam_B/000_90.bmp"], "cam_A: call it cam_a"),
        (&["Bounding_Box_Train/0001_c1s1_1_1.jpg", "bounding_box_test/x", "query/x"], "Bounding_Box_Train: call it"),
        (&["Train/a/1.jpg", "Test/b/1.jpg"], "Train: call it train"),
        // COCO's photos and torchreid's CUHK03 are no two people.
        (&["train2014/1.jpg", "val2014/2.jpg", "annotations/x.json"], "train2014: a part of a set"),
        (&["images_labeled/1.png", "images_detected/1.png"], "images_detected: a part of a set"),
        (&["labeled/1_001_1_01.png", "detected/1_001_1_01.png"], "detected: a part of a set"),
        (&["bounding-box-train/0001_c1s1_1_1.jpg", "x/1.jpg"], "bounding-box-train: a part of a set"),
        (&["box_train/1.jpg", "x/1.jpg"], "box_train: a part of a set"),
        (&["query/1.jpg", "x/1.jpg"], "query: a part of a set"),
        (&["0001/0001C1T0001F001.jpg", "00-1/00-1C1T0001F001.jpg"], "00-1: MARS's folder of nobody"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), names);
        let error = line(datasets::open(dir.path()));
        assert!(error.contains(says), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &["train/1.jpg", "val/2.jpg", "a/1.jpg", "b/1.jpg"]);
    assert!(line(datasets::faces::open(dir.path())).contains("train: a part of a set"));
    fill(dir.path(), &["both/train/images/1.jpg", "both/train/a/1.jpg", "both/test/b/1.jpg"]);
    assert!(line(datasets::faces::open(&dir.path().join("both"))).contains("images: a part of a set"));
    fs::write(dir.path().join("splits.txt"), "").unwrap();
    assert!(line(datasets::faces::open(dir.path())).contains("aligned_images_DB is missing"));
}

/// A part of a set given for the whole, photos of nothing, and what a file manager copied.
#[test]
fn what_is_not_as_it_looks_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // Two folders above are looked at, too.
    let dir = &dir.join("one/two");
    fill(dir, &["mars/bbox_train/0001/0001C1T0001F001.jpg", "mars/bbox_train/0002/0002C1T0001F001.jpg"]);
    fill(dir, &["cuhk/labeled/1_001_1_01.jpg", "market/bounding_box_train/0001_c1s1_000001_00.jpg"]);
    fill(dir, &["viper/VIPeR/cam_a/000_45.bmp", "viper/VIPeR/cam_b/000_90.bmp", "rec/train.rec", "vgg/train/a/1.jpg"]);
    fill(dir, &["twice/CUHK01/CUHK01/campus/0001001.png", "casia/webface/1/1.jpg", "casia/webface/2/1.jpg"]);
    fill(dir, &["ytf/aligned_images_DB/Ann/0/1.jpg", "ytf/aligned_images_DB/Ann/1/1.jpg", "vgg/val/b/1.jpg"]);
    for (given, words) in [
        ("mars", "bbox_test is missing: MARS"),
        ("mars/bbox_train", "a part of MARS, by its name: give the folder above"),
        ("cuhk", "labeled: a part of a set|labeled beside testsets.json"),
        ("cuhk/labeled", "cuhk/labeled: one image lies in it and none in folders"),
        ("market", "query is missing: Market-1501"),
        // The folder that was meant: above, or one or two below.
        ("market/bounding_box_train", "give |market, which looks like a set"),
        ("viper", "give |viper/VIPeR, which looks like a set"),
        ("viper/VIPeR/cam_a", "give |viper/VIPeR, which looks like a set"),
        ("twice", "give |twice/CUHK01/CUHK01, which looks like a set"),
        ("casia", "give |casia/webface, which looks like a set"),
        ("rec", "scripts/convert recordio"),
    ] {
        crate::common::has(&line(datasets::open(&dir.join(given))), words);
    }
    for (given, words) in [
        ("mars/bbox_train", "a part of MARS, by its name"),
        ("mars", "no images under|pairs.txt"),
        ("casia", "give |casia/webface, which looks like a set"),
        ("casia/webface/1", "one image lies in it and none in folders"),
        ("ytf/aligned_images_DB", "a part of YouTube Faces, by its name: give the folder above aligned_images_DB"),
        ("ytf/aligned_images_DB/Ann", "a part of YouTube Faces, by its name: give the folder above aligned_images_DB"),
        ("vgg", "has the folder train but not test"),
    ] {
        crate::common::has(&line(datasets::faces::open(&dir.join(given))), words);
    }
    fill(dir, &["tree/a/1.jpg", "tree/a/1 (1).jpg", "tree/b/1.jpg", "tree/b/1 - Copy.jpg", "tree/c/(2).jpg"]);
    picture(1, 1).save(dir.join("tree/c/tiny.png")).unwrap();
    let set = datasets::open(&dir.join("tree")).unwrap();
    let copies = set.notes.iter().find(|note| note.contains("copies, by their names"));
    // Two identities or three: all train and test.
    assert!(copies.is_some_and(|note| note.contains("1 (1).jpg")), "{:?}", set.notes);
    let error = line(datasets::check(&*set.train));
    assert!(error.contains("tiny.png: 1 x 1 pixels show nothing"), "{error}");
    assert!(set.card().problems.iter().any(|problem| problem.contains("tiny.png: 1 x 1")));
}

#[test]
fn check_names_the_first_bad_file_and_the_card_lists_them() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fill(dir, &["train/a/1.jpg", "train/b/1.jpg", "test/c/1.jpg", "test/c/2.jpg"]);
    let set = datasets::open(dir).unwrap();
    assert!(datasets::check(set.photos()).is_ok());
    fs::write(dir.join("train/b/1.jpg"), b"").unwrap();
    let error = line(datasets::check(set.photos()));
    assert!(error.starts_with("1 of 4 images cannot be used: ") && error.contains("b/1.jpg: an empty file"), "{error}");
    let whole = fs::read(dir.join("test/c/2.jpg")).unwrap();
    fs::write(dir.join("test/c/2.jpg"), &whole[..whole.len() - 9]).unwrap();
    fs::remove_file(dir.join("test/c/1.jpg")).unwrap();
    fs::create_dir(dir.join("test/c/1.jpg")).unwrap();
    let error = line(datasets::check(set.photos()));
    assert!(
        error.starts_with("3 of 4 images cannot be used (the data verb lists them), the first: ")
            && error.contains("b/1.jpg: an empty file"),
        "{error}"
    );
    let card = set.card();
    assert_eq!((card.unreadable, card.problems.len(), &card.counts["different_sizes"]), (3, 3, &json!(1)));
    assert!(card.problems[1].contains("c/1.jpg: cannot be read (it is a folder"), "{:?}", card.problems);
    assert!(card.problems[2].contains("c/2.jpg: a truncated JPEG"), "{:?}", card.problems);
    let text = card.to_string();
    assert!(text.contains("cannot use 3 images:") && text.contains("16 x 8"), "{text}");
}

#[test]
fn hold_out_makes_the_loss_study() {
    let image = Arc::new(picture(2, 2));
    let photo = |person, camera, tracklet| datasets::Photo {
        source: Source::Memory(image.clone()),
        name: "".into(),
        person,
        camera,
        tracklet,
    };
    for tracked in [false, true] {
        let mut set = ReidSet { layout: Layout::Drawn, ..ReidSet::default() };
        for person in 1..=6 {
            for i in 0..12 {
                let track = if tracked { person * 12 + i / 3 } else { -1 };
                Arc::make_mut(&mut set.train).push(photo(person, 1 + i / 6, track)); // two cameras, two tracklets each
            }
        }
        let held = set.hold_out(2, 7).unwrap();
        assert_eq!((held.train.len(), held.gallery.len()), (48, 24));
        assert_eq!(held.query.len(), if tracked { 12 } else { 4 });
        let people =
            |photos: &[datasets::Photo]| photos.iter().map(|p| p.person).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(people(&held.query), people(&held.gallery));
        assert!(people(&held.train).is_disjoint(&people(&held.gallery)));
        assert_eq!(rows(&held.query), rows(&set.hold_out(2, 7).unwrap().query));
        assert!((0..20).any(|seed| people(&set.hold_out(2, seed).unwrap().gallery) != people(&held.gallery)));
        assert!(line(set.hold_out(5, 7)).contains("from 2 to 4") && line(set.hold_out(1, 7)).contains("hold out 1"));
    }
    // One folder an identity has no cameras: a photo of each is asked for, the others are to be found.
    let mut set = ReidSet { layout: Layout::Tree, ..ReidSet::default() };
    for (person, shot) in (1..=6).flat_map(|person| (0..3).map(move |shot| (person, shot))) {
        let named = datasets::Photo { name: format!("{person}/{shot}").into(), ..photo(person, 1, -1) };
        Arc::make_mut(&mut set.train).push(named);
    }
    let held = set.hold_out(2, 7).unwrap();
    assert_eq!((held.train.len(), held.query.len(), held.gallery.len()), (12, 2, 4));
    assert!(held.query.iter().all(|photo| photo.camera == 1) && held.gallery.iter().all(|photo| photo.camera == 2));
    rankle::tasks::reid::can_be_scored(&held).unwrap();
    // Who has one photo is in the gallery alone, as in its test set, of whose division nothing is said any more.
    let single: Vec<_> =
        set.train.iter().filter(|photo| photo.person > 2 || photo.name.ends_with("/0")).cloned().collect();
    let set = ReidSet { train: single.into(), division: vec!["of the test".into()], ..set };
    for seed in 0..20 {
        let held = set.hold_out(4, seed).unwrap();
        let singles = held.gallery.iter().filter(|photo| photo.person <= 2).count();
        assert_eq!((held.query.len(), held.gallery.len()), (4 - singles, 2 * (4 - singles) + singles));
        assert!(held.query.iter().all(|photo| photo.person > 2));
        assert_eq!(held.division.len(), 2 + usize::from(singles > 0), "{:?}", held.division);
        assert!(held.division.iter().all(|note| note != "of the test") && held.notes.is_empty());
    }
}

#[test]
fn real_sets_open_and_every_image_reads() {
    if let Some(dir) = shared("pku-reid") {
        let set = datasets::open(&dir).unwrap();
        assert_eq!((set.train.len(), set.query.len(), set.gallery.len()), (800, 48, 144));
        assert!(set.notes[0].starts_with("not the published Market-1501: 800 training images (published 12,936), 50"));
        datasets::check(set.photos()).unwrap();
        let card = set.card();
        let splits = &card.counts["splits"];
        let identities = (&splits[0]["identities"], &splits[1]["identities"]);
        assert_eq!((card.unreadable, identities), (0, (&json!(50), &json!(12))));
        assert_eq!(splits[0]["images_an_identity"], json!({"min": 16, "mean": 16.0, "max": 16}));
        assert_eq!(splits[0]["cameras"].as_array().map(Vec::len), Some(2));
        assert!(serde_json::to_string(&card).unwrap().contains("\"published\":false"));
    }
    if let Some(dir) = shared("orl-faces") {
        let set = datasets::open(&dir).unwrap();
        assert_eq!((set.train.len(), set.query.len(), set.gallery.len()), (200, 10, 90));
        datasets::check(set.photos()).unwrap();
    }
    if let Some(dir) = shared("lfw-mini") {
        let set = datasets::open(&dir).unwrap();
        assert_eq!((set.query.len(), set.train.len() + set.query.len() + set.gallery.len()), (2, 100));
        assert_eq!(rows(&set.query), rows(&datasets::open(&dir).unwrap().query));
        datasets::check(set.photos()).unwrap();
    }
}
