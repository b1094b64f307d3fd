//! NumPy's `.npz`: a zip of `.npy` files, each a header that describes one array and its numbers. An array of objects
//! is a pickle: refused, as is all that is not plain little-endian numbers in C order.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tch::{Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::Named;
use crate::files::{self, UNKNOWN};

/// NumPy's names of kinds and ours.
const KINDS: [(&str, Kind); 10] = [
    ("<f4", Kind::Float),
    ("<f8", Kind::Double),
    ("<f2", Kind::Half),
    ("<i8", Kind::Int64),
    ("<i4", Kind::Int),
    ("<i2", Kind::Int16),
    ("|i1", Kind::Int8),
    ("|u1", Kind::Uint8),
    ("|b1", Kind::Bool),
    ("<c8", Kind::ComplexFloat),
];

/// The bytes of an array, one part after another.
type Bytes<'a> = &'a mut dyn Iterator<Item = Result<Vec<u8>>>;

/// All arrays together may be so many times as long as the file: trained numbers hardly compress, bombs do.
const LARGEST: u64 = 16;

/// Whether a zip of these names is one.
pub(super) fn is_one<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.next().is_some_and(|name| name.ends_with(".npy")) && names.all(|name| name.ends_with(".npy"))
}

/// The arrays of the archive, of `length` bytes, in its order.
pub(super) fn read(archive: &mut ZipArchive<impl Read + Seek>, length: u64) -> Result<Named> {
    let mut room = length.saturating_mul(LARGEST);
    let mut tensors = Named::new();
    for place in 0..archive.len() {
        let entry = archive.by_index(place).map_err(|error| anyhow!("entry {place} of the zip: {error}"))?;
        let name = entry.name().trim_end_matches(".npy").to_string();
        // What comes out counts, not what the entry says of itself.
        let mut bytes = Vec::new();
        let read = entry.take(room + 1).read_to_end(&mut bytes);
        read.map_err(|error| anyhow!("{name:?} in the zip is damaged: {error}"))?;
        ensure!(bytes.len() as u64 <= room, "{name:?} in the zip unpacks to far more than the file");
        room -= bytes.len() as u64;
        tensors.push((name.clone(), array(&bytes).with_context(|| format!("{name:?}"))?));
    }
    Ok(tensors)
}

/// One `.npy` file.
fn array(bytes: &[u8]) -> Result<Tensor> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").context("it is no array of NumPy's")?;
    // Version, then the header's length in 2 bytes, or 4 since version 2.
    let (length, start) = match *rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([a, b])), 4),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize, 6),
        _ => bail!("it is cut short, or of an unknown version of NumPy's format"),
    };
    let end = start + length;
    let header = rest.get(start..end).context("it is cut short")?;
    let header = std::str::from_utf8(header).ok().context("its header is no text")?;
    let numbers = &rest[end..];
    let kind = field(header, "descr").context("its header has no kind")?;
    let quoted = kind.strip_prefix('\'').and_then(|kind| kind.split_once('\'')).map(|(kind, _)| kind);
    let named = quoted.context("it is an array of records, not of numbers")?;
    let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == named) else {
        bail!("it is an array of {named:?}: only little-endian numbers are read, never objects")
    };
    ensure!(
        field(header, "fortran_order").is_some_and(|order| order.starts_with("False")),
        "it is in Fortran order: save it again with numpy.ascontiguousarray"
    );
    let shape = field(header, "shape").and_then(|shape| shape.strip_prefix('(')?.split_once(')'));
    let shape = shape.context("its header has no shape")?.0.split(',').map(str::trim).filter(|n| !n.is_empty());
    let shape = shape.map(str::parse::<i64>).collect::<Result<Vec<_>, _>>().ok().context("its shape is no numbers")?;
    ensure!(shape.len() <= 32 && shape.iter().all(|&n| n >= 0), "its shape is {shape:?}");
    let wanted = shape.iter().try_fold(kind.elt_size_in_bytes(), |size, &n| size.checked_mul(usize::try_from(n).ok()?));
    ensure!(wanted == Some(numbers.len()), "it has {} bytes, and its shape {shape:?} says otherwise", numbers.len());
    ensure!(*kind != Kind::Bool || numbers.iter().all(|&byte| byte < 2), "it has truth values that are neither");
    Tensor::f_from_data_size(numbers, &shape, *kind).map_err(|_| anyhow!("it can't be allocated"))
}

