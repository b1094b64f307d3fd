//! Videos: frames and optical flow by number, read when they are asked for, through a bounded cache; never a whole
//! video in memory.

mod cache;
pub mod ffmpeg;
mod find;
pub mod flow;
pub mod snippet;
pub mod tvl1;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use rayon::prelude::*;

use crate::picture;
use crate::say::Bar;

pub use cache::Cache;
pub use find::{VideoFiles, clips, find, folder, leap, leaps};
pub(crate) use find::{meant, number};

/// Pixels of a frame as they come to the cache, the paper's 256 down and 340 across.
pub const SIZE: (u32, u32) = (256, 340);

/// Flow beyond this many pixels a frame is cut off, as temporal segment networks do; -20..20 is stored as 0..255.
pub const FLOW_BOUND: f32 = 20.;

/// Frames that a list of segments, or another program's flow of a film, may count otherwise at its end.
const SLACK: usize = 8;

/// A video that code makes.
pub trait Animation: Debug + Send + Sync {
    /// How many frames it has, at least one.
    fn frames(&self) -> usize;
    /// Frame `at`, below [`Animation::frames`].
    fn frame(&self, at: usize) -> RgbImage;
    /// The flow from frame `at` to the next: x in red, y in green, as bytes (128 is no motion).
    fn flow(&self, at: usize) -> RgbImage;
}

/// Where a video's frames are.
#[derive(Debug, Clone)]
enum Frames {
    Files(Arc<[PathBuf]>),
    Film(Arc<ffmpeg::Film>),
    Drawn(Arc<dyn Animation>),
}

/// Where its flow is: x and y of each frame but the last.
#[derive(Debug, Clone)]
enum Flow {
    Files(Arc<[(PathBuf, PathBuf)]>),
    Drawn(Arc<dyn Animation>),
    /// Not there, or not to be used; why.
    Missing(String),
}

/// A video, or the part of it that counts.
#[derive(Debug, Clone)]
pub struct Clip {
    /// What it is called in scores and reports.
    pub name: String,
    /// For the cache: no two clips of a cache share it.
    key: u32,
    /// The first frame that counts, and how many do.
    first: usize,
    frames: usize,
    source: Frames,
    flow: Flow,
    cache: Arc<Cache>,
    /// Frames are delivered so large (height, width); drawn ones as they are drawn.
    size: (u32, u32),
}

impl Clip {
    /// A video that code makes.
    pub fn drawn(name: String, key: u32, film: Arc<dyn Animation>, cache: Arc<Cache>) -> Clip {
        let flow = Flow::Drawn(film.clone());
        let frames = film.frames().max(1);
        let source = Frames::Drawn(film);
        Clip { name, key, first: 0, frames, source, flow, cache, size: SIZE }
    }

    /// A video on disk.
    ///
    /// # Errors
    /// One line: no frames, an unreadable film, a part (first, last frame, counted from 1) that is not in it. Flow
    /// that is missing or too short is an error of [`Clip::check_flow`] alone.
    pub fn open(name: String, key: u32, found: &VideoFiles, cache: Arc<Cache>) -> Result<Clip> {
        let (source, all, slack) = match found {
            VideoFiles { frames, film: None, .. } => {
                ensure!(!frames.is_empty(), "{name}: no frames");
                (Frames::Files(frames.clone().into()), frames.len(), 0)
            }
            VideoFiles { film: Some(path), .. } => {
                let film = ffmpeg::Film::open(path, SIZE)?;
                let count = film.frames();
                (Frames::Film(Arc::new(film)), count, SLACK)
            }
        };
        let fields = if found.fault.is_some() { 0 } else { found.flow.len() };
        let (first, last) = found.part.unwrap_or((1, all));
        ensure!(
            first >= 1 && first <= last && first <= all && last <= all + slack,
            "{name}: frames {first} to {last} are asked for and it has {all}: mend the list of segments, or take it away where the videos are cut already"
        );
        let short = all.saturating_sub(fields + 1);
        let last = last.min(if fields > 0 && short <= slack { all - short } else { all });
        ensure!(first <= last, "{name}: frame {first} is asked for and its flow ends before: compute it again");
        let flow = if let Some(fault) = &found.fault {
            Flow::Missing(fault.clone())
        } else if fields == 0 {
            Flow::Missing(format!("{name} has no optical flow"))
        } else if fields + 1 < last {
            Flow::Missing(format!("{name}: {fields} flow fields for {all} frames"))
        } else {
            Flow::Files(found.flow.clone().into())
        };
        Ok(Clip { name, key, first: first - 1, frames: last - first + 1, source, flow, cache, size: SIZE })
    }

