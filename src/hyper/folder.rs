//! The name of a run's folder.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::flags::{FlagValues, flags};
use super::resolve::resolve;
use super::{All, Hyper};
use crate::run::config::{Config, typed_as as text};

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

/// `data/runs/PAPER/` and the flags of [`Hyper::NAMED`]; a run that was begun without `--start` in its name keeps that.
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
    let without = |flag: &str| {
        let parts = H::NAMED.iter().filter(|named| **named != flag).filter_map(part);
        Path::new("data/runs").join(paper).join(parts.collect::<Vec<_>>().join("-"))
    };
    begun(without(""), without("?start"), &all)
}

/// The folder `now`, or `before`, as an older version named it, where this very run was begun there.
pub(crate) fn begun(now: PathBuf, before: PathBuf, flags: &FlagValues) -> PathBuf {
    let same = || Config::read(&before).is_ok_and(|config| config.flags == *flags);
    if !now.exists() && same() { before } else { now }
}

/// A flag as it stands in a folder's name: its last word, then its value, of a path the end.
fn with_flag(flag: &str, value: &Value) -> String {
    format!("{}{}", flag.rsplit('-').next().unwrap_or(flag), data_name(&text(value)))
}

/// The values of those flags `typed` that a run's folder has only where they are not the paper's.
pub(crate) fn named<H: Hyper>(typed: &FlagValues) -> Vec<String> {
    let of = H::NAMED.iter().filter_map(|named| named.strip_prefix('?')).flat_map(|named| named.split('|'));
    of.filter_map(|flag| Some(with_flag(flag, typed.get(flag)?))).collect()
}
