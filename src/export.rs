//! TorchScript: a network as one file that Python, C++ and phones run, and that can be trained on.
//!
//! A traced network remembers its example, and may have caught more of it than it should: the batch size, a dtype, a
//! constant answer. So a file counts as written only after it was loaded again and gave the network's own answers at
//! other batch sizes.

use std::ffi::{CString, c_char, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand::Rng;
use tch::nn::VarStore;
use tch::{CModule, Kind, Tensor};

use crate::outputs::{MODULE, mark};
use crate::say::{caught, first_line, said};
use crate::{seed, weights};

/// Batch sizes at which the file must give the network's answers.
pub const BATCHES: [i64; 3] = [1, 2, 7];

/// Largest difference allowed, as a fraction of the largest answer (of 1, where that is smaller).
pub const TOLERANCE: f64 = 1e-5;

/// What [`torchscript`] wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// Where the module was written.
    pub path: PathBuf,
    /// Named parameters in the file.
    pub parameters: usize,
    /// Named buffers in the file: running statistics and whatever else isn't trained.
    pub buffers: usize,
    /// The file's size in bytes.
    pub bytes: u64,
    /// The largest difference between the file's answers and the network's, at all batch sizes tried.
    pub worst: f64,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.parameters + self.buffers {
            0 => "the folded network".to_string(),
            _ => format!("{} parameters and {} buffers", self.parameters, self.buffers),
        };
        write!(
            f,
            "exported {what} to {} ({:.1} MB); loaded again, its answers at batch sizes {BATCHES:?} differ by {:.1e} at most",
            self.path.display(),
            self.bytes as f64 / 1e6,
            self.worst
        )
    }
}

/// Writes the network `forward`, whose variables are those of `vs`, to `path` as TorchScript.
///
/// `forward` takes as many tensors as there are `examples` (one for an embedding network, two for a network that
/// compares two images) and must be the network in evaluation: batch normalisation with its running statistics. The
/// examples, float32 on the store's device, give the shapes; axis 0 of each is the batch. Variables keep their names:
/// `layer1.0.conv1.weight` is a parameter of the module `layer1.0.conv1`; what the store trains becomes a parameter and
/// the rest a buffer. The file holds its tensors for the CPU and moves with `.to("cuda")`. Trained on, its batch
/// normalisation keeps the running statistics that it has.
///
/// With `fold` it is a network that is only run: its variables are constants, normalisations are folded into the
/// convolutions before them, and nothing is left to train or to name. It runs where it is loaded: on a GPU by
/// `torch.jit.load(path, map_location="cuda")`, since `.to` moves no constant.
///
/// `about` becomes the module's extra file `model.json`: what it takes and gives, as [`crate::deploy`] has it.
///
/// The file, a zip, ends with a checksum and a hash of itself, by which an edited one is known. It appears
/// under its name whole or not at all: it is written beside it, loaded again, and compared with `forward` on drawn inputs at
/// batch sizes 1, 2 and 7. Errors where that differs by more than 1e-5 of the largest answer, where `forward` panics or uses a
/// tensor that isn't in the store, and where the folder can't be written.
pub fn torchscript(
    vs: &VarStore,
    forward: &dyn Fn(&[Tensor]) -> Tensor,
    examples: &[Tensor],
    about: &str,
    fold: bool,
    path: &Path,
) -> Result<Exported> {
    ensure!(!examples.is_empty(), "an export needs an example input");
    for example in examples {
        let (device, kind) = (example.device(), example.kind());
        ensure!(example.dim() > 0, "an example input needs a batch axis");
        ensure!(kind == Kind::Float, "example inputs of an export are float32, not {kind:?}");
        ensure!(device == vs.device(), "an example input lies on {device:?} and the network on {:?}", vs.device());
    }
    let mut variables: Vec<(String, Tensor)> = vs.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    let trained: std::collections::HashSet<_> = vs.trainable_variables().iter().map(Tensor::data_ptr).collect();
    let trainable = |tensor: &Tensor| trained.contains(&tensor.data_ptr());
    let parameters = variables.iter().filter(|(_, tensor)| !fold && trainable(tensor)).count();

    let (worst, bytes) = crate::files::atomically(path, |file| {
        trace(&variables, &trainable, forward, examples, (about, fold), file)?;
        // By the checksum, of all before the length of a zip's comment, scripts know an edited one: they have no BLAKE3.
        let whole = crate::files::read(file)?;
        let checksum = crc32fast::hash(&whole[..whole.len().saturating_sub(2)]);
        drop(whole);
        weights::seal_zip(file, &format!("checksum {checksum:08x} {}", mark(MODULE)))?;
        let bytes = std::fs::metadata(file)?.len();
        Ok((check(vs, parameters, forward, examples, file)?, bytes))
    })?;
    let buffers = if fold { 0 } else { variables.len() - parameters };
    Ok(Exported { path: path.to_path_buf(), parameters, buffers, bytes, worst })
}

