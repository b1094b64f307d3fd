//! Photos compared two by two (1704.01719), and the pairs that are compared. What a network of pairs computes an image is
//! computed once, and memory does not grow with the number of pairs; a network of single images embeds.

use std::ops::Range;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::embed::{ALIKE, Embedding};
use super::kept::NOT_READ;
use super::reid::{ByRows, Compared, Draws};
use super::{Brought, Evaluation, Rows, kept, people, reid};
use crate::collectives::World;
use crate::datasets;
use crate::datasets::{Photo, Reader, ReidSet};
use crate::deploy::About;
use crate::distance::Metric;
use crate::losses::quadruplet::Dissimilarity;
use crate::metrics::others::{Dealt, tall};
use crate::metrics::retrieval::Streamed;
use crate::models::quadruplet::Backbone;
use crate::models::{QuadrupletNet, channels_last};
use crate::real::numbers;
use crate::run::Run;
use crate::say::{Bar, note};
use crate::transfer::{Fetch, upload};
use crate::transform::{Recipe, TestViews};

use batches::usable;
use distances::{ends, triples};

mod batches;
mod distances;

pub use batches::{batch_line, batches, dropping, gather_parts, random_orders, sampler};
pub use distances::{Distances, drawn};

/// Bytes of conv2 maps that are kept at a time, of the queries and of the gallery each.
const HELD: usize = 256 << 20;

/// What queries and a gallery are ranked by `[Q, G]`, and how it reads.
pub type Ranked = (Tensor, Dissimilarity);

/// How to compare. Several processes compare a share of the queries or pairs each; of pairs all have all numbers in the end, of
/// queries what they are scored by.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// How photos are seen, and where; a batch is of pairs (and images). A network of pairs sees the photos as they are,
    /// without views.
    pub images: Embedding,
    /// What the network's outputs mean.
    pub by: Dissimilarity,
    /// Which orders of a pair.
    pub order: Order,
}

/// Which orders of a pair are compared: what a network of pairs says of them is not symmetric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// What (a, b) and (b, a) are ranked by is averaged
    Both,
    /// Both orders of the two photos and of their mirror images, averaged: eight passes
    Eight,
    /// (query, gallery) alone
    One,
}

impl Comparison {
    /// How a network of this backbone compares photos of `size` (height and width).
    pub fn new(backbone: Backbone, size: (u32, u32), by: Dissimilarity, order: Order, run: &Run) -> Comparison {
        let images = people::embedding(recipe(backbone, size), TestViews::Original, run);
        let batch = match (by, backbone) {
            (Dissimilarity::Embedding, _) => images.batch,
            (_, Backbone::Small) => 1024,
            _ => 256,
        };
        Comparison { images: Embedding { batch, ..images }, by, order }
    }

    /// Every query with every gallery photo: what they are ranked by ([`Dissimilarity::ranked`]), f32 `[Q, G]` on the CPU, by this
    /// process alone. Errors name the photo that cannot be read.
    pub fn matrix(&self, network: &QuadrupletNet, query: &[Photo], gallery: &[Photo]) -> Result<Tensor> {
        let world = World::alone();
        let own = Comparison { images: Embedding { world: world.clone(), ..self.images.clone() }, ..self.clone() };
        let mut pairwise = Pairwise::new(&own, network, query, gallery)?;
        let dealt = Dealt::new(query.len(), pairwise.sizes.0, &world);
        let out = Tensor::zeros([query.len() as i64, gallery.len() as i64], (Kind::Float, Device::Cpu));
        for pass in dealt.passes_of(pairwise.sizes.1) {
            let rows = pairwise.rows(&dealt.blocks_of(pass.clone()).collect::<Vec<_>>())?;
            out.narrow(0, pass.start as i64, pass.len() as i64).copy_(&rows);
        }
        Ok(out)
    }

    /// The pairs (a, b) of places in `photos`: what they are ranked by, f32 `[N]` on the CPU.
    pub fn pairs(&self, network: &QuadrupletNet, photos: &[Photo], pairs: &[(usize, usize)]) -> Result<Tensor> {
        let world = &self.images.world;
        world.agree("the pairs to compare: give every process the same data and flags", &pairs)?;
        if !network.takes_pairs() {
            let x = self.images.photos(network, photos, "embed photos")?;
            let (a, b): (Vec<i64>, Vec<i64>) = pairs.iter().map(|&(a, b)| (a as i64, b as i64)).unzip();
            let [a, b] = [a, b].map(|rows| x.index_select(0, &Tensor::from_slice(&rows)));
            return Ok(Metric::SquaredEuclidean.paired(&a, &b));
        }
        // A batch is a block, whoever computes it; so small that 16 processes have some.
        let block = pairs.len().div_ceil(16).clamp(1, self.images.batch.max(1));
        let dealt = Dealt::new(pairs.len(), block, world);
        let mut bar = Bar::new("compare pairs", dealt.own().len() as u64, 0);
        let mut scores = Fetch::default();
        for block in dealt.blocks() {
            let pairs = &pairs[block];
            let both = pairs.iter().map(|pair| pair.0).chain(pairs.iter().map(|pair| pair.1));
            let both: Vec<Photo> = both.map(|place| photos[place].clone()).collect();
            let maps = self.maps(network, &both)?;
            let count = pairs.len() as i64;
            scores.push(&self.ranked(network, &maps.narrow(0, 0, count), &maps.narrow(0, count, count)));
            bar.step(pairs.len() as u64);
        }
        let own = scores.all()?.map_or_else(Vec::new, |own| numbers::<f64>(&own.to_kind(Kind::Double)));
        Ok(Tensor::from_slice(&dealt.gather(own, world)?).to_kind(Kind::Float))
    }

