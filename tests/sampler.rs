//! Which images make a batch.

use std::collections::{BTreeMap, BTreeSet};

use rankle::sampler::{FaceSampler, PkSampler, QuadrupletSampler, TripletSampler};

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

/// Identities with 1 to 9 images.
fn labels() -> Vec<i64> {
    (0..23_i64).flat_map(|person| std::iter::repeat_n(person * 7 - 3, 1 + (person as usize * 5) % 9)).collect()
}

#[test]
fn pk_batches_hold_p_people_and_k_images_of_each() {
    let labels = labels();
    let size = |person: i64| labels.iter().filter(|&&label| label == person).count();
    for (p, k) in [(5, 4), (23, 2), (1, 3), (4, 12)] {
        let sampler = PkSampler::new(&labels, p, k, 9).expect("enough people");
        assert_eq!(sampler.batches_per_pass(), 23 / p as u64);
        let mut passes: BTreeMap<u64, BTreeSet<i64>> = BTreeMap::new();
        for step in 0..60 {
            let batch = sampler.batch(step);
            assert_eq!(batch.len(), p * k);
            assert_eq!(batch, sampler.clone().batch(step), "a pure function of the step");
            let mut people = BTreeSet::new();
            for group in batch.chunks(k) {
                let person = labels[group[0]];
                assert!(group.iter().all(|&item| labels[item] == person));
                assert!(people.insert(person), "nobody comes twice in a batch");
                let distinct: BTreeSet<_> = group.iter().collect();
                assert_eq!(distinct.len(), k.min(size(person)));
                // Repeats as even as can be.
                let most = distinct.iter().map(|item| group.iter().filter(|other| *other == *item).count()).max();
                assert_eq!(most, Some(k.div_ceil(size(person)).max(1)));
            }
            let pass = passes.entry(step / sampler.batches_per_pass()).or_default();
            assert!(people.iter().all(|person| pass.insert(*person)), "nobody comes twice in a pass");
        }
        assert_ne!(sampler.batch(0), PkSampler::new(&labels, p, k, 10).expect("enough").batch(0), "the seed matters");
    }
    assert!(PkSampler::new(&labels, 24, 4, 1).is_none() && PkSampler::new(&labels, 0, 4, 1).is_none());
    assert!(PkSampler::new(&[], 1, 1, 1).is_none());
}

#[test]
fn every_image_is_seen_before_long() {
    let labels = labels();
    // P divides the number of people, so that no pass drops anyone.
    let sampler = PkSampler::new(&labels, 23, 4, 5).expect("enough people");
    for cycle in 0..5_u64 {
        // The most images of a person are 9, in windows of 4: three passes see all. 6 passes hold whole cycles of 1, 2, 3.
        let seen: BTreeSet<usize> = (6 * cycle..6 * cycle + 6).flat_map(|step| sampler.batch(step)).collect();
        assert_eq!(seen.len(), labels.len());
    }
}

#[test]
fn triplet_batches_hold_triplets() {
    let labels = labels();
    let sampler = TripletSampler::new(&labels, 42, 3).expect("enough");
    let mut anchors: BTreeMap<i64, usize> = BTreeMap::new();
    for step in 0..50 {
        let rows = sampler.batch(step);
        assert_eq!(rows.len(), 126);
        assert_eq!(rows, sampler.batch(step));
        for i in 0..42 {
            let (a, p, n) = (rows[i], rows[42 + i], rows[84 + i]);
            assert!(a != p && labels[a] == labels[p] && labels[a] != labels[n]);
            *anchors.entry(labels[a]).or_default() += 1;
        }
    }
    // Identities in turns: all with two images equally often, but for the pass that is not over.
    let (least, most) = (anchors.values().min(), anchors.values().max());
    assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{anchors:?}");
    assert_eq!(anchors.len(), 23 - labels.iter().filter(|&&l| labels.iter().filter(|&&m| m == l).count() == 1).count());
    assert!(TripletSampler::new(&[1, 1, 1], 4, 1).is_none() && TripletSampler::new(&[1, 2, 3], 4, 1).is_none());
    assert!(TripletSampler::new(&[1, 1, 2], 0, 1).is_none());
    // A single other image is always the negative.
    assert!(TripletSampler::new(&[1, 1, 2], 3, 1).is_some_and(|sampler| sampler.batch(4)[6..] == [2, 2, 2]));
}

#[test]
fn face_batches_have_people_with_up_to_k_faces_and_other_negatives() {
    // Ten people with 1 to 10 faces.
    let labels: Vec<i64> = (1..=10).flat_map(|person| std::iter::repeat_n(person, person as usize)).collect();
    let sampler = FaceSampler::new(&labels, 4, 6, 5, 3).expect("enough people");
    assert_eq!(sampler.most(), 29);
    let mut anchors = BTreeSet::new();
    for step in 0..30 {
        let rows = sampler.batch(step);
        assert_eq!(rows, sampler.batch(step));
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "no face twice");
        let mut each: BTreeMap<i64, usize> = BTreeMap::new();
        let (main, negatives) = rows.split_at(rows.len() - 5);
        let known = sampler.identities(step);
        let of: Vec<i64> = main.iter().map(|&row| labels[row]).chain([-1, -2, -3, -4, -5]).collect();
        assert_eq!(known, of, "a further negative has an identity of its own");
        main.iter().for_each(|&row| *each.entry(labels[row]).or_default() += 1);
        assert_eq!(each.len(), 4);
        for (&person, &count) in &each {
            assert_eq!(count, (person as usize).min(6), "person {person}");
        }
        assert!(negatives.iter().all(|&row| !each.contains_key(&labels[row])), "negatives are other people");
        anchors.extend(each.into_keys());
    }
    assert_eq!(anchors, (2..=10).collect(), "person 1 has no second face");
    assert!(FaceSampler::new(&labels, 10, 6, 0, 3).is_none() && FaceSampler::new(&labels, 4, 1, 0, 3).is_none());
}
