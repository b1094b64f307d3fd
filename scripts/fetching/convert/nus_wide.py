"""NUS-WIDE's archives, whatever their own folders are, as one layout; images go under `images/`."""

import re

from ..problems import Problem
from . import files, place


def convert(source, target, options, owned=False):
    seen = set()
    for path in files(source):
        new = where(path)
        if new is None or new in seen:
            continue
        seen.add(new)
        place(path, target / new, owned)
    for name in ("ConceptsList/Concepts81.txt", "ImageList/TrainImagelist.txt", "ImageList/TestImagelist.txt"):
        if name not in seen:
            raise Problem(f"{name} is not among the files: unpack the lists of the authors' page into the same folder")


def where(path):
    """A file's place, or None for what is not needed."""
    name = path.name
    if name == "Concepts81.txt":
        return f"ConceptsList/{name}"
    if name in ("Imagelist.txt", "TrainImagelist.txt", "TestImagelist.txt"):
        return f"ImageList/{name}"
    if re.fullmatch(r"Labels_.+_(Train|Test)\.txt", name):
        return f"Groundtruth/TrainTestLabels/{name}"
    if re.fullmatch(r"Labels_.+\.txt", name):
        return f"Groundtruth/AllLabels/{name}"
    if re.fullmatch(r"\d+_\d+\.jpe?g", name, re.IGNORECASE):
        return f"images/{path.parent.name}/{name}"
    return None
