//! What a shell and other programs want: completions, manual pages, JSON, the flags of a run from its file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::common::{Ended, Place, Program, has};
use crate::papers::{paper, papers};

#[test]
fn every_program_has_completions_and_manual_pages() {
    for case in &papers() {
        let [script, ..] = ["bash", "zsh", "fish", "elvish", "powershell"].map(|shell| {
            let script = case.program.good(&["completions", shell]);
            has(&script, "checkpoint-every|evaluate");
            script
        });
        let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash");
        bash.stdin.take().expect("piped").write_all(script.as_bytes()).expect("taken");
        assert!(bash.wait().expect("ends").success());
        // A flag is completed too, whatever the program is called.
        let path = case.program.path();
        let name = path.file_name().expect("a name").to_string_lossy();
        let asked = format!(
            "{script}\nCOMP_WORDS=({name} train --checkpoint-ev); COMP_CWORD=2\n_{name} {name} --checkpoint-ev train"
        );
        let bash = Ended::of(Command::new("bash").args(["-c", &format!("{asked}; echo \"${{COMPREPLY[@]}}\"")]));
        has(&bash.out, "--checkpoint-every");
        has(&case.program.good(&["man"]), ".TH|.SH SYNOPSIS|reproduce");
        has(&case.program.good(&["man", "train"]), "-train|.SH OPTIONS|checkpoint\\-every");
        case.program.bad(&["man", "nothing"], 2, &["man nothing: there is no such verb"]);
    }
}

#[test]
fn help_that_cannot_be_printed_is_an_error() {
    let program = paper("sixth").program;
    for words in [&["--help"][..], &["--version"], &["train", "--help"]] {
        let Ok(full) = fs::File::options().write(true).open("/dev/full") else { return };
        let ended = Ended::of(program.command(words).stdout(full));
        assert_eq!((ended.code, ended.err.lines().count()), (Some(1), 1), "{words:?}: {}", ended.err);
        has(&ended.err, "error: cannot write to standard output: ");
    }
}

#[test]
fn json_stands_alone_on_standard_output() {
    let place = paper("sixth").trained();
    for (line, key) in [
        ("data --data drawn --json", "layout"),
        ("evaluate @run --json", "scores"),
        ("reproduce @planned --plan --json", "runs"),
        ("reproduce @again --json", "scores"),
        ("reproduce @grid --seeds 1,2 --json", "cells"),
        ("report @run --json", "parts"),
    ] {
        let said = place.said(line);
        assert!(!said[key].is_null(), "{line}: {said}");
    }
}

