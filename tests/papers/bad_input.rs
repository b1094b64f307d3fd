//! Bad input is one line that says what to type.

use std::fs;
use std::path::Path;

use super::papers;
use crate::common::{Ended, Place, has};

/// Bad input is one line that says what to type, and leaves no run folder.
#[test]
fn bad_input_is_one_line() {
    let papers = papers();
    for (i, case) in papers.iter().enumerate() {
        let place = case.place();
        let name = Path::new(case.program.0).file_name().and_then(|name| name.to_str()).expect("a name");
        // The sixth has no other data.
        let (code, plan) = if name == "sixth" { (2, "missing") } else { (1, "stands above") };
        let [choice, number, count] = case.kinds;
        let idle = case.idle.split_whitespace().rev().nth(1).unwrap_or("--seed");
        place.bad(&[
            (2, "train --data drawn --no-such-flag", "--no-such-flag"),
            (2, "evaluate", "required"),
            (2, "reproduce --data drawn --table none", "--table none"),
            (1, "evaluate @nowhere", "no run at|nowhere|train"),
            (1, "export @nowhere", "nowhere|train"),
            (1, "train @run --device tpu", "--device"),
            (code, "reproduce @run --plan --data @missing", plan),
            (2, &format!("train @run {choice} best"), &format!("{choice}|best")),
            (2, &format!("train @run {number} 0"), &format!("{number}|'0'|above 0")),
            (2, &format!("train @run {number} -1"), &format!("{number}|'-1'|above 0")),
            (2, &format!("train @run {number} -1e-3"), &format!("{number}|'-1e-3'|above 0")),
            (2, &format!("train @run {count} 0"), &format!("{count}|'0'|say 1 to")),
            (2, "train @run --workers 100000", "--workers|say 1 to 256"),
            (1, "train @run --sync-batch-norm", "--sync-batch-norm|one process only|torchrun"),
            (2, "train @run --log-every 0", "--log-every"),
            (2, "train @run --seed x", "--seed"),
            (2, "train @run --data -x", "'-x'|./-NAME|--flag=-VALUE"),
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

        case.train(&place);
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

/// Beside what is to be written there may be something else that cannot be.
#[test]
fn a_folder_for_temporary_files_that_is_not_there_is_said() {
    let place = super::paper("sixth").place();
    let ended = Ended::of(place.command("data --data drawn --out /dev/stdout").env("TMPDIR", place.path("none")));
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    has(&ended.err, "error: cannot write /dev/stdout: nothing can be made in |/none, for|set TMPDIR");
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
        let ended = Place::new(super::paper(paper).program, "").ends_in("", &format!("reproduce --plan {flags}"));
        assert_eq!(ended.code, Some(1), "{paper}: {}", ended.err);
        has(&ended.out, words);
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
        let case = super::paper(paper);
        let brings = if paper == "skill-determination" { ("--images x ", "") } else { ("--videos x ", "") };
        let line = format!("{} {flags}", verb.replace(brings.0, brings.1));
        match flags.split(' ').next() {
            Some("") => case.place().bad(&[(1, &line, "no run at")]),
            flag => {
                case.place().bad(&[(2, &line, &format!("{} has no effect on|{only}|leave it out", flag.unwrap_or("")))])
            }
        }
        let help = case.program.help(verb.split(' ').next().unwrap_or(""));
        assert!(
            only.starts_with("--") || flags.is_empty() || !help.contains(flags.split(' ').next().unwrap_or("")),
            "{help}"
        );
    }
}
