//! Dropout that is drawn for a whole batch, whoever computes which of its rows: processes, chunks.

use std::cell::RefCell;
use std::ops::Range;

use tch::{Device, Tensor};

/// How many rows the whole batch has, and which of them this thread's forward passes have; None outside of [`dropping`].
type Part = Option<(i64, Vec<Range<i64>>)>;

thread_local! {
    static PART: RefCell<Part> = const { RefCell::new(None) };
}

/// Does `work`, a forward pass of `rows` (one part after another) of a batch of `batch` inputs: dropout draws from `seed` for
/// the whole batch and takes what those rows have of it. So a row has the same mask in every share and chunk, and after a
/// resume.
pub fn dropping<T>(seed: u64, batch: i64, rows: &[Range<i64>], work: impl FnOnce() -> T) -> T {
    tch::manual_seed((crate::seed::mix(seed) >> 1) as i64);
    let before = PART.replace(Some((batch, rows.to_vec())));
    let done = work();
    PART.set(before);
    done
}

/// In training, each number of `x` `[B, ...]` is 0 with probability `p`, else 1 / (1 - p) of itself; see [`dropping`].
pub fn dropout(x: &Tensor, p: f64, train: bool) -> Tensor {
    PART.with_borrow(|part| match part {
        // On a CPU libtorch's own dropout of all rows draws the same numbers; on a GPU it has an order of its own.
        Some((batch, _)) if x.device() == Device::Cpu && x.size()[0] == *batch => x.dropout(p, train),
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
