//! Which verb looks at which flags of scoring: the group of the help that a flag stands in says it.

use anyhow::{Result, anyhow};
use clap::{Arg, Args, Command};

use crate::hyper::{FlagValues, Heading, args, name, usage};

fn looking(arg: &Arg) -> &'static [&'static str] {
    Heading::of(arg).map_or(&[], Heading::verbs)
}

/// The `command` of `verb`, whose help shows of the flags `S` those that it looks at.
pub(crate) fn helped<S: Args>(command: Command, verb: &str) -> Command {
    let idle = args::<S>().into_iter().filter(|arg| !looking(arg).contains(&verb));
    idle.fold(command, |command, arg| command.mut_arg(arg.get_id().as_str(), |arg| arg.hide(true)))
}

/// Refuses those of the flags `S` that were `typed` and that `verb` does not look at.
///
/// # Errors
/// The first such flag, and the verbs that look at it.
pub(crate) fn refuse_idle<S: Args>(verb: &str, typed: &FlagValues) -> Result<()> {
    let idle = |arg: &&Arg| typed.contains_key(&name(arg)) && !looking(arg).contains(&verb);
    let Some(arg) = args::<S>().into_iter().find(|arg| idle(&arg)) else { return Ok(()) };
    let verbs = looking(&arg).join(" and ");
    Err(usage(anyhow!("--{} has no effect on {verb}, only on {verbs}: leave it out", name(&arg))))
}

/// Those of `of`, flags of `S`, that an embedding depends on.
pub(crate) fn embedding<S: Args>(mut of: FlagValues) -> FlagValues {
    let idle = args::<S>().into_iter().filter(|arg| !looking(arg).contains(&"embed"));
    idle.for_each(|arg| drop(of.shift_remove(&name(&arg))));
    of
}

/// Fails where a flag of `S` stands in no group that a verb looks at.
pub(crate) fn sound<S: Args>() -> Result<()> {
    let lost = args::<S>().into_iter().find(|arg| looking(arg).is_empty());
    lost.map_or(Ok(()), |arg| Err(anyhow!("--{} stands under no heading of scoring", name(&arg))))
}
