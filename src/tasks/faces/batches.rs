//! A face set as the verbs meet it, and its batches in chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tch::Tensor;

use super::Scoring;
use crate::datasets::Card;
use crate::datasets::faces::{self, FaceLayout, FaceSet};
use crate::datasets::{self, Fits, Look, Photo, Reader, drawn};
use crate::distance::normalize;
use crate::loader::Loader;
use crate::models::Network;
use crate::run::{
    Run,
    photos::{Read, Reads},
};
use crate::sampler::FaceSampler;
use crate::say::{count, note};
use crate::source::View;
use crate::tasks::embed::{EMBEDDINGS, Embedding};
use crate::tasks::{Brought, Data, Rows, files, people, people_of};
use crate::transfer::stage;
use crate::transform::{Augment, Recipe};

/// Opens a set by name: `drawn`, or a folder.
pub fn open(data: &str) -> Result<FaceSet> {
    if data == "drawn" { Ok(drawn::faces()) } else { faces::open(Path::new(data)) }
}

impl Data for FaceSet {
    fn name(&self) -> &str {
        &self.name
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn published_set(&self) -> std::result::Result<String, String> {
        match self.is_published() {
            true => Ok(self.layout.to_string()),
            false => Err(format!("{} is not a test set of the paper, or not the whole of it", self.name)),
        }
    }

    fn trainable(&self) -> Result<()> {
        let some = !self.train.is_empty() || self.layout != FaceLayout::Tree;
        ensure!(some, "{}", self.untrainable());
        Ok(())
    }

    fn check(&self, training: bool, far: Look) -> Result<()> {
        let train = if training { &self.train[..] } else { &[] };
        datasets::look(self.test.iter().chain(train), far, faces::usable)
    }

    fn trained(&self) -> Reads<'_> {
        // Where what is tested trains, its list of pairs says who in which fold.
        let pairs = (self.train.is_empty() && !self.trains().is_empty()).then(|| self.list());
        Box::new(files(self.trains()).chain(pairs))
    }

    fn tested(&self) -> Reads<'_> {
        let pairs = self.list();
        let mut photos = files(&self.test).peekable();
        let pairs = photos.peek().is_some().then_some(pairs);
        Box::new(photos.chain(pairs))
    }

    fn alike(&self) -> Value {
        people_of(self.trains())
    }

    fn cards(&self) -> Vec<Card> {
        vec![self.card()]
    }
}

impl FaceSet {
    /// The pairs by the names of their photos (of videos by their numbers), as something of a list.
    fn list(&self) -> Read {
        let name = |row: usize| self.test.get(row).filter(|_| self.pairs_images()).map(|photo| Arc::clone(&photo.name));
        let pairs: Vec<_> = self
            .pairs
            .iter()
            .map(|pair| {
                let [left, right] =
                    [pair.left, pair.right].map(|row| name(row).unwrap_or_else(|| row.to_string().into()));
                (left, right, pair.same)
            })
            .collect();
        Read::hashed("pairs", format!("{pairs:?}").as_bytes())
    }

    /// Where nothing is for training, some of the test photos are (no outside data); of a plain tree all may be tested.
    fn trains(&self) -> &[Photo] {
        if self.train.is_empty() && self.layout != FaceLayout::Tree { &self.test } else { &self.train }
    }
}

/// Batches of `people` people of a set's training photos, up to `faces` of each, and `negatives` further ones (1503.03832,
/// Section 3.2).
///
/// # Errors
/// Where too few people have two photos; the error names `--people`.
pub fn sampler(set: &FaceSet, people: usize, faces: usize, negatives: usize, seed: u64) -> Result<FaceSampler> {
    let labels: Vec<i64> = set.train.iter().map(|photo| photo.person).collect();
    FaceSampler::new(&labels, people, faces, negatives, seed).with_context(|| {
        let mut each = BTreeMap::new();
        labels.iter().for_each(|label| *each.entry(label).or_insert(0) += 1);
        let enough = each.values().filter(|&&count| count > 1).count();
        format!(
            "{} has {enough} people with two or more training images and a batch takes {people}: say --people {enough} or fewer",
            set.name
        )
    })
}

