//! The list of what scripts/fetch gets, and messages that name it.

use std::path::Path;
use std::process::Command;

use rankle::catalog;
use rankle::datasets::{self, faces};
use rankle::weights::{self, Published};

use crate::common::{Ended, line};

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

/// Of several files that fit a network the one that is named, else the first; each is in the list.
#[test]
fn published_weights_name_the_set_that_holds_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let (faces, store) = (Published::INCEPTION_RESNET_V1, tch::nn::VarStore::new(tch::Device::Cpu));
    for (file, name) in [
        ("facenet-casia-20180408.safetensors", "facenet-casia-20180408"),
        ("20180408-102900-casia-webface.pt", "facenet-casia"),
        ("20180402-114759-vggface2.pt", "facenet-vggface2"),
        ("mine.pt", "facenet-casia-20180408"),
        ("vgg16-397923af.pth", "facenet-casia-20180408"),
    ] {
        let file = folder.path().join(file);
        std::fs::write(&file, b"\x40\0\0\0\0\0\0\0{ cut").expect("written");
        let error = line(weights::start(&store, &file, &faces));
        assert!(error.starts_with(&format!("--weights: {}", file.display())), "{error}");
        assert!(error.contains(&format!(" (scripts/fetch {name} gets ")) && error.ends_with(')'), "{error}");
    }
    let resnets = [Published::RESNET50, Published::TRINET, Published::GOOGLENET, Published::VGG16];
    let others = [Published::ALEXNET_CONV2, Published::ALEXNET, Published::BN_INCEPTION, Published::NN4_SMALL2, faces];
    for published in resnets.into_iter().chain(others) {
        assert!(!published.fetch.is_empty() && published.fetch.iter().all(|name| !catalog::title(name).is_empty()));
    }
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
fn every_binary_names_the_command() {
    let place = tempfile::tempdir().expect("a folder");
    let (facenet, multilabel) = (env!("CARGO_BIN_EXE_facenet"), env!("CARGO_BIN_EXE_multilabel-ranking"));
    let (quadruplet, skill) = (env!("CARGO_BIN_EXE_quadruplet"), env!("CARGO_BIN_EXE_skill-determination"));
    let triplet = env!("CARGO_BIN_EXE_triplet-reid");
    for (binary, words, name) in [
        (triplet, "data --data no/MARS", "mars"),
        (facenet, "data --data no/lfw", "lfw"),
        (quadruplet, "data --data no/VIPeR", "viper"),
        (multilabel, "data --data no/coco2014", "coco2014"),
        (skill, "data --data no/epic-skills", "epic-skills"),
        (triplet, "train --data drawn --net trinet --weights no/resnet50-0676ba61.pth", "resnet50"),
        (facenet, "train --data drawn --net googlenet --size 64 --weights no/googlenet-1378be20.pth", "googlenet"),
        (quadruplet, "train --data drawn --net alexnet --weights no/alexnet-owt-7be5be79.pth", "alexnet"),
        (multilabel, "train --data drawn --net vgg16 --weights no/vgg16-397923af.pth", "vgg16"),
        (skill, "train --data drawn --net bn-inception --weights no/bn_inception-52deb4733.pth", "bn-inception"),
    ] {
        let mut command = Command::new(binary);
        command.args(words.split(' ')).current_dir(&place);
        if words.starts_with("train") {
            let run = if binary == skill { "of-streams" } else { "run" };
            command.arg("--run").arg(place.path().join(run));
        }
        let Ended { code, err: said, .. } = Ended::of(&mut command);
        assert_eq!(code, Some(1), "{words}: {said}");
        let last = said.trim_end().lines().last().unwrap_or_default();
        assert!(last.contains(&format!("scripts/fetch {name} gets")), "{words}: {said}");
        // Where there are several streams the flags are written before the first begins.
        assert!(!place.path().join("run").exists(), "{words}");
    }
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
    assert_eq!(catalog::counts("cuhk03", "people"), [843, 440, 77, 58, 49]);
    assert_eq!(catalog::lacks("viper", "VIPeR", "", |name| name == "cam_a/000_45.bmp"), None);
    let missing = catalog::lacks("viper", "VIPeR", "cam_", |_| false);
    assert_eq!(missing.as_deref(), Some("not the published VIPeR: cam_a/000_45.bmp is missing"));
    assert_eq!(catalog::fetch("mulan"), "scripts/fetch mulan");
    assert!(std::panic::catch_unwind(|| catalog::fetch("mulann")).is_err());
    assert_eq!(catalog::fetch_for(Path::new("data/weights")), None);
    assert_eq!(catalog::fetch_for(Path::new("")), None);
}
