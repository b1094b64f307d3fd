//! Named tensors in files: exact bytes, PyTorch's two formats, and files that lie.

use std::path::Path;

use rankle::models::TriNet;
use rankle::models::layers::Scope;
use rankle::weights::{load_backbone, read, read_safetensors, save};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::export::run_python;

fn table(tensors: Vec<(String, Tensor)>) -> std::collections::BTreeMap<String, Tensor> {
    tensors.into_iter().collect()
}

#[test]
fn safetensors_come_back_bit_for_bit() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("x.safetensors");
    let x = crate::common::matrix(50, 5, 7);
    let odd = Tensor::from_slice(&[f32::NAN, f32::INFINITY, -0., 1e-42]);
    let mut tensors: Vec<(String, Tensor)> = vec![
        ("odd".into(), odd),
        ("empty".into(), Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))),
        ("scalar".into(), Tensor::from(3_i64)),
    ];
    for kind in [Kind::Double, Kind::Float, Kind::Half, Kind::BFloat16, Kind::Int64, Kind::Int, Kind::Uint8, Kind::Bool]
    {
        // A transposed view: its numbers do not lie in order.
        tensors.push((format!("{kind:?}"), (&x * 3.).abs().to_kind(kind).transpose(0, 1)));
    }
    let metadata = Some([("names".to_string(), "[\"a\"]".to_string())].into());
    save(&path, &tensors, metadata.clone()).expect("saved");
    let bytes = std::fs::read(&path).expect("a file");
    save(&path, &tensors, metadata).expect("saved again");
    assert!(bytes == std::fs::read(&path).expect("a file"), "bytes are a function of the contents");
    let (back, header) = read_safetensors(&path).expect("read");
    assert_eq!(header["names"], "[\"a\"]");
    let back = table(back);
    assert_eq!(back.len(), tensors.len());
    for (name, x) in &tensors {
        let y = &back[name];
        assert_eq!((y.kind(), y.size()), (x.kind(), x.size()), "{name}");
        let raw = |x: &Tensor| {
            let x = x.contiguous();
            let mut bytes = vec![0; x.numel() * x.kind().elt_size_in_bytes()];
            x.copy_data_u8(&mut bytes, x.numel());
            bytes
        };
        assert!(raw(x) == raw(y), "{name}");
    }
    let complex = vec![("z".to_string(), Tensor::zeros([1], (Kind::ComplexFloat, Device::Cpu)))];
    assert!(save(&path, &complex, None).is_err());
    assert!(bytes == std::fs::read(&path).expect("kept"), "a failed save leaves the old file");
}

const MAKE: &str = r#"
import sys, collections, torch
folder = sys.argv[1]
torch.manual_seed(0)
base = torch.randn(6, 4)
state = collections.OrderedDict(
    a=base, shared=base[1:3], transposed=base.t(), parameter=torch.nn.Parameter(torch.randn(3)),
    half=torch.randn(5).half(), bf16=torch.randn(5).bfloat16(), double=torch.randn(2, 2).double(),
    count=torch.tensor(7), flags=torch.tensor([True, False]), bytes=torch.arange(5, dtype=torch.uint8), empty=torch.zeros(0, 3),
)
state._metadata = collections.OrderedDict([("", {"version": 2})])
plain = {k: v.detach().float().contiguous() for k, v in state.items()}
for name, new in (("zip", True), ("legacy", False)):
    torch.save(state, f"{folder}/{name}.pth", _use_new_zipfile_serialization=new)
    torch.save({"epoch": 3, "lr": 0.1, "state_dict": state}, f"{folder}/{name}-nested.pt", _use_new_zipfile_serialization=new)
    torch.save({"x": slice(1, 2)}, f"{folder}/{name}-object.pth", _use_new_zipfile_serialization=new)
torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), f"{folder}/script.pt")
import json
open(f"{folder}/expected.json", "w").write(json.dumps({k: [list(v.shape), v.flatten().tolist()] for k, v in plain.items()}))
"#;

