//! What only multilabel-ranking has: lists and rows of features, both stages, VOC's score, its table, several processes.

use std::fs;

use rand::Rng;
use rankle::datasets::drawn::Shapes;
use tch::{CModule, Kind};

use crate::common::{Ended, Place, Program, has};

const MULTILABEL: Program = Program(env!("CARGO_BIN_EXE_multilabel-ranking"));
const SHORT: &str = "--epochs 1 --epochs2 1";
/// Ready-made features, which have no pixels.
const TOY: &str = "--data @toy --net mlp ~--size";

/// A plain list of drawn images, and rows of features in Mulan's files.
fn place() -> Place {
    let usual = "--data @data --net small --size 16 --batch 9 --epochs 2 --epochs2 2 --log-every 2";
    let place = Place::new(MULTILABEL, usual);
    let shapes = Shapes { side: 24, ..Shapes::default() };
    let names = ["disc", "square", "triangle", "ring", "cross", "bar", "striped", "dotted", "checked", "grid"];
    let mut list = "image,labels,split\n".to_string();
    for number in 0..60 {
        let (image, labels) = shapes.draw(number);
        image.save(place.made(&format!("data/images/{number}.png"))).expect("saved");
        let labels: Vec<&str> = labels.iter().map(|&class| names[class as usize]).collect();
        let split = if number < 40 { "train" } else { "test" };
        list.push_str(&format!("{number}.png,{},{split}\n", labels.join(";")));
    }
    place.write("data/labels.csv", list);
    let head = "@relation x\n@attribute a numeric\n@attribute b numeric\n@attribute up {0,1}\n@attribute right {0,1}\n@attribute far {0,1}\n@data\n";
    for (part, seed, count) in [("train", 1, 300), ("test", 2, 100)] {
        let mut rng = rankle::seed::at(seed, 0, 0);
        let row = |_| {
            let (a, b) = (rng.random_range(-1.0..1.0_f64), rng.random_range(-1.0..1.0_f64));
            let far = a * a + b * b > 0.5;
            format!("{a:.4},{b:.4},{},{},{}\n", u8::from(a > 0.), u8::from(b > 0.), u8::from(far))
        };
        place.write(&format!("toy-{part}.arff"), format!("{head}{}", (0..count).map(row).collect::<String>()));
    }
    place.write("toy.xml", "<labels><label name=\"up\"/><label name=\"right\"/><label name=\"far\"/></labels>");
    place
}

#[test]
fn images_are_learned_in_two_stages_and_shown() {
    let place = place();
    has(&place.good("data --data @data --out @card.json"), "train: 40 items|every image can be read");
    assert_eq!(place.json("card.json")["splits"][1]["items"], 20);
    let shown = place.good("reproduce @run");
    has(
        &shown,
        "label threshold|label count|oracle count|chosen on 4 dev items, set aside from the training items of|PC-F1|\
         AP an image|Not comparable with the paper: none of the paper's numbers are known here, its tables were not at hand.|\
         model.pt",
    );
    for remembered in ["73.5", "62.9", "68.3", "70.8"] {
        assert!(!shown.contains(&format!("{remembered} ")), "an unverified number is shown");
    }
    // 36 images to train on, 4 batches a pass, two stages of two passes.
    let stages: Vec<_> = place.log("run").iter().map(|line| (line["step"].as_u64(), line["stage"].as_u64())).collect();
    let steps = [(0, 1), (2, 1), (4, 1), (6, 1), (8, 2), (10, 2), (12, 2), (14, 2), (15, 2)];
    assert_eq!(stages, steps.map(|(step, stage)| (Some(step), Some(stage))));
    assert!((0. ..=1.).contains(&place.score("run", "label threshold: PC-F1")));
    assert_eq!(place.json("run/results.json")["claims"].as_array().map(Vec::len), Some(0));
    let page = place.read("run/report.html");
    has(
        &page,
        "By label|Thresholds|Calibration of the count|Images and labels|highest scores: |data:image/jpeg;base64,",
    );
    // Losses of both stages, active terms, bars by label, two histograms, two calibrations.
    assert_eq!(page.matches("<svg").count(), 8);
    has(&place.good("evaluate @run"), "20 test items");
    place.bad(&[(1, "evaluate @run --data @toy", "--data|rows of 2 features where the run was trained on images")]);

    let shown = place.good("embed @run --images @data/images --out @x.safetensors --decision count");
    has(&shown, "labels of 60 images");
    let found: std::collections::BTreeMap<_, _> =
        rankle::weights::read(&place.path("x.safetensors")).expect("readable").into_iter().collect();
    assert_eq!((found["scores"].size(), found["features"].size()), (vec![60, 10], vec![60, 128]));
    let counts = found["labels"].sum_dim_intlist(1, false, Kind::Int64);
    assert!(counts.ge(1).logical_and(&counts.le(4)).all().int64_value(&[]) == 1, "1 to 4 labels");
    let module = CModule::load(place.path("run/model.pt")).expect("loads");
    assert_eq!(module.forward_ts(&[crate::export::drawn(1, &[3, 3, 16, 16])]).expect("runs").size(), [3, 20]);
}

