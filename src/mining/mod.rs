//! Which pairs, triplets and quadruplets of a batch to learn from.
//!
//! A miner returns indices, and no gradient passes through it. An index list has a length that depends on the data,
//! so making one on a GPU waits for it once; the losses of [`crate::losses`] use the masks and weights of this
//! module instead, and never wait.
//!
//! Conventions: `dist` is `[B, B]` with rows as anchors (any float kind), `labels` is int64 `[B]` on any device.
//! An anchor's positives are the other rows of its identity; its negatives are the rows of other identities. Ties go
//! to the lower index. NaN distances are never chosen over numbers as a nearest negative.

mod offline;
mod triplets;

pub use offline::hardest_in_pool;
pub(crate) use triplets::{Choice, Masks, choose};
pub use triplets::{batch_hard, every_pair, semi_hard};

use std::collections::HashMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::real::numbers;

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

/// [`Negative`] by name, as a flag takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NegativeRule {
    /// The nearest with d_ap < d_an < d_ap + margin (Eq. 4)
    Nearest,
    /// A random one with d_ap < d_an < d_ap + margin
    RandomInMargin,
    /// A random one with d_an < d_ap + margin
    Violating,
    /// The nearest with d_an > d_ap, else the farthest (TensorFlow Addons)
    Addons,
    /// The nearest of all (collapses early, Section 3.2)
    Hardest,
}

impl NegativeRule {
    /// The rule, random ones by this seed.
    pub fn by(self, seed: u64) -> Negative {
        match self {
            NegativeRule::Nearest => Negative::SemiHard(Pick::Nearest),
            NegativeRule::RandomInMargin => Negative::SemiHard(Pick::Random(seed)),
            NegativeRule::Violating => Negative::Violating(seed),
            NegativeRule::Addons => Negative::Addons,
            NegativeRule::Hardest => Negative::Hardest,
        }
    }
}

/// Who is who in a batch.
pub(crate) struct Groups {
    /// The identity of each row, numbered from 0 in order of first rows: as wide as an f32, so that a row of distances and
    /// its identities go through vector registers together.
    pub group: Vec<i32>,
    /// The rows of each identity, ascending.
    pub members: Vec<Vec<usize>>,
}

impl Groups {
    /// Of int64 `labels` `[batch]`; those on a GPU are waited for.
    pub fn of(labels: &Tensor, batch: usize) -> Groups {
        let labels = numbers::<i64>(&labels.to_kind(Kind::Int64));
        assert_eq!(labels.len(), batch, "one label a row");
        let mut places = HashMap::new();
        let mut groups = Groups { group: Vec::with_capacity(batch), members: Vec::new() };
        for (row, label) in labels.into_iter().enumerate() {
            let place = *places.entry(label).or_insert(groups.members.len());
            if place == groups.members.len() {
                groups.members.push(Vec::new());
            }
            groups.members[place].push(row);
            groups.group.push(place as i32);
        }
        groups
    }

    /// The most rows that one identity has; 0 without rows.
    pub fn largest(&self) -> usize {
        self.members.iter().map(Vec::len).max().unwrap_or(0)
    }
}
