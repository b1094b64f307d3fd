//! What only triplet-reid has: its log, its defaults, its bad input.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use image::{Rgb, RgbImage};
use rand::Rng;

use super::DRAWN;
use crate::common::{Ended, Place, Program, has, made};

/// Photos of `people` people, `shots` each, in a plain tree: a colour a person, noise a photo.
fn tree(at: &Path, people: u64, shots: u64) {
    for person in 0..people {
        let mut colour = rankle::seed::at(7, person, 0);
        let base: [u8; 3] = std::array::from_fn(|_| colour.random_range(40..200));
        for shot in 0..shots {
            let mut rng = rankle::seed::at(8, person, shot);
            let image =
                RgbImage::from_fn(32, 64, |_, _| Rgb(base.map(|c| c.saturating_add_signed(rng.random_range(-40..40)))));
            image.save(made(at.join(format!("{person:03}/{shot}.png")))).expect("saved");
        }
    }
}

fn place() -> Place {
    let usual = "--data @data --net lunet --shrink 32 --size 32x32 --p 3 --k 2 --t1 12 --t0 6 --log-every 2";
    let place = Place::new(Program(env!("CARGO_BIN_EXE_triplet-reid")), usual);
    tree(&place.path("data"), 8, 4);
    place
}

/// Also with a reader who closes the pipe, as `| head` does: training goes on, and what only prints ends quietly.
#[test]
fn a_tree_of_photos_is_logged_scored_and_embedded_whoever_reads() {
    let place = place();
    let closed = |line: &str| {
        let mut child = place.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().expect("ends").code(), Some(0), "{line}");
    };
    has(&place.good("data --data @data"), "images");
    closed("data --data @data");
    closed("train @run");
    let log = place.log("run");
    let steps: Vec<u64> = log.iter().map(|line| line["step"].as_u64().expect("a step")).collect();
    assert_eq!(steps, [0, 2, 4, 6, 8, 10, 11]);
    for key in ["/loss", "/mean", "/mean_active", "/active", "/distance/p50", "/distance/p100", "/norm/mean", "/lr"] {
        assert!(log.iter().all(|line| line.pointer(key).is_some_and(serde_json::Value::is_number)), "{key}");
    }
    closed("evaluate @run --views original");
    assert!(place.path("run/results.json").exists());
    has(&place.good("evaluate @run --rerank"), "single query mAP|re-ranked|Not comparable");
    assert!((0. ..=1.).contains(&place.score("run", "single query mAP")));
    // Scores that were edited decide nothing, also not where others would stand.
    let whole = place.read("run/results.json");
    place.write("run/results.json", whole.replacen("\"step\": 12", "\"step\": 11", 1));
    assert_ne!(place.read("run/results.json"), whole);
    for more in ["", "--rerank", "--rerank --views original"] {
        let words = "run/results.json is not as it was written: move it away";
        place.bad(&[(1, &format!("evaluate @run {more}"), words)]);
    }
    place.write("run/results.json", whole);
    has(&place.read("run/report.html"), "data:image/jpeg;base64,");
    has(&place.good("embed @run --images @data --out @out.safetensors"), "32 embeddings of width 128");
    let embedded = rankle::weights::read(&place.path("out.safetensors")).expect("readable");
    assert_eq!((embedded[0].0.as_str(), embedded[0].1.size()), ("embeddings", vec![32, 128]));
    // A run among the photos is none of them.
    (0..2).for_each(|_| drop(place.good("train --run @data/run")));
    // Places that cannot be written, or hold nothing.
    fs::create_dir(place.path("none")).expect("folder");
    place.bad(&[
        (1, "train --run /proc/rankle-run", "/proc/rankle-run|--run"),
        (1, "embed @run --images @none --out @o.safetensors", "none|no images"),
    ]);
    // A full disk is a device with no room at all.
    if Path::new("/dev/full").exists() {
        place.bad(&[(1, "data --data @data --out /dev/full/x", "/dev/full/x")]);
    }
}

