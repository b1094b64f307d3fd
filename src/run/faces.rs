//! Face sets embedded, judged and shown: verification, recognition, clustering (1503.03832, Sections 4 and 5).

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rand::seq::index::sample;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::embed::average_by;
use super::report::{Frame, GalleryRow, Report, Series, Tile};
use crate::datasets::faces::{FaceLayout, FaceSet};
use crate::distance::{Metric, normalize};
use crate::metrics::all_pairs::{AllPairs, val_over_splits};
use crate::metrics::verification::{self, Folds, ValAtFar};
use crate::metrics::{clustering, recognition};

/// Evaluation by name; the published numbers of open implementations differ in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Squared distance of the embeddings (the paper)
    Plain,
    /// Embeddings of an image and its mirror image averaged, unit again
    FlipAveraged,
    /// The mean embedding of the other folds' images subtracted, unit again
    MeanSubtracted,
    /// Both
    FlipMeanSubtracted,
}

impl Variant {
    /// Whether mirror images are embedded too.
    pub fn flips(self) -> bool {
        matches!(self, Variant::FlipAveraged | Variant::FlipMeanSubtracted)
    }

    /// Whether a mean is subtracted.
    pub fn centres(self) -> bool {
        matches!(self, Variant::MeanSubtracted | Variant::FlipMeanSubtracted)
    }

    /// The name that a flag takes.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }
}

/// Pairs judged over the set's folds.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Each pair's squared distance when its fold is held out.
    pub dist: Vec<f64>,
    /// Whether each pair shows one person.
    pub same: Vec<bool>,
    /// Accuracy and thresholds.
    pub folds: Folds,
    /// VAL at the wished FAR; None where the pairs do not allow it, with why.
    pub val: std::result::Result<ValAtFar, String>,
    /// Over all held-out distances together.
    pub auc: f64,
    /// Over all held-out distances together.
    pub eer: f64,
}

impl Judged {
    /// Names and scores, fractions.
    pub fn scores(&self, prefix: &str, far: f64) -> Vec<(String, f64)> {
        let mut list = vec![
            (format!("{prefix}accuracy"), self.folds.mean),
            (format!("{prefix}accuracy std over folds"), self.folds.std),
            (format!("{prefix}accuracy SEM"), self.folds.sem),
            (format!("{prefix}AUC"), self.auc),
            (format!("{prefix}EER"), self.eer),
        ];
        if let Ok(val) = &self.val {
            list.push((format!("{prefix}VAL at FAR {far}"), val.val));
            list.push((format!("{prefix}VAL std over folds"), val.std));
            list.push((format!("{prefix}FAR on held-out folds"), val.far));
        }
        list
    }
}

/// Judges the set's pairs by distances that may depend on the fold that is held out: `dist(f)`, one a pair.
pub fn judge_by(set: &FaceSet, far: f64, dist: impl Fn(usize) -> Vec<f64>) -> Judged {
    let same: Vec<bool> = set.pairs.iter().map(|pair| pair.same).collect();
    let all: Vec<Vec<f64>> = (0..set.folds).map(dist).collect();
    let folds = verification::folds_by(&same, set.folds, |f| all[f].clone());
    let val = verification::val_at_far_by(&same, set.folds, far, |f| all[f].clone()).map_err(|e| e.to_string());
    let each = same.len() / set.folds.max(1);
    let held: Vec<f64> = (0..same.len()).map(|i| all[(i / each.max(1)).min(set.folds - 1)][i]).collect();
    let (auc, eer) = (verification::auc(&held, &same), verification::equal_error_rate(&held, &same));
    Judged { dist: held, same, folds, val, auc, eer }
}

