//! What several test files need: drawn inputs and comparisons.

use rand::Rng;
use tch::{Kind, Tensor};

/// Python that reads and writes safetensors with torch alone (`load_file`, `save_file`): a Python that runs these tests
/// needs no package beside it. Goes in front of a script.
pub const SAFETENSORS: &str = r#"
import json, torch
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

/// Numbers uniform in -1..1 at the address `(seed, 0, 0)`.
pub fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let mut rng = rankle::seed::at(seed, 0, 0);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// `[rows, width]` f64.
pub fn matrix(seed: u64, rows: usize, width: usize) -> Tensor {
    Tensor::from_slice(&numbers(seed, rows * width)).view([rows as i64, width as i64])
}

/// A square or other f64 matrix as rows.
pub fn rows(x: &Tensor) -> Vec<Vec<f64>> {
    Vec::<Vec<f64>>::try_from(x.to_kind(Kind::Double)).expect("a matrix")
}

/// A vector of whole numbers.
pub fn ints(x: &Tensor) -> Vec<i64> {
    Vec::<i64>::try_from(x).expect("a vector")
}

/// A scalar.
pub fn value(x: &Tensor) -> f64 {
    x.double_value(&[])
}

/// Fails where two numbers differ by more than `tolerance` (of the larger one, where that is above 1).
#[track_caller]
pub fn close(ours: f64, theirs: f64, tolerance: f64) {
    let scale = theirs.abs().max(1.);
    assert!((ours - theirs).abs() <= tolerance * scale, "{ours} is not {theirs} (to {tolerance})");
}

/// As [`close`], for whole tensors.
#[track_caller]
pub fn all_close(ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.size(), theirs.size());
    let worst = (ours.to_kind(Kind::Double) - theirs.to_kind(Kind::Double)).abs();
    let worst = if worst.numel() == 0 { 0. } else { value(&worst.max()) };
    assert!(worst <= tolerance, "differ by {worst} (more than {tolerance})");
}

/// The gradient of `f` at `x` by autograd, in x's kind.
pub fn gradient(x: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let leaf = x.copy().detach().set_requires_grad(true);
    f(&leaf).backward();
    leaf.grad()
}

/// Label sets that cover the edges: a PK batch, uneven identities, one identity, all singletons, one singleton, empty.
pub fn label_sets() -> Vec<(&'static str, Vec<i64>)> {
    vec![
        ("PK 4x3", (0..12).map(|i| i / 3).collect()),
        ("PK 3x4 interleaved", (0..12).map(|i| i % 3).collect()),
        ("uneven", vec![5, 5, 9, 9, 9, 9, 1, 5, 2, 2, -3]),
        ("one identity", vec![7; 6]),
        ("all singletons", (0..6).collect()),
        ("one singleton", vec![1, 1, 1, 2]),
        ("two rows", vec![1, 2]),
        ("one row", vec![1]),
        ("empty", vec![]),
    ]
}

/// Arguments as a command takes them.
pub fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// What a file of JSON holds.
#[track_caller]
pub fn json(path: &std::path::Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// One of the binaries, by its path.
pub struct Program(pub &'static str);

impl Program {
    /// The command with these arguments; a backtrace on the user's side must not change what is printed.
    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(self.0);
        command.args(args).env("RUST_BACKTRACE", "1").stdin(std::process::Stdio::null());
        command
    }

    /// Fails unless it ends well; what it printed.
    #[track_caller]
    pub fn good(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("the binary starts");
        let text = String::from_utf8_lossy(&output.stdout).to_string();
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Fails unless it ends with `code` and one line `error: ...` that has all of `words`, and nothing like a backtrace.
    #[track_caller]
    pub fn bad(&self, args: &[&str], code: i32, words: &[&str]) -> String {
        let output = self.command(args).output().expect("the binary starts");
        let text = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{args:?}: {text}");
        for word in words {
            assert!(errors[0].contains(word), "{args:?}: {word:?} is not in {}", errors[0]);
        }
        for word in ["panicked", "backtrace", "RUST_", "frame #", "libtorch_cpu.so", "defect"] {
            assert!(!text.contains(word), "{args:?}: {text}");
        }
        errors[0].to_string()
    }
}
