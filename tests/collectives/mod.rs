//! Several processes at one run, on 127.0.0.1: what they compute together equals what one computes, and whoever is left
//! when one dies hears of it.

#![cfg(feature = "distributed")]

mod deaths;
mod evaluation;
pub mod launch;
mod numbers;
pub mod resumed;
pub mod runs;
