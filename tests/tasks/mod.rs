//! What papers of one field share, beside slow twins.

mod detect;
mod kept;
mod pairs;
mod reid;
