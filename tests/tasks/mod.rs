//! What papers of one field share, beside slow twins.

mod faces;
mod kept;
mod labels;
pub mod pairs;
mod reid;
mod skill;
