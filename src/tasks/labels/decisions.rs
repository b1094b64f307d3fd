//! Label decisions: top-k, one threshold for all, the two heads, the oracle's count; and what they score.

use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::encoding::{Encoding, marks, targets};
use super::items::{forward, over_items};
use crate::datasets::labels::{Item, LabelLayout, LabelSet};
use crate::metrics::Score;
use crate::metrics::multilabel::{self, ApRule, Over};
use crate::models::label::LabelSystem;
use crate::real::{index, numbers};
use crate::report::Table;
use crate::run::Run;
use crate::say::{Bar, count};

/// What a network says of N items, on the CPU.
#[derive(Debug)]
pub struct Outputs {
    /// The feature `[N, F]` f32.
    pub features: Tensor,
    /// f `[N, K]` f32.
    pub scores: Tensor,
    /// θ `[N, K]` f32.
    pub thresholds: Tensor,
    /// The number of labels that the count head holds most likely, from 1.
    pub counts: Vec<usize>,
    /// The share that it gives to that number.
    pub sure: Vec<f64>,
    /// The true labels, bool `[N, K]`.
    pub labels: Tensor,
}

/// The two decisions that are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// How many labels
    Count,
    /// A threshold a class and image
    Threshold,
}

impl Decision {
    /// The same among those that are compared.
    pub fn way(self) -> Way {
        match self {
            Decision::Count => Way::LabelCount,
            Decision::Threshold => Way::LabelThreshold,
        }
    }
}

impl Outputs {
    /// Everything that `net` says of `items` but features.
    pub fn of(
        net: &LabelSystem,
        items: &Arc<[Item]>,
        encoding: Encoding,
        classes: usize,
        run: &Run,
        what: &str,
    ) -> Result<Outputs> {
        Outputs::told(net, items, encoding, classes, run, &mut Bar::new(what, items.len() as u64, 0), false)
    }

    /// As [`Outputs::of`]; with features, which may take far more memory than the rest, where they are `wide`.
    pub fn told(
        net: &LabelSystem,
        items: &Arc<[Item]>,
        encoding: Encoding,
        classes: usize,
        run: &Run,
        bar: &mut Bar,
        wide: bool,
    ) -> Result<Outputs> {
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        run.world().agree("--data (its test items): give every process the same", &names)?;
        let all = over_items(items, encoding, &run.machine, bar, |x| {
            let [feature, f] = forward(net, x, run).map(|x| x.to_kind(Kind::Float));
            let x = net.head_input(&feature, &f);
            let kept = if wide { feature.size()[1] } else { 0 };
            [feature.narrow(1, 0, kept), f, net.threshold.forward(&x), net.count.forward(&x)]
        })?;
        Ok(Outputs::new(all, &targets(&items.iter().collect::<Vec<_>>(), classes)))
    }

    /// Of features, scores, thresholds, the count head's logits `[N, n]`, and the true labels as 0/1 `[N, K]`.
    pub fn new([features, scores, thresholds, logits]: [Tensor; 4], labels: &Tensor) -> Outputs {
        let (sure, places) = logits.softmax(1, Kind::Double).max_dim(1, false);
        let counts = numbers::<i64>(&places).into_iter().map(|place| place as usize + 1).collect();
        Outputs { features, scores, thresholds, counts, sure: numbers(&sure), labels: labels.ne(0) }
    }

    /// `{k : f_k - θ_k > 0}`, bool `[N, K]`.
    pub fn by_threshold(&self) -> Tensor {
        self.scores.gt_tensor(&self.thresholds)
    }

    /// The labels of the highest scores, as many as the count head says, bool `[N, K]`.
    pub fn by_count(&self) -> Tensor {
        multilabel::top_counts(&self.scores, &self.counts)
    }

    /// What a decision comes to, bool `[N, K]`.
    pub fn by(&self, decision: Decision) -> Tensor {
        match decision {
            Decision::Count => self.by_count(),
            Decision::Threshold => self.by_threshold(),
        }
    }

    /// Features, scores, thresholds, decided labels and the count head's counts by name, a row an item.
    pub fn tensors(&self, decision: Decision) -> Vec<(String, Tensor)> {
        let labels = self.by(decision).to_kind(Kind::Uint8);
        let counts = index(self.counts.iter().copied());
        [("features", &self.features), ("scores", &self.scores), ("thresholds", &self.thresholds), ("labels", &labels)]
            .map(|(name, x)| (name.to_string(), x.shallow_clone()))
            .into_iter()
            .chain([("counts".to_string(), counts)])
            .collect()
    }

    /// How many labels each item has.
    pub fn true_counts(&self) -> Vec<usize> {
        ones(&self.labels, 1)
    }
}

