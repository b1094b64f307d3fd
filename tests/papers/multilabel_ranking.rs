//! The binary `multilabel-ranking` as a user meets it: all verbs, interruptions, and bad input answered in one line.

use std::fs;
use std::path::{Path, PathBuf};

use rand::Rng;
use rankle::datasets::drawn::Shapes;
use serde_json::Value;
use tch::{CModule, Kind};
use tempfile::TempDir;

use crate::common::{Program, json, strs};

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
        // Ready-made features have no pixels.
        let mlp = more.contains(&"mlp");
        for (flag, value) in usual.into_iter().filter(|(flag, _)| !(more.contains(flag) || (mlp && *flag == "--size")))
        {
            args.extend([flag.to_string(), value.to_string()]);
        }
        args.extend(more.iter().map(|word| word.to_string()));
        args
    }
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
        "chosen on 4 dev items, set aside from the training items of",
        "PC-F1",
        "AP an image",
        "Not comparable with the paper: its tables could not be read, and remembered numbers are not shown.",
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
    for word in [
        "By label",
        "Thresholds",
        "Calibration of the count",
        "Images and labels",
        "highest scores: ",
        "data:image/jpeg;base64,",
    ] {
        assert!(page.contains(word), "{word}");
    }
    // Losses of both stages, active terms, bars by label, two histograms, two calibrations.
    assert_eq!(page.matches("<svg").count(), 8);
    assert!(MULTILABEL.good(&["evaluate", "--run", &at]).contains("20 test items"));
    MULTILABEL.bad(
        &["evaluate", "--run", &at, "--data", &place.text("toy")],
        1,
        &["--data", "rows of 2 features where the run was trained on images"],
    );

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
    let shown =
        MULTILABEL.good(&strs(&place.args("reproduce", "toy-run", &[&more[..], &["--head-input", "concat"]].concat())));
    let scores = json(&place.path("toy-run/results.json"));
    let score = |name: &str| scores["scores"][name].as_f64().expect("a score");
    assert!(score("AP an image") > 0.95 && score("label threshold: PC-F1") > 0.85, "{shown}");
    assert!(score("oracle count: OV-P") >= score("label count: OV-P") - 0.05);
    let table = |more: &[&str]| {
        let small = ["--table", "losses", "--data", &toy, "--net", "mlp", "--hidden", "8", "--most", "2"];
        place.args("reproduce", "table", &[&small[..], more].concat())
    };
    let shown =
        MULTILABEL.good(&strs(&table(&["--seeds", "1,2", "--head-input", "logits", "--margin", "2", "--pairs", "7"])));
    for word in [
        "softmax",
        "sigmoid",
        "bp-mll",
        "hinge",
        "warp",
        "lsep",
        "±",
        "best is",
        "0-1 exact",
        "oracle count",
        "table.json",
    ] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
    assert!(place.path("table/lsep-2/report.html").exists() && place.path("table/report.html").exists());
    // Mean and spread of the raw scores.
    let cells = json(&place.path("table/table.json"))["cells"].as_array().expect("cells").clone();
    assert_eq!(cells.len(), 12);
    let raw = |seed: usize| cells[seed]["scores"]["label count: PC-F1"].as_f64().expect("a score");
    let (mean, spread) = ((raw(0) + raw(1)) / 2., (raw(0) - raw(1)).abs() / 2.);
    assert!(shown.contains(&format!("{:.2} ± {:.2}", 100. * mean, 100. * spread)), "{mean} {spread} {shown}");
    let flag = |cell: usize, flag: &str| cells[cell]["flags"][flag].as_f64().expect("a number");
    // Each loss has the flags that it looks at: hinge the margin, LSEP the pairs.
    assert_eq!((flag(6, "margin"), flag(10, "margin"), flag(6, "pairs"), flag(10, "pairs")), (2., 1., 1000., 7.));
    MULTILABEL.bad(
        &strs(&table(&["--only", "lsep,sigmoid", "--margin", "2"])),
        2,
        &["--margin has no effect here", "leave it out"],
    );
    MULTILABEL.bad(&strs(&table(&["--loss", "lsep"])), 2, &["--loss", "--only"]);
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
        &["ready-made features", "nothing to say of images"],
    );
    assert!(MULTILABEL.good(&["export", "--run", &place.text("toy-run")]).contains("[B, 6]"));
}

