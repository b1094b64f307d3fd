//! Query and gallery embedded and scored, by however many processes.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::sections::retrieval_sections;
use crate::datasets::{Photo, ReidSet};
use crate::distance::Metric;
use crate::metrics::Score;
use crate::metrics::retrieval::{self, Ap, Identity, QueryGallery, Reciprocal, Retrieval, average_by};
use crate::models::Network;
use crate::run::Run;
use crate::say::{count, note};
use crate::tasks::Evaluation;
use crate::tasks::embed::Embedding;

/// Query and gallery of a set as embeddings; a tracklet is one row, the mean of its frames.
pub(super) struct Embedded {
    /// f32 `[Q, D]`.
    pub query: Tensor,
    /// f32 `[G, D]`.
    pub gallery: Tensor,
    /// Who the queries are.
    pub q: Vec<Identity>,
    /// Who the gallery is.
    pub g: Vec<Identity>,
    /// For each query its photo (a tracklet's first) in the set.
    pub query_photo: Vec<usize>,
    /// For each gallery row its photo.
    pub gallery_photo: Vec<usize>,
}

/// The rows of `photos` with tracklets averaged.
fn rows(
    network: &dyn Network,
    photos: &[Photo],
    embedding: &Embedding,
    what: &str,
) -> Result<(Tensor, Vec<Identity>, Vec<usize>)> {
    let x = embedding.photos(network, photos, what)?;
    let (x, firsts) = if photos.iter().any(|photo| photo.tracklet >= 0) {
        average_by(&x, &photos.iter().map(|photo| photo.tracklet).collect::<Vec<_>>())
    } else {
        (x, (0..photos.len()).collect())
    };
    let who = firsts.iter().map(|&row| Identity { person: photos[row].person, camera: photos[row].camera }).collect();
    Ok((x, who, firsts))
}

/// Query and gallery embedded and scored by the Market-1501 rule (same person in the same camera dropped, junk dropped,
/// distractors kept): mAP by both rules and rank-1, 5 and 10 of a single query; of multiple queries (each the mean of all
/// photos of its person and camera; 1703.07737, Section 4.3) where the set has boxes for them; and of both after
/// k-reciprocal re-ranking with its authors' k1 = 20, k2 = 6, λ = 0.3, where that is asked for. Several processes take a
/// part of the queries each.
///
/// # Errors
/// Where a photo cannot be read, no query has a match, a query has no multi-query box, or another process is gone.
pub fn retrieval(
    network: &dyn Network,
    set: &ReidSet,
    embedding: &Embedding,
    metric: Metric,
    rerank: bool,
    run: &Run,
) -> Result<Evaluation> {
    let (query, q, query_photo) = rows(network, &set.query, embedding, "embed queries")?;
    let (gallery, g, gallery_photo) = rows(network, &set.gallery, embedding, "embed gallery")?;
    let embedded = Embedded { query, gallery, q, g, query_photo, gallery_photo };
    let Embedded { query, gallery, q, g, .. } = &embedded;
    let mut found = Evaluation::default();
    if rerank && !embedding.holds(g.len() + q.len(), network) {
        // Copied, and prepared for distances.
        let gib = (8 * (g.len() + q.len()) as i64 * network.width()) >> 30;
        note(format!(
            "--rerank holds all embeddings twice, {gib} GiB in every process: leave it out where that is too much"
        ));
    }
    let mut score = |name: &str, query: &Tensor, counts: bool| -> Result<Retrieval> {
        let mut add = |name: String, scored: &Retrieval, counts: bool| {
            let rank = |k: usize| Score::new(format!("{name} rank-{k}"), scored.rank(k));
            let map = Score::new(format!("{name} mAP"), scored.map_of(Ap::Trapezoid));
            let step = Score::new(format!("{name} mAP (step)"), scored.map_of(Ap::Step));
            let [map, first] = if counts { [map.counts(0), rank(1).counts(1)] } else { [map, rank(1)] };
            found.scores.extend([map, step, first, rank(5), rank(10)]);
        };
        let of = QueryGallery::new(query, gallery, q, g);
        let (ap, world) = (Ap::Trapezoid, run.world());
        let scored = match embedding.holds(g.len().max(q.len()), network) {
            true => retrieval::evaluate_shared(of, metric, ap, world)?,
            false => retrieval::evaluate_streamed(of, metric, ap, world)?,
        };
        let none = "no query has a match in the gallery under the Market-1501 rule: give other --data";
        ensure!(scored.skipped < q.len(), none);
        add(name.into(), &scored, counts);
        if rerank {
            let scored = retrieval::evaluate_reranked(of, Reciprocal::AUTHORS, ap, world)?;
            add(format!("{name} re-ranked"), &scored, false);
        }
        Ok(scored)
    };
    let single = score("single query", query, true)?;
    if !set.multi_query.is_empty() {
        let (x, who, _) = rows(network, &set.multi_query, embedding, "embed multi-query")?;
        score("multi query", &retrieval::multi_query(&x, &who, q)?, false)?;
    }
    let who = |wanted: fn(i64) -> bool| g.iter().filter(|identity| wanted(identity.person)).count();
    let people: std::collections::BTreeSet<_> = q.iter().map(|identity| identity.person).collect();
    let (known, distractors, junk) = (who(|person| person > 0), who(|person| person == 0), who(|person| person < 0));
    let (views, kind) = (embedding.views.count(), embedding.views.name());
    found.protocol = vec![
        format!(
            "{} of {}; {} of them without a match in the gallery, left out",
            count(q.len(), "query"),
            count(people.len(), "person"),
            single.skipped
        ),
        format!(
            "gallery of {}: {known} of known people, {} (kept), {junk} junk (dropped)",
            count(g.len(), "photo"),
            count(distractors, "distractor")
        ),
        "Market-1501 rule: gallery items of the query's person in the query's camera are dropped".into(),
        format!("--metric {metric} of embeddings of {} a photo ({kind}), averaged", count(views, "view")),
        "mAP by the trapezoid rule of the official script; (step) is the mean precision at hits".into(),
    ];
    let asked = q.len() - single.skipped;
    let right = |k: usize| (single.rank(k) * asked as f64).round();
    found.report.answers(&format!(
        "The first answer shows the right person for {} of {} ({:.1} %), one of the first five for {}.",
        right(1),
        count(asked, "query"),
        100. * single.rank(1),
        right(5)
    ));
    if run.leads() {
        retrieval_sections(&mut found.report, set, &embedded, &single, metric, run.seed)?;
    }
    Ok(found)
}
