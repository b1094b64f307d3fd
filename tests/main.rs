//! One test binary: slow, obviously right twins beside the fast code; edges; the binaries end to end.

mod common;
mod distance;
mod metrics;
mod mining;
mod triplet;
