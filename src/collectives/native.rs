//! The functions of `src/native/collectives.cpp`, with owners for what they give; without the feature, none of it.

use tch::Tensor;

#[cfg(not(feature = "distributed"))]
pub(super) use absent::{Group, Reducer, Store, has_nccl, quiet};
#[cfg(feature = "distributed")]
pub(super) use present::{Group, Reducer, Store, has_nccl, quiet};

/// What libtorch said, or that this build cannot.
pub(super) type Said<T> = Result<T, String>;

#[cfg(feature = "distributed")]
mod present {
    use std::ffi::{CStr, CString, c_char, c_void};

    use super::{Said, Tensor};
    use crate::say::said;

    /// Room for a value's text.
    const TEXT: usize = 1024;

    type Text = *const c_char;
    type Room = *mut c_char;
    /// An `at::Tensor`.
    type At = *const c_void;
    type Tensors = *const At;
    type Handle = *mut c_void;
    type Out = *mut Handle;

    unsafe extern "C" {
        fn rankle_world_has_nccl() -> i32;
        fn rankle_world_quiet();
        fn rankle_store_open(
            host: Text,
            port: i32,
            server: i32,
            prefix: Text,
            seconds: f64,
            out: Out,
            error: Room,
            length: usize,
        ) -> i32;
        fn rankle_store_close(store: Handle);
        fn rankle_store_set(store: Handle, key: Text, value: Text, error: Room, length: usize) -> i32;
        fn rankle_store_get(store: Handle, key: Text, value: Room, size: usize, error: Room, length: usize) -> i32;
        fn rankle_store_count(store: Handle, key: Text, out: *mut i64, error: Room, length: usize) -> i32;
        fn rankle_world_open(
            store: Handle,
            host: Text,
            rank: i32,
            size: i32,
            cuda: i32,
            seconds: f64,
            out: Out,
            error: Room,
            length: usize,
        ) -> i32;
        fn rankle_world_close(world: Handle);
        fn rankle_world_sum(world: Handle, tensor: At, error: Room, length: usize) -> i32;
        fn rankle_world_broadcast(world: Handle, tensor: At, root: i32, error: Room, length: usize) -> i32;
        fn rankle_world_gather(world: Handle, out: At, own: At, error: Room, length: usize) -> i32;
        fn rankle_world_sum_with_grad(world: Handle, tensor: At, out: Out, error: Room, length: usize) -> i32;
        fn rankle_reducer_new(
            world: Handle,
            parameters: Tensors,
            count: usize,
            some_unused: i32,
            out: Out,
            error: Room,
            length: usize,
        ) -> i32;
        fn rankle_reducer_free(reducer: Handle);
        fn rankle_reducer_backward(reducer: Handle, loss: At, error: Room, length: usize) -> i32;
        fn rankle_world_sum_gradients(
            world: Handle,
            parameters: Tensors,
            count: usize,
            error: Room,
            length: usize,
        ) -> i32;
    }

    fn text(of: &str) -> CString {
        // A 0 within would end the text early; there is none in keys, and messages lose it.
        CString::new(of.replace('\0', " ")).unwrap_or_default()
    }

    fn pointers(tensors: &[Tensor]) -> Vec<At> {
        tensors.iter().map(|x| x.as_ptr().cast()).collect()
    }

    pub(in super::super) fn has_nccl() -> bool {
        // SAFETY: takes nothing and returns a number.
        unsafe { rankle_world_has_nccl() != 0 }
    }

    /// No more of libtorch's own warnings on standard error.
    pub(in super::super) fn quiet() {
        // SAFETY: sets one number that libtorch's logging reads.
        unsafe { rankle_world_quiet() }
    }

    /// A connection to the store.
    #[derive(Debug)]
    pub(in super::super) struct Store(Handle);

    // SAFETY: c10d's store guards its socket by a mutex; the handle itself is only read.
    unsafe impl Send for Store {}

