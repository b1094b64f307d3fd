//! LuNet (Hermans et al. 2017, Table 9): a pre-activation residual network of 5 million parameters, trained from scratch.

use anyhow::ensure;
use tch::Tensor;

use super::Network;
use super::fold::Step;
use super::layers::{BatchNorm, Conv, EmbeddingHead, Scope};
use super::normal::Then;

/// Slope of every ReLU below 0, the head's included.
const SLOPE: f64 = 0.3;

/// A row of Table 9: max-pooling 3x3 with stride 2, or a bottleneck `n1 -> n2 -> n2 -> n3`.
#[derive(Debug, Clone, Copy)]
enum Row {
    Pool,
    Block(i64, i64, i64),
}

/// Rows 2 to 17 of Table 9.
const ROWS: [Row; 16] = [
    Row::Block(128, 32, 128),
    Row::Pool,
    Row::Block(128, 32, 128),
    Row::Block(128, 32, 128),
    Row::Block(128, 64, 256),
    Row::Pool,
    Row::Block(256, 64, 256),
    Row::Block(256, 64, 256),
    Row::Pool,
    Row::Block(256, 64, 256),
    Row::Block(256, 64, 256),
    Row::Block(256, 128, 512),
    Row::Pool,
    Row::Block(512, 128, 512),
    Row::Block(512, 128, 512),
    Row::Pool,
];

/// Residual block of version 2: each convolution after batch normalisation and leaky ReLU; where the number of channels
/// changes, the shortcut is a 1x1 convolution of the raw input.
#[derive(Debug)]
struct Block {
    layers: Vec<(BatchNorm, Conv)>,
    projection: Option<Conv>,
}

impl Block {
    /// `layers` are (inputs, outputs, kernel) of convolutions that keep the size of the map.
    fn new(at: &Scope, layers: &[(i64, i64, i64)]) -> Block {
        let (first, last) = (layers[0].0, layers[layers.len() - 1].1);
        Block {
            layers: (1..)
                .zip(layers)
                .map(|(i, &(inputs, outputs, kernel))| {
                    let bn = at.batch_norm(&format!("bn{i}"), inputs);
                    (bn, at.conv(&format!("conv{i}"), inputs, outputs, kernel, 1, kernel / 2))
                })
                .collect(),
            projection: (first != last).then(|| at.conv("projection", first, last, 1, 1, 0)),
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let shortcut = self.projection.as_ref().map(|projection| projection.step().run(x, train));
        let mut out = self.layers[0].0.followed(x, train, &Then::act(SLOPE));
        for (i, (_, conv)) in self.layers.iter().enumerate() {
            out = match self.layers.get(i + 1) {
                Some((bn, _)) => Step { norm: bn.norm(), slope: Some(SLOPE), ..conv.step() }.run(&out, train),
                None => Step { added: Some(shortcut.as_ref().unwrap_or(x)), ..conv.step() }.run(&out, train),
            };
        }
        out
    }
}

/// LuNet for images of one size.
///
/// Where Table 9 leaves it open: convolutions have no bias, batch normalisation and leaky ReLU also follow the first
/// one, none stands before the head. That is 4 994 432 trainable parameters (the paper: 5.00 million).
#[derive(Debug)]
pub struct LuNet {
    conv1: Conv,
    bn1: BatchNorm,
    /// `None` is a max-pooling.
    rows: Vec<Option<Block>>,
    last: Block,
    head: EmbeddingHead,
}

impl LuNet {
    /// Channels of its narrowest layer, which the numbers of channels are divided as.
    pub const NARROWEST: i64 = 32;

    /// A LuNet for images of `height` x `width` (128 x 64 in the paper; multiples of 32). `shrink` divides every number
    /// of channels but the embedding's 128: 1 is the paper's network, and anything else (2, 4, 8, 16 or 32) is a smaller one that
    /// the paper doesn't have, for demonstrations.
    ///
    /// Errors where a size is no positive multiple of 32 or `shrink` doesn't divide 32.
    pub fn new(at: &Scope, height: i64, width: i64, shrink: i64) -> anyhow::Result<LuNet> {
        ensure!(
            height > 0 && width > 0 && height % 32 == 0 && width % 32 == 0,
            "LuNet halves its images five times: {height}x{width} should be positive multiples of 32, e.g. 128x64"
        );
        ensure!(
            shrink > 0 && Self::NARROWEST % shrink == 0,
            "LuNet's channels can be divided by 1 (the paper), 2, 4, 8, 16 or 32, not by {shrink}"
        );
        let c = |channels: i64| channels / shrink;
        let mut rows = Vec::new();
        let mut count = 0;
        for row in ROWS {
            rows.push(match row {
                Row::Pool => None,
                Row::Block(n1, n2, n3) => {
                    count += 1;
                    let layers = [(c(n1), c(n2), 1), (c(n2), c(n2), 3), (c(n2), c(n3), 1)];
                    Some(Block::new(&at.sub(format!("block{count}")), &layers))
                }
            });
        }
        let last = Block::new(&at.sub(format!("block{}", count + 1)), &[(c(512), c(512), 3), (c(512), c(128), 3)]);
        let flat = c(128) * (height / 32) * (width / 32);
        Ok(LuNet {
            conv1: at.conv("conv1", 3, c(128), 7, 1, 3),
            bn1: at.batch_norm("bn1", c(128)),
            rows,
            last,
            head: EmbeddingHead::new(&at.sub("head"), flat, c(512), 128, 1.0, SLOPE),
        })
    }

    /// The maps after rows 1 to 18 of Table 9, in order: `[B, C, H, W]` each.
    pub fn maps(&self, images: &Tensor, train: bool) -> Vec<Tensor> {
        let mut maps = vec![self.first(images, train)];
        for row in &self.rows {
            maps.push(Self::row(row.as_ref(), &maps[maps.len() - 1], train));
        }
        maps.push(self.last.forward(&maps[maps.len() - 1], train));
        maps
    }

    fn first(&self, images: &Tensor, train: bool) -> Tensor {
        Step { norm: self.bn1.norm(), slope: Some(SLOPE), ..self.conv1.step() }.run(images, train)
    }

    fn row(block: Option<&Block>, x: &Tensor, train: bool) -> Tensor {
        match block {
            Some(block) => block.forward(x, train),
            None => x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false),
        }
    }
}

impl Network for LuNet {
    fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let x = self.rows.iter().fold(self.first(images, train), |x, row| Self::row(row.as_ref(), &x, train));
        self.head.forward(&self.last.forward(&x, train).flatten(1, -1), train)
    }

    fn width(&self) -> i64 {
        128
    }
}
