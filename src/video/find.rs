//! Where videos lie: files, folders of frames, and folders of flow.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::{Cache, Clip};
use crate::files::name;
use crate::folders::{Entry, FILMS, Passed, ends, list};
use crate::lists::{composed, found};
use crate::say::note;

/// A video that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VideoFiles {
    /// Its pictures in order of the numbers in their names; empty for a film.
    pub frames: Vec<PathBuf>,
    /// The video file, where it is one.
    pub film: Option<PathBuf>,
    /// x and y of each flow field; empty where none was computed.
    pub flow: Vec<(PathBuf, PathBuf)>,
    /// Why that flow cannot be used: fields are missing, or it is another video's.
    pub fault: Option<String>,
    /// First and last frame that count, from 1; all where there is none.
    pub part: Option<(usize, usize)>,
    /// Of a film that `scripts/convert frames` cut: which of its frames the pictures are.
    pub cut: Option<(usize, usize)>,
    /// Whether the pictures were taken at another rate than the film's own.
    pub resampled: bool,
}

/// What `scripts/convert frames` leaves beside its pictures, as `frames.json`.
#[derive(Deserialize)]
struct Taken {
    fps: Option<f64>,
    segment: Option<(usize, usize)>,
}

/// A file of JSON, where it is there.
fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = crate::picture::read(path)?;
    Ok(Some(
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: make it again, it cannot be read", path.display()))?,
    ))
}

const PICTURES: [&str; 4] = ["jpg", "jpeg", "png", "bmp"];

/// A folder's entries, frame 2 before frame 10; what nobody asks for is counted.
fn entries(dir: &Path, passed: &mut Passed) -> Result<Vec<Entry>> {
    let mut found = list(dir, passed)?;
    found.sort_by(|a, b| by_number(&a.name, &b.name));
    Ok(found)
}

/// The order of names in which numbers count as numbers: `frame2.jpg` before `frame10.jpg`.
fn by_number(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    let digits = |text: &[u8]| text.iter().take_while(|c| c.is_ascii_digit()).count();
    loop {
        let (n, m) = (digits(x), digits(y));
        let here = if n > 0 && m > 0 {
            let number = |text: &[u8]| text.iter().skip_while(|&&c| c == b'0').copied().collect::<Vec<u8>>();
            let (p, q) = (number(&x[..n]), number(&y[..m]));
            (x, y) = (&x[n..], &y[m..]);
            p.len().cmp(&q.len()).then(p.cmp(&q))
        } else {
            let (p, q) = (x.first(), y.first());
            if p.is_none() && q.is_none() {
                return a.cmp(b);
            }
            let here = p.cmp(&q);
            (x, y) = (&x[1.min(x.len())..], &y[1.min(y.len())..]);
            here
        };
        if here != Ordering::Equal {
            return here;
        }
    }
}

/// The name of a video: its folder's, or its file's without the ending, accents composed.
fn title(entry: &Entry) -> String {
    let stem = Path::new(&*entry.name).file_stem().filter(|_| !entry.folder);
    composed(&stem.map_or(entry.name.as_ref().into(), |stem| stem.to_string_lossy()))
}

/// What may be a video.
fn kinds() -> String {
    format!("a film (a file named *.{}) or a folder of pictures", FILMS.join(", *."))
}

/// x and y of a flow field.
type Field = (PathBuf, PathBuf);

