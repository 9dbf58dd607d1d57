//! Class labels of every type that the crate takes, good and bad.

use super::draw::Source;
use softmax_regression::Targets;

macro_rules! labels {
    ($($variant:ident($t:ty)),*) => {
        /// Labels of one of the types.
        #[derive(Clone, Debug)]
        pub enum Labels {
            $(#[doc = stringify!($t)] $variant(Vec<$t>),)*
        }

        impl Labels {
            /// Numbers, wrapped into a type.
            fn wrapped(which: usize, labels: &[i128]) -> Self {
                let types = [$(|labels: &[i128]| {
                    Self::$variant(labels.iter().map(|&label| label as $t).collect())
                },)* ];
                types[which % types.len()](labels)
            }

            /// As the crate takes them.
            pub fn targets<T>(&self) -> Targets<'_, T> {
                match self {
                    $(Self::$variant(labels) => labels.as_slice().into(),)*
                }
            }

            /// As numbers.
            pub fn numbers(&self) -> Vec<i128> {
                match self {
                    $(Self::$variant(labels) => labels.iter().map(|&label| label as i128).collect(),)*
                }
            }
        }
    };
}

labels!(U8(u8), U16(u16), U32(u32), U64(u64), Usize(usize), I32(i32), I64(i64));

impl Labels {
    /// For some samples; sometimes one too few or too many, or one outside the classes.
    pub fn draw(source: &mut Source<'_>, samples: usize, classes: usize) -> Self {
        let which = source.below(7);
        let style = source.byte();
        let mut values = source.values();
        let count = match style {
            0x20..=0x21 => samples + 1,
            0x22..=0x23 => samples.saturating_sub(1),
            _ => samples,
        };
        let number = |i: usize| match style & 3 {
            0 => values.random() % classes.max(1) as u64,
            1 => (i % classes.max(1)) as u64,
            2 => u64::from(style >> 4) % classes.max(1) as u64,
            _ => classes.saturating_sub(1) as u64,
        };
        let mut labels: Vec<i128> = (0..count).map(number).map(i128::from).collect();
        if style & 0xc == 0xc && count > 0 {
            let outside = [
                -1,
                classes as i128,
                classes as i128 + 1,
                i128::from(i64::MIN),
                i128::from(i64::MAX),
                i128::from(u64::MAX),
                i128::from(u32::MAX),
                i128::from(i32::MIN),
                256,
            ];
            for _ in 0..1 + source.below(2) {
                labels[source.below(count)] = source.choose(&outside);
            }
        }
        // Where K is beyond the type, wrapping leaves a label that is in range or is not: both are wanted.
        Self::wrapped(which, &labels)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.numbers().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first that is no class, and its sample.
    pub fn first_outside(&self, classes: usize) -> Option<(usize, i128)> {
        self.numbers().into_iter().enumerate().find(|&(_, label)| label < 0 || label >= classes as i128)
    }

    /// As indices, when all are classes.
    pub fn in_range(&self) -> Vec<usize> {
        self.numbers().into_iter().map(|label| label as usize).collect()
    }
}
