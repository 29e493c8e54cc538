//! Where the bytes of a file are, drawn: `inspect --svg`.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use unweight::convert::write_file;
use unweight::selection::Group;

use super::progress::size;
use super::table::{percent, plain};

/// What is drawn.
pub struct Picture<'a> {
    pub name: String,
    /// Bytes of the original, if the file is compressed and untouched.
    pub before: Option<u64>,
    pub after: u64,
    pub tensors: Vec<Tensor<'a>>,
}

pub struct Tensor<'a> {
    pub name: &'a str,
    pub weights: u64,
    /// Bytes in the original, and here.
    pub before: u64,
    pub after: u64,
    pub is_compressed: bool,
    /// How often each occurs, as those of F32; of weights in full precision.
    pub exponents: Option<&'a [u64; 256]>,
    /// Of these, in bits.
    pub entropy: f64,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 960;
const MARGIN: i32 = 28;
const TITLE: i32 = 84;
const BAR: i32 = 34;
const CHART: u32 = 230;
const BEFORE: RGBColor = RGBColor(203, 213, 225);
const AFTER: RGBColor = RGBColor(37, 99, 235);
const INK: RGBColor = RGBColor(30, 41, 59);
const FAINT: RGBColor = RGBColor(100, 116, 139);
/// Tensors whose exponents are shown.
const TYPICAL: usize = 3;

/// A name that cannot be that of a model: a slip must not write over one.
pub fn path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(extension) if extension == "svg" => Ok(path),
        _ => Err("a name that ends in .svg".to_owned()),
    }
}

/// `inputs`: files that it must not take the place of.
///
/// # Errors
/// If it cannot be drawn or written.
pub fn draw(picture: &Picture, path: &Path, inputs: &[PathBuf]) -> Result<()> {
    let groups = groups(&picture.tensors);
    let layers = layers(&picture.tensors);
    let typical = typical(&picture.tensors);
    let bars_height = MARGIN + 24 + BAR * groups.len() as i32;
    let layers_height = if layers.is_empty() { 0 } else { CHART };
    let exponents_height = if typical.is_empty() { 0 } else { CHART };
    let height = (TITLE + bars_height) as u32 + layers_height + exponents_height + MARGIN as u32;
    let mut drawn = String::new();
    {
        let root = SVGBackend::with_string(&mut drawn, (WIDTH, height)).into_drawing_area();
        let is_compressed = picture.tensors.iter().any(|tensor| tensor.is_compressed);
        let paint = || -> Result<()> {
            root.fill(&WHITE)?;
            let (title, rest) = root.split_vertically(TITLE);
            let (bars, rest) = rest.split_vertically(bars_height);
            let (columns, exponents) = rest.split_vertically(layers_height);
            draw_title(&title, picture, is_compressed)?;
            draw_groups(&bars, &groups, is_compressed)?;
            if !layers.is_empty() {
                draw_layers(&columns, &layers)?;
            }
            let panels = exponents.split_evenly((1, typical.len().max(1)));
            for (panel, tensor) in panels.iter().zip(&typical) {
                draw_exponents(panel, tensor)?;
            }
            root.present()?;
            Ok(())
        };
        paint().map_err(|error| anyhow!("{}: {error}", path.display()))?;
    }
    Ok(write_file(path, drawn.as_bytes(), inputs)?)
}

fn font(size: i32, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&color)
}

fn text(area: &Area, words: &str, style: TextStyle, at: (i32, i32)) -> Result<()> {
    // XML has no control characters either.
    Ok(area.draw(&Text::new(plain(words), at, style))?)
}

fn draw_title(area: &Area, picture: &Picture, is_compressed: bool) -> Result<()> {
    text(area, &picture.name, font(24, INK), (MARGIN, 20))?;
    let words = match picture.before {
        Some(before) => format!(
            "{} → {}, {} smaller, not one bit changed",
            size(before),
            size(picture.after),
            percent(before.saturating_sub(picture.after), before)
        ),
        None if is_compressed => format!("{}, compressed", size(picture.after)),
        None => format!("{}, not compressed", size(picture.after)),
    };
    text(area, &words, font(16, FAINT), (MARGIN, 54))
}

