//! Eigenfaces (Turk and Pentland 1991): the baseline of face verification, principal components of the pixels.

use tch::{Kind, Tensor};

use crate::distance::{normalize, widen};

/// A mean face and the directions in which faces differ most.
#[derive(Debug)]
pub struct Eigenfaces {
    /// `[1, P]`.
    mean: Tensor,
    /// `[P, width]`, scaled where whitened.
    directions: Tensor,
}

impl Eigenfaces {
    /// From `pixels` `[N, P]` (any float kind): the `width` leading components, at most P and N - 1. With `whiten`,
    /// each component is divided by its standard deviation, so that all weigh the same. O(P³ + N P²) time.
    pub fn fit(pixels: &Tensor, width: i64, whiten: bool) -> Eigenfaces {
        tch::no_grad(|| {
            let pixels = widen(pixels);
            let mean = pixels.mean_dim(0, true, None::<Kind>);
            let centred = &pixels - &mean;
            let samples = pixels.size()[0];
            let covariance = centred.transpose(0, 1).matmul(&centred) / (samples - 1).max(1);
            // Ascending eigenvalues; the last are the largest.
            let (values, vectors) = covariance.linalg_eigh("L");
            let all = values.size()[0];
            let width = width.clamp(1, (samples - 1).clamp(1, all));
            let (values, vectors) = (values.narrow(0, all - width, width), vectors.narrow(1, all - width, width));
            let directions = if whiten { vectors / values.clamp_min(1e-12).sqrt().unsqueeze(0) } else { vectors };
            Eigenfaces { mean, directions }
        })
    }

    /// `pixels` `[B, P]` as unit rows `[B, width]` of their components.
    pub fn embed(&self, pixels: &Tensor) -> Tensor {
        tch::no_grad(|| normalize(&(widen(pixels) - &self.mean).matmul(&self.directions)))
    }
}
