//! Rows of a user's photos, piece by piece. A piece is kept in a file as soon as it is there: what was killed goes on, photos
//! that did not change are not looked at again, and memory holds what is asked for and no more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rayon::prelude::*;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::embed::{EMBEDDINGS, HELD, on_disk, say_alike};
use super::{Brought, Rows};
use crate::collectives::World;
use crate::datasets::{self, Decode, Photo, Source};
use crate::files;
use crate::folders::{self, Passed};
use crate::headings::Heading;
use crate::outputs::{self, MADE_BY, mark};
use crate::run::config::Config;
use crate::run::stop::{Signals, Stopped};
use crate::say::{Bar, note, say, thousands};
use crate::source::View;
use crate::weights::{self, Files};

/// Photos of a piece, the first one's first. There are few sizes, so that the same photos mostly give the same pieces on an
/// idle machine and on a busy one.
const PIECES: [usize; 3] = [16, 64, 256];
/// So long the work on a piece is to take, where it is not of the least size: what a kill loses.
const KEPT_AFTER: Duration = Duration::from_secs(20);

/// Photos of the next piece, after so many `photos` took so long: a multiple of `batch`, as they go through the network, so
/// that batches lie alike whatever the pieces.
pub fn next_piece(photos: usize, took: Duration, batch: usize) -> usize {
    let (each, sizes) = (took.as_secs_f64() / photos as f64, PIECES.map(|size| size.next_multiple_of(batch)));
    let fits = |size: &&usize| **size as f64 * each <= KEPT_AFTER.as_secs_f64();
    *sizes.iter().rfind(fits).unwrap_or(&sizes[0])
}

/// What a piece's file says that it is.
const KIND: &str = "piece";

/// What the list of photos that cannot be read is called.
pub const NOT_READ: &str = "not read";
/// What the list of photos without a face is called.
pub const NO_FACE: &str = "no face";

/// What is done with a user's photos, whatever the network.
#[derive(Args, Debug, Clone)]
pub struct Keeping {
    /// Leave out the photos that cannot be used: they have no row, and what is written names them
    #[arg(long, help_heading = Heading::Machine)]
    pub skip_unreadable: bool,
    /// Folder in which what the network says of photos is kept piece by piece: what was interrupted goes on, and photos that did not change are not looked at again; verbs may share it [default: kept in the folder --out, or FILE.kept]
    #[arg(long, value_name = "DIR", help_heading = Heading::Machine)]
    pub kept: Option<PathBuf>,
}

impl Keeping {
    /// The folder of `--kept`, else `usual`; `read` are the folders of photos.
    ///
    /// # Errors
    /// Where it, or `usual`, is no folder; where it is a run's, or one of photos.
    pub fn folder(&self, usual: PathBuf, read: &[PathBuf]) -> Result<PathBuf> {
        let Some(kept) = &self.kept else {
            let stands = usual.symlink_metadata().ok().and_then(|_| files::in_place(&usual));
            return stands.map_or(Ok(usual), Err);
        };
        let at = kept.display();
        let found = std::fs::metadata(kept).ok().filter(|found| !found.is_dir());
        found.map_or(Ok(()), |found| bail!("--kept {at}: it is {}: name a folder", files::kind(&found)))?;
        ensure!(Config::read(kept).is_err(), "--kept {at}: it is a run's folder: name another");
        outputs::apart("kept", kept, read)?;
        let mut inside = folders::named(kept, &mut Passed::default()).into_iter().flatten();
        ensure!(!inside.any(|entry| entry.is_image()), "--kept {at}: it is a folder of photos: name another");
        Ok(kept.clone())
    }
}

/// Goes up with every change of what a network says of a photo, or of how it is kept.
const FORM: u64 = 3;

/// Where rows are kept.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// The folder that verbs may share: rows have one of their own in it.
    pub folder: PathBuf,
    /// What rows depend on beside files,
    pub on: Value,
    /// those of their network, known by the time when it is asked,
    pub read: Files,
    /// and what finds faces.
    pub detector: Option<(PathBuf, String)>,
}

