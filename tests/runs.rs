//! Runs by what their folders tell: `report` and `compare`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use rankle::outputs::write_json;
use rankle::run::config::Config;
use rankle::weights::{HASH, read_sealed, save};
use serde_json::json;

use crate::common::{Place, has};
use crate::papers::paper;

/// All that a command prints that ends well.
fn all_said(place: &Place, line: &str) -> String {
    place.ends(line).well().all()
}

#[test]
fn a_run_whose_parts_were_not_all_begun_is_stopped() {
    let place = paper("sixth").trained();
    let (config, log) = (place.json("run/config.json"), place.read("run/log.jsonl"));
    let mut of_part = config.clone();
    of_part["flags"]["part"] = json!("a-1");
    let mut root = config;
    root["machine"].as_object_mut().expect("a table").remove("steps");
    place.write("several/config.json", root.to_string());
    place.write("several/a-1/config.json", of_part.to_string());
    place.write("several/a-1/log.jsonl", log);
    let newest = |run: &str| place.path(run).join("checkpoint.safetensors");
    let (tensors, mut metadata) = read_sealed(&newest("run")).expect("a checkpoint");
    let mut progress: serde_json::Value = serde_json::from_str(&metadata["progress"]).expect("JSON");
    progress["run"] = Config::read(&place.path("several/a-1")).expect("a part").identity().into();
    metadata.insert("progress".into(), progress.to_string());
    metadata.remove(HASH);
    save(&newest("several/a-1"), &tensors, Some(metadata)).expect("saved");
    // Of an older version, which has no list of the parts: by those that are there.
    has(&place.good("report @several --json"), "\"state\": \"trained\"");
    // In another's place, whoever put it there.
    place.write("several/a-2/config.json", of_part.to_string());
    let holds = "several/a-2 holds the part a-1 of a run";
    has(&all_said(&place, "report @several"), &format!("note: |{holds}: passed over"));
    root["machine"]["parts"] = json!(["a-1", "a-2"]);
    place.write("several/config.json", root.to_string());
    place.write("several/a-2/log.jsonl", "");
    place.bad(&[(1, "report @several", &format!("{holds}: put each part back"))]);
    root["machine"].as_object_mut().expect("a table").remove("parts");
    place.write("several/config.json", root.to_string());
    fs::remove_file(place.path("several/a-2/log.jsonl")).expect("removed");
    of_part["flags"]["part"] = json!("a-2");
    place.write("several/a-2/config.json", of_part.to_string());
    has(
        &place.good("report @several"),
        "a 1|a 2|Stopped at step 0 of 4 in a 2 (no checkpoint: it begins again); go on with: ",
    );
    fs::remove_dir_all(place.path("several/a-2")).expect("removed");
    root["machine"]["parts"] = json!(["a-1", "a-2"]);
    place.write("several/config.json", root.to_string());
    has(
        &place.good("report @several"),
        "a 1|a 2|Stopped at step 0 in a 2 (no checkpoint: it begins again); go on with: ",
    );
    root["machine"]["parts"] = json!(["a-1"]);
    place.write("several/config.json", root.to_string());
    // Nor is a folder of its user's a part, on the page.
    place.write("several/copied-part/log.jsonl", place.read("several/a-1/log.jsonl"));
    has(&place.good("report @several --json"), "\"state\": \"trained\"");
    assert!(!place.read("several/report.html").contains("copied part"));
}

