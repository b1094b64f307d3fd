//! The binary `multilabel-ranking` as a user meets it: all verbs, interruptions, and bad input answered in one line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rand::Rng;
use rankle::datasets::drawn::Shapes;
use serde_json::Value;
use tch::{CModule, Kind};
use tempfile::TempDir;

use crate::common::Program;

const MULTILABEL: Program = Program(env!("CARGO_BIN_EXE_multilabel-ranking"));

struct Place {
    dir: TempDir,
}

impl Place {
    /// A plain list of drawn images, and rows of features in Mulan's files.
    fn new() -> Place {
        let place = Place { dir: TempDir::new().expect("a temporary folder") };
        let shapes = Shapes { side: 24, ..Shapes::default() };
        fs::create_dir_all(place.path("data/images")).expect("made");
        let names = ["disc", "square", "triangle", "ring", "cross", "bar", "striped", "dotted", "checked", "grid"];
        let mut list = "image,labels,split\n".to_string();
        for number in 0..60 {
            let (image, labels) = shapes.draw(number);
            image.save(place.path(&format!("data/images/{number}.png"))).expect("saved");
            let labels: Vec<&str> = labels.iter().map(|&class| names[class as usize]).collect();
            list.push_str(&format!(
                "{number}.png,{},{}\n",
                labels.join(";"),
                if number < 40 { "train" } else { "test" }
            ));
        }
        fs::write(place.path("data/labels.csv"), list).expect("written");
        let head = "@relation x\n@attribute a numeric\n@attribute b numeric\n@attribute up {0,1}\n@attribute right {0,1}\n@attribute far {0,1}\n@data\n";
        let rows = |seed: u64, count: usize| {
            let mut rng = rankle::seed::at(seed, 0, 0);
            let row = |_| {
                let (a, b) = (rng.random_range(-1.0..1.0_f64), rng.random_range(-1.0..1.0_f64));
                let far = a * a + b * b > 0.5;
                format!("{a:.4},{b:.4},{},{},{}\n", u8::from(a > 0.), u8::from(b > 0.), u8::from(far))
            };
            (0..count).map(row).collect::<String>()
        };
        fs::write(place.path("toy-train.arff"), format!("{head}{}", rows(1, 300))).expect("written");
        fs::write(place.path("toy-test.arff"), format!("{head}{}", rows(2, 100))).expect("written");
        fs::write(
            place.path("toy.xml"),
            "<labels><label name=\"up\"/><label name=\"right\"/><label name=\"far\"/></labels>",
        )
        .expect("written");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().to_string()
    }

