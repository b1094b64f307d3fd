//! Losses of skill: the sheet's numbers, nested loops, kinks.

use rankle::losses::Tally;
use rankle::losses::skill::{rank, rank_and_similarity, rank_splits, similarity};
use tch::{Kind, Tensor};

use crate::common::{all_close, close, gradient, numbers, rows, value};

fn table(rows: &[&[f64]]) -> Tensor {
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, -1])
}

fn golden() -> [Tensor; 4] {
    [
        table(&[&[0.8, 0.1, -0.2], &[1.5, 2.0, 0.3]]),
        table(&[&[0.2, 0.4, -0.9], &[-0.5, 1.6, 0.]]),
        table(&[&[0.5, 2., 0.]]),
        table(&[&[0.4, 0.1, -1.7]]),
    ]
}

/// Two scores of a split and whether their videos are similar.
type Item = (f64, f64, bool);

/// The terms of L_rank3 and their derivatives by the first score, one by one.
fn slow(items: &[Item], m: f64, beta: f64) -> (Vec<f64>, Vec<f64>) {
    let mut terms = Vec::new();
    let mut slopes = Vec::new();
    for &(i, j, similar) in items {
        let z = i - j;
        if similar {
            terms.push((1. - beta) * (z.abs() - m).max(0.));
            slopes.push(if z.abs() > m { (1. - beta) * z.signum() } else { 0. });
        } else {
            terms.push(beta * (m - z).max(0.));
            slopes.push(if m - z > 0. { -beta } else { 0. });
        }
    }
    (terms, slopes)
}

#[track_caller]
fn same(tally: &Tally, terms: &[f64], tolerance: f64) {
    close(value(&tally.sum), terms.iter().sum(), tolerance);
    assert_eq!(tally.terms.int64_value(&[]) as usize, terms.len());
    assert_eq!(tally.active.int64_value(&[]) as usize, terms.iter().filter(|&&term| term > 0.).count());
    close(value(&tally.mean()), terms.iter().sum::<f64>() / terms.len().max(1) as f64, tolerance);
}

#[test]
fn the_sheets_numbers_come_out() {
    let [better, worse, a, b] = golden();
    same(&rank_splits(&better, &worse, 1.), &[0.4, 1.3, 0.3, 0., 0.6, 0.7], 1e-12);
    same(&similarity(&a, &b, 1.), &[0., 0.9, 0.7], 1e-12);
    let mean = |x: &Tensor| x.mean_dim(1, false, None::<Kind>);
    same(&rank(&mean(&better), &mean(&worse), 1.), &[2. / 3., 0.1], 1e-12);
    // L_rank3 = 0.5 * 3.3 + 0.5 * 1.6
    let (first, second) = (Tensor::cat(&[&better, &a], 0), Tensor::cat(&[&worse, &b], 0));
    let similar = table(&[&[0.; 3], &[0.; 3], &[1.; 3]]).to_kind(Kind::Bool);
    let joint = rank_and_similarity(&first, &second, &similar, 1., 0.5);
    close(value(&joint.sum), 2.45, 1e-12);
    assert_eq!((joint.terms.int64_value(&[]), joint.active.int64_value(&[])), (9, 7));
    close(value(&joint.mean()), 2.45 / 9., 1e-12);
}

