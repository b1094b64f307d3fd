//! Runs by what their folders tell: the report of one, also while it trains, and several compared. No data are opened, no
//! lock is taken, and of a run nothing is written but its report.

mod compare;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use crate::hyper;
use crate::outputs;
use crate::paper::{self, Paper};
use crate::report::{Table, curves};
use crate::results::Results;
use crate::run::board::now;
use crate::run::checkpoint;
use crate::run::config::{Config, typed_as};
use crate::run::folder::{REPORT, written};
use crate::run::history::{lines, parts, shown as shown_part};
use crate::run::session;
use crate::run::stop::{as_argument, typed};
use crate::say::{answer, foreign, moment, note, print, print_lines, span};

pub(crate) use compare::compare;

/// How far the training of a run, or of a part of it, has come.
struct Progress {
    part: String,
    /// Steps done, at its last log line.
    step: u64,
    /// Steps in all, where the run says so.
    steps: Option<u64>,
    /// The step of its checkpoint; what was logged after it is lost with the process.
    kept: Option<u64>,
    /// Why it cannot be gone on with, as [`session::lost`].
    lost: Option<String>,
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
        let kept = kept.get(&folder).copied();
        let own = own.as_ref();
        let lost = match own.filter(|_| kept.is_none()) {
            Some(own) => session::lost(&folder, own, 0)?,
            None => None,
        };
        let steps = own.and_then(|config| config.machine.get("steps")?.as_u64());
        let timing = lines(&folder.join("timing.jsonl"))?.pop().unwrap_or_default();
        let step = line["step"].as_u64().map_or(0, |step| step.saturating_add(1));
        all.push(Progress { part, step, steps, kept, lost, line, timing, warnings });
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

    /// The loss of its last log line.
    fn loss(&self) -> Option<f64> {
        self.line.get("mean").and_then(Value::as_f64).or_else(|| self.line.get("loss")?.as_f64())
    }

    fn value(&self) -> Value {
        let Progress { part, step, steps, line, timing, warnings, .. } = self;
        json!({"part": part, "step": step, "steps": steps, "line": line, "timing": timing, "warnings": warnings})
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
            dash(self.loss().map(|loss| format!("{loss:.4}"))),
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

/// What becomes of a run that `trains` or that nobody trains in a word, and in a sentence where it is to be gone on with or still
/// trains.
fn state(at: &Path, config: &Config, progress: &[Progress], trains: bool) -> Result<(&'static str, String)> {
    if trains {
        return Ok(("training", "A process is training it.".into()));
    }
    let short = progress.iter().find(|part| part.is_short());
    let step = match short {
        None if progress.is_empty() => "0".into(),
        None => return Ok(("trained", String::new())),
        Some(part) if part.part.is_empty() => part.steps(),
        Some(part) => format!("{} in {}", part.steps(), part.part),
    };
    let time =
        short.and_then(|part| part.timing["time"].as_f64()).map_or(String::new(), |time| format!(", {}", moment(time)));
    let lost = short.map_or_else(|| session::lost(at, config, 0), |part| Ok(part.lost.clone()))?;
    if let Some(lost) = lost {
        return Ok(("stopped", format!("Stopped at step {step}{time}: {lost}.")));
    }
    let kept = short.and_then(|part| part.kept);
    let kept = kept.map_or("no checkpoint: it begins again".into(), |step| format!("its checkpoint is of step {step}"));
    let command = typed(going_on(at, &config.argv));
    let there = config.folder.as_ref().filter(|folder| std::env::current_dir().is_ok_and(|here| here != **folder));
    let (place, go) = match there {
        None => (String::new(), String::new()),
        Some(gone) if !gone.is_dir() => (format!(", where {} lies now,", shown(gone)), String::new()),
        Some(folder) => (String::new(), format!("cd {} && ", typed([shown(folder)]))),
    };
    Ok(("stopped", format!("Stopped at step {step}{time} ({kept}); go on{place} with: {go}{command}")))
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
    words.extend(["--run".into(), as_argument(&at.canonicalize().unwrap_or_else(|_| at.into()))]);
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
    let page = at.join(REPORT);
    ensure!(
        !page.metadata().is_ok_and(|page| !page.is_file() || page.len() > 0) || outputs::made(&page, P::NAME),
        "{}: a file is there that this command did not write, or that was changed since: remove it",
        page.display()
    );
    let kept = checkpoint::check_logs(at)?;
    let (progress, path) = (progress(at, &config, &kept)?, at.join(REPORT));
    let (results, unread) = match scores(at, at, &config) {
        Ok(results) => (results, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    unread.iter().for_each(note);
    results.iter().filter_map(|results| again::<P>(at, results)).for_each(note);
    let head = ["part", "step", "of", "loss", "active", "images/s", "left", "last line"];
    let trains = written(at).is_some();
    let (word, sentence) = state(at, &config, &progress, trains)?;
    let mut table = Table::new(head, progress.iter().map(|part| part.row(trains)));
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
        let changed = config.changed().into_iter().map(|line| format!("the training data changed: {line}"));
        let warnings: Vec<String> = changed.chain(progress.iter().flat_map(|part| part.warnings.clone())).collect();
        if !warnings.is_empty() {
            page.list("Warnings", &warnings);
        }
        if let Some(why) = &unread {
            page.text("Scored", why);
        }
        if let Some(results) = results.as_ref() {
            page.text("Scored", &format!("The scores are of step {}.", results.step));
            results.lead(&mut page);
            results.onto(&mut page, false);
        }
        if !sentence.is_empty() {
            page.answers(&sentence);
        }
        curves(&mut page, &[("", at)])?;
        page.list("Departures from the paper", &paper::departures::<P>(&h));
        results.iter().for_each(|results| results.unmeasured(&mut page));
        page.write(&path)?;
    }
    let parts: Vec<Value> = progress.iter().map(Progress::value).collect();
    answer(&json!({"run": shown(at), "report": shown(&path), "state": word, "says": sentence, "parts": parts}))?;
    if !table.rows.is_empty() {
        print_lines(&table)?;
    }
    if !sentence.is_empty() {
        print(&sentence)?;
    }
    print(format!("report: {}", path.display()))
}

/// The command that scores the run at `at`.
fn evaluate<P: Paper>(at: &Path) -> String {
    typed([P::NAME.into(), "evaluate".into(), "--run".into(), as_argument(at)])
}

/// What to type where the scores of the run at `at` are an older version's.
fn again<P: Paper>(at: &Path, results: &Results) -> Option<String> {
    let why = format!("{} was scored by an older version, which says of no score what is better", at.display());
    results.are_older().then(|| format!("{why}: {}", evaluate::<P>(at)))
}

/// The scores in the folder `at` of the run in the folder `of`, as [`Results::read`].
fn scores(at: &Path, of: &Path, run: &Config) -> Result<Option<Results>> {
    Results::check_run(at, (of, run), &run.mark())?;
    Results::read(at)
}
