//! Passes over rows of channels, in vector registers where the processor has them.

use multiversion::multiversion;
use tch::{Device, Kind, Tensor};

use crate::models::winograd::{LANES, activated, below};

/// Rows whose sums are taken in f32, about the first of them; sums of these are f64.
pub(super) const ROWS: usize = 64;

/// y = (x - center) · factor + offset, a number a channel. The difference comes first: it keeps its digits where the mean
/// is far from 0.
pub(super) struct Line {
    pub(super) center: Vec<f32>,
    pub(super) factor: Vec<f32>,
    pub(super) offset: Vec<f32>,
}

impl Line {
    pub(super) fn new(weight: &[f32], bias: &[f32], mean: &[f64], inverse: &[f64], scale: f64) -> Line {
        let center: Vec<f32> = mean.iter().map(|&mean| mean as f32).collect();
        let factor: Vec<f64> = weight.iter().zip(inverse).map(|(&weight, r)| scale * f64::from(weight) * r).collect();
        let offset = |c: usize| (scale * f64::from(bias[c]) + (f64::from(center[c]) - mean[c]) * factor[c]) as f32;
        let offset = (0..mean.len()).map(offset).collect();
        Line { center, factor: factor.into_iter().map(|factor| factor as f32).collect(), offset }
    }

    #[inline(always)]
    fn of(&self) -> [&[f32]; 3] {
        let channels = self.center.len();
        [&self.center[..channels], &self.factor[..channels], &self.offset[..channels]]
    }
}

/// Rows as they lie in memory: dense, or equally far apart, as those of one of several joined maps.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    numbers: &'a [f32],
    /// From the beginning of one to that of the next.
    pitch: usize,
}

impl<'a> Rows<'a> {
    /// Those of `x` `[B, ..., C]` f32 on the CPU, which nothing writes meanwhile; none where they lie otherwise.
    pub(super) fn of(x: &'a Tensor) -> Option<Rows<'a>> {
        assert!(x.device() == Device::Cpu && x.kind() == Kind::Float && x.numel() > 0, "numbers on the CPU");
        let (size, stride) = (x.size(), x.stride());
        let last = size.len() - 1;
        let pitch = (0..last).rev().find(|&i| size[i] > 1).map_or(size[last], |i| stride[i]);
        let (mut even, mut next) = (pitch >= size[last] && (stride[last] == 1 || size[last] == 1), pitch);
        for i in (0..last).rev() {
            even &= stride[i] == next || size[i] == 1;
            next *= size[i];
        }
        if !even {
            return None;
        }
        let count: i64 = size[..last].iter().product();
        let length = ((count - 1) * pitch + size[last]) as usize;
        // SAFETY: the tensor lives as long as they are borrowed, and from its first number to its last there are so many.
        let numbers = unsafe { std::slice::from_raw_parts(x.data_ptr().cast(), length) };
        Some(Rows { numbers, pitch: pitch as usize })
    }

    /// Without the first `count`.
    pub(super) fn skip(self, count: usize) -> Rows<'a> {
        Rows { numbers: &self.numbers[count * self.pitch..], ..self }
    }

    #[inline(always)]
    fn row(&self, i: usize, channels: usize) -> &'a [f32] {
        &self.numbers[i * self.pitch..][..channels]
    }
}

/// `step` of the channels from `c` on, [`LANES`] at once as long as there are so many, then one.
macro_rules! across {
    ($channels:expr, $step:ident($($with:expr),*)) => {{
        let mut c = 0;
        while c + LANES <= $channels {
            $step::<LANES>(c, $($with),*);
            c += LANES;
        }
        while c < $channels {
            $step::<1>(c, $($with),*);
            c += 1;
        }
    }};
}

#[inline(always)]
fn at<const N: usize>(x: &[f32], c: usize) -> [f32; N] {
    *x[c..].first_chunk().expect("channels of one row")
}

#[inline(always)]
fn set<const N: usize>(x: &mut [f32], c: usize, numbers: [f32; N]) {
    x[c..c + N].copy_from_slice(&numbers);
}

/// The slope before the activation of a number `z`, or what is on the same side of 0. A NaN lets it through.
#[inline(always)]
fn through<const N: usize>(dy: [f32; N], z: [f32; N], slope: f32) -> [f32; N] {
    let (low, mut g) = (below(dy, slope), [0.; N]);
    for i in 0..N {
        g[i] = if z[i] <= 0. { low[i] } else { dy[i] };
    }
    g
}

/// x - center.
#[inline(always)]
fn off<const N: usize>(x: &[f32], c: usize, center: &[f32]) -> [f32; N] {
    let (mut d, center) = (at::<N>(x, c), at::<N>(center, c));
    for i in 0..N {
        d[i] -= center[i];
    }
    d
}

/// d · factor + offset.
#[inline(always)]
fn on<const N: usize>(d: [f32; N], c: usize, [_, factor, offset]: [&[f32]; 3]) -> [f32; N] {
    let (factor, offset, mut z) = (at::<N>(factor, c), at::<N>(offset, c), [0.; N]);
    for i in 0..N {
        z[i] = d[i] * factor[i] + offset[i];
    }
    z
}

/// Adds a · b to `sum`.
#[inline(always)]
fn gather<const N: usize>(sum: &mut [f32], c: usize, a: [f32; N], b: [f32; N]) {
    let mut all = at::<N>(sum, c);
    for i in 0..N {
        all[i] += a[i] * b[i];
    }
    set(sum, c, all);
}

