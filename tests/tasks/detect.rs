//! MTCNN and its crops: slow twins, drawn weights, bad input, and facenet-pytorch where it can be had.

use std::fs;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use rand::Rng;
use rankle::datasets::drawn::face;
use rankle::models::Mtcnn;
use rankle::models::layers::Scope;
use rankle::picture::{self, Similarity, area};
use rankle::tasks::faces::{Detector, Overlap, chosen, suppress};
use rankle::weights::Published;
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::common::{Place, Program, all_close, close, has, numbers, rows};
use crate::export::ask;

#[test]
fn suppression_is_that_of_nested_loops() {
    for (seed, overlap) in (0..20).flat_map(|seed| [(seed, Overlap::Union), (seed, Overlap::Smaller)]) {
        // Whole numbers, few scores: many boxes touch, contain each other, or have one score.
        let draw = numbers(seed, 60 * 5);
        let of = |row: &[f64]| {
            let [x, y, w, h] = [0, 1, 2, 3].map(|i| (20. * (row[i] + 1.)).floor() as f32);
            ([x, y, x + 1. + w, y + 1. + h], (row[4] * 5.) as i8 as f32)
        };
        let boxes: Vec<([f32; 4], f32)> = draw.chunks(5).map(of).collect();
        let more = if overlap == Overlap::Smaller { 1. } else { 0. };
        let side = |low: f32, high: f32| (f64::from(high - low) + more).max(0.);
        let size = |[l, t, r, b]: [f32; 4]| side(l, r) * side(t, b);
        let mut left: Vec<usize> = (0..boxes.len()).collect();
        let mut kept = Vec::new();
        while !left.is_empty() {
            let best = left.iter().map(|&i| boxes[i].1).fold(f32::MIN, f32::max);
            let mut ties = left.iter().copied().filter(|&i| boxes[i].1 == best);
            let top = if overlap == Overlap::Union { ties.next() } else { ties.next_back() }.expect("one");
            kept.push(top);
            left.retain(|&other| {
                let (a, b) = (boxes[top].0, boxes[other].0);
                let common = size([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
                let of = match overlap {
                    Overlap::Union => size(a) + size(b) - common,
                    Overlap::Smaller => size(a).min(size(b)),
                };
                other != top && common / of <= 0.5
            });
        }
        assert_eq!(suppress(&boxes, overlap, 0.5), kept, "{seed} {overlap:?}");
    }
    assert!(suppress(&[], Overlap::Union, 0.5).is_empty());
}

fn noise(seed: u64, width: u32, height: u32) -> RgbImage {
    let mut rng = rankle::seed::at(seed, 0, 0);
    RgbImage::from_fn(width, height, |_, _| Rgb(rng.random()))
}

#[test]
fn area_is_the_mean_of_what_a_pixel_covers() {
    let image = noise(1, 37, 23);
    for (part, (high, wide)) in
        [((0, 0, 37, 23), (23, 37)), ((0, 0, 37, 23), (7, 12)), ((5, 3, 36, 20), (24, 24)), ((36, 22, 37, 23), (4, 2))]
    {
        let (left, top, right, bottom) = part;
        let ours = area(&image, part, (high, wide), 1..high);
        let mut at = ours.iter();
        for (y, x, c) in (1..high).flat_map(|y| (0..wide).flat_map(move |x| (0..3).map(move |c| (y, x, c)))) {
            let covers =
                |i: u32, pixel: u32, from: u32, to: u32| pixel * to < (i + 1) * from && (pixel + 1) * to > i * from;
            let (mut sum, mut count) = (0., 0.);
            for (v, u) in (0..bottom - top).flat_map(|v| (0..right - left).map(move |u| (v, u))) {
                if covers(y, v, bottom - top, high) && covers(x, u, right - left, wide) {
                    sum += f64::from(image.get_pixel(left + u, top + v).0[c]);
                    count += 1.;
                }
            }
            close((*at.next().expect("as many")).into(), sum / count, 1e-6);
        }
        assert!(at.next().is_none());
    }
}

#[test]
fn a_similarity_is_found_again_and_warps() {
    let from = [[1., 2.], [5., 1.], [3., 7.], [4., 4.], [0., 6.]];
    let (a, b, dx, dy) = (0.3, -1.2, 4., 9.);
    let to = from.map(|[x, y]| [a * x - b * y + dx, b * x + a * y + dy]);
    let found = Similarity::fit(&from, &to);
    for (ours, theirs) in [(found.a, a), (found.b, b), (found.dx, dx), (found.dy, dy)] {
        close(ours, theirs, 1e-12);
    }
    // A shift by (2, 1), and one by half a pixel.
    let image = noise(2, 6, 5);
    let shifted = Similarity { a: 1., b: 0., dx: 2., dy: 1. }.warp(&image, 7);
    for (x, y, pixel) in shifted.enumerate_pixels() {
        let there = (2..8).contains(&x) && (1..6).contains(&y);
        assert_eq!(*pixel, if there { *image.get_pixel(x - 2, y - 1) } else { Rgb([0; 3]) }, "({x}, {y})");
    }
    let half = Similarity { a: 1., b: 0., dx: -0.5, dy: 0. }.warp(&image, 5);
    let mean = (f64::from(image.get_pixel(1, 3).0[0]) + f64::from(image.get_pixel(2, 3).0[0])) / 2.;
    assert_eq!(half.get_pixel(1, 3).0[0], mean.round() as u8);
}

/// Drawn weights that call everything a face, or nothing.
fn weights(path: &Path, face: bool) {
    let store = VarStore::new(Device::Cpu);
    Mtcnn::new(&Scope::root(&store, 5));
    let mut all: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    for (name, x) in &mut all {
        if ["pnet.conv4_1.bias", "rnet.dense5_1.bias", "onet.dense6_1.bias"].contains(&name.as_str()) {
            *x = Tensor::from_slice(&[0_f32, if face { 6. } else { -60. }]);
        }
    }
    rankle::weights::save(path, &all, None).expect("saved");
}

/// The photos that others are cut from: two people, a folder in a folder, two of one name, and one too small for a face.
fn place() -> Place {
    let place = Place::new(Program(env!("CARGO_BIN_EXE_facenet")), "");
    for (i, name) in ["A/a1.png", "A/a2.png", "B/c/b.jpg", "B/c/b.png"].iter().enumerate() {
        face(3, i as u64 / 2, i as u64, 48).save(place.made(&format!("photos/{name}"))).expect("saved");
    }
    RgbImage::new(8, 8).save(place.path("photos/one.png")).expect("saved");
    weights(&place.path("w.safetensors"), true);
    weights(&place.path("none.safetensors"), false);
    place
}

#[test]
fn bands_and_windows_change_no_face() {
    let place = place();
    let detector = || Detector::open(&place.path("w.safetensors"), Device::Cpu).expect("weights");
    let photo = noise(3, 90, 71);
    let whole = detector().faces(&photo);
    assert!(whole.len() > 1);
    let size = |i: usize| (whole[i].edges[2] - whole[i].edges[0]) * (whole[i].edges[3] - whole[i].edges[1]);
    assert!((1..whole.len()).all(|i| size(i - 1) >= size(i)), "the largest first");
    for pixels in [1, 700, 2000] {
        let parts = detector().in_bands(pixels).faces(&photo);
        assert_eq!(parts.len(), whole.len(), "{pixels}");
        for (a, b) in parts.iter().zip(&whole) {
            a.edges.iter().zip(b.edges).for_each(|(a, b)| close((*a).into(), b.into(), 1e-4));
        }
    }
    // What is done of the pyramid is told, to the end.
    let shares = std::cell::RefCell::new(vec![0.]);
    detector().in_bands(700).faces_told(&photo, &|share| shares.borrow_mut().push(share));
    let shares = shares.into_inner();
    assert!(shares.len() > 5 && shares.is_sorted() && (shares[shares.len() - 1] - 1.).abs() < 1e-9, "{shares:?}");
    assert!(detector().faces(&RgbImage::new(19, 400)).is_empty());
    assert_eq!(chosen(&[], (90, 71)), None);
}

/// Every file below a folder, by name.
fn tree(at: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(tree(&path)),
            path => found.push((path.clone(), fs::read(&path).expect("read"))),
        }
    }
    found.sort();
    found
}

