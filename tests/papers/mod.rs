//! All papers through one harness: every verb, kills, bad input, and what each program says of itself. A paper is a row of
//! [`papers`]; what only one paper has stands in its own file.

mod facenet;
mod multilabel_ranking;
mod quadruplet;
mod skill_determination;
mod triplet_reid;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rand::Rng;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Program, json, strs};

/// A paper as the harness drives it.
struct Case {
    program: Program,
    /// The smallest training on drawn data: some seconds.
    small: &'static str,
    /// A training long enough to be killed in, and a flag that makes it so.
    long: &'static str,
    /// A flag of `small` with another value: refused on resume.
    changed: [&'static str; 3],
    /// A flag that such a training does not look at, the last but one word; empty where the paper has none.
    idle: &'static str,
    /// Where the checkpoint of its (first) training lies in the run.
    part: &'static str,
    /// What `export` writes.
    model: &'static str,
    /// Flags that show all scores which these data can give.
    scoring: &'static str,
    /// Scores of claims that need other data than drawn ones.
    elsewhere: &'static [&'static str],
    /// What `embed` is given, and the tensor that it writes.
    embed: (&'static str, &'static str),
}

fn papers() -> Vec<Case> {
    // An example of this package: cargo builds it beside the binaries when it builds the tests.
    let sixth = Path::new(env!("CARGO_BIN_EXE_triplet-reid")).with_file_name("examples").join("sixth");
    let sixth = Program(sixth.to_string_lossy().into_owned().leak());
    vec![
        Case {
            program: Program(env!("CARGO_BIN_EXE_facenet")),
            small: "--size 16 --shrink 8 --width 16 --people 4 --faces 3 --negatives 2 --chunk 5 --steps 4 --log-every 2",
            long: "--steps 40 --checkpoint-every 5 --mining random-in-margin --optimiser adam",
            changed: ["--people", "4", "5"],
            idle: "--folds 1",
            part: "",
            model: "model.pt",
            scoring: "--enrolled 1 --neighbours 1",
            elsewhere: &[],
            embed: ("--images", "embeddings"),
        },
        Case {
            program: Program(env!("CARGO_BIN_EXE_multilabel-ranking")),
            small: "--net small --size 16 --epochs 1 --epochs2 1 --batch 400 --log-every 2",
            long: "--epochs 8 --epochs2 8 --checkpoint-every 5",
            changed: ["--batch", "400", "300"],
            idle: "--hidden 5",
            part: "",
            model: "model.pt",
            scoring: "",
            elsewhere: &["class mAP (VOC2007", "class mAP (step, difficult"],
            embed: ("--images", "scores"),
        },
        Case {
            program: quadruplet::QUADRUPLET,
            small: "--net small --size 32x16 --quadruplets 4 --steps 2 --steps2 2 --log-every 2",
            // With dropout, which must drop the same after a resume.
            long: "--steps 20 --steps2 20 --dropout 0.5 --checkpoint-every 3",
            changed: ["--quadruplets", "4", "5"],
            idle: "--margin 1",
            part: "",
            model: "model.pt",
            scoring: "--pairs 9 --draws 2",
            elsewhere: &[],
            embed: ("--images", "dissimilarity"),
        },
        Case {
            program: Program(env!("CARGO_BIN_EXE_skill-determination")),
            small: "--net small --folds 1 --side 16 --batch 4 --steps-spatial 4 --steps-temporal 4 --log-every 2",
            long: "--steps-spatial 40 --checkpoint-every 5",
            changed: ["--batch", "4", "5"],
            idle: "--loss rank1 --beta 0.3",
            part: "fold-1-spatial",
            model: "model-spatial.pt",
            scoring: "--sigma 5",
            elsewhere: &["fused, separation", "fused, alpha", "fused, snippets", "spatial, ", "temporal, "],
            embed: ("--videos", "spatial"),
        },
        Case {
            program: Program(env!("CARGO_BIN_EXE_triplet-reid")),
            small: "--net lunet --shrink 32 --size 32x32 --p 3 --k 2 --t1 4 --log-every 2",
            long: "--t1 40 --checkpoint-every 5",
            changed: ["--p", "3", "4"],
            idle: "--triplets 5",
            part: "",
            model: "model.pt",
            scoring: "--rerank --views original",
            elsewhere: &["multi query"],
            embed: ("--images", "embeddings"),
        },
        Case {
            program: sixth,
            small: "--people 3 --steps 4 --log-every 2",
            long: "--steps 60 --checkpoint-every 5",
            changed: ["--people", "3", "4"],
            idle: "",
            part: "",
            model: "model.pt",
            scoring: "",
            elsewhere: &[],
            embed: ("--images", "embeddings"),
        },
    ]
}

