//! Numbers that runs of every version draw alike.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rankle::seed::{at, mix, named};

/// SplitMix64 as it is published: the outputs that begin at the state 1234567, and FNV-1a of "foobar".
#[test]
fn mixing_is_that_of_its_authors() {
    let gamma = 0x9e37_79b9_7f4a_7c15_u64;
    let published = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423_u64];
    for (i, number) in published.into_iter().enumerate() {
        assert_eq!(mix(1_234_567_u64.wrapping_add(gamma.wrapping_mul(i as u64))), number);
    }
    assert_eq!(named(5, "foobar"), mix(5 ^ mix(0x8594_4171_f739_67e8)));
}

/// An address is the first 24 bytes of a key: each number of it counts, at its own place.
#[test]
fn an_address_is_a_key_of_its_own() {
    let mut key = [0; 32];
    [1_u64, 2, 3].iter().enumerate().for_each(|(i, part)| key[8 * i..8 * i + 8].copy_from_slice(&part.to_le_bytes()));
    let first = |mut rng: ChaCha8Rng| rng.random::<[u64; 4]>();
    assert_eq!(first(at(1, 2, 3)), first(ChaCha8Rng::from_seed(key)));
    let all = [at(1, 2, 3), at(1, 3, 2), at(2, 1, 3), at(3, 2, 1), at(1, 2, 1 << 40), at(0, 0, 0)].map(first);
    assert_eq!(std::collections::BTreeSet::from(all).len(), all.len());
}