#[test]
fn bad_input_is_answered_in_one_line() {
    let place = Place::new();
    let train = |more: &[&str]| place.args("train", "run", more);
    let toy = place.text("toy");
    // What the command line says wrong, and what it cannot know.
    for (code, more, words) in [
        (2, &["--lr", "0"][..], &["--lr", "'0'", "above 0"][..]),
        (2, &["--loss", "warp", "--margin", "-1"], &["--margin", "'-1'"]),
        (2, &["--margin", "1"], &["--margin has no effect here: leave it out, or say --loss hinge, warp"]),
        (2, &["--loss", "hinge", "--pairs", "10"], &["--pairs has no effect here", "--loss lsep"]),
        (2, &["--hidden", "10"], &["--hidden has no effect here", "--net mlp"]),
        (2, &["--data", &toy, "--net", "mlp", "--size", "32"], &["--size has no effect here", "--net vgg16, small"]),
        (2, &["--data", &toy, "--net", "mlp", "--augment", "flip"], &["--augment has no effect here"]),
        (2, &["--dropout", "1"], &["--dropout", "'1'"]),
        (2, &["--dev", "0.9"], &["--dev", "'0.9'", "0 to 0.5"]),
        (2, &["--pairs", "0"], &["--pairs", "'0'"]),
        (2, &["--most", "11"], &["--most 11", "2 to 10"]),
        (2, &["--epochs", "0"], &["--epochs", "'0'"]),
        (2, &["--batch", "1"], &["--batch", "'1'"]),
        (2, &["--size", "8"], &["--size", "'8'"]),
        (2, &["--net", "mlp"], &["--net mlp", "has images"]),
        (1, &["--sync-batch-norm"], &["--sync-batch-norm", "one process only"]),
        (2, &["--data", &toy], &["ready-made features", "--net mlp"]),
        (2, &["--net", "vgg16"], &["--weights FILE", "scripts/fetch vgg16"]),
        (2, &["--net", "vgg16", "--weights", "none", "--size", "24"], &["--size 24", "32 to 1024"]),
        (1, &["--net", "vgg16", "--weights", "none.pth", "--size", "32"], &["--weights", "none.pth"]),
        (2, &["--weights", "w.pth"], &["--weights has no effect here"]),
        (1, &["--data", "data/VOC2007-gone"], &["no folder"]),
    ] {
        MULTILABEL.bad(&strs(&train(more)), code, words);
    }
    MULTILABEL.bad(&strs(&train(&["--loss", "best"])), 2, &["--loss"]);
    assert!(!place.path("run").exists(), "a start that was refused leaves no folder");
    MULTILABEL.good(&strs(&train(&[])));
    MULTILABEL.bad(&strs(&train(&["--lr2", "0.5"])), 1, &["--lr2"]);
    MULTILABEL.bad(&["evaluate", "--run", &place.text("none")], 1, &["no run at"]);
    let bytes = fs::read(place.path("data/images/3.png")).expect("there");
    fs::write(place.path("data/images/3.png"), &bytes[..bytes.len() / 2]).expect("cut");
    MULTILABEL.bad(&strs(&place.args("train", "other", &[])), 1, &["1 of 60 images", "3.png"]);
    assert!(MULTILABEL.good(&["data", "--data", &place.text("data")]).contains("cannot use 1 images"));
}

