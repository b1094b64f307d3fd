//! Batches of training items.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rand::seq::SliceRandom;
use tch::{Device, Kind, Tensor};

use super::encoding::{Encoding, reader, targets};
use crate::collectives::{Shares, World};
use crate::datasets::labels::Item;

use crate::device::machine::Machine;
use crate::loader::Loader;
use crate::losses::multilabel::{Pairs, draw_label};
use crate::models::channels_last;
use crate::seed;
use crate::transfer::{stage, upload};
use crate::transform::Augment;

// ---- Batches ----------------------------------------------------------------------------------------------------

/// Shuffled passes over items, in batches that are all as long as one another, give or take one.
#[derive(Debug, Clone, Copy)]
pub struct Passes {
    /// How many items there are, at least 1.
    pub items: usize,
    /// Items a batch at most, at least 2; an odd pass in twos has one batch of three.
    pub batch: usize,
    /// The order of every pass follows from this.
    pub seed: u64,
}

impl Passes {
    /// Batches a pass: as few as hold all items with at most `batch` in each, but none with a single item, of which
    /// batch normalisation has no variance.
    pub fn batches(self) -> u64 {
        self.items.div_ceil(self.batch).min(self.items / 2).max(1) as u64
    }

    /// All items in the order of pass `pass`.
    pub fn order(self, pass: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.items).collect();
        order.shuffle(&mut seed::at(self.seed, pass, 0));
        order
    }

    /// Where in the order of its pass the batch of step `t` lies.
    pub fn place(self, t: u64) -> Range<usize> {
        let (batches, place) = (self.batches() as usize, (t % self.batches()) as usize);
        let start = |place: usize| place * (self.items / batches) + place.min(self.items % batches);
        start(place)..start(place + 1)
    }

    /// The same orders on a device, where what they choose among lies there whole.
    pub fn shuffled(self, device: Device) -> Shuffled {
        Shuffled { passes: self, device, order: (u64::MAX, Tensor::new()) }
    }

    /// The items of step `t`.
    pub fn rows(self, t: u64) -> Vec<usize> {
        self.order(t / self.batches())[self.place(t)].to_vec()
    }

    /// Refuses batches that can't be shared out among the processes, or that leave one of them a single item where its
    /// batch normalisation sees no others (`alone`).
    ///
    /// # Errors
    /// One line that names `--batch`.
    pub fn check(self, world: &World, alone: bool) -> Result<()> {
        let least = self.items / self.batches() as usize;
        let shares = world.shares(least, 1).with_context(|| format!("--batch {}", self.batch))?;
        ensure!(
            !(alone && world.size() > 1 && shares.of().any(|share| share.len() < 2)),
            "--batch {}: a batch of {least} leaves one of {} processes a single image, of which batch normalisation has no variance: make the batch larger, start fewer, or say --sync-batch-norm",
            self.batch,
            world.size()
        );
        Ok(())
    }
}

/// The items of steps as int64 `[B]` on a device; each pass's order goes there once, and the host doesn't wait.
#[derive(Debug)]
pub struct Shuffled {
    passes: Passes,
    device: Device,
    /// The newest order, and which pass has it.
    order: (u64, Tensor),
}

impl Shuffled {
    /// Those of step `t`.
    pub fn rows(&mut self, t: u64) -> Tensor {
        let pass = t / self.passes.batches();
        if self.order.0 != pass {
            let order: Vec<i64> = self.passes.order(pass).into_iter().map(|row| row as i64).collect();
            self.order = (pass, upload(&Tensor::from_slice(&order), self.device));
        }
        let place = self.passes.place(t);
        self.order.1.narrow(0, place.start as i64, place.len() as i64)
    }
}

/// What a loss draws for a batch, from its seed and the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawing {
    /// Nothing.
    None,
    /// At most so many (label, other class) pairs of each image.
    Pairs(i64),
    /// One label of each image.
    Label,
}

