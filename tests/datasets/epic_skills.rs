//! EPIC-Skills: judgements, the release's quirks, segments of films.

use std::path::Path;

use image::{Rgb, RgbImage};
use rankle::datasets::epic_skills::{open, open_one};
use rankle::datasets::skills::SkillSet;
use rankle::video::{Cache, Clip};

use crate::common::{line, made, put, shared};

/// A folder with one task of five videos, A > B > C, D > E, two folds.
fn small(gt: &str, splits: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    judged(dir.path(), "My_Task", gt, splits);
    dir
}

/// The judgements of a task.
pub fn judged(dir: &Path, task: &str, gt: &str, splits: &[(&str, &str)]) {
    let at = |name: String| dir.join("annotations").join(task).join(name);
    let stem = task.to_lowercase();
    put(at(format!("{stem}_gt.csv")), gt);
    splits.iter().for_each(|(name, text)| put(at(format!("splits/{stem}_{name}.csv")), text));
}

const GT: &str = "Vid1,Vid2,Better,\r\nB,A,A,\r\nB,C,B\r\n\r\nE,D,D,\r\nB,A,A,\r\n";

const TRAIN: &str = "Better,Worse,\nA,B,\nA,B\n";

const TEST: &str = "Better,Worse\r\nB,C\r\nD,E\r\n";

#[test]
fn the_releases_quirks_are_read() {
    let dir = small(GT, &[("train_1", TRAIN), ("val_1", TEST)]);
    let sets = open(dir.path()).expect("a set");
    let [SkillSet { name, videos, tasks, folds, notes, published: None }] = &sets[..] else { panic!("one set") };
    assert_eq!((name.as_str(), videos.len(), tasks.len()), ("My_Task", 5, 1));
    assert_eq!(tasks[0].rows, [(0, 1), (1, 2), (3, 4), (0, 1)]);
    assert_eq!(tasks[0].graph.pairs().count(), 3);
    assert_eq!((folds.len(), folds[0].train.len(), folds[0].test.len()), (1, 2, 2));
    assert_eq!(folds[0].held, [2, 3, 4]);
    assert_eq!(notes, &["My_Task: A > B stands 2 times, kept so"]);
    assert!(!sets[0].is_published());
    assert_eq!(sets[0].title(3), "My_Task/D");
    assert!(line(open_one(dir.path(), "surgery")).contains("has My_Task"));
}

#[test]
fn what_is_wrong_is_named() {
    let check = |gt: &str, splits: &[(&str, &str)], words: &[&str]| {
        let dir = small(gt, splits);
        let text = line(open(dir.path()));
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text}");
        }
    };
    let head = "Vid1,Vid2,Best\n";
    check(&format!("{head}A,B,A\nB,C,B\nC,A,C\n"), &[], &["my_task_gt.csv", "A > B > C > A is a cycle"]);
    check(&format!("{head}A,B,A\nB,A,B\n"), &[], &["A and B were judged both ways"]);
    check(&format!("{head}A,B,C\n"), &[], &["gt.csv:2", "the best, C"]);
    check(&format!("{head}A,A,A\n"), &[], &["gt.csv:2", "compared with itself"]);
    check(&format!("{head}A,B\n"), &[], &["gt.csv:2", "2 columns"]);
    check(head, &[], &["no judged pairs"]);
    check("", &[], &["an empty file"]);
    check("A,B,C\nA,B,A\n", &[], &["Vid1,Vid2,Best"]);
    check(GT, &[], &["the folds are missing"]);
    check(GT, &[("train_1", TRAIN), ("val_1", "Better,Worse\nB,C\n")], &["D > E is neither"]);
    check(GT, &[("train_1", TRAIN), ("val_1", "Better,Worse\nC,B\nD,E\n")], &["C > B is not in the ground truth"]);
    check(GT, &[("train_1", TRAIN), ("val_1", "Better,Worse\nB,X\nD,E\n")], &["val_1.csv:2", "the video X"]);
    check(GT, &[("train_1", TRAIN)], &["val_1.csv"]);
    let all = "Better,Worse\nA,B\nB,C\nD,E\n";
    check(GT, &[("train_1", all), ("val_1", "Better,Worse\nA,B\n")], &["two training videos"]);
    assert!(line(open(Path::new("no/such/folder"))).contains("no folder no/such/folder"));
}

/// Strict to train, similar to train, test; folds 1 to 4.
type Folds = [[usize; 3]; 4];