    /// `verb` on the images into run `name`: the smallest training there is, with more flags.
    fn args(&self, verb: &str, name: &str, more: &[&str]) -> Vec<String> {
        let mut args: Vec<String> = [verb, "--run", &self.text(name)].map(String::from).to_vec();
        let data = self.text("data");
        let usual = [
            ("--data", data.as_str()),
            ("--net", "small"),
            ("--size", "16"),
            ("--batch", "9"),
            ("--epochs", "2"),
            ("--epochs2", "2"),
            ("--log-every", "2"),
        ];
        for (flag, value) in usual.into_iter().filter(|(flag, _)| !more.contains(flag)) {
            args.extend([flag.to_string(), value.to_string()]);
        }
        args.extend(more.iter().map(|word| word.to_string()));
        args
    }
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

#[test]
fn all_verbs_from_training_to_export() {
    let place = Place::new();
    let at = place.text("run");
    let card = MULTILABEL.good(&["data", "--data", &place.text("data"), "--out", &place.text("card.json")]);
    assert!(card.contains("train: 40 items") && card.contains("every image can be read"), "{card}");
    assert_eq!(json(&place.path("card.json"))["splits"][1]["items"], 20);
    let shown = MULTILABEL.good(&strs(&place.args("reproduce", "run", &[])));
    for word in [
        "label threshold",
        "label count",
        "oracle count",
        "best k on the dev images",
        "PC-F1",
        "AP an image",
        "Nothing stands beside the paper",
        "model.pt",
    ] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
    for remembered in ["73.5", "62.9", "68.3", "70.8"] {
        assert!(!shown.contains(&format!("{remembered} ")), "an unverified number is shown");
    }
    // 36 images to train on, 4 batches a pass, two stages of two passes.
    let log = fs::read_to_string(place.path("run/log.jsonl")).expect("a log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let stages: Vec<(u64, u64)> = lines
        .iter()
        .map(|line| (line["step"].as_u64().expect("a step"), line["stage"].as_u64().expect("a stage")))
        .collect();
    assert_eq!(stages, [(0, 1), (2, 1), (4, 1), (6, 1), (8, 2), (10, 2), (12, 2), (14, 2), (15, 2)]);
    let results = json(&place.path("run/results.json"));
    assert!((0. ..=1.).contains(&results["scores"]["label threshold: PC-F1"].as_f64().expect("a score")));
    assert_eq!(results["claims"].as_array().map(Vec::len), Some(0));
    let page = fs::read_to_string(place.path("run/report.html")).expect("a report");
    for word in
        ["By label", "Thresholds", "Calibration of the count", "Images and labels", "<svg", "data:image/jpeg;base64,"]
    {
        assert!(page.contains(word), "{word}");
    }
    assert!(MULTILABEL.good(&["evaluate", "--run", &at]).contains("20 test items"));
    MULTILABEL.bad(&["evaluate", "--run", &at, "--data", &place.text("toy")], 1, &["--data", "classes"]);

    let out = place.text("x.safetensors");
    let images = place.text("data/images");
    let shown = MULTILABEL.good(&["embed", "--run", &at, "--images", &images, "--out", &out, "--decision", "count"]);
    assert!(shown.contains("labels of 60 images"), "{shown}");
    let found: std::collections::BTreeMap<_, _> =
        rankle::weights::read(Path::new(&out)).expect("readable").into_iter().collect();
    assert_eq!((found["scores"].size(), found["features"].size()), (vec![60, 10], vec![60, 128]));
    let counts = found["labels"].sum_dim_intlist(1, false, Kind::Int64);
    assert!(counts.ge(1).logical_and(&counts.le(4)).all().int64_value(&[]) == 1, "1 to 4 labels");
    let module = CModule::load(place.path("run/model.pt")).expect("loads");
    assert_eq!(module.forward_ts(&[crate::export::drawn(1, &[3, 3, 16, 16])]).expect("runs").size(), [3, 20]);
}

#[test]
fn features_are_learned_and_every_loss_and_head_trains() {
    let place = Place::new();
    let toy = place.text("toy");
    let more = [
        "--data",
        &toy,
        "--net",
        "mlp",
        "--hidden",
        "32",
        "--most",
        "3",
        "--epochs",
        "30",
        "--epochs2",
        "30",
        "--lr",
        "0.05",
        "--lr2",
        "0.05",
        "--dropout",
        "0",
    ];
    let shown = MULTILABEL.good(&strs(
        &place
            .args("reproduce", "toy-run", &[&more[..], &["--head-input", "concat"]].concat())
            .into_iter()
            .filter(|a| a != "--size" && a != "16")
            .collect::<Vec<_>>(),
    ));
    let scores = json(&place.path("toy-run/results.json"));
    let score = |name: &str| scores["scores"][name].as_f64().expect("a score");
    assert!(score("AP an image") > 0.95 && score("label threshold: PC-F1") > 0.85, "{shown}");
    assert!(score("oracle count: OV-P") >= score("label count: OV-P") - 0.05);
    let shown = MULTILABEL.good(&strs(&place.args(
        "study",
        "study",
        &["--data", &toy, "--net", "mlp", "--hidden", "8", "--most", "2", "--seeds", "1,2", "--head-input", "logits"],
    )));
    for word in
        ["softmax", "sigmoid", "bp-mll", "hinge", "warp", "lsep", "±", "best is", "0-1 exact in %", "study.json"]
    {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
    assert_eq!(json(&place.path("study/study.json"))["cells"].as_array().map(Vec::len), Some(12));
    assert!(place.path("study/lsep-2/report.html").exists() && place.path("study/report.html").exists());
    MULTILABEL.bad(&strs(&place.args("study", "s", &["--loss", "lsep"])), 1, &["--losses"]);
    MULTILABEL.bad(
        &[
            "embed",
            "--run",
            &place.text("toy-run"),
            "--images",
            &place.text("data/images"),
            "--out",
            &place.text("o.safetensors"),
        ],
        1,
        &["ready-made features"],
    );
    assert!(MULTILABEL.good(&["export", "--run", &place.text("toy-run")]).contains("[B, 6]"));
}

#[test]
fn a_run_killed_at_any_moment_ends_with_the_same_bytes() {
    let place = Place::new();
    let more = ["--epochs", "6", "--epochs2", "10", "--checkpoint-every", "3", "--pairs", "5"];
    MULTILABEL.good(&strs(&place.args("train", "unbroken", &more)));
    let broken = place.args("train", "broken", &more);
    let mut rng = rankle::seed::at(6, 1, 0);
    let mut kills = 0;
    for _ in 0..6 {
        let child = MULTILABEL.command(&strs(&broken)).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("starts");
        let checkpoint = place.path("broken/checkpoint.safetensors");
        for _ in 0..400 {
            if checkpoint.exists() || child.try_wait().expect("waits").is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(0..150)));
        kills += usize::from(child.try_wait().expect("waits").is_none());
        let _ = child.kill();
        let _ = child.wait();
    }
    assert!(kills > 0, "every attempt ended before it was killed");
    MULTILABEL.good(&strs(&broken));
    for file in ["checkpoint.safetensors", "log.jsonl"] {
        let bytes = |name: &str| fs::read(place.path(name).join(file)).expect("a file");
        assert!(bytes("unbroken") == bytes("broken"), "{file} differs");
    }
}

#[test]
fn bad_input_is_answered_in_one_line() {
    let place = Place::new();
    let train = |more: &[&str]| place.args("train", "run", more);
    let toy = place.text("toy");
    for (more, words) in [
        (&["--lr", "0"][..], &["--lr 0"][..]),
        (&["--margin", "-1"], &["--margin -1"]),
        (&["--dropout", "1"], &["--dropout 1"]),
        (&["--dev", "0.9"], &["--dev 0.9"]),
        (&["--pairs", "0"], &["--pairs 0"]),
        (&["--most", "11"], &["--most 11", "2 to 10"]),
        (&["--epochs", "0"], &["--epochs 0"]),
        (&["--batch", "1"], &["--batch 1"]),
        (&["--size", "8"], &["--size 8"]),
        (&["--net", "mlp"], &["--net mlp", "has images"]),
        (&["--data", &toy], &["ready-made features", "--net mlp"]),
        (&["--net", "vgg16"], &["--weights FILE", "scripts/fetch vgg16"]),
        (&["--net", "vgg16", "--weights", "none.pth", "--size", "32"], &["--weights", "none.pth"]),
        (&["--weights", "w.pth"], &["--weights"]),
        (&["--data", "data/VOC2007-gone"], &["no folder"]),
    ] {
        MULTILABEL.bad(&strs(&train(more)), 1, words);
    }
    MULTILABEL.bad(&strs(&train(&["--loss", "best"])), 2, &["--loss"]);
    assert!(!place.path("run").exists(), "a start that was refused leaves no folder");
    MULTILABEL.good(&strs(&train(&[])));
    MULTILABEL.bad(&strs(&train(&["--lr2", "0.5"])), 1, &["--lr2"]);
    MULTILABEL.bad(&["evaluate", "--run", &place.text("none")], 1, &["no run at"]);
    let bytes = fs::read(place.path("data/images/3.png")).expect("there");
    fs::write(place.path("data/images/3.png"), &bytes[..bytes.len() / 2]).expect("cut");
    MULTILABEL.bad(&strs(&place.args("train", "other", &[])), 1, &["1 of 60 images", "3.png"]);
    assert!(MULTILABEL.good(&["data", "--data", &place.text("data")]).contains("1 images cannot be used"));
}
