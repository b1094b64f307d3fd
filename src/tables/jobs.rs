//! Which runs a table has: the rows, columns, seeds and splits that are asked for, each run with its flags and its folder.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Map, Value};

use super::scorable;
use crate::hyper::{self, All, FlagValues, Heading, Hyper, Typed};
use crate::paper::Paper;
use crate::run::config::typed_as;
use crate::say::one_line;
use crate::study::{self, Study, Variant};

/// What the command line asks of a study.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub run: Option<PathBuf>,
    pub typed: FlagValues,
    pub scoring: FlagValues,
    pub seeds: Option<String>,
    pub splits: Option<String>,
    pub only: Vec<String>,
    pub plan: bool,
}

/// The flags of a cell, of training and of scoring.
type Cell<P> = (All<<P as Paper>::Hyper>, <P as Paper>::Scoring);

/// A row or a column.
type Side<P> = Variant<<P as Paper>::Hyper, <P as Paper>::Scoring>;

/// A study as the command line asks for it.
pub(super) struct Asked<'a, P: Paper> {
    study: &'a Study<P::Hyper, P::Scoring>,
    wish: &'a Wish,
    pub rows: Vec<Side<P>>,
    pub columns: Vec<Side<P>>,
    /// The flags of all cells with nothing typed, a row after the other.
    pub flags: Vec<FlagValues>,
    /// The flags that rows and columns set.
    through: Vec<String>,
    /// The flags of columns that go through data sets. Each such column is a table of its own, and lies in that table's folder.
    pub apart: Vec<String>,
}

/// A run of a study.
pub(super) struct Job<P: Paper> {
    /// Among the rows that are wanted.
    pub place: usize,
    pub column: usize,
    /// Its row and column.
    pub words: String,
    pub split: Option<String>,
    pub h: All<P::Hyper>,
    pub scoring: P::Scoring,
    /// The run's folder.
    pub at: PathBuf,
    /// That of its scores.
    pub into: PathBuf,
    /// What it lacks to be begun, where a plan alone is wanted.
    pub lacks: Option<String>,
}

/// The first refusal, where every cell refuses.
fn some_takes<C>(cells: &[C], refuses: impl Fn(&C) -> Result<()>) -> Result<()> {
    let refused: Vec<_> = cells.iter().map_while(|cell| refuses(cell).err()).collect();
    let all = refused.len() == cells.len();
    refused.into_iter().next().filter(|_| all).map_or(Ok(()), |error| Err(hyper::usage(error)))
}

/// The names and values of two structs of flags.
fn both(cell: &(impl serde::Serialize, impl serde::Serialize)) -> FlagValues {
    hyper::flags(&cell.0).into_iter().chain(hyper::flags(&cell.1)).collect()
}

