//! What stands beside published numbers.

use std::path::Path;

use clap::Args;
use rankle::claims::{Theirs, published};
use serde::Serialize;

#[derive(Args, Serialize)]
struct How {
    #[arg(long)]
    flipped: bool,
}

#[test]
fn weights_stand_beside_their_makers_number_by_their_own_name_set_and_way() {
    let score = Some(("accuracy", 99.05, "their README"));
    let known = [Theirs { file: "20180408", set: "LFW", score, how: |how: &mut How| how.flipped = true }];
    let scores = [("accuracy".to_string(), 0.98), ("AUC".to_string(), 0.99)];
    let beside = |file: &str, flipped: bool, set: &str| {
        published(&known, &[], &[], (Path::new(file), &How { flipped }), set, &scores).expect("defaults")
    };
    let found = beside("weights/facenet-casia-20180408.safetensors", true, "LFW");
    let numbers: Vec<_> = found.iter().map(|row| (&*row.what, &*row.place, row.paper, row.ours)).collect();
    assert_eq!(numbers, [("LFW, accuracy (published weights)", "their README", 99.05, Some(98.))]);
    // Another file in a folder of that name, another way to compare, another set.
    for (file, flipped, set) in
        [("20180408/mine.pt", true, "LFW"), ("20180408.pt", false, "LFW"), ("20180408.pt", true, "")]
    {
        assert!(beside(file, flipped, set).is_empty(), "{file}");
    }
}