/// A batch of B items.
#[derive(Debug)]
pub struct LabelBatch {
    /// The input of this process's share of the rows; of all rows where there is one process.
    pub inputs: Tensor,
    /// Who has which rows.
    pub shares: Shares,
    /// 0/1 `[B, K]` of all rows.
    pub labels: Tensor,
    /// The pairs that were drawn; None where all are taken, or none were asked for.
    pub pairs: Option<Pairs>,
    /// The label drawn of each row, int64 `[B]`, -1 where it has none; `[0]` where none was asked for.
    pub drawn: Tensor,
    /// Items in whose places others are.
    pub left_out: Vec<usize>,
}

impl LabelBatch {
    /// On the device, images with their channels last; the host doesn't wait.
    pub fn on(self, device: Device) -> LabelBatch {
        let sent = self.map(|x| upload(x, device));
        LabelBatch { inputs: laid_out(&sent.inputs), ..sent }
    }

    fn map(self, f: impl Fn(&Tensor) -> Tensor) -> LabelBatch {
        LabelBatch {
            inputs: f(&self.inputs),
            labels: f(&self.labels),
            pairs: self.pairs.map(|pairs| pairs.map(&f)),
            drawn: f(&self.drawn),
            shares: self.shares,
            left_out: self.left_out,
        }
    }
}

/// Images with their channels last.
pub(super) fn laid_out(x: &Tensor) -> Tensor {
    if x.dim() == 4 { channels_last(x) } else { x.shallow_clone() }
}

/// How batches of items are made.
#[derive(Debug, Clone)]
pub struct LabelBatches {
    /// What there is to draw from.
    pub items: Arc<[Item]>,
    /// K, how many classes there are.
    pub classes: usize,
    /// Which of them make which batch.
    pub passes: Passes,
    /// What the network sees of them.
    pub encoding: Encoding,
    /// How images are augmented, and the run's seed.
    pub augment: (Augment, u64),
    /// What the loss draws, and the seed of it.
    pub drawing: (Drawing, u64),
}

impl LabelBatches {
    /// Prefetched batches, each a function of the seeds and its step.
    ///
    /// # Errors
    /// Where threads can't be started; an unreadable image is an error in its batch's place.
    pub fn load(self, steps: Range<u64>, machine: &Machine) -> Result<Loader<LabelBatch>> {
        let (world, device) = (machine.world.clone(), machine.device);
        let reader = reader(&self.items, self.encoding, machine);
        Loader::new(steps, machine.workers, machine.workers + 1, move |t| {
            let chosen = self.passes.rows(t);
            let rows = match self.encoding {
                Encoding::Images(_) => reader.usable(chosen.clone(), &[&|_, _, _| true])?,
                Encoding::Features(_) => chosen.clone(),
            };
            let items: Vec<&Item> = rows.iter().map(|&row| &self.items[row]).collect();
            let shares = world.shares(items.len(), 1)?;
            let own = shares.own();
            let labels = targets(&items, self.classes);
            let (augment, from) = self.augment;
            let inputs = match self.encoding {
                Encoding::Images(recipe) => {
                    let images = own.map(|i| (i, rows[i]));
                    recipe.train_batch(images, |row| reader.image(row), augment, from, t)?
                }
                features => features.input(&items[own])?,
            };
            let seed = seed::mix(self.drawing.1 ^ t);
            let pairs = match self.drawing.0 {
                Drawing::Pairs(most) => Pairs::draw(&labels, most, seed),
                _ => None,
            };
            let drawn = match self.drawing.0 {
                Drawing::Label => draw_label(&labels, seed),
                _ => Tensor::zeros([0], (Kind::Int64, Device::Cpu)),
            };
            let left_out = reader.left_out(&chosen);
            Ok(LabelBatch { inputs, shares, labels, pairs, drawn, left_out }.map(|x| stage(x.shallow_clone(), device)))
        })
    }
}
