//! Faces drawn by code from a seed: a verification set that needs no download.
//!
//! A person keeps the shape of head, jaw, eyes, brows, nose, mouth and ears, the colours of skin, hair and eyes, a
//! haircut, perhaps a beard or moles. A shot turns and tilts the head, lights it from a side, moves eyes and mouth,
//! misplaces the crop, changes the background, and now and then puts on glasses or something in front.

use std::sync::Arc;

use image::RgbImage;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::canvas::{Canvas, Colour, Point, drawn, palette, pick, shade};
use crate::datasets::faces::{FaceLayout, FaceSet, Pair};
use crate::datasets::{Photo, Source};
use crate::seed;

const SKIN: [Colour; 6] = palette([968272, 917360, 826247, 684835, 503424, 362417]);
const HAIR: [Colour; 6] = palette([90706, 261610, 463015, 786234, 606060, 502010]);
const EYES: [Colour; 4] = palette([251508, 304560, 304525, 100807]);
const WALLS: [Colour; 5] = palette([555660, 645546, 384840, 727270, 252836]);

drawn! {
    /// What stays of a person; lengths in units of the head's half width.
    Face(rng; tone = rng.random_range(0.92..1.06)) {
        /// Height of the head by its width, and how much narrower the jaw is.
        tall: f32 = rng.random_range(1.18..1.48),
        jaw: f32 = rng.random_range(0.08..0.42),
        skin: Colour = shade(pick(rng, &SKIN), tone),
        hair: Colour = pick(rng, &HAIR),
        iris: Colour = pick(rng, &EYES),
        eye_apart: f32 = rng.random_range(0.34..0.50),
        eye_height: f32 = rng.random_range(-0.14..0.04),
        eye_size: f32 = rng.random_range(0.11..0.18),
        eye_slant: f32 = rng.random_range(-0.35..0.35),
        brow_thick: f32 = rng.random_range(0.03..0.10),
        brow_tilt: f32 = rng.random_range(-0.12..0.12),
        brow_gap: f32 = rng.random_range(0.20..0.34),
        nose_long: f32 = rng.random_range(0.32..0.56),
        nose_wide: f32 = rng.random_range(0.12..0.27),
        mouth_wide: f32 = rng.random_range(0.24..0.46),
        mouth_height: f32 = rng.random_range(0.58..0.76),
        lips: f32 = rng.random_range(0.05..0.13),
        ears: f32 = rng.random_range(0.10..0.22),
        /// How far the hair comes down the forehead, at the sides, and its lean to one side.
        fringe: f32 = rng.random_range(0.25..0.75),
        sides: f32 = rng.random_range(-0.5..1.1),
        parting: f32 = rng.random_range(-0.5..0.5),
        beard: f32 = if rng.random_bool(0.25) { rng.random_range(0.4..1.0) } else { 0. },
        moustache: bool = rng.random_bool(0.2),
        glasses: bool = rng.random_bool(0.15),
        moles: Vec<Point> =
            (0..rng.random_range(0..4)).map(|_| (rng.random_range(-0.7..0.7), rng.random_range(0.1..0.9))).collect(),
    }
}

drawn! {
    /// How a head stands in a shot, and how light falls on it.
    Shot(rng) {
        /// From where it should be.
        shift: Point = (rng.random_range(-0.04..0.04), rng.random_range(-0.04..0.04)),
        scale: f32 = rng.random_range(0.29..0.36),
        yaw: f32 = rng.random_range(-0.55..0.55),
        pitch: f32 = rng.random_range(-0.10..0.10),
        roll: f32 = rng.random_range(-0.14..0.14),
        light: f32 = rng.random_range(0.72..1.12),
        from_left: f32 = rng.random_range(-0.35..0.35),
        smile: f32 = rng.random_range(-0.05..0.12),
        open: f32 = if rng.random_bool(0.3) { rng.random_range(0.03..0.14) } else { 0. },
        blink: f32 = if rng.random_bool(0.1) { 0.15 } else { rng.random_range(0.8..1.1) },
        gaze: f32 = rng.random_range(-0.35..0.35),
    }
}

impl Shot {
    fn centre(&self) -> Point {
        (0.5 + self.shift.0, 0.52 + self.shift.1)
    }