#[test]
fn a_run_that_is_still_writing_is_reported_and_nothing_else_of_it_changes() {
    let place = paper("sixth").place();
    place.good("train @run");
    // As one that another process trains: its lock is held, its newest line is half there.
    let lock = fs::File::open(place.path("run/.lock")).expect("a lock");
    lock.lock().expect("locked");
    let mut config = place.json("run/config.json");
    config["machine"]["steps"] = json!(1000);
    place.write("run/config.json", config.to_string());
    let log = place.read("run/log.jsonl");
    let warned = r#"{"step":2,"warning":"collapsed: <all>"}"#;
    place.write("run/log.jsonl", format!("{}{warned}\n{{\"step\": 900, \"mean\": 1, \"β", log));
    let held = |place: &Place| -> BTreeMap<_, _> {
        let files = fs::read_dir(place.path("run")).expect("a folder").flatten().map(|entry| entry.path());
        files
            .filter(|path| !path.ends_with("report.html"))
            .map(|path| (path.clone(), fs::read(path).expect("read")))
            .collect()
    };
    let before = held(&place);
    for _ in 0..2 {
        has(&place.good("report @run"), "step|of|loss|images/s| ago|is training it|report: ");
        has(&place.read("run/report.html"), "<svg|Loss|step 2: collapsed: &lt;all&gt;|is training it");
    }
    assert!(held(&place) == before);
    let said = place.said("report @run --json");
    assert_eq!(said["parts"][0]["step"], 4);
    assert_eq!(said["parts"][0]["steps"], 1000);

    assert_eq!(said["state"], "training");

    // And as one that was killed: nobody holds its lock.
    lock.unlock().expect("unlocked");
    let dead = "Stopped at step 4 of 1000, 20| UTC (its checkpoint is of step 4); go on with: |sixth train";
    has(&place.good("report @run"), dead);
    has(&place.read("run/report.html"), dead);
    // A run that was moved goes on where it is now.
    fs::rename(place.path("run"), place.path("moved")).expect("renamed");
    has(&place.good("report @moved"), &format!("train|--run {}", place.text("moved")));
    assert!(!place.good("report @moved").contains(&format!("--run {}", place.text("run"))));
    fs::rename(place.path("moved"), place.path("run")).expect("renamed");
    // Typed where training began, which need not be here, nor be any more.
    place.made("here/x");
    has(&place.ends_in("here", "report --run ../run").out, &format!("--run {}", place.text("run")));
    let mut moved = config.clone();
    moved["folder"] = json!(place.path("gone"));
    place.write("run/config.json", moved.to_string());
    let said = place.good("report @run");
    has(&said, &format!("; go on, where {} lies now, with: ", place.text("gone")));
    assert!(!said.contains(" cd "), "{said}");
    place.write("run/config.json", config.to_string());
    place.good("report @run");

    // The page of the newest checkpoint's scores stays while training goes on; that of an earlier one does not.
    drop(lock);
    place.write("run/log.jsonl", log);
    place.good("evaluate @run");
    let page = place.read("run/report.html");
    // An older version's scores do not say what they are: they are replaced.
    let mut older = place.json("run/results.json");
    let own = older.as_object_mut().expect("an object");
    let _ = (own.shift_remove("made_by"), own.shift_remove("blake3"));
    place.write("run/results.json", older.to_string());
    place.good("evaluate @run");
    // What somebody else put in its place is not taken for it.
    place.write("run/report.html", "mine");
    place.bad(&[(1, "report @run", "report.html|did not write|remove it")]);
    place.write("run/report.html", &page);
    place.write("run/log.jsonl", format!("{}{{\"step\":7,\"loss\":1}}\n", place.read("run/log.jsonl")));
    place.good("report @run");
    assert_eq!(place.read("run/report.html"), page);
    let mut results = place.json("run/results.json");
    results["step"] = json!(3);
    write_json(&place.path("run/results.json"), "scores", &results).expect("written");
    place.good("report @run");
    has(&place.read("run/report.html"), "The scores are of step 3.|Protocol|<dd>8 of 1000</dd>");

    // A number that was edited, or a file that is cut: said, and scored again.
    let whole = place.read("run/results.json");
    for changed in [whole.replacen("\"step\": 3", "\"step\": 4", 1), whole[..whole.len() / 2].to_string()] {
        assert_ne!(changed, whole);
        let (run, words) =
            (place.text("run"), "results.json is not as it was written|move it away, and evaluate again");
        place.write("run/results.json", &changed);
        place.bad(&[(1, &format!("compare {run} {run}/../run --out @page.html"), words)]);
        has(&all_said(&place, "report @run"), &format!("note: |{words}"));
        has(&place.read("run/report.html"), &format!("<svg|Loss|{words}"));
    }
    fs::remove_file(place.path("run/results.json")).expect("removed");
    has(&place.good("evaluate @run"), "results: ");
    place.good("report @run");

    // Without a checkpoint there is nothing to go on from, which is said though the log is whole.
    config["machine"]["steps"] = json!(4);
    config["machine"].as_object_mut().expect("a table").remove("form");
    place.write("run/config.json", config.to_string());
    for name in ["checkpoint.safetensors", "checkpoint.before.safetensors"] {
        let _ = fs::remove_file(place.path("run").join(name));
    }
    let _ = fs::remove_file(place.path("run/results.json"));
    has(&place.good("report @run"), "no checkpoint: it begins again");
    has(&place.ends("train @run").err, "has no checkpoint: it starts again|was begun by another version of rankle (0.");

    place.bad(&[(1, "report @nowhere", "no run at|nowhere"), (2, "report", "required")]);
    let mut config = place.json("run/config.json");
    config["paper"] = json!("facenet");
    place.write("other/config.json", config.to_string());
    place.bad(&[(1, "report @other", "is a run of facenet: say facenet instead")]);

    // JSON knows text alone; a path need not be any.
    let odd = place.path("").join(OsStr::from_bytes(b"r\xff"));
    fs::rename(place.path("run"), &odd).expect("renamed");
    let args = [OsStr::new("report"), OsStr::new("--json"), OsStr::new("--run"), odd.as_os_str()];
    let said: serde_json::Value = serde_json::from_str(&place.program.good(&args)).expect("JSON alone");
    assert!(said["run"].as_str().is_some_and(|run| run.contains("r\u{fffd}")), "{said}");
}

