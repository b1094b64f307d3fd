//! The page: decisions, bars by label, thresholds, images with their labels, the calibration of the count.

use super::*;
use rankle::metrics::multilabel::{ApRule, class_precisions, top_counts};
use rankle::run::report::{Bars, Frame, GalleryRow};

/// Writes `report.html` into the run folder.
pub fn write(
    at: &Path,
    h: &Hyper,
    set: &LabelSet,
    machine: &Machine,
    test: &Outputs,
    judged: &Judged,
    results: &Results,
) -> Result<()> {
    let mut report = Report::new("multilabel-ranking", CITATION);
    report.facts(&h.facts(set, results.step, machine));
    report.table("Decisions", "In per cent. Label count and label threshold are the paper's two; the others are rivals, the last of which knows the true number of labels.", &judge::table(judged));
    let head = ["ranking, before any decision", "%"].map(String::from).to_vec();
    let rows = judged.ranking.iter().map(|(name, value)| vec![name.clone(), format!("{:.2}", 100. * value)]).collect();
    report.table("Ranking", NOT_COMPARABLE, &Table { head, rows });
    report.list("Protocol", &results.protocol);
    report.list("Data", &set.notes);
    curves(&mut report, at)?;
    let predicted = test.by_threshold();
    by_label(&mut report, set, test, &predicted);
    thresholds(&mut report, test);
    calibration(&mut report, h, test, &predicted);
    if set.feature_width().is_none() {
        images(&mut report, set, test, &predicted)?;
    }
    report.list("Departures from the paper", &results.departures);
    report.write(&at.join("report.html"))
}

fn curves(report: &mut Report, at: &Path) -> Result<()> {
    let path = at.join("log.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let series = |name: &str, key: &str, stage: u64| {
        let point = |line: &Value| Some((line.get("step")?.as_f64()?, line.get(key)?.as_f64()?));
        let points = lines.iter().filter(|line| line["stage"] == stage).filter_map(point).collect();
        Series { name: name.into(), points }
    };
    report.lines("Loss of the first stage", "The mean over images.", "step", "loss", &[series("ranking", "mean", 1)]);
    let heads = [series("label count", "count", 2), series("label threshold", "threshold", 2)];
    report.lines("Losses of the second stage", "The network is frozen.", "step", "loss", &heads);
    Ok(())
}

/// Ones of each class in a bool `[N, K]`.
fn sums(x: &Tensor) -> Vec<i64> {
    Vec::<i64>::try_from(x.sum_dim_intlist(0, false, Kind::Int64)).unwrap_or_default()
}

/// Precision, recall and F1 of every label, and how well it is ranked: bars, and the numbers below.
fn by_label(report: &mut Report, set: &LabelSet, test: &Outputs, predicted: &Tensor) {
    let (gold, called) = (sums(&test.labels), sums(predicted));
    let right = sums(&test.labels.logical_and(predicted));
    let share = |a: i64, b: i64| if b > 0 { a as f64 / b as f64 } else { 0. };
    let ranked: Vec<f64> = class_precisions(&test.scores, &test.labels, None, ApRule::Step)
        .into_iter()
        .map(|precision| precision.unwrap_or(0.))
        .collect();
    let of = |f: &dyn Fn(usize) -> f64| (0..set.classes.len()).map(f).collect::<Vec<f64>>();
    let bars = [
        ("F1", of(&|c| share(2 * right[c], gold[c] + called[c]))),
        ("precision", of(&|c| share(right[c], called[c]))),
        ("recall", of(&|c| share(right[c], gold[c]))),
        ("AP (step)", ranked),
    ]
    .map(|(name, values)| Bars { name: name.into(), values: values.into_iter().map(|value| (value, None)).collect() });
    report.bars(
        "By label",
        "Precision, recall and F1 of what label threshold decides; AP is that of the ranking of all test items by the label's score, before any decision.",
        "share",
        &set.classes,
        &bars,
    );
    let percent = |x: f64| format!("{:.1}", 100. * x);
    let row = |class: usize| {
        [set.classes[class].clone(), gold[class].to_string(), called[class].to_string()]
            .into_iter()
            .chain(bars.iter().map(|bars| percent(bars.values[class].0)))
            .collect()
    };
    let head = ["label", "true", "decided", "F1 %", "precision %", "recall %", "AP (step) %"];
    let table = Table { head: head.map(String::from).to_vec(), rows: (0..set.classes.len()).map(row).collect() };
    report.table("By label, in numbers", "", &table);
}

fn thresholds(report: &mut Report, test: &Outputs) {
    let gap = &test.scores - &test.thresholds;
    let list = |x: Tensor| -> Vec<f64> {
        Vec::<f32>::try_from(x.flatten(0, -1)).unwrap_or_default().into_iter().map(f64::from).collect()
    };
    report.histogram(
        "Thresholds",
        "θ of all images and classes, beside the scores that they are compared with.",
        "value",
        &[
            ("thresholds".into(), list(test.thresholds.shallow_clone())),
            ("scores".into(), list(test.scores.shallow_clone())),
        ],
        60,
    );
    report.histogram(
        "Score less threshold",
        "A label is decided where it is above 0.",
        "f - θ",
        &[
            ("true labels".into(), list(gap.masked_select(&test.labels))),
            ("other classes".into(), list(gap.masked_select(&test.labels.logical_not()))),
        ],
        60,
    );
}