#[test]
fn both_of_pytorchs_formats_are_read_without_running_them() {
    let place = tempfile::tempdir().expect("a folder");
    if run_python(MAKE, &[place.path()]).is_none() {
        return;
    }
    let text = std::fs::read_to_string(place.path().join("expected.json")).expect("expected");
    let expected: std::collections::BTreeMap<String, (Vec<i64>, Vec<f64>)> = serde_json::from_str(&text).expect("JSON");
    for name in ["zip.pth", "legacy.pth", "zip-nested.pt", "legacy-nested.pt"] {
        let back = table(read(&place.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error:#}")));
        assert_eq!(back.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for (key, (shape, numbers)) in &expected {
            assert_eq!(&back[key].size(), shape, "{name}: {key}");
            let ours = Vec::<f64>::try_from(back[key].to_kind(Kind::Double).flatten(0, -1)).expect("numbers");
            for (a, b) in ours.iter().zip(numbers) {
                assert!((a - b).abs() < 1e-6, "{name}: {key}: {a} is not {b}");
            }
        }
        let kinds = [
            ("half", Kind::Half),
            ("bf16", Kind::BFloat16),
            ("double", Kind::Double),
            ("count", Kind::Int64),
            ("flags", Kind::Bool),
        ];
        assert!(kinds.iter().all(|(key, kind)| back[*key].kind() == *kind), "{name}");
    }
    for name in ["zip-object.pth", "legacy-object.pth", "script.pt"] {
        let error = format!("{:#}", read(&place.path().join(name)).expect_err(name));
        assert!(error.contains(name) && !error.contains('\n'), "{error}");
    }
    // Cut short anywhere, or with any byte changed: an answer or an error, never a panic or a huge allocation.
    for name in ["zip.pth", "legacy.pth"] {
        let whole = std::fs::read(place.path().join(name)).expect("a file");
        let broken = place.path().join("broken");
        for cut in (0..whole.len()).step_by(whole.len() / 60 + 1) {
            std::fs::write(&broken, &whole[..cut]).expect("written");
            assert!(read(&broken).is_err(), "{name} cut at {cut}");
        }
        for at in (0..whole.len()).step_by(whole.len() / 400 + 1) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x5a;
            std::fs::write(&broken, &bytes).expect("written");
            let _ = read(&broken);
        }
    }
}

/// torchvision's names for a ResNet-50, as TriNet's backbone has them, with what TriNet has no use for.
fn backbone(store: &VarStore) -> Vec<(String, Tensor)> {
    let mut tensors: Vec<(String, Tensor)> = store
        .variables()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("head."))
        .map(|(name, x)| (name, x.detach().copy() + 0.25))
        .collect();
    tensors.push(("fc.weight".into(), Tensor::zeros([1000, 2048], (Kind::Float, Device::Cpu))));
    tensors.push(("fc.bias".into(), Tensor::zeros([1000], (Kind::Float, Device::Cpu))));
    tensors.push(("bn1.num_batches_tracked".into(), Tensor::from(0_i64)));
    tensors
}

#[test]
fn a_backbone_must_be_whole_and_nothing_else() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("resnet50.safetensors");
    let store = VarStore::new(Device::Cpu);
    let _net = TriNet::new(&Scope::root(&store, 1));
    let before = table(store.variables().into_iter().map(|(name, x)| (name, x.copy())).collect());
    let good = backbone(&store);
    let unchanged = || store.variables().iter().all(|(name, x)| x.equal(&before[name]));
    let fails = |tensors: &[(String, Tensor)], words: &[&str]| {
        save(&path, tensors, None).expect("saved");
        let error = format!("{:#}", load_backbone(&store, &path).expect_err("refused"));
        assert!(words.iter().all(|word| error.contains(word)) && !error.contains('\n'), "{error}");
        assert!(unchanged(), "a refused file changes nothing");
    };
    let without: Vec<_> = good
        .iter()
        .filter(|(name, _)| name != "layer3.0.bn2.running_var")
        .map(|(name, x)| (name.clone(), x.shallow_clone()))
        .collect();
    fails(&without, &["resnet50.safetensors", "missing", "layer3.0.bn2.running_var"]);
    let mut surplus: Vec<_> = good.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
    surplus.push(("layer5.weight".into(), Tensor::from(1_f32)));
    fails(&surplus, &["layer5.weight"]);
    let mut misshapen: Vec<_> = good.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
    misshapen.iter_mut().filter(|(name, _)| name == "conv1.weight").for_each(|(_, x)| *x = x.narrow(1, 0, 1));
    fails(&misshapen, &["conv1.weight", "[64, 1, 7, 7]"]);
    let mut nan: Vec<_> = good.iter().map(|(name, x)| (name.clone(), x.copy())).collect();
    nan.iter_mut().filter(|(name, _)| name == "bn1.bias").for_each(|(_, x)| drop(x.fill_(f64::NAN)));
    fails(&nan, &["bn1.bias", "NaN"]);
    save(&path, &good, None).expect("saved");
    assert!(load_backbone(&store, &path).expect("loads").contains("265 tensors"));
    for (name, x) in store.variables() {
        let added = if name.starts_with("head.") { 0. } else { 0.25 };
        assert!(x.equal(&(&before[&name] + added)), "{name}");
    }
    std::fs::write(&path, b"not a file of tensors").expect("written");
    assert!(format!("{:#}", read(Path::new(&path)).expect_err("refused")).contains("resnet50.safetensors"));
    assert!(read(&place.path().join("nowhere")).is_err());
}
