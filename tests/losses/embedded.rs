//! Losses straight from embeddings equal those of the matrix, gradients included.

use rankle::distance::{Metric, normalize};
use rankle::losses::embedded::{self, Loss};
use rankle::losses::{Margin, Tally};
use rankle::mining::{Negative, Pick};
use tch::{Kind, Tensor};

use super::{label_sets, of_matrix};
use crate::common::{all_close, close, gradient, matrix, value};

type Form = Box<dyn Fn(&Tensor, &Tensor, Metric) -> Tally>;

fn losses() -> Vec<Loss> {
    let margins = [Margin::Hard(0.3), Margin::Hard(2.), Margin::Soft].into_iter();
    let rules = [Pick::Nearest, Pick::Random(4)].map(Negative::SemiHard).into_iter();
    let rules = rules.chain([Negative::Violating(4), Negative::Addons, Negative::Hardest]);
    let losses = margins.flat_map(|margin| [Loss::BatchHard(margin), Loss::BatchAll(margin)]);
    losses.chain(rules.map(|rule| Loss::EveryPair(0.6, rule))).chain([Loss::Lifted(0.7)]).collect()
}

/// Each under a name: from the matrix, and from the rows, by the CPU's own routine and as on a GPU.
fn forms(of: impl IntoIterator<Item = Loss>) -> Vec<(String, Form, Form)> {
    let ways = of.into_iter().flat_map(|loss| [(loss, false), (loss, true)]);
    ways.map(|(loss, tensors)| -> (String, Form, Form) {
        let from_rows = move |x: &Tensor, l: &Tensor, metric: Metric| match tensors {
            true => embedded::in_tensors(|| loss.of(x, l, metric)),
            false => loss.of(x, l, metric),
        };
        let from_matrix = move |x: &Tensor, l: &Tensor, metric: Metric| of_matrix(loss, &metric.matrix(x, x), l);
        (format!("{loss:?}, as on a GPU: {tensors}"), Box::new(from_matrix), Box::new(from_rows))
    })
    .collect()
}

/// The losses as sums of the shares of uneven parts of the anchors, as several processes have them; what one puts in the
/// others add to.
fn in_shares(of: Loss, x: &Tensor, labels: &Tensor, metric: Metric) -> Tally {
    let rows = x.size()[0];
    let bounds = [0, rows / 5, rows / 2, rows];
    let share = |part: usize| of.share(x, labels, metric, bounds[part]..bounds[part + 1]);
    let others = [1, 2].map(|part| {
        let seen = std::cell::RefCell::new(Vec::new());
        let kept = share(part).summed(|of| {
            seen.borrow_mut().push(of.copy());
            Ok::<_, ()>(of.copy())
        });
        kept.expect("no error");
        seen.into_inner()
    });
    let at = std::cell::Cell::new(0);
    let summed = share(0).summed(|own| {
        let i = at.replace(at.get() + 1);
        Ok::<_, ()>(own + &others[0][i] + &others[1][i])
    });
    summed.expect("no error").tally()
}

const METRICS: [Metric; 3] = [Metric::Euclidean, Metric::SquaredEuclidean, Metric::Cosine];

#[track_caller]
fn agree(what: &str, x: &Tensor, labels: &Tensor, metric: Metric, slow: &Form, fast: &Form, tolerance: f64) {
    let (theirs, ours) = (slow(x, labels, metric), fast(x, labels, metric));
    let count = |x: &Tensor| x.int64_value(&[]);
    assert_eq!((count(&ours.terms), count(&ours.active)), (count(&theirs.terms), count(&theirs.active)), "{what}");
    assert_eq!(ours.sum.kind(), theirs.sum.kind(), "{what}");
    close(value(&ours.sum), value(&theirs.sum), tolerance);
    if x.numel() > 0 {
        let slope = |loss: &Form| gradient(x, |x| loss(x, labels, metric).mean());
        all_close(&slope(fast), &slope(slow), tolerance);
    }
}

