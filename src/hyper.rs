//! Hyperparameters, each declared once: a field of a struct that derives clap's `Args` and serde.
//!
//! Its type parses and bounds it, its doc comment is the help, the parenthesis at the end of that help is its place in
//! the paper (or begins with "ours"), its `default_value_t` is the paper's value. From this follow the help with every conditional default, `config.json`, the folder's name, the refusal of an
//! idle or changed flag, and the sentence about a departure.
//!
//! What depends on other flags stands in rows of Rust: [`Hyper::PRESETS`], [`Hyper::IDLE`]. The first flag of a group of the
//! help has its `help_heading`, and those below it follow.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

pub use crate::bounds::{count, positive, within};
use crate::catalog;
use crate::run::config::typed_as as text;
use crate::weights::Published;

/// Flags of training or scoring that some runs do not look at, and which runs do.
pub type Idle<H> = (&'static [&'static str], fn(&H) -> bool);

/// A paper's hyperparameters.
pub trait Hyper: Args + Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// Defaults that depend on other flags. They run in this order; after each the flags that were typed are put back, so
    /// that defaults chain and what is typed always wins.
    const PRESETS: &'static [fn(&mut Self)] = &[];
    /// Flags that some runs do not look at.
    const IDLE: &'static [Idle<Self>] = &[];
    /// Flags whose values are choices that the paper itself has: no departures, and the help shows their defaults.
    const AXES: &'static [&'static str] = &[];
    /// The flags that say how long a training is.
    const LENGTH: &'static [&'static str] = &["steps"];
    /// The flags that make a run folder's name; one that begins with `?` counts where it is not the default, of `a|b` the
    /// first that is given.
    const NAMED: &'static [&'static str];

    /// The same as the paper's numbers are said of it: of choices that the paper does not tell apart the one in its recipes.
    fn claimed(self) -> Self {
        self
    }

    /// What `--weights` is to a network of these flags.
    fn weights(&self) -> Weights {
        Weights::None
    }

    /// Refuses what cannot train, beyond what each flag refuses by itself. The error names a flag and what to type.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// What the file that `--weights` names is to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Nothing: the flag is idle.
    None,
    /// It may start from such a file.
    May(Published),
    /// It starts from one, unless `none` is typed.
    Must(Published),
}

impl Weights {
    /// How a file fits.
    pub fn published(self) -> Option<Published> {
        match self {
            Weights::None => None,
            Weights::May(published) | Weights::Must(published) => Some(published),
        }
    }
}

/// Flags of every paper.
#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    /// Everything random follows from this (ours)
    #[arg(long, default_value_t = 1, help_heading = "Optimisation")]
    pub seed: u64,
    /// Compute the network in bfloat16; losses and mining stay in f32 (the paper: f32)
    #[arg(long, help_heading = "Machine")]
    pub amp: bool,
    /// Steps between two log lines (ours)
    #[arg(long, value_name = "STEPS", default_value_t = 10, value_parser = within(1..=1_000_000_000_u64), help_heading = "Machine")]
    pub log_every: u64,
}

/// The paper's flags and the usual ones: what `config.json` holds.
#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct All<H: Args> {
    /// The paper's.
    #[command(flatten)]
    #[serde(flatten)]
    pub own: H,
    /// Every paper's.
    #[command(flatten)]
    #[serde(flatten)]
    pub usual: Usual,
}

/// An error of the command line: the program ends with 2.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// `error` as one of the command line.
pub fn usage(error: anyhow::Error) -> anyhow::Error {
    if error.is::<Usage>() { error } else { Usage(format!("{error:#}")).into() }
}

/// Names and values of flags.
pub type Flags = Map<String, Value>;

/// Every flag with its value, by its name on the command line, in the order of the struct.
pub fn flags(of: &impl Serialize) -> Flags {
    match serde_json::to_value(of) {
        Ok(Value::Object(all)) => all.into_iter().map(|(name, value)| (name.replace('_', "-"), value)).collect(),
        _ => Map::new(),
    }
}

/// The value of a flag as it is typed.
pub fn shown(of: &impl Serialize, flag: &str) -> String {
    flags(of).get(flag).map_or(String::new(), text)
}

/// The flags as the struct they came from.
///
/// # Errors
/// Where they are not that struct's.
pub fn from_flags<T: DeserializeOwned>(flags: &Flags) -> Result<T> {
    let fields = flags.iter().map(|(name, value)| (name.replace('-', "_"), value.clone())).collect();
    Ok(serde_json::from_value(Value::Object(fields))?)
}

