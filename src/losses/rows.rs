//! Which entries of a distance matrix a triplet loss adds and subtracts, and how often: on the CPU, row by row.
//!
//! The tensor forms in `triplet` serve every device; these give the same numbers where the matrix is in this machine's
//! memory. An anchor's positives are few, so that comparing each with all entries of the row (which the compiler turns
//! into vector instructions) is several times faster than sorting the row.

use rayon::prelude::*;
use tch::{Device, Kind, Tensor, kind::Element};

use super::Margin;
use crate::mining::{Negative, Pick};

/// f32 and f64.
pub(super) trait Real:
    Element + Copy + PartialOrd + Send + Sync + Into<f64> + std::ops::Add<Output = Self>
{
    const INFINITY: Self;
    fn of(x: f64) -> Self;
}

impl Real for f32 {
    const INFINITY: f32 = f32::INFINITY;
    fn of(x: f64) -> f32 {
        x as f32
    }
}

impl Real for f64 {
    const INFINITY: f64 = f64::INFINITY;
    fn of(x: f64) -> f64 {
        x
    }
}

/// What a loss takes from the matrix.
#[derive(Debug)]
pub(super) struct Weights {
    /// `[B, B]`, the kind of the distances: the derivative of the sum with respect to each.
    pub weight: Tensor,
    /// The sum of all terms.
    pub value: f64,
    /// How many terms there are.
    pub terms: i64,
    /// How many of them are above 0.
    pub active: i64,
}

/// What is summed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Hard(Margin),
    All(f64),
    EveryPair(f64, Negative),
}

/// The weights of `form` on `dist` `[B, B]` (CPU, f32 or f64) with int64 `labels` `[B]`; None where these routines
/// don't serve: another device or kind, or a random pick.
pub(super) fn weights(dist: &Tensor, labels: &Tensor, form: Form) -> Option<Weights> {
    let served = !matches!(form, Form::EveryPair(_, Negative::SemiHard(Pick::Random(_)) | Negative::Violating(_)));
    if !served || dist.device() != Device::Cpu || labels.device() != Device::Cpu {
        return None;
    }
    match dist.kind() {
        Kind::Float => Some(over_rows::<f32>(dist, labels, form)),
        Kind::Double => Some(over_rows::<f64>(dist, labels, form)),
        _ => None,
    }
}

/// A row's share of the result.
#[derive(Default, Clone, Copy)]
struct Share {
    value: f64,
    terms: i64,
    active: i64,
}

fn over_rows<T: Real>(dist: &Tensor, labels: &Tensor, form: Form) -> Weights {
    let dist = dist.detach().contiguous();
    let batch = dist.size()[0] as usize;
    let labels: Vec<i64> = Vec::try_from(labels.to_kind(Kind::Int64)).unwrap_or_default();
    assert_eq!(labels.len(), batch, "one label a row of the distances");
    let mut d = vec![T::ZERO; batch * batch];
    dist.copy_data(&mut d, batch * batch);
    let mut members: std::collections::HashMap<i64, Vec<usize>> = std::collections::HashMap::new();
    labels.iter().enumerate().for_each(|(row, &label)| members.entry(label).or_default().push(row));
    let mut weight = vec![T::ZERO; batch * batch];
    let shares = weight.par_chunks_mut(batch.max(1)).zip(d.par_chunks(batch.max(1))).enumerate().map_init(
        || (vec![0_i32; batch], vec![0_i32; batch]),
        |(negative, count), (a, (weight, row))| {
            // A NaN anywhere makes the sum NaN, whatever reads it.
            let poison: f64 = if row.iter().any(|x| x.partial_cmp(x).is_none()) { f64::NAN } else { 0. };
            let same = &members[&labels[a]];
            let mut share = Share { value: poison, ..Share::default() };
            if same.len() < 2 || same.len() == batch {
                return share;
            }
            negative.iter_mut().zip(&labels).for_each(|(n, label)| *n = i32::from(*label != labels[a]));
            let anchor = Anchor { a, row, same, negative };
            match form {
                Form::Hard(margin) => anchor.hardest(margin, weight, &mut share),
                Form::All(m) => anchor.all(T::of(m), count, weight, &mut share),
                Form::EveryPair(m, rule) => anchor.every_pair(T::of(m), rule, weight, &mut share),
            }
            share
        },
    );
    // In order of rows, so that the last bit does not depend on the threads.
    let shares: Vec<Share> = shares.collect();
    let sum = |of: fn(&Share) -> i64| shares.iter().map(of).sum();
    Weights {
        weight: Tensor::from_slice(&weight).view([batch as i64, batch as i64]),
        value: shares.iter().map(|share| share.value).sum(),
        terms: sum(|share| share.terms),
        active: sum(|share| share.active),
    }
}

/// One row of the matrix.
struct Anchor<'a, T> {
    a: usize,
    row: &'a [T],
    /// Rows of the anchor's identity, itself among them.
    same: &'a [usize],
    /// 1 for rows of other identities.
    negative: &'a [i32],
}