/// Bytes before and after, and weights.
#[derive(Default, Clone)]
struct Sum {
    before: u64,
    after: u64,
    weights: u64,
}

impl Sum {
    fn add(&mut self, tensor: &Tensor) {
        self.before += tensor.before;
        self.after += tensor.after;
        self.weights += tensor.weights;
    }
}

/// The largest first.
fn groups(tensors: &[Tensor]) -> Vec<(&'static str, Sum)> {
    let mut groups: Vec<(&'static str, Sum)> = Vec::new();
    for tensor in tensors {
        let name = Group::of(tensor.name).name();
        match groups.iter_mut().find(|(group, _)| *group == name) {
            Some((_, sum)) => sum.add(tensor),
            None => {
                let mut sum = Sum::default();
                sum.add(tensor);
                groups.push((name, sum));
            }
        }
    }
    groups.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.before));
    groups
}

/// Of each block, in their order; none if there is only one.
fn layers(tensors: &[Tensor]) -> Vec<Sum> {
    let number = |tensor: &Tensor| {
        let rest = tensor.name.split("blk.").nth(1)?;
        rest.split('.').next()?.parse::<usize>().ok()
    };
    // Numbers come from the file: no more layers than tensors.
    let mut layers = vec![Sum::default(); tensors.len()];
    for tensor in tensors {
        if let Some(layer) = number(tensor).and_then(|number| layers.get_mut(number)) {
            layer.add(tensor);
        }
    }
    layers.truncate(layers.iter().rposition(|sum| sum.before > 0).map_or(0, |last| last + 1));
    if layers.len() > 1 { layers } else { Vec::new() }
}

/// The largest of each group that has exponents.
fn typical<'a, 'b>(tensors: &'b [Tensor<'a>]) -> Vec<&'b Tensor<'a>> {
    let mut typical: Vec<&Tensor> = Vec::new();
    for tensor in tensors.iter().filter(|tensor| tensor.exponents.is_some() && tensor.weights > 0) {
        match typical.iter_mut().find(|other| Group::of(other.name) == Group::of(tensor.name)) {
            Some(other) if other.weights < tensor.weights => *other = tensor,
            Some(_) => {}
            None => typical.push(tensor),
        }
    }
    typical.sort_by_key(|tensor| std::cmp::Reverse(tensor.weights));
    typical.truncate(TYPICAL);
    typical
}