/// Judges the set's pairs by its test photos' embeddings `x` `[N, D]`, unit rows.
///
/// # Errors
/// Where the set has no pairs, or the variant does not fit the set.
pub fn judge(set: &FaceSet, x: &Tensor, variant: Variant, far: f64) -> Result<Judged> {
    ensure!(!set.pairs.is_empty(), "{} has no list of pairs (pairs.txt)", set.name);
    let (left, right): (Vec<i64>, Vec<i64>) =
        set.pairs.iter().map(|pair| (pair.left as i64, pair.right as i64)).unzip();
    let (left, right) = (Tensor::from_slice(&left), Tensor::from_slice(&right));
    let numbers = |d: Tensor| Vec::<f64>::try_from(d.to_kind(Kind::Double)).unwrap_or_default();
    if set.layout == FaceLayout::YoutubeFaces {
        if variant.centres() {
            bail!("--variant {}: YouTube Faces takes plain or flip-averaged", variant.name());
        }
        let (mean, _) = average_by(x, &set.test.iter().map(|photo| photo.tracklet).collect::<Vec<_>>());
        let dist = numbers(mean_pair_distance(&mean.index_select(0, &left), &mean.index_select(0, &right)));
        return Ok(judge_by(set, far, |_| dist.clone()));
    }
    let distances =
        |x: &Tensor| numbers(Metric::SquaredEuclidean.paired(&x.index_select(0, &left), &x.index_select(0, &right)));
    if !variant.centres() {
        let dist = distances(x);
        return Ok(judge_by(set, far, |_| dist.clone()));
    }
    let each = (set.pairs.len() / set.folds) as i64;
    Ok(judge_by(set, far, |f| {
        // Both sides of all pairs of the other folds, an image as often as it is named (facenet's code).
        let held: Vec<i64> = (f as i64 * each..(f as i64 + 1) * each).collect();
        let keep = Tensor::ones([left.size()[0]], (Kind::Bool, tch::Device::Cpu));
        let keep = keep.index_fill(0, &Tensor::from_slice(&held), 0);
        let rows = Tensor::cat(&[left.masked_select(&keep), right.masked_select(&keep)], 0);
        let mean = x.index_select(0, &rows).mean_dim(0, true, None::<Kind>);
        distances(&normalize(&(x - mean)))
    }))
}

/// Unit rows `x` `[N, D]` as a variant that centres compares them where there are no folds: less the mean of all, unit
/// again. Other variants leave them as they are.
pub fn centred(x: &Tensor, variant: Variant) -> Tensor {
    if variant.centres() { normalize(&(x - x.mean_dim(0, true, None::<Kind>))) } else { x.shallow_clone() }
}

/// The mean squared distance over all pairs of frames of two videos, from the means `[P, D]` of their unit rows:
/// `mean ‖x_i - y_j‖² = 2 - 2 μ_x·μ_y`.
pub fn mean_pair_distance(left: &Tensor, right: &Tensor) -> Tensor {
    2. - 2. * (left * right).sum_dim_intlist(1, false, None::<Kind>)
}

/// How faces are recognised and clustered.
#[derive(Debug, Clone)]
pub struct Uses {
    /// False accept rate at which VAL is taken.
    pub far: f64,
    /// Images enrolled a person.
    pub enrolled: Vec<usize>,
    /// Neighbours that vote.
    pub neighbours: Vec<usize>,
    /// Squared distance up to which clusters are joined; None takes the folds' mean threshold, or 1.1.
    pub cut: Option<f64>,
    /// Most images that are clustered.
    pub clustered: usize,
    /// For what is drawn.
    pub seed: u64,
}

/// Clusters of some test photos.
#[derive(Debug, Clone)]
pub struct Clusters {
    /// Rows of the test photos.
    pub rows: Vec<usize>,
    /// The cluster of each.
    pub of: Vec<usize>,
}

/// What [`uses`] found.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// Names and scores, fractions.
    pub scores: Vec<(String, f64)>,
    /// How they were computed.
    pub protocol: Vec<String>,
    /// The agglomerative clusters.
    pub clusters: Option<Clusters>,
    /// All pairs of the test photos.
    pub pairs: Option<AllPairs>,
}

