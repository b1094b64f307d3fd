//! Eigenfaces (Turk and Pentland 1991): the baseline of face verification, principal components of the pixels.

use tch::{Kind, Tensor};

use crate::distance::{normalize, widen};

/// A mean face and the directions in which faces differ most.
#[derive(Debug)]
pub struct Eigenfaces {
    /// `[1, P]`.
    mean: Tensor,
    /// `[P, width]`, of length 1.
    directions: Tensor,
    /// `[1, width]`: the standard deviation along each.
    deviations: Tensor,
}

impl Eigenfaces {
    /// From `pixels` `[N, P]` (any float kind): the `width` leading components, at most P and N - 1. By the eigenvectors
    /// of the smaller of `[P, P]` and `[N, N]`.
    pub fn fit(pixels: &Tensor, width: i64) -> Eigenfaces {
        tch::no_grad(|| {
            let pixels = widen(pixels);
            let mean = pixels.mean_dim(0, true, None::<Kind>);
            let centred = &pixels - &mean;
            let (samples, places) = (pixels.size()[0], pixels.size()[1]);
            let width = width.clamp(1, (samples - 1).clamp(1, places));
            // Ascending eigenvalues; the last are the largest.
            let leading = |matrix: Tensor| {
                let all = matrix.size()[0];
                let (values, vectors) = matrix.linalg_eigh("L");
                (values.narrow(0, all - width, width).clamp_min(0.), vectors.narrow(1, all - width, width))
            };
            let (values, directions) = if samples < places {
                let (values, vectors) = leading(centred.matmul(&centred.transpose(0, 1)));
                let directions = centred.transpose(0, 1).matmul(&vectors);
                (values, normalize(&directions.transpose(0, 1)).transpose(0, 1))
            } else {
                leading(centred.transpose(0, 1).matmul(&centred))
            };
            let deviations = (values / (samples - 1).max(1)).sqrt().unsqueeze(0);
            Eigenfaces { mean, directions, deviations }
        })
    }

    /// `pixels` `[B, P]` as unit rows `[B, width]` of their components; with `whiten`, each component is divided by its
    /// standard deviation first, so that all weigh the same.
    pub fn embed(&self, pixels: &Tensor, whiten: bool) -> Tensor {
        tch::no_grad(|| {
            let components = (widen(pixels) - &self.mean).matmul(&self.directions);
            normalize(&if whiten { components / self.deviations.clamp_min(1e-6) } else { components })
        })
    }
}
