use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use image::{Rgb, RgbImage};
use rankle::datasets::drawn::Hands;
use rankle::datasets::drawn::hand::{BOUND, Hand, Performance};
use rankle::video::snippet::{Crops, Stream, Window, random_starts, split, uniform_starts};
use rankle::video::tvl1::{Constants, Plane, flow};
use rankle::video::{
    Animation, Cache, Clip, FLOW_BOUND, VideoFiles, clips, ffmpeg, find, folder, grey, leap, quantised,
};
use rayon::prelude::*;

use crate::datasets::line;

#[test]
fn splits_cover_a_video_and_snippets_stay_inside() {
    for frames in 1..60 {
        for n in 1..8 {
            let parts: Vec<_> = (0..n).map(|k| split(frames, n, k)).collect();
            assert!(parts.iter().all(|part| !part.is_empty() && part.end <= frames));
            if frames >= n {
                assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), frames);
            }
            for span in [1, 6] {
                for part in &parts {
                    let starts =
                        random_starts(part.clone(), 3, span, &mut rankle::seed::at(frames as u64, n as u64, 0));
                    let inside =
                        |&start: &usize| start >= part.start && (start + span <= part.end || start == part.start);
                    assert!(starts.len() == 3 && starts.iter().all(inside), "{starts:?} in {part:?}");
                    assert!(starts.is_sorted());
                }
                let starts = uniform_starts(frames, 25, span);
                assert!(starts.len() == 25 && starts.is_sorted());
                assert!(starts.iter().all(|start| start + span <= frames.max(span)));
            }
        }
    }
    assert_eq!(uniform_starts(100, 4, 1), [12, 37, 62, 87]);
    // Every start of a segment is drawn.
    let mut rng = rankle::seed::at(1, 2, 3);
    let seen: std::collections::BTreeSet<usize> =
        (0..300).flat_map(|_| random_starts(10..31, 3, 6, &mut rng)).collect();
    assert_eq!(seen, (10..26).collect());
}

#[test]
fn windows_are_corners_or_the_centre_at_neighbouring_scales() {
    let crops = Crops::paper();
    let mut rng = rankle::seed::at(4, 0, 0);
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..5000 {
        let Window { top, left, height, width, .. } = crops.window(crops.draw(&mut rng), 256, 340);
        let place = |side: u32| [256, 224, 192, 168].iter().position(|&known| known == side).expect("a scale");
        assert!(place(height).abs_diff(place(width)) <= 1);
        let corners = [(0, 0), (0, 340 - width), (256 - height, 0), (256 - height, 340 - width)];
        assert!(corners.contains(&(top, left)) || (top, left) == ((256 - height) / 2, (340 - width) / 2));
        *seen.entry((height, width)).or_insert(0) += 1;
    }
    // Ten pairs, all alike often: 500 times each, with a deviation of 21.
    assert_eq!(seen.len(), 10);
    assert!(seen.values().all(|count| (400..600).contains(count)), "{seen:?}");
    let centre = Window { top: 16, left: 58, height: 224, width: 224, flip: false };
    assert_eq!(crops.centre(256, 340), centre);
}

/// A film whose pixels and flow tell the frame and the place.
#[derive(Debug)]
struct Told;

impl Animation for Told {
    fn frames(&self) -> usize {
        9
    }
    fn frame(&self, at: usize) -> RgbImage {
        RgbImage::from_fn(6, 4, |x, y| Rgb([at as u8, x as u8, y as u8]))
    }
    fn flow(&self, at: usize) -> RgbImage {
        RgbImage::from_fn(6, 4, |x, _| Rgb([100 + x as u8, 200 + at as u8, 128]))
    }
}

