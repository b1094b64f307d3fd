//! How a run is trained: its data opened and looked at, then every part that it has, from where it was interrupted.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use tch::nn::VarStore;

use super::nets::{Nets, Stand, folder_of, started};
use super::opened::{config_of, known_start};
use super::scoring::folded;
use super::{Brings, Paper, Plan};
use crate::datasets::Look;
use crate::device::machine::Machine;
use crate::hyper::{self, All, Heading, Hyper};
use crate::run::config::{self, BEGUN_FROM, Config, typed_as};
use crate::run::{
    Run, checkpoint,
    folder::check_free,
    photos::{Photos, Tested, content, hashed},
    scores::Scores,
    session::{self, Session, Tried},
    stop::Stopped,
};
use crate::say::{brief, note};
use crate::tasks::Data;
use crate::weights::Files;
use crate::{metrics, older};

/// So long photos are looked at before a training begins: all of a small set. Of a large one, what cannot be used is found
/// when it is first drawn, or tested.
const GLANCE: Duration = Duration::from_secs(3);

/// The data of a training, looked at; errors first where it cannot write into the run folder `at`.
pub(crate) fn opened_data<P: Paper>(h: &All<P::Hyper>, machine: &Machine, at: Option<&Path>) -> Result<P::Data> {
    at.filter(|_| machine.world.leads()).map_or(Ok(()), check_free)?;
    if let (Some(every), Err(why)) = (machine.training.score_every, P::chooses(&h.own)) {
        return Err(hyper::usage(anyhow!("--score-every {every}: {why}")));
    }
    let mut own = h.own.clone();
    if let Some(at) = at {
        let begun = machine.world.leads().then(|| Config::read(at).ok()).flatten();
        let start = hyper::flags(&own).get(hyper::START).filter(|start| start.is_string()).cloned();
        // Of another start it is said that it is another flag.
        let begun = machine
            .world
            .told(&begun)?
            .filter(|begun| start.is_some() && begun.flags.get(hyper::START) == start.as_ref());
        own = begun.map_or(Ok(own), |begun| known_start::<P>(&h.own, &begun))?;
    }
    let data = machine.world.read_once(|| P::open(&own, h.usual.seed))?;
    data.trainable()?;
    data.check(!machine.skip_unreadable, Look::shared(GLANCE, &machine.world))?;
    ensure!(
        !machine.skip_unreadable || (P::BRINGS == Brings::Images && data.trained().any(|read| read.path().is_some())),
        hyper::usage(anyhow!("--skip-unreadable: {} has no image files to train on: leave it out", data.name()))
    );
    Ok(data)
}

/// Some steps of a training, of which nothing is kept: what a step takes, and the steps that there are to do.
pub(crate) fn tried<P: Paper>(h: &All<P::Hyper>, data: &P::Data, run: &Run) -> Result<Tried> {
    let folder = tempfile::tempdir().map_err(crate::files::no_temporary)?;
    match train_in::<P>(h, data, &folder.path().join("trial"), run, true) {
        Ok(()) => Err(anyhow!("a trial that did not end")),
        Err(error) => error.downcast::<Tried>(),
    }
}

/// The steps of all parts of a run.
pub(crate) fn steps<P: Paper>(h: &All<P::Hyper>, data: &P::Data, run: &Run) -> Result<u64> {
    let h = &settled::<P>(h, Path::new(""), run)?;
    P::parts(&h.own, data)?.iter().map(|part| Ok(P::plan(&h.own, data, part, run)?.steps)).sum()
}

/// Errors where the run at `at`, which was begun, is of other flags or data.
pub(crate) fn check_begun<P: Paper>(h: &All<P::Hyper>, data: &P::Data, at: &Path, run: &Run) -> Result<()> {
    let h = &settled::<P>(h, at, run)?;
    config_of::<P>(h, &P::shape(&h.own, data)?, run)?.match_folder(at)
}

/// Trains all parts, or goes on; what is trained already is passed over.
pub(crate) fn train<P: Paper>(h: &All<P::Hyper>, data: &P::Data, at: &Path, run: &Run) -> Result<()> {
    train_in::<P>(h, data, at, run, false)
}

