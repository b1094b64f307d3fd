//! What is read and what outputs are written to: regular files; and nothing of anybody's is replaced but files.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rankle::files::{atomically, folder_atomically, followed, open, own, read, sweep, write_atomic};
use tempfile::tempdir;

/// A pipe in the file system.
fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_no_file_is_neither_read_nor_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    pipe(&at("pipe"));
    let _socket = UnixListener::bind(at("socket")).expect("a socket");
    std::fs::write(at("file"), "text").expect("written");
    for (link, to) in [("zero", "/dev/zero"), ("piped", "pipe"), ("around", "."), ("linked", "file")] {
        symlink(to, at(link)).expect("a link");
    }
    let refused =
        [("pipe", "a pipe"), ("piped", "a pipe"), ("socket", "a socket"), ("zero", "a device"), ("around", "a folder")];
    for (name, what) in refused {
        let text = open(&at(name)).expect_err("refused").to_string();
        assert!(text.contains(what), "{name}: {text}");
        own(&at(name)).expect_err("refused");
    }
    assert_eq!(read(&at("linked")).expect("read"), b"text");
    // A file of our own is nobody else's through a link.
    own(&at("linked")).expect_err("a link");
    own(&at("file")).expect("a file");
    // A file that no memory holds, of which the disk has nothing.
    let long = std::fs::File::create(at("long")).expect("made");
    if long.set_len(1 << 43).is_ok() {
        assert!(read(&at("long")).expect_err("too long").to_string().contains("memory"));
    }
}

#[test]
fn outputs_replace_files_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let kind = |name: &str| std::fs::symlink_metadata(at(name)).expect("there").file_type();
    // A file, and, where a user names it, what a link leads to; the link stays. Who may read it is as it was.
    std::fs::write(at("file"), "old").expect("written");
    std::fs::set_permissions(at("file"), PermissionsExt::from_mode(0o640)).expect("set");
    symlink("file", at("link")).expect("a link");
    write_atomic(&followed(&at("link")), b"new").expect("written");
    assert!(kind("link").is_symlink() && kind("file").is_file());
    assert_eq!(std::fs::read(at("file")).expect("there"), b"new");
    assert_eq!(std::fs::metadata(at("file")).expect("there").permissions().mode() & 0o777, 0o640);
    // What is of the kind of /dev/null is written into, where this user may make one.
    if Command::new("mknod").arg(at("null")).args(["c", "1", "3"]).output().is_ok_and(|made| made.status.success()) {
        if write_atomic(&at("null"), b"gone").is_err() {
            println!("devices cannot be opened in {}", folder.path().display());
        }
        assert!(kind("null").is_char_device());
    }
    // The rest is refused, in one line that names it once, and is as it was.
    let _socket = UnixListener::bind(at("socket")).expect("a socket");
    pipe(&at("pipe"));
    symlink("/dev/zero", at("zero")).expect("a link");
    symlink("/dev/null", at("to-null")).expect("a link");
    symlink("nothing", at("nowhere")).expect("a link");
    for (name, what) in [
        ("link", "a link"),
        ("socket", "a socket"),
        ("pipe", "a pipe"),
        ("zero", "a device"),
        ("to-null", "a link to /dev/null"),
        ("nowhere", "leads nowhere"),
        (".", "a folder"),
        ("no/x", "is no folder"),
    ] {
        let text = format!("{:#}", write_atomic(&at(name), b"x").expect_err("refused"));
        assert!(text.contains(what) && text.matches("cannot write").count() == 1, "{text}");
    }
    // What to do follows the cause.
    for (cause, words) in [
        (libc::ENOSPC, "free space"),
        (libc::EFBIG, "ulimit -f"),
        (libc::ENOTDIR, "choose a folder"),
        (libc::EIO, "file: Input/output error"),
    ] {
        let system = || std::io::Error::from_raw_os_error(cause);
        for error in [anyhow::Error::from(system()), csv::Error::from(system()).into()] {
            let refused = atomically(&at("file"), |_| -> anyhow::Result<()> { Err(error) });
            let text = format!("{:#}", refused.expect_err("cause"));
            assert!(text.contains(words) && (cause == libc::ENOSPC || !text.contains("free space")), "{text}");
        }
    }
    let refused = atomically(&at("file"), |_| -> anyhow::Result<()> { anyhow::bail!("why") });
    assert!(format!("{:#}", refused.expect_err("refused")).ends_with("file: why"));
    assert_eq!(std::fs::read(at("file")).expect("there"), b"new");
    assert!(std::fs::metadata("/dev/null").expect("there").file_type().is_char_device());
    assert!(!names(folder.path()).iter().any(|name| name.starts_with(".rankle")), "{:?}", names(folder.path()));
}

