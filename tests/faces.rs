//! Faces: sets on disk and drawn, verification over all pairs, recognition, clusters, cached gradients.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use image::{Rgb, RgbImage};
use rand::Rng;
use rankle::collectives::World;
use rankle::datasets::drawn::{Faces, face};
use rankle::datasets::faces::{FaceLayout, FaceSet, Pair, check, folder_names, names, open};
use rankle::datasets::{Photo, Source};
use rankle::distance::{Metric, normalize};
use rankle::metrics::all_pairs::{AllPairs, val_over_splits};
use rankle::metrics::clustering::k_means;
use rankle::metrics::recognition::{enrol, nearest, through_bytes};
use rankle::metrics::verification::{accuracy, best_threshold, folds, folds_by, val_at_far, val_at_far_by};
use rankle::models::eigenfaces::Eigenfaces;
use rankle::models::layers::Scope;
use rankle::models::{FaceSmall, Network};
use rankle::report::Report;
use rankle::sampler::FaceSampler;
use rankle::source::View;
use rankle::tasks::Data;
use rankle::tasks::faces::{
    FaceData, FaceScores, Scoring, Unseen, Variant, baselines, centred, comparison, fold_names, fold_table, judge,
    judge_folds, judge_unseen, mean_pair_distance, mean_unseen, named_fold, part, parts, show, without_fold,
};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use crate::common::{all_close, close, matrix, rows, trainable_parameters, value};

/// By one process.
fn score(set: &FaceSet, x: &Tensor, how: &Scoring, seed: u64) -> anyhow::Result<FaceScores> {
    rankle::tasks::faces::score(set, x, how, seed, &World::alone())
}

/// A picture whose grey says who and which.
fn picture(at: &Path, width: u32, height: u32, grey: u8) {
    std::fs::create_dir_all(at.parent().expect("a folder")).expect("made");
    let image = RgbImage::from_fn(width, height, |x, y| Rgb([grey, (x * 7) as u8, (y * 5) as u8]));
    image.save(at).expect("saved");
}

/// `people` people `P00`, `P01`, ... of `shots` images each under `at`.
fn tree(at: &Path, people: std::ops::Range<u8>, shots: u8) {
    for person in people {
        for shot in 1..=shots {
            let name = format!("P{person:02}");
            picture(&at.join(&name).join(format!("{name}_{shot:04}.png")), 24, 24, person * 20 + shot);
        }
    }
}

fn line<T>(result: anyhow::Result<T>) -> String {
    let text = format!("{:#}", result.err().expect("an error"));
    assert!(!text.contains('\n'), "{text}");
    text
}

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
        assert!(notes.iter().any(|note| note.starts_with("1 pair stands again in the same fold")), "{notes:?}");
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
    // Nor where another set tested, or where a part of the data is all there is.
    tree(&dir.path().join("split/train"), 0..4, 2);
    tree(&dir.path().join("split/test"), 4..8, 2);
    assert!(line(both.elsewhere(&data("tree", None))).contains("the run was trained on"));
    let part = data("split", None).elsewhere(&data("split/train", None));
    assert!(line(part).contains("the run was trained on 8 of the 8 test photos"));
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

#[test]
fn what_is_no_face_crop_is_named() {
    let dir = TempDir::new().expect("a folder");
    tree(dir.path(), 0..4, 2);
    let wide = dir.path().join("P01/P01_0009.png");
    picture(&wide, 70, 30, 9);
    let error = line(check(open(dir.path()).expect("a set").photos()));
    assert!(error.contains("P01_0009.png") && error.contains("70 x 30") && error.contains("no face crop"), "{error}");
    picture(&wide, 12, 12, 9);
    assert!(line(check(open(dir.path()).expect("a set").photos())).contains("12 x 12"));
    for i in 10..40 {
        picture(&dir.path().join(format!("P00/P00_{i:04}.png")), 12, 12, 9);
    }
    let set = open(dir.path()).expect("a set");
    assert!(line(check(set.photos())).contains("31 of 39 images cannot be used"));
    // The card names all to machines, and the first on a terminal.
    let card = set.card();
    assert_eq!((card.unreadable, card.problems.len()), (31, 31));
    let text = card.to_string();
    assert_eq!(text.matches("is no face crop").count(), 20);
    assert!(text.contains("cannot use 31 images:") && text.contains("and 11 more"), "{text}");
    (10..40).for_each(|i| std::fs::remove_file(dir.path().join(format!("P00/P00_{i:04}.png"))).expect("removed"));
    picture(&wide, 60, 30, 9);
    check(open(dir.path()).expect("a set").through(View { crop: 0.5, ..View::WHOLE }).photos()).expect("fits");
}