fn draw_groups(area: &Area, groups: &[(&'static str, Sum)], is_compressed: bool) -> Result<()> {
    let heading = if is_compressed { "Bytes, before and after" } else { "Bytes" };
    text(area, heading, font(16, INK), (MARGIN, 4))?;
    let (left, right) = (MARGIN + 150, WIDTH as i32 - MARGIN - 270);
    let most = groups.iter().map(|(_, sum)| sum.before).max().unwrap_or(0).max(1);
    for (i, (name, sum)) in groups.iter().enumerate() {
        let top = 30 + BAR * i as i32;
        let width = |bytes: u64| left + (f64::from(right - left) * bytes as f64 / most as f64).ceil() as i32;
        let middle = Pos::new(HPos::Left, VPos::Center);
        text(area, name, font(14, INK).pos(middle), (MARGIN, top + 12))?;
        let bar = |to: i32, color: RGBColor| Rectangle::new([(left, top), (to, top + 24)], color.filled());
        area.draw(&bar(width(sum.before), BEFORE))?;
        area.draw(&bar(width(sum.after), AFTER))?;
        let bits = |bytes: u64| 8.0 * bytes as f64 / sum.weights.max(1) as f64;
        let words = if is_compressed {
            format!(
                "{} → {}, {:.1} → {:.1} bits/weight",
                size(sum.before),
                size(sum.after),
                bits(sum.before),
                bits(sum.after)
            )
        } else {
            format!("{}, {:.1} bits/weight", size(sum.before), bits(sum.before))
        };
        text(area, &words, font(13, FAINT).pos(middle), (width(sum.before) + 8, top + 12))?;
    }
    Ok(())
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Axes that stay in the background. `x_labels`: how many, at most; `x` and `y` say what a label is.
fn draw_axes(
    chart: &mut Chart,
    x_labels: usize,
    x: &dyn Fn(&f64) -> String,
    y: &dyn Fn(&f64) -> String,
) -> Result<()> {
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BEFORE.mix(0.5))
        .axis_style(FAINT)
        .label_style(font(12, FAINT))
        .x_labels(x_labels)
        .x_label_formatter(&x)
        .y_labels(5)
        .y_label_formatter(&y)
        .draw()?;
    Ok(())
}

fn draw_layers(area: &Area, layers: &[Sum]) -> Result<()> {
    let most = layers.iter().map(|sum| sum.before).max().unwrap_or(1) as f64 / 1e6;
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN as u32)
        .margin_top(4)
        .caption("Layers, MB", font(16, INK))
        .x_label_area_size(26)
        .y_label_area_size(54)
        .build_cartesian_2d(-0.5..layers.len() as f64 - 0.5, 0.0..most * 1.05)?;
    draw_axes(&mut chart, layers.len().min(24), &|x| format!("{x:.0}"), &|y| format!("{y:.1}"))?;
    let columns = layers.iter().enumerate().flat_map(|(i, sum)| {
        let column = move |bytes: u64, color: RGBColor| {
            Rectangle::new([(i as f64 - 0.35, 0.0), (i as f64 + 0.35, bytes as f64 / 1e6)], color.filled())
        };
        [column(sum.before, BEFORE), column(sum.after, AFTER)]
    });
    chart.draw_series(columns)?;
    Ok(())
}

/// "2⁻⁵"
fn power_of_two(exponent: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raised = |character: char| character.to_digit(10).map_or('⁻', |digit| DIGITS[digit as usize]);
    format!("2{}", exponent.to_string().chars().map(raised).collect::<String>())
}

/// Shares of exponents, as powers of two, and what the code leaves of a weight.
fn draw_exponents(area: &Area, tensor: &Tensor) -> Result<()> {
    let Some(exponents) = tensor.exponents else { return Ok(()) };
    let all = exponents.iter().sum::<u64>().max(1) as f64;
    let share = |exponent: usize| 100.0 * exponents[exponent] as f64 / all;
    // Those that can be seen. Zeros have one of their own, far from the others.
    let seen = |exponent: &usize| share(*exponent) >= 0.1;
    let first = (1..256).find(seen).unwrap_or(1) as f64 - 127.0;
    let last = (1..256).rfind(seen).unwrap_or(255) as f64 - 127.0;
    let most = (1..256).map(share).fold(1.0, f64::max);
    let (name, caption) = area.split_vertically(22);
    text(&name, tensor.name, font(14, INK), (MARGIN, 2))?;
    let bits = |bytes: u64| 8.0 * bytes as f64 / tensor.weights as f64;
    let mut words = format!("exponents {:.2} bits", tensor.entropy);
    if tensor.is_compressed {
        words += &format!(", weights {:.0} → {:.2}", bits(tensor.before), bits(tensor.after));
    }
    if seen(&0) {
        words += &format!(", {:.1} % zeros", share(0));
    }
    text(&caption, &words, font(13, FAINT), (MARGIN, 0))?;
    let (_, chart) = caption.split_vertically(20);
    let mut chart = ChartBuilder::on(&chart)
        .margin_left(MARGIN as u32)
        .margin_right(MARGIN as u32)
        .x_label_area_size(26)
        .y_label_area_size(40)
        .build_cartesian_2d(first - 0.5..last + 0.5, 0.0..most * 1.05)?;
    draw_axes(&mut chart, 5, &|x| power_of_two(*x as i32), &|y| format!("{y:.0} %"))?;
    let columns = (1..256).filter(seen).map(|exponent| {
        let x = exponent as f64 - 127.0;
        Rectangle::new([(x - 0.42, 0.0), (x + 0.42, share(exponent))], AFTER.filled())
    });
    chart.draw_series(columns)?;
    Ok(())
}