/// The words of a command line.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// A folder for a test's runs.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(TempDir::new().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().to_string()
    }

    /// `verb` of the small training into run `name`; a flag given in `more` replaces the small one's.
    fn small(&self, case: &Case, verb: &str, name: &str, more: &[&str]) -> Vec<String> {
        let run = self.text(name);
        let mut args: Vec<&str> = vec![verb, "--data", "drawn", "--run", &run];
        args.extend(words(case.small).chunks(2).filter(|pair| !more.contains(&pair[0])).flatten());
        args.extend(more);
        args.into_iter().map(String::from).collect()
    }
}

/// Every flag that a row names exists and has a place in the paper or is marked ours; every score of a claim or table is
/// one that `evaluate` gives.
#[test]
fn programs_are_sound_and_every_verb_works() {
    for case in &papers() {
        let place = Place::new();
        let run = place.text("run");
        let said: Value = serde_json::from_str(&case.program.good(&["sound"])).expect("JSON");
        for verb in ["train", "reproduce", "evaluate", "embed", "export", "data"] {
            let help = case.program.good(&[verb, "--help"]);
            assert!(!help.contains('`'), "{verb}: {help}");
        }
        let help = case.program.good(&["train", "--help"]);
        for flag in said["flags"].as_array().expect("flags") {
            assert!(help.contains(&format!("--{}", flag.as_str().expect("a name"))), "--{flag} is not in the help");
        }
        for heading in ["Data:", "Loss:", "Batches:", "Optimisation:", "Machine:"] {
            assert!(help.contains(heading), "{heading} {help}");
        }

        assert!(case.program.good(&["data", "--data", "drawn", "--out", &place.text("card.json")]).contains("drawn"));
        assert!(json(&place.path("card.json")).is_object());
        let train = place.small(case, "train", "run", &[]);
        assert!(case.program.good(&strs(&train)).contains(&format!("trained: {run}")));
        let log = fs::read_to_string(place.path("run").join(case.part).join("log.jsonl")).expect("a log");
        assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line["loss"].is_number())));
        assert!(case.program.good(&strs(&train)).contains("trained"), "a finished run says so again");

        let evaluate = [&["evaluate", "--run", &run], &words(case.scoring)[..]].concat();
        let shown = case.program.good(&evaluate);
        assert!(shown.contains("Not comparable with the paper: "), "{shown}");
        let results = json(&place.path("run/results.json"));
        assert!(results["comparable"] == false && results["claims"].as_array().is_some());
        assert!(results["departures"].as_array().is_some_and(|list| !list.is_empty()));
        let scores = results["scores"].as_object().expect("scores");
        assert!(scores.values().all(Value::is_number), "{scores:?}");
        for name in said["scores"].as_array().expect("scores").iter().filter_map(Value::as_str) {
            let known = scores.contains_key(name) || case.elsewhere.iter().any(|start| name.starts_with(start));
            assert!(known, "a claim is of {name:?}, which evaluate does not give: {:?}", scores.keys());
        }
        let page = fs::read_to_string(place.path("run/report.html")).expect("a report");
        assert!(page.contains("<svg") && !page.contains("src=\"http"));

        // The run keeps its own scores whatever else is scored.
        let own = fs::read(place.path("run/results.json")).expect("results");
        let untrained = [&["evaluate", "--run", &run, "--untrained"], &words(case.scoring)[..]].concat();
        assert!(case.program.good(&untrained).contains("after 0 steps"));
        assert!(place.path("run/untrained/report.html").exists());
        let other = [&["evaluate", "--run", &run, "--data", "drawn"], &words(case.scoring)[..]].concat();
        case.program.good(&other);
        let beside = fs::read_dir(place.path("run")).expect("a folder").flatten();
        let on: Vec<PathBuf> = beside
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("on-"))
            .map(|entry| entry.path())
            .collect();
        assert_eq!(on.len(), 1, "{on:?}");
        assert_eq!(json(&on[0].join("results.json"))["scores"], results["scores"]);
        assert!(fs::read(place.path("run/results.json")).expect("results") == own);

        assert!(case.program.good(&["export", "--run", &run]).contains(case.model));
        assert!(place.path("run").join(case.model).exists());
        if case.embed.0 == "--images" {
            let photos = place.path("photos");
            fs::create_dir(&photos).expect("a folder");
            for i in 0..3_u8 {
                image::RgbImage::from_fn(40, 60, |x, y| image::Rgb([x as u8 * 5, y as u8 * 3, 60 * i]))
                    .save(photos.join(format!("{i}.png")))
                    .expect("saved");
            }
        }
        let brought = if case.embed.0 == "--images" { place.text("photos") } else { "drawn".into() };
        let out = place.text("out.safetensors");
        case.program.good(&["embed", "--run", &run, case.embed.0, &brought, "--out", &out]);
        let tensors = rankle::weights::read(Path::new(&out)).expect("readable");
        assert!(tensors.iter().any(|(name, x)| name == case.embed.1 && x.size()[0] >= 3), "{tensors:?}");

        let reproduce = place.small(case, "reproduce", "again", &[]);
        assert!(case.program.good(&strs(&reproduce)).contains("Not comparable"));
        let again = json(&place.path("again/results.json"));
        let main: BTreeSet<&String> = again["scores"].as_object().expect("scores").keys().collect();
        assert!(!main.is_empty() && place.path("again").join(case.model).exists());
    }
}

