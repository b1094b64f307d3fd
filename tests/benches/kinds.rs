//! The losses that benchmarks measure, by the names of their cases.

use rankle::distance::Metric;
use rankle::losses::{Margin, Tally, embedded, multilabel};
use rankle::mining::{Negative, Pick};
use tch::Tensor;

/// Of embeddings and their labels; of "lsep", of scores and of 1 where an image has a label.
pub fn loss(kind: &str, x: &Tensor, labels: &Tensor) -> anyhow::Result<Tensor> {
    let euclidean = Metric::Euclidean;
    let tally: Tally = match kind {
        "batch-hard" => embedded::batch_hard(x, labels, euclidean, Margin::Hard(0.2)),
        "batch-hard-soft" => embedded::batch_hard(x, labels, euclidean, Margin::Soft),
        "batch-all" => embedded::batch_all(x, labels, euclidean, Margin::Hard(0.2)),
        "batch-all-soft" => embedded::batch_all(x, labels, euclidean, Margin::Soft),
        "semi-hard" => {
            embedded::every_pair(x, labels, Metric::SquaredEuclidean, 0.2, Negative::SemiHard(Pick::Nearest))
        }
        "lsep" => multilabel::lsep(x, labels),
        other => anyhow::bail!("no loss {other}"),
    };
    Ok(if kind == "batch-all" { tally.mean_active() } else { tally.mean() })
}
