//! A step of descent, launched operator by operator or as one CUDA graph.

use std::cell::OnceCell;

use anyhow::{Context, Result, anyhow};
use tch::Tensor;

use super::Session;
use crate::collectives::Gradients;
use crate::device::Captured;
use crate::losses::Tally;
use crate::optim::{BETA1, Optimizer};
use crate::say::say;
use crate::transfer::upload;

impl Session<'_> {
    /// The backward passes of the parameters that are trained now.
    pub fn gradients(&self) -> &Gradients {
        self.gradients.get_or_init(|| Gradients::new(&self.world, &self.store))
    }

    /// Drops all gradients before a step's backward passes.
    pub fn zero_grad(&mut self) {
        self.optimizer.zero_grad();
    }

    /// Scales the gradients down to a common norm of `most`; 0 leaves them.
    pub fn clip(&mut self, most: f64) {
        self.optimizer.clip(most);
    }

    /// One step of the rule at learning rate `rate`, Adam's with [`BETA1`].
    pub fn step(&mut self, rate: f64) {
        self.optimizer.step(rate, BETA1);
    }

    /// The gradient of `loss`, and a step against it at learning rate `rate`.
    ///
    /// # Errors
    /// Where another process is gone, or libtorch fails.
    pub fn descend(&mut self, loss: &Tensor, rate: f64) -> Result<()> {
        self.zero_grad();
        self.gradients().backward(loss)?;
        self.step(rate);
        Ok(())
    }

    /// A whole step: `work` goes from `inputs`, which it gets on the device, to the loss, its terms and embeddings; then
    /// its gradient, and a step against it at learning rate and β₁ `rates`. What is `fixed` but for inputs (of one shape)
    /// and rates is launched as one CUDA graph from its fourth time on, where a GPU serves one process; `work` then gets
    /// what else it uses as it was at that time. Elsewhere inputs but the first stay where they are.
    ///
    /// # Errors
    /// Those of `work`, and as [`Session::descend`].
    pub fn descend_from(
        &mut self,
        inputs: &[&Tensor],
        fixed: bool,
        rates: (f64, f64),
        work: impl Fn(&[Tensor]) -> Result<(Tensor, Tally, Tensor)>,
    ) -> Result<(Tensor, Tally, Tensor)> {
        let fits = self.optimizer.prepare(rates.0, rates.1);
        if fixed && let (true, beta1, graph) = &mut self.graph {
            let Session { optimizer, store, .. } = self;
            let inputs: Vec<Tensor> = inputs.iter().map(|x| x.shallow_clone()).collect();
            // A first step fits no graph yet, nor does one whose β₁ is another's.
            let begins = beta1.replace(rates.1) != Some(rates.1);
            let done = if begins {
                Captured::new(store.device()).map(|new| graph.insert(new))
            } else {
                graph.as_mut().filter(|_| fits).context("libtorch's fused kernels do not take all parameters")
            };
            let done = done.and_then(|graph| {
                graph.run(&inputs, |inputs| {
                    let (loss, Tally { sum, terms, active }, x) =
                        work(inputs).unwrap_or_else(|error| panic!("{error:#}"));
                    optimizer.zero_grad();
                    loss.backward();
                    optimizer.apply();
                    vec![loss, sum, terms, active, x]
                })
            });
            match done.map(<[Tensor; 5]>::try_from) {
                Ok(found) => {
                    let found = found.map_err(|_| anyhow!("a step left other tensors than it said"));
                    return found.map(|[loss, sum, terms, active, x]| (loss, Tally { sum, terms, active }, x));
                }
                Err(error) => {
                    say(format!("note: this step is not one CUDA graph ({error:#}): training goes on without"))
                }
            }
            self.graph = (false, None, None);
        }
        let device = self.store.device();
        let inputs: Vec<Tensor> = inputs
            .iter()
            .enumerate()
            .map(|(i, x)| if i == 0 { upload(x, device) } else { x.shallow_clone() })
            .collect();
        let found = work(&inputs)?;
        self.zero_grad();
        self.gradients().backward(&found.0)?;
        self.optimizer.apply();
        Ok(found)
    }

    /// From now on only the variables that `wanted` names are trained.
    pub fn train_only(&mut self, wanted: impl Fn(&str) -> bool) {
        self.trainable.iter().for_each(|(name, x)| drop(x.set_requires_grad(wanted(name))));
        self.gradients = OnceCell::new();
        (self.graph.1, self.graph.2) = (None, None);
    }

    /// An optimiser without a past, for a new stage of training, over what is trained now.
    pub fn fresh_optimizer(&mut self) {
        self.optimizer = Optimizer::new(self.rule.0, self.rule.1, &self.store);
        (self.graph.1, self.graph.2) = (None, None);
    }
}
