"""data/datasets.json itself."""

import json
import unittest

from common import NONE, ROOT

from fetching import catalog


class TheList(unittest.TestCase):
    def setUp(self):
        self.path = ROOT / "data" / "datasets.json"
        self.raw = json.loads(self.path.read_text())
        self.entries = catalog.load(self.path)

    def test_it_is_read(self):
        names = """market1501 mars cuhk03 voc2007 coco2014 nus-wide epic-skills jigsaws lfw ytf casia-webface
            lfw-pairs-aligned orl-faces pku-reid coco-256 mulan vgg16 resnet50 alexnet googlenet bn-inception
            facenet-vggface2 facenet-casia openface-nn4-small2 trinet-market1501 trinet-mars"""
        for name in names.split():
            self.assertIn(name, self.entries)
        places = [entry.path for entry in self.entries.values()]
        self.assertEqual(len(places), len(set(places)))

    def test_every_file_says_what_is_published(self):
        for item in self.raw["sets"] + self.raw["weights"]:
            self.assertTrue(item["terms"] and item["page"] and item["papers"], item["name"])
            for file in item["files"]:
                for field in ("bytes", "md5", "sha256"):
                    self.assertIn(field, file, item["name"])
                self.assertTrue(file["bytes"] != NONE or "at_most" in file, item["name"])
                if "unpack" in file:
                    self.assertTrue({"files", "bytes"} <= set(file["unpack"]), item["name"])

    def test_what_has_no_address_says_how_to_ask(self):
        for entry in self.entries.values():
            if entry.by_hand:
                self.assertTrue(entry.ask, entry.name)

    def test_every_conversion_exists(self):
        for entry in self.entries.values():
            if entry.convert:
                self.assertTrue(
                    (ROOT / "scripts" / "fetching" / "convert" / f"{entry.convert.replace('-', '_')}.py").exists(),
                    entry.name,
                )

    def test_the_readme_names_every_set(self):
        text = (ROOT / "data" / "README.md").read_text()
        for name in self.entries:
            self.assertIn(f"`{name}`", text)


if __name__ == "__main__":
    unittest.main()
