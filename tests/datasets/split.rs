//! CUHK03, CUHK01 and VIPeR: names, splits, what differs from the published sets.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rankle::datasets::{self, Layout, Photo, ReidSet, Source, Split, open_split, split_people, tested};

use super::fill;
use crate::common::line;

fn people(photos: &[Photo]) -> BTreeSet<i64> {
    photos.iter().map(|photo| photo.person).collect()
}

/// Test people are in query (camera A) and gallery (camera B) alone; nobody is on both sides.
fn is_divided(set: &ReidSet) {
    assert!(
        people(&set.train).is_disjoint(&people(&set.query)) && people(&set.train).is_disjoint(&people(&set.gallery))
    );
    assert!(set.query.iter().all(|photo| photo.camera == 1) && set.gallery.iter().all(|photo| photo.camera == 2));
}

#[test]
fn viper_is_paired_by_prefix_and_split_by_number() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path().join("VIPeR");
    // Not contiguous, and 000 is somebody.
    let ids: Vec<u32> = (0..20).map(|i| i * i).collect();
    let names =
        |cam: &str, angle: u32| ids.iter().map(move |id| format!("cam_{cam}/{id:03}_{angle}.bmp")).collect::<Vec<_>>();
    fill(&dir, &names("a", 45));
    fill(&dir, &names("b", 90));
    let open = |number, test| open_split(&dir, Split::Number(number), Some(test));
    let set = open(1, 10).expect("opens");
    assert_eq!((set.layout, set.name.as_str()), (Layout::Viper, "VIPeR"));
    is_divided(&set);
    assert_eq!((people(&set.train).len(), set.query.len(), set.gallery.len()), (10, 10, 10));
    assert_eq!(people(&set.query), people(&set.gallery));
    assert!(set.photos().any(|photo| photo.person == 1) && set.photos().all(|photo| photo.person > 0));
    // The same split everywhere, another for another number.
    assert_eq!(people(&set.query), people(&open(1, 10).expect("opens").query));
    let others: Vec<BTreeSet<i64>> = (2..12).map(|number| people(&open(number, 10).expect("opens").query)).collect();
    assert!(others.iter().all(|other| *other != people(&set.query)));
    assert!(others.iter().flatten().collect::<BTreeSet<_>>().len() == 20, "everybody is tested in some split");
    assert!(!set.is_published() && set.notes.iter().any(|note| note.contains("not the published VIPeR: 40 images")));
    // Written out by the names in the files' names.
    let written = split_people(&set).expect("has splits");
    assert_eq!((written.train.len(), written.test.len()), (10, 10));
    assert!(written.train.union(&written.test).any(|name| name == "000"));
    assert!(written.test.iter().all(|name| people(&set.query).contains(&(name.parse::<i64>().expect("a number") + 1))));
    assert!(line(open_split(&dir, Split::default(), None)).contains("--test-people 316: "));
    assert!(line(open_split(&dir, Split::NewProtocol, None)).contains("np is CUHK03's new protocol"));
    fill(&dir, &["cam_b/x_0.bmp"]);
    assert!(line(open(1, 10)).contains("x_0.bmp: not a VIPeR name"));
}

#[test]
fn cuhk01_has_two_photos_a_camera() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path().join("cuhk01");
    let names: Vec<String> =
        (1..=12).flat_map(|id| (1..=4).map(move |photo| format!("campus/{id:04}{photo:03}.png"))).collect();
    fill(&dir, &names);
    for at in [dir.clone(), dir.join("campus")] {
        let set = open_split(&at, Split::Number(3), Some(5)).expect("opens");
        assert_eq!(set.layout, Layout::Cuhk01);
        is_divided(&set);
        assert_eq!((set.train.len(), set.query.len(), set.gallery.len()), (28, 10, 10));
        let written = split_people(&set).expect("has splits");
        assert_eq!((written.train.len(), written.test.len()), (7, 5));
        assert!(written.train.union(&written.test).any(|name| name == "0012"));
        let of = |name: &str| set.photos().find(|photo| photo.name.ends_with(name)).expect("there").clone();
        assert_eq!((of("0007002.png").person, of("0007002.png").camera, of("0007003.png").camera), (7, 1, 2));
    }
    for bad in ["campus/0001005.png", "campus/1001.png", "campus/0000001.png"] {
        fill(&dir, &[bad]);
        assert!(line(open_split(&dir, Split::default(), Some(5))).contains("not a CUHK01 name"), "{bad}");
        fs::remove_file(dir.join(bad)).expect("removed");
    }
}