/// `train --data drawn` needs no other flag; and a reader who closes the pipe ends nothing.
#[test]
fn drawn_data_need_no_other_flag() {
    for case in &papers() {
        let place = Place::new();
        let mut child = case
            .program
            .command(&["train", "--data", "drawn", "--run", &place.text("run")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut seen = String::new();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("stderr")));
        while !seen.contains("training ") {
            let line = lines.next().expect("a line before the end").expect("text");
            assert!(!line.starts_with("error"), "{line}");
            seen.push_str(&line);
        }
        drop(lines);
        child.kill().expect("killed");
        child.wait().expect("ends");
    }
}

/// A run that is killed at any moment and started again leaves the bytes of one that was not.
#[test]
fn killed_equals_unbroken() {
    for case in &papers() {
        let place = Place::new();
        let more = words(case.long);
        case.program.good(&strs(&place.small(case, "train", "unbroken", &more)));
        let broken = place.small(case, "train", "broken", &more);
        let checkpoint = place.path("broken").join(case.part).join("checkpoint.safetensors");
        let mut rng = rankle::seed::at(3, 0, 0);
        let mut kills = 0;
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGKILL, libc::SIGINT] {
            let mut command = case.program.command(&strs(&broken));
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
            // From before the first step to the middle of the run.
            let tries = if rng.random_bool(0.7) { 800 } else { 0 };
            for _ in 0..tries {
                if checkpoint.exists() || child.try_wait().expect("waits").is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(rng.random_range(0..300)));
            kills += usize::from(child.try_wait().expect("waits").is_none());
            send(&child, signal);
            let output = child.wait_with_output().expect("ends");
            let said = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                // Before or after the loop.
                None | Some(0) => assert!(!said.contains("stopped by"), "{said}"),
                code => assert!(code == Some(128 + signal) && said.contains("to go on: "), "{code:?} {said}"),
            }
        }
        assert!(kills > 0, "every attempt ended before it was killed");
        case.program.good(&strs(&broken));
        for file in ["checkpoint.safetensors", "log.jsonl"] {
            let bytes = |name: &str| fs::read(place.path(name).join(case.part).join(file)).expect("a file");
            assert!(bytes("unbroken") == bytes("broken"), "{:?}: {file} differs", case.program.0);
        }
    }
}

