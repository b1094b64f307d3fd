//! The nearest of many rows to one of them, where rows are joined: one pass over them in f32, and f64 among the few that it
//! cannot tell apart.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;
use tch::{Kind, Tensor};

use crate::real::numbers;

/// Rows whose distances to one point are computed at once.
pub const BLOCK: usize = 1024;
/// Rows of a panel, which lie beside one another number by number: one instruction takes some of them. A part of [`BLOCK`].
const SIDE: usize = 32;
/// Squared lengths from which on f32 may have no room for what is computed of them.
const LONG: f64 = 1e30;

/// Clusters: the means of their members, and their mean squared lengths.
pub struct Centres {
    width: usize,
    /// f32 `[n / SIDE, width, SIDE]`.
    panels: Vec<f32>,
    /// f64 `[n, width]`; empty where f32 has to do.
    rows: Vec<f64>,
    /// Infinite of one that is gone.
    squares: Vec<f64>,
    /// The same in f32, and infinite beyond the last row.
    short: Vec<f32>,
    /// Of the last search: squared distances less the point's own squared length.
    found: Vec<f32>,
    /// The largest of `squares` there was.
    longest: f64,
}

impl Centres {
    fn room(n: usize, width: usize, is_precise: bool) -> Centres {
        let padded = n.next_multiple_of(SIDE);
        Centres {
            width,
            panels: vec![0.; padded * width],
            rows: vec![0.; if is_precise { n * width } else { 0 }],
            squares: vec![0.; n],
            short: vec![f32::INFINITY; padded],
            found: vec![f32::INFINITY; padded],
            longest: 0.,
        }
    }

    /// The rows of `x` `[n, D]`, a cluster each. Distances are f64 where they are to be precise, else f32.
    ///
    /// # Panics
    /// Where D is 0.
    pub fn new(x: &Tensor, is_precise: bool) -> Centres {
        let (n, width) = (x.size()[0] as usize, x.size()[1] as usize);
        let mut all = Centres::room(n, width, is_precise);
        for from in (0..n).step_by(BLOCK) {
            let block = x.narrow(0, from as i64, BLOCK.min(n - from) as i64);
            let block = numbers::<f64>(&block.detach().to_kind(Kind::Double));
            for (row, numbers) in block.chunks(width).enumerate() {
                all.put(from + row, numbers, numbers.iter().map(|x| x * x).sum());
            }
        }
        all
    }

    /// The rows `kept`, in this order.
    pub fn keep(&self, kept: &[usize]) -> Centres {
        let mut left = Centres::room(kept.len(), self.width, !self.rows.is_empty());
        kept.iter().enumerate().for_each(|(to, &row)| left.put(to, &self.mean(row), self.squares[row]));
        left
    }

    fn put(&mut self, row: usize, numbers: &[f64], square: f64) {
        let first = row / SIDE * SIDE * self.width + row % SIDE;
        self.panels[first..].iter_mut().step_by(SIDE).zip(numbers).for_each(|(to, &x)| *to = x as f32);
        if let Some(to) = self.rows.get_mut(row * self.width..(row + 1) * self.width) {
            to.copy_from_slice(numbers);
        }
        (self.squares[row], self.short[row]) = (square, square as f32);
        self.longest = self.longest.max(if square.is_finite() { square } else { 0. });
    }

    fn mean(&self, row: usize) -> Vec<f64> {
        if let Some(own) = self.rows.get(row * self.width..(row + 1) * self.width) {
            return own.to_vec();
        }
        let first = row / SIDE * SIDE * self.width + row % SIDE;
        self.panels[first..].iter().step_by(SIDE).take(self.width).map(|&x| x.into()).collect()
    }

    /// The mean squared length of a cluster's members.
    pub fn square(&self, row: usize) -> f64 {
        self.squares[row]
    }

    /// Joins `tip` to `near`; so many members they have.
    pub fn join(&mut self, near: usize, tip: usize, (of_near, of_tip): (f64, f64)) {
        let mean = |a: f64, b: f64| (a * of_near + b * of_tip) / (of_near + of_tip);
        let numbers: Vec<f64> = self.mean(near).into_iter().zip(self.mean(tip)).map(|(a, b)| mean(a, b)).collect();
        self.put(near, &numbers, mean(self.squares[near], self.squares[tip]));
    }

