//! Hard negatives among rows beyond the batch.

use tch::{Kind, Tensor};

use super::triplets::first;
use crate::distance::Metric;

/// Offline hard mining (1703.07737, Section 2): for every row of `x` `[N, D]` the nearest of the rows `pool` (int64
/// `[M]`) that shows another identity than its own, int64 `[N]`, rows of `x`; of equally near ones the first in the pool.
/// `labels` is int64 `[N]`. None where the pool has no negative for some row. 1024 rows at a time: memory is O(1024 M).
pub fn hardest_in_pool(x: &Tensor, labels: &Tensor, metric: Metric, pool: &Tensor) -> Option<Tensor> {
    tch::no_grad(|| {
        let (labels, pool) = (labels.to_device(x.device()), pool.to_device(x.device()));
        let (pool_x, pool_labels) = (x.index_select(0, &pool), labels.index_select(0, &pool));
        if labels.numel() == 0 {
            return Some(labels);
        }
        let mut mined = vec![Tensor::zeros([0], (Kind::Int64, x.device()))];
        for (x, labels) in x.split(1024, 0).iter().zip(labels.split(1024, 0)) {
            let same = labels.unsqueeze(1).eq_tensor(&pool_labels.unsqueeze(0));
            if same.all_dim(1, false).any().int64_value(&[]) != 0 {
                return None;
            }
            let d = metric.matrix(x, &pool_x).masked_fill(&same, f64::INFINITY);
            mined.push(pool.index_select(0, &first(&d, false)));
        }
        Some(Tensor::cat(&mined, 0))
    })
}
