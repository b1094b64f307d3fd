//! Scores of whole videos from those of their snippets: fusion of the streams (Eq. 9), accuracies, and who's best.

use std::ops::Range;

use anyhow::{Context, Result};
use tch::Kind;

use super::{Material, Part};
use crate::datasets::skills::SkillSet;
use crate::loader::Loader;
use crate::metrics::{Score, mean, mean_and_spread, pairwise};
use crate::models::{Network, hold_weights};
use crate::report::Table;
use crate::run::Run;
use crate::say::{Bar, count};
use crate::seed;
use crate::transfer::{Fetch, stage, upload};
use crate::video::snippet::{Stream, split};

/// Tables under their titles.
pub type Tables = Vec<(String, Table)>;

/// How many draws of random snippets Fig. 5's curve is the mean of.
const DRAWS: u64 = 20;

/// Scores of `sigma` snippets spread uniformly over each video, centre crops: a row a video. Several processes score a
/// share of the videos each, and all have all rows in the end.
///
/// # Errors
/// A frame that cannot be read, by name; a score that is not finite.
pub fn score(net: &dyn Network, material: &Material, sigma: usize, run: &Run, what: &str) -> Result<Vec<Vec<f64>>> {
    let machine = &run.machine;
    let videos = material.videos();
    // Fewer videos than processes: each scores them all.
    let shares = machine.world.shares(videos, 1).ok();
    let own = shares.as_ref().map_or(0..videos, |shares| shares.own());
    let (first, given) = (own.start, material.clone());
    let device = machine.device;
    let load = move |i: u64| Ok(stage(given.uniform(first + i as usize, sigma)?, device));
    let mut bar = Bar::new(what, own.len() as u64, 0);
    let mut rows = Fetch::default();
    let _held = hold_weights();
    for raw in Loader::new(0..own.len() as u64, machine.workers, machine.workers + 1, load)? {
        let raw = upload(&raw?, machine.device).to_kind(Kind::Float);
        let scores = tch::no_grad(|| run.autocast(|| net.forward(&raw, false)));
        rows.push(&scores.to_kind(Kind::Double).view([1, -1]));
        bar.step(1);
    }
    let Some(mut rows) = rows.all()? else { return Ok(Vec::new()) };
    if let Some(shares) = shares {
        rows = machine.world.gather(&rows, &shares)?;
    }
    let all = Vec::<f64>::try_from(rows.view([-1])).context("rows of scores")?;
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
    (0..n).map(|k| mean(&scores[split(scores.len(), n, k)])).collect()
}

/// A video with its score and those of its snippets.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Its place among the videos that were scored.
    pub video: usize,
    /// f(p).
    pub score: f64,
    /// The snippets' fused scores, from the first to the last.
    pub snippets: Vec<f64>,
}

/// The scores of all snippets of all videos, by the networks of several folds.
#[derive(Debug, Clone)]
pub struct VideoScores {
    /// One, or spatial and temporal.
    streams: Vec<Stream>,
    /// A fold's number in the set, and its scores by stream, video, snippet.
    folds: Vec<(usize, Vec<Vec<Vec<f64>>>)>,
}

impl VideoScores {
    /// Scores by each fold's network of each stream: `score` gives rows of snippets, one a video.
    pub fn new(
        folds: &[usize],
        streams: &[Stream],
        mut score: impl FnMut(Part) -> Result<Vec<Vec<f64>>>,
    ) -> Result<VideoScores> {
        let mut of = |&fold: &usize| {
            Ok((fold, streams.iter().map(|&stream| score(Part { fold, stream })).collect::<Result<_>>()?))
        };
        Ok(VideoScores { streams: streams.to_vec(), folds: folds.iter().map(&mut of).collect::<Result<_>>()? })
    }

    /// The folds' numbers in the set.
    pub fn folds(&self) -> impl Iterator<Item = usize> {
        self.folds.iter().map(|(fold, _)| *fold)
    }

