//! The report page and the terminal table.

use image::RgbImage;
use rankle::report::{Bars, Frame, GalleryRow, Report, Series, Table, Tile, curves};

use crate::common::put;

fn series(points: &[(f64, f64)]) -> Vec<Series> {
    vec![Series { name: "a <b>".into(), points: points.to_vec() }]
}

#[test]
fn whatever_comes_in_is_escaped_and_nothing_comes_from_elsewhere() {
    let evil = "<script>alert(\"x\")</script> & http&colon;";
    let mut report = Report::new(evil, evil);
    report.facts(&[(evil.into(), evil.into())]);
    report.text(evil, evil);
    report.list(evil, &[evil.into()]);
    report.table(evil, evil, &Table { head: vec![evil.into()], rows: vec![vec![evil.into()]] });
    report.lines(
        evil,
        evil,
        evil,
        evil,
        &[Series { name: evil.into(), points: vec![(0., 1.), (1., 2.)] }, Series::default()],
    );
    report.histogram(evil, evil, evil, &[(evil.into(), vec![1., 2., 3.])], 5);
    report.bars(
        evil,
        evil,
        evil,
        &[evil.into(), "b".into()],
        &[Bars { name: evil.into(), values: vec![(0.5, None), (1., None)] }],
    );
    let tile = |frame| Tile { image: RgbImage::new(300, 500), caption: evil.into(), frame };
    report.gallery(
        evil,
        evil,
        &[GalleryRow { title: evil.into(), tiles: vec![tile(Frame::None), tile(Frame::Right), tile(Frame::Wrong)] }],
    );
    let page = report.html();
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
    assert_eq!(page.matches("src=\"").count(), 3);
    assert_eq!(page.matches("src=\"data:image/jpeg;base64,/9j/").count(), 3);
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(page.contains("✓") && page.contains("✗"), "right and wrong are told without colour too");
    assert!(page.contains("alt=\"wrong: "));
    // The query stands before its answers, not among them, where these need several lines.
    let (before, answers) = page.split_once("<div class=\"tiles\">").expect("answers");
    assert!(before.contains("alt=\"query: ") && !answers.contains("alt=\"query: "));
}

#[test]
fn odd_numbers_do_not_break_a_plot() {
    type Odd = (&'static str, Vec<(f64, f64)>, bool);
    let odd: [Odd; 7] = [
        ("nothing", vec![], false),
        ("only NaN", vec![(0., f64::NAN), (f64::NAN, f64::NAN)], false),
        ("one point", vec![(3., 4.)], true),
        ("constant", vec![(0., 2.), (1., 2.), (2., 2.)], true),
        ("some infinite", vec![(0., 1.), (1., f64::INFINITY), (2., 3.), (f64::NEG_INFINITY, 3.)], true),
        ("tiny", vec![(0., 1e-30), (1., 2e-30)], true),
        ("huge", vec![(0., -1e30), (1e12, 1e30)], true),
    ];
    for (name, points, drawn) in odd {
        let mut report = Report::new("t", "s");
        report.lines("h", "", "x", "y", &series(&points));
        report.histogram(
            "h",
            "",
            "x",
            &[("g".into(), points.iter().map(|p| p.1).collect()), ("empty".into(), vec![])],
            10,
        );
        let page = report.html();
        assert_eq!(page.matches("<svg").count(), if drawn { 2 } else { 0 }, "{name}");
        assert_eq!(page.matches("Nothing to show").count(), if drawn { 0 } else { 2 }, "{name}");
        assert!(!page.contains("NaN,") && !page.contains("inf,"), "{name}");
    }
    let mut report = Report::new("t", "s");
    report.lines("h", "", "x", "y", &series(&[(0., 1.), (1., f64::NAN), (2., 1.)]));
    assert!(report.html().contains("1 number left out: NaN or infinite"));
    let many: Vec<_> = (0..1_000_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
    let mut report = Report::new("t", "s");
    report.lines("h", "", "x", "y", &series(&many));
    assert!(report.html().len() < 300_000, "a long series is thinned");
    report.gallery("h", "", &[]);
    report.bars("h", "", "x", &[], &[]);
    assert!(report.html().contains("Nothing to show"));
}

/// 200 pictures, of noise or plain, tall or wide, a row each, are less than 2 MB.
#[test]
fn a_page_of_many_pictures_is_light() {
    let size = |wide: u32, high: u32, noise: bool| {
        let mut x = 1_u32;
        let image = RgbImage::from_fn(wide, high, |i, j| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            image::Rgb(if noise { [(x >> 24) as u8, (x >> 16) as u8, (x >> 8) as u8] } else { [i as u8, j as u8, 9] })
        });
        let tile = || Tile { image: image.clone(), caption: "a/name/of/a/photo.jpg".into(), frame: Frame::Plain };
        let mut report = Report::new("t", "s");
        let empty = report.html().len();
        report.gallery("h", "", &[GalleryRow { title: "person 1: 10 photos".into(), tiles: vec![tile()] }]);
        empty + 200 * (report.html().len() - empty)
    };
    for (wide, high) in [(250, 250), (1000, 200), (30, 900)] {
        for noise in [false, true] {
            let bytes = size(wide, high, noise);
            assert!(bytes < 2_000_000, "{wide}x{high}, noise {noise}: {bytes}");
        }
    }
}

#[test]
fn a_page_is_written_whole_or_not_at_all() {
    let place = tempfile::tempdir().expect("a folder");
    let report = Report::new("t", "s");
    let path = place.path().join("report.html");
    report.write(&path).expect("written");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), report.html());
    let error = report.write(&place.path().join("none/report.html")).expect_err("no such folder");
    assert!(format!("{error:#}").contains("none/report.html"));
    assert_eq!(std::fs::read_dir(place.path()).expect("folder").count(), 1);
}

