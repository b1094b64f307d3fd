//! Face networks: the paper's NN1 to NN4 (1503.03832, Tables 1 and 2, Section 3.3), openface's nn4.small2,
//! Inception-ResNet-v1, torchvision's GoogLeNet. All end on the unit sphere.

mod googlenet;
mod nn1;
mod nn2;
mod resnet_v1;

use anyhow::{Result, ensure};
use tch::Tensor;

pub use googlenet::GoogLeNet;
pub use nn1::Nn1;
pub use nn2::Nn2;
pub use resnet_v1::InceptionResnetV1;

/// Channels of these networks' narrowest layers.
pub(super) const NARROWEST: i64 = 16;

/// Divided channel counts.
#[derive(Debug, Clone, Copy)]
struct Shrink(i64);

impl Shrink {
    fn new(by: i64) -> Result<Shrink> {
        ensure!(
            (1..=NARROWEST).contains(&by),
            "the narrowest layer has {NARROWEST} channels: divide by less, not by {by}"
        );
        Ok(Shrink(by))
    }

    fn of(self, channels: i64) -> i64 {
        (channels / self.0).max(1)
    }
}

/// Max pooling 3x3 with this stride and padding.
fn max_pool(x: &Tensor, stride: i64, padding: i64) -> Tensor {
    x.max_pool2d([3, 3], [stride, stride], [padding, padding], [1, 1], false)
}

/// Local response normalisation across channels (Krizhevsky et al. 2012, Section 3.3) with openface's and Caffe's
/// constants: size 5, α 1e-4 divided by the size, β 0.75, k 1. The paper gives none.
///
/// `x` `[B, C, H, W]`; the window runs over channels c-2..=c+2 that exist.
pub fn local_response_norm(x: &Tensor) -> Tensor {
    // A sum over neighbours is a convolution 1x1 by a band of ones, for which libraries are fast, forward and backward.
    let ones = x.detach().narrow(0, 0, 0).sum_dim_intlist(&[0, 2, 3][..], false, None) + 1.; // [C], where x is
    let band = ones.outer(&ones).tril(2).triu(-2) * 0.2;
    // Scaled before it is squared: 65,504 is the largest f16.
    let over = (x * 1e-4 * x).conv2d(&band.unsqueeze(-1).unsqueeze(-1), None::<&Tensor>, 1, 0, 1, 1);
    // (1 + over)^-0.75; CUDA's autocast takes both functions in f32.
    x * (over.log1p() * -0.75).exp().type_as(x)
}

/// L2 pooling (1503.03832, Table 2): `sqrt(Σ v²)` over 3x3 windows with this stride and padding. Its gradient at an
/// all-zero window is 0 (but in f16, which has no such small number: no training in f16).
pub fn l2_pool(x: &Tensor, stride: i64, padding: i64) -> Tensor {
    let sum = (x * x).avg_pool2d([3, 3], [stride, stride], [padding, padding], false, true, 1);
    // The smallest normal f32, whose root of 1e-19 stands for 0 and has a slope: the clamp lets none through.
    sum.clamp_min(f64::from(f32::MIN_POSITIVE)).sqrt()
}

/// Maxout (Goodfellow et al. 2013) of two linear pieces: `[B, 2 C]` to `[B, C]`, the larger of entry i and entry C + i.
pub fn maxout(x: &Tensor) -> Tensor {
    let halves = x.chunk(2, 1);
    halves[0].maximum(&halves[1])
}
