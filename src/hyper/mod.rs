//! Hyperparameters, each declared once: a field of a struct that derives clap's `Args` and serde.
//!
//! Its type parses and bounds it, its doc comment is the help, `add` says its [`Place`] in the paper or that it is ours, its
//! `default_value_t` is the paper's value. From this follow the help with every conditional default, `config.json`, the folder's name, the refusal of an
//! idle or changed flag, and the sentence about a departure.
//!
//! What depends on other flags stands in rows of Rust: [`Hyper::PRESETS`], [`Hyper::FOLLOW`], [`Hyper::IDLE`]. The first flag of a group of the
//! help has its `help_heading`, and those below it follow.

mod departures;
mod flags;
mod folder;
mod help;
mod resolve;
mod values;

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, anyhow, bail, ensure};
use clap::Args;
use clap::builder::ValueParser;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::catalog;
use crate::run::config::PATHS;
pub(crate) use crate::run::config::{SPLIT, START, VALIDATION};
use crate::weights::Published;

pub use crate::bounds::{count, positive, within};
use crate::headings::Place::{Ours, Says};
pub use crate::headings::{Heading, Place};
pub use departures::{Sets, as_usual, departures, departures_of_scoring, off_recipe, paper, recipe};
pub use flags::{FlagValues, blank, check_bounds, flags, from_flags, shown, typed, varied, with};
pub(crate) use flags::{args, name};
pub(crate) use folder::{begun, named};
pub use folder::{data_name, folder};
use help::headings;
pub use help::{brief, explained, optional, some, under};
pub use resolve::{Typed, choices, is_idle, looked_at, needed, refuse_idle, resolve, resolved, resolved_with};
pub use values::{Size, file, two, when};

/// Flags of training or scoring that some runs do not look at, and which runs do.
pub type Idle<H> = (&'static [&'static str], fn(&H) -> bool);

/// A flag, and what sets the defaults that follow it.
pub type Follow<H> = (&'static str, fn(&mut H));

/// A paper's hyperparameters, and the rules between them: presets, idle flags, names.
pub trait Hyper: Args + Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// Defaults that depend on other flags. They run in this order; after each the flags that were typed are put back, so
    /// that defaults chain and what is typed always wins.
    const PRESETS: &'static [fn(&mut Self)] = &[];
    /// Defaults that follow another flag where that one is typed: after the presets, in this order.
    const FOLLOW: &'static [Follow<Self>] = &[];
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
    /// Everything random follows from this
    #[arg(long, default_value_t = 1, add = Ours, help_heading = Heading::Optimisation)]
    pub seed: u64,
    /// Compute the network in bfloat16; losses and mining stay in f32
    #[arg(long, add = Says("the paper", "f32"), help_heading = Heading::Machine)]
    pub amp: bool,
    /// Steps between two log lines
    #[arg(long, value_name = "STEPS", default_value_t = 10, value_parser = within(1..=1_000_000_000_u64), add = Ours, help_heading = Heading::Machine)]
    pub log_every: u64,
}

/// The paper's flags and the usual ones: what `config.json` holds.
#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct All<H: Args> {
    /// The flags that this paper alone has.
    #[command(flatten)]
    #[serde(flatten)]
    pub own: H,
    /// The flags that every paper has.
    #[command(flatten)]
    #[serde(flatten)]
    pub usual: Usual,
}

/// An error of the command line: the program ends with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

/// `error` as one of the command line.
pub fn usage(error: anyhow::Error) -> anyhow::Error {
    if error.is::<Usage>() { error } else { Usage(format!("{error:#}")).into() }
}

/// Refuses what cannot train, missing weights too.
pub fn check<H: Hyper>(h: &H) -> Result<()> {
    if let (Weights::Must(published), Some(Value::Null)) = (h.weights(), flags(h).get("weights")) {
        let network = under::<H>(Heading::Network);
        let others = choices(h, |flag| network.iter().any(|own| own == flag), |h| h.weights() == Weights::None);
        bail!(
            "training starts from ImageNet weights: say --weights FILE{}, --weights none to train from scratch{}{}",
            published
                .fetch
                .first()
                .map_or(String::new(), |name| format!(" ({} gets it into data/weights)", catalog::fetch(name))),
            if flags(h).contains_key(START) { ", --start RUN" } else { "" },
            others.iter().map(|other| format!(", or {other}")).collect::<String>()
        );
    }
    h.check()
}

/// Fails where a paper's flags, of training and of scoring, break what this module promises of them: for one test over all papers.
///
/// # Errors
/// The first flag without a heading or a place, or a row that names a flag that does not exist.
pub fn sound<H: Hyper, S: Args>() -> Result<()> {
    let all = args::<All<H>>();
    placed::<All<H>>()?;
    placed::<S>()?;
    let bare = headings::<All<H>>().into_iter().find(|(_, heading)| heading.is_none());
    bare.map_or(Ok(()), |(flag, _)| Err(anyhow!("--{flag} has no heading")))?;
    let known: BTreeSet<String> = all.iter().chain(&args::<S>()).map(name).collect();
    let named = H::NAMED.iter().flat_map(|flag| flag.trim_start_matches('?').split('|'));
    let idle = H::IDLE.iter().flat_map(|(flags, _)| flags.iter().copied()).chain(H::LENGTH.iter().copied());
    let followed = H::FOLLOW.iter().map(|(flag, _)| *flag);
    for flag in named.chain(idle).chain(followed).chain(H::AXES.iter().copied()) {
        ensure!(known.contains(flag), "a row names --{flag}, which does not exist");
    }
    for arg in all {
        let typed = arg.get_value_parser().type_id() == ValueParser::path_buf().type_id();
        let words = arg.get_value_names().unwrap_or_default();
        let told = words.iter().flat_map(|word| word.split('|')).any(|word| ["DIR", "FILE", "RUN"].contains(&word));
        let known = !(typed || told) || PATHS.contains(&&*name(&arg));
        ensure!(known, "--{} takes a path, and run/config.rs does not list it: name it in PATHS", name(&arg));
    }
    resolve::<H>(&Map::new(), &|_| ()).map(drop)
}

/// Fails where a flag has no place in the paper and is not marked ours.
pub fn placed<A: Args>() -> Result<()> {
    for arg in args::<A>() {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        ensure!(
            arg.get::<Place>().is_some(),
            "--{} has no place in the paper and is not marked ours: {help}",
            name(&arg)
        );
        ensure!(!help.contains('`'), "--{}: backticks in {help}", name(&arg));
    }
    Ok(())
}
