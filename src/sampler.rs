//! Which images make up batch number `step`: a pure function of (seed, step), so that nothing has to be saved.

use std::collections::BTreeMap;

use rand::{Rng, seq::SliceRandom};

/// PK batches (1703.07737, Section 2): P people, K images of each.
///
/// People: a pass is a fresh shuffle of all people, cut into blocks of P; the remainder of a pass is dropped, as in
/// the authors' code. So no person comes twice in a batch, and everyone comes before anyone comes again.
/// Images: without replacement; passes walk through a person's shuffled images K at a time, so that all are seen
/// before any is seen again, as far as the person is drawn. A person with fewer than K has them repeated as evenly
/// as K allows.
#[derive(Debug, Clone)]
pub struct PkSampler {
    people: Vec<Vec<usize>>,
    p: usize,
    k: usize,
    seed: u64,
}

impl PkSampler {
    /// A sampler over items whose identities are `labels` (any numbers). None where there are fewer than `p`
    /// identities, or `p` or `k` is 0.
    pub fn new(labels: &[i64], p: usize, k: usize, seed: u64) -> Option<PkSampler> {
        let mut people: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (item, &label) in labels.iter().enumerate() {
            people.entry(label).or_default().push(item);
        }
        let people: Vec<_> = people.into_values().collect();
        (p > 0 && k > 0 && people.len() >= p).then_some(PkSampler { people, p, k, seed })
    }

    /// How many batches a pass over the people has.
    pub fn batches_per_pass(&self) -> u64 {
        (self.people.len() / self.p) as u64
    }

    /// The P·K items of batch `step`, person after person.
    pub fn batch(&self, step: u64) -> Vec<usize> {
        let (pass, block) = (step / self.batches_per_pass(), step % self.batches_per_pass());
        let mut order: Vec<usize> = (0..self.people.len()).collect();
        // The item u64::MAX keeps people apart from the images below.
        order.shuffle(&mut crate::seed::at(self.seed, pass, u64::MAX));
        let start = block as usize * self.p;
        order[start..start + self.p].iter().flat_map(|&person| self.images(person, pass)).collect()
    }

    fn images(&self, person: usize, pass: u64) -> Vec<usize> {
        let images = &self.people[person];
        if images.len() <= self.k {
            let mut taken: Vec<usize> = images.iter().copied().cycle().take(self.k).collect();
            taken.shuffle(&mut crate::seed::at(self.seed, pass, person as u64));
            return taken;
        }
        // Windows of K along a shuffle that is renewed when all are seen; the last window is moved back to fit.
        let windows = images.len().div_ceil(self.k) as u64;
        let mut order = images.clone();
        order.shuffle(&mut crate::seed::at(self.seed, pass / windows, person as u64));
        let start = ((pass % windows) as usize * self.k).min(images.len() - self.k);
        order[start..start + self.k].to_vec()
    }
}

/// Batches of separate triplets for the losses that do not look across a batch (1703.07737, L_tri and L_L; 42
/// triplets in the paper): anchors, then positives, then negatives.
#[derive(Debug, Clone)]
pub struct TripletSampler {
    /// Identities with two or more items: those that can give an anchor.
    people: Vec<Vec<usize>>,
    /// Every item with its identity's place in `people`, if it has one there.
    items: Vec<(usize, Option<usize>)>,
    triplets: usize,
    seed: u64,
}

impl TripletSampler {
    /// A sampler of `triplets` triplets a batch over items whose identities are `labels`. None where no identity has
    /// two items, or there is only one identity, or `triplets` is 0.
    pub fn new(labels: &[i64], triplets: usize, seed: u64) -> Option<TripletSampler> {
        let mut all: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (item, &label) in labels.iter().enumerate() {
            all.entry(label).or_default().push(item);
        }
        if all.len() < 2 || triplets == 0 {
            return None;
        }
        let (mut people, mut items) = (Vec::new(), vec![(0, None); labels.len()]);
        for group in all.into_values() {
            let place = (group.len() >= 2).then_some(people.len());
            group.iter().for_each(|&item| items[item] = (item, place));
            if place.is_some() {
                people.push(group);
            }
        }
        (!people.is_empty()).then_some(TripletSampler { people, items, triplets, seed })
    }

    /// The 3B items of batch `step`: B anchors, their B positives, B negatives. Anchors' identities run through
    /// shuffles of all people; the two images and the negative are drawn uniformly.
    pub fn batch(&self, step: u64) -> Vec<usize> {
        let (mut anchors, mut positives, mut negatives) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..self.triplets {
            let place = step as usize * self.triplets + i;
            let (pass, turn) = (place / self.people.len(), place % self.people.len());
            let mut order: Vec<usize> = (0..self.people.len()).collect();
            order.shuffle(&mut crate::seed::at(self.seed, pass as u64, u64::MAX));
            let person = order[turn];
            let mut rng = crate::seed::at(self.seed, step, i as u64);
            let mut pair = self.people[person].clone();
            pair.partial_shuffle(&mut rng, 2);
            // partial_shuffle leaves its draw at the end.
            positives.extend(pair.pop());
            anchors.extend(pair.pop());
            negatives.push(loop {
                let (item, of) = self.items[rng.random_range(0..self.items.len())];
                if of != Some(person) {
                    break item;
                }
            });
        }
        [anchors, positives, negatives].concat()
    }
}
