//! Batch hard: the farthest positive and the nearest negative of every row, and the loss of those pairs alone.

use std::ops::Range;

use multiversion::multiversion;
use tch::{Kind, Tensor};

use super::{LANES, Outcome, each_row, finite, first, here, least, softplus, total};
use crate::distance::Metric;
use crate::losses::Margin;
use crate::mining::Groups;
use crate::real::{Real, in_place};

/// Numbers of a block of the matrix: they stay in the cache, unless rows are so long that [`LEAST`] of them are more.
const BLOCK: usize = 1 << 17;
/// Rows that a block has at least: each block reads all embeddings once.
const LEAST: usize = 64;

/// Anchor, positive, negative.
type Triplet = [usize; 3];

/// Batch hard of the anchors of `x` `[B, D]` (CPU, f32 or f64, unit rows for the cosine) with int64 `labels` `[B]`: a term a
/// row that has both. Of equally far (or near) rows the lowest is taken; rows whose distances differ by less than the
/// rounding of |x|² + |y|² count as equal, or nearly so. By blocks of the centred Gram matrix, so that
/// B² numbers are never in memory at once; the terms themselves are of differences of rows. None where this routine
/// doesn't serve: another device or kind, or no rows.
pub(in crate::losses) fn batch_hard(
    x: &Tensor,
    labels: &Tensor,
    metric: Metric,
    margin: Margin,
    anchors: &Range<i64>,
) -> Option<Outcome> {
    if !here(x, labels) {
        return None;
    }
    match x.kind() {
        Kind::Float => Some(over_blocks::<f32>(x, labels, metric, margin, anchors)),
        Kind::Double => Some(over_blocks::<f64>(x, labels, metric, margin, anchors)),
        _ => None,
    }
}

fn over_blocks<T: Real>(x: &Tensor, labels: &Tensor, metric: Metric, margin: Margin, anchors: &Range<i64>) -> Outcome {
    let (chosen, all_finite) = chosen::<T>(x, labels, metric, anchors);
    let mut gradient = x.zeros_like();
    let mut rows = x.copy();
    let mut terms = Terms {
        rows: in_place::<T>(&mut rows),
        gradient: in_place::<T>(&mut gradient),
        metric,
        margin,
        value: 0.,
        active: 0,
    };
    sum(&mut terms, &chosen, x.size()[1] as usize);
    let (value, active) = (if all_finite { terms.value } else { f64::NAN }, terms.active);
    if value.is_nan() {
        // An optimiser must not take what is broken for a step of nothing.
        gradient = gradient.fill_(f64::NAN);
    }
    Outcome::new(gradient, value, chosen.len() as i64, active)
}

/// The triplet of each anchor that has one, and whether no square overflowed.
fn chosen<T: Real>(x: &Tensor, labels: &Tensor, metric: Metric, anchors: &Range<i64>) -> (Vec<Triplet>, bool) {
    let batch = x.size()[0] as usize;
    let groups = Groups::of(labels, batch);
    let (x, mut squares) = match metric {
        // -x·y orders as the distance does; rows of zeros, whose cosine is 0, have no length to go by.
        Metric::Cosine => (x.copy(), x.zeros_like().select(1, 0).contiguous()),
        _ => {
            let x = x - x.mean_dim(0, true, None::<Kind>);
            let squares = x.square().sum_dim_intlist(1, false, None::<Kind>);
            (x, squares)
        }
    };
    let (squares, right) = (&*in_place::<T>(&mut squares), x.tr());
    let rows = (BLOCK / batch).max(LEAST).min(batch);
    let anchors = anchors.start as usize..anchors.end as usize;
    let mut all = Vec::with_capacity(anchors.len());
    for start in anchors.clone().step_by(rows) {
        let count = rows.min(anchors.end - start);
        let mut block = x.narrow(0, start as i64, count as i64).matmul(&right);
        let each = |_: &mut (), i, row: &mut [T]| choose(start + i, row, squares, &groups);
        all.extend(each_row(in_place(&mut block), batch, || (), each).into_iter().flatten());
    }
    (all, finite(squares))
}

