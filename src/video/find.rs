//! Where videos lie: files, folders of frames, and folders of flow.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// A video that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Its pictures in order of their names; empty for a film.
    pub frames: Vec<PathBuf>,
    /// The video file, where it is one.
    pub film: Option<PathBuf>,
    /// x and y of each flow field; empty where none was computed.
    pub flow: Vec<(PathBuf, PathBuf)>,
    /// First and last frame that count, from 1; all where there is none.
    pub part: Option<(usize, usize)>,
}

const FILMS: [&str; 8] = ["mp4", "avi", "mov", "mkv", "webm", "m4v", "mpg", "mpeg"];
const PICTURES: [&str; 4] = ["jpg", "jpeg", "png", "bmp"];

fn ends(path: &Path, known: &[&str]) -> bool {
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or("");
    known.iter().any(|known| end.eq_ignore_ascii_case(known))
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(dir).with_context(|| format!("cannot read the folder {}", dir.display()))?;
    let mut found: Vec<PathBuf> = read
        .collect::<std::io::Result<Vec<_>>>()
        .with_context(|| format!("cannot read the folder {}", dir.display()))?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| !name(path).starts_with('.'))
        .collect();
    found.sort();
    Ok(found)
}

/// x and y of a flow field.
type Field = (PathBuf, PathBuf);

/// The pictures of a folder that are no flow, and its flow (`flow_x_*`, `flow_y_*`), each in order of their names.
fn pictures(dir: &Path) -> Result<(Vec<PathBuf>, Vec<Field>)> {
    let all: Vec<PathBuf> = entries(dir)?.into_iter().filter(|path| ends(path, &PICTURES)).collect();
    let starting = |prefix: &str| all.iter().filter(|path| name(path).starts_with(prefix)).cloned().collect::<Vec<_>>();
    let (x, y) = (starting("flow_x"), starting("flow_y"));
    ensure!(x.len() == y.len(), "{}: {} files flow_x_* and {} flow_y_*", dir.display(), x.len(), y.len());
    let frames = all.iter().filter(|path| !name(path).starts_with("flow_")).cloned().collect();
    Ok((frames, x.into_iter().zip(y).collect()))
}

/// A video at `path` (a file or a folder of pictures) with its flow from `flow`, where that folder is there.
fn at(path: &Path, flow: Option<&Path>) -> Result<Found> {
    let mut found = Found::default();
    if path.is_dir() {
        (found.frames, found.flow) = pictures(path)?;
        ensure!(!found.frames.is_empty(), "{}: no pictures in it (jpg, png)", path.display());
    } else {
        found.film = Some(path.to_path_buf());
    }
    if let Some(flow) = flow.filter(|flow| flow.is_dir()) {
        found.flow = pictures(flow)?.1;
    }
    Ok(found)
}

/// Whether `file` names the video `wanted`: it is its name, or has it as a part between `_`, `-` or `.`.
fn names(file: &str, wanted: &str) -> bool {
    file == wanted || file.split(['_', '-', '.', ' ']).any(|part| part == wanted)
}

/// The video `video` under `videos`: a folder of pictures or a film whose name is, or has as a part, the video's (as
/// `Knot_Tying_B001_capture2.avi` has B001). Of several, one with `capture2` (the surgeon's right camera) or
/// `stationary` is taken, the paper's views. Its flow is in `flow/<video>`, or beside the pictures.
///
/// # Errors
/// One line: none, or several that cannot be told apart, by name.
pub fn find(videos: &Path, flow: &Path, video: &str) -> Result<Found> {
    ensure!(videos.is_dir(), "{} is missing: the videos belong there", videos.display());
    let stem = |path: &Path| {
        let base = if path.is_dir() { path.file_name() } else { path.file_stem() };
        base.map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
    };
    let mut fitting = entries(videos)?;
    fitting.retain(|path| (path.is_dir() || ends(path, &FILMS)) && names(&stem(path), video));
    if fitting.len() > 1 {
        for wanted in [
            |name: &str, video: &str| name == video,
            |name: &str, _: &str| {
                let name = name.to_lowercase();
                name.contains("capture2") || name.contains("stationary")
            },
        ] {
            let some: Vec<PathBuf> = fitting.iter().filter(|path| wanted(&stem(path), video)).cloned().collect();
            if some.len() == 1 {
                fitting = some;
                break;
            }
        }
    }
    match &fitting[..] {
        [path] => at(path, Some(&flow.join(video))),
        [] => bail!("no video of {video} in {}: a file or a folder of pictures with that name", videos.display()),
        [a, b, ..] => bail!("{} has {} and {} for {video}: leave one", videos.display(), name(a), name(b)),
    }
}

/// All videos of a folder by name: its films and its folders of pictures; or, where it has neither but pictures, the
/// folder itself as one. Their flow is in `flow/<name>` there, or beside the pictures.
///
/// # Errors
/// One line: no such folder, or no videos in it.
pub fn folder(dir: &Path) -> Result<Vec<(String, Found)>> {
    ensure!(dir.is_dir(), "no folder {}: give the folder that holds the videos", dir.display());
    let mut found = Vec::new();
    for path in entries(dir)? {
        if name(&path) == "flow" {
            continue;
        }
        let base = if path.is_dir() { path.file_name() } else { path.file_stem() };
        let title = base.map_or_else(String::new, |base| base.to_string_lossy().into_owned());
        let has_pictures = path.is_dir() && !pictures(&path)?.0.is_empty();
        if has_pictures || (!path.is_dir() && ends(&path, &FILMS)) {
            found.push((title.clone(), at(&path, Some(&dir.join("flow").join(&title)))?));
        }
    }
    if found.is_empty() && !pictures(dir)?.0.is_empty() {
        found.push((name(dir), at(dir, None)?));
    }
    ensure!(!found.is_empty(), "no videos in {}: expected films or folders of pictures", dir.display());
    Ok(found)
}