/// Unit rows of `photos` `[N, D]`, each the mean with its mirror image's where `how` says so.
///
/// # Errors
/// Where an image cannot be read, or another process is gone.
pub fn embed(net: &dyn Network, photos: &[Photo], recipe: Recipe, how: &Scoring, run: &Run) -> Result<Tensor> {
    // What follows wants all of them in memory.
    let embedding = Embedding { held: usize::MAX, ..people::embedding(recipe, how.views(), run) };
    Ok(normalize(&embedding.photos(net, photos, "embed")?))
}

/// Embeds a user's photos, each through `view`, or the faces that are detected, as [`embed`]. That they are cut is said and
/// stands in the metadata; photos without a face have no row.
///
/// # Errors
/// Where one cannot be read or is no face crop, or none has a face.
pub fn embed_photos(
    net: &dyn Network,
    of: &Brought,
    view: View,
    recipe: Recipe,
    how: &Scoring,
    run: &Run,
) -> Result<Rows> {
    let variant = how.variant();
    ensure!(
        !variant.centres(),
        "--variant {}: the mean of which set? embed takes plain or flip-averaged",
        variant.name()
    );
    let image = |photo: &Photo| if how.detect.is_some() { photo.source.image() } else { faces::image(photo) };
    let embedding = people::embedding(recipe, how.views(), run);
    let mut rows = of.rows(run.machine.skip_unreadable, &image, embedding.photos_at_once(), &|photos, bar| {
        let (mut seen, count) = (0, photos.len());
        let mut test = FaceSet { test: photos, ..FaceSet::default() }.through(view).test;
        let within = bar.within();
        let mut each = || {
            seen += 1;
            bar.message(format!("faces looked for in {seen} of the next {count}"));
        };
        let empty = how.detected(&mut test, Some(&run.machine), within, &mut each)?.unwrap_or_default();
        bar.message(String::new());
        bar.step(empty.len() as u64);
        let gone: BTreeSet<usize> = empty.into_iter().collect();
        let places: Vec<usize> = (0..test.len()).filter(|place| !gone.contains(place)).collect();
        let test: Vec<Photo> = places.iter().map(|&place| test[place].clone()).collect();
        faces::check(&test)?;
        let x = normalize(&embedding.own(net, &test, bar)?);
        Ok(Rows { tensors: vec![(EMBEDDINGS.into(), x)], places, ..Rows::of(test) })
    })?;
    if view.crop < 1. && how.detect.is_none() {
        note(format!(
            "--crop {} (the run's where it is not typed): each photo's centre square of that share",
            view.crop
        ));
        rows.metadata.push(("crop".into(), view.crop.to_string()));
    } else if view.crop < 1. {
        note("--crop has no effect here: --detect cuts out the faces");
    }
    Ok(Rows { what: format!("{} of width {}", count(rows.names.len(), "embedding"), net.width()), ..rows })
}

/// The bytes that a training step keeps of a face of `size` pixels a side, at most: of the published networks 1,210 a pixel in
/// f32 (NN2 with batch normalisation; 680 to 1,010 the others), all channels divided by `shrink`.
pub fn bytes(size: u32, shrink: i64) -> u64 {
    1210 * u64::from(size).pow(2) / shrink as u64
}

/// Faces that a CPU computes at once.
pub const CHUNK: usize = 90;

/// Faces that are computed at once where no flag says it: what fits the memory of a GPU, else [`CHUNK`].
pub fn chunk(size: u32, shrink: i64, run: &Run) -> Option<usize> {
    // No more than the flag takes.
    Some(run.machine.rows(bytes(size, shrink)).map_or(CHUNK, |rows| rows.min(65_536)))
}

/// Parts that the largest share of a batch, `most` rows, is cut into, each of at most `size` rows.
pub fn parts(most: usize, size: usize) -> usize {
    most.div_ceil(size)
}

