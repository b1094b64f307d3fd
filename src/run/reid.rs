//! Person re-identification sets embedded, scored and shown: what triplet-reid and quadruplet share.

use std::path::Path;

use anyhow::{Context, Result};
use rand::Rng;
use serde_json::Value;
use tch::Tensor;

use super::embed::{Embedding, average_by};
use super::report::{Frame, GalleryRow, Report, Series, Tile};
use crate::collectives::World;
use crate::datasets::{Photo, ReidSet};
use crate::distance::Metric;
use crate::metrics::retrieval::{self, Ap, Exclude, Hit, Identity, Retrieval};
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

    /// Scores under the Market rule: same person in the same camera dropped, junk dropped, distractors kept. Several
    /// processes take a part of the gallery each. Errors where another process is gone.
    pub fn score(&self, metric: Metric, ap: Ap, world: &World) -> Result<Retrieval> {
        let Embedded { query, gallery, q, g, .. } = self;
        if world.size() == 1 {
            return Ok(retrieval::evaluate(query, gallery, q, g, metric, Exclude::SameCamera, ap));
        }
        retrieval::evaluate_shared(query, gallery, q, g, metric, Exclude::SameCamera, ap, world)
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
    let column = |pairs: &[(usize, usize)], pick: fn(&(usize, usize)) -> usize| {
        Tensor::from_slice(&pairs.iter().map(|pair| pick(pair) as i64).collect::<Vec<_>>())
    };
    let paired = |pairs: &[(usize, usize)]| {
        let query = embedded.query.index_select(0, &column(pairs, |pair| pair.0));
        let distances = metric.paired(&query, &embedded.gallery.index_select(0, &column(pairs, |pair| pair.1)));
        Vec::<f32>::try_from(distances).unwrap_or_default().into_iter().map(f64::from).collect()
    };
    let answers = |i: usize| {
        let row = embedded.query.narrow(0, i as i64, 1);
        let who = [embedded.q[i]];
        retrieval::ranking(&row, &embedded.gallery, &who, &embedded.g, metric, Exclude::SameCamera, 10).remove(0)
    };
    let shown = Shown {
        set,
        q: &embedded.q,
        g: &embedded.g,
        query_photo: &embedded.query_photo,
        gallery_photo: &embedded.gallery_photo,
        paired: &paired,
        answers: &answers,
    };
    sections(report, &shown, scored, seed)
}

/// As [`retrieval_sections`], of distances that are at hand: `dist` `[Q, G]` as it was ranked by, `shown` (elementwise)
/// as it is to be read. The set's queries and gallery photos are its rows and columns.
pub fn distance_sections(
    report: &mut Report,
    set: &ReidSet,
    dist: &Tensor,
    shown: fn(f64) -> f64,
    scored: &Retrieval,
    seed: u64,
) -> Result<()> {
    let identities = |photos: &[Photo]| -> Vec<Identity> {
        photos.iter().map(|photo| Identity { person: photo.person, camera: photo.camera }).collect()
    };
    let (q, g) = (identities(&set.query), identities(&set.gallery));
    let paired = |pairs: &[(usize, usize)]| {
        pairs.iter().map(|&(i, j)| shown(dist.double_value(&[i as i64, j as i64]))).collect()
    };
    let answers = |i: usize| {
        let row = dist.narrow(0, i as i64, 1);
        let mut hits = retrieval::ranking_distances(&row, &[q[i]], &g, Exclude::SameCamera, 10).remove(0);
        hits.iter_mut().for_each(|hit| hit.distance = shown(hit.distance));
        hits
    };
    let (query_photo, gallery_photo): (Vec<usize>, Vec<usize>) = ((0..q.len()).collect(), (0..g.len()).collect());
    let shown = Shown {
        set,
        q: &q,
        g: &g,
        query_photo: &query_photo,
        gallery_photo: &gallery_photo,
        paired: &paired,
        answers: &answers,
    };
    sections(report, &shown, scored, seed)
}

/// Distances of (query, gallery) pairs.
type Paired<'a> = &'a dyn Fn(&[(usize, usize)]) -> Vec<f64>;

/// What the pictures are made from.
struct Shown<'a> {
    set: &'a ReidSet,
    q: &'a [Identity],
    g: &'a [Identity],
    query_photo: &'a [usize],
    gallery_photo: &'a [usize],
    paired: Paired<'a>,
    /// The first ten answers to a query.
    answers: &'a dyn Fn(usize) -> Vec<Hit>,
}

fn sections(report: &mut Report, shown: &Shown<'_>, scored: &Retrieval, seed: u64) -> Result<()> {
    let Shown { set, q, g, .. } = *shown;
    let cmc = scored.cmc(50.min(g.len().max(1)));
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
    for (i, who) in q.iter().enumerate() {
        let matches = (0..g.len()).filter(|&j| g[j].person == who.person && g[j].camera != who.camera);
        positive.extend(matches.take(20).map(|j| (i, j)));
        for _ in 0..10.min(g.len()) {
            let j = rng.random_range(0..g.len());
            if g[j].person >= 0 && g[j].person != who.person {
                negative.push((i, j));
            }
        }
    }
    report.histogram(
        "Distances of pairs",
        "Query and gallery of one person across cameras (up to 20 a query), and of two people (10 drawn a query).",
        "distance",
        &[("same person".into(), (shown.paired)(&positive)), ("different people".into(), (shown.paired)(&negative))],
        40,
    );

    // Evenly spread over the queries, so that the page shows easy and hard ones alike.
    let count = 24.min(q.len());
    let picks: Vec<usize> = (0..count).map(|i| i * q.len() / count.max(1)).collect();
    let mut gallery = Vec::new();
    for &i in &picks {
        let who = q[i];
        let query = &set.query[shown.query_photo[i]];
        let mut tiles =
            vec![Tile { image: query.source.image()?.as_ref().clone(), caption: "query".into(), frame: Frame::None }];
        for (rank, answer) in (shown.answers)(i).into_iter().enumerate() {
            let photo = &set.gallery[shown.gallery_photo[answer.index]];
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
