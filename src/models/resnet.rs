//! ResNet-50 with torchvision's names, and TriNet, which is that and a head (Hermans et al. 2017, section 4.2).

use tch::Tensor;

use super::Network;
use super::fold::Step;
use super::layers::{BatchNorm, Conv, EmbeddingHead, Scope, Unit};

/// Whose ResNet-50: they differ in where a stage's stride and the first pooling's padding stand, not in any variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Stride on the 3x3; the pooling padded.
    Torchvision,
    /// Stride on the first 1x1 (He et al. 2016); the pooling not padded, sizes rounded up.
    Caffe,
}

/// Deep residual bottleneck: 1x1 to `mid`, 3x3, 1x1 to `4 mid`.
#[derive(Debug)]
struct Bottleneck {
    convs: [Conv; 3],
    bns: [BatchNorm; 3],
    downsample: Option<(Conv, BatchNorm)>,
}

impl Bottleneck {
    fn new(at: &Scope, inputs: i64, mid: i64, stride: i64, kind: Kind) -> Bottleneck {
        let outputs = 4 * mid;
        let (first, second) = if kind == Kind::Caffe { (stride, 1) } else { (1, stride) };
        Bottleneck {
            convs: [
                at.conv("conv1", inputs, mid, 1, first, 0),
                at.conv("conv2", mid, mid, 3, second, 1),
                at.conv("conv3", mid, outputs, 1, 1, 0),
            ],
            bns: [at.batch_norm("bn1", mid), at.batch_norm("bn2", mid), at.batch_norm("bn3", outputs)],
            downsample: (stride != 1 || inputs != outputs).then(|| {
                let at = at.sub("downsample");
                (at.conv("0", inputs, outputs, 1, stride, 0), at.batch_norm("1", outputs))
            }),
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let step = |i: usize| Step { norm: self.bns[i].norm(), slope: Some(0.), ..self.convs[i].step() };
        let out = step(1).run(&step(0).run(x, train), train);
        let shortcut = self.downsample.as_ref().map(|(conv, bn)| Step { norm: bn.norm(), ..conv.step() }.run(x, train));
        Step { added: Some(shortcut.as_ref().unwrap_or(x)), ..step(2) }.run(&out, train)
    }
}

/// ResNet-50 up to its last feature map; the names are those of torchvision's `resnet50().state_dict()`
/// without `fc` and `num_batches_tracked`.
#[derive(Debug)]
pub struct ResNet50 {
    first: Unit,
    blocks: Vec<Bottleneck>,
    kind: Kind,
}

impl ResNet50 {
    /// Channels of the feature map.
    pub const CHANNELS: i64 = 2048;

    /// Makes the variables at `at`, He normal; 23 508 032 of them are trainable.
    pub fn new(at: &Scope) -> ResNet50 {
        ResNet50::of(at, Kind::Torchvision)
    }

    /// As [`ResNet50::new`], with strides and first pooling where Caffe's network (He et al.'s own) has them.
    pub fn caffe(at: &Scope) -> ResNet50 {
        ResNet50::of(at, Kind::Caffe)
    }

    fn of(at: &Scope, kind: Kind) -> ResNet50 {
        let first = Unit { conv: at.conv("conv1", 3, 64, 7, 2, 3), norm: Some(at.batch_norm("bn1", 64)) };
        let mut blocks = Vec::new();
        let mut inputs = 64;
        for (stage, (mid, count)) in [(64, 3), (128, 4), (256, 6), (512, 3)].into_iter().enumerate() {
            let at = at.sub(format!("layer{}", stage + 1));
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(Bottleneck::new(&at.sub(block), inputs, mid, stride, kind));
                inputs = 4 * mid;
            }
        }
        ResNet50 { first, blocks, kind }
    }

    /// `[B, 3, H, W]` to the feature map `[B, 2048, H / 32, W / 32]`, sizes rounded up.
    pub fn features(&self, images: &Tensor, train: bool) -> Tensor {
        let x = self.first.forward(images, train);
        let x = match self.kind {
            Kind::Torchvision => x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false),
            Kind::Caffe => x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], true),
        };
        self.blocks.iter().fold(x, |x, block| block.forward(&x, train))
    }
}

/// TriNet: ResNet-50, global average pool, 1024 hidden units with batch normalisation and ReLU, 128 numbers.
/// 25 738 432 trainable parameters. Images of any size, 256x128 in the paper.
///
/// The paper's own ResNet-50 came from Caffe (stride on the first 1x1); this one is torchvision's (stride on the 3x3).
/// Its input is RGB in 0..1, less the mean of [`super::IMAGENET`], over its deviation.
#[derive(Debug)]
pub struct TriNet {
    backbone: ResNet50,
    head: EmbeddingHead,
}

impl TriNet {
    /// Makes the variables at the top of a store: the backbone by torchvision's names, the head's under `head.`.
    pub fn new(at: &Scope) -> TriNet {
        TriNet::of(at, Kind::Torchvision)
    }

    /// The paper's own network, whose weights its authors published for MARS and Market-1501 (see
    /// `Published::TRINET` of the weights): Caffe's ResNet-50, the same variables as [`TriNet::new`]. Its input
    /// is RGB in 0..255 less [`TriNet::CAFFE_MEAN`].
    pub fn caffe(at: &Scope) -> TriNet {
        TriNet::of(at, Kind::Caffe)
    }

    /// The mean red, green and blue (0..255) that the authors' trinet_embed.py takes off.
    pub const CAFFE_MEAN: [f64; 3] = [123.15163084, 115.90288257, 103.0626238];

    fn of(at: &Scope, kind: Kind) -> TriNet {
        // Lasagne's GlorotUniform('relu'), which the authors used before the ReLU, has gain sqrt(2).
        let head = EmbeddingHead::new(&at.sub("head"), ResNet50::CHANNELS, 1024, 128, std::f64::consts::SQRT_2, 0.0);
        TriNet { backbone: ResNet50::of(at, kind), head }
    }
}

impl Network for TriNet {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let x = self.backbone.features(images, train).adaptive_avg_pool2d([1, 1]).flatten(1, -1);
        self.head.forward(&x, train)
    }

    fn width(&self) -> i64 {
        128
    }
}