#[test]
fn snippets_hold_their_planes_and_a_mirrored_flow_turns_round() {
    let clip = Clip::drawn("told".into(), 0, Arc::new(Told), Cache::new(1 << 20));
    let crops = Crops { side: 4, scales: vec![1.] };
    let mut out = vec![0; crops.len(Stream::Spatial)];
    let window = |flip| move |_: u32, _: u32| Window { top: 0, left: 1, height: 4, width: 4, flip };
    crops.write(&clip, Stream::Spatial, 5, window(false), &mut out).expect("read");
    assert_eq!(out[..4], [5; 4]);
    assert_eq!(out[16..24], [1, 2, 3, 4, 1, 2, 3, 4]);
    assert_eq!(out[32..40], [0, 0, 0, 0, 1, 1, 1, 1]);
    crops.write(&clip, Stream::Spatial, 5, window(true), &mut out).expect("read");
    assert_eq!(out[16..20], [4, 3, 2, 1]);
    let mut out = vec![0; crops.len(Stream::Temporal)];
    crops.write(&clip, Stream::Temporal, 2, window(false), &mut out).expect("read");
    for field in 0..5 {
        assert_eq!(out[32 * field..32 * field + 4], [101, 102, 103, 104]);
        assert_eq!(out[32 * field + 16], 202 + field as u8);
    }
    crops.write(&clip, Stream::Temporal, 2, window(true), &mut out).expect("read");
    assert_eq!(out[..4], [104, 103, 102, 101].map(|v: u8| 255 - v));
    assert_eq!(out[16], 202, "y keeps its sign");
    // Beyond the last field the last one is repeated.
    crops.write(&clip, Stream::Temporal, 6, window(false), &mut out).expect("read");
    assert_eq!([out[16], out[48], out[80], out[144]], [206, 207, 207, 207]);
}

#[test]
fn the_cache_keeps_to_its_bytes_and_drops_the_oldest() {
    let cache = Cache::new(3 * 72);
    let clip = Clip::drawn("told".into(), 0, Arc::new(Told), cache.clone());
    let first: Vec<_> = (0..3).map(|at| clip.frame(at).expect("read")).collect();
    assert_eq!(cache.bytes(), 216);
    assert!(Arc::ptr_eq(&first[0], &clip.frame(0).expect("read")), "read again from memory");
    clip.frame(3).expect("read");
    assert_eq!(cache.bytes(), 216);
    assert!(Arc::ptr_eq(&first[0], &clip.frame(0).expect("read")));
    assert!(!Arc::ptr_eq(&first[1], &clip.frame(1).expect("read")), "the oldest is gone");
    assert!(Cache::new(10).bytes() == 0);
}

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

#[test]
fn flow_is_computed_once_and_stored_as_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(dir.path().join("A")).expect("made");
    for i in 0..3 {
        let level = |x: u32, y: u32| (128. + 100. * ((x + 2 * i) as f32 / 17.).sin() * (y as f32 / 23.).cos()) as u8;
        let image = RgbImage::from_fn(340, 256, |x, y| Rgb([level(x, y); 3]));
        image.save(dir.path().join(format!("A/{i}.png"))).expect("saved");
    }
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
    for name in ["flow/A/mine.npy", "flow/A/flow.json"] {
        shorten();
        std::fs::write(dir.path().join(name), "mine").expect("written");
        let text = line(rankle::video::flow::compute(dir.path(), open()));
        assert!(text.contains("flow/A/") && text.contains("move it away"), "{text}");
        assert_eq!(std::fs::read_to_string(dir.path().join(name)).expect("there"), "mine");
        let _ = std::fs::remove_file(dir.path().join("flow/A/mine.npy"));
    }
}

