//! Faces judged: verification, recognition, clusters, what is shown.

mod baselines;
mod batches;
mod crop;
mod detect;
mod flags;
mod folds;

use rankle::collectives::World;
use rankle::datasets::drawn::Faces;
use rankle::datasets::faces::FaceSet;
use rankle::distance::normalize;
use rankle::metrics::recognition::{draws, through_bytes};
use rankle::metrics::verification::{folds, val_at_far};
use rankle::report::Report;
use rankle::tasks::faces::{FaceScores, Scoring, Variant, centred, judge, mean_pair_distance, show};
use tch::{Device, Kind, Tensor};

use crate::common::{all_close, close, line, matrix, rows, squared, value};

/// By one process.
fn score(set: &FaceSet, x: &Tensor, how: &Scoring, seed: u64) -> anyhow::Result<FaceScores> {
    rankle::tasks::faces::score(set, x, how, seed, &World::alone())
}

/// Sixty photos of twelve drawn people in four folds, with rows that say a little about them.
fn small_set() -> (FaceSet, Tensor) {
    let mut set = Faces { train: 2, test: 12, shots: 5, size: 16, folds: 4, seed: 4 }.set();
    set.train = Default::default();
    let people: Vec<i64> = set.test.iter().map(|photo| photo.person).collect();
    let centres = matrix(31, 40, 6);
    let x = centres.index_select(0, &Tensor::from_slice(&people)) + matrix(32, people.len(), 6) * 0.9;
    (set, normalize(&x))
}

/// Pairs and all pairs alone.
fn how() -> Scoring {
    Scoring {
        variant: Variant::Plain,
        flip: false,
        far: 0.1,
        enrolled: Vec::new(),
        neighbours: Vec::new(),
        cluster_cut: None,
        cluster_images: 0,
        detect: None,
        detector: None,
        jpeg: None,
        pixels: None,
    }
}

#[test]
fn centred_rows_are_unit_rows_around_nothing() {
    let x = matrix(3, 12, 5) + 2.;
    let x = normalize(&x);
    let plain = centred(&x, Variant::FlipAveraged);
    all_close(&plain, &x, 0.);
    let mean = |of: &Tensor| of.mean_dim(0, false, None::<Kind>).square().sum(Kind::Double).sqrt();
    let moved = centred(&x, Variant::MeanSubtracted);
    assert!(value(&mean(&x)) > 0.9 && value(&mean(&moved)) < 0.2, "all lay on one side: {}", value(&mean(&moved)));
    let lengths = moved.square().sum_dim_intlist(1, false, Kind::Double);
    all_close(&lengths, &Tensor::ones([12], (Kind::Double, Device::Cpu)), 1e-6);
}

#[test]
fn variants_judge_as_they_say() {
    let faces = Faces { train: 2, test: 8, shots: 9, size: 16, folds: 2, seed: 4 };
    let set = faces.set();
    let x = normalize(&matrix(6, 72, 5));
    let r = rows(&x);
    let plain = judge(&set, &x, Variant::Plain, 0.1).expect("judged");
    for (pair, d) in set.pairs.iter().zip(&plain.dist) {
        close(*d, squared(&r[pair.left], &r[pair.right]), 1e-9);
    }
    let centred = judge(&set, &x, Variant::MeanSubtracted, 0.1).expect("judged");
    for fold in 0..2 {
        let others = set.pairs.iter().enumerate().filter(|(i, _)| i / 60 != fold).map(|(_, pair)| pair);
        let named: Vec<usize> = others.flat_map(|pair| [pair.left, pair.right]).collect();
        let mean: Vec<f64> =
            (0..5).map(|k| named.iter().map(|&row| r[row][k]).sum::<f64>() / named.len() as f64).collect();
        let unit = |row: usize| -> Vec<f64> {
            let y: Vec<f64> = r[row].iter().zip(&mean).map(|(a, b)| a - b).collect();
            let length = y.iter().map(|v| v * v).sum::<f64>().sqrt();
            y.iter().map(|v| v / length).collect()
        };
        for (i, pair) in set.pairs.iter().enumerate().filter(|(i, _)| i / 60 == fold) {
            close(centred.dist[i], squared(&unit(pair.left), &unit(pair.right)), 1e-9);
        }
    }
    // Videos: the mean over all pairs of frames, by nested loops.
    let (left, right) = (normalize(&matrix(7, 4, 5)), normalize(&matrix(8, 3, 5)));
    let mut sum = 0.;
    for a in rows(&left) {
        for b in rows(&right) {
            sum += squared(&a, &b);
        }
    }
    let mean = |x: &Tensor| x.mean_dim(0, true, None::<Kind>);
    close(value(&mean_pair_distance(&mean(&left), &mean(&right))), sum / 12., 1e-12);
}

