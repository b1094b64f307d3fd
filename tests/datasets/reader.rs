//! Which photo stands in for one that cannot be used.

use std::sync::Arc;

use anyhow::bail;
use image::RgbImage;
use rankle::datasets::{Fits, Reader};
use rankle::picture::Unread;

use crate::common::line;

/// Rows 1, 2 and 5 of six have no image; 0 to 2 and 3 to 5 show one person each.
fn reader(skip: bool) -> Reader {
    Reader::new(6, skip, |row| match row {
        1 | 2 | 5 => bail!("{row}.png: a truncated PNG"),
        _ => Ok(Arc::new(RgbImage::new(1, 1 + row as u32))),
    })
}

#[test]
fn what_cannot_be_used_gives_its_place_to_the_next_that_fits() {
    let same: Fits<'_> = &|_, row, other| row / 3 == other / 3;
    let nobody: Fits<'_> = &|_, _, _| false;
    let second: Fits<'_> = &|place, _, other| place == 2 && other == 4;
    let drawn = vec![0, 1, 2, 4, 5];
    let skips = reader(true);
    for (fits, expected) in [(&[same][..], [0, 0, 0, 4, 3]), (&[second, same], [0, 0, 4, 4, 3])] {
        assert_eq!(skips.usable(drawn.clone(), fits).expect("usable"), expected);
    }
    // What was tried is remembered, and follows from the files alone.
    assert_eq!(reader(true).usable(vec![5, 1], &[nobody, same]).expect("usable"), [3, 0]);
    assert_eq!((skips.left_out(&drawn), skips.left_out(&[0, 3])), (vec![1, 2, 5], vec![]));
    let error = line(skips.usable(vec![0, 2], &[nobody]));
    assert!(error.starts_with("2.png: a truncated PNG") && error.contains("no photo can take its place"), "{error}");
    // Tuples of two, in two parts; others are drawn for those that are not whole, or show one photo twice.
    let tuples = |rows: [usize; 6], fits: &[Fits<'_>], more: [usize; 6]| {
        reader(true).tuples(rows.to_vec(), |draw| if draw == 2 { more.into() } else { vec![5; 6] }, 2, fits)
    };
    let more = [0, 0, 3, 3, 5, 4];
    for (rows, fits, expected) in [
        ([0, 3, 4, 4, 0, 3], same, [0, 3, 4, 4, 0, 3]),
        ([1, 3, 4, 4, 0, 3], same, [0, 3, 4, 4, 0, 3]),
        ([1, 3, 0, 0, 4, 4], same, [0, 3, 0, 3, 4, 4]),
        ([0, 3, 4, 5, 0, 3], nobody, [0, 3, 4, 3, 0, 3]),
    ] {
        assert_eq!(tuples(rows, &[fits], more).expect("whole ones"), expected, "{rows:?}");
    }
    let error = line(tuples([1, 3, 4, 4, 0, 3], &[nobody], [1; 6]));
    assert!(error.starts_with("1.png: a truncated PNG"), "{error}");
    assert_eq!(skips.stand_ins(&[0, 1, 2], &[nobody]).expect("read"), [Some(0), None, None]);
    // Without leave nothing is looked at before it is read.
    let strict = reader(false);
    assert_eq!(strict.usable(drawn.clone(), &[same]).expect("as they are"), drawn);
    assert_eq!((strict.left_out(&drawn), strict.image(3).expect("an image").height()), (vec![], 4));
    let error = line(strict.image(1));
    assert!(error.contains("1.png: a truncated PNG") && error.contains("--skip-unreadable"), "{error}");
}

/// A disk's fault, or too many open files: another process may have read the photo.
#[test]
fn what_the_machine_cannot_read_is_not_left_out() {
    let fails = Reader::new(2, true, |_| Err(Unread("0.png: cannot be read".into()).into()));
    assert!(line(fails.usable(vec![0], &[&|_, _, _| true])).starts_with("0.png: cannot be read"));
    assert!(fails.left_out(&[0, 1]).is_empty());
}
