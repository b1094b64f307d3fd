//! What only quadruplet has: its sets and splits, seven models, pairs, its bad input.

use std::fs;

use serde_json::{Value, json};
use tch::{CModule, Tensor};

use crate::common::{Ended, Place, Program, close, has};

pub const QUADRUPLET: Program = Program(env!("CARGO_BIN_EXE_quadruplet"));

/// Drawn people in VIPeR's and CUHK01's layouts, and one folder an identity.
fn place() -> Place {
    let usual = "--data @cuhk01 --test-people 5 --net small --size 32x16 --quadruplets 4 --steps 6 --log-every 2";
    let place = Place::new(QUADRUPLET, usual);
    for person in 1..13 {
        for (folder, camera) in [("cam_a", 1), ("cam_b", 2)] {
            place.photo(&format!("VIPeR/{folder}/{:03}_{}.bmp", person * 3, camera * 45), person, camera, 0);
        }
    }
    place.cuhk01("cuhk01");
    for (person, shot) in (1..9).flat_map(|person| (0..3).map(move |shot| (person, shot))) {
        place.photo(&format!("tree/P{person}/{shot}.png"), person, 1, shot);
    }
    place
}

#[test]
fn a_split_is_trained_in_two_stages_scored_and_exported() {
    let place = place();
    let card = place.good("data --data @cuhk01 --test-people 5 --out @c.json");
    has(&card, "CUHK01|split 1: 5 of 12 people drawn to test");
    assert_eq!(place.json("c.json")["splits"][0]["identities"], 7);
    has(
        &place.good("reproduce @run --draws 2 --pairs 8"),
        "cuhk01 after 12 steps|single shot rank-1|model.pt|report.html",
    );
    let flags = place.json("run/config.json")["flags"].clone();
    assert_eq!((&flags["model"], &flags["steps2"]), (&json!("quadruplet-margohnm"), &json!(6)));
    // Six steps with fixed margins, six with adaptive ones, which are what the batch's means say.
    let log = place.log("run");
    let of = |key: &str| -> Vec<f64> { log.iter().map(|line| line[key].as_f64().expect("a number")).collect() };
    assert_eq!(of("stage"), [1., 1., 1., 2., 2., 2., 2.]);
    assert_eq!(log[0]["margins"], json!([1.0, 0.5]));
    for line in &log[3..] {
        let number = |pointer: &str| line.pointer(pointer).and_then(Value::as_f64).expect("a number");
        let gap = (number("/square/different") - number("/square/same")).max(0.);
        assert!((number("/margins/0") - gap).abs() < 1e-6 && (number("/margins/1") - gap / 2.).abs() < 1e-6);
    }
    for (line, rate) in [(0, 0.005), (2, 0.0005), (3, 0.002), (6, 0.0002)] {
        close(of("lr")[line], rate, 1e-9);
    }
    let split = place.json("run/split.json");
    let names = |part: &str| split[part].as_array().expect("names").clone();
    assert!(names("test").iter().all(|name| name.as_str().is_some_and(|name| name.len() == 4)));
    assert_eq!((names("test").len(), names("train").len()), (5, 7));

    let shown = place.good("evaluate @run --draws 3 --pairs 20");
    has(&shown, "single shot rank-1|whole gallery mAP|same person: mean distance|Not comparable");
    // The paper's numbers are those of Table 1 and Figure 5, and none of ours stands beside them.
    let claims = place.json("run/results.json")["claims"].as_array().expect("claims").clone();
    let of = |place: &str| claims.iter().filter(|claim| claim["place"] == place).count();
    assert_eq!((claims.len(), of("Table 1"), of("Figure 5")), (7 * 4 * 3 + 12, 84, 12));
    assert!(claims.iter().all(|claim| claim["ours"].is_null()));
    for (paper, words) in [(0.000374, "CUHK03"), (62.55, "CUHK01"), (81., "100 test people"), (49.05, "VIPeR")] {
        let known =
            |claim: &&Value| claim["paper"] == paper && claim["what"].as_str().is_some_and(|what| what.contains(words));
        assert!(claims.iter().any(|claim| known(&claim)), "{paper} of {words}");
    }
    assert!((0. ..=1.).contains(&place.score("run", "single shot rank-1")));
    let page = place.read("run/report.html");
    has(&page, "Distances of training pairs|Margins|Saturation|<svg|data:image/jpeg;base64,|0.99746");
    place.good("evaluate @run --data drawn --pairs 9 --order one");
    assert!(place.path("run/on-drawn/results.json").exists());
    place.good("evaluate @run --data @VIPeR --split 4 --test-people 6 --pairs 9");
    assert!(place.path("run/on-VIPeR-split4-test-people6/report.html").exists());
    assert_eq!(place.json("run/results.json")["data"], "cuhk01", "the run keeps its own scores");

    // The module of two images gives what embed writes.
    has(&place.good("embed @run --images @tree/P1 --out @g.safetensors"), "3 x 3 dissimilarities");
    let g = place.tensor("g.safetensors");
    has(&place.good("export @run"), "sigmoid(model(a, b)) is g");
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
        close(logit.sigmoid().double_value(&[0]), g.double_value(&[a as i64, b as i64]), 1e-5);
    }
}

