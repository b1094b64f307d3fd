//! A prefetching loader whose answers do not depend on its number of threads.
//!
//! Threads claim indices in order and stop a fixed number of items ahead of the consumer, who gets the items strictly
//! in order. The work for an index must depend on the index alone (draw from [`crate::seed::at`]); then one thread and
//! fifty give the same items.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// An iterator over `make(index)` for the indices of a range, made ahead of time by worker threads and delivered in
/// order. An item that failed is an `Err` in its place; the items after it still follow. Dropping the loader stops
/// the threads as soon as each has finished the item in its hands.
pub struct Loader<T> {
    shared: Arc<Shared<T>>,
    threads: Vec<JoinHandle<()>>,
    waited: Duration,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Signalled when an item is finished: the consumer may have waited for it.
    ready: Condvar,
    /// Signalled when an item is taken or the loader is dropped: workers may go on.
    room: Condvar,
    depth: u64,
}

struct State<T> {
    /// The next index that a worker takes.
    claim: u64,
    /// The next index that the consumer gets.
    deliver: u64,
    end: u64,
    done: BTreeMap<u64, Result<T>>,
    closed: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code of the caller's runs under the lock, so a poisoned state is still a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Loader<T> {
    /// Starts `workers` threads (at least one) on `range`. At most `depth` items (at least one), finished or being
    /// made, exist ahead of the one that the consumer holds, so more workers than `depth` have nothing to do.
    ///
    /// # Errors
    /// Where the system starts no more threads.
    pub fn new<F>(range: Range<u64>, workers: usize, depth: usize, make: F) -> Result<Loader<T>>
    where
        F: Fn(u64) -> Result<T> + Send + Sync + 'static,
    {
        let depth = depth.max(1) as u64;
        let state = State {
            claim: range.start,
            deliver: range.start,
            end: range.end.max(range.start),
            done: BTreeMap::new(),
            closed: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), ready: Condvar::new(), room: Condvar::new(), depth });
        let mut loader = Loader { shared: shared.clone(), threads: Vec::new(), waited: Duration::ZERO };
        let make = Arc::new(make);
        for number in 0..workers.max(1) {
            let (shared, make) = (shared.clone(), make.clone());
            let thread = std::thread::Builder::new().name(format!("loader-{number}"));
            let started = thread.spawn(move || {
                alone();
                work(&shared, &*make);
            });
            loader.threads.push(started.with_context(|| format!("cannot start loader thread {}", number + 1))?);
        }
        Ok(loader)
    }
}

impl<T> Loader<T> {
    /// How long the consumer has waited in `next` for items that were not finished yet.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

/// This thread computes by itself: libtorch would start a team of threads for each that copies or converts a batch. The
/// others keep theirs, for the number is OpenMP's and one of each thread.
fn alone() {
    // libtorch sets it at a thread's first question and not again.
    tch::get_num_threads();
    // SAFETY: looks a function up by its name: the one of the library that libtorch runs on, or none.
    let set = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"omp_set_num_threads".as_ptr()) };
    if !set.is_null() {
        // SAFETY: OpenMP's own signature.
        unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn(libc::c_int)>(set)(1) }
    }
}

fn work<T>(shared: &Shared<T>, make: &impl Fn(u64) -> Result<T>) {
    loop {
        let index = {
            let mut state = shared.lock();
            loop {
                if state.closed || state.claim == state.end {
                    return;
                }
                if state.claim - state.deliver < shared.depth {
                    break;
                }
                state = shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.claim += 1;
            state.claim - 1
        };
        let item = catch_unwind(AssertUnwindSafe(|| make(index)))
            .unwrap_or_else(|panic| Err(anyhow!("loading item {index} panicked: {}", message(&*panic))));
        let mut state = shared.lock();
        if state.closed {
            drop(state); // the item's own drop is the caller's code: not under the lock
            return;
        }
        let due = index == state.deliver;
        state.done.insert(index, item);
        drop(state);
        if due {
            shared.ready.notify_one();
        }
    }
}

/// What a panic said, where it said it in words.
pub fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

impl<T> Iterator for Loader<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let mut state = self.shared.lock();
        if state.deliver == state.end {
            return None;
        }
        let due = state.deliver;
        if !state.done.contains_key(&due) {
            let start = Instant::now();
            while !state.done.contains_key(&due) {
                state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            self.waited += start.elapsed();
        }
        let item = state.done.remove(&due);
        state.deliver += 1;
        drop(state);
        self.shared.room.notify_one();
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let state = self.shared.lock();
        let left = usize::try_from(state.end - state.deliver);
        (left.unwrap_or(usize::MAX), left.ok())
    }
}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        let done = {
            let mut state = self.shared.lock();
            state.closed = true;
            std::mem::take(&mut state.done)
        };
        self.shared.room.notify_all();
        drop(done);
        for thread in self.threads.drain(..) {
            // A worker catches the panics of the caller's code, so there is nothing to pass on.
            let _ = thread.join();
        }
    }
}
