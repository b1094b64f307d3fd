//! Embeddings of photos by a trained network: test views averaged, tracklets averaged, in bounded memory.

use std::ffi::OsStr;
use std::fs::File;
use std::io::BufWriter;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::{ffi::OsStrExt, fs::MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tch::{Device, Kind, Tensor};

use super::Rows;
use crate::collectives::World;
use crate::datasets::Photo;
use crate::loader::Loader;
use crate::models::{Network, channels_last, hold_weights};
use crate::outputs::{self, MADE_BY, beside, mark};
use crate::real::numbers;
use crate::say::{Bar, count, first_line, note};
use crate::transfer::{Fetch, stage, upload};
use crate::transform::{Recipe, TestViews};

/// How photos are embedded.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// Size and normalisation of the network's input.
    pub recipe: Recipe,
    /// Test-time augmentation (1703.07737, Table 5): the embeddings of all views are averaged, not normalised again.
    pub views: TestViews,
    /// Where the network lives.
    pub device: Device,
    /// Network inputs a forward pass; each photo takes as many as it has views.
    pub batch: usize,
    /// How many threads load photos.
    pub workers: usize,
    /// bfloat16 autocast for the network.
    pub amp: bool,
    /// Whether photos of a user's folder that cannot be read are left out.
    pub skip_unreadable: bool,
    /// The processes at work: each embeds a share of the photos, and all have all embeddings in the end.
    pub world: World,
    /// Bytes of embeddings that memory holds. More lie in a file of the folder for temporary files, one a machine.
    pub held: usize,
}

/// Bytes of embeddings that memory holds, where nothing else is said.
pub const HELD: usize = 1 << 30;
/// Numbers of embeddings that are on their way to such a file at once, at most.
const ON_THE_WAY: usize = 1 << 24;

/// How many inputs of `height` x `width` pixels go through a network at once where nothing is kept for a gradient: on a CPU
/// so many that what a layer puts out (64 channels of half the size, where networks are largest) stays about as large as a
/// cache.
pub fn at_once(height: u32, width: u32, device: Device) -> usize {
    const MOST: u64 = 128;
    let largest = 64 * u64::from(height) * u64::from(width);
    let fitting = if device == Device::Cpu { (32 << 20) / largest.max(1) } else { MOST };
    fitting.clamp(4, MOST) as usize
}

impl Embedding {
    /// Embeds `photos`, to f32 `[N, D]` on the CPU in their order. Errors name the photo that cannot be read.
    pub fn photos(&self, network: &dyn Network, photos: &[Photo], what: &str) -> Result<Tensor> {
        if self.world.size() > 1 {
            let names: Vec<&str> = photos.iter().map(|photo| &*photo.name).collect();
            let asked = "the photos to embed, or how: give every process the same data and flags";
            self.world.agree(asked, &(names, format!("{:?} {:?} {}", self.views, self.recipe, self.amp)))?;
        }
        let width = network.width() as usize;
        let is_held = self.holds(photos.len(), network);
        let on_the_way = ON_THE_WAY.min(self.held / 4) / width.max(1);
        let most = if is_held { photos.len() } else { on_the_way.max(self.photos_at_once() * self.world.size()) };
        let parts: Vec<&[Photo]> = photos.chunks(most.max(1)).collect();
        // Fewer photos than processes: each embeds them all.
        let shares = |photos: &[Photo]| self.world.shares(photos.len(), 1).ok();
        let own = |photos: &[Photo]| shares(photos).map_or(0..photos.len(), |shares| shares.own());
        let mut bar = Bar::new(what, parts.iter().map(|part| own(part).len() as u64).sum(), 0);
        let mut embed = |photos: &[Photo]| -> Result<Tensor> {
            let x = self.own(network, &photos[own(photos)], &mut bar)?;
            shares(photos).map_or_else(|| Ok(x.shallow_clone()), |shares| self.world.gather(&x, &shares))
        };
        if is_held {
            return embed(photos).inspect(say_alike);
        }
        let ((all, fills), mut from) = (on_disk(photos.len(), network.width(), &self.world)?, 0);
        for part in parts {
            let x = embed(part)?;
            if fills {
                all.narrow(0, from, part.len() as i64).copy_(&x);
            }
            from += part.len() as i64;
        }
        // Of another's file.
        self.world.barrier()?;
        say_alike(&all);
        Ok(all)
    }

    /// Whether memory holds the embeddings of so many photos.
    pub(super) fn holds(&self, photos: usize, network: &dyn Network) -> bool {
        photos * network.width() as usize * 4 <= self.held
    }

    /// Photos that go through the network at once.
    pub(super) fn photos_at_once(&self) -> usize {
        (self.batch / self.views.count()).max(1)
    }

