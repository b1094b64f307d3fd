"""A bar on a terminal; elsewhere a line now and then. Everything goes to stderr."""

import sys
import time

from .words import duration, size

# Off a terminal: a line at most this often (seconds).
BETWEEN_LINES = 30


# What the user called; scripts/convert names itself.
PROGRAM = ["fetch"]


def say(text):
    """A line for people."""
    sys.stderr.write(f"{PROGRAM[0]}: {text}\n")
    sys.stderr.flush()


class Bar:
    """Progress of one file. `total` may be None."""

    def __init__(self, label, total, done=0):
        self.label, self.total, self.done = label, total, done
        self.first, self.started = done, time.monotonic()
        self.shown = self.started if not sys.stderr.isatty() else 0.0
        self.wrote = False

    def add(self, count):
        self.done += count
        now = time.monotonic()
        if sys.stderr.isatty():
            if now - self.shown >= 0.1:
                self.shown = now
                self._draw(now)
        elif now - self.shown >= BETWEEN_LINES:
            self.shown = now
            say(f"{self.label}: {self._numbers(now)}")

    def _numbers(self, now):
        rate = (self.done - self.first) / max(now - self.started, 1e-3)
        text = size(self.done)
        if self.total:
            text = f"{100 * self.done // self.total} %, {text} of {size(self.total)}"
        text += f", {size(int(rate))}/s"
        if self.total and rate > 0:
            text += f", {duration((self.total - self.done) / rate)} left"
        return text

    def _draw(self, now):
        width = 24
        filled = min(width, width * self.done // self.total) if self.total else 0
        bar = "#" * filled + "." * (width - filled)
        sys.stderr.write(f"\r\x1b[K{self.label[:40]} [{bar}] {self._numbers(now)}")
        sys.stderr.flush()
        self.wrote = True

    def close(self):
        """Leaves the terminal's line empty for what comes next."""
        if self.wrote:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.wrote = False