fn train_in<P: Paper>(h: &All<P::Hyper>, data: &P::Data, at: &Path, run: &Run, trial: bool) -> Result<()> {
    let asked = "--data (what it trains on): give every process the same";
    if run.world().size() > 1 {
        run.world().agree(asked, &data.alike())?;
    }
    let h = &settled::<P>(h, at, run)?;
    let shape = P::shape(&h.own, data)?;
    let mut config = config_of::<P>(h, &shape, run)?;
    let parts = P::parts(&h.own, data)?;
    let several = parts.iter().any(|part| !part.is_empty());
    // Of several processes the first one alone looks at the run's folder.
    if several && run.leads() {
        let advice = || format!("cannot write the run folder {}: choose another --run", at.display());
        std::fs::create_dir_all(at).with_context(advice)?;
        let mut whole = config.clone();
        whole.machine.insert("parts".into(), json!(parts));
        if whole.write_or_match(at)? {
            // Its parts are begun with the flags as they were typed first.
            let begun = Config::read(at)?;
            (config.flags, config.data) = (begun.flags, begun.data);
        }
    }
    if several {
        (config.flags, config.data) = run.world().told(&(config.flags, config.data))?;
    }
    let begun = run.leads() && begun(at, &parts);
    if begun {
        config.match_folder(at)?;
    }
    let of_run = config.clone();
    let look = |lives: &dyn Fn()| Photos::of(data.trained(), at, lives);
    let mut photos = if trial { None } else { run.world().led(look)? };
    let scored = run.machine.training.score_every.filter(|_| !trial);
    let scored = scored.map(|_| run.world().led(|lives| hashed(data.tested(), "test data", lives))).transpose()?;
    let mut scored = scored.flatten().and_then(|tested| content(&tested));
    let (mut changed, mut replaced) = (None, None::<String>);
    if let Some(photos) = photos.as_ref().filter(|_| begun) {
        changed = photos.compare(at, run.machine.training.data_changed)?;
        if let Some(changed) = &mut changed {
            let tested = hashed(data.tested(), "test data", &|| ());
            if let Tested { seen: seen @ 1.., all, what, .. } = crate::tasks::trained_on(at, data, &tested, true) {
                changed.push_str(&format!("; it was trained on {seen} of what are the {all} test {what} now"));
            }
        }
    }
    for part in &parts {
        let store = run.store();
        let net = P::network(&h.own, &shape, part, &store, run)?;
        let Plan { steps, rule, weight_decay } = P::plan(&h.own, data, part, run)?;
        let (config, folder) = (config.part(part), folder_of(at, part));
        let setup =
            session::Setup { config, at: &folder, steps, log_every: h.usual.log_every, rule, weight_decay, trial };
        let score = |store: &VarStore| {
            let (stand, loaded, read, config) = (Stand::Trained, RefCell::default(), Files::default(), &of_run);
            let live = Some(store);
            let nets = Nets { h, shape: &shape, run, at, config, stand, live, elsewhere: None, loaded, read };
            let all = P::evaluate(&h.own, data, &nets, &hyper::blank()?, run)?.scores;
            let first = metrics::counted(&all).first().copied().or(all.first()).context("no score")?;
            Ok((first.name.clone(), first.value))
        };
        let begin = |store: &VarStore| {
            let read = started::<P>(&h.own, store)?;
            P::start_on(&h.own, data, store)?;
            let from: Vec<String> = read.into_iter().map(|(_, hash)| hash).collect();
            let begun = |other: &String| Config::read(&folder_of(at, other)).ok()?.machine.get(BEGUN_FROM).cloned();
            ensure!(
                parts.iter().filter(|other| *other != part).filter_map(begun).all(|then| then == json!(from)),
                "--weights is not the file that its other parts were begun from: restore it, or choose another --run"
            );
            Ok(from)
        };
        // Networks with convolutions see images, whose channels lie last.
        let images = store.variables().values().any(|x| x.dim() == 4);
        let mut session = Session::open(setup, &run.machine, store, begin)?;
        if let Some(every) = run.machine.training.score_every {
            session.scores = Some(Scores::new(every, Box::new(score), &folder)?);
        }
        if !trial {
            session.notes = data.notes().iter().map(|text| brief(text)).collect();
        }
        let place = if images { run.machine.for_images(run.amp) } else { run.machine.name.clone() };
        let named = if part.is_empty() { String::new() } else { format!(", {part}") };
        let modules = P::modules(&h.own, &hyper::blank()?)?;
        let models = |of: &dyn Fn(&String) -> bool| -> Vec<String> {
            let files = modules.iter().filter(|(part, _)| of(part)).map(|(_, file)| file.clone());
            files.flat_map(|file| [folded(&file), file]).collect()
        };
        let trains = session.announce(&format!("{} on {}{named}, {place}", what(h), data.name()))?;
        // With scores to come the best weights are kept anew.
        if run.leads() && !(trains && session.scores.is_some()) {
            older::set_aside_best(&folder)?;
        }
        if trains {
            if run.leads() {
                older::set_aside(at, session.steps().start, &models(&|_| true))?;
            }
            // Only now is the folder the run's, and something trained on them.
            if let Some(changed) = changed.take() {
                note(format!("the training data changed: {changed}"));
                let part = if part.is_empty() { String::new() } else { format!("{part}, ") };
                Config::add_changed(at, format!("{part}from about step {}: {changed}", session.steps().start))?;
            }
            if let Some(scored) = scored.take() {
                let before = Config::set_scored(at, scored.clone())?;
                if before.is_some_and(|before| before != scored) {
                    note(
                        "--score-every: the photos that are scored are not those of before: scores from before and after do not compare, and the best may be either's",
                    );
                }
            }
            if let Some(photos) = photos.take().filter(|photos| !photos.is_empty()) {
                photos.write(at, begun)?;
            }
            let ended = P::train(&h.own, data, part, &net, &mut session, run);
            // What was replaced meanwhile was trained on as it came; of several parts each says what is new.
            let ends = ended.as_ref().err().is_none_or(|why| why.is::<Stopped>());
            let now = if run.leads() && ends && !trial { look(&|| ()).replaced(at) } else { None };
            if let Some(now) = now.filter(|now| replaced.as_ref() != Some(now)) {
                note(format!("the training data changed during the training: {now}"));
                Config::add_changed(at, format!("during the training: {now}"))?;
                replaced = Some(now);
            }
            ended?;
        } else {
            session.notes.iter().for_each(note);
        }
        if run.leads() {
            older::set_aside_passed(at, &folder, &models(&|own| own == part))?;
        }
        if trains {
            session.close();
        }
    }
    Ok(())
}

