//! Market-1501, MARS, one folder an identity; the check and the card.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rankle::datasets::{self, Layout, ReidSet, Source};
use rankle::tasks::Data;
use serde_json::json;

use super::{jpeg, line, picture, shared};

/// Writes files of a set: each name below `dir` with a small JPEG.
fn fill(dir: &Path, names: &[&str]) {
    let bytes = jpeg(8, 16);
    for name in names {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &bytes).unwrap();
    }
}

fn rows(photos: &[datasets::Photo]) -> Vec<(&str, i64, i64, i64)> {
    photos.iter().map(|p| (&*p.name, p.person, p.camera, p.tracklet)).collect()
}

#[test]
fn market_names_give_person_and_camera() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let train = "bounding_box_train/0007_c2s3_000002_01.jpg";
    fill(dir, &[train, "bounding_box_train/0002_c1s1_000451_03.jpg", "bounding_box_train/Thumbs.db"]);
    assert!(line(datasets::open(dir)).contains("query is missing"));
    fill(dir, &["query/1501_c6s1_000001_00.jpg.jpg", "query/.DS_Store"]);
    fs::create_dir(dir.join("bounding_box_test")).unwrap();
    assert!(line(datasets::open(dir)).contains("no images in"));
    fill(dir, &["bounding_box_test/-1_c1s1_000401_03.jpg", "bounding_box_test/0000_c4s6_000401_00.jpg"]);
    fill(dir, &["bounding_box_test/1501_c5s1_000401_03.jpg", "gt_bbox/1501_c6s1_000002_00.jpg"]);
    fill(dir, &["images/0001.jpg", "images/deep/0002.jpg", "gt_query/0002_c1s1_000451_03_good.mat", "empty/x.txt"]);
    let set = datasets::open(dir).unwrap();
    assert_eq!(set.layout, Layout::Market1501);
    let beside = "passed over beside bounding_box_train and bounding_box_test: empty, images (2 images)";
    assert_eq!(set.notes.last().unwrap(), beside);
    let odd = dir.join(std::os::unix::ffi::OsStrExt::from_bytes(b"Jos\xe9" as &[u8]) as &std::ffi::OsStr);
    fs::create_dir(&odd).unwrap();
    let note = datasets::open(dir).unwrap().notes.pop().unwrap();
    assert!(note.starts_with("passed over 1 name that is not UTF-8: rename it ("), "{note}");
    fs::remove_dir(&odd).unwrap();
    assert_eq!(rows(&set.train), [("bounding_box_train/0002_c1s1_000451_03.jpg", 2, 1, -1), (train, 7, 2, -1)]);
    assert_eq!(rows(&set.query), [("query/1501_c6s1_000001_00.jpg.jpg", 1501, 6, -1)]);
    let people: Vec<_> = set.gallery.iter().map(|p| (p.person, p.camera)).collect();
    assert_eq!(people, [(-1, 1), (0, 4), (1501, 5)]);
    assert_eq!(set.multi_query.len(), 1);
    assert!(!set.is_published());
    assert!(set.notes.iter().any(|n| n.starts_with("passed over 2 leftovers of file managers")), "{:?}", set.notes);
    let note = &set.notes[set.notes.len() - 2];
    assert!(note.starts_with("not the published Market-1501: 2 training images (published 12,936)"), "{note}");
    assert_eq!(set.query[0].source.image().unwrap().dimensions(), (8, 16));
    for bad in ["photo.jpg", "0001_c0s1_1_1.jpg", "0001_cs1.jpg", "-2_c1s1_0_0.jpg", "+1_c1s1_0_0.jpg", "0001_c1s1.txt"]
    {
        fill(dir, &[&format!("query/{bad}")]);
        assert!(line(datasets::open(dir)).contains(&format!("{bad}: not a Market-1501 name")));
        fs::remove_file(dir.join("query").join(bad)).unwrap();
    }
    fill(dir, &["query/0002_c3s1_000001_00.jpg"]);
    let notes = datasets::open(dir).unwrap().division;
    assert!(notes.iter().any(|note| note.starts_with("1 person is both in the training and")), "{notes:?}");
    fs::remove_file(dir.join("query/0002_c3s1_000001_00.jpg")).unwrap();
    fs::remove_file(dir.join(train)).unwrap();
    assert!(
        line(datasets::open(dir).unwrap().trainable()).ends_with("training images of 1 identity: at least 2 needed")
    );
    // A test set alone is one; what is trained on it is refused.
    fs::remove_dir_all(dir.join("bounding_box_train")).unwrap();
    let alone = datasets::open(dir).unwrap();
    assert_eq!((alone.layout, alone.train.len(), alone.query.len()), (Layout::Market1501, 0, 1));
    assert!(alone.notes.iter().any(|n| n.contains("no bounding_box_train")), "{:?}", alone.notes);
    Data::check(&alone, false, datasets::Look::ALL).unwrap();
    assert!(line(Data::trainable(&alone)).contains("training images of 0 identities"));
}

