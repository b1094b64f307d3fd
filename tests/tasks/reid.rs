//! What the papers on people share: the flags that open a set, sets for pairs, scores from distances.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::Parser;
use rankle::collectives::World;
use rankle::datasets::{Layout, Photo, ReidSet, Split, drawn::People};
use rankle::report::Report;
use rankle::run::config::BEGUN_FROM;
use rankle::tasks::before::Before;
use rankle::tasks::reid::{self, Compared, Draws, ReidData};
use tch::Kind;

use crate::common::{close, json, line, made, matrix, put};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    data: ReidData,
}

fn flags(words: &[&str]) -> ReidData {
    Flags::parse_from([&["x"], words].concat()).data
}

fn people(photos: &[Photo]) -> std::collections::BTreeSet<i64> {
    photos.iter().map(|photo| photo.person).filter(|&person| person > 0).collect()
}

#[test]
fn flags_open_a_set_and_hold_people_out() {
    assert_eq!(flags(&["--data", "a/b//"]).data, "a/b");
    let data = flags(&["--data", "drawn", "--validation", "7"]);
    let text = serde_json::to_value(&data).expect("JSON");
    assert_eq!(text, serde_json::json!({"data": "drawn", "split": "1", "test_people": null, "validation": 7}));
    assert_eq!(serde_json::from_value::<ReidData>(text).expect("flags"), data);
    let whole = ReidData { validation: 0, ..data.clone() }.open(3).expect("drawn");
    let held = data.open(3).expect("drawn");
    assert!(people(&whole.query).is_disjoint(&people(&held.query)));
    assert_eq!(people(&held.query), people(&data.open(3).expect("drawn").query));
    assert_ne!(people(&held.query), people(&data.open(4).expect("drawn").query));
    assert_eq!((people(&held.query).len(), people(&held.train).len()), (7, people(&whole.train).len() - 7));
    assert!(line(ReidData { validation: 1000, ..data.clone() }.open(1)).contains("--validation: cannot hold out 1000"));
    for words in [["--split", "2"], ["--test-people", "5"]] {
        let data = flags(&[["--data", "drawn"], words].concat());
        assert!(line(data.open(1)).contains("the drawn set has one test set"));
    }
}

#[test]
fn nobody_is_scored_on_who_was_trained_on() {
    let held = |people| flags(&["--data", "drawn", "--validation", people]);
    for (own, other, fits) in
        [("0", "0", true), ("7", "7", true), ("7", "0", true), ("0", "7", false), ("7", "20", false)]
    {
        let set = held(own).elsewhere(&held(other), 3);
        match fits {
            true => assert_eq!(people(&set.expect("a set").query), people(&held(other).open(3).expect("a set").query)),
            false => assert!(line(set).contains("the run was trained on"), "{own} {other}"),
        }
    }
}

#[test]
fn a_part_of_what_was_trained_on_is_no_other_data() {
    let dir = tempfile::tempdir().expect("a folder");
    for (part, person, shot) in ["train", "test"].iter().flat_map(|part| (0..12).map(move |i| (part, i / 2, i % 2))) {
        let at = made(dir.path().join(format!("{part}/{part}{person}/{shot}.png")));
        rankle::datasets::drawn::photo(5, person, 1, shot, 8, 8).save(at).expect("saved");
    }
    let at = |name: &str| flags(&["--data", &dir.path().join(name).to_string_lossy()]);
    for (own, other, fits) in [
        ("", "train", false),
        ("test", "", false),
        ("", "test", true),
        ("train", "test", true),
        ("train", "test/../train", true),
    ] {
        let set = at(own).elsewhere(&at(other), 3);
        match fits {
            true => assert!(!set.unwrap_or_else(|error| panic!("{own}, {other}: {error:#}")).query.is_empty()),
            false => assert!(line(set).contains("the run was trained on"), "{own}, {other}"),
        }
    }
}

