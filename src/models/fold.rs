//! A convolution and what follows it as one step: normalisation, a factor, an addition, a (leaky) ReLU. While
//! [`hold_weights`] holds, the CPU computes a step in one pass, with the normalisation folded into packed weights.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use tch::{Device, Kind, Tensor};

use super::layers::{leaky_relu_, normalise};

/// `act(scale · norm(conv(x)) + added)`.
pub(crate) struct Step<'a> {
    /// `[outputs, inputs / groups, height, width]`.
    pub weight: &'a Tensor,
    /// `[outputs]`.
    pub bias: Option<&'a Tensor>,
    /// Down and across.
    pub stride: [i64; 2],
    /// Down and across.
    pub padding: [i64; 2],
    /// Parts that the channels are divided into.
    pub groups: i64,
    /// Weight, bias, running mean and running variance of a batch normalisation, `[outputs]` each, and its epsilon.
    pub norm: Option<([&'a Tensor; 4], f64)>,
    /// 1 for none.
    pub scale: f64,
    /// Of the output's shape.
    pub added: Option<&'a Tensor>,
    /// The activation's slope below 0 (0 is ReLU); none for no activation.
    pub slope: Option<f64>,
}

impl<'a> Step<'a> {
    /// A convolution alone.
    pub fn new(weight: &'a Tensor, bias: Option<&'a Tensor>, stride: [i64; 2], padding: [i64; 2]) -> Step<'a> {
        Step { weight, bias, stride, padding, groups: 1, norm: None, scale: 1., added: None, slope: None }
    }

    /// `[B, inputs, H, W]` to `[B, outputs, H', W']`; `train` as in [`super::Network::forward`].
    pub fn run(&self, x: &Tensor, train: bool) -> Tensor {
        let fits = !train && x.device() == Device::Cpu && x.kind() == Kind::Float;
        let folded = |held: &mut Option<Folds>| held.as_mut().and_then(|held| self.folded(x, held));
        // SAFETY: reads two switches of this thread's.
        if fits
            && unsafe { rankle_may_fold() }
            && let Some(y) = HELD.with_borrow_mut(folded)
        {
            return y;
        }
        let mut y = x.conv2d(self.weight, self.bias, self.stride, self.padding, [1, 1], self.groups);
        if let Some((of, eps)) = self.norm {
            y = normalise(&y, of, train, eps);
        }
        if self.scale != 1. {
            y *= self.scale;
        }
        // In place: no gradient here needs what the step before put out.
        if let Some(added) = self.added {
            y += added;
        }
        match self.slope {
            Some(slope) => leaky_relu_(y, slope),
            None => y,
        }
    }

    fn folded(&self, x: &Tensor, held: &mut Folds) -> Option<Tensor> {
        let key = self.weight.data_ptr() as usize;
        let window = [self.stride, self.padding, [self.groups, 0]].concat();
        let fold = || {
            let (weight, bias) = self.fold();
            // SAFETY: tensors live past the call, which reads five numbers.
            let packed = unsafe { rankle_pack(weight.as_ptr().cast(), x.as_ptr().cast(), window.as_ptr()) };
            owned(packed).map(|packed| [packed, bias])
        };
        let [weight, bias] = held.entry(key).or_insert_with(fold).as_ref()?;
        let added = self.added.map_or(ptr::null(), |added| added.as_ptr().cast::<c_void>());
        // SAFETY: as above; `added` is null or lives as long.
        owned(unsafe {
            rankle_folded(
                x.as_ptr().cast(),
                weight.as_ptr().cast(),
                bias.as_ptr().cast(),
                added,
                window.as_ptr(),
                self.slope.unwrap_or(1.),
            )
        })
    }

    /// The weight and bias of the one convolution that the step is, but for the addition and the activation.
    fn fold(&self) -> (Tensor, Tensor) {
        let wide = |x: &Tensor| x.detach().to_kind(Kind::Double);
        let (mut weight, mut bias) = (wide(self.weight), self.bias.map(wide));
        if let Some((of, eps)) = self.norm {
            let [slope, shift, mean, variance] = of.map(wide);
            let slope = slope / (variance + eps).sqrt();
            weight *= slope.view([-1, 1, 1, 1]);
            bias = Some(shift + (bias.unwrap_or_else(|| mean.zeros_like()) - mean) * slope);
        }
        let bias = bias.unwrap_or_else(|| Tensor::zeros([self.weight.size()[0]], (Kind::Double, Device::Cpu)));
        ((weight * self.scale).to_kind(Kind::Float), (bias * self.scale).to_kind(Kind::Float))
    }
}

unsafe extern "C" {
    /// `src/native/ops.cpp`: whether no gradient is asked for and no autocast is on.
    fn rankle_may_fold() -> bool;
    /// A new tensor, or null where this libtorch lacks the operator or it threw.
    fn rankle_pack(weight: *const c_void, like: *const c_void, window: *const i64) -> *mut c_void;
    /// As above; a `slope` of 1 is no activation.
    fn rankle_folded(
        x: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        added: *const c_void,
        window: *const i64,
        slope: f64,
    ) -> *mut c_void;
}

fn owned(tensor: *mut c_void) -> Option<Tensor> {
    // SAFETY: the callees give a new `at::Tensor*` or null.
    (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor.cast()) })
}

/// By the place of a convolution's weight: the packed weight and the bias that it was folded to; none where it can't be.
type Folds = HashMap<usize, Option<[Tensor; 2]>>;

thread_local! {
    static HELD: RefCell<Option<Folds>> = const { RefCell::new(None) };
}

/// While it lives, networks that this thread runs have fixed weights; see [`hold_weights`].
#[derive(Debug)]
#[must_use]
pub struct Held(());

/// Promises that no weight changes while the value lives. On the CPU in f32, outside training, networks then run each
/// step as one operator, to results that differ by rounding (1e-5 of their size).
pub fn hold_weights() -> Held {
    HELD.set(Some(HashMap::new()));
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(None);
    }
}
