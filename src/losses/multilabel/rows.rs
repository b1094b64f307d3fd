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
    let terms: Vec<(f64, bool)> = if count < MANY {
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
fn image<T: Copy + Into<f64>>(f: &[T], has: &[u8], gradient: &mut [T], of: impl Fn(f64) -> T) -> (f64, bool) {
    // A NaN anywhere makes the sum NaN, also in an image without a term.
    let poison = f.iter().fold(0., |sum, &x| sum + 0. * x.into());
    let labels = has.iter().filter(|&&has| has != 0).count();
    if labels == 0 || labels == f.len() {
        return (poison, false);
    }
    // The sign makes both sides alike: f of a class that is none, -f of a label.
    let signed = |&x: &T, has: u8| if has == 0 { x.into() } else { -x.into() };
    let mut most = [f64::NEG_INFINITY; 2];
    for (x, &has) in f.iter().zip(has) {
        let side = &mut most[usize::from(has != 0)];
        *side = side.max(signed(x, has));
    }
    let mut sum = [0.; 2];
    for ((x, &has), out) in f.iter().zip(has).zip(gradient.iter_mut()) {
        let side = usize::from(has != 0);
        let share = (signed(x, has) - most[side]).exp();
        sum[side] += share;
        *out = of(share);
    }
    let z = most[0] + sum[0].ln() + most[1] + sum[1].ln();
    // log(1 + e^z) and its slope, neither of which overflows.
    let small = (-z.abs()).exp();
    let (value, slope) = (z.max(0.) + small.ln_1p(), if z >= 0. { 1. } else { small } / (1. + small));
    let deal = [slope / sum[0], -slope / sum[1]];
    for (&has, out) in has.iter().zip(gradient.iter_mut()) {
        *out = of((*out).into() * deal[usize::from(has != 0)]);
    }
    (value + poison, true)
}
