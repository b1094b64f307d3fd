//! What a trial says of steps.

use rankle::run::session::median;

use crate::common::numbers;

/// By counting how many are smaller; no two are alike.
#[test]
fn a_median_is_the_middle_by_rank_or_the_mean_of_both() {
    for count in 1..9 {
        let x = numbers(count, count as usize);
        let rank = |k: usize| *x.iter().find(|a| x.iter().filter(|b| b < a).count() == k).expect("one of that rank");
        let wanted = (rank((x.len() - 1) / 2) + rank(x.len() / 2)) / 2.;
        assert_eq!(median(x.clone()), Some(wanted));
    }
    assert_eq!(median(Vec::new()), None);
}