/// The real lists of Market-1501 give the published counts: the files are empty, since no pixel is read.
#[test]
fn market_lists_are_the_published_set() {
    let Some(lists) = shared("protocols/market1501_train.csv") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut person = None;
    for split in ["train", "query", "test"] {
        let text = fs::read_to_string(lists.with_file_name(format!("market1501_{split}.csv"))).unwrap();
        for row in text.lines() {
            let path = dir.path().join(row.split_once(',').unwrap().1);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            person.get_or_insert(path.clone());
            fs::write(path, b"").unwrap();
        }
    }
    let set = datasets::open(dir.path()).unwrap();
    assert!(set.is_published() && set.notes.is_empty(), "{:?}", set.notes);
    assert_eq!((set.train.len(), set.query.len(), set.gallery.len()), (12_936, 3_368, 19_732));
    fs::remove_file(person.unwrap()).unwrap();
    let set = datasets::open(dir.path()).unwrap();
    assert_eq!(set.notes, ["not the published Market-1501: 12,935 training images (published 12,936)"]);
}

/// A MATLAB 5 file with one matrix of doubles, given by rows.
fn mat(name: &str, rows: &[Vec<i64>]) -> Vec<u8> {
    let element = |kind: u32, data: &[u8]| {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let width = rows[0].len();
    let values: Vec<u8> = (0..width).flat_map(|x| rows.iter().flat_map(move |r| (r[x] as f64).to_le_bytes())).collect();
    let size = [(rows.len() as i32).to_le_bytes(), (width as i32).to_le_bytes()].concat();
    let flags = [6u32.to_le_bytes(), [0; 4]].concat(); // class 6: double
    let matrix = [element(6, &flags), element(5, &size), element(1, name.as_bytes()), element(9, &values)].concat();
    let mut file = b"MATLAB 5.0 MAT-file".to_vec();
    file.resize(124, b' ');
    file.extend([0x00, 0x01, b'I', b'M']);
    file.extend(element(14, &matrix));
    file
}

/// Frames of `count` photos of one tracklet.
fn frames(person: &str, camera: i64, track: i64, count: usize) -> Vec<String> {
    (1..=count).map(|f| format!("{person}C{camera}T{track:04}F{f:03}.jpg")).collect()
}

#[test]
fn mars_lists_give_tracklets() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for folder in ["bbox_train", "bbox_test", "info"] {
        fs::create_dir(dir.join(folder)).unwrap();
    }
    let error = line(datasets::open(dir));
    assert!(error.contains("train_name.txt") && error.contains("github.com/liangzheng06/MARS-evaluation"), "{error}");
    let info = |name: &str| dir.join("info").join(name);
    let train = [frames("0001", 1, 1, 2), frames("0001", 2, 1, 1), frames("0003", 6, 1, 3)].concat();
    let test =
        [frames("00-1", 1, 1, 1), frames("0000", 3, 1, 2), frames("0002", 1, 1, 2), frames("0002", 5, 1, 2)].concat();
    fs::write(info("train_name.txt"), train.join("\r\n")).unwrap();
    fs::write(info("test_name.txt"), test.join("\n") + "\n").unwrap();
    let tracks = [vec![1, 2, 1, 1], vec![3, 3, 1, 2], vec![4, 6, 3, 6]];
    fs::write(info("tracks_train_info.mat"), mat("track_train_info", &tracks)).unwrap();
    let tracks = [vec![1, 1, -1, 1], vec![2, 3, 0, 3], vec![4, 5, 2, 1], vec![6, 7, 2, 5]];
    fs::write(info("tracks_test_info.mat"), mat("track_test_info", &tracks)).unwrap();
    fs::write(info("query_IDX.mat"), mat("query_IDX", &[vec![4, 3]])).unwrap();
    let set = datasets::open(dir).unwrap();
    assert_eq!(set.layout, Layout::Mars);
    assert_eq!(
        rows(&set.train)[2..4],
        [("bbox_train/0001/0001C2T0001F001.jpg", 1, 2, 2), ("bbox_train/0003/0003C6T0001F001.jpg", 3, 6, 3)]
    );
    assert_eq!(rows(&set.gallery)[0], ("bbox_test/00-1/00-1C1T0001F001.jpg", -1, 1, 1));
    assert_eq!(set.gallery.iter().map(|p| p.tracklet).collect::<Vec<_>>(), [1, 2, 2, 3, 3, 4, 4]);
    assert_eq!(
        set.query.iter().map(|p| (p.person, p.camera, p.tracklet)).collect::<Vec<_>>(),
        [(2, 5, 4), (2, 5, 4), (2, 1, 3), (2, 1, 3)]
    );
    fill(dir, &["bbox_train/0003/0003C6T0002F001.jpg"]);
    let notes = datasets::open(dir).unwrap().card().notes;
    let said = "no list names 1 image in bbox_train: 0003/0003C6T0002F001.jpg";
    assert!(notes.iter().any(|note| note == said), "{notes:?}");
    assert!(set.notes.last().unwrap().contains("3 training tracklets (published 8,298)"), "{:?}", set.notes);
    let card = set.card();
    let gallery = &card.counts["splits"][2];
    assert_eq!((card.unreadable, &gallery["tracklets"], &gallery["junk"]), (17, &json!(4), &json!(1)));

    fs::write(info("query_IDX.mat"), mat("query_IDX", &[vec![5]])).unwrap();
    assert!(line(datasets::open(dir)).contains("query 5 is not one of 4 tracklets"));
    fs::write(info("query_IDX.mat"), b"no matrix").unwrap();
    assert!(line(datasets::open(dir)).contains("not a MATLAB 5 file"));
    for bad in [vec![1, 8, -1, 1], vec![0, 1, -1, 1], vec![2, 1, -1, 1], vec![1, 1, -1, 0]] {
        fs::write(info("tracks_test_info.mat"), mat("t", std::slice::from_ref(&bad))).unwrap();
        assert!(line(datasets::open(dir)).contains("row 1 is"), "{bad:?}");
    }
    fs::write(info("tracks_test_info.mat"), mat("t", &[vec![1, 2, -1, 1]])).unwrap();
    assert!(line(datasets::open(dir)).contains("0000C3T0001F001.jpg is not a frame of person -1"));
}

