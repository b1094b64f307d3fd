//! PyTorch's two forms.

use std::collections::HashMap;
use std::process::Command;

use rankle::weights::read;
use tch::Kind;

use super::{bytes_of, refusal};
use crate::common::Ended;
use crate::export::python;

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
    Ended::of(Command::new(python).args(["-W", "ignore", "-c", MAKE]).arg(folder.path())).well();
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