#[test]
fn values_counts_and_gradients_equal_the_matrix_form() {
    for (set, labels) in label_sets() {
        let t = Tensor::from_slice(&labels);
        // 5: far from the origin; a common offset must cost nothing.
        let x = matrix(21, labels.len(), 4) + 5.;
        for (name, slow, fast) in forms(losses()) {
            for metric in METRICS {
                agree(&format!("{name}, {metric:?}, {set}"), &x, &t, metric, &slow, &fast, 1e-9);
            }
        }
    }
}

#[test]
fn hundreds_of_positives() {
    let labels: Vec<i64> = (0..600).map(|i| i64::from(i % 2 == 0 || i > 560)).collect();
    let (x, t) = (normalize(&matrix(22, 600, 5)), Tensor::from_slice(&labels));
    for (name, slow, fast) in forms(losses().into_iter().filter(|loss| *loss != Loss::BatchAll(Margin::Soft))) {
        agree(&name, &x, &t, Metric::SquaredEuclidean, &slow, &fast, 1e-9);
    }
}

#[test]
fn rows_that_fill_vector_registers_and_some_more() {
    // The second has identities of 1, 2, 3 and so on up to 10 rows.
    let sets: [Vec<i64>; 2] =
        [(0..73).map(|i| i * i % 11).collect(), (0..10).flat_map(|i| vec![i; i as usize + 1]).collect()];
    for labels in sets {
        let (x, t) = (matrix(26, labels.len(), 37), Tensor::from_slice(&labels));
        for (name, slow, fast) in forms(losses()) {
            for metric in METRICS {
                agree(&format!("{name}, {metric:?}"), &x, &t, metric, &slow, &fast, 1e-9);
            }
        }
    }
}

/// Rows of several parts, the last one short, on a lattice: sums of whole numbers are exact, and many distances are equal.
/// Each has seven positives. One of them is as far from row 2500 as its farthest negatives, 1500 and 2300.
#[test]
fn of_equals_in_long_rows_the_lowest_is_chosen() {
    let half = (matrix(28, 2_500, 3) * 3.).round();
    for row in [0, 1_500, 2_300] {
        let _ = half.get(row).fill_(3.);
    }
    let x = Tensor::cat(&[half.neg(), half], 0);
    let t = Tensor::from_slice(&(0..5_000).map(|i| i % 625).collect::<Vec<i64>>());
    let nearest = Negative::SemiHard(Pick::Nearest);
    let rules = [nearest, Negative::Addons, Negative::Hardest].map(|rule| Loss::EveryPair(1.5, rule));
    for loss in rules.into_iter().chain([Loss::BatchAll(Margin::Hard(0.3)), Loss::Lifted(0.7)]) {
        let share = move |x: &Tensor, l: &Tensor, metric| loss.share(x, l, metric, 2_497..2_503).tally();
        let slow: Form = Box::new(move |x, l, metric| embedded::in_tensors(|| share(x, l, metric)));
        let fast: Form = Box::new(share);
        for metric in [Metric::Euclidean, Metric::SquaredEuclidean] {
            let what = format!("{loss:?}, {metric:?}");
            agree(&what, &x, &t, metric, &slow, &fast, 1e-9);
            agree(&what, &x.to_kind(Kind::Float), &t, metric, &slow, &fast, 1e-5);
        }
    }
}

