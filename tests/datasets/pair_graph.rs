//! Graphs of judged pairs, against all their walks.

use rand::Rng;
use rand::seq::SliceRandom;
use rankle::datasets::pair_graph::{PairGraph, Tangle};

/// Length of the longest walk from `a` to `b` by trying all; the graph has no cycle.
fn longest(edges: &[(usize, usize)], a: usize, b: usize) -> Option<usize> {
    if a == b {
        return Some(0);
    }
    edges.iter().filter(|edge| edge.0 == a).filter_map(|edge| longest(edges, edge.1, b)).max().map(|length| length + 1)
}

#[test]
fn depths_separations_and_similar_pairs_equal_their_definitions() {
    for seed in 0..40 {
        let mut rng = rankle::seed::at(seed, 0, 0);
        let videos = rng.random_range(1..9);
        let mut order: Vec<usize> = (0..videos).collect();
        order.shuffle(&mut rng);
        let mut edges = Vec::new();
        for i in 0..videos {
            for j in i + 1..videos {
                if rng.random_bool(0.4) {
                    edges.push((order[i], order[j]));
                    if rng.random_bool(0.2) {
                        edges.push((order[i], order[j]));
                    }
                }
            }
        }
        let graph = PairGraph::new(videos, &edges).expect("no cycle");
        let sources: Vec<usize> = (0..videos).filter(|&v| edges.iter().all(|edge| edge.1 != v)).collect();
        let depth = |v: usize| sources.iter().filter_map(|&source| longest(&edges, source, v)).max().expect("a source");
        let depths: Vec<usize> = (0..videos).map(depth).collect();
        assert_eq!(graph.depths(), depths);
        let mut similar = Vec::new();
        for a in 0..videos {
            for b in a + 1..videos {
                let judged = edges.contains(&(a, b)) || edges.contains(&(b, a));
                if !judged && depths[a].abs_diff(depths[b]) <= 1 {
                    similar.push((a, b));
                }
            }
        }
        assert_eq!(graph.similar(), similar);
        let all: Vec<(usize, usize)> = (0..videos).flat_map(|a| (0..videos).map(move |b| (a, b))).collect();
        let slow: Vec<Option<usize>> = all.iter().map(|&(a, b)| longest(&edges, a, b)).collect();
        assert_eq!(graph.separation(&all), slow);
        let mut once = edges.clone();
        once.sort();
        once.dedup();
        assert_eq!(graph.pairs().collect::<Vec<_>>(), once);
    }
}

#[test]
fn contradictions_and_cycles_are_named() {
    let tangle = PairGraph::new(7, &[(0, 1), (1, 2), (2, 0), (3, 4), (4, 3), (2, 5), (5, 6)]).expect_err("tangled");
    assert_eq!(tangle, Tangle { contradictions: vec![(3, 4)], cycles: vec![vec![0, 1, 2]] });
    let words = tangle.words(|video| ["A", "B", "C", "D", "E", "F", "G"][video].into());
    assert_eq!(words, "D and E were judged both ways; A > B > C > A is a cycle");
    // Two cycles apart, one of four with a shorter one inside it.
    let edges = [(0, 1), (1, 2), (2, 3), (3, 0), (2, 0), (4, 5), (5, 6), (6, 4), (3, 4)];
    let tangle = PairGraph::new(7, &edges).expect_err("tangled");
    assert_eq!(tangle.cycles, [vec![0, 1, 2], vec![4, 5, 6]]);
    assert!(PairGraph::new(0, &[]).is_ok());
    assert_eq!(PairGraph::new(2, &[]).expect("no pairs").similar(), [(0, 1)]);
}
