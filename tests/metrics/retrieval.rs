use rand::Rng;
use rankle::distance::Metric;
use rankle::metrics::retrieval::{
    Ap, Exclude, Identity, QueryGallery, evaluate, evaluate_distances, multi_query, ranking, ranking_distances, rerank,
    single_shot,
};
use rankle::seed;
use tch::{Device, Kind, Tensor};

use crate::common::{shared, squared};

fn who(person: i64, camera: i64) -> Identity {
    Identity { person, camera }
}

/// Embeddings on a coarse grid (so that distances tie), in persons' clusters when `spread` is small.
fn drawn(s: u64, n: usize, d: usize, people: i64, kind: Kind) -> (Tensor, Vec<Identity>, Vec<Vec<f64>>) {
    let mut rng = seed::at(s, 0, 0);
    let ids: Vec<Identity> = (0..n).map(|_| who(rng.random_range(-1..people), rng.random_range(1..4))).collect();
    let rows: Vec<Vec<f64>> = ids
        .iter()
        .map(|w| (0..d).map(|k| ((w.person * 7 + k as i64 * 3) % 5) as f64 + rng.random_range(-8..8) as f64).collect())
        .collect();
    let flat: Vec<f64> = rows.concat();
    (Tensor::from_slice(&flat).reshape([n as i64, d as i64]).to_kind(kind), ids, rows)
}

