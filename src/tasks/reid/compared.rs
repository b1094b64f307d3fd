//! Query and gallery by distances that are at hand: single shot, and as a whole.

use std::collections::HashSet;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::identities;
use super::sections::{Shown, sections};
use crate::datasets::ReidSet;
use crate::metrics::retrieval::{self, Ap, Exclude, Identity, Retrieval, SingleShot};
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

/// Query and gallery by distances that are at hand, a learned metric's say: scored single shot, and as a whole.
#[derive(Debug)]
pub struct Compared<'a> {
    set: &'a ReidSet,
    q: Vec<Identity>,
    g: Vec<Identity>,
    /// What is ranked by, `[Q, G]`: the set's queries and gallery photos are rows and columns.
    dist: Tensor,
    draws: Draws,
    seed: u64,
    /// One image a person, averaged over random galleries.
    pub shots: SingleShot,
    /// Market-1501's rule.
    pub whole: Retrieval,
}

impl<'a> Compared<'a> {
    /// Scores `dist` `[Q, G]`, by which the set's queries and gallery photos are ranked; random galleries follow
    /// from the run's `seed`.
    ///
    /// # Panics
    /// Where `dist` has another shape.
    pub fn of(set: &'a ReidSet, dist: Tensor, draws: Draws, seed: u64) -> Compared<'a> {
        let (q, g) = (identities(&set.query), identities(&set.gallery));
        let shots = match draws {
            Draws::Random(count) => retrieval::single_shot_distances(&dist, &q, &g, count, seed::named(seed, "draws")),
            Draws::First => {
                let mut places: Vec<usize> = (0..g.len()).collect();
                places.sort_by_key(|&i| &set.gallery[i].name);
                let mut seen = HashSet::new();
                // All distractors are of nobody.
                places.retain(|&i| g[i].person <= 0 || seen.insert(g[i]));
                let columns = Tensor::from_slice(&places.iter().map(|&i| i as i64).collect::<Vec<_>>());
                let first: Vec<Identity> = places.iter().map(|&i| g[i]).collect();
                retrieval::single_shot_distances(
                    &dist.index_select(1, &columns.to_device(dist.device())),
                    &q,
                    &first,
                    1,
                    0,
                )
            }
        };
        let whole = retrieval::evaluate_distances(&dist, &q, &g, Exclude::SameCamera, Ap::Trapezoid);
        Compared { set, q, g, dist, draws, seed, shots, whole }
    }

    /// Names and scores, fractions.
    pub fn scores(&self) -> Vec<(String, f64)> {
        let shots = [1, 5, 10, 20].map(|k| (format!("single shot rank-{k}"), self.shots.rank(k)));
        let whole = [("whole gallery mAP", self.whole.map()), ("whole gallery rank-1", self.whole.rank(1))];
        shots.into_iter().chain(whole.map(|(name, score)| (name.into(), score))).collect()
    }

    /// How the scores were computed.
    pub fn protocol(&self) -> Vec<String> {
        vec![
            format!(
                "single shot: {} ({} without a match by another camera left out), each against {}; one query is {:.4} of rank-1",
                count(self.q.len(), "query"),
                self.shots.skipped,
                match self.draws {
                    Draws::Random(draws) => format!(
                        "one random image of every person by another camera, averaged over {}, between which rank-1 varies by {:.4} (standard deviation)",
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
        let Compared { set, q, g, dist, .. } = self;
        let paired = |pairs: &[(usize, usize)]| {
            pairs.iter().map(|&(i, j)| shown(dist.double_value(&[i as i64, j as i64]))).collect()
        };
        let hits = |&i: &usize| {
            let row = dist.narrow(0, i as i64, 1);
            let mut hits = retrieval::ranking_distances(&row, &[q[i]], g, Exclude::SameCamera, 10).remove(0);
            hits.iter_mut().for_each(|hit| hit.distance = shown(hit.distance));
            hits
        };
        let answers = |of: &[usize]| of.iter().map(hits).collect();
        let (query_photo, gallery_photo): (Vec<usize>, Vec<usize>) = ((0..q.len()).collect(), (0..g.len()).collect());
        let (query_photo, gallery_photo) = (&query_photo[..], &gallery_photo[..]);
        let shown = Shown { set, q, g, query_photo, gallery_photo, paired: &paired, answers: &answers };
        sections(report, &shown, &self.whole, self.seed)
    }
}
