#!/usr/bin/env python3
"""What `embed` gives of each photo (about 1 % off where it is resized), by torch and Pillow (python -m pip install torch pillow) and what `export` wrote of a network of single photos: python scripts/embed-photo.py model.pt PHOTO ..."""
import json, os, sys, zipfile, zlib
if sys.argv[1:2] in (["-h"], ["--help"]):
    sys.exit(print(__doc__))
path = sys.argv[1] if sys.argv[2:] else sys.exit(__doc__)
sys.excepthook = lambda kind, error, _: sys.stderr.write(f"{path}: {kind.__name__}: {str(error).split(chr(10))[0]}; {__doc__}\n")
import torch
from PIL import Image, ImageOps
os.path.isfile(path) and (held := zipfile.ZipFile(path)).testzip() is None or sys.exit(f"{path}: no file, or damaged; {__doc__}")
checksum = zlib.crc32(open(path, "rb").read()[: -len(held.comment) - 2])
if f"checksum {checksum:08x} ".encode() not in held.comment:
    sys.exit(f"{path}: it is not as export wrote it, or an earlier version did: export it again")
net = torch.jit.load(path, map_location="cpu", _extra_files=(extra := {"model.json": ""})).eval()
see, unit = (about := json.loads(extra["model.json"]))["input"], about["output"]["unit"]
if see["kind"] != "photo" or about["inputs"] != 1:
    sys.exit(f"{path}: inputs: {about['inputs']} ({see['kind']}); this script is for networks of single photos: model.json says what goes in")
for path in sys.argv[2:]:
    photo = ImageOps.exif_transpose(Image.open(path))  # also by XMP where EXIF has no orientation, as embed does not
    if photo.mode.startswith("I"):  # 16 bits of grey, which convert would cut off at white
        photo = photo.convert("I").point(lambda grey: grey * (1 / 257) + 0.5).convert("L")
    side = int(min(photo.size) * (see["crop"] or 0) + 0.5)  # of the centre square
    x, y = ((length - side) // 2 for length in photo.size)
    photo = photo.convert("RGB").crop((x, y, x + side, y + side) if side else None)
    photo = photo.resize((see["resize"]["width"], see["resize"]["height"]), Image.BILINEAR)
    pixels = torch.frombuffer(bytearray(photo.tobytes()), dtype=torch.uint8).view(photo.height, photo.width, 3) / see["scale"]
    planes = ((pixels - torch.tensor(see["mean"])) / torch.tensor(see["std"])).permute(2, 0, 1)
    views = [planes[:, v["top"]:, v["left"]:][:, :see["height"], :see["width"]].flip([2] if v["flip"] else []) for v in see["views"]]
    answer = net(torch.stack(views)).detach().mean(0)
    print(json.dumps({"photo": path, "output": (answer / answer.norm() if unit else answer).tolist()}))
