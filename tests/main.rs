//! One test binary: slow, obviously right twins beside the fast code; edges; the binaries end to end.

mod cached;
mod cli;
mod common;
mod data;
mod distance;
mod drawn;
mod embedded;
mod export;
mod facenet_cli;
mod faces;
mod fetch;
mod floors;
mod inception;
mod metrics;
mod mining;
mod models;
mod multilabel;
mod parity;
mod quadruplet;
mod quadruplet_cli;
mod report;
mod run;
mod skill;
mod training;
mod triplet;
mod weights;
