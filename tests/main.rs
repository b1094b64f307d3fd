//! One test binary: slow, obviously right twins beside the fast code; edges; the binaries end to end.

mod bundle;
mod collectives;
mod common;
mod datasets;
mod distance;
mod export;
mod faces;
mod fetch;
mod files;
mod floors;
mod folders;
mod gpu;
mod lists;
mod losses;
mod metrics;
mod mining;
mod models;
mod multilabel;
mod optim;
mod papers;
mod report;
mod run;
mod sampler;
mod skill;
mod tasks;
mod weights;
