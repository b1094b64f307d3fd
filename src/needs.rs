//! What the runs of a table need before they begin: data, weights, steps, memory and hours.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::device::machine::Machine;
use crate::hyper::{self, All};
use crate::paper::{self, Paper};
use crate::report::Table;
use crate::run::checkpoint;
use crate::run::config::typed_as;
use crate::run::session::Tried;
use crate::say::{one_line, say};
use crate::{catalog, say};

/// Prints what `runs` (what each is in a table, its folder, its flags) need, and how long training takes here by some
/// steps of every network and batch among them. Nothing is trained.
///
/// # Errors
/// Where a step cannot be taken, and, behind the table, where data or weights are missing.
pub(crate) fn print<P: Paper>(runs: &[(&str, &Path, &All<P::Hyper>)], machine: &Machine) -> Result<()> {
    let (mut missing, mut times) = (Vec::<String>::new(), BTreeMap::<String, Tried>::new());
    let mut table =
        Table { head: ["run", "folder", "steps", "s/step", "memory", "hours"].map(String::from).into(), rows: vec![] };
    let (mut hours, mut steps) = (0., 0);
    let mut opened: Option<(String, Option<P::Data>)> = None;
    for (words, at, h) in runs {
        let mut lacks = Vec::new();
        if let Some(file) = paper::file_of(&h.own).filter(|file| !file.exists()) {
            let cure =
                catalog::fetch_for(&file).map_or("name one that is here".into(), |fetch| format!("{fetch} gets it"));
            lacks.push(format!("--weights {}: {cure}", file.display()));
        }
        let (run, flags) = (paper::run_of(h, machine.clone()), hyper::flags(*h));
        let of = |headings: &[&str]| -> String {
            let names = headings.iter().flat_map(|heading| hyper::under::<P::Hyper>(heading));
            names.map(|flag| typed_as(&flags[&flag])).collect::<Vec<_>>().join(" ")
        };
        let key = format!("{} {}", of(&["Data"]), run.seed);
        if opened.as_ref().is_none_or(|(before, _)| *before != key) {
            let data = paper::opened_data::<P>(h, machine, None);
            opened = Some((key, data.map_err(|error| lacks.push(one_line(&error))).ok()));
        }
        let data = opened.as_ref().and_then(|(_, data)| data.as_ref());
        let mut row = vec![words.to_string(), say::line(&at.display().to_string())];
        match data.filter(|_| lacks.is_empty()) {
            Some(data) => {
                let all = paper::steps::<P>(h, data, &run)?;
                let kind = of(&["Network", "Batches"]);
                if !times.contains_key(&kind) {
                    say(format!("a few steps of {words}"));
                    times.insert(kind.clone(), paper::tried::<P>(h, data, &run)?);
                }
                let Tried { seconds, bytes } = times[&kind];
                let own = seconds * all as f64 / 3600.;
                let begun = if checkpoint::exists(at) { " (begun)" } else { "" };
                (hours, steps) = (hours + own, steps + all);
                let memory =
                    bytes.map_or("–".into(), |bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)));
                row.extend([format!("{all}{begun}"), format!("{seconds:.3}"), memory, format!("{own:.2}")]);
            }
            None => row.extend(["–"; 4].map(String::from)),
        }
        missing.extend(lacks.into_iter().filter(|what| !missing.contains(what)).collect::<Vec<_>>());
        table.rows.push(row);
    }
    let all =
        json!({"runs": table.named(), "steps": steps, "hours": hours, "missing": missing, "machine": machine.name});
    say::answer(&all)?;
    say::print(&table)?;
    if missing.is_empty() {
        let all = format!("{} run(s), {steps} steps, {hours:.2} hours of training", runs.len());
        say::print(format!("{all} on {}; scoring comes on top", machine.name))?;
    }
    missing.iter().try_for_each(|what| say::print(format!("missing: {what}")))?;
    ensure!(missing.is_empty(), "what is missing stands above: get it, then say the same again");
    Ok(())
}
