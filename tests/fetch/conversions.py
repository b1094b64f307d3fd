"""What the tests of conversions share: a folder to read and one to write, and a fake Pillow."""

import sys
from pathlib import Path

from common import ROOT, Case, Problem

sys.path.insert(0, str(Path(__file__).resolve().parent / "fake"))

from fetching import catalog  # noqa: E402

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
