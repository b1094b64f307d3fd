"""Conversions: names, counts and lists, from toys in the published layouts; damage is answered in one line."""

import csv
import json
import os
import random
import struct
import sys
import types
import unittest
from pathlib import Path
from unittest import mock

from common import ROOT, Case, Problem, md5, noise

sys.path.insert(0, str(Path(__file__).resolve().parent / "fake"))

from fetching import catalog  # noqa: E402
from fetching.check import contents, differences  # noqa: E402
from fetching.convert import coco_256, cuhk03, frames, nus_wide, orl, pku_reid, recordio, ytf  # noqa: E402

LIST = catalog.load(ROOT / "data" / "datasets.json")


class Convert(Case):
    def setUp(self):
        super().setUp()
        self.source, self.target = self.folder / "in", self.folder / "out"
        self.source.mkdir()
        self.target.mkdir()

    def put(self, name, data):
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def refused(self, module, options=None):
        with self.assertRaises(Problem) as caught:
            module.convert(self.source, self.target, options or {})
        return str(caught.exception)


# What tests/fetch/fake/PIL decodes: a format, a mode and a size; it encodes to JPEG the same way.
def picture(form, mode, width, height):
    return f"{form} {mode} {width} {height}".encode()


class Faces(Convert):
    def people(self):
        for person in range(1, 41):
            for photo in range(1, 11):
                self.put(f"att_faces/s{person}/{photo}.pgm", picture("PPM", "L", 92, 112))

    def test_orl(self):
        self.people()
        orl.convert(self.source, self.target, LIST["orl-faces"].options)
        self.assertEqual(differences(LIST["orl-faces"], self.target), [])
        self.assertEqual(
            (self.target / "train/Subject_01/Subject_01_0010.jpg").read_bytes(), b"JPEG L 92 112 quality=95"
        )

    def test_orl_pairs(self):
        text = orl.pairs([p for p in range(1, 41) if p % 4 == 3], 10, 60, 0)
        lines = [line.split("\t") for line in text.splitlines()]
        self.assertEqual(lines[:3], [["5", "60"], ["Subject_35", "1", "2"], ["Subject_35", "4", "10"]])
        self.assertEqual(len(lines), 601)
        folds = [lines[1 + 120 * i : 121 + 120 * i] for i in range(5)]
        people = [{line[0] for line in fold} | {line[2] for line in fold if len(line) == 4} for fold in folds]
        self.assertEqual([len(fold) for fold in people], [2] * 5)
        self.assertEqual(len(set.union(*people)), 10)
        for fold in folds:
            self.assertEqual(len({tuple(line) for line in fold}), 120)
            self.assertEqual([len(line) for line in fold], [3] * 60 + [4] * 60)

    def test_orl_with_a_photo_missing_or_another_size(self):
        self.people()
        (self.source / "att_faces/s5/3.pgm").unlink()
        self.assertIn("s5/3.pgm is missing: is this the AT&T database", self.refused(orl, LIST["orl-faces"].options))
        self.put("att_faces/s5/3.pgm", picture("PPM", "L", 92, 111))
        (self.target / "again").mkdir()
        self.target = self.target / "again"
        self.assertIn("is not a grey photo of 92x112", self.refused(orl, LIST["orl-faces"].options))

    def test_the_real_set_has_these_pairs(self):
        real = Path(os.environ.get("RANKLE_SHARED_DATA") or ROOT / ".." / "shared" / "data") / "orl-faces"
        if not real.exists():
            print("skipped: no orl-faces in the shared data", file=sys.stderr)
            return
        wanted = orl.pairs([p for p in range(1, 41) if p % 4 == 3], 10, 60, 0)
        self.assertEqual((real / "pairs.txt").read_text(), wanted)


class Cells:
    """As much of an array as the conversion of CUHK03 looks at."""

    def __init__(self, rows):
        self.rows = rows
        self.shape = (len(rows), len(rows[0]))

    def __getitem__(self, place):
        return self if place == () else self.rows[place[0]][place[1]]

    def __iter__(self):
        return iter(self.rows)


class Pixels:
    """[3, width, height], and transposed what the fake Pillow encodes; or an empty cell."""

    def __init__(self, width, height, ndim=3):
        self.width, self.height, self.ndim = width, height, ndim

    def __getitem__(self, place):
        return self

    def transpose(self, *axes):
        assert axes == (2, 1, 0)
        return self