#[test]
fn one_person_alone_is_said_to_be_found_by_any_network() {
    let dir = tempfile::tempdir().expect("a folder");
    let said = |tested: &[&str]| {
        for (person, shot) in ["train/a", "train/b"].iter().chain(tested).flat_map(|person| [(person, 0), (person, 1)])
        {
            let at = made(dir.path().join(format!("{person}/{shot}.png")));
            rankle::datasets::drawn::photo(5, 1, 1, shot, 8, 8).save(at).expect("saved");
        }
        let set = flags(&["--data", &dir.path().to_string_lossy()]).open(1).expect("a set");
        set.notes.iter().any(|note| note.contains("one person and nobody else: any network finds them"))
    };
    assert!(said(&["test/c"]) && !said(&["test/d"]));
}

/// A run's folder as far as others that start from it look at it.
fn run(at: &Path, data: &str, seed: u64, start: Option<&Path>) {
    let flags = serde_json::json!({"data": data, "split": "1", "test-people": null, "validation": 7, "seed": seed, "start": start, "model": "m"});
    let config = serde_json::json!({"paper": "x", "flags": flags, "machine": {"rankle": "0"}, "argv": [], "folder": at.parent()});
    put(at.join("config.json"), config.to_string());
}

#[test]
fn whoever_a_run_goes_back_to_was_trained_on_nobody_who_is_tested() {
    let dir = tempfile::tempdir().expect("a folder");
    let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
    run(&a, "drawn", 4, None);
    // As they were typed in the folder where each was begun.
    run(&b, "nowhere", 5, Some(Path::new("a")));
    run(&c, "drawn", 4, Some(Path::new("c")));
    let held = flags(&["--data", "drawn", "--validation", "7"]);
    let before = |at: &Path| Before::of(Some(at), "model", "m");
    for at in [&a, &b, &c] {
        // Who was held out follows from that run's own seed.
        let set = before(at).apart(held.open(4).expect("a set"), &held).expect("apart");
        assert_eq!(set.notes.iter().any(|note| note.contains("nowhere cannot be opened")), at == &b);
        assert!(line(before(at).apart(held.open(5).expect("a set"), &held)).contains("was trained on"), "{at:?}");
        assert_eq!(before(at).is_one_of(Layout::Drawn), at != &b);
    }
    assert!(!before(&a).is_one_of(Layout::Cuhk03));
    assert!(line(before(&a).checkpoint()).contains("has no checkpoint yet"));
    let gone = || before(&dir.path().join("gone"));
    assert!(line(gone().checkpoint()).contains("--start"));
    let set = gone().apart(held.open(5).expect("a set"), &held).expect("a set");
    let unknown = "whether somebody tested was trained on is not known: --start";
    assert!(set.notes.iter().any(|note| note.starts_with(unknown)), "{:?}", set.notes);
    // What a was trained on counts as long as a has what b began with, also as the checkpoint before its newest.
    let [newest, older] = ["checkpoint.safetensors", "checkpoint.before.safetensors"].map(|name| a.join(name));
    put(newest.clone(), "then");
    let mut began = json(&b.join("config.json"));
    began["machine"][BEGUN_FROM] = serde_json::json!([rankle::files::hash(&newest).expect("a hash")]);
    put(b.join("config.json"), began.to_string());
    let tested = || before(&b).apart(held.open(5).expect("a set"), &held);
    assert!(line(tested()).contains("was trained on"));
    std::fs::rename(&newest, &older).expect("renamed");
    put(newest, "now");
    assert!(line(tested()).contains("was trained on"));
    std::fs::remove_file(older).expect("removed");
    let set = tested().expect("not known");
    let other = |note: &String| note.starts_with(unknown) && note.contains("/a: it has other checkpoints now");
    assert!(set.notes.iter().any(other), "{:?}", set.notes);
    assert!(Before::of(None, "model", "m").checkpoint().expect("none").is_none());
}

fn small() -> ReidSet {
    People { train: 3, test: 4, distractors: 1, cameras: 2, shots: 3, ..People::default() }.set()
}

