//! Cached gradients equal those of one pass over the whole batch.

use rankle::collectives::{Gradients, World};
use rankle::distance::{Metric, normalize};
use rankle::losses::triplet;
use rankle::mining::Pick;
use rankle::models::layers::{Init, Scope};
use rankle::models::{FaceSmall, Network, dropout, dropping};
use rankle::run::cached::{Chunks, backward, backward_apart};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::common::{all_close, matrix, value};

/// libtorch's generator is one for the process: tests that seed it take turns.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn gradients(store: &VarStore) -> Vec<(String, Tensor)> {
    let mut all: Vec<_> =
        store.variables().into_iter().filter(|(_, x)| x.requires_grad()).map(|(n, x)| (n, x.grad().copy())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn clear(store: &VarStore) {
    store.trainable_variables().iter_mut().for_each(Tensor::zero_grad);
}

fn images(count: i64, side: i64) -> Tensor {
    matrix(4, count as usize, (3 * side * side) as usize).view([count, 3, side, side]).to_kind(Kind::Float)
}

/// FaceNet's loss of the rows `x`.
fn loss(x: &Tensor, labels: &Tensor) -> anyhow::Result<(Tensor, (Tensor, i64))> {
    let d = Metric::SquaredEuclidean.matrix(x, x);
    let tally = triplet::semi_hard(&d, labels, 0.2, Pick::Nearest);
    Ok((tally.mean(), (x.detach(), tally.terms.int64_value(&[]))))
}

fn alone(store: &VarStore) -> Gradients {
    Gradients::new(&World::alone(), store)
}

#[test]
fn any_cut_gives_the_one_pass_gradient() {
    let _turn = TURN.lock();
    let store = VarStore::new(Device::Cpu);
    let at = Scope::root(&store, 3);
    let (conv, linear) =
        (at.conv("conv", 3, 8, 3, 2, 1), at.linear("linear", 8 * 8 * 8, 16, Init::GlorotUniform { gain: 1. }, true));
    let forward = |x: &Tensor| normalize(&linear.forward(&conv.forward(x, true).relu().flatten(1, -1)));
    let (all, labels) = (images(45, 16), Tensor::from_slice(&(0..45).map(|i| i / 5).collect::<Vec<i64>>()));
    let run = |size: usize| {
        clear(&store);
        let count = 45_usize.div_ceil(size);
        let cut = Chunks { count, seed: 1, batch: (45, 0..45), buffers: &[] };
        let mut place = 0;
        let next = || {
            let from = (place % count) * size;
            place += 1;
            Ok(Some(all.narrow(0, from as i64, size.min(45 - from) as i64)))
        };
        let (x, terms) = backward(&cut, next, forward, &alone(&store), |x| loss(x, &labels)).expect("a gradient");
        assert_eq!(place, if count == 1 { 1 } else { 2 * count });
        assert!(!x.requires_grad());
        (x, terms, gradients(&store))
    };
    let (x, terms, whole) = run(45);
    assert!(terms > 20, "{terms} triplets");
    assert!(whole.iter().all(|(_, g)| value(&g.abs().max()) > 1e-6), "a gradient of nothing proves nothing");
    for size in [1, 7, 15, 44] {
        let (y, same_terms, cut) = run(size);
        all_close(&y, &x, 1e-6);
        assert_eq!(same_terms, terms);
        for ((name, ours), (_, theirs)) in cut.iter().zip(&whole) {
            let worst = value(&((ours - theirs).abs().max() / theirs.abs().max()));
            assert!(worst < 1e-5, "chunks of {size}: {name} differs by {worst} of its largest entry");
        }
    }
}

#[test]
fn dropout_draws_the_same_in_both_passes() {
    let _turn = TURN.lock();
    let store = VarStore::new(Device::Cpu);
    let at = Scope::root(&store, 3);
    let linear = at.linear("linear", 48, 16, Init::GlorotUniform { gain: 1. }, true);
    let forward = |x: &Tensor| normalize(&dropout(&linear.forward(&x.flatten(1, -1)), 0.5, true));
    let (all, labels) = (images(20, 4), Tensor::from_slice(&(0..20).map(|i| i / 4).collect::<Vec<i64>>()));
    let seen = std::cell::RefCell::new(Vec::new());
    let watched = |x: &Tensor| {
        let y = forward(x);
        seen.borrow_mut().push(y.detach().copy());
        y
    };
    let mut place = 0;
    let next = || {
        place += 1;
        Ok(Some(all.narrow(0, ((place - 1) % 2) * 10, 10)))
    };
    let cut = Chunks { count: 2, seed: 77, batch: (20, 0..20), buffers: &[] };
    let _ = backward(&cut, next, watched, &alone(&store), |x| loss(x, &labels)).expect("a gradient");
    let seen = seen.into_inner();
    assert_eq!(seen.len(), 4);
    all_close(&seen[0], &seen[2], 0.);
    all_close(&seen[1], &seen[3], 0.);
    // And what a batch in one piece has there.
    let whole = dropping(77, 20, &[0..10, 10..20], || forward(&all));
    all_close(&Tensor::cat(&seen[..2], 0), &whole, 1e-6);
}

#[test]
fn running_statistics_count_a_batch_once_and_empty_chunks_pass() {
    let _turn = TURN.lock();
    let make = || {
        let store = VarStore::new(Device::Cpu);
        let net = FaceSmall::new(&Scope::root(&store, 5), 16, 8, 8).expect("fits");
        (store, net)
    };
    let (all, labels) = (images(12, 16), Tensor::from_slice(&(0..12).map(|i| i / 3).collect::<Vec<i64>>()));
    let (store, net) = make();
    let buffers: Vec<Tensor> = store.variables().into_values().filter(|x| !x.requires_grad()).collect();
    assert_eq!(buffers.len(), 10);
    let mut place = 0;
    let next = || {
        place += 1;
        let chunk = (place - 1) % 3;
        Ok((chunk < 2).then(|| all.narrow(0, chunk * 6, 6)))
    };
    let cut = Chunks { count: 3, seed: 1, batch: (12, 0..12), buffers: &buffers };
    let _ = backward(&cut, next, |x| net.forward(x, true), &alone(&store), |x| loss(x, &labels)).expect("a gradient");
    // By hand: each chunk once.
    let (theirs, other) = make();
    let _ = tch::no_grad(|| [0, 6].map(|from| other.forward(&all.narrow(0, from, 6), true)));
    for (name, x) in theirs.variables() {
        all_close(&store.variables()[&name], &x, 1e-7);
    }
    assert!(gradients(&store).iter().all(|(_, g)| g.defined()));
}

#[test]
fn rows_with_terms_of_their_own_pass_once_and_give_the_one_pass_gradient() {
    let _turn = TURN.lock();
    let store = VarStore::new(Device::Cpu);
    let at = Scope::root(&store, 3);
    let linear = at.linear("linear", 48, 1, Init::GlorotUniform { gain: 1. }, true);
    let (all, world) = (images(45, 4), World::alone());
    let target = Tensor::from_slice(&(0..45).map(|i| f64::from(i % 7)).collect::<Vec<_>>()).to_kind(Kind::Float);
    let run = |most: usize, share: f64| {
        clear(&store);
        let passed = std::cell::Cell::new(0);
        let forward = |rows: &std::ops::Range<usize>| {
            passed.set(passed.get() + rows.len());
            let x = all.narrow(0, rows.start as i64, rows.len() as i64).flatten(1, -1);
            let part = rows.start as i64..rows.end as i64;
            dropping(9, 45, &[part], || linear.forward(&dropout(&x, share, true)).squeeze_dim(1))
        };
        let loss = |f: &Tensor, rows: &std::ops::Range<usize>| {
            (f - target.narrow(0, rows.start as i64, rows.len() as i64)).square().sum(Kind::Float) / 45.
        };
        let chunks = world.shares(45, 1).expect("shares").passes(most).expect("alone");
        assert!(
            chunks.len() == 45_usize.div_ceil(most) && chunks.iter().all(|chunk| (1..=most).contains(&chunk.len()))
        );
        let f = backward_apart(&chunks, forward, &alone(&store), loss).expect("a gradient");
        assert!(passed.get() == 45 && !f.requires_grad());
        (f, gradients(&store))
    };
    let (f, whole) = run(45, 0.);
    for most in [1, 7, 44] {
        let (g, cut) = run(most, 0.);
        all_close(&g, &f, 1e-6);
        for ((name, ours), (_, theirs)) in cut.iter().zip(&whole) {
            let worst = value(&((ours - theirs).abs().max() / theirs.abs().max()));
            assert!(worst < 1e-5, "chunks of {most}: {name} differs by {worst} of its largest entry");
        }
    }
    // Dropout is a function of the seed and the row, whatever the chunks.
    all_close(&run(15, 0.5).0, &run(45, 0.5).0, 1e-6);
}
