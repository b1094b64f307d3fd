//! Folders as people keep them: each is walked once whatever links lead where, and what is passed over is counted by
//! kind and said.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;

use crate::lists::composed;
use crate::{files, once};

/// An entry of a folder. There may be millions.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name; of [`images`] with the folders on the way, `/` between.
    pub name: Arc<str>,
    /// The folder that the name begins in.
    pub root: Arc<PathBuf>,
    /// Whether it is a folder, or a link to one.
    pub folder: bool,
    link: bool,
}

/// Why an entry is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Unread,
    Unnamed,
    Film,
    Outside,
    Deeper,
    Empty,
    Beside,
    Sidecar,
    Leftover,
    Hidden,
    HiddenFolder,
    Again,
    Above,
    Other,
}

/// One of the kind, and several.
const WORDS: [(Kind, &str, &str); 14] = [
    (
        Kind::Unread,
        "photo that is not decoded here: convert it to JPEG",
        "photos that are not decoded here: convert them to JPEG",
    ),
    (Kind::Unnamed, "name that is not UTF-8: rename it", "names that are not UTF-8: rename them"),
    (Kind::Film, "film", "films"),
    (Kind::Outside, "image beside the folders", "images beside the folders"),
    (Kind::Deeper, "image nested too deep", "images nested too deep"),
    (Kind::Empty, "folder inside a folder of images", "folders inside folders of images"),
    (Kind::Beside, "folder without images", "folders without images"),
    (Kind::Sidecar, "sidecar or text", "sidecars or texts"),
    (Kind::Leftover, "leftover of a file manager", "leftovers of file managers"),
    (Kind::Hidden, "hidden file", "hidden files"),
    (Kind::HiddenFolder, "hidden folder", "hidden folders"),
    (Kind::Again, "link to a folder that is walked anyway", "links to folders that are walked anyway"),
    (Kind::Above, "link to a folder above, which is not walked", "links to folders above, which are not walked"),
    (Kind::Other, "other file", "other files"),
];

const IMAGES: [&str; 14] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "tif", "tiff", "webp", "ppm", "pgm", "pbm", "pnm"];
/// Pictures that other programs open: phones', cameras' raw ones, editors'.
const UNREAD: [&str; 44] = [
    "heic", "heif", "hif", "avif", "jxl", "jp2", "j2k", "jpx", "jxr", "wdp", "psd", "xcf", "svg", "ico", "tga", "exr",
    "hdr", "dds", "qoi", "3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "kdc", "mef", "mos", "mrw", "nef",
    "nrw", "orf", "pef", "raf", "raw", "rw2", "sr2", "srf", "srw", "x3f", "iiq", "eps",
];
/// How the names of films end that ffmpeg reads.
pub const FILMS: [&str; 31] = [
    "mp4", "mov", "avi", "mkv", "webm", "m4v", "mpg", "mpeg", "mpe", "m2v", "mts", "m2ts", "m2t", "ts", "vob", "mod",
    "tod", "wmv", "asf", "3gp", "3g2", "flv", "f4v", "ogv", "mxf", "dv", "rm", "rmvb", "divx", "mjpeg", "insv",
];
const SIDECARS: [&str; 14] =
    ["aae", "xmp", "json", "jsonl", "xml", "txt", "csv", "tsv", "yaml", "yml", "thm", "md", "html", "pdf"];
/// What file managers, archives and network disks leave behind, in lower case.
const LEFTOVERS: [&str; 15] = [
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    ".ds_store",
    "__macosx",
    "@eadir",
    ".thumbnails",
    ".@__thumb",
    "icon\r",
    ".picasa.ini",
    "#recycle",
    "@recycle",
    "$recycle.bin",
    "lost+found",
    "system volume information",
];

/// Whether a name ends as one of those `known`, in capitals or not.
pub(crate) fn ends(name: impl AsRef<Path>, known: &[&str]) -> bool {
    let end = name.as_ref().extension().and_then(|end| end.to_str()).unwrap_or("");
    known.iter().any(|known| end.eq_ignore_ascii_case(known))
}

/// Whether a file is a kind of photo, by its name, that is not decoded here. What such a file holds is not looked at: raw
/// ones look like a TIFF of a small picture.
pub fn is_unread(path: &Path) -> bool {
    path.to_str().is_some_and(|name| ends(name, &UNREAD))
}

impl Entry {
    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.root.join(&*self.name)
    }

    /// Whether it is a file whose name ends as an image's does; what it is, its content says later.
    pub fn is_image(&self) -> bool {
        !self.folder && ends(&*self.name, &IMAGES)
    }

    /// Whether it is a file whose name ends as a film's does.
    pub fn is_film(&self) -> bool {
        !self.folder && ends(&*self.name, &FILMS)
    }
}

