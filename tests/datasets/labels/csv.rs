//! A plain list, labels.csv.

use std::fs;
use std::path::Path;

use rankle::datasets::labels::{Content, open};

use super::{labels, picture, refused, write};

#[test]
fn a_plain_list_needs_image_and_labels() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    write(
        dir,
        "labels.csv",
        "\u{feff}Image,labels,split\na.jpg,sky;sea,train\nb.jpg,,train\n\"c, d.jpg\",sea; sky;sea,test\n",
    );
    let set = open(dir).expect("opens");
    assert_eq!(set.classes, ["sea", "sky"]);
    assert_eq!(labels(&set.train), [("images/a.jpg", &[0, 1][..]), ("images/b.jpg", &[])]);
    assert_eq!(labels(&set.test), [("images/c, d.jpg", &[0, 1][..])]);
    // Excel's of another country, Windows' backslashes and line ends; a list that names the folder too.
    picture(dir, "images/f/b.jpg");
    write(dir, "labels.csv", "image;labels;split\r\nf\\a.jpg;\"sky;sea\";train\r\n\r\nimages\\f\\b.jpg;sea;test\r\n");
    let set = open(dir).expect("opens");
    assert_eq!(labels(&set.train), [("images/f/a.jpg", &[0, 1][..])]);
    assert_eq!(labels(&set.test), [("images/f/b.jpg", &[0][..])]);
    write(dir, "labels.csv", "image;labels;split\na.jpg;caf\u{e9},sea;train\nb.jpg;sea,cafe\u{301};test\n");
    let set = open(dir).expect("opens");
    assert_eq!(
        (set.classes, labels(&set.test)),
        (vec!["caf\u{e9}".into(), "sea".into()], vec![("images/b.jpg", &[0, 1][..])])
    );
    // Accents apart, as macOS names files.
    picture(dir, "images/e\u{301}.jpg");
    write(dir, "labels.csv", "image,labels,split\n\u{e9}.jpg,sky,train\nb.jpg,sea,test\n");
    let Content::Image(source) = open(dir).expect("opens").train.remove(0).content else { panic!("an image") };
    source.check().expect("found");
    let rows: String = (0..8).map(|i| format!("{i}.jpg,{}\n", ["sky", "sea"][i % 2])).collect();
    write(dir, "labels.csv", &format!("image,labels\n{rows}"));
    let set = open(dir).expect("opens");
    assert_eq!((set.train.len(), set.test.len()), (6, 2));
    assert!(set.notes.iter().any(|note| note.contains("2 of 8 images held out")), "{:?}", set.notes);
    // What no row names; what is missing is named when it is looked for.
    let unnamed = "no list names 2 images in images: e\u{301}.jpg";
    assert!(set.notes.iter().any(|note| note == unnamed), "{:?}", set.notes);
    let card = set.card();
    assert_eq!(card.unreadable, 8);
    assert!(card.problems.iter().any(|problem| problem.contains("images/0.jpg: no such file")), "{:?}", card.problems);
    for (bad, words) in [
        ("name,labels\na.jpg,x\n", "no column image"),
        ("image,labels,split\na.jpg,x,dev\n", "labels.csv:2: the split is \"dev\""),
        ("image,labels\na.jpg,x\na.jpg,y\n", "labels.csv:3: images/a.jpg stands twice"),
        ("image,labels\na.jpg,\"cat, dog\"\n", "labels.csv:2: the class \"cat, dog\": write ; between"),
        ("image,labels\na.jpg,cat|dog\n", "labels.csv:2: the class \"cat|dog\": write ; between"),
        ("image,labels\na.jpg,dog\nb.jpg,cat;DOG\n", "labels.csv:3: DOG is dog in line 2: "),
        ("image,labels,Labels\na.jpg,x,y\n", "labels.csv:1: two columns are called labels"),
        ("image,labels\n../a.jpg,x\n", "labels.csv:2: the image \"../a.jpg\" leads out of the images' folder"),
        ("image,labels\n\na.jpg,x,y\n", "labels.csv:3: 3 columns where the first line has 2"),
        ("image,labels\nC:\\a.jpg,x\n", "is an absolute path"),
        ("image,labels\na.jpg,x\nb.jpg,x\nc.jpg,x\nd.jpg,x\n", "has one class"),
    ] {
        write(dir, "labels.csv", bad);
        refused(dir, &[words]);
    }
    let nothing = tempfile::tempdir().expect("a folder");
    refused(nothing.path(), &["no JPEGImages (VOC)"]);
    // The folder that was meant; one that has all but its photos, or a name in other letters.
    write(nothing.path(), "a/set/labels.csv", "image,labels\n");
    fs::create_dir_all(nothing.path().join("a/set/images")).expect("made");
    refused(nothing.path(), &["give ", "a/set, which looks like a set"]);
    refused(&nothing.path().join("a/set/images"), &["give ", "a/set, which looks like a set"]);
    fs::rename(nothing.path().join("a/set/images"), nothing.path().join("a/set/Images")).expect("moved");
    refused(&nothing.path().join("a/set"), &["Images: call it images"]);
    write(nothing.path(), "voc/ImageSets/Main/trainval.txt", "");
    fs::create_dir_all(nothing.path().join("voc/JPEGImages")).expect("made");
    refused(&nothing.path().join("voc"), &["test.txt is missing: VOC2007 comes in two archives"]);
    refused(Path::new("data/VOC2007-none"), &["no folder"]);
    refused(Path::new("nowhere/VOC2007"), &["scripts/fetch voc2007"]);
    refused(Path::new("nowhere/coco2014"), &["scripts/fetch coco2014"]);
}
