//! TorchScript files that Python, C++ and mobile runtimes load: weights by name, on any device, at any batch size.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rand::Rng;
use tch::{CModule, Kind, Tensor, nn::VarStore};
use torch_sys::C_tensor;

use crate::files::folder_of;

type Forward<'a> = &'a dyn Fn(&[Tensor]) -> Tensor;

unsafe extern "C" {
    fn rankle_free(text: *mut c_char);
    #[allow(clippy::too_many_arguments)] // the shape of the C++ side
    fn rankle_trace(
        names: *const *const c_char,
        tensors: *const *mut C_tensor,
        trainable: *const c_int,
        count: c_int,
        inputs: *const *mut C_tensor,
        input_names: *const *const c_char,
        input_count: c_int,
        forward: extern "C" fn(*mut c_void, *mut *mut C_tensor, c_int) -> *mut C_tensor,
        context: *mut c_void,
        path: *const c_char,
    ) -> *mut c_char;
}

/// What an export wrote, and how near it is to the network it came from.
#[derive(Debug, Clone)]
pub struct Exported {
    /// The file.
    pub path: PathBuf,
    /// Parameters that can be trained.
    pub parameters: usize,
    /// Other tensors, such as running statistics.
    pub buffers: usize,
    /// The largest difference of any output number, over all batch sizes compared.
    pub worst: f64,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "exported {} parameters and {} buffers; loaded again, outputs at batch sizes {BATCHES:?} differ by {:.1e} at the most",
            self.parameters, self.buffers, self.worst
        )
    }
}

/// Batch sizes at which an export is compared before it counts as written.
pub const BATCHES: [i64; 3] = [1, 2, 7];

/// The largest relative difference of outputs that an export may have.
pub const TOLERANCE: f64 = 1e-5;

