//! A table of the paper that compares runs: rows and columns are flags, every cell is a run in a folder of its own, which
//! resumes as any run does.

use crate::hyper::{Sets, as_usual};
use crate::metrics::{self, Score, mean_and_deviation};
use crate::report::{Bars, Table};

/// What a row or a column sets, under its name in the table.
pub type Variant<H, S> = (&'static str, Sets<H, S>);

/// A row, with the paper's cells of the first sheet as it prints them; where it has none, those of the paper's claims that
/// ours may stand beside are shown.
pub type Row<H, S> = (&'static str, Sets<H, S>, &'static [&'static str]);

/// A table that a study prints.
pub struct Sheet {
    /// What stands above it.
    pub title: &'static str,
    /// Heads, each with the scores in its cells (several are joined by `/`); of a study with columns of its own one
    /// entry, whose head is not looked at.
    pub cells: &'static [(&'static str, &'static [&'static str])],
    /// What a score is multiplied by: 100 for per cent.
    pub unit: f64,
    /// Digits behind the point.
    pub digits: usize,
    /// Whether the report draws it as bars.
    pub bars: bool,
}

/// A grid of runs. A cell whose flags do not go together is a dash.
pub struct Study<H: 'static, S: 'static> {
    /// As `--table NAME` has it. Of several of one name the first is taken that goes through no flag that is typed.
    pub name: &'static str,
    /// What stands above its tables.
    pub title: &'static str,
    /// What all cells have in common.
    pub fixed: Sets<H, S>,
    /// A row each.
    pub rows: &'static [Row<H, S>],
    /// A column each; empty where the columns are scores. Those of data sets that are not here stay empty.
    pub columns: &'static [Variant<H, S>],
    /// What is printed of it, a table each.
    pub sheets: &'static [Sheet],
    /// Sentences about the outcome, from the scores of the rows (means over seeds and splits) in a column.
    pub says: fn(&Grid) -> Vec<String>,
}

/// The scores of some runs, a run each.
pub type Runs = Vec<Vec<Score>>;

/// Scores of a study: by row, then column.
#[derive(Debug, Default)]
pub struct Grid {
    /// Names of the rows.
    pub rows: Vec<String>,
    /// For every row and column the scores of its runs; none where the flags do not go together.
    pub cells: Vec<Vec<Runs>>,
}

impl Grid {
    /// The values of a score in a cell, a run each.
    pub fn values(&self, row: usize, column: usize, score: &str) -> Vec<f64> {
        let runs = self.cells.get(row).and_then(|row| row.get(column)).map_or(&[][..], Vec::as_slice);
        runs.iter().filter_map(|run| metrics::score(run, score)).collect()
    }

    /// Whether the means of a score rise (or fall) from one of these rows to the next, equal ones allowed: `WHAT: yes`, or no
    /// and where. None where fewer than two are there.
    pub fn ordered<H, S>(&self, rows: &[Row<H, S>], what: &str, score: &str, rises: bool) -> Option<String> {
        let place = |row: &Row<H, S>| self.rows.iter().position(|name| name == row.0);
        let steps: Vec<(&str, f64)> =
            rows.iter().filter_map(|row| Some((row.0, self.mean(place(row)?, score)?))).collect();
        // Negated, so that a NaN breaks the order.
        let breaks = |pair: &&[(&str, f64)]| !if rises { pair[1].1 >= pair[0].1 } else { pair[1].1 <= pair[0].1 };
        let broken = steps.windows(2).filter(breaks);
        let broken = broken.map(|pair| format!("{} {:.4} to {} {:.4}", pair[0].0, pair[0].1, pair[1].0, pair[1].1));
        let broken = broken.collect::<Vec<_>>().join("; ");
        let verdict = if broken.is_empty() { "yes".into() } else { format!("no: {broken}") };
        (steps.len() > 1).then(|| format!("{what}: {verdict}"))
    }

    /// One column of it.
    pub(crate) fn column(&self, column: usize) -> Grid {
        let of = |row: &Vec<Runs>| row.get(column).cloned().into_iter().collect();
        Grid { rows: self.rows.clone(), cells: self.cells.iter().map(of).collect() }
    }

    /// The mean of a score over the runs of a row's first cell; None where there is none.
    pub fn mean(&self, row: usize, score: &str) -> Option<f64> {
        let values = self.values(row, 0, score);
        (!values.is_empty()).then(|| metrics::mean(&values))
    }
}

impl Sheet {
    /// Per cent with two digits, without bars.
    pub const PLAIN: Sheet = Sheet { title: "", cells: &[], unit: 100., digits: 2, bars: false };

