"""CUHK03's cuhk-03.mat (MATLAB 7.3, which is HDF5) as photos, `labeled/` and `detected/`, named
`PAIR_NNN_VIEW_II.png`; its 20 test sets as `testsets.json`; and, where their .mat files are there, the lists of the new
protocol (Zhong et al. 2017) as `new_protocol_labeled.json` and `new_protocol_detected.json`.
"""

import json

from ..problems import Problem
from ..progress import say
from . import files, need, pillow, published

PHOTOS = 10  # a person: five by camera A, then five by camera B; some are missing


def convert(source, target, options, owned=False):
    image = pillow()
    found = {path.name: path for path in files(source)}
    if "cuhk-03.mat" not in found:
        raise Problem(f"no cuhk-03.mat under {source}: give the folder that cuhk03_release.zip was unpacked to")
    names = {kind: set() for kind in ("labeled", "detected")}
    with hdf5(found["cuhk-03.mat"]) as mat:
        for kind, seen in names.items():
            (target / kind).mkdir()
            for pair, index, photo, pixels in photos(mat, kind):
                # Numbered through a person's photos, as the lists of the new protocol number them.
                name = f"{pair}_{index:03d}_{1 if photo <= PHOTOS // 2 else 2}_{photo:02d}.png"
                image.fromarray(pixels).save(target / kind / name, "PNG")
                seen.add(name)
            say(f"cuhk03: {len(seen):,} photos in {kind}")
        write(target / "testsets.json", test_sets(mat))
    for kind, seen in names.items():
        lists = found.get(f"cuhk03_new_protocol_config_{kind}.mat")
        if lists is not None:
            write(target / f"new_protocol_{kind}.json", new_protocol(lists, seen))


def hdf5(path):
    h5py = need("h5py", "h5py", "this conversion reads HDF5 with h5py")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise Problem(f"{path} is no whole HDF5 file ({error}): fetch it again") from None


def photos(mat, kind):
    """(camera pair, person, number of the photo, pixels [height, width, 3]) of every photo, numbers from 1."""
    with published("cuhk-03.mat", f"{kind}: "):
        cells = mat[kind][()]
        for pair in range(cells.shape[1]):
            people = mat[cells[0, pair]][()]  # [10, people]: MATLAB's axes come in reverse
            for person in range(people.shape[1]):
                for photo in range(PHOTOS):
                    pixels = mat[people[photo, person]][()]
                    if pixels.ndim == 3:  # an empty cell has no pixels
                        yield pair + 1, person + 1, photo + 1, pixels.transpose(2, 1, 0)


def test_sets(mat):
    """20 lists of [camera pair, person]."""
    with published("cuhk-03.mat", "testsets: "):
        cells = mat["testsets"][()]  # [1, 20] of [2, 100]
        lists = [mat[cells[0, number]][()] for number in range(cells.shape[1])]
        return [[[int(pair), int(person)] for pair, person in zip(*rows)] for rows in lists]


def new_protocol(path, seen):
    """Name lists, checked against the photos."""
    io = need("scipy.io", "scipy", "the new protocol's lists are read with scipy")
    with published(path):
        mat = io.loadmat(path)
        names = [str(name[0]) for name in mat["filelist"].ravel()]
        parts = ("train", "query", "gallery")
        lists = {part: [names[int(row) - 1] for row in mat[f"{part}_idx"].ravel()] for part in parts}
    missing = [name for part in lists.values() for name in part if name not in seen]
    if missing:
        raise Problem(f"{path} names {missing[0]}, which cuhk-03.mat doesn't hold: fetch both again")
    return lists


def write(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n", encoding="utf-8")
