//! Named tensors in files: `.safetensors` and NumPy's `.npz` read and written, PyTorch's `.pth` and `.pt` state dicts
//! read.
//!
//! What a file is, its content says and not its name. Nothing in a file is run (a pickle is a program), and nothing is
//! allocated on a file's word: every size is held against the file's own first.

mod lasagne;
mod load;
mod npz;
mod pickle;
mod safetensors;
mod start;
mod storage;
mod torch;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};
use tch::{Device, Tensor};

use crate::{catalog, files};

pub use self::npz::{is_whole_zip, save_npz, seal_zip};
pub use self::safetensors::{HASH, is_whole, metadata, read_safetensors, read_sealed, save};
pub use load::{LoadReport, is_finite, load_into};
pub use start::{Conversion, Published, start};

/// Files of weights that were read, with the hashes of their content: BLAKE3, of a checkpoint the one that it carries.
pub type Files = Rc<RefCell<BTreeMap<PathBuf, String>>>;

/// Tensors by name, in a file's order.
pub type Named = Vec<(String, Tensor)>;

/// Reads the tensors of a `.safetensors` file, of a PyTorch state dict (`torch.save`, as a zip or in the form before
/// that) or of NumPy's `.npz` (plain numbers alone), onto the CPU: the first ordered by name, the others as in the file.
/// A dictionary that holds the tensors under `state_dict`, `model` or the like is looked into. Tensors that shared memory when they were saved share it again.
///
/// Errors, in a line that names the file, where it can't be read, is neither, is damaged or cut short, or
/// holds anything but named tensors.
pub fn read(path: &Path) -> Result<Named> {
    let tensors = match format(path)? {
        Format::SafeTensors => return Ok(read_safetensors(path)?.0),
        Format::Zip => torch::read_zip(path),
        Format::Legacy => torch::read_legacy(path),
    };
    tensors.with_context(|| format!("cannot read weights from {}", path.display()))
}

#[derive(Debug, PartialEq)]
enum Format {
    SafeTensors,
    Zip,
    Legacy,
}

/// torch.save's first pickle before its zip: protocol 2, and the number 0x1950a86a20f9469cfc6c.
const LEGACY: [u8; 14] = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Why a file of weights cannot be read, and what gets it where it is not there.
pub(crate) fn unread(path: &Path, error: io::Error) -> anyhow::Error {
    if error.kind() != ErrorKind::NotFound {
        return anyhow::Error::from(error).context(format!("cannot read {}", path.display()));
    }
    let command = catalog::name_of(path).map(catalog::fetch);
    let cure = command.map_or("name the file of weights".into(), |command| format!("{command} gets it"));
    anyhow!("cannot read {}: no such file; {cure}", path.display())
}

/// What the first bytes of a file say it is.
fn format(path: &Path) -> Result<Format> {
    let cannot = || format!("cannot read {}", path.display());
    let mut head = Vec::new();
    let file = files::open(path).map_err(|error| unread(path, error))?;
    file.take(512).read_to_end(&mut head).with_context(cannot)?;
    if head.starts_with(b"PK\x03\x04") {
        return Ok(Format::Zip);
    }
    if head.starts_with(&LEGACY) {
        return Ok(Format::Legacy);
    }
    // The length of a JSON header (100 MB at most), then the header.
    if head.len() > 8 && head[4..8] == [0; 4] && head[8] == b'{' {
        return Ok(Format::SafeTensors);
    }
    if head.get(257..262) == Some(b"ustar") {
        bail!("{} is of the tar format of PyTorch 0.1: load it with torch.load and save it again", path.display());
    }
    bail!("{} is neither .safetensors nor a state dict of torch.save nor .npz: is it a whole download?", path.display())
}

/// The numbers of a tensor as bytes, in row-major order, some MiB at a time: a file that is mapped is not copied whole.
fn bytes(x: &Tensor) -> impl Iterator<Item = Result<Vec<u8>>> + use<> {
    const AT_ONCE: usize = 1 << 22;
    let (all, size) = (x.numel(), x.kind().elt_size_in_bytes());
    let x = x.detach().to_device(Device::Cpu).contiguous().flatten(0, -1);
    (0..all).step_by(AT_ONCE).map(move |from| {
        let count = AT_ONCE.min(all - from);
        let mut bytes = vec![0_u8; count * size];
        let copied = x.narrow(0, from as i64, count as i64).f_copy_data_u8(&mut bytes, count);
        copied.map_err(|_| anyhow!("a tensor has no numbers to copy"))?;
        Ok(bytes)
    })
}
