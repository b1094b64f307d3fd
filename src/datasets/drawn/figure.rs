//! One drawn photo: who it shows, and how this camera saw them this time.

use image::RgbImage;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::canvas::{Canvas, Colour, Point, shade};
use crate::seed;

/// Clothes come in these, a little lighter or darker from person to person.
const CLOTHES: [Colour; 9] = [
    [0.75, 0.16, 0.17],
    [0.16, 0.30, 0.62],
    [0.18, 0.48, 0.27],
    [0.86, 0.74, 0.28],
    [0.90, 0.90, 0.88],
    [0.13, 0.13, 0.15],
    [0.48, 0.48, 0.50],
    [0.45, 0.28, 0.52],
    [0.58, 0.40, 0.26],
];
const TROUSERS: [Colour; 6] = [
    [0.14, 0.18, 0.32],
    [0.10, 0.10, 0.11],
    [0.42, 0.40, 0.38],
    [0.60, 0.52, 0.40],
    [0.28, 0.36, 0.50],
    [0.32, 0.22, 0.17],
];
const SKIN: [Colour; 5] =
    [[0.95, 0.80, 0.69], [0.87, 0.68, 0.54], [0.72, 0.52, 0.38], [0.52, 0.36, 0.25], [0.36, 0.24, 0.17]];
const HAIR: [Colour; 5] =
    [[0.10, 0.08, 0.07], [0.28, 0.18, 0.11], [0.50, 0.33, 0.17], [0.80, 0.66, 0.38], [0.62, 0.62, 0.62]];

#[derive(Clone, Copy, PartialEq)]
enum Pattern {
    Plain,
    Stripes,
    Bands,
    Checks,
    TwoTone,
    /// A badge on the chest: not seen from behind.
    Logo,
}

#[derive(Clone, Copy, PartialEq)]
enum Legs {
    Trousers,
    Shorts,
    Skirt,
}

#[derive(Clone, Copy, PartialEq)]
enum Carried {
    Nothing,
    Backpack,
    ShoulderBag,
}

/// What stays of a person.
struct Person {
    size: f32,
    shoulders: f32,
    legs_share: f32,
    skin: Colour,
    hair: Colour,
    long_hair: bool,
    hat: Option<Colour>,
    shirt: Colour,
    second: Colour,
    pattern: Pattern,
    long_sleeves: bool,
    legs: Legs,
    trousers: Colour,
    shoes: Colour,
    carried: Carried,
    bag: Colour,
}

