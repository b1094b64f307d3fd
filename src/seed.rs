//! Nothing is random except at an address `(seed, step, item)`.
//!
//! Every random decision of a run (which people, which photos, which crop, which initial weight) draws from a
//! generator that is made afresh for its address. So a resumed run draws what an unbroken one would have drawn, and
//! the number of loader threads changes nothing.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The generator at the address `(seed, step, item)`. `seed` names the run, `step` the optimiser step (or the pass,
/// or the picture number), `item` the place within it. Different addresses give independent streams.
pub fn at(seed: u64, step: u64, item: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&step.to_le_bytes());
    key[16..24].copy_from_slice(&item.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// A 64-bit number for an address with a name in place of a step, e.g. a parameter's name; FNV-1a over the name.
pub fn named(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    mix(seed ^ mix(hash))
}

/// SplitMix64's finaliser: a bijection of 64-bit numbers whose output bits look independent of the input's.
pub fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
