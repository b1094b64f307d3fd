//! Files of weights: what PyTorch writes, what we write, what is damaged or means harm, and what fits a network.

mod by_hand;
mod load;
mod safetensors;
mod start;
mod torch;

use std::collections::BTreeMap;
use std::path::Path;

use tch::Tensor;
use tch::nn::VarStore;

type Named = Vec<(String, Tensor)>;

fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    if !bytes.is_empty() {
        tensor.copy_data_u8(&mut bytes, tensor.numel());
    }
    bytes
}

fn table(tensors: Named) -> BTreeMap<String, Tensor> {
    let count = tensors.len();
    let table: BTreeMap<_, _> = tensors.into_iter().collect();
    assert_eq!(table.len(), count);
    table
}

/// The error of `result`, which must be one line that names `path` and holds no C++ backtrace.
#[track_caller]
fn refusal<T>(result: anyhow::Result<T>, path: &Path) -> String {
    let error = format!("{:#}", result.err().expect("refused"));
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert!(!error.contains('\n') && !error.contains("frame #"), "{error}");
    error
}

fn copies(vs: &VarStore) -> Named {
    let mut all: Named = vs.variables().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}
