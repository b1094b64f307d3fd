//! A video of a hand that draws a shape along a faint template, well or badly.
//!
//! Skill shows in tremor, in low errors of the line, in speed and hesitation, and in corrections (the hand goes back,
//! rubs out, and draws again). It drifts within the video, so that a part may look better or worse than the whole.
//! Every person has skin, sleeve, paper and ink of their own, which say nothing about skill. The hand moves rigidly
//! over paper that rests: the optical flow is known exactly.

use image::{Rgb, RgbImage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::canvas::{Canvas, Colour, Point, in_ellipse, in_limb, palette, pick, shade};
use crate::seed;
use crate::video::{Animation, quantised};

/// Flow beyond this many pixels a frame is cut off: drawn frames are small.
pub const BOUND: f32 = 5.;

const SKIN: [Colour; 4] = palette([947866, 806045, 553827, 382518]);
const SLEEVE: [Colour; 5] = palette([203055, 551518, 184228, 303032, 757030]);
const PAPER: [Colour; 3] = palette([979693, 909297, 959080]);
const INK: [Colour; 3] = palette([101235, 80808, 450810]);

/// The fewest and the most frames that a performance takes.
const FRAMES: (usize, usize) = (84, 168);

/// What a performance is drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Performance {
    /// The seed of its set.
    pub seed: u64,
    /// Who draws.
    pub person: u64,
    /// Which of their videos.
    pub repeat: u64,
    /// Mean skill, 0..1.
    pub skill: f64,
    /// By how much skill rises from the beginning of the line to its end.
    pub drift: f64,
    /// Pixels down and across.
    pub size: (u32, u32),
}

/// A piece of a line.
type Stroke = (Point, Point);

/// A performance as a video.
#[derive(Debug)]
pub struct Hand {
    /// What it was made from.
    pub performance: Performance,
    /// The pen's tip in each frame, in units of the picture's height.
    pub tips: Vec<Point>,
    /// The strokes that lie on the paper in each frame.
    pub lines: Vec<Vec<Stroke>>,
    /// Rubbed-out strokes in the order of their going, and how many of them are gone in each frame.
    smudged: (Vec<Stroke>, Vec<usize>),
    /// Of skin, sleeve, paper and ink.
    colours: [Colour; 4],
    light: f32,
    shape: Shape,
}

/// The template.
#[derive(Debug, Clone, Copy)]
struct Shape {
    kind: u32,
    centre: Point,
    scale: f32,
    turn: f32,
}

impl Shape {
    /// The place after the share `s` of the way, in units of the picture's height.
    fn at(&self, s: f32) -> Point {
        let turn = s * std::f32::consts::TAU + self.turn;
        let radius = match self.kind {
            0 => 1.,
            1 => 0.8 + 0.25 * (3. * turn).cos(),
            _ => 0.85 + 0.2 * (5. * turn).cos(),
        };
        (self.centre.0 + self.scale * radius * turn.cos(), self.centre.1 + self.scale * radius * turn.sin())
    }
}

/// Twelve uniform numbers: near enough to normal with deviation 1, and bounded.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.
}

impl Hand {
    /// Plays the performance.
    pub fn new(performance: Performance) -> Hand {
        let Performance { seed, person, repeat, skill, drift, size } = performance;
        let rng = &mut seed::at(seed::named(seed, "hand"), person, repeat);
        let own = &mut seed::at(seed::named(seed, "person"), person, 0);
        let colours = [pick(own, &SKIN), pick(own, &SLEEVE), pick(own, &PAPER), pick(own, &INK)];
        let aspect = size.1 as f32 / size.0 as f32;
        let shape = Shape {
            kind: rng.random_range(0..3),
            centre: (aspect / 2. + rng.random_range(-0.05..0.05), 0.5 + rng.random_range(-0.05..0.05)),
            scale: rng.random_range(0.24..0.30),
            turn: rng.random_range(0. ..std::f32::consts::TAU),
        };
        let light = rng.random_range(0.85..1.1);
        let (mut tips, mut lines, mut smudged) = (Vec::new(), Vec::new(), (Vec::new(), Vec::new()));
        let (mut s, mut error, mut tremor) = (0_f32, (0_f32, 0_f32), (0_f32, 0_f32));
        let (mut pause, mut back) = (0, 0.);
        let mut paper: Vec<Stroke> = Vec::new();
        let mut last = shape.at(0.);
        // The share of the way that a sure hand covers in a frame.
        let pace = 1_f32 / 100.;
        while tips.len() < FRAMES.1 && (s < 1. || tips.len() < FRAMES.0) {
            // By the share of the way, not by the clock: quick performances drift as far as slow ones, around `skill`.
            let q = (skill + drift * (f64::from(s) - 0.5)).clamp(0., 1.) as f32;
            let bad = 1. - q;
            let walk = |x: f32, keep: f32, step: f32, rng: &mut ChaCha8Rng| keep * x + step * normal(rng);
            error = (walk(error.0, 0.95, 0.010 * bad, rng), walk(error.1, 0.95, 0.010 * bad, rng));
            let shake = 0.002 + 0.022 * bad;
            tremor = (walk(tremor.0, 0.2, shake, rng), walk(tremor.1, 0.2, shake, rng));
            let drawing = s < 1.;
            if pause > 0 {
                pause -= 1;
            } else if back > 0. {
                // Going back rubs out what was drawn on the way.
                let step = (1.2 * pace).min(back);
                (s, back) = ((s - step).max(0.), back - step);
                smudged.0.extend([paper.pop(), paper.pop()].into_iter().flatten());
            } else if drawing {
                s = (s + pace * (0.75 + 0.5 * q) * (1. + 0.5 * bad * normal(rng)).clamp(0., 2.)).min(1.);
                if rng.random::<f32>() < 0.05 * bad {
                    pause = rng.random_range(2..7);
                }
                if s > 0.1 && rng.random::<f32>() < 0.022 * bad {
                    back = rng.random_range(0.05..0.1);
                }
            }
            let (x, y) = shape.at(s);
            let at = (x + error.0 + tremor.0, y + error.1 + tremor.1);
            if drawing && pause == 0 && back <= 0. && !tips.is_empty() {
                paper.push((last, at));
            }
            last = at;
            tips.push(at);
            lines.push(paper.clone());
            smudged.1.push(smudged.0.len());
        }
        Hand { performance, tips, lines, smudged, colours, light, shape }
    }

