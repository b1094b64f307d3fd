//! Distances of training pairs (1704.01719, Figure 5).

use super::super::reid;
use crate::datasets::Photo;
use crate::metrics::{Score, mean_and_spread};
use crate::report::Report;
use crate::sampler::QuadrupletSampler;

/// `count` pairs of one person and then as many of two, as places in `photos`, drawn as a batch of quadruplets is:
/// (reference, positive), then (reference, negative); with `across`, each of two cameras. One seed for every model and
/// run, so that they are measured on the same pairs. None where the photos give no quadruplet.
pub fn drawn(photos: &[Photo], count: usize, across: bool) -> Option<Vec<(usize, usize)>> {
    triples(photos, count, across).map(|draw| ends(&draw(0)))
}

/// Draws `count` references, their positives, their negatives.
pub(super) fn triples(photos: &[Photo], count: usize, across: bool) -> Option<impl Fn(u64) -> Vec<usize>> {
    let (people, cameras) = reid::people_and_cameras(photos);
    let sampler = QuadrupletSampler::new(&people, &cameras, count, across, 5)?;
    Some(move |draw| sampler.batch(draw)[..3 * count].to_vec())
}

pub(super) fn ends(rows: &[usize]) -> Vec<(usize, usize)> {
    let (references, others) = rows.split_at(rows.len() / 3);
    references.iter().cycle().copied().zip(others.iter().copied()).collect()
}

/// Distances of pairs of photos: what Figure 5 averages over the training set.
#[derive(Debug, Clone)]
pub struct Distances {
    /// Of one person.
    pub same: Vec<f64>,
    /// Of two people.
    pub different: Vec<f64>,
    /// Whether two cameras saw every pair.
    pub across: bool,
}

impl Distances {
    /// The names of Figure 5's two means among the scores.
    pub const MEANS: [&str; 2] =
        ["training pairs, same person: mean distance", "training pairs, different people: mean distance"];

    /// The names of the spreads beside them.
    pub const SPREADS: [&str; 2] =
        ["training pairs, same person: standard deviation", "training pairs, different people: standard deviation"];

    /// Mean and population standard deviation of both kinds.
    pub fn scores(&self) -> Vec<Score> {
        let of = |kind: usize| {
            let (mean, spread) = mean_and_spread([&self.same, &self.different][kind]);
            [(Self::MEANS[kind], mean), (Self::SPREADS[kind], spread)].map(|(name, x)| Score::new(name, x).neither())
        };
        [0, 1].into_iter().flat_map(of).collect()
    }

    /// Histograms, means and spreads in their legend.
    pub fn show(&self, report: &mut Report) {
        let group = |(name, values): (&str, &Vec<f64>)| {
            let (mean, spread) = mean_and_spread(values);
            (format!("{name}: {mean:.4} ± {spread:.4}"), values.clone())
        };
        let groups: Vec<_> = [("same person", &self.same), ("different people", &self.different)].map(group).into();
        let note = "Means and standard deviations as Figure 5 gives them.";
        report.histogram("Distances of training pairs", note, "distance", &groups, 40);
    }
}
