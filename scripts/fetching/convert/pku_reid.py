"""PKU-Reid as Market-1501's layout and names: `PERSON_CAMERA_DIRECTION.png` to `PPPP_cCs1_00000D_00.jpg`."""

import itertools

from ..problems import Problem
from . import named, opened, pillow, place

SIZE = (48, 128)


def convert(source, target, options, owned=False):
    image = pillow()
    photos = named(source, r"(\d+)_(\d)_(\d)\.(?:png|jpe?g|bmp)")
    query = set(options["query_directions"])
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (target / folder).mkdir(parents=True)
    people = options["train_people"] + options["test_people"]
    for person, camera, direction in itertools.product(people, (1, 2), range(1, 9)):
        if person in options["train_people"]:
            folder = "bounding_box_train"
        else:
            folder = "query" if direction in query else "bounding_box_test"
        path = photos.get((person, camera, direction))
        if path is None:
            name = f"{person}_{camera}_{direction}.png"
            raise Problem(f"{name} is missing: is this PKU-Reid (114 people, 16 photos each)?")
        new = target / folder / f"{person:04d}_c{camera}s1_{direction:06d}_00.jpg"
        write(image, path, new, options["jpeg_quality"], owned)


def write(image, path, new, quality, owned):
    pixels = opened(image, path)
    if pixels.size != SIZE:
        raise Problem(f"{path} is not a photo of 48x128: is this PKU-Reid?")
    if pixels.format == "JPEG":
        # Encoded once already: its bytes stay.
        place(path, new, owned)
    else:
        pixels.convert("RGB").save(new, "JPEG", quality=quality)
