//! Photos compared two by two (1704.01719), and the pairs that are compared. What a network of pairs computes an image is
//! computed once, and memory does not grow with the number of pairs; a network of single images embeds.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::embed::Embedding;
use super::kept::{self, NOT_READ};
use super::reid::{self, Compared, Draws};
use super::{Brought, Evaluation, Rows, people};
use crate::collectives::{Shares, World};
use crate::datasets::{self, Fits, Photo, Reader, ReidSet};
use crate::deploy::About;
use crate::distance::Metric;
use crate::loader::Loader;
use crate::losses::quadruplet::Dissimilarity;
use crate::metrics::mean_and_spread;
use crate::models::{QuadrupletNet, channels_last, quadruplet::Form};
use crate::report::Report;
use crate::run::Run;
use crate::sampler::QuadrupletSampler;
use crate::say::Bar;
use crate::seed;
use crate::transfer::{Fetch, stage, upload};
use crate::transform::{Augment, Recipe, TestViews};

/// Bytes of conv2 maps that are kept at a time, of the queries and of the gallery each.
const HELD: usize = 256 << 20;

/// What queries and a gallery are ranked by `[Q, G]`, and how it reads.
pub type Ranked = (Tensor, Dissimilarity);

/// How to compare. Several processes compare a share of the queries or pairs each, and all have all numbers in the end.
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
    /// How a network of this form compares photos of `size` (height and width).
    pub fn new(form: Form, size: (u32, u32), by: Dissimilarity, order: Order, run: &Run) -> Comparison {
        let images = people::embedding(recipe(form, size), TestViews::Original, run);
        let batch = match (by, form) {
            (Dissimilarity::Embedding, _) => images.batch,
            (_, Form::Small) => 1024,
            _ => 256,
        };
        Comparison { images: Embedding { batch, ..images }, by, order }
    }

    /// Every query with every gallery photo: what they are ranked by ([`Dissimilarity::ranked`]), f32 `[Q, G]` on the CPU.
    /// Errors name the photo that cannot be read.
    pub fn matrix(&self, network: &QuadrupletNet, query: &[Photo], gallery: &[Photo]) -> Result<Tensor> {
        let world = &self.images.world;
        if !network.takes_pairs() {
            let query = self.images.photos(network, query, "embed queries")?;
            return Ok(Metric::SquaredEuclidean.matrix(&query, &self.images.photos(network, gallery, "embed gallery")?));
        }
        if world.size() > 1 {
            let names: Vec<&str> = query.iter().chain(gallery).map(|photo| &*photo.name).collect();
            let asked = "the photos to compare, or how: give every process the same data and flags";
            world.agree(asked, &(names, query.len(), format!("{:?}", self.order), self.images.amp))?;
        }
        // Fewer queries than processes: each compares them all.
        let Ok(shares) = world.shares(query.len(), 1) else { return self.own(network, query, gallery) };
        world.gather(&self.own(network, &query[shares.own()], gallery)?, &shares)
    }

    fn own(&self, network: &QuadrupletNet, query: &[Photo], gallery: &[Photo]) -> Result<Tensor> {
        let (batch, device) = (self.images.batch.max(1), self.images.device);
        let (rows, columns) = (query.len(), gallery.len());
        let out = Tensor::zeros([rows as i64, columns as i64], (Kind::Float, Device::Cpu));
        let mut bar = Bar::new("compare", (rows * columns) as u64, 0);
        let held = self.photos_held(network);
        for from in (0..rows).step_by(held) {
            let left = self.maps(network, &query[from..rows.min(from + held)])?;
            for start in (0..columns).step_by(held) {
                let right = self.maps(network, &gallery[start..columns.min(start + held)])?;
                let (q, g) = (left.size()[0], right.size()[0]);
                let mut scores = Fetch::default();
                for first in (0..q * g).step_by(batch) {
                    let count = (batch as i64).min(q * g - first);
                    let place = Tensor::arange_start(first, first + count, (Kind::Int64, device));
                    let (row, column) = (place.divide_scalar_mode(g, "floor"), place.remainder(g));
                    let (a, b) = (left.index_select(0, &row), right.index_select(0, &column));
                    scores.push(&self.ranked(network, &a, &b));
                    bar.step(count as u64);
                }
                if let Some(scores) = scores.all() {
                    out.narrow(0, from as i64, q).narrow(1, start as i64, g).copy_(&scores.view([q, g]));
                }
            }
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
        let shares = world.shares(pairs.len(), 1).ok();
        let pairs = shares.as_ref().map_or(pairs, |shares| &pairs[shares.own()]);
        let mut bar = Bar::new("compare pairs", pairs.len() as u64, 0);
        let mut scores = Fetch::default();
        for pairs in pairs.chunks(self.images.batch.max(1)) {
            let both = pairs.iter().map(|pair| pair.0).chain(pairs.iter().map(|pair| pair.1));
            let both: Vec<Photo> = both.map(|place| photos[place].clone()).collect();
            let maps = self.maps(network, &both)?;
            let count = pairs.len() as i64;
            scores.push(&self.ranked(network, &maps.narrow(0, 0, count), &maps.narrow(0, count, count)));
            bar.step(pairs.len() as u64);
        }
        let own = scores.all().unwrap_or_else(|| Tensor::zeros([0], (Kind::Float, Device::Cpu)));
        match shares {
            Some(shares) => world.gather(&own, &shares),
            None => Ok(own),
        }
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
        let compared = Compared::of(&test, self.matrix(network, &test.query, &test.gallery)?, draws, run.seed);
        let training = self.distances(network, &set.train, &people::reader(&set.train, run), count, across)?;
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

/// How photos become the input of a network of this form, as its ImageNet weights expect them; `size` is height and width.
pub fn recipe(form: Form, size: (u32, u32)) -> Recipe {
    let recipe = Recipe::imagenet(size.0, size.1);
    if form.is_caffe() { recipe.less([0.; 3]) } else { recipe }
}

/// The sampler of a set's training photos: `quadruplets` a batch, every pair seen by two cameras unless `any_camera`, drawn
/// from `seed` or, where they are `listed`, from a list ([`QuadrupletSampler::listed`]).
///
/// # Errors
/// Where they give no quadruplet.
pub fn sampler(
    set: &ReidSet,
    quadruplets: usize,
    any_camera: bool,
    listed: bool,
    seed: u64,
) -> Result<QuadrupletSampler> {
    let (people, cameras) = reid::people_and_cameras(&set.train);
    let sampler = QuadrupletSampler::new(&people, &cameras, quadruplets, !any_camera, seed);
    sampler.map(|sampler| if listed { sampler.listed() } else { sampler }).with_context(|| {
        let count = people.iter().collect::<std::collections::BTreeSet<_>>().len();
        let cure = if any_camera { "" } else { ", or say --any-camera" };
        format!(
            "{} has {count} people to train on; quadruplets need three, one of them seen by two cameras: give other --data{cure}",
            set.name
        )
    })
}

/// A forward pass, in `--amp`'s precision, of this process's share of each of so many `parts` of a batch of `quadruplets`; what
/// drops out is drawn for the whole batch (see [`crate::models::dropping`]).
pub fn dropping(
    run: &Run,
    step: u64,
    parts: i64,
    quadruplets: usize,
    shares: &Shares,
    work: &dyn Fn() -> Tensor,
) -> Tensor {
    let (own, all) = (shares.own(), quadruplets as i64);
    let rows: Vec<_> = (0..parts).map(|part| part * all + own.start as i64..part * all + own.end as i64).collect();
    let seed = crate::seed::mix(run.seed("dropout") ^ step);
    crate::models::dropping(seed, parts * all, &rows, || run.autocast(work))
}

/// Prefetched batches `steps` of `photos` with their steps and the photos in whose places others are: the first `images` images of every quadruplet, this process's share
/// `[images · own, 3, H, W]` on the host, all references before all positives; each mirrored with probability one half.
///
/// # Errors
/// Where the system starts no threads, or there are more processes than quadruplets.
pub fn batches(
    photos: &Arc<Vec<Photo>>,
    recipe: Recipe,
    sampler: QuadrupletSampler,
    images: usize,
    steps: Range<u64>,
    run: &Run,
) -> Result<Loader<(u64, Tensor, Vec<usize>)>> {
    let (photos, seed) = (photos.clone(), run.seed);
    let reader = people::reader(&photos, run);
    let (device, workers) = (run.machine.device, run.machine.workers);
    let (m, own) = (sampler.quadruplets(), run.world().shares(sampler.quadruplets(), 1)?.own());
    Loader::new(steps, workers, workers + 1, move |step| {
        let draw = |draw: u64| sampler.batch(step + (draw << 32))[..images * m].to_vec();
        let drawn = draw(0);
        let rows = usable(&reader, &photos, drawn.clone(), draw, images)?;
        let places = (0..images).flat_map(|part| own.clone().map(move |row| part * m + row));
        let places = places.map(|place| (place, rows[place]));
        let pixels = recipe.train_batch(places, |row| reader.image(row), Augment::Flip, seed, step)?;
        Ok((step, stage(pixels, device), reader.left_out(&drawn)))
    })
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

/// `count` pairs of one person and then as many of two, as places in `photos`, drawn as a batch of quadruplets is:
/// (reference, positive), then (reference, negative); with `across`, each of two cameras. One seed for every model and
/// run, so that they are measured on the same pairs. None where the photos give no quadruplet.
pub fn drawn(photos: &[Photo], count: usize, across: bool) -> Option<Vec<(usize, usize)>> {
    triples(photos, count, across).map(|draw| ends(&draw(0)))
}

/// Draws `count` references, their positives, their negatives.
fn triples(photos: &[Photo], count: usize, across: bool) -> Option<impl Fn(u64) -> Vec<usize>> {
    let (people, cameras) = reid::people_and_cameras(photos);
    let sampler = QuadrupletSampler::new(&people, &cameras, count, across, 5)?;
    Some(move |draw| sampler.batch(draw)[..3 * count].to_vec())
}

fn ends(rows: &[usize]) -> Vec<(usize, usize)> {
    let (references, others) = rows.split_at(rows.len() / 3);
    references.iter().cycle().copied().zip(others.iter().copied()).collect()
}

/// Rows of quadruplets, `parts` of each, without photos that cannot be used: another of the person, of the same camera if
/// there is one, or another quadruplet.
fn usable(
    reader: &Reader,
    photos: &[Photo],
    rows: Vec<usize>,
    more: impl Fn(u64) -> Vec<usize>,
    parts: usize,
) -> Result<Vec<usize>> {
    let same: Fits<'_> = &|_, row, other| photos[row].person == photos[other].person;
    let by_same: Fits<'_> = &|i, row, other| same(i, row, other) && photos[row].camera == photos[other].camera;
    reader.tuples(rows, more, parts, &[by_same, same])
}

/// Distances of pairs of photos: what Figure 5 averages over the training set.
#[derive(Debug, Clone)]
pub struct Distances {
    /// Of one person.
    pub same: Vec<f64>,
    /// Of two people.
    pub different: Vec<f64>,
    /// Whether two cameras saw every pair.
    pub across: bool,
}

impl Distances {
    /// The names of Figure 5's two means among the scores.
    pub const MEANS: [&str; 2] =
        ["training pairs, same person: mean distance", "training pairs, different people: mean distance"];

    /// The names of the spreads beside them.
    pub const SPREADS: [&str; 2] =
        ["training pairs, same person: standard deviation", "training pairs, different people: standard deviation"];

    /// Names and numbers: mean and population standard deviation of both kinds.
    pub fn scores(&self) -> Vec<(String, f64)> {
        let of = |kind: usize| {
            let (mean, spread) = mean_and_spread([&self.same, &self.different][kind]);
            [(Self::MEANS[kind].to_string(), mean), (Self::SPREADS[kind].to_string(), spread)]
        };
        [0, 1].into_iter().flat_map(of).collect()
    }

    /// Histograms, means and spreads in their legend.
    pub fn show(&self, report: &mut Report) {
        let group = |(name, values): (&str, &Vec<f64>)| {
            let (mean, spread) = mean_and_spread(values);
            (format!("{name}: {mean:.4} ± {spread:.4}"), values.clone())
        };
        let groups: Vec<_> = [("same person", &self.same), ("different people", &self.different)].map(group).into();
        let note = "Means and standard deviations as Figure 5 gives them.";
        report.histogram("Distances of training pairs", note, "distance", &groups, 40);
    }
}

/// The pairs (reference, positive), (reference, negative) and, of three `kinds`, (last, negative) of a batch, kind after
/// kind, each in a random order: int64 rows `[kinds · own]` of their left and of their right images, among the images of
/// this process, which holds the quadruplets `own` of `quadruplets` (all references, then all positives, ...). An order
/// depends on run `seed`, step and quadruplet, not on how many processes there are.
pub fn random_orders(kinds: usize, quadruplets: usize, own: Range<usize>, seed: u64, step: u64) -> (Tensor, Tensor) {
    let m = own.len() as i64;
    let mut rng = seed::at(seed::named(seed, "order"), step, 0);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for (a, b) in [(0, 1), (0, 2), (3, 2)].into_iter().take(kinds) {
        for row in 0..quadruplets {
            let (a, b) = if rng.random() { (a, b) } else { (b, a) };
            if own.contains(&row) {
                let row = (row - own.start) as i64;
                left.push(a * m + row);
                right.push(b * m + row);
            }
        }
    }
    (Tensor::from_slice(&left), Tensor::from_slice(&right))
}

/// The rows of all processes, `[parts · M, ...]`, from this one's `[parts · own, ...]`: of each part those of its share of
/// the M quadruplets.
///
/// # Errors
/// Where another process is gone.
pub fn gather_parts(world: &World, own: &Tensor, parts: i64, shares: &Shares) -> Result<Tensor> {
    if world.is_alone() {
        return Ok(own.shallow_clone());
    }
    let by_quadruplet = own.unflatten(0, [parts, -1]).transpose(0, 1).contiguous();
    Ok(world.gather(&by_quadruplet, shares)?.transpose(0, 1).flatten(0, 1))
}

/// What a log line says of a batch's pairs, `g` `[M]` of each kind, one person's first: the mean of g and of g² of one
/// person's pairs and of two people's; of a softmax also the share of pairs with g(1 - g) below 0.001, to which it passes
/// nothing on (Section 3.2). Waits for the device.
pub fn batch_line(g: &[Tensor], by: Dissimilarity) -> Value {
    let all = Tensor::cat(&g.iter().map(|g| g.detach().to_kind(Kind::Double)).collect::<Vec<_>>(), 0);
    let (same, square) = (g[0].size()[0], all.square());
    let mean = |x: Tensor| x.mean(Kind::Double).double_value(&[]);
    let both = |x: &Tensor| json!({"same": mean(x.narrow(0, 0, same)), "different": mean(x.narrow(0, same, x.size()[0] - same))});
    let mut line = json!({"distance": both(&all), "square": both(&square)});
    if by == Dissimilarity::Softmax {
        line["saturated"] = json!(mean((&all - square).lt(1e-3).to_kind(Kind::Double)));
    }
    line
}
