//! Several runs: what differs, how far each has come, their scores and which are best, their curves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, ensure};
use serde_json::{Map, Value, json};

use super::{Progress, again, evaluate, progress, scores, shown};
use crate::hyper;
use crate::metrics::{self, Better};
use crate::outputs::{check_out, made};
use crate::paper::{self, Paper};
use crate::report::{BEST, Report, Table, curves};
use crate::results::{Results, number, passed};
use crate::run::checkpoint;
use crate::run::config::{Config, PHOTOS, typed_as};
use crate::run::folder::RESULTS;
use crate::run::history::parts;
use crate::run::session::EVERY;
use crate::say::{answer, note, plural, print, print_lines};

/// A run among several.
struct One {
    name: String,
    at: PathBuf,
    /// Every flag, those of scoring among them, and what of the machine may change the outcome.
    facts: Map<String, Value>,
    progress: Vec<Progress>,
    results: Option<Results>,
    /// Scores on other data, and of other weights: the folders below, and what stands in them.
    others: Vec<(String, Results)>,
}

impl One {
    /// How far its part of that name has come.
    fn part(&self, name: &str) -> Option<&Progress> {
        self.progress.iter().find(|own| own.part == name)
    }

    /// Its scores in the folder of that name.
    fn other(&self, name: &str) -> Option<&Results> {
        self.others.iter().find(|(known, _)| known == name).map(|(_, found)| found)
    }
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

/// Each of `all` once, in order.
fn once<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    all.for_each(|one| {
        if !found.contains(&one) {
            found.push(one)
        }
    });
    found
}

/// A score of several runs.
struct Score {
    name: String,
    /// Of each run that has it.
    values: Vec<Option<f64>>,
    /// The places of the best; none where all are alike, and where neither more nor less is better.
    best: Vec<usize>,
    better: Better,
    counts: Option<u8>,
}

impl Score {
    /// Of what was `found` of each run; where that is not `comparable`, none is the best.
    fn of(name: String, found: &[Option<&Results>], comparable: bool) -> Score {
        let values: Vec<Option<f64>> = found.iter().map(|found| metrics::score(&(*found)?.scores, &name)).collect();
        let all = || found.iter().flatten().flat_map(|found| &found.scores).filter(|score| score.name == name);
        // An older version says neither.
        let better = all().map(|score| score.better).find(|better| *better != Better::Neither);
        let (better, counts) = (better.unwrap_or(Better::Neither), all().find_map(|score| score.counts));
        let sign = better.sign();
        let known = || values.iter().enumerate().filter_map(|(place, value)| Some((place, sign * (*value)?)));
        let most = known().map(|(_, value)| value).fold(f64::NEG_INFINITY, f64::max);
        let differ = comparable && known().any(|(_, value)| value < most);
        let best = known().filter(|(_, value)| differ && *value == most).map(|(place, _)| place).collect();
        Score { name, values, best, better, counts }
    }

    /// A cell a run.
    fn cells(&self) -> impl Iterator<Item = String> {
        let mark = |place: usize| if self.best.contains(&place) { BEST } else { "" };
        self.values.iter().enumerate().map(move |(place, value)| match value {
            Some(value) => format!("{}{value:.4}", mark(place)),
            None => "–".into(),
        })
    }

    /// Which of `all` is the best, and by how much.
    fn says(&self, all: &[One]) -> String {
        let rest = (0..all.len()).filter(|place| !self.best.contains(place));
        let next = rest.filter_map(|place| Some((&all[place].name, self.values[place]?)));
        let next = next.max_by(|a, b| (self.better.sign() * a.1).total_cmp(&(self.better.sign() * b.1)));
        let next = next.map_or(String::new(), |(name, value)| format!(", then {name}: {value:.4}"));
        let names: Vec<&str> = self.best.iter().map(|&place| &*all[place].name).collect();
        let value = self.best.first().and_then(|&place| self.values[place]).unwrap_or(f64::NAN);
        let are = plural(names.len(), "is", "are");
        format!("By {}, {} {are} best: {value:.4}{next}.", self.name, names.join(" and "))
    }
}