/// Numbers of a table stand beside a test of as many people as the paper's.
#[test]
fn a_published_set_is_named_by_how_many_are_tested() {
    let photo = |person| Photo {
        source: Source::Memory(std::sync::Arc::new(image::RgbImage::new(1, 1))),
        name: "a".into(),
        person,
        camera: 1,
        tracklet: -1,
    };
    let named =
        |layout, people| tested(&ReidSet { layout, query: (1..=people).map(photo).collect(), ..ReidSet::default() });
    for (layout, people, name) in [
        (Layout::Cuhk01, 486, Some("CUHK01")),
        (Layout::Cuhk01, 100, Some("CUHK01, 100 test people")),
        (Layout::Cuhk01, 50, None),
        (Layout::Viper, 316, Some("VIPeR")),
        (Layout::Viper, 100, None),
        (Layout::Market1501, 7, Some("Market-1501")),
    ] {
        assert_eq!(named(layout, people).ok().as_deref(), name, "{people} of {layout}");
    }
}

/// A converted CUHK03 of few people: 6 of pair 1, 3 of pair 2, 2 of pair 4; ten photos each.
fn cuhk03(up: &Path) {
    for kind in ["labeled", "detected"] {
        for (pair, count) in [(1, 6), (2, 3), (4, 2)] {
            let photo = |id: i32, n: i32| format!("{pair}_{id:03}_{}_{n:02}.png", if n <= 5 { 1 } else { 2 });
            let names: Vec<String> = (1..=count).flat_map(|id| (1..=10).map(move |n| photo(id, n))).collect();
            fill(&up.join(kind), &names);
        }
    }
    fs::write(up.join("testsets.json"), "[[[1,2],[2,3]],[[1,1],[1,6]]]").expect("written");
}

#[test]
fn cuhk03_follows_its_test_sets() {
    let dir = tempfile::tempdir().expect("a folder");
    let up = dir.path().join("cuhk03");
    cuhk03(&up);
    let open = |kind: &str, split| open_split(&up.join(kind), split, None);
    let set = open("labeled", Split::Number(1)).expect("opens");
    assert_eq!((set.layout, set.name.as_str()), (Layout::Cuhk03, "cuhk03-labeled"));
    is_divided(&set);
    assert_eq!(people(&set.query), BTreeSet::from([10_002, 20_003]));
    assert_eq!(
        split_people(&set).expect("has splits").test,
        BTreeSet::from(["1_002".to_string(), "2_003".to_string()])
    );
    assert_eq!((people(&set.train).len(), set.query.len(), set.gallery.len()), (7, 10, 10));
    assert!(
        set.notes.iter().any(|note| note.contains("left out 20 photos of camera pairs 4 and 5")),
        "{:?}",
        set.notes
    );
    assert!(!set.is_published());
    let census = "not the published CUHK03's photos: 6 persons of camera pair 1 (published 843), 3 of camera pair 2 (published 440), 0 of camera pair 3 (published 77), 2 of camera pair 4 (published 58), 0 of camera pair 5 (published 49), 110 photos (published 14,096)";
    assert_eq!(set.notes.iter().filter(|note| *note == census).count(), 1, "{:?}", set.notes);
    let second = open("detected", Split::Number(2)).expect("opens");
    assert_eq!(people(&second.query), BTreeSet::from([10_001, 10_006]));
    assert!(line(open("labeled", Split::Number(3))).contains("has 2 test sets: say 1 to 2"));
    assert!(line(open_split(&up, Split::default(), None)).contains("holds two sets: say"));
    assert!(line(open_split(&up.join("labeled"), Split::default(), Some(5))).contains("--test-people"));
    // The new protocol's lists.
    assert!(line(open("labeled", Split::NewProtocol)).contains("new_protocol_labeled.json is missing"));
    let lists =
        r#"{"train":["1_001_1_01.png","1_002_1_01.png"],"query":["4_001_1_01.png"],"gallery":["4_001_2_06.png"]}"#;
    fs::write(up.join("new_protocol_labeled.json"), lists).expect("written");
    let new = open("labeled", Split::NewProtocol).expect("opens");
    assert_eq!((new.train.len(), new.query[0].person, new.gallery[0].camera), (2, 40_001, 2));
    fs::write(up.join("new_protocol_labeled.json"), lists.replace("4_001_2_06", "4_001_2_99")).expect("written");
    assert!(line(open("labeled", Split::NewProtocol)).contains("4_001_2_99.png is not among the photos"));
    for (bad, words) in [("[[[9,9]]]", "nobody of test set 1"), ("[[1,2]]", "not as scripts/convert cuhk03 writes it")]
    {
        fs::write(up.join("testsets.json"), bad).expect("written");
        assert!(line(open("labeled", Split::Number(1))).contains(words), "{bad}");
    }
    for bad in ["6_001_1_01.png", "1_001_3_01.png", "1_001_1.png", "1_001_1_01.jpg"] {
        fill(&up.join("labeled"), &[bad]);
        assert!(line(open("labeled", Split::Number(1))).contains(&format!("{bad}: not a CUHK03 name")));
        fs::remove_file(up.join("labeled").join(bad)).expect("removed");
    }
    // As downloaded.
    let raw = dir.path().join("release");
    fill(&raw, &["cuhk-03.mat"]);
    assert!(line(datasets::open(&raw)).contains("scripts/convert cuhk03"));
}