/// The flags, and what they leave to the machine: process 0 says it for all.
fn settled<P: Paper>(h: &All<P::Hyper>, at: &Path, run: &Run) -> Result<All<P::Hyper>> {
    config::agree(run.world(), &hyper::flags(h))?;
    let mut h = h.clone();
    if run.leads() {
        let begun = Config::read(at).and_then(|config| hyper::from_flags::<All<P::Hyper>>(&config.flags));
        P::settle(&mut h.own, begun.ok().map(|begun| begun.own), run);
    }
    hyper::from_flags(&run.world().told(&hyper::flags(&h))?)
}

/// What is trained in a few words: the paper's own choices, and what makes a batch.
fn what<H: Hyper>(h: &All<H>) -> String {
    let axes = H::AXES.iter().chain(Some(&"loss").filter(|flag| !H::AXES.contains(flag)));
    let axes = axes.map(|flag| hyper::shown(h, flag)).filter(|value| !value.is_empty());
    let batches = hyper::looked_at(h, Heading::Batches).into_iter().filter(|(_, value)| *value != false);
    axes.chain(batches.map(|(flag, value)| format!("{flag} {}", typed_as(&value)))).collect::<Vec<_>>().join(", ")
}

/// Whether there is something trained to go on from.
fn begun(at: &Path, parts: &[String]) -> bool {
    parts.iter().any(|part| checkpoint::exists(&folder_of(at, part)))
}
