//! Published weights by torchvision's own networks (TriNet by its authors' script): a file as its `torch.save` writes it,
//! loaded as a binary loads it, and the same answers. scripts/test gets torchvision; without it these tests say so.

use std::path::{Path, PathBuf};

use rankle::models::inception::{GoogLeNet, InceptionResnetV1};
use rankle::models::layers::Scope;
use rankle::models::{AlexNet, Network, ResNet50, TriNet, Vgg16};
use rankle::weights::{self, Published, start};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::common::{all_close, value};
use crate::export::ask;

/// A torchvision network of random weights that keep its answers away from 0, its file, an image batch, and what it answers:
/// at the end, or where the binaries cut it.
const SCRIPT: &str = r#"
try:
    import torchvision
except Exception as error:
    print("no torchvision:", error)
    sys.exit(3)
torch.manual_seed(4)
if which == "googlenet":
    # As torchvision builds it for its published file: with auxiliary heads, and its own normalisation in place of ImageNet's.
    net = torchvision.models.GoogLeNet(transform_input=True, init_weights=False)
else:
    net = getattr(torchvision.models, which)()
for name, x in net.named_buffers():
    if x.dtype == torch.float32:
        x.copy_(torch.rand_like(x) * 0.6 + (0.5 if name.endswith("var") else -0.3))
net.eval()
torch.save(net.state_dict(), folder + "/weights.pth")
x = torch.randn(2, 3, 96, 64)
with torch.no_grad():
    if which in ("resnet50", "googlenet"):
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
    let (folder, answer) = ask(SCRIPT, which, &[])?;
    let file = folder.path().join("weights.pth");
    Some((folder, file, answer["x"].shallow_clone(), answer["y"].shallow_clone()))
}

fn same(ours: &Tensor, theirs: &Tensor) {
    let scale = value(&theirs.abs().max());
    assert!(scale > 1e-3, "an answer of zeros says nothing");
    all_close(&(ours / scale), &(theirs / scale), 1e-4);
}

/// A published file that scripts/test or scripts/fetch got; without it, says so.
fn published(set: &str, name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = ["target/test/data", "data"].iter().map(|data| root.join(data).join("weights").join(name));
    let file = file.into_iter().find(|file| file.is_file());
    if file.is_none() {
        println!("skipped: no {name} (scripts/fetch {set} gets it)");
    }
    file
}

/// What PyTorch's own networks of tests/benches make of a published file: `$kind` of them, then the file.
const PUBLISHED: &str = r#"
import pathlib
sys.path.insert(0, str(pathlib.Path(ROOT, "tests/benches")))
try:
    import nets, pku
except ImportError as error:
    print(error)
    sys.exit(3)
kind, path = which.split(" ", 1)
torch.manual_seed(4)
if kind == "faces":
    # Both in the order of the layers.
    parts = ["conv2d_", "repeat_1", "mixed_6a", "repeat_2", "mixed_7a", "repeat_3", "block8", "last_linear", "last_bn"]
    ends = ["conv.weight", "weight", "bias", "running_mean", "running_var"]
    place = lambda name: next(i for i, part in enumerate(parts) if name.startswith(part))
    layer = lambda name: name.replace(".bn.", ".conv.").rpartition(".")[0]
    last = lambda name: (".bn." in name, ends.index(name.rpartition(".")[2]))
    theirs = load_file(path)
    names = sorted(theirs, key=lambda name: (place(name), [int(x) if x.isdigit() else x for x in layer(name).split(".")], last(name)))
    net = nets.inception_resnet_v1()
    own = [name for name in net.state_dict() if "num_batches" not in name]
    assert len(own) == len(names)
    net.load_state_dict({name: theirs[of] for name, of in zip(own, names)}, strict=False)
    x = torch.rand(2, 3, 160, 160) * 2 - 1
    net.eval()
else:
    whole = pku.network(pathlib.Path(path), kind, "cpu").eval()
    net = torch.nn.Sequential(*list(whole.children())[:-2])
    x = torch.rand(2, 3, 128, 64)
    x = (x * 255 - torch.tensor(pku.CAFFE_MEAN).view(1, 3, 1, 1)) if kind == "caffe" else (x - 0.45) / 0.225
with torch.no_grad():
    save_file({"x": x, "y": net(x).contiguous()}, folder + "/answer.safetensors")
"#;

/// An image batch and PyTorch's answer of the published `file`, by the networks of tests/benches.
fn answer(kind: &str, file: &Path) -> Option<(Tensor, Tensor)> {
    let script = PUBLISHED.replace("ROOT", &format!("{:?}", env!("CARGO_MANIFEST_DIR")));
    let (_folder, answer) = ask(&script, &format!("{kind} {}", file.display()), &[])?;
    Some((answer["x"].shallow_clone(), answer["y"].shallow_clone()))
}

#[test]
fn inception_resnet_v1_answers_as_pytorchs_by_published_weights() {
    let Some(file) = published("facenet-casia-20180408", "facenet-casia-20180408.safetensors") else { return };
    let Some((x, y)) = answer("faces", &file) else { return };
    let vs = VarStore::new(Device::Cpu);
    let net = InceptionResnetV1::new(&Scope::root(&vs, 1), 160, 512, 1).expect("fits");
    start(&vs, &file, &Published::FACES.whole()).expect("all of it");
    same(&tch::no_grad(|| net.forward(&x, false)), &y);
}