/// The pictures of a folder that are no flow, and its flow (`flow_x_*`, `flow_y_*`), each in order of the numbers in
/// their names; and which halves of the flow are missing.
fn pictures(dir: &Path) -> Result<(Vec<PathBuf>, Vec<Field>, Option<String>)> {
    let all = entries(dir, &mut Passed::default())?.into_iter().map(|entry| entry.path());
    let all: Vec<PathBuf> = all.filter(|path| ends(path, &PICTURES)).collect();
    let starting = |prefix: &str| all.iter().filter(|path| name(path).starts_with(prefix)).cloned().collect::<Vec<_>>();
    let (x, y) = (starting("flow_x"), starting("flow_y"));
    let rest = |path: &Path| name(path)["flow_x".len()..].to_string();
    let fault = if x.len() != y.len() {
        Some(format!("{} files flow_x_* and {} flow_y_*", x.len(), y.len()))
    } else {
        let odd = x.iter().zip(&y).find(|(x, y)| rest(x) != rest(y));
        odd.map(|(x, _)| format!("{} has no flow_y{}", name(x), rest(x)))
    };
    let frames = all.iter().filter(|path| !name(path).starts_with("flow_")).cloned().collect();
    Ok((frames, x.into_iter().zip(y).collect(), fault.map(|fault| format!("{}: {fault}", dir.display()))))
}

/// The last number in a picture's name.
pub(crate) fn number(path: &Path) -> Option<usize> {
    let stem = path.file_stem()?.to_string_lossy().into_owned();
    stem.rsplit(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
}

/// The first two neighbours of `frames` whose numbers are further apart, or nearer, than the first two's.
pub fn leap(frames: &[PathBuf]) -> Option<[&PathBuf; 2]> {
    let apart = |pair: &[PathBuf]| Some(number(&pair[1])?.wrapping_sub(number(&pair[0])?));
    let usual = apart(frames.get(..2)?)?;
    let odd = frames.windows(2).find(|pair| apart(pair).is_some_and(|apart| apart != usual))?;
    Some([&odd[0], &odd[1]])
}

/// In words, of how many of some videos, with their titles, the numbers of the pictures leap.
pub fn leaps<'a>(all: impl IntoIterator<Item = (&'a str, &'a VideoFiles)>) -> Option<String> {
    let mut odd = all.into_iter().filter_map(|(title, found)| Some((title, leap(&found.frames)?)));
    let (title, [a, b]) = odd.next()?;
    let rest = match odd.count() {
        0 => String::new(),
        more => format!("; so do those of {more} more"),
    };
    let (a, b) = (name(a), name(b));
    Some(format!(
        "{title}: the numbers of its pictures leap between {a} and {b}: frames are missing there, or were left out{rest}"
    ))
}

/// A video at `path` (a file or a folder of pictures) with its flow from `flow`, where that folder is there.
fn at(path: &Path, flow: Option<&Path>) -> Result<VideoFiles> {
    let mut found = VideoFiles::default();
    if path.is_dir() {
        (found.frames, found.flow, found.fault) = pictures(path)?;
        ensure!(!found.frames.is_empty(), "{}: no pictures in it (jpg, png)", path.display());
        if let Some(taken) = read_json::<Taken>(&path.join("frames.json"))? {
            (found.cut, found.resampled) = (taken.segment, taken.fps.is_some());
        }
    } else {
        found.film = Some(path.to_path_buf());
    }
    if let Some(flow) = flow.filter(|flow| flow.is_dir()) {
        (_, found.flow, found.fault) = pictures(flow)?;
        found.fault = found.fault.take().or_else(|| super::flow::fault(flow, path, &found));
    }
    // Of pictures that leap their flow does.
    if found.fault.is_none() && leap(&found.frames).is_none() {
        let x: Vec<PathBuf> = found.flow.iter().map(|(x, _)| x.clone()).collect();
        let missing = |[a, b]: [&PathBuf; 2]| {
            format!("fields are missing: the numbers leap between {} and {}", a.display(), name(b))
        };
        found.fault = leap(&x).map(missing);
    }
    Ok(found)
}

/// Those of `all` that are the video `wanted`, by their `name`: whose whole name it is, or, where there are none, who have
/// it as a part between `_`, `-`, `.` or blanks.
pub(crate) fn meant<'a, T>(all: &'a [T], name: impl Fn(&T) -> &str, wanted: &str) -> Vec<&'a T> {
    const BETWEEN: [char; 4] = ['_', '-', '.', ' '];
    let wanted = &composed(wanted)[..];
    let part = |name: &str| {
        let edges = |at: usize| (name[..at].ends_with(BETWEEN) || at == 0, &name[at + wanted.len()..]);
        let mut places = name.match_indices(wanted).map(|(at, _)| edges(at));
        places.any(|(begins, rest)| begins && (rest.is_empty() || rest.starts_with(BETWEEN)))
    };
    let whole: Vec<&T> = all.iter().filter(|one| composed(name(one)) == wanted).collect();
    if whole.is_empty() { all.iter().filter(|one| part(&composed(name(one)))).collect() } else { whole }
}