/// The twin: sort everything, walk the list.
fn naive(row: &[f64], i: usize, w: Identity, g: &[Identity], exclude: Exclude) -> Option<(usize, usize, f64, f64)> {
    let mut seen: Vec<usize> = (0..g.len())
        .filter(|&j| g[j].person >= 0)
        .filter(|&j| match exclude {
            Exclude::Itself => i != j,
            Exclude::SameCamera => w.person <= 0 || g[j] != w,
        })
        .collect();
    let key = |j: usize| if row[j].is_finite() { row[j] } else { f64::INFINITY };
    seen.sort_by(|&a, &b| key(a).total_cmp(&key(b)).then(a.cmp(&b)));
    let right: Vec<bool> = seen.iter().map(|&j| w.person > 0 && g[j].person == w.person).collect();
    let m = right.iter().filter(|r| **r).count();
    let first = right.iter().position(|r| *r)? + 1;
    let (mut hits, mut step, mut area, mut recall, mut precision) = (0.0, 0.0, 0.0, 0.0, 1.0);
    for (r, right) in right.iter().enumerate() {
        if *right {
            hits += 1.0;
            step += hits / (r + 1) as f64;
        }
        let now = (hits / m as f64, hits / (r + 1) as f64);
        area += (now.0 - recall) * (precision + now.1) / 2.0;
        (recall, precision) = now;
    }
    Some((first, m, area, step / m as f64))
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn average_precision_of_known_lists() {
    for (list, trapezoid, step) in [
        (&[1, 0, 1, 0, 0, 1][..], 0.677778, 0.722222),
        (&[0, 1, 1, 0], 0.416667, 0.583333),
        (&[0, 0, 1], 0.166667, 0.333333),
        (&[1], 1.0, 1.0),
    ] {
        let g: Vec<Identity> = list.iter().map(|&hit| who(if hit == 1 { 5 } else { 6 }, 2)).collect();
        let dist = Tensor::arange(list.len() as i64, (Kind::Float, Device::Cpu)).unsqueeze(0);
        let r = evaluate_distances(&dist, &[who(5, 1)], &g, Exclude::SameCamera, Ap::Trapezoid);
        assert!((r.map() - trapezoid).abs() < 1e-6 && (r.map_of(Ap::Step) - step).abs() < 1e-6, "{list:?}: {r:?}");
        assert_eq!(r.answers[0].map(|a| a.first), list.iter().position(|&hit| hit == 1).map(|r| r + 1));
    }
}

#[test]
fn streams_to_what_sorting_everything_gives() {
    for (s, kind) in [(1, Kind::Float), (2, Kind::Double), (3, Kind::BFloat16)] {
        let (x, q, xs) = drawn(s, 60, 6, 12, kind);
        let (y, g, ys) = drawn(s + 10, 211, 6, 12, kind);
        let rows: Vec<Vec<f64>> = xs.iter().map(|a| ys.iter().map(|b| squared(a, b)).collect()).collect();
        for metric in [Metric::Euclidean, Metric::SquaredEuclidean] {
            let r = evaluate(QueryGallery::new(&x, &y, &q, &g), metric, Ap::Step);
            let mut skipped = 0;
            for i in 0..q.len() {
                let twin = naive(&rows[i], i, q[i], &g, Exclude::SameCamera);
                skipped += usize::from(twin.is_none());
                assert_eq!(twin.is_none(), r.answers[i].is_none());
                if let (Some((first, m, trapezoid, step)), Some(a)) = (twin, r.answers[i]) {
                    assert_eq!((first, m), (a.first, a.matches), "query {i}");
                    assert!(close(trapezoid, a.trapezoid) && close(step, a.step), "query {i}: {a:?}");
                }
            }
            assert!(skipped > 0 && skipped < q.len() && r.skipped == skipped && r.non_finite == 0);
            let found = || r.answers.iter().flatten();
            let at = |k: usize| found().filter(|a| a.first <= k).count() as f64 / (60 - skipped) as f64;
            assert_eq!(r.cmc(20), (1..=20).map(at).collect::<Vec<_>>());
            assert!(close(r.rank(5), at(5)) && r.rank(0) == 0.0 && r.rank(10_000) == 1.0);
            let aps: Vec<f64> = found().map(|a| a.step).collect();
            assert!(close(r.map(), aps.iter().sum::<f64>() / aps.len() as f64));
            assert_eq!(r.junk, g.iter().filter(|w| w.person == -1).count());
            assert_eq!(r.distractors, g.iter().filter(|w| w.person == 0).count());
        }
        let r = evaluate(QueryGallery::among(&y, &g), Metric::Euclidean, Ap::Trapezoid);
        for (i, a) in ys.iter().enumerate() {
            let row: Vec<f64> = ys.iter().map(|b| squared(a, b)).collect();
            let twin = naive(&row, i, g[i], &g, Exclude::Itself);
            let ours = r.answers[i].map(|a| (a.first, a.matches));
            assert_eq!(twin.map(|t| (t.0, t.1)), ours);
            assert!(twin.is_none_or(|t| close(t.2, r.answers[i].map_or(0.0, |a| a.trapezoid))));
        }
    }
}

/// Galleries of several tiles: blocks that a thread has to itself, the last one short, and blocks that all threads share.
#[test]
fn large_galleries_stream_to_the_same() {
    for (s, queries, gallery, people) in [(21, 1100, 1100, 300), (22, 70, 66_000, 4000)] {
        let (x, q, xs) = drawn(s, queries, 4, people, Kind::Float);
        let (y, g, ys) = drawn(s + 10, gallery, 4, people, Kind::Float);
        let r = evaluate(QueryGallery::new(&x, &y, &q, &g), Metric::SquaredEuclidean, Ap::Step);
        for (i, a) in xs.iter().enumerate() {
            let row: Vec<f64> = ys.iter().map(|b| squared(a, b)).collect();
            let twin = naive(&row, i, q[i], &g, Exclude::SameCamera);
            assert_eq!(twin.map(|t| (t.0, t.1)), r.answers[i].map(|a| (a.first, a.matches)), "query {i} of {queries}");
            assert!(twin.is_none_or(|t| close(t.3, r.answers[i].map_or(0.0, |a| a.step))), "query {i} of {queries}");
        }
        assert!(r.skipped < queries && r.non_finite == 0);
    }
}

#[test]
fn cosine_ranks_by_angle_and_zero_rows_are_at_right_angles() {
    let x = Tensor::from_slice(&[3.0f32, 0.0]).reshape([1, 2]);
    let y = Tensor::from_slice(&[-1.0f32, 0.1, 0.0, 0.0, 1e-30, 1e-30, 200.0, 1.0, 0.0, -4.0]).reshape([5, 2]);
    let g: Vec<Identity> = (0..5).map(|i| who(i + 1, 2)).collect();
    let hits = ranking(QueryGallery::new(&x, &y, &[who(3, 1)], &g), Metric::Cosine, 9);
    let order: Vec<usize> = hits[0].iter().map(|h| h.index).collect();
    assert_eq!((order[0], order[1], order[4]), (3, 2, 0));
    let far: Vec<f64> = hits[0].iter().map(|h| h.distance).collect();
    assert!(
        (far[1] - (1.0 - 0.5f64.sqrt())).abs() < 1e-6 && (far[2] - 1.0).abs() < 1e-6 && (far[3] - 1.0).abs() < 1e-6
    );
    assert_eq!(hits[0].iter().map(|h| h.correct).collect::<Vec<_>>(), [false, true, false, false, false]);
}

#[test]
fn ranking_drops_junk_and_the_same_camera_and_keeps_gallery_indices() {
    let y = Tensor::from_slice(&[0.0f64, 1., 2., 3., 4., 5.]).reshape([6, 1]) + 1e6;
    let g = [who(-1, 2), who(7, 1), who(0, 1), who(7, 2), who(8, 1), who(7, 1)];
    let x = Tensor::from_slice(&[1e6f64]).reshape([1, 1]);
    for k in [2, 50] {
        let hits = ranking(QueryGallery::new(&x, &y, &[who(7, 1)], &g), Metric::Euclidean, k);
        let got: Vec<_> = hits[0].iter().map(|h| (h.index, h.distance, h.correct)).collect();
        assert_eq!(got, [(2, 2.0, false), (3, 3.0, true), (4, 4.0, false)][..k.min(3)]);
    }
}

#[test]
fn a_large_common_mean_changes_nothing() {
    let (x, q, _) = drawn(4, 50, 8, 10, Kind::Float);
    let (y, g, _) = drawn(5, 90, 8, 10, Kind::Float);
    let plain = evaluate(QueryGallery::new(&x, &y, &q, &g), Metric::Euclidean, Ap::Step);
    let moved = evaluate(QueryGallery::new(&(x + 4096.0), &(y + 4096.0), &q, &g), Metric::Euclidean, Ap::Step);
    assert_eq!(plain.answers, moved.answers);
}

#[test]
fn broken_rows_sort_last_are_counted_and_harm_no_other() {
    let (x, q, xs) = drawn(6, 40, 5, 6, Kind::Float);
    let (y, g, ys) = drawn(7, 80, 5, 6, Kind::Float);
    let (bad_q, bad_g) = (3, 17);
    let _ = x.get(bad_q as i64).get(2).fill_(f64::NAN);
    let _ = y.get(bad_g as i64).get(0).fill_(f64::INFINITY);
    let r = evaluate(QueryGallery::new(&x, &y, &q, &g), Metric::Euclidean, Ap::Step);
    let seen = g.iter().filter(|w| w.person >= 0).count();
    assert!(g[bad_g].person >= 0);
    assert_eq!(r.non_finite, seen + q.len() - 1);
    for (i, a) in xs.iter().enumerate() {
        let bad = |j| i == bad_q || j == bad_g;
        let row: Vec<f64> = ys.iter().enumerate().map(|(j, b)| if bad(j) { f64::NAN } else { squared(a, b) }).collect();
        let twin = naive(&row, i, q[i], &g, Exclude::SameCamera);
        assert_eq!(twin.map(|t| t.0), r.answers[i].map(|a| a.first));
        assert!(twin.is_none_or(|t| close(t.3, r.answers[i].map_or(0.0, |a| a.step))));
    }
    assert!(r.to_string().contains("not finite"), "{r}");
}

#[test]
fn empty_sides_and_no_match_give_nan_not_a_panic() {
    let none = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
    let one = Tensor::zeros([1, 4], (Kind::Float, Device::Cpu));
    let r = evaluate(QueryGallery::new(&none, &one, &[], &[who(1, 1)]), Metric::Cosine, Ap::Step);
    assert!(r.map().is_nan() && r.rank(1).is_nan() && r.skipped == 0);
    for (g, gallery) in
        [(&[][..], &none), (&[who(-1, 2)][..], &one), (&[who(2, 2)][..], &one), (&[who(1, 1)][..], &one)]
    {
        let r = evaluate(QueryGallery::new(&one, gallery, &[who(1, 1)], g), Metric::Euclidean, Ap::Step);
        assert!(r.map().is_nan() && r.cmc(2).iter().all(|c| c.is_nan()));
        assert_eq!(r.skipped, 1);
    }
}

/// The authors' program on dense f64 matrices.
fn rerank_twin(x: &[Vec<f64>], queries: usize, k1: usize, k2: usize, lambda: f64) -> Vec<Vec<f64>> {
    let n = x.len();
    let mut d: Vec<Vec<f64>> = x.iter().map(|a| x.iter().map(|b| squared(a, b)).collect()).collect();
    for row in &mut d {
        let max = row.iter().copied().fold(0.0, f64::max);
        row.iter_mut().for_each(|v| *v /= max);
    }
    let rank: Vec<Vec<usize>> = (0..n)
        .map(|i| {
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| d[i][a].total_cmp(&d[i][b]).then((a != i).cmp(&(b != i))).then(a.cmp(&b)));
            order
        })
        .collect();
    let reciprocal = |i: usize, k: usize| -> Vec<usize> {
        let forward = &rank[i][..k.min(n)];
        forward.iter().copied().filter(|&j| rank[j][..k.min(n)].contains(&i)).collect()
    };
    let half = (k1 as f64 / 2.0).round_ties_even() as usize + 1;
    let mut v = vec![vec![0.0; n]; n];
    for i in 0..n {
        let own = reciprocal(i, k1 + 1);
        let mut all = own.clone();
        for &c in &own {
            let theirs = reciprocal(c, half);
            let common = theirs.iter().filter(|t| own.contains(t)).count();
            if common as f64 > 2.0 / 3.0 * theirs.len() as f64 {
                all.extend(theirs);
            }
        }
        all.sort();
        all.dedup();
        let sum: f64 = all.iter().map(|&j| (-d[i][j]).exp()).sum();
        all.iter().for_each(|&j| v[i][j] = (-d[i][j]).exp() / sum);
    }
    if k2 != 1 {
        let k2 = k2.min(n);
        v = (0..n)
            .map(|i| (0..n).map(|c| rank[i][..k2].iter().map(|&j| v[j][c]).sum::<f64>() / k2 as f64).collect())
            .collect();
    }
    (0..queries)
        .map(|i| {
            (queries..n)
                .map(|j| {
                    let s: f64 = (0..n).map(|c| v[i][c].min(v[j][c])).sum();
                    (1.0 - lambda) * (1.0 - s / (2.0 - s)) + lambda * d[i][j]
                })
                .collect()
        })
        .collect()
}

