//! `scripts/fetch` and `scripts/convert`: their tests are Python beside this file (against a host on 127.0.0.1 that
//! stalls, cuts, lies and redirects), and run here so that one command covers all.

use std::path::Path;
use std::process::Command;

use rankle::datasets::{self, catalog, faces};
use rankle::weights;

#[test]
fn python_tests_of_fetching() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fetch");
    let run = Command::new("python3")
        .args(["-B", "-W", "error::SyntaxWarning", "-m", "unittest", "discover", "-s", "."])
        .current_dir(folder)
        .output()
        .expect("python3, which scripts/fetch and scripts/setup need");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let skipped: Vec<&str> = said.lines().filter(|line| line.contains("skipped: ")).collect();
    println!("{}", skipped.join("\n"));
    assert!(said.contains("\nRan "), "{said}");
}

/// The error's only line.
fn line<T>(result: anyhow::Result<T>) -> String {
    let text = format!("{:#}", result.err().expect("an error"));
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn missing_data_sets_and_weights_name_the_command_that_gets_them() {
    let nowhere = Path::new("no/such/data");
    for (folder, name) in [("Market-1501-v15.09.15", "market1501"), ("MARS", "mars"), ("pku-reid", "pku-reid")] {
        let error = line(datasets::open(&nowhere.join(folder)));
        assert!(error.ends_with(&format!("{folder}: scripts/fetch {name} gets it")), "{error}");
    }
    for (folder, name) in [("lfw", "lfw"), ("lfw/lfw", "lfw"), ("ytf", "ytf"), ("orl-faces/", "orl-faces")] {
        let error = line(faces::open(&nowhere.join(folder)));
        assert!(error.ends_with(&format!("scripts/fetch {name} gets it")), "{error}");
    }
    let error = line(datasets::open(&nowhere.join("mine")));
    assert!(error.ends_with("scripts/fetch --list for the sets it can get"), "{error}");
    let error = line(weights::read(&nowhere.join("resnet50-0676ba61.pth")));
    assert!(error.ends_with("resnet50-0676ba61.pth: no such file; scripts/fetch resnet50 gets it"), "{error}");
    let error = line(weights::read(&nowhere.join("lfw/mine.pth")));
    assert!(error.ends_with("mine.pth: no such file; name the file of weights"), "{error}");
}

#[test]
fn a_folder_that_lacks_a_part_names_the_command() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("MARS");
    std::fs::create_dir_all(dir.join("bbox_train")).expect("a folder");
    let error = line(datasets::open(&dir));
    assert!(error.contains("bbox_test is missing") && error.ends_with("scripts/fetch mars gets it whole"), "{error}");
}

#[test]
fn a_binary_names_the_command() {
    let run = Command::new(env!("CARGO_BIN_EXE_triplet-reid")).args(["data", "--data", "data/no/MARS"]).output();
    let run = run.expect("a run");
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.trim_end().ends_with("scripts/fetch mars gets it"), "{said}");
}

#[test]
fn the_list_has_what_loaders_ask_of_it() {
    assert_eq!(catalog::count("market1501", "train_images"), 12_936);
    assert_eq!(catalog::count("mars", "test_tracklets"), 12_180);
    assert_eq!(catalog::count("voc2007", "test_images"), 4_952);
    assert_eq!(catalog::count("coco2014", "train_images"), 82_783);
    assert_eq!(catalog::count("nus-wide", "test_images"), 107_859);
    assert_eq!(catalog::count("lfw", "people"), 5_749);
    assert_eq!(catalog::sample("market1501"), ["bounding_box_train/0002_c1s1_000451_03.jpg"]);
    assert_eq!(catalog::fetch("mulan"), "scripts/fetch mulan");
    assert!(std::panic::catch_unwind(|| catalog::fetch("mulann")).is_err());
    assert_eq!(catalog::fetch_for(Path::new("data/weights")), None);
    assert_eq!(catalog::fetch_for(Path::new("")), None);
}
