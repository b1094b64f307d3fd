//! Runs by what their folders tell: `report` and `compare`.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use crate::common::{Place, has};
use crate::papers::papers;

/// The sixth paper, with a small run in `run`.
fn trained() -> Place {
    let case = papers().pop().expect("the sixth");
    let place = Place::new(case.program, "--data drawn --people 3 --steps 4 --log-every 2");
    place.good("train @run");
    place
}

#[test]
fn a_run_that_is_still_writing_is_reported_and_nothing_else_of_it_changes() {
    let place = trained();
    // As one that another process trains: its lock is held, its newest line is half there.
    let lock = fs::File::open(place.path("run/.lock")).expect("a lock");
    lock.lock().expect("locked");
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
        has(&place.good("report @run"), "step|of|loss|images/s| ago|report: ");
        has(&place.read("run/report.html"), "<svg|Loss|step 2: collapsed: &lt;all&gt;");
    }
    assert!(held(&place) == before);
    let said: serde_json::Value = serde_json::from_str(&place.good("report @run --json")).expect("JSON alone");
    assert_eq!(said["parts"][0]["step"], 4);
    assert_eq!(said["parts"][0]["steps"], 4);

    // Scores of an earlier step stand there as such.
    drop(lock);
    place.write("run/log.jsonl", log);
    place.good("evaluate @run");
    let page = place.read("run/report.html");
    place.write("run/log.jsonl", format!("{}{{\"step\":7,\"mean\":1}}\n", place.read("run/log.jsonl")));
    place.good("report @run");
    has(&place.read("run/report.html"), "The scores are of step 4.|Protocol|<dd>8</dd>");
    assert_ne!(place.read("run/report.html"), page);

    place.bad(&[(1, "report @nowhere", "no run at|nowhere"), (2, "report", "required")]);
    let mut config = place.json("run/config.json");
    config["paper"] = json!("facenet");
    place.write("other/config.json", config.to_string());
    place.bad(&[(1, "report @other", "is a run of facenet: say facenet instead")]);
}

#[test]
fn runs_are_compared_by_what_differs() {
    let place = trained();
    place.good("train @b/run --seed 2 --people 4");
    place.good("evaluate @run");
    let [a, b, out] = ["run", "b/run", "page.html"].map(|name| place.text(name));
    let said = place.good(&format!("compare {a} {b} --out {out}"));
    has(&said, &format!("What differs|seed|people|{a}|{b}|page: {out}"));
    assert!(!said.contains("log-every") && !said.contains("threads"), "{said}");
    has(&place.read("page.html"), "What differs|Scores|<h2>Loss|<h2>Active terms");
    // Again, in its own place; not in that of another file, nor of a run's own page.
    let said = place.good(&format!("compare {a} {b} --out {out} --json"));
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON alone");
    assert_eq!((&said["runs"][0]["facts"]["people"], &said["runs"][1]["facts"]["seed"]), (&json!(3), &json!(2)));
    assert!(said["runs"][0]["results"]["scores"].is_object() && said["runs"][1]["results"].is_null());
    place.write("mine.html", "<!DOCTYPE html>mine");
    for name in ["mine.html", "run/report.html"] {
        let before = place.read(name);
        place.bad(&[(1, &format!("compare {a} {b} --out @{name}"), name)]);
        assert_eq!(place.read(name), before);
    }
    place.bad(&[
        (2, &format!("compare {a}"), "2"),
        (2, &format!("compare {a} {a}/"), "comes twice"),
        (1, &format!("compare {a} {b}x"), "no run at"),
    ]);
}
