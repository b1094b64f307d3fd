//! Plots as inline SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Series;

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
const SIZE: (u32, u32) = (860, 380);
/// More points than the drawing can show.
const MOST_POINTS: usize = 2000;

/// A drawing, or why there is none, and what was left out.
pub struct Plot {
    /// `<svg ...>`; None where there is nothing to show.
    pub svg: Option<String>,
    /// How many numbers were not finite.
    pub dropped: usize,
}

/// The least and the largest, moved apart where they are one.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if low > high {
        return None;
    }
    let pad = if high > low { 0. } else { (low.abs() * 0.05).max(0.5) };
    Some((low - pad, high + pad))
}

/// plotters draws with fixed width and height; the page wants it to fit any width.
fn responsive(svg: &str, size: (u32, u32)) -> String {
    let size = format!("<svg width=\"{}\" height=\"{}\"", size.0, size.1);
    // The namespace is a name and not a place; inline SVG needs none.
    svg.replacen(&size, "<svg role=\"img\"", 1).replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1)
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
        _ => format!("{value:.1e}"),
    }
}

/// Lines over a common x.
pub fn lines(x_label: &str, y_label: &str, series: &[Series]) -> Plot {
    let finite = |&&(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
    let shown: Vec<(&str, Vec<(f64, f64)>)> =
        series.iter().map(|one| (one.name.as_str(), one.points.iter().filter(finite).copied().collect())).collect();
    let dropped = series.iter().map(|one| one.points.len()).sum::<usize>()
        - shown.iter().map(|(_, points)| points.len()).sum::<usize>();
    let all = || shown.iter().flat_map(|(_, points)| points);
    let (Some((x0, x1)), Some((y0, y1))) = (range(all().map(|p| p.0)), range(all().map(|p| p.1))) else {
        return Plot { svg: None, dropped };
    };
    let room = (y1 - y0) * 0.05;
    let svg = draw(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(14)
            .x_label_area_size(46)
            .y_label_area_size(70)
            .build_cartesian_2d(x0..x1, (y0 - room)..(y1 + room))?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(228, 228, 228))
            .x_desc(x_label)
            .y_desc(y_label)
            .x_label_formatter(&|x| label(*x, x1 - x0))
            .y_label_formatter(&|y| label(*y, y1 - y0))
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 16))
            .draw()?;
        for (i, (name, points)) in shown.iter().enumerate() {
            let style = COLOURS[i % COLOURS.len()].stroke_width(2);
            let every = points.len().div_ceil(MOST_POINTS).max(1);
            let thinned: Vec<_> = points.iter().step_by(every).copied().collect();
            if let [only] = thinned[..] {
                chart.draw_series([Circle::new(only, 4, style.filled())])?;
            }
            chart
                .draw_series(LineSeries::new(thinned, style))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        if shown.len() > 1 {
            chart
                .configure_series_labels()
                .background_style(WHITE.mix(0.85))
                .border_style(RGBColor(210, 210, 210))
                .label_font(("sans-serif", 15))
                .draw()?;
        }
        Ok(())
    });
    Plot { svg, dropped }
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
    let Some((low, high)) = range(shown.iter().flat_map(|(_, values)| values.iter().copied())) else {
        return Plot { svg: None, dropped };
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
        let mut chart = ChartBuilder::on(area)
            .margin(14)
            .x_label_area_size(46)
            .y_label_area_size(70)
            .build_cartesian_2d(low..high, 0.0..(most * 1.08).max(1e-6))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(228, 228, 228))
            .x_desc(x_label)
            .y_desc("share of the group")
            .x_label_formatter(&|x| label(*x, high - low))
            .y_label_formatter(&|y| label(*y, most))
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 16))
            .draw()?;
        for (i, (name, shares)) in shares.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let bar = |(bin, share): (usize, &f64)| {
                let left = low + bin as f64 * width;
                Rectangle::new([(left, 0.), (left + width, *share)], colour.mix(0.5).filled())
            };
            chart
                .draw_series(shares.iter().enumerate().filter(|(_, share)| **share > 0.).map(bar))?
                .label(*name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 6), (x + 14, y + 6)], colour.mix(0.6).filled()));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(210, 210, 210))
            .label_font(("sans-serif", 15))
            .draw()?;
        Ok(())
    });
    Plot { svg, dropped }
}

/// Bars to the right, those of a name together, the first name on top.
pub fn bars(label_of_values: &str, names: &[String], groups: &[(String, Vec<f64>)]) -> Plot {
    let values = || groups.iter().flat_map(|(_, values)| values.iter().take(names.len()).copied());
    let dropped = values().filter(|x| !x.is_finite()).count();
    let most = values().filter(|x| x.is_finite()).fold(0., f64::max);
    if names.is_empty() || groups.is_empty() || dropped == values().count() {
        return Plot { svg: None, dropped };
    }
    let count = names.len();
    // A bar of 5 units at least, and room between names.
    let size = (SIZE.0, (110 + count as u32 * (groups.len() as u32 * 6 + 8)).max(SIZE.1));
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(24) as u32;
    // Room for the legend on the right.
    let span = (most * 1.2).max(1e-6);
    let svg = draw(size, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(14)
            .x_label_area_size(46)
            .y_label_area_size(30 + 8 * widest)
            .build_cartesian_2d(0.0..span, 0.0..count as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(228, 228, 228))
            .x_desc(label_of_values)
            .x_label_formatter(&|x| label(*x, span))
            .y_labels(0)
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 16))
            .draw()?;
        let style = ("sans-serif", 14).into_text_style(area).pos(Pos::new(HPos::Right, VPos::Center));
        let plotted = chart.plotting_area().clone();
        // The axis runs upwards, the names downwards; each stands before the middle of its bars.
        for (i, name) in names.iter().enumerate() {
            let (x, y) = plotted.map_coordinate(&(0., (count - i) as f64 - 0.5));
            let short: String = name.chars().take(24).collect();
            area.draw(&Text::new(short, (x - 8, y), &style))?;
        }
        let thick = 0.8 / groups.len() as f64;
        for (g, (name, values)) in groups.iter().enumerate() {
            let colour = COLOURS[g % COLOURS.len()];
            let bar = |(i, value): (usize, &f64)| {
                let top = (count - i) as f64 - 0.1 - g as f64 * thick;
                Rectangle::new([(0., top), (*value, top - thick * 0.9)], colour.filled())
            };
            let shown = values.iter().take(count).enumerate().filter(|(_, value)| value.is_finite());
            chart
                .draw_series(shown.map(bar))?
                .label(name.as_str())
                .legend(move |(x, y)| Rectangle::new([(x, y - 6), (x + 14, y + 6)], colour.filled()));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(210, 210, 210))
            .position(SeriesLabelPosition::LowerRight)
            .label_font(("sans-serif", 15))
            .draw()?;
        Ok(())
    });
    Plot { svg, dropped }
}
