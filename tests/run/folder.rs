//! What a run can trust of its folder, and what of a user's it leaves alone.

use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rankle::hyper;
use rankle::run::config::Config;
use rankle::run::folder::{Log, Mark, RunFolder, check_free, check_ours};
use serde_json::{Value, json};
use tempfile::tempdir;

use super::Small;

#[test]
fn a_log_is_cut_back_to_what_the_checkpoint_knew() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("log.jsonl");
    let mut log = Log::open(&path, Some(&Mark::default())).expect("open");
    log.line(&json!({"step": 0})).expect("written");
    let known = log.sync().expect("synced");
    log.line(&json!({"step": 1})).expect("written");
    drop(log);
    let mut log = Log::open(&path, Some(&known)).expect("open again");
    log.line(&json!({"step": 9})).expect("written");
    let known = log.sync().expect("synced");
    drop(log);
    let whole = "{\"step\":0}\n{\"step\":9}\n";
    assert_eq!(std::fs::read_to_string(&path).expect("text"), whole);
    // Cut, and edited at equal length: refused, and left as it is.
    for edited in ["{\"step\":0}\n", "{\"step\":1}\n{\"step\":9}\n", "{\"step\":0}\n{\"step\":8}\nmore"] {
        std::fs::write(&path, edited).expect("edited");
        let error = Log::open(&path, Some(&known)).expect_err("not what was known");
        assert!(error.to_string().contains("log.jsonl"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), edited);
    }
    std::fs::write(&path, whole).expect("restored");
    Log::open(&path, Some(&known)).expect("whole");
}

#[test]
fn two_processes_cannot_write_one_run() {
    let place = tempfile::tempdir().expect("a folder");
    let first = RunFolder::open(place.path()).expect("first");
    let error = RunFolder::open(place.path()).expect_err("second");
    assert!(error.to_string().contains("another process"), "{error}");
    drop(first);
    RunFolder::open(place.path()).expect("free again");
    // Who only looks holds it for an instant.
    let lock = std::fs::File::open(place.path().join(".lock")).expect("a lock");
    lock.lock_shared().expect("locked");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| RunFolder::open(place.path()).map(drop));
        lock.unlock().expect("unlocked");
        second.join().expect("joined").expect("waits");
    });
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
