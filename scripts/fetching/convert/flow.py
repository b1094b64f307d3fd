"""Frames to optical flow (TV-L1), as two-stream networks want it: beside `img_00001.jpg` lie `flow_x_00001.jpg` and
`flow_y_00001.jpg`, the flow to the next frame, -20..20 pixels as 0..255; the last frame has none."""

import os
import re

from ..problems import Problem
from ..progress import say

BOUND = 20.0


def extract(folders):
    """`folders` hold frames as frames.extract makes them. What is there already stays."""
    try:
        import cv2
        import numpy

        make = cv2.optflow.DualTVL1OpticalFlow_create
    except (ImportError, AttributeError):
        raise Problem(
            "TV-L1 flow is OpenCV's: run 'python3 -m pip install opencv-contrib-python-headless', then the same command"
        ) from None
    for number, folder in enumerate(folders, 1):
        frames = sorted(folder.glob("img_*.jpg"), key=number_of)
        if len(frames) < 2:
            raise Problem(f"{folder} holds {len(frames)} frames (img_00001.jpg on): two are needed for flow")
        engine = make()
        for frame, following in zip(frames, frames[1:]):
            if not all(place(frame, axis).exists() for axis in "xy"):
                field = engine.calc(grey(cv2, frame), grey(cv2, following), None)
                for channel, axis in enumerate("xy"):
                    scaled = numpy.clip((field[..., channel] + BOUND) * (255 / (2 * BOUND)), 0, 255)
                    write(cv2, place(frame, axis), numpy.rint(scaled).astype(numpy.uint8))
        say(f"{folder.name}: flow of {len(frames) - 1:,} frames ({number} of {len(folders)})")


def number_of(frame):
    """`img_2.jpg` comes before `img_10.jpg`."""
    digits = re.findall(r"\d+", frame.stem)
    return (int(digits[-1]) if digits else -1, frame.name)


def grey(cv2, frame):
    pixels = cv2.imread(str(frame), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise Problem(f"{frame} cannot be decoded: make the frames again")
    return pixels


def place(frame, axis):
    return frame.with_name(frame.name.replace("img_", f"flow_{axis}_", 1))


def write(cv2, path, plane):
    fresh = path.with_name(f".{path.name}")
    done, data = cv2.imencode(".jpg", plane, [cv2.IMWRITE_JPEG_QUALITY, 95])
    if not done:
        raise Problem(f"cannot encode {path}")
    fresh.write_bytes(data.tobytes())
    os.replace(fresh, path)
