//! How a run is scored and exported: where its scores stand, what they stand beside, and its page.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::nets::{Loaded, Nets, Stand, detector, file_of};
use super::opened::{opened, with_run};
use super::{Brings, Evaluation, Paper};
use crate::device::machine::Machine;
use crate::hyper::{self, All, FlagValues, Heading};
use crate::report::Report;
use crate::results::Results;
use crate::run::config::{DEV, typed_as};
use crate::run::{
    Run,
    checkpoint::Fingerprint,
    folder::REPORT,
    photos::{Hashed, Photos, content, hashed, two_people},
};
use crate::say::{note, print, print_lines};
use crate::tasks::{Data, trained_on};
use crate::{claims, export, files, older, outputs};

/// Scores a run into the folder `at`, or where [`place`] says: `results.json` and `report.html`.
pub(crate) fn evaluate<P: Paper>(
    nets: &Nets<'_, P>,
    data: &P::Data,
    at: &Path,
    how: &P::Scoring,
) -> Result<(Results, Evaluation)> {
    let (h, run) = (nets.h, nets.run);
    let alike = (data.name(), format!("{how:?}"));
    run.world().agree("the data, or how to score them: give every process the same", &alike)?;
    let (of, scoring) = (json!(nets.elsewhere), hyper::flags(how));
    let (folder, mut at, mut scored, mut claim, mut copies) = (at, at.to_path_buf(), None, None, Vec::new());
    let tested = run.world().led(|lives| hashed(data.tested(), "test data", lives))?;
    // Of several processes the first one alone writes.
    if let Some(tested) = tested {
        claim = Some(nets.claim()?);
        at = place(at, nets, &of, &scoring)?;
        Results::check(&at, P::NAME)?;
        copies = known_photos(nets, data, &tested)?;
        copies.iter().for_each(note);
        scored = content(&tested);
        let before = Results::said(&at)?.and_then(|old| Some(old["scored"].as_str()?.to_string()));
        // Older results have a shorter hash of another kind.
        let differ = |before: &String| scored.as_ref().is_none_or(|now| now.len() == before.len() && now != before);
        if before.as_ref().is_some_and(differ) {
            note(format!("the test data are not those of the scores that {} had: do not compare them", at.display()));
        }
    }
    let sees = detector::<P>(how);
    let found = P::evaluate(&h.own, data, nets, how, run)?;
    if let Some((file, _)) = sees.as_ref().filter(|_| detector::<P>(how) != sees) {
        bail!("{} changed while it was read: evaluate again", file.display());
    }
    let (mut list, comparable) = claims::beside(P::CLAIMS, h, how, data, &found.scores)?;
    let mut short = None;
    for (part, Fingerprint { step, .. }) in nets.loaded.borrow().iter().filter(|_| nets.stand == Stand::Trained) {
        let steps = P::plan(&h.own, data, part, run)?.steps;
        if *step < steps {
            short = Some(format!("training stopped at step {step} of {steps}"));
        }
    }
    let untrained = match nets.stand {
        Stand::Trained => None,
        Stand::Best => Some("this is the best checkpoint by scores, and not the last".into()),
        Stand::Untrained => Some("this is the network as training found it".to_string()),
        Stand::Published => Some("these weights are from outside".into()),
    };
    let elsewhere = nets.elsewhere.as_ref().map(|_| "this run was trained on other data".to_string());
    let unlike = P::UNLIKE.iter().find(|(holds, _)| holds(&h.own, data)).map(|(_, why)| why.to_string());
    let changed = nets.config.changed();
    let changed = (!changed.is_empty() && nets.stand != Stand::Untrained)
        .then(|| format!("its training data changed: {}", changed.join("; ")));
    let mut comparable = match changed.or(unlike).or(untrained).or(short).or(elsewhere) {
        Some(why) => Err(why),
        None => comparable,
    };
    list.iter_mut().filter(|_| comparable.is_err()).for_each(|row| row.ours = None);
    let mut protocol = [found.protocol.clone(), copies].concat();
    if let (Stand::Published, Some(file)) = (nets.stand, file_of(&h.own)) {
        protocol.push(format!("weights: {}, trained elsewhere", file.display()));
        // A photo seen otherwise is none of theirs.
        let cropped = P::SEEN.iter().any(|flag| nets.elsewhere.iter().any(|typed| typed.contains_key(*flag)));
        let known = if cropped { &[] } else { P::THEIRS };
        let set = data.published_set().unwrap_or_default();
        let hash = nets.content().unwrap_or_default();
        let known = claims::of_weights(known, &list, (&file, hash, how), &set, &found.scores)?;
        if known.iter().any(|row| !row.of_weights) {
            comparable = Ok(());
        }
        list.extend(known);
    }
    let mut results = Results {
        at,
        run: Some(nets.mark()),
        checkpoints: nets.loaded.borrow().iter().map(|(_, known)| known.clone()).collect(),
        of,
        scored,
        paper: P::NAME.into(),
        citation: P::CITATION.into(),
        data: data.name().into(),
        step: nets.loaded.borrow().iter().map(|(_, known)| known.step).max().unwrap_or(0),
        weights: file_of(&h.own).filter(|_| nets.stand == Stand::Published),
        weights_blake3: nets.content().map(String::from).filter(|_| nets.stand == Stand::Published),
        detector_blake3: sees.map(|(_, hash)| hash),
        says: found.report.answer().into(),
        protocol,
        scoring,
        scores: found.scores.clone(),
        comparable: comparable.is_ok(),
        not_comparable_because: comparable.err(),
        claims: list,
        departures: [departing::<P>(h, nets.stand), hyper::departures_of_scoring(how)].concat(),
    };
    // Every process has the same scores; the first one writes.
    if let Some(claim) = claim {
        let _held = claim()?;
        // Others may have come while it was worked.
        results.at = place(folder.to_path_buf(), nets, &results.of, &results.scoring)?;
        Results::check(&results.at, P::NAME)?;
        let at = &results.at;
        std::fs::create_dir_all(at).map_err(|error| files::cannot(at, error))?;
        older::set_aside_later(at, results.step, None)?;
        // First the page, which `report` leaves as it is where scores are the newest.
        report::<P>(nets, data, &results, &found)?.write(&at.join(REPORT))?;
        results.write()?;
    }
    Ok((results, found))
}

