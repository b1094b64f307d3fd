//! Optimisers whose state has names and can be saved: SGD, Adam, AdaGrad.
//!
//! libtorch's own are reachable from Rust, but their state is not, and a resumed run must equal an unbroken one.
//! Steps are `fused` on CPUs and libtorch's for lists of tensors (`native`) elsewhere.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor, nn::VarStore};

use update::{Entry, Update};

mod fused;
mod native;
mod update;

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

/// Adam's β₁ where nothing else is said (Kingma and Ba 2015).
pub const BETA1: f64 = 0.9;

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
    /// The step that [`Optimizer::prepare`] made ready, and its β₁.
    prepared: Option<(Update, f64)>,
    /// Its [`Update::dials`], on the device.
    dials: [Tensor; 2],
    /// β₁ of the last step, where that reads all else that changes from `dials`.
    replays: Option<f64>,
}

impl Optimizer {
    /// An optimiser over the trainable variables of `store` with fresh state. `weight_decay` adds
    /// `weight_decay · x` to the gradient of every parameter; the paper has none.
    pub fn new(rule: Rule, weight_decay: f64, store: &VarStore) -> Optimizer {
        let parameters = store.variables().into_iter().filter(|(_, x)| x.requires_grad()).collect();
        let device = store.device();
        let kind = if device == Device::Cpu { Kind::Double } else { Kind::Float };
        Optimizer {
            rule,
            weight_decay,
            parameters,
            state: BTreeMap::new(),
            steps: 0,
            products: (1., 1.),
            prepared: None,
            dials: [(); 2].map(|()| Tensor::zeros([], (kind, device))),
            replays: None,
        }
    }

    /// Drops all gradients: the next backward pass makes new ones instead of adding to zeros.
    pub fn zero_grad(&mut self) {
        native::drop_gradients(self.parameters.values_mut());
    }

    /// Scales all gradients down so that their common norm is at most `most`; 0 leaves them. Summed on the device in
    /// f64, without a wait; a gradient that is not finite makes all of them NaN.
    pub fn clip(&mut self, most: f64) {
        if most > 0. {
            let gradients: Vec<_> = self.parameters.values().map(Tensor::grad).filter(Tensor::defined).collect();
            native::clip(&gradients, most);
        }
    }

    /// One step with learning rate `rate`; `beta1` is Adam's and ignored by the other rules. Parameters that got no
    /// gradient stay as they are. On a CPU one pass over memory does all of the rule's arithmetic; elsewhere libtorch's
    /// kernels take all parameters at once.
    pub fn step(&mut self, rate: f64, beta1: f64) {
        self.prepare(rate, beta1);
        self.apply();
    }

    /// What changes between steps: counts one, and writes its constants to the device, without a wait. Returns whether a
    /// captured [`Optimizer::apply`] still does this step: β₁ is fixed in it.
    pub fn prepare(&mut self, rate: f64, beta1: f64) -> bool {
        self.steps += 1;
        let update = match self.rule {
            Rule::Sgd { momentum } => Update::Sgd { momentum, rate },
            Rule::Adam { beta2, eps } => {
                self.products = (self.products.0 * beta1, self.products.1 * beta2);
                let (first, second) = self.products;
                Update::Adam { beta1, beta2, eps, root: (1. - second).sqrt(), rate: rate / (1. - first) }
            }
            Rule::AdaGrad { eps, .. } => Update::AdaGrad { eps, rate },
        };
        for (dial, number) in self.dials.iter_mut().zip(update.dials(self.steps)) {
            let _ = dial.fill_(number);
        }
        self.prepared = Some((update, beta1));
        self.replays == Some(beta1)
    }

    /// The step that [`Optimizer::prepare`] made ready; panics without one.
    pub fn apply(&mut self) {
        let (update, beta1) = self.prepared.expect("a prepared step");
        let (slots, initial) = match self.rule {
            Rule::Sgd { momentum: 0. } => (&[][..], 0.),
            Rule::Sgd { .. } => (&["momentum"][..], 0.),
            Rule::Adam { .. } => (&["first", "second"][..], 0.),
            Rule::AdaGrad { initial, .. } => (&["squares"][..], initial),
        };
        tch::no_grad(|| {
            let Optimizer { weight_decay, parameters, state, dials, .. } = self;
            let mut entries = Vec::with_capacity(parameters.len());
            for (name, x) in parameters.iter() {
                let gradient = x.grad();
                if gradient.defined() {
                    let slots = slots.iter().map(|kind| slot(state, kind, name, x, initial)).collect();
                    entries.push(Entry { x: x.shallow_clone(), gradient, slots });
                }
            }
            let (one_pass, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(fused::fits);
            fused::step(&one_pass, update, *weight_decay);
            let read = native::step(&others, update, *weight_decay, dials) && one_pass.is_empty();
            self.replays = read.then_some(beta1);
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
        let steps = saved.remove("steps").filter(|steps| steps.kind() == Kind::Int64 && steps.dim() == 0);
        self.steps = steps.and_then(|steps| steps.int64_value(&[]).try_into().ok()).ok_or("steps")?;
        let products = saved.remove("products").filter(|p| p.kind() == Kind::Double && p.size() == [2]);
        let products = products.ok_or("products")?;
        self.products = (products.double_value(&[0]), products.double_value(&[1]));
        self.state.clear();
        self.replays = None;
        for (name, x) in saved {
            let parameter = name.split_once('.').and_then(|(_, name)| self.parameters.get(name)).ok_or(&*name)?;
            if (parameter.size(), parameter.kind()) != (x.size(), x.kind()) {
                return Err(name);
            }
            // Laid out as the parameter is, so that a resumed run takes the same path as an unbroken one.
            let mut own = parameter.detach().empty_like();
            own.copy_(&x);
            self.state.insert(name, own);
        }
        Ok(())
    }
}

/// The slot `kind` of parameter `name`, made with the value `initial` where it is not there yet.
fn slot(state: &mut BTreeMap<String, Tensor>, kind: &str, name: &str, x: &Tensor, initial: f64) -> Tensor {
    state.entry(format!("{kind}.{name}")).or_insert_with(|| x.full_like(initial)).shallow_clone()
}