    /// From now on no row is near this one.
    pub fn remove(&mut self, row: usize) {
        (self.squares[row], self.short[row]) = (f64::INFINITY, f32::INFINITY);
    }

    /// The mean squared distance to `point`, less the point's own squared length; infinite where it is no number.
    fn distance(&self, row: usize, point: &[f64]) -> f64 {
        let own = self.rows.get(row * self.width..(row + 1) * self.width);
        let product = |own: &[f64]| own.iter().zip(point).map(|(a, b)| a * b).sum::<f64>();
        let distance = own.map_or_else(|| self.found[row].into(), |own| self.squares[row] - 2. * product(own));
        if distance.is_finite() { distance } else { f64::INFINITY }
    }

    /// Which of `rows`, whole blocks, is nearest to the row `tip`, the first of equally near ones: its distance less the tip's
    /// own squared length, its number, and the distance to `before`; infinite where `rows` have none.
    pub fn nearest(&mut self, tip: usize, before: Option<usize>, rows: Range<usize>) -> [f64; 3] {
        let (width, point) = (self.width, self.mean(tip));
        let short: Vec<f32> = point.iter().map(|&x| x as f32).collect();
        let own = std::mem::replace(&mut self.short[tip], f32::INFINITY);
        let padded = rows.start..rows.end.next_multiple_of(SIDE);
        let squares = self.short[padded.clone()].par_chunks(BLOCK);
        let panels = self.panels[padded.start * width..padded.end * width].par_chunks(BLOCK * width);
        let least: Vec<f32> = self.found[padded]
            .par_chunks_mut(BLOCK)
            .zip(squares.zip(panels))
            .map(|(found, (squares, panels))| distances(found, squares, panels, &short))
            .collect();
        self.short[tip] = own;
        // Twice what two sums of so many products and their squares can be off, and what is too small for f32.
        let precise = if self.rows.is_empty() { 0. } else { 4. * (width + 8) as f64 };
        let off = precise * (f64::from(f32::EPSILON) * self.longest + 1e-36);
        let nearest = least.iter().copied().fold(f32::INFINITY, f32::min);
        let fits = self.longest < LONG;
        let limit = if fits { ((f64::from(nearest) + off) as f32).next_up() } else { f32::INFINITY };
        let (mut best, mut row) = (f64::INFINITY, rows.start);
        for (block, _) in least.iter().enumerate().filter(|(_, least)| !fits || **least <= limit) {
            let from = rows.start + block * BLOCK;
            for other in (from..(from + BLOCK).min(rows.end)).filter(|&other| other != tip) {
                if !fits || self.found[other] <= limit {
                    let distance = self.distance(other, &point);
                    (best, row) = if distance < best { (distance, other) } else { (best, row) };
                }
            }
        }
        let before = before.filter(|before| rows.contains(before));
        [best, row as f64, before.map_or(f64::INFINITY, |before| self.distance(before, &point))]
    }
}

/// The squared distances of the rows of `panels`, of such `squares`, to `point`, less its squared length, to `found`; the least
/// of them. Without fused multiply-add, so that every processor rounds alike.
#[multiversion(targets("x86_64+avx2"))]
fn distances(found: &mut [f32], squares: &[f32], panels: &[f32], point: &[f32]) -> f32 {
    let mut least = [f32::INFINITY; SIDE];
    let rows = found.chunks_exact_mut(SIDE).zip(squares.chunks_exact(SIDE));
    for ((found, squares), panel) in rows.zip(panels.chunks_exact(SIDE * point.len())) {
        let mut sums = [0_f32; SIDE];
        for (column, &p) in panel.chunks_exact(SIDE).zip(point) {
            for (sum, &x) in sums.iter_mut().zip(column) {
                *sum += x * p;
            }
        }
        for (((found, &square), sum), least) in found.iter_mut().zip(squares).zip(sums).zip(&mut least) {
            *found = square - 2. * sum;
            *least = if *found < *least { *found } else { *least };
        }
    }
    least.into_iter().fold(f32::INFINITY, f32::min)
}
