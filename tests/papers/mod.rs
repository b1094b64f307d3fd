//! All papers through one harness: every verb, kills, bad input, and what each program says of itself. A paper is a row of
//! [`papers`]; what only one paper has stands in its own file.

mod deploy;
mod facenet;
mod multilabel_ranking;
mod quadruplet;
mod skill_determination;
mod triplet_reid;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rand::Rng;
use rankle::metrics;
use serde_json::Value;

use crate::common::{Place, Program, has, json};

/// A paper as the harness drives it.
pub struct Case {
    pub program: Program,
    /// The smallest training on drawn data: some seconds.
    pub small: &'static str,
    /// A training long enough to be killed in, and a flag that makes it so.
    long: &'static str,
    /// A flag of `small` with another value: refused on resume.
    pub changed: [&'static str; 3],
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
    /// Verbs that do what its network is for, on three photos, and what they write.
    uses: &'static [(&'static str, &'static str)],
}

pub fn papers() -> Vec<Case> {
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
            uses: &[
                ("cluster @run --images @photos --out @clusters", "clusters/clusters.json"),
                ("find @run --person @photos/0.png --images @photos --out @found", "found/found.json"),
            ],
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
            uses: &[("tag @run --images @photos --out @tags", "tags/tags.json")],
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
            uses: &[("search @run --query @photos/0.png --gallery @photos --out @answers", "answers/answers.json")],
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
            uses: &[],
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
            uses: &[("search @run --query @photos/0.png --gallery @photos --out @answers", "answers/answers.json")],
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
            uses: &[],
        },
    ]
}

impl Case {
    fn place(&self) -> Place {
        Place::new(self.program, &format!("--data drawn {}", self.small))
    }

    /// Every verb on a device, each command said with its seconds; those that failed.
    pub fn everything(&self, device: &str) -> Vec<String> {
        let name = Path::new(self.program.0).file_name().expect("a name").to_string_lossy();
        if !self.program.path().exists() {
            println!("{name}: not there");
            return Vec::new();
        }
        let place = self.place();
        (0..3).for_each(|person| place.photo(&format!("photos/{person}.png"), person, 1, 0));
        let brought = if self.embed.0 == "--images" { "@photos" } else { "drawn" };
        let newest = place.path("run").join(self.part).join("checkpoint.safetensors");
        let lines = [
            "train @run --checkpoint-every 1".into(),
            "train @run --checkpoint-every 1".into(), // From the checkpoint before the last one: see below.
            "train @run --checkpoint-every 1".into(), // Finished: it says so again.
            format!("evaluate @run {}", self.scoring),
            format!("embed @run {} {brought} --out @out.safetensors", self.embed.0),
            "export @run".into(),
            "reproduce @again --amp".into(),
            "train @same --deterministic".into(),
            "train @tf32 --tf32".into(),
        ];
        let mut failed = Vec::new();
        for (i, line) in lines.iter().enumerate() {
            if i == 1 && newest.exists() {
                fs::remove_file(&newest).expect("removed");
            }
            let line = format!("{line} --device {device}");
            let start = Instant::now();
            let output = place.command(&line).output().expect("starts");
            let said = String::from_utf8_lossy(&output.stderr);
            println!(
                "{name} {line}: {}, {:.1} s, {} lines",
                output.status,
                start.elapsed().as_secs_f64(),
                said.lines().count()
            );
            if !output.status.success() || said.contains("panicked") {
                failed.push(format!("{name} {line}: {said}"));
            }
        }
        failed
    }
}

/// What a run on drawn data says where it meets photos.
pub const DRAWN: &str = "note: this run was trained on drawn data: what it says of real ";

fn verb_of(line: &str) -> &str {
    line.split(' ').next().expect("a verb")
}