/// Where e^d is beyond all numbers, and in single precision e^-d below.
#[test]
fn distances_of_hundreds_neither_overflow_nor_lose_the_gradient() {
    let labels = Tensor::from_slice(&(0..24).map(|i| i / 4).collect::<Vec<i64>>());
    let x = matrix(29, 24, 8) * 500.;
    for (name, slow, fast) in forms(losses()) {
        agree(&name, &x, &labels, Metric::Euclidean, &slow, &fast, 1e-9);
    }
    // The anchors' terms are 500, 500 + ln 2, 500 + ln 2 and 500: the middle ones have two negatives equally near.
    let line = Tensor::from_slice(&[0_f32, 500., 1_000., 1_500.]).view([4, 1]);
    let of = |x: &Tensor| Loss::Lifted(0.).of(x, &Tensor::from_slice(&[0_i64, 1, 0, 1]), Metric::Euclidean).sum();
    close(value(&of(&line)), 2_000. + 2. * std::f64::consts::LN_2, 1e-6);
    all_close(&gradient(&line, of), &Tensor::from_slice(&[-0.5, -2.5, 2.5, 0.5]).view([4, 1]), 1e-6);
}

#[test]
fn an_identity_far_from_all_others_has_terms_of_0() {
    let t = Tensor::from_slice(&(0..12).map(|i| i / 3).collect::<Vec<i64>>());
    let x = matrix(30, 12, 2);
    let mut alone = x.narrow(0, 0, 3);
    alone += 50.;
    for (name, slow, fast) in forms(losses()) {
        agree(&name, &x, &t, Metric::Euclidean, &slow, &fast, 1e-9);
    }
    let tally = Loss::Lifted(0.7).of(&x, &t, Metric::Euclidean);
    assert_eq!((tally.terms.int64_value(&[]), tally.active.int64_value(&[])), (12, 9));
}

/// All distances between rows are 1.
#[test]
fn equal_distances() {
    let x = Tensor::eye(20, (Kind::Double, tch::Device::Cpu)) * std::f64::consts::FRAC_1_SQRT_2;
    let t = Tensor::from_slice(&(0..20).map(|i| i / 4).collect::<Vec<i64>>());
    let of = |loss: Loss| loss.of(&x, &t, Metric::Euclidean);
    close(value(&of(Loss::Lifted(0.5)).mean()), f64::ln(3. * 16.) + 0.5, 1e-12);
    close(value(&of(Loss::BatchAll(Margin::Hard(0.5))).mean()), 0.5, 1e-12);
    close(value(&of(Loss::EveryPair(0.5, Negative::Hardest)).mean()), 0.5, 1e-12);
}

#[test]
fn a_loss_with_a_known_gradient_goes_through_the_graph_like_any_other() {
    let labels = Tensor::from_slice(&[0_i64, 0, 1, 1, 2, 2]);
    for (name, slow, fast) in forms(losses()) {
        // Scaled, beside another term, through a layer below: the chain rule on both sides of the one node.
        let whole = |loss: &Form, x: &Tensor| {
            let y = x.tanh();
            loss(&y, &labels, Metric::Euclidean).mean() * 3. + (&y * &y).sum(Kind::Double)
        };
        let x = matrix(27, 6, 3);
        all_close(&gradient(&x, |x| whole(&fast, x)), &gradient(&x, |x| whole(&slow, x)), 1e-9);
        let quiet = tch::no_grad(|| fast(&x.detach().set_requires_grad(true), &labels, Metric::Euclidean));
        assert!(!quiet.sum.requires_grad(), "{name}");
    }
}

#[test]
fn single_precision_halves_duplicates_and_large_distances() {
    let labels = Tensor::from_slice(&(0..24).map(|i| i / 4).collect::<Vec<i64>>());
    let x = matrix(23, 24, 8).to_kind(Kind::Float);
    let twice = Tensor::cat(&[x.narrow(0, 0, 12), x.narrow(0, 0, 12)], 0);
    for (name, slow, fast) in forms(losses()) {
        for metric in METRICS {
            let what = format!("{name}, {metric:?}");
            agree(&what, &x, &labels, metric, &slow, &fast, 1e-5);
            let ours = fast(&twice, &labels, metric);
            assert!(value(&ours.sum).is_finite(), "{what}");
            let slope = gradient(&twice, |x| fast(x, &labels, metric).mean());
            assert!(slope.isfinite().all().int64_value(&[]) == 1, "{what}");
            let half = fast(&x.to_kind(Kind::BFloat16), &labels, metric);
            assert_eq!(half.sum.kind(), Kind::Float);
            close(
                value(&half.mean()),
                value(&fast(&x.to_kind(Kind::BFloat16).to_kind(Kind::Float), &labels, metric).mean()),
                1e-6,
            );
            let far = fast(&(&x * 500.), &labels, metric);
            assert!(value(&far.sum).is_finite(), "{what}");
        }
    }
}