fn send(child: &std::process::Child, signal: i32) {
    // SAFETY: a signal to a process that this test started and has not waited for.
    unsafe { libc::kill(child.id() as i32, signal) };
}

/// SIGUSR1 has a training keep what there is; the first of SIGTERM, SIGINT and SIGHUP ends it with its step.
#[test]
fn signals_are_answered_at_the_end_of_a_step() {
    let case = papers().pop().expect("the sixth");
    for (signal, name) in [(libc::SIGTERM, "SIGTERM"), (libc::SIGINT, "SIGINT"), (libc::SIGHUP, "SIGHUP")] {
        let place = Place::new();
        let more = ["--steps", "100000000", "--checkpoint-every", "100000000", "--log-every", "10"];
        let train = place.small(&case, "train", "a run", &more);
        let mut command = case.program.command(&strs(&train));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        let (checkpoint, log) = (place.path("a run/checkpoint.safetensors"), place.path("a run/log.jsonl"));
        let until = |done: &dyn Fn() -> bool, child: &mut std::process::Child| {
            while !done() && child.try_wait().expect("waits").is_none() {
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        until(&|| log.metadata().is_ok_and(|data| data.len() > 0), &mut child);
        send(&child, libc::SIGUSR1);
        until(&|| checkpoint.exists(), &mut child);
        let before = fs::read(&checkpoint).expect("a checkpoint");
        send(&child, signal);
        let output = child.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(output.status.code(), Some(128 + signal), "{said}");
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("stopped by")).collect();
        assert!(lines.len() == 1 && lines[0].contains(name) && lines[0].contains(" train "), "{said}");
        assert!(lines[0].ends_with("--log-every 10") && lines[0].contains("/a run'"), "{said}");
        assert!(fs::read(&checkpoint).expect("a checkpoint") != before, "the step in hand is kept");
    }
}

/// A file that may not grow is like a full disk: a line, and no signal's death.
#[test]
fn a_limit_on_files_is_one_line() {
    let case = papers().pop().expect("the sixth");
    let place = Place::new();
    let words = place.small(&case, "train", "run", &[]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -f 0; exec \"$@\"", "sh", case.program.0]).args(&words);
    let output = command.output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(output.status.code() == Some(1) && errors.len() == 1, "{said}");
    assert_eq!(errors[0].matches("cannot write").count(), 1, "{said}");
}