#[test]
fn a_tracklets_middle_photo_stands_for_it() {
    let set = small();
    let names = |photos: &[Photo]| photos.iter().map(|photo| photo.name.clone()).collect::<Vec<_>>();
    let same = reid::middle_photos(&set);
    assert_eq!((names(&same.query), names(&same.gallery)), (names(&set.query), names(&set.gallery)));
    assert!(same.notes.is_empty());
    let mut films = set.clone();
    for (place, photo) in films.gallery.iter_mut().enumerate() {
        photo.tracklet = 1 + place as i64 / 3;
    }
    for (place, photo) in films.query.iter_mut().enumerate() {
        photo.tracklet = 100 + place as i64;
    }
    let middles = reid::middle_photos(&films);
    assert_eq!(names(&middles.query), names(&films.query));
    let wanted: Vec<std::sync::Arc<str>> =
        films.gallery.chunks(3).map(|tracklet| tracklet[tracklet.len() / 2].name.clone()).collect();
    assert_eq!(names(&middles.gallery), wanted);
    assert!(middles.notes.iter().any(|note| note.contains("the middle one of a tracklet")));
}

#[test]
fn a_set_without_a_match_across_cameras_cannot_be_scored() {
    let set = small();
    reid::can_be_scored(&set).expect("matches");
    let mut one = set.clone();
    one.query.iter_mut().chain(&mut one.gallery).for_each(|photo| photo.camera = 3);
    let error = format!("{:#}", rankle::tasks::Data::trainable(&one).expect_err("one camera"));
    assert!(error.contains("all its test photos are by one camera"), "{error}");
    // One folder an identity has no cameras, and may be trained on for other tests.
    one.layout = rankle::datasets::Layout::Tree;
    rankle::tasks::Data::trainable(&one).expect("can be trained on");
    assert!(line(reid::can_be_scored(&one)).contains("no query has a match of another photo"));
    let of = |wanted: fn(&Photo, &ReidSet) -> bool| {
        let gallery = set.gallery.iter().filter(|photo| wanted(photo, &set)).cloned().collect();
        reid::can_be_scored(&ReidSet { gallery, query: set.query[..1].to_vec(), ..set.clone() })
    };
    let first = |photo: &Photo, set: &ReidSet| photo.person == set.query[0].person;
    of(|_, _| true).expect("a match");
    assert!(reid::can_be_scored(&ReidSet { query: Vec::new(), ..set.clone() }).is_err());
    assert!(line(of(|_, _| false)).contains("no query has a match by another camera"));
    assert!(first(&set.gallery[0], &set), "the first query's person is in the gallery");
    of(|photo, set| photo.person == set.query[0].person && photo.camera != set.query[0].camera).expect("a match");
    assert!(of(|photo, set| photo.person != set.query[0].person || photo.camera == set.query[0].camera).is_err());
    // Distractors have no matches.
    let nobody = ReidSet { query: set.gallery.iter().filter(|photo| photo.person <= 0).cloned().collect(), ..set };
    assert!(!nobody.query.is_empty() && reid::can_be_scored(&nobody).is_err());
}

#[test]
fn a_run_that_goes_on_finds_the_people_it_was_started_with() {
    let dir = tempfile::tempdir().expect("a folder");
    let viper = dir.path().join("VIPeR");
    for (folder, camera) in [("cam_a", 1), ("cam_b", 2)] {
        for person in 0..9 {
            let photo = rankle::datasets::drawn::photo(5, person + 1, camera, 0, 32, 16);
            photo.save(made(viper.join(folder).join(format!("{person:03}_0.bmp")))).expect("saved");
        }
    }
    let open = |split: usize| {
        let data = viper.to_string_lossy().to_string();
        ReidData { data, split: Split::Number(split), test_people: Some(4), validation: 0 }.open(1).expect("opens")
    };
    let write =
        |split: usize, resumed: bool| reid::write_split(dir.path(), &open(split), Split::Number(split), resumed);
    write(1, false).expect("written");
    let written =
        || serde_json::from_slice::<serde_json::Value>(&fs::read(dir.path().join("split.json")).expect("read"));
    let value = written().expect("JSON");
    assert_eq!((&value["data"], &value["split"]), (&"VIPeR".into(), &"1".into()));
    let set = open(1);
    let tested: Vec<i64> = value["test"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|name| name.as_str().unwrap().parse::<i64>().unwrap() + 1)
        .collect();
    assert_eq!(tested, people(&set.query).into_iter().collect::<Vec<_>>());
    write(1, true).expect("the same people");
    assert!(line(write(2, true)).contains("are not those that this run was started with"));
    let whole = fs::read(dir.path().join("split.json")).expect("read");
    fs::write(dir.path().join("split.json"), &whole[..whole.len() / 2]).expect("cut");
    assert!(line(write(1, true)).contains("split.json: restore it"));
    write(2, false).expect("a new run");
    assert_ne!(written().expect("JSON"), value);
    // Sets with one test set have no such file.
    let none = tempfile::tempdir().expect("a folder");
    reid::write_split(none.path(), &small(), Split::default(), false).expect("nothing to do");
    assert!(!none.path().join("split.json").exists());
}

