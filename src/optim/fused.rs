//! A step in one pass over memory, on the CPU.
//!
//! A step is bound by memory: Adam as a row of tensor operations reads and writes every parameter's numbers about ten
//! times. Here each is read once and written once.

use std::sync::Mutex;

use multiversion::multiversion;
use tch::{Device, Kind, Tensor};

use super::update::{Entry, Update};
use crate::team;

/// Numbers that a thread takes at once.
const PART: usize = 1 << 16;

/// Whether one pass can take it: f32 on the CPU, all tensors laid out alike without gaps.
pub(super) fn fits(entry: &Entry) -> bool {
    let (size, own) = (entry.x.size(), steps(&entry.x));
    let alike =
        |t: &Tensor| t.device() == Device::Cpu && t.kind() == Kind::Float && t.size() == size && steps(t) == own;
    dense(own.clone()) && alike(&entry.x) && alike(&entry.gradient) && entry.slots.iter().all(alike)
}

/// Stride and size of each dimension that has a step to take: where the size is 1 (a 1x1 convolution's kernel), the
/// stride says nothing, and libtorch gives weight and gradient different ones.
fn steps(t: &Tensor) -> Vec<(i64, i64)> {
    t.stride().into_iter().zip(t.size()).filter(|(_, size)| *size != 1).collect()
}

/// Whether numbers with these strides and sizes fill one stretch of memory, in whatever order of dimensions.
fn dense(mut dims: Vec<(i64, i64)>) -> bool {
    dims.sort_unstable();
    let mut expected = 1;
    dims.into_iter().all(|(stride, size)| {
        let fills = stride == expected;
        expected *= size;
        fills
    })
}

/// A stretch of a parameter with its gradient and slots; slots that the rule has not are empty.
struct Part<'a> {
    x: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

/// Steps all `entries`, each of which [`fits`].
pub(super) fn step(entries: &[Entry], update: Update, decay: f64) {
    let mut parts = Vec::new();
    for entry in entries {
        let n = entry.x.numel();
        // SAFETY: `fits` saw dense f32 tensors on the CPU, so that each pointer begins `n` numbers. They are memory of
        // different tensors, which `entry` keeps alive, and nothing else reads or writes them before this returns.
        let numbers = |t: &Tensor| unsafe { std::slice::from_raw_parts_mut(t.data_ptr().cast::<f32>(), n) };
        if n == 0 {
            continue;
        }
        let slot = |at: usize| entry.slots.get(at).map_or(&mut [][..], numbers);
        let (first, second) = (slot(0), slot(1));
        // SAFETY: as above; gradients are only read, so that two parameters may share one.
        let gradient = unsafe { std::slice::from_raw_parts(entry.gradient.data_ptr().cast::<f32>(), n) };
        let x = numbers(&entry.x).chunks_mut(PART).zip(gradient.chunks(PART));
        let (mut first, mut second) = (first.chunks_mut(PART), second.chunks_mut(PART));
        parts.extend(x.map(|(x, gradient)| Part {
            x,
            gradient,
            first: first.next().unwrap_or_default(),
            second: second.next().unwrap_or_default(),
        }));
    }
    let parts: Vec<Mutex<Option<Part<'_>>>> = parts.into_iter().map(|part| Mutex::new(Some(part))).collect();
    team::map(
        parts.len(),
        || (),
        |(), i| {
            let part = parts[i].lock().expect("taken once").take();
            apply(part.expect("taken once"), update, decay as f32);
        },
    );
}

/// Without fused multiply-add, so that every processor rounds alike.
#[multiversion(targets("x86_64+avx2"))]
fn apply(part: Part<'_>, update: Update, decay: f32) {
    let Part { x, gradient, first, second } = part;
    match update {
        Update::Sgd { momentum: 0., rate } => {
            let rate = rate as f32;
            for (x, &g) in x.iter_mut().zip(gradient) {
                *x -= (g + *x * decay) * rate;
            }
        }
        Update::Sgd { momentum, rate } => {
            let (momentum, rate) = (momentum as f32, rate as f32);
            for ((x, &g), v) in x.iter_mut().zip(gradient).zip(first) {
                *v = *v * momentum + (g + *x * decay);
                *x -= *v * rate;
            }
        }
        Update::Adam { beta1, beta2, eps, root, rate } => {
            let (one, two) = ((1. - beta1) as f32, (1. - beta2) as f32);
            let (beta1, beta2) = (beta1 as f32, beta2 as f32);
            // rate m / (√v / root + eps) with one division: they and the root are what a step would wait for.
            let (eps, rate) = ((eps * root) as f32, (rate * root) as f32);
            for (((x, &g), m), v) in x.iter_mut().zip(gradient).zip(first).zip(second) {
                let g = g + *x * decay;
                *m = *m * beta1 + g * one;
                *v = *v * beta2 + g * g * two;
                *x -= *m * rate / (v.sqrt() + eps);
            }
        }
        Update::AdaGrad { eps, rate } => {
            let (eps, rate) = (eps as f32, rate as f32);
            for ((x, &g), s) in x.iter_mut().zip(gradient).zip(first) {
                let g = g + *x * decay;
                *s += g * g;
                *x -= g / (s.sqrt() + eps) * rate;
            }
        }
    }
}