/// Every person of the published set with ten photos or fewer, as many photos as `labeled` has: nothing differs but names.
#[test]
fn cuhk03_is_compared_whole_before_it_is_split() {
    let dir = tempfile::tempdir().expect("a folder");
    let up = dir.path().join("cuhk03");
    let people: Vec<(usize, usize)> =
        [843, 440, 77, 58, 49].into_iter().zip(1..).flat_map(|(n, pair)| (1..=n).map(move |id| (pair, id))).collect();
    // 1,467 people; ten photos each are 14,670, and 574 of them have one fewer.
    let missing = 10 * people.len() - 14_096;
    let names = |less: usize| -> Vec<String> {
        let of = |(row, &(pair, id)): (usize, &(usize, usize))| {
            let count = if row >= people.len() - less { 9 } else { 10 };
            (1..=count).map(move |n| format!("{pair}_{id:03}_{}_{n:02}.png", if n <= 5 { 1 } else { 2 }))
        };
        people.iter().enumerate().flat_map(of).collect()
    };
    fill(&up.join("labeled"), &names(missing));
    let sets: Vec<Vec<[usize; 2]>> = vec![(1..=100).map(|id| [1, id]).collect()];
    fs::write(up.join("testsets.json"), serde_json::to_vec(&sets).expect("json")).expect("written");
    let set = open_split(&up.join("labeled"), Split::Number(1), None).expect("opens");
    assert!(set.is_published(), "{:?}", set.notes);
    fs::rename(up.join("labeled/1_001_1_01.png"), up.join("labeled/1_001_1_11.png")).expect("renamed");
    let set = open_split(&up.join("labeled"), Split::Number(1), None).expect("opens");
    assert!(!set.is_published());
    let said = "not the published CUHK03's photos: labeled/1_001_1_01.png is missing";
    assert!(set.notes.iter().any(|note| note == said), "{:?}", set.notes);
    fs::remove_file(up.join("labeled/5_049_1_01.png")).expect("removed");
    let set = open_split(&up.join("labeled"), Split::Number(1), None).expect("opens");
    assert!(set.notes.iter().any(|note| note.ends_with("14,095 photos (published 14,096)")), "{:?}", set.notes);
}

#[test]
fn a_split_is_a_number_from_1_or_np_and_only_where_there_are_splits() {
    assert_eq!(("7".parse(), "np".parse()), (Ok(Split::Number(7)), Ok(Split::NewProtocol)));
    for split in [Split::Number(7), Split::NewProtocol] {
        let text = serde_json::to_string(&split).expect("JSON");
        assert_eq!((text.clone(), serde_json::from_str(&text).ok()), (format!("\"{split}\""), Some(split)));
    }
    for bad in ["0", "-1", "first", ""] {
        assert!(bad.parse::<Split>().is_err(), "{bad}");
    }
    let dir = tempfile::tempdir().expect("a folder");
    fill(dir.path(), &["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "c/1.jpg"]);
    assert!(line(open_split(dir.path(), Split::Number(2), None)).contains("has one fixed test set: leave out --split"));
}
