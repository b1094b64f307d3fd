//! Where and how tensors are computed: the choice of a device, its flags, memory, bfloat16, CUDA graphs.

mod autocast;
mod choose;
mod graph;
pub mod machine;
pub mod memory;

pub use crate::transfer;
pub use autocast::{autocast, has_bfloat16};
pub use choose::{load_compilers, resolve, resolve_local, site_packages};
pub use graph::Captured;
