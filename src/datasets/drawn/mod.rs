//! Sets drawn by code from a seed, which need no download. Here: people, for re-identification; `face` has faces.
//!
//! Every person has traits that stay (build, skin, hair, clothes and their pattern, bag, hat); every shot has a pose, a
//! view, a box that fits badly, a camera with its scene, colours, blur and noise, and sometimes something in the way.
//! Colours come from a small palette, so that telling people apart takes more than one colour.

mod canvas;
mod face;
mod figure;
pub mod hand;
mod hands;
mod shapes;

use std::sync::Arc;

use rayon::prelude::*;

use super::{Layout, Photo, ReidSet, Source};

pub use face::{Faces, face};
pub use figure::photo;
pub use hands::Hands;
pub use shapes::Shapes;

/// A set of people to draw: how many, by which cameras, how large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct People {
    /// People to train on.
    pub train: u64,
    /// Other people to test on.
    pub test: u64,
    /// People of the gallery that nobody looks for.
    pub distractors: u64,
    /// Cameras, each with a scene of its own.
    pub cameras: u64,
    /// Shots of a person in a camera.
    pub shots: u64,
    /// Pixels down.
    pub height: u32,
    /// Pixels across.
    pub width: u32,
    /// Everything drawn follows from this.
    pub seed: u64,
}

impl Default for People {
    /// The built-in set: 64 people to train and 32 to test, 3 cameras, 4 shots, 64x32 pixels.
    fn default() -> People {
        People { train: 64, test: 32, distractors: 16, cameras: 3, shots: 4, height: 64, width: 32, seed: 1 }
    }
}

impl People {
    /// Draws the set. Persons are numbered from 1, cameras from 1. Of every test person and camera the first shot is a
    /// query, the others are gallery; one shot of each distractor (person 0) is gallery too, and a few boxes without
    /// anybody in them (person -1) are junk.
    pub fn set(&self) -> ReidSet {
        let shots = |person: u64| {
            (1..=self.cameras).flat_map(move |camera| (0..self.shots).map(move |shot| (person, camera, shot)))
        };
        let photo = |(person, camera, shot): (u64, u64, u64), label: i64| {
            let image = figure::photo(self.seed, person, camera, shot, self.height, self.width);
            let name = format!("{label:04}_c{camera}_{person:04}_{shot:02}");
            Photo::new(Source::Memory(Arc::new(image)), name.into(), label, camera as i64)
        };
        let of = |people: std::ops::Range<u64>, wanted: fn(u64) -> bool| -> Vec<Photo> {
            let all: Vec<_> = people.flat_map(shots).filter(|&(_, _, shot)| wanted(shot)).collect();
            all.into_par_iter().map(|at| photo(at, at.0 as i64)).collect()
        };
        let (first, last) = (self.train + 1, self.train + self.test + 1);
        let train = of(1..first, |_| true);
        let query = of(first..last, |shot| shot == 0);
        let mut gallery = of(first..last, |shot| shot > 0);
        gallery.extend((0..self.distractors).map(|i| photo((last + i, 1 + i % self.cameras, 0), 0)));
        // An empty scene: person 0 of figure::photo is nobody.
        gallery.extend((0..self.cameras * 2).map(|i| photo((0, 1 + i % self.cameras, i), -1)));
        ReidSet {
            name: "drawn".into(),
            layout: Layout::Drawn,
            train: train.into(),
            query,
            gallery,
            notes: vec![format!("people drawn by code from seed {}: no photographs", self.seed)],
            ..ReidSet::default()
        }
    }
}

/// The built-in set, `--data drawn`.
pub fn set() -> ReidSet {
    People::default().set()
}

/// The built-in faces, `facenet`'s `--data drawn`.
pub fn faces() -> super::faces::FaceSet {
    Faces::default().set()
}

/// The built-in images with several labels, `multilabel-ranking`'s `--data drawn`.
pub fn shapes() -> super::labels::LabelSet {
    Shapes::default().set()
}