/// What follows `'name':` in a header, which is the text of a Python dictionary.
fn field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = header.split_once(&format!("'{name}'"))?;
    Some(value.trim_start().strip_prefix(':')?.trim_start())
}

/// A file that fails once: on its way out, a zip's writer would print what comes after its error.
struct Told {
    file: BufWriter<File>,
    failed: bool,
    /// Where it stands, or would stand had it not failed: a zip's writer counts from there.
    at: u64,
}

impl Told {
    fn once<T>(&mut self, done: T, work: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> io::Result<T> {
        let result = if self.failed { Ok(done) } else { work(&mut self.file) };
        self.failed |= result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        result
    }
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.once(bytes.len(), |file| file.write(bytes))?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.once((), Write::flush)
    }
}

impl Seek for Told {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let would = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
            SeekFrom::End(_) => self.at,
        };
        self.at = self.once(would, |file| file.seek(to))?;
        Ok(self.at)
    }
}

/// Writes lists of texts and tensors as arrays that NumPy's `numpy.load` reads them, whole or not at all, and sealed as `own`
/// ([`seal_zip`]); nothing is compressed.
///
/// # Errors
/// Where it cannot be written, or a kind has no name in NumPy.
pub fn save_npz(path: &Path, texts: &[(&str, Vec<String>)], tensors: &[(String, Tensor)], own: &str) -> Result<()> {
    files::atomically(path, |draft| {
        let mut zip = ZipWriter::new(Told { file: BufWriter::new(files::own(draft)?), failed: false, at: 0 });
        let mut put = |name: &str, kind: &str, shape: String, bytes: Bytes<'_>| -> Result<()> {
            let dictionary = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
            let padded = (10 + dictionary.len() + 1).next_multiple_of(64) - 11;
            let header = format!("{dictionary:padded$}\n");
            let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
            zip.start_file(format!("{name}.npy"), stored)?;
            zip.write_all(b"\x93NUMPY\x01\x00")?;
            zip.write_all(&(header.len() as u16).to_le_bytes())?;
            zip.write_all(header.as_bytes())?;
            for bytes in bytes {
                zip.write_all(&bytes?)?;
            }
            Ok(())
        };
        for (name, list) in texts {
            let longest = list.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
            let letters = |text: &String| -> Result<Vec<u8>> {
                let padded = text.chars().map(u32::from).chain(std::iter::repeat(0)).take(longest);
                Ok(padded.flat_map(u32::to_le_bytes).collect())
            };
            put(name, &format!("<U{longest}"), format!("{},", list.len()), &mut list.iter().map(letters))?;
        }
        for (name, x) in tensors {
            let (kind, _) = KINDS.iter().find(|(_, kind)| *kind == x.kind()).context("a kind that NumPy has not")?;
            let shape = x.size().iter().map(|n| format!("{n},")).collect();
            put(name, kind, shape, &mut super::bytes(x))?;
        }
        zip.finish()?.flush()?;
        Ok(seal_zip(draft, own)?)
    })
}

/// Gives a zip that has no comment one, with which the file ends: `own`, and the BLAKE3 hash of all bytes before that.
///
/// # Errors
/// As [`files::own`], and where it cannot be written.
pub fn seal_zip(path: &Path, own: &str) -> io::Result<()> {
    let (mut file, comment) = (files::own(path)?, format!("{own} "));
    let length = (comment.len() + UNKNOWN.len()) as u16;
    // The last that a zip has is its comment's length.
    file.seek(SeekFrom::End(-2))?;
    file.write_all(&[&length.to_le_bytes()[..], comment.as_bytes()].concat())?;
    file.write_all(files::hash(path)?.as_bytes())
}

/// Whether the file, a zip, is as [`seal_zip`] left it for `own`; of its bytes few are held at once.
pub fn is_whole_zip(path: &Path, own: &str) -> bool {
    let whole = || -> io::Result<bool> {
        let (own, mut end, mut hasher) = (format!("{own} "), Vec::new(), blake3::Hasher::new());
        let mut file = files::open(path)?;
        let length = file.metadata()?.len().saturating_sub(UNKNOWN.len() as u64);
        io::copy(&mut (&mut file).take(length), &mut hasher)?;
        file.seek(SeekFrom::Start(length.saturating_sub(own.len() as u64)))?;
        file.read_to_end(&mut end)?;
        Ok(end.strip_prefix(own.as_bytes()) == Some(hasher.finalize().to_hex().as_bytes()))
    };
    whole().unwrap_or(false)
}