#[test]
fn features_are_learned_and_every_loss_and_head_trains() {
    let place = place();
    let shown = place.good(&format!(
        "reproduce @toy-run {TOY} --hidden 32 --epochs 30 --epochs2 30 --lr 0.05 --lr2 0.05 --dropout 0 \
         --head-input concat"
    ));
    let score = |name: &str| place.score("toy-run", name);
    assert!(score("AP an image") > 0.95 && score("label threshold: PC-F1") > 0.85, "{shown}");
    assert!(score("oracle count: OV-P") >= score("label count: OV-P") - 0.05);
    let table = format!("reproduce @table --table losses {TOY} --hidden 8 --most 2");
    let shown = place.good(&format!("{table} --seeds 1,2 --head-input logits --margin 2 --pairs 7"));
    has(&shown, "softmax|sigmoid|bp-mll|hinge|warp|lsep|±|best is|0-1 exact|oracle count|table.json");
    assert!(place.path("table/lsep-2/report.html").exists() && place.path("table/report.html").exists());
    // Mean and spread of the raw scores.
    let cells = place.json("table/table.json")["cells"].as_array().expect("cells").clone();
    assert_eq!(cells.len(), 12);
    let raw = |seed: usize| cells[seed]["scores"]["label count: PC-F1"].as_f64().expect("a score");
    let (mean, spread) = ((raw(0) + raw(1)) / 2., (raw(0) - raw(1)).abs() / 2_f64.sqrt());
    has(&shown, &format!("{:.2} ± {:.2}|± is the sample standard deviation", 100. * mean, 100. * spread));
    let flag = |cell: usize, flag: &str| cells[cell]["flags"][flag].as_f64().expect("a number");
    // Each loss has the flags that it looks at: hinge the margin, LSEP the pairs.
    assert_eq!((flag(6, "margin"), flag(10, "margin"), flag(6, "pairs"), flag(10, "pairs")), (2., 1., 1000., 7.));
    place.bad(&[
        (2, &format!("{table} --only lsep,sigmoid --margin 2"), "--margin has no effect here|leave it out"),
        (2, &format!("{table} --loss lsep"), "--loss|--only"),
        (
            1,
            "embed @toy-run --images @data/images --out @o.safetensors",
            "ready-made features|nothing to say of images",
        ),
    ]);
    has(&place.good("export @toy-run"), "3 scores f, then their thresholds");
}

