//! What the page of a scored set shows.

use anyhow::Result;
use rand::Rng;
use tch::{Kind, Tensor};

use super::scoring::Embedded;
use crate::datasets::ReidSet;
use crate::distance::Metric;
use crate::metrics::retrieval::{self, Hit, Identity, QueryGallery, Retrieval};
use crate::real::numbers;
use crate::report::{Frame, GalleryRow, Report, Series};
use crate::seed;
use crate::tasks::brought::tile;

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
    let distances = |pairs: Vec<(usize, usize)>| -> Vec<f64> {
        let some = |pairs: &[(usize, usize)]| {
            let query = rows(&embedded.query, &mut pairs.iter().map(|pair| pair.0));
            let gallery = rows(&embedded.gallery, &mut pairs.iter().map(|pair| pair.1));
            numbers::<f32>(&metric.paired(&query, &gallery).to_kind(Kind::Float)).into_iter().map(f64::from)
        };
        pairs.chunks(1 << 12).flat_map(some).collect()
    };
    let Embedded { q, g, query_photo, gallery_photo, .. } = embedded;
    let mut pairs = [Vec::new(), Vec::new()];
    for (i, &who) in q.iter().enumerate() {
        let of = paired(i, who, g, seed);
        pairs.iter_mut().zip(of).for_each(|(all, of)| all.extend(of.into_iter().map(|j| (i, j))));
    }
    let picks = answered(q.len());
    let who: Vec<Identity> = picks.iter().map(|&i| q[i]).collect();
    let query = rows(&embedded.query, &mut picks.into_iter());
    let of = QueryGallery::new(&query, &embedded.gallery, &who, g);
    let answers = retrieval::ranking(of, metric, 10);
    let paired = pairs.map(distances);
    sections(report, Shown { set, q, query_photo, gallery_photo, paired, answers }, scored)
}

/// Places in the gallery whose distances from query `i` the page shows: of one person across cameras, and of two people.
pub(super) fn paired(i: usize, who: Identity, g: &[Identity], seed: u64) -> [Vec<usize>; 2] {
    let mut rng = seed::at(seed::named(seed, "histogram"), i as u64, 0);
    let matches = (0..g.len()).filter(|&j| g[j].person == who.person && g[j].camera != who.camera);
    let drawn = (0..10.min(g.len())).map(|_| rng.random_range(0..g.len()));
    let others = drawn.filter(|&j| g[j].person >= 0 && g[j].person != who.person).collect();
    [matches.take(20).collect(), others]
}

/// The queries whose answers the page shows: evenly spread, so that it shows easy and hard ones alike.
pub(super) fn answered(queries: usize) -> Vec<usize> {
    let count = 24.min(queries);
    (0..count).map(|i| i * queries / count.max(1)).collect()
}

/// What the pictures are made from.
pub(super) struct Shown<'a> {
    pub set: &'a ReidSet,
    pub q: &'a [Identity],
    pub query_photo: &'a [usize],
    pub gallery_photo: &'a [usize],
    /// The distances of the places of [`paired`].
    pub paired: [Vec<f64>; 2],
    /// The first ten answers to each query of [`answered`].
    pub answers: Vec<Vec<Hit>>,
}

pub(super) fn sections(report: &mut Report, shown: Shown<'_>, scored: &Retrieval) -> Result<()> {
    let Shown { set, q, query_photo, gallery_photo, paired: [positive, negative], answers } = shown;
    let cmc = scored.cmc(50.min(gallery_photo.len().max(1)));
    let points = cmc.iter().enumerate().map(|(k, &share)| ((k + 1) as f64, share)).collect();
    report.lines(
        "Cumulative match characteristic",
        "The share of queries whose first true match is at rank k or before.",
        "rank k",
        "share of queries",
        &[Series { name: "CMC".into(), points }],
    );
    report.histogram(
        "Distances of pairs",
        "Query and gallery of one person across cameras (up to 20 a query), and of two people (10 drawn a query).",
        "distance",
        &[("same person".into(), positive), ("different people".into(), negative)],
        40,
    );

    let mut gallery = Vec::new();
    for (i, answers) in answered(q.len()).into_iter().zip(answers) {
        let who = q[i];
        let mut tiles = vec![tile(&set.query[query_photo[i]], "query".into(), Frame::None)?];
        for (rank, answer) in answers.into_iter().enumerate() {
            let caption = format!("{} · {:.2}", rank + 1, answer.distance);
            let frame = if answer.correct { Frame::Right } else { Frame::Wrong };
            tiles.push(tile(&set.gallery[gallery_photo[answer.index]], caption, frame)?);
        }
        gallery.push(GalleryRow { title: format!("person {} in camera {}", who.person, who.camera), tiles });
    }
    report.gallery("Queries and their first ten answers", "Framed green with a tick where the person is the query's, red with a cross where not; the number is the distance.", &gallery);
    Ok(())
}
