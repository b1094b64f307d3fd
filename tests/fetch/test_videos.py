"""Videos and trees of many files: YouTube Faces, NUS-WIDE, frames by ffmpeg, the command line."""

import csv
import json
import os
import sys
import unittest

from common import ROOT, Problem
from conversions import Convert

from fetching.convert import frames, nus_wide, ytf


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
            {"size": [340, 256], "fps": None, "segment": [1275, 2551], "film": 5},
        )
        self.assertIn("3 of the frames 1,275 to 2,551", said)
        again = ["frames", "--out", self.target, "--segments", self.source / "ranges.csv", self.source / "-A 1.mp4"]
        code, said = self.convert(*again, env=env)
        self.assertIn("already here", said)
        for more in (["--fps", "5"], []):
            self.put("-A 1.mp4", b"video" if more else b"another video")
            code, said = self.convert(*again, *more, env=env)
            self.assertEqual(code, 1, said)
            self.assertIn("holds other frames than those asked for", said)

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
        self.put("bad.csv", b"Video,StartFrame,EndFrame\na,1,3\nb,1,3\n a ,4,6\n")
        self.assertRaisesRegex(Problem, "row 4: a stands in a row before", frames.read_segments, self.source / "bad.csv")

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
