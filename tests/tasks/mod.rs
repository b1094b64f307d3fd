//! What papers of one field share, beside slow twins.

mod pairs;
mod reid;
