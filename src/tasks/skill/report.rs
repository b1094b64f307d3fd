//! A report's pictures: ranking with frames, score over time, the graph of pairs and its errors by separation.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Ranked, SkillData, Taken, VideoScores, by_split};
use crate::files::Held;
use crate::metrics::mean;
use crate::outputs::{check_out, hold_file, write_json};
use crate::report::graph::{Edge, Node};
use crate::report::{Frame, GalleryRow, Report, Series, Table, Tile};
use crate::run::Run;
use crate::say::{answer, count, print, print_lines};
use crate::tasks::Evaluation;

/// Pictures of a video in its row.
const PICTURES: usize = 6;

/// Some videos, best first, with their places from 1: equal scores share the first's.
fn placed(ranked: &[Ranked]) -> impl Iterator<Item = (usize, &Ranked)> {
    ranked.iter().map(move |one| (1 + ranked.partition_point(|other| other.score > one.score), one))
}

/// The ranking as a table, with the mean scores of `splits` splits (fewer where there are fewer snippets).
pub fn ranking(names: &[String], ranked: &[Ranked], splits: usize) -> Table {
    let splits = splits.min(ranked.iter().map(|one| one.snippets.len()).min().unwrap_or(1));
    let head = ["place", "video", "score"].map(String::from).into_iter();
    let row = |(place, one): (usize, &Ranked)| {
        let splits = by_split(&one.snippets, splits).into_iter().map(|score| format!("{score:+.2}"));
        [place.to_string(), names[one.video].clone(), format!("{:+.3}", one.score)].into_iter().chain(splits).collect()
    };
    Table::new(head.chain((1..=splits).map(|k| format!("split {k}"))), placed(ranked).map(row))
}

/// What is written where a ranking goes to a file.
const RANKING: &str = "ranking";

/// The file that `--out` names, if it does, held until what is given is dropped.
///
/// # Errors
/// As [`check_out`] and [`hold_file`].
pub fn held(out: Option<&Path>) -> Result<Option<(PathBuf, Option<Held>)>> {
    let Some(out) = out else { return Ok(None) };
    let out = check_out(out, RANKING)?;
    let held = hold_file(&out)?;
    Ok(Some((out, held)))
}

/// Prints who's best, and writes it as JSON where `out` says so: a video's score, those of its splits and its snippets.
///
/// # Errors
/// Where `out` cannot be written.
pub fn announce(names: &[String], ranked: &[Ranked], splits: usize, out: Option<&Path>) -> Result<()> {
    print_lines(ranking(names, ranked, splits))?;
    print("Scores rank videos of the task that was trained on; across tasks they mean nothing.")?;
    let row = |one: &Ranked| {
        let splits = by_split(&one.snippets, splits.min(one.snippets.len()));
        json!({"video": names[one.video], "score": one.score, "splits": splits, "snippets": one.snippets})
    };
    let value = Value::Array(ranked.iter().map(row).collect());
    answer(&value)?;
    let Some(out) = out else { return Ok(()) };
    write_json(out, RANKING, &value)?;
    print(format!("ranking: {}", out.display()))
}

impl VideoScores {
    /// Scores, figures, protocol and pictures of networks that were trained on `splits` splits with `margin`.
    ///
    /// # Errors
    /// A frame that cannot be read, by name.
    pub fn evaluation(
        &self,
        data: &SkillData,
        sigma: usize,
        alpha: f64,
        splits: usize,
        margin: f64,
        run: &Run,
    ) -> Result<Evaluation> {
        let set = data.set()?;
        let (points, figures) = self.figures(set, alpha, sigma);
        let mut found = Evaluation { scores: self.named(set, alpha, splits, margin), ..Evaluation::default() };
        found.tables = [vec![("Scores".into(), Table::scores(&found.scores))], figures].concat();
        found.scores.extend(points);
        found.protocol = self.protocol(set, sigma, alpha, splits, margin);
        let (pairs, share) = (self.pairs(set), self.accuracy(set, alpha, usize::MAX, Taken::Start));
        found.report.answers(&format!(
            "{} of {} are put in the right order ({:.1} %).",
            (share * pairs as f64).round(),
            count(pairs, "test pair"),
            100. * share
        ));
        if run.leads() {
            show(&mut found.report, data, self, alpha, splits)?;
        }
        Ok(found)
    }
}

