//! The gradient of one loss from the graphs of all processes.

use std::cell::OnceCell;

use anyhow::{Result, anyhow};
use tch::{Kind, Tensor, nn::VarStore};

use super::{World, native, watch};

/// Backward passes whose gradients are those of all processes together.
#[derive(Debug)]
pub struct Gradients {
    world: World,
    parameters: Vec<Tensor>,
    /// From the second pass on, with several processes.
    reducer: OnceCell<native::Reducer>,
}

impl Gradients {
    /// Of the parameters of `store` that are trained now, in the order in which the network made them.
    pub fn new(world: &World, store: &VarStore) -> Gradients {
        let parameters = store.trainable_variables().into_iter().filter(Tensor::requires_grad).collect();
        Gradients { world: world.clone(), parameters, reducer: OnceCell::new() }
    }

    /// The backward pass of `loss`, a scalar that is the same in every process and whose graph leads through this
    /// one's rows; leaves the sum over processes in every parameter's gradient. Buckets of gradients travel while the
    /// pass still runs, but for the first one: that shows whether every process's loss touches all parameters. Where it does,
    /// later ones must too, and nobody looks for parameters that are left out.
    ///
    /// # Errors
    /// Where another process is gone, libtorch fails, or a later loss leaves out what the first one touched.
    pub fn backward(&self, loss: &Tensor) -> Result<()> {
        let Some(inner) = &self.world.0 else { return self.backward_alone(loss) };
        let failed = |error: String| watch::lost(&error);
        if let Some(reducer) = self.reducer.get() {
            // The reducer takes the mean.
            return reducer.backward(&(loss * self.world.size() as f64)).map_err(failed);
        }
        let with = || self.parameters.iter().filter(|x| x.grad().defined()).count();
        let before = with();
        self.backward_alone(loss)?;
        let all = before == 0 && with() == self.parameters.len();
        self.sum()?;
        let all = self.world.sum(&Tensor::full([1], f64::from(u8::from(all)), (Kind::Float, loss.device())))?;
        let all = all.double_value(&[0]) == self.world.size() as f64;
        let _ = self.reducer.set(native::Reducer::new(&inner.group, &self.parameters, !all).map_err(failed)?);
        Ok(())
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
