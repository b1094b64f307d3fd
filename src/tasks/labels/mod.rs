//! Multi-label sets: batches of items, what a network says of items, label decisions and their scores.

mod batches;
mod data;
mod decisions;
mod encoding;
mod items;
mod pictures;
mod tag;

pub use batches::{Drawing, LabelBatch, LabelBatches, Passes, Shuffled};
pub use data::{LabelData, LabelShape};
pub use decisions::{
    Columns, Decision, EXACT, JudgedLabels, MEASURES, OV_F1, Outputs, PC_F1, RANKING, Way, candidates, judge, measures,
};
pub use encoding::{Encoding, normalise, targets, usable};
pub use items::{features, over_items, say};
pub use pictures::{certainty, confusion, show};
pub use tag::TAG;
