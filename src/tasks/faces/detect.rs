//! MTCNN (Zhang et al. 2016, arXiv 1604.02878): faces of a photo by three networks, each on what the one before let through.
//!
//! The numbers are those of facenet-pytorch 2.6.0 and its usual settings: faces of 20 pixels at least, thresholds 0.6, 0.7
//! and 0.7, a pyramid in steps of 0.709, windows rounded as there. Three of its ways may surprise and are kept: windows count
//! from 1, so that a crop begins one pixel further up and left than its box; points come from the window before its last
//! shift; boxes overlap by areas with a pixel added in the last stage alone. Where it ends with an error, on a photo below 20
//! pixels a side and on a window beside the photo, there is no face. Photos stand upright here by their EXIF orientation.
//!
//! Boxes and points are the same to a thousandth of a pixel, but where a window's edge lies so near a whole number that
//! rounding decides (one face of 227 on 356 photos: half a pixel).
//!
//! Memory is bounded: the first network sees a large photo in bands of rows that overlap by what its windows cover, the
//! others 512 windows at a time (12,000 x 8,000 pixels with 1,815 faces: 1.3 GiB, of which the photo is 0.3). The smallest
//! faces take the time, which grows with a photo's pixels: 8,000 x 8,000 take 18 seconds of a core of an AMD EPYC, a third of
//! them P-net's, a fifth those of the pyramid's means; what is done is told band after band.

use std::path::Path;

use anyhow::Result;
use image::RgbImage;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor, nn::VarStore};

use crate::models::Mtcnn;
use crate::models::layers::Scope;
use crate::picture::area;
use crate::real::numbers;
use crate::weights::{Published, start};

/// Left, top, right, bottom, in pixels.
pub type Edges = [f32; 4];

/// A face in a photo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Face {
    /// Its box in pixels from the upper left corner; it may reach beyond the photo.
    #[serde(rename = "box")]
    pub edges: Edges,
    /// How sure the last network is.
    pub probability: f32,
    /// Left eye, right eye, nose, left and right corner of the mouth, as one looks at the photo: x and y in pixels.
    pub landmarks: [[f32; 2]; 5],
}

/// The smallest face in pixels, and a pyramid's step.
const LEAST: f64 = 20.;
const STEP: f64 = 0.709;
/// Side and stride of P-net's windows.
const WINDOW: u32 = 12;
/// Pixels that P-net sees at once, and windows of the other networks.
const PIXELS: u32 = 1 << 20;
const WINDOWS: usize = 512;

/// How far two boxes overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Their common area by that of both together (torchvision's).
    Union,
    /// Their common area by that of the smaller one, a pixel added to every side (MTCNN's "Min").
    Smaller,
}

/// Non-maximum suppression: the boxes, by falling score, that none before them overlaps by more than `most`. Of equal scores
/// the first counts as higher with [`Overlap::Union`] and the last with [`Overlap::Smaller`].
pub fn suppress(boxes: &[(Edges, f32)], overlap: Overlap, most: f64) -> Vec<usize> {
    let more = if overlap == Overlap::Smaller { 1. } else { 0. };
    let area = |[left, top, right, bottom]: Edges| (right - left + more) * (bottom - top + more);
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    if overlap == Overlap::Smaller {
        order.reverse();
    }
    order.sort_by(|&a, &b| boxes[b].1.total_cmp(&boxes[a].1));
    let apart = |&a: &usize, &b: &usize| {
        let (a, b) = (boxes[a].0, boxes[b].0);
        let wide = (a[2].min(b[2]) - a[0].max(b[0]) + more).max(0.);
        let high = (a[3].min(b[3]) - a[1].max(b[1]) + more).max(0.);
        match overlap {
            _ if wide * high == 0. => true,
            Overlap::Union => f64::from(wide * high / (area(a) + area(b) - wide * high)) <= most,
            Overlap::Smaller => wide * high / area(a).min(area(b)) <= most as f32,
        }
    };
    let mut kept: Vec<usize> = Vec::new();
    for next in order {
        if kept.iter().all(|before| apart(before, &next)) {
            kept.push(next);
        }
    }
    kept
}

/// A window that a network let through.
#[derive(Debug, Clone, Copy)]
struct Window {
    edges: Edges,
    score: f32,
    /// Where its edges should be, in its sides.
    shift: Edges,
}

impl Window {
    /// Its edges moved by its shift, its sides counted with `more` pixels.
    fn moved(&self, more: f32) -> Edges {
        let [left, top, right, bottom] = self.edges;
        let (wide, high) = (right - left + more, bottom - top + more);
        let [a, b, c, d] = self.shift;
        [left + a * wide, top + b * high, right + c * wide, bottom + d * high]
    }
}

