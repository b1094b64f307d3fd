//! Sums, gathers, gradients, batch statistics and retrieval: N processes against one, in the library.
//!
//! A test starts this test binary again, once a process; a job compares, and panics where something is off.

use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use rankle::collectives::{Gradients, PATIENCE, World};
use rankle::datasets::drawn::People;
use rankle::distance::Metric;
use rankle::losses::embedded::Loss;
use rankle::losses::{Margin, Tally, triplet};
use rankle::mining::{Negative, Pick};
use rankle::models::layers::{Init, Scope, synchronise_batch_norm};
use rankle::optim::{Optimizer, Rule};
use rankle::report::Report;
use rankle::run::cached::{self, Chunks};
use rankle::tasks::pairs;
use rankle::tasks::reid::{ByRows, Compared, Draws};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::evaluation::{embedded_by_all, faces_judged_by_all, reranked_by_all, retrieval_in_parts};
use super::launch::Processes;
use crate::common::{Ended, Once, all_close, gradient, has, matrix, numbers, value, within};
use crate::losses::of_matrix;

const JOB: &str = "RANKLE_TEST_JOB";

/// `size` processes of this test binary, which do `fails` or all that is theirs.
fn start(size: usize, job: &str) -> Processes {
    let this = std::env::current_exe().expect("this test binary");
    let program = |_| {
        let mut command = Command::new(&this);
        command
            .args(["--exact", "collectives::numbers::a_process", "--nocapture", "--test-threads", "1"])
            .env(JOB, job)
            .env("RANKLE_JOIN_ALONE", "1");
        command
    };
    Processes::start(size, program)
}

type Job = (&'static str, &'static [usize], fn(&World));

/// What is compared, and by how many processes.
const JOBS: [Job; 9] = [
    ("numbers", &[1, 2, 3], collectives), // 1: of one that joined
    ("gradients", &[1, 2, 3, 4], gradients),
    ("cached", &[2, 3], cached_gradients),
    ("retrieval", &[2, 4], retrieval_in_parts),
    ("reranking", &[2, 3], reranked_by_all),
    ("faces", &[2, 3], faces_judged_by_all),
    ("compared", &[2, 3], compared_by_all),
    ("embedding", &[3], embedded_by_all),
    // The last: it leaves all batch normalisation of its process synchronised.
    ("batch norm", &[3], batch_norm),
];

/// Fails unless `job` came to its good end by each of its numbers of processes. They start once, whoever asks, and do all
/// that so many of them have to do.
pub(super) fn together(job: &str) {
    static SAID: Once<String> = Once::new();
    let (_, sizes, _) = JOBS.iter().find(|(name, ..)| *name == job).expect("a job");
    for size in *sizes {
        let said = SAID.of(&size.to_string(), || start(*size, "all").good());
        assert!(said.contains(&format!("done: {job}\n")) && said.contains("1 passed"), "{job} did not run: {said}");
    }
}

/// What one of the processes does; nothing in a plain run of the tests.
#[test]
fn a_process() {
    let Ok(job) = std::env::var(JOB) else { return };
    let patience = if job == "fails" { Duration::from_secs(4) } else { PATIENCE };
    let world = World::join(Device::Cpu, patience).expect("the others");
    assert!(!world.is_alone());
    if job == "fails" {
        fails_beside_one_that_stands_still(&world);
    }
    for (name, _, work) in JOBS.iter().filter(|(_, sizes, _)| sizes.contains(&world.size())) {
        work(&world);
        println!("done: {name}");
    }
    rankle::collectives::finish();
}

#[test]
fn sums_gathers_and_words_of_all_processes() {
    together("numbers");
}

#[test]
fn gradients_of_all_processes_are_those_of_one() {
    together("gradients");
}

#[test]
fn cached_gradients_of_all_processes_are_those_of_one() {
    together("cached");
}

#[test]
fn synchronised_batch_norm_is_that_of_the_whole_batch() {
    together("batch norm");
}

#[test]
fn queries_compared_by_all_are_scored_and_shown_as_by_one() {
    together("compared");
}

/// Its own reason is said though the meeting place, in a process that stands still, answers nobody.
#[test]
fn a_process_that_fails_says_why_though_the_meeting_place_hangs() {
    let mut two = start(2, "fails");
    let ended = within(20, || two.children[1].try_wait().expect("waits").is_some());
    two.children[0].kill().expect("ends");
    let Ended { code, err: said, .. } = two.end().remove(1);
    assert!(ended && code == Some(1), "{said}");
    has(&said, "error: |the disk is full");
}

