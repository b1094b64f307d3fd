//! f32 and f64 under one name, and the numbers of a tensor as slices.

use std::ops::{Add, Div, Mul, Neg, Sub};

use tch::{Device, Kind, Tensor, kind::Element};

/// f32 and f64.
pub(crate) trait Real:
    Element
    + Copy
    + PartialOrd
    + Send
    + Sync
    + Into<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    const INFINITY: Self;
    /// Distance from 1 to the next larger number.
    const EPSILON: f64;
    /// What the rounding of a matrix product can leave of a squared distance of 0, as a share of the two squared lengths.
    const ROUNDING: Self;
    /// A whole number as wide as this one.
    type Order: Copy + Ord;
    fn of(x: f64) -> Self;
    fn root(self) -> Self;
    fn finite(self) -> bool;
    /// `e^x` of an `x` up to 0 to the last bit or two, in steps that go through vector registers; NaN for NaN.
    /// Results below the least normal number lack a bit, and below 1/√2 of it are 0.
    fn exponential(self) -> Self;
    /// Where this number, no NaN, stands among all others, for [`Real::between`]; -0 stands before 0.
    fn order(self) -> Self::Order;
    /// How many numbers lie between two; where the second is not above the first, more than up to any that is.
    fn between(below: Self::Order, above: Self::Order) -> Self::Order;
}

/// 1/13!, 1/12! and so on to 1/2!: of Taylor's series for e^r.
const INVERSE: [f64; 12] = [
    1. / 6_227_020_800.,
    1. / 479_001_600.,
    1. / 39_916_800.,
    1. / 3_628_800.,
    1. / 362_880.,
    1. / 40_320.,
    1. / 5_040.,
    1. / 720.,
    1. / 120.,
    1. / 24.,
    1. / 6.,
    0.5,
];

macro_rules! real {
    ($of:ident, $order:ident, $signed:ident, $rounding:literal, exponential: $least:literal, [$high:literal, $low:literal],
        $from:literal) => {
        impl Real for $of {
            const INFINITY: $of = $of::INFINITY;
            const EPSILON: f64 = $of::EPSILON as f64;
            const ROUNDING: $of = $rounding;
            type Order = $order;
            #[inline(always)]
            fn of(x: f64) -> $of {
                x as $of
            }
            #[inline(always)]
            fn root(self) -> $of {
                self.sqrt()
            }
            #[inline(always)]
            fn finite(self) -> bool {
                self.is_finite()
            }
            #[inline(always)]
            fn exponential(self) -> $of {
                // Added to a number, it rounds that to a whole one, which then stands in the lowest bits.
                const WHOLE: $of = 1.5 * (1_u64 << ($of::MANTISSA_DIGITS - 1)) as $of;
                let x = if self < $least { $least } else { self };
                let shifted = x * std::$of::consts::LOG2_E + WHOLE;
                let k = shifted - WHOLE;
                let r = x - k * $high - k * $low;
                let mut series = Self::of(INVERSE[$from]);
                for &factor in &INVERSE[$from + 1..] {
                    series = series * r + Self::of(factor);
                }
                let power = shifted.to_bits().wrapping_add($of::MAX_EXP as $order - 1) << ($of::MANTISSA_DIGITS - 1);
                ((series * r + 1.) * r + 1.) * $of::from_bits(power)
            }
            #[inline(always)]
            fn order(self) -> $order {
                let bits = self.to_bits();
                // Below 0 the farther number has the larger bits: all but the sign are turned over.
                bits ^ (((bits as $signed >> ($order::BITS - 1)) as $order) >> 1)
            }
            #[inline(always)]
            fn between(below: $order, above: $order) -> $order {
                above.wrapping_add(!below)
            }
        }
    };
}

// Of the exponential: the least x, at which the bits of the power of 2 are all 0; ln 2 in two parts, the first with so few
// bits that its multiples are exact; where the series begins, the term before being below the last bit at |r| = ln 2 / 2.
real!(f32, u32, i32, 1e-6, exponential: -88., [0.693_145_75, 1.428_606_8e-6], 6);
real!(f64, u64, i64, 1e-14, exponential: -709., [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10], 0);

/// The kind to compute in: f64 where one of `of` is f64, else f32.
pub(crate) fn wide(of: &[&Tensor]) -> Kind {
    if of.iter().any(|t| t.kind() == Kind::Double) { Kind::Double } else { Kind::Float }
}

/// A copy of the numbers of `t`, of kind `T`, in row-major order.
pub(crate) fn numbers<T: Element + Copy>(t: &Tensor) -> Vec<T> {
    let mut out = vec![T::ZERO; t.numel()];
    t.to_device(Device::Cpu).contiguous().copy_data(&mut out, t.numel());
    out
}

/// Places as a tensor that picks by them, int64.
pub(crate) fn index(places: impl IntoIterator<Item = usize>) -> Tensor {
    Tensor::from_slice(&places.into_iter().map(|place| place as i64).collect::<Vec<_>>())
}

/// The numbers of a tensor that its caller made and nothing else reads or writes, where they lie.
///
/// # Panics
/// When `t` is not a contiguous tensor of kind `T` on the CPU.
pub(crate) fn in_place<T: Real>(t: &mut Tensor) -> &mut [T] {
    assert!(t.device() == Device::Cpu && t.kind() == T::KIND && t.is_contiguous(), "a dense tensor on the CPU");
    // SAFETY: a contiguous tensor of this kind in this machine's memory is `numel` such numbers from `data_ptr` on. It is
    // borrowed mutably for as long as they are, and the callers give tensors that share their memory with no other.
    unsafe { std::slice::from_raw_parts_mut(t.data_ptr().cast::<T>(), t.numel()) }
}

/// The numbers of a tensor that nothing writes while they are borrowed, where they lie.
///
/// # Panics
/// As [`in_place`].
pub(crate) fn read_in_place<T: Real>(t: &Tensor) -> &[T] {
    assert!(t.device() == Device::Cpu && t.kind() == T::KIND && t.is_contiguous(), "a dense tensor on the CPU");
    // SAFETY: as above, but that it is shared, and the callers change no tensor while they read it.
    unsafe { std::slice::from_raw_parts(t.data_ptr().cast::<T>(), t.numel()) }
}