#[test]
fn a_run_is_repeated_by_its_file() {
    for case in [paper("facenet"), paper("sixth")] {
        let place = Place::new(case.program, "");
        case.train(&place);
        let [flag, _, now] = case.changed;
        place.good(&format!("train @other --config @run/config.json {flag} {now} --seed 2"));
        let flags = |run: &str| place.json(&format!("{run}/config.json"))["flags"].clone();
        let (mut wanted, other) = (flags("run"), flags("other"));
        (wanted[&flag[2..]], wanted["seed"]) = (other[&flag[2..]].clone(), json!(2));
        assert_eq!(wanted, other);
    }
    // What is the machine's is not taken, and said.
    let place = paper("sixth").trained();
    let mut config = place.json("run/config.json");
    config["machine"]["tf32"] = json!(true);
    place.write("run.json", config.to_string());
    for (more, notes) in [("", 1), ("--tf32", 0)] {
        let said = place.ends(&format!("train @again{notes} --config @run.json {more}")).err;
        assert_eq!(said.matches("had --tf32 too").count(), notes, "{said}");
    }
    let place = Place::new(paper("triplet-reid").program, "");
    // What hangs on a choice that is typed follows it: lunet's rate, not trinet's.
    place.write(
        "few.json",
        r#"{"paper": "triplet-reid", "flags": {"data": "drawn", "net": "trinet", "t1": 1, "p": 2, "k": 2}}"#,
    );
    place.write("other.json", r#"{"paper": "facenet", "flags": {}}"#);
    place.write("unknown.json", r#"{"paper": "triplet-reid", "flags": {"frobs": 1}}"#);
    place.write("bounds.json", r#"{"paper": "triplet-reid", "flags": {"p": -1}}"#);
    place.write("kind.json", r#"{"paper": "triplet-reid", "flags": {"p": [{}]}}"#);
    place.write("null.json", r#"{"paper": "triplet-reid", "flags": {"p": null, "data": "drawn"}}"#);
    place.write("list.json", r#"{"paper": "triplet-reid", "flags": {"lr": [1]}}"#);
    place.write("none.json", "{}");
    place.write("nobody.json", r#"{"flags": {}}"#);
    place.write("array.json", "[1]");
    place.write("cut.json", r#"{"flags""#);
    place.good("train @run --config @few.json --net lunet --shrink 32 --size 32x32");
    let flags = place.json("run/config.json")["flags"].clone();
    assert_eq!((&flags["net"], &flags["lr"], &flags["p"]), (&json!("lunet"), &json!(1e-3), &json!(2)));
    for (code, name, words) in [
        (2, "other", "is of facenet: say facenet instead"),
        (2, "unknown", "there is no --frobs"),
        (2, "bounds", "--p -1"),
        (2, "kind", "kind.json"),
        (2, "null", "null.json|--p |say a value like"),
        (2, "list", "list.json|--lr |say a value like"),
        (1, "none", "has no flags"),
        (1, "nobody", "nobody.json names no paper"),
        (1, "array", "has no flags: give a run's config.json"),
        (1, "cut", "cut.json: give a run's config.json"),
        (1, "missing", "missing.json"),
    ] {
        place.bad(&[(code, &format!("train @no --config @{name}.json"), words)]);
    }
    assert!(!place.path("no").exists());
}

/// Every command of the pages, in blocks and in lines, names a verb that is there and flags that it has; and a script that
/// is there.
#[test]
fn commands_of_the_pages_are_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs: BTreeMap<String, Program> = papers()
        .into_iter()
        .map(|case| (case.program.path().file_name().expect("a name").to_string_lossy().into_owned(), case.program))
        .collect();
    let pages = fs::read_dir(root.join("papers")).expect("papers").flatten().map(|entry| entry.path());
    let pages = pages.chain([root.join("README.md"), root.join("data/README.md")]);
    let mut seen = 0;
    for page in pages.filter(|page| page.extension().is_some_and(|end| end == "md")) {
        let text = fs::read_to_string(&page).expect("a page").replace("\\\n", " ");
        // Blocks by their lines; elsewhere what stands between backquotes.
        for (i, part) in text.split("```").enumerate() {
            let of: Vec<&str> =
                if i % 2 == 1 { part.lines().collect() } else { part.split('`').skip(1).step_by(2).collect() };
            let commands = of.into_iter().filter_map(|line| line.split('#').next());
            for command in commands.flat_map(|line| line.split([';', '|', '&'])) {
                let words: Vec<&str> = command.split_whitespace().filter(|word| *word != "--").collect();
                for script in words.iter().filter(|word| word.starts_with("scripts/")) {
                    assert!(root.join(script).exists(), "{}: {command}", page.display());
                }
                let Some(at) = words.iter().position(|word| programs.contains_key(*word)) else { continue };
                let Some(verb) = words.get(at + 1).filter(|verb| verb.starts_with(char::is_lowercase)) else {
                    continue;
                };
                let help = programs[words[at]].help(verb);
                for flag in words[at + 2..].iter().filter(|word| word.starts_with("--")) {
                    let flag = flag.split('=').next().expect("a flag").trim_end_matches([',', ']', '.']);
                    let known = help.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == flag);
                    assert!(known, "{}: {command}: {verb} has no {flag}", page.display());
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "{seen}");
}