#[test]
fn bad_input_is_answered_in_one_line() {
    let place = place();
    place.bad(&[
        (2, "train @run --loss warp --margin -1", "--margin|'-1'"),
        (2, "train @run --margin 1", "--margin has no effect here: leave it out, or say --loss hinge, warp"),
        (2, "train @run --loss hinge --pairs 10", "--pairs has no effect here|--loss lsep"),
        (2, "train @run --hidden 10", "--hidden has no effect here|--net mlp"),
        (2, "train @run --data @toy --net mlp --size 32", "--size has no effect here|--net vgg16, small"),
        (2, &format!("train @run {TOY} --augment flip"), "--augment has no effect here"),
        (2, "train @run --dropout 1", "--dropout|'1'"),
        (2, "train @run --dev 0.9", "--dev|'0.9'|0 to 0.5"),
        (2, "train @run --pairs 0", "--pairs|'0'"),
        (2, "train @run --most 11", "--most 11|2 to 10"),
        (2, &format!("train @run {TOY} --most 5"), "--most 5|2 to 3"),
        (2, "train @run --batch 1", "--batch|'1'"),
        (2, "train @run --size 8", "--size|'8'"),
        (2, "train @run --net mlp ~--size", "--net mlp|has images"),
        (2, "train @run --data @toy", "ready-made features|--net mlp"),
        (2, "train @run --net vgg16", "--weights FILE|scripts/fetch vgg16"),
        (2, "train @run --net vgg16 --weights none --size 24", "--size 24|32 to 1024"),
        (1, "train @run --net vgg16 --weights none.pth --size 32", "--weights|none.pth"),
        (2, "train @run --weights w.pth", "--weights has no effect here"),
        (1, "train @run --data data/VOC2007-gone", "no folder"),
    ]);
    assert!(!place.path("run").exists(), "a start that was refused leaves no folder");
    let bytes = fs::read(place.path("data/images/3.png")).expect("there");
    place.write("data/images/3.png", &bytes[..bytes.len() / 2]);
    place.bad(&[(1, "train @other", "1 of 60 images|3.png")]);
    has(&place.good("data --data @data"), "cannot use 1 image:");
}

