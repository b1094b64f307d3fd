//! One test binary: slow, obviously right twins beside the fast code; edges; the binaries end to end.

mod cli;
mod common;
mod data;
mod distance;
mod drawn;
mod export;
mod fetch;
mod floors;
mod metrics;
mod mining;
mod models;
mod report;
mod run;
mod training;
mod triplet;
mod weights;
