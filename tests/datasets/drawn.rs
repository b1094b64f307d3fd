//! What is drawn: a function of the seed, learnable, and not trivial.

use image::Rgb;
use rankle::datasets::drawn::hand::{BOUND, Hand, Performance};
use rankle::datasets::drawn::{Faces, Hands, People, Shapes, face, photo};
use rankle::datasets::labels::LabelSet;
use rankle::datasets::{Photo, Source};
use rankle::distance::Metric;
use rankle::metrics::retrieval::{Ap, Identity, QueryGallery, evaluate};
use rankle::video::{Animation, quantised};
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
    let (x, y) = (pixels(&set.query), pixels(&set.gallery));
    let scored = evaluate(QueryGallery::new(&x, &y, &q, &g), Metric::Euclidean, Ap::Trapezoid);
    assert_eq!(scored.skipped, 0);
    println!("raw pixels: rank-1 {:.3}, mAP {:.3}", scored.rank(1), scored.map());
    assert!(scored.rank(1) < 0.3 && scored.map() < 0.3);
}

#[test]
fn drawn_faces_are_a_function_of_the_seed_and_stay_in_their_folds() {
    let faces = Faces { train: 3, test: 8, shots: 9, size: 32, folds: 2, seed: 4 };
    let (set, again) = (faces.set(), faces.set());
    let image = |photo: &Photo| photo.source.image().expect("an image");
    for (a, b) in set.photos().zip(again.photos()) {
        assert_eq!(image(a), image(b));
    }
    assert_ne!(face(4, 1, 0, 32), face(5, 1, 0, 32));
    assert_ne!(face(4, 1, 0, 32), face(4, 1, 1, 32));
    assert_eq!((set.pairs.len(), set.folds, set.train.len(), set.test.len()), (120, 2, 27, 72));
    for (i, pair) in set.pairs.iter().enumerate() {
        let (a, b) = (set.test[pair.left].person, set.test[pair.right].person);
        assert_eq!(a == b, pair.same);
        assert_eq!((i / 30) % 2 == 0, pair.same);
        let fold = |person: i64| (person - 4) / 4;
        assert_eq!((fold(a), fold(b)), (i as i64 / 60, i as i64 / 60), "people of a fold stay in it");
        assert!(pair.left != pair.right);
    }
}

#[test]
fn drawn_images_are_functions_of_their_number_with_correlated_labels() {
    let shapes = Shapes { train: 600, test: 10, ..Shapes::default() };
    let set: LabelSet = shapes.set();
    assert_eq!((set.train.len(), set.test.len(), set.classes.len()), (600, 10, 10));
    assert_eq!(shapes.draw(7), shapes.draw(7));
    assert_ne!(shapes.draw(7).0, shapes.draw(8).0);
    assert_eq!(set.train[7].labels, shapes.draw(7).1);
    assert!(
        set.train.iter().all(|item| !item.labels.is_empty() && item.labels.windows(2).all(|pair| pair[0] < pair[1]))
    );
    let has = |item: &rankle::datasets::labels::Item, class: u32| item.labels.contains(&class);
    let share = |of: &dyn Fn(&rankle::datasets::labels::Item) -> bool| {
        set.train.iter().filter(|item| of(item)).count() as f64 / set.train.len() as f64
    };
    // Discs and rings keep company; every class is common enough to be learned.
    let both = share(&|item| has(item, 0) && has(item, 3));
    assert!(both > 1.2 * share(&|item| has(item, 0)) * share(&|item| has(item, 3)), "{both}");
    assert!((0..10).all(|class| share(&|item| has(item, class)) > 0.1));
    let counts: std::collections::BTreeSet<usize> = set.train.iter().map(|item| item.labels.len()).collect();
    assert!(counts.len() >= 6, "{counts:?}");
}

