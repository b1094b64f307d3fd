//! 3x3 convolutions of stride 1 by the minimal filters F(2x2, 3x3) of Winograd, as Lavin and Gray (2016, 1509.09308) put
//! them together: 16 products for four outputs of a channel where the definition takes 36.
//!
//! An image is cut into tiles of 2x2 outputs. With d the 4x4 inputs that a tile sees and g the kernel, its outputs are
//! Aᵀ((G g Gᵀ) ∘ (Bᵀ d B))A. Summed over input channels, each of the 16 places of ∘ is one matrix product over many tiles,
//! and the processor's cache holds a block of tiles from d to the outputs. Rounding is that of a few more additions.

use std::ffi::c_void;
use std::sync::Mutex;

use multiversion::multiversion;
use tch::{Device, Kind, Tensor};

use super::fold::owned;
use crate::node::node;
use crate::real::{Real, in_place, read_in_place};
use crate::team;

/// Numbers side by side: one vector register with AVX-512, two with AVX2.
pub(super) const LANES: usize = 16;
type Lanes<T = f32> = [T; LANES];

/// Tiles that a block should have: enough for a matrix product, few enough for a cache of 2 MB.
const TILES: usize = 64;

/// How many products of a kernel take about as long as to transform it, which is 25 numbers read or written.
const TRANSFORM: i64 = 1024;

/// Whether a 3x3 convolution from `inputs` to `outputs` channels on maps `[batch, height, width]` has at most two thirds of
/// the products this way (small maps leave parts of tiles unused), and channels that fill vectors. A weight that is not
/// `held` is transformed for this batch alone, which counts as [`TRANSFORM`] products.
pub(super) fn pays([inputs, outputs]: [i64; 2], [batch, height, width]: [i64; 3], held: bool) -> bool {
    let whole = |channels: i64| channels > 0 && channels % LANES as i64 == 0;
    let tiles = batch * ((height + 1) / 2) * ((width + 1) / 2);
    let products = tiles * 16 + if held { 0 } else { TRANSFORM };
    whole(inputs) && whole(outputs) && inputs.min(outputs) >= 64 && products * 3 <= batch * height * width * 9 * 2
}

/// G g Gᵀ of a weight `[outputs, inputs, 3, 3]` f32: `[16, outputs, inputs]`, computed in f64. `turned`, it is that of the
/// weight turned by 180°.
pub(super) fn transformed(weight: &Tensor, turned: bool) -> Tensor {
    /// Outputs that a thread takes at once.
    const AT_ONCE: usize = 8;
    let [outputs, inputs, ..] = <[i64; 4]>::try_from(weight.size()).expect("four dimensions");
    let weight = weight.permute([0, 2, 3, 1]).contiguous();
    let mut u = Tensor::empty([16, outputs, inputs], (Kind::Float, Device::Cpu));
    let g: Vec<&[f32]> = read_in_place(&weight).chunks(9 * inputs as usize).collect();
    let mut rows = by_row(in_place(&mut u), inputs as usize);
    let parts: Vec<Mutex<&mut [Vec<&mut [f32]>]>> = rows.chunks_mut(AT_ONCE).map(Mutex::new).collect();
    team::map(
        parts.len(),
        || (),
        |_, part| {
            for (g, u) in g[part * AT_ONCE..].iter().zip(parts[part].lock().expect("taken once").iter_mut()) {
                spread_kernels(g, u, turned);
            }
        },
    );
    u
}

/// Of a table `[16, n, width]` each of the n with its 16 places.
fn by_row(table: &mut [f32], width: usize) -> Vec<Vec<&mut [f32]>> {
    let n = table.len() / (16 * width);
    let mut rows: Vec<Vec<&mut [f32]>> = (0..n).map(|_| Vec::with_capacity(16)).collect();
    for place in table.chunks_mut(n * width) {
        for (row, places) in rows.iter_mut().zip(place.chunks_mut(width)) {
            row.push(places);
        }
    }
    rows
}

/// `[B, C, H, W]` f32 to be written to, in channels_last.
fn room([batch, channels, height, width]: [i64; 4]) -> Tensor {
    let stride = [height * width * channels, 1, width * channels, channels];
    Tensor::empty_strided([batch, channels, height, width], stride, (Kind::Float, Device::Cpu))
}

/// What a gradient reads later. A change in between would make it a wrong one.
struct Kept(Tensor, i64);

impl Kept {
    fn new(x: &Tensor) -> Kept {
        Kept(x.detach(), x.internal_version())
    }

