//! Two programs at one run folder.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use rankle::run::checkpoint::BEFORE;
use tch::CModule;

use super::paper;
use crate::common::{Ended, send, within};

/// Neither removes what the other is writing, and what is exported meanwhile is whole.
#[test]
fn a_run_is_exported_while_it_trains() {
    let place = paper("sixth").place();
    let mut command = place.command("train @run --steps 100000000 --checkpoint-every 2 --log-every 2");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let begun = within(60, || place.path("run").join(BEFORE).exists());
    let exported: Vec<(Ended, bool)> =
        (0..3).map(|_| (place.ends("export @run"), CModule::load(place.path("run/model.pt")).is_ok())).collect();
    let trains = child.try_wait().expect("waits").is_none();
    send(child.id(), libc::SIGTERM);
    let Ended { code, err: said, .. } = Ended::after(child);
    assert!(begun && trains && code == Some(128 + libc::SIGTERM), "{said}");
    exported.into_iter().for_each(|(ended, loads)| assert!(loads, "{}", ended.well().all()));
}

/// Who holds the folder is waited for; what stands there in the end is one's, whole.
#[test]
fn evaluations_of_one_run_write_one_after_the_other() {
    let place = paper("sixth").trained();
    let held = rankle::files::hold(&place.path("run"), Duration::from_secs(1)).expect("free");
    let start = || {
        let mut command = place.command("evaluate @run");
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts")
    };
    let both = [start(), start()];
    let (run, results) = (place.path("run").canonicalize().expect("a run"), place.path("run/results.json"));
    // Whoever waits for the folder has it open.
    let waits = |child: &Child| {
        let mut open = fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten();
        open.any(|file| fs::read_link(file.path()).is_ok_and(|file| file == run))
    };
    let wait = within(60, || both.iter().all(waits));
    let early = results.exists();
    drop(held);
    both.into_iter().for_each(|child| drop(Ended::after(child).well()));
    assert!(wait && !early, "it wrote into a folder that another holds");
    assert!(rankle::outputs::read_sealed(&results).expect("whole").is_some_and(|(_, sealed)| sealed));
}