#[test]
fn tree_queries_are_the_first_images() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(line(datasets::open(&dir.join("none"))).starts_with("no folder "));
    assert!(line(datasets::open(dir)).contains("expected Market-1501 (bounding_box_train/...), MARS"));
    fill(dir, &["set/train/b/1.jpg", "set/train/b/2.jpg", "set/train/a/1.jpg", "set/notes.txt"]);
    assert!(line(datasets::open(dir)).ends_with("set, which looks like a set"));
    let set = dir.join("set");
    assert!(line(datasets::open(&set)).contains("has the folder train but not test"));
    fill(&set, &["test/c/9.PNG", "test/c/10.jpg", "test/c/8.jpg", "test/aa/1.jpg", "test/d/readme.txt"]);
    let read = datasets::open(&set).unwrap();
    assert_eq!(
        rows(&read.train),
        [("train/a/1.jpg", 1, 1, -1), ("train/b/1.jpg", 3, 1, -1), ("train/b/2.jpg", 3, 1, -1)]
    );
    assert_eq!(rows(&read.query), [("test/c/10.jpg", 4, 1, -1)]);
    assert_eq!(
        rows(&read.gallery),
        [("test/aa/1.jpg", 2, 2, -1), ("test/c/8.jpg", 4, 2, -1), ("test/c/9.PNG", 4, 2, -1)]
    );
    assert!(read.division.iter().any(|n| n.contains("1 test identity has one image")), "{:?}", read.division);
    assert!(datasets::check(read.photos()).is_ok(), "a JPEG called PNG is a JPEG");

    fill(dir, &["one/a/1.jpg", "one/a/2.jpg", "flat.jpg/x"]);
    let one = datasets::open(&dir.join("one")).unwrap();
    assert_eq!(one.division[0], "only 1 identity: it trains and tests, so a score measures memory");
    assert!(line(one.trainable()).ends_with("1 identity: at least 2 needed"));
    fill(dir, &["twins/Ann_A/1.jpg", "twins/ann a/1.jpg", "twins/b/1.jpg", "twins/c/1.jpg"]);
    let twins = datasets::open(&dir.join("twins")).unwrap().notes;
    assert!(
        twins[0].starts_with("1 folder has another's name and is a person of its own, as Ann_A and ann a"),
        "{twins:?}"
    );
    fill(dir, &["one/b/1.jpg"]);
    let two = datasets::open(&dir.join("one")).unwrap();
    assert_eq!((two.train.len(), two.query.len(), two.gallery.len()), (3, 1, 2));
    assert!(two.division.iter().any(|n| n.contains("measures memory")), "{:?}", two.division);
}

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

/// A folder's name alone makes no layout.
#[test]
fn trees_beside_the_names_of_layouts_are_trees() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fill(dir, &["campus/a/1.jpg", "campus/b/1.jpg", "tree/train/a/1.jpg", "tree/train/b/1.jpg"]);
    fill(dir, &["tree/test/c/1.jpg", "tree/test/c/2.jpg", "tree/val/d/1.jpg"]);
    fs::write(dir.join("testsets.json"), "[]").unwrap();
    assert_eq!(datasets::open(&dir.join("campus")).unwrap().layout, Layout::Tree);
    let set = datasets::open(&dir.join("tree")).unwrap();
    assert_eq!(set.layout, Layout::Tree);
    assert!(set.notes.iter().any(|note| note == "passed over beside train and test: val (1 image)"), "{:?}", set.notes);
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
