//! From a picture to a network's input: crops, flips, normalisation, one by one or a batch at a time.
//!
//! The recipe is section 4 of Hermans et al. (arXiv 1703.07737): resize to 9/8 of the input size, a random crop of the
//! input size and a random flip to train; ten crops of the same enlarged image to test (Table 5). Pixels go from bytes
//! to normalised `f32` through one table a channel, straight into the caller's batch.

use std::sync::Arc;

use anyhow::{Result, anyhow, bail, ensure};
use clap::ValueEnum;
use image::RgbImage;
use rand::Rng;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::bounds::room;
use crate::models::IMAGENET;
use crate::picture::{MAX_SIDE, resize, window};
use crate::seed;
use crate::source::Source;

/// What is random in a training image. The networks of Table 1 (the loss study) are trained without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augment {
    /// A plain resize to the input size.
    None,
    /// A plain resize, mirrored with probability one half.
    Flip,
    /// A resize to 9/8 of the input size, a uniform crop of the input size, mirrored with probability one half.
    CropFlip,
}

/// The views of a test image whose embeddings are averaged: the rows of Table 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestViews {
    /// A plain resize to the input size.
    Original,
    /// A plain resize and its mirror image.
    Flip,
    /// The centre crop of the image resized to 9/8.
    Centre,
    /// The centre crop and its mirror image.
    CentreFlip,
    /// The centre and the four corners of the image resized to 9/8.
    FiveCrops,
    /// The five crops, then their mirror images.
    TenCrops,
}

impl TestViews {
    /// The name that a flag takes.
    pub fn name(self) -> &'static str {
        match self {
            TestViews::Original => "original",
            TestViews::Flip => "flip",
            TestViews::Centre => "centre",
            TestViews::CentreFlip => "centre-flip",
            TestViews::FiveCrops => "five-crops",
            TestViews::TenCrops => "ten-crops",
        }
    }

    /// How many views an image gives.
    pub fn count(self) -> usize {
        match self {
            TestViews::Original | TestViews::Centre => 1,
            TestViews::Flip | TestViews::CentreFlip => 2,
            TestViews::FiveCrops => 5,
            TestViews::TenCrops => 10,
        }
    }
}

/// A view of a resized test image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Its first row.
    pub top: u32,
    /// Its first column.
    pub left: u32,
    /// Whether it is mirrored left to right.
    pub flip: bool,
}

/// How an image becomes a network's input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Height of the input in pixels.
    pub height: u32,
    /// Width of the input in pixels.
    pub width: u32,
    /// Subtracted from each channel of RGB/255.
    pub mean: [f32; 3],
    /// Divides each channel after that.
    pub std: [f32; 3],
}

impl Recipe {
    /// An input of `height` x `width` pixels with [`IMAGENET`]'s mean and deviation.
    pub fn imagenet(height: u32, width: u32) -> Recipe {
        let [mean, std] = [IMAGENET.0, IMAGENET.1].map(|of| of.map(|x| x as f32));
        Recipe { height, width, mean, std }
    }

    /// An input of this size, of pixels in 0..255 less `mean`, as networks out of Caffe have it.
    pub fn less(self, mean: [f64; 3]) -> Recipe {
        Recipe { mean: mean.map(|mean| (mean / 255.) as f32), std: [1. / 255.; 3], ..self }
    }

    /// Numbers in one view: 3 x height x width.
    pub fn len(&self) -> usize {
        3 * self.height as usize * self.width as usize
    }

    /// Whether a view has no pixels (a recipe that no image can follow).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// (height, width) of the image that crops are cut from: 9/8 of the input, rounded to nearest (288x144 for
    /// 256x128, 144x72 for 128x64).
    pub fn enlarged(&self) -> (u32, u32) {
        ((self.height * 9 + 4) / 8, (self.width * 9 + 4) / 8)
    }

    /// Writes one training view as normalised RGB planes `[3, height, width]`. `rng` gives the crop's top, then its
    /// left, then the flip.
    ///
    /// # Panics
    /// Where `out` is not [`Recipe::len`] long or a side is 0.
    pub fn train(&self, image: &RgbImage, augment: Augment, rng: &mut impl Rng, out: &mut [f32]) {
        let size = (self.height, self.width);
        let (view, flip) = match augment {
            Augment::None => (resize(image, size.0, size.1), false),
            Augment::Flip => (resize(image, size.0, size.1), rng.random()),
            Augment::CropFlip => {
                let scaled = self.enlarged();
                let top = rng.random_range(0..=scaled.0 - size.0);
                let left = rng.random_range(0..=scaled.1 - size.1);
                (window(image, scaled, (top, left), size), rng.random())
            }
        };
        self.write(&view, (0, 0), flip, out);
    }

    /// The (height, width) that a test image is resized to, and where its views lie there.
    pub fn places(&self, views: TestViews) -> ((u32, u32), Vec<Place>) {
        let size = (self.height, self.width);
        let scaled = self.enlarged();
        let (down, right) = (scaled.0 - size.0, scaled.1 - size.1);
        let centre = (down / 2, right / 2);
        let corners = [centre, (0, 0), (0, right), (down, 0), (down, right)];
        let (resized, crops, mirrored) = match views {
            TestViews::Original => (size, &[(0, 0)][..], false),
            TestViews::Flip => (size, &[(0, 0)][..], true),
            TestViews::Centre => (scaled, &corners[..1], false),
            TestViews::CentreFlip => (scaled, &corners[..1], true),
            TestViews::FiveCrops => (scaled, &corners[..], false),
            TestViews::TenCrops => (scaled, &corners[..], true),
        };
        let flips: &[bool] = if mirrored { &[false, true] } else { &[false] };
        let place = |flip| move |&(top, left): &(u32, u32)| Place { top, left, flip };
        (resized, flips.iter().flat_map(|&flip| crops.iter().map(place(flip))).collect())
    }

