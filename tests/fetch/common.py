"""What the tests of scripts/fetch share: a host, a folder of one's own, a list of one's own."""

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))

from fetching import catalog  # noqa: E402
from fetching.download import Download  # noqa: E402
from fetching.problems import Problem  # noqa: E402
from fetching.transport import Web  # noqa: E402

from server import Host  # noqa: E402

for name in list(os.environ):
    if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        del os.environ[name]

NONE = catalog.NONE


def noise(length, seed=1):
    """Bytes that look like nothing."""
    out, block = b"", b"%d" % seed
    while len(out) < length:
        block = hashlib.sha256(block).digest()
        out += block
    return out[:length]


def md5(data):
    return hashlib.md5(data).hexdigest()


class Case(unittest.TestCase):
    """A test with a host and an empty folder."""

    def run_words(self, words, code=None, timeout=60, **more):
        """A command as users run it; it says no traceback, and ends in `code` where one is given."""
        run = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=timeout, **more)
        self.assertNotIn("Traceback", run.stderr)
        self.assertIn(run.returncode, [run.returncode if code is None else code], run.stderr)
        return run

    def setUp(self):
        self.host = Host()
        self.addCleanup(self.host.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.data = self.folder / "data"
        self.slept = []

    def file(self, urls, name="a.bin", **fields):
        """A file of the list; `of` gives size and md5 of right bytes."""
        of = fields.pop("of", None)
        item = {"file": name, "urls": urls, "bytes": NONE, "at_most": 10**7, "md5": NONE, "sha256": NONE}
        if of is not None:
            item.update(bytes=len(of), md5=md5(of))
        return dict(item, **fields)

    def download(self, item, stall=10.0, auth=None):
        """Runs one download in this process; what it said on the way."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            Download(catalog.one(item), self.folder / "files" / item["file"], Web(stall, auth), self.slept.append).run()
        return said.getvalue()

    def fails(self, item, **kwargs):
        """The error of a download that cannot succeed."""
        with self.assertRaises(Problem) as caught:
            self.download(item, **kwargs)
        return str(caught.exception)

    def kept(self):
        """What lies in the download folder, name -> bytes."""
        folder = self.folder / "files"
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))} if folder.exists() else {}

    def listed(self, *sets, weights=()):
        """Writes a list; sets as `entry` makes them."""
        path = self.folder / "list.json"
        path.write_text(json.dumps({"about": "", "sets": list(sets), "weights": list(weights)}))
        return path

    def entry(self, files, name="toy", **fields):
        place = {"file": f"data/weights/{name}"} if fields.pop("single", False) else {"folder": f"data/{name}"}
        about = {"title": "A toy", "papers": ["facenet"], "page": "https://example.org", "terms": "none"}
        return {"name": name, **about, **place, "files": files, **fields}

    def command(self, *words):
        here = ["--catalog", self.folder / "list.json", "--data", self.data, "--stall", "10"]
        return [*map(str, (sys.executable, ROOT / "scripts" / "fetch", *words, *here))]

    def run_fetch(self, *words, env=None):
        """scripts/fetch as users run it: (exit code, stdout, stderr)."""
        run = self.run_words(self.command(*words), stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
        return run.returncode, run.stdout, run.stderr

    def fetch(self, *words, code=0, **kwargs):
        """A run that must succeed, or end in `code`; what it said."""
        ended, _, err = self.run_fetch(*words, "--accept-terms", **kwargs)
        self.assertEqual(ended, code, err)
        return err

    def refused(self, *words, **kwargs):
        return self.fetch(*words, code=1, **kwargs)

    def tree(self, folder):
        """Every file below a folder, name -> bytes."""
        folder = Path(folder)
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    def nothing_made(self):
        """No set in place and nothing half-made: only downloads may be kept."""
        here = {path.name for path in self.data.iterdir()} if self.data.exists() else set()
        self.assertLessEqual(here, {".fetch"})
        for work in (self.data / ".fetch").glob("*/*"):
            self.assertIn(work.name, ("files", "lock"))
