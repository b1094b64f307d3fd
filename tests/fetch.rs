//! `scripts/fetch` and `scripts/convert`: their tests are Python beside this file (against a host on 127.0.0.1 that
//! stalls, cuts, lies and redirects), and run here so that one command covers all.

use std::path::Path;
use std::process::Command;

use crate::common::Ended;

#[test]
fn python_tests_of_fetching() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fetch");
    let names = std::fs::read_dir(&folder).expect("its files").flatten().map(|entry| entry.file_name());
    let files: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    let run = &|file: &String| {
        let words = ["-B", "-W", "error::SyntaxWarning", "-m", "unittest", file.trim_end_matches(".py")];
        // Which scripts/fetch and scripts/setup need.
        let Ended { code, err: said, .. } = Ended::of(Command::new("python3").args(words).current_dir(&folder));
        assert!(code == Some(0) && said.contains("\nRan "), "{file}: {said}");
        said.lines().filter(|line| line.contains("skipped: ")).for_each(|line| println!("{line}"));
    };
    // Side by side, for they wait most of the time.
    std::thread::scope(|scope| {
        let tests = files.iter().filter(|file| file.starts_with("test_") && file.ends_with(".py"));
        let runs: Vec<_> = tests.map(|file| (file, scope.spawn(move || run(file)))).collect();
        assert!(!runs.is_empty());
        for (file, run) in runs {
            run.join().unwrap_or_else(|_| panic!("{file}: see above"));
        }
    });
}