#[test]
fn resnet50_answers_as_pytorchs_by_he_et_als_weights_under_either_strides() {
    let Some(file) = published("resnet50-he", "resnet50-he-caffe.safetensors") else { return };
    for (kind, form) in [("caffe", Published::TRINET), ("torchvision", Published::RESNET50)] {
        let Some((x, y)) = answer(kind, &file) else { return };
        let vs = VarStore::new(Device::Cpu);
        let at = Scope::root(&vs, 1);
        let net = if kind == "caffe" { ResNet50::caffe(&at) } else { ResNet50::new(&at) };
        let line = start(&vs, &file, &form).expect("all of it");
        assert_eq!(line.contains("the first layer turned"), kind == "caffe", "{line}");
        same(&tch::no_grad(|| net.features(&x, false)), &y);
    }
}

#[test]
fn resnet50_answers_as_torchvisions() {
    let Some((_folder, file, x, y)) = written("resnet50") else { return };
    let store = VarStore::new(Device::Cpu);
    let net = ResNet50::new(&Scope::root(&store, 1));
    let said = start(&store, &file, &Published::RESNET50).expect("loads");
    assert!(said.contains("weights.pth"), "{said}");
    let ours = tch::no_grad(|| net.features(&x, false).adaptive_avg_pool2d([1, 1]).flatten(1, -1));
    same(&ours, &y);
}

#[test]
fn googlenet_answers_as_torchvisions() {
    let Some((folder, file, x, y)) = written("googlenet") else { return };
    let store = VarStore::new(Device::Cpu);
    let net = GoogLeNet::new(&Scope::root(&store, 1), 96, 128, 1).expect("fits");
    let tensors = weights::read(&file).expect("a state_dict");
    assert_eq!(tensors.len(), 364, "as torchvision's file");
    let said = start(&store, &file, &Published::GOOGLENET).expect("loads");
    // 57 convolutions with 4 tensors of normalisation each; fc, and of each head a convolution and two linear layers.
    assert!(
        said.contains("(285 tensors loaded, 20 left out by name, 59 counters ignored, 1 variable as before"),
        "{said}"
    );
    // torchvision's x is normalised by ImageNet's mean and deviation; ours is (RGB - 0.5) / 0.5.
    let column = |three: [f32; 3]| Tensor::from_slice(&three).view([1, 3, 1, 1]);
    let rgb = x * column([0.229, 0.224, 0.225]) + column([0.485, 0.456, 0.406]);
    let images = (rgb - 0.5) / 0.5;
    same(&tch::no_grad(|| net.features(&images, false)), &y);
    let unit = tch::no_grad(|| net.forward(&images, false)).square().sum_dim_intlist(1, false, Kind::Double);
    all_close(&unit, &Tensor::ones([2], (Kind::Double, Device::Cpu)), 1e-5);
    // A tensor too few and one too many are named.
    let without = |name: &str| -> Vec<(String, Tensor)> {
        tensors.iter().filter(|(have, _)| have != name).map(|(have, x)| (have.clone(), x.copy())).collect()
    };
    let path = folder.path().join("other.safetensors");
    weights::save(&path, &without("inception4c.branch3.1.bn.bias"), None).expect("saved");
    let error = format!("{:#}", start(&store, &path, &Published::GOOGLENET).expect_err("refused"));
    assert!(error.contains("lacks inception4c.branch3.1.bn.bias"), "{error}");
    let mut more = without("");
    more.push(("aux3.fc1.bias".to_string(), Tensor::from(1.)));
    weights::save(&path, &more, None).expect("saved");
    let error = format!("{:#}", start(&store, &path, &Published::GOOGLENET).expect_err("refused"));
    assert!(error.contains("aux3.fc1.bias that this network hasn't"), "{error}");
}

/// trinet_embed.py's network in PyTorch, by its own description: Caffe's ResNet-50 with a bias in the first convolution,
/// Lasagne's normalisation with its stored inverse deviation, weights of linear layers as `[in, out]`; its parameters in
/// the order of Lasagne's get_all_params, as numpy.savez writes them.
const TRINET: &str = r#"
try:
    import numpy
except Exception as error:
    print("no NumPy:", error)
    sys.exit(3)
torch.manual_seed(7)
params = []
def keep(x):
    params.append(x)
    return x
def conv(x, outputs, kernel, stride, pad, bias=False):
    fan = x.shape[1] * kernel * kernel
    w = keep(torch.randn(outputs, x.shape[1], kernel, kernel) * (2 / fan) ** 0.5)
    b = keep(torch.randn(outputs)) if bias else None
    return F.conv2d(x, w, b, stride, pad)
def norm(x):
    n = x.shape[1]
    beta, gamma = keep(torch.randn(n) * 0.2), keep(torch.rand(n) + 0.5)
    mean, inv_std = keep(torch.randn(n) * 0.2), keep(1 / (torch.rand(n) * 1.5 + 0.25 + 1e-4).sqrt())
    of = lambda v: v.view(1, n, *[1] * (x.dim() - 2))
    return (x - of(mean)) * of(gamma * inv_std) + of(beta)
