//! What all networks are built from: convolutions, batch normalisation, linear layers, and how they start.

use std::cell::RefCell;
use std::ffi::c_void;

use rand::Rng;
use rayon::prelude::*;
use tch::nn::{Path, VarStore};
use tch::{Device, Kind, Tensor};

use super::fold::Step;
use super::normal::{Then, normalised};
use crate::bounds::room;
use crate::say::NoRoom;
use crate::seed;

/// What a parameter starts as. `fan_in` is the number of inputs that one output sums over, `fan_out` the reverse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with standard deviation `sqrt(2 / fan_in)` (He et al. 2015, Eq. 10).
    HeNormal,
    /// Uniform in `±gain sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010, Eq. 16); `gain` is `sqrt(2)` before a ReLU.
    GlorotUniform {
        /// What the bound is multiplied by.
        gain: f64,
    },
    /// Normal with this standard deviation.
    Normal(f64),
    /// This number everywhere.
    Constant(f32),
}

/// Numbers drawn from one generator. A longer parameter is drawn in blocks, each at its own address, on all cores.
const BLOCK: usize = 1 << 16;

impl Init {
    /// The values of parameter `name` of shape `[out, in, ...]`, row-major: the same for the same seed and name,
    /// whatever else was built before.
    pub fn values(self, seed: u64, name: &str, shape: &[i64]) -> Vec<f32> {
        let count = room(shape.iter().copied(), 4)
            .unwrap_or_else(|why| std::panic::panic_any(NoRoom(format!("{why}, for the variable {name}"))));
        let spatial = shape.iter().skip(2).product::<i64>() as f64;
        let fan_out = shape[0] as f64 * spatial;
        let fan_in = shape.get(1).copied().unwrap_or(1) as f64 * spatial;
        let key = seed::named(seed, name);
        let mut values = vec![0.0_f32; count];
        let normal = |values: &mut [f32], std: f64| {
            blocks(values, key, |rng| {
                let (a, b) = normal_pair(rng);
                [(std * a) as f32, (std * b) as f32]
            });
        };
        match self {
            Init::Constant(value) => values.fill(value),
            Init::Normal(std) => normal(&mut values, std),
            Init::HeNormal => normal(&mut values, (2.0 / fan_in).sqrt()),
            Init::GlorotUniform { gain } => {
                let bound = gain * (6.0 / (fan_in + fan_out)).sqrt();
                blocks(&mut values, key, |rng| [0; 2].map(|_: i32| (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32));
            }
        }
        values
    }
}

fn blocks(values: &mut [f32], key: u64, draw: impl Fn(&mut rand_chacha::ChaCha8Rng) -> [f32; 2] + Sync) {
    values.par_chunks_mut(BLOCK).enumerate().for_each(|(block, values)| {
        let mut rng = seed::at(key, 0, block as u64);
        for pair in values.chunks_mut(2) {
            pair.copy_from_slice(&draw(&mut rng)[..pair.len()]);
        }
    });
}

/// Two independent standard normal numbers (Box and Muller).
fn normal_pair(rng: &mut impl Rng) -> (f64, f64) {
    let u: f64 = 1.0 - rng.random::<f64>(); // in (0, 1]: its logarithm is finite
    let angle = std::f64::consts::TAU * rng.random::<f64>();
    let radius = (-2.0 * u.ln()).sqrt();
    (radius * angle.cos(), radius * angle.sin())
}

/// A place in a variable store where layers are made, with the seed of their first values.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    path: Path<'a>,
    seed: u64,
}

impl<'a> Scope<'a> {
    /// The top of a variable store.
    pub fn root(vs: &'a VarStore, seed: u64) -> Scope<'a> {
        Scope { path: vs.root(), seed }
    }

    /// The place `name` below this one; names are joined by dots.
    pub fn sub(&self, name: impl ToString) -> Scope<'a> {
        Scope { path: self.path.sub(name), seed: self.seed }
    }

    /// The device that the variables live on.
    pub fn device(&self) -> Device {
        self.path.device()
    }

    /// A new float32 variable `name`. A convolution's, `[out, in, H, W]`, lies in memory as its images do
    /// ([`super::channels_last`]): libtorch would turn it around at every step otherwise, and its gradient back. Panics
    /// where the store has one of that name.
    pub fn variable(&self, name: &str, shape: &[i64], init: Init, trainable: bool) -> Tensor {
        assert!(self.path.get(name).is_none(), "the variable {} is declared twice", self.path.path(name));
        let values = init.values(self.seed, &self.path.path(name), shape);
        let tensor = Tensor::from_slice(&values).view(shape).to_device(self.device());
        let tensor = if shape.len() == 4 { super::channels_last(&tensor) } else { tensor };
        self.path.add(name, tensor, trainable)
    }