    /// Writes the test views one after another, each normalised RGB planes `[3, height, width]`.
    ///
    /// # Panics
    /// Where `out` is not `views.count() * self.len()` long or a side is 0.
    pub fn test(&self, image: &RgbImage, views: TestViews, out: &mut [f32]) {
        assert_eq!(out.len(), views.count() * self.len(), "a slot for each view");
        let ((height, width), places) = self.places(views);
        let image = resize(image, height, width);
        for (Place { top, left, flip }, slot) in places.into_iter().zip(out.chunks_exact_mut(self.len())) {
            self.write(&image, (top, left), flip, slot);
        }
    }

    /// The training views of a batch, f32 `[N, 3, height, width]`. `images` are places in batch number `step` and what
    /// is there, which `open` makes an image of; each draws its crop and flip at its own address (`seed`, step, place), so
    /// that no share of a batch and no number of threads changes a view.
    pub fn train_batch<I>(
        &self,
        images: impl IntoIterator<Item = (usize, I)>,
        open: impl Fn(I) -> Result<Arc<RgbImage>>,
        augment: Augment,
        seed: u64,
        step: u64,
    ) -> Result<Tensor> {
        let seed = seed::named(seed, "augment");
        self.batch(1, images, |(place, item), out| {
            self.train(&*open(item)?, augment, &mut seed::at(seed, step, place as u64), out);
            Ok(())
        })
    }

    /// The test views of images, one image after another: f32 `[N · views, 3, height, width]`.
    pub fn test_batch<'a>(&self, images: impl IntoIterator<Item = &'a Source>, views: TestViews) -> Result<Tensor> {
        let (size, _) = self.places(views);
        self.batch(views.count(), images, |source, out| {
            self.test(&*source.image_for(size)?, views, out);
            Ok(())
        })
    }

    /// `fill` writes each image's views.
    fn batch<I>(
        &self,
        views: usize,
        images: impl IntoIterator<Item = I>,
        fill: impl Fn(I, &mut [f32]) -> Result<()>,
    ) -> Result<Tensor> {
        let images: Vec<I> = images.into_iter().collect();
        let shape = [(images.len() * views) as i64, 3, self.height.into(), self.width.into()];
        let count = room(shape, 4).map_err(|why| anyhow!("{why}, for a batch: make it or the images smaller"))?;
        let mut pixels = vec![0_f32; count];
        for (image, out) in images.into_iter().zip(pixels.chunks_exact_mut(views * self.len())) {
            fill(image, out)?;
        }
        Ok(Tensor::from_slice(&pixels).view(shape))
    }

    /// Normalised planes of the window at `(top, left)`, mirrored where `flip`.
    fn write(&self, image: &RgbImage, (top, left): (u32, u32), flip: bool, out: &mut [f32]) {
        assert_eq!(out.len(), self.len(), "a view is 3 x height x width");
        let (height, width, stride) = (self.height as usize, self.width as usize, image.width() as usize);
        let table: [[f32; 256]; 3] = std::array::from_fn(|c| {
            std::array::from_fn(|v| (v as f32 / 255.0 - self.mean[c]) / self.std[c]) // v < 256 is exact in f32
        });
        let (red, rest) = out.split_at_mut(height * width);
        let (green, blue) = rest.split_at_mut(height * width);
        let planes = red.chunks_exact_mut(width).zip(green.chunks_exact_mut(width)).zip(blue.chunks_exact_mut(width));
        for (y, ((red, green), blue)) in planes.enumerate() {
            let start = 3 * ((top as usize + y) * stride + left as usize);
            let row = image.as_raw()[start..start + 3 * width].chunks_exact(3);
            let cells = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
            let put = |(((r, g), b), pixel): (((&mut f32, &mut f32), &mut f32), &[u8])| {
                *r = table[0][usize::from(pixel[0])];
                *g = table[1][usize::from(pixel[1])];
                *b = table[2][usize::from(pixel[2])];
            };
            if flip {
                cells.zip(row.rev()).for_each(put);
            } else {
                cells.zip(row).for_each(put);
            }
        }
    }

    /// Refuses a recipe that no image can follow.
    ///
    /// # Errors
    /// One line: a side of 0 or above [`MAX_SIDE`] less the ninth that crops need, or a deviation that is not above 0.
    pub fn check(&self) -> Result<()> {
        let most = MAX_SIDE / 9 * 8;
        let sides = [("height", self.height), ("width", self.width)];
        for (side, value) in sides {
            ensure!(value > 0 && value <= most, "an input {side} of {value} pixels: give one from 1 to {most}");
        }
        if self.std.iter().any(|&s| !(s.is_finite() && s > 0.0)) || self.mean.iter().any(|m| !m.is_finite()) {
            bail!("mean {:?} and std {:?} cannot normalise an image: std must be above 0", self.mean, self.std);
        }
        Ok(())
    }
}
