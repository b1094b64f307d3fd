//! Plots as inline SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Bars, Series};

/// Okabe and Ito's palette, told apart by colour-blind readers too.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];
/// What is on a line: those beyond the palette have colours of others, and marks of their own.
const MARKS: [&str; 3] = ["━", "●", "▲"];
/// So many marks are on a line.
const MARKED: usize = 12;
const SIZE: (u32, u32) = (860, 380);
/// More points than the drawing can show.
const MOST_POINTS: usize = 2000;

/// A drawing, or why there is none, and what was left out.
#[derive(Default)]
pub struct Plot {
    /// `<svg ...>`; None where there is nothing to show.
    pub svg: Option<String>,
    /// What stands for what in it.
    pub key: Vec<Key>,
    /// How many numbers were not finite.
    pub dropped: usize,
}

/// A name, and what stands for it in a drawing.
pub struct Key {
    /// A line's, or that of a kind of bars.
    pub name: String,
    /// As CSS has it.
    pub colour: String,
    /// What is on the line.
    pub mark: &'static str,
}

/// The names of what is drawn, in its order.
fn key<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Key> {
    let one = |(i, name): (usize, &str)| {
        let RGBColor(red, green, blue) = COLOURS[i % COLOURS.len()];
        let mark = MARKS[i / COLOURS.len() % MARKS.len()];
        Key { name: name.into(), colour: format!("#{red:02X}{green:02X}{blue:02X}"), mark }
    };
    names.enumerate().map(one).collect()
}

/// The least and the largest; None of nothing.
fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    (low <= high).then_some((low, high))
}

/// The ends of an axis: moved apart where they are one, but not below 0 where nothing is.
fn apart((low, high): (f64, f64)) -> (f64, f64) {
    let pad = if high > low {
        0.
    } else if low == 0. {
        1.
    } else {
        low.abs() * 0.5
    };
    (if low >= 0. { (low - pad).max(0.) } else { low - pad }, high + pad)
}

/// plotters draws with fixed width and height; the page wants it to fit any width.
fn responsive(svg: &str, size: (u32, u32)) -> String {
    let size = format!("<svg width=\"{}\" height=\"{}\"", size.0, size.1);
    // The namespace is a name and not a place; inline SVG needs none.
    svg.replacen(&size, "<svg", 1).replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1)
}

fn draw(
    size: (u32, u32),
    body: impl FnOnce(&DrawingArea<SVGBackend, Shift>) -> Result<(), DrawingAreaErrorKind<std::io::Error>>,
) -> Option<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).ok()?;
        body(&area).ok()?;
        area.present().ok()?;
    }
    Some(responsive(&svg, size))
}

fn label(value: f64, span: f64) -> String {
    match span {
        span if span >= 20_000. => format!("{value:.1e}"),
        span if span >= 20. => format!("{value:.0}"),
        span if span >= 2. => format!("{value:.1}"),
        span if span >= 0.02 => format!("{value:.3}"),
        // As many digits as tell two marks apart.
        span => match (2. - span.log10()).ceil() as usize {
            digits @ ..9 => format!("{value:.digits$}"),
            _ => format!("{value:.3e}"),
        },
    }
}

/// A chart with so much room on the left.
macro_rules! chart {
    ($area:ident, $left:expr, $x:expr, $y:expr) => {
        ChartBuilder::on($area).margin(14).x_label_area_size(46).y_label_area_size($left).build_cartesian_2d($x, $y)?
    };
}

/// The axes of a chart on which all plots agree, with these options of its own.
macro_rules! mesh {
    ($chart:ident, $($option:ident($($value:expr),*)),*) => {
        $chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(228, 228, 228))
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 16))
            $(.$option($($value),*))*
            .draw()?
    };
}