/// What the reader of scores must know of the `tested` photos of `data`: which are on two people, and which were trained on.
///
/// # Errors
/// Where so many were trained on, and their data do not train on them by now, that it is no chance.
fn known_photos<P: Paper>(nets: &Nets<'_, P>, data: &P::Data, tested: &[Hashed]) -> Result<Vec<String>> {
    let (own, images) = (nets.elsewhere.is_none(), P::BRINGS == Brings::Images);
    let mut notes: Vec<String> = two_people(tested).into_iter().filter(|_| images).collect();
    let set_aside = nets.config.flags.get(DEV).and_then(Value::as_f64).is_some_and(|share| share > 0.);
    if set_aside && nets.config.is_of_another_form() {
        notes.push("another version began this run: which items it set aside then is not known, and some of those that are now may have been trained on".into());
    }
    if [Stand::Trained, Stand::Best].contains(&nets.stand) {
        // Of videos pairs are tested, and folds say which.
        if own || (!images && trained_on(nets.at, data, tested, false).known > 0) {
            let [list, left] = Photos::otherwise(nets.at, data.trained());
            let cure = if own { "restore it, or train into another --run" } else { "score it on other videos" };
            ensure!(
                list.is_none(),
                "{}: the list that says what the run trains on ({}) is another than it was begun with: {cure}",
                data.name(),
                list.unwrap_or_default()
            );
            let left = left
                .filter(|_| own)
                .map(|left| format!("its data do not train on {left} any more that the run was trained on"));
            notes.extend(left);
        }
        if !images {
            return Ok(notes);
        }
        let found = trained_on(nets.at, data, tested, own);
        let why = if own {
            "what is held out changed with what is in the folder: restore it, or score the run on other data"
        } else {
            "by their bytes: score it on others; if these are its own, moved, put a link to them where they lay"
        };
        let (seen, all, what, name) = (found.seen, found.all, found.what, data.name());
        ensure!(seen == 0, "the run was trained on {seen} of the {all} test {what} of {name}, {why}");
        notes.extend(found.notes);
    }
    Ok(notes)
}

