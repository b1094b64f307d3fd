//! bfloat16 around a network.

use tch::Device;

unsafe extern "C" {
    fn rankle_autocast_enter(cuda: i32) -> i32;
    fn rankle_autocast_leave(cuda: i32, before: i32);
}

/// Whether the processor multiplies bfloat16 numbers by itself: without, libtorch's kernels for them are many times
/// slower than those for f32.
pub fn has_bfloat16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        true
    }
}

/// Runs `work` with bfloat16 autocast where `on` (matrix products and convolutions in bfloat16, the rest in f32),
/// as it is otherwise. Meant around the network alone: losses and mining widen to f32.
pub fn autocast<T>(on: bool, device: Device, work: impl FnOnce() -> T) -> T {
    /// Leaves also when `work` panics.
    struct Level {
        cuda: i32,
        before: i32,
    }
    impl Drop for Level {
        fn drop(&mut self) {
            // SAFETY: undoes the matching enter; touches only libtorch's thread-local switches.
            unsafe { rankle_autocast_leave(self.cuda, self.before) }
        }
    }
    if !on {
        return work();
    }
    let cuda = i32::from(device.is_cuda());
    if cuda == 0 && !has_bfloat16() {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            crate::say::say(
                "note: this processor has no bfloat16 instructions: --amp is many times slower here than f32",
            );
        });
    }
    // SAFETY: sets libtorch's thread-local switches; no pointers.
    let _level = Level { cuda, before: unsafe { rankle_autocast_enter(cuda) } };
    work()
}
