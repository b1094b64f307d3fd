//! Who is it: votes of neighbours, and embeddings in bytes.

use rankle::distance::{Metric, normalize};
use rankle::metrics::Alone;
use rankle::metrics::recognition::{enrol, nearest, through_bytes};
use tch::{Device, Kind, Tensor};

use crate::common::{matrix, value};

#[test]
fn recognition_votes_and_ties_go_to_the_nearest() {
    let gallery = Tensor::from_slice(&[0., 1., 2., 10., 11., 5.2_f64]).view([6, 1]);
    let people = [1, 1, 1, 2, 2, 3];
    let probe = Tensor::from_slice(&[0.5, 10.4, 5.]).view([3, 1]);
    let answer = |ks: &[usize]| nearest(&gallery, &people, &probe, ks, Metric::SquaredEuclidean, &Alone).unwrap();
    // Of 5.2, 2, 1: person 1 has two votes. Of 5.2 and 2 each has one: the nearer wins.
    let expected = [(1, [1_i64, 2, 3]), (3, [1, 2, 1]), (2, [1, 2, 3])];
    assert_eq!(answer(&expected.map(|(k, _)| k)), expected.map(|(_, people)| people));
    assert!(answer(&[]).is_empty());
    let people: Vec<i64> = (0..40).map(|i| i % 7).collect();
    let (enrolled, probes) = enrol(&people, 5, 3);
    assert_eq!(enrolled, enrol(&people, 5, 3).0);
    let count = |rows: &[usize], person| rows.iter().filter(|&&row| people[row] == person).count();
    for person in 0..7 {
        let all = people.iter().filter(|&&p| p == person).count();
        let expected = if all > 5 { (5, all - 5) } else { (0, 0) };
        assert_eq!((count(&enrolled, person), count(&probes, person)), expected);
    }
    assert!(enrolled.iter().all(|row| !probes.contains(row)));
}

#[test]
fn bytes_keep_directions() {
    let x = normalize(&matrix(5, 50, 128));
    let through = through_bytes(&x);
    let cosine = (&x * &through).sum_dim_intlist(1, false, Kind::Double);
    assert!(value(&cosine.min()) > 0.999 && value(&cosine.min()) < 1. - 1e-9);
    assert_eq!(through.to_kind(Kind::Float).abs().amax(1, false).size(), [50]);
    let grid = (&through / through.abs().max()).to_kind(Kind::Double);
    assert!(value(&grid.abs().max()) <= 1. + 1e-9);
    assert_eq!(through_bytes(&Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))).size(), [0, 4]);
    assert_eq!(value(&through_bytes(&Tensor::zeros([2, 4], (Kind::Float, Device::Cpu))).abs().sum(Kind::Double)), 0.);
}
