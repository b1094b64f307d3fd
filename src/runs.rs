//! Runs by what their folders tell: the report of one, also while it trains, and several compared. No data are opened, no
//! lock is taken, and of a run nothing is written but its report.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, ensure};
use serde_json::{Map, Value, json};

use crate::hyper;
use crate::metrics::score;
use crate::outputs::{self, check_out};
use crate::paper::{self, Paper};
use crate::report::{Report, Table, curves};
use crate::results::{Results, number};
use crate::run::board::now;
use crate::run::checkpoint;
use crate::run::config::{Config, typed_as};
use crate::run::folder::{REPORT, RESULTS, written};
use crate::run::history::{lines, parts, shown as shown_part};
use crate::run::stop::typed;
use crate::say::{answer, foreign, line, moment, note, print, span};

/// How far the training of a run, or of a part of it, has come.
struct Progress {
    part: String,
    /// Steps done, at its last log line.
    step: u64,
    /// Steps in all, where the run says so.
    steps: Option<u64>,
    /// The step of its checkpoint; what was logged after it is lost with the process.
    kept: Option<u64>,
    /// Its last log line; null before the first.
    line: Value,
    /// What the clock said then.
    timing: Value,
    /// What the log warns of.
    warnings: Vec<String>,
}

/// The parts of a run that have no log yet: of those that its configuration lists, or, where an older version wrote that,
/// of those that have a configuration.
fn unbegun(at: &Path, config: &Config) -> Vec<(String, PathBuf)> {
    let entries = || std::fs::read_dir(at).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let of_run = |name: &OsString| Config::read(&at.join(name)).is_ok_and(|own| own.flags.contains_key("part"));
    let mut names: Vec<OsString> = match config.parts() {
        Some(listed) => listed.into_iter().map(OsString::from).collect(),
        None => entries().filter(of_run).collect(),
    };
    names.retain(|name| !at.join(name).join("log.jsonl").exists());
    names.into_iter().map(|name| (shown_part(&name), at.join(name))).collect()
}

/// How far a run has come, part by part, those that have not begun last, with the steps of its checkpoints by their folders.
fn progress(at: &Path, config: &Config, kept: &BTreeMap<PathBuf, u64>) -> Result<Vec<Progress>> {
    let mut all = Vec::new();
    for (part, folder) in parts(at)?.into_iter().chain(unbegun(at, config)) {
        let log = lines(&folder.join("log.jsonl"))?;
        let warning = |line: &Value| Some(format!("step {}: {}", line["step"], line.get("warning")?.as_str()?));
        let warnings = log.iter().filter_map(warning).collect();
        let line = log.into_iter().rfind(|line| line["loss"].is_number() && line["step"].is_u64()).unwrap_or_default();
        let own = Config::read(&folder).ok();
        let named = own.as_ref().and_then(|own| own.flags.get("part")?.as_str());
        let odd = named.filter(|named| !folder.ends_with(named));
        if let Some(odd) = odd {
            let holds = format!("{} holds the part {} of a run", folder.display(), foreign(odd));
            // An older version listed no parts: there it may be a copy.
            ensure!(config.parts().is_none(), "{holds}: put each part back into its own folder");
            note(format!("{holds}: passed over"));
            continue;
        }
        let steps = own.and_then(|config| config.machine.get("steps")?.as_u64());
        let timing = lines(&folder.join("timing.jsonl"))?.pop().unwrap_or_default();
        let step = line["step"].as_u64().map_or(0, |step| step.saturating_add(1));
        let kept = kept.get(&folder).copied();
        all.push(Progress { part, step, steps, kept, line, timing, warnings });
    }
    Ok(all)
}

impl Progress {
    /// Steps done, of how many where some are left: what is kept may be newer than what was logged.
    fn steps(&self) -> String {
        let done = self.step.max(self.kept.unwrap_or(0));
        let of = self.steps.filter(|steps| *steps > done).map_or(String::new(), |steps| format!(" of {steps}"));
        format!("{done}{of}")
    }