/// Everything beside the list of pairs: VAL over all pairs of the test photos, recognition, clustering. `x` `[N, D]`,
/// unit rows of the set's test photos; `threshold` is the folds' mean threshold where there are pairs.
pub fn uses(set: &FaceSet, x: &Tensor, threshold: Option<f64>, how: &Uses) -> Used {
    let mut used = Used::default();
    if set.layout == FaceLayout::YoutubeFaces {
        return used;
    }
    let people: Vec<i64> = set.test.iter().map(|photo| photo.person).collect();
    let pairs = AllPairs::new(x, &people);
    let (different, same) = pairs.pairs();
    if different > 0 && same > 0 {
        let at = pairs.val_at_far(how.far);
        used.scores.push((format!("all pairs VAL at FAR {}", how.far), at.val));
        used.scores.push(("all pairs AUC".into(), pairs.auc()));
        used.protocol.push(format!(
            "all pairs: {same} of one person, {different} of two among {} test images; threshold {:.4} gives FAR {:.2e}",
            people.len(),
            at.threshold,
            at.far
        ));
        if let Some((val, sem)) = val_over_splits(x, &people, 5, how.far) {
            used.scores.push((format!("five splits VAL at FAR {}", how.far), val));
            used.scores.push(("five splits VAL SEM".into(), sem));
            used.protocol.push("five splits: the test people dealt to five parts, all pairs of each".into());
        }
        used.pairs = Some(pairs);
    }
    for &enrolled in &how.enrolled {
        let (gallery, probes) = recognition::enrol(&people, enrolled, how.seed);
        let of = |rows: &[usize]| -> Vec<i64> { rows.iter().map(|&row| people[row]).collect() };
        let rows = |rows: &[usize]| Tensor::from_slice(&rows.iter().map(|&row| row as i64).collect::<Vec<_>>());
        for &k in how.neighbours.iter().filter(|&&k| k <= gallery.len() && !probes.is_empty()) {
            let answers = recognition::nearest(
                &x.index_select(0, &rows(&gallery)),
                &of(&gallery),
                &x.index_select(0, &rows(&probes)),
                k,
                Metric::SquaredEuclidean,
            );
            let right = answers.iter().zip(of(&probes)).filter(|(answer, person)| **answer == *person).count();
            used.scores
                .push((format!("recognition, {enrolled} enrolled, k = {k}"), right as f64 / probes.len() as f64));
        }
        if !probes.is_empty() {
            used.protocol.push(format!(
                "recognition with {enrolled} enrolled: {} probes among {} people",
                probes.len(),
                gallery.len() / enrolled
            ));
        }
    }
    cluster(set, x, threshold, how, &mut used);
    used
}

/// Agglomerative and k-means clusters of the test photos whose person has two or more.
fn cluster(set: &FaceSet, x: &Tensor, threshold: Option<f64>, how: &Uses, used: &mut Used) {
    let mut each = std::collections::BTreeMap::new();
    set.test.iter().for_each(|photo| *each.entry(photo.person).or_insert(0) += 1);
    let mut rows: Vec<usize> = (0..set.test.len()).filter(|&row| each[&set.test[row].person] > 1).collect();
    let all = rows.len();
    if all > how.clustered {
        let mut rng = crate::seed::at(crate::seed::named(how.seed, "clusters"), 0, 0);
        let mut taken = sample(&mut rng, all, how.clustered).into_vec();
        taken.sort_unstable();
        rows = taken.into_iter().map(|i| rows[i]).collect();
    }
    if rows.len() < 2 {
        return;
    }
    let people: Vec<i64> = rows.iter().map(|&row| set.test[row].person).collect();
    let known = people.iter().collect::<std::collections::BTreeSet<_>>().len();
    let x = x.index_select(0, &Tensor::from_slice(&rows.iter().map(|&row| row as i64).collect::<Vec<_>>()));
    let cut = how.cut.or(threshold).unwrap_or(1.1);
    let of = clustering::agglomerative(&Metric::SquaredEuclidean.matrix(&x, &x), cut);
    let found = of.iter().max().map_or(0, |most| most + 1);
    let k_means = clustering::k_means(&x, known, how.seed, 100);
    for (name, of) in [("agglomerative", &of), ("k-means", &k_means)] {
        let (pairs, cubed) = (clustering::pairwise_f(of, &people), clustering::b_cubed(of, &people));
        used.scores.push((format!("{name} pairwise F"), pairs.f));
        used.scores.push((format!("{name} pairwise precision"), pairs.precision));
        used.scores.push((format!("{name} pairwise recall"), pairs.recall));
        used.scores.push((format!("{name} B-cubed F"), cubed.f));
    }
    used.protocol.push(format!(
        "clustering: {} of the {all} test images whose person has two or more, {known} people; average linkage on squared distances cut at {cut:.3} ({found} clusters); k-means with k = {known}, which is told to it",
        rows.len()
    ));
    used.clusters = Some(Clusters { rows, of });
}