#[test]
fn models_stand_beside_table_1_and_figure_5() {
    let place = place();
    let line = "reproduce @all --table fig5 --seeds 1,2 --steps 3 --pairs 12 --draws 2";
    let shown = place.good(line);
    has(
        &shown,
        "Triplet(Embedding)|Quadruplet+MargOHNM|Not comparable with the paper|\
         distance of one person falls|single-shot rank-1 never falls|model.pt",
    );
    let all = place.json("all/table.json");
    assert_eq!(all["cells"].as_array().map(Vec::len), Some(12));
    assert_eq!(all["not_comparable_because"].as_array().map(Vec::len), Some(1));
    assert!(place.path("all/quadruplet-margohnm-2/report.html").exists());
    has(&place.read("all/report.html"), "Mean distance of training pairs|<svg");
    // Different models from the same draw: different scores, and again the same ones.
    let again = place.good(line);
    let row = |shown: &str| shown.lines().find(|line| line.contains("Quadruplet+")).map(String::from);
    assert_eq!(row(&shown), row(&again));
    let shown = place.good("reproduce @one --table 1 --only 1,7 --steps 2 --pairs 4 --draws 1 --order eight");
    has(&shown, "Table 1 on cuhk01|Classification|Quadruplet+MargOHNM|rank-10");
    place.bad(&[(2, "reproduce @x --table fig5 --model quadruplet", "goes through --model|--only")]);
}

