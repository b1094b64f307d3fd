//! A small painter: filled shapes on a canvas of several samples a pixel, shrunk at the end; and how traits are drawn.
//!
//! Lengths are in units of the picture's height, so that a figure looks the same at every size.

use image::{Rgb, RgbImage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Red, green, blue in 0..1.
pub type Colour = [f32; 3];

/// A point: x to the right, y down.
pub type Point = (f32, f32);

/// Colours as six digits: two each for the hundredths of red, green and blue.
pub const fn palette<const N: usize>(codes: [u32; N]) -> [Colour; N] {
    let (mut colours, mut i) = ([[0.; 3]; N], 0);
    while i < N {
        colours[i] =
            [(codes[i] / 10000) as f32 / 100., (codes[i] / 100 % 100) as f32 / 100., (codes[i] % 100) as f32 / 100.];
        i += 1;
    }
    colours
}

/// A struct whose fields are drawn from a generator, one after another in the order in which they stand, after locals
/// that only they use.
macro_rules! drawn {
    ($(#[$doc:meta])* $name:ident($rng:ident $(; $local:ident = $first:expr)*) {
        $($(#[$note:meta])* $field:ident: $kind:ty = $value:expr,)*
    }) => {
        $(#[$doc])*
        struct $name { $($(#[$note])* $field: $kind,)* }

        impl $name {
            fn new($rng: &mut ChaCha8Rng) -> $name {
                $(let $local = $first;)*
                $(let $field: $kind = $value;)*
                $name { $($field),* }
            }
        }
    };
}
pub(super) use drawn;

/// One of `from`.
pub fn pick<T: Copy>(rng: &mut ChaCha8Rng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

/// A colour times a brightness.
pub fn shade(colour: Colour, by: f32) -> Colour {
    colour.map(|c| (c * by).clamp(0., 1.))
}

/// Samples along each side of a pixel.
const SAMPLES: u32 = 3;

/// What is being drawn on.
pub struct Canvas {
    width: u32,
    height: u32,
    /// Samples a unit length.
    scale: f32,
    pixels: Vec<Colour>,
}

impl Canvas {
    /// A canvas for a picture of `width` x `height` pixels, with each sample from `background` of its place.
    pub fn new(width: u32, height: u32, background: impl Fn(Point) -> Colour) -> Canvas {
        let (w, h) = (width * SAMPLES, height * SAMPLES);
        let scale = h as f32;
        let pixels = (0..w * h).map(|i| background((((i % w) as f32 + 0.5) / scale, ((i / w) as f32 + 0.5) / scale)));
        Canvas { width: w, height: h, scale, pixels: pixels.collect() }
    }

    /// The picture's width in units of its height.
    pub fn aspect(&self) -> f32 {
        self.width as f32 / self.scale
    }

    /// Paints every sample within the box that `paint` gives a colour for.
    pub fn fill(&mut self, (left, top): Point, (right, bottom): Point, paint: impl Fn(Point) -> Option<Colour>) {
        let clip = |x: f32, most: u32| (x * self.scale).clamp(0., most as f32) as u32;
        let (x0, x1) = (clip(left, self.width), clip(right + 1. / self.scale, self.width));
        for y in clip(top, self.height)..clip(bottom + 1. / self.scale, self.height) {
            for x in x0..x1 {
                if let Some(colour) = paint(((x as f32 + 0.5) / self.scale, (y as f32 + 0.5) / self.scale)) {
                    self.pixels[(y * self.width + x) as usize] = colour;
                }
            }
        }
    }

    /// A filled box.
    pub fn rectangle(&mut self, low: Point, high: Point, colour: Colour) {
        self.fill(low, high, |_| Some(colour));
    }

    /// Paints around `centre` up to `reach` units of `size` away; `paint` gets the place in these units along axes that
    /// are turned by `turn`.
    pub fn turned(
        &mut self,
        (cx, cy): Point,
        size: f32,
        reach: f32,
        turn: f32,
        paint: impl Fn(Point) -> Option<Colour>,
    ) {
        let (far, (sin, cos)) = (reach * size, turn.sin_cos());
        self.fill((cx - far, cy - far), (cx + far, cy + far), |(x, y)| {
            let (dx, dy) = ((x - cx) / size, (y - cy) / size);
            paint((dx * cos + dy * sin, dy * cos - dx * sin))
        });
    }

    /// A filled ellipse around `centre` with half axes `rx` and `ry`.
    pub fn ellipse(&mut self, (cx, cy): Point, rx: f32, ry: f32, colour: Colour) {
        self.fill((cx - rx, cy - ry), (cx + rx, cy + ry), |place| {
            in_ellipse(place, (cx, cy), rx, ry).then_some(colour)
        });
    }

    /// A thick line with round ends, `from` with half width `r0` to `to` with half width `r1`.
    pub fn limb(&mut self, from: Point, to: Point, r0: f32, r1: f32, colour: Colour) {
        let r = r0.max(r1);
        let low = (from.0.min(to.0) - r, from.1.min(to.1) - r);
        let high = (from.0.max(to.0) + r, from.1.max(to.1) + r);
        self.fill(low, high, |place| in_limb(place, from, to, r0, r1).then_some(colour));
    }

    /// A trapezium symmetric about `x`, half as wide as `w0` at `y0` and `w1` at `y1`; `paint` gets the place within
    /// it, across in -1..1 and down in 0..1.
    pub fn trapezium(&mut self, x: f32, (y0, w0): Point, (y1, w1): Point, paint: impl Fn(Point) -> Colour) {
        let widest = w0.max(w1);
        self.fill((x - widest, y0), (x + widest, y1), |(px, py)| {
            let down = (py - y0) / (y1 - y0).max(1e-6);
            let across = (px - x) / (w0 + (w1 - w0) * down).max(1e-6);
            ((0. ..=1.).contains(&down) && across.abs() <= 1.).then(|| paint((across, down)))
        });
    }

    /// The picture: samples averaged, blurred by `blur` passes of a three-pixel box, each pixel then through `camera`.
    pub fn finish(self, blur: u32, mut camera: impl FnMut(Colour) -> Colour) -> RgbImage {
        let (w, h) = (self.width / SAMPLES, self.height / SAMPLES);
        let mut small = vec![[0_f32; 3]; (w * h) as usize];
        for (i, sample) in self.pixels.iter().enumerate() {
            let (x, y) = (i as u32 % self.width / SAMPLES, i as u32 / self.width / SAMPLES);
            let pixel = &mut small[(y * w + x) as usize];
            (0..3).for_each(|c| pixel[c] += sample[c] / (SAMPLES * SAMPLES) as f32);
        }
        for _ in 0..blur {
            small = blurred(&small, w as usize, h as usize);
        }
        RgbImage::from_fn(w, h, |x, y| {
            Rgb(camera(small[(y * w + x) as usize]).map(|c| (c.clamp(0., 1.) * 255. + 0.5) as u8))
        })
    }

    /// The picture as a camera of this contrast, gain of each colour, and noise takes it.
    pub fn photograph(self, blur: u32, contrast: f32, gain: Colour, noise: f32, rng: &mut ChaCha8Rng) -> RgbImage {
        self.finish(blur, |colour| {
            let grain = rng.random_range(-1.0..1.0_f32) + rng.random_range(-1.0..1.0_f32);
            std::array::from_fn(|c| ((colour[c] - 0.5) * contrast + 0.5) * gain[c] + noise * grain)
        })
    }
}

/// Whether a place lies in the ellipse that [`Canvas::ellipse`] paints.
pub fn in_ellipse((x, y): Point, (cx, cy): Point, rx: f32, ry: f32) -> bool {
    ((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2) <= 1.
}

/// Whether a place lies in the thick line that [`Canvas::limb`] paints.
pub fn in_limb((x, y): Point, from: Point, to: Point, r0: f32, r1: f32) -> bool {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = (dx * dx + dy * dy).max(1e-12);
    let along = (((x - from.0) * dx + (y - from.1) * dy) / length).clamp(0., 1.);
    let (ox, oy) = (x - from.0 - along * dx, y - from.1 - along * dy);
    let radius = r0 + (r1 - r0) * along;
    ox * ox + oy * oy <= radius * radius
}

/// Each pixel averaged with the neighbours it has.
fn blurred(pixels: &[Colour], w: usize, h: usize) -> Vec<Colour> {
    let near = |i: usize, most: usize| i.saturating_sub(1)..(i + 2).min(most);
    let mean = |i: usize| {
        let around = near(i / w, h).flat_map(|y| near(i % w, w).map(move |x| y * w + x));
        let (sum, count) =
            around.fold(([0.; 3], 0.), |(sum, count), i| (std::array::from_fn(|c| sum[c] + pixels[i][c]), count + 1.));
        sum.map(|s: f32| s / count)
    };
    (0..w * h).map(mean).collect()
}
