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
            here = f"{pixels.width}x{pixels.height}"
            raise Problem(f"{path} is {here}, the annotations say {sizes.get(number)}: fetch it again")
        width, height = shrunk(pixels.size, options["side"])
        name = f"COCO_{part}2014_{number:012d}.jpg"
        # Grey photos stay grey.
        small = (pixels if pixels.mode == "L" else pixels.convert("RGB")).resize((width, height), image.BILINEAR)
        small.save(target / f"{part}2014" / name, "JPEG", quality=options["jpeg_quality"])
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for category, x, y, w, h in labels(of.get(number, []), pixels.size):
            box = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
            area = round(w * width * h * height, 2)
            box = {"category_id": category, "bbox": [round(side, 2) for side in box], "iscrowd": 0, "area": area}
            boxes.append({"id": len(boxes) + 1, "image_id": number, **box})
    wanted = options.get("boxes", {}).get(part)
    if wanted is not None and len(boxes) != wanted:
        what = f"{len(boxes)} boxes in the {part} photos, {wanted} are published"
        raise Problem(f"{what}: are all photos of the list there?")
    categories = [{"id": category["id"], "name": category["name"]} for category in listed["categories"]]
    text = json.dumps({"images": images, "annotations": boxes, "categories": categories})
    (target / "annotations" / f"instances_{part}2014.json").write_text(text)


def labels(boxes, size):
    """(category, centre, size) of a photo's boxes as YOLO's label files have them: shares of the photo to six digits,
    no crowds, no empty boxes, nothing twice."""
    found = []
    for box in boxes:
        x, y, w, h = box["bbox"]
        if box["iscrowd"] or w <= 0 or h <= 0:
            continue
        shares = ((x + w / 2) / size[0], (y + h / 2) / size[1], w / size[0], h / size[1])
        label = (box["category_id"], *(float(f"{share:g}") for share in shares))
        if label not in found:
            found.append(label)
    return found


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