#[test]
fn a_set_that_is_not_the_runs_is_refused_and_so_is_one_that_changed() {
    let place = place();
    place.good(&format!("train @run {SHORT}"));
    let list = place.read("data/labels.csv");
    // Whatever order its rows have, the same are set aside, and trained on.
    let scores = || {
        place.good("evaluate @run");
        let scores = place.json("run/results.json")["scores"].as_object().expect("scores").clone();
        scores.into_iter().map(|(name, score)| (name, score.as_f64().expect("a number"))).collect::<Vec<_>>()
    };
    let before = scores();
    let (head, rows) = list.split_once('\n').expect("rows");
    let reversed: Vec<&str> = std::iter::once(head).chain(rows.lines().rev()).collect();
    place.write("data/labels.csv", reversed.join("\n"));
    for ((name, score), (_, then)) in scores().into_iter().zip(before) {
        assert!((score - then).abs() < 1e-9, "{name}: {score}, {then} before");
    }
    place.good(&format!("train @run {SHORT}"));
    place.write("data/labels.csv", &list);
    std::os::unix::fs::symlink(place.path("data/images"), place.made("renamed/images")).expect("linked");
    // The same images under another name for one class; with its classes in another order; with one class more.
    for (list, words) in [
        (list.replace("disc", "dish"), "--data|class 4 is \"dish\" where the run was trained on \"disc\""),
        (list.replace("disc", "zero"), "class 4 is \"dotted\" where the run was trained on \"disc\""),
        (list.replace("disc", "disc;zebra"), "11 classes where the run was trained on 10"),
    ] {
        place.write("renamed/labels.csv", list);
        place.bad(&[(1, "evaluate @run --data @renamed", words)]);
    }
    // Photos to test alone, none of one class, are enough for a test.
    let fewer = list.replace(";disc", "").replace("disc;", "").replace("disc", "grid");
    let tested: Vec<&str> = fewer.lines().filter(|row| !row.ends_with(",train")).collect();
    place.write("renamed/labels.csv", tested.join("\n"));
    has(&place.good("evaluate @run --data @renamed"), "20 test items");
    has(&place.good("data --data @renamed"), "train refuses it: renamed has no labelled items to train on");
    let one = |row: &&str| format!("{},disc,test", row.split(',').next().expect("an image"));
    let head = "image,labels,split".to_string();
    place.write("renamed/labels.csv", [vec![head], tested[1..].iter().map(one).collect()].concat().join("\n"));
    has(&place.good("evaluate @run --data @renamed"), "20 test items");
    place.write("renamed/labels.csv", &list);
    has(&place.good("evaluate @run --data @renamed"), "20 test items");
    assert!(place.path("run/on-renamed/results.json").exists());
    // What was trained on is no test.
    let swapped = list.replace(",train\n", ",other\n").replace(",test\n", ",train\n").replace(",other\n", ",test\n");
    place.write("renamed/labels.csv", &swapped);
    place.bad(&[(1, "evaluate @run --data @renamed", "the run was trained on |test photos of renamed")]);
    // The run's own set, changed since.
    place.write("data/labels.csv", list.replace("ring", "rong"));
    place.bad(&[
        (1, "evaluate @run", "has changed since|was trained|\"rong\""),
        (1, &format!("train @run {SHORT}"), "the data of|are not what this run was started with"),
    ]);
    // What a run says of images needs no set at all.
    fs::remove_file(place.path("data/labels.csv")).expect("removed");
    place.good("embed @run --images @data/images --out @x.safetensors");
    place.good("export @run");

    // Rows of another width.
    place.good(&format!("train @toy-run {TOY} --most 2 {SHORT}"));
    for part in ["train", "test"] {
        let text = place.read(&format!("toy-{part}.arff"));
        let (head, rows) = text.split_once("@data\n").expect("data");
        let head = head.replace("@attribute up", "@attribute c numeric\n@attribute up");
        let rows: String = rows.lines().map(|row| format!("{}\n", row.replacen(',', ",0,", 1))).collect();
        place.write(&format!("wide-{part}.arff"), format!("{head}@data\n{rows}"));
    }
    fs::copy(place.path("toy.xml"), place.path("wide.xml")).expect("copied");
    let words = "rows of 3 features where the run was trained on rows of 2 features";
    place.bad(&[(1, "evaluate @toy-run --data @wide", words)]);
    has(&place.good("evaluate @toy-run --data @toy/"), "test items");
    // Columns in another order, of another set and then of the run's own, whose numbers mean something else.
    let turn = |from: &str, to: &str| {
        for part in ["train", "test"] {
            let text = place.read(&format!("{from}-{part}.arff"));
            let (head, rows) = text.split_once("@data\n").expect("data");
            let head = head
                .replace("@attribute a numeric\n@attribute b numeric", "@attribute b numeric\n@attribute a numeric");
            let turned = |row: &str| {
                let cells: Vec<&str> = row.splitn(3, ',').collect();
                format!("{},{},{}\n", cells[1], cells[0], cells[2])
            };
            place.write(
                &format!("{to}-{part}.arff"),
                format!("{head}@data\n{}", rows.lines().map(turned).collect::<String>()),
            );
        }
    };
    turn("toy", "turned");
    fs::copy(place.path("toy.xml"), place.path("turned.xml")).expect("copied");
    let words = "--data turned: other attributes than the run was trained on|(attribute 1 is \"b\", not \"a\")";
    place.bad(&[(1, "evaluate @toy-run --data @turned", words)]);
    turn("toy", "toy");
    place.bad(&[
        (1, "evaluate @toy-run", "has changed since the run was trained: other attributes than the run was trained on"),
        (1, &format!("train @toy-run {TOY} --most 2 {SHORT}"), "the data of|are not what this run was started with"),
    ]);
}

#[test]
fn without_dev_items_the_rivals_are_chosen_on_the_training_items_and_an_odd_batch_of_two_trains() {
    let place = place();
    // 35 images in batches of two: one of the seventeen has three.
    place.good(&format!("train @odd --dev 0.125 --batch 2 {SHORT} --log-every 1"));
    let log = place.log("odd");
    assert_eq!(log.len(), 34);
    let terms: Vec<u64> = log.iter().take(17).filter_map(|line| line["terms"].as_u64()).collect();
    assert_eq!((terms.iter().sum::<u64>(), terms.iter().min().copied()), (35, Some(2)));
    let shown = place.good(&format!("reproduce @none --dev 0 {SHORT}"));
    has(&shown, "chosen on the 40 training items themselves (none are set aside: optimistic)");
    assert!(!shown.contains("dev items"), "{shown}");
    let results = place.read("none/results.json");
    has(&results, "k and the one threshold of the rivals are chosen on what was trained on");
    assert!(!results.contains("VOC"), "only VOC has its score");
}