/// Traces `forward` with `examples` as inputs and saves it to `path` as TorchScript.
///
/// The trainable variables of `store` become named parameters (dots are submodules), the others named buffers.
/// `forward` must be the network in evaluation, must not read the size of the batch axis, and takes as many inputs as
/// there are examples (f32, batch first, on the store's device).
///
/// The file is written beside `path`, loaded again, and compared with `forward` on drawn inputs at batch sizes
/// [`BATCHES`]; only when all outputs agree to [`TOLERANCE`] does it become `path`. Otherwise nothing is left.
pub fn torchscript(store: &VarStore, forward: Forward, examples: &[Tensor], path: &Path) -> Result<Exported> {
    let folder = folder_of(path);
    let place = || format!("cannot write {}: free space, or choose a folder that can be written", path.display());
    let draft = tempfile::Builder::new().suffix(".pt").tempfile_in(folder).with_context(place)?;
    let mut variables: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    trace(&variables, forward, examples, draft.path()).with_context(|| format!("cannot export {}", path.display()))?;
    let worst = compare(store, forward, examples, draft.path())
        .with_context(|| format!("the export to {} is not kept", path.display()))?;
    let keep = || -> std::io::Result<()> {
        draft.as_file().sync_all()?;
        #[cfg(unix)]
        std::fs::set_permissions(draft.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        draft.persist(path).map_err(|error| error.error)?;
        std::fs::File::open(folder)?.sync_all()
    };
    keep().with_context(place)?;
    let parameters = variables.iter().filter(|(_, x)| x.requires_grad()).count();
    Ok(Exported { path: path.to_path_buf(), parameters, buffers: variables.len() - parameters, worst })
}

fn trace(variables: &[(String, Tensor)], forward: Forward, examples: &[Tensor], path: &Path) -> Result<()> {
    let text = |text: &str| CString::new(text).context("a name holds a zero byte");
    let names = variables.iter().map(|(name, _)| text(name)).collect::<Result<Vec<_>>>()?;
    let input_names = (0..examples.len())
        .map(|i| text(&if examples.len() == 1 { "input".into() } else { format!("input{i}") }))
        .collect::<Result<Vec<_>>>()?;
    let path = text(&path.to_string_lossy())?;
    let pointers = |names: &[CString]| names.iter().map(|name| name.as_ptr()).collect::<Vec<_>>();
    let (name_pointers, input_name_pointers) = (pointers(&names), pointers(&input_names));
    let tensors: Vec<*mut C_tensor> = variables.iter().map(|(_, x)| x.as_ptr().cast_mut()).collect();
    let trainable: Vec<c_int> = variables.iter().map(|(_, x)| c_int::from(x.requires_grad())).collect();
    let inputs: Vec<*mut C_tensor> = examples.iter().map(|x| x.as_ptr().cast_mut()).collect();
    let mut forward: Forward = forward;
    // SAFETY: every pointer outlives the call, the counts are the lengths, and the callback gets back the reference
    // that it was given.
    let failed = tch::no_grad(|| unsafe {
        rankle_trace(
            name_pointers.as_ptr(),
            tensors.as_ptr(),
            trainable.as_ptr(),
            variables.len() as c_int,
            inputs.as_ptr(),
            input_name_pointers.as_ptr(),
            examples.len() as c_int,
            call,
            (&raw mut forward).cast(),
            path.as_ptr(),
        )
    });
    if failed.is_null() {
        return Ok(());
    }
    // SAFETY: a C string that C++ made for us, given back right after.
    let reason = unsafe {
        let reason = CStr::from_ptr(failed).to_string_lossy().into_owned();
        rankle_free(failed);
        reason
    };
    bail!("tracing failed: {reason}")
}

/// Called by C++ with the context that [`trace`] gave it.
extern "C" fn call(context: *mut c_void, inputs: *mut *mut C_tensor, count: c_int) -> *mut C_tensor {
    // SAFETY: `context` is the `Forward` on trace's stack; `inputs` are `count` live tensors, of which clone_from_ptr
    // takes references of its own.
    let (forward, inputs) = unsafe {
        let forward = *context.cast::<Forward>();
        let inputs = std::slice::from_raw_parts(inputs, count as usize);
        (forward, inputs.iter().map(|&input| Tensor::clone_from_ptr(input)).collect::<Vec<_>>())
    };
    // A panic must not unwind through C++. The reference is taken over by C++, which deletes it.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| forward(&inputs))) {
        Ok(output) => {
            let output = std::mem::ManuallyDrop::new(output);
            output.as_ptr().cast_mut()
        }
        Err(_) => std::ptr::null_mut(),
    }
}

/// The largest difference between the file and `forward`; an error where it is above the tolerance.
fn compare(store: &VarStore, forward: Forward, examples: &[Tensor], path: &Path) -> Result<f64> {
    let module = CModule::load_on_device(path, store.device()).map_err(|error| {
        let text = error.to_string();
        anyhow!("it cannot be loaded again ({})", text.lines().next().unwrap_or(""))
    })?;
    let mut worst = 0_f64;
    for batch in BATCHES {
        let mut rng = crate::seed::at(0, batch as u64, 0);
        let mut drawn = |like: &Tensor| {
            let mut size = like.size();
            size[0] = batch;
            let count = size.iter().product::<i64>() as usize;
            let numbers: Vec<f32> = (0..count).map(|_| rng.random_range(-2.0..2.0)).collect();
            Tensor::from_slice(&numbers).view(&size[..]).to_device(store.device())
        };
        let inputs: Vec<Tensor> = examples.iter().map(&mut drawn).collect();
        let (ours, theirs) = tch::no_grad(|| (forward(&inputs), module.forward_ts(&inputs)));
        let theirs = theirs.map_err(|_| anyhow!("loaded again, it does not run at batch size {batch}"))?;
        if theirs.size() != ours.size() {
            bail!("loaded again, it gives {:?} instead of {:?}", theirs.size(), ours.size());
        }
        let difference =
            ((&ours - theirs).abs() / ours.abs().clamp_min(1.)).max().to_kind(Kind::Double).double_value(&[]);
        if difference.is_nan() || difference > TOLERANCE {
            bail!("loaded again, it differs from the network by {difference:.1e} at batch size {batch}");
        }
        worst = worst.max(difference);
    }
    Ok(worst)
}
