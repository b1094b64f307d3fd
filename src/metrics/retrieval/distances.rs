//! Distances between two sets, a block of rows at a time, so that memory never holds the whole matrix.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::distance::Metric;
use crate::metrics::others::tall;
use crate::real::{Real, in_place, wide};
use crate::team;

/// Distances that a block holds at most (8 MiB of f32), but for [`LEAST`]; a thread with blocks of its own has one. Fewer
/// rows would copy the other set into the product's own order more often.
const CELLS: usize = 1 << 21;
/// Rows that a block has at least: each block reads the whole other set, which fewer rows would not pay for. Their
/// distances take a quarter of the memory that embeddings of width 128 take.
const LEAST: usize = 32;
/// Columns that are multiplied at once.
const TILE: usize = 512;

/// Both sets, prepared so that one matrix product gives a block of distances: a row of `left` is (-2x, |x|^2, 1) and a
/// row of `right` is (y, 1, |y|^2), both less a common centre. The centre takes the large common mean out of the Gram
/// form, which otherwise loses all digits to it; any centre gives the same distances.
pub(super) struct Distances {
    left: Tensor,
    right: Tensor,
}

// SAFETY: nothing changes the two tensors after `new`; libtorch counts their owners atomically, and reading a tensor from
// several threads is sound.
unsafe impl Sync for Distances {}

impl Distances {
    /// `a` is `[A, D]`, `b` is `[B, D]`. `Euclidean` comes out squared: the order is the same and rounding the root
    /// can only add ties.
    pub(super) fn new(a: &Tensor, b: &Tensor, metric: Metric) -> Self {
        tch::no_grad(|| {
            let kind = wide(&[a, b]);
            let (a, a_zero) = prepared(a, kind, metric);
            let (b, b_zero) = prepared(&b.to_device(a.device()), kind, metric);
            let centre = centre(&b, kind);
            let left = left(&a, a_zero.as_ref(), &centre, metric);
            let right = right(&b, b_zero.as_ref(), &centre, metric);
            Distances { left, right }
        })
    }

    /// The rows of `x` `[N, D]` against each other: [`Distances::of`] says which against all.
    pub(super) fn among(x: &Tensor, metric: Metric) -> Distances {
        Distances::new(&x.narrow(0, 0, 0), x, metric)
    }

    /// The rows `rows` of the other set against all of it.
    pub(super) fn of(&self, rows: &Range<usize>) -> Distances {
        tch::no_grad(|| {
            let y = self.right.narrow(0, rows.start as i64, rows.len() as i64);
            let d = y.size()[1] - 2;
            let part = |from, n| y.narrow(1, from, n);
            let left = Tensor::cat(&[part(0, d) * -2.0, part(d + 1, 1), part(d, 1)], 1);
            Distances { left, right: self.right.shallow_clone() }
        })
    }

    pub(super) fn kind(&self) -> Kind {
        self.left.kind()
    }

    /// Rows `from .. from + n` of the matrix, `[n, B]`, on the CPU. Entries are at least 0 or not finite.
    pub(super) fn rows(&self, from: usize, n: usize) -> Tensor {
        tch::no_grad(|| {
            if self.left.device() != Device::Cpu {
                let mut d = self.left.narrow(0, from as i64, n as i64).matmul(&self.right.tr());
                return d.clamp_min_(0.).to_device(Device::Cpu);
            }
            let out = Tensor::empty([n as i64, self.right.size()[0]], (self.kind(), Device::Cpu));
            self.tiles().for_each(|tile| self.fill(from, &out, tile));
            out
        })
    }

    /// The columns in parts of [`TILE`].
    fn tiles(&self) -> impl Iterator<Item = Range<i64>> + use<> {
        let width = self.right.size()[0];
        (0..width).step_by(TILE).map(move |from| from..(from + TILE as i64).min(width))
    }

