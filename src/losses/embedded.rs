//! Triplet losses straight from embeddings: the values and gradients of [`super::triplet`], without a graph through the
//! `[B, B]` matrix.
//!
//! Every loss here is a sum of distances with weights W that do not change under a small step, so its gradient with
//! respect to the embeddings is known: two matrix products in all, one for the distances and one for the gradient,
//! and one node for autograd, instead of a graph of a dozen passes over B² numbers. Its gradient has no graph: there is no
//! second derivative.

use tch::{Kind, Tensor};

use super::cpu::{self, Form, Outcome};
use super::{Margin, Tally, triplet};
use crate::distance::{Metric, normalize, widen};
use crate::mining::Negative;

/// [`triplet::batch_hard`] of the distances between the rows of `x` `[B, D]`, any float kind; `labels` int64 `[B]`. On
/// the CPU only the chosen pairs are computed on, and of equally far (or near) rows the lowest has the gradient.
pub fn batch_hard(x: &Tensor, labels: &Tensor, metric: Metric, margin: Margin) -> Tally {
    let one_pass = |rows: &Tensor| cpu::batch_hard(rows, labels, metric, margin);
    tally(x, metric, &one_pass, &|d| triplet::batch_hard(d, labels, margin))
}

/// [`triplet::batch_all`] of the distances between the rows of `x` `[B, D]`, any float kind; `labels` int64 `[B]`.
pub fn batch_all(x: &Tensor, labels: &Tensor, metric: Metric, margin: Margin) -> Tally {
    let one_pass = |rows: &Tensor| match margin {
        Margin::Hard(m) => cpu::weighted(rows, labels, metric, Form::All(m)),
        Margin::Soft => None,
    };
    tally(x, metric, &one_pass, &|d| triplet::batch_all(d, labels, margin))
}

/// [`triplet::every_pair`] of the distances between the rows of `x` `[B, D]`, any float kind; `labels` int64 `[B]`. For
/// FaceNet unit rows and [`Metric::SquaredEuclidean`].
pub fn every_pair(x: &Tensor, labels: &Tensor, metric: Metric, margin: f64, negative: Negative) -> Tally {
    let one_pass = |rows: &Tensor| cpu::weighted(rows, labels, metric, Form::EveryPair(margin, negative));
    tally(x, metric, &one_pass, &|d| triplet::every_pair(d, labels, margin, negative))
}

/// From rows to value and gradient on the CPU; None where it doesn't serve.
type OnePass<'a> = &'a dyn Fn(&Tensor) -> Option<Outcome>;

/// The loss of a matrix of distances, in tensor operations.
type OfMatrix<'a> = &'a dyn Fn(&Tensor) -> Tally;

fn tally(x: &Tensor, metric: Metric, one_pass: OnePass<'_>, of_matrix: OfMatrix<'_>) -> Tally {
    // Cosine distance is half the squared distance of unit rows; the graph of the normalisation is kept.
    let x = match metric {
        Metric::Cosine => normalize(x),
        _ => widen(x),
    };
    if x.size()[0] == 0 {
        return of_matrix(&metric.matrix(&x, &x));
    }
    let outcome = tch::no_grad(|| {
        let rows = x.detach().contiguous();
        one_pass(&rows).unwrap_or_else(|| {
            let d = match metric {
                Metric::Cosine => 1. - rows.matmul(&rows.transpose(0, 1)),
                _ => metric.matrix(&rows, &rows),
            };
            let (weight, Tally { sum, terms, active }) = slope(&d, of_matrix);
            Outcome { gradient: pull_back(&rows, &d, weight, metric), value: sum.detach(), terms, active }
        })
    });
    outcome.of(&x)
}

/// The derivative of a loss with respect to each distance, by autograd on the matrix alone.
fn slope(d: &Tensor, of_matrix: OfMatrix<'_>) -> (Tensor, Tally) {
    tch::with_grad(|| {
        let d = d.detach().set_requires_grad(true);
        let tally = of_matrix(&d);
        let gradient = Tensor::run_backward(&[&tally.sum], &[&d], false, false).swap_remove(0);
        (gradient, tally)
    })
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
            // Σ_j p_ij (x_i - x_j), about the mean: a common offset costs no digits.
            let centred = rows - rows.mean_dim(0, true, None::<Kind>);
            pairs.sum_dim_intlist(1, true, None::<Kind>) * &centred - pairs.matmul(&centred)
        }
    }
}
