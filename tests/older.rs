//! What an earlier step gave, when a run goes on.

use std::fs;

use rankle::older::{set_aside, set_aside_passed};
use rankle::outputs::write_json;
use rankle::run::checkpoint::Progress;
use rankle::weights;
use serde_json::json;
use tch::Tensor;
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

#[test]
fn at_the_end_what_later_checkpoints_have_passed_is_set_aside_and_nothing_else() {
    let place = tempdir().expect("a folder");
    let at = |name: &str| place.path().join(name);
    let kept = |name: &str, step: u64| {
        let progress = serde_json::to_string(&Progress { step, ..Progress::default() }).expect("JSON");
        let about = [("progress", progress), ("which", name.to_string())].map(|(key, text)| (key.to_string(), text));
        let tensors = [("x".to_string(), Tensor::from_slice(&[step as f32]))];
        weights::save(&at(name), &tensors, Some(about.into())).expect("saved");
        let metadata = weights::metadata(&at(name)).expect("a head");
        json!({"which": name, "step": step, "hash": metadata[weights::HASH]})
    };
    let (newest, best) = (kept("checkpoint.safetensors", 60), kept("best.safetensors", 40));
    let passed = json!({"which": "checkpoint.safetensors", "step": 12, "hash": "gone"});
    let scored = |folder: &str, of: &[&serde_json::Value]| {
        let scores = json!({
            "paper": "", "citation": "", "data": "", "of": null, "scored": null, "step": of[0]["step"], "protocol": [],
            "scoring": {}, "scores": {}, "comparable": false, "not_comparable_because": null, "claims": [],
            "departures": [], "checkpoints": of
        });
        fs::create_dir_all(at(folder)).expect("made");
        write_json(&at(folder).join("results.json"), "scores", &scores).expect("written");
    };
    for (folder, of) in [("", &passed), ("on-x", &newest), ("on-y", &passed), ("best", &best)] {
        scored(folder, &[of]);
    }
    // Of two parts one is gone, which a later step of the other, scored too, does not pass.
    scored("on-z", &[&passed, &newest]);
    let modules = [("model", 12), ("model-folded", 60), ("best/model", 40), ("best/model-folded", 20)];
    for (name, step) in modules {
        fs::write(at(&format!("{name}.pt")), "").expect("written");
        fs::write(at(&format!("{name}.json")), json!({"step": step}).to_string()).expect("written");
    }
    let models = ["model.pt", "model-folded.pt"].map(String::from);
    for _ in 0..2 {
        set_aside_passed(place.path(), place.path(), &models).expect("renamed");
    }
    for name in "results.step-12.json on-x/results.json on-y/results.step-12.json on-z/results.json best/results.json \
                 model.step-12.pt model.step-12.json model-folded.pt best/model.pt best/model-folded.step-20.pt"
        .split_whitespace()
    {
        assert!(at(name).exists(), "{name}");
    }
    for name in ["results.json", "on-y/results.json", "model.pt", "model.json", "best/model-folded.pt"] {
        assert!(!at(name).exists(), "{name}");
    }
}