#[test]
fn table_1_has_a_column_for_each_of_the_papers_sets_that_is_here() {
    let place = place();
    for (pair, id, n) in (1..3).flat_map(|pair| (1..7).flat_map(move |id| (1..5).map(move |n| (pair, id, n)))) {
        let name = format!("data/cuhk03/labeled/{pair}_{id:03}_{}_{n:02}.png", 1 + n / 3);
        place.photo(&name, pair * 10 + id, 1 + n / 3, n);
    }
    place.write("data/cuhk03/testsets.json", b"[[[1,2],[2,3]]]");
    let line = "reproduce --table 1 --only quadruplet,2 --run all --net small --size 32x16 --quadruplets 4 --steps 2 --pairs 4 --draws 1";
    let run = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ended::of(QUADRUPLET.command(&words).current_dir(place.path("")))
    };
    let Ended { out: shown, err: said, .. } = run(line).well();
    has(&shown, "Table 1 on CUHK03, CUHK01, CUHK01, 100 test people, VIPeR, 1 seed|CUHK03: single-shot rank-1");
    has(&said, "VIPeR stays empty: |scripts/fetch viper");
    has(&place.json("all/table.json")["absent"]["VIPeR"].to_string(), "scripts/fetch viper");
    has(&place.read("all/report.html"), "Columns that stay empty|scripts/fetch viper");
    let row = shown.lines().find(|line| line.starts_with("│ Quadruplet ")).expect("a row");
    assert_eq!((row.matches('–').count(), row.matches('/').count()), (3, 2), "{row}");
    // Without --run it makes a folder of its own, beside its data's own tables.
    run(&line.replace(" --run all", "").replace(",2", "")).well();
    assert!(place.path("data/runs/quadruplet/table-1/table.json").exists());
    // A small set starts from the run of its model in a table's folder; the folder without --start is another.
    let start = "train --data @cuhk01 --start @all --model quadruplet --steps 1 --lr 0.005";
    run(&place.args(start).join(" ")).well();
    let named = place.path("data/runs/quadruplet/cuhk01-startall-people5-small-quadruplet-1");
    // What follows a flag follows it where it is typed as what it would be anyway, too.
    let flags = crate::common::json(&named.join("config.json"))["flags"].clone();
    assert_eq!((&flags["lr2"], &flags["steps2"]), (&json!(0.0005), &json!(1)));
    // Begun by an older version, it keeps its name.
    fs::rename(&named, place.path("data/runs/quadruplet/cuhk01-people5-small-quadruplet-1")).expect("renamed");
    run(&place.args(start).join(" ")).well();
    assert!(!named.exists());
    place.bad(&[
        (1, "reproduce @y --table 1 --only quadruplet,7 --start @all", "--start|--model quadruplet-margohnm|no run at"),
        (1, "train @x --start @all --model triplet-improved", "--start|no run at"),
        (2, "reproduce @x --table 1 ~--data ~--test-people --net alexnet", "--weights FILE|scripts/fetch alexnet"),
        (1, "reproduce @x --table 1 ~--data ~--test-people --net small", "no folder data/cuhk03|scripts/fetch cuhk03"),
    ]);
    assert!(!place.path("y").exists(), "nothing is trained before all that is needed is known to be there");
    // A table stays where the data of its columns are gone now.
    let whole = place.read("all/table.json");
    fs::rename(place.path("data/cuhk03"), place.path("away")).expect("renamed");
    let ended = run(line);
    assert_eq!(ended.code, Some(1));
    has(&ended.err, "no folder data/cuhk03|scripts/fetch cuhk03");
    assert_eq!(place.read("all/table.json"), whole);
    fs::rename(place.path("away"), place.path("data/cuhk03")).expect("renamed");
    // Damaged data are not absent ones.
    place.write("data/cuhk03/testsets.json", b"[[1,2]]");
    let ended = run(line);
    assert_eq!(ended.code, Some(1));
    has(&ended.err, "not as scripts/convert cuhk03 writes it");
}

#[test]
fn scores_are_averaged_over_splits() {
    let place = place();
    let table = "reproduce @all --table fig5 --steps 2 --pairs 8 --draws 2";
    let two = "--only triplet-embedding,quadruplet --splits 2-3 --margins 1,0.4";
    let shown = place.good(&format!("{table} {two}"));
    has(&shown, "Figure 5 on cuhk01, 2 splits, 1 seed");
    let cells = place.json("all/table.json")["cells"].as_array().expect("cells").clone();
    assert_eq!(cells.iter().map(|cell| cell["split"].clone()).collect::<Vec<_>>(), ["2", "3", "2", "3"]);
    let ours = cells.iter().filter(|cell| cell["row"] == "Quadruplet");
    let ranks: Vec<f64> = ours.filter_map(|cell| cell["scores"]["single shot rank-1"].as_f64()).collect();
    assert_eq!(ranks.len(), 2);
    let line = shown.lines().filter(|line| line.contains("Quadruplet ")).nth(2).expect("the ranks");
    has(line, &format!("{:.2} ±", 50. * (ranks[0] + ranks[1])));
    let tested = |split: u8| place.json(&format!("all/quadruplet-split{split}-1/split.json"))["test"].clone();
    assert_ne!(tested(2), tested(3));
    // A part of it alone stands below the whole, which stays.
    let whole = place.read("all/table.json");
    let said = place.ends(&format!("{table} --only triplet-embedding --splits 3")).well().err;
    let below = "all/table-rows-1-seeds-1-splits-3";
    has(&said, &format!("note: |all/table.json has cells that are not asked for now, and stays: |{below}"));
    assert_eq!(place.json(&format!("{below}/table.json"))["cells"].as_array().map(Vec::len), Some(1));
    assert_eq!(place.read("all/table.json"), whole);
    // A flag of one model goes to that one; a flag of none, and lists that say a thing twice, are refused.
    assert_eq!(place.json("all/quadruplet-split2-1/config.json")["flags"]["margins"], json!([1.0, 0.4]));
    for (more, words) in [
        ("--only triplet-embedding --margins 1,0.4", "--margins has no effect"),
        ("--only triplet-embedding --order one", "--order"),
        ("--only 7", "--only 7|quadruplet-margohnm"),
        ("--seeds 1,01", "--seeds: 1 comes twice"),
        ("--seeds 1-2,x", "--seeds x: say a number"),
        ("--splits 1,1", "--splits: 1 comes twice"),
        ("--splits 3-1", "say a range as 1-10"),
        ("--splits 1-2 --split 2", "--split"),
    ] {
        place.bad(&[(2, &format!("{table} {more}"), words)]);
    }
}

