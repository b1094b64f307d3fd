"""YouTube Faces: lists of what lies in its folders. `frames.txt` names every frame, video after video, each in the order
of its frame numbers (names do not sort so); `videos.csv` has person, video, number of frames, first and last number."""

import csv
import re

from ..problems import Problem
from . import place

FOLDERS = ("aligned_images_DB", "frame_images_DB")


def convert(source, target, options, owned=False):
    found = [folder for folder in FOLDERS if (source / folder).is_dir()]
    if not found:
        raise Problem(f"{source} has none of the folders {' and '.join(FOLDERS)}: is this YouTube Faces, unpacked?")
    folder = found[0]
    videos = []
    with open(target / "frames.txt", "w", encoding="utf-8") as listed:
        for person in folders(source / folder):
            for video in folders(person):
                frames = numbered(video)
                videos.append((person.name, video.name, len(frames), frames[0][0], frames[-1][0]))
                listed.writelines(f"{folder}/{person.name}/{video.name}/{name}\n" for _, name in frames)
    with open(target / "videos.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("person", "video", "frames", "first", "last"))
        rows.writerows(videos)
    place(source / folder, target / folder, owned)
    for name in ("splits.txt", "splits_corrected.txt", "YTFErrors.csv"):
        if (source / name).is_file():
            place(source / name, target / name, owned)


def folders(path):
    """Folders in a folder; persons by name, videos by number."""
    found = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(found, key=lambda entry: (len(entry.name), entry.name) if entry.name.isdigit() else (0, entry.name))


def numbered(video):
    """(number, name) of a video's frames: `0.123.jpg`, `aligned_detect_0.123.jpg`."""
    frames = []
    for entry in video.iterdir():
        number = re.fullmatch(r".*\.(\d+)\.jpe?g", entry.name, re.IGNORECASE)
        if number:
            frames.append((int(number[1]), entry.name))
    if not frames:
        raise Problem(f"{video} holds no frames: unpack it again")
    return sorted(frames)