    /// By how many pixels (right, down) the hand moves from frame `at` to the next; nothing after the last.
    pub fn motion(&self, at: usize) -> (f32, f32) {
        let (next, (x, y)) = (self.tips[(at + 1).min(self.tips.len() - 1)], self.tips[at]);
        let scale = self.performance.size.0 as f32;
        ((next.0 - x) * scale, (next.1 - y) * scale)
    }
}

/// What moves with the pen, in the order of painting: the arm in its sleeve, the palm, the pen, which widens from its
/// tip. Both the picture and the flow are made of it. Places are from the pen's tip.
const MOVING: [Part; 3] = [
    Part::Limb { from: (0.22, 0.24), to: (1.2, 1.3), widths: (0.09, 0.09) },
    Part::Ellipse { centre: (0.16, 0.17), axes: (0.11, 0.09) },
    Part::Limb { from: (0., 0.), to: (0.10, 0.10), widths: (0.008, 0.022) },
];

/// A shape that moves.
#[derive(Debug, Clone, Copy)]
enum Part {
    Limb { from: Point, to: Point, widths: (f32, f32) },
    Ellipse { centre: Point, axes: (f32, f32) },
}

impl Part {
    fn paint(self, canvas: &mut Canvas, pen: Point, colour: Colour) {
        match self {
            Part::Limb { from, to, widths } => canvas.limb(plus(pen, from), plus(pen, to), widths.0, widths.1, colour),
            Part::Ellipse { centre, axes } => canvas.ellipse(plus(pen, centre), axes.0, axes.1, colour),
        }
    }

    fn covers(self, pen: Point, place: Point) -> bool {
        match self {
            Part::Limb { from, to, widths } => in_limb(place, plus(pen, from), plus(pen, to), widths.0, widths.1),
            Part::Ellipse { centre, axes } => in_ellipse(place, plus(pen, centre), axes.0, axes.1),
        }
    }
}

fn plus(a: Point, b: Point) -> Point {
    (a.0 + b.0, a.1 + b.1)
}

impl Animation for Hand {
    fn frames(&self) -> usize {
        self.tips.len()
    }

    fn frame(&self, at: usize) -> RgbImage {
        let (height, width) = self.performance.size;
        let [skin, sleeve, paper, ink] = self.colours;
        let mut canvas = Canvas::new(width, height, |_| paper);
        let faint = [0.6 * paper[0] + 0.25, 0.6 * paper[1] + 0.25, 0.6 * paper[2] + 0.3];
        for i in 0..48 {
            let (a, b) = (self.shape.at(i as f32 / 48.), self.shape.at((i as f32 + 0.5) / 48.));
            canvas.limb(a, b, 0.006, 0.006, faint);
        }
        for &(a, b) in &self.smudged.0[..self.smudged.1[at]] {
            canvas.limb(a, b, 0.020, 0.020, shade(paper, 0.88));
        }
        for &(a, b) in &self.lines[at] {
            canvas.limb(a, b, 0.012, 0.012, ink);
        }
        for (part, colour) in MOVING.into_iter().zip([sleeve, skin, shade(ink, 0.8)]) {
            part.paint(&mut canvas, self.tips[at], colour);
        }
        canvas.finish(0, |colour| shade(colour, self.light))
    }

    /// A pixel moves where its middle is on the hand, its arm or its pen; what was drawn rests.
    fn flow(&self, at: usize) -> RgbImage {
        let (height, width) = self.performance.size;
        let stored = |(u, v)| Rgb([quantised(u, BOUND), quantised(v, BOUND), 128]);
        let (moving, resting) = (stored(self.motion(at)), stored((0., 0.)));
        RgbImage::from_fn(width, height, |x, y| {
            let place = ((x as f32 + 0.5) / height as f32, (y as f32 + 0.5) / height as f32);
            if MOVING.iter().any(|part| part.covers(self.tips[at], place)) { moving } else { resting }
        })
    }
}