#[test]
fn youtube_faces_has_videos_with_their_first_hundred_frames() {
    let dir = TempDir::new().expect("a folder");
    for (video, frames) in [("A_B/0", 120), ("A_B/1", 3), ("C/0", 2), ("D/5", 1)] {
        for frame in 1..=frames {
            picture(&dir.path().join(format!("aligned_images_DB/{video}/0.{frame}.png")), 16, 16, frame as u8);
        }
    }
    let list = dir.path().join("splits.txt");
    let good = "split number, pair number, first name, second name, is same, name same\n1, 1, A_B/0, A_B/1, 1, 1\n1, 2, A_B/0, C/0, 0, 0\n2, 1, A_B/1, D/5, 1, 1\n2, 2, C/0, D/5, 0, 0\n";
    std::fs::write(&list, good).expect("written");
    let set = open(dir.path()).expect("a set");
    assert_eq!((set.layout, set.folds, set.pairs.len()), (FaceLayout::YoutubeFaces, 2, 4));
    assert_eq!(set.test.len(), 100 + 3 + 2 + 1);
    // Frame 2 before frame 10, whatever the names' order.
    let first: Vec<&str> = set.test.iter().take(12).map(|photo| &*photo.name).collect();
    assert_eq!((first[1], first[9], first[10]), ("A_B/0/0.2.png", "A_B/0/0.10.png", "A_B/0/0.11.png"));
    assert_eq!(set.pairs[1], Pair { left: 0, right: 2, same: false });
    assert!(set.notes.iter().any(|note| note.contains("not the published YouTube Faces list")));
    for (bad, words) in [
        (good.replace("D/5", "D/6"), "D/6 is missing"),
        (good.replace("A_B/1, D/5", "A_B/1, A_B/0"), "the pair A_B/1 and A_B/0 is in fold 1 and in fold 2"),
        (good.replace("C/0, 0, 0\n2", "C/0, 2, 0\n2"), "splits.txt:3"),
        (good.replace("2, 2, C/0, D/5, 0, 0\n", ""), "split 2 has 1 pairs and the first 2"),
        (good.replace("A_B/0, C/0", "../A_B/0, C/0"), "is no video"),
        (good.replace("A_B/1, D/5", "A_B/1, A_B/1"), "splits.txt:4: a video is paired with itself"),
        (good.replace("1, 2, A_B/0, C/0, 0, 0", "1, 2, A_B/0"), "3 columns"),
    ] {
        std::fs::write(&list, &bad).expect("written");
        let text = line(open(dir.path()));
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    // What the list says against the names, and whole frames in the place of aligned ones.
    std::fs::write(&list, good).expect("written");
    let against = |set: &FaceSet| set.notes.iter().find(|note| note.contains("says otherwise than the names")).cloned();
    let said = against(&open(dir.path()).expect("a set"));
    assert_eq!(
        said.as_deref(),
        Some("splits.txt says otherwise than the names of 1 pairs, as that A_B/1 and D/5 are one person")
    );
    let boxes = dir.path().join("aligned_images_DB/A_B.labeled_faces.txt");
    std::fs::write(&boxes, "").expect("written");
    assert!(line(open(dir.path())).contains("is beside whole frames: call their folder frame_images_DB"));
    std::fs::remove_file(&boxes).expect("removed");
    std::fs::remove_file(&list).expect("removed");
    assert!(line(open(dir.path())).contains("splits.txt is missing"));
}

#[test]
fn whole_frames_of_youtube_faces_are_cut_to_their_boxes() {
    let dir = TempDir::new().expect("a folder");
    let root = dir.path().join("frame_images_DB");
    for video in ["A_B/0", "A_B/1", "C/0", "D/5"] {
        for frame in 1..=3 {
            picture(&root.join(format!("{video}/0.{frame}.png")), 80, 30, frame);
        }
    }
    let splits = "1, 1, A_B/0, A_B/1, 1, 1\n1, 2, A_B/0, C/0, 0, 0\n2, 1, A_B/1, D/5, 1, 1\n2, 2, C/0, D/5, 0, 0\n";
    std::fs::write(dir.path().join("splits.txt"), splits).expect("written");
    assert!(line(open(dir.path())).contains("A_B.labeled_faces.txt is missing"));
    // The middle of a frame, one that leaves it at the upper left, and a frame without a box.
    let boxes = |name: &str, videos: &[&str]| {
        let of =
            |v: &&str| format!("{name}\\{v}\\0.1.png,0,40,15,20,18,0,0\r\n{name}\\{v}\\0.3.png,0,4,2,20,18,0,0\r\n");
        std::fs::write(root.join(format!("{name}.labeled_faces.txt")), videos.iter().map(of).collect::<String>())
            .expect("written");
    };
    boxes("A_B", &["0", "1"]);
    boxes("C", &["0"]);
    boxes("D", &["5"]);
    let set = open(dir.path()).expect("a set");
    let names: Vec<&str> = set.test.iter().take(3).map(|photo| &*photo.name).collect();
    assert_eq!((set.test.len(), names), (8, vec!["A_B/0/0.1.png", "A_B/0/0.3.png", "A_B/1/0.1.png"]));
    let image = |at: usize| set.test[at].source.image().expect("an image");
    assert_eq!((image(0).dimensions(), image(1).dimensions()), ((20, 18), (14, 11)));
    // Columns from 30, rows from 6.
    assert_eq!(image(0).get_pixel(0, 0), &Rgb([1, (30 * 7) as u8, 6 * 5]));
    assert_eq!(image(1).get_pixel(0, 0), &Rgb([3, 0, 0]));
    // The boxes are face crops, whatever the frames are.
    check(set.photos()).expect("crops");
    std::fs::write(root.join("D.labeled_faces.txt"), "D\\5\\0.1.png,0,90,15,20,18\n").expect("written");
    let error = line(check(open(dir.path()).expect("a set").photos()));
    assert!(error.contains("5/0.1.png: its box, 20 x 18 pixels around (90, 15), lies outside"), "{error}");
    std::fs::write(root.join("D.labeled_faces.txt"), "D\\5\\0.1.png,0,forty,15,20,18\n").expect("written");
    assert!(line(open(dir.path())).contains("D.labeled_faces.txt:1"));
    std::fs::write(root.join("D.labeled_faces.txt"), "D\\5\\0.1.png,0,40,15,20,18\nD\\5\\0.1.png,0,41,15,20,18\n")
        .expect("written");
    assert!(line(open(dir.path())).contains("D.labeled_faces.txt:2: a second box of "));
    // Aligned faces, where they are, are taken first.
    for video in ["A_B/0", "A_B/1", "C/0", "D/5"] {
        picture(&dir.path().join(format!("aligned_images_DB/{video}/0.1.png")), 16, 16, 1);
    }
    std::fs::write(dir.path().join("splits_corrected.txt"), splits).expect("written");
    let set = open(dir.path()).expect("a set");
    assert_eq!(set.test.len(), 4);
    assert!(set.notes.iter().any(|note| note.contains("splits.txt, which has known errors")));
    std::fs::write(dir.path().join("splits_corrected.txt"), splits.replace("C/0, 0, 0", "A_B/1, 1, 1"))
        .expect("written");
    let notes = open(dir.path()).expect("a set").notes;
    assert!(notes.iter().any(|note| note.contains("fold 1 are not half of one person")), "{notes:?}");
}

#[test]
fn centred_rows_are_unit_rows_around_nothing() {
    let x = matrix(3, 12, 5) + 2.;
    let x = normalize(&x);
    let plain = centred(&x, Variant::FlipAveraged);
    all_close(&plain, &x, 0.);
    let mean = |of: &Tensor| of.mean_dim(0, false, None::<Kind>).square().sum(Kind::Double).sqrt();
    let moved = centred(&x, Variant::MeanSubtracted);
    assert!(value(&mean(&x)) > 0.9 && value(&mean(&moved)) < 0.2, "all lay on one side: {}", value(&mean(&moved)));
    let lengths = moved.square().sum_dim_intlist(1, false, Kind::Double);
    all_close(&lengths, &Tensor::ones([12], (Kind::Double, Device::Cpu)), 1e-6);
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

#[test]
fn drawn_faces_are_a_function_of_the_seed_and_stay_in_their_folds() {
    let faces = Faces { train: 3, test: 8, shots: 9, size: 32, folds: 2, seed: 4 };
    let (set, again) = (faces.set(), faces.set());
    let image = |photo: &Photo| photo.source.image().expect("an image");
    for (a, b) in set.photos().zip(again.photos()) {
        assert_eq!(image(a), image(b));
    }
    assert_ne!(face(4, 1, 0, 32), face(5, 1, 0, 32));
    assert_ne!(face(4, 1, 0, 32), face(4, 1, 1, 32));
    assert_eq!((set.pairs.len(), set.folds, set.train.len(), set.test.len()), (120, 2, 27, 72));
    for (i, pair) in set.pairs.iter().enumerate() {
        let (a, b) = (set.test[pair.left].person, set.test[pair.right].person);
        assert_eq!(a == b, pair.same);
        assert_eq!((i / 30) % 2 == 0, pair.same);
        let fold = |person: i64| (person - 4) / 4;
        assert_eq!((fold(a), fold(b)), (i as i64 / 60, i as i64 / 60), "people of a fold stay in it");
        assert!(pair.left != pair.right);
    }
}

#[test]
fn views_crop_shrink_and_encode() {
    let image = RgbImage::from_fn(40, 20, |x, y| Rgb([(x * 6) as u8, (y * 12) as u8, 7]));
    let crop = View { crop: 0.5, ..View::WHOLE }.of(&image).expect("a crop");
    assert_eq!(crop.dimensions(), (10, 10));
    assert_eq!(crop.get_pixel(0, 0), image.get_pixel(15, 5));
    assert_eq!(View { side: Some(8), ..View::WHOLE }.of(&image).expect("small").dimensions(), (8, 8));
    let error = |quality: u8| {
        let through = View { jpeg: Some(quality), ..View::WHOLE }.of(&image).expect("encoded");
        through.as_raw().iter().zip(image.as_raw()).map(|(&a, &b)| f64::from(a.abs_diff(b))).sum::<f64>()
    };
    assert!(error(10) > 2. * error(95), "a low quality loses more");
    let source = Source::Through(Box::new((Source::Memory(image.into()), View { crop: 0.5, ..View::WHOLE }.into())));
    assert_eq!(source.image().expect("an image").dimensions(), (10, 10));
}

/// Unit rows, `per` of each of `people` people, near a direction of theirs.
fn blobs(seed: u64, people: i64, per: i64, spread: f64) -> (Tensor, Vec<i64>) {
    let centres = matrix(seed, people as usize, 6).repeat_interleave_self_int(per, 0, None);
    let x = normalize(&(centres + matrix(seed + 100, (people * per) as usize, 6) * spread));
    (x, (0..people * per).map(|i| i / per + 1).collect())
}

#[test]
fn all_pairs_equal_nested_loops() {
    let (x, people) = blobs(3, 9, 5, 0.6);
    let r = rows(&x);
    let (mut same, mut different) = (Vec::new(), Vec::new());
    for i in 0..r.len() {
        for j in i + 1..r.len() {
            let d: f64 = r[i].iter().zip(&r[j]).map(|(a, b)| (a - b).powi(2)).sum();
            if people[i] == people[j] { &mut same } else { &mut different }.push(d);
        }
    }
    let pairs = AllPairs::new(&x, &people);
    assert_eq!(pairs.pairs(), (different.len() as u64, same.len() as u64));
    different.sort_by(f64::total_cmp);
    for far in [0., 0.001, 0.01, 0.1, 0.5, 1.] {
        let at = pairs.val_at_far(far);
        // The threshold lies within a bin of the first different pair that may not be accepted.
        let allowed = (far * different.len() as f64 + 1e-9).floor() as usize;
        let edge = different.get(allowed).copied().unwrap_or(4.);
        assert!(
            at.threshold <= edge + 1e-9 && at.threshold >= edge - 4. / 65536. - 1e-9,
            "{far}: {} {edge}",
            at.threshold
        );
        let rate = |of: &[f64]| of.iter().filter(|&&d| d < at.threshold).count() as f64 / of.len() as f64;
        close(at.val, rate(&same), 1e-12);
        close(at.far, rate(&different), 1e-12);
        assert!(at.far <= far);
    }
    let ordered = same.iter().flat_map(|s| different.iter().map(move |d| if s < d { 1. } else { 0. })).sum::<f64>();
    close(pairs.auc(), ordered / (same.len() * different.len()) as f64, 1e-3);
    // Halves are widened, NaN counts as the largest distance.
    assert_eq!(AllPairs::new(&x.to_kind(Kind::Half), &people).pairs(), pairs.pairs());
    let broken = x.copy();
    let _ = broken.get(0).fill_(f64::NAN);
    assert_eq!(AllPairs::new(&broken, &people).pairs(), pairs.pairs());
    // Splits: three people each.
    let (val, sem) = val_over_splits(&x, &people, 3, 0.1).expect("three splits");
    let each: Vec<f64> = (0..3)
        .map(|s| AllPairs::new(&x.narrow(0, s * 15, 15), &people[s as usize * 15..][..15]).val_at_far(0.1).val)
        .collect();
    close(val, each.iter().sum::<f64>() / 3., 1e-12);
    let sample = (each.iter().map(|v| (v - val).powi(2)).sum::<f64>() / 2.).sqrt();
    close(sem, sample / 3_f64.sqrt(), 1e-12);
    assert!(val_over_splits(&x, &people, 9, 0.1).is_none(), "one person a split has no different pairs");
}

#[test]
fn recognition_votes_and_ties_go_to_the_nearest() {
    let gallery = Tensor::from_slice(&[0., 1., 2., 10., 11., 5.2_f64]).view([6, 1]);
    let people = [1, 1, 1, 2, 2, 3];
    let probe = Tensor::from_slice(&[0.5, 10.4, 5.]).view([3, 1]);
    let answer = |k| nearest(&gallery, &people, &probe, k, Metric::SquaredEuclidean);
    assert_eq!(answer(1), [1, 2, 3]);
    // Of 5.2, 2, 1: person 1 has two votes. Of 5.2 and 2 each has one: the nearer wins.
    assert_eq!(answer(3), [1, 2, 1]);
    assert_eq!(answer(2), [1, 2, 3]);
    let people: Vec<i64> = (0..40).map(|i| i % 7).collect();
    let (enrolled, probes) = enrol(&people, 5, 3);
    assert_eq!(enrolled, enrol(&people, 5, 3).0);
    let count = |rows: &[usize], person| rows.iter().filter(|&&row| people[row] == person).count();
    for person in 0..7 {
        let all = people.iter().filter(|&&p| p == person).count();
        let expected = if all > 5 { (5, all - 5) } else { (0, 0) };
        assert_eq!((count(&enrolled, person), count(&probes, person)), expected);
    }
    assert!(enrolled.iter().all(|row| !probes.contains(row)));
}

#[test]
fn bytes_keep_directions() {
    let x = normalize(&matrix(5, 50, 128));
    let through = through_bytes(&x);
    let cosine = (&x * &through).sum_dim_intlist(1, false, Kind::Double);
    assert!(value(&cosine.min()) > 0.999 && value(&cosine.min()) < 1. - 1e-9);
    assert_eq!(through.to_kind(Kind::Float).abs().amax(1, false).size(), [50]);
    let grid = (&through / through.abs().max()).to_kind(Kind::Double);
    assert!(value(&grid.abs().max()) <= 1. + 1e-9);
    assert_eq!(through_bytes(&Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))).size(), [0, 4]);
    assert_eq!(value(&through_bytes(&Tensor::zeros([2, 4], (Kind::Float, Device::Cpu))).abs().sum(Kind::Double)), 0.);
}

