//! Flags as names and values: of a struct, of a command line, of `config.json`.

use std::collections::BTreeSet;
use std::ffi::OsString;

use anyhow::{Context, Result, anyhow, ensure};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::usage;
use crate::run::config::typed_as as text;

/// Names and values of flags.
pub type FlagValues = Map<String, Value>;

/// Every flag with its value, by its name on the command line, in the order of the struct.
pub fn flags(of: &impl Serialize) -> FlagValues {
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
pub fn from_flags<T: DeserializeOwned>(flags: &FlagValues) -> Result<T> {
    let fields = flags.iter().map(|(name, value)| (name.replace('-', "_"), value.clone())).collect();
    Ok(serde_json::from_value(Value::Object(fields))?)
}

/// `of` with other values for some flags.
pub fn with<T: Serialize + DeserializeOwned>(of: &T, changes: &FlagValues) -> Result<T> {
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
pub fn check_bounds<A: Args>(flags: &FlagValues) -> Result<()> {
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
pub fn blank<A: Args>() -> Result<A> {
    let matches = command::<A>().try_get_matches_from(Vec::<OsString>::new());
    Ok(A::from_arg_matches(&matches.context("a flag has no default")?)?)
}

/// The flags of `A` that were typed, with their values.
pub fn typed<A: Args + Serialize>(matches: &ArgMatches) -> Result<FlagValues> {
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

/// Flags whose values differ among some structs, in their order.
pub fn varied(of: &[FlagValues]) -> Vec<String> {
    let Some(first) = of.first() else { return Vec::new() };
    first.keys().filter(|name| of.iter().any(|flags| flags.get(*name) != first.get(*name))).cloned().collect()
}
