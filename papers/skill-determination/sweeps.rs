//! Figures 4 to 6 and Table 2: ours, and the paper's where it has the set.

use super::*;
use rankle::run::report::Table;

/// How many draws of random snippets are averaged.
const DRAWS: u64 = 20;

fn percent(value: f64) -> String {
    if value.is_finite() { format!("{value:.1}") } else { "–".into() }
}

/// Prints the three figures and writes them as `sweeps.json`.
pub fn print_all(at: &Path, h: &Hyper, world: &World, scored: &Scored, scoring: &flags::Scoring) -> Result<()> {
    let set = &world.set;
    let place = published::place(set);
    let fair = published::comparable(h, set, scoring).and_then(|()| {
        if h.streams.len() < 2 {
            return Err("the paper's figures are of both streams".into());
        }
        if !scored.whole {
            return Err("training stopped before its last step".into());
        }
        match (scoring.alpha - 0.4).abs() < 1e-9 {
            true => Ok(()),
            false => Err(format!("--alpha {} (the paper's Figures 5 and 6: 0.4)", scoring.alpha)),
        }
    });
    let head = |first: &str, columns: Vec<String>| [first.to_string()].into_iter().chain(columns).collect::<Vec<_>>();
    let row = |name: &str, values: &[f64]| {
        [name.to_string()].into_iter().chain(values.iter().map(|&value| percent(value))).collect::<Vec<_>>()
    };
    // The paper's curves are for L_rank3 on AlexNet.
    let theirs = place.filter(|_| h.loss == Loss::Rank3 && h.net != Net::BnInception);
    let mut json = serde_json::Map::new();

    if h.streams.len() == 2 {
        let ours: Vec<f64> =
            (0..=10).map(|i| 100. * scored.accuracy(set, i as f64 / 10., usize::MAX, Taken::Start)).collect();
        let mut rows = vec![row("ours", &ours)];
        rows.extend(theirs.map(|i| row("paper (its curve)", &published::FIG_4[i])));
        print("Fig. 4: accuracy by alpha, the spatial stream's weight")?;
        print(Table { head: head("alpha", (0..=10).map(|i| format!("{:.1}", i as f64 / 10.)).collect()), rows })?;
        json.insert("alpha".into(), json!(ours));
    }

    let mut rows = Vec::new();
    let mut snippets = serde_json::Map::new();
    // More snippets than were scored there are not.
    let counts: Vec<usize> = published::COUNTS.into_iter().filter(|&count| count <= scoring.sigma).collect();
    for (i, name) in ["start", "end", "random"].into_iter().enumerate() {
        let at_count = |&count: &usize| match i {
            0 => scored.accuracy(set, scoring.alpha, count, Taken::Start),
            1 => scored.accuracy(set, scoring.alpha, count, Taken::End),
            _ => {
                let draw = |draw: u64| scored.accuracy(set, scoring.alpha, count, Taken::Random(draw));
                (0..DRAWS).map(draw).sum::<f64>() / DRAWS as f64
            }
        };
        let ours: Vec<f64> = counts.iter().map(|count| 100. * at_count(count)).collect();
        rows.push(row(&format!("ours, from the {name}"), &ours));
        rows.extend(
            theirs.map(|set| row(&format!("paper, from the {name}"), &published::FIG_5[set][i][..counts.len()])),
        );
        snippets.insert(name.into(), json!(ours));
    }
    print(format!("Fig. 5: accuracy by the number of snippets (random: mean of {DRAWS} draws)"))?;
    print(Table { head: head("snippets", counts.iter().map(usize::to_string).collect()), rows })?;
    json.insert("snippets".into(), Value::Object(snippets));

    let bins = scored.by_separation(set, scoring.alpha);
    let ours: Vec<f64> = bins.iter().map(|&(right, all)| 100. * right as f64 / all as f64).collect();
    let counts: Vec<String> =
        ["pairs".to_string()].into_iter().chain(bins.iter().map(|(_, all)| all.to_string())).collect();
    let mut rows = vec![counts, row("ours", &ours)];
    rows.extend(theirs.map(|i| {
        let bars: Vec<f64> = (0..bins.len()).map(|n| published::FIG_6[i].get(n).copied().unwrap_or(f64::NAN)).collect();
        row("paper (its bars)", &bars)
    }));
    print("Fig. 6: accuracy by separation, the length of the longest path between two videos")?;
    print(Table { head: head("separation", (1..=bins.len()).map(|n| n.to_string()).collect()), rows })?;
    json.insert("separation".into(), json!(ours));

    if let Err(reason) = &fair {
        print(format!("Not comparable with the paper: {reason}."))?;
    }
    let path = at.join("sweeps.json");
    files::write_atomic(&path, serde_json::to_string_pretty(&json)?.as_bytes())?;
    print(format!("results: {}", path.display()))
}