/// Every flag that a row names exists and has a place in the paper or is marked ours; every score of a claim or table is
/// one that `evaluate` gives.
#[test]
fn programs_are_sound_and_every_verb_works() {
    // How names end of which not more is better.
    let mut unseen: Vec<&str> = [&metrics::LESS[..], &metrics::NEITHER].concat();
    let (mut flags, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for case in &papers() {
        let place = case.place();
        let said: Value = serde_json::from_str(&place.good("sound")).expect("JSON");
        let names = |key: &str| said[key].as_array().expect("names").clone().into_iter().map(|name| name.to_string());
        flags.extend(names("flags"));
        shared.extend(names("shared"));
        for verb in ["train", "reproduce", "evaluate", "embed", "export", "data"] {
            let help = case.program.good(&[verb, "--help"]);
            assert!(!help.contains('`'), "{verb}: {help}");
        }
        let help = case.program.good(&["train", "--help"]);
        for flag in said["flags"].as_array().expect("flags") {
            has(&help, &format!("--{}", flag.as_str().expect("a name")));
        }
        has(&help, "Data:|Loss:|Batches:|Optimisation:|Machine:");

        has(&place.good("data --data drawn --out @card.json"), "drawn");
        assert!(place.json("card.json").is_object());
        has(&place.good("train @run"), &format!("trained: {}", place.text("run")));
        assert!(place.log(&format!("run/{}", case.part)).iter().all(|line| line["loss"].is_number()));
        has(&place.good("train @run"), "trained"); // A finished run says so again.
        has(&place.good("report @run"), "loss|trained|report: ");
        has(&place.read("run/report.html"), "<svg|Training|Departures from the paper");

        let evaluate = |more: &str| place.good(&format!("evaluate @run {} {more}", case.scoring));
        let shown = evaluate("");
        has(&shown, "Not comparable with the paper: ");
        let results = place.json("run/results.json");
        // What the scores come to, before all else; the sixth says nothing.
        let says = results["says"].as_str().expect("a text");
        assert!(shown.starts_with(says) && says.is_empty() == case.program.0.ends_with("sixth"), "{shown}");
        assert!(results["comparable"] == false && results["claims"].as_array().is_some());
        assert!(results["departures"].as_array().is_some_and(|list| !list.is_empty()));
        let scores = results["scores"].as_object().expect("scores");
        assert!(scores.values().all(Value::is_number), "{scores:?}");
        for name in said["scores"].as_array().expect("scores").iter().filter_map(Value::as_str) {
            let known = scores.contains_key(name) || case.elsewhere.iter().any(|start| name.starts_with(start));
            assert!(known, "a claim is of {name:?}, which evaluate does not give: {:?}", scores.keys());
        }
        for start in said["count"].as_array().expect("names").iter().filter_map(Value::as_str) {
            let known = scores.keys().any(|name| name.starts_with(start) && metrics::sign(name) > 0.);
            assert!(known, "{start:?} counts, which evaluate does not give: {:?}", scores.keys());
        }
        unseen.retain(|end| !scores.keys().any(|name| name.ends_with(end)));
        let page = place.read("run/report.html");
        assert!(page.contains("<svg") && !page.contains("src=\"http"));
        assert!(page.split("<nav").next().is_some_and(|first| first.contains(says)), "{says}");
        // How a run without scores will be scored is no difference.
        place.write("bare/config.json", place.read("run/config.json"));
        let [run, bare, out] = ["run", "bare", "bare.html"].map(|name| place.text(name));
        let compared = place.good(&format!("compare {run} {bare} --out {out}"));
        assert!(compared.starts_with("No flag of these runs differs.") && !compared.contains("What differs"));

        // The run keeps its own scores whatever else is scored.
        let own = place.read("run/results.json");
        has(&evaluate("--untrained"), "after 0 steps");
        assert!(place.path("run/untrained/report.html").exists());
        evaluate("--data drawn");
        let beside = fs::read_dir(place.path("run")).expect("a folder").flatten();
        let on: Vec<PathBuf> = beside
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("on-"))
            .map(|entry| entry.path())
            .collect();
        assert_eq!(on.len(), 1, "{on:?}");
        assert_eq!(json(&on[0].join("results.json"))["scores"], results["scores"]);
        assert_eq!(place.read("run/results.json"), own);

        has(&place.good("export @run"), case.model);
        assert!(place.path("run").join(case.model).exists());
        (0..3).for_each(|person| place.photo(&format!("photos/{person}.png"), person, 1, 0));
        let brought = if case.embed.0 == "--images" { "@photos" } else { "drawn" };
        let embedded = place.command(&format!("embed @run {} {brought} --out @out.safetensors", case.embed.0)).output();
        let said = String::from_utf8(embedded.expect("starts").stderr).expect("text");
        // Of photos a run on drawn data knows nothing.
        assert_eq!(said.contains(DRAWN), brought == "@photos", "{said}");
        let tensors = rankle::weights::read(&place.path("out.safetensors")).expect("readable");
        assert!(tensors.iter().any(|(name, x)| name == case.embed.1 && x.size()[0] >= 3), "{tensors:?}");

        let listed = format!("embed @run {} {brought} --out @out", case.embed.0);
        place.good(&format!("{listed}.csv"));
        place.good(&format!("{listed}.npz"));
        place.good(&format!("{listed}.npz")); // Its own file is replaced.
        let list = place.read("out.csv");
        let first: Vec<&str> = list.lines().nth(1).expect("a row").split(',').collect();
        let numbers: i64 = tensors.iter().map(|(_, x)| x.numel() as i64 / x.size()[0]).sum();
        assert_eq!(first.len() as i64, 1 + numbers, "{first:?}");
        let (_, x) = &tensors[if case.embed.0 == "--images" { 0 } else { 1 }];
        assert!(x.numel() > 0 && list.lines().count() as i64 == 1 + x.size()[0]);
        place.write("other.csv", "x,y");
        place.bad(&[
            (1, &format!("embed @run {} {brought} --out @other.csv", case.embed.0), "other.csv|did not write"),
            (1, &format!("embed @run {} {brought} --out @out.txt", case.embed.0), ".safetensors, .npz or .csv"),
        ]);
        for (line, file) in case.uses {
            let output = place.command(line).output().expect("starts");
            let [shown, said] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
            assert!(output.status.success() && said.matches(DRAWN).count() == 1, "{said}");
            has(&shown, &format!("results: {}|report:", place.text(file)));
            let said: Value = serde_json::from_str(&place.good(&format!("{line} --json"))).expect("JSON alone");
            let mut kept = place.json(file);
            for mark in ["made_by", "blake3"] {
                let mark = kept.as_object_mut().expect("an object").remove(mark);
                assert!(mark.is_some_and(|mark| mark.is_string()));
            }
            assert_eq!(said, kept); // Its own results are replaced,
            assert!(said["made"]["weights_blake3"].is_string() && said["not_read"] == serde_json::json!([]), "{said}");
            let page = place.path(file).with_file_name("report.html");
            // What made it and when, and of how much, before all pictures.
            let html = fs::read_to_string(&page).expect("a page");
            let (first, pictures) = html.split_once("<nav").expect("a first screen");
            let command = format!("{} --run ", verb_of(line));
            let says = said["says"].as_str().expect("a text");
            assert!(!says.is_empty());
            has(first, &format!("{says}|<b>|photos that cannot be read| UTC|checkpoint.safetensors|network|{command}"));
            has(pictures, "data:image/jpeg;base64,");
            // nothing is made of what is not there, or in a file's place,
            let brought = ["@photos/0.png", "@photos"].iter().find(|path| line.contains(*path)).expect("photos");
            let out = line.split("--out ").nth(1).expect("a folder");
            place.bad(&[
                (1, &line.replacen(brought, "@wrong/path", 1), "wrong/path: there is no such file or folder"),
                (1, &line.replace(out, "@photos/0.png"), "--out|0.png: it is a file: name a folder"),
            ]);
            // and nobody else's.
            fs::write(place.path(file), "{}").expect("written");
            place.bad(&[(1, line, "--out|did not write")]);
            assert_eq!(place.read(file), "{}");
            has(&case.program.good(&[verb_of(line), "--help"]), "--out|--run|--device");
            fs::remove_file(place.path(file)).expect("removed");
            fs::remove_file(page).expect("removed");
        }

        place.good(&format!("embed @run --untrained {} {brought} --out @before.safetensors", case.embed.0));
        assert_ne!(
            fs::read(place.path("before.safetensors")).expect("read"),
            fs::read(place.path("out.safetensors")).expect("read")
        );
        let trained = fs::read(place.path("run").join(case.model)).expect("read");
        place.good("export @run --untrained");
        assert_eq!(fs::read(place.path("run").join(case.model)).expect("read"), trained);
        assert!(place.path("run/untrained").join(case.model).exists());
        // What it needs, before anything is trained.
        has(&place.good("reproduce @planned --plan --seeds 1,2"), "s/step|2 runs|hours of training on cpu");
        assert!(!place.path("planned").exists());
        // Of a run that has scores and a page.
        place.good("reproduce @run --plan");
        has(&place.good("reproduce @again"), "Not comparable");
        assert!(place.json("again/results.json")["scores"].as_object().is_some_and(|scores| !scores.is_empty()));
        assert!(place.path("again").join(case.model).exists());
        // A page with pictures stays as long as its scores are the newest.
        let page = place.read("again/report.html");
        place.good("report @again");
        assert_eq!(place.read("again/report.html"), page);
        let line = format!("compare {} {} --out {}", place.text("run"), place.text("again"), place.text("both.html"));
        has(&place.good(&line), "Scores|run|again|page: ");
        has(&place.read("both.html"), "<svg|Scores|again");
    }
    assert!(unseen.is_empty(), "no score's name ends so: {unseen:?}");
    // Each is some paper's.
    assert!(shared.is_subset(&flags), "{:?}", shared.difference(&flags));
}

