//! Table 1: every loss with every margin, trained alike and scored on held-out people.

use super::*;
use rankle::run::report::Table;

const MARGINS: [&str; 5] = ["0.1", "0.2", "0.5", "1.0", "soft"];

/// The paper's rows: name, loss, mAP/rank-1 by margin ("–" where there is none, * where it was trapped).
const ROWS: [(&str, Loss, [&str; 5]); 8] = [
    ("Triplet", Loss::Triplet, ["40.80/59.23", "41.71/60.78", "43.51/60.87", "43.61/61.63", "48.40/66.37"]),
    ("Triplet + OHM", Loss::TripletOhm, ["16.6*/36.6*", "61.40/82.95", "32.0*/57.1*", "41.45/59.42", "46.63/65.43"]),
    ("Batch hard", Loss::BatchHard, ["65.09/83.51", "65.27/84.55", "65.12/83.39", "63.78/82.48", "65.77/84.69"]),
    ("Batch hard ≠ 0", Loss::BatchHardNonzero, ["63.10/83.04", "64.19/83.42", "63.71/82.29", "64.06/84.50", "–"]),
    ("Batch all", Loss::BatchAll, ["59.43/79.24", "60.48/79.99", "60.30/79.52", "62.08/80.55", "61.04/80.65"]),
    ("Batch all ≠ 0", Loss::BatchAllNonzero, ["63.29/83.65", "64.31/83.37", "64.41/83.98", "64.06/82.90", "–"]),
    ("Lifted 3-pos.", Loss::Lifted, ["64.00/82.71", "63.87/82.86", "63.61/84.55", "64.02/84.17", "–"]),
    ("Lifted 1-pos.", Loss::LiftedPairs, ["61.95/81.35", "63.68/81.73", "63.01/82.48", "62.28/82.34", "–"]),
];

/// Trains and scores all cells, each in its own resumable run folder, and prints the table in the paper's shape.
pub fn reproduce(args: &flags::Reproduce, scale: flags::Scale, machine: &Machine) -> Result<()> {
    if args.hyper.loss.is_some() || args.hyper.margin.is_some() {
        bail!("--table 1 goes through all losses and margins: leave --loss and --margin out");
    }
    let drawn = scale == flags::Scale::Drawn;
    let cell = |loss: Loss, margin: &str| -> Result<Hyper> {
        let mut flags = args.hyper.clone();
        // As in the paper: LuNet, no augmentation, held-out training people.
        flags.net = flags.net.or(Some(Net::Lunet));
        flags.augment = flags.augment.or(Some(Augment::None));
        flags.validation = flags.validation.or(Some(if drawn { 16 } else { 150 }));
        if drawn {
            flags.t1 = flags.t1.or(Some(80));
            flags.size = flags.size.or(Some("64x32".into()));
            flags.shrink = flags.shrink.or(Some(8));
        }
        (flags.loss, flags.margin) = (Some(loss), Some(margin.into()));
        flags.resolve(scale)
    };
    let root = args.run.clone().unwrap_or_else(|| {
        let data = Path::new(&args.hyper.data)
            .file_name()
            .map_or_else(|| "data".into(), |name| name.to_string_lossy().to_string());
        Path::new("data/runs/triplet-reid").join(format!("table1-{data}-{}", args.hyper.seed))
    });
    let set = open(&cell(Loss::BatchHard, "soft")?)?;
    let mut rows = Vec::new();
    let mut json_rows = Vec::new();
    for (name, loss, paper) in ROWS {
        let mut row = vec![name.to_string()];
        for (margin, theirs) in MARGINS.iter().zip(paper) {
            if *margin == "soft" && !loss.takes_soft() {
                row.push("–".into());
                continue;
            }
            let h = cell(loss, margin)?;
            let at = root.join(format!("{}-{margin}", loss.name()));
            say(format!("{name}, margin {margin}"));
            let (_store, net) = train(&h, &set, &at, machine)?;
            // "TTA off": these networks saw no crops.
            let embedded = reid::embed(&*net, &set, &h.embedding(TestViews::Original, machine))?;
            let scored = embedded.score(h.metric, Ap::Trapezoid, &machine.world)?;
            row.push(format!("{:.2}/{:.2}", 100. * scored.map(), 100. * scored.rank(1)));
            json_rows.push(json!({"loss": loss.name(), "margin": margin, "mAP": scored.map(), "rank-1": scored.rank(1), "paper": theirs, "run": at.display().to_string()}));
        }
        rows.push(row);
    }
    let head: Vec<String> = ["mAP/rank-1"]
        .into_iter()
        .map(String::from)
        .chain(MARGINS.iter().map(|m| if *m == "soft" { "soft".into() } else { format!("m = {m}") }))
        .collect();
    let h = cell(Loss::BatchHard, "soft")?;
    print(format!("Table 1 on {} ({} held-out people, {} steps)", set.name, h.validation, h.t1))?;
    print(Table { head: head.clone(), rows })?;
    let published = ROWS
        .iter()
        .map(|(name, _, cells)| std::iter::once(*name).chain(cells.iter().copied()).map(String::from).collect())
        .collect();
    print(format!(
        "The paper's, LuNet on 150 held-out people of MARS (* trapped in a bad optimum):\n{}",
        Table { head, rows: published }
    ))?;
    let recipe = h.departures();
    match published_data(&set, &h) {
        true => print("The validation people are drawn from the seed; the paper's are not known.")?,
        false => print(format!("Not comparable with the paper: other data or recipe ({}).", recipe.join("; ")))?,
    }
    let path = root.join("table1.json");
    let value = json!({"data": set.name, "steps": h.t1, "seed": h.seed, "cells": json_rows, "departures": recipe});
    files::write_atomic(&path, serde_json::to_string_pretty(&value)?.as_bytes())?;
    print(format!("results: {}", path.display()))
}

/// MARS, 150 held-out people, the paper's recipe but for the augmentation, which Table 1 does without.
fn published_data(set: &ReidSet, h: &Hyper) -> bool {
    set.layout == datasets::Layout::Mars
        && set.is_published()
        && h.validation == 150
        && h.departures().iter().all(|text| text.starts_with("--augment"))
}
