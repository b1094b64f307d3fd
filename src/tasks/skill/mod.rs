//! Skill determination: data sets with what snippets are made of, batches of pairs, scores of whole videos, and what is
//! read from them.

mod batches;
mod data;
mod report;
mod scorer;
mod scores;

pub use batches::{Features, Material, PairBatch, PairBatches, Sample, order, places, samples};
pub use data::{FLOW, Inputs, Part, RankFlags, SkillData, brought, clips, folds, no_fold, sets};
pub use report::{announce, held, ranking};
pub use scorer::Scorer;
pub use scores::{Ranked, Taken, VideoScores, by_split, mean_of, score};
