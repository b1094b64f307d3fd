//! Multi-label sets: batches of items, what a network says of items, label decisions and their scores.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, nn::VarStore};

use super::brought::Brought;
use super::embed::at_once;
use super::{Data, Rows};
use crate::collectives::{Shares, World};
use crate::datasets::labels::{self, Content, Item, LabelSet};
use crate::datasets::{self, drawn};
use crate::datasets::{Card, Reader, Source};
use crate::deploy::About;
use crate::device::autocast;
use crate::device::machine::Machine;
use crate::loader::Loader;
use crate::losses::multilabel::{Pairs, draw_label};
use crate::models::label::LabelSystem;
use crate::models::{channels_last, hold_weights};
use crate::run::{
    Run,
    photos::{Read, Reads},
};
use crate::say::{Bar, count};
use crate::seed;
use crate::transfer::{Fetch, stage, upload};
use crate::transform::{Augment, Recipe, TestViews};

mod decisions;
mod pictures;
mod tag;

pub use decisions::{
    Columns, DECISIONS, Decision, EXACT, Judged, MEASURES, OV_F1, Outputs, PC_F1, RANKING, candidates, judge, measures,
};
pub use pictures::{certainty, confusion, show};
pub use tag::TAG;

// ---- Data -------------------------------------------------------------------------------------------------------

/// A label set as it is trained and tested on: without the items that have no label, which the authors' reader cannot pass.
#[derive(Debug)]
pub struct LabelData {
    /// As it lies on disk.
    whole: LabelSet,
    /// Its labelled items.
    pub set: LabelSet,
    /// Those of its training items that are trained on.
    pub train: Arc<[Item]>,
    /// Those that are set aside, "dev".
    pub dev: Arc<[Item]>,
}

impl LabelData {
    /// Opens a folder, or the drawn set; of its training items a share is set aside, drawn by `seed`.
    ///
    /// # Errors
    /// As [`labels::open`].
    pub fn open(data: &str, share: f64, seed: u64) -> Result<LabelData> {
        let whole = if data == "drawn" { drawn::shapes() } else { labels::open(Path::new(data))? };
        let set = whole.clone().without_unlabelled();
        let (train, dev) = set.dev(share, seed);
        Ok(LabelData { whole, set, train: train.into(), dev: dev.into() })
    }

    /// This training set with the test items of `other`.
    ///
    /// # Errors
    /// Where `other` has other classes or features.
    pub fn tested_on(self, other: LabelData) -> Result<LabelData> {
        LabelShape::of(&self.set).fits(&other.set, &format!("--data {}", other.set.name))?;
        Ok(LabelData { train: self.train, dev: self.dev, ..other })
    }

    /// What the rivals' number of labels and threshold are chosen on, and that in words: the items that are set aside or,
    /// where there are none, those that are trained on.
    pub fn chosen_on(&self) -> (&Arc<[Item]>, String) {
        match self.dev.len() {
            0 => {
                let items = count(self.train.len(), "training item");
                (&self.train, format!("the {items} themselves (none are set aside: optimistic)"))
            }
            items => (&self.dev, format!("{}, set aside from the training items of the run", count(items, "dev item"))),
        }
    }

    fn read<'a>(&'a self, items: &'a [Item]) -> Reads<'a> {
        let read = |item: &'a Item| match &item.content {
            Content::Image(source) => {
                let labels: Vec<&str> = item.labels.iter().map(|&k| self.set.classes[k as usize].as_str()).collect();
                Some(Read {
                    name: item.name.as_str().into(),
                    path: Some(source.path()?),
                    known: labels.join(";").into(),
                })
            }
            Content::Features(row) => {
                let bits = row.iter().map(|x| x.to_bits()).chain(item.labels.iter().copied());
                Some(Read::hashed(&*item.name, &bits.flat_map(u32::to_le_bytes).collect::<Vec<_>>()))
            }
        };
        Box::new(items.iter().filter_map(read))
    }
}

impl Data for LabelData {
    fn name(&self) -> &str {
        &self.set.name
    }

    fn notes(&self) -> &[String] {
        &self.set.notes
    }

    fn published(&self) -> std::result::Result<String, String> {
        let why = || format!("{} is not a set that the paper has, whole as it was published", self.set.name);
        if self.set.published { Ok(self.set.layout.to_string()) } else { Err(why()) }
    }

    fn trainable(&self) -> Result<()> {
        self.check(false, Duration::ZERO)
    }

