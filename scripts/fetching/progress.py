"""What is said on the way, on stderr: lines, a bar on a terminal, numbers and addresses as people read them."""

import sys
import time
from urllib.parse import urlsplit

# Off a terminal: a line at most this often (seconds).
BETWEEN_LINES = 30

# What the user called; scripts/convert names itself.
PROGRAM = ["fetch"]


def put(text):
    sys.stderr.write(text)
    sys.stderr.flush()


def say(text):
    """A line for people."""
    put(f"{PROGRAM[0]}: {text}\n")


class Bar:
    """Progress of one file. `total` may be None."""

    def __init__(self, label, total, done=0):
        self.label, self.total, self.done = label, total, done
        self.first, self.started = done, time.monotonic()
        self.drawn = sys.stderr.isatty()
        self.shown = 0.0 if self.drawn else self.started

    def add(self, count):
        self.done += count
        now = time.monotonic()
        if now - self.shown >= (0.1 if self.drawn else BETWEEN_LINES):
            self.shown = now
            filled = min(24, 24 * self.done // self.total) if self.total else 0
            if self.drawn:
                put(f"\r\x1b[K{self.label[:40]} [{'#' * filled:.<24}] {self.numbers(now)}")
            else:
                say(f"{self.label}: {self.numbers(now)}")

    def numbers(self, now):
        rate = (self.done - self.first) / max(now - self.started, 1e-3)
        text = f"{size(self.done)}, {size(int(rate))}/s"
        if self.total:
            text = f"{100 * self.done // self.total} %, {size(self.done)} of {size(self.total)}, {size(int(rate))}/s"
        if self.total and rate > 0:
            text += f", {duration((self.total - self.done) / rate)} left"
        return text

    def close(self):
        """Leaves the terminal's line empty for what comes next."""
        if self.drawn and self.shown:
            put("\r\x1b[K")


def size(count):
    """153 MB; powers of ten, as disks and hosts count."""
    if count is None:
        return "size not published"
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            value = count / step
            return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return f"{count} bytes"


def duration(seconds):
    """1:05 or 2:03:04."""
    seconds = max(0, int(seconds + 0.5))
    hours, rest = divmod(seconds, 3600)
    text = f"{rest // 60}:{rest % 60:02d}"
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else text


def address(url):
    """A url without user, password or query: safe to print."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def printable(text, longest=200):
    """A name or phrase from outside without control characters, and not too long."""
    text = "".join(c if c.isprintable() else "?" for c in str(text))
    return text if len(text) <= longest else text[:longest] + "..."
