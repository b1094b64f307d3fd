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

const PEOPLE: u64 = 8;
/// Videos of each.
const REPEATS: u64 = 4;
/// Who judge a pair; it counts where all agree (the paper's four).
const WORKERS: usize = 4;
/// Deviation of a worker's impression of a video's skill.
const DOUBT: f64 = 0.22;
/// Deviation of the drift within a video.
const DRIFT: f64 = 0.4;
const FOLDS: u64 = 4;

/// 8 people with 4 videos each.
#[derive(Debug, Clone, PartialEq)]
pub struct Hands {
    /// Pixels down and across.
    pub size: (u32, u32),
    /// Everything drawn follows from this.
    pub seed: u64,
}

impl Default for Hands {
    /// The built-in set: 40x52 pixels.
    fn default() -> Hands {
        Hands { size: (40, 52), seed: 1 }
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
        let &Hands { size, seed } = self;
        let played = |i: u64| {
            let (person, repeat) = (i / REPEATS, i % REPEATS);
            let rng = &mut seed::at(seed::named(seed, "skill"), person, repeat);
            // Strides through the people, so that every quarter has good and bad ones.
            let base = 0.1 + 0.8 * ((person * 5 + 2) % PEOPLE) as f64 / (PEOPLE - 1) as f64;
            let skill = (base + 0.08 * normal(rng)).clamp(0., 1.);
            let drift = DRIFT * normal(rng);
            Arc::new(Hand::new(Performance { seed, person, repeat, skill, drift, size }))
        };
        let hands: Vec<Arc<Hand>> = (0..PEOPLE * REPEATS).into_par_iter().map(played).collect();
        let skill: Vec<f64> = hands.iter().map(|hand| hand.performance.skill).collect();
        let (rows, cut) = self.judged(&skill);
        let graph = PairGraph::new(skill.len(), &rows).expect("judged leaves no cycle");
        let similar = graph.similar();
        let fold = |k: u64| {
            let held = |video: &usize| *video as u64 / REPEATS * FOLDS / PEOPLE == k;
            let both = |pair: &&Pair| !held(&pair.0) && !held(&pair.1);
            Fold {
                train: rows.iter().filter(both).copied().collect(),
                similar: similar.iter().filter(both).copied().collect(),
                test: rows.iter().filter(|pair| !both(pair)).copied().collect(),
                held: (0..skill.len()).filter(held).collect(),
            }
        };
        let name = |hand: &Arc<Hand>| {
            format!("{}{}", char::from(b'A' + hand.performance.person as u8), hand.performance.repeat + 1)
        };
        let mut notes = vec![format!("drawn by code from seed {seed}: no films")];
        if cut > 0 {
            notes.push(format!("{cut} judged pairs that went round in a cycle were taken out"));
        }
        let set = SkillSet {
            name: "drawn".into(),
            videos: hands.iter().map(name).collect(),
            folds: (0..FOLDS).map(fold).collect(),
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
                let mut seen = |video: usize| skill[video] + DOUBT * normal(rng);
                match (0..WORKERS).filter(|_| seen(i) > seen(j)).count() {
                    WORKERS => rows.push((i, j)),
                    0 => rows.push((j, i)),
                    _ => {}
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
        let clips = hands.into_iter().enumerate();
        let clips = clips.map(|(i, hand)| Clip::drawn(set.title(i), i as u32, hand, cache.clone())).collect();
        (set, clips)
    }
}