#[test]
fn every_model_and_choice_trains() {
    let place = place();
    for (i, more) in [
        "--model triplet-embedding",
        "--model triplet-learned-metric",
        "--model triplet-without-sfx --pairing width",
        "--model triplet-improved --softmax-loss 0.5 --init gaussian",
        "--margin-gradient eq5 --adaptive 0.8,0.4 --listed",
        "--margin-gradient full --margins 0.9,0.3 --any-camera --checkpoint-every 3",
        "--net alexnet --weights none --size 67x67 --model quadruplet --steps 1",
        "--model classification --margin 0.8",
        "--model classification --classifier cross-entropy --tenth-after 0.5",
        "--net caffe --weights none --size 67x67 --model classification --steps 1",
    ]
    .into_iter()
    .enumerate()
    {
        place.good(&format!("train @run{i} --quadruplets 2 {more}"));
        if i < 2 {
            place.good(&format!("evaluate @run{i} --pairs 4"));
            has(&place.good(&format!("export @run{i}")), "model.pt");
        }
    }
    // Another network starts from one that was trained; other data too.
    place.good("train @next --model quadruplet --start @run5 --data @VIPeR");
    // That of another run in its place is none of its own.
    place.copy(&place.path("run5"), "mixed");
    fs::copy(place.path("run4/checkpoint.safetensors"), place.path("mixed/checkpoint.safetensors")).expect("copied");
    let mixed = "train @third --model quadruplet --start @mixed --data @VIPeR";
    place.bad(&[(1, mixed, "--start: |mixed/log.jsonl is not what its checkpoint knew|restore what was there")]);
    // An older one of its own may be that of a killed training.
    fs::copy(place.path("run5/checkpoint.before.safetensors"), place.path("mixed/checkpoint.safetensors"))
        .expect("copied");
    has(
        &place.ends(&mixed.replace("third", "fourth")).well().err,
        "mixed/checkpoint.safetensors is of step 9, and the log goes on to step 12: |report --run ",
    );
    // Nobody is tested whom a run that it goes back to was trained on.
    place.good("evaluate @next --data @cuhk01 --test-people 5 --pairs 4");
    place.bad(&[
        (
            1,
            "evaluate @next --data @cuhk01 --test-people 5 --split 2 --pairs 4",
            "--start: the run|run5 was trained on",
        ),
        (1, "train @third --start @next --split 2", "--start: the run|run5 was trained on"),
    ]);
    has(&place.good("embed @run0 --images @tree --out @x.safetensors"), "24 embeddings of width 512");
    // What a run began with is another file's content now.
    let began = "evaluate @next --untrained --pairs 4";
    place.good(began);
    let start = place.path("run5/checkpoint.safetensors");
    let (mut tensors, mut metadata) = rankle::weights::read_sealed(&start).expect("a checkpoint");
    tensors.iter_mut().filter(|(name, _)| name.starts_with("model.")).for_each(|(_, x)| *x = &*x * 2.);
    metadata.remove(rankle::weights::HASH);
    rankle::weights::save(&start, &tensors, Some(metadata)).expect("saved");
    place.bad(&[(1, began, "run5/checkpoint.safetensors is not what |next was begun from (its run went on")]);
    // What that was trained on since is none of this one's.
    let said = place.ends("evaluate @next --data @cuhk01 --test-people 5 --split 2 --pairs 4").well().err;
    has(
        &said,
        "note: whether somebody tested was trained on is not known: --start |run5: it has other checkpoints now",
    );
    place.good("evaluate @next --pairs 4");
}

