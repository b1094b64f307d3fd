"""Conversions from a published layout to the one that our loaders read.

A module has `convert(source, target, options, owned)`: from the folder `source` into the empty folder `target`. Where
`owned`, the source is ours to take apart (scripts/fetch unpacked it); elsewhere it stays as it is. For weights both are
files.
"""

import importlib
import os
import pickle
import re
import shutil
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

from ..problems import Problem


@contextmanager
def fresh(folder):
    """A new folder to fill, which takes the name `folder` when all went well, and is gone otherwise."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def place(source, target, owned):
    """A file or folder under another name: moved where it is ours, else linked or copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if owned:
        os.replace(source, target)
    elif source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def run(kind, *arguments):
    """The conversion of that name."""
    importlib.import_module("." + kind.replace("-", "_"), __package__).convert(*arguments)


def need(module, package, what):
    """A Python module that may be missing, or a line that says how to get it; `what` says what it is for."""
    try:
        return importlib.import_module(module)
    except ImportError:
        cure = f"run 'python3 -m pip install {package}' (in the virtual environment you use), then the same command"
        raise Problem(f"{what}: {cure}") from None


NOT_AS_PUBLISHED = (OSError, RuntimeError, LookupError, AttributeError, ValueError, TypeError, EOFError, zlib.error)
NOT_AS_PUBLISHED += (zipfile.BadZipFile, tarfile.TarError, pickle.UnpicklingError)


@contextmanager
def published(path, part=""):
    """A line for whatever shows that a file, or a part of it, is not laid out as its authors did."""
    try:
        yield
    except NOT_AS_PUBLISHED as error:
        raise Problem(f"{path} is not laid out as published ({part}{error}): fetch it again") from None


def pillow():
    """Pillow's Image."""
    image = need("PIL.Image", "pillow", "this conversion encodes photos with Pillow")
    # An image of the sets converted here has at most a few million pixels.
    image.MAX_IMAGE_PIXELS = 50_000_000
    return image


def opened(image, path):
    """A photo, decoded; `image` is Pillow's module."""
    try:
        photo = image.open(path)
        photo.load()
        return photo
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        raise Problem(f"{path} cannot be decoded ({type(error).__name__}): fetch it again") from None


def named(folder, pattern):
    """The groups of `pattern`, as numbers -> the first file below a folder whose path ends so."""
    found = {}
    for path in files(folder):
        name = re.fullmatch(f"(?:.*/)?{pattern}", path.as_posix(), re.IGNORECASE)
        if name:
            found.setdefault(tuple(map(int, name.groups())), path)
    return found


def files(folder):
    """Every plain file below a folder, by name; links are passed over."""
    found = []
    for here, _, names in os.walk(folder):
        found += [Path(here) / name for name in names if not (Path(here) / name).is_symlink()]
    return sorted(found)