#[test]
fn the_paper_s_counts_come_out_exactly() {
    let Some(dir) = shared("epic-skills") else { return };
    let sets = open(&dir).expect("EPIC-Skills");
    let names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(names, ["surgery", "dough", "drawing", "chopsticks"]);

    // Table 1: videos, rows, unique pairs, similar pairs; per cent of all pairs.
    let table = [
        ("Knot_Tying", [36, 596, 596, 34], [95, 5, 100]),
        ("Needle_Passing", [28, 362, 362, 16], [96, 4, 100]),
        ("Suturing", [39, 701, 701, 40], [95, 5, 100]),
        ("Dough_Rolling", [33, 181, 179, 96], [34, 18, 52]),
        ("Sonic_Drawing", [20, 118, 118, 70], [62, 37, 99]),
        ("Hand_Drawing", [20, 129, 129, 49], [68, 26, 94]),
        ("Chopstick_Using", [40, 536, 534, 78], [69, 10, 79]),
    ];
    let tasks: Vec<_> = sets.iter().flat_map(|set| &set.tasks).collect();
    assert_eq!(tasks.len(), 7);
    for (task, (name, counts, percent)) in tasks.iter().zip(table) {
        let ours = [task.videos.len(), task.rows.len(), task.graph.pairs().count(), task.graph.similar().len()];
        assert_eq!((task.name.as_str(), ours), (name, counts));
        assert_eq!(task.percent().map(|share| share.round() as usize), percent, "{name}");
    }
    assert!(sets.iter().all(SkillSet::is_published));

    let folds: [Folds; 4] = [
        [[883, 45, 776], [856, 46, 803], [964, 67, 695], [1000, 51, 659]],
        [[106, 59, 75], [96, 61, 85], [97, 48, 84], [100, 45, 81]],
        [[127, 73, 120], [140, 60, 107], [148, 56, 99], [127, 78, 120]],
        [[314, 35, 222], [280, 57, 256], [299, 42, 237], [299, 39, 237]],
    ];
    let separations: [&[usize]; 4] = [
        &[369, 382, 311, 294, 263, 247, 224, 209, 178, 154, 127, 74, 52, 29, 16, 4],
        &[107, 45, 39, 37, 24, 24, 20, 10, 15, 4],
        &[171, 131, 89, 35, 16, 4],
        &[132, 89, 83, 88, 77, 72, 64, 65, 60, 55, 43, 32, 27, 26, 17, 14, 6, 2],
    ];
    for (i, set) in sets.iter().enumerate() {
        let card = set.card();
        assert_eq!(card.counts["folds"], serde_json::json!(folds[i]), "{}", set.name);
        assert_eq!(card.counts["pooled"], [2933, 325, 446, 952][i]);
        assert_eq!(card.counts["separations"], serde_json::json!(separations[i]), "{}", set.name);
        for fold in &set.folds {
            let held = |video: &usize| fold.held.contains(video);
            assert!(fold.train.iter().chain(&fold.similar).all(|(a, b)| !held(a) && !held(b)));
            assert!(fold.test.iter().all(|(a, b)| held(a) || held(b)));
        }
        println!("{card}");
    }
    // A fold that lost a pair, and one that holds out another video, are not the release's, though a sum may still fit.
    for damage in 0..3 {
        let mut set = open_one(&dir, "drawing").expect("drawing");
        let (first, rest) = set.folds.split_at_mut(1);
        match damage {
            0 => drop(first[0].test.pop()),
            1 => rest[0].test.extend(first[0].test.pop()),
            _ => drop(first[0].similar.pop()),
        }
        assert!(!set.is_published());
        let lines = set.unlike_published();
        assert!(lines[0].contains("not the published fold 1"), "{lines:?}");
        assert_eq!(lines.len(), if damage == 1 { 2 } else { 1 });
    }
    let notes: Vec<&String> = sets.iter().flat_map(|set| &set.notes).collect();
    assert_eq!(
        notes,
        ["Dough_Rolling: S33 > S08 stands 3 times, kept so", "Chopstick_Using: B1 > G1 stands 3 times, kept so"]
    );
}

#[test]
fn segments_count_frames_as_scripts_convert_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let splits = [("train_1", "Better,Worse\nS1,S2\n"), ("val_1", "Better,Worse\nS2,S3\n")];
    judged(dir.path(), "Rolling", "Vid1,Vid2,Best\nS1,S2,S1\nS2,S3,S2\n", &splits);
    let list = "Video,StartFrame,EndFrame,\nS1_Pizza,3,6,\nS2_Pizza,1,4,\nS3_Pizza,2,2,\n";
    std::fs::write(dir.path().join("rolling_segments.csv"), list).expect("written");
    let videos = dir.path().join("videos/Rolling");
    let fill = |name: &str, frames: std::ops::RangeInclusive<u8>, taken: Option<&str>| {
        let folder = videos.join(name);
        let _ = std::fs::remove_dir_all(&folder);
        for (i, frame) in frames.enumerate() {
            let path = made(folder.join(format!("img_{:05}.png", i + 1)));
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
