//! Which file or folder is which video.

use image::{Rgb, RgbImage};
use rankle::video::{Cache, Clip, VideoFiles, find, folder, leap};

use crate::common::{line, made, put};

#[test]
fn videos_are_found_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let picture = |name: String| RgbImage::from_pixel(8, 6, Rgb([200, 10, 10])).save(made(at(&name))).expect("saved");
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
    (0..3).for_each(|i| picture(format!("C2/img_{i:05}.png")));
    for axis in ["x", "y"] {
        (0..2).for_each(|i| picture(format!("flow/C2/flow_{axis}_{i:05}.png")));
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
        RgbImage::new(2, 2).save(made(videos.join(name).join("1.png"))).expect("saved");
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
    ["Jos\u{e9}.mp4", "Jose\u{301}.avi"].iter().for_each(|name| put(at("twice").join(name), "x"));
    assert!(line(folder(&at("twice"))).contains("has two videos called Jos\u{e9}"));
}

#[test]
fn frames_and_flow_come_in_the_order_of_their_numbers() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path().join("A1");
    let numbers = [1, 2, 9, 10, 11, 100];
    for i in numbers {
        for kind in ["frame", "flow_x_", "flow_y_"] {
            let path = made(at.join(format!("{kind}{i}.png")));
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
    for name in ["b2_f007.png", "b2_f8.png", "b10_f1.png", "b2_f07.png", "cover.png"] {
        RgbImage::new(2, 2).save(made(dir.path().join("B").join(name))).expect("saved");
    }
    let found = find(dir.path(), &dir.path().join("flow"), "B").expect("found");
    assert_eq!(names(&found.frames), ["b2_f007.png", "b2_f07.png", "b2_f8.png", "b10_f1.png", "cover.png"]);
    // A field whose other half has another number.
    std::fs::rename(dir.path().join("A1/flow_y_9.png"), dir.path().join("A1/flow_y_8.png")).expect("renamed");
    let fault = find(dir.path(), &dir.path().join("flow"), "A1").expect("found").fault.expect("a fault");
    assert!(fault.contains("flow_x_9.png has no flow_y_9.png"), "{fault}");
}
