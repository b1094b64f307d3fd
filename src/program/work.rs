//! What the verbs do that have more to do than a line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::{ArgMatches, FromArgMatches};
use serde_json::{Value, json};

use super::line::{Card, Embed, Evaluate, Made, Reproduce, Using};
use crate::datasets::Look;
use crate::device::machine::Machine;
use crate::hyper::{self, All, FlagValues, Heading, Typed};
use crate::outputs::{check_out, hold_file, write_json};
use crate::paper::{self, Brings, Paper, Stand};
use crate::run::Run;
use crate::run::config::typed_as;
use crate::run::photos::twice;
use crate::say::{answer, brief, note, print, print_lines};
use crate::tasks::brought::{Asked, Brought, Sides, Use};
use crate::tasks::kept::Keeping;
use crate::tasks::{Data, embed};
use crate::{shell, tables, verbs};

/// A verb that does with a network what it is for.
pub(super) fn use_of<P: Paper>(verb: &Use, of: &ArgMatches) -> Result<()> {
    let (args, typed) = (Using::from_arg_matches(of)?, hyper::typed::<P::Scoring>(of)?);
    let how: P::Scoring = hyper::with(&hyper::blank::<P::Scoring>()?, &typed).map_err(hyper::usage)?;
    // The verb's own command line has no flags that it does not look at.
    let (opened, mut run) = to_embed::<P>(args.made, args.machine.resolve()?, &how, ("evaluate", of))?;
    run.machine.skip_unreadable = args.keeping.skip_unreadable;
    let nets = opened.nets(&run);
    keeps::<P>(&args.keeping, &nets, &how, &run)?;
    let out = of.get_one::<PathBuf>("out").context("no folder")?;
    let folder = args.keeping.folder(out.join("kept"), &photos_of(of))?;
    let brought = |photos, sides: &Sides| {
        let kept = Some(nets.kept(folder.clone(), &how));
        Brought { photos, sides: sides.to_vec(), kept, ..Brought::default() }
    };
    let asked = Asked {
        paper: (P::NAME, P::CITATION),
        drawn: nets.drawn(),
        embed: &|photos, sides| P::embed(&opened.h.own, &nets, &brought(photos, sides), &how, &run),
        compare: &|query, gallery| P::search(&nets, [query, gallery], &how, &run),
        metric: (P::METRIC)(&opened.h.own),
        skip_unreadable: args.keeping.skip_unreadable,
        made: &|| nets.made(&how),
    };
    (verb.work)(&asked, of)
}

/// The run that a verb works with, or the published weights; what cannot be scored so is refused.
fn chosen<P: Paper>(
    made: Made,
    machine: Machine,
    how: &P::Scoring,
    (verb, of): (&str, &ArgMatches),
) -> Result<(paper::Opened<P>, Run)> {
    let whose = if made.run.is_some() { Typed::Before } else { Typed::Here };
    let scoring = hyper::typed::<P::Scoring>(of)?;
    verbs::refuse_idle::<P::Scoring>(verb, &scoring)?;
    let (mut opened, run) = match made.run {
        Some(at) => paper::opened::<P>(&at, machine)?,
        None => {
            let network = hyper::under::<P::Hyper>(Heading::Network);
            let typed = hyper::typed::<P::Hyper>(of)?.into_iter().filter(|(name, _)| network.contains(name));
            paper::opened_weights::<P>(hyper::resolved(&typed.collect())?, machine)?
        }
    };
    if made.untrained {
        opened.stand = Stand::Untrained;
    } else if made.best {
        opened.stand = Stand::Best;
    }
    tables::scorable::<P>(&opened.h.own, how, &scoring, whose)?;
    Ok((opened, run))
}

/// [`chosen`] for what embeds or will: a photo is seen as typed, or as the run saw it.
pub(super) fn to_embed<P: Paper>(
    made: Made,
    machine: Machine,
    how: &P::Scoring,
    of: (&str, &ArgMatches),
) -> Result<(paper::Opened<P>, Run)> {
    let (mut opened, run) = chosen::<P>(made, machine, how, of)?;
    let seen = hyper::typed::<P::Hyper>(of.1)?.into_iter().filter(|(flag, _)| P::SEEN.contains(&&**flag));
    opened.h.own = hyper::with(&opened.h.own, &seen.collect()).map_err(hyper::usage)?;
    Ok((opened, run))
}

/// The files and folders of photos that a command line names.
fn photos_of(of: &ArgMatches) -> Vec<PathBuf> {
    let named = |flag: &&str| of.try_get_many::<PathBuf>(flag).ok().flatten();
    ["brings", "images", "query", "gallery", "person"].iter().filter_map(named).flatten().cloned().collect()
}