    /// Where a place of the face is in the picture: `x` to the side in -1..1 on a round head, `y` down.
    fn place(&self, (x, y): Point) -> Point {
        // Turned about the vertical axis: what lies at angle asin(x) moves by the yaw.
        let turned = (x.clamp(-1., 1.).asin() + self.yaw).sin();
        self.flat((turned, y + self.pitch))
    }

    /// A place that does not turn with the face: the outline.
    fn flat(&self, (x, y): Point) -> Point {
        let (sin, cos) = self.roll.sin_cos();
        let (cx, cy) = self.centre();
        (cx + self.scale * (x * cos - y * sin), cy + self.scale * (x * sin + y * cos))
    }

    /// Half axes shrink towards the edge of a turned head.
    fn narrow(&self, x: f32) -> f32 {
        (x.clamp(-1., 1.).asin() + self.yaw).cos().max(0.15)
    }

    fn lit(&self, colour: Colour, x: f32) -> Colour {
        shade(colour, self.light * (1. - self.from_left * x))
    }
}

/// The photo `shot` of `person`, a function of these and the seed; `size` pixels a side, at least 16.
pub fn face(seed: u64, person: u64, shot: u64, size: u32) -> RgbImage {
    let who = Face::new(&mut seed::at(seed::named(seed, "face"), person, 0));
    let rng = &mut seed::at(seed::named(seed, "face shot"), person, shot);
    let (wall, slope) = (shade(pick(rng, &WALLS), rng.random_range(0.7..1.2)), rng.random_range(-0.4..0.4_f32));
    let mut canvas = Canvas::new(size, size, |(x, y)| shade(wall, 1. + slope * (x - y)));
    let at = Shot::new(rng);
    head(&mut canvas, &who, &at);
    features(&mut canvas, &who, &at);
    if who.glasses ^ rng.random_bool(0.08) {
        glasses(&mut canvas, &who, &at);
    }
    if rng.random_bool(0.12) {
        // A hand, a microphone, a scarf.
        let colour = shade(pick(rng, &WALLS), rng.random_range(0.4..1.1));
        let (x, y) = (rng.random_range(-0.9..0.9), rng.random_range(0.5..1.2));
        let end = (x + rng.random_range(-0.8..0.8), 2.2);
        canvas.limb(at.flat((x, y)), at.flat(end), 0.16 * at.scale, 0.3 * at.scale, colour);
    }
    let (noise, contrast) = (rng.random_range(0.01..0.04_f32), rng.random_range(0.8..1.15_f32));
    let tint: Colour = std::array::from_fn(|_| rng.random_range(0.93..1.07));
    let blur = rng.random_range(0..2);
    canvas.photograph(blur, contrast, tint, noise, rng)
}

/// Neck, ears, head with its light, beard and hair.
fn head(canvas: &mut Canvas, who: &Face, at: &Shot) {
    let s = at.scale;
    let (throat, neck) = (at.flat((0., who.tall * 0.6)), at.flat((0., 2.2)));
    canvas.limb(throat, neck, 0.55 * s, 0.62 * s, at.lit(shade(who.skin, 0.8), 0.));
    canvas.limb(at.flat((-0.9, 2.1)), at.flat((0.9, 2.1)), 0.5 * s, 0.5 * s, at.lit(shade(who.hair, 1.4), 0.));
    // Hair behind the head, down the sides.
    let down = at.flat((0., who.sides));
    canvas.limb(at.flat((0., -0.25)), down, 1.12 * s, (1.08 - 0.1 * who.sides) * s, at.lit(shade(who.hair, 0.85), 0.));
    for side in [-1., 1.] {
        let shown = (1. + side * at.yaw.sin() * 1.2).clamp(0., 1.2);
        let ear = at.flat((side * 0.98, 0.08));
        canvas.ellipse(ear, who.ears * s * shown, 0.26 * s, at.lit(shade(who.skin, 0.9), side));
    }
    canvas.turned(at.centre(), s, who.tall + 0.2, at.roll, |(x, y)| {
        // Narrower towards the chin.
        let half = 1. - who.jaw * (y / who.tall).clamp(0., 1.).powi(2);
        let inside = (x / half).powi(2) + (y / who.tall).powi(2) <= 1.;
        inside.then(|| {
            let edge = 1. - 0.22 * (x / half).powi(2);
            let front = x - at.yaw.sin() * 0.6;
            // The hairline rises at the sides and leans with the parting.
            let line = -who.tall * (1. - who.fringe * 0.62) + 0.35 * (front - who.parting).powi(2) + at.pitch;
            if y < line {
                return at.lit(shade(who.hair, 0.9 + 0.12 * (14. * (x + 0.3 * y)).sin()), x);
            }
            let chin = y - at.pitch > 0.52 + 0.25 * (1. - who.beard) && who.beard > 0.;
            let cheek = who.beard > 0.6 && x.abs() > 0.66 && y > 0.1;
            if chin || cheek {
                return at.lit(shade(who.hair, edge), x);
            }
            at.lit(shade(who.skin, edge), x)
        })
    });
}

