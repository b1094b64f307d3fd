//! What only skill-determination has: both streams, rankings, flow, heads on features, several processes, its bad input.

use std::fs;
use std::path::Path;

use tch::CModule;

use crate::common::{Ended, Place, Program, has, made};

const SKILL: Program = Program(env!("CARGO_BIN_EXE_skill-determination"));

fn place() -> Place {
    let usual =
        "--data drawn --net small --folds 1 --batch 4 --steps-spatial 3 --steps-temporal 2 --side 32 --log-every 1";
    Place::new(SKILL, usual)
}

/// Videos as folders of pictures, `count` of them, with `frames` each.
fn videos(at: &Path, count: usize, frames: u8) {
    for video in 0..count {
        for frame in 0..frames {
            let image = image::RgbImage::from_fn(60, 48, |x, y| {
                image::Rgb([(x * 4) as u8 ^ frame, (y * 5) as u8, (40 * video) as u8 + frame])
            });
            image.save(made(at.join(format!("video{video}/img_{frame:05}.png")))).expect("saved");
        }
    }
}

#[test]
fn videos_are_judged_ranked_and_scored_in_python_alike() {
    let place = place();
    has(&place.good("data --data drawn"), "test pairs by separation");
    let shown = place.good("reproduce @run");
    has(
        &shown,
        "spatial|temporal|fused|Not comparable|Fig. 4|Fig. 5|Fig. 6|from the end|separation|model-spatial.pt|\
         model-temporal.pt",
    );
    assert!((0. ..=1.).contains(&place.score("run", "fused")));
    let claims = place.json("run/results.json")["claims"].as_array().expect("claims").clone();
    assert!(claims.iter().all(|claim| claim["ours"].is_null()));
    for place in
        ["Table 2", "Table 2 of the first version", "Fig. 4 (its curve)", "Fig. 5 (its curve)", "Fig. 6 (its bars)"]
    {
        assert!(claims.iter().any(|claim| claim["place"] == place), "{place}");
    }
    for point in ["fused, alpha 0", "fused, alpha 0.4", "fused, snippets at random: 10", "fused, separation 1"] {
        place.score("run", point);
    }
    assert_eq!(place.score("run", "fused, alpha 1"), place.score("run", "spatial"));
    let page = place.read("run/report.html");
    // Every video's score over time.
    let sparks = page.split_once("class=\"sparks\"").expect("sparks").1.split("</div>").next().expect("their end");
    assert_eq!(sparks.matches("<svg").count(), 8, "those that fold 1 holds out");
    has(&page, "Ranking: Drawn|Score over time|Graph of pairs|Errors by separation|Fig. 5|<svg|data:image/");
    assert_eq!(place.log("run/fold-1-spatial").len(), 3);

    // A second start trains nothing; evaluation of one stream alone is that stream's.
    has(&place.good("train @run"), "next: skill-determination evaluate");
    let alone = place.good("evaluate @run --alpha 1");
    let row =
        |name: &str| alone.lines().find(|line| line.contains(name)).map(|line| line.replace(name, "")).expect("a row");
    assert_eq!(row("│ fused  ").split_whitespace().last(), row("│ spatial").split_whitespace().last());
    // Other data (the same hands here) and the networks before training have folders of their own.
    let before = place.read("run/results.json");
    place.good("evaluate @run --data drawn --untrained --sigma 2");
    assert!(place.path("run/on-drawn/untrained/report.html").exists());
    assert_eq!(place.read("run/results.json"), before);
    // Where a part is gone, its scores are not taken for another training's, though the other part has a checkpoint of its step.
    let mut results = place.json("run/results.json");
    results["checkpoints"].as_array_mut().expect("both").iter_mut().for_each(|of| of["step"] = 3.into());
    rankle::outputs::write_json(&place.path("run/results.json"), "scores", &results).expect("written");
    let [there, away] = ["run/fold-1-temporal", "away"].map(|name| place.path(name));
    fs::rename(&there, &away).expect("moved");
    place.bad(&[(1, "evaluate @run", "fold-1-temporal has no checkpoint, though |results.json is of one: restore it")]);
    fs::rename(&away, &there).expect("moved back");
    place.bad(&[(1, "evaluate @run", "results.json is of another training with these flags")]);
    place.write("run/results.json", &before);

    // Who's best: hands that nobody saw, and a folder of videos.
    let other = rankle::outputs::hold("out", &place.path("ranking.json.kept")).expect("free");
    place.bad(&[(1, "rank @run --videos drawn --out @ranking.json", "--out|another process is writing|ranking.json")]);
    drop(other);
    has(&place.good("rank @run --videos drawn --out @ranking.json"), "split 7");
    assert!(!place.path("ranking.json.kept").exists(), "it held nothing");
    let ranking = place.json("ranking.json").as_array().expect("a list").clone();
    let scores: Vec<f64> = ranking.iter().map(|row| row["score"].as_f64().expect("a score")).collect();
    assert!(scores.len() == 32 && scores.windows(2).all(|pair| pair[0] >= pair[1]));
    let name = |row: &serde_json::Value| row["video"].as_str().expect("a name").starts_with("new-");
    assert!(ranking.iter().all(name), "they are not called as those of --data drawn: {ranking:?}");
    videos(&place.path("films"), 3, 8);
    place.bad(&[(1, "rank @run --videos @films", "has no optical flow|skill-determination flow --videos ")]);
    place.good("flow --videos @films");
    assert!(place.path("films/flow/video2/flow_y_00007.jpg").exists());
    has(&place.good("rank @run --videos @films --sigma 3"), "video0|video2");
    place.good("embed @run --videos @films --out @scores.safetensors --sigma 5");
    let found = rankle::weights::read(&place.path("scores.safetensors")).expect("readable");
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
    let words = ["-c", script, &place.text("run/model-temporal.pt"), &place.text("snippets.safetensors")];
    let text = Ended::of(std::process::Command::new(python).args(words)).well().out;
    let theirs: Vec<f64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    let ours = Vec::<f64>::try_from(scores.to_kind(tch::Kind::Double).view([-1])).expect("scores");
    assert!(theirs.len() == 4 && theirs.iter().zip(&ours).all(|(a, b)| (a - b).abs() < 1e-5), "{theirs:?} {ours:?}");
}

