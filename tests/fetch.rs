//! `scripts/fetch` and `scripts/convert`: their tests are Python beside this file (against a host on 127.0.0.1 that
//! stalls, cuts, lies and redirects), and run here so that one command covers all.

use std::path::Path;
use std::process::Command;

#[test]
fn python_tests_of_fetching() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fetch");
    let run = Command::new("python3")
        .args(["-B", "-W", "error::SyntaxWarning", "-m", "unittest", "discover", "-s", "."])
        .current_dir(folder)
        .output()
        .expect("python3, which scripts/fetch and scripts/setup need");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let skipped: Vec<&str> = said.lines().filter(|line| line.contains("skipped: ")).collect();
    println!("{}", skipped.join("\n"));
    assert!(said.contains("\nRan "), "{said}");
}
