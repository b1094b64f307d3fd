"""Whether a folder is the data set that the list describes: counts, a sample of names, and where known every byte."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from pathlib import Path

from .download import verify


def differences(entry, place):
    """What differs from the list, a line each; nothing for the published set. `place` is the set's folder or file."""
    place = Path(place)
    if entry.single:
        if not place.is_file():
            return [f"{place} is no file"]
        wrong = verify(place, entry.becomes or entry.files[0])
        return [f"{place.name}: {wrong}"] if wrong else []
    if not place.is_dir():
        return [f"{place} is no folder"]
    found = []
    for pattern, wanted in entry.check.get("count", {}).items():
        here = count(place, pattern)
        if here != wanted:
            what = "folders" if pattern.endswith("/") else "files"
            found.append(f"{here:,} {what} {pattern}, the list says {wanted:,}")
    for name, wanted in entry.check.get("lines", {}).items():
        here = lines(place / name)
        if here is None:
            found.append(f"{name} is missing")
        elif here != wanted:
            found.append(f"{here:,} lines in {name}, the list says {wanted:,}")
    for name in entry.check.get("names", []):
        if not (place / name).exists():
            found.append(f"{name} is missing")
    for folder, wanted in entry.check.get("contents", {}).items():
        if (place / folder).is_dir() and contents(place / folder) != wanted:
            found.append(f"the files under {folder} are not those of the list")
    return found


def count(place, pattern):
    """Files that match `pattern`, or folders where it ends in `/`."""
    folders = pattern.endswith("/")
    return sum(1 for path in walk(place, pattern.rstrip("/").split("/")) if path.is_dir() == folders)


def lines(path):
    """Lines that are not empty, or None where there is no such file."""
    try:
        with open(path, "rb") as file:
            return sum(1 for line in file if line.strip())
    except OSError:
        return None


def walk(place, parts):
    """Paths under `place` whose names match `parts`, one a level; `*` and `?` as in a shell."""
    if not parts:
        yield place
        return
    if not any(c in parts[0] for c in "*?["):
        names = [parts[0]] if (place / parts[0]).exists() else []
    else:
        names = os.listdir(place) if place.is_dir() else []
        names = [name for name in names if not name.startswith(".") and fnmatch.fnmatchcase(name, parts[0])]
    for name in names:
        yield from walk(place / name, parts[1:])


def contents(folder):
    """One digest for every file's name and bytes: sha256 over the lines `SHA256  NAME`, sorted by name, as
    `cd FOLDER && find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum` prints it."""
    found = [Path(here) / name for here, _, names in os.walk(folder) for name in names]
    named = sorted((path.relative_to(folder).as_posix().encode(), path) for path in found)
    digest = hashlib.sha256()
    for name, path in named:
        digest.update(hashlib.sha256(path.read_bytes()).hexdigest().encode() + b"  " + name + b"\n")
    return digest.hexdigest()
