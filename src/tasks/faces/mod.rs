//! Face sets judged and shown: verification, recognition, clustering (1503.03832, Sections 4 and 5), the baselines that a
//! network has to beat, and LFW's setting without outside data.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use rand::seq::index::sample;
use tch::{Kind, Tensor};

use crate::collectives::World;
use crate::datasets::faces::{FaceLayout, FaceSet, Pair};
use crate::distance::{Metric, normalize};
use crate::metrics::all_pairs::{AllPairs, val_over_splits};
use crate::metrics::retrieval::average_by;
use crate::metrics::verification::{self, Folds, ValAtFar};
use crate::metrics::{Score, clustering, mean, mean_and_deviation, recognition};
use crate::real::{index, numbers};
use crate::say::count;

pub use baselines::{BASELINES, baselines, beside, comparison};
pub use batches::{CHUNK, FaceBatches, bytes, chunk, chunks, embed, embed_photos, open, part, parts, sampler};
pub use crop::{CROP, CropFlags};
pub use detect::{Detector, Face, Overlap, suppress};
pub use flags::{FaceData, Scoring, Variant};
pub use folds::{
    NOT_BY_FOLD, Unseen, fold_names, fold_protocol, fold_table, judge_folds, judge_unseen, mean_unseen, named_fold,
    says_of_folds, without_fold,
};
pub use form::{CropForm, DETECTOR, chosen, views};
pub use groups::{CLUSTER, FIND};
pub use pictures::show;

mod baselines;
mod batches;
mod crop;
mod detect;
mod flags;
mod folds;
mod form;
mod groups;
mod pictures;

/// Pairs judged over a set's folds.
#[derive(Debug, Clone)]
pub struct JudgedPairs {
    /// Each pair's squared distance when its fold is held out.
    pub dist: Vec<f64>,
    /// Whether each pair shows one person.
    pub same: Vec<bool>,
    /// Accuracy and thresholds.
    pub folds: Folds,
    /// VAL at the wished FAR; where the pairs do not allow it, why.
    pub val: std::result::Result<ValAtFar, String>,
    /// Area under the ROC curve, over all held-out distances together.
    pub auc: f64,
    /// Equal error rate, over all held-out distances together.
    pub eer: f64,
}

impl JudgedPairs {
    /// Fractions; `far` is the false accept rate that VAL was taken at.
    pub fn scores(&self, far: f64) -> Vec<Score> {
        let mut list = vec![
            Score::new("accuracy", self.folds.mean).counts(0),
            Score::new("accuracy std over folds", self.folds.std).neither(),
            Score::new("accuracy SEM", self.folds.sem).neither(),
            Score::new("AUC", self.auc),
            Score::new("EER", self.eer).less(),
        ];
        if let Ok(val) = &self.val {
            list.push(Score::new(format!("VAL at FAR {far}"), val.val).counts(1));
            list.push(Score::new("VAL std over folds", val.std).neither());
            list.push(Score::new("FAR on held-out folds", val.far).neither());
        }
        list
    }

    /// The mean of the folds' thresholds.
    pub fn threshold(&self) -> f64 {
        mean(&self.folds.threshold)
    }
}

/// Judges the set's pairs by distances that may depend on the fold that is held out: `dist(f)`, one a pair.
fn judge_by(set: &FaceSet, far: f64, dist: impl Fn(usize) -> Vec<f64>) -> JudgedPairs {
    let same: Vec<bool> = set.pairs.iter().map(|pair| pair.same).collect();
    let all: Vec<Vec<f64>> = (0..set.folds).map(dist).collect();
    let folds = verification::folds_by(&same, set.folds, |f| all[f].clone());
    let val = verification::val_at_far_by(&same, set.folds, far, |f| all[f].clone()).map_err(|e| e.to_string());
    let held: Vec<f64> = (0..same.len()).map(|i| all[fold_of(set, i)][i]).collect();
    let (auc, eer) = (verification::auc(&held, &same), verification::equal_error_rate(&held, &same));
    JudgedPairs { dist: held, same, folds, val, auc, eer }
}

