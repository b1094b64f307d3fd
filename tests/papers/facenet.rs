//! What only facenet has: face sets, variants, published weights, folds without outside data, Tables 3 to 5, baselines.

use std::fs;
use std::path::{Path, PathBuf};

use image::RgbImage;
use rankle::datasets::drawn::face;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Program, json, strs};

const FACENET: Program = Program(env!("CARGO_BIN_EXE_facenet"));

/// The smallest training there is.
const SMALL: [&str; 22] = [
    "--net",
    "small",
    "--size",
    "16",
    "--shrink",
    "8",
    "--width",
    "16",
    "--people",
    "4",
    "--faces",
    "3",
    "--negatives",
    "2",
    "--chunk",
    "5",
    "--steps",
    "8",
    "--log-every",
    "2",
    "--lr",
    "0.01",
];

struct Place {
    dir: TempDir,
}

/// Drawn faces of people `range`, `shots` each, in LFW's grammar.
fn people(at: &Path, range: std::ops::Range<u64>, shots: u64) {
    for person in range {
        let name = format!("P{person:02}");
        fs::create_dir_all(at.join(&name)).expect("folder");
        for shot in 0..shots {
            let file = at.join(&name).join(format!("{name}_{:04}.png", shot + 1));
            face(3, person, shot, 20).save(file).expect("saved");
        }
    }
}

/// Three folds of two people each, 3 + 3 pairs a fold.
fn pairs(first: u64) -> String {
    let mut text = "3\t3\n".to_string();
    for fold in 0..3 {
        let (a, b) = (format!("P{:02}", first + 2 * fold), format!("P{:02}", first + 2 * fold + 1));
        for (i, j) in [(1, 2), (2, 3), (1, 3)] {
            text.push_str(&format!("{a}\t{i}\t{j}\n"));
        }
        for (i, j) in [(1, 2), (2, 3), (3, 1)] {
            text.push_str(&format!("{a}\t{i}\t{b}\t{j}\n"));
        }
    }
    text
}

impl Place {
    fn new() -> Place {
        let place = Place { dir: TempDir::new().expect("a temporary folder") };
        people(&place.path("data/train"), 1..7, 4);
        people(&place.path("data/test"), 10..16, 3);
        fs::write(place.path("data/pairs.txt"), pairs(10)).expect("written");
        people(&place.path("lfw/lfw"), 20..26, 3);
        fs::write(place.path("lfw/pairs.txt"), pairs(20)).expect("written");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().to_string()
    }

    /// `verb` on this place's data into run `name`, with more flags.
    fn args(&self, verb: &str, name: &str, more: &[&str]) -> Vec<String> {
        let mut args: Vec<String> = [verb, "--run", &self.text(name)].map(String::from).to_vec();
        if !more.contains(&"--data") {
            args.extend(["--data".to_string(), self.text("data")]);
        }
        // A flag given again in `more` replaces SMALL's: clap takes no flag twice.
        let pairs = SMALL.chunks(2).filter(|pair| !more.contains(&pair[0]));
        args.extend(pairs.flatten().map(|word| word.to_string()));
        args.extend(more.iter().map(|word| word.to_string()));
        args
    }
}