fn fails_beside_one_that_stands_still(world: &World) {
    world.barrier().expect("both");
    if world.leads() {
        // SAFETY: this process stops itself, until the test ends it.
        unsafe { libc::raise(libc::SIGSTOP) };
    }
    std::thread::sleep(Duration::from_secs(1));
    rankle::collectives::fall("the disk is full");
}

/// Row i of process r is 10 r + i in the first column.
fn collectives(world: &World) {
    let (rank, size) = (world.rank(), world.size());
    // Uneven shares of whole units.
    let shares = world.shares(4 * size + 3, 4).expect("a share each");
    let bounds: Vec<_> = shares.of().collect();
    assert_eq!(bounds[0].start, 0);
    assert_eq!(bounds[size - 1].end, 4 * size + 3);
    assert!(bounds.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].end % 4 == 0));
    let all = matrix(3, 4 * size + 3, 5);
    let own = shares.own();
    let x = all.narrow(0, own.start as i64, own.len() as i64).copy().set_requires_grad(true);
    let gathered = world.gather(&x, &shares).expect("the others' rows");
    all_close(&gathered, &all, 0.);
    // The graph leads through this process's rows.
    let weights = matrix(4, 4 * size + 3, 5);
    (&gathered * &weights).sum(Kind::Double).backward();
    all_close(&x.grad(), &weights.narrow(0, own.start as i64, own.len() as i64), 0.);

    // Three parts of a batch of quadruplets, of each this process's share.
    let shares = world.shares(2 * size + 1, 1).expect("a share each");
    let (m, own) = (2 * size as i64 + 1, shares.own());
    let all = matrix(6, 3 * m as usize, 2);
    let part = |part: i64| all.narrow(0, part * m + own.start as i64, own.len() as i64);
    let mine = Tensor::cat(&[part(0), part(1), part(2)], 0);
    all_close(&pairs::gather_parts(world, &mine, 3, &shares).expect("the others' rows"), &all, 0.);

    let lists = world.gather_lists(&vec![rank as f64; rank]).expect("lists");
    assert_eq!(lists, (0..size).map(|rank| vec![rank as f64; rank]).collect::<Vec<_>>());

    let mine = Tensor::from_slice(&[1., rank as f64]);
    let total = (size * (size - 1) / 2) as f64;
    all_close(&world.sum(&mine).expect("a sum"), &Tensor::from_slice(&[size as f64, total]), 0.);
    all_close(&mine, &Tensor::from_slice(&[1., rank as f64]), 0.);

    // Of Σ_r w_r · S, where S is the sum of all x, each process computes its own term: dS has Σ w from all.
    let leaf = Tensor::from_slice(&[2., 3.]).set_requires_grad(true);
    let weight = (rank + 1) as f64;
    (world.sum_with_grad(&leaf).expect("a sum") * weight).sum(Kind::Double).backward();
    let weights = (size * (size + 1) / 2) as f64;
    all_close(&leaf.grad(), &Tensor::from_slice(&[weights, weights]), 0.);

    let word: (String, Vec<i64>) = world.told(&(format!("from {rank}"), vec![rank as i64; 3])).expect("a word");
    assert_eq!(word, ("from 0".to_string(), vec![0; 3]));
    let own = if rank == 0 {
        vec![
            ("a".to_string(), matrix(5, 3, 2)),
            ("b".to_string(), Tensor::from_slice(&[1_i64 << 40])),
            ("empty".to_string(), Tensor::zeros([0, 2], (Kind::Float, Device::Cpu))),
        ]
    } else {
        Vec::new()
    };
    let told = world.told_tensors(own).expect("tensors");
    assert_eq!(told.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b", "empty"]);
    all_close(&told[0].1, &matrix(5, 3, 2), 0.);
    assert_eq!((told[1].1.int64_value(&[0]), told[2].1.size()), (1 << 40, vec![0, 2]));

    world.agree("a number", &7).expect("the same everywhere");
    if size > 1 {
        let differs = world.agree("--flag: say the same", &(rank == 1)).expect_err("process 1 says another");
        assert!(differs.to_string().starts_with("--flag: say the same: not the same"), "{differs}");
        assert!(world.shares(size - 1, 1).is_err(), "a process without rows");
    }

    let store = VarStore::new(Device::Cpu);
    let _ = Scope::root(&store, rank as u64).linear("last", 3, 2, Init::HeNormal, true);
    world.share_variables(&store).expect("the first process's");
    let first = VarStore::new(Device::Cpu);
    let _ = Scope::root(&first, 0).linear("last", 3, 2, Init::HeNormal, true);
    all_close(&store.variables()["last.weight"], &first.variables()["last.weight"], 0.);

    world.barrier().expect("all");
}

