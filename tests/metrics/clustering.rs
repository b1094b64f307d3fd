//! Clusters and how well they agree with people.

use std::collections::BTreeSet;

use rand::Rng;
use rankle::metrics::Alone;
use rankle::metrics::clustering::{self, MANY, agglomerative, average_linkage, b_cubed, pairwise_f};
use rankle::seed;
use tch::{Device, Kind, Tensor};

use super::blobs;
use crate::common::rows;

/// The twin: join the nearest pair of clusters, means taken over members, until none is near enough.
fn greedy(d: &[Vec<f64>], threshold: f64) -> Vec<usize> {
    let mut clusters: Vec<Vec<usize>> = (0..d.len()).map(|i| vec![i]).collect();
    loop {
        let mut best = (f64::INFINITY, 0, 0);
        for a in 0..clusters.len() {
            for b in a + 1..clusters.len() {
                let sum: f64 = clusters[a].iter().flat_map(|&i| clusters[b].iter().map(move |&j| d[i][j])).sum();
                let mean = sum / (clusters[a].len() * clusters[b].len()) as f64;
                if mean < best.0 {
                    best = (mean, a, b);
                }
            }
        }
        if best.0 >= threshold {
            break;
        }
        let gone = clusters.remove(best.2);
        clusters[best.1].extend(gone);
    }
    clusters.iter_mut().for_each(|c| c.sort());
    clusters.sort();
    let mut of = vec![0; d.len()];
    for (number, c) in clusters.iter().enumerate() {
        c.iter().for_each(|&i| of[i] = number);
    }
    of
}

#[test]
fn chain_equals_joining_the_nearest() {
    let mut rng = seed::at(31, 0, 0);
    for n in [0, 1, 2, 3, 40] {
        let x: Vec<f64> = (0..n).map(|i| (i % 5) as f64 + rng.random::<f64>() * 1.5).collect();
        let y: Vec<f64> = (0..n).map(|_| rng.random::<f64>()).collect();
        let d: Vec<Vec<f64>> =
            (0..n).map(|i| (0..n).map(|j| ((x[i] - x[j]).powi(2) + (y[i] - y[j]).powi(2)).sqrt()).collect()).collect();
        let t = Tensor::from_slice(&d.concat()).reshape([n as i64, n as i64]);
        let mut sizes = std::collections::HashSet::new();
        for threshold in [0.0, 0.2, 0.5, 0.8, 1.2, 2.0, 9.0] {
            let ours = agglomerative(&t, threshold);
            assert_eq!(ours, greedy(&d, threshold), "n {n}, threshold {threshold}");
            sizes.insert(ours.into_iter().max());
        }
        assert!(n < 40 || sizes.len() > 4);
    }
}

#[test]
fn equal_and_broken_distances_end() {
    let same = Tensor::zeros([9, 9], (Kind::Float, tch::Device::Cpu));
    assert_eq!(agglomerative(&same, 0.1), [0; 9]);
    assert_eq!(agglomerative(&(&same + 1.0), 1.0), (0..9).collect::<Vec<_>>());
    assert_eq!(agglomerative(&(&same + f64::NAN), f64::INFINITY), (0..9).collect::<Vec<_>>());
}

#[test]
fn agreement_by_nested_loops() {
    let mut rng = seed::at(32, 0, 0);
    let n = 60;
    let c: Vec<usize> = (0..n).map(|_| rng.random_range(0..9)).collect();
    let p: Vec<i64> =
        c.iter().map(|&c| if rng.random_range(0..3) == 0 { rng.random_range(-1..9) } else { c as i64 }).collect();
    let (mut both, mut together, mut belong) = (0.0, 0.0, 0.0);
    let (mut bp, mut br) = (0.0, 0.0);
    for i in 0..n {
        let (mut b, mut t, mut q) = (0.0, 0.0, 0.0);
        for j in 0..n {
            let (in_c, in_p) = (c[i] == c[j], p[i] == p[j]);
            b += f64::from(u8::from(in_c && in_p));
            t += f64::from(u8::from(in_c));
            q += f64::from(u8::from(in_p));
            if i < j {
                both += f64::from(u8::from(in_c && in_p));
                together += f64::from(u8::from(in_c));
                belong += f64::from(u8::from(in_p));
            }
        }
        bp += b / t / n as f64;
        br += b / q / n as f64;
    }
    let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
    let f = |a: f64, b: f64| 2.0 * a * b / (a + b);
    let (pair, cubed) = (pairwise_f(&c, &p), b_cubed(&c, &p));
    assert!(near(pair.precision, both / together) && near(pair.recall, both / belong));
    assert!(near(pair.f, f(pair.precision, pair.recall)));
    assert!(near(cubed.precision, bp) && near(cubed.recall, br) && near(cubed.f, f(bp, br)));
    assert_eq!(pairwise_f(&[0, 1, 2], &[1, 2, 3]).f, 1.0);
    assert_eq!(pairwise_f(&[0, 0], &[1, 2]).f, 0.0);
    assert!(b_cubed(&[], &[]).f.is_nan());
}

