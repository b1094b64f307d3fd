//! Files of weights: what PyTorch writes, what we write, what is damaged or means harm, and what fits a network.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

use rankle::models::TriNet;
use rankle::models::layers::Scope;
use rankle::weights::{LoadReport, Published, load_into, metadata, read, read_safetensors, save, save_npz, start};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::export::python;

mod by_hand;

type Named = Vec<(String, Tensor)>;

fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    if !bytes.is_empty() {
        tensor.copy_data_u8(&mut bytes, tensor.numel());
    }
    bytes
}

fn table(tensors: Named) -> BTreeMap<String, Tensor> {
    let count = tensors.len();
    let table: BTreeMap<_, _> = tensors.into_iter().collect();
    assert_eq!(table.len(), count);
    table
}

/// The error of `result`, which must be one line that names `path` and holds no C++ backtrace.
#[track_caller]
fn refusal<T>(result: anyhow::Result<T>, path: &Path) -> String {
    let error = format!("{:#}", result.err().expect("refused"));
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert!(!error.contains('\n') && !error.contains("frame #"), "{error}");
    error
}

// What Python writes.

const MAKE: &str = r#"
import collections, json, sys, torch
folder = sys.argv[1]
torch.manual_seed(0)
base = torch.randn(6, 4)
state = collections.OrderedDict(
    base=base, shared=base[1:3], column=base[:, 2], transposed=base.t(), stepped=base[::2, 1::2],
    parameter=torch.nn.Parameter(torch.randn(3)), frozen=torch.nn.Parameter(torch.randn(3), requires_grad=False),
    half=torch.randn(5).half(), bf16=torch.randn(5).bfloat16(), double=torch.randn(2, 2).double(),
    count=torch.tensor(7), int=torch.arange(-3, 3, dtype=torch.int32), short=torch.arange(-3, 3, dtype=torch.int16),
    char=torch.arange(-3, 3, dtype=torch.int8), byte=torch.arange(250, 256, dtype=torch.uint8),
    flags=torch.tensor([True, False]), complex=torch.randn(3, dtype=torch.complex64), empty=torch.zeros(0, 3),
    scalar=torch.tensor(float("nan")), repeated=torch.tensor([2.5]).expand(3, 2), last=torch.randn(2, 2, 2, 2).to(memory_format=torch.channels_last),
)
state["ünïcode.名"] = torch.ones(1)
state._metadata = collections.OrderedDict([("", {"version": 2})])
expected = {}
for name, t in state.items():
    t = t.detach().contiguous().reshape(-1)
    raw = (torch.view_as_real(t).reshape(-1) if t.is_complex() else t).view(torch.uint8)
    expected[name] = [list(state[name].shape), str(t.dtype), bytes(raw.tolist()).hex()]
json.dump(expected, open(f"{folder}/expected.json", "w"))
for form, new in (("zip", True), ("legacy", False)):
    put = lambda x, name: torch.save(x, f"{folder}/{form}-{name}", _use_new_zipfile_serialization=new)
    put(state, "plain.pth")
    put({"epoch": 3, "lr": 0.1, "big": 1 << 80, "args": [(1, -2), None, True, "x" * 300], "state_dict": state}, "nested.safetensors")
    put({"ema": state, "state_dict": state}, "twice.pt")
    put(dict(state), "dict.bin")
    put({"x": slice(1, 2)}, "object.pth")
    put(torch.nn.Linear(2, 2), "module.pth")
    put([torch.ones(1)], "list.pth")
    put(collections.OrderedDict(a=torch.ones(1), b=3), "number.pth")
    put({"a": torch.ones(2).to_sparse()}, "sparse.pth")
    torch.save({"a": torch.ones(2)}, f"{folder}/{form}-protocol.pth", _use_new_zipfile_serialization=new, pickle_protocol=4)
torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), f"{folder}/script.pt")
"#;

