//! Retrieval: a query ranks a gallery; CMC and mean average precision say how early the true matches come.
//!
//! The rules are those of Market-1501 and MARS (Zheng et al. 2015, 2016), which "In Defense of the Triplet Loss"
//! (arXiv 1703.07737) reports. Everything streams: memory never holds the [queries, gallery] matrix.

use std::collections::HashMap;
use std::fmt;

use tch::{Kind, Tensor};

use super::Alone;
use crate::distance::Metric;
use crate::real::{Real, wide};
use distances::{Distances, for_rows};
use ranks::{answer, clean};

mod distances;
mod processes;
mod protocols;
mod ranks;
mod rerank;

pub(crate) use distances::Streamed;
pub use processes::{evaluate_shared, evaluate_streamed};
pub(crate) use protocols::Shots;
pub use protocols::{Hit, SingleShot, average_by, multi_query, ranking, ranking_distances, single_shot};
pub use rerank::{Reciprocal, evaluate_reranked, rerank};

/// Which average precision `Retrieval::map` gives. With m matches, the k-th of them at rank r_k:
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ap {
    /// Market-1501's MATLAB rule, the one the re-identification papers report: the area under the precision-recall
    /// curve by trapezoids, 1/m sum_k (p(r_k - 1) + p(r_k)) / 2, where p(r) is the precision of the first r and p(0) is 1.
    Trapezoid,
    /// The sum of the precision at each match over their number, 1/m sum_k k / r_k (scikit-learn from 0.19 on). About a
    /// point of mAP above the trapezoid rule on Market-1501.
    Step,
}

/// Which gallery items a query does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclude {
    /// The queries are the gallery: query i is gallery item i and does not see itself.
    Itself,
    /// Those of the same person from the same camera (Market-1501, MARS).
    SameCamera,
}

/// Whom an image shows and which camera took it. Number people from 1: the two other numbers have a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The person. -1 (any negative number) is junk, e.g. a bad detection: in the gallery it is dropped, neither right
    /// nor wrong. 0 is a distractor: a wrong answer to every query. A query of either kind has no match.
    pub person: i64,
    /// The camera that took it.
    pub camera: i64,
}

/// How one query that has a match fared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// Rank of the first match, counted from 1.
    pub first: usize,
    /// Number of matches in the gallery.
    pub matches: usize,
    /// Average precision by `Ap::Trapezoid`.
    pub trapezoid: f64,
    /// Average precision by `Ap::Step`.
    pub step: f64,
}

impl Answer {
    /// Average precision by the rule `ap`.
    pub fn ap(&self, ap: Ap) -> f64 {
        match ap {
            Ap::Trapezoid => self.trapezoid,
            Ap::Step => self.step,
        }
    }
}

/// What an evaluation found. Fractions are of the queries that have a match; `Display` gives the protocol and counts.
#[derive(Debug, Clone)]
pub struct Retrieval {
    /// One entry a query; `None` where the gallery holds no match.
    pub answers: Vec<Option<Answer>>,
    /// Queries without any match, left out of both mAP and CMC.
    pub skipped: usize,
    /// Distances (between queries and gallery items that are not junk) that were NaN or infinite. They sort last; above
    /// 0 they mean broken embeddings.
    pub non_finite: usize,
    /// Gallery size with junk and distractors.
    pub gallery: usize,
    /// Gallery items dropped as junk.
    pub junk: usize,
    /// Gallery items that are distractors.
    pub distractors: usize,
    /// What queries did not see.
    pub exclude: Exclude,
    /// The rule that `map` uses.
    pub ap: Ap,
}

impl Retrieval {
    /// CMC at `k`: the fraction of queries whose first match is among the first `k`. NaN when no query has a match.
    pub fn rank(&self, k: usize) -> f64 {
        self.mean(|a| if a.first <= k { 1.0 } else { 0.0 })
    }

    /// CMC at 1, 2, ..., `k_max`.
    pub fn cmc(&self, k_max: usize) -> Vec<f64> {
        let mut found = vec![0usize; k_max];
        for a in self.answers.iter().flatten().filter(|a| a.first <= k_max) {
            found[a.first - 1] += 1;
        }
        let counted = (self.answers.len() - self.skipped) as f64;
        let mut sum = 0;
        found.iter().map(|n| (sum += n, sum as f64 / counted).1).collect()
    }

    /// Mean average precision by the rule that `evaluate` was given, a fraction. NaN when no query has a match.
    pub fn map(&self) -> f64 {
        self.map_of(self.ap)
    }

    /// Mean average precision by the rule `ap`; both rules are always computed.
    pub fn map_of(&self, ap: Ap) -> f64 {
        self.mean(|a| a.ap(ap))
    }

