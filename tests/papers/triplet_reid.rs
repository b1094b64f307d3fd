//! What only triplet-reid has: its log, its defaults, its bad input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image::{Rgb, RgbImage};
use rand::Rng;
use tempfile::TempDir;

use crate::common::{Program, strs};

const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_triplet-reid"));

fn command(args: &[&str]) -> Command {
    PROGRAM.command(args)
}

#[track_caller]
fn good(args: &[&str]) -> String {
    PROGRAM.good(args)
}

#[track_caller]
fn bad(args: &[&str], code: i32, words: &[&str]) -> String {
    PROGRAM.bad(args, code, words)
}

/// Photos of `people` people, `shots` each, in a plain tree: a colour a person, noise a photo.
fn tree(at: &Path, people: u64, shots: u64) {
    for person in 0..people {
        let folder = at.join(format!("{person:03}"));
        fs::create_dir_all(&folder).expect("folder");
        let mut colour = rankle::seed::at(7, person, 0);
        let base: [u8; 3] = std::array::from_fn(|_| colour.random_range(40..200));
        for shot in 0..shots {
            let mut rng = rankle::seed::at(8, person, shot);
            let image =
                RgbImage::from_fn(32, 64, |_, _| Rgb(base.map(|c| c.saturating_add_signed(rng.random_range(-40..40)))));
            image.save(folder.join(format!("{shot}.png"))).expect("saved");
        }
    }
}

/// The smallest training there is.
const SMALL: [&str; 16] = [
    "--net",
    "lunet",
    "--shrink",
    "32",
    "--size",
    "32x32",
    "--p",
    "3",
    "--k",
    "2",
    "--t1",
    "12",
    "--t0",
    "6",
    "--log-every",
    "2",
];

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { dir: TempDir::new().expect("a temporary folder") };
        tree(&place.path("data"), 8, 4);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().to_string()
    }

    /// `train` on this place's data into run `name`, with more flags.
    fn train(&self, name: &str, more: &[&str]) -> Vec<String> {
        let mut args: Vec<String> =
            ["train", "--data", &self.text("data"), "--run", &self.text(name)].map(String::from).to_vec();
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
    let (data, at) = (place.text("data"), place.text("run"));
    assert!(good(&["data", "--data", &data]).contains("images"));
    let train = place.train("run", &[]);
    good(&strs(&train));
    let log = fs::read_to_string(place.path("run/log.jsonl")).expect("a log");
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        lines.iter().map(|line| line["step"].as_u64().expect("a step")).collect::<Vec<_>>(),
        [0, 2, 4, 6, 8, 10, 11]
    );
    for key in ["/loss", "/mean", "/mean_active", "/active", "/distance/p50", "/distance/p100", "/norm/mean", "/lr"] {
        assert!(lines.iter().all(|line| line.pointer(key).is_some_and(serde_json::Value::is_number)), "{key}");
    }
    assert!(good(&strs(&train)).contains("trained"), "a finished run says so again");

    let shown = good(&["evaluate", "--run", &at, "--rerank"]);
    assert!(shown.contains("single query mAP") && shown.contains("re-ranked") && shown.contains("Not comparable"));
    let results: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(place.path("run/results.json")).expect("results")).expect("JSON");
    let map = results["scores"]["single query mAP"].as_f64().expect("a score");
    assert!((0. ..=1.).contains(&map) && results["comparable"] == false);
    let page = fs::read_to_string(place.path("run/report.html")).expect("a report");
    assert!(page.contains("<svg") && page.contains("data:image/jpeg;base64,") && !page.contains("src=\"http"));

    assert!(good(&["evaluate", "--run", &at, "--untrained", "--views", "original"]).contains("after 0 steps"));
    assert!(place.path("run/untrained/results.json").exists());

    let out = place.text("out.safetensors");
    assert!(good(&["embed", "--run", &at, "--images", &data, "--out", &out]).contains("32 embeddings of width 128"));
    let embedded = rankle::weights::read(Path::new(&out)).expect("readable");
    assert_eq!((embedded[0].0.as_str(), embedded[0].1.size()), ("embeddings", vec![32, 128]));

    assert!(good(&["export", "--run", &at]).contains("model.pt"));
    assert!(place.path("run/model.pt").exists());
}

