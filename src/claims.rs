//! The paper's numbers: each is of one recipe, and ours stands beside it only where ours is that recipe.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::catalog;
use crate::hyper::{self, All, Hyper, Sets};
use crate::metrics::{self, Score};
use crate::tasks::Data;

/// A column: the data set by its [`Data::published_set`] name, what is measured on it, and what its recipes have in common.
pub type Column<H, S> = (&'static str, &'static str, Sets<H, S>);

/// A row: where the paper says so, what is measured besides, what makes its recipe out of the paper's defaults, and for
/// each column a number a metric (none, or NaN, where the paper has none).
pub type Row<H, S> = (&'static str, &'static str, Sets<H, S>, &'static [&'static [f64]]);

/// A table of numbers as the paper prints it.
pub struct Claims<H: 'static, S: 'static> {
    /// What ours is multiplied by to be in the paper's unit: 100 for per cent.
    pub unit: f64,
    /// The metrics of a cell; one without a name is what the column measures.
    pub metrics: &'static [&'static str],
    /// Data, what is measured, recipe.
    pub columns: &'static [Column<H, S>],
    /// Place, what is measured besides, recipe, numbers.
    pub rows: &'static [Row<H, S>],
}

/// A cell of a table of claims.
pub(crate) struct Cell<H: 'static, S: 'static> {
    place: &'static str,
    set: &'static str,
    unit: f64,
    /// The column's recipe and the row's.
    pub sets: [Sets<H, S>; 2],
    /// The names of scores, with the paper's numbers.
    pub numbers: Vec<(String, f64)>,
}

/// All cells of some tables.
pub(crate) fn cells<H, S>(claims: &'static [Claims<H, S>]) -> impl Iterator<Item = Cell<H, S>> {
    let rows = claims.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row)));
    rows.flat_map(|(table, &(place, besides, row, cells))| {
        table.columns.iter().zip(cells).map(move |(&(set, what, column), numbers)| {
            let named = |metric: &&str| {
                [what, besides, *metric].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
            };
            let numbers = table.metrics.iter().map(named).zip(numbers.iter().copied());
            let numbers = numbers.filter(|(_, number)| number.is_finite()).collect();
            Cell { place, set, unit: table.unit, sets: [column, row], numbers }
        })
    })
}

/// A number of the paper's and, where ours may stand beside it, ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// What was measured, in words: the score, and on which data.
    pub what: String,
    /// Where the paper says so.
    pub place: String,
    /// The number as the paper prints it.
    pub paper: f64,
    /// Ours in the same unit; None is "not run".
    pub ours: Option<f64>,
    /// Whether who made the weights says so, and not the paper.
    #[serde(default)]
    pub of_weights: bool,
    /// Which of our scores it stands beside.
    #[serde(skip)]
    pub score: String,
    #[serde(skip)]
    set: String,
    /// What ours was multiplied by.
    #[serde(skip)]
    unit: f64,
    /// Whether it is of the paper's defaults.
    #[serde(skip)]
    usual: bool,
}

/// Published weights whose scores are known.
pub struct Theirs<S: 'static> {
    /// Their name in data/datasets.json.
    pub name: &'static str,
    /// The data set of the scores, by its [`Data::published_set`] name.
    pub set: &'static str,
    /// A score's name, their number of it in per cent, and where that stands; None where the paper's numbers for its
    /// defaults are theirs.
    pub score: Option<(&'static str, f64, &'static str)>,
    /// How test data were seen and compared, from the defaults.
    pub how: fn(&mut S),
}