#[test]
fn a_nan_is_seen_and_nothing_to_rank_gives_nothing() {
    let labels = Tensor::from_slice(&[0_i64, 0, 1, 1, 2, 2]);
    let broken = matrix(24, 6, 3);
    let _ = broken.get(3).fill_(f64::NAN);
    for (name, _, fast) in forms(losses()) {
        for metric in METRICS {
            assert!(value(&fast(&broken, &labels, metric).sum).is_nan(), "{name}, {metric:?}");
            let one = Tensor::zeros([6], (Kind::Int64, tch::Device::Cpu));
            let x = matrix(25, 6, 3);
            let tally = fast(&x, &one, metric);
            assert_eq!((value(&tally.sum), tally.terms.int64_value(&[])), (0., 0), "{name}");
            assert_eq!(value(&gradient(&x, |x| fast(x, &one, metric).mean()).abs().sum(Kind::Double)), 0., "{name}");
        }
    }
}

/// A row of zeros has cosine 0 to all, which no length tells: the choice among near and far rows must know it.
#[test]
fn rows_of_zeros_have_the_cosine_distance_of_the_matrix() {
    let x = Tensor::from_slice(&[1., 0., 0.9, 0.43589, 0.2, 0.9798, 0., 0.]).view([4, 2]);
    let labels = Tensor::from_slice(&[0_i64, 0, 1, 2]);
    let drawn = matrix(9, 12, 3);
    let _ = drawn.get(5).fill_(0.);
    let of = Tensor::from_slice(&(0..12_i64).map(|i| i / 3).collect::<Vec<_>>());
    let of_batch = |loss: &Loss| matches!(loss, Loss::BatchHard(_) | Loss::BatchAll(_));
    for (name, slow, fast) in &forms(losses().into_iter().filter(of_batch)) {
        agree(name, &x, &labels, Metric::Cosine, slow, fast, 1e-9);
        agree(name, &drawn, &of, Metric::Cosine, slow, fast, 1e-9);
    }
}

/// Rows that are finite, and whose squares are not: a divergence, not a loss of 0.
#[test]
fn squares_that_overflow_make_the_loss_nan_and_its_gradient_too() {
    let x = Tensor::from_slice(&[5e19_f32, 4e19, 5.01e19, -1.4e20]).view([4, 1]);
    let labels = Tensor::from_slice(&[0_i64, 0, 1, 2]);
    for metric in [Metric::Euclidean, Metric::SquaredEuclidean] {
        let nearest = Loss::EveryPair(0.2, Negative::SemiHard(Pick::Nearest));
        for loss in [Loss::BatchAll(Margin::Hard(0.2)), nearest, Loss::Lifted(0.2)] {
            let of = |x: &Tensor| loss.of(x, &labels, metric).mean();
            assert!(value(&of(&x)).is_nan() && gradient(&x, of).isnan().all().int64_value(&[]) == 1, "{loss:?}");
        }
        let of = |x: &Tensor| embedded::batch_hard(x, &labels, metric, Margin::Hard(0.2)).mean();
        let tensors = |x: &Tensor| embedded::in_tensors(|| of(x));
        assert!(value(&of(&x)).is_nan() && value(&tensors(&x)).is_nan());
        assert!(gradient(&x, of).isnan().all().int64_value(&[]) == 1);
        assert!(gradient(&x, tensors).isnan().all().int64_value(&[]) == 1);
    }
}

