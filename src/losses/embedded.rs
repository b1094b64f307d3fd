//! Triplet losses straight from embeddings: the values and gradients of [`super::triplet`], without a graph through the
//! `[B, B]` matrix.
//!
//! Of every loss here the derivative with respect to each distance is known with its value, so that its gradient with
//! respect to the embeddings is a matrix product (two, block by block) beside the one for the distances, and one node for
//! autograd, instead of a graph of a dozen passes over B² numbers. Its gradient has no graph: there is no second derivative.
//!
//! Every term is one anchor's, so that a loss is the sum of its [`Share`]s: rows of some anchors against all columns. Large
//! batches are computed so, share after share, in memory that grows with B times a block of anchors, and so do several
//! processes, each its own share at the same time.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::cpu::{self, Outcome, Pull, Sum};
pub use super::cpu::{in_blocks, in_tensors};
use super::{Margin, Tally, triplet};
use crate::distance::{Among, Metric, normalize, widen};
use crate::mining::{Masks, Negative};
use crate::transfer::upload;

/// A loss of the distances between the rows of `x` `[B, D]`, any float kind, of identities int64 `labels` `[B]`: each of its
/// terms is one row's, the anchor's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// [`triplet::batch_hard`]. Only the chosen pairs are computed on, by differences of rows, and of equally far (or near)
    /// rows the lowest has the gradient.
    BatchHard(Margin),
    /// [`triplet::batch_all`].
    BatchAll(Margin),
    /// [`triplet::every_pair`] with this margin. For FaceNet unit rows and [`Metric::SquaredEuclidean`].
    EveryPair(f64, Negative),
    /// [`triplet::lifted`] with this margin.
    Lifted(f64),
}

/// [`Loss::BatchHard`] of all anchors.
pub fn batch_hard(x: &Tensor, labels: &Tensor, metric: Metric, margin: Margin) -> Tally {
    Loss::BatchHard(margin).of(x, labels, metric)
}

/// [`Loss::BatchAll`] of all anchors.
pub fn batch_all(x: &Tensor, labels: &Tensor, metric: Metric, margin: Margin) -> Tally {
    Loss::BatchAll(margin).of(x, labels, metric)
}

/// [`Loss::EveryPair`] of all anchors.
pub fn every_pair(x: &Tensor, labels: &Tensor, metric: Metric, margin: f64, negative: Negative) -> Tally {
    Loss::EveryPair(margin, negative).of(x, labels, metric)
}

/// What some anchors gave: the sum of the shares of all anchors is the loss.
#[derive(Debug)]
pub struct Share {
    /// The rows, with their graph; unit ones for the cosine.
    x: Tensor,
    outcome: Outcome,
}

impl Share {
    /// The same loss's share with each of its numbers, f64 `[3]`, and its gradient `[B, D]` put through `sum`: over the
    /// processes that hold the others.
    pub fn summed<E>(self, sum: impl Fn(&Tensor) -> Result<Tensor, E>) -> Result<Share, E> {
        let Outcome { gradient, value, terms, active } = self.outcome;
        let device = gradient.device();
        let double = |x: &Tensor| x.to_device(device).to_kind(Kind::Double);
        let numbers = sum(&Tensor::stack(&[double(&value), double(&terms), double(&active)], 0))?;
        let gradient = sum(&gradient)?;
        let count = |i| numbers.get(i).to_kind(Kind::Int64);
        let outcome = Outcome { gradient, value: numbers.get(0), terms: count(1), active: count(2) };
        Ok(Share { x: self.x, outcome })
    }

    /// The loss, as one node of the graph of the rows.
    pub fn tally(self) -> Tally {
        self.outcome.of(&self.x)
    }
}

impl Loss {
    /// Of all anchors.
    ///
    /// # Panics
    /// Where the shapes do not fit.
    pub fn of(self, x: &Tensor, labels: &Tensor, metric: Metric) -> Tally {
        self.share(x, labels, metric, 0..x.size()[0]).tally()
    }