#[test]
fn crops_keep_the_tree_and_an_interrupted_start_goes_on() {
    let place = place();
    let crop = |more: &str| place.good(&format!("crop --images @photos --detector @w.safetensors {more}"));
    let said = crop("--out @out --workers 1");
    has(&said, "4 faces of 160 x 160 pixels out of 5 photos|no face: one.png");
    let whole = tree(&place.path("out"));
    let names = ["A/a1.png", "A/a2.png", "B/c/b.jpg.png", "B/c/b.png.png"];
    for name in names {
        assert_eq!(image::image_dimensions(place.path(&format!("out/{name}"))).expect("an image"), (160, 160));
    }
    assert_eq!(whole.len(), names.len() + 1, "with faces.jsonl");
    let text = place.read("out/faces.jsonl");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 6);
    let first = &lines[1];
    assert_eq!((first["photo"].as_str(), first["crop"].as_str()), (Some("A/a1.png"), Some("A/a1.png")));
    assert_eq!(first["faces"][0]["box"].as_array().map(Vec::len), Some(4));
    assert_eq!(first["faces"][0]["landmarks"].as_array().map(Vec::len), Some(5));
    assert_eq!(lines[5]["faces"].as_array().map(Vec::len), Some(0));
    // Killed within the third photo's line; the second photo's crop is gone, the first one's stays.
    let cut = text.match_indices('\n').nth(2).expect("lines").0 + 20;
    fs::write(place.path("out/faces.jsonl"), &text[..cut]).expect("written");
    fs::remove_file(place.path("out/A/a2.png")).expect("removed");
    let [first, second] = ["out/A/a1.png", "out/A/a2.png"].map(|name| place.path(name));
    let written = || first.metadata().and_then(|found| found.modified()).expect("a time");
    let before = written();
    crop("--out @out --workers 3");
    assert_eq!(written(), before, "what is done is not done again");
    // An empty file, as a power cut leaves it, is made anew. What was changed is its user's: cut off, one bit anywhere, another
    // photo's in its place. It stays, and how to have it made anew is said.
    let sound = fs::read(&first).expect("read");
    fs::write(&first, "").expect("emptied");
    crop("--out @out");
    let flipped = |at: usize| [&sound[..at], &[sound[at] ^ 4], &sound[at + 1..]].concat();
    let others = fs::read(&second).expect("read");
    for bytes in [sound[..120].to_vec(), flipped(100), flipped(sound.len() - 20), others, b"mine".to_vec()] {
        fs::write(&first, &bytes).expect("written");
        let output =
            place.command("crop --images @photos --detector @w.safetensors --out @out").output().expect("starts");
        let kept = format!("1 crop not as written here, and kept: |say the same again: rm {}", first.display());
        has(&String::from_utf8_lossy(&output.stderr), &kept);
        assert!(output.status.success() && fs::read(&first).expect("read") == bytes);
    }
    fs::remove_file(&first).expect("removed");
    crop("--out @out");
    assert_eq!(tree(&place.path("out")), whole, "as from one start, by any number of threads");
    // Lines of an older version have no hash: the crops say whose they are.
    let list = place.read("out/faces.jsonl");
    let older = |line: &str| line.split_once(r#","sum":"#).map_or(line.to_string(), |(start, _)| format!("{start}}}"));
    place.write("out/faces.jsonl", list.lines().map(older).collect::<Vec<_>>().join("\n") + "\n");
    let output = place.command("crop --images @photos --detector @w.safetensors --out @out").output().expect("starts");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("not as written here") && output.status.success());
    place.write("out/faces.jsonl", list);
    // A photo that changed is cut again. The crop of one that is gone stays, beside one of its name, till its user removes it.
    fs::rename(place.path("photos/A/a2.png"), place.path("photos/A/a2.bmp")).expect("renamed");
    face(3, 9, 9, 50).save(place.path("photos/A/a1.png")).expect("saved");
    let crop_again = "crop --images @photos --detector @w.safetensors --out @out";
    let output = place.command(crop_again).output().expect("starts");
    has(
        &String::from_utf8_lossy(&output.stderr),
        &format!("note: 1 crop of photos that are no longer in --images stays: |: rm {}", second.display()),
    );
    has(&String::from_utf8_lossy(&output.stdout), "4 faces of 160 x 160 pixels out of 5 photos");
    assert!(fs::read(&second).expect("read") == fs::read(place.path("out/A/a2.bmp.png")).expect("read"));
    has(&place.read("out/faces.jsonl"), r#"{"photo":"A/a2.png",|{"photo":"A/a2.bmp","#);
    for name in ["photos/A/a2.bmp", "out/A/a2.png", "out/A/a2.bmp.png"] {
        fs::remove_file(place.path(name)).expect("removed");
    }
    crop("--out @out");
    crop("--out @other");
    let bare = |name: &str| -> Vec<_> { tree(&place.path(name)).into_iter().map(|(_, bytes)| bytes).collect() };
    assert_eq!(bare("out"), bare("other"));
    assert!(!place.path("out/A/a2.png").exists());
    // A list that was edited is not believed: a face that no detector chose is chosen again, a file that is no crop stays,
    let (whole, list) = (tree(&place.path("out")), place.read("out/faces.jsonl"));
    place.write("out/mine.txt", "mine");
    let gone = r#"{"photo": "gone.png", "bytes": 1, "faces": [], "chosen": 0, "crop": "mine.txt"}"#;
    place.write("out/faces.jsonl", format!("{}{gone}\n", list.replace(r#""chosen":0"#, r#""chosen":7"#)));
    crop("--out @out");
    assert_eq!(place.read("out/mine.txt"), "mine");
    fs::remove_file(place.path("out/mine.txt")).expect("removed");
    assert_eq!(tree(&place.path("out")), whole);
    // and a number that was changed is found anew.
    let digit = list.find(r#""box":["#).expect("a face") + 7;
    let other = if &list[digit..=digit] == "1" { "2" } else { "1" };
    place.write("out/faces.jsonl", [&list[..digit], other, &list[digit + 1..], "{\"photo\":\"mine\"}\n"].concat());
    let output = place.command("crop --images @photos --detector @w.safetensors --out @out").output().expect("starts");
    has(&String::from_utf8_lossy(&output.stderr), "note: 2 lines of |faces.jsonl are not as this command wrote");
    assert_eq!(tree(&place.path("out")), whole);
    // and so does one in the place of a crop that is to be written.
    let head = list.lines().next().expect("a line");
    place.write("out/faces.jsonl", format!("{head}\n"));
    let output = place.command("crop --images @photos --detector @w.safetensors --out @out").output().expect("starts");
    has(
        &String::from_utf8_lossy(&output.stderr),
        "note: |crops have no line in faces.jsonl, the first |A/a1.png: made anew; to leave a photo out, move it",
    );
    assert_eq!(tree(&place.path("out")), whole, "crops without a line are ours");
    place.write("out/faces.jsonl", format!("{head}\n"));
    place.write("out/A/a1.png", "mine");
    let line = "crop --images @photos --detector @w.safetensors --out @out";
    place.bad(&[(1, line, "--out|a1.png|did not write")]);
    assert_eq!(place.read("out/A/a1.png"), "mine");
    // Nothing is written through a link among the folders of crops.
    let list = place.read("other/faces.jsonl");
    place.write("linked/faces.jsonl", list.lines().next().map(|head| format!("{head}\n")).expect("a line"));
    std::os::unix::fs::symlink(place.path("photos/A"), place.path("linked/A")).expect("linked");
    let line = "crop --images @photos --detector @w.safetensors --out @linked";
    place.bad(&[(1, line, "--out: |linked/A leads elsewhere: ")]);
    for (form, side) in [("182", 182), ("112", 112)] {
        crop(&format!("--out @{form} --form {form}"));
        assert_eq!(image::image_dimensions(place.path(&format!("{form}/A/a1.png"))).expect("an image"), (side, side));
    }
    // A photo that is gone and had no face leaves nothing, and takes no name.
    fs::remove_file(place.path("photos/one.png")).expect("removed");
    fs::copy(place.path("photos/A/a1.png"), place.path("photos/one.bmp")).expect("copied");
    crop("--out @182 --form 182");
    assert!(place.path("182/one.png").exists());
}

#[test]
fn on_the_fly_a_network_sees_the_same_pixels() {
    let place = place();
    let store = VarStore::new(Device::Cpu);
    rankle::models::inception::Nn2::small2(&Scope::root(&store, 77), 96, 128, 1, true).expect("fits");
    let all: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    rankle::weights::save(&place.path("net.safetensors"), &all, None).expect("saved");
    let net = "--net nn4-small2-released --weights @net.safetensors";
    let embedded = |more: &str, out: &str| -> Vec<Vec<f64>> {
        place.good(&format!("embed {net} --out @{out} {more}"));
        rows(&rankle::weights::read(&place.path(out)).expect("readable")[0].1)
    };
    for form in ["160", "182", "112"] {
        place.good(&format!("crop --images @photos --detector @w.safetensors --out @{form} --form {form}"));
        let there = embedded(&format!("--images @{form}"), "there.safetensors");
        let here = embedded(&format!("--images @photos --detect {form} --detector @w.safetensors"), "here.safetensors");
        assert_eq!(there.len(), 4);
        assert_eq!(here, there, "{form}");
    }
    // What is kept is of this very detector, whatever its path.
    let known = || {
        let line = format!("embed {net} --images @photos --detect --detector @w.safetensors --out @known.safetensors");
        let output = place.command(&line).output().expect("starts");
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).contains(" of 5 photos known already, from ")
    };
    assert_eq!([known(), known()], [false, true]);
    let detector = rankle::weights::read(&place.path("w.safetensors")).expect("readable");
    rankle::weights::save(&place.path("w.safetensors"), &detector, Some([("by".into(), "another".into())].into()))
        .expect("saved");
    assert_eq!([known(), known()], [false, true]);
    // Two people and the folds of a list: a photo without a face is seen whole, and counted.
    for (i, name) in ["P1", "P2"].iter().flat_map(|name| [(1, name), (2, name), (3, name)]) {
        let size = if (i, *name) == (3, "P2") { 19 } else { 48 };
        face(3, i, 7, size).save(place.made(&format!("lfw/lfw/{name}/{name}_000{i}.png"))).expect("saved");
    }
    place.write("lfw/pairs.txt", "2\t1\nP1\t1\t2\nP1\t1\tP2\t1\nP2\t2\t3\nP1\t3\tP2\t2\n");
    let line = format!("evaluate {net} --data @lfw --detect --detector @w.safetensors");
    let output = place.command(&line).current_dir(place.path("")).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    has(
        &said,
        "a face found in 5 of 6 test photos; 1 without one is seen whole (crop leaves such out), the first P2/P2_0003.png",
    );
}

#[test]
fn what_cannot_be_cut_is_said_in_one_line() {
    let place = place();
    let whole = fs::read(place.path("w.safetensors")).expect("weights");
    place.write("cut.safetensors", &whole[..whole.len() / 2]);
    let store = VarStore::new(Device::Cpu);
    rankle::models::FaceSmall::new(&Scope::root(&store, 1), 64, 16, 8).expect("fits");
    let other: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    rankle::weights::save(&place.path("other.safetensors"), &other, None).expect("saved");
    RgbImage::new(1, 1).save(place.made("small/one.png")).expect("saved");
    RgbImage::new(20_000, 30).save(place.made("wide/wide.png")).expect("saved");
    place.write("full/mine.txt", "mine");
    place.write("lines/faces.jsonl", "{\"face\": 1}\n");
    let with = "--detector @w.safetensors";
    place.good(&format!("crop --images @photos --out @done {with}"));
    place.bad(&[
        (1, "crop --images @photos --out @o --detector @none.pt", "none.pt: no such file|(scripts/fetch mtcnn gets"),
        (
            1,
            "crop --images @photos --out @o --detector @none/mtcnn.safetensors",
            "--detector|scripts/fetch mtcnn gets it",
        ),
        (1, "crop --images @photos --out @o --detector @cut.safetensors", "--detector|cut.safetensors|no whole"),
        (
            1,
            "crop --images @photos --out @o --detector @other.safetensors",
            "--detector|other.safetensors|another network",
        ),
        (
            1,
            "crop --images @photos --out @o --detector @none.safetensors",
            "none of 5 photos|the first A/a1.png|--images",
        ),
        (1, &format!("crop --images @small --out @s {with}"), "none of 1 photo|one.png"),
        (1, &format!("crop --images @wide --out @w {with}"), "none of 1 photo|not read|wide.png|20000 x 30|16384"),
        (1, &format!("crop --images @photos/one.png --out @x {with}"), "one.png|give the folder"),
        (1, &format!("crop --images @photos --out @photos/crops {with}"), "--out|beside it"),
        (1, &format!("crop --images @photos --out @photos {with}"), "--out|beside it"),
        (1, &format!("crop --images @photos --out @w.safetensors {with}"), "--out|w.safetensors: it is a file"),
        (1, &format!("crop --images @photos --out /proc/rankle-crops {with}"), "--out|/proc/rankle-crops|be written"),
        (1, &format!("crop --images @photos --out @full {with}"), "--out|mine.txt|name a new folder"),
        (1, &format!("crop --images @photos --out @lines {with}"), "faces.jsonl is none of this command's|--out"),
        (1, &format!("crop --images @photos --out @done --form 112 {with}"), "--out|--form|name a new folder"),
        (2, &format!("crop --images @photos --out @x --form 100 {with}"), "--form"),
        (2, "embed --run x --images @photos --out @x.safetensors --detector @w.safetensors", "required"),
    ]);
    assert_eq!(fs::read(place.path("full/mine.txt")).expect("still there"), b"mine");
    assert!(!place.path("x").exists());
    // One that cannot be read among others is counted, and tried again.
    place.write("photos/broken.jpg", [0xff, 0xd8, 0xff]);
    let said = place.good(&format!("crop --images @photos --out @done {with}"));
    has(&said, "4 faces|out of 6 photos|not read|broken.jpg");
}

/// The package's networks on photos, and their weights in one file; its `__init__` would import far more.
const PEER: &str = r#"
import importlib.util, os, types
try:
    from PIL import Image
    import torchvision
    place = importlib.util.find_spec("facenet_pytorch").submodule_search_locations[0]
except Exception as error:
    print("no facenet-pytorch:", error)
    sys.exit(3)
package = types.ModuleType("facenet_pytorch")
package.__path__ = [place]
sys.modules["facenet_pytorch"] = package
from facenet_pytorch.models.mtcnn import MTCNN
net = MTCNN(selection_method="center_weighted_size")
save_file({name: x for name, x in net.state_dict().items()}, folder + "/mtcnn.safetensors")
answer = {}
for name in sorted(os.listdir(which)):
    image = Image.open(os.path.join(which, name)).convert("RGB")
    boxes, probabilities, points = net.detect(image, landmarks=True)
    rows = [[*box, p, *point.ravel()] for box, p, point in zip(boxes, probabilities, points)] if boxes is not None else []
    answer[name] = torch.tensor([[float(x) for x in row] for row in rows], dtype=torch.float64).reshape(-1, 15)
    if boxes is not None:
        one, _, _ = net.select_boxes(boxes, probabilities, points, image, method="center_weighted_size")
        answer[name + " chosen"] = torch.tensor([[i for i, box in enumerate(boxes) if (box == one[0]).all()][0]])
draws = torch.Generator().manual_seed(1)
for stage, side in (("pnet", 31), ("rnet", 24), ("onet", 48)):
    windows = torch.rand(5, 3, side, side, generator=draws) * 2 - 1
    with torch.no_grad():
        said = getattr(net, stage)(windows)
    # The probabilities of no face and of a face come last.
    said = dict(zip(["shifts", "points", "probabilities"] if stage == "onet" else ["shifts", "probabilities"], said))
    answer.update({f"{stage} {what}": x.contiguous() for what, x in {"windows": windows, **said}.items()})
save_file(answer, folder + "/answer.safetensors")
"#;

#[test]
fn faces_are_those_of_facenet_pytorch() {
    let photos = tempfile::tempdir().expect("a folder");
    let mut found = Vec::new();
    for set in ["lfw-mini/Ariel_Sharon", "lfw-mini/Vladimir_Putin", "coco-256/val2014"] {
        let Some(folder) = crate::datasets::shared(set) else { continue };
        let mut passed = rankle::folders::Passed::default();
        found.extend(rankle::folders::images(&folder, &mut passed).expect("images").into_iter().take(10));
    }
    for (i, entry) in found.iter().enumerate() {
        std::fs::copy(entry.path(), photos.path().join(format!("{i:02}.jpg"))).expect("copied");
    }
    face(3, 1, 1, 160).save(photos.path().join("drawn.png")).expect("saved");
    let Some((folder, answer)) = ask(PEER, &photos.path().display().to_string(), &[]) else { return };
    let detector =
        Detector::open(&folder.path().join("mtcnn.safetensors"), Device::Cpu).expect("the package's weights");
    // Each network by itself.
    let mut store = VarStore::new(Device::Cpu);
    let net = Mtcnn::new(&Scope::root(&store, 1));
    rankle::weights::start(&store, &folder.path().join("mtcnn.safetensors"), &Published::MTCNN).expect("all of it");
    store.freeze();
    let of = |what: &str| &answer[what];
    for (stage, (probability, shifts)) in
        [("pnet", net.propose(of("pnet windows"))), ("rnet", net.refine(of("rnet windows")))]
    {
        all_close(&probability, &of(&format!("{stage} probabilities")).select(1, 1), 1e-4);
        all_close(&shifts, of(&format!("{stage} shifts")), 1e-4);
    }
    let (probability, shifts, points) = net.decide(of("onet windows"));
    all_close(&probability, &of("onet probabilities").select(1, 1), 1e-4);
    all_close(&shifts, of("onet shifts"), 1e-4);
    all_close(&points, of("onet points"), 1e-4);
    let mut faces = 0;
    for (name, theirs) in answer.iter().filter(|(name, _)| name.ends_with(".jpg") || name.ends_with(".png")) {
        let photo = picture::load(&photos.path().join(name)).expect("a photo");
        let ours = detector.faces(&photo);
        let theirs = if theirs.numel() == 0 { Vec::new() } else { rows(theirs) };
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            let numbers = ours.edges.iter().chain([&ours.probability]).chain(ours.landmarks.as_flattened());
            numbers.zip(&theirs).for_each(|(ours, theirs)| assert!((f64::from(*ours) - theirs).abs() < 0.1, "{name}"));
            assert!((f64::from(ours.probability) - theirs[4]).abs() < 1e-4, "{name}");
            faces += 1;
        }
        let theirs = answer.get(&format!("{name} chosen")).map(|x| x.int64_value(&[0]) as usize);
        assert_eq!(chosen(&ours, photo.dimensions()), theirs, "{name}");
    }
    assert!(found.is_empty() || faces > 20, "{faces}");
}
