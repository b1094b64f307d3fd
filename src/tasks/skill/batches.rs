//! What snippets are made of, and batches of pairs of videos.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::bounds::room;
use crate::datasets::skills::Pair;
use crate::loader::Loader;
use crate::models::{Network, channels_last, dropping};
use crate::run::Run;
use crate::seed;
use crate::transfer::{stage, upload};
use crate::video::Clip;
use crate::video::snippet::{Crops, Draw, Stream, random_starts, split, uniform_starts};

/// Ready-made features of one video, `[snippets, width]`, row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Numbers of a snippet.
    pub width: usize,
    /// Those of all snippets.
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
    /// Ready-made features, by video.
    Features(Arc<[Features]>),
}

impl Material {
    /// How many frames, or rows, video `video` has.
    pub fn frames(&self, video: usize) -> usize {
        match self {
            Material::Clips { clips, .. } => clips[video].frames(),
            Material::Features(all) => all[video].values.len() / all[video].width.max(1),
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
            Material::Features(all) => all.len(),
        }
    }

    /// A network's inputs: channels of a snippet, or numbers of one.
    pub fn inputs(&self) -> i64 {
        match self {
            Material::Clips { stream, .. } => stream.channels(),
            Material::Features(all) => all.first().map_or(1, |one| one.width as i64),
        }
    }

    /// Snippets of video `video`: `sigma` of them spread uniformly over it, through the central window.
    ///
    /// # Errors
    /// A frame that cannot be read, by name.
    pub fn uniform(&self, video: usize, sigma: usize) -> Result<Tensor> {
        self.snippets(&[(video, uniform_starts(self.frames(video), sigma, self.span()))], &[])
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
                let all = room([count as i64, size as i64], 1);
                let mut bytes =
                    vec![0_u8; all.map_err(|why| anyhow!("{why}, for a batch: make it or the images smaller"))?];
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
            Material::Features(all) => {
                let width = self.inputs() as usize;
                let mut values = Vec::with_capacity(count * width);
                for (video, starts) in asked {
                    for &start in starts {
                        values.extend_from_slice(&all[*video].values[start * width..(start + 1) * width]);
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
    /// Which step of the training it is for.
    pub step: u64,
    /// This process's pairs.
    own: Range<usize>,
    segments: usize,
    /// Snippets of the pairs' first and second videos, sample after sample, `[share * segments, ...]`.
    sides: [Tensor; 2],
    /// bool `[B]`, of all pairs.
    pub similar: Tensor,
}

impl PairBatch {
    /// f(p_i) and f(p_j) of this process's pairs `rows`, `[rows, 2]`: of each the mean of its snippets' scores (segmental
    /// consensus). Dropout draws from `seed`.
    pub fn scores(&self, net: &dyn Network, rows: &Range<usize>, seed: u64, run: &Run) -> Tensor {
        let (from, count) = ((rows.start - self.own.start) * self.segments, rows.len() * self.segments);
        let there = |side: &Tensor| upload(&side.narrow(0, from as i64, count as i64), run.machine.device);
        let raw = Tensor::cat(&self.sides.each_ref().map(there), 0).to_kind(Kind::Float);
        let raw = if raw.dim() == 4 { channels_last(&raw) } else { raw };
        // The whole batch is both sides' snippets, one side after the other.
        let side = self.similar.size()[0] * self.segments as i64;
        let part = |first: i64| first + (rows.start * self.segments) as i64..first + (rows.end * self.segments) as i64;
        let forward = || dropping(seed, 2 * side, &[part(0), part(side)], || net.forward(&raw, true));
        let f = run.autocast(|| {
            let scores = forward().to_kind(Kind::Float);
            scores.view([-1, self.segments as i64]).mean_dim(1, false, None::<Kind>)
        });
        f.view([2, -1]).transpose(0, 1)
    }
}

/// What a log line says of a batch's scores `f` `[B, 2]`: the share of the pairs that are not `similar` in the right order,
/// and the mean distance of all. Waits for the device.
pub fn order(f: &Tensor, similar: &Tensor) -> Value {
    let z = (f.select(1, 0) - f.select(1, 1)).to_kind(Kind::Float);
    let strict = similar.logical_not();
    let right = z.gt(0.).logical_and(&strict).sum(Kind::Int64).int64_value(&[]);
    let all = strict.sum(Kind::Int64).int64_value(&[]).max(1);
    json!({"right": right as f64 / all as f64, "gap": z.abs().mean(Kind::Float).double_value(&[])})
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
pub struct PairBatches {
    /// Elements of a batch.
    pub batch: usize,
    /// Segments of a clip, a random snippet each.
    pub segments: usize,
    /// Everything random follows from this and the step.
    pub seed: u64,
    /// How many threads load videos.
    pub workers: usize,
    /// Where they are bound for.
    pub device: Device,
}

impl PairBatches {
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
                Ok::<_, anyhow::Error>(stage(material.snippets(&side[own.clone()], windows)?, self.device))
            });
            let similar: Vec<bool> = order.iter().map(|&place| samples[place].similar).collect();
            let similar = stage(Tensor::from_slice(&similar), self.device);
            Ok(PairBatch { step, own: own.clone(), segments: self.segments, sides: [first?, second?], similar })
        })
    }
}