class Cuhk03(Convert):
    """A toy cuhk-03.mat: two camera pairs with two people and one, behind names of h5py's."""

    def mat(self):
        store = {}

        def ref(value):
            store[len(store)] = value
            return len(store) - 1

        def person(width, photos):
            return [ref(Pixels(width, 160) if photo in photos else Pixels(0, 0, 2)) for photo in range(1, 11)]

        def pair(people):
            return ref(Cells([list(photos) for photos in zip(*people)]))

        store["labeled"] = Cells([[pair([person(60, {1, 6, 7}), person(61, {2, 10})]), pair([person(62, {1, 6})])]])
        store["detected"] = Cells([[pair([person(60, {1, 6}), person(61, {2})]), pair([person(62, {6})])]])
        store["testsets"] = Cells([[ref(Cells([[1, 2], [2, 1]])), ref(Cells([[1.0], [1.0]]))]])
        return store

    def convert(self, mat, lists=None):
        class Opened(dict):
            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

        def file(path, mode):
            if mat is None:
                raise OSError("file signature not found")
            return Opened(mat)

        def loadmat(path):
            names = [[name] for name in lists["names"]]
            flat = lambda rows: type("Flat", (), {"ravel": lambda self: rows})()  # noqa: E731
            return {"filelist": flat(names), **{f"{k}_idx": flat(v) for k, v in lists.items() if k != "names"}}

        fakes = {
            "h5py": types.SimpleNamespace(File=file),
            "scipy": types.SimpleNamespace(),
            "scipy.io": types.SimpleNamespace(loadmat=loadmat),
        }
        with mock.patch.dict(sys.modules, fakes):
            cuhk03.convert(self.source, self.target, {})

    def test_photos_and_lists(self):
        self.put("release/cuhk-03.mat", b"")
        self.put("cuhk03_new_protocol_config_labeled.mat", b"")
        names = ["1_001_1_01.png", "1_001_2_06.png", "2_001_2_06.png"]
        self.convert(self.mat(), {"names": names, "train": [1], "query": [3], "gallery": [2, 3]})
        made = {str(path.relative_to(self.target)) for path in self.target.rglob("*.*")}
        labeled = ["1_001_1_01", "1_001_2_06", "1_001_2_07", "1_002_1_02", "1_002_2_10", "2_001_1_01", "2_001_2_06"]
        detected = ["1_001_1_01", "1_001_2_06", "1_002_1_02", "2_001_2_06"]
        wanted = {f"labeled/{name}.png" for name in labeled} | {f"detected/{name}.png" for name in detected}
        self.assertEqual(made, wanted | {"testsets.json", "new_protocol_labeled.json"})
        self.assertEqual((self.target / "labeled/1_002_1_02.png").read_bytes(), b"PNG RGB 61 160")
        self.assertEqual(json.loads((self.target / "testsets.json").read_text()), [[[1, 2], [2, 1]], [[1, 1]]])
        lists = json.loads((self.target / "new_protocol_labeled.json").read_text())
        self.assertEqual(lists, {"train": names[:1], "query": names[2:], "gallery": names[1:]})

    def test_what_is_missing_or_damaged_is_said_in_a_line(self):
        self.assertIn("no cuhk-03.mat under", self.refused(cuhk03))
        self.put("cuhk-03.mat", b"")
        for mat, words in [(None, "is no whole HDF5 file"), ({}, "not laid out as published (labeled")]:
            with self.assertRaises(Problem) as caught:
                self.convert(mat)
            self.assertIn(words, str(caught.exception))
            for made in self.target.iterdir():
                made.rmdir()
        self.put("cuhk03_new_protocol_config_detected.mat", b"")
        with self.assertRaises(Problem) as caught:
            self.convert(self.mat(), {"names": ["5_001_1_01.png"], "train": [1], "query": [1], "gallery": [1]})
        self.assertIn("names 5_001_1_01.png, which cuhk-03.mat doesn't hold", str(caught.exception))