    /// # Panics
    /// Where it was changed in place.
    fn get(&self) -> &Tensor {
        assert_eq!(self.0.internal_version(), self.1, "what a convolution's gradient needs was changed in place");
        &self.0
    }
}

/// [`convolve`] by the weight `[outputs, inputs, 3, 3]` f32 itself and with a gradient; `relu` follows or nothing.
pub(super) fn trained(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, relu: bool) -> Tensor {
    let none = |channels: i64| Tensor::zeros([channels], (Kind::Float, Device::Cpu));
    let y = tch::no_grad(|| {
        let bias = bias.map_or_else(|| none(weight.size()[0]), Tensor::contiguous);
        convolve(x, &transformed(weight, false).transpose(1, 2), &bias, if relu { 0. } else { 1. })
    });
    // Each is kept for the gradient of the other.
    let kept_x = weight.requires_grad().then(|| Kept::new(x));
    let kept_weight = x.requires_grad().then(|| Kept::new(weight));
    let kept_y = relu.then(|| Kept::new(&y));
    let like = weight.detach();
    let backward = move |dy: &Tensor, needed: &[bool]| -> Vec<Option<Tensor>> {
        let dy = kept_y.as_ref().map_or_else(|| dy.shallow_clone(), |y| y.get().threshold_backward(dy, 0.));
        // The same convolution by the turned kernels, from outputs to inputs.
        let of_x = kept_weight.as_ref().filter(|_| needed[0]).map(|weight| {
            let weight = transformed(weight.get(), true);
            convolve(&dy, &weight, &none(weight.size()[2]), 1.)
        });
        let of_weight = kept_x.as_ref().filter(|_| needed[1]).map(|x| of_weight(x.get(), &dy, &like));
        let of_bias =
            needed.get(2).map(|needed| needed.then(|| dy.sum_dim_intlist(&[0_i64, 2, 3][..], false, Kind::Float)));
        [of_x, of_weight].into_iter().chain(of_bias).collect()
    };
    let inputs: Vec<&Tensor> = [x, weight].into_iter().chain(bias).collect();
    node(y, &inputs, backward)
}

unsafe extern "C" {
    /// `src/native/ops.cpp`: a new tensor, or null where libtorch threw.
    fn rankle_weight_gradient(dy: *const c_void, x: *const c_void, weight: *const c_void) -> *mut c_void;
}

/// The gradient of a weight `[outputs, inputs, 3, 3]` like `like`, from that of the outputs.
fn of_weight(x: &Tensor, dy: &Tensor, like: &Tensor) -> Tensor {
    // SAFETY: tensors live past the call.
    let found = unsafe { rankle_weight_gradient(dy.as_ptr().cast(), x.as_ptr().cast(), like.as_ptr().cast()) };
    owned(found).expect("libtorch has a gradient of a convolution's weight")
}

/// `act(conv(x) + bias)` with padding 1: `x` `[B, inputs, H, W]` f32 on the CPU, `weight` `[16, inputs, outputs]` (what
/// [`transformed`] gives, transposed), `bias` `[outputs]` f32; `[B, outputs, H, W]` in channels_last. `slope` is the activation's
/// below 0, 1 for none.
pub(super) fn convolve(x: &Tensor, weight: &Tensor, bias: &Tensor, slope: f32) -> Tensor {
    let x = x.permute([0, 2, 3, 1]).contiguous();
    let [batch, height, width, inputs] = <[i64; 4]>::try_from(x.size()).expect("four dimensions");
    let outputs = weight.size()[2];
    let y = room([batch, outputs, height, width]);
    if y.numel() > 0 {
        let [height, width] = [height, width].map(|n| n as usize);
        // Two rows of outputs for a row of tiles; a map's last has one where its height is odd.
        let row = width * outputs as usize;
        let mut pixels = y.permute([0, 2, 3, 1]);
        let maps = in_place::<f32>(&mut pixels).chunks_mut(height * row);
        let mut rows: Vec<&mut [f32]> = maps.flat_map(|map| map.chunks_mut(2 * row)).collect();
        let across = width.div_ceil(2);
        let at_once = (TILES / across).max(1);
        let blocks: Vec<Mutex<&mut [&mut [f32]]>> = rows.chunks_mut(at_once).map(Mutex::new).collect();
        let (x, bias, weight) = (read_in_place::<f32>(&x), read_in_place::<f32>(bias), Weight(weight.shallow_clone()));
        let [inputs, outputs] = [inputs, outputs].map(|n| n as usize);
        let empty = || Block::new(at_once, across, [inputs, outputs]);
        team::map(blocks.len(), empty, |scratch, block| {
            let mut rows = blocks[block].lock().expect("taken once");
            scratch.tiles = rows.len() * across;
            for i in 0..rows.len() {
                let (map, down) =
                    ((block * at_once + i) / height.div_ceil(2), (block * at_once + i) % height.div_ceil(2));
                let map = &x[map * height * width * inputs..][..height * width * inputs];
                scratch.take(map, width * inputs, down, i * across);
            }
            scratch.multiply(&weight);
            for (i, row) in rows.iter_mut().enumerate() {
                let (top, low) = row.split_at_mut(width * outputs);
                put(read_in_place(&scratch.m), [outputs, scratch.tiles, i * across], [top, low], bias, slope);
            }
        });
    }
    y
}