    fn check(&self, training: bool, within: Duration) -> Result<()> {
        let (name, parts) = (&self.set.name, [&self.set.train, &self.set.test]);
        ensure!(parts.iter().all(|items| !items.is_empty()), "{name} has no labelled items to train on or to test");
        self.set.check(training, within)
    }

    fn trained(&self) -> Reads<'_> {
        self.read(&self.set.train)
    }

    fn tested(&self) -> Reads<'_> {
        self.read(&self.set.test)
    }

    fn alike(&self) -> Value {
        let items: Vec<_> = self.set.train.iter().map(|item| (&item.name, &item.labels)).collect();
        json!((&self.set.classes, items))
    }

    fn cards(&self) -> Vec<Card> {
        vec![self.whole.card()]
    }
}

/// What a network is built for: the K classes by name and, of ready-made features, how many numbers a row has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LabelShape {
    /// In the order of the scores.
    pub classes: Vec<String>,
    /// None of images.
    pub features: Option<i64>,
}

impl LabelShape {
    /// That of a set.
    pub fn of(set: &LabelSet) -> LabelShape {
        LabelShape { classes: set.classes.clone(), features: set.feature_width().map(|width| width as i64) }
    }

    /// K, how many classes there are.
    pub fn k(&self) -> i64 {
        self.classes.len() as i64
    }

    /// How many labels a count head tells, where so many were asked for: no more than there are classes, and two at least.
    pub fn most(&self, asked: i64) -> i64 {
        asked.min(self.k().max(2))
    }

    /// Errors where `set` has other classes (or in another order) or features than these; `of` begins the line.
    ///
    /// # Errors
    /// So.
    pub fn fits(&self, set: &LabelSet, of: &str) -> Result<()> {
        let theirs = LabelShape::of(set);
        let kind = |width: Option<i64>| width.map_or("images".into(), |width| format!("rows of {width} features"));
        ensure!(
            theirs.features == self.features,
            "{of}: {} where the run was trained on {}: give data of that kind",
            kind(theirs.features),
            kind(self.features)
        );
        let (count, own) = (theirs.classes.len(), self.classes.len());
        ensure!(
            count == own,
            "{of}: {count} classes where the run was trained on {own}: give data with the same classes"
        );
        match theirs.classes.iter().zip(&self.classes).enumerate().find(|(_, (theirs, own))| theirs != own) {
            None => Ok(()),
            Some((i, (theirs, own))) => bail!(
                "{of}: class {} is {theirs:?} where the run was trained on {own:?}: give data with the same classes in the same order",
                i + 1
            ),
        }
    }
}

/// What a network says of a user's photos: features where they are wanted, scores, thresholds, the counts that the count
/// head says and the labels that are decided.
///
/// # Errors
/// Where one can't be used.
pub fn say(
    net: &LabelSystem,
    of: &Brought,
    encoding: Encoding,
    classes: &[String],
    decision: Decision,
    run: &Run,
) -> Result<Rows> {
    let item = |photo: &datasets::Photo| Item {
        name: photo.name.to_string(),
        content: Content::Image(photo.source.clone()),
        labels: vec![],
        difficult: vec![],
    };
    // Rows with features and without are kept apart.
    let kept = of.kept.clone().map(|at| if of.features { at.join("features") } else { at });
    let of = &Brought { kept, ..of.clone() };
    let batch = items_at_once(encoding, &run.machine);
    let mut rows = of.rows(run.machine.skip_unreadable, &|photo| photo.source.image(), batch, &|photos, bar| {
        let items = photos.iter().map(item).collect();
        let outputs = Outputs::told(net, &items, encoding, classes.len(), run, bar, of.features)?;
        let mut tensors = outputs.tensors(decision);
        tensors.retain(|(name, _)| of.features || name != "features");
        Ok(Rows { tensors, ..Rows::of(photos) })
    })?;
    rows.metadata.push(("classes".into(), serde_json::to_string(classes)?));
    Ok(Rows { what: format!("scores and labels of {}", count(rows.names.len(), "image")), ..rows })
}

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

fn misfit(item: &Item) -> anyhow::Error {
    anyhow!("{} has features where the network reads images, or the other way round", item.name)
}

fn source(item: &Item) -> Result<&Source> {
    match &item.content {
        Content::Image(source) => Ok(source),
        Content::Features(_) => Err(misfit(item)),
    }
}

/// Reads training images; with `--skip-unreadable` some may be left out.
fn reader(items: &Arc<[Item]>, machine: &Machine) -> Reader {
    let own = items.clone();
    Reader::new(items.len(), machine.skip_unreadable, move |row| source(&own[row])?.image())
}

