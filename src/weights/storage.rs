//! PyTorch state dicts: tensors described by a pickle, their numbers in storages beside it.

use std::collections::{HashMap, HashSet};
use std::io::{Cursor, Read};

use anyhow::{Context, Result, anyhow, bail};
use tch::{Kind, Tensor};

use super::pickle::{self, Value};

/// The largest file in a zip that is read: more than any network here has, and no bomb.
const MOST: u64 = 16 << 30;

/// Whether these bytes are a zip, as torch.save has written since PyTorch 1.6.
pub fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// Whether these bytes are a pickle of protocol 2 that starts with the older torch.save's magic number.
pub fn is_legacy(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19])
}

/// Storages by key; each as bytes.
type Storages = HashMap<String, Vec<u8>>;

/// torch.save's zip: `<name>/data.pkl` and `<name>/data/<key>`, little-endian.
pub fn read_zip(bytes: &[u8]) -> Result<Vec<(String, Tensor)>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).context("the zip is damaged or cut short")?;
    let names: Vec<String> = archive.file_names().map(String::from).collect();
    let main = names
        .iter()
        .find(|name| name.ends_with("/data.pkl"))
        .context("the zip has no data.pkl: not a file of torch.save")?;
    let prefix = main.trim_end_matches("data.pkl").to_string();
    let mut file = |name: &str| -> Result<Vec<u8>> {
        let entry = archive.by_name(name).with_context(|| format!("the zip has no {name}"))?;
        if entry.size() > MOST {
            bail!("{name} in the zip is too large");
        }
        let mut contents = Vec::new();
        // Not sized beforehand: what the zip says of a size is only a claim.
        entry.take(MOST).read_to_end(&mut contents).with_context(|| format!("{name} in the zip is damaged"))?;
        Ok(contents)
    };
    if names.contains(&format!("{prefix}byteorder")) && file(&format!("{prefix}byteorder"))?.trim_ascii() != b"little" {
        bail!("its numbers are big-endian: save it again on a little-endian machine");
    }
    let (value, _) = pickle::read(&file(main)?)?;
    let mut storages = Storages::new();
    for key in keys(&value)? {
        storages.insert(key.clone(), file(&format!("{prefix}data/{key}"))?);
    }
    state_dict(value, &storages)
}

/// The older torch.save: pickles of a magic number, a version, the writer's system, the object and its storages' keys;
/// then each storage as a count of elements and its bytes.
pub fn read_legacy(bytes: &[u8]) -> Result<Vec<(String, Tensor)>> {
    let mut at = 0;
    let mut next = || -> Result<Value> {
        let (value, length) = pickle::read(&bytes[at..])?;
        at += length;
        Ok(value)
    };
    let _magic = next()?;
    match next()? {
        Value::Int(1001) => {}
        _ => bail!("it is of an unknown version of torch.save"),
    }
    if let Value::Dict(system) = next()? {
        let big = |(key, value): &(Value, Value)| matches!((key, value), (Value::Text(key), Value::Bool(false)) if key == "little_endian");
        if system.iter().any(big) {
            bail!("its numbers are big-endian: save it again on a little-endian machine");
        }
    }
    let object = next()?;
    let Value::List(order) = next()? else { bail!("its list of storages is missing") };
    let kinds = storage_kinds(&object)?;
    let mut storages = Storages::new();
    for key in order {
        let Value::Text(key) = key else { bail!("its list of storages is damaged") };
        let kind = *kinds.get(&key).with_context(|| format!("no tensor uses storage {key}"))?;
        let head = bytes.get(at..at + 8).context("it is cut short")?;
        let count = u64::from_le_bytes(head.try_into().context("eight bytes")?) as usize;
        at += 8;
        let length = count
            .checked_mul(kind.elt_size_in_bytes())
            .and_then(|length| at.checked_add(length))
            .context("a storage is too large")?;
        storages.insert(key, bytes.get(at..length).context("it is cut short")?.to_vec());
        at = length;
    }
    state_dict(object, &storages)
}

/// The named tensors of an object; a dictionary with "state_dict" is looked into.
fn state_dict(value: Value, storages: &Storages) -> Result<Vec<(String, Tensor)>> {
    let Value::Dict(items) = value else { bail!("it holds no dictionary of tensors") };
    if let Some((_, inner)) = items.iter().find(|(key, _)| matches!(key, Value::Text(key) if key == "state_dict")) {
        return state_dict(inner.clone(), storages);
    }
    let mut tensors = Vec::new();
    for (key, value) in items {
        let Value::Text(name) = key else { bail!("a tensor's name is no text") };
        tensors.push((name.clone(), tensor(&value, storages).with_context(|| name.clone())?));
    }
    Ok(tensors)
}