#[test]
fn a_set_that_is_not_the_runs_is_refused_and_so_is_one_that_changed() {
    let place = Place::new();
    let at = place.text("run");
    MULTILABEL.good(&strs(&place.args("train", "run", &["--epochs", "1", "--epochs2", "1"])));
    // The same images under another name for one class; and with its classes in another order.
    let list = fs::read_to_string(place.path("data/labels.csv")).expect("a list");
    fs::create_dir_all(place.path("renamed")).expect("made");
    std::os::unix::fs::symlink(place.path("data/images"), place.path("renamed/images")).expect("linked");
    let renamed = place.text("renamed");
    fs::write(place.path("renamed/labels.csv"), list.replace("disc", "dish")).expect("written");
    let evaluate = ["evaluate", "--run", &at, "--data", &renamed];
    MULTILABEL.bad(&evaluate, 1, &["--data", "class 4 is \"dish\" where the run was trained on \"disc\""]);
    fs::write(place.path("renamed/labels.csv"), list.replace("disc", "zero")).expect("written");
    MULTILABEL.bad(&evaluate, 1, &["class 4 is \"dotted\" where the run was trained on \"disc\""]);
    fs::write(place.path("renamed/labels.csv"), list.replace(";disc", "").replace("disc;", "").replace("disc", "grid"))
        .expect("written");
    MULTILABEL.bad(&evaluate, 1, &["9 classes where the run was trained on 10"]);
    fs::write(place.path("renamed/labels.csv"), &list).expect("written");
    assert!(MULTILABEL.good(&evaluate).contains("20 test items"));
    assert!(place.path("run/on-renamed/results.json").exists());
    // The run's own set, changed since.
    fs::write(place.path("data/labels.csv"), list.replace("ring", "rong")).expect("written");
    MULTILABEL.bad(&["evaluate", "--run", &at], 1, &["has changed since", "was trained", "\"rong\""]);
    MULTILABEL.bad(
        &strs(&place.args("train", "run", &["--epochs", "1", "--epochs2", "1"])),
        1,
        &["the data of", "are not what this run was started with"],
    );
    // What a run says of images needs no set at all.
    fs::remove_file(place.path("data/labels.csv")).expect("removed");
    let out = place.text("x.safetensors");
    MULTILABEL.good(&["embed", "--run", &at, "--images", &place.text("data/images"), "--out", &out]);
    MULTILABEL.good(&["export", "--run", &at]);

    // Rows of another width.
    let toy = place.text("toy");
    let more = ["--data", &toy, "--net", "mlp", "--most", "2", "--epochs", "1", "--epochs2", "1"];
    MULTILABEL.good(&strs(&place.args("train", "toy-run", &more)));
    for part in ["train", "test"] {
        let text = fs::read_to_string(place.path(&format!("toy-{part}.arff"))).expect("there");
        let (head, rows) = text.split_once("@data\n").expect("data");
        let head = head.replace("@attribute up", "@attribute c numeric\n@attribute up");
        let rows: String = rows
            .lines()
            .map(|row| format!("{}\n", row.splitn(3, ',').collect::<Vec<_>>().join(",").replacen(',', ",0,", 1)))
            .collect();
        fs::write(place.path(&format!("wide-{part}.arff")), format!("{head}@data\n{rows}")).expect("written");
    }
    fs::copy(place.path("toy.xml"), place.path("wide.xml")).expect("copied");
    MULTILABEL.bad(
        &["evaluate", "--run", &place.text("toy-run"), "--data", &place.text("wide")],
        1,
        &["rows of 3 features where the run was trained on rows of 2 features"],
    );
    assert!(
        MULTILABEL
            .good(&["evaluate", "--run", &place.text("toy-run"), "--data", &place.text("toy/")])
            .contains("test items")
    );
}

#[test]
fn without_dev_items_the_rivals_are_chosen_on_the_training_items_and_an_odd_batch_of_two_trains() {
    let place = Place::new();
    // 35 images in batches of two: one of the seventeen has three.
    let more = ["--dev", "0.125", "--batch", "2", "--epochs", "1", "--epochs2", "1", "--log-every", "1"];
    MULTILABEL.good(&strs(&place.args("train", "odd", &more)));
    let log = fs::read_to_string(place.path("odd/log.jsonl")).expect("a log");
    assert_eq!(log.lines().count(), 34);
    let terms: Vec<u64> = log
        .lines()
        .take(17)
        .filter_map(|line| serde_json::from_str::<Value>(line).expect("JSON")["terms"].as_u64())
        .collect();
    assert_eq!((terms.iter().sum::<u64>(), terms.iter().min().copied()), (35, Some(2)));
    let more = ["--dev", "0", "--epochs", "1", "--epochs2", "1"];
    let shown = MULTILABEL.good(&strs(&place.args("reproduce", "none", &more)));
    assert!(shown.contains("chosen on the 40 training items themselves (none are set aside: optimistic)"), "{shown}");
    assert!(!shown.contains("dev items"), "{shown}");
    let results = fs::read_to_string(place.path("none/results.json")).expect("results");
    assert!(results.contains("k and the one threshold of the rivals are chosen on what was trained on"));
}

#[test]
fn voc_is_scored_by_its_own_rule_under_its_own_name() {
    let place = Place::new();
    let shapes = Shapes { side: 24, ..Shapes::default() };
    let classes = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"];
    let (mut train, mut test) = (String::new(), String::new());
    for folder in ["JPEGImages", "Annotations", "ImageSets/Main"] {
        fs::create_dir_all(place.path("voc").join(folder)).expect("made");
    }
    for number in 0..30 {
        let (image, labels) = shapes.draw(number);
        let id = format!("{number:06}");
        image.save(place.path(&format!("voc/JPEGImages/{id}.jpg"))).expect("saved");
        let objects: String = labels
            .iter()
            .enumerate()
            .map(|(i, &class)| {
                let difficult = u8::from(i > 0 && number % 3 == 0);
                format!("<object><name>{}</name><difficult>{difficult}</difficult></object>", classes[class as usize])
            })
            .collect();
        fs::write(place.path(&format!("voc/Annotations/{id}.xml")), format!("<annotation>{objects}</annotation>"))
            .expect("written");
        if number < 20 { train.push_str(&format!("{id}\n")) } else { test.push_str(&format!("{id}\n")) }
    }
    fs::write(place.path("voc/ImageSets/Main/trainval.txt"), train).expect("written");
    fs::write(place.path("voc/ImageSets/Main/test.txt"), test).expect("written");
    let voc = place.text("voc");
    let shown = MULTILABEL.good(&strs(&place.args(
        "reproduce",
        "voc-run",
        &["--data", &voc, "--epochs", "1", "--epochs2", "1"],
    )));
    let results = json(&place.path("voc-run/results.json"));
    let score = |name: &str| results["scores"][name].as_f64().expect("a score");
    let eleven = score("class mAP (VOC2007: 11 points, difficult ignored)");
    assert!(eleven > 0. && eleven != score("class mAP (step, difficult ignored)") && score("class mAP (step)") > 0.);
    assert!(shown.contains("class mAP (VOC2007): the mean of the highest precisions"), "{shown}");
    // Other sets have no such score.
    MULTILABEL.good(&strs(&place.args("reproduce", "plain", &["--epochs", "1", "--epochs2", "1"])));
    assert!(!fs::read_to_string(place.path("plain/results.json")).expect("results").contains("VOC"));
}

