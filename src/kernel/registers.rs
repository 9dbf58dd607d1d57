//! How large the registers of a level are, and how many: which kernel it runs, and in what tiles, depends on it.

use pulp::{Simd, WithSimd};

/// Whether a level has registers of 256 bits or more.
pub(crate) const fn is_wide<S: Simd>() -> bool {
    Registers::of::<S>().are_wide()
}

/// Whether a level has registers of 512 bits, or what looks like them.
pub(crate) const fn is_widest<S: Simd>() -> bool {
    Registers::of::<S>().are_widest()
}

/// Whether these are made of scalars: pulp says that there are few of them.
pub(crate) const fn is_emulated<S: Simd>() -> bool {
    is_widest::<S>() && S::REGISTER_COUNT < 32
}

/// As AVX-512 has, and what stands for it: a tile may be as large as its addresses allow.
pub(crate) const fn has_many_registers<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32 || is_widest::<S>()
}

/// What the registers of a level are like, as far as the choice of a kernel depends on it.
pub(crate) struct Registers {
    bytes: usize,
}

impl Registers {
    const fn of<S: Simd>() -> Self {
        Self { bytes: size_of::<S::f64s>() }
    }

    /// See [`is_wide`].
    pub(crate) const fn are_wide(&self) -> bool {
        self.bytes >= 32
    }

    /// See [`is_widest`].
    pub(crate) const fn are_widest(&self) -> bool {
        self.bytes == 64
    }

    /// Numbers of so many bytes that one holds.
    pub(crate) fn lanes(&self, size: usize) -> usize {
        self.bytes / size
    }
}

/// Asks a level for its [`Registers`].
pub(super) struct AskRegisters;

impl WithSimd for AskRegisters {
    type Output = Registers;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Registers {
        Registers::of::<S>()
    }
}
