//! wip
pub mod datasets;
pub mod distance;
pub mod export;
pub mod loader;
pub mod losses;
pub mod metrics;
pub mod mining;
pub mod models;
pub mod optim;
pub mod paper;
pub mod run;
pub mod sampler;
pub mod schedule;
pub mod seed;
pub mod transform;
pub mod weights;