    /// Columns `tile` of the rows from `from` on, as many as `block` has, into `block` (`[n, B]`, all on the CPU). A
    /// tile of the other set stays in the processor's cache while it is multiplied, and so does what comes out until it
    /// has been clamped.
    fn fill(&self, from: usize, block: &Tensor, tile: Range<i64>) {
        // Threads that come to this have their own say on gradients.
        tch::no_grad(|| {
            let (left, width) = (self.left.narrow(0, from as i64, block.size()[0]), tile.end - tile.start);
            let mut part = block.narrow(1, tile.start, width);
            let _ = left.mm_out(&part, &self.right.narrow(0, tile.start, width).tr());
            let _ = part.clamp_min_(0.);
        });
    }

    /// The same rows, and of the columns `from .. from + n` only. The centre stays that of all.
    pub(super) fn columns(&self, from: usize, n: usize) -> Distances {
        Distances { left: self.left.shallow_clone(), right: self.right.narrow(0, from as i64, n as i64) }
    }

    /// Squared length of each row of `a` from the centre.
    pub(super) fn norms(&self) -> Tensor {
        let d = self.left.size()[1];
        self.left.narrow(1, d - 2, 1).squeeze_dim(1)
    }
}

/// Rows that are prepared at once: few enough to stay in cache, and a gallery is not copied whole on the way.
const ROWS: i64 = 1 << 11;

/// Distances of which both sets are prepared when they are wanted: a block of the one, and for every block of it the other,
/// some thousand rows at a time. For sets that memory does not hold, but files that are mapped as tensors.
pub(crate) struct Streamed<'a> {
    other: &'a Tensor,
    kind: Kind,
    centre: Tensor,
    set: &'a Tensor,
    /// Rows of it.
    index: &'a [usize],
    metric: Metric,
}

impl Streamed<'_> {
    /// `a` is `[A, D]`, of `b` `[N, D]` there are the rows `index`, `[B, D]`; of any device, what comes out is on the CPU.
    pub fn new<'a>(a: &'a Tensor, b: &'a Tensor, index: &'a [usize], metric: Metric) -> Streamed<'a> {
        tch::no_grad(|| {
            let kind = wide(&[a, b]);
            // Any centre will do: one of some thousand rows from all over.
            let some = a.slice(0, None, None, (a.size()[0] / AT_ONCE as i64).max(1));
            let centre = centre(&prepared(&some.to_device(Device::Cpu), kind, metric).0, kind);
            Streamed { other: a, kind, centre, set: b, index, metric }
        })
    }

    /// Rows `from .. from + n` of the matrix, `[n, B]`, as [`Distances::rows`] gives them.
    pub fn rows(&self, from: usize, n: usize) -> Tensor {
        tch::no_grad(|| {
            let out = Tensor::empty([n as i64, self.index.len() as i64], (self.kind, Device::Cpu));
            let own = self.other.narrow(0, from as i64, n as i64).to_device(Device::Cpu);
            let (own, zero) = prepared(&own, self.kind, self.metric);
            let left = left(&own, zero.as_ref(), &self.centre, self.metric);
            let mut start = 0;
            for index in self.index.chunks(AT_ONCE) {
                let rows = Tensor::from_slice(&index.iter().map(|&row| row as i64).collect::<Vec<_>>());
                let part = self.set.index_select(0, &rows.to_device(self.set.device())).to_device(Device::Cpu);
                let (part, zero) = prepared(&part, self.kind, self.metric);
                let right = right(&part, zero.as_ref(), &self.centre, self.metric);
                let (distances, width) = (Distances { left: left.shallow_clone(), right }, index.len() as i64);
                for block in (0..n).step_by(self.block()) {
                    let columns = out.narrow(0, block as i64, self.block().min(n - block) as i64);
                    let columns = columns.narrow(1, start, width);
                    distances.tiles().for_each(|tile| distances.fill(block, &columns, tile));
                }
                start += width;
            }
            out
        })
    }

    /// For so many rows at once the whole set is gone over.
    pub fn height(&self) -> usize {
        tall(self.index.len())
    }

    /// Rows that are multiplied at once, so few that several dozen processes have some.
    pub fn block(&self) -> usize {
        let share = (self.other.size()[0] as usize).div_ceil(64).next_multiple_of(16);
        share.clamp(16, self.height())
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// Rows of the streamed set that are prepared at once.
const AT_ONCE: usize = 1 << 13;

/// Half the squared distance of unit rows is 1 - cos.
fn scale(metric: Metric) -> f64 {
    if metric == Metric::Cosine { 0.5f64.sqrt() } else { 1.0 }
}

/// A side of [`Distances`] from what [`prepared`] gave.
fn left(x: &Tensor, zero: Option<&Tensor>, centre: &Tensor, metric: Metric) -> Tensor {
    side(x, zero, centre, scale(metric), |x, norm| [x * -2.0, norm.copy(), norm.ones_like()])
}

/// The other side.
fn right(x: &Tensor, zero: Option<&Tensor>, centre: &Tensor, metric: Metric) -> Tensor {
    side(x, zero, centre, scale(metric), |y, norm| [y.copy(), norm.ones_like(), norm.copy()])
}

/// The parts of `x` of at most [`ROWS`] rows, each with its first row.
fn parts(x: &Tensor) -> impl Iterator<Item = (i64, Tensor)> + '_ {
    let rows = x.size()[0];
    (0..rows).step_by(ROWS as usize).map(move |from| (from, x.narrow(0, from, ROWS.min(rows - from))))
}

