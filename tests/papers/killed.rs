//! Kills, signals and limits: a run that was killed equals one that was not.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rand::Rng;

use super::{paper, papers};
use crate::common::{Ended, encoded, has, picture, send, within};

/// A run that is killed at any moment and started again leaves the bytes of one that was not.
#[test]
fn killed_equals_unbroken() {
    for case in &papers() {
        let place = case.place();
        place.good(&format!("train @unbroken {}", case.long));
        let broken = format!("train @broken {}", case.long);
        let checkpoint = place.path("broken").join(case.part).join("checkpoint.safetensors");
        let mut rng = rankle::seed::at(3, 0, 0);
        let mut kills = 0;
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGKILL, libc::SIGINT] {
            let mut command = place.command(&broken);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
            // From before the first step to the middle of the run.
            let tries = if rng.random_bool(0.7) { 800 } else { 0 };
            for _ in 0..tries {
                if checkpoint.exists() || child.try_wait().expect("waits").is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(rng.random_range(0..300)));
            kills += usize::from(child.try_wait().expect("waits").is_none());
            send(child.id(), signal);
            let Ended { code, err: said, .. } = Ended::after(child);
            match code {
                // Before or after the loop.
                None | Some(0) => assert!(!said.contains("stopped by"), "{said}"),
                code => assert!(code == Some(128 + signal) && said.contains("to go on: "), "{code:?} {said}"),
            }
        }
        assert!(kills > 0, "every attempt ended before it was killed");
        place.good(&broken);
        for file in ["checkpoint.safetensors", "log.jsonl"] {
            let bytes = |name: &str| fs::read(place.path(name).join(case.part).join(file)).expect("a file");
            assert!(bytes("unbroken") == bytes("broken"), "{:?}: {file} differs", case.program.0);
        }
    }
}

/// SIGUSR1 has a training keep what there is; the first of SIGTERM, SIGINT and SIGHUP ends it with its step.
#[test]
fn signals_are_answered_at_the_end_of_a_step() {
    let case = paper("sixth");
    for (signal, name) in [(libc::SIGTERM, "SIGTERM"), (libc::SIGINT, "SIGINT"), (libc::SIGHUP, "SIGHUP")] {
        let place = case.place();
        let args = place.args("train @run --steps 100000000 --checkpoint-every 100000000 --log-every 10");
        let spaced = |word: String| if word == place.text("run") { place.text("a run") } else { word };
        let mut command = case.program.command(&args.into_iter().map(spaced).collect::<Vec<_>>());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        let (checkpoint, log) = (place.path("a run/checkpoint.safetensors"), place.path("a run/log.jsonl"));
        let until = |done: &dyn Fn() -> bool, child: &mut std::process::Child| {
            while !done() && child.try_wait().expect("waits").is_none() {
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        until(&|| log.metadata().is_ok_and(|data| data.len() > 0), &mut child);
        send(child.id(), libc::SIGUSR1);
        until(&|| checkpoint.exists(), &mut child);
        let before = fs::read(&checkpoint).expect("a checkpoint");
        send(child.id(), signal);
        let Ended { code, err: said, .. } = Ended::after(child);
        assert_eq!(code, Some(128 + signal), "{said}");
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("stopped by")).collect();
        assert!(lines.len() == 1 && lines[0].contains(name) && lines[0].contains(" train "), "{said}");
        assert!(lines[0].ends_with("--log-every 10") && lines[0].contains("/a run'"), "{said}");
        assert!(fs::read(&checkpoint).expect("a checkpoint") != before, "the step in hand is kept");
    }
}

/// What was said of photos so far stays, that of the piece in hand too.
#[test]
fn a_signal_keeps_what_is_said_of_photos() {
    let place = paper("sixth").trained();
    let photo = encoded(&picture(16, 16).into(), image::ImageFormat::Png);
    let files = |at: PathBuf| fs::read_dir(at).into_iter().flatten().flatten().map(|entry| entry.path());
    // A quick machine may be through before it is told: then with more of them.
    let told = [6000, 24_000, 96_000].into_iter().find_map(|count| {
        (0..count).for_each(|i| place.write(&format!("photos/{i}.png"), &photo));
        let line = format!("embed @run --images @photos --out @{count}.safetensors");
        let child = place.command(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        let kept = place.path(&format!("{count}.safetensors.kept"));
        let begun = within(120, || files(kept.clone()).flat_map(files).next().is_some());
        send(child.id(), libc::SIGTERM);
        let Ended { code, err: said, .. } = Ended::after(child);
        assert!(begun && [Some(0), Some(128 + libc::SIGTERM)].contains(&code), "{code:?} {said}");
        let (kept, rest) = said.split_once("stopped by SIGTERM: ")?.1.split_once(" are kept in ")?;
        has(rest, &format!("{count}.safetensors.kept/|; to go on: | embed "));
        Some((line, kept.to_string()))
    });
    let (line, kept) = told.expect("stopped within a piece");
    has(&place.ends(&line).well().err, &format!("{kept} known already, from "));
}

/// A file that may not grow is like a full disk: a line, and no signal's death.
#[test]
fn a_limit_on_files_is_one_line() {
    let case = paper("sixth");
    let place = case.place();
    let words = place.args("train @run");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -f 0; exec \"$@\"", "sh", case.program.0]).args(&words);
    let Ended { code, err: said, .. } = Ended::of(&mut command);
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(code == Some(1) && errors.len() == 1, "{said}");
    assert_eq!((errors[0].matches("cannot write").count(), errors[0].matches("ulimit -f").count()), (1, 1), "{said}");
}
