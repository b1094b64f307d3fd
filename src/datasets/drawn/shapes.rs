//! Images with several labels: coloured shapes, plain or patterned, that keep company.

use std::sync::Arc;

use image::RgbImage;
use rand::Rng;
use rayon::prelude::*;

use super::super::Source;
use super::super::labels::{Content, Item, LabelLayout, LabelSet};
use super::canvas::{Canvas, Colour, shade};
use crate::seed;

/// The classes: six shapes, three patterns on them, and a grid in the background.
const CLASSES: [&str; 10] =
    ["disc", "square", "triangle", "ring", "cross", "bar", "striped", "dotted", "checked", "grid"];
const SHAPES: usize = 6;
const GRID: u32 = 9;

/// How likely each shape is in a scene: discs and rings go together, squares and crosses, triangles and bars.
const SCENES: [[f32; SHAPES]; 4] = [
    [0.45, 0.05, 0.05, 0.35, 0.05, 0.05],
    [0.05, 0.40, 0.05, 0.05, 0.40, 0.05],
    [0.05, 0.05, 0.40, 0.05, 0.05, 0.40],
    [0.17, 0.17, 0.17, 0.17, 0.16, 0.16],
];

/// A set of images to draw: how many, and how large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shapes {
    /// Images to train on.
    pub train: u64,
    /// Images to test on.
    pub test: u64,
    /// Pixels a side.
    pub side: u32,
    /// Everything drawn follows from this.
    pub seed: u64,
}

impl Default for Shapes {
    /// The built-in set: 1200 and 400 images of 48x48 pixels.
    fn default() -> Shapes {
        Shapes { train: 1200, test: 400, side: 48, seed: 1 }
    }
}

impl Shapes {
    /// All photos of the set with their labels, training and test.
    pub fn set(&self) -> LabelSet {
        let part = |range: std::ops::Range<u64>| -> Vec<Item> {
            let item = |number: u64| {
                let (image, labels) = self.draw(number);
                Item {
                    name: format!("drawn_{number:05}"),
                    content: Content::Image(Source::Memory(Arc::new(image))),
                    labels,
                    difficult: Vec::new(),
                }
            };
            range.into_par_iter().map(item).collect()
        };
        LabelSet {
            name: "drawn".into(),
            layout: LabelLayout::Drawn,
            attributes: Vec::new(),
            classes: CLASSES.map(String::from).to_vec(),
            train: part(0..self.train),
            test: part(self.train..self.train + self.test),
            notes: vec![format!("shapes drawn by code from seed {}: no photographs", self.seed)],
            published: false,
        }
    }

    /// Image `number` with its classes, ascending: a function of seed and number.
    pub fn draw(&self, number: u64) -> (RgbImage, Vec<u32>) {
        let rng = &mut seed::at(seed::named(self.seed, "shapes"), number, 0);
        let scene = SCENES[rng.random_range(0..SCENES.len())];
        // 1 to 5 objects, fewer being likelier.
        let count = [1, 1, 2, 2, 2, 3, 3, 4, 5][rng.random_range(0..9)];
        let ground = [0; 3].map(|_: i32| rng.random_range(0.1..0.9_f32));
        let grid = rng.random_bool(0.25);
        let lines = shade(ground, if ground.iter().sum::<f32>() > 1.5 { 0.75 } else { 1.35 });
        let mut canvas = Canvas::new(self.side, self.side, |(x, y)| {
            let on = |z: f32| (z * 7.).fract() < 0.12;
            if grid && (on(x) || on(y)) { lines } else { ground }
        });
        let mut labels: Vec<u32> = if grid { vec![GRID] } else { Vec::new() };
        for _ in 0..count {
            let mut draw = rng.random_range(0.0..1.0_f32);
            let shape = scene.iter().position(|share| {
                draw -= share;
                draw < 0.
            });
            let shape = shape.unwrap_or(SHAPES - 1);
            labels.push(shape as u32);
            // Patterns prefer their own shapes, so that they are correlated too.
            let pattern =
                rng.random_bool(0.35).then(|| if rng.random_bool(0.7) { shape % 3 } else { rng.random_range(0..3) });
            labels.extend(pattern.map(|pattern| (SHAPES + pattern) as u32));
            object(&mut canvas, rng, shape, pattern, ground);
        }
        labels.sort_unstable();
        labels.dedup();
        let noise = rng.random_range(0.0..0.04_f32);
        let blur = rng.random_range(0..2);
        let image = canvas.finish(blur, |colour| colour.map(|c| c + noise * rng.random_range(-1.0..1.0_f32)));
        (image, labels)
    }
}

/// One object somewhere, in a colour that stands out.
fn object(canvas: &mut Canvas, rng: &mut impl Rng, shape: usize, pattern: Option<usize>, ground: Colour) {
    let size = rng.random_range(0.12..0.22_f32);
    let (cx, cy) = (rng.random_range(size..1. - size), rng.random_range(size..1. - size));
    let mut colour = ground;
    while colour.iter().zip(ground).map(|(a, b)| (a - b).abs()).sum::<f32>() < 0.6 {
        colour = [0; 3].map(|_: i32| rng.random_range(0.0..1.0_f32));
    }
    let other = shade(colour, if colour.iter().sum::<f32>() > 1.2 { 0.35 } else { 2.2 });
    let other = if colour.iter().sum::<f32>() < 0.3 { [0.8, 0.8, 0.8] } else { other };
    canvas.turned((cx, cy), size, 1.5, rng.random_range(-0.3..0.3), |(u, v)| {
        let inside = match shape {
            0 => u * u + v * v <= 1.,
            1 => u.abs() <= 0.85 && v.abs() <= 0.85,
            2 => (-0.9..=0.8).contains(&v) && u.abs() <= (v + 0.9) * 0.6,
            3 => (0.3..=1.).contains(&(u * u + v * v)),
            4 => (u.abs() <= 0.3 && v.abs() <= 1.) || (v.abs() <= 0.3 && u.abs() <= 1.),
            _ => u.abs() <= 1.2 && v.abs() <= 0.32,
        };
        let marked = match pattern {
            Some(0) => (u * 2.2).rem_euclid(1.) < 0.5,
            Some(1) => ((u * 2.).rem_euclid(1.) - 0.5).powi(2) + ((v * 2.).rem_euclid(1.) - 0.5).powi(2) < 0.09,
            Some(_) => ((u * 1.8).floor() + (v * 1.8).floor()).rem_euclid(2.) < 1.,
            None => false,
        };
        inside.then_some(if marked { other } else { colour })
    });
}
