//! The ranks of one query's matches, without sorting its gallery.

use super::Answer;
use crate::real::Real;

/// Makes every distance that isn't finite infinite, so that it sorts last; how many there were.
pub(super) fn clean<T: Real>(row: &mut [T]) -> usize {
    // Nearly always there is nothing to do, and asking first goes over many numbers at once.
    if row.iter().fold(true, |all, d| all & d.finite()) {
        return 0;
    }
    let mut n = 0;
    for d in row {
        if !d.finite() {
            *d = T::INFINITY;
            n += 1;
        }
    }
    n
}

/// Cells that the distances up to the farthest match are cut into.
const CELLS: usize = 1024;
/// In a cell with a match only a search tells on which side of it a distance lies.
const SEARCH: u32 = u32::MAX;

/// The gap between matches by a look into a table: distances fall into equal cells, and all of a cell without a match
/// lie in one gap. The cell is a function of the distance that never falls where it rises, so that a match in a lower
/// cell is nearer, whatever was rounded.
struct Cells {
    from: f64,
    scale: f64,
    gap: Box<[u32; CELLS + 2]>,
}

impl Cells {
    /// `hits`: the matches by rising distance; `far` the last one's.
    fn new<T: Real>(hits: &[(T, usize)], far: T) -> Cells {
        let (from, far) = (hits[0].0.into(), far.into());
        let scale = CELLS as f64 / (far - from);
        // All matches at one distance, or some at infinity: everything is searched.
        let scale = if scale.is_finite() && far.is_finite() { scale } else { 0. };
        let mut cells = Cells { from, scale, gap: Box::new([0; CELLS + 2]) };
        let mut next = 0;
        for (k, &(d, _)) in hits.iter().enumerate() {
            let at = cells.at(d);
            if at >= next {
                cells.gap[next..at].fill(k as u32);
                cells.gap[at] = SEARCH;
                next = at + 1;
            }
        }
        cells.gap[next..].fill(hits.len() as u32);
        cells
    }

    fn at<T: Real>(&self, d: T) -> usize {
        // Cell 0 is what is nearer than the first match; a cast takes NaN to 0.
        let d = d.into();
        if d < self.from { 0 } else { 1 + (((d - self.from) * self.scale) as usize).min(CELLS) }
    }

    fn gap<T: Real>(&self, d: T) -> u32 {
        self.gap[self.at(d)]
    }
}

/// Scores one query by its `row` of distances, less the `dropped` ones. Nothing is sorted but the matches: each item no farther
/// than the farthest match is counted into the gap between matches where it falls, and the running sum of the gaps is the
/// rank of each match. None without matches.
pub(super) fn answer<T: Real>(row: &[T], matches: &[usize], dropped: &[usize]) -> Option<Answer> {
    let mut hits: Vec<(T, usize)> = matches.iter().map(|&j| (row[j], j)).collect();
    hits.sort_unstable_by(|a, b| a.partial_cmp(b).expect("distances were made comparable"));
    let &(far, _) = hits.last()?;
    // Matches that come before item j; equal distances by index.
    let gap = |d: T, j: usize| hits.partition_point(|&(hd, hj)| hd < d || (hd == d && hj < j));
    // The last one lies behind the last match.
    let mut gaps = vec![0u32; hits.len() + 1];
    let cells = Cells::new(&hits, far);
    for (j, &d) in row.iter().enumerate() {
        if d <= far {
            let known = cells.gap(d);
            gaps[if known == SEARCH { gap(d, j) } else { known as usize }] += 1;
        }
    }
    for &j in dropped.iter().filter(|&&j| row[j] <= far) {
        gaps[gap(row[j], j)] -= 1;
    }
    let (mut rank, mut first, mut trapezoid, mut step) = (0, 0, 0.0, 0.0);
    for (k, n) in gaps[..hits.len()].iter().enumerate() {
        rank += *n as usize; // the match itself is in its own gap
        if k == 0 {
            first = rank;
        }
        let before = if rank == 1 { 1.0 } else { k as f64 / (rank - 1) as f64 };
        let at = (k + 1) as f64 / rank as f64;
        trapezoid += (before + at) / 2.0;
        step += at;
    }
    let m = hits.len() as f64;
    Some(Answer { first, matches: hits.len(), trapezoid: trapezoid / m, step: step / m })
}
