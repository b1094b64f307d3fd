//! What reaches a terminal: nothing foreign that it would obey, nothing endless.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use rankle::models::hold_weights;
use rankle::models::layers::Scope;
use rankle::node::node;
use rankle::say::{brief, caught, count, cut, foreign, line, one_line};
use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::common::{Ended, Program};

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);
const HOSTILE: &str = "a\u{1b}]0;title\u{7}\u{1b}[31m\nb\r\u{202e}c\u{9b}2J";

/// Whether a terminal would only show it.
fn harmless(text: &str) -> bool {
    !text.chars().any(|c| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c))
}

#[test]
fn foreign_text_is_spelled_out_and_cut() {
    assert_eq!(line("naïve 名 b"), "naïve 名 b");
    assert_eq!(line(HOSTILE), "a\\u{1b}]0;title\\u{7}\\u{1b}[31m\\nb\\r\\u{202e}c\\u{9b}2J");
    assert_eq!(cut("abcdef", 4), "ab[...]ef");
    assert_eq!(foreign(&"名".repeat(1000)).chars().count(), 205);
    assert_eq!(brief("as it is"), "as it is");
    assert_eq!(brief(&"name ".repeat(40)), format!("{}[...]", "name ".repeat(32)));
    let error = anyhow::anyhow!("a b\nc").context("reading x\ny");
    assert_eq!(one_line(&error), "reading x\ny: a b\nc");
    let quoted = anyhow::anyhow!("line 1").context("no JSON: line 1").context("reading x");
    assert_eq!(one_line(&quoted), "reading x: no JSON: line 1");
    let torch = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4611686018427387904 bytes.\nException raised from alloc_cpu";
    let text = one_line(&anyhow::anyhow!(torch));
    assert!(
        text.starts_with("out of memory: ") && !text.contains('\n') && text.contains("4611686018427387904"),
        "{text}"
    );
    // Of a limit of the system's nothing is said that is the file's.
    let limit = anyhow::Error::from(std::io::Error::from_raw_os_error(libc::EMFILE)).context("no run at x: train one");
    assert!(one_line(&limit).contains("(ulimit -n)") && !one_line(&limit).contains("train"));
    assert_eq!(caught(|| -> i32 { panic!("why") }), Err("why".to_string()));
}

#[test]
fn counts_go_with_their_words() {
    let said = [(1, "photo"), (0, "photo"), (2, "training person"), (1, "person"), (2, "query"), (12_936, "class")];
    let said = said.map(|(number, what)| count(number, what));
    assert_eq!(said, ["1 photo", "0 photos", "2 training people", "1 person", "2 queries", "12,936 classes"]);
}

#[test]
fn hostile_names_flags_and_configurations_are_said_in_one_harmless_line() {
    let program = Program(env!("CARGO_BIN_EXE_multilabel-ranking"));
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    let run = run.to_str().expect("UTF-8");
    // Flags and names, to clap and to us.
    let long = "x".repeat(100_000);
    let evaluate = |at: &str| ["evaluate".to_string(), "--run".into(), at.into()];
    let with = |flag: &str, value: &str| ["train".to_string(), format!("--{flag}={value}"), format!("--run={run}")];
    for args in [
        with("epochs", HOSTILE),
        with("data", HOSTILE),
        with(HOSTILE, "1"),
        evaluate(HOSTILE),
        with("size", &long),
        evaluate(&long),
    ] {
        let Ended { code, err: text, .. } = Ended::of(&mut program.command(&args));
        assert!(code != Some(0) && harmless(&text) && text.len() < 4000, "{text:?}");
    }
    // A configuration that asks for what no machine has, and says what no terminal should hear.
    program.good(&["train", "--data", "drawn", "--epochs", "1", "--epochs2", "1", "--size", "16", "--run", run]);
    let path = folder.path().join("run/config.json");
    let sound = crate::common::json(&path);
    let refuse = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let mut config = sound.clone();
        change(&mut config);
        std::fs::write(&path, config.to_string()).expect("written");
        let text = program.bad(&["export", "--run", run], 1, words);
        assert!(harmless(&text) && text.len() < 4000, "{text:?}");
    };
    for (flag, size) in [("size", 1_u64 << 31), ("batch", 1 << 31), ("hidden", 1 << 40), ("pairs", 1 << 50)] {
        refuse(&|config| config["flags"][flag] = size.into(), &["config.json", flag]);
    }
    // More or other than the flag can hold.
    for (flag, value) in [("size", json!(-1)), ("batch", json!(1_u64 << 60)), ("lr", json!("x")), ("net", json!("vgg"))]
    {
        refuse(&|config| config["flags"][flag] = value.clone(), &["config.json", flag, "restore it"]);
    }
    // The square of so many labels is more than this machine has.
    let many = ((rankle::bounds::memory() / 4) as f64).sqrt() as u64 + 1000;
    let classes: Vec<String> = (0..many).map(|i| i.to_string()).collect();
    refuse(&|config| config["data"]["classes"] = json!(classes), &["out of memory", "threshold"]);
    refuse(&|config| config["paper"] = HOSTILE.repeat(100_000).into(), &["[...]"]);
    // Nobody waits for a pipe.
    for name in ["config.json", "checkpoint.safetensors"] {
        std::fs::write(&path, sound.to_string()).expect("written");
        std::fs::remove_file(folder.path().join("run").join(name)).expect("there");
        assert!(Command::new("mkfifo").arg(folder.path().join("run").join(name)).status().expect("mkfifo").success());
        program.bad(&["export", "--run", run], 1, &[name, "pipe"]);
        std::fs::remove_file(folder.path().join("run").join(name)).expect("there");
    }
}