#[test]
fn k_means_finds_plain_clusters_and_survives_edges() {
    let (x, people) = blobs(8, 5, 12, 0.05);
    let mut right = 0;
    for seed in 0..10 {
        let of = k_means(&x, 5, seed, 100);
        let map: BTreeSet<(usize, i64)> = of.iter().copied().zip(people.iter().copied()).collect();
        right += usize::from(map.len() == 5);
        // No row is nearer to another cluster's mean than to its own: what Lloyd's steps end with.
        let d = |centre: &[f64], row: &[f64]| centre.iter().zip(row).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let r = rows(&x);
        let count = of.iter().max().expect("rows") + 1;
        let centres: Vec<Vec<f64>> = (0..count)
            .map(|c| {
                let mine: Vec<&Vec<f64>> = r.iter().zip(&of).filter(|(_, o)| **o == c).map(|(row, _)| row).collect();
                (0..6).map(|k| mine.iter().map(|row| row[k]).sum::<f64>() / mine.len() as f64).collect()
            })
            .collect();
        for (row, &own) in r.iter().zip(&of) {
            assert!(centres.iter().all(|centre| d(centre, row) >= d(&centres[own], row) - 1e-9));
        }
    }
    assert!(right >= 7, "{right} of 10 seeds found the five clusters");
    assert_eq!(k_means(&x, 60, 1, 100).iter().collect::<BTreeSet<_>>().len(), 60);
    assert_eq!(k_means(&Tensor::ones([4, 2], (Kind::Float, Device::Cpu)), 3, 1, 10), [0; 4]);
    assert_eq!(k_means(&x, 1, 1, 10), vec![0; 60]);
}

