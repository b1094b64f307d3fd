//! Decoding, resizing, views, the loader and the person re-identification layouts.

use std::path::{Path, PathBuf};

use anyhow::Result;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

mod drawn;
mod layouts;
mod loader;
mod pixels;
mod reader;
mod splits;
mod transform;

/// A picture without symmetry: x * 37 + y * 59 + c * 83 + 7 x y, modulo 256.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb(std::array::from_fn(|c| ((x * 37 + y * 59 + c as u32 * 83 + x * y * 7) % 256) as u8))
    })
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    encoded(&picture(width, height).into(), ImageFormat::Jpeg)
}

/// The error's only line.
pub fn line<T>(result: Result<T>) -> String {
    let text = format!("{:#}", result.err().expect("an error"));
    assert!(!text.contains('\n'), "{text}");
    text
}

/// A path of the shared data, or nothing with a line that says so.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("RANKLE_SHARED_DATA").map(PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no {}", path.display());
    None
}