/// A weight that threads read.
struct Weight(Tensor);

// SAFETY: libtorch counts a tensor's owners atomically, and nothing changes this one.
unsafe impl Sync for Weight {}

/// What a thread needs for a block of tiles.
struct Block {
    inputs: usize,
    outputs: usize,
    /// Tiles in a row of them.
    across: usize,
    /// Tiles in this block.
    tiles: usize,
    zeros: Vec<f32>,
    /// Bᵀ d B, `[16, tiles, inputs]` from its beginning on.
    v: Tensor,
    /// Its products, `[16, tiles, outputs]`.
    m: Tensor,
}

impl Block {
    /// Room for `at_once` rows of `across` tiles.
    fn new(at_once: usize, across: usize, [inputs, outputs]: [usize; 2]) -> Block {
        let room =
            |channels: usize| Tensor::empty([(16 * at_once * across * channels) as i64], (Kind::Float, Device::Cpu));
        let zeros = vec![0.; 2 * across * inputs];
        Block { inputs, outputs, across, tiles: 0, zeros, v: room(inputs), m: room(outputs) }
    }

    /// Row `down` of tiles of `map` (rows of `row` numbers) becomes the tiles from `from` on.
    fn take(&mut self, map: &[f32], row: usize, down: usize, from: usize) {
        let seen = |i: usize| {
            let at = (2 * down + i).checked_sub(1).and_then(|y| map.get(y * row..(y + 1) * row));
            at.unwrap_or(&self.zeros[..row])
        };
        let shape = [self.inputs, self.tiles, from, self.across];
        take([seen(0), seen(1), seen(2), seen(3)], &self.zeros, in_place(&mut self.v), shape);
    }

    fn multiply(&mut self, weight: &Weight) {
        let of = |t: &Tensor, channels: usize| {
            let [tiles, channels] = [self.tiles, channels].map(|n| n as i64);
            t.narrow(0, 0, 16 * tiles * channels).view([16, tiles, channels])
        };
        let _ = of(&self.v, self.inputs).bmm_out(&of(&self.m, self.outputs), &weight.0);
    }
}

#[inline(always)]
fn plus<T: Real>(a: &Lanes<T>, b: &Lanes<T>) -> Lanes<T> {
    let mut sum = [T::of(0.); LANES];
    for i in 0..LANES {
        sum[i] = a[i] + b[i];
    }
    sum
}

#[inline(always)]
fn minus<T: Real>(a: &Lanes<T>, b: &Lanes<T>) -> Lanes<T> {
    let mut difference = [T::of(0.); LANES];
    for i in 0..LANES {
        difference[i] = a[i] - b[i];
    }
    difference
}

#[inline(always)]
fn half<T: Real>(a: &Lanes<T>) -> Lanes<T> {
    let mut half = [T::of(0.); LANES];
    for i in 0..LANES {
        half[i] = a[i] * T::of(0.5);
    }
    half
}

#[inline(always)]
fn widened(a: &Lanes) -> Lanes<f64> {
    let mut wide = [0.; LANES];
    for i in 0..LANES {
        wide[i] = f64::from(a[i]);
    }
    wide
}

#[inline(always)]
fn narrowed(a: &Lanes<f64>) -> Lanes {
    let mut narrow = [0.; LANES];
    for i in 0..LANES {
        narrow[i] = a[i] as f32;
    }
    narrow
}

#[inline(always)]
fn lanes(x: &[f32]) -> &[Lanes] {
    x.as_chunks().0
}

#[inline(always)]
fn lanes_mut(x: &mut [f32]) -> &mut [Lanes] {
    x.as_chunks_mut().0
}

/// G of three numbers.
#[inline(always)]
fn spread<T: Real>(a: &Lanes<T>, b: &Lanes<T>, c: &Lanes<T>) -> [Lanes<T>; 4] {
    let (ends, middle) = (half(&plus(a, c)), half(b));
    [*a, plus(&ends, &middle), minus(&ends, &middle), *c]
}

