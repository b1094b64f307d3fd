//! Lists of pairs.

use rankle::datasets::faces::{FaceLayout, Pair, open};
use tempfile::TempDir;

use super::{picture, tree};
use crate::common::line;

#[test]
fn lists_of_pairs_are_read_and_every_fault_is_named_with_its_line() {
    let dir = TempDir::new().expect("a folder");
    tree(&dir.path().join("lfw"), 0..4, 3);
    let list = dir.path().join("pairs.txt");
    let good = "2\t1\nP00\t1\t2\nP00\t1\tP01\t3\nP02\t3\t1\nP02\t2\tP03\t2\n";
    std::fs::write(&list, good).expect("written");
    let set = open(dir.path()).expect("a set");
    assert_eq!((set.layout, set.folds, set.test.len(), set.train.len()), (FaceLayout::Lfw, 2, 12, 0));
    let named = |pair: &Pair| (&*set.test[pair.left].name, &*set.test[pair.right].name, pair.same);
    assert_eq!(
        set.pairs.iter().map(named).collect::<Vec<_>>(),
        [
            ("P00/P00_0001.png", "P00/P00_0002.png", true),
            ("P00/P00_0001.png", "P01/P01_0003.png", false),
            ("P02/P02_0003.png", "P02/P02_0001.png", true),
            ("P02/P02_0002.png", "P03/P03_0002.png", false),
        ]
    );
    assert!(!set.is_published() && set.notes.iter().any(|note| note.contains("not LFW's View 2")));
    std::fs::write(&list, good.replace('\t', "  ").replace('\n', "\r\n")).expect("written");
    assert_eq!(open(dir.path()).expect("spaces and CRLF").pairs, set.pairs);
    std::fs::write(&list, format!("\u{feff}{good}")).expect("written");
    assert_eq!(open(dir.path()).expect("a byte order mark").pairs, set.pairs);
    for (bad, words) in [
        (good.replace("P01\t3", "P01\t4"), "pairs.txt:3"),
        (good.replace("P01\t3", "P01\t4"), "P01_0004"),
        (good.replace("P02\t3\t1", "P02\t3"), "pairs.txt:4: 2 columns"),
        (good.replace("P02\t3\t1", "P02\t3\tx"), "\"x\" is no image number"),
        (good.replace("2\t1\n", "ten 300\n"), "is no header"),
        (good.replace("2\t1\n", "300\n"), "is no header"),
        (good.replace("2\t1\n", "1\t2\n"), "2 folds or more"),
        (good.replace("2\t1\n", "3\t1\n"), "4 pairs where the header says 3 x 2 x 1"),
        (format!("{good}P00\t1\t3\n"), "more than 2 x 2 x 1 pairs"),
        (
            good.replace("P00\t1\t2\nP00\t1\tP01\t3\n", "P00\t1\tP01\t3\nP00\t1\t2\n"),
            "pairs.txt:2: a pair of different people",
        ),
        (good.replace("P00\t1\tP01\t3", "P00\t1\tP00\t3"), "one name"),
        (good.replace("P00\t1\t2", "P00\t1\t1"), "paired with itself"),
        (String::new(), "an empty list"),
    ] {
        std::fs::write(&list, &bad).expect("written");
        let text = line(open(dir.path()));
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let (once, twice) = ("P00\t1\tP01\t3\n", "P01\t3\tP00\t1\n");
    let of_four = |second: &str, fourth: &str| {
        let fold = |same: [&str; 2], other: [&str; 2]| [same.concat(), other.concat()].concat();
        let first = fold(["P00\t1\t2\n", "P01\t1\t2\n"], [once, second]);
        format!("2\t2\n{first}{}", fold(["P02\t3\t1\n", "P03\t3\t1\n"], ["P02\t2\tP03\t2\n", fourth]))
    };
    let other = "P02\t1\tP03\t1\n";
    for again in [once, twice] {
        std::fs::write(&list, of_four(again, other)).expect("written");
        let notes = open(dir.path()).expect("a set").notes;
        assert!(
            notes.iter().any(|note| note.starts_with("1 pair stands again in the same fold and counts again, as ")),
            "{notes:?}"
        );
        std::fs::write(&list, of_four("P00\t2\tP01\t2\n", again)).expect("written");
        let text = line(open(dir.path()));
        assert!(text.contains("is in fold 1 and in fold 2, whose thresholds"), "{text}");
    }
    // Another file that ends in the number is passed by; two of the right name are not chosen between.
    std::fs::write(&list, good).expect("written");
    picture(&dir.path().join("lfw/P00/P00_crop_0001.png"), 24, 24, 9);
    let beside = open(dir.path()).expect("a set");
    assert_eq!(&*beside.test[beside.pairs[0].left].name, "P00/P00_0001.png");
    picture(&dir.path().join("lfw/P00/P00_0001.bmp"), 24, 24, 9);
    assert!(line(open(dir.path())).contains("pairs.txt:2: P00/P00_0001.bmp and P00/P00_0001.png are both image 1"));
    std::fs::remove_file(dir.path().join("lfw/P00/P00_0001.bmp")).expect("removed");
    // The photos alone say where their list is; of two releases none is chosen, whatever they are called.
    let alone = open(&dir.path().join("lfw")).expect("a set");
    assert!(alone.notes.iter().any(|note| note.contains("pairs.txt is above this folder")), "{:?}", alone.notes);
    tree(&dir.path().join("lfw-funneled"), 0..4, 3);
    let text = line(open(dir.path()));
    assert!(text.contains("lfw and ") && text.contains("lfw-funneled both hold people"), "{text}");
    std::fs::remove_dir_all(dir.path().join("lfw")).expect("removed");
    assert_eq!(open(dir.path()).expect("a set").pairs.len(), 4);
    // A link that leads nowhere is no set without a list.
    std::fs::remove_file(&list).expect("removed");
    std::os::unix::fs::symlink("nowhere", &list).expect("linked");
    assert!(line(open(dir.path())).contains("pairs.txt"));
}

/// macOS writes accents apart, and lists have them composed; or the other way round.
#[test]
fn lists_and_folders_agree_on_accents() {
    for (folder, listed) in [("Jose\u{301}", "Jos\u{e9}"), ("Jos\u{e9}", "Jose\u{301}")] {
        let dir = TempDir::new().expect("a folder");
        tree(&dir.path().join("lfw"), 0..1, 2);
        for shot in 1..=2 {
            picture(&dir.path().join(format!("lfw/{folder}/{folder}_{shot:04}.png")), 24, 24, 100 + shot);
        }
        let list = format!("2\t1\n{listed}\t1\t2\n{listed}\t1\tP00\t1\nP00\t1\t2\nP00\t2\t{listed}\t2\n");
        std::fs::write(dir.path().join("pairs.txt"), list).expect("written");
        let set = open(dir.path()).expect("a set");
        assert_eq!((set.pairs.len(), &*set.test[set.pairs[0].left].name), (4, &*format!("{folder}/{folder}_0001.png")));
    }
}
