//! Where to compute: never a quiet fall-back.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use tch::{Cuda, Device};

/// [`resolve_local`] for the only process of a machine.
pub fn resolve(wish: &str) -> Result<(Device, String)> {
    resolve_local(wish, 0)
}

/// The device for `auto`, `cpu`, `cuda` or `cuda:N`, and how to name it, of process `rank` of those on this machine:
/// `auto` and `cuda` give each a GPU of its own.
///
/// `auto` takes CUDA where there is one. An NVIDIA device that the system shows but libtorch cannot use is an error,
/// as is a CUDA device that is not there.
pub fn resolve_local(wish: &str, rank: usize) -> Result<(Device, String)> {
    let count = Cuda::device_count().max(0) as usize;
    let usable = Cuda::is_available() && count > 0;
    let name = |index: usize| {
        load_compilers();
        (Device::Cuda(index), format!("cuda:{index}"))
    };
    match wish {
        "cpu" => Ok((Device::Cpu, "cpu".into())),
        "auto" | "cuda" if usable && rank >= count => bail!(
            "this is process {rank} of its machine (LOCAL_RANK) and it sees {count} CUDA devices: start one process a device, say --device cuda:0 where each process sees its own alone, or --device cpu"
        ),
        "auto" if usable => Ok(name(rank)),
        "auto" if std::path::Path::new("/dev/nvidia0").exists() => bail!(
            "an NVIDIA device is visible, but this libtorch cannot use it: check the driver and that scripts/setup found a torch with CUDA, or say --device cpu"
        ),
        "auto" => Ok((Device::Cpu, "cpu".into())),
        "cuda" if usable => Ok(name(rank)),
        "cuda" => bail!(
            "--device cuda: libtorch sees no CUDA device here: say --device cpu, or check the driver and scripts/setup"
        ),
        other => match other.strip_prefix("cuda:").and_then(|index| index.parse::<usize>().ok()) {
            Some(index) if usable && index < count => Ok(name(index)),
            Some(index) => bail!(
                "--device cuda:{index}: libtorch sees {count} CUDA devices here: say --device cpu or one of those"
            ),
            None => bail!("--device {other}: say auto, cpu, cuda or cuda:N"),
        },
    }
}

/// The folders of NVIDIA's run-time compiler in a Python's site-packages, the newer layout first.
const COMPILERS: [&str; 2] = ["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"];

/// The folder that has the `torch` of which this process has loaded its libtorch. None where the system doesn't say.
pub fn site_packages() -> Option<PathBuf> {
    // The system's list of what is mapped: in each line all from the first slash on is a path.
    let maps = crate::files::text(Path::new("/proc/self/maps")).ok()?;
    let mut paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let torch = paths.find(|path| path.file_name().is_some_and(|name| name == "libtorch_cpu.so"))?;
    torch.ancestors().nth(3).map(Path::to_path_buf)
}

/// Loads NVRTC and its builtins from beside libtorch, as Python's torch does: cuDNN's engines and fused kernels that are
/// compiled at run time ask for them by name alone. Nothing where they are not there: the system's own search goes on.
pub fn load_compilers() {
    let Some(site) = site_packages() else { return };
    let entries = COMPILERS.iter().flat_map(|folder| std::fs::read_dir(site.join(folder))).flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("libnvrtc")
            && !name.contains(".alt.")
            && let Ok(path) = CString::new(path.as_os_str().as_encoded_bytes())
        {
            // SAFETY: a library without code of ours, which stays for the life of the process.
            unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_GLOBAL) };
        }
    }
}