#[test]
fn rerank_equals_the_dense_program() {
    let mut rng = seed::at(8, 0, 0);
    for (k, (queries, n, d, k1, k2, lambda)) in [
        (30, 150, 7, 20, 6, 0.3),
        (10, 60, 3, 5, 1, 0.0),
        (9, 40, 2, 7, 9, 0.5),
        (3, 8, 4, 20, 6, 0.3), // k1 beyond the set
        (4, 30, 3, 0, 2, 1.0),
        (5, 50, 5, 1, 3, 0.3),
        (60, 1100, 4, 20, 6, 0.3), // several tiles and blocks
    ]
    .into_iter()
    .enumerate()
    {
        let kind = if k % 2 == 0 { Kind::Float } else { Kind::Double };
        let mut x: Vec<Vec<f64>> = (0..n)
            .map(|i| (0..d).map(|k| ((i * 5 + k) % 4) as f64 + f64::from(rng.random::<f32>()) * 2.0 - 30.0).collect())
            .collect();
        x.iter_mut().flatten().for_each(|v| *v = f64::from(*v as f32));
        x[n - 1] = x[0].clone(); // a query's double in the gallery
        let t = |rows: &[Vec<f64>]| Tensor::from_slice(&rows.concat()).reshape([-1, d as i64]).to_kind(kind);
        let ours = rerank(&t(&x[..queries]), &t(&x[queries..]), k1, k2, lambda);
        assert_eq!((ours.kind(), ours.size()), (kind, vec![queries as i64, (n - queries) as i64]));
        let twin = rerank_twin(&x, queries, k1, k2, lambda);
        for (i, row) in twin.iter().enumerate() {
            for (j, want) in row.iter().enumerate() {
                let got = ours.double_value(&[i as i64, j as i64]);
                assert!((got - want).abs() < 2e-6, "case {k}, ({i}, {j}): {got} instead of {want}");
            }
        }
    }
}

