//! The paper's numbers: each is of one recipe, and ours stands beside it only where ours is that recipe.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::hyper::{self, All, Hyper};
use crate::tasks::Data;

/// A row: where the paper says so, the data set by its [`Data::published`] name, what makes the recipe out of the paper's
/// defaults, the score before the metric's name, and a number a metric (NaN where the paper has none).
pub type Row<H, S> = (&'static str, &'static str, fn(&mut H, &mut S), &'static str, &'static [f64]);

/// Numbers that the paper prints, a recipe a row.
pub struct Claims<H: 'static, S: 'static> {
    /// What ours is multiplied by to be in the paper's unit: 100 for per cent.
    pub unit: f64,
    /// The metrics; one without a name is the score itself.
    pub metrics: &'static [&'static str],
    /// Place, data, recipe, score, numbers.
    pub rows: &'static [Row<H, S>],
}

/// The names of a row's scores, with the paper's numbers.
pub fn scores<'a>(metrics: &'a [&str], score: &'a str, numbers: &'a [f64]) -> impl Iterator<Item = (String, f64)> + 'a {
    let named = move |metric: &&str| {
        [score, *metric]
            .iter()
            .filter(|part| !part.is_empty())
            .map(|part| part.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    metrics.iter().map(named).zip(numbers.iter().copied()).filter(|(_, number)| number.is_finite())
}

/// A number of the paper's and, where ours may stand beside it, ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// What was measured.
    pub what: String,
    /// Where the paper says so.
    pub place: String,
    /// The paper's number.
    pub paper: f64,
    /// Ours in the same unit; None is "not run".
    pub ours: Option<f64>,
    /// The score's name.
    #[serde(skip)]
    pub score: String,
}

/// A score that others published of their weights: a part of the file's name, the place, the data set by its
/// [`Data::published`] name, the score, and its number in per cent.
pub type Scored = (&'static str, &'static str, &'static str, &'static str, f64);

/// What was published of the weights in `file`, with ours beside it where the data are the published ones.
pub fn published(of: &[Scored], file: &Path, data: &dyn Data, scores: &[(String, f64)]) -> Vec<Beside> {
    let (file, set) = (file.to_string_lossy(), data.published().ok());
    let ours = |name: &str| scores.iter().find(|(known, _)| known == name).map(|(_, score)| 100. * score);
    let here = of.iter().filter(|row| file.contains(row.0) && set.as_deref() == Some(row.2));
    here.map(|&(_, place, set, score, paper)| Beside {
        what: format!("{set}, {score} (published weights)"),
        place: place.into(),
        paper,
        ours: ours(score),
        score: score.into(),
    })
    .filter(|row| row.ours.is_some())
    .collect()
}

/// All of the paper's numbers with ours beside those whose recipe and data are ours; and, where there are none of ours,
/// why: the nearest recipe's difference, or the data's.
///
/// # Errors
/// Where a claim's recipe is not one of the paper's flags.
pub fn beside<H: Hyper, S: Args + Serialize>(
    claims: &[Claims<H, S>],
    h: &All<H>,
    s: &S,
    data: &dyn Data,
    scores: &[(String, f64)],
) -> Result<(Vec<Beside>, std::result::Result<(), String>)> {
    let (mut list, mut nearest) = (Vec::new(), None::<Vec<String>>);
    let published = data.published();
    for (block, &(place, set, at, score, numbers)) in
        claims.iter().flat_map(|block| block.rows.iter().map(move |row| (block, row)))
    {
        let off = hyper::off_recipe(h, s, at)?;
        let right = published.as_ref().is_ok_and(|name| *name == set);
        for (name, paper) in self::scores(block.metrics, score, numbers) {
            let own = scores.iter().find(|(known, _)| *known == name).map(|(_, score)| block.unit * score);
            let what = format!("{set}, {name}{}", told(at));
            let ours = own.filter(|_| right && off.is_empty());
            list.push(Beside { what, place: place.into(), paper, ours, score: name });
        }
        if right && nearest.as_ref().is_none_or(|known| off.len() < known.len()) {
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
fn told<H: Hyper, S: Args + Serialize>(at: fn(&mut H, &mut S)) -> String {
    let Ok((h, s)) = hyper::paper(at) else { return String::new() };
    let Ok((h0, s0)) = hyper::paper(|_: &mut H, _: &mut S| ()) else { return String::new() };
    let differs = |own: &hyper::Flags, usual: &hyper::Flags| -> Vec<String> {
        let changed = hyper::varied(&[usual.clone(), own.clone()]).into_iter().filter(|name| name != "data");
        changed.map(|name| format!("--{name} {}", crate::run::config::typed_as(&own[&name]))).collect()
    };
    let mut words = differs(&hyper::flags(&h), &hyper::flags(&h0));
    words.extend(differs(&hyper::flags(&s), &hyper::flags(&s0)));
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(" ")) }
}
