//! The binaries as several processes: the same run as one process has, and environments that are wrong.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;
use tch::{Kind, Tensor};

use super::launch::{Processes, free_port};
use crate::common::{Ended, Place, Program, close, has, value};
use crate::papers::facenet::people;

const TRIPLET_REID: Program = Program(env!("CARGO_BIN_EXE_triplet-reid"));

/// Twelve drawn people in CUHK01's layout, for quadruplet's small network.
pub fn quadruplet() -> Place {
    let usual = "--data @cuhk01 --test-people 5 --net small --size 32x16 --quadruplets 8 --device cpu";
    let place = Place::new(Program(env!("CARGO_BIN_EXE_quadruplet")), usual);
    place.cuhk01("cuhk01");
    place
}

pub fn start(size: usize, place: &Place, line: &str) -> Processes {
    Processes::start(size, |_| place.command(line))
}

/// Lines `error: ...` that a process said.
pub fn errors(ended: &Ended) -> Vec<String> {
    let text = &ended.err;
    for word in ["panicked", "backtrace", "frame #", "defect"] {
        assert!(!text.contains(word), "{text}");
    }
    text.lines().filter(|line| line.contains("error: ")).map(String::from).collect()
}

#[test]
fn two_and_four_processes_take_the_steps_of_one() {
    let place = quadruplet();
    // Few steps, and whole tensors: rounding turns a ReLU here and there, and from then on grows.
    place.good("train @one --steps 2 --steps2 1 --log-every 1");
    for size in [2, 4] {
        let name = format!("of-{size}");
        start(size, &place, &format!("train @{name} --steps 2 --steps2 1 --log-every 1 --sync-batch-norm")).good();
        let (ours, theirs) = (place.log(&name), place.log("one"));
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours["step"], theirs["step"]);
            let number = |line: &Value, key: &str| line[key].as_f64().expect("a number");
            close(number(ours, "mean"), number(theirs, "mean"), 1e-4);
        }
        let weights =
            |name: &str| rankle::weights::read(&place.path(name).join("checkpoint.safetensors")).expect("weights");
        for ((name, ours), (_, theirs)) in weights(&name).iter().zip(&weights("one")) {
            if ours.is_floating_point() {
                let length = |x: &Tensor| value(&x.to_kind(Kind::Double).norm());
                let off = length(&(ours - theirs)) / length(theirs).max(0.1);
                assert!(off < 0.02, "{name}: {off} of its length");
            }
        }
    }
    // A network that compares two photos.
    scores_of_three_are_those_of_one(&place, "one", "--pairs 8 --draws 5", 8);
}

#[test]
fn lunet_in_two_processes_with_synchronised_batch_norm_trains_and_scores_as_one() {
    let usual =
        "--data @market --net lunet --shrink 8 --size 64x32 --p 4 --k 3 --t0 3 --t1 4 --log-every 1 --device cpu";
    let place = Place::new(TRIPLET_REID, usual);
    for (person, shot) in (1..13).flat_map(|person| (0..4).map(move |shot| (person, shot))) {
        let (camera, shot) = (1 + shot / 2, shot % 2);
        let name = format!("{person:04}_c{camera}s1_{:06}_00.png", shot * 25);
        let folder = if person < 9 { "bounding_box_train" } else { "bounding_box_test" };
        place.photo(&format!("market/{folder}/{name}"), person, camera, shot);
        if person > 8 && shot == 0 {
            place.photo(&format!("market/query/{name}"), person, camera, shot);
        }
    }
    place.good("train @one");
    start(2, &place, "train @two --sync-batch-norm").good();
    let means = |name: &str| -> Vec<f64> { place.log(name).iter().filter_map(|line| line["mean"].as_f64()).collect() };
    assert_eq!((means("two").len(), means("one").len()), (4, 4));
    for (ours, theirs) in means("two").iter().zip(means("one")) {
        close(*ours, theirs, 1e-3);
    }
    // Without it a process sees its own people's statistics: another run, from its first step on.
    start(2, &place, "train @own ~--t0 --t1 1").good();
    assert!((means("own")[0] - means("one")[0]).abs() > 1e-4);

    scores_of_three_are_those_of_one(&place, "one", "--rerank", 8);

    // What is scored meanwhile is what is kept.
    start(2, &place, "train @scored --score-every 2 --validation 4").good();
    let logged = place.log("scored");
    let line = logged.iter().rfind(|line| line["score"].is_f64()).expect("a score");
    place.good("evaluate @scored --device cpu");
    let name = line["of"].as_str().expect("a name");
    close(line["score"].as_f64().expect("a number"), place.score("scored", name), 1e-6);
}

