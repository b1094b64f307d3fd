//! MTCNN's three networks (Zhang et al. 2016, arXiv 1604.02878), by facenet-pytorch's names: `pnet.conv1.weight`, say.

use tch::{Kind, Tensor};

use super::layers::{Conv, Init, Linear, Scope};

/// Outputs and side of each convolution, and the side of the max-pooling behind it (stride 2; 0 where there is none).
const P: &[(i64, i64, i64)] = &[(10, 3, 2), (16, 3, 0), (32, 3, 0)];
const R: &[(i64, i64, i64)] = &[(28, 3, 3), (48, 3, 3), (64, 2, 0)];
const O: &[(i64, i64, i64)] = &[(32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, 0)];

/// One of the three: convolutions with PReLU, a hidden layer, heads. P-net, which sees whole pictures, has no hidden layer,
/// and its heads are convolutions of one pixel.
#[derive(Debug)]
struct Net {
    convs: Vec<(Conv, Tensor, i64)>,
    hidden: Option<(Linear, Tensor)>,
    heads: Vec<Linear>,
    maps: Vec<Conv>,
}

impl Net {
    /// `hidden`: inputs and outputs; the first head tells a face from none, the others have so many outputs.
    fn new(at: &Scope, layers: &[(i64, i64, i64)], hidden: Option<(i64, i64)>, others: &[i64]) -> Net {
        let slope = |number: usize, width: i64| {
            at.sub(format!("prelu{number}")).variable("weight", &[width], Init::Constant(0.25), true)
        };
        let mut inputs = 3;
        let conv = |(i, &(outputs, side, pool)): (usize, &(i64, i64, i64))| {
            let conv = at.biased_conv(&format!("conv{}", i + 1), inputs, outputs, (side, 1, 0));
            inputs = outputs;
            (conv, slope(i + 1, outputs), pool)
        };
        let convs: Vec<_> = layers.iter().enumerate().map(conv).collect();
        let first = layers.len() + 1;
        let hidden = hidden.map(|(inputs, outputs)| {
            let dense = at.linear(&format!("dense{first}"), inputs, outputs, Init::HeNormal, true);
            (dense, slope(first, outputs), outputs)
        });
        let widths = || std::iter::once(2).chain(others.iter().copied()).enumerate();
        let (mut heads, mut maps) = (Vec::new(), Vec::new());
        match &hidden {
            Some((_, _, width)) => heads.extend(widths().map(|(i, outputs)| {
                at.linear(&format!("dense{}_{}", first + 1, i + 1), *width, outputs, Init::HeNormal, true)
            })),
            None => maps.extend(
                widths()
                    .map(|(i, outputs)| at.biased_conv(&format!("conv{first}_{}", i + 1), inputs, outputs, (1, 1, 0))),
            ),
        }
        Net { convs, hidden: hidden.map(|(dense, slope, _)| (dense, slope)), heads, maps }
    }

    /// Pictures `[B, 3, H, W]` to what the heads say, the first as the probability of a face.
    fn forward(&self, x: &Tensor) -> (Tensor, Vec<Tensor>) {
        let mut x = x.shallow_clone();
        for (conv, slope, pool) in &self.convs {
            x = conv.step().run(&x, false).prelu(slope);
            if *pool > 0 {
                x = x.max_pool2d([*pool; 2], [2, 2], [0, 0], [1, 1], true);
            }
        }
        if let Some((hidden, slope)) = &self.hidden {
            // The published weights count columns before rows.
            x = hidden.forward(&x.permute([0, 3, 2, 1]).flatten(1, -1)).prelu(slope);
        }
        let heads =
            self.heads.iter().map(|head| head.forward(&x)).chain(self.maps.iter().map(|map| map.step().run(&x, false)));
        let mut said: Vec<Tensor> = heads.collect();
        (said.remove(0).softmax(1, None::<Kind>).select(1, 1), said)
    }
}

/// P-, R- and O-net. Pictures enter as `(RGB - 127.5) / 128`.
#[derive(Debug)]
pub struct Mtcnn {
    proposal: Net,
    refinement: Net,
    output: Net,
}

impl Mtcnn {
    /// He-normal; made to be loaded over.
    pub fn new(at: &Scope) -> Mtcnn {
        Mtcnn {
            proposal: Net::new(&at.sub("pnet"), P, None, &[4]),
            refinement: Net::new(&at.sub("rnet"), R, Some((576, 128)), &[4]),
            output: Net::new(&at.sub("onet"), O, Some((1152, 256)), &[4, 10]),
        }
    }

    /// Whole pictures `[B, 3, H, W]`, sides of 12 at least, to maps over their 12x12 windows, two pixels apart:
    /// probabilities `[B, h, w]` and shifts of a window's edges in its sides `[B, 4, h, w]`.
    pub fn propose(&self, x: &Tensor) -> (Tensor, Tensor) {
        let (probability, mut said) = self.proposal.forward(x);
        (probability, said.remove(0))
    }

    /// Windows `[B, 3, 24, 24]` to probabilities `[B]` and shifts `[B, 4]`.
    pub fn refine(&self, x: &Tensor) -> (Tensor, Tensor) {
        let (probability, mut said) = self.refinement.forward(x);
        (probability, said.remove(0))
    }

    /// Windows `[B, 3, 48, 48]` to probabilities `[B]`, shifts `[B, 4]`, and five points in the window's sides `[B, 10]`: x of
    /// the eyes, the nose and the corners of the mouth, then y.
    pub fn decide(&self, x: &Tensor) -> (Tensor, Tensor, Tensor) {
        let (probability, mut said) = self.output.forward(x);
        let shifts = said.remove(0);
        (probability, shifts, said.remove(0))
    }
}
