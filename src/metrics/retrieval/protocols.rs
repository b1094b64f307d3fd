//! What surrounds the one retrieval score: the answers themselves, CUHK03's single shot, Market-1501's multi-query.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use anyhow::{Context, Result, ensure};
use rand::Rng;
use tch::{Device, Kind, Tensor};

use super::distances::{Streamed, for_rows};
use super::{Exclude, Gallery, Identity, QueryGallery, clean};
use crate::distance::Metric;
use crate::metrics::mean_and_deviation;
use crate::metrics::others::Others;
use crate::real::wide;
use crate::seed;

/// One answer to a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The row of the gallery.
    pub index: usize,
    /// Distance to the query in the metric asked for; infinite where it is not finite.
    pub distance: f64,
    /// Whether it shows the query's person.
    pub correct: bool,
}

/// The first `k` answers to each query, nearest first, after junk and what the query does not see were dropped (fewer
/// where the gallery is smaller). Meant for pictures of a few queries, on the CPU, of a gallery that memory
/// need not hold.
pub fn ranking(of: QueryGallery<'_>, metric: Metric, k: usize) -> Vec<Vec<Hit>> {
    let shelf = of.shelf();
    let distances = Streamed::new(of.query, of.gallery, &shelf.index, metric);
    first(|from, n| distances.rows(from, n), &shelf, metric, k)
}

/// [`ranking`] on distances that are at hand, `[Q, G]`, any device, any float kind.
///
/// # Panics
/// As [`super::evaluate_distances`].
pub fn ranking_distances(dist: &Tensor, q: &[Identity], g: &[Identity], exclude: Exclude, k: usize) -> Vec<Vec<Hit>> {
    let shelf = Gallery::of_distances(dist, q, g, exclude);
    // Distances as they are: no metric has squared them.
    first(|from, n| shelf.rows(dist, from, n), &shelf, Metric::SquaredEuclidean, k)
}

/// Rows widened, which changes neither a distance nor an order: what is scored here needs no speed.
fn in_f64(rows: impl Fn(usize, usize) -> Tensor) -> impl Fn(usize, usize) -> Tensor {
    move |from, n| rows(from, n).to_kind(Kind::Double)
}

fn first(rows: impl Fn(usize, usize) -> Tensor, shelf: &Gallery<'_>, metric: Metric, k: usize) -> Vec<Vec<Hit>> {
    for_rows(shelf.q.len(), shelf.index.len(), in_f64(rows), |i, row: &mut [f64]| {
        clean(row);
        let (matches, dropped) = shelf.sides(i);
        let mut seen: Vec<usize> = (0..row.len()).filter(|p| !dropped.contains(p)).collect();
        let order =
            |a: &usize, b: &usize| (row[*a], a).partial_cmp(&(row[*b], b)).expect("distances were made comparable");
        if k < seen.len() {
            seen.select_nth_unstable_by(k, order);
            seen.truncate(k);
        }
        seen.sort_unstable_by(order);
        let distance = |p: usize| {
            if metric == Metric::Euclidean { row[p].sqrt() } else { row[p] }
        };
        seen.iter()
            .map(|&p| Hit { index: shelf.index[p], distance: distance(p), correct: matches.contains(&p) })
            .collect()
    })
}

/// Ranks where a person has one gallery image, drawn anew a number of times; from [`single_shot`].
#[derive(Debug, Clone)]
pub struct SingleShot {
    /// CMC at 1, 2, ..., averaged over the repeats; as long as the largest gallery drawn.
    pub cmc: Vec<f64>,
    /// Sample standard deviation of CMC at 1 over the repeats; NaN of one.
    pub rank1_std: f64,
    /// Queries whose person no other camera saw; left out.
    pub skipped: usize,
    /// Distances that were NaN or infinite; they sort last.
    pub non_finite: usize,
}

impl SingleShot {
    /// CMC at `k`, a fraction of the queries that have a match; 1 beyond the size of the gallery, NaN without queries.
    pub fn rank(&self, k: usize) -> f64 {
        match (k, self.cmc.len()) {
            (_, 0) => f64::NAN,
            (0, _) => 0.0,
            (k, n) => self.cmc[k.min(n) - 1],
        }
    }
}

