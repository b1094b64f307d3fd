//! From photos to files of face crops: the verb `crop`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Cursor, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, FromArgMatches};
use image::{ImageFormat, RgbImage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::detect::{Detector, Face};
use super::form::{CropForm, DETECTOR, chosen, found};
use crate::datasets::{Photo, folder};
use crate::device::machine::MachineFlags;
use crate::loader::Loader;
use crate::run::stop::{as_argument, typed};
use crate::say::{Bar, count, note, one_line, plural, print};
use crate::tasks::Own;
use crate::{files, outputs};

/// The verb that cuts faces out of photos.
pub const CROP: Own = (
    "crop",
    "Find faces in photos (MTCNN) and cut them out: a PNG a photo, and all faces as JSON",
    CropFlags::augment_args,
    |of| CropFlags::from_arg_matches(of)?.run(),
);

/// Which photos are cut, and how.
#[derive(Args, Debug)]
pub struct CropFlags {
    /// Folder of photos, searched with its subfolders; those that cannot be read are left out, counted, and named in faces.jsonl
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Folder to write, in which an interrupted start goes on: subfolders and names as in --images, and faces.jsonl with boxes, landmarks and probabilities of all faces
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What is cut out, of the largest face near the middle
    #[arg(long, value_enum, default_value_t = CropForm::Margin14)]
    form: CropForm,
    /// MTCNN's weights
    #[arg(long, value_name = "FILE", default_value = DETECTOR)]
    detector: PathBuf,
    #[command(flatten)]
    machine: MachineFlags,
}

/// A photo's line in faces.jsonl.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    photo: String,
    /// The file's length: another one is another photo.
    bytes: u64,
    /// When its content was changed, in nanoseconds since 1970, when anything of it, and its inode, see [`files::version`].
    #[serde(default)]
    changed: i64,
    /// None of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    touched: Option<i64>,
    /// None of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    /// Its content's BLAKE3 hash: a copy is the same photo. None of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
    /// Width and height of the photo as it is seen upright.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<(u32, u32)>,
    faces: Vec<Face>,
    /// Which of them was cut out, and into what file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chosen: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crop: Option<String>,
    /// A hash of that file: another crop may have come into its place. None of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sum: Option<String>,
    /// Why the photo could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The crop of a photo's line, if it has one.
fn cropped(text: &str) -> Option<String> {
    serde_json::from_str::<Line>(text).ok()?.crop
}

const FILE: &str = "faces.jsonl";

/// What a crop's file says that it is.
const KIND: &str = "crop";

impl CropFlags {
    fn run(&self) -> Result<()> {
        let (images, out) = (&self.images, &self.out);
        let photos: Arc<[Photo]> = folder(images)?.into();
        // Held before its lines are read: who is writing writes lines.
        let _held = outputs::hold_folder(out, &[], &[std::slice::from_ref(images)])?;
        let machine = self.machine.resolve()?;
        let (detector, weights) = files::hashed(&self.detector, || Detector::open(&self.detector, machine.device))?;
        let from = images.canonicalize()?.display().to_string();
        let head = json!({"crops": self.form, "detector": weights[..16], "images": from}).to_string();
        let mut lines = CropFlags::opened(out, &head)?;
        // A line without a crop does not stay, and so takes no name.
        let before = lines.iter().filter(|(_, text)| cropped(text).is_some()).map(|(photo, _)| photo);
        let names = crops(&photos, before)?;
        let gone = self.keep(&mut lines, &photos, &names);
        let left: Vec<usize> = (0..photos.len()).filter(|&i| !lines.contains_key(&*photos[i].name)).collect();
        let folders: BTreeSet<&Path> = left.iter().flat_map(|&i| Path::new(&names[i]).ancestors().skip(1)).collect();
        for at in folders.into_iter().filter(|at| *at != Path::new("")).map(|at| out.join(at)) {
            let place = at.display();
            ensure!(!at.is_symlink(), "--out: {place} leads elsewhere: remove that link, or name a new folder");
            ensure!(!at.is_file(), "--out: {place} is a file, where a folder of crops is to be: move it away");
        }
        let there = left.iter().map(|&i| out.join(&names[i])).filter(|crop| crop.symlink_metadata().is_ok());
        let there: Vec<PathBuf> = there.collect();
        if let Some(folder) = there.iter().find(|crop| crop.is_dir()) {
            bail!("--out: {} is a folder, where a crop is to be: move it away, or name a new folder", folder.display());
        }
        there.iter().try_for_each(|crop| outputs::check(crop, KIND)).context("--out")?;
        if let Some(first) = there.first() {
            let (many, has) = (count(there.len(), "crop"), plural(there.len(), "has", "have"));
            let first = first.display();
            note(format!(
                "{many} {has} no line in {FILE}, the first {first}: made anew; to leave a photo out, move it out of --images"
            ));
        }
        let place = out.join(FILE);
        let write = |lines: &BTreeMap<String, String>| {
            let text: Vec<&str> = std::iter::once(&head).chain(lines.values()).map(String::as_str).collect();
            files::write_atomic(&place, [&text.join("\n"), "\n"].concat().as_bytes())
        };
        write(&lines)?;
        let cannot = |error| files::cannot(&place, error);
        let mut log = files::own(&place).map_err(cannot)?;
        log.seek(SeekFrom::End(0)).map_err(cannot)?;
        let mut bar = Bar::new("crop", photos.len() as u64, (photos.len() - left.len()) as u64);
        let (form, at, own, within) = (self.form, out.clone(), photos.clone(), bar.within());
        let loader = Loader::new(0..left.len() as u64, machine.workers, machine.workers + 1, move |index| {
            let index = left[index as usize];
            cut(&own[index], |image, name| found(&detector, image, name, &within), form, (&at, &names[index]))
        })?;
        for line in loader {
            let line = line?;
            let text = sealed(&serde_json::to_string(&line)?);
            log.write_all(format!("{text}\n").as_bytes()).map_err(cannot)?;
            lines.insert(line.photo, text);
            bar.step(1);
        }
        drop(bar);
        write(&lines)?; // in order
        lines.retain(|photo, _| !gone.contains(photo));
        self.say(lines.values())
    }

    /// What earlier starts wrote into faces.jsonl of the folder `out`, whose first line must be `head`: lines by their photos,
    /// without those that are not as they were written, which is said.
    ///
    /// # Errors
    /// Where it is another command's, or of other photos or flags.
    pub fn opened(out: &Path, head: &str) -> Result<BTreeMap<String, String>> {
        let text = match files::text(&out.join(FILE)) {
            Ok(text) => text,
            Err(error) if out.join(FILE).exists() => bail!("{}: {error}: name another --out", out.join(FILE).display()),
            Err(_) => {
                let other = |entry: &fs::DirEntry| !entry.file_name().as_encoded_bytes().starts_with(b".");
                let other = fs::read_dir(out).into_iter().flatten().flatten().find(other);
                if let Some(other) = other {
                    bail!(
                        "--out {} holds {} and no {FILE}: restore that, or name a new folder",
                        out.display(),
                        other.path().display()
                    );
                }
                String::new()
            }
        };
        // The last line may be cut.
        let mut whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let before = whole.next();
        let ours = |head: &str| serde_json::from_str::<Value>(head).is_ok_and(|head| head["crops"].is_string());
        ensure!(
            before.map_or(text.is_empty(), ours),
            "{} is none of this command's: name another --out, or move it away",
            out.join(FILE).display()
        );
        ensure!(
            before.unwrap_or(head) == head,
            "--out {}: its crops are of another --images, --form or --detector (the first line of {FILE} says which): name a \
             new folder",
            out.display()
        );
        let line = |text: &str| {
            Some((serde_json::from_str::<Line>(text).ok().filter(|_| is_sealed(text))?.photo, text.into()))
        };
        let (mut lines, mut others) = (BTreeMap::new(), 0);
        whole.map(line).for_each(|line| match line {
            Some((photo, text)) => drop(lines.insert(photo, text)),
            None => others += 1,
        });
        if others > 0 {
            note(format!(
                "{} of {} {} not as this command wrote, and {}: their photos are looked at again",
                count(others, "line"),
                out.join(FILE).display(),
                plural(others, "is", "are"),
                plural(others, "goes", "go")
            ));
        }
        Ok(lines)
    }

    /// Keeps of `lines` what need not be done again; crops of photos that changed go. Those of photos that are gone stay, with
    /// their lines, of which it gives the photos; what its user may have changed, or put in a crop's place, stays too.
    fn keep(&self, lines: &mut BTreeMap<String, String>, photos: &[Photo], names: &[String]) -> BTreeSet<String> {
        let now: BTreeMap<&str, (&Photo, Option<_>, &String)> =
            photos.iter().zip(names).map(|(photo, name)| (&*photo.name, (photo, file_of(photo), name))).collect();
        let path = |name: &str| {
            let ours = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
            ours.then(|| self.out.join(name))
        };
        let changed = Mutex::new(Vec::new());
        let stays = |(photo, text): &(String, String)| {
            let Ok(line) = serde_json::from_str::<Line>(text) else { return false };
            let same = now.get(photo.as_str()).is_some_and(|&(_, file, name)| {
                file.is_some_and(|(bytes, changed, touched, inode)| {
                    let then = (line.bytes, line.changed, line.touched, line.inode);
                    then == (bytes, changed, Some(touched), Some(inode))
                }) && line.crop.as_ref().is_none_or(|crop| crop == name)
            });
            let file = line.crop.as_deref().and_then(path);
            // What a detector found is not written by hand.
            let sound = line.chosen == line.size.and_then(|size| chosen(&line.faces, size))
                && line.chosen.is_some() == line.crop.is_some();
            let Some(file) = file else { return same && sound && line.error.is_none() };
            // A power cut leaves empty files.
            let Some(bytes) = files::read(&file).ok().filter(|bytes| !bytes.is_empty()) else { return false };
            if !now.contains_key(photo.as_str()) {
                return sound;
            }
            let own = match &line.sum {
                Some(sum) => hash(&bytes) == *sum,
                None => outputs::made(&file, KIND),
            };
            if !own {
                changed.lock().unwrap_or_else(PoisonError::into_inner).push(file);
                return true;
            }
            if !(same && sound) {
                let _ = fs::remove_file(file);
            }
            same && sound
        };
        let current = |(photo, text): (String, String)| {
            let newer = now.get(photo.as_str()).and_then(|&(photo, file, _)| renewed(&text, photo, file?));
            (photo, newer.unwrap_or(text))
        };
        *lines = std::mem::take(lines).into_par_iter().map(current).filter(stays).collect();
        let changed = changed.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = changed.iter().min() {
            let (many, rm) = (count(changed.len(), "crop"), typed(["rm".into(), as_argument(first)]));
            note(format!(
                "{many} not as written here, and kept: to have one made anew, remove it and say the same again: {rm}"
            ));
        }
        for at in names.iter().filter_map(|name| path(name)?.parent().map(Path::to_path_buf)).collect::<BTreeSet<_>>() {
            files::sweep(&at);
        }
        let gone: BTreeSet<String> = lines.keys().filter(|photo| !now.contains_key(photo.as_str())).cloned().collect();
        if let Some(first) = gone.first().and_then(|photo| path(&cropped(&lines[photo])?)) {
            let (many, stay) = (count(gone.len(), "crop"), plural(gone.len(), "stays", "stay"));
            let rm = typed(["rm".into(), as_argument(&first)]);
            note(format!(
                "{many} of photos that are no longer in --images {stay}: to be rid of one, remove it and say the same again: {rm}"
            ));
        }
        gone
    }

    fn say<'a>(&self, lines: impl ExactSizeIterator<Item = &'a String>) -> Result<()> {
        let (all, mut cut) = (lines.len(), 0);
        let (mut empty, mut unread) = (Vec::new(), Vec::new());
        for line in lines {
            match serde_json::from_str(line)? {
                Line { error: Some(error), .. } => unread.push(error),
                Line { crop: None, photo, .. } => empty.push(photo),
                _ => cut += 1,
            }
        }
        let some = |of: &[String], what: &str| match of {
            [] => String::new(),
            [only] => format!("; {what}: {only}"),
            [first, ..] => format!("; {what}: {}, the first {first}", of.len()),
        };
        let rest = [some(&empty, "no face"), some(&unread, "not read")].concat();
        let images = self.images.display();
        let all = count(all, "photo");
        ensure!(cut > 0, "none of {all} under {images} gave a face{rest}: name other --images");
        let (side, out) = (self.form.side(), self.out.display());
        let cut = count(cut, "face");
        print(format!("{cut} of {side} x {side} pixels out of {all}, and {FILE}, in {out}{rest}"))
    }
}