#[test]
fn voc_is_scored_by_its_own_rule_under_its_own_name() {
    let place = place();
    let shapes = Shapes { side: 24, ..Shapes::default() };
    let classes = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"];
    for number in 0..30 {
        let (image, labels) = shapes.draw(number);
        image.save(place.made(&format!("voc/JPEGImages/{number:06}.jpg"))).expect("saved");
        let object = |(i, &class): (usize, &u32)| {
            let difficult = u8::from(i > 0 && number % 3 == 0);
            format!("<object><name>{}</name><difficult>{difficult}</difficult></object>", classes[class as usize])
        };
        let objects: String = labels.iter().enumerate().map(object).collect();
        place.write(&format!("voc/Annotations/{number:06}.xml"), format!("<annotation>{objects}</annotation>"));
    }
    for (part, numbers) in [("trainval", 0..20), ("test", 20..30)] {
        let names: String = numbers.map(|number| format!("{number:06}\n")).collect();
        place.write(&format!("voc/ImageSets/Main/{part}.txt"), names);
    }
    let shown = place.good(&format!("reproduce @run --data @voc {SHORT}"));
    let score = |name: &str| place.score("run", name);
    let eleven = score("class mAP (VOC2007: 11 points, difficult ignored)");
    assert!(eleven > 0. && eleven != score("class mAP (step, difficult ignored)") && score("class mAP (step)") > 0.);
    has(&shown, "class mAP (VOC2007): the mean of the highest precisions");
}

#[cfg(feature = "distributed")]
#[test]
fn two_processes_take_the_steps_of_one() {
    use crate::collectives::{launch::Processes, resumed, runs};
    let place = place();
    let two = |line: &str| Processes::start(2, |_| place.command(line));
    // Both with dropout, which is drawn for the whole batch, and with sampled pairs.
    for (loss, seed) in [("lsep", "1"), ("softmax", "2")] {
        let more = format!(
            "{TOY} --hidden 16 --most 2 --loss {loss} --seed {seed} --batch 33 --log-every 1 --checkpoint-every 18 \
             --device cpu"
        );
        let [one, other] = ["one", "two"].map(|run| format!("{run}-{loss}"));
        place.good(&format!("train @{one} {more}"));
        two(&format!("train @{other} {more}")).good();
        let losses = |run: &str| -> Vec<f64> {
            place.log(run).iter().map(|line| line["loss"].as_f64().expect("a loss")).collect()
        };
        let (ours, theirs) = (losses(&other), losses(&one));
        assert_eq!(ours.len(), theirs.len());
        for (step, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.), "{loss}, step {step}: {a} is not {b}");
        }
        // Scores of two networks differ by a whole rank where two labels are near a tie: so the networks are compared, and
        // then one of them as several processes score it.
        let off = resumed::apart(&place, &other, &one, |_| true);
        assert!(off < 1e-3, "{loss}: the weights are {off} of their way apart");
        has(&runs::scores_of_three_are_those_of_one(&place, &other, "", 8), "test items");
    }
    // A network whose batch normalisation would see one image.
    let ends = two("train @few --batch 3 --device cpu").end();
    assert!(ends.iter().all(|ended| ended.code != Some(0)), "{}", ends[0].all());
    has(&ends[0].err, "--batch 3|--sync-batch-norm");
    two(&format!("train @synchronised --batch 3 --device cpu --sync-batch-norm {SHORT}")).good();
    for more in ["", "--table losses"] {
        let mut command = place.command(&format!("reproduce @run {TOY} {more}"));
        let met = [("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")];
        has(&Ended::of(command.envs(met)).err, "this verb takes one process");
    }
}

