//! 1704.01719: photos compared two by two, and the pairs that are compared.

use rankle::collectives::World;
use rankle::datasets::drawn::People;
use rankle::datasets::{Photo, Reader};
use rankle::losses::quadruplet::{self, Dissimilarity};
use rankle::models::layers::Scope;
use rankle::models::quadruplet::{Backbone, Compares, QuadrupletNet, Regroup, Start};
use rankle::tasks::embed::{Embedding, HELD};
use rankle::tasks::pairs::{self, Comparison, Distances, Order};
use rankle::transform::{Recipe, TestViews};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::common::{all_close, close, ints, value};

/// How one process embeds photos of that size, `batch` at once.
pub fn images((height, width): (u32, u32), batch: usize) -> Embedding {
    Embedding {
        recipe: Recipe::imagenet(height, width),
        views: TestViews::Original,
        device: Device::Cpu,
        batch,
        workers: 2,
        amp: false,
        world: World::alone(),
        skip_unreadable: false,
        held: HELD,
    }
}

/// The small network for them.
pub fn small(compares: Compares, (height, width): (u32, u32), outputs: i64) -> (VarStore, QuadrupletNet) {
    let (vs, size) = (VarStore::new(Device::Cpu), (height.into(), width.into()));
    let net = QuadrupletNet::new(&Scope::root(&vs, 3), Backbone::Small, compares, size, outputs, 0., Start::He);
    (vs, net.expect("fits"))
}

#[test]
fn a_matrix_of_pairs_is_its_pairs_one_by_one() {
    let people = People { train: 3, test: 3, distractors: 0, cameras: 2, shots: 2, ..People::default() };
    let set = people.set();
    let (vs, net) = small(Compares::Pair(Regroup::Channels), (64, 32), 2);
    crate::export::used(&vs);
    let of = |by: Dissimilarity, batch: usize, order: Order| Comparison { images: images((64, 32), batch), by, order };
    let (soft, unbounded) = (Dissimilarity::Softmax, Dissimilarity::Unbounded);
    let (q, g) = (&set.query[..3], &set.gallery[..5]);
    let one = of(soft, 4, Order::One).matrix(&net, q, g).expect("compares");
    assert_eq!(one.size(), [3, 5]);
    let pixels = |photo: &Photo| {
        let recipe = Recipe::imagenet(64, 32);
        let mut pixels = vec![0_f32; recipe.len()];
        recipe.test(&photo.source.image().expect("drawn"), TestViews::Original, &mut pixels);
        Tensor::from_slice(&pixels).view([1, 3, 64, 32])
    };
    let input = |photo: &Photo| net.maps(&pixels(photo), false);
    let direct = |a: &Photo, b: &Photo| value(&quadruplet::logit_gap(&net.pair(&input(a), &input(b), false)));
    for (i, a) in q.iter().enumerate() {
        for (j, b) in g.iter().enumerate() {
            close(one.double_value(&[i as i64, j as i64]), direct(a, b), 1e-4);
        }
    }
    // Both orders: the logits' mean, and symmetric.
    let both = of(soft, 4, Order::Both).matrix(&net, q, q).expect("compares");
    close(both.double_value(&[0, 2]), (direct(&q[0], &q[2]) + direct(&q[2], &q[0])) / 2., 1e-4);
    close(both.double_value(&[2, 0]), both.double_value(&[0, 2]), 1e-5);
    // Eight passes: the mirror images too.
    let eight = of(soft, 4, Order::Eight).matrix(&net, q, q).expect("compares");
    let views = |photo: &Photo| [pixels(photo), pixels(photo).flip([3])].map(|x| net.maps(&x, false));
    let pass = |a: &Tensor, b: &Tensor| value(&quadruplet::logit_gap(&net.pair(a, b, false)));
    let (a, b) = (views(&q[0]), views(&q[2]));
    let passes = a.iter().flat_map(|a| b.iter().map(move |b| pass(a, b) + pass(b, a)));
    close(eight.double_value(&[0, 2]), passes.sum::<f64>() / 8., 1e-4);
    // A g without bound may change its sign with the order: its lengths are averaged, which do not cancel.
    let lengths = of(unbounded, 4, Order::Both).matrix(&net, q, q).expect("compares");
    let first = |a: &Photo, b: &Photo| value(&net.pair(&input(a), &input(b), false).get(0).get(0)).abs();
    for (i, j) in [(0, 2), (1, 2)] {
        close(lengths.double_value(&[i as i64, j as i64]), (first(&q[i], &q[j]) + first(&q[j], &q[i])) / 2., 1e-4);
    }
    let listed = of(unbounded, 4, Order::Both).pairs(&net, &set.query, &[(0, 2), (1, 2)]).expect("compares");
    close(listed.double_value(&[0]), lengths.double_value(&[0, 2]), 1e-4);
    // Listed pairs, and whatever the batch.
    let photos: Vec<Photo> = q.iter().chain(g).cloned().collect();
    let list: Vec<(usize, usize)> = (0..3).flat_map(|i| (0..5).map(move |j| (i, 3 + j))).collect();
    for batch in [1, 4, 100] {
        let listed = of(soft, batch, Order::One).pairs(&net, &photos, &list).expect("compares");
        all_close(&listed, &one.view([-1]), 1e-4);
    }
    assert_eq!(of(soft, 4, Order::Both).pairs(&net, &photos, &[]).expect("nothing").size(), [0]);
    // The module that is exported compares images as photos are compared.
    let module = pairs::compared(&net, &pixels(&q[0]), &pixels(&q[2]), soft, Order::Both);
    close(module.double_value(&[0]), both.double_value(&[0, 2]), 1e-4);
}

