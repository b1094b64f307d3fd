//! Who trains and who is tested, by folders and lists of names.

use std::collections::{BTreeMap, BTreeSet};

use rankle::datasets::Photo;
use rankle::datasets::faces::{FaceLayout, FaceSet, folder_names, names, open};
use rankle::tasks::Data;
use tempfile::TempDir;

use super::tree;
use crate::common::line;

#[test]
fn trees_and_splits_keep_people_apart() {
    let dir = TempDir::new().expect("a folder");
    tree(&dir.path().join("tree"), 0..12, 2);
    let set = open(&dir.path().join("tree")).expect("a set");
    assert_eq!((set.layout, set.train.len(), set.test.len(), set.folds), (FaceLayout::Tree, 18, 6, 0));
    let people = |photos: &[Photo]| photos.iter().map(|photo| photo.person).collect::<BTreeSet<_>>();
    assert!(people(&set.train).is_disjoint(&people(&set.test)));
    for photo in set.photos() {
        assert!(photo.name.starts_with(&set.people[photo.person as usize - 1]), "{}", photo.name);
    }
    tree(&dir.path().join("split/train"), 0..5, 2);
    tree(&dir.path().join("split/test"), 4..8, 2);
    let split = open(&dir.path().join("split")).expect("a set");
    assert_eq!((split.layout, split.train.len(), split.test.len()), (FaceLayout::Split, 10, 8));
    // P04 is on both sides; P01 is excluded by name, P02 through the name of its folder.
    let known = BTreeMap::from([("P02".to_string(), "Somebody Else".to_string())]);
    let clean = split.disjoint(&known, &["p01".into(), "Else, Sömebody".into(), "No Body".into()]);
    let left: BTreeSet<&str> = clean.train.iter().map(|photo| &clean.people[photo.person as usize - 1][..]).collect();
    assert_eq!(left, BTreeSet::from(["P00", "P03"]));
    assert!(clean.notes.iter().any(|note| note.starts_with("3 training people (6 images)")), "{:?}", clean.notes);
    assert!(clean.notes.iter().any(|note| note.starts_with("1 of 3 excluded names are nobody's")), "{:?}", clean.notes);
    let nameless = "4 of 5 training people have no name in the list of names, as \"P00\"";
    assert!(clean.notes.iter().any(|note| note == nameless), "{:?}", clean.notes);
    // Two folders with one name in the list, or in other letters, are two people, which is said.
    let known = BTreeMap::from([("P00", "Ann Amos"), ("P03", "ann_amos")].map(|(of, name)| (of.into(), name.into())));
    let twins = open(&dir.path().join("split")).expect("a set").disjoint(&known, &[]);
    let said = "1 folder has another's name and is a person of its own, as P00 and P03: ";
    assert!(twins.notes.iter().any(|note| note.starts_with(said)), "{:?}", twins.notes);
    tree(&dir.path().join("twins"), 0..4, 2);
    std::fs::rename(dir.path().join("twins/P03"), dir.path().join("twins/p_01")).expect("renamed");
    tree(&dir.path().join("twins"), 4..5, 2);
    std::fs::rename(dir.path().join("twins/P04"), dir.path().join("twins/P-01")).expect("renamed");
    let twins = open(&dir.path().join("twins")).expect("a set").all_trained().alike(&BTreeMap::new()).notes;
    assert!(
        twins.iter().any(|note| note.contains("as P-01 and p_01") || note.contains("as p_01 and P-01")),
        "{twins:?}"
    );
    // The training twin of a tested person leaves, and is none of its own.
    for (part, names) in [("train", ["p_00", "P01", "P02"]), ("test", ["P-00", "P04", "P05"])] {
        for (old, name) in names.iter().enumerate() {
            tree(&dir.path().join("apart").join(part), old as u8..old as u8 + 1, 2);
            let at = dir.path().join("apart").join(part);
            std::fs::rename(at.join(format!("P{old:02}")), at.join(name)).expect("renamed");
        }
    }
    let apart = open(&dir.path().join("apart")).expect("a set").disjoint(&BTreeMap::new(), &[]);
    assert_eq!(
        (apart.left, apart.notes.iter().any(|note| note.contains("of its own"))),
        (1, false),
        "{:?}",
        apart.notes
    );
    // A column of counts is none of the name.
    for (row, left) in [
        ("P01\t12", 4),
        ("P01, 12", 4),
        ("P01,12,f", 4),
        ("P01", 4),
        ("12", 5),
        ("P01 12", 5),
        ("P01_12", 5),
        ("P01_0012.jpg", 4),
    ] {
        let list = dir.path().join("exclude.txt");
        std::fs::write(&list, format!("{row}\n")).expect("written");
        let set = open(&dir.path().join("split")).expect("a set");
        let set = FaceSet { test: Vec::new(), ..set }.disjoint(&BTreeMap::new(), &names(&list).expect("names"));
        let people = set.train.iter().map(|photo| photo.person).collect::<BTreeSet<_>>();
        assert_eq!(people.len(), left, "{row}: {:?}", set.notes);
        let nobody = set.notes.iter().any(|note| note.starts_with("1 of 1 excluded names are nobody's"));
        assert_eq!(nobody, left == 5, "{row}: {:?}", set.notes);
        let photo = set.notes.iter().any(|note| note.starts_with("1 of 1 excluded names are photos' names"));
        assert_eq!(photo, row == "P01_0012.jpg", "{row}: {:?}", set.notes);
    }
    // Train and test perhaps swapped, and nobody left.
    tree(&dir.path().join("turned/train"), 0..4, 2);
    tree(&dir.path().join("turned/test"), 0..8, 2);
    let turned = open(&dir.path().join("turned")).expect("a set");
    assert!(
        turned.notes.iter().any(|note| note.starts_with("train has 4 identities and test 8: ")),
        "{:?}",
        turned.notes
    );
    // VGGFace2's by its numbers, whatever there is more of.
    for (part, person, all) in [("train", "n000001", 0..8), ("test", "n000002", 8..11)] {
        tree(&dir.path().join("vgg").join(part), all.clone(), 2);
        let first = dir.path().join(format!("vgg/{part}/P{:02}", all.start));
        std::fs::rename(first, dir.path().join(format!("vgg/{part}/{person}"))).expect("renamed");
    }
    let notes = open(&dir.path().join("vgg")).expect("a set").notes;
    assert!(notes.iter().any(|note| note.starts_with("train has n000001, whom VGGFace2 tests, and test")), "{notes:?}");
    let trees = FaceSet { layout: FaceLayout::Tree, ..turned };
    assert!(line(trees.disjoint(&BTreeMap::new(), &[]).trainable()).contains("has nobody left to train on"));
    // Another set's test, its people numbered after ours.
    let both = open(&dir.path().join("tree")).expect("a set").tested_on(clean.clone());
    assert_eq!((both.train.len(), both.test.len(), both.people.len()), (18, 8, 12 + 9));
    for photo in &both.test {
        assert!(photo.name.starts_with(&both.people[photo.person as usize - 1]), "{}", photo.name);
    }
    assert!(line(open(&dir.path().join("train/none"))).contains("no folder"));
    std::fs::create_dir(dir.path().join("empty")).expect("made");
    assert!(line(open(&dir.path().join("empty"))).contains("no images under"));
    // Few people are tested all, and not trained on.
    tree(&dir.path().join("few"), 0..3, 2);
    let few = open(&dir.path().join("few")).expect("a set");
    assert_eq!((few.train.len(), few.test.len()), (0, 6));
    assert!(
        line(few.trainable()).contains("few has 3 people (one folder a person, DIR/NAME/*.jpg): at least 4 needed")
    );
    assert!(line(open(&dir.path().join("nowhere"))).contains("no folder"));
}

