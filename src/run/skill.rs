//! Skill determination's batches of pairs, scores of whole videos, and what is read from them.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rand::seq::SliceRandom;
use tch::{Device, Kind, Tensor};

use super::machine::Machine;
use super::progress::Bar;
use crate::datasets::skills::Pair;
use crate::loader::Loader;
use crate::models::Network;
use crate::seed;
use crate::transfer::upload;
use crate::video::Clip;
use crate::video::snippet::{Crops, Draw, Stream, random_starts, split, uniform_starts};

/// Features of one video, a row a snippet.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Numbers in a row.
    pub width: usize,
    /// Row after row.
    pub values: Vec<f32>,
}

/// What the snippets of a stream are made of.
#[derive(Debug, Clone)]
pub enum Material {
    /// Windows of frames or flow.
    Clips {
        /// The videos.
        clips: Arc<[Clip]>,
        /// How frames become inputs.
        crops: Crops,
        /// Whether training windows are random.
        augment: bool,
        /// Frames or flow.
        stream: Stream,
    },
    /// Ready-made rows; a snippet is one row.
    Features(Arc<[Rows]>),
}

impl Material {
    /// How many frames, or rows, video `video` has.
    pub fn frames(&self, video: usize) -> usize {
        match self {
            Material::Clips { clips, .. } => clips[video].frames(),
            Material::Features(rows) => rows[video].values.len() / rows[video].width.max(1),
        }
    }

    /// Frames of a snippet.
    fn span(&self) -> usize {
        match self {
            Material::Clips { stream, .. } => stream.span(),
            Material::Features(_) => 1,
        }
    }

    /// How many videos there are.
    pub fn videos(&self) -> usize {
        match self {
            Material::Clips { clips, .. } => clips.len(),
            Material::Features(rows) => rows.len(),
        }
    }

    /// Training windows of `count` clips; none where they are central.
    fn windows(&self, count: usize, rng: &mut rand_chacha::ChaCha8Rng) -> Vec<Draw> {
        match self {
            Material::Clips { crops, augment: true, .. } => (0..count).map(|_| crops.draw(rng)).collect(),
            _ => Vec::new(),
        }
    }

    /// Snippets of `asked` videos at their starts, all of a video through one window: `[n, C, side, side]` bytes, or
    /// `[n, width]` features. Windows are those of `windows`, one a video, or central where there are none.
    fn snippets(&self, asked: &[(usize, Vec<usize>)], windows: &[Draw]) -> Result<Tensor> {
        let count: usize = asked.iter().map(|(_, starts)| starts.len()).sum();
        match self {
            Material::Clips { clips, crops, stream, .. } => {
                let size = crops.len(*stream);
                let mut bytes = vec![0_u8; count * size];
                let mut slots = bytes.chunks_exact_mut(size);
                for (i, (video, starts)) in asked.iter().enumerate() {
                    let clip = &clips[*video];
                    // One frame's size is every frame's.
                    let first = match stream {
                        Stream::Spatial => clip.frame(starts[0])?,
                        Stream::Temporal => clip.flow(starts[0])?,
                    };
                    let window = match windows.get(i) {
                        Some(&draw) => crops.window(draw, first.height(), first.width()),
                        None => crops.centre(first.height(), first.width()),
                    };
                    for (&start, slot) in starts.iter().zip(&mut slots) {
                        crops.write(clip, *stream, start, |_, _| window, slot)?;
                    }
                }
                let side = i64::from(crops.side);
                Ok(Tensor::from_slice(&bytes).view([count as i64, stream.channels(), side, side]))
            }
            Material::Features(rows) => {
                let width = rows.first().map_or(1, |rows| rows.width);
                let mut values = Vec::with_capacity(count * width);
                for (video, starts) in asked {
                    for &start in starts {
                        values.extend_from_slice(&rows[*video].values[start * width..(start + 1) * width]);
                    }
                }
                Ok(Tensor::from_slice(&values).view([count as i64, width as i64]))
            }
        }
    }
}

