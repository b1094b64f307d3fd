//! 3x3 convolutions of stride 1 by the minimal filters F(2x2, 3x3) of Winograd, as Lavin and Gray (2016, 1509.09308) put
//! them together: 16 products for four outputs of a channel where the definition takes 36.
//!
//! An image is cut into tiles of 2x2 outputs. With d the 4x4 inputs that a tile sees and g the kernel, its outputs are
//! Aᵀ((G g Gᵀ) ∘ (Bᵀ d B))A. Summed over input channels, each of the 16 places of ∘ is one matrix product over many tiles,
//! and the processor's cache holds a block of tiles from d to the outputs. Rounding is that of a few more additions.
//!
//! The gradient of d is the same convolution of the outputs' gradient y, by kernels turned by 180°. That of g is
//! Gᵀ((A y Aᵀ) ∘ (Bᵀ d B))G, summed over tiles before G: 16 products again, each place a matrix product.

mod vectors;

use std::sync::Mutex;

use tch::{Device, Kind, Tensor};

pub(super) use self::vectors::{LANES, activated, below};
use self::vectors::{gather_kernels, put, spread_kernels, take, take_back};
use super::channels_last;
use crate::node::node;
use crate::real::{in_place, read_in_place};
use crate::team;

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
    let g: Vec<&[f32]> = read_in_place::<f32>(&weight).chunks(9 * inputs as usize).collect();
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

/// A tensor that a gradient reads later, and how often it had been changed in place when it was kept: autograd does not
/// watch over what a closure holds.
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
    let backward = move |dy: Tensor, needed: &[bool]| -> Vec<Option<Tensor>> {
        let dy = match &kept_y {
            // One map less while the convolutions work.
            Some(y) => {
                let before = y.get().threshold_backward(&dy, 0.);
                drop(dy);
                before
            }
            None => dy,
        };
        let dy = channels_last(&dy);
        // The same convolution by the turned kernels, from outputs to inputs.
        let of_x = kept_weight.as_ref().filter(|_| needed[0]).map(|weight| {
            let weight = transformed(weight.get(), true);
            convolve(&dy, &weight, &none(weight.size()[2]), 1.)
        });
        let of_weight = kept_x.as_ref().filter(|_| needed[1]).map(|x| of_weight(x.get(), &dy));
        let of_bias =
            needed.get(2).map(|needed| needed.then(|| dy.sum_dim_intlist(&[0_i64, 2, 3][..], false, Kind::Float)));
        [of_x, of_weight].into_iter().chain(of_bias).collect()
    };
    let inputs: Vec<&Tensor> = [x, weight].into_iter().chain(bias).collect();
    node(y, &inputs, backward)
}