    /// Whether steps are left to do, by what is kept.
    fn is_short(&self) -> bool {
        self.kept.is_none_or(|kept| self.steps.is_some_and(|steps| kept < steps))
    }

    /// As a row of a table, of a run that `trains` or that nobody trains.
    fn row(&self, trains: bool) -> Vec<String> {
        let number = |of: &Value, key: &str| of.get(key).and_then(Value::as_f64);
        let dash = |text: Option<String>| text.unwrap_or("–".into());
        let done = if trains { self.step } else { self.kept.unwrap_or(0) };
        let left = self.steps.map(|steps| steps.saturating_sub(done));
        let left = left.and_then(|left| Some((left, left as f64 * number(&self.timing, "seconds_per_step")?)));
        vec![
            self.part.clone(),
            self.step.to_string(),
            dash(self.steps.map(|steps| steps.to_string())),
            dash(number(&self.line, "mean").or(number(&self.line, "loss")).map(|loss| format!("{loss:.4}"))),
            dash(number(&self.line, "active").map(|share| format!("{:.0}%", 100. * share))),
            dash(number(&self.timing, "images_per_second").map(|speed| format!("{speed:.0}"))),
            dash(left.map(|(left, time)| match left {
                0 => "trained".into(),
                _ if trains => span(time),
                _ => "stopped".into(),
            })),
            dash(number(&self.timing, "time").map(|time| format!("{} ago", span(now() - time)))),
        ]
    }
}

/// What becomes of a run in a word, and in a sentence where it is to be gone on with or still trains.
fn state(at: &Path, config: &Config, progress: &[Progress]) -> (&'static str, String) {
    if written(at).is_some() {
        return ("training", "A process is training it.".into());
    }
    let short = progress.iter().find(|part| part.is_short());
    let step = match short {
        None if progress.is_empty() => "0".into(),
        None => return ("trained", String::new()),
        Some(part) if part.part.is_empty() => part.steps(),
        Some(part) => format!("{} in {}", part.steps(), part.part),
    };
    let time =
        short.and_then(|part| part.timing["time"].as_f64()).map_or(String::new(), |time| format!(", {}", moment(time)));
    let kept = short.and_then(|part| part.kept);
    let kept = kept.map_or("no checkpoint: it begins again".into(), |step| format!("its checkpoint is of step {step}"));
    let command = typed(going_on(at, &config.argv));
    let there = config.folder.as_ref().filter(|folder| std::env::current_dir().is_ok_and(|here| here != **folder));
    let command = there.map_or(String::new(), |folder| format!("cd {} && ", typed([shown(folder)]))) + &command;
    ("stopped", format!("Stopped at step {step}{time} ({kept}); go on with: {command}"))
}

/// The command line `argv` that began the run at `at`, with the folder where that lies now. One of several runs goes on with
/// the others.
fn going_on(at: &Path, argv: &[String]) -> Vec<String> {
    const SEVERAL: [&str; 3] = ["--table", "--seeds", "--splits"];
    let is =
        |word: &str, flag: &str| word.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    if argv.iter().any(|word| SEVERAL.iter().any(|flag| is(word, flag))) {
        return argv.to_vec();
    }
    let (mut words, mut rest) = (Vec::new(), argv.iter());
    while let Some(word) = rest.next() {
        match is(word, "--run") {
            true if word == "--run" => drop(rest.next()),
            true => {}
            false => words.push(word.clone()),
        }
    }
    // Where training began, from which the other paths are typed, is not always here.
    words.extend(["--run".into(), shown(&at.canonicalize().unwrap_or_else(|_| at.into()))]);
    words
}