#[test]
fn a_network_of_single_images_is_compared_by_its_embeddings() {
    let people = People { train: 4, test: 3, distractors: 0, cameras: 2, shots: 2, ..People::default() };
    let set = people.set();
    let (_vs, net) = small(Compares::Image, (64, 32), 16);
    let comparison = Comparison { images: images((64, 32), 4), by: Dissimilarity::Embedding, order: Order::Both };
    let x = comparison.images.photos(&net, &set.query, "embed").expect("embeds");
    // What memory shall not hold lies in a file, which has no name.
    let on_disk = Embedding { held: 0, ..comparison.images.clone() }.photos(&net, &set.query, "embed").expect("embeds");
    all_close(&on_disk, &x, 0.);
    let left = std::fs::read_dir(std::env::temp_dir()).expect("a folder").flatten();
    let own = format!("rankle-{}-", std::process::id());
    assert!(left.into_iter().all(|file| !file.file_name().to_string_lossy().starts_with(&own)));
    let matrix = comparison.matrix(&net, &set.query, &set.query).expect("compares");
    let squared = |i: i64, j: i64| value(&(x.get(i) - x.get(j)).square().sum(Kind::Double));
    close(matrix.double_value(&[0, 2]), squared(0, 2), 1e-5);
    let listed = comparison.pairs(&net, &set.query, &[(0, 2), (1, 0)]).expect("compares");
    close(listed.double_value(&[1]), squared(1, 0), 1e-5);
    // Figure 5's distances are those of the drawn pairs, one person's first.
    let drawn = pairs::drawn(&set.train, 5, true).expect("quadruplets");
    let wanted = comparison.pairs(&net, &set.train, &drawn).expect("compares");
    let reader = Reader::new(set.train.len(), false, |_| anyhow::bail!("not read"));
    let found = comparison.distances(&net, &set.train, &reader, 5, true).expect("compares").expect("quadruplets");
    let all: Vec<f64> = found.same.iter().chain(&found.different).copied().collect();
    all_close(&Tensor::from_slice(&all), &wanted.to_kind(Kind::Double), 1e-12);
    assert!(comparison.distances(&net, &set.train[..1], &reader, 5, true).expect("nothing").is_none());
}