/// Adds the pictures of an evaluation to `report`.
///
/// # Errors
/// A frame that cannot be read, by name.
fn show(report: &mut Report, data: &SkillData, scored: &VideoScores, alpha: f64, splits: usize) -> Result<()> {
    let (set, clips) = (data.set()?, data.clips()?);
    let held = scored.held_out(set, alpha);
    for task in &set.tasks {
        let inside: Vec<Ranked> = held.iter().filter(|one| task.videos.contains(&one.video)).cloned().collect();
        let title = |(place, one): (usize, &Ranked)| format!("{place}. {} ({:+.2})", set.videos[one.video], one.score);
        let row = |(place, one): (usize, &Ranked)| {
            let clip = &clips[one.video];
            let tile = |i: usize| {
                let frame = i * (clip.frames() - 1) / (PICTURES - 1);
                Ok(Tile { image: (*clip.frame(frame)?).clone(), caption: frame.to_string(), frame: Frame::None })
            };
            Ok(GalleryRow { title: title((place, one)), tiles: (0..PICTURES).map(tile).collect::<Result<_>>()? })
        };
        let rows = placed(&inside).filter(|_| !clips.is_empty()).map(row).collect::<Result<Vec<_>>>()?;
        let note = "From best to worst; each video scored by the networks that did not see it, in deviations from those networks' mean over all videos. Frames from the first to the last.";
        report.gallery(&format!("Ranking: {}", task.name), note, &rows);

        let over_time = |(place, one)| Series { name: title((place, one)), points: over_time(&one.snippets) };
        let series: Vec<Series> = placed(&inside).map(over_time).collect();
        let values = || series.iter().flat_map(|one| one.points.iter().map(|point| point.1));
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let note = format!(
            "Every video from its first frame to its last, best first: the scores of its snippets, each the mean of five neighbours. All on one scale, {low:+.2} to {high:+.2}; dashed: 0, those networks' mean over all videos."
        );
        report.small_lines(&format!("Score over time: {}", task.name), &note, &series);
        report.table(&format!("Score by split: {}", task.name), "", &ranking(&set.videos, &inside, splits));

        let of = |(video, column): (usize, usize)| Node { name: set.videos[video].clone(), column };
        let nodes: Vec<Node> = task.videos.clone().zip(task.graph.depths()).map(of).collect();
        let score =
            |video: usize| inside.iter().find(|one| one.video == video + task.videos.start).map(|one| one.score);
        let pairs: Vec<(usize, usize)> = task.graph.pairs().collect();
        let neighbours =
            pairs.iter().zip(task.graph.separation(&pairs)).filter(|(_, separation)| *separation == Some(1));
        let edge = |(&(from, to), _)| Edge { from, to, right: score(from).zip(score(to)).map(|(a, b)| a > b) };
        let note = "Better videos to the left, by depth; only pairs with nothing between them are drawn. Solid: ranked right by the scores above; dashed: wrong.";
        report.graph(
            &format!("Graph of pairs: {}", task.name),
            note,
            &nodes,
            &neighbours.map(edge).collect::<Vec<_>>(),
        );
    }
    let row = |(n, (right, all)): (usize, (usize, usize))| {
        let share = if all == 0 { "–".into() } else { format!("{:.1}", 100. * right as f64 / all as f64) };
        vec![(n + 1).to_string(), all.to_string(), (all - right).to_string(), share]
    };
    let head = ["separation", "test pairs", "errors", "accuracy %"];
    let table = Table::new(head, scored.by_separation(set, alpha).into_iter().enumerate().map(row));
    let note = "Separation: the length of the longest path from the better to the worse video.";
    report.table("Errors by separation", note, &table);
    Ok(())
}

/// The scores of a video's snippets over the share of it that is past, each the mean of five neighbours.
fn over_time(snippets: &[f64]) -> Vec<(f64, f64)> {
    let smooth = |i: usize| mean(&snippets[i.saturating_sub(2)..(i + 3).min(snippets.len())]);
    (0..snippets.len()).map(|i| ((i as f64 + 0.5) / snippets.len() as f64, smooth(i))).collect()
}