    /// The fused stream's name, or the only stream's.
    pub fn last(&self) -> &'static str {
        if self.streams.len() == 2 { "fused" } else { self.streams[0].name() }
    }

    /// A stream's weight in Eq. 9.
    fn weight(&self, stream: Stream, alpha: f64) -> f64 {
        match (self.streams.len(), stream) {
            (1, _) => 1.,
            (_, Stream::Spatial) => alpha,
            (_, Stream::Temporal) => 1. - alpha,
        }
    }

    /// f(p) of every video by the `place`-th fold's networks (Eq. 9), where `mean(scores, video)` is a stream's mean.
    fn fused(&self, place: usize, alpha: f64, mean: impl Fn(&[f64], usize) -> f64) -> Vec<f64> {
        let by_stream = &self.folds[place].1;
        let f = |video: usize| {
            let parts = self.streams.iter().zip(by_stream);
            parts.map(|(&stream, scores)| self.weight(stream, alpha) * mean(&scores[video], video)).sum()
        };
        (0..by_stream[0].len()).map(f).collect()
    }

    /// f(p) of every video by the `place`-th fold's networks, from all snippets.
    fn f(&self, place: usize, alpha: f64) -> Vec<f64> {
        self.fused(place, alpha, |scores, _| mean(scores))
    }

    /// Every snippet's fused score, by video, the mean over the folds at `places`.
    fn snippets(&self, places: Range<usize>, alpha: f64) -> Vec<Vec<f64>> {
        let mut fused = Vec::new();
        for (i, &stream) in self.streams.iter().enumerate() {
            for place in places.clone() {
                let rows = &self.folds[place].1[i];
                fused.resize_with(rows.len(), Vec::new);
                for (sums, row) in fused.iter_mut().zip(rows) {
                    sums.resize(row.len(), 0.);
                    let weight = self.weight(stream, alpha);
                    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight * x / places.len() as f64);
                }
            }
        }
        fused
    }

    /// All videos by descending f(p), the mean over the folds.
    pub fn ranking(&self, alpha: f64) -> Vec<Ranked> {
        let snippets = self.snippets(0..self.folds.len(), alpha);
        let of = |(video, snippets): (usize, Vec<f64>)| Ranked { video, score: mean(&snippets), snippets };
        best_first(snippets.into_iter().enumerate().map(of).collect())
    }

    /// Every video by the networks of the fold that held it out, best first, in deviations from those networks' mean over
    /// all videos. Videos that no scored fold holds out are left out.
    pub fn held_out(&self, set: &SkillSet, alpha: f64) -> Vec<Ranked> {
        let mut all = Vec::new();
        for (place, fold) in self.folds().enumerate() {
            let (f, snippets) = (self.f(place, alpha), self.snippets(place..place + 1, alpha));
            let (centre, deviation) = mean_and_spread(&f);
            all.extend(set.folds[fold].held.iter().map(|&video| {
                let scaled = |x: f64| (x - centre) / deviation.max(1e-12);
                let snippets = snippets[video].iter().map(|&x| scaled(x)).collect();
                Ranked { video, score: scaled(f[video]), snippets }
            }));
        }
        best_first(all)
    }

    /// Pairwise accuracy, pooled over the folds' test pairs and the lists of scores that `lists` gives for a fold's place.
    fn pooled(&self, set: &SkillSet, lists: impl Fn(usize) -> Vec<Vec<f64>>) -> f64 {
        let (mut right, mut all) = (0., 0.);
        for (place, fold) in self.folds().enumerate() {
            let test = &set.folds[fold].test;
            for f in lists(place).iter().filter(|_| !test.is_empty()) {
                right += pairwise::accuracy(f, test) * test.len() as f64;
                all += test.len() as f64;
            }
        }
        right / all
    }

    /// Pairwise accuracy from `count` of the snippets, pooled over the folds' test pairs.
    pub fn accuracy(&self, set: &SkillSet, alpha: f64, count: usize, taken: Taken) -> f64 {
        self.pooled(set, |place| vec![self.fused(place, alpha, |scores, video| mean_of(scores, count, taken, video))])
    }

    /// Pairwise accuracy of single splits: the k-th of N of one video against the k-th of the other, pooled over splits
    /// and the folds' test pairs. What a pair is trained to in Eq. 5.
    pub fn split_accuracy(&self, set: &SkillSet, alpha: f64, splits: usize) -> f64 {
        self.pooled(set, |place| {
            let splits = splits.min(self.folds[place].1[0].iter().map(Vec::len).min().unwrap_or(1)).max(1);
            (0..splits)
                .map(|k| self.fused(place, alpha, |scores, _| mean(&scores[split(scores.len(), splits, k)])))
                .collect()
        })
    }

    /// How held-out similar pairs fare: how near they lie (see [`pairwise::similar_gap`]), and how many lie within the
    /// margin; means over the folds that have some.
    pub fn similar(&self, set: &SkillSet, alpha: f64, margin: f64) -> [f64; 2] {
        let of = |(place, fold): (usize, usize)| {
            let (f, similar) = (self.f(place, alpha), set.similar_held(fold));
            [pairwise::similar_gap(&f, &similar, &set.folds[fold].test), pairwise::within(&f, &similar, margin)]
        };
        let folds: Vec<[f64; 2]> = self.folds().enumerate().map(of).collect();
        [0, 1].map(|i| mean(&folds.iter().map(|fold| fold[i]).filter(|x| x.is_finite()).collect::<Vec<_>>()))
    }

    /// Fig. 6: how many pooled test pairs of separation 1, 2, ... are right, and how many there are.
    pub fn by_separation(&self, set: &SkillSet, alpha: f64) -> Vec<(usize, usize)> {
        let mut bins: Vec<(usize, usize)> = Vec::new();
        for (place, fold) in self.folds().enumerate() {
            let (f, test) = (self.f(place, alpha), &set.folds[fold].test);
            for (&(a, b), separation) in test.iter().zip(set.separation(test)) {
                let Some(n) = separation.filter(|&n| n > 0) else { continue };
                bins.resize(bins.len().max(n), (0, 0));
                bins[n - 1].0 += usize::from(f[a] > f[b]);
                bins[n - 1].1 += 1;
            }
        }
        bins
    }

    /// Fig. 4: the accuracy for alpha 0, 0.1, ..., 1; nothing where there are not two streams to fuse.
    pub fn by_alpha(&self, set: &SkillSet) -> Vec<f64> {
        let alphas = (0..=10).filter(|_| self.streams.len() == 2).map(|i| i as f64 / 10.);
        alphas.map(|alpha| self.accuracy(set, alpha, usize::MAX, Taken::Start)).collect()
    }

    /// Fig. 5: the accuracies from each of `counts` snippets, taken from the start, from the end, and at random (the mean
    /// over 20 draws).
    pub fn by_count(&self, set: &SkillSet, alpha: f64, counts: &[usize]) -> [(&'static str, Vec<f64>); 3] {
        let of = |taken: &[Taken]| {
            let at =
                |&count: &usize| mean(&taken.iter().map(|&t| self.accuracy(set, alpha, count, t)).collect::<Vec<_>>());
            counts.iter().map(at).collect()
        };
        let random: Vec<Taken> = (0..DRAWS).map(Taken::Random).collect();
        [("from the start", of(&[Taken::Start])), ("from the end", of(&[Taken::End])), ("at random", of(&random))]
    }

    /// What an evaluation says, by name: the streams' accuracies and, of the fused scores or the only stream's, single
    /// splits, similar pairs, folds, separations.
    pub fn named(&self, set: &SkillSet, alpha: f64, splits: usize, margin: f64) -> Vec<Score> {
        let all = |alpha: f64| self.accuracy(set, alpha, usize::MAX, Taken::Start);
        let single = |&stream: &Stream| match stream {
            Stream::Spatial => Score::new(stream.name(), all(1.)).counts(1),
            Stream::Temporal => Score::new(stream.name(), all(0.)).counts(2),
        };
        let mut scores: Vec<Score> = self.streams.iter().map(single).collect();
        if self.streams.len() == 2 {
            scores.push(Score::new("fused", all(alpha)).counts(0));
        }
        let of = |what: &str, score: f64| Score::new(format!("{}, {what}", self.last()), score);
        let [gap, near] = self.similar(set, alpha, margin);
        scores.push(of("single splits", self.split_accuracy(set, alpha, splits)));
        scores.push(of("gap of similar pairs", gap).less());
        scores.push(of("similar pairs within the margin", near));
        for (place, fold) in self.folds().enumerate() {
            let right = pairwise::accuracy(&self.f(place, alpha), &set.folds[fold].test);
            scores.push(of(&format!("fold {}", fold + 1), right));
        }
        for (n, (right, all)) in self.by_separation(set, alpha).into_iter().enumerate() {
            scores.push(of(&format!("separation {}", n + 1), right as f64 / all as f64));
        }
        // Without pairs there is no share of them.
        scores.retain(|score| score.value.is_finite());
        scores
    }

    /// The test pairs of all scored folds.
    pub fn pairs(&self, set: &SkillSet) -> usize {
        self.folds().map(|fold| set.folds[fold].test.len()).sum()
    }

    /// How [`VideoScores::named`] and [`VideoScores::figures`] come about, in words and counts.
    pub fn protocol(&self, set: &SkillSet, sigma: usize, alpha: f64, splits: usize, margin: f64) -> Vec<String> {
        let pooled = self.pairs(set);
        let folds = self.folds.len();
        let mut lines = vec![
            format!(
                "share of {}, pooled over {}, whose better video scores strictly higher",
                count(pooled, "test pair"),
                count(folds, "fold")
            ),
            format!("a video's score: the mean of {}, spread uniformly, centre crops", count(sigma, "snippet")),
            format!("single splits: the {splits} splits of one video against those of the other, one by one"),
            "gap of similar pairs: mean distance of the scores of held-out similar pairs, in units of the strict pairs' (less is better)".into(),
            format!("similar pairs within the margin: share of held-out similar pairs whose scores differ by at most {margin} (Eq. 6), mean over folds"),
        ];
        if self.streams.len() == 2 {
            lines.push(format!("fusion: {alpha} spatial + {} temporal", 1. - alpha));
        }
        lines
    }

    /// The points of Figures 4 to 6 by name (those of Fig. 6 are among [`VideoScores::named`]'s), and all three as tables, in per
    /// cent. Fig. 5's numbers of snippets are those up to the `sigma` that were scored.
    pub fn figures(&self, set: &SkillSet, alpha: f64, sigma: usize) -> (Vec<Score>, Tables) {
        let counts: Vec<usize> = [1, 3, 5, 10, 15, 20, 25].into_iter().filter(|&count| count <= sigma).collect();
        let (alphas, by_count, bins) =
            (self.by_alpha(set), self.by_count(set, alpha, &counts), self.by_separation(set, alpha));
        let mut scores: Vec<Score> = Vec::new();
        for (i, score) in alphas.iter().enumerate() {
            scores.push(Score::new(format!("{}, alpha {}", self.last(), i as f64 / 10.), *score));
        }
        for (from, of) in &by_count {
            let name = |count: &usize| format!("{}, snippets {from}: {count}", self.last());
            scores.extend(counts.iter().zip(of).map(|(count, &score)| Score::new(name(count), score)));
        }
        let cells = |first: &str, cells: &mut dyn Iterator<Item = String>| -> Vec<String> {
            [first.to_string()].into_iter().chain(cells).collect()
        };
        let percent = |x: &f64| if x.is_finite() { format!("{:.1}", 100. * x) } else { "–".into() };
        let shares: Vec<f64> = bins.iter().map(|&(right, all)| right as f64 / all as f64).collect();
        let mut tables = Vec::new();
        let mut add = |title: &str, head: Vec<String>, rows: Vec<Vec<String>>| {
            tables.push((title.to_string(), Table { head, rows }));
        };
        if !alphas.is_empty() {
            let head = cells("alpha", &mut (0..=10).map(|i| (f64::from(i) / 10.).to_string()));
            add(
                "Fig. 4: accuracy by alpha, the spatial stream's weight",
                head,
                vec![cells("%", &mut alphas.iter().map(percent))],
            );
        }
        let rows =
            by_count.iter().map(|(from, of)| cells(&format!("{from}, %"), &mut of.iter().map(percent))).collect();
        let head = cells("snippets", &mut counts.iter().map(usize::to_string));
        add("Fig. 5: accuracy by the number of snippets (at random: the mean of 20 draws)", head, rows);
        let rows = vec![
            cells("test pairs", &mut bins.iter().map(|(_, all)| all.to_string())),
            cells("%", &mut shares.iter().map(percent)),
        ];
        let head = cells("separation", &mut (1..=bins.len()).map(|n| n.to_string()));
        add("Fig. 6: accuracy by separation, the length of the longest path between two videos", head, rows);
        (scores, tables)
    }
}

fn best_first(mut all: Vec<Ranked>) -> Vec<Ranked> {
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all
}
