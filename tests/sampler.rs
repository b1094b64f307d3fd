//! Which images make a batch: quadruplets (1704.01719).

use rankle::sampler::QuadrupletSampler;

#[test]
fn quadruplets_show_three_people_and_every_pair_two_cameras() {
    let labels: Vec<i64> = (0..60).map(|item| item / 6).collect();
    let cameras: Vec<i64> = (0..60).map(|item| item % 3).collect();
    let sampler = QuadrupletSampler::new(&labels, &cameras, 20, true, 7).expect("enough");
    let mut seen = std::collections::BTreeSet::new();
    for step in 0..50 {
        let batch = sampler.batch(step);
        assert_eq!(batch, sampler.batch(step));
        assert_eq!(batch.len(), 80);
        for m in 0..20 {
            let [a, p, n, l] = [0, 1, 2, 3].map(|part| batch[part * 20 + m]);
            assert!(labels[a] == labels[p] && a != p);
            assert!(labels[n] != labels[a] && labels[l] != labels[a] && labels[l] != labels[n]);
            assert!(cameras[a] != cameras[p] && cameras[a] != cameras[n] && cameras[l] != cameras[n]);
            seen.extend([a, p, n, l]);
        }
        // Everyone once before anyone twice, ten people a pass.
        let mut references: Vec<i64> = batch[..10].iter().map(|&item| labels[item]).collect();
        references.sort_unstable();
        assert_eq!(references, (0..10).collect::<Vec<_>>());
    }
    assert_eq!(seen.len(), 60, "all images are drawn");
    assert_ne!(sampler.batch(0), sampler.batch(1));
}

#[test]
fn a_list_has_all_pairs_both_ways_with_ten_negatives_of_the_positives_camera() {
    // Five people, two images by each of two cameras: 2 · 2 · 2 pairs a person.
    let labels: Vec<i64> = (0..20).map(|item| item / 4).collect();
    let cameras: Vec<i64> = (0..20).map(|item| item % 2).collect();
    let of = |seed| QuadrupletSampler::new(&labels, &cameras, 20, true, seed).expect("enough").listed();
    let sampler = of(7);
    let quadruplets = |step: u64| {
        let batch = sampler.batch(step);
        (0..20).map(move |m| [0, 1, 2, 3].map(|part| batch[part * 20 + m])).collect::<Vec<_>>()
    };
    let pass: Vec<[usize; 4]> = (0..20).flat_map(quadruplets).collect();
    let mut pairs = std::collections::BTreeMap::<(usize, usize), Vec<usize>>::new();
    for &[a, p, n, l] in &pass {
        assert!(
            labels[a] == labels[p] && cameras[a] != cameras[p] && cameras[n] == cameras[p] && cameras[l] != cameras[n]
        );
        assert!(labels[n] != labels[a] && labels[l] != labels[a] && labels[l] != labels[n]);
        pairs.entry((a, p)).or_default().push(n);
    }
    assert!(pairs.len() == 40 && pairs.values().all(|negatives| negatives.len() == 10), "{pairs:?}");
    assert!(pairs.values().any(|negatives| negatives.iter().any(|n| *n != negatives[0])));
    // The same list again, and another of another seed.
    assert!(quadruplets(20) == pass[..20] && sampler.batch(0) != of(8).batch(0));
}

#[test]
fn quadruplets_without_cameras_and_from_too_little() {
    let labels = [0_i64, 0, 1, 1, 2, 3];
    let one = [1_i64; 6];
    assert!(QuadrupletSampler::new(&labels, &one, 4, true, 1).is_none(), "one camera");
    let sampler = QuadrupletSampler::new(&labels, &one, 50, false, 1).expect("two images are enough");
    let batch = sampler.batch(3);
    for m in 0..50 {
        let [a, p, n, l] = [0, 1, 2, 3].map(|part| batch[part * 50 + m]);
        assert!(labels[a] == labels[p] && a != p && labels[a] < 2);
        assert!(labels[n] != labels[a] && labels[l] != labels[a] && labels[l] != labels[n]);
    }
    // The negative's camera saw nobody else: any other camera than the negative's will do, and any at the end.
    let cameras = [1_i64, 2, 1, 1, 1, 1];
    let sampler = QuadrupletSampler::new(&[0, 0, 1, 2, 3, 4], &cameras, 10, true, 1).expect("one reference");
    let batch = sampler.batch(0);
    assert!((0..10).all(|m| batch[m] < 2 && batch[10 + m] < 2 && batch[20 + m] > 1));
    for (labels, cameras) in [(&[0_i64, 0, 1][..], &[1_i64, 2, 1][..]), (&[0, 1, 2], &[1, 2, 1]), (&[], &[])] {
        assert!(QuadrupletSampler::new(labels, cameras, 4, true, 1).is_none());
    }
    assert!(QuadrupletSampler::new(&labels, &one, 0, false, 1).is_none());
}
