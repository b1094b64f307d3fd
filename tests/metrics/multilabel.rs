use rand::Rng;
use rankle::metrics::multilabel::{
    ApRule, Over, class_map, class_precisions, exact_match, mean_average_precision, overall, per_class, top_counts,
    top_k, violation,
};
use rankle::seed;
use tch::{Kind, Tensor};

fn table<T: tch::kind::Element + Copy>(rows: &[&[T]]) -> Tensor {
    Tensor::from_slice(&rows.concat()).reshape([rows.len() as i64, -1])
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn the_authors_unit_values() {
    // Rankings 3 2 1, 1 2 3, 2 3 1 of classes from 1; true sets {1, 2}, {1, 3}, {2, 3}; two labels an image.
    let scores = table(&[&[1i64, 2, 3], &[3, 2, 1], &[1, 3, 2]]);
    let labels = table(&[&[1i64, 1, 0], &[1, 0, 1], &[0, 1, 1]]);
    for (scores, labels) in [
        (scores.shallow_clone(), labels.shallow_clone()),
        (scores.to_kind(Kind::Half), labels.to_kind(Kind::Bool)),
        (scores.to_kind(Kind::Double), labels.to_kind(Kind::Float)),
    ] {
        let p = top_k(&scores, 2);
        let (each, all) = (per_class(&p, &labels), overall(&p, &labels));
        assert!(close(each.precision, 13.0 / 18.0) && close(each.recall, 2.0 / 3.0) && close(each.f1, 0.655556));
        assert!(close(all.precision, 2.0 / 3.0) && close(all.recall, 2.0 / 3.0) && close(all.f1, 2.0 / 3.0));
        assert!(close(exact_match(&p, &labels), 1.0 / 3.0));
        let ap = ((2.0 / 3.0 + 0.5) / 2.0 + (1.0 + 2.0 / 3.0) / 2.0 + 1.0) / 3.0;
        assert!(close(mean_average_precision(&scores, &labels, Over::Images), ap));
        assert!(close(violation(&scores, &labels), 0.5));
    }
}

#[test]
fn counts_by_nested_loops() {
    let mut rng = seed::at(21, 0, 0);
    let (n, c) = (40, 7);
    let bits = |rng: &mut rand_chacha::ChaCha8Rng| -> Vec<Vec<i64>> {
        // The last class is never there, the first never predicted or never true in turn.
        (0..n).map(|_| (0..c).map(|k| i64::from(k + 1 < c && rng.random_range(0..3) == 0)).collect()).collect()
    };
    let (mut p, l) = (bits(&mut rng), bits(&mut rng));
    p.iter_mut().for_each(|row| row[0] = 0);
    p[3] = l[3].clone();
    let t = |rows: &[Vec<i64>]| Tensor::from_slice(&rows.concat()).reshape([n as i64, c as i64]);
    let (mut pp, mut rr, mut ff) = (0.0, 0.0, 0.0);
    let (mut hit_all, mut called_all, mut gold_all) = (0.0, 0.0, 0.0);
    for k in 0..c {
        let (mut hit, mut called, mut gold) = (0.0f64, 0.0f64, 0.0f64);
        for i in 0..n {
            hit += (p[i][k] * l[i][k]) as f64;
            called += p[i][k] as f64;
            gold += l[i][k] as f64;
        }
        let (a, b) = (if called > 0.0 { hit / called } else { 0.0 }, if gold > 0.0 { hit / gold } else { 0.0 });
        pp += a / c as f64;
        rr += b / c as f64;
        ff += if a + b > 0.0 { 2.0 * a * b / (a + b) } else { 0.0 } / c as f64;
        (hit_all, called_all, gold_all) = (hit_all + hit, called_all + called, gold_all + gold);
    }
    let (each, all) = (per_class(&t(&p), &t(&l)), overall(&t(&p), &t(&l)));
    assert!(close(each.precision, pp) && close(each.recall, rr) && close(each.f1, ff));
    let (a, b) = (hit_all / called_all, hit_all / gold_all);
    assert!(close(all.precision, a) && close(all.recall, b) && close(all.f1, 2.0 * a * b / (a + b)));
    let same = (0..n).filter(|&i| p[i] == l[i]).count();
    assert!(same > 0 && close(exact_match(&t(&p), &t(&l)), same as f64 / n as f64));
    assert_eq!(exact_match(&t(&l), &t(&l)), 1.0);
}

#[test]
fn average_precision_by_counting_who_is_ahead() {
    let mut rng = seed::at(22, 0, 0);
    let (n, c) = (30, 9);
    let s: Vec<Vec<f64>> = (0..n).map(|_| (0..c).map(|_| rng.random_range(0..6) as f64 - 2.0).collect()).collect();
    let l: Vec<Vec<bool>> = (0..n).map(|i| (0..c).map(|_| i != 4 && rng.random_range(0..3) == 0).collect()).collect();
    let twin = |rows: usize, columns: usize, s: &dyn Fn(usize, usize) -> f64, l: &dyn Fn(usize, usize) -> bool| {
        let mut each = Vec::new();
        for i in 0..rows {
            let ahead = |a: usize, b: usize| s(i, a) > s(i, b) || (s(i, a) == s(i, b) && a <= b);
            let truth: Vec<usize> = (0..columns).filter(|&k| l(i, k)).collect();
            if truth.is_empty() {
                continue;
            }
            let at = |k: usize| {
                let right = truth.iter().filter(|&&a| ahead(a, k)).count();
                right as f64 / (0..columns).filter(|&a| ahead(a, k)).count() as f64
            };
            each.push(truth.iter().map(|&k| at(k)).sum::<f64>() / truth.len() as f64);
        }
        each.iter().sum::<f64>() / each.len() as f64
    };
    let ts = Tensor::from_slice(&s.concat()).reshape([n as i64, c as i64]);
    let tl = Tensor::from_slice(&l.concat()).reshape([n as i64, c as i64]);
    let images = twin(n, c, &|i, k| s[i][k], &|i, k| l[i][k]);
    let classes = twin(c, n, &|i, k| s[k][i], &|i, k| l[k][i]);
    assert!(close(mean_average_precision(&ts, &tl, Over::Images), images));
    assert!(close(mean_average_precision(&ts, &tl, Over::Classes), classes));
    let (mut share, mut counted) = (0.0, 0.0);
    for i in 0..n {
        let (mut wrong, mut pairs) = (0.0, 0.0);
        for u in (0..c).filter(|&u| l[i][u]) {
            for v in (0..c).filter(|&v| !l[i][v]) {
                pairs += 1.0;
                wrong += if s[i][u] > s[i][v] { 0.0 } else { 1.0 };
            }
        }
        if pairs > 0.0 {
            share += wrong / pairs;
            counted += 1.0;
        }
    }
    assert!(close(violation(&ts, &tl), share / counted));
}

#[test]
fn vocs_eleven_points_by_their_definition() {
    // One class; from the top: true, false, true, false, false, true. Precisions 1, 2/3 and 1/2 at recalls 1/3, 2/3, 1:
    // four points (0 to 0.3) see 1, three (0.4 to 0.6) see 2/3, four (0.7 to 1) see 1/2.
    let s = table(&[&[6.0f64], &[5.0], &[4.0], &[3.0], &[2.0], &[1.0]]);
    let l = table(&[&[1i64], &[0], &[1], &[0], &[0], &[1]]);
    assert!(close(class_map(&s, &l, None, ApRule::ElevenPoint), (4.0 + 3.0 * 2.0 / 3.0 + 4.0 * 0.5) / 11.0));
    assert!(close(class_map(&s, &l, None, ApRule::Step), (1.0 + 2.0 / 3.0 + 0.5) / 3.0));
    // Without the second entry, precisions are 1, 1 and 3/5.
    let difficult = table(&[&[0i64], &[1], &[0], &[0], &[0], &[0]]);
    let found = class_map(&s, &l, Some(&difficult), ApRule::ElevenPoint);
    assert!(close(found, (7.0 + 4.0 * 0.6) / 11.0), "{found}");
    // A true entry that is ignored counts neither way.
    let difficult = table(&[&[0i64], &[0], &[0], &[0], &[0], &[1]]);
    assert!(close(class_map(&s, &l, Some(&difficult), ApRule::ElevenPoint), (6.0 + 5.0 * 2.0 / 3.0) / 11.0));

    let mut rng = seed::at(23, 0, 0);
    let (n, c) = (41, 6);
    let s: Vec<Vec<f64>> = (0..n).map(|_| (0..c).map(|_| rng.random_range(0..9) as f64).collect()).collect();
    let draw = |rng: &mut rand_chacha::ChaCha8Rng, odds: u32| -> Vec<Vec<bool>> {
        (0..n).map(|_| (0..c).map(|k| k != 2 && rng.random_range(0..odds) == 0).collect()).collect()
    };
    let (l, d) = (draw(&mut rng, 3), draw(&mut rng, 5));
    // Class 4: ten true images, so that recalls fall on the points themselves.
    let l: Vec<Vec<bool>> = l
        .into_iter()
        .enumerate()
        .map(|(i, row)| (0..c).map(|k| if k == 4 { i % 4 == 0 && i < 40 } else { row[k] }).collect())
        .collect();
    let twin = |k: usize, ignore: bool, eleven: bool| -> Option<f64> {
        let seen: Vec<usize> = (0..n).filter(|&i| !(ignore && d[i][k])).collect();
        let ahead = |a: usize, b: usize| s[a][k] > s[b][k] || (s[a][k] == s[b][k] && a <= b);
        let all = seen.iter().filter(|&&i| l[i][k]).count();
        // At every image: how many are not behind it, how many of them are true.
        let at = |i: usize| {
            let rank = seen.iter().filter(|&&a| ahead(a, i)).count();
            (seen.iter().filter(|&&a| ahead(a, i) && l[a][k]).count(), rank)
        };
        if all == 0 {
            return None;
        }
        if !eleven {
            let sum: f64 = seen.iter().filter(|&&i| l[i][k]).map(|&i| at(i).0 as f64 / at(i).1 as f64).sum();
            return Some(sum / all as f64);
        }
        let mut sum = 0.0;
        for t in 0..=10 {
            let mut best = 0.0f64;
            for &i in &seen {
                let (hits, rank) = at(i);
                if hits * 10 >= t * all {
                    best = best.max(hits as f64 / rank as f64);
                }
            }
            sum += best / 11.0;
        }
        Some(sum)
    };
    let flat = |x: &[Vec<bool>]| Tensor::from_slice(&x.concat()).reshape([n as i64, c as i64]);
    let scores = Tensor::from_slice(&s.concat()).reshape([n as i64, c as i64]);
    for (ignore, rule) in
        [(false, ApRule::Step), (true, ApRule::Step), (false, ApRule::ElevenPoint), (true, ApRule::ElevenPoint)]
    {
        let difficult = flat(&d);
        let found = class_precisions(&scores, &flat(&l), ignore.then_some(&difficult), rule);
        let wanted: Vec<Option<f64>> = (0..c).map(|k| twin(k, ignore, rule == ApRule::ElevenPoint)).collect();
        assert!(wanted[2].is_none() && wanted[4].is_some());
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!(
                found.is_some() == wanted.is_some() && close(found.unwrap_or(0.0), wanted.unwrap_or(0.0)),
                "{found:?} {wanted:?}"
            );
        }
        let mean = wanted.iter().flatten().sum::<f64>() / 5.0;
        assert!(close(class_map(&scores, &flat(&l), ignore.then_some(&difficult), rule), mean));
    }
    assert!(class_map(&scores, &flat(&vec![vec![false; c]; n]), None, ApRule::ElevenPoint).is_nan());
}

#[test]
fn top_k_takes_the_lower_class_on_a_tie_and_nan_last() {
    let s = table(&[&[1.0f32, 2.0, 2.0, 0.0], &[f32::NAN, f32::NEG_INFINITY, 5.0, -0.0], &[0.0, -0.0, 0.0, 0.0]]);
    let want = |rows: [[u8; 4]; 3]| Tensor::from_slice(&rows.concat()).reshape([3, 4]).to_kind(Kind::Bool);
    assert_eq!(top_k(&s, 1), want([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]));
    assert_eq!(top_k(&s, 3), want([[1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 0]]));
    assert_eq!(top_k(&s, 9), want([[1; 4]; 3]));
    assert_eq!(top_counts(&s, &[0, 4, 2]), want([[0; 4], [1; 4], [1, 1, 0, 0]]));
    let none = Tensor::zeros([0, 4], (Kind::Float, tch::Device::Cpu));
    assert_eq!(top_k(&none, 2).size(), [0, 4]);
    assert!(exact_match(&none, &none).is_nan() && mean_average_precision(&none, &none, Over::Images).is_nan());
    assert_eq!(per_class(&none, &none).f1, 0.0);
}
