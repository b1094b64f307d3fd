//! What a line of the log says of a batch.

use rankle::run::stats;
use tch::{Device, Kind, Tensor};

use crate::common::value;

#[test]
fn batch_statistics_are_the_sorted_distances() {
    let x = crate::common::matrix(60, 9, 4);
    let d = rankle::distance::Metric::Euclidean.matrix(&x, &x);
    let said = stats::batch(&x, rankle::distance::Metric::Euclidean);
    let mut all: Vec<f64> = Vec::new();
    let rows = crate::common::rows(&d);
    (0..9).for_each(|i| (0..9).filter(|j| *j != i).for_each(|j| all.push(rows[i][j])));
    all.sort_by(f64::total_cmp);
    let bins: Vec<i64> = serde_json::from_value(said["distance"]["bins"].clone()).expect("counts");
    assert_eq!((bins.len(), bins.iter().sum::<i64>()), (20, 72));
    for (name, at) in [("p0", 0), ("p5", 4), ("p50", 36), ("p95", 67), ("p100", 71)] {
        assert!((said["distance"][name].as_f64().expect("a number") - all[at]).abs() < 1e-6, "{name}");
    }
    let norms = x.square().sum_dim_intlist(1, false, None::<Kind>).sqrt();
    assert!((said["norm"]["mean"].as_f64().expect("a number") - value(&norms.mean(Kind::Double))).abs() < 1e-6);
    let one = Tensor::ones([1, 4], (Kind::Float, Device::Cpu));
    assert!(stats::batch(&one, rankle::distance::Metric::Euclidean)["distance"]["p50"].is_null());
}
