//! The authors' TriNet (`trinet-market1501.npz`, `trinet-mars.npz`): 273 arrays `arr_0`, `arr_1`, ... in the order in
//! which Lasagne lists the parameters of trinet_embed.py's network.

use std::path::Path;

use anyhow::{Result, ensure};
use tch::Kind;

use super::Named;

/// The `arrays` of the file at `path` as [`TriNet::caffe`](crate::models::TriNet::caffe)'s variables, all of them.
///
/// What is turned, exactly, so that the network with the same answers has one form: Lasagne keeps `1 / sqrt(var + 1e-4)`
/// for a variance, `[in, out]` for a linear layer's weight, a bias in the first convolution (which goes into the mean that
/// follows it) and the channels blue, green, red (the first convolution's are turned to red, green, blue).
///
/// # Errors
/// Where the arrays are not `arr_0` to `arr_272`, or not floating point.
pub(super) fn arranged(path: &Path, mut arrays: Named) -> Result<Named> {
    let order = lasagne();
    let place = |name: &str| name.strip_prefix("arr_").and_then(|number| number.parse::<usize>().ok());
    let shown = path.display();
    for (name, array) in &arrays {
        ensure!(
            place(name).is_some_and(|place| place < order.len()),
            "{shown} has {} that TriNet's published arrays (arr_0 to arr_{}) have not: is it another network's?",
            name.escape_debug(),
            order.len() - 1
        );
        ensure!(array.is_floating_point(), "{shown}: {name} is {:?} and should be floating point", array.kind());
    }
    arrays.sort_by_key(|(name, _)| place(name));
    for (at, target) in order.iter().enumerate() {
        let here = arrays.get(at).map(|(name, _)| name.as_str());
        ensure!(here == Some(&format!("arr_{at}")), "{shown} lacks arr_{at} ({target}): is it a whole download?");
    }
    let mut named: Named = order.into_iter().zip(arrays).map(|(name, (_, array))| (name, array)).collect();
    let bias = named.remove(1).1;
    for (name, array) in &mut named {
        if name == "conv1.weight" && array.dim() == 4 {
            *array = array.flip([1]);
        } else if name == "bn1.running_mean" && array.size() == bias.size() {
            *array = &*array - &bias;
        } else if name.ends_with("running_var") {
            // Ours adds 1e-5 where Lasagne added 1e-4.
            let variance = array.to_kind(Kind::Double).square().reciprocal() - 1e-5;
            ensure!(variance.lt(0.).any().int64_value(&[]) == 0, "{shown}: {name} would be below 0: fetch it again");
            *array = variance.to_kind(Kind::Float);
        } else if name.starts_with("head.") && array.dim() == 2 {
            *array = array.tr();
        }
    }
    Ok(named)
}

/// Our variables in the order of Lasagne's get_all_params: depth first, a block's shortcut before its branch; of a batch
/// normalisation beta, gamma, mean, inverse deviation. `conv1.bias` is no variable of ours.
fn lasagne() -> Vec<String> {
    let mut names: Vec<String> = vec!["conv1.weight".into(), "conv1.bias".into()];
    let norm = |names: &mut Vec<String>, at: &str| {
        names.extend(["bias", "weight", "running_mean", "running_var"].map(|part| format!("{at}.{part}")));
    };
    norm(&mut names, "bn1");
    for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
        for block in 0..blocks {
            let at = format!("layer{}.{block}", stage + 1);
            if block == 0 {
                names.push(format!("{at}.downsample.0.weight"));
                norm(&mut names, &format!("{at}.downsample.1"));
            }
            for layer in 1..=3 {
                names.push(format!("{at}.conv{layer}.weight"));
                norm(&mut names, &format!("{at}.bn{layer}"));
            }
        }
    }
    names.push("head.hidden.weight".into());
    norm(&mut names, "head.bn");
    names.extend(["head.embedding.weight".into(), "head.embedding.bias".into()]);
    names
}
