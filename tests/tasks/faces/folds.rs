//! A network a fold, without outside data.

use std::collections::BTreeSet;

use rankle::datasets::Photo;
use rankle::datasets::faces::{FaceLayout, FaceSet, Pair};
use rankle::metrics;
use rankle::tasks::faces::{
    Unseen, fold_names, fold_table, judge_folds, judge_unseen, mean_unseen, named_fold, without_fold,
};
use tch::Tensor;

use super::small_set;
use crate::common::{close, line, rows, squared};

#[test]
fn without_outside_data_trains_on_neither_fold_and_judges_by_the_next() {
    let (mut set, x) = small_set();
    // Somebody whom no pair names has no fold.
    let stray = set.test.iter().position(|photo| photo.person == 5).expect("a photo");
    set.pairs.iter_mut().for_each(|pair| {
        for side in [&mut pair.left, &mut pair.right] {
            *side += usize::from(*side == stray);
        }
    });
    let r = rows(&x);
    let each = set.pairs.len() / 4;
    let mut all = Vec::new();
    for fold in 0..4 {
        let alone = without_fold(&set, fold).expect("a set");
        let next = (fold + 1) % 4;
        let people = |wanted: &[usize]| -> BTreeSet<i64> {
            let named = (0..set.pairs.len()).filter(|i| wanted.contains(&(i / each)));
            named.flat_map(|i| [set.pairs[i].left, set.pairs[i].right]).map(|row| set.test[row].person).collect()
        };
        let others: Vec<usize> = (0..4).filter(|&f| f != fold && f != next).collect();
        let trained: Vec<&str> = alone.train.iter().map(|photo| &*photo.name).collect();
        let wanted = set.test.iter().filter(|photo| people(&others).contains(&photo.person));
        assert_eq!(trained, wanted.map(|photo| &*photo.name).collect::<Vec<_>>());
        // Every pair of both folds, by the names of its photos.
        let names = |set: &FaceSet, pairs: &[Pair]| -> Vec<(String, String, bool)> {
            let name = |row: usize| set.test[row].name.to_string();
            pairs.iter().map(|pair| (name(pair.left), name(pair.right), pair.same)).collect()
        };
        let span = |fold: usize| &set.pairs[fold * each..][..each];
        assert_eq!(alone.folds, 2);
        assert_eq!(names(&alone, &alone.pairs), [names(&set, span(fold)), names(&set, span(next))].concat());
        let place = |name: &str| set.test.iter().position(|photo| &*photo.name == name).expect("a test photo");
        let kept: Vec<i64> = alone.test.iter().map(|photo| place(&photo.name) as i64).collect();
        let found = judge_unseen(&alone, &x.index_select(0, &Tensor::from_slice(&kept)), 0.1);
        let dist =
            |pairs: &[Pair]| -> Vec<f64> { pairs.iter().map(|pair| squared(&r[pair.left], &r[pair.right])).collect() };
        let same = |pairs: &[Pair]| -> Vec<bool> { pairs.iter().map(|pair| pair.same).collect() };
        let right =
            |pairs: &[Pair], t: f64| dist(pairs).iter().zip(same(pairs)).filter(|(d, s)| (**d < t) == *s).count();
        let best = (0..400).map(|t| t as f64 * 0.01).rev().max_by_key(|&t| right(span(next), t)).expect("a threshold");
        assert_eq!(found.threshold, best);
        close(found.accuracy, right(span(fold), best) as f64 / each as f64, 1e-12);
        // VAL: the FAR over all pairs of the next fold's images, by nested loops.
        let theirs: Vec<usize> =
            span(next).iter().flat_map(|pair| [pair.left, pair.right]).collect::<BTreeSet<_>>().into_iter().collect();
        let mut different = Vec::new();
        for (i, &a) in theirs.iter().enumerate() {
            for &b in &theirs[i + 1..] {
                if set.test[a].person != set.test[b].person {
                    different.push(squared(&r[a], &r[b]));
                }
            }
        }
        different.sort_by(f64::total_cmp);
        let edge = different[(0.1 * different.len() as f64 + 1e-9) as usize];
        let rate = |kind: bool, t: f64| {
            let of: Vec<f64> = span(fold).iter().filter(|p| p.same == kind).flat_map(|p| dist(&[*p])).collect();
            of.iter().filter(|&&d| d < t).count() as f64 / of.len() as f64
        };
        // The threshold lies on the edge of a bin of 4/65536, below the first that may not be accepted.
        assert_eq!(found.trained, (people(&others).len(), trained.len()));
        all.push(found.clone());
        for (ours, kind) in [(found.val, true), (found.far, false)] {
            assert!((rate(kind, edge - 4. / 65536.)..=rate(kind, edge)).contains(&ours), "{ours}");
        }
    }
    let named: Vec<(String, Unseen)> = all.iter().map(|fold| ("a fold".into(), fold.clone())).collect();
    let scores = mean_unseen(&named, 0.1);
    let of = |name: &str| metrics::score(&scores, name).expect("a score");
    let mean = |of: fn(&Unseen) -> f64| all.iter().map(of).sum::<f64>() / 4.;
    close(of("accuracy"), mean(|fold| fold.accuracy), 1e-12);
    let spread = all.iter().map(|fold| (fold.accuracy - of("accuracy")).powi(2)).sum::<f64>() / 3.;
    close(of("accuracy SEM"), spread.sqrt() / 2., 1e-12);
    assert!(mean_unseen(&named[..1], 0.1).iter().all(|score| score.name != "accuracy SEM"), "of one fold");
    let ordered = |folds: &[Unseen]| {
        let side = |kind: bool| -> Vec<f64> {
            let pairs = folds.iter().flat_map(|fold| fold.dist.iter().zip(&fold.same));
            pairs.filter(|(_, same)| **same == kind).map(|(d, _)| *d).collect()
        };
        let (same, different) = (side(true), side(false));
        let right = same.iter().map(|s| different.iter().filter(|d| s < d).count()).sum::<usize>();
        right as f64 / (same.len() * different.len()) as f64
    };
    close(of("AUC"), all.iter().map(|fold| ordered(std::slice::from_ref(fold))).sum::<f64>() / 4., 1e-9);
    close(of("AUC of all pairs together"), ordered(&all), 1e-9);
    close(of("VAL at FAR 0.1"), mean(|fold| fold.val), 1e-12);
    let row = &fold_table(&[("1".into(), all[0].clone())]).rows[0];
    assert_eq!(row[..2], ["1".to_string(), format!("{} / {}", all[0].trained.0, all[0].trained.1)]);
    assert_eq!(row[2], format!("{:.2}", 100. * all[0].accuracy));
    // By their names: the embeddings are asked for once a fold, of its own photos.
    let rows_of = |name: &str, photos: &[Photo]| {
        assert!(["fold-02", "fold-04"].contains(&name));
        let place = |photo: &Photo| set.test.iter().position(|own| own.name == photo.name).expect("a test photo");
        Ok(x.index_select(0, &Tensor::from_slice(&photos.iter().map(|photo| place(photo) as i64).collect::<Vec<_>>())))
    };
    let judged = judge_folds(&set, &[2, 4], 1, 0.1, rows_of).expect("judged");
    for ((name, fold), wanted) in judged.iter().zip([(1, "fold-02"), (3, "fold-04")]) {
        assert_eq!((name.as_str(), fold.accuracy, fold.val), (wanted.1, all[wanted.0].accuracy, all[wanted.0].val));
    }
    assert_eq!(fold_names(&set, &[]).expect("names"), ["fold-01", "fold-02", "fold-03", "fold-04"]);
    assert!(line(fold_names(&set, &[5])).contains("folds 1 to 4"));
    assert!(line(named_fold(&set, "", 1)).contains("no training faces"), "nobody trains but in a fold");
    assert_eq!(
        named_fold(&set, "fold-01", 1).expect("a set").train.len(),
        without_fold(&set, 0).expect("a set").train.len()
    );
    assert!(line(named_fold(&set, "fold-01", 9)).contains("--min-images"));
    let mut shared = set.clone();
    let other = shared.test[shared.pairs[3 * each].left].person;
    let row = shared.pairs[0].left;
    shared.test[row].person = other;
    let name = &shared.people[other as usize - 1];
    assert!(line(without_fold(&shared, 0)).contains(&format!("{name} is in more than one fold")));
    let two = FaceSet { folds: 2, ..set.clone() };
    assert!(line(without_fold(&two, 0)).contains("three folds or more"));
    assert!(line(without_fold(&FaceSet { layout: FaceLayout::YoutubeFaces, ..set }, 0)).contains("pairs of images"));
}
