//! The help: groups, places in the paper, every conditional default.

use std::collections::BTreeMap;

use clap::builder::Resettable;
use clap::{Arg, Args, Command};
use serde_json::Value;

use super::Hyper;
use super::flags::{Flags, args, flags, name};
use super::resolve::resolve;
use crate::run::config::typed_as as text;

/// The place in the paper that a help text ends with; None where it is ours.
pub fn place(help: &str) -> Option<String> {
    let inside = help.trim_end().strip_suffix(')')?.rsplit('(').next()?;
    (!inside.starts_with("ours")).then(|| inside.to_string())
}

/// The flags of `A` that have a place in the paper.
pub fn places<A: Args>() -> Vec<(String, String)> {
    let of = |arg: &Arg| Some((name(arg), place(&arg.get_help()?.to_string())?));
    args::<A>().iter().filter_map(of).collect()
}

/// The group of the help that each flag of `A` stands in: its `help_heading`, or that of the flag above it. `evaluate` takes
/// those under "Data" for other data, and the report states those under "Network", "Loss" and "Batches".
pub(super) fn headings<A: Args>() -> BTreeMap<String, String> {
    let mut last = String::new();
    let of = |arg: &Arg| {
        arg.get_help_heading().into_iter().for_each(|own| last = own.into());
        (name(arg), last.clone())
    };
    args::<A>().iter().map(of).collect()
}

/// The flags under a heading of the help.
pub fn under<H: Hyper>(wanted: &str) -> Vec<String> {
    let headings = headings::<H>();
    args::<H>().iter().map(name).filter(|flag| headings[flag] == wanted).collect()
}

/// `of` with the flags of `H` under a heading that it `takes`: without defaults, for another verb of the same program.
pub fn optional<H: Hyper>(of: Command, wanted: &'static str, takes: impl Fn(&str) -> bool) -> Command {
    let headings = headings::<H>();
    let under = args::<H>().into_iter().filter(|arg| headings[&name(arg)] == wanted && takes(&name(arg)));
    of.args(under.map(|arg| arg.default_value(Resettable::Reset).required(false).help_heading(wanted)))
}

/// `of` with some of the flags of `A`.
pub fn some<A: Args>(of: Command, flags: &[&str]) -> Command {
    of.args(args::<A>().into_iter().filter(|arg| flags.contains(&&*name(arg))))
}

/// `command`, which has the flags of `H` among its own, with all of their defaults in its help: `[default: 18; lunet: 32]`.
pub fn explained<H: Hyper>(command: Command) -> Command {
    let of = |changes: &[(&str, Value)]| {
        let typed = changes.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        resolve::<H>(&typed, &|_| ()).map(|all| flags(&all)).unwrap_or_default()
    };
    let paper = of(&[]);
    let mut others: Vec<(String, Flags)> = Vec::new();
    for arg in args::<H>().iter().filter(|arg| H::AXES.contains(&name(arg).as_str())) {
        for value in arg.get_possible_values() {
            others.push((value.get_name().into(), of(&[(&name(arg), value.get_name().into())])));
        }
    }
    others.push(("drawn".into(), of(&[("data", "drawn".into())])));
    let headings = headings::<H>();
    command.mut_args(|arg| {
        let flag = name(&arg);
        let heading = headings.get(&flag).cloned();
        let arg = if let Some(heading) = heading { arg.help_heading(&*heading.leak()) } else { arg };
        let Some(usual) = paper.get(&flag) else { return arg };
        if !arg.get_action().takes_values() {
            return arg;
        }
        let differs = |(choice, all): &(String, Flags)| {
            let own = H::AXES.contains(&flag.as_str()) && choice != "drawn";
            let value = all.get(&flag).filter(|value| *value != usual && !own && flag != "data")?;
            Some(format!("; {choice}: {}", text(value)))
        };
        let more: String = others.iter().filter_map(differs).collect();
        let empty = usual.as_array().is_some_and(Vec::is_empty);
        let usual = if usual.is_null() || *usual == "" || empty { "none".to_string() } else { text(usual) };
        if usual == "none" && more.is_empty() {
            return arg;
        }
        let add = |help: Option<&clap::builder::StyledStr>| help.map(|help| format!("{help} [default: {usual}{more}]"));
        let (short, long) = (add(arg.get_help()), add(arg.get_long_help()));
        let arg = if let Some(short) = short { arg.help(short) } else { arg };
        let arg = if let Some(long) = long { arg.long_help(long) } else { arg };
        arg.hide_default_value(true)
    })
}
