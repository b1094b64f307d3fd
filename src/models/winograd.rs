//! 3x3 convolutions of stride 1 by the minimal filters F(2x2, 3x3) of Winograd, as Lavin and Gray (2016, 1509.09308) put
//! them together: 16 products for four outputs of a channel where the definition takes 36.
//!
//! An image is cut into tiles of 2x2 outputs. With d the 4x4 inputs that a tile sees and g the kernel, its outputs are
//! Aᵀ((G g Gᵀ) ∘ (Bᵀ d B))A. Summed over input channels, each of the 16 places of ∘ is one matrix product over many tiles,
//! and the processor's cache holds a block of tiles from d to the outputs. Rounding is that of a few more additions.

use std::sync::Mutex;

use multiversion::multiversion;
use tch::{Device, Kind, Tensor};

use crate::real::{in_place, read_in_place};
use crate::team;

/// Numbers side by side: one vector register with AVX-512, two with AVX2.
pub(super) const LANES: usize = 16;
type Lanes = [f32; LANES];

/// Tiles that a block should have: enough for a matrix product, few enough for a cache of 2 MB.
const TILES: usize = 64;

/// Whether a 3x3 convolution from `inputs` to `outputs` channels on maps of `[height, width]` has at most two thirds of the
/// products this way (small maps leave parts of tiles unused), and channels that fill vectors.
pub(super) fn pays(inputs: i64, outputs: i64, [height, width]: [i64; 2]) -> bool {
    let whole = |channels: i64| channels > 0 && channels % LANES as i64 == 0;
    let tiles = ((height + 1) / 2) * ((width + 1) / 2);
    whole(inputs) && whole(outputs) && inputs.min(outputs) >= 64 && tiles * 16 * 3 <= height * width * 9 * 2
}

/// G g Gᵀ of a weight `[outputs, inputs, 3, 3]` f32: `[16, inputs, outputs]`, computed in f64.
pub(super) fn transformed(weight: &Tensor) -> Tensor {
    let g = Tensor::from_slice(&[1., 0., 0., 0.5, 0.5, 0.5, 0.5, -0.5, 0.5, 0., 0., 1.]).view([4, 3]);
    let wide = g.matmul(&weight.to_kind(Kind::Double)).matmul(&g.tr());
    let [outputs, inputs] = [weight.size()[0], weight.size()[1]];
    wide.permute([2, 3, 1, 0]).reshape([16, inputs, outputs]).to_kind(Kind::Float).contiguous()
}

/// `act(conv(x) + bias)` with padding 1: `x` `[B, inputs, H, W]` f32 on the CPU, `weight` as [`transformed`] gives it, `bias`
/// `[outputs]` f32; `[B, outputs, H, W]` in channels_last. `slope` is the activation's below 0, 1 for none.
pub(super) fn convolve(x: &Tensor, weight: &Tensor, bias: &Tensor, slope: f32) -> Tensor {
    let x = x.permute([0, 2, 3, 1]).contiguous();
    let [batch, height, width, inputs] = <[i64; 4]>::try_from(x.size()).expect("four dimensions");
    let outputs = weight.size()[2];
    let mut y = Tensor::empty([batch, height, width, outputs], (Kind::Float, Device::Cpu));
    if y.numel() > 0 {
        let [height, width] = [height, width].map(|n| n as usize);
        // Two rows of outputs for a row of tiles; a map's last has one where its height is odd.
        let row = width * outputs as usize;
        let maps = in_place::<f32>(&mut y).chunks_mut(height * row);
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
    y.permute([0, 3, 1, 2])
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
fn plus(a: &Lanes, b: &Lanes) -> Lanes {
    let mut sum = [0.; LANES];
    for i in 0..LANES {
        sum[i] = a[i] + b[i];
    }
    sum
}

#[inline(always)]
fn minus(a: &Lanes, b: &Lanes) -> Lanes {
    let mut difference = [0.; LANES];
    for i in 0..LANES {
        difference[i] = a[i] - b[i];
    }
    difference
}

#[inline(always)]
fn lanes(x: &[f32]) -> &[Lanes] {
    x.as_chunks().0
}

#[inline(always)]
fn lanes_mut(x: &mut [f32]) -> &mut [Lanes] {
    x.as_chunks_mut().0
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
