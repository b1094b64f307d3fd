//! config.json.

use rankle::hyper;
use rankle::run::checkpoint;
use rankle::run::config::Config;
use serde_json::{Value, json};

#[test]
fn configurations_come_back_and_differences_are_named() {
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug, Clone)]
    struct Flags {
        lr: f64,
        log_every: u64,
        weights: Option<String>,
    }
    let place = tempfile::tempdir().expect("a folder");
    let program = std::env::current_exe().and_then(|path| rankle::files::hash(&path)).expect("this test");
    let flags = Flags { lr: 3e-4, log_every: 10, weights: None };
    let config = |flags: &Flags, paper: &str| {
        Config::new(paper, hyper::flags(flags), Value::Null, "cpu").expect("a configuration")
    };
    assert!(!config(&flags, "p").write_or_match(place.path()).expect("new"));
    assert!(config(&flags, "p").write_or_match(place.path()).expect("the same"));
    let begun = Config::read(place.path()).expect("read");
    assert_eq!(begun.machine["program"], program[..16], "the file that runs, whatever a repository says");
    assert_eq!(hyper::from_flags::<Flags>(&Config::read(place.path()).expect("read").flags).expect("flags"), flags);
    let changed = Flags { log_every: 20, weights: Some("w".into()), ..flags.clone() };
    let error = config(&changed, "p").write_or_match(place.path()).expect_err("changed").to_string();
    assert!(
        error.contains("--log-every (was 10, now 20)") && error.contains("--weights (was not given, now w)"),
        "{error}"
    );
    assert!(!error.contains("--lr"));
    assert!(
        config(&flags, "q").write_or_match(place.path()).expect_err("other paper").to_string().contains("run of p")
    );
    std::fs::write(place.path().join("config.json"), "{").expect("damaged");
    assert!(Config::read(place.path()).expect_err("damaged").to_string().contains("config.json"));
    std::fs::remove_file(place.path().join("config.json")).expect("removed");
    std::fs::write(place.path().join(checkpoint::NEWEST), "there").expect("a checkpoint");
    let error = config(&flags, "p").write_or_match(place.path()).expect_err("no configuration").to_string();
    assert!(error.contains("no config.json"), "{error}");
}

/// What is known of the data must be as it was, but for what an older version did not write.
#[test]
fn data_known_since_are_not_compared() {
    let place = tempfile::tempdir().expect("a folder");
    let of = |data: Value| {
        let flags = hyper::flags(&json!({"lr": 0.1}));
        Config::new("p", flags, data, "cpu").expect("a configuration").write_or_match(place.path())
    };
    assert!(!of(json!({"classes": ["a"]})).expect("new"));
    assert!(of(json!({"classes": ["a"], "since": "b"})).expect("the same"));
    for other in [json!({"classes": ["b"], "since": "b"}), json!({"since": "b"}), Value::Null] {
        let error = of(other).expect_err("other data").to_string();
        assert!(error.contains("are not what this run was started with"), "{error}");
    }
}
