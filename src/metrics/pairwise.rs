//! Ordered pairs: how often the better of two scores higher ("Who's Better? Who's Best?", skill determination).

/// How near the scores of `similar` pairs lie, in units of how far those of `strict` ones do: the mean of
/// |f(p_i) - f(p_j)| over the former by that over the latter. 0 where similar videos score alike, 1 where likeness shows
/// nowhere in the scores; it has no unit, so that networks with scores of any scale can be compared. NaN where either
/// list is empty.
///
/// # Panics
/// When a pair names an index beyond `score`.
pub fn similar_gap(score: &[f64], similar: &[(usize, usize)], strict: &[(usize, usize)]) -> f64 {
    let gap = |pairs: &[(usize, usize)]| {
        pairs.iter().map(|&(a, b)| (score[a] - score[b]).abs()).sum::<f64>() / pairs.len() as f64
    };
    gap(similar) / gap(strict)
}

/// The fraction of `pairs` (better, worse), indices into `score`, whose better one has the strictly higher score. A tie is
/// wrong, and so is a score that is NaN. NaN when there are no pairs.
///
/// # Panics
/// When a pair names an index beyond `score`.
pub fn accuracy(score: &[f64], pairs: &[(usize, usize)]) -> f64 {
    let right = pairs.iter().filter(|&&(better, worse)| score[better] > score[worse]).count();
    right as f64 / pairs.len() as f64
}

/// The fraction of `similar` pairs whose scores lie no farther apart than `margin`, which is what is asked of them
/// ("Who's Better? Who's Best?", Eq. 6). A score that is NaN is not near another. NaN when there are no pairs.
///
/// # Panics
/// When a pair names an index beyond `score`.
pub fn within(score: &[f64], similar: &[(usize, usize)], margin: f64) -> f64 {
    let near = similar.iter().filter(|&&(a, b)| (score[a] - score[b]).abs() <= margin).count();
    near as f64 / similar.len() as f64
}
