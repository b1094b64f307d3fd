//! The verb crop: its tree, what is kept of its user's, bad input; and the same pixels on the fly.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use image::{ImageFormat, RgbImage};
use rankle::datasets::drawn::face;
use rankle::models::layers::Scope;
use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::detect::place;
use crate::common::{has, rows};
use crate::tasks::kept::alike;

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
    let again = "crop --images @photos --detector @w.safetensors --out @out";
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
        let kept = format!("1 crop not as written here, and kept: |say the same again: rm {}", first.display());
        has(&place.ends(again).well().err, &kept);
        assert!(fs::read(&first).expect("read") == bytes);
    }
    fs::remove_file(&first).expect("removed");
    crop("--out @out");
    assert_eq!(tree(&place.path("out")), whole, "as from one start, by any number of threads");
    // Lines of an older version have no hash: the crops say whose they are.
    let list = place.read("out/faces.jsonl");
    let older = |line: &str| line.split_once(r#","sum":"#).map_or(line.to_string(), |(start, _)| format!("{start}}}"));
    place.write("out/faces.jsonl", list.lines().map(older).collect::<Vec<_>>().join("\n") + "\n");
    assert!(!place.ends(again).well().err.contains("not as written here"));
    place.write("out/faces.jsonl", list);
    // A photo that changed is cut again. The crop of one that is gone stays, beside one of its name, till its user removes it.
    fs::rename(place.path("photos/A/a2.png"), place.path("photos/A/a2.bmp")).expect("renamed");
    face(3, 9, 9, 50).save(place.path("photos/A/a1.png")).expect("saved");
    let ended = place.ends(again);
    let gone = format!("note: 1 crop of photos that are no longer in --images stays: |: rm {}", second.display());
    has(&ended.err, &gone);
    has(&ended.out, "4 faces of 160 x 160 pixels out of 5 photos");
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
    // A copy differs by a time alone: its crop stays, also by a line of an older version. A photo that was replaced by one of its
    // length, under its time, is cut again.
    let photo = place.path("photos/A/a1.png");
    let put = |person: u64, time: SystemTime| {
        let mut bytes = Cursor::new(Vec::new());
        face(3, person, 9, 50).write_to(&mut bytes, ImageFormat::Bmp).expect("written");
        fs::write(&photo, bytes.into_inner()).expect("written");
        fs::File::options().write(true).open(&photo).and_then(|file| file.set_modified(time)).expect("set");
    };
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    put(9, time);
    crop("--out @out");
    let before = written();
    let copied = |person: u64| {
        put(person, time);
        crop("--out @out");
        written()
    };
    assert_eq!(copied(9), before);
    let older = |line: &str| {
        let (start, rest) = line.split_once(r#","touched":"#)?;
        let (rest, _) = rest.split_once(r#","size":"#)?.1.split_once(r#","seal":"#)?;
        Some(format!(r#"{start},"size":{rest}}}"#))
    };
    let list = place.read("out/faces.jsonl");
    let lines: Vec<String> = list.lines().map(|line| older(line).unwrap_or(line.into())).collect();
    assert!(!lines.iter().any(|line| line.contains("touched")));
    place.write("out/faces.jsonl", lines.join("\n") + "\n");
    assert_eq!(copied(9), before);
    assert!(place.read("out/faces.jsonl").contains("touched"), "known from now on");
    assert_eq!(copied(9), before);
    assert_ne!(copied(8), before);
    // Folders that were exchanged, whose photos have one length and were touched at once.
    let [a, b] = ["two/a", "two/b"].map(|name| place.path(name));
    if alike(&[a.join("x.bmp"), b.join("x.bmp")], |person| face(3, 7 + person, 9, 50)) {
        let crops = || {
            place.good("crop --images @two --detector @w.safetensors --out @exchanged");
            ["a", "b"].map(|name| fs::read(place.path(&format!("exchanged/{name}/x.png"))).expect("a crop"))
        };
        let [before, other] = crops();
        for (from, to) in [(&a, &place.path("c")), (&b, &a), (&place.path("c"), &b)] {
            fs::rename(from, to).expect("renamed");
        }
        assert!(crops() == [other, before]);
    }
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
    has(&place.ends(again).err, "note: 2 lines of |faces.jsonl are not as this command wrote");
    assert_eq!(tree(&place.path("out")), whole);
    // and so does one in the place of a crop that is to be written.
    let head = list.lines().next().expect("a line");
    place.write("out/faces.jsonl", format!("{head}\n"));
    has(
        &place.ends(again).err,
        "note: |crops have no line in faces.jsonl, the first |A/a1.png: made anew; to leave a photo out, move it",
    );
    assert_eq!(tree(&place.path("out")), whole, "crops without a line are ours");
    place.write("out/faces.jsonl", format!("{head}\n"));
    place.write("out/A/a1.png", "mine");
    place.bad(&[(1, again, "--out|a1.png|did not write")]);
    assert_eq!(place.read("out/A/a1.png"), "mine");
    // A folder in a crop's place is its user's, and a file in that of a folder of crops.
    fs::remove_file(place.path("out/A/a1.png")).expect("removed");
    place.write("out/A/a1.png/mine", "mine");
    place.bad(&[(1, again, "--out: |out/A/a1.png is a folder, where a crop is to be: move it away")]);
    fs::remove_dir_all(place.path("out/A")).expect("removed");
    place.write("out/A", "mine");
    place.bad(&[(1, again, "--out: |out/A is a file, where a folder of crops is to be: move it away")]);
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
        rows(&place.tensor(out))
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
        place.ends(&line).well().err.contains(" of 5 photos known already, from ")
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
    has(
        &place.ends_in("", &line).well().out,
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
    // The crop of one photo would be the folder of another's.
    RgbImage::new(9, 9).save(place.made("both/x.bmp")).expect("saved");
    RgbImage::new(9, 9).save(place.made("both/x.png/y.png")).expect("saved");
    place.bad(&[(1, &format!("crop --images @both --out @x {with}"), "x.png/y.png: another photo would become x.png")]);
    // One that cannot be read among others is counted, and tried again.
    place.write("photos/broken.jpg", [0xff, 0xd8, 0xff]);
    let said = place.good(&format!("crop --images @photos --out @done {with}"));
    has(&said, "4 faces|out of 6 photos|not read|broken.jpg");
}
