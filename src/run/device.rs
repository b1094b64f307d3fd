//! Where to compute: never a quiet fall-back.

use anyhow::{Result, bail};
use tch::{Cuda, Device};

/// The device for `auto`, `cpu`, `cuda` or `cuda:N`, and how to name it.
///
/// `auto` takes CUDA where there is one. An NVIDIA device that the system shows but libtorch cannot use is an error,
/// as is a CUDA device that is not there.
pub fn resolve(wish: &str) -> Result<(Device, String)> {
    let count = Cuda::device_count().max(0) as usize;
    let usable = Cuda::is_available() && count > 0;
    let name = |index: usize| (Device::Cuda(index), format!("cuda:{index}"));
    match wish {
        "cpu" => Ok((Device::Cpu, "cpu".into())),
        "auto" if usable => Ok(name(0)),
        "auto" if std::path::Path::new("/dev/nvidia0").exists() => bail!(
            "an NVIDIA device is visible, but this libtorch cannot use it: check the driver and that scripts/setup found a torch with CUDA, or say --device cpu"
        ),
        "auto" => Ok((Device::Cpu, "cpu".into())),
        "cuda" if usable => Ok(name(0)),
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