impl Kept {
    /// The folder of these rows.
    pub fn at(&self) -> PathBuf {
        let mut read: Vec<String> = self.read.borrow().values().cloned().collect();
        read.sort();
        let detector = self.detector.as_ref().map(|(_, hash)| hash);
        let known = json!([env!("CARGO_PKG_VERSION"), FORM, self.on, read, detector]).to_string();
        self.folder.join(&blake3::hash(known.as_bytes()).to_hex()[..16])
    }

    /// Errors where the detector is no longer what it was: rows would be another's.
    fn check(&self) -> Result<()> {
        let Some((file, hash)) = &self.detector else { return Ok(()) };
        let same = files::hash(file).is_ok_and(|now| now == *hash);
        ensure!(same, "{} changed while it was used: say the same again", file.display());
        Ok(())
    }
}

/// What a piece says of a photo: what the file was, its row if it has one, and through what it was seen.
type Held = (String, Option<usize>, Vec<View>);

/// Metadata of names, where there are any.
pub fn left_out(what: &str, names: &[impl AsRef<str>]) -> Vec<(String, String)> {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    if names.is_empty() { Vec::new() } else { vec![(what.to_string(), json!(names).to_string())] }
}

/// A photo's file by its one name.
pub fn full(photo: &Photo) -> Option<PathBuf> {
    photo.source.path()?.canonicalize().ok()
}

/// A photo's file as it is now: its place and version.
fn stamp(photo: &Photo) -> String {
    let path = full(photo);
    let found = path.as_ref().and_then(|path| path.metadata().ok());
    let place = path.map_or_else(|| photo.name.to_string(), |path| format!("{path:?}"));
    let text = format!("{:?}", (place, found.as_ref().map(files::version)));
    blake3::hash(text.as_bytes()).to_hex()[..32].to_string()
}

/// What the rows that are kept in the folder `at` depend on: its name, see [`Kept::at`].
fn known(at: &Path) -> String {
    at.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Through what a photo is seen, the last first.
fn views(mut source: &Source) -> Vec<View> {
    let mut all = Vec::new();
    while let Source::Through(seen) = source {
        all.push(*seen.1);
        source = &seen.0;
    }
    all
}

/// Pieces, and where in them is what of which photo.
struct Pieces {
    files: Vec<PathBuf>,
    of: HashMap<String, (usize, Option<usize>, Vec<View>)>,
    /// Those that cannot be used, and the photos in them where they tell.
    unusable: Vec<(PathBuf, Option<Vec<Held>>)>,
}

/// Whether a piece that cannot be read whole is one of ours for the rows in the folder `at`, by what its head says.
fn is_damaged(file: &Path, at: &Path) -> bool {
    let ours = match weights::metadata(file) {
        Some(said) => {
            said.get(MADE_BY).is_some_and(|by| *by == mark(KIND)) && said.get("of").is_some_and(|of| *of == known(at))
        }
        None => {
            let name = file.file_stem().unwrap_or_default().as_encoded_bytes();
            let mark = json!({MADE_BY: mark(KIND)}).to_string();
            let mark = mark.trim_matches(['{', '}']).as_bytes();
            let named = name.len() >= 16 && name[..16].iter().all(u8::is_ascii_hexdigit);
            // It stands among the first of a head.
            let mut start = Vec::new();
            let read = files::open(file).and_then(|file| file.take(1 << 10).read_to_end(&mut start));
            named && read.is_ok() && start.windows(mark.len()).any(|part| part == mark)
        }
    };
    ours && !weights::is_whole(file)
}

impl Pieces {
    fn open(at: &Path) -> Pieces {
        let entries = std::fs::read_dir(at).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).collect();
        files.sort();
        let mut pieces = Pieces { files: Vec::new(), of: HashMap::new(), unusable: Vec::new() };
        for file in files {
            // Of this network, whatever folder it was copied into.
            let of =
                |held: &serde_json::Map<String, serde_json::Value>| held.get("of").is_some_and(|of| *of == known(at));
            let said = weights::metadata(&file);
            // What is damaged may be of any length.
            let whole = said.as_ref().is_some_and(of) && weights::is_whole(&file);
            let held = said.and_then(|said| serde_json::from_str(said.get("photos")?.as_str()?).ok());
            match held {
                Some(held) if whole => pieces.take(file, held),
                held => pieces.unusable.push((file, held)),
            }
        }
        pieces
    }

    /// Says which pieces cannot be used, where photos of these stamps are looked at for it.
    fn say_unusable(&self, again: &HashSet<&String>) {
        let missed = |held: &Vec<Held>| held.iter().any(|(stamp, ..)| again.contains(stamp));
        for (file, held) in &self.unusable {
            if held.as_ref().map_or(!again.is_empty(), missed) {
                note(format!("{} is damaged, or of another network: its photos are looked at again", file.display()));
            }
        }
    }

    fn take(&mut self, file: PathBuf, held: Vec<Held>) {
        let piece = self.files.len();
        self.files.push(file);
        self.of.extend(held.into_iter().map(|(stamp, row, views)| (stamp, (piece, row, views))));
    }

    /// Writes a piece of photos of these stamps into the folder `at`.
    fn add(&mut self, at: &Path, stamps: Vec<String>, rows: &Rows) -> Result<()> {
        let mut held: Vec<Held> = stamps.into_iter().map(|stamp| (stamp, None, Vec::new())).collect();
        for (row, (&place, photo)) in rows.places.iter().zip(&rows.photos).enumerate() {
            (held[place].1, held[place].2) = (Some(row), views(&photo.source));
        }
        let text = serde_json::to_string(&held)?;
        // By its content: who keeps the same at the same time writes the same. What is there and not ours stays.
        let named = |count: u64| {
            let more = if count > 1 { format!("-{count}") } else { String::new() };
            at.join(format!("{}{more}.safetensors", &blake3::hash(text.as_bytes()).to_hex()[..16]))
        };
        let free = |file: &PathBuf| outputs::check(file, KIND).is_ok();
        let file = (1..100).map(named).find(free).unwrap_or_else(|| named(1));
        std::fs::create_dir_all(at).map_err(|error| files::cannot(at, error))?;
        let metadata = [("photos", text.clone()), ("of", known(at)), (MADE_BY, mark(KIND))];
        let metadata = HashMap::from(metadata.map(|(key, text)| (key.to_string(), text)));
        weights::save(&file, &rows.tensors, Some(metadata))?;
        self.take(file, held);
        Ok(())
    }
}