    /// Of the rows `anchors` alone, against all rows.
    ///
    /// # Panics
    /// Where the shapes do not fit.
    pub fn share(self, x: &Tensor, labels: &Tensor, metric: Metric, anchors: Range<i64>) -> Share {
        // Cosine distance is half the squared distance of unit rows; the graph of the normalisation is kept.
        let x = match metric {
            Metric::Cosine => normalize(x),
            _ => widen(x),
        };
        let outcome = tch::no_grad(|| self.outcome(&x.detach().contiguous(), labels, metric, &anchors));
        Share { x, outcome }
    }

    fn outcome(self, x: &Tensor, labels: &Tensor, metric: Metric, anchors: &Range<i64>) -> Outcome {
        if anchors.is_empty() {
            let none = |kind| Tensor::zeros([], (kind, x.device()));
            let (terms, active) = (none(Kind::Int64), none(Kind::Int64));
            return Outcome { gradient: x.zeros_like(), value: none(Kind::Double), terms, active };
        }
        let one_pass = |sum| cpu::weighted(x, labels, metric, sum, anchors);
        let of_matrix = |of: OfMatrix<'_>| weighted(x, labels, metric, anchors, of);
        match self {
            Loss::BatchHard(margin) => cpu::batch_hard(x, labels, metric, margin, anchors)
                .unwrap_or_else(|| chosen(x, labels, metric, margin, anchors)),
            Loss::BatchAll(margin) => match margin {
                Margin::Hard(m) => one_pass(Sum::All(m)),
                Margin::Soft => None,
            }
            .unwrap_or_else(|| of_matrix(&|d, masks| triplet::batch_all_weighted(d, labels, masks, margin))),
            Loss::EveryPair(m, n) => one_pass(Sum::EveryPair(m, n))
                .unwrap_or_else(|| of_matrix(&|d, masks| triplet::every_pair_weighted(d, masks, m, n))),
            Loss::Lifted(m) => {
                one_pass(Sum::Lifted(m)).unwrap_or_else(|| of_matrix(&|d, masks| triplet::lifted_weighted(d, masks, m)))
            }
        }
    }
}

/// From distances `[A, B]` of some anchors and who is who to their weights and the loss.
type OfMatrix<'a> = &'a dyn Fn(&Tensor, &Masks) -> (Tensor, Tally);

/// `rows` about their mean: a common offset costs no digits.
fn centred(rows: &Tensor) -> Tensor {
    rows - rows.mean_dim(0, true, None::<Kind>)
}