/// `train --data drawn` needs no other flag; and a reader who closes the pipe ends nothing.
#[test]
fn drawn_data_need_no_other_flag() {
    for case in &papers() {
        let place = Place::new(case.program, "");
        let mut child = place
            .command("train @run --data drawn")
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
        let place = case.place();
        place.good(&format!("train @unbroken {}", case.long));
        let broken = format!("train @broken {}", case.long);
        let checkpoint = place.path("broken").join(case.part).join("checkpoint.safetensors");
        let mut rng = rankle::seed::at(3, 0, 0);
        let mut kills = 0;
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGKILL, libc::SIGINT] {
            let mut command = place.command(&broken);
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
        place.good(&broken);
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
        let place = case.place();
        let args = place.args("train @run --steps 100000000 --checkpoint-every 100000000 --log-every 10");
        let spaced = |word: String| if word == place.text("run") { place.text("a run") } else { word };
        let mut command = case.program.command(&args.into_iter().map(spaced).collect::<Vec<_>>());
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
    let place = case.place();
    let words = place.args("train @run");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -f 0; exec \"$@\"", "sh", case.program.0]).args(&words);
    let output = command.output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(output.status.code() == Some(1) && errors.len() == 1, "{said}");
    assert_eq!((errors[0].matches("cannot write").count(), errors[0].matches("ulimit -f").count()), (1, 1), "{said}");
}

