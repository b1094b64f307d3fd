//! Figure 5: the six models trained on the same data and seeds, what distances they give to training pairs, and how
//! they rank test people.

use super::*;
use rankle::run::report::{Bars, Table};

/// What a model came to, a number a seed.
#[derive(Default)]
struct Row {
    scores: std::collections::BTreeMap<String, Vec<f64>>,
}

impl Row {
    fn of(&self, name: &str) -> &[f64] {
        self.scores.get(name).map_or(&[], Vec::as_slice)
    }

    fn mean(&self, name: &str) -> f64 {
        mean_and_spread(self.of(name)).0
    }
}

/// Trains and scores every model on every split with every seed, each in its own resumable run folder; prints Figure 5's
/// numbers beside ours, and says whether the expected order came out.
pub fn reproduce(args: &flags::Reproduce, machine: &Machine) -> Result<()> {
    ensure!(args.hyper.model.is_none(), "--model: reproduce takes --models, e.g. --models quadruplet,triplet-improved");
    let seeds = if args.seeds.is_empty() { vec![args.hyper.seed] } else { args.seeds.clone() };
    let twice = (1..seeds.len()).find(|&i| seeds[..i].contains(&seeds[i]));
    ensure!(twice.is_none(), "--seeds: {} comes twice", seeds[twice.unwrap_or(0)]);
    let splits = args.splits.as_ref().map_or_else(|| vec![args.hyper.split], |splits| splits.list.clone());
    let models: Vec<Model> =
        Model::ALL.into_iter().filter(|model| args.models.is_empty() || args.models.contains(model)).collect();
    // Refused before hours of training: flags that no model takes, or that do not fit one of the models.
    args.hyper.refuse_idle(&models)?;
    models.iter().try_for_each(|&model| flags::order_of(model, args.scoring.order).map(drop)).or_else(|error| {
        if models.iter().any(|&model| model != Model::TripletEmbedding) { Ok(()) } else { Err(error) }
    })?;
    let of = |model: Model, split: Split, seed: u64| -> Result<Hyper> {
        flags::Flags { split, seed, ..args.hyper.of_model(model) }.resolve()
    };
    models.iter().try_for_each(|&model| of(model, splits[0], seeds[0]).map(drop))?;
    let first = of(models[0], splits[0], seeds[0])?;
    let root = args.run.clone().unwrap_or_else(|| {
        let several = args.splits.as_ref().map_or_else(String::new, |splits| format!("-splits{splits}"));
        Path::new("data/runs/quadruplet").join(format!("{}{several}-figure5", first.data_name()))
    });
    let folder = |model: Model, split: Split, seed: u64| {
        let split = if args.splits.is_some() { format!("-split{split}") } else { String::new() };
        root.join(format!("{}{split}-{seed}", model.name()))
    };
    let sets: Vec<ReidSet> =
        splits.iter().map(|&split| open(&of(models[0], split, seeds[0])?)).collect::<Result<_>>()?;
    if let Some(why) = sets.iter().find_map(|set| unscorable(&first, set)) {
        bail!("{why}");
    }
    let notes: std::collections::BTreeSet<&String> = sets.iter().flat_map(|set| &set.notes).collect();
    notes.iter().for_each(|note| say(format!("note: {note}")));
    let mut rows = Vec::new();
    let mut comparable = Ok(());
    let mut cells = Vec::new();
    for &model in &models {
        let mut row = Row::default();
        for (set, &split) in sets.iter().zip(&splits) {
            for &seed in &seeds {
                let h = of(model, split, seed)?;
                let at = folder(model, split, seed);
                let which = if args.splits.is_some() { format!(", split {split}") } else { String::new() };
                say(format!("{}{which}, seed {seed}", model.title()));
                let (store, net) = train(&h, set, &at, machine)?;
                let results = evaluate(&at, &h, set, &net, h.steps + h.steps2, machine, &args.scoring)?;
                drop(store);
                for (name, score) in &results.scores {
                    row.scores.entry(name.clone()).or_default().push(*score);
                }
                comparable = comparable.and(results.comparable.clone());
                cells.push(json!({
                    "model": model.name(), "split": split, "seed": seed, "run": at.display().to_string(),
                    "scores": results.json()["scores"], "departures": results.departures,
                }));
            }
        }
        rows.push((model, row));
    }
    let (set, first_split) = (&sets[0], splits[0]);
    let tables = [distances_table(&rows), ranks_table(&rows)];
    let checks = checks(&rows);
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let several = if args.splits.is_some() { format!(", {}", count(splits.len(), "split")) } else { String::new() };
    print(format!("Figure 5 on {}{several}, {}", set.name, count(seeds.len(), "seed")))?;
    print(&tables[0])?;
    print(
        "ours: mean ± standard deviation over pairs, averaged over splits and seeds; the figure is of CUHK03's training set",
    )?;
    if let Err(reason) = &comparable {
        print(format!("Not comparable with the paper: {reason}."))?;
    }
    print(&tables[1])?;
    checks.iter().try_for_each(print)?;

    // What holds for one of the models; each cell has its own.
    let mut departures: Vec<String> = Vec::new();
    for &model in &models {
        let h = of(model, splits[0], seeds[0])?;
        let lines = paper::departures(&DEPARTURES, &h).into_iter().chain(h.departures());
        departures.extend(lines.filter(|text| !departures.contains(text)).collect::<Vec<_>>());
    }
    let path = root.join("figure5.json");
    let value = json!({
        "data": set.name, "splits": splits, "seeds": seeds, "cells": cells, "checks": checks,
        "comparable": comparable.is_ok(), "not_comparable_because": comparable.as_ref().err(),
        "paper": published::FIGURE_5.map(|(model, intra, inter)| json!({"model": model.name(), "same": intra, "different": inter})),
    });
    files::write_atomic(&path, serde_json::to_string_pretty(&value)?.as_bytes())?;
    let mut report = Report::new("quadruplet: six models", published::CITATION);
    report.facts(&[
        ("data".into(), set.name.clone()),
        ("splits".into(), splits.iter().map(Split::to_string).collect::<Vec<_>>().join(", ")),
        ("seeds".into(), seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
        ("device".into(), machine.name.clone()),
    ]);
    let why = comparable.as_ref().err().map(|reason| format!("Not comparable with the paper: {reason}."));
    report.table("Figure 5: distances of training pairs", why.as_deref().unwrap_or(""), &tables[0]);
    report.bars(
        "Figure 5, drawn",
        "Mean distance of training pairs; the thin line is a standard deviation over pairs to either side. Without softmax g has no bound, and embeddings have another scale.",
        "distance",
        &models.iter().map(|model| model.title().to_string()).collect::<Vec<_>>(),
        &bars(&rows, comparable.is_ok()),
    );
    report.table(
        "Ranking of test people",
        "Per cent; of several splits and seeds means and standard deviations over all of them.",
        &tables[1],
    );
    report.list("The expected order", &checks);
    report.list("Data", &notes.into_iter().cloned().collect::<Vec<_>>());
    report.list("Departures from the paper", &departures);
    report.write(&root.join("report.html"))?;
    // The last model is the paper's: what a user takes along.
    let last = of(models[models.len() - 1], first_split, seeds[0])?;
    let at = folder(last.model, first_split, seeds[0]);
    let Trained { network, store, .. } = load(&at, machine)?;
    let model = export_run(&at, &last, &store, &network, args.scoring.order.unwrap_or(Order::Both))?;
    print(format!("results: {}", path.display()))?;
    print(format!("report:  {}", root.join("report.html").display()))?;
    print(format!("model:   {}", model.display()))
}

fn spread_of(name: &str) -> String {
    name.replace("mean distance", "standard deviation")
}

/// Figure 5's bars: ours, and the figure's own where ours may stand beside them (it prints no spread).
fn bars(rows: &[(Model, Row)], beside: bool) -> Vec<Bars> {
    let ours = |name: &str| rows.iter().map(|(_, row)| (row.mean(name), Some(row.mean(&spread_of(name))))).collect();
    let mut bars = vec![
        Bars { name: "same person".into(), values: ours(INTRA) },
        Bars { name: "different people".into(), values: ours(INTER) },
    ];
    if beside {
        let paper = |pick: fn(&(Model, f64, f64)) -> f64| {
            let of = |(model, _): &(Model, Row)| published::FIGURE_5.iter().find(|known| known.0 == *model).map(pick);
            rows.iter().map(|row| (of(row).unwrap_or(f64::NAN), None)).collect()
        };
        bars.push(Bars { name: "same person, the figure".into(), values: paper(|known| known.1) });
        bars.push(Bars { name: "different people, the figure".into(), values: paper(|known| known.2) });
    }
    bars
}

fn distances_table(rows: &[(Model, Row)]) -> Table {
    let row = |(model, row): &(Model, Row)| {
        let cell = |name: &str| format!("{:.6} ± {:.3}", row.mean(name), row.mean(&spread_of(name)));
        let paper = published::FIGURE_5.iter().find(|known| known.0 == *model);
        let paper =
            |pick: fn(&(Model, f64, f64)) -> f64| paper.map_or_else(String::new, |known| pick(known).to_string());
        vec![model.title().into(), paper(|known| known.1), cell(INTRA), paper(|known| known.2), cell(INTER)]
    };
    Table {
        head: ["model", "same person: paper", "ours", "different people: paper", "ours"].map(String::from).to_vec(),
        rows: rows.iter().map(row).collect(),
    }
}

fn ranks_table(rows: &[(Model, Row)]) -> Table {
    const NAMES: [&str; 4] = ["single shot rank-1", "single shot rank-5", "single shot rank-10", "whole gallery mAP"];
    let row = |(model, row): &(Model, Row)| {
        let cells = NAMES.map(|name| {
            let (mean, spread) = mean_and_spread(row.of(name));
            match row.of(name).len() {
                1 => format!("{:.2}", 100. * mean),
                _ => format!("{:.2} ± {:.2}", 100. * mean, 100. * spread),
            }
        });
        [model.title().to_string()].into_iter().chain(cells).collect()
    };
    Table { head: ["model"].into_iter().chain(NAMES).map(String::from).collect(), rows: rows.iter().map(row).collect() }
}

/// What the figure and the paper's text lead to expect, checked on the means over seeds.
fn checks(rows: &[(Model, Row)]) -> Vec<String> {
    let value = |model: Model, name: &str| rows.iter().find(|row| row.0 == model).map(|row| row.1.mean(name));
    // From "w/o sfx" on the same distance is measured, so its means can be ordered.
    let line = [Model::TripletNoSoftmax, Model::TripletImproved, Model::Quadruplet, Model::QuadrupletMargohnm];
    let mut list = Vec::new();
    let mut check = |what: &str, name: &str, rises: bool| {
        let steps: Vec<(Model, f64)> =
            line.into_iter().filter_map(|model| Some((model, value(model, name)?))).collect();
        if steps.len() < 2 {
            return;
        }
        let broken: Vec<String> = steps
            .windows(2)
            // Negated, so that a NaN breaks the order.
            .filter(|pair| !if rises { pair[1].1 >= pair[0].1 } else { pair[1].1 <= pair[0].1 })
            .map(|pair| format!("{} {:.4} to {} {:.4}", pair[0].0.title(), pair[0].1, pair[1].0.title(), pair[1].1))
            .collect();
        let verdict = if broken.is_empty() { "yes".into() } else { format!("no: {}", broken.join("; ")) };
        list.push(format!("{what}: {verdict}"));
    };
    check("distance of one person falls from w/o softmax to MargOHNM (Figure 5)", INTRA, false);
    check("distance of two people rises from w/o softmax to MargOHNM (Figure 5)", INTER, true);
    check("its spread for one person falls (Figure 5)", &spread_of(INTRA), false);
    check("its spread for two people falls (Figure 5)", &spread_of(INTER), false);
    check(
        "single-shot rank-1 rises (what the text leads to expect; the paper's table was not found)",
        "single shot rank-1",
        true,
    );
    list
}