/// A program of our own: its handles are a shell's to give.
#[test]
fn what_is_open_already_is_not_renamed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    symlink("/dev/stdout", at("link")).expect("a link");
    let (program, run) = (env!("CARGO_BIN_EXE_skill-determination"), folder.path().display());
    let data = |shell: &str| {
        let shell = format!("cd {run} && echo first > text && {program} data --data drawn --out {shell}");
        Command::new("sh").args(["-c", &shell]).output().expect("sh").status.success()
    };
    for out in ["link >> text", "/dev/stdout >> text", "/dev/fd/3 3>> text"] {
        assert!(data(out), "{out}");
        let text = std::fs::read_to_string(at("text")).expect("text");
        assert!(text.starts_with("first\n") && text.contains("\"published\""), "{out}: {text}");
    }
    for out in ["/proc/self/fd/1 > /dev/null", "/dev/stdout > /dev/null"] {
        assert!(data(out), "{out}");
    }
    for out in ["/dev/stdin < text", "text < text", "/dev/fd/0 < text"] {
        assert!(!data(out), "{out}");
        assert_eq!(std::fs::read_to_string(at("text")).expect("text"), "first\n", "{out}");
    }
}

#[test]
fn leftovers_of_the_killed_go_and_what_is_being_written_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(".rankle-writing-dead"), "half").expect("written");
    atomically(&folder.path().join("file"), |draft| {
        assert_eq!(names(folder.path()).len(), 1, "the leftover is gone");
        sweep(folder.path());
        Ok(std::fs::write(draft, "whole")?)
    })
    .expect("written");
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn an_atomic_write_that_fails_leaves_the_old_file() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("x");
    write_atomic(&path, b"old").expect("written");
    let full = atomically(&path, |draft| -> anyhow::Result<()> {
        std::fs::write(draft, b"half")?;
        anyhow::bail!("the disk is full")
    });
    assert!(format!("{:#}", full.expect_err("full")).contains("full"));
    assert_eq!(std::fs::read(&path).expect("kept"), b"old");
    assert_eq!(std::fs::read_dir(place.path()).expect("folder").count(), 1);
}

#[test]
fn a_folder_appears_whole_or_not_at_all() {
    let place = tempdir().expect("a folder");
    let at = place.path().join("new/folder");
    let write = |draft: &Path| Ok(fs::write(draft.join("a"), "a")?);
    folder_atomically(&at, |draft| write(draft).and_then(|()| anyhow::bail!("midway"))).expect_err("midway");
    assert!(!at.exists() && fs::read_dir(place.path().join("new")).expect("a folder").next().is_none());
    // What a killed process left goes with the next one.
    fs::create_dir(place.path().join("new/.rankle-writing-abc")).expect("made");
    folder_atomically(&at, write).expect("written");
    assert_eq!(fs::read_dir(place.path().join("new")).expect("a folder").count(), 1);
    folder_atomically(&at, write).expect_err("it is there");
    assert_eq!(fs::read_dir(place.path().join("new")).expect("a folder").count(), 1);
}
