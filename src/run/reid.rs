//! Person re-identification sets embedded, scored and shown: what triplet-reid and quadruplet share.

use std::path::Path;

use anyhow::{Context, Result};
use rand::Rng;
use serde_json::Value;
use tch::Tensor;

use super::embed::{Embedding, average_by};
use super::report::{Frame, GalleryRow, Report, Series, Tile};
use crate::datasets::{Photo, ReidSet};
use crate::distance::Metric;
use crate::metrics::retrieval::{self, Ap, Exclude, Identity, Retrieval};
use crate::models::Network;

/// Query and gallery of a set as embeddings; a tracklet is one row, the mean of its frames.
#[derive(Debug)]
pub struct Embedded {
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

/// Embeds query and gallery.
pub fn embed(network: &dyn Network, set: &ReidSet, embedding: &Embedding) -> Result<Embedded> {
    let (query, q, query_photo) = rows(network, &set.query, embedding, "embed queries")?;
    let (gallery, g, gallery_photo) = rows(network, &set.gallery, embedding, "embed gallery")?;
    Ok(Embedded { query, gallery, q, g, query_photo, gallery_photo })
}

/// Multi-query embeddings (1703.07737, Section 4.3): each query replaced by the mean of all `multi_query` photos of
/// its person and camera. None where the set has no multi-query boxes; a query without any is an error.
pub fn multi_query(
    network: &dyn Network,
    set: &ReidSet,
    embedding: &Embedding,
    embedded: &Embedded,
) -> Result<Option<Embedded>> {
    if set.multi_query.is_empty() {
        return Ok(None);
    }
    let (x, who, _) = rows(network, &set.multi_query, embedding, "embed multi-query")?;
    let query = retrieval::multi_query(&x, &who, &embedded.q)?;
    Ok(Some(Embedded {
        query,
        gallery: embedded.gallery.shallow_clone(),
        q: embedded.q.clone(),
        g: embedded.g.clone(),
        ..Embedded::empty()
    }))
}

impl Embedded {
    fn empty() -> Embedded {
        let none = || Tensor::zeros([0, 0], (tch::Kind::Float, tch::Device::Cpu));
        Embedded { query: none(), gallery: none(), q: vec![], g: vec![], query_photo: vec![], gallery_photo: vec![] }
    }

    /// Scores under the Market rule: same person in the same camera dropped, junk dropped, distractors kept.
    pub fn score(&self, metric: Metric, ap: Ap) -> Retrieval {
        retrieval::evaluate(&self.query, &self.gallery, &self.q, &self.g, metric, Exclude::SameCamera, ap)
    }

    /// Scores after k-reciprocal re-ranking with the authors' k1 = 20, k2 = 6, λ = 0.3.
    pub fn score_reranked(&self, ap: Ap) -> Retrieval {
        let dist = retrieval::rerank(&self.query, &self.gallery, 20, 6, 0.3);
        retrieval::evaluate_distances(&dist, &self.q, &self.g, Exclude::SameCamera, ap)
    }