#[test]
fn terminal_tables_align_numbers_to_the_right() {
    let rows = vec![
        vec!["mAP".into(), "0.5".into()],
        vec!["rank-1 and more".into(), "12.25".into()],
        vec!["x".into(), "n/a".into()],
    ];
    let text = Table { head: vec!["score".into(), "ours".into()], rows }.to_string();
    assert!(text.contains("   0.5 ") && text.contains(" 12.25 ") && text.contains(" n/a   "), "{text}");
    assert!(!text.contains('\u{1b}'));
    let widths: std::collections::BTreeSet<_> = text.lines().map(|line| line.chars().count()).collect();
    assert_eq!(widths.len(), 1, "{text}");
}

#[test]
fn bars_are_as_long_as_their_values_and_lost_ones_are_counted() {
    let groups = ["one <b>".to_string(), "two".to_string()];
    let bars = |values: [(f64, Option<f64>); 2]| {
        let mut report = Report::new("t", "s");
        report.bars("h", "", "x", &groups, &[Bars { name: "kind".into(), values: values.to_vec() }]);
        report.html()
    };
    let page = bars([(1., Some(0.5)), (2., None)]);
    assert!(page.contains("one &lt;b&gt;") && page.contains("kind"), "names, escaped");
    // Rectangles in the colour of the first kind: one a group.
    let widths: Vec<f64> = page
        .split("<rect ")
        .skip(1)
        .filter(|rect| rect.contains("#0072B2"))
        .filter_map(|rect| rect.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
        .collect();
    assert_eq!(widths.len(), 2, "{widths:?}");
    assert!((widths[1] / widths[0] - 2.).abs() < 0.02, "{widths:?}");
    assert!(bars([(1., None), (f64::NAN, None)]).contains("1 number left out: NaN or infinite"));
    assert!(bars([(f64::NAN, None), (f64::NAN, None)]).contains("Nothing to show"));
    assert!(bars([(-1., Some(0.2)), (0., Some(f64::NAN))]).contains("<svg"));
}

/// The texts along the axes of the first plot.
fn axes(page: &str) -> Vec<String> {
    let svg = page.split("<svg").nth(1).and_then(|rest| rest.split("</svg>").next()).expect("a plot");
    let text = |part: &str| {
        part.split_once('>').and_then(|(_, rest)| rest.split('<').next()).map(|text| text.trim().to_string())
    };
    svg.split("<text").skip(1).filter_map(text).collect()
}

#[test]
fn lines_are_told_apart_and_axes_end_where_numbers_do() {
    let drawn = |all: &[Vec<(f64, f64)>]| {
        let line = |(i, points): (usize, &Vec<_>)| Series { name: format!("run {i}"), points: points.clone() };
        let mut report = Report::new("t", "s");
        report.lines("h", "", "step", "fraction", &all.iter().enumerate().map(line).collect::<Vec<_>>());
        report.html()
    };
    // More lines than colours: what stands before each name differs, and marks are on those beyond the palette.
    let rising = |count: usize| (0..count).map(|i| vec![(0., i as f64), (30., i as f64 + 1.)]).collect::<Vec<_>>();
    let page = drawn(&rising(21));
    let signs: Vec<&str> = page.split("<b style=\"").skip(1).filter_map(|part| part.split("</b>").next()).collect();
    assert_eq!((signs.len(), signs.iter().collect::<std::collections::BTreeSet<_>>().len()), (21, 21), "{signs:?}");
    assert_eq!((page.matches("<circle").count(), page.matches("<polygon").count()), (14, 14));
    assert!(!drawn(&rising(7)).contains("<circle") && page.contains("run 20"));
    // Names stand below the drawing, not in it.
    assert!(!axes(&page).iter().any(|text| text.starts_with("run")), "{:?}", axes(&page));
    // Shares do not leave 0 to 1, and a first step alone is no half one.
    let numbers = |page: &str| axes(page).iter().filter_map(|text| text.parse::<f64>().ok()).collect::<Vec<_>>();
    let flat = numbers(&drawn(&[vec![(0., 1.), (30., 1.)]]));
    assert!(flat.iter().filter(|x| x.fract() != 0.).all(|x| (0. ..=1.).contains(x)) && flat.len() > 4, "{flat:?}");
    let first = drawn(&[vec![(0., 5.)]]);
    assert!(axes(&first).iter().all(|text| !text.starts_with('-')) && first.contains("<circle"), "{:?}", axes(&first));
}

#[test]
fn a_bar_stands_for_every_name_and_group() {
    let names: Vec<String> = (0..81).map(|i| format!("class {i}")).collect();
    let values = (0..81).map(|i| (f64::from(i) / 81., None)).collect::<Vec<_>>();
    let groups = ["F1", "AP"].map(|name| Bars { name: name.into(), values: values.clone() });
    let mut report = Report::new("t", "s");
    report.bars("h", "", "share", &names, &groups);
    let page = report.html();
    assert_eq!(page.matches("<svg").count(), 1);
    // Every class by its name, and filled rectangles of two colours for each.
    assert!(names.iter().all(|name| page.contains(name)));
    let bars = |colour: &str| page.matches(&format!("fill=\"{colour}\"")).count();
    assert!(bars("#0072B2") >= 81 && bars("#D55E00") >= 81, "{} and {}", bars("#0072B2"), bars("#D55E00"));
}

#[test]
fn a_folded_table_and_the_sections_of_another_report() {
    let table = Table { head: vec!["<a>".into()], rows: vec![vec!["1".into()]] };
    let (mut report, mut other) = (Report::new("t", "s"), Report::new("lost", "s"));
    report.text("first", "");
    other.folded_table("second", "what & why", &table);
    other.folded_table("third", "", &table);
    report.append(other);
    let page = report.html();
    assert!(page.contains("<details><summary>what &amp; why</summary><div") && page.contains("<td class=\"number\">1"));
    assert!(page.contains("<summary>third</summary>") && page.contains("&lt;a&gt;") && !page.contains("lost"));
    assert!(page.contains("<section id=\"s2\"><h2>third</h2>"));
}

/// The headings of a run's curves, and how many lines the legends name.
fn curves_of(files: &[(&str, &str)]) -> (Vec<String>, String) {
    let place = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        put(place.path().join(name), format!("{text}\n"));
    }
    let mut report = Report::new("t", "s");
    curves(&mut report, &[("", place.path())]).expect("readable");
    let page = report.html();
    let heading = |part: &str| part.split("</h2>").next().expect("a part").to_string();
    (page.split("<h2>").skip(1).map(heading).collect(), page)
}