#[test]
fn a_drawn_hand_moves_as_its_flow_says() {
    let performance = Performance { seed: 1, person: 2, repeat: 0, skill: 0.4, drift: 0.3, size: (160, 208) };
    let hand = Hand::new(performance);
    assert_eq!(hand.frame(30), Hand::new(performance).frame(30), "a function of the seed");
    assert!((84..=168).contains(&hand.frames()));
    assert!(hand.lines[hand.frames() - 1].len() > 20);
    let mut moved = 0;
    for at in [10, 25, 40, 70] {
        let (u, v) = hand.motion(at);
        let field = hand.flow(at);
        let moving = [quantised(u, BOUND), quantised(v, BOUND), 128];
        let rest = [quantised(0., BOUND), quantised(0., BOUND), 128];
        let count = field.pixels().filter(|pixel| pixel.0 == moving).count();
        assert!(field.pixels().all(|pixel| pixel.0 == moving || pixel.0 == rest));
        assert!(count > 50);
        // Where the hand is after the motion, the next frame looks as this one did before it, to the pixel's rounding,
        // which is small beside the motion in a picture of this size.
        if u.abs().max(v.abs()) > 1.5 {
            moved += 1;
            let (now, next) = (hand.frame(at), hand.frame(at + 1));
            let (mut with, mut without) = (0_i64, 0_i64);
            for (x, y, pixel) in field.enumerate_pixels() {
                let (tx, ty) = (x as f32 + u, y as f32 + v);
                if pixel.0 != moving || !(0. ..207.).contains(&tx) || !(0. ..159.).contains(&ty) {
                    continue;
                }
                let there = next.get_pixel(tx.round() as u32, ty.round() as u32);
                let gap = |a: &Rgb<u8>, b: &Rgb<u8>| (0..3).map(|c| i64::from(a[c].abs_diff(b[c]))).sum::<i64>();
                with += gap(now.get_pixel(x, y), there);
                without += gap(now.get_pixel(x, y), next.get_pixel(x, y));
            }
            assert!(with <= without, "frame {at}: {with} against {without}");
        }
    }
    assert!(moved > 0);
}

/// Pixels of one colour whole belong to what has that colour: everything drawn as hand, arm or pen moves, everything
/// drawn as paper rests, the pen's thin tip too.
#[test]
fn the_known_flow_covers_what_is_drawn_and_no_more() {
    let mut seen = [0; 4];
    for person in 0..4 {
        let size = (160, 208);
        let hand = Hand::new(Performance { seed: 1, person, repeat: 0, skill: 0.5, drift: 0., size });
        for at in (0..hand.frames()).step_by(9) {
            let (u, v) = hand.motion(at);
            let moving = [quantised(u, BOUND), quantised(v, BOUND), 128];
            let rest = [quantised(0., BOUND), quantised(0., BOUND), 128];
            let tip = hand.tips[at];
            // The arm must be in the picture.
            if moving == rest || tip.0 > 0.9 || tip.1 > 0.6 {
                continue;
            }
            let (frame, flow) = (hand.frame(at), hand.flow(at));
            let pixel =
                |dx: f32, dy: f32| frame.get_pixel(((tip.0 + dx) * 160.) as u32, ((tip.1 + dy) * 160.) as u32).0;
            // The pen's middle, the palm beside it, the arm, and paper far from all.
            let colours = [pixel(0.06, 0.06), pixel(0.22, 0.12), pixel(0.34, 0.37), frame.get_pixel(0, 0).0];
            for (x, y, pixel) in frame.enumerate_pixels() {
                let Some(kind) = colours.iter().position(|colour| *colour == pixel.0) else { continue };
                seen[kind] += 1;
                let wanted = if kind < 3 { moving } else { rest };
                assert_eq!(flow.get_pixel(x, y).0, wanted, "person {person}, frame {at}, pixel {x} {y}, kind {kind}");
            }
        }
    }
    assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
}

