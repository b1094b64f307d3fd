//! Retrieval, embedding and judging faces: N processes against one, in the library.

use rankle::collectives::World;
use rankle::datasets::drawn::People;
use rankle::distance::Metric;
use rankle::losses::quadruplet::Dissimilarity;
use rankle::metrics::Alone;
use rankle::metrics::all_pairs::{AllPairs, val_over_splits};
use rankle::metrics::clustering::{average_linkage, average_linkage_shared, k_means};
use rankle::metrics::recognition::nearest;
use rankle::metrics::retrieval::{self, Ap, Exclude, Identity, QueryGallery, Reciprocal};
use rankle::models::Network;
use rankle::models::quadruplet::{Compares, Regroup};
use rankle::tasks::embed::Embedding;
use rankle::tasks::faces::linked;
use rankle::tasks::pairs::{Comparison, Order};
use tch::{Kind, Tensor};

use super::numbers::together;
use crate::common::{all_close, matrix};
use crate::tasks::pairs::{images, small};

#[test]
fn retrieval_in_parts_is_retrieval() {
    together("retrieval");
}

#[test]
fn reranking_by_all_is_that_of_one() {
    together("reranking");
}

#[test]
fn faces_judged_by_all_are_judged_as_by_one() {
    together("faces");
}

#[test]
fn photos_embedded_by_all_into_a_file_are_those_of_one() {
    together("embedding");
}

pub fn retrieval_in_parts(world: &World) {
    let who = |person: i64, camera: i64| Identity { person, camera };
    // Small whole numbers make ties, whose distances have no rounding (cosines would); junk, distractors, people whom one part alone holds, people without a match.
    let coarse = |seed, rows, width| (matrix(seed, rows, width) * 2.).round();
    let q: Vec<Identity> = (0..23).map(|i| who(i % 9 + 1, i % 3)).collect();
    let g: Vec<Identity> =
        (0..61).map(|i| who([-1, 0, 1, 2, 3, 4, 5, 6, 7, 8][(i * i % 10) as usize], i % 4)).collect();
    for kind in [Kind::Float, Kind::Double] {
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let drawn =
                |seed, rows| if metric == Metric::Cosine { matrix(seed, rows, 3) } else { coarse(seed, rows, 3) };
            let (query, gallery) = (drawn(1, 23).to_kind(kind), drawn(2, 61).to_kind(kind));
            let _ = gallery.get(7).get(1).fill_(f64::NAN);
            let of = QueryGallery::new(&query, &gallery, &q, &g);
            let one = retrieval::evaluate(of, metric, Ap::Step);
            let all = retrieval::evaluate_shared(of, metric, Ap::Step, world).expect("the others' parts");
            assert_eq!(all.answers, one.answers);
            assert!(one.answers.iter().flatten().count() > 10);
            let counts = |r: &retrieval::Retrieval| (r.skipped, r.non_finite, r.gallery, r.junk, r.distractors);
            assert_eq!(counts(&all), counts(&one));
        }
    }
    // A gallery that is read again for each block of queries.
    for (queries, gallery, width, metric) in [
        (1100, 300, 5, Metric::Euclidean),
        (40, 9000, 5, Metric::Cosine),
        (16500, 20, 5, Metric::Euclidean),
        // Long sums, which a product might add up otherwise for fewer rows.
        (1100, 300, 512, Metric::Euclidean),
        (1, 5, 5, Metric::Cosine),
        (0, 3, 5, Metric::Cosine),
    ] {
        let (x, y) = (matrix(61, queries, width), matrix(62, gallery, width));
        let who = |i: usize| who((i * i % 61) as i64 - 1, i as i64 % 3);
        let (q, g): (Vec<_>, Vec<_>) = ((3..queries + 3).map(who).collect(), (0..gallery).map(who).collect());
        let of = QueryGallery::new(&x, &y, &q, &g);
        let one = retrieval::evaluate(of, metric, Ap::Step);
        let all = retrieval::evaluate_shared(of, metric, Ap::Step, world).expect("the others' rows");
        assert_eq!(all.answers, one.answers, "{queries} queries");
        let all = retrieval::evaluate_streamed(of, metric, Ap::Step, world).expect("the others' rows");
        assert_eq!(all.answers, one.answers, "{queries} queries");
    }
    // The queries are the gallery; then fewer items than processes, and none.
    let x = matrix(9, 40, 4);
    let people: Vec<Identity> = (0..40).map(|i| who(i / 4 + 1, 0)).collect();
    for rows in [40, 3, 1, 0] {
        let (x, people) = (x.narrow(0, 0, rows), &people[..rows as usize]);
        let (of, metric, ap) = (QueryGallery::among(&x, people), Metric::Euclidean, Ap::Trapezoid);
        let one = retrieval::evaluate(of, metric, ap);
        let all = retrieval::evaluate_shared(of, metric, ap, world);
        assert_eq!(all.expect("the others' parts").answers, one.answers);
    }
}

