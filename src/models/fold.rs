//! A convolution and what follows it as one step: normalisation, a factor, an addition, a (leaky) ReLU. While
//! [`hold_weights`] holds, the CPU computes a step in one pass, with the normalisation folded into packed weights.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use tch::{Device, Kind, Tensor};

use super::layers::normalise;
use super::normal::Then;
use super::{channels_last, winograd};
use crate::node::keeps_gradients;

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
    /// Of the output's shape. A held step puts its output there: nobody may read it afterwards.
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
        let cpu = x.device() == Device::Cpu;
        // SAFETY: reads switches of this thread's.
        let casts = cpu && unsafe { rankle_casts() };
        // With AMX, oneDNN's bfloat16 convolution is wrong where a stride leaves one column (libtorch 2.11): it gets two.
        let wide = (casts && self.stride[1] > 1 && self.added.is_none() && self.columns(x) == 1)
            .then(|| x.constant_pad_nd([0, self.stride[1]]));
        let cut = |y: Tensor| if wide.is_some() { y.narrow(3, 0, 1) } else { y };
        let x = wide.as_ref().unwrap_or(x);
        let kind = if casts { Kind::BFloat16 } else { x.kind() };
        let folded = |held: &mut Option<Folds>| held.as_mut().and_then(|held| self.folded(x, kind, held));
        if cpu
            && !train
            && let Some(y) = HELD.with_borrow_mut(folded)
        {
            return cut(y);
        }
        let y = if cpu && train && kind == Kind::Float && self.is_winograd(x, false) {
            // Where nothing stands between them, it is one step with its ReLU.
            let relu = self.slope == Some(0.) && self.norm.is_none() && self.scale == 1. && self.added.is_none();
            let y = winograd::trained(x, self.weight, self.bias, relu);
            if relu {
                return y;
            }
            y
        } else {
            cut(x.conv2d(self.weight, self.bias, self.stride, self.padding, [1, 1], self.groups))
        };
        let then = Then { scale: self.scale, added: self.added, slope: self.slope.unwrap_or(1.) };
        match self.norm {
            Some((of, eps)) => normalise(&y, of, train, eps, &then),
            None => then.after(y),
        }
    }

    /// W' of an input `[B, inputs, H, W]`.
    fn columns(&self, x: &Tensor) -> i64 {
        (x.size()[3] + 2 * self.padding[1] - self.weight.size()[3]) / self.stride[1] + 1
    }

    fn folded(&self, x: &Tensor, kind: Kind, held: &mut Folds) -> Option<Tensor> {
        // oneDNN's operators keep none.
        if !matches!(kind, Kind::Float | Kind::BFloat16) || keeps_gradients() {
            return None;
        }
        let x = &x.to_kind(kind);
        let window = [self.stride, self.padding, [self.groups, 0]].concat();
        let way = match kind {
            Kind::BFloat16 => Way::Bfloat16,
            _ if self.added.is_none() && self.is_winograd(x, true) => Way::Winograd,
            _ => Way::Float,
        };
        let fold = || {
            let (weight, bias) = self.fold();
            if way == Way::Winograd {
                return Some([winograd::transformed(&weight, false).transpose(1, 2).contiguous(), bias]);
            }
            let weight = weight.to_kind(kind);
            // SAFETY: tensors live past the call, which reads five numbers.
            let packed = unsafe { rankle_pack(weight.as_ptr().cast(), x.as_ptr().cast(), window.as_ptr()) };
            owned(packed).map(|packed| [packed, bias.to_kind(kind)])
        };
        let key = (self.weight.data_ptr() as usize, way);
        let [weight, bias] = held.entry(key).or_insert_with(fold).as_ref()?;
        if way == Way::Winograd {
            return Some(winograd::convolve(x, weight, bias, self.slope.unwrap_or(1.) as f32));
        }
        let added = self.added.map(|added| channels_last(&added.to_kind(kind)));
        let added = added.as_ref().map_or(ptr::null(), |added| added.as_ptr().cast::<c_void>());
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

    /// Whether [`winograd`] computes its convolution, faster than oneDNN in f32, with its weight `held` or not.
    fn is_winograd(&self, x: &Tensor, held: bool) -> bool {
        let (of, maps) = (<[i64; 4]>::try_from(self.weight.size()), <[i64; 4]>::try_from(x.size()));
        let (Ok([outputs, inputs, 3, 3]), Ok([batch, channels, height, width])) = (of, maps) else { return false };
        let plain = self.stride == [1; 2] && self.padding == [1; 2] && self.groups == 1 && channels == inputs;
        plain && winograd::pays([inputs, outputs], [batch, height, width], held)
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
    /// `src/native/ops.cpp`: whether autocast has the CPU compute in bfloat16.
    fn rankle_casts() -> bool;
    /// A new tensor, or null where this libtorch lacks the operator or it threw.
    fn rankle_pack(weight: *const c_void, like: *const c_void, window: *const i64) -> *mut c_void;
    /// As above; a `slope` of 1 is no activation. What is `added` becomes the output where that is possible.
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

/// What computes a held step.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    /// oneDNN in f32.
    Float,
    /// oneDNN in bfloat16.
    Bfloat16,
    /// [`winograd`], in f32.
    Winograd,
}

/// By the place of a convolution's weight and what computes it: the weight in the order for that and the bias that it was
/// folded to; none where it can't be.
type Folds = HashMap<(usize, Way), Option<[Tensor; 2]>>;

thread_local! {
    static HELD: RefCell<Option<Folds>> = const { RefCell::new(None) };
}

/// While it lives, networks that this thread runs have fixed weights; see [`hold_weights`].
#[derive(Debug)]
#[must_use]
pub struct Held(());

/// Promises that no weight changes while the value lives. On the CPU, outside training, networks then run each step as one
/// operator, to results that differ by rounding (1e-5 of their size; in bfloat16, under autocast, a few thousandths).
pub fn hold_weights() -> Held {
    HELD.set(Some(HashMap::new()));
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(None);
    }
}