/// Bad input is one line that says what to type, and leaves no run folder.
#[test]
fn bad_input_is_one_line() {
    let papers = papers();
    for (i, case) in papers.iter().enumerate() {
        let place = case.place();
        let name = Path::new(case.program.0).file_name().and_then(|name| name.to_str()).expect("a name");
        // The sixth has no other data.
        let (code, plan) = if name == "sixth" { (2, "missing") } else { (1, "stands above") };
        let idle = case.idle.split_whitespace().rev().nth(1).unwrap_or("--seed");
        place.bad(&[
            (2, "train --data drawn --no-such-flag", "--no-such-flag"),
            (2, "evaluate", "required"),
            (2, "reproduce --data drawn --table none", "--table none"),
            (1, "evaluate @nowhere", "no run at|nowhere|train"),
            (1, "export @nowhere", "nowhere|train"),
            (1, "train @run --device tpu", "--device"),
            (code, "reproduce @run --plan --data @missing", plan),
            (2, "train @run --log-every 0", "--log-every"),
            (2, "train @run --seed x", "--seed"),
            (code, "train @run --data @missing", "missing"),
        ]);
        // Their published weights are no whole network.
        if ["quadruplet", "multilabel-ranking", "skill-determination"].contains(&name) {
            for verb in ["evaluate", "embed", "export"] {
                place.bad(&[(2, &format!("{verb} --weights w.pth"), "--weights|train with --weights, then say --run")]);
            }
        }
        if !case.idle.is_empty() {
            place.bad(&[(2, &format!("train @run {}", case.idle), &format!("{idle}|leave it out"))]);
        }
        assert!(!place.path("run").exists(), "a refused start left a run folder");

        place.good("train @run");
        let [flag, was, now] = case.changed;
        // Also where it was killed before its first checkpoint; and nobody else's folder is taken for a run.
        place.write("begun/config.json", place.read("run/config.json"));
        let changed = (format!("{flag} {now}"), format!("{flag} (was {was}, now {now})|another --run"));
        place.bad(&[(1, &format!("train @begun {}", changed.0), &changed.1)]);
        for name in ["config.json", "log.jsonl"] {
            place.write(&format!("with-{name}/{name}"), "{}");
            place.bad(&[(1, &format!("train @with-{name}"), "with-|--run")]);
            assert_eq!(place.read(&format!("with-{name}/{name}")), "{}");
            assert_eq!(fs::read_dir(place.path(&format!("with-{name}"))).expect("a folder").count(), 1);
        }
        let (model, own) = (format!("run/{}/checkpoint.safetensors", case.part), "run/config.json".to_string());
        for (start, name, file) in [
            (format!("embed @run {} drawn", case.embed.0), "checkpoint.safetensors", model),
            ("data --data drawn".into(), "config.json", own.replace("config", &format!("{}/config", case.part))),
        ] {
            let bytes = fs::read(place.path(&file)).expect("a file");
            place.bad(&[(1, &format!("{start} --out @{file}"), &format!("--out|{name}"))]);
            assert!(fs::read(place.path(&file)).expect("kept") == bytes);
        }
        place.write("file", "x");
        let embed = format!("embed @run {} drawn --out @", case.embed.0);
        place.bad(&[
            (1, &format!("train @run {}", changed.0), &changed.1),
            (1, "train @file/run", "file/run|--run"),
            (1, &format!("{embed}file/out.safetensors"), "out.safetensors"),
            (1, &format!("{embed}out.txt"), "--out|.safetensors"),
        ]);
        let other = Place::new(papers[(i + 1) % papers.len()].program, "");
        other.bad(&[(1, &format!("evaluate --run {}", place.text("run")), "is a run of")]);
        // A damaged checkpoint falls back to the one before; where both are damaged, that is said.
        for name in ["checkpoint.safetensors", "checkpoint.before.safetensors"] {
            fs::write(place.path("run").join(case.part).join(name), b"{}").expect("damaged");
        }
        place.bad(&[(1, "evaluate @run", "no whole checkpoint")]);
        place.write(
            "run/config.json",
            place.read("run/config.json").replace(&format!("\"{}\"", &flag[2..]), "\"gone\""),
        );
        place.bad(&[(1, "evaluate @run", "train it again")]);
    }
}

