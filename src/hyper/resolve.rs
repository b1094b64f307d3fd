//! Which values hold: bare defaults, presets, what is typed; and which flags a run does not look at.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow, ensure};
use clap::Arg;
use serde_json::{Map, Value};

use super::flags::{FlagValues, args, blank, flags, name, with};
use super::help::under;
use super::{All, Heading, Hyper, Usual, Weights, check, usage};

/// The flags that `typed` and `pin` lead to: the bare defaults, then each preset, then what follows what was typed, with what
/// is pinned and then what was typed put back after each.
pub fn resolve<H: Hyper>(typed: &FlagValues, pin: &dyn Fn(&mut H)) -> Result<All<H>> {
    let own: BTreeSet<String> = args::<H>().iter().map(name).collect();
    let (own, usual): (FlagValues, FlagValues) = typed.clone().into_iter().partition(|(name, _)| own.contains(name));
    let settled = |mut h: H| -> Result<H> {
        pin(&mut h);
        with(&h, &own)
    };
    let mut h = settled(blank()?)?;
    let follow = H::FOLLOW.iter().filter(|(flag, _)| own.contains_key(*flag)).map(|(_, follow)| follow);
    for preset in H::PRESETS.iter().chain(follow) {
        preset(&mut h);
        h = settled(h)?;
    }
    Ok(All { own: h, usual: with(&blank::<Usual>()?, &usual)? })
}

/// [`resolve`] for a command line: what cannot train, and what was typed and is not looked at, is refused.
pub fn resolved<H: Hyper>(typed: &FlagValues) -> Result<All<H>> {
    resolved_with(typed, &Map::new())
}

/// [`resolved`] with flags from elsewhere beside those that were typed, which win.
pub fn resolved_with<H: Hyper>(typed: &FlagValues, beside: &FlagValues) -> Result<All<H>> {
    let mut both = beside.clone();
    both.extend(typed.clone());
    let h = resolve::<H>(&both, &|_| ()).map_err(usage)?;
    refuse_idle(&h.own, typed, Typed::Here).and_then(|()| check(&h.own)).map_err(usage)?;
    Ok(h)
}

/// Those of the flags `wanted` that have to be typed to get all of them: the others follow from presets.
pub fn needed<H: Hyper>(wanted: &FlagValues) -> Result<FlagValues> {
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
pub fn refuse_idle<H: Hyper>(h: &H, typed: &FlagValues, whose: Typed) -> Result<()> {
    let Some(flag) = typed.keys().find(|flag| is_idle(h, flag)) else { return Ok(()) };
    ensure!(whose == Typed::Here, "--{flag} has no effect on this run: leave it out");
    let cure = counts_with(h, flag);
    let cure = if cure.is_empty() { String::new() } else { format!(", or say {}", cure.join(" or ")) };
    Err(anyhow!("--{flag} has no effect here: leave it out{cure}"))
}

/// The flags under a heading of the help that a run with these looks at, with their values.
pub fn looked_at<H: Hyper>(h: &All<H>, heading: Heading) -> Vec<(String, Value)> {
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
