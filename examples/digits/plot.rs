//! The picture: the loss of each iteration, and θ⁽ᵏ⁾ of each digit as an image.

use super::Result;
use faer::MatRef;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

type Canvas<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

const SIZE: (u32, u32) = (1940, 640);
const TITLE_TOP: i32 = 40;
/// Where the plot area of the curves, the first row of images and the colour scale begin, and the last row ends.
const TOP: i32 = 132;
const BOTTOM: i32 = TOP + 2 * IMAGE + ROW_GAP;
const IMAGES_LEFT: i32 = 830;
/// Pixels of the picture for a pixel of a digit.
const CELL: i32 = 22;
const IMAGE: i32 = 8 * CELL;
const COLUMN_GAP: i32 = 20;
const ROW_GAP: i32 = 60;

const INK: RGBColor = RGBColor(45, 45, 50);
const GRID: RGBColor = RGBColor(228, 228, 232);
const FRAME: RGBColor = RGBColor(150, 150, 156);
const AGAINST: RGBColor = RGBColor(33, 94, 168);
const NEUTRAL: RGBColor = RGBColor(250, 250, 250);
const IN_FAVOUR: RGBColor = RGBColor(186, 36, 50);

const TITLE: f64 = 36.0;
const LABEL: f64 = 28.0;
/// plotters centres the line box of this font, which leaves figures too high by this part of the text's size.
const CENTRE_SHIFT: f64 = 0.15;

/// Draws the losses (one an iteration) and the coefficients of the pixels (64×10, a digit a column) into a PNG.
pub(crate) fn draw(path: &Path, train: &[f64], test: &[f64], theta: MatRef<'_, f64>) -> Result<()> {
    // A font that comes with a crate: looking for one needs system libraries that a fresh machine lacks.
    register_font("sans-serif", FontStyle::Normal, ttf_noto_sans::REGULAR).map_err(|_| "not a font")?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let canvas = BitMapBackend::new(path, SIZE).into_drawing_area();
    canvas.fill(&WHITE)?;
    draw_losses(&canvas, train, test)?;
    draw_images(&canvas, theta)?;
    canvas.present()?;
    Ok(())
}

fn draw_losses(canvas: &Canvas<'_>, train: &[f64], test: &[f64]) -> Result<()> {
    let (left, right, label_area) = (30, IMAGES_LEFT - 90, (90, 74));
    canvas.draw_text("Mean loss, iteration by iteration", &text(TITLE), (left + label_area.0, TITLE_TOP))?;

    let iterations = train.len() - 1;
    let losses = || train.iter().chain(test).copied();
    let highest = 1.2 * losses().fold(0.0, f64::max);
    // plotters marks a logarithmic axis from the first power of ten in its range on: have that at the bottom, a hair
    // inside the range lest rounding exclude it.
    let lowest = 0.9999 * power_of_ten_below(0.8 * losses().fold(f64::MAX, f64::min));
    let area = canvas.clone().shrink((left, TOP), (right - left, BOTTOM - TOP + label_area.1));
    let mut chart = ChartBuilder::on(&area)
        .set_label_area_size(LabelAreaPosition::Left, label_area.0)
        .set_label_area_size(LabelAreaPosition::Bottom, label_area.1)
        .build_cartesian_2d(0..iterations, (lowest..highest).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(FRAME)
        .x_desc("L-BFGS iteration")
        .y_labels(20)
        .y_label_formatter(&|&loss| match (loss / power_of_ten_below(1.01 * loss)).round() {
            1.0 | 2.0 | 5.0 => format!("{loss:.1}"),
            _ => String::new(),
        })
        .y_label_offset((CENTRE_SHIFT * LABEL) as i32)
        .label_style(text(LABEL))
        .axis_desc_style(text(LABEL))
        .draw()?;
    for (name, losses, colour, side, gap) in
        [("test", test, IN_FAVOUR, VPos::Bottom, 0), ("train", train, AGAINST, VPos::Top, 10)]
    {
        chart.draw_series(LineSeries::new(losses.iter().copied().enumerate(), colour.stroke_width(3)))?;
        let style = text(LABEL).color(&colour).pos(Pos::new(HPos::Right, side));
        let end = EmptyElement::at((iterations, losses[iterations]));
        chart.draw_series([end + Text::new(name, (0, gap), style)])?;
    }
    Ok(())
}

fn power_of_ten_below(value: f64) -> f64 {
    10_f64.powf(value.log10().floor())
}

fn draw_images(canvas: &Canvas<'_>, theta: MatRef<'_, f64>) -> Result<()> {
    let title = "Learned θ of each digit: red pixels speak for it, blue ones against it";
    canvas.draw_text(title, &text(TITLE), (IMAGES_LEFT, TITLE_TOP))?;

    let limit = theta.norm_max();
    for (digit, column) in theta.col_iter().enumerate() {
        let (row, place) = (digit as i32 / 5, digit as i32 % 5);
        let (left, top) = (IMAGES_LEFT + place * (IMAGE + COLUMN_GAP), TOP + row * (IMAGE + ROW_GAP));
        let centred = text(TITLE).pos(Pos::new(HPos::Center, VPos::Top));
        canvas.draw_text(&digit.to_string(), &centred, (left + IMAGE / 2, top - 30))?;
        for (pixel, &coefficient) in column.iter().enumerate() {
            let corner = (left + pixel as i32 % 8 * CELL, top + pixel as i32 / 8 * CELL);
            let opposite = (corner.0 + CELL, corner.1 + CELL);
            canvas.draw(&Rectangle::new([corner, opposite], colour(coefficient / limit).filled()))?;
        }
        canvas.draw(&Rectangle::new([(left - 1, top - 1), (left + IMAGE, top + IMAGE)], FRAME))?;
    }
    draw_scale(canvas, IMAGES_LEFT + 5 * (IMAGE + COLUMN_GAP) + 10, limit)
}

/// The colours of all images, from −limit at the bottom to limit.
fn draw_scale(canvas: &Canvas<'_>, left: i32, limit: f64) -> Result<()> {
    let (right, height) = (left + CELL, BOTTOM - TOP);
    for y in 0..height {
        let value = 1.0 - 2.0 * f64::from(y) / f64::from(height - 1);
        let row = [(left, TOP + y), (right, TOP + y + 1)];
        canvas.draw(&Rectangle::new(row, colour(value).filled()))?;
    }
    canvas.draw(&Rectangle::new([(left - 1, TOP - 1), (right, BOTTOM)], FRAME))?;
    for quarter in 0..=4 {
        let y = TOP + quarter * height / 4;
        let label = match limit * (1.0 - 0.5 * f64::from(quarter)) {
            0.0 => "0".to_string(),
            value => format!("{value:+.1}").replace('-', "−"),
        };
        canvas.draw(&PathElement::new([(right, y), (right + 6, y)], FRAME))?;
        let style = text(LABEL).pos(Pos::new(HPos::Left, VPos::Center));
        canvas.draw_text(&label, &style, (right + 14, y + (CENTRE_SHIFT * LABEL) as i32))?;
    }
    Ok(())
}

fn text(size: f64) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Of a value in −1..1, 0 being neutral.
fn colour(value: f64) -> RGBColor {
    let end = if value < 0.0 { AGAINST } else { IN_FAVOUR };
    let mix = |from: u8, to: u8| (f64::from(from) + value.abs() * (f64::from(to) - f64::from(from))) as u8;
    RGBColor(mix(NEUTRAL.0, end.0), mix(NEUTRAL.1, end.1), mix(NEUTRAL.2, end.2))
}
