//! Batches: which items, what the network sees of them, what the losses draw for them; and how they reach the device.

use super::*;
use rankle::losses::multilabel::{Pairs, draw_label};

/// A batch; on the host as the loader makes it.
pub struct Batch {
    /// What this process's share of the rows shows; of all rows where there is one process.
    pub inputs: Tensor,
    /// Who has which rows.
    pub shares: Shares,
    /// 0/1 `[B, K]` of all rows.
    pub labels: Tensor,
    /// The pairs that lsep samples; None where it takes all of them.
    pub pairs: Option<Pairs>,
    /// The label that softmax takes of each image, `[B]`; of no image with other losses.
    pub drawn: Tensor,
}

impl Batch {
    fn map(self, f: impl Fn(&Tensor) -> Tensor) -> Batch {
        Batch {
            inputs: f(&self.inputs),
            labels: f(&self.labels),
            pairs: self.pairs.map(|pairs| pairs.map(&f)),
            drawn: f(&self.drawn),
            shares: self.shares,
        }
    }

    /// On the device, without waiting for it.
    pub fn on(self, device: Device) -> Batch {
        let sent = self.map(|x| send(x, device));
        Batch { inputs: laid_out(&sent.inputs), ..sent }
    }
}

/// In memory that a GPU reads by itself: only then does sending it make nobody wait.
pub fn pinned(x: &Tensor, device: Device) -> Tensor {
    if device.is_cuda() { x.pin_memory(device) } else { x.shallow_clone() }
}

/// On the device; from pinned memory without a wait.
pub fn send(x: &Tensor, device: Device) -> Tensor {
    x.to_device_(device, x.kind(), true, false)
}

/// Images with their channels last.
pub fn laid_out(x: &Tensor) -> Tensor {
    if x.dim() == 4 { channels_last(x) } else { x.shallow_clone() }
}

/// 0/1 `[N, K]` of items.
pub fn targets<'a>(h: &Hyper, items: impl ExactSizeIterator<Item = &'a Item>) -> Tensor {
    let (rows, classes) = (items.len(), h.classes.len());
    let mut flat = vec![0_u8; rows * classes];
    for (row, item) in flat.chunks_exact_mut(classes).zip(items) {
        item.labels.iter().for_each(|&class| row[class as usize] = 1);
    }
    Tensor::from_slice(&flat).view([rows as i64, h.k()])
}

/// Inputs of items: rows of features, or images; `augment` holds the seed and step of a training batch and the first
/// item's place in it.
pub fn inputs<'a>(
    h: &Hyper,
    items: impl ExactSizeIterator<Item = &'a Item>,
    augment: Option<(u64, u64, usize)>,
) -> Result<Tensor> {
    let width = match h.features {
        Some(features) => features as usize,
        None => h.recipe().len(),
    };
    let rows = items.len();
    let mut flat = vec![0_f32; rows * width];
    for (i, (item, out)) in items.zip(flat.chunks_exact_mut(width)).enumerate() {
        match (&item.content, augment) {
            (Content::Features(row), _) => out.copy_from_slice(row),
            (Content::Image(source), Some((seed, step, first))) => {
                let mut rng = seed::at(seed, step, (first + i) as u64);
                h.recipe().train(&*source.image()?, h.augment, &mut rng, out);
            }
            (Content::Image(source), None) => h.recipe().test(&*source.image()?, TestViews::Original, out),
        }
    }
    let rows = rows as i64;
    Ok(match h.features {
        Some(features) => Tensor::from_slice(&flat).view([rows, features]),
        None => Tensor::from_slice(&flat).view([rows, 3, h.size.into(), h.size.into()]),
    })
}

/// Batches a pass: as few as hold all items with at most `h.batch` in each, but none with a single item, of which batch
/// normalisation has no variance.
pub fn count(h: &Hyper, items: usize) -> usize {
    items.div_ceil(h.batch).min(items / 2).max(1)
}

/// All items in the order of pass `pass`.
pub fn order(h: &Hyper, items: usize, name: &str, pass: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..items).collect();
    order.shuffle(&mut seed::at(seed::named(h.seed, name), pass, 0));
    order
}

/// Where in a pass its batch `place` lies: all are as long as one another, give or take one.
pub fn place(h: &Hyper, items: usize, place: usize) -> Range<usize> {
    let batches = count(h, items);
    let start = |place: usize| place * (items / batches) + place.min(items % batches);
    start(place)..start(place + 1)
}

/// Prefetched batches of the first stage, each a function of the seed and its step.
pub fn load(h: &Hyper, items: &Arc<[Item]>, steps: Range<u64>, machine: &Machine) -> Result<Loader<Batch>> {
    let (items, h, world, device) = (items.clone(), h.clone(), machine.world.clone(), machine.device);
    let (augment, draw) = (seed::named(h.seed, "augment"), seed::named(h.seed, "pairs"));
    Loader::new(steps, machine.workers, machine.workers + 1, move |t| {
        let batches = count(&h, items.len()) as u64;
        let all = order(&h, items.len(), "order", t / batches);
        let rows = &all[place(&h, items.len(), (t % batches) as usize)];
        let shares = world.shares(rows.len(), 1)?;
        let own = shares.own();
        let items_of = |rows: &[usize]| rows.iter().map(|&row| &items[row]).collect::<Vec<_>>();
        let labels = targets(&h, items_of(rows).into_iter());
        let inputs = inputs(&h, items_of(&rows[own.clone()]).into_iter(), Some((augment, t, own.start)))?;
        let seed = seed::mix(draw ^ t);
        let pairs = if h.loss == Loss::Lsep { Pairs::draw(&labels, h.pairs, seed) } else { None };
        let drawn = if h.loss == Loss::Softmax {
            draw_label(&labels, seed)
        } else {
            Tensor::zeros([0], (Kind::Int64, Device::Cpu))
        };
        Ok(Batch { inputs, shares, labels, pairs, drawn }.map(|x| pinned(x, device)))
    })
}

/// Refuses a batch that cannot be shared out among the processes: without `synchronised` batch normalisation each
/// needs two images.
pub fn shareable(h: &Hyper, items: usize, machine: &Machine, synchronised: bool) -> Result<()> {
    let (world, batches) = (&machine.world, count(h, items));
    ensure!(
        !synchronised || h.net == Net::Small,
        "--sync-batch-norm: {} has no batch normalisation: leave it out",
        h.net_name()
    );
    let least = items / batches;
    let shares = world.shares(least, 1).with_context(|| format!("--batch {}", h.batch))?;
    let alone = world.size() > 1 && h.net == Net::Small && !synchronised && shares.of().any(|share| share.len() < 2);
    ensure!(
        !alone,
        "--batch {}: a batch of {least} leaves one of {} processes a single image, of which batch normalisation has no variance: make the batch larger, start fewer, or say --sync-batch-norm",
        h.batch,
        world.size()
    );
    Ok(())
}
