//! Triplet losses straight from embeddings: the values and gradients of [`super::triplet`], without a graph through the
//! `[B, B]` matrix.
//!
//! Every loss here is a sum of distances with weights W that do not change under a small step, so its gradient with
//! respect to the embeddings is known: two matrix products in all, one for the distances and one for the gradient,
//! instead of a graph of a dozen passes over B² numbers.

use tch::{Device, Kind, Tensor};

use super::rows::{Form, Weights, hardest, weights};
use super::{Margin, Tally, triplet};
use crate::distance::{Metric, normalize, widen};
use crate::mining::Negative;

/// [`triplet::batch_hard`] of the distances between the rows of `x` `[B, D]`, any float kind; `labels` int64 `[B]`. On
/// the CPU only the chosen pairs have a graph, and of equally far (or near) rows the lowest has the gradient.
pub fn batch_hard(x: &Tensor, labels: &Tensor, metric: Metric, margin: Margin) -> Tally {
    let on_cpu = x.device() == Device::Cpu && labels.device() == Device::Cpu;
    if !on_cpu || x.size()[0] == 0 {
        return tally(x, labels, metric, None, &|d| triplet::batch_hard(d, labels, margin));
    }
    // Cosine distance orders unit rows as their Euclidean distance does.
    let x = if metric == Metric::Cosine { normalize(x) } else { widen(x) };
    let chosen = tch::no_grad(|| hardest(&x.detach(), labels));
    let [a, p, n] = chosen.map(|rows| x.index_select(0, &Tensor::from_slice(&rows)));
    let tally = triplet::hinge(&metric.paired(&a, &p), &metric.paired(&a, &n), margin);
    // A NaN anywhere is seen, also where no row was chosen.
    Tally { sum: &tally.sum + (&x * 0.).sum(x.kind()), ..tally }
}

/// [`triplet::batch_all`] of the distances between the rows of `x` `[B, D]`, any float kind; `labels` int64 `[B]`.
pub fn batch_all(x: &Tensor, labels: &Tensor, metric: Metric, margin: Margin) -> Tally {
    let form = match margin {
        Margin::Hard(m) => Some(Form::All(m)),
        Margin::Soft => None,
    };
    tally(x, labels, metric, form, &|d| triplet::batch_all(d, labels, margin))
}

/// [`triplet::every_pair`] of the distances between the rows of `x` `[B, D]`, any float kind; `labels` int64 `[B]`. For
/// FaceNet unit rows and [`Metric::SquaredEuclidean`].
pub fn every_pair(x: &Tensor, labels: &Tensor, metric: Metric, margin: f64, negative: Negative) -> Tally {
    let form = Form::EveryPair(margin, negative);
    tally(x, labels, metric, Some(form), &|d| triplet::every_pair(d, labels, margin, negative))
}

/// The loss of a matrix of distances, in tensor operations.
type Slow<'a> = &'a dyn Fn(&Tensor) -> Tally;

fn tally(x: &Tensor, labels: &Tensor, metric: Metric, form: Option<Form>, slow: Slow<'_>) -> Tally {
    // Cosine distance is half the squared distance of unit rows; the graph of the normalisation is kept.
    let x = match metric {
        Metric::Cosine => normalize(x),
        _ => widen(x),
    };
    if x.size()[0] == 0 {
        return slow(&metric.matrix(&x, &x));
    }
    let (kind, device) = (x.kind(), x.device());
    let (gradient, value, terms, active) = tch::no_grad(|| {
        let rows = x.detach();
        let d = match metric {
            Metric::Cosine => 1. - rows.matmul(&rows.transpose(0, 1)),
            _ => metric.matrix(&rows, &rows),
        };
        let scalar = |x: f64| Tensor::from(x).to_kind(Kind::Double).to_device(device);
        let count = |x: i64| Tensor::from(x).to_device(device);
        let (weight, value, terms, active) = match form.and_then(|form| weights(&d, labels, form)) {
            Some(Weights { weight, value, terms, active }) => (weight, scalar(value), count(terms), count(active)),
            None => {
                let (weight, tally) = slope(&d, slow);
                (weight, tally.sum.detach().to_kind(Kind::Double), tally.terms, tally.active)
            }
        };
        (pull_back(&rows, &d, weight, metric), value, terms, active)
    });
    // The value exactly, the gradient exactly: a number whose slope is `gradient`, less itself, plus the value.
    let carrier = (&x * gradient).sum(kind);
    let sum = &carrier - carrier.detach() + value.to_kind(kind);
    Tally { sum, terms, active }
}

/// The derivative of a loss with respect to each distance, by autograd on the matrix alone.
fn slope(d: &Tensor, slow: Slow<'_>) -> (Tensor, Tally) {
    tch::with_grad(|| {
        let d = d.detach().set_requires_grad(true);
        let tally = slow(&d);
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
