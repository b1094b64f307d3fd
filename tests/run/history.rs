//! Lines of a log as they are read.

use rankle::run::folder::Log;
use rankle::run::history;
use serde_json::json;

/// What a kill left half goes when the next line comes; what is damaged is left out where it is shown.
#[test]
fn lines_that_are_half_there_or_damaged_are_no_lines() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("timing.jsonl");
    std::fs::write(&path, "{\"step\":0}\n{\"st").expect("written");
    Log::open(&path, None).expect("open").line(&json!({"step": 1})).expect("written");
    let whole = "{\"step\":0}\n{\"step\":1}\n";
    assert_eq!(std::fs::read_to_string(&path).expect("text"), whole);
    std::fs::write(&path, format!("{{\"stup\":\n7\n{whole}{{\"step\": 2}}")).expect("damaged");
    assert_eq!(history::lines(&path).expect("read"), [json!({"step": 0}), json!({"step": 1})]);
}
