//! A step by libtorch's operations on lists of tensors: on a GPU one kernel, or a few, for all parameters together.

use std::ffi::c_void;

use tch::Tensor;

use super::update::{Entry, Update};

unsafe extern "C" {
    /// `src/native/optim.cpp`: `count` parameters, gradients and slots, `at::Tensor*` each; how many of them
    /// its fused kernels did not take, or -1 where libtorch threw.
    fn rankle_step(
        rule: i32,
        x: *const *mut c_void,
        gradient: *const *mut c_void,
        first: *const *mut c_void,
        second: *const *mut c_void,
        count: usize,
        decay: f64,
        constants: *const f64,
        rate: *mut c_void,
        steps: *mut c_void,
    ) -> i32;
    /// Scales `count` gradients, `at::Tensor*` each, as `Optimizer::clip` says; 0, or 1 where libtorch threw.
    fn rankle_clip(gradients: *const *mut c_void, count: usize, most: f64) -> i32;
    /// Takes the gradient of each `at::Tensor*` away.
    fn rankle_drop_gradients(x: *const *mut c_void, count: usize);
}

/// Takes all gradients away.
pub(super) fn drop_gradients<'a>(parameters: impl Iterator<Item = &'a mut Tensor>) {
    let all: Vec<*mut c_void> = parameters.map(|x| x.as_mut_ptr().cast()).collect();
    // SAFETY: valid `at::Tensor*` of tensors that are borrowed until this returns; no pointer is kept.
    unsafe { rankle_drop_gradients(all.as_ptr(), all.len()) }
}

/// Scales `gradients` down to the common norm `most`.
///
/// # Panics
/// Where libtorch fails, e.g. out of memory.
pub(super) fn clip(gradients: &[Tensor], most: f64) {
    let all: Vec<*mut c_void> = gradients.iter().map(pointer).collect();
    // SAFETY: valid `at::Tensor*` of tensors that are borrowed until this returns; no pointer is kept.
    let failed = !all.is_empty() && unsafe { rankle_clip(all.as_ptr(), all.len(), most) } != 0;
    assert!(!failed, "libtorch could not scale the gradients");
}

/// Steps all `entries`, of any float kinds, devices and layouts. Returns whether libtorch's fused kernels took them all,
/// which read from `dials` the rate (see [`Update::dials`]) and the count of steps.
///
/// # Panics
/// Where libtorch fails, e.g. out of memory.
pub(super) fn step(entries: &[Entry], update: Update, decay: f64, dials: &[Tensor; 2]) -> bool {
    let list = |of: &dyn Fn(&Entry) -> *mut c_void| entries.iter().map(of).collect::<Vec<*mut c_void>>();
    let slot = |at: usize| list(&|entry| entry.slots.get(at).map_or(std::ptr::null_mut(), pointer));
    let (rule, constants) = match update {
        Update::Sgd { momentum, rate } => (0, [rate, momentum, 0., 0., 0.]),
        Update::Adam { beta1, beta2, eps, root, rate } => (1, [rate, beta1, beta2, eps, root]),
        Update::AdaGrad { eps, rate } => (2, [rate, eps, 0., 0., 0.]),
    };
    let (x, gradient) = (list(&|entry| pointer(&entry.x)), list(&|entry| pointer(&entry.gradient)));
    let (first, second) = (slot(0), slot(1));
    // SAFETY: lists of `count` valid `at::Tensor*`, null only in the slots that the rule has not and does not read;
    // `entries` and `dials` keep the tensors alive, and no pointer is kept.
    let others = unsafe {
        rankle_step(
            rule,
            x.as_ptr(),
            gradient.as_ptr(),
            first.as_ptr(),
            second.as_ptr(),
            entries.len(),
            decay,
            constants.as_ptr(),
            pointer(&dials[0]),
            pointer(&dials[1]),
        )
    };
    assert!(others >= 0, "libtorch could not step the parameters");
    others == 0
}

fn pointer(t: &Tensor) -> *mut c_void {
    t.as_ptr().cast_mut().cast()
}
