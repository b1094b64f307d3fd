//! What the runs of a table need before they begin: data, weights, steps, memory and hours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Map, json};

use crate::device::machine::Machine;
use crate::hyper::{self, All, Heading, Hyper};
use crate::paper::{self, Paper};
use crate::report::Table;
use crate::run::config::typed_as;
use crate::run::session::Tried;
use crate::run::stop::Stopped;
use crate::run::{Run, checkpoint};
use crate::say::{one_line, say};
use crate::tasks::Data;
use crate::{catalog, say};

/// A run of a plan.
pub(crate) struct Planned<'a, H: Hyper> {
    /// What it is in its table.
    pub words: &'a str,
    pub at: &'a Path,
    pub h: &'a All<H>,
    /// What its flags lack, such as weights that were not named.
    pub lacks: Option<&'a str>,
}

/// The steps that the flags of `h` alone say, none where it takes no such flag.
fn said<H: Hyper>(h: &All<H>) -> u64 {
    let flags = hyper::flags(h);
    let counts = H::LENGTH.iter().filter(|flag| !hyper::is_idle(&h.own, flag));
    counts.filter_map(|flag| flags[*flag].as_u64()).sum()
}

/// Some steps of `h` on drawn inputs of the shape that its data would have, and whether there are as many as its flags say,
/// whatever the data.
fn on_drawn<P: Paper>(h: &All<P::Hyper>, run: &Run) -> Result<(Tried, bool)> {
    let mut own = hyper::flags(&hyper::blank::<P::Hyper>()?);
    own.retain(|flag, _| hyper::under::<P::Hyper>(Heading::Data).contains(flag));
    own.insert("data".into(), "drawn".into());
    let h = hyper::with(h, &own)?;
    let data = P::drawn(&h.own, run.seed)?;
    Ok((paper::tried::<P>(&h, &data, run)?, paper::steps::<P>(&h, &data, run)? == said(&h)))
}