/// Curves of a verification: ROC with its operating points, distances of the pairs.
pub fn verification_sections(report: &mut Report, judged: &Judged, far: f64) {
    let roc = verification::roc(&judged.dist, &judged.same);
    let threshold = judged.folds.threshold.iter().sum::<f64>() / judged.folds.threshold.len().max(1) as f64;
    let at = |threshold: f64| -> (f64, f64) {
        let rate = |same: bool| {
            let of: Vec<bool> = judged
                .dist
                .iter()
                .zip(&judged.same)
                .filter(|(_, s)| **s == same)
                .map(|(d, _)| *d < threshold)
                .collect();
            of.iter().filter(|&&accepted| accepted).count() as f64 / of.len().max(1) as f64
        };
        (rate(false), rate(true))
    };
    let cross = |name: String, (x, y): (f64, f64)| Series {
        name,
        points: vec![
            (x, (y - 0.02).max(0.)),
            (x, (y + 0.02).min(1.)),
            (x, y),
            ((x - 0.01).max(0.), y),
            ((x + 0.01).min(1.), y),
        ],
    };
    let mut series = vec![
        Series { name: "ROC".into(), points: roc.iter().map(|point| (point.far, point.val)).collect() },
        cross("best accuracy".into(), at(threshold)),
    ];
    let mut rows = vec![operating("best accuracy (mean of the folds' thresholds)", threshold, at(threshold))];
    if let Ok(val) = &judged.val {
        let finite: Vec<f64> = val.thresholds.iter().copied().filter(|t| t.is_finite()).collect();
        if !finite.is_empty() {
            let strict = finite.iter().sum::<f64>() / finite.len() as f64;
            series.push(cross(format!("FAR {far}"), at(strict)));
            rows.push(operating(&format!("FAR {far} (mean of the folds' thresholds)"), strict, at(strict)));
        }
    }
    report.lines(
        "ROC",
        "VAL (same pairs accepted) against FAR (different pairs accepted); the crosses are operating points.",
        "FAR",
        "VAL",
        &series,
    );
    let strict = roc.iter().filter(|point| point.far > 0.).map(|point| (point.far.log10(), point.val)).collect();
    report.lines(
        "ROC at small false accept rates",
        "The same curve over the logarithm of FAR.",
        "log10 FAR",
        "VAL",
        &[Series { name: "ROC".into(), points: strict }],
    );
    report.table(
        "Operating points",
        "Rates over all pairs at one threshold.",
        &super::report::Table { head: ["point", "threshold", "FAR", "VAL"].map(String::from).to_vec(), rows },
    );
    let of = |same: bool| {
        judged.dist.iter().zip(&judged.same).filter(|(_, s)| **s == same).map(|(d, _)| *d).collect::<Vec<f64>>()
    };
    report.histogram(
        "Distances of the pairs",
        "Squared distance; 0 is one point, 4 the opposite one.",
        "squared distance",
        &[("same person".into(), of(true)), ("different people".into(), of(false))],
        60,
    );
}

