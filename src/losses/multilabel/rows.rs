//! LSEP image by image on the CPU: its value and its gradient are known, so that a graph of two dozen small operations is
//! not needed.

use rayon::prelude::*;
use tch::{Device, Kind, Tensor, kind::Element};

/// What the loss of all images came to.
pub(super) struct Rows {
    /// `[B, C]`, the kind of the scores: the derivative of the sum with respect to each.
    pub gradient: Tensor,
    /// The sum of all terms.
    pub value: f64,
    /// How many images give a term.
    pub terms: i64,
    /// How many of them are above 0.
    pub active: i64,
}

/// Scores that the thread pool is asked for.
const MANY: usize = 1 << 15;

/// LSEP of `scores` `[B, C]` with `labels` of the same size; None where this routine doesn't serve: another device or
/// kind, or sizes that don't fit.
pub(super) fn lsep(scores: &Tensor, labels: &Tensor) -> Option<Rows> {
    let here = scores.device() == Device::Cpu && labels.device() == Device::Cpu;
    if !here || scores.dim() != 2 || scores.size() != labels.size() || scores.numel() == 0 {
        return None;
    }
    match scores.kind() {
        Kind::Float => Some(over_images::<f32>(scores, labels, |x| x as f32)),
        Kind::Double => Some(over_images::<f64>(scores, labels, |x| x)),
        _ => None,
    }
}

fn over_images<T: Element + Copy + Into<f64> + Send + Sync>(
    scores: &Tensor,
    labels: &Tensor,
    of: impl Fn(f64) -> T + Sync,
) -> Rows {
    let (count, classes) = (scores.numel(), scores.size()[1] as usize);
    let mut f = vec![T::ZERO; count];
    scores.detach().contiguous().copy_data(&mut f, count);
    let mut has = vec![0_u8; count];
    labels.ne(0).to_kind(Kind::Uint8).contiguous().copy_data(&mut has, count);
    let mut gradient = vec![T::ZERO; count];
    let images = |((f, has), out): ((&[T], &[u8]), &mut [T])| image(f, has, out, &of);
    let terms: Vec<(f64, bool)> = if count < MANY || rayon::current_num_threads() == 1 {
        f.chunks(classes).zip(has.chunks(classes)).zip(gradient.chunks_mut(classes)).map(images).collect()
    } else {
        f.par_chunks(classes).zip(has.par_chunks(classes)).zip(gradient.par_chunks_mut(classes)).map(images).collect()
    };
    Rows {
        gradient: Tensor::from_slice(&gradient).view(scores.size().as_slice()),
        value: terms.iter().map(|(value, _)| value).sum(),
        terms: terms.iter().filter(|(_, there)| *there).count() as i64,
        active: terms.iter().filter(|(value, there)| *there && *value > 0.).count() as i64,
    }
}

/// One image's term and whether it has one. With `a = log Σ_v exp f_v` over the classes that are none and `b = log Σ_u
/// exp(-f_u)` over the labels it is softplus(a + b); its slope σ(a + b) is dealt to the scores by their softmax shares.
fn image<T: Copy + Into<f64>>(f: &[T], has: &[u8], gradient: &mut [T], of: &impl Fn(f64) -> T) -> (f64, bool) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: this processor has AVX2.
        return unsafe { image_wide(f, has, gradient, of) };
    }
    image_of(f, has, gradient, of)
}

/// [`image_of`] in registers of four, without fused multiply-add: the same numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn image_wide<T: Copy + Into<f64>>(f: &[T], has: &[u8], gradient: &mut [T], of: &impl Fn(f64) -> T) -> (f64, bool) {
    image_of(f, has, gradient, of)
}

/// Scores side by side: a compiler may not reorder one running sum.
const LANES: usize = 8;

/// The sign makes both sides alike: f of a class that is none, -f of a label.
#[inline(always)]
fn signed(x: f64, has: u8) -> f64 {
    if has == 0 { x } else { -x }
}

/// Takes a score into the largest of its side, and into what is NaN as soon as one score is not finite. A function and no
/// closure, here and below: a closure may stay one, outside of the wide registers.
#[inline(always)]
fn see(x: f64, has: u8, lane: usize, most: &mut [[f64; LANES]; 2], poison: &mut [f64; LANES]) {
    let (value, none) = (signed(x, has), has == 0);
    most[0][lane] = if none & (value > most[0][lane]) { value } else { most[0][lane] };
    most[1][lane] = if !none & (value > most[1][lane]) { value } else { most[1][lane] };
    poison[lane] += 0. * value;
}

