//! One SIMD register of `f32` or `f64`, as pulp has it: the operations that the kernels are made of.
//!
//! pulp names each operation once a type (`add_f32s`, `add_f64s`). This trait gives both the same name, so that a
//! kernel is written once. Only what is used is here.

use core::fmt::Debug;
use core::ops::{Add, Div, Mul, Neg, Sub};
use pulp::{Simd, bytemuck};

/// Most lanes a register has at any level (AVX-512, `f32`). Scratch rows are padded to a multiple of it.
pub(crate) const MAX_LANES: usize = 16;

/// A number type that comes in registers.
pub trait Lanes:
    bytemuck::Pod
    + Debug
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// A register.
    type Register<S: Simd>: bytemuck::Pod + Debug;
    /// What a comparison of registers yields.
    type Mask<S: Simd>: Copy + bytemuck::NoUninit;

    /// −∞.
    const NEG_INFINITY: Self;
    /// +∞.
    const INFINITY: Self;
    /// A quiet NaN.
    const NAN: Self;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Distance from 1 to the next number.
    const MACHINE_EPSILON: f64;
    /// 0, 1, 2, …
    const IOTA: [Self; MAX_LANES];

    /// Exact: both types hold it.
    #[cfg(feature = "half")]
    fn from_f32(x: f32) -> Self;
    /// Nearest value of this type.
    fn from_f64(x: f64) -> Self;
    /// Exact: both types fit.
    fn to_f64(self) -> f64;

    /// All lanes equal to `x`.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Register<S>;
    /// `a + b`
    fn add<S: Simd>(simd: S, a: Self::Register<S>, b: Self::Register<S>) -> Self::Register<S>;
    /// `a − b`
    fn sub<S: Simd>(simd: S, a: Self::Register<S>, b: Self::Register<S>) -> Self::Register<S>;
    /// `a · b`
    fn mul<S: Simd>(simd: S, a: Self::Register<S>, b: Self::Register<S>) -> Self::Register<S>;
    /// `a / b`
    fn div<S: Simd>(simd: S, a: Self::Register<S>, b: Self::Register<S>) -> Self::Register<S>;
    /// `a · b + c`: one rounding where the processor has FMA, two where it has not.
    fn mul_add<S: Simd>(
        simd: S,
        a: Self::Register<S>,
        b: Self::Register<S>,
        c: Self::Register<S>,
    ) -> Self::Register<S>;
    /// `a < b`; false where either is NaN.
    fn less<S: Simd>(simd: S, a: Self::Register<S>, b: Self::Register<S>) -> Self::Mask<S>;
    /// `a == b`; false where either is NaN.
    fn equal<S: Simd>(simd: S, a: Self::Register<S>, b: Self::Register<S>) -> Self::Mask<S>;
    /// The larger; `a` where either is NaN, or both are 0.
    fn larger<S: Simd>(simd: S, a: Self::Register<S>, b: Self::Register<S>) -> Self::Register<S>;
    /// The smaller; `a` where either is NaN, or both are 0.
    fn smaller<S: Simd>(simd: S, a: Self::Register<S>, b: Self::Register<S>) -> Self::Register<S>;
    /// Its absolute value; NaN of NaN.
    fn magnitude<S: Simd>(simd: S, a: Self::Register<S>) -> Self::Register<S>;
    /// `a` where the mask is set, else `b`.
    fn select<S: Simd>(
        simd: S,
        mask: Self::Mask<S>,
        a: Self::Register<S>,
        b: Self::Register<S>,
    ) -> Self::Register<S>;

    /// Whole registers of a slice, and the rest.
    fn split<S: Simd>(slice: &[Self]) -> (&[Self::Register<S>], &[Self]);
    /// Whole registers of a slice, and the rest.
    fn split_mut<S: Simd>(slice: &mut [Self]) -> (&mut [Self::Register<S>], &mut [Self]);
    /// The first lanes from a slice shorter than a register, zeros behind.
    fn load_partial<S: Simd>(simd: S, slice: &[Self]) -> Self::Register<S>;
    /// The first lanes to a slice shorter than a register.
    fn store_partial<S: Simd>(simd: S, slice: &mut [Self], v: Self::Register<S>);
}