/// The gradient of a weight `[outputs, inputs, 3, 3]` f32, in channels_last, from the inputs `x` and the gradient `dy` of the
/// outputs. Blocks of tiles are added up one after another, whatever the threads: they share out a block's rows, then its places.
fn of_weight(x: &Tensor, dy: &Tensor) -> Tensor {
    let [x, dy] = [x, dy].map(|x| x.permute([0, 2, 3, 1]).contiguous());
    let [batch, height, width, inputs] = <[i64; 4]>::try_from(x.size()).expect("four dimensions");
    let outputs = dy.size()[3];
    let gradient = room([outputs, inputs, 3, 3]);
    let sums = Tensor::zeros([16, outputs, inputs], (Kind::Float, Device::Cpu));
    let [batch, height, width, inputs, outputs] = [batch, height, width, inputs, outputs].map(|n| n as usize);
    let (all, across) = (batch * height.div_ceil(2), width.div_ceil(2));
    // Below as many tiles, more time goes into reading and writing the sums than the factors.
    let at_once = (2 * TILES).max(inputs * outputs / (inputs + outputs)).div_ceil(across).min(all);
    let zeros = vec![0_f32; 2 * across * inputs.max(outputs)];
    let [x, dy] = [(&x, inputs), (&dy, outputs)].map(|(t, channels)| Pixels {
        numbers: read_in_place(t),
        height,
        row: width * channels,
        zeros: &zeros,
    });
    let [mut v, mut w] = [inputs, outputs].map(|channels| places(at_once * across, channels));
    for from in (0..all).step_by(at_once) {
        let rows = at_once.min(all - from);
        let tiles = rows * across;
        let (of_x, of_dy) = (first(&mut v, tiles * inputs), first(&mut w, tiles * outputs));
        let both = by_row(of_x, across * inputs).into_iter().chain(by_row(of_dy, across * outputs));
        let turns: Vec<Mutex<Vec<&mut [f32]>>> = both.map(Mutex::new).collect();
        team::map(
            turns.len(),
            || (),
            |_, turn| {
                let mut places = turns[turn].lock().expect("taken once");
                match turn.checked_sub(rows) {
                    None => take(x.rows(from + turn, 1), &zeros, &mut places, inputs),
                    Some(row) => take_back(dy.rows(from + row, 0), &zeros, &mut places, outputs),
                }
            },
        );
        let [v, w] = [(&v, inputs), (&w, outputs)].map(|(t, channels)| by_place(t, tiles, channels));
        let products: Vec<[Shared; 3]> = (0..16).map(|place| [&sums, &w, &v].map(|t| Shared(t.get(place)))).collect();
        team::map(
            16,
            || (),
            |_, place| {
                let [sums, w, v] = products[place].each_ref().map(Shared::get);
                let _ = sums.shallow_clone().addmm_(&w.tr(), v);
            },
        );
    }
    let (mut kernels, sums) = (gradient.permute([0, 2, 3, 1]), read_in_place::<f32>(&sums));
    let gather = |_: &mut (), output: usize, g: &mut [f32]| gather_kernels(sums, [output, outputs], g);
    team::rows(in_place(&mut kernels), 9 * inputs, || (), gather);
    gradient
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
        let (bias, weight) = (read_in_place::<f32>(bias), Shared(weight.shallow_clone()));
        let [inputs, outputs] = [inputs, outputs].map(|n| n as usize);
        let zeros = vec![0_f32; 2 * across * inputs];
        let x = Pixels { numbers: read_in_place(&x), height, row: width * inputs, zeros: &zeros };
        let empty = || [inputs, outputs].map(|channels| places(at_once * across, channels));
        team::map(blocks.len(), empty, |[v, m], block| {
            let mut rows = blocks[block].lock().expect("taken once");
            let tiles = rows.len() * across;
            for (i, v) in by_row(first(v, tiles * inputs), across * inputs).iter_mut().enumerate() {
                take(x.rows(block * at_once + i, 1), &zeros, v, inputs);
            }
            let _ = by_place(v, tiles, inputs).bmm_out(&by_place(m, tiles, outputs), weight.get());
            for (i, row) in rows.iter_mut().enumerate() {
                let (top, low) = row.split_at_mut(width * outputs);
                put(read_in_place(m), [outputs, tiles, i * across], [top, low], bias, slope);
            }
        });
    }
    y
}

/// A tensor that threads read, or one of them alone writes to.
struct Shared(Tensor);

// SAFETY: libtorch counts a tensor's owners and changes atomically, and no thread writes numbers that another reads.
unsafe impl Sync for Shared {}

impl Shared {
    /// A closure that names the tensor itself would hold that and not this.
    fn get(&self) -> &Tensor {
        &self.0
    }
}

/// Room for what `tiles` have of so many channels at 16 places.
fn places(tiles: usize, channels: usize) -> Tensor {
    Tensor::empty([(16 * tiles * channels) as i64], (Kind::Float, Device::Cpu))
}

/// The beginning of [`places`], `width` numbers for each of the 16.
fn first(places: &mut Tensor, width: usize) -> &mut [f32] {
    &mut in_place(places)[..16 * width]
}

/// The same as `[16, tiles, channels]`.
fn by_place(places: &Tensor, tiles: usize, channels: usize) -> Tensor {
    let [tiles, channels] = [tiles, channels].map(|n| n as i64);
    places.narrow(0, 0, 16 * tiles * channels).view([16, tiles, channels])
}

/// Maps `[B, height, width, channels]`.
struct Pixels<'a> {
    numbers: &'a [f32],
    height: usize,
    /// Numbers in a row of pixels.
    row: usize,
    /// At least one row of them.
    zeros: &'a [f32],
}

impl<'a> Pixels<'a> {
    /// The rows of pixels at a row of tiles (counted over all maps), from so many `above` it: zeros where the map has none.
    fn rows<const N: usize>(&self, tiles: usize, above: usize) -> [&'a [f32]; N] {
        let tall = self.height.div_ceil(2);
        let map = &self.numbers[tiles / tall * self.height * self.row..][..self.height * self.row];
        std::array::from_fn(|i| {
            let row = (2 * (tiles % tall) + i).checked_sub(above);
            row.and_then(|row| map.get(row * self.row..(row + 1) * self.row)).unwrap_or(&self.zeros[..self.row])
        })
    }
}