/// Eyes, brows, nose, mouth, moles.
fn features(canvas: &mut Canvas, who: &Face, at: &Shot) {
    let s = at.scale;
    for side in [-1., 1.] {
        let x = side * who.eye_apart;
        let narrow = at.narrow(x);
        let (rx, ry) = (who.eye_size * s * narrow, who.eye_size * 0.55 * s * at.blink);
        let eye = at.place((x, who.eye_height));
        canvas.ellipse(eye, rx * 1.12, ry * 1.35, at.lit(shade(who.skin, 0.72), x));
        canvas.ellipse(eye, rx, ry, at.lit([0.95, 0.94, 0.92], x));
        if at.blink > 0.4 {
            let pupil = (eye.0 + at.gaze * rx * 0.6, eye.1);
            canvas.ellipse(pupil, ry * 0.95 * narrow.max(0.6), ry * 0.98, at.lit(who.iris, x));
            canvas.ellipse(pupil, ry * 0.45, ry * 0.5, [0.03, 0.03, 0.03]);
        }
        let brow = who.eye_height - who.brow_gap;
        let (inner, outer) = (x - side * who.eye_size * 1.2, x + side * who.eye_size * 1.3);
        let tilt = who.brow_tilt + 0.3 * who.eye_slant * who.eye_size;
        let thick = who.brow_thick * s;
        let ends = (at.place((inner, brow + tilt)), at.place((outer, brow - tilt)));
        canvas.limb(ends.0, ends.1, thick, thick * 0.55, at.lit(shade(who.hair, 0.8), x));
    }
    let tip = who.eye_height + who.nose_long;
    let bridge = at.place((0., who.eye_height + 0.02));
    // A nose stands out, so that it moves further than the face on turning.
    let end = at.place((at.yaw.sin() * 0.22, tip));
    let side = if at.from_left > 0. { 1. } else { -1. };
    let shadow = at.lit(shade(who.skin, 0.80), 0.);
    canvas.limb(bridge, end, 0.045 * s, who.nose_wide * 0.55 * s, shadow);
    let (from, to) = ((bridge.0 - side * 0.02 * s, bridge.1), (end.0 - side * 0.03 * s, end.1));
    canvas.limb(from, to, 0.03 * s, who.nose_wide * 0.4 * s, at.lit(shade(who.skin, 1.04), 0.));
    for nostril in [-0.5, 0.5] {
        let place = (end.0 + nostril * who.nose_wide * s, end.1 + 0.06 * s);
        canvas.ellipse(place, 0.04 * s, 0.028 * s, shade(shadow, 0.55));
    }
    let y = who.mouth_height;
    if who.moustache {
        let ends = (at.place((-who.mouth_wide * 0.9, y - 0.10)), at.place((who.mouth_wide * 0.9, y - 0.10)));
        canvas.limb(ends.0, ends.1, 0.055 * s, 0.055 * s, at.lit(who.hair, 0.));
    }
    let red: Colour = [who.skin[0] * 0.82, who.skin[1] * 0.55, who.skin[2] * 0.55];
    let (left, right) = (at.place((-who.mouth_wide, y - at.smile)), at.place((who.mouth_wide, y - at.smile)));
    let middle = at.place((0., y + at.open * 0.3));
    let lips = who.lips * s;
    canvas.limb(left, middle, lips * 0.55, lips + at.open * s, at.lit(red, -0.2));
    canvas.limb(middle, right, lips + at.open * s, lips * 0.55, at.lit(red, 0.2));
    let inside = 0.012 * s + at.open * s * 0.8;
    canvas.limb(left, middle, 0.008 * s, inside, [0.20, 0.07, 0.07]);
    canvas.limb(middle, right, inside, 0.008 * s, [0.20, 0.07, 0.07]);
    for &mole in &who.moles {
        canvas.ellipse(at.place(mole), 0.04 * s * at.narrow(mole.0), 0.04 * s, at.lit(shade(who.skin, 0.4), mole.0));
    }
}

