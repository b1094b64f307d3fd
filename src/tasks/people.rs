//! Photos of people, from batches to scores, as every paper on re-identification meets them.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tch::Tensor;

use super::embed::{EMBEDDINGS, Embedding, HELD, at_once};
use super::reid::has_cameras;
use super::{Brought, Data, Rows};
use crate::collectives::Shares;
use crate::datasets::{self, Card, Fits, Look, Photo, Reader, ReidSet};
use crate::distance::Metric;
use crate::loader::Loader;
use crate::models::{Network, channels_last};
use crate::real::index;
use crate::run::{Run, photos::Reads};
use crate::sampler::{PkSampler, TripletSampler};
use crate::say::count;
use crate::transfer::{stage, upload};
use crate::transform::{Augment, Recipe, TestViews};

impl Data for ReidSet {
    fn name(&self) -> &str {
        &self.name
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn published_set(&self) -> std::result::Result<String, String> {
        let whole = self.is_published().then(|| datasets::tested(self));
        whole.unwrap_or_else(|| Err(format!("{} is not a data set of the paper, or not the whole of it", self.name)))
    }

    fn trainable(&self) -> Result<()> {
        ensure!(datasets::persons(&*self.train).len() >= 2, "{}", datasets::too_few(self));
        // What has nothing to find can be trained on for other tests: a note says so.
        has_cameras(self)
    }

    fn check(&self, training: bool, far: Look) -> Result<()> {
        // Test photos too: a long training must not end in what cannot be scored.
        let train = if training { &self.train[..] } else { &[] };
        let test = self.query.iter().chain(&self.gallery).chain(&self.multi_query);
        datasets::look(test.chain(train), far, |photo| photo.source.check())
    }

    fn trained(&self) -> Reads<'_> {
        super::files(self.train.iter())
    }

    fn tested(&self) -> Reads<'_> {
        super::files(self.query.iter().chain(&self.gallery).chain(&self.multi_query))
    }

    fn alike(&self) -> Value {
        super::people_of(self.train.iter())
    }

    fn cards(&self) -> Vec<Card> {
        vec![ReidSet::card(self)]
    }
}

/// A batch of photos.
#[derive(Debug)]
pub struct Batch {
    /// Which step of the training it is for.
    pub step: u64,
    /// This process's share of the images, `[b, 3, H, W]`, on the host.
    images: Tensor,
    /// Who has which rows.
    pub shares: Shares,
    /// The people of all rows, int64 `[B]`, on the host.
    pub labels: Tensor,
    /// Photos in whose places others are.
    pub left_out: Vec<usize>,
}

impl Batch {
    /// This process's images on the run's device, channels last.
    pub fn images(&self, run: &Run) -> Tensor {
        channels_last(&upload(&self.images, run.machine.device))
    }

    /// What a step is made from: images as they lie on the host, and labels.
    pub fn inputs(&self) -> [&Tensor; 2] {
        [&self.images, &self.labels]
    }
}

/// Which rows of the training photos make the batch of a step.
pub type Sampler = Box<dyn Fn(u64) -> Vec<usize> + Send + Sync>;

/// Batches of `p` people with `k` images each (1703.07737, Section 2), a person's images in one process.
///
/// # Errors
/// Where the set has fewer people to train on.
pub fn pk(set: &ReidSet, p: usize, k: usize, seed: u64) -> Result<(usize, Sampler)> {
    let (labels, name) = (set.people(), &set.name);
    let known = labels.iter().collect::<std::collections::BTreeSet<_>>().len();
    ensure!(
        known == 0 || known < labels.len(),
        "{name}: every training person has one photo, and a loss of pairs needs two of one person: give other --data"
    );
    let pk = PkSampler::new(&labels, p, k, seed);
    let pk = pk.with_context(|| {
        format!("{name} has {} to train on and a batch takes {p}: say --p {known} or fewer", count(known, "person"))
    })?;
    Ok((k, Box::new(move |t| pk.batch(t))))
}

/// Batches of separate triplets: anchors, positives, negatives, the last being those of `mined` (an image of the set for
/// each, int64 `[N]`) where there is such a list.
///
/// # Errors
/// Where the set has no triplet.
pub fn triplets(set: &ReidSet, triplets: usize, mined: Option<&Tensor>, seed: u64) -> Result<(usize, Sampler)> {
    let (sampler, name) = (TripletSampler::new(&set.people(), triplets, seed), &set.name);
    let sampler = sampler.with_context(|| {
        format!("{name} has no two images of one person to train on, or only one person: give other --data")
    })?;
    let mined = mined.map(Vec::<i64>::try_from).transpose()?;
    Ok((1, Box::new(move |t| sampler.with_negatives(t, mined.as_deref()))))
}

