//! From bytes to choices. When the bytes run out, every choice is its first: no input is refused.

use super::number::Number;
use arbitrary::Unstructured;

/// The bytes of an input.
#[derive(Debug)]
pub struct Source<'a>(Unstructured<'a>);

impl<'a> Source<'a> {
    /// From the first byte.
    pub fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// Eight bytes.
    pub fn word(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number of 0..n, n > 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.int_in_range(0..=n - 1).unwrap_or(0)
    }

    /// One of some.
    pub fn choose<A: Copy>(&mut self, among: &[A]) -> A {
        among[self.below(among.len())]
    }

    /// A size up to a limit; half of them 0, 1, or beside a multiple of 16, where registers and blocks end.
    pub fn size(&mut self, limit: usize) -> usize {
        match self.below(8) {
            0 => self.below(3).min(limit),
            1 => (1 + self.below(limit.min(9))).min(limit),
            2 | 3 => (16 * self.below(limit / 16 + 1) + self.below(3)).saturating_sub(1).min(limit),
            _ => self.below(limit + 1),
        }
    }

    /// How the numbers of a vector or matrix are made.
    pub fn values(&mut self) -> Values {
        Values { style: self.below(10) as u8, scale: self.byte() as i8, state: self.word() }
    }
}

/// A rule that yields numbers: what the bytes decide is the rule, and with the last style each number.
#[derive(Clone, Copy, Debug)]
pub struct Values {
    style: u8,
    scale: i8,
    state: u64,
}

impl Values {
    /// The next number.
    pub fn next<T: Number>(&mut self, source: &mut Source<'_>) -> T {
        let random = self.random();
        let unit = (random >> 11) as f64 * 2_f64.powi(-52) - 1.0;
        let scale = i32::from(self.scale);
        let wide = if size_of::<T>() == 4 { 105.0 } else { 750.0 };
        match self.style {
            0 => T::of(unit),
            1 => T::of(unit * 2_f64.powi(scale / 8)),
            2 => T::of(f64::from((random % 9) as i8 - 4)),
            // A few, or very few, far above the rest, which are all as far below, or nearly.
            3 | 4 => {
                let gap = f64::from(self.scale.unsigned_abs()) / 128.0 * wide;
                let jitter = if self.style == 3 { 0.0 } else { unit };
                let few = if self.scale < 0 { 1024 } else { 16 };
                T::of(if random.is_multiple_of(few) { 0.0 } else { jitter - gap })
            }
            5 => T::of(f64::from(self.scale) / 8.0),
            6 => T::of(unit * 2_f64.powi(if size_of::<T>() == 4 { scale } else { 8 * scale })),
            7 => T::of_bits(random),
            8 => special((random >> 32) as usize, scale),
            _ => {
                let [kind, value] = [source.byte(), source.byte()];
                match kind % 4 {
                    0 => T::of(f64::from(value as i8) / 16.0),
                    1 => T::of(f64::from(value as i8) / 128.0 * wide),
                    2 => special(usize::from(value), scale),
                    _ => T::of(f64::from(value as i8) * 2_f64.powi(i32::from(kind as i8))),
                }
            }
        }
    }

    /// SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, 2014).
    pub fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Numbers at which something changes.
pub fn special<T: Number>(which: usize, scale: i32) -> T {
    let list = [
        0.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        1.0,
        -1.0,
        T::LARGEST,
        -T::LARGEST,
        T::SMALLEST_NORMAL,
        -T::SMALLEST_NORMAL,
        T::SMALLEST,
        -T::SMALLEST,
        T::SMALLEST_NORMAL - T::SMALLEST,
        2_f64.powi(scale / 2),
        -(2_f64.powi(scale / 2)),
        T::LARGEST / 2.0,
        1.0 + 2.0 * T::ROUNDING,
        1.0 - T::ROUNDING,
        40.0,
        // Where exp leaves the normal numbers, reaches 0, and overflows.
        -87.336_54,
        -103.972_08,
        88.722_84,
        -708.396_418_532_264_1,
        -745.133_219_101_941_1,
        709.782_712_893_384,
    ];
    T::of(list[which % list.len()])
}
