//! A set of drawn performances with judged pairs: people of different skill, each with several videos, and workers
//! who compare two of them and do not always agree.

use std::sync::Arc;

use rand::Rng;
use rayon::prelude::*;

use super::hand::{Hand, Performance};
use crate::datasets::pair_graph::PairGraph;
use crate::datasets::skills::{Fold, Pair, SkillSet, SkillTask};
use crate::seed;
use crate::video::{Cache, Clip};

/// What to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Hands {
    /// People.
    pub people: u64,
    /// Videos of each.
    pub repeats: u64,
    /// Workers who judge a pair; it counts where all agree (the paper's four).
    pub workers: u64,
    /// Deviation of a worker's impression of a video's skill.
    pub doubt: f64,
    /// Deviation of the drift within a video.
    pub drift: f64,
    /// Pixels down and across.
    pub size: (u32, u32),
    /// Everything drawn follows from this.
    pub seed: u64,
}

impl Default for Hands {
    /// The built-in set: 8 people with 4 videos each, 4 workers, 40x52 pixels.
    fn default() -> Hands {
        Hands { people: 8, repeats: 4, workers: 4, doubt: 0.22, drift: 0.4, size: (40, 52), seed: 1 }
    }
}

/// A sum of uniform numbers with deviation 1.
fn normal(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.
}

impl Hands {
    /// The set and its videos, in the same order. Skills spread from 0.1 to 0.9 over the people, with a deviation of
    /// 0.08 among the videos of one. Folds are quarters of the people.
    pub fn set(&self) -> (SkillSet, Vec<Arc<Hand>>) {
        let mut performances = Vec::new();
        for person in 0..self.people {
            for repeat in 0..self.repeats {
                let rng = &mut seed::at(seed::named(self.seed, "skill"), person, repeat);
                // Strides through the people, so that every quarter has good and bad ones.
                let rank = (person * 5 + 2) % self.people.max(1);
                let base = 0.1 + 0.8 * rank as f64 / (self.people.max(2) - 1) as f64;
                let skill = (base + 0.08 * normal(rng)).clamp(0., 1.);
                let drift = self.drift * normal(rng);
                performances.push(Performance { seed: self.seed, person, repeat, skill, drift, size: self.size });
            }
        }
        let hands: Vec<Arc<Hand>> = performances.par_iter().map(|one| Arc::new(Hand::new(*one))).collect();
        let skill: Vec<f64> = performances.iter().map(|one| one.skill).collect();
        let (rows, cut) = self.judged(&skill);
        let graph = PairGraph::new(skill.len(), &rows).expect("judged leaves no cycle");
        let similar = graph.similar();
        let quarters = 4.min(self.people.max(1));
        let fold = |k: u64| {
            let held = |video: &usize| *video as u64 / self.repeats.max(1) * quarters / self.people.max(1) == k;
            let both = |pair: &&Pair| !held(&pair.0) && !held(&pair.1);
            Fold {
                train: rows.iter().filter(both).copied().collect(),
                similar: similar.iter().filter(both).copied().collect(),
                test: rows.iter().filter(|pair| !both(pair)).copied().collect(),
                held: (0..skill.len()).filter(held).collect(),
            }
        };
        let name = |i: usize| {
            let one = &performances[i];
            format!("{}{}", char::from(b'A' + (one.person % 26) as u8), one.repeat + 1)
        };
        let mut notes = vec![format!("drawn by code from seed {}: no films", self.seed)];
        if cut > 0 {
            notes.push(format!("{cut} judged pairs that went round in a cycle were taken out"));
        }
        let set = SkillSet {
            name: "drawn".into(),
            videos: (0..skill.len()).map(name).collect(),
            folds: (0..quarters).map(fold).collect(),
            tasks: vec![SkillTask { name: "Drawn".into(), videos: 0..skill.len(), rows, graph, published: None }],
            published: None,
            notes,
        };
        (set, hands)
    }

    /// The pairs on which all workers agree (better, worse), without those that would make a cycle, and how many those
    /// were.
    fn judged(&self, skill: &[f64]) -> (Vec<Pair>, usize) {
        let mut rows = Vec::new();
        for i in 0..skill.len() {
            for j in i + 1..skill.len() {
                let rng = &mut seed::at(seed::named(self.seed, "workers"), i as u64, j as u64);
                let first = (0..self.workers)
                    .filter(|_| skill[i] + self.doubt * normal(rng) > skill[j] + self.doubt * normal(rng))
                    .count() as u64;
                if first == self.workers {
                    rows.push((i, j));
                } else if first == 0 {
                    rows.push((j, i));
                }
            }
        }
        let mut cut = 0;
        while let Err(tangle) = PairGraph::new(skill.len(), &rows) {
            for cycle in &tangle.cycles {
                // The least plausible judgement of the round.
                let around = cycle.iter().zip(cycle.iter().cycle().skip(1)).map(|(&a, &b)| (a, b));
                let worst = around.min_by(|x, y| (skill[x.0] - skill[x.1]).total_cmp(&(skill[y.0] - skill[y.1])));
                rows.retain(|pair| Some(*pair) != worst);
                cut += 1;
            }
        }
        (rows, cut)
    }

    /// The set with clips that read through `cache`.
    pub fn clips(&self, cache: &Arc<Cache>) -> (SkillSet, Vec<Clip>) {
        let (set, hands) = self.set();
        let clip = |(i, hand): (usize, Arc<Hand>)| {
            Clip::drawn(set.title(i), i as u32, hand as Arc<dyn crate::video::Film>, cache.clone())
        };
        let clips = hands.into_iter().enumerate().map(clip).collect();
        (set, clips)
    }
}
