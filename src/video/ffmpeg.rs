//! Video files through the system's ffmpeg, a frame or a stream of frames at a time.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::say::note;

/// A video file whose frames were all decoded once.
#[derive(Debug, Clone, PartialEq)]
pub struct Film {
    path: PathBuf,
    /// Height and width of the frames as they are handed out.
    size: (u32, u32),
    /// All frames, in the order in which they are shown.
    frames: Vec<Frame>,
}

/// What is kept of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Frame {
    /// Seconds from the beginning of the file, as ffmpeg says: where a search for the frame begins, never what decides.
    time: f64,
    /// CRC-32 of its pixels.
    check: u32,
}

/// ffmpeg with no terminal to read from.
fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    // What several threads make of a damaged frame depends on chance; films are read beside each other.
    command.args(["-threads", "1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The last line of what a program complained about.
fn complaint(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing more").trim().to_string()
}

impl Film {
    /// Decodes the whole film once, to know its frames, which will be of `size` (height, width); what it found of a long one
    /// is remembered in the user's cache (`$XDG_CACHE_HOME`, else `~/.cache`). Where ffmpeg complains of a film that it reads
    /// (one that was cut short), a note says so.
    ///
    /// # Errors
    /// One line: no ffmpeg on this machine, or no video in the file.
    pub fn open(path: &Path, size: (u32, u32)) -> Result<Film> {
        let named = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let cache = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
        Film::open_with(path, size, cache.map(|cache| cache.join("rankle/films")).as_deref())
    }

    /// As [`Film::open`], where long films are remembered in the folder `cache`: as long as path, size, time of change and
    /// ffmpeg are the same.
    ///
    /// # Errors
    /// As there. That nothing can be remembered is none.
    pub fn open_with(path: &Path, size: (u32, u32), cache: Option<&Path>) -> Result<Film> {
        const LONG: usize = 1000;
        let found = path.metadata().with_context(|| format!("{}: it cannot be read", path.display()))?;
        ensure!(found.is_file(), "{}: it is {}, no film: move it away", path.display(), files::kind(&found));
        let mut film = Film { path: path.to_path_buf(), size, frames: Vec::new() };
        let kept = cache.and_then(|cache| {
            let found = path.metadata().ok()?;
            let of = (path.canonicalize().ok()?, size, found.len(), found.modified().ok()?, version());
            Some(cache.join(&blake3::hash(format!("{of:?}").as_bytes()).to_hex()[..32]))
        });
        let remembered =
            kept.as_ref().and_then(|kept| serde_json::from_slice::<Vec<Frame>>(&files::read(kept).ok()?).ok());
        if let Some(frames) = remembered.filter(|frames| !frames.is_empty()) {
            return Ok(Film { frames, ..film });
        }
        let mut ask = film.command(None);
        // Times in the container's own units.
        ask.args(["-enc_time_base", "-1", "-c:v", "rawvideo", "-f", "framehash", "-hash", "CRC32", "-"]);
        let output = ask.output().map_err(|error| film.cannot_start(&error))?;
        let mut unit = 0.;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some((above, below)) = line.strip_prefix("#tb 0: ").and_then(|unit| unit.split_once('/')) {
                unit = above.parse::<f64>()? / below.parse::<f64>()?;
            } else if !line.starts_with('#') {
                let fields: Vec<&str> = line.split(',').map(str::trim).collect();
                let &[_, _, time, _, _, check] = &fields[..] else { bail!("{}: ffmpeg says {line}", path.display()) };
                let check = u32::from_str_radix(check, 16)?;
                film.frames.push(Frame { time: unit * time.parse::<f64>()?, check });
            }
        }
        if film.frames.is_empty() && !film.has("0:V") && film.has("0:a") {
            bail!("{}: it has sound and no pictures: move it away", path.display());
        }
        let complaint = complaint(&output.stderr);
        ensure!(!film.frames.is_empty(), "{}: no video that ffmpeg can read ({complaint})", path.display());
        if !output.stderr.is_empty() {
            let frames = film.frames();
            note(format!("{}: ffmpeg reads {frames} frames and complains ({complaint})", path.display()));
        } else if let Some((kept, cache)) = kept.zip(cache).filter(|_| film.frames.len() >= LONG) {
            let frames = serde_json::to_vec(&film.frames)?;
            let _ = std::fs::create_dir_all(cache).is_ok_and(|()| files::write_atomic(&kept, &frames).is_ok());
        }
        Ok(film)
    }

    /// The file that it is read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many frames it has.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Frame `at` in the order in which they are shown.
    ///
    /// Where a seek lands, and what times come after it, differ from container to container. So a seek only says where
    /// to begin: the frame is known by its pixels, which are those that [`Film::open`] saw in its place. Where no
    /// beginning leads to it, all frames are counted from the first.
    pub fn read(&self, at: usize) -> Result<RgbImage> {
        let path = self.path.display();
        let wanted = self.frames.get(at).with_context(|| format!("{path}: no frame {at} of {}", self.frames()))?;
        let here = if at > 0 { (self.frames[at - 1].time + wanted.time) / 2. } else { wanted.time };
        let beginnings = [0., 1., 10.].map(|back| here - back).into_iter().filter(|&from| at > 0 && from > 0.);
        for from in beginnings.map(Some).chain([None]) {
            let (mut found, mut place) = (None, 0);
            self.decode(from, |image| {
                let check = crc32fast::hash(image.as_raw());
                let is = |frame: &Frame| frame.check == check;
                // Counted from the first frame, it is where it is.
                if if from.is_some() { is(wanted) } else { place == at && is(wanted) } {
                    found = Some(image);
                }
                let beyond = self.frames[at + 1..].iter().any(is) && !self.frames[..at].iter().any(is);
                place += 1;
                Ok(found.is_none() && (from.is_none() || !beyond))
            })?;
            if let Some(image) = found {
                return Ok(image);
            }
        }
        bail!("{path}: frame {at} differs from what was read before: did the file change?")
    }

    /// All frames in order, one in memory at a time.
    ///
    /// # Errors
    /// One line that names the file, and what `take` returns.
    pub fn stream(&self, mut take: impl FnMut(RgbImage) -> Result<()>) -> Result<()> {
        let mut count = 0;
        self.decode(None, |image| {
            count += 1;
            take(image).map(|()| true)
        })?;
        let (path, all) = (self.path.display(), self.frames());
        ensure!(count == all, "{path}: {count} frames where {all} were read before: did the file change?");
        Ok(())
    }

    /// Frames from the beginning, or from where a seek to `from` seconds lands, until `take` says false.
    fn decode(&self, from: Option<f64>, mut take: impl FnMut(RgbImage) -> Result<bool>) -> Result<()> {
        let (height, width) = self.size;
        let mut read = self.command(from);
        // Its own complaints would fill a pipe that nobody reads meanwhile.
        read.args(["-f", "rawvideo", "-"]).stderr(Stdio::null());
        let mut child = read.spawn().map_err(|error| self.cannot_start(&error))?;
        let mut out = child.stdout.take().context("a pipe")?;
        let mut work = || -> Result<()> {
            loop {
                let mut image = RgbImage::new(width, height);
                match out.read_exact(&mut image) {
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                    other => other.with_context(|| format!("{}: ffmpeg broke off", self.path.display()))?,
                }
                if !take(image)? {
                    return Ok(());
                }
            }
        };
        let done = work();
        // Where it has more to say, nobody listens.
        let _ = child.kill();
        child.wait().with_context(|| format!("{}: ffmpeg broke off", self.path.display()))?;
        done
    }

    /// ffmpeg, told to hand on each frame that it decodes once, scaled; what becomes of them is still to be said.
    fn command(&self, from: Option<f64>) -> Command {
        let (height, width) = self.size;
        let mut command = ffmpeg();
        command.args(["-v", "error"]);
        if let Some(from) = from {
            command.args(["-ss", &format!("{from:.6}")]);
        }
        // V: no picture of a cover.
        command.arg("-i").arg(self.place()).args(["-map", "0:V:0"]).args(every_frame());
        command.args(["-vf", &format!("scale={width}:{height}:flags=bilinear"), "-pix_fmt", "rgb24"]);
        command
    }

    /// Its path, as no program takes it for an option or a protocol.
    fn place(&self) -> PathBuf {
        if self.path.is_absolute() { self.path.clone() } else { Path::new(".").join(&self.path) }
    }

    /// Whether ffmpeg finds streams of a kind in it: `0:V` are pictures, `0:a` is sound.
    fn has(&self, streams: &str) -> bool {
        let mut ask = ffmpeg();
        ask.args(["-v", "error", "-i"])
            .arg(self.place())
            .args(["-map", streams, "-c", "copy", "-t", "0", "-f", "null", "-"]);
        ask.output().is_ok_and(|output| output.status.success())
    }

    fn cannot_start(&self, error: &std::io::Error) -> anyhow::Error {
        let path = self.path.display();
        if error.kind() == std::io::ErrorKind::NotFound {
            return anyhow!(
                "{path}: reading video files needs ffmpeg, which is not installed: install it, or give a folder of JPEGs"
            );
        }
        anyhow!("{path}: cannot start ffmpeg: {error}")
    }
}

/// What makes ffmpeg hand on each decoded frame once, none doubled and none dropped: version 5.1 renamed the option.
fn every_frame() -> [&'static str; 2] {
    match release(version()) {
        Some(release) if release < (5, 1) => ["-vsync", "0"],
        _ => ["-fps_mode", "passthrough"],
    }
}

/// What ffmpeg says of itself.
fn version() -> &'static str {
    static TOLD: OnceLock<String> = OnceLock::new();
    TOLD.get_or_init(|| {
        let told = ffmpeg().arg("-version").output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&told).into_owned()
    })
}

/// Major and minor number out of "ffmpeg version 4.4.2-0ubuntu ..."; builds in between two releases have none.
fn release(told: &str) -> Option<(u32, u32)> {
    let word = told.strip_prefix("ffmpeg version ")?.split_whitespace().next()?;
    let mut numbers = word.trim_start_matches('n').split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().unwrap_or(0)))
}