#[test]
fn the_drawn_set_is_judged_like_the_paper_s() {
    let (set, hands) = Hands::default().set();
    let card = set.card();
    println!("{card}");
    assert_eq!((set.videos.len(), hands.len(), set.folds.len()), (32, 32, 4));
    let task = &card.counts["tasks"][0];
    let (strict, similar) = (task["percent"][0].as_f64().unwrap_or(0.), task["percent"][1].as_f64().unwrap_or(0.));
    assert!((25. ..75.).contains(&strict) && similar > 3., "{strict} {similar}");
    for fold in &set.folds {
        assert_eq!(
            (fold.held.len(), fold.train.len() + fold.test.len()),
            (8, task["strict_rows"].as_u64().expect("a count") as usize)
        );
        assert!(fold.train.iter().chain(&fold.similar).all(|(a, b)| !fold.held.contains(a) && !fold.held.contains(b)));
    }
    // Judgements follow skill, and most of what is separated far is judged right.
    let skill = |i: usize| hands[i].performance.skill;
    let rows = &set.tasks[0].rows;
    let right = rows.iter().filter(|&&(a, b)| skill(a) > skill(b)).count();
    assert!(right * 100 >= rows.len() * 95);
    assert_eq!(Hands::default().set().0.tasks[0].rows, *rows);
    let other = Hands { seed: 2, ..Hands::default() }.set().0;
    assert_ne!(other.tasks[0].rows, *rows);
}

#[test]
fn videos_are_found_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let picture = |path: &Path| RgbImage::from_pixel(8, 6, Rgb([200, 10, 10])).save(path).expect("saved");
    for name in [
        "Knot_Tying_B001_capture1.avi",
        "Knot_Tying_B001_capture2.avi",
        "A1.mp4",
        "A1_other.mp4",
        "A10.mp4",
        "00001.MTS",
        "Kno\u{308}ten_B007.avi",
        "notes.txt",
    ] {
        std::fs::write(at(name), b"film").expect("written");
    }
    std::fs::create_dir_all(at("C2")).expect("made");
    (0..3).for_each(|i| picture(&at("C2").join(format!("img_{i:05}.png"))));
    std::fs::create_dir_all(at("flow/C2")).expect("made");
    for axis in ["x", "y"] {
        (0..2).for_each(|i| picture(&at("flow/C2").join(format!("flow_{axis}_{i:05}.png"))));
    }
    let flow = at("flow");
    let found = |video: &str| find(dir.path(), &flow, video);
    assert_eq!(found("B001").expect("one").film, Some(at("Knot_Tying_B001_capture2.avi")));
    assert_eq!(found("A1").expect("one").film, Some(at("A1.mp4")));
    assert_eq!(found("Kn\u{f6}ten").expect("one").film, Some(at("Kno\u{308}ten_B007.avi")));
    let pictures = found("C2").expect("a folder");
    assert_eq!((pictures.frames.len(), pictures.flow.len(), &pictures.film), (3, 2, &None));
    let text = line(found("Z9"));
    assert!(text.contains("no video of Z9") && text.contains("*.mts"), "{text}");
    assert!(line(found("B1")).contains("no video of B1"));
    // Names with the marks between parts in them: whole ones first, then parts of several words.
    let videos = dir.path().join("videos/underlined");
    for name in ["P01_01", "P01_011", "x_P01_02_y", "P01_01_02", "A_P02", "P02_B"] {
        std::fs::create_dir_all(videos.join(name)).expect("made");
        RgbImage::new(2, 2).save(videos.join(name).join("1.png")).expect("saved");
    }
    let among = |video: &str| find(&videos, &dir.path().join("flow"), video);
    for (video, folder) in [("P01_01", "P01_01"), ("P01_02", "x_P01_02_y"), ("01_02", "P01_01_02")] {
        match among(video) {
            Ok(found) => assert!(found.frames[0].starts_with(videos.join(folder)), "{video}: {:?}", found.frames),
            Err(error) => assert!(video == "01_02" && format!("{error:#}").contains("leave one"), "{error:#}"),
        }
    }
    assert!(line(among("P02")).contains("has A_P02 and P02_B for P02: leave one"));
    let clip = Clip::open("C2".into(), 0, &pictures, Cache::new(1 << 22)).expect("opens");
    assert_eq!((clip.frames(), clip.frame(2).expect("read").dimensions()), (3, (340, 256)));
    assert_eq!(clip.flow(1).expect("read").get_pixel(0, 0).0, [200, 200, 128]);
    let part = VideoFiles { part: Some((2, 9)), ..pictures.clone() };
    assert!(line(Clip::open("C2".into(), 0, &part, Cache::new(1))).contains("frames 2 to 9"));
    let still = VideoFiles { flow: Vec::new(), ..pictures };
    let clip = Clip::open("C2".into(), 0, &still, Cache::new(1)).expect("opens");
    assert!(line(clip.flow(0)).contains("has no optical flow"));
    assert!(line(clip.check_flow()).contains("skill-determination flow"));
    let named = |all: &[&str]| all.iter().map(std::path::PathBuf::from).collect::<Vec<_>>();
    assert_eq!(leap(&named(&["f_0", "f_10", "f_20"])), None);
    let gone = named(&["f_1.jpg", "f_2.jpg", "f_4.jpg"]);
    assert_eq!(leap(&gone), Some([&gone[1], &gone[2]]));
    let all = folder(dir.path()).expect("videos");
    assert_eq!(all.len(), 8);
    assert!(line(folder(&at("flow/C2/none"))).contains("no folder"));
    std::fs::create_dir_all(at("twice")).expect("made");
    for name in ["Jos\u{e9}.mp4", "Jose\u{301}.avi"] {
        std::fs::write(at("twice").join(name), b"x").expect("written");
    }
    assert!(line(folder(&at("twice"))).contains("has two videos called Jos\u{e9}"));
}