#[test]
fn rerank_survives_equal_points_broken_rows_and_empty_sides() {
    let same = Tensor::ones([30, 4], (Kind::Float, Device::Cpu));
    let r = rerank(&same.narrow(0, 0, 5), &same.narrow(0, 5, 25), 20, 6, 0.3);
    assert_eq!(r.isfinite().all().int64_value(&[]), 1);
    let (x, ..) = drawn(9, 40, 4, 6, Kind::Float);
    let whole = rerank(&x.narrow(0, 0, 10), &x.narrow(0, 10, 29), 5, 3, 0.3);
    let _ = x.get(39).fill_(f64::NAN);
    let broken = rerank(&x.narrow(0, 0, 10), &x.narrow(0, 10, 30), 5, 3, 0.3);
    assert!(broken.narrow(1, 0, 29).allclose(&whole, 0.0, 1e-6, false));
    assert_eq!(broken.select(1, 29).isinf().all().int64_value(&[]), 1);
    let none = x.narrow(0, 0, 0);
    assert_eq!(rerank(&none, &x, 5, 3, 0.3).size(), [0, 40]);
    assert_eq!(rerank(&x, &none, 5, 3, 0.3).size(), [40, 0]);
    assert_eq!(rerank(&none, &none, 5, 3, 0.3).size(), [0, 0]);
}

