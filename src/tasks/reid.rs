//! Person re-identification sets embedded, scored and shown: what triplet-reid and quadruplet share.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Args;
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Tensor;

use super::embed::{Embedding, average_by};
pub use super::search::SEARCH;
use super::{Evaluation, bare};
use crate::datasets::{self, Layout, Photo, ReidSet, Split};
use crate::distance::Metric;
use crate::files;
use crate::metrics::retrieval::{self, Ap, Exclude, Hit, Identity, Retrieval, SingleShot};
use crate::models::Network;
use crate::report::{Frame, GalleryRow, Report, Series, Tile};
use crate::run::Run;
use crate::say::{count, plural};
use crate::seed;

/// Which people are trained on and which are tested, as flags.
#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReidData {
    /// Data set folder (Market-1501, MARS, CUHK03, CUHK01, VIPeR, or one folder an identity), or drawn for the built-in set (ours)
    // The default is the paper's own set, which its presets fill in.
    #[arg(long, value_name = "DIR|drawn", default_value = "", value_parser = bare, help_heading = "Data")]
    pub data: String,
    /// Split: a test set of CUHK03 (1 to 20), a drawn one of CUHK01 or VIPeR, or np for CUHK03's new protocol (ours)
    #[arg(long, value_name = "N|np", default_value_t = Split::default(), help_heading = "Data")]
    pub split: Split,
    /// People to test in CUHK01 (486 or 100) or VIPeR; 486 and 316 where it is not given (ours)
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub test_people: Option<usize>,
    /// Hold this many training people out and score on them; 0 scores on the test set (ours)
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Data")]
    pub validation: usize,
}

impl ReidData {
    /// The set of a run with this `seed`, lists without pixels: `validation` training people, drawn from it, take the place
    /// of the test people (1703.07737, Table 1). That a test set cannot be scored is a note, said before hours of training.
    ///
    /// # Errors
    /// As [`datasets::open_split`]; a split of the drawn set, which has none; people held out who are too few, or cannot be scored.
    pub fn open(&self, seed: u64) -> Result<ReidSet> {
        let set = if self.data != "drawn" {
            datasets::open_split(Path::new(&self.data), self.split, self.test_people)?
        } else {
            ensure!(
                self.split == Split::default() && self.test_people.is_none(),
                "the drawn set has one test set: leave out --split and --test-people"
            );
            datasets::drawn::set()
        };
        let mut set = match self.validation {
            0 => set,
            people => set.hold_out(people, seed::named(seed, "validation")).context("--validation")?,
        };
        let division = std::mem::take(&mut set.division);
        set.notes.extend(division.into_iter().chain(single(&set)));
        match can_be_scored(&set) {
            Err(why) if self.validation > 0 => return Err(why.context("--validation")),
            scored => set.notes.extend(scored.err().map(|why| why.to_string())),
        }
        Ok(set)
    }

    /// Other data to score a run on that was trained on these, or another split of them, on which nobody may be tested who
    /// was trained on.
    ///
    /// # Errors
    /// As [`ReidData::open`]; photos of the training among those to score on.
    pub fn elsewhere(&self, other: &ReidData, seed: u64) -> Result<ReidSet> {
        let mut set = other.open(seed)?;
        // Published weights have no data of their own.
        if !self.data.is_empty() {
            let (seen, all) = self.trained_on(seed, other, &mut set);
            ensure!(
                seen == 0,
                "the run was trained on {seen} of the {all} test photos of {}: score it on its own split, or train on this one",
                set.name
            );
        }
        Ok(set)
    }

    /// On how many test photos of `set`, which `other` opened, a run of these data with this `seed` was trained, and how many
    /// there are; (0, 0) with a note in `set` where these data cannot be opened, and without one where they are of other photos.
    pub(super) fn trained_on(&self, seed: u64, other: &ReidData, set: &mut ReidSet) -> (usize, usize) {
        let Ok(own) = self.open(seed) else {
            set.notes
                .push(format!("{} cannot be opened: whether somebody tested was trained on is not known", self.data));
            return (0, 0);
        };
        // A copy of a known layout is known by its photos' names.
        let folder = |data: &ReidData| Path::new(&data.data).canonicalize().ok();
        let copies = own.layout == set.layout && own.layout != Layout::Tree;
        if self.data != other.data && !copies && folder(self).is_none_or(|own| Some(own) != folder(other)) {
            return (0, 0);
        }
        let trained: HashSet<&str> = own.train.iter().map(|photo| &*photo.name).collect();
        let tested = set.query.iter().chain(&set.gallery).filter(|photo| photo.person > 0);
        tested.fold((0, 0), |(seen, all), photo| (seen + usize::from(trained.contains(&*photo.name)), all + 1))
    }
}

