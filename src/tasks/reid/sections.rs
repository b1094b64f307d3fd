//! What the page of a scored set shows.

use anyhow::Result;
use rand::Rng;
use tch::{Kind, Tensor};

use super::scoring::Embedded;
use crate::datasets::ReidSet;
use crate::distance::Metric;
use crate::metrics::retrieval::{self, Exclude, Hit, Identity, Retrieval};
use crate::real::numbers;
use crate::report::{Frame, GalleryRow, Report, Series, Tile};
use crate::seed;

/// CMC, distance histograms and a gallery of queries with their first ten answers.
pub(super) fn retrieval_sections(
    report: &mut Report,
    set: &ReidSet,
    embedded: &Embedded,
    scored: &Retrieval,
    metric: Metric,
    seed: u64,
) -> Result<()> {
    let rows = |x: &Tensor, of: &mut dyn Iterator<Item = usize>| {
        x.index_select(0, &Tensor::from_slice(&of.map(|row| row as i64).collect::<Vec<_>>()))
    };
    // Some thousand pairs of rows at a time.
    let paired = |pairs: &[(usize, usize)]| {
        let some = |pairs: &[(usize, usize)]| {
            let query = rows(&embedded.query, &mut pairs.iter().map(|pair| pair.0));
            let gallery = rows(&embedded.gallery, &mut pairs.iter().map(|pair| pair.1));
            numbers::<f32>(&metric.paired(&query, &gallery).to_kind(Kind::Float)).into_iter().map(f64::from)
        };
        pairs.chunks(1 << 12).flat_map(some).collect()
    };
    let answers = |of: &[usize]| {
        let who: Vec<Identity> = of.iter().map(|&i| embedded.q[i]).collect();
        let query = rows(&embedded.query, &mut of.iter().copied());
        retrieval::ranking(&query, &embedded.gallery, &who, &embedded.g, metric, Exclude::SameCamera, 10)
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

/// Distances of (query, gallery) pairs.
pub(super) type Paired<'a> = &'a dyn Fn(&[(usize, usize)]) -> Vec<f64>;

/// What the pictures are made from.
pub(super) struct Shown<'a> {
    pub set: &'a ReidSet,
    pub q: &'a [Identity],
    pub g: &'a [Identity],
    pub query_photo: &'a [usize],
    pub gallery_photo: &'a [usize],
    pub paired: Paired<'a>,
    /// The first ten answers to each of some queries.
    pub answers: &'a dyn Fn(&[usize]) -> Vec<Vec<Hit>>,
}

pub(super) fn sections(report: &mut Report, shown: &Shown<'_>, scored: &Retrieval, seed: u64) -> Result<()> {
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
    let mut rng = seed::at(seed::named(seed, "histogram"), 0, 0);
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
    for (&i, answers) in picks.iter().zip((shown.answers)(&picks)) {
        let who = q[i];
        let query = &set.query[shown.query_photo[i]];
        let mut tiles =
            vec![Tile { image: query.source.image()?.as_ref().clone(), caption: "query".into(), frame: Frame::None }];
        for (rank, answer) in answers.into_iter().enumerate() {
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
