"""The command line of scripts/convert."""

import argparse
from pathlib import Path

from . import catalog
from .cli import ROOT, ended
from .convert import frames, fresh, run
from .problems import Problem
from .progress import PROGRAM, say

# kind -> the data set whose choices (people, sides, ...) it takes from the list
KINDS = {
    "coco-256": "coco-256",
    "cuhk03": "cuhk03",
    "nus-wide": "nus-wide",
    "orl": "orl-faces",
    "pku-reid": "pku-reid",
    "recordio": "casia-webface-112",
    "ytf": "ytf",
}
ABOUT = """Turns a published layout into the one that the binaries read; data/README.md describes each kind.
scripts/fetch does this by itself, but for videos."""


def parser():
    p = argparse.ArgumentParser(prog="scripts/convert", description=ABOUT)
    kinds = p.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind in KINDS:
        add = kinds.add_parser(kind, help=f"as scripts/fetch does for {KINDS[kind]}").add_argument
        add("source", type=Path, metavar="IN", help="the unpacked folder; it stays as it is")
        add("target", type=Path, metavar="OUT", help="a new folder")
    add = kinds.add_parser("frames", help="videos to frames, by ffmpeg").add_argument
    add("videos", nargs="+", type=Path, metavar="VIDEO")
    out = "a folder a video is made in it; skill-determination looks in data/epic-skills/videos/TASK"
    add("--out", type=Path, required=True, metavar="DIR", help=out)
    add("--size", type=sides, default=(340, 256), metavar="WxH", help="of the frames (default: 340x256)")
    add("--fps", type=rate, help="frames a second (default: all frames)")
    rows = "rows of Video,StartFrame,EndFrame, as dough_rolling_segments.csv: frames counted from 1, both ends in"
    add("--segments", type=Path, metavar="CSV", help=rows)
    return p


def sides(text):
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and 0 < int(width) <= 8192 and 0 < int(height) <= 8192):
        raise argparse.ArgumentTypeError(f"{text!r} is no size as 340x256")
    return int(width), int(height)


def rate(text):
    value = float(text)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no frame rate")
    return value


def main(arguments=None):
    PROGRAM[0] = "convert"
    args = parser().parse_args(arguments)
    return ended(lambda: convert(args))


def convert(args):
    if args.kind == "frames":
        frames.extract(args.videos, args.out, args.size, args.fps, args.segments)
    else:
        whole(args.kind, args.source, args.target)
    return 0


def whole(kind, source, target):
    """One folder into a new one, which appears when it is complete."""
    if not source.is_dir():
        raise Problem(f"no folder {source}")
    if target.exists():
        raise Problem(f"{target} is there already: name a new folder")
    options = catalog.load(ROOT / "data" / "datasets.json")[KINDS[kind]].options
    with fresh(target) as part:
        run(kind, source, part, options)
    say(f"{target} is complete")