/// Files of this library's own in folders of photos that it made: nobody looks for photos in them.
const OWN: [&str; 3] = [".lock", "faces.jsonl", "links.json"];

/// How the names of files end that `embed` writes, with a folder beside that keeps what the network said, `FILE.kept`.
const ROWS: [&str; 3] = ["safetensors", "npz", "csv"];

/// Takes out of a folder's entries what `embed` wrote there.
fn without_rows(found: &mut Vec<Entry>) {
    // Of a list, what made it.
    let beside = |file: &str| file.strip_suffix("csv").map_or(String::new(), |bare| format!("{bare}json"));
    let written = |entry: &Entry| {
        let file = entry.name.strip_suffix(".kept").filter(|file| entry.folder && !entry.link && ends(file, &ROWS))?;
        (held(&entry.path(), 0) == 0).then(|| [entry.name.to_string(), file.into(), beside(file)])
    };
    let own: HashSet<String> = found.iter().filter_map(written).flatten().collect();
    found.retain(|entry| !own.contains(&*entry.name));
}

/// Whether a file of this name is what systems leave in folders.
pub(crate) fn is_leftover(name: &str) -> bool {
    matches!(unasked(name, false), Some(Kind::Leftover))
}

/// Whether nobody asks for what has this name.
fn unasked(name: &str, folder: bool) -> Option<Kind> {
    let left = name.starts_with("._") || LEFTOVERS.contains(&name.to_lowercase().as_str());
    match (left, name.starts_with('.')) {
        (true, _) => Some(Kind::Leftover),
        (_, true) => Some(if folder { Kind::HiddenFolder } else { Kind::Hidden }),
        _ => None,
    }
}

/// What was passed over: how many of each kind, and a few of their names.
#[derive(Clone, Debug, Default)]
pub struct Passed(BTreeMap<Kind, (usize, BTreeSet<String>)>);

impl Passed {
    fn count(&mut self, kind: Kind, entry: &Entry) {
        self.counts(kind, entry, 1);
    }

    fn counts(&mut self, kind: Kind, entry: &Entry, some: usize) {
        let (count, names) = self.0.entry(kind).or_default();
        *count += some;
        if names.len() < 3 {
            let end =
                Path::new(&*entry.name).extension().map(|end| format!(".{}", end.to_string_lossy().to_lowercase()));
            names.insert(match kind {
                Kind::Unread | Kind::Film | Kind::Sidecar => end.unwrap_or_else(|| entry.name.to_string()),
                Kind::Unnamed | Kind::Deeper => entry.path().display().to_string(),
                _ => entry.name.to_string(),
            });
        }
    }

    /// Counts an entry of a folder in which it has no place; of a folder the images in it.
    pub fn add(&mut self, entry: &Entry) {
        self.folder(entry, Kind::Beside);
    }

    /// As [`Passed::add`]; a folder without images is of the kind `empty`.
    fn folder(&mut self, entry: &Entry, empty: Kind) {
        let kind = match &*entry.name {
            _ if entry.folder && entry.link => empty,
            _ if entry.folder => match held(&entry.path(), usize::MAX) {
                0 => empty,
                images => return self.counts(Kind::Deeper, entry, images),
            },
            _ if entry.is_image() => Kind::Outside,
            name if ends(name, &UNREAD) => Kind::Unread,
            _ if entry.is_film() => Kind::Film,
            name if ends(name, &SIDECARS) => Kind::Sidecar,
            _ => Kind::Other,
        };
        self.count(kind, entry);
    }

    /// Of it the names that are not UTF-8.
    pub fn unnamed(mut self) -> Passed {
        self.0.retain(|kind, _| *kind == Kind::Unnamed);
        self
    }

    /// Adds what another walk passed over.
    pub fn join(&mut self, other: Passed) {
        for (kind, (count, names)) in other.0 {
            let all = self.0.entry(kind).or_default();
            all.0 += count;
            all.1.extend(names);
        }
    }

    /// How many of what, in one line; nothing where nothing was passed over.
    pub fn note(&self) -> Option<String> {
        let of = |(kind, one, many): &(Kind, &str, &str)| {
            let (count, names) = self.0.get(kind)?;
            let names = names.iter().take(3).map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
            Some(format!("{count} {} ({names})", if *count == 1 { one } else { many }))
        };
        let kinds: Vec<String> = WORDS.iter().filter_map(of).collect();
        (!kinds.is_empty()).then(|| format!("passed over {}", kinds.join(", ")))
    }
}

