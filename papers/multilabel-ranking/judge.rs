//! Label decisions and their scores: top-k, best-k, best threshold, the two heads, the oracle's count.

use super::*;
use rankle::metrics::multilabel::{self, ApRule, Over};
use rankle::run::report::Table;

/// Scores and decisions of a part of a set, on the CPU.
pub struct Outputs {
    /// f `[N, K]` f32.
    pub scores: Tensor,
    /// θ `[N, K]` f32.
    pub thresholds: Tensor,
    /// The count head's number of labels, from 1.
    pub counts: Vec<usize>,
    /// The share that the count head gives to that number, `[N]`.
    pub sure: Vec<f64>,
    /// bool `[N, K]`.
    pub labels: Tensor,
    /// The feature `[N, F]` f32.
    pub features: Tensor,
}

impl Outputs {
    /// `{k : f_k - θ_k > 0}`.
    pub fn by_threshold(&self) -> Tensor {
        self.scores.gt_tensor(&self.thresholds)
    }

    /// The labels of the highest scores, as many as the count head says.
    pub fn by_count(&self) -> Tensor {
        multilabel::top_counts(&self.scores, &self.counts)
    }

    pub fn true_counts(&self) -> Vec<usize> {
        let counts = Vec::<i64>::try_from(self.labels.sum_dim_intlist(1, false, Kind::Int64)).unwrap_or_default();
        counts.into_iter().map(|count| count as usize).collect()
    }
}

/// What a decision came to, fractions.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Decided {
    pub pc_p: f64,
    pub pc_r: f64,
    pub pc_f1: f64,
    pub ov_p: f64,
    pub ov_r: f64,
    pub ov_f1: f64,
    pub exact: f64,
}

impl Decided {
    pub const NAMES: [&str; 7] = ["PC-P", "PC-R", "PC-F1", "OV-P", "OV-R", "OV-F1", "0-1 exact"];

    fn new(predicted: &Tensor, labels: &Tensor) -> Decided {
        let (class, all) = (multilabel::per_class(predicted, labels), multilabel::overall(predicted, labels));
        Decided {
            pc_p: class.precision,
            pc_r: class.recall,
            pc_f1: class.f1,
            ov_p: all.precision,
            ov_r: all.recall,
            ov_f1: all.f1,
            exact: multilabel::exact_match(predicted, labels),
        }
    }

    pub fn values(&self) -> [f64; 7] {
        [self.pc_p, self.pc_r, self.pc_f1, self.ov_p, self.ov_r, self.ov_f1, self.exact]
    }
}

/// Everything that was measured on a test set.
pub struct Judged {
    /// By decision, in the order of [`DECISIONS`].
    pub decided: Vec<(&'static str, Decided)>,
    /// AP an image, violation, class mAP, and VOC's.
    pub ranking: Vec<(String, f64)>,
    /// What was chosen for the rivals, and on which items.
    pub chosen: Vec<String>,
}

/// The decisions that are compared.
pub const DECISIONS: [&str; 7] =
    ["top-3", "top-5", "best-k", "best threshold", "label count", "label threshold", "oracle count"];

/// Judges `test`, what the network says of the test items of `set`; k and the one threshold of the rivals are chosen by
/// macro-F1 on `dev`, which is `chosen_on` in words.
pub fn judge(test: &Outputs, dev: &Outputs, set: &LabelSet, chosen_on: &str) -> Judged {
    let labels = &test.labels;
    let f1 = |predicted: &Tensor| multilabel::per_class(predicted, &dev.labels).f1;
    // The first best of each list, as a linear search finds it.
    let best = |scores: Vec<f64>| {
        scores.iter().enumerate().fold(0, |best, (i, &score)| if score > scores[best] { i } else { best })
    };
    let k = best((0..=10).map(|k| f1(&multilabel::top_k(&dev.scores, k))).collect());
    let thresholds = candidates(&dev.scores);
    let threshold = thresholds[best(thresholds.iter().map(|&t| f1(&dev.scores.gt(t))).collect())];
    let predicted = [
        multilabel::top_k(&test.scores, 3),
        multilabel::top_k(&test.scores, 5),
        multilabel::top_k(&test.scores, k),
        test.scores.gt(threshold),
        test.by_count(),
        test.by_threshold(),
        multilabel::top_counts(&test.scores, &test.true_counts()),
    ];
    let decided = DECISIONS.iter().zip(&predicted).map(|(name, p)| (*name, Decided::new(p, labels))).collect();
    let mut ranking = vec![
        ("AP an image".to_string(), multilabel::mean_average_precision(&test.scores, labels, Over::Images)),
        ("violated pairs".into(), multilabel::violation(&test.scores, labels)),
        ("class mAP (step)".into(), multilabel::class_map(&test.scores, labels, None, ApRule::Step)),
    ];
    if set.layout == LabelLayout::Voc2007 {
        let difficult = difficult(set);
        let by = |rule| multilabel::class_map(&test.scores, labels, Some(&difficult), rule);
        ranking.push(("class mAP (VOC2007: 11 points, difficult ignored)".into(), by(ApRule::ElevenPoint)));
        ranking.push(("class mAP (step, difficult ignored)".into(), by(ApRule::Step)));
    }
    let chosen = vec![
        format!("best k: {k} (of 0 to 10, by PC-F1), chosen on {chosen_on}"),
        format!("best threshold: {threshold:.4} (of 50 values, by PC-F1), chosen on {chosen_on}"),
    ];
    Judged { decided, ranking, chosen }
}

/// 0/1 `[N, K]`: which classes only difficult objects of a test image show.
fn difficult(set: &LabelSet) -> Tensor {
    let classes = set.classes.len();
    let mut flat = vec![0_u8; set.test.len() * classes];
    for (row, item) in flat.chunks_exact_mut(classes).zip(&set.test) {
        item.difficult.iter().for_each(|&class| row[class as usize] = 1);
    }
    Tensor::from_slice(&flat).view([set.test.len() as i64, classes as i64])
}

/// 50 values from the lowest to the highest of the ten highest scores of every image.
fn candidates(scores: &Tensor) -> Vec<f64> {
    let ten = scores.size()[1].min(10);
    let top = scores.topk(ten, 1, true, true).0;
    let (low, high) = (top.min().double_value(&[]), top.max().double_value(&[]));
    (0..50).map(|i| low + (high - low) * f64::from(i) / 49.).collect()
}

/// Decisions by row, metrics by column, in per cent.
pub fn table(judged: &Judged) -> Table {
    let row = |(name, decided): &(&str, Decided)| {
        [name.to_string()].into_iter().chain(decided.values().map(|value| format!("{:.2}", 100. * value))).collect()
    };
    Table {
        head: ["decision"].into_iter().chain(Decided::NAMES).map(String::from).collect(),
        rows: judged.decided.iter().map(row).collect(),
    }
}