/// `Variable` of trace.cpp.
#[repr(C)]
struct Variable {
    name: *const c_char,
    tensor: *const c_void,
    trainable: i32,
}

type Forward = extern "C" fn(*mut c_void, *const *const c_void, usize, *mut *mut c_void) -> i32;

unsafe extern "C" {
    fn rankle_trace(
        variables: *const Variable,
        variable_count: usize,
        inputs: *const *const c_void,
        input_count: usize,
        forward: Forward,
        context: *mut c_void,
        about: *const c_char,
        path: *const c_char,
        fold: i32,
        error: *mut c_char,
        room: usize,
    ) -> i32;
}

/// What the callback needs, and what it leaves where the network panicked.
struct Call<'a> {
    forward: &'a dyn Fn(&[Tensor]) -> Tensor,
    panicked: Option<String>,
}

/// Called by libtorch's tracer: the network on `count` tensors, a new tensor in `output`. No panic leaves it.
extern "C" fn call(context: *mut c_void, inputs: *const *const c_void, count: usize, output: *mut *mut c_void) -> i32 {
    // SAFETY: `trace` passed a `Call` that outlives the call and that nobody else touches meanwhile.
    let context = unsafe { &mut *context.cast::<Call>() };
    let answer = caught(|| {
        // SAFETY: trace.cpp passes `count` pointers to tensors that live until we return; clones share them.
        let inputs = unsafe { std::slice::from_raw_parts(inputs, count) };
        let inputs: Vec<Tensor> =
            inputs.iter().map(|&t| unsafe { Tensor::clone_from_ptr(t.cast_mut().cast()) }).collect();
        (context.forward)(&inputs)
    });
    match answer {
        Ok(tensor) => {
            // The C++ side deletes it: a Tensor here owns one `new at::Tensor`.
            let mut tensor = std::mem::ManuallyDrop::new(tensor);
            // SAFETY: trace.cpp passes a pointer to its own local.
            unsafe { *output = tensor.as_mut_ptr().cast() };
            0
        }
        Err(panic) => {
            context.panicked = Some(panic_line(&panic));
            1
        }
    }
}

/// The first line of what was said in a panic. tch panics with `unwrap`, whose message holds libtorch's backtrace with
/// its line breaks spelt out.
fn panic_line(text: &str) -> String {
    match text.split_once("value: Torch(\"") {
        Some((_, torch)) => torch.split("\\n").next().unwrap_or_default().trim_end_matches("\")").to_string(),
        None => first_line(text).to_string(),
    }
}