/// The version of a photo's file.
fn file_of(photo: &Photo) -> Option<files::Version> {
    Some(files::version(&photo.source.path()?.metadata().ok()?))
}

/// The line `text` with the version that the photo's `file` has now, where its content is that of the line: a copy has another
/// time and inode. What an older version wrote is taken by length and time of content alone.
fn renewed(text: &str, photo: &Photo, file: files::Version) -> Option<String> {
    let line: Line = serde_json::from_str(text).ok()?;
    let (bytes, changed, touched, inode) = file;
    let (touched, inode) = (Some(touched), Some(inode));
    if (line.bytes, line.changed) != (bytes, changed) || (line.touched, line.inode) == (touched, inode) {
        return None;
    }
    let blake3 = files::hash(&photo.source.path()?).ok();
    let same = blake3.is_some() && (line.touched.is_none() || line.blake3 == blake3);
    let line = same.then_some(Line { touched, inode, blake3, ..line })?;
    Some(sealed(&serde_json::to_string(&line).ok()?))
}

/// The names of the photos' crops: with `.png` for the end of theirs, or behind it where two would have one name, one of them,
/// it may be, of the photos `before`.
fn crops<'a>(photos: &'a [Photo], before: impl Iterator<Item = &'a String>) -> Result<Vec<String>> {
    let bare = |photo: &str| Path::new(photo).with_extension("png").to_string_lossy().into_owned();
    let mut each: BTreeMap<String, usize> = BTreeMap::new();
    let all: BTreeSet<&str> = photos.iter().map(|photo| &*photo.name).chain(before.map(String::as_str)).collect();
    all.into_iter().for_each(|photo| *each.entry(bare(photo)).or_default() += 1);
    let name = |photo: &str| if each[&bare(photo)] > 1 { format!("{photo}.png") } else { bare(photo) };
    let names: Vec<String> = photos.iter().map(|photo| name(&photo.name)).collect();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for name in &names {
        ensure!(seen.insert(name), "two photos would become {name}: rename one");
    }
    for (photo, name) in photos.iter().zip(&names) {
        let above = Path::new(name).ancestors().skip(1).filter_map(Path::to_str).find(|at| seen.contains(*at));
        if let Some(above) = above {
            bail!("{}: another photo would become {above}, the folder of its crop: rename that photo", photo.name);
        }
    }
    Ok(names)
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].into()
}

