//! Person re-identification sets embedded, scored and shown: what triplet-reid and quadruplet share.

mod compared;
mod data;
mod scoring;
mod sections;

pub use super::search::SEARCH;
pub use compared::{ByRows, Compared, Draws};
pub use data::{ReidData, can_be_scored, has_cameras, identities, middle_photos, people_and_cameras, write_split};
pub use scoring::retrieval;