    /// A square convolution without bias, [`Init::HeNormal`]: variable `name.weight`, `[outputs, inputs, kernel, kernel]`.
    pub fn conv(&self, name: &str, inputs: i64, outputs: i64, kernel: i64, stride: i64, padding: i64) -> Conv {
        Conv::new(self, name, [inputs, outputs], (kernel, stride, padding), Init::HeNormal, false)
    }

    /// The same with a bias, `name.bias`, which starts as 0.
    pub(super) fn biased_conv(&self, name: &str, inputs: i64, outputs: i64, window: Window) -> Conv {
        Conv::new(self, name, [inputs, outputs], window, Init::HeNormal, true)
    }

    /// Batch normalisation over `channels`: `name.{weight, bias, running_mean, running_var}`, starting as 1, 0, 0, 1.
    pub fn batch_norm(&self, name: &str, channels: i64) -> BatchNorm {
        let at = self.sub(name);
        BatchNorm {
            eps: 1e-5,
            weight: at.variable("weight", &[channels], Init::Constant(1.0), true),
            bias: at.variable("bias", &[channels], Init::Constant(0.0), true),
            running_mean: at.variable("running_mean", &[channels], Init::Constant(0.0), false),
            running_var: at.variable("running_var", &[channels], Init::Constant(1.0), false),
        }
    }

    /// A linear layer: `name.weight`, `[outputs, inputs]`, and, where `bias`, `name.bias`, which starts as 0.
    pub fn linear(&self, name: &str, inputs: i64, outputs: i64, init: Init, bias: bool) -> Linear {
        let at = self.sub(name);
        Linear {
            weight: at.variable("weight", &[outputs, inputs], init, true),
            bias: bias.then(|| at.variable("bias", &[outputs], Init::Constant(0.0), true)),
        }
    }
}

/// Kernel, stride and padding of a convolution.
pub(super) type Window = (i64, i64, i64);

/// A convolution in two dimensions, with a bias or without.
#[derive(Debug)]
pub struct Conv {
    weight: Tensor,
    pub(super) bias: Option<Tensor>,
    stride: i64,
    /// Down and across.
    padding: [i64; 2],
    /// Parts that the channels are divided into.
    pub(super) groups: i64,
}

impl Conv {
    /// A square one, from `[inputs, outputs]` channels (inputs of a group). A bias starts as 0.
    pub(super) fn new(at: &Scope, name: &str, channels: [i64; 2], window: Window, init: Init, biased: bool) -> Conv {
        let (kernel, stride, padding) = window;
        let mut conv = Conv::rectangular(&at.sub(name), channels, [kernel; 2], stride, [padding; 2], init);
        conv.bias = biased.then(|| at.sub(name).variable("bias", &[channels[1]], Init::Constant(0.), true));
        conv
    }

    /// Of a kernel `[height, width]` without bias, `padding` down and across: variable `weight` in the scope `at`.
    pub(super) fn rectangular(
        at: &Scope,
        [inputs, outputs]: [i64; 2],
        [height, width]: [i64; 2],
        stride: i64,
        padding: [i64; 2],
        init: Init,
    ) -> Conv {
        let weight = at.variable("weight", &[outputs, inputs, height, width], init, true);
        Conv { weight, bias: None, stride, padding, groups: 1 }
    }

    /// `[B, inputs, H, W]` to `[B, outputs, H', W']`; `train` as in [`super::Network::forward`].
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.step().run(x, train)
    }

    /// The same, then ReLU.
    pub fn forward_relu(&self, x: &Tensor, train: bool) -> Tensor {
        Step { slope: Some(0.), ..self.step() }.run(x, train)
    }

    /// What may be followed by more in one pass.
    pub(super) fn step(&self) -> Step<'_> {
        let step = Step::new(&self.weight, self.bias.as_ref(), [self.stride; 2], self.padding);
        Step { groups: self.groups, ..step }
    }

    /// The channels that it makes.
    pub(super) fn outputs(&self) -> i64 {
        self.weight.size()[0]
    }

    /// The side of what it makes of images of this side.
    pub(super) fn side(&self, side: i64) -> i64 {
        (side + 2 * self.padding[0] - self.weight.size()[2]).div_euclid(self.stride) + 1
    }
}

/// A convolution, then batch normalisation where there is one, then ReLU.
#[derive(Debug)]
pub(super) struct Unit {
    pub conv: Conv,
    pub norm: Option<BatchNorm>,
}