/// The rows of `x` less the centre with the columns that make distances of a matrix product, `[n, D + 2]`: `of` gives
/// them from rows and their squared lengths (`[n, 1]`, `zero` added).
fn side(
    x: &Tensor,
    zero: Option<&Tensor>,
    centre: &Tensor,
    scale: f64,
    of: impl Fn(&Tensor, &Tensor) -> [Tensor; 3],
) -> Tensor {
    let (rows, width) = (x.size()[0], x.size()[1]);
    let out = Tensor::empty([rows, width + 2], (x.kind(), x.device()));
    for (from, part) in parts(x) {
        let part = (part - centre) * scale;
        let mut norm = part.square().sum_dim_intlist(&[1i64][..], true, x.kind());
        if let Some(zero) = zero {
            norm += zero.narrow(0, from, part.size()[0]);
        }
        out.narrow(0, from, part.size()[0]).copy_(&Tensor::cat(&of(&part, &norm), 1));
    }
    out
}

/// The mean row, rounded to a multiple of a power of two about as large as the spread of the rows: taking such a centre
/// away rounds (almost) nothing, so that distances that are equal stay equal.
fn centre(x: &Tensor, kind: Kind) -> Tensor {
    let width = x.size()[1];
    let mut sum = Tensor::zeros([1, width], (Kind::Double, x.device()));
    for (_, part) in parts(x) {
        // A row that isn't finite must not reach the other rows through the centre.
        sum += part.nan_to_num(0., 0., 0.).sum_dim_intlist(&[0i64][..], true, Kind::Double);
    }
    let mean = (sum / x.size()[0].max(1) as f64).to_kind(kind).nan_to_num(0., 0., 0.);
    if x.numel() == 0 {
        return mean;
    }
    let spread = parts(x)
        .map(|(_, part)| (part - &mean).abs().nan_to_num(0., 0., 0.).max().double_value(&[]))
        .fold(0., f64::max);
    let grid = spread.log2().floor().exp2();
    // Far below the smallest normal number there is nothing to gain.
    if grid > 1e-30 && grid < 1e30 { (mean / grid).round() * grid } else { mean }
}

/// Rows in `kind`, normalised for the cosine; and then, as a column, 1/2 for each row of zeros, whose cosine is taken as 0.
fn prepared(x: &Tensor, kind: Kind, metric: Metric) -> (Tensor, Option<Tensor>) {
    let x = x.detach().to_kind(kind);
    if metric != Metric::Cosine {
        return (x, None);
    }
    // Dividing by the largest entry first keeps the squares of very small and very large rows in range.
    let top = x.abs().amax(&[1i64][..], true);
    let zero = top.eq(0.).to_kind(kind);
    let x = x / (&top + &zero);
    let length = x.square().sum_dim_intlist(&[1i64][..], true, kind).sqrt() + &zero;
    (x / length, Some(zero * 0.5))
}

