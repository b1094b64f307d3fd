//! Tensors of a file into the variables of a network, by name; nothing is filled in or passed over in silence.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use tch::{Kind, Tensor, nn::VarStore};

/// Copies `tensors` into the variables of `store`. `rename` gives the variable for a tensor's name, or None where the
/// tensor is not wanted; `wanted` says which variables must be filled. Batch norm's `num_batches_tracked`, a counter
/// that no network here has, is known and left out.
///
/// A wanted variable without a tensor, a tensor without a variable, and a shape that differs are errors naming `path`
/// and the first of them; then nothing is changed. Numbers take the variable's kind and device. Returns how many
/// tensors were copied.
pub fn load_into(
    store: &VarStore,
    path: &Path,
    tensors: Vec<(String, Tensor)>,
    rename: impl Fn(&str) -> Option<String>,
    wanted: impl Fn(&str) -> bool,
) -> Result<usize> {
    let mut variables = store.variables();
    let mut given: BTreeMap<String, Tensor> = BTreeMap::new();
    let mut surplus = Vec::new();
    for (name, tensor) in tensors {
        if name.ends_with("num_batches_tracked") {
            continue;
        }
        let Some(target) = rename(&name) else { continue };
        match variables.get(&target) {
            None => surplus.push(name),
            Some(x) if x.size() != tensor.size() => {
                bail!(
                    "{}: {name} is {:?} there and {:?} in this network: give the weights of this network",
                    path.display(),
                    tensor.size(),
                    x.size()
                )
            }
            Some(_) => drop(given.insert(target, tensor)),
        }
    }
    let mut missing: Vec<&String> =
        variables.keys().filter(|name| wanted(name) && !given.contains_key(*name)).collect();
    missing.sort();
    if !missing.is_empty() {
        bail!(
            "{}: {} of this network's tensors are missing there, the first is {}: give the weights of this network",
            path.display(),
            missing.len(),
            missing[0]
        );
    }
    if let Some(first) = surplus.first() {
        bail!(
            "{}: {} tensors there are not in this network, the first is {first}: give the weights of this network",
            path.display(),
            surplus.len()
        );
    }
    let bad = |x: &Tensor| x.is_floating_point() && x.isfinite().all().int64_value(&[]) == 0;
    if let Some((name, _)) = given.iter().find(|(_, tensor)| bad(tensor)) {
        bail!("{}: {name} has NaN or infinite numbers: fetch the file again", path.display());
    }
    let count = given.len();
    tch::no_grad(|| {
        for (name, tensor) in given {
            if let Some(x) = variables.get_mut(&name) {
                x.copy_(&tensor.to_kind(if x.kind() == Kind::Float { Kind::Float } else { x.kind() }));
            }
        }
    });
    Ok(count)
}

/// Loads torchvision's ResNet-50 into TriNet's backbone: all of it must be there; the classifier `fc.*` is left out by
/// name, and the head `head.*` stays as it was initialised. Returns a line that says so.
pub fn load_backbone(store: &VarStore, path: &Path) -> Result<String> {
    let tensors = super::read(path)?;
    let rename = |name: &str| (!name.starts_with("fc.")).then(|| name.to_string());
    let count = load_into(store, path, tensors, rename, |name| !name.starts_with("head."))?;
    Ok(format!(
        "weights: {count} tensors of the backbone from {}; the classifier left out, the head fresh",
        path.display()
    ))
}