/// Lines over a common x.
pub fn lines(x_label: &str, y_label: &str, series: &[Series]) -> Plot {
    let finite = |&&(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
    let shown: Vec<(&str, Vec<(f64, f64)>)> =
        series.iter().map(|one| (one.name.as_str(), one.points.iter().filter(finite).copied().collect())).collect();
    let dropped = series.iter().map(|one| one.points.len()).sum::<usize>()
        - shown.iter().map(|(_, points)| points.len()).sum::<usize>();
    let all = || shown.iter().flat_map(|(_, points)| points);
    let (Some(x), Some(y)) = (ends(all().map(|p| p.0)), ends(all().map(|p| p.1))) else {
        return Plot { dropped, ..Plot::default() };
    };
    let ((x0, x1), (y0, y1)) = (apart(x), apart(y));
    let room = (y1 - y0) * 0.05;
    // What lies between 0 and 1, as shares do, has no axis beyond them; nor has what is not negative one below 0.
    let bottom = if y.0 >= 0. { (y0 - room).max(0.) } else { y0 - room };
    let top = if y.0 >= 0. && y.1 <= 1. { (y1 + room).min(1.) } else { y1 + room };
    // Steps have no marks between them.
    let few = x1 - x0 < 10. && all().all(|p| p.0.fract() == 0.);
    let svg = draw(SIZE, |area| {
        let mut chart = chart!(area, 70, x0..x1, bottom..top);
        let across = |x: &f64| if few && x.fract() == 0. { format!("{x:.0}") } else { label(*x, x1 - x0) };
        let up = |y: &f64| label(*y, top - bottom);
        let marks = if few { (x1 - x0) as usize + 1 } else { 11 };
        mesh!(
            chart,
            x_desc(x_label),
            y_desc(y_label),
            x_labels(marks),
            x_label_formatter(&across),
            y_label_formatter(&up)
        );
        for (i, (_, points)) in shown.iter().enumerate() {
            let style = COLOURS[i % COLOURS.len()].stroke_width(2);
            let every = points.len().div_ceil(MOST_POINTS).max(1);
            let thinned: Vec<_> = points.iter().step_by(every).copied().collect();
            let marked = thinned.iter().copied().step_by(thinned.len().div_ceil(MARKED).max(1));
            match i / COLOURS.len() % MARKS.len() {
                0 if thinned.len() != 1 => {}
                0 | 1 => {
                    chart.draw_series(marked.map(|at| Circle::new(at, 4, style.filled())))?;
                }
                _ => {
                    chart.draw_series(marked.map(|at| TriangleMarker::new(at, 6, style.filled())))?;
                }
            }
            chart.draw_series(LineSeries::new(thinned, style))?;
        }
        Ok(())
    });
    let key = if shown.len() > 1 { key(shown.iter().map(|(name, _)| *name)) } else { Vec::new() };
    Plot { svg, key, dropped }
}

/// Overlaid histograms, each as shares of its group.
pub fn histogram(x_label: &str, groups: &[(String, Vec<f64>)], bins: usize) -> Plot {
    let bins = bins.max(1);
    let shown: Vec<(&str, Vec<f64>)> = groups
        .iter()
        .map(|(name, values)| (name.as_str(), values.iter().copied().filter(|x| x.is_finite()).collect()))
        .collect();
    let dropped = groups.iter().map(|(_, values)| values.len()).sum::<usize>()
        - shown.iter().map(|(_, values)| values.len()).sum::<usize>();
    let Some((low, high)) = ends(shown.iter().flat_map(|(_, values)| values.iter().copied())).map(apart) else {
        return Plot { dropped, ..Plot::default() };
    };
    let width = (high - low) / bins as f64;
    let shares: Vec<(&str, Vec<f64>)> = shown
        .iter()
        .map(|(name, values)| {
            let mut counts = vec![0.; bins];
            values.iter().for_each(|x| counts[(((x - low) / width) as usize).min(bins - 1)] += 1.);
            let total = (values.len() as f64).max(1.);
            (*name, counts.into_iter().map(|count| count / total).collect())
        })
        .collect();
    let most = shares.iter().flat_map(|(_, shares)| shares).fold(0., |most: f64, share| most.max(*share));
    let svg = draw(SIZE, |area| {
        let mut chart = chart!(area, 70, low..high, 0.0..(most * 1.08).max(1e-6));
        let (across, up, share) = (|x: &f64| label(*x, high - low), |y: &f64| label(*y, most), "share of the group");
        mesh!(
            chart,
            disable_x_mesh(),
            x_desc(x_label),
            y_desc(share),
            x_label_formatter(&across),
            y_label_formatter(&up)
        );
        for (i, (_, shares)) in shares.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let bar = |(bin, share): (usize, &f64)| {
                let left = low + bin as f64 * width;
                Rectangle::new([(left, 0.), (left + width, *share)], colour.mix(0.5).filled())
            };
            chart.draw_series(shares.iter().enumerate().filter(|(_, share)| **share > 0.).map(bar))?;
        }
        Ok(())
    });
    Plot { svg, key: key(shares.iter().map(|(name, _)| *name)), dropped }
}