#[test]
fn frames_and_flow_come_in_the_order_of_their_numbers() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder_of = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(&path).expect("made");
        path
    };
    let at = folder_of("A1");
    let numbers = [1, 2, 9, 10, 11, 100];
    for i in numbers {
        for kind in ["frame", "flow_x_", "flow_y_"] {
            let path = at.join(format!("{kind}{i}.png"));
            RgbImage::from_pixel(8, 6, Rgb([i as u8; 3])).save(path).expect("saved");
        }
    }
    let found = find(dir.path(), &dir.path().join("flow"), "A1").expect("found");
    let names = |paths: &[std::path::PathBuf]| -> Vec<String> {
        paths.iter().map(|path| path.file_name().expect("a name").to_string_lossy().to_string()).collect()
    };
    assert_eq!(names(&found.frames), numbers.map(|i| format!("frame{i}.png")));
    let (x, y): (Vec<_>, Vec<_>) = found.flow.iter().cloned().unzip();
    assert_eq!(names(&x), numbers.map(|i| format!("flow_x_{i}.png")));
    assert_eq!(names(&y), numbers.map(|i| format!("flow_y_{i}.png")));
    // Padding, other numbers before the last, and names without any.
    let at = folder_of("B");
    for name in ["b2_f007.png", "b2_f8.png", "b10_f1.png", "b2_f07.png", "cover.png"] {
        RgbImage::new(2, 2).save(at.join(name)).expect("saved");
    }
    let found = find(dir.path(), &dir.path().join("flow"), "B").expect("found");
    assert_eq!(names(&found.frames), ["b2_f007.png", "b2_f07.png", "b2_f8.png", "b10_f1.png", "cover.png"]);
    // A field whose other half has another number.
    std::fs::rename(dir.path().join("A1/flow_y_9.png"), dir.path().join("A1/flow_y_8.png")).expect("renamed");
    let text = line(find(dir.path(), &dir.path().join("flow"), "A1"));
    assert!(text.contains("flow_x_9.png has no flow_y_9.png"), "{text}");
}