/// What is known of the published weights in `file`, whose BLAKE3 hash is `hash`, on the whole published `set`, seen and
/// compared as `how` says, with ours (fractions) beside it; of the paper's numbers, `all`, those by the scores that count. Where
/// data/datasets.json has no such hash, a file of the right name is taken for theirs, and it is said: nothing of it is the paper's.
pub fn of_weights<S: Args + Serialize>(
    of: &[Theirs<S>],
    all: &[Beside],
    (file, hash, how): (&Path, &str, &S),
    set: &str,
    scores: &[Score],
) -> Result<Vec<Beside>> {
    let name = catalog::name_of(file);
    let by_hash = of.iter().any(|known| catalog::blake3(known.name) == Some(hash));
    let is = |known: &str| catalog::blake3(known).map_or(name == Some(known), |content| content == hash);
    let mut found = None;
    for known in of.iter().filter(|known| is(known.name) && known.set == set) {
        let mut theirs = hyper::blank::<S>()?;
        (known.how)(&mut theirs);
        found = found.or((hyper::flags(&theirs) == hyper::flags(how)).then_some(known));
    }
    let rows: Vec<Beside> = match found.map(|known| known.score) {
        None => Vec::new(),
        Some(Some((score, paper, place))) => {
            let (what, place) = (format!("{set}, {score}"), place.to_string());
            vec![Beside {
                what,
                place,
                paper,
                ours: None,
                of_weights: true,
                score: score.into(),
                set: set.into(),
                unit: 100.,
                usual: true,
            }]
        }
        Some(None) => {
            let counted = metrics::counted(scores);
            let counts = |row: &&Beside| counted.iter().any(|score| score.name == row.score);
            let theirs = |row: &&Beside| row.usual && row.set == set && counts(row);
            all.iter().filter(theirs).cloned().collect()
        }
    };
    let how = if by_hash { "published weights" } else { "published weights, by the file's name alone" };
    let ours = |row: Beside| {
        let ours = metrics::score(scores, &row.score)?;
        let (what, of_weights) = (format!("{} ({how})", row.what), row.of_weights || !by_hash);
        Some(Beside { what, ours: Some(row.unit * ours), of_weights, ..row })
    };
    Ok(rows.into_iter().filter_map(ours).collect())
}

/// All of the paper's numbers with ours beside those whose recipe and data are ours; and, where there are none of ours,
/// why: the nearest recipe's difference, or the data's.
///
/// # Errors
/// Where a claim's recipe is not one of the paper's flags.
pub fn beside<H: Hyper, S: Args + Serialize + Clone>(
    claims: &'static [Claims<H, S>],
    h: &All<H>,
    s: &S,
    data: &dyn Data,
    scores: &[Score],
) -> Result<(Vec<Beside>, std::result::Result<(), String>)> {
    let (mut list, mut nearest) = (Vec::new(), None::<Vec<String>>);
    let published = data.published_set();
    let from =
        hyper::flags(h).get(hyper::START).and_then(|run| Some(format!(", ours fine-tuned from {}", run.as_str()?)));
    for Cell { place, set, unit, sets, numbers } in cells(claims) {
        let off = hyper::off_recipe(h, s, &sets)?;
        let right = published.as_ref().is_ok_and(|name| *name == set);
        let (told, numbered) = (told(&sets), !numbers.is_empty());
        for (score, paper) in numbers {
            let own = metrics::score(scores, &score).map(|own| unit * own);
            let ours = own.filter(|_| right && off.is_empty());
            let from = from.as_deref().filter(|_| ours.is_some()).unwrap_or_default();
            let what = format!("{set}, {score}{told}{from}");
            let usual = told.is_empty() && off.is_empty();
            let place = place.into();
            list.push(Beside { what, place, paper, ours, of_weights: false, score, set: set.into(), unit, usual });
        }
        if right && numbered && nearest.as_ref().is_none_or(|known| off.len() < known.len()) {
            nearest = Some(off);
        }
    }
    let why = match (published, nearest) {
        (Err(why), _) => why,
        (Ok(_), _) if list.iter().any(|row| row.ours.is_some()) => return Ok((list, Ok(()))),
        (Ok(name), None) => format!("the paper has no number for {name}"),
        (Ok(_), Some(off)) if off.is_empty() => "none of the paper's scores was measured".into(),
        (Ok(_), Some(off)) => format!("this run departs from the paper's recipe: {}", off.join("; ")),
    };
    Ok((list, Err(why)))
}

/// A recipe in words: where it differs from the paper's defaults.
fn told<H: Hyper, S: Args + Serialize + Clone>(sets: &[Sets<H, S>]) -> String {
    let (Ok((h, s)), Ok((h0, s0))) = (hyper::paper(sets), hyper::paper::<H, S>(&[])) else { return String::new() };
    let differs = |own: &hyper::FlagValues, usual: &hyper::FlagValues| -> Vec<String> {
        let changed = hyper::varied(&[usual.clone(), own.clone()]).into_iter().filter(|name| name != "data");
        changed.map(|name| format!("--{name} {}", crate::run::config::typed_as(&own[&name]))).collect()
    };
    let mut words = differs(&hyper::flags(&h), &hyper::flags(&h0));
    words.extend(differs(&hyper::flags(&s), &hyper::flags(&s0)));
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(" ")) }
}