/// Part number `part` of `rows` cut evenly into parts of at most `size`, with the place of its first row; None where
/// there are fewer parts. Evenly, because batch normalisation has no variance of one row.
pub fn part(rows: &[usize], size: usize, part: usize) -> Option<(usize, &[usize])> {
    let parts = parts(rows.len(), size);
    let start = |part: usize| part * (rows.len() / parts) + part.min(rows.len() % parts);
    (part < parts).then(|| (start(part), &rows[start(part)..start(part + 1)]))
}

/// The batches of a training, as far as files can be used.
pub struct FaceBatches {
    sampler: FaceSampler,
    photos: Arc<Vec<Photo>>,
    reader: Reader,
}

impl FaceBatches {
    /// Those that `sampler` draws from `photos`.
    pub fn new(photos: Arc<Vec<Photo>>, sampler: FaceSampler, run: &Run) -> Arc<FaceBatches> {
        let own = photos.clone();
        let open = move |row: usize| faces::image(&own[row]);
        Arc::new(FaceBatches { reader: Reader::new(photos.len(), run.machine.skip_unreadable, open), sampler, photos })
    }

    /// The photos of batch `step`, int64 `[B]` identities for the loss, and photos in whose places others are. As
    /// [`FaceSampler::identities`], but for someone none of whose photos can be used: others are there, as who they are.
    ///
    /// # Errors
    /// Where nothing can be used, or the machine cannot read.
    pub fn of(&self, step: u64) -> Result<(Vec<usize>, Vec<i64>, Vec<usize>)> {
        let FaceBatches { sampler, photos, reader } = self;
        let (mut rows, mut who) = sampler.draw(step);
        let known: BTreeSet<i64> = who.iter().copied().collect();
        let same: Fits<'_> = &|_, row, other| photos[row].person == photos[other].person;
        // Further negatives may be of anybody else whom the batch does not have.
        let beyond: Fits<'_> = &|place, _, other| who[place] < 0 && !known.contains(&photos[other].person);
        let found = reader.stand_ins(&rows, &[same, beyond])?;
        let left_out = reader.left_out(&rows);
        for (place, found) in found.into_iter().enumerate() {
            rows[place] = match found {
                Some(row) => row,
                None => {
                    let other = reader.usable(vec![rows[place]], &[&|_, _, _| true])?[0];
                    who[place] = photos[other].person;
                    other
                }
            };
        }
        Ok((rows, who, left_out))
    }
}

/// Prefetched parts of the batches `steps`, at most `size` of a share's faces each, as [`crate::run::cached::backward`]
/// takes them: all parts of a batch, and, where there is more than one, all again. f32 `[b, 3, H, W]` on the host; None
/// where a share has fewer parts than the largest one.
///
/// # Errors
/// Where the system starts no threads; an unreadable image is an error in its part's place.
pub fn chunks(
    batches: &Arc<FaceBatches>,
    recipe: Recipe,
    augment: Augment,
    size: usize,
    steps: Range<u64>,
    run: &Run,
) -> Result<Loader<Option<Tensor>>> {
    let (world, workers, device, seed) = (run.world().clone(), run.machine.workers, run.machine.device, run.seed);
    let batches = batches.clone();
    let count = parts(batches.sampler.most().div_ceil(world.size()), size) as u64;
    let each = if count > 1 { 2 * count } else { 1 };
    Loader::new(steps.start * each..steps.end * each, workers, workers + 1, move |place| {
        let (step, chunk) = (place / each, (place % each % count) as usize);
        let (rows, ..) = batches.of(step)?;
        let own = world.shares(rows.len(), 1)?.own();
        let Some((first, mine)) = part(&rows[own.clone()], size, chunk) else { return Ok(None) };
        let first = own.start + first;
        let items = mine.iter().enumerate().map(|(i, &row)| (first + i, row));
        Ok(Some(stage(recipe.train_batch(items, |row| batches.reader.image(row), augment, seed, step)?, device)))
    })
}