def block(x, mid, stride, first):
    # ElemwiseSumLayer([left, right]): what lies left is listed first.
    left = norm(conv(x, 4 * mid, 1, stride, 0)) if first else x
    y = F.relu(norm(conv(x, mid, 1, stride, 0)))
    y = F.relu(norm(conv(y, mid, 3, 1, 1)))
    return F.relu(left + norm(conv(y, 4 * mid, 1, 1, 0)))
rgb = torch.rand(2, 3, 256, 128) * 255
with torch.no_grad():
    bgr = rgb.flip(1) - torch.tensor([103.0626238, 115.90288257, 123.15163084]).view(1, 3, 1, 1)
    x = F.relu(norm(conv(bgr, 64, 7, 2, 3, bias=True)))
    x = F.max_pool2d(x, 3, 2, 0, ceil_mode=True)
    for stage, (mid, count) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for i in range(count):
            x = block(x, mid, 2 if stage and not i else 1, i == 0)
    x = F.avg_pool2d(x, (8, 4)).flatten(1)
    x = F.relu(norm(x @ keep(torch.randn(2048, 1024) * 0.03)))
    w = keep(torch.randn(1024, 128) * 0.05)
    y = x @ w + keep(torch.randn(128))
assert len(params) == 273
arrays = [p.numpy() for p in params]
numpy.savez(folder + "/trinet.npz", *arrays)
numpy.savez_compressed(folder + "/packed.npz", *arrays[:6])
numpy.savez(folder + "/short.npz", *arrays[:-1])
numpy.savez(folder + "/long.npz", *arrays, numpy.zeros(3, numpy.float32))
numpy.savez(folder + "/objects.npz", numpy.array([print, "x"], dtype=object))
numpy.savez(folder + "/records.npz", numpy.zeros(3, [("a", "<f4"), ("b", "<i4")]))
numpy.savez(folder + "/big.npz", numpy.zeros(3, ">f4"))
numpy.savez(folder + "/fortran.npz", numpy.asfortranarray(numpy.ones((2, 3))))
numpy.savez_compressed(folder + "/bomb.npz", numpy.zeros(40_000_000, numpy.float32))
save_file({"x": rgb, "y": y.contiguous()}, folder + "/answer.safetensors")
"#;

#[test]
fn trinet_answers_as_the_authors_script_does() {
    let Some((folder, answer)) = ask(TRINET, "", &[]) else { return };
    let at = |name: &str| folder.path().join(name);
    let store = VarStore::new(Device::Cpu);
    let net = TriNet::caffe(&Scope::root(&store, 1));
    let said = start(&store, &at("trinet.npz"), &Published::TRINET).expect("loads");
    assert!(said.contains("272 tensors loaded") && !said.contains(" as before"), "{said}");
    let images = &answer["x"] - Tensor::from_slice(&TriNet::CAFFE_MEAN.map(|mean| mean as f32)).view([1, 3, 1, 1]);
    same(&tch::no_grad(|| net.forward(&images, false)), &answer["y"]);
    // Packed arrays are the same arrays.
    let (plain, packed) =
        (weights::read(&at("trinet.npz")).expect("npz"), weights::read(&at("packed.npz")).expect("npz"));
    assert!(packed.len() == 6 && packed.iter().zip(&plain).all(|(a, b)| a.0 == b.0 && a.1.equal(&b.1)));
    // Nothing is passed over, and nothing of a file is run.
    for (file, says) in [
        ("short.npz", "lacks arr_272 (head.embedding.bias)"),
        ("long.npz", "has arr_273 that"),
        ("objects.npz", "\"|O\""),
        ("records.npz", "records"),
        ("big.npz", "\">f4\""),
        ("fortran.npz", "Fortran order"),
        ("bomb.npz", "far more than the file"),
        ("none.npz", "no such file"),
    ] {
        let error = format!("{:#}", start(&store, &at(file), &Published::TRINET).expect_err("refused"));
        assert!(error.contains(says) && error.contains(file) && !error.contains('\n'), "{error}");
    }
    let error = format!("{:#}", start(&store, &at("trinet.npz"), &Published::RESNET50).expect_err("refused"));
    assert!(error.contains("arr_0"), "{error}");
}

#[test]
fn vgg16_answers_as_torchvisions() {
    let Some((_folder, file, x, y)) = written("vgg16") else { return };
    let store = VarStore::new(Device::Cpu);
    let net = Vgg16::new(&Scope::root(&store, 1));
    start(&store, &file, &Published::VGG16).expect("all of it");
    same(&tch::no_grad(|| net.forward(&x, false)), &y);
}

#[test]
fn alexnet_answers_as_torchvisions() {
    let Some((_folder, file, x, y)) = written("alexnet") else { return };
    let store = VarStore::new(Device::Cpu);
    let net = AlexNet::new(&Scope::root(&store, 1), 3, 0.5);
    start(&store, &file, &Published::ALEXNET).expect("loads");
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
