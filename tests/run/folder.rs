//! What a run can trust of its folder, and what of a user's it leaves alone.

use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rankle::hyper;
use rankle::optim::{Optimizer, Rule};
use rankle::run::checkpoint::{self, BEFORE, NEWEST, Progress, check_logs};
use rankle::run::config::Config;
use rankle::run::folder::{Log, Mark, RunFolder, check_free, check_ours};
use rankle::run::scores::BEST;
use rankle::weights::{read, read_safetensors, read_sealed};
use serde_json::{Value, json};
use tch::nn::{Init, VarStore};
use tch::{Device, Kind};
use tempfile::{TempDir, tempdir};

/// A run with two checkpoints, of steps 1 and 2, and a log line of each.
struct Small {
    place: TempDir,
    config: Config,
    store: VarStore,
    optimizer: Optimizer,
}

impl Small {
    fn new() -> Small {
        let (place, store) = (tempdir().expect("a folder"), VarStore::new(Device::Cpu));
        let x = (store.root() / "part").var("x", &[3], Init::Const(1.));
        let config = Config::new("p", hyper::flags(&json!({"lr": 0.1})), json!(["a", "b"]), "cpu").expect("one");
        let mut small = Small { place, config, optimizer: Optimizer::new(Rule::ADAM, 0., &store), store };
        small.config.write_or_match(small.place.path()).expect("written");
        let folder = RunFolder::open(small.place.path()).expect("open");
        let mut log = Log::open(&folder.file("log.jsonl"), Some(&Mark::default())).expect("open");
        for step in 1..=2 {
            small.optimizer.zero_grad();
            x.square().sum(Kind::Float).backward();
            small.optimizer.step(0.1, 0.9);
            log.line(&json!({"step": step, "loss": 0.5})).expect("written");
            small.save(&folder, step, log.sync().expect("synced"));
        }
        small
    }

    fn save(&self, folder: &RunFolder, step: u64, mark: Mark) {
        let progress = Progress::new(step, mark, "{}".into(), &self.config);
        checkpoint::save(folder, &self.store, &self.optimizer, &[], &progress).expect("saved");
    }

    fn at(&self) -> &Path {
        self.place.path()
    }