/// Query and gallery of a set as embeddings; a tracklet is one row, the mean of its frames.
struct Embedded {
    /// f32 `[Q, D]`.
    query: Tensor,
    /// f32 `[G, D]`.
    gallery: Tensor,
    /// Who the queries are.
    q: Vec<Identity>,
    /// Who the gallery is.
    g: Vec<Identity>,
    /// For each query its photo (a tracklet's first) in the set.
    query_photo: Vec<usize>,
    /// For each gallery row its photo.
    gallery_photo: Vec<usize>,
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
/// part of the gallery each.
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
    let mut score = |name: &str, query: &Tensor| -> Result<Retrieval> {
        let mut add = |name: String, scored: &Retrieval| {
            for (metric, ap) in [("mAP", Ap::Trapezoid), ("mAP (step)", Ap::Step)] {
                found.scores.push((format!("{name} {metric}"), scored.map_of(ap)));
            }
            found.scores.extend([1, 5, 10].map(|k| (format!("{name} rank-{k}"), scored.rank(k))));
        };
        let (rule, ap, world) = (Exclude::SameCamera, Ap::Trapezoid, run.world());
        let scored = match world.is_alone() {
            true => retrieval::evaluate(query, gallery, q, g, metric, rule, ap),
            false => retrieval::evaluate_shared(query, gallery, q, g, metric, rule, ap, world)?,
        };
        let none = "no query has a match in the gallery under the Market-1501 rule: give other --data";
        ensure!(scored.skipped < q.len(), none);
        add(name.into(), &scored);
        if rerank && run.leads() {
            let dist = retrieval::rerank(query, gallery, 20, 6, 0.3);
            add(format!("{name} re-ranked"), &retrieval::evaluate_distances(&dist, q, g, rule, ap));
        }
        Ok(scored)
    };
    let single = score("single query", query)?;
    if !set.multi_query.is_empty() {
        let (x, who, _) = rows(network, &set.multi_query, embedding, "embed multi-query")?;
        score("multi query", &retrieval::multi_query(&x, &who, q)?)?;
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

/// Who the photos show.
pub fn identities(photos: &[Photo]) -> Vec<Identity> {
    photos.iter().map(|photo| Identity { person: photo.person, camera: photo.camera }).collect()
}

/// Persons and cameras of photos.
pub fn people_and_cameras(photos: &[Photo]) -> (Vec<i64>, Vec<i64>) {
    photos.iter().map(|photo| (photo.person, photo.camera)).unzip()
}

/// Query and gallery of a set for a network that compares photo with photo: the middle photo of a tracklet stands for all of
/// it, which a note then says. A set without tracklets gives its photos.
pub fn middle_photos(set: &ReidSet) -> ReidSet {
    let middles = |photos: &[Photo]| -> Vec<Photo> {
        let runs = photos.chunk_by(|a, b| a.tracklet >= 0 && a.tracklet == b.tracklet);
        runs.map(|run| run[run.len() / 2].clone()).collect()
    };
    let (query, gallery) = (middles(&set.query), middles(&set.gallery));
    let fewer = query.len() + gallery.len() < set.query.len() + set.gallery.len();
    let note = fewer.then(|| "a pair is of two photos: in the test the middle one of a tracklet stands for it".into());
    ReidSet {
        name: set.name.clone(),
        layout: set.layout,
        query,
        gallery,
        notes: note.into_iter().collect(),
        ..ReidSet::default()
    }
}

/// How many training people have one photo, where there are any.
fn single(set: &ReidSet) -> Option<String> {
    let mut each: BTreeMap<i64, usize> = BTreeMap::new();
    set.train.iter().for_each(|photo| *each.entry(photo.person).or_default() += 1);
    let single = each.values().filter(|&&count| count == 1).count();
    let has = plural(single, "has one photo: it brings", "have one photo each: they bring");
    let total = count(each.len(), "training person");
    (single > 0).then(|| format!("{single} of {total} {has} negatives and no positive pair of two photos"))
}

/// Refuses a set with cameras whose test photos are all by one.
///
/// # Errors
/// Where they are.
pub fn has_cameras(set: &ReidSet) -> Result<()> {
    let seen: std::collections::BTreeSet<i64> =
        set.query.iter().chain(&set.gallery).map(|photo| photo.camera).collect();
    ensure!(
        set.layout == Layout::Tree || set.gallery.is_empty() || seen.len() > 1,
        "{}: all its test photos are by one camera, and a match by the query's own camera does not count: give photos by two cameras, or one folder an identity (DIR/ID/*.jpg), which needs no cameras",
        set.name
    );
    Ok(())
}

/// Refuses a set that cannot be scored.
///
/// # Errors
/// As [`has_cameras`], and where no query has a match in the gallery by another.
pub fn can_be_scored(set: &ReidSet) -> Result<()> {
    has_cameras(set)?;
    // Of each person the first and the last camera: one of them is another than a query's, or none is.
    let mut cameras: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for photo in &set.gallery {
        let (least, most) = cameras.entry(photo.person).or_insert((photo.camera, photo.camera));
        (*least, *most) = ((*least).min(photo.camera), (*most).max(photo.camera));
    }
    let another = |photo: &Photo| cameras.get(&photo.person).is_some_and(|&ends| ends != (photo.camera, photo.camera));
    let found = |photo: &Photo| photo.person > 0 && another(photo);
    let cause = if set.layout == Layout::Tree { "of another photo" } else { "by another camera" };
    ensure!(
        set.query.iter().any(found),
        "{}: no query has a match {cause} in the gallery: give other --data",
        set.name
    );
    Ok(())
}

/// Who is trained on and who is tested, by the names in the files' names, into `split.json` of the run at `at`: for sets
/// of several splits. A run that goes on (`resumed`) must find the same people.
///
/// # Errors
/// Where it finds others, or the file cannot be written.
pub fn write_split(at: &Path, set: &ReidSet, split: Split, resumed: bool) -> Result<()> {
    let Some(people) = datasets::split_people(set) else { return Ok(()) };
    let path = at.join("split.json");
    let value = json!({"data": set.name, "split": split, "train": people.train, "test": people.test});
    let before = if resumed { files::text(&path).ok() } else { None };
    let before: Option<Value> = before.and_then(|text| serde_json::from_str(&text).ok());
    ensure!(
        before.is_none_or(|before| before == value),
        "{}: the people of {} are not those that this run was started with: restore the data, or choose another --run",
        path.display(),
        set.name
    );
    files::write_atomic(&path, serde_json::to_string(&value)?.as_bytes())
}

/// Galleries of one image a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Draws {
    /// So many, drawn at random for each query.
    Random(usize),
    /// One: the first photo of every person, by name, by another camera than a query's (of several, one at random).
    First,
}

impl std::fmt::Display for Draws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Draws::Random(count) => write!(f, "{count}"),
            Draws::First => f.write_str("first"),
        }
    }
}

