//! Dropout that is drawn for a whole batch, whoever computes which of its rows: processes, chunks.

use std::cell::RefCell;
use std::ops::Range;

use tch::Tensor;

/// The rows of a whole batch that this thread's forward passes have, and how many the batch has; None of all.
type Part = Option<(i64, Vec<Range<i64>>)>;

thread_local! {
    static PART: RefCell<Part> = const { RefCell::new(None) };
}

/// Does `work`, a forward pass of `rows` (one part after another) of a batch of `batch` inputs: dropout draws from `seed` for
/// the whole batch and takes what those rows have of it. So a row has the same mask in every share and chunk, and after a
/// resume. Where `rows` are all, libtorch's own dropout draws the same numbers on a CPU.
pub fn dropping<T>(seed: u64, batch: i64, rows: &[Range<i64>], work: impl FnOnce() -> T) -> T {
    tch::manual_seed((crate::seed::mix(seed) >> 1) as i64);
    let all = rows.iter().map(|rows| rows.end - rows.start).sum::<i64>() == batch;
    let before = PART.replace((!all).then(|| (batch, rows.to_vec())));
    let done = work();
    PART.set(before);
    done
}

/// In training, each number of `x` `[B, ...]` is 0 with probability `p`, else 1 / (1 - p) of itself; see [`dropping`].
pub fn dropout(x: &Tensor, p: f64, train: bool) -> Tensor {
    PART.with_borrow(|part| match part {
        Some((batch, rows)) if train && p > 0. => {
            let mut shape = x.size();
            shape[0] = *batch;
            let kept = Tensor::empty(&shape, (x.kind(), x.device())).bernoulli_float_(1. - p) / (1. - p);
            let own: Vec<Tensor> = rows.iter().map(|rows| kept.narrow(0, rows.start, rows.end - rows.start)).collect();
            x * Tensor::cat(&own, 0)
        }
        _ => x.dropout(p, train),
    })
}
