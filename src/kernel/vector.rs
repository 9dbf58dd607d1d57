//! Registers of `f32` or `f64` as the kernels handle them.

use super::lanes::{Lanes, MAX_LANES};
use core::ops::{Add, Div, Mul, Sub};
use pulp::{Simd, bytemuck};

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

/// A kernel in a function of its own: of several in one, compilers take minutes, and for the registers of one they store those of
/// another.
#[inline(never)]
pub(crate) fn alone<S: Simd, R>(simd: S, kernel: impl FnOnce() -> R) -> R {
    simd.vectorize(kernel)
}

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

    /// Its absolute value, lane by lane.
    #[inline(always)]
    pub(crate) fn magnitude(mut self) -> Self {
        for i in 0..N {
            self.registers[i] = T::magnitude(self.simd, self.registers[i]);
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