#[test]
fn scores_are_those_of_nested_loops() {
    let (set, x) = small_set();
    let r = rows(&x);
    let person = |row: usize| set.test[row].person;
    let wished = Scoring { enrolled: vec![1, 2, 9, 1], neighbours: vec![1, 3, 13], cluster_images: 40, ..how() };
    let scored = score(&set, &x, &wished, 5).expect("scored");
    let of = |name: &str| scored.score(name).unwrap_or_else(|| panic!("{name} is not in {:?}", scored.scores));
    let same: Vec<bool> = set.pairs.iter().map(|pair| pair.same).collect();
    let dist: Vec<f64> = set.pairs.iter().map(|pair| squared(&r[pair.left], &r[pair.right])).collect();
    let naive = folds(&dist, &same, 4);
    close(of("accuracy"), naive.mean, 1e-12);
    close(of("VAL at FAR 0.1"), val_at_far(&dist, &same, 4, 0.1).expect("both kinds").val, 1e-12);
    let bytes = through_bytes(&x);
    let through = rows(&bytes);
    let coarse: Vec<f64> = set.pairs.iter().map(|pair| squared(&through[pair.left], &through[pair.right])).collect();
    close(of("6 bytes a face: accuracy"), folds(&coarse, &same, 4).mean, 1e-12);
    // All pairs: as many different pairs as may be are nearer than the threshold, which bins make coarse.
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    for i in 0..r.len() {
        for j in i + 1..r.len() {
            if person(i) == person(j) { &mut positive } else { &mut negative }.push(squared(&r[i], &r[j]));
        }
    }
    negative.sort_by(f64::total_cmp);
    let edge = negative[(0.1 * negative.len() as f64 + 1e-9) as usize];
    let accepted = positive.iter().filter(|&&d| d < edge).count() as f64 / positive.len() as f64;
    close(of("all pairs VAL at FAR 0.1"), accepted, 0.02);
    assert!(scored.score("five splits VAL SEM").is_some() && scored.pairs.is_some());
    // Recognition: the nearest enrolled image, and three that vote; the mean over draws.
    let people: Vec<i64> = (0..r.len()).map(person).collect();
    let mut spread = 0.;
    for (enrolled, k) in [(1, 1), (2, 1), (2, 3)] {
        let share = |(gallery, probes): &(Vec<usize>, Vec<usize>)| {
            let answer = |probe: usize| {
                let mut order = gallery.clone();
                order.sort_by(|&a, &b| squared(&r[a], &r[probe]).total_cmp(&squared(&r[b], &r[probe])));
                let votes = |who: i64| order[..k].iter().filter(|&&row| person(row) == who).count();
                order[..k].iter().map(|&row| person(row)).rev().max_by_key(|&who| votes(who)).expect("a neighbour")
            };
            probes.iter().filter(|&&probe| answer(probe) == person(probe)).count() as f64 / probes.len() as f64
        };
        let shares: Vec<f64> = draws(&people, enrolled, 5).iter().map(share).collect();
        let mean = shares.iter().sum::<f64>() / 10.;
        close(of(&format!("recognition, {enrolled} enrolled, k = {k}")), mean, 1e-12);
        spread = (shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / 9.).sqrt();
    }
    assert!(spread > 0., "who is enrolled matters");
    assert_eq!(scored.score("recognition, 9 enrolled, k = 1"), None, "nobody has ten images");
    // Clusters: two photos are together where a person is in both, by definition of the pairwise scores.
    let clusters = scored.clusters.as_ref().expect("clusters");
    assert_eq!((clusters.rows.len(), clusters.of.len()), (40, 40));
    assert!(clusters.rows.is_sorted_by(|a, b| a < b), "forty of the sixty, none twice");
    let (mut both, mut together, mut alike) = (0., 0., 0.);
    for i in 0..40 {
        for j in i + 1..40 {
            let one = clusters.of[i] == clusters.of[j];
            let kin = person(clusters.rows[i]) == person(clusters.rows[j]);
            both += f64::from(u8::from(one && kin));
            together += f64::from(u8::from(one));
            alike += f64::from(u8::from(kin));
        }
    }
    close(of("agglomerative pairwise precision"), both / together, 1e-12);
    close(of("agglomerative pairwise recall"), both / alike, 1e-12);
    let clustered = format!("show one person, of two photos of one person {:.1} % lie", 100. * both / alike);
    assert!(scored.says[0].starts_with(&format!("{:.1} % of {} pairs ", 100. * naive.mean, set.pairs.len())));
    assert!(scored.says.len() == 2 && scored.says[1].contains(&clustered), "{:?}", scored.says);
    let said = scored.protocol.join("\n");
    let cut = naive.threshold.iter().sum::<f64>() / 4.;
    for words in [
        "best of 0, 0.01",
        "among 60 test images",
        &format!(
            "2 enrolled, k = 3: 36 probes among 12 people; enrolled photos drawn 10 times, between which it varies by {spread:.4}"
        ),
        "--neighbours 13 with 1 enrolled (here 12 is the most), --enrolled 9 (two people need a photo more; here 4 is the most)",
        &format!("cut at {cut:.3}"),
        "clustering: 40 of the 60 test images",
    ] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    let given = score(&set, &x, &Scoring { cluster_cut: Some(0.5), cluster_images: 99, ..how() }, 5).expect("scored");
    assert!(given.protocol.last().expect("clusters").contains("cut at 0.500"), "{:?}", given.protocol);
    // Each by itself: no share of the pairs in one cluster is made up.
    let apart = score(&set, &x, &Scoring { cluster_cut: Some(0.), cluster_images: 99, ..how() }, 5).expect("scored");
    let of = |name: &str| apart.score(&format!("agglomerative pairwise {name}"));
    assert_eq!([of("precision"), of("recall"), of("F")], [None, Some(0.), Some(0.)]);
    assert!(apart.says[1].contains(": no two photos lie in one cluster, of two "), "{:?}", apart.says);
    // Without a list of pairs there is nothing to subtract a mean over; VAL is what is left.
    let bare = FaceSet { pairs: Vec::new(), folds: 0, ..set.clone() };
    assert!(
        line(score(&bare, &x, &Scoring { variant: Variant::MeanSubtracted, ..how() }, 5)).contains("no list of pairs")
    );
    let named = score(&bare, &x, &Scoring { enrolled: vec![1], neighbours: vec![1], ..how() }, 5).expect("scored");
    let share = named.score("recognition, 1 enrolled, k = 1").expect("a score");
    let right = format!("face, {:.1} % of 48 photos are named right, with 1 photo enrolled", 100. * share);
    let drawn = "of each of 12 people: the mean of 10 draws of the enrolled photos, ± ";
    assert!(named.says[0].contains(&format!("{right} {drawn}")), "{:?}", named.says);
    let bare = score(&bare, &x, &how(), 5).expect("scored");
    assert_eq!((bare.score("accuracy"), bare.judged.is_some(), bare.pairs.is_some()), (None, false, true));
    // Of people seen once nothing is to be found: with one person more there is one cluster, whatever the rows say.
    let first = |i: usize| (0..i).all(|j| person(j) != person(i));
    let rows: Vec<usize> = (0..r.len()).filter(|&i| person(i) == person(0) || first(i)).collect();
    let test: Vec<_> = rows.iter().map(|&i| set.test[i].clone()).collect();
    let alone = FaceSet { pairs: Vec::new(), folds: 0, test, ..set.clone() };
    let x = x.index_select(0, &Tensor::from_slice(&rows.iter().map(|&i| i as i64).collect::<Vec<_>>()));
    let alone = score(&alone, &x, &Scoring { cluster_images: 99, ..how() }, 5).expect("scored");
    assert!(alone.clusters.is_none() && alone.score("k-means pairwise F").is_none() && alone.pairs.is_some());
}

