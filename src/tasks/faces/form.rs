//! What is cut out of a photo, and its faces seen so on the fly.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use image::RgbImage;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::detect::{Detector, Face};
use crate::datasets::Photo;
use crate::device::machine::Machine;
use crate::loader::Loader;
use crate::picture::Similarity;
use crate::say::Within;
use crate::source::{Region, View};

/// Where the detector's weights lie by themselves.
pub const DETECTOR: &str = "data/weights/mtcnn.safetensors";

/// What is cut out of a photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum CropForm {
    /// 160 x 160 pixels: the box with a margin of 14 of them (facenet-pytorch's evaluation)
    #[value(name = "160")]
    #[serde(rename = "160")]
    Margin14,
    /// 182 x 182 pixels: the box with a margin of 44 of the photo's (facenet's)
    #[value(name = "182")]
    #[serde(rename = "182")]
    Margin44,
    /// 112 x 112 pixels: turned and scaled so that eyes, nose and mouth lie where ArcFace has them
    #[value(name = "112")]
    #[serde(rename = "112")]
    Points,
}

impl CropForm {
    /// Pixels a side.
    pub fn side(self) -> u32 {
        match self {
            CropForm::Margin14 => 160,
            CropForm::Margin44 => 182,
            CropForm::Points => 112,
        }
    }

    /// How `face` is seen in its photo of `size` (width, height).
    pub fn view(self, face: &Face, size: (u32, u32)) -> View {
        let [left, top, right, bottom] = face.edges;
        let margins = match self {
            // Of the crop's pixels, and of the photo's.
            CropForm::Margin14 => [right - left, bottom - top].map(|side| 14. * f64::from(side) / (160. - 14.)),
            CropForm::Margin44 => [44.; 2],
            CropForm::Points => {
                // ArcFace's norm_crop, from 112 pixels.
                let to = [
                    [38.2946, 51.6963],
                    [73.5318, 51.5014],
                    [56.0252, 71.7366],
                    [41.5493, 92.3655],
                    [70.7299, 92.2041],
                ];
                let warp = Similarity::fit(&face.landmarks.map(|point| point.map(f64::from)), &to);
                return View { warp: Some((warp, self.side())), ..View::WHOLE };
            }
        };
        // Cut off, not rounded, at least one pixel.
        let span = |first: f32, last: f32, margin: f64, all: u32| {
            let first = ((f64::from(first) - margin / 2.).max(0.) as u32).min(all - 1);
            let last = ((f64::from(last) + margin / 2.).min(all.into()) as u32).max(first + 1);
            (first + (last - first) / 2, last - first)
        };
        let ((x, width), (y, height)) = (span(left, right, margins[0], size.0), span(top, bottom, margins[1], size.1));
        View { region: Some(Region { x, y, width, height }), side: Some(self.side()), ..View::WHOLE }
    }
}

/// Which of a photo's faces is meant, by facenet's rule: the area of its box, less twice the squared distance of its centre
/// from that of the photo of `size` (width, height), is the largest. None of none.
pub fn chosen(faces: &[Face], size: (u32, u32)) -> Option<usize> {
    let weight = |face: &Face| {
        let [left, top, right, bottom] = face.edges;
        let (x, y) = ((left + right) / 2., (top + bottom) / 2.);
        let (x, y) = (f64::from(x) - f64::from(size.0) / 2., f64::from(y) - f64::from(size.1) / 2.);
        f64::from((right - left) * (bottom - top)) - 2. * (x * x + y * y)
    };
    (0..faces.len()).max_by(|&a, &b| weight(&faces[a]).total_cmp(&weight(&faces[b])))
}

/// How the face of each of `photos` is seen in its photo; None of those where `detector` finds none. `each` is called after
/// each.
///
/// # Errors
/// As [`Detector::open`], and where a photo cannot be read.
pub fn views(
    photos: &[Photo],
    form: CropForm,
    detector: &Path,
    machine: Option<&Machine>,
    within: Within,
    each: &mut dyn FnMut(),
) -> Result<Vec<Option<View>>> {
    let (device, workers) =
        machine.map_or((Device::Cpu, rayon::current_num_threads()), |machine| (machine.device, machine.workers));
    let detector = Detector::open(detector, device)?;
    let photos: Arc<[Photo]> = photos.into();
    let loader = Loader::new(0..photos.len() as u64, workers, workers + 1, move |index| {
        let Photo { source, name, .. } = &photos[index as usize];
        let photo = source.origin().image()?;
        let faces = found(&detector, &photo, name, &within);
        Ok(chosen(&faces, photo.dimensions()).map(|face| form.view(&faces[face], photo.dimensions())))
    })?;
    loader.inspect(|_| each()).collect()
}

/// The faces of a photo; how far it is with a large one is said.
pub(super) fn found(detector: &Detector, photo: &RgbImage, name: &str, within: &Within) -> Vec<Face> {
    const LARGE: u64 = 1 << 23;
    let large = u64::from(photo.width()) * u64::from(photo.height()) >= LARGE;
    detector.faces_told(photo, &|share| {
        if large {
            within.at(name, share);
        }
    })
}
