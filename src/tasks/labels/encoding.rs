//! Items and their labels as tensors.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::datasets::labels::{Content, Item};
use crate::datasets::{Reader, Source};
use crate::deploy::About;
use crate::device::machine::Machine;
use crate::transform::{Recipe, TestViews};

/// How items become a network's input.
#[derive(Debug, Clone, Copy)]
pub enum Encoding {
    /// Ready-made features, so many an item.
    Features(i64),
    /// Pixels.
    Images(Recipe),
}

impl Encoding {
    /// The shape of the input of `items` items: `[N, width]` or `[N, 3, height, width]`.
    pub fn shape(self, items: usize) -> Vec<i64> {
        match self {
            Encoding::Features(width) => vec![items as i64, width],
            Encoding::Images(recipe) => vec![items as i64, 3, recipe.height.into(), recipe.width.into()],
        }
    }

    /// A module that takes it.
    pub fn about(self, what: String) -> About {
        match self {
            Encoding::Features(width) => About::features(width, what),
            Encoding::Images(recipe) => About::photos(recipe, TestViews::Original, what),
        }
    }

    /// The input of `items` on the CPU, f32: features, or plain views of images.
    ///
    /// # Errors
    /// An image that can't be read, by name; an item that is no image where pixels are wanted, or the other way round.
    pub fn input(self, items: &[&Item]) -> Result<Tensor> {
        match self {
            Encoding::Features(width) => {
                let rows = items.iter().map(|item| match &item.content {
                    Content::Features(row) if row.len() as i64 == width => Ok(&row[..]),
                    _ => Err(misfit(item)),
                });
                let rows = rows.collect::<Result<Vec<_>>>()?;
                Ok(Tensor::from_slice(&rows.concat()).view(&self.shape(items.len())[..]))
            }
            Encoding::Images(recipe) => {
                let images = items.iter().map(|item| source(item)).collect::<Result<Vec<_>>>()?;
                recipe.test_batch(images, TestViews::Original)
            }
        }
    }
}

pub(super) fn misfit(item: &Item) -> anyhow::Error {
    anyhow!("{} has features where the network reads images, or the other way round", item.name)
}

pub(super) fn source(item: &Item) -> Result<&Source> {
    match &item.content {
        Content::Image(source) => Ok(source),
        Content::Features(_) => Err(misfit(item)),
    }
}

/// Reads training images, to be seen as `encoding` says; with `--skip-unreadable` some may be left out.
pub(super) fn reader(items: &Arc<[Item]>, encoding: Encoding, machine: &Machine) -> Reader {
    let own = items.clone();
    Reader::new(items.len(), machine.skip_unreadable, move |row| match encoding {
        Encoding::Images(recipe) => source(&own[row])?.image_for(recipe.enlarged()),
        Encoding::Features(_) => Err(misfit(&own[row])),
    })
}

/// The training items, with `--skip-unreadable` others in the places of those that cannot be used.
///
/// # Errors
/// Where none can be used.
pub fn usable(items: &Arc<[Item]>, encoding: Encoding, machine: &Machine) -> Result<Arc<[Item]>> {
    if !machine.skip_unreadable {
        return Ok(items.clone());
    }
    let rows = reader(items, encoding, machine).usable((0..items.len()).collect(), &[&|_, _, _| true])?;
    Ok(rows.into_iter().map(|row| items[row].clone()).collect())
}

/// 0/1 `[N, K]`, uint8: which of `classes` classes `items` have, by `of` them.
pub(super) fn marks(items: &[&Item], classes: usize, of: impl Fn(&Item) -> &[u32]) -> Tensor {
    let mut flat = vec![0_u8; items.len() * classes];
    for (row, item) in flat.chunks_exact_mut(classes).zip(items) {
        of(item).iter().for_each(|&class| row[class as usize] = 1);
    }
    Tensor::from_slice(&flat).view([items.len() as i64, classes as i64])
}

/// The labels of `items` as 0/1 `[N, K]`, uint8, on the CPU.
pub fn targets(items: &[&Item], classes: usize) -> Tensor {
    marks(items, classes, |item| &item.labels)
}

/// Sets the mean and the deviation of ready-made features to those of `items`; a feature that is always the same keeps 1.
///
/// # Errors
/// Where an item has no features, or the store's network takes none.
pub fn normalise(store: &VarStore, items: &[Item], encoding: Encoding) -> Result<()> {
    let x = encoding.input(&items.iter().collect::<Vec<_>>())?.to_kind(Kind::Double);
    let deviation = x.std_dim([0].as_slice(), false, false);
    let deviation = deviation.where_self(&deviation.gt(1e-12), &deviation.ones_like());
    let mean = x.mean_dim([0].as_slice(), false, Kind::Double);
    for (name, value) in [("input.mean", mean), ("input.deviation", deviation)] {
        let mut variable = store.variables().remove(name).context("this network reads no ready-made features")?;
        tch::no_grad(|| variable.copy_(&value.to_kind(Kind::Float)));
    }
    Ok(())
}