    /// Figure 5's distances: `count` pairs of one person and as many of two, drawn from `photos` by [`drawn`] and seen
    /// without mirroring, others in the places of what `reader` may leave out; where g has no bound, in units of the largest,
    /// as the figure scales them into [0, 1]. None where the photos give no quadruplet.
    pub fn distances(
        &self,
        network: &QuadrupletNet,
        photos: &[Photo],
        reader: &Reader,
        count: usize,
        across: bool,
    ) -> Result<Option<Distances>> {
        let Some(draw) = triples(photos, count, across) else { return Ok(None) };
        let pairs = ends(&usable(reader, photos, draw(0), draw, 3)?);
        let all: Vec<f32> = self.pairs(network, photos, &pairs)?.try_into()?;
        let mut all: Vec<f64> = all.into_iter().map(|x| self.by.shown(x.into())).collect();
        if self.by == Dissimilarity::Unbounded {
            let largest = all.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
            all.iter_mut().for_each(|g| *g /= largest);
        }
        let (same, different) = all.split_at(count);
        Ok(Some(Distances { same: same.to_vec(), different: different.to_vec(), across }))
    }

    /// The set's test people ranked single shot and as a whole gallery, and Figure 5's distances of `count` training pairs of
    /// each kind, seen `across` cameras or not.
    ///
    /// # Errors
    /// Where the set cannot be scored, a photo cannot be read, or another process is gone.
    pub fn evaluate(
        &self,
        network: &QuadrupletNet,
        set: &ReidSet,
        draws: Draws,
        (count, across): (usize, bool),
        run: &Run,
    ) -> Result<Evaluation> {
        reid::can_be_scored(set)?;
        let test = reid::middle_photos(set);
        let mut by = Pairwise::new(self, network, &test.query, &test.gallery)?;
        let compared = Compared::of(&test, &mut by, draws, run.seed, &self.images.world)?;
        // Of single images their embedding says so.
        if network.takes_pairs() && compared.alike() {
            note(format!("all pairs of test photos that were looked at have one distance: the photos are {ALIKE}"));
        }
        let training =
            self.distances(network, &set.train, &people::reader(&set.train, self.images.recipe, run), count, across)?;
        let mut found = Evaluation { scores: compared.scores(), ..Evaluation::default() };
        found.scores.extend(training.iter().flat_map(Distances::scores));
        found.report.answers(&compared.says());
        found.protocol = [compared.protocol(), self.protocol(training.as_ref()), test.notes.clone()].concat();
        if run.leads() {
            training.iter().for_each(|distances| distances.show(&mut found.report));
            compared.show(&mut found.report, |ranked| self.by.shown(ranked))?;
        }
        Ok(found)
    }

    /// How it compares, in words, and what [`Comparison::distances`] measured.
    pub fn protocol(&self, distances: Option<&Distances>) -> Vec<String> {
        let order = match (self.by, self.order) {
            (Dissimilarity::Embedding, _) => "",
            (_, Order::Both) => "; both orders of a pair averaged",
            (_, Order::Eight) => "; both orders of the photos and of their mirror images averaged",
            (_, Order::One) => "; (query, gallery) alone",
        };
        let pairs = match distances {
            Some(Distances { same, across, .. }) => {
                let across = if *across { ", each seen by two cameras" } else { "" };
                let scaled = if self.by == Dissimilarity::Unbounded { ", in units of the largest" } else { "" };
                format!("{} pairs of each kind{across}, compared as in the test{scaled}", same.len())
            }
            None => "none, for the training photos give no quadruplet".into(),
        };
        vec![format!("{}{order}", self.by), format!("training distances: {pairs}")]
    }