    /// As [`Embedding::photos`], by this process alone.
    pub(super) fn own(&self, network: &dyn Network, photos: &[Photo], bar: &mut Bar) -> Result<Tensor> {
        let views = self.views.count();
        let chunk = self.photos_at_once();
        let mut rows = Fetch::default();
        let _held = hold_weights();
        for images in self.chunks(photos, self.views, chunk)? {
            let images = channels_last(&upload(&images?, self.device));
            let x = tch::no_grad(|| crate::device::autocast(self.amp, self.device, || network.forward(&images, false)));
            let x = x.to_kind(Kind::Float).view([-1, views as i64, network.width()]).mean_dim(1, false, None::<Kind>);
            bar.step(x.size()[0] as u64);
            rows.push(&x);
        }
        Ok(rows.all()?.unwrap_or_else(|| Tensor::zeros([0, network.width()], (Kind::Float, Device::Cpu))))
    }

    /// The views of `photos`, a prefetched chunk of photos after another: f32 `[n · views, 3, height, width]` on the host.
    pub(super) fn chunks(&self, photos: &[Photo], views: TestViews, chunk: usize) -> Result<Loader<Tensor>> {
        let shared: Arc<[Photo]> = photos.into();
        let count = photos.len().div_ceil(chunk) as u64;
        let Embedding { recipe, device, workers, .. } = *self;
        Loader::new(0..count, workers, workers + 1, move |index| {
            let from = index as usize * chunk;
            let photos = &shared[from..shared.len().min(from + chunk)];
            Ok(stage(recipe.test_batch(photos.iter().map(|photo| &photo.source), views)?, device))
        })
    }
}

/// What photos are from which nothing can be told.
pub(super) const ALIKE: &str =
    "copies of one, or the network tells none from another (its training collapsed, or its weights are damaged)";

/// Says so where three photos or more have one row: nothing can be told from `x` `[N, D]`.
pub(super) fn say_alike(x: &Tensor) {
    let first = |rows: i64| x.narrow(0, 0, rows).eq_tensor(&x.narrow(0, 0, 1)).all().int64_value(&[]) != 0;
    let n = x.size()[0];
    if n > 2 && first(3) && first(n) {
        note(format!("all {} have one embedding: they are {ALIKE}", count(n as usize, "photo")));
    }
}

/// f32 `[rows, width]` in a file of the folder for temporary files, mapped, of which the system keeps in memory what fits; and
/// whether this process is to fill it: those of `world` that see one folder on one machine share one. It has no name, and is
/// gone with the tensors or the processes.
pub(super) fn on_disk(rows: usize, width: i64, world: &World) -> Result<(Tensor, bool)> {
    let (folder, numbers) = (std::env::temp_dir(), rows as i64 * width);
    let cannot = || {
        let mib = (4 * numbers) >> 20;
        format!("{} cannot hold {mib} MiB of embeddings: name a folder on a disk with room by TMPDIR", folder.display())
    };
    let own = [place(&folder).unwrap_or(-(world.rank() as f64) - 1.)];
    let first = world.gather_lists(&own)?.iter().position(|other| *other == own).unwrap_or(world.rank());
    let made = || {
        let prefix = format!("rankle-{}-", std::process::id());
        tempfile::Builder::new().prefix(&prefix).tempfile_in(&folder)
    };
    let named = (first == world.rank()).then(made).transpose().with_context(cannot)?;
    let fills = named.is_some();
    let name = named.iter().filter_map(|file| file.path().file_name()).flat_map(|name| name.as_bytes());
    let name = world.gather_lists(&name.map(|&byte| f64::from(byte)).collect::<Vec<_>>())?.swap_remove(first);
    let name: Vec<u8> = name.into_iter().map(|byte| byte as u8).collect();
    // In its own folder, which another process may see by another path; and none is made where it is not there.
    let other = || crate::files::own_there(&folder.join(OsStr::from_bytes(&name)));
    let file = named.as_ref().map_or_else(other, |file| file.as_file().try_clone()).with_context(cannot)?;
    // All have the file: its name goes before it takes room, which it would keep where a process is killed.
    world.barrier()?;
    drop(named);
    if fills {
        if is_memory(file.as_raw_fd()) {
            note(format!(
                "{} is memory (tmpfs), where embeddings are to lie on a disk: name a folder on one by TMPDIR",
                folder.display()
            ));
        }
        allocate(&file, 4 * numbers).with_context(cannot)?;
    }
    world.barrier()?;
    // A folder's name need not be text.
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mapped = Tensor::f_from_file(&open, true, Some(numbers), (Kind::Float, Device::Cpu));
    let mapped = mapped.map_err(|error| anyhow!(first_line(&error.to_string()).to_string())).with_context(cannot)?;
    Ok((mapped.view([rows as i64, width]), fills))
}

/// Takes all room that a file of so many bytes needs: what a full disk lacks later would end the process without a word.
fn allocate(file: &File, bytes: i64) -> std::io::Result<()> {
    loop {
        // SAFETY: takes an open file and two numbers.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) } {
            0 => return Ok(()),
            libc::EINTR => {}
            error => return Err(std::io::Error::from_raw_os_error(error)),
        }
    }
}

