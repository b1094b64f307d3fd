//! What a network has to beat: raw pixels and eigenfaces, judged by the same folds.

use super::flags::Scoring;
use super::*;
use rankle::run::report::Table;
use rayon::prelude::*;

/// Grey pixels a side.
const SIDE: u32 = 48;
/// Components kept.
const WIDTH: i64 = 128;

/// Grey pixels of `photos` `[N, 48·48]` in 0..1.
///
/// # Errors
/// Where an image cannot be read.
fn pixels(photos: &[Photo]) -> Result<Tensor> {
    let one = |photo: &Photo| -> Result<Vec<f32>> {
        let small = rankle::transform::resize(&*photo.source.image()?, SIDE, SIDE);
        // The luma weights of ITU-R BT.601.
        Ok(small
            .pixels()
            .map(|p| (0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2])) / 255.)
            .collect())
    };
    let rows: Vec<f32> = photos.par_iter().map(one).collect::<Result<Vec<_>>>()?.concat();
    Ok(Tensor::from_slice(&rows).view([photos.len() as i64, i64::from(SIDE * SIDE)]))
}

/// Judges the baselines on the set's pairs. Eigenfaces are learned from the training faces; where there are none, for
/// each fold from the images that the other folds' pairs name.
///
/// # Errors
/// Where the set has no pairs of images, or one cannot be read.
pub fn judge(set: &FaceSet, far: f64) -> Result<Vec<(&'static str, Judged)>> {
    ensure!(!set.pairs.is_empty(), "{} has no list of pairs (pairs.txt): baselines are judged on pairs", set.name);
    ensure!(
        set.layout != datasets::faces::FaceLayout::YoutubeFaces,
        "{}: baselines are judged on pairs of images, not of videos",
        set.name
    );
    let (train, test) = (pixels(&set.train)?, pixels(&set.test)?);
    let distances = |x: &Tensor| -> Vec<f64> {
        let rows = |side: fn(&datasets::faces::Pair) -> usize| {
            Tensor::from_slice(&set.pairs.iter().map(|pair| side(pair) as i64).collect::<Vec<_>>())
        };
        let (left, right) = (x.index_select(0, &rows(|p| p.left)), x.index_select(0, &rows(|p| p.right)));
        Vec::try_from(Metric::SquaredEuclidean.paired(&left, &right).to_kind(Kind::Double)).unwrap_or_default()
    };
    // Each image less its own mean: brightness says nothing about a person.
    let grey = distances(&normalize(&(&test - test.mean_dim(1, true, None::<Kind>))));
    let fitted: Vec<Eigenfaces> = if train.size()[0] > 1 {
        vec![Eigenfaces::fit(&train, WIDTH)]
    } else {
        let each = set.pairs.len() / set.folds;
        let of = |fold: usize| {
            let others = set.pairs.iter().enumerate().filter(|(i, _)| i / each != fold);
            let rows: std::collections::BTreeSet<i64> =
                others.flat_map(|(_, pair)| [pair.left as i64, pair.right as i64]).collect();
            let rows = Tensor::from_slice(&rows.into_iter().collect::<Vec<_>>());
            Eigenfaces::fit(&test.index_select(0, &rows), WIDTH)
        };
        (0..set.folds).map(of).collect()
    };
    let eigen = |whiten: bool| {
        let dist: Vec<Vec<f64>> = fitted.iter().map(|faces| distances(&faces.embed(&test, whiten))).collect();
        faces::judge_by(set, far, |fold| dist[fold.min(dist.len() - 1)].clone())
    };
    Ok(vec![
        ("raw pixels", faces::judge_by(set, far, |_| grey.clone())),
        ("eigenfaces", eigen(false)),
        ("eigenfaces, whitened", eigen(true)),
    ])
}

/// A row of the table of baselines.
pub fn row(name: &str, judged: &Judged) -> Vec<String> {
    let percent = |x: f64| format!("{:.2}", 100. * x);
    vec![
        name.into(),
        format!("{} ± {}", percent(judged.folds.mean), percent(judged.folds.sem)),
        format!("{:.4}", judged.auc),
        format!("{:.4}", judged.eer),
        judged.val.as_ref().map_or("–".into(), |val| percent(val.val)),
    ]
}

/// Prints the baselines' scores on the set's pairs, then `more` rows.
pub fn table(set: &FaceSet, judged: &[(&str, Judged)], far: f64, more: Vec<Vec<String>>) -> Result<()> {
    let mut rows: Vec<Vec<String>> = judged.iter().map(|(name, judged)| row(name, judged)).collect();
    rows.extend(more);
    print(format!("{}: {} pairs in {} folds", set.name, set.pairs.len(), set.folds))?;
    print(Table {
        head: ["", "accuracy ± SEM", "AUC", "EER", &format!("VAL at FAR {far}")].map(String::from).to_vec(),
        rows,
    })
}

/// After a run: the baselines and the untrained network beside its scores, where the set has pairs of images.
pub fn beside(h: &Hyper, set: &FaceSet, results: &Results, flags: &Scoring, machine: &Machine) -> Result<()> {
    if set.pairs.is_empty() || set.layout == datasets::faces::FaceLayout::YoutubeFaces {
        return Ok(());
    }
    let store = VarStore::new(machine.device);
    let untrained = network(h, &store)?;
    start_from(h, &store)?;
    let before =
        faces::judge(set, &embed_test(h, set, &*untrained, flags.variant, machine)?, flags.variant, flags.far)?;
    let score = |name: &str| results.scores.iter().find(|(known, _)| known == name).map(|(_, score)| *score);
    let percent = |name: &str| score(name).map_or("–".into(), |x| format!("{:.2}", 100. * x));
    let plain = |name: &str| score(name).map_or("–".into(), |x| format!("{x:.4}"));
    let ours = vec![
        format!("{}, trained", h.net.name()),
        format!("{} ± {}", percent("accuracy"), percent("accuracy SEM")),
        plain("AUC"),
        plain("EER"),
        percent(&format!("VAL at FAR {}", flags.far)),
    ];
    table(set, &judge(set, flags.far)?, flags.far, vec![row(&format!("{}, untrained", h.net.name()), &before), ours])
}