/// Where scores of `nets` may stand that belong in `at`: there, or, where others stand there, beside them by the mark of a
/// published network or a hash of what data they are `of`, or below them by the flags of scoring that differ.
///
/// # Errors
/// As [`Results::check_run`]: a run's folder is its own.
fn place<P: Paper>(at: PathBuf, nets: &Nets<'_, P>, of: &Value, scoring: &FlagValues) -> Result<PathBuf> {
    let (mark, again) = (nets.mark(), |at| place(at, nets, of, scoring));
    let beside =
        |hash: &str| again([at.as_os_str(), "-".as_ref(), hash[..8].as_ref()].into_iter().collect::<OsString>().into());
    let Some(old) = Results::said(&at)?.filter(|old| old["paper"].is_string()) else { return Ok(at) };
    if nets.stand == Stand::Published && old["run"].as_str().is_some_and(|other| other != mark) {
        return beside(&mark);
    }
    Results::check_run(&at, (nets.at, nets.config), &mark)?;
    if old["of"] != *of {
        return beside(&blake3::hash(of.to_string().as_bytes()).to_hex());
    }
    let differ = scoring.iter().filter(|(name, value)| old["scoring"][name] != **value);
    let differ: Vec<String> = differ.map(|(name, value)| format!("{name}-{}", typed_as(value))).collect();
    if differ.is_empty() { Ok(at) } else { again(at.join(differ.join("-").replace('/', "-"))) }
}

/// All that departs from the paper in a run with these flags.
pub fn departures<P: Paper>(h: &All<P::Hyper>) -> Vec<String> {
    departing::<P>(h, Stand::Trained)
}

/// The same; of published weights what is known: the network, and how it is tested.
fn departing<P: Paper>(h: &All<P::Hyper>, stand: Stand) -> Vec<String> {
    let (outside, network) = (stand == Stand::Published, hyper::under::<P::Hyper>(Heading::Network));
    let trained = if outside { &[] } else { P::DEPARTURES_TRAINING };
    let some = P::DEPARTURES_WHERE.iter().chain(trained).filter(|(holds, _)| holds(&h.own)).map(|(_, text)| *text);
    let unknown = outside.then_some("how these weights were trained, and on what, is not known here");
    let all = unknown.into_iter().chain(P::DEPARTURES.iter().copied()).chain(some).map(String::from);
    all.chain(hyper::departures(h, |flag| !outside || network.iter().any(|known| known == flag))).collect()
}

/// A page that says what was trained: on which data, with which flags, for how many steps, where.
pub(crate) fn page<P: Paper>(h: &All<P::Hyper>, data: &str, steps: Option<String>, device: &str) -> Report {
    let mut facts = vec![("data".to_string(), data.to_string())];
    // Of published weights nobody here knows how they were trained.
    let trained = if steps.is_some() { 3 } else { 1 };
    for heading in [Heading::Network, Heading::Loss, Heading::Batches].iter().take(trained) {
        facts.extend(hyper::looked_at(h, *heading).into_iter().map(|(flag, value)| (flag, typed_as(&value))));
    }
    if let Some(steps) = steps {
        facts.push(("steps".into(), steps));
        facts.push(("seed".into(), h.usual.seed.to_string()));
    }
    facts.push(("device".into(), device.into()));
    let mut report = Report::new(P::NAME, P::CITATION);
    report.facts(&facts);
    report
}

