//! A GPU's work as one CUDA graph: captured once, then launched as a whole, without the host's work for each kernel.

use std::ffi::{c_char, c_void};

use anyhow::{Error, Result, anyhow, bail, ensure};
use tch::{Device, Tensor};

use crate::say::{self, caught, first_line};
use crate::transfer::upload;

unsafe extern "C" {
    // src/native/graph.cpp; all give 0, or 1 with a text in `error`.
    fn rankle_graph_new(index: i32, out: *mut *mut c_void, error: *mut c_char, length: usize) -> i32;
    fn rankle_graph_free(capture: *mut c_void);
    fn rankle_graph_enter(capture: *mut c_void, captured: i32, error: *mut c_char, length: usize) -> i32;
    fn rankle_graph_leave(capture: *mut c_void, captured: i32, error: *mut c_char, length: usize) -> i32;
    fn rankle_graph_replay(capture: *mut c_void, error: *mut c_char, length: usize) -> i32;
}

/// Calls that are done as they are before one is captured: by then cuDNN has searched, and lasting memory was taken.
const WARM: u32 = 3;

#[derive(Debug)]
enum State {
    /// So many calls were done as they are.
    Warm(u32),
    /// What a replay leaves.
    Ready(Vec<Tensor>),
    Failed,
}

/// Work on a GPU that is the same at every call but for its inputs, e.g. a training step.
///
/// A captured call runs no host code and sees the host's numbers of the time of its capture. So the work must not wait for
/// the GPU nor take anything from the host's memory (labels come as inputs), must keep shapes, and must find what changes
/// between calls in tensors: for an optimiser, [`prepare`](crate::optim::Optimizer::prepare) before each call and
/// [`apply`](crate::optim::Optimizer::apply) within. Gradients are to be dropped in the work before its backward pass.
#[derive(Debug)]
pub struct Captured {
    capture: *mut c_void,
    device: Device,
    /// Where a replay reads its inputs.
    inputs: Vec<Tensor>,
    state: State,
}

impl Captured {
    /// Nothing captured yet. Errors where `device` is no GPU, and where this program was built without CUDA's headers.
    pub fn new(device: Device) -> Result<Captured> {
        let Device::Cuda(index) = device else { bail!("a CUDA graph needs a GPU") };
        let mut capture = std::ptr::null_mut();
        // SAFETY: the callee writes a pointer, which is ours to free.
        said(|error, length| unsafe { rankle_graph_new(index as i32, &mut capture, error, length) })?;
        Ok(Captured { capture, device, inputs: Vec::new(), state: State::Warm(0) })
    }

    /// Does `work` once on `inputs`, which it gets on the GPU; they may come from page-locked memory ([`crate::transfer::stage`])
    /// without a wait. The first three calls run it as it is, the fourth captures it, and from there on the captured work
    /// is done, whatever `work` is. What it gives comes without a graph and is overwritten by the next call.
    ///
    /// # Errors
    /// Where inputs are not shaped as the first ones; where `work` panics; where it cannot be captured, and in every later
    /// call. Nothing of that call was done then, but for what `work` did on the host, and in the first three calls what it
    /// did on the GPU before it failed: go on without this.
    pub fn run(&mut self, inputs: &[Tensor], work: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Result<Vec<Tensor>> {
        let like = |(a, b): (&Tensor, &Tensor)| a.size() == b.size() && a.kind() == b.kind();
        if self.inputs.is_empty() {
            self.inputs = inputs.iter().map(|x| upload(x, self.device).copy()).collect();
        } else {
            ensure!(
                self.inputs.len() == inputs.len() && self.inputs.iter().zip(inputs).all(like),
                "a captured step takes inputs of one shape"
            );
            self.inputs.iter_mut().zip(inputs).for_each(|(own, x)| own.copy_(&upload(x, self.device)));
        }
        match &mut self.state {
            State::Warm(calls) if *calls < WARM => {
                *calls += 1;
                return self.beside(false, work);
            }
            State::Warm(_) => {
                self.state = State::Failed;
                let outputs =
                    self.beside(true, work).map_err(|error| anyhow!("the step cannot be captured: {error}"))?;
                self.state = State::Ready(outputs);
            }
            State::Ready(_) => {}
            State::Failed => bail!("the step could not be captured"),
        }
        // SAFETY: ours, and captured.
        said(|error, length| unsafe { rankle_graph_replay(self.capture, error, length) })?;
        let State::Ready(outputs) = &self.state else { unreachable!("just captured") };
        Ok(outputs.iter().map(Tensor::shallow_clone).collect())
    }

    /// `work` on the stream beside the current one, done or captured.
    fn beside(&self, captured: bool, work: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Result<Vec<Tensor>> {
        let flag = i32::from(captured);
        // SAFETY: ours; left again below, on the same thread, also where the work panics.
        said(|error, length| unsafe { rankle_graph_enter(self.capture, flag, error, length) })?;
        let done = caught(|| work(&self.inputs).iter().map(Tensor::detach).collect());
        let left = said(|error, length| unsafe { rankle_graph_leave(self.capture, flag, error, length) });
        let outputs = done.map_err(|panic| anyhow!("{}", first_line(&panic)))?;
        left.map(|()| outputs)
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // SAFETY: ours, and never used again.
        unsafe { rankle_graph_free(self.capture) }
    }
}

fn said(call: impl FnOnce(*mut c_char, usize) -> i32) -> Result<()> {
    say::said(call).map_err(Error::msg)
}
