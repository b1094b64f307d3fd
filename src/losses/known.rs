//! Losses whose gradient was computed beside their value.

use std::ffi::c_void;

use tch::Tensor;

unsafe extern "C" {
    /// `src/native/ops.cpp`: three `at::Tensor*` to a new one, null where libtorch threw.
    fn rankle_known(x: *const c_void, gradient: *const c_void, value: *const c_void) -> *mut c_void;
}

/// The scalar `value`, in the kind and on the device of `x`, whose derivative with respect to `x` is `gradient` (the size
/// of `x`, no graph of its own).
///
/// # Panics
/// Where libtorch fails, e.g. out of memory.
pub(super) fn known(x: &Tensor, gradient: &Tensor, value: &Tensor) -> Tensor {
    let pointer = |t: &Tensor| t.as_ptr().cast::<c_void>();
    // SAFETY: valid `at::Tensor*`, borrowed until this returns; what the graph keeps it counts itself.
    let made = unsafe { rankle_known(pointer(x), pointer(gradient), pointer(value)) };
    assert!(!made.is_null(), "libtorch could not take a loss into its graph");
    // SAFETY: a new `at::Tensor` that nothing else owns.
    unsafe { Tensor::from_ptr(made.cast()) }
}