/// One element of a batch: a pair, a split of it, whether it is similar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The better, or just the first, video and the other.
    pub pair: Pair,
    /// Which split of how many; one split is the whole video.
    pub split: (usize, usize),
    /// Of Φ.
    pub similar: bool,
}

/// Every (pair, split) of `strict` and `similar` with `splits` uniform splits.
pub fn samples(strict: &[Pair], similar: &[Pair], splits: usize) -> Vec<Sample> {
    let of = |pairs: &[Pair], similar: bool| {
        let all = pairs.iter().flat_map(|&pair| (0..splits).map(move |k| (pair, k)));
        all.map(|(pair, k)| Sample { pair, split: (k, splits), similar }).collect::<Vec<_>>()
    };
    [of(strict, false), of(similar, true)].concat()
}

/// A batch on the host; of several processes, each has the snippets of its share of the pairs.
#[derive(Debug)]
pub struct PairBatch {
    /// Its step.
    pub step: u64,
    /// Snippets of the first videos, sample after sample, `[share * segments, ...]`.
    pub first: Tensor,
    /// Snippets of the second videos.
    pub second: Tensor,
    /// bool `[B]`, of all pairs.
    pub similar: Tensor,
}

/// Batch `step` of shuffled passes over `samples`: the places of its `batch` elements.
pub fn places(samples: usize, batch: usize, seed: u64, step: u64) -> Vec<usize> {
    let mut places = Vec::with_capacity(batch);
    let mut at = step * batch as u64;
    while places.len() < batch && samples > 0 {
        let (pass, from) = (at / samples as u64, (at % samples as u64) as usize);
        let mut order: Vec<usize> = (0..samples).collect();
        order.shuffle(&mut seed::at(seed, pass, 0));
        let take = (batch - places.len()).min(samples - from);
        places.extend_from_slice(&order[from..from + take]);
        at += take as u64;
    }
    places
}

/// How batches are made.
#[derive(Debug, Clone, Copy)]
pub struct Batches {
    /// Elements of a batch.
    pub batch: usize,
    /// Segments of a clip, a random snippet each.
    pub segments: usize,
    /// Everything random follows from this and the step.
    pub seed: u64,
    /// Loader threads.
    pub workers: usize,
}

impl Batches {
    /// Prefetched batches `steps`, of each the elements `own`. What is drawn for an element doesn't depend on whose it is.
    ///
    /// # Errors
    /// Where threads cannot be started; an unreadable frame is an error in its batch's place.
    pub fn load(
        self,
        material: &Material,
        samples: Arc<[Sample]>,
        steps: Range<u64>,
        own: Range<usize>,
    ) -> Result<Loader<PairBatch>> {
        let material = material.clone();
        // A batch of flow has hundreds of megabytes: two ahead and no more.
        Loader::new(steps, self.workers, 3.min(self.workers + 1), move |step| {
            let order = places(samples.len(), self.batch, seed::named(self.seed, "samples"), step);
            let mut sides = [Vec::new(), Vec::new()];
            let rng = &mut seed::at(seed::named(self.seed, "snippets"), step, 0);
            for &place in &order {
                let Sample { pair, split: (k, n), .. } = samples[place];
                for (side, video) in sides.iter_mut().zip([pair.0, pair.1]) {
                    let within = split(material.frames(video), n, k);
                    side.push((video, random_starts(within, self.segments, material.span(), rng)));
                }
            }
            let rng = &mut seed::at(seed::named(self.seed, "windows"), step, 0);
            let [first, second] = sides.map(|side| {
                let windows = material.windows(side.len(), rng);
                let windows = if windows.is_empty() { &[][..] } else { &windows[own.clone()] };
                material.snippets(&side[own.clone()], windows)
            });
            let (first, second) = (first?, second?);
            let similar: Vec<bool> = order.iter().map(|&place| samples[place].similar).collect();
            Ok(PairBatch { step, first, second, similar: Tensor::from_slice(&similar) })
        })
    }
}

