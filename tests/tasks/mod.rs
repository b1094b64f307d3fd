//! What papers of one field share, beside slow twins.

mod detect;
mod pairs;
mod reid;