/// Where the newest checkpoint is damaged, all that is told and written is of the one before, and what the newest gave stays.
#[test]
fn a_damaged_checkpoint_is_not_what_is_told_of() {
    let case = paper("sixth");
    let more = "--data drawn --people 3 --steps 4 --checkpoint-every 2";
    let place = Place::new(case.program, more);
    for verb in ["train", "evaluate", "export"] {
        place.good(&format!("{verb} @run"));
    }
    let (scores, module) = (place.read("run/results.json"), fs::read(place.path("run/model.pt")).expect("read"));
    // A module that was edited is not replaced.
    let mut edited = module.clone();
    edited[module.len() / 2] ^= 1;
    fs::write(place.path("run/model.pt"), &edited).expect("edited");
    place.bad(&[(1, "export @run", "model.pt: |changed since")]);
    assert!(fs::read(place.path("run/model.pt")).expect("read") == edited);
    fs::write(place.path("run/model.pt"), &module).expect("written");
    place.good("export @run");
    let newest = place.path("run/checkpoint.safetensors");
    let mut bytes = fs::read(&newest).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    // In its hash too.
    bytes[50] ^= 1;
    fs::write(&newest, bytes).expect("damaged");
    has(&all_said(&place, "report @run"), "the checkpoint before it, of step 2, is whole|its checkpoint is of step 2");
    has(
        &all_said(&place, "evaluate @run"),
        "of a later step than 2, and set aside: |results.step-4.json|after 2 steps",
    );
    has(&all_said(&place, "export @run"), "set aside: model.step-4.pt, model.step-4.json");
    assert_eq!(place.read("run/results.step-4.json"), scores);
    assert!(fs::read(place.path("run/model.step-4.pt")).expect("read") == module);
    (0..2).for_each(|person| place.photo(&format!("photos/{person}.png"), person, 1, 0));
    // One photo by two paths is one.
    let line = "embed @run --images @photos @photos/../photos --out @rows.safetensors";
    has(
        &all_said(&place, line),
        "2 photos came twice, by another path or a link, and count once, the first: |2 embeddings",
    );
    let (_, metadata) = read_sealed(&place.path("rows.safetensors")).expect("rows");
    let made: serde_json::Value = serde_json::from_str(&metadata["made"]).expect("JSON");
    let (_, before) = read_sealed(&place.path("run/checkpoint.before.safetensors")).expect("a checkpoint");
    assert_eq!(made["weights"], place.text("run/checkpoint.before.safetensors"));
    assert_eq!(made["weights_blake3"], before[HASH]);
}

