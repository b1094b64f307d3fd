//! Snippets as temporal segment networks take them: where they start, and how they are cropped.

use std::ops::Range;

use anyhow::Result;
use image::RgbImage;
use image::imageops::crop_imm;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::Clip;
use crate::picture::resize;

/// Which stream a snippet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// One RGB frame: 3 planes.
    Spatial,
    /// Five consecutive flow fields, x and y of each: 10 planes.
    Temporal,
}

impl Stream {
    /// Planes of a snippet.
    pub fn channels(self) -> i64 {
        if self == Stream::Spatial { 3 } else { 10 }
    }

    /// Frames that a snippet spans: its own, and for flow the one after the last field.
    pub fn span(self) -> usize {
        if self == Stream::Spatial { 1 } else { 6 }
    }

    /// `spatial` or `temporal`.
    pub fn name(self) -> &'static str {
        if self == Stream::Spatial { "spatial" } else { "temporal" }
    }
}

/// The k-th of `n` uniform splits of `frames` frames (Eq. 4); never empty where there are frames.
pub fn split(frames: usize, n: usize, k: usize) -> Range<usize> {
    let (from, to) = (k * frames / n, (k + 1) * frames / n);
    let from = from.min(frames.saturating_sub(1));
    from..to.max(from + 1)
}

/// One random start a segment: `within` is cut into `segments` equal parts and a snippet of `span` frames starts in
/// each, inside `within` where it is long enough.
pub fn random_starts(within: Range<usize>, segments: usize, span: usize, rng: &mut impl Rng) -> Vec<usize> {
    let starts = (within.len() + 1).saturating_sub(span).max(1);
    (0..segments).map(|s| within.start + rng.random_range(split(starts, segments, s))).collect()
}

/// `count` starts spread uniformly over `frames` frames, each in the middle of its share.
pub fn uniform_starts(frames: usize, count: usize, span: usize) -> Vec<usize> {
    let starts = (frames + 1).saturating_sub(span).max(1);
    (0..count).map(|i| ((2 * i + 1) * starts / (2 * count)).min(starts - 1)).collect()
}

/// A window of a frame, and whether it is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First row.
    pub top: u32,
    /// First column.
    pub left: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Mirrored left to right; a flow's x changes its sign.
    pub flip: bool,
}

/// A random window, drawn before a frame's size is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Places of the height's and the width's scale in [`Crops::scales`].
    scales: (usize, usize),
    /// The four corners and the centre.
    corner: u8,
    flip: bool,
}

/// From frames to the network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Crops {
    /// Side of the square input in pixels: the paper's 224.
    pub side: u32,
    /// Scales of the random window, as shares of a frame's shorter side.
    pub scales: Vec<f64>,
}

impl Crops {
    /// 224 pixels; windows of 256, 224, 192 and 168 of 256 pixels (temporal segment networks' scales).
    pub fn paper() -> Crops {
        Crops { side: 224, scales: vec![1., 0.875, 0.75, 0.66] }
    }

    /// A height and a width from the scales, the same or neighbours (all such pairs alike often, as temporal segment
    /// networks draw them), at one of the four corners or the centre, mirrored half of the time.
    pub fn draw(&self, rng: &mut impl Rng) -> Draw {
        // Pairs in the order (0, 0), (0, 1), (1, 0), (1, 1), (1, 2), ...
        let pair = rng.random_range(0..3 * self.scales.len() - 2) + 1;
        let first = pair / 3;
        Draw { scales: (first, first + pair % 3 - 1), corner: rng.random_range(0..5), flip: rng.random() }
    }

    /// The drawn window of a frame of `height` x `width`.
    pub fn window(&self, draw: Draw, height: u32, width: u32) -> Window {
        let side = |scale: f64| ((f64::from(height.min(width)) * scale).floor() as u32).clamp(1, height.min(width));
        let (h, w) = (side(self.scales[draw.scales.0]), side(self.scales[draw.scales.1]));
        let (top, left) = match draw.corner {
            0 => (0, 0),
            1 => (0, width - w),
            2 => (height - h, 0),
            3 => (height - h, width - w),
            _ => ((height - h) / 2, (width - w) / 2),
        };
        Window { top, left, height: h, width: w, flip: draw.flip }
    }

    /// The central square of the input's side (or of the whole shorter side, where frames are smaller).
    pub fn centre(&self, height: u32, width: u32) -> Window {
        let side = self.side.min(height).min(width);
        let (top, left) = ((height - side) / 2, (width - side) / 2);
        Window { top, left, height: side, width: side, flip: false }
    }

    /// Bytes of a snippet.
    pub fn len(&self, stream: Stream) -> usize {
        stream.channels() as usize * (self.side * self.side) as usize
    }

    /// The window of `image`, at the input's size.
    fn cut(&self, image: &RgbImage, window: Window) -> RgbImage {
        let part = crop_imm(image, window.left, window.top, window.width, window.height).to_image();
        let whole = (part.height(), part.width()) == (self.side, self.side);
        let mut part = if whole { part } else { resize(&part, self.side, self.side) };
        if window.flip {
            image::imageops::flip_horizontal_in_place(&mut part);
        }
        part
    }

    /// Writes the snippet of `clip` that starts at frame `start`: planes of bytes, `[3, side, side]` or (x and y of
    /// five fields) `[10, side, side]`. `window` chooses the crop from a frame's height and width.
    ///
    /// # Errors
    /// Where a frame or flow field cannot be read.
    ///
    /// # Panics
    /// Where `out` is not [`Crops::len`] long.
    pub fn write(
        &self,
        clip: &Clip,
        stream: Stream,
        start: usize,
        window: impl Fn(u32, u32) -> Window,
        out: &mut [u8],
    ) -> Result<()> {
        assert_eq!(out.len(), self.len(stream), "a slot for a snippet");
        let plane = (self.side * self.side) as usize;
        let mut put = |image: &RgbImage, planes: usize, first: usize, flow: bool| {
            let window = window(image.height(), image.width());
            let part = self.cut(image, window);
            for (i, pixel) in part.pixels().enumerate() {
                for c in 0..planes {
                    let turned = flow && c == 0 && window.flip;
                    out[(first + c) * plane + i] = if turned { 255 - pixel[c] } else { pixel[c] };
                }
            }
        };
        match stream {
            Stream::Spatial => put(&*clip.frame(start)?, 3, 0, false),
            Stream::Temporal => {
                for i in 0..5 {
                    put(&*clip.flow(start + i)?, 2, 2 * i, true);
                }
            }
        }
        Ok(())
    }
}
