//! Tensors of a file into the variables of a network, by name; nothing is filled in or passed over in silence.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use tch::Tensor;
use tch::nn::VarStore;

use super::Named;
use crate::say::count;

/// What [`load_into`] did with a file's tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors copied into variables.
    pub copied: usize,
    /// Left out because `rename` said so.
    pub dropped: usize,
    /// Left out because they are batch normalisation's `num_batches_tracked` or an average's `n_averaged`, counters that no
    /// network here has.
    pub counters: usize,
    /// Variables that the file didn't have and needn't have, which stay as they were.
    pub kept: usize,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoadReport { copied, dropped, counters, kept } = self;
        write!(f, "{} loaded", count(*copied, "tensor"))?;
        let rest = [
            (*dropped, format!("{dropped} left out by name")),
            (*counters, format!("{} ignored", count(*counters, "counter"))),
            (*kept, format!("{} as before", count(*kept, "variable"))),
        ];
        rest.iter().filter(|(number, _)| *number > 0).try_for_each(|(_, text)| write!(f, ", {text}"))
    }
}

/// Copies `tensors` into the variables of `store`. `rename` gives the variable for a tensor's name, or None where the
/// tensor isn't wanted; `wanted` says which variables the file must have. Floating point numbers take the variable's
/// precision.
///
/// Errors, naming `path` and the first few tensors, where a wanted variable has no tensor or a tensor no variable,
/// where two tensors go to one variable, and where a shape differs, a kind isn't a floating point one that should be
/// (or the reverse), or a number isn't finite, or a variance is below 0. After an error all variables are as they were.
pub fn load_into(
    store: &VarStore,
    path: &Path,
    tensors: Named,
    rename: impl Fn(&str) -> Option<String>,
    wanted: impl Fn(&str) -> bool,
) -> Result<LoadReport> {
    let mut variables: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
    let mut given: BTreeMap<String, Tensor> = BTreeMap::new();
    let (mut dropped, mut counters) = (0, 0);
    let (mut surplus, mut misshapen, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    for (name, tensor) in tensors {
        if ["num_batches_tracked", "n_averaged"].contains(&name.rsplit('.').next().unwrap_or("")) {
            counters += 1;
            continue;
        }
        let Some(target) = rename(&name) else {
            dropped += 1;
            continue;
        };
        let Some(variable) = variables.get(&target) else {
            surplus.push(name);
            continue;
        };
        if tensor.size() != variable.size() {
            misshapen.push(format!("{name} is {:?} and should be {:?}", tensor.size(), variable.size()));
        } else if tensor.is_floating_point() != variable.is_floating_point() {
            misshapen.push(format!("{name} is {:?} and should be {:?}", tensor.kind(), variable.kind()));
        } else if !is_finite(&tensor.to_kind(variable.kind()))
            || is_variance(&target) && tensor.lt(0.).any().int64_value(&[]) != 0
        {
            bad.push(name);
        } else if given.insert(target.clone(), tensor).is_some() {
            bail!("{}: two tensors there are {target} in this network", path.display());
        }
    }
    let path = path.display();
    let wrong = "are these the weights of another network?";
    ensure!(surplus.is_empty(), "{path} has {} that this network hasn't: {wrong}", few(&surplus));
    ensure!(misshapen.is_empty(), "{path} has tensors of another shape or kind ({}): {wrong}", few(&misshapen));
    ensure!(
        bad.is_empty(),
        "{path} has numbers that aren't finite, or variances below 0, in {}: fetch or make it again",
        few(&bad)
    );
    let missing: Vec<String> =
        variables.keys().filter(|name| wanted(name) && !given.contains_key(*name)).cloned().collect();
    ensure!(missing.is_empty(), "{path} lacks {}: {wrong}", few(&missing));
    let loaded = LoadReport { copied: given.len(), dropped, counters, kept: variables.len() - given.len() };
    tch::no_grad(|| {
        for (name, tensor) in given {
            if let Some(variable) = variables.get_mut(&name) {
                variable.copy_(&tensor);
            }
        }
    });
    Ok(loaded)
}

/// Whether all numbers of `x` are finite. Waits for the device.
pub fn is_finite(x: &Tensor) -> bool {
    x.isfinite().all().int64_value(&[]) != 0
}

/// Whether a variable of this name holds variances, whose roots batch normalisation takes.
fn is_variance(name: &str) -> bool {
    name.ends_with("running_var")
}

/// The first three names, and how many more there are.
fn few(names: &[String]) -> String {
    let first = names.iter().take(3).map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
    match names.len() {
        0..=3 => first,
        count => format!("{first} and {} more", count - 3),
    }
}