#[test]
fn drawn_pairs_are_of_one_person_then_of_two_and_always_the_same() {
    let set = People { train: 6, test: 1, cameras: 3, shots: 2, ..People::default() }.set();
    let photos = &set.train;
    for across in [true, false] {
        let drawn = pairs::drawn(photos, 40, across).expect("quadruplets");
        assert_eq!((drawn.len(), &drawn), (80, &pairs::drawn(photos, 40, across).expect("quadruplets")));
        for (place, &(a, b)) in drawn.iter().enumerate() {
            assert!(a != b && (photos[a].person == photos[b].person) == (place < 40));
            assert!(!across || photos[a].camera != photos[b].camera);
        }
    }
    assert!(pairs::drawn(&photos[..6], 4, true).is_none(), "one person");
}

#[test]
fn a_batchs_pairs_are_in_random_orders_that_do_not_depend_on_the_processes() {
    let m = 20;
    for (kinds, ends) in [(3, vec![(0, 1), (0, 2), (3, 2)]), (2, vec![(0, 1), (0, 2)])] {
        let of = |own: std::ops::Range<usize>, step: u64| {
            let (left, right) = pairs::random_orders(kinds, m, own, 7, step);
            ints(&left).into_iter().zip(ints(&right)).collect::<Vec<_>>()
        };
        let whole = of(0..m, 3);
        assert_eq!(whole.len(), kinds * m);
        let mut turned = 0;
        for (place, &(left, right)) in whole.iter().enumerate() {
            let ((a, b), row) = (ends[place / m], place % m);
            let there = ((a * m + row) as i64, (b * m + row) as i64);
            assert!((left, right) == there || (right, left) == there);
            turned += usize::from((left, right) != there);
        }
        assert!(turned > 5 && turned < kinds * m - 5, "{turned} of {} are turned", kinds * m);
        assert!(whole == of(0..m, 3) && whole != of(0..m, 4));
        // A share has the same orders, as rows of its own images.
        let own = 5..12;
        let share = of(own.clone(), 3);
        let rows: Vec<usize> = (0..kinds).flat_map(|kind| own.clone().map(move |row| kind * m + row)).collect();
        for (&(left, right), place) in share.iter().zip(rows) {
            let global = |row: i64| row / 7 * m as i64 + row % 7 + own.start as i64;
            assert_eq!((global(left), global(right)), whole[place]);
        }
    }
}

#[test]
fn means_and_spreads_are_named_as_figure_5s() {
    let distances = Distances { same: vec![0., 1.], different: vec![0.5, 0.5, 2.], across: true };
    let scores = distances.scores();
    let names: Vec<&str> = scores.iter().map(|score| score.name.as_str()).collect();
    assert_eq!([names[0], names[2]], Distances::MEANS);
    assert_eq!([names[1], names[3]], Distances::SPREADS);
    for (score, wanted) in scores.iter().zip([0.5, 0.5, 1., 0.5_f64.sqrt()]) {
        close(score.value, wanted, 1e-12);
    }
}

#[test]
fn a_log_line_has_the_means_of_both_kinds_of_pairs() {
    let g = [vec![0.1, 0.9999], vec![0.5, 0.7], vec![1., 0.2]];
    let tensors = g.clone().map(|g| Tensor::from_slice(&g));
    let line = pairs::batch_line(&tensors, Dissimilarity::Softmax);
    let number = |pointer: &str| line.pointer(pointer).and_then(|x| x.as_f64()).expect("a number");
    let mean = |values: &[f64], power: i32| values.iter().map(|x| x.powi(power)).sum::<f64>() / values.len() as f64;
    let negative = [&g[1][..], &g[2]].concat();
    for (name, power) in [("distance", 1), ("square", 2)] {
        close(number(&format!("/{name}/same")), mean(&g[0], power), 1e-12);
        close(number(&format!("/{name}/different")), mean(&negative, power), 1e-12);
    }
    close(number("/saturated"), 2. / 6., 1e-12);
}
