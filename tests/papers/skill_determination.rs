//! The binary `skill-determination` as a user meets it: all verbs, interruptions, and bad input answered in one line.

use std::fs;
use std::path::{Path, PathBuf};

use tch::CModule;
use tempfile::TempDir;

use crate::common::{Program, json, strs};

const SKILL: Program = Program(env!("CARGO_BIN_EXE_skill-determination"));

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: TempDir::new().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().to_string()
    }

    /// `verb` on drawn hands into run `name`: the smallest training there is, with more flags.
    fn args(&self, verb: &str, name: &str, more: &[&str]) -> Vec<String> {
        let mut args: Vec<String> = [verb, "--run", &self.text(name)].map(String::from).to_vec();
        let usual = [
            ("--data", "drawn"),
            ("--net", "small"),
            ("--folds", "1"),
            ("--batch", "4"),
            ("--steps-spatial", "3"),
            ("--steps-temporal", "2"),
            ("--side", "32"),
            ("--log-every", "1"),
        ];
        // A flag of a stream that is not trained is refused.
        let idle = |flag: &str| {
            let streams = more.iter().position(|word| *word == "--streams").map_or("", |at| more[at + 1]);
            let features = more.contains(&"features");
            (streams == "spatial" && flag == "--steps-temporal")
                || (streams == "temporal" && flag == "--steps-spatial")
                || (features && flag == "--side")
        };
        for (flag, value) in usual.into_iter().filter(|(flag, _)| !more.contains(flag) && !idle(flag)) {
            args.extend([flag.to_string(), value.to_string()]);
        }
        args.extend(more.iter().map(|word| word.to_string()));
        args
    }

    /// Videos as folders of pictures, `count` of them, with `frames` each.
    fn videos(&self, name: &str, count: usize, frames: u8) {
        for video in 0..count {
            let folder = self.path(name).join(format!("video{video}"));
            fs::create_dir_all(&folder).expect("made");
            for frame in 0..frames {
                let image = image::RgbImage::from_fn(60, 48, |x, y| {
                    image::Rgb([(x * 4) as u8 ^ frame, (y * 5) as u8, (40 * video) as u8 + frame])
                });
                image.save(folder.join(format!("img_{frame:05}.png"))).expect("saved");
            }
        }
    }
}