impl Unit {
    /// With a bias: variables `conv.weight`, `conv.bias` and, where `norm` names it, `norm.*` in the scope `at`.
    pub fn new(at: &Scope, conv: &str, norm: Option<&str>, inputs: i64, outputs: i64, window: Window) -> Unit {
        let norm = norm.map(|norm| at.batch_norm(norm, outputs));
        Unit { conv: at.biased_conv(conv, inputs, outputs, window), norm }
    }

    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        match (&self.norm, &self.conv.bias) {
            (Some(norm), Some(bias)) if train => {
                norm.of_biased(&Step { bias: None, ..self.conv.step() }.run(x, train), bias, &Then::act(0.))
            }
            (norm, _) => {
                let norm = norm.as_ref().and_then(BatchNorm::norm);
                Step { norm, slope: Some(0.), ..self.conv.step() }.run(x, train)
            }
        }
    }
}

/// 3x3 convolutions `conv1`, `conv2`, ..., each with batch normalisation `bn1`, ... and ReLU. Each halves its maps: by 2x2
/// max pooling behind it where it `pools`, else by a stride of 2.
#[derive(Debug)]
pub(super) struct Stages {
    units: Vec<Unit>,
    pools: bool,
}

impl Stages {
    pub(super) fn new(at: &Scope, mut inputs: i64, outputs: &[i64], pools: bool) -> Stages {
        let unit = |(number, &outputs): (usize, &i64)| {
            let conv = at.conv(&format!("conv{number}"), inputs, outputs, 3, if pools { 1 } else { 2 }, 1);
            inputs = outputs;
            Unit { conv, norm: Some(at.batch_norm(&format!("bn{number}"), outputs)) }
        };
        Stages { units: (1..).zip(outputs).map(unit).collect(), pools }
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.units.iter().fold(x.shallow_clone(), |x, unit| {
            let x = unit.forward(&x, train);
            if self.pools { x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false) } else { x }
        })
    }
}

/// Batch normalisation with momentum 0.1 (what the paper's TensorFlow code calls decay 0.9) and epsilon 1e-5.
#[derive(Debug)]
pub struct BatchNorm {
    eps: f64,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

impl BatchNorm {
    /// The same with another epsilon.
    pub(super) fn with_eps(self, eps: f64) -> BatchNorm {
        BatchNorm { eps, ..self }
    }

    /// As a [`Step`] has it.
    pub(super) fn norm(&self) -> Option<([&Tensor; 4], f64)> {
        Some(([&self.weight, &self.bias, &self.running_mean, &self.running_var], self.eps))
    }

    /// `[B, channels, ...]` to the same shape; with `train` by the batch's statistics, updating the running ones.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.followed(x, train, &Then::act(1.))
    }

    /// The same and what follows it.
    ///
    /// # Panics
    /// Where the activation's slope is not in `[0, 1]`.
    pub fn followed(&self, x: &Tensor, train: bool, then: &Then) -> Tensor {
        normalise(x, [&self.weight, &self.bias, &self.running_mean, &self.running_var], train, self.eps, then)
    }

    /// What `followed(x + bias, true, then)` gives and leaves, without a pass over `x` for the `bias` `[channels]` and one
    /// for its gradient: the batch's mean takes it away again, so that the gradient is 0 and the running mean alone knows
    /// of it.
    ///
    /// # Panics
    /// As `followed`.
    pub fn of_biased(&self, x: &Tensor, bias: &Tensor, then: &Then) -> Tensor {
        // 0.9 (m + b / 9) + 0.1 mean(x) = 0.9 m + 0.1 mean(x + b)
        // Past autograd's count of changes: a graph of an earlier pass may hold the running mean, which it doesn't use.
        let _ = tch::no_grad(|| self.running_mean.data().g_add_(&(bias / 9.)));
        let shift = &self.bias + bias * 0.;
        normalise(x, [&self.weight, &shift, &self.running_mean, &self.running_var], true, self.eps, then)
    }
}

/// Batch normalisation with momentum 0.1, and what follows it: `of` is weight, bias, running mean and running variance,
/// `[channels]` each.
pub(crate) fn normalise(x: &Tensor, of: [&Tensor; 4], train: bool, eps: f64, then: &Then) -> Tensor {
    // The gradient reads from the sign of an output on which side of 0 a number was.
    assert!((0. ..=1.).contains(&then.slope), "an activation's slope of {} below 0, not one in [0, 1]", then.slope);
    if train {
        let of_all = BATCH_SUM.with_borrow(|sum| sum.as_ref().map(|sum| synchronised(x, of, eps, sum)));
        if let Some(y) = of_all.map(|y| then.after(y)).or_else(|| normalised(x, of, eps, then)) {
            return y;
        }
    }
    let [weight, bias, mean, variance] = of.map(Some);
    then.after(x.batch_norm(weight, bias, mean, variance, train, 0.1, eps, true))
}