/// Bᵀ of four numbers.
#[inline(always)]
fn seen(a: &Lanes, b: &Lanes, c: &Lanes, d: &Lanes) -> [Lanes; 4] {
    [minus(a, c), plus(b, c), minus(c, b), minus(b, d)]
}

/// Aᵀ of four numbers.
#[inline(always)]
fn left(a: &Lanes, b: &Lanes, c: &Lanes, d: &Lanes) -> [Lanes; 2] {
    [plus(&plus(a, b), c), minus(&minus(b, c), d)]
}

/// G g Gᵀ of one output's kernels, `g` `[3, 3, inputs]`, to its 16 places. To turn a kernel by 180° exchanges the first and
/// the last of its places, down and across.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn spread_kernels(g: &[f32], u: &mut [&mut [f32]], turned: bool) {
    let (wide, g) = (g.len() / (9 * LANES), lanes(g));
    let place = |i: usize| if turned && i % 3 == 0 { 3 - i } else { i };
    for c in 0..wide {
        let at = |row: usize, column: usize| widened(&g[(3 * row + column) * wide + c]);
        let column = |i: usize| spread(&at(0, i), &at(1, i), &at(2, i));
        let [p, q, r] = [column(0), column(1), column(2)];
        for i in 0..4 {
            for (k, found) in spread(&p[i], &q[i], &r[i]).iter().enumerate() {
                lanes_mut(u[4 * place(i) + place(k)])[c] = narrowed(found);
            }
        }
    }
}

/// Bᵀ d B of a row of tiles, which sees four `rows` of pixels and `zeros` beside them, to `[16, tiles, inputs]`, its tiles
/// from `from` on.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn take(rows: [&[f32]; 4], zeros: &[f32], v: &mut [f32], [inputs, tiles, from, across]: [usize; 4]) {
    let (wide, v) = (inputs / LANES, lanes_mut(v));
    let zeros = &lanes(zeros)[..wide];
    for tile in 0..across {
        let mut d = [[zeros; 4]; 4];
        for (row, d) in rows.iter().zip(&mut d) {
            for (i, d) in d.iter_mut().enumerate() {
                let at = (2 * tile + i).checked_sub(1).and_then(|x| lanes(row).get(x * wide..(x + 1) * wide));
                *d = at.unwrap_or(zeros);
            }
        }
        for c in 0..wide {
            let mut columns = [[[0.; LANES]; 4]; 4];
            for (i, column) in columns.iter_mut().enumerate() {
                *column = seen(&d[0][i][c], &d[1][i][c], &d[2][i][c], &d[3][i][c]);
            }
            let [p, q, r, s] = &columns;
            for i in 0..4 {
                for (k, found) in seen(&p[i], &q[i], &r[i], &s[i]).iter().enumerate() {
                    v[((4 * i + k) * tiles + from + tile) * wide + c] = *found;
                }
            }
        }
    }
}

/// Aᵀ m A of the tiles from `from` on, `m` `[16, tiles, outputs]`, plus `bias`, then the activation: two rows of outputs, or
/// one where `low` is empty.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn put(m: &[f32], [outputs, tiles, from]: [usize; 3], [top, low]: [&mut [f32]; 2], bias: &[f32], slope: f32) {
    let (wide, m, bias) = (outputs / LANES, lanes(m), lanes(bias));
    let (top, low) = (lanes_mut(top), lanes_mut(low));
    for tile in 0..(top.len() / wide).div_ceil(2) {
        for c in 0..wide {
            let at = |place: usize| &m[(place * tiles + from + tile) * wide + c];
            let mut columns = [[[0.; LANES]; 2]; 4];
            for (i, column) in columns.iter_mut().enumerate() {
                *column = left(at(i), at(4 + i), at(8 + i), at(12 + i));
            }
            let [p, q, r, s] = &columns;
            for (row, i) in [(&mut *top, 0), (&mut *low, 1)] {
                for (pixel, found) in left(&p[i], &q[i], &r[i], &s[i]).iter().enumerate() {
                    if let Some(y) = row.get_mut((2 * tile + pixel) * wide + c) {
                        *y = activated(&plus(found, &bias[c]), slope);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn activated(x: &Lanes, slope: f32) -> Lanes {
    let mut y = [0.; LANES];
    for i in 0..LANES {
        // + 0 makes no number of -0; a NaN stays one.
        y[i] = if x[i] < 0. { x[i] * slope + 0. } else { x[i] };
    }
    y
}
