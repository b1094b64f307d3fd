//! Photos that cannot be used, or are others than before.

use std::fs;
use std::process::Stdio;

use rand::Rng;

use super::paper;
use crate::common::{Ended, Place, has, send, within};

/// Folders of people with photos of noise, and the same photos with a list of their labels.
fn photos(place: &Place) {
    for (part, people) in [("train", 6), ("test", 2)] {
        for (person, shot) in (0..people).flat_map(|person| (0..3).map(move |shot| (person, shot))) {
            let mut rng = rankle::seed::at(person, shot, part.len() as u64);
            let noise = image::RgbImage::from_fn(32, 32, |_, _| image::Rgb(rng.random()));
            noise.save(place.made(&format!("tree/{part}/{part}{person}/{shot}.png"))).expect("saved");
        }
    }
    let mut list = String::from("image,labels,split\n");
    std::os::unix::fs::symlink(place.path("tree"), place.made("list/images")).expect("a link");
    for (part, people) in [("train", 6), ("test", 2)] {
        for i in 0..people * 3 {
            let labels = if i % 2 == 0 { "a" } else { "b;c" };
            list += &format!("{part}/{part}{}/{}.png,{labels},{part}\n", i / 3, i % 3);
        }
    }
    place.write("list/labels.csv", list);
}

#[test]
fn photos_that_cannot_be_used_or_are_others_than_before_are_named() {
    let pairs = "--net small --size 32x16 --quadruplets 4 --steps 4 --steps2 4 --log-every 1 --any-camera";
    let labels = "--net small --size 16 --most 2 --epochs 4 --epochs2 1 --batch 5 --log-every 1";
    let offline =
        "--net lunet --shrink 32 --size 32x32 --loss triplet-ohm --triplets 6 --ohm-every 3 --t1 8 --log-every 1";
    let (facenet, reid) = (paper("facenet"), paper("triplet-reid"));
    let all = [
        (facenet.program, "tree", format!("--net small {}", facenet.small.replace("--steps 4", "--steps 8"))),
        (reid.program, "tree", offline.into()),
        (paper("quadruplet").program, "tree", pairs.into()),
        (paper("multilabel-ranking").program, "list", labels.into()),
    ];
    for (program, data, flags) in all {
        let place = Place::new(program, &flags);
        photos(&place);
        let cut = place.path("tree/train/train1/1.png");
        let bytes = fs::read(&cut).expect("a photo");
        fs::write(&cut, &bytes[..bytes.len() / 2]).expect("cut");
        // Someone of whom nothing is left.
        let gone = [0, 1, 2].map(|shot| place.path(&format!("tree/train/train4/{shot}.png")));
        gone.iter().for_each(|path| fs::write(path, "").expect("emptied"));
        let train = format!("train @run --data @{data} --checkpoint-every 4");
        let skips = format!("{train} --skip-unreadable");
        place.bad(&[(1, &train, "train1/1.png: a truncated PNG")]);
        place.good(&skips);
        let read = |name: &str| fs::read(place.path(&format!("run/{name}"))).expect("a file");
        let (log, weights) = (read("log.jsonl"), read("checkpoint.safetensors"));
        let text = String::from_utf8_lossy(&log);
        let last = text.lines().rfind(|line| line.contains("left_out"));
        // Two of the list's are set aside.
        let count = format!("\"left_out\":{}}}", if data == "list" { 2 } else { 4 });
        assert!(last.is_some_and(|line| line.ends_with(&count)), "{}: {text}", program.0);
        // From the checkpoint before the last one: the same bytes.
        fs::remove_file(place.path("run/checkpoint.safetensors")).expect("removed");
        place.good(&skips);
        assert!(read("log.jsonl") == log && read("checkpoint.safetensors") == weights, "{}", program.0);
        if flags.contains("--any-camera") {
            place.good("evaluate @run --draws 1");
        }
        // Nor does embed, unless it may: what has no row is named.
        let embed = "embed @run --images @tree/train --out @rows.safetensors";
        place.bad(&[(1, embed, "4 of 18 images cannot be used (--skip-unreadable leaves them out)")]);
        has(&place.good(&format!("{embed} --skip-unreadable")), "Left out: 4 photos cannot be read.");
        let metadata = rankle::weights::metadata(&place.path("rows.safetensors")).expect("metadata");
        let names =
            |key: &str| -> Vec<String> { serde_json::from_str(metadata[key].as_str().expect("text")).expect("names") };
        assert_eq!((names("names").len(), &names("not read")[0][..], names("not read").len()), (14, "train1/1.png", 4));
        // Scores leave nothing out.
        place.bad(&[(2, "evaluate @run --skip-unreadable", "--skip-unreadable")]);
        // The photo is mended: another one than the run was begun with.
        gone.iter().chain([&cut]).for_each(|path| fs::write(path, &bytes).expect("mended"));
        place.bad(&[(1, &train, "4 of other bytes (|train1/1.png|--data-changed")]);
        place.good(&format!("{train} --data-changed"));
        // Nothing was trained on it, and the list still says so.
        place.bad(&[(1, &train, "--data-changed")]);
        if program.0 == facenet.program.0 {
            // From the checkpoint before the last one: what was trained on both says so to whoever reads its scores.
            fs::remove_file(place.path("run/checkpoint.safetensors")).expect("removed");
            place.good(&format!("{train} --data-changed"));
            place.good(&train);
            let words = "training data changed: from about step 4: |4 of other bytes (|train1/1.png";
            place.good("report @run");
            has(&place.read("run/report.html"), words);
            has(&place.good("evaluate @run"), words);
            has(place.json("run/results.json")["not_comparable_because"].as_str().expect("a reason"), words);
            has(&place.read("run/report.html"), words);
        }
        if data == "list" {
            fs::write(&cut, &bytes[..bytes.len() / 2]).expect("cut");
            let list = place.read("list/labels.csv").replacen(",a,train", ",b,train", 1);
            place.write("list/labels.csv", &list);
            place.bad(&[(1, &skips, "1 of other labels or content (|train/train0/0.png|--data-changed")]);
        }
    }
    let drawn = ["train", "--data", "drawn", "--skip-unreadable"];
    reid.program.bad(&drawn, 2, &["--skip-unreadable: ", "no image files"]);
}

