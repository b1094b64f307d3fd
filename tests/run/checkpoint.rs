//! Checkpoints: what is noticed of damage and edits, and what is taken instead.

use std::fs;
use std::os::unix::fs::symlink;

use rankle::hyper;
use rankle::optim::{Optimizer, Rule};
use rankle::run::checkpoint::{self, BEFORE, NEWEST, Progress, check_logs, check_start};
use rankle::run::config::Config;
use rankle::run::folder::{Log, Mark, RunFolder};
use rankle::run::scores::{BEST, Scores};
use rankle::weights::{read, read_safetensors, read_sealed};
use serde_json::{Value, json};
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

use super::Small;

#[test]
fn checkpoints_keep_the_one_before() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = RunFolder::open(place.path()).expect("open");
    let mut store = VarStore::new(Device::Cpu);
    let x = (store.root() / "part").var("x", &[3], Init::Const(1.));
    let mut optimizer = Optimizer::new(Rule::ADAM, 0., &store);
    let config = Config::new("p", hyper::flags(&json!({"lr": 0.1})), Value::Null, "cpu").expect("a configuration");
    let mined = Tensor::from_slice(&[4_i64, 5]);
    for step in 1..=3 {
        optimizer.zero_grad();
        x.square().sum(Kind::Float).backward();
        optimizer.step(0.1, 0.9);
        let progress = Progress::new(step, Mark::default(), "{}".into(), &config);
        checkpoint::save(&folder, &store, &optimizer, &[("mined".into(), mined.shallow_clone())], &progress)
            .expect("saved");
    }
    let saved = x.copy();
    tch::no_grad(|| drop(x.shallow_clone().fill_(0.)));
    let mut other = Optimizer::new(Rule::ADAM, 0., &store);
    let loaded = checkpoint::load(place.path(), &config, &mut store, Some(&mut other)).expect("loads").expect("there");
    assert_eq!((loaded.progress.step, loaded.progress.log, loaded.note), (3, Mark::default(), None));
    assert!(x.equal(&saved) && loaded.extra["mined"].equal(&mined));
    for ((a, x), (b, y)) in optimizer.state().into_iter().zip(other.state()) {
        assert!(a == b && x.equal(&y), "{a}");
    }
    // Every single truncation of the newest falls back to the one before, whole.
    let newest = place.path().join(checkpoint::NEWEST);
    let whole = std::fs::read(&newest).expect("bytes");
    for cut in (0..whole.len()).step_by(7) {
        std::fs::write(&newest, &whole[..cut]).expect("cut");
        let loaded =
            checkpoint::load(place.path(), &config, &mut store, Some(&mut other)).expect("falls back").expect("there");
        assert_eq!(loaded.progress.step, 2);
        assert!(loaded.note.is_some_and(|note| note.contains("step 2")));
        // Who goes on has put it aside, so that the next one does not push out the one before.
        assert!(!newest.exists() && std::fs::read(place.path().join("checkpoint.damaged.safetensors")).is_ok());
    }
    // Nor is a link replaced, which would part it from what it leads to.
    std::fs::rename(place.path().join("checkpoint.damaged.safetensors"), place.path().join("kept")).expect("moved");
    symlink("kept", &newest).expect("a link");
    let linked = checkpoint::load(place.path(), &config, &mut store, Some(&mut other)).expect_err("refused");
    assert!(linked.to_string().contains("is a link"), "{linked}");
    std::fs::remove_file(&newest).expect("removed");
    let nowhere = tempfile::tempdir().expect("a folder");
    assert!(checkpoint::load(nowhere.path(), &config, &mut store, None).expect("none").is_none());
    // Other flags than the checkpoint's are refused, not taken for damage.
    std::fs::write(&newest, &whole).expect("whole again");
    let other = Config::new("p", hyper::flags(&json!({"lr": 0.2})), Value::Null, "cpu").expect("a configuration");
    let error = checkpoint::load(place.path(), &other, &mut store, None).expect_err("refused").to_string();
    assert!(error.contains("other flags") && error.contains("config.json"), "{error}");
    // Another network is refused by name.
    let mut wider = VarStore::new(Device::Cpu);
    let _x = (wider.root() / "part").var("x", &[4], Init::Const(1.));
    std::fs::write(&newest, &whole).expect("whole again");
    let error = format!("{:#}", checkpoint::load(place.path(), &config, &mut wider, None).expect_err("refused"));
    assert!(error.contains("part.x") && error.contains("[3]"), "{error}");
}

