//! What the oracle has to know of `f32` and `f64`.

use core::cell::RefCell;
use softmax_regression::{Real, Workspace};

/// `f32` or `f64`.
pub trait Number: Real {
    /// u = ε/2: the largest relative error of rounding.
    const ROUNDING: f64;
    /// Smallest normal number.
    const SMALLEST_NORMAL: f64;
    /// Smallest number above 0.
    const SMALLEST: f64;
    /// Largest finite number.
    const LARGEST: f64;
    /// A NaN that no computation yields: what outputs hold before they are written.
    const SENTINEL: Self;
    /// Nearest number.
    fn of(x: f64) -> Self;
    /// The same number.
    fn get(self) -> f64;
    /// From the low bits.
    fn of_bits(bits: u64) -> Self;
    /// As bits.
    fn bits(self) -> u64;
    /// The one workspace of this type and thread, which all inputs share: what an earlier one left in it must not matter.
    fn with_workspace<R>(f: impl FnOnce(&mut Workspace<Self>) -> R) -> R;
}

macro_rules! number {
    ($($t:ident: $bits:ident, $sentinel:literal;)*) => {$(
        impl Number for $t {
            const ROUNDING: f64 = $t::EPSILON as f64 / 2.0;
            const SMALLEST_NORMAL: f64 = $t::MIN_POSITIVE as f64;
            const SMALLEST: f64 = $t::from_bits(1) as f64;
            const LARGEST: f64 = $t::MAX as f64;
            const SENTINEL: Self = $t::from_bits($sentinel);
            fn of(x: f64) -> Self {
                x as $t
            }
            fn get(self) -> f64 {
                f64::from(self)
            }
            fn of_bits(bits: u64) -> Self {
                $t::from_bits(bits as $bits)
            }
            fn bits(self) -> u64 {
                u64::from(self.to_bits())
            }
            fn with_workspace<R>(f: impl FnOnce(&mut Workspace<Self>) -> R) -> R {
                thread_local! {
                    static WORKSPACE: RefCell<Workspace<$t>> = const { RefCell::new(Workspace::new()) };
                }
                WORKSPACE.with(|workspace| f(&mut workspace.borrow_mut()))
            }
        }
    )*};
}

number! {
    f32: u32, 0x7fd5_e471;
    f64: u64, 0x7ffd_5e47_115e_47e1;
}

/// Whether two results are the same bits, or both NaN: which NaN is left to the processor.
pub fn same<T: Number>(a: T, b: T) -> bool {
    a.bits() == b.bits() || (a.get().is_nan() && b.get().is_nan())
}

/// Panics unless two slices hold the [`same`].
///
/// # Panics
/// If they do not.
pub fn assert_same<T: Number>(a: &[T], b: &[T], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
        assert!(same(a, b), "{what}: at {i}, {a:?} ({:#x}) and {b:?} ({:#x})", a.bits(), b.bits());
    }
}
