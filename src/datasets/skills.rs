//! Sets of videos with judged pairs, for skill determination (1703.09913): tasks, folds, and their card.

use std::ops::Range;

use anyhow::{Result, ensure};
use serde::Serialize;

use serde_json::json;

use super::Card;
use super::pair_graph::PairGraph;

/// A pair (better, worse), or, for similar ones, (lower, higher), by place in [`SkillSet::videos`].
pub type Pair = (usize, usize);

/// A task: videos that were compared with each other.
#[derive(Debug, Clone)]
pub struct SkillTask {
    /// Its folder's name, e.g. `Knot_Tying`.
    pub name: String,
    /// Its videos' places in the set.
    pub videos: Range<usize>,
    /// The judged pairs as released: repeated rows stand as often as they came.
    pub rows: Vec<Pair>,
    /// The judged pairs; counts videos from 0 at `videos.start`.
    pub graph: PairGraph,
    /// The paper's row of Table 1, where it has one.
    pub published: Option<TaskCounts>,
}

/// A row of Table 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TaskCounts {
    /// How many videos it has.
    pub videos: usize,
    /// Strict pairs, rows as released.
    pub rows: usize,
    /// Consistent, similar and all kept pairs in per cent of all pairs.
    pub percent: [usize; 3],
}

/// One round of cross-validation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fold {
    /// Ψ to train on, repeated rows kept.
    pub train: Vec<Pair>,
    /// Φ to train on: both videos are training videos.
    pub similar: Vec<Pair>,
    /// Ψ to test on: at least one video is held out.
    pub test: Vec<Pair>,
    /// The videos held out, ascending.
    pub held: Vec<usize>,
}

/// A data set of the paper's sense: tasks that are trained together, with their folds.
#[derive(Debug, Clone)]
pub struct SkillSet {
    /// E.g. `surgery`.
    pub name: String,
    /// All videos by name, task after task.
    pub videos: Vec<String>,
    /// The tasks that are trained together.
    pub tasks: Vec<SkillTask>,
    /// Who trains and who is tested, fold by fold.
    pub folds: Vec<Fold>,
    /// The release's pairs of each fold, where it is a set of the paper: strict to train, similar to train, test.
    pub published: Option<Vec<[usize; 3]>>,
    /// What the reader of a score must know.
    pub notes: Vec<String>,
}

impl SkillTask {
    /// All pairs that its videos make.
    pub fn all_pairs(&self) -> usize {
        self.videos.len() * self.videos.len().saturating_sub(1) / 2
    }

    /// Φ, by place in the set.
    pub fn similar(&self) -> Vec<Pair> {
        let shift = self.videos.start;
        self.graph.similar().into_iter().map(|(a, b)| (a + shift, b + shift)).collect()
    }

    /// Consistent, similar and all kept pairs in per cent of all pairs, as Table 1 has them: repeated rows count.
    pub fn percent(&self) -> [f64; 3] {
        let (strict, similar) = (self.rows.len() as f64, self.graph.similar().len() as f64);
        [strict, similar, strict + similar].map(|count| 100. * count / self.all_pairs().max(1) as f64)
    }
}

impl SkillSet {
    /// The task of a video.
    pub fn task(&self, video: usize) -> &SkillTask {
        let task = self.tasks.iter().find(|task| task.videos.contains(&video));
        task.expect("every video is of a task")
    }

    /// `Task/video`.
    pub fn title(&self, video: usize) -> String {
        format!("{}/{}", self.task(video).name, self.videos[video])
    }

    /// The separation of each of `pairs`, each within one task (see [`PairGraph::separation`]).
    pub fn separation(&self, pairs: &[Pair]) -> Vec<Option<usize>> {
        let mut separations = vec![None; pairs.len()];
        for task in &self.tasks {
            let inside: Vec<usize> = (0..pairs.len()).filter(|&i| task.videos.contains(&pairs[i].0)).collect();
            let shift = task.videos.start;
            let shifted: Vec<Pair> = inside.iter().map(|&i| (pairs[i].0 - shift, pairs[i].1 - shift)).collect();
            for (i, separation) in inside.into_iter().zip(task.graph.separation(&shifted)) {
                separations[i] = separation;
            }
        }
        separations
    }

    /// Φ of fold `fold` that is not trained on: similar pairs with at least one held-out video.
    pub fn similar_held(&self, fold: usize) -> Vec<Pair> {
        let held = |video: usize| self.folds[fold].held.binary_search(&video).is_ok();
        self.tasks.iter().flat_map(SkillTask::similar).filter(|&(a, b)| held(a) || held(b)).collect()
    }