#[test]
fn distances_at_hand_are_scored_by_sorting() {
    let set = small();
    let (q, g) = (set.query.len(), set.gallery.len());
    let dist = matrix(8, q, g).to_kind(Kind::Float);
    let compared = Compared::of(&set, &mut dist.copy(), Draws::Random(6), 1, &World::alone()).expect("scored");
    let mut flat = &dist * 0. + 0.3;
    let alike = Compared::of(&set, &mut flat, Draws::Random(6), 1, &World::alone()).expect("scored");
    assert_eq!([alike.alike(), compared.alike()], [true, false]);
    let scores = compared.scores();
    let names: Vec<&str> = scores.iter().map(|score| score.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "single shot rank-1",
            "single shot rank-5",
            "single shot rank-10",
            "single shot rank-20",
            "whole gallery mAP",
            "whole gallery rank-1"
        ]
    );
    // Rank-1 of the whole gallery by sorting each row.
    let mut right = 0.;
    for (i, query) in set.query.iter().enumerate() {
        let mut seen: Vec<usize> = (0..g)
            .filter(|&j| {
                let photo = &set.gallery[j];
                photo.person >= 0 && (photo.person != query.person || photo.camera != query.camera)
            })
            .collect();
        seen.sort_by(|&a, &b| {
            let at = |j: usize| dist.double_value(&[i as i64, j as i64]);
            at(a).total_cmp(&at(b))
        });
        right += f64::from(u8::from(set.gallery[seen[0]].person == query.person));
    }
    close(scores[5].value, right / q as f64, 1e-12);
    assert!(scores[..4].windows(2).all(|pair| pair[0].value <= pair[1].value));
    let protocol = compared.protocol();
    assert!(
        protocol[0].contains(&format!("single shot: {q} queries")) && protocol[0].contains("averaged over 6 draws")
    );
    assert!(protocol[1].contains(&format!("{g} photos")));
    let share = format!(
        "for {:.1} % of {q} queries; among all {g} photos, for {:.1} %",
        100. * scores[0].value,
        100. * scores[5].value
    );
    assert!(compared.says().contains(&share), "{}", compared.says());
    // The first photo of everybody by the other camera, of sets with two.
    let mut two = small();
    two.query.retain(|photo| photo.camera < 3);
    two.gallery.retain(|photo| photo.camera < 3 && photo.person > 0);
    let dist = matrix(9, two.query.len(), two.gallery.len()).to_kind(Kind::Float);
    let (mut right, mut known) = (0., 0.);
    for (i, query) in two.query.iter().enumerate() {
        let mut first = BTreeMap::new();
        for (j, photo) in two.gallery.iter().enumerate().filter(|(_, photo)| photo.camera != query.camera) {
            let entry = first.entry(photo.person).or_insert(j);
            *entry = if photo.name < two.gallery[*entry].name { j } else { *entry };
        }
        let at = |j: &usize| dist.double_value(&[i as i64, *j as i64]);
        if let Some(own) = first.get(&query.person) {
            known += 1.;
            right += f64::from(u8::from(first.values().all(|j| at(own) <= at(j))));
        }
    }
    let of = |seed| Compared::of(&two, &mut dist.copy(), Draws::First, seed, &World::alone()).expect("scored");
    let [one, other] = [of(1), of(2)];
    assert_eq!(one.scores(), other.scores());
    assert!(known > 4.);
    close(one.scores()[0].value, right / known, 1e-12);
    assert!(one.protocol()[0].contains("the first photo of every person"));
    // The pictures read distances as they are shown.
    let mut report = Report::new("x", "y");
    compared.show(&mut report, |_| 0.25).expect("drawn");
    let page = report.html();
    assert!(page.contains("1 · 0.25") && page.contains("Cumulative match characteristic"));
}
