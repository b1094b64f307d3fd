//! Published weights by torchvision's own networks: a file as its `torch.save` writes it, loaded as a binary loads it, and
//! the same answers. scripts/test gets torchvision; without it these tests say so and pass over.

use std::path::{Path, PathBuf};
use std::process::Command;

use rankle::models::layers::Scope;
use rankle::models::{AlexNet, Network, ResNet50, Vgg16};
use rankle::weights;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::common::{SAFETENSORS, all_close, value};
use crate::export::python;

/// A torchvision network of random weights that keep its answers away from 0, its file, an image batch, and what it answers:
/// at the end, or where the binaries cut it.
const SCRIPT: &str = r#"
import sys
try:
    import torchvision
except Exception as error:
    print("no torchvision:", error)
    sys.exit(3)
folder, which = sys.argv[1], sys.argv[2]
torch.manual_seed(4)
net = getattr(torchvision.models, which)()
for name, x in net.named_buffers():
    if x.dtype == torch.float32:
        x.copy_(torch.rand_like(x) * 0.6 + (0.5 if name.endswith("var") else -0.3))
net.eval()
torch.save(net.state_dict(), folder + "/weights.pth")
x = torch.randn(2, 3, 96, 64)
with torch.no_grad():
    if which == "resnet50":
        net.fc = torch.nn.Identity()
    elif which == "alexnet":
        net.classifier[6] = torch.nn.Identity()
    else:
        net.classifier = net.classifier[:5]
    y = net(x)
save_file({"x": x, "y": y.contiguous()}, folder + "/answer.safetensors")
"#;

/// The folder with the file and the answers; None where torchvision is not at hand.
fn written(which: &str) -> Option<(tempfile::TempDir, PathBuf, Tensor, Tensor)> {
    let python = python()?;
    let folder = tempfile::tempdir().expect("a folder");
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test/python");
    let run = Command::new(python)
        .env("PYTHONPATH", packages)
        .args(["-c", &[SAFETENSORS, SCRIPT].concat()])
        .arg(folder.path())
        .arg(which)
        .output()
        .expect("runs");
    if run.status.code() == Some(3) {
        println!("skipped: {}", String::from_utf8_lossy(&run.stdout).trim());
        return None;
    }
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let all = weights::read(&folder.path().join("answer.safetensors")).expect("an answer");
    let get = |wanted: &str| all.iter().find(|(name, _)| name == wanted).expect("there").1.shallow_clone();
    let (x, y) = (get("x"), get("y"));
    let file = folder.path().join("weights.pth");
    Some((folder, file, x, y))
}

fn same(ours: &Tensor, theirs: &Tensor) {
    let scale = value(&theirs.abs().max());
    assert!(scale > 1e-3, "an answer of zeros says nothing");
    all_close(&(ours / scale), &(theirs / scale), 1e-4);
}

#[test]
fn resnet50_answers_as_torchvisions() {
    let Some((_folder, file, x, y)) = written("resnet50") else { return };
    let store = VarStore::new(Device::Cpu);
    let net = ResNet50::new(&Scope::root(&store, 1));
    let said = weights::load_backbone(&store, &file).expect("loads");
    assert!(said.contains("weights.pth"), "{said}");
    let ours = tch::no_grad(|| net.features(&x, false).adaptive_avg_pool2d([1, 1]).flatten(1, -1));
    same(&ours, &y);
}

#[test]
fn vgg16_answers_as_torchvisions() {
    let Some((_folder, file, x, y)) = written("vgg16") else { return };
    let store = VarStore::new(Device::Cpu);
    let net = Vgg16::new(&Scope::root(&store, 1));
    let read = weights::read(&file).expect("a state_dict");
    let rename = |name: &str| (!name.starts_with("classifier.6.")).then(|| name.to_string());
    weights::load_into(&store, &file, read, rename, |_| true).expect("all of it");
    same(&tch::no_grad(|| net.forward(&x, false)), &y);
}

#[test]
fn alexnet_answers_as_torchvisions() {
    let Some((_folder, file, x, y)) = written("alexnet") else { return };
    let store = VarStore::new(Device::Cpu);
    let net = AlexNet::new(&Scope::root(&store, 1), 3, 0.5);
    weights::load_scorer(&store, &file, AlexNet::FIRST).expect("loads");
    // The last layer is ours: a score, here the same function of fc7 on both sides.
    let (mut weight, mut bias) =
        (store.variables()["score.weight"].shallow_clone(), store.variables()["score.bias"].shallow_clone());
    let row = Tensor::arange(4096, (Kind::Float, Device::Cpu)).cos().unsqueeze(0);
    tch::no_grad(|| {
        weight.copy_(&row);
        let _ = bias.fill_(0.25);
    });
    same(&tch::no_grad(|| net.forward(&x, false)), &(y.matmul(&row.tr()) + 0.25));
}
