//! Label sets of images ("Improving Pairwise Ranking for Multi-label Image Classification", arXiv 1704.03135).
//!
//! Tensors are `[N, C]`, N images by C classes, of any kind and device: `labels` and `predicted` hold 0 or 1 (anything
//! above 0.5 counts as 1), `scores` any numbers, higher for more likely. A score that is NaN ranks last; equal scores rank by
//! class number. All functions panic when shapes differ or a tensor is not two-dimensional.

use tch::{Kind, Tensor};

use super::mean;
use crate::real::numbers;

/// Precision, recall and F1, fractions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// How many of the decided labels are true.
    pub precision: f64,
    /// How many of the true labels are decided.
    pub recall: f64,
    /// F1; see the function that gave it.
    pub f1: f64,
}

/// Per-class scores (PC-P, PC-R, PC-F1): each the mean over all C classes, 0/0 taken as 0. F1 is the mean of the classes'
/// F1 (macro-F1), as in the authors' program, not the harmonic mean of the other two.
pub fn per_class(predicted: &Tensor, labels: &Tensor) -> Scores {
    let counts = Counts::new(predicted, labels);
    let n = counts.gold.len() as f64;
    let mean = |f: &dyn Fn(usize) -> f64| (0..counts.gold.len()).map(f).sum::<f64>() / n;
    let (right, gold, called) = (&counts.right, &counts.gold, &counts.called);
    Scores {
        precision: mean(&|c| ratio(right[c], called[c])),
        recall: mean(&|c| ratio(right[c], gold[c])),
        f1: mean(&|c| ratio(2 * right[c], gold[c] + called[c])),
    }
}

/// Overall scores (OV-P, OV-R, OV-F1): the counts of all classes together, 0/0 taken as 0; F1 is the harmonic mean of the
/// two (micro-F1).
pub fn overall(predicted: &Tensor, labels: &Tensor) -> Scores {
    let counts = Counts::new(predicted, labels);
    let sum = |x: &[usize]| x.iter().sum::<usize>();
    let (right, gold, called) = (sum(&counts.right), sum(&counts.gold), sum(&counts.called));
    Scores { precision: ratio(right, called), recall: ratio(right, gold), f1: ratio(2 * right, gold + called) }
}

/// The fraction of images whose predicted set is exactly the true one. NaN without images.
pub fn exact_match(predicted: &Tensor, labels: &Tensor) -> f64 {
    let (p, l) = (marked(predicted), marked(labels));
    assert_eq!((p.rows, p.classes), (l.rows, l.classes), "predictions and labels must have one shape");
    (0..p.rows).filter(|&i| p.row(i) == l.row(i)).count() as f64 / p.rows as f64
}

/// What a mean average precision averages over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The classes ranked for each image; images without a label are left out. AP in the authors' program.
    Images,
    /// The images ranked for each class; classes without an image are left out.
    Classes,
}

/// What becomes of the precisions along a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApRule {
    /// The mean precision at the true entries, nothing interpolated.
    Step,
    /// PASCAL VOC 2007's own: the mean over recalls 0, 0.1, ..., 1 of the highest precision at that recall or beyond.
    ElevenPoint,
}

/// Mean average precision: of each image's (or class's) ranking by score, the mean precision at its true entries,
/// averaged over images (or classes). NaN where nothing is left to average.
pub fn mean_average_precision(scores: &Tensor, labels: &Tensor, over: Over) -> f64 {
    let turn = |t: &Tensor| if over == Over::Classes { t.tr() } else { t.shallow_clone() };
    assert!(scores.dim() == 2 && labels.dim() == 2, "scores and labels must be [images, classes]");
    mean_of(&precisions(&turn(scores), &turn(labels), None, ApRule::Step))
}

/// Mean average precision over classes by `rule`; an image counts neither for nor against a class where `ignored` (as
/// labels, `[N, C]`) is 1: VOC's difficult objects. NaN where no class has an image.
pub fn class_map(scores: &Tensor, labels: &Tensor, ignored: Option<&Tensor>, rule: ApRule) -> f64 {
    mean_of(&class_precisions(scores, labels, ignored, rule))
}

/// The average precision of each of the C classes, as [`class_map`] takes their mean; None for those without an image.
pub fn class_precisions(scores: &Tensor, labels: &Tensor, ignored: Option<&Tensor>, rule: ApRule) -> Vec<Option<f64>> {
    assert!(scores.dim() == 2 && labels.dim() == 2, "scores and labels must be [images, classes]");
    precisions(&scores.tr(), &labels.tr(), ignored.map(Tensor::tr).as_ref(), rule)
}

/// The mean of those that are there.
fn mean_of(values: &[Option<f64>]) -> f64 {
    let there: Vec<f64> = values.iter().flatten().copied().collect();
    mean(&there)
}

/// The average precision of each row's ranking.
fn precisions(scores: &Tensor, labels: &Tensor, ignored: Option<&Tensor>, rule: ApRule) -> Vec<Option<f64>> {
    let (s, l, ignored) = (scored(scores), marked(labels), ignored.map(marked));
    assert_eq!((s.rows, s.classes), (l.rows, l.classes), "scores and labels must have one shape");
    if let Some(ignored) = &ignored {
        assert_eq!((s.rows, s.classes), (ignored.rows, ignored.classes), "what is ignored must have that shape too");
    }
    let row = |i: usize| {
        let counts = |c: &usize| ignored.as_ref().is_none_or(|ignored| !ignored.row(i)[*c]);
        let truth: Vec<bool> = order(s.row(i)).into_iter().filter(counts).map(|c| l.row(i)[c]).collect();
        average_precision(&truth, rule)
    };
    (0..s.rows).map(row).collect()
}