fn glasses(canvas: &mut Canvas, who: &Face, at: &Shot) {
    let s = at.scale;
    let rim = [0.12, 0.12, 0.13];
    for side in [-1., 1.] {
        let x = side * who.eye_apart;
        let (cx, cy) = at.place((x, who.eye_height));
        let (rx, ry) = (0.29 * s * at.narrow(x), 0.22 * s);
        canvas.fill((cx - rx, cy - ry), (cx + rx, cy + ry), |(px, py)| {
            let r = ((px - cx) / rx).powi(2) + ((py - cy) / ry).powi(2);
            (0.72..=1.).contains(&r).then_some(rim)
        });
        let temple = |x: f32| at.place((side * x, who.eye_height));
        canvas.limb(temple(0.72), temple(0.97), 0.02 * s, 0.02 * s, rim);
    }
    let bridge = |x: f32| at.place((x, who.eye_height - 0.03));
    canvas.limb(bridge(-0.12), bridge(0.12), 0.02 * s, 0.02 * s, rim);
}

/// A set of faces to draw: how many people, how often, how large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faces {
    /// People to train on.
    pub train: u64,
    /// Other people to test on.
    pub test: u64,
    /// Shots of a person.
    pub shots: u64,
    /// Pixels a side.
    pub size: u32,
    /// Folds of the pairs.
    pub folds: usize,
    /// Everything drawn follows from this.
    pub seed: u64,
}

impl Default for Faces {
    /// The built-in set: 80 people to train and 40 to test, 12 shots, 64x64 pixels, 10 folds.
    fn default() -> Faces {
        Faces { train: 80, test: 40, shots: 12, size: 64, folds: 10, seed: 1 }
    }
}

impl Faces {
    /// Draws the set. The test people are cut into folds; each fold has 30 pairs of one person and 30 of two, all
    /// within the fold, as in LFW.
    pub fn set(&self) -> FaceSet {
        let photo = |(person, shot): (u64, u64)| {
            let source = Source::Memory(Arc::new(face(self.seed, person, shot, self.size)));
            let name = format!("{}/{}_{:04}.png", name(person), name(person), shot + 1);
            Photo::new(source, name.into(), person as i64, 1)
        };
        let of = |people: std::ops::Range<u64>| -> Vec<Photo> {
            let all: Vec<_> = people.flat_map(|person| (0..self.shots).map(move |shot| (person, shot))).collect();
            all.into_par_iter().map(photo).collect()
        };
        let (first, last) = (self.train + 1, self.train + self.test + 1);
        let each = self.test / self.folds as u64;
        let mut pairs = Vec::new();
        for fold in 0..self.folds as u64 {
            let rng = &mut seed::at(seed::named(self.seed, "pairs"), fold, 0);
            let row = |person: u64, shot: u64| (person * self.shots + shot) as usize;
            let people: Vec<u64> = (fold * each..(fold + 1) * each).collect();
            let mut list = |same: bool, mut all: Vec<(usize, usize)>| {
                all.shuffle(rng);
                pairs.extend(all.into_iter().take(30).map(|(left, right)| Pair { left, right, same }));
            };
            let shots = || (0..self.shots).flat_map(|i| (0..self.shots).map(move |j| (i, j)));
            let one =
                people.iter().flat_map(|&p| shots().filter(|(i, j)| i < j).map(move |(i, j)| (row(p, i), row(p, j))));
            list(true, one.collect());
            let mut two = Vec::new();
            for (a, &p) in people.iter().enumerate() {
                for &q in &people[a + 1..] {
                    two.extend(shots().map(|(i, j)| (row(p, i), row(q, j))));
                }
            }
            list(false, two);
        }
        FaceSet {
            name: "drawn".into(),
            layout: FaceLayout::Drawn,
            people: (1..last).map(name).collect(),
            train: of(1..first).into(),
            test: of(first..last),
            pairs,
            folds: self.folds,
            notes: vec![format!("faces drawn by code from seed {}: no photographs", self.seed)],
            ..FaceSet::default()
        }
    }
}

fn name(person: u64) -> String {
    format!("drawn_{person:04}")
}
