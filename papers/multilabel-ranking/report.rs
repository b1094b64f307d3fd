//! The page: decisions, bars by label, thresholds, images with their labels, the calibration of the count.

use super::*;
use rankle::metrics::multilabel::top_counts;
use rankle::run::report::{Frame, GalleryRow};

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
    report.table("Decisions", "In per cent. Label count and label threshold are the paper's two; the others are rivals, the last knows the true number of labels.", &judge::table(judged));
    let head = ["ranking, before any decision", "%"].map(String::from).to_vec();
    let rows = judged.ranking.iter().map(|(name, value)| vec![name.clone(), format!("{:.2}", 100. * value)]).collect();
    report.table("Ranking", NOT_COMPARABLE, &Table { head, rows });
    report.list("Protocol", &results.protocol);
    report.list("Data", &set.notes);
    curves(&mut report, at)?;
    let predicted = test.by_threshold();
    report.table(
        "By label",
        "Decided by label threshold; the bars are F1, twenty to the full.",
        &by_label(set, test, &predicted),
    );
    thresholds(&mut report, test);
    report.table(
        "Calibration of the count",
        "Rows: the true number of labels; columns: the number that the count head says.",
        &calibration(h, test),
    );
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

fn by_label(set: &LabelSet, test: &Outputs, predicted: &Tensor) -> Table {
    let (gold, called) = (sums(&test.labels), sums(predicted));
    let right = sums(&test.labels.logical_and(predicted));
    let share = |a: i64, b: i64| if b > 0 { a as f64 / b as f64 } else { 0. };
    let row = |class: usize| {
        let f1 = share(2 * right[class], gold[class] + called[class]);
        vec![
            set.classes[class].clone(),
            gold[class].to_string(),
            format!("{:.1}", 100. * share(right[class], called[class])),
            format!("{:.1}", 100. * share(right[class], gold[class])),
            format!("{:.1}", 100. * f1),
            "█".repeat((20. * f1).round() as usize),
        ]
    };
    Table {
        head: ["label", "true", "precision %", "recall %", "F1 %", ""].map(String::from).to_vec(),
        rows: (0..set.classes.len()).map(row).collect(),
    }
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

fn calibration(h: &Hyper, test: &Outputs) -> Table {
    let most = h.most as usize;
    let truth = Vec::<i64>::try_from(test.labels.sum_dim_intlist(1, false, Kind::Int64)).unwrap_or_default();
    let highest = truth.iter().copied().max().unwrap_or(0) as usize;
    let mut counts = vec![vec![0_usize; most]; highest + 1];
    truth.iter().zip(&test.counts).for_each(|(&truth, &said)| counts[truth as usize][said - 1] += 1);
    let head = ["true labels".to_string()]
        .into_iter()
        .chain((1..=most).map(|k| if k == most { format!("{k} or more") } else { k.to_string() }));
    let rows = counts.iter().enumerate().filter(|(_, row)| row.iter().any(|&n| n > 0));
    Table {
        head: head.collect(),
        rows: rows
            .map(|(truth, row)| [truth.to_string()].into_iter().chain(row.iter().map(usize::to_string)).collect())
            .collect(),
    }
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
            title: format!("true: {}; decided: {}; highest: {}", list(&truth), list(&decided), top.join(", ")),
            tiles: vec![Tile { image: source.image()?.as_ref().clone(), caption: set.test[i].name.clone(), frame }],
        });
    }
    report.gallery(
        "Images and labels",
        "Framed green with a tick where the decided labels are exactly the true ones.",
        &rows,
    );
    Ok(())
}
