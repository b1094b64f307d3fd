//! Query and gallery by distances of a network's own, some queries at a time: single shot, and as a whole.

use std::collections::HashSet;
use std::ops::Range;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::identities;
use super::sections::{Shown, answered, paired, sections};
use crate::collectives::World;
use crate::datasets::ReidSet;
use crate::metrics::Score;
use crate::metrics::others::{Dealt, Row};
use crate::metrics::retrieval::{self, Ap, Exclude, Hit, Identity, Judged, Retrieval, Shots, SingleShot};
use crate::report::Report;
use crate::say::count;
use crate::seed;

/// Galleries of one image a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Draws {
    /// So many, drawn at random for each query.
    Random(usize),
    /// One: the first photo of every person, by name, by another camera than a query's (of several, one at random).
    First,
}

impl std::fmt::Display for Draws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Draws::Random(count) => write!(f, "{count}"),
            Draws::First => f.write_str("first"),
        }
    }
}

impl std::str::FromStr for Draws {
    type Err = String;

    fn from_str(text: &str) -> Result<Draws, String> {
        let number = text.parse().ok().filter(|count| (1..=10_000).contains(count)).map(Draws::Random);
        let first = (text == "first").then_some(Draws::First);
        number.or(first).ok_or_else(|| "say 1 to 10000, or first".into())
    }
}

crate::bounds::as_typed!(Draws);

/// What queries and a gallery are ranked by, computed when it is wanted: nobody holds it for all queries.
pub trait ByRows {
    /// Queries that are computed alike whoever computes them, and how many there are at once at most.
    fn sizes(&self) -> (usize, usize);

    /// Of consecutive `blocks` of queries, `[n, G]`.
    ///
    /// # Errors
    /// Where it cannot be computed.
    fn rows(&mut self, blocks: &[Range<usize>]) -> Result<Tensor>;
}

/// At hand, `[Q, G]`.
impl ByRows for Tensor {
    fn sizes(&self) -> (usize, usize) {
        (1, self.size()[0] as usize)
    }

    fn rows(&mut self, blocks: &[Range<usize>]) -> Result<Tensor> {
        let count = blocks.iter().map(|block| block.len() as i64).sum();
        Ok(self.narrow(0, blocks.first().map_or(0, |block| block.start as i64), count))
    }
}

/// Query and gallery by distances of a network's own, a learned metric's say: scored single shot, and as a whole.
#[derive(Debug)]
pub struct Compared<'a> {
    set: &'a ReidSet,
    q: Vec<Identity>,
    g: Vec<Identity>,
    asked: Vec<Asked>,
    draws: Draws,
    /// One image a person, averaged over random galleries.
    pub shots: SingleShot,
    /// Market-1501's rule.
    pub whole: Retrieval,
}

/// What is known of a query whose row of distances is gone.
#[derive(Debug)]
struct Asked {
    found: Judged,
    /// Distances that the page shows, of the places of [`paired`].
    paired: [Vec<f64>; 2],
    /// The first answers, where the page shows them.
    hits: Vec<Hit>,
}

impl Row for Asked {
    fn put(&self, numbers: &mut Vec<f64>) {
        self.found.put(numbers);
        self.paired.iter().for_each(|of| of.put(numbers));
        numbers.push(self.hits.len() as f64);
        numbers.extend(self.hits.iter().flat_map(|hit| [hit.index as f64, hit.distance, f64::from(hit.correct)]));
    }

    fn take(numbers: &mut impl Iterator<Item = f64>) -> Asked {
        let (found, paired) = (Judged::take(numbers), [Row::take(numbers), Row::take(numbers)]);
        let mut next = || f64::take(numbers);
        let count = next() as usize;
        let hit = |_| Hit { index: next() as usize, distance: next(), correct: next() != 0. };
        Asked { found, paired, hits: (0..count).map(hit).collect() }
    }
}

