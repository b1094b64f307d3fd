//! Market-1501.

use std::fs;

use rankle::datasets::{self, Layout};
use rankle::tasks::Data;

use super::{fill, rows};
use crate::common::{line, put, shared};

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
            put(path.clone(), "");
            person.get_or_insert(path);
        }
    }
    let set = datasets::open(dir.path()).unwrap();
    assert!(set.is_published() && set.notes.is_empty(), "{:?}", set.notes);
    assert_eq!((set.train.len(), set.query.len(), set.gallery.len()), (12_936, 3_368, 19_732));
    fs::remove_file(person.unwrap()).unwrap();
    let set = datasets::open(dir.path()).unwrap();
    assert_eq!(set.notes, ["not the published Market-1501: 12,935 training images (published 12,936)"]);
}
