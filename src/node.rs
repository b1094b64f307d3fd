//! A function with a gradient of its own in libtorch's graph: what computes it in one pass over memory has no history.

use std::ffi::{c_char, c_void};

use tch::Tensor;

use crate::say::{caught_at, first_line, said};

/// Whether what is computed on this thread now gets a history.
pub fn keeps_gradients() -> bool {
    // SAFETY: reads a switch of this thread's.
    unsafe { rankle_keeps_gradients() }
}

/// The numbers of `y`, which has no history, as a function of `inputs`. From the slope of the result and whether each
/// input needs one, `backward` gives a slope of each input's shape, or none for 0. It is called without gradients being
/// kept, at most once a backward pass, and dropped with the graph. It may keep tensors, but their histories with them: keep
/// [`Tensor::detach`]'s. There is no second derivative: asking for one is an error. `y` as it is where no input needs a
/// gradient.
///
/// # Panics
/// Where libtorch fails, e.g. with `y` of whole numbers. A panic of `backward` is an error of the backward pass, which says
/// where it was.
pub fn node<F>(y: Tensor, inputs: &[&Tensor], backward: F) -> Tensor
where
    F: Fn(Tensor, &[bool]) -> Vec<Option<Tensor>> + Send + 'static,
{
    if !keeps_gradients() || !inputs.iter().any(|x| x.requires_grad()) {
        return y;
    }
    let inputs: Vec<*const c_void> = inputs.iter().map(|x| x.as_ptr().cast()).collect();
    let closure = Box::into_raw(Box::new(backward)).cast();
    let mut out = std::ptr::null_mut();
    // SAFETY: valid `at::Tensor*`, borrowed until this returns; the callee owns the closure, whose type the two functions
    // have, and calls from one thread at a time.
    let made = said(|why, length| unsafe {
        let (y, inputs, count) = (y.as_ptr().cast(), inputs.as_ptr(), inputs.len());
        rankle_node(y, inputs, count, closure, call::<F>, forget::<F>, &mut out, why, length)
    });
    made.unwrap_or_else(|why| panic!("libtorch could not take a function into its graph: {why}"));
    // SAFETY: a new `at::Tensor` that nothing else owns.
    unsafe { Tensor::from_ptr(out.cast()) }
}

/// `slope` is given away; `slopes` are `count` places of nothing, for tensors that are given away. 0, or 1 after writing why
/// into a room of `length`.
type Call = unsafe extern "C" fn(
    closure: *const c_void,
    slope: *mut c_void,
    needed: *const bool,
    slopes: *mut *mut c_void,
    count: usize,
    why: *mut c_char,
    length: usize,
) -> i32;

unsafe extern "C" {
    /// `src/native/ops.cpp`.
    fn rankle_keeps_gradients() -> bool;
    fn rankle_node(
        y: *const c_void,
        inputs: *const *const c_void,
        count: usize,
        closure: *mut c_void,
        call: Call,
        forget: unsafe extern "C" fn(*mut c_void),
        out: *mut *mut c_void,
        why: *mut c_char,
        length: usize,
    ) -> i32;
}

unsafe extern "C" fn call<F: Fn(Tensor, &[bool]) -> Vec<Option<Tensor>>>(
    closure: *const c_void,
    slope: *mut c_void,
    needed: *const bool,
    slopes: *mut *mut c_void,
    count: usize,
    why: *mut c_char,
    length: usize,
) -> i32 {
    // SAFETY: as `Call` says; the closure is an `F` that lives until this returns.
    let (closure, slope, needed, slopes, why) = unsafe {
        (
            &*closure.cast::<F>(),
            Tensor::from_ptr(slope.cast()),
            std::slice::from_raw_parts(needed, count),
            std::slice::from_raw_parts_mut(slopes, count),
            std::slice::from_raw_parts_mut(why.cast::<u8>(), length),
        )
    };
    let found = caught_at(|| {
        let found = closure(slope, needed);
        assert_eq!(found.len(), count, "a slope, or none, of each input");
        found
    });
    match found {
        Ok(found) => {
            for (place, slope) in slopes.iter_mut().zip(found) {
                if let Some(slope) = slope {
                    *place = std::mem::ManuallyDrop::new(slope).as_mut_ptr().cast();
                }
            }
            0
        }
        Err((text, place)) => {
            // In front: lack of memory is known by how its text goes on.
            let text = place.map_or_else(String::new, |place| format!("{place}: ")) + first_line(&text);
            let text = text.as_bytes();
            let end = text.len().min(length - 1);
            why[..end].copy_from_slice(&text[..end]);
            why[end] = 0;
            1
        }
    }
}

unsafe extern "C" fn forget<F>(closure: *mut c_void) {
    // SAFETY: what `node` made of a box of an `F`, once.
    drop(unsafe { Box::from_raw(closure.cast::<F>()) });
}