/// Bad input is one line that says what to type, and leaves no run folder.
#[test]
fn bad_input_is_one_line() {
    let papers = papers();
    for (i, case) in papers.iter().enumerate() {
        let (program, place) = (&case.program, Place::new());
        let run = place.text("run");
        program.bad(&["train", "--data", "drawn", "--no-such-flag"], 2, &["--no-such-flag"]);
        program.bad(&["evaluate"], 2, &[]);
        program.bad(&["reproduce", "--data", "drawn", "--table", "none"], 2, &["--table none"]);
        for verb in ["evaluate", "export"] {
            program.bad(&[verb, "--run", &place.text("nowhere")], 1, &["nowhere", "train"]);
        }
        if let [.., flag, _] = words(case.idle)[..] {
            program.bad(&strs(&place.small(case, "train", "run", &words(case.idle))), 2, &[flag, "leave it out"]);
        }
        for (flag, value, code) in [("--device", "tpu", 1), ("--log-every", "0", 2), ("--seed", "x", 2)] {
            program.bad(&strs(&place.small(case, "train", "run", &[flag, value])), code, &[flag]);
        }
        let mut elsewhere = place.small(case, "train", "run", &[]);
        elsewhere[2] = place.text("missing");
        // The sixth has no other data.
        program.bad(&strs(&elsewhere), if i < 5 { 1 } else { 2 }, &["missing"]);
        assert!(!place.path("run").exists(), "a refused start left a run folder");

        program.good(&strs(&place.small(case, "train", "run", &[])));
        let [flag, was, now] = case.changed;
        let words = [format!("{flag} (was {was}, now {now})"), "another --run".into()];
        program.bad(&strs(&place.small(case, "train", "run", &[flag, now])), 1, &strs(&words));
        // Also where it was killed before its first checkpoint; and nobody else's folder is taken for a run.
        fs::create_dir(place.path("begun")).expect("made");
        fs::copy(place.path("run/config.json"), place.path("begun/config.json")).expect("copied");
        program.bad(&strs(&place.small(case, "train", "begun", &[flag, now])), 1, &strs(&words));
        for name in ["config.json", "log.jsonl"] {
            let folder = place.path(&format!("with-{name}"));
            fs::create_dir(&folder).expect("made");
            fs::write(folder.join(name), "{}").expect("written");
            program.bad(&strs(&place.small(case, "train", &format!("with-{name}"), &[])), 1, &["with-", "--run"]);
            assert_eq!(fs::read(folder.join(name)).expect("kept"), b"{}");
            assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1);
        }
        for (verb, name) in [("embed", "checkpoint.safetensors"), ("data", "config.json")] {
            let own = place.path("run").join(case.part).join(name);
            let (bytes, out) = (fs::read(&own).expect("a file"), own.to_string_lossy());
            let embed = ["--run", &run, case.embed.0, "drawn"];
            let of: &[&str] = if verb == "embed" { &embed } else { &["--data", "drawn"] };
            program.bad(&[&[verb], of, &["--out", &out]].concat(), 1, &["--out", name]);
            assert!(fs::read(&own).expect("kept") == bytes);
        }
        fs::write(place.path("file"), "x").expect("written");
        program.bad(&strs(&place.small(case, "train", "file/run", &[])), 1, &["file/run", "--run"]);
        let out = place.text("file/out.safetensors");
        program.bad(&["embed", "--run", &run, case.embed.0, "drawn", "--out", &out], 1, &["out.safetensors"]);
        let other = &papers[(i + 1) % papers.len()].program;
        other.bad(&["evaluate", "--run", &run], 1, &["is a run of"]);
        // A damaged checkpoint falls back to the one before; where both are damaged, that is said.
        for name in ["checkpoint.safetensors", "checkpoint.before.safetensors"] {
            fs::write(place.path("run").join(case.part).join(name), b"{}").expect("damaged");
        }
        program.bad(&["evaluate", "--run", &run], 1, &["no whole checkpoint"]);
        let config = place.path("run/config.json");
        let text = fs::read_to_string(&config)
            .expect("a configuration")
            .replace(&format!("\"{}\"", &case.changed[0][2..]), "\"gone\"");
        fs::write(&config, text).expect("changed");
        program.bad(&["evaluate", "--run", &run], 1, &["train it again"]);
    }
}

