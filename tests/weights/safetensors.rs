//! What we write.

use std::collections::HashMap;

use rankle::weights::{metadata, read, read_safetensors, save, save_npz};
use tch::{Device, Kind, Tensor};

use super::{Named, by_hand, bytes_of, refusal, table};

// What we write.

fn samples() -> Named {
    let numbers = Tensor::from_slice(&[-1.5_f32, 0.0, 2.25, f32::NAN, 1e-40, f32::INFINITY]).view([2, 3]);
    let mut tensors: Named = [Kind::Uint8, Kind::Int8, Kind::Int16, Kind::Int, Kind::Int64, Kind::Bool]
        .into_iter()
        .map(|kind| (format!("{kind:?}"), Tensor::from_slice(&[0_i64, 1, 1, 0]).to_kind(kind)))
        .collect();
    for kind in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double, Kind::ComplexFloat] {
        tensors.push((format!("{kind:?}"), numbers.to_kind(kind)));
    }
    tensors.push(("transposed".into(), numbers.tr()));
    tensors.push(("scalar ü \" \\ ".into(), Tensor::from(3.5_f64)));
    tensors.push(("empty".into(), Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))));
    tensors.push(("wants gradients".into(), numbers.nan_to_num(0.0, 0.0, 0.0).set_requires_grad(true)));
    tensors
}

#[test]
fn what_is_saved_comes_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let metadata: HashMap<String, String> =
        (0..9).map(|i| (format!("key {i}"), format!("{{\"value\": {i}}}\n"))).collect();
    let mut tensors = samples();
    let long = Tensor::arange((1_i64 << 22) + 3, (Kind::Int64, Device::Cpu)).remainder(251_i64).to_kind(Kind::Uint8);
    tensors.push(("more than is written at once".into(), long.shallow_clone()));
    save(&path, &tensors, Some(metadata.clone())).unwrap();
    let (back, found) = read_safetensors(&path).unwrap();
    assert_eq!(found, metadata);
    assert!(back.is_sorted_by(|a, b| a.0 < b.0));
    assert_eq!(table(read(&path).unwrap()).len(), tensors.len());
    let back = table(back);
    assert_eq!(back.len(), tensors.len());
    for (name, tensor) in &tensors {
        assert_eq!((back[name].kind(), back[name].size()), (tensor.kind(), tensor.size()), "{name}");
        assert_eq!(bytes_of(&back[name]), bytes_of(tensor), "{name}");
        assert!(!back[name].requires_grad());
    }
    // The bytes don't depend on the order of the tensors, nor on that of the metadata's hash table.
    let bytes = std::fs::read(&path).unwrap();
    let reversed: Named = tensors.iter().rev().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    save(&path, &reversed, Some(metadata.into_iter().collect())).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    // Every tensor lies at a multiple of its kind's size, for those who map the file.
    let (header, parsed) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    for (name, info) in parsed.tensors() {
        let size = back[&name].kind().elt_size_in_bytes();
        assert_eq!((8 + header + info.data_offsets.0) % size, 0, "{name}");
    }
    let npz = folder.path().join("a.npz");
    save_npz(&npz, &[], &[("long".into(), long.view([-1, 1]))], "").unwrap();
    assert_eq!(bytes_of(&table(read(&npz).unwrap())["long"]), bytes_of(&long));
    // Nothing, and no metadata.
    save(&path, &[], None).unwrap();
    let (back, found) = read_safetensors(&path).unwrap();
    assert!(back.is_empty() && found.is_empty());
}

#[test]
fn a_failed_save_leaves_what_was_there() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    std::fs::write(&path, "old").unwrap();
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode();
    let usual = mode();
    let x = || Tensor::from(1.0_f32);
    let wide = Tensor::zeros([1], (Kind::ComplexDouble, Device::Cpu));
    for (tensors, says) in [
        (vec![("z".to_string(), wide)], "ComplexDouble"),
        (vec![("x".to_string(), x()), ("x".to_string(), x())], "taken"),
        (vec![("__metadata__".to_string(), x())], "taken"),
    ] {
        assert!(refusal(save(&path, &tensors, None), &path).contains(says));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }
    let absent = folder.path().join("absent/a.safetensors");
    assert!(refusal(save(&absent, &[], None), &absent).contains("is no folder"));
    assert!(refusal(save(folder.path(), &[], None), folder.path()).contains("is a folder"));
    save(&path, &[("x".to_string(), x())], None).unwrap();
    assert_eq!(mode(), usual, "readable by whom a new file is");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn damaged_safetensors_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (path, broken) = (folder.path().join("a.safetensors"), folder.path().join("broken"));
    save(&path, &samples(), Some([("k".to_string(), "v".to_string())].into())).unwrap();
    assert!(metadata(&path).is_some_and(|found| found["k"] == "v"));
    assert!(metadata(folder.path()).is_none() && metadata(&folder.path().join("absent")).is_none());
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&broken, &whole[..cut]).unwrap();
        refusal(read(&broken), &broken);
    }
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= [0xff, 0x01, 0x5a][place % 3];
        std::fs::write(&broken, &bytes).unwrap();
        if read(&broken).is_err() {
            refusal(read(&broken), &broken);
        }
    }
    let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    for json in [
        r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#,
        r#"{"a":{"dtype":"F32","shape":[18446744073709551615,0],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"F8_E4M3","shape":[0],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[9,9]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551615]}}"#,
        "{not json}",
        "{\"",
    ] {
        by_hand::refused(&header(json), "");
    }
    // Numbers that two tensors share, that nobody has, and that lie behind the end.
    for json in [
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#,
    ] {
        by_hand::refused(&[&header(json)[..], &[0; 8]].concat(), "");
    }
    by_hand::refused(
        &[&header(r#"{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}"#)[..], &[7]].concat(),
        "truth",
    );
}
