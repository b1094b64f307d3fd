//! Networks that embed faces, by name.

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::inception::{GoogLeNet, InceptionResnetV1, NARROWEST, Nn1, Nn2};
use super::layers::Scope;
use super::{FaceSmall, Network};

/// A network from a face to a point of the unit sphere; tables and sections are those of 1503.03832.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaceNet {
    /// Zeiler and Fergus with 1x1 convolutions, 220x220, 140 M parameters (Table 1)
    Nn1,
    /// Inception, 224x224, 7.5 M parameters (Table 2)
    Nn2,
    /// NN2 at 160x160
    Nn3,
    /// NN2 at 96x96 without 5x5 convolutions in the last modules
    Nn4,
    /// openface's nn4.small2 as its definition says, 96x96, 3.7 M parameters
    Nn4Small2,
    /// openface's nn4.small2 as its released weights need it
    Nn4Small2Released,
    /// Inception-ResNet-v1, 160x160, 23.5 M parameters (facenet, facenet-pytorch)
    InceptionResnetV1,
    /// torchvision's GoogLeNet with a new last layer, 224x224, 5.7 M parameters
    Googlenet,
    /// Ours, for small machines
    Small,
}

impl FaceNet {
    /// Pixels a side that it was published for.
    pub fn size(self) -> u32 {
        match self {
            FaceNet::Nn1 => 220,
            FaceNet::Nn2 | FaceNet::Googlenet => 224,
            FaceNet::Nn3 | FaceNet::InceptionResnetV1 => 160,
            FaceNet::Nn4 | FaceNet::Nn4Small2 | FaceNet::Nn4Small2Released => 96,
            FaceNet::Small => 64,
        }
    }

    /// Channels of its narrowest layer: all channel counts are divided by no more.
    pub fn narrowest(self) -> i64 {
        if self == FaceNet::Small { FaceSmall::NARROWEST } else { NARROWEST }
    }

    /// Mean and deviation that its input is normalised by (of RGB/255).
    pub fn input(self) -> ([f32; 3], [f32; 3]) {
        match self {
            // openface: plain [0, 1].
            FaceNet::Nn4Small2 | FaceNet::Nn4Small2Released => ([0.; 3], [1.; 3]),
            // torchvision's transform_input.
            FaceNet::Googlenet => ([0.5; 3], [0.5; 3]),
            // facenet's fixed standardisation, (x - 127.5) / 128.
            _ => ([0.5; 3], [128. / 255.; 3]),
        }
    }

    /// One of 1503.03832, which may have batch normalisation or not; the others have theirs always.
    pub fn is_of_facenet(self) -> bool {
        matches!(self, FaceNet::Nn1 | FaceNet::Nn2 | FaceNet::Nn3 | FaceNet::Nn4)
    }

    /// The network for images of `size` pixels a side and rows of `width`, all channel counts divided by `shrink`.
    ///
    /// # Errors
    /// Where the images or the channels are too few for it.
    pub fn build(self, at: &Scope, size: u32, width: i64, shrink: i64, batch_norm: bool) -> Result<Box<dyn Network>> {
        fn boxed<N: Network + 'static>(net: Result<N>) -> Result<Box<dyn Network>> {
            net.map(|net| Box::new(net) as _)
        }
        let size = i64::from(size);
        match self {
            FaceNet::Nn1 => boxed(Nn1::new(at, size, width, shrink, batch_norm)),
            FaceNet::Nn2 | FaceNet::Nn3 => boxed(Nn2::new(at, size, width, shrink, batch_norm)),
            FaceNet::Nn4 => boxed(Nn2::nn4(at, size, width, shrink, batch_norm)),
            FaceNet::Nn4Small2 => boxed(Nn2::small2(at, size, width, shrink, false)),
            FaceNet::Nn4Small2Released => boxed(Nn2::small2(at, size, width, shrink, true)),
            FaceNet::InceptionResnetV1 => boxed(InceptionResnetV1::new(at, size, width, shrink)),
            FaceNet::Googlenet => boxed(GoogLeNet::new(at, size, width, shrink)),
            FaceNet::Small => boxed(FaceSmall::new(at, size, width, shrink)),
        }
    }
}
