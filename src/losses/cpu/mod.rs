//! Losses from their inputs to their gradient in one go, where the numbers are in this machine's memory.
//!
//! The tensor forms serve every device; these give the same numbers without a graph. What is summed stands side by side
//! in lanes, which the compiler turns into vector instructions, never into fused multiply-add: every processor rounds
//! alike, but in matrix products and in the C library's logarithm and exponential. What runs in lanes is a function that is
//! always inlined and no closure, which might stay one, outside of the wide registers.

use std::cell::Cell;
use std::ops::Range;

use tch::{Device, Tensor};

use super::Tally;
use crate::node::node;
use crate::real::Real;
use crate::team;

mod batch_hard;
mod lsep;
mod weighted;

pub(super) use batch_hard::batch_hard;
pub(super) use lsep::lsep;
pub(super) use weighted::{Sum, weighted};

/// What a loss came to, or some anchors' share of it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The size and kind of the inputs: the derivative of the sum with respect to each number.
    pub gradient: Tensor,
    /// The sum of all terms.
    pub value: Tensor,
    /// How many terms there are.
    pub terms: Tensor,
    /// How many of them are above 0.
    pub active: Tensor,
}

impl Outcome {
    fn new(gradient: Tensor, value: f64, terms: i64, active: i64) -> Outcome {
        Outcome { gradient, value: Tensor::from(value), terms: Tensor::from(terms), active: Tensor::from(active) }
    }

    /// The loss of inputs `x` as one node of their graph, in their kind and on their device. It has no second derivative.
    ///
    /// # Panics
    /// Where libtorch fails, e.g. out of memory.
    pub fn of(self, x: &Tensor) -> Tally {
        let (gradient, value) = (self.gradient, self.value.to_device(x.device()).to_kind(x.kind()));
        let sum = node(value, &[x], move |slope, _| vec![Some(&gradient * &slope)]);
        Tally { sum, terms: self.terms, active: self.active }
    }
}

thread_local! {
    static TENSORS: Cell<bool> = const { Cell::new(false) };
}

/// Does `work` with every loss on this thread in the tensor operations that a GPU gets, also where the CPU has a routine of
/// its own: to compare the two.
pub fn in_tensors<T>(work: impl FnOnce() -> T) -> T {
    let before = TENSORS.replace(true);
    let done = work();
    TENSORS.set(before);
    done
}

/// Whether there are inputs, in this machine's memory.
fn here(x: &Tensor, labels: &Tensor) -> bool {
    !TENSORS.get() && x.device() == Device::Cpu && labels.device() == Device::Cpu && x.numel() > 0
}

thread_local! {
    /// Most numbers of a distance matrix that are held at once.
    static AT_ONCE: Cell<usize> = const { Cell::new(1 << 24) };
}

/// Does `work` with blocks of at most `numbers` distances in every loss on this thread: to see that blocks change nothing.
pub fn in_blocks<T>(numbers: usize, work: impl FnOnce() -> T) -> T {
    let before = AT_ONCE.replace(numbers);
    let done = work();
    AT_ONCE.set(before);
    done
}

/// Whether `anchors` are a whole batch whose matrix may be held at once.
pub(super) fn whole(anchors: &Range<i64>, batch: usize) -> bool {
    anchors.end - anchors.start == batch as i64 && batch * batch <= AT_ONCE.get()
}

/// `anchors` in blocks whose rows of `batch` distances may be held at once.
pub(super) fn blocks(anchors: &Range<i64>, batch: usize) -> impl Iterator<Item = Range<i64>> + use<> {
    let (end, height) = (anchors.end, (AT_ONCE.get() / batch.max(1)).max(1));
    anchors.clone().step_by(height).map(move |start| start..end.min(start + height as i64))
}

/// The gradient of a sum of weighted distances from blocks of anchors, by two matrix products each: with p_ij what row i
/// takes from its distance to row j, Σ_j p_ij (x_i - x_j) for row i and Σ_i p_ij (x_j - x_i) for row j; of the cosine,
/// -Σ_j p_ij x_j and -Σ_i p_ij x_i.
pub(super) struct Pull<'a> {
    rows: &'a Tensor,
    /// `[B, D + 1]`: the rows times -1, and a column of ones, whose products are the sums of p.
    factor: Tensor,
    sum: Tensor,
}