impl Brought {
    /// What `work` says of the photos, some at a time, in their order; rows that are kept are not asked for again. With
    /// `skip`, photos that `image` does not give are left out; those and photos that `work` gives no row of stand in the
    /// metadata, as [`NOT_READ`] and [`NO_FACE`]. The network takes `batch` photos at once.
    ///
    /// # Errors
    /// Where a photo cannot be read and may not be left out, none has a row, or nothing can be kept; and those of `work`.
    pub fn rows(
        &self,
        skip: bool,
        image: &Decode<'_>,
        batch: usize,
        work: &dyn Fn(Vec<Photo>, &mut Bar) -> Result<Rows>,
    ) -> Result<Rows> {
        let temporary = tempfile::tempdir().map_err(files::no_temporary)?;
        let at = &self.kept.as_ref().map_or(temporary.path().into(), Kept::at);
        files::check(&at.join("x.safetensors")).context("--kept")?;
        let stamps: Vec<String> = self.photos.par_iter().map(stamp).collect();
        let (mut pieces, all) = (Pieces::open(at), self.photos.len());
        let mut asked = HashSet::new();
        let mut left: Vec<usize> = (0..all).collect();
        left.retain(|&i| !pieces.of.contains_key(&stamps[i]) && asked.insert(&stamps[i]));
        pieces.say_unusable(&left.iter().map(|&i| &stamps[i]).collect());
        let known = all - left.len();
        if !pieces.of.is_empty() && known > 0 {
            say(format!("{} of {} known already, from {}", thousands(known), self.all(), at.display()));
        }
        let photos: Vec<&Photo> = left.iter().map(|&i| &self.photos[i]).collect();
        if skip {
            let gone = datasets::unusable(&photos, image);
            datasets::left_out(&gone, all, &self.all())?;
            let mut place = 0..;
            left.retain(|_| place.next().is_some_and(|place| !gone.contains_key(&place)));
        } else {
            datasets::readable(photos)?;
        }
        let mut bar = Bar::new("embed", all as u64, (all - left.len()) as u64);
        // A signal then waits for the piece in hand, where that stays.
        let signals = self.kept.as_ref().map(|_| Signals::listen()).transpose()?;
        let (mut rest, mut size) = (&left[..], PIECES[0].next_multiple_of(batch));
        while !rest.is_empty() {
            let (part, begun) = (&rest[..size.min(rest.len())], Instant::now());
            let rows = work(part.iter().map(|&i| self.photos[i].clone()).collect(), &mut bar)?;
            self.kept.as_ref().map_or(Ok(()), Kept::check)?;
            pieces.add(at, part.iter().map(|&i| stamps[i].clone()).collect(), &rows)?;
            (rest, size) = (&rest[part.len()..], next_piece(part.len(), begun.elapsed(), batch));
            if let Some(signal) = signals.as_ref().and_then(Signals::stop) {
                let (done, at) = (thousands(all - rest.len()), at.display());
                bail!(Stopped { signal, kept: format!("{done} of {} are kept in {at}", self.all()), several: false });
            }
        }
        drop(bar);
        signals.into_iter().for_each(Signals::close);
        // Their photos stand in other pieces now.
        for (file, _) in pieces.unusable.iter().filter(|(file, _)| is_damaged(file, at)) {
            let _ = std::fs::remove_file(file);
        }
        self.collected(&pieces, &stamps)
    }

