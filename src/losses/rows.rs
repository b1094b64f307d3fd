//! Which entries of a distance matrix a triplet loss adds and subtracts, and how often: on the CPU, row by row.
//!
//! The tensor forms in `triplet` serve every device; these give the same numbers where the matrix is in this machine's
//! memory. An anchor's positives are few, so that comparing each with all entries of the row (which the compiler turns
//! into vector instructions) is several times faster than sorting the row.

use rayon::prelude::*;
use tch::{Device, Kind, Tensor, kind::Element};

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
            let poison: f64 = row.iter().fold(0., |sum, &x| sum + 0. * x.into()) * 0.;
            let same = &members[&labels[a]];
            let mut share = Share { value: poison, ..Share::default() };
            if same.len() < 2 || same.len() == batch {
                return share;
            }
            negative.iter_mut().zip(&labels).for_each(|(n, label)| *n = i32::from(*label != labels[a]));
            let anchor = Anchor { a, row, same, negative };
            match form {
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

/// Entries side by side in [`least`]: a compiler may not reorder one running minimum, but keeps sixteen in registers.
const LANES: usize = 16;

/// The least of `of(x[i], also[i])`, infinity for an empty `x`. Chunks of one length, so that no bound is checked within.
fn least<T: Real, A: Copy>(x: &[T], also: &[A], of: impl Fn(T, A) -> T) -> T {
    let mut lanes = [T::INFINITY; LANES];
    let ((x, x_rest), (also, also_rest)) = (x.as_chunks::<LANES>(), also.as_chunks::<LANES>());
    for (x, also) in x.iter().zip(also) {
        for lane in 0..LANES {
            let value = of(x[lane], also[lane]);
            lanes[lane] = if value < lanes[lane] { value } else { lanes[lane] };
        }
    }
    let smaller = |near: T, value: T| if value < near { value } else { near };
    let rest = x_rest.iter().zip(also_rest).map(|(&x, &also)| of(x, also)).fold(T::INFINITY, smaller);
    lanes.into_iter().fold(rest, smaller)
}

/// For every row of `x` `[B, D]` (CPU, f32 or f64) that has both, the rows of its farthest positive and of its nearest
/// negative: anchors, positives, negatives. Of equally far ones the lowest. By blocks of the centred Gram matrix, so
/// that B² numbers are never in memory at once.
pub(super) fn hardest(x: &Tensor, labels: &Tensor) -> [Vec<i64>; 3] {
    match x.kind() {
        Kind::Double => hardest_of::<f64>(x, labels),
        _ => hardest_of::<f32>(x, labels),
    }
}

/// Numbers of a block: they stay in the cache.
const BLOCK: usize = 1 << 17;

fn hardest_of<T: Real>(x: &Tensor, labels: &Tensor) -> [Vec<i64>; 3] {
    let x = x - x.mean_dim(0, true, None::<Kind>);
    let batch = x.size()[0] as usize;
    let labels: Vec<i64> = Vec::try_from(labels.to_kind(Kind::Int64)).unwrap_or_default();
    assert_eq!(labels.len(), batch, "one label a row");
    // As wide as an f32, so that a row and its labels go through vector registers together.
    let mut places = std::collections::HashMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    let mut group = Vec::with_capacity(batch);
    for (row, label) in labels.iter().enumerate() {
        let place = *places.entry(*label).or_insert(members.len());
        if place == members.len() {
            members.push(Vec::new());
        }
        members[place].push(row);
        group.push(place as i32);
    }
    let squares = x.square().sum_dim_intlist(1, false, None::<Kind>).unsqueeze(0);
    let (right, left) = (x.transpose(0, 1), &x * -2.);
    let rows = (BLOCK / batch.max(1)).clamp(1, batch.max(1));
    let mut block = vec![T::ZERO; rows * batch];
    let mut found = [Vec::new(), Vec::new(), Vec::new()];
    for start in (0..batch).step_by(rows) {
        let count = rows.min(batch - start);
        // |y|² - 2 x·y: the squared distance less what the whole row shares.
        let d = squares.addmm(&left.narrow(0, start as i64, count as i64), &right);
        d.contiguous().copy_data(&mut block, count * batch);
        let choose = |(i, row): (usize, &[T])| -> Option<[i64; 3]> {
            let a = start + i;
            let own = group[a];
            let mut far: Option<usize> = None;
            for &p in members[own as usize].iter().filter(|&&p| p != a) {
                if far.is_none_or(|f| row[p] > row[f]) {
                    far = Some(p);
                }
            }
            let near = least(row, &group, |d, group| if group != own { d } else { T::INFINITY });
            let n = row.iter().zip(&group).position(|(&d, &group)| (d == near) & (group != own));
            Some([a as i64, far? as i64, n? as i64])
        };
        let chosen: Vec<Option<[i64; 3]>> = block[..count * batch].par_chunks(batch).enumerate().map(choose).collect();
        for triple in chosen.into_iter().flatten() {
            found.iter_mut().zip(triple).for_each(|(list, row)| list.push(row));
        }
    }
    found
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

    /// The smallest entry of a negative that is above `floor` (of all negatives where it is None), infinity where there
    /// is none.
    fn nearest_above(&self, floor: Option<T>) -> T {
        match floor {
            None => least(self.row, self.negative, |d, other| if other != 0 { d } else { T::INFINITY }),
            Some(floor) => {
                least(self.row, self.negative, |d, other| if (other != 0) & (d > floor) { d } else { T::INFINITY })
            }
        }
    }

    fn all(&self, m: T, count: &mut [i32], weight: &mut [T], share: &mut Share) {
        count.fill(0);
        let negatives = (self.row.len() - self.same.len()) as i64;
        for p in self.positives() {
            let reach = self.row[p] + m;
            let mut added = 0;
            for ((&d, &n), count) in self.row.iter().zip(self.negative).zip(count.iter_mut()) {
                // Wrapping: an overflow check (B is below 2³¹) would keep this from being vectorised.
                let violated = i32::from(reach > d) & n;
                *count = count.wrapping_add(violated);
                added = i32::wrapping_add(added, violated);
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
