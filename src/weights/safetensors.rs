//! `.safetensors`: a JSON header with kinds, shapes and places, then the numbers.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use super::Named;
use crate::files;

/// Kinds, what the format calls them, and by what name.
const KINDS: [(Kind, Dtype, &str); 11] = [
    (Kind::Bool, Dtype::BOOL, "BOOL"),
    (Kind::Uint8, Dtype::U8, "U8"),
    (Kind::Int8, Dtype::I8, "I8"),
    (Kind::Int16, Dtype::I16, "I16"),
    (Kind::Int, Dtype::I32, "I32"),
    (Kind::Int64, Dtype::I64, "I64"),
    (Kind::Half, Dtype::F16, "F16"),
    (Kind::BFloat16, Dtype::BF16, "BF16"),
    (Kind::Float, Dtype::F32, "F32"),
    (Kind::Double, Dtype::F64, "F64"),
    (Kind::ComplexFloat, Dtype::C64, "C64"),
];

/// Saves named tensors, from any device, as `.safetensors`, whole or not at all. `metadata` is the format's own table
/// of texts. The file's bytes are a function of names, numbers and metadata alone, whatever the order they are given
/// in.
///
/// Errors on a name given twice, a kind that the format doesn't have, and a folder that can't be written.
pub fn save(path: &Path, tensors: &[(String, Tensor)], metadata: Option<HashMap<String, String>>) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut header = serde_json::Map::new();
    if let Some(metadata) = metadata {
        let sorted: BTreeMap<String, String> = metadata.into_iter().collect();
        header.insert("__metadata__".into(), serde_json::to_value(sorted)?);
    }
    // Wide kinds first, so that every tensor lies at a multiple of its kind's size.
    let mut order: Vec<&(String, Tensor)> = tensors.iter().collect();
    order.sort_by(|(a, x), (b, y)| (y.kind().elt_size_in_bytes(), a).cmp(&(x.kind().elt_size_in_bytes(), b)));
    let mut end = 0;
    for (name, tensor) in &order {
        let kind = KINDS.iter().find(|(kind, ..)| *kind == tensor.kind());
        let (.., dtype) =
            kind.with_context(|| format!("{}: {name:?} is {:?}, which .safetensors hasn't", cannot(), tensor.kind()))?;
        let start = end;
        end += tensor.numel() * tensor.kind().elt_size_in_bytes();
        let entry = serde_json::json!({"dtype": dtype, "shape": tensor.size(), "data_offsets": [start, end]});
        let twice = name == "__metadata__" || header.insert(name.clone(), entry).is_some();
        ensure!(!twice, "{}: the name {name:?} is taken", cannot());
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    files::atomically(path, |file| {
        let mut file = BufWriter::new(files::own(file)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in &order {
            let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
            let mut bytes = vec![0_u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
            let copied = if bytes.is_empty() { Ok(()) } else { tensor.f_copy_data_u8(&mut bytes, tensor.numel()) };
            copied.map_err(|_| anyhow!("a tensor has no numbers to copy"))?;
            file.write_all(&bytes)?;
        }
        Ok(file.flush()?)
    })
}

/// Reads a `.safetensors` file onto the CPU, ordered by name, with its metadata. Errors as [`super::read`].
pub fn read_safetensors(path: &Path) -> Result<(Named, HashMap<String, String>)> {
    let bytes = files::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&bytes).with_context(|| format!("{} is no whole .safetensors file: fetch or write it again", path.display()))
}

fn parse(bytes: &[u8]) -> Result<(Named, HashMap<String, String>)> {
    // The crate holds every shape and place against the file's length.
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let file = SafeTensors::deserialize(bytes)?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let Some((kind, ..)) = KINDS.iter().find(|(_, dtype, _)| *dtype == view.dtype()) else {
            bail!("{name:?} is of kind {:?}, which is not known here", view.dtype());
        };
        let shape = view.shape().iter().map(|&n| i64::try_from(n)).collect::<Result<Vec<_>, _>>()?;
        ensure!(
            *kind != Kind::Bool || view.data().iter().all(|&b| b < 2),
            "{name:?} has truth values that are neither"
        );
        let tensor =
            Tensor::f_from_data_size(view.data(), &shape, *kind).map_err(|_| anyhow!("{name:?} is damaged"))?;
        tensors.push((name.to_string(), tensor));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}