/// Those of `all` that [`suppress`] leaves, in its order.
fn fewer(all: Vec<Window>, most: f64) -> Vec<Window> {
    let boxes: Vec<_> = all.iter().map(|window| (window.edges, window.score)).collect();
    suppress(&boxes, Overlap::Union, most).into_iter().map(|i| all[i]).collect()
}

/// The square around the same centre, of the longer side.
fn squared([left, top, right, bottom]: Edges) -> Edges {
    let (wide, high) = (right - left, bottom - top);
    let side = wide.max(high);
    let (left, top) = (left + wide * 0.5 - side * 0.5, top + high * 0.5 - side * 0.5);
    [left, top, left + side, top + side]
}

/// The three networks with their weights, for any number of threads.
#[derive(Debug)]
pub struct Detector {
    net: Mtcnn,
    device: Device,
    /// Pixels that P-net sees at once.
    band: u32,
}

// SAFETY: the weights are only read, which libtorch lets any number of threads do.
unsafe impl Sync for Detector {}

impl Detector {
    /// The networks with the weights of `file`.
    ///
    /// # Errors
    /// One line with `--detector`: the file is missing, damaged, or another network's.
    pub fn open(file: &Path, device: Device) -> Result<Detector> {
        let mut store = VarStore::new(device);
        let net = Mtcnn::new(&Scope::root(&store, 0));
        start(&store, file, &Published::MTCNN)?;
        store.freeze();
        Ok(Detector { net, device, band: PIXELS })
    }

    /// The same where the first network sees `pixels` pixels at once, or what 12 rows have: the faces stay as they are.
    pub fn in_bands(self, pixels: u32) -> Detector {
        Detector { band: pixels, ..self }
    }

    /// All faces of a photo, the largest box first.
    pub fn faces(&self, photo: &RgbImage) -> Vec<Face> {
        self.faces_told(photo, &|_| ())
    }

    /// The same; `told` hears what share of the pyramid is done, band after band.
    pub fn faces_told(&self, photo: &RgbImage, told: &dyn Fn(f64)) -> Vec<Face> {
        tch::no_grad(|| {
            let mut found = self.output(photo, self.refined(photo, self.proposed(photo, told)));
            let area = |[left, top, right, bottom]: Edges| (right - left) * (bottom - top);
            found.reverse(); // Of equal ones the last comes first.
            found.sort_by(|a, b| area(b.edges).total_cmp(&area(a.edges)));
            found
        })
    }

    /// Means as [`area`] gives them, rows by columns of `views`, as the networks see them.
    fn input(&self, means: &[f32], shape: [i64; 3]) -> Tensor {
        let [views, height, width] = shape;
        let x = Tensor::from_slice(means).to_device(self.device).view([views, height, width, 3]).permute([0, 3, 1, 2]);
        (x - 127.5) * 0.0078125
    }

    /// P-net over the pyramid.
    fn proposed(&self, photo: &RgbImage, told: &dyn Fn(f64)) -> Vec<Window> {
        let (width, height) = photo.dimensions();
        let mut scale = f64::from(WINDOW) / LEAST;
        let mut least = f64::from(width.min(height)) * scale;
        let mut levels = Vec::new();
        while least >= f64::from(WINDOW) {
            let size = [height, width].map(|side| (f64::from(side) * scale + 1.) as u32);
            levels.push(((size[0], size[1]), scale as f32));
            (scale, least) = (scale * STEP, least * STEP);
        }
        let pixels = |size: (u32, u32)| f64::from(size.0) * f64::from(size.1);
        let total: f64 = levels.iter().map(|level| pixels(level.0)).sum();
        let (mut all, mut before) = (Vec::new(), 0.);
        for (size, scale) in levels {
            let told = |rows: f64| told((before + rows * pixels(size)) / total);
            all.extend(fewer(self.scaled(photo, size, scale, &told), 0.5));
            before += pixels(size);
        }
        let kept = fewer(all, 0.7);
        kept.iter().map(|window| Window { edges: squared(window.moved(0.)), ..*window }).collect()
    }