/// How many images a folder and its folders hold, as far as they can be read; what links lead to is not theirs. Behind `most`
/// it counts no further.
pub fn held(dir: &Path, most: usize) -> usize {
    let (mut count, mut left) = (0, vec![dir.to_path_buf()]);
    while let Some(at) = left.pop() {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let (name, folder) = (entry.file_name(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
            match name.to_str().filter(|name| unasked(name, folder).is_none()) {
                Some(_) if folder => left.push(entry.path()),
                Some(name) if ends(name, &IMAGES) => count += 1,
                _ => {}
            }
            if count > most {
                return count;
            }
        }
    }
    count
}

/// A folder's entries by name, without hidden ones and what systems leave behind, which `passed` counts.
///
/// # Errors
/// Where the folder cannot be read, or a name in it is not UTF-8: two such names could be taken for one.
pub fn list(dir: &Path, passed: &mut Passed) -> Result<Vec<Entry>> {
    let mut here = Passed::default();
    let found = named(dir, &mut here)?;
    if let Some(name) = here.0.get(&Kind::Unnamed).and_then(|(_, names)| names.first()) {
        bail!("{name}: a name that is not UTF-8: rename it");
    }
    passed.join(here);
    Ok(found)
}

/// As [`list`], where names that are not UTF-8 are passed over, too.
pub fn named(dir: &Path, passed: &mut Passed) -> Result<Vec<Entry>> {
    let (root, mut found) = (Arc::new(dir.to_path_buf()), Vec::new());
    let all = once::folder(dir).with_context(|| format!("cannot read the folder {}", dir.display()))?;
    for once::Name { name, folder, link } in all {
        let odd = name.to_str().is_none().then_some(Kind::Unnamed);
        let entry = Entry { name: name.to_string_lossy().into(), root: root.clone(), folder, link };
        match odd.or_else(|| unasked(&entry.name, folder)) {
            _ if !folder && (OWN.contains(&&*entry.name) || files::is_draft(&entry.name)) => {}
            Some(kind) => passed.count(kind, &entry),
            None => found.push(entry),
        }
    }
    without_rows(&mut found);
    found.sort_by(|a: &Entry, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The folders in `dir`; none where it cannot be read.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let all = named(dir, &mut Passed::default()).unwrap_or_default().into_iter();
    all.filter(|entry| entry.folder).map(|entry| entry.path()).collect()
}

/// Whether folders in `dir` hold images.
pub fn is_tree(dir: &Path) -> bool {
    folders(dir).iter().any(|at| named(at, &mut Passed::default()).is_ok_and(|all| all.iter().any(Entry::is_image)))
}

/// What to give where `dir` is no set, in words: of the folders one below it those that fit `below`, else of those two
/// below, else of those one or two above the first that fits `above`.
pub fn near(dir: &Path, below: impl Fn(&Path) -> bool, above: impl Fn(&Path) -> bool) -> Option<String> {
    let once = folders(dir);
    let fitting = |all: Vec<PathBuf>| all.into_iter().filter(|at| below(at)).collect::<Vec<_>>();
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let over = || full.ancestors().skip(1).take(2).find(|at| above(at)).map(Path::to_path_buf);
    let mut found = fitting(once.clone());
    if found.is_empty() {
        found = fitting(once.iter().flat_map(|at| folders(at)).collect());
    }
    found.extend(if found.is_empty() { over() } else { None });
    let (first, rest) = found.split_first()?;
    Some(match rest {
        [] => format!("give {}, which looks like a set", first.display()),
        [other] => format!("give {} or {}: each looks like a set", first.display(), other.display()),
        _ => {
            let last = rest[rest.len() - 1].display();
            format!("give one of {} folders, {} to {last}: each looks like a set", found.len(), first.display())
        }
    })
}

/// Refuses what in `dir` has one of `names` but for capitals, which would be passed over.
///
/// # Errors
/// Where the folder cannot be read; what is spelt otherwise, and how.
pub fn spelt(dir: &Path, names: &[&str]) -> Result<()> {
    let all = named(dir, &mut Passed::default())?;
    for name in names.iter().filter(|name| all.iter().all(|entry| *entry.name != ***name)) {
        if let Some(odd) = all.iter().find(|entry| entry.name.eq_ignore_ascii_case(name)) {
            bail!("{}: call it {name}", odd.path().display());
        }
    }
    Ok(())
}

/// What tells a folder from every other, by whatever path.
type Id = (u64, u64);

fn id(path: &Path) -> Option<Id> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// The folder and those that it lies in, to which links lead round in a circle; and the latter alone.
fn above(dir: &Path) -> (HashSet<Id>, HashSet<Id>) {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let over = full.ancestors().skip(1).filter_map(id);
    (full.ancestors().filter_map(id).collect(), over.collect())
}

/// Why a link to a folder is not followed.
fn unfollowed(link: &Entry, over: &HashSet<Id>) -> Kind {
    if id(&link.path()).is_some_and(|id| over.contains(&id)) { Kind::Above } else { Kind::Again }
}

/// Every image under `dir` and its folders, in order of its name relative to `dir`. A folder is walked once, at its own
/// place where it has one under `dir`, else at the first link to it. A name that is not UTF-8 is passed over.
pub fn images(dir: &Path, passed: &mut Passed) -> Result<Vec<Entry>> {
    let (root, (mut seen, over)) = (Arc::new(dir.to_path_buf()), above(dir));
    let (mut real, mut links, mut found) = (vec![(String::new(), dir.to_path_buf())], Vec::new(), Vec::new());
    loop {
        while !real.is_empty() {
            let read = |(prefix, at): &(String, PathBuf)| {
                let mut passed = Passed::default();
                let mut entries = named(at, &mut passed)?;
                for entry in &mut entries {
                    (entry.name, entry.root) = ([prefix, &*entry.name].concat().into(), root.clone());
                }
                Ok((entries, passed))
            };
            let lists: Vec<(Vec<Entry>, Passed)> = real.par_iter().map(read).collect::<Result<_>>()?;
            real.clear();
            for (entries, more) in lists {
                passed.join(more);
                for entry in entries {
                    match &entry {
                        Entry { folder: true, link: true, .. } => links.push(entry),
                        Entry { folder: true, .. } => {
                            seen.extend(id(&entry.path()));
                            real.push((format!("{}/", entry.name), entry.path()));
                        }
                        _ if entry.is_image() => found.push(entry),
                        _ => passed.add(&entry),
                    }
                }
            }
        }
        // Only when all real folders are known is a link's folder a new one.
        links.sort_by(|a: &Entry, b: &Entry| b.name.cmp(&a.name));
        let Some(entry) = links.pop() else { break };
        match id(&entry.path()) {
            Some(id) if seen.insert(id) => real.push((format!("{}/", entry.name), entry.path())),
            _ => passed.count(unfollowed(&entry, &over), &entry),
        }
    }
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The images of each identity, `FOLDER/NAME`.
pub type Identities = BTreeMap<String, Vec<Arc<str>>>;

/// The folders of `dir` that hold images, with their images: one folder an identity, by its name as it is written, which
/// decides who is held out. A folder stands once, whatever links lead to it; files of `known` names are not passed over but read elsewhere.
///
/// # Errors
/// As [`images`]; two folders whose names differ only in how accents are written.
pub fn identities(dir: &Path, known: &[&str], passed: &mut Passed) -> Result<Identities> {
    let (mut folders, files): (Vec<Entry>, Vec<Entry>) =
        named(dir, passed)?.into_iter().partition(|entry| entry.folder);
    files.iter().filter(|entry| !known.contains(&&*entry.name)).for_each(|entry| passed.add(entry));
    if folders.iter().any(|entry| entry.link) {
        let (mut seen, over) = above(dir);
        seen.extend(folders.iter().filter(|entry| !entry.link).filter_map(|entry| id(&entry.path())));
        folders.retain(|entry| {
            let new = !entry.link || id(&entry.path()).is_some_and(|id| seen.insert(id));
            if !new {
                passed.count(unfollowed(entry, &over), entry);
            }
            new
        });
    }
    let read = |entry: Entry| {
        let mut passed = Passed::default();
        let (images, rest): (Vec<Entry>, Vec<Entry>) =
            named(&entry.path(), &mut passed)?.into_iter().partition(Entry::is_image);
        // By reference: else the names would keep the place of the entries.
        let images: Vec<Arc<str>> =
            images.iter().map(|image| [&entry.name, "/", &image.name].concat().into()).collect();
        rest.iter().for_each(|other| passed.folder(other, Kind::Empty));
        if images.is_empty() && !passed.0.contains_key(&Kind::Deeper) {
            passed.count(Kind::Beside, &entry);
        }
        Ok((entry.name, images, passed))
    };
    let read: Vec<_> = folders.into_par_iter().map(read).collect::<Result<_>>()?;
    let (mut found, mut one) = (BTreeMap::new(), BTreeSet::new());
    for (name, images, more) in read {
        passed.join(more);
        if images.is_empty() {
            continue;
        }
        ensure!(
            one.insert(composed(&name)),
            "{}: two folders are called {name}, accents composed and apart: make them one",
            dir.display()
        );
        found.insert(name.to_string(), images);
    }
    Ok(found)
}