impl<'a> Pull<'a> {
    /// Of `rows` `[B, D]`.
    pub fn new(rows: &'a Tensor) -> Pull<'a> {
        let ones = rows.new_ones([rows.size()[0], 1], (rows.kind(), rows.device()));
        let factor = Tensor::cat(&[rows.neg(), ones], 1);
        Pull { rows, sum: factor.zeros_like(), factor }
    }

    /// Adds p `[A, B]` of the rows `anchors`.
    pub fn add(&mut self, p: &Tensor, anchors: &Range<i64>) {
        let own = |x: &Tensor| x.narrow(0, anchors.start, anchors.end - anchors.start);
        let _ = own(&self.sum).addmm_(p, &self.factor);
        let _ = self.sum.addmm_(&p.tr(), &own(&self.factor));
    }

    /// `[B, D]`; `differences` of all metrics but the cosine.
    pub fn gradient(self, differences: bool) -> Tensor {
        let width = self.rows.size()[1];
        let products = self.sum.narrow(1, 0, width);
        if differences { products + self.sum.narrow(1, width, 1) * self.rows } else { products.contiguous() }
    }
}

/// Numbers for which other threads are asked: waking them takes longer than fewer do.
const MANY: usize = 1 << 16;

/// `f(scratch, i, row)` of all rows of `width` of a table, in their order, by several threads where that pays.
fn each_row<T: Real, S, R: Send>(
    table: &mut [T],
    width: usize,
    scratch: impl Fn() -> S + Sync + Send,
    f: impl Fn(&mut S, usize, &mut [T]) -> R + Sync + Send,
) -> Vec<R> {
    if table.len() >= MANY {
        return team::rows(table, width, scratch, f);
    }
    let mut scratch = scratch();
    table.chunks_mut(width).enumerate().map(|(i, row)| f(&mut scratch, i, row)).collect()
}

/// Entries side by side: a compiler may not reorder one running minimum or sum, but keeps sixteen in registers.
const LANES: usize = 16;

/// The least of `of(x[i], also[i])`, infinity for an empty `x`. Chunks of one length, so that no bound is checked within.
#[inline(always)]
fn least<T: Real, A: Copy>(x: &[T], also: &[A], of: impl Fn(T, A) -> T) -> T {
    let mut lanes = [T::INFINITY; LANES];
    let ((x, x_rest), (also, also_rest)) = (x.as_chunks::<LANES>(), also.as_chunks::<LANES>());
    for (x, also) in x.iter().zip(also) {
        for lane in 0..LANES {
            let value = of(x[lane], also[lane]);
            lanes[lane] = if value < lanes[lane] { value } else { lanes[lane] };
        }
    }
    let smaller = |near: T, value: T| if value < near { value } else { near };
    let rest = x_rest.iter().zip(also_rest).map(|(&x, &also)| of(x, also)).fold(T::INFINITY, smaller);
    lanes.into_iter().fold(rest, smaller)
}

/// The first place where `of(x[i], also[i])` holds.
#[inline(always)]
fn first<T: Copy, A: Copy>(x: &[T], also: &[A], of: impl Fn(T, A) -> bool) -> Option<usize> {
    let (chunks, _) = x.as_chunks::<LANES>();
    let (also_chunks, _) = also.as_chunks::<LANES>();
    let any = |(x, also): (&[T; LANES], &[A; LANES])| (0..LANES).fold(false, |any, lane| any | of(x[lane], also[lane]));
    let from = chunks.iter().zip(also_chunks).position(any).unwrap_or(chunks.len()) * LANES;
    let at = x[from..].iter().zip(&also[from..]).position(|(&x, &also)| of(x, also));
    at.map(|at| from + at)
}

/// The sum of a row.
#[inline(always)]
fn total<T: Real>(x: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (x, rest) = x.as_chunks::<LANES>();
    for x in x {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane] + x[lane];
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(T::ZERO, |sum, x| sum + x)
}

/// Whether all numbers of a row are finite.
#[inline(always)]
fn finite<T: Real>(x: &[T]) -> bool {
    x.iter().fold(true, |all, x| all & x.finite())
}

/// `log(1 + e^z)` and its slope, neither of which overflows.
#[inline(always)]
fn softplus(z: f64) -> (f64, f64) {
    let small = (-z.abs()).exp();
    (z.max(0.) + small.ln_1p(), if z >= 0. { 1. } else { small } / (1. + small))
}
