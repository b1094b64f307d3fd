//! YouTube Faces: videos, frames and their boxes.

use image::Rgb;
use rankle::datasets::faces::{FaceLayout, FaceSet, Pair, check, open};
use tempfile::TempDir;

use super::picture;
use crate::common::line;

#[test]
fn youtube_faces_has_videos_with_their_first_hundred_frames() {
    let dir = TempDir::new().expect("a folder");
    for (video, frames) in [("A_B/0", 120), ("A_B/1", 3), ("C/0", 2), ("D/5", 1)] {
        for frame in 1..=frames {
            picture(&dir.path().join(format!("aligned_images_DB/{video}/0.{frame}.png")), 16, 16, frame as u8);
        }
    }
    let list = dir.path().join("splits.txt");
    let good = "split number, pair number, first name, second name, is same, name same\n1, 1, A_B/0, A_B/1, 1, 1\n1, 2, A_B/0, C/0, 0, 0\n2, 1, A_B/1, D/5, 1, 1\n2, 2, C/0, D/5, 0, 0\n";
    std::fs::write(&list, good).expect("written");
    let set = open(dir.path()).expect("a set");
    assert_eq!((set.layout, set.folds, set.pairs.len()), (FaceLayout::YoutubeFaces, 2, 4));
    assert_eq!(set.test.len(), 100 + 3 + 2 + 1);
    // Frame 2 before frame 10, whatever the names' order.
    let first: Vec<&str> = set.test.iter().take(12).map(|photo| &*photo.name).collect();
    assert_eq!((first[1], first[9], first[10]), ("A_B/0/0.2.png", "A_B/0/0.10.png", "A_B/0/0.11.png"));
    assert_eq!(set.pairs[1], Pair { left: 0, right: 2, same: false });
    assert!(set.notes.iter().any(|note| note.contains("not the published YouTube Faces list")));
    for (bad, words) in [
        (good.replace("D/5", "D/6"), "D/6 is missing"),
        (good.replace("A_B/1, D/5", "A_B/1, A_B/0"), "the pair A_B/1 and A_B/0 is in fold 1 and in fold 2"),
        (good.replace("C/0, 0, 0\n2", "C/0, 2, 0\n2"), "splits.txt:3"),
        (good.replace("2, 2, C/0, D/5, 0, 0\n", ""), "split 2 has 1 pairs and the first 2"),
        (good.replace("A_B/0, C/0", "../A_B/0, C/0"), "is no video"),
        (good.replace("A_B/1, D/5", "A_B/1, A_B/1"), "splits.txt:4: a video is paired with itself"),
        (good.replace("1, 2, A_B/0, C/0, 0, 0", "1, 2, A_B/0"), "3 columns"),
    ] {
        std::fs::write(&list, &bad).expect("written");
        let text = line(open(dir.path()));
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    // What the list says against the names, and whole frames in the place of aligned ones.
    std::fs::write(&list, good).expect("written");
    let against = |set: &FaceSet| set.notes.iter().find(|note| note.contains("says otherwise than the names")).cloned();
    let said = against(&open(dir.path()).expect("a set"));
    assert_eq!(
        said.as_deref(),
        Some("splits.txt says otherwise than the names of 1 pairs, as that A_B/1 and D/5 are one person")
    );
    let boxes = dir.path().join("aligned_images_DB/A_B.labeled_faces.txt");
    std::fs::write(&boxes, "").expect("written");
    assert!(line(open(dir.path())).contains("is beside whole frames: call their folder frame_images_DB"));
    std::fs::remove_file(&boxes).expect("removed");
    std::fs::remove_file(&list).expect("removed");
    assert!(line(open(dir.path())).contains("splits.txt is missing"));
}

#[test]
fn whole_frames_of_youtube_faces_are_cut_to_their_boxes() {
    let dir = TempDir::new().expect("a folder");
    let root = dir.path().join("frame_images_DB");
    for video in ["A_B/0", "A_B/1", "C/0", "D/5"] {
        for frame in 1..=3 {
            picture(&root.join(format!("{video}/0.{frame}.png")), 80, 30, frame);
        }
    }
    let splits = "1, 1, A_B/0, A_B/1, 1, 1\n1, 2, A_B/0, C/0, 0, 0\n2, 1, A_B/1, D/5, 1, 1\n2, 2, C/0, D/5, 0, 0\n";
    std::fs::write(dir.path().join("splits.txt"), splits).expect("written");
    assert!(line(open(dir.path())).contains("A_B.labeled_faces.txt is missing"));
    // The middle of a frame, one that leaves it at the upper left, and a frame without a box.
    let boxes = |name: &str, videos: &[&str]| {
        let of =
            |v: &&str| format!("{name}\\{v}\\0.1.png,0,40,15,20,18,0,0\r\n{name}\\{v}\\0.3.png,0,4,2,20,18,0,0\r\n");
        std::fs::write(root.join(format!("{name}.labeled_faces.txt")), videos.iter().map(of).collect::<String>())
            .expect("written");
    };
    boxes("A_B", &["0", "1"]);
    boxes("C", &["0"]);
    boxes("D", &["5"]);
    let set = open(dir.path()).expect("a set");
    let names: Vec<&str> = set.test.iter().take(3).map(|photo| &*photo.name).collect();
    assert_eq!((set.test.len(), names), (8, vec!["A_B/0/0.1.png", "A_B/0/0.3.png", "A_B/1/0.1.png"]));
    let image = |at: usize| set.test[at].source.image().expect("an image");
    assert_eq!((image(0).dimensions(), image(1).dimensions()), ((20, 18), (14, 11)));
    // Columns from 30, rows from 6.
    assert_eq!(image(0).get_pixel(0, 0), &Rgb([1, (30 * 7) as u8, 6 * 5]));
    assert_eq!(image(1).get_pixel(0, 0), &Rgb([3, 0, 0]));
    // The boxes are face crops, whatever the frames are.
    check(set.photos()).expect("crops");
    std::fs::write(root.join("D.labeled_faces.txt"), "D\\5\\0.1.png,0,90,15,20,18\n").expect("written");
    let error = line(check(open(dir.path()).expect("a set").photos()));
    assert!(error.contains("5/0.1.png: its box, 20 x 18 pixels around (90, 15), lies outside"), "{error}");
    std::fs::write(root.join("D.labeled_faces.txt"), "D\\5\\0.1.png,0,forty,15,20,18\n").expect("written");
    assert!(line(open(dir.path())).contains("D.labeled_faces.txt:1"));
    std::fs::write(root.join("D.labeled_faces.txt"), "D\\5\\0.1.png,0,40,15,20,18\nD\\5\\0.1.png,0,41,15,20,18\n")
        .expect("written");
    assert!(line(open(dir.path())).contains("D.labeled_faces.txt:2: a second box of "));
    // Aligned faces, where they are, are taken first.
    for video in ["A_B/0", "A_B/1", "C/0", "D/5"] {
        picture(&dir.path().join(format!("aligned_images_DB/{video}/0.1.png")), 16, 16, 1);
    }
    std::fs::write(dir.path().join("splits_corrected.txt"), splits).expect("written");
    let set = open(dir.path()).expect("a set");
    assert_eq!(set.test.len(), 4);
    assert!(set.notes.iter().any(|note| note.contains("splits.txt, which has known errors")));
    std::fs::write(dir.path().join("splits_corrected.txt"), splits.replace("C/0, 0, 0", "A_B/1, 1, 1"))
        .expect("written");
    let notes = open(dir.path()).expect("a set").notes;
    assert!(notes.iter().any(|note| note.contains("fold 1 are not half of one person")), "{notes:?}");
}
