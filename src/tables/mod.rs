//! `reproduce` of several runs: a table of the paper, or one run over seeds and splits. Every cell is a run in a folder of
//! its own, which resumes as any run does.

mod jobs;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::device::machine::Machine;
use crate::hyper::{self, All, FlagValues, Heading, Typed};
use crate::needs::{self, Planned};
use crate::paper::{self, Paper};
use crate::report::{Report, Table};
use crate::results::not_comparable;
use crate::run::checkpoint;
use crate::run::config::{Config, typed_as};
use crate::run::folder::{BEFORE, NEWEST, REPORT};
use crate::say::{answer, count, note, one_line, print, print_lines, say};
use crate::study::{self, Grid, Sheet, Study};
use crate::{files, lists, outputs};

pub(crate) use jobs::Wish;
use jobs::{Asked, Job, seeds, splits};

/// Refuses flags of scoring that do not go with a run of `h`.
pub(crate) fn scorable<P: Paper>(h: &P::Hyper, how: &P::Scoring, typed: &FlagValues, whose: Typed) -> Result<()> {
    hyper::refuse_idle(h, typed, whose).and_then(|()| P::check_scoring(h, how)).map_err(hyper::usage)
}

/// One row: the run of the command line, over seeds and splits.
pub(crate) fn one<P: Paper>(wish: &Wish, machine: &Machine) -> Result<()> {
    let title = "Mean ± standard deviation over seeds and splits";
    let study = Study { name: "runs", title, rows: &[("ours", hyper::as_usual, &[])], ..Study::PLAIN };
    grid::<P>(&study, wish, machine)
}

/// The table `name` of the paper.
pub(crate) fn named<P: Paper>(name: &str, wish: &Wish, machine: &Machine) -> Result<()> {
    let of = || P::STUDIES.iter().filter(|study| study.name == name);
    match of().find(|study| Asked::<P>::new(study, wish).is_ok()).or(of().next_back()) {
        Some(study) => grid::<P>(study, wish, machine),
        None => {
            let mut known: Vec<&str> = P::STUDIES.iter().map(|study| study.name).collect();
            known.dedup();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            Err(hyper::usage(anyhow!("--table {name}: this paper has {known}")))
        }
    }
}

/// Leaves out the columns whose data set's folder is not here, and says why. The data of the others are opened once, and what
/// they start from is looked for, before the first one trains.
///
/// # Errors
/// Where data or a start cannot be used, and where no column is left.
fn left_out<P: Paper>(jobs: &mut Vec<Job<P>>, asked: &Asked<P>) -> Result<BTreeMap<&'static str, String>> {
    let (mut absent, mut opened, mut starts) = (BTreeMap::new(), HashSet::new(), HashSet::new());
    let gone = |h: &All<P::Hyper>| {
        let data = hyper::flags(h).get("data").map_or(String::new(), typed_as);
        !asked.apart.is_empty() && data != "drawn" && !Path::new(&data).exists()
    };
    let none_left = jobs.iter().all(|job| gone(&job.h));
    for Job { column, h, at, .. } in &*jobs {
        let data: Vec<String> =
            hyper::under::<P::Hyper>(Heading::Data).iter().map(|flag| hyper::shown(h, flag)).collect();
        let begun = Config::read(at).ok();
        let own = begun.map_or_else(|| Ok(h.own.clone()), |begun| paper::known_start::<P>(&h.own, &begun))?;
        let start = P::start(&own);
        // One set is opened once, whatever is trained on it.
        if opened.insert((data, h.usual.seed, start.as_ref().ok().cloned())) {
            match P::open(&own, h.usual.seed) {
                Err(error) if gone(h) && !none_left => {
                    absent.entry(asked.columns[*column].0).or_insert(one_line(&error));
                }
                opened => drop(opened?),
            }
        }
        if !gone(h)
            && !checkpoint::exists(at)
            && let Some(start) = start?
            && starts.insert(start.clone())
        {
            checkpoint::check_start(&start)?;
        }
    }
    absent.iter().for_each(|(column, why)| note(format!("{column} stays empty: {why}")));
    jobs.retain(|job| !gone(&job.h));
    Ok(absent)
}

/// A table for machines.
const TABLE: &str = "table.json";

