//! TorchScript: what Python makes of an export.

use std::path::{Path, PathBuf};
use std::process::Command;

use rankle::export::torchscript;
use rankle::models::layers::Scope;
use rankle::models::{LuNet, Network, TriNet};
use rankle::weights;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// The Python of the set-up, if it has one.
pub fn python() -> Option<PathBuf> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".libtorch/python")).ok()?;
    let path = PathBuf::from(text.trim());
    path.is_file().then_some(path)
}

/// Runs a script, or says that there is nothing to run it with.
#[track_caller]
pub fn run_python(script: &str, args: &[&Path]) -> Option<String> {
    let Some(python) = python() else {
        println!("skipped: the libtorch of scripts/setup came without a Python");
        return None;
    };
    let output = Command::new(python).arg("-c").arg(script).args(args).output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Batch norm statistics away from 0 and 1, so that their place in the file matters.
fn warm(net: &dyn Network, images: &Tensor) {
    tch::no_grad(|| (0..3).for_each(|_| drop(net.forward(images, true))));
}

const SCRIPT: &str = r#"
import sys, json, torch
from torch.nn.functional import mse_loss
path, inputs = sys.argv[1:]
m = torch.jit.load(path, map_location="cpu")
print(json.dumps({"parameters": sorted(n for n, _ in m.named_parameters()), "buffers": sorted(n for n, _ in m.named_buffers()), "training": m.training}))
data = torch.jit.load(inputs) if False else None
import struct
raw = open(inputs, "rb").read()
head = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])
body = raw[8 + struct.unpack("<Q", raw[:8])[0]:]
def tensor(name):
    d = head[name]; a, b = d["data_offsets"]
    return torch.frombuffer(bytearray(body[a:b]), dtype=torch.float32).reshape(d["shape"])
for batch in (1, 2, 7):
    x, y = tensor(f"x{batch}"), tensor(f"y{batch}")
    out = m(x)
    assert out.shape == y.shape, (out.shape, y.shape)
    worst = ((out - y).abs() / y.abs().clamp(min=1)).max().item()
    assert worst <= 1e-5, (batch, worst)
# Another dtype: the same numbers, and they stay doubles throughout.
d = m.double()
out = d(tensor("x2").double())
assert out.dtype == torch.float64 and ((out.float() - tensor("y2")).abs() / tensor("y2").abs().clamp(min=1)).max() < 1e-4
m.float()
# It can be trained on: gradients reach every parameter, and a step lowers the loss.
p = list(m.parameters())
assert all(q.requires_grad for q in p)
target = torch.zeros_like(tensor("y7"))
opt = torch.optim.SGD(p, lr=1e-4)
first = mse_loss(m(tensor("x7")), target); first.backward(); opt.step()
assert all(q.grad is not None for q in p)
assert mse_loss(m(tensor("x7")), target) < first
m.save(path + ".again")
torch.jit.load(path + ".again")
"#;

fn check(store: &VarStore, net: &dyn Network, height: i64, width: i64) {
    let place = tempfile::tempdir().expect("a folder");
    let images = |batch: i64| {
        let numbers = crate::common::numbers(40 + batch as u64, (batch * 3 * height * width) as usize);
        Tensor::from_slice(&numbers).view([batch, 3, height, width]).to_kind(Kind::Float)
    };
    warm(net, &images(5));
    let path = place.path().join("model.pt");
    let exported =
        torchscript(store, &|x: &[Tensor]| net.forward(&x[0], false), &[images(2)], &path).expect("exported");
    assert!(exported.worst <= 1e-5);
    let mut tensors = Vec::new();
    for batch in [1, 2, 7] {
        let x = images(batch);
        tensors.push((format!("y{batch}"), tch::no_grad(|| net.forward(&x, false))));
        tensors.push((format!("x{batch}"), x));
    }
    let data = place.path().join("data.safetensors");
    weights::save(&data, &tensors, None).expect("saved");
    let Some(said) = run_python(SCRIPT, &[&path, &data]) else { return };
    let said: serde_json::Value = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
    let names = |trainable: bool| {
        let mut names: Vec<String> = store
            .variables()
            .into_iter()
            .filter(|(_, x)| x.requires_grad() == trainable)
            .map(|(name, _)| name)
            .collect();
        names.sort();
        names
    };
    assert_eq!(said["parameters"], serde_json::json!(names(true)));
    assert_eq!(said["buffers"], serde_json::json!(names(false)));
    assert_eq!(said["training"], false);
    let left: Vec<_> =
        std::fs::read_dir(place.path()).expect("folder").map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(left.len(), 3, "temporary files were left: {left:?}");
}

#[test]
fn lunet_in_python_is_lunet_here() {
    let store = VarStore::new(Device::Cpu);
    let net = LuNet::new(&Scope::root(&store, 3), 64, 32, 8).expect("fits");
    check(&store, &net, 64, 32);
}

#[test]
fn trinet_in_python_is_trinet_here() {
    let store = VarStore::new(Device::Cpu);
    let net = TriNet::new(&Scope::root(&store, 3));
    check(&store, &net, 64, 32);
}

#[test]
fn an_export_that_differs_is_refused_and_leaves_nothing() {
    let store = VarStore::new(Device::Cpu);
    let net = LuNet::new(&Scope::root(&store, 3), 32, 32, 32).expect("fits");
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("model.pt");
    let example = Tensor::zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu));
    // A forward that reads the batch size: the trace has 2 for ever.
    let bad = |x: &[Tensor]| {
        let size = x[0].size()[0];
        net.forward(&x[0], false).view([size, 128])
    };
    let error = torchscript(&store, &bad, &[example.shallow_clone()], &path).expect_err("refused");
    assert!(format!("{error:#}").contains("not kept"), "{error:#}");
    // A forward that panics.
    let panics = |_: &[Tensor]| -> Tensor { panic!("no network") };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let error = torchscript(&store, &panics, &[example.shallow_clone()], &path).expect_err("refused");
    std::panic::set_hook(hook);
    assert!(format!("{error:#}").contains("cannot export"), "{error:#}");
    assert_eq!(std::fs::read_dir(place.path()).expect("folder").count(), 0);
    let nowhere = place.path().join("none/model.pt");
    let error =
        torchscript(&store, &|x: &[Tensor]| net.forward(&x[0], false), &[example], &nowhere).expect_err("no folder");
    assert!(format!("{error:#}").contains("none/model.pt"), "{error:#}");
}

#[test]
fn two_inputs_and_no_inputs_axis_is_baked_in() {
    let store = VarStore::new(Device::Cpu);
    let net = LuNet::new(&Scope::root(&store, 4), 32, 32, 32).expect("fits");
    let place = tempfile::tempdir().expect("a folder");
    let example = || Tensor::ones([3, 3, 32, 32], (Kind::Float, Device::Cpu));
    let forward = |x: &[Tensor]| (net.forward(&x[0], false) - net.forward(&x[1], false)).square();
    let exported =
        torchscript(&store, &forward, &[example(), example()], &place.path().join("pair.pt")).expect("exported");
    assert_eq!(exported.parameters, store.trainable_variables().len());
}