/// `of` with other values for some flags.
///
/// # Errors
/// Where a flag does not take the value.
pub fn with<T: Serialize + DeserializeOwned>(of: &T, changes: &Flags) -> Result<T> {
    let mut all = flags(of);
    all.extend(changes.iter().map(|(name, value)| (name.clone(), value.clone())));
    from_flags(&all).map_err(|error| {
        let wrong = changes.iter().find(|(name, value)| {
            let mut one = flags(of);
            one.insert((*name).clone(), (*value).clone());
            from_flags::<T>(&one).is_err()
        });
        let known = |name: &str| flags(of).get(name).filter(|value| !value.is_null()).map(text);
        let like = |name: &str| known(name).map_or(String::new(), |known| format!(", say a value like {known}"));
        match wrong {
            Some((name, value)) => error.context(format!("--{name} {}{}", text(value), like(name))),
            None => error.context("flags"),
        }
    })
}

/// Holds every flag to the bounds that the command line sets it.
///
/// # Errors
/// The first flag that would not be taken there, and why.
pub fn check_bounds<A: Args>(flags: &Flags) -> Result<()> {
    for (flag, value) in flags {
        if value.is_null() || value.is_boolean() || value.as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        let typed = command::<A>().try_get_matches_from([format!("--{flag}={}", text(value))]);
        let refused = typed.err().filter(|error| {
            use clap::error::ErrorKind::{InvalidValue, ValueValidation};
            matches!(error.kind(), InvalidValue | ValueValidation)
        });
        if let Some(error) = refused {
            let why = std::error::Error::source(&error).map_or("no such choice".into(), ToString::to_string);
            return Err(anyhow!("--{flag} {}: {why}", text(value)));
        }
    }
    Ok(())
}

fn command<A: Args>() -> Command {
    A::augment_args(Command::new("").no_binary_name(true))
}

/// The flags of `A`: their names, with what clap knows of them.
pub(crate) fn args<A: Args>() -> Vec<Arg> {
    command::<A>().get_arguments().filter(|arg| arg.get_long().is_some()).cloned().collect()
}

pub(crate) fn name(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().to_string()
}

/// What nothing typed gives, before presets.
///
/// # Errors
/// Where a flag has no default.
pub fn blank<A: Args>() -> Result<A> {
    let matches = command::<A>().try_get_matches_from(Vec::<OsString>::new());
    Ok(A::from_arg_matches(&matches.context("a flag has no default")?)?)
}

/// The flags of `A` that were typed, with their values.
///
/// # Errors
/// Where one does not take its value.
pub fn typed<A: Args + Serialize>(matches: &ArgMatches) -> Result<Flags> {
    let mut words: Vec<OsString> = Vec::new();
    for arg in args::<A>() {
        let id = arg.get_id().as_str();
        if !matches!(matches.try_contains_id(id), Ok(true))
            || matches.value_source(id) != Some(ValueSource::CommandLine)
        {
            continue;
        }
        if !arg.get_action().takes_values() {
            words.push(format!("--{}", name(&arg)).into());
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            ensure!(value.to_str().is_some(), usage(anyhow!("--{}: say it in UTF-8", name(&arg))));
            let mut word = OsString::from(format!("--{}=", name(&arg)));
            word.push(value);
            words.push(word);
        }
    }
    let matches = command::<A>().try_get_matches_from(&words)?;
    let all = flags(&A::from_arg_matches(&matches)?);
    let given: BTreeSet<String> = args::<A>()
        .iter()
        .filter(|arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine))
        .map(name)
        .collect();
    Ok(all.into_iter().filter(|(name, _)| given.contains(name)).collect())
}

/// The flags that `typed` and `pin` lead to: the bare defaults, then each preset, with what is pinned and then what was
/// typed put back after it.
///
/// # Errors
/// Where a flag does not take its value.
pub fn resolve<H: Hyper>(typed: &Flags, pin: &dyn Fn(&mut H)) -> Result<All<H>> {
    let own: BTreeSet<String> = args::<H>().iter().map(name).collect();
    let (own, usual): (Flags, Flags) = typed.clone().into_iter().partition(|(name, _)| own.contains(name));
    let settled = |mut h: H| -> Result<H> {
        pin(&mut h);
        with(&h, &own)
    };
    let mut h = settled(blank()?)?;
    for preset in H::PRESETS {
        preset(&mut h);
        h = settled(h)?;
    }
    Ok(All { own: h, usual: with(&blank::<Usual>()?, &usual)? })
}

