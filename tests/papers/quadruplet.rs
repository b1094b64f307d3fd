//! What only quadruplet has: its sets and splits, six models, pairs, its bad input.

use std::fs;
use std::path::{Path, PathBuf};

use rankle::datasets::drawn::photo;
use serde_json::Value;
use tch::{CModule, Tensor};
use tempfile::TempDir;

use crate::common::{Program, json, strs};

pub const QUADRUPLET: Program = Program(env!("CARGO_BIN_EXE_quadruplet"));

struct Place {
    dir: TempDir,
}

impl Place {
    /// Drawn people in VIPeR's and CUHK01's layouts, and one folder an identity.
    fn new() -> Place {
        let place = Place { dir: TempDir::new().expect("a temporary folder") };
        for person in 1..13_u64 {
            for (folder, camera) in [("cam_a", 1), ("cam_b", 2)] {
                place.draw(&format!("VIPeR/{folder}/{:03}_{}.bmp", person * 3, camera * 45), person, camera, 0);
            }
            for shot in 0..4 {
                place.draw(&format!("cuhk01/campus/{person:04}{:03}.png", shot + 1), person, 1 + shot / 2, shot % 2);
            }
        }
        for person in 1..9_u64 {
            for shot in 0..3 {
                place.draw(&format!("tree/P{person}/{shot}.png"), person, 1, shot);
            }
        }
        place
    }

    fn draw(&self, name: &str, person: u64, camera: u64, shot: u64) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        photo(5, person, camera, shot, 64, 32).save(path).expect("saved");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().to_string()
    }

    /// `verb` on CUHK01's layout into run `name`: the smallest training there is, with more flags.
    fn args(&self, verb: &str, name: &str, more: &[&str]) -> Vec<String> {
        let mut args: Vec<String> = [verb, "--run", &self.text(name)].map(String::from).to_vec();
        let data = self.text("cuhk01");
        let usual = [
            ("--data", data.as_str()),
            ("--test-people", "5"),
            ("--net", "small"),
            ("--size", "32x16"),
            ("--quadruplets", "4"),
            ("--steps", "6"),
            ("--log-every", "2"),
        ];
        for (flag, value) in usual.into_iter().filter(|(flag, _)| !more.contains(flag)) {
            args.extend([flag.to_string(), value.to_string()]);
        }
        args.extend(more.iter().filter(|word| !word.is_empty()).map(|word| word.to_string()));
        args
    }
}

