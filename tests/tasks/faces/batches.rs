//! Parts of batches.

use std::collections::BTreeSet;

use rankle::tasks::faces::{part, parts};

#[test]
fn batches_are_cut_evenly() {
    for count in 1..40 {
        let rows: Vec<usize> = (100..100 + count).collect();
        for size in 1..12 {
            let all = parts(count, size);
            let mut joined = Vec::new();
            let mut lengths = BTreeSet::new();
            for place in 0..all {
                let (first, own) = part(&rows, size, place).expect("a part");
                assert_eq!(first, joined.len());
                assert!(own.len() <= size && !own.is_empty());
                lengths.insert(own.len());
                joined.extend_from_slice(own);
            }
            assert_eq!(joined, rows);
            assert!(lengths.last().expect("parts") - lengths.first().expect("parts") <= 1, "{count} {size}");
            assert_eq!(part(&rows, size, all), None);
        }
    }
}