/// Three processes score `run` to the digits that one process finds, more than `least` scores; what they printed.
#[track_caller]
pub fn scores_of_three_are_those_of_one(place: &Place, run: &str, flags: &str, least: usize) -> String {
    let results = format!("{run}/results.json");
    let scores = |size| -> (String, Vec<(String, f64)>) {
        let shown = start(size, place, &format!("evaluate @{run} --device cpu {flags}")).good();
        let scores = place.json(&results)["scores"].clone();
        fs::remove_file(place.path(&results)).expect("removed");
        let map = scores.as_object().expect("scores").clone();
        (shown, map.into_iter().map(|(name, score)| (name, score.as_f64().expect("a number"))).collect())
    };
    let ((_, by_one), (shown, by_three)) = (scores(1), scores(3));
    assert!(by_one.len() > least && by_one.len() == by_three.len(), "{by_one:?}");
    for ((name, ours), (other, theirs)) in by_three.into_iter().zip(by_one) {
        assert_eq!(name, other);
        close(ours, theirs, 1e-6);
    }
    shown
}

/// Batches of uneven numbers of faces, whose loss is over all pairs of all processes.
#[test]
fn facenet_in_three_processes_sees_the_pairs_of_one() {
    let usual = "--data @faces --net small --size 16 --shrink 8 --width 16 --people 4 --faces 3 --negatives 2 --steps 4 \
                 --lr 0.01 --log-every 1 --device cpu";
    let place = Place::new(Program(env!("CARGO_BIN_EXE_facenet")), usual);
    people(&place, "faces/train", 1..7, 4);
    people(&place, "faces/test", 7..9, 4);
    place.good("train @one --chunk 64");
    start(3, &place, "train @three --chunk 64 --sync-batch-norm").good();
    let (ours, theirs) = (place.log("three"), place.log("one"));
    assert_eq!((ours.len(), theirs.len()), (4, 4));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!((&ours["step"], &ours["terms"]), (&theirs["step"], &theirs["terms"]));
        close(ours["mean"].as_f64().expect("a number"), theirs["mean"].as_f64().expect("a number"), 1e-3);
    }
    scores_of_three_are_those_of_one(&place, "one", "--enrolled 1 --neighbours 1", 10);
    // In chunks a share takes several passes; their number differs, which synchronised statistics can't have.
    start(3, &place, "train @chunks --chunk 4 --steps 1").good();
    let outputs = start(3, &place, "train @both --chunk 4 --sync-batch-norm").end();
    let said: Vec<String> = outputs.iter().flat_map(errors).collect();
    assert!(said.iter().any(|line| line.contains("--sync-batch-norm") && line.contains("--chunk")), "{said:?}");
}

/// Process 0 reads folders for all: what others' have besides is not looked at; what they lack, whoever looks for it says.
#[test]
fn folders_are_listed_by_one_process_for_all() {
    let place = quadruplet();
    let there = |folder: &str, people: std::ops::Range<u64>| {
        for (person, shot) in people.flat_map(|person| (0..4).map(move |shot| (person, shot))) {
            let name = format!("{folder}/cuhk01/campus/{person:04}{:03}.png", shot + 1);
            place.photo(&name, person, 1 + shot / 2, shot % 2);
        }
    };
    there("more", 1..15);
    there("less", 1..12);
    let line =
        "train --data cuhk01 --test-people 5 --net small --size 32x16 --quadruplets 8 --device cpu --steps 1 --run";
    for (folder, code) in [("more", 0), ("less", 1)] {
        let run = place.path(&format!("run-{folder}"));
        let outputs = Processes::start(2, |rank| {
            let words: Vec<&str> = line.split_whitespace().chain([run.to_str().expect("UTF-8")]).collect();
            let mut command = place.program.command(&words);
            command.current_dir(place.path(["", folder][rank]));
            command
        })
        .end();
        let said: Vec<Vec<String>> = outputs.iter().map(errors).collect();
        assert!(outputs.iter().all(|ended| ended.code == Some(code)), "{folder}: {said:?}");
        assert!(code == 0 || said[1][0].contains("0012") && said[0][0].contains("process 1 of 2 ended"), "{said:?}");
    }
}