impl<'a, P: Paper> Asked<'a, P> {
    /// What the study goes through may not be typed.
    pub fn new(study: &'a Study<P::Hyper, P::Scoring>, wish: &'a Wish) -> Result<Asked<'a, P>> {
        let nothing = [("", hyper::as_usual::<P::Hyper, P::Scoring> as hyper::Sets<_, _>)];
        let columns = if study.columns.is_empty() { nothing.to_vec() } else { study.columns.to_vec() };
        let mut asked =
            Asked { study, wish, rows: study.variants(), columns, flags: vec![], through: vec![], apart: vec![] };
        for (row, column) in asked.pairs(0..asked.rows.len()) {
            asked.flags.push(both(&asked.cell(row, column, &Map::new())?));
        }
        // A side alone, from what nothing typed gives: presets hang much on some flags.
        let alone = |(_, set): &Side<P>| {
            let mut cell = (hyper::blank::<P::Hyper>()?, hyper::blank::<P::Scoring>()?);
            set(&mut cell.0, &mut cell.1);
            Ok(both(&cell))
        };
        let sides: Vec<FlagValues> = asked.rows.iter().chain(study.columns).map(alone).collect::<Result<_>>()?;
        asked.through = hyper::varied(&sides);
        asked.apart = hyper::varied(&sides[asked.rows.len()..]);
        if !asked.apart.iter().any(|flag| flag == "data") {
            asked.apart.clear();
        }
        let typed = wish.typed.keys().chain(wish.scoring.keys()).find(|name| asked.through.contains(name));
        if let Some(flag) = typed {
            let rows = if study.columns.is_empty() { " (--only takes some of its rows)" } else { "" };
            return Err(hyper::usage(anyhow!("--table {} goes through --{flag}: leave it out{rows}", study.name)));
        }
        Ok(asked)
    }

    /// The folder of the table where these flags are typed.
    pub fn folder(&self, typed: &FlagValues) -> PathBuf {
        let data = typed.get("data").or_else(|| self.flags[0].get("data").filter(|_| self.apart.is_empty()));
        let table = (!self.study.sheets.is_empty()).then(|| format!("table-{}", self.study.name));
        let name = table.into_iter().chain(data.map(|data| hyper::data_name(&typed_as(data))));
        let name: Vec<String> = name.chain(hyper::named::<P::Hyper>(typed)).collect();
        let usual = || Path::new("data/runs").join(P::NAME).join(name.join("-").replace('/', "-"));
        self.wish.run.clone().unwrap_or_else(usual)
    }

    /// All cells of some rows.
    fn pairs(&self, rows: impl IntoIterator<Item = usize>) -> Vec<(Side<P>, Side<P>)> {
        let of = |r: usize| self.columns.iter().map(move |&column| (self.rows[r], column));
        rows.into_iter().flat_map(of).collect()
    }

    fn cell(&self, row: Side<P>, column: Side<P>, typed: &FlagValues) -> Result<Cell<P>> {
        let (h, scoring) = hyper::recipe(typed, &[self.study.fixed, row.1, column.1])?;
        Ok((h, hyper::with(&scoring, &self.wish.scoring)?))
    }

    /// The rows that are wanted, by number, name, or the value that they set.
    pub fn wanted(&self) -> Result<Vec<usize>> {
        let names: Vec<String> = self.rows.iter().map(|row| study::slug(row.0)).collect();
        let mut rows = BTreeSet::new();
        for name in &self.wish.only {
            let number = name.parse::<usize>().ok().filter(|n| (1..=names.len()).contains(n)).map(|n| n - 1);
            let named = || names.iter().position(|known| *known == study::slug(name));
            let sets = |i: &usize| {
                let own = &self.flags[i * self.columns.len()];
                self.through.iter().any(|flag| own.get(flag).is_some_and(|value| typed_as(value) == *name))
            };
            let row = number.or_else(named).or_else(|| (0..names.len()).find(sets));
            let row = row.with_context(|| format!("--only {name}: the rows are {}", names.join(", ")));
            rows.insert(row.map_err(hyper::usage)?);
        }
        Ok(if rows.is_empty() { (0..names.len()).collect() } else { rows.into_iter().collect() })
    }

    /// Refuses, before hours of training, what none of these rows looks at.
    pub fn refuse_idle(&self, rows: &[usize]) -> Result<()> {
        let of = |(row, column)| self.cell(row, column, &self.wish.typed);
        let typed: Vec<Cell<P>> =
            self.pairs(rows.iter().copied()).into_iter().map(of).collect::<Result<_>>().map_err(hyper::usage)?;
        for (flag, value) in &self.wish.typed {
            let one = Map::from_iter([(flag.clone(), value.clone())]);
            some_takes(&typed, |(h, _)| hyper::refuse_idle(&h.own, &one, Typed::Here))?;
        }
        some_takes(&typed, |(h, scoring)| scorable::<P>(&h.own, scoring, &self.wish.scoring, Typed::Here))
    }

    /// All runs of some rows; the flags of each are known to be sound before the first one trains.
    pub fn jobs(&self, rows: &[usize], seeds: &[Option<u64>], splits: &[Option<String>]) -> Result<Vec<Job<P>>> {
        let scoring = hyper::flags(&hyper::blank::<P::Scoring>()?);
        let (viewed, trained): (Vec<String>, Vec<String>) =
            hyper::varied(&self.flags).into_iter().partition(|flag| scoring.contains_key(flag));
        let apart: &[String] = if self.wish.run.is_some() { &[] } else { &self.apart };
        let own = |flag: &String| self.through.contains(flag) && !apart.contains(flag);
        let trained: Vec<String> = trained.into_iter().filter(own).collect();
        let mut jobs = Vec::new();
        let cells = rows.iter().enumerate().flat_map(|(place, &r)| (0..self.columns.len()).map(move |c| (place, r, c)));
        for (place, r, column) in cells {
            let sides = (self.rows[r], self.columns[column]);
            for (split, seed) in splits.iter().flat_map(|split| seeds.iter().map(move |seed| (split, seed))) {
                let mut typed = self.wish.typed.clone();
                typed.extend(split.clone().map(|split| (hyper::SPLIT.to_string(), Value::from(split))));
                typed.extend(seed.map(|seed| ("seed".to_string(), Value::from(seed))));
                // What this row does not look at is for the others.
                let (all, _) = self.cell(sides.0, sides.1, &typed).map_err(hyper::usage)?;
                typed.retain(|name, _| !hyper::is_idle(&all.own, name));
                let (h, scoring) = self.cell(sides.0, sides.1, &typed).map_err(hyper::usage)?;
                let mut lacks = None;
                if let Err(error) = hyper::check(&h.own) {
                    // A dash is what does not go together by itself, not what was typed, nor what lacks weights.
                    let alone = self.cell(sides.0, sides.1, &Map::new())?.0.own;
                    if alone.check().is_err() && !self.study.columns.is_empty() {
                        continue;
                    }
                    ensure!(hyper::check(&alone).is_err() && self.wish.plan, hyper::usage(error));
                    lacks = Some(one_line(&error));
                }
                let (own, views) = (hyper::flags(&h), hyper::flags(&scoring));
                let named = |flag: &String| match (&**flag, &own[flag]) {
                    (_, Value::Null) => None,
                    ("data", value) => Some(hyper::data_name(&typed_as(value))),
                    (_, value) => Some(typed_as(value)),
                };
                let mut name: Vec<String> = trained.iter().filter_map(named).collect();
                name.extend(split.as_ref().map(|split| format!("split{split}")));
                name.push(h.usual.seed.to_string());
                let without = |flag: &str| {
                    let mut typed = self.wish.typed.clone();
                    let set = apart.iter().filter_map(|flag| own.get_key_value(flag).filter(|set| !set.1.is_null()));
                    typed.extend(set.map(|(flag, value)| (flag.clone(), value.clone())));
                    typed.remove(flag);
                    self.folder(&typed).join(name.join("-").replace('/', "-"))
                };
                let at = hyper::begun(without(""), without(hyper::START), &own);
                let views: Vec<String> =
                    viewed.iter().map(|flag| format!("{flag}-{}", typed_as(&views[flag]))).collect();
                let into = if views.is_empty() { at.clone() } else { at.join(views.join("-")) };
                let words = [sides.0.0, sides.1.0].into_iter().filter(|word| !word.is_empty());
                let words = words.collect::<Vec<_>>().join(", ");
                jobs.push(Job { place, column, words, split: split.clone(), h, scoring, at, into, lacks });
            }
        }
        let mut places = HashMap::new();
        for job in &jobs {
            let Some(other) = places.insert(&job.into, job) else { continue };
            let [one, two] = [other, job].map(|job| both(&(&job.h, &job.scoring)));
            let differ = |words: &str, own: &FlagValues, other: &FlagValues| {
                let flags = own.iter().filter(|(flag, value)| other.get(*flag) != Some(value));
                let flags = flags.map(|(flag, value)| format!("--{flag} {}", typed_as(value)));
                let words = Some(words.to_string()).filter(|words| !words.is_empty());
                words.into_iter().chain(flags).collect::<Vec<_>>().join(", ")
            };
            let (one, two) = (differ(&other.words, &one, &two), differ(&job.words, &two, &one));
            let (into, list) = (job.into.display(), if other.split == job.split { "--only" } else { "--splits" });
            let twice = anyhow!("{one} and {two} would both lie in {into}: leave one out of {list}");
            return Err(hyper::usage(twice));
        }
        Ok(jobs)
    }
}

