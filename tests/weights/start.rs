//! Published weights into networks.

use std::process::Command;

use rankle::models::TriNet;
use rankle::models::layers::Scope;
use rankle::weights::{Published, save, start};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::{Named, copies, refusal, table};
use crate::common::Ended;
use crate::export::python;

/// torchvision's ResNet-50 of the given names and shapes, every tensor filled with its place in the list.
const RESNET: &str = r#"
import collections, json, sys, torch
names, folder = sys.argv[1:]
state = collections.OrderedDict()
for i, (name, shape) in enumerate(json.load(open(names))):
    state[name] = torch.full(shape, 1.0 + i)
    if name.endswith("running_var"):
        state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(5)
state["fc.weight"], state["fc.bias"] = torch.zeros(1000, 2048), torch.zeros(1000)
torch.save(state, f"{folder}/zip.pth")
torch.save(state, f"{folder}/legacy.pth", _use_new_zipfile_serialization=False)
del state["layer3.5.bn1.running_mean"]
torch.save(state, f"{folder}/short.pth")
"#;

#[test]
fn trinet_takes_torchvisions_resnet_whole_and_keeps_its_head() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let vs = VarStore::new(Device::Cpu);
    let _net = TriNet::new(&Scope::root(&vs, 1));
    let before = table(copies(&vs));
    let backbone: Vec<(&String, Vec<i64>)> =
        before.iter().filter(|(name, _)| !name.starts_with("head.")).map(|(name, x)| (name, x.size())).collect();
    let names = folder.path().join("names.json");
    std::fs::write(&names, serde_json::to_vec(&backbone).unwrap()).unwrap();
    Ended::of(Command::new(&python).args(["-c", RESNET]).arg(&names).arg(folder.path())).well();
    let path = folder.path().join("short.pth");
    assert!(refusal(start(&vs, &path, &Published::RESNET50), &path).contains("lacks layer3.5.bn1.running_mean:"));
    assert!(vs.variables().iter().all(|(name, x)| x.equal(&before[name])));
    for form in ["zip.pth", "legacy.pth"] {
        tch::no_grad(|| vs.variables().iter_mut().for_each(|(name, x)| x.copy_(&before[name])));
        let line = start(&vs, &folder.path().join(form), &Published::RESNET50).unwrap();
        let counts = "265 tensors loaded, 2 left out by name, 53 counters ignored, 7 variables as before";
        assert!(line.contains(counts), "{line}");
        let after = vs.variables();
        for (place, (name, _)) in backbone.iter().enumerate() {
            assert!(after[*name].equal(&before[*name].full_like(1.0 + place as f64)), "{name}");
        }
        assert!(after.iter().filter(|(name, _)| name.starts_with("head.")).all(|(name, x)| x.equal(&before[name])));
    }
    // He et al.'s network sees 0..255; in place of a run a file must have the head too.
    let path = folder.path().join("zip.pth");
    let line = start(&vs, &path, &Published::TRINET).unwrap();
    assert!(line.contains("turned from torchvision's normalisation"), "{line}");
    let (first, place) =
        (&vs.variables()["conv1.weight"], backbone.iter().position(|(name, _)| *name == "conv1.weight"));
    let red = (1. + place.unwrap() as f64) / (255. * 0.229);
    assert!((first.double_value(&[5, 0, 3, 3]) - red).abs() < 1e-4 * red);
    assert!(refusal(start(&vs, &path, &Published::TRINET.whole()), &path).contains("lacks head."));
}

/// A whole TriNet's file is known by its name alone.
#[test]
fn an_error_says_how_to_get_such_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let vs = VarStore::new(Device::Cpu);
    let _ = rankle::models::layers::Scope::root(&vs, 1).variable(
        "a",
        &[2],
        rankle::models::layers::Init::Constant(1.),
        true,
    );
    let known = |name: &str| format!("scripts/fetch {name} gets");
    for (file, bytes, form, flag, name) in [
        ("trinet-mars.npz", Some("PK\u{3}\u{4}cut"), Published::TRINET.whole(), "--weights", "trinet-mars"),
        ("trinet-market1501.npz", None, Published::TRINET.whole(), "--weights", "trinet-market1501"),
        ("mine.safetensors", None, Published::MTCNN, "--detector", "mtcnn"),
        ("mine.safetensors", Some("cut"), Published::MTCNN, "--detector", "mtcnn"),
    ] {
        let path = folder.path().join(file);
        let _ = std::fs::remove_file(&path);
        bytes.iter().for_each(|bytes| std::fs::write(&path, bytes).unwrap());
        let error = refusal(start(&vs, &path, &form), &path);
        assert!(error.starts_with(flag) && error.contains(&known(name)), "{error}");
        assert!(error.find(file) < error.find("scripts/fetch"), "{error}");
    }
    let path = folder.path().join("resnet50-0676ba61.pth");
    save(&path, &[("b".into(), Tensor::from(1.))], None).unwrap();
    assert!(refusal(start(&vs, &path, &Published::MTCNN), &path).contains(&known("mtcnn")));
}

#[test]
fn what_wrappers_put_into_names_is_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let vs = VarStore::new(Device::Cpu);
    let root = vs.root();
    let (a, b) = ((&root / "features" / "0").zeros("weight", &[2]), (&root / "head").zeros("bias", &[1]));
    for (names, said) in [
        (["features.0.weight", "head.bias"], ""),
        (["module.features.0.weight", "module.head.bias"], ", module. taken off the names"),
        (["_orig_mod.features.0.weight", "_orig_mod.head.bias"], ", _orig_mod. taken off the names"),
        (
            ["module._orig_mod.features.0.weight", "module._orig_mod.head.bias"],
            ", _orig_mod. and module. taken off the names",
        ),
        (["features.module.0.weight", "head.bias"], ", module. taken off the names"),
        (["model.module.features.0.weight", "model.module.head.bias"], ", model. and module. taken off the names"),
    ] {
        let values = [Tensor::from_slice(&[1_f32, 2.]), Tensor::from_slice(&[3_f32])];
        let mut tensors: Named = names.iter().map(|name| name.to_string()).zip(values).collect();
        tensors.push(("n_averaged".into(), Tensor::from(7_i64)));
        save(&path, &tensors, None).unwrap();
        tch::no_grad(|| [&a, &b].iter().for_each(|x| drop(x.shallow_clone().zero_())));
        let line = start(&vs, &path, &Published::WHOLE).unwrap();
        assert!(line.ends_with(&format!("(2 tensors loaded, 1 counter ignored{said})")), "{line}");
        assert_eq!((a.double_value(&[1]), b.double_value(&[0])), (2., 3.));
    }
    // A name that is the network's own stays, and two tensors for one variable are refused.
    let both: Named = ["head.bias", "module.head.bias", "features.0.weight"]
        .map(|name| (name.into(), Tensor::zeros([1], (Kind::Float, Device::Cpu))))
        .into();
    save(&path, &both, None).unwrap();
    refusal(start(&vs, &path, &Published::WHOLE), &path);
    let own = VarStore::new(Device::Cpu);
    let _x = (own.root() / "module").zeros("x", &[1]);
    save(&path, &[("module.x".into(), Tensor::from_slice(&[1_f32]))], None).unwrap();
    assert!(!start(&own, &path, &Published::WHOLE).unwrap().contains("taken off"));
}
