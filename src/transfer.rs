//! From the host to a GPU without making the host wait: page-locked memory, copied on a stream of its own while earlier
//! work is still computed.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::Once;

use anyhow::{Result, ensure};
use tch::{Device, Tensor};

use crate::say::cry;

unsafe extern "C" {
    fn rankle_pin(tensor: *const c_void, out: *mut *mut c_void) -> i32;
    fn rankle_fetch(tensor: *const c_void, out: *mut *mut c_void, arrived: *mut *mut c_void) -> i32;
    fn rankle_arrived(arrived: *mut c_void) -> i32;
    fn rankle_upload(tensor: *const c_void, index: i32, out: *mut *mut c_void) -> i32;
    fn rankle_cuda_peak(index: i32, reset: i32) -> i64;
}

/// `x` in page-locked memory where it is bound for a GPU, else itself. For threads that prepare batches: copying into
/// such memory takes time, reading from it is what a GPU does by itself.
pub fn stage(x: Tensor, device: Device) -> Tensor {
    if !device.is_cuda() || x.device() != Device::Cpu {
        return x;
    }
    let mut out = std::ptr::null_mut();
    // SAFETY: a `Tensor` holds a valid `at::Tensor*`; the callee gives a new one, which the `Tensor` made of it owns.
    match unsafe { rankle_pin(x.as_ptr().cast(), &mut out) } {
        0 => unsafe { Tensor::from_ptr(out.cast()) },
        _ => {
            waits();
            x
        }
    }
}

/// Says once that copies are not what they should be. The numbers are the same, only the host waits: nobody should
/// have to find that out with a profiler.
fn waits() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        cry(
            "note: libtorch cannot copy to this GPU beside its work (page-locked memory, streams): the host waits for every batch",
        );
    });
}

/// `x` on `device`. From the CPU to a GPU the host does not wait: the copy runs beside the work that was queued before,
/// and what is queued after waits for it on the GPU. Other ways as [`Tensor::to_device`]. Without a graph.
pub fn upload(x: &Tensor, device: Device) -> Tensor {
    let (Device::Cuda(index), Device::Cpu) = (device, x.device()) else { return x.to_device(device) };
    let pinned = stage(x.detach(), device);
    let mut out = std::ptr::null_mut();
    // SAFETY: a `Tensor` holds a valid `at::Tensor*`; the callee gives a new one, which the `Tensor` made of it owns, and
    // libtorch keeps the page-locked memory until the copy is done.
    match unsafe { rankle_upload(pinned.as_ptr().cast(), index as i32, &mut out) } {
        0 => unsafe { Tensor::from_ptr(out.cast()) },
        _ => {
            waits();
            x.to_device(device)
        }
    }
}

/// Results of batches, on their way to the CPU in their order. The host waits for a GPU's batch only when two later ones
/// are queued, so that the GPU always has work, and never for more of them than it has memory for.
#[derive(Debug, Default)]
pub struct Fetch {
    /// On the CPU.
    here: Vec<Tensor>,
    coming: VecDeque<Coming>,
}

/// A tensor in page-locked memory, whole once the event has happened.
#[derive(Debug)]
struct Coming {
    x: Tensor,
    arrived: *mut c_void,
}

impl Drop for Coming {
    fn drop(&mut self) {
        // SAFETY: one of `rankle_fetch`'s, waited for once. An error of the GPU's comes back at its next call.
        unsafe { rankle_arrived(self.arrived) };
    }
}

impl Fetch {
    /// Batches under way.
    const AHEAD: usize = 2;

    /// The next batch `x`, on any device; without a graph.
    pub fn push(&mut self, x: &Tensor) {
        let (x, mut out, mut arrived) = (x.detach(), std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: a `Tensor` holds a valid `at::Tensor*`; what the callee gives is owned by what is made of it.
        if x.device().is_cuda() && unsafe { rankle_fetch(x.as_ptr().cast(), &mut out, &mut arrived) } == 0 {
            self.coming.push_back(Coming { x: unsafe { Tensor::from_ptr(out.cast()) }, arrived });
            self.settle(Fetch::AHEAD);
        } else {
            self.settle(0);
            self.here.push(x.to_device(Device::Cpu));
        }
    }

    /// Waits until at most `most` are under way.
    fn settle(&mut self, most: usize) {
        while self.coming.len() > most {
            let x = self.coming.pop_front().map(|coming| coming.x.shallow_clone());
            // Page-locked memory is for the next one.
            self.here.extend(x.map(|x| x.copy()));
        }
    }

    /// All batches one after another along the first axis, on the CPU; None where there are none.
    ///
    /// # Errors
    /// Where a number is NaN or infinite.
    pub fn all(mut self) -> Result<Option<Tensor>> {
        self.settle(0);
        // Batch by batch, before they are two.
        ensure!(
            self.here.iter().all(|x| x.isfinite().all().int64_value(&[]) != 0),
            "the network gives numbers that aren't finite: weights that were fetched are damaged (fetch them again), those of a run were trained with too high a rate (train with a lower --lr)"
        );
        Ok((!self.here.is_empty()).then(|| Tensor::cat(&self.here, 0)))
    }
}

/// The most bytes that tensors have taken on a GPU since the start, or since the last call with `reset`. None on a CPU.
pub fn peak_memory(device: Device, reset: bool) -> Option<u64> {
    let Device::Cuda(index) = device else { return None };
    // SAFETY: takes and returns numbers.
    u64::try_from(unsafe { rankle_cuda_peak(index as i32, reset.into()) }).ok()
}
