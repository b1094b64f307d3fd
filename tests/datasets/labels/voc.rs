//! VOC.

use std::fs;

use rankle::datasets::Look;
use rankle::datasets::labels::{LabelLayout, open};

use super::{labels, picture, refused, write};

#[test]
fn voc_takes_every_object_and_knows_the_difficult_ones() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let xml = |objects: &[(&str, u8)]| {
        let objects = objects.iter().map(|(name, difficult)| {
            format!(
                "<object><name>{name}</name><difficult>{difficult}</difficult><part><name>head</name></part></object>"
            )
        });
        format!("<annotation><filename>x</filename>{}</annotation>", objects.collect::<String>())
    };
    write(dir, "ImageSets/Main/trainval.txt", "000005\n000007\n\n");
    write(dir, "ImageSets/Main/test.txt", "000001\r\n");
    write(dir, "Annotations/000005.xml", &xml(&[("chair", 0), ("chair", 1), ("aeroplane", 1)]));
    write(dir, "Annotations/000007.xml", &xml(&[]));
    write(dir, "Annotations/000001.xml", &xml(&[("person", 0), ("dog", 0)]));
    ["000005", "000007", "000001"].iter().for_each(|id| picture(dir, &format!("JPEGImages/{id}.jpg")));
    let set = open(dir).expect("opens");
    assert_eq!((set.layout, set.classes.len(), set.published), (LabelLayout::Voc2007, 20, false));
    assert_eq!(labels(&set.train), [("JPEGImages/000005.jpg", &[0, 8][..]), ("JPEGImages/000007.jpg", &[])]);
    assert_eq!(set.train[0].difficult, [0]);
    assert_eq!(labels(&set.test), [("JPEGImages/000001.jpg", &[11, 14][..])]);
    assert!(set.notes.iter().any(|note| note.contains("2 trainval images (published 5,011)")), "{:?}", set.notes);
    assert!(!set.notes.iter().any(|note| note.contains("no list names")), "{:?}", set.notes);
    set.check(true, Look::ALL).expect("all images are there");
    let set = set.without_unlabelled();
    assert_eq!(set.train.len(), 1);
    assert!(set.notes.iter().any(|note| note.contains("left out 1 training item without a label")));
    // As unpacked, one level up.
    let up = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(up.path().join("VOCdevkit")).expect("made");
    std::os::unix::fs::symlink(dir, up.path().join("VOCdevkit/VOC2007")).expect("linked");
    for at in [up.path(), &up.path().join("VOCdevkit")] {
        assert_eq!(open(at).expect("opens").train.len(), 2);
    }
    // What a list names twice counts once; what both lists name is told.
    write(dir, "ImageSets/Main/trainval.txt", "000005\n000007\n000005\n");
    write(dir, "ImageSets/Main/test.txt", "000001\n000007\n");
    let again = open(dir).expect("opens");
    assert_eq!((again.train.len(), again.test.len()), (2, 2));
    let notes = again.notes.join("\n");
    assert!(notes.contains("trainval.txt: left out 1 image named a second time: JPEGImages/000005.jpg"), "{notes}");
    assert!(notes.contains("1 image in the training list and in the test list: JPEGImages/000007.jpg"), "{notes}");
    assert!(again.card().to_string().contains("note: trainval.txt: left out 1 image"));
    write(dir, "ImageSets/Main/test.txt", "000001\n");
    // Truncated image, unknown class, broken XML, a class list for an image list.
    let bytes = fs::read(dir.join("JPEGImages/000001.jpg")).expect("there");
    fs::write(dir.join("JPEGImages/000001.jpg"), &bytes[..bytes.len() / 2]).expect("cut");
    let error = format!("{:#}", open(dir).expect("opens").check(true, Look::ALL).expect_err("cut"));
    assert!(error.contains("1 of 3 images") && error.contains("000001.jpg"), "{error}");
    write(dir, "Annotations/000001.xml", &xml(&[("unicorn", 0)]));
    refused(dir, &["000001.xml", "unicorn"]);
    write(dir, "Annotations/000001.xml", "<annotation><object>");
    refused(dir, &["000001.xml", "no whole XML"]);
    write(dir, "ImageSets/Main/test.txt", "000001 -1\n");
    refused(dir, &["test.txt:1", "no image's name"]);
    write(dir, "ImageSets/Main/test.txt", "../../secret\n");
    refused(dir, &["test.txt:1"]);
    fs::remove_file(dir.join("ImageSets/Main/test.txt")).expect("removed");
    refused(dir, &["test.txt is missing"]);
}