#[test]
fn every_loss_and_a_head_on_features_train() {
    let place = place();
    let shown = place.good("reproduce @table --table 2 --streams spatial ~--steps-temporal");
    has(&shown, "L_rank1|L_rank2|L_rank3|Not comparable");
    // A data set of features: six videos, judged along a line; the first number of a row is the skill.
    let all: Vec<(usize, usize)> = (0..6).flat_map(|a| (a + 1..6).map(move |b| (a, b))).collect();
    let (test, train): (Vec<_>, Vec<_>) = all.iter().copied().partition(|&(a, b)| a == 5 || b == 5 || a == 2 || b == 2);
    for (file, head, pairs) in [
        ("task_gt", "Vid1,Vid2,Better", &all),
        ("splits/task_train_1", "Better,Worse", &train),
        ("splits/task_val_1", "Better,Worse", &test),
    ] {
        let better = |a: usize| if file == "task_gt" { format!(",v{a}") } else { String::new() };
        let rows: String = pairs.iter().map(|&(a, b)| format!("v{a},v{b}{}\r\n", better(a))).collect();
        place.write(&format!("data/annotations/Task/{file}.csv"), format!("{head}\r\n{rows}"));
    }
    let features = |video: usize| place.made(&format!("data/features/spatial/Task/v{video}.safetensors"));
    for video in 0..6 {
        let x = crate::export::drawn(video as u64, &[30, 4]) * 0.1;
        let _ = x.select(1, 0).fill_(-(video as f64));
        rankle::weights::save(&features(video), &[("features".into(), x)], None).expect("saved");
    }
    let head = "--data @data --net features --streams spatial --steps-spatial 60 --lr-spatial 0.05 --dropout 0,0 ~--side \
                ~--steps-temporal";
    let shown = place.good(&format!("reproduce @head {head}"));
    assert_eq!(place.score("head", "spatial"), 1.0, "{shown}");
    place.bad(&[
        (1, "train @both --data @data --net features ~--side", "features/temporal"),
        (1, "train @both --data @data", "has ready-made features and no videos: they are for --net features"),
    ]);
    // Other folds of the same videos, elsewhere and in the run's own folder.
    place.copy(&place.path("data"), "other");
    place.good("evaluate @head --data @other");
    let lists = ["train", "val"].map(|part| format!("annotations/Task/splits/task_{part}_1.csv"));
    let before = lists.each_ref().map(|list| place.read(&format!("data/{list}")));
    let (test, train): (Vec<_>, Vec<_>) =
        all.iter().partition(|pair| [pair.0, pair.1].iter().any(|v| [1, 4].contains(v)));
    let words = "the list that says what the run trains on (fold 1) is another";
    for (folder, flags) in [("other", " --data @other"), ("data", "")] {
        for (list, pairs) in lists.iter().zip([&train, &test]) {
            let rows: String = pairs.iter().map(|(a, b)| format!("v{a},v{b}\r\n")).collect();
            place.write(&format!("{folder}/{list}"), format!("Better,Worse\r\n{rows}"));
        }
        place.bad(&[(1, &format!("evaluate @head{flags}"), words)]);
    }
    lists.iter().zip(before).for_each(|(list, text)| place.write(&format!("data/{list}"), text));
    // Features of another width, elsewhere and in the run's own folder.
    place.copy(&place.path("data/annotations"), "wide/annotations");
    for video in 0..6 {
        let x = crate::export::drawn(video, &[30, 5]);
        let wide = place.made(&format!("wide/features/spatial/Task/v{video}.safetensors"));
        rankle::weights::save(&wide, &[("features".into(), x)], None).expect("saved");
    }
    let words = "features/spatial has rows of 5 features where the run was trained on rows of 4: give --data|train";
    place.bad(&[(1, "evaluate @head --data @wide", words)]);
    fs::rename(place.path("data/features"), place.path("narrow")).expect("moved");
    place.copy(&place.path("wide/features"), "data/features");
    place.bad(&[(1, "evaluate @head", words)]);
    fs::remove_dir_all(place.path("data/features")).expect("removed");
    fs::rename(place.path("narrow"), place.path("data/features")).expect("moved");
    fs::remove_file(features(3)).expect("removed");
    place.bad(&[(1, &format!("train @gone {head}"), "v3.safetensors")]);

    // The same set with videos, as folders of pictures in its layout: flow, both streams, the paper's networks.
    videos(&place.path("films"), 6, 16);
    for video in 0..6 {
        let film = place.path(&format!("films/video{video}"));
        fs::rename(film, place.made(&format!("data/videos/Task/v{video}"))).expect("moved");
    }
    place.bad(&[(1, "train @early --data @data", "has no optical flow|skill-determination flow --data ")]);
    has(&place.good("data --data @data"), "pooled|train refuses it: |has no optical flow");
    has(&place.good("flow --data @data"), "flow of 6 videos computed");
    assert!(place.path("data/flow/Task/v5/flow_x_00015.jpg").exists());
    place.good("train @small --data @data");
    has(&place.good("evaluate @small"), "fused|similar pairs");
    // A part that begins later, where the path is typed otherwise, is of the same run.
    fs::remove_dir_all(place.path("small/fold-1-temporal")).expect("removed");
    fs::remove_file(place.path("small/results.json")).expect("removed");
    place.good("train @small --data @films/../data");
    place.good("evaluate @small");
    place.good("report @small");
    let large = "--data @data --batch 2 --side 224 --steps-spatial 1 --weights none";
    place.good(&format!("train @alexnet {large} --net alexnet --steps-temporal 1"));
    place.good(&format!("train @bn {large} --net bn-inception --streams spatial ~--steps-temporal"));
}

