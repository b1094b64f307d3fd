//! Labelled sets: what is read, and what is refused in one line.

mod arff;
mod coco;
mod csv;
mod nus_wide;
mod voc;

use std::path::Path;

use rankle::datasets::drawn::Shapes;
use rankle::datasets::labels::open;

use crate::common::{line, made, put, shared};

/// A JPEG at `dir/name`.
fn picture(dir: &Path, name: &str) {
    let image = image::RgbImage::from_fn(24, 16, |x, y| image::Rgb([x as u8 * 9, y as u8 * 11, 60]));
    image.save(made(dir.join(name))).expect("saved");
}

fn write(dir: &Path, name: &str, text: &str) {
    put(dir.join(name), text);
}

fn refused(dir: &Path, words: &[&str]) {
    let text = line(open(dir));
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

fn labels(items: &[rankle::datasets::labels::Item]) -> Vec<(&str, &[u32])> {
    items.iter().map(|item| (item.name.as_str(), item.labels.as_slice())).collect()
}

#[test]
fn dev_items_are_set_aside_by_the_seed() {
    let set = Shapes { train: 50, test: 1, side: 16, seed: 2 }.set();
    let (train, dev) = set.dev(0.1, 3);
    assert_eq!((train.len(), dev.len()), (45, 5));
    let names =
        |items: &[rankle::datasets::labels::Item]| items.iter().map(|item| item.name.clone()).collect::<Vec<_>>();
    assert!(names(&dev).iter().all(|name| !names(&train).contains(name)));
    assert_eq!(names(&dev), names(&set.dev(0.1, 3).1));
    assert_ne!(names(&dev), names(&set.dev(0.1, 4).1));
    assert_eq!(set.dev(0., 1).1.len(), 0);
}

#[test]
fn the_real_small_sets_have_their_counts() {
    let Some(root) = shared("mulan") else { return };
    for (name, train, test, features, classes, labels) in
        [("scene", 1211, 1196, 294, 6, 1286), ("yeast", 1500, 917, 103, 14, 6342)]
    {
        let set = open(&root.join(name)).expect("opens");
        assert_eq!((set.train.len(), set.test.len(), set.feature_width()), (train, test, Some(features)));
        assert_eq!(set.classes.len(), classes);
        assert!(set.published, "{:?}", set.notes);
        let count: usize = set.train.iter().map(|item| item.labels.len()).sum();
        assert_eq!(count, labels, "{name}");
    }
}