#[test]
fn eigenfaces_are_the_leading_components() {
    // Two strong directions in ten dimensions.
    let (a, b) = (matrix(1, 1, 10), matrix(2, 1, 10));
    let x = matrix(3, 200, 1) * 5. * &a + matrix(4, 200, 1) * 2. * &b + matrix(5, 200, 10) * 0.01 + 7.;
    for whiten in [false, true] {
        let y = Eigenfaces::fit(&x, 2).embed(&x, whiten);
        assert_eq!(y.size(), [200, 2]);
        all_close(
            &y.square().sum_dim_intlist(1, false, Kind::Double),
            &Tensor::ones([200], (Kind::Double, Device::Cpu)),
            1e-9,
        );
        if !whiten {
            // All of a centred row lies in the plane of the two: its unit components give back its direction.
            let centred = &x - x.mean_dim(0, true, None::<Kind>);
            let cosine = |i: i64, j: i64| {
                value(
                    &normalize(&centred.get(i).unsqueeze(0))
                        .matmul(&normalize(&centred.get(j).unsqueeze(1).transpose(0, 1)).transpose(0, 1)),
                )
            };
            let (near, theirs) = (value(&(y.get(0) * y.get(1)).sum(Kind::Double)), cosine(0, 1));
            close(near, theirs, 0.02);
        }
    }
    // More components than there are: as many as there can be.
    assert_eq!(Eigenfaces::fit(&x.narrow(0, 0, 4), 50).embed(&x, false).size(), [200, 3]);
    // Both ways to the components: 9 rows of 10 numbers by [9, 9], and the same with a zero column less by [10, 10].
    let (few, many) = (x.narrow(0, 0, 9), Tensor::cat(&[x.narrow(0, 0, 9), x.narrow(0, 0, 9)], 0));
    for whiten in [false, true] {
        let (a, b) = (Eigenfaces::fit(&few, 4).embed(&x, whiten), Eigenfaces::fit(&many, 4).embed(&x, whiten));
        // Components may change sign; distances may not.
        let d = |y: &Tensor| Metric::SquaredEuclidean.matrix(y, y);
        all_close(&d(&a), &d(&b), 1e-6);
    }
}

#[test]
fn folds_by_equal_folds_where_distances_do_not_depend_on_the_fold() {
    let mut rng = rankle::seed::at(9, 0, 0);
    let same: Vec<bool> = (0..200).map(|i| i % 3 == 0).collect();
    let dist: Vec<f64> = same.iter().map(|&s| rng.random_range(0.0..if s { 1.5 } else { 3.0 })).collect();
    assert_eq!(folds_by(&same, 5, |_| dist.clone()), folds(&dist, &same, 5));
    let (ours, theirs) = (val_at_far_by(&same, 5, 0.05, |_| dist.clone()), val_at_far(&dist, &same, 5, 0.05));
    assert_eq!(ours.expect("both kinds"), theirs.expect("both kinds"));
    let best = (0..400).map(|t| t as f64 * 0.01).map(|t| accuracy(&dist, &same, t)).fold(0., f64::max);
    close(accuracy(&dist, &same, best_threshold(&dist, &same)), best, 1e-12);
}