/// Scores say what they are of, and nothing is scored that cannot be written.
#[test]
fn scores_of_changed_photos_are_told_from_those_before() {
    for (name, data, flags) in [
        ("triplet-reid", "tree", "--net lunet --shrink 32 --size 32x32 --p 3 --k 2 --t1 1"),
        ("facenet", "tree", "--net small --size 16 --shrink 8 --width 16 --people 4 --faces 3 --negatives 2 --steps 1"),
        ("multilabel-ranking", "list", "--net small --size 16 --epochs 1 --epochs2 1 --batch 8 --most 2"),
    ] {
        let place = Place::new(paper(name).program, flags);
        photos(&place);
        place.good(&format!("train @run --data @{data}"));
        let evaluate = || {
            let said = place.ends("evaluate @run").well().err.contains("test data are not those");
            (said, place.json("run/results.json")["scored"].as_str().expect("a hash").to_string())
        };
        let (first, again) = (evaluate(), evaluate());
        assert!(!first.0 && first == again, "{name}: {first:?} {again:?}");
        // Of the same size, or nearly.
        fs::copy(place.path("tree/test/test0/1.png"), place.path("tree/test/test1/2.png")).expect("copied");
        let other = evaluate();
        assert!(other.0 && other.1 != first.1, "{name}: {other:?}");
        assert_eq!(evaluate(), (false, other.1), "{name}");
        // Results that cannot be replaced are refused before the work: there is no checkpoint to do it with.
        fs::remove_file(place.path("run/checkpoint.safetensors")).expect("removed");
        for file in ["results.json", "report.html"] {
            let (path, kept) = (place.path(&format!("run/{file}")), place.path("kept"));
            fs::rename(&path, &kept).expect("moved");
            std::os::unix::fs::symlink(&kept, &path).expect("a link");
            place.bad(&[(1, "evaluate @run", &format!("{file}|a link"))]);
            fs::remove_file(&path).and_then(|()| fs::rename(&kept, &path)).expect("moved back");
        }
    }
}