    /// The plain one of these scores.
    pub const fn of(title: &'static str, cells: &'static [(&'static str, &'static [&'static str])]) -> Sheet {
        Sheet { title, cells, ..Sheet::PLAIN }
    }
}

impl<H, S> Study<H, S> {
    /// The rows without the paper's cells.
    pub(crate) fn variants(&self) -> Vec<Variant<H, S>> {
        self.rows.iter().map(|&(name, set, _)| (name, set)).collect()
    }

    /// A run a row, of which nothing is said.
    pub const PLAIN: Study<H, S> =
        Study { name: "", title: "", fixed: as_usual, rows: &[], columns: &[], sheets: &[], says: |_| Vec::new() };
}

/// A name as a folder or a flag's value has it.
pub(crate) fn slug(name: &str) -> String {
    let kept: String = name.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    kept.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// The mean of every score, ± its deviation over several.
pub(crate) fn spread_table(grid: &Grid) -> Table {
    let names = grid.cells.first().and_then(|row| row.first()).and_then(|cell| cell.first());
    let row = |Score { name, .. }: &Score| {
        let (mean, spread) = mean_and_deviation(&grid.values(0, 0, name));
        let spread = if spread.is_finite() { format!(" ± {spread:.4}") } else { String::new() };
        vec![name.clone(), format!("{mean:.4}{spread}")]
    };
    Table::new(["score", "ours"], names.into_iter().flatten().map(row))
}

/// The mean, and the spread of several; None where there are no values.
fn shown(sheet: &Sheet, values: &[f64]) -> Option<String> {
    let (mean, spread) = mean_and_deviation(values);
    let number = |x: f64| format!("{:.*}", sheet.digits, sheet.unit * x);
    match values.len() {
        0 => None,
        1 => Some(number(mean)),
        _ => Some(format!("{} ± {}", number(mean), number(spread))),
    }
}

/// By row, columns and names of scores with the paper's numbers.
pub(crate) type Claimed = Vec<Vec<(usize, String, f64)>>;

pub(crate) fn sheet_table<H: 'static, S: 'static>(
    sheet: &Sheet,
    study: &Study<H, S>,
    (grid, claimed): (&Grid, &Claimed),
    rows: &[usize],
) -> Table {
    let cell = |row: usize, column: usize, scores: &[&str]| {
        let parts = scores.iter().filter_map(|score| shown(sheet, &grid.values(row, column, score)));
        let parts: Vec<String> = parts.collect();
        if parts.is_empty() { "–".to_string() } else { parts.join("/") }
    };
    let heads: Vec<&str> = match study.columns.is_empty() {
        true => sheet.cells.iter().map(|(head, _)| *head).collect(),
        false => study.columns.iter().map(|column| column.0).collect(),
    };
    let mut table = Table::new([""].into_iter().chain(heads.iter().copied()), []);
    for (place, &r) in rows.iter().enumerate() {
        let of = |i: usize| match study.columns.is_empty() {
            true => cell(place, 0, sheet.cells[i].1),
            false => cell(place, i, sheet.cells[0].1),
        };
        table.rows.push([study.rows[r].0.to_string()].into_iter().chain((0..heads.len()).map(of)).collect());
        let claim = |i: usize| {
            let (own, scores) = if study.columns.is_empty() { (0, sheet.cells[i].1) } else { (i, sheet.cells[0].1) };
            let known = |score: &&str| claimed[place].iter().find(|(column, name, _)| *column == own && name == score);
            let known = scores.iter().filter_map(known).map(|(_, _, number)| format!("{number:.*}", sheet.digits));
            known.collect::<Vec<_>>().join("/")
        };
        let printed = if std::ptr::eq(sheet, &study.sheets[0]) { study.rows[r].2 } else { &[] };
        let paper: Vec<String> = match printed {
            [] => (0..heads.len()).map(claim).collect(),
            _ => (0..heads.len()).map(|i| printed.get(i).map_or(String::new(), ToString::to_string)).collect(),
        };
        if paper.iter().any(|cell| !cell.is_empty()) {
            table.rows.push(["  the paper".to_string()].into_iter().chain(paper).collect());
        }
    }
    table
}

pub(crate) fn bars(sheet: &Sheet, grid: &Grid) -> Vec<Bars> {
    let of = |(head, scores): &(&str, &[&str])| {
        let value = |row: usize| {
            let (mean, spread) = mean_and_deviation(&grid.values(row, 0, scores[0]));
            (sheet.unit * mean, Some(sheet.unit * spread))
        };
        Bars { name: head.to_string(), values: (0..grid.rows.len()).map(value).collect() }
    };
    sheet.cells.iter().map(of).collect()
}
