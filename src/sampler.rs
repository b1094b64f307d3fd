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

/// FaceNet's batches (1503.03832, Section 3.2): P people with up to K faces each, and random faces of other people as
/// further negatives.
///
/// People with two faces or more come in passes as in [`PkSampler`]; one with fewer than K gives all there are. People
/// with one face come as further negatives alone.
#[derive(Debug, Clone)]
pub struct FaceSampler {
    anchors: PkSampler,
    /// Items of `anchors` by their place among all items.
    places: Vec<usize>,
    labels: Vec<i64>,
    k: usize,
    negatives: usize,
    seed: u64,
}

impl FaceSampler {
    /// A sampler over items whose identities are `labels`: `p` people, up to `k` faces each, `negatives` other faces.
    /// None where fewer than `p` identities have two items, or `p` is 0 or `k` below 2.
    pub fn new(labels: &[i64], p: usize, k: usize, negatives: usize, seed: u64) -> Option<FaceSampler> {
        let mut each: BTreeMap<i64, usize> = BTreeMap::new();
        labels.iter().for_each(|&label| *each.entry(label).or_default() += 1);
        let places: Vec<usize> = (0..labels.len()).filter(|&item| each[&labels[item]] > 1).collect();
        let known: Vec<i64> = places.iter().map(|&item| labels[item]).collect();
        let anchors = PkSampler::new(&known, p, k, seed).filter(|_| k > 1)?;
        Some(FaceSampler { anchors, places, labels: labels.to_vec(), k, negatives, seed })
    }

    /// The most items that a batch can have.
    pub fn most(&self) -> usize {
        self.anchors.p * self.k + self.negatives
    }

    /// The items of batch `step`, person after person, the further negatives last; none comes twice.
    pub fn batch(&self, step: u64) -> Vec<usize> {
        self.draw(step).0
    }

    /// The identities of [`FaceSampler::batch`]'s items for the loss. Every further negative has one of its own (-1,
    /// -2, ...): two that happen to show one person are neither anchor nor positive, for they are negatives only.
    pub fn identities(&self, step: u64) -> Vec<i64> {
        self.draw(step).1
    }

