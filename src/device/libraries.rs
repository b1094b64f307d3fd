//! CUDA's libraries, which a program loads while it runs: linked to it they would cost every start 350 MB of memory and
//! 0.2 s of CPU time, also where there is no GPU.

use std::ffi::{CStr, CString, OsStr, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::say;

/// The folders of NVIDIA's run-time compiler in a Python's site-packages, the newer layout first.
const COMPILERS: [&str; 2] = ["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"];

/// Called before `main` in every program that has this crate in it, as C calls what stands in this section, so that CUDA
/// is there when libtorch is first asked for its devices: it keeps its answer.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_THE_START: extern "C" fn() = load_cuda;

/// Loads libtorch's part for CUDA where there is an NVIDIA driver and libtorch has one.
extern "C" fn load_cuda() {
    let part = libtorch().map(|folder| folder.join("libtorch_cuda.so")).filter(|part| part.exists());
    if let Some(part) = part
        && load(Path::new("libcuda.so.1"), libc::RTLD_LAZY).is_ok()
        && let Err(why) = load(&part, libc::RTLD_NOW | libc::RTLD_GLOBAL)
    {
        say::cry(format!(
            "note: there is an NVIDIA driver, but libtorch's part for GPUs does not load, and only the CPU can be used: {why}"
        ));
    }
}

/// Loads a library, by its path or where the system looks for its name. It stays for the life of the process.
fn load(path: &Path, flags: c_int) -> Result<(), String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: a library of libtorch's or NVIDIA's, none of which wants more of a program than being loaded. The loader's
    // text is this thread's until its next call.
    unsafe {
        match libc::dlopen(name.as_ptr(), flags).is_null() {
            true => Err(CStr::from_ptr(libc::dlerror()).to_string_lossy().into_owned()),
            false => Ok(()),
        }
    }
}

/// The folder of the libtorch that this process has loaded. None where it has none.
fn libtorch() -> Option<PathBuf> {
    // SAFETY: a zeroed Dl_info is one. Its name, where it gets one, stays as long as the library.
    let path = unsafe {
        let mut found: libc::Dl_info = std::mem::zeroed();
        // A function of libtorch_cpu.so's interface for C.
        let function = libc::dlsym(libc::RTLD_DEFAULT, c"aoti_torch_device_type_cpu".as_ptr());
        (libc::dladdr(function, &mut found) != 0).then(|| CStr::from_ptr(found.dli_fname))?
    };
    Path::new(OsStr::from_bytes(path.to_bytes())).parent().map(Path::to_path_buf)
}

/// The folder that has the `torch` of which this process has loaded its libtorch. None where there is none.
pub fn site_packages() -> Option<PathBuf> {
    libtorch()?.canonicalize().ok()?.ancestors().nth(2).map(Path::to_path_buf)
}

/// Loads NVRTC and its builtins from beside libtorch, as Python's torch does: cuDNN's engines and fused kernels that are
/// compiled at run time ask for them by name alone. Nothing where they are not there: the system's own search goes on.
pub fn load_compilers() {
    let Some(site) = site_packages() else { return };
    let entries = COMPILERS.iter().flat_map(|folder| std::fs::read_dir(site.join(folder))).flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("libnvrtc") && !name.contains(".alt.") {
            let _ = load(&path, libc::RTLD_LAZY | libc::RTLD_GLOBAL);
        }
    }
}
