"""The first photos of COCO 2017, shrunk, in COCO 2014's layout and names, with boxes to scale and crowds left out."""

import json

from ..problems import Problem
from . import opened, pillow


def convert(source, target, options, owned=False):
    image = pillow()
    (target / "annotations").mkdir(parents=True)
    for part in ("train", "val"):
        one(image, source, target, part, options)


def one(image, source, target, part, options):
    listed = annotations(source / "annotations" / f"instances_{part}2017.json")
    of = {}
    for box in listed["annotations"]:
        of.setdefault(box["image_id"], []).append(box)
    sizes = {photo["id"]: (photo["width"], photo["height"]) for photo in listed["images"]}
    (target / f"{part}2014").mkdir()
    images, boxes = [], []
    for path in sorted((source / f"{part}2017").glob("*.jpg")):
        number = int(path.stem)
        pixels = opened(image, path)
        if sizes.get(number) != pixels.size:
            raise Problem(
                f"{path} is {pixels.width}x{pixels.height}, the annotations say {sizes.get(number)}: fetch it again"
            )
        width, height = shrunk(pixels.size, options["side"])
        name = f"COCO_{part}2014_{number:012d}.jpg"
        pixels.convert("RGB").resize((width, height), image.LANCZOS).save(
            target / f"{part}2014" / name, "JPEG", quality=options["jpeg_quality"]
        )
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        across, down = width / pixels.width, height / pixels.height
        for box in of.get(number, []):
            if box["iscrowd"]:
                continue
            x, y, w, h = box["bbox"]
            x, y, w, h = x * across, y * down, w * across, h * down
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": number,
                    "category_id": box["category_id"],
                    "bbox": [round(v, 2) for v in (x, y, w, h)],
                    "iscrowd": 0,
                    "area": round(w * h, 2),
                }
            )
    wanted = options.get("boxes", {}).get(part)
    if wanted is not None and len(boxes) != wanted:
        raise Problem(
            f"{len(boxes)} boxes in the {part} photos, {wanted} are published: are all photos of the list there?"
        )
    categories = [{"id": category["id"], "name": category["name"]} for category in listed["categories"]]
    text = json.dumps({"images": images, "annotations": boxes, "categories": categories})
    (target / "annotations" / f"instances_{part}2014.json").write_text(text)


def annotations(path):
    try:
        listed = json.loads(path.read_text())
        return {key: listed[key] for key in ("images", "annotations", "categories")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(f"{path} is not COCO's instances file ({type(error).__name__}): fetch it again") from None


def shrunk(size, side):
    """The size with `side` pixels on the longer side."""
    longer = max(size)
    return tuple(max(1, round(length * side / longer)) for length in size)