#[test]
fn flags_that_cannot_train_are_answered_in_one_line() {
    let place = place();
    place.bad(&[
        (2, "train @run --k 9223372036854775807", "--k|2 to 32768"),
        (2, "train @run --t1 18446744073709551615", "--t1"),
        (2, "train @run --loss triplet --triplets 1000000000000 ~--p ~--k", "--triplets"),
        (2, "train @run --margin 1e300", "--margin"),
        (2, "train @run --k 1", "--k|say 2"),
        (2, "train @run --p 1", "--p|say 2"),
        (1, "train @run --p 30", "--p 6 or fewer"),
        (2, "train @run --size 100", "--size|256x128"),
        (1, "train @run --size 100x50", "--size 100x50|multiples of 32"),
        (2, "train @run --shrink 3", "--shrink 3|2, 4, 8"),
        (2, "train @run --lr=-1", "--lr|above 0"),
        (2, "train @run --margin big", "--margin|soft"),
        (2, "train @run --loss lifted --margin soft", "--margin soft|--margin 0.2"),
        (2, "train @run --metric cosine", "--metric|cosine"),
        (1, "train @run --device cuda:7", "cuda:7|--device cpu"),
        (1, "train @run --validation 6", "hold out 6"),
        (2, "train @run --net trinet ~--shrink", "--weights FILE|--net lunet"),
        (1, "embed @nowhere --images x --out y", "nowhere"),
    ]);
    assert!(!place.path("run").exists(), "a refused start left a run folder");
    // What is to be known of the data does not stand before what is wrong.
    for (line, notes) in [("train @run --p 30", 0), ("train @run", 1)] {
        let said = place.ends(line).err;
        assert_eq!(said.matches("held out").count().min(1), notes, "{said}");
    }
}

