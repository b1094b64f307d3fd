use rankle::metrics::pairwise::{accuracy, similar_gap, within};
use rankle::metrics::{mean_and_deviation, mean_and_spread};

#[test]
fn ties_and_nan_are_wrong() {
    let score = [0.1, 0.5, 0.5, f64::NAN, -1.0];
    let pairs = [(1, 0), (1, 2), (2, 1), (3, 0), (0, 3), (0, 4), (4, 0), (2, 4)];
    assert_eq!(accuracy(&score, &pairs), 3.0 / 8.0);
    assert!(accuracy(&score, &[]).is_nan());
}

#[test]
fn the_gap_of_similar_pairs_has_no_unit() {
    let score = [0.0, 3.0, 1.0, -1.0];
    let (similar, strict) = ([(0, 2), (3, 0)], [(1, 0), (1, 3), (2, 0)]);
    // (1 + 1) / 2 over (3 + 4 + 1) / 3
    assert!((similar_gap(&score, &similar, &strict) - 3.0 / 8.0).abs() < 1e-12);
    let large = score.map(|score| 1e3 * score);
    assert!((similar_gap(&large, &similar, &strict) - 3.0 / 8.0).abs() < 1e-12);
    assert!(similar_gap(&score, &[], &strict).is_nan() && similar_gap(&score, &similar, &[]).is_nan());
}

#[test]
fn similar_pairs_lie_within_the_margin() {
    let score = [0.0, 1.0, -1.5, f64::NAN];
    assert_eq!(within(&score, &[(0, 1), (1, 0), (0, 2), (2, 1)], 1.0), 0.5);
    assert_eq!(within(&score, &[(0, 3), (3, 3), (2, 0), (0, 0)], 1.5), 0.5);
    assert!(within(&score, &[], 1.0).is_nan());
}

#[test]
fn spread_is_that_of_the_population() {
    assert_eq!(mean_and_spread(&[2., 4., 4., 4., 5., 5., 7., 9.]), (5., 2.));
    assert_eq!(mean_and_spread(&[0.25]), (0.25, 0.));
    let (mean, spread) = mean_and_spread(&[]);
    assert!(mean.is_nan() && spread.is_nan());
    // That of draws divides by one less.
    let (mean, deviation) = mean_and_deviation(&[1., 2., 6.]);
    assert!(mean == 3. && (deviation - 7_f64.sqrt()).abs() < 1e-12, "{deviation}");
    assert!(mean_and_deviation(&[0.25]).0 == 0.25 && mean_and_deviation(&[0.25]).1.is_nan());
    assert!(mean_and_deviation(&[]).1.is_nan());
}