#[test]
fn all_verbs_from_training_to_export() {
    let place = Place::new();
    let at = place.text("run");
    let card = SKILL.good(&["data", "--data", "drawn", "--out", &place.text("card.json")]);
    assert!(card.contains("test pairs by separation") && json(&place.path("card.json")).is_object());
    let shown = SKILL.good(&strs(&place.args("reproduce", "run", &[])));
    let words = ["spatial", "temporal", "fused", "Not comparable", "Fig. 4", "Fig. 5", "Fig. 6", "from the end"];
    for word in words.into_iter().chain(["separation", "model-spatial.pt", "model-temporal.pt"]) {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
    let results = json(&place.path("run/results.json"));
    assert!((0. ..=1.).contains(&results["scores"]["fused"].as_f64().expect("a score")));
    let claims = results["claims"].as_array().expect("claims");
    assert!(claims.iter().all(|claim| claim["ours"].is_null()));
    for place in
        ["Table 2", "Table 2 of the first version", "Fig. 4 (its curve)", "Fig. 5 (its curve)", "Fig. 6 (its bars)"]
    {
        assert!(claims.iter().any(|claim| claim["place"] == place), "{place}");
    }
    for point in ["fused, alpha 0", "fused, alpha 0.4", "fused, snippets at random: 10", "fused, separation 1"] {
        assert!(results["scores"][point].is_f64(), "{point}");
    }
    assert_eq!(results["scores"]["fused, alpha 1"], results["scores"]["spatial"]);
    let page = fs::read_to_string(place.path("run/report.html")).expect("a report");
    // Every video's score over time.
    assert_eq!(page.matches("aria-label=").count(), 8, "those that fold 1 holds out");
    for word in
        ["Ranking: Drawn", "Score over time", "Graph of pairs", "Errors by separation", "Fig. 5", "<svg", "data:image/"]
    {
        assert!(page.contains(word), "{word}");
    }
    let log = fs::read_to_string(place.path("run/fold-1-spatial/log.jsonl")).expect("a log");
    assert_eq!(log.lines().count(), 3);

    // A second start trains nothing; evaluation of one stream alone is that stream's.
    assert!(SKILL.good(&strs(&place.args("train", "run", &[]))).contains("next: skill-determination evaluate"));
    let alone = SKILL.good(&["evaluate", "--run", &at, "--alpha", "1"]);
    let row =
        |name: &str| alone.lines().find(|line| line.contains(name)).map(|line| line.replace(name, "")).expect("a row");
    assert_eq!(row("│ fused  ").split_whitespace().last(), row("│ spatial").split_whitespace().last());
    // Other data (the same hands here) and the networks before training have folders of their own.
    let before = fs::read(place.path("run/results.json")).expect("a file");
    SKILL.good(&["evaluate", "--run", &at, "--data", "drawn", "--untrained", "--sigma", "2"]);
    assert!(place.path("run/on-drawn/untrained/report.html").exists());
    assert_eq!(fs::read(place.path("run/results.json")).expect("a file"), before);

    // Who's best: hands that nobody saw, and a folder of videos.
    let shown = SKILL.good(&["rank", "--run", &at, "--videos", "drawn", "--out", &place.text("ranking.json")]);
    assert!(shown.contains("split 7"));
    let ranking = json(&place.path("ranking.json"));
    let scores: Vec<f64> =
        ranking.as_array().expect("a list").iter().map(|row| row["score"].as_f64().expect("a score")).collect();
    assert!(scores.len() == 32 && scores.windows(2).all(|pair| pair[0] >= pair[1]));
    place.videos("films", 3, 8);
    SKILL.bad(
        &["rank", "--run", &at, "--videos", &place.text("films")],
        1,
        &["has no optical flow", "skill-determination flow"],
    );
    SKILL.good(&["flow", "--videos", &place.text("films")]);
    assert!(place.path("films/flow/video2/flow_y_00007.jpg").exists());
    let shown = SKILL.good(&["rank", "--run", &at, "--videos", &place.text("films"), "--sigma", "3"]);
    assert!(shown.contains("video0") && shown.contains("video2"), "{shown}");
    let out = place.text("scores.safetensors");
    SKILL.good(&["embed", "--run", &at, "--videos", &place.text("films"), "--out", &out, "--sigma", "5"]);
    let found = rankle::weights::read(Path::new(&out)).expect("readable");
    assert!(found.len() == 2 && found.iter().all(|(_, x)| x.size() == [3, 5]));

    let module = CModule::load(place.path("run/model-temporal.pt")).expect("loads");
    let snippets = crate::export::drawn(3, &[4, 10, 32, 32]) * 100. + 128.;
    let scores = module.forward_ts(&[&snippets]).expect("runs");
    assert_eq!(scores.size(), [4, 1]);
    // Python scores the same snippets alike.
    let Some(python) = crate::export::python() else { return };
    let tensors = [("snippets".to_string(), snippets)];
    rankle::weights::save(&place.path("snippets.safetensors"), &tensors, None).expect("saved");
    let script = "import sys, torch
from torch import frombuffer
raw = open(sys.argv[2], 'rb').read()
x = frombuffer(bytearray(raw[-4 * 4 * 10 * 32 * 32:]), dtype=torch.float32).view(4, 10, 32, 32)
module = torch.jit.load(sys.argv[1])
assert any('conv1' in name for name, _ in module.named_parameters())
print(*module(x).flatten().tolist())";
    let run = std::process::Command::new(python)
        .args(["-c", script, &place.text("run/model-temporal.pt"), &place.text("snippets.safetensors")])
        .output()
        .expect("starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8_lossy(&run.stdout).to_string();
    let theirs: Vec<f64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    let ours = Vec::<f64>::try_from(scores.to_kind(tch::Kind::Double).view([-1])).expect("scores");
    assert!(theirs.len() == 4 && theirs.iter().zip(&ours).all(|(a, b)| (a - b).abs() < 1e-5), "{theirs:?} {ours:?}");
}

#[test]
fn every_loss_and_a_head_on_features_train() {
    let place = Place::new();
    let shown = SKILL.good(&strs(&place.args("reproduce", "table", &["--table", "2", "--streams", "spatial"])));
    for word in ["L_rank1", "L_rank2", "L_rank3", "Not comparable"] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
    // A data set of features: six videos, judged along a line; the first number of a row is the skill.
    let task = place.path("data/annotations/Task");
    fs::create_dir_all(task.join("splits")).expect("made");
    let names: Vec<String> = (0..6).map(|i| format!("v{i}")).collect();
    let pair = |a: usize, b: usize| format!("{},{},{}\r\n", names[a], names[b], names[a]);
    let all: Vec<(usize, usize)> = (0..6).flat_map(|a| (a + 1..6).map(move |b| (a, b))).collect();
    let text = |pairs: &[(usize, usize)]| {
        ["Vid1,Vid2,Better\r\n".to_string()]
            .into_iter()
            .chain(pairs.iter().map(|&(a, b)| pair(a, b)))
            .collect::<String>()
    };
    fs::write(task.join("task_gt.csv"), text(&all)).expect("written");
    let (test, train): (Vec<_>, Vec<_>) = all.iter().copied().partition(|&(a, b)| a == 5 || b == 5 || a == 2 || b == 2);
    let fold = |pairs: &[(usize, usize)]| {
        let rows = pairs.iter().map(|&(a, b)| format!("{},{}\r\n", names[a], names[b]));
        ["Better,Worse\r\n".to_string()].into_iter().chain(rows).collect::<String>()
    };
    fs::write(task.join("splits/task_train_1.csv"), fold(&train)).expect("written");
    fs::write(task.join("splits/task_val_1.csv"), fold(&test)).expect("written");
    let features = place.path("data/features/spatial/Task");
    fs::create_dir_all(&features).expect("made");
    for (i, name) in names.iter().enumerate() {
        let x = crate::export::drawn(i as u64, &[30, 4]) * 0.1;
        let _ = x.select(1, 0).fill_(-(i as f64));
        rankle::weights::save(&features.join(format!("{name}.safetensors")), &[("features".into(), x)], None)
            .expect("saved");
    }
    let data = place.text("data");
    let more = [
        "--data",
        &data,
        "--net",
        "features",
        "--streams",
        "spatial",
        "--steps-spatial",
        "60",
        "--lr-spatial",
        "0.05",
        "--dropout",
        "0,0",
    ];
    let shown = SKILL.good(&strs(&place.args("reproduce", "head", &more)));
    let scores = json(&place.path("head/results.json"));
    assert_eq!(scores["scores"]["spatial"], 1.0, "{shown}");
    SKILL.bad(&strs(&place.args("train", "both", &["--data", &data, "--net", "features"])), 1, &["features/temporal"]);
    fs::remove_file(features.join("v3.safetensors")).expect("removed");
    SKILL.bad(&strs(&place.args("train", "gone", &more)), 1, &["v3.safetensors"]);

    // The same set with videos, as folders of pictures in its layout: flow, both streams, the paper's networks.
    place.videos("films", 6, 16);
    let videos = place.path("data/videos/Task");
    fs::create_dir_all(&videos).expect("made");
    for (i, name) in names.iter().enumerate() {
        fs::rename(place.path("films").join(format!("video{i}")), videos.join(name)).expect("moved");
    }
    let set = ["--data", &data];
    let both = |run: &str, more: &[&str]| place.args("train", run, &[&set[..], more].concat());
    SKILL.bad(&strs(&both("early", &[])), 1, &["has no optical flow", "skill-determination flow"]);
    assert!(SKILL.good(&["flow", "--data", &data]).contains("flow of 6 videos computed"));
    assert!(place.path("data/flow/Task/v5/flow_x_00015.jpg").exists());
    SKILL.good(&strs(&both("small", &[])));
    let shown = SKILL.good(&["evaluate", "--run", &place.text("small")]);
    assert!(shown.contains("fused") && shown.contains("similar pairs"), "{shown}");
    let large = ["--batch", "2", "--side", "224", "--steps-spatial", "1", "--weights", "none"];
    SKILL.good(&strs(&both("alexnet", &[&large[..], &["--net", "alexnet", "--steps-temporal", "1"]].concat())));
    SKILL.good(&strs(&both("bn", &[&large[..], &["--net", "bn-inception", "--streams", "spatial"]].concat())));
}

/// `args` in `size` processes; what process 0 printed.
#[cfg(feature = "distributed")]
fn several(size: usize, args: &[String]) -> String {
    crate::collectives::launch::Processes::start(size, |_| SKILL.command(&strs(args))).good()
}

/// Two processes with half a batch each take the steps of one that goes through its batch in halves: the same samples,
/// windows, dropout and losses; only batch normalisation's running statistics, of the first half each, are another's.
#[cfg(feature = "distributed")]
#[test]
fn two_processes_take_the_steps_of_one() {
    let place = Place::new();
    let flags = ["--batch", "8", "--steps-spatial", "6", "--steps-temporal", "3", "--device", "cpu"];
    let halves = [&flags[..], &["--chunk", "4"]].concat();
    // Sums of another number of threads have other last digits, which grow from step to step.
    several(1, &place.args("train", "one", &halves));
    let said = several(2, &place.args("train", "two", &halves));
    assert!(said.contains("trained:"), "{said}");
    for part in ["fold-1-spatial", "fold-1-temporal"] {
        let lines = |run: &str| -> Vec<serde_json::Value> {
            let text = fs::read_to_string(place.path(run).join(part).join("log.jsonl")).expect("a log");
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
        };
        let (one, two) = (lines("one"), lines("two"));
        assert_eq!(one.len(), two.len());
        for (a, b) in one.iter().zip(&two) {
            for key in ["mean", "gap", "right", "active", "lr"] {
                let [a, b] = [a, b].map(|line| line[key].as_f64().expect("a number"));
                assert!((a - b).abs() < 1e-5 * a.abs().max(1.), "{part}, {key}: {a} and {b}");
            }
        }
    }
    // Evaluation: each scores half of the videos, and the numbers are one process's.
    let scores = || json(&place.path("two/results.json"))["scores"].clone();
    several(1, &["evaluate", "--run", &place.text("two"), "--device", "cpu"].map(String::from));
    let alone = scores();
    fs::remove_file(place.path("two/results.json")).expect("removed");
    several(2, &["evaluate", "--run", &place.text("two"), "--device", "cpu"].map(String::from));
    let together = scores();
    for (name, score) in alone.as_object().expect("scores") {
        let [a, b] = [score, &together[name]].map(|score| score.as_f64().expect("a number"));
        assert!((a - b).abs() < 1e-4, "{name}: {a} and {b}");
    }
    // A run of one process goes on with two.
    let more = [&halves[..], &["--folds", "1"]].concat();
    assert!(several(2, &place.args("train", "one", &more)).contains("trained:"));
}

/// A film whose index promises more frames than any decoder gives: ffprobe and ffmpeg are played by scripts.
#[cfg(unix)]
#[test]
fn a_film_that_ends_before_its_own_count_has_flow_all_the_same() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let script = |name: &str, text: &str| {
        let path = place.path("bin").join(name);
        fs::create_dir_all(place.path("bin")).expect("made");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    };
    let promise = |packets: usize| {
        let list = vec![r#"{"flags":"K_"}"#; packets].join(",");
        let told = format!(r#"{{"packets":[{list}],"streams":[{{"avg_frame_rate":"25/1"}}]}}"#);
        script("ffprobe", &format!("echo '{told}'"));
    };
    let frame = 340 * 256 * 3;
    // One frame where a place is asked for, five for the whole film. It is of before version 5.1, and knows one option less.
    script(
        "ffmpeg",
        &format!(
            "for word; do case \"$word\" in -version) exec echo ffmpeg version 4.4.2-0ubuntu0.22.04.1;; -fps_mode) exit 1;; -ss) exec head -c {frame} /dev/zero;; esac; done\nexec head -c {} /dev/zero",
            5 * frame
        ),
    );
    fs::create_dir_all(place.path("films")).expect("made");
    fs::write(place.path("films/A1.mp4"), b"film").expect("written");
    let path = format!("{}:{}", place.text("bin"), std::env::var("PATH").unwrap_or_default());
    let run = |args: &[&str]| {
        let output = SKILL.command(args).env("PATH", &path).output().expect("starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).to_string())
    };
    SKILL.good(&strs(&place.args("train", "run", &["--streams", "temporal"])));
    let (films, at) = (place.text("films"), place.text("run"));
    let flow = || run(&["flow", "--videos", &films]);
    let rank = || run(&["rank", "--run", &at, "--videos", &films, "--sigma", "3"]);
    // Seven frames too few, then a hundred: computed once, and enough.
    for packets in [12, 105] {
        promise(packets);
        let (done, said) = flow();
        assert!(done && said.contains("flow of 1 videos computed"), "{said}");
        assert!(place.path("films/flow/A1/flow_y_00004.jpg").exists());
        let (done, said) = flow();
        assert!(done && said.contains("1 of 1 videos have flow already"), "{packets} packets: {said}");
        let (done, said) = rank();
        assert!(done && said.contains("A1"), "{said}");
        fs::remove_dir_all(place.path("films/flow")).expect("removed");
    }
    // Flow of other programs that lacks a few fields is enough, a hundred too few are not; nor is that of another film.
    promise(12);
    assert!(flow().0);
    let told = place.path("films/flow/A1/flow.json");
    fs::remove_file(&told).expect("removed");
    assert!(rank().0);
    promise(105);
    let (done, said) = rank();
    assert!(!done && said.contains("4 flow fields for 105 frames"), "{said}");
    // No ffmpeg at all.
    let none = SKILL.command(&["rank", "--run", &at, "--videos", &films]).env("PATH", place.text("empty")).output();
    let said = String::from_utf8_lossy(&none.expect("starts").stderr).to_string();
    assert!(said.contains("needs ffprobe, which is not installed"), "{said}");
}

#[test]
fn bad_input_is_answered_in_one_line() {
    let place = Place::new();
    let train = |more: &[&str]| place.args("train", "run", more);
    for (more, words) in [
        (&["--margin", "nan"][..], &["--margin"][..]),
        (&["--beta", "2"], &["--beta", "0 to 1"]),
        (&["--splits", "0"], &["--splits", "1 to 1000"]),
        (&["--batch", "0"], &["--batch", "1 to 65536"]),
        (&["--lr-spatial", "0"], &["--lr-spatial", "above 0"]),
        (&["--loss", "best"], &["--loss"]),
        (&["--folds", "9"], &["--folds", "1 to 4"]),
        (&["--streams", "temporal,spatial"], &["--streams"]),
        (&["--dropout", "1,2"], &["--dropout"]),
        (&["--scales", "0"], &["--scales"]),
        (&["--side", "4"], &["--side", "16 to 1024"]),
        (&["--task", "drawing"], &["--task", "one task"]),
        (&["--net", "alexnet", "--weights", "none", "--side", "32"], &["--side 32", "alexnet"]),
        (&["--chunk", "9"], &["--chunk 9", "larger than the batch"]),
        (&["--net", "alexnet"], &["--weights FILE", "scripts/fetch alexnet"]),
        (&["--net", "bn-inception"], &["scripts/fetch bn-inception"]),
    ] {
        SKILL.bad(&strs(&train(more)), 2, words);
    }
    SKILL.bad(&strs(&train(&["--data", "data/epic-skills-none"])), 1, &["scripts/fetch epic-skills"]);
    // Flags that the run would not look at.
    for (more, words) in [
        (&["--loss", "rank1", "--beta", "0.5"][..], &["--beta has no effect", "--loss rank3"][..]),
        (&["--weights", "w.pth"], &["--weights has no effect", "--net alexnet, bn-inception"]),
        (&["--streams", "spatial", "--lr-temporal", "0.1"], &["--lr-temporal has no effect", "--streams temporal"]),
        (&["--streams", "spatial", "--steps-temporal", "3"], &["--steps-temporal has no effect"]),
        (&["--streams", "temporal", "--decay-spatial", "3"], &["--decay-spatial has no effect"]),
        (&["--no-augment", "--scales", "1"], &["--scales has no effect"]),
        (&["--data", "x", "--net", "features", "--side", "32"], &["--side has no effect", "--net alexnet"]),
        (&["--data", "x", "--net", "features", "--scales", "1"], &["--scales has no effect"]),
        (&["--data", "x", "--net", "features", "--no-augment"], &["--no-augment has no effect"]),
    ] {
        SKILL.bad(&strs(&train(more)), 2, words);
    }
    SKILL.bad(&strs(&train(&["--sync-batch-norm"])), 1, &["--sync-batch-norm", "one process only"]);
    assert!(!place.path("run").exists(), "a start that was refused leaves no folder");
    SKILL.bad(&["evaluate", "--run", &place.text("none")], 1, &["no run at"]);
    SKILL.good(&strs(&train(&["--streams", "spatial"])));
    SKILL.bad(&strs(&train(&["--streams", "spatial", "--beta", "0.4"])), 1, &["--beta"]);
    let at = place.text("run");
    SKILL.bad(&["evaluate", "--run", &at, "--alpha", "2"], 2, &["--alpha", "0 to 1"]);
    SKILL.bad(&["evaluate", "--run", &at, "--alpha", "0.4"], 2, &["--alpha 0.4", "one stream"]);
    SKILL.bad(&["rank", "--run", &at, "--videos", "drawn", "--alpha", "0.3"], 1, &["--alpha 0.3", "one stream"]);
    SKILL.bad(&["embed", "--run", &at, "--videos", "drawn", "--out", "x", "--alpha", "0.4"], 2, &["--alpha"]);
    SKILL.bad(&["evaluate", "--run", &at, "--sigma", "0"], 2, &["--sigma"]);
    SKILL.bad(&["export", "--run", &at, "--fold", "3"], 1, &["fold"]);
    SKILL.bad(&["rank", "--run", &at, "--videos", &place.text("nothing")], 1, &["nothing"]);
    fs::create_dir_all(place.path("empty")).expect("made");
    SKILL.bad(&["rank", "--run", &at, "--videos", &place.text("empty")], 1, &["empty"]);
    place.videos("films", 1, 3);
    fs::write(place.path("films/video0/img_00001.png"), b"no picture").expect("written");
    SKILL.bad(&["rank", "--run", &at, "--videos", &place.text("films")], 1, &["img_00001.png"]);
    SKILL.bad(&["embed", "--run", &at, "--videos", "drawn", "--out", &place.text("x.txt")], 1, &["--out"]);
}