/// A run, a photo and what is made of them say as many lines by names that a terminal would obey as by plain ones.
#[test]
fn hostile_paths_are_one_harmless_line_each_on_standard_output() {
    let program = Program(env!("CARGO_BIN_EXE_multilabel-ranking"));
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str, end: &str| folder.path().join(format!("{name}{end}")).to_str().expect("UTF-8").to_string();
    let said = |name: &str| {
        let [run, photo, tags, rows] = ["", ".png", "-tags", ".csv"].map(|end| at(name, end));
        let small = "train --data drawn --net small --size 16 --epochs 1 --epochs2 1 --batch 400";
        [
            format!("{small} --run"),
            "report --run".into(),
            "evaluate --run".into(),
            "export --run".into(),
            format!("tag --images|{photo}|--out|{tags}|--run"),
            format!("embed --images|{photo}|--out|{rows}|--run"),
        ]
        .map(|line| {
            let (verb, rest) = line.split_once(' ').expect("flags");
            let between = if rest.contains('|') { '|' } else { ' ' };
            let words: Vec<&str> = [verb].into_iter().chain(rest.split(between)).chain([&*run]).collect();
            let text = program.good(&words);
            assert!(harmless(&text), "{text:?}");
            text.lines().count()
        })
    };
    rankle::datasets::drawn::photo(5, 1, 1, 0, 64, 32).save(at("plain", ".png")).expect("saved");
    let plain = said("plain");
    for end in ["", ".png"] {
        std::fs::rename(at("plain", end), at(HOSTILE, end)).expect("renamed");
    }
    assert_eq!(said(HOSTILE), plain);
}

/// Threads that panic at one work do so in a process of its own, whose first one alone is said.
#[test]
fn a_panic_of_several_threads_is_one_line() {
    if std::env::var_os("PANICKED").is_none() {
        let own = std::env::current_exe().expect("this program");
        let name = "say::a_panic_of_several_threads_is_one_line";
        let ended = Ended::of(Command::new(own).args([name, "--exact", "--nocapture"]).env("PANICKED", "1")).well();
        assert_eq!(ended.err.matches("error: this is a defect of rankle").count(), 1, "{}", ended.err);
        return;
    }
    rankle::say::panics();
    // A gradient's is an error of the backward pass, which says where it was.
    let x = Tensor::ones([1], FLOAT).set_requires_grad(true);
    let place = format!("{}:{}: no slope", file!(), line!() + 1);
    let y = node(x.detach() * 2., &[&x], |_, _| panic!("no slope"));
    let why = y.f_backward().expect_err("a panic").to_string();
    assert!(why.contains(&place), "{why}");
    tch::set_num_threads(4);
    let vs = VarStore::new(Device::Cpu);
    let conv = Scope::root(&vs, 1).conv("conv", 128, 128, 3, 1, 1);
    let (_no_grad, _held) = (tch::no_grad_guard(), hold_weights());
    let _ = conv.forward(&Tensor::ones([1, 128, 32, 32], FLOAT), false);
    // The weight shrinks where it lies, and what is held of it does not: threads find that their parts do not fit it.
    let _ = vs.variables()["conv.weight"].set_requires_grad(false).resize_([64, 64, 3, 3]);
    let images = Tensor::ones([1, 64, 32, 32], FLOAT);
    catch_unwind(AssertUnwindSafe(|| conv.forward(&images, false))).expect_err("a panic");
    // Of what somebody takes nothing is said.
    caught(|| conv.forward(&images, false)).expect_err("a panic");
}

/// Says what libtorch warns of, in a process of its own.
#[test]
fn libtorchs_warnings_are_a_note_each() {
    if std::env::var_os("WARNED").is_none() {
        let own = std::env::current_exe().expect("this program");
        let name = "say::libtorchs_warnings_are_a_note_each";
        let said = Ended::of(Command::new(own).args([name, "--exact", "--nocapture"]).env("WARNED", "1")).err;
        let count = |words: &str| said.lines().filter(|line| line.contains(words)).count();
        assert_eq!(count("An output with one or more elements was resized"), 2, "{said}");
        assert_eq!(count("note: libtorch warns: An output with one or more elements was resized"), 2, "{said}");
        return;
    }
    rankle::say::warnings();
    let resized = |from: i64, to: i64| Tensor::ones([to], FLOAT).abs_out(&Tensor::zeros([from], FLOAT));
    (0..5).for_each(|_| drop(resized(2, 3)));
    // Of another size: another text.
    (0..5).for_each(|_| drop(resized(2, 4)));
}