    impl Store {
        pub fn open(host: &str, port: u16, serves: bool, prefix: &str, seconds: f64) -> Said<Store> {
            let (host, prefix, mut out) = (text(host), text(prefix), std::ptr::null_mut());
            // SAFETY: texts and `out` outlive the call.
            said(|error, length| unsafe {
                rankle_store_open(
                    host.as_ptr(),
                    port.into(),
                    serves.into(),
                    prefix.as_ptr(),
                    seconds,
                    &mut out,
                    error,
                    length,
                )
            })?;
            Ok(Store(out))
        }

        pub fn set(&self, key: &str, value: &str) -> Said<()> {
            let (key, value) = (text(key), text(value));
            // SAFETY: the handle is open, the texts outlive the call.
            said(|error, length| unsafe { rankle_store_set(self.0, key.as_ptr(), value.as_ptr(), error, length) })
        }

        /// The number at `key`, 0 at first, plus one.
        pub fn count(&self, key: &str) -> Said<i64> {
            let (key, mut out) = (text(key), 0);
            // SAFETY: as above; `out` outlives the call.
            said(|error, length| unsafe { rankle_store_count(self.0, key.as_ptr(), &mut out, error, length) })?;
            Ok(out)
        }

        /// Empty where there is none yet.
        pub fn get(&self, key: &str) -> Said<String> {
            let (key, mut value) = (text(key), [0 as c_char; TEXT]);
            // SAFETY: as above; the callee ends the value with a 0 within its room.
            said(|error, length| unsafe {
                rankle_store_get(self.0, key.as_ptr(), value.as_mut_ptr(), TEXT, error, length)
            })?;
            // SAFETY: see above.
            Ok(unsafe { CStr::from_ptr(value.as_ptr()) }.to_string_lossy().into_owned())
        }
    }

    impl Drop for Store {
        fn drop(&mut self) {
            // SAFETY: opened by `rankle_store_open` and closed once.
            unsafe { rankle_store_close(self.0) }
        }
    }

    /// A process group.
    #[derive(Debug)]
    pub(in super::super) struct Group(Handle);

    // SAFETY: collectives are issued by one thread at a time (the training loop's); c10d's own threads carry them out.
    unsafe impl Send for Group {}
    // SAFETY: as above.
    unsafe impl Sync for Group {}

    impl Group {
        pub fn open(
            store: &Store,
            host: &str,
            rank: usize,
            size: usize,
            cuda: Option<usize>,
            seconds: f64,
        ) -> Said<Self> {
            let (host, mut out) = (text(host), std::ptr::null_mut());
            let cuda = cuda.map_or(-1, |index| index as i32);
            // SAFETY: the store is open; the callee takes a reference of its own to it.
            said(|error, length| unsafe {
                let (rank, size) = (rank as i32, size as i32);
                rankle_world_open(store.0, host.as_ptr(), rank, size, cuda, seconds, &mut out, error, length)
            })?;
            Ok(Group(out))
        }

        pub fn sum(&self, x: &Tensor) -> Said<()> {
            // SAFETY: a `Tensor` holds a valid `at::Tensor*`; the callee waits for the collective before it returns.
            said(|error, length| unsafe { rankle_world_sum(self.0, x.as_ptr().cast(), error, length) })
        }

        pub fn broadcast(&self, x: &Tensor) -> Said<()> {
            // SAFETY: as above.
            said(|error, length| unsafe { rankle_world_broadcast(self.0, x.as_ptr().cast(), 0, error, length) })
        }

        pub fn gather(&self, out: &Tensor, own: &Tensor) -> Said<()> {
            // SAFETY: as above.
            said(|error, length| unsafe {
                rankle_world_gather(self.0, out.as_ptr().cast(), own.as_ptr().cast(), error, length)
            })
        }