class SharedData(unittest.TestCase):
    """The small sets that results were measured on are the list's, to the byte."""

    def test_each(self):
        root = Path(os.environ.get("RANKLE_SHARED_DATA") or ROOT / ".." / "shared" / "data")
        for name in ("epic-skills", "mulan", "lfw-pairs-aligned", "orl-faces", "pku-reid", "coco-256"):
            place = root / LIST[name].path
            if not place.exists():
                print(f"skipped: no {name} in the shared data", file=sys.stderr)
                continue
            self.assertEqual(differences(LIST[name], place), [])
            for folder, wanted in LIST[name].check.get("usual_contents", {}).items():
                self.assertEqual(contents(place / folder), wanted, name)


class People(Convert):
    def test_pku_reid(self):
        for person in range(1, 115):
            for camera in (1, 2):
                for direction in range(1, 9):
                    self.put(f"PKUv1a_128x48/{person}_{camera}_{direction}.png", picture("PNG", "RGBA", 48, 128))
        options = LIST["pku-reid"].options
        pku_reid.convert(self.source, self.target, options)
        self.assertEqual(differences(LIST["pku-reid"], self.target), [])
        self.assertEqual((self.target / "query/0010_c2s1_000005_00.jpg").read_bytes(), b"JPEG RGB 48 128 quality=75")
        self.assertFalse((self.target / "bounding_box_train/0002_c1s1_000001_00.jpg").exists())

    def test_pku_reid_of_something_else(self):
        self.assertIn("3_1_1.png is missing: is this PKU-Reid", self.refused(pku_reid, LIST["pku-reid"].options))
        self.put("3_1_1.png", picture("PNG", "RGB", 64, 128))
        self.target = self.folder / "again"
        self.assertIn("is not a photo of 48x128", self.refused(pku_reid, LIST["pku-reid"].options))