/// In a folder without data.
#[test]
fn a_plan_says_what_is_missing_before_it_needs_it() {
    for (paper, flags, words) in [
        (
            "facenet",
            "--net small --people 3 --faces 13",
            "--steps 500000| 500,000 steps, |drawn inputs|missing: no folder data/casia-webface",
        ),
        (
            "triplet-reid",
            "--p 2 --size 64x32",
            "--t1 25000| 25,000 steps, |missing: training starts from|scripts/fetch resnet50|scripts/fetch market1501 gets it",
        ),
        (
            "triplet-reid",
            "--p 2 --size 64x32 --weights w.pth",
            "--t1 25000|missing: --weights w.pth|scripts/fetch market1501 gets it",
        ),
        (
            "quadruplet",
            "--quadruplets 2 --size 67x67",
            "--steps 25000 --steps2 25000| 50,000 steps, |scripts/fetch alexnet|missing: no folder data/cuhk03",
        ),
        (
            "quadruplet",
            "--table 1 --only 5 --test-people 100 --quadruplets 2 --size 67x67",
            "table-1-cuhk03-labeled-people100/| --steps 25000 |missing: ",
        ),
        (
            "quadruplet",
            "--table 1 --only 2 --quadruplets 2 --size 67x67",
            "Triplet(Embedding), CUHK01, 100 test people|table-1-cuhk03-labeled/|table-1-cuhk01-people100/|missing: no folder data/VIPeR",
        ),
        (
            "multilabel-ranking",
            "--batch 2 --size 32",
            "--epochs |number of steps follows|scripts/fetch vgg16|missing: no folder data/",
        ),
        ("skill-determination", "--batch 2 --side 64 --segments 1", "--steps-spatial |scripts/fetch alexnet|missing: "),
    ] {
        let case = papers().into_iter().find(|case| case.program.0.ends_with(paper)).expect("a paper");
        let place = case.place();
        let words_of: Vec<&str> = ["reproduce", "--plan"].into_iter().chain(flags.split_whitespace()).collect();
        let output = case.program.command(&words_of).current_dir(place.path("")).output().expect("starts");
        assert_eq!(output.status.code(), Some(1), "{paper}: {}", String::from_utf8_lossy(&output.stderr));
        has(&String::from_utf8_lossy(&output.stdout), words);
    }
}

