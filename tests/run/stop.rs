//! Signals to one process.

use std::fs;
use std::io::{Write, pipe};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use rankle::run::stop::{as_argument, typed};

use crate::common::{Ended, Place, send, within};
use crate::papers::paper;

#[test]
fn a_signal_ends_a_run_whose_terminal_is_gone_or_stands_still() {
    let case = paper("sixth");
    for stands in [false, true] {
        let place = Place::new(case.program, "--data drawn --people 3 --steps 10000000 --log-every 1");
        let (reads, mut writes) = pipe().expect("a pipe");
        // SAFETY: asks for a number.
        let room = unsafe { libc::fcntl(writes.as_raw_fd(), libc::F_GETPIPE_SZ) };
        writes.write_all(&vec![0; if stands { room as usize } else { 0 }]).expect("room");
        let reads = Some(reads).filter(|_| stands);
        let mut child = place.command("train @run").stderr(writes).spawn().expect("starts");
        let log = place.path("run/log.jsonl");
        // Where nothing more can be said, it waits with its first line, once it listens.
        let status = format!("/proc/{}/status", child.id());
        let listens = || {
            let status = fs::read_to_string(&status).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            caught.is_some_and(|mask| mask & 1 << (libc::SIGHUP - 1) != 0)
        };
        let at_work = within(300, || listens() && (stands || fs::metadata(&log).is_ok_and(|log| log.len() > 0)));
        send(child.id(), libc::SIGHUP);
        let mut ended = None;
        within(120, || {
            ended = child.try_wait().expect("waits");
            ended.is_some()
        });
        let _ = (child.kill(), child.wait());
        let code = ended.and_then(|ended| ended.code());
        assert!(at_work && code == Some(128 + libc::SIGHUP), "stands {stands}, at work {at_work}: {code:?}");
        assert!(stands || place.path("run/checkpoint.safetensors").exists());
        drop(reads);
    }
}

#[test]
fn a_command_is_typed_as_a_shell_takes_it() {
    let words = ["plain", "two words", "it's", "a\nb\\'\u{7}", "", "-x"].map(String::from);
    let line = typed(words.clone());
    assert!(!line.contains(char::is_control), "{line}");
    let taken = Ended::of(Command::new("bash").args(["-c", &format!("printf '<%s>' {line}")]));
    assert_eq!(taken.out, words.map(|word| format!("<{word}>")).concat());
    let [dash, plain] = ["-x/y", "a/-x"].map(|path| as_argument(Path::new(path)));
    assert_eq!([&*dash, &*plain], ["./-x/y", "a/-x"]);
}
