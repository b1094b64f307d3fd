//! Gradient caching: the exact gradient of a loss over a whole batch in the memory of a chunk (Gao et al. 2021), so
//! that a batch of 1800 (1503.03832, Section 3.2) trains on any machine.

use std::ops::Range;
use std::slice::from_ref;

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::collectives::Gradients;
use crate::models::dropping;

/// How a batch is cut, and what must be the same in both passes.
#[derive(Debug)]
pub struct Chunks<'a> {
    /// How many chunks the batch has.
    pub count: usize,
    /// What dropout draws from (see [`dropping`]): the same in both passes and after a resume.
    pub seed: u64,
    /// Rows of the whole batch, and which of them are this process's.
    pub batch: (i64, Range<i64>),
    /// What a forward pass changes beside gradients (running statistics of batch normalisation): put back between the
    /// passes, so that a batch counts once.
    pub buffers: &'a [Tensor],
}

/// Leaves the gradient of `loss` over the whole batch in the network's parameters (added to what is there).
///
/// `next` gives the network's inputs, chunk after chunk, twice over where there is more than one (None for a chunk
/// without rows); `forward` embeds a chunk, `[b, D]`; `loss` takes the embeddings of the whole batch `[B, D]` and gives
/// the scalar to minimise and anything else. With one chunk this is one plain forward and backward pass. With more:
/// all chunks without a graph, the loss and its gradient with respect to the embeddings, then each chunk again with a
/// graph, into which its rows of that gradient are sent back. Both give the same gradient where a row's embedding does
/// not depend on its chunk; batch normalisation in training mode takes its statistics from the chunk instead of the
/// batch.
///
/// With several processes the batch is this one's share of the rows, `loss` gathers those of all, and `gradients` are
/// summed over processes.
///
/// Returns what `loss` gave.
pub fn backward<T>(
    chunks: &Chunks<'_>,
    mut next: impl FnMut() -> Result<Option<Tensor>>,
    forward: impl Fn(&Tensor) -> Tensor,
    gradients: &Gradients,
    loss: impl FnOnce(&Tensor) -> Result<(Tensor, T)>,
) -> Result<T> {
    let (batch, own) = &chunks.batch;
    // A chunk whose first row is `row` of this process's.
    let embed = |row: i64, images: &Tensor| {
        let rows = own.start + row..own.start + row + images.size()[0];
        dropping(chunks.seed, *batch, from_ref(&rows), || forward(images))
    };
    if chunks.count <= 1 {
        let images = next()?;
        let images = images.ok_or_else(|| anyhow::anyhow!("a batch without images"))?;
        let x = embed(0, &images);
        let (loss, other) = loss(&x)?;
        gradients.backward(&loss)?;
        return Ok(other);
    }
    let before: Vec<Tensor> = chunks.buffers.iter().map(Tensor::copy).collect();
    let mut parts: Vec<Tensor> = Vec::with_capacity(chunks.count);
    let mut row = 0;
    for _ in 0..chunks.count {
        let Some(images) = next()? else { continue };
        parts.push(tch::no_grad(|| embed(row, &images)));
        row += images.size()[0];
    }
    let x = Tensor::cat(&parts, 0).set_requires_grad(true);
    let (loss, other) = loss(&x)?;
    gradients.backward_alone(&loss)?;
    let gradient = x.grad();
    tch::no_grad(|| {
        chunks.buffers.iter().zip(&before).for_each(|(buffer, before)| buffer.shallow_clone().copy_(before));
    });
    let mut row = 0;
    for _ in 0..chunks.count {
        let Some(images) = next()? else { continue };
        let part = embed(row, &images);
        let rows = part.size()[0];
        // The scalar whose gradient with respect to the part is the part's rows of the cached one.
        gradients.backward_alone(&(&part * gradient.narrow(0, row, rows).to_kind(part.kind())).sum(Kind::Float))?;
        row += rows;
    }
    gradients.sum()?;
    Ok(other)
}

/// As [`backward`], for a loss whose terms are each of one row alone: no row waits for another's output, so that every
/// chunk goes through the network once and its graph is gone before the next one's is made.
///
/// `chunks` are this process's rows; `forward` gives a chunk's outputs, `loss` its part of the sum over the batches of all
/// processes. Returns the outputs of all chunks, without a graph.
///
/// # Errors
/// Where another process is gone, or libtorch fails.
pub fn backward_apart(
    chunks: &[Range<usize>],
    forward: impl Fn(&Range<usize>) -> Tensor,
    gradients: &Gradients,
    loss: impl Fn(&Tensor, &Range<usize>) -> Tensor,
) -> Result<Tensor> {
    let mut parts = Vec::with_capacity(chunks.len());
    for rows in chunks {
        let x = forward(rows);
        match chunks {
            [_] => gradients.backward(&loss(&x, rows))?,
            _ => gradients.backward_alone(&loss(&x, rows))?,
        }
        parts.push(x.detach());
    }
    if chunks.len() > 1 {
        gradients.sum()?;
    }
    Ok(Tensor::cat(&parts, 0))
}