#[test]
fn pictures_show_what_was_judged() {
    let (set, x) = small_set();
    let page = |set: &FaceSet, x: &Tensor, how: &Scoring| {
        let mut report = Report::new("faces", "");
        let scored = score(set, x, how, 5).expect("scored");
        show(&mut report, set, &scored, how.far).expect("shown");
        (report.html(), scored)
    };
    let (html, scored) = page(&set, &x, &Scoring { cluster_images: 60, ..how() });
    let judged = scored.judged.expect("judged");
    let each = set.pairs.len() / 4;
    for (kind, what) in [(true, "One person, called two"), (false, "Two people, called one")] {
        let wrong = |i: &usize| judged.same[*i] == kind && (judged.dist[*i] < judged.folds.threshold[i / each]) != kind;
        let total = (0..set.pairs.len()).filter(wrong).count();
        let said = format!("{total} in all, {} shown.", total.min(12));
        assert!(total > 0 && html.contains(what) && html.contains(&said), "{said}");
    }
    for heading in ["False rejects", "False accepts", "Operating points", "Distances of the pairs", "Clusters"] {
        assert!(html.contains(heading), "{heading}");
    }
    let (html, _) = page(&FaceSet { pairs: Vec::new(), folds: 0, ..set }, &x, &how());
    assert!(html.contains("ROC over all pairs") && !html.contains("False rejects") && !html.contains("Clusters"));
}
