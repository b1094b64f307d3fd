//! Where flags leave the paper's recipe, in words.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::flags::{FlagValues, blank, flags};
use super::help::places;
use super::resolve::{is_idle, resolve};
use super::values::file;
use super::{All, Hyper};
use crate::run::config::typed_as as text;

/// Whether two values of a flag make the same recipe. Where the paper's is empty it stands for a file, and any file will do.
fn same(ours: &Value, theirs: &Value) -> bool {
    ours == theirs || (theirs.is_null() && file(ours.as_str()).is_some())
}

/// What of `ours` is not the recipe of `theirs`: flags that have a place in the paper and are looked at, with both values.
fn differences<A: Args>(ours: &FlagValues, theirs: &FlagValues, passed: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut list = Vec::new();
    for (flag, place, at) in places::<A>() {
        let (Some(own), Some(paper)) = (ours.get(&flag), theirs.get(&flag)) else { continue };
        if passed(&flag) || same(own, paper) {
            continue;
        }
        list.push(match own {
            Value::Bool(true) => format!("--{flag} ({place})"),
            Value::Bool(false) => format!("no --{flag} ({place})"),
            own if paper.is_null() => format!("--{flag} {} ({place})", text(own)),
            own => format!("--{flag} {} ({at}: {})", text(own), text(paper)),
        });
    }
    list
}

/// Where the flags of scoring `s` leave the paper's, in words.
pub fn departures_of_scoring<S: Args + Serialize>(s: &S) -> Vec<String> {
    blank::<S>().map_or_else(|_| Vec::new(), |paper| differences::<S>(&flags(s), &flags(&paper), &|_| false))
}

/// Where those of these flags that `count` leave the paper's, in words.
pub fn departures<H: Hyper>(h: &All<H>, count: impl Fn(&str) -> bool) -> Vec<String> {
    let ours = flags(h);
    let axes = ours.clone().into_iter().filter(|(name, _)| H::AXES.contains(&name.as_str())).collect();
    match resolve::<H>(&axes, &|_| ()) {
        Ok(paper) => {
            let passed = |flag: &str| is_idle(&h.own, flag) || axes.contains_key(flag) || !count(flag);
            differences::<All<H>>(&ours, &flags(&paper), &passed)
        }
        Err(_) => vec!["the paper has no recipe for these choices".into()],
    }
}

/// What makes a recipe out of other flags of training and scoring.
pub type Sets<H, S> = fn(&mut H, &mut S);

/// Sets nothing.
pub fn as_usual<H, S>(_: &mut H, _: &mut S) {}

/// The flags of training and those of scoring that `sets` make of the paper's defaults, one after the other. What is `typed`
/// wins.
///
/// # Errors
/// Where a flag has no default, or does not take its value.
pub fn recipe<H: Hyper, S: Args + Clone>(typed: &FlagValues, sets: &[Sets<H, S>]) -> Result<(All<H>, S)> {
    let mut blank = blank::<S>()?;
    let set = |h: &mut H, s: &mut S| sets.iter().for_each(|set| set(h, s));
    let h = resolve::<H>(typed, &|h| set(h, &mut blank.clone()))?;
    set(&mut h.own.clone(), &mut blank);
    Ok((h, blank))
}

/// [`recipe`] of the paper alone.
pub fn paper<H: Hyper, S: Args + Clone>(sets: &[Sets<H, S>]) -> Result<(All<H>, S)> {
    recipe(&Map::new(), sets)
}

/// Where the run of `h` scored by `s` leaves the recipe that `sets` make of the paper's, in words.
pub fn off_recipe<H: Hyper, S: Args + Serialize + Clone>(
    h: &All<H>,
    s: &S,
    sets: &[Sets<H, S>],
) -> Result<Vec<String>> {
    let (paper, scoring) = paper(sets)?;
    let h = All { own: h.own.clone().claimed(), usual: h.usual.clone() };
    let mut list = differences::<All<H>>(&flags(&h), &flags(&paper), &|flag| is_idle(&h.own, flag));
    list.extend(differences::<S>(&flags(s), &flags(&scoring), &|_| false));
    Ok(list)
}
