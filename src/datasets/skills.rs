//! Sets of videos with judged pairs, for skill determination (1703.09913): tasks, folds, and their card.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

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
    pub published: Option<Published>,
}

/// A row of Table 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Videos.
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
    /// Its tasks.
    pub tasks: Vec<SkillTask>,
    /// Its folds.
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

    /// Counts for the data verb.
    pub fn card(&self) -> SkillCard {
        let task = |task: &SkillTask| TaskCard {
            name: task.name.clone(),
            videos: task.videos.len(),
            all_pairs: task.all_pairs(),
            strict_rows: task.rows.len(),
            strict_pairs: task.graph.pairs().count(),
            similar: task.graph.similar().len(),
            percent: task.percent(),
            published: task.published,
        };
        SkillCard {
            name: self.name.clone(),
            tasks: self.tasks.iter().map(task).collect(),
            folds: self.fold_counts(),
            pooled: self.pooled().len(),
            separations: self.separation_counts(),
            notes: self.notes.clone(),
        }
    }
}

/// What a set holds; printed by `Display`.
#[derive(Debug, Clone, Serialize)]
pub struct SkillCard {
    /// The set's name.
    pub name: String,
    /// Table 1.
    pub tasks: Vec<TaskCard>,
    /// Pairs a fold: strict to train, similar to train, strict to test.
    pub folds: Vec<[usize; 3]>,
    /// Test pairs of all folds.
    pub pooled: usize,
    /// Pooled test pairs of separation 1, 2, ...
    pub separations: Vec<usize>,
    /// The set's notes.
    pub notes: Vec<String>,
}

/// A row of Table 1, counted.
#[derive(Debug, Clone, Serialize)]
pub struct TaskCard {
    /// The task.
    pub name: String,
    /// Its videos.
    pub videos: usize,
    /// All pairs that they make.
    pub all_pairs: usize,
    /// Strict pairs as released.
    pub strict_rows: usize,
    /// Strict pairs, each once.
    pub strict_pairs: usize,
    /// Similar pairs by the paper's rule.
    pub similar: usize,
    /// Strict, similar, both, in per cent of all pairs.
    pub percent: [f64; 3],
    /// The paper's row.
    pub published: Option<Published>,
}

impl fmt::Display for SkillCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
        let right = |table: &mut Table| {
            table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        };
        writeln!(f, "{}", self.name)?;
        let mut table = Table::new();
        table.load_preset(UTF8_HORIZONTAL_ONLY);
        table.set_header(["task", "videos", "pairs", "rows", "unique", "similar", "strict %", "similar %", "total %"]);
        for task in &self.tasks {
            let counts =
                [task.videos, task.all_pairs, task.strict_rows, task.strict_pairs, task.similar].map(|n| n.to_string());
            let beside = |i: usize| match task.published {
                Some(published) => format!("{:.1} (paper {})", task.percent[i], published.percent[i]),
                None => format!("{:.1}", task.percent[i]),
            };
            table.add_row([task.name.clone()].into_iter().chain(counts).chain((0..3).map(beside)));
        }
        right(&mut table);
        writeln!(f, "{table}")?;
        let mut table = Table::new();
        table.load_preset(UTF8_HORIZONTAL_ONLY);
        table.set_header(["fold", "strict to train", "similar to train", "test"]);
        for (fold, counts) in self.folds.iter().enumerate() {
            table.add_row([(fold + 1).to_string()].into_iter().chain(counts.map(|n| n.to_string())));
        }
        table.add_row(["pooled", "", "", &self.pooled.to_string()]);
        right(&mut table);
        writeln!(f, "{table}")?;
        let counts: Vec<String> =
            self.separations.iter().enumerate().map(|(i, count)| format!("{}: {count}", i + 1)).collect();
        writeln!(f, "test pairs by separation (longest path): {}", counts.join(", "))?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
