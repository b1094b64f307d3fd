//! The study: every loss with every decision, over seeds.

use super::*;
use judge::{DECISIONS, Decided};
use rankle::run::report::Table;

/// A loss with what its runs came to.
struct Row {
    loss: Loss,
    judged: Vec<judge::Judged>,
}

/// Mean and population standard deviation.
fn spread(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt())
}

fn cell(values: &[f64]) -> String {
    let (mean, deviation) = spread(values);
    if values.len() == 1 {
        format!("{:.2}", 100. * mean)
    } else {
        format!("{:.2} ± {:.2}", 100. * mean, 100. * deviation)
    }
}

/// Trains and scores every loss with every seed, each in its own resumable run folder; prints one table a metric.
pub fn run(args: &flags::Study, machine: &Machine) -> Result<()> {
    ensure!(args.hyper.loss.is_none(), "--loss: study takes --losses, e.g. --losses lsep,hinge");
    let seeds = if args.seeds.is_empty() { vec![args.hyper.seed] } else { args.seeds.clone() };
    let losses: Vec<Loss> =
        Loss::ALL.into_iter().filter(|loss| args.losses.is_empty() || args.losses.contains(loss)).collect();
    let set = open(&args.hyper.data)?;
    args.hyper.refuse_idle(&losses)?;
    let of = |loss: Loss, seed: u64| args.hyper.with_loss(loss, seed).resolve(&set);
    let first = of(losses[0], seeds[0])?;
    set.check()?;
    let root = args.run.clone().unwrap_or_else(|| {
        Path::new("data/runs/multilabel-ranking").join(format!("{}-{}-study", first.data_name(), first.net_name()))
    });
    let mut rows = Vec::new();
    for &loss in &losses {
        let mut judged = Vec::new();
        for &seed in &seeds {
            let h = of(loss, seed)?;
            let at = root.join(format!("{}-{seed}", loss.name()));
            say(format!("{}, seed {seed}", loss.name()));
            let system = train(&h, &set, &at, machine)?;
            judged.push(evaluate(&at, &h, &set, &system, machine)?.1);
        }
        rows.push(Row { loss, judged });
    }
    let mut tables = Vec::new();
    for (i, metric) in Decided::NAMES.iter().enumerate().filter(|(i, _)| [2, 5, 6].contains(i)) {
        let row = |row: &Row| {
            let cells = (0..DECISIONS.len())
                .map(|d| cell(&row.judged.iter().map(|judged| judged.decided[d].1.values()[i]).collect::<Vec<_>>()));
            [row.loss.name()].into_iter().chain(cells).collect()
        };
        let head = [metric.to_string()].into_iter().chain(DECISIONS.map(String::from)).collect();
        tables.push((format!("{metric} in %"), Table { head, rows: rows.iter().map(row).collect() }));
    }
    let names: Vec<String> = rows[0].judged[0].ranking.iter().map(|(name, _)| name.clone()).collect();
    let row = |row: &Row| {
        let cells =
            (0..names.len()).map(|n| cell(&row.judged.iter().map(|judged| judged.ranking[n].1).collect::<Vec<_>>()));
        [row.loss.name()].into_iter().chain(cells).collect()
    };
    let head = ["ranking".to_string()].into_iter().chain(names.iter().cloned()).collect();
    tables.push(("Ranking, before any decision, in %".into(), Table { head, rows: rows.iter().map(row).collect() }));
    let said = who_wins(&rows);
    print(format!(
        "loss x decision on {}, {} test items, {} seed(s): mean ± standard deviation",
        set.name,
        set.test.len(),
        seeds.len()
    ))?;
    for (title, table) in &tables {
        print(format!("{title}\n{table}"))?;
    }
    said.iter().try_for_each(print)?;
    print(NOT_COMPARABLE)?;

    let path = root.join("study.json");
    let cells: Vec<Value> = rows
        .iter()
        .flat_map(|row| row.judged.iter().zip(&seeds).map(|(judged, seed)| {
            json!({
                "loss": row.loss.name(), "seed": seed, "chosen": judged.chosen,
                "ranking": judged.ranking.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>(),
                "decisions": judged.decided.iter().map(|(name, decided)| (name.to_string(), json!(decided))).collect::<serde_json::Map<_, _>>(),
            })
        }))
        .collect();
    // The losses differ from row to row, by design.
    let departures: Vec<String> = paper::departures(&DEPARTURES, &first)
        .into_iter()
        .chain(first.departures().into_iter().filter(|text| !text.starts_with("--loss")))
        .collect();
    let value = json!({
        "data": set.name, "seeds": seeds, "cells": cells, "over_seeds": rows.iter().map(over_seeds).collect::<Vec<_>>(),
        "departures": departures, "said": said,
    });
    files::write_atomic(&path, serde_json::to_string_pretty(&value)?.as_bytes())?;
    let mut report = Report::new("multilabel-ranking: losses and decisions", CITATION);
    report.facts(&[
        ("data".into(), set.name.clone()),
        ("seeds".into(), format!("{seeds:?}")),
        ("network".into(), first.net_name()),
    ]);
    tables.iter().for_each(|(title, table)| report.table(title, "", table));
    report.list("Who wins", &said);
    report.list("Departures from the paper", &departures);
    report.write(&root.join("report.html"))?;
    print(format!("results: {}", path.display()))?;
    print(format!("report:  {}", root.join("report.html").display()))
}