/// Of a ranking that says which entries are true, from the top.
fn average_precision(truth: &[bool], rule: ApRule) -> Option<f64> {
    let all = truth.iter().filter(|&&hit| hit).count();
    if all == 0 {
        return None;
    }
    let hits = truth.iter().enumerate().filter(|(_, hit)| **hit).map(|(rank, _)| rank + 1).zip(1_usize..);
    let precisions: Vec<f64> = hits.map(|(rank, hits)| hits as f64 / rank as f64).collect();
    if rule == ApRule::Step {
        return Some(precisions.iter().sum::<f64>() / all as f64);
    }
    // Precision is highest where a true entry was just passed. Recall h/all reaches t/10 from h = ⌈all·t/10⌉ on, in whole
    // numbers, so that no rounding decides; at recall 0 every rank counts.
    let beyond = |t: usize| precisions.iter().skip((all * t).div_ceil(10).max(1) - 1).fold(0., |a: f64, &b| a.max(b));
    Some((0..=10).map(beyond).sum::<f64>() / 11.)
}

/// The label sets, bool `[N, C]` on the CPU, of the `k` highest scores of each image (all of them where k exceeds C).
pub fn top_k(scores: &Tensor, k: usize) -> Tensor {
    let rows = scores.size().first().copied().unwrap_or(0) as usize;
    top_counts(scores, &vec![k; rows])
}

/// As [`top_k`], with a number of labels for each image, e.g. from the label-count head.
pub fn top_counts(scores: &Tensor, counts: &[usize]) -> Tensor {
    let s = scored(scores);
    assert_eq!(s.rows, counts.len(), "one count an image");
    let mut chosen = vec![false; s.rows * s.classes];
    for (i, &k) in counts.iter().enumerate() {
        for &c in order(s.row(i)).iter().take(k) {
            chosen[i * s.classes + c] = true;
        }
    }
    Tensor::from_slice(&chosen).reshape([s.rows as i64, s.classes as i64])
}

/// The mean over images of the fraction of (true, false) label pairs that the scores do not put in order, a tie counting
/// as not in order; images with no label or every label are left out. NaN where none is left.
pub fn violation(scores: &Tensor, labels: &Tensor) -> f64 {
    let (s, l) = (scored(scores), marked(labels));
    assert_eq!((s.rows, s.classes), (l.rows, l.classes), "scores and labels must have one shape");
    let shares: Vec<f64> = (0..s.rows)
        .filter_map(|i| {
            let of = |want: bool| s.row(i).iter().zip(l.row(i)).filter(move |p| *p.1 == want).map(|p| *p.0);
            let pairs = of(true).count() * of(false).count();
            let wrong: usize = of(true).map(|u| of(false).filter(|&v| u.is_nan() || u <= v).count()).sum();
            (pairs > 0).then(|| wrong as f64 / pairs as f64)
        })
        .collect();
    mean(&shares)
}

fn ratio(a: usize, b: usize) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// Classes by falling score.
fn order(row: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    let key = |c: usize| if row[c].is_nan() { f64::NEG_INFINITY } else { row[c] + 0.0 };
    // Stable, so that ties stay in class order.
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)).then(row[a].is_nan().cmp(&row[b].is_nan())));
    order
}

/// A matrix `[images, classes]` on the host.
struct Cells<T> {
    rows: usize,
    classes: usize,
    cells: Vec<T>,
}

impl<T> Cells<T> {
    fn of(t: &Tensor, cell: impl Fn(f64) -> T) -> Cells<T> {
        let size = t.size();
        assert_eq!(size.len(), 2, "expected [images, classes], not {size:?}");
        let cells = numbers(&t.detach().to_kind(Kind::Double)).into_iter().map(cell).collect();
        Cells { rows: size[0] as usize, classes: size[1] as usize, cells }
    }

    fn row(&self, i: usize) -> &[T] {
        &self.cells[i * self.classes..(i + 1) * self.classes]
    }
}

fn scored(t: &Tensor) -> Cells<f64> {
    Cells::of(t, |x| x)
}

fn marked(t: &Tensor) -> Cells<bool> {
    Cells::of(t, |x: f64| x > 0.5)
}

/// Images of each class: truly, predicted, both.
struct Counts {
    gold: Vec<usize>,
    called: Vec<usize>,
    right: Vec<usize>,
}

impl Counts {
    fn new(predicted: &Tensor, labels: &Tensor) -> Self {
        let (p, l) = (marked(predicted), marked(labels));
        assert_eq!((p.rows, p.classes), (l.rows, l.classes), "predictions and labels must have one shape");
        let zero = vec![0; p.classes];
        let mut counts = Counts { gold: zero.clone(), called: zero.clone(), right: zero };
        for i in 0..p.rows {
            for (c, (&called, &gold)) in p.row(i).iter().zip(l.row(i)).enumerate() {
                counts.gold[c] += usize::from(gold);
                counts.called[c] += usize::from(called);
                counts.right[c] += usize::from(gold && called);
            }
        }
        counts
    }
}
