//! Named tensors in files: `.safetensors` read and written, PyTorch's `.pth` and `.pt` state dicts read. What a file is
//! is told by its content, not its name.

mod load;
mod pickle;
mod storage;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use safetensors::{Dtype, SafeTensors, tensor::View};
use tch::{Kind, Tensor};

pub use load::{load_backbone, load_into};

/// Tensors with their names, in a file's order.
pub type Named = Vec<(String, Tensor)>;

/// Saves named tensors, from any device, as `.safetensors`, atomically. `metadata` is the format's own text table;
/// give it one entry at the most where the file's bytes must be a function of the contents alone, since the format
/// orders several at random. Errors on kinds that the format does not have, and on names given twice.
pub fn save(path: &Path, tensors: &[(String, Tensor)], metadata: Option<HashMap<String, String>>) -> Result<()> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let kind = KINDS.iter().find(|(kind, _)| *kind == tensor.kind());
        let (kind, dtype) = kind
            .with_context(|| format!("{name} is of kind {:?}, which {} cannot hold", tensor.kind(), path.display()))?;
        let data = tensor.detach().to_device(tch::Device::Cpu).contiguous();
        let mut bytes = vec![0_u8; data.numel() * kind.elt_size_in_bytes()];
        data.copy_data_u8(&mut bytes, data.numel());
        let shape = data.size().into_iter().map(|size| size as usize).collect();
        views.push((name.as_str(), Bytes { dtype: *dtype, shape, bytes }));
    }
    let bytes =
        safetensors::serialize(views, metadata).map_err(|error| anyhow!("cannot write {}: {error}", path.display()))?;
    crate::files::write_atomic(path, &bytes)
}

/// Reads the tensors of a `.safetensors`, or of a PyTorch state dict (`torch.save`, in its zip form and the one before
/// it), onto the CPU, in the file's order. Pickles are not executed: anything but tensors in dictionaries is an error.
pub fn read(path: &Path) -> Result<Named> {
    let bytes = bytes_of(path)?;
    if storage::is_zip(&bytes) {
        return storage::read_zip(&bytes).with_context(|| unreadable(path));
    }
    if storage::is_legacy(&bytes) {
        return storage::read_legacy(&bytes).with_context(|| unreadable(path));
    }
    Ok(parse_safetensors(path, &bytes)?.0)
}

/// Reads a `.safetensors`, with its metadata.
pub fn read_safetensors(path: &Path) -> Result<(Named, HashMap<String, String>)> {
    parse_safetensors(path, &bytes_of(path)?)
}

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn unreadable(path: &Path) -> String {
    format!("{} cannot be read as weights: fetch it again", path.display())
}

fn parse_safetensors(path: &Path, bytes: &[u8]) -> Result<(Named, HashMap<String, String>)> {
    let what =
        || format!("{} is no whole .safetensors and no PyTorch state dict: fetch or write it again", path.display());
    let (_, header) = SafeTensors::read_metadata(bytes).with_context(what)?;
    let file = SafeTensors::deserialize(bytes).with_context(what)?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let kind = KINDS.iter().find(|(_, dtype)| *dtype == view.dtype()).map(|(kind, _)| *kind);
        let Some(kind) = kind else {
            bail!("{}: {name} is of type {:?}, which is not known here", path.display(), view.dtype())
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind);
        tensors.push((name.to_string(), tensor.map_err(|_| anyhow!("{}: {name} is damaged", path.display()))?));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

/// Kinds and what the format calls them.
const KINDS: [(Kind, Dtype); 10] = [
    (Kind::Bool, Dtype::BOOL),
    (Kind::Uint8, Dtype::U8),
    (Kind::Int8, Dtype::I8),
    (Kind::Int16, Dtype::I16),
    (Kind::Int, Dtype::I32),
    (Kind::Int64, Dtype::I64),
    (Kind::Half, Dtype::F16),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
];

struct Bytes {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Bytes {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