        pub fn sum_with_grad(&self, x: &Tensor) -> Said<Tensor> {
            let mut out = std::ptr::null_mut();
            // SAFETY: the callee gives a new `at::Tensor*`, which the `Tensor` made of it owns. Its graph keeps the
            // group's address: a run's world outlives its graphs.
            said(|error, length| unsafe {
                rankle_world_sum_with_grad(self.0, x.as_ptr().cast(), &mut out, error, length)
            })?;
            // SAFETY: see above.
            Ok(unsafe { Tensor::from_ptr(out.cast()) })
        }

        pub fn sum_gradients(&self, parameters: &[Tensor]) -> Said<()> {
            let all = pointers(parameters);
            // SAFETY: the pointers are of tensors that outlive the call.
            said(|error, length| unsafe { rankle_world_sum_gradients(self.0, all.as_ptr(), all.len(), error, length) })
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            // SAFETY: opened by `rankle_world_open` and closed once.
            unsafe { rankle_world_close(self.0) }
        }
    }

    /// c10d's reducer.
    #[derive(Debug)]
    pub(in super::super) struct Reducer(Handle);

    impl Reducer {
        pub fn new(group: &Group, parameters: &[Tensor], some_unused: bool) -> Said<Reducer> {
            let (all, mut out) = (pointers(parameters), std::ptr::null_mut());
            // SAFETY: the callee keeps references of its own to group and parameters.
            said(|error, length| unsafe {
                rankle_reducer_new(group.0, all.as_ptr(), all.len(), some_unused.into(), &mut out, error, length)
            })?;
            Ok(Reducer(out))
        }

        pub fn backward(&self, loss: &Tensor) -> Said<()> {
            // SAFETY: a valid reducer and tensor.
            said(|error, length| unsafe { rankle_reducer_backward(self.0, loss.as_ptr().cast(), error, length) })
        }
    }

    impl Drop for Reducer {
        fn drop(&mut self) {
            // SAFETY: made by `rankle_reducer_new` and freed once.
            unsafe { rankle_reducer_free(self.0) }
        }
    }
}

#[cfg(not(feature = "distributed"))]
mod absent {
    use super::{Said, Tensor};

    const WITHOUT: &str = "this build is without several processes: build with --features distributed";

    pub(in super::super) fn has_nccl() -> bool {
        false
    }

    pub(in super::super) fn quiet() {}

    /// Never made.
    #[derive(Debug)]
    pub(in super::super) enum Store {}

    impl Store {
        pub fn open(_: &str, _: u16, _: bool, _: &str, _: f64) -> Said<Store> {
            Err(WITHOUT.into())
        }
        pub fn set(&self, _: &str, _: &str) -> Said<()> {
            match *self {}
        }
        pub fn get(&self, _: &str) -> Said<String> {
            match *self {}
        }
        pub fn count(&self, _: &str) -> Said<i64> {
            match *self {}
        }
    }

    /// Never made.
    #[derive(Debug)]
    pub(in super::super) enum Group {}

    impl Group {
        pub fn open(_: &Store, _: &str, _: usize, _: usize, _: Option<usize>, _: f64) -> Said<Self> {
            Err(WITHOUT.into())
        }
        pub fn sum(&self, _: &Tensor) -> Said<()> {
            match *self {}
        }
        pub fn broadcast(&self, _: &Tensor) -> Said<()> {
            match *self {}
        }
        pub fn gather(&self, _: &Tensor, _: &Tensor) -> Said<()> {
            match *self {}
        }
        pub fn sum_with_grad(&self, _: &Tensor) -> Said<Tensor> {
            match *self {}
        }
        pub fn sum_gradients(&self, _: &[Tensor]) -> Said<()> {
            match *self {}
        }
    }

    /// Never made.
    #[derive(Debug)]
    pub(in super::super) enum Reducer {}

    impl Reducer {
        pub fn new(group: &Group, _: &[Tensor], _: bool) -> Said<Reducer> {
            match *group {}
        }
        pub fn backward(&self, _: &Tensor) -> Said<()> {
            match *self {}
        }
    }
}
