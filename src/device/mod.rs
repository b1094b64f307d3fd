//! Where and how tensors are computed: the choice of a device, its flags, memory, bfloat16, CUDA graphs.

mod autocast;
mod choose;
mod graph;
mod libraries;
pub mod machine;
pub mod memory;

pub use crate::transfer;
pub use autocast::{autocast, has_bfloat16};
pub use choose::{resolve, resolve_local};
pub use graph::Captured;
pub use libraries::{load_compilers, site_packages};