pub fn reranked_by_all(world: &World) {
    // Several blocks a process, uneven; ties, junk, distractors, a row that is no number; then fewer rows than processes.
    for (queries, gallery, kind) in [
        (1100, 1300, Kind::Float),
        (70, 1100, Kind::Double),
        (5, 40, Kind::Float),
        (2, 1, Kind::Float),
        (0, 3, Kind::Float),
    ] {
        let x = (matrix(41, queries + gallery, 4) * 3.).round() + matrix(42, queries + gallery, 4) * 0.1;
        let x = x.to_kind(kind);
        if gallery > 20 {
            let _ = x.get(queries as i64 + 17).get(1).fill_(f64::NAN);
        }
        let (q, g) = (x.narrow(0, 0, queries as i64), x.narrow(0, queries as i64, gallery as i64));
        let who = |i: usize| Identity { person: (i * i % 97) as i64 - 1, camera: (i % 3) as i64 };
        let (askers, shelf): (Vec<_>, Vec<_>) = ((3..queries + 3).map(who).collect(), (0..gallery).map(who).collect());
        let Reciprocal { k1, k2, lambda } = Reciprocal::AUTHORS;
        let dist = retrieval::rerank(&q, &g, k1, k2, lambda);
        let one = retrieval::evaluate_distances(&dist, &askers, &shelf, Exclude::SameCamera, Ap::Step);
        let of = QueryGallery::new(&q, &g, &askers, &shelf);
        let all = retrieval::evaluate_reranked(of, Reciprocal::AUTHORS, Ap::Step, world);
        let all = all.expect("the others' rows");
        assert_eq!(all.answers, one.answers, "{queries} queries");
        assert!(queries < 70 || one.answers.iter().flatten().count() > 50);
        let counts = |r: &retrieval::Retrieval| (r.skipped, r.non_finite, r.gallery, r.junk, r.distractors);
        assert_eq!(counts(&all), counts(&one));
    }
}

/// The mean of each channel.
#[derive(Debug)]
struct Means;

impl Network for Means {
    fn forward(&self, images: &Tensor, _train: bool) -> Tensor {
        images.mean_dim(&[2i64, 3][..], false, Kind::Float)
    }

    fn width(&self) -> i64 {
        3
    }
}

pub fn embedded_by_all(world: &World) {
    let set = People { train: 3, test: 1, distractors: 0, cameras: 2, shots: 2, ..People::default() }.set();
    let size = (32, 16);
    let embedding = |world: World, held: usize| Embedding { workers: 1, world, held, ..images(size, 1) };
    // Memory that holds none has as many photos on their way as there are processes: the last part has fewer.
    let photos = &set.train[..2 * world.size() + 1];
    let one = embedding(World::alone(), usize::MAX).photos(&Means, photos, "embed").expect("embeds");
    assert!(one.std(false).double_value(&[]) > 0.);
    for held in [0, usize::MAX] {
        let x = embedding(world.clone(), held).photos(&Means, photos, "embed").expect("embeds");
        all_close(&x, &one, 0.);
        // One file, which has no name any more, is mapped by all.
        let maps = std::fs::read_to_string("/proc/self/maps").expect("a Linux machine");
        let files = maps.lines().filter(|line| line.contains("/rankle-") && line.ends_with("(deleted)"));
        let numbers = files.filter_map(|line| line.split_whitespace().nth(4)?.parse().ok()).collect::<Vec<f64>>();
        assert_eq!(numbers.len(), usize::from(held == 0), "{maps}");
        let all = world.gather_lists(&numbers).expect("the others' files");
        assert!(all.iter().all(|other| *other == numbers), "{all:?}");
    }
    // Pairs are compared in the same batches, whoever has them.
    let (_vs, net) = small(Compares::Pair(Regroup::Channels), size, 2);
    let list = (0..70).map(|i| (i % 7, (3 * i + 1) % 7)).collect::<Vec<_>>();
    let pairs = |world: World, list: &[(usize, usize)]| {
        let images = Embedding { batch: 4, ..embedding(world, usize::MAX) };
        let comparison = Comparison { images, by: Dissimilarity::Softmax, order: Order::Both };
        comparison.pairs(&net, photos, list).expect("compares")
    };
    for few in [&list[..], &list[..2], &list[..0]] {
        all_close(&pairs(world.clone(), few), &pairs(World::alone(), few), 0.);
    }
}

pub fn faces_judged_by_all(world: &World) {
    let gone = "the others' rows";
    // Two blocks and a part; people of four faces each, near one another.
    let people: Vec<i64> = (0..2500).map(|row| row / 4).collect();
    let centres = matrix(51, 625, 6).index_select(0, &Tensor::from_slice(&people));
    let x = rankle::distance::normalize(&(centres + matrix(52, 2500, 6) * 0.2)).to_kind(Kind::Float);
    let counts = |of: &AllPairs| (of.pairs(), of.roc());
    assert_eq!(counts(&AllPairs::shared(&x, &people, world).expect(gone)), counts(&AllPairs::new(&x, &people)));
    let Ok(one) = val_over_splits(&x, &people, 5, 1e-3, &Alone);
    assert!(one.is_some());
    assert_eq!(val_over_splits(&x, &people, 5, 1e-3, world).expect(gone), one);
    let (gallery, metric) = (x.narrow(0, 0, 1200), Metric::SquaredEuclidean);
    let Ok(known) = nearest(&gallery, &people[..1200], &x, &[3, 1], metric, &Alone);
    assert_eq!(nearest(&gallery, &people[..1200], &x, &[3, 1], metric, world).expect(gone), known);
    for rows in [1100, 2, 0] {
        let x = x.narrow(0, 0, rows);
        let of = average_linkage(&x, 0.02, || ());
        assert!(rows < 9 || (9..1100).contains(of.iter().max().expect("clusters")));
        assert_eq!(average_linkage_shared(&x, 0.02, world, || ()).expect(gone), of);
        for joined in [0, usize::MAX] {
            assert_eq!(linked(&x, 0.02, joined, world).expect(gone), of);
        }
    }
    for (x, k) in [(&x, 40), (&x.narrow(0, 0, 3), 3)] {
        let Ok(of) = k_means(x, k, 7, 5, &Alone);
        assert_eq!(k_means(x, k, 7, 5, world).expect(gone), of);
    }
}