/// CUHK03's old protocol on distances `[Q, G]`, e.g. those of a learned metric, of any device and float kind: CMC with a
/// gallery of one image a person, drawn anew for each query and repeat.
///
/// For each query the gallery images of other cameras are taken, one drawn at random for each person (junk is dropped,
/// distractors all stay), and the rank of the query's person among them counted. Draws come from
/// `seed::at(seed, repeat, query index)`.
///
/// # Panics
/// As [`super::evaluate_distances`].
pub fn single_shot(dist: &Tensor, q: &[Identity], g: &[Identity], repeats: usize, seed: u64) -> SingleShot {
    Shots::of(dist, 0, q, g, repeats, seed).scored()
}

/// What single shot counts: whole numbers, which add up over queries and processes.
#[derive(Debug, Default)]
pub(crate) struct Shots {
    /// Queries, those of them with a match, and distances that are not finite.
    queries: usize,
    counted: usize,
    non_finite: usize,
    /// How often a query's person came first, by repeat.
    firsts: Vec<usize>,
    /// How often at each rank from 1, over all repeats.
    at: Vec<usize>,
}

impl Shots {
    /// What [`single_shot`] counts of some queries, the first of which is number `first` of all.
    pub fn of(dist: &Tensor, first: usize, q: &[Identity], g: &[Identity], repeats: usize, seed: u64) -> Shots {
        let shelf = Gallery::of_distances(dist, q, g, Exclude::SameCamera);
        // Ordered by person, so that the draws do not depend on a hash.
        let mut people: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        let mut distractors = Vec::new();
        for (place, who) in shelf.identity.iter().enumerate() {
            match who.person {
                0 => distractors.push(place),
                person => people.entry(person).or_default().push(place),
            }
        }
        let rows = in_f64(|from, n| shelf.rows(dist, from, n));
        let found = for_rows(q.len(), shelf.index.len(), rows, |i, row: &mut [f64]| {
            let non_finite = clean(row);
            let elsewhere = |p: &usize| shelf.identity[*p].camera != q[i].camera;
            let rest: Vec<usize> = distractors.iter().copied().filter(elsewhere).collect();
            let others: Vec<(i64, Vec<usize>)> = people
                .iter()
                .map(|(&person, places)| (person, places.iter().copied().filter(elsewhere).collect::<Vec<_>>()))
                .filter(|(_, places)| !places.is_empty())
                .collect();
            let own = others.iter().position(|(person, _)| *person == q[i].person);
            let ranks: Option<Vec<usize>> = own.map(|own| {
                let rank = |repeat| {
                    let mut rng = seed::at(seed, repeat as u64, (first + i) as u64);
                    let drawn: Vec<usize> =
                        others.iter().map(|(_, places)| places[rng.random_range(0..places.len())]).collect();
                    let mine = (row[drawn[own]], drawn[own]);
                    1 + drawn.iter().chain(&rest).filter(|&&p| (row[p], p) < mine).count()
                };
                (0..repeats).map(rank).collect()
            });
            (ranks, others.len() + rest.len(), non_finite)
        });
        let widest = found.iter().filter(|f| f.0.is_some()).map(|f| f.1).max().unwrap_or(0);
        let mut all = Shots { queries: q.len(), firsts: vec![0; repeats], at: vec![0; widest], ..Shots::default() };
        for (ranks, _, non_finite) in found {
            all.non_finite += non_finite;
            all.counted += usize::from(ranks.is_some());
            for (repeat, rank) in ranks.into_iter().flatten().enumerate() {
                all.at[rank - 1] += 1;
                all.firsts[repeat] += usize::from(rank == 1);
            }
        }
        all
    }

    /// Adds what other queries gave.
    pub fn add(&mut self, other: Shots) {
        let add = |own: &mut Vec<usize>, other: Vec<usize>| {
            own.resize(own.len().max(other.len()), 0);
            own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
        };
        self.queries += other.queries;
        self.counted += other.counted;
        self.non_finite += other.non_finite;
        add(&mut self.firsts, other.firsts);
        add(&mut self.at, other.at);
    }

