//! Clusters and how well they agree with people.

use std::collections::BTreeSet;

use rand::Rng;
use rankle::distance::{Metric, normalize};
use rankle::metrics::Alone;
use rankle::metrics::clustering::{self, MANY, average_linkage, b_cubed, gap, pairwise_f};
use rankle::seed;
use tch::{Device, Kind, Tensor};

use super::blobs;
use crate::common::rows;

/// The twin: join the nearest pair of clusters, by the mean over their members, while that is below a threshold; for each of
/// the rising `thresholds`.
fn greedy(mut d: Vec<Vec<f64>>, thresholds: &[f64]) -> Vec<Vec<usize>> {
    // Clusters by their first rows; how many rows each has; the cluster of each row.
    let (mut clusters, mut size) = ((0..d.len()).collect::<Vec<usize>>(), vec![1.; d.len()]);
    let (mut of, mut found) = (clusters.clone(), Vec::new());
    while found.len() < thresholds.len() {
        let mut best = (f64::INFINITY, 0, 0);
        for (i, &a) in clusters.iter().enumerate() {
            for &b in &clusters[i + 1..] {
                if d[a][b] < best.0 {
                    best = (d[a][b], a, b);
                }
            }
        }
        let (distance, a, b) = best;
        if distance >= thresholds[found.len()] {
            found.push(of.iter().map(|row| clusters.binary_search(row).expect("a cluster")).collect());
            continue;
        }
        for &j in &clusters {
            let mean = (size[a] * d[a][j] + size[b] * d[b][j]) / (size[a] + size[b]);
            (d[a][j], d[j][a]) = (mean, mean);
        }
        size[a] += size[b];
        of.iter_mut().filter(|row| **row == b).for_each(|row| *row = a);
        clusters.retain(|&row| row != b);
    }
    found
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
    // Of no pairs there is no share.
    let none = pairwise_f(&[0, 1, 2], &[1, 2, 3]);
    assert!([none.precision, none.recall, none.f].iter().all(|x| x.is_nan()));
    let apart = pairwise_f(&[0, 1], &[1, 1]);
    assert!(apart.precision.is_nan() && (apart.recall, apart.f) == (0.0, 0.0));
    assert_eq!(pairwise_f(&[0, 0], &[1, 2]).f, 0.0);
    assert!(b_cubed(&[], &[]).f.is_nan());
}

/// Every row is counted once.
#[test]
fn average_linkage_is_joining_the_nearest() {
    // The last is more than a block, and so far from 0 that f32 tells few of its rows apart.
    for (seed, n) in [(1, 0), (2, 1), (3, 2), (4, 60), (5, 300), (7, 1100)] {
        let x = crate::common::matrix(seed, n, 5);
        let x = match n {
            300 => normalize(&x),
            1100 => x + 30.,
            _ => x,
        };
        let d = Metric::SquaredEuclidean.matrix(&x, &x);
        let mut found = std::collections::HashSet::new();
        let thresholds = [1e-6, 0.1, 0.4, 0.8, 1.1, 1.7, 9.];
        for (threshold, twin) in thresholds.into_iter().zip(greedy(rows(&d), &thresholds)) {
            let mut counted = 0;
            let ours = average_linkage(&x, threshold, || counted += 1);
            assert_eq!(ours, twin, "{n} rows, {threshold}");
            assert_eq!(counted, n);
            found.insert(ours.into_iter().max());
        }
        assert!(n < 60 || found.len() > 4, "{found:?}");
    }
    // So many numbers that they are f32: columns of zeros change no distance.
    let x = crate::common::matrix(6, 60, 5);
    let d = Metric::SquaredEuclidean.matrix(&x, &x);
    let x = x.constant_pad_nd([0, (MANY / 60) as i64]);
    let thresholds = [0.4, 1.7];
    assert_eq!(
        thresholds.map(|threshold| average_linkage(&x, threshold, || ())).to_vec(),
        greedy(rows(&d), &thresholds)
    );
    // All equally far: what is at the threshold is not below it.
    let equal = Tensor::eye(9, (Kind::Double, Device::Cpu));
    assert_eq!(average_linkage(&equal, 2., || ()), (0..9).collect::<Vec<_>>());
    assert_eq!(average_linkage(&equal, 2.1, || ()), [0; 9]);
    // Rows that are alike, and one that is no number.
    let x = Tensor::from_slice(&[1., 1., 1., 1., f64::NAN, 0., 1., 1.]).view([4, 2]);
    assert_eq!(average_linkage(&x, 0.1, || ()), [0, 0, 1, 0]);
}

#[test]
fn a_gap_is_plain_and_below_the_cut() {
    type Row<'a> = (&'a [f64], Option<(usize, f64)>);
    let all: [Row<'_>; 9] = [
        (&[0.41, 0.48, 0.98, 1.04, 1.3], Some((2, 0.73))),
        (&[0.41, 0.48, 0.9, 1.04], None),           // not twice as far
        (&[0.3, 0.48, 1.2, 1.3], None),             // beyond the cut, which does as well
        (&[0., 0.2, 0.4, 0.98], Some((3, 0.69))),   // a copy is no gap,
        (&[0., 0., 0.3, 0.5], None),                // nor are two
        (&[0., 0., 0.8, 0.9], Some((2, 0.4))),      // before another person
        (&[0.3, 0.65, 0.66, 1.4], Some((1, 0.48))), // in hundredths
        (&[0.5], None),
        (&[], None),
    ];
    for (distances, found) in all {
        assert_eq!(gap(distances, 1.1), found, "{distances:?}");
    }
    assert_eq!(gap(&[1e-7, 0.9e-5], 1e-5), None, "no hundredth lies in it");
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