/// The losses of a log, both stages.
#[cfg(feature = "distributed")]
fn losses(path: &Path) -> Vec<f64> {
    let log = fs::read_to_string(path).expect("a log");
    let loss = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["loss"].as_f64().expect("a loss");
    log.lines().map(loss).collect()
}

#[cfg(feature = "distributed")]
#[test]
fn two_processes_take_the_steps_of_one() {
    let place = Place::new();
    let toy = place.text("toy");
    // Both with dropout, which is drawn for the whole batch, and with sampled pairs.
    for (loss, seed) in [("lsep", "1"), ("softmax", "2")] {
        let more = [
            "--data",
            &toy,
            "--net",
            "mlp",
            "--hidden",
            "16",
            "--most",
            "2",
            "--loss",
            loss,
            "--seed",
            seed,
            "--batch",
            "33",
            "--log-every",
            "1",
            "--device",
            "cpu",
        ];
        let (one, two) = (format!("one-{loss}"), format!("two-{loss}"));
        MULTILABEL.good(&strs(&place.args("train", &one, &more)));
        together(&strs(&place.args("train", &two, &more)));
        let (ours, theirs) =
            (losses(&place.path(&format!("{two}/log.jsonl"))), losses(&place.path(&format!("{one}/log.jsonl"))));
        assert_eq!(ours.len(), theirs.len());
        for (step, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.), "{loss}, step {step}: {a} is not {b}");
        }
        let said = together(&["evaluate", "--run", &place.text(&two), "--device", "cpu"]);
        MULTILABEL.good(&["evaluate", "--run", &place.text(&one), "--device", "cpu"]);
        assert!(said[0].contains("test items") && said[1].is_empty(), "{said:?}");
        let score = |run: &str| json(&place.path(run).join("results.json"))["scores"]["AP an image"].as_f64();
        assert!((score(&one).expect("a score") - score(&two).expect("a score")).abs() < 0.01);
    }
    // A network whose batch normalisation would see one image.
    let more = ["--batch", "3", "--device", "cpu"];
    let errors = pair(&strs(&place.args("train", "few", &more)));
    assert!(errors.iter().all(|(well, _, _)| !well), "{errors:?}");
    assert!(errors[0].2.contains("--batch 3") && errors[0].2.contains("--sync-batch-norm"), "{}", errors[0].2);
    let more = ["--batch", "3", "--device", "cpu", "--sync-batch-norm", "--epochs", "1", "--epochs2", "1"];
    together(&strs(&place.args("train", "synchronised", &more)));
    for more in [&[][..], &["--table", "losses"]] {
        let output = MULTILABEL
            .command(&[&["reproduce", "--data", &toy, "--net", "mlp"], more].concat())
            .env("WORLD_SIZE", "2")
            .env("RANK", "0")
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", "1")
            .output()
            .expect("starts");
        assert!(String::from_utf8_lossy(&output.stderr).contains("this verb takes one process"));
    }
}

/// How two processes at one run ended: whether well, what each printed and what each said.
#[cfg(feature = "distributed")]
fn pair(args: &[&str]) -> Vec<(bool, String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_string();
    let outputs = crate::collectives::launch::Processes::start(2, |_| MULTILABEL.command(args)).end();
    outputs.iter().map(|end| (end.status.success(), text(&end.stdout), text(&end.stderr))).collect()
}

/// What two processes print that end well.
#[cfg(feature = "distributed")]
fn together(args: &[&str]) -> Vec<String> {
    let ends = pair(args);
    assert!(ends.iter().all(|(well, _, _)| *well), "{args:?}: {ends:?}");
    ends.into_iter().map(|(_, printed, _)| printed).collect()
}