/// An older checkpoint in the newest one's place may be a killed training's: whatever is made with it, it is said.
#[test]
fn a_checkpoint_behind_its_log_is_said_to_be() {
    let case = paper("sixth");
    let place = Place::new(case.program, "--data drawn --people 3 --steps 4 --checkpoint-every 2");
    place.good("train @run");
    place.photo("photos/0.png", 0, 1, 0);
    let words = "checkpoint.safetensors is of step 2, and the log goes on to step 4: |report --run ";
    let verbs = ["evaluate @run", "export @run", "embed @run --images @photos --out @rows.safetensors"];
    verbs.iter().for_each(|line| assert!(!place.ends(line).well().err.contains("the log goes on")));
    let [before, newest] = ["before.", ""].map(|which| place.path(&format!("run/checkpoint.{which}safetensors")));
    fs::copy(before, newest).expect("put back");
    verbs.iter().for_each(|line| has(&place.ends(line).well().err, words));
    // Where it trains, it is so at most times.
    let lock = fs::File::open(place.path("run/.lock")).expect("a lock");
    lock.lock().expect("locked");
    assert!(!place.ends(verbs[1]).well().err.contains("the log goes on"));
    drop(lock);
    // Nor is a log cut whose checkpoints are gone.
    let log = place.read("run/log.jsonl");
    for which in ["before.", ""] {
        fs::remove_file(place.path(&format!("run/checkpoint.{which}safetensors"))).expect("removed");
    }
    // What training refuses, its report says.
    let refused = |why: &str| {
        let words = format!("no checkpoint, though {why}: restore|another --run");
        place.bad(&[(1, "train @run", &words)]);
        let said = all_said(&place, "report @run");
        has(&said, &words);
        assert!(!said.contains("go on with"), "{said}");
    };
    refused("its log goes on to step 4");
    assert_eq!(place.read("run/log.jsonl"), log);
    // Nor is one that was scored begun anew; one that was to save none so far is.
    let mut config = place.json("run/config.json");
    config["machine"]["checkpoint-every"] = json!(100_000);
    place.write("run/config.json", config.to_string());
    refused("results.json is of one");
    assert_eq!(place.read("run/log.jsonl"), log);
    fs::remove_file(place.path("run/results.json")).expect("removed");
    has(&place.ends("train @run").well().err, "has no checkpoint: it starts again");
}