/// `--data drawn` has LuNet for its network, and every default says so in the help; what is typed wins over all of them.
#[test]
fn defaults_chain_and_are_in_the_help() {
    let place = place();
    let help = place.program.good(&["train", "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    has(
        &help,
        "[default: 18; lunet: 32; drawn: 12]|[default: 256x128; lunet: 128x64; drawn: 64x32]|\
         [default: trinet; drawn: lunet]|\
         [default: soft; batch-hard-nonzero, lifted-pairs: 0.2; batch-all-nonzero: 0.5; lifted: 1]",
    );
    has(&place.program.good(&["train", "-h"]), "People a batch, P (Section 4.4) [default: 18]\n");
    let help = place.program.good(&["evaluate", "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    has(&help, "[default: trinet]|[default: 256x128; lunet: 128x64]");
    place.good("train @run --data drawn --t1 1 --loss lifted ~--net ~--k ~--t0");
    let flags = place.json("run/config.json")["flags"].clone();
    for (flag, value) in [("net", "lunet"), ("margin", "1"), ("size", "32x32")] {
        assert_eq!(flags[flag], value, "{flag}");
    }
    assert_eq!((flags["k"].as_u64(), flags["p"].as_u64(), flags["t0"].as_u64()), (Some(4), Some(3), Some(0)));
    has(&place.good("evaluate @run --views original"), "after 1 step");
    let results = place.read("run/results.json");
    has(
        &results,
        "--p 3 (Section 4.4: 32)|--loss lifted (Table 1: batch-hard)|--margin 1 (Section 2: soft)|--views original (Table 5: ten-crops)",
    );
    assert!(!results.contains("--triplets"), "a flag that is not looked at is no departure");
}

#[test]
fn bad_data_is_answered_in_one_line_that_names_it() {
    let place = place();
    fs::create_dir(place.path("empty")).expect("folder");
    tree(&place.path("one"), 1, 4);
    tree(&place.path("two"), 2, 4);
    place.bad(&[
        (1, "train @run --data @empty", "empty|no images"),
        (1, "train @run --data @one", "one|at least 2"),
        (1, "train @run --data @two", "two|--p 2 or fewer"),
    ]);
    let mut whole = std::io::Cursor::new(Vec::new());
    let image = RgbImage::from_fn(64, 128, |x, y| Rgb([x as u8 * 3, y as u8, 90]));
    image.write_to(&mut whole, image::ImageFormat::Jpeg).expect("a JPEG");
    let whole = whole.into_inner();
    // A 30,000 x 30,000 PNG is a few hundred bytes on disk and 2.7 GB in memory.
    for (name, bytes, word) in [
        ("truncated.jpg", whole[..whole.len() * 2 / 3].to_vec(), "truncated"),
        ("text.jpg", b"these are words, not a picture".to_vec(), "text.jpg"),
        ("nothing.jpg", Vec::new(), "nothing.jpg"),
        ("huge.png", crate::picture::png_header(30_000, 30_000), "30000"),
    ] {
        tree(&place.path(name), 8, 4);
        // In every person's folder, so that it lies among the training photos whichever are held out.
        (0..8).for_each(|person| place.write(&format!("{name}/{person:03}/{name}"), &bytes));
        place.bad(&[(1, &format!("train @run --data @{name}"), &format!("{name}|{word}"))]);
        has(&place.good(&format!("data --data @{name}")), name);
    }
    assert!(!place.path("run").exists());
}

#[test]
fn wrong_weights_are_named_before_anything_is_written() {
    let place = place();
    place.write("text.pth", "not weights");
    let wrong =
        vec![("conv1.weight".to_string(), tch::Tensor::zeros([64, 3, 7, 7], (tch::Kind::Float, tch::Device::Cpu)))];
    rankle::weights::save(&place.path("few.safetensors"), &wrong, None).expect("saved");
    for (file, words) in [
        ("missing.pth", "missing.pth"),
        ("text.pth", "text.pth"),
        ("few.safetensors", "few.safetensors|lacks bn1.bias|--weights"),
    ] {
        let line = format!("train @run --net trinet ~--shrink --weights @{file} --size 64x32 --t1 1 ~--t0 ~--k");
        place.bad(&[(1, &line, words)]);
    }
    let few = fs::read(place.path("few.safetensors")).expect("bytes");
    place.write("cut.safetensors", &few[..few.len() / 2]);
    // A backbone, as it comes for training, is no network to score.
    for (file, words) in
        [("few", "few.safetensors|another network"), ("cut", "cut.safetensors|fetch or write it again")]
    {
        let weights = format!("--net trinet --size 64x32 --weights @{file}.safetensors");
        place.bad(&[
            (1, &format!("evaluate {weights} --data @data"), words),
            (1, &format!("embed {weights} --images @data --out @o.safetensors"), words),
        ]);
    }
    assert!(!place.path("run").exists(), "a refused start leaves no claim on the folder");
}

/// The path of a run's data is seen from where it was typed.
#[test]
fn a_run_finds_its_data_from_another_folder() {
    let place = place();
    let from = |folder: &str, line: &str| {
        fs::create_dir_all(place.path(folder)).expect("made");
        let ended = place.ends_in(folder, line);
        (ended.code == Some(0), ended.err)
    };
    let evaluate = || from("elsewhere", "evaluate @run --views original");
    assert!(from("", "train @run --data data").0 && evaluate().0);
    let scored = || place.json("run/results.json")["scored"].clone();
    let before = scored();
    // One folder has many names, and no weights two; its checkpoints know the first.
    for (folder, line) in [("", "train @run --data ./data --weights none"), ("elsewhere", "train @run --data ../data")]
    {
        has(&place.ends_in(folder, line).well().err, "run is trained already");
    }
    // Others of that name are not taken while the run's are there, and not without a word when they are not.
    tree(&place.path("elsewhere/data"), 9, 4);
    let (good, said) = evaluate();
    has(&said, "note: --data data: |/data, with which the run was begun, is read, not what is here");
    assert!(good && scored() == before);
    let (good, said) = from("elsewhere", "train @run --data data");
    has(
        &said,
        "error: --data data: from here that is not |/data, which |start it again in the folder where it was begun",
    );
    assert!(!good);
    assert!(from("elsewhere", "train @again ~--data --config @run/config.json --t1 7").0);
    let data = place.json("again/config.json")["flags"]["data"].clone();
    assert_eq!(data, fs::canonicalize(place.path("data")).expect("a folder").to_string_lossy().into_owned());
    fs::rename(place.path("data"), place.path("moved")).expect("renamed");
    let (good, said) = evaluate();
    has(&said, "note: --data data: |/data, with which the run was begun, is gone: |elsewhere/data is taken for it");
    assert!(good && scored() != before);
    fs::remove_dir_all(place.path("elsewhere/data")).expect("removed");
    let (_, said) = evaluate();
    let began = fs::canonicalize(place.path("")).expect("a folder");
    has(
        &said,
        &format!(
            "error: --data data, as the run has it, seen from {}: where it was moved, |or give other --data",
            began.display()
        ),
    );
}

/// Nothing is its own answer, and what is kept is taken again as long as photos, network and flags are the same.
#[test]
fn search_finds_the_nearest_and_keeps_what_it_saw() {
    let place = super::paper("triplet-reid").trained();
    (0..6).for_each(|person| place.photo(&format!("gallery/{person}.png"), person, 1, 0));
    place.photo("query/a.png", 2, 1, 0);
    // Answers, and how many photos were known.
    let search_in = |gallery: &str, more: &str| {
        let line = format!("search @run --query @query @gallery/4.png --gallery {gallery} --top 3 --out @out {more}");
        let said = place.ends(&line).well().err;
        let known = said.lines().find(|line| line.contains(" of --gallery) known already, from "));
        let known: u32 = known.map_or(0, |line| line.split(' ').next().expect("a count").parse().expect("a count"));
        (place.json("out/answers.json")["queries"].clone(), known)
    };
    let search = |more: &str| search_in("@gallery", more);
    let (first, known) = search("");
    assert_eq!(known, 0);
    for (query, own) in [(0, "2.png"), (1, "4.png")] {
        let answers = first[query]["answers"].as_array().expect("answers");
        let distances: Vec<f64> = answers.iter().filter_map(|answer| answer["distance"].as_f64()).collect();
        assert!(answers.len() == 3 && distances.is_sorted() && distances[1] > distances[0], "{distances:?}");
        // A copy is an answer, and the photo itself is none.
        let found = answers.iter().any(|answer| answer["photo"] == own);
        assert_eq!((found, distances[0] < 1e-2), (query == 0, query == 0), "{answers:?}");
    }
    assert_eq!(search(""), (first.clone(), 8));
    assert_eq!(search("--views original").1, 0, "seen in another way");
    assert_eq!(search("--views original").1, 8);
    place.photo("gallery/3.png", 2, 1, 0);
    let (changed, known) = search("--views original");
    assert_eq!(known, 7);
    let distance = |i: usize| changed[0]["answers"][i]["distance"].as_f64().expect("a distance");
    assert!((distance(0) - distance(1)).abs() < 1e-3, "two photos of the query now: {changed}");
    // The same photos in another order, and others of the same names, sizes and times.
    std::fs::create_dir(place.path("copy")).expect("made");
    for person in 0..6 {
        let [from, to] = ["gallery", "copy"].map(|folder| place.path(&format!("{folder}/{person}.png")));
        std::fs::copy(&from, &to).expect("copied");
        let time = from.metadata().and_then(|found| found.modified()).expect("a time");
        std::fs::File::options().write(true).open(to).and_then(|file| file.set_modified(time)).expect("set");
    }
    assert_eq!(search("").1, 7);
    assert_eq!(search_in("@copy", "").1, 2, "another folder, but for the queries");
    for folders in ["@copy/0.png @copy/4.png", "@copy/4.png @copy/0.png"] {
        let (found, known) = search_in(folders, "");
        let name = found[1]["answers"][0]["photo"].as_str().expect("a name");
        assert!(known == 4 && name.ends_with("copy/4.png"), "{found}");
    }
    // What it was trained on are no photos, and people of such.
    tree(&place.path("own"), 4, 3);
    has(&place.ends("evaluate @run --data @own --views original").err, DRAWN);
    // Where nobody reads what is printed, files are written all the same.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let unread = "search @run --query @query --gallery @gallery --out @unread";
    Ended::of(place.command(unread).stdout(writer)).well();
    assert!(place.path("unread/answers.json").exists() && place.path("unread/report.html").exists());
    // A folder is embedded once, whatever verb asks.
    place.good("embed @run --images @gallery --out @rows.npz --kept @out/kept");
    assert!(!place.path("rows.npz.kept").exists());
    place.write("gallery/out.txt", "");
    let embed = "embed @run --images @gallery --out @y.npz --kept";
    place.bad(&[
        (1, &format!("{embed} @gallery/1.png"), "--kept|1.png: it is a file: name a folder"),
        (1, &format!("{embed} @run"), "--kept|/run: it is a run's folder: name another"),
        (1, &format!("{embed} @gallery/kept"), "--kept|beside it"),
        (1, &format!("{embed} @query"), "--kept|/query: it is a folder of photos: name another"),
        (1, "search @run --query @query --gallery @gallery --out @out --kept @query/kept", "--kept|beside it"),
        (1, "search @run --query @query --gallery @gallery --out @gallery/out", "--out|beside it"),
        (1, "search @run --query @gallery/1.png --gallery @gallery/1.png --out @out", "--gallery|--query"),
        (1, "search @run --query @none --gallery @gallery --out @out", "none"),
        (2, "search @run --query @query --gallery @gallery --out @out --top 0", "--top"),
    ]);
}

/// Scores while a run trains change none of its weights, go on after a kill as if there had been none, and say which
/// checkpoint was the best.
#[test]
fn the_best_checkpoint_is_kept() {
    let usual =
        "--data drawn --net lunet --shrink 32 --size 32x32 --p 3 --k 2 --t1 6 --validation 4 --checkpoint-every 4";
    let place = Place::new(Program(env!("CARGO_BIN_EXE_triplet-reid")), usual);
    let weights =
        |run: &str, file: &str| rankle::weights::read(&place.path(&format!("{run}/{file}"))).expect("weights");
    place.good("train @plain");
    place.good("train @run --score-every 2");
    assert_eq!(weights("plain", "checkpoint.safetensors"), weights("run", "checkpoint.safetensors"));
    let lines = place.log("run");
    let scores: Vec<(u64, f64)> =
        lines.iter().filter_map(|line| Some((line["step"].as_u64()? + 1, line["score"].as_f64()?))).collect();
    assert_eq!(scores.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [2, 4, 6]);
    let most = scores.iter().map(|(_, score)| *score).fold(0., f64::max);
    let (best, _) = scores.iter().find(|(_, score)| *score == most).expect("one");
    let said = place.said("evaluate @run --best --json");
    assert_eq!((said["step"].as_u64(), said["scores"]["single query mAP"].as_f64()), (Some(*best), Some(most)));
    assert!(place.path("run/best/report.html").exists() && !place.path("run/results.json").exists());
    has(&place.good("report @run"), "trained");
    has(&place.read("run/report.html"), "Score while it trained");
    let bytes = || {
        ["checkpoint", "best"].map(|name| std::fs::read(place.path(&format!("run/{name}.safetensors"))).expect("read"))
    };
    let (whole, log) = (bytes(), place.read("run/log.jsonl"));
    std::fs::remove_file(place.path("run/checkpoint.safetensors")).expect("removed");
    has(&place.ends("train @run --score-every 2").well().err, "checkpoint.safetensors is missing; going on from ");
    assert!(bytes() == whole && place.read("run/log.jsonl") == log);
    // What is no longer the best is said, and the best of what follows is kept in its place.
    std::fs::rename(place.path("run/checkpoint.safetensors"), place.path("run/best.safetensors")).expect("renamed");
    has(&place.ends("train @run --score-every 2").err, "run/best.safetensors is not what it was after step");
    let said = place.said("evaluate @run --best --json");
    assert_eq!(said["step"], 6);
    // Killed after it kept them and before its next checkpoint, a training that goes on without scores sets them aside.
    place.good("train @cut --score-every 6");
    std::fs::remove_file(place.path("cut/checkpoint.safetensors")).expect("removed");
    has(&place.ends("train @cut").well().err, "and set aside: best.step-6.safetensors");
    place.bad(&[
        (1, "evaluate @cut --best", "no best.safetensors|--score-every"),
        (2, "train @none ~--validation --score-every 2", "--score-every 2: say --validation"),
        (1, "evaluate @plain --best", "no best.safetensors|--score-every"),
        (2, "evaluate @run --best --untrained", "--untrained"),
    ]);
}