/// Two processes with half a batch each take the steps of one that goes through its batch in halves: the same samples,
/// windows, dropout and losses; only batch normalisation's running statistics, of the first half each, are another's.
#[cfg(feature = "distributed")]
#[test]
fn two_processes_take_the_steps_of_one() {
    let place = place();
    let several =
        |size: usize, line: &str| crate::collectives::launch::Processes::start(size, |_| place.command(line)).good();
    let flags = "--batch 8 --steps-spatial 6 --steps-temporal 3 --device cpu";
    // Sums of another number of threads have other last digits, which grow from step to step.
    several(1, &format!("train @one {flags} --chunk 4"));
    has(&several(2, &format!("train @two {flags} --chunk 4")), "trained:");
    for part in ["fold-1-spatial", "fold-1-temporal"] {
        let (one, two) = (place.log(&format!("one/{part}")), place.log(&format!("two/{part}")));
        assert_eq!(one.len(), two.len());
        for (a, b) in one.iter().zip(&two) {
            for key in ["mean", "gap", "right", "active", "lr"] {
                let [a, b] = [a, b].map(|line| line[key].as_f64().expect("a number"));
                assert!((a - b).abs() < 1e-5 * a.abs().max(1.), "{part}, {key}: {a} and {b}");
            }
        }
    }
    // Evaluation: each scores a share of the videos.
    crate::collectives::runs::scores_of_three_are_those_of_one(&place, "two", "", 3);
}

