//! One test binary: slow, obviously right twins beside the fast code; edges; the binaries end to end.

mod common;
mod data;
mod distance;
mod drawn;
mod export;
mod metrics;
mod mining;
mod models;
mod triplet;
mod weights;
