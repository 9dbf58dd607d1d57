//! The problem that a `prepare` request names.

use std::error::Error;
use std::path::PathBuf;
use std::str::FromStr;

/// The words of `prepare DIRECTORY DTYPE M N K THREADS`, and perhaps `dx`.
pub(crate) struct Request {
    directory: PathBuf,
    pub(crate) is_f64: bool,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) threads: usize,
    /// The gradient by X is wanted too.
    pub(crate) with_input_gradient: bool,
}

impl FromStr for Request {
    type Err = Box<dyn Error>;

    fn from_str(words: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = words.split_whitespace().collect();
        let ([directory, dtype, m, n, k, threads] | [directory, dtype, m, n, k, threads, "dx"]) = words[..]
        else {
            return Err(format!("prepare wants six words, and perhaps dx, not {words:?}").into());
        };
        Ok(Self {
            directory: directory.into(),
            is_f64: dtype == "f64",
            m: m.parse()?,
            n: n.parse()?,
            k: k.parse()?,
            threads: threads.parse()?,
            with_input_gradient: words.len() > 6,
        })
    }
}

/// X row-major (m×n), labels, Θ row-major (n×K).
pub(crate) struct Problem<T> {
    pub(crate) x: Vec<T>,
    pub(crate) labels: Vec<u32>,
    pub(crate) theta: Vec<T>,
}

impl<T: Number> Problem<T> {
    pub(crate) fn read(request: &Request) -> std::io::Result<Self> {
        let file = |name: &str| std::fs::read(request.directory.join(name));
        Ok(Self {
            x: T::from_file(&file("x.bin")?),
            labels: numbers(&file("labels.bin")?, u32::from_le_bytes),
            theta: T::from_file(&file("theta.bin")?),
        })
    }
}

/// f32 or f64, little-endian in files.
pub(crate) trait Number: Sized {
    fn from_file(bytes: &[u8]) -> Vec<Self>;
}

impl Number for f32 {
    fn from_file(bytes: &[u8]) -> Vec<Self> {
        numbers(bytes, Self::from_le_bytes)
    }
}

impl Number for f64 {
    fn from_file(bytes: &[u8]) -> Vec<Self> {
        numbers(bytes, Self::from_le_bytes)
    }
}

fn numbers<T, const N: usize>(bytes: &[u8], from_bytes: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&chunk| from_bytes(chunk)).collect()
}
