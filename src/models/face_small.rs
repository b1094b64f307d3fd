//! A small face network of ours, for machines and data sets on which the published ones make no sense.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::Network;
use super::layers::{BatchNorm, Init, Linear, Scope, Stages};
use crate::distance::normalize;

/// Four stages of 3x3 convolution, batch normalisation, ReLU and 2x2 max pooling, then one linear layer over all
/// places (aligned faces have their parts at places) to the unit sphere. Not a network of any paper; 0.9 M parameters
/// at 64x64 pixels and 128 numbers, 0.06 G multiply-adds.
#[derive(Debug)]
pub struct FaceSmall {
    stages: Stages,
    last: BatchNorm,
    embedding: Linear,
    width: i64,
}

impl FaceSmall {
    /// Channels of its narrowest layer.
    pub const NARROWEST: i64 = 32;

    /// For images of `size` x `size` pixels, embeddings of `width` numbers, channels 32, 64, 128, 256 divided by
    /// `shrink`.
    ///
    /// # Errors
    /// Where the size is below 16 pixels, or `shrink` leaves no channel.
    pub fn new(at: &Scope, size: i64, width: i64, shrink: i64) -> Result<FaceSmall> {
        ensure!(size >= 16, "four halvings need images of 16 pixels a side or more, not {size}");
        let narrowest = Self::NARROWEST;
        ensure!((1..=narrowest).contains(&shrink), "{narrowest} channels cannot be divided by {shrink}");
        let widths = [narrowest, 64, 128, 256].map(|channels| channels / shrink);
        let (channels, side) = (widths[3], size / 16);
        Ok(FaceSmall {
            stages: Stages::new(at, 3, &widths, true),
            last: at.batch_norm("bn5", channels),
            embedding: at.linear("embedding", channels * side * side, width, Init::GlorotUniform { gain: 1. }, true),
            width,
        })
    }
}

impl Network for FaceSmall {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let x = self.last.forward(&self.stages.forward(images, train), train);
        normalize(&self.embedding.forward(&x.flatten(1, -1)))
    }

    fn width(&self) -> i64 {
        self.width
    }
}
