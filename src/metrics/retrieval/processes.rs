//! Retrieval by several processes: each ranks a part of the gallery, and the parts come to exactly what one process
//! finds.
//!
//! Of a block of queries every process computes the distances to its part of the gallery and tells the others those of
//! the true matches in it. With all matches at hand it counts how many of its own items come between one match and the
//! next; the sums of these counts over processes are the ranks. What travels is a few numbers a match, never a row of
//! distances.

use rayon::prelude::*;
use tch::Kind;

use super::distances::{Distances, Streamed, height};
use super::{Answer, Ap, Found, Gallery, QueryGallery, Retrieval, clean, gaps, sorted};
use crate::distance::Metric;
use crate::metrics::shared::{Dealt, Others};
use crate::real::{Real, in_place};

/// [`super::evaluate`] with the gallery's distances computed in equal parts by all of `others`; every
/// process has all embeddings and gets the whole result.
///
/// # Errors
/// Where another process is gone.
pub fn evaluate_shared<O: Others>(
    of: QueryGallery<'_>,
    metric: Metric,
    ap: Ap,
    others: &O,
) -> Result<Retrieval, O::Error> {
    let (shelf, distances) = of.distances(metric);
    match distances.kind() {
        Kind::Double => parts::<f64, O>(&distances, &shelf, ap, others),
        _ => parts::<f32, O>(&distances, &shelf, ap, others),
    }
}

/// [`super::evaluate`] of embeddings that memory need not hold, but files are mapped as: on the CPU, some queries
/// after another, each of which goes once over the gallery. The processes of `others` take blocks of their own. What comes out
/// is alike for any number of them, and but for the rounding of distances that of [`super::evaluate`].
///
/// # Errors
/// Where another process is gone.
pub fn evaluate_streamed<O: Others>(
    of: QueryGallery<'_>,
    metric: Metric,
    ap: Ap,
    others: &O,
) -> Result<Retrieval, O::Error> {
    let shelf = of.shelf();
    let streamed = Streamed::new(of.query, of.gallery, &shelf.index, metric);
    let found = match streamed.kind() {
        Kind::Double => own_queries::<f64, O>(&streamed, &shelf, others)?,
        _ => own_queries::<f32, O>(&streamed, &shelf, others)?,
    };
    Ok(shelf.sum(found, ap))
}

fn own_queries<T: Real, O: Others>(
    streamed: &Streamed<'_>,
    shelf: &Gallery<'_>,
    others: &O,
) -> Result<Vec<Found>, O::Error> {
    let dealt = Dealt::new(shelf.q.len(), streamed.block(), others);
    let mut found = Vec::with_capacity(dealt.own().len());
    for block in dealt.passes_of(streamed.height()) {
        let mut rows = streamed.rows(block.start, block.len());
        let width = shelf.index.len();
        if width == 0 {
            found.extend(block.map(|i| shelf.judge::<T>(i, &mut [])));
            continue;
        }
        let rows = in_place::<T>(&mut rows).par_chunks_mut(width).enumerate();
        found.par_extend(rows.map(|(i, row)| shelf.judge(block.start + i, row)));
    }
    dealt.gather(found, others)
}

/// What a process knows of one query in its part.
struct InPart<T> {
    hits: Vec<(T, usize)>,
    dropped: Vec<usize>,
    non_finite: usize,
}

fn parts<T: Real, O: Others>(
    distances: &Distances,
    shelf: &Gallery<'_>,
    ap: Ap,
    others: &O,
) -> Result<Retrieval, O::Error> {
    let (places, size) = (shelf.index.len(), others.size().max(1));
    let bound = |rank: usize| rank * places / size;
    let part = bound(others.rank())..bound(others.rank() + 1);
    let own = distances.columns(part.start, part.len());
    // The same blocks everywhere, though some have an item more.
    let height = height(places.div_ceil(size));
    let queries = shelf.q.len();
    // Counts of all queries one after another, then how many distances were not finite.
    let (mut counts, mut non_finite) = (Vec::new(), 0);
    let mut lengths = Vec::with_capacity(queries);
    for from in (0..queries).step_by(height) {
        let rows = height.min(queries - from);
        let mut block = own.rows(from, rows).contiguous();
        let cells: &mut [T] = if part.is_empty() { &mut [] } else { in_place(&mut block) };
        let row = |i: usize| i * part.len()..(i + 1) * part.len();
        let in_part: Vec<InPart<T>> = (0..rows)
            .map(|i| {
                let row = &mut cells[row(i)];
                let non_finite = clean(row);
                let (mut matches, mut dropped) = shelf.sides(from + i);
                matches.retain(|place| part.contains(place));
                dropped.retain(|place| part.contains(place));
                let hits = matches.into_iter().map(|place| (row[place - part.start], place)).collect();
                InPart { hits, dropped, non_finite }
            })
            .collect();
        let all = merged(&in_part, others)?;
        let cells = &*cells;
        let found: Vec<Vec<u32>> = all
            .par_iter()
            .zip(&in_part)
            .enumerate()
            .map(|(i, (hits, in_part))| gaps(&cells[row(i)], part.start, hits, &in_part.dropped))
            .collect();
        non_finite += in_part.iter().map(|in_part| in_part.non_finite).sum::<usize>();
        lengths.extend(found.iter().map(Vec::len));
        counts.extend(found.into_iter().flatten().map(f64::from));
    }
    counts.push(non_finite as f64);
    let lists = others.gather(&counts)?;
    let sums: Vec<f64> = (0..counts.len()).map(|at| lists.iter().map(|list| list[at]).sum()).collect();
    let mut at = 0;
    let answers = lengths.iter().map(|&length| {
        let gaps: Vec<u32> = sums[at..at + length].iter().map(|&sum| sum as u32).collect();
        at += length;
        Answer::of(&gaps)
    });
    let answers = answers.collect();
    Ok(shelf.retrieval(answers, sums[counts.len() - 1] as usize, ap))
}

/// The matches of each query in the whole gallery, from those in the parts.
fn merged<T: Real, O: Others>(in_part: &[InPart<T>], others: &O) -> Result<Vec<Vec<(T, usize)>>, O::Error> {
    let mut own = Vec::new();
    for InPart { hits, .. } in in_part {
        own.push(hits.len() as f64);
        own.extend(hits.iter().flat_map(|&(d, place)| [d.into(), place as f64]));
    }
    let mut all: Vec<Vec<(T, usize)>> = in_part.iter().map(|_| Vec::new()).collect();
    for list in others.gather(&own)? {
        let mut numbers = list.into_iter();
        let mut next = || numbers.next().unwrap_or(0.);
        for hits in &mut all {
            for _ in 0..next() as usize {
                let d = T::of(next());
                hits.push((d, next() as usize));
            }
        }
    }
    Ok(all.into_iter().map(sorted).collect())
}
