//! From bytes to tensors, with every claim about them held against what is there.

use anyhow::{Result, anyhow, ensure};
use tch::{Device, Kind, Tensor};

use super::pickle::{Storage, TensorOf};

/// The vector of a whole storage's numbers; `bytes` must be exactly those.
pub(super) fn flat(bytes: &[u8], storage: &Storage) -> Result<Tensor> {
    let key = storage.key;
    let length = usize::try_from(storage.whole).ok().and_then(|n| n.checked_mul(storage.kind.elt_size_in_bytes()));
    ensure!(
        length == Some(bytes.len()),
        "its storage {key:?} has {} bytes, and its tensors say otherwise",
        bytes.len()
    );
    // A truth value of any other byte is undefined in C++.
    ensure!(
        storage.kind != Kind::Bool || bytes.iter().all(|&byte| byte < 2),
        "its storage {key:?} has truth values that are neither"
    );
    Tensor::f_from_data_size(bytes, &[storage.whole], storage.kind)
        .map_err(|_| anyhow!("its storage {key:?} can't be allocated"))
}

/// The tensor `of` as a view of its storage's `numbers`. Errors where it would reach outside the storage, or be larger
/// than the `file`: an axis of stride 0 repeats numbers, and a few bytes could claim any size.
pub(super) fn tensor(of: &TensorOf, numbers: &Tensor, file: u64) -> Result<Tensor> {
    let TensorOf { storage, offset, size, stride } = of;
    ensure!(size.len() == stride.len(), "it has {} axes and {} strides", size.len(), stride.len());
    ensure!(*offset >= 0 && size.iter().chain(stride).all(|&n| n >= 0), "its size, stride or offset is negative");
    // A product that leaves out zeros, so that an empty tensor's other axes are bounded too.
    let count = size.iter().filter(|&&n| n > 0).try_fold(1_i64, |count, &n| count.checked_mul(n));
    let bytes = count.and_then(|count| u64::try_from(count).ok()?.checked_mul(storage.kind.elt_size_in_bytes() as u64));
    ensure!(bytes.is_some_and(|bytes| bytes <= file), "its size {size:?} is larger than the file");
    let failed = |_| anyhow!("its size {size:?} and stride {stride:?} are not those of a tensor");
    if size.contains(&0) {
        return Tensor::f_empty(size, (storage.kind, Device::Cpu)).map_err(failed);
    }
    let last =
        size.iter().zip(stride).try_fold(*offset, |last, (&n, &step)| last.checked_add((n - 1).checked_mul(step)?));
    let inside = last.is_some_and(|last| last < storage.count);
    ensure!(
        inside,
        "its size {size:?}, stride {stride:?} and offset {offset} reach outside its storage of {}",
        storage.count
    );
    numbers.f_as_strided(size, stride, storage.first + offset).map_err(failed)
}
