//! Numbers of a batch that a log line carries.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

/// Percentiles of the distances between different rows, and the lengths of the embeddings.
///
/// `x` `[B, D]` embeddings and `dist` `[B, B]` their distances, any float kinds. Waits for the device.
pub fn batch(x: &Tensor, dist: &Tensor) -> Value {
    tch::no_grad(|| {
        let (x, dist) = (x.to_kind(Kind::Float), dist.to_kind(Kind::Float));
        let rows = dist.size()[0];
        let other = Tensor::eye(rows, (Kind::Bool, dist.device())).logical_not();
        let (sorted, _) = dist.masked_select(&other).sort(0, false);
        let count = sorted.size()[0];
        // The nearest rank: a number that occurs.
        let at = |q: f64| (count > 0).then(|| sorted.double_value(&[((count - 1) as f64 * q).round() as i64]));
        let norms = x.norm_scalaropt_dim(2, [1], false);
        json!({
            "distance": {"p0": at(0.), "p5": at(0.05), "p50": at(0.5), "p95": at(0.95), "p100": at(1.)},
            "norm": {"mean": norms.mean(Kind::Float).double_value(&[]), "max": norms.max().double_value(&[])},
        })
    })
}