#[test]
fn a_drawn_hand_moves_as_its_flow_says() {
    let performance = Performance { seed: 1, person: 2, repeat: 0, skill: 0.4, drift: 0.3, size: (160, 208) };
    let hand = Hand::new(performance);
    assert_eq!(hand.frame(30), Hand::new(performance).frame(30), "a function of the seed");
    assert!((84..=168).contains(&hand.frames()));
    assert!(hand.lines[hand.frames() - 1].len() > 20);
    let mut moved = 0;
    for at in [10, 25, 40, 70] {
        let (u, v) = hand.motion(at);
        let field = hand.flow(at);
        let moving = [quantised(u, BOUND), quantised(v, BOUND), 128];
        let rest = [quantised(0., BOUND), quantised(0., BOUND), 128];
        let count = field.pixels().filter(|pixel| pixel.0 == moving).count();
        assert!(field.pixels().all(|pixel| pixel.0 == moving || pixel.0 == rest));
        assert!(count > 50);
        // Where the hand is after the motion, the next frame looks as this one did before it, to the pixel's rounding,
        // which is small beside the motion in a picture of this size.
        if u.abs().max(v.abs()) > 1.5 {
            moved += 1;
            let (now, next) = (hand.frame(at), hand.frame(at + 1));
            let (mut with, mut without) = (0_i64, 0_i64);
            for (x, y, pixel) in field.enumerate_pixels() {
                let (tx, ty) = (x as f32 + u, y as f32 + v);
                if pixel.0 != moving || !(0. ..207.).contains(&tx) || !(0. ..159.).contains(&ty) {
                    continue;
                }
                let there = next.get_pixel(tx.round() as u32, ty.round() as u32);
                let gap = |a: &Rgb<u8>, b: &Rgb<u8>| (0..3).map(|c| i64::from(a[c].abs_diff(b[c]))).sum::<i64>();
                with += gap(now.get_pixel(x, y), there);
                without += gap(now.get_pixel(x, y), next.get_pixel(x, y));
            }
            assert!(with <= without, "frame {at}: {with} against {without}");
        }
    }
    assert!(moved > 0);
}

/// Pixels of one colour whole belong to what has that colour: everything drawn as hand, arm or pen moves, everything
/// drawn as paper rests, the pen's thin tip too.
#[test]
fn the_known_flow_covers_what_is_drawn_and_no_more() {
    let mut seen = [0; 4];
    for person in 0..4 {
        let size = (160, 208);
        let hand = Hand::new(Performance { seed: 1, person, repeat: 0, skill: 0.5, drift: 0., size });
        for at in (0..hand.frames()).step_by(9) {
            let (u, v) = hand.motion(at);
            let moving = [quantised(u, BOUND), quantised(v, BOUND), 128];
            let rest = [quantised(0., BOUND), quantised(0., BOUND), 128];
            let tip = hand.tips[at];
            // The arm must be in the picture.
            if moving == rest || tip.0 > 0.9 || tip.1 > 0.6 {
                continue;
            }
            let (frame, flow) = (hand.frame(at), hand.flow(at));
            let pixel =
                |dx: f32, dy: f32| frame.get_pixel(((tip.0 + dx) * 160.) as u32, ((tip.1 + dy) * 160.) as u32).0;
            // The pen's middle, the palm beside it, the arm, and paper far from all.
            let colours = [pixel(0.06, 0.06), pixel(0.22, 0.12), pixel(0.34, 0.37), frame.get_pixel(0, 0).0];
            for (x, y, pixel) in frame.enumerate_pixels() {
                let Some(kind) = colours.iter().position(|colour| *colour == pixel.0) else { continue };
                seen[kind] += 1;
                let wanted = if kind < 3 { moving } else { rest };
                assert_eq!(flow.get_pixel(x, y).0, wanted, "person {person}, frame {at}, pixel {x} {y}, kind {kind}");
            }
        }
    }
    assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
}

#[test]
fn the_drawn_set_is_judged_like_the_paper_s() {
    let (set, hands) = Hands::default().set();
    let card = set.card();
    println!("{card}");
    assert_eq!((set.videos.len(), hands.len(), set.folds.len()), (32, 32, 4));
    let task = &card.counts["tasks"][0];
    let (strict, similar) = (task["percent"][0].as_f64().unwrap_or(0.), task["percent"][1].as_f64().unwrap_or(0.));
    assert!((25. ..75.).contains(&strict) && similar > 3., "{strict} {similar}");
    for fold in &set.folds {
        assert_eq!(
            (fold.held.len(), fold.train.len() + fold.test.len()),
            (8, task["strict_rows"].as_u64().expect("a count") as usize)
        );
        assert!(fold.train.iter().chain(&fold.similar).all(|(a, b)| !fold.held.contains(a) && !fold.held.contains(b)));
    }
    // Judgements follow skill, and most of what is separated far is judged right.
    let skill = |i: usize| hands[i].performance.skill;
    let rows = &set.tasks[0].rows;
    let right = rows.iter().filter(|&&(a, b)| skill(a) > skill(b)).count();
    assert!(right * 100 >= rows.len() * 95);
    assert_eq!(Hands::default().set().0.tasks[0].rows, *rows);
    let other = Hands { seed: 2, ..Hands::default() }.set().0;
    assert_ne!(other.tasks[0].rows, *rows);
}