#[test]
fn all_verbs_from_training_to_export() {
    let place = Place::new();
    let at = place.text("run");
    let card = QUADRUPLET.good(&[
        "data",
        "--data",
        &place.text("cuhk01"),
        "--test-people",
        "5",
        "--out",
        &place.text("c.json"),
    ]);
    assert!(card.contains("CUHK01") && card.contains("split 1: 5 of 12 people drawn to test"), "{card}");
    assert_eq!(json(&place.path("c.json"))["splits"][0]["identities"], 7);
    QUADRUPLET.good(&strs(&place.args("train", "run", &[])));
    let log = fs::read_to_string(place.path("run/log.jsonl")).expect("a log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    // Six steps with fixed margins, six with adaptive ones, which are what the batch's means say.
    let stages: Vec<u64> = lines.iter().map(|line| line["stage"].as_u64().expect("a stage")).collect();
    assert_eq!(stages, [1, 1, 1, 2, 2, 2, 2]);
    assert_eq!(lines[0]["margins"], serde_json::json!([1.0, 0.5]));
    for line in &lines[3..] {
        let number = |pointer: &str| line.pointer(pointer).and_then(Value::as_f64).expect("a number");
        let gap = (number("/square/different") - number("/square/same")).max(0.);
        assert!((number("/margins/0") - gap).abs() < 1e-6 && (number("/margins/1") - gap / 2.).abs() < 1e-6);
    }
    let rates: Vec<f64> = lines.iter().map(|line| line["lr"].as_f64().expect("a rate")).collect();
    assert!((rates[0] - 0.005).abs() < 1e-9 && (rates[2] - 0.0005).abs() < 1e-9 && (rates[3] - 0.002).abs() < 1e-9);
    assert!((rates[6] - 0.0002).abs() < 1e-9, "{rates:?}");
    let split = json(&place.path("run/split.json"));
    assert!(
        split["test"]
            .as_array()
            .is_some_and(|test| test.iter().all(|name| name.as_str().is_some_and(|n| n.len() == 4)))
    );
    assert_eq!((split["test"].as_array().map(Vec::len), split["train"].as_array().map(Vec::len)), (Some(5), Some(7)));

    let shown = QUADRUPLET.good(&["evaluate", "--run", &at, "--draws", "3", "--pairs", "20"]);
    for word in ["single shot rank-1", "whole gallery mAP", "same person: mean distance", "Not comparable"] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
    let results = json(&place.path("run/results.json"));
    // The paper's numbers are the figure's, and none of ours stands beside them.
    let claims = results["claims"].as_array().expect("claims");
    assert!(claims.len() == 12 && claims.iter().all(|claim| claim["place"] == "Figure 5" && claim["ours"].is_null()));
    assert!(claims.iter().any(|claim| claim["paper"] == 0.000374));
    assert!((0. ..=1.).contains(&results["scores"]["single shot rank-1"].as_f64().expect("a score")));
    let page = fs::read_to_string(place.path("run/report.html")).expect("a report");
    for word in ["Distances of training pairs", "Margins", "Saturation", "<svg", "data:image/jpeg;base64,", "0.99746"] {
        assert!(page.contains(word), "{word}");
    }
    assert!(QUADRUPLET.good(&["evaluate", "--run", &at, "--untrained", "--pairs", "9"]).contains("after 0 steps"));
    QUADRUPLET.good(&["evaluate", "--run", &at, "--data", "drawn", "--pairs", "9", "--order", "one"]);
    assert!(place.path("run/on-drawn/results.json").exists());
    let viper = place.text("VIPeR");
    let more = ["--data", &viper, "--split", "4", "--test-people", "6", "--pairs", "9"];
    QUADRUPLET.good(&[&["evaluate", "--run", at.as_str()], &more[..]].concat());
    assert!(place.path("run/on-VIPeR-split4-test-people6/report.html").exists());
    assert_eq!(json(&place.path("run/results.json"))["data"], "cuhk01", "the run keeps its own scores");

    // The module of two images gives what embed writes.
    let out = place.text("g.safetensors");
    let images = place.text("tree/P1");
    assert!(
        QUADRUPLET.good(&["embed", "--run", &at, "--images", &images, "--out", &out]).contains("3 x 3 dissimilarities")
    );
    let g = rankle::weights::read(Path::new(&out)).expect("readable").remove(0).1;
    assert!(QUADRUPLET.good(&["export", "--run", &at]).contains("sigmoid(model(a, b)) is g"));
    let module = CModule::load(place.path("run/model.pt")).expect("loads");
    let input = |shot: u64| {
        let recipe = rankle::transform::Recipe::imagenet(32, 16);
        let mut pixels = vec![0_f32; recipe.len()];
        let image = image::open(place.path(&format!("tree/P1/{shot}.png"))).expect("an image").to_rgb8();
        recipe.test(&image, rankle::transform::TestViews::Original, &mut pixels);
        Tensor::from_slice(&pixels).view([1, 3, 32, 16])
    };
    for (a, b) in [(0, 1), (2, 1)] {
        let logit = module.forward_ts(&[input(a), input(b)]).expect("runs");
        let theirs = logit.sigmoid().double_value(&[0]);
        assert!((theirs - g.double_value(&[a as i64, b as i64])).abs() < 1e-5);
    }
}

#[test]
fn six_models_stand_beside_figure_5() {
    let place = Place::new();
    let more = ["--table", "fig5", "--seeds", "1,2", "--steps", "3", "--pairs", "12", "--draws", "2"];
    let args = place.args("reproduce", "all", &more);
    let shown = QUADRUPLET.good(&strs(&args));
    for word in [
        "Triplet(Embedding)",
        "0.051118",
        "Quadruplet+MargOHNM",
        "0.99746",
        "Not comparable with the paper",
        "distance of one person falls",
        "single-shot rank-1 rises",
        "model.pt",
    ] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
    let all = json(&place.path("all/table.json"));
    assert_eq!(all["cells"].as_array().map(Vec::len), Some(12));
    assert_eq!(all["not_comparable_because"].as_array().map(Vec::len), Some(1));
    assert!(place.path("all/quadruplet-margohnm-2/report.html").exists() && place.path("all/report.html").exists());
    // Different models from the same draw: different scores, and again the same ones.
    let again = QUADRUPLET.good(&strs(&args));
    assert_eq!(
        shown.lines().find(|line| line.contains("Quadruplet+")),
        again.lines().find(|line| line.contains("Quadruplet+"))
    );
    let page = fs::read_to_string(place.path("all/report.html")).expect("a report");
    assert!(page.contains("Mean distance of training pairs") && page.contains("<svg"), "the figure is drawn");
    let more = ["--table", "fig5", "--model", "quadruplet"];
    QUADRUPLET.bad(&strs(&place.args("reproduce", "x", &more)), 2, &["goes through --model", "--only"]);
}

#[test]
fn reproduce_is_one_run() {
    let place = Place::new();
    let shown =
        QUADRUPLET.good(&strs(&place.args("reproduce", "one", &["--steps", "2", "--pairs", "8", "--draws", "2"])));
    for word in ["cuhk01 after 4 steps", "single shot rank-1", "model.pt", "report.html"] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
    let config = json(&place.path("one/config.json"));
    assert_eq!((&config["flags"]["model"], &config["flags"]["steps2"]), (&"quadruplet-margohnm".into(), &2.into()));
}

#[test]
fn scores_are_averaged_over_splits() {
    let place = Place::new();
    let usual = ["--table", "fig5", "--steps", "2", "--pairs", "8", "--draws", "2"];
    let of = |more: &[&str]| place.args("reproduce", "all", &[&usual[..], more].concat());
    let two = ["--only", "triplet-embedding,quadruplet", "--splits", "2-3", "--margins", "1,0.4"];
    let shown = QUADRUPLET.good(&strs(&of(&two)));
    assert!(shown.contains("Figure 5 on cuhk01, 2 splits, 1 seed"), "{shown}");
    let all = json(&place.path("all/table.json"));
    let splits: Vec<&Value> = all["cells"].as_array().expect("cells").iter().map(|cell| &cell["split"]).collect();
    assert_eq!(splits, ["2", "3", "2", "3"]);
    let ranks: Vec<f64> = all["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .filter(|cell| cell["row"] == "Quadruplet")
        .filter_map(|cell| cell["scores"]["single shot rank-1"].as_f64())
        .collect();
    assert_eq!(ranks.len(), 2);
    let line = shown.lines().filter(|line| line.contains("Quadruplet ")).nth(2).expect("the ranks");
    assert!(line.contains(&format!("{:.2} ±", 50. * (ranks[0] + ranks[1]))), "{line} has not the mean of {ranks:?}");
    let tested = |split: &str| json(&place.path(&format!("all/quadruplet-split{split}-1/split.json")))["test"].clone();
    assert_ne!(tested("2"), tested("3"));
    // A flag of one model goes to that one; a flag of none, and lists that say a thing twice, are refused.
    let config = json(&place.path("all/quadruplet-split2-1/config.json"));
    assert_eq!(config["flags"]["margins"], serde_json::json!([1.0, 0.4]));
    for (more, code, words) in [
        (&["--only", "triplet-embedding", "--margins", "1,0.4"][..], 2, &["--margins has no effect"][..]),
        (&["--only", "triplet-embedding", "--order", "one"], 2, &["--order"]),
        (&["--only", "7"], 2, &["--only 7", "quadruplet-margohnm"]),
        (&["--seeds", "1,1"], 2, &["--seeds: 1 comes twice"]),
        (&["--seeds", "1-2,x"], 2, &["--seeds x: say a number"]),
        (&["--splits", "1,1"], 2, &["--splits: 1 comes twice"]),
        (&["--splits", "3-1"], 2, &["say a range as 1-10"]),
        (&["--splits", "1-2", "--split", "2"], 2, &["--split"]),
    ] {
        QUADRUPLET.bad(&strs(&of(more)), code, words);
    }
}

#[test]
fn every_model_and_choice_trains() {
    let place = Place::new();
    let choices: [&[&str]; 7] = [
        &["--model", "triplet-embedding"],
        &["--model", "triplet-learned-metric"],
        &["--model", "triplet-no-softmax", "--pairing", "width"],
        &["--model", "triplet-improved", "--classification", "0.5"],
        &["--margin-gradient", "eq5", "--adaptive", "0.8,0.4"],
        &["--margin-gradient", "full", "--margins", "0.9,0.3", "--any-camera"],
        &["--net", "alexnet", "--weights", "none", "--size", "67x67", "--model", "quadruplet", "--steps", "1"],
    ];
    for (i, more) in choices.into_iter().enumerate() {
        let run = format!("run{i}");
        QUADRUPLET.good(&strs(&place.args("train", &run, &[more, &["--quadruplets", "2"]].concat())));
        if i < 2 {
            QUADRUPLET.good(&["evaluate", "--run", &place.text(&run), "--pairs", "4"]);
            assert!(QUADRUPLET.good(&["export", "--run", &place.text(&run)]).contains("model.pt"));
        }
    }
    // Another network starts from one that was trained; other data too.
    let more = ["--model", "quadruplet", "--start", &place.text("run5"), "--data", &place.text("VIPeR")];
    QUADRUPLET.good(&strs(&place.args("train", "next", &more)));
    let out = place.text("x.safetensors");
    let images = place.text("tree");
    let shown = QUADRUPLET.good(&["embed", "--run", &place.text("run0"), "--images", &images, "--out", &out]);
    assert!(shown.contains("24 embeddings of width 512"), "{shown}");
}

#[test]
fn bad_input_is_answered_in_one_line() {
    let place = Place::new();
    let train = |more: &[&str]| place.args("train", "run", more);
    for (more, words) in [
        (&["--model", "triplet-improved", "--margin", "-1"][..], &["--margin", "-1", "say 0 to 1000000"][..]),
        (&["--margins", "1"], &["--margins", "1,0.5"]),
        (&["--adaptive", "1,nan"], &["--adaptive", "nan"]),
        (&["--classification", "inf"], &["--classification", "inf"]),
        (&["--dropout", "1"], &["--dropout", "'1'"]),
        (&["--lr", "0"], &["--lr", "above 0"]),
        (&["--quadruplets", "0"], &["--quadruplets", "say 1 to 16384"]),
        (&["--steps", "0"], &["--steps", "say 1 to"]),
        (&["--size", "4x4"], &["--size", "4x4"]),
        (&["--size", "big"], &["--size", "big"]),
        (&["--weights", "w.pt"], &["--weights has no effect", "--net alexnet"]),
        (&["--net", "alexnet"], &["--weights FILE", "scripts/fetch alexnet"]),
        (&["--model", "triplet-embedding", "--classification", "1"], &["--classification has no effect"]),
        (&["--model", "triplet-embedding", "--pairing", "width"], &["--pairing has no effect"]),
        (&["--model", "triplet-improved", "--margins", "1,0.5"], &["--margins has no effect", "quadruplet"]),
        (&["--margin", "1"], &["--margin has no effect", "triplet-improved"]),
        (&["--model", "quadruplet", "--steps2", "5"], &["--steps2 has no effect", "--model quadruplet-margohnm"]),
        (&["--model", "quadruplet", "--lr2", "0.1"], &["--lr2 has no effect"]),
        (&["--model", "quadruplet", "--adaptive", "1,0.5"], &["--adaptive has no effect"]),
        (&["--model", "quadruplet", "--margin-gradient", "eq5"], &["--margin-gradient has no effect"]),
        (&["--steps2", "0"], &["--steps2", "say 1 to"]),
        (&["--split", "0"], &["--split"]),
        (&["--model", "best"], &["--model"]),
    ] {
        QUADRUPLET.bad(&strs(&train(more)), 2, words);
    }
    for (more, words) in [
        (&["--test-people", "11"][..], &["--test-people 11", "say 2 to 9"][..]),
        (&["--split", "np"], &["np is CUHK03's new protocol"]),
        (&["--net", "alexnet", "--weights", "none.pth", "--size", "67x67"], &["--weights", "none.pth"]),
        (&["--net", "alexnet", "--weights", "none", "--size", "20x20"], &["--size 20x20", "too small"]),
        (&["--start", "nowhere"], &["--start", "nowhere"]),
        (&["--net", "alexnet", "--weights", "none", "--sync-batch-norm"], &["--sync-batch-norm"]),
    ] {
        QUADRUPLET.bad(&strs(&train(more)), 1, words);
    }
    let tree = place.text("tree");
    QUADRUPLET.bad(
        &["train", "--data", &tree, "--net", "small", "--run", &place.text("run")],
        1,
        &["two cameras", "--any-camera"],
    );
    QUADRUPLET.bad(
        &["train", "--data", "data/cuhk03/labeled", "--net", "small", "--run", &place.text("run")],
        1,
        &["scripts/fetch cuhk03"],
    );
    assert!(!place.path("run").exists(), "a start that was refused leaves no folder");
    QUADRUPLET.good(&strs(&train(&[])));
    QUADRUPLET.bad(&strs(&train(&["--lr", "0.5"])), 1, &["--lr"]);
    QUADRUPLET.bad(&["evaluate", "--run", &place.text("none")], 1, &["no run at"]);
    // A photo cut short is seen before training.
    let whole = fs::read(place.path("VIPeR/cam_a/003_45.bmp")).expect("a photo");
    fs::write(place.path("VIPeR/cam_a/003_45.bmp"), &whole[..whole.len() / 2]).expect("cut");
    let viper = place.text("VIPeR");
    QUADRUPLET.bad(&strs(&place.args("train", "v", &["--data", &viper])), 1, &["1 of 24 images", "a truncated BMP"]);
    let (run, out) = (place.text("run"), place.text("out.txt"));
    QUADRUPLET.bad(&["embed", "--run", &run, "--images", &tree, "--out", &out], 1, &["--out", ".safetensors"]);
    QUADRUPLET.bad(&["evaluate", "--run", &run, "--pairs", "1"], 2, &["--pairs"]);
    fs::write(place.path("cuhk01/campus/0001001.png"), b"").expect("emptied");
    QUADRUPLET.bad(&strs(&place.args("train", "other", &[])), 1, &["1 of 48 images", "0001001.png"]);
}