#[test]
fn curves_are_drawn_of_what_a_log_holds() {
    let embedded = r#"{"step":0,"mean":1,"mean_active":2,"active":0.5,"distance":{"p0":0,"p5":1,"p50":2,"p95":3,"p100":4},"norm":{"mean":1,"max":2}}"#;
    let (headings, page) = curves_of(&[("log.jsonl", &format!("{embedded}\n{{\"step\":1,\"warning\":\"w\"}}\n{{cut"))]);
    assert_eq!(headings, ["Loss", "Active terms", "Distances in a batch", "Embedding length"]);
    assert!(page.contains("mean of active") && page.contains("p100") && page.contains("Both means: over all terms"));

    let learned = r#"{"step":0,"stage":1,"mean":1,"mean_active":2,"active":1,"distance":{"same":1},"square":{"same":1,"different":2}"#;
    let (headings, page) = curves_of(&[("log.jsonl", &format!("{learned},\"margins\":[1,0.5],\"saturated\":0.1}}"))]);
    assert_eq!(headings, ["Loss", "Active terms", "Mean squared distances in a batch", "Margins", "Saturation"]);
    assert!(page.contains("alpha 2") && !page.contains("mean of active"));
    assert_eq!(curves_of(&[("log.jsonl", &format!("{learned}}}"))]).0.len(), 3);

    let stages = "{\"step\":0,\"stage\":1,\"mean\":1,\"active\":1}\n{\"step\":1,\"stage\":2,\"loss\":1,\"count\":1,\"threshold\":1}";
    let (headings, page) = curves_of(&[("log.jsonl", stages)]);
    assert_eq!(headings, ["Loss of the first stage", "Losses of the second stage", "Active terms"]);
    assert!(page.contains("label threshold"));

    let fold = r#"{"step":0,"mean":1,"active":1,"right":0.5,"gap":2}"#;
    let parts =
        [("fold-1-temporal/log.jsonl", fold), ("fold-1-spatial/log.jsonl", fold), ("on-other/results.json", "{}")];
    let (headings, page) = curves_of(&parts);
    assert_eq!(headings, ["Loss", "Active terms", "Pairs in the right order", "Gap of two scores"]);
    assert!(page.find("fold 1 spatial") < page.find("fold 1 temporal") && !page.contains("on other"));
    assert!(
        page.contains("The mean over a batch&apos;s samples.") || page.contains("The mean over a batch's samples.")
    );

    assert_eq!(curves_of(&[("model.pt", "")]).0, [""; 0]);
}
