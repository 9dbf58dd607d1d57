//! One SIMD register of `f32` or `f64`: the operations that the kernels are written in.
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

/// Registers with the instruction set that works on them, so that kernels read as formulas.
///
/// N of them go through a formula side by side: a processor that waits for the result of one instruction has the next
/// register's to do. Of single registers it would have to look further ahead than it can.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Vector<T: Lanes, S: Simd, const N: usize = 1> {
    pub(crate) registers: [T::Register<S>; N],
    pub(crate) simd: S,
}

/// On a line of the cache. A processor takes twice as long over a register that lies on two, and the numbers alone would
/// let the stack begin anywhere.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Aligned<A>(pub(super) A);

/// What a comparison yields, register by register.
#[derive(Clone, Copy)]
pub(crate) struct Mask<T: Lanes, S: Simd, const N: usize = 1>([T::Mask<S>; N]);

impl<T: Lanes, S: Simd> Mask<T, S> {
    /// Whether some lane is set.
    #[inline(always)]
    pub(crate) fn any(self) -> bool {
        bytemuck::bytes_of(&self.0[0]).iter().fold(
            0,
            #[inline(always)]
            |any, byte| any | byte,
        ) != 0
    }
}

/// Registers that most kernels take at a time.
pub(crate) const UNROLL: usize = 4;

impl<T: Lanes, S: Simd, const N: usize> Vector<T, S, N> {
    /// Lanes of a register.
    pub(crate) const COUNT: usize = size_of::<T::Register<S>>() / size_of::<T>();

    #[inline(always)]
    pub(crate) fn of(simd: S, registers: [T::Register<S>; N]) -> Self {
        Self { registers, simd }
    }

    /// All lanes equal to `x`.
    #[inline(always)]
    pub(crate) fn splat(simd: S, x: T) -> Self {
        Self::of(simd, [T::splat(simd, x); N])
    }

    /// All lanes equal to `x`, for a formula in `self`.
    #[inline(always)]
    pub(crate) fn constant(self, x: T) -> Self {
        Self::splat(self.simd, x)
    }

    /// N times the same register.
    #[inline(always)]
    pub(crate) fn repeat(v: Vector<T, S>) -> Self {
        Self::of(v.simd, [v.registers[0]; N])
    }

    /// One of the registers.
    #[inline(always)]
    pub(crate) fn part(self, i: usize) -> Vector<T, S> {
        Vector::of(self.simd, [self.registers[i]])
    }

    /// The first N registers of a slice that holds as many.
    #[inline(always)]
    pub(crate) fn load(simd: S, slice: &[T]) -> Self {
        Self::of(simd, T::split::<S>(slice).0.as_chunks::<N>().0[0])
    }

    /// To the first N registers of a slice that holds as many.
    #[inline(always)]
    pub(crate) fn store(self, slice: &mut [T]) {
        T::split_mut::<S>(slice).0.as_chunks_mut::<N>().0[0] = self.registers;
    }

    /// self·b + c: one rounding where the processor has FMA, two where it has not.
    #[inline(always)]
    pub(crate) fn mul_add(mut self, b: Self, c: Self) -> Self {
        for i in 0..N {
            self.registers[i] = T::mul_add(self.simd, self.registers[i], b.registers[i], c.registers[i]);
        }
        self
    }

    /// self < b; false where either is NaN.
    #[inline(always)]
    pub(crate) fn less(self, b: Self) -> Mask<T, S, N> {
        let mut mask = [T::less(self.simd, self.registers[0], b.registers[0]); N];
        for i in 1..N {
            mask[i] = T::less(self.simd, self.registers[i], b.registers[i]);
        }
        Mask(mask)
    }

    /// self = b; false where either is NaN.
    #[inline(always)]
    pub(crate) fn equal(self, b: Self) -> Mask<T, S, N> {
        let mut mask = [T::equal(self.simd, self.registers[0], b.registers[0]); N];
        for i in 1..N {
            mask[i] = T::equal(self.simd, self.registers[i], b.registers[i]);
        }
        Mask(mask)
    }

