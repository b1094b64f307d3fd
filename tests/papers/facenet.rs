//! What only facenet has: face sets, variants, published weights, folds without outside data, Tables 3 to 5, baselines.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use image::RgbImage;
use rankle::datasets::drawn::face;
use rankle::device::machine::rows_that_fit;
use rankle::tasks::faces::bytes;

use crate::common::{Place, Program, close, has, rows, squared};

/// Drawn faces of people `range`, `shots` each, in LFW's grammar.
pub fn people(place: &Place, at: &str, range: std::ops::Range<u64>, shots: u64) {
    for (person, shot) in range.flat_map(|person| (0..shots).map(move |shot| (person, shot))) {
        let file = place.made(&format!("{at}/P{person:02}/P{person:02}_{:04}.png", shot + 1));
        face(3, person, shot, 20).save(file).expect("saved");
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

fn place() -> Place {
    let usual = "--data @data --net small --size 16 --shrink 8 --width 16 --people 4 --faces 3 --negatives 2 --chunk 5 \
                 --steps 8 --log-every 2 --lr 0.01";
    let place = Place::new(Program(env!("CARGO_BIN_EXE_facenet")), usual);
    people(&place, "data/train", 1..7, 4);
    people(&place, "data/test", 10..16, 3);
    place.write("data/pairs.txt", pairs(10));
    people(&place, "lfw/lfw", 20..26, 3);
    place.write("lfw/pairs.txt", pairs(20));
    place
}

#[test]
fn faces_are_verified_recognised_clustered_and_embedded() {
    let place = place();
    let card = place.good("data --data @data --out @card.json");
    has(&card, "18 pairs in 3 folds: 9 of one person, 9 of two|every image can be read");
    assert_eq!(place.json("card.json")["splits"][0]["identities"], 6);
    // `reproduce` ends with the baselines beside the network.
    let shown = place.good("reproduce @again --test @lfw --steps 2");
    has(&shown, "raw pixels|eigenfaces, whitened|small, untrained|small, trained|model.pt|tested on lfw");
    place.good("train @run");
    let log = place.log("run");
    assert_eq!(log.iter().map(|line| line["step"].as_u64()).collect::<Vec<_>>(), [0, 2, 4, 6, 7].map(Some));
    let rates: Vec<f64> = log.iter().map(|line| line["lr"].as_f64().expect("a rate")).collect();
    assert_eq!(rates[0], 0.01);
    assert!((rates[4] - 0.0001).abs() < 1e-12, "both drops are behind: {rates:?}");

    let shown = place.good("evaluate @run --enrolled 1,2 --neighbours 1");
    has(
        &shown,
        "accuracy|AUC|EER|VAL at FAR 0.001|16 bytes a face|recognition, 2 enrolled, k = 1|k-means|\
         Not comparable with the paper: data is not a test set",
    );
    assert!((0. ..=1.).contains(&place.score("run", "accuracy")));
    let results = place.json("run/results.json");
    assert!(results["claims"].as_array().expect("claims").iter().all(|claim| claim["ours"].is_null()));
    has(&place.read("run/report.html"), "ROC|False accepts|Clusters|<svg|data:image/jpeg;base64,");
    for variant in ["flip-averaged", "mean-subtracted", "flip-mean-subtracted"] {
        let shown = place.good(&format!("evaluate @run --variant {variant}"));
        has(&shown, &format!("variant {variant}"));
        assert_eq!(shown.contains("mirror image"), variant.contains("flip"), "{shown}");
        assert_eq!(shown.contains("mean of all test faces"), variant.contains("mean"), "{shown}");
    }
    let departures = place.json("run/results.json")["departures"].to_string();
    has(
        &departures,
        "--people 4 (Section 3.2: 45)|--faces 3 (Section 3.2: 40)|--width 16 (Section 5.4, Table 5: 128)|\
         --net: not a network of the paper|--lr 0.01 (Section 3.3: 0.05)|--shrink 8 (the paper: 1)",
    );
    for none in ["local response", "--crop", "--chunk"] {
        assert!(!departures.contains(none), "{departures}");
    }
    // Another test set: of another folder, without pairs.
    people(&place, "tree", 30..38, 3);
    let shown = place.good("evaluate @run --data @tree --crop 0.9");
    has(&shown, "all pairs VAL at FAR 0.001|among 24 test images"); // All eight people are tested.
    assert!(!shown.contains("accuracy SEM"), "{shown}");
    // Neither another set of that name nor other flags of scoring write over these scores.
    let kept = ["run/results.json", "run/on-tree-crop0.9/results.json"].map(|file| place.read(file));
    people(&place, "other/tree", 40..48, 3);
    has(&place.good("evaluate @run --data @other/tree --crop 0.9"), "run/on-tree-crop0.9-");
    has(&place.good("evaluate @run --data @tree --crop 0.9 --enrolled 2"), "run/on-tree-crop0.9/enrolled-2");
    assert_eq!(kept, ["run/results.json", "run/on-tree-crop0.9/results.json"].map(|file| place.read(file)));
    has(&place.good("evaluate @run --data @tree --crop 0.9"), "run/on-tree-crop0.9/results.json");
    assert_eq!(place.json("run/results.json")["data"], "data", "the run keeps its own scores");
    has(&place.good("evaluate --baselines --data @lfw"), "raw pixels|eigenfaces, whitened");

    let shown = place.good("embed @run --images @data/test --out @out.safetensors --flip");
    has(&shown, "18 embeddings of width 16");
    let embedded = place.tensor("out.safetensors");
    let length = embedded.square().sum_dim_intlist(1, false, tch::Kind::Double).sqrt();
    assert!((length - 1.).abs().max().double_value(&[]) < 1e-5, "unit rows");
    // What evaluate takes of how a photo is seen, embed takes, and says.
    let ended = place.ends("embed @run --images @data/test --out @cut.safetensors --flip --crop 0.8");
    has(&ended.err, "--crop 0.8 (the run's");
    let (cut, said) = rankle::weights::read_safetensors(&place.path("cut.safetensors")).expect("readable");
    assert!(cut[0].1 != embedded && said["crop"] == "0.8");
    place.bad(&[(2, "embed @run --images @data/test --out @cut.safetensors --crop 0", "--crop")]);
}

#[test]
fn without_outside_data_every_fold_has_a_network_of_its_own() {
    let place = place();
    let line = "--protocol lfw-no-outside-data --data @lfw --folds 1,3 --people 2 --negatives 0";
    let shown = place.good(&format!("reproduce @run {line}"));
    has(&shown, "2 of 3 folds|raw pixels|fold-01 ┆ 2 / 6|fold-03");
    let results = place.json("run/results.json");
    assert!(results["scores"]["accuracy SEM"].is_number());
    has(&results["protocol"].to_string(), "no outside data");
    has(&results["not_comparable_because"].to_string(), "has no number for this protocol");
    // A second start scores what is trained.
    has(&place.good(&format!("reproduce @run {line}")), "2 of 3 folds");
    has(&place.good("evaluate @run"), "2 of 3 folds");
    // Other folds: whom a network has seen is nobody to test.
    place.write("lfw/pairs.txt", pairs(20).replace("P24\t1\tP25", "P25\t1\tP24"));
    place.bad(&[
        (1, "evaluate @run", "the list that says what the run trains on (pairs) is another"),
        (1, &format!("train @run {line}"), "1 of other labels or content (pairs)"),
    ]);
    // Somebody in two folds, for the last two rows.
    place.write("lfw/pairs.txt", pairs(20).replace("P24\t1\tP25", "P24\t1\tP20"));
    place.bad(&[
        // The run of a fold is scored by the protocol, not alone.
        (1, "evaluate @run/fold-01", "fold-01|the folder above it"),
        (1, "evaluate @run --data drawn", "--protocol"),
        (2, "evaluate @run --variant mean-subtracted", "--variant"),
        (1, &format!("reproduce @other {line}"), "P20 is in more than one fold"),
        (1, "reproduce @other --protocol lfw-no-outside-data --data @lfw --folds 4", "--folds 4|1 to 3"),
    ]);
}

#[test]
fn tables_stand_beside_the_papers() {
    let place = place();
    let shown = place.good("reproduce @t4 --table 4 --steps 2 --people 3");
    has(&shown, "JPEG quality 10|67.3|25600 pixels (160x160)");
    assert_eq!(place.json("t4/table.json")["cells"].as_array().map(Vec::len), Some(11));
    assert_eq!(fs::read_dir(place.path("t4")).expect("a folder").flatten().filter(|e| e.path().is_dir()).count(), 1);
    has(&place.good("reproduce @t5 --table 5 --steps 2 --people 3 ~--width"), "86.8|512|the paper");
    assert!(place.path("t5/512-1/results.json").exists());
    place.bad(&[(2, "reproduce @t3 --table 3", "--table 3 goes through --")]);
    assert!(!place.path("t3").exists());
}

#[test]
fn published_weights_are_loaded_whole_or_not_at_all() {
    let place = place();
    // As facenet-pytorch's files: every tensor by its name, counters, and a classifier that is no part of this.
    let store = tch::nn::VarStore::new(tch::Device::Cpu);
    let at = rankle::models::layers::Scope::root(&store, 77);
    rankle::models::inception::Nn2::small2(&at, 96, 128, 1, true).expect("fits");
    let mut all: Vec<(String, tch::Tensor)> = store.variables().into_iter().collect();
    all.push(("logits.weight".into(), tch::Tensor::zeros([10, 128], (tch::Kind::Float, tch::Device::Cpu))));
    all.push(("bn1.num_batches_tracked".into(), tch::Tensor::from(5_i64)));
    let file = place.path("nn4.small2.v1.safetensors");
    rankle::weights::save(&file, &all, None).expect("saved");
    let usual = "--net nn4-small2-released --people 2 --faces 2 --steps 1 ~--size ~--shrink ~--width ~--chunk";
    let line = |run: &str, file: &str| format!("train @{run} --weights @{file} {usual}");
    let ended = place.ends(&line("whole", "nn4.small2.v1.safetensors")).well();
    has(&ended.err, "1 left out by name|1 counter ignored");
    // As they are, without a run: scored, embedded with and exported, into a folder that says what it is.
    let weights = "--net nn4-small2-released --weights @nn4.small2.v1.safetensors";
    let bare = |words: String| place.ends_in("", &words).well().out;
    has(&bare(format!("evaluate {weights} --data @lfw")), "lfw by |trained elsewhere|Not comparable|results.json");
    // Another network by the same file has a folder of its own, and each its scores again.
    let scores = |folder: &str| place.read(&format!("data/runs/facenet/nn4.small2.v1/{folder}/results.json"));
    let mut of_other = place.json("data/runs/facenet/nn4.small2.v1/on-lfw/results.json");
    let mark = of_other["run"].as_str().expect("a mark")[..8].to_string();
    of_other["run"] = "another".into();
    rankle::outputs::write_json(
        &place.path("data/runs/facenet/nn4.small2.v1/on-lfw/results.json"),
        "scores",
        &of_other,
    )
    .expect("written");
    let before = scores("on-lfw");
    for _ in 0..2 {
        has(&bare(format!("evaluate {weights} --data @lfw")), &format!("on-lfw-{mark}/results.json"));
    }
    assert_eq!(scores("on-lfw"), before);
    has(&bare(format!("export {weights}")), "data/runs/facenet/nn4.small2.v1/model.pt");
    bare(format!("embed {weights} --images @lfw/lfw --out @x.safetensors"));
    assert_eq!(place.tensor("x.safetensors").size()[1], 128);
    place.write("only/mine.pt", "weights");
    let said = place.json("data/runs/facenet/nn4.small2.v1/config.json");
    has(said["flags"]["weights"].as_str().expect("a file"), "nn4.small2.v1.safetensors");
    let departures = place.json("data/runs/facenet/nn4.small2.v1/on-lfw/results.json")["departures"].to_string();
    has(&departures, "how these weights were trained|--net: not a network of the paper|pixels enter");
    assert!(!departures.contains("--drops") && !departures.contains("AdaGrad"), "nothing of training: {departures}");
    place.bad(&[
        (2, &format!("evaluate ~--data {weights}"), "--weights|--data"),
        (2, "evaluate @whole --net nn1", "cannot be used with"),
        (2, &format!("evaluate @whole {weights}"), "--run|cannot be used with"),
        (
            1,
            "embed --net inception-resnet-v1 --weights @nn4.small2.v1.safetensors --images @lfw --out @y.safetensors",
            "--weights: |nn4.small2.v1.safetensors has |another network|taken for --net inception-resnet-v1",
        ),
        // What was not typed, and what to type.
        (1, "export --weights @nn4.small2.v1.safetensors", "--net nn2 (the default)|another network"),
        (1, "export --weights @facenet-casia-20180408.safetensors", "no such file|is for --net inception-resnet-v1"),
        (
            1,
            "export --run @data/runs/facenet/nn4.small2.v1",
            "no run: say --weights|--net nn4-small2-released in place of",
        ),
        (1, "export --run @only", "no run at|but weights: say --weights|only/mine.pt"),
    ]);
    assert!(place.ends("export").err.contains("<--run <DIR>|--weights <FILE>>"));
    // Bad files and photos are a line, whichever verb meets them.
    let whole = fs::read(&file).expect("bytes");
    place.write("cut.safetensors", &whole[..whole.len() / 2]);
    place.write("huge/a.png", crate::picture::png_header(20_000, 20_000));
    place.write("empty/readme.txt", "no photo");
    image::RgbImage::new(1, 1).save(place.made("one/a.png")).expect("saved");
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().expect("mkfifo").success());
    let (cut, out) = (weights.replace("nn4.small2.v1", "cut"), "--out @y.safetensors");
    place.bad(&[
        (1, &format!("evaluate {cut} --data @lfw"), "cut.safetensors|scripts/fetch openface-nn4-small2 gets"),
        (1, &format!("export {cut}"), "cut.safetensors|scripts/fetch openface-nn4-small2 gets"),
        (1, &format!("embed {cut} --images @lfw/lfw {out}"), "cut.safetensors"),
        (1, &format!("embed {weights} --images @huge {out}"), "a.png|20000 x 20000"),
        (1, &format!("embed {weights} --images @one {out}"), "a.png|1 x 1"),
        (1, &format!("embed {weights} --images @empty {out}"), "empty"),
        (1, &format!("embed {weights} --images @none {out}"), "none"),
        (1, &format!("embed {weights} --images @pipe {out}"), "pipe: it is a pipe: give the folder"),
        (1, &format!("embed {weights} --images @lfw/lfw --out /proc/y.safetensors"), "/proc|can be written"),
        (1, &format!("embed {weights} --images @lfw/lfw --out @none/y.safetensors"), "--out|no such folder"),
    ]);
    assert!(!place.path("y.safetensors").exists());
    // Another file of that name is refused before it is read.
    fs::create_dir(place.path("second")).expect("made");
    fs::copy(place.path("cut.safetensors"), place.path("second/nn4.small2.v1.safetensors")).expect("copied");
    for line in ["evaluate --data @lfw", "export"] {
        let second = format!("{line} --net nn4-small2-released --weights @second/nn4.small2.v1.safetensors");
        let ended = place.ends_in("", &second);
        assert_eq!(ended.code, Some(1));
        has(&ended.err, "data/runs/facenet/nn4.small2.v1 holds something else: move it");
    }
    // The same content elsewhere is the same network, other content at its path is none.
    fs::copy(&file, place.path("second/nn4.small2.v1.safetensors")).expect("copied");
    let second = weights.replace("@nn4", "@second/nn4");
    has(&bare(format!("evaluate {second} --data @lfw")), &format!("on-lfw-{mark}/results.json"));
    // A run that was begun in another folder finds from there what it is of.
    place.write("left-out.txt", "P01\n");
    bare(line("other", "nn4.small2.v1.safetensors").replace("@nn4", "nn4") + " --exclude left-out.txt");
    place.good("evaluate @other --untrained");
    // Scores need no list of who did not train, and no weights that training began with.
    fs::remove_file(place.path("left-out.txt")).expect("removed");
    place.write("here/nn4.small2.v1.safetensors", "another");
    let said = place.ends_in("here", "evaluate @other").well().err;
    has(&said, "note: --exclude left-out.txt is gone: ");
    assert!(!said.contains("is read, not what is here"), "{said}");
    let folds = format!(
        "{} --protocol lfw-no-outside-data --data @lfw --folds 1,3 --negatives 0",
        line("folds", "nn4.small2.v1.safetensors")
    );
    place.good(&folds);
    fs::remove_dir_all(place.path("folds/fold-03")).expect("removed");
    all.iter_mut().filter(|(name, _)| name == "ln.bias").for_each(|(_, x)| *x = &*x + 1.);
    rankle::weights::save(&file, &all, None).expect("saved");
    // All folds of a run begin from one file.
    place.bad(&[(1, &folds, "--weights is not the file that its other parts were begun from: restore it")]);
    has(
        &place.ends_in("", &format!("evaluate {weights} --data @lfw")).err,
        "nn4.small2.v1 holds something else: move it",
    );
    all.retain(|(name, _)| name != "ln.bias");
    rankle::weights::save(&file, &all, None).expect("saved");
    place.bad(&[
        (1, &line("part", "nn4.small2.v1.safetensors"), "--weights|lacks ln.bias"),
        (1, &line("none", "none.pt"), "--weights|none.pt"),
    ]);
    assert!(!place.path("part").exists() && !place.path("none").exists());
}

/// Whom nobody can train on can be looked at.
#[test]
fn the_card_of_few_people_lists_what_cannot_be_read() {
    let place = place();
    people(&place, "few", 1..4, 2);
    place.write("few/P01/broken.jpg", [0xff, 0xd8, 0xff]);
    has(&place.good("data --data @few"), "broken.jpg|train refuses it: few has 3 people|at least 4 needed");
    place.bad(&[(1, "train @run --data @few", "few has 3 people|at least 4 needed")]);
    has(&place.good("data --data @few --test @lfw"), "broken.jpg");
}

#[test]
fn bad_input_is_answered_in_one_line() {
    let place = place();
    place.bad(&[
        (1, "train @run --people 9", "6 people|--people 6"),
        (2, "train @run --margin -1", "--margin"),
        (2, "train @run --margin nan", "--margin"),
        (2, "train @run --chunk 1", "--chunk"),
        (2, "train @run --crop 0", "--crop"),
        (2, "train @run --drops 5,3", "--drops"),
        (1, "train @run --min-images 9", "--min-images"),
        (2, "train @run --weights w.pt", "--weights|--shrink"),
        (1, "train @run --exclude @none.txt", "none.txt"),
        (1, "train @run --data @lfw", "no training faces|--protocol lfw-no-outside-data"),
        (2, "evaluate --baselines", "required"),
        (2, "train @run --test lfw --protocol lfw-no-outside-data", "--test|leave it out"),
        (1, "evaluate --baselines --data @data/train", "no list of pairs"),
    ]);
    // An image that the list names is gone; one is no face crop; one is truncated.
    let (second, whole) = (place.path("data/test/P10/P10_0002.png"), place.path("data/test/P10/P10_0001.png"));
    fs::remove_file(&second).expect("removed");
    place.bad(&[(1, "train @run", "pairs.txt:2|P10_0002")]);
    RgbImage::new(60, 20).save(&second).expect("saved");
    place.bad(&[(1, "train @run", "P10_0002.png|60 x 20|no face crop")]);
    let whole = fs::read(whole).expect("an image");
    fs::write(&second, &whole[..whole.len() / 2]).expect("written");
    place.bad(&[(1, "train @run", "P10_0002.png|truncated")]);
    // Every person with one image.
    people(&place, "single/train", 1..4, 1);
    people(&place, "single/test", 5..7, 1);
    place.bad(&[(1, "train @run --data @single", "with one image")]);
    assert!(!place.path("run").exists(), "a refused start leaves nothing");
}

/// What the machine decides is a part of the run: it goes on with that, on another machine too.
#[test]
fn a_chunk_left_out_is_chosen_once() {
    let place = place();
    let chunk = |run: &str| place.json(&format!("{run}/config.json"))["flags"]["chunk"].clone();
    place.good("train @run ~--chunk --steps 2");
    assert_eq!(chunk("run"), 90);
    place.good("train @five --steps 2");
    has(&place.good("train @five ~--chunk --steps 2"), "trained");
    assert_eq!(chunk("five"), 5);
    place.bad(&[(1, "train @five --chunk 6 --steps 2", "--chunk (was 5, now 6)")]);
    // NN2's 58 MiB a face: 512 on a GPU of 80 GB.
    assert_eq!(rows_that_fit(80_000_000_000, bytes(224, 1)), 512);
    assert_eq!(rows_that_fit(1 << 30, bytes(224, 1)), 32);
}

/// People by clusters and by a few photos, with folders of links.
#[test]
fn people_are_clustered_and_found() {
    let place = place();
    place.good("train @run");
    people(&place, "two", 30..31, 3);
    // Copies, so that a person is certain whatever the network has learnt.
    for copy in 0..3 {
        for (name, from) in [("a", "two/P30/P30_0001.png"), ("deep/b", "data/test/P10/P10_0001.png")] {
            fs::copy(place.path(from), place.made(&format!("photos/{name}{copy}.png"))).expect("copied");
        }
    }
    place.good("cluster @run --images @photos --out @out --link @links --cluster-cut 0.00001");
    let said = place.json("out/clusters.json");
    let named = |end: &str| (0..3).map(|copy| format!("{end}{copy}.png")).collect::<Vec<_>>();
    assert_eq!(said["people"], serde_json::json!([named("a"), named("deep/b")]));
    let link = fs::read_link(place.path("links/person-0002/3-b2.png")).expect("a link");
    assert!(link.is_absolute() && link.ends_with("photos/deep/b2.png"), "{link:?}");
    has(&place.read("out/report.html"), "person 1: 3 photos|deep/b1.png");
    // A second start puts new links in the place of its own.
    place.good("cluster @run --images @photos/deep --out @out --link @links --cluster-cut 0.00001");
    assert!(place.path("links/person-0001/3-b2.png").is_symlink() && !place.path("links/person-0002").exists());
    // Also where a link leads to their folder.
    std::os::unix::fs::symlink(place.path("links"), place.path("led")).expect("linked");
    place.good("cluster @run --images @photos --out @out --link @led/ --cluster-cut 0.00001");
    assert!(place.path("links/person-0002/3-b2.png").is_symlink() && place.path("led").is_symlink());
    // Of ten and more, the numbers are as wide as the last, so that folders list them in order.
    for copy in 3..10 {
        fs::copy(place.path("photos/deep/b0.png"), place.made(&format!("ten/c{copy}.png"))).expect("copied");
    }
    place.good("cluster @run --images @photos/deep @ten --out @out --link @links --cluster-cut 0.00001");
    assert!(place.path("links/person-0001/01-b0.png").is_symlink());
    assert!(place.path("links/person-0001/10-c9.png").is_symlink());
    place.write("links/person-0001/mine", "");
    place.good("find @run --person @photos/a0.png --images @photos --top 3 --out @found --cluster-cut 0.00001");
    let found = place.json("found/found.json");
    let first: Vec<&str> =
        found["found"].as_array().expect("a list").iter().filter_map(|f| f["photo"].as_str()).collect();
    assert!(first.len() == 5 && first[..2] == ["a1.png", "a2.png"], "{first:?}");
    assert!(found["found"][1]["same"] == true && found["found"][2]["same"] == false);
    // What a copy is found by says nothing of the network.
    has(found["says"].as_str().expect("a sentence"), " 2 of the photos searched are copies of theirs, byte by byte.");
    // The mean squared distance to the person's photos, by loops over what embed writes.
    place.good("find @run --person @photos/a0.png @photos/deep/b0.png --images @photos --out @both");
    place.good("embed @run --images @photos --out @rows.safetensors");
    let metadata = rankle::weights::metadata(&place.path("rows.safetensors")).expect("metadata");
    let names: Vec<String> = serde_json::from_str(metadata["names"].as_str().expect("text")).expect("names");
    let x: BTreeMap<String, Vec<f64>> = names.into_iter().zip(rows(&place.tensor("rows.safetensors"))).collect();
    let both = place.json("both/found.json")["found"].as_array().expect("a list").clone();
    assert_eq!(both.len(), 4);
    for f in both {
        let to = |name: &str| squared(&x[f["photo"].as_str().expect("a name")], &x[name]);
        close(f["distance"].as_f64().expect("a number"), (to("a0.png") + to("deep/b0.png")) / 2., 1e-5);
    }
    // A name may become too long with a number before it: of that, the end.
    let long = place.path(&format!("photos/deep/{}.png", "é".repeat(125)));
    fs::copy(place.path("photos/deep/b0.png"), &long).expect("copied");
    fs::copy(place.path("two/P30/P30_0002.png"), place.path("photos/one.png")).expect("copied");
    let said = place.good("cluster @run --images @photos --out @out --link @long --cluster-cut 0.00001");
    has(&said, "8 photos show 2 people seen twice or more and 1 person seen once");
    has(
        &place.read("out/report.html"),
        "<details>|<b>1</b>person seen once|1 of 1 person, each with|one.png · person ",
    );
    let names =
        fs::read_dir(place.path("long/person-0001")).expect("a folder").flatten().map(|entry| entry.file_name());
    assert!(names.map(|name| name.into_string().expect("whole letters")).any(|name| name.ends_with("éé.png")));
    fs::remove_file(long).expect("removed");
    std::os::unix::fs::symlink("gone/at/all", place.path("nowhere")).expect("linked");
    // Of two at once the second is refused.
    let held = ["out", "long", "x.npz.kept"].map(|name| {
        fs::create_dir_all(place.path(name)).expect("made");
        let folder = fs::File::open(place.path(name)).expect("a folder");
        folder.lock().expect("locked");
        folder
    });
    place.bad(&[
        (1, "cluster @run --images @photos --out @out", "--out: another process is writing into |/out"),
        (1, "cluster @run --images @photos --out @new --link @long", "--link: another process is writing into |/long"),
        (
            1,
            "embed @run --images @photos --out @x.npz --kept @new",
            "--out |x.npz: another process is writing into |x.npz.kept",
        ),
    ]);
    assert!(!place.path("new").exists());
    drop(held);
    place.bad(&[
        (1, "cluster @run --images @photos --out @out --link @links", "--link|person-0001/mine|did not make it"),
        (1, "cluster @run --images @photos --out @out --link @photos/links", "--link|beside it"),
        (1, "cluster @run --images @photos --out @out --link @nowhere", "--link|no folder"),
        (1, "cluster @run --images @photos --out @nowhere", "--out|leads nowhere"),
        (1, "data --data @photos --out @missing/card.json", "--out|no such folder"),
        (1, "cluster @run --images @photos @none --out @out", "none"),
        (1, "find @run --person @photos --images @photos --out @found", "--images|--person"),
        (2, "cluster @run --images @photos --out @out --enrolled 1", "--enrolled"),
    ]);
}