#[test]
fn single_shot_draws_one_image_a_person_from_other_cameras() {
    // Person 1 has one good and one bad image elsewhere: found first in half of the draws.
    let y = Tensor::from_slice(&[0.0f32, 1.0, 9.0, 5.0, 0.1, 0.2]).reshape([6, 1]);
    let g = [who(1, 1), who(1, 2), who(1, 2), who(2, 2), who(2, 1), who(-1, 2)];
    let x = Tensor::from_slice(&[0.0f32, 0.0]).reshape([2, 1]);
    let q = [who(1, 1), who(3, 1)];
    let single_shot = |seed: u64| single_shot(&Metric::Euclidean.matrix(&x, &y), &q, &g, 4000, seed);
    let r = single_shot(5);
    assert!((r.rank(1) - 0.5).abs() < 0.03 && r.rank(0) == 0.0, "{r:?}");
    assert_eq!((r.cmc.len(), r.rank(2), r.rank(9), r.skipped), (2, 1.0, 1.0, 1));
    assert!((r.rank1_std - 0.5).abs() < 0.01);
    assert_eq!(single_shot(5).cmc, r.cmc);
    assert_ne!(single_shot(6).cmc, r.cmc);
}

#[test]
fn single_shot_on_drawn_sets_agrees_with_the_twin_where_nothing_is_drawn() {
    // One image a person and camera 2 only: every draw is the same, so CMC is that of a plain ranking.
    let (x, mut q, _) = drawn(12, 30, 4, 40, Kind::Float);
    let (y, mut g, _) = drawn(13, 40, 4, 40, Kind::Float);
    q.iter_mut().enumerate().for_each(|(i, w)| *w = who(i as i64 + 1, 1));
    g.iter_mut().enumerate().for_each(|(i, w)| *w = who(i as i64 + 1, 2));
    let dist = Metric::Euclidean.matrix(&x, &y);
    let shot = single_shot(&dist, &q, &g, 3, 0);
    let plain = evaluate_distances(&dist, &q, &g, Exclude::SameCamera, Ap::Step);
    assert!(shot.cmc.iter().zip(plain.cmc(40)).all(|(a, b)| close(*a, b)) && shot.rank1_std == 0.0);
}