/// Clip scores: the mean of the snippets' scores (segmental consensus). `raw` `[B * segments, ...]` to `[B]`.
pub fn consensus(net: &dyn Network, raw: &Tensor, segments: i64, train: bool) -> Tensor {
    let scores = net.forward(&raw.to_kind(Kind::Float), train).to_kind(Kind::Float);
    scores.view([-1, segments]).mean_dim(1, false, None::<Kind>)
}

/// Scores of `sigma` snippets spread uniformly over each of `videos`, centre crops: a row a video, in their order. Several
/// processes score a share of the videos each, and all have all rows in the end.
///
/// # Errors
/// A frame that cannot be read, by name; a score that is not finite.
pub fn score(
    net: &dyn Network,
    material: &Material,
    videos: &[usize],
    sigma: usize,
    machine: &Machine,
    amp: bool,
    what: &str,
) -> Result<Vec<Vec<f64>>> {
    // Fewer videos than processes: each scores them all.
    let shares = machine.world.shares(videos.len(), 1).ok();
    let own = shares.as_ref().map_or(videos, |shares| &videos[shares.own()]);
    let (list, given): (Arc<[usize]>, Material) = (own.into(), material.clone());
    let load = move |i: u64| {
        let video = list[i as usize];
        given.snippets(&[(video, uniform_starts(given.frames(video), sigma, given.span()))], &[])
    };
    let mut bar = Bar::new(what, own.len() as u64, 0);
    let mut rows = Vec::with_capacity(own.len());
    for raw in Loader::new(0..own.len() as u64, machine.workers, machine.workers + 1, load)? {
        let raw = upload(&raw?, machine.device).to_kind(Kind::Float);
        let scores = tch::no_grad(|| super::autocast(amp, machine.device, || net.forward(&raw, false)));
        let scores = scores.to_kind(Kind::Double).to_device(Device::Cpu).view([-1]);
        let scores = Vec::<f64>::try_from(&scores).context("a row of scores")?;
        ensure!(scores.iter().all(|score| score.is_finite()), "the network gives scores that are not finite");
        rows.push(scores);
        bar.step(1);
    }
    let Some(shares) = shares.filter(|_| machine.world.size() > 1) else { return Ok(rows) };
    let rows = Tensor::from_slice(&rows.concat()).view([own.len() as i64, sigma as i64]);
    let all = Vec::<f64>::try_from(machine.world.gather(&rows, &shares)?.view([-1])).context("rows of scores")?;
    Ok(all.chunks(sigma).map(<[f64]>::to_vec).collect())
}

/// Which of the σ snippets count (Fig. 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The first ones.
    Start,
    /// The last ones.
    End,
    /// Random ones, drawn from this seed for each video.
    Random(u64),
}

/// The mean of `count` of a video's scores.
pub fn mean_of(scores: &[f64], count: usize, taken: Taken, video: usize) -> f64 {
    let count = count.min(scores.len());
    let sum: f64 = match taken {
        Taken::Start => scores[..count].iter().sum(),
        Taken::End => scores[scores.len() - count..].iter().sum(),
        Taken::Random(seed) => {
            let mut rng = seed::at(seed::named(seed, "random snippets"), video as u64, 0);
            rand::seq::index::sample(&mut rng, scores.len(), count).into_iter().map(|i| scores[i]).sum()
        }
    };
    sum / count.max(1) as f64
}

/// Means of a video's scores over `n` uniform splits of them.
pub fn by_split(scores: &[f64], n: usize) -> Vec<f64> {
    (0..n)
        .map(|k| {
            let part = &scores[split(scores.len(), n, k)];
            part.iter().sum::<f64>() / part.len() as f64
        })
        .collect()
}