    /// What a user's photos are ranked by against a gallery, [`Comparison::matrix`]; None of a network of single images.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn search(&self, network: &QuadrupletNet, query: &[Photo], gallery: &[Photo]) -> Result<Option<Ranked>> {
        let ranked = || Ok((self.matrix(network, query, gallery)?, self.by));
        network.takes_pairs().then(ranked).transpose()
    }

    /// What the network says of a user's photos: their embeddings, or "dissimilarity" `[N, N]`, g of every two of them.
    ///
    /// # Errors
    /// Where one cannot be read, or they are too many to compare.
    pub fn photos(&self, network: &QuadrupletNet, of: &Brought) -> Result<Rows> {
        const MOST: usize = 10_000;
        if !network.takes_pairs() {
            return people::embed_photos(network, of, &self.images);
        }
        let (photos, gone) = datasets::brought(of.photos.clone(), self.images.skip_unreadable)?;
        let n = photos.len();
        ensure!(n <= MOST, "--images: {n} photos make {} pairs: give at most {MOST} photos", n * n);
        let g = self.matrix(network, &photos, &photos)?;
        let g = if self.by == Dissimilarity::Softmax { g.sigmoid() } else { g };
        Ok(Rows {
            what: format!("{n} x {n} dissimilarities"),
            tensors: vec![("dissimilarity".into(), g)],
            metadata: kept::left_out(NOT_READ, &gone),
            ..Rows::of(photos)
        })
    }

    /// conv2 maps of photos, on the device, `[N, views, C, H, W]`.
    fn maps(&self, network: &QuadrupletNet, photos: &[Photo]) -> Result<Tensor> {
        let Embedding { batch, device, amp, .. } = self.images;
        let mut parts = Vec::new();
        for images in self.images.chunks(photos, TestViews::Original, batch.max(1))? {
            let images = channels_last(&upload(&images?, device));
            parts.push(tch::no_grad(|| crate::device::autocast(amp, device, || viewed(network, &images, self.order))));
        }
        Ok(Tensor::cat(&parts, 0))
    }

    fn ranked(&self, network: &QuadrupletNet, a: &Tensor, b: &Tensor) -> Tensor {
        let pass = || ranked(network, a, b, self.by, self.order);
        tch::no_grad(|| crate::device::autocast(self.images.amp, self.images.device, pass))
    }

    /// How many photos' maps fit into [`HELD`].
    fn photos_held(&self, network: &QuadrupletNet) -> usize {
        let (height, width) = (i64::from(self.images.recipe.height), i64::from(self.images.recipe.width));
        let image = Tensor::zeros([1, 3, height, width], (Kind::Float, self.images.device));
        let numbers = tch::no_grad(|| viewed(network, &image, self.order)).numel();
        (HELD / (4 * numbers)).max(1)
    }
}

/// Queries and a gallery, compared some queries at a time.
struct Pairwise<'a> {
    how: &'a Comparison,
    network: &'a QuadrupletNet,
    query: &'a [Photo],
    gallery: &'a [Photo],
    /// How many photos' maps are held of each.
    held: usize,
    /// As [`ByRows::sizes`].
    sizes: (usize, usize),
    /// What a network of single images says of both, and all places in the gallery.
    embedded: Option<([Tensor; 2], Vec<usize>)>,
    bar: Option<Bar>,
}

impl<'a> Pairwise<'a> {
    fn new(
        how: &'a Comparison,
        network: &'a QuadrupletNet,
        query: &'a [Photo],
        gallery: &'a [Photo],
    ) -> Result<Pairwise<'a>> {
        let (rows, columns, world) = (query.len(), gallery.len(), &how.images.world);
        let plain = Pairwise { how, network, query, gallery, held: 0, sizes: (1, 1), embedded: None, bar: None };
        if !network.takes_pairs() {
            let x = how.images.photos(network, query, "embed queries")?;
            let y = how.images.photos(network, gallery, "embed gallery")?;
            let index: Vec<usize> = (0..columns).collect();
            let streamed = Streamed::new(&x, &y, &index, Metric::SquaredEuclidean);
            let sizes = (streamed.block(), streamed.height());
            return Ok(Pairwise { sizes, embedded: Some(([x, y], index)), ..plain });
        }
        if world.size() > 1 {
            let names: Vec<&str> = query.iter().chain(gallery).map(|photo| &*photo.name).collect();
            let asked = "the photos to compare, or how: give every process the same data and flags";
            world.agree(asked, &(names, rows, format!("{:?}", how.order), how.images.amp))?;
        }
        let held = how.photos_held(network);
        let most = tall(columns).min(held);
        // So few that several dozen processes have some.
        let block = rows.div_ceil(64).clamp(1, most);
        let own = Dealt::new(rows, block, world).own().len();
        let bar = Some(Bar::new("compare", (own * columns) as u64, 0));
        Ok(Pairwise { held, sizes: (block, most), bar, ..plain })
    }
}