/// The key of a line's hash, its last.
const SEAL: &str = ",\"seal\":\"";

/// A line with a hash of itself.
fn sealed(text: &str) -> String {
    format!("{}{SEAL}{}\"}}", &text[..text.len() - 1], hash(text.as_bytes()))
}

/// Whether a line is as it was written; an older version's has no hash.
fn is_sealed(text: &str) -> bool {
    text.rsplit_once(SEAL).is_none_or(|(line, _)| sealed(&format!("{line}}}")) == text)
}

/// Writes the crop of a photo, where it has a face, and gives its line.
fn cut(
    photo: &Photo,
    faces: impl Fn(&RgbImage, &str) -> Vec<Face>,
    form: CropForm,
    (out, name): (&Path, &str),
) -> Result<Line> {
    let file = file_of(photo);
    let (bytes, changed, ..) = file.unwrap_or_default();
    let mut line = Line {
        photo: photo.name.to_string(),
        bytes,
        changed,
        touched: file.map(|(_, _, touched, _)| touched),
        inode: file.map(|(.., inode)| inode),
        blake3: None,
        size: None,
        faces: Vec::new(),
        chosen: None,
        crop: None,
        sum: None,
        error: None,
    };
    // All of a folder's are files.
    let path = photo.source.path().unwrap_or_default();
    let image = match files::hashed(&path, || photo.source.image()) {
        Ok((image, blake3)) => {
            line.blake3 = Some(blake3);
            image
        }
        Err(error) => return Ok(Line { error: Some(one_line(&error)), ..line }),
    };
    (line.size, line.faces) = (Some(image.dimensions()), faces(&image, &photo.name));
    line.chosen = chosen(&line.faces, image.dimensions());
    if let Some(face) = line.chosen {
        let crop: RgbImage = form.view(&line.faces[face], image.dimensions()).of(&image)?;
        // What is embedded from the file is then what is embedded on the fly.
        let mut bytes = Vec::new();
        crop.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
        let bytes = outputs::marked(bytes, KIND);
        files::write_whole(&out.join(name), &bytes)?;
        (line.crop, line.sum) = (Some(name.into()), Some(hash(&bytes)));
    }
    Ok(line)
}
