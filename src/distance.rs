//! Distances between rows of embeddings, for all pairs or for paired rows.
//!
//! Half precision is widened to f32 first. The matrix form subtracts the batch mean before it multiplies, because
//! `|a|² + |b|² - 2ab` loses every digit when the rows share a large common offset, and distances do not change
//! under a shift. `sqrt` has the subgradient 0 at distance 0, so that two equal rows do not poison a batch.

use tch::{Kind, Tensor};

use crate::real::{Real, wide};

/// How far apart two embeddings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// ‖a - b‖, the D of triplet-reid (1703.07737, Section 2)
    Euclidean,
    /// ‖a - b‖², FaceNet's on unit rows (1503.03832, Eq. 1)
    SquaredEuclidean,
    // No flag of a program takes it: no paper here has it.
    #[value(skip)]
    /// `1 - cos(a, b)`, in 0..2. A zero row is at distance 1 from everything.
    Cosine,
}

impl std::fmt::Display for Metric {
    /// As a flag has it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(clap::ValueEnum::to_possible_value(self).as_ref().map_or("cosine", |value| value.get_name()))
    }
}

impl Metric {
    /// All pairs: `a` `[A, D]` and `b` `[B, D]`, any float kind, to `[A, B]` in f32 (f64 stays f64).
    ///
    /// Differentiable in both arguments. A NaN makes its own row or column NaN... and, through the common shift,
    /// every other entry: a batch with a NaN is seen to have one. Panics when the shapes do not fit.
    pub fn matrix(self, a: &Tensor, b: &Tensor) -> Tensor {
        let (a, b) = (widen(a), widen(b));
        match self {
            Metric::Euclidean => safe_sqrt(&squared_matrix(&a, &b)),
            Metric::SquaredEuclidean => squared_matrix(&a, &b),
            Metric::Cosine => 1 - normalize(&a).matmul(&normalize(&b).transpose(0, 1)),
        }
    }

    /// Row against row: `a` and `b` `[B, D]`, any float kind, to `[B]` in f32 (f64 stays f64). Computed from the
    /// differences themselves, so it is exact for rows that nearly coincide. Panics when the shapes do not fit.
    pub fn paired(self, a: &Tensor, b: &Tensor) -> Tensor {
        let (a, b) = (widen(a), widen(b));
        let squared = |a: &Tensor, b: &Tensor| (a - b).square().sum_dim_intlist(-1, false, None::<Kind>);
        match self {
            Metric::Euclidean => safe_sqrt(&squared(&a, &b)),
            Metric::SquaredEuclidean => squared(&a, &b),
            Metric::Cosine => 1 - (normalize(&a) * normalize(&b)).sum_dim_intlist(-1, false, None::<Kind>),
        }
    }
}

/// Rows of `x` `[.., D]` scaled to Euclidean length 1, in f32 (f64 stays f64); a zero row stays zero, with a zero
/// gradient. Exact at every length that f32 can hold, without an epsilon.
pub fn normalize(x: &Tensor) -> Tensor {
    let x = widen(x);
    // Scaled by the largest entry first: a row of 1e-25s has a length, though its square has none in f32.
    let scale = x.abs().amax(-1, true).detach();
    let scale = scale.where_self(&scale.gt(0.), &scale.ones_like());
    let scaled = &x / &scale;
    let length = safe_sqrt(&scaled.square().sum_dim_intlist(-1, true, None::<Kind>));
    let zero = length.eq(0.);
    (&scaled / length.masked_fill(&zero, 1.)).masked_fill(&zero, 0.)
}

/// f16 and bf16 to f32; f32 and f64 as they are.
pub(crate) fn widen(x: &Tensor) -> Tensor {
    match x.kind() {
        Kind::Half | Kind::BFloat16 => x.to_kind(Kind::Float),
        _ => x.shallow_clone(),
    }
}

/// `sqrt` with the subgradient 0 at 0 (and 0 for the tiny negatives that rounding leaves). NaN stays NaN.
pub(crate) fn safe_sqrt(x: &Tensor) -> Tensor {
    let zero = x.le(0.);
    x.masked_fill(&zero, 1.).sqrt().masked_fill(&zero, 0.)
}

/// Squared Euclidean distances through one matrix product of the centred rows, never below 0.
///
/// What is smaller than the rounding of that product ([`Real::ROUNDING`] of the two squared lengths) is set to 0 with a
/// zero gradient: equal rows get exactly 0, not the noise of a subtraction.
fn squared_matrix(a: &Tensor, b: &Tensor) -> Tensor {
    // The shift is a constant for the gradient: the distance does not depend on it.
    let shift = tch::no_grad(|| Tensor::cat(&[a, b], 0).mean_dim(0, true, None::<Kind>));
    let (a, b) = (a - &shift, b - &shift);
    let lengths = squares(&a) + squares(&b).transpose(0, 1);
    squared_of(&a, &b, lengths)
}

/// `[N, 1]`.
fn squares(x: &Tensor) -> Tensor {
    x.square().sum_dim_intlist(1, true, None::<Kind>)
}

/// [`squared_matrix`] of centred rows, the sums of whose squared lengths are `lengths` `[A, B]`.
fn squared_of(a: &Tensor, b: &Tensor, lengths: Tensor) -> Tensor {
    let squared = lengths.addmm(&(a * -2.), &b.transpose(0, 1));
    let rounding = if wide(&[&squared]) == Kind::Double { f64::ROUNDING } else { f32::ROUNDING.into() };
    let noise = tch::no_grad(|| squared.le_tensor(&(lengths * rounding)));
    squared.masked_fill(&noise, 0.)
}

/// The distances between the rows of one batch, some rows of their matrix at a time: the numbers of [`Metric::matrix`] with
/// what its rows share computed once.
pub(crate) struct Among {
    metric: Metric,
    /// About their mean; of the cosine as they are, unit rows.
    rows: Tensor,
    squares: Tensor,
}

impl Among {
    /// Of `x` `[B, D]`, f32 or f64; unit rows for the cosine.
    pub fn rows(metric: Metric, x: &Tensor) -> Among {
        let rows = match metric {
            Metric::Cosine => x.shallow_clone(),
            // The mean as the whole matrix takes it, to the last bit.
            _ => x - Tensor::cat(&[x, x], 0).mean_dim(0, true, None::<Kind>),
        };
        Among { metric, squares: squares(&rows), rows }
    }

    /// `[A, B]`: from the rows `of` to all.
    pub fn distances(&self, of: &std::ops::Range<i64>) -> Tensor {
        let own = |x: &Tensor| x.narrow(0, of.start, of.end - of.start);
        let squared = || squared_of(&own(&self.rows), &self.rows, own(&self.squares) + self.squares.transpose(0, 1));
        match self.metric {
            Metric::Euclidean => safe_sqrt(&squared()),
            Metric::SquaredEuclidean => squared(),
            Metric::Cosine => 1 - own(&self.rows).matmul(&self.rows.transpose(0, 1)),
        }
    }
}
