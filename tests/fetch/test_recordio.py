"""Records of MXNet: people's photos, damage, and whatever bytes."""

import random
import struct
import unittest

from common import md5, noise
from conversions import Convert

from fetching.convert import recordio

MAGIC = struct.pack("<I", recordio.MAGIC)


def record(payload):
    """As dmlc writes it: cut wherever the magic word lies on a word."""
    cuts = [at for at in range(0, len(payload) - 3, 4) if payload[at : at + 4] == MAGIC]
    parts, start = [], 0
    for at in cuts + [len(payload)]:
        parts.append(payload[start:at])
        start = at + 4
    out = b""
    for i, part in enumerate(parts):
        kind = 0 if len(parts) == 1 else 1 if i == 0 else 3 if i == len(parts) - 1 else 2
        out += MAGIC + struct.pack("<I", kind << 29 | len(part)) + part + b"\0" * (-len(part) % 4)
    return out


def face(person, photo, labels=0):
    if labels:
        return struct.pack("<IfQQ", labels, 0.0, 1, 0) + struct.pack(f"<{labels}f", *([float(person)] * labels)) + photo
    return struct.pack("<IfQQ", 0, float(person), 1, 0) + photo


class Records(Convert):
    def test_people(self):
        rng = random.Random(1)
        photos = [(rng.randrange(5), b"\xff\xd8" + noise(rng.randrange(1, 4000), i)) for i in range(60)]
        # Photos in which the magic word lies on a word, twice in a row, and off one.
        photos += [
            (7, b"\xff\xd8xx" + MAGIC + b"ab" + MAGIC),
            (7, b"\xff\xd8xx" + MAGIC + MAGIC + b"cd"),
            (7, b"\xff\xd8x" + MAGIC + b"e"),
            (8, b"\x89PNG..."),
        ]
        start = struct.pack("<IfQQ", 2, 0.0, 0, 0) + struct.pack("<2f", 65, 70)
        records = (
            [start]
            + [face(person, photo, i % 3) for i, (person, photo) in enumerate(photos)]
            + [struct.pack("<IfQQ", 2, 0.0, 66, 0) + struct.pack("<2f", 1, 9)]
        )
        self.put("faces/train.rec", b"".join(map(record, records)))
        self.put("faces/train.idx", b"".join(b"%d\t0\n" % i for i in range(len(records))))
        people = {person for person, _ in photos}
        self.put("faces/property", b"%d,112,112\n" % len(people))
        recordio.convert(self.source, self.target, {})
        found = self.tree(self.target)
        self.assertEqual(sorted(found.values()), sorted(photo for _, photo in photos))
        of_seven = [photo for person, photo in photos if person == 7]
        self.assertEqual([found[f"0000007/0000007_000{i}.jpg"] for i in (1, 2, 3)], of_seven)
        self.assertIn("0000008/0000008_0001.png", found)
        self.put("faces/property", b"3,112,112\n")
        self.target = self.folder / "again"
        self.target.mkdir()
        self.assertIn("people, property says 3", self.refused(recordio))

    def test_damage(self):
        good = record(face(1, b"\xff\xd8photo")) * 3
        for data, words in (
            (good[:-9], "ends within a record"),
            (good[:40] + b"\0" + good[41:], "damaged at byte"),
            (b"", "holds no photos"),
            (record(b"short"), "has no header"),
            (record(face(1, b"no jpeg")), "holds no JPEG or PNG"),
            (record(face(1.5, b"\xff\xd8")), "not a person's number"),
            (record(face(float("nan"), b"\xff\xd8")), "not a person's number"),
            (record(struct.pack("<IfQQ", 2**31, 0, 0, 0)), "shorter than its labels"),
            (MAGIC + struct.pack("<I", 3 << 29), "parts are out of order"),
            (MAGIC + struct.pack("<I", 1 << 29), "ends within a record"),
            (MAGIC + struct.pack("<I", (1 << 29) - 1), "damaged at byte 0"),
        ):
            self.put("train.rec", data)
            self.target = self.folder / md5(data)
            self.target.mkdir()
            self.assertIn(words, self.refused(recordio))
        (self.source / "train.rec").unlink()
        self.assertIn("0 files train.rec", self.refused(recordio))

    def test_whatever_the_bytes_are_it_converts_or_says_why_not(self):
        rng, problems = random.Random(7), 0
        good = b"".join(record(face(i, b"\xff\xd8" + MAGIC + noise(9, i), i % 3)) for i in range(4))
        for i in range(600):
            data = bytearray(good)
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(data))
                part = rng.choice([b"", MAGIC, rng.randbytes(4), b"\xff" * 4, bytes(data[:at])])
                data[at : at + rng.choice([0, 1, 4, 40])] = part
                data = data or bytearray(b"\0")
            self.put("train.rec", bytes(data))
            self.target = self.folder / f"fuzz{i}"
            self.target.mkdir()
            try:
                recordio.convert(self.source, self.target, {})
            except recordio.Problem:
                problems += 1
        self.assertGreater(problems, 300)


if __name__ == "__main__":
    unittest.main()
