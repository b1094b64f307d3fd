//! What is seen of a photo.

use image::{Rgb, RgbImage};
use rankle::datasets::Source;
use rankle::source::View;

#[test]
fn views_crop_shrink_and_encode() {
    let image = RgbImage::from_fn(40, 20, |x, y| Rgb([(x * 6) as u8, (y * 12) as u8, 7]));
    let crop = View { crop: 0.5, ..View::WHOLE }.of(&image).expect("a crop");
    assert_eq!(crop.dimensions(), (10, 10));
    assert_eq!(crop.get_pixel(0, 0), image.get_pixel(15, 5));
    assert_eq!(View { side: Some(8), ..View::WHOLE }.of(&image).expect("small").dimensions(), (8, 8));
    let error = |quality: u8| {
        let through = View { jpeg: Some(quality), ..View::WHOLE }.of(&image).expect("encoded");
        through.as_raw().iter().zip(image.as_raw()).map(|(&a, &b)| f64::from(a.abs_diff(b))).sum::<f64>()
    };
    assert!(error(10) > 2. * error(95), "a low quality loses more");
    let source = Source::Through(Box::new((Source::Memory(image.into()), View { crop: 0.5, ..View::WHOLE }.into())));
    assert_eq!(source.image().expect("an image").dimensions(), (10, 10));
}
