//! VAL and AUC over all pairs.

use rankle::metrics::Alone;
use rankle::metrics::all_pairs::{AllPairs, val_over_splits};
use tch::Kind;

use super::blobs;
use crate::common::{close, rows};

#[test]
fn all_pairs_equal_nested_loops() {
    let (x, people) = blobs(3, 9, 5, 0.6);
    let r = rows(&x);
    let (mut same, mut different) = (Vec::new(), Vec::new());
    for i in 0..r.len() {
        for j in i + 1..r.len() {
            let d: f64 = r[i].iter().zip(&r[j]).map(|(a, b)| (a - b).powi(2)).sum();
            if people[i] == people[j] { &mut same } else { &mut different }.push(d);
        }
    }
    let pairs = AllPairs::new(&x, &people);
    assert_eq!(pairs.pairs(), (different.len() as u64, same.len() as u64));
    different.sort_by(f64::total_cmp);
    for far in [0., 0.001, 0.01, 0.1, 0.5, 1.] {
        let at = pairs.val_at_far(far);
        // The threshold lies within a bin of the first different pair that may not be accepted.
        let allowed = (far * different.len() as f64 + 1e-9).floor() as usize;
        let edge = different.get(allowed).copied().unwrap_or(4.);
        assert!(
            at.threshold <= edge + 1e-9 && at.threshold >= edge - 4. / 65536. - 1e-9,
            "{far}: {} {edge}",
            at.threshold
        );
        let rate = |of: &[f64]| of.iter().filter(|&&d| d < at.threshold).count() as f64 / of.len() as f64;
        close(at.val, rate(&same), 1e-12);
        close(at.far, rate(&different), 1e-12);
        assert!(at.far <= far);
    }
    let ordered = same.iter().flat_map(|s| different.iter().map(move |d| if s < d { 1. } else { 0. })).sum::<f64>();
    close(pairs.auc(), ordered / (same.len() * different.len()) as f64, 1e-3);
    // Halves are widened, NaN counts as the largest distance.
    assert_eq!(AllPairs::new(&x.to_kind(Kind::Half), &people).pairs(), pairs.pairs());
    let broken = x.copy();
    let _ = broken.get(0).fill_(f64::NAN);
    assert_eq!(AllPairs::new(&broken, &people).pairs(), pairs.pairs());
    // Splits: three people each.
    let over_splits = |splits| val_over_splits(&x, &people, splits, 0.1, &Alone).unwrap();
    let (val, sem) = over_splits(3).expect("three splits");
    let each: Vec<f64> = (0..3)
        .map(|s| AllPairs::new(&x.narrow(0, s * 15, 15), &people[s as usize * 15..][..15]).val_at_far(0.1).val)
        .collect();
    close(val, each.iter().sum::<f64>() / 3., 1e-12);
    let sample = (each.iter().map(|v| (v - val).powi(2)).sum::<f64>() / 2.).sqrt();
    close(sem, sample / 3_f64.sqrt(), 1e-12);
    assert!(over_splits(9).is_none(), "one person a split has no different pairs");
}