#[test]
fn variants_judge_as_they_say() {
    let faces = Faces { train: 2, test: 8, shots: 9, size: 16, folds: 2, seed: 4 };
    let set = faces.set();
    let x = normalize(&matrix(6, 72, 5));
    let r = rows(&x);
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let plain = judge(&set, &x, Variant::Plain, 0.1).expect("judged");
    for (pair, d) in set.pairs.iter().zip(&plain.dist) {
        close(*d, distance(&r[pair.left], &r[pair.right]), 1e-9);
    }
    let centred = judge(&set, &x, Variant::MeanSubtracted, 0.1).expect("judged");
    for fold in 0..2 {
        let others = set.pairs.iter().enumerate().filter(|(i, _)| i / 60 != fold).map(|(_, pair)| pair);
        let named: Vec<usize> = others.flat_map(|pair| [pair.left, pair.right]).collect();
        let mean: Vec<f64> =
            (0..5).map(|k| named.iter().map(|&row| r[row][k]).sum::<f64>() / named.len() as f64).collect();
        let unit = |row: usize| -> Vec<f64> {
            let y: Vec<f64> = r[row].iter().zip(&mean).map(|(a, b)| a - b).collect();
            let length = y.iter().map(|v| v * v).sum::<f64>().sqrt();
            y.iter().map(|v| v / length).collect()
        };
        for (i, pair) in set.pairs.iter().enumerate().filter(|(i, _)| i / 60 == fold) {
            close(centred.dist[i], distance(&unit(pair.left), &unit(pair.right)), 1e-9);
        }
    }
    // Videos: the mean over all pairs of frames, by nested loops.
    let (left, right) = (normalize(&matrix(7, 4, 5)), normalize(&matrix(8, 3, 5)));
    let mut sum = 0.;
    for a in rows(&left) {
        for b in rows(&right) {
            sum += distance(&a, &b);
        }
    }
    let mean = |x: &Tensor| x.mean_dim(0, true, None::<Kind>);
    close(value(&mean_pair_distance(&mean(&left), &mean(&right))), sum / 12., 1e-12);
}

/// Sixty photos of twelve drawn people in four folds, with rows that say a little about them.
fn small_set() -> (FaceSet, Tensor) {
    let mut set = Faces { train: 2, test: 12, shots: 5, size: 16, folds: 4, seed: 4 }.set();
    set.train = Default::default();
    let people: Vec<i64> = set.test.iter().map(|photo| photo.person).collect();
    let centres = matrix(31, 40, 6);
    let x = centres.index_select(0, &Tensor::from_slice(&people)) + matrix(32, people.len(), 6) * 0.9;
    (set, normalize(&x))
}

fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// Pairs and all pairs alone.
fn how() -> Scoring {
    Scoring {
        variant: Variant::Plain,
        flip: false,
        far: 0.1,
        enrolled: Vec::new(),
        neighbours: Vec::new(),
        cluster_cut: None,
        cluster_images: 0,
        detect: None,
        detector: None,
        jpeg: None,
        pixels: None,
    }
}

#[test]
fn scores_are_those_of_nested_loops() {
    let (set, x) = small_set();
    let r = rows(&x);
    let person = |row: usize| set.test[row].person;
    let wished = Scoring { enrolled: vec![1, 2, 9], neighbours: vec![1, 3], cluster_images: 40, ..how() };
    let scored = score(&set, &x, &wished, 5).expect("scored");
    let of = |name: &str| scored.score(name).unwrap_or_else(|| panic!("{name} is not in {:?}", scored.scores));
    let same: Vec<bool> = set.pairs.iter().map(|pair| pair.same).collect();
    let dist: Vec<f64> = set.pairs.iter().map(|pair| squared(&r[pair.left], &r[pair.right])).collect();
    let naive = folds(&dist, &same, 4);
    close(of("accuracy"), naive.mean, 1e-12);
    close(of("VAL at FAR 0.1"), val_at_far(&dist, &same, 4, 0.1).expect("both kinds").val, 1e-12);
    let bytes = through_bytes(&x);
    let through = rows(&bytes);
    let coarse: Vec<f64> = set.pairs.iter().map(|pair| squared(&through[pair.left], &through[pair.right])).collect();
    close(of("6 bytes a face: accuracy"), folds(&coarse, &same, 4).mean, 1e-12);
    // All pairs: as many different pairs as may be are nearer than the threshold, which bins make coarse.
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    for i in 0..r.len() {
        for j in i + 1..r.len() {
            if person(i) == person(j) { &mut positive } else { &mut negative }.push(squared(&r[i], &r[j]));
        }
    }
    negative.sort_by(f64::total_cmp);
    let edge = negative[(0.1 * negative.len() as f64 + 1e-9) as usize];
    let accepted = positive.iter().filter(|&&d| d < edge).count() as f64 / positive.len() as f64;
    close(of("all pairs VAL at FAR 0.1"), accepted, 0.02);
    assert!(scored.score("five splits VAL SEM").is_some() && scored.pairs.is_some());
    // Recognition: the nearest enrolled image, and three that vote.
    let people: Vec<i64> = (0..r.len()).map(person).collect();
    for (enrolled, k) in [(1, 1), (2, 1), (2, 3)] {
        let (gallery, probes) = enrol(&people, enrolled, 5);
        let answer = |probe: usize| {
            let mut order = gallery.clone();
            order.sort_by(|&a, &b| squared(&r[a], &r[probe]).total_cmp(&squared(&r[b], &r[probe])));
            let votes = |who: i64| order[..k].iter().filter(|&&row| person(row) == who).count();
            order[..k].iter().map(|&row| person(row)).rev().max_by_key(|&who| votes(who)).expect("a neighbour")
        };
        let right = probes.iter().filter(|&&probe| answer(probe) == person(probe)).count() as f64;
        close(of(&format!("recognition, {enrolled} enrolled, k = {k}")), right / probes.len() as f64, 1e-12);
    }
    assert_eq!(scored.score("recognition, 9 enrolled, k = 1"), None, "nobody has ten images");
    // Clusters: two photos are together where a person is in both, by definition of the pairwise scores.
    let clusters = scored.clusters.as_ref().expect("clusters");
    assert_eq!((clusters.rows.len(), clusters.of.len()), (40, 40));
    assert!(clusters.rows.is_sorted_by(|a, b| a < b), "forty of the sixty, none twice");
    let (mut both, mut together, mut alike) = (0., 0., 0.);
    for i in 0..40 {
        for j in i + 1..40 {
            let one = clusters.of[i] == clusters.of[j];
            let kin = person(clusters.rows[i]) == person(clusters.rows[j]);
            both += f64::from(u8::from(one && kin));
            together += f64::from(u8::from(one));
            alike += f64::from(u8::from(kin));
        }
    }
    close(of("agglomerative pairwise precision"), both / together, 1e-12);
    close(of("agglomerative pairwise recall"), both / alike, 1e-12);
    let clustered = format!("show one person, of two photos of one person {:.1} % lie", 100. * both / alike);
    assert!(scored.says[0].starts_with(&format!("{:.1} % of {} pairs ", 100. * naive.mean, set.pairs.len())));
    assert!(scored.says.len() == 2 && scored.says[1].contains(&clustered), "{:?}", scored.says);
    let said = scored.protocol.join("\n");
    let cut = naive.threshold.iter().sum::<f64>() / 4.;
    for words in [
        "best of 0, 0.01",
        "among 60 test images",
        "2 enrolled: 36 probes among 12 people",
        &format!("cut at {cut:.3}"),
        "clustering: 40 of the 60 test images",
    ] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    let given = score(&set, &x, &Scoring { cluster_cut: Some(0.5), cluster_images: 99, ..how() }, 5).expect("scored");
    assert!(given.protocol.last().expect("clusters").contains("cut at 0.500"), "{:?}", given.protocol);
    // Without a list of pairs there is nothing to subtract a mean over; VAL is what is left.
    let bare = FaceSet { pairs: Vec::new(), folds: 0, ..set.clone() };
    assert!(
        line(score(&bare, &x, &Scoring { variant: Variant::MeanSubtracted, ..how() }, 5)).contains("no list of pairs")
    );
    let named = score(&bare, &x, &Scoring { enrolled: vec![1], neighbours: vec![1], ..how() }, 5).expect("scored");
    let share = named.score("recognition, 1 enrolled, k = 1").expect("a score");
    let right = format!(
        "{} of 48 photos are named right ({:.1} %), with 1 photo enrolled",
        (48. * share).round(),
        100. * share
    );
    assert!(named.says[0].contains(&format!("face, {right} of each of 12 people.")), "{:?}", named.says);
    let bare = score(&bare, &x, &how(), 5).expect("scored");
    assert_eq!((bare.score("accuracy"), bare.judged.is_some(), bare.pairs.is_some()), (None, false, true));
    // Of people seen once nothing is to be found: with one person more there is one cluster, whatever the rows say.
    let first = |i: usize| (0..i).all(|j| person(j) != person(i));
    let rows: Vec<usize> = (0..r.len()).filter(|&i| person(i) == person(0) || first(i)).collect();
    let test: Vec<_> = rows.iter().map(|&i| set.test[i].clone()).collect();
    let alone = FaceSet { pairs: Vec::new(), folds: 0, test, ..set.clone() };
    let x = x.index_select(0, &Tensor::from_slice(&rows.iter().map(|&i| i as i64).collect::<Vec<_>>()));
    let alone = score(&alone, &x, &Scoring { cluster_images: 99, ..how() }, 5).expect("scored");
    assert!(alone.clusters.is_none() && alone.score("k-means pairwise F").is_none() && alone.pairs.is_some());
}

