//! Which pairs, triplets and quadruplets of a batch to learn from.
//!
//! A miner returns indices, and no gradient passes through it. An index list has a length that depends on the data,
//! so making one on a GPU waits for it once; the losses of [`crate::losses`] use the masks and weights of this
//! module instead, and never wait.
//!
//! Conventions: `dist` is `[B, B]` with rows as anchors (any float kind), `labels` is int64 `[B]` on any device.
//! An anchor's positives are the other rows of its identity; its negatives are the rows of other identities. Ties go
//! to the lower index. NaN distances are never chosen over numbers as a nearest negative.

mod triplets;

pub(crate) use triplets::{Choice, Masks, choose};
pub use triplets::{batch_all, batch_hard, every_pair, semi_hard};

use tch::Tensor;

/// Triplets of batch rows.
#[derive(Debug)]
pub struct Triplets {
    /// int64 `[T]`, row of the anchor.
    pub anchor: Tensor,
    /// int64 `[T]`, row of another image of the anchor's identity.
    pub positive: Tensor,
    /// int64 `[T]`, row of another identity.
    pub negative: Tensor,
}

/// Quadruplets of batch rows (1704.01719, Eq. 3).
#[derive(Debug)]
pub struct Quadruplets {
    /// int64 `[Q]`, row of the anchor.
    pub anchor: Tensor,
    /// int64 `[Q]`, row of another image of the anchor's identity.
    pub positive: Tensor,
    /// int64 `[Q]`, row of a second identity.
    pub negative: Tensor,
    /// int64 `[Q]`, row of a third identity: it shares no identity with the three.
    pub other: Tensor,
}

/// Which of the semi-hard negatives of a pair to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The one nearest to the anchor; of equally near ones, the lower index.
    Nearest,
    /// One drawn uniformly, a pure function of the seed and the pair.
    Random(u64),
}

/// Which negative n an ordered pair (a, p) of one identity is set against; `m` is the margin, d are entries of the
/// distance matrix. 1503.03832 leaves it open (Section 3.2); these are the readings in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negative {
    /// `d_ap < d_an < d_ap + m` (Eq. 4, within the margin), the nearest or a random one; a pair without one gives no
    /// triplet.
    SemiHard(Pick),
    /// `d_an < d_ap + m`, hard ones too, drawn uniformly by this seed; a pair without one gives no triplet. What
    /// openface does, and facenet by the name of VGG Face, both for unordered pairs; here as all rules for ordered ones.
    Violating(u64),
    /// The nearest with `d_an > d_ap`, however far; where there is none, the farthest negative. TensorFlow Addons'
    /// rule: every pair gives a triplet.
    Addons,
    /// The nearest, `argmin_n d_an`: the global rule of Section 3.2, taken within the batch. Every pair gives a
    /// triplet.
    Hardest,
}
