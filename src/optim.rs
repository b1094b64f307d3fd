//! Optimisers whose state has names and can be saved: SGD, Adam, AdaGrad.
//!
//! libtorch's own are reachable from Rust, but their state is not, and a resumed run must equal an unbroken one.

use std::collections::BTreeMap;

use tch::{Kind, Tensor, nn::VarStore};

/// Which rule, and its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// `v ← μ v + g; x ← x - ε v` (the first v is g itself).
    Sgd {
        /// μ
        momentum: f64,
    },
    /// Kingma and Ba 2015, Algorithm 1, with β₁ given at every step: the bias correction divides by
    /// `1 - Π β₁(s)`, which is `1 - β₁ᵗ` as long as β₁ stays the same.
    Adam {
        /// β₂
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
    },
    /// `s ← s + g²; x ← x - ε g / (√s + eps)`, s starting at `initial`.
    AdaGrad {
        /// First value of every accumulator (0.1 in TensorFlow).
        initial: f64,
        /// Added to the root.
        eps: f64,
    },
}

impl Rule {
    /// Adam as 1703.07737 uses it: β₂ 0.999, eps 1e-8 (the default of the paper's framework).
    pub const ADAM: Rule = Rule::Adam { beta2: 0.999, eps: 1e-8 };
}

/// A rule at work on the trainable parameters of a store.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    /// L2 weight decay, added to the gradient.
    weight_decay: f64,
    parameters: BTreeMap<String, Tensor>,
    /// Named `<slot>.<parameter>`; made at the first step that needs it.
    state: BTreeMap<String, Tensor>,
    steps: u64,
    /// Π β₁(s) and Π β₂ over the steps so far.
    products: (f64, f64),
}

impl Optimizer {
    /// An optimiser over the trainable variables of `store` with fresh state. `weight_decay` adds
    /// `weight_decay · x` to the gradient of every parameter; the paper has none.
    pub fn new(rule: Rule, weight_decay: f64, store: &VarStore) -> Optimizer {
        let parameters = store.variables().into_iter().filter(|(_, x)| x.requires_grad()).collect();
        Optimizer { rule, weight_decay, parameters, state: BTreeMap::new(), steps: 0, products: (1., 1.) }
    }

    /// Clears all gradients.
    pub fn zero_grad(&mut self) {
        self.parameters.values_mut().for_each(Tensor::zero_grad);
    }

    /// Scales all gradients down so that their common norm is at most `most`; 0 leaves them. Computed on the device in
    /// f64, without a wait; a gradient that is not finite makes all of them NaN.
    pub fn clip(&mut self, most: f64) {
        if most <= 0. {
            return;
        }
        let gradients: Vec<Tensor> = self.parameters.values().map(Tensor::grad).filter(Tensor::defined).collect();
        let Some(device) = gradients.first().map(Tensor::device) else { return };
        tch::no_grad(|| {
            let zero = Tensor::zeros([], (Kind::Double, device));
            let squares = gradients.iter().fold(zero, |sum, g| sum + g.square().sum(Kind::Double));
            let scale = (most / squares.sqrt()).clamp_max(1.);
            for mut gradient in gradients {
                let scale = scale.to_kind(gradient.kind());
                let _ = gradient.g_mul_(&scale);
            }
        });
    }

    /// One step with learning rate `rate`; `beta1` is Adam's and ignored by the other rules. Parameters that got no
    /// gradient stay as they are.
    pub fn step(&mut self, rate: f64, beta1: f64) {
        self.steps += 1;
        if let Rule::Adam { beta2, .. } = self.rule {
            self.products = (self.products.0 * beta1, self.products.1 * beta2);
        }
        tch::no_grad(|| {
            let Optimizer { rule, weight_decay, parameters, state, products, .. } = self;
            for (name, x) in parameters.iter_mut() {
                let g = x.grad();
                if !g.defined() {
                    continue;
                }
                // A new tensor: the parameter's own gradient is not ours to change.
                let g = if *weight_decay == 0. { g } else { g + &*x * *weight_decay };
                match *rule {
                    Rule::Sgd { momentum: 0. } => *x -= g * rate,
                    Rule::Sgd { momentum } => {
                        let v = slot(state, "momentum", name, x, 0.);
                        let _ = v.g_mul_scalar_(momentum).g_add_(&g);
                        *x -= &*v * rate;
                    }
                    Rule::Adam { beta2, eps } => {
                        let m = slot(state, "first", name, x, 0.);
                        let _ = m.g_mul_scalar_(beta1).g_add_(&(&g * (1. - beta1)));
                        let m = m.shallow_clone();
                        let v = slot(state, "second", name, x, 0.);
                        let _ = v.g_mul_scalar_(beta2).g_add_(&(&g * &g * (1. - beta2)));
                        let scale = (1. - products.1).sqrt();
                        let root = v.sqrt() / scale + eps;
                        *x -= m / root * (rate / (1. - products.0));
                    }
                    Rule::AdaGrad { initial, eps } => {
                        let s = slot(state, "squares", name, x, initial);
                        let _ = s.g_add_(&(&g * &g));
                        *x -= &g / (s.sqrt() + eps) * rate;
                    }
                }
            }
        });
    }

    /// Everything that the next step depends on, by name: the slots, the step count and the bias products.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut all: Vec<_> = self.state.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
        all.push(("steps".into(), Tensor::from(self.steps as i64)));
        all.push(("products".into(), Tensor::from_slice(&[self.products.0, self.products.1])));
        all
    }

    /// Takes over what [`Optimizer::state`] gave. Returns the first name that is missing or fits no parameter.
    pub fn load_state(&mut self, saved: Vec<(String, Tensor)>) -> Result<(), String> {
        let mut saved: BTreeMap<String, Tensor> = saved.into_iter().collect();
        let steps = saved.remove("steps").ok_or("steps")?;
        let products = saved.remove("products").filter(|p| p.numel() == 2).ok_or("products")?;
        self.steps = steps.int64_value(&[]) as u64;
        self.products = (products.double_value(&[0]), products.double_value(&[1]));
        self.state.clear();
        for (name, x) in saved {
            let parameter = name.split_once('.').and_then(|(_, name)| self.parameters.get(name)).ok_or(&*name)?;
            if parameter.size() != x.size() {
                return Err(name);
            }
            self.state.insert(name, x.to_device(parameter.device()).to_kind(Kind::Float));
        }
        Ok(())
    }
}

/// The slot `kind` of parameter `name`, made with the value `initial` where it is not there yet.
fn slot<'a>(
    state: &'a mut BTreeMap<String, Tensor>,
    kind: &str,
    name: &str,
    x: &Tensor,
    initial: f64,
) -> &'a mut Tensor {
    state.entry(format!("{kind}.{name}")).or_insert_with(|| x.full_like(initial))
}