#[test]
fn bad_input_is_answered_in_one_line() {
    let place = place();
    place.bad(&[
        (2, "train @run --model triplet-improved --margin -1", "--margin|-1|say 0 to 1000000"),
        (2, "train @run --margins 1", "--margins|1,0.5"),
        (2, "train @run --adaptive 1,nan", "--adaptive|nan"),
        (2, "train @run --softmax-loss inf", "--softmax-loss|inf"),
        (2, "train @run --dropout 1", "--dropout|'1'"),
        (2, "train @run --quadruplets 0", "--quadruplets|say 1 to 16384"),
        (2, "train @run --size 4x4", "--size|4x4"),
        (2, "train @run --size big", "--size|big"),
        (2, "train @run --weights w.pt", "--weights has no effect|--net alexnet"),
        (2, "train @run --net alexnet", "--weights FILE|scripts/fetch alexnet"),
        (2, "train @run --model triplet-without-sfx --softmax-loss 1", "--softmax-loss has no effect"),
        (2, "train @run --model triplet-embedding --pairing width", "--pairing has no effect"),
        (2, "train @run --model triplet-improved --margins 1,0.5", "--margins has no effect|quadruplet"),
        (2, "train @run --margin 1", "--margin has no effect|triplet-improved"),
        (2, "train @run --model classification --classifier cross-entropy --margin 1", "--margin has no effect"),
        (2, "train @run --classifier contrastive", "--classifier has no effect|--model classification"),
        (2, "train @run --model quadruplet --steps2 5", "--steps2 has no effect|--model quadruplet-margohnm"),
        (2, "train @run --model quadruplet --lr2 0.1", "--lr2 has no effect"),
        (2, "train @run --model quadruplet --adaptive 1,0.5", "--adaptive has no effect"),
        (2, "train @run --model quadruplet --margin-gradient eq5", "--margin-gradient has no effect"),
        (2, "train @run --steps2 0", "--steps2|say 1 to"),
        (2, "train @run --split 0", "--split"),
        (1, "train @run --test-people 11", "--test-people 11|say 2 to 9"),
        (1, "train @run --split np", "np is CUHK03's new protocol"),
        (1, "train @run --net alexnet --weights none.pth --size 67x67", "--weights|none.pth"),
        (1, "train @run --net alexnet --weights none --size 20x20", "--size 20x20|too small"),
        (1, "train @run --start nowhere", "--start|nowhere"),
        (1, "train @run --data @tree ~--test-people", "two cameras|--any-camera"),
        (1, "train @run --data data/cuhk03/labeled ~--test-people", "scripts/fetch cuhk03"),
    ]);
    assert!(!place.path("run").exists(), "a start that was refused leaves no folder");
    place.good("train @run --steps 1");
    // A photo cut short is seen before training.
    let whole = fs::read(place.path("VIPeR/cam_a/003_45.bmp")).expect("a photo");
    place.write("VIPeR/cam_a/003_45.bmp", &whole[..whole.len() / 2]);
    place.write("cuhk01/campus/0001001.png", b"");
    place.bad(&[
        (1, "train @v --data @VIPeR", "1 of 24 images|a truncated BMP"),
        (2, "evaluate @run --pairs 1", "--pairs"),
        (1, "train @v --split 2 --start @run", "--start: the run|was trained on"),
        (1, "train @other", "1 of 48 images|0001001.png"),
    ]);
}