fn pick<T: Copy>(rng: &mut ChaCha8Rng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

impl Person {
    fn new(seed: u64, person: u64) -> Person {
        let rng = &mut seed::at(seed::named(seed, "person"), person, 0);
        let tone = |colour: Colour, rng: &mut ChaCha8Rng| shade(colour, rng.random_range(0.85..1.15));
        let shirt = pick(rng, &CLOTHES);
        let mut second = pick(rng, &CLOTHES);
        while second == shirt {
            second = pick(rng, &CLOTHES);
        }
        Person {
            size: rng.random_range(0.80..0.96),
            shoulders: rng.random_range(0.090..0.135),
            legs_share: rng.random_range(0.44..0.52),
            skin: pick(rng, &SKIN),
            hair: pick(rng, &HAIR),
            long_hair: rng.random_bool(0.4),
            hat: rng.random_bool(0.15).then(|| pick(rng, &CLOTHES)),
            shirt: tone(shirt, rng),
            second: tone(second, rng),
            pattern: pick(
                rng,
                &[
                    Pattern::Plain,
                    Pattern::Plain,
                    Pattern::Stripes,
                    Pattern::Bands,
                    Pattern::Checks,
                    Pattern::TwoTone,
                    Pattern::Logo,
                ],
            ),
            long_sleeves: rng.random_bool(0.6),
            legs: pick(rng, &[Legs::Trousers, Legs::Trousers, Legs::Trousers, Legs::Shorts, Legs::Skirt]),
            trousers: {
                let colour = pick(rng, &TROUSERS);
                tone(colour, rng)
            },
            shoes: pick(rng, &[[0.08, 0.08, 0.09], [0.88, 0.88, 0.86], [0.40, 0.26, 0.16], [0.70, 0.15, 0.15]]),
            carried: pick(rng, &[Carried::Nothing, Carried::Nothing, Carried::Backpack, Carried::ShoulderBag]),
            bag: pick(rng, &CLOTHES),
        }
    }

    /// The shirt's colour at a place of the torso, across in -1..1 and down in 0..1.
    fn shirt_at(&self, (across, down): Point, back: bool) -> Colour {
        let second = match self.pattern {
            Pattern::Plain => false,
            Pattern::Stripes => (across * 3.5 + 10.).rem_euclid(1.) < 0.4,
            Pattern::Bands => (down * 5.).rem_euclid(1.) < 0.42,
            Pattern::Checks => ((across * 2.5 + 10.).rem_euclid(1.) < 0.5) ^ ((down * 4.).rem_euclid(1.) < 0.5),
            Pattern::TwoTone => down > 0.5,
            Pattern::Logo => !back && across.abs() < 0.45 && (0.22..0.52).contains(&down),
        };
        if second { self.second } else { self.shirt }
    }
}

/// What stays of a camera.
struct Camera {
    wall: Colour,
    floor: Colour,
    horizon: f32,
    /// A tint, a gain and a contrast.
    gain: Colour,
    contrast: f32,
    blur: u32,
    noise: f32,
    bricks: bool,
}

impl Camera {
    fn new(seed: u64, camera: u64) -> Camera {
        let rng = &mut seed::at(seed::named(seed, "camera"), camera, 0);
        let walls =
            [[0.55, 0.56, 0.58], [0.62, 0.52, 0.43], [0.42, 0.52, 0.40], [0.70, 0.70, 0.66], [0.36, 0.40, 0.48]];
        let floors = [[0.45, 0.44, 0.43], [0.36, 0.48, 0.28], [0.60, 0.56, 0.50], [0.30, 0.31, 0.34]];
        let bright = rng.random_range(0.75..1.2_f32);
        Camera {
            // In turns, so that two cameras next to each other differ.
            wall: walls[camera as usize % walls.len()],
            floor: floors[camera as usize % floors.len()],
            horizon: rng.random_range(0.45..0.75),
            gain: std::array::from_fn(|_| bright * rng.random_range(0.86..1.14)),
            contrast: rng.random_range(0.7..1.15),
            blur: rng.random_range(0..2),
            noise: rng.random_range(0.015..0.045),
            bricks: rng.random_bool(0.5),
        }
    }

    fn background(&self, light: f32, shift: f32, (x, y): Point) -> Colour {
        let horizon = self.horizon + 0.06 * shift;
        if y > horizon {
            return shade(self.floor, light * (0.85 + 0.3 * (y - horizon)));
        }
        let row = (y * 14.).floor();
        let joint = self.bricks && ((y * 14.).fract() < 0.14 || ((x + shift) * 9. + row * 0.5).rem_euclid(1.) < 0.10);
        shade(self.wall, light * if joint { 0.8 } else { 1. - 0.25 * (x - 0.25).abs() })
    }
}

/// The photo of `person` in `camera` at its `shot`, as a function of these and the seed; person 0 is an empty scene.
/// `height` and `width` in pixels, each at least 8.
pub fn photo(seed: u64, person: u64, camera: u64, shot: u64, height: u32, width: u32) -> RgbImage {
    let rng = &mut seed::at(seed::named(seed, "shot"), person, camera * 1_000_003 + shot);
    let scene = Camera::new(seed, camera);
    let (light, shift) = (rng.random_range(0.85..1.12_f32), rng.random_range(-1.0..1.0_f32));
    let mut canvas = Canvas::new(width, height, |at| scene.background(light, shift, at));
    clutter(&mut canvas, rng, light);
    if person > 0 {
        figure(&mut canvas, &Person::new(seed, person), rng, light);
    }
    if rng.random_bool(0.22) {
        occlude(&mut canvas, seed, rng, light);
    }
    let (noise, contrast, gain) = (scene.noise, scene.contrast * rng.random_range(0.92..1.08_f32), scene.gain);
    canvas.finish(scene.blur + u32::from(rng.random_bool(0.2)), |colour| {
        let grain = rng.random_range(-1.0..1.0_f32) + rng.random_range(-1.0..1.0_f32);
        std::array::from_fn(|c| ((colour[c] - 0.5) * contrast + 0.5) * gain[c] + noise * grain)
    })
}

/// Things behind the person: a post, a bin, a poster.
fn clutter(canvas: &mut Canvas, rng: &mut ChaCha8Rng, light: f32) {
    for _ in 0..rng.random_range(0..3) {
        let x = rng.random_range(0.0..canvas.aspect());
        let (top, half) = (rng.random_range(0.0..0.6), rng.random_range(0.01..0.06));
        let colour = shade(pick(rng, &CLOTHES), light * rng.random_range(0.4..0.8));
        canvas.fill((x - half, top), (x + half, top + rng.random_range(0.1..0.5)), |_| Some(colour));
    }
}

/// Something in front: a pole, a low wall, the edge of a passer-by.
fn occlude(canvas: &mut Canvas, seed: u64, rng: &mut ChaCha8Rng, light: f32) {
    let aspect = canvas.aspect();
    let colour = shade(pick(rng, &CLOTHES), light * 0.8);
    match rng.random_range(0..3) {
        0 => {
            let x = rng.random_range(0.2..0.8) * aspect;
            canvas.fill((x - 0.02, 0.), (x + 0.02, 1.), |_| Some(colour));
        }
        1 => {
            let top = rng.random_range(0.68..0.9);
            canvas.fill((0., top), (aspect, 1.), |_| Some(colour));
        }
        _ => {
            let stranger = Person::new(seed::mix(seed), rng.random_range(1..1000));
            let side = if rng.random_bool(0.5) { -0.02 } else { aspect + 0.02 };
            canvas.limb((side, 0.2), (side, 0.5), 0.10, 0.09, shade(stranger.shirt, light));
            canvas.limb((side, 0.5), (side, 1.), 0.08, 0.06, shade(stranger.trousers, light));
        }
    }
}

fn figure(canvas: &mut Canvas, who: &Person, rng: &mut ChaCha8Rng, light: f32) {
    // A bad box: the person is off centre, cut at the feet or the head, or small in it.
    let size = who.size * rng.random_range(0.88..1.08_f32);
    let x = canvas.aspect() / 2. + rng.random_range(-0.05..0.05_f32);
    let top = (1. - size) / 2. + rng.random_range(-0.05..0.05_f32);
    let light = light * rng.random_range(0.92..1.08);
    // Turned by: 0 is seen from the front, π from behind.
    let turn: f32 = rng.random_range(-std::f32::consts::PI..std::f32::consts::PI);
    let (back, side) = (turn.cos() < 0., turn.sin());
    let thin = 0.62 + 0.38 * turn.cos().abs();
    let step = rng.random_range(-1.0..1.0_f32) * 0.10 * (0.35 + 0.65 * side.abs());
    let down = |y: f32| top + y * size;
    let lit = |colour: Colour| shade(colour, light);

    let (neck, hip) = (down(0.155), down(1. - who.legs_share));
    let (shoulder, waist) = (who.shoulders * size * thin, who.shoulders * 0.82 * size * thin);
    let foot = down(0.975);

    if who.carried == Carried::Backpack && !back {
        canvas.trapezium(x - side * 0.07 * size, (down(0.19), shoulder * 0.9), (down(0.45), shoulder * 0.8), |_| {
            lit(shade(who.bag, 0.8))
        });
    }
    // Legs: hip to knee to foot, the two half a step apart.
    let knee = (hip + foot) / 2.;
    for (i, sway) in [step, -step].into_iter().enumerate() {
        let from = x + waist * if i == 0 { -0.45 } else { 0.45 };
        let (mid, end) = ((from + sway * 0.5, knee), (from + sway, foot));
        let (upper, lower) = match who.legs {
            Legs::Trousers => (who.trousers, who.trousers),
            Legs::Shorts => (who.trousers, who.skin),
            Legs::Skirt => (who.skin, who.skin),
        };
        let dim = if i == 0 { 0.9 } else { 1. };
        canvas.limb(mid, end, 0.030 * size, 0.024 * size, lit(shade(lower, dim)));
        canvas.limb((from, hip), mid, 0.045 * size, 0.034 * size, lit(shade(upper, dim)));
        canvas.ellipse((end.0 + side * 0.02 * size, foot), 0.036 * size, 0.017 * size, lit(who.shoes));
    }
    if who.legs == Legs::Skirt {
        canvas.trapezium(x, (hip - 0.02, waist), (hip + 0.22 * size, waist * 1.5), |_| lit(who.trousers));
    }
    // Torso, then arms over it.
    canvas.trapezium(x, (neck, shoulder), (hip + 0.01, waist), |at| {
        let (across, along) = at;
        lit(shade(who.shirt_at((across + side * 0.3, along), back), 1. - 0.18 * across * across))
    });
    canvas.ellipse((x, neck + 0.012 * size), shoulder, 0.022 * size, lit(who.shirt_at((0.9, 0.0), back)));
    let swing = step * 0.9;
    for (sign, swing) in [(-1., -swing), (1., swing)] {
        let from = (x + sign * shoulder * 0.95, neck + 0.03 * size);
        let elbow = (from.0 + sign * 0.018 + swing * 0.4, (neck + hip) / 2. + 0.01);
        let hand = (elbow.0 + swing * 0.6, hip + 0.03 * size);
        let sleeve = lit(shade(who.shirt_at((0.95, 0.1), back), 0.88));
        canvas.limb(from, elbow, 0.030 * size, 0.025 * size, sleeve);
        canvas.limb(elbow, hand, 0.024 * size, 0.019 * size, if who.long_sleeves { sleeve } else { lit(who.skin) });
        canvas.ellipse(hand, 0.020 * size, 0.022 * size, lit(who.skin));
    }
    if who.carried == Carried::Backpack && back {
        canvas.trapezium(x, (down(0.19), shoulder * 0.72), (down(0.46), shoulder * 0.78), |_| lit(who.bag));
    }
    if who.carried == Carried::ShoulderBag {
        let sign = if back { -1. } else { 1. };
        canvas.limb(
            (x - sign * shoulder * 0.7, neck),
            (x + sign * waist, hip - 0.03),
            0.009 * size,
            0.009 * size,
            lit(shade(who.bag, 0.7)),
        );
        canvas.trapezium(x + sign * waist * 1.05, (hip - 0.05, 0.045 * size), (hip + 0.06 * size, 0.05 * size), |_| {
            lit(who.bag)
        });
    }
    // Head: hair behind, face unless seen from behind, hair above, hat.
    let head = (x + side * 0.012, down(0.085));
    let (rx, ry) = (0.050 * size, 0.066 * size);
    if who.long_hair {
        canvas.trapezium(head.0, (head.1, rx * 1.15), (down(0.22), rx * 1.25), |_| lit(who.hair));
    }
    canvas.limb((x, head.1 + ry * 0.7), (x, neck + 0.01), 0.022 * size, 0.026 * size, lit(shade(who.skin, 0.85)));
    canvas.ellipse(head, rx, ry, lit(if back { who.hair } else { who.skin }));
    let hairline = if back { 0.9 } else { -0.15 };
    canvas.fill((head.0 - rx * 1.1, head.1 - ry * 1.1), (head.0 + rx * 1.1, head.1 + ry), |(px, py)| {
        let (u, v) = ((px - head.0) / (rx * 1.08), (py - head.1) / (ry * 1.08));
        (u * u + v * v <= 1. && (v < hairline || u * side < -0.55)).then(|| lit(who.hair))
    });
    if let Some(hat) = who.hat {
        canvas.trapezium(head.0, (head.1 - ry * 1.25, rx * 0.85), (head.1 - ry * 0.45, rx * 1.1), |_| lit(hat));
    }
}