/// What tells a folder of this machine from all others, and from those of other machines.
fn place(folder: &Path) -> Option<f64> {
    let machine = crate::files::read(Path::new("/proc/sys/kernel/random/boot_id")).ok().filter(|id| !id.is_empty())?;
    let found = folder.metadata().ok()?;
    let hash = blake3::hash(format!("{:?}", (machine, found.dev(), found.ino())).as_bytes());
    // As many bits as a number has.
    let (bytes, _) = hash.as_bytes().split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*bytes) >> 11) as f64)
}

/// Whether an open file lies in memory.
fn is_memory(open: RawFd) -> bool {
    let mut of = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: takes an open file and room for what it says of it, which zeros are a valid state of.
    let of = unsafe { (libc::fstatfs(open, of.as_mut_ptr()) == 0).then(|| of.assume_init()) };
    of.is_some_and(|of| of.f_type == libc::TMPFS_MAGIC)
}

/// What [`write`] writes by a file's ending.
fn ending(out: &Path) -> Option<&str> {
    out.extension()?.to_str().filter(|end| ["safetensors", "npz", "csv"].contains(end))
}

/// The file that [`write()`] is to write where `--out` names `out`; refuses, before the work is done, what it could not write.
pub fn check_out(out: &Path) -> Result<PathBuf> {
    ensure!(!out.is_dir(), "--out {}: it is a folder: name a .safetensors, .npz or .csv file", out.display());
    if ending(out).is_none() {
        bail!("--out {}: give the name of a .safetensors, .npz or .csv file", out.display());
    }
    let out = outputs::check_out(out, MADE)?;
    if ending(&out) == Some("csv") {
        outputs::check(&beside(&out), MADE).context("--out")?;
    }
    Ok(out)
}

/// What it is that is written.
const MADE: &str = "embeddings";

/// The tensor of [`Rows`] that holds them `[N, D]`.
pub(super) const EMBEDDINGS: &str = "embeddings";

/// Writes rows: as .safetensors, their names as a JSON list in the metadata; as .npz, with an array of texts "names" and one for
/// each entry of the metadata; or as .csv, a line a row, its name first, a column a number, called by its class where it is of
/// one, with the metadata in a .json of its name. Which, the file's ending says.
///
/// # Errors
/// As [`outputs::check`], again: its user may have put something there since.
pub fn write(out: &Path, rows: &Rows) -> Result<()> {
    if ending(out) != Some("csv") {
        outputs::check(out, MADE)?; // A list is looked at where it is written.
    }
    match ending(out) {
        Some("csv") => outputs::write_list(
            out,
            MADE,
            |file| {
                let mut file = csv::Writer::from_writer(BufWriter::new(file));
                let flat = |x: &Tensor| x.to_kind(Kind::Float).reshape([rows.names.len() as i64, -1]);
                let columns: Vec<(&String, Tensor)> = rows.tensors.iter().map(|(name, x)| (name, flat(x))).collect();
                let classes = rows.texts("classes").unwrap_or_default();
                let head = |(name, x): &(&String, Tensor)| -> Vec<String> {
                    let (width, name) = (x.size()[1] as usize, *name);
                    let by_class = width == classes.len() && name != "features";
                    (0..width)
                        .map(|i| format!("{name}.{}", if by_class { classes[i].clone() } else { i.to_string() }))
                        .collect()
                };
                let heads = columns.iter().flat_map(head);
                file.write_record(["name".to_string()].into_iter().chain(heads))?;
                for (row, name) in rows.names.iter().enumerate() {
                    let numbers = columns.iter().flat_map(|(_, x)| numbers::<f32>(&x.get(row as i64)));
                    file.write_record([name.clone()].into_iter().chain(numbers.map(|x| x.to_string())))?;
                }
                Ok(file.flush()?)
            },
            |mut said| {
                // What is no JSON is a text.
                let value = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into());
                said.extend(rows.metadata.iter().map(|(key, text)| (key.clone(), value(text))));
                outputs::write_json(&beside(out), MADE, &said.into())
            },
        ),
        Some("npz") => {
            let mut texts = vec![("names", rows.names.clone())];
            // What is no list is a text: of one, such as what made it.
            let list = |name: &str, text: &String| rows.texts(name).unwrap_or_else(|| vec![text.clone()]);
            texts.extend(rows.metadata.iter().map(|(name, text)| (name.as_str(), list(name, text))));
            crate::weights::save_npz(out, &texts, &rows.tensors, &mark(MADE))
        }
        _ => {
            let own = [("names".to_string(), serde_json::to_string(&rows.names)?), (MADE_BY.into(), mark(MADE))];
            let metadata = rows.metadata.iter().cloned().chain(own).collect();
            crate::weights::save(out, &rows.tensors, Some(metadata))
        }
    }
}