/// Two layers without batch statistics, 6 numbers to 4.
fn network(store: &VarStore) -> impl Fn(&Tensor) -> Tensor + use<> {
    let at = Scope::root(store, 11);
    let first = at.linear("first", 6, 16, Init::HeNormal, true);
    let last = at.linear("last", 16, 4, Init::HeNormal, true);
    move |x: &Tensor| last.forward(&first.forward(x).relu())
}

fn inputs(rows: usize) -> Tensor {
    matrix(21, rows, 6).to_kind(Kind::Float)
}

const LOSSES: [Loss; 7] = [
    Loss::BatchHard(Margin::Soft),
    Loss::BatchAll(Margin::Hard(0.3)),
    Loss::BatchAll(Margin::Soft),
    Loss::EveryPair(0.5, Negative::SemiHard(Pick::Nearest)),
    Loss::EveryPair(0.5, Negative::SemiHard(Pick::Random(6))),
    Loss::EveryPair(0.5, Negative::Violating(6)),
    Loss::Lifted(1.),
];

/// Parameters of one process by name, after each has taken the same three steps.
fn gradients(world: &World) {
    let (rows, k) = (27, 3);
    let labels = Tensor::from_slice(&(0..rows as i64).map(|row| row / k).collect::<Vec<_>>());
    let shares = world.shares(rows, k as usize).expect("a share each");
    let own = shares.own();
    for (loss, unused) in LOSSES.into_iter().flat_map(|of| [(of, false), (of, true)]) {
        let (alone, apart) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
        let (whole, part) = (network(&alone), network(&apart));
        // A parameter that the loss does not touch is nothing to wait for.
        let _unused = unused.then(|| Scope::root(&apart, 1).linear("unused", 2, 2, Init::HeNormal, true));
        let mut optimizers = [&alone, &apart].map(|store| Optimizer::new(Rule::Sgd { momentum: 0.9 }, 1e-4, store));
        let together = Gradients::new(world, &apart);
        for step in 0..3 {
            let x = inputs(rows) * (1. + 0.1 * f64::from(step));
            optimizers.iter_mut().for_each(Optimizer::zero_grad);
            let x_whole = whole(&x);
            let theirs = of_matrix(loss, &Metric::Euclidean.matrix(&x_whole, &x_whole), &labels);
            let expected = theirs.mean();
            expected.backward();
            let mine = part(&x.narrow(0, own.start as i64, own.len() as i64));
            let x = world.gather(&mine, &shares).expect("the others' rows");
            let tally = world.tally(loss, &x, &labels, Metric::Euclidean).expect("the others' shares");
            let counts = |of: &Tally| (of.terms.int64_value(&[]), of.active.int64_value(&[]));
            assert_eq!(counts(&tally), counts(&theirs), "{loss:?}, step {step}");
            let found = tally.mean();
            together.backward(&found).expect("a backward pass");
            assert!((value(&expected) - value(&found)).abs() < 1e-5, "{loss:?}, step {step}");
            for (variable, theirs) in alone.variables() {
                let ours = apart.variables()[&variable].grad();
                assert!(value(&theirs.grad().abs().max()) > 0., "{loss:?}: {variable} has no gradient");
                all_close(&ours, &theirs.grad(), 1e-5);
            }
            optimizers.iter_mut().for_each(|optimizer| optimizer.step(0.05, 0.9));
        }
        for (variable, theirs) in alone.variables() {
            all_close(&apart.variables()[&variable], &theirs, 1e-5);
        }
    }
}

fn cached_gradients(world: &World) {
    let rows = 22;
    let labels = Tensor::from_slice(&(0..rows as i64).map(|row| row / 4).collect::<Vec<_>>());
    let shares = world.shares(rows, 1).expect("a share each");
    let own = shares.own();
    let form = Loss::EveryPair(0.5, Negative::SemiHard(Pick::Random(3)));
    let of = |x: &Tensor, world: &World| {
        world.tally(form, x, &labels, Metric::SquaredEuclidean).expect("the others' shares").mean()
    };
    let (alone, apart) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    let (whole, part) = (network(&alone), network(&apart));
    of(&whole(&inputs(rows)), &World::alone()).backward();
    let together = Gradients::new(world, &apart);
    let (count, size) = (3, own.len().div_ceil(3));
    let mut place = 0;
    let next = || {
        let from = place % count * size;
        place += 1;
        let rows = size.min(own.len() - from);
        Ok(Some(inputs(22).narrow(0, (own.start + from) as i64, rows as i64)))
    };
    let cut = Chunks { count, seed: 1, batch: (22, own.start as i64..own.end as i64), buffers: &[] };
    let loss = |x: &Tensor| -> anyhow::Result<_> { Ok((of(&world.gather(x, &shares)?, world), ())) };
    cached::backward(&cut, next, part, &together, loss).expect("a gradient");
    for (variable, theirs) in alone.variables() {
        all_close(&apart.variables()[&variable].grad(), &theirs.grad(), 1e-5);
    }
}

