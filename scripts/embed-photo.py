"""What `embed` gives of each photo (about 1 % off where it is resized), by torch and Pillow alone: python scripts/embed-photo.py model.pt PHOTO ..."""
import json, sys, torch
from PIL import Image, ImageOps
net = torch.jit.load(sys.argv[1], _extra_files=(extra := {"model.json": ""})).eval()
see, unit = (about := json.loads(extra["model.json"]))["input"], about["output"]["unit"]
size, high, wide = (see["resize"]["width"], see["resize"]["height"]), see["height"], see["width"]
for photo in (ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in sys.argv[2:]):
    side = int(min(photo.size) * (see["crop"] or 0) + 0.5)  # of the centre square
    x, y = ((length - side) // 2 for length in photo.size)
    photo = (photo.crop((x, y, x + side, y + side)) if side else photo).resize(size, Image.BILINEAR)
    pixels = torch.frombuffer(bytearray(photo.tobytes()), dtype=torch.uint8).view(size[1], size[0], 3) / see["scale"]
    planes = ((pixels - torch.tensor(see["mean"])) / torch.tensor(see["std"])).permute(2, 0, 1)
    views = [(planes[:, v["top"]:, v["left"]:][:, :high, :wide], v["flip"]) for v in see["views"]]
    answer = net(torch.stack([view.flip(2) if flip else view for view, flip in views])).detach().mean(0)
    print(json.dumps((answer / answer.norm() if unit else answer).tolist()))
