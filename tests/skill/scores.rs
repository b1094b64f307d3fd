//! What batches are drawn from, and what is read from the scores of a video's snippets.

use rankle::run::skill::{Taken, by_split, mean_of, places, samples};

#[test]
fn every_pair_comes_with_every_split_once_a_pass() {
    let all = samples(&[(0, 1), (2, 0)], &[(1, 2)], 3);
    assert_eq!(all.len(), 9);
    for (pair, similar) in [((0, 1), false), ((2, 0), false), ((1, 2), true)] {
        let splits = all.iter().filter(|sample| sample.pair == pair && sample.similar == similar);
        assert_eq!(splits.map(|sample| sample.split).collect::<Vec<_>>(), [(0, 3), (1, 3), (2, 3)]);
    }
    assert_eq!(samples(&[(4, 5)], &[], 1)[0].split, (0, 1));
    // Three passes over nine samples in batches of four: each comes three times, and no pass repeats one.
    let drawn: Vec<usize> = (0..7).flat_map(|step| places(9, 4, 11, step)).collect();
    for pass in drawn.chunks_exact(9) {
        let mut pass = pass.to_vec();
        pass.sort_unstable();
        assert_eq!(pass, (0..9).collect::<Vec<_>>());
    }
    assert_ne!(drawn[..9], drawn[9..18]);
    // A batch is the same whenever it is asked for; one that is larger than a pass goes through several.
    assert_eq!(places(9, 4, 11, 5), drawn[20..24]);
    assert_eq!(places(2, 5, 1, 0).len(), 5);
    assert!(places(0, 4, 1, 0).is_empty());
}

#[test]
fn means_are_of_the_snippets_that_are_asked_for() {
    let scores = [1., 2., 4., 8., 16.];
    assert_eq!(mean_of(&scores, 2, Taken::Start, 0), 1.5);
    assert_eq!(mean_of(&scores, 2, Taken::End, 0), 12.);
    for taken in [Taken::Start, Taken::End, Taken::Random(3)] {
        assert_eq!(mean_of(&scores, 9, taken, 1), 6.2);
    }
    // Two different ones: sums of two powers tell which. All ten pairs come up, and the seed decides.
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let sum = 2. * mean_of(&scores, 2, Taken::Random(seed), 7);
        assert_eq!(sum, 2. * mean_of(&scores, 2, Taken::Random(seed), 7));
        assert_eq!((sum as u32).count_ones(), 2, "{sum}");
        seen.insert(sum as u32);
    }
    assert_eq!(seen.len(), 10);
    assert_eq!(by_split(&[1., 3., 5., 7., 9., 11.], 3), [2., 6., 10.]);
    assert_eq!(by_split(&[2., 4.], 2), [2., 4.]);
}