/// Reads a run, and says of one without scores, or with an older version's, what to type to get some.
fn read<P: Paper>(at: &Path, missing: &mut Vec<String>) -> Result<One> {
    let config = Config::read(at)?;
    paper::check_run::<P>(at, &config)?;
    let progress = progress(at, &config, &checkpoint::check_logs(at)?)?;
    let (results, others) = (scores(at, at, &config)?, others(at, &config));
    let last = at.canonicalize().ok().and_then(|at| Some(at.file_name()?.to_string_lossy().into_owned()));
    let mut facts = config.flags;
    if let Some(results) = &results {
        facts.extend(results.scoring.clone());
        missing.extend(again::<P>(at, results));
        if let Some((of, now)) = passed(&results.checkpoints, &checkpoint::fingerprints(at)) {
            let step = of.step;
            let run = at.display();
            missing.push(format!("{run} was scored after step {step} and is at step {now} now: {}", evaluate::<P>(at)));
        }
    } else if parts(at)?.iter().any(|(_, folder)| checkpoint::exists(folder)) {
        missing.push(format!("{} has no scores yet: {}", at.display(), evaluate::<P>(at)));
    } else {
        missing.push(format!("{} has no scores and no checkpoint yet", at.display()));
    }
    facts.extend(config.machine.into_iter().filter(|(name, _)| !["steps", "parts", PHOTOS, EVERY].contains(&&**name)));
    Ok(One { name: last.unwrap_or_default(), at: at.into(), facts, progress, results, others })
}

