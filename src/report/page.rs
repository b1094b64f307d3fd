//! The page around tables, plots and pictures.

use base64::Engine;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::plot::Plot;
use super::{Frame, GalleryRow, Report, Table, Tile, is_number};
use crate::files::UNKNOWN;

const STYLE: &str = "
:root { --ink: #1d2126; --quiet: #5d6773; --paper: #fbfbfa; --card: #ffffff; --rule: #e1e4e8; --link: #0b62a4; --right: #00805a; --wrong: #c4420a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --quiet: #9aa4af; --paper: #16191c; --card: #1f2327; --rule: #343a40; --link: #6cb6f0; --right: #35c08f; --wrong: #ff8a5c; } }
@media (prefers-color-scheme: dark) { .plot { border-color: #d4d7da; filter: invert(0.9) hue-rotate(180deg); } }
@media print { :root { --ink: #000; --quiet: #444; --paper: #fff; --card: #fff; --rule: #bbb; --right: #00734f; --wrong: #b23a06; } .plot { filter: none !important; } nav { display: none !important; } .plot, .row, tr, dl { break-inside: avoid; } h2 { break-after: avoid; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 40px 22px 80px; }
h1 { font-size: 30px; margin: 0; letter-spacing: -0.02em; }
h2 { font-size: 20px; margin: 52px 0 6px; letter-spacing: -0.01em; }
header p, .note, summary { color: var(--quiet); margin: 4px 0 14px; } header p.answer { color: var(--ink); font-size: 19px; margin: 20px 0 0; }
nav { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 22px 0 0; font-size: 14px; } nav a { color: var(--link); text-decoration: none; } nav a:hover { text-decoration: underline; }
.lead { display: flex; flex-wrap: wrap; gap: 8px 40px; margin: 26px 0 0; } .lead p { margin: 0; color: var(--quiet); font-size: 14px; } .lead b { display: block; color: var(--ink); font-size: 34px; line-height: 1.2; letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 12px 22px; margin: 24px 0 0; padding: 18px 20px; background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
dt { font-size: 12px; color: var(--quiet); text-transform: uppercase; letter-spacing: 0.05em; } dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; } dl div.long { grid-column: 1 / -1; }
summary { cursor: pointer; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 15px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 22px 6px 0; border-bottom: 1px solid var(--rule); } th { color: var(--quiet); font-weight: 600; } td.number { text-align: right; }
.plot { background: #ffffff; border: 1px solid var(--rule); border-radius: 10px; padding: 6px; } .plot svg { display: block; width: 100%; height: auto; }
.key { display: flex; flex-wrap: wrap; gap: 2px 20px; margin: 0 10px 6px; color: #1d2126; font-size: 14px; overflow-wrap: anywhere; }
.row, .tiles { display: flex; gap: 8px; align-items: flex-start; } .tiles { flex-wrap: wrap; }
.row { padding: 10px 0; border-bottom: 1px solid var(--rule); }
.row > figure { flex: none; } .row h3 { flex: 0 0 96px; margin: 0; font-size: 13px; font-weight: 600; color: var(--quiet); overflow-wrap: anywhere; }
figure.tile { margin: 0; width: min-content; min-width: 96px; overflow-wrap: anywhere; text-align: center; font-size: 12px; color: var(--quiet); font-variant-numeric: tabular-nums; }
.tile img { display: block; height: 96px; min-width: 24px; width: auto; border: 3px solid var(--rule); border-radius: 5px; image-rendering: auto; margin: 0 auto 3px; }
.tile.right img { border-color: var(--right); } .tile.wrong img { border-color: var(--wrong); border-style: dashed; }
.tile.right b { color: var(--right); } .tile.wrong b { color: var(--wrong); } .tile.query { margin-right: 14px; } figure.tile:only-child { width: auto; text-align: left; } .tile:only-child img { margin-left: 0; }
.sparks { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: 10px 14px; }
.sparks figure { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: 4px 6px; } .sparks svg { display: block; width: 100%; height: auto; }
.sparks figcaption { font-size: 12px; color: var(--quiet); font-variant-numeric: tabular-nums; }
ul { padding-left: 20px; } li { margin: 3px 0; }
";

/// What stands in a page before the hash of itself.
pub const SEAL: &str = "</style><meta name=\"blake3\" content=\"";

/// Bytes of a fact that has a line of its own.
const LONG: usize = 60;

/// A report as one HTML page that needs no other file.
pub fn page(report: &Report) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content="rankle";
                title { (report.title) }
                style { (PreEscaped(STYLE)) }
                meta name="blake3" content=(UNKNOWN);
            }
            body {
                main {
                    header {
                        h1 { (report.title) }
                        p { (report.subtitle) }
                        @if !report.answer.is_empty() { p.answer { (report.answer) } }
                        @if !report.lead.0.is_empty() {
                            div.lead { @for (name, number, beside) in &report.lead.0 { p { b { (number) } (name) @if !beside.is_empty() { br; (beside) } } } }
                        }
                        @if !report.lead.1.is_empty() { p { (report.lead.1) } }
                        @if !report.facts.is_empty() {
                            dl { @for (name, value) in &report.facts { div.long[value.len() > LONG] { dt { (name) } dd { (value) } } } }
                        }
                        nav aria-label="Sections" { @for (i, section) in report.sections.iter().enumerate() { a href=(format!("#s{i}")) { (section.heading) } } }
                    }
                    @for (i, section) in report.sections.iter().enumerate() {
                        section id=(format!("s{i}")) { h2 { (section.heading) } (section.body) }
                    }
                }
            }
        }
    }
}

fn noted(note: &str) -> Markup {
    html! { @if !note.is_empty() { p.note { (note) } } }
}

/// What is shown when its summary is clicked.
pub fn folded(summary: &str, body: Markup) -> Markup {
    html! { details { summary { (summary) } (body) } }
}

/// A table under a note.
pub fn table(note: &str, table: &Table) -> Markup {
    html! {
        (noted(note))
        div.scroll tabindex="0" role="group" aria-label="table" {
            table {
                thead { tr { @for cell in &table.head { th scope="col" { (cell) } } } }
                tbody {
                    @for row in &table.rows {
                        tr { @for cell in row { td.number[is_number(cell)] { (cell) } } }
                    }
                }
            }
        }
    }
}

/// A plot under a note, called as its section.
pub fn figure(heading: &str, note: &str, plot: Plot) -> Markup {
    html! {
        (noted(note))
        @match plot.svg {
            Some(svg) => {
                div.plot {
                    div role="img" aria-label=(heading) { (PreEscaped(svg)) }
                    @if !plot.key.is_empty() {
                        p.key { @for of in &plot.key { span { b style=(format!("color: {}", of.colour)) { "━" (of.mark) "━" } " " (of.name) } } }
                    }
                }
            }
            None => { p { "Nothing to show." } }
        }
        @if plot.dropped > 0 { p.note { (crate::say::count(plot.dropped, "number")) " left out: NaN or infinite." } }
    }
}

/// Rows of pictures under a note.
pub fn gallery(note: &str, rows: &[GalleryRow]) -> Markup {
    html! {
        (noted(note))
        @if rows.is_empty() { p { "Nothing to show." } }
        @for row in rows {
            // Answers that need several lines stay beside their query.
            @let queries = row.tiles.iter().take_while(|tile| tile.frame == Frame::None).count();
            @let (query, others) = row.tiles.split_at(if queries < row.tiles.len() { queries } else { 0 });
            div.row role="group" aria-label=(row.title) {
                h3 { (row.title) }
                @for tile in query { (tile_of(tile)) }
                div.tiles { @for tile in others { (tile_of(tile)) } }
            }
        }
    }
}

fn tile_of(tile: &Tile) -> Markup {
    let (class, mark, word) = match tile.frame {
        Frame::None => ("tile query", "", "query"),
        Frame::Plain => ("tile", "", "photo"),
        Frame::Right => ("tile right", "✓ ", "right"),
        Frame::Wrong => ("tile wrong", "✗ ", "wrong"),
    };
    html! {
        figure class=(class) {
            img src=(jpeg(&tile.image)) alt=(format!("{word}: {}", tile.caption)) loading="lazy";
            figcaption { b { (mark) } (tile.caption) }
        }
    }
}

/// Width and height of a picture made `most` high and four times as wide at most, its shape kept.
pub(crate) fn within((w, h): (u32, u32), most: u32) -> (u32, u32) {
    let share = (f64::from(most) / f64::from(h.max(1))).min(4. * f64::from(most) / f64::from(w.max(1))).min(1.);
    let side = |side: u32| ((f64::from(side) * share) as u32).max(1);
    (side(w), side(h))
}

/// Bytes of a picture: what takes more is made coarser, but for the smallest size. So a page of 200 stays below 2 MB.
const PICTURE: usize = 6800;

/// A picture as a data address, at most 192 pixels high: twice what is shown, for fine screens. What is rich in detail is
/// made coarser, then smaller.
fn jpeg(image: &RgbImage) -> String {
    const SIZES: [(u32, u8); 6] = [(192, 85), (192, 70), (144, 70), (96, 60), (64, 50), (40, 40)];
    let (w, h) = image.dimensions();
    let mut bytes = Vec::new();
    for (most, quality) in SIZES {
        let (wide, high) = within((w, h), most);
        let small = if (wide, high) == (w, h) { image.clone() } else { crate::picture::resize(image, high, wide) };
        bytes.clear();
        // Into memory, with known dimensions: nothing that can fail but the encoder itself.
        if JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(&small).is_err() {
            return "data:,".into();
        }
        if bytes.len() <= PICTURE {
            break;
        }
    }
    format!("data:image/jpeg;base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes))
}
