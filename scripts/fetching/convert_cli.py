"""The command line of scripts/convert."""

import argparse
import importlib
import shutil
import sys
from pathlib import Path

from . import catalog
from .convert import flow, frames
from .problems import Problem
from .progress import PROGRAM, say

ROOT = Path(__file__).resolve().parents[2]
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


def parser():
    p = argparse.ArgumentParser(
        prog="scripts/convert",
        description="Turns a published layout into the one that the binaries read; data/README.md describes each kind. scripts/fetch does this by itself, but for videos.",
    )
    kinds = p.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind in KINDS:
        one = kinds.add_parser(kind, help=f"as scripts/fetch does for {KINDS[kind]}")
        one.add_argument("source", type=Path, metavar="IN", help="the unpacked folder; it stays as it is")
        one.add_argument("target", type=Path, metavar="OUT", help="a new folder")
    one = kinds.add_parser("frames", help="videos to frames, by ffmpeg")
    one.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    one.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder a video is made in it; skill-determination looks in data/epic-skills/videos/TASK",
    )
    one.add_argument("--size", type=sides, default=(340, 256), metavar="WxH", help="of the frames (default: 340x256)")
    one.add_argument("--fps", type=rate, help="frames a second (default: all frames)")
    one.add_argument(
        "--segments",
        type=Path,
        metavar="CSV",
        help="rows of Video,StartFrame,EndFrame, as dough_rolling_segments.csv: frames counted from 1, both ends in",
    )
    one = kinds.add_parser("flow", help="frames to TV-L1 flow, by OpenCV")
    one.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders of frames")
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
    try:
        if args.kind == "frames":
            frames.extract(args.videos, args.out, args.size, args.fps, args.segments)
        elif args.kind == "flow":
            flow.extract(args.folders)
        else:
            whole(args.kind, args.source, args.target)
        return 0
    except Problem as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"{error.strerror} ({error.filename})")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return 130


def whole(kind, source, target):
    """One folder into a new one, which appears when it is complete."""
    if not source.is_dir():
        raise Problem(f"no folder {source}")
    if target.exists():
        raise Problem(f"{target} is there already: name a new folder")
    options = catalog.load(ROOT / "data" / "datasets.json")[KINDS[kind]].options
    fresh = target.with_name(f".{target.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        importlib.import_module(f".convert.{kind.replace('-', '_')}", __package__).convert(source, fresh, options)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    say(f"{target} is complete")
