//! Where snippets lie and what they hold.

use std::sync::Arc;

use rankle::video::snippet::{Crops, Stream, Window, random_starts, split, uniform_starts};
use rankle::video::{Cache, Clip};

use super::Told;

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
