"""The AT&T (ORL) faces as LFW's layout: `sP/I.pgm` to `train|test/Subject_PP/Subject_PP_000I.jpg`, and pairs.txt.

Who trains and who tests is told by the remainder of the person's number; the people of other remainders are left out.
pairs.txt: the test people are shuffled and taken two a fold; of a fold's photos so many same pairs and so many different
ones are drawn, all by Python's generator from the seed, which is the same in every version since 3.2.
"""

import itertools
import random

from ..problems import Problem
from . import named, opened, pillow

SIZE = (92, 112)


def convert(source, target, options, owned=False):
    image = pillow()
    photos = named(source, r"s(\d+)/(\d+)\.pgm")
    people = range(1, options["people"] + 1)
    numbers = range(1, options["photos"] + 1)
    for part, person, photo in itertools.product(("train", "test"), people, numbers):
        if person % 4 in options[part + "_remainders"]:
            write(image, photos.get((person, photo)), target / part, person, photo, options["jpeg_quality"])
    test = [person for person in people if person % 4 in options["test_remainders"]]
    (target / "pairs.txt").write_text(pairs(test, options["photos"], options["pairs_a_fold"], options["seed"]))


def write(image, path, folder, person, photo, quality):
    if path is None:
        raise Problem(f"s{person}/{photo}.pgm is missing: is this the AT&T database (s1 to s40, ten photos each)?")
    pixels = opened(image, path)
    if pixels.size != SIZE or pixels.mode != "L":
        raise Problem(f"{path} is not a grey photo of 92x112: is this the AT&T database?")
    name = subject(person)
    (folder / name).mkdir(parents=True, exist_ok=True)
    pixels.save(folder / name / f"{name}_{photo:04d}.jpg", "JPEG", quality=quality)


def subject(person):
    return f"Subject_{person:02d}"


def pairs(people, photos, count, seed):
    """pairs.txt in LFW's format: two people a fold, none in two folds."""
    rng = random.Random(seed)
    people = list(people)
    rng.shuffle(people)
    folds = [people[i : i + 2] for i in range(0, len(people) - 1, 2)]
    lines = [f"{len(folds)}\t{count}"]
    numbers = range(1, photos + 1)
    for a, b in map(sorted, folds):
        same = [(p, i, j) for p in (a, b) for i, j in itertools.combinations(numbers, 2)]
        different = list(itertools.product(numbers, numbers))
        lines += [f"{subject(p)}\t{i}\t{j}" for p, i, j in rng.sample(same, count)]
        lines += [f"{subject(a)}\t{i}\t{subject(b)}\t{j}" for i, j in rng.sample(different, count)]
    return "\n".join(lines) + "\n"
