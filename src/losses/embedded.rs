//! Triplet losses straight from embeddings: the values and gradients of [`super::triplet`], without a graph through the
//! `[B, B]` matrix.
//!
//! Every loss here is a sum of distances with weights W that do not change under a small step, so its gradient with
//! respect to the embeddings is known: two matrix products in all, one for the distances and one for the gradient,
//! and one node for autograd, instead of a graph of a dozen passes over B² numbers. Its gradient has no graph: there is no
//! second derivative.

use tch::{Kind, Tensor};

pub use super::cpu::in_tensors;
use super::cpu::{self, Form, Outcome};
use super::{Margin, Tally, triplet};
use crate::distance::{Metric, normalize, widen};
use crate::mining::Negative;
use crate::transfer::upload;

/// [`triplet::batch_hard`] of the distances between the rows of `x` `[B, D]`, any float kind; `labels` int64 `[B]`. Only the
/// chosen pairs are computed on, by differences of rows, and of equally far (or near) rows the lowest has the gradient.
pub fn batch_hard(x: &Tensor, labels: &Tensor, metric: Metric, margin: Margin) -> Tally {
    let outcome = |rows: &Tensor| {
        cpu::batch_hard(rows, labels, metric, margin).unwrap_or_else(|| chosen(rows, labels, metric, margin))
    };
    tally(x, metric, &outcome, &|d| triplet::batch_hard(d, labels, margin))
}

/// [`triplet::batch_all`] of the distances between the rows of `x` `[B, D]`, any float kind; `labels` int64 `[B]`.
pub fn batch_all(x: &Tensor, labels: &Tensor, metric: Metric, margin: Margin) -> Tally {
    let one_pass = |rows: &Tensor| match margin {
        Margin::Hard(m) => cpu::weighted(rows, labels, metric, Form::All(m)),
        Margin::Soft => None,
    };
    let of_matrix = |d: &Tensor| triplet::batch_all_weighted(d, labels, margin);
    let outcome = |rows: &Tensor| one_pass(rows).unwrap_or_else(|| weighted(rows, metric, of_matrix));
    tally(x, metric, &outcome, &|d| of_matrix(d).1)
}

/// [`triplet::every_pair`] of the distances between the rows of `x` `[B, D]`, any float kind; `labels` int64 `[B]`. For
/// FaceNet unit rows and [`Metric::SquaredEuclidean`].
pub fn every_pair(x: &Tensor, labels: &Tensor, metric: Metric, margin: f64, negative: Negative) -> Tally {
    let one_pass = |rows: &Tensor| cpu::weighted(rows, labels, metric, Form::EveryPair(margin, negative));
    let of_matrix = |d: &Tensor| triplet::every_pair_weighted(d, labels, margin, negative);
    let outcome = |rows: &Tensor| one_pass(rows).unwrap_or_else(|| weighted(rows, metric, of_matrix));
    tally(x, metric, &outcome, &|d| of_matrix(d).1)
}

/// From rows, unit ones for the cosine, to value and gradient.
type OfRows<'a> = &'a dyn Fn(&Tensor) -> Outcome;

/// The loss of a matrix of distances, for no rows.
type OfMatrix<'a> = &'a dyn Fn(&Tensor) -> Tally;

fn tally(x: &Tensor, metric: Metric, of_rows: OfRows<'_>, of_matrix: OfMatrix<'_>) -> Tally {
    // Cosine distance is half the squared distance of unit rows; the graph of the normalisation is kept.
    let x = match metric {
        Metric::Cosine => normalize(x),
        _ => widen(x),
    };
    if x.size()[0] == 0 {
        return of_matrix(&metric.matrix(&x, &x));
    }
    tch::no_grad(|| of_rows(&x.detach().contiguous())).of(&x)
}

/// `rows` about their mean: a common offset costs no digits.
fn centred(rows: &Tensor) -> Tensor {
    rows - rows.mean_dim(0, true, None::<Kind>)
}

/// Batch hard in tensor operations: two extremes of the matrix, then B x D numbers alone.
fn chosen(rows: &Tensor, labels: &Tensor, metric: Metric, margin: Margin) -> Outcome {
    let labels = upload(labels, rows.device());
    let same = labels.unsqueeze(1).eq_tensor(&labels.unsqueeze(0));
    // |y|² - 2 x·y orders a row as its distances do; of unit rows, some of them zeros, -x·y.
    let (order, squares) = match metric {
        Metric::Cosine => (rows.matmul(&rows.neg().transpose(0, 1)), rows.square()),
        _ => {
            let x = centred(rows);
            let squares = x.square().sum_dim_intlist(1, false, None::<Kind>);
            (squares.unsqueeze(0).addmm(&(&x * -2.), &x.transpose(0, 1)), squares)
        }
    };
    // Both give the first of equals.
    let mut positives = order.masked_fill(&same.logical_not(), f64::NEG_INFINITY);
    let (far, p) = positives.fill_diagonal_(f64::NEG_INFINITY, false).max_dim(1, false);
    let (near, n) = order.masked_fill(&same, f64::INFINITY).min_dim(1, false);
    let valid = far.not_equal(f64::NEG_INFINITY).logical_and(&near.not_equal(f64::INFINITY));

    // Positives, then negatives: `[2, B, ...]`.
    let others = Tensor::cat(&[p, n], 0);
    let y = rows.index_select(0, &others).view([2, rows.size()[0], rows.size()[1]]);
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
    let mut gradient = pull.sum_dim_intlist(0, false, None::<Kind>);
    let gradient = gradient.index_add_(0, &others, &back.flatten(0, 1));
    // What is not finite, also in a row that nobody chose, or in a square alone, is seen in the sum and in the gradient.
    let poison = (squares * 0.).sum(rows.kind());
    Outcome { gradient: gradient + &poison, value: sum + poison, terms, active }
}

/// A sum of weighted distances in tensor operations: `of_matrix` gives the weights and the sum.
fn weighted(rows: &Tensor, metric: Metric, of_matrix: impl Fn(&Tensor) -> (Tensor, Tally)) -> Outcome {
    let d = match metric {
        Metric::Cosine => 1. - rows.matmul(&rows.transpose(0, 1)),
        _ => metric.matrix(rows, rows),
    };
    let (weight, Tally { sum, terms, active }) = of_matrix(&d);
    Outcome { gradient: pull_back(rows, &d, weight, metric), value: sum, terms, active }
}

/// The gradient with respect to the rows `[B, D]` from that with respect to their distances.
fn pull_back(rows: &Tensor, d: &Tensor, weight: Tensor, metric: Metric) -> Tensor {
    let both = |weight: Tensor| &weight + weight.transpose(0, 1);
    match metric {
        // d = 1 - x·y
        Metric::Cosine => both(weight).matmul(rows).neg(),
        _ => {
            let pairs = match metric {
                // ∂d/∂x = (x - y) / d, and 0 at d = 0.
                Metric::Euclidean => both((weight / d).masked_fill(&d.eq(0.), 0.)),
                // ∂d/∂x = 2 (x - y)
                _ => both(weight) * 2.,
            };
            // Σ_j p_ij (x_i - x_j)
            let centred = centred(rows);
            pairs.sum_dim_intlist(1, true, None::<Kind>) * &centred - pairs.matmul(&centred)
        }
    }
}
