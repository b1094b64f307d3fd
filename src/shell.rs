//! What a shell and other programs want of a paper's program: completions, manual pages, JSON in place of tables, and the
//! flags of a run from its file.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde::Deserialize;
use serde_json::Value;

use crate::hyper::{self, All, FlagValues, Heading, usage};
use crate::lists;
use crate::paper::Paper;
use crate::run::config::Config;
use crate::say::{foreign, note, raw};

/// `--json`, which [`crate::say::answer_alone`] stands behind.
pub(crate) fn json_flag() -> Arg {
    let help = "Print one JSON value alone on standard output, in place of tables";
    Arg::new("json").long("json").action(ArgAction::SetTrue).help_heading(Heading::Machine).help(help)
}

/// `--config`: see [`configured`].
pub(crate) fn config_flag() -> Arg {
    let help = "Take the flags from a run's config.json; what is typed beside it wins";
    let flag = Arg::new("config").long("config").value_name("FILE.json").value_parser(value_parser!(PathBuf));
    flag.help_heading(Heading::Machine).help(help)
}

/// Prints the script that has `shell` complete what may be typed.
pub(crate) fn completions(mut of: Command, shell: clap_complete::Shell) -> Result<()> {
    // Names of verbs and of the program are joined by hyphens for bash, which then takes apart the program's own.
    let (name, mut script) = (of.get_name().to_string(), Vec::new());
    let whole: &str = name.replace('-', "_").leak();
    of = of.name(whole).bin_name(whole);
    clap_complete::generate(shell, &mut of, whole, &mut script);
    raw(&String::from_utf8(script)?.replace(whole, &name))
}

/// Prints the manual page of a program, or of one of its verbs.
pub(crate) fn man(mut of: Command, verb: Option<&str>) -> Result<()> {
    of.build();
    let source = format!("{} {}", of.get_name(), env!("CARGO_PKG_VERSION"));
    if let Some(verb) = verb {
        let known = of.find_subcommand(verb).cloned();
        of = known.with_context(|| format!("man {}: there is no such verb", foreign(verb))).map_err(usage)?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(of).source(source).render(&mut page)?;
    raw(&String::from_utf8(page)?)
}

/// The flags that a file of `--config` stands for: those that have to be typed to make its run. None where none is given.
///
/// # Errors
/// Where it is none of this paper's, or has flags that are not.
pub(crate) fn configured<P: Paper>(of: &ArgMatches) -> Result<FlagValues> {
    let Some(file) = of.get_one::<PathBuf>("config") else { return Ok(FlagValues::new()) };
    let at = file.display();
    let config: Value = lists::json(file).with_context(|| format!("--config {at}: give a run's config.json"))?;
    let flags = config["flags"].as_object();
    let mut flags = flags.cloned().with_context(|| format!("--config {at} has no flags: give a run's config.json"))?;
    let paper = config["paper"].as_str().map(foreign);
    let paper = paper.with_context(|| format!("--config {at} names no paper: give a run's config.json"))?;
    ensure!(paper == P::NAME, usage(anyhow!("--config {at} is of {paper}: say {paper} instead")));
    let known = hyper::flags(&hyper::blank::<All<P::Hyper>>()?);
    let other = flags.keys().find(|name| !known.contains_key(*name));
    let refused = |flag: &String| anyhow!("--config {at}: there is no --{}: leave it out", foreign(flag));
    other.map_or(Ok(()), |flag| Err(usage(refused(flag))))?;
    // Typed in another folder, paths lead to what they led to there.
    flags.extend(Config::deserialize(&config).map(|config| config.placed()).unwrap_or_default());
    for flag in ["skip-unreadable", "sync-batch-norm", "tf32", "score-every"] {
        let id = flag.replace('-', "_");
        let typed = of.try_contains_id(&id).unwrap_or(false) && of.value_source(&id) == Some(ValueSource::CommandLine);
        let had = &config["machine"][flag];
        if !had.is_null() && had != false && !typed {
            let value = if had == true { String::new() } else { format!(" {}", foreign(&had.to_string())) };
            note(format!(
                "--config {at}: its run had --{flag}{value} too, which is the machine's: say it where it is wanted"
            ));
        }
    }
    let fits = || hyper::check_bounds::<All<P::Hyper>>(&flags).and_then(|()| hyper::needed::<P::Hyper>(&flags));
    fits().with_context(|| format!("--config {at}")).map_err(usage)
}

/// The flags of a training: those of `--config`, and what was typed.
pub(crate) fn asked<P: Paper>(of: &ArgMatches) -> Result<All<P::Hyper>> {
    hyper::resolved_with(&hyper::typed::<All<P::Hyper>>(of)?, &configured::<P>(of)?)
}
