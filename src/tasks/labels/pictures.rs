//! The pages' pictures: labels one by one, thresholds, how many labels are decided, images with their labels.

use anyhow::Result;
use tch::Tensor;

use super::decisions::{Decision, Outputs, Way, ones};
use crate::datasets::labels::{Content, LabelSet};
use crate::metrics::multilabel::{ApRule, class_precisions, top_counts};
use crate::real::numbers;
use crate::report::{Bars, Frame, GalleryRow, Report, Series, Table, Tile};

/// Shows what a network says of the test items of `set` where `decision` decides: bars by label, thresholds, how the number
/// of labels comes out where the count head tells 1 to `most`, and images.
pub fn show(report: &mut Report, set: &LabelSet, test: &Outputs, most: i64, decision: Decision) -> Result<()> {
    let predicted = test.by(decision);
    let name = decision.way().name();
    by_label(report, set, test, &predicted, name);
    thresholds(report, test);
    counts(report, test, most as usize);
    if set.feature_width().is_none() { images(report, set, test, &predicted, name) } else { Ok(()) }
}

/// Precision, recall and F1 of every label, and how well it is ranked: bars, and the numbers below.
fn by_label(report: &mut Report, set: &LabelSet, test: &Outputs, predicted: &Tensor, by: &str) {
    let (gold, called) = (ones(&test.labels, 0), ones(predicted, 0));
    let right = ones(&test.labels.logical_and(predicted), 0);
    let share = |a: usize, b: usize| if b > 0 { a as f64 / b as f64 } else { 0. };
    let ranked = class_precisions(&test.scores, &test.labels, None, ApRule::Step);
    let bars = [
        ("F1", &(|c: usize| share(2 * right[c], gold[c] + called[c])) as &dyn Fn(usize) -> f64),
        ("precision", &|c: usize| share(right[c], called[c])),
        ("recall", &|c: usize| share(right[c], gold[c])),
        ("AP (step)", &|c: usize| ranked[c].unwrap_or(0.)),
    ]
    .map(|(name, of)| Bars { name: name.into(), values: (0..gold.len()).map(|c| (of(c), None)).collect() });
    report.bars(
        "By label",
        &format!(
            "Precision, recall and F1 of what {by} decides; AP is that of the ranking of all test items by the label's score, before any decision."
        ),
        "share",
        &set.classes,
        &bars,
    );
    let row = |class: usize| {
        [set.classes[class].clone(), gold[class].to_string(), called[class].to_string()]
            .into_iter()
            .chain(bars.iter().map(|bars| format!("{:.1}", 100. * bars.values[class].0)))
            .collect()
    };
    let head = ["label", "true", "decided", "F1 %", "precision %", "recall %", "AP (step) %"];
    report.table("By label, in numbers", "", &Table::new(head, (0..gold.len()).map(row)));
}

fn thresholds(report: &mut Report, test: &Outputs) {
    let gap = &test.scores - &test.thresholds;
    let mut histogram = |heading, note, axis, groups: [(&str, &Tensor); 2]| {
        let groups = groups.map(|(name, x)| (name.to_string(), numbers::<f32>(x).into_iter().map(f64::from).collect()));
        report.histogram(heading, note, axis, &groups, 60);
    };
    histogram(
        "Thresholds",
        "θ of all images and classes, beside the scores that they are compared with.",
        "value",
        [("thresholds", &test.thresholds), ("scores", &test.scores)],
    );
    histogram(
        "Score less threshold",
        "A label is decided where it is above 0.",
        "f - θ",
        [
            ("true labels", &gap.masked_select(&test.labels)),
            ("other classes", &gap.masked_select(&test.labels.logical_not())),
        ],
    );
}

/// Items by their true number of labels (rows, from 0) and the number 1 to `most` that the count head says (columns).
///
/// # Panics
/// Where `said` holds a number beyond `most`, or 0.
pub fn confusion(truth: &[usize], said: &[usize], most: usize) -> Vec<Vec<usize>> {
    let mut counts = vec![vec![0; most]; truth.iter().max().map_or(0, |highest| highest + 1)];
    truth.iter().zip(said).for_each(|(&truth, &said)| counts[truth][said - 1] += 1);
    counts
}

