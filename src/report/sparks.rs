//! Many small lines on one scale, as inline SVG: small multiples.

use maud::{Markup, html};

use super::Series;

const SIZE: (f64, f64) = (150., 46.);

/// A cell a series, all over the same ranges of x and y; a dashed line where y is 0.
pub fn sparks(series: &[Series]) -> Markup {
    let finite = |&&(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
    let all = || series.iter().flat_map(|one| one.points.iter().filter(finite));
    let range = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = all().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        (low, if high > low { high } else { low + 1. })
    };
    let ((x0, x1), (y0, y1)) = (range(|point| point.0), range(|point| point.1));
    let place = |x: f64, y: f64| {
        let (width, height) = (SIZE.0 - 4., SIZE.1 - 4.);
        (2. + width * (x - x0) / (x1 - x0), 2. + height * (y1 - y) / (y1 - y0))
    };
    let line = |one: &Series| {
        let points = one.points.iter().filter(finite).map(|&(x, y)| place(x, y));
        points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
    };
    let box_of = format!("0 0 {} {}", SIZE.0, SIZE.1);
    html! {
        @if all().next().is_none() { p { "Nothing to show." } } @else {
            div.sparks {
                @for one in series {
                    figure {
                        svg role="img" aria-label=(one.name) viewBox=(box_of) {
                            @if y0 < 0. && y1 > 0. {
                                @let ((left, y), (right, _)) = (place(x0, 0.), place(x1, 0.));
                                line x1=(format!("{left:.1}")) x2=(format!("{right:.1}")) y1=(format!("{y:.1}")) y2=(format!("{y:.1}")) stroke="#b0b6bd" stroke-dasharray="2 3" {}
                            }
                            polyline points=(line(one)) fill="none" stroke="#0072b2" stroke-width="1.6" {}
                        }
                        figcaption { (one.name) }
                    }
                }
            }
        }
    }
}