impl std::str::FromStr for Draws {
    type Err = String;

    fn from_str(text: &str) -> Result<Draws, String> {
        let number = text.parse().ok().filter(|count| (1..=10_000).contains(count)).map(Draws::Random);
        let first = (text == "first").then_some(Draws::First);
        number.or(first).ok_or_else(|| "say 1 to 10000, or first".into())
    }
}

impl From<Draws> for String {
    fn from(draws: Draws) -> String {
        draws.to_string()
    }
}

impl TryFrom<String> for Draws {
    type Error = String;

    fn try_from(text: String) -> Result<Draws, String> {
        text.parse()
    }
}

/// Query and gallery by distances that are at hand, a learned metric's say: scored single shot, and as a whole.
#[derive(Debug)]
pub struct Compared<'a> {
    set: &'a ReidSet,
    q: Vec<Identity>,
    g: Vec<Identity>,
    /// What is ranked by, `[Q, G]`: the set's queries and gallery photos are rows and columns.
    dist: Tensor,
    draws: Draws,
    seed: u64,
    /// One image a person, averaged over random galleries.
    pub shots: SingleShot,
    /// Market-1501's rule.
    pub whole: Retrieval,
}

impl<'a> Compared<'a> {
    /// Scores `dist` `[Q, G]`, by which the set's queries and gallery photos are ranked; random galleries follow
    /// from the run's `seed`.
    ///
    /// # Panics
    /// Where `dist` has another shape.
    pub fn of(set: &'a ReidSet, dist: Tensor, draws: Draws, seed: u64) -> Compared<'a> {
        let (q, g) = (identities(&set.query), identities(&set.gallery));
        let shots = match draws {
            Draws::Random(count) => retrieval::single_shot_distances(&dist, &q, &g, count, seed::named(seed, "draws")),
            Draws::First => {
                let mut places: Vec<usize> = (0..g.len()).collect();
                places.sort_by_key(|&i| &set.gallery[i].name);
                let mut seen = HashSet::new();
                // All distractors are of nobody.
                places.retain(|&i| g[i].person <= 0 || seen.insert(g[i]));
                let columns = Tensor::from_slice(&places.iter().map(|&i| i as i64).collect::<Vec<_>>());
                let first: Vec<Identity> = places.iter().map(|&i| g[i]).collect();
                retrieval::single_shot_distances(
                    &dist.index_select(1, &columns.to_device(dist.device())),
                    &q,
                    &first,
                    1,
                    0,
                )
            }
        };
        let whole = retrieval::evaluate_distances(&dist, &q, &g, Exclude::SameCamera, Ap::Trapezoid);
        Compared { set, q, g, dist, draws, seed, shots, whole }
    }

    /// Names and scores, fractions.
    pub fn scores(&self) -> Vec<(String, f64)> {
        let shots = [1, 5, 10, 20].map(|k| (format!("single shot rank-{k}"), self.shots.rank(k)));
        let whole = [("whole gallery mAP", self.whole.map()), ("whole gallery rank-1", self.whole.rank(1))];
        shots.into_iter().chain(whole.map(|(name, score)| (name.into(), score))).collect()
    }

    /// How the scores were computed.
    pub fn protocol(&self) -> Vec<String> {
        vec![
            format!(
                "single shot: {} ({} without a match by another camera left out), each against {}; one query is {:.4} of rank-1",
                count(self.q.len(), "query"),
                self.shots.skipped,
                match self.draws {
                    Draws::Random(draws) => format!(
                        "one random image of every person by another camera, averaged over {}, between which rank-1 varies by {:.4} (standard deviation)",
                        count(draws, "draw"),
                        self.shots.rank1_std
                    ),
                    Draws::First => "the first photo of every person by another camera".into(),
                },
                1. / (self.q.len() - self.shots.skipped).max(1) as f64,
            ),
            format!("whole gallery: {}, Market-1501's rule, mAP by the trapezoid rule", count(self.g.len(), "photo")),
        ]
    }

    /// What the scores come to.
    pub fn says(&self) -> String {
        format!(
            "Among one photo of every person, the first answer shows the right one for {:.1} % of {}; among all {}, for {:.1} %.",
            100. * self.shots.rank(1),
            count(self.q.len() - self.shots.skipped, "query"),
            count(self.g.len(), "photo"),
            100. * self.whole.rank(1)
        )
    }

    /// As `retrieval_sections`; `shown` makes of what is ranked by the distance that is read.
    pub fn show(&self, report: &mut Report, shown: impl Fn(f64) -> f64) -> Result<()> {
        let Compared { set, q, g, dist, .. } = self;
        let paired = |pairs: &[(usize, usize)]| {
            pairs.iter().map(|&(i, j)| shown(dist.double_value(&[i as i64, j as i64]))).collect()
        };
        let answers = |i: usize| {
            let row = dist.narrow(0, i as i64, 1);
            let mut hits = retrieval::ranking_distances(&row, &[q[i]], g, Exclude::SameCamera, 10).remove(0);
            hits.iter_mut().for_each(|hit| hit.distance = shown(hit.distance));
            hits
        };
        let (query_photo, gallery_photo): (Vec<usize>, Vec<usize>) = ((0..q.len()).collect(), (0..g.len()).collect());
        let (query_photo, gallery_photo) = (&query_photo[..], &gallery_photo[..]);
        let shown = Shown { set, q, g, query_photo, gallery_photo, paired: &paired, answers: &answers };
        sections(report, &shown, &self.whole, self.seed)
    }
}

/// CMC, distance histograms and a gallery of queries with their first ten answers.
fn retrieval_sections(
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
