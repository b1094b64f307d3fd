//! Figure 5: the six models trained on the same data and seeds, what distances they give to training pairs, and how
//! they rank test people.

use super::*;
use rankle::run::report::Table;

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

/// Trains and scores every model with every seed, each in its own resumable run folder; prints Figure 5's numbers
/// beside ours, and says whether the expected order came out.
pub fn reproduce(args: &flags::Reproduce, machine: &Machine) -> Result<()> {
    ensure!(args.hyper.model.is_none(), "--model: reproduce takes --models, e.g. --models quadruplet,triplet-improved");
    let seeds = if args.seeds.is_empty() { vec![args.hyper.seed] } else { args.seeds.clone() };
    let models: Vec<Model> =
        Model::ALL.into_iter().filter(|model| args.models.is_empty() || args.models.contains(model)).collect();
    let of = |model: Model, seed: u64| -> Result<Hyper> {
        flags::Flags { model: Some(model), seed, ..args.hyper.clone() }.resolve()
    };
    let first = of(models[0], seeds[0])?;
    let root = args
        .run
        .clone()
        .unwrap_or_else(|| Path::new("data/runs/quadruplet").join(format!("{}-figure5", first.data_name())));
    // Refused before hours of training: flags that do not fit one of the models.
    models.iter().try_for_each(|&model| of(model, seeds[0]).map(drop))?;
    let set = open(&first)?;
    set.notes.iter().for_each(|note| say(format!("note: {note}")));
    let mut rows = Vec::new();
    let mut comparable = Ok(());
    let mut cells = Vec::new();
    for &model in &models {
        let mut row = Row::default();
        for &seed in &seeds {
            let h = of(model, seed)?;
            let at = root.join(format!("{}-{seed}", model.name()));
            say(format!("{}, seed {seed}", model.title()));
            let (store, net) = train(&h, &set, &at, machine)?;
            let results = evaluate(&at, &h, &set, &net, h.steps + h.steps2, machine, &args.scoring)?;
            drop(store);
            for (name, score) in &results.scores {
                row.scores.entry(name.clone()).or_default().push(*score);
            }
            comparable = comparable.and(results.comparable.clone());
            cells.push(json!({
                "model": model.name(), "seed": seed, "run": at.display().to_string(),
                "scores": results.json()["scores"], "departures": results.departures,
            }));
        }
        rows.push((model, row));
    }
    let tables = [distances_table(&rows), ranks_table(&rows)];
    let checks = checks(&rows);
    print(format!("Figure 5 on {}, {} seed{}", set.name, seeds.len(), if seeds.len() == 1 { "" } else { "s" }))?;
    print(&tables[0])?;
    print("ours: mean ± standard deviation over pairs, averaged over seeds; the figure is of CUHK03's training set")?;
    if let Err(reason) = &comparable {
        print(format!("Not comparable with the paper: {reason}."))?;
    }
    print(&tables[1])?;
    checks.iter().try_for_each(print)?;

    // What holds for one of the models; each cell has its own.
    let mut departures: Vec<String> = Vec::new();
    for &model in &models {
        let h = of(model, seeds[0])?;
        let lines = paper::departures(&DEPARTURES, &h).into_iter().chain(h.departures());
        departures.extend(lines.filter(|text| !departures.contains(text)).collect::<Vec<_>>());
    }
    let path = root.join("figure5.json");
    let value = json!({
        "data": set.name, "seeds": seeds, "cells": cells, "checks": checks,
        "comparable": comparable.is_ok(), "not_comparable_because": comparable.as_ref().err(),
        "paper": published::FIGURE_5.map(|(model, intra, inter)| json!({"model": model.name(), "same": intra, "different": inter})),
    });
    files::write_atomic(&path, serde_json::to_string_pretty(&value)?.as_bytes())?;
    let mut report = Report::new("quadruplet: six models", published::CITATION);
    report.facts(&[
        ("data".into(), set.name.clone()),
        ("seeds".into(), format!("{seeds:?}")),
        ("device".into(), machine.name.clone()),
    ]);
    let why = comparable.as_ref().err().map(|reason| format!("Not comparable with the paper: {reason}."));
    report.table("Figure 5: distances of training pairs", why.as_deref().unwrap_or(""), &tables[0]);
    report.table("Ranking of test people", "Means and standard deviations over seeds.", &tables[1]);
    report.list("The expected order", &checks);
    report.list("Data", &set.notes);
    report.list("Departures from the paper", &departures);
    report.write(&root.join("report.html"))?;
    // The last model is the paper's: what a user takes along.
    let last = of(models[models.len() - 1], seeds[0])?;
    let at = root.join(format!("{}-{}", last.model.name(), seeds[0]));
    let Trained { network, store, .. } = load(&at, machine)?;
    let model = export_run(&at, &last, &store, &network, args.scoring.order)?;
    print(format!("results: {}", path.display()))?;
    print(format!("report:  {}", root.join("report.html").display()))?;
    print(format!("model:   {}", model.display()))
}

fn spread_of(name: &str) -> String {
    name.replace("mean distance", "standard deviation")
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
            .filter(|pair| if rises { pair[1].1 < pair[0].1 } else { pair[1].1 > pair[0].1 })
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