    /// All rows out of their pieces.
    fn collected(&self, pieces: &Pieces, stamps: &[String]) -> Result<Rows> {
        let (mut rows, mut unread, mut empty) = (Rows::default(), Vec::new(), Vec::new());
        // Of a piece the rows that are wanted, and where they go.
        let mut wanted: BTreeMap<usize, (Vec<i64>, Vec<i64>)> = BTreeMap::new();
        for (place, (photo, stamp)) in self.photos.iter().zip(stamps).enumerate() {
            match pieces.of.get(stamp) {
                None => unread.push(&*photo.name),
                Some((_, None, _)) => empty.push(&*photo.name),
                Some((piece, Some(row), views)) => {
                    let (from, to) = wanted.entry(*piece).or_default();
                    from.push(*row as i64);
                    to.push(rows.places.len() as i64);
                    let through = |source: Source, view: &View| Source::Through(Box::new((source, Arc::new(*view))));
                    let source = views.iter().rev().fold(photo.source.clone(), through);
                    rows.places.push(place);
                    rows.names.push(photo.name.to_string());
                    rows.photos.push(Photo { source, ..photo.clone() });
                }
            }
        }
        let all = self.all();
        if let Some(first) = empty.first() {
            ensure!(!rows.places.is_empty(), "no face in any of {all}, e.g. {first}: give other --images");
            note(format!("{} of {all} without a face and left out, the first {first}", thousands(empty.len())));
        }
        for (piece, (from, to)) in wanted {
            let [from, to] = [from, to].map(|rows| Tensor::from_slice(&rows));
            let file = &pieces.files[piece];
            let named = weights::read(file).with_context(|| format!("{}: remove it", file.display()))?;
            let lacks = || format!("{} lacks rows that it says it has: remove it", file.display());
            for (name, x) in named {
                let x = x.f_index_select(0, &from).ok().filter(|x| x.dim() > 0).with_context(lacks)?;
                if !rows.tensors.iter().any(|(known, _)| *known == name) {
                    let (count, width) = (rows.places.len(), x.size()[1..].iter().product::<i64>());
                    let size = [&[count as i64], &x.size()[1..]].concat();
                    let fits = x.kind() != Kind::Float || 4 * count * width as usize <= HELD;
                    let into = if fits {
                        Tensor::zeros(&size[..], (x.kind(), Device::Cpu))
                    } else {
                        on_disk(count, width, &World::alone())?.0.view(&size[..])
                    };
                    rows.tensors.push((name.clone(), into));
                }
                for (_, into) in rows.tensors.iter_mut().filter(|(known, _)| *known == name) {
                    into.f_index_copy_(0, &to, &x).map(drop).ok().with_context(lacks)?;
                }
            }
        }
        rows.tensors.iter().filter(|(name, _)| name == EMBEDDINGS).for_each(|(_, x)| say_alike(x));
        rows.metadata = [left_out(NOT_READ, &unread), left_out(NO_FACE, &empty)].concat();
        Ok(rows)
    }
}