/// Where the table of these `jobs` stands: in the folder `root` of its runs; where a table stands there that has cells which are
/// not asked for now, in a folder below it, by what is asked for.
fn stands<P: Paper>(root: &Path, asked: &Asked<P>, rows: &[usize], wish: &Wish, jobs: &[Job<P>]) -> PathBuf {
    let of = |Job { place, column, h, split, .. }: &Job<P>| {
        json!([asked.rows[rows[*place]].0, asked.columns[*column].0, h.usual.seed, split]).to_string()
    };
    let wanted: HashSet<String> = jobs.iter().map(of).collect();
    // Also one that was edited, which is not replaced.
    let there = lists::json(&root.join(TABLE)).unwrap_or(Value::Null);
    let known = |cell: &Value| json!([cell["row"], cell["column"], cell["seed"], cell["split"]]).to_string();
    if there["cells"].as_array().into_iter().flatten().all(|cell| wanted.contains(&known(cell))) {
        return root.into();
    }
    let numbers = |of: &[usize]| of.iter().map(|i| (i + 1).to_string()).collect::<Vec<_>>().join(",");
    let columns: Vec<usize> = jobs.iter().map(|job| job.column).collect::<BTreeSet<_>>().into_iter().collect();
    let seeds = wish.seeds.clone().or(jobs.first().map(|job| job.h.usual.seed.to_string()));
    let words = [
        ("rows", Some(numbers(rows)).filter(|_| rows.len() < asked.rows.len())),
        ("columns", Some(numbers(&columns)).filter(|_| columns.len() < asked.columns.len())),
        ("seeds", seeds),
        ("splits", wish.splits.clone()),
    ];
    let words = words.into_iter().filter_map(|(what, of)| Some(format!("-{what}-{}", of?)));
    let below = root.join(format!("table{}", words.collect::<String>().replace('/', "-")));
    let (table, at) = (root.join(TABLE), below.display());
    note(format!("{} has cells that are not asked for now, and stays: this table stands in {at}", table.display()));
    below
}