fn operating(name: &str, threshold: f64, (far, val): (f64, f64)) -> Vec<String> {
    vec![name.into(), format!("{threshold:.4}"), format!("{far:.4}"), format!("{val:.4}")]
}

/// The pairs that were judged wrong, the worst first: at most `most` of each kind.
///
/// # Errors
/// Where an image cannot be read.
pub fn wrong_pairs(report: &mut Report, set: &FaceSet, judged: &Judged, most: usize) -> Result<()> {
    let each = judged.same.len() / set.folds.max(1);
    let threshold = |i: usize| judged.folds.threshold[(i / each.max(1)).min(set.folds - 1)];
    for (same, heading, what) in [
        (true, "False rejects", "One person, called two: the farthest first."),
        (false, "False accepts", "Two people, called one: the nearest first."),
    ] {
        let mut wrong: Vec<usize> = (0..judged.same.len())
            .filter(|&i| judged.same[i] == same && (judged.dist[i] < threshold(i)) != same)
            .collect();
        let total = wrong.len();
        wrong.sort_by(|&a, &b| judged.dist[a].total_cmp(&judged.dist[b]));
        if same {
            wrong.reverse();
        }
        wrong.truncate(most);
        let mut rows = Vec::new();
        for i in wrong {
            let tile = |place: usize| -> Result<Tile> {
                // A video is shown by its first frame.
                let photo = match set.layout {
                    FaceLayout::YoutubeFaces => set.test.iter().find(|photo| photo.tracklet == place as i64 + 1),
                    _ => set.test.get(place),
                };
                let photo = photo.context("a pair without a photo")?;
                let name = set.people.get(photo.person as usize - 1).cloned().unwrap_or_default();
                Ok(Tile { image: photo.source.image()?.as_ref().clone(), caption: name, frame: Frame::Wrong })
            };
            let pair = set.pairs[i];
            rows.push(GalleryRow {
                title: format!("{:.3} (threshold {:.2})", judged.dist[i], threshold(i)),
                tiles: vec![tile(pair.left)?, tile(pair.right)?],
            });
        }
        report.gallery(heading, &format!("{what} {total} in all, {} shown.", rows.len()), &rows);
    }
    Ok(())
}

/// The largest clusters as strips; an image whose person is not the cluster's most frequent one is framed wrong.
///
/// # Errors
/// Where an image cannot be read.
pub fn cluster_strips(report: &mut Report, set: &FaceSet, clusters: &Clusters) -> Result<()> {
    let count = clusters.of.iter().max().map_or(0, |most| most + 1);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); count];
    clusters.of.iter().zip(&clusters.rows).for_each(|(&cluster, &row)| members[cluster].push(row));
    members.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
    let mut rows = Vec::new();
    for cluster in members.iter().filter(|rows| rows.len() > 1).take(16) {
        let mut votes = std::collections::BTreeMap::new();
        cluster.iter().for_each(|&row| *votes.entry(set.test[row].person).or_insert(0_usize) += 1);
        let person = votes.iter().max_by_key(|(person, count)| (**count, -**person)).map_or(0, |(person, _)| *person);
        let mut tiles = Vec::new();
        for &row in cluster.iter().take(14) {
            let photo = &set.test[row];
            tiles.push(Tile {
                image: photo.source.image()?.as_ref().clone(),
                caption: set.people.get(photo.person as usize - 1).cloned().unwrap_or_default(),
                frame: if photo.person == person { Frame::Right } else { Frame::Wrong },
            });
        }
        rows.push(GalleryRow { title: format!("{} images of {} people", cluster.len(), votes.len()), tiles });
    }
    report.gallery(
        "Clusters",
        "The largest clusters, up to 14 images of each; framed red where the person is not the cluster's most frequent one.",
        &rows,
    );
    Ok(())
}
