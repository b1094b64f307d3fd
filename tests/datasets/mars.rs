//! MARS.

use std::fs;

use rankle::datasets::{self, Layout};
use serde_json::json;

use super::{fill, rows};
use crate::common::line;

/// A MATLAB 5 file with one matrix of doubles, given by rows.
fn mat(name: &str, rows: &[Vec<i64>]) -> Vec<u8> {
    let element = |kind: u32, data: &[u8]| {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let width = rows[0].len();
    let values: Vec<u8> = (0..width).flat_map(|x| rows.iter().flat_map(move |r| (r[x] as f64).to_le_bytes())).collect();
    let size = [(rows.len() as i32).to_le_bytes(), (width as i32).to_le_bytes()].concat();
    let flags = [6u32.to_le_bytes(), [0; 4]].concat(); // class 6: double
    let matrix = [element(6, &flags), element(5, &size), element(1, name.as_bytes()), element(9, &values)].concat();
    let mut file = b"MATLAB 5.0 MAT-file".to_vec();
    file.resize(124, b' ');
    file.extend([0x00, 0x01, b'I', b'M']);
    file.extend(element(14, &matrix));
    file
}

/// Frames of `count` photos of one tracklet.
fn frames(person: &str, camera: i64, track: i64, count: usize) -> Vec<String> {
    (1..=count).map(|f| format!("{person}C{camera}T{track:04}F{f:03}.jpg")).collect()
}

#[test]
fn mars_lists_give_tracklets() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for folder in ["bbox_train", "bbox_test", "info"] {
        fs::create_dir(dir.join(folder)).unwrap();
    }
    let error = line(datasets::open(dir));
    assert!(error.contains("train_name.txt") && error.contains("github.com/liangzheng06/MARS-evaluation"), "{error}");
    let info = |name: &str| dir.join("info").join(name);
    let train = [frames("0001", 1, 1, 2), frames("0001", 2, 1, 1), frames("0003", 6, 1, 3)].concat();
    let test =
        [frames("00-1", 1, 1, 1), frames("0000", 3, 1, 2), frames("0002", 1, 1, 2), frames("0002", 5, 1, 2)].concat();
    fs::write(info("train_name.txt"), train.join("\r\n")).unwrap();
    fs::write(info("test_name.txt"), test.join("\n") + "\n").unwrap();
    let tracks = [vec![1, 2, 1, 1], vec![3, 3, 1, 2], vec![4, 6, 3, 6]];
    fs::write(info("tracks_train_info.mat"), mat("track_train_info", &tracks)).unwrap();
    let tracks = [vec![1, 1, -1, 1], vec![2, 3, 0, 3], vec![4, 5, 2, 1], vec![6, 7, 2, 5]];
    fs::write(info("tracks_test_info.mat"), mat("track_test_info", &tracks)).unwrap();
    fs::write(info("query_IDX.mat"), mat("query_IDX", &[vec![4, 3]])).unwrap();
    let set = datasets::open(dir).unwrap();
    assert_eq!(set.layout, Layout::Mars);
    assert_eq!(
        rows(&set.train)[2..4],
        [("bbox_train/0001/0001C2T0001F001.jpg", 1, 2, 2), ("bbox_train/0003/0003C6T0001F001.jpg", 3, 6, 3)]
    );
    assert_eq!(rows(&set.gallery)[0], ("bbox_test/00-1/00-1C1T0001F001.jpg", -1, 1, 1));
    assert_eq!(set.gallery.iter().map(|p| p.tracklet).collect::<Vec<_>>(), [1, 2, 2, 3, 3, 4, 4]);
    assert_eq!(
        set.query.iter().map(|p| (p.person, p.camera, p.tracklet)).collect::<Vec<_>>(),
        [(2, 5, 4), (2, 5, 4), (2, 1, 3), (2, 1, 3)]
    );
    fill(dir, &["bbox_train/0003/0003C6T0002F001.jpg"]);
    let notes = datasets::open(dir).unwrap().card().notes;
    let said = "no list names 1 image in bbox_train: 0003/0003C6T0002F001.jpg";
    assert!(notes.iter().any(|note| note == said), "{notes:?}");
    assert!(set.notes.last().unwrap().contains("3 training tracklets (published 8,298)"), "{:?}", set.notes);
    let card = set.card();
    let gallery = &card.counts["splits"][2];
    assert_eq!((card.unreadable, &gallery["tracklets"], &gallery["junk"]), (17, &json!(4), &json!(1)));

    fs::write(info("query_IDX.mat"), mat("query_IDX", &[vec![5]])).unwrap();
    assert!(line(datasets::open(dir)).contains("query 5 is not one of 4 tracklets"));
    fs::write(info("query_IDX.mat"), b"no matrix").unwrap();
    assert!(line(datasets::open(dir)).contains("not a MATLAB 5 file"));
    for bad in [vec![1, 8, -1, 1], vec![0, 1, -1, 1], vec![2, 1, -1, 1], vec![1, 1, -1, 0]] {
        fs::write(info("tracks_test_info.mat"), mat("t", std::slice::from_ref(&bad))).unwrap();
        assert!(line(datasets::open(dir)).contains("row 1 is"), "{bad:?}");
    }
    fs::write(info("tracks_test_info.mat"), mat("t", &[vec![1, 2, -1, 1]])).unwrap();
    assert!(line(datasets::open(dir)).contains("0000C3T0001F001.jpg is not a frame of person -1"));
}