    /// What all processes counted of their queries.
    pub fn of_all<O: Others>(self, others: &O) -> Result<Shots, O::Error> {
        let Shots { queries, counted, non_finite, firsts, at } = self;
        let head = [queries, counted, non_finite, firsts.len()];
        let own: Vec<f64> = head.into_iter().chain(firsts).chain(at).map(|count| count as f64).collect();
        let mut all = Shots::default();
        for list in others.gather(&own)? {
            let mut counts = list.into_iter().map(|count| count as usize);
            let [queries, counted, non_finite, repeats] = [(); 4].map(|()| counts.next().unwrap_or(0));
            let firsts = counts.by_ref().take(repeats).collect();
            all.add(Shots { queries, counted, non_finite, firsts, at: counts.collect() });
        }
        Ok(all)
    }

    /// The fractions.
    pub fn scored(self) -> SingleShot {
        let Shots { queries, counted, non_finite, firsts, at } = self;
        let (mut sum, all) = (0, (counted * firsts.len()) as f64);
        let cmc = at.iter().map(|n| (sum += n, sum as f64 / all).1).collect();
        let firsts: Vec<f64> = firsts.iter().map(|&n| n as f64 / counted as f64).collect();
        SingleShot { cmc, rank1_std: mean_and_deviation(&firsts).1, skipped: queries - counted, non_finite }
    }
}

/// Rows that are averaged at once: in f64 all would take twice their memory.
const AT_ONCE: i64 = 1 << 13;

/// Averages the rows of `x` `[N, D]` that share a key, in order of a key's first row: `[T, D]` on the CPU and the first row of
/// each. The mean embedding of a tracklet (1703.07737, Section 4.3). It is taken in f64 and not normalised again; its kind is
/// that of `x` (half kinds give f32).
pub fn average_by<K: Hash + Eq + Copy>(x: &Tensor, keys: &[K]) -> (Tensor, Vec<usize>) {
    let (mut places, mut firsts): (HashMap<K, i64>, _) = (HashMap::new(), Vec::new());
    let place = |(row, key): (usize, &K)| {
        *places.entry(*key).or_insert_with(|| {
            firsts.push(row);
            firsts.len() as i64 - 1
        })
    };
    let groups: Vec<i64> = keys.iter().enumerate().map(place).collect();
    let mean = tch::no_grad(|| {
        let groups = Tensor::from_slice(&groups);
        let mut sums = Tensor::zeros([firsts.len() as i64, x.size()[1]], (Kind::Double, Device::Cpu));
        for (groups, x) in groups.split(AT_ONCE, 0).iter().zip(x.split(AT_ONCE, 0)) {
            sums = sums.index_add_(0, groups, &x.to_device(Device::Cpu).to_kind(Kind::Double));
        }
        sums / groups.bincount::<Tensor>(None, firsts.len() as i64).unsqueeze(1)
    });
    (mean.to_kind(wide(&[x])), firsts)
}

/// Market-1501's multi-query embeddings `[Q, D]`: for each query of `q`, the mean ([`average_by`]) of all `images` `[M, D]`
/// that show the same person from the same camera (`who`, M entries; the data set's `gt_bbox` folder). Evaluate them as single
/// queries. They lie on the device of `images`.
///
/// # Errors
/// When a query has no such image, or shapes and lengths disagree.
pub fn multi_query(images: &Tensor, who: &[Identity], q: &[Identity]) -> Result<Tensor> {
    let size = images.size();
    ensure!(
        size.len() == 2 && size[0] == who.len() as i64,
        "multi-query embeddings are {size:?} but there are {} identities: pass one identity a row",
        who.len()
    );
    let (mean, firsts) = average_by(images, who);
    let place: HashMap<Identity, i64> = (0..).zip(&firsts).map(|(at, &row)| (who[row], at)).collect();
    let of = |(i, w): (usize, &Identity)| {
        place.get(w).copied().with_context(|| {
            format!(
                "query {i} (person {}, camera {}) has no multi-query image: is the gt_bbox folder complete?",
                w.person, w.camera
            )
        })
    };
    let take = q.iter().enumerate().map(of).collect::<Result<Vec<_>>>()?;
    Ok(mean.index_select(0, &Tensor::from_slice(&take)).to_device(images.device()))
}