#[test]
fn batches_are_cut_evenly() {
    for count in 1..40 {
        let rows: Vec<usize> = (100..100 + count).collect();
        for size in 1..12 {
            let all = parts(count, size);
            let mut joined = Vec::new();
            let mut lengths = BTreeSet::new();
            for place in 0..all {
                let (first, own) = part(&rows, size, place).expect("a part");
                assert_eq!(first, joined.len());
                assert!(own.len() <= size && !own.is_empty());
                lengths.insert(own.len());
                joined.extend_from_slice(own);
            }
            assert_eq!(joined, rows);
            assert!(lengths.last().expect("parts") - lengths.first().expect("parts") <= 1, "{count} {size}");
            assert_eq!(part(&rows, size, all), None);
        }
    }
}

#[test]
fn without_outside_data_trains_on_neither_fold_and_judges_by_the_next() {
    let (mut set, x) = small_set();
    // Somebody whom no pair names has no fold.
    let stray = set.test.iter().position(|photo| photo.person == 5).expect("a photo");
    set.pairs.iter_mut().for_each(|pair| {
        for side in [&mut pair.left, &mut pair.right] {
            *side += usize::from(*side == stray);
        }
    });
    let r = rows(&x);
    let each = set.pairs.len() / 4;
    let mut all = Vec::new();
    for fold in 0..4 {
        let alone = without_fold(&set, fold).expect("a set");
        let next = (fold + 1) % 4;
        let people = |wanted: &[usize]| -> BTreeSet<i64> {
            let named = (0..set.pairs.len()).filter(|i| wanted.contains(&(i / each)));
            named.flat_map(|i| [set.pairs[i].left, set.pairs[i].right]).map(|row| set.test[row].person).collect()
        };
        let others: Vec<usize> = (0..4).filter(|&f| f != fold && f != next).collect();
        let trained: Vec<&str> = alone.train.iter().map(|photo| &*photo.name).collect();
        let wanted = set.test.iter().filter(|photo| people(&others).contains(&photo.person));
        assert_eq!(trained, wanted.map(|photo| &*photo.name).collect::<Vec<_>>());
        // Every pair of both folds, by the names of its photos.
        let names = |set: &FaceSet, pairs: &[Pair]| -> Vec<(String, String, bool)> {
            let name = |row: usize| set.test[row].name.to_string();
            pairs.iter().map(|pair| (name(pair.left), name(pair.right), pair.same)).collect()
        };
        let span = |fold: usize| &set.pairs[fold * each..][..each];
        assert_eq!(alone.folds, 2);
        assert_eq!(names(&alone, &alone.pairs), [names(&set, span(fold)), names(&set, span(next))].concat());
        let place = |name: &str| set.test.iter().position(|photo| &*photo.name == name).expect("a test photo");
        let kept: Vec<i64> = alone.test.iter().map(|photo| place(&photo.name) as i64).collect();
        let found = judge_unseen(&alone, &x.index_select(0, &Tensor::from_slice(&kept)), 0.1);
        let dist =
            |pairs: &[Pair]| -> Vec<f64> { pairs.iter().map(|pair| squared(&r[pair.left], &r[pair.right])).collect() };
        let same = |pairs: &[Pair]| -> Vec<bool> { pairs.iter().map(|pair| pair.same).collect() };
        let right =
            |pairs: &[Pair], t: f64| dist(pairs).iter().zip(same(pairs)).filter(|(d, s)| (**d < t) == *s).count();
        let best = (0..400).map(|t| t as f64 * 0.01).rev().max_by_key(|&t| right(span(next), t)).expect("a threshold");
        assert_eq!(found.threshold, best);
        close(found.accuracy, right(span(fold), best) as f64 / each as f64, 1e-12);
        // VAL: the FAR over all pairs of the next fold's images, by nested loops.
        let theirs: Vec<usize> =
            span(next).iter().flat_map(|pair| [pair.left, pair.right]).collect::<BTreeSet<_>>().into_iter().collect();
        let mut different = Vec::new();
        for (i, &a) in theirs.iter().enumerate() {
            for &b in &theirs[i + 1..] {
                if set.test[a].person != set.test[b].person {
                    different.push(squared(&r[a], &r[b]));
                }
            }
        }
        different.sort_by(f64::total_cmp);
        let edge = different[(0.1 * different.len() as f64 + 1e-9) as usize];
        let rate = |kind: bool, t: f64| {
            let of: Vec<f64> = span(fold).iter().filter(|p| p.same == kind).flat_map(|p| dist(&[*p])).collect();
            of.iter().filter(|&&d| d < t).count() as f64 / of.len() as f64
        };
        // The threshold lies on the edge of a bin of 4/65536, below the first that may not be accepted.
        assert_eq!(found.trained, (people(&others).len(), trained.len()));
        all.push(found.clone());
        for (ours, kind) in [(found.val, true), (found.far, false)] {
            assert!((rate(kind, edge - 4. / 65536.)..=rate(kind, edge)).contains(&ours), "{ours}");
        }
    }
    let named: Vec<(String, Unseen)> = all.iter().map(|fold| ("a fold".into(), fold.clone())).collect();
    let scores = mean_unseen(&named, 0.1);
    let of = |name: &str| scores.iter().find(|(known, _)| known == name).expect("a score").1;
    let mean = |of: fn(&Unseen) -> f64| all.iter().map(of).sum::<f64>() / 4.;
    close(of("accuracy"), mean(|fold| fold.accuracy), 1e-12);
    let spread = all.iter().map(|fold| (fold.accuracy - of("accuracy")).powi(2)).sum::<f64>() / 3.;
    close(of("accuracy SEM"), spread.sqrt() / 2., 1e-12);
    assert!(mean_unseen(&named[..1], 0.1).iter().all(|(name, _)| name != "accuracy SEM"), "of one fold");
    let ordered = |folds: &[Unseen]| {
        let side = |kind: bool| -> Vec<f64> {
            let pairs = folds.iter().flat_map(|fold| fold.dist.iter().zip(&fold.same));
            pairs.filter(|(_, same)| **same == kind).map(|(d, _)| *d).collect()
        };
        let (same, different) = (side(true), side(false));
        let right = same.iter().map(|s| different.iter().filter(|d| s < d).count()).sum::<usize>();
        right as f64 / (same.len() * different.len()) as f64
    };
    close(of("AUC"), all.iter().map(|fold| ordered(std::slice::from_ref(fold))).sum::<f64>() / 4., 1e-9);
    close(of("AUC of all pairs together"), ordered(&all), 1e-9);
    close(of("VAL at FAR 0.1"), mean(|fold| fold.val), 1e-12);
    let row = &fold_table(&[("1".into(), all[0].clone())]).rows[0];
    assert_eq!(row[..2], ["1".to_string(), format!("{} / {}", all[0].trained.0, all[0].trained.1)]);
    assert_eq!(row[2], format!("{:.2}", 100. * all[0].accuracy));
    // By their names: the embeddings are asked for once a fold, of its own photos.
    let rows_of = |name: &str, photos: &[Photo]| {
        assert!(["fold-02", "fold-04"].contains(&name));
        let place = |photo: &Photo| set.test.iter().position(|own| own.name == photo.name).expect("a test photo");
        Ok(x.index_select(0, &Tensor::from_slice(&photos.iter().map(|photo| place(photo) as i64).collect::<Vec<_>>())))
    };
    let judged = judge_folds(&set, &[2, 4], 1, 0.1, rows_of).expect("judged");
    for ((name, fold), wanted) in judged.iter().zip([(1, "fold-02"), (3, "fold-04")]) {
        assert_eq!((name.as_str(), fold.accuracy, fold.val), (wanted.1, all[wanted.0].accuracy, all[wanted.0].val));
    }
    assert_eq!(fold_names(&set, &[]).expect("names"), ["fold-01", "fold-02", "fold-03", "fold-04"]);
    assert!(line(fold_names(&set, &[5])).contains("folds 1 to 4"));
    assert!(line(named_fold(&set, "", 1)).contains("no training faces"), "nobody trains but in a fold");
    assert_eq!(
        named_fold(&set, "fold-01", 1).expect("a set").train.len(),
        without_fold(&set, 0).expect("a set").train.len()
    );
    assert!(line(named_fold(&set, "fold-01", 9)).contains("--min-images"));
    let mut shared = set.clone();
    let other = shared.test[shared.pairs[3 * each].left].person;
    let row = shared.pairs[0].left;
    shared.test[row].person = other;
    let name = &shared.people[other as usize - 1];
    assert!(line(without_fold(&shared, 0)).contains(&format!("{name} is in more than one fold")));
    let two = FaceSet { folds: 2, ..set.clone() };
    assert!(line(without_fold(&two, 0)).contains("three folds or more"));
    assert!(line(without_fold(&FaceSet { layout: FaceLayout::YoutubeFaces, ..set }, 0)).contains("pairs of images"));
}

