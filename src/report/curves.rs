//! Training curves from the logs of a run.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::{Report, Series};
use crate::run::history;

/// A plot of what log lines hold: heading, note, label of y; legends with the JSON pointers to their numbers; and which
/// lines of a log it is about.
type Curve = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)], fn(&Value) -> bool);

const EVERY: fn(&Value) -> bool = |_| true;
const BOTH_MEANS: &str = "Both means: over all terms, and over the terms above 0 alone.";

/// Every curve that is known, in the order of the page. Where two of them show the same number, the first one that has
/// points does.
#[rustfmt::skip]
const CURVES: [Curve; 14] = [
    ("Loss", BOTH_MEANS, "loss", &[("mean", "/mean"), ("mean of active", "/mean_active")],
        |line| line["norm"].is_object()),
    ("Loss", "", "loss", &[("mean over quadruplets", "/mean")], |line| line["square"].is_object()),
    ("Loss of the first stage", "The mean over images.", "loss", &[("ranking", "/mean")], |line| line["stage"] == 1),
    ("Losses of the second stage", "The network is frozen.", "loss",
        &[("label count", "/count"), ("label threshold", "/threshold")], |line| line["stage"] == 2),
    ("Loss", "The mean over a batch's samples.", "loss", &[("mean", "/mean")], EVERY),
    ("Score while it trained", "On what is held out; the best one's weights are best.safetensors.", "score",
        &[("score", "/score")], EVERY),
    ("Active terms", "The fraction of terms above 0.", "fraction", &[("active", "/active")], EVERY),
    ("Pairs in the right order", "Of a batch's pairs of different skill.", "fraction", &[("right", "/right")], EVERY),
    ("Gap of two scores", "The mean of |f(a) - f(b)| over a batch's pairs.", "gap", &[("gap", "/gap")], EVERY),
    ("Distances in a batch", "Percentiles over all pairs of a batch: shrinking together means collapse.", "distance",
        &[("p0", "/distance/p0"), ("p5", "/distance/p5"), ("p50", "/distance/p50"), ("p95", "/distance/p95"),
          ("p100", "/distance/p100")], EVERY),
    ("Embedding length", "Mean and largest norm in a batch.", "norm",
        &[("mean", "/norm/mean"), ("largest", "/norm/max")], EVERY),
    ("Mean squared distances in a batch", "The two means whose difference makes the adaptive margins (Eq. 4).",
        "mean of g²", &[("same person", "/square/same"), ("different people", "/square/different")], EVERY),
    ("Margins", "Fixed in the first stage, adaptive in the second.", "margin",
        &[("alpha 1", "/margins/0"), ("alpha 2", "/margins/1")], EVERY),
    ("Saturation", "The share of pairs with g(1 - g) below 0.001, which learn nothing.", "fraction",
        &[("saturated", "/saturated")], EVERY),
];

/// Draws every known curve that has points: from a run's `log.jsonl`, or, where it is made of parts, from those of its
/// folders (`fold-1-spatial/log.jsonl`, ...), a line a part. Of several runs, each with its name, every curve is drawn
/// by itself with a line a run. A folder without any log gives no curves. Errors where a log can't be read.
pub fn curves(report: &mut Report, runs: &[(&str, &Path)]) -> Result<()> {
    let mut logs = Vec::new();
    for (run, at) in runs {
        for (part, folder) in history::parts(at)? {
            logs.push((*run, part, history::lines(&folder.join("log.jsonl"))?));
        }
    }
    let mut shown: BTreeSet<&str> = BTreeSet::new();
    for (heading, note, y_label, lines, about) in CURVES {
        if lines.iter().any(|(_, pointer)| shown.contains(pointer)) {
            continue;
        }
        let mut plots: Vec<(String, Vec<Series>)> = Vec::new();
        for (run, part, log) in &logs {
            for (legend, pointer) in lines {
                let point = |line: &Value| Some((line.get("step")?.as_f64()?, line.pointer(pointer)?.as_f64()?));
                let points: Vec<_> = log.iter().filter(|line| about(line)).filter_map(point).collect();
                if points.is_empty() {
                    continue;
                }
                let words = [part.as_str(), if lines.len() > 1 { legend } else { "" }];
                let words = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ");
                let (title, name) = match (runs.len() > 1, words.is_empty()) {
                    (false, true) => (heading.to_string(), legend.to_string()),
                    (false, false) => (heading.to_string(), words),
                    (true, true) => (heading.to_string(), run.to_string()),
                    (true, false) => (format!("{heading}: {words}"), run.to_string()),
                };
                let at = plots.iter().position(|(known, _)| *known == title).unwrap_or_else(|| {
                    plots.push((title, Vec::new()));
                    plots.len() - 1
                });
                plots[at].1.push(Series { name, points });
            }
        }
        if !plots.is_empty() {
            shown.extend(lines.iter().map(|(_, pointer)| pointer));
        }
        for (title, series) in plots {
            report.lines(&title, note, "step", y_label, &series);
        }
    }
    Ok(())
}
