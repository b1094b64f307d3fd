//! scripts/bundle: an archive whose launcher finds torch by itself, and says what to do where there is none.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::common::{Ended, has};
use crate::export::python;

fn bundle(args: &[&str]) -> Ended {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/bundle");
    Ended::of(Command::new(script).args(args))
}

#[test]
fn a_bundle_runs_with_a_pythons_torch_and_says_where_there_is_none() {
    let Some(python) = python() else { return };
    let place = TempDir::new().expect("a temporary folder");
    let binaries =
        Path::new(env!("CARGO_BIN_EXE_triplet-reid")).parent().expect("a folder").to_string_lossy().to_string();
    let archive = place.path().join("rankle.tar.gz").to_string_lossy().to_string();
    bundle(&["--binaries", &binaries, "--out", &archive]).well();
    let unpacked = Command::new("tar").args(["-xzf", &archive]).current_dir(place.path()).status().expect("tar");
    assert!(unpacked.success());
    let folders = std::fs::read_dir(place.path()).expect("a folder").flatten().map(|entry| entry.path());
    let folder = folders.filter(|path| path.is_dir()).last().expect("the bundle's folder");
    // From elsewhere, through a symbolic link, with an environment that knows nothing.
    let link = place.path().join("facenet");
    std::os::unix::fs::symlink(folder.join("facenet"), &link).expect("a link");
    let run = |program: &Path, args: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(program);
        command.args(args).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").envs(variables.iter().copied());
        Ended::of(&mut command)
    };
    let with = [("RANKLE_PYTHON", python.to_str().expect("a path"))];
    for (program, word) in [(folder.join("triplet-reid"), "Hermans"), (link, "FaceNet")] {
        has(&run(&program, &["--help"], &with).well().all(), word);
    }
    // A real computation finds libtorch's libraries.
    run(&folder.join("triplet-reid"), &["data", "--data", "drawn"], &with).well();

    // NVIDIA's run-time compiler beside a torch is found, where it is.
    let site = place.path().canonicalize().expect("a folder").join("site");
    for part in ["torch/lib", "nvidia/cu13/lib"] {
        std::fs::create_dir_all(site.join(part)).expect("folders");
    }
    std::fs::write(site.join("torch/lib/libtorch_cpu.so"), "").expect("a file");
    let probe = folder.join("programs/probe");
    std::fs::write(&probe, "#!/bin/sh\necho $LD_LIBRARY_PATH\n").expect("a file");
    std::fs::set_permissions(&probe, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a program");
    std::os::unix::fs::symlink("launch", folder.join("probe")).expect("a link");
    let at = |part: &str| site.join(part).to_string_lossy().to_string();
    let said = run(&folder.join("probe"), &[], &[("LIBTORCH", &at("torch")), ("LD_LIBRARY_PATH", "/own")]);
    assert_eq!(said.all().trim(), format!("{}:{}:/own", at("torch/lib"), at("nvidia/cu13/lib")));

    let empty = place.path().join("empty");
    std::fs::create_dir(&empty).expect("a folder");
    let without = run(&folder.join("facenet"), &["--help"], &[("LIBTORCH", empty.to_str().expect("a path"))]);
    assert_eq!(without.code, Some(1));
    has(&without.all(), "pip install torch==2.11.0");
    let unnamed = run(&folder.join("launch"), &[], &with);
    assert_eq!(unnamed.code, Some(2));
    has(&unnamed.all(), "triplet-reid");
}

#[test]
fn a_bundle_that_cannot_be_is_answered_in_a_line() {
    for (args, words) in [
        (&["--fast"][..], "--fast: not a flag"),
        (&["--out", "/nowhere/at/all.tar.gz"], "make it, or name another"),
        (&["--out", "x.zip"], "ends in .tar.gz"),
        (&["--binaries", "/nowhere"], "run cargo build --release --bins"),
    ] {
        let said = bundle(args);
        assert_eq!(said.code, Some(1), "{args:?}");
        let said = said.all();
        assert!(said.contains(words) && said.trim().lines().count() == 1, "{args:?}: {said}");
    }
}

#[test]
fn what_the_archive_checks_a_gpu_with_runs() {
    let Some(python) = python() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for script in ["scripts/gpu-check", "tests/benches/gpu.py"] {
        has(&Ended::of(Command::new(&python).arg(root.join(script)).arg("--help")).well().all(), "--only");
    }
    // Without the programs beside it every step fails, is said, and is written down.
    let place = TempDir::new().expect("a temporary folder");
    let script = place.path().join("gpu-check");
    std::fs::copy(root.join("scripts/gpu-check"), &script).expect("a copy");
    let words = ["--device", "cpu", "--only", "loader", "--seconds", "60", "--out"];
    let done = Ended::of(Command::new(&python).arg(&script).args(words).arg(place.path().join("out")));
    assert_eq!(done.code, Some(1), "{}", done.all());
    let results = std::fs::read_to_string(place.path().join("out/results.json")).expect("results");
    assert!(results.contains("\"loader\"") && done.all().contains("loader: FAILED"), "{}", done.all());
}