class Coco(Convert):
    def write(self, part, images, boxes):
        box = lambda k, i, c, crowd, box: {  # noqa: E731
            "id": 900 + k, "image_id": i, "category_id": c, "iscrowd": crowd, "bbox": box, "area": 1
        }
        listed = {
            "images": [{"id": i, "width": w, "height": h} for i, w, h in images],
            "annotations": [box(k, *of) for k, of in enumerate(boxes)],
            "categories": [
                {"id": 1, "name": "person", "supercategory": "person"},
                {"id": 51, "name": "bowl", "supercategory": "kitchen"},
            ],
        }
        self.put(f"annotations/instances_{part}2017.json", json.dumps(listed).encode())
        for i, w, h in images:
            self.put(f"{part}2017/{i:012d}.jpg", picture("JPEG", "RGB", w, h))

    def test_shrunk(self):
        boxes = [
            (9, 51, 0, [1.08, 187.69, 611.59, 285.84]),
            (9, 1, 1, [0, 0, 5, 5]),
            (77, 1, 0, [0, 0, 1, 1]),
            (42, 1, 0, [0, 0, 478, 640]),
        ]
        self.write("train", [(9, 640, 480), (30, 640, 427), (42, 478, 640)], boxes)
        self.write("val", [(139, 640, 426)], [])
        self.put("train2017/000000000042.jpg", picture("JPEG", "L", 478, 640))
        coco_256.convert(self.source, self.target, {"side": 256, "jpeg_quality": 88, "boxes": {"train": 2, "val": 0}})
        listed = json.loads((self.target / "annotations/instances_train2014.json").read_text())
        self.assertEqual(
            listed["images"],
            [
                {"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "width": 256, "height": 192},
                {"id": 30, "file_name": "COCO_train2014_000000000030.jpg", "width": 256, "height": 171},
                {"id": 42, "file_name": "COCO_train2014_000000000042.jpg", "width": 191, "height": 256},
            ],
        )
        fields = ("id", "image_id", "category_id", "bbox", "iscrowd", "area")
        wanted = [
            (1, 9, 51, [0.43, 75.08, 244.64, 114.34], 0, 27970.69),
            (2, 42, 1, [0.0, 0.0, 191.0, 256.0], 0, 48896.0),
        ]
        self.assertEqual(listed["annotations"], [dict(zip(fields, row)) for row in wanted])
        grey = self.target / "train2014/COCO_train2014_000000000042.jpg"
        self.assertEqual(grey.read_bytes(), b"JPEG L 191 256 quality=88")
        self.assertEqual(listed["categories"], [{"id": 1, "name": "person"}, {"id": 51, "name": "bowl"}])
        self.assertEqual(
            (self.target / "val2014/COCO_val2014_000000000139.jpg").read_bytes(), b"JPEG RGB 256 170 quality=88"
        )

    def test_a_photo_of_another_size_and_boxes_that_are_missing(self):
        self.write("train", [(9, 640, 480)], [])
        self.write("val", [(139, 640, 426)], [])
        self.put("train2017/000000000009.jpg", picture("JPEG", "RGB", 64, 48))
        options = {"side": 256, "jpeg_quality": 88, "boxes": {"train": 1}}
        self.assertIn("is 64x48, the annotations say (640, 480)", self.refused(coco_256, options))
        self.write("train", [(9, 640, 480)], [])
        self.target = self.folder / "again"
        self.assertIn("0 boxes in the train photos, 1 are published", self.refused(coco_256, options))
        self.put("annotations/instances_train2017.json", b"[]")
        self.target = self.folder / "third"
        self.assertIn("is not COCO's instances file", self.refused(coco_256, options))


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


class Videos(Convert):
    def test_ytf(self):
        for person, video, numbers in (
            ("Ann", "0", (9, 10, 100)),
            ("Ann", "2", (1,)),
            ("Ann", "10", (5, 6)),
            ("Bob", "1", (3,)),
        ):
            for number in numbers:
                self.put(f"aligned_images_DB/{person}/{video}/aligned_detect_{video}.{number}.jpg", b"x")
        self.put("splits.txt", b"splits")
        self.put("aligned_images_DB/Ann.labeled_faces.txt", b"boxes")
        ytf.convert(self.source, self.target, {})
        self.assertEqual(
            (self.target / "frames.txt").read_text().split()[:4],
            [
                "aligned_images_DB/Ann/0/aligned_detect_0.9.jpg",
                "aligned_images_DB/Ann/0/aligned_detect_0.10.jpg",
                "aligned_images_DB/Ann/0/aligned_detect_0.100.jpg",
                "aligned_images_DB/Ann/2/aligned_detect_2.1.jpg",
            ],
        )
        rows = list(csv.reader((self.target / "videos.csv").read_text().splitlines()))
        self.assertEqual(
            rows,
            [
                ["person", "video", "frames", "first", "last"],
                ["Ann", "0", "3", "9", "100"],
                ["Ann", "2", "1", "1", "1"],
                ["Ann", "10", "2", "5", "6"],
                ["Bob", "1", "1", "3", "3"],
            ],
        )
        for name in (self.target / "frames.txt").read_text().split():
            self.assertTrue((self.target / name).exists())
        self.assertTrue((self.source / "splits.txt").exists())
        (self.source / "aligned_images_DB/Bob/2").mkdir()
        self.target = self.folder / "again"
        self.target.mkdir()
        self.assertIn("holds no frames", self.refused(ytf))

    def test_ytf_moves_what_is_ours(self):
        self.put("frame_images_DB/Ann/0/0.1.jpg", b"x")
        ytf.convert(self.source, self.target, {}, owned=True)
        self.assertEqual(sorted(self.tree(self.target)), ["frame_images_DB/Ann/0/0.1.jpg", "frames.txt", "videos.csv"])
        self.assertEqual(self.tree(self.source), {})

    def test_nus_wide(self):
        for name in (
            "NUS-WIDE/ConceptsList/Concepts81.txt",
            "x/TrainImagelist.txt",
            "TestImagelist.txt",
            "Groundtruth/TrainTestLabels/Labels_sky_Train.txt",
            "AllLabels/Labels_sky.txt",
            "Flickr/actor/0001_2124494179.jpg",
            "readme.txt",
        ):
            self.put(name, name.encode())
        nus_wide.convert(self.source, self.target, {})
        self.assertEqual(
            sorted(self.tree(self.target)),
            [
                "ConceptsList/Concepts81.txt",
                "Groundtruth/AllLabels/Labels_sky.txt",
                "Groundtruth/TrainTestLabels/Labels_sky_Train.txt",
                "ImageList/TestImagelist.txt",
                "ImageList/TrainImagelist.txt",
                "images/actor/0001_2124494179.jpg",
            ],
        )
        (self.source / "TestImagelist.txt").unlink()
        self.target = self.folder / "again"
        self.assertIn("ImageList/TestImagelist.txt is not among the files", self.refused(nus_wide))

    def ffmpeg(self, script):
        """A stand-in for ffmpeg in the PATH of this test."""
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        told = '[ "$1" = -version ] && exec echo ffmpeg version 4.4.2-0ubuntu0.22.04.1\n'
        (folder / "ffmpeg").write_text(script.replace("#!/bin/sh\n", "#!/bin/sh\n" + told, 1))
        (folder / "ffmpeg").chmod(0o755)
        return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}

    def convert(self, *words, env=None):
        run = self.run_words([sys.executable, ROOT / "scripts" / "convert", *words], env=env)
        return run.returncode, run.stderr

    def test_frames(self):
        env = self.ffmpeg(
            '#!/bin/sh\nfor last; do :; done\nprintf "%s\\n" "$@" > "$(dirname "$last")/../../words"\nfor i in 1 2 3; do echo x > "$(dirname "$last")/img_0000$i.jpg"; done\n'
        )
        self.put("-A 1.mp4", b"video")
        self.put("ranges.csv", b"Video,StartFrame,EndFrame\r\n-A 1,1275,2551\r\n")
        code, said = self.convert(
            "frames", "--out", self.target, "--segments", self.source / "ranges.csv", self.source / "-A 1.mp4", env=env
        )
        self.assertEqual(code, 0, said)
        self.assertEqual(
            sorted(self.tree(self.target)), ["-A 1/frames.json", *(f"-A 1/img_0000{i}.jpg" for i in (1, 2, 3))]
        )
        # The list counts from 1, as skill-determination does; ffmpeg's n counts from 0.
        words = (self.folder / "words").read_text().splitlines()
        self.assertIn("select=between(n\\,1274\\,2550),setpts=N/FRAME_RATE/TB,scale=340:256", words)
        # Each frame once; before ffmpeg 5.1 by this name.
        self.assertEqual(words[words.index("-vsync") + 1], "0")
        self.assertEqual(
            json.loads((self.target / "-A 1" / "frames.json").read_text()),
            {"size": [340, 256], "fps": None, "segment": [1275, 2551]},
        )
        self.assertIn("3 of the frames 1,275 to 2,551", said)
        code, said = self.convert("frames", "--out", self.target, self.source / "-A 1.mp4", env=env)
        self.assertIn("already here", said)

    def test_frames_that_fail(self):
        self.put("a.mp4", b"video")
        env = self.ffmpeg(
            '#!/bin/sh\nfor last; do :; done\necho x > "$(dirname "$last")/img_00001.jpg"\necho "moov atom not found" >&2\nexit 1\n'
        )
        code, said = self.convert("frames", "--out", self.target, self.source / "a.mp4", env=env)
        self.assertEqual(code, 1)
        self.assertIn("a.mp4: moov atom not found", said)
        self.assertEqual(self.tree(self.target), {})
        code, said = self.convert("frames", "--out", self.target, self.source / "b.mp4", env=env)
        self.assertIn("no video", said)
        code, said = self.convert(
            "frames", "--out", self.target, self.source / "a.mp4", env={**env, "PATH": str(self.folder)}
        )
        self.assertIn("videos are decoded by ffmpeg, which is not installed", said)
        for row in (b"a,5,3\n", b"a,0,3\n", b"a,5\n"):
            self.put("bad.csv", row)
            self.assertRaisesRegex(
                Problem, "row 1: a video, its first and its last frame", frames.read_segments, self.source / "bad.csv"
            )

    def test_the_command_line(self):
        self.put("aligned_images_DB/Ann/0/0.1.jpg", b"x")
        code, said = self.convert("ytf", self.source, self.folder / "new")
        self.assertEqual(code, 0, said)
        self.assertTrue((self.folder / "new" / "videos.csv").exists())
        self.assertIn("is there already", self.convert("ytf", self.source, self.folder / "new")[1])
        self.assertIn("no folder", self.convert("ytf", self.folder / "none", self.folder / "newer")[1])
        code, said = self.convert("recordio", self.source, self.folder / "newer")
        self.assertEqual((code, (self.folder / "newer").exists()), (1, False))


if __name__ == "__main__":
    unittest.main()
