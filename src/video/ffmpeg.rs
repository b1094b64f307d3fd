//! Video files through the system's ffmpeg and ffprobe, a frame or a stream of frames at a time.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::RgbImage;
use serde_json::Value;

/// A video file.
#[derive(Debug, Clone, PartialEq)]
pub struct Film {
    path: PathBuf,
    /// How many frames it has by its own count, which may be a few more than can be read.
    pub frames: usize,
    /// Frames a second; of a film with a varying rate, their mean.
    pub rate: f64,
    /// Seconds from the beginning of the file to each frame: pictures may begin later than the sound and lie at uneven
    /// distances. Empty where the file doesn't say: then they are taken to be even.
    times: Vec<f64>,
}

/// Frames that a file may promise at its end and not have: its index counts packets, and not each becomes a picture.
pub const TAIL: usize = 8;

/// A command of the ffmpeg family with no terminal to read from.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn cannot_start(program: &str, path: &Path, error: &std::io::Error) -> anyhow::Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return anyhow!(
            "{}: reading video files needs {program}, which is not installed: install ffmpeg, or give a folder of JPEGs",
            path.display()
        );
    }
    anyhow!("{}: cannot start {program}: {error}", path.display())
}

/// The last line of what a program complained about.
fn complaint(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing more").trim().to_string()
}

/// A path that no program takes for an option or a protocol.
fn plain(path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_path_buf() } else { Path::new(".").join(path) }
}

impl Film {
    /// Asks ffprobe for the number of frames, their times and their rate; decodes nothing.
    ///
    /// # Errors
    /// One line: no ffprobe on this machine, or no video in the file.
    pub fn open(path: &Path) -> Result<Film> {
        ensure!(path.is_file(), "{}: no such file", path.display());
        let mut ask = command("ffprobe");
        ask.args(["-v", "error", "-select_streams", "v:0", "-of", "json", "-show_entries"]);
        let wanted = "packet=pts_time,flags:stream=codec_name,avg_frame_rate,r_frame_rate:format=start_time";
        ask.arg(wanted).arg(plain(path));
        let output = ask.output().map_err(|error| cannot_start("ffprobe", path, &error))?;
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let stream = told.pointer("/streams/0");
        let text = |key: &str| stream.and_then(|stream| stream.get(key)).and_then(Value::as_str).unwrap_or("");
        let rate = |text: &str| {
            let (above, below) = text.split_once('/')?;
            let rate = above.parse::<f64>().ok()? / below.parse::<f64>().ok()?;
            (rate.is_finite() && rate > 0.).then_some(rate)
        };
        let rate = rate(text("avg_frame_rate")).or(rate(text("r_frame_rate")));
        // A packet with D is cut off by the file's own edit list.
        let word = |packet: &Value, key: &str| packet.get(key).and_then(Value::as_str).map(str::to_string);
        let shown = |packet: &&Value| !word(packet, "flags").is_some_and(|flags| flags.contains('D'));
        let packets: Vec<&Value> =
            told.get("packets").and_then(Value::as_array).into_iter().flatten().filter(shown).collect();
        let start = told.pointer("/format/start_time").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let start = start.filter(|start: &f64| start.is_finite()).unwrap_or(0.);
        let time = |packet: &&Value| word(packet, "pts_time")?.parse::<f64>().ok().map(|time| time - start);
        let mut times: Vec<f64> = packets.iter().map_while(time).filter(|time| time.is_finite()).collect();
        times.sort_by(f64::total_cmp);
        // Two frames at one time cannot be told apart by it; and VP8 has packets that no picture comes of.
        let rising = times.windows(2).all(|pair| pair[0] < pair[1]);
        if times.len() < packets.len() || !rising || text("codec_name") == "vp8" {
            times.clear();
        }
        let frames = Some(packets.len()).filter(|&count| count > 0);
        let (Some(frames), Some(rate)) = (frames, rate) else {
            bail!("{}: no video that ffmpeg can read ({})", path.display(), complaint(&output.stderr));
        };
        Ok(Film { path: path.to_path_buf(), frames, rate, times })
    }

