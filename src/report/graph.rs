//! A graph in columns, as inline SVG.

use maud::{Markup, html};

/// A named point in a column, counted from the left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Beside the point.
    pub name: String,
    /// The column that it is drawn in, from 0 at the left.
    pub column: usize,
}

/// A line between two nodes by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The node that it starts at, by its place in the list.
    pub from: usize,
    /// The node that it ends at.
    pub to: usize,
    /// Whether it was answered rightly; None is drawn faintly.
    pub right: Option<bool>,
}

/// The drawing; edges that name no node are left out.
pub fn graph(heading: &str, nodes: &[Node], edges: &[Edge]) -> Markup {
    let columns = nodes.iter().map(|node| node.column + 1).max().unwrap_or(0);
    let mut filled = vec![0_usize; columns];
    let rows: Vec<usize> = nodes
        .iter()
        .map(|node| {
            filled[node.column] += 1;
            filled[node.column] - 1
        })
        .collect();
    let tallest = filled.iter().max().copied().unwrap_or(1);
    let (across, down) = (96., 44.);
    // Columns are centred; every second one sits a little lower, so that long edges do not run through names.
    let place = |i: usize| {
        let column = nodes[i].column;
        let spare = (tallest - filled[column]) as f64 / 2.;
        let lower = if column % 2 == 1 { 0.3 } else { 0. };
        (40. + across * column as f64, 30. + down * (rows[i] as f64 + spare + lower))
    };
    let (width, height) = (across * columns as f64 + 40., down * (tallest as f64 + 0.3) + 30.);
    let style = |right: Option<bool>| match right {
        Some(true) => ("#009e73", "none"),
        Some(false) => ("#d55e00", "6 4"),
        None => ("#b0b6bd", "2 3"),
    };
    html! {
        @if nodes.is_empty() { p { "Nothing to show." } } @else {
            div.scroll tabindex="0" role="group" aria-label=(heading) {
                svg role="img" aria-label=(heading) viewBox=(format!("0 0 {width:.0} {height:.0}")) width=(format!("{width:.0}")) height=(format!("{height:.0}")) {
                    @for edge in edges.iter().filter(|edge| edge.from < nodes.len() && edge.to < nodes.len()) {
                        @let ((x1, y1), (x2, y2)) = (place(edge.from), place(edge.to));
                        @let (colour, dashes) = style(edge.right);
                        line x1=(format!("{x1:.1}")) y1=(format!("{y1:.1}")) x2=(format!("{x2:.1}")) y2=(format!("{y2:.1}")) stroke=(colour) stroke-width="1.4" stroke-dasharray=(dashes) {}
                    }
                    @for (i, node) in nodes.iter().enumerate() {
                        @let (x, y) = place(i);
                        circle cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r="4" fill="currentColor" {}
                        text x=(format!("{:.1}", x + 6.)) y=(format!("{:.1}", y - 6.)) font-size="13" fill="currentColor" { (node.name) }
                    }
                }
            }
        }
    }
}