#[test]
fn segments_count_frames_as_scripts_convert_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let task = dir.path().join("annotations/Rolling");
    std::fs::create_dir_all(task.join("splits")).expect("made");
    std::fs::write(task.join("rolling_gt.csv"), "Vid1,Vid2,Best\nS1,S2,S1\nS2,S3,S2\n").expect("written");
    std::fs::write(task.join("splits/rolling_train_1.csv"), "Better,Worse\nS1,S2\n").expect("written");
    std::fs::write(task.join("splits/rolling_val_1.csv"), "Better,Worse\nS2,S3\n").expect("written");
    let list = "Video,StartFrame,EndFrame,\nS1_Pizza,3,6,\nS2_Pizza,1,4,\nS3_Pizza,2,2,\n";
    std::fs::write(dir.path().join("rolling_segments.csv"), list).expect("written");
    let videos = dir.path().join("videos/Rolling");
    let fill = |name: &str, frames: std::ops::RangeInclusive<u8>, taken: Option<&str>| {
        let folder = videos.join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("made");
        for (i, frame) in frames.enumerate() {
            let path = folder.join(format!("img_{:05}.png", i + 1));
            RgbImage::from_pixel(340, 256, Rgb([10 * frame; 3])).save(path).expect("saved");
        }
        if let Some(text) = taken {
            std::fs::write(folder.join("frames.json"), text).expect("written");
        }
    };
    // S1 whole, S2 cut by scripts/convert, S3 whole as scripts/convert takes it.
    fill("S1_Pizza", 1..=8, None);
    fill("S2_Pizza", 1..=4, Some(r#"{"size": [340, 256], "fps": null, "segment": [1, 4]}"#));
    fill("S3_Pizza", 1..=3, Some(r#"{"size": [340, 256], "fps": null, "segment": null}"#));
    let set = rankle::datasets::epic_skills::open_one(dir.path(), "Rolling").expect("a set");
    let clips = || rankle::datasets::epic_skills::clips(dir.path(), &set, &Cache::new(1 << 22));
    let levels = |clip: &Clip| -> Vec<u8> {
        (0..clip.frames()).map(|at| clip.frame(at).expect("read").get_pixel(9, 9)[0] / 10).collect()
    };
    let seen: Vec<Vec<u8>> = clips().expect("clips").iter().map(levels).collect();
    assert_eq!(seen, [vec![3, 4, 5, 6], vec![1, 2, 3, 4], vec![2]]);
    // The same film cut by scripts/convert is the same clip.
    fill("S1_Pizza", 3..=6, Some(r#"{"size": [340, 256], "fps": null, "segment": [3, 6]}"#));
    assert_eq!(levels(&clips().expect("clips")[0]), [3, 4, 5, 6]);
    fill("S1_Pizza", 2..=5, Some(r#"{"size": [340, 256], "fps": null, "segment": [2, 5]}"#));
    let text = line(clips());
    assert!(text.contains("Rolling/S1") && text.contains("--segments") && text.contains("2 to 5"), "{text}");
    fill("S1_Pizza", 1..=8, Some(r#"{"size": [340, 256], "fps": 10.0, "segment": null}"#));
    assert!(line(clips()).contains("another rate"));
    fill("S1_Pizza", 1..=8, Some("{"));
    assert!(line(clips()).contains("frames.json"));
    fill("S1_Pizza", 1..=8, None);
    let segments = dir.path().join("rolling_segments.csv");
    std::fs::write(&segments, format!("{list}x-S1,1,2\n")).expect("written");
    assert!(line(clips()).contains("the rows of S1_Pizza and of x-S1 are both for S1"));
    std::fs::write(&segments, format!("{list}S1,1,2\n")).expect("written");
    assert_eq!(levels(&clips().expect("the whole name")[0]), [1, 2]);
    std::fs::write(&segments, list).expect("written");
    fill("S1_Pizza", 1..=4, None);
    assert!(line(clips()).contains("frames 3 to 6 are asked for and it has 4"));
    // Pictures count by their numbers.
    fill("S1_Pizza", 1..=8, None);
    let picture = |number: usize| videos.join(format!("S1_Pizza/img_{number:05}.png"));
    (1..=2).for_each(|number| std::fs::remove_file(picture(number)).expect("removed"));
    assert_eq!(levels(&clips().expect("clips")[0]), [3, 4, 5, 6]);
    std::fs::remove_file(picture(5)).expect("removed");
    assert!(line(clips()).contains("img_00006.png: its number should be 5"));
    std::fs::rename(&segments, dir.path().join("Rolling_segments.csv")).expect("renamed");
    let text = line(clips());
    assert!(
        text.contains("Rolling_segments.csv: segments of no task") && text.ends_with(" rolling_segments.csv"),
        "{text}"
    );
}

/// ffmpeg with `args`; whether it could.
fn ffmpeg_makes(dir: &Path, args: &str) -> bool {
    let mut run = Command::new("ffmpeg");
    run.current_dir(dir).args(["-v", "error", "-y"]).args(args.split_whitespace());
    run.stdin(std::process::Stdio::null()).output().is_ok_and(|made| made.status.success())
}

#[test]
fn a_long_film_is_decoded_once_until_it_changes() {
    let dir = tempfile::tempdir().expect("a folder");
    let (film, cache) = (dir.path().join("long.avi"), dir.path().join("cache/films"));
    let made = |seconds: u32| {
        let source = format!("-f lavfi -i testsrc=size=40x30:rate=50:duration={seconds} -c:v mjpeg long.avi");
        ffmpeg_makes(dir.path(), &source)
    };
    if !made(21) {
        println!("skipped: no ffmpeg");
        return;
    }
    let open = || ffmpeg::Film::open_with(&film, (30, 40), Some(&cache)).expect("a film");
    let first = open();
    assert_eq!((first.frames(), &open()), (1050, &first));
    // What stands there is believed.
    let kept = std::fs::read_dir(&cache).expect("a folder").next().expect("one").expect("an entry").path();
    let mut frames: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&kept).expect("read")).expect("JSON");
    frames.pop();
    std::fs::write(&kept, serde_json::to_vec(&frames).expect("JSON")).expect("written");
    assert_eq!(open().frames(), 1049);
    for damage in ["", "[", "[]"] {
        std::fs::write(&kept, damage).expect("written");
        assert_eq!(open(), first, "{damage}");
    }
    assert!(made(22));
    assert_eq!(open().frames(), 1100);
}

/// Every frame by its number against one decoding of all, with the number of frames.
fn by_number(path: &Path) -> usize {
    let film = ffmpeg::Film::open(path, (30, 40)).unwrap_or_else(|error| panic!("{error:#}"));
    let mut all = Vec::new();
    film.stream(|image| {
        all.push(image);
        Ok(())
    })
    .expect("streams");
    assert_eq!(film.frames(), all.len(), "{}", path.display());
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{}: the frames tell nothing", path.display());
    for at in (0..all.len()).step_by(9).chain([1, all.len() - 1]) {
        assert!(film.read(at).expect("read") == all[at], "{}: frame {at} is another one", path.display());
    }
    all.len()
}

#[test]
fn films_are_read_by_their_frames_places() {
    let place = tempfile::tempdir().expect("a folder");
    let dir = place.path();
    let none = dir.join("none.mp4");
    std::fs::write(&none, b"no film at all").expect("written");
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        println!("skipped: no ffmpeg here");
        let text = line(ffmpeg::Film::open(&none, (30, 40)));
        assert!(text.contains("ffmpeg, which is not installed"), "{text}");
        return;
    }
    assert!(line(ffmpeg::Film::open(&none, (30, 40))).contains("no video that ffmpeg can read"));
    // Each frame is plainly lighter or darker than those beside it.
    let source = |rate: &str| {
        format!("-f lavfi -i nullsrc=s=64x48:r={rate},geq=lum=16+mod(37*N\\,200)+X/4:cb=128:cr=96+Y -frames:v 36")
    };
    let films = [
        ("mjpeg.avi", "30", "-c:v mjpeg", 36),
        ("ntsc.avi", "30000/1001", "-c:v mjpeg", 36),
        ("b.avi", "25", "-c:v mpeg4 -bf 2 -g 9", 36),
        ("b.mpg", "25", "-c:v mpeg2video -bf 2 -g 9", 36),
        ("b.vob", "30000/1001", "-c:v mpeg2video -bf 2 -g 12 -f vob", 36),
        ("b.MTS", "50", "-c:v libx264 -g 12 -f mpegts", 36),
        ("still.ts", "25", "-c:v mpeg2video -bf 2 -g 9", 36),
        ("edit.mp4", "30", "-c:v libx264 -g 12 -bf 3", 36),
        ("b.mov", "30000/1001", "-c:v libx264 -g 12 -bf 3", 36),
        ("open.mkv", "25", "-c:v libx264 -x264-params open-gop=1:keyint=9:bframes=3", 36),
        ("hevc.mp4", "25", "-c:v libx265 -x265-params log-level=error:keyint=9", 36),
        ("vp8.webm", "50", "-c:v libvpx -auto-alt-ref 1 -lag-in-frames 16 -g 12 -deadline realtime", 36),
        ("vp9.webm", "25", "-c:v libvpx-vp9 -g 12 -deadline realtime -cpu-used 8", 36),
        ("msmpeg.wmv", "25", "-c:v wmv2 -g 9", 36),
        ("small.flv", "25", "-c:v flv -g 9", 36),
        (
            "varies.mkv",
            "30",
            "-vf setpts=(N+10*gt(N\\,12)+N*N/50)/30/TB -fps_mode passthrough -c:v mpeg4 -bf 2 -g 9",
            36,
        ),
    ];
    films.into_par_iter().for_each(|(name, rate, codec, frames)| {
        if ffmpeg_makes(dir, &format!("{} {codec} {name}", source(rate))) {
            assert_eq!(by_number(&dir.join(name)), frames, "{name}");
        } else {
            println!("skipped: this ffmpeg cannot make {name}");
        }
    });
    // Begun within a film, by an edit list; sound that begins before the pictures.
    if ffmpeg_makes(dir, "-ss 0.5 -i edit.mp4 -c copy begun.mp4") {
        assert_eq!(by_number(&dir.join("begun.mp4")), 21);
    }
    let late =
        "-f lavfi -i anullsrc=r=8000:cl=mono -itsoffset 0.4 -i varies.mkv -map 1:v -map 0:a -t 2 -c:v copy -c:a mp2";
    assert!(ffmpeg_makes(dir, &format!("{late} late.mkv")) && by_number(&dir.join("late.mkv")) > 10);
    // Cut short, and two joined as files are.
    ["b.avi", "b.mpg", "still.ts", "varies.mkv"].into_par_iter().for_each(|name| {
        let bytes = std::fs::read(dir.join(name)).expect("made");
        let (cut, joined) = (dir.join(format!("cut-{name}")), dir.join(format!("joined-{name}")));
        std::fs::write(&cut, &bytes[..bytes.len() * 3 / 5]).expect("written");
        assert!((10..36).contains(&by_number(&cut)), "{name}");
        std::fs::write(&joined, [&bytes[..], &bytes].concat()).expect("written");
        assert!(by_number(&joined) >= 36, "{name}");
    });
    let found = VideoFiles { film: Some(dir.join("b.avi")), part: Some((11, 20)), ..VideoFiles::default() };
    let clip = Clip::open("part".into(), 0, &found, Cache::new(1 << 22)).expect("opens");
    assert_eq!(clip.frames(), 10);
    let film = ffmpeg::Film::open(&dir.join("b.avi"), rankle::video::SIZE).expect("a film");
    assert_eq!(*clip.frame(9).expect("read"), film.read(19).expect("read"));
    let part = VideoFiles { part: Some((11, 60)), ..found };
    assert!(line(Clip::open("part".into(), 0, &part, Cache::new(1))).contains("it has 36"));
}
