//! Numbers of a batch that a log line carries.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::watch::Reading;
use crate::distance::Metric;
use crate::losses::Tally;
use crate::real::numbers;

/// Most rows whose distances [`batch`] looks at: a log line must not hold the B² numbers that the loss doesn't.
const ROWS: i64 = 4096;

/// Bins of a histogram, of one width from the smallest number to the largest.
const BINS: i64 = 20;

/// Percentiles and a histogram of the distances by `metric` between different rows, of a large batch those of its first 4,096 rows, and the
/// lengths of the embeddings `x` `[B, D]`, any float kind. Waits for the device.
pub fn batch(x: &Tensor, metric: Metric) -> Value {
    tch::no_grad(|| {
        let x = x.to_kind(Kind::Float);
        let some = x.narrow(0, 0, x.size()[0].min(ROWS));
        let dist = metric.matrix(&some, &some);
        let rows = dist.size()[0];
        let other = Tensor::eye(rows, (Kind::Bool, dist.device())).logical_not();
        let (sorted, _) = dist.masked_select(&other).sort(0, false);
        let count = sorted.size()[0];
        // The nearest rank: a number that occurs.
        let at = |q: f64| (count > 0).then(|| sorted.double_value(&[((count - 1) as f64 * q).round() as i64]));
        let bins = match (at(0.), at(1.)) {
            (Some(low), Some(high)) if high > low => {
                let edges = Tensor::linspace(low, high, BINS + 1, (Kind::Float, dist.device())).narrow(0, 1, BINS - 1);
                let below = edges.searchsorted(&sorted, false, false, "left", None::<&Tensor>);
                let below = [vec![0], numbers::<i64>(&below), vec![count]].concat();
                below.windows(2).map(|pair| pair[1] - pair[0]).collect()
            }
            _ => vec![count],
        };
        let norms = x.norm_scalaropt_dim(2, [1], false);
        json!({
            "distance": {"p0": at(0.), "p5": at(0.05), "p50": at(0.5), "p95": at(0.95), "p100": at(1.), "bins": bins},
            "norm": {"mean": norms.mean(Kind::Float).double_value(&[]), "max": norms.max().double_value(&[])},
        })
    })
}

/// The start of a logged step's line: the loss that was minimised, both means of its terms, how many there are and
/// which share is above 0, then `rates`. Waits for the device.
pub fn tally(step: u64, loss: &Tensor, tally: &Tally, rates: Value) -> Value {
    let (terms, active) = (tally.terms.int64_value(&[]), tally.active.int64_value(&[]));
    let line = json!({
        "step": step,
        "loss": loss.double_value(&[]),
        "mean": tally.mean().double_value(&[]),
        "mean_active": tally.mean_active().double_value(&[]),
        "terms": terms,
        "active": active as f64 / terms.max(1) as f64,
    });
    joined(line, rates)
}

/// The entries of `more` after those of `line`, both objects.
pub fn joined(mut line: Value, more: Value) -> Value {
    if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
        line.extend(more);
    }
    line
}

/// The line of a logged step of embeddings `x` `[B, D]` that are compared by `metric`: [`tally`], then `rates`, then
/// [`batch`]; and what the watch over collapse reads of it, where equal embeddings have the mean loss `collapsed`. Waits for
/// the device.
pub fn line(
    step: u64,
    loss: &Tensor,
    of: &Tally,
    rates: Value,
    x: &Tensor,
    metric: Metric,
    collapsed: f64,
) -> (Value, Option<Reading>) {
    let x = x.detach();
    let line = joined(tally(step, loss, of, rates), batch(&x, metric));
    let reading = Reading::of(&line, collapsed);
    (line, Some(reading))
}
