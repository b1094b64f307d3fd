//! One drawn photo: who it shows, and how this camera saw them this time.

use image::RgbImage;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::canvas::{Canvas, Colour, drawn, palette, pick, shade};
use crate::seed;

/// Clothes come in these, a little lighter or darker from person to person.
const CLOTHES: [Colour; 9] = palette([751617, 163062, 184827, 867428, 909088, 131315, 484850, 452852, 584026]);
const TROUSERS: [Colour; 6] = palette([141832, 101011, 424038, 605240, 283650, 322217]);
const SHOES: [Colour; 4] = palette([80809, 888886, 402616, 701515]);
const SKIN: [Colour; 5] = palette([958069, 876854, 725238, 523625, 362417]);
const HAIR: [Colour; 5] = palette([100807, 281811, 503317, 806638, 626262]);
const WALLS: [Colour; 5] = palette([555658, 625243, 425240, 707066, 364048]);
const FLOORS: [Colour; 4] = palette([454443, 364828, 605650, 303134]);

/// Where a shirt shows its second colour: across in -1..1, down in 0..1, and whether it is seen from behind.
const PATTERNS: [fn(f32, f32, bool) -> bool; 7] = [
    |_, _, _| false,
    |_, _, _| false,
    |across, _, _| (across * 3.5 + 10.).rem_euclid(1.) < 0.4,
    |_, down, _| (down * 5.).rem_euclid(1.) < 0.42,
    |across, down, _| ((across * 2.5 + 10.).rem_euclid(1.) < 0.5) ^ ((down * 4.).rem_euclid(1.) < 0.5),
    |_, down, _| down > 0.5,
    // A badge on the chest.
    |across, down, back| !back && across.abs() < 0.45 && (0.22..0.52).contains(&down),
];

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

/// Any of the clothes but `not`.
fn other(rng: &mut ChaCha8Rng, not: Colour) -> Colour {
    let colour = pick(rng, &CLOTHES);
    if colour == not { other(rng, not) } else { colour }
}

fn toned(rng: &mut ChaCha8Rng, colour: Colour) -> Colour {
    shade(colour, rng.random_range(0.85..1.15))
}

drawn! {
    /// What stays of a person.
    Person(rng; first = pick(rng, &CLOTHES); last = other(rng, first)) {
        size: f32 = rng.random_range(0.80..0.96),
        shoulders: f32 = rng.random_range(0.090..0.135),
        legs_share: f32 = rng.random_range(0.44..0.52),
        skin: Colour = pick(rng, &SKIN),
        hair: Colour = pick(rng, &HAIR),
        long_hair: bool = rng.random_bool(0.4),
        hat: Option<Colour> = rng.random_bool(0.15).then(|| pick(rng, &CLOTHES)),
        shirt: Colour = toned(rng, first),
        second: Colour = toned(rng, last),
        pattern: fn(f32, f32, bool) -> bool = pick(rng, &PATTERNS),
        long_sleeves: bool = rng.random_bool(0.6),
        legs: Legs = pick(rng, &[Legs::Trousers, Legs::Trousers, Legs::Trousers, Legs::Shorts, Legs::Skirt]),
        trousers: Colour = { let colour = pick(rng, &TROUSERS); toned(rng, colour) },
        shoes: Colour = pick(rng, &SHOES),
        carried: Carried = pick(rng, &[Carried::Nothing, Carried::Nothing, Carried::Backpack, Carried::ShoulderBag]),
        bag: Colour = pick(rng, &CLOTHES),
    }
}

impl Person {
    fn of(seed: u64, number: u64) -> Person {
        Person::new(&mut seed::at(seed::named(seed, "person"), number, 0))
    }

    /// The shirt's colour at a place of the torso.
    fn shirt_at(&self, across: f32, down: f32, back: bool) -> Colour {
        if (self.pattern)(across, down, back) { self.second } else { self.shirt }
    }
}

drawn! {
    /// What stays of a camera.
    Camera(rng; bright = rng.random_range(0.75..1.2_f32)) {
        horizon: f32 = rng.random_range(0.45..0.75),
        gain: Colour = std::array::from_fn(|_| bright * rng.random_range(0.86..1.14)),
        contrast: f32 = rng.random_range(0.7..1.15),
        blur: u32 = rng.random_range(0..2),
        noise: f32 = rng.random_range(0.015..0.045),
        bricks: bool = rng.random_bool(0.5),
    }
}