    /// P-net over the photo at one scale, `size` high and wide, in bands; `told` hears what share of the rows is done.
    fn scaled(&self, photo: &RgbImage, size: (u32, u32), scale: f32, told: &dyn Fn(f64)) -> Vec<Window> {
        let whole = (0, 0, photo.width(), photo.height());
        let rows = (size.0 - 2).div_ceil(2) - 4; // of its map
        let band = ((self.band / size.1).saturating_sub(WINDOW - 2) / 2).max(1);
        let mut found = Vec::new();
        for first in (0..rows).step_by(band as usize) {
            let seen = 2 * first..(2 * (first + band).min(rows) + WINDOW - 2).min(size.0);
            let shape = [1, seen.len() as i64, i64::from(size.1)];
            let (probability, shifts) = self.net.propose(&self.input(&area(photo, whole, size, seen), shape));
            let wide = probability.size()[2];
            let probability = probability.flatten(0, -1);
            let at = probability.ge(0.6).nonzero().squeeze_dim(1);
            let scores = numbers::<f32>(&probability.index_select(0, &at));
            let shifts = numbers::<f32>(&shifts.view([4, -1]).index_select(1, &at).tr());
            for ((at, score), shift) in numbers::<i64>(&at).into_iter().zip(scores).zip(shifts.chunks_exact(4)) {
                let (x, y) = ((at % wide) as f32, (i64::from(first) + at / wide) as f32);
                let edge = |at: f32, more: f32| ((2. * at + more) / scale).floor();
                let far = WINDOW as f32;
                let edges = [edge(x, 1.), edge(y, 1.), edge(x, far), edge(y, far)];
                found.push(Window { edges, score, shift: [shift[0], shift[1], shift[2], shift[3]] });
            }
            told(f64::from((first + band).min(rows)) / f64::from(rows));
        }
        found
    }

    /// What of `windows` lies in the photo, `side` x `side`, by parts through `net`, whose answers are rows by number.
    fn seen(&self, photo: &RgbImage, windows: &[Window], side: u32, net: impl Fn(&Tensor) -> Tensor) -> Vec<Vec<f32>> {
        let mut said = Vec::new();
        for part in windows.chunks(WINDOWS) {
            let means = part.iter().flat_map(|window| {
                let (left, top, right, bottom) = within(window.edges, photo).unwrap_or((0, 0, 1, 1));
                area(photo, (left, top, right, bottom), (side, side), 0..side)
            });
            let means: Vec<f32> = means.collect();
            let rows = net(&self.input(&means, [part.len() as i64, side.into(), side.into()]));
            let wide = rows.size()[1] as usize;
            said.extend(numbers::<f32>(&rows).chunks_exact(wide).map(<[f32]>::to_vec));
        }
        said
    }

    /// R-net on what P-net let through.
    fn refined(&self, photo: &RgbImage, mut windows: Vec<Window>) -> Vec<Window> {
        windows.retain(|window| within(window.edges, photo).is_some());
        let said = self.seen(photo, &windows, 24, |x| {
            let (probability, shifts) = self.net.refine(x);
            Tensor::cat(&[probability.unsqueeze(1), shifts], 1)
        });
        let sure = windows.iter().zip(said).filter(|(_, row)| row[0] > 0.7).map(|(window, row)| Window {
            score: row[0],
            shift: [row[1], row[2], row[3], row[4]],
            ..*window
        });
        let kept = fewer(sure.collect(), 0.7);
        kept.iter().map(|window| Window { edges: squared(window.moved(1.)), ..*window }).collect()
    }

    /// O-net on what R-net let through.
    fn output(&self, photo: &RgbImage, mut windows: Vec<Window>) -> Vec<Face> {
        windows.retain(|window| within(window.edges, photo).is_some());
        let said = self.seen(photo, &windows, 48, |x| {
            let (probability, shifts, points) = self.net.decide(x);
            Tensor::cat(&[probability.unsqueeze(1), shifts, points], 1)
        });
        let face = |(window, row): (&Window, Vec<f32>)| {
            let [left, top, right, bottom] = window.edges;
            let point =
                |i: usize| [(right - left + 1.) * row[5 + i] + left - 1., (bottom - top + 1.) * row[10 + i] + top - 1.];
            let moved = Window { shift: [row[1], row[2], row[3], row[4]], ..*window }.moved(1.);
            Face { edges: moved, probability: row[0], landmarks: [0, 1, 2, 3, 4].map(point) }
        };
        let all: Vec<Face> = windows.iter().zip(said).filter(|(_, row)| row[0] > 0.7).map(face).collect();
        let boxes: Vec<_> = all.iter().map(|face| (face.edges, face.probability)).collect();
        suppress(&boxes, Overlap::Smaller, 0.7).into_iter().map(|i| all[i].clone()).collect()
    }
}

/// The pixels of a window that lie in the photo: left, top, right, bottom; None where none does.
fn within(edges: Edges, photo: &RgbImage) -> Option<(u32, u32, u32, u32)> {
    let [left, top, right, bottom] = edges.map(|edge| edge as i32);
    let (left, top) = (left.max(1) - 1, top.max(1) - 1);
    let (right, bottom) = (right.min(photo.width() as i32), bottom.min(photo.height() as i32));
    (left < right && top < bottom).then_some((left as u32, top as u32, right as u32, bottom as u32))
}