    /// A time, in seconds, after frame `at - 1` and before `at`: the first frame from there on is `at`.
    fn before(&self, at: usize) -> f64 {
        let even = (at as f64 - 0.5) / self.rate;
        let time = self
            .times
            .get(at)
            .map_or(even, |&time| time - 0.5 * if at > 0 { time - self.times[at - 1] } else { 1. / self.rate });
        time.max(0.)
    }

    /// Frame `at`, scaled to `size` (height, width). Where a file ends before its own count, the last there is.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn read(&self, at: usize, size: (u32, u32)) -> Result<RgbImage> {
        for back in 0..TAIL.min(at + 1) {
            let mut read = command("ffmpeg");
            read.args(["-v", "error", "-ss", &format!("{:.6}", self.before(at - back)), "-i"]).arg(plain(&self.path));
            read.args(["-map", "0:v:0", "-frames:v", "1"]).args(raw(size));
            let output = read.output().map_err(|error| cannot_start("ffmpeg", &self.path, &error))?;
            if !output.status.success() {
                bail!("{}: ffmpeg cannot read frame {at}: {}", self.path.display(), complaint(&output.stderr));
            }
            if let Some(image) = picture(output.stdout, size) {
                return Ok(image);
            }
        }
        bail!("{}: ffmpeg gives no frame {at} of {}", self.path.display(), self.frames)
    }

    /// All frames in order, scaled to `size`, one in memory at a time.
    ///
    /// # Errors
    /// One line that names the file, and what `take` returns.
    pub fn stream(&self, size: (u32, u32), mut take: impl FnMut(RgbImage) -> Result<()>) -> Result<()> {
        let mut read = command("ffmpeg");
        // Its own complaints would fill a pipe that nobody reads meanwhile.
        read.stderr(Stdio::null());
        read.args(["-v", "error", "-i"])
            .arg(plain(&self.path))
            .args(["-map", "0:v:0"])
            .args(every_frame())
            .args(raw(size));
        let mut child = read.spawn().map_err(|error| cannot_start("ffmpeg", &self.path, &error))?;
        let mut out = child.stdout.take().context("a pipe")?;
        let mut work = || -> Result<usize> {
            let mut count = 0;
            loop {
                let mut bytes = vec![0; (size.0 * size.1 * 3) as usize];
                match out.read_exact(&mut bytes) {
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(count),
                    other => other.with_context(|| format!("{}: ffmpeg broke off", self.path.display()))?,
                }
                take(picture(bytes, size).context("a whole picture")?)?;
                count += 1;
            }
        };
        let done = work();
        drop(out);
        if done.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().with_context(|| format!("{}: ffmpeg broke off", self.path.display()))?;
        let count = done?;
        ensure!(status.success() && count > 0, "{}: ffmpeg cannot read it to its end", self.path.display());
        Ok(())
    }
}

/// What makes ffmpeg hand on each decoded frame once, none doubled and none dropped: version 5.1 renamed the option.
fn every_frame() -> [&'static str; 2] {
    static WORDS: OnceLock<[&str; 2]> = OnceLock::new();
    *WORDS.get_or_init(|| {
        let told = command("ffmpeg").arg("-version").output().map(|output| output.stdout).unwrap_or_default();
        match release(&String::from_utf8_lossy(&told)) {
            Some(release) if release < (5, 1) => ["-vsync", "0"],
            _ => ["-fps_mode", "passthrough"],
        }
    })
}

/// Major and minor number out of "ffmpeg version 4.4.2-0ubuntu ..."; builds in between two releases have none.
fn release(told: &str) -> Option<(u32, u32)> {
    let word = told.strip_prefix("ffmpeg version ")?.split_whitespace().next()?;
    let mut numbers = word.trim_start_matches('n').split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().unwrap_or(0)))
}

fn raw((height, width): (u32, u32)) -> [String; 7] {
    let scale = format!("scale={width}:{height}:flags=bilinear");
    ["-vf", &scale, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"].map(String::from)
}

fn picture(bytes: Vec<u8>, (height, width): (u32, u32)) -> Option<RgbImage> {
    RgbImage::from_raw(width, height, bytes).filter(|image| image.height() == height)
}