/// [`resolve`] for a command line: what cannot train, and what was typed and is not looked at, is refused.
///
/// # Errors
/// Those of the command line ([`Usage`]).
pub fn resolved<H: Hyper>(typed: &Flags) -> Result<All<H>> {
    resolved_with(typed, &Map::new())
}

/// [`resolved`] with flags from elsewhere beside those that were typed, which win.
///
/// # Errors
/// As [`resolved`].
pub fn resolved_with<H: Hyper>(typed: &Flags, beside: &Flags) -> Result<All<H>> {
    let mut both = beside.clone();
    both.extend(typed.clone());
    let h = resolve::<H>(&both, &|_| ()).map_err(usage)?;
    refuse_idle(&h.own, typed, Typed::Here).and_then(|()| check(&h.own)).map_err(usage)?;
    Ok(h)
}

/// Refuses what cannot train, missing weights too.
///
/// # Errors
/// The flag, and what to type.
pub fn check<H: Hyper>(h: &H) -> Result<()> {
    if let (Weights::Must(published), Some(Value::Null)) = (h.weights(), flags(h).get("weights")) {
        let network = under::<H>("Network");
        let others = choices(h, |flag| network.iter().any(|own| own == flag), |h| h.weights() == Weights::None);
        bail!(
            "training starts from ImageNet weights: say --weights FILE{}, --weights none to train from scratch{}{}",
            published
                .fetch
                .first()
                .map_or(String::new(), |name| format!(" ({} gets it into data/weights)", catalog::fetch(name))),
            if flags(h).contains_key("start") { ", --start RUN" } else { "" },
            others.iter().map(|other| format!(", or {other}")).collect::<String>()
        );
    }
    h.check()
}

/// Those of the flags `wanted` that have to be typed to get all of them: the others follow from presets.
///
/// # Errors
/// Where a flag does not take its value.
pub fn needed<H: Hyper>(wanted: &Flags) -> Result<Flags> {
    let mut typed = Map::new();
    // Choices of the paper's own first: most presets hang on them, and on the data.
    for first in [true, false] {
        loop {
            let known = flags(&resolve::<H>(&typed, &|_| ())?);
            let axis = |name: &String| name == "data" || H::AXES.contains(&name.as_str());
            let mut lacks = wanted.iter().filter(|(name, value)| {
                known.get(*name) != Some(value) && !typed.contains_key(*name) && (axis(name) || !first)
            });
            let Some((name, value)) = lacks.next() else { break };
            typed.insert(name.clone(), value.clone());
        }
    }
    Ok(typed)
}

/// Where the flags of a run come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// From this command line, which could say others.
    Here,
    /// From the run's folder.
    Before,
}

/// Refuses what was typed and a run of `h` does not look at.
///
/// # Errors
/// The first such flag, with what would make it count where that can be said here.
pub fn refuse_idle<H: Hyper>(h: &H, typed: &Flags, whose: Typed) -> Result<()> {
    let Some(flag) = typed.keys().find(|flag| is_idle(h, flag)) else { return Ok(()) };
    ensure!(whose == Typed::Here, "--{flag} has no effect on this run: leave it out");
    let cure = counts_with(h, flag);
    let cure = if cure.is_empty() { String::new() } else { format!(", or say {}", cure.join(" or ")) };
    Err(anyhow!("--{flag} has no effect here: leave it out{cure}"))
}

/// The flags under a heading of the help that a run with these looks at, with their values.
pub fn looked_at<H: Hyper>(h: &All<H>, heading: &str) -> Vec<(String, Value)> {
    let all = flags(h);
    let own = under::<H>(heading).into_iter().filter(|flag| !is_idle(&h.own, flag) && !all[flag].is_null());
    own.map(|flag| (flag.clone(), all[&flag].clone())).collect()
}

/// Whether a run with these flags does not look at `flag`.
pub fn is_idle<H: Hyper>(h: &H, flag: &str) -> bool {
    let unread = || h.weights() == Weights::None && flags(h).get("weights").is_none_or(|file| file != "none");
    (flag == "weights" && unread()) || H::IDLE.iter().any(|(flags, counts)| flags.contains(&flag) && !counts(h))
}

/// The choices of one other flag that would make `flag` count.
fn counts_with<H: Hyper>(h: &H, flag: &str) -> Vec<String> {
    choices(h, |other| other != flag, |h| !is_idle(h, flag))
}