macro_rules! lanes {
    ($t:ident, $register:ident, $mask:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident, $div:ident,
     $mul_add:ident, $less:ident, $equal:ident, $max:ident, $min:ident, $abs:ident, $select:ident, $split:ident,
     $split_mut:ident, $load:ident, $store:ident) => {
        impl Lanes for $t {
            type Register<S: Simd> = S::$register;
            type Mask<S: Simd> = S::$mask;

            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            const INFINITY: Self = $t::INFINITY;
            const NAN: Self = $t::NAN;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const MACHINE_EPSILON: f64 = $t::EPSILON as f64;
            const IOTA: [Self; MAX_LANES] =
                [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

            #[cfg(feature = "half")]
            #[inline(always)]
            fn from_f32(x: f32) -> Self {
                x.into()
            }
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$register {
                simd.$splat(x)
            }
            #[inline(always)]
            fn add<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$register {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn sub<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$register {
                simd.$sub(a, b)
            }
            #[inline(always)]
            fn mul<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$register {
                simd.$mul(a, b)
            }
            #[inline(always)]
            fn div<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$register {
                simd.$div(a, b)
            }
            #[inline(always)]
            fn mul_add<S: Simd>(simd: S, a: S::$register, b: S::$register, c: S::$register) -> S::$register {
                simd.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn less<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$mask {
                simd.$less(a, b)
            }
            #[inline(always)]
            fn equal<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$mask {
                simd.$equal(a, b)
            }
            #[inline(always)]
            fn larger<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$register {
                // One instruction, which gives its second operand where either is NaN or both are 0.
                if cfg!(target_arch = "x86_64") && !S::IS_SCALAR {
                    simd.$max(b, a)
                } else {
                    simd.$select(simd.$less(a, b), b, a)
                }
            }
            #[inline(always)]
            fn smaller<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$register {
                if cfg!(target_arch = "x86_64") && !S::IS_SCALAR {
                    simd.$min(b, a)
                } else {
                    simd.$select(simd.$less(b, a), b, a)
                }
            }
            #[inline(always)]
            fn magnitude<S: Simd>(simd: S, a: S::$register) -> S::$register {
                simd.$abs(a)
            }
            #[inline(always)]
            fn select<S: Simd>(simd: S, mask: S::$mask, a: S::$register, b: S::$register) -> S::$register {
                simd.$select(mask, a, b)
            }
            #[inline(always)]
            fn split<S: Simd>(slice: &[Self]) -> (&[S::$register], &[Self]) {
                S::$split(slice)
            }
            #[inline(always)]
            fn split_mut<S: Simd>(slice: &mut [Self]) -> (&mut [S::$register], &mut [Self]) {
                S::$split_mut(slice)
            }
            #[inline(always)]
            fn load_partial<S: Simd>(simd: S, slice: &[Self]) -> S::$register {
                simd.$load(slice)
            }
            #[inline(always)]
            fn store_partial<S: Simd>(simd: S, slice: &mut [Self], v: S::$register) {
                simd.$store(slice, v)
            }
        }
    };
}

#[rustfmt::skip]
lanes!(
    f32, f32s, m32s, splat_f32s, add_f32s, sub_f32s, mul_f32s, div_f32s, mul_add_e_f32s, less_than_f32s,
    equal_f32s, max_f32s, min_f32s, abs_f32s, select_f32s, as_simd_f32s, as_mut_simd_f32s, partial_load_f32s,
    partial_store_f32s
);
#[rustfmt::skip]
lanes!(
    f64, f64s, m64s, splat_f64s, add_f64s, sub_f64s, mul_f64s, div_f64s, mul_add_e_f64s, less_than_f64s,
    equal_f64s, max_f64s, min_f64s, abs_f64s, select_f64s, as_simd_f64s, as_mut_simd_f64s, partial_load_f64s,
    partial_store_f64s
);