#[test]
fn a_damaged_checkpoint_falls_back_and_two_are_an_error() {
    let place = Place::new();
    let train = place.train("run", &["--checkpoint-every", "4"]);
    good(&strs(&train));
    let newest = place.path("run/checkpoint.safetensors");
    let whole = fs::read(&newest).expect("a checkpoint");
    fs::write(&newest, &whole[..whole.len() / 2]).expect("truncated");
    let output = command(&strs(&train)).output().expect("starts");
    assert!(output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("going on from"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(fs::read(&newest).expect("written again") == whole, "the end is the same");
    for name in ["run/checkpoint.safetensors", "run/checkpoint.before.safetensors"] {
        fs::write(place.path(name), b"{}").expect("damaged");
    }
    bad(&strs(&train), 1, &["no whole checkpoint", "--run"]);
    bad(&["evaluate", "--run", &place.text("run")], 1, &["no whole checkpoint"]);
}

#[test]
fn flags_that_cannot_train_are_answered_in_one_line() {
    let place = Place::new();
    // The last number: 2 where the command line says it wrong, 1 where the data or the machine do.
    let flags: [(&[&str], &[&str], i32); 17] = [
        (&["--k", "9223372036854775807"], &["--k", "2 to 32768"], 2),
        (&["--t1", "18446744073709551615"], &["--t1"], 2),
        (&["--loss", "triplet", "--triplets", "1000000000000"], &["--triplets"], 2),
        (&["--workers", "100000"], &["--workers"], 1),
        (&["--margin", "1e300"], &["--margin"], 2),
        (&["--k", "1"], &["--k", "say 2"], 2),
        (&["--p", "1"], &["--p", "say 2"], 2),
        (&["--p", "30"], &["--p 6 or fewer"], 1),
        (&["--size", "100"], &["--size", "256x128"], 2),
        (&["--size", "100x50"], &["--size 100x50", "multiples of 32"], 1),
        (&["--shrink", "3"], &["--shrink 3"], 1),
        (&["--lr=-1"], &["--lr", "above 0"], 2),
        (&["--margin", "big"], &["--margin", "soft"], 2),
        (&["--loss", "lifted", "--margin", "soft"], &["--margin soft", "--margin 0.2"], 2),
        (&["--metric", "cosine"], &["--metric", "cosine"], 2),
        (&["--device", "cuda:7"], &["cuda:7", "--device cpu"], 1),
        (&["--validation", "6"], &["hold out 6"], 1),
    ];
    for (more, words, code) in flags {
        let more: Vec<&str> = more.to_vec();
        let drop = if more.contains(&"--loss") { "--p --k" } else { "" };
        let args = place.train("run", &more).chunks(1).flatten().cloned().collect::<Vec<_>>();
        let args = without(args, drop);
        bad(&strs(&args), code, words);
        assert!(!place.path("run").exists(), "{more:?} left a run folder");
    }
    bad(&["train", "--net", "resnet"], 2, &["resnet"]);
    bad(&["train", "--data", &place.text("data")], 2, &["--weights FILE", "--net lunet"]);
    bad(&["embed", "--run", &place.text("nowhere"), "--images", "x", "--out", "y"], 1, &["nowhere"]);
}

/// The arguments without some flags and their values.
fn without(args: Vec<String>, flags: &str) -> Vec<String> {
    let mut left = Vec::new();
    let mut args = args.into_iter();
    while let Some(word) = args.next() {
        if !flags.is_empty() && flags.split(' ').any(|flag| word == flag) {
            args.next();
        } else {
            left.push(word);
        }
    }
    left
}

/// `--data drawn` has LuNet for its network, and every default says so in the help; what is typed wins over all of them.
#[test]
fn defaults_chain_and_are_in_the_help() {
    let help = good(&["train", "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "[default: 18; lunet: 32; drawn: 12]",
        "[default: 256x128; lunet: 128x64; drawn: 64x32]",
        "[default: trinet; drawn: lunet]",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
    let place = Place::new();
    let run = place.text("run");
    good(&[
        "train", "--data", "drawn", "--run", &run, "--t1", "1", "--size", "32x32", "--shrink", "32", "--loss",
        "lifted", "--p", "3",
    ]);
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(place.path("run/config.json")).expect("a file")).expect("JSON");
    let flags = &config["flags"];
    assert_eq!(
        (flags["net"].as_str(), flags["margin"].as_str(), flags["size"].as_str()),
        (Some("lunet"), Some("1"), Some("32x32"))
    );
    assert_eq!((flags["k"].as_u64(), flags["p"].as_u64(), flags["t0"].as_u64()), (Some(4), Some(3), Some(0)));
    let shown = good(&["evaluate", "--run", &run, "--views", "original"]);
    assert!(shown.contains("after 1 steps"), "{shown}");
    let results = fs::read_to_string(place.path("run/results.json")).expect("results");
    for words in ["--p 3 (Section 4.4: 32)", "--loss lifted (Table 1: batch-hard)", "--margin 1 (Section 2: soft)"] {
        assert!(results.contains(words), "{words}: {results}");
    }
    assert!(!results.contains("--triplets"), "a flag that is not looked at is no departure");
}

#[test]
fn bad_data_is_answered_in_one_line_that_names_it() {
    let place = Place::new();
    let args = |data: &str| {
        let mut args = place.train("run", &[]);
        args[2] = place.text(data);
        args
    };
    bad(&strs(&args("missing")), 1, &["missing"]);
    fs::create_dir(place.path("empty")).expect("folder");
    bad(&strs(&args("empty")), 1, &["empty", "no images"]);
    tree(&place.path("one"), 1, 4);
    bad(&strs(&args("one")), 1, &["one", "at least 2"]);
    tree(&place.path("two"), 2, 4);
    bad(&strs(&args("two")), 1, &["two", "--p 2 or fewer"]);

    let whole = {
        let image = RgbImage::from_fn(64, 128, |x, y| Rgb([x as u8 * 3, y as u8, 90]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Jpeg).expect("a JPEG");
        bytes.into_inner()
    };
    let broken: [(&str, Vec<u8>, &str); 3] = [
        ("truncated.jpg", whole[..whole.len() * 2 / 3].to_vec(), "truncated"),
        ("text.jpg", b"these are words, not a picture".to_vec(), "text.jpg"),
        ("nothing.jpg", Vec::new(), "nothing.jpg"),
    ];
    for (name, bytes, word) in broken {
        let data = format!("with-{name}");
        tree(&place.path(&data), 8, 4);
        // In every person's folder, so that it lies among the training photos whichever are held out.
        for person in 0..8 {
            fs::write(place.path(&data).join(format!("{person:03}")).join(name), &bytes).expect("written");
        }
        bad(&strs(&args(&data)), 1, &[name, word]);
        assert!(!place.path("run").exists());
        let card = good(&["data", "--data", &place.text(&data)]);
        assert!(card.contains(name), "{card}");
    }
    // A 30,000 x 30,000 PNG is a few hundred bytes on disk and 2.7 GB in memory.
    let huge = "huge.png";
    tree(&place.path("huge"), 8, 4);
    for person in 0..8 {
        fs::write(place.path("huge").join(format!("{person:03}")).join(huge), png_header(30_000, 30_000))
            .expect("written");
    }
    bad(&strs(&args("huge")), 1, &[huge, "30000"]);
}

/// A PNG's signature, header, an empty data chunk and the end: a decoder must refuse before it reads on.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let crc = chunk.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    });
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    png.extend(13_u32.to_be_bytes());
    png.extend(&chunk);
    png.extend((!crc).to_be_bytes());
    png.extend(0_u32.to_be_bytes());
    png.extend(b"IDAT\x35\xaf\x06\x1e");
    png.extend(0_u32.to_be_bytes());
    png.extend(b"IEND\xae\x42\x60\x82");
    png
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let place = Place::new();
    // A file where the folder should be: read-only folders do not stop root, who runs many a container.
    fs::write(place.path("file"), "x").expect("written");
    let mut args = place.train("file/run", &[]);
    bad(&strs(&args), 1, &["file/run", "--run"]);
    args[4] = "/proc/rankle-run".into();
    bad(&strs(&args), 1, &["/proc/rankle-run", "--run"]);
    good(&strs(&place.train("run", &[])));
    let out = place.text("file/out.safetensors");
    bad(
        &["embed", "--run", &place.text("run"), "--images", &place.text("data"), "--out", &out],
        1,
        &["out.safetensors"],
    );
    fs::create_dir(place.path("none")).expect("folder");
    bad(
        &["embed", "--run", &place.text("run"), "--images", &place.text("none"), "--out", &place.text("o.safetensors")],
        1,
        &["none", "no images"],
    );
    // A full disk is a device with no room at all.
    if Path::new("/dev/full").exists() {
        bad(&["data", "--data", &place.text("data"), "--out", "/dev/full/x"], 1, &["/dev/full/x"]);
    }
}

/// `| head` closes the pipe: training goes on without a reader, and what only prints ends quietly.
#[test]
fn a_closed_pipe_is_no_error() {
    let place = Place::new();
    let closed = |args: &[String]| {
        let mut child = command(&strs(args)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        drop((child.stdout.take(), child.stderr.take()));
        child.wait().expect("ends").code()
    };
    assert_eq!(closed(&place.train("run", &[])), Some(0));
    assert!(place.path("run/checkpoint.safetensors").exists());
    assert_eq!(closed(&["evaluate", "--run", &place.text("run"), "--views", "original"].map(String::from)), Some(0));
    assert!(place.path("run/results.json").exists());
    assert_eq!(closed(&["data", "--data", &place.text("data")].map(String::from)), Some(0));
}

#[test]
fn wrong_weights_are_named_before_anything_is_written() {
    let place = Place::new();
    let run = place.text("run");
    let args = |file: &str| -> Vec<String> {
        [
            "train",
            "--data",
            &place.text("data"),
            "--run",
            &run,
            "--weights",
            file,
            "--size",
            "64x32",
            "--p",
            "3",
            "--t1",
            "1",
        ]
        .map(String::from)
        .to_vec()
    };
    bad(&strs(&args(&place.text("missing.pth"))), 1, &["missing.pth"]);
    fs::write(place.path("text.pth"), "not weights").expect("written");
    bad(&strs(&args(&place.text("text.pth"))), 1, &["text.pth"]);
    let wrong =
        vec![("conv1.weight".to_string(), tch::Tensor::zeros([64, 3, 7, 7], (tch::Kind::Float, tch::Device::Cpu)))];
    rankle::weights::save(&place.path("few.safetensors"), &wrong, None).expect("saved");
    bad(&strs(&args(&place.text("few.safetensors"))), 1, &["few.safetensors", "lacks bn1.bias", "--weights"]);
    assert!(!place.path("run").exists(), "a refused start leaves no claim on the folder");
}