    /// [`FaceSampler::batch`] and [`FaceSampler::identities`].
    pub fn draw(&self, step: u64) -> (Vec<usize>, Vec<i64>) {
        let mut rows: Vec<usize> = Vec::with_capacity(self.most());
        let mut people = std::collections::BTreeSet::new();
        for images in self.anchors.batch(step).chunks(self.k) {
            // A person with fewer than K was repeated there.
            let unique: std::collections::BTreeSet<usize> = images.iter().map(|&item| self.places[item]).collect();
            people.extend(unique.first().map(|&item| self.labels[item]));
            rows.extend(unique);
        }
        let anchors = rows.len();
        if self.negatives > 0 {
            let others: Vec<usize> =
                (0..self.labels.len()).filter(|&item| !people.contains(&self.labels[item])).collect();
            // Apart from the anchors' own draws.
            let rng = &mut crate::seed::at(crate::seed::named(self.seed, "negatives"), step, 0);
            let taken = rand::seq::index::sample(rng, others.len(), self.negatives.min(others.len()));
            rows.extend(taken.into_iter().map(|i| others[i]));
        }
        let identity = |(place, &row): (usize, &usize)| match place.checked_sub(anchors) {
            None => self.labels[row],
            Some(further) => -1 - further as i64,
        };
        let identities = rows.iter().enumerate().map(identity).collect();
        (rows, identities)
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

    /// As [`TripletSampler::batch`], with the negatives of `mined`, an item for every item, where there is such a list.
    pub fn with_negatives(&self, step: u64, mined: Option<&[i64]>) -> Vec<usize> {
        let mut items = self.batch(step);
        if let Some(mined) = mined {
            let third = items.len() / 3;
            (0..third).for_each(|i| items[2 * third + i] = mined[items[i]] as usize);
        }
        items
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

/// Batches of quadruplets (1704.01719, Eq. 3 and Figure 3): reference and positive show one person, the negative a
/// second, the last image a third. The paper does not say how they are drawn; here so that all three pairs (reference,
/// positive), (reference, negative) and (last, negative) are seen by two cameras, as test pairs are.
#[derive(Debug, Clone)]
pub struct QuadrupletSampler {
    /// By person: the items by camera.
    people: Vec<BTreeMap<i64, Vec<usize>>>,
    /// Those that can give a reference and its positive.
    references: Vec<usize>,
    /// Where not empty, what references and positives come from in place of draws: person, camera and item, camera and item.
    listed: Vec<(usize, [(i64, usize); 2])>,
    /// In which order: each as often as it has negatives.
    order: Vec<usize>,
    across: bool,
    quadruplets: usize,
    seed: u64,
}

/// Negatives of a listed pair.
const NEGATIVES: usize = 10;

impl QuadrupletSampler {
    /// A sampler of `quadruplets` quadruplets a batch over items with identities `labels` and `cameras` (any
    /// numbers). With `across`, the two images of every pair come from two cameras; else cameras play no part. None
    /// where nobody can be a reference (two images; with `across`, of two cameras), there are fewer than three people,
    /// or `quadruplets` is 0.
    ///
    /// # Panics
    /// Where the two lists differ in length.
    pub fn new(labels: &[i64], cameras: &[i64], quadruplets: usize, across: bool, seed: u64) -> Option<Self> {
        assert_eq!(labels.len(), cameras.len(), "a camera for every item");
        let mut people: BTreeMap<i64, BTreeMap<i64, Vec<usize>>> = BTreeMap::new();
        for (item, (&label, &camera)) in labels.iter().zip(cameras).enumerate() {
            let camera = if across { camera } else { 0 };
            people.entry(label).or_default().entry(camera).or_default().push(item);
        }
        let people: Vec<_> = people.into_values().collect();
        let able = |seen: &BTreeMap<i64, Vec<usize>>| {
            if across { seen.len() > 1 } else { seen.values().any(|items| items.len() > 1) }
        };
        let references: Vec<usize> = (0..people.len()).filter(|&person| able(&people[person])).collect();
        let enough = !references.is_empty() && people.len() > 2 && quadruplets > 0;
        let (listed, order) = (Vec::new(), Vec::new());
        enough.then_some(QuadrupletSampler { people, references, listed, order, across, quadruplets, seed })
    }

    /// The same by a list that is made and shuffled once, and walked through again and again: every two images of a person
    /// by two cameras, in both directions, with ten negatives of the positive's camera each (the authors' sibling code).
    /// Without cameras nothing is listed.
    pub fn listed(mut self) -> Self {
        for (person, seen) in self.people.iter().enumerate() {
            let items = || seen.iter().flat_map(|(&camera, items)| items.iter().map(move |&item| (camera, item)));
            let pairs = items().flat_map(|a| items().map(move |p| [a, p])).filter(|[a, p]| a.0 != p.0);
            self.listed.extend(pairs.map(|pair| (person, pair)));
        }
        self.order = (0..self.listed.len() * NEGATIVES).collect();
        self.order.shuffle(&mut crate::seed::at(self.seed, 0, u64::MAX));
        self
    }

    /// M, how many quadruplets a batch has.
    pub fn quadruplets(&self) -> usize {
        self.quadruplets
    }

    /// The 4M items of batch `step`: M references, their M positives, M negatives, M last images. References run through
    /// shuffles of all people that can give one (or through the [list](Self::listed)); images and other people are drawn uniformly, the latter among those
    /// whom the wanted camera saw (any other camera, where there is none).
    pub fn batch(&self, step: u64) -> Vec<usize> {
        let mut parts = [const { Vec::new() }; 4];
        for i in 0..self.quadruplets {
            let quadruplet = self.quadruplet(step, i);
            parts.iter_mut().zip(quadruplet).for_each(|(part, item)| part.push(item));
        }
        parts.concat()
    }

    fn quadruplet(&self, step: u64, i: usize) -> [usize; 4] {
        let place = step as usize * self.quadruplets + i;
        if !self.order.is_empty() {
            let entry = self.order[place % self.order.len()];
            let (first, [(here, a), (there, p)]) = self.listed[entry / NEGATIVES];
            let rng = &mut crate::seed::at(self.seed, entry as u64, 0);
            return self.with_others(rng, first, (here, a), (there, p));
        }
        let (pass, turn) = (place / self.references.len(), place % self.references.len());
        let mut order = self.references.clone();
        order.shuffle(&mut crate::seed::at(self.seed, pass as u64, u64::MAX));
        let first = order[turn];
        let rng = &mut crate::seed::at(self.seed, step, i as u64);
        let seen = &self.people[first];
        if !self.across {
            let mut items: Vec<usize> = seen.values().flatten().copied().collect();
            let (drawn, _) = items.partial_shuffle(rng, 2);
            let (a, p) = (drawn[0], drawn[1]);
            let (second, n) = self.draw(rng, &[first], |_| true);
            return [a, p, n, self.draw(rng, &[first, second], |_| true).1];
        }
        let mut cameras: Vec<i64> = seen.keys().copied().collect();
        let (drawn, _) = cameras.partial_shuffle(rng, 2);
        let (here, there) = (drawn[0], drawn[1]);
        let mut of = |camera: i64| seen[&camera][rng.random_range(0..seen[&camera].len())];
        let (a, p) = (of(here), of(there));
        self.with_others(rng, first, (here, a), (there, p))
    }

    /// The negative and the last image to the cameras and items of a person's reference and positive:
    /// (reference, negative) across cameras, then (last, negative).
    fn with_others(
        &self,
        rng: &mut impl Rng,
        first: usize,
        (here, a): (i64, usize),
        (there, p): (i64, usize),
    ) -> [usize; 4] {
        let (second, n) = self.draw(rng, &[first], |camera| camera == there);
        let seen_by = self.camera_of(second, n);
        let wanted = |camera: i64| camera == here && camera != seen_by;
        let (_, l) = if self
            .people
            .iter()
            .enumerate()
            .any(|(person, seen)| person != first && person != second && seen.keys().any(|&camera| wanted(camera)))
        {
            self.draw(rng, &[first, second], wanted)
        } else {
            self.draw(rng, &[first, second], |camera| camera != seen_by)
        };
        [a, p, n, l]
    }

    fn camera_of(&self, person: usize, item: usize) -> i64 {
        let found = self.people[person].iter().find(|(_, items)| items.contains(&item));
        found.map_or(0, |(&camera, _)| camera)
    }

    /// A person but for `without` whom a camera that `wanted` accepts saw, with one of those images; of anybody else's
    /// images where there is none such.
    fn draw(&self, rng: &mut impl Rng, without: &[usize], wanted: impl Fn(i64) -> bool) -> (usize, usize) {
        let others = || (0..self.people.len()).filter(|person| !without.contains(person));
        let fits: Vec<usize> = others().filter(|&person| self.people[person].keys().any(|&c| wanted(c))).collect();
        let (from, any): (Vec<usize>, bool) = if fits.is_empty() { (others().collect(), true) } else { (fits, false) };
        let person = from[rng.random_range(0..from.len())];
        let seen = &self.people[person];
        let items: Vec<usize> =
            seen.iter().filter(|(camera, _)| any || wanted(**camera)).flat_map(|(_, items)| items).copied().collect();
        (person, items[rng.random_range(0..items.len())])
    }
}
