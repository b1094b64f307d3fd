//! A run that goes on with another number of processes is the run of one process that was never stopped.

use std::fs;

use serde_json::Value;
use tch::{Kind, Tensor};

use super::runs::start;
use crate::common::{Place, close, value};
use crate::papers::paper;

/// How far what `of` names among the numbers of a network is apart in the newest checkpoints of two runs, as a share of the
/// way that it has come in the second one since the checkpoint before.
pub fn apart(place: &Place, ours: &str, theirs: &str, of: impl Fn(&str) -> bool) -> f64 {
    let read = |run: &str, which: &str| -> Vec<(String, Tensor)> {
        let all = rankle::weights::read(&place.path(run).join(which)).expect("a checkpoint");
        let wanted = |(name, x): &(String, Tensor)| name.starts_with("model.") && x.is_floating_point() && of(name);
        all.into_iter().filter(wanted).collect()
    };
    let squared = |a: &[(String, Tensor)], b: &[(String, Tensor)]| -> f64 {
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0));
        a.iter().zip(b).map(|(a, b)| value(&(&a.1 - &b.1).square().sum(Kind::Double))).sum()
    };
    let newest = read(theirs, "checkpoint.safetensors");
    let way = squared(&newest, &read(theirs, "checkpoint.before.safetensors"));
    (squared(&read(ours, "checkpoint.safetensors"), &newest) / way).sqrt()
}

/// Each with what its paper draws: dropout, augmentation, samples, pairs, orders and random negatives, in uneven shares where
/// a batch can have them; and through a change of stage, where there are two. Rates are low and steps few: another order of
/// sums turns a ReLU here and there, which is a step of the gradient, and from then on grows. So logged losses agree to 1e-5,
/// and weights to the share of their way that the row says; what is drawn otherwise, or a lost momentum, is a third of it
/// and more.
#[test]
fn a_run_resumed_with_another_number_of_processes_is_the_unbroken_one() {
    for (name, flags, kept, tolerance) in [
        ("facenet", "--chunk 64 --negatives 3 --mining random-in-margin --lr 0.0003", 2, 0.02),
        ("multilabel-ranking", "--epochs 2 --dropout 0.5 --augment crop-flip --pairs 5 --lr 0.001", 5, 0.02),
        ("quadruplet", "--quadruplets 5 --dropout 0.5 --steps 3 --steps2 1 --lr 0.0005", 2, 0.02),
        ("skill-determination", "--batch 5 --streams spatial ~--steps-temporal --lr-spatial 0.002", 2, 0.02),
        // Adam makes as much of a gradient that is rounding alone as of any other.
        ("triplet-reid", "--shrink 8 --p 5 --t0 2 --lr 1e-5", 2, 0.1),
    ] {
        let (case, more) = (paper(name), format!("{flags} --log-every 1 --checkpoint-every {kept} --device cpu"));
        let place = case.place();
        let train = |size: usize, run: &str| {
            let synchronised = if size > 1 { "--sync-batch-norm" } else { "" };
            start(size, &place, &format!("train @{run} {more} {synchronised}")).good();
        };
        train(1, "one");
        place.copy(&place.path("one"), "one-then-two");
        train(2, "two-then-one");
        let at = |run: &str| if case.part.is_empty() { run.to_string() } else { format!("{run}/{}", case.part) };
        let steps = |run: &str| -> Vec<Value> {
            place.log(&at(run)).into_iter().filter(|line| line["loss"].is_number()).collect()
        };
        let unbroken = steps("one");
        for (run, size) in [("one-then-two", 2), ("two-then-one", 1)] {
            // What a run has that was killed behind its first checkpoint.
            fs::remove_file(place.path(&at(run)).join("checkpoint.safetensors")).expect("a checkpoint");
            train(size, run);
            let resumed = steps(run);
            assert_eq!(resumed.len(), unbroken.len(), "{name}, {run}");
            let times = place.read(&format!("{}/timing.jsonl", at(run))).lines().count();
            assert_eq!(times, 2 * unbroken.len() - kept, "{name}, {run}: it went on from its first checkpoint");
            for (ours, theirs) in resumed.iter().zip(&unbroken) {
                let [a, b] = [ours, theirs].map(|line| line["loss"].as_f64().expect("a number"));
                assert_eq!((&ours["step"], &ours["terms"]), (&theirs["step"], &theirs["terms"]), "{name}, {run}");
                println!("{name}, {run}, step {}: {a} and {b}", ours["step"]);
                close(a, b, 1e-5);
            }
            let running = |name: &str| name.contains("running_");
            let off = apart(&place, &at(run), &at("one"), |name| !running(name));
            let statistics = apart(&place, &at(run), &at("one"), running);
            assert!(off < tolerance && statistics < 1e-3, "{name}, {run}: {off}, statistics {statistics}");
        }
    }
}