/// Training mode with sums over all processes: one exchange of 2·channels + 1 numbers a pass, in f64, in which the
/// difference of the mean square and the squared mean keeps its digits.
fn synchronised(x: &Tensor, of: [&Tensor; 4], eps: f64, sum: &BatchSum) -> Tensor {
    let [weight, bias, running_mean, running_variance] = of;
    let (channels, dims) = (weight.size()[0], x.dim());
    let others: Vec<i64> = (0..dims as i64).filter(|&dim| dim != 1).collect();
    let wide = x.to_kind(Kind::Double);
    let total = |x: &Tensor| x.sum_dim_intlist(&others[..], false, Kind::Double);
    let rows = Tensor::full([1], (x.numel() as i64 / channels) as f64, (Kind::Double, x.device()));
    let sums = sum(&Tensor::cat(&[total(&wide), total(&wide.square()), rows], 0));
    let n = sums.narrow(0, 2 * channels, 1).detach();
    let mean = sums.narrow(0, 0, channels) / &n;
    let variance = (sums.narrow(0, channels, channels) / &n - mean.square()).clamp_min(0.);
    tch::no_grad(|| {
        // PyTorch's running variance is the unbiased one.
        let unbiased = variance.detach() * &n / (&n - 1.).clamp_min(1.);
        for (running, now) in [(running_mean, mean.detach()), (running_variance, unbiased)] {
            let mut running = running.shallow_clone();
            running.copy_(&(&running * 0.9 + now.to_kind(running.kind()) * 0.1));
        }
    });
    let mut shape = vec![1; dims];
    shape[1] = channels;
    let column = |x: &Tensor| x.view(&shape[..]);
    let slope = (variance + eps).rsqrt() * weight;
    let y = (wide - column(&mean)) * column(&slope) + column(&bias.to_kind(Kind::Double));
    y.to_kind(x.kind())
}

/// Sums a tensor over all processes, with gradients back to all.
type BatchSum = Box<dyn Fn(&Tensor) -> Tensor>;

thread_local! {
    static BATCH_SUM: RefCell<Option<BatchSum>> = const { RefCell::new(None) };
}

/// From now on batch normalisation in training mode, in networks that this thread runs, takes its statistics from the
/// rows of all processes: `sum` adds a tensor up over them and leads gradients back to all.
pub fn synchronise_batch_norm(sum: impl Fn(&Tensor) -> Tensor + 'static) {
    BATCH_SUM.set(Some(Box::new(sum)));
}

/// A linear layer, with a bias or without.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// The numbers of a row that it gives.
    pub fn outputs(&self) -> i64 {
        self.weight.size()[0]
    }

    /// `[B, inputs]` to `[B, outputs]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

/// The head that TriNet and LuNet share: linear without bias, batch normalisation, (leaky) ReLU, linear with bias.
/// Variables `hidden.weight`, `bn.*`, `embedding.weight`, `embedding.bias`.
#[derive(Debug)]
pub struct EmbeddingHead {
    hidden: Linear,
    bn: BatchNorm,
    embedding: Linear,
    slope: f64,
}

impl EmbeddingHead {
    /// From `inputs` through `hidden` to `width` numbers; Glorot uniform, the first with `gain`. `slope` is that of the
    /// activation below 0.
    pub fn new(at: &Scope, inputs: i64, hidden: i64, width: i64, gain: f64, slope: f64) -> EmbeddingHead {
        EmbeddingHead {
            hidden: at.linear("hidden", inputs, hidden, Init::GlorotUniform { gain }, false),
            bn: at.batch_norm("bn", hidden),
            embedding: at.linear("embedding", hidden, width, Init::GlorotUniform { gain: 1.0 }, true),
            slope,
        }
    }

    /// `[B, inputs]` to `[B, width]`.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.embedding.forward(&self.bn.followed(&self.hidden.forward(x), train, &Then::act(self.slope)))
    }
}

unsafe extern "C" {
    /// `src/native/ops.cpp`: in place; 0, or 1 where libtorch threw.
    fn rankle_leaky_relu(tensor: *mut c_void, slope: f64) -> i32;
}

/// `max(x, 0) + slope min(x, 0)` in place, for `slope` in `[0, 1]`: tch's own has its slope fixed at 0.01. Only for
/// what batch normalisation or another function that doesn't need its output for its gradient just made.
pub fn leaky_relu_(mut x: Tensor, slope: f64) -> Tensor {
    if slope == 0.0 {
        return x.relu_();
    }
    // SAFETY: a `Tensor` holds a valid `at::Tensor*` for as long as it lives, and the callee keeps no pointer.
    let failed = unsafe { rankle_leaky_relu(x.as_mut_ptr().cast(), slope) };
    assert_eq!(failed, 0, "leaky ReLU needs a tensor of floating point numbers");
    x
}