/// The seeds or splits of a list: numbers, ranges as 1-10, other words as they are.
fn listed(flag: &str, list: &str) -> Result<Vec<String>> {
    const MOST: usize = 1000;
    ensure!(!list.contains(';'), hyper::usage(anyhow!("--{flag} {list}: put commas between, as 1,2,5-9")));
    let mut all = Vec::new();
    for part in list.split(',') {
        match part.split_once('-').map(|(from, to)| (from.parse::<usize>(), to.parse::<usize>())) {
            Some((Ok(from), Ok(to))) if from > 0 && from <= to && to - from < MOST => {
                all.extend((from..=to).map(|number| number.to_string()));
            }
            Some(_) => return Err(hyper::usage(anyhow!("--{flag} {part}: say a range as 1-10"))),
            // 01 is 1.
            None => all.push(part.parse::<u64>().map_or_else(|_| part.to_string(), |number| number.to_string())),
        }
    }
    match (1..all.len()).find(|&i| all[..i].contains(&all[i])) {
        Some(i) => Err(hyper::usage(anyhow!("--{flag}: {} comes twice", all[i]))),
        None => Ok(all),
    }
}

/// The seeds that are asked for; None is that of the flags.
pub(super) fn seeds(wish: &Wish) -> Result<Vec<Option<u64>>> {
    let Some(list) = &wish.seeds else { return Ok(vec![None]) };
    let number =
        |seed: &String| seed.parse().map(Some).map_err(|_| hyper::usage(anyhow!("--seeds {seed}: say a number")));
    listed("seeds", list)?.iter().map(number).collect()
}

/// The splits that are asked for; None is that of the flags.
pub(super) fn splits<H: Hyper>(wish: &Wish) -> Result<Vec<Option<String>>> {
    let Some(list) = &wish.splits else { return Ok(vec![None]) };
    let known = hyper::under::<H>(Heading::Data).contains(&hyper::SPLIT.to_string());
    ensure!(known, hyper::usage(anyhow!("--splits: these data have one split: leave it out")));
    ensure!(!wish.typed.contains_key(hyper::SPLIT), hyper::usage(anyhow!("--split and --splits: give one of them")));
    let list = listed("splits", list)?;
    for split in &list {
        let one = Map::from_iter([(hyper::SPLIT.to_string(), Value::from(split.as_str()))]);
        let taken = hyper::resolve::<H>(&one, &|_| ()).with_context(|| format!("--splits {split}"));
        taken.map_err(hyper::usage)?;
    }
    Ok(list.into_iter().map(Some).collect())
}