    /// The folds `wanted` (counted from 1), all where none are named; from 0.
    ///
    /// # Errors
    /// Where it has no such fold, or they are out of order.
    pub fn chosen(&self, wanted: Option<&[usize]>) -> Result<Vec<usize>> {
        let (name, all) = (&self.name, self.folds.len());
        let chosen = wanted.map_or_else(|| (1..=all).collect(), <[usize]>::to_vec);
        let known = chosen.iter().all(|fold| (1..=all).contains(fold)) && chosen.is_sorted_by(|a, b| a < b);
        ensure!(
            known && !chosen.is_empty(),
            "--folds: {name} has folds 1 to {all}: say some of them in order, e.g. 1,2"
        );
        Ok(chosen.into_iter().map(|fold| fold - 1).collect())
    }

    /// The test pairs of all folds, one after another: what an accuracy pools.
    pub fn pooled(&self) -> Vec<Pair> {
        self.folds.iter().flat_map(|fold| fold.test.iter().copied()).collect()
    }

    /// How many pooled test pairs have separation 1, 2, ...
    pub fn separation_counts(&self) -> Vec<usize> {
        let separations = self.separation(&self.pooled());
        let most = separations.iter().flatten().max().copied().unwrap_or(0);
        (1..=most).map(|n| separations.iter().filter(|&&separation| separation == Some(n)).count()).collect()
    }

    /// Pairs of each fold: strict to train, similar to train, strict to test.
    pub fn fold_counts(&self) -> Vec<[usize; 3]> {
        self.folds.iter().map(|fold| [fold.train.len(), fold.similar.len(), fold.test.len()]).collect()
    }

    /// What differs from the published set of this name, a line each: a task's videos, rows and percentages, a fold's
    /// pairs. Nothing of a set that the paper has not.
    pub fn unlike_published(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for task in &self.tasks {
            let Some(published) = task.published else { continue };
            let ours = (task.videos.len(), task.rows.len(), task.percent().map(|share| share.round() as usize));
            let theirs = (published.videos, published.rows, published.percent);
            if ours != theirs {
                lines.push(format!(
                    "not the published {}: {} videos, {} rows, {:?} % strict, similar and both; published are {}, {}, {:?}",
                    task.name, ours.0, ours.1, ours.2, theirs.0, theirs.1, theirs.2
                ));
            }
        }
        if let Some(published) = &self.published {
            let ours = self.fold_counts();
            if ours.len() != published.len() {
                lines.push(format!(
                    "not the published folds: {} of them, published are {}",
                    ours.len(),
                    published.len()
                ));
            }
            for (k, (ours, theirs)) in
                ours.iter().zip(published).enumerate().filter(|(_, (ours, theirs))| ours != theirs)
            {
                lines.push(format!(
                    "not the published fold {}: {ours:?} pairs strict to train, similar to train, to test; published are {theirs:?}",
                    k + 1
                ));
            }
        }
        lines
    }

    /// Whether it is a set of the paper and every task and fold has the published counts.
    pub fn is_published(&self) -> bool {
        let known = self.published.is_some() && self.tasks.iter().all(|task| task.published.is_some());
        known && self.unlike_published().is_empty()
    }

    /// The data card: Table 1 counted, folds and separations.
    pub fn card(&self) -> Card {
        let mut card = Card::new(&self.name, "judged pairs of videos", self.is_published(), &self.notes);
        let task = |task: &SkillTask| {
            json!({
                "name": task.name,
                "videos": task.videos.len(),
                "all_pairs": task.all_pairs(),
                "strict_rows": task.rows.len(),
                "strict_pairs": task.graph.pairs().count(),
                "similar": task.graph.similar().len(),
                "percent": task.percent(),
                "published": task.published,
            })
        };
        let row = |task: &SkillTask| {
            let counts = [task.videos.len(), task.all_pairs(), task.rows.len(), task.graph.pairs().count()];
            let counts = counts.into_iter().chain([task.graph.similar().len()]).map(|n| n.to_string());
            let percent = task.percent();
            let beside = |i: usize| match task.published {
                Some(published) => format!("{:.1} (paper {})", percent[i], published.percent[i]),
                None => format!("{:.1}", percent[i]),
            };
            [task.name.clone()].into_iter().chain(counts).chain((0..3).map(beside)).collect()
        };
        card.table(
            &["task", "videos", "pairs", "rows", "unique", "similar", "strict %", "similar %", "total %"],
            self.tasks.iter().map(row),
        );
        let (folds, pooled, separations) = (self.fold_counts(), self.pooled().len(), self.separation_counts());
        let numbered = folds.iter().enumerate();
        let rows = numbered.map(|(fold, counts)| [fold + 1].iter().chain(counts).map(usize::to_string).collect());
        let last = vec!["pooled".into(), String::new(), String::new(), pooled.to_string()];
        card.table(&["fold", "strict to train", "similar to train", "test"], rows.chain([last]));
        let counts = separations.iter().enumerate().map(|(i, count)| format!("{}: {count}", i + 1));
        card.line(format!("test pairs by separation (longest path): {}", counts.collect::<Vec<_>>().join(", ")));
        card.count("tasks", self.tasks.iter().map(task).collect::<Vec<_>>());
        card.count("folds", folds);
        card.count("pooled", pooled);
        card.count("separations", separations);
        card
    }
}