/// The triplet of anchor `a`, whose scalar products with all rows are in `row`.
#[multiversion(targets("x86_64+avx2"))]
fn choose<T: Real>(a: usize, row: &mut [T], squares: &[T], groups: &Groups) -> Option<Triplet> {
    let own = groups.group[a];
    // |y|² - 2 x·y: the squared distance less what the whole row shares.
    row.iter_mut().zip(squares).for_each(|(d, &square)| *d = square - (*d + *d));
    let mut far: Option<usize> = None;
    for &p in groups.members[own as usize].iter().filter(|&&p| p != a) {
        if far.is_none_or(|f| row[p] > row[f]) {
            far = Some(p);
        }
    }
    let near = least(row, &groups.group, |d, group| if group != own { d } else { T::INFINITY });
    let n = first(row, &groups.group, |d, group| (d == near) & (group != own));
    Some([a, far?, n?])
}

/// The loss of the triplets so far, and its gradient.
struct Terms<'a, T> {
    rows: &'a [T],
    gradient: &'a mut [T],
    metric: Metric,
    margin: Margin,
    value: f64,
    active: i64,
}

#[multiversion(targets("x86_64+avx2"))]
fn sum<T: Real>(terms: &mut Terms<'_, T>, chosen: &[Triplet], width: usize) {
    // A NaN anywhere is seen, also where no row was chosen.
    if !finite(terms.rows) {
        terms.value = f64::NAN;
    }
    for &[a, p, n] in chosen {
        let [x, y, z] = [a, p, n].map(|i| &terms.rows[i * width..(i + 1) * width]);
        let (d_ap, d_an) = (apart(terms.metric, x, y), apart(terms.metric, x, z));
        let (charge, slope) = charge(terms.margin, d_ap - d_an);
        terms.value += charge.into();
        terms.active += i64::from(charge > T::ZERO);
        terms.pull(a, p, d_ap, slope, width);
        terms.pull(a, n, d_an, -slope, width);
    }
}

impl<T: Real> Terms<'_, T> {
    /// Adds `slope` times the derivative of the distance `d` between rows `i` and `j` to both gradients.
    #[inline(always)]
    fn pull(&mut self, i: usize, j: usize, d: T, slope: T, width: usize) {
        let (x, y) = (&self.rows[i * width..(i + 1) * width], &self.rows[j * width..(j + 1) * width]);
        let factor = match self.metric {
            Metric::Euclidean if d == T::ZERO => T::ZERO,
            Metric::Euclidean => slope / d,
            Metric::SquaredEuclidean => slope + slope,
            Metric::Cosine => -slope,
        };
        let cosine = self.metric == Metric::Cosine;
        for (of, sign) in [(i, factor), (j, if cosine { factor } else { -factor })] {
            let gradient = &mut self.gradient[of * width..(of + 1) * width];
            if cosine {
                let other = if of == i { y } else { x };
                gradient.iter_mut().zip(other).for_each(|(g, &y)| *g = *g + sign * y);
            } else {
                gradient.iter_mut().zip(x.iter().zip(y)).for_each(|(g, (&x, &y))| *g = *g + sign * (x - y));
            }
        }
    }
}

/// The distance of two rows from their differences: exact for rows that nearly coincide.
#[inline(always)]
fn apart<T: Real>(metric: Metric, x: &[T], y: &[T]) -> T {
    let of = |x: T, y: T| match metric {
        Metric::Cosine => x * y,
        _ => (x - y) * (x - y),
    };
    let mut lanes = [T::ZERO; LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane] + of(x[lane], y[lane]);
        }
    }
    let rest = x_rest.iter().zip(y_rest).fold(T::ZERO, |sum, (&x, &y)| sum + of(x, y));
    let sum = total(&lanes) + rest;
    match metric {
        Metric::Euclidean => sum.root(),
        Metric::SquaredEuclidean => sum,
        Metric::Cosine => T::of(1.) - sum,
    }
}

/// [`Margin::charge`] of `z` and its derivative.
#[inline(always)]
fn charge<T: Real>(margin: Margin, z: T) -> (T, T) {
    match margin {
        Margin::Hard(m) => {
            let z = z + T::of(m);
            if z <= T::ZERO { (T::ZERO, T::ZERO) } else { (z, T::of(1.)) }
        }
        Margin::Soft => {
            let (charge, slope) = softplus(z.into());
            (T::of(charge), T::of(slope))
        }
    }
}
