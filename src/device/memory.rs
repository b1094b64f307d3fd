//! Memory that a training step gives back and the next one takes again.

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