#[test]
fn pytorchs_two_forms_are_read_to_the_bit() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = Command::new(python).args(["-W", "ignore", "-c", MAKE]).arg(folder.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    // Shape, kind and bytes in hexadecimal.
    type Expected = (Vec<i64>, String, String);
    let expected: Vec<(String, Expected)> = {
        let text = std::fs::read(at("expected.json")).unwrap();
        let values: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text).unwrap();
        values.into_iter().map(|(name, value)| (name, serde_json::from_value(value).unwrap())).collect()
    };
    let kinds: HashMap<&str, Kind> = [
        ("torch.float16", Kind::Half),
        ("torch.bfloat16", Kind::BFloat16),
        ("torch.float32", Kind::Float),
        ("torch.float64", Kind::Double),
        ("torch.int64", Kind::Int64),
        ("torch.int32", Kind::Int),
        ("torch.int16", Kind::Int16),
        ("torch.int8", Kind::Int8),
        ("torch.uint8", Kind::Uint8),
        ("torch.bool", Kind::Bool),
        ("torch.complex64", Kind::ComplexFloat),
    ]
    .into();
    for form in ["zip", "legacy"] {
        for name in ["plain.pth", "nested.safetensors", "twice.pt", "dict.bin"] {
            let tensors = read(&at(&format!("{form}-{name}"))).unwrap_or_else(|e| panic!("{form} {name}: {e:#}"));
            assert_eq!(tensors.len(), expected.len(), "{form} {name}");
            for ((name, tensor), (key, (shape, kind, hex))) in tensors.iter().zip(&expected) {
                assert_eq!((name, tensor.kind(), &tensor.size()), (key, kinds[kind.as_str()], shape));
                let ours: String = bytes_of(tensor).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(&ours, hex, "{form} {name}");
            }
        }
        for (name, says) in [
            ("object.pth", "slice"),
            ("module.pth", ""),
            ("list.pth", "no dictionary"),
            ("number.pth", "\"b\" in it is no tensor"),
            ("sparse.pth", "_rebuild_sparse_tensor"),
            ("protocol.pth", "protocol 4"),
        ] {
            let path = at(&format!("{form}-{name}"));
            let error = refusal(read(&path), &path);
            assert!(error.contains(says) || form == "legacy" && name == "protocol.pth", "{error}");
        }
    }
    assert!(refusal(read(&at("script.pt")), &at("script.pt")).contains("TorchScript"));

    // Cut short anywhere it is an error; with a byte changed it is an answer or an error, never a panic.
    let broken = at("broken");
    for name in ["zip-plain.pth", "legacy-plain.pth"] {
        let whole = std::fs::read(at(name)).unwrap();
        for cut in (0..whole.len()).step_by(whole.len() / 80 + 1).chain([whole.len() - 1]) {
            std::fs::write(&broken, &whole[..cut]).unwrap();
            refusal(read(&broken), &broken);
        }
        for place in (0..whole.len()).step_by(whole.len() / 1500 + 1) {
            let mut bytes = whole.clone();
            bytes[place] ^= [0xff, 0x01, 0x5a][place % 3];
            std::fs::write(&broken, &bytes).unwrap();
            if read(&broken).is_err() {
                refusal(read(&broken), &broken);
            }
        }
    }
    // The zip's checksums notice a changed number.
    let mut bytes = std::fs::read(at("zip-plain.pth")).unwrap();
    let number = bytes_of(&read(&at("zip-plain.pth")).unwrap()[0].1)[..8].to_vec();
    let place = bytes.windows(8).position(|window| window == number).unwrap();
    bytes[place] ^= 1;
    std::fs::write(&broken, &bytes).unwrap();
    assert!(refusal(read(&broken), &broken).contains("damaged"));
}

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

// Into networks.

fn small() -> VarStore {
    let vs = VarStore::new(Device::Cpu);
    let at = Scope::root(&vs, 1);
    at.batch_norm("bn", 2);
    at.linear("fc", 2, 3, rankle::models::layers::Init::HeNormal, true);
    vs
}

fn copies(vs: &VarStore) -> Named {
    let mut all: Named = vs.variables().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn tensors_go_to_their_variables_and_to_nothing_else() {
    let path = Path::new("some.pth");
    let vs = small();
    let filled = |value: f64| {
        copies(&vs).into_iter().map(|(name, x)| (format!("module.{name}"), x.full_like(value))).collect::<Named>()
    };
    let rename =
        |name: &str| (!name.contains("extra")).then(|| name.strip_prefix("module.").unwrap_or(name).to_string());
    let all_are = |value: f64| vs.variables().values().all(|x| x.equal(&x.full_like(value)));

    let mut tensors = filled(2.0);
    tensors.push(("module.bn.num_batches_tracked".into(), Tensor::from(9_i64)));
    tensors.push(("extra.weight".into(), Tensor::from(9.0)));
    let loaded = load_into(&vs, path, tensors, rename, |_| true).unwrap();
    assert_eq!(loaded, LoadReport { copied: 6, dropped: 1, counters: 1, kept: 0 });
    assert!(all_are(2.0));
    assert!(vs.trainable_variables().iter().all(Tensor::requires_grad));
    // Other precisions are converted.
    let half: Named = filled(3.0).into_iter().map(|(name, x)| (name, x.to_kind(Kind::Half))).collect();
    load_into(&vs, path, half, rename, |_| true).unwrap();
    assert!(all_are(3.0) && vs.variables().values().all(|x| x.kind() == Kind::Float));
    // What isn't wanted may be missing and stays.
    let part: Named = filled(4.0).into_iter().filter(|(name, _)| !name.contains("fc")).collect();
    let loaded = load_into(&vs, path, part, rename, |name| !name.starts_with("fc.")).unwrap();
    assert_eq!((loaded.copied, loaded.kept), (4, 2));
    assert!(vs.variables().iter().all(|(name, x)| x.equal(&x.full_like(if name.starts_with("fc.") {
        3.0
    } else {
        4.0
    }))));
    load_into(&vs, path, filled(5.0), rename, |_| true).unwrap();

    let fails = |change: &dyn Fn(&mut Named), says: &[&str]| {
        let mut tensors = filled(6.0);
        change(&mut tensors);
        let error = refusal(load_into(&vs, path, tensors, rename, |_| true), path);
        assert!(says.iter().all(|word| error.contains(word)), "{error}");
        assert!(all_are(5.0), "a refusal changes nothing");
    };
    fails(&|t| t.truncate(0), &["lacks bn.bias, bn.running_mean, bn.running_var and 3 more"]);
    fails(&|t| drop(t.remove(1)), &["lacks bn.running_mean:"]);
    fails(&|t| t.push(("module.x\ny".into(), Tensor::from(1.0))), &["module.x\\ny", "hasn't"]);
    fails(&|t| t[0].1 = Tensor::from(1.0), &["module.bn.bias is [] and should be [2]"]);
    fails(&|t| t[0].1 = Tensor::from_slice(&[1_i64, 2]), &["module.bn.bias is Int64 and should be Float"]);
    fails(&|t| t[0].1 = Tensor::from_slice(&[1.0, f64::NAN]), &["finite", "module.bn.bias"]);
    fails(&|t| t.push(("bn.bias".into(), Tensor::from_slice(&[1.0_f32, 1.0]))), &["two tensors", "bn.bias"]);
}

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
    let run = Command::new(&python).args(["-c", RESNET]).arg(&names).arg(folder.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
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
