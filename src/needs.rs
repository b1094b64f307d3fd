//! What the runs of a table need before they begin: data, weights, steps, memory and hours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Map, json};

use crate::device::machine::Machine;
use crate::hyper::{self, All, Hyper};
use crate::paper::{self, Paper};
use crate::report::Table;
use crate::run::checkpoint;
use crate::run::config::typed_as;
use crate::run::session::Tried;
use crate::say::{one_line, say};
use crate::tasks::Data;
use crate::{catalog, say};

/// A run of a plan.
pub(crate) struct Planned<'a, H: Hyper> {
    /// What it is in its table.
    pub words: &'a str,
    /// Its folder.
    pub at: &'a Path,
    /// Its flags.
    pub h: &'a All<H>,
    /// What its flags lack, such as weights that were not named.
    pub lacks: Option<&'a str>,
}

/// Prints what `runs` need, and how long training takes here by some steps of every network and batch among them. Nothing
/// is trained. Without data the steps are those that the flags say, and there are no times; without weights the steps of
/// the same network are timed.
///
/// # Errors
/// Where a step cannot be taken, and, behind the table, where data or weights are missing.
pub(crate) fn print<P: Paper>(runs: &[Planned<'_, P::Hyper>], machine: &Machine) -> Result<()> {
    let (mut missing, mut here, mut times) =
        (Vec::<String>::new(), BTreeSet::<String>::new(), BTreeMap::<String, Tried>::new());
    let mut table =
        Table { head: ["run", "folder", "steps", "s/step", "memory", "hours"].map(String::from).into(), rows: vec![] };
    let (mut hours, mut steps) = (0., 0);
    let mut opened: Option<(String, Result<P::Data, String>)> = None;
    for Planned { words, at, h, lacks } in runs {
        let mut lacks: Vec<String> = lacks.iter().map(|text| text.to_string()).collect();
        if let Some(file) = paper::file_of(&h.own) {
            let cure =
                || catalog::fetch_for(&file).map_or("name one that is here".into(), |fetch| format!("{fetch} gets it"));
            match file.exists() {
                true => drop(here.insert(format!("weights {}", file.display()))),
                false => lacks.push(format!("--weights {}: {}", file.display(), cure())),
            }
        }
        // A step takes as long from other weights.
        let bare = Map::from_iter([("weights".to_string(), "none".into())]);
        let h = &if lacks.is_empty() { (*h).clone() } else { hyper::with(*h, &bare)? };
        let (run, flags) = (paper::run_of(h, machine.clone()), hyper::flags(h));
        let of = |headings: &[&str]| -> String {
            let names = headings.iter().flat_map(|heading| hyper::under::<P::Hyper>(heading));
            names.map(|flag| typed_as(&flags[&flag])).collect::<Vec<_>>().join(" ")
        };
        let key = format!("{} {}", of(&["Data"]), run.seed);
        if opened.as_ref().is_none_or(|(before, _)| *before != key) {
            opened = Some((key, paper::opened_data::<P>(h, machine, None).map_err(|error| one_line(&error))));
        }
        let mut row = vec![words.to_string(), say::line(&at.display().to_string())];
        match opened.as_ref().map(|(_, data)| data) {
            Some(Ok(data)) if hyper::check(&h.own).is_ok() => {
                here.insert(format!("data {}", say::line(data.name())));
                let all = paper::steps::<P>(h, data, &run)?;
                let kind = of(&["Network", "Batches"]);
                if !times.contains_key(&kind) {
                    say(format!("a few steps of {words}"));
                    times.insert(kind.clone(), paper::tried::<P>(h, data, &run)?);
                }
                let Tried { seconds, bytes } = times[&kind];
                let own = seconds * all as f64 / 3600.;
                let begun = if checkpoint::exists(at) { " (begun)" } else { "" };
                // Of other weights than the run's, which are not here, all that can be said is that.
                if !begun.is_empty() && lacks.is_empty() {
                    lacks.extend(paper::check_begun::<P>(h, data, at, &run).err().map(|error| one_line(&error)));
                }
                (hours, steps) = (hours + own, steps + all);
                let memory =
                    bytes.map_or("–".into(), |bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)));
                row.extend([format!("{all}{begun}"), format!("{seconds:.3}"), memory, format!("{own:.2}")]);
            }
            data => {
                lacks.extend(data.and_then(|data| data.as_ref().err()).cloned());
                let looked_at = P::Hyper::LENGTH.iter().filter(|flag| !hyper::is_idle(&h.own, flag));
                let length = looked_at.map(|flag| format!("--{flag} {}", typed_as(&flags[*flag])));
                row.push(length.collect::<Vec<_>>().join(" "));
                row.extend(["–"; 3].map(String::from));
            }
        }
        missing.extend(lacks.into_iter().filter(|what| !missing.contains(what)).collect::<Vec<_>>());
        table.rows.push(row);
    }
    let all =
        json!({"runs": table.named(), "steps": steps, "hours": hours, "missing": missing, "machine": machine.name});
    say::answer(&all)?;
    say::print(&table)?;
    if steps > 0 {
        let all = format!("{} run(s), {steps} steps, {hours:.2} hours of training", runs.len());
        say::print(format!("{all} on {}; scoring comes on top", machine.name))?;
    }
    here.iter().try_for_each(|what| say::print(format!("here: {what}")))?;
    missing.iter().try_for_each(|what| say::print(format!("missing: {what}")))?;
    ensure!(missing.is_empty(), "what is missing stands above: get it, then say the same again");
    Ok(())
}
