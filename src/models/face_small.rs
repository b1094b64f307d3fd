//! A small face network of ours, for machines and data sets on which the published ones make no sense.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::Network;
use super::fold::Step;
use super::layers::{BatchNorm, Conv, Init, Linear, Scope};
use crate::distance::normalize;

/// Four stages of 3x3 convolution, batch normalisation, ReLU and 2x2 max pooling, then one linear layer over all
/// places (aligned faces have their parts at places) to the unit sphere. Not a network of any paper; 0.9 M parameters
/// at 64x64 pixels and 128 numbers, 0.06 G multiply-adds.
#[derive(Debug)]
pub struct FaceSmall {
    stages: Vec<(Conv, BatchNorm)>,
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
        let (mut inputs, mut side) = (3, size);
        let mut stages = Vec::new();
        for (number, channels) in [narrowest, 64, 128, 256].into_iter().enumerate() {
            let outputs = channels / shrink;
            stages.push((
                at.conv(&format!("conv{}", number + 1), inputs, outputs, 3, 1, 1),
                at.batch_norm(&format!("bn{}", number + 1), outputs),
            ));
            (inputs, side) = (outputs, side / 2);
        }
        Ok(FaceSmall {
            stages,
            last: at.batch_norm("bn5", inputs),
            embedding: at.linear("embedding", inputs * side * side, width, Init::GlorotUniform { gain: 1. }, true),
            width,
        })
    }
}

impl Network for FaceSmall {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let x = self.stages.iter().fold(images.shallow_clone(), |x, (conv, bn)| {
            let x = Step { norm: bn.norm(), slope: Some(0.), ..conv.step() }.run(&x, train);
            x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)
        });
        let x = self.last.forward(&x, train);
        normalize(&self.embedding.forward(&x.flatten(1, -1)))
    }

    fn width(&self) -> i64 {
        self.width
    }
}