/// Photos that were trained on are no test: not where a change of the folder makes others the held out, nor in a copy of some of
/// them; where one of them differs it may be something else.
#[test]
fn nothing_is_tested_that_was_trained_on() {
    let flags = "--net small --size 16 --shrink 8 --width 16 --people 4 --faces 3 --negatives 2 --steps 1";
    let place = Place::new(paper("facenet").program, flags);
    for (person, shot) in (0..8).flat_map(|person| (0..3).map(move |shot| (person, shot))) {
        place.photo(&format!("tree/{person}/{shot}.png"), person, 1, shot);
    }
    place.good("train @run --data @tree"); // of which a quarter, two people, is held out
    place.copy(&place.path("tree"), "elsewhere/copied");
    let without = |person: usize| {
        let (there, away) = (place.path(&format!("tree/{person}")), place.path("away"));
        fs::rename(&there, &away).expect("moved");
        let refused = ["", " --best"].map(|more| {
            let ended = place.ends(&format!("evaluate @run{more}"));
            ended.code == Some(1)
                && ended.err.contains("the run was trained on")
                && ended.err.contains("held out changed")
        });
        fs::rename(&away, &there).expect("moved back");
        assert_eq!(refused[0], refused[1], "by whatever weights");
        refused[0]
    };
    assert!((0..8).filter(|&person| without(person)).count() > 2);
    place.good("evaluate @run");
    let evaluate = "evaluate @run --data @elsewhere/copied";
    place.bad(&[(1, evaluate, "the run was trained on 18 of the 24 test photos of copied|bytes")]);
    fs::remove_dir_all(place.path("elsewhere/copied/0")).expect("removed");
    place.bad(&[(1, evaluate, "of the 21 test photos of copied|bytes")]);
    for person in 1..8 {
        for shot in 0..3 {
            let path = place.path(&format!("elsewhere/copied/{person}/{shot}.png"));
            image::RgbImage::new(32, 60 + shot).save(path).expect("saved");
        }
    }
    place.good(evaluate);
    // A photo of each person in both is no copy.
    for person in 1..8 {
        let [from, to] = ["tree", "elsewhere/copied"].map(|at| place.path(&format!("{at}/{person}/0.png")));
        fs::copy(from, to).expect("copied");
    }
    has(&place.ends(evaluate).well().err, "run was trained on | of 21 test photos (|/0.png is one): ");
    // Where the list is another's, it is said, and what evaluate can do about it.
    place.write("run/photos.csv.gz", "another's");
    let said = place.ends("evaluate @run").well().err;
    has(&said, "is not known: cannot read |photos.csv.gz: restore it: it is not as this run wrote it");
    assert!(!said.contains("--data-changed"), "{said}");
}

/// Nor where training and test have folders of their own, or people's folders have other names.
#[test]
fn nothing_is_tested_that_was_trained_on_wherever_it_lies() {
    let single = "--net lunet --shrink 32 --size 32x32 --p 3 --k 2 --t1 1";
    let pairs = "--net small --size 32x16 --quadruplets 4 --steps 1 --steps2 1 --any-camera";
    for (name, flags, more) in [("triplet-reid", single, ""), ("quadruplet", pairs, " --draws 1")] {
        let place = Place::new(paper(name).program, flags);
        photos(&place);
        place.good("train @run --data @tree");
        place.copy(&place.path("tree/train"), "copied");
        for person in 0..6 {
            let at = |folder: &str| place.path(&format!("copied/{folder}{person}"));
            fs::rename(at("train"), at("p")).expect("renamed");
            let photo = |name: &str| place.path(&format!("copied/p{person}/{name}.png"));
            fs::rename(photo("0"), photo("first")).expect("renamed");
        }
        let words = "was trained on 6 of the 6 test photos of copied";
        place.bad(&[(1, &format!("evaluate @run --data @copied{more}"), words)]);
        if name == "quadruplet" {
            place.bad(&[(1, "train @next --data @copied --start @run", &format!("--start: the run|{words}"))]);
        }
        // What both parts have is told.
        fs::copy(place.path("tree/train/train0/0.png"), place.path("tree/test/test0/9.png")).expect("copied");
        let words = "1 of 7 test photos are in the training too|test/test0/9.png, which is train/train0/0.png";
        has(&place.ends(&format!("evaluate @run{more}")).well().err, words);
        has(&place.good("data --data @tree"), words);
        fs::rename(place.path("tree/train/train3"), place.path("tree/test/train3")).expect("moved");
        let words = "was trained on 3 of the 10 test photos of tree|held out changed";
        place.bad(&[(1, &format!("evaluate @run{more}"), words)]);
    }
}

/// A photo that is replaced while a run trains is another than the one that it began with, however the training ends.
#[test]
fn photos_replaced_while_a_run_trains_are_told() {
    let flags = "--net small --size 16 --shrink 8 --width 16 --people 4 --faces 3 --negatives 2 --steps 3000";
    for ends in [None, Some(libc::SIGTERM)] {
        let place = Place::new(paper("facenet").program, flags);
        photos(&place);
        place.photo("other.png", 9, 1, 1);
        let mut command = place.command("train @run --data @tree");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        assert!(within(60, || place.path("run/photos.csv.gz").exists()));
        send(child.id(), libc::SIGSTOP);
        fs::rename(place.path("other.png"), place.path("tree/train/train0/0.png")).expect("replaced");
        ends.into_iter().for_each(|signal| send(child.id(), signal));
        send(child.id(), libc::SIGCONT);
        let words = "during the training: 1 of other bytes (|train0/0.png)";
        let ended = Ended::after(child);
        match ends {
            None => {
                has(&ended.well().err, words);
                place.good("evaluate @run");
                has(place.json("run/results.json")["not_comparable_because"].as_str().expect("a reason"), words);
            }
            Some(_) => {
                has(&ended.err, words);
                has(&ended.err, "stopped by SIGTERM");
                place.bad(&[(1, "train @run --data @tree", "1 of other bytes (|train0/0.png|--data-changed")]);
            }
        }
    }
}
