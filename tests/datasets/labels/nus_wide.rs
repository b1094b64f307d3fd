//! NUS-WIDE.

use std::fs;

use rankle::datasets::labels::open;

use super::{labels, picture, refused, write};

#[test]
fn nus_wide_reports_its_defects() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    write(dir, "ConceptsList/Concepts81.txt", "airport\nlake\n");
    write(dir, "ImageList/TrainImagelist.txt", "a\\0001_1.jpg\nb\\0002_2.jpg\nb\\0003_3.jpg\n");
    write(dir, "ImageList/TestImagelist.txt", "a/0004_4.jpg\n");
    let labels_at = |concept: &str, part: &str| format!("Groundtruth/TrainTestLabels/Labels_{concept}_{part}.txt");
    write(dir, &labels_at("airport", "Train"), "1.0\n0.0\n0\n");
    write(dir, &labels_at("lake", "Train"), "1\n1\n-1130179\n");
    write(dir, &labels_at("airport", "Test"), "0\n");
    write(dir, &labels_at("lake", "Test"), "1\n");
    ["a/0001_1.jpg", "b/0003_3.jpg", "a/0004_4.jpg"].iter().for_each(|name| picture(dir, &format!("images/{name}")));
    let set = open(dir).expect("opens");
    assert_eq!(labels(&set.train), [("images/a/0001_1.jpg", &[0, 1][..]), ("images/b/0003_3.jpg", &[])]);
    assert_eq!(labels(&set.test), [("images/a/0004_4.jpg", &[1][..])]);
    let notes = set.notes.join("\n");
    assert!(
        notes.contains("Labels_lake_Train.txt:3: \"-1130179\"") && notes.contains("1 of 4 listed images are not here"),
        "{notes}"
    );
    // A path that the list names again, with other labels.
    write(dir, "ImageList/TrainImagelist.txt", "a\\0001_1.jpg\nb/0003_3.jpg\nb\\0003_3.jpg\n");
    let set = open(dir).expect("opens");
    assert_eq!(labels(&set.train), [("images/a/0001_1.jpg", &[0, 1][..]), ("images/b/0003_3.jpg", &[1])]);
    let notes = set.notes.join("\n");
    assert!(
        notes.contains(
            "TrainImagelist.txt: left out 1 image named a second time, 1 with other labels: images/b/0003_3.jpg"
        ) && !notes.contains("are not here"),
        "{notes}"
    );
    write(dir, &labels_at("lake", "Test"), "1\n0\n");
    refused(dir, &["Labels_lake_Test.txt", "2 labels for the 1 images"]);
    write(dir, "ImageList/TestImagelist.txt", "../a.jpg\n");
    refused(dir, &["TestImagelist.txt", "leads out"]);
    fs::rename(dir.join("images"), dir.join("Flickr")).expect("renamed");
    refused(dir, &["Flickr: rename"]);
}
