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
    fn of(x: f64) -> Self;
    fn root(self) -> Self;
    fn finite(self) -> bool;
}

macro_rules! real {
    ($of:ident, $rounding:literal) => {
        impl Real for $of {
            const INFINITY: $of = $of::INFINITY;
            const EPSILON: f64 = $of::EPSILON as f64;
            const ROUNDING: $of = $rounding;
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
        }
    };
}

real!(f32, 1e-6);
real!(f64, 1e-14);

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
