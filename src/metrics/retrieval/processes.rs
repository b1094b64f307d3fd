//! Retrieval by several processes: each ranks the gallery for some of the queries, in blocks that are the same however many
//! they are, so that it comes to exactly what one process finds. What travels is a few numbers a query.

use tch::Kind;

use super::distances::{Streamed, for_distances, height};
use super::{Ap, Gallery, Judged, QueryGallery, Retrieval};
use crate::distance::Metric;
use crate::metrics::others::{Dealt, Others};
use crate::real::{Real, in_place};
use crate::team;

/// [`super::evaluate`] with the queries dealt to all of `others`; every process has all embeddings and gets the whole result.
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
    let width = shelf.index.len();
    let dealt = Dealt::new(of.q.len(), height(width), others);
    let found = match distances.kind() {
        Kind::Double => for_distances(dealt.own(), width, &distances, |i, row: &mut [f64]| shelf.judge(i, row)),
        _ => for_distances(dealt.own(), width, &distances, |i, row: &mut [f32]| shelf.judge(i, row)),
    };
    Ok(shelf.sum(dealt.gather(found, others)?, ap))
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
) -> Result<Vec<Judged>, O::Error> {
    let dealt = Dealt::new(shelf.q.len(), streamed.block(), others);
    let mut found = Vec::with_capacity(dealt.own().len());
    for block in dealt.passes_of(streamed.height()) {
        let mut rows = streamed.rows(block.start, block.len());
        let width = shelf.index.len();
        if width == 0 {
            found.extend(block.map(|i| shelf.judge::<T>(i, &mut [])));
            continue;
        }
        let judge = |(): &mut (), i: usize, row: &mut [T]| shelf.judge(block.start + i, row);
        found.extend(team::rows(in_place::<T>(&mut rows), width, || (), judge));
    }
    dealt.gather(found, others)
}
