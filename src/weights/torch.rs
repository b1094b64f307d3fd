//! The two forms of `torch.save`: pickles that describe tensors, and storages that hold their numbers.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tch::Tensor;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Heap, Storage, Value};
use super::storage::{flat, tensor};
use super::{Named, npz};
use crate::files;

type Archive = ZipArchive<BufReader<File>>;

/// Since PyTorch 1.6: a zip of `<name>/data.pkl` and `<name>/data/<key>` for each storage. NumPy's zips are read too.
pub(super) fn read_zip(path: &Path) -> Result<Named> {
    let file = files::open(path)?;
    let length = file.metadata()?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).context("the zip is damaged or cut short")?;
    if npz::is_one(archive.file_names()) {
        return npz::read(&mut archive, length);
    }
    let pickles: Vec<String> =
        archive.file_names().filter(|name| name.ends_with("/data.pkl")).map(String::from).collect();
    let [main] = pickles.as_slice() else { bail!("the zip is none of torch.save's: it has no data.pkl") };
    let folder = main.strip_suffix("data.pkl").unwrap_or_default().to_string();
    ensure!(
        archive.index_for_name(&format!("{folder}constants.pkl")).is_none(),
        "it is TorchScript: give a state dict, which torch.save(model.state_dict(), ..) writes"
    );
    if archive.index_for_name(&format!("{folder}byteorder")).is_some() {
        let order = entry(&mut archive, &format!("{folder}byteorder"), length)?;
        ensure!(order == b"little", "its numbers are big-endian: load and save it on a little-endian machine");
    }
    let program = entry(&mut archive, main, length)?;
    let mut heap = Heap::default();
    let (root, _) = pickle::read(&program, &mut heap)?;
    // Entries that overlap could otherwise add up to more than the file.
    let mut room = length;
    named_tensors(root, &heap, length, |storage| {
        let bytes = entry(&mut archive, &format!("{folder}data/{}", storage.key), room)?;
        room -= bytes.len() as u64;
        flat(&bytes, storage)
    })
}

/// An entry of the archive, which torch.save never compresses: it can't be longer than the `room` left in the file.
fn entry(archive: &mut Archive, name: &str, room: u64) -> Result<Vec<u8>> {
    let entry = archive.by_name(name).map_err(|error| anyhow!("{name:?} in the zip: {error}"))?;
    ensure!(
        entry.compression() == CompressionMethod::Stored,
        "{name:?} in the zip is compressed, which torch.save does not do"
    );
    let size = entry.size();
    ensure!(size <= room, "{name:?} in the zip claims to be longer than the file");
    let mut bytes = Vec::with_capacity(size as usize);
    // To the end, where the zip's checksum is compared.
    entry.take(size + 1).read_to_end(&mut bytes).map_err(|error| anyhow!("{name:?} in the zip is damaged: {error}"))?;
    ensure!(bytes.len() as u64 == size, "{name:?} in the zip is cut short");
    Ok(bytes)
}

/// Before PyTorch 1.6: pickles of a magic number, a version, the writer's machine, the object, and the keys of its
/// storages; then each storage as a 64-bit count of elements and the elements.
pub(super) fn read_legacy(path: &Path) -> Result<Named> {
    let bytes = files::read(path)?;
    let mut heap = Heap::default();
    let mut at = 0;
    let mut values = Vec::new();
    for _ in 0..5 {
        let (value, length) = pickle::read(&bytes[at..], &mut heap)?;
        at += length;
        values.push(value);
    }
    let [_magic, version, machine, root, Value::Sequence(keys)] = values[..] else {
        bail!("it is damaged: its list of storages is missing")
    };
    ensure!(version == Value::Int(1001), "it is of an unknown version of torch.save");
    if let Value::Dict(machine) = machine {
        let big = heap.dicts[machine].contains(&(Value::Text("little_endian"), Value::Bool(false)));
        ensure!(!big, "its numbers are big-endian: load and save it on a little-endian machine");
    }
    let kinds: HashMap<&str, Storage> = heap.storages.iter().map(|storage| (storage.key, *storage)).collect();
    let mut places: HashMap<&str, &[u8]> = HashMap::new();
    for key in &heap.sequences[keys] {
        let Value::Text(key) = *key else { bail!("its list of storages is damaged") };
        let storage = kinds.get(key).with_context(|| format!("no tensor uses its storage {key:?}"))?;
        let count = bytes.get(at..at + 8).and_then(|count| count.try_into().ok()).map(u64::from_le_bytes);
        ensure!(
            count.context("it is cut short")? == storage.whole as u64,
            "its storage {key:?} has another length than its tensors say"
        );
        at += 8;
        let end = (storage.whole as usize)
            .checked_mul(storage.kind.elt_size_in_bytes())
            .and_then(|length| at.checked_add(length));
        let place = end.and_then(|end| bytes.get(at..end)).context("it is cut short")?;
        at += place.len();
        places.insert(key, place);
    }
    named_tensors(root, &heap, bytes.len() as u64, |storage| {
        flat(places.get(storage.key).with_context(|| format!("its storage {:?} is missing", storage.key))?, storage)
    })
}

/// Under which names programs keep a state dict among other things, the surest first.
const KEPT: [&str; 8] =
    ["state_dict", "model_state_dict", "model", "net", "network", "weights", "params_ema", "params"];

/// The tensors of a dictionary, by name; one in which they are kept under one of [`KEPT`] is looked into. `load` makes the vector of a
/// whole storage and is called once a storage. Of a key given twice the last counts, as in Python.
fn named_tensors<'a>(
    root: Value<'a>,
    heap: &Heap<'a>,
    file: u64,
    mut load: impl FnMut(&Storage<'a>) -> Result<Tensor>,
) -> Result<Named> {
    let dict = |value| match value {
        Value::Dict(dict) => Ok(&heap.dicts[dict]),
        _ => Err(anyhow!(
            "it holds no dictionary of tensors: give a state dict, which torch.save(model.state_dict(), ..) writes"
        )),
    };
    let mut items = dict(root)?;
    // Three times: a dictionary may hold itself.
    for _ in 0..3 {
        let kept = |name: &&str| {
            let found = items.iter().rev().find(|(key, _)| *key == Value::Text(name));
            found.map(|(_, inner)| *inner).filter(|inner| matches!(inner, Value::Dict(_)))
        };
        match KEPT.iter().find_map(kept) {
            Some(inner) => items = dict(inner)?,
            None => break,
        }
    }
    let mut loaded: HashMap<&str, (Storage, Tensor)> = HashMap::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut tensors: Named = Vec::new();
    for (key, value) in items {
        let Value::Text(name) = *key else { bail!("a name in its dictionary is no text") };
        let Value::Tensor(place) = *value else { bail!("{name:?} in it is no tensor: give a state dict alone") };
        let of = &heap.tensors[place];
        if !loaded.contains_key(of.storage.key) {
            loaded.insert(of.storage.key, (of.storage, load(&of.storage)?));
        }
        let (known, numbers) = &loaded[of.storage.key];
        let same = (known.kind, known.whole) == (of.storage.kind, of.storage.whole);
        ensure!(same, "its storage {:?} is described in two ways", of.storage.key);
        let tensor = tensor(of, numbers, file).with_context(|| format!("{name:?}"))?;
        match places.get(name) {
            Some(&place) => tensors[place].1 = tensor,
            None => {
                places.insert(name, tensors.len());
                tensors.push((name.to_string(), tensor));
            }
        }
    }
    Ok(tensors)
}