    /// Several videos (name, key and files of each), as [`Clip::open`], in their order; films are decoded on all cores.
    pub fn open_all(found: Vec<(String, u32, VideoFiles)>, cache: &Arc<Cache>) -> Result<Vec<Clip>> {
        let films = found.iter().filter(|(_, _, found)| found.film.is_some()).count();
        let bar = (films > 0).then(|| Mutex::new(Bar::new("films decoded once", films as u64, 0)));
        let open = |(name, key, found): (String, u32, VideoFiles)| {
            let clip = Clip::open(name, key, &found, cache.clone())?;
            if let Some(bar) = bar.as_ref().filter(|_| found.film.is_some()) {
                bar.lock().unwrap_or_else(PoisonError::into_inner).step(1);
            }
            Ok(clip)
        };
        found.into_par_iter().map(open).collect()
    }

    /// The first frame that counts, from 0.
    pub fn first(&self) -> usize {
        self.first
    }

    /// How many frames count, at least one.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The files that a stream is read from; none of a video that code makes.
    pub fn files(&self, stream: snippet::Stream) -> Vec<&Path> {
        match (stream, &self.source, &self.flow) {
            (snippet::Stream::Temporal, _, Flow::Files(files)) => {
                files.iter().flat_map(|(x, y)| [x.as_path(), y.as_path()]).collect()
            }
            (snippet::Stream::Spatial, Frames::Film(film), _) => vec![film.path()],
            (snippet::Stream::Spatial, Frames::Files(files), _) => files.iter().map(PathBuf::as_path).collect(),
            _ => Vec::new(),
        }
    }

    /// Frame `at` of those that count; the last where there are fewer.
    ///
    /// # Errors
    /// One line that names the file that cannot be read.
    pub fn frame(&self, at: usize) -> Result<Arc<RgbImage>> {
        let at = self.first + at.min(self.frames - 1);
        self.cache.get((self.key, false, at), || {
            let (height, width) = self.size;
            match &self.source {
                Frames::Drawn(film) => Ok(film.frame(at)),
                Frames::Film(film) => film.read(at),
                Frames::Files(files) => {
                    let image = picture::load_for(&files[at], self.size)?;
                    let fits = (image.height(), image.width()) == self.size;
                    Ok(if fits { image } else { picture::resize(&image, height, width) })
                }
            }
        })
    }

    /// The flow from frame `at` to the next (x in red, y in green, as bytes); the last one where there are fewer.
    ///
    /// # Errors
    /// One line: no flow was computed, or its files cannot be read.
    pub fn flow(&self, at: usize) -> Result<Arc<RgbImage>> {
        let at = self.first + at.min(self.frames.saturating_sub(2));
        self.cache.get((self.key, true, at), || match &self.flow {
            Flow::Drawn(film) => Ok(film.flow(at)),
            Flow::Missing(why) => anyhow::bail!("{why}"),
            Flow::Files(files) => {
                let (x, y) = files.get(at).or(files.last()).context("no flow")?;
                let (x, y) = (picture::load(x)?, picture::load(y)?);
                ensure!(x.dimensions() == y.dimensions(), "{}: x and y of a flow field differ in size", self.name);
                let both = RgbImage::from_fn(x.width(), x.height(), |i, j| {
                    image::Rgb([x.get_pixel(i, j)[0], y.get_pixel(i, j)[0], 128])
                });
                let fits = (both.height(), both.width()) == self.size;
                Ok(if fits { both } else { picture::resize(&both, self.size.0, self.size.1) })
            }
        })
    }

    /// Whether the temporal stream can read it.
    ///
    /// # Errors
    /// Where no flow was computed, or what is there cannot be used: one line that ends with the verb that computes it.
    pub fn check_flow(&self) -> Result<()> {
        match &self.flow {
            Flow::Missing(why) => anyhow::bail!("{why}: compute it with skill-determination flow"),
            _ => Ok(()),
        }
    }

    /// Frames one after another from the start, each read once and none kept, to `take`: for what is computed over a
    /// whole video. Frames outside the part that counts come too.
    ///
    /// # Errors
    /// As [`Clip::frame`], and what `take` returns.
    pub fn stream(&self, mut take: impl FnMut(RgbImage) -> Result<()>) -> Result<()> {
        match &self.source {
            Frames::Drawn(film) => (0..film.frames()).try_for_each(|at| take(film.frame(at))),
            Frames::Film(film) => film.stream(take),
            Frames::Files(files) => files.iter().try_for_each(|path| {
                let image = picture::load_for(path, self.size)?;
                take(picture::resize(&image, self.size.0, self.size.1))
            }),
        }
    }
}

/// A flow component in pixels as the byte that is stored.
pub fn quantised(pixels: f32, bound: f32) -> u8 {
    ((pixels.clamp(-bound, bound) + bound) * (255. / (2. * bound))).round() as u8
}

/// A frame in grey, 0..255, by the weights of ITU-R BT.601, rounded as other programs' grey images are.
pub fn grey(image: &RgbImage) -> tvl1::Plane {
    let luma = |[r, g, b]: [u8; 3]| (0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)).round();
    tvl1::Plane::new(image.width() as usize, image.height() as usize, image.pixels().map(|p| luma(p.0)).collect())
}