/// Prints what `runs` need, and how long training takes here by some steps of every network and batch among them. Nothing
/// is trained. Where data are missing, drawn inputs are timed; where weights are, the same network without them.
///
/// # Errors
/// Where a step cannot be taken, and, behind the table, where data or weights are missing, which is printed before it.
pub(crate) fn print<P: Paper>(runs: &[Planned<'_, P::Hyper>], machine: &Machine) -> Result<()> {
    let (mut missing, mut here, mut notes) = (Vec::<String>::new(), BTreeSet::<String>::new(), BTreeSet::new());
    let mut times = BTreeMap::<(String, bool), Option<(Tried, bool)>>::new();
    let mut table = Table::new(["run", "folder", "steps", "s/step", "memory", "hours"], []);
    let (mut hours, mut steps, mut counted) = (0., 0, 0);
    let mut opened = BTreeMap::<String, Result<P::Data, String>>::new();
    let of = |h: &All<P::Hyper>, headings: &[Heading]| -> String {
        let (flags, names) = (hyper::flags(h), headings.iter().flat_map(|heading| hyper::under::<P::Hyper>(*heading)));
        names.map(|flag| typed_as(&flags[&flag])).collect::<Vec<_>>().join(" ")
    };
    // What is missing comes first: to time steps takes minutes.
    let mut all_lack = Vec::new();
    for Planned { h, lacks, .. } in runs {
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
        let h = if lacks.is_empty() { (*h).clone() } else { hyper::with(*h, &bare)? };
        let key = format!("{} {}", of(&h, &[Heading::Data]), h.usual.seed);
        let open = || paper::opened_data::<P>(&h, machine, None).map_err(|error| one_line(&error));
        match opened.entry(key.clone()).or_insert_with(open) {
            Ok(data) => drop(here.insert(format!("data {}", say::line(data.name())))),
            Err(why) => lacks.push(why.clone()),
        }
        missing.extend(lacks.iter().filter(|what| !missing.contains(what)).cloned().collect::<Vec<_>>());
        all_lack.push((h, key, lacks.is_empty()));
    }
    missing.iter().try_for_each(|what| say::print(format!("missing: {what}")))?;
    for (Planned { words, at, .. }, (h, key, whole)) in runs.iter().zip(&all_lack) {
        let (run, flags, data) = (paper::run_of(h, machine.clone()), hyper::flags(h), opened[key].as_ref().ok());
        let kind = (of(h, &[Heading::Network, Heading::Batches]), data.is_some());
        if !times.contains_key(&kind) && hyper::check(&h.own).is_ok() {
            say(format!("a few steps of {words}{}", if data.is_some() { "" } else { ", on drawn inputs" }));
            let found = match data
                .map_or_else(|| on_drawn::<P>(h, &run), |data| Ok((paper::tried::<P>(h, data, &run)?, true)))
            {
                Err(error) if data.is_some() || error.is::<Stopped>() => return Err(error),
                Err(error) => {
                    notes.insert(format!("no time of {words}: {}", one_line(&error)));
                    None
                }
                Ok(found) => Some(found),
            };
            times.insert(kind.clone(), found);
        }
        let found = times.get(&kind).copied().flatten();
        let (mut row, mut all) = (vec![words.to_string(), say::line(&at.display().to_string())], None);
        match data.filter(|_| found.is_some()) {
            Some(data) => {
                let begun = checkpoint::exists(at);
                // Of other weights than the run's, which are not here, all that can be said is that.
                if let Some(Err(error)) = (begun && *whole).then(|| paper::check_begun::<P>(h, data, at, &run)) {
                    say::print(format!("missing: {}", one_line(&error)))?;
                    missing.push(one_line(&error));
                }
                let own = *all.insert(paper::steps::<P>(h, data, &run)?);
                row.push(format!("{own}{}", if begun { " (begun)" } else { "" }));
            }
            None => {
                let looked_at = P::Hyper::LENGTH.iter().filter(|flag| !hyper::is_idle(&h.own, flag));
                let length = looked_at.map(|flag| format!("--{flag} {}", typed_as(&flags[*flag])));
                row.push(length.collect::<Vec<_>>().join(" "));
                all = found.filter(|(_, whatever)| *whatever).map(|_| said(h));
            }
        }
        let dash = || "–".to_string();
        let memory = |bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
        row.push(found.map_or_else(dash, |(tried, _)| format!("{:.3}", tried.seconds)));
        row.push(found.and_then(|(tried, _)| tried.bytes).map_or_else(dash, memory));
        let own = all.zip(found).map(|(all, (tried, _))| (all, tried.seconds * all as f64 / 3600.));
        row.push(own.map_or_else(dash, |(_, own)| format!("{own:.2}")));
        if let Some((all, own)) = own {
            (hours, steps, counted) = (hours + own, steps + all, counted + 1);
        }
        if let (None, Some((_, whatever))) = (data, found) {
            let photos = "times of what is missing are of drawn inputs of the same shape, and leave out what reading files takes";
            notes.insert(photos.into());
            notes.extend((!whatever).then(|| "the number of steps follows from the data".into()));
        }
        table.rows.push(row);
    }
    let all = json!({"runs": table.named(), "steps": steps, "hours": hours, "missing": missing, "notes": notes, "machine": machine.name});
    say::answer(&all)?;
    say::print_lines(&table)?;
    if steps > 0 {
        let (runs, steps) = (say::count(counted, "run"), say::count(steps as usize, "step"));
        let all = format!("{runs}, {steps}, {hours:.2} hours of training");
        say::print(format!("{all} on {}; scoring comes on top", machine.name))?;
    }
    notes.iter().try_for_each(say::print)?;
    here.iter().try_for_each(|what| say::print(format!("here: {what}")))?;
    ensure!(missing.is_empty(), "what is missing stands above: get it, then say the same again");
    Ok(())
}