/// What is not known is an error, not a zero.
#[test]
fn a_second_derivative_is_refused() {
    let x = matrix(3, 6, 2).set_requires_grad(true);
    let labels = Tensor::from_slice(&[0_i64, 0, 1, 1, 2, 2]);
    let loss = embedded::batch_hard(&x, &labels, Metric::Euclidean, Margin::Soft).mean();
    let refused = Tensor::f_run_backward(&[&loss], &[&x], true, true).expect_err("a second derivative");
    assert!(refused.to_string().contains("no second derivative"), "{refused}");
}

/// Of equally far or near rows the lowest has the gradient, on a GPU as on the CPU.
#[test]
fn the_first_of_equals_is_chosen() {
    // Two positives of row 0 at distance 3, two negatives at distance 1, in both orders.
    let x = Tensor::from_slice(&[0_f64, 0., 0., 3., 0., -3., 1., 0., -1., 0.]).view([5, 2]);
    let labels = Tensor::from_slice(&[0_i64, 0, 0, 1, 2]);
    for metric in [Metric::Euclidean, Metric::SquaredEuclidean] {
        let of = |x: &Tensor| embedded::batch_hard(x, &labels, metric, Margin::Soft).sum();
        all_close(&gradient(&x, |x| embedded::in_tensors(|| of(x))), &gradient(&x, of), 1e-12);
    }
}

/// Blocks of a large matrix, and shares of it, in one precision and the other.
#[test]
fn shares_of_the_anchors_are_the_loss() {
    let losses = losses();
    for (set, labels) in label_sets() {
        let t = Tensor::from_slice(&labels);
        let x = matrix(21, labels.len(), 4) + 5.;
        for (&loss, metric) in losses.iter().flat_map(|loss| METRICS.map(|metric| (loss, metric))) {
            let whole: Form = Box::new(move |x, l, metric| loss.of(x, l, metric));
            let shares: Form = Box::new(move |x, l, metric| in_shares(loss, x, l, metric));
            let tensors: Form = Box::new(move |x, l, metric| embedded::in_tensors(|| in_shares(loss, x, l, metric)));
            // Three anchors a block, the last one or two.
            let few = 3 * labels.len() + 1;
            let blocks: Form = Box::new(move |x, l, metric| embedded::in_blocks(few, || loss.of(x, l, metric)));
            let both: Form = Box::new(move |x, l, metric| {
                embedded::in_tensors(|| embedded::in_blocks(few, || in_shares(loss, x, l, metric)))
            });
            for parts in [&shares, &tensors, &blocks, &both] {
                agree(&format!("{loss:?}, {metric:?}, {set}"), &x, &t, metric, &whole, parts, 1e-9);
                let single = x.to_kind(Kind::Float);
                agree(&format!("{loss:?}, {metric:?}, {set}, f32"), &single, &t, metric, &whole, parts, 1e-5);
            }
        }
    }
}

/// Many rows of a training's size in single precision, where negatives lie close together: a share chooses as the whole.
#[test]
fn near_ties_are_decided_alike_in_every_share() {
    let labels = Tensor::from_slice(&(0..900_i64).map(|i| i / 20).collect::<Vec<_>>());
    let x = normalize(&matrix(31, 900, 128).to_kind(Kind::Float));
    for loss in [Loss::EveryPair(0.2, Negative::SemiHard(Pick::Nearest)), Loss::EveryPair(0.2, Negative::Violating(3))]
    {
        let whole = |x: &Tensor| loss.of(x, &labels, Metric::SquaredEuclidean).sum();
        let shares = |x: &Tensor| in_shares(loss, x, &labels, Metric::SquaredEuclidean).sum();
        let (theirs, ours) = (gradient(&x, whole), gradient(&x, shares));
        let apart = value(&((ours - &theirs).abs().max() / theirs.abs().max()));
        assert!(apart < 1e-4, "{loss:?}: a negative more or less is 1e-2, and shares differ by {apart}");
    }
}
