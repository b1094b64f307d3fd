"""scripts/fetch from end to end, as users run it."""

import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import unittest
import zipfile

from common import ROOT, noise
from server import refuse, slow, whole
from toy import ARCHIVE, HERE, PHOTOS, UNPACK, Toy, zipped


class Fetch(Toy):
    def test_a_set(self):
        self.toy()
        self.fetch("toy")
        self.toy_is()
        # Downloads are not kept, and a second run asks nobody.
        self.assertEqual([path.name for path in (self.data / ".fetch" / "toy").iterdir()], ["lock"])
        self.assertIn("already complete", self.fetch("toy"))
        self.assertEqual(len(self.host.log), 1)

    def test_a_mirror_with_wrong_bytes(self):
        self.toy(urls=[self.host.serve("/bad.zip", whole(noise(len(ARCHIVE)))), self.host.url + "/toy.zip"])
        self.assertIn("trying the next mirror", self.fetch("toy"))
        self.toy_is()

    def test_a_weight_file(self):
        data = noise(50_000)
        item = self.file([self.host.serve("/w.pth", whole(data))], name="w.pth", of=data)
        self.listed(weights=[self.entry([item], name="w.pth", single=True)])
        self.fetch("w.pth")
        self.assertEqual(
            self.tree(self.data),
            {
                ".fetch/accepted.json": self.tree(self.data)[".fetch/accepted.json"],
                ".fetch/w.pth/lock": b"",
                "weights/w.pth": data,
            },
        )
        code, out, _ = self.run_fetch("--check", "w.pth")
        self.assertEqual((code, out.split(":")[0]), (0, "w.pth"))
        (self.data / "weights" / "w.pth").write_bytes(data[:-1])
        code, out, _ = self.run_fetch("--check", "w.pth")
        self.assertEqual(code, 1)
        self.assertIn("it has 49,999 bytes, the list says 50,000", out)

    def test_what_is_there_and_differs_is_never_touched(self):
        self.toy()
        (self.data / "toy").mkdir(parents=True)
        (self.data / "toy" / "mine").write_text("mine")
        self.assertIn("is there but is not the set of the list", self.refused("toy"))
        self.assertEqual(self.tree(self.data / "toy"), {"mine": b"mine"})
        self.assertEqual(self.host.log, [])

    def test_counts_that_differ_keep_nothing_made(self):
        less = zipped({name: data for name, data in PHOTOS.items() if "007" not in name})
        check = {"count": {"photos/*.jpg": 20, "photos/": 1}, "lines": {"list.txt": 3}}
        self.toy(data=less, known=False, check=check)
        said = self.refused("toy")
        self.assertIn("19 files photos/*.jpg, the list says 20", said)
        self.assertIn("list.txt is missing", said)
        self.nothing_made()
        # No checksum vouches for the archive, so it is not used again.
        self.assertEqual(self.tree(self.data / ".fetch" / "toy"), {"lock": b""})

    def test_hostile_archives_keep_nothing_made(self):
        for members in ({"top/../../../evil": b"!"}, {"/evil": b"!"}, {"top/big": b"\0" * 2_000_000}):
            self.toy(data=zipped(members), check={})
            self.assertIn("refused", self.refused("toy"))
            self.assertEqual([path.name for path in self.data.iterdir()], [".fetch"])
            self.assertFalse((self.folder / "evil").exists())

    def test_sigkill_in_the_middle_and_a_second_run(self):
        data = zipped({f"top/photos/{i:03d}.jpg": noise(20_000, i) for i in range(20)})
        self.toy(slow(data, 30_000), data, unpack={**UNPACK, "bytes": 10**7})
        run = subprocess.Popen(self.command("toy", "--accept-terms"), stderr=subprocess.DEVNULL)
        part = self.data / ".fetch" / "toy" / "files" / "toy.zip.part"
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size > 20_000):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        # Meanwhile a second run is told to wait.
        self.assertIn("another run is fetching toy", self.refused("toy"))
        run.send_signal(signal.SIGKILL)
        run.wait()
        have = part.stat().st_size
        self.assertFalse((self.data / "toy").exists())
        self.host.serve("/toy.zip", whole(data))
        self.fetch("toy")
        self.assertEqual(self.host.asked("/toy.zip")[-1]["Range"], f"bytes={have}-")
        self.assertEqual(len(self.tree(self.data / "toy")), 20)

    def test_sigkill_at_any_moment(self):
        """Killed again and again, at moments that walk through download, unpacking and renaming."""
        self.toy()
        for step in range(12):
            run = subprocess.Popen(self.command("toy", "--accept-terms"), stderr=subprocess.DEVNULL)
            time.sleep(0.02 * step)
            run.kill()
            run.wait()
            if (self.data / "toy").exists():
                self.toy_is()
        self.fetch("toy")
        self.toy_is()

    def test_half_made_folders_of_a_killed_run_are_dropped(self):
        self.toy()
        made = self.data / ".fetch" / "toy" / "made" / "photos"
        made.mkdir(parents=True)
        (made / "extra.jpg").write_text("half")
        self.fetch("toy")
        self.toy_is()

    def test_an_unpacking_that_failed_is_done_again_with_the_same_download(self):
        self.toy(unpack={**UNPACK, "files": 3})
        self.assertIn("more than the 3 files", self.refused("toy"))
        self.nothing_made()
        self.toy()
        self.fetch("toy")
        self.assertEqual(len(self.host.log), 1)

    def test_from_an_archive(self):
        self.toy(answer=refuse(500))
        mine = self.folder / "my copy.zip"
        mine.write_bytes(ARCHIVE)
        self.fetch("toy", "--from", str(mine))
        self.toy_is()
        self.assertEqual(mine.read_bytes(), ARCHIVE)
        self.assertEqual(self.host.log, [])

    def test_from_the_unpacked_folder(self):
        self.toy()
        mine = self.folder / "mine"
        for name, data in HERE.items():
            (mine / name).parent.mkdir(parents=True, exist_ok=True)
            (mine / name).write_bytes(data)
        self.fetch("toy", "--from", str(mine))
        self.toy_is()
        self.assertEqual(self.tree(mine), HERE)

    def test_from_what_is_not_the_set(self):
        self.toy()
        (self.folder / "toy.zip").write_bytes(ARCHIVE[:-1])
        (self.folder / "mine").mkdir()
        (self.folder / "mine" / "x").symlink_to("/etc/passwd")
        for name, says in (
            ("toy.zip", r"--from .*toy\.zip: it has [\d,]+ bytes, the list says"),
            ("none", "no such file"),
            ("/dev/zero", "neither a file nor a folder"),  # What never ends is not read.
            ("mine", "is a link; give a folder of plain files"),
        ):
            self.assertRegex(self.refused("toy", "--from", str(self.folder / name)), says)
        self.nothing_made()

    def test_files_by_hand(self):
        lists = b"1\n2\n"
        url = self.host.serve("/lists.txt", whole(lists))
        files = [self.file([], name="photos.zip", unpack=UNPACK), self.file([url], name="info/lists.txt", of=lists)]
        self.listed(
            self.entry(files, ask=["fill in the form on https://example.org"], check={"lines": {"info/lists.txt": 2}})
        )
        said = self.refused("toy")
        self.assertIn("1. fill in the form", said)
        self.assertIn("2. scripts/fetch toy --from photos.zip", said)
        self.assertEqual(self.host.log, [])
        (self.folder / "photos.zip").write_bytes(ARCHIVE)
        self.assertIn("name the file so", self.refused("toy", "--from", str(self.folder / "list.json")))
        self.fetch("toy", "--from", str(self.folder / "photos.zip"))
        self.assertEqual(self.tree(self.data / "toy"), {**HERE, "info/lists.txt": lists})

    def test_every_set_is_tried(self):
        good, bad = self.host.serve("/good", whole(b"good")), self.host.serve("/bad", refuse(404))
        self.listed(
            self.entry([self.file([bad], name="b")], name="bad"), self.entry([self.file([good], name="g")], name="good")
        )
        said = self.refused("bad", "good")
        self.assertIn("bad: b could not be had", said)
        self.assertEqual(self.tree(self.data / "good"), {"g": b"good"})

    def test_a_folder_that_cannot_be_written(self):
        self.toy()
        self.data.write_text("a file, not a folder")
        self.refused("toy")
        self.assertEqual(self.data.read_text(), "a file, not a folder")

    def test_a_disk_that_is_full(self):
        """A limit on the size of files stands for the disk: every write beyond it fails."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("top/photos/big.jpg", b"\0" * 900_000)

        def limited(data, limit):
            self.toy(data=data)
            limited = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # noqa: E731
            run = self.run_words(self.command("toy", "--accept-terms"), 1, preexec_fn=limited)
            self.assertIn("File too large", run.stderr)
            self.nothing_made()
            return run.stderr

        self.assertIn("free some room and run the same command", limited(ARCHIVE, 10_000))
        self.assertIn("cannot unpack toy.zip", limited(packed.getvalue(), 500_000))
        self.toy()
        self.fetch("toy")
        self.toy_is()

    def test_a_disk_with_too_little_room(self):
        self.toy()
        script = (
            "import shutil, sys, collections; sys.path.insert(0, sys.argv.pop(1))\n"
            "shutil.disk_usage = lambda _: collections.namedtuple('u', 'total used free')(9, 9, 0)\n"
            "from fetching.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        words = self.command("toy", "--accept-terms")[2:]
        run = self.run_words([sys.executable, "-c", script, ROOT / "scripts", *words], 1)
        self.assertRegex(run.stderr, r"toy: needs about .* and 0 bytes are free: make room, or name another disk with --data")
        self.assertEqual(self.host.log, [])

    @unittest.skipIf(os.geteuid() == 0 and not shutil.which("setpriv"), "root may write anywhere")
    def test_a_read_only_data_folder(self):
        self.toy()
        self.folder.chmod(0o755)
        self.data.mkdir(mode=0o555)
        user = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        python = ["/usr/bin/env", "python3" if user else sys.executable]
        run = self.run_words(user + python + self.command("toy", "--accept-terms")[1:])
        if user and "fetch:" not in run.stderr:
            self.skipTest("another user cannot run this Python")
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertIn("Permission denied", run.stderr)
        self.assertEqual(self.host.log, [])
        self.data.chmod(0o755)

    def test_two_runs_of_one_name_at_once(self):
        self.toy(answer=slow(ARCHIVE, 100_000))
        runs = [subprocess.Popen(self.command("toy", "--accept-terms"), stderr=subprocess.PIPE, text=True) for _ in range(4)]
        said = [run.communicate(timeout=60)[1] for run in runs]
        codes = [run.returncode for run in runs]
        self.assertIn(0, codes, said)
        for code, text in zip(codes, said):
            self.assertRegex(text, "complete in" if code == 0 else "another run is fetching toy: wait for it, or end it")
        self.toy_is()

    def test_list_and_check(self):
        self.toy()
        code, out, _ = self.run_fetch("--list")
        self.assertEqual(code, 0)
        self.assertIn("toy", out)
        code, out, _ = self.run_fetch("--check", "toy")
        self.assertEqual((code, out), (1, "toy: not here; scripts/fetch toy gets it\n"))
        self.fetch("toy")
        code, out, _ = self.run_fetch("--check", "toy")
        self.assertEqual(code, 0)
        (self.data / "toy" / "photos" / "000.jpg").unlink()
        code, out, _ = self.run_fetch("--check", "toy")
        self.assertEqual(
            (code, out), (1, "toy: 19 files photos/*.jpg, the list says 20\ntoy: photos/000.jpg is missing\n")
        )

    def test_many_small_files_of_numbers(self):
        for i in (3, 14):
            self.host.serve(f"/p/{i:012d}.jpg", whole(b"%d" % i))
        item = dict(self.file([self.host.url + "/p/{id}.jpg"], name="p/{id}.jpg"), ids=[3, 14])
        self.listed(self.entry([item]))
        self.fetch("toy")
        self.assertEqual(self.tree(self.data / "toy"), {"p/000000000003.jpg": b"3", "p/000000000014.jpg": b"14"})

    def test_two_archives_of_one_set(self):
        urls = [
            self.host.serve("/1", whole(zipped({"a/1": b"1", "a/both": b"old"}))),
            self.host.serve("/2", whole(zipped({"a/2": b"2", "a/both": b"new"}))),
        ]
        self.listed(self.entry([self.file([url], name=f"{i}.zip", unpack=UNPACK) for i, url in enumerate(urls)]))
        self.fetch("toy")
        self.assertEqual(self.tree(self.data / "toy"), {"1": b"1", "2": b"2", "both": b"new"})

    def test_a_conversion(self):
        data = zipped({"YTF/aligned_images_DB/Ann/0/0.10.jpg": b"x", "YTF/aligned_images_DB/Ann/0/0.9.jpg": b"y"})
        self.toy(data=data, convert="ytf", check={"lines": {"videos.csv": 2}})
        self.fetch("toy")
        wanted = {"aligned_images_DB/Ann/0/0.10.jpg", "aligned_images_DB/Ann/0/0.9.jpg", "frames.txt", "videos.csv"}
        self.assertEqual(set(self.tree(self.data / "toy")), wanted)
        # And of the user's own folder, which stays as it is.
        mine = self.folder / "mine" / "aligned_images_DB" / "Ann" / "0"
        mine.mkdir(parents=True)
        (mine / "0.9.jpg").write_bytes(b"y")
        subprocess.run(["rm", "-r", str(self.data / "toy")], check=True)
        self.fetch("toy", "--from", str(self.folder / "mine"))
        self.assertEqual((mine / "0.9.jpg").read_bytes(), b"y")
        self.assertEqual(set(self.tree(self.data / "toy")), wanted - {"aligned_images_DB/Ann/0/0.10.jpg"})

    def test_a_conversion_that_fails_keeps_nothing_made(self):
        self.toy(data=zipped({"x/readme": b"x"}), convert="ytf", check={})
        self.assertIn("has none of the folders", self.refused("toy"))
        self.nothing_made()

    def test_a_package_that_is_missing_is_said_before_the_download(self):
        self.toy(needs={"no_such_module_here": "pillow"})
        self.assertIn("run 'python3 -m pip install pillow'", self.refused("toy"))
        self.assertEqual(self.host.log, [])


if __name__ == "__main__":
    unittest.main()
