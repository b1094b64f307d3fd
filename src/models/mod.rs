//! The networks: images in, embeddings out.
//!
//! A network is built over a [`tch::nn::VarStore`] whose variables carry the names that torchvision and PyTorch use
//! (`layer1.0.conv1.weight`), so that published weights load by name and an export has the same names. What a parameter
//! starts as depends on the seed and its name alone (see [`layers::Scope`]).
//!
//! Rules of a `forward`, which keep its TorchScript trace good for every batch size, image size and dtype: it never
//! reads `size()`, never names a `Kind`, and takes the batch axis as it comes (`flatten(1, -1)`, never `view`).

pub mod alexnet;
pub mod bn_inception;
mod branches;
mod dropout;
pub mod eigenfaces;
pub mod face_small;
pub mod faces;
mod fold;
pub mod inception;
pub mod label;
pub mod layers;
pub mod lunet;
pub mod mtcnn;
mod normal;
pub mod quadruplet;
pub mod resnet;
pub mod snippet;
pub mod vgg;
mod winograd;

use tch::Tensor;

pub use alexnet::AlexNet;
pub use bn_inception::BnInception;
pub use dropout::{dropout, dropping};
pub use face_small::FaceSmall;
pub use fold::{Held, hold_weights};
pub use lunet::LuNet;
pub use mtcnn::Mtcnn;
pub use normal::Then;
pub use quadruplet::QuadrupletNet;
pub use resnet::{ResNet50, TriNet};
pub use snippet::{FeatureHead, Prepared, Preprocessing, SnippetSmall};
pub use vgg::Vgg16;

/// Mean and deviation of ImageNet's RGB/255, as torchvision's networks expect them.
pub const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// A network that embeds images.
pub trait Network: std::fmt::Debug {
    /// Images, float32 `[B, 3, H, W]`, to embeddings `[B, D]`; nothing is normalised that the paper doesn't normalise.
    /// With `train`, batch normalisation uses the batch's own statistics and updates its running ones.
    /// Any memory layout of the images is right (see [`channels_last`]). Panics, as tch does, where a shape or device
    /// doesn't fit.
    fn forward(&self, images: &Tensor, train: bool) -> Tensor;

    /// D, the width of the embedding.
    fn width(&self) -> i64;
}

impl<N: Network + ?Sized> Network for Box<N> {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        (**self).forward(images, train)
    }

    fn width(&self) -> i64 {
        (**self).width()
    }
}

/// The same values as `x`, `[B, C, H, W]`, laid out in memory as `[B, H, W, C]`. Convolutions then keep that layout to
/// the end of the network, which is 1.5 times as fast on a CPU and the layout that tensor cores want.
pub fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}
