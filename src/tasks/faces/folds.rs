//! LFW's setting "unrestricted, no outside data": for each fold a network that has seen faces of the other folds only.
//!
//! A network's threshold must come from people whom it has not seen, and from the nine folds that it may use. So eight
//! folds train, and the ninth, the one after the fold that is judged, sets the thresholds: the best one on its 600 pairs
//! for the accuracy, and for VAL the one at the wished FAR over all pairs of its images.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use tch::Tensor;

use super::{distances, rates};
use crate::datasets::faces::{FaceLayout, FaceSet, Pair};
use crate::datasets::{Photo, persons};
use crate::metrics::all_pairs::AllPairs;
use crate::metrics::verification::{self, Folds};
use crate::metrics::{self, Score};
use crate::report::Table;
use crate::say;

/// Flags that runs of a network a fold do not look at: other people, and scores over all test photos.
pub const NOT_BY_FOLD: &[&str] =
    &["test", "exclude", "names", "enrolled", "neighbours", "cluster-cut", "cluster-images"];

/// The set of a fold (from 0): all images of the people of the other folds but the next train; the images of this fold's
/// pairs, then of the next one's, are the test, and the pairs of both are its two folds.
///
/// # Errors
/// Where the set has no pairs of images in three folds or more, or a person on both sides.
///
/// # Panics
/// Where there is no such fold.
pub fn without_fold(set: &FaceSet, fold: usize) -> Result<FaceSet> {
    ensure!(!set.pairs.is_empty() && set.folds >= 3, "{} has no pairs.txt with three folds or more", set.name);
    ensure!(set.layout != FaceLayout::YoutubeFaces, "{}: this protocol is for pairs of images", set.name);
    let each = set.pairs.len() / set.folds;
    let aside = [fold, (fold + 1) % set.folds];
    let pairs_of = |fold: usize| &set.pairs[fold * each..(fold + 1) * each];
    // The test photos that the pairs of a fold name.
    let rows_of =
        |fold: usize| -> BTreeSet<usize> { pairs_of(fold).iter().flat_map(|pair| [pair.left, pair.right]).collect() };
    let people = |folds: &mut dyn Iterator<Item = usize>| -> BTreeSet<i64> {
        folds.flat_map(rows_of).map(|row| set.test[row].person).collect()
    };
    let held = people(&mut aside.into_iter());
    // People whom no pair names have no fold; they stay out.
    let known = people(&mut (0..set.folds).filter(|other| !aside.contains(other)));
    if let Some(person) = known.intersection(&held).next() {
        bail!(
            "{}: {} is in more than one fold: without outside data, people of different folds must differ",
            set.name,
            set.people[*person as usize - 1]
        );
    }
    let mut place = vec![0; set.test.len()];
    let mut test = Vec::new();
    let mut pairs = Vec::new();
    for fold in aside {
        for row in rows_of(fold) {
            place[row] = test.len();
            test.push(set.test[row].clone());
        }
        let moved = |pair: &Pair| Pair { left: place[pair.left], right: place[pair.right], ..*pair };
        pairs.extend(pairs_of(fold).iter().map(moved));
    }
    let train: Vec<Photo> = set.test.iter().filter(|photo| known.contains(&photo.person)).cloned().collect();
    let name = format!("{} without fold {}", set.name, fold + 1);
    Ok(FaceSet { name, train: train.into(), test, pairs, folds: 2, ..set.clone() })
}

/// The names of the wished folds' runs (from 1; all, where none is wished): `fold-01`, `fold-02`, ...
///
/// # Errors
/// A fold that the set does not have, or as [`without_fold`].
pub fn fold_names(set: &FaceSet, wished: &[usize]) -> Result<Vec<String>> {
    let all: Vec<usize> = (1..=set.folds).collect();
    let wished = if wished.is_empty() { &all } else { wished };
    if let Some(bad) = wished.iter().find(|fold| !all.contains(fold)) {
        bail!("--folds {bad}: {} has folds 1 to {}", set.name, set.folds);
    }
    without_fold(set, 0)?;
    Ok(wished.iter().map(|fold| format!("fold-{fold:02}")).collect())
}

/// What trains by its name: [`without_fold`] of a fold's, the set itself of any other; people with fewer than `least`
/// images stay out.
///
/// # Errors
/// As [`without_fold`] and [`FaceSet::pruned`]; where nobody trains.
pub fn named_fold(set: &FaceSet, name: &str, least: usize) -> Result<FaceSet> {
    let set = match name.strip_prefix("fold-").and_then(|fold| fold.parse::<usize>().ok()) {
        None => set.clone(),
        Some(fold) => without_fold(set, fold.saturating_sub(1))?,
    };
    ensure!(
        !set.train.is_empty(),
        "{} has no training faces ({}): train on other --data and test on it with --test{}",
        set.name,
        set.layout,
        if set.pairs_images() { ", or reproduce --protocol lfw-no-outside-data" } else { "" }
    );
    set.pruned(least)
}

/// What a fold's network reached on the fold's pairs, with thresholds from the next.
#[derive(Debug, Clone)]
pub struct Unseen {
    /// People and images that it was trained on.
    pub trained: (usize, usize),
    /// Squared distances of the fold's pairs.
    pub dist: Vec<f64>,
    /// Whether each pair shows one person.
    pub same: Vec<bool>,
    /// The threshold that is best on the next fold's pairs.
    pub threshold: f64,
    /// Accuracy at that threshold.
    pub accuracy: f64,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Equal error rate.
    pub eer: f64,
    /// VAL at the threshold that has the wished FAR over all pairs of the next fold's images.
    pub val: f64,
    /// FAR at that threshold.
    pub far: f64,
}

