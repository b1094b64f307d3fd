//! Every verb of every program, and what it says of itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use super::{DRAWN, papers};
use crate::common::{Place, has, json};

fn verb_of(line: &str) -> &str {
    line.split(' ').next().expect("a verb")
}

/// Every flag that a row names exists and has a place in the paper or is marked ours; every score of a claim or table is
/// one that `evaluate` gives.
#[test]
fn programs_are_sound_and_every_verb_works() {
    let (mut flags, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for case in &papers() {
        let place = case.place();
        let said = place.said("sound");
        let names = |key: &str| said[key].as_array().expect("names").clone().into_iter().map(|name| name.to_string());
        flags.extend(names("flags"));
        shared.extend(names("shared"));
        for verb in ["train", "reproduce", "evaluate", "embed", "export", "data"] {
            let help = case.program.help(verb);
            assert!(!help.contains('`'), "{verb}: {help}");
        }
        let help = case.program.help("train");
        for flag in said["flags"].as_array().expect("flags") {
            has(&help, &format!("--{}", flag.as_str().expect("a name")));
        }
        has(&help, "Data:|Loss:|Batches:|Optimisation:|Machine:");

        has(&place.good("data --data drawn --out @card.json"), "drawn");
        assert!(place.json("card.json").is_object());
        case.train(&place);
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
        // By a score that counts the best checkpoint is known: more of it is better.
        let counts = results["counts"].as_array().expect("names");
        assert!(
            !counts.is_empty() && counts.iter().filter_map(Value::as_str).all(|name| results["better"][name] == "more")
        );
        assert!(scores.keys().all(|name| results["better"][name].is_string()), "{scores:?}");
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
        let said = place.ends(&format!("embed @run {} {brought} --out @out.safetensors", case.embed.0)).well().err;
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
        ["stands.csv.kept", "stands/kept"].iter().for_each(|name| place.write(name, "mine"));
        place.made("folder.npz/mine");
        place.bad(&[
            (1, &format!("embed @run {} {brought} --out @other.csv", case.embed.0), "other.csv|did not write"),
            (1, &format!("embed @run {} {brought} --out @out.txt", case.embed.0), ".safetensors, .npz or .csv"),
            (1, &format!("embed @run {} {brought} --out @folder.npz", case.embed.0), "folder.npz: it is a folder"),
            (
                1,
                &format!("embed @run {} {brought} --out @stands.csv", case.embed.0),
                "stands.csv.kept is a file, where a folder is to be: move it away",
            ),
        ]);
        for (line, file) in case.uses {
            let ended = place.ends(line).well();
            has(&ended.out, &format!("results: {}|report:", place.text(file)));
            let said = place.said(&format!("{line} --json"));
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
            has(says, DRAWN);
            // The terminal says the same, and nothing of it twice.
            assert!(ended.out.starts_with(says) && !ended.err.contains(DRAWN), "{} {}", ended.out, ended.err);
            has(first, &format!("{says}|<b>|photos that cannot be read| UTC|checkpoint.safetensors|network|{command}"));
            has(pictures, "data:image/jpeg;base64,");
            // nothing is made of what is not there, or in a file's place,
            let brought = ["@photos/0.png", "@photos"].iter().find(|path| line.contains(*path)).expect("photos");
            let out = line.split("--out ").nth(1).expect("a folder");
            place.bad(&[
                (1, &line.replacen(brought, "@wrong/path", 1), "wrong/path: there is no such file or folder"),
                (1, &line.replace(out, "@photos/0.png"), "--out|0.png: it is a file: name a folder"),
                (1, &line.replace(out, "@stands"), "stands/kept is a file, where a folder is to be: move it away"),
            ]);
            // and nobody else's.
            fs::write(place.path(file), "{}").expect("written");
            place.bad(&[(1, line, "--out|did not write")]);
            assert_eq!(place.read(file), "{}");
            has(&case.program.help(verb_of(line)), "--out|--run|--device");
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
        assert!(place.good("export @run --folded").contains("the folded network"));
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