#[test]
fn baselines_are_pixels_and_eigenfaces_of_other_folds() {
    let (set, _) = small_set();
    let found = baselines(&set, 0.1).expect("judged");
    assert_eq!(
        found.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["raw pixels", "eigenfaces", "eigenfaces, whitened"]
    );
    // Grey pixels of 48 x 48, less their mean, of length 1.
    let grey: Vec<Vec<f64>> = set
        .test
        .iter()
        .map(|photo| {
            let image = rankle::picture::resize(&photo.source.image().expect("an image"), 48, 48);
            let grey =
                |p: &Rgb<u8>| (0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2])) / 255.;
            image.pixels().map(grey).collect()
        })
        .collect();
    let unit = |row: &Vec<f64>| -> Vec<f64> {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let length = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt();
        row.iter().map(|v| (v - mean) / length).collect()
    };
    for (pair, d) in set.pairs.iter().zip(&found[0].1.dist) {
        close(*d, squared(&unit(&grey[pair.left]), &unit(&grey[pair.right])), 1e-5);
    }
    // Eigenfaces of a fold know nothing of its images; of a set with training faces they are learned from these.
    let each = set.pairs.len() / 4;
    let pixels = Tensor::from_slice(&grey.concat()).view([60, 48 * 48]);
    let pick =
        |rows: &BTreeSet<i64>| pixels.index_select(0, &Tensor::from_slice(&rows.iter().copied().collect::<Vec<_>>()));
    for (whiten, judged) in [(false, &found[1].1), (true, &found[2].1)] {
        for (i, pair) in set.pairs.iter().enumerate().step_by(7) {
            let others = set.pairs.iter().enumerate().filter(|(j, _)| j / each != i / each);
            let named = others.flat_map(|(_, pair)| [pair.left as i64, pair.right as i64]).collect();
            let x = rows(&Eigenfaces::fit(&pick(&named), 128).embed(&pixels, whiten));
            close(judged.dist[i], squared(&x[pair.left], &x[pair.right]), 1e-3);
        }
    }
    let trained = FaceSet { train: set.test[..20].to_vec().into(), ..set.clone() };
    let x = rows(&Eigenfaces::fit(&pixels.narrow(0, 0, 20), 128).embed(&pixels, false));
    for (pair, d) in set.pairs.iter().zip(&baselines(&trained, 0.1).expect("judged")[1].1.dist) {
        close(*d, squared(&x[pair.left], &x[pair.right]), 1e-3);
    }
    assert!(line(baselines(&FaceSet { pairs: Vec::new(), ..set.clone() }, 0.1)).contains("no list of pairs"));
    assert!(line(baselines(&FaceSet { layout: FaceLayout::YoutubeFaces, ..set }, 0.1)).contains("not of videos"));
    let scores = found[0].1.scores(0.1);
    let table = comparison(&[("pixels".into(), scores.clone()), ("none".into(), scores[..1].to_vec())], 0.1);
    let percent = |x: f64| format!("{:.2}", 100. * x);
    let judged = &found[0].1;
    let row = [
        "pixels".to_string(),
        format!("{} ± {}", percent(judged.folds.mean), percent(judged.folds.sem)),
        format!("{:.4}", judged.auc),
        format!("{:.4}", judged.eer),
        percent(judged.val.as_ref().expect("both kinds").val),
    ];
    assert_eq!(table.rows[0], row);
    assert_eq!(table.rows[1][1..], [format!("{} ± –", percent(judged.folds.mean)), "–".into(), "–".into(), "–".into()]);
    assert_eq!(table.head[4], "VAL at FAR 0.1");
}

