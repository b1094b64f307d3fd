//! Batch normalisation in training and what follows it, on the CPU in f32: two passes over memory forward and two back.
//!
//! With libtorch's operators the statistics take a pass each, and so do the normalisation, the factor, the addition and
//! the activation, most of them back too. A number is computed the same way on every processor and with any number of
//! threads: sums are of fixed blocks of rows (a pixel's channels), and there is no fused multiply-add.

use multiversion::multiversion;
use tch::{Device, Kind, Tensor};

use super::layers::leaky_relu_;
use super::winograd::LANES;
use crate::node::node;
use crate::real::{in_place, read_in_place};
use crate::team;

/// What follows a normalisation: `act(scale · norm(x) + added)`.
#[derive(Debug, Clone, Copy)]
pub struct Then<'a> {
    /// 1 for none.
    pub scale: f64,
    /// Of the output's shape.
    pub added: Option<&'a Tensor>,
    /// The activation's slope below 0, in `[0, 1]`: 0 is ReLU, 1 none.
    pub slope: f64,
}

impl Then<'_> {
    /// An activation alone; of slope 1, nothing.
    pub const fn act(slope: f64) -> Then<'static> {
        Then { scale: 1., added: None, slope }
    }

    /// To `y` in place, which a function just made that doesn't need its output for its gradient.
    pub(super) fn after(&self, mut y: Tensor) -> Tensor {
        if self.scale != 1. {
            y *= self.scale;
        }
        if let Some(added) = self.added {
            y += added;
        }
        if self.slope == 1. { y } else { leaky_relu_(y, self.slope) }
    }
}

/// Rows whose sums are taken in f32, about the first of them; sums of these are f64.
const ROWS: usize = 64;
/// Numbers that a thread takes at once, or [`ROWS`] rows where they are more.
const PART: usize = 1 << 16;

/// `then` after the batch normalisation of `x` `[B, C, ...]` by its own statistics, with momentum 0.1: `of` is weight, bias,
/// running mean and running variance, `[C]` each. None where this does not serve: not on the CPU in f32, or channels of
/// one number.
pub(super) fn normalised(x: &Tensor, of: [&Tensor; 4], eps: f64, then: &Then) -> Option<Tensor> {
    let [weight, bias, running_mean, running_variance] = of;
    let (size, channels) = (x.size(), weight.numel());
    let serves = |t: &Tensor| t.device() == Device::Cpu && t.kind() == Kind::Float;
    let fits = size.get(1) == Some(&(channels as i64)) && channels > 0 && x.numel() >= 2 * channels;
    let alike = then.added.is_none_or(|added| added.size() == size);
    if !fits || !alike || !of.into_iter().chain([x]).chain(then.added).all(serves) {
        return None;
    }
    let rows = rows_of(&x.detach());
    let numbers = read_in_place::<f32>(&rows);
    let n = (numbers.len() / channels) as f64;
    let origin = &numbers[..channels];
    let part = part(channels);
    let parts: Vec<&[f32]> = numbers.chunks(part).collect();
    let [sum, square] = total(team::map(parts.len(), || (), |_, i| moments(parts[i], origin)));
    let mut mean: Vec<f64> = sum.iter().map(|sum| sum / n).collect();
    // Not `max`, which would make 0 of NaN.
    let spread = |(square, off): (&f64, &f64)| {
        let variance = square / n - off * off;
        if variance < 0. { 0. } else { variance }
    };
    let variance: Vec<f64> = square.iter().zip(&mean).map(spread).collect();
    mean.iter_mut().zip(origin).for_each(|(mean, &origin)| *mean += f64::from(origin));
    // PyTorch's running variance is the unbiased one. Nobody else reads these while a batch is trained on.
    for (running, now, factor) in [(running_mean, &mean, 1.), (running_variance, &variance, n / (n - 1.))] {
        let mut running = running.detach();
        for (running, now) in in_place::<f32>(&mut running).iter_mut().zip(now) {
            *running = (0.1 * (now * factor) + 0.9 * f64::from(*running)) as f32;
        }
    }
    let inverse: Vec<f64> = variance.iter().map(|variance| 1. / (variance + eps).sqrt()).collect();
    let [weight_now, bias_now] = [weight, bias].map(read_in_place::<f32>);
    let line = Line::new(weight_now, bias_now, &mean, &inverse, then.scale);
    let slope = then.slope as f32;

    let mut out = rows.empty_like();
    let added = then.added.map(|added| rows_of(&added.detach()));
    let added = added.as_ref().map(read_in_place::<f32>);
    team::rows(
        in_place::<f32>(&mut out),
        part,
        || (),
        |_, i, y| {
            let at = i * part..i * part + y.len();
            put(&numbers[at.clone()], added.map(|added| &added[at]), y, &line, slope);
        },
    );
    let y = turned_back(&out);
    // Which side of 0 a number was on is computed again from x, but where something was added to it.
    let sides = (then.added.is_some() && then.slope != 1.).then(|| y.detach());
    let inputs: Vec<&Tensor> = [x, weight, bias].into_iter().chain(then.added).collect();
    let kept = Kept { rows, sides, line, mean, inverse, scale: then.scale, slope };
    let versions = kept.versions();
    Some(node(y, &inputs, move |dy, needed| {
        assert_eq!(kept.versions(), versions, "what a normalisation's gradient needs was changed in place");
        kept.slopes(dy, needed)
    }))
}