#[test]
fn all_verbs_from_training_to_export() {
    let place = Place::new();
    let at = place.text("run");
    let card = FACENET.good(&["data", "--data", &place.text("data"), "--out", &place.text("card.json")]);
    assert!(
        card.contains("18 pairs in 3 folds: 9 of one person, 9 of two") && card.contains("every image can be read")
    );
    assert_eq!(json(&place.path("card.json"))["splits"][0]["identities"], 6);
    FACENET.good(&strs(&place.args("train", "run", &[])));
    let log = fs::read_to_string(place.path("run/log.jsonl")).expect("a log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.iter().map(|line| line["step"].as_u64().expect("a step")).collect::<Vec<_>>(), [0, 2, 4, 6, 7]);
    let rates: Vec<f64> = lines.iter().map(|line| line["lr"].as_f64().expect("a rate")).collect();
    assert_eq!(rates[0], 0.01);
    assert!((rates[4] - 0.0001).abs() < 1e-12, "both drops are behind: {rates:?}");

    let shown = FACENET.good(&["evaluate", "--run", &at, "--enrolled", "1,2", "--neighbours", "1"]);
    for word in [
        "accuracy",
        "AUC",
        "EER",
        "VAL at FAR 0.001",
        "16 bytes a face",
        "recognition, 2 enrolled, k = 1",
        "k-means",
        "Not comparable with the paper: data is not a test set",
    ] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
    let results = json(&place.path("run/results.json"));
    assert!((0. ..=1.).contains(&results["scores"]["accuracy"].as_f64().expect("a score")));
    assert_eq!(results["comparable"], false);
    assert!(results["claims"].as_array().expect("claims").iter().all(|claim| claim["ours"].is_null()));
    let page = fs::read_to_string(place.path("run/report.html")).expect("a report");
    for word in ["ROC", "False accepts", "Clusters", "<svg", "data:image/jpeg;base64,"] {
        assert!(page.contains(word), "{word}");
    }
    assert!(FACENET.good(&["evaluate", "--run", &at, "--untrained"]).contains("after 0 steps"));
    for variant in ["flip-averaged", "mean-subtracted", "flip-mean-subtracted"] {
        let shown = FACENET.good(&["evaluate", "--run", &at, "--variant", variant]);
        assert!(
            shown.contains(&format!("variant {variant}"))
                && shown.contains("mirror image") == variant.contains("flip")
                && shown.contains("mean of all test faces") == variant.contains("mean"),
            "{shown}"
        );
    }
    let departures = json(&place.path("run/results.json"))["departures"].to_string();
    for said in [
        "--people 4 (Section 3.2: 45)",
        "--faces 3 (Section 3.2: 40)",
        "--width 16 (Section 5.4, Table 5: 128)",
        "--net: not a network of the paper",
        "--lr 0.01 (Section 3.3: 0.05)",
        "--shrink 8 (the paper: 1)",
    ] {
        assert!(departures.contains(said), "{said:?} is not in {departures}");
    }
    assert!(
        !departures.contains("local response") && !departures.contains("--crop") && !departures.contains("--chunk")
    );
    // Another test set: of another folder, without pairs.
    people(&place.path("tree"), 30..38, 3);
    let shown = FACENET.good(&["evaluate", "--run", &at, "--data", &place.text("tree"), "--crop", "0.9"]);
    assert!(shown.contains("all pairs VAL at FAR 0.001") && !shown.contains("accuracy SEM"), "{shown}");
    assert!(shown.contains("among 24 test images"), "all eight people are tested: {shown}");
    assert!(place.path("run/on-tree-crop0.9/results.json").exists());
    assert_eq!(json(&place.path("run/results.json"))["data"], "data", "the run keeps its own scores");
    let baselines = FACENET.good(&["evaluate", "--baselines", "--data", &place.text("lfw")]);
    assert!(baselines.contains("raw pixels") && baselines.contains("eigenfaces, whitened"));

    let out = place.text("out.safetensors");
    let images = place.text("data/test");
    assert!(
        FACENET
            .good(&["embed", "--run", &at, "--images", &images, "--out", &out, "--flip"])
            .contains("18 embeddings of width 16")
    );
    let embedded = rankle::weights::read(Path::new(&out)).expect("readable");
    let length = embedded[0].1.square().sum_dim_intlist(1, false, tch::Kind::Double).sqrt();
    assert!((length - 1.).abs().max().double_value(&[]) < 1e-5, "unit rows");
    assert!(FACENET.good(&["export", "--run", &at]).contains("model.pt"));
}

#[test]
fn reproduce_ends_with_the_baselines_beside_the_network() {
    let place = Place::new();
    let shown = FACENET.good(&strs(&place.args("reproduce", "run", &["--test", &place.text("lfw")])));
    for word in
        ["raw pixels", "eigenfaces, whitened", "small, untrained", "small, trained", "model.pt", "tested on lfw"]
    {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
}

#[test]
fn without_outside_data_every_fold_has_a_network_of_its_own() {
    let place = Place::new();
    let lfw = place.text("lfw");
    let more =
        ["--protocol", "lfw-no-outside-data", "--data", &lfw, "--folds", "1,3", "--people", "2", "--negatives", "0"];
    let args = place.args("reproduce", "run", &more);
    let shown = FACENET.good(&strs(&args));
    assert!(shown.contains("2 of 3 folds") && shown.contains("raw pixels"), "{shown}");
    let results = json(&place.path("run/results.json"));
    assert!(
        results["scores"]["accuracy SEM"].is_number() && results["protocol"].to_string().contains("no outside data")
    );
    assert!(results["not_comparable_because"].as_str().expect("why").contains("has no number for this protocol"));
    assert!(shown.contains("fold-01 ┆ 2 / 6") && shown.contains("fold-03"), "{shown}");
    assert!(FACENET.good(&strs(&args)).contains("2 of 3 folds"), "a second start scores what is trained");
    // The run of a fold is scored by the protocol, not alone.
    FACENET.bad(&["evaluate", "--run", &place.text("run/fold-01")], 1, &["fold-01", "the folder above it"]);
    assert!(FACENET.good(&["evaluate", "--run", &place.text("run")]).contains("2 of 3 folds"));
    FACENET.bad(&["evaluate", "--run", &place.text("run"), "--data", "drawn"], 1, &["--protocol"]);
    FACENET.bad(&["evaluate", "--run", &place.text("run"), "--variant", "mean-subtracted"], 2, &["--variant"]);
    // Somebody in two folds.
    let list = pairs(20).replace("P24\t1\t2\n", "P20\t1\t2\n");
    fs::write(place.path("lfw/pairs.txt"), list).expect("written");
    FACENET.bad(&strs(&place.args("reproduce", "other", &more)), 1, &["P20 is in more than one fold"]);
    FACENET.bad(
        &strs(&place.args(
            "reproduce",
            "other",
            &["--protocol", "lfw-no-outside-data", "--data", &lfw, "--folds", "4"],
        )),
        1,
        &["--folds 4", "1 to 3"],
    );
}

#[test]
fn tables_stand_beside_the_papers() {
    let place = Place::new();
    let few = ["--steps", "2", "--people", "3"];
    let shown = FACENET.good(&strs(&place.args("reproduce", "t4", &[&["--table", "4"][..], &few].concat())));
    assert!(shown.contains("JPEG quality 10") && shown.contains("67.3") && shown.contains("25600 pixels (160x160)"));
    assert_eq!(json(&place.path("t4/table.json"))["cells"].as_array().map(Vec::len), Some(11));
    assert_eq!(fs::read_dir(place.path("t4")).expect("a folder").flatten().filter(|e| e.path().is_dir()).count(), 1);
    let mut args = place.args("reproduce", "t5", &[&["--table", "5"][..], &few].concat());
    let width = args.iter().position(|arg| arg == "--width").expect("a width");
    args.drain(width..width + 2);
    let shown = FACENET.good(&strs(&args));
    assert!(shown.contains("86.8") && shown.contains("512") && shown.contains("the paper"), "{shown}");
    assert!(place.path("t5/512-1/results.json").exists());
    FACENET.bad(&strs(&place.args("reproduce", "t3", &["--table", "3"])), 2, &["--table 3 goes through --"]);
    assert!(!place.path("t3").exists());
}

#[test]
fn published_weights_are_loaded_whole_or_not_at_all() {
    let place = Place::new();
    // As facenet-pytorch's files: every tensor by its name, counters, and a classifier that is no part of this.
    let store = tch::nn::VarStore::new(tch::Device::Cpu);
    let at = rankle::models::layers::Scope::root(&store, 77);
    rankle::models::inception::Nn4Small2::new(&at, 96, 128, 1, true).expect("fits");
    let mut all: Vec<(String, tch::Tensor)> = store.variables().into_iter().collect();
    all.push(("logits.weight".into(), tch::Tensor::zeros([10, 128], (tch::Kind::Float, tch::Device::Cpu))));
    all.push(("bn1.num_batches_tracked".into(), tch::Tensor::from(5_i64)));
    let file = place.text("nn4.small2.v1.safetensors");
    rankle::weights::save(Path::new(&file), &all, None).expect("saved");
    let data = place.text("data");
    let train = |run: &str, weights: &str| -> Vec<String> {
        let run = place.text(run);
        [
            "train",
            "--data",
            &data,
            "--run",
            &run,
            "--net",
            "nn4-small2-released",
            "--weights",
            weights,
            "--people",
            "2",
            "--faces",
            "2",
            "--steps",
            "1",
        ]
        .map(String::from)
        .to_vec()
    };
    let output = FACENET.command(&strs(&train("whole", &file))).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(
        output.status.success() && said.contains("1 left out by name") && said.contains("1 counters ignored"),
        "{said}"
    );
    all.retain(|(name, _)| name != "ln.bias");
    rankle::weights::save(Path::new(&file), &all, None).expect("saved");
    FACENET.bad(&strs(&train("part", &file)), 1, &["--weights", "lacks ln.bias"]);
    FACENET.bad(&strs(&train("none", &place.text("none.pt"))), 1, &["--weights", "none.pt"]);
    assert!(!place.path("part").exists() && !place.path("none").exists());
}

#[test]
fn bad_input_is_answered_in_one_line() {
    let place = Place::new();
    let train = |more: &[&str]| place.args("train", "run", more);
    FACENET.bad(&strs(&train(&["--people", "9"])), 1, &["6 people", "--people 6"]);
    FACENET.bad(&strs(&train(&["--margin", "-1"])), 2, &["--margin"]);
    FACENET.bad(&strs(&train(&["--margin", "nan"])), 2, &["--margin"]);
    FACENET.bad(&strs(&train(&["--chunk", "1"])), 2, &["--chunk"]);
    FACENET.bad(&strs(&train(&["--crop", "0"])), 2, &["--crop"]);
    FACENET.bad(&strs(&train(&["--drops", "5,3"])), 2, &["--drops"]);
    FACENET.bad(&strs(&train(&["--min-images", "9"])), 1, &["--min-images"]);
    FACENET.bad(&strs(&train(&["--mining", "best"])), 2, &["--mining"]);
    FACENET.bad(&strs(&train(&["--weights", "w.pt"])), 2, &["--weights", "--shrink"]);
    FACENET.bad(&strs(&train(&["--exclude", &place.text("none.txt")])), 1, &["none.txt"]);
    FACENET.bad(
        &strs(&train(&["--data", &place.text("lfw")])),
        1,
        &["no training faces", "--protocol lfw-no-outside-data"],
    );
    FACENET.bad(&["train", "--data", &place.text("nowhere")], 1, &["nowhere"]);
    FACENET.bad(&["evaluate", "--run", &place.text("nowhere")], 1, &["no run at"]);
    FACENET.bad(&["evaluate"], 2, &["required"]);
    FACENET.bad(&["evaluate", "--baselines"], 2, &["required"]);
    FACENET.bad(&strs(&train(&["--test", "lfw", "--protocol", "lfw-no-outside-data"])), 2, &["--test", "leave it out"]);
    FACENET.bad(&["evaluate", "--baselines", "--data", &place.text("data/train")], 1, &["no list of pairs"]);
    assert!(!place.path("run").exists(), "a refused start leaves nothing");
    // An image that the list names is gone; one is no face crop; one is truncated.
    fs::remove_file(place.path("data/test/P10/P10_0002.png")).expect("removed");
    FACENET.bad(&strs(&train(&[])), 1, &["pairs.txt:2", "P10_0002"]);
    RgbImage::new(60, 20).save(place.path("data/test/P10/P10_0002.png")).expect("saved");
    FACENET.bad(&strs(&train(&[])), 1, &["P10_0002.png", "60 x 20", "no face crop"]);
    let whole = fs::read(place.path("data/test/P10/P10_0001.png")).expect("an image");
    fs::write(place.path("data/test/P10/P10_0002.png"), &whole[..whole.len() / 2]).expect("written");
    FACENET.bad(&strs(&train(&[])), 1, &["P10_0002.png", "truncated"]);
    fs::write(place.path("data/test/P10/P10_0002.png"), whole).expect("written");
    // Every person with one image.
    people(&place.path("single/train"), 1..4, 1);
    people(&place.path("single/test"), 5..7, 1);
    FACENET.bad(&strs(&train(&["--data", &place.text("single")])), 1, &["with one image"]);
    // A run of other flags, and of another paper.
    FACENET.good(&strs(&train(&[])));
    FACENET.bad(&strs(&train(&["--margin", "0.3"])), 1, &["--margin (was 0.2, now 0.3)"]);
    let config = fs::read_to_string(place.path("run/config.json")).expect("a config");
    fs::write(place.path("run/config.json"), config.replace("\"facenet\"", "\"triplet-reid\"")).expect("written");
    FACENET.bad(&["evaluate", "--run", &place.text("run")], 1, &["is a run of triplet-reid"]);
}