/// Before any run is opened.
#[test]
fn flags_that_a_verb_does_not_look_at_are_refused() {
    let embed = "embed @run --images x --videos x --out x.safetensors";
    for (paper, verb, flags, only) in [
        ("triplet-reid", embed, "--rerank", "evaluate"),
        ("facenet", embed, "--far 0.1", "evaluate"),
        ("facenet", embed, "--enrolled 1", "evaluate"),
        ("facenet", embed, "--neighbours 1", "evaluate"),
        ("facenet", embed, "--cluster-cut 1", "evaluate"),
        ("facenet", embed, "--cluster-images 9", "evaluate"),
        ("facenet", embed, "--jpeg 9", "evaluate"),
        ("facenet", "export @run", "--detect", "evaluate and embed"),
        ("facenet", "evaluate --baselines --data drawn", "--flip", "--baselines"),
        ("multilabel-ranking", "export @nowhere", "", ""),
        ("skill-determination", embed, "--alpha 0.1", "evaluate"),
        ("skill-determination", "export @run", "--sigma 3", "evaluate and embed"),
        ("quadruplet", embed, "--draws 3", "evaluate"),
        ("quadruplet", "export @run", "--pairs 3", "evaluate"),
    ] {
        let case = papers().into_iter().find(|case| case.program.0.ends_with(paper)).expect("a paper");
        let brings = if paper == "skill-determination" { ("--images x ", "") } else { ("--videos x ", "") };
        let line = format!("{} {flags}", verb.replace(brings.0, brings.1));
        match flags.split(' ').next() {
            Some("") => case.place().bad(&[(1, &line, "no run at")]),
            flag => {
                case.place().bad(&[(2, &line, &format!("{} has no effect on|{only}|leave it out", flag.unwrap_or("")))])
            }
        }
        let help = case.program.good(&[verb.split(' ').next().unwrap_or(""), "--help"]);
        assert!(
            only.starts_with("--") || flags.is_empty() || !help.contains(flags.split(' ').next().unwrap_or("")),
            "{help}"
        );
    }
}

/// Folders of people with photos of noise, and the same photos with a list of their labels.
fn photos(place: &Place) {
    for (part, people) in [("train", 6), ("test", 2)] {
        for (person, shot) in (0..people).flat_map(|person| (0..3).map(move |shot| (person, shot))) {
            let mut rng = rankle::seed::at(person, shot, part.len() as u64);
            let noise = image::RgbImage::from_fn(32, 32, |_, _| image::Rgb(rng.random()));
            noise.save(place.made(&format!("tree/{part}/{part}{person}/{shot}.png"))).expect("saved");
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
        let place = Place::new(case.program, &flags);
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
        assert!(last.is_some_and(|line| line.ends_with(&count)), "{}: {text}", case.program.0);
        // From the checkpoint before the last one: the same bytes.
        fs::remove_file(place.path("run/checkpoint.safetensors")).expect("removed");
        place.good(&skips);
        assert!(read("log.jsonl") == log && read("checkpoint.safetensors") == weights, "{}", case.program.0);
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
        place.bad(&[(1, &train, "4 of another size (|train1/1.png|--data-changed")]);
        place.good(&format!("{train} --data-changed"));
        // Nothing was trained on it, and the list still says so.
        place.bad(&[(1, &train, "--data-changed")]);
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
    let cases = papers();
    for (name, data, flags) in [
        ("triplet-reid", "tree", "--net lunet --shrink 32 --size 32x32 --p 3 --k 2 --t1 1"),
        ("facenet", "tree", "--net small --size 16 --shrink 8 --width 16 --people 4 --faces 3 --negatives 2 --steps 1"),
        ("multilabel-ranking", "list", "--net small --size 16 --epochs 1 --epochs2 1 --batch 8 --most 2"),
    ] {
        let case = cases.iter().find(|case| case.program.0.ends_with(name)).expect("a paper");
        let place = Place::new(case.program, flags);
        photos(&place);
        place.good(&format!("train @run --data @{data}"));
        let evaluate = || {
            let output = place.command("evaluate @run").output().expect("starts");
            assert!(output.status.success(), "{output:?}");
            let said = String::from_utf8_lossy(&output.stderr).contains("test data are not those");
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