#[test]
fn pictures_show_what_was_judged() {
    let (set, x) = small_set();
    let page = |set: &FaceSet, x: &Tensor, how: &Scoring| {
        let mut report = Report::new("faces", "");
        let scored = score(set, x, how, 5).expect("scored");
        show(&mut report, set, &scored, how.far).expect("shown");
        (report.html(), scored)
    };
    let (html, scored) = page(&set, &x, &Scoring { cluster_images: 60, ..how() });
    let judged = scored.judged.expect("judged");
    let each = set.pairs.len() / 4;
    for (kind, what) in [(true, "One person, called two"), (false, "Two people, called one")] {
        let wrong = |i: &usize| judged.same[*i] == kind && (judged.dist[*i] < judged.folds.threshold[i / each]) != kind;
        let total = (0..set.pairs.len()).filter(wrong).count();
        let said = format!("{total} in all, {} shown.", total.min(12));
        assert!(total > 0 && html.contains(what) && html.contains(&said), "{said}");
    }
    for heading in ["False rejects", "False accepts", "Operating points", "Distances of the pairs", "Clusters"] {
        assert!(html.contains(heading), "{heading}");
    }
    let (html, _) = page(&FaceSet { pairs: Vec::new(), folds: 0, ..set }, &x, &how());
    assert!(html.contains("ROC over all pairs") && !html.contains("False rejects") && !html.contains("Clusters"));
}

#[test]
fn face_batches_have_people_with_up_to_k_faces_and_other_negatives() {
    // Ten people with 1 to 10 faces.
    let labels: Vec<i64> = (1..=10).flat_map(|person| std::iter::repeat_n(person, person as usize)).collect();
    let sampler = FaceSampler::new(&labels, 4, 6, 5, 3).expect("enough people");
    assert_eq!(sampler.most(), 29);
    let mut anchors = BTreeSet::new();
    for step in 0..30 {
        let rows = sampler.batch(step);
        assert_eq!(rows, sampler.batch(step));
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "no face twice");
        let mut each: BTreeMap<i64, usize> = BTreeMap::new();
        let (main, negatives) = rows.split_at(rows.len() - 5);
        let known = sampler.identities(step);
        let of: Vec<i64> = main.iter().map(|&row| labels[row]).chain([-1, -2, -3, -4, -5]).collect();
        assert_eq!(known, of, "a further negative has an identity of its own");
        main.iter().for_each(|&row| *each.entry(labels[row]).or_default() += 1);
        assert_eq!(each.len(), 4);
        for (&person, &count) in &each {
            assert_eq!(count, (person as usize).min(6), "person {person}");
        }
        assert!(negatives.iter().all(|&row| !each.contains_key(&labels[row])), "negatives are other people");
        anchors.extend(each.into_keys());
    }
    assert_eq!(anchors, (2..=10).collect(), "person 1 has no second face");
    assert!(FaceSampler::new(&labels, 10, 6, 0, 3).is_none() && FaceSampler::new(&labels, 4, 1, 0, 3).is_none());
}

#[test]
fn the_small_network_gives_unit_rows() {
    let store = VarStore::new(Device::Cpu);
    let net = FaceSmall::new(&Scope::root(&store, 1), 64, 128, 1).expect("it fits");
    assert_eq!(trainable_parameters(&store), 913_824);
    let images = matrix(2, 3, 3 * 64 * 64).view([3, 3, 64, 64]).to_kind(Kind::Float);
    let x = net.forward(&images, false);
    assert_eq!(x.size(), [3, 128]);
    all_close(
        &x.square().sum_dim_intlist(1, false, Kind::Double),
        &Tensor::ones([3], (Kind::Double, Device::Cpu)),
        1e-5,
    );
    let store = VarStore::new(Device::Cpu);
    assert!(FaceSmall::new(&Scope::root(&store, 1), 15, 8, 1).is_err());
    assert!(FaceSmall::new(&Scope::root(&store, 1), 32, 8, 33).is_err());
}
