//! The graph of judged pairs, an edge from the better video to the worse: depths, similar pairs, separations, and
//! what cannot be true of it (1703.09913).

use std::collections::{BTreeSet, VecDeque};

/// A graph without contradictions and cycles over videos `0..n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairGraph {
    /// Of each video, those it was judged better than, each once, ascending.
    worse: Vec<Vec<usize>>,
    /// Every video after all that are better.
    order: Vec<usize>,
}

/// Judgements that no ranking satisfies, by video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tangle {
    /// Pairs that were judged both ways, lower index first.
    pub contradictions: Vec<(usize, usize)>,
    /// Cycles of three or more, each video better than the next and the last better than the first; no two share a
    /// video, and without their videos no cycle is left.
    pub cycles: Vec<Vec<usize>>,
}

impl Tangle {
    /// In words, e.g. `A and B were judged both ways; A > B > C > A is a cycle`.
    pub fn words(&self, name: impl Fn(usize) -> String) -> String {
        let both =
            self.contradictions.iter().map(|&(a, b)| format!("{} and {} were judged both ways", name(a), name(b)));
        let round = self.cycles.iter().map(|cycle| {
            let names = cycle.iter().chain(cycle.first()).map(|&video| name(video)).collect::<Vec<_>>();
            format!("{} is a cycle", names.join(" > "))
        });
        both.chain(round).collect::<Vec<_>>().join("; ")
    }
}

impl PairGraph {
    /// The graph of `pairs` (better, worse), repeated ones counted once.
    ///
    /// # Errors
    /// Every contradiction and enough cycles to break them all.
    ///
    /// # Panics
    /// Where a pair names a video beyond `videos`, or one video twice.
    pub fn new(videos: usize, pairs: &[(usize, usize)]) -> Result<PairGraph, Tangle> {
        assert!(pairs.iter().all(|&(a, b)| a < videos && b < videos && a != b), "pairs of two videos each");
        let edges: BTreeSet<(usize, usize)> = pairs.iter().copied().collect();
        let contradictions: Vec<(usize, usize)> =
            edges.iter().copied().filter(|&(a, b)| a < b && edges.contains(&(b, a))).collect();
        let mut worse = vec![Vec::new(); videos];
        for &(a, b) in edges.iter().filter(|&&(a, b)| !edges.contains(&(b, a))) {
            worse[a].push(b);
        }
        let mut cycles = Vec::new();
        let mut gone = vec![false; videos];
        let order = loop {
            let order = topological(&worse, &gone);
            if order.len() + gone.iter().filter(|&&gone| gone).count() == videos {
                break order;
            }
            let known: BTreeSet<usize> = order.into_iter().collect();
            // Whoever has no place in the order lies on a cycle or below one.
            let cycle = (0..videos)
                .filter(|video| !gone[*video] && !known.contains(video))
                .find_map(|video| shortest_cycle(&worse, &gone, video));
            let Some(cycle) = cycle else { break Vec::new() };
            cycle.iter().for_each(|&video| gone[video] = true);
            cycles.push(cycle);
        };
        if contradictions.is_empty() && cycles.is_empty() {
            return Ok(PairGraph { worse, order });
        }
        Err(Tangle { contradictions, cycles })
    }

    /// How many videos there are.
    pub fn videos(&self) -> usize {
        self.worse.len()
    }

    /// The judged pairs (better, worse), each once.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.worse.iter().enumerate().flat_map(|(a, all)| all.iter().map(move |&b| (a, b)))
    }

    /// Of each video, the length of the longest walk from any video that nobody beats: 0 for those.
    pub fn depths(&self) -> Vec<usize> {
        let mut depth = vec![0; self.videos()];
        for &a in &self.order {
            for &b in &self.worse[a] {
                depth[b] = depth[b].max(depth[a] + 1);
            }
        }
        depth
    }

    /// Φ: the pairs (lower index first) without a judged order whose depths differ by one at most.
    pub fn similar(&self) -> Vec<(usize, usize)> {
        let depth = self.depths();
        let judged: BTreeSet<(usize, usize)> = self.pairs().map(|(a, b)| (a.min(b), a.max(b))).collect();
        let all = (0..self.videos()).flat_map(|a| (a + 1..self.videos()).map(move |b| (a, b)));
        all.filter(|&(a, b)| depth[a].abs_diff(depth[b]) <= 1 && !judged.contains(&(a, b))).collect()
    }

    /// From video `from`, the length of the longest path to each video; None where there is no path, 0 to itself.
    pub fn separations(&self, from: usize) -> Vec<Option<usize>> {
        let mut longest = vec![None; self.videos()];
        longest[from] = Some(0);
        for &a in &self.order {
            let Some(length) = longest[a] else { continue };
            for &b in &self.worse[a] {
                longest[b] = longest[b].max(Some(length + 1));
            }
        }
        longest
    }

    /// The separation of each of `pairs` (better, worse): the length of the longest path between them, 1 for
    /// neighbours; None where the graph has no path from the better to the worse.
    pub fn separation(&self, pairs: &[(usize, usize)]) -> Vec<Option<usize>> {
        let mut known: Vec<Option<Vec<Option<usize>>>> = vec![None; self.videos()];
        pairs.iter().map(|&(a, b)| known[a].get_or_insert_with(|| self.separations(a))[b]).collect()
    }
}

/// Every video that is neither gone nor on a cycle nor below one, after all that are better.
fn topological(worse: &[Vec<usize>], gone: &[bool]) -> Vec<usize> {
    let mut above = vec![0_usize; worse.len()];
    let edges = worse.iter().enumerate().filter(|(a, _)| !gone[*a]).flat_map(|(_, all)| all);
    edges.for_each(|&b| above[b] += 1);
    let mut ready: VecDeque<usize> = (0..worse.len()).filter(|&a| above[a] == 0 && !gone[a]).collect();
    let mut order = Vec::new();
    while let Some(a) = ready.pop_front() {
        order.push(a);
        for &b in &worse[a] {
            above[b] -= 1;
            if above[b] == 0 && !gone[b] {
                ready.push_back(b);
            }
        }
    }
    order
}

/// The shortest way from `start` back to itself, by breadth.
fn shortest_cycle(worse: &[Vec<usize>], gone: &[bool], start: usize) -> Option<Vec<usize>> {
    let mut from = vec![None; worse.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(a) = queue.pop_front() {
        for &b in worse[a].iter().filter(|&&b| !gone[b]) {
            if b == start {
                let mut way = vec![a];
                while let Some(before) = way.last().and_then(|&last| from[last]) {
                    way.push(before);
                }
                way.reverse();
                return Some(way);
            }
            if from[b].is_none() {
                from[b] = Some(a);
                queue.push_back(b);
            }
        }
    }
    None
}