#[test]
fn loops_agree_on_drawn_scores_and_so_do_gradients() {
    for (seed, scale, beta, margin) in
        [(1, 1., 0.5, 1.), (2, 3., 0.3, 0.5), (3, 500., 0.5, 1.), (4, 0.01, 1., 1.), (5, 2., 0., 0.)]
    {
        let draw = numbers(seed, 84);
        let items: Vec<Item> = (0..42).map(|i| (scale * draw[i], scale * draw[42 + i], i % 3 == 0)).collect();
        let column = |f: &dyn Fn(&Item) -> f64| Tensor::from_slice(&items.iter().map(f).collect::<Vec<_>>());
        let (a, b) = (column(&|item| item.0).view([6, 7]), column(&|item| item.1).view([6, 7]));
        let similar = column(&|item| f64::from(item.2)).view([6, 7]).to_kind(Kind::Bool);
        let (terms, slopes) = slow(&items, margin, beta);
        same(&rank_and_similarity(&a, &b, &similar, margin, beta), &terms, 1e-10);
        let by_a = gradient(&a, |a| rank_and_similarity(a, &b, &similar, margin, beta).sum());
        let by_b = gradient(&b, |b| rank_and_similarity(&a, b, &similar, margin, beta).sum());
        all_close(&by_a.view([-1]), &Tensor::from_slice(&slopes), 1e-12);
        all_close(&by_b, &-by_a, 1e-12);
        // The pure losses are its two ends.
        let ordered: Vec<Item> = items.iter().map(|item| (item.0, item.1, false)).collect();
        same(&rank_splits(&a, &b, margin), &slow(&ordered, margin, 1.).0, 1e-10);
        let alike: Vec<Item> = items.iter().map(|item| (item.0, item.1, true)).collect();
        same(&similarity(&a, &b, margin), &slow(&alike, margin, 0.).0, 1e-10);
        close(value(&similarity(&a, &b, margin).sum), value(&similarity(&b, &a, margin).sum), 1e-12);
    }
}

#[test]
fn kinks_have_no_gradient() {
    let at = |a: f64, b: f64| (Tensor::from_slice(&[a]), Tensor::from_slice(&[b]));
    let (a, b) = at(1., 0.); // m - z = 0
    assert_eq!(value(&gradient(&a, |a| rank(a, &b, 1.).sum())), 0.);
    assert_eq!(value(&gradient(&a, |a| similarity(a, &b, 1.).sum())), 0.); // |z| = m
    let (a, b) = at(0.25, 0.25); // z = 0, no margin: abs at its kink
    assert_eq!(value(&gradient(&a, |a| similarity(a, &b, 0.).sum())), 0.);
}

#[test]
fn empty_half_and_nan_input() {
    let empty = Tensor::zeros([0, 7], (Kind::Float, tch::Device::Cpu));
    for tally in [rank_splits(&empty, &empty, 1.), similarity(&empty, &empty, 1.)] {
        assert_eq!((value(&tally.mean()), tally.terms.int64_value(&[])), (0., 0));
    }
    assert_eq!(gradient(&empty, |x| rank_splits(x, &empty, 1.).mean()).size(), [0, 7]);
    let (a, b) = (Tensor::from_slice(&[0.5, -2.]), Tensor::from_slice(&[0.25, 1.]));
    for kind in [Kind::Half, Kind::BFloat16] {
        let tally = rank(&a.to_kind(kind), &b.to_kind(kind), 1.);
        assert_eq!(tally.sum.kind(), Kind::Float);
        close(value(&tally.sum), 4.75, 1e-6);
        close(value(&similarity(&a.to_kind(kind), &b.to_kind(kind), 1.).sum), 2., 1e-6);
    }
    let nan = Tensor::from_slice(&[f64::NAN, 0.]);
    assert!(value(&rank(&nan, &b, 1.).sum).is_nan());
    assert!(value(&similarity(&nan, &b, 1.).sum).is_nan());
    let similar = Tensor::from_slice(&[0_i64, 1]).to_kind(Kind::Bool);
    assert!(value(&rank_and_similarity(&nan, &b, &similar, 1., 0.5).sum).is_nan());
    // A NaN among the pairs does not reach the gradient of the others.
    let slope = gradient(&nan, |x| rank_and_similarity(x, &b, &similar, 1., 0.5).sum());
    assert_eq!(rows(&slope.unsqueeze(0))[0][1], 0.);
}

#[test]
fn a_broadcast_is_refused() {
    let (a, b) = (Tensor::from_slice(&[1., 2.]), Tensor::from_slice(&[1.]));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rank(&a, &b, 1.)));
    assert!(caught.is_err());
}