/// Mean, population deviation and extremes over seeds of everything that was measured of a loss.
fn over_seeds(row: &Row) -> Value {
    let summed = |of: &dyn Fn(&judge::Judged) -> f64| {
        let values: Vec<f64> = row.judged.iter().map(of).collect();
        let (mean, deviation) = spread(&values);
        let (least, most) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
        json!({"mean": mean, "deviation": deviation, "min": least, "max": most, "seeds": values.len()})
    };
    let first = &row.judged[0];
    let ranking = first.ranking.iter().enumerate();
    let ranking = ranking.map(|(i, (name, _))| (name.clone(), summed(&|judged| judged.ranking[i].1)));
    let decisions = first.decided.iter().enumerate().map(|(d, (name, _))| {
        let metrics = Decided::NAMES.iter().enumerate();
        let metrics =
            metrics.map(|(m, metric)| (metric.to_string(), summed(&|judged| judged.decided[d].1.values()[m])));
        (name.to_string(), Value::Object(metrics.collect()))
    });
    json!({
        "loss": row.loss.name(),
        "ranking": Value::Object(ranking.collect()),
        "decisions": Value::Object(decisions.collect()),
    })
}

/// For AP and every learned decision's PC-F1: which loss is best, and where LSEP stands.
fn who_wins(rows: &[Row]) -> Vec<String> {
    if rows.len() < 2 {
        return Vec::new();
    }
    let verdict = |what: &str, value: &dyn Fn(&judge::Judged) -> f64| {
        let mut order: Vec<(f64, f64, Loss)> = rows
            .iter()
            .map(|row| {
                let (mean, deviation) = spread(&row.judged.iter().map(value).collect::<Vec<_>>());
                (mean, deviation, row.loss)
            })
            .collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let place = order.iter().position(|row| row.2 == Loss::Lsep);
        let best = format!("{what}: best is {} with {:.2}", order[0].2.name(), 100. * order[0].0);
        match place {
            None => best,
            Some(0) => format!("{best}; {} is next with {:.2}", order[1].2.name(), 100. * order[1].0),
            Some(place) => format!(
                "{best}; lsep is number {} of {} with {:.2} ± {:.2}",
                place + 1,
                order.len(),
                100. * order[place].0,
                100. * order[place].1
            ),
        }
    };
    vec![
        verdict("AP an image", &|judged| judged.ranking[0].1),
        verdict("PC-F1 with label threshold", &|judged| judged.decided[5].1.pc_f1),
        verdict("PC-F1 with label count", &|judged| judged.decided[4].1.pc_f1),
        verdict("0-1 exact with label threshold", &|judged| judged.decided[5].1.exact),
        verdict("0-1 exact with label count", &|judged| judged.decided[4].1.exact),
    ]
}