/// The fold of pair `i`: folds are equally long.
fn fold_of(set: &FaceSet, i: usize) -> usize {
    i * set.folds / set.pairs.len()
}

/// Squared distances between the two rows of `x` that each of `pairs` names.
fn distances(x: &Tensor, pairs: &[Pair]) -> Vec<f64> {
    let side = |of: fn(&Pair) -> usize| x.index_select(0, &index(pairs.iter().map(of)));
    numbers(&Metric::SquaredEuclidean.paired(&side(|pair| pair.left), &side(|pair| pair.right)).to_kind(Kind::Double))
}

/// The shares of different pairs and of same pairs that are nearer than `threshold`: FAR and VAL.
fn rates(dist: &[f64], same: &[bool], threshold: f64) -> (f64, f64) {
    let rate = |kind: bool| {
        let of = || dist.iter().zip(same).filter(|(_, same)| **same == kind);
        of().filter(|(d, _)| **d < threshold).count() as f64 / of().count().max(1) as f64
    };
    (rate(false), rate(true))
}

/// Judges the set's pairs by its test photos' embeddings `x` `[N, D]`, unit rows.
///
/// # Errors
/// Where the set has no pairs, or the variant does not fit the set.
pub fn judge(set: &FaceSet, x: &Tensor, variant: Variant, far: f64) -> Result<JudgedPairs> {
    ensure!(!set.pairs.is_empty(), "{} has no list of pairs (pairs.txt)", set.name);
    let videos = set.layout == FaceLayout::YoutubeFaces;
    ensure!(!videos || !variant.centres(), "--variant {}: YouTube Faces takes plain or flip-averaged", variant.name());
    if variant.centres() {
        return Ok(judge_by(set, far, |fold| {
            // Both sides of all pairs of the other folds, an image as often as it is named (facenet's code).
            let others =
                || set.pairs.iter().enumerate().filter(|(i, _)| fold_of(set, *i) != fold).map(|(_, pair)| pair);
            let rows = index(others().map(|pair| pair.left).chain(others().map(|pair| pair.right)));
            let mean = x.index_select(0, &rows).mean_dim(0, true, None::<Kind>);
            distances(&normalize(&(x - mean)), &set.pairs)
        }));
    }
    let dist = if videos {
        let (mean, _) = average_by(x, &set.test.iter().map(|photo| photo.tracklet).collect::<Vec<_>>());
        let side = |of: fn(&Pair) -> usize| mean.index_select(0, &index(set.pairs.iter().map(of)));
        numbers(&mean_pair_distance(&side(|pair| pair.left), &side(|pair| pair.right)).to_kind(Kind::Double))
    } else {
        distances(x, &set.pairs)
    };
    Ok(judge_by(set, far, |_| dist.clone()))
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

/// Clusters of some test photos.
#[derive(Debug, Clone)]
pub struct Clusters {
    /// Rows of the test photos.
    pub rows: Vec<usize>,
    /// The cluster of each.
    pub of: Vec<usize>,
}

/// What test faces show of a network.
#[derive(Debug, Clone, Default)]
pub struct FaceScores {
    /// Fractions.
    pub scores: Vec<Score>,
    /// How they were computed.
    pub protocol: Vec<String>,
    /// What they come to, in plain sentences.
    pub says: Vec<String>,
    /// The set's pairs, where it has any.
    pub judged: Option<JudgedPairs>,
    /// All pairs of the test photos.
    pub pairs: Option<AllPairs>,
    /// How agglomerative clustering joins the test faces, where it was asked for.
    pub clusters: Option<Clusters>,
}

impl FaceScores {
    /// The score of that name.
    pub fn score(&self, name: &str) -> Option<f64> {
        crate::metrics::score(&self.scores, name)
    }
}

/// Scores the set by its test photos' embeddings `x` `[N, D]`, unit rows: its list of pairs, the same through 128 bytes a
/// face, all pairs, recognition, clusters. What is drawn follows from `seed`. The processes of `world` share the work, and each
/// has the whole result.
///
/// # Errors
/// Where the variant does not fit the set, or another process is gone.
pub fn score(set: &FaceSet, x: &Tensor, how: &Scoring, seed: u64, world: &World) -> Result<FaceScores> {
    let mut scored = FaceScores::default();
    scored.protocol.extend(set.detected.clone());
    if !set.pairs.is_empty() {
        list_of_pairs(set, x, how, &mut scored)?;
    } else {
        ensure!(
            !how.variant().centres(),
            "--variant {}: {} has no list of pairs with folds: take plain or flip-averaged",
            how.variant().name(),
            set.name
        );
    }
    if set.layout != FaceLayout::YoutubeFaces {
        let x = centred(x, how.variant());
        let people: Vec<i64> = set.test.iter().map(|photo| photo.person).collect();
        all_pairs(&x, &people, how.far, world, &mut scored)?;
        recognise(&x, &people, how, seed, world, &mut scored)?;
        cluster(&x, &people, how, seed, world, &mut scored)?;
    }
    ensure!(
        !scored.scores.is_empty(),
        "{}: nothing to score: it takes two people, one of them with two photos, or a pairs.txt",
        set.name
    );
    Ok(scored)
}

fn list_of_pairs(set: &FaceSet, x: &Tensor, how: &Scoring, scored: &mut FaceScores) -> Result<()> {
    let (far, variant) = (how.far, how.variant().name());
    let judged = judge(set, x, how.variant(), far)?;
    scored.scores = judged.scores(far);
    scored.says.push(format!(
        "{:.1} % of {} are judged right as one person or two.",
        100. * judged.folds.mean,
        count(set.pairs.len(), "pair")
    ));
    let thresholds: Vec<String> = judged.folds.threshold.iter().map(|t| format!("{t:.2}")).collect();
    scored.protocol.extend([
        format!(
            "{} in {}; the threshold of a fold is the best of 0, 0.01, ..., 3.99 on the others: {}",
            count(set.pairs.len(), "pair"),
            count(set.folds, "fold"),
            thresholds.join(" ")
        ),
        format!("variant {variant}: a pair is the same where its squared distance is below the threshold"),
    ]);
    if how.variant().flips() {
        scored.protocol.push(
            "an embedding is the mean of a face's and its mirror image's, unit again (facenet concatenates the two; the paper has no mirror images)".into(),
        );
    }
    if how.variant().centres() {
        scored.protocol.push(
            "the mean embedding is subtracted and distances are squared Euclidean (facenet's published numbers use the angle; the paper subtracts none)".into(),
        );
        scored.protocol.push(
            "all pairs, recognition and clusters have no folds: there the mean of all test faces is subtracted".into(),
        );
    }
    scored.protocol.push(match &judged.val {
        Ok(_) => format!(
            "VAL: a fold's threshold is the largest at which the other folds' false accept rate is at most {far}"
        ),
        Err(why) => format!("VAL at FAR {far}: not computed: {why}"),
    });
    // Section 5.4: "quantized to 128-bytes without loss of accuracy".
    let bytes = judge(set, &recognition::through_bytes(x), how.variant(), far)?;
    let width = x.size()[1];
    scored.scores.push(Score::new(format!("{width} bytes a face: accuracy"), bytes.folds.mean));
    if let Ok(val) = &bytes.val {
        scored.scores.push(Score::new(format!("{width} bytes a face: VAL at FAR {far}"), val.val));
    }
    scored.judged = Some(judged);
    Ok(())
}

fn all_pairs(x: &Tensor, people: &[i64], far: f64, world: &World, scored: &mut FaceScores) -> Result<()> {
    let pairs = AllPairs::shared(x, people, world)?;
    let (different, same) = pairs.pairs();
    if different == 0 || same == 0 {
        return Ok(());
    }
    let at = pairs.val_at_far(far);
    scored.scores.push(Score::new(format!("all pairs VAL at FAR {far}"), at.val));
    scored.scores.push(Score::new("all pairs AUC", pairs.auc()).counts(2));
    scored.protocol.push(format!(
        "all pairs: {same} of one person, {different} of two among {}; threshold {:.4} gives FAR {:.2e}",
        count(people.len(), "test image"),
        at.threshold,
        at.far
    ));
    if let Some((val, sem)) = val_over_splits(x, people, 5, far, world)? {
        scored.scores.push(Score::new(format!("five splits VAL at FAR {far}"), val));
        scored.scores.push(Score::new("five splits VAL SEM", sem).neither());
        scored.protocol.push("five splits: the test people dealt to five parts, all pairs of each".into());
    }
    scored.pairs = Some(pairs);
    Ok(())
}

/// Each probe is the person of its nearest enrolled images, which are drawn several times. What cannot be is left out, and said.
fn recognise(
    x: &Tensor,
    people: &[i64],
    how: &Scoring,
    seed: u64,
    world: &World,
    scored: &mut FaceScores,
) -> Result<()> {
    let of = |rows: &[usize]| -> Vec<i64> { rows.iter().map(|&row| people[row]).collect() };
    let rows = |rows: &[usize]| x.index_select(0, &index(rows.iter().copied()));
    let (times, mut left_out) = (recognition::DRAWS, Vec::new());
    for enrolled in how.enrolled.iter().copied().collect::<BTreeSet<_>>() {
        let draws = recognition::draws(people, enrolled, seed);
        let (gallery, probes) = draws.first().map_or((0, 0), |(gallery, probes)| (gallery.len(), probes.len()));
        // One person alone is no choice.
        if probes == 0 || gallery == enrolled {
            let mut each: BTreeMap<i64, usize> = BTreeMap::new();
            people.iter().for_each(|person| *each.entry(*person).or_default() += 1);
            let mut counts: Vec<usize> = each.into_values().collect();
            counts.sort_unstable();
            let most = counts.iter().rev().nth(1).map_or(0, |second| second - 1);
            left_out.push(format!("--enrolled {enrolled} (two people need a photo more; here {most} is the most)"));
            continue;
        }
        let all: BTreeSet<usize> = how.neighbours.iter().copied().collect();
        let (ks, beyond): (Vec<usize>, Vec<usize>) = all.into_iter().partition(|k| *k <= gallery);
        let idle = |k: usize| format!("--neighbours {k} with {enrolled} enrolled (here {gallery} is the most)");
        left_out.extend(beyond.into_iter().map(idle));
        let mut shares = vec![Vec::new(); ks.len()];
        for (gallery, probes) in &draws {
            let (known, asked, persons) = (rows(gallery), rows(probes), of(probes));
            let answers = recognition::nearest(&known, &of(gallery), &asked, &ks, Metric::SquaredEuclidean, world)?;
            for (shares, answers) in shares.iter_mut().zip(answers) {
                let right = answers.iter().zip(&persons).filter(|(answer, person)| answer == person).count();
                shares.push(right as f64 / probes.len() as f64);
            }
        }
        for (k, shares) in ks.into_iter().zip(&shares) {
            let (share, spread) = mean_and_deviation(shares);
            if scored.says.is_empty() {
                let by = if k == 1 { "face" } else { "faces" };
                scored.says.push(format!(
                    "By the nearest enrolled {by}, {:.1} % of {} are named right, with {} enrolled of each of {}: the mean of {times} draws of the enrolled photos, ± {:.1}.",
                    100. * share,
                    count(probes, "photo"),
                    count(enrolled, "photo"),
                    count(gallery / enrolled, "person"),
                    100. * spread
                ));
            }
            scored.protocol.push(format!(
                "recognition with {enrolled} enrolled, k = {k}: {} among {}; enrolled photos drawn {times} times, between which it varies by {spread:.4} (sample standard deviation)",
                count(probes, "probe"),
                count(gallery / enrolled, "person")
            ));
            scored.scores.push(Score::new(format!("recognition, {enrolled} enrolled, k = {k}"), share));
        }
    }
    if !left_out.is_empty() {
        scored.protocol.push(format!("left out of recognition: {}", left_out.join(", ")));
    }
    Ok(())
}

/// The clusters of rows `x` by average linkage at `cut`: from `joined` numbers in `x` on the processes of `world` find them
/// together, of fewer each by itself.
///
/// # Errors
/// Where another process is gone.
pub fn linked(x: &Tensor, cut: f64, joined: usize, world: &World) -> Result<Vec<usize>> {
    match x.numel() < joined {
        true => Ok(clustering::average_linkage(x, cut, || ())),
        false => clustering::average_linkage_shared(x, cut, world, || ()),
    }
}

/// Agglomerative and k-means clusters of the photos whose person has two or more.
fn cluster(x: &Tensor, people: &[i64], how: &Scoring, seed: u64, world: &World, scored: &mut FaceScores) -> Result<()> {
    let mut each = BTreeMap::new();
    people.iter().for_each(|person| *each.entry(person).or_insert(0) += 1);
    let mut rows: Vec<usize> = (0..people.len()).filter(|&row| each[&people[row]] > 1).collect();
    let all = rows.len();
    if all > how.cluster_images {
        let mut rng = crate::seed::at(crate::seed::named(seed, "clusters"), 0, 0);
        let mut taken = sample(&mut rng, all, how.cluster_images).into_vec();
        taken.sort_unstable();
        rows = taken.into_iter().map(|i| rows[i]).collect();
    }
    if rows.len() < 2 {
        return Ok(());
    }
    let people: Vec<i64> = rows.iter().map(|&row| people[row]).collect();
    let known = people.iter().collect::<BTreeSet<_>>().len();
    // One person alone is one cluster whatever the network says.
    if known < 2 {
        return Ok(());
    }
    let x = x.index_select(0, &index(rows.iter().copied()));
    let cut = how.cluster_cut.or(scored.judged.as_ref().map(JudgedPairs::threshold)).unwrap_or(groups::CUT);
    let of = linked(&x, cut, clustering::SHARED, world)?;
    let found = of.iter().max().map_or(0, |most| most + 1);
    let k_means = clustering::k_means(&x, known, seed, 100, world)?;
    for (name, of, joined) in [("agglomerative", &of, true), ("k-means", &k_means, false)] {
        let (pairs, cubed) = (clustering::pairwise_f(of, &people), clustering::b_cubed(of, &people));
        let f = Score::new(format!("{name} pairwise F"), pairs.f);
        let named = [
            if joined { f.counts(3) } else { f },
            Score::new(format!("{name} pairwise precision"), pairs.precision),
            Score::new(format!("{name} pairwise recall"), pairs.recall),
            Score::new(format!("{name} B-cubed F"), cubed.f),
        ];
        // Of no pairs there is no share.
        scored.scores.extend(named.into_iter().filter(|score| score.value.is_finite()));
        if joined {
            let (alike, together) = ("show one person", "lie in one cluster");
            let share = |share: f64, of: &str, are: &str, none: &str| match share.is_nan() {
                true => format!("no two photos {none}"),
                false => format!("of two photos {of} {:.1} % {are}", 100. * share),
            };
            scored.says.push(format!(
                "Clustering by distance makes {} of {}: {}, {}.",
                count(found, "cluster"),
                count(known, "person"),
                share(pairs.precision, "in one cluster", alike, together),
                share(pairs.recall, "of one person", together, alike)
            ));
        }
    }
    scored.protocol.push(format!(
        "clustering: {} of the {all} test images whose person has two or more, {}; clusters joined by their mean squared distance (average linkage), cut at {cut:.3} ({}); k-means with k = {known}, which is told to it",
        rows.len(),
        count(known, "person"),
        count(found, "cluster")
    ));
    scored.clusters = Some(Clusters { rows, of });
    Ok(())
}
