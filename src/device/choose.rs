//! Where to compute: never a quiet fall-back.

use anyhow::{Result, bail};
use tch::{Cuda, Device};

use super::load_compilers;

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