/// `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ..)`, or a Parameter around one.
fn tensor(value: &Value, storages: &Storages) -> Result<Tensor> {
    let Value::Call(function, arguments) = value else { bail!("it is not a tensor") };
    match (function.as_str(), arguments.as_slice()) {
        ("torch._utils._rebuild_parameter", [inner, ..]) => tensor(inner, storages),
        (
            "torch._utils._rebuild_tensor_v2",
            [Value::Persistent(id), Value::Int(offset), Value::List(size), Value::List(stride), ..],
        ) => {
            let (kind, key) = storage(id)?;
            let bytes = storages.get(&key).with_context(|| format!("storage {key} is missing"))?;
            let numbers = |list: &[Value]| -> Result<Vec<i64>> {
                list.iter()
                    .map(|item| if let Value::Int(n) = item { Ok(*n) } else { Err(anyhow!("a size is no number")) })
                    .collect()
            };
            let (size, stride) = (numbers(size)?, numbers(stride)?);
            let elements = (bytes.len() / kind.elt_size_in_bytes()) as i64;
            // The last number that the tensor touches must lie in the storage.
            let reach = size.iter().zip(&stride).try_fold(*offset, |sum, (&size, &stride)| {
                (size >= 0 && stride >= 0).then_some(())?;
                sum.checked_add((size - 1).max(0).checked_mul(stride)?)
            });
            let empty = size.contains(&0);
            let fits =
                size.len() == stride.len() && *offset >= 0 && reach.is_some_and(|reach| empty || reach < elements);
            if !fits
                || size
                    .iter()
                    .try_fold(1_i64, |product, &n| product.checked_mul(n))
                    .is_none_or(|count| count > elements.max(1) && !stride.contains(&0))
            {
                bail!("its size does not fit its storage");
            }
            let flat =
                Tensor::f_from_data_size(&bytes[..elements as usize * kind.elt_size_in_bytes()], &[elements], kind)
                    .map_err(|_| anyhow!("its numbers are damaged"))?;
            Ok(flat.as_strided(&size[..], &stride[..], *offset).contiguous())
        }
        (other, _) => bail!("it calls {other}, which a state dict does not need; nothing was run"),
    }
}

/// `("storage", torch.FloatStorage, key, device, count)`: kind and key.
fn storage(id: &Value) -> Result<(Kind, String)> {
    let Value::List(parts) = id else { bail!("a storage is not described") };
    let [Value::Text(_), Value::Global(class), Value::Text(key), ..] = parts.as_slice() else {
        bail!("a storage is not described")
    };
    let kind = match class.as_str() {
        "torch.FloatStorage" => Kind::Float,
        "torch.DoubleStorage" => Kind::Double,
        "torch.HalfStorage" => Kind::Half,
        "torch.BFloat16Storage" => Kind::BFloat16,
        "torch.LongStorage" => Kind::Int64,
        "torch.IntStorage" => Kind::Int,
        "torch.ShortStorage" => Kind::Int16,
        "torch.CharStorage" => Kind::Int8,
        "torch.ByteStorage" => Kind::Uint8,
        "torch.BoolStorage" => Kind::Bool,
        other => bail!("{other} is no storage that is known here"),
    };
    Ok((kind, key.clone()))
}

/// Calls `see` with every storage description in a value.
fn walk(value: &Value, see: &mut impl FnMut(&Value) -> Result<()>) -> Result<()> {
    match value {
        Value::Persistent(id) => see(id),
        Value::List(items) | Value::Call(_, items) => items.iter().try_for_each(|item| walk(item, see)),
        Value::Dict(items) => items.iter().try_for_each(|(_, item)| walk(item, see)),
        _ => Ok(()),
    }
}

fn storage_kinds(value: &Value) -> Result<HashMap<String, Kind>> {
    let mut kinds = HashMap::new();
    walk(value, &mut |id| {
        let (kind, key) = storage(id)?;
        kinds.insert(key, kind);
        Ok(())
    })?;
    Ok(kinds)
}

fn keys(value: &Value) -> Result<HashSet<String>> {
    Ok(storage_kinds(value)?.into_keys().collect())
}
