//! Flags that open sets of faces.

use rankle::datasets::Photo;
use rankle::tasks::Data;
use rankle::tasks::faces::FaceData;
use tempfile::TempDir;

use crate::common::line;
use crate::datasets::faces::tree;

#[test]
fn flags_open_training_and_test_faces() {
    let dir = TempDir::new().expect("a folder");
    tree(&dir.path().join("tree"), 0..8, 2);
    tree(&dir.path().join("other"), 6..12, 2);
    let text = |name: &str| dir.path().join(name).to_string_lossy().to_string();
    let data = |data: &str, test: Option<&str>| FaceData {
        data: text(data),
        test: test.map(text),
        exclude: None,
        names: None,
        min_images: 1,
        crop: None,
    };
    let own = data("tree", None).open().expect("a set");
    assert_eq!((own.train.len(), own.test.len()), (12, 4));
    // All train where another set tests, but those whom it tests; all of it is tested.
    let both = FaceData { crop: Some(0.5), ..data("tree", Some("other")) };
    let set = both.open().expect("a set");
    assert_eq!((set.train.len(), set.test.len()), (12, 12));
    let size = |photo: &Photo| photo.source.image().expect("an image").dimensions();
    assert_eq!((size(&set.train[0]), size(&set.test[0])), ((24, 24), (12, 12)), "training faces are not cut");
    assert_eq!(size(&FaceData { crop: Some(0.5), ..data("tree", None) }.open().expect("a set").train[0]), (12, 12));
    // Elsewhere all are tested, cut as the run's or as it is said.
    let set = both.elsewhere(&data("other", None)).expect("a set");
    assert_eq!((set.test.len(), size(&set.test[0])), (12, (12, 12)));
    let set = both.elsewhere(&FaceData { crop: Some(1.), ..data("other", None) }).expect("a set");
    assert_eq!(size(&set.test[0]), (24, 24));
    let same = data("tree", None).elsewhere(&FaceData { crop: Some(0.5), ..data("tree", None) }).expect("a set");
    assert_eq!((same.train.len(), same.test.len()), (12, 4), "people of the training are not tested");
    let same = data("tree", None).elsewhere(&data("other/../tree", None)).expect("a set");
    assert_eq!((same.train.len(), same.test.len()), (12, 4), "by whatever path");
    // What people are called whose folder is gone is not known, which is said.
    let says = |own: FaceData| {
        let set = own.elsewhere(&data("other", None)).expect("a set");
        set.notes.iter().any(|note| note.contains("gone cannot be opened: whether somebody tested has a name"))
    };
    assert!(says(data("gone", None)) && !says(data("tree", None)));
    // Nobody leaves a training that is over: who is tested under a name of its people is said.
    tree(&dir.path().join("again"), 0..8, 2);
    let notes = data("tree", None).elsewhere(&data("tree", Some("again"))).expect("a set").notes;
    let said = "6 of 8 people tested are called as people whom the run was trained on, as \"P0";
    assert!(notes.iter().any(|note| note.starts_with(said)), "{notes:?}");
    assert!(!notes.iter().any(|note| note.contains("left out of the training")), "{notes:?}");
    // A part of the data, where that has parts.
    tree(&dir.path().join("split/train"), 0..4, 2);
    tree(&dir.path().join("split/test"), 4..8, 2);
    assert_eq!(data("split", None).elsewhere(&data("split/test", None)).expect("a set").test.len(), 8);
    assert!(line(FaceData { min_images: 9, ..data("tree", None) }.open()).contains("--min-images"));
    // A list of pairs leaves nobody to train on.
    let list = dir.path().join("pairs/pairs.txt");
    tree(&dir.path().join("pairs/people"), 0..4, 3);
    std::fs::write(list, "2\t1\nP00\t1\t2\nP00\t1\tP01\t3\nP02\t3\t1\nP02\t2\tP03\t2\n").expect("written");
    let pairs = data("pairs", Some("other")).open().expect("a set");
    assert!(line(pairs.trainable()).contains("the list in --data (pairs.txt, splits.txt) is of pairs to test"));
    // Who has nobody to train on can still be opened.
    tree(&dir.path().join("single"), 0..6, 1);
    assert_eq!(data("single", None).open().expect("a set").test.len(), 2);
}
