//! Photos compared two by two with a network that takes pairs (1704.01719): what is computed an image is computed once,
//! and memory does not grow with the number of pairs.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::embed::chunks;
use super::progress::Bar;
use crate::collectives::World;
use crate::datasets::Photo;
use crate::models::{QuadrupletNet, channels_last};
use crate::transfer::upload;
use crate::transform::{Recipe, TestViews};

/// Bytes of conv2 maps that are kept at a time, of the queries and of the gallery each.
const HELD: usize = 256 << 20;

/// How to compare.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Size and normalisation of the network's input.
    pub recipe: Recipe,
    /// Where the network lives.
    pub device: Device,
    /// Pairs (and images) a forward pass.
    pub batch: usize,
    /// Loader threads.
    pub workers: usize,
    /// bfloat16 autocast for the network.
    pub amp: bool,
    /// Whether a pair's score is the mean of both orders' scores, (a, b) and (b, a).
    pub both_orders: bool,
    /// The processes at work: each compares a share of the queries or pairs, and all have all numbers in the end.
    pub world: World,
}

impl Comparison {
    /// Every query with every gallery photo: `score` makes one number of a pair's outputs (`[N, outputs]` to `[N]`); f32
    /// `[Q, G]` on the CPU. Errors name the photo that cannot be read.
    pub fn matrix(
        &self,
        network: &QuadrupletNet,
        query: &[Photo],
        gallery: &[Photo],
        score: &dyn Fn(&Tensor) -> Tensor,
        what: &str,
    ) -> Result<Tensor> {
        if self.world.size() > 1 {
            let names: Vec<&str> = query.iter().chain(gallery).map(|photo| photo.name.as_str()).collect();
            let asked = "the photos to compare, or how: give every process the same data and flags";
            self.world.agree(asked, &(names, query.len(), self.both_orders, self.amp))?;
        }
        // Fewer queries than processes: each compares them all.
        let Ok(shares) = self.world.shares(query.len(), 1) else {
            return self.own(network, query, gallery, score, what);
        };
        self.world.gather(&self.own(network, &query[shares.own()], gallery, score, what)?, &shares)
    }

    fn own(
        &self,
        network: &QuadrupletNet,
        query: &[Photo],
        gallery: &[Photo],
        score: &dyn Fn(&Tensor) -> Tensor,
        what: &str,
    ) -> Result<Tensor> {
        let (rows, columns) = (query.len(), gallery.len());
        let out = Tensor::zeros([rows as i64, columns as i64], (Kind::Float, Device::Cpu));
        let mut bar = Bar::new(what, (rows * columns) as u64, 0);
        let held = self.photos_held(network);
        for from in (0..rows).step_by(held) {
            let left = self.maps(network, &query[from..rows.min(from + held)])?;
            for start in (0..columns).step_by(held) {
                let right = self.maps(network, &gallery[start..columns.min(start + held)])?;
                let (q, g) = (left.size()[0], right.size()[0]);
                for first in (0..q * g).step_by(self.batch.max(1)) {
                    let count = (self.batch.max(1) as i64).min(q * g - first);
                    let place = Tensor::arange_start(first, first + count, (Kind::Int64, self.device));
                    let (row, column) = (place.divide_scalar_mode(g, "floor"), place.remainder(g));
                    let (a, b) = (left.index_select(0, &row), right.index_select(0, &column));
                    let scores = self.scores(network, &a, &b, score);
                    let (row, column) = (row.to_device(Device::Cpu), column.to_device(Device::Cpu));
                    let places = (row + from as i64) * columns as i64 + column + start as i64;
                    let _ = out.view([-1]).index_copy_(0, &places, &scores);
                    bar.step(count as u64);
                }
            }
        }
        Ok(out)
    }

    /// The pairs (a, b) of places in `photos`: one number each, f32 `[N]` on the CPU.
    pub fn pairs(
        &self,
        network: &QuadrupletNet,
        photos: &[Photo],
        pairs: &[(usize, usize)],
        score: &dyn Fn(&Tensor) -> Tensor,
        what: &str,
    ) -> Result<Tensor> {
        self.world.agree("the pairs to compare: give every process the same data and flags", &pairs)?;
        let shares = self.world.shares(pairs.len(), 1).ok();
        let pairs = shares.as_ref().map_or(pairs, |shares| &pairs[shares.own()]);
        let mut bar = Bar::new(what, pairs.len() as u64, 0);
        let mut parts = vec![Tensor::zeros([0], (Kind::Float, Device::Cpu))];
        for pairs in pairs.chunks(self.batch.max(1)) {
            let both = pairs.iter().map(|pair| pair.0).chain(pairs.iter().map(|pair| pair.1));
            let both: Vec<Photo> = both.map(|place| photos[place].clone()).collect();
            let maps = self.maps(network, &both)?;
            let count = pairs.len() as i64;
            parts.push(self.scores(network, &maps.narrow(0, 0, count), &maps.narrow(0, count, count), score));
            bar.step(pairs.len() as u64);
        }
        let own = Tensor::cat(&parts, 0);
        match shares {
            Some(shares) => self.world.gather(&own, &shares),
            None => Ok(own),
        }
    }

    /// conv2 maps of photos, on the device.
    fn maps(&self, network: &QuadrupletNet, photos: &[Photo]) -> Result<Tensor> {
        let mut parts = Vec::new();
        for images in chunks(photos, self.recipe, TestViews::Original, self.batch.max(1), self.workers)? {
            let images = channels_last(&upload(&images?, self.device));
            parts.push(tch::no_grad(|| super::autocast(self.amp, self.device, || network.maps(&images, false))));
        }
        Ok(Tensor::cat(&parts, 0))
    }

    /// Scores of pairs of maps, f32 `[N]` on the CPU. Scores are averaged and not outputs: a g without bound may have one
    /// sign in one order and the other in the other.
    fn scores(&self, network: &QuadrupletNet, a: &Tensor, b: &Tensor, score: &dyn Fn(&Tensor) -> Tensor) -> Tensor {
        let pass = |a: &Tensor, b: &Tensor| {
            let pass = || network.pair(a, b, false);
            let outputs = tch::no_grad(|| super::autocast(self.amp, self.device, pass)).to_kind(Kind::Float);
            score(&outputs).to_kind(Kind::Float).to_device(Device::Cpu)
        };
        if self.both_orders { (pass(a, b) + pass(b, a)) / 2. } else { pass(a, b) }
    }

    /// How many photos' maps fit into [`HELD`].
    fn photos_held(&self, network: &QuadrupletNet) -> usize {
        let (height, width) = (i64::from(self.recipe.height), i64::from(self.recipe.width));
        let image = Tensor::zeros([1, 3, height, width], (Kind::Float, self.device));
        let numbers = tch::no_grad(|| network.maps(&image, false)).numel();
        (HELD / (4 * numbers)).max(1)
    }
}