/// The photo of `person` in `camera` at its `shot`, as a function of these and the seed; person 0 is an empty scene.
/// `height` and `width` in pixels, each at least 8.
pub fn photo(seed: u64, person: u64, camera: u64, shot: u64, height: u32, width: u32) -> RgbImage {
    let rng = &mut seed::at(seed::named(seed, "shot"), person, camera * 1_000_003 + shot);
    let scene = Camera::new(&mut seed::at(seed::named(seed, "camera"), camera, 0));
    // In turns, so that two cameras next to each other differ.
    let (wall, floor) = (WALLS[camera as usize % WALLS.len()], FLOORS[camera as usize % FLOORS.len()]);
    let (light, shift) = (rng.random_range(0.85..1.12_f32), rng.random_range(-1.0..1.0_f32));
    let horizon = scene.horizon + 0.06 * shift;
    let mut canvas = Canvas::new(width, height, |(x, y)| {
        if y > horizon {
            return shade(floor, light * (0.85 + 0.3 * (y - horizon)));
        }
        let row = (y * 14.).floor();
        let beside = || ((x + shift) * 9. + row * 0.5).rem_euclid(1.) < 0.10;
        let joint = scene.bricks && ((y * 14.).fract() < 0.14 || beside());
        shade(wall, light * if joint { 0.8 } else { 1. - 0.25 * (x - 0.25).abs() })
    });
    clutter(&mut canvas, rng, light);
    if person > 0 {
        figure(&mut canvas, &Person::of(seed, person), rng, light);
    }
    if rng.random_bool(0.22) {
        occlude(&mut canvas, seed, rng, light);
    }
    let contrast = scene.contrast * rng.random_range(0.92..1.08_f32);
    let blur = scene.blur + u32::from(rng.random_bool(0.2));
    canvas.photograph(blur, contrast, scene.gain, scene.noise, rng)
}

/// Things behind the person: a post, a bin, a poster.
fn clutter(canvas: &mut Canvas, rng: &mut ChaCha8Rng, light: f32) {
    for _ in 0..rng.random_range(0..3) {
        let x = rng.random_range(0.0..canvas.aspect());
        let (top, half) = (rng.random_range(0.0..0.6), rng.random_range(0.01..0.06));
        let colour = shade(pick(rng, &CLOTHES), light * rng.random_range(0.4..0.8));
        canvas.rectangle((x - half, top), (x + half, top + rng.random_range(0.1..0.5)), colour);
    }
}

/// Something in front: a pole, a low wall, the edge of a passer-by.
fn occlude(canvas: &mut Canvas, seed: u64, rng: &mut ChaCha8Rng, light: f32) {
    let aspect = canvas.aspect();
    let colour = shade(pick(rng, &CLOTHES), light * 0.8);
    match rng.random_range(0..3) {
        0 => {
            let x = rng.random_range(0.2..0.8) * aspect;
            canvas.rectangle((x - 0.02, 0.), (x + 0.02, 1.), colour);
        }
        1 => canvas.rectangle((0., rng.random_range(0.68..0.9)), (aspect, 1.), colour),
        _ => {
            let stranger = Person::of(seed::mix(seed), rng.random_range(1..1000));
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
        let (top, bottom) = ((down(0.19), shoulder * 0.9), (down(0.45), shoulder * 0.8));
        canvas.trapezium(x - side * 0.07 * size, top, bottom, |_| lit(shade(who.bag, 0.8)));
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
    canvas.trapezium(x, (neck, shoulder), (hip + 0.01, waist), |(across, along)| {
        lit(shade(who.shirt_at(across + side * 0.3, along, back), 1. - 0.18 * across * across))
    });
    canvas.ellipse((x, neck + 0.012 * size), shoulder, 0.022 * size, lit(who.shirt_at(0.9, 0., back)));
    let swing = step * 0.9;
    for (sign, swing) in [(-1., -swing), (1., swing)] {
        let from = (x + sign * shoulder * 0.95, neck + 0.03 * size);
        let elbow = (from.0 + sign * 0.018 + swing * 0.4, (neck + hip) / 2. + 0.01);
        let hand = (elbow.0 + swing * 0.6, hip + 0.03 * size);
        let sleeve = lit(shade(who.shirt_at(0.95, 0.1, back), 0.88));
        canvas.limb(from, elbow, 0.030 * size, 0.025 * size, sleeve);
        canvas.limb(elbow, hand, 0.024 * size, 0.019 * size, if who.long_sleeves { sleeve } else { lit(who.skin) });
        canvas.ellipse(hand, 0.020 * size, 0.022 * size, lit(who.skin));
    }
    if who.carried == Carried::Backpack && back {
        canvas.trapezium(x, (down(0.19), shoulder * 0.72), (down(0.46), shoulder * 0.78), |_| lit(who.bag));
    }
    if who.carried == Carried::ShoulderBag {
        let sign = if back { -1. } else { 1. };
        let (from, to) = ((x - sign * shoulder * 0.7, neck), (x + sign * waist, hip - 0.03));
        canvas.limb(from, to, 0.009 * size, 0.009 * size, lit(shade(who.bag, 0.7)));
        let (top, bottom) = ((hip - 0.05, 0.045 * size), (hip + 0.06 * size, 0.05 * size));
        canvas.trapezium(x + sign * waist * 1.05, top, bottom, |_| lit(who.bag));
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
