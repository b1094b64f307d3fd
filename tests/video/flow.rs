//! Optical flow: TV-L1, and what is stored of it.

use std::path::Path;

use image::{Rgb, RgbImage};
use rankle::video::tvl1::{Constants, Plane, flow};
use rankle::video::{Cache, FLOW_BOUND, clips, grey, quantised};

use crate::common::{has, line, made};

/// Waves of several lengths, moved by (dx, dy).
fn waves(dx: f32, dy: f32) -> Plane {
    let value = |x: f32, y: f32| {
        128. + 40. * (x / 5.).sin() * (y / 7.).cos() + 30. * (x / 11. + y / 9.).sin() + 20. * (y / 4. - x / 13.).cos()
    };
    Plane::new(64, 48, (0..64 * 48).map(|i| value((i % 64) as f32 - dx, (i / 64) as f32 - dy)).collect())
}

#[test]
fn tvl1_finds_a_shift() {
    for (dx, dy) in [(0., 0.), (1.5, -0.75), (-4., 3.)] {
        let (u, v) = flow(&waves(0., 0.), &waves(dx, dy), Constants::default());
        let inner = |plane: &Plane| {
            let rows = (8..40).flat_map(|y| (8..56).map(move |x| y * 64 + x));
            rows.map(|i| plane.values()[i]).collect::<Vec<_>>()
        };
        let error: f32 =
            inner(&u).iter().zip(inner(&v)).map(|(u, v)| ((u - dx).powi(2) + (v - dy).powi(2)).sqrt()).sum::<f32>();
        let mean = error / (32. * 48.);
        assert!(mean < 0.15, "({dx}, {dy}): {mean}");
    }
    let flat = Plane::new(5, 3, vec![7.; 15]);
    let (u, v) = flow(&flat, &flat, Constants::default());
    assert!(u.values().iter().chain(v.values()).all(|&x| x == 0.));
}

/// Pictures of a pattern that moves, from frame `first`.
fn video(at: &Path, first: u32, frames: u32) {
    for i in first..first + frames {
        let level = |x: u32, y: u32| (128. + 100. * ((x + 2 * i) as f32 / 17.).sin() * (y as f32 / 23.).cos()) as u8;
        let image = RgbImage::from_fn(340, 256, |x, y| Rgb([level(x, y); 3]));
        image.save(made(at.join(format!("{}.png", i - first)))).expect("saved");
    }
}

#[test]
fn flow_is_computed_once_and_stored_as_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    video(&dir.path().join("A"), 0, 3);
    let open = || clips(dir.path(), &Cache::new(0)).expect("videos");
    assert_eq!(rankle::video::flow::compute(dir.path(), open()).expect("computed"), 1);
    assert_eq!(rankle::video::flow::compute(dir.path(), open()).expect("there"), 0);
    let clip = open().remove(0);
    for at in 0..2 {
        let [a, b] = [at, at + 1].map(|at| grey(&clip.frame(at).expect("read")));
        let (u, v) = flow(&a, &b, Constants::default());
        let field = clip.flow(at).expect("flow");
        // JPEG of quality 95.
        let off = |c: usize, plane: &Plane| {
            let pairs = field.pixels().zip(plane.values());
            pairs.map(|(pixel, &x)| u64::from(pixel[c].abs_diff(quantised(x, FLOW_BOUND)))).sum::<u64>() as f64
        };
        assert!(off(0, &u).max(off(1, &v)) / f64::from(340 * 256) < 1., "{} {}", off(0, &u), off(1, &v));
    }
    assert!(std::fs::read_to_string(dir.path().join("flow/A/flow.json")).expect("told").contains("\"fields\": 2"));
    // Of another length of the video it is made anew; what somebody else put there stays.
    let field = |axis: &str| dir.path().join(format!("flow/A/flow_{axis}_00002.jpg"));
    let shorten = || ["x", "y"].iter().for_each(|axis| drop(std::fs::remove_file(field(axis))));
    shorten();
    assert_eq!(rankle::video::flow::compute(dir.path(), open()).expect("computed"), 1);
    for name in ["flow/A/mine.npy", "flow/A/.mine", "flow/A/flow.json"] {
        shorten();
        std::fs::write(dir.path().join(name), "mine").expect("written");
        let text = line(rankle::video::flow::compute(dir.path(), open()));
        assert!(text.contains("flow/A/") && text.contains("move it away"), "{text}");
        assert_eq!(std::fs::read_to_string(dir.path().join(name)).expect("there"), "mine");
        ["mine.npy", ".mine"].iter().for_each(|own| drop(std::fs::remove_file(dir.path().join("flow/A").join(own))));
    }
}

