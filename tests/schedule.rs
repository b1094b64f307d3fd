//! Rates by their steps.

use rankle::schedule::{Decay, Stairs};

#[test]
fn the_rate_is_the_papers_at_the_sheets_steps() {
    for (base, at) in [(3e-4, [3e-4, 1.5036e-4, 9.487e-6, 3e-7]), (1e-3, [1e-3, 5.012e-4, 3.162e-5, 1e-6])] {
        let decay = Decay { base, t0: 15_000, t1: 25_000 };
        for (t, rate) in [15_000, 16_000, 20_000, 25_000].into_iter().zip(at) {
            assert!((decay.rate(t) / rate - 1.).abs() < 1e-4, "{t}: {}", decay.rate(t));
        }
        assert_eq!((decay.beta1(14_999), decay.beta1(15_000)), (0.9, 0.5));
    }
    assert_eq!(Decay { base: 1., t0: 5, t1: 5 }.rate(100), 1.);
}

/// By counting, in whatever order they are given.
#[test]
fn stairs_fall_to_a_tenth_at_each_of_their_steps() {
    for at in [vec![], vec![10], vec![10, 20], vec![20, 10, 10]] {
        let stairs = Stairs { base: 0.3, at: at.clone() };
        for t in 0..30 {
            let rate = at.iter().fold(0.3, |rate, &fall| if t < fall { rate } else { rate / 10. });
            crate::common::close(stairs.rate(t), rate, 1e-12);
        }
    }
}
