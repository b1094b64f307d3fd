//! The drawn people: a function of the seed, learnable, and not trivial.

use rankle::datasets::drawn::{People, photo};
use rankle::datasets::{Photo, Source};
use rankle::distance::Metric;
use rankle::metrics::retrieval::{Ap, Exclude, Identity, evaluate};
use tch::{Kind, Tensor};

fn pixels(photos: &[Photo]) -> Tensor {
    let rows: Vec<u8> = photos.iter().flat_map(|photo| photo.source.image().expect("drawn").as_raw().clone()).collect();
    Tensor::from_slice(&rows).view([photos.len() as i64, -1]).to_kind(Kind::Float)
}

fn who(photos: &[Photo]) -> Vec<Identity> {
    photos.iter().map(|photo| Identity { person: photo.person, camera: photo.camera }).collect()
}

#[test]
fn a_photo_is_a_function_of_its_address() {
    let one = photo(1, 5, 2, 0, 64, 32);
    assert_eq!(one, photo(1, 5, 2, 0, 64, 32));
    for other in
        [photo(2, 5, 2, 0, 64, 32), photo(1, 6, 2, 0, 64, 32), photo(1, 5, 1, 0, 64, 32), photo(1, 5, 2, 1, 64, 32)]
    {
        assert_ne!(one, other);
    }
    for (height, width) in [(16, 8), (128, 64), (256, 128), (33, 47)] {
        let drawn = photo(1, 5, 2, 0, height, width);
        assert_eq!((drawn.height(), drawn.width()), (height, width));
    }
}

#[test]
fn the_set_has_the_layout_of_its_description() {
    let people = People { train: 5, test: 4, distractors: 3, cameras: 2, shots: 3, height: 32, width: 16, seed: 9 };
    let set = people.set();
    assert_eq!((set.train.len(), set.query.len(), set.gallery.len()), (5 * 6, 4 * 2, 4 * 2 * 2 + 3 + 4));
    let count = |person: i64| set.gallery.iter().filter(|photo| photo.person == person).count();
    assert_eq!((count(0), count(-1)), (3, 4));
    let trained: std::collections::BTreeSet<_> = set.train.iter().map(|photo| photo.person).collect();
    assert!(set.query.iter().all(|photo| photo.person > 0 && !trained.contains(&photo.person)));
    let names: std::collections::BTreeSet<_> = set.photos().map(|photo| &photo.name).collect();
    assert_eq!(names.len(), set.photos().count());
    let again = people.set();
    for (a, b) in set.photos().zip(again.photos()) {
        let (Source::Memory(a), Source::Memory(b)) = (&a.source, &b.source) else { panic!("not drawn") };
        assert_eq!(a, b);
    }
}

/// Raw pixels see scenes and boxes more than people: there is something to learn (that it can be learned, the binary's
/// own test shows).
#[test]
fn raw_pixels_are_not_enough() {
    let set = rankle::datasets::drawn::set();
    let (q, g) = (who(&set.query), who(&set.gallery));
    let scored = evaluate(
        &pixels(&set.query),
        &pixels(&set.gallery),
        &q,
        &g,
        Metric::Euclidean,
        Exclude::SameCamera,
        Ap::Trapezoid,
    );
    assert_eq!(scored.skipped, 0);
    println!("raw pixels: rank-1 {:.3}, mAP {:.3}", scored.rank(1), scored.map());
    assert!(scored.rank(1) < 0.3 && scored.map() < 0.3);
}