/// Folders of people with photos of noise, and the same photos with a list of their labels.
fn photos(place: &Place) {
    for (part, people) in [("train", 6), ("test", 2)] {
        for person in 0..people {
            let folder = place.path(&format!("tree/{part}/{part}{person}"));
            fs::create_dir_all(&folder).expect("a folder");
            for shot in 0..3 {
                let mut rng = rankle::seed::at(person, shot, part.len() as u64);
                let noise = image::RgbImage::from_fn(32, 32, |_, _| image::Rgb(rng.random()));
                noise.save(folder.join(format!("{shot}.png"))).expect("saved");
            }
        }
    }
    let (mut list, from) = (String::from("image,labels,split\n"), place.path("tree"));
    fs::create_dir_all(place.path("list")).expect("a folder");
    std::os::unix::fs::symlink(&from, place.path("list/images")).expect("a link");
    for (part, people) in [("train", 6), ("test", 2)] {
        for i in 0..people * 3 {
            let labels = if i % 2 == 0 { "a" } else { "b;c" };
            list += &format!("{part}/{part}{}/{}.png,{labels},{part}\n", i / 3, i % 3);
        }
    }
    fs::write(place.path("list/labels.csv"), list).expect("written");
}

#[test]
fn photos_that_cannot_be_used_or_are_others_than_before_are_named() {
    let pairs = "--net small --size 32x16 --quadruplets 4 --steps 4 --steps2 4 --log-every 1 --any-camera";
    let labels = "--net small --size 16 --most 2 --epochs 4 --epochs2 1 --batch 5 --log-every 1";
    let offline =
        "--net lunet --shrink 32 --size 32x32 --loss triplet-ohm --triplets 6 --ohm-every 3 --t1 8 --log-every 1";
    let cases = papers();
    let case = |name: &str| cases.iter().find(|case| case.program.0.ends_with(name)).expect("a paper");
    let (facenet, reid) = (case("facenet"), case("triplet-reid"));
    let all = [
        (facenet, "tree", format!("--net small {}", facenet.small.replace("--steps 4", "--steps 8"))),
        (reid, "tree", offline.into()),
        (case("quadruplet"), "tree", pairs.into()),
        (case("multilabel-ranking"), "list", labels.into()),
    ];
    for (case, data, flags) in all {
        let place = Place::new();
        photos(&place);
        let cut = place.path("tree/train/train1/1.png");
        let bytes = fs::read(&cut).expect("a photo");
        fs::write(&cut, &bytes[..bytes.len() / 2]).expect("cut");
        let (data, at) = (place.text(data), place.text("run"));
        let train = [&["train", "--data", &data, "--run", &at, "--checkpoint-every", "4"][..], &words(&flags)].concat();
        case.program.bad(&train, 1, &["train1/1.png: a truncated PNG"]);
        let skips = [&train[..], &["--skip-unreadable"]].concat();
        case.program.good(&skips);
        let read = |name: &str| fs::read(place.path(&format!("run/{name}"))).expect("a file");
        let (log, weights) = (read("log.jsonl"), read("checkpoint.safetensors"));
        let last =
            String::from_utf8_lossy(&log).lines().filter(|line| line.contains("left_out")).last().map(String::from);
        assert!(
            last.is_some_and(|line| line.ends_with("\"left_out\":1}")),
            "{}: {}",
            case.program.0,
            String::from_utf8_lossy(&log)
        );
        // From the checkpoint before the last one: the same bytes.
        fs::remove_file(place.path("run/checkpoint.safetensors")).expect("removed");
        case.program.good(&skips);
        assert!(read("log.jsonl") == log && read("checkpoint.safetensors") == weights, "{}", case.program.0);
        // Scores leave nothing out.
        case.program.bad(&["evaluate", "--run", &at, "--skip-unreadable"], 2, &["--skip-unreadable"]);
        // The photo is mended: another one than the run was begun with.
        fs::write(&cut, &bytes).expect("mended");
        case.program.bad(&train, 1, &["1 of another size (", "train1/1.png", "--data-changed"]);
        case.program.good(&[&train[..], &["--data-changed"]].concat());
    }
    let drawn = ["train", "--data", "drawn", "--skip-unreadable"];
    reid.program.bad(&drawn, 2, &["--skip-unreadable: ", "no image files"]);
}