/// A path as JSON has it, which knows text alone.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Writes `report.html` of the run at `at` from what its log holds so far, and prints how far it is. Where the scores are of
/// the newest checkpoint, the page that `evaluate` wrote stays: it holds more.
///
/// # Errors
/// Where there is no run of this paper and version, and where the page cannot be written.
pub(crate) fn report<P: Paper>(at: &Path) -> Result<()> {
    let config = Config::read(at)?;
    let (h, _) = paper::understood::<P>(at, &config)?;
    let kept = checkpoint::check_logs(at)?;
    let (progress, path) = (progress(at, &config, &kept)?, at.join(REPORT));
    let (results, unread) = match scores(at, at, &config) {
        Ok(results) => (results, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    unread.iter().for_each(note);
    let head = ["part", "step", "of", "loss", "active", "images/s", "left", "last line"].map(String::from).into();
    let (word, sentence) = state(at, &config, &progress);
    let mut table = Table { head, rows: progress.iter().map(|part| part.row(word == "training")).collect() };
    let farthest = progress.iter().max_by_key(|part| part.step.max(part.kept.unwrap_or(0)));
    if progress.iter().all(|part| part.part.is_empty()) {
        table.head.remove(0);
        table.rows.iter_mut().for_each(|row| drop(row.remove(0)));
    }
    if progress.iter().all(|part| part.step == 0) {
        note(format!("{} has not logged a step yet", at.display()));
    }
    let kept = progress.iter().filter_map(|part| part.kept).max();
    if !path.exists() || results.as_ref().is_none_or(|results| Some(results.step) < kept) {
        let text = |from: &Map<String, Value>, name: &str| from.get(name).map_or(String::new(), typed_as);
        let data = hyper::data_name(&text(&config.flags, "data"));
        let mut page = paper::page::<P>(
            &h,
            &data,
            Some(farthest.map_or("0".into(), Progress::steps)),
            &text(&config.machine, "device"),
        );
        page.table("Training", "As it was logged when this page was written.", &table);
        let warnings: Vec<String> = progress.iter().flat_map(|part| part.warnings.clone()).collect();
        if !warnings.is_empty() {
            page.list("Warnings", &warnings);
        }
        if let Some(why) = &unread {
            page.text("Scored", why);
        }
        if let Some(results) = results.as_ref() {
            page.text("Scored", &format!("The scores are of step {}.", results.step));
            results.lead(P::COUNT, &mut page);
            results.onto(&mut page, false);
        }
        if !sentence.is_empty() {
            page.answers(&sentence);
        }
        curves(&mut page, &[("", at)])?;
        page.list("Departures from the paper", &paper::departures::<P>(&h));
        results.iter().for_each(|results| results.unmeasured(&mut page));
        outputs::check(&path, P::NAME)?;
        page.write(&path)?;
    }
    let logged = progress.iter().map(|part| json!({"part": part.part, "step": part.step, "steps": part.steps, "line": part.line, "timing": part.timing, "warnings": part.warnings}));
    answer(
        &json!({"run": shown(at), "report": shown(&path), "state": word, "says": sentence, "parts": logged.collect::<Vec<_>>()}),
    )?;
    if !table.rows.is_empty() {
        print(&table)?;
    }
    if !sentence.is_empty() {
        print(&sentence)?;
    }
    print(format!("report: {}", path.display()))
}

/// A run among several.
struct One {
    name: String,
    at: PathBuf,
    /// Every flag, those of scoring among them, and what of the machine may change the outcome.
    facts: Map<String, Value>,
    results: Option<Results>,
    /// Scores on other data, and of other weights: the folders below, and what stands in them.
    others: Vec<(String, Results)>,
}

/// The scores in the folder `at` of the run in the folder `of`, as [`Results::read`].
fn scores(at: &Path, of: &Path, run: &Config) -> Result<Option<Results>> {
    Results::check_run(at, &run.paper, &run.mark(), &checkpoint::known(of))?;
    Results::read(at)
}

/// The scores in the folders below that of a run, `of`. Users put folders there too: what is not of the run, or is no longer as it
/// was written, is passed over.
fn others(of: &Path, run: &Config) -> Vec<(String, Results)> {
    let (mut all, paper) = (Vec::new(), &run.paper);
    for entry in std::fs::read_dir(of).into_iter().flatten().flatten() {
        let (at, file) = (entry.path(), entry.path().join(RESULTS));
        if Results::are_ours(&file, paper) {
            let name = entry.file_name().to_string_lossy().replacen("on-", "on ", 1);
            match scores(&at, of, run) {
                Ok(found) => all.extend(found.map(|found| (name, found))),
                Err(error) => note(format!("{error:#}: passed over")),
            }
        } else if file.exists() {
            note(format!("{} does not say that it is of {paper}, or is damaged: passed over", file.display()));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Compares runs of a paper: prints what differs and the scores beside each other, and writes both with the curves over each
/// other into the page `out`.
///
/// # Errors
/// Where one is no run of the paper, and where the page cannot be written or something else is there.
pub(crate) fn compare<P: Paper>(runs: &[PathBuf], out: &Path) -> Result<()> {
    let title = format!("{}: runs compared", P::NAME);
    let (given, out) = (out, check_out(out, &title)?);
    let mut all: Vec<One> = Vec::new();
    for at in runs {
        let config = Config::read(at)?;
        paper::check_run::<P>(at, &config)?;
        checkpoint::check_logs(at)?;
        let same = |one: &One| one.at.canonicalize().ok() == at.canonicalize().ok();
        ensure!(!all.iter().any(same), hyper::usage(anyhow!("{} comes twice: say other runs", at.display())));
        let (results, others) = (scores(at, at, &config)?, others(at, &config));
        let last = at.canonicalize().ok().and_then(|at| Some(at.file_name()?.to_string_lossy().into_owned()));
        let mut facts = config.flags;
        if let Some(results) = &results {
            facts.extend(results.scoring.clone());
        } else if parts(at)?.iter().any(|(_, folder)| checkpoint::exists(folder)) {
            note(format!("{0} has no scores yet: {1} evaluate --run {0}", at.display(), P::NAME));
        } else {
            note(format!("{} has no scores and no checkpoint yet", at.display()));
        }
        facts.extend(config.machine.into_iter().filter(|(name, _)| name != "steps" && name != "parts"));
        all.push(One { name: last.unwrap_or_default(), at: at.clone(), facts, results, others });
    }
    let names: Vec<String> = all.iter().map(|one| one.name.clone()).collect();
    for one in all.iter_mut().filter(|one| names.iter().filter(|name| **name == one.name).count() > 1) {
        one.name = one.at.display().to_string();
    }
    let head = |first: &[&str]| -> Vec<String> {
        first.iter().map(ToString::to_string).chain(all.iter().map(|one| one.name.clone())).collect()
    };
    let row = |first: &[String], cell: &dyn Fn(&One) -> Option<String>| -> Vec<String> {
        first.iter().cloned().chain(all.iter().map(|one| cell(one).unwrap_or("–".into()))).collect()
    };

    let held_out = |one: &One| one.facts.get("validation").is_some_and(|count| *count != 0 && !count.is_null());
    if all.iter().any(|one| held_out(one) && one.facts.get("seed") != all[0].facts.get("seed")) {
        note("who is held out (--validation) follows from --seed: these runs' scores are of different people");
    }

    let mut differs = Table { head: head(&["flag"]), rows: Vec::new() };
    let (mut names, mut scores, mut claims) = (Vec::new(), Vec::new(), Vec::new());
    for one in &all {
        names.extend(one.facts.keys().filter(|name| !names.contains(*name)).cloned().collect::<Vec<_>>());
        if let Some(results) = &one.results {
            scores.extend(
                results
                    .scores
                    .iter()
                    .filter(|(name, _)| !scores.contains(name))
                    .map(|(name, _)| name.clone())
                    .collect::<Vec<_>>(),
            );
            let known = |claims: &[(String, f64)], what: &String| claims.iter().any(|(known, _)| known == what);
            let new = results.claims.iter().filter(|claim| claim.ours.is_some() && !known(&claims, &claim.what));
            claims.extend(new.map(|claim| (claim.what.clone(), claim.paper)).collect::<Vec<_>>());
        }
    }
    // How a run will be scored it does not say.
    let scoring =
        |name: &String| all.iter().any(|one| one.results.iter().any(|found| found.scoring.contains_key(name)));
    let differ = |name: &&String| {
        let mut facts =
            all.iter().filter(|one| one.results.is_some() || !scoring(name)).map(|one| one.facts.get(*name));
        facts.next().is_some_and(|first| facts.any(|other| other != first))
    };
    for name in names.iter().filter(differ) {
        differs.rows.push(row(std::slice::from_ref(name), &|one| one.facts.get(name).map(typed_as)));
    }
    let of =
        |cell: &dyn Fn(&Results) -> Option<String>, first: &[String]| row(first, &|one| cell(one.results.as_ref()?));
    let mut beside = Table { head: head(&["score"]), rows: Vec::new() };
    beside.rows.push(of(&|results| Some(results.data.clone()), &["data".into()]));
    beside.rows.push(of(&|results| Some(results.step.to_string()), &["steps".into()]));
    for name in &scores {
        beside
            .rows
            .push(of(&|results| Some(format!("{:.4}", score(&results.scores, name)?)), std::slice::from_ref(name)));
    }
    let mut elsewhere = Table { head: head(&["where", "score"]), rows: Vec::new() };
    let mut known: Vec<[String; 2]> = Vec::new();
    for (place, results) in all.iter().flat_map(|one| &one.others) {
        let new = results.scores.iter().map(|(name, _)| [place.clone(), name.clone()]);
        known.extend(new.filter(|row| !known.contains(row)).collect::<Vec<_>>());
    }
    for [place, name] in &known {
        let of = |one: &One| score(&one.others.iter().find(|(known, _)| known == place)?.1.scores, name);
        elsewhere.rows.push(row(&[place.clone(), name.clone()], &|one| Some(format!("{:.4}", of(one)?))));
    }
    let mut paper = Table { head: head(&["what", "paper"]), rows: Vec::new() };
    for (what, theirs) in &claims {
        let ours = |results: &Results| results.claims.iter().find(|claim| claim.what == *what)?.ours;
        let first = [what.clone(), number(*theirs, *theirs)];
        paper.rows.push(of(&|results| Some(number(ours(results)?, *theirs)), &first));
    }

    let flags: Vec<&str> = differs.rows.iter().map(|row| &*row[0]).collect();
    let says = match flags[..] {
        [] => "No flag of these runs differs.".to_string(),
        _ => format!("These runs differ in {}.", flags.join(", ")),
    };
    let mut page = Report::new(&title, P::CITATION);
    page.answers(&says);
    page.facts(&all.iter().map(|one| (one.name.clone(), one.at.display().to_string())).collect::<Vec<_>>());
    let tables =
        [("What differs", differs), ("Scores", beside), ("Other scores", elsewhere), ("Beside the paper", paper)];
    let tables: Vec<_> = tables.into_iter().filter(|(_, table)| !table.rows.is_empty()).collect();
    tables.iter().for_each(|(title, table)| page.table(title, "", table));
    curves(&mut page, &all.iter().map(|one| (one.name.as_str(), one.at.as_path())).collect::<Vec<_>>())?;
    page.write(&out)?;
    let told = |one: &One| json!({"run": shown(&one.at), "facts": one.facts, "results": one.results, "others": one.others.iter().cloned().collect::<BTreeMap<_, _>>()});
    answer(&json!({"page": shown(&out), "says": says, "runs": all.iter().map(told).collect::<Vec<_>>()}))?;
    print(line(&says))?;
    tables.iter().try_for_each(|(title, table)| print(format!("{title}\n{table}")))?;
    print(format!("page: {}", given.display()))
}