#[test]
fn environments_that_are_wrong_are_answered_in_a_line() {
    let train = "train --data drawn --device cpu";
    let of_two = "WORLD_SIZE=2 RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=";
    for (line, variables, words) in [
        (train, "WORLD_SIZE=2", "RANK|torchrun"),
        (train, "WORLD_SIZE=two", "WORLD_SIZE|whole number"),
        (train, "WORLD_SIZE=0", "WORLD_SIZE is 0"),
        (train, "WORLD_SIZE=2 RANK=2", "RANK is 2|0 to 1"),
        (train, "WORLD_SIZE=1 RANK=1", "RANK is 1 but WORLD_SIZE is 1"),
        (train, "WORLD_SIZE=2 RANK=0", "MASTER_ADDR"),
        (train, &format!("{of_two}http"), "MASTER_PORT|a port"),
        (train, &format!("{of_two}0"), "MASTER_PORT|1 to 65535"),
        (train, "RANK=1", "RANK is set but WORLD_SIZE is not"),
        (train, "WORLD_SIZE=65537 RANK=0", "WORLD_SIZE is 65537|1 to 65536"),
        ("export --run nowhere", &format!("{of_two}1"), "this verb takes one process|WORLD_SIZE"),
        ("train --data drawn --device cpu --patience 9", "", "--patience 9|torchrun"),
    ] {
        let mut command = TRIPLET_REID.command(&line.split(' ').collect::<Vec<_>>());
        let variables = variables.split_whitespace().filter_map(|variable| variable.split_once('='));
        let ended = Ended::of(command.envs(variables));
        let errors = errors(&ended);
        assert_eq!((ended.code, errors.len()), (Some(1), 1), "{line}: {errors:?}");
        has(&errors[0], words);
    }
}

#[test]
fn a_process_that_waits_says_for_whom() {
    let port = free_port().to_string();
    let cases = [
        (
            "1",
            "nowhere.invalid",
            "process 1 of 2 waits for process 0 at MASTER_ADDR nowhere.invalid, a name that leads",
        ),
        ("1", "127.0.0.1", "process 1 of 2 waits for process 0 at MASTER_ADDR 127.0.0.1, MASTER_PORT"),
        ("0", "127.0.0.1", "of 2 processes (WORLD_SIZE) these have not come yet: 1"),
    ];
    let waits = |&(rank, host, words): &(&str, &str, &str)| {
        // Each its own port, or two of them would meet.
        let port = if rank == "1" { port.clone() } else { free_port().to_string() };
        let mut command = TRIPLET_REID.command(&["train", "--data", "drawn", "--device", "cpu"]);
        command.envs([("RANK", rank), ("WORLD_SIZE", "2"), ("MASTER_ADDR", host), ("MASTER_PORT", &port)]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("a process");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let found = lines.any(|line| line.contains(words));
        let _ = (child.kill(), child.wait());
        assert!(found, "not said: {words}");
    };
    std::thread::scope(|scope| cases.iter().for_each(|case| drop(scope.spawn(|| waits(case)))));
}

#[test]
fn processes_that_differ_are_told_so() {
    let place = quadruplet();
    // Other verbs, or a folder that one of them alone was told.
    let drawn = "train --data drawn --device cpu";
    for (other, words) in [
        ("evaluate @nowhere --device cpu", "the program and its verb"),
        ("train @nowhere --data drawn --device cpu", "--run: give every process"),
    ] {
        let bare = Place::new(TRIPLET_REID, "");
        let outputs = Processes::start(2, |rank| bare.command(if rank == 0 { drawn } else { other })).end();
        let said: Vec<String> = outputs.iter().flat_map(errors).collect();
        assert!(outputs.iter().all(|ended| ended.code == Some(1)), "{said:?}");
        assert!(!said.is_empty() && said.iter().all(|line| line.contains(words)), "{said:?}");
    }
    // Other flags in one of them.
    let line = |rank: usize| format!("train @run --steps 5 --seed {}", rank + 1);
    let outputs = Processes::start(2, |rank| place.command(&line(rank))).end();
    let said: Vec<String> = outputs.iter().flat_map(errors).collect();
    assert!(outputs.iter().all(|ended| ended.code == Some(1)), "{said:?}");
    assert!(
        !said.is_empty()
            && said.iter().all(|line| line.contains("flags: give every process the same ones: they differ in --seed")),
        "{said:?}"
    );
    assert!(!place.path("run/config.json").exists(), "a run that nobody began");
    // More processes than a batch has parts.
    let outputs = start(3, &place, "train @few --steps 5 --quadruplets 2").end();
    let said: Vec<String> = outputs.iter().flat_map(errors).collect();
    assert!(outputs.iter().all(|ended| ended.code == Some(1)), "{said:?}");
    assert!(said.iter().any(|line| line.contains("start fewer, or make the batch larger")), "{said:?}");
}