/// Batch hard in tensor operations: two extremes of the matrix, block by block of anchors, then B x D numbers alone.
fn chosen(all: &Tensor, labels: &Tensor, metric: Metric, margin: Margin, anchors: &Range<i64>) -> Outcome {
    // |y|² - 2 x·y orders a row as its distances do; of unit rows, some of them zeros, -x·y.
    let (left, right, squares) = match metric {
        Metric::Cosine => (all.neg(), all.shallow_clone(), all.square()),
        _ => {
            let x = centred(all);
            let squares = x.square().sum_dim_intlist(1, false, None::<Kind>);
            (&x * -2., x, squares)
        }
    };
    let labels = upload(labels, all.device());
    let extremes = cpu::blocks(anchors, all.size()[0] as usize).map(|block| {
        let own = left.narrow(0, block.start, block.end - block.start);
        let order = match metric {
            Metric::Cosine => own.matmul(&right.tr()),
            _ => squares.unsqueeze(0).addmm(&own, &right.tr()),
        };
        let masks = Masks::of_anchors(&labels, all.device(), block);
        // Both give the first of equals.
        let far = order.masked_fill(&masks.positive.logical_not(), f64::NEG_INFINITY).max_dim(1, false);
        let near = order.masked_fill(&masks.negative.logical_not(), f64::INFINITY).min_dim(1, false);
        (far, near)
    });
    let (far, near): (Vec<_>, Vec<_>) = extremes.unzip();
    let joined = |parts: Vec<(Tensor, Tensor)>| {
        let (values, places): (Vec<Tensor>, Vec<Tensor>) = parts.into_iter().unzip();
        (Tensor::cat(&values, 0), Tensor::cat(&places, 0))
    };
    let ((far, p), (near, n)) = (joined(far), joined(near));
    let valid = far.not_equal(f64::NEG_INFINITY).logical_and(&near.not_equal(f64::INFINITY));
    let rows = &all.narrow(0, anchors.start, anchors.end - anchors.start);

    // Positives, then negatives: `[2, A, ...]`.
    let others = Tensor::cat(&[p, n], 0);
    let y = all.index_select(0, &others).view([2, rows.size()[0], rows.size()[1]]);
    let inner = |x: Tensor| x.sum_dim_intlist(2, true, None::<Kind>);
    let (d, to) = match metric {
        Metric::Cosine => (1. - inner(rows * &y), y),
        _ => {
            let apart = rows - y;
            let squared = inner(apart.square());
            (if metric == Metric::Euclidean { squared.sqrt() } else { squared }, apart)
        }
    };
    let z = (d.select(0, 0) - d.select(0, 1)).squeeze_dim(1);
    let Tally { sum, terms, active } = Tally::over(&margin.charge(&z), Some(&valid));
    let slope = match margin {
        Margin::Hard(m) => (z + m).gt(0.).to_kind(rows.kind()),
        Margin::Soft => z.sigmoid(),
    };
    let slope = (slope * &valid).unsqueeze(1);
    let slope = Tensor::stack(&[&slope, &slope.neg()], 0);
    // What the anchor and the other row take of a distance's derivative.
    let (pull, back) = match metric {
        Metric::Cosine => (slope.neg() * to, slope.neg() * rows),
        _ => {
            let pull = match metric {
                // 0 at d = 0.
                Metric::Euclidean => (slope / &d).masked_fill(&d.eq(0.), 0.) * to,
                _ => slope * 2. * to,
            };
            let back = pull.neg();
            (pull, back)
        }
    };
    let mut gradient = all.zeros_like();
    let own = pull.sum_dim_intlist(0, false, None::<Kind>);
    gradient.narrow(0, anchors.start, anchors.end - anchors.start).copy_(&own);
    let gradient = gradient.index_add_(0, &others, &back.flatten(0, 1));
    // What is not finite, also in a row that nobody chose, or in a square alone, is seen in the sum and in the gradient.
    let poison = (squares * 0.).sum(rows.kind());
    Outcome { gradient: gradient + &poison, value: sum + poison, terms, active }
}

/// A sum of weighted distances in tensor operations, block by block of anchors.
fn weighted(x: &Tensor, labels: &Tensor, metric: Metric, anchors: &Range<i64>, of_matrix: OfMatrix<'_>) -> Outcome {
    let batch = x.size()[0];
    let (among, labels) = (Among::rows(metric, x), upload(labels, x.device()));
    let block = |block: &Range<i64>| {
        let d = among.distances(block);
        let (weight, tally) = of_matrix(&d, &Masks::of_anchors(&labels, x.device(), block.clone()));
        let pairs = match metric {
            // ∂d/∂x = (x - y) / d, and 0 at d = 0.
            Metric::Euclidean => (weight / &d).masked_fill(&d.eq(0.), 0.),
            // ∂d/∂x = 2 (x - y)
            Metric::SquaredEuclidean => weight * 2.,
            // d = 1 - x·y
            Metric::Cosine => weight,
        };
        (pairs, tally)
    };
    let rows = if metric == Metric::Cosine { x.shallow_clone() } else { centred(x) };
    if cpu::whole(anchors, batch as usize) {
        // One product, with the pairs both ways.
        let (pairs, Tally { sum, terms, active }) = block(anchors);
        let both = &pairs + pairs.tr();
        let products = both.matmul(&rows);
        let gradient = match metric {
            Metric::Cosine => products.neg(),
            // Σ_j p_ij (x_i - x_j)
            _ => both.sum_dim_intlist(1, true, None::<Kind>) * &rows - products,
        };
        return Outcome { gradient, value: sum, terms, active };
    }
    let mut pull = Pull::new(&rows);
    let on = |kind| Tensor::zeros([], (kind, x.device()));
    let (mut value, mut terms, mut active) = (on(Kind::Double), on(Kind::Int64), on(Kind::Int64));
    for of in cpu::blocks(anchors, batch as usize) {
        let (pairs, tally) = block(&of);
        pull.add(&pairs, &of);
        value += tally.sum;
        terms += tally.terms;
        active += tally.active;
    }
    Outcome { gradient: pull.gradient(metric != Metric::Cosine), value, terms, active }
}