    /// self where the mask is set, else b.
    #[inline(always)]
    pub(crate) fn or_else(mut self, mask: Mask<T, S, N>, b: Self) -> Self {
        for i in 0..N {
            self.registers[i] = T::select(self.simd, mask.0[i], self.registers[i], b.registers[i]);
        }
        self
    }

    /// The larger, lane by lane; self where either is NaN.
    #[inline(always)]
    pub(crate) fn larger(mut self, b: Self) -> Self {
        for i in 0..N {
            self.registers[i] = T::larger(self.simd, self.registers[i], b.registers[i]);
        }
        self
    }

    /// The smaller, lane by lane; self where either is NaN.
    #[inline(always)]
    pub(crate) fn smaller(mut self, b: Self) -> Self {
        for i in 0..N {
            self.registers[i] = T::smaller(self.simd, self.registers[i], b.registers[i]);
        }
        self
    }

    /// The smallest of `start` and the registers, lane by lane, of what is not NaN; for a `start` that is not.
    #[inline(always)]
    pub(crate) fn least(self, start: Vector<T, S>) -> Vector<T, S> {
        let mut least = start;
        for i in 0..N {
            least = least.smaller(self.part(i));
        }
        least
    }

    /// The largest, as [`least`](Self::least).
    #[inline(always)]
    pub(crate) fn most(self, start: Vector<T, S>) -> Vector<T, S> {
        let mut most = start;
        for i in 0..N {
            most = most.larger(self.part(i));
        }
        most
    }

    /// Whether some lane is less than `bound`; NaN is not. One comparison for all registers: on Zen 4 those of AVX-512 take
    /// the place of multiply-adds, where the smaller of two does not.
    #[inline(always)]
    pub(crate) fn any_below(self, bound: T) -> bool {
        let bound = Vector::splat(self.simd, bound);
        let least = if N == 1 { self.part(0) } else { self.least(bound) };
        least.less(bound).any()
    }

    /// Whether some lane is greater than `bound`; NaN is not.
    #[inline(always)]
    pub(crate) fn any_above(self, bound: T) -> bool {
        let bound = Vector::splat(self.simd, bound);
        let most = if N == 1 { self.part(0) } else { self.most(bound) };
        bound.less(most).any()
    }
}

impl<T: Lanes, S: Simd> Vector<T, S> {
    /// Whether `mul_add` rounds once. The compiler knows the answer.
    #[inline(always)]
    pub(crate) fn fuses(simd: S) -> bool {
        let more = Self::splat(simd, T::from_f64(1.0 + T::MACHINE_EPSILON));
        let less = Self::splat(simd, T::from_f64(1.0 - T::MACHINE_EPSILON));
        let minus_one = Self::splat(simd, -T::ONE);
        // 1 − ε² is rounded to 1, unless 1 is taken from it before.
        more.mul_add(less, minus_one).first() < T::ZERO
    }

    /// The register.
    #[inline(always)]
    pub(crate) fn register(self) -> T::Register<S> {
        self.registers[0]
    }

    /// The lanes from `first` on.
    #[inline(always)]
    pub(crate) fn lanes_from(simd: S, first: usize) -> Mask<T, S> {
        Self::splat(simd, T::from_f64(first as f64 - 0.5)).less(Self::load(simd, &T::IOTA))
    }

    /// The first lanes from a slice shorter than a register, `fill` behind.
    #[inline(always)]
    pub(crate) fn load_or(simd: S, slice: &[T], fill: T) -> Self {
        let iota = Self::load(simd, &T::IOTA);
        let end = Self::splat(simd, T::from_f64(slice.len() as f64));
        let inside = iota.less(end);
        Self::of(simd, [T::load_partial(simd, slice)]).or_else(inside, Self::splat(simd, fill))
    }

