//! One test binary: slow, obviously right twins beside the fast code; edges; the binaries end to end.

mod common;
mod data;
mod distance;
mod drawn;
mod metrics;
mod mining;
mod triplet;
