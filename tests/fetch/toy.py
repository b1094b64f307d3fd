"""A toy set: an archive of photos, served on 127.0.0.1."""

import io
import zipfile

from common import Case, noise
from server import whole


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


PHOTOS = {f"top/photos/{i:03d}.jpg": noise(2000, i) for i in range(20)}
HERE = {name[len("top/") :]: data for name, data in PHOTOS.items()}
ARCHIVE = zipped(PHOTOS)
UNPACK = {"files": 100, "bytes": 10**6, "strip": 1}
CHECK = {"count": {"photos/*.jpg": 20}, "names": ["photos/000.jpg"]}


class Toy(Case):
    def toy(self, answer=None, data=ARCHIVE, known=True, urls=None, unpack=UNPACK, check=CHECK, **fields):
        """A list with one set `toy` of an archive, served at /toy.zip."""
        url = self.host.serve("/toy.zip", answer or whole(data))
        item = self.file(urls or [url], name="toy.zip", of=data if known else None, unpack=unpack)
        self.listed(self.entry([item], check=check, **fields))

    def toy_is(self, wanted=None):
        self.assertEqual(self.tree(self.data / "toy"), wanted or HERE)