/// Prefetched batches of `photos`, each a function of the run's seed and its step: `sampler` says which rows, of which
/// `unit` stay in one process together.
///
/// # Errors
/// Where the system starts no threads.
pub fn batches(
    photos: &Arc<Vec<Photo>>,
    recipe: Recipe,
    augment: Augment,
    (unit, sampler): (usize, Sampler),
    steps: Range<u64>,
    run: &Run,
) -> Result<Loader<Batch>> {
    let photos = photos.clone();
    let reader = reader(&photos, recipe, run);
    let (seed, world, device, workers) = (run.seed, run.world().clone(), run.machine.device, run.machine.workers);
    Loader::new(steps, workers, workers + 1, move |step| {
        let drawn = sampler(step);
        // Separate triplets must stay triplets.
        let fits: [Fits<'_>; 2] = [&|_, row, other| photos[row].person == photos[other].person, &|_, _, _| unit > 1];
        let rows = match unit {
            1 => reader.tuples(drawn.clone(), |draw| sampler(step + (draw << 32)), 3, &fits)?,
            _ => reader.usable(drawn.clone(), &fits)?,
        };
        let shares = world.shares(rows.len(), unit)?;
        let own = shares.own().map(|i| (i, rows[i]));
        let images = stage(recipe.train_batch(own, |row| reader.image(row), augment, seed, step)?, device);
        let labels: Vec<i64> = rows.iter().map(|&row| photos[row].person).collect();
        Ok(Batch {
            step,
            images,
            shares,
            labels: stage(Tensor::from_slice(&labels), device),
            left_out: reader.left_out(&drawn),
        })
    })
}

/// Reads training photos, to be seen as `recipe` says; with `--skip-unreadable` some may be left out.
pub fn reader(photos: &Arc<Vec<Photo>>, recipe: Recipe, run: &Run) -> Reader {
    let own = photos.clone();
    let open = move |row: usize| own[row].source.image_for(recipe.enlarged());
    Reader::new(photos.len(), run.machine.skip_unreadable, open)
}

/// How the photos of a run are embedded.
pub fn embedding(recipe: Recipe, views: TestViews, run: &Run) -> Embedding {
    Embedding {
        recipe,
        views,
        device: run.machine.device,
        batch: at_once(recipe.height, recipe.width, run.machine.device),
        workers: run.machine.workers,
        amp: run.amp,
        world: run.world().clone(),
        skip_unreadable: run.machine.skip_unreadable,
        held: HELD,
    }
}

/// Embeds a user's photos.
pub fn embed_photos(network: &dyn Network, of: &Brought, embedding: &Embedding) -> Result<Rows> {
    let batch = embedding.photos_at_once();
    let rows = of.rows(embedding.skip_unreadable, &|photo| photo.source.image(), batch, &|photos, bar| {
        let x = embedding.own(network, &photos, bar)?;
        Ok(Rows { tensors: vec![(EMBEDDINGS.into(), x)], ..Rows::of(photos) })
    })?;
    Ok(Rows { what: format!("{} of width {}", count(rows.names.len(), "embedding"), network.width()), ..rows })
}

/// For every photo of `photos` the hardest negative among `pool` random ones under `network`, int64 `[N]`: offline hard
/// mining at `step` (1703.07737, Section 2).
///
/// # Errors
/// Where someone has no negative among them; the error names `--ohm-pool`.
pub fn mine_offline(
    network: &dyn Network,
    photos: &Arc<Vec<Photo>>,
    recipe: Recipe,
    metric: Metric,
    pool: usize,
    step: u64,
    run: &Run,
) -> Result<Tensor> {
    let same: Fits<'_> = &|_, row, other| photos[row].person == photos[other].person;
    // Someone without a usable photo is somebody else here, and nobody's negative.
    let chosen = reader(photos, recipe, run).usable((0..photos.len()).collect(), &[same, &|_, _, _| true])?;
    let shown: Vec<Photo> = chosen.iter().map(|&row| photos[row].clone()).collect();
    let x = embedding(recipe, TestViews::Original, run).photos(network, &shown, "mine offline")?;
    let people = Tensor::from_slice(&shown.iter().map(|photo| photo.person).collect::<Vec<_>>());
    let mut rng = crate::seed::at(run.seed("offline mining"), step, 0);
    let rows = rand::seq::index::sample(&mut rng, photos.len(), pool.min(photos.len()));
    let rows = index(rows);
    let mined = crate::mining::hardest_in_pool(&x, &people, metric, &rows);
    let chosen = index(chosen);
    mined
        .map(|mined| chosen.index_select(0, &mined))
        .ok_or_else(|| anyhow!("--ohm-pool {pool}: someone has no negative among so few random images: say more"))
}