    /// The step that is loaded, and what is said; or the error.
    fn load(&mut self) -> Result<(u64, String), String> {
        let loaded = checkpoint::load(self.place.path(), &self.config, &mut self.store, None);
        let loaded = loaded.map_err(|error| format!("{error:#}"))?.expect("a checkpoint");
        Ok((loaded.progress.step, loaded.note.unwrap_or_default()))
    }
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

#[test]
fn a_run_folder_is_one_that_rankle_made_or_is_empty() {
    let place = tempdir().expect("a folder");
    let made = |name: &str, files: &[(&str, &str)]| {
        let at = place.path().join(name);
        fs::create_dir(&at).expect("made");
        files.iter().for_each(|(name, text)| fs::write(at.join(name), text).expect("written"));
        at
    };
    check_ours(&place.path().join("new")).expect("new");
    check_ours(&made("empty", &[])).expect("empty");
    check_ours(&made("hidden", &[(".lock", ""), (".DS_Store", "x")])).expect("nothing of anybody's");
    check_ours(Small::new().at()).expect("ours");
    let alike = r#"{"paper": "p", "flags": {}, "machine": {}, "argv": []}"#;
    for (name, files) in [
        ("config", [("config.json", r#"{"name": "mine"}"#), ("a", "")]),
        ("alike", [("config.json", alike), ("a", "")]),
        ("no-json", [("config.json", "lr: 3"), ("a", "")]),
        ("log", [("log.jsonl", "mine"), (".lock", "")]),
        ("photos", [("1.jpg", ""), ("2.jpg", "")]),
    ] {
        let at = made(name, &files);
        let error = format!("{:#}", RunFolder::open(&at).expect_err(name));
        assert!(error.contains(name) && error.contains("--run"), "{error}");
        let config = Config::new("p", hyper::flags(&json!({})), Value::Null, "cpu").expect("one");
        config.write_or_match(&at).expect_err(name);
        files.iter().for_each(|(name, text)| assert_eq!(fs::read_to_string(at.join(name)).expect("kept"), *text));
        assert_eq!(fs::read_dir(&at).expect("a folder").count(), 2, "{name}");
    }
}

#[test]
fn a_lock_of_others_is_no_runs() {
    let place = tempdir().expect("a folder");
    let lock = place.path().join(".lock");
    for text in ["mine", "{}", "process"] {
        fs::write(&lock, text).expect("written");
        let error = RunFolder::open(place.path()).expect_err("another's").to_string();
        assert!(error.contains(".lock") && error.contains("--run"), "{error}");
        assert_eq!(fs::read_to_string(&lock).expect("kept"), text);
    }
    for text in ["", "process 1 on a machine\n"] {
        fs::write(&lock, text).expect("written");
        RunFolder::open(place.path()).expect("ours");
    }
}

/// What reads a log without training: as a training that goes on would.
#[test]
fn a_log_that_was_changed_is_noticed_by_who_reads_it() {
    let small = Small::new();
    let log = small.at().join("log.jsonl");
    check_logs(small.at()).expect("as it was written");
    let before = fs::read(&log).expect("a log");
    let mut changed = before.clone();
    changed[0] ^= 1;
    for text in [Some(&changed[..]), Some(&before[..before.len() / 2]), None] {
        text.map_or_else(|| fs::remove_file(&log), |text| fs::write(&log, text)).expect("changed");
        let error = format!("{:#}", check_logs(small.at()).expect_err("changed"));
        assert!(error.contains("log.jsonl") && error.contains("restore"), "{error}");
    }
    fs::write(&log, before).expect("restored");
    fs::write(small.at().join(NEWEST), "no checkpoint").expect("damaged");
    check_logs(small.at()).expect("the one before");
    fs::write(small.at().join(BEFORE), "no checkpoint").expect("damaged");
    check_logs(small.at()).expect_err("both are damaged");
}

#[test]
fn a_log_is_not_written_through_a_link() {
    let place = tempdir().expect("a folder");
    let (target, log) = (place.path().join("target"), place.path().join("log.jsonl"));
    fs::write(&target, "somebody's\n").expect("written");
    let links: [fn(&Path, &Path) -> std::io::Result<()>; 3] =
        [|to, at| symlink(to, at), |to, at| fs::hard_link(to, at), |_, at| symlink("nowhere", at)];
    for link in links {
        link(&target, &log).expect("linked");
        for mark in [None, Some(&Mark::default())] {
            let error = format!("{:#}", Log::open(&log, mark).expect_err("a link"));
            assert!(error.contains("log.jsonl") && error.contains("link"), "{error}");
        }
        assert_eq!(fs::read_to_string(&target).expect("kept"), "somebody's\n");
        fs::remove_file(&log).expect("removed");
    }
    assert!(!place.path().join("nowhere").exists());
    fs::create_dir(&log).expect("made");
    Log::open(&log, None).expect_err("a folder");
}

/// While a run writes to it: at the next checkpoint, which another log would make worthless.
#[test]
fn a_log_that_others_change_is_noticed() {
    let place = tempdir().expect("a folder");
    let path = place.path().join("log.jsonl");
    let changes: [fn(&Path); 4] = [
        |path| fs::remove_file(path).expect("removed"),
        |path| fs::write(path, "").expect("cut"),
        |path| fs::write(path, "{\"step\":8}\n").expect("edited"),
        |path| {
            fs::copy(path, path.with_extension("copy")).expect("copied");
            fs::rename(path.with_extension("copy"), path).expect("another file of that text");
        },
    ];
    for change in changes {
        let mut log = Log::open(&path, Some(&Mark::default())).expect("open");
        log.line(&json!({"step": 1})).expect("written");
        log.sync().expect("as it was written");
        change(&path);
        let error = log.sync().expect_err("changed").to_string();
        assert!(error.contains("log.jsonl") && error.contains("restore"), "{error}");
    }
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

/// Who waits for whom is said before any work; also where a part of the run is held.
#[test]
fn a_run_that_is_held_or_is_no_folder_is_refused_at_once() {
    let place = tempdir().expect("a folder");
    let run = place.path().join("run");
    check_free(&run).expect("new");
    let small = Small::new();
    fs::rename(small.at().join("config.json"), small.at().join("mine")).expect("moved");
    let error = Config::read(small.at()).expect_err("gone").to_string();
    assert!(error.contains("config.json is missing") && error.contains("restore"), "{error}");
    fs::rename(small.at().join("mine"), small.at().join("config.json")).expect("moved back");
    let part = small.at().join("part");
    for at in [small.at(), &part] {
        let held = RunFolder::open(at).expect("open");
        let error = check_free(small.at()).expect_err("held").to_string();
        let who = format!("process {} on ", std::process::id());
        assert!(error.contains(&who) && error.contains(&at.display().to_string()), "{error}");
        drop(held);
        check_free(small.at()).expect("free");
    }
    fs::write(&run, "").expect("written");
    for (at, words) in
        [(run.clone(), "it is a file"), (run.join("below"), "no folder"), ("/dev/null".into(), "a device")]
    {
        for error in [check_free(&at).expect_err("no folder"), Config::read(&at).expect_err("no folder")] {
            assert!(error.to_string().contains(words) && error.to_string().contains("--run"), "{error}");
        }
    }
}

/// A child that was just forked has all that is open, and holds what is locked until it becomes another program.
#[test]
fn what_a_run_locked_is_free_when_it_ends() {
    let place = tempdir().expect("a folder");
    let folder = RunFolder::open(place.path()).expect("open");
    let lock = fs::metadata(place.path().join(".lock")).expect("a lock").ino();
    let open = fs::read_dir("/proc/self/fd").expect("a folder").flatten().map(|entry| entry.path());
    let ours = open.filter(|path| fs::metadata(path).is_ok_and(|found| found.ino() == lock));
    let number = ours.last().and_then(|path| path.file_name()?.to_str()?.parse().ok()).expect("an open lock");
    // SAFETY: `folder` is open.
    let held = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().expect("a second one, as a child has");
    drop(folder);
    RunFolder::open(place.path()).expect("free");
    drop(held);
}

#[test]
fn a_folder_that_moved_away_is_noticed() {
    let place = tempdir().expect("a folder");
    let (at, other) = (place.path().join("run"), place.path().join("other"));
    let folder = RunFolder::open(&at).expect("open");
    fs::write(at.join("config.json"), "").expect("written");
    folder.check_place().expect("here");
    fs::rename(&at, &other).expect("renamed");
    assert!(folder.check_place().expect_err("gone").to_string().contains("moved"));
    fs::create_dir(&at).expect("made");
    fs::write(at.join(".lock"), "").expect("written");
    folder.check_place().expect_err("another folder");
    fs::remove_dir_all(&at).expect("removed");
    fs::rename(&other, &at).expect("renamed");
    folder.check_place().expect("back");
    fs::remove_file(at.join("config.json")).expect("removed");
    assert!(folder.check_place().expect_err("gone").to_string().contains("config.json"));
}
