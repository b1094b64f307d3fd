//! What was found, as sections of a report.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{Clusters, FaceScores, JudgedPairs, fold_of, rates};
use crate::datasets::Photo;
use crate::datasets::faces::{FaceLayout, FaceSet};
use crate::metrics::mean;
use crate::metrics::verification::{self, RocPoint};
use crate::report::{Frame, GalleryRow, Report, Series, Table, Tile};
use crate::say::count;
use crate::tasks::brought;

/// Wrong pairs of each kind that are shown.
const PAIRS: usize = 12;
/// Clusters that are shown, and images of each.
const CLUSTERS: (usize, usize) = (16, 14);

/// Adds the pictures to a report: ROC, distances and wrong pairs, or the ROC over all pairs where there is no list; the
/// largest clusters. `far` is the false accept rate that VAL was taken at.
pub fn show(report: &mut Report, set: &FaceSet, scored: &FaceScores, far: f64) -> Result<()> {
    if let Some(judged) = &scored.judged {
        curves(report, judged, far);
        wrong_pairs(report, set, judged)?;
    } else if let Some(pairs) = &scored.pairs {
        report.lines("ROC over all pairs of the test faces", "", "FAR", "VAL", &[roc(&pairs.roc())]);
    }
    if let Some(clusters) = &scored.clusters {
        strips(report, set, clusters)?;
    }
    Ok(())
}

fn roc(curve: &[RocPoint]) -> Series {
    Series { name: "ROC".into(), points: curve.iter().map(|point| (point.far, point.val)).collect() }
}

/// ROC with its operating points, distances of the pairs.
fn curves(report: &mut Report, judged: &JudgedPairs, far: f64) {
    let JudgedPairs { dist, same, .. } = judged;
    let curve = verification::roc(dist, same);
    let mut points = vec![("best accuracy".to_string(), judged.threshold())];
    let finite = |val: &verification::ValAtFar| -> Vec<f64> {
        val.thresholds.iter().copied().filter(|t| t.is_finite()).collect()
    };
    if let Some(finite) = judged.val.as_ref().ok().map(finite).filter(|finite| !finite.is_empty()) {
        points.push((format!("FAR {far}"), mean(&finite)));
    }
    let cross = |(name, threshold): &(String, f64)| {
        let (x, y) = rates(dist, same, *threshold);
        let (left, right, low, high) = ((x - 0.01).max(0.), (x + 0.01).min(1.), (y - 0.02).max(0.), (y + 0.02).min(1.));
        Series { name: name.clone(), points: vec![(x, low), (x, high), (x, y), (left, y), (right, y)] }
    };
    report.lines(
        "ROC",
        "VAL (same pairs accepted) against FAR (different pairs accepted); the crosses are operating points.",
        "FAR",
        "VAL",
        &[vec![roc(&curve)], points.iter().map(cross).collect()].concat(),
    );
    let strict = curve.iter().filter(|point| point.far > 0.).map(|point| (point.far.log10(), point.val)).collect();
    report.lines(
        "ROC at small false accept rates",
        "The same curve over the logarithm of FAR.",
        "log10 FAR",
        "VAL",
        &[Series { name: "ROC".into(), points: strict }],
    );
    let row = |(name, threshold): &(String, f64)| {
        let (far, val) = rates(dist, same, *threshold);
        let numbers = [*threshold, far, val].map(|x| format!("{x:.4}"));
        [vec![format!("{name} (mean of the folds' thresholds)")], numbers.to_vec()].concat()
    };
    report.table(
        "Operating points",
        "Rates over all pairs at one threshold.",
        &Table::new(["point", "threshold", "FAR", "VAL"], points.iter().map(row)),
    );
    let of = |kind: bool| dist.iter().zip(same).filter(|(_, same)| **same == kind).map(|(d, _)| *d).collect();
    report.histogram(
        "Distances of the pairs",
        "Squared distance; 0 is one point, 4 the opposite one.",
        "squared distance",
        &[("same person".into(), of(true)), ("different people".into(), of(false))],
        60,
    );
}

fn tile(set: &FaceSet, photo: &Photo, right: bool) -> Result<Tile> {
    let caption = set.people.get(photo.person as usize - 1).cloned().unwrap_or_default();
    let frame = if right { Frame::Right } else { Frame::Wrong };
    brought::tile(photo, caption, frame)
}

/// The pairs that were judged wrong, the worst first.
fn wrong_pairs(report: &mut Report, set: &FaceSet, judged: &JudgedPairs) -> Result<()> {
    let JudgedPairs { dist, same, .. } = judged;
    let threshold = |i: usize| judged.folds.threshold[fold_of(set, i)];
    for (kind, heading, what) in [
        (true, "False rejects", "One person, called two: the farthest first."),
        (false, "False accepts", "Two people, called one: the nearest first."),
    ] {
        let is_wrong = |i: &usize| same[*i] == kind && (dist[*i] < threshold(*i)) != kind;
        let mut wrong: Vec<usize> = (0..same.len()).filter(is_wrong).collect();
        let total = wrong.len();
        wrong.sort_by(|&a, &b| dist[a].total_cmp(&dist[b]));
        if kind {
            wrong.reverse();
        }
        let row = |&i: &usize| -> Result<GalleryRow> {
            let shown = |place: usize| {
                let photo = match set.layout {
                    // A video is shown by its first frame.
                    FaceLayout::YoutubeFaces => set.test.iter().find(|photo| photo.tracklet == place as i64 + 1),
                    _ => set.test.get(place),
                };
                tile(set, photo.context("a pair without a photo")?, false)
            };
            let title = format!("{:.3} (threshold {:.2})", dist[i], threshold(i));
            Ok(GalleryRow { title, tiles: vec![shown(set.pairs[i].left)?, shown(set.pairs[i].right)?] })
        };
        let rows = wrong.iter().take(PAIRS).map(row).collect::<Result<Vec<_>>>()?;
        report.gallery(heading, &format!("{what} {total} in all, {} shown.", rows.len()), &rows);
    }
    Ok(())
}

/// The largest clusters as strips.
fn strips(report: &mut Report, set: &FaceSet, clusters: &Clusters) -> Result<()> {
    let mut members: BTreeMap<usize, Vec<&Photo>> = BTreeMap::new();
    clusters.of.iter().zip(&clusters.rows).for_each(|(&of, &row)| members.entry(of).or_default().push(&set.test[row]));
    let (mut members, alone): (Vec<_>, Vec<_>) = members.into_values().partition(|photos| photos.len() > 1);
    members.sort_by_key(|photos| std::cmp::Reverse(photos.len()));
    let row = |photos: &Vec<&Photo>| -> Result<GalleryRow> {
        let mut votes = BTreeMap::new();
        photos.iter().for_each(|photo| *votes.entry(photo.person).or_insert(0_usize) += 1);
        let person = votes.iter().max_by_key(|(person, count)| (**count, -**person)).map_or(0, |(person, _)| *person);
        let tiles = photos.iter().take(CLUSTERS.1).map(|photo| tile(set, photo, photo.person == person));
        let title = format!("{} of {}", count(photos.len(), "image"), count(votes.len(), "person"));
        Ok(GalleryRow { title, tiles: tiles.collect::<Result<_>>()? })
    };
    let rows = members.iter().take(CLUSTERS.0).map(row).collect::<Result<Vec<_>>>()?;
    report.gallery(
        "Clusters",
        &format!(
            "The largest clusters, up to {} images of each, framed red where the person is not the cluster's most frequent one; {} by themselves.",
            CLUSTERS.1,
            count(alone.len(), "image")
        ),
        &rows,
    );
    Ok(())
}