/// Uneven shares of images through convolution, batch normalisation and a loss over all.
fn batch_norm(world: &World) {
    let images = Tensor::from_slice(&numbers(31, 10 * 3 * 4 * 4)).view([10, 3, 4, 4]).to_kind(Kind::Float) + 5.;
    let make = |store: &VarStore| {
        let at = Scope::root(store, 5);
        let (conv, bn) = (at.conv("conv", 3, 4, 3, 1, 1), at.batch_norm("bn", 4));
        move |x: &Tensor| bn.forward(&conv.forward(x, true), true).relu().flatten(1, -1)
    };
    let labels = Tensor::from_slice(&[0_i64, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    let of = |x: &Tensor| triplet::batch_hard(&Metric::Euclidean.matrix(x, x), &labels, Margin::Soft).mean();
    let (alone, apart) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    let (whole, part) = (make(&alone), make(&apart));
    let expected = of(&whole(&images));
    expected.backward();

    let other = world.clone();
    synchronise_batch_norm(move |x| other.sum_with_grad(x).expect("the others' sums"));
    let together = Gradients::new(world, &apart);
    let shares = world.shares(10, 1).expect("a share each");
    let own = shares.own();
    let mine = part(&images.narrow(0, own.start as i64, own.len() as i64));
    let found = of(&world.gather(&mine, &shares).expect("the others' rows"));
    together.backward(&found).expect("a backward pass");
    assert!((value(&expected) - value(&found)).abs() < 1e-5);
    for (variable, theirs) in alone.variables() {
        let ours = &apart.variables()[&variable];
        all_close(ours, &theirs, 1e-5); // running statistics
        if theirs.requires_grad() {
            all_close(&ours.grad(), &theirs.grad(), 1e-5);
        }
    }
    // Its gradient with respect to the input is autograd's of the plain one.
    let one = World::alone();
    let twice =
        gradient(&Tensor::from_slice(&[1., 2.]), |x| one.sum_with_grad(x).expect("itself").square().sum(Kind::Double));
    all_close(&twice, &Tensor::from_slice(&[2., 4.]), 0.);
}

/// Distances of which every process asks for some queries' alone, a few at a time.
struct Few {
    of: Tensor,
    asked: usize,
}

impl ByRows for Few {
    fn sizes(&self) -> (usize, usize) {
        (2, 4)
    }

    fn rows(&mut self, blocks: &[Range<usize>]) -> anyhow::Result<Tensor> {
        let rows: usize = blocks.iter().map(ExactSizeIterator::len).sum();
        assert!(rows <= 4 && blocks.iter().all(|block| block.start % 2 == 0), "{blocks:?}");
        self.asked += rows;
        self.of.rows(blocks)
    }
}

fn compared_by_all(world: &World) {
    let of = |test| People { train: 1, test, distractors: 2, cameras: 3, shots: 2, ..People::default() }.set();
    // Uneven shares, and fewer blocks than processes.
    for (test, draws) in [(5, Draws::Random(7)), (5, Draws::First), (1, Draws::Random(2))] {
        let set = of(test);
        let queries = set.query.len();
        let x = (matrix(71, queries, set.gallery.len()) * 3.).round().to_kind(Kind::Float);
        let _ = x.get(0).get(1).fill_(f64::NAN);
        let one = Compared::of(&set, &mut x.copy(), draws, 3, &World::alone()).expect("scored");
        let mut few = Few { of: x, asked: 0 };
        let all = Compared::of(&set, &mut few, draws, 3, world).expect("the others' queries");
        let said = |of: &Compared<'_>| {
            let mut report = Report::new("", "");
            of.show(&mut report, |x| x + 1.).expect("drawn photos");
            (format!("{:?}", of.scores()), of.protocol(), of.whole.to_string(), report.html())
        };
        assert!(said(&all) == said(&one), "{test} people, {draws}: {:?} {:?}", all.scores(), one.scores());
        let asked = world.sum(&Tensor::from_slice(&[few.asked as i64])).expect("a sum").int64_value(&[0]);
        assert_eq!(asked as usize, queries, "each query by one process");
    }
}
