//! Batch normalisation in training and what follows it, on the CPU in f32: two passes over memory forward and two back.
//!
//! With libtorch's operators the statistics take a pass each, and so do the normalisation, the factor, the addition and
//! the activation, most of them back too. A number is computed the same way on every processor and with any number of
//! threads: sums are of fixed blocks of rows (a pixel's channels), and there is no fused multiply-add.

use tch::{Device, Kind, Tensor};

use super::layers::leaky_relu_;
use crate::node::node;
use crate::real::{in_place, read_in_place};
use crate::team;

mod rows;

use rows::{Line, ROWS, Rows, back, moments, pull, put};

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

/// Numbers that a thread takes at once, or [`ROWS`] rows where they are more.
const PART: usize = 1 << 16;

/// `then` after the batch normalisation of `x` `[B, C, ...]` by its own statistics, with momentum 0.1: `of` is weight, bias,
/// running mean and running variance, `[C]` each. A channel is NaN where the square of a difference in it is beyond f32.
/// None where this does not serve: not on the CPU in f32, or channels of one number.
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
    // A square beyond f32 is seen as a NaN is: of an infinite variance all numbers would be the bias.
    let spread = |(square, off): (&f64, &f64)| match square / n - off * off {
        _ if !square.is_finite() => f64::NAN,
        variance if variance < 0. => 0.,
        variance => variance,
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
    let sides = (then.added.is_some() && then.slope != 1.).then(|| y.shallow_clone());
    let inputs: Vec<&Tensor> = [x, weight, bias].into_iter().chain(then.added).collect();
    let kept = Kept { rows, sides, line, mean, inverse, scale: then.scale, slope };
    let versions = kept.versions();
    Some(node(y, &inputs, move |dy, needed| {
        assert_eq!(kept.versions(), versions, "what a normalisation's gradient needs was changed in place");
        kept.slopes(&dy, needed)
    }))
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
                    pull(given.skip(i * part / channels), &x[at(i)], Some((&y[at(i)], g)), line, slope)
                };
                team::rows(turned, part, || (), work)
            }
            _ => team::map(
                x.len().div_ceil(part),
                || (),
                |_, i| pull(given.skip(i * part / channels), &x[at(i)], None, line, slope),
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
                back(given.skip(i * part / channels), &x[at(i)], dx, line, [&tilt, &shift], slope)
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

/// The reverse. It is no view of another tensor: autograd adds another slope to it where it lies, if nothing else holds it.
fn turned_back(rows: &Tensor) -> Tensor {
    let last = rows.dim() as i64 - 1;
    let order: Vec<i64> = [0, last].into_iter().chain(1..last).collect();
    rows.permute(order).detach()
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