/// Sums over rows `x` of x - origin and of its square.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(super) fn moments(x: &[f32], origin: &[f32]) -> [Vec<f64>; 2] {
    #[inline(always)]
    fn step<const N: usize>(c: usize, x: &[f32], first: &[f32], sum: &mut [f32], square: &mut [f32]) {
        let d = off::<N>(x, c, first);
        gather(sum, c, d, [1.; N]);
        gather(square, c, d, d);
    }
    let channels = origin.len();
    let [mut sum, mut square] = [vec![0_f32; channels], vec![0_f32; channels]];
    let mut all = [vec![0_f64; channels], vec![0_f64; channels]];
    for block in x.chunks(ROWS * channels) {
        sum.fill(0.);
        square.fill(0.);
        let first = &block[..channels];
        for row in block.chunks_exact(channels) {
            across!(channels, step(row, first, &mut sum, &mut square));
        }
        let n = (block.len() / channels) as f64;
        for c in 0..channels {
            let (sum, square) = (f64::from(sum[c]), f64::from(square[c]));
            let off = f64::from(first[c]) - f64::from(origin[c]);
            all[0][c] += sum + n * off;
            all[1][c] += square + off * (2. * sum + n * off);
        }
    }
    all
}

/// act(line(x) + added) of rows.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(super) fn put(x: &[f32], added: Option<&[f32]>, y: &mut [f32], line: &Line, slope: f32) {
    #[inline(always)]
    fn step<const N: usize>(c: usize, x: &[f32], added: Option<&[f32]>, y: &mut [f32], line: [&[f32]; 3], slope: f32) {
        let mut z = on(off::<N>(x, c, line[0]), c, line);
        if let Some(added) = added {
            let added = at::<N>(added, c);
            for i in 0..N {
                z[i] += added[i];
            }
        }
        set(y, c, activated(z, slope));
    }
    let line = line.of();
    let channels = line[0].len();
    for (i, (x, y)) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)).enumerate() {
        let added = added.map(|added| &added[i * channels..(i + 1) * channels]);
        across!(channels, step(x, added, y, line, slope));
    }
}

/// What y says of the activation, and where g is written.
pub(super) type Sides<'a> = Option<(&'a [f32], &'a mut [f32])>;

/// Sums over rows of g and of g · (x - center). Without `sides`, x says on which side of 0 a number was.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(super) fn pull(dy: Rows<'_>, x: &[f32], sides: Sides<'_>, line: &Line, slope: f32) -> [Vec<f64>; 2] {
    #[inline(always)]
    fn step<const N: usize>(
        c: usize,
        [dy, x]: [&[f32]; 2],
        sides: &mut Sides<'_>,
        line: [&[f32]; 3],
        slope: f32,
        sum: &mut [f32],
        product: &mut [f32],
    ) {
        let d = off::<N>(x, c, line[0]);
        let side = match sides {
            Some((y, _)) => at::<N>(y, c),
            None => on(d, c, line),
        };
        let g = through(at::<N>(dy, c), side, slope);
        if let Some((_, out)) = sides {
            set(out, c, g);
        }
        gather(sum, c, g, [1.; N]);
        gather(product, c, g, d);
    }
    let (line, mut sides) = (line.of(), sides);
    let channels = line[0].len();
    let [mut sum, mut product] = [vec![0_f32; channels], vec![0_f32; channels]];
    let mut all = [vec![0_f64; channels], vec![0_f64; channels]];
    let rows = x.len() / channels;
    for block in (0..rows).step_by(ROWS) {
        for row in block..rows.min(block + ROWS) {
            let at = row * channels..(row + 1) * channels;
            let mut sides = sides.as_mut().map(|(y, g)| (&y[at.clone()], &mut g[at.clone()]));
            let given = [dy.row(row, channels), &x[at]];
            across!(channels, step(given, &mut sides, line, slope, &mut sum, &mut product));
        }
        for (all, block) in all.iter_mut().zip([&mut sum, &mut product]) {
            all.iter_mut().zip(&*block).for_each(|(all, &block)| *all += f64::from(block));
            block.fill(0.);
        }
    }
    all
}

/// The slopes of rows x: factor · g - (x - center) · tilt - shift.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(super) fn back(dy: Rows<'_>, x: &[f32], dx: &mut [f32], line: &Line, less: [&[f32]; 2], slope: f32) {
    #[inline(always)]
    fn step<const N: usize>(
        c: usize,
        [dy, x]: [&[f32]; 2],
        dx: &mut [f32],
        line: [&[f32]; 3],
        [tilt, shift]: [&[f32]; 2],
        slope: f32,
    ) {
        let d = off::<N>(x, c, line[0]);
        let mut slopes = through(at::<N>(dy, c), on(d, c, line), slope);
        let (factor, tilt, shift) = (at::<N>(line[1], c), at::<N>(tilt, c), at::<N>(shift, c));
        for i in 0..N {
            slopes[i] = slopes[i] * factor[i] - d[i] * tilt[i] - shift[i];
        }
        set(dx, c, slopes);
    }
    let line = line.of();
    let channels = line[0].len();
    for (i, (x, dx)) in x.chunks_exact(channels).zip(dx.chunks_exact_mut(channels)).enumerate() {
        let given = [dy.row(i, channels), x];
        across!(channels, step(given, dx, line, less, slope));
    }
}
