"""Videos to frames by ffmpeg: one folder a video, `img_00001.jpg` on, and `frames.json`, which says what was taken. A
folder appears when its video is done."""

import csv
import functools
import json
import re
import shutil
import subprocess

from ..problems import Problem
from ..progress import say
from . import fresh


def extract(videos, target, size=(340, 256), fps=None, segments=None):
    """`videos` are files, `size` (width, height) of the frames, `segments` a csv with Video,StartFrame,EndFrame: frames
    counted from 1, both ends in, as `skill-determination` counts them."""
    if shutil.which("ffmpeg") is None:
        cure = "(Debian: apt-get install ffmpeg; macOS: brew install ffmpeg)"
        raise Problem(f"videos are decoded by ffmpeg, which is not installed {cure}")
    ranges = read_segments(segments) if segments else None
    names = [video.stem for video in videos]
    for video, name in zip(videos, names):
        if names.count(name) > 1:
            raise Problem(f"two videos are named {name}: give them in two runs with two --out folders")
        if not video.is_file():
            raise Problem(f"no video {video}")
        if ranges is not None and name not in ranges:
            raise Problem(f"{segments} says nothing of {name}")
    target.mkdir(parents=True, exist_ok=True)
    for number, (video, name) in enumerate(zip(videos, names), 1):
        told = wanted(video, size, fps, ranges[name] if ranges else None)
        if (target / name).exists():
            there = taken(target / name)
            # An older version's says nothing of its film; a folder of somebody's own says nothing at all.
            if there is None or any(there.get(key, value) != value for key, value in told.items()):
                raise Problem(f"{target / name} holds other frames than those asked for of {video}: move it away, or name another --out")
            say(f"{name}: already here")
            continue
        count = one(video, target / name, size, fps, ranges[name] if ranges else None)
        say(f"{name}: {count:,} frames ({number} of {len(videos)})")


def one(video, folder, size, fps, span):
    """One video's frames; how many."""
    with fresh(folder) as part:
        told = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "errors": "replace"}
        run = subprocess.run(command(video, part, size, fps, span), **told)
        count = sum(1 for _ in part.glob("img_*.jpg"))
        if run.returncode or not count:
            last = (run.stderr.strip().splitlines() or ["it gave no frames"])[-1]
            raise Problem(f"ffmpeg could not read {video}: {last}")
        if span and not fps and count != span[1] - span[0] + 1:
            say(f"{folder.name}: the film ends early, {count:,} of the frames {span[0]:,} to {span[1]:,} are in it")
        # Who reads the folder must know that it is a part already, and at which rate.
        (part / "frames.json").write_text(json.dumps(wanted(video, size, fps, span)) + "\n")
    return count


def wanted(video, size, fps, span):
    """What `frames.json` says: what is taken, and of which film (its length in bytes; times change with a copy)."""
    segment = list(span) if span else None
    return {"size": list(size), "fps": fps, "segment": segment, "film": video.stat().st_size}


def taken(folder):
    """What the `frames.json` of a folder says; None where there is none."""
    try:
        told = json.loads((folder / "frames.json").read_text())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def command(video, folder, size, fps, span):
    filters = [f"scale={size[0]}:{size[1]}"]
    if fps:
        filters.insert(0, f"fps={fps:g}")
    if span:
        # ffmpeg counts from 0; new times, so that none is doubled for the gap before.
        filters[:0] = [f"select=between(n\\,{span[0] - 1}\\,{span[1] - 1})", "setpts=N/FRAME_RATE/TB"]
    # Absolute paths: a name that begins with a dash would be an option.
    words = [*"ffmpeg -nostdin -hide_banner -loglevel error -i".split(), str(video.resolve()), "-an"]
    words += ["-vf", ",".join(filters), *([] if fps else every_frame())]
    return [*words, "-q:v", "2", str(folder.resolve() / "img_%05d.jpg")]


@functools.cache
def every_frame():
    """What makes ffmpeg write each decoded frame once, none doubled for a gap and none dropped. 5.1 renamed the option."""
    told = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, errors="replace").stdout
    found = re.match(r"ffmpeg version n?(\d+)\.(\d+)", told)
    old = found and (int(found[1]), int(found[2])) < (5, 1)
    return ["-vsync", "0"] if old else ["-fps_mode", "passthrough"]


def read_segments(path):
    """Video -> (first, last) frame, from 1."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeError) as error:
        raise Problem(f"cannot read {path}: {error}") from None
    found = {}
    for number, row in enumerate(rows, 1):
        if number == 1 and row[0].strip() == "Video":
            continue
        numbers = len(row) >= 3 and all(re.fullmatch(r"\s*\d+\s*", cell) for cell in row[1:3])
        if not numbers or not 1 <= int(row[1]) <= int(row[2]):
            raise Problem(f"{path}, row {number}: a video, its first and its last frame are wanted, counted from 1")
        video = row[0].strip()
        if video in found:
            raise Problem(f"{path}, row {number}: {video} stands in a row before it too: leave one of them")
        found[video] = (int(row[1]), int(row[2]))
    return found