#[test]
fn people_with_few_images_are_pruned_or_serve_as_negatives() {
    let dir = TempDir::new().expect("a folder");
    tree(&dir.path().join("train"), 0..3, 3);
    tree(&dir.path().join("train"), 3..5, 1);
    tree(&dir.path().join("test"), 5..7, 2);
    let set = open(dir.path()).expect("a set");
    let all = set.clone().pruned(1).expect("enough");
    assert_eq!(all.train.len(), 11);
    assert!(all.notes.iter().any(|note| note.contains("2 training people have one image: further negatives")));
    let pruned = set.clone().pruned(2).expect("enough");
    assert_eq!(pruned.train.len(), 9);
    assert!(pruned.notes.iter().any(|note| note.contains("2 training people have fewer than 2 images")));
    assert!(line(set.clone().pruned(9)).contains("--min-images"));
    let single =
        FaceSet { train: set.train.iter().filter(|p| p.person > 3).cloned().collect::<Vec<_>>().into(), ..set };
    assert!(line(single.pruned(1)).contains("2 training people, 2 of them with one image"));
}

#[test]
fn lists_of_names_are_read() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("names.csv");
    std::fs::write(&path, "# VGGFace2\nn000001, \"A_B\", 12\n\nn000002\tC D\n").expect("written");
    assert_eq!(names(&path).expect("names"), ["n000001, A_B, 12", "n000002\tC D"]);
    std::fs::write(&path, "n000001, \"A_B,_Jr.\", 12\nn000002,C D # her own\n").expect("written");
    let map = folder_names(&path).expect("a map");
    assert_eq!((map["n000001"].as_str(), map["n000002"].as_str()), ("A_B,_Jr.", "C D"));
    for (text, words) in [
        ("a,Ann B\nb,Ann B\na,ann_b\n", None),
        ("a,Ann\nb,Bo\na,Zed\n", Some("names.csv:3: a is Zed here and Ann above: leave one")),
    ] {
        std::fs::write(&path, text).expect("written");
        match words {
            Some(words) => assert!(line(folder_names(&path)).contains(words)),
            None => assert_eq!(folder_names(&path).expect("a map").len(), 2),
        }
    }
    std::fs::write(&path, "alone\n").expect("written");
    assert!(line(folder_names(&path)).contains("expected FOLDER,NAME"));
    assert!(line(names(&dir.path().join("none.txt"))).contains("none.txt"));
}
