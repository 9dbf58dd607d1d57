//! The handwritten digits of `data/digits.csv`.

pub(crate) const PIXELS: usize = 64;
/// K.
pub(crate) const CLASSES: usize = 10;

/// What images show, and their pixels, from 0 to 1: one image after the other.
#[derive(Default)]
pub(crate) struct Digits {
    pub(crate) pixels: Vec<[f32; PIXELS]>,
    pub(crate) labels: Vec<u8>,
}

/// The images to train on, and those to test on: every fourth of each digit, in the order of the file.
pub(crate) fn read_digits() -> Result<(Digits, Digits), Box<dyn std::error::Error>> {
    let (mut train, mut test) = (Digits::default(), Digits::default());
    let mut seen = [0; CLASSES];
    for line in include_str!("../../data/digits.csv").lines() {
        let values = line.split(',').map(str::parse).collect::<Result<Vec<u8>, _>>()?;
        let Some((&label, Ok(pixels))) =
            values.split_last().map(|(label, p)| (label, <[u8; PIXELS]>::try_from(p)))
        else {
            return Err(format!("not 64 pixels and a label: {line}").into());
        };
        let seen = seen.get_mut(usize::from(label)).ok_or_else(|| format!("not a digit: {label}"))?;
        *seen += 1;
        let images = if *seen % 4 == 0 { &mut test } else { &mut train };
        images.pixels.push(pixels.map(|pixel| f32::from(pixel) / 16.0));
        images.labels.push(label);
    }
    Ok((train, test))
}
