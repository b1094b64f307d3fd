//! Memory that a training step gives back and the next one takes again, and the end of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;

/// The system's allocator, for programs: where it has no more memory, a line says so and the program ends with 1, in
/// place of an abort.
#[derive(Debug)]
pub struct Spoken;

fn or_end(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() {
        // Nothing here allocates.
        let (mib, mut line) = (bytes >> 20, [0_u8; 160]);
        let text = "free some, or ask for less at once (batch, images, network, files)";
        let _ = writeln!(&mut line[..], "error: out of memory: there are not {mib} MiB more: {text}");
        let length = line.iter().position(|&byte| byte == 0).unwrap_or(line.len());
        // SAFETY: writes from an array of at least that length, and ends the process.
        unsafe {
            libc::write(2, line.as_ptr().cast(), length);
            libc::_exit(1)
        }
    }
    memory
}

// SAFETY: the system's allocator does all that is asked of one; null alone does not come back.
unsafe impl GlobalAlloc for Spoken {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        or_end(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        or_end(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        or_end(unsafe { System.realloc(memory, layout, size) }, size)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

/// From now on this process keeps what it frees for its own next use: for a training loop on the CPU, whose every step
/// needs the same again. It is the whole process's affair, so that the library leaves it to programs: all five binaries
/// begin with it.
///
/// glibc gives each block above 32 MiB back to the system and takes new pages, which the system clears: the maps of one
/// layer are larger than that, and clearing was more than a third of a LuNet step. What is kept may lie in pieces: the
/// peak rose by a ninth (TriNet) to a third (LuNet) in trials. Nothing is changed where `MALLOC_MMAP_MAX_` is set (`MALLOC_MMAP_MAX_=65536` is
/// glibc's own default), or with another C library.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_MMAP_MAX_").is_none() {
        // SAFETY: these set two numbers of the allocator's, under its own lock.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        }
    }
}