/// Items in ten classes by the share, 0 to 1, that the count head gives to the number that it says: of each class that has
/// items the mean share, and how often the number is right, `most` being right for all true numbers from there on.
pub fn certainty(truth: &[usize], said: &[usize], sure: &[f64], most: usize) -> Vec<(f64, f64)> {
    let mut tenths = [(0., 0., 0.); 10];
    for ((&truth, &said), &share) in truth.iter().zip(said).zip(sure) {
        let (items, given, right) = &mut tenths[((share * 10.) as usize).min(9)];
        let hit = if truth.min(most) == said { 1. } else { 0. };
        (*items, *given, *right) = (*items + 1., *given + share, *right + hit);
    }
    tenths.iter().filter(|tenth| tenth.0 > 0.).map(|(items, given, right)| (given / items, right / items)).collect()
}

/// How far the decided number of labels is from the true one, and the count head's certainty from its being right.
fn counts(report: &mut Report, test: &Outputs, most: usize) {
    let (truth, decided) = (test.true_counts(), ones(&test.by_threshold(), 1));
    let confused = confusion(&truth, &test.counts, most);
    let seen: Vec<usize> = (0..confused.len()).filter(|&k| confused[k].iter().sum::<usize>() > 0).collect();
    // The mean of `said` over the items with so many true labels.
    let line = |name: &str, said: &[usize]| {
        let mean = |k: usize| {
            let of: Vec<usize> = truth.iter().zip(said).filter(|(truth, _)| **truth == k).map(|(_, &n)| n).collect();
            (k as f64, of.iter().sum::<usize>() as f64 / of.len() as f64)
        };
        Series { name: name.into(), points: seen.iter().map(|&k| mean(k)).collect() }
    };
    report.lines(
        "Calibration of the count",
        "The mean number of decided labels over the test items with so many true ones.",
        "true labels",
        "decided labels, mean",
        &[
            line("as many as are true", &truth),
            line(Way::LabelCount.name(), &test.counts),
            line(Way::LabelThreshold.name(), &decided),
        ],
    );
    let last = |k: usize| if k == most { format!("{k} or more") } else { k.to_string() };
    let row = |&k: &usize| [k].iter().chain(&confused[k]).map(usize::to_string).collect();
    report.table(
        "What the count head says",
        "Test items by their true number of labels (rows) and the number that the count head says (columns).",
        &Table::new(["true labels".to_string()].into_iter().chain((1..=most).map(last)), seen.iter().map(row)),
    );
    report.lines(
        "Certainty of the count head",
        "Test items in ten classes by the share that the count head gives to the number that it says, and how often that number is right.",
        "share given, mean",
        "share right",
        &[
            Series { name: "calibrated".into(), points: vec![(0., 0.), (1., 1.)] },
            Series { name: "count head".into(), points: certainty(&truth, &test.counts, &test.sure, most) },
        ],
    );
}

/// Test images, evenly spread, with their true and decided labels and the five highest scores.
fn images(report: &mut Report, set: &LabelSet, test: &Outputs, predicted: &Tensor, by: &str) -> Result<()> {
    let shown = 24.min(set.test.len());
    let five = top_counts(&test.scores, &vec![5; set.test.len()]);
    let mut rows = Vec::new();
    for i in (0..shown).map(|i| i * set.test.len() / shown) {
        let Content::Image(source) = &set.test[i].content else { continue };
        let at = |class: usize| [i as i64, class as i64];
        let classes = |wanted: &Tensor| -> Vec<usize> {
            (0..set.classes.len()).filter(|&class| wanted.int64_value(&at(class)) != 0).collect()
        };
        let names = |classes: &[usize]| match classes {
            [] => "none".to_string(),
            _ => classes.iter().map(|&class| set.classes[class].as_str()).collect::<Vec<_>>().join(", "),
        };
        let (truth, decided) = (classes(&test.labels), classes(predicted));
        let mut top: Vec<(f64, usize)> =
            classes(&five).into_iter().map(|class| (test.scores.double_value(&at(class)), class)).collect();
        top.sort_by(|a, b| b.0.total_cmp(&a.0));
        let top: Vec<String> =
            top.into_iter().map(|(score, class)| format!("{} {score:.2}", set.classes[class])).collect();
        rows.push(GalleryRow {
            title: set.test[i].name.clone(),
            tiles: vec![Tile {
                image: source.image()?.as_ref().clone(),
                caption: format!(
                    "true: {} · decided: {} · highest scores: {}",
                    names(&truth),
                    names(&decided),
                    top.join(", ")
                ),
                frame: if truth == decided { Frame::Right } else { Frame::Wrong },
            }],
        });
    }
    report.gallery(
        "Images and labels",
        &format!("Decided by {by}, beside the five highest scores. Framed green with a tick where the decided labels are exactly the true ones."),
        &rows,
    );
    Ok(())
}