/// Groups of horizontal bars, the first group on top.
pub fn bars(x_label: &str, groups: &[String], bars: &[Bars]) -> Plot {
    let of = |one: &Bars| one.values.iter().take(groups.len()).copied().enumerate().collect::<Vec<_>>();
    let finite = |(_, (value, _)): &(usize, (f64, Option<f64>))| value.is_finite();
    let dropped = bars.iter().flat_map(of).filter(|bar| !finite(bar)).count();
    let reach = |value: f64, spread: Option<f64>| {
        let spread = spread.filter(|spread| spread.is_finite()).unwrap_or(0.);
        (value - spread, value + spread)
    };
    let reached = bars.iter().flat_map(of).filter(finite).flat_map(|(_, (value, spread))| {
        let (low, high) = reach(value, spread);
        [if value < 0. { low } else { 0. }, high.max(0.)]
    });
    let Some((low, high)) = ends(reached).map(apart) else { return Plot { dropped, ..Plot::default() } };
    let room = (high - low) * 0.04;
    let (low, high) = (if low < 0. { low - room } else { 0. }, high + room);
    let count = groups.len() as f64;
    // A group takes 1, of which a fifth stays empty.
    let thick = 0.8 / bars.len().max(1) as f64;
    // A bar of 5 units at least, and room between groups and for their names.
    let size = (SIZE.0, (110 + groups.len() as u32 * (bars.len() as u32 * 6 + 8)).max(SIZE.1));
    let widest = groups.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(24) as u32;
    let svg = draw(size, |area| {
        let mut chart = chart!(area, 30 + 8 * widest, low..high, 0.0..count);
        let across = |x: &f64| label(*x, high - low);
        mesh!(chart, disable_y_mesh(), y_labels(0), x_desc(x_label), x_label_formatter(&across));
        let right = TextStyle::from(("sans-serif", 15).into_font()).pos(Pos::new(HPos::Right, VPos::Center));
        for (i, name) in groups.iter().enumerate() {
            let (x, y) = chart.backend_coord(&(low, count - i as f64 - 0.5));
            let short: String = name.chars().take(24).collect();
            area.draw(&Text::new(short, (x - 10, y), right.clone()))?;
        }
        for (k, one) in bars.iter().enumerate() {
            let colour = COLOURS[k % COLOURS.len()];
            let top = |group: usize| count - group as f64 - 0.1 - k as f64 * thick;
            let shown: Vec<_> = of(one).into_iter().filter(finite).collect();
            let bar = |&(group, (value, _)): &(usize, (f64, Option<f64>))| {
                Rectangle::new([(0_f64, top(group)), (value, top(group) - thick * 0.9)], colour.mix(0.75).filled())
            };
            chart.draw_series(shown.iter().map(bar))?;
            chart.draw_series(shown.iter().filter(|(_, (_, spread))| spread.is_some()).map(
                |&(group, (value, spread))| {
                    let ((from, to), y) = (reach(value, spread), top(group) - thick * 0.45);
                    PathElement::new(
                        [(if value < 0. { from } else { from.max(0.) }, y), (to, y)],
                        BLACK.mix(0.7).stroke_width(1),
                    )
                },
            ))?;
        }
        Ok(())
    });
    Plot { svg, key: key(bars.iter().map(|one| one.name.as_str())), dropped }
}
