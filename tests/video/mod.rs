//! Videos: frames, flow, snippets.

mod ffmpeg;
mod find;
mod flow;
mod snippet;

use std::sync::Arc;

use image::{Rgb, RgbImage};
use rankle::video::{Animation, Cache, Clip};

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