/// Without distances the same clusters, and every row is counted once.
#[test]
fn average_linkage_is_agglomerative_on_squared_distances() {
    // The last is more than a block, and so far from 0 that f32 tells few of its rows apart.
    for (seed, n) in [(1, 0), (2, 1), (3, 2), (4, 60), (5, 300), (7, 1100)] {
        let x = crate::common::matrix(seed, n, 5);
        let x = match n {
            300 => rankle::distance::normalize(&x),
            1100 => x + 30.,
            _ => x,
        };
        let d = rankle::distance::Metric::SquaredEuclidean.matrix(&x, &x);
        let mut found = std::collections::HashSet::new();
        for threshold in [1e-6, 0.1, 0.4, 0.8, 1.1, 1.7, 9.] {
            let mut rows = 0;
            let ours = average_linkage(&x, threshold, || rows += 1);
            assert_eq!(ours, agglomerative(&d, threshold), "{n} rows, {threshold}");
            assert_eq!(rows, n);
            found.insert(ours.into_iter().max());
        }
        assert!(n < 60 || found.len() > 4, "{found:?}");
    }
    // So many numbers that they are f32: columns of zeros change no distance.
    let x = crate::common::matrix(6, 60, 5);
    let d = rankle::distance::Metric::SquaredEuclidean.matrix(&x, &x);
    let x = x.constant_pad_nd([0, (MANY / 60) as i64]);
    for threshold in [0.4, 1.7] {
        assert_eq!(average_linkage(&x, threshold, || ()), agglomerative(&d, threshold));
    }
    // Rows that are alike, and one that is no number.
    let x = Tensor::from_slice(&[1., 1., 1., 1., f64::NAN, 0., 1., 1.]).view([4, 2]);
    assert_eq!(average_linkage(&x, 0.1, || ()), [0, 0, 1, 0]);
}

#[test]
fn k_means_finds_plain_clusters_and_survives_edges() {
    let k_means = |x: &Tensor, k, seed, steps| clustering::k_means(x, k, seed, steps, &Alone).unwrap();
    let (x, people) = blobs(8, 5, 12, 0.05);
    let mut right = 0;
    for seed in 0..10 {
        let of = k_means(&x, 5, seed, 100);
        let map: BTreeSet<(usize, i64)> = of.iter().copied().zip(people.iter().copied()).collect();
        right += usize::from(map.len() == 5);
        // No row is nearer to another cluster's mean than to its own: what Lloyd's steps end with.
        let d = |centre: &[f64], row: &[f64]| centre.iter().zip(row).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let r = rows(&x);
        let count = of.iter().max().expect("rows") + 1;
        let centres: Vec<Vec<f64>> = (0..count)
            .map(|c| {
                let mine: Vec<&Vec<f64>> = r.iter().zip(&of).filter(|(_, o)| **o == c).map(|(row, _)| row).collect();
                (0..6).map(|k| mine.iter().map(|row| row[k]).sum::<f64>() / mine.len() as f64).collect()
            })
            .collect();
        for (row, &own) in r.iter().zip(&of) {
            assert!(centres.iter().all(|centre| d(centre, row) >= d(&centres[own], row) - 1e-9));
        }
    }
    assert!(right >= 7, "{right} of 10 seeds found the five clusters");
    assert_eq!(k_means(&x, 60, 1, 100).iter().collect::<BTreeSet<_>>().len(), 60);
    assert_eq!(k_means(&Tensor::ones([4, 2], (Kind::Float, Device::Cpu)), 3, 1, 10), [0; 4]);
    assert_eq!(k_means(&x, 1, 1, 10), vec![0; 60]);
}