/// A score's share of its side, and into the side's sum.
#[inline(always)]
fn share(x: f64, has: u8, lane: usize, most: [f64; 2], sum: &mut [[f64; LANES]; 2]) -> f64 {
    let none = has == 0;
    let share = exp(signed(x, has) - if none { most[0] } else { most[1] });
    sum[0][lane] += if none { share } else { 0. };
    sum[1][lane] += if none { 0. } else { share };
    share
}

#[inline(always)]
fn image_of<T: Copy + Into<f64>>(f: &[T], has: &[u8], gradient: &mut [T], of: &impl Fn(f64) -> T) -> (f64, bool) {
    let labels = has.iter().filter(|&&has| has != 0).count();
    let ((f_whole, f_rest), (has_whole, has_rest)) = (f.as_chunks::<LANES>(), has.as_chunks::<LANES>());
    let mut most = [[f64::NEG_INFINITY; LANES]; 2];
    let mut poison = [0.; LANES];
    for (x, has) in f_whole.iter().zip(has_whole) {
        for lane in 0..LANES {
            see(x[lane].into(), has[lane], lane, &mut most, &mut poison);
        }
    }
    for (lane, (&x, &has)) in f_rest.iter().zip(has_rest).enumerate() {
        see(x.into(), has, lane, &mut most, &mut poison);
    }
    // A NaN anywhere makes the sum NaN, also in an image without a term.
    let poison: f64 = poison.iter().sum();
    if labels == 0 || labels == f.len() {
        return (poison, false);
    }
    let most = most.map(|lanes| lanes.into_iter().fold(f64::NEG_INFINITY, f64::max));
    let mut sum = [[0.; LANES]; 2];
    let (out_whole, out_rest) = gradient.as_chunks_mut::<LANES>();
    for ((x, has), out) in f_whole.iter().zip(has_whole).zip(out_whole) {
        for lane in 0..LANES {
            out[lane] = of(share(x[lane].into(), has[lane], lane, most, &mut sum));
        }
    }
    for (lane, ((&x, &has), out)) in f_rest.iter().zip(has_rest).zip(out_rest).enumerate() {
        *out = of(share(x.into(), has, lane, most, &mut sum));
    }
    let sum = sum.map(|lanes| lanes.iter().sum::<f64>());
    let z = most[0] + sum[0].ln() + most[1] + sum[1].ln();
    // log(1 + e^z) and its slope, neither of which overflows.
    let small = (-z.abs()).exp();
    let (value, slope) = (z.max(0.) + small.ln_1p(), if z >= 0. { 1. } else { small } / (1. + small));
    let deal = [slope / sum[0], -slope / sum[1]];
    for (&has, out) in has.iter().zip(gradient.iter_mut()) {
        *out = of((*out).into() * if has == 0 { deal[0] } else { deal[1] });
    }
    (value + poison, true)
}

/// `e^x` for `x` up to 0 to the last bit or two, in steps that go through vector registers; 0 (or 1e-308) far below, NaN for NaN.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // Adding 1.5 * 2^52 rounds to a whole number, which then stands in the lowest bits.
    const WHOLE: f64 = 6_755_399_441_055_744.;
    // ln 2 in two parts: the first has so few bits that its multiples are exact.
    const LN2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
    let x = if x < -708. { -708. } else { x };
    let shifted = x * std::f64::consts::LOG2_E + WHOLE;
    let k = shifted - WHOLE;
    let r = x - k * LN2[0] - k * LN2[1];
    // Taylor's series: |r| is at most ln 2 / 2, where the next term is 4e-18.
    const INVERSE: [f64; 12] = [
        1. / 6_227_020_800.,
        1. / 479_001_600.,
        1. / 39_916_800.,
        1. / 3_628_800.,
        1. / 362_880.,
        1. / 40_320.,
        1. / 5_040.,
        1. / 720.,
        1. / 120.,
        1. / 24.,
        1. / 6.,
        0.5,
    ];
    let mut series = INVERSE[0];
    for factor in &INVERSE[1..] {
        series = series * r + factor;
    }
    let series = (series * r + 1.) * r + 1.;
    series * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}