fn trace(
    variables: &[(String, Tensor)],
    trainable: &dyn Fn(&Tensor) -> bool,
    forward: &dyn Fn(&[Tensor]) -> Tensor,
    examples: &[Tensor],
    (about, fold): (&str, bool),
    file: &Path,
) -> Result<()> {
    let names: Vec<CString> =
        variables.iter().map(|(name, _)| CString::new(name.as_str())).collect::<Result<_, _>>()?;
    let variables: Vec<Variable> = names
        .iter()
        .zip(variables)
        .map(|(name, (_, tensor))| Variable {
            name: name.as_ptr(),
            tensor: tensor.as_ptr().cast(),
            trainable: trainable(tensor).into(),
        })
        .collect();
    let inputs: Vec<*const c_void> = examples.iter().map(|tensor| tensor.as_ptr().cast()).collect();
    let (about, path) = (CString::new(about)?, CString::new(file.as_os_str().as_bytes())?);
    let mut context = Call { forward, panicked: None };
    let mut code = 0;
    let traced = said(|error, room| {
        // SAFETY: all pointers are to what outlives the call, with their true lengths; `Variable` is laid out as in
        // trace.cpp; tensors are `at::Tensor*`. C++ exceptions and panics stop on their own side.
        code = unsafe {
            rankle_trace(
                variables.as_ptr(),
                variables.len(),
                inputs.as_ptr(),
                inputs.len(),
                call,
                (&raw mut context).cast(),
                about.as_ptr(),
                path.as_ptr(),
                fold.into(),
                error,
                room,
            )
        };
        code
    });
    if let Some(panic) = context.panicked {
        ensure!(
            !panic.contains("requires grad as a constant"),
            "the network uses a tensor that is no variable of its store"
        );
        bail!("the network failed on the example: {panic}");
    }
    // Nothing traced went wrong: the file could not be written.
    ensure!(code >= 0, std::io::Error::from_raw_os_error(-code));
    traced.map_err(|error| anyhow!("libtorch could not trace the network: {error}"))
}

/// Loads `file` and compares it with `forward`; the largest difference.
fn check(
    vs: &VarStore,
    parameters: usize,
    forward: &dyn Fn(&[Tensor]) -> Tensor,
    examples: &[Tensor],
    file: &Path,
) -> Result<f64> {
    let torch = |e: tch::TchError| anyhow!("{}", first_line(&e.to_string()));
    let module = CModule::load_on_device(file, vs.device()).map_err(torch).context("the file does not load again")?;
    let found = module.named_parameters().map_err(torch)?.len();
    ensure!(found == parameters, "the file has {found} parameters and the network {parameters}");
    let mut largest = 0.0_f64;
    for batch in BATCHES {
        let inputs: Vec<Tensor> = (0..).zip(examples).map(|(i, example)| drawn(example, batch, i)).collect();
        let ours = caught(|| tch::no_grad(|| forward(&inputs)))
            .map_err(|panic| anyhow!("the network failed at batch size {batch}: {}", panic_line(&panic)))?;
        let theirs = tch::no_grad(|| module.forward_ts(&inputs))
            .map_err(torch)
            .with_context(|| format!("the file fails at batch size {batch}"))?;
        let (shape, found) = (ours.size(), theirs.size());
        ensure!(shape == found, "at batch size {batch} the file gives {found:?} and the network {shape:?}");
        if ours.numel() == 0 {
            continue;
        }
        let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
        let worst = (&ours - theirs).abs().max().double_value(&[]);
        let scale = ours.abs().max().double_value(&[]).max(1.0);
        // Written so that NaN fails.
        let close = worst <= TOLERANCE * scale;
        ensure!(close, "at batch size {batch} the file's answers differ from the network's by {worst:e}, of {scale:e}");
        largest = largest.max(worst);
    }
    Ok(largest)
}

/// Numbers in -1..1, `[batch, ...]` like the example.
fn drawn(example: &Tensor, batch: i64, input: u64) -> Tensor {
    let mut shape = example.size();
    shape[0] = batch;
    let mut rng = seed::at(0, batch as u64, input);
    let values: Vec<f32> = (0..shape.iter().product::<i64>()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_slice(&values).view(shape.as_slice()).to_device(example.device())
}