/// Rows of a block whose rows have `width` distances: whole registers' worth.
pub(super) fn height(width: usize) -> usize {
    (CELLS / width.max(1) / 16 * 16).clamp(LEAST, 1024)
}

/// Calls `f(i, row)` for each of `n` rows of width `width`, in parallel within a block; `rows(from, n)` gives a block in
/// memory of its own, which `f` may overwrite.
pub(super) fn for_rows<T: Real, R: Send>(
    n: usize,
    width: usize,
    rows: impl Fn(usize, usize) -> Tensor,
    f: impl Fn(usize, &mut [T]) -> R + Sync,
) -> Vec<R> {
    for_blocks(n, width, rows, f, |_, _| ())
}

/// [`for_rows`] on those `rows` of `distances`, in memory that is taken once. Where blocks of [`CELLS`] have rows enough, every
/// thread multiplies and judges blocks of its own; where rows are longer, all share one block and take
/// tiles of it, then rows. Heights don't depend on the number of threads, and so neither do the distances.
pub(super) fn for_distances<T: Real, R: Send>(
    rows: Range<usize>,
    width: usize,
    distances: &Distances,
    f: impl Fn(usize, &mut [T]) -> R + Sync,
) -> Vec<R> {
    if width == 0 || distances.left.device() != Device::Cpu {
        let first = rows.start;
        let block = |from: usize, n: usize| distances.rows(first + from, n);
        return for_rows(rows.len(), width, block, |i, row: &mut [T]| f(first + i, row));
    }
    let (height, end) = (height(width).min(rows.len()), rows.end);
    let empty = || Block(Tensor::empty([height as i64, width as i64], (distances.kind(), Device::Cpu)));
    let starts: Vec<usize> = rows.step_by(height.max(1)).collect();
    if CELLS / width < LEAST {
        let (block, tiles) = (empty(), distances.tiles().collect::<Vec<_>>());
        let judged = starts.into_iter().map(|from| -> Vec<R> {
            let mut part = block.first(height.min(end - from));
            let block = &part;
            team::map(tiles.len(), || (), |(), i| distances.fill(from, &block.0, tiles[i].clone()));
            team::rows(in_place::<T>(&mut part.0), width, || (), |(), i, row| f(from + i, row))
        });
        return judged.flatten().collect();
    }
    // One block a thread: pages of fresh memory would cost a fifth of the time.
    let found = team::map(starts.len(), empty, |block, i| -> Vec<R> {
        let from = starts[i];
        let mut part = block.first(height.min(end - from));
        distances.tiles().for_each(|tile| distances.fill(from, &part.0, tile));
        in_place::<T>(&mut part.0).chunks_mut(width).enumerate().map(|(i, row)| f(from + i, row)).collect()
    });
    found.into_iter().flatten().collect()
}

/// A block that threads write different parts of.
struct Block(Tensor);

// SAFETY: libtorch counts a tensor's owners atomically, its shape doesn't change here, and what is written at once are
// tiles that don't overlap.
unsafe impl Sync for Block {}

impl Block {
    /// Its first `n` rows, where they lie.
    fn first(&self, n: usize) -> Block {
        Block(self.0.narrow(0, 0, n as i64))
    }
}

/// `for_rows`, and after each block `done(first row, block)` with what `f` left in the rows.
pub(super) fn for_blocks<T: Real, R: Send>(
    n: usize,
    width: usize,
    rows: impl Fn(usize, usize) -> Tensor,
    f: impl Fn(usize, &mut [T]) -> R + Sync,
    mut done: impl FnMut(usize, &[T]),
) -> Vec<R> {
    if width == 0 {
        return (0..n).map(|i| f(i, &mut [])).collect();
    }
    let height = height(width);
    let mut out = Vec::with_capacity(n);
    for from in (0..n).step_by(height) {
        let h = height.min(n - from);
        let mut block = rows(from, h).to_device(Device::Cpu).contiguous();
        let block = in_place::<T>(&mut block);
        assert_eq!(block.len(), h * width, "a block of whole rows");
        out.extend(team::rows(block, width, || (), |(), i, row| f(from + i, row)));
        done(from, block);
    }
    out
}
