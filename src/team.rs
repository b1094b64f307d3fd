//! Loops on the threads that libtorch itself computes with. Those of another pool would find these on their cores still:
//! OpenMP's wait awake for some milliseconds after each operation.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// OpenMP's `parallel` as gcc calls it: function, its argument, threads, flags.
type Parallel = unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

/// `work(scratch, i)` of each `i` below `n`, in their order; every thread has a scratch of its own and takes the next `i`
/// when it is done with one. What `work` asks of libtorch is computed by its thread alone. Where libtorch runs on an OpenMP
/// that is not GNU's, nor speaks its language, this thread does all, and libtorch shares out each operation.
///
/// # Panics
/// Where `work` does, after all threads are done.
pub(crate) fn map<S, R: Send>(
    n: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let found: Vec<Mutex<Option<R>>> = (0..n).map(|_| Mutex::new(None)).collect();
    let turns = || {
        let mut scratch = scratch();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(place) = found.get(i) else { return };
            let now = work(&mut scratch, i);
            *place.lock().expect("nothing panics while it is locked") = Some(now);
        }
    };
    // One place only, too, has a thread that computes alone: how many places there are changes no number.
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).min(n.max(2));
    match parallel() {
        Some(parallel) if threads > 1 => {
            let panic: Mutex<Option<Payload>> = Mutex::new(None);
            let known = KNOWN.with_borrow(Option::clone).unwrap_or_default();
            together(parallel, threads, &|| {
                if let Err(why) = said_once(known.clone(), turns) {
                    next.store(n, Ordering::Relaxed);
                    *panic.lock().expect("nothing panics while it is locked") = Some(why);
                }
            });
            if let Some(why) = panic.into_inner().expect("nothing panics while it is locked") {
                resume_unwind(why);
            }
        }
        _ => turns(),
    }
    let own = |place: Mutex<Option<R>>| place.into_inner().ok().flatten().expect("every place had its turn");
    found.into_iter().map(own).collect()
}

/// What a panic leaves.
type Payload = Box<dyn Any + Send>;

/// What is known of the panics of those who do one work.
#[derive(Default)]
pub(crate) struct Panics {
    /// Somebody takes them: none is said.
    pub taken: bool,
    /// Where in the source the first was, `FILE:LINE`, where [`says_panic`] was asked.
    pub place: OnceLock<String>,
}

thread_local! {
    /// Of the work that this thread does with others, or does for somebody who takes its panic.
    static KNOWN: RefCell<Option<Arc<Panics>>> = const { RefCell::new(None) };
}

/// What `work` gives. Of all that do a work with this `known` the first panic alone is said, none where they are taken.
///
/// # Errors
/// What the panic leaves.
pub(crate) fn said_once<T>(known: Arc<Panics>, work: impl FnOnce() -> T) -> Result<T, Payload> {
    let before = KNOWN.replace(Some(known));
    let done = catch_unwind(AssertUnwindSafe(work));
    KNOWN.set(before);
    done
}

/// Whether a panic of this thread at `place`, of which this is asked once, is to be said.
pub(crate) fn says_panic(place: &str) -> bool {
    let first = |known: &RefCell<Option<Arc<Panics>>>| {
        known.borrow().as_ref().is_none_or(|known| known.place.set(place.to_string()).is_ok() && !known.taken)
    };
    // A thread that ends has none any more.
    KNOWN.try_with(first).unwrap_or(true)
}

/// Numbers that a thread takes at once of a table's.
const PART: usize = 1 << 14;

/// `work(scratch, i, row)` of all rows of `width` of a table, in their order, as [`map`] has it.
pub(crate) fn rows<T: Send, S, R: Send>(
    table: &mut [T],
    width: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) -> R + Sync,
) -> Vec<R> {
    let at_once = (PART / width).max(1);
    let parts: Vec<Mutex<&mut [T]>> = table.chunks_mut(at_once * width).map(Mutex::new).collect();
    let found = map(parts.len(), scratch, |scratch, part| -> Vec<R> {
        let mut rows = parts[part].lock().expect("taken once");
        rows.chunks_mut(width).enumerate().map(|(i, row)| work(scratch, part * at_once + i, row)).collect()
    });
    found.into_iter().flatten().collect()
}

/// Runs `work` on each of `threads` threads, this one among them; it may not panic.
fn together<F: Fn() + Sync>(parallel: Parallel, threads: usize, work: &F) {
    unsafe extern "C" fn run<F: Fn()>(work: *mut c_void) {
        // SAFETY: `together` gives a `&F`, which lives until all threads are done.
        unsafe { (*work.cast::<F>().cast_const())() }
    }
    // SAFETY: the function is gcc's `GOMP_parallel`, which returns when all threads have; `work` is `Sync`.
    unsafe { parallel(run::<F>, std::ptr::from_ref(work).cast_mut().cast(), threads as c_uint, 0) }
}

/// That of the library that libtorch runs on.
fn parallel() -> Option<Parallel> {
    // SAFETY: looks a function up by its name, and gives it the type that gcc has for it.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr());
        (!found.is_null()).then(|| std::mem::transmute::<*mut c_void, Parallel>(found))
    }
}