#[test]
fn multi_query_averages_a_person_and_camera() {
    let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 6.0, 100.0, 100.0]).reshape([3, 2]);
    let ids = [who(1, 1), who(1, 1), who(1, 2)];
    let out = multi_query(&x, &ids, &[who(1, 2), who(1, 1)]).expect("every query has an image");
    assert_eq!(out, Tensor::from_slice(&[100.0f32, 100.0, 2.0, 4.0]).reshape([2, 2]));
    let error = multi_query(&x, &ids, &[who(1, 2), who(4, 1)]).expect_err("person 4 has none").to_string();
    assert!(error.contains("query 1 (person 4, camera 1)"), "{error}");
    assert!(multi_query(&x, &ids[1..], &[]).is_err());
}

/// Identity from a Market-1501 name: `-1_c1s1_...`, `0002_c1s1_...`.
fn market(name: &str) -> Vec<Identity> {
    let Some(path) = shared(&format!("protocols/{name}")) else { return Vec::new() };
    let text = std::fs::read_to_string(path).expect("a list");
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    lines
        .map(|line| {
            let (person, path) = line.split_once(',').expect("person,path");
            let camera = path.split_once("_c").expect("_cN").1[..1].parse().expect("a digit");
            who(person.trim().parse().expect("a number"), camera)
        })
        .collect()
}

#[test]
fn market_lists_with_random_embeddings() {
    let (q, g) = (market("market1501_query.csv"), market("market1501_test.csv"));
    if q.is_empty() || g.is_empty() {
        return;
    }
    assert_eq!((q.len(), g.len()), (3368, 19732));
    tch::manual_seed(0);
    let rows = |n: usize| Tensor::randn([n as i64, 128], (Kind::Float, Device::Cpu));
    let (x, y) = (rows(q.len()), rows(g.len()));
    let r = evaluate(QueryGallery::new(&x, &y, &q, &g), Metric::Euclidean, Ap::Trapezoid);
    println!("{r}: mAP {} rank-1 {}", r.map(), r.rank(1));
    assert_eq!((r.junk, r.distractors, r.skipped, r.non_finite), (3819, 2798, 0, 0));
    // Chance: about 14 matches among 15913.
    assert!(r.map() < 0.01 && r.rank(1) < 0.01 && r.rank(15_913) == 1.0);
    let matches: usize = r.answers.iter().flatten().map(|a| a.matches).sum();
    let pairs: usize =
        q.iter().map(|a| g.iter().filter(|b| a.person == b.person && a.camera != b.camera).count()).sum();
    assert_eq!(matches, pairs);
}

#[test]
fn ready_distances_give_what_embeddings_give() {
    // Without equal rows: those are ordered by rounding.
    let (x, y) = (crate::common::matrix(21, 20, 4), crate::common::matrix(22, 50, 4));
    let (_, q, _) = drawn(21, 20, 4, 6, Kind::Double);
    let (_, g, _) = drawn(22, 50, 4, 6, Kind::Double);
    for metric in [Metric::SquaredEuclidean, Metric::Cosine] {
        let dist = metric.matrix(&x, &y);
        let (a, b) = (
            ranking(QueryGallery::new(&x, &y, &q, &g), metric, 7),
            ranking_distances(&dist, &q, &g, Exclude::SameCamera, 7),
        );
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            assert_eq!((a.index, a.correct), (b.index, b.correct));
            assert!((a.distance - b.distance).abs() < 1e-5);
        }
    }
}
