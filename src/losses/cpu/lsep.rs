//! LSEP image by image: two dozen small operations on tensors come to one pass.

use multiversion::multiversion;
use tch::{Kind, Tensor};

use super::{Outcome, each_row, here, softplus};
use crate::real::{Real, in_place, numbers};

/// LSEP of `scores` `[B, C]` with `labels` of the same size; None where this routine doesn't serve: another device or
/// kind, or sizes that don't fit.
pub(in crate::losses) fn lsep(scores: &Tensor, labels: &Tensor) -> Option<Outcome> {
    if !here(scores, labels) || scores.dim() != 2 || scores.size() != labels.size() {
        return None;
    }
    match scores.kind() {
        Kind::Float => Some(over_images::<f32>(scores, labels)),
        Kind::Double => Some(over_images::<f64>(scores, labels)),
        _ => None,
    }
}

fn over_images<T: Real>(scores: &Tensor, labels: &Tensor) -> Outcome {
    let classes = scores.size()[1] as usize;
    let has = numbers::<u8>(&labels.ne(0).to_kind(Kind::Uint8));
    let mut gradient = scores.detach().contiguous().copy();
    let each = |_: &mut (), i: usize, row: &mut [T]| image(row, &has[i * classes..(i + 1) * classes]);
    let images = each_row(in_place::<T>(&mut gradient), classes, || (), each);
    let value = images.iter().map(|(value, _)| value).sum();
    let terms: Vec<f64> = images.into_iter().filter_map(|(value, there)| there.then_some(value)).collect();
    let active = terms.iter().filter(|&&value| value > 0.).count();
    Outcome::new(gradient, value, terms.len() as i64, active as i64)
}

/// Scores side by side, in f64.
const LANES: usize = 8;

/// The sign makes both sides alike: f of a class that is none, -f of a label.
#[inline(always)]
fn signed(x: f64, has: u8) -> f64 {
    if has == 0 { x } else { -x }
}

/// Takes a score into the largest of its side, and into what is NaN as soon as one score is not finite.
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
    let share = (signed(x, has) - if none { most[0] } else { most[1] }).exponential();
    sum[0][lane] += if none { share } else { 0. };
    sum[1][lane] += if none { 0. } else { share };
    share
}

/// From an image's scores `f` to their gradient, in place; its term (NaN where a score is, also without a term) and
/// whether it has one. With `a = log Σ_v exp f_v` over the classes that are none and `b = log Σ_u exp(-f_u)` over the
/// labels the term is softplus(a + b); its slope σ(a + b) is dealt to the scores by their softmax shares.
#[multiversion(targets("x86_64+avx2"))]
fn image<T: Real>(f: &mut [T], has: &[u8]) -> (f64, bool) {
    let labels = has.iter().filter(|&&has| has != 0).count();
    let (has_whole, has_rest) = has.as_chunks::<LANES>();
    let (f_whole, f_rest) = f.as_chunks_mut::<LANES>();
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
    let poison: f64 = poison.iter().sum();
    if labels == 0 || labels == has.len() {
        f.fill(T::ZERO);
        return (poison, false);
    }
    let most = most.map(|lanes| lanes.into_iter().fold(f64::NEG_INFINITY, f64::max));
    let mut sum = [[0.; LANES]; 2];
    for (x, has) in f_whole.iter_mut().zip(has_whole) {
        for lane in 0..LANES {
            x[lane] = T::of(share(x[lane].into(), has[lane], lane, most, &mut sum));
        }
    }
    for (lane, (x, &has)) in f_rest.iter_mut().zip(has_rest).enumerate() {
        *x = T::of(share((*x).into(), has, lane, most, &mut sum));
    }
    let sum = sum.map(|lanes| lanes.iter().sum::<f64>());
    let (value, slope) = softplus(most[0] + sum[0].ln() + most[1] + sum[1].ln());
    let deal = [slope / sum[0], -slope / sum[1]];
    for (&has, x) in has.iter().zip(f) {
        let share: f64 = (*x).into();
        *x = T::of(share * if has == 0 { deal[0] } else { deal[1] });
    }
    (value + poison, true)
}