/// The choices of one flag, `among` all, of which `holds` is true where `h` has them: `--net nn1, nn2`.
pub fn choices<H: Hyper>(h: &H, among: impl Fn(&str) -> bool, holds: impl Fn(&H) -> bool) -> Vec<String> {
    let choices = args::<H>().into_iter().filter(|arg| among(&name(arg)));
    let of = |arg: Arg| {
        let takes = arg.get_action().takes_values();
        let change = |value: &str| {
            let value = match (takes, arg.get_value_delimiter()) {
                (false, _) => Value::from(true),
                (true, Some(_)) => Value::from(vec![value]),
                (true, None) => Value::from(value),
            };
            with(h, &Map::from_iter([(name(&arg), value)])).ok()
        };
        let values = arg.get_possible_values().into_iter().map(|value| value.get_name().to_string());
        let values = values.filter(|value| takes || value == "true");
        let able: Vec<String> = values.filter(|value| change(value).is_some_and(|h: H| holds(&h))).collect();
        (!able.is_empty()).then(|| match takes {
            true => format!("--{} {}", name(&arg), able.join(", ")),
            false => format!("--{}", name(&arg)),
        })
    };
    choices.filter_map(of).collect()
}

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
fn headings<A: Args>() -> BTreeMap<String, String> {
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

/// Whether two values of a flag are the same recipe: of files (a value that may be left out) only whether there is one.
fn same(ours: &Value, theirs: &Value) -> bool {
    ours == theirs || (theirs.is_null() && ours.as_str().is_some_and(|ours| ours != "none"))
}

/// What of `ours` is not the recipe of `theirs`: flags that have a place in the paper and are looked at, with both values.
fn differences<A: Args>(ours: &Flags, theirs: &Flags, passed: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut list = Vec::new();
    for (flag, place) in places::<A>() {
        let (Some(own), Some(paper)) = (ours.get(&flag), theirs.get(&flag)) else { continue };
        if passed(&flag) || same(own, paper) {
            continue;
        }
        list.push(match own {
            Value::Bool(true) => format!("--{flag} ({place})"),
            Value::Bool(false) => format!("no --{flag} ({place})"),
            own if paper.is_null() => format!("--{flag} {} ({place})", text(own)),
            own => format!("--{flag} {} ({}: {})", text(own), place.split(':').next().unwrap_or(&place), text(paper)),
        });
    }
    list
}

/// Where these flags leave the paper's, in words.
pub fn departures<H: Hyper>(h: &All<H>) -> Vec<String> {
    let ours = flags(h);
    let axes = ours.clone().into_iter().filter(|(name, _)| H::AXES.contains(&name.as_str())).collect();
    match resolve::<H>(&axes, &|_| ()) {
        Ok(paper) => {
            differences::<All<H>>(&ours, &flags(&paper), &|flag| is_idle(&h.own, flag) || axes.contains_key(flag))
        }
        Err(_) => vec!["the paper has no recipe for these choices".into()],
    }
}

/// What makes a recipe out of other flags of training and scoring.
pub type Sets<H, S> = fn(&mut H, &mut S);

/// Sets nothing.
pub fn as_usual<H, S>(_: &mut H, _: &mut S) {}

/// The recipe that `sets` make, one after the other, of the paper's defaults and of what is `typed`, which wins: training's
/// flags, scoring's flags.
///
/// # Errors
/// Where a flag has no default, or does not take its value.
pub fn recipe<H: Hyper, S: Args + Clone>(typed: &Flags, sets: &[Sets<H, S>]) -> Result<(All<H>, S)> {
    let mut blank = blank::<S>()?;
    let set = |h: &mut H, s: &mut S| sets.iter().for_each(|set| set(h, s));
    let h = resolve::<H>(typed, &|h| set(h, &mut blank.clone()))?;
    set(&mut h.own.clone(), &mut blank);
    Ok((h, blank))
}

/// [`recipe`] of the paper alone.
///
/// # Errors
/// As [`recipe`].
pub fn paper<H: Hyper, S: Args + Clone>(sets: &[Sets<H, S>]) -> Result<(All<H>, S)> {
    recipe(&Map::new(), sets)
}

/// Where the run of `h` scored by `s` leaves the recipe that `sets` make of the paper's, in words.
///
/// # Errors
/// As [`paper`].
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

/// Flags whose values differ among some structs, in their order.
pub fn varied(of: &[Flags]) -> Vec<String> {
    let Some(first) = of.first() else { return Vec::new() };
    first.keys().filter(|name| of.iter().any(|flags| flags.get(*name) != first.get(*name))).cloned().collect()
}

/// The last part of a path, or the last two where the last alone says nothing.
pub fn data_name(data: &str) -> String {
    let parts: Vec<String> = Path::new(data)
        .components()
        .filter_map(|part| match part {
            std::path::Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect();
    let last = parts.last().map_or("here", String::as_str);
    let several = ["labeled", "detected"].contains(&last) && parts.len() > 1;
    if several { parts[parts.len() - 2..].join("-") } else { last.to_string() }
}

/// `data/runs/PAPER/` and the flags of [`Hyper::NAMED`].
pub fn folder<H: Hyper>(paper: &str, h: &All<H>) -> PathBuf {
    let (all, usual) = (flags(h), resolve::<H>(&Map::new(), &|_| ()).map(|all| flags(&all)).unwrap_or_default());
    let part = |named: &&str| {
        let mut flags = named.trim_start_matches('?').split('|');
        let (flag, value) = flags.find_map(|flag| Some((flag, all.get(flag).filter(|value| !value.is_null())?)))?;
        match named.starts_with('?') {
            true if usual.get(flag) == Some(value) => None,
            true => Some(with_flag(flag, value)),
            false if flag == "data" => Some(data_name(&text(value))),
            false => Some(text(value)),
        }
    };
    Path::new("data/runs").join(paper).join(H::NAMED.iter().filter_map(part).collect::<Vec<_>>().join("-"))
}

/// A value with its flag's last word before it, as folders have it.
fn with_flag(flag: &str, value: &Value) -> String {
    format!("{}{}", flag.rsplit('-').next().unwrap_or(flag), text(value))
}

/// The values of those flags `typed` that a run's folder has only where they are not the paper's.
pub(crate) fn named<H: Hyper>(typed: &Flags) -> Vec<String> {
    let of = H::NAMED.iter().filter_map(|named| named.strip_prefix('?')).flat_map(|named| named.split('|'));
    of.filter_map(|flag| Some(with_flag(flag, typed.get(flag)?))).collect()
}

/// Runs `set` where `holds`: a preset in one line.
pub fn when(holds: bool, set: impl FnOnce()) {
    if holds {
        set();
    }
}

/// Two numbers from 0 to a million with a comma between them.
pub fn two(text: &str) -> std::result::Result<[f64; 2], String> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|x| (0. ..=1e6).contains(x));
    let both = text.split_once(',').and_then(|(a, b)| Some([number(a)?, number(b)?]));
    both.ok_or_else(|| "say two numbers from 0 to 1e6 with a comma between them, e.g. 1,0.5".into())
}

/// Height and width of a network's input in pixels, typed as `256x128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Size(pub u32, pub u32);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.0, self.1)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Size, String> {
        let sides = text.split_once('x').and_then(|(h, w)| Some(Size(h.parse().ok()?, w.parse().ok()?)));
        let sides = sides.filter(|size| [size.0, size.1].iter().all(|side| (8..=4096).contains(side)));
        sides.ok_or_else(|| "say height x width in pixels, 8 to 4096 each, e.g. 256x128".into())
    }
}