/// Compares runs of a paper: prints what differs, how far they are, and the scores beside each other, the best marked; writes
/// all of it, with the curves over each other, into the page `out`.
///
/// # Errors
/// Where one is no run of the paper, and where the page cannot be written or something else is there.
pub(crate) fn compare<P: Paper>(runs: &[PathBuf], out: &Path) -> Result<()> {
    // One title in all papers, so that each replaces the others' page; an older version's has the paper in it.
    let older = format!("{}: runs compared", P::NAME);
    let title = if made(out, &older) { older } else { "Runs compared".into() };
    let (given, out) = (out, check_out(out, &title)?);
    let (mut all, mut missing): (Vec<One>, Vec<String>) = Default::default();
    for at in runs {
        let same = |one: &One| one.at.canonicalize().ok() == at.canonicalize().ok();
        let one = read::<P>(at, &mut missing)?;
        ensure!(!all.iter().any(same), hyper::usage(anyhow!("{} comes twice: say other runs", at.display())));
        all.push(one);
    }
    let names: Vec<String> = all.iter().map(|one| one.name.clone()).collect();
    for one in all.iter_mut().filter(|one| names.iter().filter(|name| **name == one.name).count() > 1) {
        one.name = one.at.display().to_string();
    }
    let all = all;
    let table = |first: &[&str]| {
        let first = first.iter().map(ToString::to_string);
        Table { head: first.chain(all.iter().map(|one| one.name.clone())).collect(), rows: Vec::new() }
    };
    let row = |first: &[String], cell: &dyn Fn(&One) -> Option<String>| -> Vec<String> {
        first.iter().cloned().chain(all.iter().map(|one| cell(one).unwrap_or("–".into()))).collect()
    };

    // How a run will be scored it does not say.
    let scoring =
        |name: &String| all.iter().any(|one| one.results.iter().any(|found| found.scoring.contains_key(name)));
    let differ = |name: &String| {
        let mut facts = all.iter().filter(|one| one.results.is_some() || !scoring(name)).map(|one| one.facts.get(name));
        facts.next().is_some_and(|first| facts.any(|other| other != first))
    };
    let mut differs = table(&["flag"]);
    for name in once(all.iter().flat_map(|one| one.facts.keys().cloned())).into_iter().filter(differ) {
        differs.rows.push(row(std::slice::from_ref(&name), &|one| one.facts.get(&name).map(typed_as)));
    }
    let mut training = table(&["training"]);
    for part in once(all.iter().flat_map(|one| one.progress.iter().map(|own| &*own.part))) {
        let named = |what: &str| [if part.is_empty() { what.to_string() } else { format!("{part}: {what}") }];
        training.rows.push(row(&named("steps"), &|one| Some(one.part(part)?.steps())));
        training.rows.push(row(&named("last loss"), &|one| Some(format!("{:.4}", one.part(part)?.loss()?))));
    }

    // Scores of other data do not say which run is better.
    let held_out = |one: &One| one.facts.get(hyper::VALIDATION).is_some_and(|count| *count != 0 && !count.is_null());
    let of_others = all.iter().any(|one| held_out(one) && one.facts.get("seed") != all[0].facts.get("seed"));
    if of_others {
        note("who is held out (--validation) follows from --seed: these runs' scores are of different people");
    }
    let alike = |found: &[Option<&Results>]| {
        let mut of = found.iter().flatten().map(|found| (&found.data, &found.of, &found.scored));
        of.next().is_none_or(|first| of.all(|other| other == first))
    };
    let found: Vec<Option<&Results>> = all.iter().map(|one| one.results.as_ref()).collect();
    let (comparable, several) = (alike(&found) && !of_others, found.iter().flatten().count() > 1);
    let names = once(found.iter().flatten().flat_map(|found| found.scores.iter().map(|score| score.name.clone())));
    let own: Vec<Score> = names.into_iter().map(|name| Score::of(name, &found, comparable)).collect();
    let mut beside = table(&["score"]);
    if !own.is_empty() {
        let of = |cell: &dyn Fn(&Results) -> String| row(&[], &|one| Some(cell(one.results.as_ref()?)));
        let [data, steps] = [of(&|found| found.data.clone()), of(&|found| found.step.to_string())];
        let rows = [("data", data), ("after steps", steps)].map(|(name, cells)| (name.to_string(), cells));
        let scores = own.iter().map(|score| (score.name.clone(), score.cells().collect::<Vec<_>>()));
        beside.rows.extend(rows.into_iter().chain(scores).map(|(name, cells)| [vec![name], cells].concat()));
    }
    let (mut elsewhere, mut others) = (table(&["where", "score"]), Vec::new());
    let known = all.iter().flat_map(|one| &one.others);
    let known = known.flat_map(|(place, found)| found.scores.iter().map(move |score| (place, &score.name)));
    for (place, name) in once(known) {
        let found: Vec<_> = all.iter().map(|one| one.other(place)).collect();
        let score = Score::of(name.clone(), &found, alike(&found));
        let first = [place.clone(), name.clone()].into_iter();
        elsewhere.rows.push(first.chain(score.cells()).collect());
        others.push(score);
    }
    let marked = own.iter().chain(&others).filter(|score| !score.best.is_empty());
    let marked = once(marked.map(|score| (&*score.name, score.better)));
    let less = marked.iter().filter(|(_, better)| *better == Better::Less);
    let less: Vec<&str> = less.map(|(name, _)| *name).collect();
    let less = if less.is_empty() { String::new() } else { format!(", of {} the lowest", less.join(" and ")) };
    let marks =
        if marked.is_empty() { String::new() } else { format!("{BEST}marks the best run: the highest score{less}.") };
    let mut paper = table(&["what", "paper"]);
    let claims = found.iter().flatten().flat_map(|found| found.claims.iter().filter(|claim| claim.ours.is_some()));
    for (what, theirs) in once(claims.map(|claim| (&claim.what, claim.paper))) {
        let ours = |one: &One| one.results.as_ref()?.claims.iter().find(|claim| claim.what == *what)?.ours;
        paper.rows.push(row(&[what.clone(), number(theirs, theirs)], &|one| Some(number(ours(one)?, theirs))));
    }

    let flags: Vec<&str> = differs.rows.iter().map(|row| &*row[0]).collect();
    let mut says = vec![match flags[..] {
        [] => "No flag of these runs differs.".to_string(),
        _ => format!("These runs differ in {}.", flags.join(", ")),
    }];
    let judged = own.iter().filter(|score| !score.best.is_empty());
    match judged.min_by_key(|score| score.counts.unwrap_or(u8::MAX)) {
        Some(score) => says.push(score.says(&all)),
        None if several && !comparable => {
            says.push("Their scores are of different data, and do not say which is better.".into())
        }
        None => {}
    }
    says.extend((!missing.is_empty()).then(|| missing.join("; ")));
    let says = says.join(" ");
    let mut page = Report::new(&title, P::CITATION);
    page.answers(&says);
    page.facts(&all.iter().map(|one| (one.name.clone(), one.at.display().to_string())).collect::<Vec<_>>());
    let tables = [
        ("What differs", "", differs),
        ("Training", "", training),
        ("Scores", &*marks, beside),
        ("Other scores", "", elsewhere),
        ("Beside the paper", "", paper),
    ];
    let tables: Vec<_> = tables.into_iter().filter(|(_, _, table)| !table.rows.is_empty()).collect();
    tables.iter().for_each(|(title, note, table)| page.table(title, note, table));
    curves(&mut page, &all.iter().map(|one| (one.name.as_str(), one.at.as_path())).collect::<Vec<_>>())?;
    page.write(&out)?;
    let told = |one: &One| {
        let parts: Vec<Value> = one.progress.iter().map(Progress::value).collect();
        let others: BTreeMap<_, _> = one.others.iter().cloned().collect();
        json!({"run": shown(&one.at), "facts": one.facts, "parts": parts, "results": one.results, "others": others})
    };
    let best = own.iter().filter(|score| !score.best.is_empty());
    let best = best
        .map(|score| (score.name.clone(), score.best.iter().map(|&place| shown(&all[place].at)).collect::<Value>()));
    let (best, told): (Map<String, Value>, Vec<Value>) = (best.collect(), all.iter().map(told).collect());
    answer(&json!({"page": shown(&out), "says": says, "best": best, "runs": told}))?;
    print(&says)?;
    tables.iter().try_for_each(|(title, note, table)| {
        print_lines(format!("{title}\n{table}"))?;
        if note.is_empty() { Ok(()) } else { print(note) }
    })?;
    print(format!("page: {}", given.display()))
}