    fn mean(&self, f: impl Fn(&Answer) -> f64) -> f64 {
        let counted = self.answers.len() - self.skipped;
        self.answers.iter().flatten().map(f).sum::<f64>() / counted as f64
    }
}

impl fmt::Display for Retrieval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.exclude {
            Exclude::Itself => "each query's own image",
            Exclude::SameCamera => "the same person from the same camera",
        };
        write!(
            f,
            "{} queries ({} without a match, not counted), gallery {} ({} junk dropped, {} distractors kept), less {rule}",
            self.answers.len(),
            self.skipped,
            self.gallery,
            self.junk,
            self.distractors
        )?;
        if self.non_finite > 0 {
            write!(f, "; {} distances are not finite", self.non_finite)?;
        }
        Ok(())
    }
}

/// Embeddings of queries and of a gallery, whom they show, and what a query does not see.
#[derive(Debug, Clone, Copy)]
pub struct QueryGallery<'a> {
    query: &'a Tensor,
    gallery: &'a Tensor,
    q: &'a [Identity],
    g: &'a [Identity],
    exclude: Exclude,
}

impl<'a> QueryGallery<'a> {
    /// `query` is `[Q, D]`, `gallery` `[G, D]`, of any float kind and device; `q` and `g` say whom each row shows. No query
    /// sees its person in its own camera: [`Exclude::SameCamera`].
    ///
    /// # Panics
    /// Where shapes and lengths disagree.
    pub fn new(query: &'a Tensor, gallery: &'a Tensor, q: &'a [Identity], g: &'a [Identity]) -> QueryGallery<'a> {
        let [a, b] = rows_of_one_width(query, gallery);
        assert_eq!(a, q.len() as i64, "one identity a query embedding");
        assert_eq!(b, g.len() as i64, "one identity a gallery embedding");
        QueryGallery { query, gallery, q, g, exclude: Exclude::SameCamera }
    }

    /// Each row of `x` `[N, D]` asks for all others: [`Exclude::Itself`].
    ///
    /// # Panics
    /// Where `who` does not say of each row whom it shows.
    pub fn among(x: &'a Tensor, who: &'a [Identity]) -> QueryGallery<'a> {
        QueryGallery { exclude: Exclude::Itself, ..QueryGallery::new(x, x, who, who) }
    }

    fn shelf(&self) -> Gallery<'a> {
        Gallery::new(self.q, self.g, self.exclude)
    }

    /// The gallery and its distances to the queries, without the junk's.
    fn distances(&self, metric: Metric) -> (Gallery<'a>, Distances) {
        let shelf = self.shelf();
        let distances = Distances::new(self.query, &shelf.select(self.gallery, 0), metric);
        (shelf, distances)
    }
}

/// Ranks the gallery for each query and scores the ranking.
///
/// Distances are computed in f32 (f64 for f64 input), a block of queries at a time; equal distances rank by gallery index.
/// Embeddings that are not finite do no harm to other rows: their distances sort last and are counted in
/// `Retrieval::non_finite`. `Retrieval` always holds both average precisions; `ap` says which one `map()` gives.
pub fn evaluate(of: QueryGallery<'_>, metric: Metric, ap: Ap) -> Retrieval {
    let Ok(found) = evaluate_shared(of, metric, ap, &Alone);
    found
}

/// `evaluate` on distances that are at hand, `[Q, G]`; any device, any float kind. Those of [`rerank`] need not be at hand:
/// [`evaluate_reranked`] never holds them.
///
/// # Panics
/// Where `dist` is not `[q.len(), g.len()]`, or with `Exclude::Itself` when Q and G differ.
pub fn evaluate_distances(dist: &Tensor, q: &[Identity], g: &[Identity], exclude: Exclude, ap: Ap) -> Retrieval {
    summed(judged(dist, q, g, exclude), q, g, exclude, ap)
}

/// What is found of each query by its distances, `[Q, G]`; of [`Exclude::SameCamera`] they may be some of the queries.
pub(crate) fn judged(dist: &Tensor, q: &[Identity], g: &[Identity], exclude: Exclude) -> Vec<Judged> {
    let shelf = Gallery::of_distances(dist, q, g, exclude);
    let (n, width) = (q.len(), shelf.index.len());
    let rows = |from, n| shelf.rows(dist, from, n);
    match wide(&[dist]) {
        Kind::Double => for_rows(n, width, rows, |i, row: &mut [f64]| shelf.judge(i, row)),
        _ => for_rows(n, width, rows, |i, row: &mut [f32]| shelf.judge(i, row)),
    }
}

/// What was found of all queries, as [`evaluate_distances`] gives it.
pub(crate) fn summed(found: Vec<Judged>, q: &[Identity], g: &[Identity], exclude: Exclude, ap: Ap) -> Retrieval {
    Gallery::new(q, g, exclude).sum(found, ap)
}

