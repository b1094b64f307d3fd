"""Conversions: names, counts and lists, from toys in the published layouts; damage is answered in one line."""

import json
import os
import sys
import types
import unittest
from pathlib import Path
from unittest import mock

from common import ROOT, Problem
from conversions import LIST, Convert, picture

from fetching.check import contents, differences
from fetching.convert import coco_256, cuhk03, orl, pku_reid


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


if __name__ == "__main__":
    unittest.main()