impl From<Size> for String {
    fn from(size: Size) -> String {
        size.to_string()
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Size, String> {
        text.parse()
    }
}

/// Fails where a flag has no place in the paper and is not marked ours.
///
/// # Errors
/// The first such flag.
pub fn placed<A: Args>() -> Result<()> {
    for arg in args::<A>() {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        ensure!(help.ends_with(')'), "--{} has no place in the paper and is not marked ours: {help}", name(&arg));
        ensure!(!help.contains('`'), "--{}: backticks in {help}", name(&arg));
    }
    Ok(())
}

/// Fails where a paper's flags, of training and of scoring, break what this module promises of them: for one test over all papers.
///
/// # Errors
/// The first flag without a heading or a place, or a row that names a flag that does not exist.
pub fn sound<H: Hyper, S: Args>() -> Result<()> {
    let all = args::<All<H>>();
    placed::<All<H>>()?;
    placed::<S>()?;
    let bare = headings::<All<H>>().into_iter().find(|(_, heading)| heading.is_empty());
    bare.map_or(Ok(()), |(flag, _)| Err(anyhow!("--{flag} has no heading")))?;
    let known: BTreeSet<String> = all.iter().chain(&args::<S>()).map(name).collect();
    let named = H::NAMED.iter().flat_map(|flag| flag.trim_start_matches('?').split('|'));
    let idle = H::IDLE.iter().flat_map(|(flags, _)| flags.iter().copied()).chain(H::LENGTH.iter().copied());
    for flag in named.chain(idle).chain(H::AXES.iter().copied()) {
        ensure!(known.contains(flag), "a row names --{flag}, which does not exist");
    }
    resolve::<H>(&Map::new(), &|_| ()).map(drop)
}
