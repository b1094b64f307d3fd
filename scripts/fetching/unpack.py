"""Archives, distrusted: every name stays inside, nothing is linked, what comes out is bounded by the list.

The bound holds for bytes really written, not for sizes that an archive states about itself.
"""

from __future__ import annotations

import re
import stat
import tarfile
import unicodedata
import zipfile
from pathlib import Path, PurePosixPath

from .problems import Problem
from .progress import printable

# A name or comment in a tar header longer than this is an attack on memory.
LONGEST_HEADER = 1 << 16
# What archivers of other systems leave behind.
LEFTOVERS = ("__MACOSX", ".DS_Store", "Thumbs.db")


def unpack(archive, folder, rules):
    """Unpacks `archive` (zip or tar, compressed or not) into `folder`. Raises Problem; `folder` may then be half full."""
    folder = Path(folder) / rules.into
    folder.mkdir(parents=True, exist_ok=True)
    sink = Sink(Path(archive).name, folder, rules)
    try:
        if zipfile.is_zipfile(archive):
            from_zip(archive, sink)
        else:
            from_tar(archive, sink)
    except OSError as error:
        # gzip and bz2 say "not a gzipped file" and the like as OSErrors without a number.
        if error.errno is None:
            raise Problem(f"{sink.archive} is damaged ({printable(error)}); delete it and fetch it again") from None
        raise Problem(f"cannot unpack {sink.archive}: {error.strerror}") from None
    except Problem:
        raise
    except Exception as error:
        # zipfile and tarfile have errors of their own and, for headers made to hurt, any that Python has (a ValueError
        # of a sparse map, a RecursionError of headers in headers).
        what = f"{sink.archive} is damaged or no archive ({printable(error)})"
        raise Problem(f"{what}; delete it and fetch it again") from None


class Sink:
    """Where an archive's files go, and how much may still come."""

    def __init__(self, archive, folder, rules):
        self.archive, self.folder, self.rules = archive, folder, rules
        self.files, self.bytes, self.stated, self.seen = 0, 0, 0, set()

    def refuse(self, name, why):
        self.end(f"holds {printable(name)!r}, {why}")

    def end(self, why):
        raise Problem(f"{self.archive} {why}: refused, nothing of it is kept")

    def place(self, name):
        """Where a name of the archive goes here, or None where it is left out."""
        if re.search(r"[\x00-\x1f\x7f\\]", name) or re.match(r"[A-Za-z]:", name):
            self.refuse(name, "not a plain relative name")
        path = PurePosixPath(name)
        if path.is_absolute() or name.startswith("/") or ".." in path.parts:
            self.refuse(name, "which leads out of its folder")
        parts = path.parts
        if any(part in LEFTOVERS or part.startswith("._") for part in parts):
            return None
        parts = parts[self.rules.strip :]
        if not parts:
            return None
        plain = "/".join(parts)
        if self.rules.take is None:
            return self.folder / plain
        for prefix, here in self.rules.take.items():
            if plain == prefix:
                return self.folder / here
            if prefix.endswith("/") and plain.startswith(prefix):
                return self.folder / (here + plain[len(prefix) :])
        return None

    def count(self, size):
        """One more member that says it has `size` bytes, taken or not: an archive of a billion empty names is a bomb
        too, and skipping costs as much as reading."""
        self.files += 1
        self.stated += size
        if self.files > self.rules.files:
            self.end(f"holds more than the {self.rules.files:,} files that the list allows")
        if size < 0:
            self.end("is damaged (a size below 0)")
        self.bounded(self.stated)

    def bounded(self, count):
        if count > self.rules.bytes:
            self.end(f"unpacks to more than the {self.rules.bytes:,} bytes that the list allows")

    def store(self, name, source):
        """One file of the archive."""
        target = self.place(name)
        if target is None:
            return
        # On some disks names are one that differ in capitals or in how an accent is written.
        if folded(target) in self.seen:
            self.refuse(name, "twice, or in other capitals too")
        self.seen.add(folded(target))
        if any(folded(parent) in self.seen for parent in target.parents):
            self.refuse(name, "within what is a file already")
        target.parent.mkdir(parents=True, exist_ok=True)
        # An earlier archive of the same set may hold the same name.
        target.unlink(missing_ok=True)
        with open(target, "xb") as out:
            for chunk in iter(lambda: source.read(1 << 18), b""):
                self.bytes += len(chunk)
                self.bounded(self.bytes)
                out.write(chunk)


def folded(path):
    return unicodedata.normalize("NFC", str(path)).casefold()


def from_zip(archive, sink):
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            sink.count(member.file_size)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir():
                sink.place(member.filename)
            elif kind not in (0, stat.S_IFREG):
                sink.refuse(member.filename, "which is a link or a device")
            elif member.flag_bits & 1:
                cure = "unpack it with its password, and give the folder with --from"
                raise Problem(f"{sink.archive} is encrypted: {cure}")
            else:
                with opened.open(member) as source:
                    sink.store(member.filename, source)


class Header(tarfile.TarInfo):
    """A tar header that may not make Python hold a large one in memory."""

    def _proc_member(self, tar):
        # Long names and comments stand in members of other kinds than files and folders.
        special = self.type not in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE)
        if self.size < 0 or (special and self.size > LONGEST_HEADER):
            raise tarfile.ReadError("a header too long, or of a size below 0")
        return super()._proc_member(tar)


def from_tar(archive, sink):
    with tarfile.open(archive, "r:*", tarinfo=Header) as opened:
        for member in opened:
            sink.count(member.size)
            # tarfile keeps every header it has seen; nothing here looks back.
            opened.members = []
            if member.isdir():
                sink.place(member.name)
            elif member.issparse():
                sink.refuse(member.name, "which is sparse (a few bytes that stand for many)")
            elif not member.isreg():
                sink.refuse(member.name, "which is a link or a device")
            else:
                sink.store(member.name, opened.extractfile(member))