/// In the header's length, the header, the hash and the numbers: the checkpoint before is taken, and it is said.
#[test]
fn a_flipped_bit_in_any_byte_of_a_checkpoint_is_noticed() {
    let mut small = Small::new();
    let newest = small.at().join(NEWEST);
    let whole = fs::read(&newest).expect("bytes");
    assert_eq!(small.load(), Ok((2, String::new())));
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        fs::write(&newest, &bytes).expect("flipped");
        let (step, note) = small.load().expect("the one before");
        assert!(step == 1 && note.contains(NEWEST) && note.contains("step 1"), "byte {place}: {step} {note}");
    }
    // Edits by hand that leave a whole file: a step, an optimiser's tensor, a kind, what an older version wrote.
    let text = |bytes: &[u8]| bytes.iter().map(|&byte| byte as char).collect::<String>();
    for (from, to) in [
        (r#"step\":2"#, r#"step\":7"#),
        ("optimizer.first", "optimizer.fisrt"),
        (r#""F32""#, r#""I32""#),
        ("rankle.blake3", "rankle.blake4"),
    ] {
        let edited = text(&whole).replacen(from, to, 1);
        assert_ne!(edited, text(&whole), "{from}");
        fs::write(&newest, edited.chars().map(|c| c as u8).collect::<Vec<_>>()).expect("edited");
        assert_eq!(small.load().expect("the one before").0, 1, "{from}");
    }
    // None is left where both are damaged.
    fs::copy(&newest, small.at().join(BEFORE)).expect("copied");
    let error = small.load().expect_err("none");
    assert!(error.contains("no whole checkpoint") && error.contains("hash"), "{error}");
    // Nobody else has them.
    [&newest, &small.at().join(BEFORE)].iter().for_each(|file| fs::write(file, "cut").expect("cut"));
    let error = small.load().expect_err("none");
    assert!(error.contains("train again into another --run") && !error.contains("fetch"), "{error}");
}

/// Either is a whole file of the same run; each says inside which it is.
#[test]
fn the_best_checkpoint_is_not_taken_for_the_newest_nor_the_other_way_round() {
    let mut small = Small::new();
    let (newest, best) = (small.at().join(NEWEST), small.at().join(BEST));
    let folder = RunFolder::open(small.at()).expect("open");
    let progress = Progress::new(1, Mark::default(), String::new(), &small.config);
    checkpoint::save_best(&folder, &small.store, &progress).expect("saved");
    assert_eq!(
        checkpoint::load_best(small.place.path(), &small.config, &mut small.store).expect("loaded").known.step,
        1
    );
    let whole = fs::read(&newest).expect("read");
    fs::copy(&best, &newest).expect("copied");
    let (step, note) = small.load().expect("the one before");
    assert!(step == 1 && note.contains("checkpoint.safetensors is a copy of best.safetensors"), "{note}");
    fs::write(&best, whole).expect("written");
    let error = checkpoint::load_best(small.place.path(), &small.config, &mut small.store).expect_err("the newest");
    assert!(error.to_string().contains("best.safetensors is a copy of checkpoint.safetensors: restore"), "{error}");
    fs::write(&best, "cut").expect("cut");
    let error = checkpoint::load_best(small.place.path(), &small.config, &mut small.store).expect_err("cut");
    assert!(error.to_string().ends_with(": restore what was there, or train again into another --run"), "{error}");
}

/// Nor is the best one of an earlier step, put back by hand, which the log tells; what a training that was told so keeps is.
#[test]
fn an_older_best_checkpoint_is_refused() {
    let mut small = Small::new();
    let folder = RunFolder::open(small.at()).expect("open");
    let newest = checkpoint::load(small.place.path(), &small.config, &mut small.store, None).expect("loaded");
    let mut log =
        Log::open(&folder.file("log.jsonl"), newest.map(|newest| newest.progress.log).as_ref()).expect("open");
    let (best, mut older) = (small.at().join(BEST), Vec::new());
    for (step, score, is_best) in [(2, 0.5, 2), (3, 0.4, 2), (4, 0.6, 4)] {
        log.line(&json!({"step": step - 1, "score": score, "of": "x"})).expect("written");
        if step == is_best {
            // Killed here, a training has kept none of this step.
            let loaded = checkpoint::load_best(small.place.path(), &small.config, &mut small.store);
            assert_eq!(loaded.ok().map(|loaded| loaded.known.step), (step > 2).then_some(2));
            older = fs::read(&best).unwrap_or_default();
            let progress = Progress::new(step, log.sync().expect("synced"), String::new(), &small.config);
            checkpoint::save_best(&folder, &small.store, &progress).expect("saved");
        }
        let loaded = checkpoint::load_best(small.place.path(), &small.config, &mut small.store).expect("the best");
        assert_eq!(loaded.known.step, is_best);
    }
    let next = |small: &Small, score: f64| {
        let scorer = Box::new(move |_: &VarStore| anyhow::Ok(("x".to_string(), score)));
        let mut scores = Scores::new(1, scorer, small.at()).expect("a log");
        scores.score(&small.store, 5).expect("scored").1
    };
    assert_eq!([0.7, 0.55, f64::NAN].map(|score| next(&small, score)), [true, false, false]);
    fs::write(&best, older).expect("put back");
    assert_eq!([0.55, f64::NAN].map(|score| next(&small, score)), [true, false], "the best of what follows");
    // A checkpoint of that step tells that there was another, also to who looks while a process trains.
    checkpoint::load_best(small.place.path(), &small.config, &mut small.store).expect("as if killed");
    small.save(&folder, 4, log.sync().expect("synced"));
    let error = checkpoint::load_best(small.place.path(), &small.config, &mut small.store).expect_err("an older one");
    let error = error.to_string();
    assert!(error.contains("best.safetensors is of step 2, and the one of step 4 was better"), "{error}");
    log.line(&json!({"step": 4, "score": 0.55, "of": "x"})).expect("written");
    let progress = Progress::new(5, log.sync().expect("synced"), String::new(), &small.config);
    checkpoint::save_best(&folder, &small.store, &progress).expect("saved");
    checkpoint::load_best(small.place.path(), &small.config, &mut small.store).expect("the best since then");
    assert!(next(&small, 0.57), "of what follows, again");
}

#[test]
fn an_edited_log_takes_its_checkpoints_with_it() {
    for (from, to, step) in [
        (r#"{"step":2,"#, r#"{"step":3,"#, Some(1)),
        (r#"{"step":1,"#, r#"{"step":0,"#, None),
        (r#"{"step":2,"loss":0.5}"#, "", Some(1)),
    ] {
        let mut small = Small::new();
        let log = small.at().join("log.jsonl");
        let text = fs::read_to_string(&log).expect("text");
        fs::write(&log, text.replace(from, to)).expect("edited");
        match (small.load(), step) {
            (Ok((found, note)), Some(step)) => assert!(found == step && note.contains("log.jsonl"), "{note}"),
            (Err(error), None) => assert!(error.contains("log.jsonl") && error.contains("--run"), "{error}"),
            (found, step) => panic!("{found:?} and not {step:?}"),
        }
    }
    // Without it none can be trusted, whoever reads them.
    let mut small = Small::new();
    fs::remove_file(small.at().join("log.jsonl")).expect("removed");
    let error = small.load().expect_err("refused");
    assert!(error.contains(NEWEST) && error.contains("log.jsonl") && error.contains("restore"), "{error}");
    // Nor can the best one, but that of an older version, which knew none.
    for (edited, refused) in [(Some(""), true), (Some("{}\n"), true), (None, true), (Some(""), false)] {
        let mut small = Small::new();
        let newest = checkpoint::load(small.place.path(), &small.config, &mut small.store, None);
        let mark = newest.expect("loaded").expect("a checkpoint").progress.log;
        let mark = if refused { mark } else { Mark::default() };
        let folder = RunFolder::open(small.at()).expect("open");
        let progress = Progress::new(2, mark, String::new(), &small.config);
        checkpoint::save_best(&folder, &small.store, &progress).expect("saved");
        assert!(checkpoint::load_best(small.place.path(), &small.config, &mut small.store).is_ok());
        let log = small.at().join("log.jsonl");
        edited.map_or_else(|| fs::remove_file(&log), |text| fs::write(&log, text)).expect("changed");
        match checkpoint::load_best(small.place.path(), &small.config, &mut small.store) {
            Ok(_) => assert!(!refused, "{edited:?}"),
            Err(error) => {
                let error = format!("{error:#}");
                assert!(refused && error.contains("log.jsonl") && error.contains("restore"), "{edited:?}: {error}");
            }
        }
    }
}

#[test]
fn numbers_that_are_not_finite_and_another_configuration_are_refused() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut small = Small::new();
        let folder = RunFolder::open(small.at()).expect("open");
        let mut x = small.store.variables().remove("part.x").expect("x");
        tch::no_grad(|| drop(x.get(1).fill_(bad)));
        small.save(&folder, 3, Mark::default());
        let error = small.load().expect_err("refused");
        assert!(error.contains("part.x") && error.contains(NEWEST) && error.contains("finite"), "{error}");
        tch::no_grad(|| drop(x.fill_(0.)));
    }
    // What a training alone takes: who evaluates does not look at it.
    for name in ["optimizer.first.part.x", "optimizer.second.part.x", "optimizer.products", "extra.mined"] {
        let mut small = Small::new();
        let folder = RunFolder::open(small.at()).expect("open");
        let spoilt = |full: &str, x: Tensor| if full == name { x * f64::NAN } else { x };
        let state = small.optimizer.state().into_iter();
        let state = state.map(|(of, x)| (of.clone(), spoilt(&format!("optimizer.{of}"), x))).collect();
        small.optimizer.load_state(state).expect("fits");
        let extra = [("mined".to_string(), spoilt("extra.mined", Tensor::from_slice(&[1_f32])))];
        let progress = Progress::new(3, Mark::default(), "{}".into(), &small.config);
        checkpoint::save(&folder, &small.store, &small.optimizer, &extra, &progress).expect("saved");
        assert_eq!(small.load(), Ok((3, String::new())));
        let mut other = Optimizer::new(Rule::ADAM, 0., &small.store);
        let resumed = checkpoint::load(small.place.path(), &small.config, &mut small.store, Some(&mut other));
        let resumed = resumed.expect("the one before").expect("some");
        let note = resumed.note.expect("said");
        assert!(note.contains(name) && note.contains(NEWEST) && note.contains("finite"), "{note}");
        assert_eq!(resumed.progress.step, 2);
    }
    let mut small = Small::new();
    small.config.data = json!(["b", "a"]);
    assert!(small.load().expect_err("refused").contains("restore config.json"));
}

/// Files from elsewhere carry no hash, and need none; a run's own do.
#[test]
fn weights_from_elsewhere_need_no_hash() {
    let small = Small::new();
    let (tensors, _) = read_sealed(&small.at().join(NEWEST)).expect("sealed");
    let views: Vec<(String, safetensors::tensor::TensorView<'_>)> = Vec::new();
    let plain = small.at().join("plain.safetensors");
    fs::write(&plain, safetensors::serialize(views, None).expect("bytes")).expect("written");
    assert!(read(&plain).expect("read").is_empty() && !tensors.is_empty());
    let error = read_sealed(&plain).expect_err("no hash").to_string();
    assert!(error.contains("plain.safetensors") && error.contains("hash"), "{error}");
    // A program that carried our metadata over into a file of its own says what is not so.
    let kept = [("rankle.blake3".to_string(), "0".to_string())].into();
    let views: Vec<(String, safetensors::tensor::TensorView<'_>)> = Vec::new();
    fs::write(&plain, safetensors::serialize(views, Some(kept)).expect("bytes")).expect("written");
    assert!(format!("{:#}", read_safetensors(&plain).expect_err("another's")).contains("another program"));
}

/// What reads a log without training: as a training that goes on would.
#[test]
fn a_log_that_was_changed_is_noticed_by_who_reads_it() {
    let small = Small::new();
    let [log, newest] = ["log.jsonl", NEWEST].map(|name| small.at().join(name));
    let start = || check_start(&newest).map_err(|error| error.to_string());
    check_logs(small.at()).expect("as it was written");
    start().expect("as it was written");
    let before = fs::read(&log).expect("a log");
    let mut changed = before.clone();
    changed[0] ^= 1;
    for text in [Some(&changed[..]), Some(&before[..before.len() / 2]), None] {
        text.map_or_else(|| fs::remove_file(&log), |text| fs::write(&log, text)).expect("changed");
        let error = format!("{:#}", check_logs(small.at()).expect_err("changed"));
        assert!(error.contains("log.jsonl") && error.contains("restore"), "{error}");
        assert!(start().expect_err("changed").contains("log.jsonl"));
    }
    fs::write(&log, before).expect("restored");
    fs::write(&newest, "no checkpoint").expect("damaged");
    check_logs(small.at()).expect("the one before");
    // No other run starts from that one, though.
    let error = start().expect_err("damaged");
    assert!(error.contains("--start: ") && error.contains(NEWEST) && error.contains("another run"), "{error}");
    fs::write(small.at().join(BEFORE), "no checkpoint").expect("damaged");
    check_logs(small.at()).expect_err("both are damaged");
}

#[test]
fn a_checkpoint_that_is_missing_is_said_and_a_folder_in_its_place_refused() {
    let mut small = Small::new();
    fs::remove_file(small.at().join(NEWEST)).expect("removed");
    let (step, note) = small.load().expect("the one before");
    assert!(step == 1 && note.contains("checkpoint.safetensors is missing") && note.contains("step 1"), "{note}");
    // What a link in a temporary file's place leads to is somebody's.
    let (fresh, mine) = (small.at().join(".checkpoint.fresh.safetensors"), small.at().join(".mine"));
    fs::write(&mine, "mine").expect("written");
    symlink(&mine, &fresh).expect("linked");
    let folder = RunFolder::open(small.at()).expect("open");
    small.save(&folder, 3, Mark::default());
    assert!(fs::read(&mine).expect("kept") == b"mine" && !fresh.exists());
    drop(folder);
    for name in [BEFORE, "log.jsonl"] {
        fs::remove_file(small.at().join(name)).expect("removed");
        fs::create_dir(small.at().join(name)).expect("made");
        let error = RunFolder::open(small.at()).expect_err("a folder").to_string();
        assert!(error.contains(name) && error.contains("move it away"), "{error}");
        fs::remove_dir(small.at().join(name)).expect("removed");
        fs::write(small.at().join(name), "").expect("written");
    }
}