fn report<P: Paper>(nets: &Nets<'_, P>, data: &P::Data, results: &Results, found: &Evaluation) -> Result<Report> {
    let steps = (nets.stand != Stand::Published).then(|| results.step.to_string());
    let mut report = page::<P>(nets.h, &results.data, steps, &nets.run.machine.name);
    results.lead(&mut report);
    found.tables.iter().for_each(|(title, table)| report.table(title, "", table));
    results.onto(&mut report, !found.tables.is_empty());
    if !data.notes().is_empty() {
        report.list("Data", data.notes());
    }
    // A run of several parts has their logs alone.
    let logs = [&results.at, nets.at].into_iter().find(|folder| folder.join("log.jsonl").exists()).unwrap_or(nets.at);
    crate::report::curves(&mut report, &[("", logs)])?;
    report.append(found.report.clone());
    if !results.departures.is_empty() {
        report.list("Departures from the paper", &results.departures);
    }
    results.unmeasured(&mut report);
    Ok(report)
}

/// Scores the trained run at `at` into the folder `into`.
pub(crate) fn scored<P: Paper>(
    at: &Path,
    run: &Run,
    data: &P::Data,
    into: &Path,
    how: &P::Scoring,
) -> Result<(Results, Evaluation)> {
    let (opened, run) = opened::<P>(at, run.machine.clone())?;
    evaluate::<P>(&opened.nets(&run), data, into, how)
}

/// What the file of a module is called where it is folded.
pub(super) fn folded(file: &str) -> String {
    file.replace(".pt", "-folded.pt")
}

/// TorchScript with named parameters, or folded, compared with the network before it counts as written.
pub(crate) fn export_run<P: Paper>(nets: &Nets<'_, P>, how: &P::Scoring, fold: bool) -> Result<()> {
    let at = nets.stand.folder(nets.at.to_path_buf());
    let mut modules = P::modules(&nets.h.own, how)?;
    if fold {
        modules.iter_mut().for_each(|(_, file)| *file = folded(file));
    }
    modules.iter().try_for_each(|(_, file)| outputs::check_module(&at.join(file)))?;
    let claim = nets.claim()?;
    for (part, file) in modules {
        let Loaded { store, net, step } = nets.part(&part)?;
        let about = P::about(&nets.h.own, nets.shape, &part, how);
        // Not zeros: a zero image has no direction before its normalisation.
        let example = |shape: &Vec<i64>| Tensor::ones(&shape[..], (Kind::Float, store.device())) * 0.5;
        let examples: Vec<Tensor> = about.shapes().iter().map(example).collect();
        let _held = claim()?;
        std::fs::create_dir_all(&at).map_err(|error| files::cannot(&at, error))?;
        older::set_aside_later(&at, step, Some(&file))?;
        let path = at.join(file);
        // Again: its user may have put something there since.
        outputs::check_module(&path)?;
        let forward = |inputs: &[Tensor]| P::export(&nets.h.own, &net, how, inputs);
        let network = hyper::looked_at(nets.h, Heading::Network);
        let words: Vec<String> = network.iter().map(|(flag, value)| format!("{flag} {}", typed_as(value))).collect();
        let answer = tch::no_grad(|| forward(&examples)).size();
        let step = (nets.stand != Stand::Published).then_some(step);
        let text = about.json(P::NAME, network.into_iter().collect(), step, &answer)?;
        print(export::torchscript(&store, &forward, &examples, &text, fold, &path)?)?;
        files::write_atomic(&path.with_extension("json"), text.as_bytes())?;
        print(format!("network: {}", words.join(", ")))?;
        print_lines(about)?;
        print(format!("model:   {}", path.display()))?;
        print(format!("about:   {}, also its extra file model.json", path.with_extension("json").display()))?;
    }
    Ok(())
}

/// Exports the trained run at `at`.
pub(crate) fn exported<P: Paper>(at: &Path, machine: &Machine, how: &P::Scoring) -> Result<()> {
    with_run::<P>(at, machine.clone(), |nets| export_run(nets, how, false))
}