/// The training items, with `--skip-unreadable` others in the places of those that cannot be used.
///
/// # Errors
/// Where none can be used.
pub fn usable(items: &Arc<[Item]>, machine: &Machine) -> Result<Arc<[Item]>> {
    if !machine.skip_unreadable {
        return Ok(items.clone());
    }
    let rows = reader(items, machine).usable((0..items.len()).collect(), &[&|_, _, _| true])?;
    Ok(rows.into_iter().map(|row| items[row].clone()).collect())
}

/// 0/1 `[N, K]`, uint8: which of `classes` classes `items` have, by `of` them.
fn marks(items: &[&Item], classes: usize, of: impl Fn(&Item) -> &[u32]) -> Tensor {
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
fn laid_out(x: &Tensor) -> Tensor {
    if x.dim() == 4 { channels_last(x) } else { x.shallow_clone() }
}

/// How batches of items are made.
#[derive(Debug, Clone)]
pub struct Batches {
    /// What there is to draw from.
    pub items: Arc<[Item]>,
    /// K.
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

impl Batches {
    /// Prefetched batches, each a function of the seeds and its step.
    ///
    /// # Errors
    /// Where threads can't be started; an unreadable image is an error in its batch's place.
    pub fn load(self, steps: Range<u64>, machine: &Machine) -> Result<Loader<LabelBatch>> {
        let (world, device) = (machine.world.clone(), machine.device);
        let reader = reader(&self.items, machine);
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

/// Items that go through a network at once.
fn items_at_once(encoding: Encoding, machine: &Machine) -> usize {
    match encoding {
        Encoding::Images(recipe) => at_once(recipe.height, recipe.width, machine.device),
        Encoding::Features(_) => 64,
    }
}

/// What `forward` gives for the input of `items` in plain views, in chunks: f32 on the CPU, a row an item. Each process
/// computes a share, and all have all rows in the end.
///
/// # Errors
/// Where there are no items, or one can't be read.
pub fn over_items<const N: usize>(
    items: &Arc<[Item]>,
    encoding: Encoding,
    machine: &Machine,
    bar: &mut Bar,
    forward: impl Fn(&Tensor) -> [Tensor; N],
) -> Result<[Tensor; N]> {
    ensure!(!items.is_empty(), "no items to look at");
    let chunk = items_at_once(encoding, machine);
    // Fewer items than processes: each computes them all.
    let shares = machine.world.shares(items.len(), 1).ok();
    let own = shares.as_ref().map_or(0..items.len(), Shares::own);
    let (shared, range, device) = (items.clone(), own.clone(), machine.device);
    let chunks = own.len().div_ceil(chunk) as u64;
    let loader = Loader::new(0..chunks, machine.workers, machine.workers + 1, move |place| {
        let from = range.start + place as usize * chunk;
        let items: Vec<&Item> = shared[from..range.end.min(from + chunk)].iter().collect();
        Ok(stage(encoding.input(&items)?, device))
    })?;
    let mut parts: [Fetch; N] = std::array::from_fn(|_| Fetch::default());
    let _held = hold_weights();
    for x in loader {
        let x = laid_out(&upload(&x?, device));
        for (part, rows) in parts.iter_mut().zip(tch::no_grad(|| forward(&x))) {
            part.push(&rows.to_kind(Kind::Float));
        }
        bar.step(x.size()[0] as u64);
    }
    bar.step((items.len() - own.len()) as u64);
    let mut rows = parts.map(|part| part.all().unwrap_or_default());
    if let Some(shares) = shares {
        for x in &mut rows {
            *x = machine.world.gather(x, &shares)?;
        }
    }
    Ok(rows)
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

/// fc7 `[N, F]` and f `[N, K]` of items, f32 on the CPU; see [`over_items`].
///
/// # Errors
/// As [`over_items`].
pub fn features(
    net: &LabelSystem,
    items: &Arc<[Item]>,
    encoding: Encoding,
    run: &Run,
    what: &str,
) -> Result<[Tensor; 2]> {
    over_items(items, encoding, &run.machine, &mut Bar::new(what, items.len() as u64, 0), |x| forward(net, x, run))
}

/// fc7 and f of inputs.
fn forward(net: &LabelSystem, x: &Tensor, run: &Run) -> [Tensor; 2] {
    autocast(run.amp, run.machine.device, || {
        let feature = net.feature(x, false);
        let f = net.net.scores(&feature, false);
        [feature, f]
    })
}