impl ByRows for Pairwise<'_> {
    fn sizes(&self) -> (usize, usize) {
        self.sizes
    }

    /// Batches begin anew with a block and a part of the gallery: a number comes of the same arithmetic whoever computes it.
    fn rows(&mut self, blocks: &[Range<usize>]) -> Result<Tensor> {
        let Pairwise { how, network, query, gallery, held, .. } = *self;
        let (from, rows): (_, usize) =
            (blocks.first().map_or(0, |first| first.start), blocks.iter().map(ExactSizeIterator::len).sum());
        if let Some(([x, y], index)) = &self.embedded {
            return Ok(Streamed::new(x, y, index, Metric::SquaredEuclidean).rows(from, rows));
        }
        let (batch, device) = (how.images.batch.max(1), how.images.device);
        let out = Tensor::zeros([rows as i64, gallery.len() as i64], (Kind::Float, Device::Cpu));
        let left = blocks.iter().map(|block| how.maps(network, &query[block.clone()])).collect::<Result<Vec<_>>>()?;
        for (start, gallery) in gallery.chunks(held).enumerate() {
            let right = how.maps(network, gallery)?;
            let (mut scores, g) = (Fetch::default(), right.size()[0]);
            for left in &left {
                let all = left.size()[0] * g;
                for first in (0..all).step_by(batch) {
                    let count = (batch as i64).min(all - first);
                    let place = Tensor::arange_start(first, first + count, (Kind::Int64, device));
                    let (row, column) = (place.divide_scalar_mode(g, "floor"), place.remainder(g));
                    let (a, b) = (left.index_select(0, &row), right.index_select(0, &column));
                    scores.push(&how.ranked(network, &a, &b));
                    self.bar.iter_mut().for_each(|bar| bar.step(count as u64));
                }
            }
            if let Some(scores) = scores.all()? {
                out.narrow(1, (start * held) as i64, g).copy_(&scores.view([rows as i64, g]));
            }
        }
        Ok(out)
    }
}

/// How photos become the input of a network of this backbone, as its ImageNet weights expect them; `size` is height and width.
pub fn recipe(backbone: Backbone, size: (u32, u32)) -> Recipe {
    let recipe = Recipe::imagenet(size.0, size.1);
    if backbone.is_caffe() { recipe.less([0.; 3]) } else { recipe }
}

/// conv2 maps of images, and of their mirror images where they are compared too, `[N, views, C, H, W]`.
fn viewed(network: &QuadrupletNet, images: &Tensor, order: Order) -> Tensor {
    let maps = |images: &Tensor| network.maps(images, false);
    let mirrored = (order == Order::Eight).then(|| maps(&images.flip([3])));
    Tensor::stack(&[Some(maps(images)), mirrored].into_iter().flatten().collect::<Vec<_>>(), 1)
}

/// What pairs of maps `[N, views, C, H, W]` are ranked by, `[N]`. Numbers are averaged and not outputs: a g without bound may
/// have one sign in one order and the other in the other.
fn ranked(network: &QuadrupletNet, a: &Tensor, b: &Tensor, by: Dissimilarity, order: Order) -> Tensor {
    let pass = |a: &Tensor, b: &Tensor| by.ranked(&network.pair(a, b, false).to_kind(Kind::Float));
    let (a, b) = (a.unbind(1), b.unbind(1));
    let both = |(a, b): (&Tensor, &Tensor)| [Some(pass(a, b)), (order != Order::One).then(|| pass(b, a))];
    let all: Vec<Tensor> = a.iter().flat_map(|a| b.iter().map(move |b| (a, b))).flat_map(both).flatten().collect();
    let count = all.len() as f64;
    all.into_iter()
        .reduce(|sum, pass| sum + pass)
        .map_or_else(|| Tensor::zeros([0], (Kind::Float, Device::Cpu)), |sum| sum / count)
}

/// What pairs of images `[N, 3, H, W]` are ranked by, `[N]`: the function that a network of pairs is exported as.
pub fn compared(network: &QuadrupletNet, a: &Tensor, b: &Tensor, by: Dissimilarity, order: Order) -> Tensor {
    ranked(network, &viewed(network, a, order), &viewed(network, b, order), by, order)
}

/// What a module that embeds an image or compares two takes and gives.
pub fn about(recipe: Recipe, by: Dissimilarity) -> About {
    let what = match by {
        Dissimilarity::Embedding => "model(images) is f, unit rows: rank by their squared distance",
        Dissimilarity::Unbounded => "model(a, b) is |g| for pairs of images: rank by it",
        Dissimilarity::Softmax => "model(a, b) is the logit of g of two images: rank by it; sigmoid(model(a, b)) is g",
    };
    let about = About::photos(recipe, TestViews::Original, what);
    if by == Dissimilarity::Embedding { about.unit() } else { About { inputs: 2, ..about } }
}
