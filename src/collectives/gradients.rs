//! The gradient of one loss from the graphs of all processes.

use anyhow::{Result, anyhow};
use tch::{Tensor, nn::VarStore};

use super::{World, native, watch};

/// Backward passes whose gradients are those of all processes together.
#[derive(Debug)]
pub struct Gradients {
    world: World,
    parameters: Vec<Tensor>,
    /// None with one process.
    reducer: Option<native::Reducer>,
}

impl Gradients {
    /// Of the parameters of `store` that are trained now, in the order in which the network made them.
    ///
    /// # Errors
    /// Where libtorch refuses.
    pub fn new(world: &World, store: &VarStore) -> Result<Gradients> {
        let parameters: Vec<Tensor> = store.trainable_variables().into_iter().filter(Tensor::requires_grad).collect();
        let reducer = match &world.0 {
            Some(inner) => {
                let made = native::Reducer::new(&inner.group, &parameters);
                Some(made.map_err(|error| watch::lost(&error))?)
            }
            None => None,
        };
        Ok(Gradients { world: world.clone(), parameters, reducer })
    }

    /// The backward pass of `loss`, a scalar that is the same in every process and whose graph leads through this
    /// one's rows; leaves the sum over processes in every parameter's gradient. Buckets of gradients travel while the
    /// pass still runs.
    ///
    /// # Errors
    /// Where another process is gone, or libtorch fails.
    pub fn backward(&self, loss: &Tensor) -> Result<()> {
        match &self.reducer {
            None => self.backward_alone(loss),
            // The reducer takes the mean.
            Some(reducer) => reducer.backward(&(loss * self.world.size() as f64)).map_err(|error| watch::lost(&error)),
        }
    }

    /// One of several backward passes of a step, of this process alone; [`Gradients::sum`] comes after the last.
    ///
    /// # Errors
    /// Where libtorch fails.
    pub fn backward_alone(&self, loss: &Tensor) -> Result<()> {
        loss.f_backward()
            .map_err(|error| anyhow!("the backward pass failed: {}", crate::say::first_line(&error.to_string())))
    }

    /// For a step of several backward passes ([`Gradients::backward_alone`]), after the last: sums what they left in the
    /// parameters' gradients over processes.
    ///
    /// # Errors
    /// Where another process is gone.
    pub fn sum(&self) -> Result<()> {
        match &self.world.0 {
            None => Ok(()),
            Some(inner) => {
                tch::no_grad(|| inner.group.sum_gradients(&self.parameters)).map_err(|error| watch::lost(&error))
            }
        }
    }
}