/// How far the decided number of labels is from the true one, and the count head's certainty from its being right.
fn calibration(report: &mut Report, h: &Hyper, test: &Outputs, predicted: &Tensor) {
    let (most, truth) = (h.most as usize, test.true_counts());
    let decided = Vec::<i64>::try_from(predicted.sum_dim_intlist(1, false, Kind::Int64)).unwrap_or_default();
    let highest = truth.iter().copied().max().unwrap_or(0);
    let mut counts = vec![vec![0_usize; most]; highest + 1];
    let mut sums = vec![(0., 0., 0.); highest + 1];
    for ((&truth, &said), &decided) in truth.iter().zip(&test.counts).zip(&decided) {
        counts[truth][said - 1] += 1;
        let (items, heads, thresholds) = &mut sums[truth];
        (*items, *heads, *thresholds) = (*items + 1., *heads + said as f64, *thresholds + decided as f64);
    }
    let line = |name: &str, of: &dyn Fn(usize) -> f64| {
        let points = (0..=highest).filter(|&k| sums[k].0 > 0.).map(|k| (k as f64, of(k))).collect();
        Series { name: name.into(), points }
    };
    report.lines(
        "Calibration of the count",
        "The mean number of decided labels over the test items with so many true ones.",
        "true labels",
        "decided labels, mean",
        &[
            line("as many as are true", &|k| k as f64),
            line("label count", &|k| sums[k].1 / sums[k].0),
            line("label threshold", &|k| sums[k].2 / sums[k].0),
        ],
    );
    let head = ["true labels".to_string()]
        .into_iter()
        .chain((1..=most).map(|k| if k == most { format!("{k} or more") } else { k.to_string() }));
    let rows = counts.iter().enumerate().filter(|(_, row)| row.iter().any(|&n| n > 0));
    let table = Table {
        head: head.collect(),
        rows: rows
            .map(|(truth, row)| [truth.to_string()].into_iter().chain(row.iter().map(usize::to_string)).collect())
            .collect(),
    };
    report.table(
        "What the count head says",
        "Test items by their true number of labels (rows) and the number that the count head says (columns).",
        &table,
    );
    // Ten classes of certainty.
    let mut tenths = [(0., 0., 0.); 10];
    for ((&truth, &said), &sure) in truth.iter().zip(&test.counts).zip(&test.sure) {
        let (items, certain, right) = &mut tenths[((sure * 10.) as usize).min(9)];
        let hit = if truth.min(most) == said { 1. } else { 0. };
        (*items, *certain, *right) = (*items + 1., *certain + sure, *right + hit);
    }
    let points = tenths.iter().filter(|tenth| tenth.0 > 0.).map(|(n, sure, right)| (sure / n, right / n)).collect();
    report.lines(
        "Certainty of the count head",
        "Test items in ten classes by the share that the count head gives to the number that it says, and how often that number is right.",
        "share given, mean",
        "share right",
        &[
            Series { name: "calibrated".into(), points: vec![(0., 0.), (1., 1.)] },
            Series { name: "count head".into(), points },
        ],
    );
}

/// Test images, evenly spread, with their true and decided labels and the scores of the highest five.
fn images(report: &mut Report, set: &LabelSet, test: &Outputs, predicted: &Tensor) -> Result<()> {
    let shown = 24.min(set.test.len());
    let five = top_counts(&test.scores, &vec![5; set.test.len()]);
    let mut rows = Vec::new();
    for i in (0..shown).map(|i| i * set.test.len() / shown) {
        let Content::Image(source) = &set.test[i].content else { continue };
        let names = |wanted: &Tensor| -> Vec<String> {
            (0..set.classes.len())
                .filter(|&class| wanted.int64_value(&[i as i64, class as i64]) != 0)
                .map(|class| set.classes[class].clone())
                .collect()
        };
        let (truth, decided) = (names(&test.labels), names(predicted));
        let mut top: Vec<(f64, String)> = names(&five)
            .into_iter()
            .map(|name| {
                let class = set.classes.iter().position(|known| *known == name).unwrap_or(0);
                (test.scores.double_value(&[i as i64, class as i64]), name)
            })
            .collect();
        top.sort_by(|a, b| b.0.total_cmp(&a.0));
        let top: Vec<String> = top.into_iter().map(|(score, name)| format!("{name} {score:.2}")).collect();
        let frame = if truth == decided { Frame::Right } else { Frame::Wrong };
        let list = |names: &[String]| if names.is_empty() { "none".to_string() } else { names.join(", ") };
        rows.push(GalleryRow {
            title: set.test[i].name.clone(),
            tiles: vec![Tile {
                image: source.image()?.as_ref().clone(),
                caption: format!(
                    "true: {} · decided: {} · highest scores: {}",
                    list(&truth),
                    list(&decided),
                    top.join(", ")
                ),
                frame,
            }],
        });
    }
    report.gallery(
        "Images and labels",
        "Decided by label threshold, beside the five highest scores. Framed green with a tick where the decided labels are exactly the true ones.",
        &rows,
    );
    Ok(())
}
