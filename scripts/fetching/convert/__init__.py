"""Conversions from a published layout to the one that our loaders read.

A module has `convert(source, target, options, owned)`: from the folder `source` into the empty folder `target`. Where
`owned`, the source is ours to take apart (scripts/fetch unpacked it); elsewhere it stays as it is.
"""

import os
import shutil
from pathlib import Path

from ..problems import Problem


def place(source, target, owned):
    """A file or folder under another name: moved where it is ours, else linked or copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if owned:
        os.replace(source, target)
    elif source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def pillow():
    """Pillow's Image, or a line that says how to get it."""
    try:
        from PIL import Image
    except ImportError:
        raise Problem(
            "this conversion encodes photos with Pillow: run 'python3 -m pip install pillow', then the same command"
        ) from None
    # An image of the sets converted here has at most a few million pixels.
    Image.MAX_IMAGE_PIXELS = 50_000_000
    return Image


def opened(image, path):
    """A photo, decoded; `image` is Pillow's module."""
    try:
        photo = image.open(path)
        photo.load()
        return photo
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        raise Problem(f"{path} cannot be decoded ({type(error).__name__}): fetch it again") from None


def files(folder):
    """Every plain file below a folder, by name; links are passed over."""
    found = []
    for here, _, names in os.walk(folder):
        found += [Path(here) / name for name in names if not (Path(here) / name).is_symlink()]
    return sorted(found)