/// y = (x - center) · factor + offset, a number a channel. The difference comes first: it keeps its digits where the mean
/// is far from 0.
struct Line {
    center: Vec<f32>,
    factor: Vec<f32>,
    offset: Vec<f32>,
}

impl Line {
    fn new(weight: &[f32], bias: &[f32], mean: &[f64], inverse: &[f64], scale: f64) -> Line {
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

/// What leads the slope of an output back.
struct Kept {
    /// x, a row a pixel.
    rows: Tensor,
    /// y, where x does not say on which side of 0 a number was.
    sides: Option<Tensor>,
    line: Line,
    mean: Vec<f64>,
    /// 1 / deviation.
    inverse: Vec<f64>,
    scale: f64,
    slope: f32,
}

impl Kept {
    /// How often what is kept was changed in place.
    fn versions(&self) -> [i64; 2] {
        [Some(&self.rows), self.sides.as_ref()].map(|kept| kept.map_or(0, Tensor::internal_version))
    }

    /// The slopes of x, weight, bias and, where there is one, what was added, from that of the output.
    ///
    /// With g the slope before the activation and x̂ the normalised x, that of x is
    /// factor · (g - mean(g) - x̂ · mean(g · x̂)).
    fn slopes(&self, dy: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>> {
        let (line, slope) = (&self.line, self.slope);
        let channels = line.center.len();
        let part = part(channels);
        let x = read_in_place::<f32>(&self.rows);
        let as_it_lies = channels_behind(dy);
        let dense = Rows::of(&as_it_lies).is_none().then(|| as_it_lies.contiguous());
        let given = Rows::of(dense.as_ref().unwrap_or(&as_it_lies)).expect("dense rows");
        let at = |i: usize| i * part..x.len().min((i + 1) * part);
        let mut turned = self.sides.as_ref().map(|_| self.rows.empty_like());
        let [sum, product] = total(match (&self.sides, &mut turned) {
            (Some(y), Some(turned)) => {
                let (y, turned) = (rows_of(y), in_place::<f32>(turned));
                let y = read_in_place::<f32>(&y);
                let work = |_: &mut (), i, g: &mut [f32]| {
                    pull(given.from_row(i * part / channels), &x[at(i)], Some((&y[at(i)], g)), line, slope)
                };
                team::rows(turned, part, || (), work)
            }
            _ => team::map(
                x.len().div_ceil(part),
                || (),
                |_, i| pull(given.from_row(i * part / channels), &x[at(i)], None, line, slope),
            ),
        });
        let n = (x.len() / channels) as f64;
        let off = |c: usize| f64::from(line.center[c]) - self.mean[c];
        // Σ g · x̂
        let along: Vec<f64> = (0..channels).map(|c| (product[c] + off(c) * sum[c]) * self.inverse[c]).collect();
        let of_x = needed[0].then(|| {
            let (mut tilt, mut shift) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
            for c in 0..channels {
                let (factor, along) = (f64::from(line.factor[c]) / n, along[c] * self.inverse[c]);
                tilt.push((factor * along) as f32);
                shift.push((factor * (sum[c] + off(c) * along)) as f32);
            }
            let (given, slope) = turned.as_ref().map_or((given, slope), |g| (Rows::of(g).expect("dense rows"), 1.));
            let mut dx = self.rows.empty_like();
            let work = |_: &mut (), i, dx: &mut [f32]| {
                back(given.from_row(i * part / channels), &x[at(i)], dx, line, [&tilt, &shift], slope)
            };
            team::rows(in_place::<f32>(&mut dx), part, || (), work);
            turned_back(&dx)
        });
        let scaled = |all: &[f64]| all.iter().map(|&x| (self.scale * x) as f32).collect::<Vec<f32>>();
        let mut slopes = vec![of_x, Some(Tensor::from_slice(&scaled(&along))), Some(Tensor::from_slice(&scaled(&sum)))];
        if needed.len() > slopes.len() {
            slopes.push(Some(turned.map_or_else(|| dy.shallow_clone(), |g| turned_back(&g))));
        }
        slopes
    }
}

/// `[B, C, ...]` as `[B, ..., C]`.
fn channels_behind(x: &Tensor) -> Tensor {
    let order: Vec<i64> = [0].into_iter().chain(2..x.dim() as i64).chain([1]).collect();
    x.permute(order)
}

/// The same, dense: as it lies in memory in channels_last.
fn rows_of(x: &Tensor) -> Tensor {
    channels_behind(x).contiguous()
}

/// The reverse.
fn turned_back(rows: &Tensor) -> Tensor {
    let last = rows.dim() as i64 - 1;
    let order: Vec<i64> = [0, last].into_iter().chain(1..last).collect();
    rows.permute(order)
}

/// Rows as they lie in memory: dense, or equally far apart, as those of one of several joined maps.
#[derive(Clone, Copy)]
struct Rows<'a> {
    numbers: &'a [f32],
    /// From the beginning of one to that of the next.
    pitch: usize,
}

impl<'a> Rows<'a> {
    /// Those of `x` `[B, ..., C]` f32 on the CPU, which nothing writes meanwhile; none where they lie otherwise.
    fn of(x: &'a Tensor) -> Option<Rows<'a>> {
        assert!(x.device() == Device::Cpu && x.kind() == Kind::Float && x.numel() > 0, "numbers on the CPU");
        let (size, stride) = (x.size(), x.stride());
        let last = size.len() - 1;
        let pitch = (0..last).rev().find(|&i| size[i] > 1).map_or(size[last], |i| stride[i]);
        let (mut even, mut next) = (pitch >= size[last] && (stride[last] == 1 || size[last] == 1), pitch);
        for i in (0..last).rev() {
            even &= stride[i] == next || size[i] == 1;
            next *= size[i];
        }
        let count: i64 = size[..last].iter().product();
        let length = ((count - 1) * pitch + size[last]) as usize;
        // SAFETY: the tensor lives as long as they are borrowed, and its first number lies this far before its last.
        even.then(|| Rows {
            numbers: unsafe { std::slice::from_raw_parts(x.data_ptr().cast(), length) },
            pitch: pitch as usize,
        })
    }

    /// Without the first `count`.
    fn from_row(self, count: usize) -> Rows<'a> {
        Rows { numbers: &self.numbers[count * self.pitch..], ..self }
    }

    #[inline(always)]
    fn row(&self, i: usize, channels: usize) -> &'a [f32] {
        &self.numbers[i * self.pitch..][..channels]
    }
}

/// How many numbers a thread takes at once: whole blocks, whatever the number of threads.
fn part(channels: usize) -> usize {
    let block = channels * ROWS;
    block * (PART / block).max(1)
}

/// The sums of all parts, added up in their order.
fn total(parts: Vec<[Vec<f64>; 2]>) -> [Vec<f64>; 2] {
    let add = |mut all: [Vec<f64>; 2], part: [Vec<f64>; 2]| {
        for (all, part) in all.iter_mut().zip(&part) {
            all.iter_mut().zip(part).for_each(|(all, part)| *all += part);
        }
        all
    };
    parts.into_iter().reduce(add).expect("there are rows")
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

#[inline(always)]
fn below(x: f32, slope: f32) -> f32 {
    // 0 times infinity is no 0.
    if slope == 0. { 0. } else { x * slope }
}

/// The slope before the activation of a number `z`, or what is on the same side of 0. A NaN lets it through.
#[inline(always)]
fn through<const N: usize>(dy: [f32; N], z: [f32; N], slope: f32) -> [f32; N] {
    let mut g = [0.; N];
    for i in 0..N {
        g[i] = if z[i] <= 0. { below(dy[i], slope) } else { dy[i] };
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
fn moments(x: &[f32], origin: &[f32]) -> [Vec<f64>; 2] {
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
fn put(x: &[f32], added: Option<&[f32]>, y: &mut [f32], line: &Line, slope: f32) {
    #[inline(always)]
    fn step<const N: usize>(c: usize, x: &[f32], added: Option<&[f32]>, y: &mut [f32], line: [&[f32]; 3], slope: f32) {
        let mut z = on(off::<N>(x, c, line[0]), c, line);
        if let Some(added) = added {
            let added = at::<N>(added, c);
            for i in 0..N {
                z[i] += added[i];
            }
        }
        for z in &mut z {
            *z = if *z < 0. { below(*z, slope) } else { *z };
        }
        set(y, c, z);
    }
    let line = line.of();
    let channels = line[0].len();
    for (i, (x, y)) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)).enumerate() {
        let added = added.map(|added| &added[i * channels..(i + 1) * channels]);
        across!(channels, step(x, added, y, line, slope));
    }
}

/// What y says of the activation, and where g is written.
type Sides<'a> = Option<(&'a [f32], &'a mut [f32])>;

/// Sums over rows of g and of g · (x - center). Without `sides`, x says on which side of 0 a number was.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn pull(dy: Rows<'_>, x: &[f32], sides: Sides<'_>, line: &Line, slope: f32) -> [Vec<f64>; 2] {
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
fn back(dy: Rows<'_>, x: &[f32], dx: &mut [f32], line: &Line, less: [&[f32]; 2], slope: f32) {
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
        across!(channels, step([dy.row(i, channels), x], dx, line, less, slope));
    }
}