/// Ones along a dimension of a bool matrix.
pub(super) fn ones(x: &Tensor, dim: i64) -> Vec<usize> {
    numbers::<i64>(&x.sum_dim_intlist(dim, false, Kind::Int64)).into_iter().map(|count| count as usize).collect()
}

/// What is measured of a decision, in the order of [`measures`].
pub const MEASURES: [&str; 7] = ["PC-P", "PC-R", "PC-F1", "OV-P", "OV-R", "OV-F1", "0-1 exact"];
/// The places of those that count where the count head decides; class mAP is the first of all.
const COUNT: [Option<u8>; 7] = [None, None, None, None, None, Some(1), Some(2)];

/// The heads of a table's columns, and the names of the scores in them.
pub type Columns = &'static [(&'static str, &'static [&'static str])];

/// The decisions that are compared, each with its name in scores and tables.
macro_rules! ways {
    ($($(#[$doc:meta])* $way:ident $name:literal),* $(,)?) => {
        /// A decision among those that are compared.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Way { $($(#[$doc])* $way),* }

        impl Way {
            /// In the order of tables.
            pub const ALL: [Way; 7] = [$(Way::$way),*];

            /// Its name in scores and tables.
            pub const fn name(self) -> &'static str {
                match self { $(Way::$way => $name),* }
            }
        }

        /// PC-F1 of every decision.
        pub const PC_F1: Columns = &[$(($name, &[concat!($name, ": PC-F1")])),*];
        /// OV-F1 of every decision.
        pub const OV_F1: Columns = &[$(($name, &[concat!($name, ": OV-F1")])),*];
        /// The share of items whose labels every decision decides exactly.
        pub const EXACT: Columns = &[$(($name, &[concat!($name, ": 0-1 exact")])),*];
    };
}

ways! {
    /// The three labels with the highest scores.
    Top3 "top-3",
    /// The five labels with the highest scores.
    Top5 "top-5",
    /// The best number of labels for all items.
    BestK "best-k",
    /// The best threshold for all items.
    BestThreshold "best threshold",
    /// The count head's.
    LabelCount "label count",
    /// The threshold head's.
    LabelThreshold "label threshold",
    /// As many labels as are true.
    OracleCount "oracle count",
}

/// What is measured before any decision; the last of VOC 2007 alone.
pub const RANKING: Columns = &[
    ("AP an image", &["AP an image"]),
    ("violated pairs", &["violated pairs"]),
    ("class mAP (step)", &["class mAP (step)"]),
    ("class mAP (VOC2007)", &["class mAP (VOC2007: 11 points, difficult ignored)"]),
];

/// [`MEASURES`] of a decision, fractions; both are 0/1 or bool `[N, K]`.
pub fn measures(predicted: &Tensor, labels: &Tensor) -> [f64; 7] {
    let (class, all) = (multilabel::per_class(predicted, labels), multilabel::overall(predicted, labels));
    let exact = multilabel::exact_match(predicted, labels);
    [class.precision, class.recall, class.f1, all.precision, all.recall, all.f1, exact]
}

/// Everything that was measured on test items.
#[derive(Debug, Clone)]
pub struct JudgedLabels {
    /// [`MEASURES`] by decision, in the order of [`Way::ALL`].
    pub decided: [[f64; 7]; 7],
    /// What was measured of the ranking, before any decision: fractions.
    pub ranking: Vec<Score>,
    /// The number of labels that was best on dev items, and the one threshold.
    pub best: (usize, f64),
}

impl JudgedLabels {
    /// Every score by name: the ranking's, then `decision: measure`.
    pub fn scores(&self) -> Vec<Score> {
        let decided = Way::ALL.iter().zip(&self.decided).flat_map(|(way, values)| {
            MEASURES.iter().zip(values).zip(COUNT).map(move |((measure, &value), counts)| {
                let score = Score::new(format!("{}: {measure}", way.name()), value);
                Score { counts: counts.filter(|_| matches!(way, Way::LabelCount)), ..score }
            })
        });
        self.ranking.iter().cloned().chain(decided).collect()
    }

    /// What a decision comes to on so many items.
    pub fn says(&self, decision: Decision, items: usize) -> String {
        let head = if decision == Decision::Count { "count head" } else { "threshold head" };
        let [.., precision, recall, _, exact] = self.decided[decision.way() as usize];
        format!(
            "By the {head}, {} of {} get exactly their labels; {:.1} % of the labels given are right, {:.1} % of the true ones are found.",
            (exact * items as f64).round(),
            count(items, "item"),
            100. * precision,
            100. * recall
        )
    }

    /// Decisions by row, measures by column; and what was measured before any decision. In per cent.
    pub fn tables(&self) -> Vec<(String, Table)> {
        let row = |name: &str, values: &[f64]| {
            [name.to_string()].into_iter().chain(values.iter().map(|value| format!("{:.2}", 100. * value))).collect()
        };
        let decided = Way::ALL.iter().zip(&self.decided).map(|(way, values)| row(way.name(), values));
        let decisions = Table::new(["decision"].into_iter().chain(MEASURES), decided);
        let ranking = Table::new(["ranking", "%"], self.ranking.iter().map(|score| row(&score.name, &[score.value])));
        vec![("Decisions, in per cent".into(), decisions), ("Before any decision".into(), ranking)]
    }

    /// How the test items of `set` were scored, in words; `dev` says what k and the threshold were chosen on, and the count
    /// head tells 1 to `most`.
    pub fn protocol(&self, set: &LabelSet, dev: &str, most: i64) -> Vec<String> {
        let mut lines = vec![
            format!("{} with {}", count(set.test.len(), "test item"), count(set.classes.len(), "class")),
            "PC-P and PC-R are means over all classes, 0/0 taken as 0; PC-F1 is the mean of the classes' F1 (macro-F1); OV is over all labels together (micro)".into(),
            "AP an image: the mean precision at an image's labels, averaged over images; class mAP (step): the mean precision at a class's images, averaged over classes".into(),
            format!("label count: as many of the highest scores as the head says, 1 to {most}; label threshold: the scores above theirs; oracle count: as many as are true"),
        ];
        if set.layout == LabelLayout::Voc2007 {
            lines.push("class mAP (VOC2007): the mean of the highest precisions at recall 0, 0.1, ..., 1 or beyond, averaged over classes; an image that shows a class in difficult objects alone counts neither way".into());
        }
        lines.push(format!("best k: {} (of 0 to 10, by PC-F1), chosen on {dev}", self.best.0));
        lines.push(format!("best threshold: {:.4} (of 50 values, by PC-F1), chosen on {dev}", self.best.1));
        lines
    }
}

/// Judges what a network says of the test items of `set`. The best number of labels, of 0 to 10, and the best threshold for
/// all items, of [`candidates`], are those with the highest PC-F1 on `dev`, the first where several are.
pub fn judge(test: &Outputs, dev: &Outputs, set: &LabelSet) -> JudgedLabels {
    let labels = &test.labels;
    let f1 = |predicted: &Tensor| multilabel::per_class(predicted, &dev.labels).f1;
    let best = |scores: Vec<f64>| {
        scores.iter().enumerate().fold(0, |best, (i, &score)| if score > scores[best] { i } else { best })
    };
    let k = best((0..=10).map(|k| f1(&multilabel::top_k(&dev.scores, k))).collect());
    let thresholds = candidates(&dev.scores);
    let threshold = thresholds[best(thresholds.iter().map(|&t| f1(&dev.scores.gt(t))).collect())];
    let predicted = |way| match way {
        Way::Top3 => multilabel::top_k(&test.scores, 3),
        Way::Top5 => multilabel::top_k(&test.scores, 5),
        Way::BestK => multilabel::top_k(&test.scores, k),
        Way::BestThreshold => test.scores.gt(threshold),
        Way::LabelCount => test.by_count(),
        Way::LabelThreshold => test.by_threshold(),
        Way::OracleCount => multilabel::top_counts(&test.scores, &test.true_counts()),
    };
    let decided = Way::ALL.map(|way| measures(&predicted(way), labels));
    let class_map = |ignored, rule| multilabel::class_map(&test.scores, labels, ignored, rule);
    let mut ranking = vec![
        Score::new("AP an image", multilabel::mean_average_precision(&test.scores, labels, Over::Images)),
        Score::new("violated pairs", multilabel::violation(&test.scores, labels)).less(),
        Score::new("class mAP (step)", class_map(None, ApRule::Step)).counts(0),
    ];
    if set.layout == LabelLayout::Voc2007 {
        let items: Vec<&Item> = set.test.iter().collect();
        let difficult = marks(&items, set.classes.len(), |item| &item.difficult);
        let by = |rule| class_map(Some(&difficult), rule);
        ranking.push(Score::new("class mAP (VOC2007: 11 points, difficult ignored)", by(ApRule::ElevenPoint)));
        ranking.push(Score::new("class mAP (step, difficult ignored)", by(ApRule::Step)));
    }
    JudgedLabels { decided, ranking, best: (k, threshold) }
}

/// 50 values from the lowest to the highest of the ten highest scores of every item: the thresholds that are tried.
pub fn candidates(scores: &Tensor) -> Vec<f64> {
    let top = scores.topk(scores.size()[1].min(10), 1, true, true).0;
    let (low, high) = (top.min().double_value(&[]), top.max().double_value(&[]));
    (0..50).map(|i| low + (high - low) * f64::from(i) / 49.).collect()
}
