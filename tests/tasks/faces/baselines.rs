//! Pixels and eigenfaces.

use std::collections::BTreeSet;

use image::Rgb;
use rankle::datasets::faces::{FaceLayout, FaceSet};
use rankle::models::eigenfaces::Eigenfaces;
use rankle::tasks::faces::{baselines, comparison};
use tch::Tensor;

use super::small_set;
use crate::common::{close, line, rows, squared};

#[test]
fn baselines_are_pixels_and_eigenfaces_of_other_folds() {
    let (set, _) = small_set();
    let found = baselines(&set, 0.1).expect("judged");
    assert_eq!(
        found.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["raw pixels", "eigenfaces", "eigenfaces, whitened"]
    );
    // Grey pixels of 48 x 48, less their mean, of length 1.
    let grey: Vec<Vec<f64>> = set
        .test
        .iter()
        .map(|photo| {
            let image = rankle::picture::resize(&photo.source.image().expect("an image"), 48, 48);
            let grey =
                |p: &Rgb<u8>| (0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2])) / 255.;
            image.pixels().map(grey).collect()
        })
        .collect();
    let unit = |row: &Vec<f64>| -> Vec<f64> {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let length = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt();
        row.iter().map(|v| (v - mean) / length).collect()
    };
    for (pair, d) in set.pairs.iter().zip(&found[0].1.dist) {
        close(*d, squared(&unit(&grey[pair.left]), &unit(&grey[pair.right])), 1e-5);
    }
    // Eigenfaces of a fold know nothing of its images; of a set with training faces they are learned from these.
    let each = set.pairs.len() / 4;
    let pixels = Tensor::from_slice(&grey.concat()).view([60, 48 * 48]);
    let pick =
        |rows: &BTreeSet<i64>| pixels.index_select(0, &Tensor::from_slice(&rows.iter().copied().collect::<Vec<_>>()));
    for (whiten, judged) in [(false, &found[1].1), (true, &found[2].1)] {
        for (i, pair) in set.pairs.iter().enumerate().step_by(7) {
            let others = set.pairs.iter().enumerate().filter(|(j, _)| j / each != i / each);
            let named = others.flat_map(|(_, pair)| [pair.left as i64, pair.right as i64]).collect();
            let x = rows(&Eigenfaces::fit(&pick(&named), 128).embed(&pixels, whiten));
            close(judged.dist[i], squared(&x[pair.left], &x[pair.right]), 1e-3);
        }
    }
    let trained = FaceSet { train: set.test[..20].to_vec().into(), ..set.clone() };
    let x = rows(&Eigenfaces::fit(&pixels.narrow(0, 0, 20), 128).embed(&pixels, false));
    for (pair, d) in set.pairs.iter().zip(&baselines(&trained, 0.1).expect("judged")[1].1.dist) {
        close(*d, squared(&x[pair.left], &x[pair.right]), 1e-3);
    }
    assert!(line(baselines(&FaceSet { pairs: Vec::new(), ..set.clone() }, 0.1)).contains("no list of pairs"));
    assert!(line(baselines(&FaceSet { layout: FaceLayout::YoutubeFaces, ..set }, 0.1)).contains("not of videos"));
    let scores = found[0].1.scores(0.1);
    let table = comparison(&[("pixels".into(), scores.clone()), ("none".into(), scores[..1].to_vec())], 0.1);
    let percent = |x: f64| format!("{:.2}", 100. * x);
    let judged = &found[0].1;
    let row = [
        "pixels".to_string(),
        format!("{} ± {}", percent(judged.folds.mean), percent(judged.folds.sem)),
        format!("{:.4}", judged.auc),
        format!("{:.4}", judged.eer),
        percent(judged.val.as_ref().expect("both kinds").val),
    ];
    assert_eq!(table.rows[0], row);
    assert_eq!(table.rows[1][1..], [format!("{} ± –", percent(judged.folds.mean)), "–".into(), "–".into(), "–".into()]);
    assert_eq!(table.head[4], "VAL at FAR 0.1");
}