/// Judges the fold of a set made by [`without_fold`] by its test photos' embeddings `x` `[N, D]`, unit rows; `far` is the
/// false accept rate at which VAL is wished.
pub fn judge_unseen(set: &FaceSet, x: &Tensor, far: f64) -> Unseen {
    let (judged, next) = set.pairs.split_at(set.pairs.len() / 2);
    let same = |pairs: &[Pair]| -> Vec<bool> { pairs.iter().map(|pair| pair.same).collect() };
    let threshold = verification::best_threshold(&distances(x, next), &same(next));
    let first = next.iter().map(|pair| pair.left.min(pair.right)).min().unwrap_or(0);
    let people: Vec<i64> = set.test[first..].iter().map(|photo| photo.person).collect();
    let strict = AllPairs::new(&x.narrow(0, first as i64, people.len() as i64), &people).val_at_far(far).threshold;
    let trained = (persons(&*set.train).len(), set.train.len());
    let (dist, same) = (distances(x, judged), same(judged));
    let accuracy = verification::accuracy(&dist, &same, threshold);
    let (auc, eer) = (verification::auc(&dist, &same), verification::equal_error_rate(&dist, &same));
    let (far, val) = rates(&dist, &same, strict);
    Unseen { trained, dist, same, threshold, accuracy, auc, eer, val, far }
}

/// Every wished fold (see [`fold_names`]) judged by a network that has not seen it: `rows` gives the embeddings of photos by
/// the network of that name. Names and outcomes.
///
/// # Errors
/// As [`named_fold`], or as `rows`.
pub fn judge_folds(
    set: &FaceSet,
    wished: &[usize],
    least: usize,
    far: f64,
    rows: impl Fn(&str, &[Photo]) -> Result<Tensor>,
) -> Result<Vec<(String, Unseen)>> {
    let judged = |name: String| {
        let fold = named_fold(set, &name, least)?;
        let unseen = judge_unseen(&fold, &rows(&name, &fold.test)?, far);
        Ok((name, unseen))
    };
    fold_names(set, wished)?.into_iter().map(judged).collect()
}

/// The protocol in words.
pub fn fold_protocol(far: f64) -> Vec<String> {
    vec![format!(
        "LFW, unrestricted, no outside data: a fold's network is trained on the folds that are neither its own nor the next; thresholds from the next (VAL: FAR {far} over all pairs of its images)"
    )]
}

/// Scores over folds, fractions; `far` is the false accept rate at which VAL was wished. Each network has a
/// scale of its own, so rates are means over folds.
pub fn mean_unseen(folds: &[(String, Unseen)], far: f64) -> Vec<Score> {
    let folds = || folds.iter().map(|(_, fold)| fold);
    let all = |of: fn(&Unseen) -> f64| -> Vec<f64> { folds().map(of).collect() };
    let accuracy = Folds::of(all(|fold| fold.accuracy), all(|fold| fold.threshold));
    let mean = |of: fn(&Unseen) -> f64| metrics::mean(&all(of));
    let dist: Vec<f64> = folds().flat_map(|fold| fold.dist.iter().copied()).collect();
    let same: Vec<bool> = folds().flat_map(|fold| fold.same.iter().copied()).collect();
    let mut scores = vec![
        Score::new("accuracy", accuracy.mean).counts(0),
        Score::new("accuracy std over folds", accuracy.std).neither(),
        Score::new("accuracy SEM", accuracy.sem).neither(),
        Score::new("AUC", mean(|fold| fold.auc)),
        Score::new("EER", mean(|fold| fold.eer)).less(),
        Score::new(format!("VAL at FAR {far}"), mean(|fold| fold.val)).counts(1),
        Score::new("FAR on held-out folds", mean(|fold| fold.far)).neither(),
        Score::new("AUC of all pairs together", verification::auc(&dist, &same)),
    ];
    scores.retain(|score| score.value.is_finite()); // One fold has no standard error.
    scores
}

/// The same in a plain sentence.
pub fn says_of_folds(folds: &[(String, Unseen)]) -> String {
    let mean = folds.iter().map(|(_, fold)| fold.accuracy).sum::<f64>() / folds.len() as f64;
    let folds = say::count(folds.len(), "fold");
    format!(
        "{:.1} % of the pairs of {folds} are judged right as one person or two, by networks that have not seen these people.",
        100. * mean
    )
}

/// What the networks of some folds reached, a row each under its name.
pub fn fold_table(folds: &[(String, Unseen)]) -> Table {
    let head = ["fold", "people / images", "accuracy", "threshold", "AUC", "EER", "VAL", "FAR"];
    let row = |(name, fold): &(String, Unseen)| {
        let percent = |x: f64| format!("{:.2}", 100. * x);
        let number = |x: f64| format!("{x:.4}");
        let trained = format!("{} / {}", fold.trained.0, fold.trained.1);
        let (accuracy, threshold) = (percent(fold.accuracy), format!("{:.2}", fold.threshold));
        let rates = [number(fold.auc), number(fold.eer), percent(fold.val), number(fold.far)];
        [vec![name.clone(), trained, accuracy, threshold], rates.to_vec()].concat()
    };
    Table::new(head, folds.iter().map(row))
}