impl<'a> Compared<'a> {
    /// Scores the set by what its queries (rows) and gallery photos (columns) are ranked by; random galleries follow from the
    /// run's `seed`. The processes of `world` take some queries each, and all have all scores.
    ///
    /// # Errors
    /// Those of `by`, and where another process is gone.
    ///
    /// # Panics
    /// Where rows have another shape.
    pub fn of(set: &'a ReidSet, by: &mut dyn ByRows, draws: Draws, seed: u64, world: &World) -> Result<Compared<'a>> {
        let (q, g) = (identities(&set.query), identities(&set.gallery));
        let mut places: Vec<usize> = (0..g.len()).collect();
        let (repeats, drawn) = match draws {
            Draws::Random(count) => (count, seed::named(seed, "draws")),
            Draws::First => {
                places.sort_by_key(|&i| &set.gallery[i].name);
                let mut seen = HashSet::new();
                // All distractors are of nobody.
                places.retain(|&i| g[i].person <= 0 || seen.insert(g[i]));
                (1, 0)
            }
        };
        let columns = Tensor::from_slice(&places.iter().map(|&i| i as i64).collect::<Vec<_>>());
        let first: Vec<Identity> = places.iter().map(|&i| g[i]).collect();
        let (shown, rule) = (answered(q.len()), Exclude::SameCamera);
        let (block, most) = by.sizes();
        let dealt = Dealt::new(q.len(), block, world);
        let (mut asked, mut shots) = (Vec::with_capacity(dealt.own().len()), Shots::default());
        for pass in dealt.passes_of(most) {
            let dist = by.rows(&dealt.blocks_of(pass.clone()).collect::<Vec<_>>())?;
            let own = &q[pass.clone()];
            let single = match draws {
                Draws::Random(_) => dist.shallow_clone(),
                Draws::First => dist.index_select(1, &columns.to_device(dist.device())),
            };
            shots.add(Shots::of(&single, pass.start, own, &first, repeats, drawn));
            for ((row, i), found) in pass.enumerate().zip(retrieval::judged(&dist, own, &g, rule)) {
                let dist = dist.narrow(0, row as i64, 1);
                let distances = |of: Vec<usize>| of.iter().map(|&j| dist.double_value(&[0, j as i64])).collect();
                let hits = shown.contains(&i).then(|| retrieval::ranking_distances(&dist, &[q[i]], &g, rule, 10));
                let hits = hits.into_iter().flatten().flatten().collect();
                asked.push(Asked { found, paired: paired(i, q[i], &g, seed).map(distances), hits });
            }
        }
        let shots = shots.of_all(world)?.scored();
        let asked = dealt.gather(asked, world)?;
        let found = asked.iter().map(|asked| asked.found).collect();
        let whole = retrieval::summed(found, &q, &g, rule, Ap::Trapezoid);
        Ok(Compared { set, q, g, asked, draws, shots, whole })
    }

    /// Whether all distances that the page shows, three or more, are one, but for rounding: nothing can be told from them.
    pub fn alike(&self) -> bool {
        let shown = || self.asked.iter().flat_map(|of| of.paired.iter().flatten().copied());
        let first = shown().next().unwrap_or(f64::NAN);
        shown().nth(2).is_some() && shown().all(|x| (x - first).abs() <= 1e-6 * first.abs())
    }

    /// Fractions.
    pub fn scores(&self) -> Vec<Score> {
        let [first, others @ ..] =
            [1, 5, 10, 20].map(|k| Score::new(format!("single shot rank-{k}"), self.shots.rank(k)));
        let map = Score::new("whole gallery mAP", self.whole.map()).counts(1);
        let rank = Score::new("whole gallery rank-1", self.whole.rank(1));
        [first.counts(0)].into_iter().chain(others).chain([map, rank]).collect()
    }

    /// How the scores were computed.
    pub fn protocol(&self) -> Vec<String> {
        vec![
            format!(
                "single shot: {} ({} without a match by another camera left out), each against {}; one query is {:.4} of rank-1",
                count(self.q.len(), "query"),
                self.shots.skipped,
                match self.draws {
                    Draws::Random(1) => "one random image of every person by another camera".into(),
                    Draws::Random(draws) => format!(
                        "one random image of every person by another camera, averaged over {}, between which rank-1 varies by {:.4} (sample standard deviation)",
                        count(draws, "draw"),
                        self.shots.rank1_std
                    ),
                    Draws::First => "the first photo of every person by another camera".into(),
                },
                1. / (self.q.len() - self.shots.skipped).max(1) as f64,
            ),
            format!("whole gallery: {}, Market-1501's rule, mAP by the trapezoid rule", count(self.g.len(), "photo")),
        ]
    }

    /// What the scores come to.
    pub fn says(&self) -> String {
        format!(
            "Among one photo of every person, the first answer shows the right one for {:.1} % of {}; among all {}, for {:.1} %.",
            100. * self.shots.rank(1),
            count(self.q.len() - self.shots.skipped, "query"),
            count(self.g.len(), "photo"),
            100. * self.whole.rank(1)
        )
    }

    /// As `retrieval_sections`; `shown` makes of what is ranked by the distance that is read.
    pub fn show(&self, report: &mut Report, shown: impl Fn(f64) -> f64) -> Result<()> {
        let Compared { set, q, g, asked, .. } = self;
        let paired = [0, 1].map(|kind| asked.iter().flat_map(|of| &of.paired[kind]).map(|&x| shown(x)).collect());
        let hit = |hit: &Hit| Hit { distance: shown(hit.distance), ..*hit };
        let hits = |i: usize| asked[i].hits.iter().map(hit).collect();
        let answers = answered(q.len()).into_iter().map(hits).collect();
        let (query_photo, gallery_photo): (Vec<usize>, Vec<usize>) = ((0..q.len()).collect(), (0..g.len()).collect());
        let (query_photo, gallery_photo) = (&query_photo[..], &gallery_photo[..]);
        sections(report, Shown { set, q, query_photo, gallery_photo, paired, answers }, &self.whole)
    }
}
