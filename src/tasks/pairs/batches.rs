//! Batches of quadruplets, and what a log says of them.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};
use rand::Rng;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::super::{people, reid};
use crate::collectives::{Shares, World};
use crate::datasets::{Fits, Photo, Reader, ReidSet};
use crate::loader::Loader;
use crate::losses::quadruplet::Dissimilarity;
use crate::run::Run;
use crate::sampler::QuadrupletSampler;
use crate::seed;
use crate::transfer::stage;
use crate::transform::{Augment, Recipe};

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
    let reader = people::reader(&photos, recipe, run);
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

/// Rows of quadruplets, `parts` of each, without photos that cannot be used: another of the person, of the same camera if
/// there is one, or another quadruplet.
pub(super) fn usable(
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
