//! Training curves from the logs of a run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Report, Series};

/// A plot of what log lines hold.
struct Curve {
    heading: &'static str,
    note: &'static str,
    y_label: &'static str,
    /// Legend, and the JSON pointer to the number.
    lines: &'static [(&'static str, &'static str)],
    /// Which lines of a log it is about.
    about: fn(&Value) -> bool,
}

fn every(_: &Value) -> bool {
    true
}

/// Every curve that is known, in the order of the page. Where two of them show the same number, the first one that has
/// points does.
const CURVES: [Curve; 13] = [
    Curve {
        heading: "Loss",
        note: "Both means: over all terms, and over the terms above 0 alone.",
        y_label: "loss",
        lines: &[("mean", "/mean"), ("mean of active", "/mean_active")],
        about: |line| line["norm"].is_object(),
    },
    Curve {
        heading: "Loss",
        note: "",
        y_label: "loss",
        lines: &[("mean over quadruplets", "/mean")],
        about: |line| line["square"].is_object(),
    },
    Curve {
        heading: "Loss of the first stage",
        note: "The mean over images.",
        y_label: "loss",
        lines: &[("ranking", "/mean")],
        about: |line| line["stage"] == 1,
    },
    Curve {
        heading: "Losses of the second stage",
        note: "The network is frozen.",
        y_label: "loss",
        lines: &[("label count", "/count"), ("label threshold", "/threshold")],
        about: |line| line["stage"] == 2,
    },
    Curve {
        heading: "Loss",
        note: "The mean over a batch's samples.",
        y_label: "loss",
        lines: &[("mean", "/mean")],
        about: every,
    },
    Curve {
        heading: "Active terms",
        note: "The fraction of terms above 0.",
        y_label: "fraction",
        lines: &[("active", "/active")],
        about: every,
    },
    Curve {
        heading: "Pairs in the right order",
        note: "Of a batch's pairs of different skill.",
        y_label: "fraction",
        lines: &[("right", "/right")],
        about: every,
    },
    Curve {
        heading: "Gap of two scores",
        note: "The mean of |f(a) - f(b)| over a batch's pairs.",
        y_label: "gap",
        lines: &[("gap", "/gap")],
        about: every,
    },
    Curve {
        heading: "Distances in a batch",
        note: "Percentiles over all pairs of a batch: shrinking together means collapse.",
        y_label: "distance",
        lines: &[
            ("p0", "/distance/p0"),
            ("p5", "/distance/p5"),
            ("p50", "/distance/p50"),
            ("p95", "/distance/p95"),
            ("p100", "/distance/p100"),
        ],
        about: every,
    },
    Curve {
        heading: "Embedding length",
        note: "Mean and largest norm in a batch.",
        y_label: "norm",
        lines: &[("mean", "/norm/mean"), ("largest", "/norm/max")],
        about: every,
    },
    Curve {
        heading: "Mean squared distances in a batch",
        note: "The two means whose difference makes the adaptive margins (Eq. 4).",
        y_label: "mean of g²",
        lines: &[("same person", "/square/same"), ("different people", "/square/different")],
        about: every,
    },
    Curve {
        heading: "Margins",
        note: "Fixed in the first stage, adaptive in the second.",
        y_label: "margin",
        lines: &[("alpha 1", "/margins/0"), ("alpha 2", "/margins/1")],
        about: every,
    },
    Curve {
        heading: "Saturation",
        note: "The share of pairs with g(1 - g) below 0.001, which learn nothing.",
        y_label: "fraction",
        lines: &[("saturated", "/saturated")],
        about: every,
    },
];

/// Draws every known curve that has points: from `run`'s `log.jsonl`, or, where a run is made of parts, from those of
/// its folders (`fold-1-spatial/log.jsonl`, ...), a line a part. A folder without any log gives no curves. Errors where
/// a log can't be read.
pub fn curves(report: &mut Report, run: &Path) -> Result<()> {
    let logs = logs(run)?;
    let mut shown: BTreeSet<&str> = BTreeSet::new();
    for curve in &CURVES {
        if curve.lines.iter().any(|(_, pointer)| shown.contains(pointer)) {
            continue;
        }
        let mut series = Vec::new();
        for (part, log) in &logs {
            for (legend, pointer) in curve.lines {
                let point = |line: &Value| Some((line.get("step")?.as_f64()?, line.pointer(pointer)?.as_f64()?));
                let points: Vec<_> = log.iter().filter(|line| (curve.about)(line)).filter_map(point).collect();
                let name = match part.as_str() {
                    "" => (*legend).to_string(),
                    part if curve.lines.len() == 1 => part.to_string(),
                    part => format!("{part}, {legend}"),
                };
                series.extend((!points.is_empty()).then_some(Series { name, points }));
            }
        }
        if !series.is_empty() {
            shown.extend(curve.lines.iter().map(|(_, pointer)| pointer));
            report.lines(curve.heading, curve.note, "step", curve.y_label, &series);
        }
    }
    Ok(())
}

/// The run's own log without a name, or those of its parts by their names.
fn logs(run: &Path) -> Result<Vec<(String, Vec<Value>)>> {
    let mut parts = vec![(String::new(), run.join("log.jsonl"))];
    if !parts[0].1.exists() && run.is_dir() {
        parts.clear();
        for entry in std::fs::read_dir(run).with_context(|| format!("cannot read {}", run.display()))? {
            let entry = entry?;
            parts.push((entry.file_name().to_string_lossy().replace('-', " "), entry.path().join("log.jsonl")));
        }
    }
    parts.retain(|(_, path)| path.exists());
    parts.sort();
    let read = |(part, path): (String, PathBuf)| {
        let text = crate::files::text(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((part, text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()))
    };
    parts.into_iter().map(read).collect()
}