/// Trains, scores and prints all cells.
fn grid<P: Paper>(study: &Study<P::Hyper, P::Scoring>, wish: &Wish, machine: &Machine) -> Result<()> {
    let (seeds, splits, asked) = (seeds(wish)?, splits::<P::Hyper>(wish)?, Asked::<P>::new(study, wish)?);
    let rows = asked.wanted()?;
    asked.refuse_idle(&rows)?;
    let data = wish.typed.get("data").or_else(|| asked.flags[0].get("data")).map_or(String::new(), typed_as);
    let data = match !asked.apart.is_empty() {
        true => asked.columns.iter().map(|column| column.0).collect::<Vec<_>>().join(", "),
        false => hyper::data_name(&data),
    };
    let root = asked.folder(&wish.typed);
    let page = format!("{}: {}", P::NAME, study.title);
    let free = |at: &Path| {
        outputs::check(&at.join(TABLE), "table").and_then(|()| outputs::check(&at.join(REPORT), &page)).context("--run")
    };
    if !wish.plan {
        let run = ["config.json", NEWEST, BEFORE].iter().find(|name| root.join(name).exists());
        ensure!(
            run.is_none(),
            "{} holds a run, and this makes a folder of runs: name another with --run",
            root.display()
        );
    }
    let mut jobs = asked.jobs(&rows, &seeds, &splits)?;
    if wish.plan {
        let planned = |job| {
            let Job { words, at, h, lacks, .. }: &Job<P> = job;
            Planned { words, at, h, lacks: lacks.as_deref() }
        };
        return needs::print::<P>(&jobs.iter().map(planned).collect::<Vec<_>>(), machine);
    }
    let absent = left_out::<P>(&mut jobs, &asked)?;
    let folder = stands(&root, &asked, &rows, wish, &jobs);
    free(&folder)?;
    let path = folder.join(TABLE);
    // Its runs may lie in folders of their data's own tables.
    std::fs::create_dir_all(&folder).map_err(|error| files::cannot(&folder, error))?;
    let (mut cells, mut reasons, mut departures) = (Vec::new(), Vec::<String>::new(), Vec::<String>::new());
    let mut grid = Grid {
        rows: rows.iter().map(|&r| asked.rows[r].0.to_string()).collect(),
        cells: vec![vec![Vec::new(); asked.columns.len()]; rows.len()],
    };
    let mut claimed = vec![Vec::new(); rows.len()];
    for Job { place, column, words, split, h, scoring, at, into, .. } in &jobs {
        say(format!("{words}: {}", at.display()));
        let run = paper::run_of(h, machine.clone());
        let data = paper::opened_data::<P>(h, machine, Some(at))?;
        paper::train::<P>(h, &data, at, &run)?;
        let (results, _) = paper::scored::<P>(at, &run, &data, into, scoring)?;
        reasons.extend(results.not_comparable_because.clone().filter(|why| !reasons.contains(why)));
        let new: Vec<_> = results.departures.iter().filter(|text| !departures.contains(text)).cloned().collect();
        departures.extend(new);
        cells.push(json!({
            "row": grid.rows[*place], "column": asked.columns[*column].0, "seed": h.usual.seed, "split": split,
            "run": at.display().to_string(), "flags": hyper::flags(h), "departures": results.departures,
            "scores": results.scores.iter().map(|score| (score.name.clone(), json!(score.value))).collect::<FlagValues>(),
        }));
        let fair = results.claims.into_iter().filter(|claim| claim.ours.is_some());
        claimed[*place].extend(fair.map(|claim| (*column, claim.score, claim.paper)));
        grid.cells[*place][*column].push(results.scores);
    }

    let several = seeds.len() * splits.len() > 1;
    let spread =
        if several { "± is the sample standard deviation (divided by n - 1) over seeds and splits." } else { "" };
    let splits = wish.splits.as_ref().map_or(String::new(), |_| format!(", {}", count(splits.len(), "split")));
    let from = wish.typed.get(hyper::START).map_or(String::new(), |run| format!(", fine-tuned from {}", typed_as(run)));
    let title = format!("{} on {data}{from}{splits}, {}", study.title, count(seeds.len(), "seed"));
    let of = |sheet: &'static Sheet| {
        (sheet.title.to_string(), study::sheet_table(sheet, study, (&grid, &claimed), &rows), Some(sheet))
    };
    let mut tables: Vec<(String, Table, Option<&Sheet>)> = study.sheets.iter().map(of).collect();
    if tables.is_empty() {
        tables.push(("Scores".into(), study::spread_table(&grid), None));
    }
    let said = asked.columns.iter().enumerate().flat_map(|(c, &(column, _))| {
        let before = if column.is_empty() { String::new() } else { format!("{column}: ") };
        (study.says)(&grid.column(c)).into_iter().map(move |text| before.clone() + &text)
    });
    let said: Vec<String> = said.collect();
    print(&title)?;
    tables.iter().try_for_each(|(title, table, _)| print_lines(format!("{title}\n{table}")))?;
    if several {
        print(spread)?;
    }
    said.iter().try_for_each(print)?;
    let why = (!reasons.is_empty()).then(|| not_comparable(&reasons.join("; ")));
    why.iter().try_for_each(print)?;
    let value = json!({
        "title": title, "cells": cells, "says": said, "absent": absent,
        "not_comparable_because": reasons, "departures": departures,
    });
    outputs::write_json(&path, "table", &value)?;
    answer(&value)?;
    let mut report = Report::new(&page, P::CITATION);
    report.facts(&[("data".into(), data), ("device".into(), machine.name.clone())]);
    let why = [&*why.unwrap_or_default(), spread].join(" ");
    for (title, table, sheet) in &tables {
        report.table(title, why.trim(), table);
        if let Some(sheet) = sheet.filter(|sheet| sheet.bars) {
            let line = "The thin line is a sample standard deviation to either side.";
            report.bars(&format!("{title}, drawn"), line, "", &grid.rows, &study::bars(sheet, &grid));
        }
    }
    report.list("What came out", &said);
    let absent: Vec<String> = absent.iter().map(|(column, why)| format!("{column}: {why}")).collect();
    if !absent.is_empty() {
        report.list("Columns that stay empty", &absent);
    }
    report.list("Departures from the paper", &departures);
    report.write(&folder.join(REPORT))?;
    print(format!("results: {}", path.display()))?;
    print(format!("report:  {}", folder.join(REPORT).display()))?;
    // The last row is what a user takes along.
    jobs.last().map_or(Ok(()), |job| paper::exported::<P>(&job.at, machine, &job.scoring))
}