    /// The counts that a score rests on.
    pub fn protocol(&self, scored: &Retrieval) -> Vec<String> {
        let count = |wanted: fn(i64) -> bool| self.g.iter().filter(|identity| wanted(identity.person)).count();
        let people: std::collections::BTreeSet<_> = self.q.iter().map(|identity| identity.person).collect();
        vec![
            format!(
                "{} queries of {} people; {} of them have no match in the gallery and are left out",
                self.q.len(),
                people.len(),
                scored.skipped
            ),
            format!(
                "gallery of {}: {} of known people, {} distractors (kept), {} junk (dropped)",
                self.g.len(),
                count(|person| person > 0),
                count(|person| person == 0),
                count(|person| person < 0)
            ),
            "Market-1501 rule: gallery items of the query's person in the query's camera are dropped".into(),
        ]
    }
}

/// Training curves from a run's `log.jsonl`.
pub fn curves(report: &mut Report, run: &Path) -> Result<()> {
    let path = run.join("log.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let series = |name: &str, keys: &[&str]| {
        let at = |line: &Value| keys.iter().try_fold(line, |value, key| value.get(key)).and_then(Value::as_f64);
        let points = lines.iter().filter_map(|line| Some((line.get("step")?.as_f64()?, at(line)?))).collect();
        Series { name: name.into(), points }
    };
    report.lines(
        "Loss",
        "Both means: over all terms, and over the terms above 0 alone.",
        "step",
        "loss",
        &[series("mean", &["mean"]), series("mean of active", &["mean_active"])],
    );
    report.lines(
        "Active terms",
        "The fraction of terms above 0.",
        "step",
        "fraction",
        &[series("active", &["active"])],
    );
    let percentiles = ["p0", "p5", "p50", "p95", "p100"].map(|p| series(p, &["distance", p]));
    report.lines(
        "Distances in a batch",
        "Percentiles over all pairs of a batch: shrinking together means collapse.",
        "step",
        "distance",
        &percentiles,
    );
    report.lines(
        "Embedding length",
        "Mean and largest norm in a batch.",
        "step",
        "norm",
        &[series("mean", &["norm", "mean"]), series("largest", &["norm", "max"])],
    );
    Ok(())
}

/// CMC, distance histograms and a gallery of queries with their first ten answers.
pub fn retrieval_sections(
    report: &mut Report,
    set: &ReidSet,
    embedded: &Embedded,
    scored: &Retrieval,
    metric: Metric,
    seed: u64,
) -> Result<()> {
    let cmc = scored.cmc(50.min(embedded.g.len().max(1)));
    let points = cmc.iter().enumerate().map(|(k, &share)| ((k + 1) as f64, share)).collect();
    report.lines(
        "Cumulative match characteristic",
        "The share of queries whose first true match is at rank k or before.",
        "rank k",
        "share of queries",
        &[Series { name: "CMC".into(), points }],
    );

    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    let mut rng = crate::seed::at(crate::seed::named(seed, "histogram"), 0, 0);
    let mut pairs: Vec<(i64, i64, bool)> = Vec::new();
    for (i, who) in embedded.q.iter().enumerate() {
        let mut matches: Vec<usize> = (0..embedded.g.len())
            .filter(|&j| embedded.g[j].person == who.person && embedded.g[j].camera != who.camera)
            .collect();
        matches.truncate(20);
        for j in matches {
            pairs.push((i as i64, j as i64, true));
        }
        for _ in 0..10.min(embedded.g.len()) {
            let j = rng.random_range(0..embedded.g.len());
            if embedded.g[j].person >= 0 && embedded.g[j].person != who.person {
                pairs.push((i as i64, j as i64, false));
            }
        }
    }
    let column = |pick: fn(&(i64, i64, bool)) -> i64| Tensor::from_slice(&pairs.iter().map(pick).collect::<Vec<_>>());
    let (left, right) = (column(|pair| pair.0), column(|pair| pair.1));
    let distances = metric.paired(&embedded.query.index_select(0, &left), &embedded.gallery.index_select(0, &right));
    let distances = Vec::<f32>::try_from(distances).unwrap_or_default();
    for (distance, (_, _, same)) in distances.into_iter().zip(pairs) {
        if same { &mut positive } else { &mut negative }.push(f64::from(distance));
    }
    report.histogram(
        "Distances of pairs",
        "Query and gallery of one person across cameras (up to 20 a query), and of two people (10 drawn a query).",
        "distance",
        &[("same person".into(), positive), ("different people".into(), negative)],
        40,
    );

    // Evenly spread over the queries, so that the page shows easy and hard ones alike.
    let shown = 24.min(embedded.q.len());
    let picks: Vec<usize> = (0..shown).map(|i| i * embedded.q.len() / shown.max(1)).collect();
    let mut gallery = Vec::new();
    for &i in &picks {
        let who = embedded.q[i];
        let query = &set.query[embedded.query_photo[i]];
        let mut tiles =
            vec![Tile { image: query.source.image()?.as_ref().clone(), caption: "query".into(), frame: Frame::None }];
        let row = embedded.query.narrow(0, i as i64, 1);
        for (rank, answer) in
            retrieval::ranking(&row, &embedded.gallery, &[who], &embedded.g, metric, Exclude::SameCamera, 10)
                .remove(0)
                .into_iter()
                .enumerate()
        {
            let photo = &set.gallery[embedded.gallery_photo[answer.index]];
            tiles.push(Tile {
                image: photo.source.image()?.as_ref().clone(),
                caption: format!("{} · {:.2}", rank + 1, answer.distance),
                frame: if answer.correct { Frame::Right } else { Frame::Wrong },
            });
        }
        gallery.push(GalleryRow { title: format!("person {} in camera {}", who.person, who.camera), tiles });
    }
    report.gallery("Queries and their first ten answers", "Framed green with a tick where the person is the query's, red with a cross where not; the number is the distance.", &gallery);
    Ok(())
}