/// Refuses `--kept` where the network compares two photos: it says nothing of one that could be kept.
fn keeps<P: Paper>(keeping: &Keeping, nets: &paper::Nets<'_, P>, how: &P::Scoring, run: &Run) -> Result<()> {
    let of_pairs = keeping.kept.is_some() && P::search(nets, [&[], &[]], how, run)?.is_some();
    ensure!(
        !of_pairs,
        hyper::usage(anyhow!("--kept: this network compares two photos, of which nothing is kept: leave it out"))
    );
    Ok(())
}

pub(super) fn evaluate_verb<P: Paper>(args: Evaluate<P::Scoring>, of: &ArgMatches) -> Result<()> {
    let (opened, run) = chosen::<P>(args.made, args.machine.resolve_world()?, &args.scoring, ("evaluate", of))?;
    let others = hyper::under::<P::Hyper>(Heading::Data);
    let typed: FlagValues =
        hyper::typed::<P::Hyper>(of)?.into_iter().filter(|(name, _)| others.contains(name)).collect();
    let outside = opened.stand == Stand::Published;
    ensure!(
        !outside || typed.contains_key("data"),
        hyper::usage(anyhow!("--weights: say --data DIR: what to score it on"))
    );
    let (data, at) = if typed.is_empty() {
        (run.world().read_once(|| opened.data())?, opened.at.clone())
    } else {
        // The run keeps the scores of its own data.
        let mut changes = typed.clone();
        if typed.contains_key("data") {
            let usual = hyper::flags(&hyper::resolve::<P::Hyper>(&typed, &|_| ()).map_err(hyper::usage)?);
            changes.extend(usual.into_iter().filter(|(name, _)| others.contains(name)));
        }
        let own = opened.placed()?;
        if !typed.contains_key("data") {
            opened.say_read(&own);
        }
        let other: P::Hyper = hyper::with(&own, &changes).map_err(hyper::usage)?;
        let data = run.world().read_once(|| P::elsewhere(&own, &other, run.seed))?;
        let more = typed.iter().filter(|(name, _)| *name != "data");
        let more: String = more.map(|(name, value)| format!("-{name}{}", typed_as(value).replace('/', "-"))).collect();
        let at = opened.at.join(format!("on-{}{more}", data.name()));
        (data, at)
    };
    data.check(false, Look::shared(Duration::MAX, run.world()))?;
    let at = opened.stand.folder(at);
    let mut nets = opened.nets(&run);
    nets.elsewhere = (!typed.is_empty()).then_some(typed).map(|mut of| {
        // Two sets may have one name.
        let full = of.get("data").and_then(Value::as_str).and_then(|data| Path::new(data).canonicalize().ok());
        of.extend(full.map(|full| ("data".to_string(), Value::from(full.to_string_lossy()))));
        of
    });
    if nets.elsewhere.as_ref().and_then(|of| of.get("data")).is_some_and(|data| data != "drawn") {
        nets.say_drawn();
    }
    let (results, found) = paper::evaluate::<P>(&nets, &data, &at, &args.scoring)?;
    data.notes().iter().for_each(|text| note(brief(text)));
    results.show(&found.tables, &[])
}

pub(super) fn reproduce<P: Paper>(args: Reproduce<P::Hyper, P::Scoring>, of: &ArgMatches) -> Result<()> {
    let machine = args.training.machine.resolve()?;
    if args.table.is_some() || args.splits.is_some() || args.seeds.is_some() || args.plan {
        let mut typed = hyper::typed::<All<P::Hyper>>(of)?;
        for (name, value) in shell::configured::<P>(of)? {
            // Those of several are gone through.
            if !(name == hyper::SPLIT && args.splits.is_some() || name == "seed" && args.seeds.is_some()) {
                typed.entry(name).or_insert(value);
            }
        }
        let wish = tables::Wish {
            run: args.training.run,
            typed,
            scoring: hyper::typed::<P::Scoring>(of)?,
            seeds: args.seeds,
            splits: args.splits,
            only: args.only,
            plan: args.plan,
        };
        return match args.table {
            None => tables::one::<P>(&wish, &machine),
            Some(name) => tables::named::<P>(&name, &wish, &machine),
        };
    }
    let h = shell::asked::<P>(of)?;
    let scoring = hyper::typed::<P::Scoring>(of)?;
    tables::scorable::<P>(&h.own, &args.scoring, &scoring, Typed::Here)?;
    let run = paper::run_of(&h, machine);
    let at = args.training.run.unwrap_or_else(|| hyper::folder(P::NAME, &h));
    let data = paper::opened_data::<P>(&h, &run.machine, Some(&at))?;
    paper::train::<P>(&h, &data, &at, &run)?;
    let (opened, run) = paper::opened::<P>(&at, run.machine)?;
    let nets = opened.nets(&run);
    let (results, found) = paper::evaluate::<P>(&nets, &data, &at, &args.scoring)?;
    let rivals = P::rivals(&opened.h.own, &data, &nets, &found, &args.scoring, &run)?;
    results.show(&found.tables, &rivals)?;
    paper::export_run(&nets, &args.scoring, false)
}