#[test]
fn runs_are_compared_by_what_differs() {
    let place = paper("sixth").trained();
    place.good("train @b/run --seed 2 --people 4");
    place.good("evaluate @run");
    let [a, b, out] = ["run", "b/run", "page.html"].map(|name| place.text(name));
    // Beside the runs' own what their user put there, what is damaged or edited, another run's, and what an older version wrote.
    let whole = place.read("run/results.json");
    let mut older = place.json("run/results.json");
    older.as_object_mut().expect("a table").remove("blake3").expect("a hash");
    let older = older.to_string();
    for (folder, text) in [("mine", "{\"accuracy\": 1}"), ("cut", &whole[..whole.len() / 2]), ("on-older", &older)] {
        place.write(&format!("run/{folder}/results.json"), text);
    }
    let mut theirs = place.json("run/results.json");
    theirs["paper"] = json!("facenet");
    for folder in ["run/theirs", "b/run"] {
        write_json(&place.made(&format!("{folder}/results.json")), "scores", &theirs).expect("written");
    }
    for (text, words) in
        [(None, "results.json is of facenet: move it away"), (Some(&whole), "results.json is of other flags: ")]
    {
        text.iter().for_each(|text| place.write("b/run/results.json", text));
        place.bad(&[(1, &format!("compare {a} {b} --out {out}"), words), (1, &format!("evaluate --run {b}"), words)]);
        has(&all_said(&place, "report @b/run"), &format!("note: |{words}"));
    }
    fs::remove_file(place.path("b/run/results.json")).expect("removed");
    // What is no scores of ours, and those of a run that had the same flags and other photos.
    let mut copied = place.json("run/results.json");
    copied["checkpoints"][0]["hash"] = json!("another");
    let refused = |words: &str| {
        place.bad(&[(1, &format!("compare {a} {b} --out {out}"), words)]);
        has(&all_said(&place, "report @run"), &format!("note: |{words}"));
    };
    write_json(&place.path("run/results.json"), "scores", &copied).expect("written");
    refused("results.json is of another training with these flags: move it away");
    copied["checkpoints"][0]["step"] = json!(1);
    write_json(&place.path("run/results.json"), "scores", &copied).expect("written");
    let gone_on = "run/results.json is of step 1, and training has gone on to step 4: whether it is of this training";
    has(&all_said(&place, "report @run"), &format!("note: |{gone_on}"));
    let said = all_said(&place, &format!("compare {a} {b} --out {out}"));
    has(&said, &format!("{gone_on}|{a} was scored after step 1 and is at step 4 now: |evaluate --run {a}"));
    // What was scored while it trained is set aside at its end, or when that is found.
    copied["step"] = json!(1);
    write_json(&place.path("run/results.json"), "scores", &copied).expect("written");
    has(&all_said(&place, "train @run"), "is trained already|set aside: report.step-1.html, results.step-1.json");
    fs::remove_file(place.path("run/results.step-1.json")).expect("set aside");
    copied["checkpoints"][0]["step"] = json!(9);
    write_json(&place.path("run/results.json"), "scores", &copied).expect("written");
    has(
        &all_said(&place, "report @run"),
        "note: |run/results.json is of step 9, whose checkpoint.safetensors is gone or damaged: not checked",
    );
    place.write("run/results.json", "{}");
    refused("results.json is not this program's, or of another version|move it away");
    place.write("run/results.json", &whole);
    // Another configuration than its checkpoint's.
    let config = place.read("b/run/config.json");
    place.write("b/run/config.json", config.replacen("\"people\": 4", "\"people\": 5", 1));
    let words = "checkpoint.safetensors was trained with other flags or data than config.json says";
    place.bad(&[(1, &format!("compare {a} {b} --out {out}"), words), (1, &format!("report --run {b}"), words)]);
    place.write("b/run/config.json", config);
    // A table makes a folder of runs, and is none in a run's.
    place.bad(&[(1, "reproduce @run --seeds 1,2", "run holds a run|name another with --run")]);
    // What its user edited stays.
    let edited = whole.replacen("\"step\": 4", "\"step\": 5", 1);
    place.write("run/results.json", &edited);
    place.bad(&[(1, "evaluate @run", "run/results.json is not as it was written")]);
    assert_eq!(place.read("run/results.json"), edited);
    place.write("run/results.json", &whole);
    place.write("b/run/on-run/results.json", &whole);
    let all = all_said(&place, &format!("compare {a} {b} --out {out}"));
    has(&all, &format!("b/run has no scores yet: |evaluate --run {b}"));
    has(
        &all,
        "mine/results.json does not say|theirs/results.json does not say|cut/results.json does not say|on-older/results.json has no checksum|on older|on-run/results.json is of other flags",
    );
    place.write("run/on-older/results.json", whole.replacen("\"step\": 4", "\"step\": 5", 1));
    has(
        &all_said(&place, &format!("compare {a} {b} --out {out}")),
        "on-older/results.json is not as it was written|passed over",
    );
    place.write("run/results.json", &older);
    fs::remove_dir_all(place.path("run/on-older")).expect("removed");
    has(&all_said(&place, "report @run"), "run/results.json has no checksum (an older version wrote it)");
    place.write("run/results.json", &whole);
    let said = place.good(&format!("compare {a} {b} --out {out}"));
    has(&said, &format!("What differs|seed|people|{a}|{b}|page: {out}"));
    assert!(!said.contains("log-every") && !said.contains("threads"), "{said}");
    has(&place.read("page.html"), "What differs|Scores|<h2>Loss|<h2>Active terms");
    // Again, in its own place; not in that of another file, nor of a run's own page.
    let said = place.good(&format!("compare {a} {b} --out {out} --json"));
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON alone");
    assert_eq!((&said["runs"][0]["facts"]["people"], &said["runs"][1]["facts"]["seed"]), (&json!(3), &json!(2)));
    assert!(said["runs"][0]["results"]["scores"].is_object() && said["runs"][1]["results"].is_null());
    assert_eq!((&said["best"], &said["runs"][1]["parts"][0]["step"]), (&json!({}), &json!(4)));
    // What to type where there are no scores, and how far such runs are.
    let says = said["says"].as_str().expect("a text");
    assert!(says.ends_with(&format!("b/run has no scores yet: {} evaluate --run {b}", "sixth")), "{says}");
    let shown = place.read("page.html");
    has(&shown, &format!("evaluate --run {b}</p>|<h2>Training|<td class=\"\">last loss</td><td class=\"number\">"));
    // Of most scores more is better, of some less, of a spread neither; and none of those on other data.
    place.good("evaluate @b/run");
    let scored = |run: &str, data: &str, scores: serde_json::Value| {
        let file = format!("{run}/results.json");
        let mut results = place.json(&file);
        (results["data"], results["scores"]) = (json!(data), scores);
        write_json(&place.path(&file), "scores", &results).expect("written");
        let said = place.good(&format!("compare {a} {b} --out {out} --json"));
        serde_json::from_str::<serde_json::Value>(&said).expect("JSON alone")
    };
    scored("run", "x", json!({"accuracy": 0.9, "EER": 0.2, "accuracy SEM": 0.01, "AUC": 0.5}));
    let said = scored("b/run", "x", json!({"accuracy": 0.8, "EER": 0.1, "accuracy SEM": 0.02, "AUC": 0.5}));
    assert_eq!(said["best"], json!({"accuracy": [a], "EER": [b]}));
    has(said["says"].as_str().expect("a text"), &format!("By accuracy, {a} is best: 0.9000, then {b}: 0.8000."));
    let cells = |a: &str, b: &str| format!("<td class=\"number\">{a}</td><td class=\"number\">{b}</td>");
    let rows = [("* 0.9000", "0.8000"), ("0.2000", "* 0.1000"), ("0.0100", "0.0200"), ("0.5000", "0.5000")];
    let rows = rows.map(|(a, b)| cells(a, b)).join("|");
    has(&place.read("page.html"), &format!("{rows}|* marks the best run: the highest score, of EER the lowest."));
    let said = scored("b/run", "y", json!({"accuracy": 0.8}));
    assert_eq!(said["best"], json!({}));
    has(said["says"].as_str().expect("a text"), "of different data");
    // An older version's do not tell: of two such none is marked, and the first leads its page.
    for run in ["run", "b/run"] {
        let file = format!("{run}/results.json");
        let mut results = place.json(&file);
        for key in ["better", "counts"] {
            results.as_object_mut().expect("a table").remove(key).expect("what is better");
        }
        (results["data"], results["scores"]) = (json!("x"), json!({"accuracy": run.len(), "EER": 0.2}));
        write_json(&place.path(&file), "scores", &results).expect("written");
    }
    let older = |run: &str| format!("{run} was scored by an older version|: sixth evaluate --run {run}");
    let said = all_said(&place, &format!("compare {a} {b} --out {out}"));
    has(&said, &[older(&a), older(&b)].join("|"));
    assert!(!said.contains("* "), "{said}");
    fs::remove_file(place.path("run/report.html")).expect("removed");
    has(&all_said(&place, "report @run"), &older(&a));
    has(&place.read("run/report.html"), "<p><b>3.0000</b>accuracy</p>");
    fs::remove_file(place.path("b/run/results.json")).expect("removed");
    place.write("run/results.json", &whole);
    place.write("mine.html", "<!DOCTYPE html>mine");
    for name in ["mine.html", "run/report.html"] {
        let before = place.read(name);
        place.bad(&[(1, &format!("compare {a} {b} --out @{name}"), name)]);
        assert_eq!(place.read(name), before);
    }
    for name in ["checkpoint.safetensors", "checkpoint.before.safetensors"] {
        let _ = fs::remove_file(place.path("b/run").join(name));
    }
    let said = all_said(&place, &format!("compare {a} {b} --out {out}"));
    has(&said, "b/run has no scores and no checkpoint yet");
    assert!(!said.contains("evaluate --run"), "{said}");
    // What published weights gave is no run, for whichever verb.
    let published = paper("triplet-reid").trained();
    let mut config = published.json("run/config.json");
    (config["flags"]["data"], config["flags"]["weights"]) = (json!(""), json!("net.pth"));
    published.write("given/config.json", config.to_string());
    let (run, given) = (published.text("run"), published.text("given"));
    // Another paper's page is ours too, and so is an older version's.
    published.copy(&published.path("run"), "again");
    published.good(&format!("compare {run} {} --out {out}", published.text("again")));
    place.good(&format!("compare {a} {b} --out {out}"));
    place.write("page.html", rankle::report::Report::new("sixth: runs compared", "").html());
    place.good(&format!("compare {a} {b} --out {out}"));
    let refused = "holds what published weights gave|say --weights net.pth";
    published.bad(&[(1, &format!("compare {run} {given}"), refused), (1, "report @given", refused)]);
    place.bad(&[
        (2, &format!("compare {a}"), "2"),
        (2, &format!("compare {a} {a}/"), "comes twice"),
        (1, &format!("compare {a} {b}x"), "no run at"),
    ]);
}