/// How many rows each has.
fn rows_of_one_width(query: &Tensor, gallery: &Tensor) -> [i64; 2] {
    let (a, b) = (query.size(), gallery.size());
    assert!(a.len() == 2 && b.len() == 2 && a[1] == b[1], "embeddings must be [Q, D] and [G, D], not {a:?} and {b:?}");
    [a[0], b[0]]
}

/// The gallery less its junk, with the places of each person, and who asks. Places count without the junk, in the order of
/// the gallery.
struct Gallery<'a> {
    /// The queries.
    q: &'a [Identity],
    exclude: Exclude,
    /// Gallery index of each place.
    index: Vec<usize>,
    /// Identity at each place.
    identity: Vec<Identity>,
    person: HashMap<i64, Vec<usize>>,
    whole: usize,
}

impl<'a> Gallery<'a> {
    /// The gallery of ready distances `[Q, G]`.
    fn of_distances(dist: &Tensor, q: &'a [Identity], g: &[Identity], exclude: Exclude) -> Gallery<'a> {
        assert_eq!(dist.size(), [q.len() as i64, g.len() as i64], "distances must be [queries, gallery]");
        Gallery::new(q, g, exclude)
    }

    fn new(q: &'a [Identity], g: &[Identity], exclude: Exclude) -> Gallery<'a> {
        assert!(
            exclude != Exclude::Itself || q.len() == g.len(),
            "Exclude::Itself needs the queries to be the gallery"
        );
        let index: Vec<usize> = (0..g.len()).filter(|&i| g[i].person >= 0).collect();
        let identity: Vec<Identity> = index.iter().map(|&i| g[i]).collect();
        let mut person: HashMap<i64, Vec<usize>> = HashMap::new();
        for (place, who) in identity.iter().enumerate().filter(|(_, who)| who.person > 0) {
            person.entry(who.person).or_default().push(place);
        }
        Gallery { q, exclude, index, identity, person, whole: g.len() }
    }

    /// The rows or columns of `t` that are not junk.
    fn select(&self, t: &Tensor, dim: i64) -> Tensor {
        if self.index.len() == self.whole {
            return t.shallow_clone();
        }
        let index: Vec<i64> = self.index.iter().map(|&i| i as i64).collect();
        tch::no_grad(|| t.index_select(dim, &Tensor::from_slice(&index).to_device(t.device())))
    }

    /// Rows `from..from + n` of ready distances without the junk's columns, in f32 or f64: a copy.
    fn rows(&self, dist: &Tensor, from: usize, n: usize) -> Tensor {
        let part = dist.detach().narrow(0, from as i64, n as i64);
        self.select(&part.to_kind(wide(&[dist])), 1).copy()
    }

    /// A row of the whole gallery less the junk's columns, where it lies.
    fn less_junk<'r, T: Copy>(&self, row: &'r mut [T]) -> &'r mut [T] {
        for (place, &index) in self.index.iter().enumerate() {
            row[place] = row[index];
        }
        &mut row[..self.index.len()]
    }

    /// What was found of query `i` by its `row` of distances.
    fn judge<T: Real>(&self, i: usize, row: &mut [T]) -> Judged {
        let non_finite = clean(row);
        let (matches, dropped) = self.sides(i);
        (answer(row, &matches, &dropped), non_finite)
    }

    /// What all queries come to.
    fn sum(&self, found: Vec<Judged>, ap: Ap) -> Retrieval {
        let non_finite = found.iter().map(|(_, n)| n).sum();
        let answers: Vec<Option<Answer>> = found.into_iter().map(|(answer, _)| answer).collect();
        Retrieval {
            skipped: answers.iter().filter(|a| a.is_none()).count(),
            answers,
            non_finite,
            gallery: self.whole,
            junk: self.whole - self.index.len(),
            distractors: self.identity.iter().filter(|who| who.person == 0).count(),
            exclude: self.exclude,
            ap,
        }
    }

    /// Places of the matches of query `i` and of what it does not see.
    fn sides(&self, i: usize) -> (Vec<usize>, Vec<usize>) {
        let who = self.q[i];
        let same = self.person.get(&who.person).map_or(&[][..], Vec::as_slice);
        match self.exclude {
            Exclude::SameCamera => same.iter().partition(|&&p| self.identity[p].camera != who.camera),
            Exclude::Itself => {
                let matches = same.iter().copied().filter(|&p| self.index[p] != i).collect();
                (matches, self.index.binary_search(&i).into_iter().collect())
            }
        }
    }
}

/// The answer to a query, and how many of its distances were not finite.
pub(crate) type Judged = (Option<Answer>, usize);
