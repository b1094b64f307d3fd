use rankle::metrics::pairwise::accuracy;

#[test]
fn ties_and_nan_are_wrong() {
    let score = [0.1, 0.5, 0.5, f64::NAN, -1.0];
    let pairs = [(1, 0), (1, 2), (2, 1), (3, 0), (0, 3), (0, 4), (4, 0), (2, 4)];
    assert_eq!(accuracy(&score, &pairs), 3.0 / 8.0);
    assert!(accuracy(&score, &[]).is_nan());
}