#[test]
fn data_names_all_that_is_missing_of_every_task() {
    let place = place();
    for (task, stem) in [("Knots", "knots"), ("Suture", "suture")] {
        for (file, text) in [
            ("gt", "Vid1,Vid2,Better\nB,A,A\nB,C,B\nE,D,D\n"),
            ("train_1", "Better,Worse\nA,B\n"),
            ("val_1", "Better,Worse\nB,C\nD,E\n"),
        ] {
            let folder = if file == "gt" { "" } else { "splits/" };
            place.write(&format!("set/annotations/{task}/{folder}{stem}_{file}.csv"), text);
        }
        videos(&place.path(&format!("set/videos/{task}")), 1, 2);
    }
    fs::rename(place.path("set/videos/Knots/video0"), place.path("set/videos/Knots/A")).expect("renamed");
    for (folder, counts, kind) in [("videos", [4, 5], "no video of "), ("features", [10, 10], ".safetensors")] {
        if folder == "features" {
            fs::rename(place.path("set/videos"), place.path("set/features")).expect("renamed");
        }
        let shown = place.good("data --data @set --out @cards.json");
        let cards = place.json("cards.json");
        for (card, count) in cards.as_array().expect("cards").iter().zip(counts) {
            let problems = card["problems"].as_array().expect("a list");
            assert!(problems.len() == count && problems.iter().all(|line| line.to_string().contains(kind)), "{card}");
            has(&shown, &format!("train refuses it: |(the first of {count})"));
            // Of one task the same is said.
            place.good(&format!("data --data @set --task {} --out @card.json", card["name"].as_str().expect("a name")));
            let one = place.json("card.json");
            assert_eq!((&one["refused"], &one["problems"]), (&card["refused"], &card["problems"]));
        }
    }
}

#[cfg(unix)]
#[test]
fn bad_input_is_answered_in_one_line() {
    let place = place();
    place.bad(&[
        (2, "train @run --margin nan", "--margin"),
        (2, "train @run --beta 2", "--beta|0 to 1"),
        (2, "train @run --splits 0", "--splits|1 to 1000"),
        (2, "train @run --batch 0", "--batch|1 to 65536"),
        (2, "train @run --folds 9", "--folds|1 to 4"),
        (2, "train @run --streams temporal,spatial", "--streams"),
        (2, "train @run --dropout 1,2", "--dropout"),
        (2, "train @run --scales 0", "--scales"),
        (2, "train @run --scales -0.5,-1", "--scales|'-0.5'"),
        (2, "train @run --side 4", "--side|16 to 1024"),
        (2, "train @run --task drawing", "--task|one task"),
        (2, "train @run --net alexnet --weights none --side 32", "--side 32|alexnet"),
        (2, "train @run --chunk 9", "--chunk 9|larger than the batch"),
        (2, "train @run --net alexnet", "--weights FILE|scripts/fetch alexnet"),
        (2, "train @run --net bn-inception", "scripts/fetch bn-inception"),
        (1, "train @run --data data/epic-skills-none", "scripts/fetch epic-skills"),
        // Flags that the run would not look at.
        (2, "train @run --loss rank1 --beta 0.5", "--beta has no effect|--loss rank3"),
        (2, "train @run --weights w.pth", "--weights has no effect|--net alexnet, bn-inception"),
        (
            2,
            "train @run --streams spatial ~--steps-temporal --lr-temporal 0.1",
            "--lr-temporal has no effect|--streams temporal",
        ),
        (2, "train @run --streams spatial --steps-temporal 3", "--steps-temporal has no effect"),
        (2, "train @run --streams temporal ~--steps-spatial --decay-spatial 3", "--decay-spatial has no effect"),
        (2, "train @run --no-augment --scales 1", "--scales has no effect"),
        (2, "train @run --data x --net features --side 32", "--side has no effect|--net alexnet"),
        (2, "train @run --data x --net features ~--side --scales 1", "--scales has no effect"),
        (2, "train @run --data x --net features ~--side --no-augment", "--no-augment has no effect"),
    ]);
    assert!(!place.path("run").exists(), "a start that was refused leaves no folder");
    place.good("train @run --streams spatial ~--steps-temporal");
    fs::create_dir_all(place.path("empty")).expect("made");
    videos(&place.path("films"), 1, 3);
    place.write("films/video0/img_00001.png", b"no picture");
    place.bad(&[
        (2, "evaluate @run --alpha 2", "--alpha|0 to 1"),
        (2, "evaluate @run --alpha 0.4", "--alpha|no effect on this run"),
        (2, "rank @run --videos drawn --alpha 0.4", "--alpha|no effect on this run"),
        (2, "embed @run --videos drawn --out x --alpha 0.4", "--alpha"),
        (2, "evaluate @run --sigma 0", "--sigma"),
        (1, "export @run --fold 3", "fold"),
        (1, "rank @run --videos drawn --fold 4", "has trained fold 1: name one by --fold"),
        (1, "rank @run --videos @nothing", "nothing"),
        (1, "rank @run --videos @empty", "empty"),
        (1, "rank @run --videos @films", "img_00001.png"),
    ]);
}
