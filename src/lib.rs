//! Pairwise, triplet and quadruplet ranking on libtorch: losses, miners, metrics, networks and data sets, and the
//! runs that reproduce papers with them. The papers themselves are the binaries under `papers/`.
//!
//! # The house, floor by floor
//!
//! One ordered list: a module names only modules that come before it, on lower floors or on its own. A test reads the
//! list here and holds every module to it. The order is a reading order too.
//!
//! - **Floor 0, numbers and words**: `real`, `team`, [`bounds`], [`seed`], [`distance`], [`schedule`], [`headings`], [`say`], [`transfer`], [`node`].
//! - **Floor 1, mathematics and networks** (tensors in, tensors out; no files, no choice of a device): [`mining`],
//!   [`losses`], [`metrics`], [`models`], [`optim`].
//! - **Floor 2, the world, read-only**: [`files`], [`once`], [`lists`], [`folders`], [`picture`], [`source`], [`transform`], [`catalog`], [`video`],
//!   [`datasets`], [`weights`], [`sampler`], [`loader`].
//! - **Floor 3, the run**: [`collectives`], [`device`], [`run`], [`report`], [`outputs`], [`deploy`], [`export`].
//! - **Floor 4, what papers of one field share**: [`tasks`].
//! - **Floor 5, a paper's frame**: [`hyper`], [`verbs`], [`claims`], [`study`], `results`, [`older`], [`paper`], [`needs`], `tables`, `runs`, `shell`, [`program`].
//!
//! # Invariants
//!
//! - A loss does not know where its distances come from; a miner returns indices or masks, and no gradient passes
//!   through it.
//! - Losses and mining compute in f32 or wider, do not wait for a GPU, hold no B³ numbers, and give 0 with a zero
//!   gradient where there are no terms. A NaN that comes in comes out.
//! - Nothing is random except at an address `(seed, step, item)`: a resumed run equals an unbroken one.
//! - Nothing falls back in silence: what is missing, surplus or changed is an error that says what to do.
//!
//! # A first look
//!
//! ```
//! use rankle::distance::Metric;
//! use rankle::losses::{Margin, triplet};
//! use tch::Tensor;
//!
//! let x = Tensor::from_slice(&[0., 0., 1., 0.5, 0.5, 1.5, 2., 0., 1.5, 1., 2.5, 1.5]).view([6, 2]);
//! let labels = Tensor::from_slice(&[0_i64, 0, 0, 1, 1, 1]);
//! let d = Metric::Euclidean.matrix(&x, &x);
//! let loss = triplet::batch_hard(&d, &labels, Margin::Soft).mean();
//! assert!((loss.double_value(&[]) - 0.819767).abs() < 1e-6);
//! ```

pub mod bounds;
pub mod catalog;
pub mod claims;
pub mod collectives;
pub mod datasets;
pub mod deploy;
pub mod device;
pub mod distance;
pub mod export;
pub mod files;
pub mod folders;
pub mod headings;
pub mod hyper;
pub mod lists;
pub mod loader;
pub mod losses;
pub mod metrics;
pub mod mining;
pub mod models;
pub mod needs;
pub mod node;
pub mod older;
pub mod once;
pub mod optim;
pub mod outputs;
pub mod paper;
pub mod picture;
pub mod program;
mod real;
pub mod report;
mod results;
pub mod run;
mod runs;
pub mod sampler;
pub mod say;
pub mod schedule;
pub mod seed;
mod shell;
pub mod source;
pub mod study;
mod tables;
pub mod tasks;
mod team;
pub mod transfer;
pub mod transform;
pub mod verbs;
pub mod video;
pub mod weights;