/// Labels, scores, thresholds and counts are those of `embed`.
#[test]
fn tags_are_what_embed_says() {
    let place = super::paper("multilabel-ranking").trained();
    (0..4).for_each(|person| place.photo(&format!("photos/{person}, a.png"), person, 1, 0));
    for decision in ["threshold", "count"] {
        place.good(&format!("tag @run --images @photos --out @tags --decision {decision}"));
        place.good(&format!("embed @run --images @photos --out @x.safetensors --decision {decision}"));
        let tensors: std::collections::HashMap<_, _> =
            rankle::weights::read(&place.path("x.safetensors")).expect("readable").into_iter().collect();
        let said = place.json("tags/tags.json");
        let mut lines = csv::Reader::from_path(place.path("tags/tags.csv")).expect("a list");
        let lines: Vec<csv::StringRecord> = lines.records().map(|line| line.expect("a line")).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(said["decision"], decision);
        has(&place.read("tags/report.html"), "labels are|count is|whatever the decision");
        for (row, line) in lines.iter().enumerate() {
            let photo = &said["photos"][row];
            assert!(photo["photo"] == line[0] && photo["count"] == line[1].parse::<i64>().expect("a count"), "{photo}");
            assert_eq!(photo["count"], tensors["counts"].int64_value(&[row as i64]));
            let labels = photo["labels"].as_array().expect("labels");
            assert_eq!(labels.len() as i64, tensors["labels"].get(row as i64).sum(tch::Kind::Int64).int64_value(&[]));
            // Of a photo without a label too there are scores.
            let highest = photo["highest"].as_array().expect("scores");
            assert!(highest.len() == 5 && highest.is_sorted_by(|a, b| a["score"].as_f64() >= b["score"].as_f64()));
            assert_eq!(line[5].split(';').collect::<Vec<_>>(), highest.iter().map(|k| &k["label"]).collect::<Vec<_>>());
            assert!(labels.iter().all(|label| labels.len() > 5 || highest.contains(label)));
            assert!(decision == "threshold" || photo["count"] == labels.len());
            for label in labels {
                let class = said["classes"].as_array().expect("classes").iter().position(|k| *k == label["label"]);
                let at = [row as i64, class.expect("a class") as i64];
                for (name, tensor) in [("score", "scores"), ("threshold", "thresholds")] {
                    crate::common::close(
                        label[name].as_f64().expect("a number"),
                        tensors[tensor].double_value(&at),
                        1e-6,
                    );
                }
                assert!(line[2].split(';').any(|word| label["label"] == word), "{line:?}");
            }
        }
    }
    // That nothing can be printed is no fault of the list's.
    if let Ok(full) = fs::File::options().write(true).open("/dev/full") {
        let line = "tag @run --images @photos --out @tags --json";
        let said = Ended::of(place.command(line).stdout(full)).err;
        let last = said.lines().last().expect("a line");
        assert!(last.starts_with("error: cannot write to standard output: "), "{said}");
    }
    // Where there is no place for another list, the last one stays.
    let (list, words) = (place.read("tags/tags.csv"), place.args("tag @run --images @photos --out @tags"));
    let mut full = std::process::Command::new("sh");
    full.args(["-c", "ulimit -f 0; exec \"$@\"", "sh", place.program.0]).args(&words);
    has(&Ended::of(&mut full).err, "error: cannot write|tags.csv");
    assert_eq!(place.read("tags/tags.csv"), list);
    // A row that its user added stays.
    let list = place.read("tags/tags.csv") + "mine.png,1,cat,1,0,cat,1,0\n";
    place.write("tags/tags.csv", &list);
    place.bad(&[(1, "tag @run --images @photos --out @tags", "--out|tags.csv: |changed since|name another")]);
    assert_eq!(place.read("tags/tags.csv"), list);
    fs::remove_file(place.path("tags/tags.csv")).expect("removed");
    place.good("tag @run --images @photos --out @tags");
}