/// What stands behind `evaluate --baselines`.
pub(super) fn baselines_verb<P: Paper>(of: &ArgMatches) -> Result<()> {
    let looks = |flag: &&String| P::BASELINES.is_some_and(|(_, flags)| flags.contains(&&***flag));
    let idle = hyper::typed::<P::Scoring>(of)?.keys().find(|flag| !looks(flag)).cloned();
    let idle = idle.map(|flag| anyhow!("--{flag} has no effect on --baselines: leave it out"));
    idle.map_or(Ok(()), |error| Err(hyper::usage(error)))?;
    let h = hyper::resolve::<P::Hyper>(&hyper::typed::<P::Hyper>(of)?, &|_| ()).map_err(hyper::usage)?;
    let data = P::open(&h.own, h.usual.seed)?;
    data.check(false, Look::ALL)?;
    let tables = P::baselines(&data, &P::Scoring::from_arg_matches(of)?)?;
    data.notes().iter().for_each(|text| note(brief(text)));
    answer(&tables.iter().map(|(title, table)| (title.clone(), json!(table.named()))).collect::<FlagValues>())?;
    tables.iter().try_for_each(|(title, table)| print_lines(format!("{title}\n{table}")))
}

/// `embed`: rows of what a user brings, in a file.
pub(super) fn embed_verb<P: Paper>(args: Embed<P::Scoring>, of: &ArgMatches) -> Result<()> {
    let Using { made, keeping, machine } = args.using;
    let videos = P::BRINGS == Brings::Videos && (keeping.skip_unreadable || keeping.kept.is_some());
    ensure!(!videos, hyper::usage(anyhow!("--skip-unreadable, --kept: these are of photos: leave them out")));
    let (opened, mut run) = to_embed::<P>(made, machine.resolve()?, &args.scoring, ("embed", of))?;
    run.machine.skip_unreadable = keeping.skip_unreadable;
    let out = embed::check_out(&args.out)?;
    let paths = photos_of(of);
    let photos = if P::BRINGS == Brings::Images { Brought::photos(&paths)? } else { Vec::new() };
    let nets = opened.nets(&run);
    keeps::<P>(&keeping, &nets, &args.scoring, &run)?;
    let mut beside = args.out.clone().into_os_string();
    beside.push(".kept");
    let _held = hold_file(&out)?;
    let folder = keeping.folder(beside.into(), &paths)?;
    let kept = (!photos.is_empty()).then(|| nets.kept(folder, &args.scoring));
    let of = Brought { paths, photos, features: true, kept, ..Brought::default() };
    if of.paths != [PathBuf::from("drawn")] {
        nets.say_drawn();
    }
    let mut found = P::embed(&opened.h.own, &nets, &of, &args.scoring, &run)?;
    found.metadata.push(("made".into(), nets.made(&args.scoring).to_string()));
    embed::write(&out, &found)?;
    print(format!("{}: {}", found.what, args.out.display()))?;
    let left = found.left_out();
    if left.is_empty() { Ok(()) } else { print(left.trim_start()) }
}

/// `data`: what is there, and what would be refused.
pub(super) fn data_verb<P: Paper>(args: Card, of: &ArgMatches) -> Result<()> {
    let h = hyper::resolve::<P::Hyper>(&hyper::typed::<P::Hyper>(of)?, &|_| ()).map_err(hyper::usage)?;
    let out = args.out.as_deref().map(|out| check_out(out, "card")).transpose()?;
    let data = P::open(&h.own, h.usual.seed)?;
    let mut cards = data.cards();
    if let [card] = &mut cards[..] {
        let refused = data.trainable().and_then(|()| P::parts(&h.own, &data)).err();
        if P::BRINGS == Brings::Images {
            card.notes.extend(twice(data.trained(), data.tested()));
        }
        card.refused = card.refused.take().or(refused.map(|error| crate::say::one_line(&error)));
    }
    cards.iter().try_for_each(print_lines)?;
    let value = if let [card] = &cards[..] { json!(card) } else { json!(cards) };
    answer(&value)?;
    match out {
        Some(out) => write_json(&out, "card", &value),
        None => Ok(()),
    }
}