    /// The first lanes to a slice shorter than a register.
    #[inline(always)]
    pub(crate) fn store_partial(self, slice: &mut [T]) {
        T::store_partial(self.simd, slice, self.register());
    }

    /// The first lanes from a slice of at most a register, `fill` behind.
    #[inline(always)]
    pub(crate) fn load_padded(simd: S, slice: &[T], fill: T) -> Self {
        if slice.len() == Self::COUNT { Self::load(simd, slice) } else { Self::load_or(simd, slice, fill) }
    }

    /// The first lanes to a slice of at most a register.
    #[inline(always)]
    pub(crate) fn store_padded(self, slice: &mut [T]) {
        if slice.len() == Self::COUNT { self.store(slice) } else { self.store_partial(slice) }
    }

    /// The lanes.
    #[inline(always)]
    pub(crate) fn lanes(&self) -> &[T] {
        bytemuck::cast_slice(&self.registers)
    }

    /// The first lane.
    #[inline(always)]
    pub(crate) fn first(self) -> T {
        self.lanes()[0]
    }

    /// Sum of the lanes, in the order of a balanced tree.
    #[inline(always)]
    pub(crate) fn sum(self) -> T {
        self.reduce(
            #[inline(always)]
            |a, b| a + b,
        )
    }

    /// The largest lane, where none is NaN.
    #[inline(always)]
    pub(crate) fn largest(self) -> T {
        self.reduce(
            #[inline(always)]
            |a, b| if a < b { b } else { a },
        )
    }

    /// The lanes by twos, and what is left of them, until there is one.
    #[inline(always)]
    fn reduce(self, f: impl Fn(T, T) -> T) -> T {
        let mut lanes = [T::ZERO; MAX_LANES];
        let mut count = Self::COUNT;
        lanes[..count].copy_from_slice(self.lanes());
        while count > 1 {
            count /= 2;
            for i in 0..count {
                lanes[i] = f(lanes[i], lanes[i + count]);
            }
        }
        lanes[0]
    }

    /// Copies a slice, register by register: a call of `memcpy` for each of a few short columns would cost more than they
    /// do. It adds 0, since of a loop that only copies the compiler would make such calls.
    #[inline(always)]
    pub(crate) fn copy(simd: S, from: &[T], to: &mut [T]) {
        let zero = Self::splat(simd, T::ZERO);
        let (whole, rest) = T::split::<S>(from);
        let registers = T::split_mut::<S>(to).0;
        for (out, &x) in registers.iter_mut().zip(whole) {
            *out = (Self::of(simd, [x]) + zero).register();
        }
        if let (false, Some(out)) = (rest.is_empty(), registers.get_mut(whole.len())) {
            *out = T::load_partial(simd, rest);
        }
    }
}

macro_rules! operator {
    ($($operator:ident, $function:ident);*) => {$(
        impl<T: Lanes, S: Simd, const N: usize> $operator for Vector<T, S, N> {
            type Output = Self;
            #[inline(always)]
            fn $function(mut self, b: Self) -> Self {
                for i in 0..N {
                    self.registers[i] = <T as Lanes>::$function(self.simd, self.registers[i], b.registers[i]);
                }
                self
            }
        }
    )*};
}

operator!(Add, add; Sub, sub; Mul, mul; Div, div);

macro_rules! lanes {
    ($t:ident, $register:ident, $mask:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident, $div:ident,
     $mul_add:ident, $less:ident, $equal:ident, $max:ident, $min:ident, $select:ident, $split:ident,
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
    equal_f32s, max_f32s, min_f32s, select_f32s, as_simd_f32s, as_mut_simd_f32s, partial_load_f32s,
    partial_store_f32s
);
#[rustfmt::skip]
lanes!(
    f64, f64s, m64s, splat_f64s, add_f64s, sub_f64s, mul_f64s, div_f64s, mul_add_e_f64s, less_than_f64s,
    equal_f64s, max_f64s, min_f64s, select_f64s, as_simd_f64s, as_mut_simd_f64s, partial_load_f64s,
    partial_store_f64s
);
