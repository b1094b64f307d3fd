"""facenet crop against facenet-pytorch 2.6.0, one thread each, from the same photos to the same PNGs of faces.

python tests/benches/faces.py FACENET WEIGHTS PHOTOS: the binary, mtcnn.safetensors, a folder. Needs facenet-pytorch
(pip install --no-deps facenet-pytorch==2.6.0), torchvision, requests, tqdm. Prints photos a second of both, and their ratio.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import torch
from facenet_pytorch import MTCNN
from PIL import Image

binary, weights, photos = sys.argv[1:]
files = sorted(path for path in pathlib.Path(photos).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
torch.set_num_threads(1)


def ours(count, folder):
    """Seconds for the first `count` photos, the program's start among them."""
    for number, path in enumerate(files[:count]):
        (folder / "in").mkdir(parents=True, exist_ok=True)
        (folder / "in" / f"{number:06}{path.suffix}").symlink_to(path.resolve())
    command = [binary, "crop", "--images", folder / "in", "--out", folder / "out", "--detector", weights]
    start = time.perf_counter()
    # Ends with 1 where no photo has a face.
    subprocess.run([*command, "--workers", "1", "--device", "cpu"], capture_output=True,
                   env={**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"})
    assert (folder / "out" / "faces.jsonl").exists()
    return time.perf_counter() - start


def theirs(folder):
    net = MTCNN(image_size=160, margin=14, selection_method="center_weighted_size")
    start = time.perf_counter()
    for number, path in enumerate(files):
        net(Image.open(path).convert("RGB"), save_path=str(folder / f"{number}.png"))
    return time.perf_counter() - start


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    peer = len(files) / theirs(folder)
    own = (len(files) - 1) / (ours(len(files), folder / "all") - ours(1, folder / "one"))
    print(f"{len(files)} photos: facenet crop {own:.1f} a second, facenet-pytorch {peer:.1f}, ratio {own / peer:.2f}")
