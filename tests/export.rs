//! TorchScript files: what Python finds in them, and what is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::Rng;
use rankle::export::{Exported, torchscript};
use rankle::models::layers::{Init, Scope};
use rankle::models::{LuNet, Network, TriNet};
use rankle::seed;
use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{CModule, Device, Kind, Tensor};

use crate::common::{Ended, all_close, value};

/// The Python that scripts/setup found torch in; without one, says so.
pub fn python() -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(".libtorch/python");
    let python = PathBuf::from(std::fs::read_to_string(file).unwrap_or_default().trim());
    if python.is_file() {
        return Some(python);
    }
    println!("skipped: scripts/setup has noted no python with torch");
    None
}

/// Python that reads and writes safetensors with torch alone (`load_file`, `save_file`): a Python that runs these tests
/// needs no package beside it. Goes in front of a script, with its folder and word.
const SAFETENSORS: &str = r#"
import json, sys, torch
import torch.nn.functional as F
folder, which = sys.argv[1], sys.argv[2]
def load_file(path):
    data = open(path, "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    kinds = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "U8": torch.uint8}
    out = {}
    for name, about in json.loads(data[8:start]).items():
        if name != "__metadata__":
            a, b = about["data_offsets"]
            flat = torch.frombuffer(bytearray(data[start + a:start + b]), dtype=kinds[about["dtype"]]) if b > a else torch.empty(0, dtype=kinds[about["dtype"]])
            out[name] = flat.reshape(about["shape"])
    return out
def save_file(tensors, path):
    kinds, header, parts, at = {torch.float64: "F64", torch.float32: "F32", torch.int64: "I64"}, {}, [], 0
    for name, x in tensors.items():
        part = bytes(x.detach().contiguous().flatten().view(torch.uint8).tolist())
        header[name] = {"dtype": kinds[x.dtype], "shape": list(x.shape), "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    head = json.dumps(header).encode()
    open(path, "wb").write(len(head).to_bytes(8, "little") + head + b"".join(parts))
"#;

/// What `script` of PyTorch answers to the tensors `given`: the folder it wrote in and what its `answer.safetensors` has.
/// None where this machine's Python lacks a package, for which a script ends with 3.
pub fn ask(
    script: &str,
    which: &str,
    given: &[(String, Tensor)],
) -> Option<(tempfile::TempDir, BTreeMap<String, Tensor>)> {
    let folder = tempfile::tempdir().expect("a folder");
    rankle::weights::save(&folder.path().join("given.safetensors"), given, None).expect("saved");
    let mut run = Command::new(python()?);
    run.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test/python"));
    let ended = Ended::of(run.args(["-c", &[SAFETENSORS, script].concat()]).arg(folder.path()).arg(which));
    if ended.code == Some(3) {
        println!("skipped: {}", ended.out.trim());
        return None;
    }
    ended.well();
    let answer = rankle::weights::read(&folder.path().join("answer.safetensors")).expect("an answer");
    Some((folder, answer.into_iter().collect()))
}

/// A script's network, written down a second time by its variables' names, none of them left over, answers as `net` does.
pub fn answers_alike(script: &str, which: &str, vs: &VarStore, net: &dyn Network, images: &Tensor) {
    used(vs);
    let mut given: Vec<(String, Tensor)> = vs.variables().into_iter().collect();
    given.push(("images".into(), images.shallow_clone()));
    given.sort_by(|a, b| a.0.cmp(&b.0));
    let Some((_folder, answer)) = ask(&[NAMES, script, END].concat(), which, &given) else { return };
    let (ours, theirs) = (tch::no_grad(|| net.forward(images, false)), &answer["y"]);
    let scale = value(&theirs.abs().max());
    all_close(&(ours / scale), &(theirs / scale), 1e-5);
    // Not an answer that hides a difference: the two images differ, by far more than the tolerance.
    assert!(value(&(theirs.get(0) - theirs.get(1)).abs().max()) > 1e-3 * scale, "{which}: one answer for both images");
}

/// Before a network: its variables by name; and after it.
const NAMES: &str = r#"
t = load_file(folder + "/given.safetensors")
x = t.pop("images")
seen = set()
def w(name):
    seen.add(name)
    return t[name]
def bn(x, name, eps):
    return F.batch_norm(x, w(name + ".running_mean"), w(name + ".running_var"), w(name + ".weight"), w(name + ".bias"), False, 0.1, eps)
"#;
const END: &str = r#"
assert seen == set(t), sorted(set(t) - seen)[:5]
save_file({"y": y.contiguous()}, folder + "/answer.safetensors")
"#;

pub fn drawn(seed: u64, shape: &[i64]) -> Tensor {
    let mut rng = seed::at(seed, 0, 0);
    let values: Vec<f32> = (0..shape.iter().product::<i64>()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Running statistics as after some training.
pub fn used(vs: &VarStore) {
    for (name, mut tensor) in vs.variables() {
        if name.ends_with("running_mean") || name.ends_with("running_var") {
            let low = if name.ends_with("mean") { -0.3 } else { 0.5 };
            let mut rng = seed::at(seed::named(5, &name), 0, 0);
            let values: Vec<f32> = (0..tensor.numel()).map(|_| rng.random_range(low..low + 0.6)).collect();
            tensor.copy_(&Tensor::from_slice(&values));
        }
    }
}

fn export(vs: &VarStore, net: &dyn Network, example: &Tensor, path: &Path) -> anyhow::Result<Exported> {
    torchscript(vs, &|x| net.forward(&x[0], false), &[example.shallow_clone()], "{}", false, path)
}

fn write(path: &Path, tensor: &Tensor) {
    let bytes = Vec::<f32>::try_from(tensor.contiguous().flatten(0, -1)).unwrap();
    std::fs::write(path, bytes.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
}

/// Loads the file, answers for each case (inputs and answers as raw float32), doubles it, and takes one step of training.
const SCRIPT: &str = r#"
import json, sys, torch
torch._C._set_graph_executor_optimize(False)  # compiling for every shape takes longer than the answers
for folder in sys.argv[1:]:
    task = json.load(open(folder + "/task.json"))
    read = lambda name, shape: torch.frombuffer(bytearray(open(f"{folder}/{name}", "rb").read()), dtype=torch.float32).view(shape)
    module = torch.jit.load(folder + "/model.pt")
    module.eval()
    report = {"parameters": {n: list(p.shape) for n, p in module.named_parameters()},
              "buffers": {n: list(b.shape) for n, b in module.named_buffers()},
              "want gradients": sum(p.requires_grad for p in module.parameters()),
              "differences": [], "double": []}
    with torch.no_grad():
        for case in task:
            x, y = read(case["input"], case["shape"]), read(case["answer"], [case["shape"][0], -1])
            report["differences"].append(float((module(x) - y).abs().max() / max(1.0, y.abs().max())))
    wide = torch.jit.load(folder + "/model.pt").double()
    with torch.no_grad():
        for case in task[1::2]:
            x, y = read(case["input"], case["shape"]), read(case["answer"], [case["shape"][0], -1])
            z = wide(x.double())
            assert z.dtype == torch.float64
            report["double"].append(float((z - y).abs().max() / max(1.0, y.abs().max())))
    x = read(task[-1]["input"], task[-1]["shape"])
    def loss():  # towards a slope: a unit row's own square says nothing
        y = module(x)
        return (y - torch.linspace(-1, 1, y.shape[1])).square().mean()
    before = loss()
    before.backward()
    report["gradients"] = sum(p.grad is not None and bool(p.grad.abs().max() > 0) for p in module.parameters())
    slope = sum(float(p.grad.square().sum()) for p in module.parameters())
    torch.optim.SGD(module.parameters(), lr=1e-3 * float(before) / slope).step()
    report["falls"] = bool(loss() < before)
    module.train()
    print(json.dumps(report))
"#;

/// A network with its variables, the size of the example's images, and other sizes.
pub type Asked<'a> = (&'a VarStore, &'a dyn Network, [i64; 2], &'a [[i64; 2]]);

/// Exports the networks, asks one Python of all, and holds its answers against ours.
pub fn python_agrees(networks: &[Asked<'_>]) {
    let Some(python) = python() else { return };
    let exported: Vec<(tempfile::TempDir, Exported)> = networks.iter().map(given).collect();
    let mut run = Command::new(python);
    run.args(["-c", SCRIPT]).args(exported.iter().map(|(folder, _)| folder.path()));
    let said = Ended::of(&mut run).well().out;
    assert_eq!(said.lines().count(), networks.len());
    for ((&(vs, _, _, others), (folder, exported)), line) in networks.iter().zip(&exported).zip(said.lines()) {
        let (cases, report) = (3 + others.len(), serde_json::from_str(line).unwrap());
        agrees(vs, exported, &folder.path().join("model.pt"), cases, &report);
    }
}

/// A folder with the module, what goes in and what comes out.
fn given(&(vs, net, example, others): &Asked<'_>) -> (tempfile::TempDir, Exported) {
    let folder = tempfile::tempdir().unwrap();
    let shape = |batch: i64, size: [i64; 2]| vec![batch, 3, size[0], size[1]];
    let exported = export(vs, net, &drawn(1, &shape(3, example)), &folder.path().join("model.pt")).unwrap();
    let mut cases: Vec<Vec<i64>> = [1, 2, 7].map(|batch| shape(batch, example)).to_vec();
    cases.extend(others.iter().map(|&size| shape(2, size)));
    let mut task = Vec::new();
    for (i, shape) in cases.iter().enumerate() {
        let x = drawn(100 + i as u64, shape);
        let (input, answer) = (format!("x{i}"), format!("y{i}"));
        write(&folder.path().join(&input), &x);
        write(&folder.path().join(&answer), &tch::no_grad(|| net.forward(&x, false)));
        task.push(json!({"input": input, "answer": answer, "shape": shape}));
    }
    std::fs::write(folder.path().join("task.json"), Value::from(task).to_string()).unwrap();
    (folder, exported)
}

fn agrees(vs: &VarStore, exported: &Exported, file: &Path, cases: usize, report: &Value) {
    let trained: Vec<_> = vs.trainable_variables().iter().map(Tensor::data_ptr).collect();
    let (mut parameters, mut buffers) = (serde_json::Map::new(), serde_json::Map::new());
    for (name, tensor) in vs.variables() {
        let map = if trained.contains(&tensor.data_ptr()) { &mut parameters } else { &mut buffers };
        map.insert(name, tensor.size().into());
    }
    assert_eq!(exported.parameters, parameters.len());
    assert_eq!(exported.buffers, buffers.len());
    assert_eq!(exported.bytes, file.metadata().unwrap().len());
    assert!(exported.worst <= 1e-5 && exported.to_string().contains("model.pt"));
    assert_eq!(report["want gradients"], parameters.len());
    assert_eq!(report["gradients"], parameters.len());
    assert_eq!(report["parameters"], Value::from(parameters));
    assert_eq!(report["buffers"], Value::from(buffers));
    assert_eq!(report["falls"], true);
    for (key, count) in [("differences", cases), ("double", cases / 2)] {
        let differences = report[key].as_array().unwrap();
        assert_eq!(differences.len(), count);
        assert!(differences.iter().all(|difference| difference.as_f64().unwrap() <= 1e-5), "{key}: {differences:?}");
    }
}

#[test]
fn python_finds_all_of_trinet() {
    let vs = VarStore::new(Device::Cpu);
    let net = TriNet::new(&Scope::root(&vs, 1));
    used(&vs);
    python_agrees(&[(&vs, &net, [64, 32], &[[96, 64], [33, 70]])]);
}

#[test]
fn python_finds_all_of_lunet() {
    let vs = VarStore::new(Device::Cpu);
    let net = LuNet::new(&Scope::root(&vs, 1), 64, 32, 4).unwrap();
    used(&vs);
    python_agrees(&[(&vs, &net, [64, 32], &[])]);
}

/// How often the code of a module normalises.
fn normalisations(path: &Path) -> usize {
    let mut zip = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let names: Vec<String> = zip.file_names().filter(|name| name.ends_with(".py")).map(str::to_string).collect();
    let text = |name: String| std::io::read_to_string(zip.by_name(&name).unwrap()).unwrap();
    names.into_iter().map(text).map(|text| text.matches("batch_norm(").count()).sum()
}

#[test]
fn a_folded_export_has_no_normalisations_and_nothing_to_train() {
    let vs = VarStore::new(Device::Cpu);
    let net = TriNet::new(&Scope::root(&vs, 1));
    used(&vs);
    let folder = tempfile::tempdir().unwrap();
    let [plain, folded] = ["plain.pt", "folded.pt"].map(|name| folder.path().join(name));
    let forward = |x: &[Tensor]| net.forward(&x[0], false);
    torchscript(&vs, &forward, &[drawn(1, &[2, 3, 64, 32])], "{}", false, &plain).unwrap();
    let found = torchscript(&vs, &forward, &[drawn(1, &[2, 3, 64, 32])], "{}", true, &folded).unwrap();
    assert_eq!((found.parameters, found.buffers), (0, 0));
    // That its answers are the network's at other batch sizes, too, was seen before it counted as written.
    assert!(found.to_string().contains("the folded network"), "{found}");
    assert_eq!((normalisations(&plain), normalisations(&folded)), (54, 0));
}

/// A linear layer of `[B, 4]` to `[B, 3]`.
fn small() -> (VarStore, Tensor) {
    let vs = VarStore::new(Device::Cpu);
    let weight = Scope::root(&vs, 1).sub("fc").variable("weight", &[3, 4], Init::HeNormal, true);
    (vs, weight)
}

#[test]
fn a_network_of_two_inputs_is_exported() {
    let (vs, weight) = small();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pair.pt");
    let forward = |x: &[Tensor]| (x[0].matmul(&weight.tr()) - x[1].matmul(&weight.tr())).square();
    let exported = torchscript(&vs, &forward, &[drawn(1, &[2, 4]), drawn(2, &[2, 4])], "{}", false, &path).unwrap();
    assert_eq!((exported.parameters, exported.buffers), (1, 0));
    let module = CModule::load(&path).unwrap();
    assert_eq!(module.named_parameters().unwrap()[0].0, "fc.weight");
    let pair = [drawn(3, &[5, 4]), drawn(4, &[5, 4])];
    let swapped = [drawn(3, &[5, 4]), drawn(9, &[5, 4])];
    assert_eq!(module.forward_ts(&pair).unwrap(), forward(&pair));
    assert_ne!(module.forward_ts(&swapped).unwrap(), forward(&pair));
}

#[test]
fn an_export_leaves_the_network_and_its_gradients_alone() {
    let (mut vs, weight) = small();
    let folder = tempfile::tempdir().unwrap();
    let forward = |x: &[Tensor]| x[0].matmul(&weight.tr());
    let before = weight.copy();
    torchscript(&vs, &forward, &[drawn(1, &[2, 4])], "{}", false, &folder.path().join("a.pt")).unwrap();
    assert_eq!(weight, before);
    assert!(weight.requires_grad() && forward(&[drawn(1, &[2, 4])]).requires_grad());
    // Frozen variables are parameters all the same.
    vs.freeze();
    let exported = torchscript(&vs, &forward, &[drawn(1, &[2, 4])], "{}", false, &folder.path().join("b.pt")).unwrap();
    assert_eq!((exported.parameters, exported.buffers), (1, 0));
    assert!(!weight.requires_grad());
    assert!(
        torchscript(&vs, &forward, &[drawn(1, &[2, 4])], "{}", false, &folder.path().join("b.pt")).is_ok(),
        "replaces a file"
    );
}

#[test]
fn what_would_lie_is_refused_and_nothing_is_left() {
    let (vs, weight) = small();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    let refused = |forward: &dyn Fn(&[Tensor]) -> Tensor, says: &str| {
        for old in [false, true] {
            if old {
                std::fs::write(&path, "old").unwrap();
            }
            let error =
                format!("{:#}", torchscript(&vs, forward, &[drawn(1, &[2, 4])], "{}", false, &path).unwrap_err());
            assert!(error.contains(says) && error.contains("cannot write") && error.contains("model.pt"), "{error}");
            assert!(!error.contains('\n') && !error.contains("frame #"), "{error}");
            let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(left.len(), usize::from(old), "{left:?}");
            if old {
                assert_eq!(std::fs::read(&path).unwrap(), b"old");
                std::fs::remove_file(&path).unwrap();
            }
        }
    };
    let linear = |x: &Tensor| x.matmul(&weight.tr());
    // The batch size is baked in: repeated to the example's 2 rows, or read by the host.
    refused(&|x| linear(&x[0].mean_dim(0, true, None::<Kind>)).expand([x[0].size()[0], 3], false), "at batch size 1");
    refused(&|x| linear(&x[0]).view([x[0].size()[0], 3]), "the file fails at batch size 1");
    // The answer is the example's, whatever the input.
    let caught = linear(&drawn(1, &[2, 4])).detach();
    refused(&|_| caught.shallow_clone(), "does not depend on the input");
    // A branch on the values.
    refused(&|x| if x[0].double_value(&[0, 0]) < 0.0 { linear(&x[0]) } else { -linear(&x[0]) }, "answers differ");
    // Different at every call, or not a number.
    refused(&|x| linear(&x[0]) + Tensor::rand([3], (Kind::Float, Device::Cpu)), "answers differ");
    refused(&|x| linear(&x[0]) * f64::NAN, "answers differ");
    // A weight that the store doesn't know.
    let stray = Tensor::zeros([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    refused(&|x| linear(&x[0]) + &stray, "no variable of its store");
    let fixed = stray.detach();
    refused(&|x| linear(&x[0]) + &fixed, "no variable of its store");
    // A panic, ours or tch's (with its C++ backtrace).
    refused(&|_| panic!("no luck\nat all"), "failed on the example: no luck");
    refused(&|x| linear(&x[0].transpose(0, 1)), "failed on the example: mat1 and mat2 shapes");
    refused(&|x| if x[0].size()[0] == 7 { panic!("seven") } else { linear(&x[0]) }, "failed at batch size 7: seven");
}

#[test]
fn bad_arguments_are_one_line() {
    let (vs, weight) = small();
    let folder = tempfile::tempdir().unwrap();
    let forward = |x: &[Tensor]| x[0].matmul(&weight.tr());
    let error = |examples: &[Tensor], path: &Path| {
        format!("{:#}", torchscript(&vs, &forward, examples, "{}", false, path).expect_err("refused"))
    };
    let path = folder.path().join("model.pt");
    assert!(error(&[], &path).contains("example input"));
    assert!(error(&[drawn(1, &[2, 4]).to_kind(Kind::Double)], &path).contains("Double"));
    assert!(error(&[Tensor::from(1.0_f32)], &path).contains("batch axis"));
    let absent = folder.path().join("absent/model.pt");
    assert!(error(&[drawn(1, &[2, 4])], &absent).contains("is no folder"));
    assert!(error(&[drawn(1, &[2, 4])], folder.path()).contains("is a folder"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
