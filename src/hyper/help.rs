//! The help: groups, places in the paper, every conditional default.

use std::collections::BTreeMap;

use clap::builder::{ArgExt, Resettable};
use clap::{Arg, Args, Command};
use serde_json::Value;

use super::flags::{FlagValues, args, flags, name};
use super::resolve::resolve;
use super::{Heading, Hyper, Place};
use crate::run::config::typed_as as text;

/// The flags of `A` that have a place in the paper, with that and how it is called before the paper's value.
pub(super) fn places<A: Args>() -> Vec<(String, Place, &'static str)> {
    let of = |arg: &Arg| arg.get::<Place>().and_then(|place| Some((name(arg), *place, place.at()?)));
    args::<A>().iter().filter_map(of).collect()
}

/// The defaults of a flag where others decide: the paper's own, and all by their choices.
#[derive(Debug, Clone)]
struct Defaults {
    usual: Option<String>,
    all: String,
}

impl ArgExt for Defaults {}

/// The group of the help that each flag of `A` stands in: its `help_heading`, or that of the flag above it.
pub(super) fn headings<A: Args>() -> BTreeMap<String, Option<Heading>> {
    let mut last = None;
    let of = |arg: &Arg| {
        if arg.get_help_heading().is_some() {
            last = Heading::of(arg);
        }
        (name(arg), last)
    };
    args::<A>().iter().map(of).collect()
}

/// The flags under a heading of the help.
pub fn under<H: Hyper>(wanted: Heading) -> Vec<String> {
    let headings = headings::<H>();
    args::<H>().iter().map(name).filter(|flag| headings[flag] == Some(wanted)).collect()
}

/// `of` with the flags of `H` under a heading that it `takes`: without defaults, for another verb of the same program.
pub fn optional<H: Hyper>(of: Command, wanted: Heading, takes: impl Fn(&str) -> bool) -> Command {
    let headings = headings::<H>();
    let under = args::<H>().into_iter().filter(|arg| headings[&name(arg)] == Some(wanted) && takes(&name(arg)));
    of.args(under.map(|arg| arg.default_value(Resettable::Reset).required(false).help_heading(wanted)))
}

/// `of` with some of the flags of `A`.
pub fn some<A: Args>(of: Command, flags: &[&str]) -> Command {
    of.args(args::<A>().into_iter().filter(|arg| flags.contains(&&*name(arg))))
}

/// `command` with the defaults of those of its flags of `H` that it `takes` in its help, by every choice that has others, and
/// of the paper's own choices by drawn data too: `[default: 18; lunet: 32; drawn: 12]`.
pub fn explained<H: Hyper>(command: Command, takes: impl Fn(&str) -> bool) -> Command {
    let of = |typed: &[(&str, &str)]| {
        let typed = typed.iter().map(|(name, value)| (name.to_string(), Value::from(*value))).collect();
        resolve::<H>(&typed, &|_| ()).map(|all| flags(&all)).unwrap_or_default()
    };
    let paper = of(&[]);
    let own = args::<H>().into_iter().filter(|arg| takes(&name(arg)) && arg.get_action().takes_values());
    let choices = own.filter(|arg| name(arg) != "data").flat_map(|arg| {
        let values = arg.get_possible_values().into_iter();
        values.map(|value| (name(&arg), value.get_name().to_string())).collect::<Vec<_>>()
    });
    // The flag that decides, what it is, what follows.
    let mut cases: Vec<(String, String, FlagValues)> =
        choices.map(|(flag, choice)| (flag.clone(), choice.clone(), of(&[(&flag, &choice)]))).collect();
    if takes("data") {
        let drawn = of(&[("data", "drawn")]);
        // What neither alone has.
        let both = |(flag, choice, alone): &(String, String, FlagValues)| {
            let mut all = of(&[("data", "drawn"), (flag, choice)]);
            all.retain(|flag, value| ![alone, &drawn].iter().any(|known| known.get(flag) == Some(&*value)));
            (flag.clone(), format!("drawn {choice}"), all)
        };
        let both: Vec<_> = cases.iter().filter(|(flag, ..)| H::AXES.contains(&&**flag)).map(both).collect();
        cases.push(("data".into(), "drawn".into(), drawn));
        cases.extend(both);
    }
    let headings = headings::<H>();
    command.mut_args(|arg| {
        let flag = name(&arg);
        let Some(usual) = paper.get(&flag).filter(|_| takes(&flag)) else { return arg };
        let arg =
            if let Some(heading) = headings.get(&flag).copied().flatten() { arg.help_heading(heading) } else { arg };
        if !arg.get_action().takes_values() {
            return arg;
        }
        let mut values: Vec<(String, Vec<&str>)> = Vec::new();
        if !usual.is_null() && *usual != "" && !usual.as_array().is_some_and(Vec::is_empty) {
            values.push((text(usual), vec!["default"]));
        }
        for (_, choice, all) in cases.iter().filter(|(by, ..)| *by != flag) {
            let Some(value) = all.get(&flag).filter(|value| *value != usual) else { continue };
            match values.iter_mut().find(|(known, _)| *known == text(value)) {
                Some((_, choices)) => choices.push(choice),
                None => values.push((text(value), vec![choice])),
            }
        }
        if values.is_empty() {
            return arg;
        }
        let said: Vec<String> = values.iter().map(|(value, when)| format!("{}: {value}", when.join(", "))).collect();
        let usual = said.first().filter(|_| values[0].1.contains(&"default")).cloned();
        arg.add(Defaults { usual, all: said.join("; ") }).hide_default_value(true)
    })
}

/// `command` with the places and defaults of its flags behind their texts, whole for `--help` and short for `-h`.
pub fn brief(command: Command) -> Command {
    command.mut_args(|arg| {
        let Some(text) = arg.get_help().map(ToString::to_string) else { return arg };
        let (place, defaults) = (arg.get::<Place>().copied(), arg.get::<Defaults>().cloned());
        // What is longer explains.
        let short =
            place.map(|place| place.at().map_or("ours".into(), |_| place.to_string())).filter(|it| it.len() <= 40);
        let whole = behind(&text, place.map(|place| place.to_string()), defaults.as_ref().map(|of| &*of.all));
        let short = behind(clause(&text), short, defaults.as_ref().and_then(|of| of.usual.as_deref()));
        arg.long_help(whole).help(short)
    })
}

/// A help text with a place in the paper and defaults behind it.
fn behind(text: &str, place: Option<String>, defaults: Option<&str>) -> String {
    let place = place.map_or(String::new(), |place| format!(" ({place})"));
    let defaults = defaults.map_or(String::new(), |all| format!(" [{all}]"));
    format!("{text}{place}{defaults}")
}

/// The first clause of a help text.
fn clause(text: &str) -> &str {
    let mut depth = 0;
    let ends = text.char_indices().find(|&(at, c)| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0 && [';', '.'].contains(&c) && text[at + 1..].starts_with(' ')
    });
    &text[..ends.map_or(text.len(), |(at, _)| at)]
}