/// Before that of the others is computed.
#[test]
fn one_frame_alone_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    [("A", 2), ("B", 1), ("C", 1)].iter().for_each(|(name, frames)| video(&dir.path().join(name), 0, *frames));
    let text = line(rankle::video::flow::compute(dir.path(), clips(dir.path(), &Cache::new(0)).expect("videos")));
    has(&text, "B, C of |each has one frame|take them away|--streams spatial");
    assert!(!dir.path().join("flow").exists());
}

#[test]
fn flow_of_another_video_or_with_gaps_is_refused_and_computed_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let moved = |from: &str, to: &str| std::fs::rename(at(from), at(to)).expect("moved");
    video(&at("A"), 0, 5);
    video(&at("B"), 7, 3);
    let open = || clips(dir.path(), &Cache::new(0)).expect("videos");
    let compute = || rankle::video::flow::compute(dir.path(), open()).expect("computed");
    let refused = |word: &str, count: usize| {
        let said: Vec<String> =
            open().iter().filter_map(|clip| clip.check_flow().err()).map(|e| e.to_string()).collect();
        let fits = |text: &String| text.contains(word) && text.contains("flow/") && text.ends_with("flow");
        assert!(said.len() == count && said.iter().all(fits), "{word}: {said:?}");
    };
    assert_eq!(compute(), 2);
    // A copy of other times is the same video.
    moved("A", "before");
    std::fs::create_dir(at("A")).expect("made");
    for i in 0..5 {
        let bytes = std::fs::read(at(&format!("before/{i}.png"))).expect("read");
        std::fs::write(at(&format!("A/{i}.png")), bytes).expect("written");
    }
    std::fs::remove_dir_all(at("before")).expect("removed");
    refused("", 0);
    // Another of the same name and length.
    std::fs::remove_dir_all(at("B")).expect("removed");
    video(&at("B"), 9, 3);
    refused("is the flow of another video than", 1);
    assert_eq!(compute(), 1);
    refused("", 0);
    // Two whose names were exchanged.
    [("A", "C"), ("B", "A"), ("C", "B")].iter().for_each(|(from, to)| moved(from, to));
    refused("is the flow of another video than", 2);
    [("A", "C"), ("B", "A"), ("C", "B")].iter().for_each(|(from, to)| moved(from, to));
    // Fields that are gone: the last, half of one, one in the middle, which is seen of other programs' flow too.
    let gone = |name: &str| std::fs::remove_file(at(&format!("flow/A/{name}"))).expect("removed");
    ["flow_x_00004.jpg", "flow_y_00004.jpg"].iter().for_each(|name| gone(name));
    refused("3 flow fields of 4", 1);
    assert_eq!(compute(), 1);
    gone("flow_x_00003.jpg");
    refused("3 files flow_x_* and 4 flow_y_*", 1);
    gone("flow_y_00003.jpg");
    refused("3 flow fields of 4", 1);
    gone("flow.json");
    refused("fields are missing", 1);
    // Nobody wrote down of which video.
    std::fs::remove_file(at("flow/B/flow.json")).expect("removed");
    std::fs::remove_dir_all(at("B")).expect("removed");
    video(&at("B"), 11, 3);
    refused("fields are missing", 1);
    // A folder of pictures is a video itself, whose flow is found again.
    let alone = || clips(&at("B"), &Cache::new(0)).expect("a video");
    assert_eq!(rankle::video::flow::compute(&at("B"), alone()).expect("computed"), 1);
    alone()[0].check_flow().expect("there");
}
