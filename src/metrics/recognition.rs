//! Recognition: who is it? Nearest neighbours among enrolled images (FaceNet, Section 1: "recognition becomes a k-NN
//! classification problem").

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use tch::{Kind, Tensor};

use super::others::{Dealt, Others};
use crate::distance::{Metric, widen};
use crate::real::numbers;

/// Distances that are computed at once, about.
const CELLS: usize = 1 << 23;

/// For each k of `ks`, the person of each probe by a vote of its k nearest gallery rows: the most frequent person, and of
/// equally frequent ones the one with the nearest row. `gallery` `[G, D]` with persons `people` (G of them), `probe` `[P, D]`;
/// any float kind. Each of `others`, all of whom have all rows, answers a part of the probes.
///
/// # Errors
/// Where another process is gone.
///
/// # Panics
/// When the lengths differ, or one of `ks` is not in 1..=G.
pub fn nearest<O: Others>(
    gallery: &Tensor,
    people: &[i64],
    probe: &Tensor,
    ks: &[usize],
    metric: Metric,
    others: &O,
) -> Result<Vec<Vec<i64>>, O::Error> {
    assert_eq!(gallery.size()[0] as usize, people.len(), "one person a gallery row");
    assert!(ks.iter().all(|k| (1..=people.len()).contains(k)), "k must be in 1..={}", people.len());
    let Some(&most) = ks.iter().max() else { return Ok(Vec::new()) };
    let (gallery, probe) = (widen(&gallery.detach()), widen(&probe.detach()));
    let dealt = Dealt::new(probe.size()[0] as usize, (CELLS / people.len()).clamp(16, 1024), others);
    let mut answers = vec![Vec::new(); ks.len()];
    for block in dealt.blocks() {
        let block = probe.narrow(0, block.start as i64, block.len() as i64);
        let (_, rows) = metric.matrix(&block, &gallery).topk(most as i64, 1, false, true);
        for rows in numbers::<i64>(&rows).chunks(most) {
            answers.iter_mut().zip(ks).for_each(|(answers, &k)| answers.push(voted(people, &rows[..k])));
        }
    }
    answers.into_iter().map(|answers| dealt.gather(answers, others)).collect()
}

/// The person that most of these gallery `rows` show, which are the nearest first.
fn voted(people: &[i64], rows: &[i64]) -> i64 {
    let mut votes: BTreeMap<i64, (usize, usize)> = BTreeMap::new();
    for (rank, &row) in rows.iter().enumerate() {
        votes.entry(people[row as usize]).or_insert((0, rank)).0 += 1;
    }
    votes.into_iter().max_by_key(|(_, (count, rank))| (*count, rows.len() - rank)).map_or(0, |(person, _)| person)
}

/// Splits images into enrolled and probes: of each person with more than `enrolled` images that many, drawn by `seed`,
/// are enrolled and the rest are probes; people with fewer images are left out. Rows of both, ascending.
pub fn enrol(people: &[i64], enrolled: usize, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut each: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (row, &person) in people.iter().enumerate() {
        each.entry(person).or_default().push(row);
    }
    let (mut gallery, mut probes) = (Vec::new(), Vec::new());
    for (person, mut rows) in each.into_iter().filter(|(_, rows)| enrolled > 0 && rows.len() > enrolled) {
        rows.shuffle(&mut crate::seed::at(seed, person as u64, enrolled as u64));
        gallery.extend_from_slice(&rows[..enrolled]);
        probes.extend_from_slice(&rows[enrolled..]);
    }
    gallery.sort_unstable();
    probes.sort_unstable();
    (gallery, probes)
}

/// How often enrolled images are drawn.
pub const DRAWS: u64 = 10;

/// [`enrol`] by [`DRAWS`] draws, which follow from `seed`: the same number of both in each.
pub fn draws(people: &[i64], enrolled: usize, seed: u64) -> Vec<(Vec<usize>, Vec<usize>)> {
    (0..DRAWS).map(|draw| enrol(people, enrolled, crate::seed::named(seed, &format!("draw {draw}")))).collect()
}

/// Unit rows as bytes and back: what is left of embeddings `x` `[N, D]` after the paper's 128 bytes a face (Section
/// 4.4 gives no scheme; here int8, one scale for all: the largest |x| becomes 127). Rows are unit again. f32.
pub fn through_bytes(x: &Tensor) -> Tensor {
    let x = widen(&x.detach()).to_kind(Kind::Float);
    if x.numel() == 0 {
        return x;
    }
    let scale = x.abs().max().clamp_min(f64::MIN_POSITIVE) / 127.;
    let bytes = (&x / &scale).round().clamp(-127., 127.).to_kind(Kind::Int8);
    crate::distance::normalize(&(bytes.to_kind(Kind::Float) * scale))
}
