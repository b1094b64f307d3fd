//! What a network has to beat: raw pixels and eigenfaces, judged by the same folds.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::{JudgedPairs, distances, fold_of, index, judge_by};
use crate::datasets::Photo;
use crate::datasets::faces::{FaceLayout, FaceSet};
use crate::distance::normalize;
use crate::metrics::{Score, score};
use crate::models::eigenfaces::Eigenfaces;
use crate::report::Table;
use crate::say::count;

/// Grey pixels a side.
const SIDE: u32 = 48;
/// Components kept.
const WIDTH: i64 = 128;

/// Grey pixels of `photos` `[N, 48·48]` in 0..1.
fn pixels(photos: &[Photo]) -> Result<Tensor> {
    let one = |photo: &Photo| -> Result<Vec<f32>> {
        let small = crate::picture::resize(&*photo.source.image()?, SIDE, SIDE);
        // The luma weights of ITU-R BT.601.
        let grey = |p: &image::Rgb<u8>| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]);
        Ok(small.pixels().map(|p| grey(p) / 255.).collect())
    };
    let rows: Vec<f32> = photos.par_iter().map(one).collect::<Result<Vec<_>>>()?.concat();
    Ok(Tensor::from_slice(&rows).view([photos.len() as i64, i64::from(SIDE * SIDE)]))
}

/// What they are, and the flags of [`Scoring`](super::Scoring) that they look at.
pub const BASELINES: (&str, &[&str]) =
    ("raw pixels (48x48, grey) and eigenfaces (128 components)", &["far", "detect", "detector", "jpeg", "pixels"]);

/// Judges raw pixels, eigenfaces and whitened eigenfaces on the set's pairs of images, by name. Eigenfaces are learned
/// from the training faces; where there are none, for each fold from the images that the other folds' pairs name.
///
/// # Errors
/// Where the set has no pairs of images, or one cannot be read.
pub fn baselines(set: &FaceSet, far: f64) -> Result<Vec<(&'static str, JudgedPairs)>> {
    ensure!(!set.pairs.is_empty(), "{} has no list of pairs (pairs.txt): baselines are judged on pairs", set.name);
    ensure!(
        set.layout != FaceLayout::YoutubeFaces,
        "{}: baselines are judged on pairs of images, not of videos",
        set.name
    );
    let (train, test) = (pixels(&set.train)?, pixels(&set.test)?);
    // Each image less its own mean: brightness says nothing about a person.
    let grey = distances(&normalize(&(&test - test.mean_dim(1, true, None::<Kind>))), &set.pairs);
    let of_others = |fold: usize| {
        let others = set.pairs.iter().enumerate().filter(|(i, _)| fold_of(set, *i) != fold);
        let rows: BTreeSet<usize> = others.flat_map(|(_, pair)| [pair.left, pair.right]).collect();
        Eigenfaces::fit(&test.index_select(0, &index(rows)), WIDTH)
    };
    let learned: Vec<Eigenfaces> = match train.size()[0] {
        0 | 1 => (0..set.folds).map(of_others).collect(),
        _ => vec![Eigenfaces::fit(&train, WIDTH)],
    };
    let eigen = |whiten: bool| {
        let embedded = learned.iter().map(|faces| distances(&faces.embed(&test, whiten), &set.pairs));
        let dist: Vec<Vec<f64>> = embedded.collect();
        judge_by(set, far, |fold| dist[fold.min(dist.len() - 1)].clone())
    };
    Ok(vec![
        ("raw pixels", judge_by(set, far, |_| grey.clone())),
        ("eigenfaces", eigen(false)),
        ("eigenfaces, whitened", eigen(true)),
    ])
}

/// A table of who judges the same pairs: names with their scores as [`JudgedPairs::scores`] names them, VAL at `far`. A score
/// that is not there is a dash.
pub fn comparison(rows: &[(String, Vec<Score>)], far: f64) -> Table {
    let val = format!("VAL at FAR {far}");
    let row = |(name, scores): &(String, Vec<Score>)| {
        let percent = |name: &str| score(scores, name).map_or("–".into(), |x| format!("{:.2}", 100. * x));
        let plain = |name: &str| score(scores, name).map_or("–".into(), |x| format!("{x:.4}"));
        let accuracy = format!("{} ± {}", percent("accuracy"), percent("accuracy SEM"));
        vec![name.clone(), accuracy, plain("AUC"), plain("EER"), percent(&val)]
    };
    Table::new(["", "accuracy ± SEM", "AUC", "EER", &val], rows.iter().map(row))
}

/// The baselines of a set's pairs, then `ours`, as a table with its title.
pub fn beside(set: &FaceSet, far: f64, ours: Vec<(String, Vec<Score>)>) -> Result<(String, Table)> {
    let known = baselines(set, far)?.into_iter().map(|(name, judged)| (name.to_string(), judged.scores(far)));
    let title = format!("{}: {} in {}", set.name, count(set.pairs.len(), "pair"), count(set.folds, "fold"));
    Ok((title, comparison(&known.chain(ours).collect::<Vec<_>>(), far)))
}