impl<T: Real> Anchor<'_, T> {
    fn positives(&self) -> impl Iterator<Item = usize> + '_ {
        self.same.iter().copied().filter(|&p| p != self.a)
    }

    /// The smallest entry of a negative that is above `floor`, infinity where there is none.
    fn nearest_above(&self, floor: Option<T>) -> T {
        let entries = self.row.iter().zip(self.negative);
        match floor {
            None => entries.fold(T::INFINITY, |near, (&d, &n)| if n != 0 && d < near { d } else { near }),
            Some(floor) => {
                entries.fold(T::INFINITY, |near, (&d, &n)| if n != 0 && d > floor && d < near { d } else { near })
            }
        }
    }

    fn hardest(&self, margin: Margin, weight: &mut [T], share: &mut Share) {
        let far = self.positives().map(|p| self.row[p]).fold(None, |far: Option<T>, d| match far {
            Some(far) if far >= d => Some(far),
            _ => Some(d),
        });
        let Some(far) = far else { return };
        let near = self.nearest_above(None);
        let z: f64 = far.into() - near.into();
        let (charge, slope) = match margin {
            Margin::Hard(m) => {
                // In the matrix's own precision, as the tensor form has it.
                let z: f64 = (T::of(z) + T::of(m)).into();
                (z.max(0.), if z > 0. { 1. } else { 0. })
            }
            Margin::Soft => (z.max(0.) + (-z.abs()).exp().ln_1p(), 1. / (1. + (-z).exp())),
        };
        share.terms = 1;
        share.value += charge;
        share.active = i64::from(charge > 0.);
        // Of equally far (or near) ones each gets its share of the gradient.
        let ties = |here: &mut dyn Iterator<Item = usize>, value: T| -> Vec<usize> {
            here.filter(|&j| self.row[j] == value).collect()
        };
        let fars = ties(&mut self.positives(), far);
        let nears = ties(&mut (0..self.row.len()).filter(|&n| self.negative[n] != 0), near);
        fars.iter().for_each(|&p| weight[p] = T::of(slope / fars.len() as f64));
        nears.iter().for_each(|&n| weight[n] = T::of(-slope / nears.len() as f64));
    }

    fn all(&self, m: T, count: &mut [i32], weight: &mut [T], share: &mut Share) {
        count.fill(0);
        let negatives = (self.row.len() - self.same.len()) as i64;
        for p in self.positives() {
            let reach = self.row[p] + m;
            let mut added = 0;
            for ((&d, &n), count) in self.row.iter().zip(self.negative).zip(count.iter_mut()) {
                let violated = i32::from(reach > d) & n;
                *count += violated;
                added += violated;
            }
            weight[p] = T::of(f64::from(added));
            share.value += f64::from(added) * (self.row[p].into() + m.into());
            share.active += i64::from(added);
            share.terms += negatives;
        }
        let mut subtracted = 0.;
        for ((&d, &count), weight) in
            self.row.iter().zip(&*count).zip(weight.iter_mut()).filter(|((_, count), _)| **count > 0)
        {
            *weight = T::of(-f64::from(count));
            subtracted += f64::from(count) * d.into();
        }
        share.value -= subtracted;
    }

    fn every_pair(&self, m: T, rule: Negative, weight: &mut [T], share: &mut Share) {
        // The rows of the negatives, ascending, for many positives: sorted once.
        let sorted = (self.same.len() > 256).then(|| {
            let mut entries: Vec<(T, usize)> =
                (0..self.row.len()).filter(|&n| self.negative[n] != 0).map(|n| (self.row[n], n)).collect();
            entries.sort_by(|x, y| x.0.partial_cmp(&y.0).unwrap_or(std::cmp::Ordering::Equal).then(x.1.cmp(&y.1)));
            entries
        });
        let nearest = match rule {
            Negative::Hardest => Some(self.nearest_above(None)),
            _ => None,
        };
        for p in self.positives() {
            let d_ap = self.row[p];
            if d_ap.partial_cmp(&d_ap).is_none() {
                continue;
            }
            let mut d_an = nearest.unwrap_or_else(|| match &sorted {
                Some(sorted) => {
                    let at = sorted.partition_point(|(d, _)| *d <= d_ap);
                    sorted.get(at).map_or(T::INFINITY, |(d, _)| *d)
                }
                None => self.nearest_above(Some(d_ap)),
            });
            let found = d_an < T::INFINITY;
            match rule {
                Negative::SemiHard(_) if !found || d_an >= d_ap + m => continue,
                Negative::Addons if !found => {
                    let farthest = (0..self.row.len()).filter(|&n| self.negative[n] != 0).map(|n| self.row[n]);
                    let farthest = farthest.fold(None, |far: Option<T>, d| match far {
                        Some(far) if far > d => Some(far),
                        _ => Some(d),
                    });
                    let Some(farthest) = farthest else { continue };
                    d_an = farthest;
                }
                _ if !found => continue,
                _ => {}
            }
            share.terms += 1;
            let gap: f64 = (d_ap + m).into() - d_an.into();
            if gap > 0. {
                let n = (0..self.row.len()).find(|&n| self.negative[n] != 0 && self.row[n] == d_an);
                let Some(n) = n else { continue };
                share.active += 1;
                share.value += d_ap.into() + m.into() - d_an.into();
                weight[p] = weight[p] + T::of(1.);
                weight[n] = weight[n] + T::of(-1.);
            }
        }
    }
}
