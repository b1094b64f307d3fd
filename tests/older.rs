//! What an earlier step gave, when a run goes on.

use std::fs;

use rankle::older::set_aside;
use rankle::outputs::write_json;
use serde_json::json;
use tempfile::tempdir;

#[test]
fn what_is_of_an_older_step_is_set_aside_when_a_run_goes_on() {
    let place = tempdir().expect("a folder");
    let at = |name: &str| place.path().join(name);
    let scores = json!({
        "paper": "", "citation": "", "data": "", "of": null, "scored": null, "step": 4, "protocol": [], "scoring": {},
        "scores": {}, "comparable": false, "not_comparable_because": null, "claims": [], "departures": []
    });
    let kept = "config.json log.jsonl untrained/results.json part/config.json part/results.json mine.pt model-2.pt \
                mine/report.html mine/model.pt other/results.json other/report.html on-x/model.pt results.step-4.json";
    let older = "results.json report.html model.pt model.json model-spatial.pt on-x/results.json on-x/y/results.json \
                 on-x/y/report.html best/model.pt best/model.json";
    for name in kept.split_whitespace().chain(older.split_whitespace()) {
        fs::create_dir_all(at(name).parent().expect("a folder")).expect("made");
        let text = match name {
            "other/results.json" => json!({"step": 4}),
            "model.json" => json!({"step": 3}),
            _ => scores.clone(),
        };
        match name {
            "other/results.json" | "model.json" | "on-x/results.json" => {
                fs::write(at(name), text.to_string()).expect("written")
            }
            _ => write_json(&at(name), "scores", &text).expect("written"),
        }
    }
    let models = ["model.pt", "model-spatial.pt"].map(String::from);
    for _ in 0..2 {
        set_aside(place.path(), 7, &models).expect("renamed");
    }
    kept.split_whitespace().for_each(|name| assert!(at(name).exists(), "{name}"));
    older.split_whitespace().for_each(|name| assert!(!at(name).exists(), "{name}"));
    for name in "results.step-4-2.json report.step-4.html model.step-3.pt model.step-3.json model-spatial.step-7.pt \
                 on-x/results.step-4.json on-x/y/report.step-4.html best/model.step-4.pt"
        .split_whitespace()
    {
        assert!(at(name).exists(), "{name}");
    }
}