/// Table 2: all three losses trained alike.
pub fn table2(args: &flags::Reproduce, scale: flags::Scale, machine: &Machine) -> Result<()> {
    if args.hyper.loss.is_some() {
        bail!("--table 2 goes through all losses: leave --loss out");
    }
    let cell = |loss: Loss| {
        let mut flags = args.hyper.clone();
        flags.loss = Some(loss);
        // Eq. 8 alone has it.
        flags.beta = flags.beta.filter(|_| loss == Loss::Rank3);
        flags.resolve(scale)
    };
    let base = cell(Loss::Rank3)?;
    let scoring = args.scoring.resolve(&base.streams)?;
    let root = args.run.clone().unwrap_or_else(|| {
        let folder = base.folder();
        folder.with_file_name(format!(
            "table2-{}",
            folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into())
        ))
    });
    let world = World::open(&base)?;
    let (mut rows, mut cells, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    for loss in Loss::ALL {
        let h = cell(loss)?;
        let at = root.join(loss.name());
        say(format!("L_{}", loss.name()));
        train_all(&h, &world, &at, machine)?;
        let results = evaluate(&at, &h, &world, machine, &scoring)?;
        let score = |name: &str| results.scores.iter().find(|(known, _)| known == name).map(|(_, score)| 100. * score);
        let last = *base.streams.iter().map(|stream| stream.name()).collect::<Vec<_>>().last().unwrap_or(&"spatial");
        let last = if base.streams.len() == 2 { "fused" } else { last };
        let [splits, gap, near] = ["single splits", "gap of similar pairs", "similar pairs within the margin"]
            .map(|name| score(&format!("{last}, {name}")));
        let names = ["spatial", "temporal", "fused"];
        let accuracies = names.map(score).into_iter().chain([splits]).map(|score| score.map_or("–".into(), percent));
        let gap = gap.map(|gap| gap / 100.);
        let gap_cell = gap.map_or("–".into(), |gap| format!("{gap:.3}"));
        let near_cell = near.map_or("–".into(), percent);
        rows.push([format!("L_{}", loss.name())].into_iter().chain(accuracies).chain([gap_cell, near_cell]).collect());
        // Of one set; BN-Inception's are the first version's.
        let theirs: Vec<&Claim> = results.claims.iter().filter(|claim| claim.place.starts_with("Table 2")).collect();
        if published::place(&world.set).is_some() {
            let of = |name: &str| theirs.iter().find(|claim| claim.what.ends_with(name)).map(|claim| claim.paper);
            let paper = names.map(of).map(|paper| paper.map_or("–".into(), percent));
            let place = theirs.first().map_or("Table 2", |claim| claim.place.as_str());
            let name = if place == "Table 2" { "  the paper".into() } else { format!("  the paper, {place}") };
            rows.push([name].into_iter().chain(paper).chain(["–", "–", "–"].map(String::from)).collect());
        }
        for claim in theirs {
            cells.push(json!({"what": claim.what, "place": claim.place, "paper": claim.paper}));
        }
        cells.push(json!({"loss": loss.name(), "spatial": score("spatial"), "temporal": score("temporal"), "fused": score("fused"), "single_splits": splits, "gap_of_similar_pairs": gap, "similar_pairs_within_the_margin": near}));
        reasons.extend(results.comparable.clone().err());
    }
    print(format!(
        "Table 2 on {}: pairwise accuracy in %, {} test pairs pooled over the folds",
        world.set.name,
        base.chosen(&world.set)?.into_iter().map(|fold| world.set.folds[fold].test.len()).sum::<usize>()
    ))?;
    let head = ["loss", "spatial", "temporal", "fused", "single splits", "gap of similar pairs", "similar within m"];
    print(Table { head: head.map(String::from).to_vec(), rows })?;
    print(
        "The paper's table has the first three; single splits are compared one by one (Eq. 5); then the mean distance of held-out similar pairs in units of the strict pairs' (less is better), and how many of them, in %, are no farther apart than the margin (Eq. 6).",
    )?;
    reasons.dedup(); // one that holds for all losses
    if !reasons.is_empty() {
        print(format!("Not comparable with the paper: {}.", reasons.join("; ")))?;
    }
    let path = root.join("table2.json");
    let value = json!({"data": world.set.name, "seed": base.seed, "cells": cells, "departures": base.departures()});
    files::write_atomic(&path, serde_json::to_string_pretty(&value)?.as_bytes())?;
    print(format!("results: {}", path.display()))
}
