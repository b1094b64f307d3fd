"""What `embed` gives of each photo (about 1 % off where it is resized), by torch and Pillow alone: python scripts/embed-photo.py model.pt PHOTO ..."""
import json, sys
try:
    import torch
    from PIL import Image, ImageOps
except ImportError as error:
    sys.exit(f"{error}: python -m pip install torch pillow")
if len(sys.argv) < 3:
    sys.exit(__doc__)
try:
    net = torch.jit.load(sys.argv[1], map_location="cpu", _extra_files=(extra := {"model.json": ""})).eval()
    if json.loads(extra["model.json"])["inputs"] != 1:
        raise ValueError
    see, unit = (about := json.loads(extra["model.json"]))["input"], about["output"]["unit"]
    size, high, wide = (see["resize"]["width"], see["resize"]["height"]), see["height"], see["width"]
except (OSError, RuntimeError, ValueError, KeyError):
    sys.exit(f"{sys.argv[1]} is no module that export wrote, or none of single photos")
for path in sys.argv[2:]:
    try:
        photo = ImageOps.exif_transpose(Image.open(path))
        if photo.mode.startswith("I"):  # 16 bits of grey, which convert would cut off at white
            photo = photo.convert("I").point(lambda grey: grey * (1 / 257) + 0.5).convert("L")
        photo = photo.convert("RGB")
    except OSError as error:
        sys.exit(f"{path} is no photo: {error}")
    side = int(min(photo.size) * (see["crop"] or 0) + 0.5)  # of the centre square
    x, y = ((length - side) // 2 for length in photo.size)
    photo = (photo.crop((x, y, x + side, y + side)) if side else photo).resize(size, Image.BILINEAR)
    pixels = torch.frombuffer(bytearray(photo.tobytes()), dtype=torch.uint8).view(size[1], size[0], 3) / see["scale"]
    planes = ((pixels - torch.tensor(see["mean"])) / torch.tensor(see["std"])).permute(2, 0, 1)
    views = [(planes[:, v["top"]:, v["left"]:][:, :high, :wide], v["flip"]) for v in see["views"]]
    answer = net(torch.stack([view.flip(2) if flip else view for view, flip in views])).detach().mean(0)
    print(json.dumps({"photo": path, "output": (answer / answer.norm() if unit else answer).tolist()}))
