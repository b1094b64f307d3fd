//! One folder an identity.

use std::fs;

use rankle::datasets::{self, Layout};
use rankle::tasks::Data;

use super::{fill, rows};
use crate::common::line;

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
    // A test alone needs nobody to train on.
    fill(dir, &["alone/train/a/readme.txt", "alone/test/a/1.jpg", "alone/test/a/2.jpg"]);
    let alone = datasets::open(&dir.join("alone")).unwrap();
    assert_eq!((alone.train.len(), alone.query.len()), (0, 1));
    assert!(line(alone.trainable()).ends_with("0 identities: at least 2 needed"));
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
