//! What stands beside published numbers.

use std::path::{Path, PathBuf};

use clap::Args;
use rankle::catalog;
use rankle::claims::{Claims, Theirs, beside, of_weights};
use rankle::datasets::{Card, Look};
use rankle::hyper::{self, Hyper, Place::Ours, as_usual};
use rankle::metrics::Score;
use rankle::run::photos::Reads;
use rankle::tasks::Data;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Args, Serialize, Clone)]
struct How {
    #[arg(long)]
    flipped: bool,
}

#[test]
fn weights_stand_beside_their_makers_number_by_their_own_name_set_and_way() {
    let score = Some(("accuracy", 99.05, "their README"));
    let how = |how: &mut How| how.flipped = true;
    let known = ["facenet-casia-20180408", "openface-nn4-small2"].map(|name| Theirs { name, set: "LFW", score, how });
    let scores = [Score::new("accuracy", 0.98), Score::new("AUC", 0.99)];
    let beside = |file: &str, hash: &str, flipped: bool, set: &str| {
        of_weights(&known, &[], (Path::new(file), hash, &How { flipped }), set, &scores).expect("defaults")
    };
    let content = catalog::blake3("facenet-casia-20180408").expect("a hash");
    let found = beside("weights/mine.safetensors", content, true, "LFW");
    let numbers: Vec<_> = found.iter().map(|row| (&*row.what, &*row.place, row.paper, row.ours)).collect();
    assert_eq!(numbers, [("LFW, accuracy (published weights)", "their README", 99.05, Some(98.))]);
    let named = beside("nn4.small2.v1.pt", "none", true, "LFW");
    assert_eq!(named[0].what, "LFW, accuracy (published weights, by the file's name alone)");
    // Another content by that name, a part of a name, another way to compare, another set.
    for (file, hash, flipped, set) in [
        ("facenet-casia-20180408.safetensors", "other", true, "LFW"),
        ("nn4.small2.v1.tuned.pt", "other", true, "LFW"),
        ("mine.pt", content, false, "LFW"),
        ("mine.pt", content, true, ""),
    ] {
        assert!(beside(file, hash, flipped, set).is_empty(), "{file}");
    }
}

#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flags {
    /// Another run
    #[arg(long, add = Ours)]
    start: Option<PathBuf>,
}

impl Hyper for Flags {
    const NAMED: &'static [&'static str] = &["seed"];
}

struct Small;

impl Data for Small {
    fn name(&self) -> &str {
        "small"
    }

    fn notes(&self) -> &[String] {
        &[]
    }

    fn published_set(&self) -> Result<String, String> {
        Ok("CUHK01".into())
    }

    fn check(&self, _: bool, _: Look) -> anyhow::Result<()> {
        Ok(())
    }

    fn trained(&self) -> Reads<'_> {
        Box::new(std::iter::empty())
    }

    fn alike(&self) -> Value {
        Value::Null
    }

    fn cards(&self) -> Vec<Card> {
        Vec::new()
    }
}

const CLAIMS: &[Claims<Flags, How>] = &[Claims {
    unit: 100.,
    metrics: &["rank-1"],
    columns: &[("CUHK01", "single shot", as_usual), ("VIPeR", "single shot", as_usual)],
    rows: &[("Table 1", "", as_usual, &[&[62.55], &[49.05]])],
}];

/// And only where ours stands there.
#[test]
fn numbers_of_a_run_that_started_from_another_name_it() {
    for (start, from) in [(None, ""), (Some("runs/a"), ", ours fine-tuned from runs/a")] {
        let typed: Map<String, Value> =
            start.map(|start| ("start".to_string(), Value::from(start))).into_iter().collect();
        let h = hyper::resolve::<Flags>(&typed, &|_| ()).expect("flags");
        let scores = [Score::new("single shot rank-1", 0.5)];
        let (list, comparable) = beside(CLAIMS, &h, &How { flipped: false }, &Small, &scores).expect("recipes");
        let rows: Vec<_> = list.iter().map(|row| (row.what.clone(), row.paper, row.ours)).collect();
        let ours = (format!("CUHK01, single shot rank-1{from}"), 62.55, Some(50.));
        assert_eq!(rows, [ours, ("VIPeR, single shot rank-1".into(), 49.05, None)]);
        assert_eq!(comparable, Ok(()));
    }
}