/// The video `video` under `videos`: a folder of pictures or a film whose name is, or has as a part, the video's (as
/// `Knot_Tying_B001_capture2.avi` has B001). Of several, one with `capture2` (the surgeon's right camera) or
/// `stationary` is taken, the paper's views. Its flow is in `flow/<video>`, or beside the pictures.
///
/// # Errors
/// One line: none, or several that cannot be told apart, by name.
pub fn find(videos: &Path, flow: &Path, video: &str) -> Result<VideoFiles> {
    ensure!(videos.is_dir(), "{} is missing: the videos belong there (data/README.md, EPIC-Skills')", videos.display());
    let all = entries(videos, &mut Passed::default())?.into_iter().filter(|entry| entry.folder || entry.is_film());
    let all: Vec<(String, PathBuf)> = all.map(|entry| (title(&entry), entry.path())).collect();
    let mut fitting = meant(&all, |(stem, _)| stem, video);
    let views = ["capture2", "stationary"];
    let preferred = |stem: &str| views.iter().any(|view| stem.to_lowercase().contains(view));
    let some: Vec<_> = fitting.iter().copied().filter(|(stem, _)| preferred(stem)).collect();
    if fitting.len() > 1 && some.len() == 1 {
        fitting = some;
    }
    match fitting.into_iter().map(|(_, path)| path).collect::<Vec<_>>()[..] {
        [path] => at(path, Some(&found(flow.join(video)))),
        [] => bail!("no video of {video} in {}: expected {} with that name", videos.display(), kinds()),
        [a, b, ..] => bail!("{} has {} and {} for {video}: leave one", videos.display(), name(a), name(b)),
    }
}

/// All videos of a folder by name: its films and its folders of pictures; or, where it has neither but pictures, the
/// folder itself as one. Their flow is in `flow/<name>` there, or beside the pictures.
///
/// # Errors
/// One line: no such folder, or no videos in it.
pub fn folder(dir: &Path) -> Result<Vec<(String, VideoFiles)>> {
    ensure!(dir.is_dir(), "no folder {}: give the folder that holds the videos", dir.display());
    let mut found = Vec::new();
    let mut passed = Passed::default();
    for entry in entries(dir, &mut passed)? {
        if &*entry.name == "flow" {
            continue;
        }
        let (path, title) = (&entry.path(), title(&entry));
        if entry.is_film() || (entry.folder && !pictures(path)?.0.is_empty()) {
            let same = found.iter().find(|(known, _): &&(String, VideoFiles)| *known == title);
            ensure!(same.is_none(), "{} has two videos called {title}: rename one", dir.display());
            found.push((title.clone(), at(path, Some(&crate::lists::found(dir.join("flow").join(&title))))?));
        } else {
            passed.add(&entry);
        }
    }
    if found.is_empty() && !pictures(dir)?.0.is_empty() {
        found.push((name(dir), at(dir, Some(&crate::lists::found(dir.join("flow").join(name(dir)))))?));
    } else {
        passed.note().iter().for_each(note);
    }
    ensure!(!found.is_empty(), "no videos in {}: expected {}", dir.display(), kinds());
    leaps(found.iter().map(|(title, found)| (&**title, found))).iter().for_each(note);
    Ok(found)
}

/// All videos of a folder (see [`folder`]), opened.
pub fn clips(dir: &Path, cache: &Arc<Cache>) -> Result<Vec<Clip>> {
    let found = folder(dir)?.into_iter().enumerate();
    Clip::open_all(found.map(|(i, (name, found))| (name, i as u32, found)).collect(), cache)
}
