//! Work that several processes share. Rows are dealt in blocks that are the same however many processes there are, so that
//! a number comes of the same arithmetic whichever of them computes it.

use std::convert::Infallible;
use std::ops::Range;

/// The processes that share the work.
pub trait Others {
    /// Why a list did not arrive.
    type Error;

    /// This process's number, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// The lists of all processes in their order; every process calls this equally often.
    fn gather(&self, own: &[f64]) -> Result<Vec<Vec<f64>>, Self::Error>;
}

/// A run of one process, which computes everything itself.
#[derive(Debug, Clone, Copy)]
pub struct Alone;

impl Others for Alone {
    type Error = Infallible;

    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn gather(&self, own: &[f64]) -> Result<Vec<Vec<f64>>, Infallible> {
        Ok(vec![own.to_vec()])
    }
}

/// What was found of a row, as numbers, one at least.
pub(crate) trait Row: Sized {
    fn put(&self, numbers: &mut Vec<f64>);
    /// From what `put` gave; whatever follows stays.
    fn take(numbers: &mut impl Iterator<Item = f64>) -> Self;
}

impl Row for f64 {
    fn put(&self, numbers: &mut Vec<f64>) {
        numbers.push(*self);
    }
    fn take(numbers: &mut impl Iterator<Item = f64>) -> f64 {
        numbers.next().unwrap_or(f64::NAN)
    }
}

impl Row for i64 {
    fn put(&self, numbers: &mut Vec<f64>) {
        numbers.push(*self as f64);
    }
    fn take(numbers: &mut impl Iterator<Item = f64>) -> i64 {
        f64::take(numbers) as i64
    }
}

impl Row for Vec<f64> {
    fn put(&self, numbers: &mut Vec<f64>) {
        numbers.push(self.len() as f64);
        numbers.extend(self);
    }
    fn take(numbers: &mut impl Iterator<Item = f64>) -> Vec<f64> {
        (0..f64::take(numbers) as usize).map(|_| f64::take(numbers)).collect()
    }
}

/// Rows of all processes that travel at once, about.
const ROWS: usize = 1 << 15;
/// Rows of a pass, about.
const PASS: usize = 1 << 13;

/// Rows of `width` numbers that take half a gibibyte of f32 at most, or 16.
pub(crate) fn tall(width: usize) -> usize {
    ((1 << 27) / width.max(1) / 16 * 16).clamp(16, 1024)
}

/// Which rows each process works on: consecutive ones, in whole blocks.
pub(crate) struct Dealt {
    bounds: Vec<usize>,
    rank: usize,
    block: usize,
}

impl Dealt {
    /// `rows` rows in blocks of `block`, the last of which may be shorter.
    pub fn new<O: Others>(rows: usize, block: usize, others: &O) -> Dealt {
        let (size, blocks) = (others.size().max(1), rows.div_ceil(block));
        let bounds = (0..=size).map(|rank| (rank * blocks / size * block).min(rows)).collect();
        Dealt { bounds, rank: others.rank(), block }
    }

    /// This process's rows.
    pub fn own(&self) -> Range<usize> {
        self.bounds[self.rank]..self.bounds[self.rank + 1]
    }

    /// This process's rows, one block after another.
    pub fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        self.blocks_of(self.own())
    }

    /// The blocks of such `rows` as passes give.
    pub fn blocks_of(&self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        parts(rows, self.block)
    }

    /// This process's rows, some thousand in whole blocks at a time.
    pub fn passes(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        self.passes_of(PASS)
    }

    /// This process's rows, in whole blocks at a time, as many as have `rows` rows at most, or one.
    pub fn passes_of(&self, rows: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        parts(self.own(), (rows / self.block).max(1) * self.block)
    }

    /// What all processes found of all rows, from what each found of its `own`, in the order of the rows.
    pub fn gather<R: Row, O: Others>(&self, own: Vec<R>, others: &O) -> Result<Vec<R>, O::Error> {
        if self.bounds.len() == 2 {
            return Ok(own);
        }
        let shares = || self.bounds.windows(2).map(|pair| pair[1] - pair[0]);
        let mut all: Vec<Vec<R>> = shares().map(Vec::with_capacity).collect();
        let at_once = (ROWS / all.len()).max(1);
        for from in (0..shares().max().unwrap_or(0)).step_by(at_once) {
            let mut numbers = Vec::new();
            own.iter().skip(from).take(at_once).for_each(|row| row.put(&mut numbers));
            for (rows, list) in all.iter_mut().zip(others.gather(&numbers)?) {
                let mut numbers = list.into_iter().peekable();
                while numbers.peek().is_some() {
                    rows.push(R::take(&mut numbers));
                }
            }
        }
        Ok(all.into_iter().flatten().collect())
    }
}

/// `rows`, at most `most` at a time.
fn parts(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    rows.clone().step_by(most).map(move |from| from..(from + most).min(rows.end))
}
