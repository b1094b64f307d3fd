//! `.safetensors`: a JSON header with kinds, shapes and places, then the numbers. The files written here carry the BLAKE3
//! hash of all their other bytes in the header: what changes afterwards, on a disk or by hand, is noticed.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use blake3::Hasher;
use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use super::Named;
use crate::files::{self, UNKNOWN};

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

/// The hash's key in the metadata.
pub const HASH: &str = "rankle.blake3";
/// What such a header begins with; the hash's 64 digits follow, which count as zeros in it.
const SEAL: &[u8] = br#"{"__metadata__":{"rankle.blake3":""#;

/// Saves named tensors, from any device, as `.safetensors`, whole or not at all. `metadata` is the format's own table
/// of texts. The file's bytes are a function of names, numbers and metadata alone, whatever the order they are given
/// in, and carry their own hash.
///
/// Errors on a name given twice, a kind that the format doesn't have, and a folder that can't be written.
pub fn save(path: &Path, tensors: &[(String, Tensor)], metadata: Option<HashMap<String, String>>) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut about = serde_json::Map::from_iter([(HASH.to_string(), UNKNOWN.into())]);
    let sorted: BTreeMap<String, String> = metadata.into_iter().flatten().collect();
    about.extend(sorted.into_iter().map(|(key, text)| (key, text.into())));
    let mut header = serde_json::Map::from_iter([("__metadata__".to_string(), about.into())]);
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
        let mut hasher = Hasher::new();
        // Hashed while it is written, which takes longer.
        let mut put = |bytes: &[u8]| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    hasher.update(bytes);
                });
                file.write_all(bytes)
            })
        };
        put(&[&(header.len() as u64).to_le_bytes(), &header[..]].concat())?;
        for (_, tensor) in &order {
            super::bytes(tensor).try_for_each(|bytes| anyhow::Ok(put(&bytes?)?))?;
        }
        let hash = hasher.finalize().to_hex();
        file.flush()?;
        Ok(file.get_ref().write_all_at(hash.as_bytes(), 8 + SEAL.len() as u64)?)
    })
}

/// Reads a `.safetensors` file onto the CPU, ordered by name, with its metadata. Errors as [`super::read`], and where the
/// file carries a hash of ours that is not its content's.
pub fn read_safetensors(path: &Path) -> Result<(Named, HashMap<String, String>)> {
    read_whole(path, ": fetch or write it again").map(|(tensors, metadata, _)| (tensors, metadata))
}

/// As [`read_safetensors`], for what must have been written here, with the hash under [`HASH`]: errors where the file carries
/// none too. What to do is its caller's to say.
pub fn read_sealed(path: &Path) -> Result<(Named, HashMap<String, String>)> {
    let (tensors, mut metadata, hash) = read_whole(path, "")?;
    let lacks =
        || format!("{} has no hash of its content: it is damaged, or of another version of rankle", path.display());
    metadata.insert(HASH.into(), hash.with_context(lacks)?);
    Ok((tensors, metadata))
}

/// The metadata of a `.safetensors` file by its head alone; None where it has none or is no such file.
pub fn metadata(path: &Path) -> Option<serde_json::Map<String, serde_json::Value>> {
    let mut file = files::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let head = file.take(u64::from_le_bytes(length).min(100 << 20)); // the crate's own bound
    let mut head: serde_json::Value = serde_json::from_reader(BufReader::new(head)).ok()?;
    match head.get_mut("__metadata__")?.take() {
        serde_json::Value::Object(metadata) => Some(metadata),
        _ => None,
    }
}

/// Whether the file is as [`save`] wrote it, by its hash; of its bytes few are held at once.
pub fn is_whole(path: &Path) -> bool {
    let whole = || -> Result<bool> {
        let (mut file, mut head) = (files::open(path)?, [0; 8 + SEAL.len() + UNKNOWN.len()]);
        file.read_exact(&mut head)?;
        let (start, hash) = head.split_at(8 + SEAL.len());
        let mut hasher = Hasher::new();
        hasher.update(start).update(UNKNOWN.as_bytes());
        std::io::copy(&mut file, &mut hasher)?;
        Ok(start.ends_with(SEAL) && hasher.finalize().to_hex().as_bytes() == hash)
    };
    whole().unwrap_or(false)
}

type Whole = (Named, HashMap<String, String>, Option<String>);

fn read_whole(path: &Path, advice: &str) -> Result<Whole> {
    let bytes = files::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&bytes).map_err(|error| match error.downcast_ref().map(io::Error::kind) {
        Some(io::ErrorKind::OutOfMemory) => error.context(format!("cannot read {}", path.display())),
        _ => error.context(format!("{} is no whole .safetensors file{advice}", path.display())),
    })
}

/// Its hash, where the file begins as [`save`] makes them. Errors where that is not the hash of its other bytes.
fn sealed(bytes: &[u8]) -> Result<Option<String>> {
    let behind = bytes.get(8..).and_then(|header| header.strip_prefix(SEAL));
    let Some((hash, rest)) = behind.and_then(|behind| behind.split_at_checked(UNKNOWN.len())) else { return Ok(None) };
    let mut hasher = Hasher::new();
    hasher.update(&bytes[..8 + SEAL.len()]).update(UNKNOWN.as_bytes()).update(rest);
    let own = hasher.finalize().to_hex();
    ensure!(own.as_bytes() == hash, "its content changed since it was written (another hash)");
    Ok(Some(own.to_string()))
}

fn parse(bytes: &[u8]) -> Result<Whole> {
    let sealed = sealed(bytes)?;
    // The crate holds every shape and place against the file's length.
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let file = SafeTensors::deserialize(bytes)?;
    let mut metadata = header.metadata().clone().unwrap_or_default();
    let said = metadata.remove(HASH);
    ensure!(said == sealed, "it was written anew by another program, which kept the old {HASH} in its metadata");
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
        // The crate held shape and kind against the bytes; of none a side may be anything.
        ensure!(!view.data().is_empty() || shape.iter().all(|&n| n < 1 << 40), "{name:?} is damaged");
        let tensor = Tensor::f_from_data_size(view.data(), &shape, *kind);
        let tensor = tensor.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        tensors.push((name.to_string(), tensor));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((tensors, metadata, sealed))
}
